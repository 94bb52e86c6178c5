"""Keeps the tests away from the user's files, and finds the real dumps."""

from __future__ import annotations

import atexit
import bz2
import functools
import lzma
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.minikernel import toolchain

# The framework makes its cache directory while it is imported, and children inherit the variable.
assert "volatility3" not in sys.modules, "volatility3 was imported before its cache could be moved"
# Compilers and kernels stay where they are: fetching and building them anew would take minutes.
os.environ.setdefault(toolchain.CACHE_VARIABLE, str(toolchain.cache_directory()))
_CACHE = tempfile.mkdtemp(prefix="volatility3-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

from tests.scenario.kernels import KERNELS  # noqa: E402 - the cache comes first

ROOT = Path(__file__).resolve().parents[1]
_COMPRESSED: dict[str, Callable[[Path], IO[bytes]]] = {"": open, ".bz2": bz2.open, ".xz": lzma.open}
_CHUNK = 1 << 16

RealFile = Callable[[str], Path]


def vmcores_directory() -> Path:
    """Where the real dumps should be."""
    given = os.environ.get("FREEBSD_VMCORES")
    return Path(given) if given else ROOT.parent / "shared" / "vmcores"


def _copy_sparse(source: IO[bytes], target: IO[bytes]) -> None:
    """Leave holes for zeros: the dumps are mostly that."""
    size = 0
    while piece := source.read(_CHUNK):
        size += len(piece)
        if piece.count(0) == len(piece):
            target.seek(len(piece), os.SEEK_CUR)
        else:
            target.write(piece)
    target.truncate(size)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``: tests of one kernel, and else those of one file, run in one process; what is costly is made once."""
    from xdist.scheduler import LoadScopeScheduling

    kernel = re.compile(rf"[\[-]({'|'.join(map(re.escape, KERNELS))})[-\]]")

    class ByKernel(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found = kernel.search(nodeid)
            return found[1] if found else nodeid.partition("::")[0]

    return ByKernel(config, log)


@pytest.fixture(scope="session", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """Every kernel of the scenario, one at a time: pytest puts the tests of one kernel together."""
    return str(request.param)


@pytest.fixture(scope="session")
def real_file(tmp_path_factory: pytest.TempPathFactory) -> RealFile:
    """Path of a real dump or its kernel by its name without .bz2 or .xz; skips the test where there is none."""
    directory = vmcores_directory()
    decompressed = tmp_path_factory.mktemp("vmcores")

    @functools.cache
    def find(name: str) -> Path | None:
        for suffix, opener in _COMPRESSED.items():
            source = directory / f"{name}{suffix}"
            if not source.is_file():
                continue
            if not suffix:
                return source
            target = decompressed / name
            with opener(source, "rb") as packed, target.open("wb") as plain:
                _copy_sparse(packed, plain)
            return target
        return None

    def path(name: str) -> Path:
        found = find(name)
        if found is None:
            pytest.skip(f"no real dump {name}(.bz2, .xz) in {directory}; FREEBSD_VMCORES may name its directory")
        return found

    return path
