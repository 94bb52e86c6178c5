"""Physical memory as a dump holds it: physical address to file offset, and the runs between the holes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..exceptions import BeyondEndError, NotDumpedError
from .bitmap import PageBitmap
from .intervals import first_wins
from .reader import Reader
from .records import Run

END_OF_MEMORY = 1 << 64


class PhysicalMemory(ABC):
    """Physical memory behind a file.

    Attributes:
        reader: the file.
        page_size: of the dumped machine, in bytes.
        byteorder: of the dumped machine.
        is_physical: addresses are physical (False in ELF cores that know virtual addresses only).
        has_user_pages: memory of processes was dumped, too (False in minidumps and what was exported from them).
    """

    is_physical = True
    has_user_pages = True

    def __init__(self, reader: Reader, page_size: int, byteorder: str = "little") -> None:
        """Remember the file; subclasses add the map."""
        self.reader = reader
        self.page_size = page_size
        self.byteorder = byteorder

    @abstractmethod
    def locate(self, pa: int) -> int:
        """The file offset that the dump promises for ``pa``, perhaps beyond the end of the file.

        Raises:
            NotDumpedError: the dump does not hold that page.
        """

    @abstractmethod
    def extent(self, pa: int, length: int) -> int:
        """How many of ``length`` bytes from ``pa`` (which `locate` knows) follow each other in the file; at least 1."""

    def page_offset(self, pa: int) -> int:
        """The file offset of the whole page at ``pa``; -1 unless all of it is promised in one piece."""
        try:
            return self.locate(pa) if self.extent(pa, self.page_size) == self.page_size else -1
        except NotDumpedError:
            return -1

    @abstractmethod
    def promised_runs(self, start: int = 0, end: int = END_OF_MEMORY) -> Iterator[Run]:
        """The runs within ``[start, end)``, ascending, whether or not the file is long enough to hold them."""

    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """The first and the last readable address; ``(0, 0)`` if there is none."""

    @abstractmethod
    def pa_of(self, offset: int) -> int:
        """The physical address whose byte is at file ``offset``; the inverse of `locate`.

        Raises:
            NotDumpedError: that offset holds no memory (headers, tables, beyond the promised end).
        """

    def offset_of(self, pa: int) -> int:
        """The file offset of the byte at ``pa``.

        Raises:
            NotDumpedError: the dump does not hold that page.
            BeyondEndError: it should, but the file ends before.
        """
        offset = self.locate(pa)
        if offset >= self.reader.size:
            raise BeyondEndError(pa, self._end_detail(offset))
        return offset

    def _end_detail(self, offset: int) -> str:
        return f"at file offset {offset:#x}, the file has {self.reader.size:#x} bytes"

    def read(self, pa: int, length: int) -> bytes:
        """``length`` bytes of physical memory.

        Raises:
            NotDumpedError, BeyondEndError: with the first address that fails.
        """
        pieces = []
        buffer = self.reader.buffer
        end = pa + length
        while pa < end:
            offset = self.locate(pa)
            size = self.extent(pa, end - pa)
            piece = buffer[offset : offset + size]
            if len(piece) < size:
                raise BeyondEndError(pa + len(piece), self._end_detail(offset + len(piece)))
            pieces.append(piece)
            pa += size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def runs(self, start: int = 0, end: int = END_OF_MEMORY) -> Iterator[Run]:
        """The readable runs within ``[start, end)``, ascending: `promised_runs`, cut where the file ends."""
        size = self.reader.size
        for run in self.promised_runs(start, end):
            if run.offset < size:
                yield run._replace(length=min(run.length, size - run.offset))

    def is_readable(self, pa: int, length: int = 1) -> bool:
        """Whether every byte is there."""
        position = pa
        for run in self.runs(pa, pa + length):
            if run.pa != position:
                return False
            position += run.length
        return position >= pa + length


class MinidumpMemory(PhysicalMemory):
    """The page area of a minidump.

    # Reference: lib/libkvm/kvm_private.c (_kvm_pt_find)
    """

    has_user_pages = False

    def __init__(
        self, reader: Reader, bitmap: PageBitmap, pages_off: int, page_size: int, byteorder: str = "little"
    ) -> None:
        """Pages start at file offset ``pages_off`` in the order of ``bitmap``."""
        super().__init__(reader, page_size, byteorder)
        self.bitmap = bitmap
        self.pages_off = pages_off
        self._shift = page_size.bit_length() - 1
        self._mask = page_size - 1
        self._place = bitmap.place

    def locate(self, pa: int) -> int:
        """See `PhysicalMemory.locate`."""
        place = self._place(pa >> self._shift)
        if place < 0:
            raise NotDumpedError(pa)
        return self.pages_off + (place << self._shift) + (pa & self._mask)

    def page_offset(self, pa: int) -> int:
        """See `PhysicalMemory.page_offset`."""
        place = self._place(pa >> self._shift)
        return -1 if place < 0 else self.pages_off + (place << self._shift)

    def extent(self, pa: int, length: int) -> int:
        """See `PhysicalMemory.extent`."""
        within = pa & self._mask
        if within + length <= self.page_size:
            return length
        pages = self.bitmap.extent(pa >> self._shift, (within + length + self._mask) >> self._shift)
        return min(length, (pages << self._shift) - within)

    def promised_runs(self, start: int = 0, end: int = END_OF_MEMORY) -> Iterator[Run]:
        """See `PhysicalMemory.promised_runs`."""
        shift = self._shift
        for page, count, place in self.bitmap.runs(start >> shift, -(-end >> shift)):
            low, high = max(page << shift, start), min((page + count) << shift, end)
            yield Run(low, high - low, self.pages_off + (place << shift) + low - (page << shift))

    def pa_of(self, offset: int) -> int:
        """See `PhysicalMemory.pa_of`."""
        page = self.bitmap.page_at((offset - self.pages_off) >> self._shift)
        if page < 0:
            raise NotDumpedError(offset, "this file offset holds no memory")
        return (page << self._shift) + ((offset - self.pages_off) & self._mask)

    def bounds(self) -> tuple[int, int]:
        """See `PhysicalMemory.bounds`."""
        end = min(self.reader.size, self.pages_off + (self.bitmap.count << self._shift))
        if end <= self.pages_off or not self.bitmap.count:
            return 0, 0
        return self.pa_of(self.pages_off), self.pa_of(end - 1)

    @property
    def pages_beyond_end(self) -> int:
        """Promised pages that lie wholly or partly beyond the end of the file."""
        present = max(0, self.reader.size - self.pages_off) >> self._shift
        return max(0, self.bitmap.count - present)


class Segment(NamedTuple):
    """A piece of a full dump: addresses ``[start, start + length)`` at file ``offset``. Bytes."""

    start: int
    length: int
    offset: int


class SegmentedMemory(PhysicalMemory):
    """Memory described by a table of segments: an ELF core.

    The addresses may be physical or, for virtual-address ELFs, virtual; this class does not care.
    """

    def __init__(
        self,
        reader: Reader,
        segments: Sequence[Segment],
        page_size: int,
        byteorder: str = "little",
        *,
        is_physical: bool = True,
    ) -> None:
        """``segments`` need not be sorted; where two overlap, the one that comes first keeps the bytes (as libkvm)."""
        super().__init__(reader, page_size, byteorder)
        self.is_physical = is_physical
        self.segments = _without_overlaps(segments)
        self._starts = [segment.start for segment in self.segments]
        self._by_offset = _by_offset(self.segments)
        self._offsets = [segment.offset for segment in self._by_offset]

    def _segment(self, pa: int) -> Segment:
        index = bisect_right(self._starts, pa) - 1
        if index >= 0:
            segment = self.segments[index]
            if pa < segment.start + segment.length:
                return segment
        raise NotDumpedError(pa)

    def locate(self, pa: int) -> int:
        """See `PhysicalMemory.locate`."""
        segment = self._segment(pa)
        return segment.offset + pa - segment.start

    def extent(self, pa: int, length: int) -> int:
        """See `PhysicalMemory.extent`."""
        segment = self._segment(pa)
        return min(length, segment.start + segment.length - pa)

    def promised_runs(self, start: int = 0, end: int = END_OF_MEMORY) -> Iterator[Run]:
        """See `PhysicalMemory.promised_runs`."""
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self.segments)):
            segment = self.segments[index]
            if segment.start >= end:
                return
            low, high = max(segment.start, start), min(segment.start + segment.length, end)
            if low < high:
                yield Run(low, high - low, segment.offset + low - segment.start)

    def pa_of(self, offset: int) -> int:
        """See `PhysicalMemory.pa_of`."""
        index = bisect_right(self._offsets, offset) - 1
        if index >= 0:
            segment = self._by_offset[index]
            if offset < segment.offset + segment.length:
                return segment.start + offset - segment.offset
        raise NotDumpedError(offset, "this file offset holds no memory")

    def bounds(self) -> tuple[int, int]:
        """See `PhysicalMemory.bounds`."""
        runs = list(self.runs())
        return (runs[0].pa, runs[-1].pa + runs[-1].length - 1) if runs else (0, 0)


def _without_overlaps(segments: Sequence[Segment]) -> list[Segment]:
    """The segments by address, each place held by the first segment of the table that covers it."""
    ranges = [(segment.start, segment.start + segment.length) for segment in segments]
    return [
        Segment(start, end - start, segments[index].offset + start - segments[index].start)
        for start, end, index in first_wins(ranges)
    ]


def _by_offset(segments: Sequence[Segment]) -> list[Segment]:
    """The segments by file offset, made disjoint in the same way."""
    ranges = [(segment.offset, segment.offset + segment.length) for segment in segments]
    return [
        Segment(segments[index].start + start - segments[index].offset, end - start, start)
        for start, end, index in first_wins(ranges)
    ]
