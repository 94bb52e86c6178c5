"""Dumps of every kind with the truth about their kernel memory, in one form for minidumps and full dumps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.writers import pagetables
from tests.writers.elfcore import elf_kernel, full_dump
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.parameters import GIB, KIB, MIB
from tests.writers.scenarios import VARIANTS, Scenario, Variant, build_scenario

XKPHYS = [0x8000_0000_0000_0000 | attribute << 59 for attribute in range(8)]


class Direct(NamedTuple):
    """Virtual [base, end) shows physical memory from phys on."""

    base: int
    end: int
    phys: int


@dataclass(frozen=True)
class Sample:
    """A dump and the truth about it.

    Attributes:
        data: The file.
        classes: Names of the layers that should stand on it, from the file upwards.
        architecture: What the kernel layer should call it.
        page_size: Bytes of a page.
        memory: Content of every dumped page by its physical address.
        mappings: What the kernel maps. The first eight follow each other, are dumped, and change direction in physical
            memory; the others may have holes.
        directs: Direct maps.
        undumped: A mapped page that is not dumped.
        unmapped_va: An address that nothing maps.
        kernel: Kernel file that the translation needs.
    """

    data: bytes
    classes: list[str]
    architecture: str
    page_size: int
    memory: dict[int, bytes]
    mappings: tuple[Mapping, ...]
    directs: tuple[Direct, ...]
    undumped: Mapping
    unmapped_va: int
    kernel: bytes | None = None

    @property
    def stretch(self) -> tuple[int, int]:
        """Start and end of the mappings that follow each other."""
        return self.mappings[0].va, self.mappings[7].end

    @functools.cached_property
    def pages(self) -> dict[int, int]:
        """Physical address of every readable page by its full virtual address, ascending."""
        found = {}
        for pa in self.memory:
            for mapping in self.mappings:
                if mapping.pa <= pa < mapping.pa + mapping.length:
                    found[mapping.va + pa - mapping.pa] = pa
            for base, end, phys in self.directs:
                if phys <= pa < phys + end - base:
                    found[base + pa - phys] = pa
        return dict(sorted(found.items()))

    def padded(self, va: int, length: int) -> bytes:
        """Content of [va, va + length), zeros where there is none."""
        size = self.page_size
        first, end = va // size * size, va + length
        absent = bytes(size)
        whole = b"".join(
            self.memory[self.pages[page]] if page in self.pages else absent for page in range(first, end, size)
        )
        return whole[va - first : end - first]

    def stretches(self, start: int = 0, end: int = 1 << 64) -> Iterator[tuple[int, bytes]]:
        """(address, content) of consecutive readable virtual memory in [start, end), which are pages."""
        at, content = 0, bytearray()
        for va, pa in self.pages.items():
            if not start <= va < end:
                continue
            if content and va != at + len(content):
                yield at, bytes(content)
                content = bytearray()
            if not content:
                at = va
            content += self.memory[pa]
        if content:
            yield at, bytes(content)


def _class_of(variant: Variant) -> tuple[str, str]:
    """Layer class and architecture."""
    known = variant.parameters
    if variant.arch == "i386":
        return ("FreeBSDIntelPAE" if known.paemode else "FreeBSDIntel"), "Intel32"
    if variant.arch == "mips":
        return ("FreeBSDMips64", "MIPS64") if known.pte_size == 8 else ("FreeBSDMips", "MIPS32")
    return {
        "amd64": ("FreeBSDIntel32e", "Intel64"),
        "arm64": ("FreeBSDAArch64", "AArch64"),
        "riscv": ("FreeBSDRiscV64", "RISC-V64"),
        "arm": ("FreeBSDArm", "ARM32"),
        "powerpc64": ("FreeBSDPowerPC64", "PowerPC64"),
        "powerpc64le": ("FreeBSDPowerPC64", "PowerPC64"),
    }[variant.arch]


def _directs(scenario: Scenario) -> tuple[Direct, ...]:
    variant, known = scenario.variant, scenario.dump.parameters
    if variant.arch in ("i386", "arm"):
        return ()
    if variant.arch == "mips":
        ksegs = 0xFFFFFFFF_80000000 if known.pte_size == 8 else 0x8000_0000
        directs = [Direct(base, base + 512 * MIB, 0) for base in (ksegs, ksegs + 512 * MIB)]
        if known.pte_size == 8:
            directs += [Direct(base, base + (1 << 40), 0) for base in XKPHYS]
        return tuple(directs)
    inclusive = variant.arch.startswith("powerpc64")
    return (Direct(known.dmapbase, known.dmapend + inclusive, known.dmapphys),)


def minidump_sample(variant: Variant) -> Sample:
    """The writers' small kernel in a minidump."""
    scenario = build_scenario(variant)
    name, architecture = _class_of(variant)
    memory = scenario.dump.memory
    return Sample(
        data=scenario.dump.data,
        classes=["FileLayer", "FreeBSDMinidumpLayer", name],
        architecture=architecture,
        page_size=scenario.page_size,
        memory={pa: bytes(memory.pages[pa]) for pa in scenario.dump.dumped},
        mappings=scenario.mappings,
        directs=_directs(scenario),
        undumped=scenario.undumped,
        unmapped_va=scenario.unmapped_va,
    )


@dataclass(frozen=True)
class Machine:
    """A full dump to make.

    Attributes:
        arch: Architecture.
        layer: Class of the kernel layer.
        layer_architecture: What it calls its architecture.
        image: Where the kernel itself lies: a superpage, of which only few pages are dumped.
        base: Where its other mappings begin.
        ram: Physical address of their pages.
        build: Makes the page tables and returns the root.
        root_symbol: The kernel's name for the root.
        points: The symbol is a variable that holds the root's address; otherwise it is the root table itself.
        symbols: Other symbols that are needed.
        page_size: Bytes of a page.
        direct: A direct map, which is part of the page tables.
    """

    arch: str
    layer: str
    layer_architecture: str
    image: Mapping
    base: int
    ram: int
    build: Callable[[PhysicalMemory, list[Mapping]], int]
    root_symbol: str
    points: bool
    symbols: dict[str, int]
    page_size: int = 4 * KIB
    direct: Mapping | None = None


def _amd64(name: str, levels: int) -> Machine:
    kernbase = 0xFFFFFFFF_80000000
    return Machine(
        "amd64",
        name,
        "Intel64",
        Mapping(kernbase + 2 * MIB, 2 * MIB, 2 * MIB, write=False, execute=True, leaf=2 * MIB),
        0xFFFFFE00_00001000,
        0x100_0000,
        functools.partial(pagetables.amd64, levels=levels),
        "KPML4phys" if levels == 4 else "KPML5phys",
        points=True,
        symbols={"kernbase": kernbase},
        direct=Mapping(0xFFFFF800_00000000, 0, 4 * GIB, leaf=GIB),
    )


def _i386(name: str, build: Callable[[PhysicalMemory, list[Mapping]], int], symbol: str, leaf: int) -> Machine:
    return Machine(
        "i386",
        name,
        "Intel32",
        Mapping(0xC040_0000, 0x40_0000, leaf, write=False, execute=True, leaf=leaf),
        0xC100_1000,
        0x100_0000,
        build,
        symbol,
        points=True,
        symbols={"kernbase": 0xC000_0000},
    )


def _arm64(page_size: int, leaf: int) -> Machine:
    kernbase = 0xFFFF0000_00000000
    return Machine(
        "arm64",
        "FreeBSDAArch64",
        "AArch64",
        Mapping(kernbase, 0x4400_0000, leaf, leaf=leaf),
        kernbase + 0x400_4000,
        0x4000_0000,
        pagetables.arm64,
        "pagetable_l0_ttbr1",
        points=False,
        symbols={"kernbase": kernbase},
        page_size=page_size,
    )


MACHINES = {
    "full-amd64": _amd64("FreeBSDIntel32e", 4),
    "full-amd64-la57": _amd64("FreeBSDIntel57", 5),
    "full-i386": _i386("FreeBSDIntel", pagetables.i386, "IdlePTD", 4 * MIB),
    "full-i386-pae": _i386("FreeBSDIntelPAE", pagetables.i386_pae, "IdlePDPT", 2 * MIB),
    "full-arm64": _arm64(4 * KIB, 2 * MIB),
    "full-arm64-16k": _arm64(16 * KIB, 32 * MIB),
    "full-riscv": Machine(
        "riscv",
        "FreeBSDRiscV64",
        "RISC-V64",
        Mapping(0xFFFFFFC0_00000000, 0x8020_0000, 2 * MIB, leaf=2 * MIB),
        0xFFFFFFC0_00401000,
        0x8100_0000,
        pagetables.riscv,
        "pagetable_l1",
        points=False,
        symbols={"kernbase": 0xFFFFFFC0_00000000},
    ),
    "full-arm": Machine(
        "arm",
        "FreeBSDArm",
        "ARM32",
        Mapping(0xC010_0000, 0x8010_0000, MIB, leaf=MIB),
        0xC030_1000,
        0x8100_0000,
        pagetables.arm,
        "kernel_l1pa",
        points=True,
        symbols={"kernbase": 0xC000_0000, "physaddr": 0x8000_0000},
    ),
}


def full_sample(machine: Machine) -> Sample:
    """The same small kernel in a full dump, with page tables of its own and a kernel file that leads to them."""
    size, image, base, ram = machine.page_size, machine.image, machine.base, machine.ram
    # The tables lie within the image, so that they can map themselves.
    memory = PhysicalMemory(size, (image.pa + 16 * size, image.pa + min(image.length, 64 * size)))
    memory.fill_random(ram, 32 * size, seed=3)
    memory.fill_random(image.pa, 3 * size, seed=4)
    undumped = Mapping(base + 16 * size, ram + 64 * size, size)
    mappings = [
        Mapping(base, ram + 2 * size, 5 * size),
        Mapping(base + 5 * size, ram + 7 * size, 2 * size, write=False, execute=True),
        *(Mapping(base + (7 + i) * size, ram + (31 - 2 * i) * size, size) for i in range(6)),
        undumped,
        Mapping(base + 18 * size, ram + 2 * size, size, write=False),
        image,
    ]
    symbols = dict(machine.symbols)
    root = machine.build(memory, [*mappings, *filter(None, [machine.direct])])
    if machine.points:
        symbols[machine.root_symbol] = image.va + size + 0x238
        width = 8 if machine.arch == "amd64" else 4
        memory.write_integer(image.pa + size + 0x238, root, width)
    else:
        symbols[machine.root_symbol] = image.va + root - image.pa
    if machine.root_symbol == "KPML5phys":
        symbols |= {"KPML4phys": image.va + size + 0x240, "la57": image.va + size + 0x248}
        memory.write_integer(image.pa + size + 0x240, memory.read_integer(root + 511 * 8, 8) & ~0xFFF, 8)
        memory.write_integer(image.pa + size + 0x248, 1, 4)
    ranges = [(start, start + length) for start, length in memory.runs()]
    if machine.direct:
        mappings.append(machine.direct)
    return Sample(
        data=full_dump(memory, ranges, machine.arch),
        classes=["FileLayer", "FreeBSDElfLayer", machine.layer],
        architecture=machine.layer_architecture,
        page_size=size,
        memory={pa: bytes(page) for pa, page in memory.pages.items()},
        mappings=tuple(mappings),
        directs=(),
        undumped=undumped,
        unmapped_va=base + 17 * size,
        kernel=elf_kernel(symbols, machine.arch),
    )


def _sparing(variant: Variant) -> Variant:
    """A gigabyte block has an entry for each of its pages in arm64 dumps: one version is enough of that."""
    if variant.arch == "arm64" and variant.version < 3:
        return dataclasses.replace(variant, superpages=variant.superpages[:1])
    return variant


SAMPLES: dict[str, Callable[[], Sample]] = {
    **{str(variant): functools.partial(minidump_sample, _sparing(variant)) for variant in VARIANTS},
    **{name: functools.partial(full_sample, machine) for name, machine in MACHINES.items()},
}
