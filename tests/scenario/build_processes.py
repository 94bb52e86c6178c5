"""Processes: `struct proc` with its credentials, groups, sessions, and every list, table and tree that it is in.

The shapes follow sys/proc.h; who is inserted where, and in which order, kern/kern_fork.c and kern/kern_exit.c.
"""

from __future__ import annotations

from typing import Any

from tests.writers.objects import Object, addressof, link_list, link_stailq, link_tailq

from . import credentials, process_groups
from .credentials import max_processes, power_of_two
from .model import Process
from .process_groups import in_order_of_creation
from .shapes import fill_hash, hash_table, knlist_init, mtx_init, set_members, set_variable, sx_init, text
from .world import World

P_MAGIC = 0xBEEFFACE
PID_MAX = 99_999
STATES = {"new": 0, "normal": 1, "zombie": 2}
"""PRS_*."""
FLAGS = {
    "P_CONTROLT": 0x2,
    "P_KPROC": 0x4,
    "P_IDLEPROC": 0x8,
    "P_PPWAIT": 0x10,
    "P_HADTHREADS": 0x80,
    "P_SUGID": 0x100,
    "P_SYSTEM": 0x200,
    "P_TRACED": 0x800,
    "P_WEXIT": 0x2000,
    "P_EXEC": 0x4000,
    "P_STOPPED_SIG": 0x20000,
    "P_STOPPED_TRACE": 0x40000,
    "P_PROTECTED": 0x10_0000,
    "P_INMEM": 0x1000_0000,
}
FLAGS2 = {
    "P2_NOTRACE": 0x2,
    "P2_ASLR_ENABLE": 0x40,
    "P2_ASLR_DISABLE": 0x80,
    "P2_NO_NEW_PRIVS": 0x8000,
}
P_TREE_ORPHANED, P_TREE_FIRST_ORPHAN, P_TREE_REAPER = 1, 2, 4
SIGTRAP, SIGTSTP = 5, 18
SIGCHLD = 20
SQ_INIT = 0x1
LO_CLASSMASK = 0x0F00_0000
RLIM_INFINITY = (1 << 63) - 1
STATHZ = 127
CPU_TICK_FREQUENCY = 1_000_000_000
OFFSETS = ("p_pid", "p_comm", "p_list", "p_hash", "p_threads")
THREAD_OFFSETS = ("td_tid", "td_name", "td_oncpu", "td_pcb", "td_plist")
MAPS = ("pidmap", "grpidmap", "sessidmap", "reapmap")

TYPES = {
    "pidhashhead": {"lh_first": "struct proc *"},
    **credentials.TYPES,
    **process_groups.TYPES,
}
VARIABLES = {
    "proc0": "struct proc",
    "initproc": "struct proc *",
    "pageproc": "struct proc *",
    "intrproc": "struct proc *",
    "allproc": "struct proclist",
    "zombproc": "struct proclist",
    "allproc_lock": "struct sx",
    "zombproc_lock": "struct sx",
    "proctree_lock": "struct sx",
    "pidhashtbl": "struct pidhashhead *",
    "pidhash": "unsigned long",
    "lastpid": "int",
    "pid_max": "int",
    "ps_arg_cache_limit": "unsigned long",
    **{f"proc_off_{member}": "int" for member in OFFSETS if member != "p_hash"},
    **{f"thread_off_{member}": "int" for member in THREAD_OFFSETS},
    "pcb_size": "int",
    **credentials.VARIABLES,
    **process_groups.VARIABLES,
}


def create(world: World) -> None:
    """Credentials, groups and processes; who has only pointers within this topic is complete then."""
    credentials.create_credentials(world)
    process_groups.create_groups(world)
    for process in in_order_of_creation(world):
        proc = world.new("struct proc") if process.pid else world.symbol("proc0")
        _fill(world, process, world.put("proc", process.pid, proc))
    _tell_offsets(world)


def connect(world: World) -> None:
    """Lists, tables, trees and what other topics made."""
    process_groups.connect_groups(world)
    _link_lists(world)
    _link_family(world)
    _link_reapers(world)
    _set_maps(world)
    _set_roots(world)
    for process in world.system.processes:
        _connect(world, process, world.get("proc", process.pid))


# One process


def process_flags(world: World, process: Process) -> int:
    """`p_flag`: the description's flags and those that follow from the rest of it."""
    names = {*process.flags, "P_INMEM"}
    if process.sid in [session.sid for session in world.system.sessions if session.tty]:
        names.add("P_CONTROLT")
    if process.state == "zombie":
        names.add("P_WEXIT")
    if process.args is not None:
        names.add("P_EXEC")
    if process.pid == 1:
        names.add("P_SYSTEM")  # create_init of kern/init_main.c
    if process.comm == "idle" and world.release >= "15":
        names.add("P_IDLEPROC")
    return sum(FLAGS[name] for name in names)


def _fill(world: World, process: Process, proc: Object) -> None:
    proc.p_magic = P_MAGIC
    proc.p_pid = process.pid
    proc.p_comm = process.comm
    proc.p_state = STATES[process.state]
    proc.p_flag = process_flags(world, process)
    proc.p_flag2 = sum(FLAGS2[name] for name in process.flags2)
    proc.p_nice = process.nice
    proc.p_ucred = world.get("ucred", process.credentials)
    proc.p_sysent = world.find("sysentvec", process.abi)
    proc.p_xexit, proc.p_xsig = process.exit_status
    proc.p_sigparent = SIGCHLD
    proc.p_leader = proc
    proc.p_lock = 0
    proc.p_numthreads = len(process.threads)
    proc.p_osrel = _integer(world, "osreldate")
    proc.p_swtick = _integer(world, "ticks") & 0x7FFF_FFFF
    proc.p_cowgen = 1
    _set_arguments(world, process, proc)
    _set_resources(world, process, proc)
    _set_signals(world, process, proc)
    _initialise_lists(world, proc)
    _initialise_locks(world, proc)
    _stop(process, proc)


def _integer(world: World, name: str) -> int:
    """The value of an int variable, 0 if there is none."""
    if not world.has_symbol(name):
        return 0
    data = world.memory.read(int(world.symbol(name)), 4)
    return int.from_bytes(data, world.memory.machine.byteorder)


def _set_arguments(world: World, process: Process, proc: Object) -> None:
    """The kernel's copy of the arguments, with their NULs; not of long ones (`do_execve`)."""
    if not process.args or not process.args_cached:
        return
    data = b"".join(argument.encode() + b"\0" for argument in process.args)
    pargs = world.put("pargs", process.pid, world.new("struct pargs", extra=len(data)))
    pargs.ar_ref, pargs.ar_length = 1, len(data)
    world.memory.write(addressof(pargs, "ar_args"), data)
    proc.p_args = pargs


def _set_resources(world: World, process: Process, proc: Object) -> None:
    """Limits, statistics and usage, the latter also split up as `calcru` leaves it; a zombie's rusage is complete."""
    seconds, microseconds = process.start
    proc.p_stats = world.new("struct pstats", p_start={"tv_sec": seconds, "tv_usec": microseconds})
    proc.p_limit = _limits(world)
    user, system = process.cpu_time
    proc.p_rux = {
        "rux_runtime": (user + system) * (CPU_TICK_FREQUENCY // 1_000_000),
        "rux_uticks": user * STATHZ // 1_000_000,
        "rux_sticks": system * STATHZ // 1_000_000,
        "rux_uu": user,
        "rux_su": system,
        "rux_tu": user + system,
    }
    if process.state == "zombie":
        proc.p_ru.ru_utime = {"tv_sec": user // 1_000_000, "tv_usec": user % 1_000_000}
        proc.p_ru.ru_stime = {"tv_sec": system // 1_000_000, "tv_usec": system % 1_000_000}


def _limits(world: World) -> Object:
    """One `struct plimit` for all: nobody has changed any."""
    if not world.find("plimit", 0):
        made = world.put("plimit", 0, world.new("struct plimit"))
        infinite = {"rlim_cur": RLIM_INFINITY, "rlim_max": RLIM_INFINITY}
        made.pl_rlimit = [infinite] * made.pl_rlimit._type["count"]
    limit = world.get("plimit", 0)
    limit.pl_refcnt += 1
    return limit


def _set_signals(world: World, process: Process, proc: Object) -> None:
    sigacts = world.put("sigacts", process.pid, world.new("struct sigacts", ps_refcnt=1))
    mtx_init(world, sigacts.ps_mtx, "sigacts")
    proc.p_sigacts = sigacts
    proc.p_sigqueue.sq_proc = proc
    proc.p_sigqueue.sq_flags = SQ_INIT
    link_tailq(proc.p_sigqueue.sq_list, [], "ksi_link")


def _initialise_lists(world: World, proc: Object) -> None:
    """Lists that are empty but whose heads point to themselves, and the list of knotes."""
    link_stailq(proc.p_ktr, [], "ktr_list")
    knlist = world.new("struct knlist")
    knlist_init(world, knlist, addressof(proc, "p_mtx"))
    proc.p_klist = knlist
    proc.p_pwait.cv_description = text(world, "ppwait")


def _initialise_locks(world: World, proc: Object) -> None:
    """`proc_init`."""
    mtx_init(world, proc.p_mtx, "process lock")
    for member, name in (("slock", "slock"), ("statmtx", "statl"), ("itimmtx", "itiml"), ("profmtx", "profl")):
        lock = proc[f"p_{member}"]
        mtx_init(world, lock, ("process " if member == "slock" else "p") + name)
        lock.lock_object.lo_flags &= ~LO_CLASSMASK  # spin mutexes are the first class


def _stop(process: Process, proc: Object) -> None:
    """Why it does not run: a job control signal, or its debugger."""
    if "P_STOPPED_SIG" in process.flags:
        proc.p_xsig = SIGTSTP
    if "P_TRACED" in process.flags:
        proc.p_xsig = SIGTRAP
    if {"P_STOPPED_SIG", "P_STOPPED_TRACE"} & set(process.flags):
        proc.p_suspcount = len(process.threads)


# All processes


def _procs(world: World, *, zombies: bool) -> list[Object]:
    """Live processes or zombies, the youngest first, as LIST_INSERT_HEAD leaves them."""
    processes = [item for item in in_order_of_creation(world) if (item.state == "zombie") == zombies]
    return [world.get("proc", process.pid) for process in reversed(processes)]


def _link_lists(world: World) -> None:
    """`allproc`; `zombproc` until 13-CURRENT; `pidhashtbl`, which keeps zombies since 13-CURRENT of 2018."""
    live, zombies = _procs(world, zombies=False), _procs(world, zombies=True)
    link_list(world.symbol("allproc"), live, "p_list")
    if world.has_symbol("zombproc"):
        link_list(world.symbol("zombproc"), zombies, "p_list")
    else:
        # Removed in exit1: its own link still leads into the list, le_prev tells DDB that it is not on it.
        for proc in zombies:
            proc.p_list.le_next = live[0]
            proc.p_list.le_prev = 0
    table = hash_table(world, "pidhashtbl", "pidhash", power_of_two(max_processes(world) // 4))
    hashed = [*live, *zombies] if world.release >= "13" else live
    by_pid = {proc.p_pid: proc for proc in hashed}
    ordered = [by_pid[process.pid] for process in in_order_of_creation(world) if process.pid in by_pid]
    fill_hash(table, ordered, "p_hash", lambda proc: proc.p_pid)
    if table is not None and world.has_symbol("pidhashtbl_lock"):
        _create_hash_locks(world, table._type["count"])


def _create_hash_locks(world: World, chains: int) -> None:
    """13.0: one lock for 64 chains (`procinit`)."""
    count = max(chains // 64, 1)
    locks = world.memory.array("struct sx", [{}] * count)
    for index in range(count):
        sx_init(world, locks[index], "pidhashtbl_lock")
    set_variable(world, "pidhashtbl_lock", locks)
    set_variable(world, "pidhashlock", count - 1)


def _link_family(world: World) -> None:
    """Children are at whom they are traced by (`proc_reparent`); the real parent keeps those as orphans."""
    for process in in_order_of_creation(world):
        proc, parent = world.get("proc", process.pid), world.get("proc", process.ppid)
        tracer = world.get("proc", process.tracer) if process.tracer else parent
        proc.p_pptr = tracer if process.pid else 0
        # Until 13-CURRENT of 2018 it was only set while traced.
        proc.p_oppid = process.ppid if process.tracer or world.release >= "13" else 0
        link_list(proc.p_children, children(world, process.pid), "p_sibling")
        _link_orphans(world, process.pid, proc)


def children(world: World, pid: int) -> list[Object]:
    """`p_children`: its own ones but those that others trace, and in front of them whom it traces itself."""
    found: list[Process] = []
    for process in in_order_of_creation(world):
        if process.pid and process.ppid == pid and process.tracer in (None, pid):
            found.insert(0, process)
    for process in in_order_of_creation(world):
        if process.tracer == pid and process.ppid != pid:
            found.insert(0, process)
    return [world.get("proc", process.pid) for process in found]


def _link_orphans(world: World, pid: int, proc: Object) -> None:
    """`proc_add_orphan`: the first stays first, further ones come right behind it."""
    away = [item for item in in_order_of_creation(world) if item.ppid == pid and item.tracer not in (None, pid)]
    orphans = [world.get("proc", item.pid) for item in (*away[:1], *away[:0:-1])]
    link_list(proc.p_orphans, orphans, "p_orphan")
    for index, orphan in enumerate(orphans):
        orphan.p_treeflag |= P_TREE_ORPHANED | (0 if index else P_TREE_FIRST_ORPHAN)


def _link_reapers(world: World) -> None:
    """`p_reaper` and the lists of who belongs to a reaper: the kernel and init are the only ones."""
    subjects: dict[int, list[Object]] = {0: [], 1: []}
    subtrees = {0: 0}
    for process in in_order_of_creation(world):
        reaper = 0 if process.ppid == 0 else 1
        proc = world.get("proc", process.pid)
        proc.p_reaper = world.get("proc", reaper)
        if process.pid:
            subtrees[process.pid] = process.pid if process.ppid == reaper else subtrees[process.ppid]
            subjects[reaper].insert(0, proc)
        set_members(world, proc, p_reapsubtree=subtrees[process.pid])
    for pid, procs in subjects.items():
        reaper_proc = world.get("proc", pid)
        reaper_proc.p_treeflag |= P_TREE_REAPER
        link_list(reaper_proc.p_reaplist, procs, "p_reapsibling")


def _set_maps(world: World) -> None:
    """13-CURRENT: bitmaps of the numbers in use, `proc_id_pidmap` and its kind."""
    numbers: dict[str, set[int]] = {name: set() for name in MAPS}
    for process in world.system.processes:
        proc = world.get("proc", process.pid)
        reaped = proc.p_reapsubtree if world.has("proc", "p_reapsubtree") else 0
        for name, number in zip(MAPS, (process.pid, process.pgid, process.sid, reaped), strict=True):
            numbers[name].add(number)
    for name, used in numbers.items():
        if world.has_symbol(f"proc_id_{name}"):
            set_bits(world, world.symbol(f"proc_id_{name}"), used)


def set_bits(world: World, words: Object, bits: set[int]) -> None:
    """Set bits of a bitstring(3), an array of longs."""
    width = 8 * world.memory.types.pointer_size
    for bit in bits:
        words[bit // width] |= 1 << bit % width


def _set_roots(world: World) -> None:
    """Variables that name single processes, and the counts."""
    by_name = {process.comm: world.get("proc", process.pid) for process in world.system.processes}
    set_variable(world, "initproc", world.get("proc", 1))
    set_variable(world, "pageproc", by_name.get("pagedaemon", 0))
    set_variable(world, "intrproc", by_name.get("intr", 0))
    set_variable(world, "nprocs", len(world.system.processes))  # until they are reaped, zombies count
    set_variable(world, "lastpid", max(process.pid for process in world.system.processes))
    set_variable(world, "pid_max", PID_MAX)
    set_variable(world, "ps_arg_cache_limit", world.memory.machine.page_size // 16)
    set_variable(world, "cpu_tick_frequency", CPU_TICK_FREQUENCY)
    for name in ("allproc", "zombproc", "proctree"):
        if world.has_symbol(f"{name}_lock"):
            sx_init(world, world.symbol(f"{name}_lock"), name)


def _tell_offsets(world: World) -> None:
    """What debuggers need that have no types: kern/kern_proc.c."""
    types = world.memory.types
    for tag, prefix, members in (("proc", "proc", OFFSETS), ("thread", "thread", THREAD_OFFSETS)):
        for member in members:
            set_variable(world, f"{prefix}_off_{member}", types.offsetof(tag, member))
    set_variable(world, "pcb_size", types.sizeof("struct pcb"))


# Other topics


def _connect(world: World, process: Process, proc: Object) -> None:
    """The executable and what other builders have made for this process."""
    proc.p_textvp = world.find("vnode", process.text)
    if world.has("proc", "p_textdvp") and process.text:  # 14.0
        _name_executable(world, process, proc)
    found: dict[str, Any] = {
        "p_fd": world.find("filedesc", process.pid),
        "p_pd": world.find("pwddesc", process.pid),
        "p_vmspace": world.find("vmspace", process.pid),
        "p_procdesc": _procdesc(world, process.pid),
    }
    set_members(world, proc, **{member: value for member, value in found.items() if value})


def _procdesc(world: World, pid: int) -> Object | int:
    keys = [item.key for item in world.system.process_descriptors if item.pid == pid]
    return world.find("procdesc", keys[0]) if keys else 0


def _name_executable(world: World, process: Process, proc: Object) -> None:
    """The directory and the name that execve(2) was called with."""
    path = next(vnode.path for vnode in world.system.vnodes if vnode.key == process.text)
    directory, _, name = path.rpartition("/")
    keys = [vnode.key for vnode in world.system.vnodes if vnode.path == (directory or "/") and vnode.kind == "VDIR"]
    proc.p_textdvp = world.find("vnode", keys[0]) if keys else 0
    proc.p_binname = world.memory.string(name)
