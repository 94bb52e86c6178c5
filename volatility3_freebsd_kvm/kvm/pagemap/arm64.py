"""arm64: minidump page maps (versions 1 to 3, 4 and 16 KiB pages) and the kernel's own tables.

# Reference: lib/libkvm/kvm_minidump_aarch64.c, sys/arm64/include/pte.h, sys/arm64/arm64/minidump_machdep.c
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from ..records import Protection
from .base import PROTECTIONS, Decoded, Level, PageMap, SectionTable, TablePageMap, Window
from .columns import column, enumerate_pages
from .relocated import find_tables

KERNBASE = 0xFFFF000000000000
SYMBOLS = ("pagetable_l0_ttbr1", "kernbase")
_TOP = 1 << 64
_ADDRESS = 0x0000FFFFFFFFFFFF
_FABRICATED = 0x703
"""AF, inner shareable, page: all that the dumper sets in the entries it makes up for blocks."""
_ATTRIBUTES = 0xFFFF000000000FFF
_TABLE_BITS = 0x07FF000000000FFF


def _protection(entry: int) -> Protection:
    """AP[1] (7) makes it read only, PXN (53) not executable.

    libkvm also looks at UXN (54), which forbids user mode only; newer kernels set it on all of their own pages.
    """
    return PROTECTIONS[1 | (~entry >> 7 & 1) << 1 | (~entry >> 53 & 1) << 2]


class MinidumpPageMap(TablePageMap):
    """One level 3 descriptor per page; blocks were expanded by the dumper, which loses their protection."""

    name = "minidump, one L3 descriptor per page"
    levels = (Level(12, 0),)

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """A page descriptor has both low bits set."""
        if entry & 3 != 3:
            return None
        fabricated = entry & _ATTRIBUTES == _FABRICATED
        return True, entry & _ADDRESS & -self.page_size, Protection.UNKNOWN if fabricated else _protection(entry)


class Minidump16KPageMap(MinidumpPageMap):
    """The same with 16 KiB pages (version 3)."""

    levels = (Level(14, 0),)


class PageTables(TablePageMap):
    """The kernel's own tables (TTBR1), 4 KiB granule."""

    name = "page tables, 4 KiB granule"
    levels = (Level(39, 9), Level(30, 9), Level(21, 9), Level(12, 9))
    block_shift = 30
    """The largest block of the granule."""

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the level 0 table."""
        super().__init__(memory, root, [Window(KERNBASE, _TOP, KERNBASE)])
        self.root = root

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """Bit 0 valid; bit 1 tells tables (and pages) from blocks."""
        if not entry & 1:
            return None
        shift = self.levels[level].shift
        pa = entry & _ADDRESS & -(1 << self.levels[-1].shift)
        if level == len(self.levels) - 1:
            return (True, pa, _protection(entry)) if entry & 2 else None
        if entry & 2:
            return False, pa, PROTECTIONS[0]
        return (True, pa & -(1 << shift), _protection(entry)) if shift <= self.block_shift else None


class PageTables16K(PageTables):
    """The kernel's own tables, 16 KiB granule."""

    name = "page tables, 16 KiB granule"
    levels = (Level(47, 1), Level(36, 11), Level(25, 11), Level(14, 11))
    block_shift = 25


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump. The direct map lies above the kernel and is tested first."""
    kind = Minidump16KPageMap if header.page_size == 16384 else MinidumpPageMap
    table = section(8)
    end = min(header.kernbase + (table.length << kind.levels[0].shift), _TOP)
    windows = (
        Window(header.dmapbase, header.dmapend, header.dmapbase - header.dmapphys, direct=True),
        Window(header.kernbase, end, header.kernbase),
    )
    return kind(memory, table, windows)


def full(memory: PhysicalMemory, symbols: Mapping[str, int], root: int | None) -> PageTables:
    """The page tables of a full dump, from ``root`` or from the symbol ``pagetable_l0_ttbr1``.

    The granule is that of ``memory.page_size``.

    Raises:
        SymbolError: there is no way to the tables.
    """
    kind = PageTables16K if memory.page_size == 16384 else PageTables
    if root is not None:
        return kind(memory, root)
    return find_tables(memory, symbols, "pagetable_l0_ttbr1", KERNBASE, kind)


def root_pages(memory: PhysicalMemory, start: int, end: int) -> Iterator[int]:
    """Pages in ``[start, end)`` that may be the level 0 table of a kernel: its first entry is a table descriptor.

    The kernel sets no other bit in these than those that make it one, and perhaps the limits in the topmost five.
    """
    for first, entries in column(memory, 0, start=start, end=end, step=memory.page_size):
        for pa, entry in enumerate_pages(first, entries, memory.page_size):
            if entry & _TABLE_BITS == 3 and entry & _ADDRESS & ~3:
                yield pa
