"""The scenario's dumps in everything that a dump may arrive in: each shows what the plain dump shows."""

from __future__ import annotations

import gzip
import json
import lzma
import pickle
import random
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from volatility3.framework import constants, contexts, exceptions

from tests.conftest import RealFile
from tests.forms import CONTAINERS, Arrived, Sample, encrypted, sample_of, save, small_dump
from tests.framework import GENERIC, INFO, Stack, rebuild, stack, table, variables
from tests.kvm.packed import (
    AES,
    CHACHA,
    encrypt,
    gpt_disk,
    kernel_gzip,
    kernel_zstd,
    live_dump,
    mbr_disk,
    private_key,
    text_archive,
)
from tests.scenario.kernels import build_world
from tests.writers.kerneldump import DumpHeader, partition
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import FormatError, KVMError, NotADumpError, TextDumpError
from volatility3_freebsd_kvm.layers.container import FreeBSDContainerLayer, holds_no_memory

KERNELS = ["15-amd64", "15-powerpc64", "15-arm"]
"""64 bit, big-endian, 32 bit."""


@pytest.fixture(scope="module", params=KERNELS)
def sample(request: pytest.FixtureRequest) -> Sample:
    return sample_of(request.param)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_key(tmp_path_factory.mktemp("keys") / "private.pem")


@pytest.fixture(params=CONTAINERS)
def arrived(request: pytest.FixtureRequest, sample: Sample, pem: Path, tmp_path: Path) -> Arrived:
    return CONTAINERS[request.param](tmp_path, sample, pem)


# --- kvm alone -------------------------------------------------------------------------------------------------------


def test_the_library_reads_the_same(arrived: Arrived, sample: Sample, tmp_path: Path):
    with kvm.open(sample.data) as plain, kvm.open(arrived.path, key=arrived.key, cache=tmp_path / "cache") as dump:
        assert dump.unwrapped is not None
        assert tuple(one.kind for one in dump.unwrapped.containers) == arrived.kinds
        assert dump.architecture == plain.architecture
        assert list(dump.runs()) == list(plain.runs())
        for run in plain.runs():
            assert dump.read_physical(run.pa, run.length) == plain.read_physical(run.pa, run.length)
        assert list(dump.walk()) == list(plain.walk())
        assert dump.message_buffer == plain.message_buffer
        told = [warning for warning in dump.warnings if not warning.startswith("savecore has cleared")]
        assert told == plain.warnings


@pytest.mark.parametrize("name", ["gzip by savecore", "AES", "ChaCha20 of gzip", "disk with a GPT"])
def test_full_dumps_too(name: str, pem: Path, tmp_path: Path):
    memory = build_world("15-amd64").memory
    plain = Sample("15-amd64", memory.full_dump(), "amd64", "little")
    arrived = CONTAINERS[name](tmp_path, plain, pem)
    symbols = memory.image.symbols
    with kvm.open(plain.data, symbols=symbols) as expected, kvm.open(arrived.path, symbols, key=arrived.key) as dump:
        assert list(dump.runs()) == list(expected.runs())
        va = memory.image.segments[0].va
        assert dump.read(va, 4096) == expected.read(va, 4096)


# --- the framework ---------------------------------------------------------------------------------------------------


def test_layers_of_a_container(pem: Path, tmp_path: Path):
    sample = sample_of("15-powerpc64")
    arrived = CONTAINERS["ChaCha20 of gzip"](tmp_path, sample, pem)
    made = stack(arrived.path, key=arrived.key)
    assert made.classes[:3] == ["FileLayer", "FreeBSDContainerLayer", "FreeBSDMinidumpLayer"]
    layer = made.layers[1]
    assert isinstance(layer, FreeBSDContainerLayer)
    assert (layer.minimum_address, layer.maximum_address) == (0, len(sample.data) - 1)
    assert layer.read(0, len(sample.data)) == sample.data
    pa, size, offset, _, name = next(iter(made.memory.mapping(0, made.memory.maximum_address + 1, ignore_errors=True)))
    assert name == layer.name
    assert layer.read(offset, size) == made.memory.read(pa, size)


@pytest.fixture(scope="module")
def container(pem: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, bytes]:
    """The layers of a small encrypted dump, and what is in it."""
    directory = tmp_path_factory.mktemp("container")
    path = encrypted(directory, sample_of("15-amd64"), pem, AES, small_dump())
    return stack(path, key=pem), small_dump()


def test_reading_the_layer_of_a_container(container: tuple[Stack, bytes]):
    made, data = container
    layer, size = made.layers[1], len(data)
    assert layer.is_valid(0, size)
    assert not layer.is_valid(0, size + 1)
    assert not layer.is_valid(-1)
    assert layer.read(size - 5, 10, pad=True) == data[-5:] + bytes(5)
    assert layer.read(-3, 5, pad=True) == bytes(3) + data[:2]
    assert layer.read(size + 100, 3, pad=True) == bytes(3)
    assert layer.read(7, 0) == b""
    for offset, length, bad in ((size - 5, 6, size), (size, 1, size), (size + 9, 1, size + 9), (-1, 3, -1)):
        with pytest.raises(exceptions.InvalidAddressException) as fault:
            layer.read(offset, length)
        assert fault.value.invalid_address == bad
    with pytest.raises(exceptions.LayerException, match="cannot be written"):
        layer.write(0, b"x")


def test_layers_survive_copies_of_their_context(container: tuple[Stack, bytes]):
    made, data = container
    for context in (pickle.loads(pickle.dumps(made.context)), made.context.clone()):
        assert isinstance(context, contexts.Context)
        layer = context.layers[made.layers[1].name]
        assert layer is not made.layers[1]
        assert layer.read(0, len(data)) == data


def test_a_saved_configuration_brings_its_key(container: tuple[Stack, bytes], pem: Path):
    made, data = container
    saved = made.saved_configuration()
    assert saved["primary.memory_layer.base_layer.key"] == pem.resolve().as_uri()
    again = rebuild(saved)
    assert again.classes == made.classes
    assert again.layers[1].read(0, len(data)) == data
    assert again.saved_configuration() == saved
    assert json.dumps(saved)


def test_closing_a_layer_does_not_close_what_others_use(tmp_path: Path):
    path = save(tmp_path, "vmcore.0.gz", gzip.compress(small_dump()))
    first, second = stack(path), stack(path)
    for layer in reversed(first.layers[1:]):
        layer.destroy()
    assert second.memory.read(0x10_0000, 8) == stack(path).memory.read(0x10_0000, 8)


def test_the_framework_does_not_unpack_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It asks for the size of a .gz file by seeking to its end, in each command, and fails where that fails."""
    data = gzip.compress(small_dump())
    path = save(tmp_path, "vmcore.0.gz", data[:-20])
    monkeypatch.setattr(gzip.GzipFile, "seek", lambda *_: pytest.fail("unpacked by the framework"))
    made = stack(path)
    assert made.classes == ["FileLayer", "FreeBSDContainerLayer", "FreeBSDMinidumpLayer", "FreeBSDIntel32e"]
    assert made.layers[0].maximum_address == made.layers[1].maximum_address
    assert any("ends early" in warning for warning in made.dump.warnings)


@pytest.mark.parametrize("pack", [kernel_gzip, kernel_zstd])
def test_what_is_missing_of_a_stream_is_logged_once(
    pack: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Whatever the plugin."""
    data = pack(sample_of("15-amd64").data)
    path = save(tmp_path, "vmcore.0", data[:-5000])
    stack(path, "freebsd.kvm.pages.Pages")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert said[0].startswith(f"{path}: the {pack.__name__.removeprefix('kernel_')} stream ends early: ")
    assert said[0].endswith(f" bytes came out of {len(data) - 5000}, what follows is missing")


@pytest.mark.parametrize(
    ("name", "pack", "as_framework"),
    [
        ("vmcore.0.gz", kernel_gzip, True),
        ("vmcore.0.zst", kernel_zstd, False),
        ("swap.img", partition, False),
        ("swap.img.gz", lambda data: gzip.compress(partition(data)), True),
        ("vmcore.0.gz.xz", lambda data: lzma.compress(gzip.compress(data)), True),
        ("vmcore.0", gzip.compress, False),
    ],
)
def test_the_file_is_as_long_as_the_framework_reads_it(
    name: str, pack: Callable[[bytes], bytes], as_framework: bool, tmp_path: Path
):
    path = save(tmp_path, name, pack(small_dump()))
    made = stack(path)
    assert made.classes[:2] == ["FileLayer", "FreeBSDContainerLayer"]
    file = made.layers[0]
    assert (file.maximum_address + 1 == path.stat().st_size) is not as_framework
    assert len(file.read(file.maximum_address - 9, 10)) == 10
    assert file._file.seek(0, 2) == file.maximum_address + 1


def test_rows_of_the_layer_of_a_container(tmp_path: Path):
    packed_dump = kernel_gzip(small_dump())
    rows = table(save(tmp_path, "vmcore.0", packed_dump), "freebsd.kvm.layers.Layers")
    size = len(small_dump())
    assert [(row["Layer class"], row["Mapped"], row["Notes"]) for row in rows[:2]] == [
        ("FileLayer", len(packed_dump), ""),
        ("FreeBSDContainerLayer", size, f"gzip, {len(packed_dump)} bytes, {size} unpacked"),
    ]


def test_copies_are_kept_in_the_cache_of_the_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(constants, "CACHE_PATH", str(tmp_path / "cache"))
    stack(save(tmp_path, "vmcore.0.gz", gzip.compress(small_dump())))
    names = sorted(one.suffix for one in (tmp_path / "cache" / "freebsd-kvm" / "dumps").iterdir())
    assert names == ["", ".json"]


def test_a_dump_within_a_zip_is_read_through_the_framework(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "case.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vmcore.0", small_dump())
    context = contexts.Context()
    context.config["file.location"] = f"jar:file:{tmp_path / 'case.zip'}!vmcore.0"
    from volatility3.framework.layers import physical

    context.add_layer(physical.FileLayer(context, "file", "file"))
    from volatility3_freebsd_kvm.layers.stack import dump_of

    dump = dump_of(context, "file")
    assert dump.read_physical(0x10_0000, 8) == kvm.open(small_dump()).read_physical(0x10_0000, 8)


@pytest.mark.parametrize("pack", [gzip.compress, kernel_zstd])
@pytest.mark.parametrize(
    "image", [b"EMiL" + bytes(10_000), bytes(100_000) + b"FreeBSD 15.0-RELEASE #0: " + bytes(5000)]
)
def test_compressed_images_of_memory(pack: Callable[[bytes], bytes], image: bytes, tmp_path: Path):
    """LiME, and raw memory that names FreeBSD: others find out whether that is so."""
    made = stack(save(tmp_path, "memory", pack(image)), GENERIC)
    assert made.classes[:2] == ["FileLayer", "FreeBSDContainerLayer"]
    assert made.layers[1].read(0, len(image)) == image
    with pytest.raises(NotADumpError):
        kvm.open(tmp_path / "memory")


def test_who_need_not_look_for_raw_memory(pem: Path, tmp_path: Path):
    encrypted_dump = encrypted(tmp_path, sample_of("15-amd64"), pem, AES, small_dump())
    letters = save(tmp_path, "letters.gz", gzip.compress(b"Dear diary"))
    damaged = save(tmp_path, "vmcore.1.gz", b"\x1f\x8b\x08" + bytes(5))
    found = {}
    for path in (encrypted_dump, letters, damaged, save(tmp_path, "text", text_archive())):
        found[path.name] = holds_no_memory(stack(path, GENERIC).layers[0])
    assert found == {"vmcore_encrypted.7": True, "letters.gz": False, "vmcore.1.gz": True, "text": True}
    assert not holds_no_memory(stack(encrypted_dump, GENERIC).layers[0], pem.as_uri())


def test_files_of_others_are_left_to_the_framework(tmp_path: Path):
    """A plugin of no system sees them as before."""
    path = save(tmp_path, "letters.gz", gzip.compress(b"Dear diary,\n" * 1000))
    made = stack(path, GENERIC)
    assert made.classes == ["FileLayer"]
    assert made.layers[0].read(0, 10) == b"Dear diary"
    plain = save(tmp_path, "raw", random.Random(1).randbytes(100_000))
    assert stack(plain, GENERIC).classes == ["FileLayer"]


# --- what is told ----------------------------------------------------------------------------------------------------


HEADER_ROWS = (
    *("Container", "Dump host", "Dump time", "Dump kernel", "Panic", "Dump architecture", "Dump length", "Dump extent"),
    *("Dump block size", "Dump parity", "Info file", "Saved from", "Saved length", "Saved status", "Warning"),
)


@pytest.mark.parametrize("version", [1, 4])
def test_rows_of_a_dump_header(version: int, tmp_path: Path):
    data = small_dump()
    device = partition(data, version=version)
    path = save(tmp_path, "ada0p2", device)
    start = len(device) - 512 - -(-len(data) // 512) * 512
    assert variables(table(path, INFO), *HEADER_ROWS) == [
        (
            "Container",
            f"dump device, header version {version}, dump at {start:#x}-{start + len(data):#x} of {len(device):#x}",
        ),
        ("Dump host", "example"),
        ("Dump time", "2026-01-01 00:00:00 UTC"),
        ("Dump kernel", "FreeBSD 15.0-RELEASE GENERIC"),
        ("Panic", "example panic"),
        ("Dump architecture", "amd64, version 2"),
        ("Dump length", str(len(data))),
        ("Dump extent", str(-(-len(data) // 512) * 512) if version == 4 else None),
        ("Dump block size", "512"),
        ("Dump parity", "ok"),
    ]


def test_rows_of_a_damaged_header(tmp_path: Path):
    device = bytearray(partition(small_dump()))
    for place in (device.index(b"FreeBSD Kernel Dump"), len(device) - 512):
        device[place + 70] ^= 0x20
    rows = table(save(tmp_path, "ada0p2", bytes(device)), INFO)
    assert variables(rows, "Dump host", "Dump parity", "Warning") == [
        ("Dump host", "examplE"),
        ("Dump parity", "bad"),
        ("Warning", "the parity of the dump header is wrong: something in it is damaged"),
    ]


def test_a_header_of_another_machine_is_told(tmp_path: Path):
    path = save(tmp_path, "ada0p2", partition(small_dump(), architecture="aarch64"))
    assert kvm.open(path).warnings == ["the dump header tells of a dump of aarch64, this one is of amd64"]


def test_the_newest_of_several_dumps_on_a_disk(tmp_path: Path):
    def device(time: int, marker: bytes) -> bytes:
        data = small_dump() + marker.ljust(512, b"\0")
        header = DumpHeader(length=len(data), extent=-(-len(data) // 512) * 512, time=time).pack()
        return bytes(65536) + header + data.ljust(-(-len(data) // 512) * 512, b"\0") + header

    path = save(tmp_path, "disk", gpt_disk(device(1000, b"old"), device(3000, b"new"), device(2000, b"middle")))
    with kvm.open(path) as dump:
        assert dump.reader.buffer[dump.reader.size - 512 : dump.reader.size].startswith(b"new")
        assert dump.warnings == [
            "there is another dump on partition p3, which is older",
            "there is another dump on partition p1, which is older",
        ]


def test_a_header_in_the_memory_of_a_dump_does_not_lead_away_from_it(tmp_path: Path):
    """The last page of memory may hold anything, and who was on the machine may have put it there."""
    data = bytearray(small_dump())
    data[-512:] = DumpHeader(length=8192, extent=8192).pack()
    with kvm.open(save(tmp_path, "vmcore.0", bytes(data))) as dump:
        assert dump.reader.size == len(data)
        place = len(data) - 512 - 8192
        assert dump.warnings == [
            f"the dump header at the end of the file is ignored: the file begins with a dump, and not at {place:#x}"
        ]


def test_a_stray_header_behind_a_dump_is_ignored_and_told(tmp_path: Path):
    path = save(tmp_path, "vmcore.0", small_dump() + DumpHeader(length=1 << 40, extent=1 << 40).pack())
    with kvm.open(path) as dump:
        assert dump.read_physical(0x10_0000, 8) == kvm.open(small_dump()).read_physical(0x10_0000, 8)
        assert len(dump.warnings) == 1
        assert dump.warnings[0].startswith("the dump header at the end of the file is ignored: the dump header claims")


# --- damage ----------------------------------------------------------------------------------------------------------


def outcome(data: bytes, key: Path | None = None) -> str:
    """What opening gives: a sentence, or nothing."""
    try:
        with kvm.open(data, key=key) as dump:
            list(dump.runs())
            return ""
    except KVMError as error:
        assert "\n" not in str(error)  # noqa: PT017 - for many
        return str(error)


@pytest.mark.parametrize(
    "name", ["gzip", "zstd", "device", "device of gzip", "behind its header", "live", "gpt", "mbr"]
)
def test_every_cut_is_a_sentence_or_a_dump(name: str):
    data = small_dump()
    whole = {
        "gzip": lambda: kernel_gzip(data),
        "zstd": lambda: kernel_zstd(data),
        "device": lambda: partition(data),
        "device of gzip": lambda: partition(kernel_gzip(data), compression=1),
        "behind its header": lambda: DumpHeader(length=len(data)).pack() + data,
        "live": lambda: live_dump(data),
        "gpt": lambda: gpt_disk(partition(data)),
        "mbr": lambda: mbr_disk(partition(data)),
    }[name]()
    places = [*range(20), *range(500, 530), *range(0, len(whole), 3001), *range(len(whole) - 20, len(whole))]
    outcomes = {outcome(whole[:place]) for place in places}
    assert outcome(whole) == ""
    assert len(outcomes) >= 2


@pytest.mark.parametrize("name", ["gzip", "zstd", "device", "behind its header", "live", "gpt", "mbr"])
def test_every_kind_of_damage_is_a_sentence_or_a_dump(name: str):
    data = small_dump()
    whole = {
        "gzip": kernel_gzip(data),
        "zstd": kernel_zstd(data),
        "device": partition(data),
        "behind its header": DumpHeader(length=len(data)).pack() + data,
        "live": live_dump(data),
        "gpt": gpt_disk(partition(data)),
        "mbr": mbr_disk(partition(data)),
    }[name]
    generator = random.Random(name)
    places = [*range(0, 1024, 7), *range(len(whole) - 520, len(whole), 5)]
    if name in ("device", "gpt", "mbr"):
        lead = whole.index(b"FreeBSD Kernel Dump")
        places += [*range(lead, lead + 512, 5)]
    for place in places:
        changed = bytearray(whole)
        changed[place % len(whole)] = generator.randrange(256)
        outcome(bytes(changed))
        changed[place % len(whole) : place % len(whole) + 8] = b"\xff" * 8
        outcome(bytes(changed))


def test_containers_within_containers_end():
    data = small_dump()
    for _ in range(7):
        data = gzip.compress(data, 1)
    assert outcome(data) == ""
    assert outcome(gzip.compress(data, 1)) == "bytes holds containers within containers, more than 8"
    assert outcome(gzip.compress(gzip.compress(data, 1))) == "bytes holds containers within containers, more than 8"


def test_a_container_without_a_dump_says_what_it_is():
    assert outcome(partition(b"Dear diary")) == (
        "bytes is no FreeBSD kernel dump: in it (dump device) is neither a minidump nor an ELF core"
    )
    with pytest.raises(NotADumpError, match=r"in it \(gzip, dump device\) is neither"):
        kvm.open(gzip.compress(partition(b"Dear diary")))


def test_plain_dumps_only():
    with pytest.raises(NotADumpError, match="neither a minidump nor an ELF core"):
        kvm.open(kernel_gzip(small_dump()), unwrap=False)
    with pytest.raises(TextDumpError):
        kvm.open(text_archive())


def test_what_was_opened_is_closed_when_opening_fails(tmp_path: Path):
    """On some systems an open file cannot be removed."""
    path = save(tmp_path, "vmcore.0.gz", kernel_gzip(small_dump()[:5000]))
    with pytest.raises(FormatError) as error:
        kvm.open(path, cache=tmp_path / "cache")
    assert "cut off" in str(error.value)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) not in maps.read_text()


# --- real dumps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vmcore-amd64-minidump", "vmcore-i386-minidump"])
def test_a_real_dump_on_a_device_and_encrypted(name: str, real_file: RealFile, pem: Path, tmp_path: Path):
    plain = real_file(name)
    data = plain.read_bytes()
    dump, key = encrypt(data, pem, CHACHA)
    path = save(tmp_path, "disk", gpt_disk(partition(dump, architecture=name.split("-")[1], key=key)))
    with kvm.open(path, key=pem) as found, kvm.open(plain) as expected:
        assert zlib.crc32(found.reader.buffer[0 : found.reader.size]) == zlib.crc32(data)
        assert list(found.runs()) == list(expected.runs())
        assert found.warnings == expected.warnings
        assert found.unwrapped is not None
        assert found.unwrapped.containers[0].text.startswith("dump device, partition p1, header version 4, dump at ")
