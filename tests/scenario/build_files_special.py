"""What files other than vnodes and sockets refer to: pipes, shared memory, semaphores, message queues, event counters,
process descriptors. Kernel event queues are in `build_kqueues`."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_list, link_tailq

from .file_types import SPECIAL_TYPES
from .model import MessageQueue, Pipe, Semaphore, SharedMemory
from .paths import open_files
from .shapes import (
    fill_hash,
    fnv_32,
    hash_table,
    mtx_init,
    now,
    private,
    set_members,
    set_variable,
    sx_init,
    text,
    timespec,
)
from .world import World

TYPES = SPECIAL_TYPES
VARIABLES = {
    "mqfs_data": "struct mqfs_info",
    "shm_dictionary": "nchashhead *",
    "shm_hash": "unsigned long",
    "ksem_dictionary": "nchashhead *",
    "ksem_hash": "unsigned long",
    "nsems": "int",
}

PIPE_SIZE = 16384
PIPE_ACTIVE = 1
PIPE_NAMED = 0x2
"""In `pipe_state` until 12, `pipe_type` 1 since 13.0."""
DICTIONARY_SIZE = 1024
MQFS_ROOT, MQFS_FILE = 1, 5
"""mqfstype_root and mqfstype_file (kern/uipc_mqueue.c)."""


def create(world: World) -> None:
    """Make everything."""
    inode = 1
    fifos = [Pipe(vnode.key) for vnode in world.system.vnodes if vnode.kind == "VFIFO"]
    for pipe in (*world.system.pipes, *fifos):
        _pipe(world, pipe, inode, named=pipe in fifos)
        inode += 2
    for memory in world.system.shared_memory:
        _shared_memory(world, memory)
    for semaphore in world.system.semaphores:
        _semaphore(world, semaphore)
    for eventfd in world.system.eventfds:
        obj = world.put("eventfd", eventfd.key, private(world, "eventfd"))
        if world.has_type("eventfd"):
            obj.efd_count, obj.efd_refcount = eventfd.count, _references(world, eventfd.key)
            mtx_init(world, obj.efd_lock, "eventfd")
    for descriptor in world.system.process_descriptors:
        obj = world.new("struct procdesc", pd_pid=descriptor.pid, pd_refcount=2)
        mtx_init(world, world.put("procdesc", descriptor.key, obj).pd_lock, "procdesc")
    _message_queues(world)


def _references(world: World, key: str) -> int:
    """How many open files refer to a thing."""
    return sum(users[0][1].key == key for users in open_files(world.system).values())


# Pipes (kern/sys_pipe.c)


def _pipe(world: World, pipe: Pipe, inode: int, *, named: bool) -> None:
    """`struct pipepair`. What is written into one end waits in the other end's buffer; the first end has one from the
    start, the second one only once it is used."""
    pair = world.put("pipepair", pipe.key, world.new("struct pipepair"))
    mtx_init(world, pair.pp_mtx, "pipe mutex")
    ends = (pair.pp_rpipe, pair.pp_wpipe)
    for number, (end, data) in enumerate(zip(ends, pipe.buffered, strict=True)):
        world.put("pipe", f"{pipe.key}:{number}", end)
        end.pipe_peer, end.pipe_pair = ends[1 - number], pair
        end.pipe_present = PIPE_ACTIVE
        end.pipe_ino = inode + number
        base = now(world, 60 + number)
        end.pipe_ctime, end.pipe_mtime, end.pipe_atime = timespec(base), timespec(base + 2), timespec(base + 1)
        if number == 0 or data:
            _buffer(world, end, data)
    if named and world.has("pipe", "pipe_type"):
        pair.pp_rpipe.pipe_type = 1
    elif named:
        pair.pp_rpipe.pipe_state = PIPE_NAMED


def _buffer(world: World, end: Object, data: bytes) -> None:
    """`struct pipebuf` in kernel virtual memory; what waits runs over its end and on at its start."""
    buffer = world.memory.allocate(PIPE_SIZE, "kva")
    start = PIPE_SIZE - len(data) // 2 if data else 0
    world.memory.write(buffer + start, data[: PIPE_SIZE - start])
    world.memory.write(buffer, data[PIPE_SIZE - start :])
    end.pipe_buffer = {
        "cnt": len(data),
        "in": (start + len(data)) % PIPE_SIZE,
        "out": start,
        "size": PIPE_SIZE,
        "buffer": buffer,
    }


# POSIX shared memory and semaphores (kern/uipc_shm.c, kern/uipc_sem.c)


def _shared_memory(world: World, memory: SharedMemory) -> None:
    shmfd = world.put("shmfd", memory.key, world.new("struct shmfd"))
    shmfd.shm_size, shmfd.shm_mode = memory.size, memory.mode
    shmfd.shm_refs = _references(world, memory.key) + bool(memory.path)
    shmfd.shm_path = text(world, memory.path) if memory.path else 0
    base = now(world, 500)
    for offset, member in enumerate(("shm_birthtime", "shm_ctime", "shm_mtime", "shm_atime")):
        shmfd[member] = timespec(base + offset)
    mtx_init(world, shmfd.shm_mtx, "shmrl")
    set_members(world, shmfd, shm_ino=100 + len(world.all("shmfd")), shm_pages=memory.size // 4096)


def _semaphore(world: World, semaphore: Semaphore) -> None:
    ksem = world.put("ksem", semaphore.key, world.new("struct ksem"))
    ksem.ks_ref, ksem.ks_value = 1 + _references(world, semaphore.key), semaphore.value
    ksem.ks_mode = 0o600
    ksem.ks_path = text(world, semaphore.path)
    base = now(world, 400)
    for offset, member in enumerate(("ks_birthtime", "ks_ctime", "ks_mtime", "ks_atime")):
        ksem[member] = timespec(base + offset)
    ksem.ks_cv.cv_description = text(world, "ksem")


def _dictionary(world: World, names: tuple[str, str], type_name: str, prefix: str, named: dict[str, Object]) -> None:
    """A hash by path of `struct shm_mapping` or `struct ksem_mapping`, which are made alike."""
    short, member = prefix.split("_")
    mappings = []
    for path, obj in named.items():
        mapping = world.new(f"struct {type_name}")
        mapping[f"{short}_path"], mapping[f"{short}_fnv"] = obj[_path_member(obj)], fnv_32(path.encode())
        mapping[f"{short}_{member}"] = obj
        mappings.append(mapping)
    table = hash_table(world, *names, DICTIONARY_SIZE)
    fill_hash(table, mappings, f"{short}_link", lambda mapping: int(mapping[f"{short}_fnv"]))


def _path_member(obj: Object) -> str:
    return {"shmfd": "shm_path", "ksem": "ks_path"}[obj._type["name"]]


# POSIX message queues (kern/uipc_mqueue.c)


def _message_queues(world: World) -> None:
    """The tree of mqueuefs: a root with a node for each queue."""
    root = world.new("struct mqfs_node", mn_name=b"/", mn_type=MQFS_ROOT, mn_refcount=1, mn_mode=0o1777, mn_fileno=2)
    nodes = [_message_queue(world, queue, number) for number, queue in enumerate(world.system.message_queues)]
    link_list(root.mn_children, nodes, "mn_sibling")
    for node in (root, *nodes):
        node.mn_parent = root
    info = world.symbol("mqfs_data")
    sx_init(world, info.mi_lock, "mqfs lock")
    info.mi_root = root
    for node in (root, *nodes):
        node.mn_info = info


def _message_queue(world: World, queue: MessageQueue, number: int) -> Object:
    obj = world.put("mqueue", queue.key, world.new("struct mqueue"))
    obj.mq_maxmsg, obj.mq_msgsize, obj.mq_curmsgs = queue.max_messages, queue.message_size, queue.messages
    mtx_init(world, obj.mq_mutex, "mqueue lock")
    messages = []
    for index in range(queue.messages):
        body = f"message {index}".encode()
        message = world.new("struct mqueue_msg", extra=len(body), msg_prio=10 - index, msg_size=len(body))
        world.memory.write(addressof(message) + world.memory.types.sizeof("struct mqueue_msg"), body)
        obj.mq_totalbytes = obj.mq_totalbytes + len(body)
        messages.append(message)
    link_tailq(obj.mq_msgq, messages, "msg_link")
    node = world.put("mqfs_node", queue.key, world.new("struct mqfs_node"))
    node.mn_name, node.mn_type, node.mn_data = queue.name.encode(), MQFS_FILE, obj
    node.mn_refcount, node.mn_mode, node.mn_fileno = 1 + _references(world, queue.key), 0o600, 3 + number
    for member in ("mn_birth", "mn_ctime", "mn_mtime", "mn_atime"):
        node[member] = timespec(now(world, 300))
    return node


# Connections


def connect(world: World) -> None:
    """Lead to VM objects, processes and owners, and enter what has a name into the dictionaries."""
    shared = {item.path: world.get("shmfd", item.key) for item in world.system.shared_memory if item.path}
    _dictionary(world, ("shm_dictionary", "shm_hash"), "shm_mapping", "sm_shmfd", shared)
    named = {item.path: world.get("ksem", item.key) for item in world.system.semaphores if item.path}
    _dictionary(world, ("ksem_dictionary", "ksem_hash"), "ksem_mapping", "km_ksem", named)
    set_variable(world, "nsems", len(world.system.semaphores))
    for memory in world.system.shared_memory:
        world.get("shmfd", memory.key).shm_object = world.find("vm_object", memory.object)
    for descriptor in world.system.process_descriptors:
        world.get("procdesc", descriptor.key).pd_proc = world.find("proc", descriptor.pid)
    _owners(world)


def _owners(world: World) -> None:
    """Owners are those of the process that has it open, as if it had made it."""
    members = {
        "shm": ("shmfd", "shm_uid", "shm_gid"),
        "sem": ("ksem", "ks_uid", "ks_gid"),
        "mqueue": ("mqfs_node", "mn_uid", "mn_gid"),
    }
    credentials = {process.pid: world.system.credentials[process.credentials] for process in world.system.processes}
    for users in open_files(world.system).values():
        pid, descriptor = users[0]
        if descriptor.kind in members:
            kind, uid, gid = members[descriptor.kind]
            obj = world.get(kind, descriptor.key)
            obj[uid], obj[gid] = credentials[pid].uid, credentials[pid].gid
