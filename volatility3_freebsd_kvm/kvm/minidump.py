"""Minidump headers of every architecture and version.

A minidump is: header page, message buffer, dump_avail table (since 13.0), page bitmap, page map, pages; each part
rounded up to a page.

# Reference: sys/amd64/include/minidump.h and its siblings in i386, arm64, riscv, arm, powerpc and mips
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..exceptions import FormatError, NotADumpError
from .bitmap import DumpAvail, PageBitmap, little_endian_words
from .reader import Reader

MAGIC = b"minidump FreeBSD/"
HEADER_SIZE = 4096
_MAX_RANGES = 1024
_MAX_MAGIC = 32
_FLAGS_VERSION = 3
"""The first arm64 version whose header has ``flags``."""


class Format(NamedTuple):
    """The header of one architecture.

    Attributes:
        fields: FreeBSD's field names with their ``struct`` letters, in order, after the magic.
        versions: the known ones.
        dump_avail_version: the first that has ``dumpavailsize``.
        magic_size: bytes of the magic.
        byteorders: those to try, the likely one first.
        bitmap_word: bytes in a word of the bitmap; matters for big-endian machines.
        avail_word: bytes of an address in the dump_avail table.
    """

    fields: tuple[tuple[str, str], ...]
    versions: range
    dump_avail_version: int
    magic_size: int = 24
    byteorders: tuple[str, ...] = ("little",)
    bitmap_word: int = 8
    avail_word: int = 8
    bits: int = 64


_SIZES = (("version", "I"), ("msgbufsize", "I"), ("bitmapsize", "I"))
_DMAP64 = (("kernbase", "Q"), ("dmapphys", "Q"), ("dmapbase", "Q"), ("dmapend", "Q"))
_KERNBASE32 = (("ptesize", "I"), ("kernbase", "I"))

FORMATS = {
    "amd64": Format(
        (*_SIZES, ("pmapsize", "I"), ("kernbase", "Q"), ("dmapbase", "Q"), ("dmapend", "Q"), ("dumpavailsize", "I")),
        range(1, 4),
        dump_avail_version=3,
    ),
    "i386": Format(
        (*_SIZES, *_KERNBASE32, ("paemode", "I"), ("dumpavailsize", "I")),
        range(1, 3),
        dump_avail_version=2,
        bitmap_word=4,
        bits=32,
    ),
    "arm64": Format(
        (*_SIZES, ("pmapsize", "I"), *_DMAP64, ("dumpavailsize", "I"), ("flags", "I")),
        range(1, 4),
        dump_avail_version=2,
    ),
    "riscv": Format(
        (*_SIZES, ("pmapsize", "I"), *_DMAP64, ("dumpavailsize", "I")),
        range(1, 3),
        dump_avail_version=2,
    ),
    # Version 1 of 9.x and 10.x ends after kernbase; the rest of the page is zero, which reads as "unknown".
    "arm": Format(
        (*_SIZES, *_KERNBASE32, ("arch", "I"), ("mmuformat", "I"), ("dumpavailsize", "I")),
        range(1, 3),
        dump_avail_version=2,
        byteorders=("little", "big"),
        bitmap_word=4,
        avail_word=4,
        bits=32,
    ),
    "mips": Format(
        (*_SIZES, ("ptesize", "I"), ("kernbase", "Q"), ("dmapbase", "Q"), ("dmapend", "Q"), ("dumpavailsize", "I")),
        range(1, 3),
        dump_avail_version=2,
        byteorders=("big", "little"),
        bitmap_word=4,
    ),
    "powerpc64": Format(
        (
            ("mmu_name", "32s"),
            *_SIZES,
            ("pmapsize", "I"),
            ("kernbase", "Q"),
            ("kernend", "Q"),
            ("dmapbase", "Q"),
            ("dmapend", "Q"),
            ("hw_direct_map", "i4x"),
            ("startkernel", "Q"),
            ("endkernel", "Q"),
            ("dumpavailsize", "I"),
        ),
        range(1, 3),
        dump_avail_version=2,
        magic_size=32,
        byteorders=("big", "little"),
    ),
}


class MinidumpHeader(NamedTuple):
    """A decoded header, with FreeBSD's field names. Sizes in bytes; fields that the format lacks are 0 or empty.

    ``pmapsize`` also stands for what i386, arm and mips call ``ptesize``.
    """

    architecture: str
    version: int
    byteorder: str
    page_size: int
    word_bits: int
    msgbufsize: int
    bitmapsize: int
    pmapsize: int
    kernbase: int
    dumpavailsize: int = 0
    dmapphys: int = 0
    dmapbase: int = 0
    dmapend: int = 0
    flags: int = 0
    paemode: int = 0
    arch: int = 0
    mmuformat: int = 0
    mmu_name: str = ""
    kernend: int = 0
    hw_direct_map: int = 0
    startkernel: int = 0
    endkernel: int = 0

    def _round(self, size: int) -> int:
        return -(-size // self.page_size) * self.page_size

    @property
    def msgbuf_off(self) -> int:
        """File offset of the message buffer."""
        return self.page_size

    @property
    def dump_avail_off(self) -> int:
        """File offset of the dump_avail table, or where it would be."""
        return self.msgbuf_off + self._round(self.msgbufsize)

    @property
    def bitmap_off(self) -> int:
        """File offset of the page bitmap."""
        return self.dump_avail_off + self._round(self.dumpavailsize)

    @property
    def pmap_off(self) -> int:
        """File offset of the page map."""
        return self.bitmap_off + self._round(self.bitmapsize)

    @property
    def pages_off(self) -> int:
        """File offset of the first page."""
        return self.pmap_off + self._round(self.pmapsize)

    @property
    def pte_size(self) -> int:
        """Bytes in a page map entry where the architecture leaves it open (mips)."""
        return 8 if self.word_bits == 64 else 4

    @property
    def name(self) -> str:
        """Format and version, e.g. ``minidump, version 3``."""
        return f"minidump, version {self.version}"


def is_minidump(start: bytes) -> bool:
    """Whether a file that begins with ``start`` claims to be a minidump. libkvm looks at the first 8 bytes only."""
    return start.startswith(b"minidump")


def parse_header(page: bytes) -> MinidumpHeader:
    """Decode the header page.

    Args:
        page: the first 4096 bytes of the file.

    Raises:
        NotADumpError: this is no minidump.
        FormatError: it is one that cannot be read, and why.
    """
    if not is_minidump(page):
        msg = "no minidump: the file does not begin with the minidump magic"
        raise NotADumpError(msg)
    if len(page) < HEADER_SIZE:
        msg = f"the minidump is cut off within its header: {len(page)} bytes of {HEADER_SIZE}"
        raise FormatError(msg)
    magic = page[:_MAX_MAGIC].split(b"\0")[0]
    architecture = magic.removeprefix(MAGIC).decode("ascii", "backslashreplace")
    known = FORMATS.get(architecture)
    if known is None or page[: known.magic_size] != (MAGIC + architecture.encode()).ljust(known.magic_size, b"\0"):
        msg = f"a minidump of an unknown architecture {architecture!r}; known are {', '.join(FORMATS)}"
        raise FormatError(msg)
    return _build(architecture, known, page)


def _build(architecture: str, known: Format, page: bytes) -> MinidumpHeader:
    layout = "".join(letters for _, letters in known.fields)
    values: dict[str, int] = {}
    mmu_name = ""
    for byteorder in known.byteorders:
        unpacked = struct.unpack_from((">" if byteorder == "big" else "<") + layout, page, known.magic_size)
        values = dict(zip((name for name, _ in known.fields), unpacked, strict=True))
        if values["version"] in known.versions:
            break
    else:
        msg = (
            f"{architecture} minidump version {values['version']} (or {_swapped(values['version'])} in the other byte "
            f"order) is not known; versions {known.versions[0]} to {known.versions[-1]} are"
        )
        raise FormatError(msg)
    if "mmu_name" in values:
        mmu_name = str(values.pop("mmu_name").split(b"\0")[0], "ascii", "replace")  # type: ignore[attr-defined]
        if byteorder == "little":
            architecture += "le"
    if values["version"] < known.dump_avail_version:
        values["dumpavailsize"] = 0
    flags = values.pop("flags", 0) if values["version"] >= _FLAGS_VERSION else 0
    values.pop("flags", None)
    values["pmapsize"] = values.pop("ptesize", values.get("pmapsize", 0))
    bits = known.bits
    if architecture == "mips" and values["kernbase"] >> 32 in (0, 0xFFFFFFFF):
        bits = 32
    return MinidumpHeader(
        architecture=architecture,
        byteorder=byteorder,
        page_size=_page_size(flags),
        word_bits=bits,
        flags=flags,
        mmu_name=mmu_name,
        **values,
    )


def _swapped(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")


def _page_size(flags: int) -> int:
    """Page size by the arm64 header flags (0 in every other format).

    Raises:
        FormatError: 64 KiB or reserved.
    """
    sizes = {0: 4096, 1: 16384}
    if flags & 3 not in sizes:
        msg = f"page size code {flags & 3} in the arm64 minidump header is not supported; 0 (4 KiB) and 1 (16 KiB) are"
        raise FormatError(msg)
    return sizes[flags & 3]


def check_header(header: MinidumpHeader, size: int) -> list[str]:
    """Check a header against the length of its file.

    Returns:
        Oddities that do not prevent reading, one sentence each.

    Raises:
        FormatError: the dump cannot be read.
    """
    warnings = []
    if not header.bitmapsize or header.bitmapsize % (4 if header.word_bits == 32 else 8):
        msg = f"the page bitmap has an impossible size of {header.bitmapsize} bytes"
        raise FormatError(msg)
    if header.pmap_off - header._round(header.bitmapsize) + header.bitmapsize > size:
        msg = (
            f"the minidump is cut off before its pages: the page bitmap would end at {header.pmap_off:#x}, "
            f"but the file has {size:#x} bytes"
        )
        raise FormatError(msg)
    for name in ("kernbase", "dmapbase", "dmapphys"):
        if getattr(header, name) % header.page_size:
            msg = f"{name} is {getattr(header, name):#x}, which is no page boundary"
            raise FormatError(msg)
    if header.dmapbase and header.dmapbase >= header.dmapend:
        msg = f"the direct map {header.dmapbase:#x}-{header.dmapend:#x} is empty or upside down"
        raise FormatError(msg)
    if header.pages_off > size:
        warnings.append(f"the file ends at {size:#x}, before the first page at {header.pages_off:#x}")
    if not header.pmapsize:
        warnings.append("the page map is empty: only direct-mapped addresses can be translated")
    return warnings


def read_bitmap(header: MinidumpHeader, reader: Reader) -> PageBitmap:
    """Read dump_avail and the page bitmap, and index them.

    Raises:
        FormatError: the two contradict each other, or are damaged.
    """
    known = FORMATS[header.architecture.removesuffix("le")]
    data = reader.buffer[header.bitmap_off : header.bitmap_off + header.bitmapsize]
    data = little_endian_words(data, known.bitmap_word, header.byteorder)
    if not header.dumpavailsize:
        avail = DumpAvail([(0, 8 * len(data) * header.page_size)], header.page_size)
    else:
        # One page is all that the kernel writes, whatever the size field says.
        table = reader.buffer[
            header.dump_avail_off : header.dump_avail_off + min(header.dumpavailsize, header.page_size)
        ]
        avail = _read_dump_avail(table, known.avail_word, header, 8 * len(data))
    return PageBitmap(data, avail)


def _read_dump_avail(table: bytes, word: int, header: MinidumpHeader, bits: int) -> DumpAvail:
    """The table, by the width of its entries.

    On arm both widths may exist (libkvm changed its mind): the one that fits the bitmap wins.
    """
    errors = []
    for width in (8, 4) if word == 4 else (8,):
        try:
            avail = DumpAvail(parse_dump_avail(table, width, header.byteorder), header.page_size)
        except FormatError as error:
            errors.append(error)
            continue
        if word == 8 or bits - 8 * header.page_size < avail.bits <= bits:
            return avail
        errors.append(FormatError(f"dump_avail describes {avail.bits} pages, the page bitmap has {bits} bits"))
    raise errors[0]


def parse_dump_avail(table: bytes, width: int, byteorder: str) -> Sequence[tuple[int, int]]:
    """``(start, end)`` pairs up to the one whose end is 0.

    Raises:
        FormatError: there is no pair at all.
    """
    layout = struct.Struct((">" if byteorder == "big" else "<") + ("2Q" if width == 8 else "2I"))
    ranges: list[tuple[int, int]] = []
    usable = len(table) // layout.size * layout.size
    for start, end in layout.iter_unpack(table[:usable]):
        if not end or len(ranges) == _MAX_RANGES:
            break
        ranges.append((start, end))
    if not ranges:
        msg = "the dump_avail table is empty"
        raise FormatError(msg)
    return ranges
