"""All sockets of a kernel, from every place that knows of them, each with what is odd about where it is known.

The places are the protocols' lists, their hash tables, the descriptors of processes, the queues of sockets that listen
and the peers of unix sockets. A socket that should be in a place and is not says so in its notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import SymbolError
from .addresses import AF_INET, AF_INET6, AF_UNIX
from .connection import Connection
from .internet_sockets import InternetSockets
from .jail import Jail, jails
from .kernel import Kernel
from .protocols import SOCKET_TYPES, TRANSPORTS
from .records import Absent, Problem
from .socket import Socket
from .socket_context import Context
from .socket_owners import Holder
from .unix_sockets import UnixSockets

TYPES = ("socket", "inpcb", "inpcbinfo", "unpcb")
"""Without any of these nothing can be found."""
_DIVERT = "divert"


def find_connections(kernel: Kernel) -> tuple[list[Connection], list[Problem]]:
    """Every socket and connection of every vnet, in the order of the protocols' lists, and what was irregular."""
    if not any(kernel.has_type(name) for name in TYPES):
        needed = ", ".join(f"struct {name}" for name in TYPES)
        return [], [Problem("sockets", f"this kernel's types have none of {needed}: sockets cannot be found")]
    context = Context.of(kernel)
    internet, local = InternetSockets(context), UnixSockets(context)
    internet.gather()
    local.gather()
    context.find_queues()
    found = list(internet.connections())
    for socket in context.leftover():
        if _family(socket) == AF_UNIX and socket.pcb:
            local.hide(socket)
    found += local.connections()
    found += [_leftover(context, internet, local, socket) for socket in context.leftover()]
    # What a kernel's types lack they lack for each vnet.
    return found, list(dict.fromkeys(context.problems))


def _family(socket: Socket) -> int:
    if isinstance(socket.protocol, Absent) or isinstance(socket.protocol.family, Absent):
        return 0
    return socket.protocol.family


def _leftover(context: Context, internet: InternetSockets, local: UnixSockets, socket: Socket) -> Connection:
    """A socket that no protocol's list, hash or queue has."""
    family = _family(socket)
    if family == AF_UNIX:
        return local.bare(socket)
    name = socket.protocol.family_name if not isinstance(socket.protocol, Absent) else "unknown"
    if family in (AF_INET, AF_INET6):
        return internet.hidden(socket, _transport(socket))
    if name == _DIVERT and context.kernel.has_type("divcb"):
        return internet.hidden(socket, _DIVERT)
    return _other(context, socket, name)


def _transport(socket: Socket) -> str:
    protocol = socket.protocol
    number = 0 if isinstance(protocol, Absent) or isinstance(protocol.number, Absent) else protocol.number
    return TRANSPORTS.get(number, "raw")


def _other(context: Context, socket: Socket, name: str) -> Connection:
    """Sockets of other families have no list that all are on; descriptors are what leads to them."""
    holders = context.holders(socket)
    notes = [*context.queue_notes(socket), *context.common_notes(socket, holders)]
    if isinstance(socket.type, int):
        notes.insert(0, f"of type {SOCKET_TYPES.get(socket.type, socket.type)}")
    return Connection(
        name,
        socket.pcb,
        vnet=context.vnet_of(socket),
        creator=socket.creator,
        fib=socket.fib,
        socket=socket,
        holders=holders,
        notes=tuple(notes),
    )


# Choosing


Row = tuple[Connection, Holder | None]
"""A connection with one of its descriptors, if it has any."""


@dataclass(frozen=True)
class Selection:
    """What a user wants to see; an empty field wants all.

    Attributes:
        vnet: jail id, jail name or address of a vnet.
        jail: id or name of a jail: whose processes have the socket or, if none has it, in which it was made.
        pids: of the processes that have it.
        protocols: names that `Connection.is_a` knows.
    """

    vnet: str = ""
    jail: str = ""
    pids: tuple[int, ...] = ()
    protocols: tuple[str, ...] = ()

    def rows(self, kernel: Kernel) -> Iterator[Row | Problem]:
        """What is wanted as sockstat orders it: by process and descriptor, then what nobody has; at last, problems.

        Raises:
            SymbolError: there is no such vnet or jail.
        """
        wanted, problems = self._find(kernel)
        yield from sorted((row for rows in wanted for row in rows), key=_place)
        yield from problems

    def connections(self, kernel: Kernel) -> Iterator[Connection | Problem]:
        """What is wanted as netstat orders it: by protocol; each once, whoever has it. Raises as `rows` does."""
        wanted, problems = self._find(kernel)
        order = {name: number for number, name in enumerate(_ORDER)}
        found = [rows[0][0] for rows in wanted]
        yield from sorted(found, key=lambda one: order.get(one.protocol, len(order)))
        yield from problems

    def _find(self, kernel: Kernel) -> tuple[list[list[Row]], list[Problem]]:
        """The rows of each connection that has any."""
        vnet = kernel.vnet(self.vnet).vnet if self.vnet else None
        jids = {one.jid for one in self._jails(kernel)}
        connections, problems = find_connections(kernel)
        found = [
            [(one, holder) for holder in one.holders or (None,) if self._holds(one, holder, jids)]
            for one in connections
            if (vnet is None or one.vnet == vnet.address) and self._is_wanted(one)
        ]
        return [rows for rows in found if rows], problems

    def _is_wanted(self, connection: Connection) -> bool:
        return not self.protocols or any(connection.is_a(name) for name in self.protocols)

    def _holds(self, connection: Connection, holder: Holder | None, jids: set[int | Absent]) -> bool:
        if self.pids and (holder is None or holder.pid not in self.pids):
            return False
        return not self.jail or (holder.jid if holder else connection.creator.jid) in jids

    def _jails(self, kernel: Kernel) -> list[Jail]:
        if not self.jail:
            return []
        known = [one for one in jails(kernel) if isinstance(one, Jail)]
        found = [one for one in known if self.jail in (str(one.jid), one.name)]
        if not found:
            names = ", ".join(f"{one.jid} {one.name}" for one in known)
            msg = f"there is no jail {self.jail}; there are: {names or 'none that can be read'}"
            raise SymbolError(msg)
        return found


_ORDER = ("tcp", "udp", "udplite", "sctp", "raw", "divert", "stream", "dgram", "seqpacket")


def _place(row: Row) -> tuple[bool, tuple[int, int]]:
    holder = row[1]
    return (True, (0, 0)) if holder is None else (False, holder.order())
