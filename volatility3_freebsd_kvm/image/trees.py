"""Where files of a FreeBSD system lie relative to each other, on disk or in archives; names are posix paths.

# Reference: sys/conf/kern.post.mk, kmod.mk (KODIR, DEBUGDIR), usr.sbin/crashinfo/crashinfo.sh (find_kernel)
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from .archive import KERNEL_NAMES, SUFFIXES, Contents, Unpacker

DEBUG_TREE = "usr/lib/debug"
_MAX_ENTRIES = 4096
_ARCHIVES = ("kernel.txz", "kernel.tar", "kernel.tgz", "kernel-dbg.txz", *(f"kernel.tar{end}" for end in SUFFIXES))
_PACKAGE = re.compile(r"FreeBSD-kernel-[\w.~-]+\.pkg")


class Tree(Protocol):
    """Files by name."""

    def find(self, name: str) -> Path | None:
        """The file of that name, if there is one."""

    def find_all(self, names: Collection[str]) -> dict[str, Path]:
        """The files of these names that are there, with modules, which `find` does not see in archives."""

    def label(self, name: str) -> str:
        """What to call it in messages."""


class Directory:
    """The file system; names are absolute paths without the root."""

    def __init__(self, anchor: str) -> None:
        """Take the root, ``/``, or a drive where there are such."""
        self._root = Path(anchor)

    def find(self, name: str) -> Path | None:
        """See `Tree.find`."""
        path = self._root / name
        return path if path.is_file() else None

    def find_all(self, names: Collection[str]) -> dict[str, Path]:
        """See `Tree.find_all`."""
        found = {name: self.find(name) for name in names}
        return {name: path for name, path in found.items() if path is not None}

    def label(self, name: str) -> str:
        """See `Tree.label`."""
        return str(self._root / name)


class Archives:
    """An archive and those that belong to it; the others are unpacked when something is not in the first."""

    def __init__(self, paths: list[Path], unpacker: Unpacker) -> None:
        """Take the archives, the one that was named first."""
        self._paths = paths
        self._unpacker = unpacker
        self._contents: dict[Path, Contents] = {}

    def _content(self, path: Path) -> Contents:
        if path not in self._contents:
            # If it cannot be unpacked, that is told once and not tried for each name.
            self._contents[path] = Contents({}, ())
            self._contents[path] = self._unpacker.contents(path)
        return self._contents[path]

    def kernels(self) -> list[str]:
        """Names of the kernels in the first archive, the likeliest first.

        Raises:
            FormatError, OSError: it cannot be unpacked.
        """
        names = self._content(self._paths[0]).kernels
        return sorted(names, key=lambda name: (name != "boot/kernel/kernel", _rank(name), name))

    def _archive_of(self, name: str) -> Path | None:
        return next((path for path in self._paths if name in self._content(path).kernels), None)

    def find(self, name: str) -> Path | None:
        """See `Tree.find`; raises as `kernels` does."""
        archive = self._archive_of(name)
        return self._content(archive).kernels[name] if archive else None

    def find_all(self, names: Collection[str]) -> dict[str, Path]:
        """See `Tree.find_all`; raises as `kernels` does."""
        found: dict[str, Path] = {}
        for path in self._paths:
            here = set(names).intersection(self._content(path).modules).difference(found)
            found.update(self._unpacker.members(path, here) if here else {})
        return found

    def label(self, name: str) -> str:
        """See `Tree.label`."""
        return f"{printable(name)} of {self._archive_of(name) or self._paths[0]}"


def printable(text: str) -> str:
    """Text from files for messages: what controls terminals, or is no text, becomes question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def debug_names(kernel: str, link: str | None) -> Iterator[str]:
    """Where the debug information of a kernel or module may be, the likeliest first.

    Args:
        kernel: its name; ``kernel.5`` as well, as somebody may have kept it beside vmcore.5.
        link: the name in its ``.gnu_debuglink``.
    """
    directory, base = posixpath.split(kernel)
    base = _unpacked_name(base)
    stem, number = _split_number(base)
    own = [
        f"{stem}.debug{number}",
        f"{base}.debug",
        f"{stem}.symbols{number}",
        f"{base}.symbols",
        f"{stem}.full{number}",
    ]
    names = dict.fromkeys([*([link] if link else []), *own])
    places = (directory, posixpath.join(directory, ".debug"), debug_directory(directory))
    for place in places:
        for name in names:
            found = posixpath.join(place, name)
            if found != kernel:
                yield found


def debug_directory(directory: str) -> str:
    """The directory for debug information of what is in ``directory``: that of its system, if it is in ``boot``."""
    match = re.fullmatch(r"(.*/)?(boot/[^/]+)", directory)
    prefix, inside = match.groups() if match else ("", directory)
    return posixpath.join(prefix or "", DEBUG_TREE, inside)


def kernel_names(debug: str) -> Iterator[str]:
    """Where the kernel or module may be whose debug information this is."""
    directory, base = posixpath.split(debug)
    stem, number = _split_number(_unpacked_name(base))
    name = re.sub(r"\.(debug|symbols|full)$", "", stem) + number
    match = re.fullmatch(rf"(.*/)?{DEBUG_TREE}/(.+)", directory)
    for place in [directory, *([(match[1] or "") + match[2]] if match else [])]:
        for end in ("", *SUFFIXES):
            if name + end != base:
                yield posixpath.join(place, name + end)


def module_names(directory: str, filename: str, *, debug: bool) -> Iterator[str]:
    """Where a module may be, for a kernel in ``directory``, or its debug information."""
    system = re.sub(r"boot/[^/]+$", "boot", directory) if re.search(r"(^|/)boot/[^/]+$", directory) else None
    places = [directory, *([f"{system}/kernel", f"{system}/modules"] if system else [])]
    for place in dict.fromkeys(places):
        name = posixpath.join(place, filename)
        if debug:
            yield from debug_names(name, None)
        else:
            yield from (name + end for end in ("", *SUFFIXES))


def kernels_in(directory: Path, *, deep: bool) -> Iterator[Path]:
    """Files that are named as kernels, in a directory laid out as /boot/kernel, /boot or a whole system.

    Args:
        directory: the directory.
        deep: look into all its directories, not only those of its ``boot``.
    """
    boot = directory / "boot"
    places = [directory, directory / "kernel", boot / "kernel"]
    places += [*_directories(boot), *(_directories(directory) if deep or directory.name == "boot" else [])]
    debug = directory / DEBUG_TREE / "boot"
    for place in dict.fromkeys([*places, debug / "kernel", *_directories(debug)]):
        yield from (place / name for name in sorted(KERNEL_NAMES, key=_rank) if (place / name).is_file())


def archives_in(directory: Path) -> Iterator[Path]:
    """Distribution sets and packages of kernels."""
    yield from (directory / name for name in _ARCHIVES if (directory / name).is_file())
    yield from sorted(entry for entry in _entries(directory) if _PACKAGE.fullmatch(entry.name))


def partners(archive: Path) -> list[Path]:
    """Archives beside this one that belong to it: kernel-dbg.txz to kernel.txz and the reverse, also of packages."""
    name = archive.name
    pattern = r"(kernel(?:-dbg)?)(.*)" if name.startswith("kernel") else r"(FreeBSD-kernel-[a-z]+(?:-dbg)?)(.*)"
    match = re.fullmatch(pattern, name)
    if match is None:
        return []
    stem = match[1].removesuffix("-dbg") if match[1].endswith("-dbg") else match[1] + "-dbg"
    path = archive.with_name(stem + match[2])
    return [path] if path.is_file() else []


def _rank(name: str) -> int:
    """Place in the order kernel, kernel.gz, kernel.full, kernel.debug."""
    base = posixpath.basename(name)
    order = ("kernel", *(f"kernel{end}" for end in SUFFIXES), "kernel.full", "kernel.debug", "kernel.symbols")
    return order.index(base) if base in order else len(order)


def _entries(directory: Path) -> list[Path]:
    """What is in a directory, the newest first; nothing if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            found = [
                (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
                for entry, _ in zip(entries, range(_MAX_ENTRIES), strict=False)
            ]
    except OSError:
        return []
    return [directory / name for _, name in sorted(found, reverse=True)]


def _directories(directory: Path) -> list[Path]:
    return [entry for entry in _entries(directory) if entry.is_dir()]


def _unpacked_name(base: str) -> str:
    return PurePosixPath(base).stem if base.endswith(SUFFIXES) else base


def _split_number(base: str) -> tuple[str, str]:
    """``("kernel", ".5")`` for ``kernel.5``."""
    match = re.fullmatch(r"(.+?)(\.(?:\d+|last))?", base)
    return (match[1], match[2] or "") if match else (base, "")
