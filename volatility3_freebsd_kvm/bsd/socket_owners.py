"""Which processes have descriptors of which sockets.

# Reference: sys/sys/filedesc.h, sys/sys/file.h, sys/kern/kern_descrip.c (sysctl_kern_file)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..exceptions import AddressError, KVMError, SymbolError
from .fields import Fields
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .records import Absent, Problem, attempt
from .socket import read_credential

DTYPE_SOCKET = 2
MAX_DESCRIPTORS = 1 << 16
"""More than that in a table is believed only of kernels whose limit allows it (kern.maxfilesperproc)."""
_MOST_DESCRIPTORS = 1 << 24
_PAGE = 4096


@dataclass(frozen=True)
class Holder:
    """A descriptor of a socket.

    Attributes:
        pid, command: the process.
        uid: its effective user, which sockstat(1) shows.
        jid, jail: its jail.
        fd: number of the descriptor.
        file: address of the ``struct file``.
        notes: what is odd about it.
    """

    pid: int | Absent
    command: str | Absent
    uid: int | Absent
    jid: int | Absent
    jail: str | Absent
    fd: int
    file: int
    notes: tuple[str, ...] = ()

    def order(self) -> tuple[int, int]:
        """What to sort by; those whose process is not known come first."""
        return self.pid if isinstance(self.pid, int) else -1, self.fd


@dataclass
class Owners:
    """The descriptors of all sockets.

    Attributes:
        sockets: by address of the socket.
        known: whether descriptor tables can be read at all; without that nobody can say that a socket has no owner.
        problems: where the walk was irregular.
    """

    sockets: dict[int, list[Holder]] = field(default_factory=dict)
    known: bool = True
    problems: list[Problem] = field(default_factory=list)

    def of(self, socket: int) -> tuple[Holder, ...]:
        """The descriptors of a socket, by process: `allproc` has the youngest in front."""
        return tuple(sorted(self.sockets.get(socket, ()), key=Holder.order))


def find_owners(kernel: Kernel) -> Owners:
    """Walk the descriptor tables of all processes."""
    owners = Owners()
    try:
        table = _Shape.of(kernel)
        processes = Queue(kernel.structs, kernel.address("allproc"), "proc", "p_list")
        sockets = _operations(kernel)
    except SymbolError as error:
        owners.known = False
        owners.problems.append(Problem("descriptor tables", f"{error}, so the owners of sockets are not known"))
        return owners
    limit = _limit(kernel)
    for proc in processes:
        _walk(kernel, proc, table, sockets, owners, limit)
    owners.problems += [Problem("allproc", problem) for problem in processes.problems]
    return owners


def _operations(kernel: Kernel) -> int:
    """The address of ``socketops``; 0 where it is not known."""
    return kernel.address("socketops") if kernel.has("socketops") else 0


def _limit(kernel: Kernel) -> int:
    """How many entries a table may have; it grows in steps, to twice as many as were needed."""
    allowed = attempt(lambda: kernel.integer("maxfilesperproc"))
    if isinstance(allowed, Absent) or allowed <= MAX_DESCRIPTORS:
        return MAX_DESCRIPTORS
    return min(2 * allowed, _MOST_DESCRIPTORS)


# Tables


@dataclass(frozen=True)
class _Shape:
    """Of tables and their entries; up to 10 the number of entries is in ``struct filedesc``."""

    old: bool
    step: int
    at_file: int

    @classmethod
    def of(cls, kernel: Kernel) -> _Shape:
        structs = kernel.structs
        structs.member("proc", "p_fd")
        old = structs.has("filedesc", "fd_ofiles")
        structs.member("filedesc", "fd_ofiles" if old else "fd_files")
        structs.member("file", "f_data")
        return cls(old, structs.size("filedescent"), structs.offset("filedescent", "fde_file"))

    def place(self, kernel: Kernel, descriptors: Object) -> tuple[int, int]:
        """``(address of the first entry, number of entries)``."""
        if self.old:
            return int(descriptors.fd_ofiles), int(descriptors.fd_nfiles)
        table = descriptors.fd_files.as_("fdescenttbl")
        return table.address_ + kernel.structs.offset(table.type_, "fdt_ofiles"), int(table.fdt_nfiles)


def _walk(kernel: Kernel, proc: Object, shape: _Shape, sockets: int, owners: Owners, limit: int) -> None:
    """All that a process has open; kernel processes may have no table."""
    fields = Fields()
    pid = fields.take("p_pid", lambda: int(proc.p_pid))
    where = f"descriptors of process {pid if isinstance(pid, int) else f'at {proc.address_:#x}'}"
    try:
        if not proc.p_fd:
            return
        first, count = shape.place(kernel, proc.p_fd.as_("filedesc"))
    except KVMError as error:
        owners.problems.append(Problem(where, str(error), proc.address_))
        return
    if not 0 <= count <= limit:
        text = f"{count} descriptors are impossible; the first {limit} were looked at"
        owners.problems.append(Problem(where, text, proc.address_))
        count = limit
    command = fields.take("p_comm", lambda: str(proc.p_comm))
    user = read_credential(fields, "p_ucred", lambda: proc.p_ucred)
    bad: list[str] = []
    for fd, file in _entries(kernel, shape, first, count, bad):
        try:
            socket, notes = _socket_of(kernel, file, sockets)
        except KVMError as error:
            bad.append(f"{fd} leads nowhere: {error}")
            continue
        if socket:
            holder = Holder(pid, command, user.uid, user.jid, user.jail, fd, file, (*notes, *fields.notes))
            owners.sockets.setdefault(socket, []).append(holder)
    if bad:
        more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
        owners.problems.append(Problem(where, bad[0] + more, proc.address_))


def _entries(kernel: Kernel, shape: _Shape, first: int, count: int, bad: list[str]) -> Iterator[tuple[int, int]]:
    """``(descriptor, address of its file)`` of those in use; a page that cannot be read is left out."""
    fd = 0
    while fd < count:
        at = first + fd * shape.step + shape.at_file
        try:
            file = kernel.structs.pointer(at)
        except AddressError as error:
            bad.append(f"{fd} cannot be read: {error}")
            fd += -(-(_PAGE - at % _PAGE) // shape.step)
            continue
        if file:
            yield fd, file
        fd += 1


def _socket_of(kernel: Kernel, address: int, sockets: int) -> tuple[int, tuple[str, ...]]:
    """``(address of the socket, notes)``; 0 for other files. Functions tell more than the number in ``f_type``."""
    file = kernel.object("file", address)
    by_type = int(file.f_type) == DTYPE_SOCKET
    by_functions = int(file.f_ops) == sockets if sockets and file.has_("f_ops") else by_type
    if not by_type and not by_functions:
        return 0, ()
    notes: tuple[str, ...] = ()
    if by_type != by_functions:
        odd = f"f_type is {int(file.f_type)}" if by_functions else "f_ops is not socketops"
        notes = (f"{odd} in file {address:#x}",)
    return int(file.f_data), notes
