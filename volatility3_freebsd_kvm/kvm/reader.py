"""Where the bytes of a dump come from: a local file, bytes in memory, or anything that can seek.

The hot paths slice ``Reader.buffer`` directly: for a plain local file that is an ``mmap``, so that a read costs one
slice and no system call.
"""

from __future__ import annotations

import io
import mmap
import os
import threading
import urllib.response
from pathlib import Path
from typing import IO, Protocol


class Sliceable(Protocol):
    """What ``bytes`` and ``mmap`` have in common: ``buffer[a:b]`` gives bytes, fewer of them at the end."""

    def __getitem__(self, index: slice, /) -> bytes:
        """The bytes of a slice with both ends given and step 1."""


class Reader(Protocol):
    """Random access to the bytes of a dump.

    Attributes:
        size: length in bytes.
        name: what to call it in messages.
        path: the local file, if it is one: its neighbours may say more.
        buffer: the bytes by slice; short, never an error, beyond the end.
    """

    size: int
    name: str
    path: Path | None
    buffer: Sliceable

    def close(self) -> None:
        """Release what is held."""


class BytesReader:
    """A dump that is in memory already."""

    def __init__(self, data: bytes, name: str = "bytes") -> None:
        """Wrap ``data``."""
        self.size = len(data)
        self.name = name
        self.path: Path | None = None
        self.buffer: Sliceable = data

    def close(self) -> None:
        """Nothing is held."""


class MmapReader:
    """A plain local file, mapped read only.

    Raises:
        ValueError: the file is empty.
        OSError: it cannot be mapped (a device, or an address space too small for it).
    """

    def __init__(self, file: IO[bytes], name: str, path: Path | None = None) -> None:
        """Map ``file``; the caller may close it afterwards."""
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self._map)
        self.name = name
        self.path = path
        self.buffer: Sliceable = self._map

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()


class StreamReader:
    """Anything with ``seek`` and ``read``; used where a file cannot be mapped."""

    def __init__(self, stream: IO[bytes], name: str, size: int | None = None, path: Path | None = None) -> None:
        """Take over ``stream``; its size is found by seeking to the end unless given."""
        self._stream = stream
        self._lock = threading.Lock()
        self.size = stream.seek(0, os.SEEK_END) if size is None else size
        self.name = name
        self.path = path
        self.buffer: Sliceable = self

    def __getitem__(self, index: slice, /) -> bytes:
        """Read ``[start:stop]``, clipped to the file."""
        stop = min(index.stop, self.size)
        if index.start >= stop:
            return b""
        data = bytearray()
        with self._lock:
            self._stream.seek(index.start)
            # A raw stream may give less than it has.
            while len(data) < stop - index.start:
                piece = self._stream.read(stop - index.start - len(data))
                if not piece:
                    break
                data += piece
        return bytes(data)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class SectionReader:
    """A part of what another reader holds."""

    def __init__(self, reader: Reader, offset: int, length: int) -> None:
        """``length`` bytes from ``offset``, clipped to what there is."""
        self._reader, self._below, self._offset = reader, reader.buffer, offset
        self.size = max(0, min(length, reader.size - offset))
        self.name = reader.name
        self.path = reader.path
        self.buffer: Sliceable = self

    def __getitem__(self, index: slice, /) -> bytes:
        """Read ``[start:stop]``, clipped to the part."""
        start, stop = index.start, min(index.stop, self.size)
        return self._below[start + self._offset : stop + self._offset] if start < stop else b""

    def close(self) -> None:
        """Close the whole."""
        self._reader.close()


class ReaderStream(io.RawIOBase):
    """A reader as a binary file, for libraries that want one."""

    def __init__(self, reader: Reader) -> None:
        """Start at offset 0."""
        super().__init__()
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; never before the beginning."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Up to ``size`` bytes; all that is left if negative or None."""
        end = self._reader.size if size is None or size < 0 else self._position + size
        data = self._reader.buffer[self._position : end]
        self._position += len(data)
        return data


def open_file(path: str | os.PathLike[str]) -> Reader:
    """Open a local file, mapped if the system lets us.

    Raises:
        OSError: the file cannot be opened.
    """
    file = Path(path).open("rb")  # noqa: SIM115 - the reader owns it
    try:
        mapped = MmapReader(file, str(path), Path(path))
    except (OSError, ValueError, OverflowError):
        return StreamReader(file, str(path), path=Path(path))
    file.close()
    return mapped


def map_stream(stream: IO[bytes], name: str, path: Path | None = None) -> MmapReader | None:
    """A mapping of an open stream, if it is a plain file and not, say, a decompressor over one."""
    # urllib hands out even local files in a wrapper.
    if isinstance(stream, urllib.response.addbase):
        stream = stream.fp
    raw = getattr(stream, "raw", None)
    if isinstance(stream, io.BufferedReader) and isinstance(raw, io.FileIO):
        try:
            return MmapReader(stream, name, path)
        except (OSError, ValueError, OverflowError):
            pass
    return None


def open_reader(source: str | os.PathLike[str] | bytes | bytearray | memoryview | Reader) -> Reader:
    """What ``kvm.open`` accepts, as a reader: a path, the bytes themselves, or a reader."""
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesReader(bytes(source))
    if isinstance(source, str | os.PathLike):
        return open_file(source)
    return source
