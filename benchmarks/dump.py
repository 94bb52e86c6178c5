"""A large amd64 minidump with realistic runs, written as a stream: it never is in memory."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.writers.bitmap import pack_bitmap, pack_dump_avail
from tests.writers.headers import MAGIC, header_fields, pack_header

PAGE = 4096
KERNBASE = 0xFFFFFE0000000000
DMAPBASE = 0xFFFFF80000000000
DMAPEND = 0xFFFFFC0000000000
_V, _RW, _PS = 1, 2, 0x80
_NX = 1 << 63


@dataclass
class BenchmarkDump:
    """A dump and where things are in it.

    Attributes:
        path: The file.
        pages: Physical page numbers of the dumped pages, ascending.
        mapped: Kernel virtual addresses of the pages mapped one by one (shuffled physically).
        root: Physical address of the page tables, which stock Intel layers need.
        pages_offset: File offset of the first page.
    """

    path: Path
    pages: list[int]
    mapped: list[int]
    root: int
    pages_offset: int
    tables: dict[int, list[int]] = field(repr=False, default_factory=dict)

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Physical address, length and file offset of each run."""
        start = 0
        for index in range(1, len(self.pages) + 1):
            if index == len(self.pages) or self.pages[index] != self.pages[index - 1] + 1:
                yield self.pages[start] * PAGE, (index - start) * PAGE, self.pages_offset + start * PAGE
                start = index


def choose_pages(count: int, generator: random.Random) -> list[int]:
    """Page numbers in runs of 14 pages on average, as in real minidumps, with gaps of the same kind."""
    pages: list[int] = []
    at = 1
    while len(pages) < count:
        length = min(1 + int(generator.expovariate(1 / 13)), count - len(pages))
        pages.extend(range(at, at + length))
        at += length + 1 + int(generator.expovariate(1 / 6))
    return pages


def write_dump(path: Path, megabytes: int = 512, mapped_megabytes: int = 128, seed: int = 1) -> BenchmarkDump:
    """Write the dump: all pages in the direct map, some of them also mapped one by one as kernel memory."""
    generator = random.Random(seed)
    pages = choose_pages(megabytes * 256, generator)
    shuffled = generator.sample(pages, len(pages))
    mapped = shuffled[: mapped_megabytes * 256]
    free = iter(shuffled[len(mapped) :])
    tables: dict[int, list[int]] = {}

    def table() -> int:
        page = next(free)
        tables[page] = [0] * 512
        return page

    # The hardware's tables: kernel memory page by page, the direct map with 2 MiB pages.
    root, kernel_pdp, kernel_pd, dmap_pdp = table(), table(), table(), table()
    tables[root][508] = kernel_pdp * PAGE | _V | _RW
    tables[root][496] = dmap_pdp * PAGE | _V | _RW
    tables[kernel_pdp][0] = kernel_pd * PAGE | _V | _RW
    for first in range(0, len(mapped), 512):
        page_table = table()
        tables[kernel_pd][first // 512] = page_table * PAGE | _V | _RW
        for index, page in enumerate(mapped[first : first + 512]):
            tables[page_table][index] = page * PAGE | _V | _RW | _NX
    for gigabyte in range(-(-(pages[-1] + 1) // (1 << 18))):
        directory = table()
        tables[dmap_pdp][gigabyte] = directory * PAGE | _V | _RW
        tables[directory] = [(gigabyte << 30) + (index << 21) | _V | _RW | _PS | _NX for index in range(512)]

    dump_avail = [(0, (pages[-1] + 1) * PAGE)]
    bitmap = pack_bitmap(pages, pages[-1] + 1, 8, PAGE, "little")
    page_map = struct.pack("<512Q", *tables[kernel_pd]).ljust(2047 * PAGE, b"\0")
    header = {
        "magic": MAGIC["amd64"],
        "version": 3,
        "msgbufsize": 0x17FB8,
        "bitmapsize": len(bitmap),
        "pmapsize": len(page_map),
        "kernbase": KERNBASE,
        "dmapbase": DMAPBASE,
        "dmapend": DMAPEND,
        "dumpavailsize": PAGE,
    }
    # Random bytes, but not new ones for each page: making them would take longer than the benchmarks.
    noise = generator.randbytes(64 * PAGE)
    with path.open("wb") as file:
        file.write(pack_header(header_fields("amd64", 3), header, PAGE, "little"))
        file.write(bytes(0x18000))
        file.write(pack_dump_avail(dump_avail, 8, PAGE, "little").ljust(PAGE, b"\0"))
        file.write(bitmap)
        file.write(page_map)
        pages_offset = file.tell()
        for page in pages:
            at = page % 64 * PAGE
            content = struct.pack("<512Q", *tables[page]) if page in tables else noise[at : at + PAGE]
            file.write(content)
    addresses = [KERNBASE + index * PAGE for index in range(len(mapped))]
    return BenchmarkDump(path, pages, addresses, root * PAGE, pages_offset, tables)
