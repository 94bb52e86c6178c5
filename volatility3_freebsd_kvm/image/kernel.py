"""Kernels and modules (klds) as files: symbols, linker sets, who they are and what comes with them.

# Reference: lib/libc/gen/nlist.c (__fdnlist), which libkvm uses; sys/sys/linker_set.h, sys/conf/newvers.sh
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..exceptions import FormatError
from ..kvm.pagemap import FULL_SYMBOLS
from .elf import ElfFile, Section
from .symbols import Symbol, SymbolTable

_SHN_UNDEF, _SHN_LORESERVE, _SHN_COMMON = 0, 0xFF00, 0xFFF2
_NT_GNU_BUILD_ID = 3
_MAX_STRING = 4096
_KERNEL_SYMBOLS = ("allproc", "dumptid", "kernbase", "osreldate")


@dataclass(frozen=True)
class Identity:
    """Who a kernel says it is, from its own data.

    Attributes:
        version: the banner, with its line breaks, as in ``kern.version``; empty where the file does not hold it.
        osreldate: ``__FreeBSD_version``.
        ident: name of its configuration, as in ``kern.ident``; may be empty as well.
        build_id: the linker's build id in hex.
    """

    version: str
    osreldate: int | None
    ident: str
    build_id: str | None


class KernelFile(ElfFile):
    """A FreeBSD kernel or module as a file, or the file with its debug information; the attributes of `ElfFile` too."""

    # Symbols

    @cached_property
    def _symtab(self) -> Section | None:
        """As in libkvm the first of its type, whatever its name."""
        return next((section for section in self.sections if section.type == "SYMTAB"), None)

    @property
    def has_symbols(self) -> bool:
        """Whether it has a symbol table."""
        return self._symtab is not None

    @cached_property
    def _tables(self) -> tuple[bytes, bytes]:
        """Symbol table and its names."""
        symtab = self._symtab
        if symtab is None:
            msg = f"{self.name} has no symbol table (stripped)"
            raise FormatError(msg)
        if not 0 < symtab.link < len(self.sections):
            raise self._damage(f"its symbol table has its names in section {symtab.link}, which is not there")
        table = self.bytes_at(symtab.offset, symtab.size)
        strings = self.bytes_at(self.sections[symtab.link].offset, self.sections[symtab.link].size)
        if len(table) < symtab.size or not strings:
            raise self._damage("its symbol table is cut off")
        return table, strings

    @cached_property
    def symbols(self) -> SymbolTable:
        """All symbols that it defines, at their linked addresses.

        In a file that is not linked (``REL``) a value counts from the start of the symbol's section, plus that
        section's ``sh_addr``, which is 0 as a rule.

        Raises:
            FormatError: the file is stripped or damaged.
        """
        table = SymbolTable.parse(*self._tables, self.word_bits, self.byteorder)
        if self.elf_type == "REL" and any(section.address for section in self.sections):
            table = SymbolTable(replace(one, value=self._linked(one.value, one.section)) for one in table)
        return table

    def _linked(self, value: int, section: int) -> int:
        inside = self.elf_type == "REL" and section < min(len(self.sections), _SHN_LORESERVE)
        return (value + self.sections[section].address if inside else value) & ((1 << self.word_bits) - 1)

    def symbol_values(self, names: Collection[str]) -> dict[str, int]:
        """The values of those of ``names`` that the kernel defines; with duplicates the last one, as in libkvm.

        Only the wanted names are compared, by their place in the string table, so that a kernel of 100,000 symbols
        costs a fraction of a second.

        Raises:
            FormatError: the kernel is stripped or damaged.
        """
        table, strings = self._tables
        wanted = {at: name for name in names for at in _occurrences(strings, name.encode())}
        entry = self.elf.structs.Elf_Sym
        size = entry.sizeof()
        values = {}
        places = struct.Struct(f"{'>' if self.byteorder == 'big' else '<'}I{size - 4}x")
        for index, (place,) in enumerate(places.iter_unpack(table[: len(table) // size * size])):
            name = wanted.get(place)
            if name is not None:
                symbol = entry.parse(table[index * size : (index + 1) * size])
                if symbol.st_shndx not in ("SHN_UNDEF", "SHN_COMMON", _SHN_UNDEF, _SHN_COMMON):
                    section = symbol.st_shndx if isinstance(symbol.st_shndx, int) else _SHN_LORESERVE
                    values[name] = self._linked(int(symbol.st_value), section)
        return values

    def read_symbol(self, symbol: Symbol, length: int | None = None) -> bytes | None:
        """The initial value of a variable, of the symbol's size or ``length`` bytes; None where there is none."""
        section = symbol.section if self.elf_type == "REL" else None
        return self.read(symbol.value, symbol.size if length is None else length, section)

    # Linker sets

    @cached_property
    def linker_sets(self) -> dict[str, tuple[int, int]]:
        """``(start, stop)`` of each linker set by its name without ``set_``, as ``sysctl_set``, ``vnet`` and ``pcpu``.

        From ``__start_set_*`` and ``__stop_set_*`` where there are such symbols, otherwise the section's address and
        end; in a file that is not linked these count from the section's start.
        """
        sets = {
            section.name.removeprefix("set_"): (section.address, section.address + section.size)
            for section in self.sections
            if section.name.startswith("set_")
        }
        sets.update(self._sets_from_symbols() if self.has_symbols else ())
        return sets

    def _sets_from_symbols(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for name in self.symbols.names():
            if name.startswith("__start_set_"):
                start, stop = self.symbols.value(name), self.symbols.value(name.replace("__start_", "__stop_", 1))
                if start is not None and stop is not None and start <= stop:
                    yield name.removeprefix("__start_set_"), (start, stop)

    # Identity

    @cached_property
    def identity(self) -> Identity:
        """Version, configuration and build id, as far as the file holds them."""
        names = ("version", "osreldate", "kern_ident")
        values = self.symbol_values(names) if self.has_symbols else {}
        number = self.read(values["osreldate"], 4) if "osreldate" in values else None
        return Identity(
            version=self._string(values.get("version")),
            osreldate=int.from_bytes(number, self.byteorder) if number else None,
            ident=self._string(values.get("kern_ident")),
            build_id=self.build_id,
        )

    def _string(self, address: int | None) -> str:
        place = self.room(address) if address is not None else None
        if place is None:
            return ""
        text, end, _ = self.bytes_at(place[0], min(place[1], _MAX_STRING)).partition(b"\0")
        return text.decode("utf-8", "replace") if end else ""

    @cached_property
    def build_id(self) -> str | None:
        """The linker's build id in hex, from the ELF notes."""
        notes = (data for name, kind, data in self.notes() if name == b"GNU" and kind == _NT_GNU_BUILD_ID)
        return next((data.hex() for data in notes if data), None)

    @property
    def is_kernel(self) -> bool:
        """Whether it is linked and defines what kernels define, and their modules and programs do not."""
        if self.elf_type not in ("EXEC", "DYN") or not self.has_symbols:
            return False
        return bool(self.symbol_values((*_KERNEL_SYMBOLS, *FULL_SYMBOLS.get(self.architecture, ()))))

    # What comes with it

    @cached_property
    def debuglink(self) -> tuple[str, int] | None:
        """``(name, CRC-32)`` of the file with the debug information, as objcopy left them; the name has no directory.

        # Reference: contrib/elftoolchain/elfcopy/sections.c (add_gnu_debuglink)
        """
        section = self.section(".gnu_debuglink")
        if section is None or not self.has_content(".gnu_debuglink"):
            return None
        data = self.bytes_at(section.offset, min(section.size, _MAX_STRING))
        name, end, _ = data.partition(b"\0")
        at = -(-(len(name) + 1) // 4) * 4
        if not end or not name or at + 4 > len(data):
            return None
        # A name with a directory would be an attempt to be led elsewhere.
        plain = PurePosixPath(name.decode("utf-8", "replace")).name
        return (plain, int.from_bytes(data[at : at + 4], self.byteorder)) if plain else None

    @property
    def has_dwarf(self) -> bool:
        """Whether it has DWARF debug information."""
        return self.has_content(".debug_info", ".zdebug_info")

    @property
    def has_ctf(self) -> bool:
        """Whether it has CTF type information."""
        return self.has_content(".SUNW_ctf")


def _occurrences(strings: bytes, name: bytes) -> list[int]:
    """Where ``name`` ends a string of the table: linkers let one name be the tail of another."""
    return [match.start() for match in re.finditer(re.escape(name) + rb"\0", strings)]


def symbol_values(path: str | os.PathLike[str], names: Collection[str]) -> dict[str, int]:
    """The values of ``names`` in the kernel file at ``path``; see `KernelFile.symbol_values`.

    Raises:
        FormatError: it is no kernel with symbols.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as stream:
        return KernelFile(stream, str(path)).symbol_values(names)
