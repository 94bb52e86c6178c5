"""Dumps in containers beside the plain one: the first time, later times, reads here and there.

    pytest benchmarks/test_containers.py     # ratios within each group; the last test prints the size of the copies

A third of the pages is zero, a third is text, a third cannot be compressed. FREEBSD_BENCHMARK_MB changes the size.
"""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.dump import PAGE, BenchmarkDump, write_dump
from tests.kvm.packed import AES, CHACHA, encrypt, private_key
from volatility3_freebsd_kvm import kvm

zstandard = pytest.importorskip("zstandard")

READS = 20_000
MIB = 1 << 20
PACKED = ["gzip", "zstd"]
RIVALS = ["plain", *PACKED, "AES-256-CBC", "ChaCha20"]


class Files(NamedTuple):
    """The plain dump, and the same in each container."""

    dump: BenchmarkDump
    paths: dict[str, Path]
    key: Path
    cache: Path

    def open(self, rival: str, cache: Path | None = None) -> kvm.Dump:
        return kvm.open(self.paths[rival], key=self.key, cache=cache or self.cache)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("containers")
    size = int(os.environ.get("FREEBSD_BENCHMARK_MB", "512"))
    dump = write_dump(directory / "vmcore.0", size, size // 4)
    _fill(dump)
    paths = {"plain": dump.path, "gzip": directory / "vmcore.1.gz", "zstd": directory / "vmcore.2.zst"}
    # As fast and as well as the kernel does by default.
    with dump.path.open("rb") as plain, gzip.open(paths["gzip"], "wb", 6) as packed:
        while piece := plain.read(MIB):
            packed.write(piece)
    with dump.path.open("rb") as plain, paths["zstd"].open("wb") as packed:
        zstandard.ZstdCompressor(level=6, write_content_size=False).copy_stream(plain, packed)
    key = private_key(directory / "private.pem")
    data = dump.path.read_bytes()
    for number, (name, cipher) in enumerate({"AES-256-CBC": AES, "ChaCha20": CHACHA}.items(), 3):
        paths[name] = directory / f"vmcore_encrypted.{number}"
        content, block = encrypt(data, key, cipher)
        paths[name].write_bytes(content)
        (directory / f"key.{number}").write_bytes(block)
    return Files(dump, paths, key, directory / "cache")


def _fill(dump: BenchmarkDump) -> None:
    """Give the pages content that compresses as that of real dumps does."""
    generator = random.Random(3)
    words = [generator.randbytes(generator.randrange(3, 9)).hex().encode() for _ in range(500)]
    with dump.path.open("r+b") as file:
        for place, page in enumerate(dump.pages):
            if page in dump.tables:
                continue
            text = b" ".join(generator.choices(words, k=PAGE // 6))[:PAGE]
            file.seek(dump.pages_offset + place * PAGE)
            file.write((bytes(PAGE), text, generator.randbytes(PAGE))[page % 3])


def _places(dump: BenchmarkDump, size: int) -> list[int]:
    generator = random.Random(7)
    return [generator.choice(dump.pages) * PAGE + generator.randrange(PAGE - size + 1) for _ in range(READS)]


# --- opening ---------------------------------------------------------------------------------------------------------


def _read_plain(files: Files) -> int:
    total = 0
    with files.paths["plain"].open("rb") as file:
        while piece := file.read(MIB):
            total = zlib.crc32(piece, total)
    return total


def _command(program: str, path: Path) -> None:
    subprocess.run([program, "-dc", path], stdout=subprocess.DEVNULL, check=True)


@pytest.mark.parametrize("rival", ["read the plain dump", *PACKED, "gzip -dc", "zstd -dc"])
def test_the_first_time(benchmark: Any, files: Files, rival: str, tmp_path: Path) -> None:
    benchmark.group = "the first time: all is unpacked"
    caches = (tmp_path / str(number) for number in range(10))
    runs: dict[str, Callable[[], Any]] = {
        "read the plain dump": lambda: _read_plain(files),
        **{name: lambda name=name: files.open(name, next(caches)).close() for name in PACKED},  # type: ignore[misc]
        "gzip -dc": lambda: _command("gzip", files.paths["gzip"]),
        "zstd -dc": lambda: _command("zstd", files.paths["zstd"]),
    }
    try:
        benchmark.pedantic(runs[rival], rounds=1)
    except FileNotFoundError:
        pytest.skip(f"there is no {rival} command")


@pytest.mark.parametrize("rival", RIVALS)
def test_later_times(benchmark: Any, files: Files, rival: str) -> None:
    benchmark.group = "later times: opened and indexed"
    files.open(rival).close()

    def run() -> int:
        with files.open(rival) as dump:
            return dump.pages_dumped

    assert benchmark.pedantic(run, rounds=5) == len(files.dump.pages)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=RIVALS)
def rival(request: pytest.FixtureRequest, files: Files) -> Iterator[kvm.Dump]:
    with files.open(request.param) as dump:
        yield dump


@pytest.mark.parametrize("size", [8, PAGE])
def test_random_reads(benchmark: Any, files: Files, rival: kvm.Dump, size: int) -> None:
    benchmark.group = f"{READS} random reads of {size} bytes"
    places, read = _places(files.dump, size), rival.read_physical

    def run() -> None:
        for pa in places:
            read(pa, size)

    benchmark.pedantic(run, rounds=2, warmup_rounds=0)


def test_all_of_it(benchmark: Any, files: Files, rival: kvm.Dump) -> None:
    benchmark.group = "all of the file, a MiB at a time"
    buffer, size = rival.reader.buffer, rival.reader.size

    def run() -> int:
        return sum(len(buffer[at : at + MIB]) for at in range(0, size, MIB))

    assert benchmark.pedantic(run, rounds=2, warmup_rounds=0) == size


@pytest.mark.parametrize("how", ["copy", "GzipFile"])
def test_far_reads(benchmark: Any, files: Files, how: str) -> None:
    """What the framework would do by itself: unpack again from the beginning, or on to the place."""
    benchmark.group = "5 reads all over a dump compressed with gzip"
    generator = random.Random(1)
    size = files.paths["plain"].stat().st_size
    places = [generator.randrange(size) for _ in range(5)]
    with files.open("gzip") as dump, gzip.open(files.paths["gzip"]) as file:

        def run() -> int:
            if how == "copy":
                return sum(len(dump.reader.buffer[at : at + PAGE]) for at in places)
            return sum(len(file.read(PAGE)) for at in places if file.seek(at) >= 0)

        assert benchmark.pedantic(run, rounds=1) > 0


# --- the disk --------------------------------------------------------------------------------------------------------


def test_size_of_the_copies(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    plain = files.paths["plain"].stat().st_size
    for name in PACKED:
        files.open(name).close()
    with capsys.disabled():
        for name in PACKED:
            print(f"\n{name}: packed {files.paths[name].stat().st_size / plain:.2f} of the plain size", end="")
        for copy in (files.cache / "dumps").iterdir():
            if copy.suffix != ".json" and hasattr(copy.stat(), "st_blocks"):
                assert copy.stat().st_size == plain
                print(f"\na copy takes {copy.stat().st_blocks * 512 / plain:.2f} of the plain size on the disk", end="")
