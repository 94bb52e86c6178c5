"""A small kernel for each dump format: mappings and pages of every kind, and the truth about each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .bitmap import Range
from .headers import has_dump_avail
from .memory import Mapping, PhysicalMemory
from .minidump import Minidump, build_minidump
from .parameters import ARM_MMU_V4, GIB, KIB, MIB, Parameters, defaults

READ, WRITE, EXECUTE, UNKNOWN = 1, 2, 4, 0x80
"""Protection bits of vm_prot_t; UNKNOWN where the dump does not keep the protection."""


@dataclass(frozen=True)
class Variant:
    """A dump format to try.

    Attributes:
        arch: Architecture.
        version: Minidump version.
        label: What is special about it.
        superpages: Leaf sizes that the scenario also maps.
        options: Fields of `Parameters` that differ from the defaults.
    """

    arch: str
    version: int
    label: str = ""
    superpages: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return "-".join(filter(None, [self.arch, f"v{self.version}", self.label]))

    @property
    def parameters(self) -> Parameters:
        """The dump's parameters."""
        known = defaults(
            self.arch,
            self.version,
            mmu_name=self.options.get("mmu_name", "mmu_phyp"),
            pte_size=self.options.get("pte_size", 4),
        )
        return Parameters(**{**known.__dict__, **self.options})


_RADIX = {"mmu_name": "mmu_radix"}
_MIPS64 = {"pte_size": 8}

VARIANTS = (
    Variant("amd64", 1, superpages=(2 * MIB,)),
    Variant("amd64", 2, superpages=(2 * MIB, GIB)),
    Variant("amd64", 3, superpages=(2 * MIB, GIB)),
    Variant("i386", 1, superpages=(4 * MIB,)),
    Variant("i386", 1, "4-4", (4 * MIB,), {"kernbase": 0x80_0000}),
    Variant("i386", 1, "pae", (2 * MIB,), {"kernbase": 0x40_0000, "paemode": True}),
    Variant("i386", 2, "nopae", (4 * MIB,), {"paemode": False}),
    Variant("i386", 2, "pae", (2 * MIB,)),
    Variant("arm64", 1, superpages=(2 * MIB, GIB)),
    Variant("arm64", 2, superpages=(2 * MIB, GIB)),
    Variant("arm64", 3, superpages=(2 * MIB, GIB)),
    Variant("arm64", 3, "16k", (32 * MIB,), {"page_size": 16 * KIB}),
    Variant("riscv", 1, superpages=(2 * MIB,)),
    Variant("riscv", 2, superpages=(2 * MIB,)),
    Variant("riscv", 2, "pbmt", (2 * MIB,), {"pbmt": 1}),
    Variant("arm", 1, "short", (64 * KIB, MIB), {"short_header": True}),
    Variant("arm", 1, "long", (64 * KIB, MIB)),
    Variant("arm", 1, "mmu-v4", (64 * KIB, MIB), {"mmuformat": ARM_MMU_V4, "arm_arch": 5}),
    Variant("arm", 1, "mmu-unknown", (64 * KIB, MIB), {"mmuformat": 0}),
    Variant("arm", 1, "big-endian", (64 * KIB, MIB), {"byteorder": "big"}),
    Variant("arm", 2, "avail-8", (64 * KIB, MIB)),
    Variant("arm", 2, "avail-4", (64 * KIB, MIB), {"dump_avail_entry": 4}),
    Variant("powerpc64", 1, "hash", (16 * MIB,)),
    Variant("powerpc64", 2, "hash", (16 * MIB,)),
    Variant("powerpc64", 2, "hash-g5", (16 * MIB,), {"mmu_name": "mmu_g5", "hpt_groups": 4096}),
    Variant("powerpc64", 1, "radix", (2 * MIB, GIB), _RADIX),
    Variant("powerpc64", 2, "radix", (2 * MIB, GIB), _RADIX),
    Variant("powerpc64le", 1, "hash", (16 * MIB,)),
    Variant("powerpc64le", 2, "hash", (16 * MIB,)),
    Variant("powerpc64le", 1, "radix", (2 * MIB, GIB), _RADIX),
    Variant("powerpc64le", 2, "radix", (2 * MIB, GIB), _RADIX),
    Variant("mips", 1, "32-big"),
    Variant("mips", 1, "32-little", options={"byteorder": "little"}),
    Variant("mips", 1, "64-big", options=_MIPS64),
    Variant("mips", 1, "64-little", options={**_MIPS64, "byteorder": "little"}),
    Variant("mips", 2, "32-big"),
    Variant("mips", 2, "64-little", options={**_MIPS64, "byteorder": "little"}),
)


@dataclass(frozen=True)
class PageTruth:
    """What is true of one mapped base page.

    Attributes:
        va: Virtual address.
        pa: Physical address.
        protection: As far as the dump keeps it.
        offset: File offset, or None if the page is not dumped.
    """

    va: int
    pa: int
    protection: int
    offset: int | None


@dataclass(frozen=True)
class Scenario:
    """A dump and what it should say.

    Attributes:
        variant: The format.
        dump: The dump.
        mappings: What the page map maps.
        undumped: A page inside the ranges of dump_avail that is mapped but not dumped.
        device: A page outside the ranges that is mapped.
        unmapped_va: An address inside the page map that maps nothing.
        gaps: Pages between the ranges.
    """

    variant: Variant
    dump: Minidump
    mappings: tuple[Mapping, ...]
    undumped: Mapping
    device: Mapping
    unmapped_va: int
    gaps: tuple[int, ...]

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.dump.memory.page_size

    def mapped_pages(self) -> Iterator[PageTruth]:
        """Yield every mapped base page."""
        offsets = self.page_offsets()
        for mapping in self.mappings:
            protection = kept_protection(self.variant, mapping)
            for va, pa in mapping.base_pages(self.page_size):
                yield PageTruth(va, pa, protection, offsets.get(pa))

    def page_offsets(self) -> dict[int, int]:
        """Return the file offset of every dumped page."""
        return {pa: self.dump.pages_offset + number * self.page_size for number, pa in enumerate(self.dump.dumped)}

    def direct_va(self, pa: int) -> int | None:
        """Return where the direct map shows a physical address, or None."""
        if self.variant.arch == "mips":  # fixed by the architecture: cached xkphys, or kseg0
            if self.dump.parameters.pte_size == 8:
                return 0x9800_0000_0000_0000 + pa
            return 0x8000_0000 + pa if pa < 512 * MIB else None
        known = self.dump.parameters
        inclusive = self.variant.arch in ("powerpc64", "powerpc64le")
        va = known.dmapbase + pa - known.dmapphys
        return va if known.dmapbase <= va < known.dmapend + inclusive else None


def kept_protection(variant: Variant, mapping: Mapping) -> int:
    """Return the protection of a mapping as far as the page map keeps it."""
    known = variant.parameters
    bits = READ | (WRITE if mapping.write else 0)
    superpage = mapping.leaf is not None
    if superpage and (variant.arch in ("arm64", "i386") or (variant.arch, variant.version) == ("amd64", 1)):
        return UNKNOWN  # expanded with fabricated attributes
    cannot_forbid_execution = (
        variant.arch == "mips"
        or (variant.arch == "i386" and not known.paemode)
        or (variant.arch == "arm" and known.mmuformat == ARM_MMU_V4)
    )
    return bits | (EXECUTE if mapping.execute or cannot_forbid_execution else 0)


def build_scenario(variant: Variant) -> Scenario:
    """Build a dump with random content.

    Physical memory, from the start of RAM on, in pages: 0-31 and 48-79 are RAM, so that the gap between has as many
    pages as an aliasing bug needs to find others; a third range is for page tables, and each superpage lies on
    its own, with only its first half in dump_avail and every third page of that dumped.
    """
    known = variant.parameters
    size = known.page_size
    ram = known.dmapphys or 0x10_0000
    tables = (ram + 0x40_0000, ram + 0x48_0000)
    memory = PhysicalMemory(size, tables)
    ranges: list[Range] = [(ram, ram + 32 * size), (ram + 48 * size, ram + 80 * size), tables]
    memory.fill_random(ram, 32 * size, seed=1)
    memory.fill_random(ram + 48 * size, 32 * size, seed=2)

    base = known.kernbase + 4 * size
    contiguous = Mapping(base, ram + 2 * size, 5 * size)
    text = Mapping(base + 5 * size, ram + 7 * size, 2 * size, write=False, execute=True)
    scattered = [Mapping(base + (7 + i) * size, ram + (79 - 2 * i) * size, size) for i in range(6)]
    undumped = Mapping(base + 16 * size, ram + 20 * size, size)
    device = Mapping(base + 17 * size, ram + 40 * size, size, execute=False)
    alias = Mapping(base + 18 * size, ram + 2 * size, size, write=False)
    mappings = [contiguous, text, *scattered, undumped, device, alias]
    not_dumped = {undumped.pa, ram + 50 * size}

    va = base + 32 * size
    pa = ram
    for leaf in variant.superpages:
        va = -(-(va + 1) // leaf) * leaf
        pa = -(-(pa + 0x50_0000) // leaf) * leaf
        mapping = Mapping(va, pa, leaf, leaf=leaf)
        mappings.append(mapping)
        half = min(leaf // 2, 24 * size)
        ranges.append((pa, pa + half))
        for page in range(pa, pa + half, 3 * size):
            memory.fill_random(page, size, seed=page)
        va, pa = mapping.end, pa + leaf

    dumped = {page for page in memory.pages if page not in not_dumped}
    dump = build_minidump(
        variant.arch,
        variant.version,
        memory,
        mappings,
        dump_avail=ranges,
        dumped=dumped,
        message_buffer=b"Copyright (c) 1992-2024 The FreeBSD Project.\n" * 100,
        parameters=known,
    )
    gaps = tuple(range(ram + 32 * size, ram + 48 * size, size)) if has_dump_avail(variant.arch, variant.version) else ()
    return Scenario(variant, dump, tuple(mappings), undumped, device, unmapped_va=known.kernbase + 2 * size, gaps=gaps)
