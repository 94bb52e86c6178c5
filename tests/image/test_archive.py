"""Kernels and modules out of compressed files, distribution sets, packages and archives that somebody prepared."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from volatility3_freebsd_kvm.image import archive
from volatility3_freebsd_kvm.image.locate import KernelSource, Locator, candidates, find_module, find_modules, opened

from .installation import BOOT, DEBUG, debug_file, kernel, member, module, pack, put, refusal, system

# Compressed kernels

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packed", PACKERS)
def test_compressed_kernels(tmp_path: Path, packed: str) -> None:
    path = put(tmp_path, {f"{BOOT}/kernel.{packed}": PACKERS[packed](kernel()), f"{DEBUG}/kernel.debug": debug_file()})
    told: list[tuple[float, str]] = []
    (source,) = candidates(path, "amd64", tmp_path / "cache", lambda percent, text: told.append((percent, text)))
    assert source.kernel.is_relative_to(tmp_path / "cache")
    assert source.kernel.read_bytes() == kernel()
    assert source.debug == tmp_path / DEBUG / "kernel.debug"
    assert source.description.startswith(str(tmp_path / BOOT / f"kernel.{packed}"))
    with opened(source) as (first, _):
        assert first.name == str(tmp_path / BOOT / f"kernel.{packed}")


def test_packed_files_need_a_cache_directory(tmp_path: Path) -> None:
    path = put(tmp_path, {"kernel.gz": gzip.compress(kernel())}) / "kernel.gz"
    assert refusal(path) == f"{path} is packed, and there is no cache directory to unpack it into"


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("keep", [10, 0.5, -20])
def test_damaged_compressed_kernels(tmp_path: Path, packed: str, keep: float) -> None:
    data = PACKERS[packed](kernel())
    path = put(tmp_path, {"kernel": data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)]}) / "kernel"
    assert refusal(path, cache=tmp_path / "cache").startswith(f"{path} cannot be unpacked: ")
    assert list(tmp_path.glob("cache/*/*")) == []


def test_without_a_library_for_zstd_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(archive, "import_module", absent)
    path = put(tmp_path, {"kernel": b"\x28\xb5\x2f\xfd" + bytes(100)}) / "kernel"
    wanted = "it is compressed with zstd, for which the Python package zstandard must be installed"
    assert refusal(path, cache=tmp_path / "cache") == f"{path} cannot be unpacked: {wanted}"


@pytest.mark.skipif(not importlib.util.find_spec("zstandard"), reason="the package zstandard is not installed")
def test_packages_of_pkgbase(tmp_path: Path) -> None:
    import zstandard

    for name, files in (
        ("FreeBSD-kernel-generic-15.0.pkg", {f"{BOOT}/kernel": kernel(), f"{BOOT}/mini.ko": module()}),
        ("FreeBSD-kernel-generic-dbg-15.0.pkg", {f"{DEBUG}/kernel.debug": debug_file()}),
    ):
        plain = pack(tmp_path / "plain.tar", files, "w", "/")
        (tmp_path / name).write_bytes(zstandard.compress(plain.read_bytes()))
        plain.unlink()
    (source,) = candidates(tmp_path, "amd64", tmp_path / "cache")
    assert source.debug is not None
    assert source.debug.read_bytes() == debug_file()
    found = find_module(source, "mini.ko")
    assert found is not None
    assert found.read_bytes() == module()
    path = tmp_path / "FreeBSD-kernel-generic-15.0.pkg"
    path.write_bytes(path.read_bytes()[:-5000])
    assert refusal(path, cache=tmp_path / "cache").startswith(f"{path} cannot be unpacked: ")


# Archives


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distribution sets."""
    path = tmp_path_factory.mktemp("release")
    files = system()
    pack(path / "kernel.txz", {name: data for name, data in files.items() if name.startswith("boot")})
    pack(path / "kernel-dbg.txz", {name: data for name, data in files.items() if name.startswith("usr")})
    return path


@pytest.fixture
def sets(release: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    for path in release.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("named", ["kernel.txz", "kernel-dbg.txz", "."])
def test_distribution_sets_go_together(sets: Path, named: str) -> None:
    (source,) = candidates(sets / named, "amd64", sets / "cache")
    assert source.description == (
        f"{BOOT}/kernel of {sets / 'kernel.txz'}, with debug information from "
        f"{DEBUG}/kernel.debug of {sets / 'kernel-dbg.txz'}"
    )
    assert source.kernel.read_bytes() == kernel()
    assert source.debug is not None
    assert source.debug.read_bytes() == debug_file()
    with opened(source) as (first, second):
        assert second is not None
        assert (first.name, second.name) == source.names
        assert source.names[1] == f"{DEBUG}/kernel.debug of {sets / 'kernel-dbg.txz'}"


def test_one_set_alone(sets: Path) -> None:
    (sets / "kernel-dbg.txz").rename(sets / "debug.txz")
    (source,) = candidates(sets / "kernel.txz", "amd64", sets / "cache")
    assert source.debug is None
    (source,) = candidates(sets / "debug.txz", "amd64", sets / "cache")
    assert source.kernel == source.debug
    assert source.kernel.read_bytes() == debug_file()


def test_a_damaged_second_set_is_told_once(sets: Path) -> None:
    data = (sets / "kernel-dbg.txz").read_bytes()
    (sets / "kernel-dbg.txz").write_bytes(data[: len(data) // 2])
    locator = Locator("amd64", sets / "cache")
    (source,) = locator.candidates(sets / "kernel.txz")
    assert source.debug is None
    assert len(locator.skipped) == 1
    assert locator.skipped[0].startswith(f"{sets / 'kernel-dbg.txz'} cannot be unpacked: ")


@pytest.mark.parametrize(
    ("mode", "prefix"),
    [
        ("w:gz", "./"),
        ("w:bz2", "./"),
        ("w:xz", "./"),
        ("w", ""),
        ("w", "/"),
        ("w", "evidence/"),
        ("w", "/evidence/host/"),
    ],
)
def test_archives_of_whole_systems(tmp_path: Path, mode: str, prefix: str) -> None:
    path = pack(tmp_path / "system.tar", {"COPYRIGHT": b"text"} | system(), mode, prefix)
    (source,) = candidates(path, "amd64", tmp_path / "cache")
    assert source.kernel.read_bytes() == kernel()
    assert source.debug is not None
    assert source.debug.read_bytes() == debug_file()
    found = find_modules(source, ["mini.ko", "port.ko", "none.ko"])
    assert {name: file.read_bytes()[-4:] for name, file in found.items()} == {
        "mini.ko": module()[-4:],
        "port.ko": b"port",
    }


def test_what_is_unpacked_is_used_again(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(candidates(sets, "amd64", sets / "cache"))
    assert find_module(first[0], "mini.ko") is not None
    monkeypatch.setattr(archive, "tarfile", None)
    again = list(candidates(sets, "amd64", sets / "cache"))
    assert again == first
    assert find_module(again[0], "mini.ko") == find_module(first[0], "mini.ko")


def test_a_changed_archive_is_another_one(tmp_path: Path) -> None:
    path = pack(tmp_path / "kernel.txz", {f"{BOOT}/kernel": kernel()})
    (first,) = candidates(path, "amd64", tmp_path / "cache")
    pack(path, {f"{BOOT}/kernel": kernel("15")})
    (second,) = candidates(path, "amd64", tmp_path / "cache")
    assert (first.kernel.read_bytes(), second.kernel.read_bytes()) == (kernel(), kernel("15"))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"kernels": {"a": "../x.elf"}, "modules": []}', b"\xff"])
def test_a_damaged_index_is_made_again(tmp_path: Path, content: bytes) -> None:
    path = pack(tmp_path / "kernel.txz", {f"{BOOT}/kernel": kernel()})
    first = list(candidates(path, "amd64", tmp_path / "cache"))
    (index,) = tmp_path.glob("cache/*/index.json")
    index.write_bytes(content)
    assert list(candidates(path, "amd64", tmp_path / "cache")) == first
    first[0].kernel.unlink()
    (again,) = candidates(path, "amd64", tmp_path / "cache")
    assert again.kernel.read_bytes() == kernel()


def test_an_archive_without_a_kernel(tmp_path: Path) -> None:
    path = pack(tmp_path / "base.txz", {"bin/ls": b"\x7fELF", f"{BOOT}/kernel": b"a text"})
    assert refusal(path, cache=tmp_path / "cache") == (
        f"the archive {path} holds no kernel, as boot/kernel/kernel or usr/lib/debug/boot/kernel/kernel.debug"
    )


def test_progress_is_told(tmp_path: Path) -> None:
    path = pack(tmp_path / "kernel.txz", {"usr/filler": bytes(20 << 20), f"{BOOT}/kernel": kernel()})
    told: list[tuple[float, str]] = []
    assert list(candidates(path, "amd64", tmp_path / "cache", lambda percent, text: told.append((percent, text))))
    assert len(told) == 2
    assert all(0 < percent <= 100 and text == "Unpacking kernel.txz" for percent, text in told)


# Hostile archives


def hostile(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    """An archive of headers and contents that need not agree."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            assert tar.fileobj is not None
            tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    return path


@pytest.mark.parametrize("name", ["../../kernel", "boot/../../../kernel", "/../kernel", "..", "boot/kernel/.."])
def test_no_name_leads_out_of_the_cache(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    path = hostile(
        tmp_path / "a.tar", (member(name, 4), b"\x7fELF"), (member(f"{BOOT}/kernel", len(kernel())), kernel())
    )
    list(candidates(path, "amd64", inside / "cache"))
    written = {file for file in tmp_path.rglob("*") if file.is_file() and file != path}
    assert written
    assert all(file.is_relative_to(inside / "cache") for file in written)
    assert not any("kernel" in file.name for file in written)


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("../real/kernel.bin", tarfile.SYMTYPE),
        ("/boot/real/kernel.bin", tarfile.SYMTYPE),
        ("./boot/real/kernel.bin", tarfile.LNKTYPE),
        ("../other/kernel", tarfile.SYMTYPE),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_links_are_followed_within_the_archive(tmp_path: Path, link: str, kind: bytes, first: bool) -> None:
    real = "boot/other/kernel" if "other" in link else "boot/real/kernel.bin"
    parts = [(member(f"./{BOOT}/kernel", 0, kind, link), b""), (member(f"./{real}", len(kernel())), kernel())]
    path = hostile(tmp_path / "a.tar", *(parts if first else reversed(parts)))
    sources = list(candidates(path, "amd64", tmp_path / "cache"))
    assert sources[0].description == f"{BOOT}/kernel of {path}"
    assert sources[0].kernel.read_bytes() == kernel()


@pytest.mark.parametrize("link", ["/etc/passwd", "../../../../../../etc/passwd", "kernel", "", "nowhere"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_lead_nowhere_else(tmp_path: Path, link: str, kind: bytes) -> None:
    path = hostile(tmp_path / "a.tar", (member(f"{BOOT}/kernel", 0, kind, link), b""))
    assert refusal(path, cache=tmp_path / "cache").startswith(f"the archive {path} holds no kernel")


def test_devices_are_no_kernels(tmp_path: Path) -> None:
    path = hostile(tmp_path / "a.tar", (member(f"{BOOT}/kernel", 0, tarfile.CHRTYPE), b""))
    assert refusal(path, cache=tmp_path / "cache").startswith(f"the archive {path} holds no kernel")


def test_a_kernel_too_big_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    path = hostile(tmp_path / "a.tar", (member(f"{BOOT}/kernel", (4 << 30) + 1), kernel()))
    assert refusal(path, cache=tmp_path / "cache") == f"{path} cannot be unpacked: its kernels are bigger than 4 GiB"
    assert list(tmp_path.glob("cache/*/*")) == []


def test_a_kernel_that_does_not_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 1 << 40, 64 << 20))
    path = pack(tmp_path / "kernel.txz", {f"{BOOT}/kernel": kernel()})
    wanted = f"a file of {len(kernel())} bytes does not fit on the disk, 0 are free"
    assert refusal(path, cache=tmp_path / "cache") == f"{path} cannot be unpacked: {wanted}"
    packed = put(tmp_path, {"kernel.gz": gzip.compress(kernel())}) / "kernel.gz"
    assert "does not fit on the disk" in refusal(packed, cache=tmp_path / "cache")


def test_bombs_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits, made small."""
    monkeypatch.setattr(archive, "MAX_SIZE", 1 << 20)
    monkeypatch.setattr(archive, "_MAX_STREAM", 8 << 20)
    bomb = put(tmp_path, {"kernel.gz": gzip.compress(b"\x7fELF" + bytes(4 << 20))}) / "kernel.gz"
    assert "it is bigger than" in refusal(bomb, cache=tmp_path / "cache")
    path = pack(tmp_path / "a.txz", {"filler": bytes(9 << 20), f"{BOOT}/kernel": kernel()})
    assert "it unpacks to more than" in refusal(path, cache=tmp_path / "cache")
    many = pack(tmp_path / "b.txz", {f"boot/{number}/kernel": b"\x7fELF" + bytes(400 << 10) for number in range(3)})
    assert "its kernels are bigger than" in refusal(many, cache=tmp_path / "cache")
    assert list(tmp_path.glob("cache/*/.partial*")) == []


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, -512])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_that_are_bigger_than_the_archive_end(tmp_path: Path, size: int, mode: str) -> None:
    """The library looks for the next one however far it is."""
    path = hostile(tmp_path / "a.tar", (member("filler", size), b"short"), (member("b", 0), b""), mode=mode)
    assert refusal(path, cache=tmp_path / "cache").startswith((f"{path} cannot be unpacked: ", f"the archive {path}"))


def test_names_from_archives_are_printable(tmp_path: Path) -> None:
    path = hostile(tmp_path / "a.tar", (member("boot/\x1b[2J\n\udcff/kernel", len(kernel())), kernel()))
    (source,) = candidates(path, "amd64", tmp_path / "cache")
    assert source.description == f"boot/?[2J??/kernel of {path}"
    assert source.names[0] == source.description


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_names_are_not_longer_than_a_name_may_be(tmp_path: Path, kind: bytes) -> None:
    path = hostile(tmp_path / "a.tar", (member("long", 1 << 31, kind), b"x" * 4096))
    assert refusal(path, cache=tmp_path / "cache") == (
        f"{path} cannot be unpacked: an extended header of {1 << 31} bytes"
    )


def test_a_chain_of_extended_headers_ends(tmp_path: Path) -> None:
    path = hostile(tmp_path / "a.tar", *[(member("x", 0, tarfile.XHDTYPE), b"")] * 5000)
    assert refusal(path, cache=tmp_path / "cache")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_truncated_archives(tmp_path: Path, mode: str) -> None:
    whole_archive = pack(
        tmp_path / "whole.tar", {f"{BOOT}/mini.ko": module(), f"{BOOT}/kernel": kernel()}, mode
    ).read_bytes()
    step = len(whole_archive) // 12
    for length in range(600, len(whole_archive) - 11_000, step):
        path = put(tmp_path, {"cut.tar": whole_archive[:length]}) / "cut.tar"
        assert str(path) in refusal(path, cache=tmp_path / "cache")


# Modules


@pytest.fixture(params=["directory", "sets"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> KernelSource:
    path = put(tmp_path, system()) if request.param == "directory" else request.getfixturevalue("sets")
    return next(candidates(path, "amd64", tmp_path / "cache"))


def test_modules_and_their_debug_information(source: KernelSource) -> None:
    found = {
        (name, debug): file.read_bytes()[-5:]
        for debug in (False, True)
        for name, file in find_modules(source, ["mini.ko", "port.ko", "none.ko"], debug=debug).items()
    }
    assert found == {
        ("mini.ko", False): module()[-5:],
        ("mini.ko", True): b"debug",
        ("port.ko", False): module()[-1:] + b"port",
    }


@pytest.mark.parametrize(
    "filename", ["", ".", "..", "/", "../../../etc/passwd", "a\0b", "x" * 300, "none.ko", "kernel/"]
)
def test_module_names_from_a_hostile_dump(source: KernelSource, filename: str) -> None:
    found = find_module(source, filename)
    assert found is None or found.name == "kernel"


def test_a_directory_in_the_name_of_a_module_does_not_count(source: KernelSource) -> None:
    found = find_module(source, "/boot/kernel/mini.ko")
    assert found is not None
    assert found.read_bytes() == module()


def test_modules_of_kernels_that_lie_alone(tmp_path: Path) -> None:
    put(tmp_path, {"kernel.debug": debug_file(), "mini.ko.gz": gzip.compress(module()), "mini.ko.symbols": b"old"})
    (alone,) = candidates(tmp_path, "amd64", tmp_path / "cache")
    found = find_module(alone, "mini.ko")
    assert found is not None
    assert found.read_bytes() == module()
    assert find_module(alone, "mini.ko", debug=True) == tmp_path / "mini.ko.symbols"
    assert find_module(KernelSource(tmp_path, None, "", "amd64"), "mini.ko") is None
