"""Raw physical memory: the kernel is found without a header, on every architecture and with every kind of tables."""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scenario.kernels import build_world, load
from tests.writers import machine_images, pagetables
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.parameters import GIB, KIB, MIB
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm.pagemap import columns
from volatility3_freebsd_kvm.kvm.physical import Segment, SegmentedMemory

TRANSLATED = ("amd64", "arm64", "riscv", "i386")
SCENARIOS = ("12.1-amd64", "12.1-i386", "13.0-amd64", *(f"{one}-{arch}" for one in ("14", "15") for arch in TRANSLATED))
RECURSIVE = [name for name in SCENARIOS if not name.endswith("i386")]
"""The scenario's tables for i386 do not map themselves; those below do."""
KERNEL = {
    "amd64": 0xFFFFFFFF_80200000,
    "i386": 0x800000,
    "arm64": 0xFFFF0000_00000000,
    "riscv": 0xFFFFFFC0_00000000,
}
BANNER = b"FreeBSD 14.3-RELEASE GENERIC\n\0"
RESERVED = 0x1000
"""A variable of the small kernels below, by its distance from their start."""


def translated(dump: kvm.Dump) -> list[tuple[int, int | None, int, int]]:
    return [(part.va, part.pa, part.length, int(part.prot)) for part in dump.walk()]


# The scenario


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return {}


def image_of(images: dict[str, bytes], name: str) -> bytes:
    if name not in images:
        images.clear()
        images[name] = build_world(name).memory.raw_image()
    return images[name]


@pytest.mark.parametrize("name", SCENARIOS, scope="module")
def test_the_kernels_symbols_lead_to_the_same_memory_as_in_a_full_dump(images: dict[str, bytes], name: str):
    image, machine, _ = load(name)
    raw = kvm.open_raw(image_of(images, name), image.symbols, architecture=machine.arch)
    full = kvm.open(build_world(name).memory.full_dump(), symbols=image.symbols)
    assert (raw.architecture, raw.base, raw.gap) == (machine.arch, machine.ram[0] if machine.arch != "i386" else 0, 0)
    assert raw.word_bits == full.word_bits
    for mapping in build_world(name).memory.mappings:
        assert raw.kvatop(mapping.va) == full.kvatop(mapping.va) == mapping.pa
        assert raw.read(mapping.va, 4096) == full.read(mapping.va, 4096)


@pytest.mark.parametrize("name", RECURSIVE, scope="module")
def test_nothing_needs_to_be_known(images: dict[str, bytes], name: str):
    image, machine, _ = load(name)
    raw = kvm.open_raw(image_of(images, name))
    known = kvm.open_raw(image_of(images, name), image.symbols, architecture=machine.arch)
    assert (raw.architecture, raw.base) == (machine.arch, known.base)
    assert translated(raw) == translated(known)
    assert raw.read(image.symbols["osreldate"], 4) == known.read(image.symbols["osreldate"], 4) != bytes(4)
    assert raw.warnings == []


@pytest.mark.parametrize("name", RECURSIVE, scope="module")
def test_what_was_found_opens_it_again_without_a_search(images: dict[str, bytes], name: str):
    first = kvm.open_raw(image_of(images, name))
    again = kvm.open_raw(
        image_of(images, name),
        root=first.root,
        architecture=first.architecture,
        base=first.base,
        page_size=first.page_size,
    )
    assert again.page_map.name == first.page_map.name
    assert translated(again) == translated(first)


@pytest.mark.parametrize("kernphys", [0x200000, 0x600000, 0x2000000])
@pytest.mark.parametrize("known", [True, False], ids=["symbols", "scan"])
def test_amd64_kernels_may_lie_at_any_multiple_of_2_mib(kernphys: int, known: bool):
    image = small_kernel("amd64", place=kernphys, ram=(0, 64 * MIB))
    raw = kvm.open_raw(image.data, {"KPML4phys": image.va(0), "kernphys": image.va(8)} if known else None)
    assert raw.kvatop(KERNEL["amd64"]) == kernphys
    assert raw.root == image.root


def test_arm_needs_symbols():
    image, machine, _ = load("14-arm")
    data = build_world("14-arm").memory.raw_image()
    raw = kvm.open_raw(data, image.symbols, architecture="arm")
    assert (raw.architecture, raw.base) == ("arm", machine.ram[0])
    assert raw.read(image.symbols["version"], 8) == b"FreeBSD "
    with pytest.raises(kvm.NoKernelError):
        kvm.open_raw(data)


# Small kernels, for every kind of page tables


class Small:
    """A kernel that is hardly more than its header, in memory with its tables.

    Attributes:
        data: Raw image.
        memory: The same.
        root: Physical address of the top table.
    """

    def __init__(self, memory: PhysicalMemory, ram: tuple[int, int], root: int, start: int) -> None:
        self.memory, self.ram, self.root, self.start = memory, ram, root, start

    @property
    def data(self) -> bytes:
        return machine_images.contents(self.memory, *self.ram)

    def va(self, variable: int) -> int:
        return self.start + RESERVED + variable


def small_kernel(
    arch: str,
    *,
    place: int,
    ram: tuple[int, int],
    page_size: int = 4096,
    start: int | None = None,
    header: bool = True,
    build: Any = None,
) -> Small:
    """A kernel of 2 MiB at physical address `place`, whose second page holds the root's address and its own."""
    start = KERNEL[arch] if start is None else start
    memory = PhysicalMemory(page_size, free_area=(ram[1] - 4 * MIB, ram[1]))
    memory.fill_random(place, 2 * MIB, seed=3)
    if header:
        memory.write(place, machine_images.kernel_header(arch, start, 2 * MIB))
    memory.write(place + 8 * KIB, BANNER)
    build = (
        build
        or {
            "amd64": lambda memory, maps: pagetables.amd64(memory, maps, recursive_slot=256),
            "arm64": pagetables.arm64,
            "riscv": pagetables.riscv,
        }[arch]
    )
    root = build(memory, [Mapping(start, place, 2 * MIB, execute=True)])
    memory.write(place + RESERVED, struct.pack("<QQ", root, place))
    return Small(memory, ram, root, start)


def self_mapped(memory: PhysicalMemory, root: int, slot: int, *, parts: int, entry_size: int) -> int:
    """Enter the page directories (one, or with PAE the four that `root` names) into themselves from `slot` on."""
    directories = [root] if parts == 1 else [memory.read_integer(root + 8 * number, 8) & ~0xFFF for number in range(4)]
    for number, directory in enumerate(directories):
        at = slot + number
        per_page = 4096 // entry_size
        memory.write_integer(directories[at // per_page] + at % per_page * entry_size, directory | 0x63, entry_size)
    return root


def i386_tables(slot: int) -> Any:
    def build(memory: PhysicalMemory, mappings: list[Mapping]) -> int:
        return self_mapped(memory, pagetables.i386(memory, mappings), slot, parts=1, entry_size=4)

    return build


def pae_tables(slot: int) -> Any:
    def build(memory: PhysicalMemory, mappings: list[Mapping]) -> int:
        # A page in each quarter, so that there are all four directories.
        others = [Mapping(quarter << 30 | 0x20000000, mappings[0].pa, 4096) for quarter in range(4)]
        root = pagetables.i386_pae(memory, [*mappings, *others])
        return self_mapped(memory, root, slot, parts=4, entry_size=8)

    return build


I386_TABLES = [
    pytest.param(0x800000, 0x800000, i386_tables(1022), "2-level page tables", id="4/4"),
    pytest.param(0xC0400000, 0x400000, i386_tables(767), "2-level page tables", id="before 12.0"),
    pytest.param(0x800000, 0x800000, pae_tables(2042), "PAE page tables", id="4/4, PAE, 13.0"),
    pytest.param(0x400000, 0x400000, pae_tables(2043), "PAE page tables", id="4/4, PAE, 12.x"),
    pytest.param(0xC0400000, 0x400000, pae_tables(1532), "PAE page tables", id="PAE, before 12.0"),
]


@pytest.mark.parametrize(("start", "place", "build", "name"), I386_TABLES)
def test_i386_tables_map_themselves(start: int, place: int, build: Any, name: str):
    image = small_kernel("i386", place=place, ram=(0, 32 * MIB), start=start, build=build)
    raw = kvm.open_raw(image.data)
    assert (raw.architecture, raw.root, raw.page_map.name) == ("i386", image.root, name)
    assert raw.kvatop(start + 0x1FFFFF) == place + 0x1FFFFF
    again = kvm.open_raw(image.data, root=image.root, architecture="i386")
    assert again.page_map.name == name
    assert again.read(start + 8 * KIB, len(BANNER)) == BANNER


@pytest.mark.parametrize(("start", "place", "build", "name"), I386_TABLES)
def test_i386_without_the_kernels_header_the_version_string_confirms(start: int, place: int, build: Any, name: str):
    image = small_kernel("i386", place=place, ram=(0, 32 * MIB), start=start, build=build, header=False)
    raw = kvm.open_raw(image.data)
    assert (raw.architecture, raw.root) == ("i386", image.root)
    assert "version string" in raw.how
    with pytest.raises(kvm.NoKernelError):
        kvm.open_raw(image.data, thorough=False)


def test_i386_prefers_the_kernels_tables_to_those_of_processes():
    """Before 12.0 a process maps the kernel, too."""

    def build(memory: PhysicalMemory, mappings: list[Mapping]) -> int:
        program = Mapping(0x08048000, mappings[0].pa, 4096)
        self_mapped(memory, pagetables.i386(memory, [*mappings, program]), 767, parts=1, entry_size=4)
        return i386_tables(767)(memory, mappings)

    image = small_kernel("i386", place=0x400000, ram=(0, 32 * MIB), start=0xC0400000, build=build)
    assert kvm.open_raw(image.data).root == image.root


def five_levels(memory: PhysicalMemory, mappings: list[Mapping]) -> int:
    """PML5 over a PML4, each with its self-map, as `pmap_bootstrap_la57` leaves them."""
    pml4 = pagetables.amd64(memory, mappings, recursive_slot=256)
    pml5 = memory.allocate()
    memory.write_integer(pml5 + 8 * 511, pml4 | 0x163, 8)
    memory.write_integer(pml5 + 8 * 256, pml5 | 0x8000000000000003, 8)
    return pml5


def test_amd64_five_levels_come_before_the_four_below():
    image = small_kernel("amd64", place=0x200000, ram=(0, 32 * MIB), build=five_levels)
    raw = kvm.open_raw(image.data)
    assert (raw.root, raw.page_map.name) == (image.root, "5-level page tables")
    assert raw.read(image.va(0), 8) == struct.pack("<Q", image.root)
    again = kvm.open_raw(image.data, root=image.root, architecture="amd64")
    assert again.page_map.name == "5-level page tables"
    symbols = {"KPML4phys": image.va(0x20), "KPML5phys": image.va(0), "la57": image.va(0x10), "kernphys": image.va(8)}
    image.memory.write_integer(0x200000 + RESERVED + 0x10, 1, 4)
    assert kvm.open_raw(image.data, symbols).root == image.root


@pytest.mark.parametrize(("page_size", "leaf"), [(4 * KIB, 2 * MIB), (16 * KIB, 16 * KIB)], ids=["4k", "16k"])
@pytest.mark.parametrize("base", [0, 0x40000000, 0x80000000, 0x10_00000000])
@pytest.mark.parametrize("known", [True, False], ids=["symbols", "scan"])
def test_arm64_finds_where_ram_begins(page_size: int, leaf: int, base: int, known: bool):
    image = small_kernel("arm64", place=base + 4 * MIB, ram=(base, base + 16 * MIB), page_size=page_size)
    symbols = {"pagetable_l0_ttbr1": image.start + image.root - base - 4 * MIB} if known else None
    raw = kvm.open_raw(image.data, symbols)
    assert (raw.architecture, raw.base, raw.root, raw.page_size) == ("arm64", base, image.root, page_size)
    assert raw.read(image.start + 8 * KIB, len(BANNER)) == BANNER
    assert raw.kvatop(image.start + 2 * MIB - 1) == base + 6 * MIB - 1


@pytest.mark.parametrize("base", [0, 0x40000000, 0x80000000])
@pytest.mark.parametrize("known", [True, False], ids=["symbols", "scan"])
@pytest.mark.parametrize("levels", [3, 4], ids=["Sv39", "Sv48"])
def test_riscv_finds_where_ram_begins(base: int, known: bool, levels: int):
    def build(memory: PhysicalMemory, mappings: list[Mapping]) -> int:
        root = pagetables.riscv(memory, mappings)
        if levels == 4:
            # The Sv48 top table has the other below its last entry; the kernel keeps using that for itself.
            memory.write_integer(memory.allocate() + 8 * 511, root >> 2 | 0xC1, 8)
        return root

    image = small_kernel("riscv", place=base + 2 * MIB, ram=(base, base + 16 * MIB), build=build)
    symbols = {"pagetable_l1": image.start + image.root - base - 2 * MIB} if known else None
    raw = kvm.open_raw(image.data, symbols)
    assert (raw.architecture, raw.base, raw.root) == ("riscv", base, image.root)
    assert raw.read(image.start + 8 * KIB, len(BANNER)) == BANNER


def test_symbols_that_kernels_carry_in_memory_are_used():
    """Nothing maps itself here, but the dynamic symbol table names the root."""
    image = small_kernel("amd64", place=0x600000, ram=(0, 32 * MIB), build=pagetables.amd64)
    with pytest.raises(kvm.NoKernelError) as caught:
        kvm.open_raw(image.data)
    assert caught.value.is_freebsd
    names = {"hz": 1, "KPML4phys": image.va(0), "kernphys": image.va(8), "la57": image.va(0x10)}
    section = machine_images.dynamic_section(image.va(0x2000), names)
    header = machine_images.kernel_header("amd64", image.start, 2 * MIB, dynamic=(image.va(0x2000), len(section)))
    image.memory.write(0x600000, header)
    image.memory.write(0x600000 + RESERVED + 0x2000, section)
    image.memory.write_integer(0x600000 + RESERVED + 0x10, 0, 4)
    raw = kvm.open_raw(image.data)
    assert raw.root == image.root
    assert "symbols in memory" in raw.how


# Holes


def test_segments_say_what_is_where():
    image = small_kernel("amd64", place=0x600000, ram=(0, 32 * MIB))
    data = b"header" * 100 + image.data[16 * MIB :] + image.data[: 8 * MIB]
    segments = [Segment(16 * MIB, 16 * MIB, 600), Segment(0, 8 * MIB, 600 + 16 * MIB)]
    raw = kvm.open_raw(data, segments=segments)
    assert raw.root == image.root
    assert raw.read(image.va(0), 16) == struct.pack("<QQ", image.root, 0x600000)
    assert raw.offset_of(0x600000) == 600 + 22 * MIB
    with pytest.raises(kvm.NotDumpedError):
        raw.read_physical(8 * MIB, 1)


def sparse(path: Path, parts: dict[int, bytes], size: int) -> Path:
    with path.open("wb") as file:
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    return path


@pytest.mark.parametrize(("gap", "left_out"), [(GIB, True), (GIB, False), (2 * GIB, True), (512 * MIB, True)], ids=str)
def test_the_gap_below_4_gib_may_be_left_out(tmp_path: Path, gap: int, left_out: bool):
    """A process's top table above 4 GiB tells by its self-map where it is; what is there then has its true address."""
    image = small_kernel("amd64", place=0x200000, ram=(0, 16 * MIB))
    true = 4 * GIB + 3 * MIB
    table = bytearray(image.memory.read(image.root, 4096))
    table[8 * 256 : 8 * 257] = (true | 0x8000000000000063).to_bytes(8, "little")
    table[:8] = (0x200000 | 0x67).to_bytes(8, "little")
    # A table that is where it says, between 2 GiB and the gap.
    low = bytearray(table)
    low[8 * 256 : 8 * 257] = (2 * GIB | 0x63).to_bytes(8, "little")
    shift = gap if left_out else 0
    parts = {0: image.data, true - shift: bytes(table), true + 4096 - shift: b"above", 5 * GIB - shift: b"!"}
    if gap < 2 * GIB:
        parts[2 * GIB] = bytes(low)
    path = sparse(tmp_path / "memory.img", parts, 5 * GIB - shift + 1)
    with kvm.open_raw(path) as raw:
        assert isinstance(raw, kvm.RawDump)
        assert raw.gap == shift
        assert raw.read_physical(true + 4096, 5) == b"above"
        assert raw.read(image.va(0), 8) == struct.pack("<Q", image.root)
        if left_out:
            assert not raw.physical.is_readable(4 * GIB - gap, 1)
            with kvm.open_raw(path, root=raw.root, architecture="amd64", gap=gap) as again:
                assert again.read_physical(true + 4096, 5) == b"above"


# Where there is nothing, and traps


def refusal(data: bytes | Path, limit: float = 5.0, **options: Any) -> kvm.NoKernelError:
    began = time.perf_counter()
    with pytest.raises(kvm.NoKernelError) as caught:
        kvm.open_raw(data, **options)
    assert time.perf_counter() - began < limit
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 3 * MIB + 17])
@pytest.mark.parametrize("filled", [b"\0", b"\xff", b"\x7fELF", b"FreeBSD 14.3-RELEASE "])
def test_files_of_one_thing(size: int, filled: bytes):
    refusal((filled * (size // len(filled) + 1))[:size])


def test_a_version_string_alone_is_no_kernel_but_is_told():
    error = refusal(bytes(MIB) + BANNER + bytes(MIB))
    assert error.is_freebsd
    assert str(error).startswith("bytes holds traces of FreeBSD, but no kernel with its page tables")


@pytest.mark.parametrize("arch", TRANSLATED)
def test_kernels_at_every_place_and_none_is_mapped(arch: str):
    page = machine_images.kernel_header(arch, KERNEL[arch], 64 * MIB).ljust(2 * MIB, b"\0")
    error = refusal(page * 32, limit=20)
    assert any("no page tables lead to the kernel at" in reason for reason in error.reasons)


@pytest.mark.parametrize("arch", TRANSLATED)
def test_every_page_refers_to_itself_in_every_entry(arch: str):
    """Each could be a top table, and leads nowhere but in circles."""
    flags = {"amd64": 0x67, "i386": 0x67, "arm64": 3, "riscv": 1}[arch]
    size = 4 if arch == "i386" else 8

    def entry(pa: int) -> bytes:
        value = pa >> 2 | flags if arch == "riscv" else pa | flags
        return value.to_bytes(size, "little") * (4096 // size)

    data = bytearray(b"".join(entry(pa) for pa in range(0, 16 * MIB, 4096)))
    data[4 * MIB : 4 * MIB + 4096] = machine_images.kernel_header(arch, KERNEL[arch], 2 * MIB)
    data[6 * MIB : 6 * MIB + len(BANNER)] = BANNER
    began = time.perf_counter()
    with contextlib.suppress(kvm.NoKernelError):
        # Where a circle happens to end at the kernel, nothing tells it from true tables; walking it must end, too.
        raw = kvm.open_raw(bytes(data))
        assert isinstance(sum(1 for _ in itertools.islice(raw.walk(), 1000)), int)
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize("cut", [0, 20, 63, 64, 100, 4095])
def test_cut_headers_of_kernels(cut: int):
    header = machine_images.kernel_header("amd64", KERNEL["amd64"], 2 * MIB)
    refusal(bytes(2 * MIB) + header[:cut])


@pytest.mark.parametrize(
    ("arch", "va", "size", "elf_type"),
    [
        ("amd64", 0x200000, 2 * MIB, 2),
        ("amd64", KERNEL["amd64"], 1 << 62, 2),
        ("amd64", KERNEL["amd64"], 2 * MIB, 4),
        ("i386", 0x08048000, 2 * MIB, 2),
        ("arm64", 0x10000, 2 * MIB, 3),
        ("arm", 0xC0000000, 2 * MIB, 2),
        ("powerpc64", 0x100000, 2 * MIB, 2),
    ],
)
def test_what_is_linked_elsewhere_is_no_kernel(arch: str, va: int, size: int, elf_type: int):
    data = machine_images.kernel_header(arch, va, size, elf_type=elf_type)
    assert refusal(data.ljust(4 * MIB, b"\0")).reasons == ("no version string of FreeBSD in the first 4 GiB",)


def test_an_architecture_that_cannot_be_translated_is_named():
    assert "sparc64" in str(refusal(bytes(8192), architecture="sparc64"))
    with pytest.raises(kvm.NoKernelError, match="sparc64"):
        kvm.open_raw(bytes(8192), root=0x1000, architecture="sparc64")


def test_symbols_of_another_kernel_are_refused_with_the_reason():
    image = small_kernel("amd64", place=0x200000, ram=(0, 16 * MIB), header=False)
    symbols = {"KPML4phys": image.va(0), "version": image.va(0x40)}
    error = refusal(image.data, symbols=symbols, architecture="amd64")
    assert any("the kernel's version reads" in reason for reason in error.reasons)
    symbols["version"] = image.start + 8 * KIB
    assert kvm.open_raw(image.data, symbols, architecture="amd64").root == image.root


@given(st.binary(max_size=4096), st.integers(0, 4096 - 8))
def test_dynamic_sections_of_anything(junk: bytes, at: int):
    image = bytearray(4 * MIB)
    header = machine_images.kernel_header("amd64", KERNEL["amd64"], 2 * MIB, dynamic=(KERNEL["amd64"] + 4096 + at, 64))
    image[: len(header)] = header
    image[4096 : 4096 + len(junk)] = junk
    with pytest.raises(kvm.NoKernelError):
        kvm.open_raw(bytes(image), thorough=False)


# Columns


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("size", [4, 8])
def test_a_column_is_what_reading_page_by_page_gives(tmp_path: Path, mapped: bool, size: int):
    data = PhysicalMemory().fill_random(0, 41 * 4096 + 100, seed=4)
    path = tmp_path / "pages"
    path.write_bytes(data)
    reader = kvm.open_reader(path if mapped else data)
    # Offsets in the file need no alignment.
    memory = SegmentedMemory(reader, [Segment(0x1800, 20 * 4096, 3), Segment(0x40000, 9 * 4096, 21 * 4096)], 4096)
    found = {
        pa: word
        for first, entries in columns.column(memory, 2048, size)
        for pa, word in columns.enumerate_pages(first, entries)
    }
    pages = [*range(0x2000, 0x2000 + 19 * 4096, 4096), *range(0x40000, 0x40000 + 9 * 4096, 4096)]
    assert found == {pa: int.from_bytes(memory.read(pa + 2048, size), "little") for pa in pages}
    # No view is left that would keep the file mapped.
    reader.close()


def test_occurrences_across_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(columns, "_BLOCK", 8)
    reader = kvm.open_reader(b"abcabcabc--abcabc")
    assert list(columns.occurrences(reader, 0, 17, b"abc")) == [0, 3, 6, 11, 14]
    assert list(columns.occurrences(reader, 1, 15, b"abc")) == [3, 6, 11]


def test_pages_of_one_byte():
    reader = kvm.FilledReader(kvm.open_reader(b"\x11\x00\xff"))
    offsets = [reader.filled(number, 0x5000) for number in (0, 1, 2, 3)]
    assert [reader.buffer[at : at + 3] for at in offsets] == [b"\x11" * 3, bytes(3), b"\xff" * 3, bytes(3)]
    assert reader.buffer[1:3] == b"\x00\xff"
    assert reader.filled(0, 0x6000) == offsets[0] + 0x1000
