"""Overlapping ranges, of which the first in order has the say."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import pairwise


def first_wins(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """``(start, end, index)`` of the disjoint pieces that remain, ascending; empty ranges are passed over.

    A sweep over all edges: the range with the lowest index among those that cover a place keeps it. Costs
    O(n log n), whatever the ranges look like.
    """
    edges = sorted({edge for start, end in ranges if start < end for edge in (start, end)})
    waiting = sorted((start, index) for index, (start, end) in enumerate(ranges) if start < end)
    waiting.reverse()
    active: list[int] = []
    piece: tuple[int, int, int] | None = None
    for low, high in pairwise(edges):
        while waiting and waiting[-1][0] <= low:
            heapq.heappush(active, waiting.pop()[1])
        while active and ranges[active[0]][1] <= low:
            heapq.heappop(active)
        if not active:
            continue
        if piece and piece[1] == low and piece[2] == active[0]:
            piece = piece[0], high, piece[2]
        else:
            if piece:
                yield piece
            piece = low, high, active[0]
    if piece:
        yield piece
