"""What a dump arrives in, taken off layer by layer until the dump itself is there.

A dump may still be on its device (or a disk image with that device in it), behind its header, compressed, encrypted,
and several of these at once.

    >>> reader = open_reader("vmcore_encrypted.3.gz")                # doctest: +SKIP
    >>> unwrap(reader, key=Path("private.pem")).containers           # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..exceptions import FormatError, MissingPieceError, NotADumpError
from . import compressed, elfcore, encrypted, infofile, kerneldump, minidump, textdump
from .copies import Copies, Notes, identity
from .infofile import InfoFile
from .kerneldump import DumpArea, KernelDumpHeader
from .partitions import partitions
from .reader import Reader, SectionReader
from .textdump import TextDump

_MAX_DEPTH = 8
_START = 512
_IMAGES = (b"EMiL", b"AVML", b"QEVM")
"""How other images of memory begin: LiME, AVML, and the saved state of a QEMU machine."""
_BANNER = re.compile(rb"FreeBSD \d{1,2}\.\d{1,2}-[A-Z]")
"""What ``version`` begins with (sys/conf/newvers.sh)."""
_BANNER_AREA, _BANNER_PIECE = 4 << 30, 16 << 20
_BITMAP_FLOOR, _BITMAP_RATIO = 64 << 20, 64
"""Bytes of page bitmap that any dump may have, and how many times its size compressed beyond that."""
KEY_HINT = "pass the RSA private key: --freebsd-key with vol, key= with kvm.open"

Progress = Callable[[float, str], None]


class Container(NamedTuple):
    """One layer of what a dump arrived in.

    Attributes:
        kind: gzip, zstd, bzip2, xz, AES-256-CBC, ChaCha20, dump device, leading dump header ...
        text: what is to be said of it.
        size: bytes of the layer.
    """

    kind: str
    text: str
    size: int


class Unwrapped:
    """A reader of what was inside; see `Reader`.

    Attributes:
        outer: the file as it is.
        reader: the innermost reader.
        containers: what was taken off, the outermost first.
        header: the dump header, if one was among it.
        parity_ok: of that header.
        info_file: what savecore wrote beside the file, if it did.
        text: the text dump that is inside instead of memory.
        warnings: oddities, one sentence each.
        raw: what is inside has no header of FreeBSD's, but may be memory of it; see `kvm.open_raw`.
        losses: those of them that tell of a part of the dump that is missing.
        shared: others use it, too: closing it does nothing.
    """

    def __init__(self, outer: Reader) -> None:
        """Begin with the file as it is; `unwrap` does the rest."""
        self.outer = self.reader = outer
        self.size, self.name, self.path, self.buffer = outer.size, outer.name, outer.path, outer.buffer
        self.containers: tuple[Container, ...] = ()
        self.header: KernelDumpHeader | None = None
        self.parity_ok = True
        self.info_file: InfoFile | None = infofile.beside(outer.path)
        self.text: TextDump | None = None
        self.warnings: list[str] = []
        self.losses: list[str] = []
        self.raw = False
        self.shared = False
        self._opened = [outer]

    def enter(self, reader: Reader, kind: str, text: str) -> None:
        """Take off a layer: go on with ``reader``, which holds what was in it."""
        self.containers += (Container(kind, text, self.size),)
        self.reader, self.size, self.buffer = reader, reader.size, reader.buffer
        self._opened.append(reader)

    @property
    def holds_dump(self) -> bool:
        """Whether what is inside claims to be a dump of memory, or may be an image of it."""
        return self.raw or is_dump(self.buffer[0:_START])

    def stored(self) -> int | None:
        """How many bytes savecore wrote, for the length in its info file; None if that cannot be told any more."""
        info, kinds = self.info_file, [container.kind for container in self.containers]
        if info is None or self.header is not None:
            return None
        if info.compression in ("", "none"):
            return self.size
        return self.outer.size if kinds[:1] == [info.compression] or kinds[:1] == ["ChaCha20"] else None

    def close(self) -> None:
        """Close the file and everything that was opened for it."""
        if not self.shared:
            self.close_inner()
            self.outer.close()

    def close_inner(self) -> None:
        """Close all but the file."""
        for reader in self._opened[:0:-1]:
            reader.close()


def is_dump(start: bytes) -> bool:
    """Whether a file that begins with ``start`` claims to be a dump of memory."""
    return minidump.is_minidump(start) or start.startswith(elfcore.ELF_MAGIC)


def unwrap(
    reader: Reader, *, key: Path | None = None, cache: Path | None = None, progress: Progress | None = None
) -> Unwrapped:
    """Take a dump out of what it arrived in; a plain dump, and what is none, comes back as it is.

    Args:
        reader: the file.
        key: the RSA private key (PEM) to an encrypted dump.
        cache: directory for unpacked copies of compressed dumps; without one they are unpacked again each time. What
            was encrypted is never kept.
        progress: is told percent and what is being done.

    Raises:
        NotADumpError: something is taken off, and no dump is in it.
        MissingPieceError: a key, a library or room on the disk is missing.
        FormatError: a container is damaged.
        OSError: a file cannot be read or written.
    """
    work = _Unwrapping(reader, key, Copies(cache), progress)
    try:
        for _ in range(_MAX_DEPTH):
            if not work.step():
                return work.result()
    except BaseException:
        work.done.close_inner()
        raise
    work.done.close_inner()
    msg = f"{reader.name} holds containers within containers, more than {_MAX_DEPTH}"
    raise FormatError(msg)


class _Unwrapping:
    """Takes off one layer after the other."""

    def __init__(self, reader: Reader, key: Path | None, copies: Copies, progress: Progress | None) -> None:
        self.done = Unwrapped(reader)
        self._key, self._copies, self._progress = key, copies, progress
        self._locked: tuple[encrypted.KeyBlock, str] | None = None
        self._decrypted = False
        self._copied: list[tuple[str | None, Notes]] = []

    def result(self) -> Unwrapped:
        """What is there when nothing more can be taken off."""
        done = self.done
        done.raw = bool(self._copied) and not done.text and not done.holds_dump and _may_be_memory(done.reader)
        if done.containers and not done.text and not done.holds_dump:
            # Windows removes nothing that is mapped.
            done.close_inner()
            for copied in self._copied:
                self._copies.drop(*copied)
            raise self._nothing()
        return done

    def _nothing(self, *kinds: str) -> NotADumpError:
        inside = ", ".join([container.kind for container in self.done.containers] + list(kinds))
        return NotADumpError(
            f"{self.done.name} is no FreeBSD kernel dump: in it ({inside}) is neither a minidump nor an ELF core"
        )

    def step(self) -> bool:
        """Take off a layer; False if there is none."""
        done = self.done
        start = done.buffer[0:_START]
        if self._locked:
            self._decrypt(*self._locked)
            return True
        return (
            self._enter_area(self._trailer(start))
            or (not is_dump(start) and self._decompress(start))
            or (not is_dump(start) and self._inside(start))
        )

    def _inside(self, start: bytes) -> bool:
        """Containers that are looked for only where nothing else is recognised."""
        done = self.done
        if textdump.is_archive(start):
            done.text = textdump.parse(done.reader)
            done.warnings += done.text.notes
            return False
        if kerneldump.is_header(start):
            return self._enter_area(kerneldump.at_start(done.reader))
        return self._enter_area(self._in_partitions()) or self._decrypt_saved()

    # Dump headers

    def _trailer(self, start: bytes) -> DumpArea | None:
        """The area that a header at the end tells of; what is a dump without it is not refused because of it."""
        try:
            area = kerneldump.at_end(self.done.reader, 0, self.done.size)
        except FormatError as error:
            if not is_dump(start):
                raise
            reason = str(error)
        else:
            # Memory, too, may hold what looks like a header: behind a dump only that of a live dump counts.
            if area is None or not area.offset or not is_dump(start):
                return area
            reason = f"the file begins with a dump, and not at {area.offset:#x}"
        self.done.warnings.append(f"the dump header at the end of the file is ignored: {reason}")
        return None

    def _in_partitions(self) -> DumpArea | None:
        """The newest dump at the end of any partition."""
        # By place: the last partition of a slice ends where the slice does.
        areas: dict[int, tuple[DumpArea, str]] = {}
        errors: list[FormatError] = []
        for start, end, name in partitions(self.done.reader):
            try:
                area = kerneldump.at_end(self.done.reader, start, end)
            except FormatError as error:
                errors.append(error)
                continue
            if area:
                areas[area.offset] = area, name
        if not areas:
            if errors:
                raise errors[0]
            return None
        found = sorted(areas.values(), key=lambda one: one[0].header.time, reverse=True)
        area, name = found[0]
        notes = [f"there is another dump on partition {other}, which is older" for _, other in found[1:]]
        return replace(area, place=f", partition {name}", notes=area.notes + notes)

    def _enter_area(self, area: DumpArea | None) -> bool:
        if area is None:
            return False
        done, header = self.done, area.header
        if header.key_size:
            block = done.buffer[area.key_offset : area.offset]
            self._locked = encrypted.parse_key(block, f"the key block of {done.name}"), f"the key block of {done.name}"
        span = f"{area.offset:#x}-{area.offset + area.length:#x}"
        text = f"{area.kind}{area.place}, header version {header.version}, dump at {span} of {done.size:#x}"
        done.warnings += area.notes
        if done.header is None:
            done.header, done.parity_ok = header, area.parity_ok
        done.enter(self._area_reader(area), area.kind, text)
        return True

    def _area_reader(self, area: DumpArea) -> Reader:
        """The bytes of a dump area; text dumps stand there backwards."""
        part = SectionReader(self.done.reader, area.offset, area.length)
        backwards = textdump.ReversedReader(self.done.reader, area.offset, area.length)
        for reader in (part, backwards):
            if textdump.is_archive(reader.buffer[0:_START]):
                return reader
        if area.header.is_text:
            msg = (
                f"the text dump on {self.done.name} is damaged: its archive does not begin with a file of the kernel's"
            )
            raise FormatError(msg)
        return part

    # Compression

    def _decompress(self, start: bytes) -> bool:
        kind = compressed.compression(start)
        if kind is None:
            return False
        done = self.done
        packed = done.reader
        key = self._copy_key(kind)
        limit = functools.partial(promised_size, packed=packed.size)
        reader, notes = self._copies.get(
            key,
            done.name,
            lambda writer: compressed.unpack(packed, kind, writer, limit, self._progress, outermost=done.outer.size),
        )
        if reader is None:
            raise self._nothing(kind)
        self._copied.append((key, notes))
        if notes.problem:
            done.losses.append(notes.problem)
            done.warnings.append(notes.problem)
        done.warnings += notes.warnings
        done.enter(reader, kind, f"{kind}, {notes.packed} bytes, {notes.size} unpacked")
        return True

    def _copy_key(self, kind: str) -> str | None:
        """What a copy of the layer is kept under; None for what was encrypted or is in no file."""
        if self._decrypted or self.done.path is None:
            return None
        whole = hashlib.sha256(identity(self.done.path, self.done.outer).encode())
        for container in self.done.containers:
            whole.update(repr(container).encode())
        return f"{whole.hexdigest()[:32]}-{kind}"

    # Encryption

    def _decrypt_saved(self) -> bool:
        """Decrypt a saved dump: by its name, or because a key is given and a key file lies beside it."""
        path = self.done.path
        if path is None or self._decrypted:
            return False
        named = path.name.startswith("vmcore_encrypted.")
        found = _key_file(path)
        if not named and (self._key is None or found is None):
            return False
        if found is None:
            number = infofile.dump_number(path)
            msg = f"the dump is encrypted, and its key file key.{number or 'N'} is not beside it"
            raise MissingPieceError(msg)
        block = encrypted.parse_key(encrypted.read_small(found, encrypted.MAX_KEY_BLOCK), str(found))
        self._decrypt(block, found.name)
        return True

    def _decrypt(self, block: encrypted.KeyBlock, block_name: str) -> None:
        done, self._locked = self.done, None
        if self._key is None:
            msg = f"the dump is encrypted with {block.name}; {KEY_HINT}"
            raise MissingPieceError(msg)
        reader = encrypted.DecryptedReader(done.reader, block, encrypted.unlock(block, self._key, block_name))
        self._decrypted = True
        start = reader.buffer[0:_START]
        if not is_dump(start) and compressed.compression(start) is None:
            msg = (
                f"what {self._key} and {block_name} decrypt is no dump: one of them belongs to another dump, or the "
                "beginning is damaged"
            )
            raise MissingPieceError(msg)
        done.enter(reader, block.name, f"{block.name}, {reader.size} bytes")


def _may_be_memory(reader: Reader) -> bool:
    """Whether unpacked bytes are worth a look for a kernel: they name FreeBSD, or are an image of another kind."""
    if reader.buffer[0:4] in _IMAGES:
        return True
    end = min(reader.size, _BANNER_AREA)
    pieces = (reader.buffer[at : at + _BANNER_PIECE + 64] for at in range(0, end, _BANNER_PIECE))
    return any(_BANNER.search(piece) for piece in pieces)


def _key_file(path: Path) -> Path | None:
    """The key file of a saved dump: by its number or, under another name, the only one beside it."""
    number = infofile.dump_number(path)
    if number is not None:
        candidate = path.with_name(f"key.{number}")
        return candidate if candidate.is_file() else None
    with contextlib.suppress(OSError):
        candidates = [one for one in path.parent.glob("key.*") if one.is_file() and not one.is_symlink()]
        return candidates[0] if len(candidates) == 1 else None
    return None


def contradictions(unwrapped: Unwrapped, architecture: str) -> Iterator[str]:
    """Where the dump header and the info file contradict the dump or each other, one sentence each."""
    header, info = unwrapped.header, unwrapped.info_file
    if header and not unwrapped.parity_ok:
        yield "the parity of the dump header is wrong: something in it is damaged"
    if header and infofile.architecture_of(header.architecture) != architecture:
        yield f"the dump header tells of a dump of {header.architecture}, this one is of {architecture}"
    if info:
        yield from infofile.differences(info, header, architecture, unwrapped.stored())


def promised_size(reader: Reader, packed: int) -> int | None:
    """How long a dump is by its own headers, in bytes; None if they are not all there, or it is none.

    Args:
        reader: the dump, as far as it is unpacked.
        packed: bytes of it compressed.

    Raises:
        FormatError: its page bitmap would take much memory, and cannot be meant well.
    """
    try:
        if reader.buffer[0:4] == elfcore.ELF_MAGIC:
            return max(segment.p_offset + segment.p_filesz for segment in elfcore.parse(reader).segments)
        header = minidump.parse_header(reader.buffer[0 : minidump.HEADER_SIZE])
    except FormatError:
        return None
    if header.bitmapsize > max(_BITMAP_FLOOR, _BITMAP_RATIO * packed):
        msg = f"the minidump claims a page bitmap of {header.bitmapsize} bytes, but has {packed} bytes compressed"
        raise FormatError(msg)
    if reader.size < header.pages_off:
        return None
    with contextlib.suppress(FormatError):
        return header.pages_off + minidump.read_bitmap(header, reader).count * header.page_size
    return None
