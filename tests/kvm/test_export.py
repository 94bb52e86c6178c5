"""Exported dumps: the same bytes and the same absence at every address, whatever memory looks like."""

from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kvm.test_fulldumps import Amd64Kernel, around
from tests.writers.elfcore import EM_X86_64, Segment, elfcore, full_dump, virtual_dump
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import minidump
from tests.writers.parameters import GIB, KIB, MIB, defaults
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm import elfcore as core_reader
from volatility3_freebsd_kvm.kvm import export, exportplan
from volatility3_freebsd_kvm.kvm.space import AddressSpace

SIZE = 4 * KIB
BASE = 0xFFFFFE00_00000000
DIRECT = 0xFFFFF800_00000000
PT_LOAD = 1


def elf_of(dump: kvm.Dump, space: AddressSpace | None = None) -> bytes:
    """The dump as an ELF core, verified."""
    return exported(export.plan_elf(dump, space), dump, space)


def raw_of(dump: kvm.Dump, *, from_first_page: bool = False) -> bytes:
    return exported(export.plan_raw(dump, from_first_page=from_first_page), dump)


def exported(plan: export.Plan, dump: kvm.Dump, space: AddressSpace | None = None) -> bytes:
    stream = io.BytesIO()
    export.write(plan, dump, stream)
    assert export.verify(plan, dump, stream, space) == sum(copy.length for copy in plan.copies)
    return stream.getvalue()


class Header(NamedTuple):
    """A program header of a 64-bit core."""

    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


def program_headers(core: bytes) -> list[Header]:
    (at,), (count,) = struct.unpack_from("<Q", core, 32), struct.unpack_from("<H", core, 56)
    return [Header(*struct.unpack_from("<2I6Q", core, at + 56 * index)) for index in range(count)]


def loads(core: bytes) -> list[Header]:
    return [header for header in program_headers(core) if header.kind == PT_LOAD]


def small_memory() -> PhysicalMemory:
    """Six pages in three runs."""
    memory = PhysicalMemory(free_area=(0x30_0000, 0x30_8000))
    for pa in (0x10_0000, 0x10_1000, 0x10_2000, 0x10_5000, 0x20_0000, 0x20_1000):
        memory.fill_random(pa, SIZE, seed=pa)
    return memory


SMALL_MAPPINGS = (
    Mapping(BASE, 0x10_1000, SIZE),
    Mapping(BASE + SIZE, 0x10_0000, SIZE, write=False, execute=True),
    Mapping(BASE + 2 * SIZE, 0x10_3000, SIZE),  # in the ranges, not dumped
    Mapping(BASE + 3 * SIZE, 0xF000_0000, SIZE, write=False),  # a device
    Mapping(BASE + 8 * SIZE, 0x20_0000, 2 * SIZE),
    Mapping(BASE + 16 * SIZE, 0x20_0000, SIZE),  # once more
)


def small(**changes: object) -> bytes:
    ranges = [(0x10_0000, 0x10_8000), (0x20_0000, 0x20_4000), (0x30_0000, 0x30_8000)]
    memory = small_memory()
    return minidump("amd64", 3, memory, SMALL_MAPPINGS, dump_avail=ranges, **changes)  # type: ignore[arg-type]


# --- Equality -------------------------------------------------------------------------------------------------------


def answer(read: Callable[[int, int], bytes], address: int, size: int) -> object:
    """Bytes, or why there are none; what is cut off in the original was never there for the exported."""
    try:
        return read(address, size)
    except kvm.BeyondEndError:
        return kvm.NotDumpedError
    except kvm.AddressError as error:
        return type(error)


def assert_same(one: kvm.Dump, two: kvm.Dump) -> None:
    """Compare all memory, and what is around it, page by page and by mapping."""
    size = one.page_size
    assert (two.architecture, two.byteorder, two.word_bits) == (one.architecture, one.byteorder, one.word_bits)
    assert two.page_size == size
    assert two.physical.has_user_pages == one.physical.has_user_pages
    physical = {run.pa & -size for run in one.physical.promised_runs()}
    for run in one.physical.promised_runs():
        physical |= set(range(run.pa & -size, run.pa + run.length + size, size))
    physical |= {pa - size for pa in physical if pa}
    for pa in sorted(physical):
        for at, length in ((pa, size), (pa, 8), (pa + size - 8, 8), (pa + size // 2, 1)):
            assert answer(two.read_physical, at, length) == answer(one.read_physical, at, length), hex(at)
    virtual = {va for part in one.walk() for va in range(part.va, part.va + min(part.length, 64 * size), size)}
    virtual |= {va + size for va in virtual} | {va - size for va in virtual if va}
    for base, _, phys in one.page_map.directs:
        virtual |= {base + pa - phys for pa in physical if pa >= phys}
    for va in sorted(virtual):
        if va < 1 << one.word_bits:
            for at, length in ((va, size), (va + size - 8, 8)):
                assert answer(two.read, at, length) == answer(one.read, at, length), hex(at)
    assert list(mapped(two)) == list(mapped(one))
    assert two.page_map.directs == one.page_map.directs
    assert [page[:2] + page[3:] for page in two.pages()] == [page[:2] + page[3:] for page in one.pages()]


def mapped(dump: kvm.Dump) -> Iterator[tuple[object, ...]]:
    """The page map without file offsets, and with what is cut off as if it was not dumped."""
    last: tuple[int, int | None, int, object, object] | None = None
    for va, pa, length, prot, _, absence in dump.walk():
        why = kvm.Absence.NOT_DUMPED if absence else None
        if last and (last[0] + last[2], continued(last[1], last[2]), *last[3:]) == (va, pa, prot, why):
            last = last[0], last[1], last[2] + length, prot, why
            continue
        if last:
            yield last
        last = va, pa, length, prot, why
    if last:
        yield last


def continued(pa: int | None, length: int) -> int | None:
    return None if pa is None else pa + length


VARIANTS = [
    ("amd64", 1),
    ("amd64", 2),
    ("amd64", 3),
    ("arm64", 2),
    ("riscv", 2),
    ("i386", 2),
    ("arm", 2),
    ("powerpc64", 2),
    ("mips", 2),
]


class Layout(NamedTuple):
    """A minidump by the numbers of its pages, which read well when a test fails."""

    variant: tuple[str, int]
    pages: frozenset[int]
    mappings: list[tuple[int, int, bool, bool]]
    cut: int

    def build(self) -> bytes:
        known = defaults(*self.variant)
        start = known.dmapphys or MIB
        memory = PhysicalMemory(SIZE, (start + 64 * SIZE, start + 80 * SIZE))
        for number in self.pages:
            memory.fill_random(start + number * SIZE, SIZE, seed=number)
        mappings = [
            Mapping(known.kernbase + va * SIZE, start + pa * SIZE, SIZE, write=write, execute=execute)
            for va, pa, write, execute in self.mappings
        ]
        ranges = [(start, start + 48 * SIZE), (start + 64 * SIZE, start + 80 * SIZE)]
        data = minidump(*self.variant, memory, mappings, dump_avail=ranges)
        return data[: len(data) - min(self.cut, SIZE * len(self.pages) - 1)]


PAGES = st.integers(0, 40)
LAYOUTS = st.builds(
    Layout,
    st.sampled_from(VARIANTS),
    st.frozensets(PAGES, min_size=1, max_size=30),
    st.lists(st.tuples(PAGES, PAGES, st.booleans(), st.booleans()), max_size=30, unique_by=lambda one: one[0]),
    st.just(0) | st.integers(1, 30 * SIZE),
)


@settings(max_examples=150, deadline=None)
@given(LAYOUTS)
def test_every_layout_comes_back(layout: Layout):
    dump = kvm.open(layout.build())
    core = elf_of(dump)
    again = kvm.open(core)
    assert again.warnings == []
    assert_same(dump, again)
    # What was exported can be exported, and does not change any more.
    assert elf_of(again) == core
    image = raw_of(dump, from_first_page=True)
    runs = list(dump.runs())
    for run in runs:
        at = run.pa - runs[0].pa
        assert image[at : at + run.length] == dump.read_physical(run.pa, run.length)
    assert len(image) - sum(run.length for run in runs) <= image.count(0)


@pytest.mark.parametrize("cut", [0, 1, SIZE // 2, SIZE, 3 * SIZE + 8])
def test_cut_off_dumps_lose_what_they_never_had(cut: int):
    data = small()
    dump = kvm.open(data[: len(data) - cut])
    plan = export.plan_elf(dump)
    note = f"the dump is cut off: {cut} bytes that it should hold are beyond its end and not exported"
    assert plan.notes == ((note,) if cut else ())
    assert export.plan_raw(dump).notes == plan.notes
    assert_same(dump, kvm.open(elf_of(dump)))


def test_full_dump_with_page_tables():
    kernel = Amd64Kernel()
    dump = kernel.open()
    again = kvm.open(elf_of(dump))
    assert again.physical.has_user_pages
    assert again.page_map.directs_in_tables
    assert again.page_map.directs == dump.page_map.directs
    assert list(mapped(again)) == list(mapped(dump))
    for mapping in kernel.mappings:
        assert answer(again.read, mapping.va, SIZE) == answer(dump.read, mapping.va, SIZE)
    assert again.read(DIRECT + 0x9_F010, 16) == kernel.memory.read(0x9_F010, 16)


def test_page_tables_found_by_other_means():
    kernel = Amd64Kernel()
    found = kernel.open()
    dump = kvm.open(kernel.dump())
    space = AddressSpace(dump.physical, type(found.page_map)(dump.physical, kernel.root))
    assert list(mapped(kvm.open(elf_of(dump, space)))) == list(mapped(found))


def test_without_page_tables_a_full_dump_stays_what_it_is():
    kernel = Amd64Kernel()
    dump = kvm.open(kernel.dump())
    plan = export.plan_elf(dump)
    assert not plan.has_map
    (note,) = plan.notes
    assert note.startswith("without kernel virtual addresses: no page table root: the symbol KPML4phys is needed")
    core = elf_of(dump)
    assert {(header.vaddr, header.kind) for header in program_headers(core)} == {
        (header.paddr, PT_LOAD) for header in program_headers(core)
    }
    again = kvm.open(core, symbols=kernel.symbols)
    assert list(mapped(again)) == list(mapped(kernel.open()))


def test_arm_full_dump_keeps_where_its_kernel_is():
    memory = PhysicalMemory()
    memory.fill_random(0x2000_0000, 0x2000, seed=1)
    dump = kvm.open(full_dump(memory, around(memory), "arm", delta=(0xC000_0000, 0x2000_0000)))
    again = kvm.open(elf_of(dump))
    assert again.core is not None
    assert (again.core.dump_delta, again.core.has_virtual) == ((0xC000_0000, 0x2000_0000), False)


@pytest.mark.parametrize(("arch", "paddr"), [("powerpc", -1), ("powerpc64", -1), ("powerpc64le", -1), ("amd64", 0)])
def test_core_by_virtual_address(arch: str, paddr: int):
    memory = PhysicalMemory()
    memory.fill_random(0, 0x3000, seed=1)
    mappings = [Mapping(0xC000_0000, 0, 0x2000), Mapping(0xC010_0000, 0x2000, 0x1000)]
    dump = kvm.open(virtual_dump(memory, mappings, arch, paddr=paddr))
    again = kvm.open(elf_of(dump))
    assert not again.physical.is_physical
    assert [again.read(one.va, one.length) for one in mappings] == [memory.read(one.pa, one.length) for one in mappings]
    assert list(mapped(again)) == list(mapped(dump))
    with pytest.raises(kvm.FormatError, match="knows virtual addresses only"):
        export.plan_raw(dump)


def test_displaced_kernel_is_where_it_runs_and_where_it_is_linked():
    known = defaults("powerpc64", 2)
    memory = PhysicalMemory(SIZE, (8 * MIB, 9 * MIB))
    memory.fill_random(MIB, 4 * SIZE, seed=1)
    dump = kvm.open(minidump("powerpc64", 2, memory, [Mapping(known.kernbase, MIB + SIZE, SIZE)]))
    assert dump.kerndisp == 0xC000_0000_0000_0000
    again = kvm.open(elf_of(dump))
    assert again.kerndisp == dump.kerndisp
    for va in (0x10_0100, 0xC000_0000_0010_0100, known.kernbase):
        assert again.read(va, 16) == dump.read(va, 16)
    for va in (0xF_F000, 0x10_0000, 0x10_0100, 0x200_0000):
        assert again.page_map.displacement(va) == dump.page_map.displacement(va)
    assert_same(dump, again)
    # What debuggers find at the addresses of the symbols.
    linked = [part for part in again.core.segments if part.p_vaddr == 0x10_0000] if again.core else []
    assert [(part.p_paddr, part.p_memsz, part.alias) for part in linked] == [(MIB, 4 * SIZE, True)]


# --- What debuggers see ---------------------------------------------------------------------------------------------


def test_segments():
    core = elf_of(kvm.open(small()))
    assert core[:16] == b"\x7fELF\x02\x01\x01\xff".ljust(16, b"\0")
    assert struct.unpack_from("<HH", core, 16) == (4, 62)
    found = [(one.vaddr, one.paddr, one.filesz, one.flags & 7) for one in loads(core)]
    tables = [one for one in found if one[1] == 0x30_0000]
    assert [one for one in found if one not in tables] == [
        (DIRECT + 0x10_0000, 0x10_0000, 3 * SIZE, 6),
        (DIRECT + 0x10_5000, 0x10_5000, SIZE, 6),
        (DIRECT + 0x20_0000, 0x20_0000, 2 * SIZE, 6),
        (BASE, 0x10_1000, SIZE, 6),
        (BASE + SIZE, 0x10_0000, SIZE, 5),
        (BASE + 8 * SIZE, 0x20_0000, 2 * SIZE, 6),
        (BASE + 16 * SIZE, 0x20_0000, SIZE, 6),
    ]


def test_nothing_that_a_debugger_looks_at_covers_what_was_not_dumped():
    core = elf_of(kvm.open(small()))
    for header in program_headers(core):
        if header.kind == PT_LOAD:
            assert header.filesz == header.memsz > 0
            assert header.offset % SIZE == header.paddr % SIZE == 0
            assert header.offset + header.filesz <= len(core)
            assert header.align == SIZE
        else:
            # libkvm takes any header for memory: this one leads it nowhere.
            assert (header.filesz, header.offset > len(core)) == (0, True)


def test_same_bytes_are_in_the_file_once():
    core = elf_of(kvm.open(small()))
    offsets = {header.paddr: header.offset for header in loads(core)}
    pages = sum(header.filesz for header in loads(core) if header.vaddr >> 40 == DIRECT >> 40) // SIZE
    assert len(core) == SIZE + pages * SIZE
    for header in loads(core):
        assert header.offset - offsets[header.paddr] == 0


def test_memory_without_a_direct_map_has_no_virtual_address():
    memory = PhysicalMemory()
    for pa in (MIB, MIB + SIZE):
        memory.fill_random(pa, SIZE, seed=pa)
    dump = kvm.open(minidump("i386", 2, memory, [Mapping(defaults("i386", 2).kernbase, MIB, SIZE)]))
    core = kvm.open(elf_of(dump)).core
    assert core is not None
    assert [(one.p_vaddr, one.p_paddr, one.p_memsz) for one in core.segments if one.p_paddr < 2 * MIB] == [
        (0xFFFF_FFFF, MIB, 2 * SIZE),
        (defaults("i386", 2).kernbase, MIB, SIZE),
    ]


def pae_dump(*, mapped_high: bool) -> tuple[kvm.Dump, int]:
    """An i386 dump with two pages at 5 GiB, the second of which may be mapped."""
    memory = PhysicalMemory()
    memory.fill_random(MIB, SIZE, seed=1)
    memory.fill_random(5 * GIB, 2 * SIZE, seed=2)
    base = defaults("i386", 2).kernbase
    mappings = [Mapping(base, MIB, SIZE)]
    if mapped_high:
        mappings += [Mapping(base + SIZE, 5 * GIB + SIZE, SIZE), Mapping(base + 2 * SIZE, 6 * GIB, SIZE)]
    ranges = [(MIB, MIB + SIZE), (5 * GIB, 5 * GIB + 2 * SIZE)]
    return kvm.open(minidump("i386", 2, memory, mappings, dump_avail=ranges)), base


def test_memory_above_4_gib_in_a_32_bit_core_has_its_virtual_address_only():
    dump, base = pae_dump(mapped_high=True)
    plan = export.plan_elf(dump)
    assert plan.notes == (
        "4096 bytes above 4 GiB are mapped nowhere and cannot be named in a 32-bit ELF core; --format raw holds them",
    )
    again = kvm.open(elf_of(dump))
    assert again.warnings == [
        "the physical address of some memory does not fit this core; file offset + 2^32 stands for it"
    ]
    assert again.read(base, 2 * SIZE) == dump.read(base, 2 * SIZE)
    with pytest.raises(kvm.NotDumpedError):
        again.read(base + 2 * SIZE, 1)


def test_memory_above_4_gib_is_in_a_raw_image():
    dump, _ = pae_dump(mapped_high=False)
    plan = export.plan_raw(dump, from_first_page=True)
    assert (plan.base, plan.size, plan.notes) == (MIB, 5 * GIB + 2 * SIZE - MIB, ())
    assert [(copy.length, copy.target) for copy in plan.copies] == [(SIZE, 0), (2 * SIZE, 5 * GIB - MIB)]


def test_more_segments_than_the_header_can_count():
    """Every other page of a large kernel is the same one: nothing can be joined."""
    count = 66_000
    memory = PhysicalMemory(free_area=(16 * MIB, 64 * MIB))
    memory.fill_random(MIB, SIZE, seed=1)
    dump = kvm.open(minidump("amd64", 3, memory, [Mapping(BASE + n * SIZE, MIB, SIZE) for n in range(count)]))
    core = elf_of(dump)
    assert struct.unpack_from("<H", core, 56) == (0xFFFF,)
    again = kvm.open(core)
    assert again.core is not None
    assert len(again.core.segments) == export.plan_elf(dump).segments - 2 > count
    assert again.read(BASE + (count - 1) * SIZE, SIZE) == memory.read(MIB, SIZE)


def test_too_many_ranges_leave_out_the_shortest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exportplan, "MAX_SEGMENTS", 70)
    memory = PhysicalMemory()
    memory.fill_random(MIB, 40 * SIZE, seed=1)
    mappings = [Mapping(BASE + 2 * n * SIZE, MIB + n * SIZE, SIZE) for n in range(20)]
    mappings.append(Mapping(BASE + 0x10_0000, MIB + 20 * SIZE, 8 * SIZE))
    dump = kvm.open(minidump("amd64", 3, memory, mappings))
    plan = export.plan_elf(dump)
    room = 70 - 64 - len(list(dump.runs()))
    assert plan.left_out == 21 - room
    (note,) = plan.notes
    assert note == (
        f"{21 - room} of 21 mapped ranges, the shortest, can be found by physical address only: "
        f"there is room for {room}"
    )
    again = kvm.open(elf_of(dump))
    assert again.read(BASE + 0x10_0000, 8 * SIZE) == memory.read(MIB + 20 * SIZE, 8 * SIZE)
    assert again.read_physical(MIB, 40 * SIZE) == memory.read(MIB, 40 * SIZE)


# --- Files ----------------------------------------------------------------------------------------------------------


def sparse_dump() -> kvm.Dump:
    """Full of zeros, with a page of something at 4 MiB and at 1 GiB, and zeros at the end."""
    memory = PhysicalMemory()
    for pa in (*range(MIB, 8 * MIB, SIZE), GIB, GIB + SIZE):
        memory.write(pa, bytes(SIZE))
    memory.fill_random(4 * MIB, SIZE, seed=1)
    memory.fill_random(GIB, SIZE, seed=2)
    return kvm.open(minidump("amd64", 3, memory, [], dump_avail=[(MIB, 8 * MIB), (GIB, GIB + 2 * SIZE)]))


@pytest.mark.parametrize("plan_of", [export.plan_elf, export.plan_raw])
def test_holes_and_zeros_take_no_room(plan_of: Callable[[kvm.Dump], export.Plan], tmp_path: Path):
    dump = sparse_dump()
    plan = plan_of(dump)
    said: list[float] = []
    path = tmp_path / "exported"
    with path.open("w+b") as file:
        export.write(plan, dump, file, lambda percent, _: said.append(percent))
        assert export.verify(plan, dump, file) == 7 * MIB + 2 * SIZE
    assert said == sorted(said)
    assert said[-1] == 100
    status = path.stat()
    assert status.st_size == plan.size
    if not hasattr(os, "SEEK_HOLE"):
        pytest.skip("no holes on this system")
    assert status.st_blocks * 512 <= 512 * KIB


def test_raw_image_from_the_first_page():
    dump = kvm.open(small())
    image = raw_of(dump, from_first_page=True)
    assert export.plan_raw(dump, from_first_page=True).base == 0x10_0000
    assert image == raw_of(dump)[0x10_0000:]
    assert image[0x10_0000:0x10_2000] == dump.read_physical(0x20_0000, 0x2000)


@pytest.mark.parametrize("plan", [export.plan_elf, export.plan_raw])
def test_a_dump_that_shows_its_bytes_many_times_is_refused(plan: Callable[[kvm.Dump], exportplan.Plan]):
    """Each further header would cost 56 bytes, and as much disk as it likes."""
    once = Segment(MIB, MIB, b"a" * MIB)
    again = [Segment(n * MIB, n * MIB, b"", memsz=MIB, filesz=MIB, offset=0x1000) for n in range(2, 5)]
    dump = kvm.open(elfcore([once, *again], bits=64, byteorder="little", machine=EM_X86_64))
    with pytest.raises(kvm.FormatError, match="would be larger than the dump itself"):
        plan(dump)


def test_absurd_addresses_are_refused_at_once():
    """A damaged dump may claim a page anywhere."""
    segments = [Segment(MIB, MIB, b"a" * SIZE), Segment(1 << 51, 1 << 51, b"b" * SIZE)]
    dump = kvm.open(elfcore(segments, bits=64, byteorder="little", machine=EM_X86_64))
    before = time.monotonic()
    with pytest.raises(kvm.FormatError) as failure:
        export.plan_raw(dump)
    assert str(failure.value) == (
        "the dumped memory ends at 0x8000000001000, and a raw image of 0x8000000001000 bytes is more than the "
        "0x40000000000 that are written; use --format elf, or --first-page to begin with the first dumped page"
    )
    with pytest.raises(kvm.FormatError, match=r"use --format elf$"):
        export.plan_raw(dump, from_first_page=True)
    again = kvm.open(elf_of(dump))
    assert again.read_physical(1 << 51, SIZE) == b"b" * SIZE
    assert time.monotonic() - before < 5


def test_an_output_in_memory_is_not_filled_with_holes():
    memory = PhysicalMemory()
    memory.fill_random(3 * GIB, SIZE, seed=1)
    dump = kvm.open(minidump("amd64", 3, memory, []))
    with pytest.raises(kvm.FormatError, match="too much for an output file that is held in memory"):
        export.write(export.plan_raw(dump), dump, io.BytesIO())


def test_a_dump_without_memory_is_refused():
    whole = kvm.open(small())
    assert whole.header is not None
    dump = kvm.open(small()[: whole.header.pages_off])
    for plan_of in (export.plan_elf, export.plan_raw):
        with pytest.raises(kvm.FormatError, match="there is no memory in this dump to export"):
            plan_of(dump)


class FullDisk(io.BytesIO):
    """Has room for a few pages."""

    def write(self, data: object) -> int:
        if self.tell() > 4 * SIZE:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


def test_what_was_not_finished_is_no_core():
    dump = kvm.open(small())
    disk = FullDisk()
    with pytest.raises(OSError, match="No space left"):
        export.write(export.plan_elf(dump), dump, disk)
    with pytest.raises(kvm.NotADumpError):
        kvm.open(disk.getvalue())


# --- Verification ---------------------------------------------------------------------------------------------------


def verified(plan: export.Plan, dump: kvm.Dump, data: bytes) -> str:
    """What verification says of a file."""
    with pytest.raises(export.VerificationError) as failure:
        export.verify(plan, dump, io.BytesIO(data))
    return str(failure.value)


@pytest.mark.parametrize("plan_of", [export.plan_elf, export.plan_raw])
def test_verification_sees_every_bit(plan_of: Callable[[kvm.Dump], export.Plan]):
    dump = kvm.open(small())
    plan = plan_of(dump)
    good = exported(plan, dump)
    for copy in plan.copies:
        for at in (copy.target, copy.target + copy.length - 1):
            bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
            assert verified(plan, dump, bad).startswith("the exported file differs from the dump within 0x")


def test_verification_sees_a_file_that_is_too_short():
    dump = kvm.open(small())
    plan = export.plan_raw(dump)
    assert (
        verified(plan, dump, raw_of(dump)[:-1]) == f"the exported file has {plan.size - 1} bytes instead of {plan.size}"
    )
    assert "is cut off" in verified(export.plan_elf(dump), dump, elf_of(dump)[:-1])


def test_verification_sees_another_page_map():
    dump = kvm.open(small())
    core = bytearray(elf_of(dump))
    index = next(n for n, header in enumerate(program_headers(core)) if header.vaddr == BASE + SIZE)
    struct.pack_into("<Q", core, 64 + 56 * index + 16, BASE + 32 * SIZE)
    message = verified(export.plan_elf(dump), dump, bytes(core))
    assert message == f"the page map of the exported file differs from that of the dump at address {BASE + SIZE:#x}"


def test_verification_sees_memory_that_the_dump_does_not_have():
    dump = kvm.open(small())
    core = bytearray(elf_of(dump))
    index, header = next((n, one) for n, one in enumerate(program_headers(core)) if one.vaddr == DIRECT + 0x10_5000)
    struct.pack_into("<QQ", core, 64 + 56 * index + 32, header.filesz + SIZE, header.memsz + SIZE)
    assert verified(export.plan_elf(dump), dump, bytes(core)) == (
        f"the exported file holds {sum(run.length for run in dump.runs()) + SIZE} bytes of memory, the dump "
        f"{sum(run.length for run in dump.runs())}"
    )


# --- Damaged exports ------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 7),
            st.sampled_from([0, 1, SIZE, core_reader.PT_KVM_DIRECT, core_reader.PT_KVM_ABSENT, BASE, (1 << 64) - 1])
            | st.integers(0, (1 << 64) - 1),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_damaged_headers_are_an_error_or_other_memory(changes: list[tuple[int, int, int]]):
    core = bytearray(CORE)
    for header, field, value in changes:
        at = 64 + 56 * (header % len(program_headers(CORE)))
        if field < 2:
            struct.pack_into("<I", core, at + 4 * field, value & 0xFFFFFFFF)
        else:
            struct.pack_into("<Q", core, at + 8 * (field - 1), value)
    try:
        dump = kvm.open(bytes(core))
        pieces = list(dump.walk())
        list(dump.pages())
        list(dump.kernel.readable())
        for piece in pieces[:20]:
            answer(dump.read, piece.va, 8)
        answer(dump.read, BASE, 64)
        export.plan_elf(dump)
    except kvm.KVMError as error:
        assert "\n" not in str(error)  # noqa: PT017 - an error is fine, whatever it is


CORE = elf_of(kvm.open(small()))


def test_marks_of_ours_mean_nothing_in_other_cores():
    """Without the header that says so, flags are those of somebody else."""
    flags = 4 | core_reader.PF_KVM_ALIAS | core_reader.PF_KVM_UNKNOWN
    segments = [Segment(MIB, BASE, b"a" * SIZE, flags=flags), Segment(MIB, DIRECT, b"", kind=core_reader.PT_KVM_DIRECT)]
    dump = kvm.open(elfcore(segments, bits=64, byteorder="little", machine=EM_X86_64))
    assert [(part.va, part.prot) for part in dump.walk()] == [(BASE, kvm.Protection.READ)]
    assert dump.page_map.directs == ()


def test_streams_that_take_less_than_they_are_given():
    class Slow(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(bytes(data)[:1000])  # type: ignore[call-overload]

    dump = kvm.open(small())
    stream: IO[bytes] = Slow()
    plan = export.plan_raw(dump)
    export.write(plan, dump, stream)
    assert export.verify(plan, dump, stream) == sum(run.length for run in dump.runs())
