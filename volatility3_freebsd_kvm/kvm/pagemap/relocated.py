"""Finding the page tables of kernels that run at any physical address and do not say which (arm64, riscv)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ...exceptions import AddressError, SymbolError
from ..physical import PhysicalMemory
from .base import TablePageMap

_Tables = TypeVar("_Tables", bound=TablePageMap)
_STEP = 1 << 21
"""Both kernels are loaded at a multiple of 2 MiB."""


def find_tables(
    memory: PhysicalMemory,
    symbols: Mapping[str, int],
    name: str,
    kernbase: int,
    make: Callable[[PhysicalMemory, int], _Tables],
) -> _Tables:
    """The page tables whose top table is the symbol ``name`` of a kernel linked at ``kernbase``.

    Every multiple of 2 MiB in the dump is tried as the place of the kernel; the right one confirms itself, because the
    tables found there map themselves to there.

    Raises:
        SymbolError: the symbol is missing or no place fits.
    """
    if name not in symbols:
        msg = f"no page table root: the symbol {name} is needed (pass the kernel)"
        raise SymbolError(msg)
    va = symbols[name]
    distance = va - symbols.get("kernbase", kernbase)
    for run in memory.runs():
        for place in range(-(-run.pa // _STEP) * _STEP, run.pa + run.length, _STEP):
            try:
                tables = make(memory, place + distance)
                if tables.kvatop(va) == place + distance:
                    return tables
            except AddressError:
                continue
    msg = f"{name} leads to no page table that maps itself: does this kernel belong to this dump?"
    raise SymbolError(msg)
