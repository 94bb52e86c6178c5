"""Walks along the kernel's queues, hashes and trees that cannot be led astray.

Heads and links are resolved by position, since ``LIST``, ``TAILQ``, ``STAILQ``, ``SLIST`` and their ``CK_`` forms name
the same words differently: a head and a link begin with the pointer to the next element.

# Reference: sys/sys/queue.h, tree.h, sys/contrib/ck/include/ck_queue.h
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exceptions import AddressError
from ..image.chain import LIMIT, Chain
from ..image.structs import Structs
from .objects import Object

MAX_BUCKETS = 1 << 24
MAX_PROBLEMS = 64
"""So many problems of one list are told."""
_PIECE = 1 << 12


class Queue:
    """The elements of a queue, as objects.

    Iterate once; afterwards `problems` says what was irregular. Elements before the irregularity are sound, but of the
    last one nothing needs to be there if its link could not be read.

    Attributes:
        problems: one clause for each irregularity; the walk goes on behind a wrong link back, and ends at any other.
    """

    def __init__(
        self, structs: Structs, head: int, type_name: str, link: str, *, limit: int = LIMIT, check_back: bool = True
    ) -> None:
        """Describe the queue.

        Args:
            structs: memory and types.
            head: address of its head; of any pointer to a first element.
            type_name: type of the elements.
            link: path of the member that links them: ``p_list``.
            limit: at most so many elements.
            check_back: compare links back, if the link has one (``LIST``, ``TAILQ``).

        Raises:
            SymbolError: the kernel's types lack the structure or the member.
        """
        self.structs = structs
        self.head = head
        self.type_name = type_name
        self.problems: list[str] = []
        self._next_at, reference = structs.member(type_name, link)
        self._limit = limit
        self._check_back = check_back and structs.size_of(reference) == 2 * structs.word_size

    def addresses(self) -> Iterator[int]:
        """The elements' addresses."""
        slot = self.head
        chain = Chain(
            lambda: self.structs.pointer(self.head),
            lambda element: self.structs.pointer(element + self._next_at),
            limit=self._limit,
            alignment=self.structs.word_size,
        )
        for element in chain:
            if self._check_back:
                self._compare_back(element, slot)
            slot = element + self._next_at
            yield element
        if chain.problem:
            self.problems.append(chain.problem)

    def __iter__(self) -> Iterator[Object]:
        return (Object(self.structs, self.type_name, address) for address in self.addresses())

    def _compare_back(self, element: int, slot: int) -> None:
        try:
            back = self.structs.pointer(element + self._next_at + self.structs.word_size)
        except AddressError:
            return  # The next step will say so.
        if back != slot:
            _tell(self.problems, f"the link back of {element:#x} leads to {back:#x}, not to {slot:#x}")


class HashTable:
    """The elements of all chains of a hash table, as objects; see `Queue`."""

    def __init__(
        self,
        structs: Structs,
        table: int,
        buckets: int,
        type_name: str,
        link: str,
        *,
        bucket_size: int = 0,
        limit: int = LIMIT,
    ) -> None:
        """Describe the table.

        Args:
            structs: memory and types.
            table: address of its first head.
            buckets: how many there are; hashinit(9) tells the mask, which is one less.
            type_name: type of the elements.
            link: path of the member that links them.
            bucket_size: bytes from one head to the next, a pointer's unless told.
            limit: at most so many elements in all.

        An element that is in two chains is given once, and ends the second of them.
        """
        self.structs = structs
        self.problems: list[str] = []
        self._table = table
        self._buckets = buckets
        self._type_name = type_name
        self._link = link
        self._step = bucket_size or structs.word_size
        self._limit = limit

    def __iter__(self) -> Iterator[Object]:
        if not 0 <= self._buckets <= MAX_BUCKETS:
            self.problems.append(f"{self._buckets} hash chains are impossible")
            return
        seen: set[int] = set()
        for number in self._occupied():
            head = self._table + number * self._step
            queue = Queue(self.structs, head, self._type_name, self._link, limit=self._limit + 1)
            for element in queue:
                if element.address_ in seen:
                    queue.problems.append(f"leads to {element.address_:#x} of another chain")
                    break
                if len(seen) >= self._limit:
                    self.problems.append(f"has more than {self._limit} elements")
                    return
                seen.add(element.address_)
                yield element
            self.problems += [f"chain {number}: {problem}" for problem in queue.problems]
            if len(self.problems) > MAX_PROBLEMS:
                self.problems.append("too many problems, the rest of the table is left out")
                return

    def _occupied(self) -> Iterator[int]:
        """The chains that have elements or cannot be read. Most are empty: many heads are read at once."""
        word, step = self.structs.word_size, self._step
        together = max(1, _PIECE // step)
        for start in range(0, self._buckets, together):
            numbers = range(start, min(start + together, self._buckets))
            try:
                heads = self.structs.read(self._table + start * step, (len(numbers) - 1) * step + word)
            except AddressError:
                yield from numbers
                continue
            if any(heads):
                yield from (one for index, one in enumerate(numbers) if any(heads[index * step : index * step + word]))


class RedBlackTree:
    """The elements of an ``RB`` tree in order, as objects; of each release's shape. See `Queue`."""

    def __init__(self, structs: Structs, head: int, type_name: str, link: str, *, limit: int = LIMIT) -> None:
        """Describe the tree.

        Args:
            structs: memory and types.
            head: address of its head (``rbh_root``).
            type_name: type of the elements.
            link: path of the member that links them.
            limit: at most so many elements.

        Raises:
            SymbolError: the kernel's types lack the structure or the member.
        """
        self.structs = structs
        self.problems: list[str] = []
        self._head = head
        self._type_name = type_name
        self._limit = limit
        at = structs.offset(type_name, link)
        if structs.has(type_name, f"{link}.rbe_left"):
            self._left, self._right = (structs.offset(type_name, f"{link}.{one}") for one in ("rbe_left", "rbe_right"))
        else:
            # rbe_link[3] since 14: parent, left, right (tree.h).
            self._left, self._right = at + structs.word_size, at + 2 * structs.word_size

    def __iter__(self) -> Iterator[Object]:
        return (Object(self.structs, self._type_name, address) for address in self.addresses())

    def addresses(self) -> Iterator[int]:
        """The elements' addresses."""
        seen: set[int] = set()
        waiting: list[int] = []
        node = self._child(self._head, 0)
        while node or waiting:
            while node:
                if not self._sound(node, seen):
                    break
                seen.add(node)
                waiting.append(node)
                node = self._child(node, self._left)
            if not waiting:
                return
            current = waiting.pop()
            yield current
            node = self._child(current, self._right)

    def _child(self, node: int, at: int) -> int:
        try:
            # The low bits may hold colours.
            return self.structs.pointer(node + at) & ~3
        except AddressError as error:
            _tell(self.problems, f"a branch ends where {error}")
            return 0

    def _sound(self, node: int, seen: set[int]) -> bool:
        if node in seen:
            problem = f"a branch loops back to {node:#x}"
        elif node % self.structs.word_size:
            problem = f"a branch leads to the misaligned address {node:#x}"
        elif len(seen) >= self._limit:
            problem = f"has more than {self._limit} elements"
        else:
            return True
        _tell(self.problems, problem)
        return False


def _tell(problems: list[str], problem: str) -> None:
    """Add a problem that is new, but not without end: each element of a list may have one."""
    if len(problems) < MAX_PROBLEMS:
        if problem not in problems:
            problems.append(problem)
    elif len(problems) == MAX_PROBLEMS:
        problems.append("has more problems, which are not told")
