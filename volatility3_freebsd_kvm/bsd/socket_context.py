"""What the walks over sockets share: sockets read once, their owners, and which control block each says is its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .addresses import InterfaceNames
from .kernel import Kernel, View
from .records import Absent, Problem
from .socket import COMPLETE, Socket, read_socket, waiting_connections
from .socket_owners import Holder, Owners, find_owners
from .tcp import TcpClock


@dataclass
class Context:
    """The state of a walk.

    Attributes:
        kernel: the kernel.
        owners: the descriptors of sockets.
        clock: for TCP's times.
        views: the vnets by address; 0 for the one of a kernel without VIMAGE.
        sockets: those that were read, by address.
        claims: by control block, the socket that says it is its own.
        queued: by socket, the address of the listening socket in one of whose queues it is, and which queue.
        used: sockets that are part of a connection.
        problems: what was irregular.
    """

    kernel: Kernel
    owners: Owners
    clock: TcpClock
    views: dict[int, View]
    sockets: dict[int, Socket] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)
    queued: dict[int, tuple[int, str]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    _names: dict[int, InterfaceNames] = field(default_factory=dict)

    @classmethod
    def of(cls, kernel: Kernel) -> Context:
        """Find the owners and read their sockets."""
        owners = find_owners(kernel)
        views = {view.vnet.address if view.vnet else 0: view for view in kernel.vnets()}
        context = cls(kernel, owners, TcpClock.of(kernel), views, problems=list(owners.problems))
        for address in owners.sockets:
            context.claim(address)
        return context

    def socket(self, address: int | Absent) -> Socket | None:
        """The socket at an address, read once; None for 0 and unknown ones."""
        if isinstance(address, Absent) or not address:
            return None
        if address not in self.sockets:
            self.sockets[address] = read_socket(self.kernel, address)
        return self.sockets[address]

    def claim(self, address: int) -> None:
        """Enter whose control block a socket has."""
        socket = self.socket(address)
        if socket and isinstance(socket.pcb, int) and socket.pcb:
            self.claims.setdefault(socket.pcb, address)

    def claimed(self, pcb: int, socket: int | Absent) -> Socket | None:
        """The socket that says that a control block is its own, if that says otherwise."""
        address = self.claims.get(pcb)
        return None if address is None or address == socket else self.socket(address)

    def holders(self, socket: Socket | None) -> tuple[Holder, ...]:
        """The descriptors of a socket."""
        return self.owners.of(socket.address) if socket else ()

    def vnet_of(self, socket: Socket) -> int | Absent:
        """The address of the vnet that a socket says it is in; 0 on a kernel without VIMAGE, whatever it says."""
        return 0 if 0 in self.views else socket.vnet

    def names(self, vnet: int | Absent) -> InterfaceNames:
        """Names of the interfaces of a vnet; of the host's where the vnet is not known."""
        address = vnet if isinstance(vnet, int) and vnet in self.views else next(iter(self.views), 0)
        if address not in self._names:
            self._names[address] = InterfaceNames(self.views.get(address) or View(self.kernel))
        return self._names[address]

    def find_queues(self) -> None:
        """Walk the queues of all listening sockets that were read so far."""
        for listener in [one for one in self.sockets.values() if one.listens]:
            for item in waiting_connections(self.kernel, listener):
                if isinstance(item, Problem):
                    self.problems.append(item)
                else:
                    self.queued.setdefault(item[0], (listener.address, item[1]))
        for address in self.queued:
            self.claim(address)

    def leftover(self) -> Iterable[Socket]:
        """The sockets that descriptors or queues lead to and that are part of no connection yet."""
        known = [*self.owners.sockets, *self.queued]
        return [self.sockets[address] for address in dict.fromkeys(known) if address not in self.used]

    def ways_to(self, socket: Socket) -> list[str]:
        """What leads to a socket besides its protocol, for notes."""
        ways = ["its descriptor"] if self.owners.of(socket.address) else []
        return [*ways, "an accept queue"] if socket.address in self.queued else ways

    # Notes that all kinds of sockets have

    def queue_notes(self, socket: Socket) -> list[str]:
        """Whether it waits to be accepted, as it says and as the one that listens says."""
        place = self.queued.get(socket.address)
        said = socket.listener if isinstance(socket.listener, int) else 0
        if place is None:
            return [f"socket {said:#x} does not have it in its queues, as it says"] if said else []
        listener, queue = place
        text = "waits to be accepted at" if queue == COMPLETE else "held back by the accept filter of"
        notes = [f"{text} socket {listener:#x}"]
        if isinstance(socket.listener, int) and said != listener:
            notes.append(f"it says that it waits at socket {said:#x}")
        return notes

    def common_notes(self, socket: Socket | None, holders: Iterable[Holder]) -> list[str]:
        """What cannot be read of a socket, and what is odd about its descriptors."""
        notes = list(socket.notes) if socket else []
        return notes + [note for holder in holders for note in holder.notes]


def hidden_note(place: str, sound: bool, known: str) -> str:
    """What to say of something that a list does not have: which list, whether it is whole, what else leads there."""
    if sound:
        return f"hidden: not on {place}, known by {known}"
    return f"not reached on {place}, which is broken; known by {known}"
