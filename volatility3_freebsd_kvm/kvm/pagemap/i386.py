"""i386: minidump page maps (versions 1 and 2, PAE or not) and the kernel's own tables.

# Reference: lib/libkvm/kvm_minidump_i386.c, lib/libkvm/kvm_i386.c, sys/i386/i386/pmap_base.c,
#            sys/i386/include/vmparam.h
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from ...exceptions import AddressError, SymbolError
from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from ..records import Protection
from .base import PROTECTIONS, Decoded, Level, PageMap, SectionTable, TablePageMap, Window
from .columns import occurrences, own_address

SYMBOLS = ("kernbase", "pae_mode", "IdlePDPT", "IdlePTD_nopae", "IdlePTD", "tramp_idleptd")
_RECURSIVE_SLOTS = (1022, 767)
"""PTDPTDI: 12.0 and later (4/4), and before."""
_PAE_RECURSIVE_SLOTS = (509, 510)
"""Where the directory that holds the four entries from PTDPTDI on has its own: 13.0 and later, and before."""
_OWN_PLACES = (3, 2)
"""Which of the four its own is: since 12.0 the last, before that the third."""
_RECURSIVE_PARTS = range(4)
_LAST_QUARTET = 508
_POINTER_FRAME = 0x0000000FFFFFF000
_POINTER_FLAGS = 0xE18
"""PWT, PCD and what software may use."""
_MAX_ROOTS = 1 << 10
_NEAR = 4 << 20
_PROGRAMS = 0x08000000
_TOP = 1 << 32
PG_V = 1
PG_PS = 0x80
_PAE_FRAME = 0x000FFFFFFFFFF000
_FRAME = 0xFFFFF000
_FABRICATED = 0x063
"""V, RW, A and M: all that the dumper sets in the entries it makes up for superpages."""


class _Entries(TablePageMap):
    """4-byte entries. There is no NX: what is readable can be executed."""

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """PG_V, PG_RW (1) and PG_PS (7)."""
        if not entry & PG_V:
            return None
        if level + 1 == len(self.levels):
            return True, entry & _FRAME, self._protection(entry)
        if entry & PG_PS:
            # PSE-36 would put pa bits 39:32 into 20:13; FreeBSD does not use it.
            return True, entry & 0xFFC00000, self._protection(entry)
        return False, entry & _FRAME, PROTECTIONS[0]

    def _protection(self, entry: int) -> Protection:
        return PROTECTIONS[5 | entry & 2]


class _PaeEntries(TablePageMap):
    """8-byte entries with PG_NX (63)."""

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """PG_V, PG_RW (1), PG_PS (7) and PG_NX (63); the four entries of the top table know only PG_V."""
        if not entry & PG_V:
            return None
        pa = entry & _PAE_FRAME
        shift = self.levels[level].shift
        if shift == 12:
            return True, pa, self._protection(entry)
        if shift == 21 and entry & PG_PS:
            return True, pa & -(1 << 21), self._protection(entry)
        return False, pa, PROTECTIONS[0]

    def _protection(self, entry: int) -> Protection:
        return PROTECTIONS[1 | entry & 2 | (~entry >> 63 & 1) << 2]


class MinidumpPageMap(_Entries):
    """One 4-byte PTE per page; 4 MiB pages were expanded."""

    name = "minidump, one PTE per 4 KiB"
    levels = (Level(12, 0, 4),)

    def _protection(self, entry: int) -> Protection:
        return Protection.UNKNOWN if entry & 0xFFF == _FABRICATED else super()._protection(entry)


class PaeMinidumpPageMap(_PaeEntries):
    """One 8-byte PTE per page; 2 MiB pages were expanded, which loses NX."""

    name = "minidump, one PAE PTE per 4 KiB"
    levels = (Level(12, 0),)

    def _protection(self, entry: int) -> Protection:
        return Protection.UNKNOWN if entry & ~_PAE_FRAME == _FABRICATED else super()._protection(entry)


class PageTables(_Entries):
    """The kernel's own tables without PAE: a page directory and page tables."""

    name = "2-level page tables"
    levels = (Level(22, 10, 4), Level(12, 10, 4))

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the page directory."""
        super().__init__(memory, root, [Window(0, _TOP, 0)])
        self.root = root


class PaePageTables(_PaeEntries):
    """The kernel's own tables with PAE: four page directories."""

    name = "PAE page tables"
    levels = (Level(30, 2), Level(21, 9), Level(12, 9))

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the four page directory pointers."""
        super().__init__(memory, root, [Window(0, _TOP, 0)])
        self.root = root


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump. There is no direct map."""
    kind, size = (PaeMinidumpPageMap, 8) if header.paemode else (MinidumpPageMap, 4)
    table = section(size)
    end = min(header.kernbase + (table.length << 12), _TOP)
    return kind(memory, table, [Window(header.kernbase, end, header.kernbase)])


def full(memory: PhysicalMemory, symbols: Mapping[str, int], root: int | None) -> PageTables | PaePageTables:
    """The page tables of a full dump.

    Args:
        memory: physical memory.
        symbols: ``kernbase`` and one of: ``pae_mode`` with ``IdlePDPT`` and ``IdlePTD_nopae`` (13.0 and later),
            ``IdlePDPT`` (PAE kernels), ``IdlePTD``.
        root: physical address of the page directory, or with PAE of the page directory pointers, if known; nothing
            else is needed then.

    Raises:
        SymbolError: a symbol is missing or its value leads nowhere.
    """
    if root is not None:
        return by_root(memory, root)
    delta = _kernel_delta(symbols)

    def word(name: str) -> int:
        try:
            return int.from_bytes(memory.read(symbols[name] + delta, 4), "little")
        except AddressError as error:
            msg = f"the variable {name} cannot be read ({error}): does this kernel belong to this dump?"
            raise SymbolError(msg) from None

    pae = "IdlePDPT" in symbols
    if "pae_mode" in symbols:
        pae = bool(word("pae_mode"))
    names = ("IdlePDPT",) if pae else ("IdlePTD_nopae", "IdlePTD")
    for name in names:
        if name in symbols:
            return PaePageTables(memory, word(name)) if pae else PageTables(memory, word(name))
    msg = f"no page table root: the symbol {' or '.join(names)} is needed (pass the kernel)"
    raise SymbolError(msg)


def by_root(memory: PhysicalMemory, root: int) -> PageTables | PaePageTables:
    """The tables with that top table: four page directory pointers, or a page directory."""
    return PaePageTables(memory, root) if _is_pointer_table(memory, root) else PageTables(memory, root)


def _is_pointer_table(memory: PhysicalMemory, root: int) -> bool:
    """Whether four page directory pointers are there: beside PG_V they have hardly a bit set (of PDEs, PG_RW is)."""
    try:
        pointers = struct.unpack("<4Q", memory.read(root, 32))
    except AddressError:
        return False
    return any(pointers) and all(not entry or entry & ~_POINTER_FRAME & ~_POINTER_FLAGS == PG_V for entry in pointers)


def find_tables(memory: PhysicalMemory) -> Iterator[PageTables | PaePageTables]:
    """Tables whose page directory refers to itself: the kernel's, and those of processes.

    Before 12.0 those of processes map the kernel as well; the kernel's, which map nothing else, come first.

    # Reference: sys/i386/include/pmap.h (PTDPTDI), sys/i386/include/pmap_pae.h, sys/i386/include/pmap_nopae.h
    """
    for slot in _RECURSIVE_SLOTS:
        found = islice(own_address(memory, 4 * slot, _FRAME, PG_V | PG_PS, PG_V, size=4), _MAX_ROOTS)
        yield from sorted((PageTables(memory, pa) for pa in found), key=_maps_user_memory)
    for slot in _PAE_RECURSIVE_SLOTS:
        pages = list(islice(own_address(memory, 8 * slot, _PAE_FRAME, PG_V | PG_PS, PG_V), _MAX_ROOTS))
        roots = (_pointer_table(memory, pa, slot - own, own) for pa in pages for own in _OWN_PLACES)
        yield from sorted((PaePageTables(memory, root) for root in roots if root is not None), key=_maps_user_memory)


def _maps_user_memory(tables: PageTables | PaePageTables) -> bool:
    """Whether there is anything where programs are linked before 12.0 and kernels are not."""
    return any(True for _ in tables.translations(_PROGRAMS, _PROGRAMS + (1 << 24)))


def _pointer_table(memory: PhysicalMemory, pa: int, first: int, own: int) -> int | None:
    """The page directory pointers to four directories.

    Args:
        memory: where they are.
        pa: of one of the directories, which has entries for all four.
        first: the index of the first of these entries.
        own: which of the four the directory itself is.
    """
    entries = struct.unpack("<4Q", memory.read(pa + 8 * first, 32)) if 0 <= first <= _LAST_QUARTET else ()
    directories = [entry & _PAE_FRAME for entry in entries if entry & (PG_V | PG_PS) == PG_V]
    if len(set(directories)) < len(_RECURSIVE_PARTS) or directories[own] != pa:
        return None
    pattern = struct.pack("<4Q", *(directory | PG_V for directory in directories))
    # They are made together at boot, one after the other.
    near = max(0, min(directories) - _NEAR), max(directories) + _NEAR
    for start, end in (near, (0, 1 << 32)):
        for run in memory.runs(start, end):
            for found in occurrences(memory.reader, run.offset, run.length, pattern):
                place = run.pa + found - run.offset
                if not place % len(pattern):
                    return place
    return None


def _kernel_delta(symbols: Mapping[str, int]) -> int:
    """Physical minus virtual address of the kernel image.

    Since the 4/4 split (12.0) the kernel runs where it is loaded, so they are equal; libkvm still subtracts kernbase
    and reads 8 MiB too low.
    """
    kernbase = symbols.get("kernbase", 0xC0000000)
    if "tramp_idleptd" in symbols or kernbase < 0x80000000:
        return 0
    return -kernbase
