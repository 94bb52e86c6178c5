"""ELF cores: full dumps of physical memory, and cores that hold kernel virtual memory.

# Reference: sys/kern/kern_dump.c (dumpsys_generic), lib/libkvm/kvm_private.c (_kvm_pt...), lib/libkvm/kvm_powerpc64.c
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from ..exceptions import FormatError, NotADumpError
from .physical import Segment
from .reader import Reader, ReaderStream
from .records import Protection

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

ELF_MAGIC = b"\x7fELF"
ELFOSABI_NONE, ELFOSABI_FREEBSD, ELFOSABI_STANDALONE = 0, 9, 255
PT_DUMP_DELTA = 0x6FB5D000
"""arm: kernbase in p_vaddr, physaddr in p_paddr (sys/arm/include/elf.h)."""
PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF
MAX_SEGMENTS = 1 << 20
"""As many as debuggers open within seconds (gdb takes 0.9 KB and 7 us for each)."""

# What this project's export adds for its own reader: types and flags from the ranges left to operating systems, with no
# bytes in the file, so that debuggers pass over them.
PT_KVM_MAP = 0x6B766D01
"""Says that the rest is meant as here; p_flags has `PF_KVM_IN_TABLES` and `PF_KVM_NO_USER`."""
PT_KVM_ABSENT = 0x6B766D02
"""Mapped, but not dumped; p_paddr is -1 where the page table is missing that would tell."""
PT_KVM_DIRECT = 0x6B766D03
"""A direct map: p_vaddr shows physical memory from p_paddr on."""
PT_KVM_DISPLACED = 0x6B766D04
"""Where the kernel is linked (p_vaddr), and how far from there it runs (p_paddr)."""
PF_KVM_UNKNOWN = 0x0010_0000
"""The protection is not known."""
PF_KVM_ALIAS = 0x0020_0000
"""p_vaddr is no entry of the page map: a direct map, or the place where the kernel is linked."""
PF_KVM_IN_TABLES = 1
"""Direct maps are ordinary entries of the page map, too."""
PF_KVM_NO_USER = 2
"""The dump has no memory of processes."""
_MAX_DIRECTS = 16
_PAGE_16K = 16384

MACHINES = {
    "EM_X86_64": "amd64",
    "EM_386": "i386",
    "EM_AARCH64": "arm64",
    "EM_ARM": "arm",
    "EM_RISCV": "riscv",
    "EM_PPC64": "powerpc64",
    "EM_PPC": "powerpc",
    "EM_MIPS": "mips",
}

_EITHER_32 = frozenset({(32, "little"), (32, "big")})
_EITHER_64 = frozenset({(64, "little"), (64, "big")})
_SHAPES = {
    "amd64": frozenset({(64, "little")}),
    "i386": frozenset({(32, "little")}),
    "arm64": frozenset({(64, "little")}),
    "arm": _EITHER_32,
    "riscv": frozenset({(64, "little")}),
    "powerpc64": _EITHER_64,
    "powerpc": _EITHER_32,
    "mips": _EITHER_32 | _EITHER_64,
}
"""Word size and byte order that FreeBSD has on a machine."""
_PROTECTIONS = [Protection(bits) for bits in range(8)]


class ProgramHeader(NamedTuple):
    """A PT_LOAD with sizes that fit the file format; see `ElfCore.segments`."""

    p_vaddr: int
    p_paddr: int
    p_offset: int
    p_filesz: int
    p_memsz: int
    prot: Protection
    alias: bool = False


class ExportedMap(NamedTuple):
    """What a core that this project exported says of the kernel's page map, beyond its segments.

    Attributes:
        absent: what is mapped and not dumped.
        directs: direct maps: ``(start, end, physical address of the start)``.
        directs_in_tables: they are ordinary entries of the page map, too.
        has_user_pages: see `PhysicalMemory`.
        displaced: where the kernel is linked and how far from there it runs: ``(start, end, displacement)``.
    """

    absent: tuple[ProgramHeader, ...]
    directs: tuple[tuple[int, int, int], ...]
    directs_in_tables: bool
    has_user_pages: bool
    displaced: tuple[int, int, int] | None


class ElfCore(NamedTuple):
    """What the headers of an ELF core say.

    Attributes:
        segments: the PT_LOADs, in order.
        has_physical: p_paddr holds physical addresses.
        has_virtual: p_vaddr holds kernel virtual addresses (FreeBSD's full dumps repeat the physical address there).
        has_notes: there is a PT_NOTE, as in cores of processes and of other systems.
        dump_delta: ``(kernbase, physaddr)`` of arm's PT_DUMP_DELTA.
        warnings: oddities, one sentence each.
        exported: set in cores that this project exported.
    """

    architecture: str
    byteorder: str
    word_bits: int
    osabi: int
    page_size: int
    segments: tuple[ProgramHeader, ...]
    has_physical: bool
    has_virtual: bool
    has_notes: bool
    dump_delta: tuple[int, int] | None
    warnings: tuple[str, ...]
    exported: ExportedMap | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        kind = "full dump" if self.has_physical else "kernel virtual memory"
        return f"ELF core ({self.word_bits} bit), {kind}"

    @property
    def is_kernel(self) -> bool:
        """Whether FreeBSD's kernel wrote it, or a tool from such a dump; cores of processes have notes."""
        if self.osabi == ELFOSABI_STANDALONE:
            return True
        return self.osabi in (ELFOSABI_NONE, ELFOSABI_FREEBSD) and self.has_virtual and not self.has_notes

    def physical_segments(self) -> list[Segment]:
        """Pieces by physical address; -1 stands for none."""
        none = (1 << self.word_bits) - 1
        return [
            Segment(header.p_paddr, header.p_filesz, header.p_offset)
            for header in self.segments
            if header.p_paddr != none
        ]

    def virtual_segments(self) -> list[Segment]:
        """Pieces by virtual address."""
        return [Segment(header.p_vaddr, header.p_filesz, header.p_offset) for header in self.segments]


def parse(reader: Reader) -> ElfCore:
    """Read the headers of an ELF core.

    Raises:
        NotADumpError: this is no ELF core.
        FormatError: it is one that cannot be read, and why.
    """
    if reader.buffer[0:4] != ELF_MAGIC:
        msg = "no ELF core: the file does not begin with the ELF magic"
        raise NotADumpError(msg)
    # Not at import: most dumps are minidumps, and every start of `vol` would pay for it.
    from elftools.common.exceptions import ELFError
    from elftools.construct.core import ConstructError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(cast("IO[bytes]", ReaderStream(reader)))
        return _parse(elf, reader)
    except FormatError:
        raise
    except (ELFError, ConstructError, OverflowError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        msg = f"the ELF headers are damaged ({str(error) or type(error).__name__})"
        raise FormatError(msg) from None


def _parse(elf: ELFFile, reader: Reader) -> ElfCore:
    header = elf.header
    if header.e_type != "ET_CORE":
        msg = f"an ELF file, but no core: its type is {header.e_type}"
        raise NotADumpError(msg)
    architecture, byteorder = _machine(elf)
    warnings: list[str] = []
    headers = _read_headers(elf, reader)
    exported = any(header.p_type == PT_KVM_MAP for header in headers)
    loads = [
        _load(header, index, elf.elfclass, warnings, exported=exported)
        for index, header in enumerate(headers)
        if header.p_type == PT_LOAD
    ]
    loads = [load for load in loads if load.p_memsz]
    if not any(load.p_filesz for load in loads):
        msg = "the ELF core has no PT_LOAD segment with content"
        raise FormatError(msg)
    page_size = 4096
    if architecture == "arm64" and any(one.p_align == _PAGE_16K for one in headers if one.p_type == PT_LOAD):
        page_size = _PAGE_16K
    has_physical, has_virtual = (True, True) if exported else _kinds(loads, elf.elfclass)
    if has_physical and not has_virtual:
        loads = _undo_partial_pages(loads, page_size, reader.size, warnings)
    if has_physical and has_virtual and elf.elfclass == 32:
        loads = _give_places(loads, warnings)
    deltas = [(header.p_vaddr, header.p_paddr) for header in headers if header.p_type == PT_DUMP_DELTA]
    return ElfCore(
        architecture,
        byteorder,
        int(elf.elfclass),
        elf.e_ident_raw[7],
        page_size,
        tuple(loads),
        has_physical,
        has_virtual,
        any(header.p_type == PT_NOTE for header in headers),
        deltas[-1] if deltas else None,
        tuple(warnings),
        _exported_map(headers, elf.elfclass) if exported else None,
    )


class _RawHeader(NamedTuple):
    """A program header as it is in the file, of either class."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


def _read_headers(elf: ELFFile, reader: Reader) -> list[_RawHeader]:
    """All program headers; there may be a million, which is too many for `elf.get_segment`."""
    count, at = _segment_count(elf, reader), elf.header.e_phoff
    order = "<" if elf.little_endian else ">"
    if elf.elfclass == 64:
        return list(map(_RawHeader._make, struct.iter_unpack(f"{order}2I6Q", reader.buffer[at : at + 56 * count])))
    return [
        _RawHeader(kind, flags, offset, va, pa, filesz, memsz, align)
        for kind, offset, va, pa, filesz, memsz, flags, align in struct.iter_unpack(
            f"{order}8I", reader.buffer[at : at + 32 * count]
        )
    ]


def _give_places(loads: list[ProgramHeader], warnings: list[str]) -> list[ProgramHeader]:
    """Physical addresses for memory above what a 32-bit core can name, made of file offsets."""
    none = 0xFFFFFFFF
    if not any(load.p_paddr == none for load in loads):
        return loads
    warnings.append("the physical address of some memory does not fit this core; file offset + 2^32 stands for it")
    return [load._replace(p_paddr=none + 1 + load.p_offset) if load.p_paddr == none else load for load in loads]


def _exported_map(headers: list[_RawHeader], bits: int) -> ExportedMap:
    """What only cores of our own say."""
    top = 1 << bits
    absent: list[ProgramHeader] = []
    directs: list[tuple[int, int, int]] = []
    displaced, says = None, 0
    for header in headers:
        end = min(header.p_vaddr + header.p_memsz, top)
        if header.p_type == PT_KVM_ABSENT:
            prot = _protection(header, exported=True)
            absent.append(ProgramHeader(header.p_vaddr, header.p_paddr, 0, 0, end - header.p_vaddr, prot))
        elif header.p_type == PT_KVM_DIRECT and len(directs) < _MAX_DIRECTS:
            directs.append((header.p_vaddr, end, header.p_paddr))
        elif header.p_type == PT_KVM_DISPLACED:
            displaced = header.p_vaddr, end, header.p_paddr
        elif header.p_type == PT_KVM_MAP:
            says = header.p_flags
    in_tables, no_user = bool(says & PF_KVM_IN_TABLES), bool(says & PF_KVM_NO_USER)
    return ExportedMap(tuple(absent), tuple(directs), in_tables, not no_user, displaced)


def _machine(elf: ELFFile) -> tuple[str, str]:
    """FreeBSD's name of the machine, and its byte order."""
    architecture = MACHINES.get(elf.header.e_machine)
    if architecture is None:
        msg = f"an ELF core of a machine that is not supported ({elf.header.e_machine})"
        raise FormatError(msg)
    byteorder = "little" if elf.little_endian else "big"
    if (elf.elfclass, byteorder) not in _SHAPES[architecture]:
        msg = f"an ELF core that contradicts itself: {architecture}, but {elf.elfclass} bit and {byteorder}-endian"
        raise FormatError(msg)
    return "powerpc64le" if architecture == "powerpc64" and elf.little_endian else architecture, byteorder


def _segment_count(elf: ELFFile, reader: Reader) -> int:
    """Number of program headers, which must lie within the file."""
    header = elf.header
    count = header.e_phnum
    if count == PN_XNUM:
        if not header.e_shoff or header.e_shoff + header.e_shentsize > reader.size:
            msg = "the ELF core has too many segments for its header, and the section that counts them is missing"
            raise FormatError(msg)
        count = elf.structs.Elf_Shdr.parse(reader.buffer[header.e_shoff : header.e_shoff + 64]).sh_info
    entry = 56 if elf.elfclass == 64 else 32
    if header.e_phentsize != entry:
        msg = f"ELF program headers of {header.e_phentsize} bytes, {entry} expected"
        raise FormatError(msg)
    if not 0 < count <= MAX_SEGMENTS or header.e_phoff + count * entry > reader.size:
        msg = f"the ELF core claims {count} program headers at {header.e_phoff:#x}, which the file does not hold"
        raise FormatError(msg)
    return int(count)


def _load(header: _RawHeader, index: int, bits: int, warnings: list[str], *, exported: bool) -> ProgramHeader:
    """A PT_LOAD with its sizes made consistent; what is memory but not in the file is not dumped."""
    _, flags, offset, vaddr, paddr, filesz, memsz, _ = header
    if filesz > memsz:
        warnings.append(f"ELF segment {index} has more bytes in the file ({filesz:#x}) than in memory; cut")
        filesz = memsz
    none = (1 << bits) - 1
    room = none + 1 - max(0 if address == none else address for address in (paddr, vaddr))
    if memsz > room:
        warnings.append(f"ELF segment {index} runs past the end of the address space; cut")
        filesz, memsz = min(filesz, room), room
    alias = exported and bool(flags & PF_KVM_ALIAS)
    return ProgramHeader(vaddr, paddr, offset, filesz, memsz, _protection(header, exported=exported), alias)


def _protection(header: _RawHeader, *, exported: bool) -> Protection:
    """The protection that p_flags say; its bits stand in another order there."""
    flags = header.p_flags
    if exported and flags & PF_KVM_UNKNOWN:
        return Protection.UNKNOWN
    return _PROTECTIONS[flags >> 2 & 1 | flags & 2 | (flags & 1) << 2]


def _kinds(loads: list[ProgramHeader], bits: int) -> tuple[bool, bool]:
    """(p_paddr is physical, p_vaddr is virtual).

    FreeBSD's full dumps have the physical address in both; powerpc sets the one that does not apply to -1;
    minidump-to-elf leaves p_paddr 0.
    """
    none = (1 << bits) - 1
    if all(load.p_paddr == load.p_vaddr for load in loads) or all(load.p_vaddr == none for load in loads):
        return True, False
    if all(load.p_paddr in (0, none) for load in loads) and any(load.p_vaddr != 0 for load in loads):
        return False, True
    return True, any(load.p_vaddr for load in loads)


def _undo_partial_pages(
    loads: list[ProgramHeader], page_size: int, size: int, warnings: list[str]
) -> list[ProgramHeader]:
    """Find the true offsets where dump_avail ranges end within a page.

    The kernel computes p_filesz and the following offsets from the exact sizes, but writes whole pages only, so that
    each such range moves everything behind it. Done only when the file does not hold all that the headers promise.
    """
    unaligned = [load for load in loads if load.p_filesz % page_size]
    consecutive = all(one.p_offset + one.p_filesz == two.p_offset for one, two in pairwise(loads))
    if not unaligned or not consecutive or size >= loads[-1].p_offset + loads[-1].p_filesz:
        return loads
    warnings.append("ranges that end within a page were written short; file offsets behind them are corrected")
    offset = loads[0].p_offset
    moved = []
    for load in loads:
        written = load.p_filesz // page_size * page_size
        moved.append(load._replace(p_offset=offset, p_filesz=written))
        offset += written
    return [load for load in moved if load.p_filesz]
