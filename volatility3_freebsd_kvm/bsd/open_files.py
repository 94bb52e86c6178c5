"""All that processes have open: descriptors, and the directories, program and terminal that they use.

# Reference: lib/libprocstat/libprocstat.c (procstat_getfiles_kvm), usr.bin/fstat, usr.bin/procstat/procstat_files.c
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..exceptions import AddressError, KVMError, SymbolError
from .capability import limits_of, rights_of
from .file import Directories, Entry, Files, Table, directories_of, needed, table_of
from .file_objects import NOTHING, Referent, Referents
from .kernel import Kernel
from .needs import unmet
from .objects import Object
from .path import Paths, VnodePath, seen_from
from .process import Found, chosen
from .process_flags import is_zombie
from .records import Absent, Problem, attempt

CWD, ROOT, JAIL, ABI_ROOT, TEXT, TERMINAL, TRACE = "cwd", "root", "jail", "abi root", "text", "ctty", "trace"
SHARED = "*"
"""Stands for all descriptors of a process that uses the table of another."""
OUTSIDE = "outside the root directory of the process"


@dataclass(frozen=True)
class Owner:
    """A process, as far as what it has open is concerned."""

    proc: Object
    pid: int | Absent
    command: str | Absent
    uid: int | Absent
    jid: int | Absent
    root: VnodePath | None = None


@dataclass(frozen=True)
class OpenFile:
    """Something that a process has open.

    Attributes:
        pid, command, uid, jid: the process, its effective user and its jail.
        fd: number of the descriptor; ``cwd``, ``root``, ``jail``, ``abi root``, ``text``, ``ctty`` or ``trace``;
            ``*`` for all those of a table that another process has shown already.
        kind: ``vnode``, ``socket``, ``pipe``, …: a DTYPE.
        flags: ``rwasfndl`` as procstat -f has them.
        fd_flags: of the descriptor itself: ``close-on-exec``.
        references: to the open file.
        offset: in the file.
        rights: names of capability rights; ``all`` for a descriptor without limits.
        referent: what it refers to.
        seen_as: its name as the process sees it, if that is another.
        file: address of the `struct file`.
        data: address of the vnode, socket, pipe, …
        notes: what is odd, what is not known.
    """

    pid: int | Absent
    command: str | Absent
    uid: int | Absent
    jid: int | Absent
    fd: str
    kind: str | Absent = Absent.NOT_APPLICABLE
    flags: str | Absent = Absent.NOT_APPLICABLE
    fd_flags: tuple[str, ...] | Absent = Absent.NOT_APPLICABLE
    references: int | Absent = Absent.NOT_APPLICABLE
    offset: int | Absent = Absent.NOT_APPLICABLE
    rights: tuple[str, ...] | Absent = Absent.NOT_APPLICABLE
    referent: Referent = NOTHING
    seen_as: str | Absent = Absent.NOT_APPLICABLE
    file: int | Absent = Absent.NOT_APPLICABLE
    data: int | Absent = Absent.NOT_APPLICABLE
    notes: tuple[str, ...] = ()


def open_files(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[OpenFile | Problem]:
    """All that processes have open, process by process.

    Args:
        kernel: the kernel.
        pids: only of these; of all if there are none.
        jails: only of those in a jail of that id or name.
    """
    lacking = unmet(kernel, "descriptors", needed())
    if lacking:
        yield lacking
        return
    lister = _Lister(kernel)
    pids, jails = tuple(pids), tuple(jails)
    for found in chosen(kernel, pids, jails):
        if isinstance(found, Found):
            yield from lister.list(found.proc)
        else:
            yield found
    if not pids and not jails:
        yield from lister.missing_users()


class _Lister:
    """Lists process by process and remembers the tables that were shown."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.files = Files(kernel)
        self.paths = Paths(kernel)
        self.referents = Referents(kernel, self.files, self.paths)
        self.shown: dict[int, int | Absent] = {}
        self.users: dict[int, list[Table]] = {}

    def list(self, proc: Object) -> Iterator[OpenFile | Problem]:
        if attempt(lambda: is_zombie(proc)) is True:
            return  # It keeps its terminal in mind, but has nothing open any more.
        owner = Owner(
            proc,
            pid=attempt(lambda: int(proc.p_pid)),
            command=attempt(lambda: str(proc.p_comm)),
            uid=attempt(lambda: int(proc.p_ucred.as_("ucred").cr_uid)),
            jid=attempt(lambda: int(proc.p_ucred.as_("ucred").cr_prison.as_("prison").pr_id)),
        )
        where = f"process {owner.pid}" if isinstance(owner.pid, int) else f"process at {proc.address_:#x}"
        places: Directories | None = None
        try:
            places = directories_of(self.kernel, proc)
        except KVMError as error:
            yield Problem(f"directories of {where}", str(error), proc.address_)
        if places and places.root:
            owner = replace(owner, root=self.paths.of(places.root))
        yield from self._special(owner, places, where)
        try:
            table = table_of(self.files, proc)
        except KVMError as error:
            yield Problem(f"descriptors of {where}", str(error), proc.address_)
            return
        if table:
            self.users.setdefault(table.address, []).append(table)
            yield from self._descriptors(owner, table, where)

    def missing_users(self) -> Iterator[Problem]:
        """Tables that more processes use than there are in the lists of processes; after all were listed."""
        for address, tables in self.users.items():
            if tables[0].references > len(tables):
                where = f"descriptors of process {self.shown[address]}"
                text = f"{tables[0].references} processes share them, but only {len(tables)} of those are known"
                yield Problem(where, text, address)

    # What is no descriptor

    def _special(self, owner: Owner, places: Directories | None, where: str) -> Iterator[OpenFile | Problem]:
        found: list[tuple[str, int]] = []
        for name, get in ((TEXT, _text), (TERMINAL, _terminal), (TRACE, _trace)):
            try:
                found.append((name, get(owner.proc)))
            except AddressError as error:
                yield Problem(f"{name} of {where}", str(error), owner.proc.address_)
            except SymbolError:
                continue
        if places:
            found += [(CWD, places.current), (ROOT, places.root), (JAIL, places.jail)]
            found += [(ABI_ROOT, places.abi_root)] if places.abi_root != places.root else []
        for name, vnode in found:
            if vnode:
                yield self._of_vnode(owner, name, vnode)

    def _of_vnode(self, owner: Owner, name: str, vnode: int) -> OpenFile:
        referent = self.referents.of_vnode(vnode)
        if (name == TEXT and referent.name is Absent.NOT_APPLICABLE) or not self.paths.of(vnode).complete:
            referent = _named_by_exec(owner.proc, referent, self.paths) if name == TEXT else referent
        seen_as, notes = self._seen_as(owner, referent)
        return self._record(owner, name, kind="vnode", referent=referent, seen_as=seen_as, data=vnode, notes=notes)

    # Descriptors

    def _descriptors(self, owner: Owner, table: Table, where: str) -> Iterator[OpenFile | Problem]:
        if table.address in self.shown:
            other = self.shown[table.address]
            yield self._record(owner, SHARED, notes=(f"shares the descriptors of process {other}",))
            return
        self.shown[table.address] = owner.pid
        for entry in table:
            yield self._of_entry(owner, entry)
        yield from (Problem(f"descriptors of {where}", problem, table.address) for problem in table.problems)

    def _of_entry(self, owner: Owner, entry: Entry) -> OpenFile:
        fd = str(entry.number)
        try:
            file = self.files.read(entry.file)
        except KVMError as error:
            return self._record(owner, fd, file=entry.file.address_, notes=(*entry.notes, str(error)))
        referent = self.referents.of(file)
        seen_as, outside = self._seen_as(owner, referent)
        limits = attempt(lambda: limits_of(entry.entry.fde_caps))
        return self._record(
            owner,
            fd,
            kind=file.kind,
            flags=file.flags,
            fd_flags=entry.flags,
            references=file.references,
            offset=file.offset if file.kind in ("vnode", "shm", "dev") else Absent.NOT_APPLICABLE,
            rights=attempt(lambda: rights_of(entry.entry.fde_caps)),
            referent=referent,
            seen_as=seen_as,
            file=file.address,
            data=file.vnode or file.data,
            notes=(*entry.notes, *file.notes, *(limits if isinstance(limits, tuple) else ()), *outside),
        )

    def _record(self, owner: Owner, fd: str, **fields: object) -> OpenFile:
        record = OpenFile(owner.pid, owner.command, owner.uid, owner.jid, fd)
        return replace(record, **fields)  # type: ignore[arg-type]

    def _seen_as(self, owner: Owner, referent: Referent) -> tuple[str | Absent, tuple[str, ...]]:
        """The name as the process sees it, unless it sees all."""
        if referent.bound:
            return referent.bound, ()
        name = referent.name
        if not referent.path or not isinstance(name, str) or owner.root is None or owner.root.path == "/":
            return Absent.NOT_APPLICABLE, ()
        if not owner.root.complete:
            return Absent.NOT_APPLICABLE, ()
        seen = seen_from(VnodePath(name), owner.root)
        return (seen, ()) if seen else (Absent.NOT_APPLICABLE, (OUTSIDE,))


def _text(proc: Object) -> int:
    return int(proc.p_textvp)


def _terminal(proc: Object) -> int:
    group = proc.p_pgrp
    if not group:
        return 0
    session = group.as_("pgrp").pg_session
    return int(session.as_("session").s_ttyvp) if session else 0


def _trace(proc: Object) -> int:
    """Where ktrace(2) writes; behind a structure of its own since 14."""
    if proc.has_("p_tracevp"):
        return int(proc.p_tracevp)
    parameters = proc.p_ktrioparms
    return int(parameters.as_("ktr_io_params").vp) if parameters else 0


def _named_by_exec(proc: Object, referent: Referent, paths: Paths) -> Referent:
    """A program whose name is not cached: since 13.0 a process remembers its directory and its name."""
    name = attempt(lambda: str(proc.p_binname.text_()))
    directory = attempt(lambda: int(proc.p_textdvp))
    if not (isinstance(name, str) and isinstance(directory, int) and name and directory):
        return referent
    path = paths.of(directory).below(name)
    return replace(referent, name=path.path, path=True, notes=("named as when it was started", *referent.notes))
