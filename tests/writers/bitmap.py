"""The dump_avail table and the page bitmap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .headers import ByteOrder

Range = tuple[int, int]
"""Physical start and exclusive end."""


def pack_dump_avail(ranges: Sequence[Range], entry_size: int, page_size: int, byteorder: ByteOrder) -> bytes:
    """Return the table: (start, end) pairs, ended by a pair of zeros, in exactly one page."""
    table = b"".join(value.to_bytes(entry_size, byteorder) for pair in [*ranges, (0, 0)] for value in pair)
    if len(table) > page_size:
        raise ValueError(f"{len(ranges)} ranges do not fit into a dump_avail page")
    return table.ljust(page_size, b"\0")


def bit_of(ranges: Sequence[Range], pa: int, page_size: int) -> int | None:
    """Return the number of the bit of the page that holds `pa`, or None if no range touches that page.

    A range owns every page that it touches. Two ranges that touch the same page both count it, as in the kernel;
    the page then belongs to the bit of the first.
    """
    page = pa // page_size
    bits_before = 0
    for start, end in ranges:
        first, behind = start // page_size, -(-end // page_size)
        if first <= page < behind:
            return bits_before + page - first
        bits_before += behind - first
    return None


def bit_count(ranges: Sequence[Range], page_size: int) -> int:
    """Return how many bits the ranges define."""
    return sum(-(-end // page_size) - start // page_size for start, end in ranges)


def pack_bitmap(bits: Iterable[int], total: int, word_size: int, page_size: int, byteorder: ByteOrder) -> bytes:
    """Return the bitmap, rounded up to whole pages.

    Args:
        bits: Numbers of the bits that are set.
        total: How many bits are defined.
        word_size: Bytes of one word of the kernel's `vm_page_dump` array.
        page_size: Bytes of one page.
        byteorder: Byte order of the words.
    """
    size = max(-(-total // (8 * page_size)), 1) * page_size
    words = [0] * (size // word_size)
    for bit in bits:
        if not 0 <= bit < total:
            raise ValueError(f"bit {bit} is outside the bitmap of {total} bits")
        words[bit // (8 * word_size)] |= 1 << (bit % (8 * word_size))
    return b"".join(word.to_bytes(word_size, byteorder) for word in words)
