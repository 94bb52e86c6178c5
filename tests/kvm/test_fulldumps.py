"""Full dumps (ELF cores) of every architecture, translated by the kernel's own page tables."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable

import pytest

from tests.writers import pagetables
from tests.writers.elfcore import EM_X86_64, TARGETS, Segment, elfcore, full_dump, virtual_dump
from tests.writers.headers import ByteOrder
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.parameters import GIB, KIB, MIB
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm.pagemap import amd64
from volatility3_freebsd_kvm.kvm.records import Absence, Protection

KERNBASE = 0xFFFFFFFF_80000000


def random_pages(memory: PhysicalMemory, mappings: Iterable[Mapping], limit: int = 16) -> None:
    """Give every mapping (at most `limit` pages at its start) random content."""
    for mapping in mappings:
        for number, (_, pa) in enumerate(itertools.islice(mapping.base_pages(memory.page_size), limit)):
            if pa not in memory.pages:
                memory.fill_random(pa, memory.page_size, seed=pa + number)


def around(memory: PhysicalMemory) -> list[tuple[int, int]]:
    """Ranges that hold all of the memory and nothing else."""
    return [(start, start + length) for start, length in memory.runs()]


def assert_reads_back(dump: kvm.Dump, memory: PhysicalMemory, mappings: Iterable[Mapping]) -> None:
    """Check translation of every mapping and content of every page that exists."""
    size = memory.page_size
    for mapping in mappings:
        assert dump.kvatop(mapping.end - 1) == mapping.pa + mapping.length - 1
        for va, pa in itertools.islice(mapping.base_pages(size), 40):
            assert dump.kvatop(va + 8) == pa + 8, hex(va)
            if pa in memory.pages:
                assert dump.read(va, size) == bytes(memory.pages[pa]), hex(va)
                assert dump.read_physical(pa, size) == bytes(memory.pages[pa])
            else:
                with pytest.raises(kvm.NotDumpedError):
                    dump.read(va, 1)


def walked(dump: kvm.Dump, size: int) -> dict[int, tuple[int | None, int]]:
    """(pa, protection) of every page that the dump says is mapped."""
    return {
        part.va + at: (None if part.pa is None else part.pa + at, int(part.prot))
        for part in dump.walk()
        for at in range(0, part.length, size)
    }


def expected_walk(mappings: Iterable[Mapping], size: int, *, nx: bool = True) -> dict[int, tuple[int | None, int]]:
    return {
        va: (pa, 1 | 2 * mapping.write | 4 * (mapping.execute or not nx))
        for mapping in mappings
        for va, pa in mapping.base_pages(size)
    }


# --- amd64 ----------------------------------------------------------------------------------------------------------


class Amd64Kernel:
    """A kernel loaded at `kernphys` with its page tables, and the symbols that lead to them."""

    def __init__(self, kernphys: int = 2 * MIB, *, levels: int = 4, recursive: bool = False, relocatable: bool = False):
        self.memory = PhysicalMemory(free_area=(0x1_0000_0000, 0x1_0010_0000))
        self.data_pa = kernphys + 2 * MIB
        self.data_va = KERNBASE + 4 * MIB
        self.mappings = [
            Mapping(0xFFFFFE00_00001000, 0x9_F000, 4096),
            Mapping(0xFFFFFE00_00002000, 0x9_0000, 4 * 4096, write=False),
            Mapping(KERNBASE + 2 * MIB, kernphys, 2 * MIB, write=False, execute=True, leaf=2 * MIB),
            Mapping(self.data_va, self.data_pa, 2 * MIB, leaf=2 * MIB),
        ]
        self.direct_map = Mapping(0xFFFFF800_00000000, 0, 8 * GIB, leaf=GIB)
        self.other = Mapping(0xFF10_0000_1234_5000, 0x8_0000, 4096) if levels == 5 else None
        random_pages(self.memory, [*self.mappings, *filter(None, [self.other])])
        everything = [self.direct_map, *self.mappings, *filter(None, [self.other])]
        self.root = pagetables.amd64(self.memory, everything, levels=levels, recursive_slot=256 if recursive else None)
        pml4 = self.root if levels == 4 else self.memory.read_integer(self.root + 511 * 8, 8) & ~0xFFF
        self.symbols = {"kernbase": KERNBASE}
        self.variable("KPML4phys", 0xEB8, pml4, 8)
        if levels == 5:
            self.variable("KPML5phys", 0xEC0, self.root, 8)
        if levels == 5 or relocatable:
            self.variable("la57", 0xEC8, int(levels == 5), 4)
        if relocatable:
            self.variable("kernphys", 0xED0, kernphys, 8)

    def variable(self, name: str, offset: int, value: int, size: int) -> None:
        """Put a variable into the kernel's data."""
        self.symbols[name] = self.data_va + offset
        self.memory.write_integer(self.data_pa + offset, value, size)

    def dump(self) -> bytes:
        return full_dump(self.memory, around(self.memory), "amd64")

    def open(self) -> kvm.Dump:
        return kvm.open(self.dump(), symbols=self.symbols)


def test_amd64():
    kernel = Amd64Kernel()
    dump = kernel.open()
    assert (dump.architecture, dump.byteorder, dump.page_size, dump.warnings) == ("amd64", "little", 4096, [])
    assert_reads_back(dump, kernel.memory, kernel.mappings)
    assert dump.read(0xFFFFF800_0009_F010, 16) == kernel.memory.read(0x9_F010, 16)
    for va in (KERNBASE, 0xFFFFFE00_00000000, 0x1000, 0x8000_0000_0000, 0xFFFF7FFF_FFFFFFFF):
        with pytest.raises(kvm.NotMappedError):
            dump.kvatop(va)


def test_amd64_walk():
    kernel = Amd64Kernel()
    found = walked(kernel.open(), 4096)
    expected = expected_walk(kernel.mappings, 4096)
    assert {va: found[va] for va in found if va >= 0xFFFFFE00_00000000} == expected


def test_amd64_walk_reports_presence():
    kernel = Amd64Kernel()
    text = [part for part in kernel.open().walk() if part.va & ~0x1FFFFF == KERNBASE + 2 * MIB]
    rx = Protection.READ | Protection.EXECUTE
    assert [(part.length, part.prot, part.absence) for part in text] == [
        (16 * 4096, rx, None),
        (2 * MIB - 16 * 4096, rx, Absence.NOT_DUMPED),
    ]


@pytest.mark.parametrize("kernphys", [2 * MIB, 0x160_0000, 0x7C20_0000, 0xFFC0_0000])
def test_amd64_kernels_may_be_loaded_anywhere_below_4_gib(kernphys: int):
    kernel = Amd64Kernel(kernphys, relocatable=True)
    dump = kernel.open()
    assert_reads_back(dump, kernel.memory, kernel.mappings)
    assert dump.warnings == []


def test_amd64_kernphys_was_an_absolute_symbol_up_to_13_0():
    kernel = Amd64Kernel()
    kernel.symbols["kernphys"] = 0x20_0000
    assert_reads_back(kernel.open(), kernel.memory, kernel.mappings)


def test_amd64_stale_copy_of_the_kernel_is_not_mistaken_for_it():
    """The loader's own copy may still lie in memory: there `kernphys` does not name the place where it lies."""
    kernel = Amd64Kernel(0x160_0000, relocatable=True)
    kernel.memory.write(0x60_0000, kernel.memory.read(kernel.data_pa, 0x1000))
    assert_reads_back(kernel.open(), kernel.memory, kernel.mappings)


def test_amd64_la57():
    kernel = Amd64Kernel(levels=5)
    dump = kernel.open()
    assert_reads_back(dump, kernel.memory, kernel.mappings)
    assert kernel.other is not None
    assert_reads_back(dump, kernel.memory, [kernel.other])
    assert walked(dump, 4096)[kernel.other.va] == (0x8_0000, 3)


def test_amd64_la57_kernel_running_with_four_levels():
    kernel = Amd64Kernel(relocatable=True)
    kernel.variable("KPML5phys", 0xEC0, 0, 8)
    assert_reads_back(kernel.open(), kernel.memory, kernel.mappings)


def test_amd64_by_root_alone():
    kernel = Amd64Kernel()
    assert_reads_back(kvm.open(kernel.dump(), root=kernel.root), kernel.memory, kernel.mappings)


def test_amd64_recursive_map_ends():
    kernel = Amd64Kernel(recursive=True)
    dump = kernel.open()
    assert dump.kvatop(0xFFFF8040_20100000) == kernel.root
    found = walked(dump, 4096)
    assert {va: found[va] for va in found if va >= 0xFFFFFE00_00000000} == expected_walk(kernel.mappings, 4096)
    assert found[0xFFFF8040_20100000][0] == kernel.root


def test_amd64_cyclic_tables_end_with_a_warning():
    kernel = Amd64Kernel()
    for slot in range(300, 340):  # 40 of them at each of 4 levels: 2.5 million pages
        kernel.memory.write_integer(kernel.root + slot * 8, kernel.root | 0x63, 8)
    dump = kernel.open()
    limit = 500_000
    assert sum(1 for _ in itertools.islice(dump.walk(), limit)) < limit
    assert len(dump.warnings) == 1


def test_amd64_wrong_kernel_is_an_error_of_one_sentence():
    kernel = Amd64Kernel()
    kernel.symbols["KPML4phys"] += 0x40_0000
    with pytest.raises(kvm.KVMError) as failure:
        kernel.open().read(KERNBASE + 2 * MIB, 1)
    assert "\n" not in str(failure.value)


# --- i386 -----------------------------------------------------------------------------------------------------------


def i386_kernel(*, kernbase: int, offset: int, pae: bool) -> tuple[PhysicalMemory, list[Mapping], int]:
    """Return memory, mappings and the root of a kernel whose data page is at kernbase + 4 MiB.

    `offset` is the physical minus the virtual address of the kernel image.
    """
    memory = PhysicalMemory(free_area=(0x200_0000, 0x210_0000))
    superpage = 2 * MIB if pae else 4 * MIB
    text = kernbase + 4 * MIB
    mappings = [
        Mapping(text, text + offset, superpage, leaf=superpage),
        Mapping(text + 8 * MIB, 0x9_0000, 3 * 4096, write=False),
        Mapping(0xFFC0_1000, 0x9_8000, 4096, execute=True),
    ]
    random_pages(memory, mappings)
    make = pagetables.i386_pae if pae else pagetables.i386
    return memory, mappings, make(memory, mappings)


@pytest.mark.parametrize("pae", [False, True])
@pytest.mark.parametrize(
    ("kernbase", "offset", "extra"),
    [
        (0xC000_0000, -0xC000_0000, {}),
        (0x80_0000, 0, {"tramp_idleptd": 0xFFC0_0010}),
        (0x80_0000, 0, {}),
        (0x40_0000, 0, {"tramp_idleptd": 0xFFC0_0010}),
    ],
    ids=["3-1", "4-4", "4-4 by kernbase", "4-4 pae base"],
)
def test_i386(kernbase: int, offset: int, extra: dict[str, int], pae: bool):
    memory, mappings, root = i386_kernel(kernbase=kernbase, offset=offset, pae=pae)
    variable = kernbase + 4 * MIB + 0x2340
    memory.write_integer(variable + offset, root, 4)
    symbols = {"kernbase": kernbase, "IdlePDPT" if pae else "IdlePTD": variable, **extra}
    dump = kvm.open(full_dump(memory, around(memory), "i386"), symbols=symbols)
    assert dump.architecture == "i386"
    assert_reads_back(dump, memory, mappings)
    assert walked(dump, 4096) == expected_walk(mappings, 4096, nx=pae)
    with pytest.raises(kvm.NotMappedError):
        dump.kvatop(kernbase)


@pytest.mark.parametrize("pae", [False, True])
def test_i386_merged_kernels_since_13_say_which_tables_they_use(pae: bool):
    memory, mappings, root = i386_kernel(kernbase=0x80_0000, offset=0, pae=pae)
    symbols = {"kernbase": 0x80_0000, "tramp_idleptd": 0xFFC0_0010}
    names = ["pae_mode", "IdlePDPT", "IdlePTD_pae", "IdlePTD_nopae"]
    for number, name in enumerate(names):
        symbols[name] = 0xC0_2340 + 4 * number
    memory.write_integer(symbols["pae_mode"], int(pae), 4)
    memory.write_integer(symbols["IdlePDPT" if pae else "IdlePTD_nopae"], root, 4)
    memory.write_integer(symbols["IdlePTD_nopae" if pae else "IdlePDPT"], 0, 4)
    dump = kvm.open(full_dump(memory, around(memory), "i386"), symbols=symbols)
    assert_reads_back(dump, memory, mappings)


def test_i386_pae_maps_memory_above_4_gib():
    memory = PhysicalMemory()
    mapping = Mapping(0xC100_0000, 0x1_2345_6000, 4096)
    memory.fill_random(mapping.pa, 4096, seed=1)
    root = pagetables.i386_pae(memory, [mapping])
    segments = [Segment(pa, pa, memory.read(pa, length)) for pa, length in memory.runs() if pa < 1 << 32]
    dump = kvm.open(elfcore(segments, **TARGETS["i386"]._asdict()), root=root)
    assert dump.kvatop(mapping.va) == 0x1_2345_6000
    with pytest.raises(kvm.NotDumpedError):
        dump.read(mapping.va, 1)


# --- arm ------------------------------------------------------------------------------------------------------------

ARM_MAPPINGS = [
    Mapping(0xC010_0000, 0x8010_0000, MIB, execute=True, leaf=MIB),
    Mapping(0xC030_0000, 0x8060_0000, 3 * 4096, write=False),
    Mapping(0xC031_0000, 0x8070_0000, 64 * KIB, leaf=64 * KIB),
]


def arm_kernel(byteorder: ByteOrder) -> tuple[PhysicalMemory, dict[str, int]]:
    memory = PhysicalMemory(free_area=(0x8100_0000, 0x8110_0000))
    random_pages(memory, ARM_MAPPINGS)
    root = pagetables.arm(memory, ARM_MAPPINGS, byteorder=byteorder)
    memory.write_integer(0x8010_1238, root, 4, byteorder)
    return memory, {"kernel_l1pa": 0xC010_1238}


def test_arm_with_the_delta_header():
    memory, symbols = arm_kernel("little")
    data = full_dump(memory, around(memory), "arm", delta=(0xC000_0000, 0x8000_0000))
    dump = kvm.open(data, symbols=symbols)
    assert dump.architecture == "arm"
    assert_reads_back(dump, memory, ARM_MAPPINGS)
    assert walked(dump, 4096) == expected_walk(ARM_MAPPINGS, 4096)


def test_arm_with_symbols():
    memory, symbols = arm_kernel("little")
    symbols |= {"kernbase": 0xC000_0000, "physaddr": 0x8000_0000}
    dump = kvm.open(full_dump(memory, around(memory), "arm"), symbols=symbols)
    assert_reads_back(dump, memory, ARM_MAPPINGS)


def test_arm_big_endian():
    memory, symbols = arm_kernel("big")
    segments = [Segment(pa, pa, memory.read(pa, length)) for pa, length in memory.runs()]
    symbols |= {"kernbase": 0xC000_0000, "physaddr": 0x8000_0000}
    dump = kvm.open(elfcore(segments, bits=32, byteorder="big", machine=40), symbols=symbols)
    assert dump.byteorder == "big"
    assert_reads_back(dump, memory, ARM_MAPPINGS)


# --- arm64 and riscv ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page_size", "block"), [(4 * KIB, 2 * MIB), (4 * KIB, GIB), (16 * KIB, 32 * MIB)])
def test_arm64(page_size: int, block: int):
    memory = PhysicalMemory(page_size, free_area=(0x5000_0000, 0x5010_0000))
    mappings = [
        Mapping(0xFFFF0000_00010000, 0x4800_0000, 3 * page_size, write=False, execute=True),
        Mapping(0xFFFF0000_00010000 + 3 * page_size, 0x4900_0000, page_size),
        Mapping(0xFFFF0000_80000000, 0x4000_0000, block, leaf=block),
        Mapping(0xFFFFA000_00000000, 0x8000_0000, block, leaf=block),
    ]
    random_pages(memory, mappings, limit=3)
    root = pagetables.arm64(memory, mappings)
    dump = kvm.open(full_dump(memory, around(memory), "arm64"), root=root)
    assert dump.architecture == "arm64"
    assert_reads_back(dump, memory, mappings)
    if block < GIB:
        assert walked(dump, page_size) == expected_walk(mappings, page_size)
    with pytest.raises(kvm.NotMappedError):
        dump.kvatop(0xFFFF0000_00000000)


@pytest.mark.parametrize("levels", [3, 4], ids=["sv39", "sv48"])
@pytest.mark.parametrize("pbmt", [0, 2])
def test_riscv(levels: int, pbmt: int):
    memory = PhysicalMemory(free_area=(0x8800_0000, 0x8810_0000))
    mappings = [
        Mapping(0xFFFFFFC0_00000000, 0x8020_0000, 2 * MIB, write=False, execute=True, leaf=2 * MIB),
        Mapping(0xFFFFFFC0_00201000, 0x8060_0000, 3 * 4096),
        Mapping(0xFFFFFFD0_00000000, 0x8000_0000, GIB, leaf=GIB),
    ]
    random_pages(memory, mappings, limit=5)
    root = pagetables.riscv(memory, mappings, levels=levels, pbmt=pbmt)
    dump = kvm.open(full_dump(memory, around(memory), "riscv"), root=root)
    assert dump.architecture == "riscv"
    assert_reads_back(dump, memory, mappings)
    found = walked(dump, 4096)
    assert {va: found[va] for va in found if va < 0xFFFFFFD0_00000000} == expected_walk(mappings[:2], 4096)


# --- cores by virtual address ---------------------------------------------------------------------------------------

VIRTUAL = [
    Mapping(0xC000_0000, 0x1000, 0x2000),
    Mapping(0xC010_0000, 0x8000, 0x1000),
]


@pytest.mark.parametrize("arch", ["powerpc", "powerpc64", "powerpc64le"])
def test_powerpc_cores_by_virtual_address(arch: str):
    memory = PhysicalMemory()
    random_pages(memory, VIRTUAL)
    dump = kvm.open(virtual_dump(memory, VIRTUAL, arch))
    assert dump.byteorder == TARGETS[arch].byteorder
    for mapping in VIRTUAL:
        assert dump.read(mapping.va, mapping.length) == memory.read(mapping.pa, mapping.length)
        assert dump.read(mapping.end - 3, 3) == memory.read(mapping.pa + mapping.length - 3, 3)
    for va in (0xBFFF_FFFF, 0xC000_2000, 0xC010_1000):
        with pytest.raises(kvm.NotMappedError):
            dump.read(va, 1)
    assert [(part.va, part.length, part.offset) for part in dump.walk()] == [
        (0xC000_0000, 0x2000, 0x1000),
        (0xC010_0000, 0x1000, 0x3000),
    ]


@pytest.mark.parametrize("arch", ["amd64", "arm64", "i386"])
def test_converted_minidumps_have_no_physical_addresses(arch: str):
    memory = PhysicalMemory()
    top = 0xFFFFFFFF_00000000 if TARGETS[arch].bits == 64 else 0
    mappings = [Mapping(top + mapping.va, mapping.pa, mapping.length) for mapping in VIRTUAL]
    random_pages(memory, mappings)
    dump = kvm.open(virtual_dump(memory, mappings, arch, paddr=0))
    for mapping in mappings:
        assert dump.read(mapping.va, mapping.length) == memory.read(mapping.pa, mapping.length)
    with pytest.raises(kvm.NotMappedError):
        dump.read(0x1000, 1)


# --- the ELF file itself --------------------------------------------------------------------------------------------


def two_ranges() -> PhysicalMemory:
    memory = PhysicalMemory(free_area=(0x9000, 0x1_0000))
    memory.fill_random(0x1000, 0x3000, seed=1)
    memory.fill_random(0x8000, 0x1000, seed=2)
    return memory


def test_physical_reads_need_no_symbols():
    memory = two_ranges()
    dump = kvm.open(full_dump(memory, around(memory), "amd64"))
    assert dump.read_physical(0x1000, 0x3000) == memory.read(0x1000, 0x3000)
    assert dump.read_physical(0x8FFF, 1) == memory.read(0x8FFF, 1)
    assert [(run.pa, run.length, run.offset) for run in dump.runs()] == [
        (0x1000, 0x3000, 0x1000),
        (0x8000, 0x1000, 0x4000),
    ]
    assert dump.offset_of(0x8010) == 0x4010
    assert dump.pa_of(0x4010) == 0x8010
    for pa in (0, 0x4000, 0x7FFF, 0x9000):
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 1)
    with pytest.raises(kvm.NotDumpedError):
        dump.read_physical(0x3FFF, 2)


@pytest.mark.parametrize("stray", [1, 0xC00, 0xFFF])
def test_ranges_that_are_not_page_sized_displace_what_follows(stray: int):
    memory = two_ranges()
    memory.fill_random(0x2_0000, 0x2000, seed=3)
    ranges = [(0x1000, 0x3000 + stray), (0x8000, 0x9000), (0x2_0000, 0x2_2000)]
    dump = kvm.open(full_dump(memory, ranges, "amd64"))
    assert dump.read_physical(0x1000, 0x2000) == memory.read(0x1000, 0x2000)
    assert dump.read_physical(0x8000, 0x1000) == memory.read(0x8000, 0x1000)
    assert dump.read_physical(0x2_0000, 0x2000) == memory.read(0x2_0000, 0x2000)
    with pytest.raises(kvm.AddressError):
        dump.read_physical(0x3000, 1)


def test_more_segments_than_e_phnum_can_say():
    memory = two_ranges()
    segments = [Segment(pa, pa, memory.read(pa, length)) for pa, length in memory.runs()]
    data = elfcore(segments, bits=64, byteorder="little", machine=EM_X86_64, pn_xnum=True)
    dump = kvm.open(data)
    assert dump.read_physical(0x1000, 0x3000) == memory.read(0x1000, 0x3000)
    assert dump.read_physical(0x8000, 0x1000) == memory.read(0x8000, 0x1000)


def test_memory_that_the_file_does_not_hold():
    data = elfcore(
        [Segment(0x1000, 0x1000, b"a" * 0x1000, memsz=0x3000), Segment(0x8000, 0x8000, b"b" * 0x1000)],
        bits=64,
        byteorder="little",
        machine=EM_X86_64,
    )
    dump = kvm.open(data)
    assert dump.read_physical(0x1FFF, 1) == b"a"
    assert dump.read_physical(0x8000, 1) == b"b"
    with pytest.raises(kvm.NotDumpedError):
        dump.read_physical(0x2000, 1)


def test_truncated_full_dumps():
    memory = two_ranges()
    data = full_dump(memory, around(memory), "amd64")
    dump = kvm.open(data[:-0x1800])
    assert len(dump.warnings) == 1
    assert dump.read_physical(0x1000, 0x2000) == memory.read(0x1000, 0x2000)
    for pa in (0x3800, 0x8000):
        with pytest.raises(kvm.BeyondEndError):
            dump.read_physical(pa, 1)
    with pytest.raises(kvm.NotDumpedError):
        dump.read_physical(0x4000, 1)


def test_truncated_full_dump_of_a_kernel():
    kernel = Amd64Kernel()
    lost = Mapping(0xFFFFFE00_00100000, 0x1_1000_0000, 2 * 4096)
    kernel.mappings.append(lost)
    random_pages(kernel.memory, [lost])
    kernel.memory.write_integer(kernel.data_pa + 0xEB8, pagetables.amd64(kernel.memory, kernel.mappings), 8)
    dump = kvm.open(kernel.dump()[:-4096], symbols=kernel.symbols)
    assert dump.read(lost.va, 4096) == kernel.memory.read(lost.pa, 4096)
    with pytest.raises(kvm.BeyondEndError):
        dump.read(lost.va + 4096, 1)
    parts = [(part.va, part.absence) for part in dump.walk() if lost.va <= part.va < lost.end]
    assert parts == [(lost.va, None), (lost.va + 4096, Absence.BEYOND_END)]


def test_other_segments_hold_no_memory():
    data = elfcore(
        [Segment(0x1000, 0x1000, b"n" * 0x1000, kind=4), Segment(0x1000, 0x1000, b"m" * 0x1000)],
        bits=64,
        byteorder="little",
        machine=EM_X86_64,
    )
    assert kvm.open(data).read_physical(0x1000, 4) == b"mmmm"


@pytest.mark.parametrize("elf_type", [2, 3])
def test_executables_are_not_dumps(elf_type: int):
    data = elfcore(
        [Segment(0x1000, 0x1000, bytes(4096))], bits=64, byteorder="little", machine=EM_X86_64, elf_type=elf_type
    )
    with pytest.raises(kvm.FormatError):
        kvm.open(data)


def test_files_can_be_opened_by_path_and_as_bytes(tmp_path):
    memory = two_ranges()
    data = full_dump(memory, around(memory), "amd64")
    path = tmp_path / "vmcore.0"
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data).getvalue()):
        assert kvm.open(source).read_physical(0x8000, 16) == memory.read(0x8000, 16)


def test_amd64_without_symbols_prefers_the_kernels_tables_to_those_of_processes():
    """A process has the self-map and the kernel's half in its PML4, too; the lower half tells them apart."""
    memory = PhysicalMemory(free_area=(0x300000, 0x380000))
    memory.write(0x5000, bytes(4096))
    content = memory.fill_random(0x200000, 0x2000, seed=3)
    root = pagetables.amd64(memory, [Mapping(0xFFFFFFFF80200000, 0x200000, 0x2000)], recursive_slot=256)
    entries = bytearray(memory.read(root, 4096))
    entries[:8] = (0x200000 | 7).to_bytes(8, "little")
    entries[256 * 8 : 257 * 8] = (0x5000 | 0x63).to_bytes(8, "little")
    memory.write(0x5000, bytes(entries))
    dump = kvm.open(full_dump(memory, [(0, 0x400000)], "amd64"))
    assert list(amd64.find_roots(dump.physical)) == [0x5000, root]
    assert dump.page_map.root == root
    assert dump.read(0xFFFFFFFF80200000, 0x2000) == content
    assert dump.warnings == []
