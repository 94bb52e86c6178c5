"""Linked lists in memory that may be damaged, half changed or made by an attacker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..exceptions import AddressError

LIMIT = 1 << 20
"""More elements than any list of a kernel has."""


class Chain:
    """Follows addresses along a list until it ends, one way or another.

    Iterate once; afterwards `problem` says whether the list ended as it should.

    Attributes:
        problem: one clause about an irregular end (``loops back to 0x…``), empty after a regular one.
    """

    def __init__(
        self,
        first: Callable[[], int],
        next_of: Callable[[int], int],
        *,
        end: int = 0,
        limit: int = LIMIT,
        alignment: int = 1,
    ) -> None:
        """Describe the list.

        Args:
            first: gives the address of the first element.
            next_of: gives the next element's address for that of an element; both may raise `AddressError`.
            end: the address that ends the list (that of the head, in a circular one); 0 always does.
            limit: at most so many elements.
            alignment: elements' addresses are multiples of this.
        """
        self._first = first
        self._next_of = next_of
        self._end = end
        self._limit = limit
        self._alignment = alignment
        self.problem = ""

    def __iter__(self) -> Iterator[int]:
        seen: set[int] = set()
        try:
            address = self._first()
            while address not in (0, self._end):
                if self.problem or (problem := self._irregular(address, seen)):
                    self.problem = self.problem or problem
                    return
                seen.add(address)
                yield address
                address = self._next_of(address)
        except AddressError as error:
            self.problem = f"ends after {len(seen)} elements where {error}"

    def _irregular(self, address: int, seen: set[int]) -> str:
        if address in seen:
            return f"loops back to {address:#x} after {len(seen)} elements"
        if address % self._alignment:
            return f"leads to the misaligned address {address:#x} after {len(seen)} elements"
        if len(seen) >= self._limit:
            return f"is longer than {self._limit} elements"
        return ""
