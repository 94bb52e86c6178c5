"""The hashed page table of powerpc64 (Power ISA 2.07B book III-S 5.7.7, with FreeBSD's kernel segment numbers)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .memory import Mapping
from .parameters import KIB, MIB

GROUP_ENTRIES = 8
HASH_MASK = (1 << 39) - 1
KERNEL_VSID_BIT = 1 << 36
LARGE_PAGE = 16 * MIB

HI_VALID, HI_SECONDARY, HI_BIG = 0x1, 0x2, 0x4
LO_REFERENCED, LO_CHANGED, LO_COHERENT = 0x100, 0x80, 0x10
LO_NOEXEC, LO_READ_WRITE, LO_READ_ONLY = 0x4, 0x2, 0x3


class Entry(NamedTuple):
    """A hashed page table entry: its two doublewords. An entry of zeros is free."""

    hi: int
    lo: int


def kernel_vsid(va: int) -> int:
    """Return the virtual segment number that the kernel uses for the 256 MiB segment of an effective address."""
    esid = va >> 28
    return ((esid << 8 | esid >> 28) * 0x13BB) % KERNEL_VSID_BIT | KERNEL_VSID_BIT


def primary_hash(va: int, page_shift: int) -> int:
    """Return the primary hash of an effective address for pages of 2**page_shift bytes."""
    return kernel_vsid(va) & HASH_MASK ^ (va & 0x0FFF_FFFF) >> page_shift


def make_entry(mapping: Mapping, va: int, pa: int, *, big: bool, secondary: bool) -> Entry:
    """Return the entry of one page."""
    abbreviated_page = (va & 0x0FFF_F000) >> 16 & 0xF80  # the five high bits of the page number
    hi = kernel_vsid(va) << 12 | abbreviated_page | HI_VALID
    hi |= (HI_BIG if big else 0) | (HI_SECONDARY if secondary else 0)
    lo = pa | LO_REFERENCED | LO_CHANGED | LO_COHERENT | (LO_READ_WRITE if mapping.write else LO_READ_ONLY)
    return Entry(hi, lo if mapping.execute else lo | LO_NOEXEC)


def build_hpt(mappings: Iterable[Mapping], groups: int, page_size: int = 4 * KIB) -> bytes:
    """Return the table.

    A page goes into the first free slot of its primary group; if that is full, of its secondary group.

    Args:
        mappings: Leaves of 4 KiB (None) or 16 MiB.
        groups: Number of groups, a power of two, at least 2048.
        page_size: 4096.

    Raises:
        ValueError: Bad number of groups or bad leaf size.
        MemoryError: Both groups of a page are full.
    """
    if groups & (groups - 1) or groups < 2048:
        raise ValueError(f"{groups} groups: must be a power of two, at least 2048")
    table: list[list[Entry]] = [[] for _ in range(groups)]
    for mapping in mappings:
        if mapping.leaf not in (None, 4 * KIB, LARGE_PAGE):
            raise ValueError(f"{mapping}: pages of this size do not exist here")
        big = mapping.leaf == LARGE_PAGE
        for va, pa in mapping.leaves(page_size):
            hashed = primary_hash(va, 24 if big else 12)
            for secondary in (False, True):
                group = table[(hashed ^ HASH_MASK if secondary else hashed) % groups]
                if len(group) < GROUP_ENTRIES:
                    group.append(make_entry(mapping, va, pa, big=big, secondary=secondary))
                    break
            else:
                raise MemoryError(f"no slot for {va:#x}: both groups are full")
    data = bytearray()
    for group in table:
        for entry in [*group, *[Entry(0, 0)] * (GROUP_ENTRIES - len(group))]:
            data += entry.hi.to_bytes(8, "big") + entry.lo.to_bytes(8, "big")
    return bytes(data)
