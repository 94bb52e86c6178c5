"""The scenario is read back byte for byte from every format, by kvm, by the layers and by a reader from scratch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework import Stack, stack
from tests.naive import NaiveMinidump
from tests.scenario.kernels import KERNELS, build_world, load
from tests.scenario.system import SYSTEM
from tests.writers.corrupt import torn
from tests.writers.kernel_memory import KernelMemory
from tests.writers.objects import addressof
from volatility3_freebsd_kvm import kvm


def mapped_pages(memory: KernelMemory, *, user: bool = False) -> Iterator[tuple[int, bytes]]:
    """Every kernel virtual page with memory behind it: image, kernel memory, and the direct map."""
    page_size = memory.machine.page_size
    hidden = set() if user else memory.user_pages
    for mapping in memory.mappings:
        for va, pa in mapping.base_pages(page_size):
            if pa in memory.physical.pages and pa not in hidden:
                yield va, bytes(memory.physical.pages[pa])
    if memory.machine.dmap is not None:
        for pa, page in memory.physical.pages.items():
            if pa not in hidden:
                yield memory.direct_va(pa), bytes(page)


def changed_by_page_tables(memory: KernelMemory) -> set[int]:
    """Pages that differ in dumps with hardware page tables: the variables that lead to the tables are set there."""
    with_tables = memory.with_page_tables()
    return {pa for pa, page in memory.physical.pages.items() if with_tables.pages[pa] != page}


def test_every_page_reads_back_from_every_minidump_version(kernel: str) -> None:
    memory = build_world(kernel).memory
    for version in memory.machine.minidumps:
        with kvm.open(memory.minidump(version).data) as dump:
            assert dump.warnings == []
            for va, content in mapped_pages(memory):
                assert dump.read(va, len(content)) == content


def test_every_page_reads_back_from_a_full_dump(kernel: str) -> None:
    memory = build_world(kernel).memory
    if memory.machine.tables is None:
        pytest.skip(f"{memory.machine.arch} writes no full dumps of physical memory")
    changed = changed_by_page_tables(memory)
    with kvm.open(memory.full_dump(), symbols=memory.image.symbols) as dump:
        for va, content in mapped_pages(memory, user=True):
            if memory.pa_of(va) not in changed:
                assert dump.read(va, len(content)) == content
        for pa, page in memory.physical.pages.items():
            if pa not in changed:
                assert dump.read_physical(pa, len(page)) == bytes(page)


def test_every_page_reads_back_through_the_layers(kernel: str, tmp_path: Path) -> None:
    memory = build_world(kernel).memory
    path = tmp_path / "vmcore.0"
    path.write_bytes(memory.minidump().data)
    assert_layers_agree(memory, stack(path), set(), user=False)
    if memory.machine.tables is not None:
        (tmp_path / "kernel").write_bytes(memory.image.file)
        path.write_bytes(memory.full_dump())
        layers = stack(path, kernel=tmp_path / "kernel")
        assert_layers_agree(memory, layers, changed_by_page_tables(memory), user=True)


def assert_layers_agree(memory: KernelMemory, layers: Stack, changed: set[int], *, user: bool) -> None:
    """Every page, by virtual and by physical address."""
    for va, content in mapped_pages(memory, user=user):
        pa = memory.pa_of(va)
        if pa not in changed:
            assert layers.kernel.read(va, len(content)) == content
            assert layers.memory.read(pa, len(content)) == content


def test_user_pages_are_in_full_dumps_only(kernel: str) -> None:
    memory = build_world(kernel).memory
    assert memory.user_pages
    with kvm.open(memory.minidump().data) as dump:
        for pa in sorted(memory.user_pages)[:50]:
            with pytest.raises(kvm.NotDumpedError):
                dump.read_physical(pa, 1)


def test_a_reader_from_scratch_agrees_at_a_thousand_addresses(kernel: str) -> None:
    memory = build_world(kernel).memory
    data = memory.minidump().data
    naive = NaiveMinidump(data)
    generator = random.Random(kernel)
    known = [va for va, _ in mapped_pages(memory)]
    span = memory.machine.kva, memory.machine.kva + (1 << 27)
    with kvm.open(data) as dump:
        for _ in range(1000):
            # Mostly what is mapped, sometimes what may not be.
            va = (
                generator.choice(known) + generator.randrange(4096)
                if generator.random() < 0.8
                else generator.randrange(*span)
            )
            try:
                ours: int | None = dump.read(va, 1)[0]
            except kvm.AddressError:
                ours = None
            assert ours == naive.byte(va), hex(va)


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel.endswith("amd64")])
@pytest.mark.parametrize("kernphys", [0x400000, 0x1200000])
def test_a_kernel_loaded_elsewhere_is_found(kernel: str, kernphys: int) -> None:
    image, machine, _ = load(kernel)
    memory = KernelMemory(image, machine, kernphys=kernphys)
    dump = kvm.open(memory.full_dump(), symbols=memory.image.symbols)
    assert dump.kvatop(machine.linked) == kernphys
    va = image.segments[0].va
    assert dump.read(va, 64) == memory.read(va, 64)


@pytest.mark.parametrize("kernel", ["12.1-amd64", "15-arm64"])
def test_partition_and_raw_image_hold_the_same_memory(kernel: str) -> None:
    memory = build_world(kernel).memory
    dump = memory.minidump().data
    partition = memory.partition()
    assert partition.index(dump) > 64 * 1024
    assert partition[-512:-492] == b"FreeBSD Kernel Dump\0"
    raw = memory.raw_image()
    low = memory.machine.ram[0]
    changed = changed_by_page_tables(memory)
    for pa, page in memory.physical.pages.items():
        if pa not in changed:
            assert raw[pa - low : pa - low + len(page)] == page


@pytest.mark.parametrize("kernel", ["12.1-amd64", "14-riscv", "15-arm64", "15-i386"])
def test_a_truncated_dump_reads_as_far_as_it_goes(kernel: str) -> None:
    memory = build_world(kernel).memory
    built = memory.minidump()
    kept = built.pages_offset + 100 * 4096 + 1000
    present = set(built.dumped[:100])
    with kvm.open(built.data[:kept]) as dump:
        assert dump.pages_beyond_end == len(built.dumped) - 100
        for va, content in mapped_pages(memory):
            if memory.pa_of(va) in present and va >= memory.machine.kernbase and memory.machine.arch != "amd64":
                assert dump.read(va, len(content)) == content


@pytest.mark.parametrize("kernel", ["15-amd64", "15-arm64"])
def test_a_torn_dump_holds_pages_of_two_moments(kernel: str) -> None:
    image, machine, _ = load(kernel)
    memory = KernelMemory(image, machine)
    objects = [memory.new("struct proc", where="kva", p_pid=pid) for pid in range(40)]
    first = memory.minidump()
    for proc in objects:
        proc.p_pid = proc.p_pid + 1000
    with kvm.open(torn(first, memory.minidump(), seed=1)) as dump:
        found = [int.from_bytes(dump.read(addressof(proc, "p_pid"), 4), "little") for proc in objects]
    assert all(pid % 1000 == number for number, pid in enumerate(found))
    assert 0 < sum(pid >= 1000 for pid in found) < len(found)


def test_the_description_is_consistent() -> None:
    """Keys lead somewhere and numbers are unique."""
    pids = [process.pid for process in SYSTEM.processes]
    tids = [thread.tid for process in SYSTEM.processes for thread in process.threads]
    assert len(set(pids)) == len(pids)
    assert len(set(tids)) == len(tids)
    assert {process.ppid for process in SYSTEM.processes} <= set(pids)
    assert {process.credentials for process in SYSTEM.processes} == set(SYSTEM.credentials)
    vnodes = {vnode.key for vnode in SYSTEM.vnodes}
    named = {name for process in SYSTEM.processes for name in (process.text, process.cwd, process.root) if name}
    assert named <= vnodes
    assert {mount.covers for mount in SYSTEM.mounts if mount.covers} <= vnodes
    assert SYSTEM.dump_tid in tids
