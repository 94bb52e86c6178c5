"""ELF images in the memory of processes: executables, the run-time linker, libraries, and what hides among data.

# Reference: sys/kern/imgact_elf.c, libexec/rtld-elf/map_object.c, sys/sys/elf_common.h
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..exceptions import AddressError, FormatError
from .backing import FILE, Backing, Backings
from .elf_header import MACHINES, MAGIC, TYPES, ElfHeader, ElfNotes, read_header, read_notes
from .kernel import Kernel
from .records import Absent, Problem
from .user import UserMemories, UserMemory
from .user_pages import GUARD, SUB_MAP, State, UserEntry
from .user_walk import UserProcess, user_processes

EXECUTE = 4
MAX_IMAGES = 4096
"""So many images of one process are shown."""
MAX_COUNTED = 1 << 30
"""Of images that claim more bytes, pages are not counted: they lie."""
_PIECE = 1 << 20
_LOST = (State.NOT_DUMPED, State.BEYOND_END, State.SWAPPED, State.NOT_RESIDENT, State.NOT_MAPPED, State.UNKNOWN)
"""States of pages that the process has, or should have, and the dump has not; the rest are zeros or guards."""
_ARCHITECTURES = {"arm64": "aarch64"}
_COMPATIBLE = {"amd64": ("i386",), "aarch64": ("arm",), "powerpc64": ("powerpc",)}
NO_HEADER = "its ELF header is not in memory"


@dataclass(frozen=True)
class Image:
    """An ELF image in the memory of a process.

    Attributes:
        pid, command: the process.
        start, end: from its header to the end of its last segment.
        type: ``EXEC``, ``DYN``, …
        bits: 32 or 64.
        machine: the architecture: ``amd64``, ``aarch64``, …
        segments: protections of the segments that are mapped, as the image wants them: ``r-x``.
        build_id: in hexadecimal.
        osreldate: the FreeBSD release that it was built for.
        path: of its file.
        missing: what of its segments is not in memory.
        notes: what is odd.
        executable: whether some of it is mapped executable.
        vnode: address of the file's vnode, 0 for none.
        header: its headers, None if they cannot be read.
        memory: the process's memory.
    """

    pid: int | Absent
    command: str | Absent
    start: int
    end: int
    type: str | Absent = Absent.UNREADABLE
    bits: int | Absent = Absent.UNREADABLE
    machine: str | Absent = Absent.UNREADABLE
    segments: tuple[str, ...] | Absent = Absent.UNREADABLE
    build_id: str | Absent = Absent.UNREADABLE
    osreldate: int | Absent = Absent.UNREADABLE
    path: str | Absent = Absent.NOT_APPLICABLE
    missing: str = ""
    notes: tuple[str, ...] = ()
    executable: bool = False
    vnode: int = 0
    header: ElfHeader | None = None
    memory: UserMemory | None = field(default=None, compare=False, repr=False)


def image_records(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Image | Problem]:
    """The ELF images of every process, or of those that `chosen` gives, by rising addresses."""
    finder = Images(kernel)
    for process in user_processes(UserMemories(kernel), pids, jails):
        if isinstance(process, Problem):
            yield process
        else:
            yield from finder.of(process)


class Images:
    """Finds the ELF images of one process after the other."""

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self.backings = Backings(kernel)
        self._machine = _ARCHITECTURES.get(kernel.architecture, kernel.architecture)

    def of(self, process: UserProcess) -> Iterator[Image | Problem]:
        """The images of a process.

        An image begins where a mapping does; in anonymous memory, where none should be, any page may begin one.
        """
        covered: dict[int, int] = {}
        count = 0
        for entry, backing, start in self._starts(process.memory):
            if start < covered.get(backing.object, 0):
                # Pages of a file may be mapped twice: the last of the text is also the first of the data.
                continue
            count += 1
            if count > MAX_IMAGES:
                yield Problem(
                    f"images of process {process.pid}", f"there are more than {MAX_IMAGES}, which are left out"
                )
                return
            image = self._image(process, entry, backing, start)
            if image.header and not backing.is_anonymous:
                covered[backing.object] = image.end
            yield image

    def _starts(self, memory: UserMemory) -> Iterator[tuple[UserEntry, Backing, int]]:
        """Where images may begin."""
        running = {self.backings.of(memory, one).vnode for one in memory.entries if one.protection & EXECUTE} - {0}
        for entry in memory.entries:
            if entry.flags & (GUARD | SUB_MAP) or entry.end <= entry.start:
                continue
            backing = self.backings.of(memory, entry)
            if backing.is_anonymous:
                yield from ((entry, backing, start) for start in _page_starts(memory, entry))
            elif _begins(memory, entry.start, lost=backing.vnode in running and not backing.offset):
                yield entry, backing, entry.start

    def _image(self, process: UserProcess, entry: UserEntry, backing: Backing, start: int) -> Image:
        memory = process.memory
        record = Image(process.pid, process.command, start, entry.end, vnode=backing.vnode, memory=memory)
        record = replace(record, path=backing.path or Absent.NOT_APPLICABLE)
        notes = [*_remarks(backing)]
        try:
            header = read_header(memory.read, start, memory.page_size, memory.end)
        except AddressError as error:
            return replace(record, notes=(f"{NO_HEADER}: {error}", *notes))
        except FormatError as error:
            return _without_header(record, (f"not a valid ELF header: {error}", *notes))
        mapped = [one for one in header.loads if self._is_mapped(memory, header, one.vaddr)]
        executable = self._is_executable(memory, header, backing)
        notes += [*header.notes, *self._header_remarks(header), *_mapping_remarks(header, len(mapped), executable)]
        if executable and backing.is_anonymous:
            notes.insert(0, "suspicious: no file of its own")
        found = _notes_of(memory, header)
        return replace(
            record,
            end=min(header.end, memory.end),
            type=TYPES.get(header.type, f"type {header.type}"),
            bits=header.bits,
            machine=MACHINES.get(header.machine, f"machine {header.machine}"),
            segments=tuple(one.protection for one in mapped),
            build_id=found if isinstance(found, Absent) else found.build_id or Absent.NOT_APPLICABLE,
            osreldate=found if isinstance(found, Absent) else found.osreldate or Absent.NOT_APPLICABLE,
            missing=_missing(memory, header) if mapped else "",
            notes=tuple(notes),
            executable=executable,
            header=header,
        )

    def _is_mapped(self, memory: UserMemory, header: ElfHeader, vaddr: int) -> bool:
        entry = memory.entry_at(header.address(vaddr))
        return entry is not None and not entry.flags & GUARD

    def _is_executable(self, memory: UserMemory, header: ElfHeader, backing: Backing) -> bool:
        """Whether some of it may be executed: of the same file, or for images in anonymous memory, of any such."""
        for entry in memory.entries_in(header.start, header.end):
            if entry.protection & EXECUTE:
                other = self.backings.of(memory, entry)
                if other.vnode == backing.vnode and other.is_anonymous == backing.is_anonymous:
                    return True
        return False

    def _header_remarks(self, header: ElfHeader) -> Iterator[str]:
        machine = MACHINES.get(header.machine, f"machine {header.machine}")
        if self._machine and machine not in (self._machine, *_COMPATIBLE.get(self._machine, ())):
            yield f"it is for {machine}, which this machine is not"
        if header.type not in TYPES:
            yield f"its type {header.type} is unknown"
        if TYPES.get(header.type) == "EXEC" and header.bias:
            yield f"it is linked for {(header.start - header.bias) % (1 << header.bits):#x}"


def _without_header(record: Image, notes: tuple[str, ...]) -> Image:
    """The record of what is no ELF image after all."""
    nothing = Absent.NOT_APPLICABLE
    return replace(
        record,
        type=nothing,
        bits=nothing,
        machine=nothing,
        segments=nothing,
        build_id=nothing,
        osreldate=nothing,
        notes=notes,
    )


def _page_starts(memory: UserMemory, entry: UserEntry) -> Iterator[int]:
    """The pages of an entry that begin as ELF files do."""
    for address, length in memory.readable(entry.start, entry.end):
        for at in range(address, address + length, _PIECE):
            data = memory.read(at, min(_PIECE, address + length - at))
            if MAGIC in data:
                yield from (
                    at + place for place in range(0, len(data), memory.page_size) if data.startswith(MAGIC, place)
                )


def _begins(memory: UserMemory, address: int, *, lost: bool) -> bool:
    """Whether an ELF file begins there; ``lost``: what to say if that cannot be read."""
    try:
        return memory.read(address, len(MAGIC)) == MAGIC
    except AddressError:
        return lost


def _remarks(backing: Backing) -> Iterator[str]:
    if backing.is_anonymous:
        yield "in shared memory" if backing.path else "in anonymous memory"
    elif backing.kind != FILE:
        yield f"in memory of kind {backing.kind}"
    if backing.deleted:
        yield "its file is deleted"
    yield from backing.notes


def _mapping_remarks(header: ElfHeader, mapped: int, executable: bool) -> Iterator[str]:
    if not executable:
        yield "not executable: there as data"
    elif mapped < len(header.loads):
        yield f"{len(header.loads) - mapped} of its {len(header.loads)} segments are not mapped"


def _notes_of(memory: UserMemory, header: ElfHeader) -> ElfNotes | Absent:
    try:
        return read_notes(memory.read, header)
    except AddressError:
        return Absent.UNREADABLE


def _missing(memory: UserMemory, header: ElfHeader) -> str:
    """What of the segments, as far as they are in the file, is not in memory."""
    size = sum(one.filesz for one in header.loads)
    if size > MAX_COUNTED:
        return f"not counted: its segments claim {size:#x} bytes of the file"
    counted: Counter[State] = Counter()
    for one in header.loads:
        low = header.address(one.vaddr) & -memory.page_size
        if one.filesz:
            counted.update(memory.count(low, header.address(one.vaddr) + one.filesz))
    total = sum(counted.values())
    why = [f"{counted[state]} {state.value}" for state in _LOST if counted[state]]
    lost = sum(counted[state] for state in _LOST)
    return f"{lost} of {total} pages: {', '.join(why)}" if lost else ""
