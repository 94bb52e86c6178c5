"""The memory of processes, where the dump has it.

Minidumps have no user pages; full dumps and images of physical memory have those that were in memory.

# Reference: sys/vm/vm_map.h (struct vmspace), vm_fault.c
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from ..exceptions import KVMError
from ..kvm.space import AddressSpace
from ..kvm.userspace import USER_BITS, USER_TABLES, WITH_KERNEL, UserRoot
from .kernel import Kernel
from .objects import Object
from .path import Paths
from .process_flags import P_KPROC, has_flag, is_zombie
from .records import attempt
from .user_pages import State, UserEntry, UserPageMap, UserRange
from .vm_map import Map
from .vm_object import Chain, VmObjects
from .vm_pmap import user_root

_TOLD = 8
"""Bad entries that are told one by one."""
NO_USER_PAGES = "is not dumped: minidumps have no user pages"
NO_PHYSICAL = "cannot be read: what was opened has no physical memory"
NO_USER_PART = "does not exist: a kernel process or a zombie has no memory of its own"


class Readable(Protocol):
    """What reads a process's own addresses."""

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a user address; raises `AddressError` where some of them cannot be had."""
        ...


class UserMemory:
    """The memory of a process.

    Attributes:
        proc: its ``struct proc``.
        page_size: in bytes.
        end: the first address behind all that can be mapped.
        root: its top page table; None if there is no way to it: then pages are found by the map alone.
        entries: of its map, by rising addresses.
        notes: what is irregular about the page tables and the map, a clause each.
        space: the same for those who want it page by page (`kvm.AddressSpace`).
    """

    def __init__(
        self, proc: Object, space: AddressSpace, page_map: UserPageMap, root: UserRoot | None, notes: tuple[str, ...]
    ) -> None:
        """Use `UserMemories` or `user_memory`."""
        self.proc = proc
        self.space = space
        self.root = root
        self.notes = notes
        self.entries = page_map.entries
        self.end = page_map.end
        self.page_size = page_map.page_size
        self._page_map = page_map

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a user address.

        Raises:
            NotMappedError, GuardError, SwappedError, NotResidentError, NotDumpedError, BeyondEndError, AddressError:
                with the first address that fails, and why.
        """
        return self.space.read(address, length)

    def read_padded(self, address: int, length: int) -> bytes:
        """The same with zeros for what cannot be had; never raises."""
        data = bytearray(length)
        for at, size in self.readable(address, address + length):
            data[at - address : at - address + size] = self.space.read(at, size)
        return bytes(data)

    def readable(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """``(address, length)`` of the stretches of ``[start, end)`` that can be read, ascending, neighbours joined."""
        low = high = 0
        for found in self.pages(start, end):
            if found.state is State.PRESENT:
                if found.address != high:
                    if low < high:
                        yield low, high - low
                    low = found.address
                high = found.address + found.length
        if low < high:
            yield low, high - low

    def pages(self, start: int = 0, end: int | None = None) -> Iterator[UserRange]:
        """Everything in ``[start, end)``, ascending and without gaps: what there is, or why there is nothing."""
        start, end = max(start, 0), self.end if end is None else min(end, self.end)
        return _clipped(self._page_map.ranges(start, end), start, end) if start < end else iter(())

    def by_objects(self, start: int, end: int) -> Iterator[UserRange]:
        """The same as the VM objects have it, as if there were no page tables.

        So `UserRange.source` tells of every page which object has it: a private copy of a file's page is in ``object``
        while the file's object is ``shadow 1``.
        """
        start, end = max(start, 0), min(end, self.end)
        return _clipped(self._page_map.by_objects(start, end), start, end) if start < end else iter(())

    def entry_at(self, address: int) -> UserEntry | None:
        """The entry of the map that holds an address."""
        return next(self.entries_in(address, address + 1), None)

    def entries_in(self, start: int, end: int) -> Iterator[UserEntry]:
        """The entries of the map that hold some of ``[start, end)``, ascending."""
        at = bisect_right(self.entries, start, key=lambda entry: entry.end)
        return itertools.takewhile(lambda entry: entry.start < end, itertools.islice(self.entries, at, None))

    def chain(self, entry: UserEntry) -> Chain:
        """The object of an entry and those that it shadows; empty if it has none."""
        return self._page_map.chain(entry.object)

    def count(self, start: int, end: int) -> Counter[State]:
        """How many pages of a range, which begins and ends with a page, are in which state."""
        counted: Counter[State] = Counter()
        for found in self._page_map.ranges(start, end):
            counted[found.state] += found.length // self.page_size
        return counted

    def missing(self, start: int, end: int) -> str:
        """What of a range cannot be read: ``4 of 16 pages: 1 swapped out, 3 never touched``; empty if all is there."""
        return missing_text(self.count(start, end))


class UserMemories:
    """Makes `UserMemory` of one process after the other; objects that they share are read once."""

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self.kernel = kernel
        self._objects = VmObjects(kernel, Paths(kernel))

    def why_none(self, proc: Object) -> str:
        """Why there is no memory of a process, to continue ``the user's stack, which …``; empty if there may be."""
        space = self.kernel.space
        if space is None or not space.physical.is_physical:
            return NO_PHYSICAL
        if not space.physical.has_user_pages:
            return NO_USER_PAGES
        try:
            if is_zombie(proc) or has_flag(proc, P_KPROC) or not proc.p_vmspace:
                return NO_USER_PART
            _ = proc.p_vmspace.vm_map.address_
        except KVMError as error:
            return f"cannot be read: {error}"
        return ""

    def of(self, proc: Object) -> UserMemory | None:
        """The memory of a process; None where this dump and this kernel give no way to it: `why_none` says why."""
        space = self.kernel.space
        if space is None or self.why_none(proc):
            return None
        vmspace = proc.p_vmspace.as_("vmspace")
        try:
            root, why = user_root(self.kernel, space, vmspace.vm_pmap)
        except KVMError as error:
            root, why = None, str(error)
        notes = [f"its page tables cannot be used: {why}"] if why else []
        entries = self._entries(vmspace, notes)
        tables = USER_TABLES[root.kind](space.physical, root.pa) if root else None
        end = _end(root, vmspace) if root else 0
        page_map = UserPageMap(space.physical, tables, entries, self._objects, end)
        return UserMemory(proc, AddressSpace(space.physical, page_map), page_map, root, tuple(notes))

    def _entries(self, vmspace: Object, notes: list[str]) -> list[UserEntry]:
        """The entries of the map, as far as they can be read."""
        found = []
        try:
            walk = Map(self.kernel, vmspace.vm_map)
            for entry in walk:
                try:
                    found.append(_entry(entry))
                except KVMError as error:
                    notes.append(f"the entry {entry.address_:#x} of its map cannot be read: {error}")
            notes += [f"its map: {problem}" for problem in walk.problems]
        except KVMError as error:
            notes.append(f"its map cannot be read: {error}")
        return self._apart(sorted(found), notes)

    def _apart(self, entries: Iterable[UserEntry], notes: list[str]) -> list[UserEntry]:
        """Entries of whole pages that do not overlap, as the kernel has them; others are cut, and told."""
        page = self.kernel.space.page_size if self.kernel.space else 1
        kept: list[UserEntry] = []
        odd, end = 0, 0
        for one in entries:
            low, high = max(-(-one.start // page) * page, end), one.end // page * page
            if (low, high) != (one.start, one.end):
                odd += 1
                if odd <= _TOLD:
                    notes.append(f"its entry {one.start:#x}-{one.end:#x} overlaps another or holds no whole pages")
            if low < high:
                kept.append(one._replace(start=low, end=high, offset=one.offset + low - one.start))
                end = high
        if odd > _TOLD:
            notes.append(f"{odd} of its entries overlap others or hold no whole pages")
        return kept


def user_memory(kernel: Kernel, proc: Object) -> UserMemory | None:
    """The memory of one process; see `UserMemories`, which is for several."""
    return UserMemories(kernel).of(proc)


def _end(root: UserRoot, vmspace: Object) -> int:
    """The first address behind those of the user, where the tables of a 32-bit machine may show the kernel."""
    end = 1 << USER_BITS[root.kind]
    if root.kind not in WITH_KERNEL:
        return end
    # The map's header has the two limits, which of them where depends on the release.
    limit = attempt(lambda: max(int(vmspace.vm_map.header.start), int(vmspace.vm_map.header.end)))
    return limit if isinstance(limit, int) and 0 < limit < end else end


def missing_text(counted: Mapping[State, int]) -> str:
    """What of some pages cannot be read; empty if all is there."""
    total = sum(counted.values())
    missing = total - counted.get(State.PRESENT, 0)
    why = (f"{counted[state]} {state.value}" for state in State if state is not State.PRESENT and counted.get(state))
    return f"{missing} of {total} pages are missing: {', '.join(why)}" if missing else ""


def _clipped(ranges: Iterable[UserRange], start: int, end: int) -> Iterator[UserRange]:
    for found in ranges:
        low, high = max(found.address, start), min(found.address + found.length, end)
        if low < high:
            pa = found.pa + low - found.address if found.pa is not None else None
            yield found._replace(address=low, length=high - low, pa=pa)


def _entry(entry: Object) -> UserEntry:
    flags = int(entry.eflags)
    return UserEntry(
        start=int(entry.start),
        end=int(entry.end),
        protection=int(entry.protection),
        flags=flags,
        object=int(entry.object.vm_object),
        offset=int(entry.offset),
    )
