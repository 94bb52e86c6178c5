"""powerpc64 and powerpc64le: minidump page maps, hash (mmu_g5, mmu_phyp) and radix (mmu_radix).

Page table entries are big endian even in a little-endian kernel.

# Reference: lib/libkvm/kvm_minidump_powerpc64.c, kvm_minidump_powerpc64_hpt.c, kvm_minidump_powerpc64_radix.c,
#            sys/powerpc/aim/mmu_radix.c
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator

from ...exceptions import AddressError, FormatError, NotMappedError
from ..intervals import first_wins
from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from ..records import Leaf, Protection
from .base import (
    PROTECTIONS,
    Decoded,
    DirectMap,
    Level,
    PageMap,
    SectionTable,
    TablePageMap,
    Window,
    clip,
    join,
)

LINKED_AT = 0x100100
"""Where the kernel is linked; it runs at ``startkernel``, and symbols keep the linked values."""
RADIX_ROOT_SIZE = 65536
_TOP = 1 << 64


class RadixPageMap(TablePageMap):
    """The radix tree: the root is in the page map section, the other tables are dumped pages."""

    name = "minidump, radix tree"
    levels = (Level(39, 13), Level(30, 9), Level(21, 9), Level(12, 9))

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """Bit 63 valid, bit 62 leaf; EAA bits: write 2, execute 1, and what is valid can be read."""
        if not entry >> 63:
            return None
        if entry >> 62 & 1:
            pa = entry & 0x00FFFFFFFFFFF000 & -(1 << self.levels[level].shift)
            return True, pa, PROTECTIONS[1 | entry & 2 | (entry & 1) << 2]
        return (False, entry & 0x00FFFFFFFFFFFF00, PROTECTIONS[0]) if level + 1 < len(self.levels) else None


def _is_granular(header: MinidumpHeader) -> bool:
    """Whether linked and running addresses agree within the page."""
    return (header.startkernel - LINKED_AT) % header.page_size == 0


class _Displaced(PageMap):
    """Symbol values of the linked kernel are accepted as addresses."""

    header: MinidumpHeader

    def displacement(self, va: int) -> int:
        """See `PageMap.displacement`; only for the kernel image, so that listings do not show it twice."""
        size = self.header.endkernel - self.header.startkernel
        return self.header.startkernel - LINKED_AT if LINKED_AT & -4096 <= va < LINKED_AT + size else 0

    def translate(self, va: int) -> tuple[int, int]:
        """See `PageMap.translate`; all addresses below the direct map are those of the linked kernel, as in libkvm."""
        if va >= self.header.dmapbase:
            return self._translate(va)
        try:
            pa, size = self._translate(va + self.header.startkernel - LINKED_AT)
        except AddressError as error:
            raise type(error)(va, error.detail) from None
        return pa, min(size, self.header.dmapbase - va)

    @abstractmethod
    def _translate(self, va: int) -> tuple[int, int]:
        """The translation where the kernel runs."""


class DisplacedRadixPageMap(_Displaced, RadixPageMap):
    """The radix tree of a dump."""

    def _translate(self, va: int) -> tuple[int, int]:
        return RadixPageMap.translate(self, va)


_KERNEL_VSID = 1 << 36
_INVERSE = pow(0x13BB, -1, _KERNEL_VSID)
_VSID_HASH = (1 << 39) - 1
_VRMA = 0x1FFFFFF
_LARGE = 4
_HID = 2
_FRAME = 0x0FFFFFFFFFFFF000
_GROUP = 8


def kernel_vsid(esid: int) -> int:
    """The virtual segment of a kernel effective segment (``KERNEL_VSID`` of the pmap)."""
    return ((((esid << 8) | (esid >> 28)) * 0x13BB) & (_KERNEL_VSID - 1)) | _KERNEL_VSID


def kernel_esid(vsid: int) -> int:
    """The effective segment of a kernel virtual segment: `kernel_vsid` turned around (0x13BB is odd)."""
    rotated = vsid * _INVERSE % _KERNEL_VSID
    return (rotated >> 8 | rotated << 28) % _KERNEL_VSID


class HashPageMap(_Displaced):
    """The hashed page table: groups of eight 16-byte entries.

    It is searched for one address; listing it means turning the hash around.
    """

    name = "minidump, hashed page table"

    def __init__(self, header: MinidumpHeader, table: SectionTable, page_size: int) -> None:
        """``table`` holds the entries as pairs of 8-byte words.

        Raises:
            FormatError: the number of groups is not a power of two.
        """
        super().__init__()
        self.page_size = page_size
        self.header = header
        self._table = table
        groups = table.length // (2 * _GROUP)
        if not groups or groups & (groups - 1):
            msg = f"the hashed page table has {groups} groups, which is no power of two"
            raise FormatError(msg)
        self._mask = groups - 1
        self.page_granular = _is_granular(header)
        # The end of the direct map is inclusive in powerpc64 headers.
        self.directs = (DirectMap(header.dmapbase, min(header.dmapend + 1, _TOP), 0),)
        self._leaves: list[Leaf] | None = None

    def _translate(self, va: int) -> tuple[int, int]:
        base, end, _ = self.directs[0]
        if base <= va < end:
            return va - base, end - va
        if va < self.header.kernbase or va >= _TOP:
            raise NotMappedError(va)
        try:
            for shift, size_bit, page_bits in ((12, 0, 5), (24, _LARGE, 4)):
                low = self._search(va, shift, size_bit, page_bits)
                if low is not None:
                    within = va & ((1 << shift) - 1)
                    return (low & _FRAME & -(1 << shift)) + within, (1 << shift) - within
        except AddressError as error:
            raise type(error)(va, error.detail) from None
        raise NotMappedError(va)

    def _search(self, va: int, shift: int, size_bit: int, page_bits: int) -> int | None:
        """The low word of the entry for ``va`` among pages of one size: the primary group, then the secondary.

        The entry repeats the upper ``page_bits`` bits of the page number within the segment.
        """
        vsid = kernel_vsid(va >> 28)
        page = (va & 0x0FFFFFFF) >> shift
        upper = page >> (28 - shift - page_bits)
        hashed = (vsid & _VSID_HASH) ^ page
        for hid, value in ((0, hashed), (_HID, ~hashed & _VSID_HASH)):
            first = (value & self._mask) * 2 * _GROUP
            for at in range(first, first + 2 * _GROUP, 2):
                high = self._table[at]
                if (
                    high & 7 == hid | size_bit | 1
                    and high >> 12 == vsid
                    and (high >> 7 & 31) >> (5 - page_bits) == upper
                ):
                    return self._table[at + 1]
        return None

    def translations(self, start: int = 0, end: int = _TOP) -> Iterator[Leaf]:
        """See `PageMap.translations`."""
        base, top, _ = self.directs[0]
        yield from self.walk(start, min(end, base))
        if max(start, base) < min(end, top):
            low = max(start, base)
            yield Leaf(low, low - base, min(end, top) - low, Protection.UNKNOWN)
        yield from self.walk(max(start, top), end)

    def walk(self, start: int = 0, end: int = _TOP) -> Iterator[Leaf]:
        """See `PageMap.walk`."""
        if self._leaves is None:
            self._leaves = self._listed()
        first = bisect_left(self._leaves, start, key=lambda leaf: leaf.va + leaf.length - 1)
        last = bisect_left(self._leaves, end, key=lambda leaf: leaf.va)
        return join(clip(self._leaves[first:last], start, end))

    def _listed(self) -> list[Leaf]:
        """Every kernel entry by address; where several map a place, the one that a search would find first."""
        entries = sorted(self._entries(), key=lambda entry: entry[0])
        ranges = [(leaf.va, leaf.va + leaf.length) for _, leaf in entries]
        pieces = []
        for start, end, index in first_wins(ranges):
            leaf = entries[index][1]
            pieces.append(Leaf(start, (leaf.pa or 0) + start - leaf.va, end - start, leaf.prot))
        return pieces

    def _entries(self) -> Iterator[tuple[tuple[int, int, int], Leaf]]:
        """Every valid entry whose segment is one of the kernel's, with its rank in a search."""
        first, last = self.header.kernbase >> 28, min(self.header.kernend, _TOP - 1) >> 28
        for index, table in self._table.chunks(0, self._table.length):
            if isinstance(table, AddressError):
                warning = f"the hashed page table is cut off at entry {index // 2}"
                if warning not in self.warnings:
                    self.warnings.append(warning)
                return
            for at in range(0, len(table) - 1, 2):
                high = table[at]
                vsid = high >> 12 & 0x3FFFFFFFFFFFF
                if high & 1 and high >> 62 == 0 and vsid & _KERNEL_VSID and vsid >> 12 != _VRMA:
                    esid = kernel_esid(vsid)
                    if kernel_vsid(esid) == vsid and first <= esid <= last:
                        rank = (high & _LARGE, high & _HID, index + at)
                        for leaf in self._leaf(high, table[at + 1], (index + at) // (2 * _GROUP), esid):
                            yield rank, leaf

    def _leaf(self, high: int, low: int, group: int, esid: int) -> Iterator[Leaf]:
        """The page of an entry: its number is in the hash or, above the bits of the mask, in the entry."""
        shift = 24 if high & _LARGE else 12
        value = ~group if high & _HID else group
        page = (value ^ high >> 12) & self._mask & 0x7FF | (high >> 7 & 31) << 11 if shift == 12 else high >> 8 & 15
        va = esid << 28 | page << shift
        if self.directs[0].base <= va < self.directs[0].end:
            return
        # pp: 2 read and write, 3 read only; bit 2 is no-execute (libkvm has both the wrong way round).
        prot = PROTECTIONS[1 | (2 if low & 3 == 2 else 0) | (0 if low & 4 else 4)]
        yield Leaf(va, low & _FRAME & -(1 << shift), 1 << shift, prot)


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump, by the name of the kernel's MMU code.

    Raises:
        FormatError: an unknown MMU, or a page map that cannot be one of its kind.
    """
    table = section(8)
    if header.mmu_name in ("mmu_g5", "mmu_phyp"):
        return HashPageMap(header, table, memory.page_size)
    if header.mmu_name != "mmu_radix":
        msg = f"unknown MMU {header.mmu_name!r} in the powerpc64 minidump; mmu_g5, mmu_phyp and mmu_radix are known"
        raise FormatError(msg)
    if header.pmapsize != RADIX_ROOT_SIZE:
        msg = f"the radix page map has {header.pmapsize:#x} bytes, {RADIX_ROOT_SIZE:#x} expected"
        raise FormatError(msg)
    dmapend = min(header.dmapend + 1, _TOP)
    origin = header.kernbase >> 52 << 52
    windows = (
        Window(header.dmapbase, dmapend, header.dmapbase, direct=True),
        Window(header.kernbase, min(origin + (1 << 52), _TOP), origin),
    )
    page_map = DisplacedRadixPageMap(memory, table, windows, "big")
    page_map.header = header
    page_map.page_granular = _is_granular(header)
    return page_map
