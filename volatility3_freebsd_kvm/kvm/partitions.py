"""Where the partitions of a disk image are: GPT, MBR and, within a slice or on the whole disk, a BSD label.

# Reference: sys/sys/disk/gpt.h, sys/sys/disk/mbr.h, sys/sys/disk/bsd.h, sys/geom/part/g_part_bsd.c
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .reader import Reader

Partition = tuple[int, int, str]
"""``(start, end, name)`` in bytes of the image."""

_SECTORS = (512, 4096)
_GPT_MAGIC = b"EFI PART"
_MAX_ENTRIES = 1024
_ENTRY_SIZES = (128, 4096)
_MBR_MAGIC, _MBR_MAGIC_AT, _MBR_ENTRIES_AT = b"\x55\xaa", 510, 446
_FREEBSD_SLICE = 0xA5
_LABEL_MAGIC = 0x82564557
_LABEL_ENTRIES_AT = 148
_MAX_LABEL_ENTRIES = 26
_RAW_PARTITION = 2
"""Partition c, the whole slice: the label's offsets may count from the slice or from the disk, and it tells."""


def partitions(reader: Reader) -> Iterator[Partition]:
    """The partitions within an image, in the order of its tables; those that are not within it are left out."""
    for start, end, name in _all(reader):
        if 0 <= start < end <= reader.size:
            yield start, end, name


def _all(reader: Reader) -> Iterator[Partition]:
    for sector in _SECTORS:
        header = reader.buffer[sector : sector + 92]
        if header.startswith(_GPT_MAGIC) and len(header) == 92:
            yield from _gpt(reader, header, sector)
            return
    yield from _label(reader, 0, "")
    yield from _mbr(reader)


def _gpt(reader: Reader, header: bytes, sector: int) -> Iterator[Partition]:
    first, count, size = struct.unpack_from("<QII", header, 72)
    if not _ENTRY_SIZES[0] <= size <= _ENTRY_SIZES[1]:
        return
    table = reader.buffer[first * sector : first * sector + min(count, _MAX_ENTRIES) * size]
    for number in range(len(table) // size):
        kind, low, high = struct.unpack_from("<16s16xQQ", table, number * size)
        if any(kind):
            yield low * sector, (high + 1) * sector, f"p{number + 1}"


def _mbr(reader: Reader) -> Iterator[Partition]:
    block = reader.buffer[0:512]
    if block[_MBR_MAGIC_AT:] != _MBR_MAGIC:
        return
    for number in range(4):
        kind, first, count = struct.unpack_from("<4xB3xII", block, _MBR_ENTRIES_AT + 16 * number)
        if kind and count:
            name = f"s{number + 1}"
            yield first * 512, (first + count) * 512, name
            if kind == _FREEBSD_SLICE:
                yield from _label(reader, first * 512, name)


def _label(reader: Reader, slice_start: int, name: str) -> Iterator[Partition]:
    """The partitions of the BSD label in the second sector of a slice."""
    label = reader.buffer[slice_start + 512 : slice_start + 1024]
    if len(label) < 512 or (magics := struct.unpack_from("<I128xI", label))[0] != _LABEL_MAGIC or len(set(magics)) > 1:
        return
    (count,) = struct.unpack_from("<H", label, 138)
    room = (len(label) - _LABEL_ENTRIES_AT) // 16
    entries = [
        struct.unpack_from("<II4xB", label, _LABEL_ENTRIES_AT + 16 * number)
        for number in range(min(count, _MAX_LABEL_ENTRIES, room))
    ]
    base = entries[_RAW_PARTITION][1] if len(entries) > _RAW_PARTITION else 0
    for number, (size, offset, _) in enumerate(entries):
        if size and number != _RAW_PARTITION and offset >= base:
            start = slice_start + (offset - base) * 512
            yield start, start + size * 512, f"{name}{chr(ord('a') + number)}"
