"""The writers against bytes computed by hand from the format description: not against any reader."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile

from tests.writers import hpt, pagetables
from tests.writers.bitmap import bit_count, bit_of, pack_bitmap, pack_dump_avail
from tests.writers.corrupt import overwrite, patch
from tests.writers.elfcore import (
    EM_X86_64,
    PT_DUMP_DELTA,
    TARGETS,
    Segment,
    elf_kernel,
    elfcore,
    full_dump,
    virtual_dump,
)
from tests.writers.headers import header_fields
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import build_minidump, minidump
from tests.writers.parameters import ARM_MMU_V4

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def word(data: bytes, offset: int, size: int = 8, byteorder: str = "little") -> int:
    return int.from_bytes(data[offset : offset + size], "big" if byteorder == "big" else "little")


def memory_of(*pages: int, page_size: int = 4096) -> PhysicalMemory:
    memory = PhysicalMemory(page_size)
    for page in pages:
        memory.write(page, page.to_bytes(8, "little") * (page_size // 8))
    return memory


# --- memory ---------------------------------------------------------------------------------------------------------


def test_writes_cross_pages_and_the_rest_reads_zero():
    memory = PhysicalMemory()
    memory.write(0x1FFE, b"abcd")
    assert sorted(memory.pages) == [0x1000, 0x2000]
    assert memory.read(0x1FFC, 8) == b"\0\0abcd\0\0"
    assert list(memory.runs()) == [(0x1000, 0x2000)]


def test_reading_a_page_that_does_not_exist_fails():
    with pytest.raises(KeyError):
        memory_of(0x1000).read(0x1FFF, 2)


def test_allocate_takes_fresh_aligned_pages_and_ends():
    memory = PhysicalMemory(free_area=(0x10000, 0x18000))
    memory.write(0x10000, b"x")
    assert memory.allocate(2) == 0x11000
    assert memory.allocate(1, align=0x4000) == 0x14000
    assert memory.read(0x14000, 4096) == bytes(4096)
    with pytest.raises(MemoryError):
        memory.allocate(4)


def test_mapping_must_be_aligned_to_its_leaf():
    with pytest.raises(ValueError, match="not aligned"):
        list(Mapping(0x1000, 0x20_0000, 2 * MIB, leaf=2 * MIB).leaves(4096))


# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "version", "short", "size"),
    [
        ("amd64", 1, False, 64),
        ("amd64", 2, False, 64),
        ("amd64", 3, False, 68),
        ("arm64", 1, False, 72),
        ("arm64", 2, False, 76),
        ("arm64", 3, False, 80),
        ("riscv", 1, False, 72),
        ("riscv", 2, False, 76),
        ("i386", 1, False, 48),
        ("i386", 2, False, 52),
        ("arm", 1, True, 44),
        ("arm", 1, False, 52),
        ("arm", 2, False, 56),
        ("mips", 1, False, 64),
        ("mips", 2, False, 68),
        ("powerpc64", 1, False, 136),
        ("powerpc64", 2, False, 140),
    ],
)
def test_header_sizes(arch: str, version: int, short: bool, size: int):
    assert max(field.offset + field.size for field in header_fields(arch, version, short=short).values()) == size


def test_amd64_version_3_header_and_section_order():
    memory = memory_of(0x1000, 0x5000)
    mapping = Mapping(0xFFFFFE0000003000, 0x5000, 4096)
    dump = build_minidump(
        "amd64", 3, memory, [mapping], dump_avail=[(0x1000, 0x9000), (0x200_0000, 0x210_0000)], message_buffer=b"hello"
    )
    data = dump.data
    assert data[:24] == b"minidump FreeBSD/amd64\0\0"
    assert [word(data, offset, 4) for offset in (0x18, 0x1C, 0x20, 0x24)] == [3, 5, 0x1000, 0x1000]
    assert word(data, 0x28) == 0xFFFFFE0000000000
    assert word(data, 0x30) == 0xFFFFF80000000000
    assert word(data, 0x38) == 0xFFFFFC0000000000
    assert word(data, 0x40, 4) == 0x1000
    assert data[0x44:0x1000] == bytes(0xFBC)
    assert data[0x1000:0x2000] == b"hello".ljust(4096, b"\0")
    assert [word(data, 0x2000 + 8 * index) for index in range(6)] == [0x1000, 0x9000, 0x200_0000, 0x210_0000, 0, 0]
    assert word(data, 0x3000) == 0b1_0001_0001  # pages 1000 and 5000, and bit 8: the PT page at 2000000
    assert word(data, 0x4000) == 0x200_0063
    assert data[0x5000:0x6000] == memory.read(0x1000, 4096)
    assert data[0x6000:0x7000] == memory.read(0x5000, 4096)
    assert word(data, 0x7000 + 3 * 8) == 0x8000_0000_0000_5163
    assert len(data) == 0x8000
    assert dump.dumped == (0x1000, 0x5000, 0x200_0000)
    assert dump.offset_of(0x5010) == 0x6010
    assert dump.offset_of(0x6000) is None
    assert sorted(memory.pages) == [0x1000, 0x5000], "the caller's memory is not changed"


def test_powerpc64_header_is_big_endian_and_padded_like_the_c_structure():
    data = minidump(
        "powerpc64", 2, memory_of(0x1000), [], mmu_name="mmu_g5", hw_direct_map=1, endkernel=0xC000_0000_0123_0000
    )
    assert data[:32] == b"minidump FreeBSD/powerpc64".ljust(32, b"\0")
    assert data[0x20:0x40] == b"mmu_g5".ljust(32, b"\0")
    assert word(data, 0x40, 4, "big") == 2
    assert word(data, 0x50, 8, "big") == 0xE000_0000_0000_0000
    assert word(data, 0x68, 8, "big") == 0xCFFF_FFFF_FFFF_FFFF
    assert data[0x70:0x78] == b"\0\0\0\1\0\0\0\0"
    assert word(data, 0x78, 8, "big") == 0xC000_0000_0010_0100
    assert word(data, 0x80, 8, "big") == 0xC000_0000_0123_0000
    assert word(data, 0x88, 4, "big") == 0x1000


def test_powerpc64le_header_is_little_endian():
    data = minidump("powerpc64le", 1, memory_of(0x1000), [], mmu_name="mmu_radix")
    assert word(data, 0x40, 4) == 1
    assert word(data, 0x4C, 4) == 65536
    assert word(data, 0x50) == 0xC008_0000_0000_0000


def test_arm64_16k_header_page_and_flags():
    data = minidump("arm64", 3, memory_of(0x4000_0000, page_size=16384), [], page_size=16384, message_buffer=b"m")
    assert word(data, 0x30) == 0x4000_0000
    assert word(data, 0x48, 4) == 16384
    assert word(data, 0x4C, 4) == 1
    assert data[0x4000:0x4001] == b"m"
    assert word(data, 0x8000) == 0x4000_0000
    assert data[0xC000:0xC008] == b"\1\0\0\0\0\0\0\0"


def test_header_fields_that_a_version_does_not_have_are_zero():
    assert minidump("amd64", 2, memory_of(0x1000), [])[0x40:0x1000] == bytes(0xFC0)
    assert minidump("arm", 1, memory_of(0x1000), [], short_header=True)[0x2C:0x1000] == bytes(0xFD4)
    assert minidump("arm", 1, memory_of(0x1000), [])[0x2C:0x34] == b"\7\0\0\0\2\0\0\0"


# --- bitmap and dump_avail ------------------------------------------------------------------------------------------


def test_bits_of_a_real_dump_avail_table():
    ranges = [(0, 0x9F000), (0x100000, 0x7FDF000)]
    assert bit_count(ranges, 4096) == 32638
    assert bit_of(ranges, 0x9E000, 4096) == 158
    assert bit_of(ranges, 0x9F000, 4096) is None
    assert bit_of(ranges, 0x100000, 4096) == 159
    assert bit_of(ranges, 0x7FDEFFF, 4096) == 32637


def test_unaligned_ranges_own_every_page_that_they_touch():
    ranges = [(0x1800, 0x3001), (0x8000, 0x9000)]
    assert bit_count(ranges, 4096) == 4
    assert [bit_of(ranges, pa, 4096) for pa in (0x1000, 0x2000, 0x3000, 0x4000, 0x8000)] == [0, 1, 2, None, 3]


def test_bitmap_words():
    little = pack_bitmap([0, 33], 64, 8, 4096, "little")
    assert little == b"\1\0\0\0\2\0\0\0".ljust(4096, b"\0")
    assert pack_bitmap([0, 33], 64, 8, 4096, "big") == b"\0\0\0\2\0\0\0\1".ljust(4096, b"\0")
    assert pack_bitmap([0, 33], 64, 4, 4096, "big") == b"\0\0\0\1\0\0\0\2".ljust(4096, b"\0")
    assert len(pack_bitmap([], 32768, 8, 4096, "little")) == 4096
    assert len(pack_bitmap([], 32769, 8, 4096, "little")) == 8192


def test_dump_avail_entry_sizes():
    assert pack_dump_avail([(0, 0x2000)], 4, 4096, "big")[:17] == b"\0\0\0\0\0\0\x20\0" + bytes(9)
    assert pack_dump_avail([(0x1000, 0x2000)], 8, 4096, "little")[:16] == b"\0\x10" + bytes(6) + b"\0\x20" + bytes(6)


def test_without_dump_avail_the_bitmap_starts_at_zero():
    dump = build_minidump("i386", 1, memory_of(0x7000), [])
    assert dump.dump_avail is None
    assert dump.data[0x1000:0x1004] == b"\x80\0\0\0"


def test_dumping_outside_dump_avail_is_refused():
    with pytest.raises(ValueError, match="outside dump_avail"):
        minidump("amd64", 3, memory_of(0x1000), [], dump_avail=[(0x2000, 0x3000)])


# --- page maps ------------------------------------------------------------------------------------------------------


def test_amd64_superpage_entry_of_a_real_dump():
    mapping = Mapping(0xFFFFFFFF81C00000, 0x1C00000, 2 * MIB, leaf=2 * MIB)
    dump = build_minidump("amd64", 3, memory_of(0x1CD4000), [mapping])
    assert word(dump.data, dump.pmap_offset + 0xFFC0E * 8) == 0x8000000001C001E3
    assert dump.header["pmapsize"] == 0x7FF000


def test_amd64_gigabyte_page_is_512_fabricated_entries():
    mapping = Mapping(0xFFFFFE0040000000, GIB, GIB, leaf=GIB, write=False, execute=True)
    dump = build_minidump("amd64", 2, memory_of(0x1000), [mapping])
    assert dump.header["pmapsize"] == 0x2000
    assert word(dump.data, dump.pmap_offset + 0x1000) == 0x4000_01A1
    assert word(dump.data, dump.pmap_offset + 0x1000 + 511 * 8) == 0x7FE0_01A1


def test_amd64_version_1_has_an_entry_for_each_page():
    mapping = Mapping(0xFFFFFFFF80002000, 0x1000, 4096, write=False)
    dump = build_minidump("amd64", 1, memory_of(0x1000), [mapping])
    assert word(dump.data, dump.pmap_offset + 2 * 8) == 0x8000_0000_0000_1121


def test_i386_superpage_is_expanded_as_in_a_real_dump():
    mapping = Mapping(0x1C00000, 0x1C00000, 2 * MIB, leaf=2 * MIB)
    dump = build_minidump("i386", 2, memory_of(0x1D40000), [mapping])
    assert word(dump.data, dump.pmap_offset + 0x1540 * 8) == 0x1D40063


def test_i386_entries_with_and_without_pae():
    mapping = Mapping(0xC0001000, 0x5000, 4096)
    plain = build_minidump("i386", 1, memory_of(0x5000), [mapping])
    assert plain.header["ptesize"] == 4096
    assert word(plain.data, plain.pmap_offset + 4, 4) == 0x5163
    pae = build_minidump("i386", 1, memory_of(0x5000), [mapping], paemode=True)
    assert pae.data[0x2C:0x30] == b"\1\0\0\0"
    assert word(pae.data, pae.pmap_offset + 8) == 0x8000_0000_0000_5163


def test_arm64_entries_of_a_real_dump():
    mappings = [
        Mapping(0xFFFF000000E00000, 0x44A00000, 2 * MIB, leaf=2 * MIB),
        Mapping(0xFFFF000001000000, 0x45000000, 4096),
    ]
    dump = build_minidump("arm64", 2, memory_of(0x44A26000), mappings)
    assert word(dump.data, dump.pmap_offset + 0xE26 * 8) == 0x44A26703
    assert word(dump.data, dump.pmap_offset + 0x1000 * 8) == 0x60000045_00070B
    assert dump.header["pmapsize"] == 0x9000


def test_arm64_kernel_text_is_not_executable_by_users_since_13():
    mapping = Mapping(0xFFFF000000000000, 0x40000000, 4096, write=False, execute=True)
    for version, expected in ((1, 0x4000078B), (2, 0x40_0000_4000_078B)):
        dump = build_minidump("arm64", version, memory_of(0x40000000), [mapping])
        assert word(dump.data, dump.pmap_offset) == expected


def test_riscv_entries():
    mappings = [
        Mapping(0xFFFFFFC000000000, 0x80200000, 2 * MIB, write=False, execute=True, leaf=2 * MIB),
        Mapping(0xFFFFFFC000200000, 0x80001000, 4096),
    ]
    dump = build_minidump("riscv", 2, memory_of(0x80200000), mappings)
    assert word(dump.data, dump.pmap_offset) == 0x200800EB
    assert word(dump.data, dump.pmap_offset + 511 * 8) == 0x200FFCEB
    assert word(dump.data, dump.pmap_offset + 512 * 8) == 0x200004E7
    typed = build_minidump("riscv", 2, memory_of(0x80200000), mappings, pbmt=1)
    assert word(typed.data, typed.pmap_offset) == 0x20000000_200800EB


def test_arm_entries():
    mappings = [Mapping(0xC0000000, 0x30000, 0x10000, leaf=0x10000), Mapping(0xC0010000, 0x5000, 4096, write=False)]
    v6 = build_minidump("arm", 2, memory_of(0x5000), mappings)
    assert [word(v6.data, v6.pmap_offset + 4 * slot, 4) for slot in (0, 15, 16, 17)] == [0x38011, 0x38011, 0x5093, 0]
    v4 = build_minidump("arm", 1, memory_of(0x5000), mappings, mmuformat=ARM_MMU_V4)
    assert [word(v4.data, v4.pmap_offset + 4 * slot, 4) for slot in (0, 15, 16, 17)] == [0x30551, 0x30551, 0x5002, 0]


def test_mips_entries():
    mappings = [Mapping(0xC0001000, 0x5000, 4096), Mapping(0xC0002000, 0x6000, 4096, write=False)]
    dump = build_minidump("mips", 1, memory_of(0x5000), mappings)
    assert [word(dump.data, dump.pmap_offset + 4 * slot, 4, "big") for slot in range(3)] == [0, 0x15F, 0x2000019B]
    wide = [Mapping(0xC000_0000_0000_0000, 0x1_0000_0000, 4096, write=False)]
    dump = build_minidump("mips", 2, memory_of(0x5000), wide, pte_size=8, byteorder="little")
    assert word(dump.data, dump.pmap_offset) == 0x80_0000_0400_001B


def test_kernel_segment_number_by_hand():
    # esid e00000000: esid<<8 vanishes modulo 2**36, esid>>28 is e0, and e0 * 13bb = 1143a0.
    assert hpt.kernel_vsid(0xE000_0000_0000_0000) == 0x10_0011_43A0
    assert hpt.primary_hash(0xE000_0000_0012_3456, 12) == 0x10_0011_4283
    assert hpt.primary_hash(0xE000_0000_0112_3456, 24) == 0x10_0011_43A1


def test_hpt_entries_by_hand():
    mappings = [
        Mapping(0xE000_0000_0012_3000, 0x5000, 4096),
        Mapping(0xE000_0000_0F92_3000, 0x6000, 4096, write=False, execute=True),
        Mapping(0xE000_0000_0100_0000, 0x300_0000, 16 * MIB, leaf=16 * MIB),
    ]
    dump = build_minidump("powerpc64", 1, memory_of(0x5000), mappings)
    assert dump.header["pmapsize"] == 2048 * 128

    def entry(group: int, slot: int) -> tuple[int, int]:
        offset = dump.pmap_offset + group * 128 + slot * 16
        return word(dump.data, offset, 8, "big"), word(dump.data, offset + 8, 8, "big")

    assert entry(0x283, 0) == (0x10_0011_43A0_001, 0x5196)
    assert entry(0x283, 1) == (0x10_0011_43A0_F81, 0x6193)
    assert entry(0x3A1, 0) == (0x10_0011_43A0_105, 0x300_0196)


def test_hpt_falls_back_to_the_secondary_group():
    mappings = [Mapping(0xE000_0000_0000_0000 + (page << 23), page << 12, 4096) for page in range(9)]
    table = hpt.build_hpt(mappings, 2048)  # 2048 pages apart: all in one group
    primary, secondary = 0x43A0 & 0x7FF, ~0x43A0 & 0x7FF
    assert [word(table, primary * 128 + slot * 16, 8, "big") & 3 for slot in range(8)] == [1] * 8
    assert word(table, secondary * 128, 8, "big") == 0x10_0011_43A0_403
    assert word(table, secondary * 128 + 8, 8, "big") == 0x8196


def test_radix_walk_by_hand():
    memory = memory_of(0x5000)
    mappings = [
        Mapping(0xC008_0000_4020_3000, 0x5000, 4096),
        Mapping(0xC008_0000_8000_0000, 4 * GIB, GIB, write=False, execute=True, leaf=GIB),
    ]
    dump = build_minidump("powerpc64", 2, memory, mappings, mmu_name="mmu_radix")
    assert dump.header["pmapsize"] == 65536
    assert word(dump.data, dump.pmap_offset + 4096 * 8, 8, "big") == 0x8000_0000_0200_0009
    assert dump.memory.read_integer(0x2000000 + 1 * 8, 8, "big") == 0x8000_0000_0200_1009
    assert dump.memory.read_integer(0x2001000 + 1 * 8, 8, "big") == 0x8000_0000_0200_2009
    assert dump.memory.read_integer(0x2002000 + 3 * 8, 8, "big") == 0xC000_0000_0000_518E
    assert dump.memory.read_integer(0x2000000 + 2 * 8, 8, "big") == 0xC000_0001_0000_018D
    assert dump.tables == {0x2000000, 0x2001000, 0x2002000}


@pytest.mark.parametrize(
    ("arch", "version", "leaf"), [("amd64", 1, GIB), ("i386", 2, 4 * MIB), ("mips", 1, 2 * MIB), ("riscv", 1, GIB)]
)
def test_leaf_sizes_that_a_format_does_not_have(arch: str, version: int, leaf: int):
    base = {"amd64": 0xFFFFFFFF80000000, "i386": 0xC0000000, "mips": 0xC0000000, "riscv": 0xFFFFFFC000000000}[arch]
    with pytest.raises(ValueError, match="do not exist"):
        minidump(arch, version, memory_of(0x1000), [Mapping(base, 0, leaf, leaf=leaf)])


def test_mappings_outside_the_page_map_are_refused():
    with pytest.raises(ValueError, match="outside the page map"):
        minidump("i386", 1, memory_of(0x1000), [Mapping(0x1000, 0x1000, 4096)])


# --- page tables ----------------------------------------------------------------------------------------------------


def test_amd64_tables():
    memory = PhysicalMemory()
    mappings = [
        Mapping(0xFFFFFFFF80200000, 0x200000, 2 * MIB, execute=True, write=False, leaf=2 * MIB),
        Mapping(0xFFFFFFFF80401000, 0x5000, 4096),
        Mapping(0xFFFFF80040000000, GIB, GIB, leaf=GIB),
    ]
    root = pagetables.amd64(memory, mappings, recursive_slot=256)
    assert root == 0x2000000
    assert memory.read_integer(root + 256 * 8, 8) == 0x2000063
    pdpt = memory.read_integer(root + 511 * 8, 8)
    assert pdpt == 0x2001063
    assert memory.read_integer(0x2001000 + 510 * 8, 8) == 0x2002063
    assert memory.read_integer(0x2002000 + 1 * 8, 8) == 0x2001A1
    assert memory.read_integer(0x2002000 + 2 * 8, 8) == 0x2003063
    assert memory.read_integer(0x2003000 + 1 * 8, 8) == 0x8000000000005163
    assert memory.read_integer(root + 496 * 8, 8) == 0x2004063
    assert memory.read_integer(0x2004000 + 1 * 8, 8) == 0x80000000400001E3


def test_amd64_with_five_levels():
    memory = PhysicalMemory()
    root = pagetables.amd64(memory, [Mapping(0xFFFFFFFF80401000, 0x5000, 4096)], levels=5)
    assert [memory.read_integer(root + index * 8, 8) for index in (510, 511)] == [0, 0x2001063]
    assert memory.read_integer(0x2001000 + 511 * 8, 8) == 0x2002063


def test_i386_tables():
    memory = PhysicalMemory()
    mappings = [Mapping(0x00C01000, 0x5000, 4096), Mapping(0x00800000, 0x800000, 4 * MIB, leaf=4 * MIB)]
    root = pagetables.i386(memory, mappings)
    assert memory.read_integer(root + 3 * 4, 4) == 0x2001063
    assert memory.read_integer(0x2001000 + 4, 4) == 0x5163
    assert memory.read_integer(root + 2 * 4, 4) == 0x8001E3


def test_i386_pae_tables():
    memory = PhysicalMemory()
    root = pagetables.i386_pae(memory, [Mapping(0xC0601000, 0x1_0000_5000, 4096)])
    assert memory.read_integer(root + 3 * 8, 8) == 0x2001001
    assert memory.read_integer(0x2001000 + 3 * 8, 8) == 0x2002063
    assert memory.read_integer(0x2002000 + 8, 8) == 0x8000_0001_0000_5163


def test_arm64_tables():
    memory = PhysicalMemory()
    mappings = [
        Mapping(0xFFFF000000200000, 0x40200000, 2 * MIB, leaf=2 * MIB),
        Mapping(0xFFFF000000401000, 0x5000, 4096),
    ]
    root = pagetables.arm64(memory, mappings)
    assert memory.read_integer(root, 8) == 0x2001003
    assert memory.read_integer(0x2001000, 8) == 0x2002003
    assert memory.read_integer(0x2002000 + 8, 8) == 0x6000004020_0709
    assert memory.read_integer(0x2003000 + 8, 8) == 0x6000000000_570B


def test_arm64_tables_with_16k_pages():
    memory = PhysicalMemory(16384)
    root = pagetables.arm64(memory, [Mapping(0xFFFF000002004000, 0x8000, 16384)])
    assert memory.read_integer(root, 8) == 0x2004003  # bit 47 is clear: the first of two entries
    l1 = 0xFFFF000002004000 >> 36 & 2047
    assert memory.read_integer(0x2004000 + l1 * 8, 8) == 0x2008003
    assert memory.read_integer(0x2008000 + 8, 8) == 0x200C003
    assert memory.read_integer(0x200C000 + 8, 8) == 0x60000000_00870B


@pytest.mark.parametrize("indexes", [(256, 1), (511, 256, 1)], ids=["sv39", "sv48"])
def test_riscv_tables(indexes: tuple[int, ...]):
    memory = PhysicalMemory()
    mapping = Mapping(0xFFFFFFC000201000, 0x80005000, 4096)
    table = pagetables.riscv(memory, [mapping], levels=len(indexes) + 1)
    for index in indexes:
        entry = memory.read_integer(table + index * 8, 8)
        assert entry & 0x3FF == 1, "valid, and not a leaf"
        table = entry >> 10 << 12
    assert memory.read_integer(table + 8, 8) == 0x200014E7


def test_arm_tables():
    memory = PhysicalMemory()
    mappings = [
        Mapping(0xC0000000, 0x100000, MIB, leaf=MIB),
        Mapping(0xC0101000, 0x5000, 4096),
        Mapping(0xC0210000, 0x30000, 0x10000, leaf=0x10000),
    ]
    root = pagetables.arm(memory, mappings)
    assert root == 0x2000000
    assert memory.read_integer(root + 0xC00 * 4, 4) == 0x100412
    assert memory.read_integer(root + 0xC01 * 4, 4) == 0x2004401
    assert memory.read_integer(root + 0xC02 * 4, 4) == 0x2004801
    assert memory.read_integer(0x2004404, 4) == 0x5013
    assert [memory.read_integer(0x2004800 + slot * 4, 4) for slot in (15, 16, 31, 32)] == [0, 0x38011, 0x38011, 0]


# --- ELF ------------------------------------------------------------------------------------------------------------


def test_full_dump_as_pyelftools_reads_it():
    memory = memory_of(0x1000, 0x8000)
    data = full_dump(memory, [(0, 0x2000), (0x8000, 0x9000)], "amd64")
    elf = ELFFile(io.BytesIO(data))
    assert (elf.elfclass, elf.little_endian, elf["e_machine"], elf["e_type"]) == (64, True, "EM_X86_64", "ET_CORE")
    assert data[7] == 255
    segments = list(elf.iter_segments())
    assert [(s["p_paddr"], s["p_vaddr"], s["p_offset"], s["p_filesz"], s["p_flags"]) for s in segments] == [
        (0, 0, 0x1000, 0x2000, 4),
        (0x8000, 0x8000, 0x3000, 0x1000, 4),
    ]
    assert segments[0].data() == bytes(4096) + memory.read(0x1000, 4096)
    assert segments[1].data() == memory.read(0x8000, 4096)
    assert len(data) == 0x4000


def test_full_dump_of_a_range_that_is_not_page_sized_shifts_what_follows():
    memory = memory_of(0x1000, 0x8000)
    data = full_dump(memory, [(0x1000, 0x2C00), (0x8000, 0x9000)], "amd64")
    first, second = ELFFile(io.BytesIO(data)).iter_segments()
    assert (first["p_offset"], first["p_memsz"], first["p_filesz"]) == (0x1000, 0x1C00, 0x1C00)
    assert second["p_offset"] == 0x2C00, "what the header says"
    assert data[0x2000:0x3000] == memory.read(0x8000, 4096), "where it is"
    assert len(data) == 0x3000


def test_arm_dump_ends_its_headers_with_the_delta():
    elf = ELFFile(io.BytesIO(full_dump(memory_of(0x1000), [(0x1000, 0x2000)], "arm", delta=(0xC0000000, 0x80000000))))
    last = elf.get_segment(1)
    assert last["p_type"] == PT_DUMP_DELTA
    assert (last["p_vaddr"], last["p_paddr"], last["p_filesz"]) == (0xC0000000, 0x80000000, 0)


def test_many_segments_are_counted_in_section_zero():
    data = elfcore(
        [Segment(0x1000, 0x1000, b"x" * 4096)] * 3, bits=64, byteorder="little", machine=EM_X86_64, pn_xnum=True
    )
    assert word(data, 56, 2) == 0xFFFF
    assert ELFFile(io.BytesIO(data)).num_segments() == 3


@pytest.mark.parametrize("arch", ["powerpc", "powerpc64", "powerpc64le"])
def test_virtual_dump_has_no_physical_addresses(arch: str):
    memory = memory_of(0x1000)
    elf = ELFFile(io.BytesIO(virtual_dump(memory, [Mapping(0x80001000, 0x1000, 4096)], arch)))
    segment = elf.get_segment(0)
    assert (segment["p_vaddr"], segment["p_paddr"]) == (0x80001000, (1 << TARGETS[arch].bits) - 1)
    assert segment.data() == memory.read(0x1000, 4096)


@pytest.mark.parametrize("arch", ["amd64", "i386", "mips", "powerpc64"])
def test_kernel_symbols_as_pyelftools_reads_them(arch: str):
    elf = ELFFile(io.BytesIO(elf_kernel({"kernbase": 0x80000000, "KPML4phys": 0x80001234}, arch)))
    table = elf.get_section_by_name(".symtab")
    assert {symbol.name: symbol["st_value"] for symbol in table.iter_symbols() if symbol.name} == {
        "kernbase": 0x80000000,
        "KPML4phys": 0x80001234,
    }


# --- damage ---------------------------------------------------------------------------------------------------------


def test_patch_changes_one_field():
    dump = minidump("i386", 2, memory_of(0x1000), [])
    patched = patch(dump, "i386", 2, "bitmapsize", 0x1_2345_6789)
    assert patched[:0x20] == dump[:0x20]
    assert patched[0x20:0x24] == b"\x89\x67\x45\x23"
    assert patched[0x24:] == dump[0x24:]
    assert patch(dump, "i386", 2, "magic", b"minidump FreeBSD/vax")[:24] == b"minidump FreeBSD/vax\0\0\0\0"


def test_patch_knows_big_endian_headers():
    dump = minidump("powerpc64", 2, memory_of(0x1000), [])
    assert patch(dump, "powerpc64", 2, "version", 9)[0x40:0x44] == b"\0\0\0\x09"


def test_patch_refuses_a_field_that_the_version_does_not_have():
    with pytest.raises(ValueError, match="no header field dumpavailsize"):
        patch(b"", "amd64", 2, "dumpavailsize", 0)


def test_overwrite():
    assert overwrite(b"abcdef", 2, b"XY") == b"abXYef"
    with pytest.raises(ValueError, match="behind the end"):
        overwrite(b"abc", 2, b"XY")
