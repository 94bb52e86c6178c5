"""The page map section of a minidump: what each architecture's kernel writes for its kernel mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import hpt
from .memory import Mapping, PhysicalMemory
from .parameters import ARM_MMU_V4, GIB, KIB, MIB, Parameters

AMD64_V, AMD64_RW, AMD64_A, AMD64_M, AMD64_PS, AMD64_G, AMD64_NX = 0x1, 0x2, 0x20, 0x40, 0x80, 0x100, 1 << 63
ARM64_PAGE, ARM64_RO, ARM64_PXN, ARM64_UXN = 0x3, 0x80, 1 << 53, 1 << 54
ARM64_KERNEL_PAGE = 0x70B  # access flag, inner shareable, write-back memory, page
ARM64_FABRICATED = 0x703  # what the dumper makes of a block: access flag, inner shareable, page
RISCV_V, RISCV_R, RISCV_W, RISCV_X, RISCV_G, RISCV_A, RISCV_D = 0x1, 0x2, 0x4, 0x8, 0x20, 0x40, 0x80
RADIX_VALID, RADIX_LEAF = 1 << 63, 1 << 62
RADIX_READ, RADIX_WRITE, RADIX_EXECUTE = 4, 2, 1
RADIX_PRIVILEGED, RADIX_CHANGED, RADIX_REFERENCED = 0x8, 0x80, 0x100
RADIX_ROOT_ENTRIES = 8192


@dataclass
class PageMap:
    """A page map section and the page table pages that it refers to.

    Attributes:
        data: The section.
        tables: Physical addresses of the page table pages which were made in memory.
    """

    data: bytes
    tables: set[int] = field(default_factory=set)


def build_page_map(
    arch: str, version: int, memory: PhysicalMemory, mappings: Iterable[Mapping], parameters: Parameters
) -> PageMap:
    """Return the page map of a kernel with these mappings; page table pages that are dumped go into `memory`.

    Raises:
        ValueError: A mapping cannot be expressed (outside the map, or a leaf size that the format does not have).
    """
    mappings = list(mappings)
    if arch == "amd64" and version >= 2:
        return _amd64_pde_map(memory, mappings, parameters)
    if arch in ("powerpc64", "powerpc64le"):
        if parameters.mmu_name == "mmu_radix":
            return _radix(memory, mappings)
        return PageMap(hpt.build_hpt(mappings, parameters.hpt_groups, parameters.page_size))
    flat = _FLAT[arch]
    return _flat_map(mappings, parameters, flat(version, parameters))


def _span(mappings: list[Mapping], parameters: Parameters, step: int) -> int:
    """Return how many bytes of kernel address space the map describes, in steps of one map page."""
    end = parameters.kernel_end
    if end is None:
        end = max((mapping.end for mapping in mappings), default=parameters.kernbase)
    for mapping in mappings:
        if mapping.va < parameters.kernbase or mapping.end > max(end, parameters.kernbase):
            raise ValueError(f"{mapping} is outside the page map")
    return -(-(end - parameters.kernbase) // step) * step


@dataclass(frozen=True)
class _Flat:
    """A map with one entry per base page.

    Attributes:
        entry_size: Bytes of an entry.
        superpages: Leaf sizes which are expanded into an entry per base page.
        entry: Makes the entry of the base page at (mapping, page's pa).
    """

    entry_size: int
    superpages: tuple[int, ...]
    entry: Callable[[Mapping, int], int]


def _flat_map(mappings: list[Mapping], parameters: Parameters, flat: _Flat) -> PageMap:
    page_size = parameters.page_size
    step = page_size // flat.entry_size * page_size
    data = bytearray(_span(mappings, parameters, step) // page_size * flat.entry_size)
    for mapping in mappings:
        if mapping.leaf not in (None, page_size, *flat.superpages):
            raise ValueError(f"{mapping}: pages of this size do not exist here")
        for va, pa in mapping.base_pages(page_size):
            position = (va - parameters.kernbase) // page_size * flat.entry_size
            entry = flat.entry(mapping, pa)
            data[position : position + flat.entry_size] = entry.to_bytes(flat.entry_size, parameters.byteorder)
    return PageMap(bytes(data))


def x86_attributes(mapping: Mapping, *, nx: bool = True) -> int:
    """Return the attribute bits of a valid amd64 or i386 kernel entry (without PS)."""
    bits = AMD64_V | AMD64_A | AMD64_G
    if mapping.write:
        bits |= AMD64_RW | AMD64_M
    if nx and not mapping.execute:
        bits |= AMD64_NX
    return bits


def _amd64_pde_map(memory: PhysicalMemory, mappings: list[Mapping], parameters: Parameters) -> PageMap:
    """One PDE per 2 MiB, one map page per GiB; 4 KiB mappings go through page table pages in memory."""
    pdes = [0] * (_span(mappings, parameters, GIB) // (2 * MIB))
    tables: dict[int, int] = {}
    for mapping in mappings:
        if mapping.leaf not in (None, 4 * KIB, 2 * MIB, GIB):
            raise ValueError(f"{mapping}: pages of this size do not exist here")
        for va, pa in mapping.leaves(parameters.page_size):
            index = (va - parameters.kernbase) >> 21
            if mapping.leaf in (2 * MIB, GIB):
                for part in range(mapping.leaf // (2 * MIB)):
                    pdes[index + part] = (pa + part * 2 * MIB) | x86_attributes(mapping) | AMD64_PS
                continue
            if index not in tables:
                tables[index] = memory.allocate()
                pdes[index] = tables[index] | AMD64_V | AMD64_RW | AMD64_A | AMD64_M
            memory.write_integer(tables[index] + (va >> 12 & 511) * 8, pa | x86_attributes(mapping), 8)
    return PageMap(b"".join(pde.to_bytes(8, "little") for pde in pdes), set(tables.values()))


def _amd64_flat(version: int, parameters: Parameters) -> _Flat:
    """Version 1: a PTE per 4 KiB; superpages are expanded as writable pages without NX."""

    def entry(mapping: Mapping, pa: int) -> int:
        if mapping.leaf == 2 * MIB:
            return pa | AMD64_V | AMD64_RW | AMD64_A | AMD64_M
        return pa | x86_attributes(mapping)

    return _Flat(8, (2 * MIB,), entry)


def _i386_flat(version: int, parameters: Parameters) -> _Flat:
    """4-byte PTEs, or 8-byte ones in PAE mode; superpages are expanded as writable pages without NX."""
    superpage = 2 * MIB if parameters.paemode else 4 * MIB

    def entry(mapping: Mapping, pa: int) -> int:
        if mapping.leaf == superpage:
            return pa | AMD64_V | AMD64_RW | AMD64_A | AMD64_M
        return pa | x86_attributes(mapping, nx=parameters.paemode)

    return _Flat(8 if parameters.paemode else 4, (superpage,), entry)


def arm64_attributes(mapping: Mapping, *, uxn: bool) -> int:
    """Return a kernel page descriptor without its address.

    Args:
        mapping: The mapping.
        uxn: Kernels since 13 set UXN on every kernel page; whether the kernel may execute it is PXN alone.
    """
    bits = ARM64_KERNEL_PAGE | (0 if mapping.write else ARM64_RO)
    if not mapping.execute:
        bits |= ARM64_PXN | ARM64_UXN
    return bits | ARM64_UXN if uxn else bits


def _arm64_flat(version: int, parameters: Parameters) -> _Flat:
    """L3 descriptors only; blocks are expanded into entries that have lost their protection."""
    blocks = (2 * MIB, GIB) if parameters.page_size == 4 * KIB else (32 * MIB,)

    def entry(mapping: Mapping, pa: int) -> int:
        if mapping.leaf in blocks:
            return pa | ARM64_FABRICATED
        return pa | arm64_attributes(mapping, uxn=version >= 2)

    return _Flat(8, blocks, entry)


def riscv_attributes(mapping: Mapping, pbmt: int = 0) -> int:
    """Return a kernel leaf PTE without its page number."""
    bits = RISCV_V | RISCV_R | RISCV_G | RISCV_A | RISCV_D
    bits |= (RISCV_W if mapping.write else 0) | (RISCV_X if mapping.execute else 0)
    return bits | pbmt << 61


def _riscv_flat(version: int, parameters: Parameters) -> _Flat:
    """PTEs; a 2 MiB superpage is expanded with its protection."""

    def entry(mapping: Mapping, pa: int) -> int:
        return pa >> 12 << 10 | riscv_attributes(mapping, parameters.pbmt)

    return _Flat(8, (2 * MIB,), entry)


def arm_small_page(mapping: Mapping, pa: int, mmuformat: int) -> int:
    """Return the L2 descriptor of a 4 KiB page."""
    if mmuformat == ARM_MMU_V4:
        return pa | 0x2 | (0x550 if mapping.write else 0)  # AP bits of all four subpages
    return pa | 0x2 | 0x10 | (0 if mapping.write else 0x80) | (0 if mapping.execute else 0x1)


def arm_large_page(mapping: Mapping, pa: int, mmuformat: int) -> int:
    """Return the L2 descriptor of a 64 KiB page (which stands in 16 consecutive slots)."""
    frame = pa & 0xFFFF_0000
    if mmuformat == ARM_MMU_V4:
        return frame | 0x1 | (0x550 if mapping.write else 0)
    return frame | 0x1 | 0x10 | (0 if mapping.write else 0x2000) | (0 if mapping.execute else 0x8000)


def _arm_flat(version: int, parameters: Parameters) -> _Flat:
    """L2 descriptors; sections are expanded into small pages."""

    def entry(mapping: Mapping, pa: int) -> int:
        if mapping.leaf == 64 * KIB:
            return arm_large_page(mapping, pa, parameters.mmuformat)
        return arm_small_page(mapping, pa, parameters.mmuformat)

    return _Flat(4, (64 * KIB, MIB), entry)


def _mips_flat(version: int, parameters: Parameters) -> _Flat:
    """TLB entries: global, valid, dirty, cached; read-only is a software bit at the top."""
    read_only = 1 << (29 if parameters.pte_size == 4 else 55)

    def entry(mapping: Mapping, pa: int) -> int:
        return pa >> 12 << 6 | 0x18 | 0x3 | (0x4 if mapping.write else read_only)

    return _Flat(parameters.pte_size, (), entry)


def radix_attributes(mapping: Mapping) -> int:
    """Return a radix leaf entry without its address."""
    bits = RADIX_VALID | RADIX_LEAF | RADIX_PRIVILEGED | RADIX_REFERENCED | RADIX_CHANGED | RADIX_READ
    return bits | (RADIX_WRITE if mapping.write else 0) | (RADIX_EXECUTE if mapping.execute else 0)


def _radix(memory: PhysicalMemory, mappings: list[Mapping]) -> PageMap:
    """The 64 KiB root is the section; the tables below it are pages in memory, all big endian."""
    root = [0] * RADIX_ROOT_ENTRIES
    tables: set[int] = set()
    for mapping in mappings:
        shift = {None: 12, 4 * KIB: 12, 2 * MIB: 21, GIB: 30}.get(mapping.leaf)
        if shift is None:
            raise ValueError(f"{mapping}: pages of this size do not exist here")
        for va, pa in mapping.leaves(memory.page_size):
            index = va >> 39 & (RADIX_ROOT_ENTRIES - 1)
            if not root[index]:
                root[index] = _radix_table(memory, tables)
            table = root[index] & 0x00FF_FFFF_FFFF_FF00
            for level in (30, 21, 12):
                slot = table + (va >> level & 511) * 8
                if level == shift:
                    memory.write_integer(slot, pa | radix_attributes(mapping), 8, "big")
                    break
                entry = memory.read_integer(slot, 8, "big")
                if not entry:
                    entry = _radix_table(memory, tables)
                    memory.write_integer(slot, entry, 8, "big")
                table = entry & 0x00FF_FFFF_FFFF_FF00
    return PageMap(b"".join(entry.to_bytes(8, "big") for entry in root), tables)


def _radix_table(memory: PhysicalMemory, tables: set[int]) -> int:
    """Allocate a table and return the entry that points to it; the low bits say its size is 9 bits."""
    table = memory.allocate()
    tables.add(table)
    return RADIX_VALID | table | 9


_FLAT: dict[str, Callable[[int, Parameters], _Flat]] = {
    "amd64": _amd64_flat,
    "i386": _i386_flat,
    "arm64": _arm64_flat,
    "riscv": _riscv_flat,
    "arm": _arm_flat,
    "mips": _mips_flat,
}
