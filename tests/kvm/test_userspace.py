"""Page tables of processes in every format, and what the file has of the memory behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest

from tests.writers import pagetables
from tests.writers.elfcore import full_dump
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.parameters import KIB, MIB
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm.records import Absence
from volatility3_freebsd_kvm.kvm.userspace import USER_BITS, USER_TABLES, Presence, presence

RAM = (0x0200_0000, 0x0280_0000)


class Format(NamedTuple):
    """A format of page tables: how it is written, and its second size of page."""

    arch: str
    build: Callable[[PhysicalMemory, Iterable[Mapping]], int]
    large: int
    page_size: int = 4 * KIB


def amd64_5(memory: PhysicalMemory, mappings: Iterable[Mapping]) -> int:
    return pagetables.amd64(memory, mappings, levels=5)


def sv48(memory: PhysicalMemory, mappings: Iterable[Mapping]) -> int:
    return pagetables.riscv(memory, mappings, levels=4)


FORMATS = {
    "amd64": Format("amd64", pagetables.amd64, 2 * MIB),
    "amd64-la57": Format("amd64", amd64_5, 2 * MIB),
    "arm64": Format("arm64", pagetables.arm64, 2 * MIB),
    "arm64-16k": Format("arm64", pagetables.arm64, 32 * MIB, 16 * KIB),
    "riscv-sv39": Format("riscv", pagetables.riscv, 2 * MIB),
    "riscv-sv48": Format("riscv", sv48, 2 * MIB),
    "i386": Format("i386", pagetables.i386, 4 * MIB),
    "i386-pae": Format("i386", pagetables.i386_pae, 2 * MIB),
    "arm": Format("arm", pagetables.arm, MIB),
}


def test_every_format_is_tried() -> None:
    assert set(FORMATS) == set(USER_TABLES) == set(USER_BITS)


@pytest.mark.parametrize("kind", FORMATS)
def test_pages_and_superpages_of_user_addresses(kind: str) -> None:
    form = FORMATS[kind]
    size, top = form.page_size, 1 << USER_BITS[kind]
    memory = PhysicalMemory(size, RAM)
    low, high = Mapping(0x20_0000, 0x270_0000, 2 * size), Mapping(top - size, 0x274_0000, size)
    large = Mapping(0x4000_0000, 0x4000_0000, form.large, leaf=form.large)
    for pa in (0x270_0000, 0x270_0000 + size, 0x274_0000):
        memory.fill_random(pa, size, seed=pa)
    root = form.build(memory, [low, high, large])
    with kvm.open(full_dump(memory, [RAM], form.arch)) as dump:
        dump.physical.page_size = size
        space = kvm.AddressSpace(dump.physical, USER_TABLES[kind](dump.physical, root))
        assert space.read(0x20_0000, 2 * size) == memory.read(0x270_0000, 2 * size)
        assert space.read(top - size, size) == memory.read(0x274_0000, size)
        assert space.page_map.kvatop(0x4000_0000 + form.large - 1) == 0x4000_0000 + form.large - 1
        found = [(one.va, one.pa, one.length, one.absence) for one in space.walk()]
        assert found == [
            (0x20_0000, 0x270_0000, 2 * size, None),
            (0x4000_0000, 0x4000_0000, form.large, Absence.NOT_DUMPED),
            (top - size, 0x274_0000, size, None),
        ]
        for va in (0, 0x20_0000 - 1, 0x20_0000 + 2 * size, top - 2 * size, top):
            with pytest.raises(kvm.NotMappedError):
                space.read(va, 1)


@pytest.mark.parametrize(("kind", "bits"), [("amd64", 0xFFF), ("amd64-la57", 0x8000_0000_0000_0803)])
def test_the_other_bits_of_a_cr3_do_not_matter(kind: str, bits: int) -> None:
    memory = PhysicalMemory(free_area=RAM)
    memory.write(0x270_0000, b"user")
    root = FORMATS[kind].build(memory, [Mapping(0x20_0000, 0x270_0000, 4096)])
    with kvm.open(full_dump(memory, [RAM], "amd64")) as dump:
        assert (
            kvm.AddressSpace(dump.physical, USER_TABLES[kind](dump.physical, root | bits)).read(0x20_0000, 4) == b"user"
        )


def test_an_asid_in_a_ttbr_does_not_matter() -> None:
    memory = PhysicalMemory(free_area=RAM)
    memory.write(0x270_0000, b"user")
    root = pagetables.arm64(memory, [Mapping(0x20_0000, 0x270_0000, 4096)])
    with kvm.open(full_dump(memory, [RAM], "arm64")) as dump:
        tables = USER_TABLES["arm64"](dump.physical, root | 0x1234 << 48 | 1)
        assert kvm.AddressSpace(dump.physical, tables).read(0x20_0000, 4) == b"user"


def test_presence_of_physical_memory() -> None:
    memory = PhysicalMemory(free_area=RAM)
    memory.write(0x200_0000, b"\1" * 0x3000)
    data = full_dump(memory, [(0x200_0000, 0x200_2000), (0x200_4000, 0x200_6000)], "amd64")
    with kvm.open(data[:-0x1800]) as dump:
        assert list(presence(dump.physical, 0x1FF_F800, 0x8000)) == [
            Presence(0x1FF_F800, 0x800, Absence.NOT_DUMPED),
            Presence(0x200_0000, 0x2000, None),
            Presence(0x200_2000, 0x2000, Absence.NOT_DUMPED),
            Presence(0x200_4000, 0x800, None),
            Presence(0x200_4800, 0x1800, Absence.BEYOND_END),
            Presence(0x200_6000, 0x1800, Absence.NOT_DUMPED),
        ]
        assert list(presence(dump.physical, 0x200_0010, 8)) == [Presence(0x200_0010, 8, None)]
