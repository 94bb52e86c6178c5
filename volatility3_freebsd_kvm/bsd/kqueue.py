"""Kernel event queues, and what they watch.

# Reference: sys/sys/event.h (struct knote), sys/sys/eventvar.h (struct kqueue), sys/kern/kern_event.c
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError
from .kernel import Kernel
from .lists import Queue
from .objects import Object

FILTERS = {
    -1: "EVFILT_READ",
    -2: "EVFILT_WRITE",
    -3: "EVFILT_AIO",
    -4: "EVFILT_VNODE",
    -5: "EVFILT_PROC",
    -6: "EVFILT_SIGNAL",
    -7: "EVFILT_TIMER",
    -8: "EVFILT_PROCDESC",
    -9: "EVFILT_FS",
    -10: "EVFILT_LIO",
    -11: "EVFILT_USER",
    -12: "EVFILT_SENDFILE",
    -13: "EVFILT_EMPTY",
    -14: "EVFILT_JAIL",
    -15: "EVFILT_JAILDESC",
}
MAX_CHAINS = 1 << 20
MAX_KNOTES = 1 << 17
_PIECE = 4096
_MAX_PROBLEMS = 16


@dataclass(frozen=True)
class Knote:
    """A `struct knote`: an event that is watched for.

    Attributes:
        address: of the structure.
        ident: a descriptor, a pid, a signal, or what the process calls its timer.
        filter: ``EVFILT_READ``, …
    """

    address: int
    ident: int
    filter: str

    def __str__(self) -> str:
        return f"{self.filter} {self.ident}"


class Kqueue:
    """A kernel event queue.

    Attributes:
        address: of the `struct kqueue`.
        pending: events that wait to be fetched.
        problems: what was irregular, complete after `knotes`.
    """

    def __init__(self, kernel: Kernel, address: int) -> None:
        """Read the queue itself.

        Raises:
            AddressError: it cannot be read.
            SymbolError: the types do not know it.
        """
        self._kernel = kernel
        self._queue = kernel.object("kqueue", address)
        self.address = address
        self.pending = int(self._queue.kq_count)
        self.problems: list[str] = []

    def knotes(self) -> Iterator[Knote]:
        """What it watches: descriptors by their number, then the rest by its hash."""
        queue = self._queue
        left = MAX_KNOTES
        tables = [
            (int(queue.kq_knlist), int(queue.kq_knlistsize)),
            (int(queue.kq_knhash), int(queue.kq_knhashmask) + 1),
        ]
        for table, chains in tables:
            if not table:
                continue
            if not 0 <= chains <= MAX_CHAINS:
                self.problems.append(f"{chains} chains of knotes are impossible")
                chains = 0
            for head in self._heads(table, chains):
                knotes = Queue(self._kernel.structs, head, "knote", "kn_link", limit=left, check_back=False)
                for knote in knotes:
                    left -= 1
                    if (found := self._read(knote)) is not None:
                        yield found
                self.problems += knotes.problems
                if len(self.problems) > _MAX_PROBLEMS:
                    return

    def _read(self, knote: Object) -> Knote | None:
        try:
            if int(knote.kn_kq) != self.address:
                self.problems.append(f"the knote at {knote.address_:#x} belongs to another queue")
                return None
            event = knote.kn_kevent
            number = int(event.filter)
            return Knote(knote.address_, int(event.ident), FILTERS.get(number, f"filter {number}"))
        except AddressError:
            return None  # The list ends here, too, and says so.

    def _heads(self, table: int, chains: int) -> Iterator[int]:
        """Addresses of the heads of chains that are not empty, read a piece at a time."""
        structs = self._kernel.structs
        word = structs.word_size
        step = _PIECE // word
        for first in range(0, chains, step):
            count = min(step, chains - first)
            at = table + first * word
            try:
                data = structs.read(at, count * word)
            except AddressError as error:
                self.problems.append(f"its table of knotes ends where {error}")
                return
            yield from (at + place for place in range(0, len(data), word) if any(data[place : place + word]))
