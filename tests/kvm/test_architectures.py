"""Every minidump format: what the writers put in comes out, and what is absent is absent for the right reason."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.writers import hpt
from tests.writers.corrupt import overwrite, patch
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import build_minidump, minidump
from tests.writers.parameters import GIB, KIB, MIB
from tests.writers.scenarios import UNKNOWN, VARIANTS, PageTruth, Scenario, Variant, build_scenario
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm.records import Absence, Protection

scenario_of = functools.lru_cache(maxsize=1)(build_scenario)


@pytest.fixture(params=VARIANTS, ids=str, scope="module")
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return scenario_of(request.param)


@pytest.fixture
def dump(scenario: Scenario) -> kvm.Dump:
    return kvm.open(scenario.dump.data)


def expanded_walk(dump: kvm.Dump) -> Iterator[PageTruth]:
    """The dump's own walk, page by page, in the form of the truth."""
    for found in dump.walk():
        assert found.length % dump.page_size == 0
        assert found.pa is not None
        assert (found.offset is None) == (found.absence is not None)
        for distance in range(0, found.length, dump.page_size):
            offset = None if found.offset is None else found.offset + distance
            yield PageTruth(found.va + distance, found.pa + distance, int(found.prot), offset)


def test_the_header_is_recognised(scenario: Scenario, dump: kvm.Dump):
    assert dump.architecture == scenario.variant.arch
    assert dump.byteorder == scenario.dump.parameters.byteorder
    assert dump.page_size == scenario.dump.parameters.page_size
    assert dump.warnings == []
    # The magic stands in dump.architecture; the size of the page map has one name for all architectures.
    fields = {{"ptesize": "pmapsize"}.get(name, name): value for name, value in scenario.dump.header.items()}
    del fields["magic"]
    for name, value in fields.items():
        assert getattr(dump.header, name) == (value.decode() if isinstance(value, bytes) else value), name


def test_every_mapped_byte_reads_back_by_va_and_pa(scenario: Scenario, dump: kvm.Dump):
    size = scenario.page_size
    count = 0
    for page in scenario.mapped_pages():
        if page.offset is None:
            continue
        content = bytes(scenario.dump.memory.pages[page.pa])
        assert dump.read(page.va, size) == content, hex(page.va)
        assert dump.read_physical(page.pa, size) == content
        assert dump.kvatop(page.va) == page.pa
        assert dump.kvatop(page.va + size - 1) == page.pa + size - 1
        assert dump.offset_of(page.pa + 5) == page.offset + 5
        count += 1
    assert count >= 14


def test_reads_continue_over_pages_that_are_not_neighbours(scenario: Scenario, dump: kvm.Dump):
    size = scenario.page_size
    contiguous, text, *scattered = scenario.mappings[:8]
    pieces = [scenario.dump.memory.read(mapping.pa, mapping.length) for mapping in (contiguous, text, *scattered)]
    expected = b"".join(pieces)
    assert len(expected) == 13 * size
    assert dump.read(contiguous.va, len(expected)) == expected
    assert dump.read(contiguous.va + 7, len(expected) - 11) == expected[7:-4]
    assert dump.read(contiguous.va, 0) == b""


def test_absent_pages_say_why(scenario: Scenario, dump: kvm.Dump):
    with pytest.raises(kvm.NotMappedError) as unmapped:
        dump.read(scenario.unmapped_va, 1)
    assert unmapped.value.address == scenario.unmapped_va
    with pytest.raises(kvm.NotMappedError):
        dump.kvatop(scenario.unmapped_va)
    for mapping in (scenario.undumped, scenario.device):
        assert dump.kvatop(mapping.va + 3) == mapping.pa + 3
        with pytest.raises(kvm.NotDumpedError) as undumped:
            dump.read(mapping.va + 3, 1)
        assert undumped.value.address == mapping.va + 3
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(mapping.pa + 3, 1)
        with pytest.raises(kvm.NotDumpedError):
            dump.offset_of(mapping.pa)


def test_a_read_that_runs_into_an_absent_page_names_that_page(scenario: Scenario, dump: kvm.Dump):
    last = scenario.mappings[7]
    with pytest.raises(kvm.NotMappedError) as stopped:
        dump.read(last.va, 2 * scenario.page_size)
    assert stopped.value.address == last.va + scenario.page_size


def test_superpages_have_holes(scenario: Scenario, dump: kvm.Dump):
    offsets = scenario.page_offsets()
    superpages = [mapping for mapping in scenario.mappings if mapping.leaf]
    assert len(superpages) == len(scenario.variant.superpages)
    for mapping in superpages:
        pages = list(itertools.islice(mapping.base_pages(scenario.page_size), 60))
        assert {pa in offsets for _, pa in pages} == {True, False}
        for va, pa in [*pages, (mapping.end - scenario.page_size, mapping.pa + mapping.length - scenario.page_size)]:
            assert dump.kvatop(va + 1) == pa + 1
            if pa not in offsets:
                with pytest.raises(kvm.NotDumpedError):
                    dump.read(va, 1)


def test_addresses_between_the_ranges_of_dump_avail_are_absent(scenario: Scenario, dump: kvm.Dump):
    for pa in scenario.gaps:
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 1)
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa + scenario.page_size - 1, 1)


def test_reading_before_and_behind_physical_memory(scenario: Scenario, dump: kvm.Dump):
    for pa in (
        0,
        min(scenario.dump.dumped) - 1,
        max(scenario.dump.dumped) + scenario.page_size,
        1 << 51,
        (1 << 64) - 1,
    ):
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 1)


def test_walk_is_the_truth_page_by_page(scenario: Scenario, dump: kvm.Dump):
    for found, expected in itertools.zip_longest(expanded_walk(dump), scenario.mapped_pages()):
        assert found == expected
    assert dump.warnings == []


def test_walk_tells_absent_ranges_apart(scenario: Scenario, dump: kvm.Dump):
    absences = {
        found.va: found.absence for found in dump.walk() if found.va <= scenario.mappings[10].va and found.absence
    }
    assert absences == {scenario.undumped.va: Absence.NOT_DUMPED, scenario.device.va: Absence.NOT_DUMPED}


def test_walk_protections(scenario: Scenario, dump: kvm.Dump):
    protections = {found.prot for found in dump.walk()}
    assert all(prot & Protection.READ or prot is Protection.UNKNOWN for prot in protections)
    expected = {page.protection for page in scenario.mapped_pages()}
    assert {int(prot) for prot in protections} == expected


def test_pages_are_the_truth_with_direct_map_addresses(scenario: Scenario, dump: kvm.Dump):
    size = scenario.page_size
    found = [
        (part.pa + at, part.offset + at, None if part.va is None else part.va + at)
        for part in dump.pages()
        for at in range(0, part.length, size)
    ]
    assert found == [(pa, offset, scenario.direct_va(pa)) for pa, offset in sorted(scenario.page_offsets().items())]


def test_runs_are_the_truth_and_maximal(scenario: Scenario, dump: kvm.Dump):
    size = scenario.page_size
    runs = list(dump.runs())
    pages = {run.pa + at: run.offset + at for run in runs for at in range(0, run.length, size)}
    assert pages == scenario.page_offsets()
    assert [run.pa for run in runs] == [pa for pa, _ in scenario_runs(scenario)]
    for pa, offset in pages.items():
        assert dump.pa_of(offset + 9) == pa + 9


def scenario_runs(scenario: Scenario) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for pa in sorted(scenario.dump.dumped):
        if runs and sum(runs[-1]) == pa:
            runs[-1] = (runs[-1][0], runs[-1][1] + scenario.page_size)
        else:
            runs.append((pa, scenario.page_size))
    return runs


def test_offsets_outside_the_page_area_have_no_pa(scenario: Scenario, dump: kvm.Dump):
    for offset in (0, scenario.dump.pages_offset - 1, len(scenario.dump.data)):
        with pytest.raises((kvm.AddressError, ValueError)):
            dump.pa_of(offset)


def test_the_direct_map_reads_dumped_pages_only(scenario: Scenario, dump: kvm.Dump):
    count = 0
    for pa in [*scenario.dump.dumped, *scenario.gaps, scenario.undumped.pa]:
        va = scenario.direct_va(pa)
        if scenario.variant.arch in ("i386", "arm") or va is None:
            continue
        count += 1
        assert dump.kvatop(va + 2) == pa + 2
        if pa in scenario.dump.dumped:
            assert dump.read(va, 16) == bytes(scenario.dump.memory.pages[pa][:16])
        else:
            with pytest.raises(kvm.NotDumpedError):
                dump.read(va, 16)
    assert count > 60 or scenario.variant.arch in ("i386", "arm")


def test_truncated_dumps_tell_lost_pages_from_pages_never_dumped(scenario: Scenario):
    size = scenario.page_size
    lost = scenario.dump.dumped[-40:]
    cut = kvm.open(scenario.dump.data[: -40 * size])
    assert len(cut.warnings) == 1
    for pa in scenario.dump.dumped[:-40]:
        if pa not in scenario.dump.tables:
            assert cut.read_physical(pa, size) == bytes(scenario.dump.memory.pages[pa])
    for pa in lost:
        with pytest.raises(kvm.BeyondEndError):
            cut.read_physical(pa, 1)
    with pytest.raises(kvm.NotDumpedError):
        cut.read_physical(scenario.undumped.pa, 1)


def test_a_page_cut_in_the_middle(scenario: Scenario):
    last = scenario.dump.dumped[-1]
    cut = kvm.open(scenario.dump.data[:-100])
    with pytest.raises(kvm.BeyondEndError):
        cut.read_physical(last, scenario.page_size)
    with pytest.raises(kvm.BeyondEndError):
        cut.read_physical(last + scenario.page_size - 100, 1)
    if len(scenario.dump.dumped) > 1:
        before = scenario.dump.dumped[-2]
        assert cut.read_physical(before, scenario.page_size) == bytes(scenario.dump.memory.pages[before])


TRUNCATED_WALKS = [variant for variant in VARIANTS if "radix" not in variant.label and variant.arch != "amd64"]


@pytest.mark.parametrize("variant", TRUNCATED_WALKS, ids=str)
def test_walking_a_truncated_dump(variant: Variant):
    scenario = build_scenario(variant)
    cut = kvm.open(scenario.dump.data[: -40 * scenario.page_size])
    lost = set(scenario.dump.dumped[-40:])
    found = {piece.va + at: piece.absence for piece in cut.walk() for at in range(0, piece.length, scenario.page_size)}
    for page in itertools.islice(scenario.mapped_pages(), 3000):
        expected = Absence.BEYOND_END if page.pa in lost else Absence.NOT_DUMPED if page.offset is None else None
        assert found[page.va] is expected, hex(page.va)


# --- the direct map and the page map: which is asked first ----------------------------------------------------------


def ram(start: int, pages: int = 4, page_size: int = 4096) -> PhysicalMemory:
    memory = PhysicalMemory(page_size, free_area=(start + pages * page_size, start + (pages + 16) * page_size))
    for number in range(pages):
        memory.fill_random(start + number * page_size, page_size, seed=number)
    return memory


def test_amd64_asks_the_page_map_first():
    memory = ram(0x10_0000)
    mapping = Mapping(0xFFFFFE00_00100000, 0x10_2000, 4096)
    dump = kvm.open(minidump("amd64", 3, memory, [mapping], dmapbase=0xFFFFFE00_00000000, dmapend=0xFFFFFE01_00000000))
    assert dump.kvatop(0xFFFFFE00_00100000) == 0x10_2000
    for va in (0xFFFFFE00_00101000, 0xFFFFFE00_40001000):  # no entry; behind the last entry
        with pytest.raises(kvm.NotMappedError):
            dump.kvatop(va)


@pytest.mark.parametrize("arch", ["arm64", "riscv"])
def test_arm64_and_riscv_ask_the_direct_map_first(arch: str):
    base = 0xFFFFFFC0_00000000
    memory = ram(0x8000_0000)
    mappings = [Mapping(base, 0x8000_2000, 4096), Mapping(base + 0x10_0000, 0x8000_3000, 4096)]
    data = minidump(
        arch,
        2,
        memory,
        mappings,
        kernbase=base,
        dmapbase=base + 0x10_0000,
        dmapend=base + 0x20_0000,
        dmapphys=0x8000_0000,
    )
    dump = kvm.open(data)
    assert dump.kvatop(base) == 0x8000_2000
    assert dump.kvatop(base + 0x10_0000) == 0x8000_0000


@pytest.mark.parametrize(("arch", "version"), [("amd64", 2), ("amd64", 3), ("arm64", 2), ("riscv", 2)])
def test_the_end_of_the_direct_map_is_exclusive(arch: str, version: int):
    variant = Variant(arch, version)
    known = variant.parameters
    memory = ram(known.dmapphys)
    dump = kvm.open(minidump(arch, version, memory, [], dmapend=known.dmapbase + 0x3000))
    assert dump.read(known.dmapbase + 0x2000, 4096) == memory.read(known.dmapphys + 0x2000, 4096)
    with pytest.raises(kvm.NotMappedError):
        dump.read(known.dmapbase + 0x3000, 1)
    assert [part.va for part in dump.pages()] == [known.dmapbase, None]


@pytest.mark.parametrize("mmu", ["mmu_phyp", "mmu_radix"])
def test_the_end_of_the_powerpc64_direct_map_is_inclusive(mmu: str):
    memory = ram(0)
    dump = kvm.open(minidump("powerpc64", 2, memory, [], mmu_name=mmu, dmapend=0xC000_0000_0000_2FFF))
    assert dump.read(0xC000_0000_0000_2FFF, 1) == memory.read(0x2FFF, 1)
    with pytest.raises(kvm.NotMappedError):
        dump.read(0xC000_0000_0000_3000, 1)


@pytest.mark.parametrize("arch", ["arm64", "riscv"])
@pytest.mark.parametrize("dmapphys", [0, 0x4000_0000, 0x8020_0000, 0x20_0000_0000])
def test_the_direct_map_starts_at_dmapphys(arch: str, dmapphys: int):
    memory = ram(dmapphys)
    base = Variant(arch, 2).parameters.dmapbase
    dump = kvm.open(minidump(arch, 2, memory, [], dmapphys=dmapphys))
    assert dump.kvatop(base + 0x1010) == dmapphys + 0x1010
    assert dump.read(base + 0x1010, 32) == memory.read(dmapphys + 0x1010, 32)
    assert [(part.va, part.pa, part.length) for part in dump.pages()] == [(base, dmapphys, 0x4000)]


# --- dump_avail -----------------------------------------------------------------------------------------------------


def test_ranges_may_start_and_end_inside_a_page():
    memory = ram(0x1000, 8)
    dumped = {0x1000, 0x3000, 0x6000}
    data = minidump("i386", 2, memory, [], dump_avail=[(0, 0x800), (0x1000, 0x3400), (0x6000, 0x8000)], dumped=dumped)
    dump = kvm.open(data)
    for pa in dumped:
        assert dump.read_physical(pa, 4096) == memory.read(pa, 4096)
    assert [(run.pa, run.length) for run in dump.runs()] == [(0x1000, 0x1000), (0x3000, 0x1000), (0x6000, 0x1000)]
    for pa in (0, 0x2000, 0x4000, 0x5000, 0x7000, 0x8000):
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 1)


@pytest.mark.parametrize(
    ("arch", "version"),
    [("amd64", 3), ("i386", 2), ("arm", 2), ("arm64", 2), ("riscv", 2), ("powerpc64", 2), ("mips", 2)],
)
def test_the_first_range_may_start_at_zero(arch: str, version: int):
    memory = ram(0, 2)
    memory.write(0x10000, b"second range".ljust(4096, b"\0"))
    dump = kvm.open(minidump(arch, version, memory, [], dump_avail=[(0, 0x2000), (0x10000, 0x11000)]))
    assert dump.read_physical(0, 0x2000) == memory.read(0, 0x2000)
    assert dump.read_physical(0x10000, 12) == b"second range"


def test_a_gap_does_not_alias_a_page_of_an_earlier_range():
    """Models the arm64 sample: pages 0x4bcb0000 and 0x4bccf000 lie in a gap; libkvm returns other pages for them."""
    memory = PhysicalMemory()
    for pa in (0x4BC50000, 0x4BC6F000, 0x4BD00000):
        memory.fill_random(pa, 4096, seed=pa)
    ranges = [(0x4BC00000, 0x4BCA0000), (0x4BD00000, 0x4BD80000)]
    dump = kvm.open(minidump("arm64", 2, memory, [], dump_avail=ranges))
    for pa in (0x4BCB0000, 0x4BCCF000):
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 16)
    assert dump.read_physical(0x4BC50000, 16) == memory.read(0x4BC50000, 16)


@pytest.mark.parametrize(
    ("arch", "version", "offset"), [("amd64", 2, 0x40), ("arm64", 1, 0x48), ("i386", 1, 0x30), ("powerpc64", 1, 0x88)]
)
def test_padding_behind_an_old_header_is_not_a_dump_avail_size(arch: str, version: int, offset: int):
    memory = ram(0)
    data = overwrite(minidump(arch, version, memory, []), offset, b"\0\x10\x10\0")
    assert kvm.open(data).read_physical(0x1000, 4096) == memory.read(0x1000, 4096)


@st.composite
def dumped_ranges(draw: st.DrawFn) -> tuple[list[tuple[int, int]], set[int]]:
    """Ranges of dump_avail (page aligned, with gaps) and some pages of them, as page numbers."""
    edges = draw(st.lists(st.integers(0, 3000), min_size=2, max_size=12, unique=True).map(sorted))
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    available = [page for start, end in ranges for page in range(start, end)]
    return ranges, draw(st.sets(st.sampled_from(available), min_size=1, max_size=30))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=dumped_ranges(),
    arch_version=st.sampled_from([("amd64", 2), ("amd64", 3), ("i386", 2), ("powerpc64", 2), ("mips", 2)]),
)
def test_exactly_the_dumped_pages_are_there(
    case: tuple[list[tuple[int, int]], set[int]], arch_version: tuple[str, int]
):
    ranges, pages = case
    memory = PhysicalMemory(free_area=(0, 0))
    for page in pages:
        memory.write(page << 12, page.to_bytes(4096, "little"))
    avail = [(start << 12, end << 12) for start, end in ranges]
    dump = kvm.open(minidump(*arch_version, memory, [], dump_avail=avail))
    for page in range(3002):
        if page in pages:
            assert dump.read_physical(page << 12, 4096) == page.to_bytes(4096, "little")
        else:
            with pytest.raises(kvm.NotDumpedError):
                dump.read_physical(page << 12, 1)


# --- single formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_amd64_page_table_pages_come_from_the_dump(version: int):
    memory = ram(0x10_0000)
    mapping = Mapping(0xFFFFFE00_00100000, 0x10_2000, 4096)
    dump = kvm.open(minidump("amd64", version, memory, [mapping], dump_page_tables=False))
    with pytest.raises(kvm.NotDumpedError) as missing:
        dump.read(0xFFFFFE00_00100000, 1)
    assert missing.value.address == 0xFFFFFE00_00100000
    (hole,) = dump.walk()
    assert (hole.va, hole.pa, hole.length, hole.absence) == (0xFFFFFE00_00000000, None, 2 * MIB, Absence.NOT_DUMPED)


def test_amd64_page_table_pages_are_dumped_pages_like_others():
    memory = ram(0x10_0000)
    built = build_minidump("amd64", 3, memory, [Mapping(0xFFFFFE00_00100000, 0x10_2000, 4096)])
    (table,) = built.tables
    entry = kvm.open(built.data).read(0xFFFFF800_00000000 + table + 0x100 * 8, 8)
    assert int.from_bytes(entry, "little") == 0x8000_0000_0010_2163


def test_amd64_real_map_size_and_both_kernel_regions():
    memory = ram(0x20_0000)
    mappings = [
        Mapping(0xFFFFFE00_00000000, 0x20_1000, 4096),
        Mapping(0xFFFFFFFF_80200000, 0x20_0000, 2 * MIB, leaf=2 * MIB, write=False, execute=True),
    ]
    dump = kvm.open(minidump("amd64", 3, memory, mappings, kernel_end=0xFFFFFFFF_C0000000))
    assert dump.header.pmapsize == 0x7FF000
    found = [(part.va, part.pa, part.length, part.prot, part.absence) for part in dump.walk()]
    rx = Protection.READ | Protection.EXECUTE
    assert found == [
        (0xFFFFFE00_00000000, 0x20_1000, 0x1000, Protection.READ | Protection.WRITE, None),
        (0xFFFFFFFF_80200000, 0x20_0000, 0x5000, rx, None),  # the last of them is the page table page
        (0xFFFFFFFF_80205000, 0x20_5000, 0x1FB000, rx, Absence.NOT_DUMPED),
    ]
    assert dump.read(0xFFFFFFFF_80201234, 8) == memory.read(0x20_1234, 8)
    with pytest.raises(kvm.NotMappedError):
        dump.read(0xFFFFFFFF_C0000000, 1)


def test_arm64_kernel_text_executes_although_users_may_not():
    """Since 13 every kernel page has UXN set; whether the kernel may execute it is PXN alone."""
    memory = ram(0x4000_0000)
    text = Mapping(0xFFFF0000_00000000, 0x4000_0000, 4096, write=False, execute=True)
    data = Mapping(0xFFFF0000_00001000, 0x4000_1000, 4096)
    for version in (1, 2, 3):
        first, second = kvm.open(minidump("arm64", version, memory, [text, data])).walk()
        assert first.prot == Protection.READ | Protection.EXECUTE, f"version {version}"
        assert second.prot == Protection.READ | Protection.WRITE


def test_arm64_16k_refuses_the_other_granules():
    data = minidump("arm64", 3, ram(0x4000_0000), [])
    for flags in (2, 3):
        with pytest.raises(kvm.FormatError):
            kvm.open(patch(data, "arm64", 3, "flags", flags))


def test_riscv_attribute_bits_are_not_address_bits():
    memory = ram(0x8000_0000)
    mapping = Mapping(0xFFFFFFC0_00000000, 0x8000_2000, 4096)
    for pbmt in range(4):
        dump = kvm.open(minidump("riscv", 2, memory, [mapping], pbmt=pbmt))
        assert dump.kvatop(0xFFFFFFC0_00000000) == 0x8000_2000


def test_riscv_pointers_are_not_leaves():
    built = build_minidump("riscv", 2, ram(0x8000_0000), [Mapping(0xFFFFFFC0_00000000, 0x8000_2000, 4096)])
    pointer = (0x8000_2000 >> 12 << 10 | 1).to_bytes(8, "little")
    dump = kvm.open(overwrite(built.data, built.pmap_offset, pointer))
    with pytest.raises(kvm.NotMappedError):
        dump.kvatop(0xFFFFFFC0_00000000)
    assert list(dump.walk()) == []


def test_arm_tiny_pages_of_the_old_format_are_invalid():
    built = build_minidump("arm", 1, ram(0x1000), [Mapping(0xC000_0000, 0x2000, 4096)], mmuformat=1)
    tiny = overwrite(built.data, built.pmap_offset, b"\x53\x25\0\0")
    with pytest.raises(kvm.NotMappedError):
        kvm.open(tiny).kvatop(0xC000_0000)
    assert kvm.open(patch(tiny, "arm", 1, "mmuformat", 2)).kvatop(0xC000_0000) == 0x2000


def test_i386_pae_reaches_memory_above_4_gib():
    memory = PhysicalMemory()
    memory.fill_random(0x1_2345_6000, 4096, seed=1)
    dump = kvm.open(
        minidump(
            "i386", 2, memory, [Mapping(0x80_1000, 0x1_2345_6000, 4096)], dump_avail=[(0x1_0000_0000, 0x1_4000_0000)]
        )
    )
    assert dump.read(0x80_1000, 4096) == memory.read(0x1_2345_6000, 4096)


def test_i386_has_no_direct_map():
    dump = kvm.open(minidump("i386", 2, ram(0x1000), []))
    assert [part.va for part in dump.pages()] == [None]


def test_powerpc64_pages_in_full_groups_are_found_by_their_secondary_hash():
    base = 0xE000_0000_0000_0000
    memory = PhysicalMemory()
    mappings = []
    for number in range(16):  # pages 2048 apart share their groups: eight in the primary, eight in the secondary
        memory.fill_random(0x10_0000 + number * 4096, 4096, seed=number)
        mappings.append(Mapping(base + (number << 23), 0x10_0000 + number * 4096, 4096))
    dump = kvm.open(minidump("powerpc64", 2, memory, mappings))
    for mapping in mappings:
        assert dump.read(mapping.va, 4096) == memory.read(mapping.pa, 4096)
    assert [(part.va, part.pa, part.length) for part in dump.walk()] == [(m.va, m.pa, 4096) for m in mappings]


def test_powerpc64_hash_skips_entries_of_users_and_of_the_hypervisor():
    built = build_minidump("powerpc64", 2, ram(0x10_0000), [Mapping(0xE000_0000_0000_3000, 0x10_1000, 4096)])
    for number, vsid in enumerate((0x1234, 0x1FFFFFF << 12)):
        entry = (vsid << 12 | hpt.HI_VALID).to_bytes(8, "big") + (0x10_2000 | 2).to_bytes(8, "big")
        data = overwrite(built.data, built.pmap_offset + 16 * number, entry)
        assert [part.va for part in kvm.open(data).walk()] == [0xE000_0000_0000_3000]


def test_powerpc64_hash_lists_pages_whatever_the_size_of_the_table():
    mappings = [Mapping(0xE000_0000_0000_0000 + (page << 12), 0x10_0000, 4096) for page in (0, 0x7FF, 0x800, 0xFFFF)]
    for groups in (2048, 8192, 65536):
        dump = kvm.open(minidump("powerpc64", 2, ram(0x10_0000), mappings, hpt_groups=groups))
        assert [part.va for part in dump.walk()] == [mapping.va for mapping in mappings]


@pytest.mark.parametrize("mmu", ["mmu_phyp", "mmu_radix"])
@pytest.mark.parametrize("arch", ["powerpc64", "powerpc64le"])
def test_powerpc64_symbols_of_the_linked_kernel_are_relocated(arch: str, mmu: str):
    memory = ram(0x10_0000)
    dump = kvm.open(minidump(arch, 2, memory, [], mmu_name=mmu, startkernel=0xC000_0000_0010_1100))
    assert dump.kvatop(0x10_0100) == 0x10_1100
    assert dump.read(0x10_0200, 64) == memory.read(0x10_1200, 64)


@pytest.mark.parametrize("arch", ["powerpc64", "powerpc64le"])
def test_powerpc64_radix_tables_that_are_missing_are_not_dumped(arch: str):
    va = 0xC008_0000_0000_3000
    data = minidump(
        arch, 2, ram(0x10_0000), [Mapping(va, 0x10_0000, 4096)], mmu_name="mmu_radix", dump_page_tables=False
    )
    with pytest.raises(kvm.NotDumpedError):
        kvm.open(data).read(va, 1)


def test_powerpc64_radix_512_gib_leaf():
    built = build_minidump("powerpc64", 2, ram(0x10_0000), [], mmu_name="mmu_radix")
    leaf = (0xC000_0000_0000_0000 | 0x186).to_bytes(8, "big")
    dump = kvm.open(overwrite(built.data, built.pmap_offset + 4096 * 8, leaf))
    assert dump.kvatop(0xC008_0000_0010_0123) == 0x10_0123


def test_mips_segments():
    memory = ram(0x10_0000)
    narrow = kvm.open(minidump("mips", 1, memory, []))
    for base in (0x8000_0000, 0xA000_0000):
        assert narrow.read(base + 0x10_1000, 8) == memory.read(0x10_1000, 8)
    wide = kvm.open(minidump("mips", 2, memory, [], pte_size=8))
    for base in (0x8000 << 48, 0x9800 << 48, 0xB800 << 48, 0xFFFFFFFF_80000000, 0xFFFFFFFF_A0000000):
        assert wide.read(base + 0x10_1000, 8) == memory.read(0x10_1000, 8), hex(base)


def test_unknown_protection_is_only_for_fabricated_entries():
    for variant in (Variant("arm64", 3, superpages=(2 * MIB,)), Variant("i386", 2, superpages=(2 * MIB,))):
        scenario = build_scenario(variant)
        superpage = scenario.mappings[-1]
        for part in kvm.open(scenario.dump.data).walk():
            assert (int(part.prot) == UNKNOWN) == (part.va >= superpage.va)


def test_versions_that_do_not_exist_are_refused():
    for variant in (Variant("amd64", 3), Variant("arm", 2), Variant("powerpc64", 2), Variant("mips", 2)):
        data = minidump(variant.arch, variant.version, ram(0x10_0000), [])
        for version in (0, 9):
            with pytest.raises(kvm.FormatError):
                kvm.open(patch(data, variant.arch, variant.version, "version", version))


def test_a_gigabyte_page_reaches_its_last_byte():
    memory = PhysicalMemory(free_area=(0x20_0000, 0x30_0000))
    memory.fill_random(GIB * 2 - 4 * KIB, 4 * KIB, seed=5)
    memory.fill_random(GIB, 4 * KIB, seed=6)
    mapping = Mapping(0xFFFFFE00_40000000, GIB, GIB, leaf=GIB)
    dump = kvm.open(minidump("amd64", 3, memory, [mapping]))
    assert dump.read(mapping.end - 4096, 4096) == memory.read(GIB * 2 - 4096, 4096)
    assert dump.read(mapping.va, 4096) == memory.read(GIB, 4096)
    with pytest.raises(kvm.NotDumpedError):
        dump.read(mapping.va + 4096, 1)
