"""Signs of a FreeBSD kernel in physical memory that nothing describes: its ELF header and its version string.

Loaders put a kernel at a multiple of 2 MiB, ELF header included, so that one look at each such place tells whether
there is one: a few thousand bytes of a whole image.

# Reference: sys/conf/ldscript.amd64 (and the other architectures' scripts), stand/common/load_elf.c
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from .pagemap.columns import occurrences, stretches
from .physical import PhysicalMemory

Progress = Callable[[float, str], None]

STEP = 1 << 21
"""What kernels are aligned to."""
_ELF = b"\x7fELF"
_MAX_LOOKS = 1 << 17
"""How many places are looked at: 256 GiB."""
_MAX_PLACES = 32
_MAX_SPAN = 256 << 20
"""No kernel is larger."""
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PAGE = 4096
_MAX_HEADERS = 32

INTERPRETER = b"/red/herring"
"""What kernels name as their interpreter (sys/conf/kern.pre.mk)."""
BANNER = re.compile(rb"FreeBSD \d{1,2}\.\d{1,2}-[A-Z]")
"""What ``version`` begins with (sys/conf/newvers.sh)."""
_BANNER_START = b"FreeBSD "
_BANNER_AREA = 4 << 30
_BANNER_LENGTH = 32
_MAX_BANNERS = 64
_BLOCK = 16 << 20
_MAX_STRINGS = 32 << 20
_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 5, 6, 10


class _Machine(NamedTuple):
    """What kernels of a machine look like: word size in bits, and where they may be linked."""

    architecture: str
    bits: int
    low: int
    high: int


_MACHINES = {
    62: _Machine("amd64", 64, 0xFFFFFFFF80000000, 1 << 64),
    3: _Machine("i386", 32, 0x400000, 1 << 32),
    183: _Machine("arm64", 64, 0xFFFF000000000000, 0xFFFF000100000000),
    243: _Machine("riscv", 64, 0xFFFFFFC000000000, 0xFFFFFFD000000000),
}
"""By e_machine."""


class Place(NamedTuple):
    """Where a kernel is.

    Attributes:
        architecture: FreeBSD's name.
        pa: of its ELF header, as the memory that was searched counts.
        va: where that is linked.
        size: bytes from there to the end of the image.
        dynamic: address of its dynamic section; 0 if it has none.
    """

    architecture: str
    pa: int
    va: int
    size: int
    dynamic: int


def kernel_places(
    memory: PhysicalMemory, architecture: str | None = None, progress: Progress | None = None
) -> list[Place]:
    """Where ELF headers of kernels are, those with FreeBSD's mark first; of one architecture, if it is given."""
    found = [
        (INTERPRETER not in memory.read(place.pa, _PAGE), place)
        for place in islice(_headers(memory, progress), _MAX_PLACES)
        if architecture in (None, place.architecture)
    ]
    found.sort(key=lambda one: one[0])
    return [place for _, place in found]


def _headers(memory: PhysicalMemory, progress: Progress | None) -> Iterator[Place]:
    buffer = memory.reader.buffer
    for number, (pa, offset) in enumerate(islice(_steps(memory), _MAX_LOOKS)):
        if progress and not number % _PAGE:
            progress(100 * number / _MAX_LOOKS, "Looking for a FreeBSD kernel")
        if buffer[offset : offset + 4] == _ELF and (place := _place(buffer[offset : offset + _PAGE], pa)):
            yield place


def _steps(memory: PhysicalMemory) -> Iterator[tuple[int, int]]:
    """``(pa, file offset)`` of every multiple of 2 MiB whose page can be read."""
    for run in memory.runs():
        for offset, length in stretches(memory.reader, run.offset, run.length):
            start = run.pa + offset - run.offset
            for pa in range(-(-start // STEP) * STEP, start + length - _PAGE + 1, STEP):
                yield pa, run.offset + pa - run.pa


def _place(header: bytes, pa: int) -> Place | None:
    """What the header of a kernel says; None if it is one of something else."""
    elf_type, number = struct.unpack_from("<HH", header, 16)
    machine = _MACHINES.get(number)
    if machine is None or elf_type not in (_ET_EXEC, _ET_DYN) or header[4:6] != bytes([machine.bits // 32, 1]):
        return None
    loads, dynamic = _program_headers(header, machine.bits)
    if not loads or not all(machine.low <= va <= va + size <= machine.high for va, size in loads):
        return None
    start = min(loads)[0] & -_PAGE
    end = max(va + size for va, size in loads)
    # i386: user programs are linked lower, libraries anywhere; kernels where a superpage begins.
    if (machine.bits == 32 and start % STEP) or not 0 < end - start <= _MAX_SPAN:
        return None
    return Place(machine.architecture, pa, start, end - start, dynamic)


def _program_headers(header: bytes, bits: int) -> tuple[list[tuple[int, int]], int]:
    """``(p_vaddr, p_memsz)`` of what is loaded, and the address of the dynamic section."""
    layout = "<IIQQQQQQ" if bits == 64 else "<IIIIIIII"
    offset, count = struct.unpack_from("<Q", header, 32)[0], struct.unpack_from("<H", header, 56)[0]
    if bits != 64:
        offset, count = struct.unpack_from("<I", header, 28)[0], struct.unpack_from("<H", header, 44)[0]
    size = struct.calcsize(layout)
    loads, dynamic = [], 0
    for number in range(min(count, _MAX_HEADERS)):
        if offset + (number + 1) * size > len(header):
            break
        fields = struct.unpack_from(layout, header, offset + number * size)
        va, memsz = (fields[3], fields[6]) if bits == 64 else (fields[2], fields[5])
        if fields[0] == _PT_LOAD:
            loads.append((va, memsz))
        elif fields[0] == _PT_DYNAMIC:
            dynamic = va
    return loads, dynamic


def banners(memory: PhysicalMemory, progress: Progress | None = None) -> list[int]:
    """Physical addresses of FreeBSD's version string in the first 4 GiB of memory: the kernel's and copies of it."""
    return list(islice(_banners(memory, progress), _MAX_BANNERS))


def _banners(memory: PhysicalMemory, progress: Progress | None) -> Iterator[int]:
    reader = memory.reader
    first = memory.bounds()[0]
    for run in memory.runs(first, first + _BANNER_AREA):
        for start in range(0, run.length, _BLOCK):
            if progress:
                progress(100 * (run.pa + start - first) / _BANNER_AREA, "Looking for FreeBSD's version string")
            stop = min(start + _BLOCK + _BANNER_LENGTH, run.length)
            # The plain search is faster than the pattern by far where there is nothing.
            for offset in occurrences(reader, run.offset + start, stop - start, _BANNER_START):
                if BANNER.match(reader.buffer[offset : offset + _BANNER_LENGTH]):
                    yield run.pa + offset - run.offset


def dynamic_symbols(memory: PhysicalMemory, place: Place, names: tuple[str, ...]) -> Mapping[str, int]:
    """Values of some global symbols, from the dynamic symbol table that kernels carry in memory; what is found of them.

    # Reference: sys/kern/link_elf.c (parse_dynamic)
    """
    word = 4 if place.architecture == "i386" else 8
    layout = "<II" if word == 4 else "<QQ"

    def piece(va: int, size: int) -> bytes:
        run = next(iter(memory.runs(place.pa + va - place.va, place.pa + va - place.va + size)), None)
        inside = place.va <= va < place.va + place.size
        return memory.reader.buffer[run.offset : run.offset + run.length] if run and inside else b""

    tags: dict[int, int] = {}
    section = piece(place.dynamic, _PAGE)
    for tag, value in struct.iter_unpack(layout, section[: len(section) // (2 * word) * 2 * word]):
        if not tag:
            break
        tags.setdefault(tag, value)
    strings, symbols = tags.get(_DT_STRTAB, 0), tags.get(_DT_SYMTAB, 0)
    strings_size = min(tags.get(_DT_STRSZ, 0), _MAX_STRINGS)
    if not 0 < strings - symbols <= _MAX_STRINGS or not strings_size:
        return {}
    return _values(piece(symbols, strings - symbols), piece(strings, strings_size), word, names)


def _values(table: bytes, strings: bytes, word: int, names: tuple[str, ...]) -> dict[str, int]:
    """Symbols by name, from a table that is followed by its strings."""
    entry = struct.Struct("<IBBHQQ" if word == 8 else "<IIIBBH")
    table = table[: len(table) // entry.size * entry.size]
    offsets = [fields[0] for fields in entry.iter_unpack(table)]
    found = {}
    for name in names:
        at = strings.find(b"\0" + name.encode() + b"\0") + 1
        if at and at in offsets:
            fields = entry.unpack_from(table, offsets.index(at) * entry.size)
            found[name] = fields[4] if word == 8 else fields[1]
    return found
