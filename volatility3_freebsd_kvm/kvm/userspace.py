"""Page tables of processes: the kernel's formats, with the windows that user addresses have.

# Reference: sys/amd64/include/vmparam.h, sys/arm64/include/vmparam.h, sys/riscv/include/vmparam.h,
#            sys/i386/include/vmparam.h (VM_MAXUSER_ADDRESS), sys/*/include/pte.h
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .pagemap import amd64, arm, arm64, i386, riscv
from .pagemap.base import TablePageMap, Window
from .physical import PhysicalMemory
from .records import Absence


class Amd64UserTables(amd64.PageTables):
    """From the PML4 of a process on. Those that it runs on under PTI map no kernel, so nothing is asked of that."""

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the top table; the low bits of a %cr3 do not matter."""
        self.root = root & amd64.PG_FRAME
        half = 1 << (self.levels[0].shift + self.levels[0].bits - 1)
        TablePageMap.__init__(self, memory, self.root, [Window(0, half, 0)])


class La57UserTables(Amd64UserTables):
    """From the PML5 of a process on."""

    name = amd64.La57PageTables.name
    levels = amd64.La57PageTables.levels


class Arm64UserTables(arm64.PageTables):
    """What TTBR0 leads to, 4 KiB granule."""

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the level 0 table, or a TTBR0 with its ASID."""
        self.root = root & 0x0000_FFFF_FFFF_F000
        TablePageMap.__init__(self, memory, self.root, [Window(0, 1 << 48, 0)])


class Arm64UserTables16K(Arm64UserTables):
    """The same with a granule of 16 KiB."""

    name = arm64.PageTables16K.name
    levels = arm64.PageTables16K.levels
    block_shift = arm64.PageTables16K.block_shift


class RiscvUserTables(riscv.PageTables):
    """From the Sv39 top table of a process on."""

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the top table."""
        self.root = root
        half = 1 << (self.levels[0].shift + self.levels[0].bits - 1)
        TablePageMap.__init__(self, memory, root, [Window(0, half, 0)])


class Sv48UserTables(RiscvUserTables):
    """From the Sv48 top table of a process on."""

    name = riscv.Sv48PageTables.name
    levels = riscv.Sv48PageTables.levels


class UserRoot(NamedTuple):
    """The top table of a process: its physical address, and which of `USER_TABLES` it is."""

    pa: int
    kind: str


USER_TABLES: dict[str, Callable[[PhysicalMemory, int], TablePageMap]] = {
    "amd64": Amd64UserTables,
    "amd64-la57": La57UserTables,
    "arm64": Arm64UserTables,
    "arm64-16k": Arm64UserTables16K,
    "riscv-sv39": RiscvUserTables,
    "riscv-sv48": Sv48UserTables,
    "i386": i386.PageTables,
    "i386-pae": i386.PaePageTables,
    "arm": arm.PageTables,
}
"""``(memory, root) -> page map`` by kind; those of 32-bit machines are as the kernel's."""
USER_BITS = {
    "amd64": 47,
    "amd64-la57": 56,
    "arm64": 48,
    "arm64-16k": 48,
    "riscv-sv39": 38,
    "riscv-sv48": 47,
    "i386": 32,
    "i386-pae": 32,
    "arm": 32,
}
"""How many bits a user address has, by kind."""

WITH_KERNEL = ("i386", "i386-pae", "arm")
"""Kinds whose tables may map the kernel among the addresses that they have bits for."""


class Presence(NamedTuple):
    """Physical memory that is alike in one respect: it is in the file, or why it is not. Bytes."""

    pa: int
    length: int
    absence: Absence | None


def presence(memory: PhysicalMemory, pa: int, length: int) -> Iterator[Presence]:
    """Cut physical memory ``[pa, pa + length)`` by what the file has of it."""
    position, end, size = pa, pa + length, memory.reader.size
    for run in memory.promised_runs(pa, end):
        if run.pa > position:
            yield Presence(position, run.pa - position, Absence.NOT_DUMPED)
        there = max(0, min(run.length, size - run.offset))
        if there:
            yield Presence(run.pa, there, None)
        if there < run.length:
            yield Presence(run.pa + there, run.length - there, Absence.BEYOND_END)
        position = run.pa + run.length
    if position < end:
        yield Presence(position, end - position, Absence.NOT_DUMPED)
