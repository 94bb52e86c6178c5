"""Memory of processes that code may have been injected into.

What the map and its objects tell is in minidumps, too; the bytes are not.

# Reference: sys/vm/vm_map.h, vm_object.h, sys/kern/imgact_elf.c; ptrace(2), which makes private copies of text pages
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..exceptions import KVMError
from .backing import FILE, Backing, Backings
from .kernel import Kernel
from .machine import page_size
from .path import NO_NAME
from .records import Absent, Problem, attempt
from .user import UserMemories, UserMemory
from .user_dump import Section, Sections
from .user_strings import SV_ILP32
from .vm import ANONYMOUS, MapEntry, process_maps
from .vm_object import Chain

SHOWN = 64
"""Bytes of a range that are shown."""
LOOKED_AT = 1 << 20
"""Bytes of a range that are searched for something else than zeros."""
MAX_NAMED = 4
"""So many pages of a range are named."""
JIT = "may be a JIT compiler's"
DEBUGGER = "may be a debugger's or a text relocation's"
_ANONYMOUS_EXECUTABLE = "anonymous and executable"


@dataclass(frozen=True)
class Suspect:
    """A range of a process's memory that is suspicious.

    Attributes:
        pid, command: the process.
        start, end: the entry of its map.
        protection: ``rwx``.
        kind: of memory: ``swap``, ``vnode``, …
        path: of the file.
        reasons: why it is suspicious.
        address: of the bytes shown: the first private copy of a page of a file, else the first that is not all zeros.
        data: up to `SHOWN` bytes from there.
        bits: word size of the process.
        notes: what else to know.
        entry: of the map.
    """

    pid: int | Absent
    command: str | Absent
    start: int
    end: int
    protection: str
    kind: str | Absent
    path: str | Absent
    reasons: tuple[str, ...]
    address: int | Absent = Absent.UNREADABLE
    data: bytes | Absent = Absent.UNREADABLE
    bits: int = 64
    notes: tuple[str, ...] = ()
    entry: MapEntry | None = field(default=None, compare=False, repr=False)


class Suspects:
    """Looks for them.

    Attributes:
        memories: the memory of processes.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self.memories = UserMemories(kernel)
        self._backings = Backings(kernel)
        self._page_size = page_size(kernel) or 4096
        self._owner: int | Absent | None = None
        self._memory: UserMemory | None = None
        self._why = ""
        self._bits = 8 * kernel.structs.word_size

    def records(self, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Suspect | Problem]:
        """The suspicious ranges of every process, or of those that `chosen` gives, by rising addresses."""
        for record in process_maps(self._kernel, pids, jails):
            if isinstance(record, Problem):
                yield record
            else:
                yield from self._examined(record)

    def section(self, suspect: Suspect, limit: int) -> Section:
        """The memory of a suspicious range, to be saved if it has at most ``limit`` bytes."""
        return Sections(self.memories, limit).of(suspect.entry) if suspect.entry else Section()

    def _examined(self, record: MapEntry) -> Iterator[Suspect]:
        start, end, protection = record.start, record.end, record.protection
        if isinstance(start, Absent) or isinstance(end, Absent) or isinstance(protection, Absent):
            return
        if "x" not in protection or end <= start or record.kind in ("guard", "submap"):
            return
        chain = self._chain(record)
        backing = self._backings.of_chain(chain)
        changed = self._private_pages(record, chain, start, end) if backing.kind == FILE else []
        reasons = tuple(_reasons(record, protection, backing, len(changed)))
        if not reasons:
            return
        address, data, notes = self._bytes(record, changed[:1] or [start], end)
        yield Suspect(
            pid=record.pid,
            command=record.command,
            start=start,
            end=end,
            protection=protection,
            kind=record.kind,
            path=record.path,
            reasons=reasons,
            address=address,
            data=data,
            bits=self._bits,
            notes=(*_remarks(reasons, changed), *notes, *_other_notes(record, reasons, backing)),
            entry=record,
        )

    def _chain(self, record: MapEntry) -> Chain:
        return self._backings.objects.chain(record.object) if isinstance(record.object, int) else Chain(())

    # Private copies of pages of a file

    def _private_pages(self, record: MapEntry, chain: Chain, start: int, end: int) -> list[int]:
        """Addresses of the pages that are in an object above the file's: in memory or on a swap device."""
        if not isinstance(record.offset, int):
            return []
        below = [item.backing_offset for item in chain.objects]
        first = (record.offset - sum(below)) // self._page_size
        count = (end - start) // self._page_size
        found: set[int] = set()
        for item, offset in zip(chain.objects[:-1], below, strict=False):
            for table in (self._backings.objects.object_pages.resident, self._backings.objects.object_pages.swapped):
                pages = table(item)
                if not isinstance(pages, Absent):
                    found.update(index - first for index, _ in pages.within(first, first + count))
            # The same page has a higher index in the object below.
            first += offset // self._page_size
        return [start + number * self._page_size for number in sorted(found)]

    # Bytes

    def _bytes(
        self, record: MapEntry, places: list[int], end: int
    ) -> tuple[int | Absent, bytes | Absent, tuple[str, ...]]:
        """What to show of a range, from one of these addresses on, and why there is nothing."""
        self._take(record)
        if self._memory is None:
            return Absent.UNREADABLE, Absent.UNREADABLE, (f"its memory {self._why}",)
        looked = 0
        for at, page in _readable_pages(self._memory, places[0], end):
            if any(page):
                return at, page[:SHOWN], ()
            looked += len(page)
            if looked >= LOOKED_AT:
                break
        if looked:
            return places[0], bytes(SHOWN), (f"only zeros in the first {looked:#x} bytes that can be read",)
        return Absent.UNREADABLE, Absent.UNREADABLE, (self._memory.missing(places[0], end),)

    def _take(self, record: MapEntry) -> None:
        if record.process == self._owner or isinstance(record.process, Absent):
            return
        proc = self._kernel.object("proc", record.process)
        self._owner = record.process
        flags = attempt(lambda: int(proc.p_sysent.sv_flags))
        narrow = isinstance(flags, int) and flags & SV_ILP32
        self._bits = 32 if narrow else 8 * self._kernel.structs.word_size
        try:
            self._memory = self.memories.of(proc)
            self._why = self.memories.why_none(proc)
        except KVMError as error:
            self._memory, self._why = None, f"cannot be read: {error}"


def _readable_pages(memory: UserMemory, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for address, length in memory.readable(start, end):
        for at in range(address, address + length, memory.page_size):
            yield at, memory.read(at, min(memory.page_size, address + length - at))


def _reasons(record: MapEntry, protection: str, backing: Backing, changed: int) -> Iterator[str]:
    if "w" in protection:
        yield "writable and executable"
    if record.kind in ANONYMOUS:
        yield "executable shared memory" if backing.path else _ANONYMOUS_EXECUTABLE
        if not isinstance(record.flags, Absent) and "grows down" in record.flags:
            yield "executable stack"
    elif record.kind in ("device", "mgtdevice", "sg"):
        yield "executable device memory"
    if changed:
        yield (
            "a page of the file is a private copy"
            if changed == 1
            else f"{changed} pages of the file are private copies"
        )
    if backing.deleted:
        yield "its file is deleted"


def _other_notes(record: MapEntry, reasons: tuple[str, ...], backing: Backing) -> Iterator[str]:
    """What `process_maps` notes and the reasons do not say."""
    for note in record.notes:
        if note not in reasons and not (backing.deleted and note == NO_NAME):
            yield note


def _remarks(reasons: tuple[str, ...], changed: list[int]) -> Iterator[str]:
    if changed:
        more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
        yield f"not as in the file: {', '.join(f'{one:#x}' for one in changed[:MAX_NAMED])}{more}"
        yield DEBUGGER
    if _ANONYMOUS_EXECUTABLE in reasons:
        yield JIT
