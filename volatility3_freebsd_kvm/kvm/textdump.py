"""Text dumps: a tar archive of what the debugger, the message buffer and the kernel had to say, and no memory.

On the device its blocks stand in reverse order.

# Reference: sys/ddb/db_textdump.c (textdump_dumpsys, textdump_mkustar), sbin/savecore/savecore.c (DoTextdumpFile)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .kerneldump import printable
from .reader import Reader, Sliceable

FILES = ("ddb.txt", "config.txt", "msgbuf.txt", "panic.txt", "version.txt")
"""What the kernel puts in."""
BLOCK = 512
MAX_FILE = 64 << 20
"""Bytes of one file that are read at most."""
_MAGIC_AT, _MAGIC = 257, b"ustar"
_MAX_FILES = 1000


@dataclass(frozen=True)
class TextDump:
    """An open text dump.

    Attributes:
        reader: the archive.
        files: ``(offset, size)`` of each file in it, by name, in the order of the archive.
        notes: why it ends before it should, if it does.
    """

    reader: Reader
    files: dict[str, tuple[int, int]]
    notes: list[str] = field(default_factory=list)

    def read(self, name: str) -> bytes:
        """A file's content, of `MAX_FILE` bytes at most; shorter if the dump is cut off.

        Raises:
            KeyError: there is none of that name.
        """
        offset, size = self.files[name]
        return self.reader.buffer[offset : offset + min(size, MAX_FILE)]

    def close(self) -> None:
        """Close the file."""
        self.reader.close()


def is_archive(start: bytes) -> bool:
    """Whether a file that begins with ``start`` is a text dump as savecore saves it."""
    return start[_MAGIC_AT:].startswith(_MAGIC) and start.split(b"\0")[0].decode("ascii", "replace") in FILES


def parse(reader: Reader) -> TextDump:
    """List the files of an archive."""
    dump = TextDump(reader, {})
    for name, offset, size in _walk(dump):
        dump.files.setdefault(name, (offset, size))
    return dump


def _walk(dump: TextDump) -> Iterator[tuple[str, int, int]]:
    """``(name, offset, size)`` of each file; ends, with a note, where there is no header any more."""
    at = 0
    for _ in range(_MAX_FILES):
        header = dump.reader.buffer[at : at + BLOCK]
        # The kernel writes no blocks to end the archive.
        if not header.strip(b"\0"):
            return
        size = _octal(header[124:136])
        if len(header) < BLOCK or header[_MAGIC_AT : _MAGIC_AT + 5] != _MAGIC or size is None:
            dump.notes.append(f"the archive is damaged at byte {at}; what follows is left out")
            return
        yield printable(header[:100]), at + BLOCK, size
        if at + BLOCK + size > dump.reader.size:
            dump.notes.append(f"the archive is cut off within {printable(header[:100])}")
            return
        at += BLOCK + -(-size // BLOCK) * BLOCK


def _octal(text: bytes) -> int | None:
    try:
        size = int(text.split(b"\0")[0], 8)
    except ValueError:
        return None
    return size if size >= 0 else None


class ReversedReader:
    """A part of a device whose blocks are read from its end to its beginning."""

    def __init__(self, reader: Reader, offset: int, length: int) -> None:
        """``length`` bytes from ``offset``, whole blocks, as the kernel wrote them backwards."""
        self._buffer, self._reader = reader.buffer, reader
        self.size = length // BLOCK * BLOCK
        self._end = offset + self.size
        self.name = reader.name
        self.path: Path | None = reader.path
        self.buffer: Sliceable = self

    def __getitem__(self, index: slice, /) -> bytes:
        """Read ``[start:stop]`` of the archive."""
        start, stop = index.start, min(index.stop, self.size)
        if start >= stop:
            return b""
        first, last = start // BLOCK, -(-stop // BLOCK)
        data = self._buffer[self._end - last * BLOCK : self._end - first * BLOCK]
        blocks = [data[at : at + BLOCK] for at in range(len(data) - BLOCK, -1, -BLOCK)]
        return b"".join(blocks)[start - first * BLOCK : stop - first * BLOCK]

    def close(self) -> None:
        """Close the device."""
        self._reader.close()
