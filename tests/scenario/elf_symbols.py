"""Symbol tables as they are in memory: arrays of `Elf_Sym`, and strings."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from .world import World

STT_OBJECT, STT_FUNC, STB_GLOBAL = 1, 2, 1


@dataclass(frozen=True)
class ElfSymbol:
    """A symbol of a module; `section` is its st_shndx."""

    name: str
    value: int
    size: int
    function: bool
    section: int


@dataclass(frozen=True)
class SymbolTable:
    """The bytes of both tables, and the symbols in them as (name, value) where these are wanted."""

    symbols: bytes
    strings: bytes
    count: int
    values: list[tuple[str, int]] = field(default_factory=list)


def kernel_tables(world: World) -> SymbolTable:
    """The tables of the kernel file."""
    section = ELFFile(io.BytesIO(world.memory.image.file)).get_section_by_name(".symtab")
    assert isinstance(section, SymbolTableSection)
    values = [(symbol.name, symbol["st_value"]) for symbol in section.iter_symbols()]
    return SymbolTable(section.data(), section.stringtable.data(), section.num_symbols(), values)


def module_symbols(world: World, symbols: Iterable[ElfSymbol]) -> SymbolTable:
    """Tables of a module's symbols, which follow the empty one."""
    wide = world.memory.types.pointer_size == 8
    order = ">" if world.memory.types.byteorder == "big" else "<"
    strings = bytearray(1)
    table = bytearray(24 if wide else 16)
    for symbol in symbols:
        info = STB_GLOBAL << 4 | (STT_FUNC if symbol.function else STT_OBJECT)
        name = len(strings)
        strings += symbol.name.encode() + b"\0"
        if wide:
            table += struct.pack(order + "IBBHQQ", name, info, 0, symbol.section, symbol.value, symbol.size)
        else:
            table += struct.pack(order + "IIIBBH", name, symbol.value, symbol.size, info, 0, symbol.section)
    return SymbolTable(bytes(table), bytes(strings), len(table) // (24 if wide else 16))
