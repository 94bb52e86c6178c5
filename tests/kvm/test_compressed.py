"""Compressed dumps: streams of every maker, broken ones, bombs, and the copies that are kept of them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import RealFile
from tests.kvm.packed import kernel_gzip, kernel_zstd
from tests.writers.corrupt import patch
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import minidump
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import FormatError, MissingPieceError, NotADumpError
from volatility3_freebsd_kvm.kvm import compressed, containers, copies
from volatility3_freebsd_kvm.kvm.copies import Notes, SparseWriter
from volatility3_freebsd_kvm.kvm.reader import BytesReader, Reader

MIB = 1 << 20
BASE = 0xFFFFFE00_00000000


def content(size: int = 300_000) -> bytes:
    """Bytes as memory has them: some zero, some text, some random."""
    generator = random.Random(1)
    pages = [bytes(4096), b"struct proc " * 341 + b"1234", generator.randbytes(4096)]
    return b"".join(generator.choice(pages) for _ in range(size // 4096 + 1))[:size]


DATA = content()


def small_dump() -> bytes:
    memory = PhysicalMemory()
    for page in range(64):
        memory.write(MIB + page * 4096, content(4096) if page % 3 else bytes(4096))
    memory.fill_random(MIB + 4096, 8 * 4096, seed=2)
    return minidump("amd64", 3, memory, [Mapping(BASE, MIB, 64 * 4096)], message_buffer=b"hello\n" * 10)


DUMP = small_dump()


def unpacked(data: bytes, **options: object) -> tuple[bytes, Notes]:
    """What comes out of a stream."""
    reader = BytesReader(data, "stream")
    kind = compressed.compression(data)
    assert kind is not None
    with tempfile.TemporaryFile() as file:
        writer = SparseWriter(file, Path.cwd(), "stream")
        notes = compressed.unpack(reader, kind, writer, **options)  # type: ignore[arg-type]
        writer.finish()
        file.seek(0)
        result = file.read()
    assert notes.size == len(result)
    assert notes.packed == len(data)
    return result, notes


def fancy_gzip(data: bytes) -> bytes:
    """A member with every optional field."""
    packed = kernel_gzip(data)
    fields = struct.pack("<H", 5) + b"extra" + b"vmcore.0\0" + b"a comment\0" + b"\1\2"
    return packed[:3] + bytes([2 | 4 | 8 | 16]) + packed[4:10] + fields + packed[10:]


def many_frames(data: bytes) -> bytes:
    """As parallel tools write it: frames behind skippable frames."""
    frames = [kernel_zstd(data[at : at + 50_000]) for at in range(0, len(data), 50_000)]
    return b"".join(b"\x50\x2a\x4d\x18\x04\0\0\0size" + frame for frame in frames)


def sized_zstd(data: bytes, level: int = 3) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor(level=level).compress(data)


STREAMS: dict[str, Callable[[bytes], bytes]] = {
    "gzip by the kernel": kernel_gzip,
    "gzip by a big-endian kernel": lambda data: kernel_gzip(data, "big"),
    "gzip by the command": gzip.compress,
    "gzip with every field": fancy_gzip,
    "gzip of several members": lambda data: gzip.compress(data[:100_000]) + gzip.compress(data[100_000:]),
    "gzip, stored": lambda data: gzip.compress(data, 0),
    "gzip with zeros behind it": lambda data: kernel_gzip(data) + bytes(1000),
    "gzip with other things behind it": lambda data: gzip.compress(data) + b"rubbish",
    "zstd by the kernel": kernel_zstd,
    "zstd with its size": sized_zstd,
    "zstd, best": lambda data: sized_zstd(data, 19),
    "zstd of several frames": many_frames,
    "zstd with zeros behind it": lambda data: kernel_zstd(data) + bytes(1000),
    "bzip2": bz2.compress,
    "bzip2 of several streams": lambda data: bz2.compress(data[:10]) + bz2.compress(data[10:]),
    "xz": lzma.compress,
    "xz of several streams": lambda data: lzma.compress(data[:10]) + bytes(8) + lzma.compress(data[10:]),
}


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_every_maker(name: str):
    data, notes = unpacked(STREAMS[name](DATA))
    assert data == DATA
    assert (notes.problem, notes.warnings) == ("", [])


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 131_072, 131_073, 3 * MIB])
@pytest.mark.parametrize("pack", [kernel_gzip, kernel_zstd])
def test_zeros_of_every_length(pack: Callable[[bytes], bytes], size: int):
    data, notes = unpacked(pack(bytes(size)))
    assert data == bytes(size)
    assert not notes.problem


@given(st.lists(st.tuples(st.sampled_from([0, 0, 7]), st.integers(1, 9000)), max_size=12), st.integers(1, 5000))
@settings(max_examples=100, deadline=None)
def test_copies_are_exact_whatever_the_pieces(parts: list[tuple[int, int]], step: int):
    data = b"".join(bytes([value]) * size for value, size in parts)
    seen = []
    with tempfile.TemporaryFile() as file:
        writer = SparseWriter(file, Path.cwd(), "x")
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            if at % 3 == 0:
                seen.append(writer.peek(lambda reader: reader.buffer[0 : reader.size]) == data[: at + step])
        writer.finish()
        file.seek(0)
        assert file.read() == data
    assert all(seen)


@pytest.mark.parametrize("trailer", [b"", b"\1\2\3", bytes(8), b"\xff" * 8], ids=["none", "part", "zeros", "wrong"])
def test_a_broken_trailer_is_told_and_nothing_more(trailer: bytes):
    data, notes = unpacked(kernel_gzip(DATA, trailer=trailer))
    assert data == DATA
    assert notes.problem == ""
    assert notes.warnings == [
        "the gzip trailer does not fit the content: the stream was damaged, or the kernel misplaced the trailer"
    ]


def test_what_is_odd_of_many_members_is_told_once():
    data, notes = unpacked(kernel_gzip(b"x", trailer=bytes(8)) * 1000)
    assert data == b"x" * 1000
    assert len(notes.warnings) == 1


def test_a_wrong_zstd_checksum_is_told_and_nothing_more():
    packed = bytearray(kernel_zstd(DATA))
    packed[-1] ^= 1
    data, notes = unpacked(bytes(packed))
    assert data == DATA
    assert notes.problem == ""
    assert notes.warnings == ["the checksum of the zstd frame does not fit the content: some of it is damaged"]


@pytest.mark.parametrize("name", ["gzip by the kernel", "gzip with every field", "zstd by the kernel", "bzip2", "xz"])
def test_streams_that_end_early_give_what_is_there(name: str):
    packed = STREAMS[name](DATA)
    kind = name.split()[0]
    sizes = [*range(6, 80), *range(80, len(packed) - 8, len(packed) // 40), *range(len(packed) - 12, len(packed))]
    lengths = []
    for size in sizes:
        try:
            data, notes = unpacked(packed[:size])
        except FormatError as error:
            assert str(error) == f"nothing can be unpacked: the {kind} stream ends early"  # noqa: PT017 - for many
            continue
        assert data == DATA[: len(data)]
        lengths.append(len(data))
        # The last bytes may be no more than a checksum.
        if len(data) < len(DATA):
            said = f"the {kind} stream ends early: {len(data)} bytes came out of {size}, what follows is missing"
            assert notes.problem == said
    assert lengths == sorted(lengths)
    if kind in ("gzip", "zstd"):
        # All but what one block may hold back.
        assert len(DATA) - max(length for length in lengths if length < len(DATA)) < 140_000


@pytest.mark.parametrize("name", ["gzip by the kernel", "zstd by the kernel", "bzip2", "xz"])
def test_damaged_streams_give_what_is_before_the_damage(name: str):
    packed = STREAMS[name](DATA)
    kind = name.split()[0]
    generator = random.Random(3)
    for _ in range(60):
        at = generator.randrange(6, len(packed))
        damaged = packed[:at] + bytes([packed[at] ^ (1 << generator.randrange(8))]) + packed[at + 1 :]
        try:
            data, notes = unpacked(damaged)
        except FormatError as error:
            assert str(error).startswith(f"nothing can be unpacked: the {kind} stream ")  # noqa: PT017 - for many
            continue
        assert len(data) < 4 * len(DATA)
        # Whatever is wrong is told, except in fields that mean nothing.
        if data != DATA:
            assert notes.problem.startswith(f"the {kind} stream ") or notes.warnings


def test_damage_in_the_middle_costs_little_of_what_is_before_it():
    noise = random.Random(5).randbytes(2 * MIB)
    packed = bytearray(gzip.compress(noise, 1))
    at = packed.index(noise[MIB : MIB + 64])
    # The next stored block's lengths contradict each other.
    packed[at + 70_000 : at + 140_000] = b"\xff" * 70_000
    data, notes = unpacked(bytes(packed))
    assert notes.problem.startswith("the gzip stream is damaged at byte ")
    assert MIB < len(data) <= MIB + 300_000
    assert data[:MIB] == noise[:MIB]


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b\x08", b"\x1f\x8b\x08" + bytes(6), b"\x1f\x8b\x08\x08" + b"x" * 100_000, b"\x28\xb5\x2f\xfd", b"BZh9",
     b"\xfd7zXZ\0", b"\x50\x2a\x4d\x18\xff\xff\xff\xff", b"\x28\xb5\x2f\xfd" + b"\xff" * 50],
)  # fmt: skip
def test_streams_of_nothing(data: bytes):
    with pytest.raises(FormatError, match=r"^nothing can be unpacked: the \w+ stream .+"):
        unpacked(data)


@given(st.sampled_from(sorted(compressed.MAGICS)), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_streams_are_refused_or_unpacked(magic: bytes, rest: bytes):
    try:
        data, _ = unpacked(magic + rest)
    except FormatError as error:
        assert "\n" not in str(error)  # noqa: PT017 - for many
    else:
        assert data


def test_progress_is_told():
    noise = random.Random(5).randbytes(20 * MIB)
    told: list[tuple[float, str]] = []
    unpacked(gzip.compress(noise, 0), progress=lambda percent, text: told.append((percent, text)))
    percents = [percent for percent, _ in told]
    assert len(told) == 3
    assert percents == sorted(percents)
    assert percents[-1] <= 100
    assert {text for _, text in told} == {"Unpacking stream"}


# --- bombs -----------------------------------------------------------------------------------------------------------


def zstd_bomb(blocks: int, start: bytes = b"") -> bytes:
    """A frame of RLE blocks: four bytes for 128 KiB each."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, 0x38])  # a window of 128 KiB, no content size
    if start:
        frame += (len(start) << 3).to_bytes(3, "little") + start
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return frame + block * blocks + (1).to_bytes(3, "little")


@pytest.mark.parametrize(
    "bomb",
    [lambda: zstd_bomb(8192), lambda: gzip.compress(bytes(1 << 30), 1), lambda: bz2.compress(bytes(1 << 28)) * 4],
    ids=["zstd", "gzip", "bzip2"],
)
def test_bombs_stop_at_the_limit_in_little_memory(
    bomb: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    packed = bomb()
    monkeypatch.setattr(compressed, "FLOOR", 64 * MIB)
    monkeypatch.setattr(compressed, "RATIO", 1)
    path = tmp_path / "bomb"
    tracemalloc.start()
    with path.open("w+b") as file:
        writer = SparseWriter(file, tmp_path, "bomb")
        kind = compressed.compression(packed)
        assert kind is not None
        notes = compressed.unpack(BytesReader(packed), kind, writer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 64 * MIB < notes.size <= 66 * MIB
    assert f"unpacks to more than {64 * MIB} bytes, which no dump would" in notes.problem
    assert peak < 16 * MIB
    if os.name == "posix":
        assert path.stat().st_blocks * 512 < MIB


def test_what_follows_a_dump_is_left_out(tmp_path: Path):
    """The dump's own headers say how long it is: a bomb behind it does nothing."""
    path = tmp_path / "vmcore.0.zst"
    packed = kernel_zstd(DUMP)
    path.write_bytes(packed + zstd_bomb(8192))
    with kvm.open(path) as dump:
        assert len(DUMP) <= dump.reader.size < len(DUMP) + 2 * compressed.SLACK + 2 * (128 << 10)
        assert dump.reader.buffer[0 : len(DUMP)] == DUMP
        assert dump.warnings == ["the stream goes on after the end of the dump; the rest is left out"]


def test_the_size_of_a_dump_by_its_own_headers():
    def size(data: bytes) -> int | None:
        return containers.promised_size(BytesReader(data), packed=1000)

    assert size(DUMP) == len(DUMP)
    assert size(DUMP[:-5000]) == len(DUMP)
    assert size(DUMP[:4096]) is None
    assert size(DUMP[:100]) is None
    assert size(b"\x7fELF" + bytes(100)) is None
    assert size(b"text") is None


def test_a_page_bitmap_that_only_a_bomb_has(tmp_path: Path):
    """It would take its size in memory, twice."""
    path = tmp_path / "vmcore.0.gz"
    header = patch(DUMP, "amd64", 3, "bitmapsize", 0xFFFF_F000)[:4096]
    path.write_bytes(kernel_gzip(header + bytes(8 * MIB)))
    size = path.stat().st_size
    wanted = f"^the minidump claims a page bitmap of 4294963200 bytes, but has {size} bytes compressed$"
    with pytest.raises(FormatError, match=wanted):
        kvm.open(path, cache=tmp_path / "cache")
    assert files(tmp_path / "cache") == set()


def test_small_windows_are_all_that_zstd_may_ask_for():
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + (0 << 3 | 1).to_bytes(3, "little")
    pytest.importorskip("zstandard")
    with pytest.raises(FormatError, match=r"^nothing can be unpacked: the zstd stream is damaged"):
        unpacked(frame)


# --- copies ----------------------------------------------------------------------------------------------------------


def saved(directory: Path, data: bytes, name: str = "vmcore.0.gz") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def opened(path: Path, cache: Path | None, **options: object) -> bytes:
    """All of the dump in a file."""
    with kvm.open(path, cache=cache, **options) as dump:  # type: ignore[arg-type]
        return dump.reader.buffer[0 : dump.reader.size]


def files(cache: Path) -> set[str]:
    return {one.name for one in (cache / "dumps").iterdir()}


@pytest.mark.parametrize("pack", [kernel_gzip, kernel_zstd, bz2.compress, lzma.compress])
def test_the_second_time_nothing_is_unpacked(
    pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, cache = saved(tmp_path, pack(DUMP)), tmp_path / "cache"
    assert opened(path, cache) == DUMP
    assert len(files(cache)) == 2

    def fail(*_: object) -> Notes:
        raise AssertionError("unpacked again")

    monkeypatch.setattr(compressed, "unpack", fail)
    with kvm.open(path, cache=cache) as dump:
        assert dump.unwrapped is not None
        assert type(dump.unwrapped.reader).__name__ == "MmapReader"
        assert dump.reader.buffer[0 : dump.reader.size] == DUMP


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_copies_are_for_their_owner_only(tmp_path: Path):
    cache = tmp_path / "cache"
    opened(saved(tmp_path, kernel_gzip(DUMP)), cache)
    assert (cache / "dumps").stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in (cache / "dumps").iterdir()} == {0o600}


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="the system does not tell of holes")
def test_zeros_are_holes(tmp_path: Path):
    cache = tmp_path / "cache"
    memory = PhysicalMemory()
    memory.write(64 * MIB, b"x")
    for page in range(0x2000):
        memory.write(MIB + page * 4096, b"\0")
    data = minidump("amd64", 3, memory, [])
    opened(saved(tmp_path, kernel_gzip(data)), cache)
    (copy,) = (one for one in (cache / "dumps").iterdir() if one.suffix != ".json")
    assert copy.stat().st_size == len(data) > 32 * MIB
    assert copy.stat().st_blocks * 512 < MIB


def test_another_file_in_its_place_is_another_copy(tmp_path: Path):
    """Of the same size and times: the samples of its ends tell."""
    cache = tmp_path / "cache"
    other = DUMP[:0x1000] + b"HELLO" + DUMP[0x1005:]
    packed = [gzip.compress(data) for data in (DUMP, other)]
    size = max(map(len, packed)) + 8
    for data, stream in zip((DUMP, other), packed, strict=True):
        path = saved(tmp_path, stream.ljust(size, b"\0"))
        os.utime(path, (1000, 1000))
        assert opened(path, cache) == data


def test_a_moved_time_is_another_copy(tmp_path: Path):
    cache = tmp_path / "cache"
    path = saved(tmp_path, kernel_gzip(DUMP))
    opened(path, cache)
    os.utime(path, (1, 1))
    opened(path, cache)
    assert len(files(cache)) == 4


@pytest.mark.parametrize("damage", ["no notes", "notes that are none", "a copy that is cut off", "no copy"])
def test_copies_that_are_not_whole_are_made_again(damage: str, tmp_path: Path):
    path, cache = saved(tmp_path, kernel_gzip(DUMP)), tmp_path / "cache"
    opened(path, cache)
    copy, notes = sorted((cache / "dumps").iterdir(), key=lambda one: one.suffix)
    if damage == "no notes":
        notes.unlink()
    elif damage == "notes that are none":
        notes.write_text('{"size": "many", "else": 1}')
    elif damage == "a copy that is cut off":
        os.truncate(copy, 5000)
    else:
        copy.unlink()
    assert opened(path, cache) == DUMP
    assert files(cache) == {copy.name, notes.name}
    assert copy.stat().st_size == len(DUMP)


def test_what_is_said_of_a_stream_is_said_each_time(tmp_path: Path):
    packed = kernel_gzip(DUMP)
    path, cache = saved(tmp_path, packed[: len(packed) // 2]), tmp_path / "cache"
    said = []
    for _ in range(2):
        with kvm.open(path, cache=cache) as dump:
            said.append(dump.warnings)
            assert dump.pages_beyond_end > 0
    assert said[0] == said[1]
    assert said[0][0].startswith("the gzip stream ends early: ")
    assert said[0][0].endswith(f" bytes came out of {len(packed) // 2}, what follows is missing")


def test_without_a_cache_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path, kernel_gzip(DUMP))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert opened(path, None) == DUMP
    assert [one.name for one in tmp_path.iterdir()] == ["vmcore.0.gz"]


def test_bytes_are_unpacked_too():
    with kvm.open(kernel_gzip(DUMP)) as dump:
        assert dump.reader.buffer[0 : dump.reader.size] == DUMP


def test_files_without_a_dump_are_remembered_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, cache = saved(tmp_path, gzip.compress(DATA), "letters.gz"), tmp_path / "cache"
    reason = r"letters\.gz is no FreeBSD kernel dump: in it \(gzip\) is neither a minidump nor an ELF core$"
    with pytest.raises(NotADumpError, match=reason):
        kvm.open(path, cache=cache)
    (left,) = (cache / "dumps").iterdir()
    assert json.loads(left.read_text())["useless"] is True
    monkeypatch.setattr(compressed, "unpack", None)
    with pytest.raises(NotADumpError, match=reason):
        kvm.open(path, cache=cache)


@pytest.mark.parametrize("cached", [True, False])
def test_a_full_disk(cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, cache = saved(tmp_path, kernel_gzip(DUMP)), tmp_path / "cache"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usage = type("Usage", (), {"free": copies.RESERVE})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(
        MissingPieceError, match=r"does not fit unpacked into .+ bytes are done, and the disk is nearly full$"
    ):
        kvm.open(path, cache=cache if cached else None)
    assert not cached or list((cache / "dumps").iterdir()) == []


def test_the_copy_that_was_not_used_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = tmp_path / "cache"
    names = []
    for number in range(3):
        path = saved(tmp_path, gzip.compress(DUMP, number + 1), f"vmcore.{number}.gz")
        before = files(cache) if names else set()
        opened(path, cache)
        (name,) = (one for one in files(cache) - before if not one.endswith(".json"))
        names.append(name)
        os.utime(cache / "dumps" / name, (1000 + number, 1000 + number))
    opened(tmp_path / "vmcore.0.gz", cache)  # used again: now the newest
    monkeypatch.setattr(copies, "KEPT", copies._allocated(cache / "dumps" / names[0]) + 1)
    opened(saved(tmp_path, bz2.compress(DUMP), "vmcore.3"), cache)
    assert names[0] in files(cache)
    assert not {names[1], names[2]} & files(cache)
    assert opened(tmp_path / "vmcore.1.gz", cache) == DUMP


def test_what_interrupted_runs_left_goes(tmp_path: Path):
    cache = tmp_path / "cache"
    (cache / "dumps").mkdir(parents=True)
    for name, age in ((".partial-old", 100_000), (".partial-new", 10)):
        left = cache / "dumps" / name
        left.write_bytes(b"x")
        os.utime(left, (time.time() - age, time.time() - age))
    opened(saved(tmp_path, kernel_gzip(DUMP)), cache)
    assert ".partial-old" not in files(cache)
    assert ".partial-new" in files(cache)


def test_notes_of_files_without_a_copy_are_forgotten_at_last(tmp_path: Path):
    path, cache = saved(tmp_path, gzip.compress(DATA), "letters.gz"), tmp_path / "cache"
    with pytest.raises(NotADumpError):
        kvm.open(path, cache=cache)
    (notes,) = (cache / "dumps").iterdir()
    for days, kept in ((89, True), (91, False)):
        os.utime(notes, (time.time() - days * 86400,) * 2)
        opened(saved(tmp_path, kernel_gzip(DUMP), f"vmcore.{days}"), cache)
        assert notes.exists() is kept


def test_another_process_that_has_made_the_same_copy_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows does not replace what is mapped."""
    path, cache = saved(tmp_path, kernel_gzip(DUMP)), tmp_path / "cache"
    look = copies._find
    monkeypatch.setattr(copies, "_find", lambda *_: monkeypatch.setattr(copies, "_find", look))
    replace = Path.replace

    def refuse(here: Path, there: Path) -> Path:
        replace(here, there)
        monkeypatch.setattr(Path, "replace", replace)
        copies._put_notes(cache / "dumps", there.name, Notes(size=len(DUMP), packed=path.stat().st_size))
        here.touch()
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "replace", refuse)
    assert opened(path, cache) == DUMP
    assert len(files(cache)) == 2
    assert not [name for name in files(cache) if name.startswith(".partial")]


def test_a_copy_that_cannot_be_put_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, cache = saved(tmp_path, kernel_gzip(DUMP)), tmp_path / "cache"

    def refuse(*_: Path) -> Path:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        kvm.open(path, cache=cache)
    assert files(cache) == set()


def test_two_processes_at_once(tmp_path: Path):
    path, cache = saved(tmp_path, kernel_gzip(DUMP)), tmp_path / "cache"
    code = (
        "import sys; from volatility3_freebsd_kvm import kvm\n"
        "for _ in range(20):\n"
        "    with kvm.open(sys.argv[1], cache=sys.argv[2]) as dump: print(hash(dump.reader.buffer[0:dump.reader.size]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(kvm.__file__).parents[2]), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", code, str(path), str(cache)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [one.communicate(timeout=120)[0].split() for one in running]
    assert [one.returncode for one in running] == [0, 0, 0]
    assert len({line for output in outputs for line in output}) == 1
    assert len(files(cache)) == 2


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, cache = saved(tmp_path, kernel_gzip(DUMP)), tmp_path / "cache"

    def interrupt(reader: Reader, kind: str, writer: SparseWriter, *_: object, **__: object) -> Notes:
        writer.write(b"x" * 10_000)
        raise KeyboardInterrupt

    monkeypatch.setattr(compressed, "unpack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        kvm.open(path, cache=cache)
    assert files(cache) == set()


def test_without_the_library_for_zstd_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path, kernel_zstd(DUMP), "vmcore.0.zst")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    wanted = r"^the dump is compressed with zstd: pip install 'volatility3-freebsd-kvm\[zstd\]' to read it$"
    with pytest.raises(MissingPieceError, match=wanted):
        kvm.open(path)


# --- real dumps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [kernel_gzip, kernel_zstd])
@pytest.mark.parametrize("name", ["vmcore-amd64-minidump", "vmcore-i386-minidump", "vmcore-arm64-minidump"])
def test_real_dumps(name: str, pack: Callable[[bytes], bytes], real_file: RealFile, tmp_path: Path):
    plain = real_file(name)
    path = saved(tmp_path, pack(plain.read_bytes()), "vmcore.0")
    with kvm.open(path, cache=tmp_path / "cache") as dump, kvm.open(plain) as expected:
        assert dump.reader.size == expected.reader.size
        assert dump.reader.buffer[0 : dump.reader.size] == expected.reader.buffer[0 : expected.reader.size]
        assert list(dump.runs()) == list(expected.runs())
        assert dump.warnings == expected.warnings


def test_a_real_full_dump(real_file: RealFile, tmp_path: Path):
    plain = real_file("vmcore-amd64-full")
    path = saved(tmp_path, kernel_gzip(plain.read_bytes()), "vmcore.0.gz")
    with kvm.open(path) as dump, kvm.open(plain) as expected:
        assert zlib.crc32(dump.reader.buffer[0 : dump.reader.size]) == zlib.crc32(plain.read_bytes())
        assert list(dump.runs()) == list(expected.runs())
