"""Tables that were made once, kept by the content they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PIECE = 1 << 20
FORMAT = 1
"""Goes up when tables made by older versions must not be used any more."""


class Store:
    """A directory of tables."""

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

    def put(self, key: str, content: Mapping[str, Any]) -> Path:
        """Keep a table; another process that does the same at the same time does no harm.

        Raises:
            OSError: the directory cannot be written.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.directory, suffix=".partial")
        partial = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(json.dumps(content, separators=(",", ":")))
            partial.replace(self.path(key))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return self.path(key)
