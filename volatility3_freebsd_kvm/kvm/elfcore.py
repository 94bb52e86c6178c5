"""ELF cores: full dumps of physical memory, and cores that hold kernel virtual memory.

# Reference: sys/kern/kern_dump.c (dumpsys_generic), lib/libkvm/kvm_private.c (_kvm_pt...), lib/libkvm/kvm_powerpc64.c
"""

from __future__ import annotations

from itertools import pairwise
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from ..exceptions import FormatError, NotADumpError
from .physical import Segment
from .reader import Reader, ReaderStream
from .records import Protection

if TYPE_CHECKING:
    from elftools.construct.lib.container import Container
    from elftools.elf.elffile import ELFFile

ELF_MAGIC = b"\x7fELF"
ELFOSABI_NONE, ELFOSABI_FREEBSD, ELFOSABI_STANDALONE = 0, 9, 255
PT_DUMP_DELTA = 0x6FB5D000
"""arm: kernbase in p_vaddr, physaddr in p_paddr (sys/arm/include/elf.h)."""
_MAX_SEGMENTS = 1 << 17
_PN_XNUM = 0xFFFF
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


class ProgramHeader(NamedTuple):
    """A PT_LOAD with sizes that fit the file format; see `ElfCore.segments`."""

    p_vaddr: int
    p_paddr: int
    p_offset: int
    p_filesz: int
    p_memsz: int
    prot: Protection


class ElfCore(NamedTuple):
    """What the headers of an ELF core say.

    Attributes:
        segments: the PT_LOADs, in order.
        has_physical: p_paddr holds physical addresses.
        has_virtual: p_vaddr holds kernel virtual addresses (FreeBSD's full dumps repeat the physical address there).
        has_notes: there is a PT_NOTE, as in cores of processes and of other systems.
        dump_delta: ``(kernbase, physaddr)`` of arm's PT_DUMP_DELTA.
        warnings: oddities, one sentence each.
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
    count = _segment_count(elf, reader)
    warnings: list[str] = []
    loads = []
    dump_delta = None
    has_notes = False
    page_size = 4096
    for index in range(count):
        # Not get_segment(): that looks into what the segment holds, too.
        at = elf.header.e_phoff + index * elf.header.e_phentsize
        phdr = elf.structs.Elf_Phdr.parse(reader.buffer[at : at + elf.header.e_phentsize])
        if phdr.p_type == "PT_LOAD":
            loads.append(_load(phdr, index, elf.elfclass, warnings))
            if architecture == "arm64" and phdr.p_align == _PAGE_16K:
                page_size = _PAGE_16K
        elif phdr.p_type == PT_DUMP_DELTA:
            dump_delta = (int(phdr.p_vaddr), int(phdr.p_paddr))
        has_notes |= phdr.p_type == "PT_NOTE"
    loads = [load for load in loads if load.p_memsz]
    if not any(load.p_filesz for load in loads):
        msg = "the ELF core has no PT_LOAD segment with content"
        raise FormatError(msg)
    has_physical, has_virtual = _kinds(loads, elf.elfclass)
    if has_physical and not has_virtual:
        loads = _undo_partial_pages(loads, page_size, reader.size, warnings)
    return ElfCore(
        architecture,
        byteorder,
        int(elf.elfclass),
        elf.e_ident_raw[7],
        page_size,
        tuple(loads),
        has_physical,
        has_virtual,
        has_notes,
        dump_delta,
        tuple(warnings),
    )


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
    if count == _PN_XNUM:
        if not header.e_shoff or header.e_shoff + header.e_shentsize > reader.size:
            msg = "the ELF core has too many segments for its header, and the section that counts them is missing"
            raise FormatError(msg)
        count = elf.structs.Elf_Shdr.parse(reader.buffer[header.e_shoff : header.e_shoff + 64]).sh_info
    entry = 56 if elf.elfclass == 64 else 32
    if header.e_phentsize != entry:
        msg = f"ELF program headers of {header.e_phentsize} bytes, {entry} expected"
        raise FormatError(msg)
    if not 0 < count <= _MAX_SEGMENTS or header.e_phoff + count * entry > reader.size:
        msg = f"the ELF core claims {count} program headers at {header.e_phoff:#x}, which the file does not hold"
        raise FormatError(msg)
    return int(count)


def _load(phdr: Container, index: int, bits: int, warnings: list[str]) -> ProgramHeader:
    """A PT_LOAD with its sizes made consistent; what is memory but not in the file is not dumped."""
    filesz = int(phdr.p_filesz)
    if filesz > phdr.p_memsz:
        warnings.append(f"ELF segment {index} has more bytes in the file ({filesz:#x}) than in memory; cut")
        filesz = int(phdr.p_memsz)
    memsz = int(phdr.p_memsz)
    none = (1 << bits) - 1
    room = min((1 << bits) - address for address in (phdr.p_paddr, phdr.p_vaddr, 0) if address != none)
    if memsz > room:
        warnings.append(f"ELF segment {index} runs past the end of the address space; cut")
        filesz, memsz = min(filesz, room), room
    prot = Protection(phdr.p_flags >> 2 & 1 | phdr.p_flags & 2 | (phdr.p_flags & 1) << 2)
    return ProgramHeader(int(phdr.p_vaddr), int(phdr.p_paddr), int(phdr.p_offset), int(filesz), memsz, prot)


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
