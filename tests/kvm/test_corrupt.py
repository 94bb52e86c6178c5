"""Hostile dumps: they work or are refused in one sentence, quickly, and never give bytes of another page.

The numbered tests are the hazards of the project's table of malformed input.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.writers import elfcore as elf
from tests.writers import hpt, pagetables
from tests.writers.corrupt import overwrite, patch
from tests.writers.elfcore import TARGETS, Segment, elfcore
from tests.writers.headers import MAGIC, Field, has_dump_avail, header_fields, pack_header
from tests.writers.memory import Mapping as Mapped
from tests.writers.memory import PhysicalMemory
from tests.writers.parameters import MIB, defaults
from tests.writers.scenarios import VARIANTS, Variant, build_scenario
from volatility3_freebsd_kvm import kvm

KERNBASE = 0xFFFFFFFF_80000000
TOP = 1 << 64
PAGE = 4096
SOME = 8
"""How many of each thing are looked at."""
scenario_of = functools.lru_cache(maxsize=len(VARIANTS))(build_scenario)


def variant(name: str) -> Variant:
    return next(each for each in VARIANTS if str(each) == name)


# --- What must hold for whatever can be opened ----------------------------------------------------------------------


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or None where the library says on purpose that there is none."""
    try:
        return function(*arguments)
    except kvm.KVMError as error:
        assert_is_a_sentence(str(error))
        return None


def assert_is_a_sentence(message: str) -> None:
    """One line, of a length that fits a terminal, without control characters or empty brackets."""
    assert 10 < len(message) < 400, message[:400]
    assert message.isprintable(), message
    assert "()" not in message, message


def open_or_refuse(data: bytes, **options: Any) -> kvm.Dump | None:
    """The dump, or None if it is refused; anything but a clear refusal is an error."""
    try:
        return kvm.open(data, **options)
    except kvm.FormatError as error:
        assert_is_a_sentence(str(error))
        return None


def assert_consistent(data: bytes, **options: Any) -> None:
    """Open, if that is possible, and check that all ways to the same bytes agree."""
    dump = open_or_refuse(data, **options)
    if dump is None:
        return
    assert all(isinstance(warning, str) for warning in dump.warnings)
    assert dump.pages_beyond_end <= dump.pages_dumped
    assert_runs_agree(dump, data)
    addresses = {0, 1, PAGE - 1, 1 << 20, (1 << 32) - 8, 1 << 47, 1 << 63, TOP - PAGE, TOP - 1, TOP, 1 << 70, -1}
    if dump.header:
        for base in (dump.header.kernbase, dump.header.dmapbase, dump.header.dmapend):
            addresses |= {base - 1, base, base + 0x4000, base + 0x9FF0}
    if attempt(lambda: dump.kernel):
        addresses |= assert_walk_agrees(dump, data)
        for page in itertools.islice(dump.pages(), SOME):
            if page.va is not None:
                assert dump.kvatop(page.va) == page.pa, hex(page.va)
    for address in sorted(addresses):
        assert_reads_agree(dump, address)


def assert_runs_agree(dump: kvm.Dump, data: bytes) -> None:
    """Runs ascend, lie within the file, and hold what reading gives."""
    end = 0
    for run in itertools.islice(dump.runs(), SOME):
        assert run.pa >= end, "runs overlap"
        end = run.pa + run.length
        assert 0 < run.length <= len(data) - run.offset
        size = min(run.length, 2 * PAGE)
        assert dump.read_physical(run.pa, size) == data[run.offset : run.offset + size]
        assert dump.offset_of(end - 1) == run.offset + run.length - 1
    first, last = dump.physical.bounds()
    assert 0 <= first <= last


def assert_walk_agrees(dump: kvm.Dump, data: bytes) -> set[int]:
    """What the walk says is what translating and reading say; returns addresses worth a try."""
    addresses: set[int] = set()
    start = dump.header.kernbase if dump.header else 0
    end = 0
    for piece in itertools.islice(dump.walk(start, start + 4 * MIB if dump.header else TOP), SOME):
        assert piece.va >= end, "mappings overlap"
        end = piece.va + piece.length
        assert piece.length > 0
        assert end <= TOP
        addresses |= {piece.va - 3, piece.va, end - 3}
        for va in (piece.va, end - 1):
            pa = attempt(dump.kvatop, va)
            # A hashed page table that is cut off may list what it can no longer find.
            if piece.pa is not None and (pa is not None or piece.offset is not None):
                assert pa == piece.pa + va - piece.va, hex(va)
            expected = None
            if piece.offset is not None:
                expected = data[piece.offset + va - piece.va : piece.offset + va - piece.va + 1]
            assert attempt(dump.read, va, 1) == expected, hex(va)
    return addresses


def assert_reads_agree(dump: kvm.Dump, va: int) -> None:
    """A long read is the sum of single bytes, and those are the bytes of the translated address."""
    pa = attempt(dump.kvatop, va)
    found = attempt(dump.read, va, 1)
    if pa is None:
        assert found is None
    elif dump.physical.is_physical:
        assert attempt(dump.read_physical, pa, 1) == found
    attempt(dump.offset_of, va)
    attempt(dump.pa_of, va)
    long = attempt(dump.read, va, PAGE + 32)
    if long is not None:
        for at in (0, 1, PAGE - 1, PAGE, *(-va % PAGE + near for near in (-1, 0, 1)), PAGE + 31):
            if 0 <= at < len(long):
                assert long[at : at + 1] == dump.read(va + at, 1), hex(va + at)


# --- Limits ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fail as soon as more Python and C functions were called: a clock that is the same on every machine."""
    made = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal made
        if event in ("call", "c_call"):
            made += 1
            if made > calls:
                sys.setprofile(None)
                pytest.fail(f"more than {calls} calls")

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(previous)


def affordable(data: bytes) -> int:
    """Calls for one operation on a file: about two seconds for a megabyte."""
    return 100_000 + 8 * len(data)


def assert_cheap(data: bytes, **options: Any) -> None:
    """Every operation that goes over the whole dump is linear in its size."""
    opened = []
    with at_most(affordable(data)):
        opened.append(kvm.open(data, **options))
    (dump,) = opened
    for operation in (dump.runs, dump.pages, dump.walk, dump.kernel.readable):
        with at_most(affordable(data)):
            for _ in operation():  # type: ignore[operator]
                pass
    with at_most(affordable(data)):
        _ = dump.physical.bounds(), dump.pages_beyond_end


def peak_of(function: Callable[[], object]) -> int:
    """The most memory that was in use, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- Dumps to break -------------------------------------------------------------------------------------------------


def bare(
    arch: str,
    version: int,
    /,
    *,
    avail: Sequence[tuple[int, int]] = (),
    bitmap: bytes = b"\xff" * PAGE,
    pmap: bytes = b"",
    pages: bytes = b"",
    **fields: int | bytes,
) -> bytes:
    """A minidump of which every section is given literally; `fields` of the header override what fits them."""
    known = defaults(arch, version)
    pairs = avail or [(0, 8 * len(bitmap) * PAGE)]
    table = b"".join(value.to_bytes(8, known.byteorder) for pair in pairs for value in pair).ljust(PAGE, b"\0")
    if not has_dump_avail(arch, version):
        table = b""
    values: dict[str, int | bytes] = {**known.__dict__, "magic": MAGIC[arch], "version": version, "msgbufsize": 0}
    values |= {"bitmapsize": len(bitmap), "pmapsize": len(pmap), "ptesize": len(pmap), "dumpavailsize": len(table)}
    values |= {"mmu_name": known.mmu_name.encode(), "arch": 7, "flags": 0}
    names = header_fields(arch, version)
    header = pack_header(names, {name: fields.get(name, values[name]) for name in names}, PAGE, known.byteorder)
    return b"".join([header, table, padded(bitmap), padded(pmap), pages])


def padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // PAGE) * PAGE, b"\0")


def quads(values: Sequence[int], byteorder: str = "little") -> bytes:
    return struct.pack(("<" if byteorder == "little" else ">") + f"{len(values)}Q", *values)


def amd64_tables() -> tuple[PhysicalMemory, int]:
    """Memory with page tables for three pages that lie apart, and their root."""
    memory = PhysicalMemory(free_area=(0x20_0000, 0x24_0000))
    memory.fill_random(0, 0x8000, seed=1)
    mapped = [Mapped(KERNBASE + at, pa, PAGE) for at, pa in ((0x3000, 0x1000), (0x40_0000, 0x4000), (0x80_0000, 0))]
    return memory, pagetables.amd64(memory, mapped)


def core_of(memory: PhysicalMemory, arch: str = "amd64", **changes: Any) -> bytes:
    """A full dump with one segment for each piece of memory; `changes` are fields of the segments."""
    segments = [Segment(start, start, memory.read(start, size), **changes) for start, size in memory.runs()]
    return elfcore(segments, **TARGETS[arch]._asdict())


def core(segments: Sequence[Segment], arch: str = "amd64", **options: Any) -> bytes:
    return elfcore(segments, **{**TARGETS[arch]._asdict(), **options})


# --- Every field of every header ------------------------------------------------------------------------------------

WORDS = (0, 1, 63, 4095, 8192, 1 << 24, 1 << 31, -8)
LONGS = (0, 1, 4095, 1 << 47, 1 << 52, 1 << 63, -(1 << 40), -4096, -1)
TEXTS = (b"", b"x", b"\xff" * 24, b"minidump", b"\n\x1b[31m", b"mmu_radix", b"mmu_phyp", b"mmu_g5 ")


def hostile(field: Field) -> tuple[int, ...] | tuple[bytes, ...]:
    if field.is_text:
        return TEXTS
    return LONGS if field.size == 8 else WORDS


def fields_of(each: Variant) -> dict[str, Field]:
    return header_fields(each.arch, each.version, short=each.parameters.short_header)


FIELDS = [(each, name) for each in VARIANTS for name in fields_of(each)]


@pytest.mark.parametrize(("each", "name"), FIELDS, ids=[f"{each}-{name}" for each, name in FIELDS])
def test_every_header_field_with_hostile_values(each: Variant, name: str):
    scenario = scenario_of(each)
    order = scenario.dump.parameters.byteorder
    true = scenario.dump.header[name]
    values = [*hostile(fields_of(each)[name]), *((true + 1, true + 8) if isinstance(true, int) else ())]
    for value in values:
        data = patch(
            scenario.dump.data,
            each.arch,
            each.version,
            name,
            value,
            byteorder=order,
            short=each.parameters.short_header,
        )
        assert_consistent(data)


@pytest.mark.parametrize("each", VARIANTS, ids=str)
def test_cut_off_at_every_border(each: Variant):
    dump = scenario_of(each).dump
    borders = {0, 8, 16, 24, 32, dump.parameters.page_size, dump.dump_avail_offset, dump.bitmap_offset}
    borders |= {dump.pmap_offset, dump.pmap_offset + 64, dump.pages_offset, dump.pages_offset + 0x5800, len(dump.data)}
    for length in sorted({max(0, border + near) for border in borders for near in (-1, 0, 1)}):
        data = dump.data[:length]
        assert_consistent(data)
        if length < dump.pmap_offset:
            with pytest.raises(kvm.FormatError):
                kvm.open(data)


@pytest.mark.parametrize("each", VARIANTS, ids=str)
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x55, 0x83])
def test_sections_overwritten(each: Variant, fill: int):
    dump = scenario_of(each).dump
    tables = [offset for offset in map(dump.offset_of, dump.tables) if offset is not None]
    sections = [(dump.dump_avail_offset, 64), (dump.dump_avail_offset, dump.bitmap_offset - dump.dump_avail_offset)]
    sections += [(dump.bitmap_offset, 64), (dump.bitmap_offset, dump.pmap_offset - dump.bitmap_offset)]
    sections += [(dump.pmap_offset, 0x2000), *((table, 4096) for table in tables)]
    for offset, size in sections:
        assert_consistent(overwrite(dump.data, offset, bytes([fill]) * min(size, len(dump.data) - offset)))


# --- The table of hazards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 17, 24, 100, 4095])
def test_hazard_01_file_shorter_than_a_header(size: int):
    data = bare("amd64", 3)[:size]
    with pytest.raises(kvm.FormatError, match=f"cut off within its header: {size} bytes of 4096"):
        kvm.open(data)


@pytest.mark.parametrize("data", [b"", b"m", b"minidum", b"\x7fEL", bytes(9000), b"FreeBSD\n" * 1000])
def test_hazard_01_no_dump_at_all(data: bytes):
    with pytest.raises(kvm.NotADumpError):
        kvm.open(data)


@pytest.mark.parametrize(
    "magic",
    [
        b"minidump FreeBSD/amd64x",
        b"minidump FreeBSD/sparc64",
        b"minidump FreeBSD/AMD64",
        b"minidump FreeBSD/",
        b"minidump FreeBSD/amd64\0x",
        b"minidump FreeBSD/powerpc64le",
        b"minidump NetBSD/amd64",
        b"minidumpamd64",
        b"minidump FreeBSD/\xff\xfe",
    ],
)
def test_hazard_02_unknown_architecture(magic: bytes):
    with pytest.raises(kvm.FormatError, match=r"^a minidump of an unknown architecture '.*'; known are amd64") as error:
        kvm.open(magic + bytes(PAGE - len(magic)) + bare("amd64", 3)[PAGE:])
    assert_is_a_sentence(str(error.value))


@pytest.mark.parametrize("filler", [b"A", b"\xff", b"\x1b[31m", b"\n"])
def test_hazard_02_magic_without_its_end(filler: bytes):
    """The message quotes a name, not the page."""
    for magic in (b"minidump", b"minidump FreeBSD/", b"minidump FreeBSD/powerpc64"):
        with pytest.raises(kvm.FormatError) as error:
            kvm.open(magic + filler * 5000)
        assert_is_a_sentence(str(error.value))


@pytest.mark.parametrize("each", VARIANTS, ids=str)
def test_hazard_03_versions(each: Variant):
    scenario = scenario_of(each)
    order = scenario.dump.parameters.byteorder
    newest = max(other.version for other in VARIANTS if other.arch == each.arch)
    # The short arm header lacks what version 2 needs, but is version 1 all the same.
    for version in (0, newest + 1, 9, 1 << 31, (1 << 32) - 1):
        data = patch(scenario.dump.data, each.arch, each.version, "version", version, byteorder=order)
        with pytest.raises(kvm.FormatError, match=rf"minidump version \d+ .* is not known; versions 1 to {newest} are"):
            kvm.open(data)


@pytest.mark.parametrize("arch", ["amd64", "i386", "arm64", "riscv"])
def test_hazard_03_byte_swapped_version_of_a_little_endian_machine(arch: str):
    with pytest.raises(kvm.FormatError, match=r"version 33554432 \(or 2 in the other byte order\) is not known"):
        kvm.open(bare(arch, 2, version=2 << 24))


@pytest.mark.parametrize("field", ["msgbufsize", "bitmapsize", "dumpavailsize"])
@pytest.mark.parametrize("value", [0xFFFFFFF8, 0x80000000, 0x7FFFF000])
def test_hazard_04_sizes_that_sum_past_the_end(field: str, value: int):
    data = bare("amd64", 3, pmap=bytes(PAGE), **{field: value})
    with pytest.raises(kvm.FormatError, match=f"cut off before its pages: .*the file has {len(data):#x} bytes"):
        kvm.open(data)


def test_hazard_04_sizes_that_sum_past_32_bits():
    sizes = {"msgbufsize": 0x80000000, "dumpavailsize": 0x7FFFF000, "bitmapsize": 0x1000}
    with pytest.raises(kvm.FormatError, match="the page bitmap would end at 0x100001000"):
        kvm.open(bare("amd64", 3, **sizes))


def test_hazard_05_a_huge_message_buffer_is_read_when_asked_for():
    data = bare("amd64", 3, pmap=bytes(PAGE))
    data = patch(data[:PAGE] + bytes(64 * MIB) + data[PAGE:], "amd64", 3, "msgbufsize", 64 * MIB)
    dump = kvm.open(data)
    assert peak_of(lambda: kvm.open(data)) < MIB
    assert len(dump.message_buffer) == 64 * MIB


@pytest.mark.parametrize("size", [0, 1, 4, 7, 12, 4095])
def test_hazard_06_bitmap_of_an_impossible_size(size: int):
    with pytest.raises(kvm.FormatError, match=f"the page bitmap has an impossible size of {size} bytes"):
        kvm.open(bare("amd64", 3, bitmapsize=size))


@pytest.mark.parametrize("size", [64, 72, 120, 192, 4032])
def test_hazard_07_bitmap_sizes_that_abort_libkvm(size: int):
    pages = b"".join(bytes([number]) * PAGE for number in range(8))
    dump = kvm.open(bare("amd64", 2, bitmap=b"\xff".ljust(size, b"\0"), pages=pages))
    assert dump.pages_dumped == 8
    assert dump.read_physical(0x7000, PAGE) == b"\x07" * PAGE


def test_hazard_08_more_pages_promised_than_the_file_holds():
    dump = kvm.open(bare("amd64", 3, pmap=bytes(PAGE), pages=bytes(5 * PAGE + 100)))
    assert (dump.pages_dumped, dump.pages_beyond_end) == (32768, 32763)
    assert dump.physical.bounds() == (0, 5 * PAGE + 99)
    assert dump.read_physical(5 * PAGE, 100) == bytes(100)
    with pytest.raises(kvm.BeyondEndError) as error:
        dump.read_physical(4 * PAGE, 2 * PAGE)
    assert error.value.address == 5 * PAGE + 100
    assert dump.warnings == [
        "the file is cut off: 32763 of 32768 pages lie wholly or partly beyond its end",
    ]


def test_hazard_09_bits_behind_dump_avail():
    dump = kvm.open(bare("amd64", 3, avail=[(0x1000, 0x3000)], pmap=bytes(PAGE), pages=b"ab" * PAGE))
    assert dump.pages_dumped == 2
    assert list(dump.runs()) == [(0x1000, 2 * PAGE, dump.header.pages_off)]  # type: ignore[union-attr]
    assert dump.warnings == ["32766 bits are set beyond the last range of dump_avail; ignored"]


@pytest.mark.parametrize(
    "avail",
    [
        [(0x5000, 0x6000), (0x1000, 0x2000)],
        [(0x1000, 0x4000), (0x3000, 0x6000)],
        [(0x2000, 0x1000)],
        [(0x1000, 0x1000)],
        [(TOP - 1, TOP - 1)],
        [(0, 0x1000), (0, 0x1000)],
    ],
    ids=str,
)
@pytest.mark.parametrize("arch", ["amd64", "i386", "powerpc64", "mips"])
def test_hazard_10_dump_avail_out_of_order(arch: str, avail: list[tuple[int, int]]):
    with pytest.raises(kvm.FormatError, match=r"^dump_avail is damaged: range .* is empty, descending or overlaps"):
        kvm.open(bare(arch, 3 if arch == "amd64" else 2, avail=avail))


def test_hazard_10_dump_avail_without_an_end():
    avail = [(number * 0x2000, number * 0x2000 + 0x1000) for number in range(256)]
    dump = kvm.open(bare("amd64", 3, avail=avail, bitmap=b"\xff" * 32 + bytes(4064), pages=b"x" * 256 * PAGE))
    assert [run.pa for run in dump.runs()] == [start for start, _ in avail]


def test_hazard_10_dump_avail_that_is_empty():
    with pytest.raises(kvm.FormatError, match=r"^the dump_avail table is empty$"):
        kvm.open(bare("amd64", 3, avail=[(0, 0)]))


@pytest.mark.parametrize("end", [1 << 40, 1 << 52, 1 << 63, TOP - 1])
@pytest.mark.parametrize("arch", ["amd64", "i386", "arm64", "riscv", "powerpc64", "mips"])
def test_hazard_11_dump_avail_of_all_there_is(arch: str, end: int):
    data = bare(arch, 3 if arch == "amd64" else 2, avail=[(0, end)])
    message = f"dump_avail describes {-(-end // PAGE)} pages, but the page bitmap has only 32768 bits"
    with at_most(affordable(b"")), pytest.raises(kvm.FormatError, match=message):
        kvm.open(data)


@pytest.mark.parametrize("each", [each for each in VARIANTS if has_dump_avail(each.arch, each.version)], ids=str)
def test_hazard_12_a_gap_is_nobodys_page(each: Variant):
    scenario = scenario_of(each)
    dump = kvm.open(scenario.dump.data)
    assert len(scenario.gaps) == 16
    for pa in scenario.gaps:
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 1)


@pytest.mark.parametrize("size", [0, 1, 7, 9, 20])
def test_hazard_13_page_map_that_is_empty_or_ends_within_an_entry(size: int):
    pages = b"x" * PAGE
    memory = {"avail": [(0x40000000, 0x40001000)], "bitmap": b"\1" + bytes(7)}
    data = bare("arm64", 2, **memory, pmap=quads([0x40000703] * 3), pages=pages, pmapsize=size)  # type: ignore[arg-type]
    dump = kvm.open(data if size else data[: 3 * PAGE] + pages)
    base = 0xFFFF0000_00000000
    assert [dump.read(base + at * PAGE, 1) for at in range(size // 8)] == [b"x"] * (size // 8)
    with pytest.raises(kvm.NotMappedError):
        dump.kvatop(base + size // 8 * PAGE)
    assert dump.read(0xFFFFA000_00000000, 1) == b"x"
    assert len(dump.warnings) == (not size)


@pytest.mark.parametrize(
    ("arch", "kernbase", "top"),
    [
        ("amd64", TOP - 2 * MIB, TOP),
        ("arm64", TOP - PAGE, TOP),
        ("riscv", TOP - PAGE, TOP),
        ("i386", (1 << 32) - PAGE, 1 << 32),
        ("arm", (1 << 32) - PAGE, 1 << 32),
        ("mips", (1 << 32) - PAGE, 1 << 32),
    ],
)
def test_hazard_14_page_maps_that_pass_the_top(arch: str, kernbase: int, top: int):
    entries = {"arm": 4, "mips": 4}.get(arch, 8)
    pmap = b"\xff" * (4 * entries)
    dump = kvm.open(bare(arch, 3 if arch == "amd64" else 2, avail=[(0, 8 * PAGE * PAGE)], pmap=pmap, kernbase=kernbase))
    pieces = list(dump.walk())
    assert pieces[0].va == kernbase
    assert sum(piece.length for piece in pieces) == top - kernbase
    for va in (0, top):
        with pytest.raises(kvm.NotMappedError):
            dump.kvatop(va)


@pytest.mark.parametrize("arch", ["amd64", "arm64", "riscv", "powerpc64"])
@pytest.mark.parametrize("end", [0, -1])
def test_hazard_15_direct_map_upside_down(arch: str, end: int):
    base = defaults(arch, 2).dmapbase
    with pytest.raises(kvm.FormatError, match=f"the direct map {base:#x}-{base + end:#x} is empty or upside down"):
        kvm.open(bare(arch, 2, dmapend=base + end, pmap=bytes(2048 * 128 if arch == "powerpc64" else PAGE)))


@pytest.mark.parametrize("kernbase", [0xFFFFF800_00000000, 0xFFFFF800_00200000, 0x1000_0000_0000])
def test_hazard_15_direct_map_that_overlaps_the_kernel(kernbase: int):
    """The kernel's range comes first; what `pages` calls direct-mapped must be translated so."""
    pmap = quads([0x83 | 5 << 21])
    dump = kvm.open(bare("amd64", 2, pmap=pmap, kernbase=kernbase, pages=bytes(600 * PAGE)))
    assert dump.kvatop(kernbase) == 5 << 21
    for page in dump.pages():
        if page.va is not None:
            assert dump.kvatop(page.va) == page.pa
            assert dump.kvatop(page.va + page.length - 1) == page.pa + page.length - 1


@pytest.mark.parametrize("dmapphys", [1 << 52, 1 << 63, TOP - PAGE])
@pytest.mark.parametrize("arch", ["arm64", "riscv"])
def test_hazard_16_direct_map_of_memory_that_cannot_be(arch: str, dmapphys: int):
    dump = kvm.open(bare(arch, 2, dmapphys=dmapphys, pmap=bytes(PAGE), pages=bytes(PAGE)))
    base = defaults(arch, 2).dmapbase
    for va in (base, base + PAGE, base + (1 << 36)):
        with pytest.raises(kvm.NotDumpedError):
            dump.read(va, 1)


@pytest.mark.parametrize("field", ["kernbase", "dmapbase", "dmapphys"])
@pytest.mark.parametrize("arch", ["arm64", "riscv"])
def test_hazard_16_bases_that_are_no_pages(arch: str, field: str):
    """Refused, or read as translated: never a page next to it."""
    name = f"{arch}-v2"
    data = patch(scenario_of(variant(name)).dump.data, arch, 2, field, getattr(defaults(arch, 2), field) + 0x800)
    assert_consistent(data)


@pytest.mark.parametrize("offset", [PAGE, 0x800, 0x1800])
def test_hazard_16_amd64_kernbase_within_a_superpage(offset: int):
    data = patch(scenario_of(variant("amd64-v3")).dump.data, "amd64", 3, "kernbase", 0xFFFFFE00_00000000 + offset)
    assert_consistent(data)


@pytest.mark.parametrize("mmu", ["hash", "radix"])
@pytest.mark.parametrize("move", [0x800, PAGE, 0x1000_0000, -0x1000_0000, 1 << 62])
def test_hazard_16_powerpc64_kernel_displaced_by_anything(mmu: str, move: int):
    """Addresses of the linked kernel end where the direct map begins."""
    scenario = scenario_of(variant(f"powerpc64-v2-{mmu}"))
    data = patch(scenario.dump.data, "powerpc64", 2, "startkernel", 0x100100 + 0x100000 + move)
    dump = kvm.open(data)
    for va in (0x100100, 0x100000, 0xC000000000000000 - PAGE, 0xC000000000000000 - 5 * PAGE):
        for near in (0, 0x700, 0xFFF):
            assert_reads_agree(dump, va + near)


def test_hazard_17_table_page_that_is_not_dumped_or_is_itself():
    pages = quads([0x3, 0x1003] + [0] * 510) + quads([0x63] * 512)
    pmap = quads([0x3, 0x7003, 0xFFFF_FFFF_F003])
    dump = kvm.open(bare("amd64", 3, avail=[(0, 0x2000)], bitmap=b"\3" + bytes(7), pmap=pmap, pages=pages))
    base = 0xFFFFFE00_00000000
    assert dump.read(base, 16) == pages[:16]
    assert dump.read(base + PAGE, 8) == quads([0x63])
    for va in (base + 2 * MIB, base + 4 * MIB):
        with pytest.raises(kvm.NotDumpedError, match=r"the page table for it at .* is not dumped"):
            dump.kvatop(va)
    assert [(piece.va, piece.pa, piece.length, piece.absence) for piece in dump.walk()] == [
        (base, 0, 2 * PAGE, None),
        (base + 2 * MIB, None, 4 * MIB, kvm.Absence.NOT_DUMPED),
    ]


TABLE_FORMATS: Mapping[str, Callable[[int], bytes]] = {
    "amd64": lambda pa: quads([pa | 0x63]),
    "arm64": lambda pa: quads([pa | 3]),
    "riscv": lambda pa: quads([pa >> 2 | 1]),
    "arm": lambda pa: struct.pack("<I", pa | 1),
    "i386": lambda pa: quads([pa | 0x63]),
}


@pytest.mark.parametrize("arch", TABLE_FORMATS)
def test_hazard_18_tables_that_are_their_own_tables(arch: str):
    """A file that is one table, all of whose entries lead back to it."""
    entry = TABLE_FORMATS[arch](0)
    data = core([Segment(0, 0, entry * (0x4000 // len(entry)))], arch)
    assert_cheap(data, root=0)
    dump = kvm.open(data, root=0)
    assert_reads_agree(dump, 0xFFFFFFFF_FFFFE000 if arch in ("arm64", "riscv", "amd64") else 0xFFFFE000)


@pytest.mark.parametrize("arch", ["amd64", "arm64", "riscv"])
def test_hazard_18_every_page_is_a_table_of_every_level(arch: str):
    """40 pages that all refer to each other: each may be visited at each level, but not many times."""
    count = 40
    pages = b"".join(TABLE_FORMATS[arch](number % count * PAGE) for number in range(512 * count))
    assert_cheap(core([Segment(0, 0, pages)], arch), root=0)


def test_hazard_18_arm_tables_of_a_quarter_page():
    pages = b"".join(TABLE_FORMATS["arm"](number % 200 * 1024) for number in range(51200))
    assert_cheap(core([Segment(0, 0, pages)], "arm"), root=0)


def test_hazard_18_several_walks_at_once_do_not_count_together():
    memory, root = amd64_tables()
    dump = kvm.open(core_of(memory), root=root)
    walks = [dump.walk() for _ in range(12)]
    columns = list(itertools.zip_longest(*walks))
    assert [len(column) - column.count(None) for column in columns] == [12, 12, 12]
    # These small tables do not map what a kernel starts with; that is said once, and nothing of circles.
    assert dump.warnings == ["the page tables do not map the start of the kernel; they may be damaged"]


@pytest.mark.parametrize(("slot", "entry"), [(511, 0xE3), (511, 0x80000000_000000E3)])
def test_hazard_19_superpages_where_there_are_none(slot: int, entry: int):
    memory, root = amd64_tables()
    memory.write_integer(root + 8 * slot, entry, 8)
    dump = kvm.open(core_of(memory), root=root)
    assert list(dump.walk()) == []
    with pytest.raises(kvm.NotMappedError):
        dump.kvatop(KERNBASE + 0x3000)


@pytest.mark.parametrize(
    ("offset", "code", "value", "message"),
    [
        (56, "H", 0, "claims 0 program headers"),
        (56, "H", 3, "claims 3 program headers"),
        (56, "H", 0xFFFE, "claims 65534 program headers"),
        (56, "H", 0xFFFF, "too many segments for its header, and the section that counts them is missing"),
        (54, "H", 0, "program headers of 0 bytes, 56 expected"),
        (54, "H", 32, "program headers of 32 bytes, 56 expected"),
        (54, "H", 0xFFFF, "program headers of 65535 bytes, 56 expected"),
        (32, "Q", 1 << 40, "claims 1 program headers at 0x10000000000, which the file does not hold"),
        (32, "Q", TOP - 1, "claims 1 program headers at 0xffffffffffffffff, which the file does not hold"),
        (18, "H", 9999, "an ELF core of a machine that is not supported"),
        (18, "H", 2, "an ELF core of a machine that is not supported"),
    ],
)
def test_hazard_20_elf_header(offset: int, code: str, value: int, message: str):
    # 100 bytes of content: the program headers must not happen to fit into the file.
    data = core([Segment(0x1000, 0x1000, b"x" * 100)])[:4196]
    broken = overwrite(data, offset, struct.pack("<" + code, value))
    if (offset, value) == (56, 3):
        broken = broken[:200]
    with pytest.raises(kvm.FormatError, match=message) as error:
        kvm.open(broken)
    assert_is_a_sentence(str(error.value))


@pytest.mark.parametrize("count", [0, 1 << 17, (1 << 17) + 1, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("arch", ["amd64", "i386", "powerpc", "powerpc64"])
def test_hazard_20_count_in_section_0(arch: str, count: int):
    data = core([Segment(0x1000, 0x1000, b"x" * PAGE)], arch, pn_xnum=True)
    bits, order, _ = TARGETS[arch]
    section = (64 + 56 + 44) if bits == 64 else (52 + 32 + 28)
    broken = overwrite(data, section, count.to_bytes(4, order))
    with at_most(affordable(data)), pytest.raises(kvm.FormatError, match=f"claims {count} program headers"):
        kvm.open(broken)


@pytest.mark.parametrize("length", [0, 1, 4, 5, 7, 15, 16, 20, 51, 63, 64, 100, 119])
@pytest.mark.parametrize("arch", TARGETS)
def test_hazard_20_elf_header_cut_off(arch: str, length: int):
    data = core([Segment(0x1000, 0x1000, b"x" * PAGE)] * 3, arch)[:length]
    with pytest.raises(kvm.FormatError) as error:
        kvm.open(data)
    assert_is_a_sentence(str(error.value))


@pytest.mark.parametrize("arch", TARGETS)
def test_hazard_20_every_byte_of_the_elf_headers(arch: str):
    data = core([Segment(0x1000, 0x1000, b"x" * PAGE), Segment(0x8000, 0x8000, b"y" * PAGE)], arch)
    for at in range(176 if TARGETS[arch].bits == 64 else 116):
        for value in (0, 0x7F, 0xFF):
            assert_consistent(overwrite(data, at, bytes([value])), root=0x1000)


@pytest.mark.parametrize("kind", range(9))
def test_hazard_20_content_of_other_segments_does_not_matter(kind: int):
    """Only PT_LOAD is read, whatever the others claim."""
    other = Segment(0, 0, b"", offset=TOP - 1, filesz=TOP - 1, memsz=TOP - 1, kind=kind)
    if kind == elf.PT_LOAD:
        other = Segment(0, 0, b"", offset=TOP - 1, filesz=0)
    dump = kvm.open(core([other, Segment(0x1000, 0x1000, b"x" * PAGE)]))
    assert dump.read_physical(0x1000, PAGE) == b"x" * PAGE


def test_hazard_20_dynamic_segments_are_not_looked_up_in_sections():
    """Each of 100 PT_DYNAMIC segments must not go through each of 100 sections."""
    count = 100
    data = bytearray(core([Segment(0, 0, b"", kind=2)] * count + [Segment(0, 0, b"x" * PAGE)]))
    struct.pack_into("<Q", data, 40, len(data))
    struct.pack_into("<HHH", data, 58, 64, count, 0)
    section = struct.pack("<IIQQQQIIQQ", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert_cheap(bytes(data) + section * count, root=0)


def test_hazard_20_segments_with_more_file_than_memory():
    dump = kvm.open(core([Segment(0x1000, 0x1000, b"x" * PAGE, memsz=100)]))
    assert list(dump.runs()) == [(0x1000, 100, PAGE)]
    assert dump.warnings == ["ELF segment 0 has more bytes in the file (0x1000) than in memory; cut"]


@pytest.mark.parametrize(("arch", "top"), [("amd64", TOP), ("i386", 1 << 32)])
def test_hazard_20_segments_that_pass_the_top(arch: str, top: int):
    start = top - PAGE
    dump = kvm.open(core([Segment(start, start, b"x" * 3 * PAGE), Segment(0, 0, b"y" * PAGE)], arch))
    assert dump.warnings == ["ELF segment 0 runs past the end of the address space; cut"]
    assert [(run.pa, run.length) for run in dump.runs()] == [(0, PAGE), (start, PAGE)]
    with pytest.raises(kvm.NotDumpedError):
        dump.read_physical(top - 1, 2)


@pytest.mark.parametrize(("arch", "top"), [("amd64", TOP), ("i386", 1 << 32)])
def test_hazard_20_virtual_segments_that_pass_the_top(arch: str, top: int):
    dump = kvm.open(core([Segment(0, top - PAGE, b"x" * 2 * PAGE)], arch))
    assert [(piece.va, piece.length) for piece in dump.walk()] == [(top - PAGE, PAGE)]
    with pytest.raises(kvm.NotMappedError):
        dump.read(top, 1)


@pytest.mark.parametrize("filesz", [2 * PAGE, 1 << 40, TOP - PAGE, TOP - 1])
def test_hazard_20_contents_that_pass_the_end_of_the_file(filesz: int):
    dump = kvm.open(core([Segment(0x1000, 0x1000, b"x" * PAGE, filesz=filesz, memsz=filesz)]))
    assert [(run.pa, run.length) for run in dump.runs()] == [(0x1000, PAGE)]
    with pytest.raises(kvm.BeyondEndError) as error:
        dump.read_physical(0x1000, PAGE + 1)
    assert error.value.address == 0x2000


def test_hazard_20_overlapping_segments_the_first_has_the_say():
    segments = [Segment(0x3000, 0x3000, b"a" * PAGE), Segment(0x1000, 0x1000, b"b" * 5 * PAGE)]
    dump = kvm.open(core([*segments, Segment(0, 0, b"c" * 7 * PAGE)]))
    assert (
        dump.read_physical(0, 7 * PAGE)
        == b"".join(letter * PAGE for letter in (b"c", b"b", b"b", b"a", b"b", b"b"))[: 6 * PAGE] + b"c" * PAGE
    )
    assert [run.pa for run in dump.runs()] == [0, 0x1000, 0x3000, 0x4000, 0x6000]


def test_hazard_20_overlapping_virtual_segments_the_first_has_the_say():
    """By virtual address as by physical address."""
    segments = [Segment(0x9000, 0x80002000, b"a" * PAGE), Segment(0x1000, 0x80000000, b"b" * 4 * PAGE)]
    dump = kvm.open(core(segments))
    assert dump.read(0x80000000, 4 * PAGE) == b"b" * 2 * PAGE + b"a" * PAGE + b"b" * PAGE


SMALL = [Segment(at * 0x2000, at * 0x2000, b"", memsz=PAGE, filesz=PAGE, offset=PAGE) for at in range(3000)]
LARGE = Segment(0, 0, b"", memsz=1 << 40, filesz=1 << 40, offset=0)
CHAIN = [Segment(at * PAGE, at * PAGE, b"", memsz=64 * MIB, filesz=64 * MIB, offset=0) for at in range(3000)]
CROWDS = {
    "ascending": SMALL,
    "descending": SMALL[::-1],
    "one around all, last": [*SMALL, LARGE],
    "one around all, first": [LARGE, *SMALL],
    "half of them around the others": [*SMALL[:1500], *[LARGE] * 1500],
    "chain": CHAIN,
    "chain from its end": CHAIN[::-1],
    "all the same": [LARGE] * 3000,
}


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS)
def test_hazard_20_thousands_of_segments(crowd: list[Segment]):
    assert_cheap(core(crowd), root=0)


@pytest.mark.parametrize("align", [8192, 16384, 65536])
def test_hazard_20_segments_aligned_to_more_than_a_page(align: int):
    """p_align does not make the pages of amd64 larger: neighbours in virtual memory lie anywhere in physical memory."""
    memory, root = amd64_tables()
    data = core_of(memory, align=align)
    dump = kvm.open(data, root=root)
    assert dump.kvatop(KERNBASE + 0x3000) == 0x1000
    assert dump.read(KERNBASE + 0x3000, PAGE) == memory.read(0x1000, PAGE)
    with pytest.raises(kvm.NotMappedError):
        dump.read(KERNBASE + 0x2000, 1)
    assert_consistent(data, root=root)


@pytest.mark.parametrize(("vaddr", "paddr"), [(0x80001800, 0x1000), (0x80001000, 0x1800), (0x80001001, 0x1002)])
def test_hazard_20_segments_whose_addresses_differ_within_the_page(vaddr: int, paddr: int):
    content = bytes(range(251)) * 40
    dump = kvm.open(core([Segment(paddr, vaddr, content)]))
    assert dump.kvatop(vaddr) == paddr
    for at in (0, 1, 0x7FF, 0x800, 0xFFF, 0x1000, 0x1801):
        assert dump.read(vaddr + at, 7) == content[at : at + 7], hex(at)
    with pytest.raises(kvm.NotMappedError):
        dump.read(vaddr - 1, 1)


def test_hazard_20_segments_that_share_a_virtual_page():
    segments = [
        Segment(0x1000, 0x80000000, b"a" * 0x800),
        Segment(0x5000, 0x80000800, b"b" * 0x800),
        Segment(0x1800, 0x90000000, b"c" * 0x800),
    ]
    dump = kvm.open(core(segments))
    assert dump.read(0x80000000, 1) == b"a"
    assert dump.read(0x80000800, 1) == b"b"
    assert dump.read(0x80000000, PAGE) == b"a" * 0x800 + b"b" * 0x800


def test_hazard_20_physical_addresses_end_at_the_top():
    """p_paddr -1 stands for "none"; among segments that have one it is nonsense, and no address may lie above."""
    dump = open_or_refuse(core([Segment(-1, 0x80001000, b"x" * 2 * PAGE), Segment(0x4000, 0x80004000, b"y" * PAGE)]))
    if dump is not None:
        assert dump.physical.bounds()[1] < TOP
        pa = attempt(dump.pa_of, PAGE + 16)
        assert pa is None or pa < TOP


@pytest.mark.parametrize(
    ("arch", "change"),
    [(arch, {"bits": 96 - TARGETS[arch].bits}) for arch in ("amd64", "i386", "arm", "arm64", "riscv", "powerpc64")]
    + [(arch, {"byteorder": "big"}) for arch in ("amd64", "i386", "riscv")],
    ids=str,
)
def test_hazard_21_machine_class_and_byte_order_that_do_not_go_together(arch: str, change: dict[str, Any]):
    data = core([Segment(0x1000, 0x1000, b"x" * PAGE)], arch, **change)
    with pytest.raises(kvm.FormatError):
        kvm.open(data)


@pytest.mark.parametrize("groups", [0, 1023, 2047, 2049, 3000])
def test_hazard_26_hashed_page_table_that_is_no_power_of_two(groups: int):
    with pytest.raises(kvm.FormatError, match=f"the hashed page table has {groups} groups, which is no power of two"):
        kvm.open(bare("powerpc64", 2, pmap=bytes(groups * 128)))


@pytest.mark.parametrize("size", [0, 65535, 65537, 131072, 0xFFFFFFFF])
@pytest.mark.parametrize("arch", ["powerpc64", "powerpc64le"])
def test_hazard_27_radix_root_of_another_size(arch: str, size: int):
    with pytest.raises(kvm.FormatError, match=f"the radix page map has {size:#x} bytes, 0x10000 expected"):
        kvm.open(bare(arch, 2, pmap=bytes(65536), pmapsize=size, mmu_name=b"mmu_radix"))


@pytest.mark.parametrize("name", [b"", b"mmu_", b"mmu_oea", b"mmu_radix2", b"\x1b[31m", b"\xff" * 32])
def test_hazard_28_names_in_messages_are_printable(name: bytes):
    with pytest.raises(kvm.FormatError, match="unknown MMU") as error:
        kvm.open(bare("powerpc64", 2, pmap=bytes(65536), mmu_name=name))
    assert_is_a_sentence(str(error.value))


@pytest.mark.parametrize("flags", [2, 3, 6, 0xFFFFFFFF])
def test_hazard_31_arm64_granules_that_are_not_known(flags: int):
    with pytest.raises(kvm.FormatError, match=f"page size code {flags & 3} in the arm64 minidump header"):
        kvm.open(bare("arm64", 3, flags=flags))


def test_hazard_32_header_of_zeros():
    with pytest.raises(kvm.NotADumpError, match="neither a minidump nor an ELF core"):
        kvm.open(bytes(PAGE) + bare("amd64", 3)[PAGE:])


@pytest.mark.parametrize("name", ["amd64-v3", "arm64-v2", "riscv-v2"])
def test_hazard_33_trailing_header_of_a_live_dump(name: str):
    scenario = scenario_of(variant(name))
    trailer = b"FreeBSD Kernel Dump\0".ljust(512, b"\1")
    plain, longer = kvm.open(scenario.dump.data), kvm.open(scenario.dump.data + trailer)
    assert list(longer.runs()) == list(plain.runs())
    assert longer.physical.bounds() == plain.physical.bounds()
    with pytest.raises(kvm.NotDumpedError):
        longer.pa_of(len(scenario.dump.data))


# --- Time and memory ------------------------------------------------------------------------------------------------

FRAGMENTS = [(at * 0x10000, at * 0x10000 + 0x8000) for at in range(255)]


@pytest.mark.parametrize("arch", ["amd64", "i386", "arm64", "riscv", "mips", "powerpc64"])
def test_page_maps_of_ones_over_many_ranges(arch: str):
    """Looking up an entry's memory must not go through all ranges of dump_avail."""
    data = bare(
        arch,
        3 if arch == "amd64" else 2,
        avail=FRAGMENTS,
        pmap=b"\xff" * (MIB // (4 if arch == "powerpc64" else 16)),
        kernbase=1 << 22,
    )
    assert_cheap(data)


def test_scattered_pages_over_many_ranges():
    pmap = quads([(number * 0x20000 & 0xFFFFFF) | 3 for number in range(MIB // 128)])
    assert_cheap(bare("arm64", 2, avail=FRAGMENTS, pmap=pmap))


@pytest.mark.parametrize("arch", ["amd64", "i386", "arm64", "riscv", "arm", "mips", "powerpc64", "powerpc64le"])
def test_page_maps_that_claim_4_gib(arch: str):
    size = 0x80000000 if arch.startswith("powerpc64") else 0xFFFFFFFF
    name = "ptesize" if arch in ("i386", "arm", "mips") else "pmapsize"
    options: dict[str, Any] = {"kernbase": 0xFFFF0000_00000000} if arch in ("arm64", "riscv") else {}
    if arch in ("i386", "arm", "mips"):
        options["kernbase"] = 0
    data = bare(arch, 3 if arch == "amd64" else 2, pmap=b"\xff" * PAGE, **{name: size}, **options)
    assert_cheap(data)


def test_hashed_page_tables_for_every_segment():
    """The kernel's range is what the header says; that alone must not cost memory."""
    data = bare("powerpc64", 2, pmap=b"\xff" * 2048 * 128, kernbase=0, kernend=TOP - 1, dmapbase=1 << 62)
    assert_cheap(data)
    assert peak_of(lambda: list(kvm.open(data).walk())) < 8 * len(data) + MIB


def test_hashed_page_tables_full_of_the_same_page():
    hi = hpt.kernel_vsid(0xE0000000_00000000) << 12 | 1
    data = bare("powerpc64", 2, pmap=quads([hi, 0x1002] * 2048 * 8, "big"), pages=bytes(PAGE))
    assert_cheap(data)
    walked = list(kvm.open(data).walk())
    assert len({piece.va for piece in walked}) == len(walked)


@pytest.mark.parametrize("each", [each for each in VARIANTS if each.arch != "arm64"], ids=str)
def test_memory_stays_near_the_size_of_the_file(each: Variant):
    data = scenario_of(each).dump.data

    def everything() -> None:
        dump = kvm.open(data)
        for operation in (dump.runs, dump.pages, dump.walk):
            for _ in itertools.islice(operation(), 500):  # type: ignore[operator]
                pass
        for base in (dump.header.kernbase, dump.header.dmapbase):  # type: ignore[union-attr]
            attempt(dump.read, base, 1 << 40)
            attempt(dump.read_physical, base, 1 << 40)

    assert peak_of(everything) < 4 * len(data) + MIB


@pytest.mark.parametrize("each", VARIANTS, ids=str)
def test_reads_of_a_terabyte_fail_at_the_first_hole(each: Variant):
    scenario = scenario_of(each)
    dump = kvm.open(scenario.dump.data)
    last = scenario.mappings[7]
    with at_most(affordable(scenario.dump.data)), pytest.raises(kvm.NotMappedError) as error:
        dump.read(scenario.mappings[0].va, 1 << 40)
    assert error.value.address == last.end


def test_the_length_of_a_read_costs_nothing_by_itself():
    """Finding where a run of a large bitmap ends must not copy the bitmap."""
    bitmap = b"\x55" * (4 * MIB)
    dump = kvm.open(bare("amd64", 2, bitmap=bitmap, pages=bytes(PAGE)))
    assert peak_of(lambda: attempt(dump.read_physical, 0, 1 << 40)) < MIB
    assert peak_of(lambda: attempt(dump.read, 0xFFFFF800_00000000, 1 << 40)) < MIB


# --- Anything at all ------------------------------------------------------------------------------------------------

FUZZED = ("amd64-v3", "amd64-v1", "i386-v2-pae", "arm64-v3-16k", "riscv-v2", "arm-v2-avail-4")
FUZZED += ("powerpc64-v2-hash", "powerpc64le-v2-radix", "mips-v2-32-big")
NUMBERS = st.one_of(st.sampled_from(LONGS), st.integers(0, TOP - 1))


Patch = tuple[int, float, int, int, str]
"""Number of a place in the dump, how far into it (0 to 1), bytes, value, byte order."""
PATCHES = st.tuples(
    st.integers(0, 15),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([1, 2, 4, 8]),
    NUMBERS,
    st.sampled_from(["little", "big"]),
)


def damaged(name: str, patches: Sequence[Patch]) -> bytes:
    """A dump with numbers written into its header (half of the places) and its tables."""
    dump = scenario_of(variant(name)).dump
    tables = [(dump.dump_avail_offset, 64), (dump.bitmap_offset, 32), (dump.pmap_offset, 512)]
    tables += [(offset, 256) for offset in map(dump.offset_of, sorted(dump.tables)) if offset is not None]
    places = [(0x18, 0x78)] * 8 + tables
    data = bytearray(dump.data)
    for place, within, size, value, byteorder in patches:
        start, length = places[place % len(places)]
        at = start + int(within * length) // size * size
        data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, byteorder)  # type: ignore[arg-type]
    return bytes(data)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FUZZED), st.lists(PATCHES, min_size=1, max_size=4), st.none() | st.floats(0, 1))
def test_damaged_minidumps(name: str, patches: list[Patch], cut: float | None):
    data = damaged(name, patches)
    assert_consistent(data if cut is None else data[: int(cut * len(data))])


@st.composite
def damaged_cores(draw: st.DrawFn) -> bytes:
    """A core of any kind with numbers written over its headers, perhaps cut off."""
    target = TARGETS[draw(st.sampled_from(sorted(TARGETS)))]
    wide = st.one_of(NUMBERS, st.integers(0, 0x8000))
    segments = [Segment(0x1000, 0x1000, b"x" * 2 * PAGE)]
    for _ in range(draw(st.integers(0, 4))):
        sizes = {"memsz": draw(wide), "filesz": draw(wide)} if draw(st.booleans()) else {}
        sizes = {name: value % (1 << target.bits) for name, value in sizes.items()}
        kind = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 6, 0x6FB5D000, 0x7FFFFFFF]))
        segments.append(Segment(draw(wide), draw(wide), b"y" * PAGE, kind=kind, **sizes))
    data = bytearray(elfcore(segments, **target._asdict(), pn_xnum=draw(st.booleans())))
    limit = 64 + 56 * len(segments) + 64
    for at in draw(st.lists(st.integers(5, limit // 2), max_size=3)):
        size = draw(st.sampled_from([1, 2, 4, 8]))
        data[2 * at : 2 * at + size] = (draw(NUMBERS) % (1 << 8 * size)).to_bytes(size, target.byteorder)
    return bytes(data[: draw(st.one_of(st.none(), st.integers(0, len(data))))])


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(damaged_cores(), st.sampled_from([{}, {"root": 0x1000}, {"root": TOP - PAGE}, {"root": -1}]))
def test_damaged_cores(data: bytes, options: dict[str, Any]):
    assert_consistent(data, **options)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([b"", b"minidump", *(magic.ljust(24, b"\0") for magic in MAGIC.values()), b"\x7fELF"]),
    st.binary(max_size=200),
    st.sampled_from([0, PAGE, 3 * PAGE]),
)
def test_any_bytes_behind_a_magic(magic: bytes, content: bytes, size: int):
    assert_consistent((magic + content).ljust(size, b"\0"))


@settings(deadline=None, max_examples=15)
@given(st.dictionaries(st.sampled_from(["KPML4phys", "kernbase", "kernphys", "la57", "KPML5phys"]), NUMBERS))
def test_any_values_of_symbols(symbols: dict[str, int]):
    memory, _ = amd64_tables()
    assert_consistent(core_of(memory), symbols=symbols)


def test_messages_name_what_was_found_and_what_was_expected():
    """The sentences of the most frequent refusals, as the analyst sees them."""
    with pytest.raises(kvm.FormatError, match=re.escape("an ELF file, but no core: its type is ET_EXEC")):
        kvm.open(core([Segment(0, 0, b"x")], elf_type=elf.ET_EXEC))
    with pytest.raises(kvm.FormatError, match=re.escape("the ELF core has no PT_LOAD segment with content")):
        kvm.open(core([Segment(0, 0, b"x" * PAGE, kind=elf.PT_NOTE)]))
