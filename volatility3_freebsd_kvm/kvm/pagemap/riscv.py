"""riscv64: minidump page maps (versions 1 and 2) and the kernel's own Sv39 and Sv48 tables.

# Reference: lib/libkvm/kvm_minidump_riscv.c, sys/riscv/include/pte.h, sys/riscv/include/vmparam.h
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...exceptions import AddressError
from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from .base import PROTECTIONS, Decoded, Level, PageMap, SectionTable, TablePageMap, Window
from .columns import column, enumerate_pages
from .relocated import find_tables

KERNBASE = 0xFFFFFFC000000000
SYMBOLS = ("pagetable_l1", "kernbase")
_KERNEL_ENTRY = 256
_TOP = 1 << 64
_PPN = 0x003FFFFFFFFFFC00
"""Bits 53:10; Svnapot and Svpbmt live above (libkvm forgets to mask them)."""


class _RiscvEntries(TablePageMap):
    """What a riscv page table entry says."""

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """V is bit 0; R, W and X are bits 1 to 3, all clear in a pointer to the next table."""
        if not entry & 1:
            return None
        pa = (entry & _PPN) << 2
        if entry & 0xE:
            return True, pa & -(1 << self.levels[level].shift), PROTECTIONS[1 | entry >> 1 & 6]
        return (False, pa, PROTECTIONS[0]) if level + 1 < len(self.levels) else None


class MinidumpPageMap(_RiscvEntries):
    """One PTE per 4 KiB, in Sv39 and Sv48 alike; superpages were expanded, with their protection."""

    name = "minidump, one PTE per 4 KiB"
    levels = (Level(12, 0),)


class PageTables(_RiscvEntries):
    """The kernel's own Sv39 tables; with Sv48 the kernel half hangs below one top entry and is the same."""

    name = "Sv39 page tables"
    levels: tuple[Level, ...] = (Level(30, 9), Level(21, 9), Level(12, 9))

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the top table."""
        span = 1 << (self.levels[0].shift + self.levels[0].bits)
        super().__init__(memory, root, [Window(_TOP - span // 2, _TOP, _TOP - span)])
        self.root = root


class Sv48PageTables(PageTables):
    """The kernel's own tables from the Sv48 top table on."""

    name = "Sv48 page tables"
    levels = (Level(39, 9), *PageTables.levels)


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump. The direct map lies above the kernel and is tested first."""
    table = section(8)
    windows = (
        Window(header.dmapbase, header.dmapend, header.dmapbase - header.dmapphys, direct=True),
        Window(header.kernbase, min(header.kernbase + (table.length << 12), _TOP), header.kernbase),
    )
    return MinidumpPageMap(memory, table, windows)


def full(memory: PhysicalMemory, symbols: Mapping[str, int], root: int | None) -> PageTables:
    """The page tables of a full dump, from ``root`` (Sv39 or Sv48) or from the symbol ``pagetable_l1`` (always Sv39).

    Raises:
        SymbolError: there is no way to the tables.
    """
    if root is not None:
        return Sv48PageTables(memory, root) if _is_sv48(memory, root) else PageTables(memory, root)
    return find_tables(memory, symbols, "pagetable_l1", KERNBASE, PageTables)


def _is_sv48(memory: PhysicalMemory, root: int) -> bool:
    """Whether a top table is one of Sv48: the kernel hangs below the last entry, not below entry 256."""

    def entry(index: int) -> int:
        return int.from_bytes(memory.read(root + 8 * index, 8), "little")

    try:
        return not entry(256) & 1 and entry(511) & 0xF == 1
    except AddressError:
        return False


def root_pages(memory: PhysicalMemory, start: int, end: int) -> Iterator[int]:
    """Pages in ``[start, end)`` that may be the Sv39 top table of a kernel: the entry for its start is a pointer.

    A Sv48 kernel has that table below its top table, and all of the kernel is in it.
    """
    for first, entries in column(memory, 8 * _KERNEL_ENTRY, start=start, end=end):
        for pa, entry in enumerate_pages(first, entries):
            if entry & 0xF == 1 and entry & _PPN:
                yield pa
