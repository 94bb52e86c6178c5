"""What differs between the machines that the memory writer simulates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import pagetables
from .memory import Mapping, PhysicalMemory

MIB = 1 << 20


@dataclass(frozen=True)
class Machine:
    """One architecture: where things are, as FreeBSD's `vmparam.h` has them.

    Attributes:
        arch: FreeBSD's name, as in the writers.
        byteorder: Of the machine.
        word_bits: 32 or 64.
        linked: Virtual address that belongs to `kernphys`: the start of the kernel's first superpage.
        kernphys: Physical address where the loader usually puts it.
        ram: Start and end of physical memory.
        holes: Physical ranges within `ram` that are no memory.
        kva: Where kernel memory that is mapped page by page begins.
        kernbase: First address of the page map in a minidump.
        kernel_end: End of the page map in a minidump; None: as needed.
        dmap: Address of the direct map, or None.
        superpage: Bytes of the pages that map the kernel image.
        tables: Builder of the hardware's page tables; returns the address of the top one.
        minidumps: Versions.
        root_symbols: Variables that hold the address of the top table; see `KernelMemory`.
        table_symbols: Symbols whose own address is the top table (arm64, riscv).
    """

    arch: str
    byteorder: str
    word_bits: int
    linked: int
    kernphys: int
    ram: tuple[int, int]
    kva: int
    kernbase: int
    superpage: int
    tables: Callable[[PhysicalMemory, Iterable[Mapping]], int] | None
    minidumps: tuple[int, ...]
    dmap: int | None = None
    kernel_end: int | None = None
    holes: tuple[tuple[int, int], ...] = ()
    root_symbols: tuple[str, ...] = ()
    table_symbols: tuple[str, ...] = ()
    page_size: int = 4096

    @property
    def dump_avail(self) -> list[tuple[int, int]]:
        """Physical memory without the holes."""
        ranges = []
        start = self.ram[0]
        for low, high in self.holes:
            ranges.append((start, low))
            start = high
        return [*ranges, (start, self.ram[1])]


def _amd64(memory: PhysicalMemory, mappings: Iterable[Mapping]) -> int:
    return pagetables.amd64(memory, mappings, recursive_slot=256)


MACHINES = {
    machine.arch: machine
    for machine in (
        Machine(
            "amd64",
            "little",
            64,
            linked=0xFFFFFFFF80200000,
            kernphys=0x200000,
            ram=(0, 64 * MIB),
            holes=((0x9F000, 0x100000),),
            kva=0xFFFFFE0000000000,
            kernbase=0xFFFFFE0000000000,
            kernel_end=0xFFFFFFFFC0000000,
            dmap=0xFFFFF80000000000,
            superpage=2 * MIB,
            tables=_amd64,
            minidumps=(2, 3),
            root_symbols=("KPML4phys",),
        ),
        Machine(
            "arm64",
            "little",
            64,
            linked=0xFFFF000000000000,
            kernphys=0x40200000,
            ram=(0x40000000, 0x44000000),
            holes=((0x41F00000, 0x42100000),),
            kva=0xFFFF000008000000,
            kernbase=0xFFFF000000000000,
            dmap=0xFFFFA00000000000,
            superpage=2 * MIB,
            tables=pagetables.arm64,
            minidumps=(1, 2, 3),
            table_symbols=("pagetable_l0_ttbr1",),
        ),
        Machine(
            "riscv",
            "little",
            64,
            linked=0xFFFFFFC000000000,
            kernphys=0x80200000,
            ram=(0x80000000, 0x84000000),
            kva=0xFFFFFFC008000000,
            kernbase=0xFFFFFFC000000000,
            dmap=0xFFFFFFD000000000,
            superpage=2 * MIB,
            tables=pagetables.riscv,
            minidumps=(1, 2),
            table_symbols=("pagetable_l1",),
        ),
        # Since the 4/4 split (12.0) the kernel runs where it is loaded: virtual equals physical.
        Machine(
            "i386",
            "little",
            32,
            linked=0x800000,
            kernphys=0x800000,
            ram=(0, 64 * MIB),
            holes=((0x9F000, 0x100000),),
            kva=0x20000000,
            kernbase=0x800000,
            superpage=2 * MIB,
            tables=pagetables.i386_pae,
            minidumps=(1, 2),
            root_symbols=("IdlePDPT",),
        ),
        Machine(
            "arm",
            "little",
            32,
            linked=0xC0000000,
            kernphys=0x10000000,
            ram=(0x10000000, 0x14000000),
            kva=0xC8000000,
            kernbase=0xC0000000,
            superpage=MIB,
            tables=pagetables.arm,
            minidumps=(1, 2),
            root_symbols=("kernel_l1pa",),
        ),
        # Linked at 0x100000, it runs in the direct map.
        Machine(
            "powerpc64",
            "big",
            64,
            linked=0x100000,
            kernphys=0x100000,
            ram=(0, 64 * MIB),
            kva=0xC008000000000000,
            kernbase=0xC008000000000000,
            dmap=0xC000000000000000,
            superpage=4096,
            tables=None,
            minidumps=(1, 2),
        ),
    )
}
"""The machines, by architecture."""
