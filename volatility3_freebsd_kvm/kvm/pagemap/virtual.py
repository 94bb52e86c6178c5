"""ELF cores that hold kernel virtual memory: the segments are the page map.

Written by minidump-to-elf, by powerpc kernels and by this project's export.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from ...exceptions import NotMappedError
from ..elfcore import ProgramHeader
from ..intervals import first_wins
from ..records import Leaf
from .base import PageMap, clip


class VirtualElfPageMap(PageMap):
    """Addresses by the p_vaddr of segments.

    Where the core has no physical addresses, the virtual address itself stands for one.
    """

    name = "ELF segments by p_vaddr"

    def __init__(self, segments: Sequence[ProgramHeader], page_size: int, *, has_physical: bool) -> None:
        """Where segments overlap, the one that comes first in the file has the say."""
        super().__init__()
        self.page_size = page_size
        ranges = [(segment.p_vaddr, segment.p_vaddr + segment.p_memsz) for segment in segments]
        self._leaves = [
            Leaf(
                start,
                _physical(segments[index], has_physical=has_physical, va=start),
                end - start,
                segments[index].prot,
            )
            for start, end, index in first_wins(ranges)
        ]
        self._starts = [leaf.va for leaf in self._leaves]
        # Only whole pages may be remembered as such.
        self.page_granular = not any(
            (leaf.va | leaf.length | (leaf.va ^ (leaf.pa or 0))) % page_size for leaf in self._leaves
        )

    def translate(self, va: int) -> tuple[int, int]:
        """See `PageMap.translate`."""
        index = bisect_right(self._starts, va) - 1
        if index >= 0:
            start, pa, length, _, _ = self._leaves[index]
            if pa is not None and va < start + length:
                return pa + va - start, start + length - va
        raise NotMappedError(va)

    def translations(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.translations`."""
        return clip(self._leaves, start, end)

    def walk(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.walk`."""
        return clip(self._leaves, start, end)


def _physical(segment: ProgramHeader, *, has_physical: bool, va: int) -> int:
    """Where ``va`` of a segment is in physical memory, or itself where nothing is known of that."""
    return segment.p_paddr + va - segment.p_vaddr if has_physical else va
