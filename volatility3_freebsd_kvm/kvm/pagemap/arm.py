"""arm (32 bit): minidump page maps (versions 1 and 2) and the kernel's own tables.

# Reference: lib/libkvm/kvm_minidump_arm.c, lib/libkvm/kvm_arm.c, sys/arm/include/pte-v6.h, sys/arm/include/pte-v4.h
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...exceptions import AddressError, SymbolError
from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from ..records import Protection
from .base import PROTECTIONS, Decoded, Level, PageMap, SectionTable, TablePageMap, Window

SYMBOLS = ("kernel_l1pa", "kernbase", "physaddr")
_TOP = 1 << 32
MMUFORMAT_V4 = 1
_L1_SECTION = 2
_L1_TABLE = 1


def _small_or_large(entry: int, va: int, *, v4: bool) -> Decoded | None:
    """A second-level descriptor: 64 KiB pages stand in 16 entries, of which ``va`` picks a part."""
    kind = entry & 3
    if kind == 0 or (v4 and kind == 3):
        return None
    if kind == 1:
        return True, entry & 0xFFFF0000 | va & 0xF000, _protection(entry, entry >> 15 & 1, v4=v4)
    return True, entry & 0xFFFFF000, _protection(entry, entry & 1, v4=v4)


def _protection(entry: int, execute_never: int, *, v4: bool) -> Protection:
    """V6: FreeBSD keeps "read only" in TEX[1] (bit 7; AP[2] means "not modified"). V4: AP[0]; everything executes."""
    if v4:
        return PROTECTIONS[5 | (entry >> 4 & 1) << 1]
    return PROTECTIONS[1 | (~entry >> 7 & 1) << 1 | (execute_never ^ 1) << 2]


class MinidumpPageMap(TablePageMap):
    """One second-level descriptor per page; sections were expanded by the dumper."""

    name = "minidump, one descriptor per 4 KiB"
    levels = (Level(12, 0, 4),)
    v4 = False

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """Small and large pages."""
        return _small_or_large(entry, va, v4=self.v4)


class V4MinidumpPageMap(MinidumpPageMap):
    """The same with ARMv4 and v5 descriptors."""

    name = "minidump, one ARMv4 descriptor per 4 KiB"
    v4 = True


class PageTables(TablePageMap):
    """The kernel's own short-descriptor tables."""

    name = "short-descriptor page tables"
    levels = (Level(20, 12, 4), Level(12, 8, 4))

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the 16 KiB first-level table."""
        super().__init__(memory, root, [Window(0, _TOP, 0)], memory.byteorder)
        self.root = root

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """Sections (and supersections, bit 18), or tables of 256 pages."""
        if level:
            return _small_or_large(entry, va, v4=False)
        if entry & 3 == _L1_TABLE:
            return False, entry & 0xFFFFFC00, PROTECTIONS[0]
        if entry & 2 == _L1_SECTION:
            prot = PROTECTIONS[1 | (~entry >> 13 & 1) << 1 | (~entry >> 4 & 1) << 2]
            if entry >> 18 & 1:
                return True, entry & 0xFF000000 | va & 0x00F00000, prot
            return True, entry & 0xFFF00000, prot
        return None


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump. There is no direct map."""
    kind = V4MinidumpPageMap if header.mmuformat == MMUFORMAT_V4 else MinidumpPageMap
    table = section(4)
    end = min(header.kernbase + (table.length << 12), _TOP)
    return kind(memory, table, [Window(header.kernbase, end, header.kernbase)], header.byteorder)


def full(memory: PhysicalMemory, symbols: Mapping[str, int], root: int | None) -> PageTables:
    """The page tables of a full dump.

    Args:
        memory: physical memory.
        symbols: ``kernel_l1pa``, ``kernbase`` and ``physaddr``; the last two come from the dump's PT_DUMP_DELTA header
            where it has one.
        root: physical address of the first-level table, if known; nothing else is needed then.

    Raises:
        SymbolError: a symbol is missing or its value leads nowhere.
    """
    if root is not None:
        return PageTables(memory, root)
    missing = [name for name in ("kernel_l1pa", "kernbase", "physaddr") if name not in symbols]
    if missing:
        msg = f"no page table root: the symbol {missing[0]} is needed (pass the kernel)"
        raise SymbolError(msg)
    pa = symbols["kernel_l1pa"] - symbols["kernbase"] + symbols["physaddr"]
    try:
        root = int.from_bytes(memory.read(pa, 4), "big" if memory.byteorder == "big" else "little")
    except AddressError as error:
        msg = f"the variable kernel_l1pa cannot be read ({error}): does this kernel belong to this dump?"
        raise SymbolError(msg) from None
    return PageTables(memory, root)
