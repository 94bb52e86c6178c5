"""From a kernel to its table, and what whole runs of ``vol`` cost beside ``vol -h``.

    pytest benchmarks/test_tables.py     # ratios within each group; the last test prints those of whole runs

The kernel is the tests' own: as many types as a real one's wanted part, and a scenario's dump of some MB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.framework import constants
from volatility3.framework.automagic import symbol_cache

from tests import framework
from tests.minikernel.kernels import dwarf_of, kernel_file
from tests.minikernel.strip import strip_debug
from tests.scenario.kernels import build_world
from tests.scenario_dumps import FORMATS
from tests.writers.ctf import add_ctf
from volatility3_freebsd_kvm.image import build, isf, table
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.symbols import loading

RELEASE, ARCHITECTURE = "15", "amd64"
PLUGIN = "freebsd.kvm.vnets"


class Files(NamedTuple):
    """A dump that has no kernel beside it, and its kernel in three forms."""

    dump: Path
    dwarf: Path
    ctf: Path
    bare: Path


class Usage(NamedTuple):
    """What a process took.

    Attributes:
        seconds: From start to end.
        busy: Seconds of processors' time, which other programs change less.
        peak: The largest resident size in MiB.
    """

    seconds: float
    busy: float
    peak: float


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("tables")
    kernel = kernel_file(RELEASE, ARCHITECTURE)
    found = Files(*(directory / name for name in ("vmcore", "dwarf", "ctf", "bare")))
    found.dump.write_bytes(FORMATS["minidump"](build_world(f"{RELEASE}-{ARCHITECTURE}").memory))
    found.dwarf.write_bytes(kernel.read_bytes())
    found.ctf.write_bytes(add_ctf(kernel, types=dwarf_of(kernel)))
    found.bare.write_bytes(strip_debug(kernel.read_bytes()))
    # Nothing lies beside the dump.
    alone = directory / "crash"
    alone.mkdir()
    return found._replace(dump=found.dump.rename(alone / "vmcore.0"))


@pytest.fixture(scope="session")
def known_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The framework's list of the symbol files that are shipped: it is made once in a user's life."""
    framework.plugin_classes()
    path = tmp_path_factory.mktemp("known") / constants.IDENTIFIERS_FILENAME
    symbol_cache.SqliteCache(str(path)).update()
    return path


# Tables


def table_of(path: Path, *, everything: bool = False) -> dict[str, Any]:
    with path.open("rb") as stream:
        return build.kernel_table(KernelFile(stream, path.name), everything=everything)


@pytest.mark.parametrize("kind", ["DWARF", "DWARF, all types", "CTF", "CTF, all types", "symbols only"])
def test_from_a_kernel_file(benchmark: Any, files: Files, kind: str) -> None:
    benchmark.group = "kernel file to table"
    path = {"DWARF": files.dwarf, "CTF": files.ctf}.get(kind.partition(",")[0], files.bare)
    content = benchmark.pedantic(table_of, (path,), {"everything": "all" in kind}, rounds=3, warmup_rounds=0)
    assert ("proc" in content["user_types"]) == (kind != "symbols only")


@pytest.mark.parametrize("kind", ["parse", "identity", "symbols"])
def test_reading_a_kept_table(benchmark: Any, files: Files, tmp_path: Path, kind: str) -> None:
    benchmark.group = "kept table"
    path = tmp_path / "kept.json"
    path.write_bytes(isf.text(table_of(files.dwarf)))
    content = isf.load(path)
    steps: dict[str, Callable[[], Any]] = {
        "parse": lambda: isf.load(path),
        "identity": lambda: table.identity_of(content),
        "symbols": lambda: table.symbols_of(content),
    }
    assert benchmark(steps[kind])


@pytest.mark.parametrize("kind", ["kernel file", "dump alone"])
def test_choosing_a_table_that_is_known(
    benchmark: Any, files: Files, known_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    benchmark.group = "choose a table that was made before"
    shutil.copy(known_files, tmp_path)
    monkeypatch.setattr(constants, "CACHE_PATH", str(tmp_path))
    kernel = files.dwarf.as_uri() if kind == "kernel file" else None
    context = framework.stack(files.dump, kernel=files.dwarf if kernel else None).context

    def choose() -> Any:
        return loading.choose_table(context, "primary", kernel=kernel, force=False)

    first = choose()
    assert benchmark.pedantic(choose, rounds=5).url == first.url


# Whole runs


# A new process counts the memory of the one that started it, so that a small one does.
STARTER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(status, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def run(cache: Path, *arguments: object) -> Usage:
    """One run of the command with a cache directory of its own; compiled modules are kept for the next run."""
    vol = Path(sys.executable).with_name("vol")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "XDG_CACHE_HOME": str(cache),
        "HOME": str(cache),
        "PYTHONPYCACHEPREFIX": str(cache.parent / "pycache"),
    }
    command = [sys.executable, "-S", "-c", STARTER, vol, "-q", *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    status, seconds, busy, peak = done.stdout.split()
    assert status == "0"
    # FreeBSD and Linux count KiB, macOS bytes.
    return Usage(float(seconds), float(busy), int(peak) / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def arguments_of(files: Files, kind: str) -> list[object]:
    if kind == "vol -h":
        return ["-h"]
    kernel = {"DWARF": files.dwarf, "CTF": files.ctf, "no types": files.bare}.get(kind.partition(":")[0])
    return ["-f", files.dump, *(["--freebsd-kernel", kernel] if kernel else []), PLUGIN]


def cache_for(directory: Path, files: Files, known_files: Path, kind: str) -> Path:
    """The cache directory as such a run finds it."""
    (directory / "volatility3").mkdir(parents=True)
    shutil.copy(known_files, directory / "volatility3")
    if kind.endswith(": again"):
        run(directory, *arguments_of(files, kind))
    return directory


RUNS = ["vol -h"] + [f"{kernel}: {when}" for kernel in ("DWARF", "CTF", "dump alone") for when in ("first", "again")]


def costs(files: Files, known_files: Path, directory: Path, rounds: int = 5) -> dict[str, Usage]:
    """The medians of some runs of each kind; the kinds take turns, and the first round only compiles modules."""
    used: dict[str, list[Usage]] = {kind: [] for kind in RUNS}
    for number in range(rounds + 1):
        for index, kind in enumerate(RUNS):
            cache = cache_for(directory / f"{number}-{index}", files, known_files, kind)
            used[kind].append(run(cache, *arguments_of(files, kind)))
    return {
        kind: Usage(*(statistics.median(values) for values in zip(*found[1:], strict=True)))
        for kind, found in used.items()
    }


def test_whole_runs_as_ratios(
    files: Files, known_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time and memory in units of ``vol -h``, which any machine can compare."""
    found = costs(files, known_files, tmp_path)
    base = found["vol -h"]
    with capsys.disabled():
        print(f"\n{'':20} {'time':>6} {'busy':>6} {'memory':>6}   (ratios; then seconds and MiB)")
        for kind, used in found.items():
            ratios = " ".join(f"{one / other:6.2f}" for one, other in zip(used, base, strict=True))
            print(f"{kind:20} {ratios}   {used.seconds:6.2f} {used.busy:6.2f} {used.peak:6.0f}")
