"""Descriptor tables and open files.

# Reference: sys/sys/filedesc.h, sys/sys/file.h, sys/kern/kern_descrip.c
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel
from .objects import Object, Pointer
from .records import Absent, attempt

KINDS = (
    "none",
    "vnode",
    "socket",
    "pipe",
    "fifo",
    "kqueue",
    "crypto",
    "mqueue",
    "shm",
    "sem",
    "pts",
    "dev",
    "procdesc",
    "eventfd",
    "timerfd",
    "inotify",
    "jaildesc",
)
"""DTYPE_ by number, in small letters. 13 and 14 were of Linux binaries only before 13.0; 15 and 16 came with 15.0."""
OPERATIONS = {
    "vnops": "vnode",
    "path_fileops": "vnode",
    "devfs_ops_f": "vnode",
    "socketops": "socket",
    "pipeops": "pipe",
    "kqueueops": "kqueue",
    "cryptofops": "crypto",
    "mqueueops": "mqueue",
    "shm_ops": "shm",
    "ksem_ops": "sem",
    "ptsdev_ops": "pts",
    "linuxfileops": "dev",
    "procdesc_ops": "procdesc",
    "eventfdops": "eventfd",
    "timerfdops": "timerfd",
    "inotifyfdops": "inotify",
    "jaildesc_ops": "jaildesc",
}
"""What kind of file a `struct fileops` is of, by its symbol."""
BAD = "badfileops"
FLAGS = ((0x1, "r"), (0x2, "w"), (0x8, "a"), (0x40, "s"), (0x80, "f"), (0x4, "n"), (0x10000, "d"), (0x4000, "l"))
"""FREAD, FWRITE, O_APPEND, O_ASYNC, O_FSYNC, O_NONBLOCK, O_DIRECT, FHASLOCK in the order and letters of procstat(1)."""
ENTRY_FLAGS = ((0x1, "close-on-exec"), (0x2, "resolve-beneath"), (0x4, "close-on-fork"))
"""UF_EXCLOSE; 15.0: UF_RESOLVE_BENEATH, UF_FOCLOSE."""

MAX_ENTRIES = 1 << 20
MAX_KINDS = 32
"""Later releases may know more kinds than `KINDS`, but not so many."""
MAX_UNSOUND = 16
"""So many entries that lead to no open file end a walk: what is walked is no table."""
_PAGE = 4096


@dataclass(frozen=True)
class Entry:
    """A descriptor: an entry of a table in use.

    Attributes:
        number: the descriptor.
        entry: the `struct filedescent`.
        file: the open file, a `struct file`.
        notes: what is odd about the entry.
    """

    number: int
    entry: Object
    file: Object
    notes: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...] | Absent:
        """The descriptor's own flags."""
        bits = attempt(lambda: int(self.entry.fde_flags))
        return bits if isinstance(bits, Absent) else tuple(name for bit, name in ENTRY_FLAGS if bits & bit)


@dataclass(frozen=True)
class File:
    """A `struct file`.

    Attributes:
        address: of the structure.
        kind: what it is, of `KINDS`, by its operations and, where these are not known, by ``f_type``.
        data: ``f_data``: address of the vnode, socket, pipe, …
        vnode: ``f_vnode``, 0 if there is none.
        flags: as procstat -f shows them: ``rwasfndl`` with dashes.
        references: ``f_count``.
        offset: position in the file.
        operations: symbol of ``f_ops``, empty if it has none.
        notes: what is odd.
    """

    address: int
    kind: str
    data: int
    vnode: int
    flags: str
    references: int
    offset: int | Absent
    operations: str
    notes: tuple[str, ...] = ()


@dataclass
class Files:
    """Reads open files, each once: several descriptors may share one."""

    kernel: Kernel
    _operations: dict[int, str | None] = field(default_factory=dict)
    _known: dict[int, File] = field(default_factory=dict)

    def read(self, file: Object) -> File:
        """The contents of a `struct file`.

        Raises:
            AddressError: it cannot be read.
            SymbolError: the types do not know it.
        """
        if file.address_ not in self._known:
            self._known[file.address_] = self._read(file)
        return self._known[file.address_]

    def is_sound(self, file: Object) -> bool:
        """Whether it may be a `struct file`: its type is a small number, and it has operations."""
        try:
            kind, operations = int(file.f_type), int(file.f_ops)
        except AddressError:
            return False
        return 0 <= kind < MAX_KINDS and self._name(operations) is not None

    def _read(self, file: Object) -> File:
        number, operations = int(file.f_type), int(file.f_ops)
        by_type = KINDS[number] if 0 <= number < len(KINDS) else f"type {number}"
        name = self._name(operations) or ""
        kind, notes = _kind(by_type, name)
        return File(
            address=file.address_,
            kind=kind,
            data=int(file.f_data),
            vnode=int(file.f_vnode),
            flags="".join(letter if int(file.f_flag) & bit else "-" for bit, letter in FLAGS),
            references=int(file.f_count),
            offset=attempt(lambda: int(file.f_offset)),
            operations=name,
            notes=notes,
        )

    def _name(self, operations: int) -> str | None:
        """The symbol of a `struct fileops`, empty if it has none; None where there cannot be one."""
        if operations not in self._operations:
            found: str | None = None
            structs = self.kernel.structs
            if operations and operations % structs.word_size == 0:
                try:
                    structs.pointer(operations)
                    found = self._symbol(operations)
                except AddressError:
                    pass
            self._operations[operations] = found
        return self._operations[operations]

    def _symbol(self, operations: int) -> str:
        location = self.kernel.symbol_at(operations)
        return location.symbol.name if location and not location.offset else ""


def _kind(by_type: str, operations: str) -> tuple[str, tuple[str, ...]]:
    """What kind a file is by its type and its operations, and whether these disagree."""
    if operations == BAD:
        return by_type, ("its operations are badfileops: it is being opened, or was closed",)
    by_operations = OPERATIONS.get(operations, by_type)
    # A named pipe has the operations of pipes (13.0: of pipes only; before, of vnodes).
    agree = by_operations == by_type or by_type == "fifo" or (by_type == "dev" and operations not in OPERATIONS)
    if agree:
        return by_type, ()
    return by_operations, (f"its f_type says {by_type}, its operations are {operations}",)


# Descriptor tables


class Table:
    """A descriptor table (`struct filedesc`).

    Iterate once for the descriptors in use; afterwards `problems` says what was irregular.

    Attributes:
        address: of the structure.
        references: ``fd_refcnt``: how many processes share it.
        size: for how many descriptors there is room.
        problems: what is wrong with it.
    """

    def __init__(self, files: Files, filedesc: Object) -> None:
        """Find the entries.

        Raises:
            SymbolError: the types do not know it.
            AddressError: it cannot be read.
        """
        self.address = filedesc.address_
        self.problems: list[str] = []
        self._files = files
        self._kernel = files.kernel
        self.references = int(filedesc.fd_refcnt)
        if filedesc.has_("fd_files"):
            table = filedesc.fd_files.as_("fdescenttbl")
            self.size = int(table.fdt_nfiles)
            self._entries = table.at_("fdt_ofiles")
        else:
            # 10 and before.
            self.size = int(filedesc.fd_nfiles)
            self._entries = int(filedesc.fd_ofiles)
        self._map = int(filedesc.fd_map)
        # Gone since 13.0, when the bitmap took its place.
        self._last = int(filedesc.fd_lastfile) if filedesc.has_("fd_lastfile") else None
        self._unsound = 0

    def __iter__(self) -> Iterator[Entry]:
        possible = 0 <= self.size <= MAX_ENTRIES
        if not possible:
            self.problems.append(f"room for {self.size} descriptors is impossible")
        count = self.size if possible else MAX_ENTRIES
        first = 0
        while first < count:
            pointers = self._read_pointers(first, count - first)
            for number, pointer in enumerate(pointers, first):
                if pointer and (entry := self._entry(number, pointer)) is not None:
                    yield entry
                if self._unsound and (not possible or self._unsound >= MAX_UNSOUND):
                    self.problems.append(f"the walk ends at descriptor {number}")
                    return
            first += len(pointers)

    def _read_pointers(self, first: int, most: int) -> list[int]:
        """``fde_file`` of the entries from one to the end of its page, zeros where they cannot be read."""
        structs = self._kernel.structs
        size, at = structs.size("filedescent"), structs.offset("filedescent", "fde_file")
        start = self._entries + first * size
        count = max(1, min((_PAGE - start % _PAGE) // size, most))
        try:
            data = structs.read(start, count * size)
        except AddressError as error:
            self._unsound += 1
            self.problems.append(f"descriptors {first} to {first + count - 1} cannot be read: {error}")
            return [0] * count
        places = range(at, count * size, size)
        return [int.from_bytes(data[place : place + structs.word_size], structs.byteorder) for place in places]

    def _entry(self, number: int, pointer: int) -> Entry | None:
        file = self._kernel.object("file", pointer)
        if not self._files.is_sound(file):
            self._unsound += 1
            self.problems.append(f"descriptor {number} leads to {pointer:#x}, where no open file is")
            return None
        size = self._kernel.structs.size("filedescent")
        entry = self._kernel.object("filedescent", self._entries + number * size)
        return Entry(number, entry, file, self._hidden(number))

    def _hidden(self, number: int) -> tuple[str, ...]:
        """Whether the table's bitmap and its highest number know the descriptor, too."""
        if self._last is not None and number > self._last:
            return (f"above fd_lastfile, which is {self._last}",)
        word = self._kernel.structs.word_size
        index, bit = divmod(number, 8 * word)
        bits = attempt(lambda: self._kernel.structs.pointer(self._map + index * word))
        return () if isinstance(bits, Absent) or bits >> bit & 1 else ("fd_map says that it is not in use",)


def table_of(files: Files, proc: Object) -> Table | None:
    """The descriptor table of a process; None if it has none, as zombies.

    Raises:
        SymbolError: the types do not know it.
        AddressError: it cannot be read.
    """
    filedesc: Pointer = proc.p_fd
    return Table(files, filedesc.as_("filedesc")) if filedesc else None


# Directories


@dataclass(frozen=True)
class Directories:
    """Where a process is: addresses of vnodes, 0 for none.

    Attributes:
        current: current directory.
        root: root directory.
        jail: root directory of its jail; it cannot leave that by chroot(2).
        abi_root: where a binary of another system looks first (14.0).
        umask: ``fd_cmask`` or ``pd_cmask``.
    """

    current: int
    root: int
    jail: int
    abi_root: int = 0
    umask: int | Absent = Absent.NOT_AVAILABLE


def directories_of(kernel: Kernel, proc: Object) -> Directories | None:
    """The directories of a process; None if it has none.

    They were in the descriptor table until 12, and are in a structure of their own since 13.0.

    Raises:
        SymbolError: the types do not know them.
        AddressError: they cannot be read.
    """
    if not proc.has_("p_pd"):
        filedesc = proc.p_fd
        if not filedesc:
            return None
        found = filedesc.as_("filedesc")
        places = (int(found.fd_cdir), int(found.fd_rdir), int(found.fd_jdir))
        return Directories(*places, umask=attempt(lambda: int(found.fd_cmask)))
    if not proc.p_pd:
        return None
    pwddesc = proc.p_pd.as_("pwddesc")
    # An SMR pointer: a structure around a pointer.
    pwd = kernel.object("pwd", kernel.structs.pointer(pwddesc.at_("pd_pwd")))
    if not pwd.address_:
        return None
    places = (int(pwd.pwd_cdir), int(pwd.pwd_rdir), int(pwd.pwd_jdir))
    abi_root = int(pwd.pwd_adir) if pwd.has_("pwd_adir") else 0
    return Directories(*places, abi_root, attempt(lambda: int(pwddesc.pd_cmask)))


def needed() -> tuple[str | tuple[str, ...], ...]:
    """Members without which no descriptors can be found, for `needs.unmet`."""
    return (
        "proc.p_list",
        "proc.p_fd",
        ("filedesc.fd_files", "filedesc.fd_ofiles"),
        "filedescent.fde_file",
        "file.f_type",
        "file.f_ops",
        "file.f_data",
    )


def symbol_or_address(kernel: Kernel, address: int) -> str:
    """``module!symbol+0x10``, or the address where no symbol is."""
    try:
        found = kernel.symbol_at(address)
    except (AddressError, SymbolError):
        found = None
    return str(found) if found else f"{address:#x}"
