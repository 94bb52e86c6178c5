"""Threads: `struct thread` in every state, their stacks and queues, and the registers that a panic saves.

sys/proc.h, kern/kern_thread.c, kern/kern_shutdown.c and each architecture's mp_machdep.c.
"""

from __future__ import annotations

from tests.writers.objects import Object, link_tailq

from . import thread_queues, thread_stacks
from .build_processes import PID_MAX, set_bits
from .credentials import max_processes, power_of_two
from .model import Process, Thread
from .shapes import fill_hash, hash_table, rw_init, set_members, set_variable
from .thread_queues import threads_of
from .thread_stacks import Saved, save_registers, system_call
from .world import World

TDS_INACTIVE, TDS_INHIBITED, TDS_CAN_RUN, TDS_RUNQ, TDS_RUNNING = range(5)
TDI_SUSPENDED, TDI_SLEEPING, TDI_LOCK, TDI_IWAIT = 0x1, 0x2, 0x8, 0x10
STATES = {
    "running": (TDS_RUNNING, 0),
    "runq": (TDS_RUNQ, 0),
    "can_run": (TDS_CAN_RUN, 0),
    "sleep": (TDS_INHIBITED, TDI_SLEEPING),
    "lock": (TDS_INHIBITED, TDI_LOCK),
    "iwait": (TDS_INHIBITED, TDI_IWAIT),
    "suspended": (TDS_INHIBITED, TDI_SUSPENDED),
    "inactive": (TDS_INACTIVE, 0),
}
"""`td_state` and `td_inhibitors`."""
TDF_BORROWING, TDF_INPANIC, TDF_INMEM, TDF_SINTR, TDF_IDLETD = 0x1, 0x2, 0x4, 0x8, 0x20
TDP_KTHREAD = 0x0020_0000
TDB_SUSPEND, TDB_XSIG = 0x1, 0x2
PRI_ITHD, PRI_TIMESHARE, PRI_IDLE = 1, 3, 4
PRI_MIN_IDLE = 224
NOCPU = -1
SLEPT = 10_000
"""Ticks that whoever waits has waited."""
SIGTRAP = 5
PCB_FULL_IRET = 0x1

TYPES = {
    "thread0_storage": {"t0st_thread": "struct thread", "t0st_sched": "uint64_t[10]"},
    "tidhashhead": {"lh_first": "struct thread *"},
    **thread_queues.TYPES,
}
VARIABLES = {
    "thread0_st": "struct thread0_storage",
    "tidhashtbl": "struct tidhashhead *",
    "tidhash": "unsigned long",
    "tidhash_lock": "struct rwlock",
    "nthreads": "int",
    "maxthread": "int",
    "kstack_pages": "int",
    "dumppcb": "struct pcb",
    "stoppcbs": "struct pcb[32]",
    "dumptid": "int",
    "kdb_thread": "struct thread *",
    **thread_queues.VARIABLES,
}
FUNCTIONS = thread_stacks.FUNCTIONS


def create(world: World) -> None:
    """The threads with their stacks, and the registers of those that ran."""
    set_variable(world, "kstack_pages", thread_stacks.kstack_pages(world))
    stoppcbs = _stoppcbs(world)
    pairs = [(process, thread) for process in world.system.processes for thread in process.threads]
    for process, thread in sorted(pairs, key=lambda pair: pair[1].tid):
        td = world.put("thread", thread.tid, _allocate(world, thread))
        _fill(world, process, thread, td)
        saved = thread_stacks.build_stack(world, process, thread, td)
        _save(world, thread, td, saved, stoppcbs)
    for process in world.system.processes:
        threads = [world.get("thread", thread.tid) for thread in process.threads]
        proc = world.get("proc", process.pid)
        link_tailq(proc.p_threads, threads, "td_plist")
        if "P_TRACED" in process.flags:
            _trace(proc, threads[0])


def connect(world: World) -> None:
    """Queues and tables."""
    thread_queues.connect_queues(world)
    _fill_table(world)
    _set_roots(world)
    for process, thread, td in threads_of(world):
        if process.is_kernel:
            td.td_cpuset = world.find("cpuset", "kernel")
        else:
            jid = world.system.credentials[process.credentials].jid
            td.td_cpuset = world.find("cpuset", jid)
            # userland_sysctl and others set the current vnet; whoever sleeps has none.
            td.td_vnet = world.find("vnet", world.vnet_of(jid)) if thread.state == "running" else 0


# One thread


def _allocate(world: World, thread: Thread) -> Object:
    """`thread0_st` or a new one with the scheduler's part behind it."""
    if thread.tid == PID_MAX + 1:
        return world.memory.cast("struct thread", int(world.symbol("thread0_st")))
    extra = world.memory.types.sizeof("struct td_sched") if world.has_type("td_sched") else 0
    return world.new("struct thread", extra=extra)


def _fill(world: World, process: Process, thread: Thread, td: Object) -> None:
    proc = world.get("proc", process.pid)
    td.td_proc = proc
    td.td_tid = thread.tid
    td.td_name = thread.name
    td.td_state, td.td_inhibitors = STATES[thread.state]
    td.td_flags = _flags(world, thread)
    td.td_pflags = TDP_KTHREAD if process.is_kernel else 0
    td.td_ucred = proc.p_ucred
    td.td_limit = proc.p_limit
    set_members(world, td, td_realucred=proc.p_ucred)
    td.td_oncpu = thread.cpu if thread.state == "running" else NOCPU
    td.td_lastcpu = thread.cpu
    td.td_sigqueue.sq_proc = proc
    td.td_sigqueue.sq_flags = 1
    link_tailq(td.td_sigqueue.sq_list, [], "ksi_link")
    td.td_runtime = proc.p_rux.rux_runtime // len(process.threads)
    thread_queues.create_queues(world, td)
    queue = world.new("struct umtx_q", uq_thread=td)
    td.td_umtxq = queue
    _set_priority(world, thread, td)
    _set_times(world, thread, td)
    _set_system_call(world, process, thread, td)


def _flags(world: World, thread: Thread) -> int:
    # Stacks are not swapped out any more in 15.0; the bit was not given to anything else.
    flags = TDF_INMEM if world.release < "15" else 0
    if thread.state == "sleep" and thread.interruptible:
        flags |= TDF_SINTR
    if thread.base_priority is not None:
        flags |= TDF_BORROWING
    if thread.tid in [cpu.idle for cpu in world.system.cpus]:
        flags |= TDF_IDLETD
    if thread.tid == world.system.dump_tid:
        flags |= TDF_INPANIC
    return flags


def _set_priority(world: World, thread: Thread, td: Object) -> None:
    base = thread.priority if thread.base_priority is None else thread.base_priority
    td.td_priority = thread.priority
    td.td_base_pri = td.td_user_pri = td.td_base_user_pri = base
    td.td_lend_user_pri = 255
    if thread.state == "iwait":
        td.td_pri_class = PRI_ITHD
    else:
        td.td_pri_class = PRI_IDLE if base >= PRI_MIN_IDLE else PRI_TIMESHARE


def _set_times(world: World, thread: Thread, td: Object) -> None:
    """In ticks: since when it sleeps or is blocked, and its last switch."""
    ticks = 0
    if world.has_symbol("ticks"):
        data = world.memory.read(int(world.symbol("ticks")), 4)
        ticks = int.from_bytes(data, world.memory.machine.byteorder)
    since = (ticks - SLEPT) & 0xFFFF_FFFF
    td.td_swvoltick = since
    if thread.state == "sleep":
        td.td_slptick = since
    if thread.state == "lock":
        td.td_blktick = since
    if thread.state not in ("running", "inactive"):
        td.td_critnest = 1
        td.td_md.md_spinlock_count = 1


def _set_system_call(world: World, process: Process, thread: Thread, td: Object) -> None:
    number = system_call(thread)
    if process.is_kernel or number is None:
        return
    td.td_sa.code = number
    set_members(world, td.td_sa, original_code=number)
    if world.has_symbol("sysent") and number < world.symbol("sysent")._type["count"]:
        entry = world.symbol("sysent")[number]
        td.td_sa.callp = entry
        set_members(world, td.td_sa, narg=entry.sy_narg)


def _trace(proc: Object, td: Object) -> None:
    """`ptracestop`: the thread that the debugger is told of."""
    proc.p_xthread = td
    td.td_dbgflags = TDB_SUSPEND | TDB_XSIG
    td.td_xsig = SIGTRAP


# Registers of threads that ran


def _stoppcbs(world: World) -> Object | None:
    """Where stopped CPUs save their registers: an array, or a pointer to one with as many as there are CPUs."""
    if not world.has_symbol("stoppcbs"):
        return None
    if world.symbol("stoppcbs")._type["kind"] == "pointer":
        array = world.memory.array("struct pcb", [{}] * len(world.system.cpus), where="kva")
        set_variable(world, "stoppcbs", array)
        return array
    return world.symbol("stoppcbs")


def _save(world: World, thread: Thread, td: Object, saved: Saved, stoppcbs: Object | None) -> None:
    """Registers of a thread that waits are in its pcb; of the one that dumps in `dumppcb`; else in `stoppcbs`."""
    pcb = world.memory.cast("struct pcb", td.td_pcb)
    set_members(world, pcb, pcb_flags=PCB_FULL_IRET if world.has("pcb", "pcb_rip") else 0)
    if thread.state != "running":
        save_registers(world, pcb, saved)
        return
    save_registers(world, pcb, thread_stacks.stale(world, td))
    if thread.tid == world.system.dump_tid:
        target = world.symbol("dumppcb") if world.has_symbol("dumppcb") else None
    else:
        target = stoppcbs[thread.cpu] if stoppcbs is not None else None
    if target is not None:
        save_registers(world, target, saved)
        # savectx saves the whole processor.
        set_members(world, target, pcb_lstar=world.function("Xfast_syscall") if world.has("pcb", "pcb_lstar") else 0)


# All threads


def _fill_table(world: World) -> None:
    """`tidhashtbl`; 13.0: a lock for every 64 chains, and a bitmap of the tids in use. Zombies' threads have left."""
    alive = [td for _, thread, td in threads_of(world) if thread.state != "inactive"]
    table = hash_table(world, "tidhashtbl", "tidhash", power_of_two(max_processes(world) // 2))
    fill_hash(table, alive, "td_hash", lambda td: td.td_tid)
    if table is not None and world.has_symbol("tidhashtbl_lock"):
        count = max(table._type["count"] // 64, 1)
        locks = world.memory.array("struct rwlock", [{}] * count)
        for index in range(count):
            rw_init(world, locks[index], "tidhash")
        set_variable(world, "tidhashtbl_lock", locks)
        set_variable(world, "tidhashlock", count - 1)
    if world.has_symbol("tid_bitmap"):
        words = world.memory.array("unsigned long", [0] * 512)
        set_bits(world, words, {thread.tid - PID_MAX - 1 for _, thread, _ in threads_of(world)})
        set_variable(world, "tid_bitmap", words)


def _set_roots(world: World) -> None:
    count = sum(len(process.threads) for process in world.system.processes)
    set_variable(world, "nthreads", count)
    set_variable(world, "maxthread", 10 * max_processes(world))
    set_variable(world, "dumptid", world.system.dump_tid)
    set_variable(world, "kdb_thread", world.get("thread", world.system.dump_tid))
