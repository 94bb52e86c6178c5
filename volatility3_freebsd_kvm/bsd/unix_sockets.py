"""Unix sockets with their peers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .connection import Connection
from .protocols import SOCKET_TYPES, SS_NOFDREF
from .records import Absent
from .socket import Socket
from .socket_context import Context, hidden_note
from .unix import UnixLists, Unpcb, read_unpcb, unix_lists

MAX_PEERS = 1 << 20
_SHOWN = 64


@dataclass
class UnixSockets:
    """The control blocks of unix sockets.

    Attributes:
        context: what all walks share.
        lists: those that the lists have.
        unpcbs: those that were read, by address.
        known: those that no list has, with what leads to them.
    """

    context: Context
    lists: UnixLists = field(default_factory=UnixLists)
    unpcbs: dict[int, Unpcb] = field(default_factory=dict)
    known: dict[int, list[str]] = field(default_factory=dict)

    def gather(self) -> None:
        """Walk the lists, and read the control blocks and their sockets."""
        self.lists = unix_lists(self.context.kernel)
        self.context.problems += self.lists.problems
        for address in self.lists.types:
            self.context.socket(self._read(address).socket)

    def connections(self) -> Iterator[Connection]:
        """The sockets on the lists; then those that only descriptors, queues or peers lead to."""
        self._find_peers()
        for address in [*self.lists.types, *self.known]:
            yield self._connection(self.unpcbs[address])

    def hide(self, socket: Socket) -> None:
        """A descriptor or a queue leads to a unix socket."""
        if isinstance(socket.pcb, int) and socket.pcb and socket.pcb not in self.lists.types:
            self._read(socket.pcb)
            self.known.setdefault(socket.pcb, []).extend(self.context.ways_to(socket))

    def _read(self, address: int) -> Unpcb:
        if address not in self.unpcbs:
            self.unpcbs[address] = read_unpcb(self.context.kernel, address)
        return self.unpcbs[address]

    def _find_peers(self) -> None:
        """Peers that are on no list; only those whose socket is theirs in turn, the rest is told by `_peer_notes`."""
        waiting = list(self.unpcbs)
        while waiting and len(self.unpcbs) < MAX_PEERS:
            unpcb = self.unpcbs[waiting.pop()]
            peers = [unpcb.peer] if isinstance(unpcb.peer, int) and unpcb.peer else []
            for address in [*peers, *unpcb.senders]:
                if address not in self.unpcbs and self._genuine(address):
                    self._read(address)
                    self.known.setdefault(address, []).append("its peer")
                    waiting.append(address)

    def _genuine(self, address: int) -> bool:
        socket = self.context.socket(read_unpcb(self.context.kernel, address).socket)
        return socket is not None and socket.pcb == address

    # Connections

    def bare(self, socket: Socket) -> Connection:
        """A unix socket without a control block of its own."""
        known = " and ".join(self.context.ways_to(socket))
        taken = "another socket has the same control block" if socket.pcb else "it has no control block"
        notes = (f"{taken}; known by {known}",)
        return self._with_socket(Connection(_kind_of(socket), socket.pcb, notes=notes), socket)

    def _connection(self, unpcb: Unpcb) -> Connection:
        socket = self.context.socket(unpcb.socket)
        claimed = self.context.claimed(unpcb.address, unpcb.socket)
        said = []
        if claimed:
            said.append(f"socket {claimed.address:#x} says that it is its own, but unp_socket leads elsewhere")
            socket = socket or claimed
        kind = self.lists.types.get(unpcb.address) or _kind_of(socket)
        local = unpcb.path
        if local is Absent.NOT_APPLICABLE and not unpcb.peer and not unpcb.senders:
            local = "(not connected)"
        notes = (*self._list_notes(unpcb, kind), *said, *self._peer_notes(unpcb), *unpcb.notes)
        found = Connection(kind, unpcb.address, local=local, foreign=self._peers(unpcb), unpcb=unpcb, notes=notes)
        if socket is None:
            return replace(found, notes=(*notes, "it has no socket"))
        return self._with_socket(found, socket)

    def _with_socket(self, found: Connection, socket: Socket) -> Connection:
        context = self.context
        context.used.add(socket.address)
        holders = context.holders(socket)
        notes = context.queue_notes(socket)
        if found.unpcb and isinstance(socket.pcb, int) and socket.pcb != found.pcb:
            notes.append(f"its socket {socket.address:#x} belongs to control block {socket.pcb:#x}")
        if not (holders or notes) and context.owners.known:
            closed = isinstance(socket.state, int) and socket.state & SS_NOFDREF
            notes.append("its process has closed it" if closed else "no process has a descriptor of it")
        notes = [*found.notes, *notes, *context.common_notes(socket, holders)]
        return replace(
            found,
            vnet=context.vnet_of(socket),
            creator=socket.creator,
            fib=socket.fib,
            socket=socket,
            holders=holders,
            notes=tuple(notes),
        )

    # Notes and peers

    def _list_notes(self, unpcb: Unpcb, kind: str) -> list[str]:
        ways = self.known.get(unpcb.address)
        if ways is None:
            return []
        known = " and ".join(dict.fromkeys(ways))
        return [hidden_note(f"the list of {kind} sockets", kind in self.lists.sound, known)]

    def _peer_notes(self, unpcb: Unpcb) -> list[str]:
        peers = [unpcb.peer] if isinstance(unpcb.peer, int) and unpcb.peer else []
        lost = [address for address in [*peers, *unpcb.senders] if address not in self.unpcbs]
        notes = [f"connected to {address:#x}, which is no unix socket's control block" for address in lost[:_SHOWN]]
        return [*notes, *self._former_peer(unpcb)]

    def _former_peer(self, unpcb: Unpcb) -> list[str]:
        """Who was at the other end when they connected, if that is none of those who are now."""
        peer = self.unpcbs.get(unpcb.peer) if isinstance(unpcb.peer, int) else None
        pid = unpcb.peer_pid
        if peer is None or not isinstance(pid, int) or not pid:
            return []
        now = [holder.pid for holder in self.context.holders(self.context.socket(peer.socket))]
        return [] if pid in now else [f"its peer was process {pid} of user {unpcb.peer_uid} when they connected"]

    def _peers(self, unpcb: Unpcb) -> str | Absent:
        """As sockstat shows them: ``-> /path`` or ``-> [pid fd]``, and ``<- [pid fd],[pid fd]`` for those that send."""
        if isinstance(unpcb.peer, Absent):
            return unpcb.peer
        parts = []
        if unpcb.peer:
            peer = self.unpcbs.get(unpcb.peer)
            bound = peer is not None and isinstance(peer.path, str)
            parts.append(f"-> {peer.path if peer and bound else self._descriptor(unpcb.peer)}")
        if unpcb.senders:
            shown = [self._descriptor(address) for address in unpcb.senders[:_SHOWN]]
            more = ["..."] if len(unpcb.senders) > _SHOWN else []
            parts.append(f"<- {','.join([*shown, *more])}")
        return " ".join(parts) or Absent.NOT_APPLICABLE

    def _descriptor(self, address: int) -> str:
        """The first descriptor of the socket of a control block; its address where nobody has one."""
        unpcb = self.unpcbs.get(address)
        socket = self.context.claims.get(address) or (unpcb.socket if unpcb else 0)
        holders = self.context.holders(self.context.socket(socket))
        return f"[{holders[0].pid} {holders[0].fd}]" if holders else f"{address:#x}"


def _kind_of(socket: Socket | None) -> str:
    """The type of one that no list has."""
    number = socket.type if socket and isinstance(socket.type, int) else 0
    return SOCKET_TYPES.get(number, "stream")
