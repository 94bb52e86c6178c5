"""Credentials: who a process is, as procstat(1) -s tells it and beyond.

# Reference: sys/sys/ucred.h, sys/kern/kern_prot.c, sys/kern/kern_loginclass.c, sys/security/audit/audit.h
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from .fields import Fields
from .kernel import Kernel
from .needs import unmet
from .objects import Array, Object
from .process import Found, chosen, effective_gid
from .process_flags import CRED_FLAG_CAPMODE, P_KPROC, P_SYSTEM, has_flag
from .records import Absent, Problem, attempt
from .thread import ThreadLists

MAX_GROUPS = 1 << 16
"""More than kern.ngroups is ever set to; 1023 unless it is."""
AU_DEFAUDITID = 0xFFFF_FFFF


@dataclass(frozen=True)
class Credentials:
    """The credentials of a process.

    Attributes:
        offset: address of its ``struct ucred``; processes with equal credentials often share one.
        groups: the supplementary groups, without the effective one.
        jid: id of its jail, 0 for the host.
        login: the name that setlogin(2) gave its session.
        login_class: of login.conf(5).
        capability_mode: whether cap_enter(2) has shut it in.
        audit_id: the user that audit(4) holds responsible; NOT_APPLICABLE while it is not set.
        audit_session: id of the audit session; NOT_APPLICABLE like the user.
        notes: what is remarkable.
    """

    offset: int | Absent
    pid: int | Absent
    command: str | Absent
    euid: int | Absent
    ruid: int | Absent
    svuid: int | Absent
    egid: int | Absent
    rgid: int | Absent
    svgid: int | Absent
    groups: tuple[int, ...] | Absent
    jid: int | Absent
    jail: str | Absent
    login: str | Absent
    login_class: str | Absent
    capability_mode: bool | Absent
    audit_id: int | Absent
    audit_session: int | Absent
    notes: tuple[str, ...] = ()


def credential_records(
    kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()
) -> Iterator[Credentials | Problem]:
    """The credentials of every process, or of those that `chosen` gives."""
    lacking = unmet(kernel, "credentials", ["proc.p_ucred"])
    if lacking:
        yield lacking
    reader = CredentialReader(kernel)
    for found in chosen(kernel, pids, jails):
        yield reader.record(found.proc) if isinstance(found, Found) else found


class CredentialReader:
    """Makes records of credentials."""

    def __init__(self, kernel: Kernel) -> None:
        """Read what all of them need."""
        self._kernel = kernel
        self._threads = ThreadLists(kernel)
        # The kernel's own credentials, which no user process has: a classic way to become root is to point there.
        self._own = attempt(lambda: int(kernel.variable("proc0", "proc").p_ucred))

    def record(self, proc: Object) -> Credentials:
        """Who a process is."""
        fields = Fields()

        def number(member: str) -> int | Absent:
            return fields.take("p_ucred", lambda: int(getattr(proc.p_ucred, member)))

        record = Credentials(
            offset=fields.take("p_ucred", lambda: int(proc.p_ucred)),
            pid=fields.take("p_pid", lambda: int(proc.p_pid)),
            command=fields.take("p_comm", lambda: str(proc.p_comm)),
            euid=number("cr_uid"),
            ruid=number("cr_ruid"),
            svuid=number("cr_svuid"),
            egid=fields.take("p_ucred", lambda: effective_gid(proc.p_ucred)),
            rgid=number("cr_rgid"),
            svgid=number("cr_svgid"),
            groups=fields.take("cr_groups", lambda: _groups(proc.p_ucred.object_(), fields.note)),
            jid=fields.take("cr_prison", lambda: int(proc.p_ucred.cr_prison.pr_id)),
            jail=fields.take("cr_prison", lambda: str(proc.p_ucred.cr_prison.pr_name)),
            login=fields.take("p_pgrp", lambda: str(proc.p_pgrp.pg_session.s_login) or Absent.NOT_APPLICABLE),
            login_class=fields.take("cr_loginclass", lambda: str(proc.p_ucred.cr_loginclass.lc_name)),
            capability_mode=fields.take("p_ucred", lambda: bool(proc.p_ucred.cr_flags & CRED_FLAG_CAPMODE)),
            audit_id=fields.take("p_ucred", lambda: _audit(proc.p_ucred.object_(), "ai_auid")),
            audit_session=fields.take("p_ucred", lambda: _audit(proc.p_ucred.object_(), "ai_asid")),
        )
        self._remark(proc, record, fields)
        return replace(record, notes=fields.notes)

    def _remark(self, proc: Object, record: Credentials, fields: Fields) -> None:
        if isinstance(self._own, int) and record.offset == self._own and not has_flag(proc, P_KPROC | P_SYSTEM):
            fields.note("a user process with the kernel's own credentials")
        for thread in self._threads.of(proc):
            if isinstance(thread, Object):
                different = attempt(lambda thread=thread: _difference(proc, thread))  # type: ignore[misc]
                if isinstance(different, str) and different:
                    fields.note(different)


def _groups(ucred: Object, note: Callable[[str], None]) -> tuple[int, ...] | Absent:
    """The supplementary groups. Since 15.0 ``cr_groups`` holds nothing else; before, the effective one is its first."""
    count, room = int(ucred.cr_ngroups), int(ucred.cr_agroups)
    first = 0 if ucred.has_("cr_gid") else 1
    if not first <= count <= min(room, MAX_GROUPS):
        note(f"cr_ngroups is {count}, with room for {room} (cr_agroups)")
        return Absent.UNREADABLE
    if not count:
        return ()
    groups = Array(ucred.structs_, ucred.cr_groups.reference_, count, int(ucred.cr_groups))
    return tuple(int(group) for group in groups)[first:]


def _audit(ucred: Object, member: str) -> int | Absent:
    """An id of audit(4); both stand for nobody until the user is set (setaudit)."""
    audit = ucred.cr_audit
    user = int(audit.ai_auid) % (1 << 32)
    if user == AU_DEFAUDITID:
        return Absent.NOT_APPLICABLE
    return user if member == "ai_auid" else int(audit.ai_asid)


def _difference(proc: Object, thread: Object) -> str:
    """Threads take over their process's new credentials when they enter the kernel next; till then the old ones hold.

    Since 13.0 a thread may act with other ones for a while (``td_ucred``) than its own (``td_realucred``).
    """
    credentials = thread.td_ucred
    if credentials == proc.p_ucred or not credentials:
        return ""
    if (credentials.cr_uid, credentials.cr_prison) == (proc.p_ucred.cr_uid, proc.p_ucred.cr_prison):
        return ""
    jail = credentials.cr_prison.pr_id
    return f"thread {thread.td_tid} acts as user {credentials.cr_uid} in jail {jail}"
