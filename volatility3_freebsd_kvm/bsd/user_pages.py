"""Which page is at an address of a process: by its page tables, else by its map and the objects in it.

# Reference: sys/vm/vm_fault.c (vm_fault_soft_fast, vm_fault_next), vm_map.h, vm_object.h
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from ..exceptions import AddressError, NotMappedError
from ..kvm.pagemap.base import PageMap, TablePageMap, clip, join
from ..kvm.physical import PhysicalMemory
from ..kvm.records import Absence, Leaf, Protection
from ..kvm.userspace import presence
from .records import Absent
from .vm_object import Chain, VmObjects
from .vm_pages import NOWHERE

GUARD, SUB_MAP = 0x10000, 0x2
PAGE_TABLE = "page table"
_FILES = ("vnode", "device", "mgtdevice", "sg", "unknown")
"""Kinds of objects whose pages come from elsewhere; those of all others are made of zeros when first touched."""


class State(Enum):
    """What is with a page."""

    PRESENT = "present"
    NOT_DUMPED = "not dumped"
    BEYOND_END = "beyond the end of the file"
    SWAPPED = "swapped out"
    NOT_RESIDENT = "not resident"
    UNTOUCHED = "never touched"
    GUARD = "guard"
    NOT_MAPPED = "not mapped"
    UNKNOWN = "unknown"


_STATES = {None: State.PRESENT, Absence.NOT_DUMPED: State.NOT_DUMPED, Absence.BEYOND_END: State.BEYOND_END}


class UserRange(NamedTuple):
    """Consecutive addresses of a process that are alike; all in bytes.

    Attributes:
        address, length: the range.
        state: what is with it.
        source: what led to it: ``page table``, ``object``, ``shadow 1`` for an object that the first one shadows, …
        pa: physical address, consecutive throughout; None if it is not in memory.
        block: of `State.SWAPPED`: the number of the first block on the swap devices, consecutive throughout.
        detail: of `State.UNKNOWN`: what is wrong, a clause; of `State.NOT_RESIDENT`: the kind of the object at the
            bottom.
    """

    address: int
    length: int
    state: State
    source: str = ""
    pa: int | None = None
    block: int | None = None
    detail: str = ""


class SwappedError(AddressError):
    """The page is on a swap device."""

    kind = "is swapped out"


class NotResidentError(AddressError):
    """The page is mapped, but not in memory."""

    kind = "is not resident"


class GuardError(AddressError):
    """The address is in a guard, which catches accesses."""

    kind = "is in a guard"


class UserEntry(NamedTuple):
    """What matters here of a `struct vm_map_entry`.

    Attributes:
        start, end: the range of addresses.
        protection: VM_PROT_ bits: read 1, write 2, execute 4.
        flags: ``eflags``.
        object: address of the VM object, 0 for none yet.
        offset: in that, in bytes.
    """

    start: int
    end: int
    protection: int
    flags: int
    object: int
    offset: int


class UserPageMap(PageMap):
    """Translates addresses of a process.

    Attributes:
        tables: the process's page tables, None if there is no way to them.
        entries: of its map, by rising addresses.
        end: the first address behind all that can be mapped.
    """

    name = "page tables and objects of a process"

    def __init__(
        self,
        physical: PhysicalMemory,
        tables: TablePageMap | None,
        entries: Iterable[UserEntry],
        objects: VmObjects,
        end: int = 0,
    ) -> None:
        """Take what leads to pages.

        Args:
            physical: physical memory.
            tables: the process's page tables, None if there is no way to them.
            entries: of its map, by rising addresses.
            objects: reads those that the entries show.
            end: the first address behind all that the page tables can map.
        """
        super().__init__()
        self.page_size = physical.page_size
        self.tables = tables
        self.entries = tuple(entries)
        self._physical = physical
        self._objects = objects
        self._chains: dict[int, Chain] = {}
        self._starts = [entry.start for entry in self.entries]
        self.end = max(end, self.entries[-1].end if self.entries else 0)

    # One page

    def translate(self, va: int) -> tuple[int, int]:
        """The physical address of ``va``, and for how many bytes from there the translation holds.

        Raises:
            NotMappedError, GuardError, SwappedError, NotResidentError: what is with the page.
            NotDumpedError, BeyondEndError: a page table that would tell is missing from the dump.
            AddressError: the kernel's structures that would tell cannot be read.
        """
        lost: AddressError | None = None
        if self.tables is not None:
            try:
                return self.tables.translate(va)
            except NotMappedError:
                pass
            except AddressError as error:
                lost = error
        page = va & -self.page_size
        pa = self._in_objects(page)
        if pa is not None:
            return pa + va - page, page + self.page_size - va
        found = next(self._in_map(page, page + self.page_size))
        if found.pa is not None:
            return found.pa + va - page, page + self.page_size - va
        # What the map knows of a page is true without its page table, too.
        raise lost if lost and found.state in (State.NOT_MAPPED, State.UNKNOWN) else self._error(va, found)

    def _in_objects(self, page: int) -> int | None:
        """The physical address of a page that an object has, without telling why there is none: `_in_map` does."""
        number = bisect_right(self._starts, page) - 1
        entry = self.entries[number] if number >= 0 else None
        if entry is None or page + self.page_size > entry.end or entry.flags & (GUARD | SUB_MAP):
            return None
        index = (entry.offset + page - entry.start) // self.page_size
        pages = self._objects.object_pages
        for item in self.chain(entry.object).objects:
            resident, swapped = pages.resident(item), pages.swapped(item)
            if isinstance(resident, Absent) or isinstance(swapped, Absent):
                return None
            pa = resident.find(index)
            if pa is not None and pa != NOWHERE:
                return pa
            if swapped.find(index) is not None:
                return None
            index += item.backing_offset // self.page_size
        return None

    def _error(self, va: int, found: UserRange) -> AddressError:
        if found.state is State.SWAPPED:
            return SwappedError(va, f"swap block {found.block:#x}")
        if found.state is State.UNTOUCHED:
            return NotResidentError(va, "memory that was never touched, zeros to the process")
        if found.state is State.NOT_RESIDENT:
            return NotResidentError(va, f"a page of kind {found.detail}")
        if found.state is State.GUARD:
            return GuardError(va)
        return NotMappedError(va) if found.state is State.NOT_MAPPED else AddressError(va, found.detail)

    # Ranges

    def ranges(self, start: int, end: int) -> Iterator[UserRange]:
        """Everything in the pages of ``[start, end)``, ascending and without gaps."""
        start, end = start & -self.page_size, -(-end // self.page_size) * self.page_size
        position = start
        for leaf in self.tables.walk(start, end) if self.tables is not None else ():
            if leaf.pa is None or leaf.va < position:
                continue
            if leaf.va > position:
                yield from self._in_map(position, leaf.va)
            yield from self._present(leaf.va, leaf.pa, leaf.length, PAGE_TABLE)
            position = leaf.va + leaf.length
        if position < end:
            yield from self._in_map(position, end)

    def by_objects(self, start: int, end: int) -> Iterator[UserRange]:
        """The same as if there were no page tables, so that `UserRange.source` tells which object has a page."""
        return self._in_map(start & -self.page_size, -(-end // self.page_size) * self.page_size)

    def chain(self, address: int) -> Chain:
        """The object at an address and those that it shadows."""
        if address not in self._chains:
            self._chains[address] = self._objects.chain(address)
        return self._chains[address]

    def _present(self, va: int, pa: int, length: int, source: str) -> Iterator[UserRange]:
        for part in presence(self._physical, pa, length):
            yield UserRange(va + part.pa - pa, part.length, _STATES[part.absence], source, part.pa)

    def translations(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.translations`."""
        leaves = (
            Leaf(found.address, found.pa, found.length, Protection.UNKNOWN)
            for found in self.ranges(start, min(end, self.end))
            if found.pa is not None
        )
        return join(clip(leaves, start, end))

    def walk(self, start: int = 0, end: int = 1 << 64) -> Iterator[Leaf]:
        """See `PageMap.walk`; protections are not told."""
        return self.translations(start, end)

    # By the map

    def _in_map(self, start: int, end: int) -> Iterator[UserRange]:
        """What the map says of ``[start, end)``."""
        position = start
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self.entries)):
            entry = self.entries[index]
            if entry.start >= end:
                break
            low, high = max(entry.start, position), min(entry.end, end)
            if low >= high:
                continue
            if low > position:
                yield UserRange(position, low - position, State.NOT_MAPPED)
            yield from self._in_entry(entry, low, high)
            position = high
        if position < end:
            yield UserRange(position, end - position, State.NOT_MAPPED)

    def _in_entry(self, entry: UserEntry, start: int, end: int) -> Iterator[UserRange]:
        if entry.flags & GUARD:
            yield UserRange(start, end - start, State.GUARD)
        elif entry.flags & SUB_MAP:
            yield UserRange(start, end - start, State.UNKNOWN, detail="a submap")
        elif not entry.object:
            yield UserRange(start, end - start, State.UNTOUCHED)
        else:
            yield from self._in_object(entry, start, end)

    def _in_object(self, entry: UserEntry, start: int, end: int) -> Iterator[UserRange]:
        size = self.page_size
        first = (entry.offset + start - entry.start) // size
        found, (state, detail) = self._search(entry.object, first, -(-(end - start) // size))
        position = start
        for page in _runs(found, start, size):
            if page.address > position:
                yield UserRange(position, page.address - position, state, detail=detail)
            position = page.address + page.length
            if page.pa is None:
                yield page
            else:
                yield from self._present(page.address, page.pa, page.length, page.source)
        if position < end:
            yield UserRange(position, end - position, state, detail=detail)

    def _search(self, address: int, first: int, count: int) -> tuple[list[_Page], _Rest]:
        """What is known of ``count`` pages of an object: those found, by rising indexes, and what is with the others.

        What an object has hides the same page of those that it shadows, also if it is on a swap device.
        """
        chain = self.chain(address)
        found: dict[int, _Page] = {}
        pages = self._objects.object_pages
        at = first
        for depth, item in enumerate(chain.objects):
            resident = pages.resident(item)
            swapped = pages.swapped(item)
            if isinstance(resident, Absent) or isinstance(swapped, Absent):
                what = "pages" if isinstance(resident, Absent) else "swap blocks"
                return _sorted(found), (State.UNKNOWN, f"the {what} of its object {item.address:#x} cannot be listed")
            for index, pa in resident.within(at, at + count):
                if pa != NOWHERE:
                    found.setdefault(index - at, _Page(index - at, depth, pa, None))
            for index, block in swapped.within(at, at + count):
                found.setdefault(index - at, _Page(index - at, depth, None, block))
            # The same page has a higher index in the object below.
            at += item.backing_offset // self.page_size
        doubts = chain.notes + self._objects.notes(chain)
        if doubts:
            return _sorted(found), (State.UNKNOWN, doubts[0])
        kind = chain.objects[-1].kind
        return _sorted(found), (State.NOT_RESIDENT, kind) if kind in _FILES else (State.UNTOUCHED, "")


class _Page(NamedTuple):
    """A page of an object or of one that it shadows."""

    number: int
    depth: int
    pa: int | None
    block: int | None


_Rest = tuple[State, str]


def _sorted(found: dict[int, _Page]) -> list[_Page]:
    return sorted(found.values())


def _runs(pages: Iterable[_Page], start: int, size: int) -> Iterator[UserRange]:
    """Pages as ranges, those together that continue each other; page 0 is at ``start``."""
    run: UserRange | None = None
    for number, depth, pa, block in pages:
        source = f"shadow {depth}" if depth else "object"
        state = State.SWAPPED if pa is None else State.PRESENT
        page = UserRange(start + number * size, size, state, source, pa, block)
        if run is not None and _continues(run, page, size):
            run = run._replace(length=run.length + size)
            continue
        if run is not None:
            yield run
        run = page
    if run is not None:
        yield run


def _continues(run: UserRange, page: UserRange, size: int) -> bool:
    if page.address != run.address + run.length or (page.state, page.source) != (run.state, run.source):
        return False
    if run.pa is not None:
        return page.pa == run.pa + run.length
    return run.block is not None and page.block == run.block + run.length // size
