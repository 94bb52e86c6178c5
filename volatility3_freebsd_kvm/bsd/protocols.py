"""Names and numbers of protocols, socket options and states.

# Reference: sys/sys/socket.h, socketvar.h, sockstate.h, protosw.h, domain.h, sys/netinet/in.h, in_pcb.h, tcp_fsm.h
"""

from __future__ import annotations

from dataclasses import dataclass

from .addresses import AF_INET, AF_INET6, AF_UNIX
from .fields import Fields
from .kernel import Kernel
from .records import Absent, attempt

TRANSPORTS = {6: "tcp", 17: "udp", 132: "sctp", 136: "udplite", 254: "divert", 258: "divert"}
"""By ``pr_protocol`` in the domains of IP; the other sockets there are raw. Divert sockets moved from 254 to 258."""
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET = 1, 2, 3, 4, 5
SOCKET_TYPES = {1: "stream", 2: "dgram", 3: "raw", 4: "rdm", 5: "seqpacket"}
FAMILIES = {
    AF_UNIX: "unix",
    AF_INET: "inet",
    AF_INET6: "inet6",
    17: "route",
    27: "key",
    32: "netgraph",
    36: "bluetooth",
}
FAMILIES |= {38: "netlink", 40: "inet_sdp", 42: "inet6_sdp", 43: "hyperv", 44: "divert"}
"""Those with sockets."""
IP_PROTOCOLS = {0: "ip", 1: "icmp", 2: "igmp", 4: "ipencap", 41: "ipv6", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah"}
IP_PROTOCOLS |= {58: "icmp6", 89: "ospf", 97: "etherip", 103: "pim", 108: "ipcomp", 112: "carp", 240: "pfsync"}
IP_PROTOCOLS |= {255: "raw"}
"""Names of protocols(5) for raw sockets; the rest are ``raw`` with a note."""

SO_ACCEPTCONN = 0x2
SOCKET_OPTIONS = {
    0x1: "SO_DEBUG",
    0x2: "SO_ACCEPTCONN",
    0x4: "SO_REUSEADDR",
    0x8: "SO_KEEPALIVE",
    0x10: "SO_DONTROUTE",
    0x20: "SO_BROADCAST",
    0x40: "SO_USELOOPBACK",
    0x80: "SO_LINGER",
    0x100: "SO_OOBINLINE",
    0x200: "SO_REUSEPORT",
    0x400: "SO_TIMESTAMP",
    0x800: "SO_NOSIGPIPE",
    0x1000: "SO_ACCEPTFILTER",
    0x2000: "SO_BINTIME",
    0x4000: "SO_NO_OFFLOAD",
    0x8000: "SO_NO_DDP",
    0x10000: "SO_REUSEPORT_LB",
    0x20000: "SO_RERROR",
}
SS_NOFDREF = 0x1
"""No file refers to it any more; the bit has no meaning since 14.0."""
SOCKET_STATES = {
    0x2: "SS_ISCONNECTED",
    0x4: "SS_ISCONNECTING",
    0x8: "SS_ISDISCONNECTING",
    0x100: "SS_NBIO",
    0x200: "SS_ASYNC",
    0x400: "SS_ISCONFIRMING",
    0x2000: "SS_ISDISCONNECTED",
}

INP_IPV4, INP_IPV6 = 0x1, 0x2
INP_INHASHLIST, INP_TIMEWAIT, INP_DROPPED, INP_SOCKREF = 0x2000, 0x0100_0000, 0x0400_0000, 0x0800_0000

TCP_STATES: tuple[str, ...] = (
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "CLOSE_WAIT",
    "FIN_WAIT_1",
    "CLOSING",
)
TCP_STATES += ("LAST_ACK", "FIN_WAIT_2", "TIME_WAIT")
TCP_FLAGS = {
    0x1: "TF_ACKNOW",
    0x2: "TF_DELACK",
    0x4: "TF_NODELAY",
    0x8: "TF_NOOPT",
    0x10: "TF_SENTFIN",
    0x20: "TF_REQ_SCALE",
    0x40: "TF_RCVD_SCALE",
    0x80: "TF_REQ_TSTMP",
    0x100: "TF_RCVD_TSTMP",
    0x200: "TF_SACK_PERMIT",
    0x400: "TF_NEEDSYN",
    0x800: "TF_NEEDFIN",
    0x1000: "TF_NOPUSH",
    0x10000: "TF_MORETOCOME",
    0x40000: "TF_LASTIDLE",
    0x80000: "TF_RXWIN0SENT",
    0x100000: "TF_FASTRECOVERY",
    0x200000: "TF_WASFRECOVERY",
    0x400000: "TF_SIGNATURE",
    0x1000000: "TF_TSO",
    0x2000000: "TF_TOE",
    0x20000000: "TF_CONGRECOVERY",
    0x40000000: "TF_WASCRECOVERY",
    0x80000000: "TF_FASTOPEN",
}
"""``t_flags``: those that mean the same in every release from 10 on."""
TF_TOE = 0x2000000


@dataclass(frozen=True)
class Protocol:
    """What a socket's ``struct protosw`` and ``struct domain`` say.

    Attributes:
        address: of the protosw.
        type: SOCK_STREAM, …
        number: IPPROTO_TCP, …
        family: AF_INET, …
        domain: the domain's own name: ``internet``, ``local``, ``netlink``.
        notes: what of it cannot be read.
    """

    address: int
    type: int | Absent
    number: int | Absent
    family: int | Absent
    domain: str | Absent
    notes: tuple[str, ...] = ()

    @property
    def family_name(self) -> str:
        """``inet``, ``inet6``, ``unix``, ``netlink``, …; the domain's own name or ``family 99`` for unknown ones."""
        if isinstance(self.family, Absent):
            return "unknown"
        own = self.domain if isinstance(self.domain, str) and self.domain else f"family {self.family}"
        return FAMILIES.get(self.family, own)


def read_protocol(kernel: Kernel, address: int) -> Protocol:
    """The protocol whose ``struct protosw`` is at an address (``so_proto``)."""
    fields = Fields()
    protosw = kernel.object("protosw", address)
    kind = fields.take("so_proto", lambda: int(protosw.pr_type))
    if kind is Absent.UNREADABLE:
        return Protocol(address, kind, kind, kind, kind, fields.notes)
    return Protocol(
        address,
        kind,
        attempt(lambda: int(protosw.pr_protocol)),
        fields.take("pr_domain", lambda: int(protosw.pr_domain.as_("domain").dom_family)),
        attempt(lambda: str(protosw.pr_domain.as_("domain").dom_name.text_(32))),
        fields.notes,
    )


def names_of(value: int, names: dict[int, str]) -> tuple[str, ...]:
    """The names of the bits that are set; those without one as a number."""
    known = tuple(name for bit, name in names.items() if value & bit)
    rest = value & ~sum(names)
    return (*known, hex(rest)) if rest else known


def tcp_state(number: int) -> str:
    """The name of a ``t_state`` as netstat and sockstat print it, or the number."""
    return TCP_STATES[number] if 0 <= number < len(TCP_STATES) else str(number)
