"""What an exported file is going to look like: its headers, and which bytes of the dump go where.

Nothing is read from the dump here but its page tables.
"""

from __future__ import annotations

import heapq
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from ..exceptions import FormatError, SymbolError
from .dump import Dump
from .elfcore import (
    ELFOSABI_STANDALONE,
    MAX_SEGMENTS,
    PF_KVM_ALIAS,
    PF_KVM_IN_TABLES,
    PF_KVM_NO_USER,
    PF_KVM_UNKNOWN,
    PN_XNUM,
    PT_DUMP_DELTA,
    PT_KVM_ABSENT,
    PT_KVM_DIRECT,
    PT_KVM_DISPLACED,
    PT_KVM_MAP,
    PT_LOAD,
)
from .intervals import first_wins
from .pagemap.powerpc64 import LINKED_AT
from .records import MappedRange, Protection, Run
from .space import AddressSpace

MAX_RAW_SIZE = 1 << 42
"""The longest raw image that is written, in bytes: file systems end at 16 TiB, and a damaged dump claims anything."""
_MACHINES = {
    "i386": 3,
    "mips": 8,
    "powerpc": 20,
    "powerpc64": 21,
    "powerpc64le": 21,
    "arm": 40,
    "amd64": 62,
    "arm64": 183,
    "riscv": 243,
}
"""e_machine."""
_PF_READ_WRITE = 6
_TOP_32 = 1 << 32
_UNKNOWN = int(Protection.UNKNOWN)


class Copy(NamedTuple):
    """``length`` bytes at ``offset`` of the dump's file go to ``target`` of the exported one."""

    offset: int
    length: int
    target: int


class Plan(NamedTuple):
    """An exported file before it is written. All sizes in bytes.

    Attributes:
        head: the headers of an ELF core; empty for raw images.
        copies: the memory, by ascending target; everything between is a hole.
        size: length of the file.
        base: raw images: the physical address of the first byte.
        segments: ELF cores: number of program headers.
        has_map: the kernel's virtual addresses are in.
        left_out: mapped ranges that are not in by virtual address, because there are too many of them.
        notes: what the file does not hold, one sentence each.
    """

    head: bytes
    copies: tuple[Copy, ...]
    size: int
    base: int = 0
    segments: int = 0
    has_map: bool = False
    left_out: int = 0
    notes: tuple[str, ...] = ()


class _Header(NamedTuple):
    """A program header; -1 stands for no address. ``offset`` counts from the first byte behind the headers."""

    kind: int
    va: int
    pa: int
    offset: int
    filesz: int
    memsz: int
    flags: int


def missing_note(dump: Dump) -> list[str]:
    """What the dump promises and does not hold."""
    promised = sum(run.length for run in dump.physical.promised_runs())
    lost = promised - sum(run.length for run in dump.physical.runs())
    if not lost:
        return []
    return [f"the dump is cut off: {lost} bytes that it should hold are beyond its end and not exported"]


def plan_raw(dump: Dump, *, from_first_page: bool = False) -> Plan:
    """A raw image: every byte of physical memory at its address.

    Args:
        dump: the dump.
        from_first_page: begin with the first dumped page, not with address 0.

    Raises:
        FormatError: there is no such image, or it would be absurdly long.
    """
    if not dump.physical.is_physical:
        msg = "this ELF core knows virtual addresses only; a raw image of physical memory cannot be made of it"
        raise FormatError(msg)
    runs = _runs(dump)
    base = runs[0].pa & -dump.page_size if from_first_page else 0
    size = runs[-1].pa + runs[-1].length - base
    if size > MAX_RAW_SIZE:
        advice = "" if from_first_page else ", or --first-page to begin with the first dumped page"
        msg = (
            f"the dumped memory ends at {runs[-1].pa + runs[-1].length:#x}, and a raw image of {size:#x} bytes is more "
            f"than the {MAX_RAW_SIZE:#x} that are written; use --format elf{advice}"
        )
        raise FormatError(msg)
    copies = tuple(Copy(run.offset, run.length, run.pa - base) for run in runs)
    return Plan(b"", copies, size, base, notes=tuple(missing_note(dump)))


def _runs(dump: Dump) -> list[Run]:
    runs = list(dump.physical.runs())
    if not runs:
        msg = "there is no memory in this dump to export"
        raise FormatError(msg)
    if sum(run.length for run in runs) > dump.physical.reader.size:
        msg = "pieces of this dump share bytes of its file: what is exported would be larger than the dump itself"
        raise FormatError(msg)
    return runs


def plan_elf(dump: Dump, space: AddressSpace | None = None) -> Plan:
    """An ELF core with physical and, if they can be had, kernel virtual addresses.

    Args:
        dump: the dump.
        space: the kernel's address space, if it is not ``dump.kernel``: of full dumps whose page tables were found
            by other means.

    Raises:
        FormatError: the dump holds nothing, or more than such a file can name.
    """
    return _ElfPlanner(dump, space).plan()


class _ElfPlanner:
    """Collects the program headers: first physical memory, then the page map, then what only our own reader knows."""

    def __init__(self, dump: Dump, space: AddressSpace | None) -> None:
        self._dump = dump
        self._notes = missing_note(dump)
        self._left_out = 0
        self._space = space
        if space is None:
            try:
                self._space = dump.kernel
            except SymbolError as error:
                self._notes.append(f"without kernel virtual addresses: {error}")
        self._runs = _runs(dump)
        self._high: list[tuple[int, int]] = []
        if dump.word_bits == 32 and dump.physical.is_physical:
            self._cut_to_32_bits()
        self._starts = [run.pa for run in self._runs]
        self._targets, self._length = self._lay_out()

    def _cut_to_32_bits(self) -> None:
        """Of memory above 4 GiB (PAE), only what is mapped can be named: by its virtual address."""
        above = sum(run.length for run in self._dump.physical.runs(_TOP_32))
        if not above:
            return
        mapped = [
            (piece.pa, piece.pa + piece.length)
            for piece in (self._space.walk() if self._space else ())
            if piece.pa is not None and piece.offset is not None and piece.pa + piece.length > _TOP_32
        ]
        high = [(max(start, _TOP_32), end) for start, end in mapped]
        self._runs = list(self._dump.physical.runs(0, _TOP_32))
        kept = 0
        for start, end, _ in first_wins(high):
            self._runs += self._dump.physical.runs(start, end)
            kept += end - start
        if kept < above:
            self._notes.append(
                f"{above - kept} bytes above 4 GiB are mapped nowhere and cannot be named in a 32-bit ELF core; "
                "--format raw holds them"
            )

    def _lay_out(self) -> tuple[list[int], int]:
        """Where each run goes, counted from the end of the headers: in order, each at its place within a page."""
        page = self._dump.page_size
        targets, position, end = [], 0, None
        for run in self._runs:
            if run.pa != end:
                position = -(-position // page) * page + run.pa % page
            targets.append(position)
            position += run.length
            end = run.pa + run.length
        return targets, position

    def plan(self) -> Plan:
        """The whole."""
        dump = self._dump
        virtual_only = not dump.physical.is_physical
        loads = [] if virtual_only else list(self._physical())
        own: list[_Header] = []
        if self._space:
            mapped, absent = self._mapped(self._space, MAX_SEGMENTS - len(loads) - 64)
            loads += mapped
            if not virtual_only:
                displaced = self._displaced()
                loads += islice(self._aliases(self._space, displaced), MAX_SEGMENTS + 1)
                own = [*_own(self._space, displaced), *absent]
        elif dump.core and dump.core.dump_delta:
            virtual, physical = dump.core.dump_delta
            own = [_Header(PT_DUMP_DELTA, virtual, physical, 0, 0, 0, 4)]
        headers = [*_merged(loads), *own]
        if len(headers) > MAX_SEGMENTS:
            msg = f"more than the {MAX_SEGMENTS} pieces of memory that an ELF core can name; use --format raw"
            raise FormatError(msg)
        head, start = self._head(headers)
        size = start + self._length
        if dump.word_bits == 32 and size > _TOP_32:
            msg = "a 32-bit ELF core cannot be longer than 4 GiB, and this dump holds more; use --format raw"
            raise FormatError(msg)
        copies = [
            Copy(run.offset, run.length, start + target) for run, target in zip(self._runs, self._targets, strict=True)
        ]
        return Plan(
            head,
            tuple(copies),
            size,
            segments=len(headers),
            has_map=self._space is not None,
            left_out=self._left_out,
            notes=tuple(self._notes),
        )

    def _target(self, pa: int) -> int:
        index = bisect_right(self._starts, pa) - 1
        return self._targets[index] + pa - self._starts[index]

    def _load(self, va: int, run: Run, flags: int) -> Iterator[_Header]:
        """PT_LOADs of memory that is in the dump; two where its physical address crosses 4 GiB in a 32-bit core."""
        cut = run.length
        if self._dump.word_bits == 32 and self._dump.physical.is_physical:
            cut = min(max(_TOP_32 - run.pa, 0), run.length)
        for first, end in ((0, cut), (cut, run.length)):
            if first < end:
                pa = run.pa + first if not first and cut else -1
                at = self._target(run.pa + first)
                size = end - first
                yield _Header(PT_LOAD, va if va < 0 else va + first, pa, at, size, size, flags)

    def _physical(self) -> Iterator[_Header]:
        """Physical memory, seen through the direct map if there is one."""
        space = self._space
        directs = space.page_map.directs[:1] if space and not space.page_map.directs_in_tables else ()
        for run in self._dump.physical.runs(0, _TOP_32 if self._dump.word_bits == 32 else 1 << 64):
            if space is None:
                # As the kernel writes it: what is virtual nowhere repeats the physical address.
                yield from self._load(run.pa, run, 4)
                continue
            seen = run.pa
            for base, end, phys in directs:
                low, high = max(seen, phys), min(run.pa + run.length, phys + end - base)
                if low < high:
                    yield from self._piece(-1, run, seen, low)
                    yield from self._piece(base + low - phys, run, low, high)
                    seen = high
            yield from self._piece(-1, run, seen, run.pa + run.length)

    def _piece(self, va: int, run: Run, start: int, end: int) -> Iterator[_Header]:
        if start < end:
            yield from self._load(va, Run(start, end - start, 0), _PF_READ_WRITE | PF_KVM_ALIAS)

    def _mapped(self, space: AddressSpace, room: int) -> tuple[list[_Header], list[_Header]]:
        """The page map: what is in the file and what is not. The longest stay where there are too many."""
        loads: list[_Header] = []
        absent: list[_Header] = []
        found = 0
        for piece in space.walk():
            flags = _flags(piece)
            if piece.offset is None:
                pa = -1 if piece.pa is None or piece.pa >> self._dump.word_bits else piece.pa
                absent.append(_Header(PT_KVM_ABSENT, piece.va, pa, 0, 0, piece.length, flags))
            else:
                place = piece.va if piece.pa is None else piece.pa
                for header in self._load(piece.va, Run(place, piece.length, 0), flags):
                    found += 1
                    loads.append(header if self._dump.physical.is_physical else header._replace(pa=-1))
            if len(loads) > 2 * room:
                loads = _longest(loads, room)
            if len(absent) > 2 * room:
                absent = _longest(absent, room)
        loads = _longest(loads, room)
        if found > len(loads):
            self._left_out = found - len(loads)
            self._notes.append(
                f"{self._left_out} of {found} mapped ranges, the shortest, can be found by physical address only: "
                f"there is room for {room}"
            )
        return loads, _longest(absent, room - len(loads))

    def _displaced(self) -> tuple[int, int, int] | None:
        """``(start, end, displacement)`` of the kernel as it is linked."""
        dump = self._dump
        if dump.core and dump.core.exported:
            return dump.core.exported.displaced
        if dump.kerndisp <= 0 or dump.header is None:
            return None
        size = dump.header.endkernel - dump.header.startkernel
        return (LINKED_AT & -dump.page_size, LINKED_AT + size, dump.kerndisp) if size > 0 else None

    def _aliases(self, space: AddressSpace, displaced: tuple[int, int, int] | None) -> Iterator[_Header]:
        """The further direct maps, and the kernel where it is linked, so that debuggers need not move its symbols."""
        page_map = space.page_map
        windows = [] if page_map.directs_in_tables else [(base, end, 0) for base, end, _ in page_map.directs[1:]]
        if displaced:
            start, end, delta = displaced
            windows.append((start + delta, end + delta, delta))
        for start, end, delta in windows:
            for va, run in space.readable(start, min(end, 1 << 64)):
                yield from self._load(va - delta, run, _PF_READ_WRITE | PF_KVM_ALIAS)

    def _head(self, headers: list[_Header]) -> tuple[bytes, int]:
        """The headers as bytes, and where memory begins behind them."""
        dump = self._dump
        wide = dump.word_bits == 64
        order = "<" if dump.byteorder == "little" else ">"
        many = len(headers) >= PN_XNUM
        at, entry, section = (64, 56, 64) if wide else (52, 32, 40)
        end = at + entry * len(headers)
        start = -(-(end + section * many) // dump.page_size) * dump.page_size
        ident = b"\x7fELF" + bytes([1 + wide, 1 if order == "<" else 2, 1, ELFOSABI_STANDALONE]) + bytes(8)
        counts = (entry, PN_XNUM, section, 1, 0) if many else (entry, len(headers), 0, 0, 0)
        word = "Q" if wide else "I"
        machine = _MACHINES[dump.architecture]
        parts = [
            ident,
            struct.pack(f"{order}HHI3{word}I6H", 4, machine, 1, 0, at, end if many else 0, 0, at, *counts),
            *_packed(headers, order, start, dump.page_size, wide=wide),
        ]
        if many:
            parts.append(struct.pack(f"{order}II4{word}II2{word}", 0, 0, 0, 0, 0, 0, 0, len(headers), 0, 0))
        return b"".join(parts), start


def _own(space: AddressSpace, displaced: tuple[int, int, int] | None) -> Iterator[_Header]:
    """What only our own reader looks at."""
    in_tables = PF_KVM_IN_TABLES if space.page_map.directs_in_tables else 0
    no_user = 0 if space.physical.has_user_pages else PF_KVM_NO_USER
    yield _Header(PT_KVM_MAP, -1, -1, 0, 0, 0, in_tables | no_user)
    for base, end, phys in space.page_map.directs:
        yield _Header(PT_KVM_DIRECT, base, phys, 0, 0, end - base, _PF_READ_WRITE)
    if displaced:
        start, end, delta = displaced
        yield _Header(PT_KVM_DISPLACED, start, delta, 0, 0, end - start, 4)


def _packed(headers: Iterable[_Header], order: str, start: int, align: int, *, wide: bool) -> Iterator[bytes]:
    """Program headers. Those without bytes lie at no offset, for readers that look at nothing else."""
    mask = (1 << 64) - 1 if wide else _TOP_32 - 1
    pack = struct.Struct(f"{order}2I6Q" if wide else f"{order}8I").pack
    nowhere = mask & -align
    for kind, va, pa, offset, filesz, memsz, flags in headers:
        at = start + offset if filesz else nowhere
        if wide:
            yield pack(kind, flags, at, va & mask, pa & mask, filesz, memsz & mask, align)
        else:
            yield pack(kind, at & mask, va & mask, pa & mask, filesz, memsz & mask, flags, align)


def _flags(piece: MappedRange) -> int:
    """p_flags of a mapping; where protection is not known, everything is allowed."""
    prot = int(piece.prot)
    if prot & _UNKNOWN:
        return 7 | PF_KVM_UNKNOWN
    return (prot & 1) << 2 | prot & 2 | prot >> 2 & 1


def _longest(headers: list[_Header], room: int) -> list[_Header]:
    """At most ``room`` headers, the longest, in their order."""
    if len(headers) <= room:
        return headers
    kept = heapq.nlargest(max(room, 0), range(len(headers)), key=lambda index: headers[index].memsz)
    return [headers[index] for index in sorted(kept)]


def _merged(headers: Iterable[_Header]) -> Iterator[_Header]:
    """Neighbours that continue each other as one."""
    last: _Header | None = None
    for header in headers:
        if last is not None:
            size = last.filesz
            if (
                header.flags == last.flags
                and header.offset == last.offset + size
                and (header.va == last.va + size if last.va >= 0 else header.va < 0)
                and (header.pa == last.pa + size if last.pa >= 0 else header.pa < 0)
            ):
                last = last._replace(filesz=size + header.filesz, memsz=size + header.memsz)
                continue
            yield last
        last = header
    if last is not None:
        yield last
