"""The popcount index against a reader that looks at one bit at a time."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.writers.bitmap import pack_bitmap, pack_dump_avail
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm.bitmap import POPCOUNT_BITS, DumpAvail, PageBitmap, little_endian_words
from volatility3_freebsd_kvm.kvm.minidump import parse_dump_avail

PAGE = 4096
MIB = 1 << 20
Range = tuple[int, int]


class Naive:
    """What the kernel means by a bitmap and dump_avail, without any index."""

    def __init__(self, bits: Sequence[bool], ranges: Sequence[Range], page_size: int = PAGE) -> None:
        self.pages: list[int] = []
        """The page of every dumped place."""
        self.places: dict[int, int] = {}
        """The place of every page that is dumped, by the first range that holds the page."""
        self.dumped: dict[int, bool] = {}
        """Every page of the ranges."""
        bit = 0
        for start, end in ranges:
            for page in range(start // page_size, -(-end // page_size)):
                if bits[bit]:
                    if page not in self.dumped:
                        self.places[page] = len(self.pages)
                    self.pages.append(page)
                self.dumped.setdefault(page, bits[bit])
                bit += 1
        self.stray = sum(bits[bit:])

    def extent(self, page: int, limit: int) -> int:
        """How many pages follow each other in memory and in the file."""
        count = 0
        while count < limit and self.places.get(page + count) == self.places.get(page, 0) + count:
            count += 1
        return count

    def runs(self) -> list[tuple[int, int, int]]:
        """Maximal stretches of pages that are neighbours in memory and in the file."""
        found: list[list[int]] = []
        for page, place in sorted(self.places.items()):
            if found and page == found[-1][0] + found[-1][1] and place == found[-1][2] + found[-1][1]:
                found[-1][1] += 1
            else:
                found.append([page, 1, place])
        return [(page, count, place) for page, count, place in found]


def joined(runs: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Runs with those that continue each other across a range's border put together."""
    found: list[tuple[int, int, int]] = []
    for page, count, place in runs:
        if found and sum(found[-1][:2]) == page and found[-1][2] + found[-1][1] == place:
            page, count, place = found[-1][0], found[-1][1] + count, found[-1][2]
            found.pop()
        found.append((page, count, place))
    return found


def assert_agrees(bitmap: PageBitmap, naive: Naive) -> None:
    """Check everything about every page near the ranges, and about every place."""
    assert bitmap.count == len(naive.pages)
    assert bitmap.stray_bits == naive.stray
    assert [bitmap.page_at(place) for place in range(bitmap.count)] == naive.pages
    assert bitmap.page_at(bitmap.count) == bitmap.page_at(-1) == -1
    edges = {page + near for page in naive.dumped for near in (-1, 0, 1)}
    for page in sorted(edges):
        assert bitmap.place(page) == naive.places.get(page, -1), page
        for limit in (1, 2, 9, 1 << 40):
            # The next range is another stretch, even where it continues this one.
            expected = naive.extent(page, min(limit, 1 << 14))
            assert min(bitmap.extent(page, limit), 1) == min(expected, 1), (page, limit)
            assert bitmap.extent(page, limit) <= expected, (page, limit)
    assert joined(list(bitmap.runs())) == naive.runs()


@st.composite
def aligned_ranges(draw: st.DrawFn) -> list[Range]:
    """Up to 12 ranges of whole pages, some of them neighbours."""
    ranges = []
    end = draw(st.sampled_from([0, 5, 1 << 20, (1 << 52) - (1 << 13)]))
    for gap, size in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 70)), min_size=1, max_size=12)):
        ranges.append(((end + gap) * PAGE, (end + gap + size) * PAGE))
        end += gap + size
    return ranges


@st.composite
def odd_ranges(draw: st.DrawFn) -> list[Range]:
    """Ranges that start and end anywhere, so that neighbours may share a page."""
    ranges = []
    end = 0
    step = st.integers(1, 3 * PAGE)
    for gap, size in draw(st.lists(st.tuples(st.sampled_from([0, 1, 100, PAGE]), step), min_size=1, max_size=12)):
        ranges.append((end + gap, end + gap + size))
        end += gap + size
    return ranges


def bits_of(ranges: Sequence[Range], page_size: int = PAGE) -> int:
    return sum(-(-end // page_size) - start // page_size for start, end in ranges)


def random_bits(seed: int, density: float, count: int) -> list[bool]:
    """Stretches rather than noise: real bitmaps have both."""
    rng = random.Random(seed)
    bits: list[bool] = []
    while len(bits) < count:
        bits += [rng.random() < density] * rng.choice([1, 1, 2, 7, 40])
    return bits[:count]


DENSITY = st.sampled_from([0, 0.05, 0.5, 0.95, 1])


@settings(deadline=None, max_examples=80)
@given(aligned_ranges(), st.integers(0, 1 << 32), DENSITY, st.sampled_from([("little", 8), ("big", 8), ("big", 4)]))
def test_index_agrees_with_single_bits(ranges: list[Range], seed: int, density: float, words: tuple[str, int]):
    byteorder, word = words
    total = bits_of(ranges)
    bits = random_bits(seed, density, total)
    data = pack_bitmap([n for n, one in enumerate(bits) if one], total, word, PAGE, byteorder)  # type: ignore[arg-type]
    bits += [False] * (8 * len(data) - total)
    bitmap = PageBitmap(little_endian_words(data, word, byteorder), DumpAvail(ranges, PAGE))
    assert_agrees(bitmap, Naive(bits, ranges))


@settings(deadline=None, max_examples=80)
@given(odd_ranges(), st.integers(0, 1 << 32), DENSITY)
def test_index_agrees_where_ranges_share_pages(ranges: list[Range], seed: int, density: float):
    """A page that two ranges touch is counted twice; only the first range's bit stands for it."""
    total = bits_of(ranges)
    bits = random_bits(seed, density, total)
    # The kernel never sets the second bit: it looks a page up in the first range that holds it.
    bit, seen = 0, set()
    for start, end in ranges:
        for page in range(start // PAGE, -(-end // PAGE)):
            bits[bit] = bits[bit] and page not in seen
            seen.add(page)
            bit += 1
    data = pack_bitmap([n for n, one in enumerate(bits) if one], total, 8, PAGE, "little")
    bits += [False] * (8 * len(data) - total)
    assert_agrees(PageBitmap(data, DumpAvail(ranges, PAGE)), Naive(bits, ranges))


def test_a_shared_page_that_is_dumped_twice_is_listed_once():
    """Only a forged bitmap has both bits; `runs` must still say what `place` says."""
    ranges = [(0x1000, 0x1800), (0x1800, 0x3000)]
    bitmap = PageBitmap(b"\x07" + bytes(7), DumpAvail(ranges, PAGE))
    assert [bitmap.place(page) for page in range(4)] == [-1, 0, 2, -1]
    assert list(bitmap.runs()) == [(1, 1, 0), (2, 1, 2)]


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=600), st.integers(0, 70), st.integers(0, 7000))
def test_any_size_of_bitmap(data: bytes, first: int, size: int):
    """Sizes that trip libkvm's assertion (8 * size % 1024 >= 512) and those that are no multiple of a word."""
    size = max(1, min(size, 8 * len(data)))
    bits = [bool(byte >> bit & 1) for byte in data for bit in range(8)]
    ranges = [(first * PAGE, (first + size) * PAGE)]
    assert_agrees(PageBitmap(data, DumpAvail(ranges, PAGE)), Naive(bits, ranges))


@pytest.mark.parametrize("bits", [1, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 65536 * 8, 65536 * 8 + 8])
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x55, 0x80])
def test_borders_of_bins_and_of_scanned_blocks(bits: int, fill: int):
    size = -(-bits // 8)
    data = bytes([fill]) * size
    bitmap = PageBitmap(data, DumpAvail([(0, bits * PAGE)], PAGE))
    ones = [n for n in range(bits) if fill >> (n & 7) & 1]
    assert bitmap.count == len(ones)
    assert bitmap.stray_bits == 8 * size // 8 * fill.bit_count() - len(ones)
    assert [page for page, count, _ in bitmap.runs() for page in range(page, page + count)] == ones
    assert [place for _, count, place in bitmap.runs() for place in range(place, place + count)] == [*range(len(ones))]
    for place in {0, 1, len(ones) // 2, len(ones) - 2, len(ones) - 1} & {*range(len(ones))}:
        assert bitmap.page_at(place) == ones[place]
        assert bitmap.place(ones[place]) == place
    for near in range(max(0, bits - 3), bits):
        assert bitmap.place(near) == (ones.index(near) if near in ones[-4:] else -1)
    assert bitmap.place(bits) == bitmap.place(-1) == bitmap.place(1 << 70) == -1
    if fill == 0xFF:
        assert bitmap.extent(0, 1 << 60) == bits
        assert bitmap.extent(bits - 1, 1 << 60) == 1


@settings(deadline=None, max_examples=80)
@given(aligned_ranges(), st.integers(0, 1 << 32), st.integers(-2, 900), st.integers(-2, 900))
def test_runs_within_bounds_are_the_clipped_runs(ranges: list[Range], seed: int, low: int, high: int):
    base = ranges[0][0] // PAGE
    low, high = max(0, base + min(low, high)), max(0, base + max(low, high))
    total = bits_of(ranges)
    bits = random_bits(seed, 0.5, total)
    data = pack_bitmap([n for n, one in enumerate(bits) if one], total, 8, PAGE, "little")
    bitmap = PageBitmap(data, DumpAvail(ranges, PAGE))
    clipped = []
    for page, count, place in bitmap.runs():
        first, end = max(page, low), min(page + count, high)
        if first < end:
            clipped.append((first, end - first, place + first - page))
    assert list(bitmap.runs(low, high)) == clipped


# --- dump_avail -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(aligned_ranges(), st.sampled_from(["little", "big"]), st.sampled_from([4, 8]))
def test_tables_of_either_byte_order_and_width(ranges: list[Range], byteorder: str, width: int):
    ranges = [(start, end) for start, end in ranges if end < 1 << 8 * width] or [(0, PAGE)]
    table = pack_dump_avail(ranges, width, PAGE, byteorder)  # type: ignore[arg-type]
    assert list(parse_dump_avail(table, width, byteorder)) == ranges


def test_a_table_without_its_end_stops_at_the_last_whole_pair():
    table = b"".join(value.to_bytes(8, "little") for value in (0, 0x1000, 0x2000, 0x3000))
    assert list(parse_dump_avail(table, 8, "little")) == [(0, 0x1000), (0x2000, 0x3000)]
    assert list(parse_dump_avail(table[:-1], 8, "little")) == [(0, 0x1000)]


@pytest.mark.parametrize("table", [b"", bytes(15), bytes(4096), b"\1" * 8 + bytes(8)])
def test_an_empty_table_is_refused(table: bytes):
    with pytest.raises(kvm.FormatError, match=r"^the dump_avail table is empty$"):
        parse_dump_avail(table, 8, "little")


@pytest.mark.parametrize(
    ("ranges", "bad"),
    [
        ([(0x1000, 0x1000)], "0x1000-0x1000"),
        ([(0x2000, 0x1000)], "0x2000-0x1000"),
        ([(0x2000, 0x3000), (0x1000, 0x2000)], "0x1000-0x2000"),
        ([(0x1000, 0x3000), (0x2000, 0x4000)], "0x2000-0x4000"),
        ([(0, 0x1000), (0, 0x1000)], "0x0-0x1000"),
    ],
)
def test_ranges_that_are_empty_descending_or_overlapping_are_refused(ranges: list[Range], bad: str):
    with pytest.raises(kvm.FormatError, match=f"range {bad} is empty, descending or overlaps"):
        DumpAvail(ranges, PAGE)


@pytest.mark.parametrize("end", [8 * PAGE + 1, 1 << 52, (1 << 64) - 1])
def test_ranges_that_need_more_bits_than_there_are_are_refused(end: int):
    with pytest.raises(kvm.FormatError, match="but the page bitmap has only 8 bits"):
        PageBitmap(b"\xff", DumpAvail([(0, end)], PAGE))


def test_gaps_have_no_bits():
    avail = DumpAvail([(0x1000, 0x3000), (0x8000, 0xA000)], PAGE)
    assert avail.bits == 4
    assert [avail.bit(page) for page in range(12)] == [-1, 0, 1, -1, -1, -1, -1, -1, 2, 3, -1, -1]
    assert [avail.page(bit) for bit in range(-1, 5)] == [-1, 1, 2, 8, 9, -1]


@pytest.mark.parametrize(("byteorder", "word"), [("little", 8), ("big", 8), ("big", 4)])
def test_words_are_swapped_by_their_own_size(byteorder: str, word: int):
    data = (1 << 3).to_bytes(word, byteorder) + (1 << 5).to_bytes(word, byteorder)  # type: ignore[arg-type]
    swapped = little_endian_words(data, word, byteorder)
    assert int.from_bytes(swapped, "little") == 1 << 3 | 1 << (8 * word + 5)


# --- Size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("byteorder", "word"), [("little", 8), ("big", 4)])
def test_a_fragmented_bitmap_of_32_mib_needs_little_memory(byteorder: str, word: int):
    """1 TiB of memory; every second page, then groups of three, so that no run is long."""
    pattern = b"\x55" * (16 * MIB) + b"\xee" * (16 * MIB)
    half = 8 * 16 * MIB
    data = pattern if byteorder == "little" else little_endian_words(pattern, word, byteorder)
    tracemalloc.start()
    try:
        bitmap = PageBitmap(little_endian_words(data, word, byteorder), DumpAvail([(0, 2 * half * PAGE)], PAGE))
        assert bitmap.count == half // 2 + half // 4 * 3
        for page in (0, 2, 1024, half - 2, half // 2, 12344):
            assert bitmap.place(page) == page // 2
            assert bitmap.place(page + 1) == -1
            assert bitmap.extent(page, 1 << 40) == 1
            assert bitmap.page_at(page // 2) == page
        for group in (0, 1, POPCOUNT_BITS, half // 4 - 1):
            first = half + 4 * group
            place = half // 2 + 3 * group
            assert [bitmap.place(first + near) for near in range(4)] == [-1, place, place + 1, place + 2]
            assert [bitmap.page_at(place + near) for near in range(3)] == [first + 1, first + 2, first + 3]
            assert bitmap.extent(first + 1, 1 << 40) == 3
        assert bitmap.place(2 * half) == -1
        assert list(bitmap.runs(half - 4, half + 8)) == [
            (half - 4, 1, half // 2 - 2),
            (half - 2, 1, half // 2 - 1),
            (half + 1, 3, half // 2),
            (half + 5, 3, half // 2 + 3),
        ]
        assert tracemalloc.get_traced_memory()[1] < 200 * MIB
    finally:
        tracemalloc.stop()


def test_listing_runs_keeps_no_list():
    data = b"\x55" * MIB
    bitmap = PageBitmap(data, DumpAvail([(0, 8 * MIB * PAGE)], PAGE))
    tracemalloc.start()
    try:
        runs = bitmap.runs()
        assert [next(runs) for _ in range(3)] == [(0, 1, 0), (2, 1, 1), (4, 1, 2)]
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
