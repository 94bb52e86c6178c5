"""Unix-domain sockets: ``struct unpcb``, by the lists of all and by what they are connected to.

# Reference: sys/sys/unpcb.h, sys/sys/un.h, sys/kern/uipc_usrreq.c (unp_shead, unp_dhead, unp_sphead, unp_pcblist)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..exceptions import KVMError, SymbolError
from .addresses import sockaddr_bytes, unix_path
from .fields import Fields
from .inpcb import BACK_LINK
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .records import Absent, Problem, attempt

HEADS = {"stream": "unp_shead", "dgram": "unp_dhead", "seqpacket": "unp_sphead"}
"""Static variables: a kernel whose static symbols were stripped lacks them."""
UNP_HAVEPC = 0x1
MAX_SENDERS = 1 << 16
_NONE = Absent.NOT_APPLICABLE


@dataclass(frozen=True)
class Unpcb:
    """A ``struct unpcb``.

    Attributes:
        address: of it.
        socket: address of its socket, 0 for none.
        path: what it is bound to; NOT_APPLICABLE if it is not bound.
        peer: address of the unpcb it is connected to, 0 for none.
        senders: addresses of the datagram sockets that are connected to it.
        vnode: of the file it is bound to, 0 for none.
        peer_uid, peer_pid: who connected, or listened, when that was done; the pid is kept since 13.0.
        generation: ``unp_gencnt``.
        inode: the number that fstat(2) shows.
        notes: what cannot be read.
    """

    address: int
    socket: int | Absent
    path: str | Absent
    peer: int | Absent
    senders: tuple[int, ...]
    vnode: int | Absent
    peer_uid: int | Absent
    peer_pid: int | Absent
    generation: int | Absent
    inode: int | Absent
    notes: tuple[str, ...] = ()


def read_unpcb(kernel: Kernel, address: int) -> Unpcb:
    """The control block at an address; what cannot be had is `Absent` and told in its notes."""
    unpcb = kernel.object("unpcb", address)
    fields = Fields()
    socket = fields.take(f"unpcb {address:#x}", lambda: int(unpcb.unp_socket))
    return Unpcb(
        address,
        socket,
        fields.take("unp_addr", lambda: _path(kernel, int(unpcb.unp_addr))),
        attempt(lambda: int(unpcb.unp_conn)),
        _senders(kernel, fields, unpcb),
        attempt(lambda: int(unpcb.unp_vnode)),
        _peer_credential(unpcb, "cr_uid"),
        _peer_credential(unpcb, "cr_pid"),
        attempt(lambda: int(unpcb.unp_gencnt)),
        attempt(lambda: int(unpcb.unp_ino)),
        fields.notes,
    )


def _path(kernel: Kernel, address: int) -> str | Absent:
    return unix_path(sockaddr_bytes(kernel.structs, address)) if address else _NONE


def _senders(kernel: Kernel, fields: Fields, unpcb: Object) -> tuple[int, ...]:
    try:
        queue = Queue(kernel.structs, unpcb.at_("unp_refs"), "unpcb", "unp_reflink", limit=MAX_SENDERS)
        found = tuple(queue.addresses())
    except SymbolError:
        return ()
    for problem in queue.problems:
        fields.note(f"the list of sockets connected to it {problem}")
    return found


def _peer_credential(unpcb: Object, name: str) -> int | Absent:
    """Valid once there is a connection, which a flag says."""

    def value() -> Any:
        return int(getattr(unpcb.unp_peercred, name)) if unpcb.unp_flags & UNP_HAVEPC else _NONE

    return attempt(value)


# Lists


@dataclass
class UnixLists:
    """The control blocks of all unix sockets.

    Attributes:
        types: ``stream``, ``dgram`` or ``seqpacket``, by address, in the order of the lists.
        sound: the types whose list was walked to its end; what it lacks is not there.
        problems: where it was not.
    """

    types: dict[int, str] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def unix_lists(kernel: Kernel) -> UnixLists:
    """Walk the lists of each type, and compare with ``unp_count``."""
    lists = UnixLists()
    try:
        kernel.structs.member("unpcb", "unp_link")
    except SymbolError as error:
        lists.problems.append(Problem("lists of unix sockets", str(error)))
        return lists
    for kind, head in HEADS.items():
        try:
            queue = Queue(kernel.structs, kernel.address(head), "unpcb", "unp_link")
            for address in queue.addresses():
                lists.types.setdefault(address, kind)
        except KVMError as error:
            lists.problems.append(Problem(f"list of {kind} sockets", str(error)))
            continue
        lists.problems += [Problem(f"list of {kind} sockets", problem) for problem in queue.problems]
        if all(problem.startswith(BACK_LINK) for problem in queue.problems):
            lists.sound.add(kind)
    counted = attempt(lambda: kernel.integer("unp_count", signed=False))
    if len(lists.sound) == len(HEADS) and isinstance(counted, int) and counted != len(lists.types):
        text = f"{len(lists.types)} found, but the kernel counts {counted}"
        lists.problems.append(Problem("lists of unix sockets", text))
    return lists
