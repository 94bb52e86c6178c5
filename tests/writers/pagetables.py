"""Hardware page tables inside simulated memory, as the MMU of each architecture reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

from .headers import ByteOrder
from .memory import Mapping, PhysicalMemory
from .pagemaps import (
    AMD64_A,
    AMD64_M,
    AMD64_PS,
    AMD64_RW,
    AMD64_V,
    ARM64_PAGE,
    RISCV_V,
    arm64_attributes,
    arm_large_page,
    arm_small_page,
    riscv_attributes,
    x86_attributes,
)
from .parameters import ARM_MMU_V6, GIB, KIB, MIB

X86_TABLE = AMD64_V | AMD64_RW | AMD64_A | AMD64_M


@dataclass(frozen=True)
class _Format:
    """A tree of page tables.

    Attributes:
        shifts: Number of address bits below each level's index, from the root down.
        entries: Number of entries of a table at each level.
        entry_size: Bytes of an entry.
        leaf_shifts: Leaf size in bytes to the level's shift.
        leaf: Makes the leaf entry of (mapping, pa, shift).
        pointer: Makes the entry that points to a table, of (table's pa, shift).
        target: Takes the table's address out of such an entry.
    """

    shifts: tuple[int, ...]
    entries: tuple[int, ...]
    entry_size: int
    leaf_shifts: Dictionary[int, int]
    leaf: Callable[[Mapping, int, int], int]
    pointer: Callable[[int, int], int]
    target: Callable[[int], int]

    def build(self, memory: PhysicalMemory, mappings: Iterable[Mapping]) -> int:
        """Make all tables and return the physical address of the root."""
        root = memory.allocate(-(-self.entries[0] * self.entry_size // memory.page_size))
        for mapping in mappings:
            size = mapping.leaf or memory.page_size
            if size not in self.leaf_shifts:
                raise ValueError(f"{mapping}: pages of this size do not exist here")
            for va, pa in mapping.leaves(memory.page_size):
                self._enter(memory, root, va, self.leaf_shifts[size], self.leaf(mapping, pa, self.leaf_shifts[size]))
        return root

    def _enter(self, memory: PhysicalMemory, root: int, va: int, leaf_shift: int, leaf: int) -> None:
        table = root
        for shift, entries in zip(self.shifts, self.entries, strict=True):
            slot = table + (va >> shift & (entries - 1)) * self.entry_size
            if shift == leaf_shift:
                memory.write_integer(slot, leaf, self.entry_size)
                return
            entry = memory.read_integer(slot, self.entry_size)
            if not entry:
                entry = self.pointer(memory.allocate(), shift)
                memory.write_integer(slot, entry, self.entry_size)
            table = self.target(entry)


def amd64(
    memory: PhysicalMemory, mappings: Iterable[Mapping], *, levels: int = 4, recursive_slot: int | None = None
) -> int:
    """Build amd64 tables (leaves of 4 KiB, 2 MiB, 1 GiB) and return the physical address of the root.

    Args:
        memory: Where the tables go.
        mappings: What they map.
        levels: 4 (the root is a PML4) or 5 (LA57: a PML5, whose entry 511 points to the kernel's PML4).
        recursive_slot: Root index of an entry that points back to the root (PML4PML4I is 256 on FreeBSD).
    """
    if levels not in (4, 5):
        raise ValueError(f"amd64 has 4 or 5 levels, not {levels}")
    tree = _Format(
        shifts=(48, 39, 30, 21, 12)[5 - levels :],
        entries=(512,) * levels,
        entry_size=8,
        leaf_shifts={4 * KIB: 12, 2 * MIB: 21, GIB: 30},
        leaf=lambda mapping, pa, shift: pa | x86_attributes(mapping) | (AMD64_PS if shift > 12 else 0),
        pointer=lambda table, shift: table | X86_TABLE,
        target=lambda entry: entry & 0x000F_FFFF_FFFF_F000,
    )
    root = tree.build(memory, mappings)
    if recursive_slot is not None:
        memory.write_integer(root + recursive_slot * 8, root | X86_TABLE, 8)
    return root


def i386(memory: PhysicalMemory, mappings: Iterable[Mapping]) -> int:
    """Build non-PAE tables (leaves of 4 KiB, 4 MiB) and return the physical address of the page directory."""
    return _Format(
        shifts=(22, 12),
        entries=(1024, 1024),
        entry_size=4,
        leaf_shifts={4 * KIB: 12, 4 * MIB: 22},
        leaf=lambda mapping, pa, shift: pa | x86_attributes(mapping, nx=False) | (AMD64_PS if shift > 12 else 0),
        pointer=lambda table, shift: table | X86_TABLE,
        target=lambda entry: entry & 0xFFFF_F000,
    ).build(memory, mappings)


def i386_pae(memory: PhysicalMemory, mappings: Iterable[Mapping]) -> int:
    """Build PAE tables (leaves of 4 KiB, 2 MiB) and return the physical address of the four-entry PDPT."""
    return _Format(
        shifts=(30, 21, 12),
        entries=(4, 512, 512),
        entry_size=8,
        leaf_shifts={4 * KIB: 12, 2 * MIB: 21},
        leaf=lambda mapping, pa, shift: pa | x86_attributes(mapping) | (AMD64_PS if shift > 12 else 0),
        pointer=lambda table, shift: table | (AMD64_V if shift == 30 else X86_TABLE),
        target=lambda entry: entry & 0x000F_FFFF_FFFF_F000,
    ).build(memory, mappings)


def arm64(memory: PhysicalMemory, mappings: Iterable[Mapping], *, uxn: bool = True) -> int:
    """Build 48-bit arm64 tables and return the physical address of level 0.

    The granule is the memory's page size: with 4 KiB blocks have 2 MiB and 1 GiB, with 16 KiB they have 32 MiB.

    Args:
        memory: Where the tables go.
        mappings: What they map.
        uxn: See `arm64_attributes`.
    """
    granules = {
        4 * KIB: ((39, 30, 21, 12), (512, 512, 512, 512), {4 * KIB: 12, 2 * MIB: 21, GIB: 30}),
        16 * KIB: ((47, 36, 25, 14), (2, 2048, 2048, 2048), {16 * KIB: 14, 32 * MIB: 25}),
    }
    shifts, entries, leaf_shifts = granules[memory.page_size]

    def leaf(mapping: Mapping, pa: int, shift: int) -> int:
        descriptor = pa | arm64_attributes(mapping, uxn=uxn)
        return descriptor if shift == shifts[-1] else descriptor & ~0x2  # a block has type 1, a page type 3

    return _Format(
        shifts=shifts,
        entries=entries,
        entry_size=8,
        leaf_shifts=leaf_shifts,
        leaf=leaf,
        pointer=lambda table, shift: table | ARM64_PAGE,
        target=lambda entry: entry & 0x0000_FFFF_FFFF_F000,
    ).build(memory, mappings)


def riscv(memory: PhysicalMemory, mappings: Iterable[Mapping], *, levels: int = 3, pbmt: int = 0) -> int:
    """Build riscv tables (leaves of 4 KiB, 2 MiB, 1 GiB) and return the physical address of the root.

    Args:
        memory: Where the tables go.
        mappings: What they map.
        levels: 3 for Sv39, 4 for Sv48.
        pbmt: Svpbmt memory type of the leaves.
    """
    if levels not in (3, 4):
        raise ValueError(f"Sv39 has 3 levels, Sv48 has 4; {levels} is neither")
    return _Format(
        shifts=(39, 30, 21, 12)[4 - levels :],
        entries=(512,) * levels,
        entry_size=8,
        leaf_shifts={4 * KIB: 12, 2 * MIB: 21, GIB: 30},
        leaf=lambda mapping, pa, shift: pa >> 12 << 10 | riscv_attributes(mapping, pbmt),
        pointer=lambda table, shift: table >> 12 << 10 | RISCV_V,
        target=lambda entry: (entry & 0x003F_FFFF_FFFF_FC00) >> 10 << 12,
    ).build(memory, mappings)


def arm_section(mapping: Mapping, pa: int) -> int:
    """Return the L1 descriptor of a 1 MiB section."""
    return pa | 0x2 | 0x400 | (0 if mapping.write else 0x2000) | (0 if mapping.execute else 0x10)


def arm(
    memory: PhysicalMemory,
    mappings: Iterable[Mapping],
    *,
    mmuformat: int = ARM_MMU_V6,
    byteorder: ByteOrder = "little",
) -> int:
    """Build arm short-descriptor tables and return the physical address of L1 (16 KiB, aligned to its size).

    Leaves are 4 KiB, 64 KiB and 1 MiB sections. Four consecutive L2 tables of 1 KiB share a page, as in the kernel.
    """
    l1 = memory.allocate(4, align=16 * KIB)
    l2_pages: dict[int, int] = {}
    for mapping in mappings:
        if mapping.leaf == MIB:
            for va, pa in mapping.leaves(4 * KIB):
                memory.write_integer(l1 + (va >> 20) * 4, arm_section(mapping, pa), 4, byteorder)
            continue
        if mapping.leaf not in (None, 4 * KIB, 64 * KIB):
            raise ValueError(f"{mapping}: pages of this size do not exist here")
        make = arm_large_page if mapping.leaf == 64 * KIB else arm_small_page
        for va, pa in mapping.base_pages(4 * KIB):
            if va >> 22 not in l2_pages:
                l2_pages[va >> 22] = memory.allocate()
            l2 = l2_pages[va >> 22] + (va >> 20 & 3) * KIB
            memory.write_integer(l1 + (va >> 20) * 4, l2 | 0x1, 4, byteorder)
            memory.write_integer(l2 + (va >> 12 & 255) * 4, make(mapping, pa, mmuformat), 4, byteorder)
    return l1
