"""Reading C types from DWARF: everything and what is wanted, beside pyelftools stepping over the same entries.

    pytest benchmarks/test_dwarf.py

The large kernel is the mini-kernel's units over and over, which is what a kernel is: the same headers in every unit.
FREEBSD_BENCHMARK_DWARF_MB is the size of its .debug_info; that of a GENERIC kernel.debug is about 80 MB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.image.dwarf_writer import Format, elf
from tests.minikernel.kernels import kernel_file
from volatility3_freebsd_kvm.image import wanted_types
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes

MIB = 1 << 20
MEMORY = """
import sys
from elftools.elf.elffile import ELFFile
from volatility3_freebsd_kvm.image import wanted_types
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes
with open(sys.argv[1], "rb") as stream:
    reader = DwarfTypes(ELFFile(stream))
    reader.add_all() if sys.argv[2] == "all" else reader.add_wanted(wanted_types())
# Not getrusage: what that says includes the parent's memory at the time of the fork.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@pytest.fixture(scope="session")
def small() -> Path:
    return kernel_file("15", "amd64")


@pytest.fixture(scope="session")
def large(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = int(os.environ.get("FREEBSD_BENCHMARK_DWARF_MB", "24")) * MIB
    with small.open("rb") as stream:
        file = ELFFile(stream)
        sections = {name: file.get_section_by_name(f".debug_{name}").data() for name in ("info", "abbrev", "str")}
    sections["info"] *= -(-size // len(sections["info"]))
    path = tmp_path_factory.mktemp("benchmark") / "kernel.debug"
    path.write_bytes(elf(Format(), sections))
    return path


def read_types(path: Path, what: str) -> DwarfTypes:
    with path.open("rb") as stream:
        reader = DwarfTypes(ELFFile(stream), path.name)
        if what == "all":
            reader.add_all()
        else:
            reader.add_wanted(wanted_types())
    return reader


def step_over(path: Path) -> int:
    """What pyelftools needs to see each entry, without making anything of it."""
    with path.open("rb") as stream:
        units = ELFFile(stream).get_dwarf_info().iter_CUs()
        return sum(1 for unit in units for _ in unit.iter_DIEs())


@pytest.mark.parametrize("rival", ["all", "wanted", "pyelftools"])
def test_a_mini_kernel(benchmark: Any, small: Path, rival: str) -> None:
    benchmark.group = "types of a mini-kernel"
    if rival == "pyelftools":
        assert benchmark.pedantic(step_over, (small,), rounds=1) > 100_000
    else:
        reader = benchmark.pedantic(read_types, (small, rival), rounds=3)
        assert "proc" in reader.types.user_types


@pytest.mark.parametrize("what", ["all", "wanted"])
def test_a_large_kernel(benchmark: Any, large: Path, what: str) -> None:
    benchmark.group = f"types of a kernel with {large.stat().st_size // MIB} MiB of debug information"
    reader = benchmark.pedantic(read_types, (large, what), rounds=1)
    assert "proc" in reader.types.user_types


@pytest.mark.parametrize("what", ["all", "wanted"])
def test_memory_is_bounded(large: Path, what: str) -> None:
    """The debug information itself, and little besides."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell a process its peak of memory in /proc")
    command = [sys.executable, "-c", MEMORY, str(large), what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) * 1024 < large.stat().st_size + 100 * MIB
