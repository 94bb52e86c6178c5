"""ELF cores that hold kernel virtual memory: the segments are the page map.

Written by minidump-to-elf, by powerpc kernels and by this project's export.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from ...exceptions import AddressError, NotDumpedError, NotMappedError
from ..elfcore import ElfCore, ProgramHeader
from ..intervals import first_wins
from ..records import Absence, Leaf, Protection
from .base import DirectMap, PageMap, clip, join


class VirtualElfPageMap(PageMap):
    """Addresses by the p_vaddr of segments.

    Where the core has no physical addresses, the virtual address itself stands for one. A core that this project
    exported also says what was mapped and not dumped, and what the direct maps are.
    """

    name = "ELF segments by p_vaddr"

    def __init__(self, core: ElfCore, page_size: int) -> None:
        """Where segments overlap, the one that comes first in the file has the say; direct maps come last."""
        super().__init__()
        self.page_size = page_size
        none = (1 << core.word_bits) - 1
        segments = [one for one in core.segments if one.p_vaddr != none and not one.alias]
        self._displaced: tuple[int, int, int] | None = None
        if core.exported:
            segments += core.exported.absent
            self._displaced = core.exported.displaced
            self.directs = tuple(DirectMap(*direct) for direct in core.exported.directs)
            self.directs_in_tables = core.exported.directs_in_tables
        self._leaves = list(join(_leaves(segments, none if core.has_physical else None)))
        self._everything = self._leaves
        if self.directs and not self.directs_in_tables:
            self._everything = _with_directs(self._leaves, self.directs)
        self._starts = [leaf.va for leaf in self._everything]
        # Only whole pages may be remembered as such.
        self.page_granular = not any(
            (leaf.va | leaf.length | (leaf.va ^ (leaf.pa or 0))) % page_size for leaf in self._everything
        ) and not (self._displaced and self._displaced[2] % page_size)

    def displacement(self, va: int) -> int:
        """See `PageMap.displacement`."""
        if self._displaced and self._displaced[0] <= va < self._displaced[1]:
            return self._displaced[2]
        return 0

    def translate(self, va: int) -> tuple[int, int]:
        """See `PageMap.translate`; of a displaced kernel, all addresses below the direct map are as it is linked."""
        if not self._displaced:
            return self._translate(va)
        limit = self.directs[0].base if self.directs else self._displaced[1]
        if va >= limit:
            return self._translate(va)
        try:
            pa, size = self._translate(va + self._displaced[2])
        except AddressError as error:
            raise type(error)(va, error.detail) from None
        return pa, min(size, limit - va)

    def _translate(self, va: int) -> tuple[int, int]:
        index = bisect_right(self._starts, va) - 1
        if index >= 0:
            start, pa, length, _, _ = self._everything[index]
            if va < start + length:
                if pa is None:
                    raise NotDumpedError(va, "the core does not tell where it was")
                return pa + va - start, start + length - va
        raise NotMappedError(va)

    def translations(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.translations`."""
        return clip(_from(self._everything, start), start, end)

    def walk(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.walk`."""
        return clip(_from(self._leaves, start), start, end)


def _leaves(segments: Sequence[ProgramHeader], none: int | None) -> Iterator[Leaf]:
    """Disjoint leaves, ascending; ``none`` stands for no physical address, and is None itself where there are none."""
    ranges = [(segment.p_vaddr, segment.p_vaddr + segment.p_memsz) for segment in segments]
    for start, end, index in first_wins(ranges):
        segment = segments[index]
        if none is None:
            yield Leaf(start, start, end - start, segment.prot)
        elif segment.p_paddr == none:
            yield Leaf(start, None, end - start, segment.prot, Absence.NOT_DUMPED)
        else:
            yield Leaf(start, segment.p_paddr + start - segment.p_vaddr, end - start, segment.prot)


def _with_directs(leaves: list[Leaf], directs: Sequence[DirectMap]) -> list[Leaf]:
    """The leaves and, where there are none, the direct maps."""
    ranges = [(leaf.va, leaf.va + leaf.length) for leaf in leaves] + [(base, end) for base, end, _ in directs]
    found = []
    for start, end, index in first_wins(ranges):
        if index < len(leaves):
            found.append(leaves[index])
        else:
            base, _, phys = directs[index - len(leaves)]
            found.append(Leaf(start, phys + start - base, end - start, Protection.UNKNOWN))
    return found


def _from(leaves: list[Leaf], start: int) -> Iterable[Leaf]:
    """The leaves that end behind ``start``."""
    first = bisect_right(leaves, start, key=lambda leaf: leaf.va + leaf.length)
    return (leaves[index] for index in range(first, len(leaves)))
