"""ELF files: full kernel dumps (cores of physical memory), cores by virtual address, and minimal kernels."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from typing import NamedTuple

from .bitmap import Range
from .headers import ByteOrder
from .memory import Mapping, PhysicalMemory

ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
PT_LOAD, PT_NOTE, PT_DUMP_DELTA = 1, 4, 0x6FB5_D000
PN_XNUM = 0xFFFF
ELFOSABI_STANDALONE = 255
EM_386, EM_MIPS, EM_PPC, EM_PPC64, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV = 3, 8, 20, 21, 40, 62, 183, 243


class Target(NamedTuple):
    """What the ELF header says of an architecture."""

    bits: int
    byteorder: ByteOrder
    machine: int


TARGETS = {
    "amd64": Target(64, "little", EM_X86_64),
    "i386": Target(32, "little", EM_386),
    "arm": Target(32, "little", EM_ARM),
    "arm64": Target(64, "little", EM_AARCH64),
    "riscv": Target(64, "little", EM_RISCV),
    "mips": Target(32, "big", EM_MIPS),
    "powerpc": Target(32, "big", EM_PPC),
    "powerpc64": Target(64, "big", EM_PPC64),
    "powerpc64le": Target(64, "little", EM_PPC64),
}


@dataclass(frozen=True)
class Segment:
    """One program header and its content.

    Attributes:
        paddr: p_paddr; -1 stands for all ones.
        vaddr: p_vaddr; -1 stands for all ones.
        data: Content.
        memsz: p_memsz, if it is not the length of the content.
        filesz: p_filesz, if it is not the length of the content.
        offset: p_offset, if the content is not to stand behind that of the segment before.
        flags: p_flags (4: readable, all that the kernel ever writes).
        kind: p_type.
        align: p_align.
    """

    paddr: int
    vaddr: int
    data: bytes
    memsz: int | None = None
    filesz: int | None = None
    offset: int | None = None
    flags: int = 4
    kind: int = PT_LOAD
    align: int = 4096


class _Elf:
    """Packs ELF structures of one class and byte order."""

    def __init__(self, bits: int, byteorder: ByteOrder) -> None:
        self.bits = bits
        self.byteorder = byteorder
        self._prefix = "<" if byteorder == "little" else ">"
        self.word_mask = (1 << bits) - 1
        self.header_size = 64 if bits == 64 else 52
        self.program_header_size = 56 if bits == 64 else 32
        self.section_header_size = 64 if bits == 64 else 40

    def pack(self, codes: str, *values: int) -> bytes:
        """Pack integers; code `P` is an address-sized word."""
        return struct.pack(self._prefix + codes.replace("P", "Q" if self.bits == 64 else "I"), *values)

    def header(
        self,
        *,
        elf_type: int,
        machine: int,
        osabi: int,
        phoff: int = 0,
        phnum: int = 0,
        shoff: int = 0,
        shnum: int = 0,
        shstrndx: int = 0,
    ) -> bytes:
        ident = bytes([0x7F, *b"ELF", 2 if self.bits == 64 else 1, 1 if self.byteorder == "little" else 2, 1, osabi])
        sizes = (self.header_size, self.program_header_size, phnum, self.section_header_size, shnum, shstrndx)
        return ident.ljust(16, b"\0") + self.pack("HHIPPPIHHHHHH", elf_type, machine, 1, 0, phoff, shoff, 0, *sizes)

    def program_header(self, segment: Segment, offset: int) -> bytes:
        vaddr, paddr = segment.vaddr & self.word_mask, segment.paddr & self.word_mask
        filesz = len(segment.data) if segment.filesz is None else segment.filesz
        memsz = len(segment.data) if segment.memsz is None else segment.memsz
        if self.bits == 64:
            return self.pack(
                "IIPPPPPP", segment.kind, segment.flags, offset, vaddr, paddr, filesz, memsz, segment.align
            )
        return self.pack("IPPPPPIP", segment.kind, offset, vaddr, paddr, filesz, memsz, segment.flags, segment.align)

    def section_header(
        self,
        *,
        name: int = 0,
        kind: int = 0,
        flags: int = 0,
        address: int = 0,
        offset: int = 0,
        size: int = 0,
        link: int = 0,
        info: int = 0,
        align: int = 0,
        entry_size: int = 0,
    ) -> bytes:
        return self.pack("IIPPPPIIPP", name, kind, flags, address, offset, size, link, info, align, entry_size)

    def symbol(self, name: int, value: int, size: int, info: int, section: int) -> bytes:
        if self.bits == 64:
            return self.pack("IBBHQQ", name, info, 0, section, value & self.word_mask, size)
        return self.pack("IIIBBH", name, value & self.word_mask, size, info, 0, section)


def elf_structures(bits: int, byteorder: ByteOrder) -> _Elf:
    """What packs ELF structures, for files of other kinds than those below."""
    return _Elf(bits, byteorder)


def elfcore(
    segments: Sequence[Segment],
    *,
    bits: int,
    byteorder: ByteOrder,
    machine: int,
    osabi: int = ELFOSABI_STANDALONE,
    elf_type: int = ET_CORE,
    pn_xnum: bool = False,
    page_size: int = 4096,
) -> bytes:
    """Build an ELF core.

    The headers are padded to a page; then come the contents back to back, in the order of the segments.

    Args:
        segments: Program headers with their content.
        bits: 32 or 64.
        byteorder: Byte order.
        machine: e_machine.
        osabi: EI_OSABI; the kernel writes 255 (standalone).
        elf_type: e_type.
        pn_xnum: Write 0xffff as e_phnum and the true number into sh_info of section 0.
        page_size: What the header area is padded to.
    """
    elf = _Elf(bits, byteorder)
    section_offset = elf.header_size + len(segments) * elf.program_header_size
    sections = elf.section_header(info=len(segments)) if pn_xnum else b""
    position = -(-(section_offset + len(sections)) // page_size) * page_size
    headers = elf.header(
        elf_type=elf_type,
        machine=machine,
        osabi=osabi,
        phoff=elf.header_size,
        phnum=PN_XNUM if pn_xnum else len(segments),
        shoff=section_offset if pn_xnum else 0,
        shnum=1 if pn_xnum else 0,
    )
    contents = bytearray(position)
    for segment in segments:
        headers += elf.program_header(segment, len(contents) if segment.offset is None else segment.offset)
        contents += segment.data
    headers += sections
    contents[: len(headers)] = headers
    return bytes(contents)


def full_dump(
    memory: PhysicalMemory, ranges: Iterable[Range], arch: str, *, delta: tuple[int, int] | None = None
) -> bytes:
    """Build a full dump as `dumpsys_generic` writes it: one segment for each range, its addresses physical.

    A range that is not page sized is announced with its exact size, but only its whole pages are written, so all
    segments behind it stand earlier in the file than their headers say.

    Args:
        memory: Physical memory; pages in the ranges that do not exist read as zeros.
        ranges: Physical ranges, as in dump_avail; they start at pages.
        arch: Architecture, a key of `TARGETS`.
        delta: arm: (kernel's virtual start, its physical address) for the PT_DUMP_DELTA header, which comes last.
    """
    target = TARGETS[arch]
    ranges = list(ranges)
    headers = _Elf(target.bits, target.byteorder)
    count = len(ranges) + (delta is not None)
    offset = headers.header_size + count * headers.program_header_size
    offset = -(-offset // memory.page_size) * memory.page_size
    segments = []
    for start, end in ranges:
        if start % memory.page_size:
            raise ValueError(f"range {start:#x} does not start at a page")
        size = end - start
        pages = range(start, start + size // memory.page_size * memory.page_size, memory.page_size)
        data = b"".join(bytes(memory.pages.get(page, bytes(memory.page_size))) for page in pages)
        segments.append(Segment(start, start, data, size, size, offset, align=memory.page_size))
        offset += size
    if delta is not None:
        virtual, physical = delta
        segments.append(Segment(physical, virtual, b"", offset=0, kind=PT_DUMP_DELTA, align=memory.page_size))
    return elfcore(segments, **target._asdict(), page_size=memory.page_size)


def virtual_dump(memory: PhysicalMemory, mappings: Iterable[Mapping], arch: str, *, paddr: int = -1) -> bytes:
    """Build a core by virtual address: a segment for each mapping.

    Args:
        memory: Physical memory.
        mappings: Mappings; all their pages must exist.
        arch: Architecture.
        paddr: p_paddr of every segment: -1 as powerpc kernels write it, 0 as minidump-to-elf tools do.
    """
    segments = [Segment(paddr, mapping.va, memory.read(mapping.pa, mapping.length)) for mapping in mappings]
    return elfcore(segments, **TARGETS[arch]._asdict(), page_size=memory.page_size)


def elf_kernel(symbols: Dictionary[str, int], arch: str, *, elf_type: int = ET_EXEC, size: int = 8) -> bytes:
    """Build a kernel file that has nothing but a symbol table.

    Args:
        symbols: Values by name.
        arch: Architecture.
        elf_type: e_type (FreeBSD's powerpc kernels are ET_DYN).
        size: st_size of every symbol.
    """
    target = TARGETS[arch]
    elf = _Elf(target.bits, target.byteorder)
    global_object = 1 << 4 | 1
    strings = bytearray(1)
    table = bytearray(elf.symbol(0, 0, 0, 0, 0))
    for name, value in symbols.items():
        table += elf.symbol(len(strings), value, size, global_object, 1)
        strings += name.encode() + b"\0"
    section_names = b"\0.data\0.symtab\0.strtab\0.shstrtab\0"
    table_offset = elf.header_size
    strings_offset = table_offset + len(table)
    names_offset = strings_offset + len(strings)
    sections_offset = -(-(names_offset + len(section_names)) // 8) * 8
    lowest = min(symbols.values(), default=0)
    span = max(symbols.values(), default=0) + size - lowest
    sections = [
        elf.section_header(),
        elf.section_header(name=1, kind=8, flags=3, address=lowest, offset=table_offset, size=span, align=8),
        elf.section_header(
            name=7,
            kind=2,
            offset=table_offset,
            size=len(table),
            link=3,
            info=1,
            align=elf.bits // 8,
            entry_size=24 if elf.bits == 64 else 16,
        ),
        elf.section_header(name=15, kind=3, offset=strings_offset, size=len(strings), align=1),
        elf.section_header(name=23, kind=3, offset=names_offset, size=len(section_names), align=1),
    ]
    header = elf.header(
        elf_type=elf_type, machine=target.machine, osabi=9, shoff=sections_offset, shnum=len(sections), shstrndx=4
    )
    body = (header + table + strings + section_names).ljust(sections_offset, b"\0")
    return body + b"".join(sections)
