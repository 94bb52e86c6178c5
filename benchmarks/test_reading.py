"""Reading a 512 MB minidump: kvm and our layers beside the framework's FileLayer and a stock Intel32e.

    pytest benchmarks            # the tables show each rival as a ratio within its group

All rivals read the same file in the same run. FREEBSD_BENCHMARK_MB changes the size.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from volatility3.framework import contexts
from volatility3.framework.layers import intel, physical, scanners, segmented

from benchmarks.dump import DMAPBASE, PAGE, BenchmarkDump, write_dump
from volatility3_freebsd_kvm import kvm, register
from volatility3_freebsd_kvm.layers.dump import FreeBSDMinidumpLayer
from volatility3_freebsd_kvm.layers.kernel import FreeBSDIntel32e

register()

READS = 20_000
MIB = 1 << 20
Read = Callable[[int, int], bytes]


class StockSegments(segmented.SegmentedLayer):
    """What the framework offers for a file with holes: a list of segments."""

    segments: list[tuple[int, int, int, int]] = []

    def _load_segments(self) -> None:
        self._segments = self.segments


@pytest.fixture(scope="session")
def dump(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkDump:
    size = int(os.environ.get("FREEBSD_BENCHMARK_MB", "512"))
    return write_dump(tmp_path_factory.mktemp("benchmark") / "vmcore.0", size, size // 4)


@pytest.fixture(scope="session")
def context(dump: BenchmarkDump) -> contexts.Context:
    """All rivals over one file."""
    context = contexts.Context()
    StockSegments.segments = [(pa, offset, length, length) for pa, length, offset in dump.runs()]
    config: dict[str, dict[str, Any]] = {
        "file": {"location": dump.path.as_uri()},
        "stock_physical": {"base_layer": "file"},
        "stock": {"memory_layer": "stock_physical", "page_map_offset": dump.root},
        "physical": {"base_layer": "file"},
        "kernel": {"memory_layer": "physical", "page_map_offset": 0, "kernel_virtual_offset": 0},
    }
    classes = {
        "file": physical.FileLayer,
        "stock_physical": StockSegments,
        "stock": intel.Intel32e,
        "physical": FreeBSDMinidumpLayer,
        "kernel": FreeBSDIntel32e,
    }
    for name, values in config.items():
        for key, value in values.items():
            context.config[f"{name}.{key}"] = value
        context.add_layer(classes[name](context, name, name))
    return context


def readers(dump: BenchmarkDump, context: contexts.Context) -> dict[str, tuple[Read, bool]]:
    """Each rival's read, and whether it takes virtual addresses (FileLayer reads as many bytes at file offsets)."""
    return {
        "kvm": (kvm.open(dump.path).read, True),
        "kernel layer": (context.layers["kernel"].read, True),
        "stock Intel32e": (context.layers["stock"].read, True),
        "FileLayer": (context.layers["file"].read, False),
    }


RIVALS = ["kvm", "kernel layer", "stock Intel32e", "FileLayer"]


def _direct(dump: BenchmarkDump) -> list[tuple[int, int]]:
    """Virtual address and file offset of every page, through the direct map."""
    return [(DMAPBASE + page * PAGE, dump.pages_offset + place * PAGE) for place, page in enumerate(dump.pages)]


def _mapped(dump: BenchmarkDump) -> list[tuple[int, int]]:
    return [(va, dump.pages_offset + place * PAGE) for place, va in enumerate(dump.mapped)]


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("kind", ["direct map", "page mapped"])
def test_random_8_byte_reads(
    benchmark: Any, dump: BenchmarkDump, context: contexts.Context, rival: str, kind: str
) -> None:
    benchmark.group = f"{READS} random 8-byte reads, {kind}"
    read, virtual = readers(dump, context)[rival]
    pages = _direct(dump) if kind == "direct map" else _mapped(dump)
    generator = random.Random(7)
    places = [generator.choice(pages)[0 if virtual else 1] + generator.randrange(PAGE - 8) for _ in range(READS)]

    def run() -> None:
        for place in places:
            read(place, 8)

    benchmark.pedantic(run, rounds=3, warmup_rounds=0)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("kind", ["direct map", "page mapped"])
def test_sequential_4_kib_reads(
    benchmark: Any, dump: BenchmarkDump, context: contexts.Context, rival: str, kind: str
) -> None:
    read, virtual = readers(dump, context)[rival]
    pages = (_direct(dump) if kind == "direct map" else _mapped(dump))[:READS]
    benchmark.group = f"{len(pages) // 256} MiB in 4 KiB reads, {kind}"
    places = [page[0 if virtual else 1] for page in pages]

    def run() -> None:
        for place in places:
            read(place, PAGE)

    benchmark.pedantic(run, rounds=3, warmup_rounds=0)


@pytest.mark.parametrize("rival", RIVALS)
def test_sequential_1_mib_reads(benchmark: Any, dump: BenchmarkDump, context: contexts.Context, rival: str) -> None:
    read, virtual = readers(dump, context)[rival]
    pages = _mapped(dump)
    places = [page[0 if virtual else 1] for page in pages[: len(pages) // 256 * 256 : 256]]
    benchmark.group = f"{len(places)} MiB in 1 MiB reads, page mapped"

    def run() -> None:
        for place in places:
            read(place, MIB)

    # One round: the stock layers answer repeated reads from their cache of results.
    benchmark.pedantic(run, rounds=1, warmup_rounds=0)


@pytest.mark.parametrize("rival", ["kernel", "stock", "file"])
def test_scan(benchmark: Any, dump: BenchmarkDump, context: contexts.Context, rival: str) -> None:
    layer = context.layers[rival]
    size = len(dump.mapped) * PAGE
    benchmark.group = f"scan of {size // MIB} MiB, page mapped"
    start = dump.pages_offset if rival == "file" else dump.mapped[0] & ((1 << 48) - 1)
    scanner = scanners.BytesScanner(b"no such bytes in the dump")

    def run() -> Iterator[int]:
        return list(layer.scan(context, scanner, sections=[(start, size)]))

    assert benchmark.pedantic(run, rounds=1, warmup_rounds=0) == []


def test_open(benchmark: Any, dump: BenchmarkDump) -> None:
    benchmark.group = "open and index"
    assert benchmark(lambda: kvm.open(dump.path).pages_dumped) == len(dump.pages)


def test_walk(benchmark: Any, dump: BenchmarkDump) -> None:
    benchmark.group = "walk of all mappings and all pages"

    def run() -> int:
        opened = kvm.open(Path(dump.path))
        return sum(piece.length for piece in opened.walk()) + sum(piece.length for piece in opened.pages())

    assert benchmark.pedantic(run, rounds=3) == (len(dump.mapped) + len(dump.pages)) * PAGE
