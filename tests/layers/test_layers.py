"""The layers of every kind of dump against what the writers put in, byte for byte."""

from __future__ import annotations

import bz2
import copy
import dataclasses
import gzip
import itertools
import json
import lzma
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.framework import contexts, exceptions
from volatility3.framework.automagic.stacker import LayerStacker
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import intel, scanners

from tests.framework import GENERIC, Stack, rebuild, stack
from tests.layers.samples import MACHINES, SAMPLES, Sample, full_sample
from tests.writers.elfcore import EM_386, EM_X86_64, PT_NOTE, Segment, elfcore, full_dump, virtual_dump
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import minidump
from tests.writers.parameters import MIB

TOP = 1 << 64
SIGN = 0xFFFF << 48
"""What an amd64 address has more than its 48 significant bits."""

Found = tuple[int, int, int, int, str]


class Made(NamedTuple):
    """A sample and its layers."""

    sample: Sample
    stack: Stack

    @property
    def kernel(self) -> Any:
        return self.stack.kernel

    @property
    def memory(self) -> Any:
        return self.stack.memory

    def short(self, va: int) -> int:
        """The address as the layer's own enumeration has it: amd64 without sign extension."""
        return va & self.kernel.maximum_address


def make(sample: Sample, directory: Path, plugin: str | None = None) -> Stack:
    path = directory / "vmcore.0"
    path.write_bytes(sample.data)
    kernel = None
    if sample.kernel is not None:
        kernel = directory / "kernel"
        kernel.write_bytes(sample.kernel)
    return stack(path, kernel=kernel) if plugin is None else stack(path, plugin, kernel=kernel)


@pytest.fixture(scope="module", params=SAMPLES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    sample = SAMPLES[request.param]()
    return Made(sample, make(sample, tmp_path_factory.mktemp("dump")))


@pytest.fixture(scope="module")
def amd64(tmp_path_factory: pytest.TempPathFactory) -> Made:
    sample = SAMPLES["amd64-v3"]()
    return Made(sample, make(sample, tmp_path_factory.mktemp("amd64")))


def by_page(found: Iterable[Found], size: int) -> dict[int, int]:
    """Mapped address of each page; a page that is there twice or in part is an error."""
    pages: dict[int, int] = {}
    for offset, length, mapped, mapped_length, _ in found:
        assert length == mapped_length
        assert length > 0
        assert not length % size
        for at in range(0, length, size):
            assert offset + at not in pages, hex(offset + at)
            pages[offset + at] = mapped + at
    return pages


# --- the stack ------------------------------------------------------------------------------------------------------


def test_the_expected_layers_stand_on_the_file(made: Made):
    assert made.stack.classes == made.sample.classes
    assert made.memory.dependencies == [made.stack.layers[0].name]
    assert made.kernel.dependencies == [made.memory.name]


def test_the_physical_layer_says_its_system(made: Made):
    assert made.memory.metadata["os"] == "FreeBSD"
    assert "mapped" not in made.memory.metadata  # layerwriter takes it for the memory of the machine


def test_the_kernel_layer_says_its_architecture(made: Made):
    assert made.kernel.metadata["architecture"] == made.sample.architecture
    assert made.kernel.metadata["mapped"] is True


def test_the_kernel_layer_says_its_system(made: Made):
    assert made.kernel.metadata["os"] == "FreeBSD"


def test_x86_layers_are_intel_layers_for_the_framework(made: Made):
    is_x86 = made.sample.architecture.startswith("Intel")
    assert isinstance(made.kernel, intel.Intel) == is_x86
    base = {"FreeBSDIntel32e": intel.Intel32e, "FreeBSDIntelPAE": intel.IntelPAE}.get(type(made.kernel).__name__)
    assert base is None or isinstance(made.kernel, base)
    assert not isinstance(made.memory, intel.Intel)


def test_requirements_are_satisfied_by_architecture(made: Made):
    """A plugin for this kernel finds its layer; one for another architecture does not."""
    everything = [layer.name for layer in reversed(made.stack.layers)]

    def layer_for(architectures: list[str]) -> str | None:
        context = copy.deepcopy(made.stack.context)
        wanted = requirements.ModuleRequirement(name="kernel", architectures=architectures)
        found = LayerStacker.find_suitable_requirements(context, "plugins.Other", wanted, list(everything))
        return found[1] if found else None

    assert layer_for([made.sample.architecture]) == made.kernel.name
    assert layer_for(["Intel32", "Intel64"]) == (made.kernel.name if isinstance(made.kernel, intel.Intel) else None)
    assert layer_for(["Z80"]) is None


@pytest.mark.parametrize("name", ["amd64-v3", "i386-v2-pae", "arm64-v3", "powerpc64-v2-hash", *MACHINES])
def test_stackers_of_other_systems_take_nothing(name: str, tmp_path: Path):
    """A plugin of no system runs every stacker there is, over our layers too."""
    sample = SAMPLES[name]()
    assert make(sample, tmp_path, GENERIC).classes == sample.classes


def test_full_dumps_without_their_kernel_still_show_physical_memory(tmp_path: Path):
    sample = full_sample(MACHINES["full-arm64"])
    path = tmp_path / "vmcore.0"
    path.write_bytes(sample.data)
    made = stack(path)
    assert made.classes == ["FileLayer", "FreeBSDElfLayer"]
    for pa, content in sample.memory.items():
        assert made.kernel.read(pa, sample.page_size) == content


# --- bytes ----------------------------------------------------------------------------------------------------------


def test_every_page_reads_back(made: Made):
    size = made.sample.page_size
    for va, pa in made.sample.pages.items():
        content = made.sample.memory[pa]
        assert made.kernel.read(va, size) == content, hex(va)
        assert made.kernel.read(va + size - 1, 1) == content[-1:]
    assert len(made.sample.pages) > 14
    for pa, content in made.sample.memory.items():
        assert made.memory.read(pa, size) == content, hex(pa)


def test_reads_across_page_borders(made: Made):
    start, end = made.sample.stretch
    size = made.sample.page_size
    content = made.sample.padded(start, end - start)
    assert len(content) == 13 * size
    assert made.kernel.read(start, end - start) == content
    assert made.kernel.read(start + 9, end - start - 21) == content[9:-12]
    for border in range(size, 13 * size, size):
        for before, after in ((1, 1), (7, 1), (1, 8), (size, size)):
            found = made.kernel.read(start + border - before, before + after)
            assert found == content[border - before : border + after], hex(start + border)


def test_padding_replaces_what_is_absent_and_nothing_else(made: Made):
    size = made.sample.page_size
    for mapping in made.sample.mappings:
        for start, length in (
            (mapping.va - 2 * size, 24 * size),
            (mapping.va + 3, 20 * size + 5),
            (mapping.end - 8, size),
        ):
            assert made.kernel.read(start, length, pad=True) == made.sample.padded(start, length), hex(start)


def test_padding_of_direct_maps(made: Made):
    size = made.sample.page_size
    lowest = min(made.sample.memory)
    for base, _, phys in made.sample.directs:
        start = base + lowest - phys
        assert made.kernel.read(start + 1, 90 * size, pad=True) == made.sample.padded(start + 1, 90 * size), hex(base)


def test_padding_of_physical_memory(made: Made):
    size = made.sample.page_size
    lowest = min(made.sample.memory)
    expected = b"".join(made.sample.memory.get(lowest + at, bytes(size)) for at in range(0, 90 * size, size))
    assert made.memory.read(lowest + 5, 90 * size - 9, pad=True) == expected[5:-4]
    assert made.memory.read(lowest - 3, 8, pad=True) == bytes(3) + expected[:5]


def test_nothing_is_read_of_nothing(made: Made):
    for va in (made.sample.stretch[0], made.sample.unmapped_va, made.sample.undumped.va):
        assert made.kernel.read(va, 0) == made.kernel.read(va, 0, pad=True) == b""
    assert made.memory.read(min(made.sample.memory), 0) == b""


def test_validity(made: Made):
    start, end = made.sample.stretch
    size = made.sample.page_size
    assert made.kernel.is_valid(start)
    assert made.kernel.is_valid(start, end - start)
    assert made.kernel.is_valid(start + size - 1, 2)
    assert made.kernel.is_valid(end - 1)
    assert not made.kernel.is_valid(end - 1, 2)
    assert not made.kernel.is_valid(start, end - start + 1)
    assert not made.kernel.is_valid(start - 1, 2)
    for va in (made.sample.undumped.va, made.sample.unmapped_va):
        assert not made.kernel.is_valid(va)
        assert not made.kernel.is_valid(va, 3 * size)
    for mapping in made.sample.mappings:
        for page in range(mapping.va, min(mapping.end, mapping.va + 30 * size), size):
            assert made.kernel.is_valid(page) == (page in made.sample.pages), hex(page)
            both = page in made.sample.pages and page + size in made.sample.pages
            assert made.kernel.is_valid(page + size - 4, 8) == both, hex(page)


def test_validity_of_physical_memory(made: Made):
    size = made.sample.page_size
    for pa in made.sample.memory:
        assert made.memory.is_valid(pa, size)
        assert made.memory.is_valid(pa + size - 1, 2) == (pa + size in made.sample.memory)
        assert made.memory.is_valid(pa - 1, 2) == (pa - size in made.sample.memory)


# --- translation ----------------------------------------------------------------------------------------------------


def test_translation(made: Made):
    for va, pa in made.sample.pages.items():
        assert made.kernel.translate(va + 5) == (pa + 5, made.memory.name), hex(va)
    for va in (made.sample.unmapped_va, made.sample.undumped.va):
        with pytest.raises(exceptions.InvalidAddressException):
            made.kernel.translate(va)
        assert made.kernel.translate(va, ignore_errors=True) == (None, None)


def test_mapping_of_everything_is_the_truth(made: Made):
    """Holes inside superpages and direct maps neither lose nor invent bytes."""
    length = made.kernel.maximum_address + 1
    found = by_page(made.kernel.mapping(0, length, ignore_errors=True), made.sample.page_size)
    expected = {made.short(va): pa for va, pa in made.sample.pages.items()}
    assert found == expected
    assert list(found) == sorted(found)


def test_mapping_of_physical_memory_is_the_truth(made: Made):
    size = made.sample.page_size
    found = by_page(made.memory.mapping(0, made.memory.maximum_address + 1, ignore_errors=True), size)
    assert list(found) == sorted(made.sample.memory)
    file = made.stack.layers[0]
    assert {pa: file.read(offset, size) for pa, offset in found.items()} == made.sample.memory
    assert (made.memory.minimum_address, made.memory.maximum_address) == (min(found), max(found) + size - 1)


def test_mapping_of_superpages(made: Made):
    size = made.sample.page_size
    superpages = [mapping for mapping in made.sample.mappings if mapping.leaf]
    for mapping in superpages:
        found = by_page(made.kernel.mapping(mapping.va, mapping.length, ignore_errors=True), size)
        expected = {va: pa for va, pa in made.sample.pages.items() if mapping.va <= va < mapping.end}
        assert found == expected
        assert 0 < len(found) * size < mapping.length


def test_mapping_begins_and_ends_within_pages(made: Made):
    start, end = made.sample.stretch
    found = list(made.kernel.mapping(start + 7, end - start - 10))
    assert found[0][0] == start + 7
    assert sum(length for _, length, *_ in found) == end - start - 10
    for (va, length, pa, mapped_length, name), (following, *_) in itertools.pairwise([*found, (end - 3, 0, 0, 0, "")]):
        assert va + length == following
        assert mapped_length == length
        assert name == made.memory.name
        assert made.memory.read(pa, length) == made.kernel.read(va, length)


def test_mapping_fails_at_the_first_page_that_is_absent(made: Made):
    start, end = made.sample.stretch
    found = made.kernel.mapping(start, end - start + 1)
    mapped = 0
    with pytest.raises(exceptions.PagedInvalidAddressException) as stopped:  # noqa: PT012 - it fails after yielding
        for _, length, *_ in found:
            mapped += length
    assert stopped.value.invalid_address == end
    assert mapped == end - start
    with pytest.raises(exceptions.InvalidAddressException):
        list(made.kernel.mapping(made.sample.undumped.va, 1))


def test_mapping_of_nothing_is_one_address(made: Made):
    va = made.sample.stretch[0] + 6
    assert list(made.kernel.mapping(va, 0)) == [(va, 0, made.sample.pages[va - 6] + 6, 0, made.memory.name)]
    assert list(made.kernel.mapping(made.sample.unmapped_va, 0, ignore_errors=True)) == []


# --- faults ---------------------------------------------------------------------------------------------------------


def test_what_is_not_mapped_is_a_page_fault(made: Made):
    va = made.sample.unmapped_va + 3
    for access in (lambda: made.kernel.read(va, 1), lambda: list(made.kernel.mapping(va, 1))):
        with pytest.raises(exceptions.PagedInvalidAddressException, match="is not mapped") as fault:
            access()
        assert (fault.value.invalid_address, fault.value.layer_name) == (va, made.kernel.name)


def test_what_is_not_dumped_is_an_invalid_address_but_no_page_fault(made: Made):
    va = made.sample.undumped.va + 3
    for access in (lambda: made.kernel.read(va, 1), lambda: list(made.kernel.mapping(va, 1))):
        with pytest.raises(exceptions.InvalidAddressException, match="is not dumped") as fault:
            access()
        assert not isinstance(fault.value, exceptions.PagedInvalidAddressException)
        assert (fault.value.invalid_address, fault.value.layer_name) == (va, made.kernel.name)
    pa = made.sample.undumped.pa
    with pytest.raises(exceptions.InvalidAddressException) as fault:
        made.memory.read(pa + 3, 1)
    assert (fault.value.invalid_address, fault.value.layer_name) == (pa + 3, made.memory.name)
    with pytest.raises(exceptions.InvalidAddressException):
        list(made.memory.mapping(pa, 1))


def test_faults_name_the_first_address_that_is_absent(made: Made):
    start, end = made.sample.stretch
    with pytest.raises(exceptions.PagedInvalidAddressException) as fault:
        made.kernel.read(start + 1, end - start)
    assert fault.value.invalid_address == end


def test_the_top_of_the_address_space_is_empty_but_safe(made: Made):
    end = made.kernel.maximum_address + 1
    assert made.kernel.read(end - 8, 8, pad=True) == made.kernel.read(end - 8, 16, pad=True)[:8] == bytes(8)
    assert not made.kernel.is_valid(end - 1)
    assert list(made.kernel.mapping(end - 4096, 8192, ignore_errors=True)) == []
    for offset, length in ((end - 1, 1), (end - 1, 2), (TOP - 1, 1), (TOP, 1), (-1, 1), (-8, 16)):
        with pytest.raises(exceptions.InvalidAddressException):
            made.kernel.read(offset, length)
        assert not made.kernel.is_valid(offset, length)


def test_a_dump_is_never_written(made: Made):
    start = made.sample.stretch[0]
    for layer, address in ((made.kernel, start), (made.memory, made.sample.pages[start])):
        before = layer.read(address, 4)
        with pytest.raises(exceptions.LayerException, match="cannot be written"):
            made.stack.context.layers.write(layer.name, address, b"evil")
        assert layer.read(address, 4) == before


# --- scanning -------------------------------------------------------------------------------------------------------


def scan(made: Made, needle: bytes, sections: list[tuple[int, int]] | None = None) -> list[int]:
    return list(made.kernel.scan(made.stack.context, scanners.BytesScanner(needle), sections=sections))


def occurrences(made: Made, needle: bytes, start: int = 0, end: int = TOP) -> list[int]:
    """Where the needle is, overlapping ones too, also across pages."""
    found = []
    for va, content in made.sample.stretches(start, end):
        at = content.find(needle)
        while at >= 0:
            found.append(made.short(va + at))
            at = content.find(needle, at + 1)
    return sorted(found)


def test_scans_find_what_lies_across_pages_that_are_no_neighbours(made: Made):
    start, end = made.sample.stretch
    size = made.sample.page_size
    borders = range(start + 8 * size, end, size)
    assert [made.sample.pages[border - size] - made.sample.pages[border] for border in borders] == [2 * size] * 5
    needles = b"|".join(re.escape(made.sample.padded(border - 6, 12)) for border in borders)
    found = list(made.kernel.scan(made.stack.context, scanners.RegExScanner(needles)))
    assert found == [made.short(border - 6) for border in borders]


def test_scans_find_every_virtual_copy(made: Made):
    start = made.sample.stretch[0]
    needle = made.sample.padded(start + 100, 12)  # this page also shows at another place, and in the direct map
    expected = occurrences(made, needle)
    assert len(expected) >= 2
    assert scan(made, needle) == expected


def test_scans_do_not_join_what_holes_separate(made: Made):
    size = made.sample.page_size
    separated = [
        mapping.va + at
        for mapping in made.sample.mappings
        if mapping.leaf
        for at in range(0, 60 * size, size)
        if mapping.va + at in made.sample.pages and mapping.va + at + size not in made.sample.pages
    ]
    needles = [
        made.sample.padded(va + size - 6, 6) + made.sample.padded(following, 6)
        for va in separated
        if (following := next((page for page in made.sample.pages if page > va), None)) is not None
    ]
    assert bool(needles) == any(mapping.leaf for mapping in made.sample.mappings)
    pattern = b"|".join(map(re.escape, needles)) or b"no superpage, no hole"
    assert list(made.kernel.scan(made.stack.context, scanners.RegExScanner(pattern))) == []


class SmallScanner(scanners.BytesScanner):
    """A scanner with chunks small enough to have borders in a small dump."""

    def __init__(self, needle: bytes, chunk_size: int, overlap: int) -> None:
        super().__init__(needle)
        self.chunk_size = chunk_size
        self.overlap = overlap


@pytest.mark.parametrize(
    ("chunk_size", "overlap"),
    [(4096, 16), (4096, 4096), (3 * 4096, 64), (12 * 4096, 4096), (13 * 4096, 4096), (10_000, 100), (1 << 24, 4096)],
)
def test_scans_in_chunks_lose_and_repeat_nothing(amd64: Made, chunk_size: int, overlap: int):
    for needle in (b"\x41", b"\x00\xff", amd64.sample.padded(amd64.sample.stretch[1] - 3, 3)):
        scanner = SmallScanner(needle, chunk_size, overlap)
        found = list(amd64.kernel.scan(amd64.stack.context, scanner))
        assert found == occurrences(amd64, needle)


def test_scans_of_a_stretch_a_little_longer_than_a_chunk(tmp_path: Path):
    """What lies in the last page of 16 MiB and a page is beyond the first chunk, yet within what is read for it."""
    memory = PhysicalMemory(free_area=(0x400_0000, 0x410_0000))
    chunk = scanners.BytesScanner(b"x").chunk_size
    length = chunk + 4096
    for page in range(0, length, 4096):
        memory.write(0x10_0000 + page, bytes(4096))
    for at in (100, chunk - 10, chunk, chunk + 2000, length - 6):
        memory.write(0x10_0000 + at, b"needle")
    data = minidump("amd64", 3, memory, [])
    path = tmp_path / "vmcore.0"
    path.write_bytes(data)
    made = stack(path)
    base = 0xF800_0010_0000
    found = list(made.kernel.scan(made.context, scanners.BytesScanner(b"needle"), sections=[(base, length)]))
    assert [va - base for va in found] == [100, chunk - 10, chunk, chunk + 2000, length - 6]


def test_scan_sections(amd64: Made):
    start, end = (amd64.short(va) for va in amd64.sample.stretch)
    size = amd64.sample.page_size
    for low, length in ((start, end - start), (start + size + 5, 3 * size), (start + 1, 1), (end - 2, 2 * size)):
        found = scan(amd64, b"\x41", [(low, length)])
        assert found == [va for va in occurrences(amd64, b"\x41") if low <= va < low + length]
    needle = amd64.sample.padded(amd64.sample.stretch[0] + 2 * size - 4, 8)
    assert scan(amd64, needle, [(start, 2 * size + 3)]) == []
    assert scan(amd64, needle, [(start, 2 * size + 4)]) == [start + 2 * size - 4]


def test_several_scan_sections(amd64: Made):
    start = amd64.short(amd64.sample.stretch[0])
    size = amd64.sample.page_size
    sections = [(start + 6 * size, size), (start, size), (start + 3 * size, 100)]
    expected = [va for va in occurrences(amd64, b"\x41") if any(low <= va < low + length for low, length in sections)]
    assert scan(amd64, b"\x41", sections) == expected


def test_scanning_physical_memory(made: Made):
    pa, content = next((pa, content) for pa, content in made.sample.memory.items() if len(set(content)) > 100)
    found = list(made.memory.scan(made.stack.context, scanners.BytesScanner(content[64:76])))
    assert found == [pa + 64]


def test_scans_of_physical_memory_cross_segments_that_are_no_neighbours_in_the_file(tmp_path: Path):
    memory = PhysicalMemory(free_area=(0, 0))
    content = memory.fill_random(0x1000, 0x4000, seed=9)
    path = tmp_path / "vmcore.0"
    segments = [Segment(pa, pa, memory.read(pa, 0x2000)) for pa in (0x3000, 0x1000)]
    path.write_bytes(elfcore(segments, bits=64, byteorder="little", machine=EM_X86_64))
    made = stack(path)
    assert list(made.kernel.scan(made.context, scanners.BytesScanner(content[0x1FFA:0x2006]))) == [0x2FFA]


# --- amd64 addresses ------------------------------------------------------------------------------------------------


def test_amd64_addresses_with_and_without_sign_extension(amd64: Made):
    size = amd64.sample.page_size
    kernel = amd64.kernel
    assert kernel.maximum_address == (1 << 48) - 1
    for va in list(amd64.sample.pages)[::7]:
        short = va - SIGN
        assert kernel.canonicalize(short) == va
        assert kernel.read(short, size) == kernel.read(va, size)
        assert kernel.read(short, 2 * size, pad=True) == kernel.read(va, 2 * size, pad=True)
        assert kernel.translate(short) == kernel.translate(va)
        assert kernel.is_valid(short, size)
        # What is asked for with sign extension comes back with it.
        assert [offset for offset, *_ in kernel.mapping(va, 8)] == [va]
        assert [offset for offset, *_ in kernel.mapping(short, 8)] == [short]


def test_amd64_faults_name_the_address_as_it_was_given(amd64: Made):
    for va in (amd64.sample.unmapped_va, amd64.sample.undumped.va):
        for given in (va + 9, va + 9 - SIGN):
            with pytest.raises(exceptions.InvalidAddressException) as fault:
                amd64.kernel.read(given, 4)
            assert fault.value.invalid_address == given


def test_amd64_addresses_that_are_not_canonical_are_not_mapped(amd64: Made):
    va = amd64.sample.stretch[0]
    for other in (va - (1 << 48), va ^ 1 << 60, va & ~(1 << 47), va - SIGN + (1 << 48)):
        assert not amd64.kernel.is_valid(other)
        with pytest.raises(exceptions.PagedInvalidAddressException):
            amd64.kernel.read(other, 1)


def test_amd64_scan_hits_have_no_sign_extension(amd64: Made):
    """As those of the framework's own layer; `canonicalize` adds it."""
    va = amd64.sample.stretch[1] - 20
    hits = scan(amd64, amd64.sample.padded(va, 20))
    in_direct_map = amd64.sample.directs[0].base + amd64.sample.pages[va // 4096 * 4096] + va % 4096
    assert [amd64.kernel.canonicalize(hit) for hit in hits] == [in_direct_map, va]
    assert hits[1] == va - SIGN


@pytest.mark.parametrize(
    ("arch", "version", "kernbase", "bits"),
    [
        ("amd64", 3, 0xFFFFFFFF_C0000000, 48),
        ("amd64", 1, 0xFFFFFFFF_FFE00000, 48),
        ("arm64", 2, 0xFFFFFFFF_FFE00000, 64),
        ("riscv", 2, 0xFFFFFFFF_FFE00000, 64),
        ("i386", 1, 0xFFC0_0000, 32),
        ("i386", 2, 0xFFE0_0000, 32),
        ("arm", 2, 0xFFC0_0000, 32),
    ],
    ids=["amd64", "amd64-v1", "arm64", "riscv", "i386", "i386-pae", "arm"],
)
def test_the_last_page_of_the_address_space(arch: str, version: int, kernbase: int, bits: int, tmp_path: Path):
    end = 1 << (32 if bits == 32 else 64)
    ram = 0x4000_0000
    memory = PhysicalMemory(free_area=(ram + 0x10_0000, ram + 0x20_0000))
    content = memory.fill_random(ram, 0x2000, seed=7)
    mappings = [Mapping(end - 0x1000, ram, 0x1000), Mapping(end - 0x2000, ram + 0x1000, 0x1000)]
    path = tmp_path / "vmcore.0"
    path.write_bytes(minidump(arch, version, memory, mappings, kernel_end=end, kernbase=kernbase))
    made = stack(path)
    kernel = made.kernel
    virtual = content[0x1000:] + content[:0x1000]
    short_end = 1 << bits
    for top in {end, short_end}:
        assert kernel.read(top - 0x2000, 0x2000) == virtual
        assert kernel.read(top - 1, 1) == virtual[-1:]
        assert kernel.is_valid(top - 1)
        assert kernel.is_valid(top - 0x2000, 0x2000)
        assert not kernel.is_valid(top - 1, 2)
        assert kernel.read(top - 5, 9, pad=True) == virtual[-5:] + bytes(4)
        with pytest.raises(exceptions.InvalidAddressException) as fault:
            kernel.read(top - 5, 9)
        assert fault.value.invalid_address == top
        expected = [(top - 0x2000, 0x1000, ram + 0x1000), (top - 0x1000, 0x1000, ram)]
        assert [found[:3] for found in kernel.mapping(top - 0x2000, 0x2000)] == expected
        assert [found[:3] for found in kernel.mapping(top - 0x2000, 0x3000, ignore_errors=True)] == expected
    across, last = virtual[0xFFA:0x1006], virtual[-13:-1]
    assert list(kernel.scan(made.context, scanners.BytesScanner(across))) == [short_end - 0x1006]
    hits = list(kernel.scan(made.context, scanners.BytesScanner(last)))
    assert hits[-1] == short_end - 13  # where there is a direct map, it shows the page as well


def test_powerpc64_addresses_of_the_linked_kernel(tmp_path: Path):
    """Symbol values are link-time addresses; the kernel runs elsewhere, and reads know it, however they are made."""
    memory = PhysicalMemory(free_area=(0x80_0000, 0x90_0000))
    content = memory.fill_random(0x10_0000, 0x4000, seed=1)
    memory.fill_random(0x10_8000, 0x1000, seed=2)
    path = tmp_path / "vmcore.0"
    path.write_bytes(minidump("powerpc64", 2, memory, [], startkernel=0xC000_0000_0010_0100 + 0x1000))
    kernel = stack(path).kernel
    linked = 0x10_0000
    assert kernel.read(linked, 0x3000) == content[0x1000:]
    assert kernel.read(linked, 0x3008, pad=True) == content[0x1000:] + bytes(8)
    assert kernel.is_valid(linked, 0x3000)
    assert kernel.translate(linked + 1) == (0x10_1001, kernel.dependencies[0])
    assert [found[:3] for found in kernel.mapping(linked, 0x3000)] == [(linked, 0x3000, 0x10_1000)]


# --- copies, configurations, containers -----------------------------------------------------------------------------


def assert_same(made: Made, other: Stack) -> None:
    """The other layers are others, and read the same."""
    assert other.classes == made.sample.classes
    assert other.kernel is not made.kernel
    start, end = made.sample.stretch
    size = made.sample.page_size
    assert other.kernel.read(start, end - start) == made.sample.padded(start, end - start)
    span = 40 * size
    for mapping in made.sample.mappings:
        assert other.kernel.read(mapping.va, span, pad=True) == made.sample.padded(mapping.va, span)
    whole = other.kernel.maximum_address + 1
    found = by_page(other.kernel.mapping(0, whole, ignore_errors=True), size)
    assert found == {made.short(va): pa for va, pa in made.sample.pages.items()}
    assert dict(other.kernel.metadata) == dict(made.kernel.metadata)


def layers_in(made: Made, context: contexts.Context) -> Stack:
    plugin = copy.copy(made.stack.plugin)
    plugin._context = context
    return Stack(plugin, tuple(context.layers[layer.name] for layer in made.stack.layers))


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context)), lambda context: context.clone()],
    ids=["deepcopy", "pickle", "clone"],
)
def test_copies_of_a_context_read_the_same(made: Made, duplicate: Callable[[contexts.Context], contexts.Context]):
    made.kernel.read(made.sample.stretch[0], 1)  # the dump is open
    assert_same(made, layers_in(made, duplicate(made.stack.context)))


def test_a_saved_configuration_gives_the_same_layers(made: Made):
    saved = made.stack.saved_configuration()
    assert saved["primary.class"] == f"volatility3_freebsd_kvm.layers.kernel.{made.sample.classes[-1]}"
    again = rebuild(saved)
    assert_same(made, again)
    assert again.saved_configuration() == saved
    assert json.dumps(saved)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("amd64-v3", "gz"), ("amd64-v3", "bz2"), ("amd64-v3", "xz"), ("arm64-v3-16k", "gz"), ("full-i386-pae", "gz")],
)
def test_compressed_dumps_stand_on_a_layer_of_what_is_in_them(name: str, suffix: str, tmp_path: Path):
    sample = SAMPLES[name]()
    file, *others = sample.classes
    sample = dataclasses.replace(sample, classes=[file, "FreeBSDContainerLayer", *others])
    path = tmp_path / f"vmcore.0.{suffix}"
    path.write_bytes(PACKERS[suffix](sample.data))
    kernel = tmp_path / "kernel"
    kernel.write_bytes(sample.kernel or b"")
    made = Made(sample, stack(path, kernel=kernel if sample.kernel else None))
    assert type(made.memory.dump.unwrapped.reader).__name__ == "MmapReader"
    assert_same(made, rebuild(made.stack.saved_configuration()))


def test_plain_files_are_mapped(amd64: Made):
    assert type(amd64.memory.dump.reader).__name__ == "MmapReader"


@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "compressed"])
def test_a_file_that_ends_within_a_page_is_readable_up_to_there(suffix: str, tmp_path: Path):
    sample = SAMPLES["amd64-v3"]()
    path = tmp_path / f"vmcore.0{suffix}"
    data = sample.data[:-0x1800]
    path.write_bytes(gzip.compress(data) if suffix else data)
    made = stack(path)
    lost = list(sample.memory)[-2:]
    assert made.memory.maximum_address == lost[0] + 0x7FF
    direct = sample.directs[0].base
    assert made.kernel.read(direct + lost[0], 0x800) == sample.memory[lost[0]][:0x800]
    assert made.kernel.read(direct + lost[0], 0x1000, pad=True) == sample.memory[lost[0]][:0x800] + bytes(0x800)
    assert not made.kernel.is_valid(direct + lost[0], 0x801)
    for va in (direct + lost[0] + 0x800, direct + lost[1]):
        with pytest.raises(exceptions.InvalidAddressException, match="is beyond the end of the file") as fault:
            made.kernel.read(va, 1)
        assert fault.value.invalid_address == va


# --- other people's ELF files ---------------------------------------------------------------------------------------


def note(size: int = 64) -> Segment:
    return Segment(0, 0, bytes(size), kind=PT_NOTE)


FOREIGN = {
    "core of a FreeBSD process": (9, [note(), Segment(0, 0x40_0000, b"t" * 4096), Segment(0, 0x80_0000, b"d" * 4096)]),
    "core of a Linux process": (0, [note(), Segment(0, 0x5555_5555_4000, b"t" * 4096)]),
    "QEMU dump-guest-memory": (0, [note(), Segment(0, 0, b"m" * 8192), Segment(0x1_0000_0000, 0, b"h" * 4096)]),
    "QEMU with paging": (0, [note(), Segment(0x20_0000, 0xFFFFFFFF_80200000, b"k" * 4096)]),
    "Linux kdump": (0, [note(), Segment(0x100_0000, 0xFFFFFFFF_81000000, b"k" * 4096)]),
    "raw memory of an unknown tool": (0, [Segment(0x1000, 0x1000, b"m" * 4096)]),
}


@pytest.mark.parametrize("plugin", [None, GENERIC], ids=["freebsd plugin", "any plugin"])
@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_cores_are_left_to_the_framework(what: str, plugin: str | None, tmp_path: Path):
    osabi, segments = FOREIGN[what]
    path = tmp_path / "core"
    path.write_bytes(elfcore(segments, bits=64, byteorder="little", machine=EM_X86_64, osabi=osabi))
    made = stack(path) if plugin is None else stack(path, plugin)
    assert made.classes[0] == "FileLayer"
    assert not [name for name in made.classes if name.startswith("FreeBSD")]
    assert "Elf64Layer" in made.classes


@pytest.mark.parametrize("osabi", [0, 9])
def test_foreign_32_bit_cores_are_left_alone(osabi: int, tmp_path: Path):
    path = tmp_path / "core"
    segments = [note(), Segment(0, 0x804_8000, b"t" * 4096)]
    path.write_bytes(elfcore(segments, bits=32, byteorder="little", machine=EM_386, osabi=osabi))
    assert stack(path).classes == ["FileLayer"]


def test_our_cores_are_not_the_stock_elf_layer(tmp_path: Path):
    memory = PhysicalMemory()
    memory.fill_random(0x1000, 0x2000, seed=1)
    path = tmp_path / "vmcore.0"
    path.write_bytes(full_dump(memory, [(0x1000, 0x3000)], "amd64"))
    for plugin in (None, GENERIC):
        made = stack(path) if plugin is None else stack(path, plugin)
        assert made.classes == ["FileLayer", "FreeBSDElfLayer"]
        assert made.kernel.read(0x1000, 0x2000) == memory.read(0x1000, 0x2000)


# --- cores by virtual address ---------------------------------------------------------------------------------------

VIRTUAL = {
    "amd64": ("FreeBSDIntel32e", "Intel64", 0xFFFFFFFF_00000000),
    "i386": ("FreeBSDIntelPAE", "Intel32", 0),
    "arm64": ("FreeBSDAArch64", "AArch64", 0xFFFF0000_00000000),
    "arm": ("FreeBSDArm", "ARM32", 0),
    "riscv": ("FreeBSDRiscV64", "RISC-V64", 0xFFFFFFFF_00000000),
    "powerpc": ("FreeBSDPowerPC", "PowerPC32", 0),
    "powerpc64": ("FreeBSDPowerPC64", "PowerPC64", 0xC0000000_00000000),
    "powerpc64le": ("FreeBSDPowerPC64", "PowerPC64", 0xC0000000_00000000),
}


def virtual_content() -> tuple[PhysicalMemory, list[tuple[int, int, int]]]:
    """Memory and (address, place, length) of what is mapped of it: two neighbours and one on its own."""
    memory = PhysicalMemory()
    memory.fill_random(0x1000, 0x3000, seed=5)
    return memory, [(0xC000_0000, 0x2000, 0x2000), (0xC000_2000, 0x1000, 0x1000), (0xC010_0000, 0x1000, 0x1000)]


CORES = [pytest.param(arch, -1, id=f"{arch}, p_paddr -1") for arch in VIRTUAL] + [
    pytest.param(arch, 0, id=f"{arch}, p_paddr 0") for arch in VIRTUAL if not arch.startswith("powerpc")
]


@pytest.mark.parametrize(("arch", "paddr"), CORES)
def test_cores_by_virtual_address(arch: str, paddr: int, tmp_path: Path):
    name, architecture, top = VIRTUAL[arch]
    memory, places = virtual_content()
    mappings = [Mapping(top + va, pa, length) for va, pa, length in places]
    path = tmp_path / "vmcore.0"
    path.write_bytes(virtual_dump(memory, mappings, arch, paddr=paddr))
    made = stack(path)
    assert made.classes == ["FileLayer", name]
    assert made.kernel.metadata["architecture"] == architecture
    start = mappings[0].va
    content = memory.read(0x2000, 0x2000) + memory.read(0x1000, 0x1000)
    for kernel in (
        made.kernel,
        rebuild(made.saved_configuration()).kernel,
        copy.deepcopy(made.context).layers["primary"],
    ):
        assert kernel.read(start, 0x3000) == content
        assert kernel.read(start + 0x1FFF, 2) == content[0x1FFF:0x2001]
        assert kernel.read(start + 0x2FF0, 0x20, pad=True) == content[-16:] + bytes(16)
        assert kernel.is_valid(start, 0x3000)
        assert not kernel.is_valid(start, 0x3001)
        with pytest.raises(exceptions.PagedInvalidAddressException) as fault:
            kernel.read(start + 0x2FF0, 0x20)
        assert fault.value.invalid_address == start + 0x3000
        # The layer below is the file, so that is where the bytes are mapped to.
        mapped = [(va, length, offset) for va, length, offset, _, _ in kernel.mapping(start, 0x3000)]
        assert mapped == [(start, 0x2000, 0x1000), (start + 0x2000, 0x1000, 0x3000)]
        assert kernel.translate(start + 0x2004) == (0x3004, made.layers[0].name)
        across = scanners.BytesScanner(content[0x1FFA:0x2006])
        hits = list(kernel.scan(made.context, across))
        assert hits == [start + 0x1FFA & kernel.maximum_address]


def test_cores_by_virtual_address_say_their_system(tmp_path: Path):
    memory, places = virtual_content()
    path = tmp_path / "vmcore.0"
    path.write_bytes(virtual_dump(memory, [Mapping(*place) for place in places], "powerpc"))
    assert stack(path).kernel.metadata["os"] == "FreeBSD"


def test_memory_that_a_core_does_not_hold_is_not_dumped(tmp_path: Path):
    path = tmp_path / "vmcore.0"
    segments = [Segment(-1, 0xC000_0000, b"a" * 0x1000, memsz=0x3000)]
    path.write_bytes(elfcore(segments, bits=32, byteorder="big", machine=20))
    kernel = stack(path).kernel
    assert kernel.read(0xC000_0FFF, 3, pad=True) == b"a\0\0"
    with pytest.raises(exceptions.InvalidAddressException, match="is not dumped") as fault:
        kernel.read(0xC000_1000, 1)
    assert not isinstance(fault.value, exceptions.PagedInvalidAddressException)
    with pytest.raises(exceptions.PagedInvalidAddressException):
        kernel.read(0xC000_3000, 1)


def test_a_gigabyte_superpage_is_not_enumerated_page_by_page(tmp_path: Path):
    """The mapping of a sparse gigabyte is as long as what was dumped of it."""
    memory = PhysicalMemory(free_area=(0x20_0000, 0x30_0000))
    for pa in (0x4000_0000, 0x4000_1000, 0x5000_0000, 0x7FFF_F000):
        memory.fill_random(pa, 0x1000, seed=pa)
    base = 0xFFFFFE00_40000000
    mapping = Mapping(base, 0x4000_0000, 1024 * MIB, leaf=1024 * MIB)
    path = tmp_path / "vmcore.0"
    path.write_bytes(minidump("amd64", 3, memory, [mapping]))
    kernel = stack(path).kernel
    found = [(va - base, length) for va, length, *_ in kernel.mapping(base, 1024 * MIB, ignore_errors=True)]
    assert found == [(0, 0x2000), (0x1000_0000, 0x1000), (0x3FFF_F000, 0x1000)]
