"""ELF images as files again: segments from memory go to where they were in the file.

# Reference: libexec/rtld-elf/map_object.c
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .elf_header import ElfHeader, Segment
from .elfs import Image
from .user import UserMemory

MAX_SIZE = 1 << 30
_PIECE = 1 << 20


@dataclass(frozen=True)
class ElfFile:
    """An image as a file.

    Attributes:
        name: of the file.
        size: in bytes; 0 if there is nothing to save.
        notes: what is not as it was in the file.
    """

    name: str = ""
    size: int = 0
    notes: tuple[str, ...] = ()
    header: ElfHeader | None = None
    memory: UserMemory | None = None

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """``(offset, bytes)``, rising, at most 1 MiB each; what is between them is not in memory."""
        header, memory = self.header, self.memory
        if header is None or memory is None or not self.size:
            return
        data = memory.read_padded(header.start, header.length)
        yield 0, data if self._has_sections else header.without_sections(data)
        position = header.length
        for segment in sorted(header.loads, key=lambda one: one.offset):
            end = segment.offset + segment.filesz
            yield from _pieces(memory, header, segment, max(position, segment.offset), end)
            position = max(position, end)

    @property
    def _has_sections(self) -> bool:
        return self.header is not None and _sections_are_there(self.header)


def elf_file(image: Image, limit: int = MAX_SIZE) -> ElfFile:
    """The file of an image, if it is not larger than ``limit`` bytes."""
    header, memory = image.header, image.memory
    if header is None or memory is None:
        return ElfFile()
    size = max([one.offset + one.filesz for one in header.loads] + [header.length])
    if size > limit:
        return ElfFile(notes=(f"its {size:#x} bytes are more than --maxsize and were not saved",))
    notes = () if _sections_are_there(header) else ("its section headers are not in memory and were taken out",)
    return ElfFile(f"pid.{image.pid}.{header.start:#x}.elf", size, notes, header, memory)


def _sections_are_there(header: ElfHeader) -> bool:
    """Whether the table of sections is in a segment, or there is none."""
    offset, size, count = header.sections
    end = offset + size * count
    return not offset or any(one.offset <= offset and end <= one.offset + one.filesz for one in header.loads)


def _pieces(
    memory: UserMemory, header: ElfHeader, segment: Segment, start: int, end: int
) -> Iterator[tuple[int, bytes]]:
    """What can be read of a segment between two offsets of the file."""
    low = header.address(segment.vaddr) - segment.offset
    for address, length in memory.readable(low + start, low + end) if start < end else ():
        for at in range(address, address + length, _PIECE):
            yield at - low, memory.read(at, min(_PIECE, address + length - at))
