"""What of a process's memory goes into files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .records import Absent
from .user import UserMemories, UserMemory, missing_text
from .user_pages import State
from .vm import MapEntry

PIECE = 1 << 20


@dataclass(frozen=True)
class Section:
    """The memory of a map entry, to be saved.

    Attributes:
        name: of the file.
        size: of the memory in bytes; 0 if there is nothing to save.
        notes: what is missing of it, or why there is nothing.
    """

    name: str = ""
    size: int = 0
    notes: tuple[str, ...] = ()
    memory: UserMemory | None = None
    start: int = 0

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """``(offset, bytes)`` of what can be read, rising, at most 1 MiB each."""
        if self.memory is None or not self.size:
            return
        for address, length in self.memory.readable(self.start, self.start + self.size):
            for at in range(address, address + length, PIECE):
                yield at - self.start, self.memory.read(at, min(PIECE, address + length - at))


class Sections:
    """Finds the memory of map entries, those of one process after those of another."""

    def __init__(self, memories: UserMemories, limit: int) -> None:
        """Sections of more than ``limit`` bytes are left out."""
        self._memories = memories
        self._limit = limit
        self._process: int | None = None
        self._memory: UserMemory | None = None
        self._why = ""

    def of(self, record: MapEntry) -> Section:
        """The memory of an entry of `vm.process_maps`; entries of shared address spaces have none."""
        if isinstance(record.process, Absent) or isinstance(record.start, Absent) or isinstance(record.end, Absent):
            return Section()
        self._take(record.process)
        if self._memory is None:
            return Section(notes=(f"its memory {self._why}",))
        if record.end <= record.start or record.kind in ("guard", "submap"):
            return Section()
        size = record.end - record.start
        counted = self._memory.count(record.start, record.end)
        notes = tuple(filter(None, (missing_text(counted),)))
        if not counted[State.PRESENT]:
            return Section(notes=notes)
        if size > self._limit:
            return Section(notes=(*notes, f"its {size:#x} bytes are more than --maxsize and were not saved"))
        name = f"pid.{record.pid}.{record.start:#x}-{record.end:#x}.dmp"
        return Section(name, size, notes, self._memory, record.start)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is irregular about the memory of the last entry's process."""
        return self._memory.notes if self._memory else ()

    def _take(self, process: int) -> None:
        if process != self._process:
            proc = self._memories.kernel.object("proc", process)
            self._process, self._memory = process, self._memories.of(proc)
            self._why = self._memories.why_none(proc) if self._memory is None else ""
