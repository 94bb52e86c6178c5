"""SCTP: its endpoints and their associations, as far as the kernel's or the module's types tell.

# Reference: sys/netinet/sctp_pcb.h, sctp_structs.h, sctp_constants.h, sctp_sysctl.c (sctp_sysctl_handle_assoclist)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import KVMError
from ..image.chain import LIMIT
from .addresses import InterfaceNames, read_sockaddr
from .kernel import View
from .lists import Queue
from .objects import Object
from .records import Problem

SCTP_PCB_FLAGS_ACCEPTING = 0x8
SCTP_STATE_SHUTDOWN_PENDING = 0x80
MAX_ADDRESSES = 1024
"""Of an endpoint or association."""
STATES = {
    0x02: "COOKIE_WAIT",
    0x04: "COOKIE_ECHOED",
    0x08: "ESTABLISHED",
    0x10: "SHUTDOWN_SENT",
    0x20: "SHUTDOWN_RECEIVED",
    0x40: "SHUTDOWN_ACK_SENT",
}
"""SCTP_STATE_OPEN and others, by the names that sockstat(1) has for them."""


@dataclass(frozen=True)
class Endpoint:
    """A ``struct sctp_inpcb``, which begins with its inpcb, or one of its associations.

    Attributes:
        inpcb: address of the endpoint.
        association: address of the ``struct sctp_tcb``, 0 for the endpoint itself.
        state: ``LISTEN``, ``CLOSED`` or that of the association.
        local: addresses that it is bound to; none if it is bound to all.
        foreign: addresses of the peer.
        foreign_port: 0 for none.
    """

    inpcb: int
    association: int
    state: str
    local: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    foreign_port: int = 0


@dataclass
class _Walk:
    """What all steps need."""

    view: View
    names: InterfaceNames
    problems: list[Problem]

    @property
    def where(self) -> str:
        return f"sctp in vnet {self.view.vnet.address:#x}" if self.view.vnet else "sctp"

    def queue(self, head: int, type_name: str, link: str, limit: int = LIMIT) -> Iterator[Object]:
        """The elements of a queue; what is irregular joins the problems."""
        queue = Queue(self.view.kernel.structs, head, type_name, link, limit=limit)
        yield from queue
        self.problems += [Problem(f"{type_name} of {self.where}", text, head) for text in queue.problems]

    def text(self, store: int) -> str:
        """A ``union sctp_sockstore``, which is one kind of socket address or another."""
        return read_sockaddr(self.view.kernel, store, self.names).text


def sctp_endpoints(view: View, names: InterfaceNames) -> Iterator[Endpoint | Problem]:
    """The endpoints of a vnet, each before its associations; none where SCTP is not there.

    Raises:
        SymbolError: SCTP is there, but the types do not know it.
    """
    if view.find("system_base_info").address is None:
        return
    walk = _Walk(view, names, [])
    base = view.variable("system_base_info", "sctp_base_info")
    for inpcb in walk.queue(base.at_("sctppcbinfo.listhead"), "sctp_inpcb", "sctp_list"):
        try:
            yield from _endpoint(walk, inpcb)
        except KVMError as error:
            yield Problem(walk.where, f"endpoint {inpcb.address_:#x}: {error}", inpcb.address_)
    yield from walk.problems


def _endpoint(walk: _Walk, inpcb: Object) -> Iterator[Endpoint]:
    bound = walk.queue(inpcb.at_("sctp_addr_list"), "sctp_laddr", "sctp_nxt_addr", MAX_ADDRESSES)
    local = tuple(walk.text(one.ifa.as_("sctp_ifa").at_("address")) for one in bound)
    state = "LISTEN" if int(inpcb.sctp_flags) & SCTP_PCB_FLAGS_ACCEPTING else "CLOSED"
    yield Endpoint(inpcb.address_, 0, state, local)
    for block in walk.queue(inpcb.at_("sctp_asoc_list"), "sctp_tcb", "sctp_tcblist"):
        nets = walk.queue(block.at_("asoc.nets"), "sctp_nets", "sctp_next", MAX_ADDRESSES)
        foreign = tuple(walk.text(net.at_("ro._l_addr")) for net in nets)
        port = int.from_bytes(walk.view.kernel.structs.read(block.at_("rport"), 2), "big")
        yield Endpoint(inpcb.address_, block.address_, _state(int(block.asoc.state)), local, foreign, port)


def _state(flags: int) -> str:
    """One bit is the state; another says that it is about to be shut down."""
    if flags & SCTP_STATE_SHUTDOWN_PENDING:
        return "SHUTDOWN_PENDING"
    return next((name for bit, name in STATES.items() if flags & bit), "CLOSED")
