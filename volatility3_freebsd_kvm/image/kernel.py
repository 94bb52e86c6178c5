"""Kernel ELF files: the values of symbols.

# Reference: lib/libc/gen/nlist.c (__fdnlist), which libkvm uses
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import IO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ..exceptions import FormatError
from ..kvm.elfcore import MACHINES

_SHN_UNDEF, _SHN_COMMON = 0, 0xFFF2


class KernelFile:
    """A FreeBSD kernel as a file."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        """Read the ELF headers of an open file.

        Raises:
            FormatError: it is no ELF file.
        """
        self.name = name
        try:
            self._elf = ELFFile(stream)
            self._symtab = self._elf.get_section_by_name(".symtab")
        except ELFError as error:
            msg = f"{name} is no ELF kernel: {str(error) or 'damaged'}"
            raise FormatError(msg) from None

    @property
    def architecture(self) -> str:
        """FreeBSD's name of the machine, or ELF's where it has none."""
        machine = str(self._elf["e_machine"])
        name = MACHINES.get(machine, machine)
        return "powerpc64le" if name == "powerpc64" and self._elf.little_endian else name

    def symbol_values(self, names: Collection[str]) -> dict[str, int]:
        """The values of those of ``names`` that the kernel defines; with duplicates the last one, as in libkvm.

        Only the wanted names are compared, by their place in the string table, so that a kernel of 100,000 symbols
        costs a fraction of a second.

        Raises:
            FormatError: the kernel is stripped.
        """
        if not isinstance(self._symtab, SymbolTableSection):
            msg = f"{self.name} has no symbol table (stripped)"
            raise FormatError(msg)
        strings = self._elf.get_section(self._symtab["sh_link"]).data()
        wanted = {at: name for name in names for at in _occurrences(strings, name.encode())}
        values = {}
        entry = self._elf.structs.Elf_Sym
        size = self._symtab["sh_entsize"]
        table = self._symtab.data()
        if size <= 0 or len(table) < self._symtab["sh_size"] or not strings:
            msg = f"{self.name} is damaged: its symbol table is cut off"
            raise FormatError(msg)
        for at in range(0, len(table) - size + 1, size):
            name = wanted.get(int.from_bytes(table[at : at + 4], "little" if self._elf.little_endian else "big"))
            if name is not None:
                symbol = entry.parse(table[at : at + size])
                if symbol.st_shndx not in ("SHN_UNDEF", "SHN_COMMON", _SHN_UNDEF, _SHN_COMMON):
                    values[name] = int(symbol.st_value)
        return values


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
