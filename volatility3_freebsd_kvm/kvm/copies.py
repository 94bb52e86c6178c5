"""Plain copies of what was packed: sparse files that are mapped like any dump.

A copy in a cache directory serves every later command; one without a key is gone when its reader is closed, or when
the process ends in whatever way. Only their owner may read them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TypeVar, cast

from ..exceptions import MissingPieceError
from .reader import BytesReader, MmapReader, Reader, StreamReader, open_file

PAGE = 4096
"""Zeros of this length, at a multiple of it, become holes."""
RESERVE = 256 << 20
"""Bytes of the disk that stay free."""
KEPT = 64 << 30
"""Bytes of disk that copies may take before those that were not used for longest go."""
_CHECK_STEP = 64 << 20
_STALE = 24 * 3600
_FORGOTTEN = 90 * _STALE
"""Seconds after which what is known of a file without a copy is removed."""
_SAMPLE = 1 << 16
_ZEROS = bytes(PAGE)
_PARTIAL = ".partial-"
_FORMAT = 1
"""Goes up when copies that older versions made must not be used any more."""

T = TypeVar("T")


@dataclass
class Notes:
    """What is known of a copy.

    Attributes:
        size: bytes unpacked.
        packed: bytes that it was unpacked from.
        problem: why it ends before it should, as one sentence; empty if it does not.
        warnings: oddities, one sentence each.
        useless: nothing that this package reads was in it, and no copy is kept.
    """

    size: int = 0
    packed: int = 0
    problem: str = ""
    warnings: list[str] = field(default_factory=list)
    useless: bool = False


def identity(path: Path, reader: Reader) -> str:
    """What stands for the content of a file: its place, size and time of change, and samples of both its ends.

    Raises:
        OSError: the file is gone.
    """
    status = path.stat()
    place = f"{_FORMAT}\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0"
    total = hashlib.sha256(place.encode("utf-8", "surrogateescape"))
    total.update(reader.buffer[0:_SAMPLE])
    total.update(reader.buffer[max(0, reader.size - _SAMPLE) : reader.size])
    return total.hexdigest()


class SparseWriter:
    """Writes a file from front to back; whole pages of zeros become holes.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, file: IO[bytes], directory: Path, name: str) -> None:
        """Write to ``file``, which lies in ``directory``; ``name`` is what is unpacked, for messages."""
        self._file, self._directory, self._name = file, directory, name
        self._since_check = _CHECK_STEP
        self._rest = b""
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            MissingPieceError: the disk is full.
        """
        self.size += len(data)
        if self._rest:
            data = self._rest + data
        whole = len(data) // PAGE * PAGE
        self._rest = data[whole:]
        start = 0
        for at in range(0, whole, PAGE):
            if data[at : at + PAGE] == _ZEROS:
                self._put(data[start:at])
                self._file.seek(PAGE, os.SEEK_CUR)
                start = at + PAGE
        self._put(data[start:whole])

    def _put(self, data: bytes) -> None:
        if not data:
            return
        self._since_check += len(data)
        if self._since_check >= _CHECK_STEP:
            self._since_check = 0
            if shutil.disk_usage(self._directory).free < RESERVE + _CHECK_STEP:
                msg = (
                    f"{self._name} does not fit unpacked into {self._directory}: {self.size} bytes are done, and the "
                    "disk is nearly full"
                )
                raise MissingPieceError(msg)
        self._file.write(data)

    def peek(self, look: Callable[[Reader], T]) -> T:
        """What ``look`` makes of what is written so far."""
        self.finish()
        result = look(StreamReader(self._file, self._name, self.size))
        self._file.seek(self.size - len(self._rest))
        return result

    def finish(self) -> None:
        """Write what is left, and give the file its size, which a hole at its end does not."""
        position = self.size - len(self._rest)
        self._file.seek(position)
        self._file.write(self._rest)
        self._file.flush()
        self._file.truncate(self.size)


class Copies:
    """The copies in a directory; without one, or without a key, a copy is not kept."""

    def __init__(self, directory: Path | None) -> None:
        """``directory`` need not exist yet."""
        self._directory = directory / "dumps" if directory else None

    def get(self, key: str | None, name: str, fill: Callable[[SparseWriter], Notes]) -> tuple[Reader | None, Notes]:
        """A copy as a reader, with its notes; no reader if it is known to be of no use.

        Args:
            key: stands for the content, in characters that file names may have; None: the copy is not kept.
            name: what is copied, for messages.
            fill: writes the copy if there is none yet.

        Raises:
            MissingPieceError: the disk is full.
            FormatError, OSError: from ``fill``, and of the directory.
        """
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._directory is None or key is None:
            return self._temporary(name, fill)
        return _find(self._directory, key, name) or _keep(self._directory, key, name, fill)

    def drop(self, key: str | None, notes: Notes) -> None:
        """Remove a copy, and remember that it was of no use."""
        if self._directory is not None and key is not None:
            notes.useless = True
            with contextlib.suppress(OSError):
                _put_notes(self._directory, key, notes)
                (self._directory / key).unlink(missing_ok=True)

    def _temporary(self, name: str, fill: Callable[[SparseWriter], Notes]) -> tuple[Reader, Notes]:
        directory = self._directory or Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=directory, prefix=_PARTIAL) as unnamed:
            file = cast("IO[bytes]", unnamed)
            writer = SparseWriter(file, directory, name)
            notes = fill(writer)
            writer.finish()
            return MmapReader(file, name) if notes.size else BytesReader(b"", name), notes


def _find(directory: Path, key: str, name: str) -> tuple[Reader | None, Notes] | None:
    """A copy that is there already; None if there is none, or only a part of one."""
    try:
        notes = Notes(**json.loads((directory / f"{key}.json").read_bytes()))
        if not _is_sound(notes):
            return None
        if notes.useless:
            return None, notes
        reader = _open(directory / key, name)
        if reader.size != notes.size:
            reader.close()
            return None
        os.utime(directory / key)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return reader, notes


def _is_sound(notes: Notes) -> bool:
    """Whether what was read from a file has the types that it should."""
    texts = [notes.problem, *notes.warnings] if isinstance(notes.warnings, list) else [None]
    return isinstance(notes.size, int) and isinstance(notes.packed, int) and all(isinstance(one, str) for one in texts)


def _keep(directory: Path, key: str, name: str, fill: Callable[[SparseWriter], Notes]) -> tuple[Reader, Notes]:
    """Make a copy under its key; another process that does the same at the same time does no harm."""
    _prune(directory)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=_PARTIAL, delete=False) as file:
        partial = Path(file.name)
        try:
            writer = SparseWriter(cast("IO[bytes]", file), directory, name)
            notes = fill(writer)
            writer.finish()
        except BaseException:
            file.close()
            partial.unlink(missing_ok=True)
            raise
    # The notes come last: a copy without them does not count.
    try:
        partial.replace(directory / key)
        _put_notes(directory, key, notes)
    except OSError:
        # Windows does not replace what another process, which has made the same copy meanwhile, has mapped.
        partial.unlink(missing_ok=True)
        found, its_notes = _find(directory, key, name) or (None, notes)
        if found is None:
            raise
        return found, its_notes
    return _open(directory / key, name), notes


def _put_notes(directory: Path, key: str, notes: Notes) -> None:
    handle, name = tempfile.mkstemp(dir=directory, prefix=_PARTIAL)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(notes), file)
    Path(name).replace(directory / f"{key}.json")


def _open(path: Path, name: str) -> Reader:
    """A copy, under the name of what it is a copy of."""
    reader = open_file(path)
    reader.name = name
    return reader


def _prune(directory: Path) -> None:
    """Remove what interrupted runs left, old notes, and copies beyond `KEPT`: those not used for longest first."""
    room, now = KEPT, time.time()
    files = []
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            files.append((path.stat().st_mtime, path))
    for used, path in sorted(files, reverse=True):
        with contextlib.suppress(OSError):
            if path.name.startswith(_PARTIAL):
                if now - used > _STALE:
                    path.unlink()
            elif path.suffix == ".json":
                if now - used > _FORGOTTEN and not path.with_suffix("").exists():
                    path.unlink()
            else:
                room -= _allocated(path)
                if room < 0:
                    path.unlink()


def _allocated(path: Path) -> int:
    """Bytes of disk that a file takes; its size where the system does not tell."""
    status = path.stat()
    return getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
