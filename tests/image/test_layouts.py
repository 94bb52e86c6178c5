"""The layouts of releases are tried from the nearest on; the release is what the kernel says, or its messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_memory import Memory, c_types
from volatility3_freebsd_kvm._registration import symbol_directories
from volatility3_freebsd_kvm.image import isf
from volatility3_freebsd_kvm.image.layouts import Layout, banner_in, nearest, release_of
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable

OSRELDATE, VERSION = 0x100, 0x200


def names_over(memory: Memory, *symbols: Symbol) -> Names:
    return Names(SymbolTable(symbols), memory.structs(c_types(memory)))


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize(
    ("osreldate", "version", "release"),
    [
        (1500068, b"", 15),
        (1403000, b"FreeBSD 9.3-RELEASE", 14),
        (999999, b"", 9),
        (500000, b"", 5),
        (499999, b"FreeBSD 4.11-RELEASE #0", 4),
        (0, b"FreeBSD 14.3-RELEASE-p1 GENERIC", 14),
        (0xFFFFFFFF, b"FreeBSD 16.0-CURRENT #0 main-n1: today", 16),
        (0, b"FreeBSD", None),
        (0, b"NetBSD 10.0", None),
        (0, b"", None),
        (None, b"FreeBSD 13.0-CURRENT", 13),
        (1500068, None, 15),
        (None, None, None),
    ],
)
def test_the_release(osreldate: int | None, version: bytes | None, release: int | None, byteorder: str) -> None:
    memory = Memory(byteorder=byteorder)
    if osreldate is not None:
        memory.number(OSRELDATE, osreldate, 4)
    if version is not None:
        memory.put(VERSION, version.ljust(64, b"\0"))
    assert release_of(names_over(memory, Symbol("osreldate", OSRELDATE), Symbol("version", VERSION))) == release


def test_without_symbols_there_is_no_release() -> None:
    assert release_of(names_over(Memory().number(OSRELDATE, 1500068, 4))) is None


@pytest.mark.parametrize(
    ("messages", "banner"),
    [
        (b"", ""),
        (b"Copyright\nFreeBSD is a registered trademark of The FreeBSD Foundation.\n", ""),
        (
            b"FreeBSD is a trademark\nFreeBSD 14.3-RELEASE releng/14.3 GENERIC amd64\nVT: init\n",
            "FreeBSD 14.3-RELEASE releng/14.3 GENERIC amd64",
        ),
        (b"FreeBSD 14.3-RELEASE one\n...\nFreeBSD 15.0-RELEASE two\n", "FreeBSD 15.0-RELEASE two"),
        (b"\0\0FreeBSD 14.3-RELEASE\x1b[31m\n", "FreeBSD 14.3-RELEASE"),
    ],
)
def test_the_newest_banner_among_messages(messages: bytes, banner: str) -> None:
    assert banner_in(messages) == banner


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, names in (
        (first, ["freebsd-12-amd64.json.xz", "freebsd-15-amd64.json", "freebsd-15-arm64.json.xz", "README"]),
        (
            second,
            ["freebsd-14.3-amd64.json.xz", "freebsd-13-amd64.json.gz", "xfreebsd-14-amd64.json", "freebsd-1-.json"],
        ),
    ):
        directory.mkdir()
        for name in names:
            (directory / name).touch()
    return [first, second, tmp_path / "not there"]


@pytest.mark.parametrize(
    ("major", "majors"),
    [
        (12, [12, 14, 15]),
        (13, [14, 12, 15]),
        (14, [14, 15, 12]),
        (15, [15, 14, 12]),
        (99, [15, 14, 12]),
        (None, [15, 14, 12]),
    ],
)
def test_the_nearest_release_comes_first_and_the_newer_of_two(
    directories: list[Path], major: int | None, majors: list[int]
) -> None:
    found = list(nearest(directories, "amd64", major))
    assert [one.major for one in found] == majors
    assert {one.architecture for one in found} == {"amd64"}


def test_layouts_of_other_architectures(directories: list[Path]) -> None:
    assert list(nearest(directories, "arm64", 14)) == [Layout(directories[0] / "freebsd-15-arm64.json.xz", "arm64", 15)]
    assert [str(one) for one in nearest(directories, "arm64", None)] == ["FreeBSD 15 arm64"]
    assert list(nearest(directories, "riscv", 15)) == []


@pytest.mark.parametrize("architecture", ["amd64", "arm64", "riscv", "i386", "arm", "powerpc64"])
def test_the_layouts_that_are_shipped(architecture: str) -> None:
    found = list(nearest(symbol_directories(), architecture, 14))
    assert [one.major for one in found] == [14, 15]
    for one in found:
        assert {"proc", "thread", "inpcb"} <= set(isf.load(one.path)["user_types"])
