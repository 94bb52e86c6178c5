"""mips, 32 and 64 bit, either byte order: minidump page maps (versions 1 and 2; the last release was 13).

# Reference: lib/libkvm/kvm_minidump_mips.c, lib/libkvm/kvm_mips.h
"""

from __future__ import annotations

from collections.abc import Callable

from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from .base import PROTECTIONS, Decoded, DirectMap, Level, PageMap, SectionTable, TablePageMap, Window

_VALID = 2
_SEGMENT = 0x20000000
_XKPHYS = 0x8000000000000000
_XKPHYS_CACHED = 3
"""The cache attribute that the kernel uses for its own direct map; the same memory shows under all eight."""
_XKPHYS_SPAN = 1 << 40


class MinidumpPageMap(TablePageMap):
    """One 4-byte PTE per page."""

    name = "minidump, one 4-byte PTE per 4 KiB"
    levels = (Level(12, 0, 4),)
    pfn_mask = 0x1FFFFFC0
    read_only_bit = 29

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """PTE_V is bit 1; the software bit for read only decides about writing; everything executes."""
        if not entry & _VALID:
            return None
        return True, (entry & self.pfn_mask) >> 6 << 12, PROTECTIONS[5 | (~entry >> self.read_only_bit & 1) << 1]


class MinidumpPageMap64(MinidumpPageMap):
    """One 8-byte PTE per page."""

    name = "minidump, one 8-byte PTE per 4 KiB"
    levels = (Level(12, 0),)
    pfn_mask = 0x3FFFFFFC0
    read_only_bit = 55


def _directs(kseg0: int) -> list[DirectMap]:
    """kseg0 (cached) and kseg1 (uncached) show the first 512 MiB."""
    return [DirectMap(base, base + _SEGMENT, 0) for base in (kseg0, kseg0 + _SEGMENT)]


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump. The fixed segments are tested before the page map."""
    if header.word_bits == 64:
        attributes = sorted(range(8), key=lambda attribute: attribute != _XKPHYS_CACHED)
        bases = [_XKPHYS | attribute << 59 for attribute in attributes]
        directs = [DirectMap(base, base + _XKPHYS_SPAN, 0) for base in bases] + _directs(0xFFFFFFFF80000000)
    else:
        directs = _directs(0x80000000)
    wide = header.pte_size == 8
    kind = MinidumpPageMap64 if wide else MinidumpPageMap
    table = section(header.pte_size)
    kernbase = header.kernbase if header.word_bits == 64 else header.kernbase & 0xFFFFFFFF
    end = min(kernbase + (table.length << 12), 1 << header.word_bits)
    windows = [Window(base, top, base - phys, direct=True) for base, top, phys in directs]
    return kind(memory, table, [*windows, Window(kernbase, end, kernbase)], header.byteorder)
