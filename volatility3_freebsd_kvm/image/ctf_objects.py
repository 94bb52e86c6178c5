"""Joins the data objects of a CTF container with the symbol table.

Both are in the same order, which is all that ties them.

# Reference: cddl/contrib/opensolaris/tools/ctf/cvt/output.c (sort_iidescs), common/ctf (init_symtab)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from .types import TypeReference

_STT_OBJECT = 1
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_BOUNDARIES = ("_START_", "_END_")
_MAX_NAME = 4096
_SYMBOL = {64: "IBBHQQ", 32: "IIIBBH"}
# Structures of variables that are the same in every release.
_KNOWN = {"allproc": "proclist", "prison0": "prison"}


class Symbol(NamedTuple):
    """An entry of the ELF symbol table, the numbers as they are there.

    Attributes:
        name: may be empty.
        type: STT_*.
        shndx: section, or SHN_*.
        value: address.
        size: in bytes; 0 if unknown.
    """

    name: str
    type: int
    shndx: int
    value: int
    size: int = 0


def elf_symbols(elf: ELFFile, table: Section, strings: bytes) -> list[Symbol]:
    """The data objects of a symbol table, in its order."""
    form = struct.Struct(("<" if elf.little_endian else ">") + _SYMBOL[elf.elfclass])
    data = table.data()
    result = []
    for entry in form.iter_unpack(memoryview(data)[: len(data) // form.size * form.size]):
        if elf.elfclass == 64:
            name_at, info, _, shndx, value, size = entry
        else:
            name_at, value, size, info, _, shndx = entry
        if info & 15 == _STT_OBJECT:
            end = strings.find(b"\0", name_at, name_at + _MAX_NAME)
            name = strings[name_at:end].decode("utf-8", "replace") if end >= 0 else ""
            result.append(Symbol(name, _STT_OBJECT, shndx, value, size))
    return result


def data_objects(symbols: Iterable[Symbol]) -> list[Symbol]:
    """The symbols that have a place in the object section, whether their types are known or not."""
    return [
        one
        for one in symbols
        if one.type == _STT_OBJECT
        and one.name
        and one.name not in _BOUNDARIES
        and one.shndx != _SHN_UNDEF
        and not (one.shndx == _SHN_ABS and one.value == 0)
    ]


def plausible(found: Sequence[tuple[Symbol, TypeReference]], size: Callable[[TypeReference], int]) -> bool:
    """Whether symbols and types belong together, told by known variables and by the sizes of all."""
    for symbol, reference in found:
        expected = _KNOWN.get(symbol.name)
        if expected and reference != {"kind": "struct", "name": expected}:
            return False
        if symbol.name == "version" and (reference["kind"] != "array" or reference["subtype"].get("name") != "char"):
            return False
    sizes = [(symbol.size, size(reference)) for symbol, reference in found if symbol.size]
    compared = [left == right for left, right in sizes if right]
    return 2 * sum(compared) >= len(compared)
