"""``freebsd-isf``: from kernels to symbol files that Volatility finds by itself, and one sentence where that fails."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.minikernel.kernels import dwarf_of, kernel_file
from tests.minikernel.strip import strip_debug
from tests.scenario.kernels import build_world
from tests.scenario_dumps import FORMATS
from tests.writers.ctf import add_ctf
from volatility3_freebsd_kvm import __version__
from volatility3_freebsd_kvm.image import isf, table
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.isf_tool import main

NAME = "15-amd64"


@pytest.fixture
def kernel() -> Path:
    return kernel_file(*NAME.split("-"))


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files without a directory are written."""
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def with_ctf(kernel: Path, path: Path) -> Path:
    path.write_bytes(add_ctf(kernel, types=dwarf_of(kernel)))
    return path


def content_of(path: Path) -> dict[str, Any]:
    return isf.load(path)


def build_id_of(kernel: Path) -> str:
    with kernel.open("rb") as stream:
        found = KernelFile(stream, kernel.name).identity.build_id
    assert found
    return found


def test_a_kernel_with_dwarf(kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "kernel.json.xz"
    assert main([str(kernel), "-o", str(target)]) == 0
    content = json.loads(lzma.decompress(target.read_bytes()))
    symbols, identity = table.symbols_of(content), table.identity_of(content)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"{target}: {len(symbols)} symbols, {len(content['user_types'])} structures from DWARF of {kernel}\n"
    )
    with kernel.open("rb") as stream:
        original = KernelFile(stream, kernel.name)
        assert list(symbols) == list(original.symbols)
        assert (identity.version, identity.osreldate) == (original.identity.version, 1500068)
    types, _ = dwarf_of(kernel)
    for name in ("proc", "thread", "inpcb"):
        found = content["user_types"][name]
        assert found["size"] == types.user_types[name]["size"]
        assert found["fields"].keys() == types.user_types[name]["fields"].keys()
    assert len(content["user_types"]) < len(types.user_types)


def test_all_types(kernel: Path, tmp_path: Path) -> None:
    target = tmp_path / "all.json"
    assert main(["--all", str(kernel), "--output", str(target)]) == 0
    content = content_of(target)
    types, _ = dwarf_of(kernel)
    assert content["user_types"].keys() == types.user_types.keys()
    assert content["enums"].keys() == types.enums.keys()


def test_a_kernel_with_ctf(kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stock = with_ctf(kernel, tmp_path / "kernel")
    assert main([str(stock), "-o", str(tmp_path / "ctf.json.xz")]) == 0
    assert capsys.readouterr().err.endswith(f" structures from CTF of {stock}\n")
    content = content_of(tmp_path / "ctf.json.xz")
    types, _ = dwarf_of(kernel)
    assert content["user_types"]["proc"]["size"] == types.user_types["proc"]["size"]


def test_a_kernel_without_types(kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "kernel"
    bare.write_bytes(strip_debug(kernel.read_bytes()))
    target = tmp_path / "none.json.xz"
    assert main([str(bare), "-o", str(target)]) == 1
    assert capsys.readouterr().err == (
        f"freebsd-isf: {bare} has neither DWARF nor CTF; kernel.debug beside it would have types\n"
    )
    assert not target.exists()


def test_a_directory(kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Symbols of the installed kernel, types of kernel.debug beside it."""
    boot = tmp_path / "boot" / "kernel"
    boot.mkdir(parents=True)
    (boot / "kernel").write_bytes(strip_debug(kernel.read_bytes()))
    (boot / "kernel.debug").write_bytes(kernel.read_bytes())
    (boot / "linker.hints").write_bytes(b"no kernel")
    assert main([str(boot), "-o", str(tmp_path / "boot.json.xz")]) == 0
    assert capsys.readouterr().err.endswith(f" structures from DWARF of {boot / 'kernel.debug'}\n")
    identity = table.identity_of(content_of(tmp_path / "boot.json.xz"))
    assert identity.symbols_from == str(boot / "kernel")
    assert identity.build_id == build_id_of(kernel)


def test_the_default_name_tells_the_kernel(kernel: Path, working_directory: Path) -> None:
    assert main([str(kernel)]) == 0
    (written,) = working_directory.iterdir()
    identity = table.identity_of(content_of(written))
    assert written.name == f"freebsd-15.0-RELEASE-{identity.ident}-amd64-{build_id_of(kernel)[:8]}.json.xz"


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (table.TableIdentity(), "freebsd.json.xz"),
        (table.TableIdentity(architecture="arm64"), "freebsd-arm64.json.xz"),
        (table.TableIdentity(version="NetBSD 10", ident="../../etc/x y"), "freebsd-..-..-etc-x-y.json.xz"),
        (table.TableIdentity(version="FreeBSD 14.3-RELEASE-p2 #0"), "freebsd-14.3-RELEASE-p2.json.xz"),
        (table.TableIdentity(version="FreeBSD /a\x00b"), "freebsd--a-b.json.xz"),
    ],
)
def test_a_name_is_a_file_name_whatever_the_kernel_says(identity: table.TableIdentity, name: str) -> None:
    from volatility3_freebsd_kvm.isf_tool import _name

    assert _name(identity) == name
    assert Path(name).name == name


def test_the_suffix_decides_about_compression(kernel: Path, tmp_path: Path) -> None:
    """Volatility goes by it, too."""
    plain, packed = tmp_path / "kernel.json", tmp_path / "kernel.json.xz"
    for target in (plain, packed):
        assert main([str(kernel), "-o", str(target)]) == 0
    assert plain.read_bytes() == lzma.decompress(packed.read_bytes())
    assert json.loads(plain.read_bytes())["metadata"]["format"] == "6.2.0"


def missing(tmp_path: Path) -> Path:
    return tmp_path / "missing"


def nonsense(tmp_path: Path) -> Path:
    (tmp_path / "nonsense").write_bytes(b"no kernel at all\n")
    return tmp_path / "nonsense"


def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path / "empty"


def hollow(tmp_path: Path) -> Path:
    (tmp_path / "hollow").write_bytes(b"\x7fELF" + bytes(60))
    return tmp_path / "hollow"


def directory(tmp_path: Path) -> Path:
    (tmp_path / "directory").mkdir()
    return tmp_path / "directory"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (missing, "{path} cannot be read (No such file or directory)"),
        (nonsense, "{path} is neither an ELF file nor an archive"),
        (empty, "{path} is an empty file"),
        (hollow, "{path} is no ELF kernel"),
        (directory, "there is no kernel in {path}: "),
    ],
)
def test_what_is_no_kernel_is_told_in_one_sentence(
    make: Any, complaint: str, tmp_path: Path, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path)
    assert main([str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"freebsd-isf: {complaint.format(path=path)}")
    assert said.err.count("\n") == 1
    assert list(working_directory.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(kernel), "-o", str(tmp_path)]) == 1
    assert main([str(kernel), "-o", str(tmp_path / "gone" / "x.json.xz")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"freebsd-isf: [Errno 21] Is a directory: '{tmp_path}'"
    assert second.startswith("freebsd-isf: [Errno 2] No such file or directory: ")


@pytest.mark.parametrize(("option", "status"), [("--version", 0), ("--help", 0), ("--nonsense", 2)])
def test_options(option: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == status
    said = capsys.readouterr().out
    assert (option, said) == (option, {"--version": f"freebsd-isf {__version__}\n"}.get(option, said))


def test_vol_finds_the_file_on_its_symbol_path(kernel: Path, tmp_path: Path) -> None:
    """Both as commands, with nothing but the directory told."""
    vol = Path(sys.executable).with_name("vol")
    if not vol.exists():
        pytest.skip(f"there is no vol beside {sys.executable}")
    symbols = tmp_path / "symbols"
    symbols.mkdir()
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, words)], cwd=symbols, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    assert run(sys.executable, "-m", "volatility3_freebsd_kvm.isf_tool", kernel).returncode == 0
    dump = tmp_path / "vmcore.0"
    dump.write_bytes(FORMATS["minidump"](build_world(NAME).memory))
    done = run(
        *(vol, "-q", "-r", "json", "-s", symbols, "-f", dump, "freebsd.kvm.nlist"),
        *("--name", "hz", "ifnet"),
    )
    assert done.returncode == 0, done.stderr
    hz, ifnet = json.loads(done.stdout[done.stdout.index("[") :])
    assert (hz["Value"], ifnet["Kind"]) == ("1000", "vnet")
    # Only types that the file brings make a number of it.
    told = run(vol, "-q", "-r", "json", "-s", symbols, "-f", dump, "freebsd.kvm.info")
    facts = {row["Variable"]: row["Value"] for row in json.loads(told.stdout[told.stdout.index("[") :])}
    assert facts["Kernel types"].endswith(f" structures from DWARF of {kernel}")
