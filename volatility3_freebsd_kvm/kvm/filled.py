"""Pages of which a file has only the one byte that they are full of."""

from __future__ import annotations

from pathlib import Path

from .reader import Reader, Sliceable

_ROOM = 56
"""No machine has so many bits of physical address."""


class FilledReader:
    """A file, and behind it, for each of the 256 bytes, more room full of it than there can be memory.

    Saved states of QEMU have only one byte of each page that is full of it.

    Attributes:
        reader: the file.
        is_needed: some of that room is used.
    """

    def __init__(self, reader: Reader) -> None:
        """Put the room behind ``reader``."""
        self.reader = reader
        self.is_needed = False
        self.name = reader.name
        self.path: Path | None = reader.path
        self.size = 257 << _ROOM
        self.buffer: Sliceable = self

    def filled(self, offset: int, pa: int) -> int:
        """Where it is full of the byte at ``offset`` of the file; the place for ``pa``, so that neighbours follow."""
        self.is_needed = True
        return ((self.reader.buffer[offset : offset + 1] or b"\0")[0] + 1 << _ROOM) + pa

    def __getitem__(self, index: slice, /) -> bytes:
        """Read ``[start:stop]``, which lies in the file or in the room for one byte."""
        if index.start < 1 << _ROOM:
            return self.reader.buffer[index.start : index.stop]
        content: bytes = bytes([(index.start >> _ROOM) - 1 & 0xFF])
        return content * max(0, int(index.stop - index.start))

    def close(self) -> None:
        """Close the file."""
        self.reader.close()
