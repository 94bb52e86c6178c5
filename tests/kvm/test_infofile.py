"""What savecore wrote into ``info.N`` beside a dump: read, shown and compared with the dump."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forms import save, small_dump
from tests.framework import INFO, table, variables
from tests.kvm.packed import info_text, kernel_gzip, kernel_zstd
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.kvm import infofile

HEADER_ROWS = (
    *("Container", "Dump host", "Dump time", "Dump kernel", "Panic", "Dump architecture", "Dump length", "Dump extent"),
    *("Dump block size", "Dump parity", "Info file", "Saved from", "Saved length", "Saved status", "Warning"),
)


def with_info(directory: Path, data: bytes, name: str = "vmcore.0", **changes: str | int) -> Path:
    (directory / "info.0").write_text(info_text(**changes))
    return save(directory, name, data)


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes in the file system")
    os.mkfifo(tmp_path / "info.0")
    assert infofile.beside(tmp_path / "vmcore.0") is None


def test_rows_of_an_info_file(tmp_path: Path):
    data = small_dump()
    path = with_info(tmp_path, data, Dump_Length=len(data))
    assert variables(table(path, INFO), *HEADER_ROWS) == [
        ("Info file", "info.0"),
        ("Dump host", "example"),
        ("Dump time", "2026-01-01 00:00:00 UTC"),
        ("Dump kernel", "FreeBSD 15.0-RELEASE GENERIC"),
        ("Panic", "example panic"),
        ("Saved from", "/dev/ada0p2"),
        ("Saved length", str(len(data))),
        ("Saved status", "good"),
    ]


def test_an_info_file_of_an_old_savecore(tmp_path: Path):
    """Without compression, with a local time and with a version string of two lines."""
    data = small_dump()
    text = info_text(
        Dump_Length=len(data),
        Dumptime="Thu Jan  1 02:00:00 2026",
        Version_String="FreeBSD 11.0-RELEASE #0: Thu Jan  1 02:00:00 CET 2026\n    root@here:/usr/obj/sys/GENERIC",
    ).replace("  Compression: none\n", "")
    (tmp_path / "info.0").write_text(text)
    assert variables(table(save(tmp_path, "vmcore.0", data), INFO), "Dump time", "Dump kernel", "Panic", "Warning") == [
        ("Dump time", "Thu Jan 1 02:00:00 2026 (local time of that machine)"),
        ("Dump kernel", "FreeBSD 11.0-RELEASE #0: Thu Jan 1 02:00:00 CET 2026 root@here:/usr/obj/sys/GENERIC"),
        ("Panic", "example panic"),
    ]


@pytest.mark.parametrize("style", ["json", "xml"])
def test_info_files_of_libxo(style: str):
    values = {
        "dump_device": "/dev/da0p3",
        "architecture": "amd64",
        "dump_length_bytes": 12345,
        "hostname": "a<b>&c",
        "panic_string": "",
        "dump_status": "good",
    }
    if style == "json":
        text = json.dumps({"crashdump": values})
    else:
        escaped = {name: str(value).replace("&", "&amp;").replace("<", "&lt;") for name, value in values.items()}
        text = "<crashdump>" + "".join(f"<{name}>{value}</{name}>" for name, value in escaped.items()) + "</crashdump>"
    info = infofile.parse(text.encode(), Path("info.0"))
    assert (info.device, info.architecture, info.length) == ("/dev/da0p3", "amd64", 12345)
    assert (info.hostname, info.panic_string, info.status, info.time) == ("a<b>&c", "", "good", "")


UNLESS = ", unless they are zeros, which savecore leaves out at the end"


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"Dump Status": "bad"}, "info.0 says that the dump headers were bad"),
        ({"Architecture": "aarch64"}, "info.0 tells of a dump of aarch64, this one is of amd64"),
        ({"Dump Length": 106_496}, None),
        ({"Dump Length": 106_496 + 8192}, "info.0 tells of 114688 bytes, the file lacks the last 8192" + UNLESS),
        ({"Dump Length": 106_000}, "info.0 tells of 106000 bytes, the file has 496 more"),
        ({"Dump Length": "many"}, None),
    ],
)  # fmt: skip
def test_differences_to_the_info_file(changes: dict[str, str | int], warning: str | None, tmp_path: Path):
    data = small_dump()
    assert len(data) == 106_496
    path = with_info(tmp_path, data, **{"Dump Length": len(data), **changes})
    with kvm.open(path) as dump:
        assert dump.warnings == ([warning] if warning else [])


def test_a_cut_off_file_and_its_info_file(tmp_path: Path):
    data = small_dump()
    path = with_info(tmp_path, data[:-1000], Dump_Length=len(data))
    with kvm.open(path) as dump:
        assert dump.warnings == [
            "the file is cut off: 1 of 21 pages lie wholly or partly beyond its end",
            "info.0 tells of 106496 bytes, the file lacks the last 1000",
        ]


@pytest.mark.parametrize(
    ("name", "pack", "compression", "length"),
    [
        ("vmcore.0.gz", kernel_gzip, "gzip", "packed"),
        ("vmcore.0.zst", kernel_zstd, "zstd", "packed"),
        ("vmcore.0.gz", gzip.compress, "none", "plain"),
        ("vmcore.0", bytes, "gzip", "whatever"),
    ],
)
def test_lengths_of_compressed_dumps(
    name: str, pack: Callable[[bytes], bytes], compression: str, length: str, tmp_path: Path
):
    """By the kernel: as stored. By savecore -z: unpacked. Unpacked by savecore -u: nobody knows."""
    data = small_dump()
    packed = pack(data)
    size = {"packed": len(packed), "plain": len(data), "whatever": 77}[length]
    path = with_info(tmp_path, packed, name, Dump_Length=size, Compression=compression)
    with kvm.open(path) as dump:
        assert dump.unwrapped is not None
        assert dump.unwrapped.info_file is not None
        assert dump.warnings == []
    if length != "whatever":
        path = with_info(tmp_path, packed, name, Dump_Length=size + 3, Compression=compression)
        assert kvm.open(path).warnings == [f"info.0 tells of {size + 3} bytes, the file lacks the last 3"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("vmcore.0", "0"),
        ("vmcore.12.gz", "12"),
        ("vmcore.last.zst", "last"),
        ("vmcore_encrypted.3", "3"),
        ("textdump.tar.5.gz", "5"),
        ("livecore.1", "1"),
        ("vmcore", None),
        ("vmcore.0.old", None),
        ("myvmcore.0", None),
        ("info.0", None),
    ],
)
def test_names_of_saved_dumps(name: str, number: str | None):
    assert infofile.dump_number(Path("/var/crash") / name) == number


def test_info_files_that_are_none(tmp_path: Path):
    for content in (
        b"",
        b"\0" * 100,
        b"hello: world\n",
        b"{",
        b'{"crashdump": 5}',
        b"[" * 100_000,
        b"{" * 50_000,
        b"<a></a>",
    ):
        (tmp_path / "info.0").write_bytes(content)
        with kvm.open(save(tmp_path, "vmcore.0", small_dump())) as dump:
            assert dump.unwrapped is not None
            assert dump.unwrapped.info_file is None
            assert dump.warnings == []


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_random_info_files(noise: bytes):
    for data in (noise, b"  Architecture: amd64\n  Dump Length: " + noise, b'{"crashdump": {"architecture": "' + noise):
        try:
            info = infofile.parse(data, Path("info.0"))
        except FormatError:
            continue
        assert info.hostname.isprintable()
        assert info.length is None or info.length >= 0
