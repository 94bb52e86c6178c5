"""What a descriptor of a socket refers to: protocol, addresses, state, and the socket at the other end.

# Reference: sys/sys/socketvar.h, sys/netinet/in_pcb.h, tcp_var.h, sys/sys/unpcb.h, usr.bin/sockstat/main.c
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import AddressError, KVMError, SymbolError
from .addresses import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    ANY,
    InterfaceNames,
    address_text,
    endpoint,
    has_scope,
    sockaddr_bytes,
    unix_path,
    unspecified,
)
from .inpcb import End, endpoints, versions_of
from .kernel import Kernel
from .objects import Object
from .protocols import (
    INP_TIMEWAIT,
    IP_PROTOCOLS,
    SO_ACCEPTCONN,
    SOCKET_TYPES,
    TRANSPORTS,
    Protocol,
    read_protocol,
    tcp_state,
)
from .records import Absent, attempt


@dataclass(frozen=True)
class SocketDescription:
    """A socket in one line.

    Attributes:
        protocol: as sockstat(1) has it: ``tcp4``, ``udp46``, ``icmp4``; ``stream``, ``dgram``, ``seqpacket`` of
            unix(4); else the family: ``netlink``.
        name: both ends and the state: ``192.0.2.10:22 <-> 198.51.100.7:50022 ESTABLISHED``; of unix(4) only the state.
        path: of unix(4): what it was bound to, as its process said it.
        vnode: of unix(4): address of the vnode that it is bound to, 0 for none.
        peer: of unix(4): address of the socket at the other end, 0 for none.
        peer_path: of unix(4): what that one is bound to.
        notes: what cannot be read.
    """

    protocol: str = ""
    name: str = ""
    path: str = ""
    vnode: int = 0
    peer: int = 0
    peer_path: str = ""
    notes: tuple[str, ...] = ()


def describe_socket(kernel: Kernel, address: int) -> SocketDescription:
    """The socket at an address; never raises: what cannot be read is told in its notes."""
    socket = kernel.object("socket", address)
    try:
        protocol = read_protocol(kernel, int(socket.so_proto))
        pcb = int(socket.so_pcb)
        if not pcb:
            return SocketDescription(_family(protocol, socket), "closed", notes=protocol.notes)
        if protocol.family == AF_UNIX:
            return _describe_unix(kernel, socket, kernel.object("unpcb", pcb), protocol)
        if protocol.family in (AF_INET, AF_INET6):
            return _describe_internet(kernel, socket, kernel.object("inpcb", pcb), protocol)
        return SocketDescription(_family(protocol, socket), notes=protocol.notes)
    except (AddressError, SymbolError) as error:
        return SocketDescription(notes=(str(error),))


def _family(protocol: Protocol, socket: Object) -> str:
    if protocol.family in (AF_INET, AF_INET6):
        return _transport(protocol) or "raw"
    if protocol.family == AF_UNIX:
        number = attempt(lambda: int(socket.so_type))
        return SOCKET_TYPES.get(number, f"type {number}") if isinstance(number, int) else "unix"
    return protocol.family_name


def _transport(protocol: Protocol) -> str:
    return TRANSPORTS.get(protocol.number, "") if isinstance(protocol.number, int) else ""


# The Internet


def _describe_internet(kernel: Kernel, socket: Object, inpcb: Object, protocol: Protocol) -> SocketDescription:
    vflag = int(inpcb.inp_vflag)
    local, foreign = endpoints(inpcb, "inp_inc", vflag)
    name = _end_text(kernel, socket, local)
    if foreign[1] or not unspecified(foreign[0]):
        name += f" <-> {_end_text(kernel, socket, foreign)}"
    notes = protocol.notes
    if _transport(protocol) == "tcp":
        state = attempt(lambda: _tcp_state(kernel, inpcb))
        name += "" if isinstance(state, Absent) else f" {state}"
        if state is Absent.UNREADABLE:
            notes = (*notes, "its TCP control block cannot be read")
    return SocketDescription(_protocol_name(protocol, inpcb) + str(versions_of(vflag)), name, notes=notes)


def _protocol_name(protocol: Protocol, inpcb: Object) -> str:
    if _transport(protocol):
        return _transport(protocol)
    # A raw socket is for the protocol that socket(2) was called with.
    number = attempt(lambda: int(inpcb.inp_ip_p))
    return IP_PROTOCOLS.get(number, f"ip{number}-") if isinstance(number, int) else "raw"


def _end_text(kernel: Kernel, socket: Object, end: End) -> str:
    data, port = end
    if unspecified(data):
        return endpoint(ANY, port)
    names = None
    if len(data) == 16 and has_scope(data):
        vnet = attempt(lambda: kernel.vnet(int(socket.so_vnet) or None))
        names = None if isinstance(vnet, Absent) else InterfaceNames(vnet)
    text = address_text(data, names)
    return endpoint(f"[{text}]" if len(data) == 16 else text, port)


def _tcp_state(kernel: Kernel, inpcb: Object) -> str:
    """`t_state`: of a tcpcb that begins with its inpcb (14.0), or that ``inp_ppcb`` leads to unless it is a tcptw."""
    offset, reference = kernel.structs.member("tcpcb", "t_inpcb")
    if reference["kind"] == "struct":
        return tcp_state(int(kernel.object("tcpcb", inpcb.address_ - offset).t_state))
    if int(inpcb.inp_flags) & INP_TIMEWAIT:
        return "TIME_WAIT"
    return tcp_state(int(inpcb.inp_ppcb.as_("tcpcb").t_state))


# unix(4)


def _describe_unix(kernel: Kernel, socket: Object, unpcb: Object, protocol: Protocol) -> SocketDescription:
    notes = list(protocol.notes)
    path = _path_of(kernel, unpcb, notes)
    listens = bool(int(socket.so_options) & SO_ACCEPTCONN)
    other = unpcb.unp_conn
    peer, peer_path = 0, ""
    if other:
        try:
            connected = other.as_("unpcb")
            peer = int(connected.unp_socket)
            peer_path = _path_of(kernel, connected, notes)
        except KVMError as error:
            notes.append(f"the other end cannot be read: {error}")
    return SocketDescription(
        protocol=_family(protocol, socket),
        name="LISTEN" if listens else "",
        path=path,
        vnode=int(unpcb.unp_vnode),
        peer=peer,
        peer_path=peer_path,
        notes=tuple(notes),
    )


def _path_of(kernel: Kernel, unpcb: Object, notes: list[str]) -> str:
    address = int(unpcb.unp_addr)
    if not address:
        return ""
    try:
        return unix_path(sockaddr_bytes(kernel.structs, address))
    except AddressError as error:
        notes.append(f"its address cannot be read: {error}")
        return ""
