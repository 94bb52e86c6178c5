"""Compressed dumps, unpacked from front to back: by the kernel, by ``savecore -z``, or by people.

What comes out before a stream ends early or is damaged is kept.

# Reference: sys/kern/subr_compressor.c (gz_write, zstdio_write), RFC 1952, RFC 8878
"""

from __future__ import annotations

import bz2
import lzma
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import cast

from ..exceptions import FormatError, MissingPieceError
from .copies import Notes, SparseWriter
from .reader import Reader

_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
MAGICS = {_GZIP_MAGIC: "gzip", _ZSTD_MAGIC: "zstd", b"\x50\x2a\x4d\x18": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
"""The first bytes; those of zstd include the frame that parallel tools put in front."""
FLOOR = 8 << 30
"""Bytes that anything may unpack to ..."""
RATIO = 10_000
"""... and how much larger than packed it may be beyond that. deflate cannot reach 1100."""
SLACK = 1 << 16
"""Bytes that may follow a dump in its stream."""
_PIECE = 1 << 20
_FEED = 1 << 14
_XZ_MEMORY = 512 << 20
_PROGRESS_STEP = 8 << 20
_MAX_NAME = 1 << 16
_PADDING = 1 << 16
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT = 2, 4, 8, 16
_SINGLE_SEGMENT, _CHECKSUM, _RLE = 0x20, 4, 1

Progress = Callable[[float, str], None]
Limit = Callable[[Reader], int | None]


def compression(start: bytes) -> str | None:
    """The name of the compression that a file begins with, if it is one that can be unpacked."""
    return next((name for magic, name in MAGICS.items() if start.startswith(magic)), None)


@dataclass
class Stream:
    """The packed bytes, read in order, and what is to be said of them.

    Attributes:
        reader: holds them.
        position: of the next byte.
        problem: why it ends before it should: what is to be said of the stream.
        warnings: oddities.
    """

    reader: Reader
    position: int = 0
    problem: str = ""
    warnings: list[str] = field(default_factory=list)

    def read(self, size: int) -> bytes:
        """The next bytes; fewer of them at the end."""
        data = self.reader.buffer[self.position : self.position + size]
        self.position += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay."""
        return self.reader.buffer[self.position : self.position + size]

    def ends(self) -> None:
        """Note that there should be more."""
        self.problem = "ends early"

    def is_damaged(self, detail: object) -> None:
        """Note that it cannot be followed any further."""
        self.problem = f"is damaged at byte {self.position} ({detail})"

    def warn(self, warning: str) -> None:
        """Note an oddity, once: there may be millions of small members."""
        if warning not in self.warnings:
            self.warnings.append(warning)


def unpack(
    reader: Reader,
    kind: str,
    writer: SparseWriter,
    limit: Limit | None = None,
    progress: Progress | None = None,
    *,
    outermost: int | None = None,
) -> Notes:
    """Unpack all of ``reader`` into ``writer``.

    Args:
        reader: the packed bytes.
        kind: see `compression`.
        writer: takes what comes out.
        limit: how long the dump is of which so much is there; None if that cannot be told yet.
        progress: is told percent and what is done.
        outermost: the size of the file that all of it is in, if that is not ``reader``: what is packed twice may not
            become larger than what is packed once.

    Raises:
        FormatError: nothing comes out.
        MissingPieceError: the library for zstd is missing, or the disk is full.
    """
    stream = Stream(reader)
    try:
        _copy(stream, _STREAMS[kind](stream), writer, limit, progress, outermost or reader.size)
    except _failures() as error:
        # The system's own errors have a number, those of the libraries have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        stream.is_damaged(str(error) or type(error).__name__)
    if not writer.size:
        msg = f"nothing can be unpacked: the {kind} stream {stream.problem or 'is empty'}"
        raise FormatError(msg)
    problem = (
        f"the {kind} stream {stream.problem}: {writer.size} bytes came out of {reader.size}, what follows is missing"
    )
    return Notes(writer.size, reader.size, problem if stream.problem else "", stream.warnings)


def _copy(
    stream: Stream,
    pieces: Iterator[bytes],
    writer: SparseWriter,
    limit: Limit | None,
    progress: Progress | None,
    outermost: int,
) -> None:
    most = max(FLOOR, RATIO * outermost)
    end: int | None = None
    look, tell = SLACK, 0
    for piece in pieces:
        writer.write(piece)
        if progress and stream.position >= tell:
            progress(100 * stream.position / stream.reader.size, f"Unpacking {stream.reader.name}")
            tell = stream.position + _PROGRESS_STEP
        if limit and end is None and writer.size >= look:
            end = writer.peek(limit)
            look = 2 * writer.size
        if end is not None and writer.size > end + SLACK:
            stream.warn("the stream goes on after the end of the dump; the rest is left out")
            return
        if writer.size > most:
            stream.problem = f"unpacks to more than {most} bytes, which no dump would"
            return


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries raise at damage; either of the two for zstd has its ``ZstdError``."""
    modules = (sys.modules.get(name) for name in ("compression.zstd", "zstandard"))
    return (zlib.error, lzma.LZMAError, EOFError, OSError, *(module.ZstdError for module in modules if module))


# Formats


def _gzip(stream: Stream) -> Iterator[bytes]:
    """Members, one after the other. Their trailers are checked, but no reason to stop.

    Big-endian kernels write the trailer in their own byte order.
    """
    while stream.peek(3) == _GZIP_MAGIC and _skip_gzip_header(stream):
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        crc = count = 0
        while not inflater.eof:
            data = inflater.unconsumed_tail or stream.read(_FEED)
            piece = inflater.decompress(data, _PIECE) if data else inflater.flush()
            crc, count = zlib.crc32(piece, crc), count + len(piece)
            yield piece
            if not data:
                stream.ends()
                return
        stream.position -= len(inflater.unused_data)
        values = crc, count & 0xFFFFFFFF
        if stream.read(8) not in (struct.pack("<II", *values), struct.pack(">II", *values)):
            stream.warn(
                "the gzip trailer does not fit the content: the stream was damaged, or the kernel misplaced the trailer"
            )


def _skip_gzip_header(stream: Stream) -> bool:
    start = stream.read(10)
    if len(start) < 10:
        stream.ends()
        return False
    flags = start[3]
    if flags & _FEXTRA:
        stream.position += int.from_bytes(stream.read(2), "little")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            text = stream.peek(_MAX_NAME)
            end = text.find(0)
            if end < 0:
                stream.ends() if len(text) < _MAX_NAME else stream.is_damaged("its header has no end")
                return False
            stream.position += end + 1
    stream.position += 2 if flags & _FHCRC else 0
    return True


def _zstd(stream: Stream) -> Iterator[bytes]:
    """Frames, one after the other, block by block: so that no block needs more memory than a block may have."""
    decoder = _zstd_decoder()
    while len(start := stream.peek(8)) >= 4 and not stream.problem:
        if int.from_bytes(start[:4], "little") in _SKIPPABLE:
            stream.position += 8 + int.from_bytes(start[4:], "little")
        elif start.startswith(_ZSTD_MAGIC):
            yield from _zstd_frame(stream, decoder())
        else:
            return


def _zstd_frame(stream: Stream, decode: Callable[[bytes], bytes]) -> Iterator[bytes]:
    start = stream.peek(18)
    flags = start[4] if len(start) > 4 else 0
    single = bool(flags & _SINGLE_SEGMENT)
    yield decode(stream.read(5 + (not single) + (0, 1, 2, 4)[flags & 3] + (int(single), 2, 4, 8)[flags >> 6]))
    last = False
    while not last:
        header = int.from_bytes(stream.peek(3), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        size = 3 + (1 if kind == _RLE else size)
        block = stream.read(size)
        yield decode(block) if block else b""
        if len(block) < size:
            stream.ends()
            return
    if flags & _CHECKSUM:
        if len(stream.peek(4)) < 4:
            stream.ends()
            return
        try:
            yield decode(stream.read(4))
        except _failures():
            stream.warn("the checksum of the zstd frame does not fit the content: some of it is damaged")


def _zstd_decoder() -> Callable[[], Callable[[bytes], bytes]]:
    """Makes what decodes one frame: by Python's own module (3.14) or the package."""
    try:
        python = import_module("compression.zstd")
    except ImportError:
        try:
            package = import_module("zstandard").ZstdDecompressor()
        except ImportError:
            msg = "the dump is compressed with zstd: pip install 'volatility3-freebsd-kvm[zstd]' to read it"
            raise MissingPieceError(msg) from None
        return lambda: cast("Callable[[bytes], bytes]", package.decompressobj().decompress)
    return lambda: cast("Callable[[bytes], bytes]", python.ZstdDecompressor().decompress)


def _other(
    kind: str, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor], stream: Stream
) -> Iterator[bytes]:
    """Streams of bzip2 or xz, one after the other; xz may have zeros between them."""
    while compression(stream.peek(6)) == kind:
        decoder = make()
        while not decoder.eof:
            data = stream.read(_FEED) if decoder.needs_input else b""
            if decoder.needs_input and not data:
                stream.ends()
                return
            yield decoder.decompress(data, _PIECE)
        stream.position -= len(decoder.unused_data)
        padding = stream.peek(_PADDING)
        stream.position += len(padding) - len(padding.lstrip(b"\0"))


_STREAMS: dict[str, Callable[[Stream], Iterator[bytes]]] = {
    "gzip": _gzip,
    "zstd": _zstd,
    "bzip2": partial(_other, "bzip2", bz2.BZ2Decompressor),
    "xz": partial(_other, "xz", partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _XZ_MEMORY)),
}
