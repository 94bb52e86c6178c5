"""Which physical pages a minidump holds, and where in the file.

A minidump has one bit per physical page. Since FreeBSD 13 the bits cover only the ranges of ``dump_avail``; before, all
pages from physical address 0 on. The pages follow in the order of the bits, so the place of a page is the number of
bits set below its own. libkvm keeps one running count per 1024 bits, and so do we.

# Reference: lib/libkvm/kvm_private.c (_kvm_pt_init, _kvm_pt_find, _kvm_pa_bit_id, _kvm_bit_id_pa), sys/vm/vm_dumpset.h
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from ..exceptions import FormatError

POPCOUNT_BITS = 1024
"""Bits per running count, as in libkvm."""

_BIN_BYTES = POPCOUNT_BITS // 8
_SCAN_BYTES = 1 << 16
_EXTENT_BITS = 1 << 12
_NONZERO = re.compile(rb"[^\x00]")
_SET_BITS = [tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256)]


def little_endian_words(data: bytes, word_size: int, byteorder: str) -> bytes:
    """The bitmap with bit *n* at bit ``n % 8`` of byte ``n // 8``, whatever machine wrote it.

    Args:
        data: the bitmap section of the dump.
        word_size: bytes in one word of the kernel's bit set (4 or 8).
        byteorder: the kernel's, ``little`` or ``big``.
    """
    if byteorder == "little":
        return data
    words = array("Q" if word_size == 8 else "I", data + bytes(-len(data) % word_size))
    words.byteswap()
    return words.tobytes()


class DumpAvail:
    """The physical ranges that the bits stand for: the kernel's ``dump_avail``.

    Both bounds of a range count: an address in a gap is not an address of the range before it (libkvm checks the upper
    bound only and returns the bytes of another page).
    """

    def __init__(self, ranges: Sequence[tuple[int, int]], page_size: int) -> None:
        """Check and index ``(start, end)`` pairs, end exclusive, in the order of the file.

        Raises:
            FormatError: the ranges are empty, descending or overlapping.
        """
        previous_end = 0
        for start, end in ranges:
            if not previous_end <= start < end:
                msg = (
                    f"dump_avail is damaged: range {start:#x}-{end:#x} is empty, descending or overlaps the one before"
                )
                raise FormatError(msg)
            previous_end = end
        self.ranges = tuple(ranges)
        self.page_size = page_size
        self._shift = page_size.bit_length() - 1
        self._first_pages = [start >> self._shift for start, _ in ranges]
        self._end_pages = [-(-end >> self._shift) for _, end in ranges]
        sizes = [end - first for first, end in zip(self._first_pages, self._end_pages, strict=True)]
        self._first_bits = [0, *accumulate(sizes)]
        self.bits = self._first_bits.pop()

    def bit(self, page: int) -> int:
        """The bit of physical page number ``page``, or -1 if no range covers it."""
        index = bisect_right(self._first_pages, page) - 1
        if index < 0 or page >= self._end_pages[index]:
            return -1
        # Two unaligned neighbours can share a page; the kernel always uses the first range that holds it.
        while index and page < self._end_pages[index - 1]:
            index -= 1
        return page - self._first_pages[index] + self._first_bits[index]

    def page(self, bit: int) -> int:
        """The physical page number of ``bit``, or -1 if no range has that many bits."""
        if not 0 <= bit < self.bits:
            return -1
        index = bisect_right(self._first_bits, bit) - 1
        return bit - self._first_bits[index] + self._first_pages[index]

    def spans(self, first_page: int, end_page: int) -> Iterator[tuple[int, int, int]]:
        """``(first bit, end bit, first page)`` of each range's part within ``[first_page, end_page)``."""
        start = max(0, bisect_right(self._first_pages, first_page) - 1)
        while start and first_page < self._end_pages[start - 1]:
            start -= 1
        for index in range(start, len(self._first_pages)):
            first = self._first_pages[index]
            if first >= end_page:
                return
            previous_end = self._end_pages[index - 1] if index else 0
            low, high = max(first, first_page, previous_end), min(self._end_pages[index], end_page)
            if low < high:
                yield self._first_bits[index] + low - first, self._first_bits[index] + high - first, low


class PageBitmap:
    """The popcount index: page to place in O(1), and back.

    Attributes:
        count: number of pages that the dump promises.
        avail: the ranges the bits stand for.
        stray_bits: bits set beyond the last range; they take no part in anything.
    """

    def __init__(self, data: bytes, avail: DumpAvail) -> None:
        """Index ``data``, whose bit *n* is bit ``n % 8`` of byte ``n // 8``.

        Raises:
            FormatError: the ranges need more bits than there are.
        """
        if avail.bits > 8 * len(data):
            msg = f"dump_avail describes {avail.bits} pages, but the page bitmap has only {8 * len(data)} bits"
            raise FormatError(msg)
        self.avail = avail
        self._data = data
        counts = (
            int.from_bytes(data[at : at + _BIN_BYTES], "little").bit_count() for at in range(0, len(data), _BIN_BYTES)
        )
        self._bins = array("Q", [0])
        self._bins.extend(accumulate(counts))
        self.count = self._rank(avail.bits)
        self.stray_bits = self._bins[-1] - self.count

    def _rank(self, bit: int) -> int:
        """Number of bits set below ``bit``."""
        start = (bit >> 10) * _BIN_BYTES
        chunk = int.from_bytes(self._data[start : (bit >> 3) + 1], "little")
        return self._bins[bit >> 10] + (chunk & ((1 << (bit & 1023)) - 1)).bit_count()

    def place(self, page: int) -> int:
        """How many dumped pages lie before physical page number ``page``, or -1 if it is not dumped."""
        bit = self.avail.bit(page)
        if bit < 0:
            return -1
        # The same as `_rank`, but every read of a new page comes through here.
        start = (bit >> 10) * _BIN_BYTES
        chunk = int.from_bytes(self._data[start : (bit >> 3) + 1], "little")
        within = bit & 1023
        if not chunk >> within & 1:
            return -1
        return self._bins[bit >> 10] + (chunk & ((1 << within) - 1)).bit_count()

    def page_at(self, place: int) -> int:
        """The physical page number of the ``place``-th dumped page, or -1: the inverse of `place`."""
        if not 0 <= place < self.count:
            return -1
        index = bisect_right(self._bins, place) - 1
        rest = place - self._bins[index]
        start = index * _BIN_BYTES
        for at in range(start, start + _BIN_BYTES):
            bits = _SET_BITS[self._data[at]]
            if rest < len(bits):
                return self.avail.page(8 * at + bits[rest])
            rest -= len(bits)
        return -1

    def extent(self, page: int, limit: int) -> int:
        """How many pages from ``page`` on, at most ``limit``, are dumped without a gap."""
        bit = self.avail.bit(page)
        if bit < 0:
            return 0
        # Never past the end of the range: the next bit may be a page elsewhere.
        limit = min(limit, next(end - first for first, end, _ in self.avail.spans(page, page + limit)))
        found = 0
        while found < limit:
            size = min(limit - found, _EXTENT_BITS)
            at = bit + found
            chunk = int.from_bytes(self._data[at >> 3 : ((at + size) >> 3) + 1], "little") >> (at & 7)
            ones = ((chunk + 1) & ~chunk).bit_length() - 1
            found += min(ones, size)
            if ones < size:
                break
        return found

    def runs(self, first_page: int = 0, end_page: int = 1 << 64) -> Iterator[tuple[int, int, int]]:
        """``(page, number of pages, place)`` of each stretch of consecutive dumped pages, ascending."""
        for first_bit, end_bit, page in self.avail.spans(first_page, end_page):
            place = self._rank(first_bit)
            for start, end in self._stretches(first_bit, end_bit):
                yield page + start - first_bit, end - start, place
                place += end - start

    def _stretches(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """``[start, end)`` of each stretch of ones among bits ``[first, end)``."""
        start = -1
        carry = 0
        last = (end + 7) >> 3
        for at in range(first >> 3, last, _SCAN_BYTES):
            base = at << 3
            size = min(_SCAN_BYTES, last - at)
            bits = int.from_bytes(self._data[at : at + size], "little")
            if base < first:
                bits = bits >> (first - base) << (first - base)
            if base + 8 * size > end:
                bits &= (1 << (end - base)) - 1
            # A one in `edges` is where the value changes; everything between costs nothing.
            edges = (bits ^ (bits << 1) ^ carry) & ((1 << 8 * size) - 1)
            carry = bits >> (8 * size - 1)
            for match in _NONZERO.finditer(edges.to_bytes(size, "little")):
                byte_at = base + (match.start() << 3)
                for bit in _SET_BITS[match.group()[0]]:
                    if start < 0:
                        start = byte_at + bit
                    else:
                        yield start, byte_at + bit
                        start = -1
        if start >= 0:
            yield start, end
