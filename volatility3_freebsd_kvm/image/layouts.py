"""Type layouts of releases: for kernels whose own types are not at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import AddressError
from .fit import banner_at
from .nlist import Names

_NAME = re.compile(r"freebsd-(\d+)(?:\.(\d+))?-([a-z0-9]+)\.json(?:\.xz)?")
_BANNER = re.compile(rb"FreeBSD (\d+)\.(\d+)-[ -~]*")


@dataclass(frozen=True)
class Layout:
    """A file of layouts: types without symbols.

    Attributes:
        path: the file.
        architecture: FreeBSD's name of it.
        major: release, as in 15.
    """

    path: Path
    architecture: str
    major: int

    def __str__(self) -> str:
        return f"FreeBSD {self.major} {self.architecture}"


def release_of(names: Names) -> int | None:
    """The major release of a kernel in memory, by ``osreldate`` or its banner."""
    address = names.value("osreldate")
    if address is not None:
        try:
            number = names.structs.uint(address, 4)
        except AddressError:
            number = 0
        if 500000 <= number < 10_000_000:
            return number // 100_000
    found = _BANNER.match((banner_at(names) or "").encode())
    return int(found[1]) if found else None


def banner_in(text: bytes) -> str:
    """The newest kernel banner in a message buffer, empty if there is none."""
    found = list(_BANNER.finditer(text))
    return found[-1][0].decode() if found else ""


def nearest(directories: Iterable[Path], architecture: str, major: int | None) -> Iterator[Layout]:
    """The layouts for an architecture, those of the nearest release first; the newest first if it is not known."""
    found = []
    for directory in directories:
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match and match[3] == architecture:
                found.append(Layout(path, architecture, int(match[1])))
    yield from sorted(found, key=lambda one: (abs(one.major - major) if major else 0, -one.major))
