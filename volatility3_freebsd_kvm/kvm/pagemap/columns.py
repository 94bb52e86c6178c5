"""Looking at one entry of every page at once: how page tables are found that nothing points to.

A page table that maps itself, or the kernel, does so in an entry whose index is known. A strided view takes just that
word of each page: some ten million pages a second, where reading page by page does less than a tenth of it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Literal

from ..physical import PhysicalMemory
from ..reader import MmapReader, Reader

_CODES: dict[int, Literal["I", "Q"]] = {4: "I", 8: "Q"}
_BLOCK = 16 << 20
PAGE = 4096


def column(
    memory: PhysicalMemory, at: int, size: int = 8, start: int = 0, end: int = 1 << 64, step: int = PAGE
) -> Iterator[tuple[int, Sequence[int]]]:
    """``(pa, words)``: the little-endian word at ``at`` of the page at ``pa``, and of each behind it.

    Only pages that lie wholly in one run of ``[start, end)`` are looked at.

    Args:
        memory: where to look.
        at: offset of the word in its page.
        size: of the word, 4 or 8 bytes.
        start: physical address, inclusive.
        end: physical address, exclusive.
        step: bytes of a page.
    """
    for run in memory.runs(start, end):
        for offset, length in stretches(memory.reader, run.offset, run.length):
            pa = run.pa + offset - run.offset
            first = max(pa // step, -(-run.pa // step)) * step
            last = min(-(-(pa + length) // step), (run.pa + run.length) // step) * step
            for page in range(first, last, _BLOCK):
                part = min(_BLOCK, last - page)
                yield page, words(memory.reader, run.offset + page - run.pa, part, at, size, step)


def words(reader: Reader, offset: int, length: int, at: int, size: int, step: int) -> list[int]:
    """The words at ``at`` of every ``step`` bytes in a part of a file, of which there is enough."""
    try:
        whole = memoryview(reader.buffer)  # type: ignore[arg-type]
    except TypeError:
        whole = memoryview(reader.buffer[offset : offset + length])
        offset = 0
    # Views keep a mapping from being closed, so none may be left behind.
    with (
        whole,
        whole[offset : offset + length] as part,
        part.cast(_CODES[size]) as every,
        every[at // size :: step // size] as chosen,
    ):
        found: list[int] = chosen.tolist()
    if sys.byteorder == "big":
        swapped = array(_CODES[size], found)
        swapped.byteswap()
        found = swapped.tolist()
    return found


def own_address(
    memory: PhysicalMemory, at: int, frame: int, flags: int, wanted: int, size: int = 8, end: int = 1 << 32
) -> Iterator[int]:
    """Pages whose entry at offset ``at`` refers to the page itself.

    Args:
        memory: where to look.
        at: offset of the entry.
        frame: the bits of an entry that are an address.
        flags: the bits of an entry that must be as in ``wanted``.
        wanted: see ``flags``.
        size: of the entry.
        end: where to stop.
    """
    mask = frame | flags
    for first, entries in column(memory, at, size, end=end):
        for pa, entry in enumerate_pages(first, entries):
            if entry & mask == pa | wanted:
                yield pa


def enumerate_pages(first: int, entries: Sequence[int], step: int = PAGE) -> Iterator[tuple[int, int]]:
    """``(pa, entry)`` of a column."""
    return zip(range(first, first + len(entries) * step, step), entries, strict=True)


def occurrences(reader: Reader, offset: int, length: int, pattern: bytes) -> Iterator[int]:
    """File offsets of ``pattern`` in a part of a file, ascending."""
    overlap = len(pattern) - 1
    for first, size in stretches(reader, offset, length):
        for start in range(first, first + size, _BLOCK):
            data = reader.buffer[start : min(start + _BLOCK + overlap, first + size)]
            found = data.find(pattern)
            while found >= 0:
                yield start + found
                found = data.find(pattern, found + 1)


def stretches(reader: Reader, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """``(file offset, length)`` of a part of a file without its holes, where the system can tell these.

    Images are often sparse; looking for something in gigabytes of nothing would take seconds and memory.
    """
    if not isinstance(reader, MmapReader) or reader.path is None or not hasattr(os, "SEEK_DATA"):
        yield offset, length
        return
    at, end = offset, offset + length
    try:
        with reader.path.open("rb", buffering=0) as file:
            while at < end and (start := _seek(file, at, os.SEEK_DATA)) < end:
                at = _seek(file, start, os.SEEK_HOLE)
                yield start, min(at, end) - start
    except OSError:
        # Moved away or a file system that cannot tell: nothing is taken for a hole.
        if at < end:
            yield at, end - at


def _seek(file: io.FileIO, at: int, whence: int) -> int:
    """Where data or a hole begins; far behind everything if there is none."""
    try:
        return file.seek(at, whence)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return 1 << 63
