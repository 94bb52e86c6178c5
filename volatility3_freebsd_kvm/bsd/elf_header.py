"""The headers of ELF images in memory.

# Reference: sys/sys/elf_common.h, elf32.h, elf64.h; sys/kern/imgact_elf.c, libexec/rtld-elf/map_object.c
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..exceptions import AddressError, FormatError

MAGIC = b"\x7fELF"
ET_EXEC, ET_DYN = 2, 3
TYPES = {0: "NONE", 1: "REL", ET_EXEC: "EXEC", ET_DYN: "DYN", 4: "CORE"}
MACHINES = {
    2: "sparc",
    3: "i386",
    8: "mips",
    20: "powerpc",
    21: "powerpc64",
    40: "arm",
    43: "sparc64",
    62: "amd64",
    183: "aarch64",
    243: "riscv",
}
"""EM_ numbers by FreeBSD's names of the architectures (MACHINE_ARCH, riscv without its word size)."""
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PF_X, PF_W, PF_R = 1, 2, 4
NT_GNU_BUILD_ID, NT_FREEBSD_ABI_TAG = 3, 1
MAX_NOTES = 1 << 14
"""Bytes of notes that are read of a segment."""
_HEADER_SIZE = {32: 52, 64: 64}
_PHDR_SIZE = {32: 32, 64: 56}
_SECTION_FIELDS = {32: ((32, 4), (46, 6)), 64: ((40, 8), (58, 6))}
"""Where `e_shoff` and the three words from `e_shentsize` on are."""
_HALF_PHNUM = 0xFFFF


@dataclass(frozen=True)
class Segment:
    """A program header.

    Attributes:
        type: PT_ number.
        flags: PF_ bits.
        offset: in the file.
        vaddr: address before relocation.
        filesz, memsz: bytes in the file and in memory.
    """

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int

    @property
    def protection(self) -> str:
        """As in a map: ``r-x``."""
        return "".join(letter if self.flags & bit else "-" for letter, bit in (("r", PF_R), ("w", PF_W), ("x", PF_X)))


@dataclass(frozen=True)
class ElfHeader:
    """An ELF header with its program headers.

    Attributes:
        start: where in memory it is.
        bits: 32 or 64.
        byteorder: ``little`` or ``big``.
        type: ET_ number.
        machine: EM_ number.
        sections: `e_shoff`, `e_shentsize`, `e_shnum`.
        length: bytes of the header and its table of program headers, from `start` on.
        bias: what relocation adds to addresses in the file.
        segments: the program headers that are possible.
        notes: what is not as it should be.
    """

    start: int
    bits: int
    byteorder: str
    type: int
    machine: int
    sections: tuple[int, int, int]
    length: int
    bias: int
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The segments that are mapped."""
        return tuple(one for one in self.segments if one.type == PT_LOAD)

    @property
    def end(self) -> int:
        """The first address behind the last segment; of an image without segments that behind its headers."""
        return max((self.address(one.vaddr) + one.memsz for one in self.loads), default=self.start + self.length)

    def address(self, vaddr: int) -> int:
        """Where in memory an address of the file is."""
        return (vaddr + self.bias) % (1 << self.bits)

    def first(self, kind: int) -> Segment | None:
        """The first segment of a type."""
        return next((one for one in self.segments if one.type == kind), None)

    def without_sections(self, header: bytes) -> bytes:
        """The bytes of the header with the table of sections taken out."""
        data = bytearray(header)
        for at, size in _SECTION_FIELDS[self.bits]:
            data[at : at + size] = bytes(size)
        return bytes(data)


Read = Callable[[int, int], bytes]


def read_header(read: Read, start: int, page_size: int, limit: int) -> ElfHeader:
    """The ELF header at an address.

    Args:
        read: reads memory: ``read(address, length)``.
        start: where it is.
        page_size: like the kernel and rtld we take only program headers in the first page.
        limit: the first address that a process cannot have.

    Raises:
        AddressError: it cannot be read.
        FormatError: it is none; the text is a clause that says why.
    """
    ident = read(start, 16)
    bits, byteorder = {1: 32, 2: 64}.get(ident[4]), {1: "little", 2: "big"}.get(ident[5])
    if ident[:4] != MAGIC or bits is None or byteorder is None:
        msg = f"it begins with {ident[:7].hex(' ')}"
        raise FormatError(msg)
    order = "<" if byteorder == "little" else ">"
    word = "Q" if bits == 64 else "I"
    data = read(start, _HEADER_SIZE[bits])
    fields = struct.unpack_from(f"{order}HHI{word * 3}IHHHHH", data, 16)
    kind, machine, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum = fields
    notes: list[str] = []
    table = _table(read, start, page_size, (phoff, phentsize, phnum), _PHDR_SIZE[bits], notes)
    segments = list(_segments(table, order, bits))
    bias = _bias(start, segments, page_size)
    sane = tuple(_possible(segments, bias, 1 << bits, limit, notes))
    return ElfHeader(
        start=start,
        bits=bits,
        byteorder=byteorder,
        type=kind,
        machine=machine,
        sections=(shoff, shentsize, shnum),
        length=max(_HEADER_SIZE[bits], phoff + len(table) if table else 0),
        bias=bias % (1 << bits),
        segments=sane,
        notes=tuple(notes),
    )


def _table(
    read: Read, start: int, page_size: int, described: tuple[int, int, int], size: int, notes: list[str]
) -> bytes:
    """The program headers' bytes, as many as there are in the first page."""
    offset, entry_size, count = described
    if not count:
        return b""
    if entry_size != size:
        notes.append(f"its program headers have {entry_size} bytes each, not {size}")
        return b""
    fitting = max(0, min(count, (page_size - offset) // size))
    if fitting < count:
        number = "at least 65535" if count == _HALF_PHNUM else str(count)
        notes.append(f"{fitting} of its {number} program headers, at {offset:#x}, are in its first page")
    try:
        return read(start + offset, fitting * size) if fitting else b""
    except AddressError as error:
        notes.append(f"its program headers cannot be read: {error}")
        return b""


def _segments(table: bytes, order: str, bits: int) -> Iterator[Segment]:
    if bits == 64:
        for kind, flags, offset, vaddr, _, filesz, memsz, _ in struct.iter_unpack(f"{order}IIQQQQQQ", table):
            yield Segment(kind, flags, offset, vaddr, filesz, memsz)
    else:
        for kind, offset, vaddr, _, filesz, memsz, flags, _ in struct.iter_unpack(f"{order}IIIIIIII", table):
            yield Segment(kind, flags, offset, vaddr, filesz, memsz)


def _bias(start: int, segments: list[Segment], page_size: int) -> int:
    """What was added to addresses: the first segment that is mapped begins with the header, as rtld expects it."""
    first = next((one for one in segments if one.type == PT_LOAD), None)
    if first is None:
        return start
    linked = first.vaddr - first.offset if first.offset < page_size else first.vaddr
    return start - (linked & -page_size)


def _possible(segments: list[Segment], bias: int, space: int, limit: int, notes: list[str]) -> Iterator[Segment]:
    for number, one in enumerate(segments):
        low = (one.vaddr + bias) % space
        if one.type in (PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE) and (
            low + one.memsz > limit or low + one.filesz > limit
        ):
            size = max(one.memsz, one.filesz)
            notes.append(f"program header {number} is impossible: {size:#x} bytes at {low:#x}")
        elif one.type == PT_LOAD and one.filesz > one.memsz:
            notes.append(f"program header {number} is impossible: {one.filesz:#x} bytes of the file in {one.memsz:#x}")
        else:
            yield one


# Notes


@dataclass(frozen=True)
class ElfNotes:
    """What the notes of an image say.

    Attributes:
        build_id: that of GNU, in hexadecimal; empty if there is none.
        osreldate: the release that it was built for; 0 if it does not say so.
    """

    build_id: str = ""
    osreldate: int = 0


def read_notes(read: Read, header: ElfHeader) -> ElfNotes:
    """The notes of an image; raises `AddressError` if none of its notes can be read."""
    build_id, osreldate = "", 0
    lost: AddressError | None = None
    for segment in header.segments:
        if segment.type != PT_NOTE:
            continue
        try:
            data = read(header.address(segment.vaddr), min(segment.filesz, MAX_NOTES))
        except AddressError as error:
            lost = error
            continue
        for name, kind, content in _notes(data, "<" if header.byteorder == "little" else ">"):
            if (name, kind) == (b"GNU\0", NT_GNU_BUILD_ID):
                build_id = build_id or content.hex()
            elif (name, kind) == (b"FreeBSD\0", NT_FREEBSD_ABI_TAG) and len(content) == 4:
                osreldate = int.from_bytes(content, "little" if header.byteorder == "little" else "big")
    if lost and not build_id and not osreldate:
        raise lost
    return ElfNotes(build_id, osreldate)


def _notes(data: bytes, order: str) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, type and content of each; those that are cut off are left out."""
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from(f"{order}III", data, at)
        start = at + 12 + (name_size + 3 & -4)
        if start + size > len(data):
            return
        yield data[at + 12 : at + 12 + name_size], kind, data[start : start + size]
        at = start + (size + 3 & -4)
