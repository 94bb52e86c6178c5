"""Descriptor tables, directories of processes and open files: `filedesc`, `pwddesc`, `pwd` and `struct file`."""

from __future__ import annotations

from typing import Literal

from tests.writers.objects import Object, addressof, link_slist, link_tailq

from .build_vnodes import pointer_bytes
from .file_types import TABLE_TYPES
from .model import Descriptor, Process
from .paths import FileKey, directories_of, has_files, open_files, table_owner
from .shapes import fill_vector, mtx_init, set_variable, sx_init, vector
from .world import World

FILE_OPERATIONS = {
    "vnops": ("vn_io_fault", "vn_io_fault", "vn"),
    "devfs_ops_f": ("devfs_read_f", "devfs_write_f", "devfs_f"),
    "socketops": ("soo_read", "soo_write", "soo"),
    "pipeops": ("pipe_read", "pipe_write", "pipe"),
    "kqueueops": ("invfo_rdwr", "invfo_rdwr", "kqueue"),
    "mqueueops": ("invfo_rdwr", "invfo_rdwr", "mqf"),
    "shm_ops": ("shm_read", "shm_write", "shm"),
    "ksem_ops": ("invfo_rdwr", "invfo_rdwr", "ksem"),
    "ptsdev_ops": ("ptsdev_read", "ptsdev_write", "ptsdev"),
    "procdesc_ops": ("invfo_rdwr", "invfo_rdwr", "procdesc"),
    "eventfdops": ("eventfd_read", "eventfd_write", "eventfd"),
    "badfileops": ("badfo_readwrite", "badfo_readwrite", "badfo"),
}
"""`struct fileops` by name: its functions to read and to write, and how the names of the others begin."""
OPERATIONS = ("ioctl", "poll", "kqfilter", "stat", "close")

TYPES = TABLE_TYPES
VARIABLES = {"openfiles": "int"} | dict.fromkeys(FILE_OPERATIONS, "fileops")
FUNCTIONS = sorted(
    {name for read, write, _ in FILE_OPERATIONS.values() for name in (read, write)}
    | {f"{prefix}_{operation}" for _, _, prefix in FILE_OPERATIONS.values() for operation in OPERATIONS}
)

KINDS = {
    "vnode": (1, "vnops", "vnode"),
    "socket": (2, "socketops", "socket"),
    "pipe": (3, "pipeops", "pipe"),
    "kqueue": (5, "kqueueops", "kqueue"),
    "mqueue": (7, "mqueueops", "mqfs_node"),
    "shm": (8, "shm_ops", "shmfd"),
    "sem": (9, "ksem_ops", "ksem"),
    "pts": (10, "ptsdev_ops", "tty"),
    "procdesc": (12, "procdesc_ops", "procdesc"),
    "eventfd": (13, "eventfdops", "eventfd"),
}
"""DTYPE_ number, operations and the kind of what `f_data` points to, by the description's kind."""
DTYPE_FIFO = 4
DFLAG_PASSABLE, DFLAG_SEEKABLE = 0x1, 0x2
FLAGS = {"r": 0x1, "w": 0x2, "n": 0x4, "a": 0x8}
"""FREAD, FWRITE, FNONBLOCK and FAPPEND (sys/fcntl.h)."""
UF_EXCLOSE = 0x1

NDFILE = 20
"""Entries of the table within `struct filedesc0` (kern/kern_descrip.c)."""
UMASK = 0o022

# sys/capsicum.h: the bit and, above it, which of the two words it is in.
CAPABILITIES = {
    "CAP_READ": (0, 0x1),
    "CAP_WRITE": (0, 0x2),
    "CAP_SEEK": (0, 0xC),
    "CAP_MMAP": (0, 0x10),
    "CAP_FCNTL": (0, 0x8000),
    "CAP_FSTAT": (0, 0x80000),
    "CAP_EVENT": (1, 0x20),
    "CAP_IOCTL": (1, 0x80),
}
CAP_ALL = {False: (0x7FFFFFFFFFF, 0x1FFFFF), True: (0xFFFFFFFFFFF, 0x7FFFFF)}
"""All bits of the two words, by whether it is 15.0 or later."""
CAP_FCNTL_ALL = 0x78


def create(world: World) -> None:
    """Make the tables of operations, the open files, and the descriptor tables."""
    for name, (read, write, prefix) in FILE_OPERATIONS.items():
        table = world.put("fileops", name, vector(world, "fileops", name))
        functions = {"fo_read": read, "fo_write": write}
        fill_vector(world, table, functions | {f"fo_{member}": f"{prefix}_{member}" for member in OPERATIONS})
        if not table.fo_flags:
            table.fo_flags = DFLAG_PASSABLE | (DFLAG_SEEKABLE if name in ("vnops", "shm_ops") else 0)
    files = open_files(world.system)
    for key, users in files.items():
        _file(world, key, users)
    set_variable(world, "openfiles", len(files))
    for process in world.system.processes:
        if has_files(process) and table_owner(process) == process.pid:
            world.put("filedesc", process.pid, _Table(world, process).build())
    for process in world.system.processes:
        if has_files(process) and table_owner(process) != process.pid:
            world.put("filedesc", process.pid, world.get("filedesc", table_owner(process)))
    if world.has_type("pwddesc"):
        _path_descriptors(world)


def _file(world: World, key: FileKey, users: list[tuple[int, Descriptor]]) -> None:
    """`struct file`, entered under its own key and under that of each of its descriptors."""
    descriptor = users[0][1]
    file = world.new("struct file", f_count=len(users), f_offset=descriptor.offset)
    file.f_flag = sum(FLAGS[letter] for letter in descriptor.flags)
    for alias in {key, *((pid, item.fd) for pid, item in users)}:
        world.put("file", alias, file)


# Descriptor tables


class _Table:
    """The descriptor table of a process: within `struct filedesc0`, or outside when it has grown."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        types = world.memory.types
        self.word = types.sizeof("unsigned long")
        self.entry = types.sizeof("struct filedescent")
        self.outer = world.new("struct filedesc0")
        self.free: list[Object] = []
        self.highest = max((descriptor.fd for descriptor in process.descriptors), default=-1)

    def build(self) -> Object:
        """`fdinit` and, for numbers of 20 and above, `fdgrowtable`."""
        table, bitmap, filedesc = self.allocate()
        self.fill(table, min(self.highest, NDFILE - 1) + 1)
        self.set_bits(bitmap, self.slots(NDFILE))
        count = NDFILE
        while count <= self.highest:
            count, old, table = self.grow(count, table)
            self.free += old
            if self.slots(count) > self.slots(NDFILE):
                bitmap = self.world.memory.allocate(self.slots(count) * self.word)
        self.set_bits(bitmap, self.slots(count))
        filedesc.fd_files, filedesc.fd_map = table, bitmap
        link_slist(self.outer.fd_free, self.free, "ft_next")
        self.count(filedesc)
        link_tailq(filedesc.fd_kqlist, (), "")
        return filedesc

    def allocate(self) -> tuple[Object, int, Object]:
        """`struct filedesc0`: the filedesc, its list of old tables, the first table and its bitmap."""
        memory = self.world.memory
        table = memory.cast("struct fdescenttbl", addressof(self.outer, "fd_dfiles"))
        table.fdt_nfiles = NDFILE
        return table, addressof(self.outer, "fd_dmap"), self.outer.fd_fd

    def slots(self, count: int) -> int:
        """Words of a bitmap (NDSLOTS)."""
        return -(-count // (8 * self.word))

    def grow(self, count: int, table: Object) -> tuple[int, list[Object], Object]:
        """`fdgrowtable`: the new count, the old table if it has to be kept, and the new table.

        Tables double, and their size is a multiple of the bits in a word. The first one is within the filedesc0; others
        are kept, as others may look at them, with a `struct freetable` behind their last entry.
        """
        old: list[Object] = []
        if count > NDFILE:
            place = addressof(table, "fdt_ofiles") + count * self.entry
            old = [self.world.memory.cast("struct freetable", place)]
            old[0].ft_table = table
        grown = self.slots(max(2 * count, count + 1)) * 8 * self.word
        size = grown * self.entry + self.world.memory.types.sizeof("struct freetable")
        table = self.world.new("struct fdescenttbl", extra=size, fdt_nfiles=grown)
        self.fill(table, min(grown, self.highest + 1))
        return grown, old, table

    def fill(self, table: Object, count: int) -> None:
        """Enter the descriptors below `count`."""
        for descriptor in self.process.descriptors:
            if descriptor.fd < count:
                entry = table.fdt_ofiles[descriptor.fd]
                entry.fde_file = self.world.get("file", (self.process.pid, descriptor.fd))
                entry.fde_flags = UF_EXCLOSE if descriptor.close_on_exec else 0
                _capabilities(self.world, entry.fde_caps, descriptor)

    def set_bits(self, bitmap: int, slots: int) -> None:
        """The bitmap of used numbers: words of a long, the lowest bit first."""
        order: Literal["big", "little"] = "big" if self.world.memory.types.byteorder == "big" else "little"
        values = [0] * slots
        for descriptor in self.process.descriptors:
            index, bit = divmod(descriptor.fd, 8 * self.word)
            if index < slots:
                values[index] |= 1 << bit
        for index, value in enumerate(values):
            self.world.memory.write(bitmap + index * self.word, value.to_bytes(self.word, order))

    def count(self, filedesc: Object) -> None:
        """Reference counts, the lowest free number and (until 12) the highest used one; the lock."""
        used = {descriptor.fd for descriptor in self.process.descriptors}
        filedesc.fd_freefile = next(number for number in range(self.highest + 2) if number not in used)
        users = sum(
            table_owner(process) == self.process.pid and has_files(process) for process in self.world.system.processes
        )
        filedesc.fd_refcnt, filedesc.fd_holdcnt = users, 1
        sx_init(self.world, filedesc.fd_sx, "filedesc structure")
        if self.world.has("filedesc", "fd_lastfile"):
            filedesc.fd_lastfile = self.highest


def _capabilities(world: World, caps: Object, descriptor: Descriptor) -> None:
    """`struct filecaps`: all rights, or those given; bits 57 and 58 of a word tell which one it is."""
    everything = CAP_ALL[world.release >= "15"]
    rights = [1 << 57, 1 << 58]
    for word, bits in enumerate(everything):
        rights[word] |= bits if descriptor.rights is None else 0
    for name in descriptor.rights or ():
        word, bits = CAPABILITIES[name]
        rights[word] |= bits
    caps.fc_rights.cr_rights = rights
    limited = descriptor.rights is not None
    caps.fc_nioctls = 0 if limited and "CAP_IOCTL" not in (descriptor.rights or ()) else -1
    caps.fc_fcntls = 0 if limited and "CAP_FCNTL" not in (descriptor.rights or ()) else CAP_FCNTL_ALL


# Directories


def _path_descriptors(world: World) -> None:
    """13.0: `struct pwddesc` of each process, and `struct pwd`, which a child shares until it goes elsewhere."""
    holders: dict[int, tuple[tuple[str, str, str], Object]] = {}
    for process in world.system.processes:
        if not has_files(process):
            continue
        places = directories_of(world.system, process, own=True)
        inherited = holders.get(process.ppid)
        pwd = inherited[1] if inherited and inherited[0] == places else world.new("struct pwd")
        pwd.pwd_refcount = pwd.pwd_refcount + 1
        holders[process.pid] = places, pwd
        world.put("pwd", process.pid, pwd)
        pwddesc = world.put("pwddesc", process.pid, world.new("struct pwddesc", pd_refcount=1, pd_cmask=UMASK))
        mtx_init(world, pwddesc.pd_lock, "pwddesc")
        # An SMR pointer: a structure of one pointer.
        world.memory.write(addressof(pwddesc, "pd_pwd"), pointer_bytes(world, pwd))


# Connections


def connect(world: World) -> None:
    """Lead files to what they are about, and tables to directories; `build_processes` leads processes to all this."""
    for users in open_files(world.system).values():
        pid, descriptor = users[0]
        _connect_file(world, world.get("file", (pid, descriptor.fd)), pid, descriptor)
    for process in world.system.processes:
        if has_files(process):
            _connect_directories(world, process)


def _connect_file(world: World, file: Object, pid: int, descriptor: Descriptor) -> None:
    kind, operations, what = KINDS[descriptor.kind]
    data = world.find(what, _key(world, descriptor))
    if descriptor.kind == "vnode":
        vnode = next(item for item in world.system.vnodes if item.key == descriptor.key)
        file.f_vnode = data
        if vnode.kind == "VCHR":
            # devfs_open (fs/devfs/devfs_vnops.c)
            operations, data = "devfs_ops_f", world.get("cdev", vnode.device)
        elif vnode.kind == "VFIFO":
            # fifo_open (fs/fifofs/fifo_vnops.c)
            kind, operations, data = DTYPE_FIFO, "pipeops", world.get("pipe", f"{vnode.key}:0")
    file.f_type, file.f_data = kind, data
    file.f_ops = world.get("fileops", operations)
    process = next(item for item in world.system.processes if item.pid == pid)
    file.f_cred = world.find("ucred", process.credentials)


def _key(world: World, descriptor: Descriptor) -> str:
    """The key under which the builder of its kind has entered what a descriptor refers to."""
    if descriptor.kind == "pts":
        return next(item.tty for item in world.system.pseudo_terminals if item.key == descriptor.key)
    return descriptor.key


def _connect_directories(world: World, process: Process) -> None:
    """Current, root and jail root directory, in the `struct pwd` or (until 12) in the table."""
    filedesc = world.get("filedesc", process.pid)
    own = world.has_type("pwddesc")
    places = directories_of(world.system, process, own=own)
    target, names = (world.get("pwd", process.pid), "pwd") if own else (filedesc, "fd")
    for member, key in zip(("cdir", "rdir", "jdir"), places, strict=True):
        target[f"{names}_{member}"] = world.find("vnode", key)
    if own and world.has("pwd", "pwd_adir"):
        target.pwd_adir = world.find("vnode", places[1])
    if not own:
        filedesc.fd_cmask = UMASK
