"""ELF files of any machine, word size and byte order; what a damaged header promises is checked against the file.

# Reference: sys/sys/elf_common.h, elf32.h, elf64.h
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Literal, NamedTuple, cast

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct.core import ConstructError
from elftools.elf.elffile import ELFFile

from ..exceptions import FormatError
from ..kvm.elfcore import ELF_MAGIC, MACHINES

SHF_ALLOC = 2
_SMALLEST_HEADER = 52
_SHN_XINDEX, _PN_XNUM = 0xFFFF, 0xFFFF
_MAX_SECTIONS = _MAX_SEGMENTS = 1 << 17
_MAX_NAME = 4096
_DAMAGE = (ELFError, DWARFError, ConstructError, ValueError, LookupError, TypeError, AssertionError, ArithmeticError)
"""What the ELF library raises at impossible headers; UnicodeDecodeError is a ValueError."""


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
        name: its name.
        address: ``sh_addr``, 0 in files that are not linked.
        size: bytes in memory; those in the file too, unless it is ``NOBITS``.
        type: ``PROGBITS``, ``NOBITS`` …, or ELF's number where it has no name.
        flags: ``SHF_*``.
        offset: where its content is in the file.
        link: ``sh_link``, an index of another section.
        index: its own index.
    """

    name: str
    address: int
    size: int
    type: str
    flags: int
    offset: int
    link: int
    index: int


class LoadSegment(NamedTuple):
    """A PT_LOAD or PT_NOTE: addresses and sizes in bytes."""

    type: str
    address: int
    offset: int
    file_size: int
    memory_size: int


class _Window:
    """A file for the ELF library: positions and lengths beyond its end, which damaged headers ask for, give nothing."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, length: int = -1) -> bytes:
        available = max(0, self.size - self._position)
        length = available if length < 0 else min(length, available)
        self._stream.seek(self._position if length else 0)
        data = self._stream.read(length)
        self._position += len(data)
        return data


class ElfFile:
    """An ELF file.

    Attributes:
        name: what to call it in messages.
        elf: the same for the ELF library, for its DWARF part.
        word_bits: 32 or 64.
        byteorder: ``little`` or ``big``.
        elf_type: ``EXEC``, ``DYN``, ``REL``, ``CORE``, or ELF's number.
        sections: all of them, by index.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        """Read the headers of an open file, which stays the caller's to close.

        Raises:
            FormatError: it is no ELF file, or one cut off or damaged.
        """
        self.name = name
        self._window = _Window(stream)
        start = self._window.read(_SMALLEST_HEADER)
        if not start.startswith(ELF_MAGIC):
            msg = f"{name} is no ELF kernel: it does not begin as one" if start else f"{name} is an empty file"
            raise FormatError(msg)
        if len(start) < _SMALLEST_HEADER:
            raise self._damage("its ELF header is cut off")
        with self._guard("is no ELF kernel"):
            self.elf = ELFFile(cast("IO[bytes]", self._window))
        self.word_bits: int = self.elf.elfclass
        self.byteorder: Literal["little", "big"] = "little" if self.elf.little_endian else "big"
        self.elf_type = str(self.elf["e_type"]).removeprefix("ET_")
        with self._guard("is damaged"):
            self.sections = self._read_sections()

    @contextmanager
    def _guard(self, trouble: str) -> Iterator[None]:
        """Turn whatever the ELF library raises into one sentence."""
        try:
            yield
        except FormatError:
            raise
        except _DAMAGE as error:
            msg = f"{self.name} {trouble}: {str(error) or 'damaged'}"
            raise FormatError(msg) from None

    def _damage(self, detail: str) -> FormatError:
        return FormatError(f"{self.name} is damaged: {detail}")

    @property
    def architecture(self) -> str:
        """FreeBSD's name of the machine, or ELF's where it has none."""
        machine = str(self.elf["e_machine"])
        name = MACHINES.get(machine, machine)
        return "powerpc64le" if name == "powerpc64" and self.byteorder == "little" else name

    # Sections

    def _table(self, kind: Literal["section", "program"], count: int) -> list[Any]:
        """The headers of one table, which must lie in the file."""
        letter, parser = ("s", self.elf.structs.Elf_Shdr) if kind == "section" else ("p", self.elf.structs.Elf_Phdr)
        start, entry = int(self.elf[f"e_{letter}hoff"]), int(self.elf[f"e_{letter}hentsize"])
        if not count:
            return []
        if entry != parser.sizeof():
            raise self._damage(f"{kind} headers of {entry} bytes, {parser.sizeof()} expected")
        if count > _MAX_SECTIONS or start + count * entry > self._window.size:
            raise self._damage(f"{count} {kind} headers at {start:#x}, behind its end (cut off?)")
        data = self.bytes_at(start, count * entry)
        return [parser.parse(data[at : at + entry]) for at in range(0, len(data), entry)]

    def _read_sections(self) -> list[Section]:
        if not self.elf["e_shoff"]:
            return []
        # Numbers that do not fit the header are in section 0.
        count = int(self.elf["e_shnum"]) or int(self._table("section", 1)[0]["sh_size"])
        headers = self._table("section", count)
        names_index = int(self.elf["e_shstrndx"])
        if names_index == _SHN_XINDEX and headers:
            names_index = int(headers[0]["sh_link"])
        names = b""
        if 0 < names_index < len(headers) and headers[names_index]["sh_type"] == "SHT_STRTAB":
            names = self.bytes_at(int(headers[names_index]["sh_offset"]), int(headers[names_index]["sh_size"]))
        return [
            Section(
                name=_string(names, int(header["sh_name"])),
                address=int(header["sh_addr"]),
                size=int(header["sh_size"]),
                type=str(header["sh_type"]).removeprefix("SHT_"),
                flags=int(header["sh_flags"]),
                offset=int(header["sh_offset"]),
                link=int(header["sh_link"]),
                index=index,
            )
            for index, header in enumerate(headers)
        ]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def has_content(self, *names: str) -> bool:
        """Whether one of these sections is there with content that lies within the file."""
        return any(
            section.name in names
            and section.type not in ("NOBITS", "NULL")
            and 0 < section.size <= self._window.size - section.offset
            for section in self.sections
        )

    def content(self, section: Section) -> bytes:
        """The bytes of a section as they are in the file: nothing for ``NOBITS``, and compressed ones stay so.

        Raises:
            FormatError: the file ends before.
        """
        if section.type in ("NOBITS", "NULL"):
            return b""
        data = self.bytes_at(section.offset, section.size)
        if len(data) < section.size:
            raise self._damage(f"its section {section.name} is cut off")
        return data

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Bytes of the file, fewer where it ends."""
        self._window.seek(offset)
        return self._window.read(max(0, length))

    # Addresses

    @cached_property
    def segments(self) -> list[LoadSegment]:
        """Each PT_LOAD and PT_NOTE.

        Raises:
            FormatError: their table is damaged.
        """
        count = int(self.elf["e_phnum"])
        if count == _PN_XNUM:
            with self._guard("is damaged"):
                count = int(self._table("section", 1)[0]["sh_info"])
        with self._guard("is damaged"):
            return [
                LoadSegment(
                    str(header["p_type"]).removeprefix("PT_"),
                    int(header["p_vaddr"]),
                    int(header["p_offset"]),
                    int(header["p_filesz"]),
                    int(header["p_memsz"]),
                )
                for header in self._table("program", count)
                if header["p_type"] in ("PT_LOAD", "PT_NOTE")
            ]

    @cached_property
    def _places(self) -> list[tuple[int, int, int]]:
        """``(address, length, file offset)`` of initialised data, ascending.

        By section where there are any: files with debug information only repeat the program headers of what they were
        cut from, although its content is gone.
        """
        if self.sections:
            return sorted(
                (section.address, section.size, section.offset)
                for section in self.sections
                if section.flags & SHF_ALLOC and section.size and section.type not in ("NOBITS", "NULL")
            )
        return sorted((one.address, one.file_size, one.offset) for one in self.segments if one.type == "LOAD")

    def room(self, address: int) -> tuple[int, int] | None:
        """``(file offset, bytes from there on)`` of a linked address, up to the end of its section.

        None where the file has nothing to say: bss, no such address, or a file that is not linked (``REL``).
        """
        if self.elf_type == "REL":
            return None
        index = bisect_right(self._places, (address, 1 << 64, 0)) - 1
        if index < 0:
            return None
        start, length, offset = self._places[index]
        offset += address - start
        available = min(length - (address - start), self._window.size - offset)
        return (offset, available) if available > 0 else None

    def read(self, address: int, length: int, section: int | None = None) -> bytes | None:
        """What the file says is at a linked address, before any relocation.

        Args:
            address: the address, or with ``section`` one that counts as its symbols do.
            length: bytes; all must lie within one section.
            section: index of the section that the address is in. Files that are not linked need it.

        Returns:
            None unless all of it is initialised data.
        """
        if section is None:
            found = self.room(address)
        elif 0 <= section < len(self.sections) and self.sections[section].type not in ("NOBITS", "NULL"):
            one = self.sections[section]
            inside = address - one.address
            found = (one.offset + inside, one.size - inside) if inside >= 0 else None
        else:
            found = None
        if found is None or not 0 <= length <= found[1]:
            return None
        data = self.bytes_at(found[0], length)
        return data if len(data) == length else None

    # Notes

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """``(name, type, description)`` of each ELF note; a damaged one ends its section's."""
        areas = [(one.offset, one.size) for one in self.sections if one.type == "NOTE"]
        if not areas:
            areas = [(one.offset, one.file_size) for one in self.segments if one.type == "NOTE"]
        header = struct.Struct((">" if self.byteorder == "big" else "<") + "III")
        for offset, size in areas:
            data = self.bytes_at(offset, size)
            at = 0
            while at + header.size <= len(data):
                name_size, size, kind = header.unpack_from(data, at)
                start = at + header.size
                content = start + -(-name_size // 4) * 4
                at = content + -(-size // 4) * 4
                if content + size > len(data):
                    break
                yield data[start : start + name_size].rstrip(b"\0"), kind, data[content : content + size]


def _string(table: bytes, start: int) -> str:
    end = table.find(b"\0", start, start + _MAX_NAME)
    return table[start:end].decode("utf-8", "replace") if end >= 0 else ""
