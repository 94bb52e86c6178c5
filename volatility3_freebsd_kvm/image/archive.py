"""Kernels out of distribution sets, packages and other archives, and compressed kernel files.

Only files that are asked for are written, into a cache directory, under names of our own.

# Reference: release/Makefile (kernel.txz, kernel-dbg.txz), pkg-create(8), stand/libsa/gzipfs.c (loader's kernel.gz)
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import posixpath
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Literal, cast

from ..exceptions import FormatError
from ..kvm.elfcore import ELF_MAGIC

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""Magic numbers."""
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""Names that compressed kernels have; what they are is read from the magic number."""
KERNEL_NAMES = ("kernel", "kernel.full", "kernel.debug", "kernel.symbols", *(f"kernel{end}" for end in SUFFIXES))
_MODULE_SUFFIXES = (".ko", ".ko.debug", ".ko.symbols")
MAX_SIZE = 4 << 30
"""Bytes that are unpacked from one archive in one go, at most."""
_MAX_STREAM = 64 << 30
_MAX_EXTENSION = 1 << 20
_MAX_EMPTY = 16
_MAX_MODULES = 100_000
_RESERVE = 64 << 20
_CHUNK = 1 << 20
_PROGRESS_STEP = 8 << 20
_TAR_MAGIC_AT, _TAR_MAGIC = 257, b"ustar"
_EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_DAMAGE = (
    *(tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, ArithmeticError, MemoryError),
    *(RecursionError, LookupError, TypeError, AttributeError),
)

Progress = Callable[[float, str], None]
Kind = Literal["elf", "archive", "compressed", "other"]


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    Attributes:
        kernels: files named as kernels and their debug information are, unpacked, by their name in the archive.
        modules: names of the modules and of their debug information in the archive.
    """

    kernels: dict[str, Path]
    modules: tuple[str, ...]


class _Member(tarfile.TarInfo):
    """A member whose long name or attributes are not longer than any that is meant well: tarfile reads them whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _EXTENSIONS and member.size > _MAX_EXTENSION:
            msg = f"an extended header of {member.size} bytes"
            raise FormatError(msg)
        return member


class _Unpacked:
    """The unpacked content of a file as a stream: counts what it has read, and tells how far it is."""

    def __init__(self, stream: IO[bytes], raw: IO[bytes], path: Path, progress: Progress | None) -> None:
        self._stream, self._raw, self._progress = stream, raw, progress
        self._label = f"Unpacking {path.name}"
        self._size = max(1, path.stat().st_size)
        self._count = self._told = self._empty = 0

    def read(self, length: int = -1) -> bytes:
        data = self._stream.read(length)
        self._count += len(data)
        self._empty += not data
        # The tar library seeks by reading and goes on where there is nothing, up to any size that a header claims.
        if self._empty > _MAX_EMPTY:
            msg = "it ends before the file that it promises"
            raise FormatError(msg)
        if self._count > _MAX_STREAM:
            msg = f"it unpacks to more than {_MAX_STREAM >> 30} GiB"
            raise FormatError(msg)
        if self._progress and self._count - self._told >= _PROGRESS_STEP:
            self._told = self._count
            self._progress(min(100.0, 100 * self._raw.tell() / self._size), self._label)
        return data


class Unpacker:
    """Unpacks into a cache directory; what is there already is not unpacked again.

    The directory of an archive stands for its path, size and time of change. Files in it are complete: they get their
    name when they are. Nothing is ever removed.
    """

    def __init__(self, cache: Path | None = None, progress: Progress | None = None) -> None:
        """Take the directory, which need not exist yet; without one everything packed is refused."""
        self._cache = cache
        self._progress = progress

    # Files

    def kind(self, path: Path) -> Kind:
        """What a file is, from its first bytes once unpacked: an ELF file, the same ``compressed``, or an archive.

        Raises:
            FormatError: it is empty, damaged, or packed in a way that needs another library.
            OSError: it cannot be read.
        """
        if not path.stat().st_size:
            msg = f"{path} is an empty file"
            raise FormatError(msg)
        with path.open("rb") as raw:
            packed = _compression(raw.read(6)) is not None
        with _guard(path), self._opened(path) as stream:
            start = stream.read(512)
        if start.startswith(ELF_MAGIC):
            return "compressed" if packed else "elf"
        return "archive" if start[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC) else "other"

    def plain(self, path: Path) -> Path:
        """The file itself, or the unpacked copy of a compressed one.

        Raises:
            FormatError: it is damaged, too big, or there is no cache directory.
            OSError: it cannot be read, or the copy not be written.
        """
        with path.open("rb") as raw:
            if _compression(raw.read(6)) is None:
                return path
        target = self._directory(path) / "plain"
        if not target.is_file():
            with _guard(path), self._opened(path) as stream:
                self._write(stream, target, None)
        return target

    # Archives

    def contents(self, path: Path) -> Contents:
        """Unpack the kernels of an archive, and list its modules.

        Raises:
            FormatError: it is damaged, holds something too big, or there is no cache directory.
            OSError: it cannot be read, or the files not be written.
        """
        directory = self._directory(path)
        index = directory / "index.json"
        known = _load_index(index)
        if known is None:
            with _guard(path):
                known = self._scan(path, directory)
            content = {"kernels": {name: one.name for name, one in known.kernels.items()}, "modules": known.modules}
            _replace(index, json.dumps(content).encode())
        return known

    def members(self, path: Path, names: Collection[str]) -> dict[str, Path]:
        """Unpack the files of these names, as `contents` gave them, in one pass; those that are not there are left out.

        Raises:
            FormatError, OSError: as for `contents`.
        """
        directory = self._directory(path)
        found = {name: directory / _file_name(name) for name in names}
        missing = {name for name, target in found.items() if not target.is_file()}
        if missing:
            budget = MAX_SIZE
            with _guard(path):
                for name, member, tar in self._walk(path):
                    if name in missing and member.isreg():
                        budget -= self._take(tar, member, directory / _file_name(name), budget)
        return {name: target for name, target in found.items() if target.is_file()}

    def _scan(self, path: Path, directory: Path) -> Contents:
        kernels: dict[str, Path] = {}
        modules: list[str] = []
        links: dict[str, str] = {}
        budget = MAX_SIZE
        for name, member, tar in self._walk(path):
            if posixpath.basename(name) in KERNEL_NAMES:
                if member.isreg():
                    taken = self._take(tar, member, directory / _file_name(name), budget)
                    budget -= taken
                    if taken:
                        kernels[name] = directory / _file_name(name)
                elif member.issym() or member.islnk():
                    links[name] = _link_target(name, member)
            elif name.endswith(_MODULE_SUFFIXES) and member.isreg() and len(modules) < _MAX_MODULES:
                modules.append(name)
        # Links lead within the archive or nowhere.
        elsewhere = {target for target in links.values() if target and target not in kernels}
        targets = kernels | (self.members(path, elsewhere) if elsewhere else {})
        kernels.update({name: targets[target] for name, target in links.items() if target in targets})
        return Contents(kernels, tuple(modules))

    def _walk(self, path: Path) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
        """``(plain name, member, archive)`` of each member, in the order of the archive."""
        with (
            self._opened(path) as stream,
            tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=_Member) as tar,
        ):
            while (member := tar.next()) is not None:
                # The library keeps every member, of a whole system as well.
                cast("Any", tar).members.clear()
                name = _plain_name(member.name)
                if name:
                    yield name, member, tar

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, budget: int) -> int:
        """Unpack a member if it is an ELF file or a compressed one; its size, or 0."""
        source = tar.extractfile(member)
        start = source.read(6) if source else b""
        if source is None or not (start.startswith(ELF_MAGIC) or _compression(start)):
            return 0
        if member.size > budget:
            msg = f"its kernels are bigger than {MAX_SIZE >> 30} GiB"
            raise FormatError(msg)
        if not target.is_file():
            self._write(source, target, member.size, start)
        return member.size

    # Streams

    @contextmanager
    def _opened(self, path: Path) -> Iterator[_Unpacked]:
        """The content of a file, unpacked if it is packed."""
        with path.open("rb") as raw:
            packed = _compression(raw.read(6))
            raw.seek(0)
            with _decompressor(packed, raw) as stream:
                yield _Unpacked(stream, raw, path, self._progress)

    def _directory(self, path: Path) -> Path:
        """Where what comes from a file is kept."""
        if self._cache is None:
            msg = f"{path} is packed, and there is no cache directory to unpack it into"
            raise FormatError(msg)
        status = path.stat()
        identity = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        directory = self._cache / hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _write(self, source: IO[bytes] | _Unpacked, target: Path, size: int | None, start: bytes = b"") -> None:
        """Copy a stream, of ``size`` bytes if that is known and of `MAX_SIZE` at most, into a file."""
        with _partial(target) as output:
            piece, count = start, 0
            free = _free(target.parent) if size is not None else 0
            if size is not None and size > free:
                msg = f"a file of {size} bytes does not fit on the disk, {free} are free"
                raise FormatError(msg)
            while piece or (piece := source.read(_CHUNK)):
                output.write(piece)
                count += len(piece)
                if size is None and (count > MAX_SIZE or _free(target.parent) <= 0):
                    msg = f"it is bigger than {MAX_SIZE >> 30} GiB or does not fit on the disk"
                    raise FormatError(msg)
                piece = b""
            if size is not None and count != size:
                msg = f"it ends after {count} of {size} bytes of a file"
                raise FormatError(msg)


def _free(directory: Path) -> int:
    """Bytes that may be written."""
    return max(0, shutil.disk_usage(directory).free - _RESERVE)


@contextmanager
def _partial(target: Path) -> Iterator[IO[bytes]]:
    """A file that becomes ``target`` when it is complete, and vanishes otherwise."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".partial-", delete=False) as output:
        path = Path(output.name)
        try:
            yield cast("IO[bytes]", output)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    path.replace(target)


def _replace(target: Path, data: bytes) -> None:
    with _partial(target) as output:
        output.write(data)


def _load_index(path: Path) -> Contents | None:
    """What a former scan has found; None if there was none or its files are gone."""
    try:
        content = json.loads(path.read_bytes())
        kernels = {str(name): path.with_name(_own_name(file)) for name, file in content["kernels"].items()}
        modules = tuple(str(name) for name in content["modules"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return Contents(kernels, modules) if all(file.is_file() for file in kernels.values()) else None


def _own_name(file: Any) -> str:
    if not isinstance(file, str) or not file.endswith(".elf") or "/" in file or "\\" in file:
        raise ValueError(file)
    return file


def _file_name(member: str) -> str:
    """Name in the cache directory: no part of the archive's own."""
    return hashlib.sha256(member.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".elf"


def _plain_name(name: str) -> str:
    """A member's name without leading ``./`` and ``/``; empty if it leads out of the archive."""
    plain = posixpath.normpath(name.lstrip("/")) if name.strip("/") else ""
    return "" if plain == "." or plain.startswith("../") or plain == ".." else plain


def _link_target(name: str, member: tarfile.TarInfo) -> str:
    """Where a link leads within the archive: hard links and absolute ones count from its root."""
    relative = member.issym() and not member.linkname.startswith("/")
    return _plain_name(posixpath.join(posixpath.dirname(name), member.linkname) if relative else member.linkname)


def _compression(start: bytes) -> str | None:
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)


def _decompressor(name: str | None, raw: IO[bytes]) -> Any:
    """A stream of what is in ``raw``."""
    if name == "zstd":
        return _zstd(raw)
    openers: dict[str, Callable[[IO[bytes]], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return openers[name](raw) if name else raw


def _zstd(raw: IO[bytes]) -> Any:
    """By Python's own module (3.14) or the package."""
    try:
        return import_module("compression.zstd").ZstdFile(raw)
    except ImportError:
        pass
    try:
        reader = import_module("zstandard").ZstdDecompressor()
    except ImportError:
        msg = "it is compressed with zstd, for which the Python package zstandard must be installed"
        raise FormatError(msg) from None
    return reader.stream_reader(raw, read_across_frames=True, closefd=False)


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries raise at damaged archives; either of the two for zstd has its ``ZstdError``."""
    modules = (sys.modules.get(name) for name in ("compression.zstd", "zstandard"))
    return (*_DAMAGE, OSError, *(module.ZstdError for module in modules if module))


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Turn damage into one sentence."""
    try:
        yield
    except _failures() as error:
        # The system's own errors have a number, those of bz2 and gzip have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        msg = f"{path} cannot be unpacked: {str(error) or type(error).__name__}"
        raise FormatError(msg) from None
