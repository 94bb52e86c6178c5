"""Takes the debug information out of an ELF file, as a release's kernel comes without it (objcopy --strip-debug)."""

from __future__ import annotations

import io
import struct

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

_SHF_ALLOC = 2
_SHN_LORESERVE = 0xFF00


def strip_debug(data: bytes) -> bytes:
    """The file without its ``.debug`` sections; what the loader maps stays where it is, and so does the build id."""
    elf = ELFFile(io.BytesIO(data))
    sections = list(elf.iter_sections())
    kept = [index for index, section in enumerate(sections) if not section.name.startswith(".debug")]
    renumbered = {old: new for new, old in enumerate(kept)}
    mapped = [index for index in kept if sections[index]["sh_flags"] & _SHF_ALLOC]
    end = max(_end(sections[index]) for index in mapped)
    output = bytearray(data[:end])
    headers = []
    for index in kept:
        section = sections[index]
        offset = section["sh_offset"]
        if index not in mapped and index:
            output += bytes(-len(output) % max(section["sh_addralign"], 1))
            offset = len(output)
            output += _content(section, elf, renumbered)
        headers.append(_header(elf, section, offset, renumbered))
    output += bytes(-len(output) % 8)
    _point_to_headers(output, elf, len(output), len(kept), renumbered)
    return bytes(output) + b"".join(headers)


def _end(section: Section) -> int:
    return int(section["sh_offset"] + (0 if section["sh_type"] == "SHT_NOBITS" else section["sh_size"]))


def _content(section: Section, elf: ELFFile, renumbered: dict[int, int]) -> bytes:
    """A section's bytes; in a symbol table the section numbers change."""
    data = bytearray(section.data())
    if section["sh_type"] == "SHT_SYMTAB":
        at = 6 if elf.elfclass == 64 else 14
        order = "<" if elf.little_endian else ">"
        for start in range(0, len(data), section["sh_entsize"]):
            (number,) = struct.unpack_from(order + "H", data, start + at)
            if number < _SHN_LORESERVE:
                struct.pack_into(order + "H", data, start + at, renumbered.get(number, 0))
    return bytes(data)


def _header(elf: ELFFile, section: Section, offset: int, renumbered: dict[int, int]) -> bytes:
    header = section.header.copy()
    header["sh_offset"] = offset
    header["sh_link"] = renumbered.get(header["sh_link"], 0)
    return bytes(elf.structs.Elf_Shdr.build(header))


def _point_to_headers(output: bytearray, elf: ELFFile, offset: int, count: int, renumbered: dict[int, int]) -> None:
    header = elf.header.copy()
    header["e_shoff"] = offset
    header["e_shnum"] = count
    header["e_shstrndx"] = renumbered[header["e_shstrndx"]]
    packed = elf.structs.Elf_Ehdr.build(header)
    output[: len(packed)] = packed
