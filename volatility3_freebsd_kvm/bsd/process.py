"""Processes: every ``struct proc`` that the kernel lists, and what ps(1) tells of it.

# Reference: sys/sys/proc.h, sys/kern/kern_proc.c (fill_kinfo_proc_only), sys/kern/kern_exit.c
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..exceptions import AddressError, SymbolError
from .clock import clock_of
from .fields import Fields, text_of
from .hashes import HashVariable, has_table
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .process_flags import (
    P_CONTROLT,
    P_INEXEC,
    P_KPROC,
    P_SYSTEM,
    P_TRACED,
    PRS_NEW,
    has_flag,
    is_exiting,
    is_zombie,
    process_flags,
    process_state,
)
from .records import Absent, Problem, attempt
from .times import timeval

P_MAGIC = 0xBEEFFACE
CORE_FLAG = 0x80
"""WCOREFLAG of wait(2)."""


HIDDEN = "not in allproc, only in the pid hash"
BEHIND_A_TEAR = "found in the pid hash; allproc ends early"
"""Nothing is said of the process: the list is damaged."""


@dataclass(frozen=True)
class Found:
    """A process and the list it was found in: ``allproc``, ``zombproc`` or ``pidhashtbl``.

    Attributes:
        torn: that `allproc` ended irregularly, so that others may have it no more.
    """

    proc: Object
    where: str
    torn: bool = False


@dataclass(frozen=True)
class Process:
    """A process as ps(1) shows it.

    Attributes:
        offset: address of its ``struct proc``.
        ppid: its parent, also while a debugger is in the parent's place.
        uid: the real user id; `euid` and `gid` are the effective ids.
        jid: id of its jail, 0 for the host.
        jail: name of its jail.
        tty: its controlling terminal.
        state: as ps(1) shows it: ``Ss+``.
        start: when it was forked.
        threads: how many.
        emulation: name of its system call interface.
        command: ``p_comm``.
        flags: names of ``p_flag`` and ``p_flag2``.
        notes: what is remarkable.
    """

    offset: int
    pid: int | Absent
    ppid: int | Absent
    pgid: int | Absent
    sid: int | Absent
    uid: int | Absent
    euid: int | Absent
    gid: int | Absent
    jid: int | Absent
    jail: str | Absent
    tty: str | Absent
    state: str | Absent
    start: datetime.datetime | Absent
    threads: int | Absent
    emulation: str | Absent
    command: str | Absent
    flags: tuple[str, ...] | Absent
    notes: tuple[str, ...] = ()


# Finding them


def procs(kernel: Kernel) -> Iterator[Object | Problem]:
    """Every process, as a ``struct proc``, the youngest first, zombies last; and where the lists are irregular."""
    for found in found_procs(kernel):
        yield found.proc if isinstance(found, Found) else found


def found_procs(kernel: Kernel) -> Iterator[Found | Problem]:
    """The same with the list that each was found in.

    Zombies leave ``allproc`` when they exit. ``zombproc`` has them until 13.0; since then, they are only in the pid
    hash, which also keeps who is lost to a broken ``allproc``.
    """
    seen: set[int] = set()
    torn = False
    for name in ("allproc", "zombproc"):
        if name == "allproc" or kernel.has(name):
            for found in _listed(kernel, name, seen):
                torn |= isinstance(found, Problem) and not found.text.startswith("the link back")
                yield found
    if has_table(kernel, "pidhashtbl", "pidhash", "proc", "p_hash"):
        yield from _hashed(kernel, seen, torn=torn)


def _listed(kernel: Kernel, name: str, seen: set[int]) -> Iterator[Found | Problem]:
    try:
        queue = Queue(kernel.structs, kernel.address(name), "proc", "p_list")
    except SymbolError as error:
        yield Problem(name, str(error))
        return
    for proc in queue:
        if proc.address_ not in seen and is_readable(proc, "p_list"):
            seen.add(proc.address_)
            yield Found(proc, name)
    yield from (Problem(name, problem) for problem in queue.problems)


def _hashed(kernel: Kernel, seen: set[int], *, torn: bool) -> Iterator[Found | Problem]:
    table = HashVariable(kernel, "pidhashtbl", "pidhash", "proc", "p_hash")
    for proc in table:
        if proc.address_ not in seen and is_readable(proc, "p_hash"):
            seen.add(proc.address_)
            yield Found(proc, "pidhashtbl", torn)
    yield from (Problem("pidhashtbl", problem) for problem in table.problems)


def is_readable(element: Object, link: str) -> bool:
    """Whether there is anything at an element of a list; if not, the walk says that it ends here."""
    try:
        element.structs_.pointer(element.at_(link))
    except AddressError:
        return False
    return True


def number_of(proc: Object) -> str:
    """A process's pid, or its address where that cannot be read, for messages."""
    pid = attempt(lambda: int(proc.p_pid))
    return f"at {proc.address_:#x}" if isinstance(pid, Absent) else str(pid)


# Choosing some


def chosen(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Found | Problem]:
    """The processes that an analyst wants to see.

    Args:
        kernel: the kernel.
        pids: only these; all if there are none.
        jails: only those in a jail of that id or name; all if there are none.

    Yields:
        Processes, where the lists are irregular, and which of the pids and jails there are not.
    """
    choice = _Choice(pids, jails)
    for found in found_procs(kernel):
        verdict = found if isinstance(found, Problem) else choice.verdict(found.proc)
        if isinstance(verdict, Problem):
            yield verdict
        elif verdict:
            yield found
    yield from choice.misses()


class _Choice:
    """Remembers which of the wanted pids and jails there are."""

    def __init__(self, pids: Iterable[int], jails: Iterable[str]) -> None:
        self._pids, self._jails = frozenset(pids), frozenset(jails)
        self._missing: set[int | Absent] = set(self._pids)
        self._empty: set[str] = set(self._jails)

    def verdict(self, proc: Object) -> bool | Problem:
        """Whether a process is wanted."""
        pid = attempt(lambda: int(proc.p_pid))
        if self._pids and pid not in self._pids:
            return False
        self._missing.discard(pid)
        if not self._jails:
            return True
        jail = attempt(lambda: jail_of(proc))
        if isinstance(jail, Absent):
            return Problem(f"process {number_of(proc)}", "is left out because its jail is not known", proc.address_)
        self._empty.difference_update(jail)
        return not self._jails.isdisjoint(jail)

    def misses(self) -> Iterator[Problem]:
        """What was wanted but not there."""
        for pid in sorted(one for one in self._missing if isinstance(one, int)):
            yield Problem(f"pid {pid}", "there is no such process")
        if not self._pids:
            yield from (
                Problem(f"jail {jail}", "no process is in a jail of that id or name") for jail in sorted(self._empty)
            )


def jail_of(proc: Object) -> tuple[str, str]:
    """``(id, name)`` of a process's jail as text; raises as `Object` members do."""
    prison = proc.p_ucred.cr_prison
    return str(prison.pr_id), str(prison.pr_name)


# Telling of them


def process_records(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Process | Problem]:
    """Every process, or those of `chosen`."""
    reader = ProcessReader(kernel)
    for found in chosen(kernel, pids, jails):
        yield reader.record(found) if isinstance(found, Found) else found


class ProcessReader:
    """Makes records of processes."""

    def __init__(self, kernel: Kernel) -> None:
        """Read what all of them need."""
        self._kernel = kernel
        self._clock = clock_of(kernel)
        self._vmspace0 = attempt(lambda: kernel.address("vmspace0"))
        self._groups = _groups(kernel)

    def record(self, found: Found) -> Process:
        """What there is to tell of a process."""
        proc, fields = found.proc, Fields()
        record = Process(
            offset=proc.address_,
            pid=fields.take("p_pid", lambda: int(proc.p_pid)),
            ppid=fields.take("p_pptr", lambda: parent_pid(proc)),
            pgid=fields.take("p_pgrp", lambda: int(proc.p_pgrp.pg_id)),
            sid=fields.take("p_pgrp", lambda: int(proc.p_pgrp.pg_session.s_sid)),
            uid=fields.take("p_ucred", lambda: int(proc.p_ucred.cr_ruid)),
            euid=fields.take("p_ucred", lambda: int(proc.p_ucred.cr_uid)),
            gid=fields.take("p_ucred", lambda: effective_gid(proc.p_ucred)),
            jid=fields.take("cr_prison", lambda: int(proc.p_ucred.cr_prison.pr_id)),
            jail=fields.take("cr_prison", lambda: str(proc.p_ucred.cr_prison.pr_name)),
            tty=fields.take("s_ttyp", lambda: tty_name(proc)),
            state=fields.take("p_state", lambda: process_state(self._kernel, proc)),
            start=fields.take("p_stats", lambda: self._clock.at(timeval(proc.p_stats.p_start))),
            threads=fields.take("p_numthreads", lambda: int(proc.p_numthreads)),
            emulation=fields.take("p_sysent", lambda: proc.p_sysent.sv_name.text_(64)),
            command=fields.take("p_comm", lambda: str(proc.p_comm)),
            flags=fields.take("p_flag", lambda: process_flags(proc)),
        )
        self._remark(found, fields)
        return replace(record, notes=fields.notes)

    def _remark(self, found: Found, fields: Fields) -> None:
        proc = found.proc
        if found.where == "pidhashtbl" and not is_exiting(proc):
            fields.note(BEHIND_A_TEAR if found.torn else HIDDEN)
        remarks = {
            "p_magic": _magic,
            "p_state": _stage,
            "p_pptr": _tracer,
            "p_pgrp": self._group,
            "p_vmspace": self._space,
        }
        for member, remark in remarks.items():
            text = fields.take(member, lambda remark=remark: remark(proc))  # type: ignore[misc]
            if isinstance(text, str) and text:
                fields.note(text)

    def _group(self, proc: Object) -> str:
        group = int(proc.p_pgrp)
        if not group or self._groups is None or group in self._groups:
            return ""
        return f"p_pgrp leads to {group:#x}, which is not in pgrphashtbl"

    def _space(self, proc: Object) -> str:
        """Only kernel processes, and who exits or is not complete yet, live in the kernel's own address space."""
        if has_flag(proc, P_KPROC | P_SYSTEM) or is_exiting(proc) or proc.p_state == PRS_NEW:
            return ""
        return "a user process with the kernel's address space" if proc.p_vmspace == self._vmspace0 else ""


def _groups(kernel: Kernel) -> frozenset[int] | None:
    """The addresses of all process groups; None where they are not all known."""
    if not has_table(kernel, "pgrphashtbl", "pgrphash", "pgrp", "pg_hash"):
        return None
    table = HashVariable(kernel, "pgrphashtbl", "pgrphash", "pgrp", "pg_hash")
    found = frozenset(group.address_ for group in table)
    return None if table.problems else found


def parent_pid(proc: Object) -> int:
    """The pid of the parent; of a traced process that of the real one; of the kernel itself 0, as in ps(1)."""
    if proc.p_flag & P_TRACED and proc.p_oppid:
        return int(proc.p_oppid)
    return int(proc.p_pptr.p_pid) if proc.p_pptr else 0


def effective_gid(ucred: Object) -> int:
    """The effective group: ``cr_gid`` since 15.0, the first of ``cr_groups`` before."""
    return int(ucred.cr_gid if ucred.has_("cr_gid") else ucred.cr_groups.object_())


def tty_name(proc: Object) -> str | Absent:
    """The controlling terminal's name below /dev; NOT_APPLICABLE if there is none."""
    terminal: Any = proc.p_pgrp.pg_session.s_ttyp if proc.p_flag & P_CONTROLT else None
    return text_of(terminal.t_dev.si_name) if terminal else Absent.NOT_APPLICABLE


def _magic(proc: Object) -> str:
    return "" if proc.p_magic == P_MAGIC else f"p_magic is {proc.p_magic:#x}, not {P_MAGIC:#x}"


def _stage(proc: Object) -> str:
    """Where it is between fork and wait."""
    if is_zombie(proc):
        return _exit_status(proc)
    if proc.p_state == PRS_NEW:
        return "just being created"
    if is_exiting(proc):
        return "exiting"
    return "in execve" if has_flag(proc, P_INEXEC) else ""


def _exit_status(proc: Object) -> str:
    """How a zombie ended: two members since 11.0, the status of wait(2) before."""
    if proc.has_("p_xexit"):
        code, signal = int(proc.p_xexit), int(proc.p_xsig)
    else:
        code, signal = int(proc.p_xstat) >> 8 & 0xFF, int(proc.p_xstat) & 0xFF
    if not signal:
        return f"exited with {code}"
    return f"killed by signal {signal & ~CORE_FLAG}" + (", core dumped" if signal & CORE_FLAG else "")


def _tracer(proc: Object) -> str:
    return f"traced by {proc.p_pptr.p_pid}" if has_flag(proc, P_TRACED) else ""
