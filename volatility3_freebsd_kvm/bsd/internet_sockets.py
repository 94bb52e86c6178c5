"""Sockets of TCP, UDP, UDP-Lite, raw IP, divert and SCTP, by vnet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ..exceptions import KVMError, SymbolError
from .addresses import ANY
from .connection import Connection, End, end_of
from .divert import Divcb, divert_sockets, read_divcb
from .inpcb import DATABASES, HASH, LIST, NEEDED, PORTS, Inpcb, PcbDatabase, find_database, read_inpcb
from .kernel import View
from .protocols import INP_INHASHLIST, INP_SOCKREF, IP_PROTOCOLS, SS_NOFDREF
from .records import Absent, Problem
from .sctp import Endpoint, sctp_endpoints
from .socket import Socket
from .socket_context import Context, hidden_note
from .syncache import HalfOpen, half_open
from .tcp import Tcp, read_tcp


@dataclass
class InternetSockets:
    """The control blocks of the Internet protocols and their sockets.

    Attributes:
        context: what all walks share.
        databases: by vnet and protocol.
        inpcbs: those that databases have, by address.
    """

    context: Context
    databases: dict[tuple[int, str], PcbDatabase] = field(default_factory=dict)
    inpcbs: dict[int, Inpcb] = field(default_factory=dict)

    def gather(self) -> None:
        """Find the control blocks of all vnets, and read them and their sockets."""
        for vnet, view in self.context.views.items():
            for protocol in DATABASES:
                try:
                    database = find_database(view, protocol).walk()
                except SymbolError as error:
                    if protocol in NEEDED:
                        self.context.problems.append(Problem(protocol, str(error)))
                    continue
                self.databases[vnet, protocol] = database
                self.context.problems += database.problems
                for address in database.ways:
                    self.inpcbs[address] = read_inpcb(self.context.kernel, address)
                    self.context.socket(self.inpcbs[address].socket)

    def connections(self) -> Iterator[Connection]:
        """All that the databases, SYN caches and tables have."""
        for database in self.databases.values():
            for address, ways in database.ways.items():
                yield self._listed(database, self.inpcbs[address], ways)
        for vnet, view in self.context.views.items():
            yield from self._half_open(vnet, view)
            yield from self._divert(vnet, view)
            yield from self._sctp(vnet, view)

    # What databases have

    def _listed(self, database: PcbDatabase, inpcb: Inpcb, ways: set[str]) -> Connection:
        notes = place_notes(database, inpcb, ways)
        socket = self.context.socket(inpcb.socket)
        claimed = self.context.claimed(inpcb.address, inpcb.socket)
        if claimed:
            notes.append(f"socket {claimed.address:#x} says that it is its own, but inp_socket leads elsewhere")
            socket = socket or claimed
        return self._connection(database.protocol, vnet_of(database.view), inpcb, socket, notes)

    def _connection(
        self, protocol: str, vnet: int | Absent, inpcb: Inpcb, socket: Socket | None, notes: list[str]
    ) -> Connection:
        context = self.context
        names = context.names(vnet)
        tcp = read_tcp(context.kernel, inpcb, context.clock) if protocol == "tcp" else None
        found = Connection(
            protocol,
            inpcb.address,
            inpcb.versions if isinstance(inpcb.versions, str) else "",
            end_of(inpcb.local, inpcb.local_port, names),
            end_of(inpcb.foreign, inpcb.foreign_port, names),
            tcp.state if tcp else Absent.NOT_APPLICABLE,
            vnet,
            inpcb.creator,
            inpcb.fib,
            inpcb.ip_protocol if protocol == "raw" else Absent.NOT_APPLICABLE,
            tcp=tcp,
            notes=(*notes, *_raw_notes(protocol, inpcb), *inpcb.notes, *(tcp.notes if tcp else ())),
        )
        if socket is None:
            return replace(found, notes=(*found.notes, "it has no socket"))
        return self._with_socket(found, socket, inpcb)

    def _with_socket(self, found: Connection, socket: Socket, inpcb: Inpcb | None) -> Connection:
        """The same with what its socket tells."""
        context = self.context
        context.used.add(socket.address)
        holders = context.holders(socket)
        notes = context.queue_notes(socket)
        if isinstance(socket.pcb, int) and inpcb and socket.pcb != inpcb.address:
            notes.append(f"its socket {socket.address:#x} belongs to control block {socket.pcb:#x}")
        if context.vnet_of(socket) != found.vnet and isinstance(socket.vnet, int):
            notes.append(f"its socket says that it is in vnet {socket.vnet:#x}")
        if not (holders or notes) and context.owners.known:
            notes.append("its process has closed it" if _closed(inpcb, socket) else "no process has a descriptor of it")
        notes = [*found.notes, *notes, *context.common_notes(socket, holders)]
        return replace(
            found, socket=socket, creator=socket.creator, fib=socket.fib, holders=holders, notes=tuple(notes)
        )

    # What only descriptors or queues lead to

    def hidden(self, socket: Socket, protocol: str) -> Connection:
        """A socket of the Internet protocols that none of the databases has."""
        vnet = self.context.vnet_of(socket)
        known = " and ".join(self.context.ways_to(socket))
        if not isinstance(socket.pcb, int) or not socket.pcb:
            bare = Connection(protocol, socket.pcb, vnet=vnet, notes=(f"it has no control block; known by {known}",))
            return self._with_socket(bare, socket, None)
        if protocol == "divert" and self.context.kernel.has_type("divcb"):
            return self._unbound(vnet, read_divcb(self.context.kernel, socket.pcb), socket)
        notes = self._hidden_notes(vnet, protocol, socket.pcb, known)
        return self._connection(protocol, vnet, read_inpcb(self.context.kernel, socket.pcb), socket, notes)

    def _hidden_notes(self, vnet: int | Absent, protocol: str, pcb: int, known: str) -> list[str]:
        if pcb in self.inpcbs:
            return ["another socket has the same control block"]
        if isinstance(vnet, Absent) or vnet not in self.context.views:
            return [f"hidden: in none of the vnets, known by {known}"]
        database = self.databases.get((vnet, protocol))
        return [] if database is None else [hidden_note(f"the list of {database.where}", LIST in database.sound, known)]

    def _unbound(self, vnet: int | Absent, divcb: Divcb, socket: Socket) -> Connection:
        """Divert sockets that are not bound are in no table."""
        odd = ("hidden: bound, but not in divhash",) if divcb.bound is True else ()
        return self._with_socket(_divert_connection(vnet, divcb, odd), socket, None)

    # What has no inpcb

    def _guarded(self, what: str, walk: Callable[[], Iterator[Connection | Problem]]) -> Iterator[Connection]:
        """What a walk yields; its problems join the others."""
        try:
            for item in walk():
                if isinstance(item, Problem):
                    self.context.problems.append(item)
                else:
                    yield item
        except KVMError as error:
            self.context.problems.append(Problem(what, str(error)))

    def _half_open(self, vnet: int, view: View) -> Iterator[Connection]:
        def walk() -> Iterator[Connection | Problem]:
            for item in half_open(view):
                yield item if isinstance(item, Problem) else self._embryo(vnet, item)

        return self._guarded("syncache", walk)

    def _embryo(self, vnet: int, entry: HalfOpen) -> Connection:
        names = self.context.names(vnet)
        return Connection(
            "tcp",
            entry.address,
            entry.versions,
            end_of(entry.local, entry.local_port, names),
            end_of(entry.foreign, entry.foreign_port, names),
            "SYN_RCVD",
            vnet,
            entry.creator,
            entry.fib,
            tcp=Tcp(
                entry.address,
                False,
                "SYN_RCVD",
                iss=entry.iss,
                irs=entry.irs,
                mss=entry.mss,
                rcv_wnd=entry.window,
                retransmitted=entry.retransmits,
            ),
            half_open=entry,
            notes=("half open: in the SYN cache", *entry.notes),
        )

    def _divert(self, vnet: int, view: View) -> Iterator[Connection]:
        def walk() -> Iterator[Connection | Problem]:
            for item in divert_sockets(view):
                if isinstance(item, Problem):
                    yield item
                    continue
                found = _divert_connection(vnet, item)
                socket = self.context.socket(item.socket)
                yield self._with_socket(found, socket, None) if socket else found

        return self._guarded("divhash", walk)

    def _sctp(self, vnet: int, view: View) -> Iterator[Connection]:
        def walk() -> Iterator[Connection | Problem]:
            for item in sctp_endpoints(view, self.context.names(vnet)):
                yield item if isinstance(item, Problem) else self._association(vnet, item)

        return self._guarded("sctp", walk)

    def _association(self, vnet: int, endpoint: Endpoint) -> Connection:
        """An endpoint of SCTP or one of its associations; several addresses stand one behind the other."""
        inpcb = read_inpcb(self.context.kernel, endpoint.inpcb)
        local_port = inpcb.local_port if isinstance(inpcb.local_port, int) else 0
        found = Connection(
            "sctp",
            endpoint.association or endpoint.inpcb,
            inpcb.versions if isinstance(inpcb.versions, str) else "",
            End(",".join(endpoint.local) or ANY, local_port),
            End(",".join(endpoint.foreign) or ANY, endpoint.foreign_port),
            endpoint.state,
            vnet,
            inpcb.creator,
            inpcb.fib,
            notes=inpcb.notes,
        )
        socket = self.context.socket(inpcb.socket)
        return self._with_socket(found, socket, inpcb) if socket else found


def vnet_of(view: View) -> int:
    """The address of a vnet, 0 for the one of a kernel without VIMAGE."""
    return view.vnet.address if view.vnet else 0


def _divert_connection(vnet: int | Absent, divcb: Divcb, notes: tuple[str, ...] = ()) -> Connection:
    """Tools show all of them as IPv4."""
    port = divcb.port if isinstance(divcb.port, int) else 0
    return Connection("divert", divcb.address, "4", End(ANY, port), End(ANY, 0), vnet=vnet, notes=notes)


# Notes


def place_notes(database: PcbDatabase, inpcb: Inpcb, ways: set[str]) -> list[str]:
    """Which places of its database should have a control block and do not, and whether it says that it is of it."""
    notes = []
    if LIST not in ways:
        known = " and ".join(f"the hash of {'connections' if way == HASH else 'ports'}" for way in sorted(ways))
        notes.append(hidden_note(f"the list of {database.where}", LIST in database.sound, known))
    hashed = isinstance(inpcb.flags, int) and bool(inpcb.flags & INP_INHASHLIST)
    if hashed and HASH in database.sound and HASH not in ways:
        notes.append("in no hash of connections, though flagged so (INP_INHASHLIST)")
    if hashed and PORTS in database.sound and PORTS not in ways and inpcb.local_port and database.protocol != "raw":
        notes.append("in no hash of ports, though flagged so (INP_INHASHLIST)")
    if isinstance(inpcb.database, int) and inpcb.database != database.address:
        notes.append(f"inp_pcbinfo leads to {inpcb.database:#x}, not to the database of {database.protocol}")
    return notes


def _raw_notes(protocol: str, inpcb: Inpcb) -> tuple[str, ...]:
    unnamed = protocol == "raw" and isinstance(inpcb.ip_protocol, int) and inpcb.ip_protocol not in IP_PROTOCOLS
    return (f"IP protocol {inpcb.ip_protocol}",) if unnamed else ()


def _closed(inpcb: Inpcb | None, socket: Socket) -> bool:
    """TCP marks in the inpcb what close(2) left to it; up to 13 sockets without a file have a flag."""
    kept = inpcb is not None and isinstance(inpcb.flags, int) and bool(inpcb.flags & INP_SOCKREF)
    return kept or (isinstance(socket.state, int) and bool(socket.state & SS_NOFDREF))
