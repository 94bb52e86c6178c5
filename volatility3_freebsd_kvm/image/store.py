"""Tables that were made once, kept by the content they were made from."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_PIECE = 1 << 20
FORMAT = 1
"""Goes up when tables made by older versions must not be used any more."""


class Store:
    """A directory of tables.

    One that cannot be written does not end the work: then tables are kept as long as the process runs.
    """

    def __init__(self, directory: Path) -> None:
        """The directory is made when something is kept."""
        self.directory = directory

    def key(self, parts: Iterable[Path | bytes | str]) -> str:
        """The key of a table that is made from these: files count by their content.

        Raises:
            OSError: a file cannot be read.
        """
        total = hashlib.sha256(f"{FORMAT}\0".encode())
        for part in parts:
            one = hashlib.sha256()
            if isinstance(part, Path):
                with part.open("rb") as stream:
                    while piece := stream.read(_PIECE):
                        one.update(piece)
            else:
                one.update(part.encode() if isinstance(part, str) else part)
            total.update(one.digest())
        return total.hexdigest()

    def path(self, key: str) -> Path:
        """Where the table of that key is, if it is there."""
        return self.directory / f"{key}.json"

    def find(self, key: str) -> Path | None:
        """The table of that key; None if it is not there, or cut off as after a power failure."""
        path = self.path(key)
        try:
            with path.open("rb") as stream:
                stream.seek(-1, os.SEEK_END)
                return path if stream.read() == b"}" else None
        except OSError:
            return None

    def put(self, key: str, content: Mapping[str, Any]) -> Path:
        """Keep a table; another process that does the same at the same time does no harm.

        Raises:
            OSError: not even the system's temporary directory can be written.
        """
        text = json.dumps(content, separators=(",", ":"))
        try:
            return _write(self.path(key), text)
        except OSError as error:
            _warn(self.directory, error.strerror or str(error))
            return _write(_temporary_directory() / f"{key}.json", text)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


@cache
def _temporary_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="freebsd-kvm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@cache
def _warn(directory: Path, reason: str) -> None:
    _log.warning("%s cannot be written (%s): the next run has to make the symbol tables anew", directory, reason)
