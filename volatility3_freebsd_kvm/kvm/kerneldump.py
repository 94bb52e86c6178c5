"""The header around a dump on its device: ``struct kerneldumpheader``, versions 1 to 4, and where it leads.

    +-------------+------+------------ dump extent ------------+----------+
    | lead. header | key | dump, of the length the header says | trailing |
    +-------------+------+-------------------------------------+----------+
      one block   opt.                                           one block

A live dump has the trailing header only, and begins with its file.

# Reference: sys/sys/kerneldump.h, sys/kern/kern_shutdown.c (dump_start, dump_write_headers, dump_init_header),
# sys/kern/kern_vnodedumper.c (vnode_write_headers), sbin/savecore/savecore.c (DoFile)
"""

from __future__ import annotations

import datetime
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from ..exceptions import FormatError
from .reader import Reader

HEADER_SIZE = 512
DUMP, TEXT, CLEARED = b"FreeBSD Kernel Dump", b"FreeBSD Text Dump", b"Cleared Kernel Dump"
BLOCK_SIZES = tuple(512 << shift for shift in range(8))
"""Blocks of dump devices, in bytes; live dumps have pages."""
COMPRESSIONS = {0: "none", 1: "gzip", 2: "zstd"}
_STARTS = (b"minidump", b"\x7fELF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_VERSIONS = range(1, 5)
_MAGIC_SIZE = 20
_MAX_KEY = 1 << 16
_LAST_TIME = 253_402_300_800
"""Year 10000, which Python does not know."""


class KernelDumpHeader(NamedTuple):
    """A dump header. Sizes in bytes; texts are printable, whatever the file says.

    Attributes:
        magic: ``FreeBSD Kernel Dump``, ``FreeBSD Text Dump`` or, after savecore(8), ``Cleared Kernel Dump``.
        architecture: MACHINE_ARCH: amd64, aarch64, armv7 ...
        architecture_version: of the dump in that architecture.
        length: of what is stored, which may be compressed.
        time: seconds since 1970.
        key_size: of the key in front of the dump, 0 if it is not encrypted.
        compression: 0 none, 1 gzip, 2 zstd.
        extent: reserved on the device; versions before 4 have the length there.
        parity_ok: whether all words of the header cancel out.
    """

    magic: bytes
    architecture: str
    version: int
    architecture_version: int
    length: int
    time: int
    key_size: int
    block_size: int
    hostname: str
    version_string: str
    panic_string: str
    compression: int
    extent: int
    parity_ok: bool

    @property
    def is_text(self) -> bool:
        """Whether it heads a text dump."""
        return self.magic == TEXT

    @property
    def when(self) -> datetime.datetime | None:
        """When the dump was made, in UTC; None if that is no time."""
        if not 0 < self.time < _LAST_TIME:
            return None
        return datetime.datetime.fromtimestamp(0, datetime.timezone.utc) + datetime.timedelta(seconds=self.time)


@dataclass(frozen=True)
class DumpArea:
    """Where a header says that its dump is; offsets and sizes in bytes.

    Attributes:
        header: the trailing header, or the leading one where that is the good one.
        offset: where the dump begins.
        length: how much of it the file holds.
        kind: where it was found, for people.
        parity_ok: of the header as it was before savecore cleared its magic.
        notes: oddities, one sentence each.
        place: more of where it was found.
    """

    header: KernelDumpHeader
    offset: int
    length: int
    kind: str
    parity_ok: bool
    notes: list[str] = field(default_factory=list)
    place: str = ""

    @property
    def key_offset(self) -> int:
        """Where the key of an encrypted dump begins."""
        return self.offset - self.header.key_size


def is_header(start: bytes) -> bool:
    """Whether a block that begins with ``start`` claims to be a dump header."""
    return start[:_MAGIC_SIZE].rstrip(b"\0") in (DUMP, TEXT, CLEARED)


def printable(data: bytes) -> str:
    """The text up to the first NUL on one line, with what is not printable escaped."""
    text = " ".join(data.split(b"\0")[0].decode("utf-8", "backslashreplace").split())
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def parity(block: bytes) -> int:
    """The words of a header, xored: 0 if it is whole. The byte order does not matter."""
    total = 0
    for (word,) in struct.iter_unpack(">I", block[:HEADER_SIZE]):
        total ^= word
    return total


def parse(block: bytes) -> KernelDumpHeader | None:
    """Decode a header; None if there is none.

    Raises:
        FormatError: there is one that is cut off, or of an unknown version.
    """
    if not is_header(block):
        return None
    if len(block) < HEADER_SIZE:
        msg = f"the dump header is cut off: {len(block)} bytes of {HEADER_SIZE}"
        raise FormatError(msg)
    architecture, version, architecture_version, length, time = struct.unpack_from(">12sIIQQ", block, _MAGIC_SIZE)
    if version not in _VERSIONS:
        msg = f"the dump header has version {version}; versions {_VERSIONS[0]} to {_VERSIONS[-1]} are known"
        raise FormatError(msg)
    # Version 2 inserted the key size, version 3 the compression, version 4 the extent and four unused bytes.
    at = 56
    (key_size,) = struct.unpack_from(">I", block, at) if version >= 2 else (0,)
    at += 4 if version >= 2 else 0
    block_size, hostname, version_string = struct.unpack_from(">I64s192s", block, at)
    at += 260
    end = HEADER_SIZE - 4 - {1: 0, 2: 0, 3: 1, 4: 13}[version]
    (extent,) = struct.unpack_from(">Q", block, 496) if version >= 4 else (length,)
    return KernelDumpHeader(
        magic=block[:_MAGIC_SIZE].rstrip(b"\0"),
        architecture=printable(architecture),
        version=version,
        architecture_version=architecture_version,
        length=length,
        time=time,
        key_size=key_size,
        block_size=block_size,
        hostname=printable(hostname),
        version_string=printable(version_string),
        panic_string=printable(block[at:end]),
        compression=block[end] if version >= 3 else 0,
        extent=extent,
        parity_ok=parity(block) == 0,
    )


def at_end(reader: Reader, start: int, end: int) -> DumpArea | None:
    """The dump that a trailing header within ``[start, end)`` tells of: on a device, or a live dump.

    Raises:
        FormatError: there is such a header, but it is impossible.
    """
    for size in BLOCK_SIZES:
        at = end - size
        if at < start:
            break
        block = reader.buffer[at : at + HEADER_SIZE]
        header = parse(block)
        if header is not None:
            return _area(reader, start, at, header, block)
    return None


def _area(reader: Reader, start: int, trailer: int, header: KernelDumpHeader, block: bytes) -> DumpArea:
    """The area before the trailing header at ``trailer``."""
    size = _block_size(header, HEADER_SIZE)
    if trailer - start == _round(header.length, size) and header.magic == DUMP and not header.key_size:
        return DumpArea(header, start, header.length, "live dump with its header", header.parity_ok)
    extent = _round(header.extent, size)
    offset = trailer - extent
    _check(header, extent, offset - start)
    area = DumpArea(header, offset, header.length, "dump device", _parity_ok(header, block))
    lead_block = _leading_block(reader, area, start, size)
    lead = parse(lead_block) if lead_block else None
    if header.magic == CLEARED:
        area.notes.append(
            "savecore has cleared the trailing header: the dump was saved once, and the system may have used its place "
            "since"
        )
    if lead is None:
        area.notes.append("the leading dump header is missing; the trailing one is used")
        return area
    if lead_block[_MAGIC_SIZE:] != block[_MAGIC_SIZE:] or (header.magic != CLEARED and lead.magic != header.magic):
        area.notes.append("the leading and the trailing dump header differ")
    usable = lead.key_size == header.key_size and lead.length > 0
    if usable and (header.magic == CLEARED or (lead.parity_ok and not area.parity_ok)):
        return DumpArea(lead, offset, min(lead.length, extent), area.kind, area.parity_ok, area.notes)
    return area


def _leading_block(reader: Reader, area: DumpArea, start: int, size: int) -> bytes:
    """The leading header's bytes; headers of version 1 may take 512 bytes whatever the block."""
    for at in (area.key_offset - size, area.key_offset - HEADER_SIZE):
        block = reader.buffer[max(at, start) : max(at, start) + HEADER_SIZE]
        if at >= start and is_header(block):
            return block
    return b""


def _parity_ok(header: KernelDumpHeader, block: bytes) -> bool:
    """Parity as the kernel left it: savecore overwrites the magic and nothing else."""
    if header.magic != CLEARED:
        return header.parity_ok
    return any(not parity(magic.ljust(_MAGIC_SIZE, b"\0") + block[_MAGIC_SIZE:]) for magic in (DUMP, TEXT))


def _check(header: KernelDumpHeader, extent: int, room: int) -> None:
    """Refuse what cannot be.

    Args:
        header: the header.
        extent: bytes that the dump takes on its device.
        room: bytes in front of the dump, for its header and key; negative if the dump itself does not fit.
    """
    if room < header.key_size + HEADER_SIZE:
        msg = f"the dump header claims {extent} bytes and a key of {header.key_size}, more than there is before it"
        raise FormatError(msg)
    if header.key_size > _MAX_KEY:
        msg = f"the dump header claims a key of {header.key_size} bytes"
        raise FormatError(msg)
    if header.length > extent:
        msg = f"the dump header claims {header.length} bytes of dump within an extent of {extent}"
        raise FormatError(msg)
    if not header.length:
        msg = "the dump header tells of an empty dump"
        raise FormatError(msg)


def at_start(reader: Reader) -> DumpArea | None:
    """The dump behind a leading header, as a file that was fetched or cut out without savecore has it.

    Raises:
        FormatError: there is such a header, but it is impossible.
    """
    block = reader.buffer[0:HEADER_SIZE]
    header = parse(block)
    if header is None:
        return None
    offset = _first_block(reader, header) + header.key_size
    if header.key_size > _MAX_KEY or not header.length or offset >= reader.size:
        msg = f"the dump header tells of {header.length} bytes and a key of {header.key_size}, but nothing is behind it"
        raise FormatError(msg)
    area = DumpArea(
        header, offset, min(header.length, reader.size - offset), "leading dump header", _parity_ok(header, block)
    )
    if area.length < header.length:
        area.notes.append(
            f"the file is cut off: it holds {area.length} of the {header.length} bytes that the dump header tells of"
        )
    return area


def _first_block(reader: Reader, header: KernelDumpHeader) -> int:
    """Bytes of the leading header: a block, or 512 in version 1 whatever the block."""
    sizes = (_block_size(header, HEADER_SIZE), HEADER_SIZE)
    known = [size for size in sizes if reader.buffer[size : size + 8].startswith(_STARTS)]
    return (known or sizes)[0]


def _block_size(header: KernelDumpHeader, default: int) -> int:
    return header.block_size if header.block_size in BLOCK_SIZES else default


def _round(size: int, block: int) -> int:
    return -(-size // block) * block
