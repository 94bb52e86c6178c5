"""The memory of a process in pieces to be searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .user import UserMemory
from .user_pages import GUARD, SUB_MAP, State

WINDOW = 64 << 20
OVERLAP = 1 << 20
_LOST = (State.NOT_DUMPED, State.BEYOND_END, State.SWAPPED, State.NOT_RESIDENT, State.UNKNOWN)
"""States of pages that hold something, but not in this dump."""


class Window(NamedTuple):
    """A piece of memory without holes.

    Attributes:
        address: of its first byte.
        data: its bytes.
        own: so many of them are not in the next piece as well: what begins behind them is found there.
    """

    address: int
    data: bytes
    own: int


def windows(memory: UserMemory, size: int = WINDOW, overlap: int = OVERLAP) -> Iterator[Window]:
    """All that can be read of a process, ascending: a piece a stretch, several that overlap where that is long.

    Args:
        memory: of the process.
        size: bytes of a piece, without the overlap.
        overlap: bytes that a piece has in common with the next one of its stretch.
    """
    size = max(size, memory.page_size)
    for start, length in memory.readable():
        for at in range(start, start + length, size):
            left = start + length - at
            yield Window(at, memory.read(at, min(size + overlap, left)), min(size, left))


def not_read(memory: UserMemory) -> str:
    """What a process has that this dump does not: ``3 pages: 1 swapped out, 2 not resident``; empty if nothing.

    Pages that were never touched are zeros, and guards hold nothing.
    """
    counted: Counter[State] = Counter()
    for entry in memory.entries:
        if not entry.flags & (GUARD | SUB_MAP) and entry.start < entry.end:
            counted.update(memory.count(entry.start, entry.end))
    lost = {state: counted[state] for state in _LOST if counted[state]}
    if not lost:
        return ""
    total = sum(lost.values())
    why = ", ".join(f"{count} {state.value}" for state, count in lost.items())
    return f"{total} {'pages' if total > 1 else 'page'}: {why}"
