"""The plugins as an analyst runs them: `vol` and `volshell` as commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import RealFile
from tests.layers.samples import MACHINES, SAMPLES, Sample, full_sample
from tests.writers.corrupt import patch
from tests.writers.elfcore import EM_X86_64, Segment, elf_kernel, elfcore, virtual_dump
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import minidump
from tests.writers.parameters import ARM_MMU_V4, KIB, MIB, defaults

INFO, LAYERS, PAGES = "freebsd.kvm.info", "freebsd.kvm.layers", "freebsd.kvm.pages"
MESSAGES = b"Copyright (c) 1992 The FreeBSD Project.\n"
NO_KERNEL = "Kernel names: none: no kernel fits "
MARKER = b"MARKER-5ca1ab1e"
BASE = 0xFFFFFE00_00000000
SHORT_BASE = 0xFE00_00000000
DIRECT = 0xFFFFF800_00000000
SHORT_DIRECT = 0xF800_00000000

Row = dict[str, Any]


class Vol(NamedTuple):
    """Runs the framework's commands in a directory of their own, far from the user's settings."""

    directory: Path

    def run(self, *arguments: str | Path, command: str = "vol", quiet: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command and return what became of it."""
        words = [str(Path(sys.executable).with_name(command)), *(["-q"] if quiet else []), *map(str, arguments)]
        environment = {**os.environ, "HOME": str(self.directory), "COLUMNS": "200"}
        return subprocess.run(
            words,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def rows(self, *arguments: str | Path, complaints: Sequence[str] = ()) -> list[Row]:
        """The rows of a plugin that has nothing to complain about, or only that."""
        done = self.run("-r", "json", *arguments)
        assert done.returncode == 0, done.stderr
        said = [line for line in done.stderr.splitlines() if not line.startswith("Volatility 3 Framework")]
        assert [line.partition(": ")[2] for line in said] == list(complaints)
        return without_children(done.stdout)

    def info(self, *arguments: str | Path, complaints: Sequence[str] = ()) -> str:
        """The rows of freebsd.kvm.info, as lines, but what it says of the kernel: these dumps hold none."""
        lines = [f"{row['Variable']}: {row['Value']}\n" for row in self.rows(*arguments, INFO, complaints=complaints)]
        return "".join(line for line in lines if not line.startswith(NO_KERNEL))


def without_children(output: str) -> list[Row]:
    rows = json.loads(output)
    assert all(row.pop("__children") == [] for row in rows)
    return rows


@pytest.fixture(scope="module")
def vol(tmp_path_factory: pytest.TempPathFactory) -> Vol:
    if not Path(sys.executable).with_name("vol").exists():
        pytest.skip(f"there is no vol beside {sys.executable}")
    return Vol(tmp_path_factory.mktemp("vol"))


def save(directory: Path, data: bytes, name: str = "vmcore.0") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def tiny(arch: str, version: int, **changes: Any) -> bytes:
    """A minidump of two short ranges of memory, with text in its message buffer."""
    known = defaults(arch, version, mmu_name=changes.get("mmu_name", "mmu_phyp"), pte_size=changes.get("pte_size", 4))
    size = changes.get("page_size", 4 * KIB)
    start = known.dmapphys or MIB
    memory = PhysicalMemory(size, (start + 8 * size, start + 12 * size))
    memory.fill_random(start, 3 * size, seed=1)
    memory.fill_random(start + 5 * size, size, seed=2)
    return minidump(
        arch,
        version,
        memory,
        [Mapping(known.kernbase + 2 * size, start + size, 2 * size)],
        dump_avail=[(start, start + 4 * size), (start + 5 * size, start + 12 * size)],
        message_buffer=MESSAGES.ljust(100, b"\0"),
        **changes,
    )


def small() -> bytes:
    """An amd64 minidump of eight pages (one of them a page table), with everything that `freebsd.kvm.pages` can say."""
    memory = PhysicalMemory(free_area=(0x10_8000, 0x10_9000))
    for pa in (0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000, 0x10_5000, 0x20_0000, 0x20_3000):
        memory.fill_random(pa, 0x1000, seed=pa)
    memory.write(0x10_2FF8, MARKER[:8])  # MARKER lies across two pages that are neighbours for the kernel only
    memory.write(0x10_0000, MARKER[8:])
    memory.write(0x10_5123, MARKER)
    mappings = [
        Mapping(BASE + 0x1000, 0x10_2000, 0x1000),
        Mapping(BASE + 0x2000, 0x10_0000, 0x2000, write=False, execute=True),
        Mapping(BASE + 0x4000, 0x10_3000, 0x1000),  # in the ranges, not dumped
        Mapping(BASE + 0x5000, 0xF000_0000, 0x1000),  # a device
        Mapping(BASE + 0x20_0000, 0x20_0000, 2 * MIB, write=False, leaf=2 * MIB),
    ]
    dumped = set(memory.pages) - {0x10_3000}
    ranges = [(0x10_0000, 0x10_9000), (0x20_0000, 0x20_4000)]
    return minidump("amd64", 3, memory, mappings, dump_avail=ranges, dumped=dumped, message_buffer=MESSAGES)


PAGES_OFFSET = 0x5000
"""Where the pages of `small` begin: header, message buffer, dump_avail, bitmap and page map have a page each."""


@pytest.fixture(scope="module")
def dump(vol: Vol) -> Path:
    return save(vol.directory, small(), "small")


# --- freebsd.kvm.info -----------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """A dump and what freebsd.kvm.info should say of it."""

    data: Callable[[], bytes]
    lines: str


def stack_of(layer: str, physical: str = "FreeBSDMinidumpLayer") -> str:
    return f"base_layer (FileLayer), memory_layer ({physical}), primary ({layer})"


INFOS = {
    "amd64": Expected(
        lambda: tiny("amd64", 3),
        f"""\
        Format: minidump, version 3
        Architecture: amd64
        Byte order: little
        Word size: 64 bits
        Page size: 4096
        File size: 40960 (0xa000)
        Version: 3
        Kernel base: 0xfffffe0000000000
        Direct map: 0xfffff80000000000-0xfffffc0000000000
        Direct map physical base: 0x0
        Message buffer: 0x1000-0x1064 of the file (100 bytes), holds 40 bytes of text
        Dump available table: 0x2000-0x3000 of the file (4096 bytes)
        Dump available ranges: 0x100000-0x104000, 0x105000-0x10c000
        Bitmap: 0x3000-0x4000 of the file (4096 bytes)
        Page map: 0x4000-0x5000 of the file (4096 bytes)
        Pages offset: 0x5000
        Pages dumped: 5
        Pages beyond end of file: 0
        Bytes of memory: 20480
        Bytes readable: 20480
        Physical ranges: 3 within 0x100000-0x109000
        Translation: minidump, one PDE per 2 MiB
        Layers: {stack_of("FreeBSDIntel32e")}
        """,
    ),
    "i386 without PAE or dump_avail": Expected(
        lambda: tiny("i386", 1),
        f"""\
        Format: minidump, version 1
        Architecture: i386
        Byte order: little
        Word size: 32 bits
        Page size: 4096
        File size: 32768 (0x8000)
        Version: 1
        Kernel base: 0xc0000000
        PAE: no
        Message buffer: 0x1000-0x1064 of the file (100 bytes), holds 40 bytes of text
        Dump available ranges: 0x0-0x8000000, (all that the bitmap covers: this version has no table)
        Bitmap: 0x2000-0x3000 of the file (4096 bytes)
        Page map: 0x3000-0x4000 of the file (4096 bytes)
        Pages offset: 0x4000
        Pages dumped: 4
        Pages beyond end of file: 0
        Bytes of memory: 16384
        Bytes readable: 16384
        Physical ranges: 2 within 0x100000-0x106000
        Translation: minidump, one PTE per 4 KiB
        Layers: {stack_of("FreeBSDIntel")}
        """,
    ),
    "arm64 with 16 KiB pages": Expected(
        lambda: tiny("arm64", 3, page_size=16 * KIB),
        f"""\
        Format: minidump, version 3
        Architecture: arm64
        Byte order: little
        Word size: 64 bits
        Page size: 16384
        File size: 147456 (0x24000)
        Version: 3
        Kernel base: 0xffff000000000000
        Direct map: 0xffffa00000000000-0xffffff0000000000
        Direct map physical base: 0x40000000
        Message buffer: 0x4000-0x4064 of the file (100 bytes), holds 40 bytes of text
        Dump available table: 0x8000-0xc000 of the file (16384 bytes)
        Dump available ranges: 0x40000000-0x40010000, 0x40014000-0x40030000
        Bitmap: 0xc000-0x10000 of the file (16384 bytes)
        Page map: 0x10000-0x14000 of the file (16384 bytes)
        Pages offset: 0x14000
        Pages dumped: 4
        Pages beyond end of file: 0
        Bytes of memory: 65536
        Bytes readable: 65536
        Physical ranges: 2 within 0x40000000-0x40018000
        Translation: minidump, one L3 descriptor per page
        Layers: {stack_of("FreeBSDAArch64")}
        """,
    ),
    "arm": Expected(
        lambda: tiny("arm", 1, mmuformat=ARM_MMU_V4),
        f"""\
        Format: minidump, version 1
        Architecture: arm
        Byte order: little
        Word size: 32 bits
        Page size: 4096
        File size: 32768 (0x8000)
        Version: 1
        Kernel base: 0xc0000000
        MMU format: ARMv4
        Message buffer: 0x1000-0x1064 of the file (100 bytes), holds 40 bytes of text
        Dump available ranges: 0x0-0x8000000, (all that the bitmap covers: this version has no table)
        Bitmap: 0x2000-0x3000 of the file (4096 bytes)
        Page map: 0x3000-0x4000 of the file (4096 bytes)
        Pages offset: 0x4000
        Pages dumped: 4
        Pages beyond end of file: 0
        Bytes of memory: 16384
        Bytes readable: 16384
        Physical ranges: 2 within 0x100000-0x106000
        Translation: minidump, one ARMv4 descriptor per 4 KiB
        Layers: {stack_of("FreeBSDArm")}
        """,
    ),
    "powerpc64, big endian, hashed": Expected(
        lambda: tiny("powerpc64", 2),
        f"""\
        Format: minidump, version 2
        Architecture: powerpc64
        Byte order: big
        Word size: 64 bits
        Page size: 4096
        File size: 294912 (0x48000)
        Version: 2
        Kernel base: 0xe000000000000000
        Direct map: 0xc000000000000000-0xd000000000000000
        Direct map physical base: 0x0
        MMU: mmu_phyp
        Kernel runs at: 0xc000000000100100-0xc000000002000000
        Message buffer: 0x1000-0x1064 of the file (100 bytes), holds 40 bytes of text
        Dump available table: 0x2000-0x3000 of the file (4096 bytes)
        Dump available ranges: 0x100000-0x104000, 0x105000-0x10c000
        Bitmap: 0x3000-0x4000 of the file (4096 bytes)
        Page map: 0x4000-0x44000 of the file (262144 bytes)
        Pages offset: 0x44000
        Pages dumped: 4
        Pages beyond end of file: 0
        Bytes of memory: 16384
        Bytes readable: 16384
        Physical ranges: 2 within 0x100000-0x106000
        Translation: minidump, hashed page table
        Layers: {stack_of("FreeBSDPowerPC64")}
        """,
    ),
    "mips, 64 bit, big endian": Expected(
        lambda: tiny("mips", 2, pte_size=8),
        f"""\
        Format: minidump, version 2
        Architecture: mips
        Byte order: big
        Word size: 64 bits
        Page size: 4096
        File size: 36864 (0x9000)
        Version: 2
        Kernel base: 0xc000000000000000
        Message buffer: 0x1000-0x1064 of the file (100 bytes), holds 40 bytes of text
        Dump available table: 0x2000-0x3000 of the file (4096 bytes)
        Dump available ranges: 0x100000-0x104000, 0x105000-0x10c000
        Bitmap: 0x3000-0x4000 of the file (4096 bytes)
        Page map: 0x4000-0x5000 of the file (4096 bytes)
        Pages offset: 0x5000
        Pages dumped: 4
        Pages beyond end of file: 0
        Bytes of memory: 16384
        Bytes readable: 16384
        Physical ranges: 2 within 0x100000-0x106000
        Translation: minidump, one 8-byte PTE per 4 KiB
        Layers: {stack_of("FreeBSDMips64")}
        """,
    ),
    "amd64, cut off within a page": Expected(
        lambda: tiny("amd64", 3)[:-0x1800],
        f"""\
        Format: minidump, version 3
        Architecture: amd64
        Byte order: little
        Word size: 64 bits
        Page size: 4096
        File size: 34816 (0x8800)
        Version: 3
        Kernel base: 0xfffffe0000000000
        Direct map: 0xfffff80000000000-0xfffffc0000000000
        Direct map physical base: 0x0
        Message buffer: 0x1000-0x1064 of the file (100 bytes), holds 40 bytes of text
        Dump available table: 0x2000-0x3000 of the file (4096 bytes)
        Dump available ranges: 0x100000-0x104000, 0x105000-0x10c000
        Bitmap: 0x3000-0x4000 of the file (4096 bytes)
        Page map: 0x4000-0x5000 of the file (4096 bytes)
        Pages offset: 0x5000
        Pages dumped: 5
        Pages beyond end of file: 2
        Bytes of memory: 20480
        Bytes readable: 14336
        Physical ranges: 2 within 0x100000-0x105800
        Translation: minidump, one PDE per 2 MiB
        Layers: {stack_of("FreeBSDIntel32e")}
        Warning: the file is cut off: 2 of 5 pages lie wholly or partly beyond its end
        """,
    ),
}


@pytest.mark.parametrize("name", INFOS)
def test_info(vol: Vol, name: str, tmp_path: Path):
    assert vol.info("-f", save(tmp_path, INFOS[name].data())) == textwrap.dedent(INFOS[name].lines)


def test_info_as_text(vol: Vol, tmp_path: Path):
    done = vol.run("-f", save(tmp_path, tiny("amd64", 3)), INFO)
    assert (done.returncode, done.stderr) == (0, "")
    banner, _, heading, _, *lines = done.stdout.splitlines()
    assert banner.startswith("Volatility 3 Framework")
    assert heading == "Variable\tValue"
    expected = textwrap.dedent(INFOS["amd64"].lines).replace(": ", "\t").splitlines()
    (kernel,) = set(lines) - set(expected)
    assert kernel.replace("\t", ": ").startswith(NO_KERNEL)
    assert [line for line in lines if line != kernel] == expected


def test_info_of_a_full_dump_with_its_kernel(vol: Vol, tmp_path: Path):
    sample = full_sample(MACHINES["full-amd64"])
    kernel = save(tmp_path, sample.kernel or b"", "kernel")
    doubt = f"{kernel}: nothing in it can be compared with the dump, so it may be the wrong kernel"
    found = vol.info("-f", save(tmp_path, sample.data), "--freebsd-kernel", kernel, complaints=[doubt])
    assert found == textwrap.dedent(f"""\
        Format: ELF core (64 bit), full dump
        Architecture: amd64
        Byte order: little
        Word size: 64 bits
        Page size: 4096
        File size: 176128 (0x2b000)
        Version: None
        Segment 0: physical 0x200000-0x203000 at 0x1000-0x4000 of the file
        Segment 1: physical 0x210000-0x217000 at 0x4000-0xb000 of the file
        Segment 2: physical 0x1000000-0x1020000 at 0xb000-0x2b000 of the file
        Pages dumped: 42
        Pages beyond end of file: 0
        Bytes of memory: 172032
        Bytes readable: 172032
        Physical ranges: 3 within 0x200000-0x1020000
        Translation: 4-level page tables, root at 0x210000
        Kernel: None
        Kernel names: 2 symbols of {kernel}
        Kernel types: none
        Kernel fit: unknown: nothing could be compared
        Layers: {stack_of("FreeBSDIntel32e", "FreeBSDElfLayer")}
        """)


def test_info_of_a_core_by_virtual_address(vol: Vol, tmp_path: Path):
    memory = PhysicalMemory()
    memory.fill_random(0, 0x3000, seed=1)
    mappings = [Mapping(0xC000_0000, 0, 0x2000), Mapping(0xC010_0000, 0x2000, 0x1000)]
    assert vol.info("-f", save(tmp_path, virtual_dump(memory, mappings, "powerpc"))) == textwrap.dedent("""\
        Format: ELF core (32 bit), kernel virtual memory
        Architecture: powerpc
        Byte order: big
        Word size: 32 bits
        Page size: 4096
        File size: 16384 (0x4000)
        Version: None
        Segment 0: virtual 0xc0000000-0xc0002000 r-- at 0x1000-0x3000 of the file
        Segment 1: virtual 0xc0100000-0xc0101000 r-- at 0x3000-0x4000 of the file
        Pages dumped: 3
        Pages beyond end of file: 0
        Bytes of memory: 12288
        Bytes readable: 12288
        Virtual ranges: 2 within 0xc0000000-0xc0101000
        Translation: ELF segments by p_vaddr
        Layers: memory_layer (FileLayer), primary (FreeBSDPowerPC)
        """)


def test_info_of_a_message_buffer_that_holds_no_text(vol: Vol, tmp_path: Path):
    data = minidump("amd64", 3, page_memory(), [], message_buffer=bytes(range(128, 256)))
    lines = vol.info("-f", save(tmp_path, data)).splitlines()
    assert (
        "Message buffer: 0x1000-0x1080 of the file (128 bytes), holds 128 bytes of something that is not text" in lines
    )


def page_memory() -> PhysicalMemory:
    memory = PhysicalMemory(free_area=(0, 0))
    memory.fill_random(MIB, 0x1000, seed=1)
    return memory


REAL_INFOS = {
    "vmcore-amd64-full": f"""\
        Format: ELF core (64 bit), full dump
        Architecture: amd64
        Byte order: little
        Word size: 64 bits
        Page size: 4096
        File size: 127043584 (0x7928800)
        Version: None
        Segment 0: physical 0x0-0x9f000 at 0x1000-0xa0000 of the file
        Segment 1: physical 0x104000-0x7fdf000 at 0xa0000-0x7f7b000 of the file
        Pages dumped: 32634
        Pages beyond end of file: 1619
        Bytes of memory: 133668864
        Bytes readable: 127039488
        Physical ranges: 2 within 0x0-0x798c800
        Translation: 4-level page tables, root at 0x27be000
        Layers: {stack_of("FreeBSDIntel32e", "FreeBSDElfLayer")}
        Warning: the file is cut off: 1619 of 32634 pages lie wholly or partly beyond its end
        Warning: the page tables do not map the start of the kernel; they may be damaged
        """,
    "vmcore-amd64-minidump": f"""\
        Format: minidump, version 3
        Architecture: amd64
        Byte order: little
        Word size: 64 bits
        Page size: 4096
        File size: 101685248 (0x60f9800)
        Version: 3
        Kernel base: 0xfffffe0000000000
        Direct map: 0xfffff80000000000-0xfffffc0000000000
        Direct map physical base: 0x0
        Message buffer: 0x1000-0x18fb8 of the file (98232 bytes), holds no text
        Dump available table: 0x19000-0x1a000 of the file (4096 bytes)
        Dump available ranges: 0x0-0x9f000, 0x104000-0x7fdf000
        Bitmap: 0x1a000-0x1b000 of the file (4096 bytes)
        Page map: 0x1b000-0x81a000 of the file (8384512 bytes)
        Pages offset: 0x81a000
        Pages dumped: 24144
        Pages beyond end of file: 1393
        Bytes of memory: 98893824
        Bytes readable: 93190144
        Physical ranges: 1687 within 0x0-0x798c800
        Translation: minidump, one PDE per 2 MiB
        Layers: {stack_of("FreeBSDIntel32e")}
        Warning: the file is cut off: 1393 of 24144 pages lie wholly or partly beyond its end
        """,
    "vmcore-arm64-minidump": f"""\
        Format: minidump, version 2
        Architecture: arm64
        Byte order: little
        Word size: 64 bits
        Page size: 4096
        File size: 76643328 (0x4917c00)
        Version: 2
        Kernel base: 0xffff000000000000
        Direct map: 0xffffa00000000000-0xffffff0000000000
        Direct map physical base: 0x40000000
        Message buffer: 0x1000-0x18fb8 of the file (98232 bytes), holds no text
        Dump available table: 0x19000-0x1a000 of the file (4096 bytes)
        Dump available ranges: 0x40000000-0x4bca0000, 0x4bd00000-0x4bdc0000, 0x4be40000-0x4bfb0000, \
0x4c000000-0x4c020000, 0x4c040000-0x4c0f0000, 0x4c1e0000-0x4f4c0000, 0x4f550000-0x50000000
        Bitmap: 0x1a000-0x1c000 of the file (8192 bytes)
        Page map: 0x1c000-0x6ca000 of the file (7004160 bytes)
        Pages offset: 0x6ca000
        Pages dumped: 19296
        Pages beyond end of file: 2323
        Bytes of memory: 79036416
        Bytes readable: 69524480
        Physical ranges: 482 within 0x40000000-0x4c397c00
        Translation: minidump, one L3 descriptor per page
        Layers: {stack_of("FreeBSDAArch64")}
        Warning: the file is cut off: 2323 of 19296 pages lie wholly or partly beyond its end
        """,
    "vmcore-i386-minidump": f"""\
        Format: minidump, version 2
        Architecture: i386
        Byte order: little
        Word size: 32 bits
        Page size: 4096
        File size: 74874368 (0x4767e00)
        Version: 2
        Kernel base: 0x800000
        PAE: yes
        Message buffer: 0x1000-0x18fc8 of the file (98248 bytes), holds no text
        Dump available table: 0x19000-0x1a000 of the file (4096 bytes)
        Dump available ranges: 0x0-0x9f000, 0x100000-0x7fdf000
        Bitmap: 0x1a000-0x1b000 of the file (4096 bytes)
        Page map: 0x1b000-0x107000 of the file (966656 bytes)
        Pages offset: 0x107000
        Pages dumped: 18928
        Pages beyond end of file: 912
        Bytes of memory: 77529088
        Bytes readable: 73797120
        Physical ranges: 1636 within 0x1000-0x7c25e00
        Translation: minidump, one PAE PTE per 4 KiB
        Layers: {stack_of("FreeBSDIntelPAE")}
        Warning: the file is cut off: 912 of 18928 pages lie wholly or partly beyond its end
        """,
}


@pytest.mark.parametrize("name", REAL_INFOS)
def test_info_of_real_dumps(vol: Vol, name: str, real_file: RealFile):
    assert vol.info("-f", real_file(name)) == textwrap.dedent(REAL_INFOS[name])


# --- freebsd.kvm.layers ---------------------------------------------------------------------------------------------


def layer_row(name: str, cls: str, base: str | None, *numbers: int, notes: str = "") -> Row:
    minimum, maximum, mapped, readable = numbers
    return {
        "Layer": name,
        "Layer class": cls,
        "Base": base,
        "Minimum": minimum,
        "Maximum": maximum,
        "Mapped": mapped,
        "Readable": readable,
        "Notes": notes,
    }


def test_layers(vol: Vol, dump: Path):
    kernel_notes = f"minidump, one PDE per 2 MiB; direct map {DIRECT:#x}-0xfffffc0000000000 of physical 0x0"
    mapped, readable = (5 + 512) * 4096, (3 + 2) * 4096  # and seven pages in the direct map
    assert vol.rows("-f", dump, LAYERS) == [
        layer_row("base_layer", "FileLayer", None, 0, 0xBFFF, 0xC000, 0xC000),
        layer_row(
            "memory_layer",
            "FreeBSDMinidumpLayer",
            "base_layer",
            *(0x10_0000, 0x20_3FFF, 0x7000, 0x7000),
            notes="amd64 minidump, version 3",
        ),
        layer_row(
            "primary",
            "FreeBSDIntel32e",
            "memory_layer",
            *(0, (1 << 48) - 1, mapped + 0x7000, readable + 0x7000),
            notes=kernel_notes,
        ),
    ]


def test_layers_of_a_cut_off_dump(vol: Vol, tmp_path: Path):
    data = tiny("i386", 1)[:-0x1800]
    assert vol.rows("-f", save(tmp_path, data), LAYERS) == [
        layer_row("base_layer", "FileLayer", None, 0, 0x67FF, 0x6800, 0x6800),
        layer_row(
            "memory_layer",
            "FreeBSDMinidumpLayer",
            "base_layer",
            *(0x10_0000, 0x10_27FF, 0x4000, 0x2800),
            notes="i386 minidump, version 1; 6144 bytes are beyond the end of the file",
        ),
        layer_row(
            "primary",
            "FreeBSDIntel",
            "memory_layer",
            *(0, 0xFFFF_FFFF, 0x2000, 0x1800),
            notes="minidump, one PTE per 4 KiB",
        ),
    ]


def test_layers_of_a_real_full_dump(vol: Vol, real_file: RealFile):
    rows = vol.rows("-f", real_file("vmcore-amd64-full"), LAYERS)
    assert [(row["Layer class"], row["Mapped"], row["Readable"]) for row in rows] == [
        ("FileLayer", 127043584, 127043584),
        ("FreeBSDElfLayer", 133668864, 127039488),
        ("FreeBSDIntel32e", 14880768, 14878720),
    ]


# --- freebsd.kvm.pages ----------------------------------------------------------------------------------------------


def page_row(
    virtual: int | None, physical: int, length: int, protection: str, number: int | None, notes: str = ""
) -> Row:
    """A row; `number` says which of the dumped pages it begins with."""
    return {
        "Virtual": virtual,
        "Physical": physical,
        "Length": length,
        "Protection": protection,
        "File offset": None if number is None else PAGES_OFFSET + number * 0x1000,
        "Notes": notes,
    }


# Dumped pages by number: 0 to 2 are 0x100000 to 0x102000, 3 is 0x105000, 4 the page table, 5 and 6 the superpage's.
WALK = [
    page_row(BASE + 0x1000, 0x10_2000, 0x1000, "rw-", 2),
    page_row(BASE + 0x2000, 0x10_0000, 0x2000, "r-x", 0),
    page_row(BASE + 0x4000, 0x10_3000, 0x1000, "rw-", None, "not dumped"),
    page_row(BASE + 0x5000, 0xF000_0000, 0x1000, "rw-", None, "not dumped"),
    page_row(BASE + 0x20_0000, 0x20_0000, 0x1000, "r--", 5),
    page_row(BASE + 0x20_1000, 0x20_1000, 0x2000, "r--", None, "not dumped"),
    page_row(BASE + 0x20_3000, 0x20_3000, 0x1000, "r--", 6),
    page_row(BASE + 0x20_4000, 0x20_4000, 0x1F_C000, "r--", None, "not dumped"),
]
PHYSICAL = [
    page_row(DIRECT + 0x10_0000, 0x10_0000, 0x3000, "???", 0),
    page_row(DIRECT + 0x10_5000, 0x10_5000, 0x1000, "???", 3),
    page_row(DIRECT + 0x10_8000, 0x10_8000, 0x1000, "???", 4),
    page_row(DIRECT + 0x20_0000, 0x20_0000, 0x1000, "???", 5),
    page_row(DIRECT + 0x20_3000, 0x20_3000, 0x1000, "???", 6),
]


def test_pages(vol: Vol, dump: Path):
    assert vol.rows("-f", dump, PAGES) == WALK


def test_pages_as_text(vol: Vol, dump: Path):
    done = vol.run("-f", dump, PAGES, "--start", "0xfffffe0000003000", "--end", "0xfffffe0000005000")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2:] == [
        "Virtual\tPhysical\tLength\tProtection\tFile offset\tNotes",
        "",
        "0xfffffe0000003000\t0x101000\t0x1000\tr-x\t0x6000\t",
        "0xfffffe0000004000\t0x103000\t0x1000\trw-\t-\tnot dumped",
    ]


def test_pages_of_a_range(vol: Vol, dump: Path):
    rows = vol.rows("-f", dump, PAGES, "--start", f"{BASE + 0x3800:#x}", "--end", f"{BASE + 0x200800:#x}")
    assert rows == [
        {**page_row(BASE + 0x3800, 0x10_1800, 0x800, "r-x", 1), "File offset": PAGES_OFFSET + 0x1800},
        *WALK[2:4],
        page_row(BASE + 0x20_0000, 0x20_0000, 0x800, "r--", 5),
    ]


def test_physical_pages(vol: Vol, dump: Path):
    assert vol.rows("-f", dump, PAGES, "--physical") == PHYSICAL


def test_physical_pages_of_a_range(vol: Vol, dump: Path):
    rows = vol.rows("-f", dump, PAGES, "--physical", "--start", "0x101000", "--end", "0x106000")
    assert rows == [page_row(DIRECT + 0x10_1000, 0x10_1000, 0x2000, "???", 1), PHYSICAL[1]]


def test_physical_pages_without_a_direct_map(vol: Vol, tmp_path: Path):
    rows = vol.rows("-f", save(tmp_path, tiny("i386", 1)), PAGES, "--physical")
    assert [(row["Virtual"], row["Physical"], row["Length"], row["File offset"]) for row in rows] == [
        (None, 0x10_0000, 0x3000, 0x4000),
        (None, 0x10_5000, 0x1000, 0x7000),
    ]


def total(kind: str, protection: str, presence: str, ranges: int, size: int) -> Row:
    return {"Kind": kind, "Protection": protection, "Presence": presence, "Ranges": ranges, "Bytes": size}


def test_pages_summary(vol: Vol, dump: Path):
    assert vol.rows("-f", dump, PAGES, "--summary") == [
        total("dumped pages in the direct map", "???", "in the file", 5, 0x7000),
        total("page map", "r--", "in the file", 2, 0x2000),
        total("page map", "r--", "not dumped", 2, 0x1F_E000),
        total("page map", "r-x", "in the file", 1, 0x2000),
        total("page map", "rw-", "in the file", 1, 0x1000),
        total("page map", "rw-", "not dumped", 2, 0x2000),
    ]


def test_pages_summary_of_a_range(vol: Vol, dump: Path):
    """Everything that is counted lies in the range; the direct map has nothing there."""
    rows = vol.rows("-f", dump, PAGES, "--summary", "--start", f"{BASE + 0x1000:#x}", "--end", f"{BASE + 0x5000:#x}")
    assert rows == [
        total("page map", "r-x", "in the file", 1, 0x2000),
        total("page map", "rw-", "in the file", 1, 0x1000),
        total("page map", "rw-", "not dumped", 1, 0x1000),
    ]


def test_pages_summary_tells_what_a_cut_off_file_lost(vol: Vol, tmp_path: Path):
    rows = vol.rows("-f", save(tmp_path, tiny("riscv", 2)[:-0x1800]), PAGES, "--summary")
    assert rows == [
        total("dumped pages in the direct map", "???", "in the file", 1, 0x2800),
        total("page map", "rw-", "beyond the end of the file", 1, 0x800),
        total("page map", "rw-", "in the file", 1, 0x1800),
    ]


def test_pages_of_a_missing_page_table(vol: Vol, tmp_path: Path):
    memory = page_memory()
    memory._free, memory._free_end = 0x20_0000, 0x30_0000
    data = minidump("amd64", 3, memory, [Mapping(BASE + 0x1000, MIB, 0x1000)], dump_page_tables=False)
    path = save(tmp_path, data)
    hole = {**page_row(BASE, 0, 2 * MIB, "???", None, "page table not dumped"), "Physical": None}
    assert vol.rows("-f", path, PAGES) == [hole]
    assert vol.rows("-f", path, PAGES, "--summary") == [
        total("dumped pages in the direct map", "???", "in the file", 1, 0x1000),
        total("page table missing", "???", "not dumped", 1, 2 * MIB),
    ]


def expected_pages(sample: Sample) -> list[tuple[int, int, int | None]]:
    """(va, pa, file offset) of every mapped page of a minidump."""
    start = len(sample.data) - len(sample.memory) * sample.page_size
    offsets = {pa: start + number * sample.page_size for number, pa in enumerate(sample.memory)}
    return [(va, pa, offsets.get(pa)) for mapping in sample.mappings for va, pa in mapping.base_pages(sample.page_size)]


@pytest.mark.parametrize("name", ["arm-v2-avail-8", "riscv-v2", "powerpc64le-v2-hash"])
def test_pages_of_other_architectures(vol: Vol, name: str, tmp_path: Path):
    sample = SAMPLES[name]()
    size = sample.page_size
    found = [
        (row["Virtual"] + at, row["Physical"] + at, row["File offset"] and row["File offset"] + at)
        for row in vol.rows("-f", save(tmp_path, sample.data), PAGES)
        for at in range(0, row["Length"], size)
    ]
    assert found == expected_pages(sample)


# --- bad input ------------------------------------------------------------------------------------------------------


def header_of(data: bytes) -> bytes:
    return data[:0x1000]


BAD: dict[str, tuple[bytes, str, str]] = {
    "an empty file": (b"", "no FreeBSD kernel dump", "is empty"),
    "text": (b"Dear diary,\n" * 1000, "no FreeBSD kernel dump", "neither a minidump nor an ELF core"),
    "a header that is cut off": (tiny("amd64", 3)[:100], "damaged dump", "is cut off within its header"),
    "a header without the rest": (header_of(tiny("amd64", 3)), "damaged dump", "is cut off before its pages"),
    "an unknown version": (patch(tiny("amd64", 3), "amd64", 3, "version", 77), "damaged dump", "version 77"),
    "an unknown architecture": (tiny("amd64", 3).replace(b"/amd64", b"/vax\0\0"), "damaged dump", "vax"),
    "a huge bitmap": (patch(tiny("amd64", 3), "amd64", 3, "bitmapsize", 0xFFFF_F000), "damaged dump", "bitmap"),
    "a kernel": (elf_kernel({"hz": BASE}, "amd64"), "no FreeBSD kernel dump", "no core: its type is ET_EXEC"),
    "an ELF core that is cut off": (
        elfcore([Segment(0, 0, bytes(4096))] * 9, bits=64, byteorder="little", machine=EM_X86_64)[:0x100],
        "damaged dump",
        "claims 9 program headers",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_info_says_what_is_wrong_with_a_file(vol: Vol, what: str, tmp_path: Path):
    data, verdict, reason = BAD[what]
    done = vol.run("-r", "json", "-f", save(tmp_path, data), INFO)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    rows = {row["Variable"]: row["Value"] for row in without_children(done.stdout)}
    assert set(rows) == {"Format", "Problem", "Layers"}
    assert rows["Format"] == verdict
    assert reason in rows["Problem"]
    assert "\n" not in rows["Problem"]
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Volatility 3 Framework")]
    assert len(complaints) == (verdict == "damaged dump")
    assert all(line.endswith(rows["Problem"]) for line in complaints)


@pytest.mark.parametrize("plugin", [LAYERS, PAGES])
@pytest.mark.parametrize("what", ["an empty file", "a header without the rest"])
def test_the_other_plugins_survive_such_files(vol: Vol, plugin: str, what: str, tmp_path: Path):
    done = vol.run("-r", "json", "-f", save(tmp_path, BAD[what][0]), plugin)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    rows = without_children(done.stdout)
    if plugin == LAYERS:
        assert [row["Layer class"] for row in rows] == ["FileLayer"]
    else:
        assert rows == []
        assert "There is no FreeBSD kernel address space to walk" in done.stderr


def test_directories_are_no_dumps(vol: Vol, tmp_path: Path):
    done = vol.run("-f", tmp_path, INFO)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Is a directory" in done.stderr


def test_a_full_dump_without_its_kernel_says_what_would_help(vol: Vol, tmp_path: Path):
    done = vol.run("-r", "json", "-f", save(tmp_path, full_sample(MACHINES["full-arm64"]).data), INFO)
    assert done.returncode == 0
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Volatility 3 Framework")]
    assert len(complaints) == 1
    assert "pagetable_l0_ttbr1" in complaints[0]
    assert "--freebsd-kernel" in complaints[0]
    rows = {row["Variable"]: row["Value"] for row in without_children(done.stdout)}
    assert rows["Translation"].startswith("none")
    assert rows["Layers"] == "base_layer (FileLayer), primary (FreeBSDElfLayer)"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no kernel at all\n" * 10, "is neither an ELF file nor an archive"),
        (elf_kernel({"hz": BASE}, "arm64"), "is no FreeBSD kernel: it defines no symbol of one"),
    ],
    ids=["text", "another kernel"],
)
def test_a_kernel_file_that_does_not_help_is_one_warning(vol: Vol, content: bytes, reason: str, tmp_path: Path):
    dump = save(tmp_path, full_sample(MACHINES["full-arm64"]).data)
    done = vol.run("-r", "json", "-f", dump, "--freebsd-kernel", save(tmp_path, content, "kernel"), INFO)
    assert done.returncode == 0
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Volatility 3 Framework")]
    assert len(complaints) == 1
    assert reason in complaints[0]


# --- configurations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["amd64-v3", "full-arm64"])
def test_a_saved_configuration_needs_neither_dump_nor_kernel(vol: Vol, name: str, tmp_path: Path):
    sample = SAMPLES[name]()
    arguments: list[str | Path] = ["-f", save(tmp_path, sample.data)]
    if sample.kernel:
        arguments += ["--freebsd-kernel", save(tmp_path, sample.kernel, "kernel")]
    saved = tmp_path / "config.json"
    first = vol.rows(*arguments, "--save-config", saved, PAGES)
    assert len(first) > 10
    assert vol.rows("-c", saved, PAGES) == first


# --- other people's plugins -----------------------------------------------------------------------------------------


def test_layerwriter_writes_physical_memory_with_zeros_in_its_holes(vol: Vol, dump: Path, tmp_path: Path):
    vol.rows("-f", dump, "-o", tmp_path, "layerwriter.LayerWriter")
    (written,) = tmp_path.iterdir()
    assert written.name == "memory_layer.raw"
    content = dump.read_bytes()[PAGES_OFFSET:]
    expected = bytearray(0x20_4000)
    for number, pa in enumerate((0x10_0000, 0x10_1000, 0x10_2000, 0x10_5000, 0x10_8000, 0x20_0000, 0x20_3000)):
        expected[pa : pa + 0x1000] = content[number * 0x1000 : (number + 1) * 0x1000]
    assert written.read_bytes() == expected


# Hits of the framework's own amd64 layer have no sign extension either.
HITS = [SHORT_DIRECT + 0x10_5123, SHORT_BASE + 0x1FF8]


# With threads the framework (2.28.2) finds nothing in any layer: it asks `threading` for a pool.
@pytest.mark.parametrize("parallelism", ["off", "processes"])
def test_regexscan_finds_what_was_planted(vol: Vol, dump: Path, parallelism: str):
    rows = vol.rows("-f", dump, "--parallelism", parallelism, "regexscan.RegExScan", "--pattern", "MARKER-[0-9a-f]{8}")
    assert [(row["Offset"], row["Text"]) for row in rows] == [(hit, MARKER.decode()) for hit in HITS]


def test_yarascan_finds_what_was_planted(vol: Vol, dump: Path):
    pytest.importorskip("yara")
    rows = vol.rows("-f", dump, "yarascan.YaraScan", "--yara-string", MARKER.decode())
    assert [(row["Offset"], row["Component"]) for row in rows] == [(hit, "$a") for hit in HITS]


def test_volshell_reads_the_kernel(vol: Vol, dump: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""\
        layer = self.context.layers[self.current_layer]
        print("script:", layer.name, type(layer).__name__, layer.read({BASE + 0x1FF8:#x}, {len(MARKER)}))
        db({SHORT_DIRECT + 0x10_5123:#x}, count=16)
        """)
    )
    done = vol.run("-f", dump, "--script", script, "--script-only", command="volshell")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"script: primary FreeBSDIntel32e {MARKER!r}" in lines
    (shown,) = [line for line in lines if line.startswith("0xf80000105123")]
    assert bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b", shown[15:63]))).startswith(MARKER)


# --- the command line -----------------------------------------------------------------------------------------------


def test_help_lists_each_of_our_plugins_once(vol: Vol):
    done = vol.run("-h")
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^ {4}(freebsd\.\S+)", done.stdout, re.MULTILINE)
    assert [name for name in listed if name.startswith("freebsd.kvm.")] == [
        "freebsd.kvm.cpus.Cpus",
        "freebsd.kvm.export.Export",
        "freebsd.kvm.info.Info",
        "freebsd.kvm.layers.Layers",
        "freebsd.kvm.nlist.Nlist",
        "freebsd.kvm.pages.Pages",
        "freebsd.kvm.vnets.Vnets",
    ]
    assert len(listed) == len(set(listed))
    epilog = done.stdout.partition("could not be loaded")[2]
    assert "freebsd" not in epilog


def test_only_stackers_of_containers_and_our_own_are_tried(vol: Vol, dump: Path):
    """Kernel scanners of other systems would run for seconds over a large dump."""
    done = vol.run("-vvvvvvv", "-f", dump, INFO)
    assert done.returncode == 0
    assert "Detected a freebsd category plugin" in done.stderr
    tried = set(re.findall(r"Attempting to stack using (\w+)", done.stderr))
    assert {"FreeBSDDumpStacker", "FreeBSDKernelStacker"} <= tried
    assert {name for name in tried if re.match("Windows(?!CrashDump)|Linux|Mac", name)} == set()
    run = re.findall(r"Running automagic: (\w+)", done.stderr)
    assert {name for name in run if re.match("Windows|Linux|Mac|KernelPDB", name)} == set()
    stacked = re.findall(r"Stacked (\w+) using (\w+)", done.stderr)
    assert stacked == [("FreeBSDMinidumpLayer", "FreeBSDDumpStacker"), ("FreeBSDIntel32e", "FreeBSDKernelStacker")]
