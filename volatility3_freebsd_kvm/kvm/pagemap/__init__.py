"""Page maps by architecture: `MINIDUMP` for minidumps, `FULL` for the kernel's own tables in full dumps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from . import amd64, arm, arm64, i386, mips, powerpc64, riscv
from .base import DirectMap, PageMap, SectionTable

MINIDUMP: dict[str, Callable[[MinidumpHeader, Callable[[int], SectionTable], PhysicalMemory], PageMap]] = {
    "amd64": amd64.minidump,
    "i386": i386.minidump,
    "arm64": arm64.minidump,
    "riscv": riscv.minidump,
    "arm": arm.minidump,
    "mips": mips.minidump,
    "powerpc64": powerpc64.minidump,
    "powerpc64le": powerpc64.minidump,
}
"""``(header, section, memory) -> PageMap``; ``section(entry size)`` is the page map section."""

FULL: dict[str, Callable[[PhysicalMemory, Mapping[str, int], int | None], PageMap]] = {
    "amd64": amd64.full,
    "i386": i386.full,
    "arm64": arm64.full,
    "riscv": riscv.full,
    "arm": arm.full,
}
"""``(memory, symbols, root) -> PageMap``."""

FULL_SYMBOLS: dict[str, tuple[str, ...]] = {
    "amd64": amd64.SYMBOLS,
    "i386": i386.SYMBOLS,
    "arm64": arm64.SYMBOLS,
    "riscv": riscv.SYMBOLS,
    "arm": arm.SYMBOLS,
}
"""The kernel symbols whose values `FULL` can use, by architecture."""

__all__ = ["FULL", "FULL_SYMBOLS", "MINIDUMP", "DirectMap", "PageMap"]
