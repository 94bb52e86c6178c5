"""The same processes by every way that leads to them, side by side: who is missing from one may have been hidden.

# Reference: sys/kern/kern_fork.c (do_fork), kern_exit.c (exit1, proc_reap), kern_proc.c, kern_jail.c (pr_proclist)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import AddressError, SymbolError
from ..image.chain import LIMIT
from .hashes import HashVariable
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .process import P_MAGIC, is_readable, number_of
from .process_flags import PRS_NEW, is_exiting, is_zombie, process_state
from .records import Absent, Problem, attempt

PID_MAX = 99_999
PR_PERSIST = 0x1
Walk = Iterator["int | Problem"]


@dataclass(frozen=True)
class ViewName:
    """A way to the processes.

    Attributes:
        key: short name.
        title: as a column is headed.
        root: the variable that it starts from, for notes.
    """

    key: str
    title: str
    root: str


VIEWS = (
    ViewName("allproc", "allproc", "allproc"),
    ViewName("zombproc", "zombproc", "zombproc"),
    ViewName("pidhash", "pidhash", "pidhashtbl"),
    ViewName("children", "Children", "its parent's p_children"),
    ViewName("groups", "Groups", "pgrphashtbl"),
    ViewName("leaders", "Leaders", "the leaders of sessions"),
    ViewName("threads", "Threads", "tidhashtbl"),
    ViewName("cpus", "CPUs", "the threads on CPUs"),
    ViewName("jails", "Jails", "its jail's pr_proclist"),
    ViewName("pidmap", "pidmap", "proc_id_pidmap"),
)
"""In the order of columns."""


@dataclass(frozen=True)
class SeenProcess:
    """A process and who knows it.

    Attributes:
        offset: address of its ``struct proc``; NOT_APPLICABLE for a pid that is marked as used but that nobody has.
        seen: by the key of each view whether the process is in it. NOT_AVAILABLE: this kernel or its types have no such
            view; NOT_APPLICABLE: such a process has no place there.
        notes: where it ought to be but is not.
    """

    offset: int | Absent
    pid: int | Absent
    command: str | Absent
    state: str | Absent
    seen: dict[str, bool | Absent]
    notes: tuple[str, ...] = ()


def process_views(kernel: Kernel) -> Iterator[SeenProcess | Problem]:
    """Every process that any view knows, then pids in use that nobody has, then what was irregular."""
    views = _Views(kernel)
    views.collect()
    pids = set()
    for address in views.known:
        record = views.record(kernel.object("proc", address))
        pids.add(record.pid)
        yield record
    yield from (_nobody(pid, views) for pid in sorted(views.pidmap or ()) if pid and pid not in pids)
    yield from views.problems
    count = attempt(lambda: kernel.integer("nprocs"))
    if isinstance(count, int) and count != len(views.known):
        yield Problem("nprocs", f"counts {count} processes, {len(views.known)} were found")
    yield from _jail_counts(kernel, [kernel.object("proc", address) for address in views.known])


@dataclass
class _Views:
    """Walks the views; who is found by one is looked up in the others.

    Attributes:
        known: addresses of all processes, in the order in which they were met.
        found: addresses by view; views that there are not are left out.
        pidmap: the pids that are marked as used.
        broken: views that were not walked to their end.
    """

    kernel: Kernel
    known: dict[int, None] = field(default_factory=dict)
    found: dict[str, set[int]] = field(default_factory=dict)
    pidmap: set[int] | None = None
    broken: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def collect(self) -> None:
        walks: dict[str, Callable[[], Walk]] = {
            "allproc": lambda: _queue(self.kernel, "allproc"),
            "zombproc": lambda: _queue(self.kernel, "zombproc"),
            "pidhash": lambda: _pid_hash(self.kernel),
            "groups": lambda: _groups(self.kernel),
            "leaders": lambda: _leaders(self.kernel),
            "threads": lambda: _threads(self.kernel),
            "cpus": lambda: _cpus(self.kernel),
            "jails": lambda: _jails(self.kernel),
            "children": lambda: _children(self.kernel, list(self.known)),
        }
        for key, walk in walks.items():
            try:
                self._add(key, walk())
            except SymbolError:
                continue
        self._read_map()

    def _add(self, key: str, walk: Walk) -> None:
        addresses: set[int] = set()
        for one in walk:
            if isinstance(one, Problem):
                self.problems.append(one)
                self.broken.add(key)
            else:
                addresses.add(one)
                self.known.setdefault(one)
        # A view that the types do not know raises before its first element.
        self.found[key] = addresses

    def _read_map(self) -> None:
        try:
            self.pidmap = _pids_in_use(self.kernel)
        except SymbolError:
            return
        except AddressError as error:
            self.problems.append(Problem("proc_id_pidmap", f"cannot be read: {error}"))

    # One process

    def record(self, proc: Object) -> SeenProcess:
        """What the views say of a process."""
        pid = number(proc, "p_pid")
        seen = {view.key: self._seen(view.key, proc, pid) for view in VIEWS}
        return SeenProcess(
            offset=proc.address_,
            pid=pid,
            command=attempt(lambda: str(proc.p_comm)),
            state=attempt(lambda: process_state(self.kernel, proc)),
            seen=seen,
            notes=tuple(self._remarks(proc, seen)),
        )

    def _seen(self, key: str, proc: Object, pid: int | Absent) -> bool | Absent:
        if key == "pidmap":
            there = None if self.pidmap is None else pid in self.pidmap
        else:
            there = proc.address_ in self.found[key] if key in self.found else None
        if there is None:
            return Absent.NOT_AVAILABLE
        return there or (False if self._has_place(key, proc, pid) else Absent.NOT_APPLICABLE)

    def _has_place(self, key: str, proc: Object, pid: int | Absent) -> bool:
        """Whether such a process belongs into a view."""
        if key in ("zombproc", "cpus"):
            return key == "zombproc" and is_zombie(proc)
        if key == "leaders":
            # Who exits is no leader any more.
            return pid == number(proc, "p_pgrp.pg_session.s_sid") and not is_exiting(proc)
        if is_zombie(proc):
            # With a list of their own, zombies were in the hash in 13-CURRENT only.
            return key in ("children", "groups", "pidmap") or (key == "pidhash" and "zombproc" not in self.found)
        # The kernel itself is nobody's child, and its pid was never taken.
        return pid != 0 or key not in ("children", "jails", "pidmap")

    def _remarks(self, proc: Object, seen: dict[str, bool | Absent]) -> Iterator[str]:
        missing = [view for view in VIEWS if seen[view.key] is False]
        for view in missing:
            yield f"missing from {view.root}" + (" (damaged)" if view.key in self.broken else "")
        if missing and is_exiting(proc) and not is_zombie(proc):
            yield "exiting, which takes it out of one after the other"
        if missing and number(proc, "p_state") == PRS_NEW:
            yield "just being created, not in all of them yet"
        magic = number(proc, "p_magic")
        if isinstance(magic, int) and magic != P_MAGIC:
            yield f"p_magic is {magic:#x}, not {P_MAGIC:#x}"


def _nobody(pid: int, views: _Views) -> SeenProcess:
    absent = Absent.NOT_APPLICABLE
    seen: dict[str, bool | Absent] = {
        view.key: False if view.key in views.found else Absent.NOT_AVAILABLE for view in VIEWS
    }
    seen["pidmap"] = True
    return SeenProcess(absent, pid, absent, absent, seen, ("marked as used in proc_id_pidmap, but no process has it",))


# The walks: addresses of processes and problems. They raise SymbolError, at once, if there is no such view.


def _queue(kernel: Kernel, name: str) -> Walk:
    return _linked(Queue(kernel.structs, kernel.address(name), "proc", "p_list"), "p_list", name)


def _linked(elements: Queue | HashVariable, link: str, where: str) -> Walk:
    for proc in elements:
        if is_readable(proc, link):
            yield proc.address_
    yield from (Problem(where, problem) for problem in elements.problems)


def _pid_hash(kernel: Kernel) -> Walk:
    return _linked(HashVariable(kernel, "pidhashtbl", "pidhash", "proc", "p_hash"), "p_hash", "pidhashtbl")


def _children(kernel: Kernel, known: Iterable[int]) -> Walk:
    """Children of all that are known, and of those found so."""
    kernel.structs.member("proc", "p_sibling")
    waiting, seen, left = list(known), set(known), LIMIT
    while waiting:
        proc = kernel.object("proc", waiting.pop())
        queue = Queue(kernel.structs, proc.at_("p_children"), "proc", "p_sibling", limit=left)
        for child in queue:
            if not is_readable(child, "p_sibling"):
                continue
            left -= 1
            yield child.address_
            if child.address_ not in seen:
                seen.add(child.address_)
                waiting.append(child.address_)
        where = f"children of process {number_of(proc)}"
        yield from (Problem(where, problem, proc.address_) for problem in queue.problems)


def _groups(kernel: Kernel) -> Walk:
    groups = HashVariable(kernel, "pgrphashtbl", "pgrphash", "pgrp", "pg_hash")
    left = LIMIT
    for group in groups:
        members = Queue(kernel.structs, group.at_("pg_members"), "proc", "p_pglist", limit=left)
        for proc in members:
            if is_readable(proc, "p_pglist"):
                left -= 1
                yield proc.address_
        where = f"process group at {group.address_:#x}"
        yield from (Problem(where, problem, group.address_) for problem in members.problems)
    yield from (Problem("pgrphashtbl", problem) for problem in groups.problems)


def _leaders(kernel: Kernel) -> Walk:
    for group in HashVariable(kernel, "pgrphashtbl", "pgrphash", "pgrp", "pg_hash"):
        yield from _pointed(kernel, group, "pg_session.s_leader", "process group")


def _threads(kernel: Kernel) -> Walk:
    threads = HashVariable(kernel, "tidhashtbl", "tidhash", "thread", "td_hash")
    for thread in threads:
        yield from _pointed(kernel, thread, "td_proc", "thread")
    yield from (Problem("tidhashtbl", problem) for problem in threads.problems)


def _cpus(kernel: Kernel) -> Walk:
    kernel.structs.member("pcpu", "pc_curthread")
    for cpu in kernel.names.cpus:
        if cpu.pcpu:
            yield from _pointed(kernel, kernel.object("pcpu", cpu.pcpu), "pc_curthread.td_proc", f"CPU {cpu.cpuid}:")


def _jails(kernel: Kernel) -> Walk:
    """14.0: each jail has a list of its processes."""
    kernel.structs.member("prison", "pr_proclist")
    prisons = _prisons(kernel)
    left = LIMIT
    for prison in (kernel.variable("prison0", "prison"), *prisons):
        inside = Queue(kernel.structs, prison.at_("pr_proclist"), "proc", "p_jaillist", limit=left)
        for proc in inside:
            if is_readable(proc, "p_jaillist"):
                left -= 1
                yield proc.address_
        where = f"processes of the jail at {prison.address_:#x}"
        yield from (Problem(where, problem, prison.address_) for problem in inside.problems)
    yield from (Problem("allprison", problem) for problem in prisons.problems)


def _jail_counts(kernel: Kernel, procs: Iterable[Object]) -> Iterator[Problem]:
    """Jails with more users (``pr_uref``) than can be told: processes, the jails right below, and what else keeps them.

    That is PR_PERSIST; the host has one user from the start.
    """
    if not (kernel.has_member("prison", "pr_uref") and kernel.has("prison0") and kernel.has("allprison")):
        return
    prisons = [kernel.variable("prison0", "prison"), *_prisons(kernel)]
    inside = Counter(number(proc, "p_ucred.cr_prison") for proc in procs if not is_zombie(proc))
    below = Counter(number(prison, "pr_parent") for prison in prisons)
    for prison in prisons:
        jid, users, flags = (number(prison, member) for member in ("pr_id", "pr_uref", "pr_flags"))
        itself = jid == 0 or (isinstance(flags, int) and flags & PR_PERSIST)
        known = inside[prison.address_] + below[prison.address_] + bool(itself)
        if isinstance(users, int) and users > known:
            text = f"has {users} users (pr_uref), {known} of them are known"
            yield Problem(f"jail {jid}", text, prison.address_)


def _prisons(kernel: Kernel) -> Queue:
    """All jails but the host."""
    return Queue(kernel.structs, kernel.address("allprison"), "prison", "pr_list")


def number(source: Object, path: str) -> int | Absent:
    """An integer or pointer at the end of a path of members and pointers, or why there is none."""

    def read() -> int:
        value: Any = source
        for member in path.split("."):
            value = getattr(value, member)
        return int(value)

    return attempt(read)


def _pointed(kernel: Kernel, source: Object, path: str, what: str) -> Walk:
    """The process that a path of pointers leads to, if to one; a NULL pointer leads nowhere and is no problem."""
    value: Object | int = source
    try:
        for member in path.split("."):
            value = getattr(value, member)
            if not value:
                return
        proc = kernel.object("proc", int(value))
        proc.p_pid  # noqa: B018 - whether it can be read
    except AddressError as error:
        yield Problem(f"{what} at {source.address_:#x}", f"{path} leads to no process: {error}", source.address_)
        return
    yield proc.address_


def _pids_in_use(kernel: Kernel) -> set[int]:
    """13-CURRENT of 2018: a bitstring(3) of longs with a bit for each pid."""
    structs = kernel.structs
    word = structs.word_size
    address = kernel.address("proc_id_pidmap")
    found: set[int] = set()
    for at in range(0, PID_MAX // 8 + 1, word):
        bits = structs.uint(address + at, word)
        while bits:
            lowest = bits & -bits
            found.add(8 * at + lowest.bit_length() - 1)
            bits ^= lowest
    return found
