"""What sockstat(1) and netstat(1) have a line for: a socket with its protocol's control block, or one of both.

# Reference: usr.bin/sockstat/sockstat.c (displaysock), usr.bin/netstat/inet.c, unix.c
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .addresses import ANY, InterfaceNames, address_text, endpoint, unspecified
from .protocols import IP_PROTOCOLS, SOCKET_OPTIONS, names_of
from .records import Absent
from .socket import NO_CREDENTIAL, Credential, ListenQueue, Socket
from .socket_owners import Holder
from .syncache import HalfOpen
from .tcp import Tcp
from .unix import HEADS, Unpcb

_NONE = Absent.NOT_APPLICABLE
_SOCKSTAT_NAMES = {"divert": "div", "seqpacket": "seqpac"}


class End(NamedTuple):
    """One end of a connection of the Internet protocols; ``*`` and 0 mean any."""

    address: str
    port: int


@dataclass(frozen=True)
class Connection:
    """A socket or a control block, with what belongs to it.

    Attributes:
        protocol: ``tcp``, ``udp``, ``udplite``, ``raw``, ``divert``, ``sctp``, ``stream``, ``dgram``, ``seqpacket``,
            or the family of others: ``route``, ``netlink``.
        pcb: address of the control block (inpcb, unpcb, syncache entry), 0 for none.
        versions: ``4``, ``6`` or ``46`` for the Internet protocols.
        local, foreign: ends of the Internet protocols; of unix sockets the path and what sockstat shows of the peers.
        state: of TCP and SCTP.
        vnet: address of the vnet, 0 without VIMAGE.
        creator: whose credentials it was made with.
        fib: number of the routing table.
        ip_protocol: of raw sockets.
        socket: None if there is none.
        tcp: what TCP knows.
        half_open: the entry of the SYN cache.
        unpcb: of unix sockets.
        holders: the descriptors of it.
        notes: what is remarkable.
    """

    protocol: str
    pcb: int | Absent
    versions: str = ""
    local: End | str | Absent = _NONE
    foreign: End | str | Absent = _NONE
    state: str | Absent = _NONE
    vnet: int | Absent = _NONE
    creator: Credential = NO_CREDENTIAL
    fib: int | Absent = _NONE
    ip_protocol: int | Absent = _NONE
    socket: Socket | None = None
    tcp: Tcp | None = None
    half_open: HalfOpen | None = None
    unpcb: Unpcb | None = None
    holders: tuple[Holder, ...] = ()
    notes: tuple[str, ...] = ()

    # Names

    @property
    def is_unix(self) -> bool:
        """Whether it is a unix socket."""
        return self.protocol in HEADS

    @property
    def name(self) -> str:
        """``tcp``, ``icmp``, …: raw sockets are called by their protocol, if that has a name."""
        if self.protocol != "raw" or isinstance(self.ip_protocol, Absent):
            return self.protocol
        return IP_PROTOCOLS.get(self.ip_protocol, "raw")

    def shown_protocol(self) -> str:
        """As sockstat prints it: ``tcp4``, ``tcp46``, ``div4``, ``seqpac``; ``icmp6`` has its digit already."""
        name = _SOCKSTAT_NAMES.get(self.name, self.name)
        if self.tcp and isinstance(self.tcp.flags, tuple) and "TF_TOE" in self.tcp.flags:
            name = "toe"  # The network card does the work (TCP offload engine).
        return name if name.endswith("6") and self.versions == "6" else f"{name}{self.versions}"

    def is_a(self, wanted: str) -> bool:
        """Whether it is of a protocol as a user names it: ``tcp``, ``tcp4``, ``icmp``, ``raw``, ``unix``, ``inet6``."""
        names = {self.protocol, self.name, self.shown_protocol()}
        names |= {"unix", "local"} if self.is_unix else set()
        names |= {"inet"} if "4" in self.versions else set()
        names |= {"inet6"} if "6" in self.versions else set()
        return wanted.lower() in names

    # Texts

    def local_text(self, separator: str = ":") -> str | Absent:
        """The local address; sockstat has a colon before the port, netstat a dot."""
        return _text(self.local, separator)

    def foreign_text(self, separator: str = ":") -> str | Absent:
        """The foreign address, or the peers of a unix socket."""
        return _text(self.foreign, separator)

    @property
    def received(self) -> int | Absent:
        """Bytes that wait to be read."""
        return self.socket.receive.bytes if self.socket else _NONE

    @property
    def unsent(self) -> int | Absent:
        """Bytes that wait to be sent or acknowledged."""
        return self.socket.send.bytes if self.socket else _NONE

    @property
    def listening(self) -> ListenQueue | Absent:
        """The queues of one that listens."""
        return self.socket.listening if self.socket else _NONE

    @property
    def options(self) -> tuple[str, ...] | Absent:
        """Names of its SO_ flags."""
        if self.socket is None:
            return _NONE
        given = self.socket.options
        return given if isinstance(given, Absent) else names_of(given, SOCKET_OPTIONS)


def _text(end: End | str | Absent, separator: str) -> str | Absent:
    return endpoint(end.address, end.port, separator) if isinstance(end, End) else end


def end_of(data: bytes | Absent, port: int | Absent, names: InterfaceNames) -> End | Absent:
    """An end of a connection by the bytes of its address."""
    if isinstance(data, Absent) or isinstance(port, Absent):
        return data if isinstance(data, Absent) else Absent.UNREADABLE
    return End(ANY if unspecified(data) else address_text(data, names), port)
