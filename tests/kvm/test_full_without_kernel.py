"""Full dumps whose kernel is not at hand: the page tables are found as in raw images, and confirmed by the kernel."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kvm.test_raw import BANNER, I386_TABLES, RECURSIVE, small_kernel, translated
from tests.scenario.kernels import build_world, load
from tests.writers.elfcore import EM_386, Segment, elfcore
from tests.writers.parameters import KIB, MIB
from volatility3_freebsd_kvm import kvm


@pytest.mark.parametrize("name", RECURSIVE)
def test_the_same_is_translated_as_with_the_kernel(name: str):
    data = build_world(name).memory.full_dump()
    found = kvm.open(data)
    known = kvm.open(data, symbols=load(name)[0].symbols)
    assert found.page_map.name == known.page_map.name
    assert translated(found) == translated(known)
    assert found.warnings == known.warnings == []


@pytest.mark.parametrize(("start", "place", "build", "name"), I386_TABLES)
def test_i386(start: int, place: int, build: Any, name: str):
    image = small_kernel("i386", place=place, ram=(0, 32 * MIB), start=start, build=build)
    dump = kvm.open(elfcore([Segment(0, 0, image.data)], bits=32, byteorder="little", machine=EM_386))
    assert (dump.architecture, dump.page_map.name) == ("i386", name)
    assert dump.kvatop(start + 0x1FFFFF) == place + 0x1FFFFF
    assert dump.read(start + 8 * KIB, len(BANNER)) == BANNER


@pytest.mark.parametrize("name", ["15-arm64", "15-riscv"])
def test_a_kernel_that_leads_nowhere_is_refused(name: str):
    """It is another kernel: what would be found without it must not be taken for its memory."""
    wrong = {"pagetable_l0_ttbr1": 0xFFFF0000_7FFF0000, "pagetable_l1": 0xFFFFFFC0_7FFF0000}
    dump = kvm.open(build_world(name).memory.full_dump(), symbols=wrong)
    with pytest.raises(kvm.SymbolError):
        _ = dump.page_map


def test_without_a_kernel_in_it_nothing_is_found():
    data = elfcore([Segment(0, 0, bytes(8 * MIB))], bits=32, byteorder="little", machine=EM_386)
    dump = kvm.open(data)
    with pytest.raises(kvm.SymbolError, match=r"the symbol IdlePTD_nopae or IdlePTD is needed \(pass the kernel\)"):
        _ = dump.page_map
