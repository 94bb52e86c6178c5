"""Kernel event queues (kern/kern_event.c): `struct kqueue`, knotes by descriptor and by hash, and who is watched."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_slist, link_tailq

from .model import Kqueue
from .paths import open_files
from .shapes import fill_vector, knlist_init, mtx_init, vector
from .world import World

FILTERS = {
    "EVFILT_READ": -1,
    "EVFILT_WRITE": -2,
    "EVFILT_VNODE": -4,
    "EVFILT_PROC": -5,
    "EVFILT_SIGNAL": -6,
    "EVFILT_TIMER": -7,
    "EVFILT_USER": -11,
}
"""Numbers of filters (sys/event.h)."""
FILTER_OPERATIONS = {
    "EVFILT_READ": ("soread_filtops", "filt_soread"),
    "EVFILT_PROC": ("proc_filtops", "filt_proc"),
    "EVFILT_TIMER": ("timer_filtops", "filt_timer"),
    "EVFILT_SIGNAL": ("sig_filtops", "filt_signal"),
    "EVFILT_USER": ("user_filtops", "filt_user"),
}
"""`struct filterops` by filter (reading: those of sockets), and the function for events."""
OTHER_READERS = {"eventfd": ("eventfd_rfiltops", "filt_eventfdread"), "pipe": ("pipe_rfiltops", "filt_piperead")}
"""Those of reading for other kinds of files."""
BY_DESCRIPTOR = ("EVFILT_READ", "EVFILT_WRITE", "EVFILT_VNODE")

_ALL_OPERATIONS = (*FILTER_OPERATIONS.values(), *OTHER_READERS.values())
VARIABLES = {name: "filterops" for name, _ in _ALL_OPERATIONS}
FUNCTIONS = [
    *(f"{function}{suffix}" for _, function in _ALL_OPERATIONS for suffix in ("", "attach", "detach")),
    *("knlist_mtx_lock", "knlist_mtx_unlock"),
]

EV_ADD, EV_CLEAR = 0x1, 0x20
KN_ACTIVE, KN_QUEUED = 0x1, 0x2
KQEXTENT = 256
KN_HASHSIZE = 64
NOTE_EXIT = 0x80000000


def create(world: World) -> None:
    """Make queues and knotes."""
    for queue in world.system.kqueues:
        _kqueue(world, queue)


def _kqueue(world: World, queue: Kqueue) -> None:
    kqueue = world.put("kqueue", queue.key, world.new("struct kqueue", kq_refcnt=1))
    mtx_init(world, kqueue.kq_lock, "kqueue")
    knotes = [_knote(world, kqueue, queue.key, ident, name) for ident, name in queue.knotes]
    for knote in knotes[: queue.count]:
        knote.kn_status = KN_ACTIVE | KN_QUEUED
    link_tailq(kqueue.kq_head, knotes[: queue.count], "kn_tqe")
    kqueue.kq_count = queue.count
    chains = [
        (ident, knote) for (ident, name), knote in zip(queue.knotes, knotes, strict=True) if name in BY_DESCRIPTOR
    ]
    kqueue.kq_knlist, kqueue.kq_knlistsize = _chains(world, KQEXTENT if chains else 0, chains)
    hashed = [
        ((ident ^ ident >> 8) & KN_HASHSIZE - 1, knote)
        for (ident, name), knote in zip(queue.knotes, knotes, strict=True)
        if name not in BY_DESCRIPTOR
    ]
    kqueue.kq_knhash, size = _chains(world, KN_HASHSIZE if hashed else 0, hashed)
    kqueue.kq_knhashmask = max(size - 1, 0)


def _chains(world: World, size: int, knotes: list[tuple[int, Object]]) -> tuple[Object | int, int]:
    """An array of `struct klist` with knotes at their indexes; none (NULL) if its size is 0."""
    if not size:
        return 0, 0
    table = world.memory.new({"kind": "array", "count": size, "subtype": world.memory.types.parse("struct klist")})
    for index in {index for index, _ in knotes}:
        link_slist(table[index], [knote for at, knote in reversed(knotes) if at == index], "kn_link")
    return table, size


def _knote(world: World, kqueue: Object, key: str, ident: int, name: str) -> Object:
    knote = world.put("knote", (key, ident, name), world.new("struct knote", kn_kq=kqueue))
    event = knote.kn_kevent
    event.ident, event.filter, event.flags = ident, FILTERS[name], EV_ADD
    if name == "EVFILT_TIMER":
        event.flags, event.data = EV_ADD | EV_CLEAR, 0
        knote.kn_sdata = 1000
    if name == "EVFILT_PROC":
        event.fflags = NOTE_EXIT
        knote.kn_sfflags = NOTE_EXIT - (1 << 32)
    return knote


def connect(world: World) -> None:
    """Lead queues to their descriptor table, knotes to what they watch, and that to its knotes."""
    for (pid, queue), kqueue in _owners(world).items():
        filedesc = world.get("filedesc", pid)
        process = next(item for item in world.system.processes if item.pid == pid)
        kqueue.kq_fdp = filedesc
        kqueue.kq_cred = world.find("ucred", process.credentials)
        for ident, name in next(item.knotes for item in world.system.kqueues if item.key == queue):
            _watch(world, pid, world.get("knote", (queue, ident, name)), ident, name)
    tables = {pid for pid, _ in _owners(world)}
    for pid in tables:
        mine = [kqueue for (owner, _), kqueue in _owners(world).items() if owner == pid]
        link_tailq(world.get("filedesc", pid).fd_kqlist, mine, "kq_list")


def _owners(world: World) -> dict[tuple[int, str], Object]:
    """The queues by pid and key: a queue belongs to one table for good."""
    return {
        (users[0][0], users[0][1].key): world.get("kqueue", users[0][1].key)
        for users in open_files(world.system).values()
        if users[0][1].kind == "kqueue"
    }


def _watch(world: World, pid: int, knote: Object, ident: int, name: str) -> None:
    """Enter the knote in the list (`struct knlist`) of what it watches."""
    operations = FILTER_OPERATIONS[name]
    knlist: Object | None = None
    if name in BY_DESCRIPTOR:
        knote.kn_ptr.p_fp = world.get("file", (pid, ident))
        process = next(item for item in world.system.processes if item.pid == pid)
        target = next(item for item in process.descriptors if item.fd == ident)
        operations = OTHER_READERS.get(target.kind, operations)
        knlist = _list_of_file(world, target.kind, target.key)
    elif name == "EVFILT_PROC":
        proc = world.find("proc", ident)
        knote.kn_ptr.p_proc = proc
        knlist = world.memory.cast("struct knlist", proc.p_klist) if isinstance(proc, Object) else None
    knote.kn_fop = _operations(world, *operations, by_descriptor=name in BY_DESCRIPTOR)
    if knlist is not None:
        knote.kn_knlist = knlist
        first = knlist.kl_list.slh_first
        knlist.kl_list.slh_first = knote
        knote.kn_selnext.sle_next = first


def _operations(world: World, name: str, function: str, *, by_descriptor: bool) -> Object:
    table = vector(world, "filterops", name)
    if by_descriptor and not table.f_isfd:
        table.f_isfd = 1
    fill_vector(world, table, {"f_attach": f"{function}attach", "f_detach": f"{function}detach", "f_event": function})
    return table


def _list_of_file(world: World, kind: str, key: str) -> Object | None:
    """Where a socket or an event counter keeps the knotes that wait to read it."""
    obj = world.find(kind, key)
    knlist: Object | None = None
    if kind == "socket" and isinstance(obj, Object):
        knlist = obj.so_rdsel.si_note if world.has("socket", "so_rdsel") else obj.so_rcv.sb_sel.si_note
    if kind == "eventfd" and isinstance(obj, Object) and world.has_type("eventfd"):
        knlist = obj.efd_sel.si_note
        knlist_init(world, obj.efd_sel.si_note, addressof(obj, "efd_lock"))
    return knlist
