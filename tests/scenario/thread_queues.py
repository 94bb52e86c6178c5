"""What threads wait in: sleep queues, turnstiles and run queues.

kern/subr_sleepqueue.c, kern/subr_turnstile.c and kern/sched_ule.c; their types are private to these files.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.writers.objects import Object, addressof, link_list, link_tailq

from .model import Process, Thread
from .shapes import mtx_init, set_members, text
from .world import World

SC_TABLESIZE, TC_TABLESIZE = 256, 128
SHIFT = 8
SLEEPQ_SLEEP, SLEEPQ_CONDVAR = 0, 1
MTX_CONTESTED = 0x2
RQ_NQS = 64
PRI_MIN_IDLE = 224
LO_CLASSMASK = 0x0F00_0000

TYPES = {
    "sleepqueuehead": {"lh_first": "struct sleepqueue *"},
    "sleepqueue_chain": {"sc_queues": "struct sleepqueuehead", "sc_lock": "struct mtx"},
    "turnstilehead": {"lh_first": "struct turnstile *"},
    "turnstile_chain": {"tc_turnstiles": "struct turnstilehead", "tc_lock": "struct mtx"},
}
VARIABLES = {
    "sleepq_chains": f"struct sleepqueue_chain[{SC_TABLESIZE}]",
    "turnstile_chains": f"struct turnstile_chain[{TC_TABLESIZE}]",
    "tdq_cpu": "struct tdq[32]",
    "nanowait": "unsigned char[32]",
}


def threads_of(world: World) -> Iterator[tuple[Process, Thread, Object]]:
    """Every thread with its process and its structure, by tid."""
    pairs = [(process, thread) for process in world.system.processes for thread in process.threads]
    for process, thread in sorted(pairs, key=lambda pair: pair[1].tid):
        yield process, thread, world.get("thread", thread.tid)


def create_queues(world: World, td: Object) -> None:
    """Each thread brings a sleep queue and a turnstile, which it lends to what it waits for (`thread_init`)."""
    td.td_sleepqueue = world.new("struct sleepqueue")
    for queue in _both(td.td_sleepqueue, world):
        link_tailq(queue, [], "td_slpq")
    turnstile = world.new("struct turnstile")
    td.td_turnstile = turnstile
    for name in ("ts_blocked", "ts_pending"):
        queues = [turnstile[name]] if name == "ts_pending" else [turnstile[name][0], turnstile[name][1]]
        for queue in queues:
            link_tailq(queue, [], "td_lockq")
    _spin(world, turnstile.ts_lock, "turnstile lock")


def _both(address: int, world: World) -> Iterator[Object]:
    blocked = world.memory.cast("struct sleepqueue", address).sq_blocked
    yield blocked[0]
    yield blocked[1]


def _spin(world: World, mtx: Object, name: str) -> None:
    """A spin mutex, of the first lock class."""
    mtx_init(world, mtx, name)
    mtx.lock_object.lo_flags &= ~LO_CLASSMASK


def connect_queues(world: World) -> None:
    """Put threads where they wait."""
    _initialise_chains(world)
    _sleep(world)
    _block(world)
    _run(world)


def _initialise_chains(world: World) -> None:
    """`init_sleepqueues` and `init_turnstiles`."""
    for name, lock, label in (
        ("sleepq_chains", "sc_lock", "sleepq chain"),
        ("turnstile_chains", "tc_lock", "turnstile chain"),
    ):
        if world.has_symbol(name):
            chains = world.symbol(name)
            for index in range(chains._type["count"]):
                _spin(world, chains[index][lock], label)


def chain_of(address: int, size: int) -> int:
    """SC_HASH and TC_HASH: the chain of a wait channel or a lock."""
    return (address >> SHIFT ^ address) & size - 1


# Sleep queues


def _sleep(world: World) -> None:
    """`sleepq_add`: the first sleeper's queue is used, further sleepers add theirs to its free list."""
    sleepers: dict[int, list[tuple[Thread, Object]]] = {}
    for process, thread, td in threads_of(world):
        if thread.state == "sleep":
            sleepers.setdefault(wait_channel(world, process, thread), []).append((thread, td))
    chains: dict[int, list[Object]] = {}
    for channel, entries in sleepers.items():
        queue = world.memory.cast("struct sleepqueue", entries[0][1].td_sleepqueue)
        queue.sq_wchan = channel
        queue.sq_type = SLEEPQ_CONDVAR if entries[0][0].wmesg == "select" else SLEEPQ_SLEEP
        queue.sq_blockedcnt[0] = len(entries)
        spare = [world.memory.cast("struct sleepqueue", td.td_sleepqueue) for _, td in entries[1:]]
        link_list(queue.sq_free, spare[::-1], "sq_hash")
        link_tailq(queue.sq_blocked[0], [td for _, td in entries], "td_slpq")
        for thread, td in entries:
            td.td_sleepqueue = 0
            td.td_sqqueue = 0
            td.td_wchan = channel
            td.td_wmesg = text(world, thread.wmesg)
        chains.setdefault(chain_of(channel, SC_TABLESIZE), []).insert(0, queue)
    if world.has_symbol("sleepq_chains"):
        _link_chains(world, "sleepq_chains", "sc_queues", "sq_hash", chains)
        _set_sleep_locks(world, sleepers)


def _link_chains(world: World, table: str, head: str, link: str, chains: dict[int, list[Object]]) -> None:
    for index, queues in chains.items():
        link_list(world.symbol(table)[index][head], queues, link)


def _set_sleep_locks(world: World, sleepers: dict[int, list[tuple[Thread, Object]]]) -> None:
    """A sleeping thread is locked by its chain."""
    for channel, entries in sleepers.items():
        chain = world.symbol("sleepq_chains")[chain_of(channel, SC_TABLESIZE)]
        for _, td in entries:
            td.td_lock = addressof(chain, "sc_lock")


def wait_channel(world: World, process: Process, thread: Thread) -> int:
    """The address that a thread sleeps on."""
    proc = world.get("proc", process.pid)
    fixed = {
        "wait": addressof(proc),  # kern_wait6
        "pause": addressof(proc, "p_sigacts"),  # kern_sigsuspend
        "swapin": addressof(world.get("proc", 0)),  # swapper
        "nanslp": _nanowait(world, thread.cpu),  # kern_clock_nanosleep
    }
    if thread.wmesg in fixed:
        return fixed[thread.wmesg]
    return _descriptor_channel(world, process, thread) or _channel(world, (thread.wmesg, thread.tid))


def _nanowait(world: World, cpu: int) -> int:
    if world.has_symbol("nanowait"):
        return addressof(world.symbol("nanowait")) + cpu
    return _channel(world, ("nanowait", cpu))


def _descriptor_channel(world: World, process: Process, thread: Thread) -> int:
    """A kqueue, or the receive buffer of a socket (`kqueue_scan`, `sbwait`), of the process's descriptors."""
    kinds = {"kqread": "kqueue", "sbwait": "socket"}
    kind = kinds.get(thread.wmesg, "")
    for descriptor in process.descriptors:
        found = world.find(kind, descriptor.key) if descriptor.kind == kind else 0
        if found and kind == "socket":
            member = "sb_acc" if world.has("sockbuf", "sb_acc") else "sb_cc"
            return addressof(found, f"so_rcv.{member}")
        if found:
            return int(found)
    return 0


def _channel(world: World, key: tuple[str, int]) -> int:
    """Something that this description does not say more about."""
    return int(world.find("wait channel", key) or world.put("wait channel", key, world.new("struct cv")))


# Turnstiles


def _block(world: World) -> None:
    """`turnstile_wait`: each lock that somebody waits for is a mutex here, held by another thread."""
    chains: dict[int, list[Object]] = {}
    owned: dict[int, list[Object]] = {}
    for _, thread, td in threads_of(world):
        if thread.state != "lock":
            continue
        mtx = world.put("lock", thread.wmesg, world.new("struct mtx"))
        mtx_init(world, mtx, thread.wmesg)
        owner = world.get("thread", thread.owner)
        mtx.mtx_lock = int(owner) | MTX_CONTESTED
        owner.td_locks += 1
        turnstile = _lend(world, td, mtx, owner)
        td.td_lockname = mtx.lock_object.lo_name
        chains.setdefault(chain_of(int(mtx), TC_TABLESIZE), []).insert(0, turnstile)
        owned.setdefault(thread.owner, []).insert(0, turnstile)
    for tid, turnstiles in owned.items():
        link_list(world.get("thread", tid).td_contested, turnstiles, "ts_link")
    if world.has_symbol("turnstile_chains"):
        _link_chains(world, "turnstile_chains", "tc_turnstiles", "ts_hash", chains)


def _lend(world: World, td: Object, mtx: Object, owner: Object) -> Object:
    """The waiting thread's turnstile becomes the lock's."""
    turnstile = world.put("turnstile", td.td_tid, world.memory.cast("struct turnstile", td.td_turnstile))
    turnstile.ts_lockobj = addressof(mtx, "lock_object")
    turnstile.ts_owner = owner
    link_tailq(turnstile.ts_blocked[0], [td], "td_lockq")
    td.td_turnstile = 0
    td.td_blocked = turnstile
    td.td_tsqueue = 0
    td.td_lock = addressof(turnstile, "ts_lock")
    return turnstile


# Run queues


def _tdq(world: World, cpu: int) -> Object | None:
    """A CPU's `struct tdq`: a DPCPU variable, in older kernels an element of an array."""
    if "pcpu_entry_tdq" in world.memory.image.variables:
        return world.dpcpu_symbol(cpu, "tdq")
    if world.has_symbol("tdq_cpu"):
        element: Object = world.symbol("tdq_cpu")[cpu]
        return element
    return None


def _run(world: World) -> None:
    for cpu in world.system.cpus:
        tdq = _tdq(world, cpu.cpuid)
        if tdq is None:
            continue
        name = f"sched lock {cpu.cpuid}"
        tdq.tdq_name = name
        _spin(world, tdq.tdq_lock, name)
        runqs = [
            member for member in ("tdq_runq", "tdq_realtime", "tdq_timeshare", "tdq_idle") if world.has("tdq", member)
        ]
        for member in runqs:
            for index in range(tdq[member].rq_queues._type["count"]):
                link_tailq(tdq[member].rq_queues[index], [], "td_runq")
        _fill_tdq(world, cpu.cpuid, tdq)


def _fill_tdq(world: World, cpu: int, tdq: Object) -> None:
    """`tdq_setup`, `tdq_runq_add` and `tdq_load_add`: the idle thread is no load."""
    here = [(thread, td) for _, thread, td in threads_of(world) if thread.cpu == cpu]
    idle = [item.idle for item in world.system.cpus if item.cpuid == cpu]
    running = [(thread, td) for thread, td in here if thread.state == "running"]
    queued = [(thread, td) for thread, td in here if thread.state == "runq"]
    busy = [thread for thread, _ in (*running, *queued) if thread.tid not in idle]
    tdq.tdq_load = tdq.tdq_sysload = len(busy)
    tdq.tdq_transferable = len(queued)
    tdq.tdq_lowpri = min([thread.priority for thread in busy], default=255)
    set_members(world, tdq, tdq_id=cpu, tdq_curthread=running[0][1] if running else 0)
    places: dict[tuple[str, int], list[Object]] = {}
    for thread, td in queued:
        place = _place(world, thread)
        td.td_rqindex = place[1]
        _set_scheduler(world, td, tdq, place[0])
        places.setdefault(place, []).append(td)
    for (member, index), tds in places.items():
        link_tailq(tdq[member].rq_queues[index], tds, "td_runq")
        _set_status(world, tdq[member].rq_status, index)
    for _, td in here:
        if not td.td_lock:
            td.td_lock = addressof(tdq, "tdq_lock")


def _place(world: World, thread: Thread) -> tuple[str, int]:
    """The queue and the index in it: one queue since 15.0; before, the calendar of batch threads starts at 0 here."""
    if world.has("tdq", "tdq_runq"):
        return "tdq_runq", thread.priority
    batch = 136 if world.release >= "14" else 152
    if thread.priority < batch:
        return "tdq_realtime", thread.priority // 4
    if thread.priority < PRI_MIN_IDLE:
        return "tdq_timeshare", RQ_NQS * (thread.priority - batch) // (PRI_MIN_IDLE - batch)
    return "tdq_idle", thread.priority // 4


def _set_scheduler(world: World, td: Object, tdq: Object, member: str) -> None:
    """`struct td_sched` is right behind the thread."""
    if world.has("td_sched", "ts_runq"):
        sched = world.memory.cast("struct td_sched", int(td) + world.memory.types.sizeof("struct thread"))
        sched.ts_runq = addressof(tdq, member)


def _set_status(world: World, status: Object, index: int) -> None:
    """The bit of a queue that is not empty: `rqb_bits`, since 15.0 `rq_sw`."""
    words = status["rq_sw" if world.has("rq_status", "rq_sw") else "rqb_bits"]
    width = 8 * world.memory.types.size(words._type["subtype"])
    words[index // width] |= 1 << index % width
