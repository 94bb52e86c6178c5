"""Makes the files of a kernel's installation out of one linked kernel: what objcopy does when a release is built."""

from __future__ import annotations

import io
from typing import Any

from elftools.elf.elffile import ELFFile

SHF_ALLOC = 2


def headers_of(data: bytes) -> tuple[ELFFile, list[tuple[str, Any]]]:
    """The file, and name and header of each section."""
    elf = ELFFile(io.BytesIO(data))
    return elf, [(section.name, section.header) for section in elf.iter_sections()]


def put_header(data: bytes, **fields: int) -> bytes:
    """The file with fields of its ELF header changed."""
    elf = ELFFile(io.BytesIO(data))
    header = elf.header.copy()
    header.update(fields)
    packed = elf.structs.Elf_Ehdr.build(header)
    return packed + data[len(packed) :]


def put_section(data: bytes, index: int | str, **fields: int | str) -> bytes:
    """The file with fields of one section header changed."""
    elf, headers = headers_of(data)
    number = index if isinstance(index, int) else [name for name, _ in headers].index(index)
    header = headers[number][1].copy()
    header.update(fields)
    packed = elf.structs.Elf_Shdr.build(header)
    at = elf["e_shoff"] + number * elf["e_shentsize"]
    return data[:at] + packed + data[at + len(packed) :]


def add_section(data: bytes, name: str, content: bytes, **fields: int | str) -> bytes:
    """The file with one more section; its headers move to the end."""
    elf, headers = headers_of(data)
    table = [header.copy() for _, header in headers]
    names = elf.get_section(elf["e_shstrndx"]).data()
    added = table[0].copy()
    added.update({"sh_name": len(names), "sh_type": "SHT_PROGBITS", "sh_addralign": 1, **fields})
    output = data
    for header, piece in ((table[elf["e_shstrndx"]], names + name.encode() + b"\0"), (added, content)):
        header["sh_offset"], header["sh_size"] = len(output), len(piece)
        output += piece
    output += bytes(-len(output) % 8)
    start = len(output)
    output += b"".join(elf.structs.Elf_Shdr.build(header) for header in [*table, added])
    return put_header(output, e_shoff=start, e_shnum=len(table) + 1)


def add_debuglink(data: bytes, name: bytes, checksum: int) -> bytes:
    """The file with .gnu_debuglink: the name, padded, and the CRC in the file's byte order."""
    elf, _ = headers_of(data)
    text = name + b"\0"
    text += bytes(-len(text) % 4)
    return add_section(data, ".gnu_debuglink", text + checksum.to_bytes(4, "little" if elf.little_endian else "big"))


def only_keep_debug(data: bytes) -> bytes:
    """What is loaded loses its content but not its address, as in kernel.debug; notes stay."""
    _, headers = headers_of(data)
    output = data
    for index, (_, header) in enumerate(headers):
        if header["sh_flags"] & SHF_ALLOC and header["sh_type"] == "SHT_PROGBITS":
            start, size = header["sh_offset"], header["sh_size"]
            output = output[:start] + bytes(size) + output[start + size :]
            output = put_section(output, index, sh_type="SHT_NOBITS")
    return output


def without_symbols(data: bytes) -> bytes:
    """A stripped file."""
    return put_section(data, ".symtab", sh_type="SHT_NULL")


def without_build_id(data: bytes) -> bytes:
    """A file as linkers made it before FreeBSD 12."""
    _, headers = headers_of(data)
    header = dict(headers)[".note.gnu.build-id"]
    start, size = header["sh_offset"], header["sh_size"]
    return data[:start] + bytes(size) + data[start + size :]
