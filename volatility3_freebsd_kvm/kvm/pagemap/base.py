"""Kernel virtual to physical: what every architecture's page map has in common.

A page map is a tree of tables. In a minidump the root is the *page map* section of the file (a flat array that starts
at ``kernbase``) with few levels below it; in a full dump the root is the kernel's own top-level table and everything is
read from dumped memory. Each architecture's module says what an entry means (`TablePageMap.decode`) and which addresses
are direct-mapped; walking is done here, once.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ...exceptions import AddressError, BeyondEndError, NotMappedError
from ..physical import PhysicalMemory
from ..reader import Reader
from ..records import Absence, Leaf, Protection

PROTECTIONS = [Protection(bits) for bits in range(8)]
"""`Protection` by its read/write/execute bits: building an ``IntFlag`` for every entry would be slow."""

_CACHE_LIMIT = 4096
_CHUNK = 512
_LOOP_WARNING = "the page tables refer to themselves in circles; some of what they map is left out"
_VISIT_LIMIT = 2
"""How often one table may be used at one level. Even a self-map needs each only once; what needs more is a loop."""

Decoded = tuple[bool, int, Protection]
"""What an entry says: (is it a leaf, physical address of page or next table, protection)."""


class DirectMap(NamedTuple):
    """Kernel virtual ``[base, end)`` shows physical memory from ``phys`` on."""

    base: int
    end: int
    phys: int


class Level(NamedTuple):
    """One level of tables: ``1 << shift`` bytes per entry, ``1 << bits`` entries of ``size`` bytes."""

    shift: int
    bits: int
    size: int = 8


class Window(NamedTuple):
    """Addresses ``[start, end)`` that are translated alike.

    ``origin`` is what index 0 of the top table stands for or, if ``direct``, where physical address 0 is (or would be).
    """

    start: int
    end: int
    origin: int
    direct: bool = False


def absence_of(error: AddressError) -> Absence:
    """The `Absence` that an error stands for."""
    if isinstance(error, NotMappedError):
        return Absence.NOT_MAPPED
    return Absence.BEYOND_END if isinstance(error, BeyondEndError) else Absence.NOT_DUMPED


def load_entries(data: bytes, size: int, byteorder: str) -> array[int]:
    """Unpack table entries of ``size`` (4 or 8) bytes."""
    entries = array("Q" if size == 8 else "I", data)
    if byteorder != sys.byteorder:
        entries.byteswap()
    return entries


class TableCache(dict[int, "array[int]"]):
    """Tables by number, loaded when first asked for; forgets everything when it grows too large."""

    def __init__(self, load: Callable[[int], array[int]]) -> None:
        """``load`` makes the table of a number."""
        super().__init__()
        self._load = load

    def __missing__(self, key: int) -> array[int]:
        """Load table ``key``."""
        if len(self) >= _CACHE_LIMIT:
            self.clear()
        table = self[key] = self._load(key)
        return table


class SectionTable:
    """The page map section of a minidump, as one long table.

    Only the parts that are used get read: on amd64 it is 8 MiB of mostly zeros.
    """

    def __init__(self, reader: Reader, offset: int, size: int, entry_size: int, byteorder: str) -> None:
        """Entries of ``entry_size`` bytes fill ``size`` bytes of the file from ``offset`` on."""
        self._reader = reader
        self._offset = offset
        self._entry_size = entry_size
        self._byteorder = byteorder
        self.length = size // entry_size
        self._chunks = TableCache(self._load)

    def _load(self, chunk: int) -> array[int]:
        first = chunk * _CHUNK
        start = self._offset + first * self._entry_size
        size = min(_CHUNK, self.length - first) * self._entry_size
        data = self._reader.buffer[start : start + size]
        if len(data) < size:
            raise BeyondEndError(start, "the page map is cut off")
        return load_entries(data, self._entry_size, self._byteorder)

    def __getitem__(self, index: int) -> int:
        """Entry ``index``, which must be below `length`."""
        return self._chunks[index // _CHUNK][index % _CHUNK]

    def chunks(self, first: int, end: int) -> Iterator[tuple[int, array[int] | AddressError]]:
        """``(index, entries)`` of the parts that hold entries ``[first, end)``.

        Parts without any entry are left out. Where the file ends, an error stands for all the rest.
        """
        for chunk in range(first // _CHUNK, -(-min(end, self.length) // _CHUNK)):
            try:
                table = self._load(chunk)
            except AddressError as error:
                yield chunk * _CHUNK, error
                return
            if any(table):
                yield chunk * _CHUNK, table


class PageMap(ABC):
    """Kernel virtual to physical.

    Attributes:
        name: what it is, for people.
        directs: the direct maps, the preferred one first.
        directs_in_tables: `walk` has the direct maps, too, because they are ordinary entries of the tables.
        page_granular: translations hold for whole, aligned pages, so that they may be remembered by page.
        warnings: what went wrong while walking, one sentence each.
    """

    name: str
    page_size: int
    directs: tuple[DirectMap, ...] = ()
    page_granular = True
    directs_in_tables = False

    def __init__(self) -> None:
        """Nothing has gone wrong yet."""
        self.warnings: list[str] = []

    @abstractmethod
    def translate(self, va: int) -> tuple[int, int]:
        """The physical address of ``va``, and for how many bytes from there the translation holds.

        Raises:
            NotMappedError: there is no translation.
            NotDumpedError, BeyondEndError: a table that would tell is missing from the dump.
        """

    def kvatop(self, va: int) -> int:
        """The physical address of ``va``; raises as `translate` does."""
        return self.translate(va)[0]

    @abstractmethod
    def translations(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """Everything mapped in ``[start, end)``, ascending; a direct map is one leaf of unknown protection."""

    @abstractmethod
    def walk(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """What the tables map in ``[start, end)``, ascending, adjacent pages joined; without the direct maps."""

    def displacement(self, va: int) -> int:
        """What to add to ``va``, the address of something in the linked kernel, to get to where the kernel runs.

        `translate` does that by itself; ranges are told by the address they are at.
        """
        return 0

    def direct_va(self, pa: int) -> int | None:
        """Where the direct map shows ``pa``."""
        for base, end, phys in self.directs:
            if phys <= pa < phys + end - base:
                return base + pa - phys
        return None


class _Walk:
    """What one walk has seen: tables may be shared and map themselves, but not without end."""

    def __init__(self, limit: int) -> None:
        """At most ``limit`` tables in all."""
        self._seen: Counter[tuple[int, int]] = Counter()
        self._left = limit

    def enter(self, level: int, pa: int) -> bool:
        """Whether the table at ``pa`` may be walked (again) at a level."""
        self._seen[level, pa] += 1
        self._left -= 1
        return self._left >= 0 and self._seen[level, pa] <= _VISIT_LIMIT


class TablePageMap(PageMap):
    """A page map made of tables. Subclasses set `levels` and say what an entry means."""

    levels: tuple[Level, ...]

    def __init__(
        self,
        memory: PhysicalMemory,
        root: SectionTable | int,
        windows: Iterable[Window],
        byteorder: str = "little",
    ) -> None:
        """Prepare to walk.

        Args:
            memory: where lower tables are.
            root: the top table: a section of the file, or the physical address of a table.
            windows: what is translated how; where two overlap, the first one has the say.
            byteorder: of the entries.
        """
        super().__init__()
        self.page_size = memory.page_size
        self._memory = memory
        self._byteorder = byteorder
        self._root = root
        self._windows = _without_overlaps(windows)
        self.directs = tuple(
            DirectMap(low, high, low - origin) for low, high, origin, direct in self._windows if direct
        )
        self._sorted_windows = sorted(self._windows)
        self._tables = [TableCache(self._loader(level)) for level in self.levels]

    def _loader(self, level: Level) -> Callable[[int], array[int]]:
        size = level.size << level.bits

        def load(pa: int) -> array[int]:
            return load_entries(self._memory.read(pa, size), level.size, self._byteorder)

        return load

    @abstractmethod
    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """What ``entry`` of ``levels[level]`` says about ``va``; None if it is not valid."""

    def translate(self, va: int) -> tuple[int, int]:
        """See `PageMap.translate`."""
        for start, end, origin, direct in self._windows:
            if start <= va < end:
                if direct:
                    return va - origin, end - va
                return self._lookup(va, (va - origin) >> self.levels[0].shift)
        raise NotMappedError(va)

    def _lookup(self, va: int, index: int) -> tuple[int, int]:
        """Go down from entry ``index`` of the root."""
        pa = self._root
        for number, level in enumerate(self.levels):
            try:
                table = self._tables[number][pa] if isinstance(pa, int) else pa
                entry = table[index if not number else va >> level.shift & (1 << level.bits) - 1]
            except AddressError as error:
                raise _lost_table(error, va) from None
            decoded = self.decode(number, entry, va)
            if decoded is None:
                break
            leaf, pa, _ = decoded
            if leaf:
                within = va & (1 << level.shift) - 1
                return pa + within, (1 << level.shift) - within
        raise NotMappedError(va)

    def translations(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.translations`."""
        return self._translations(start, end, directs=True)

    def walk(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.walk`."""
        return self._translations(start, end, directs=False)

    def _translations(self, start: int, end: int, *, directs: bool) -> Iterator[Leaf]:
        walk = _Walk(64 + 2 * (self._memory.reader.size // self.page_size))
        for window in self._sorted_windows:
            low, high = max(start, window.start), min(end, window.end)
            if low >= high:
                continue
            if not window.direct:
                yield from join(clip(self._window_leaves(walk, window.origin, low, high), low, high))
            elif directs:
                yield Leaf(low, low - window.origin, high - low, Protection.UNKNOWN)

    def _window_leaves(self, walk: _Walk, origin: int, start: int, end: int) -> Iterator[Leaf]:
        shift = self.levels[0].shift
        if isinstance(self._root, SectionTable):
            for index, table in self._root.chunks((start - origin) >> shift, ((end - 1 - origin) >> shift) + 1):
                va = origin + (index << shift)
                if isinstance(table, AddressError):
                    yield Leaf(va, None, end - va, Protection.UNKNOWN, absence_of(table))
                else:
                    yield from self._table_leaves(walk, 0, table, va, start, end)
        else:
            yield from self._next_table(walk, 0, self._root, origin, 1 << (shift + self.levels[0].bits), start, end)

    def _next_table(self, walk: _Walk, level: int, pa: int, va: int, span: int, start: int, end: int) -> Iterator[Leaf]:
        """The leaves of the table at ``pa``, or one leaf that says why it cannot be read."""
        if not walk.enter(level, pa):
            if _LOOP_WARNING not in self.warnings:
                self.warnings.append(_LOOP_WARNING)
            return
        try:
            table = self._tables[level][pa]
        except AddressError as error:
            yield Leaf(va, None, span, Protection.UNKNOWN, absence_of(error))
        else:
            yield from self._table_leaves(walk, level, table, va, start, end)

    def _table_leaves(
        self, walk: _Walk, level: int, table: Sequence[int], base: int, start: int, end: int
    ) -> Iterator[Leaf]:
        """The leaves of one table, whose first entry is for ``base``. Recursion is as deep as `levels` is long."""
        shift = self.levels[level].shift
        span = 1 << shift
        decode = self.decode
        for index in range(max(0, (start - base) >> shift), min(len(table), -((base - end) >> shift))):
            entry = table[index]
            if not entry:
                continue
            va = base + (index << shift)
            decoded = decode(level, entry, va)
            if decoded is None:
                continue
            leaf, pa, prot = decoded
            if leaf:
                yield Leaf(va, pa, span, prot)
            elif level + 1 < len(self.levels):
                yield from self._next_table(walk, level + 1, pa, va, span, start, end)


def _lost_table(error: AddressError, va: int) -> AddressError:
    """The same kind of error for ``va``: the table that would translate it is missing."""
    return type(error)(va, f"the page table for it at {error.address:#x} {error.kind}")


def _without_overlaps(windows: Iterable[Window]) -> list[Window]:
    """The windows in order of precedence, each without the addresses of those before it."""
    kept: list[Window] = []
    for window in windows:
        pieces = [window] if window.start < window.end else []
        for other in kept:
            pieces = [part for piece in pieces for part in _subtract(piece, other)]
        kept.extend(pieces)
    return kept


def _subtract(piece: Window, other: Window) -> Iterator[Window]:
    """What is left of ``piece`` outside ``other``."""
    if piece.end <= other.start or other.end <= piece.start:
        yield piece
        return
    if piece.start < other.start:
        yield piece._replace(end=other.start)
    if piece.end > other.end:
        yield piece._replace(start=other.end)


def clip(leaves: Iterable[Leaf], start: int, end: int) -> Iterator[Leaf]:
    """Cut leaves to ``[start, end)``."""
    for leaf in leaves:
        low, high = max(leaf.va, start), min(leaf.va + leaf.length, end)
        if low < high:
            pa = None if leaf.pa is None else leaf.pa + low - leaf.va
            yield Leaf(low, pa, high - low, leaf.prot, leaf.absence)


def join(leaves: Iterable[Leaf]) -> Iterator[Leaf]:
    """Join neighbours that continue each other in every respect."""
    last: Leaf | None = None
    for leaf in leaves:
        if last is not None:
            va, pa, length, prot, absence = last
            if (
                leaf.va == va + length
                and leaf.prot == prot
                and leaf.absence is absence
                and (leaf.pa is None if pa is None else leaf.pa == pa + length)
            ):
                last = Leaf(va, pa, length + leaf.length, prot, absence)
                continue
            yield last
        last = leaf
    if last is not None:
        yield last
