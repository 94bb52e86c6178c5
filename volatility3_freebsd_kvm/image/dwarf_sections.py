"""The DWARF sections of an ELF file as bytes: decompressed, and relocated where the file is an object file.

# Reference: ELF gABI, chapter 4 (compressed sections, relocation); the processors' ABI supplements for the numbers
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from struct import error as StructError

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct.core import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from ..exceptions import FormatError

MAX_SECTION = 1 << 30
"""No kernel has a tenth of this."""
_SHF_COMPRESSED = 0x800
_ELFCOMPRESS_ZLIB = 1
_DAMAGE = (
    *(ELFError, DWARFError, ConstructError, StructError, zlib.error),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, OSError),
)
"""What impossible headers and content make the libraries raise."""
# Relocations that store an address as it is, which is all that types depend on: {machine: {type: bytes}}.
_ABSOLUTE = {
    "EM_X86_64": {1: 8, 10: 4, 11: 4},
    "EM_AARCH64": {257: 8, 258: 4},
    "EM_RISCV": {1: 4, 2: 8},
    "EM_386": {1: 4},
    "EM_ARM": {2: 4},
    "EM_PPC64": {1: 4, 38: 8, 43: 8},
    "EM_PPC": {1: 4, 24: 4},
}


class Sections:
    """Finds and reads the DWARF sections of a file."""

    def __init__(self, elf: ELFFile, name: str) -> None:
        """Take the file; ``name`` is for messages."""
        self._elf = elf
        self._name = name
        self._order = "<" if elf.little_endian else ">"

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except FormatError:
            raise
        except _DAMAGE as error:
            msg = f"{what} of {self._name} cannot be read ({error})"
            raise FormatError(msg) from None

    def has_dwarf(self) -> bool:
        """Whether there is any.

        Raises:
            FormatError: the section headers are damaged.
        """
        with self._guard("the sections"):
            return bool(self._elf.has_dwarf_info(strict=True))

    def read(self, suffix: str) -> bytes:
        """The content of ``.debug_<suffix>``, also under its compressed name; empty if there is none.

        Raises:
            FormatError: it is cut off, or packed in a way that we cannot read.
        """
        with self._guard(f"the section .debug_{suffix}"):
            for name in (f".debug_{suffix}", f".zdebug_{suffix}"):
                section = self._elf.get_section_by_name(name)
                if section is not None and section["sh_type"] != "SHT_NOBITS":
                    data = self._unpacked(section, self._raw(section))
                    return self._relocated(name, data) if self._elf["e_type"] == "ET_REL" else data
        return b""

    def _raw(self, section: Section) -> bytes:
        start, size = section["sh_offset"], section["sh_size"]
        if size > MAX_SECTION or start + size > self._elf.stream.seek(0, 2):
            msg = f"the section {section.name} of {self._name} is cut off: {size} bytes are promised"
            raise FormatError(msg)
        self._elf.stream.seek(start)
        return bytes(self._elf.stream.read(size))

    def _unpacked(self, section: Section, data: bytes) -> bytes:
        """Decompress the two kinds of compressed sections, ``.zdebug_*`` and SHF_COMPRESSED."""
        if section.name.startswith(".z"):
            if data[:4] != b"ZLIB":
                return data
            size, start = int.from_bytes(data[4:12], "big"), 12
        elif section["sh_flags"] & _SHF_COMPRESSED:
            header = Struct(self._order + ("IIQQ" if self._elf.elfclass == 64 else "III"))
            fields, start = header.unpack_from(data), header.size
            size = fields[-2]
            if fields[0] != _ELFCOMPRESS_ZLIB:
                msg = (
                    f"the section {section.name} of {self._name} is compressed with method {fields[0]}, of which only "
                    f"zlib is supported; objcopy --decompress-debug-sections unpacks it"
                )
                raise FormatError(msg)
        else:
            return data
        unpacker = zlib.decompressobj()
        result = unpacker.decompress(data[start:], size) if 0 < size <= MAX_SECTION else b""
        if len(result) != size:
            msg = f"the section {section.name} of {self._name} is damaged: it does not unpack to {size} bytes"
            raise FormatError(msg)
        return result

    def _relocated(self, name: str, data: bytes) -> bytes:
        """Apply the relocations of an object file."""
        for kind in ("rela", "rel"):
            table = self._elf.get_section_by_name(f".{kind}{name}")
            if table is not None:
                return self._apply(table, data, with_addend=kind == "rela")
        return data

    def _apply(self, table: Section, data: bytes, *, with_addend: bool) -> bytes:
        sizes = _ABSOLUTE.get(self._elf["e_machine"])
        if sizes is None:
            msg = f"{self._name} is an object file for {self._elf['e_machine']}, whose relocations are not known here"
            raise FormatError(msg)
        symbols = self._symbol_values(table["sh_link"])
        wide = self._elf.elfclass == 64
        entry = Struct(self._order + ("QQ" if wide else "II") + (("q" if wide else "i") if with_addend else ""))
        shift, mask = (32, 0xFFFFFFFF) if wide else (8, 0xFF)
        stores = {kind: Struct(self._order + ("I" if size == 4 else "Q")) for kind, size in sizes.items()}
        result = bytearray(data)
        entries = self._raw(table)
        for at, info, *rest in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
            store = stores.get(info & mask)
            if store is None:
                continue
            if info >> shift >= len(symbols):
                msg = f"{table.name} of {self._name} is damaged: it refers to symbol {info >> shift}"
                raise FormatError(msg)
            addend = rest[0] if with_addend else store.unpack_from(result, at)[0]
            store.pack_into(result, at, symbols[info >> shift] + addend & (1 << 8 * store.size) - 1)
        return bytes(result)

    def _symbol_values(self, index: int) -> list[int]:
        data = self._raw(self._elf.get_section(index))
        # Elf64_Sym: st_value after 8 bytes of 24; Elf32_Sym: after 4 of 16.
        entry = Struct(self._order + ("8xQ8x" if self._elf.elfclass == 64 else "4xI8x"))
        return [value for (value,) in entry.iter_unpack(data[: len(data) // entry.size * entry.size])]
