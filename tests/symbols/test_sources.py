"""A dump's kernel is found wherever it may be, told from others, and the tables made of it are found again."""

from __future__ import annotations

import json
import logging
import shutil
from functools import lru_cache
from pathlib import Path

import pytest
from volatility3.framework import constants, exceptions
from volatility3.framework.automagic import symbol_cache

from tests import framework
from tests.minikernel.kernels import dwarf_of, kernel_file
from tests.minikernel.strip import strip_debug
from tests.scenario.kernels import build_world
from tests.scenario_dumps import FORMATS, write_symbol_file
from tests.writers.ctf import add_ctf
from volatility3_freebsd_kvm.image import isf
from volatility3_freebsd_kvm.isf_tool import main as freebsd_isf

INFO, VNETS, NLIST = framework.INFO, "freebsd.kvm.vnets.Vnets", "freebsd.kvm.nlist.Nlist"
SOME = ("15-amd64", "14-arm64", "15-riscv", "14-i386", "15-arm", "14-powerpc64")
OPTION = "--freebsd-kernel"


everywhere = pytest.mark.parametrize("some", SOME, indirect=True)


@pytest.fixture
def some(request: pytest.FixtureRequest) -> str:
    """The kernel; one does unless a test asks for `everywhere`."""
    return str(getattr(request, "param", SOME[0]))


@pytest.fixture
def dump(some: str, tmp_path: Path) -> Path:
    path = tmp_path / "crash" / "vmcore.0"
    path.parent.mkdir()
    path.write_bytes(minidump_of(some))
    return path


@lru_cache(maxsize=1)
def minidump_of(name: str) -> bytes:
    return FORMATS["minidump"](build_world(name).memory)


@pytest.fixture(scope="module")
def known_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The framework's list of symbol files with those that are shipped: reading them takes seconds."""
    framework.plugin_classes()
    directory = tmp_path_factory.mktemp("known")
    path = directory / constants.IDENTIFIERS_FILENAME
    with pytest.MonkeyPatch.context() as patch:
        _move_cache(directory, patch)
        symbol_cache.SqliteCache(str(path)).update()
    return path


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_files: Path) -> Path:
    """Nothing is known from another test: neither tables nor symbol files but those that are shipped."""
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copy(known_files, cache)
    _move_cache(cache, monkeypatch)
    return cache


def _move_cache(cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Use another cache, also as the place of symbol files that it is for the framework."""
    import volatility3.symbols

    before = str(Path(constants.CACHE_PATH) / "symbols")
    paths = [str(cache / "symbols") if path == before else path for path in volatility3.symbols.__path__]
    assert paths != list(volatility3.symbols.__path__)
    patch.setattr(constants, "CACHE_PATH", str(cache))
    patch.setattr(constants, "SYMBOL_BASEPATHS", paths)
    patch.setattr(volatility3.symbols, "__path__", paths)


def kernel_of(name: str) -> Path:
    return kernel_file(*name.split("-"))


def stripped(name: str, path: Path) -> Path:
    """The kernel as it is installed, without DWARF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(strip_debug(kernel_of(name).read_bytes()))
    return path


def facts(dump: Path, kernel: Path | None = None) -> dict[str, str]:
    rows = framework.table(dump, INFO, kernel=kernel)
    return {row["Variable"]: row["Value"] for row in rows}


def hz(dump: Path, kernel: Path | None = None) -> tuple[str, str]:
    (row,) = framework.table(dump, NLIST, kernel=kernel, name=["hz"])
    return row["Kind"], row["Value"]


@everywhere
def test_the_kernel_that_is_named_gives_names_and_types(some: str, dump: Path) -> None:
    kernel = kernel_of(some)
    found = facts(dump, kernel)
    assert found["Kernel"].startswith(f"FreeBSD {some[:2]}.")
    assert found["Kernel names"].endswith(f" symbols of {kernel}")
    assert found["Kernel types"].endswith(f" structures from DWARF of {kernel}")
    assert found["Kernel fit"].startswith(
        "fits: the banner, osreldate, kern_ident, read-only data, 10 exported offsets"
    )
    assert hz(dump, kernel) == ("plain", "1000")


@everywhere
def test_with_the_dump_alone_names_come_from_its_memory_and_types_from_the_release(some: str, dump: Path) -> None:
    found = facts(dump)
    assert found["Kernel names"].split(" of ")[1].startswith("the dump itself (symbol table at 0x")
    release, arch = some.split("-")
    assert f"layouts of FreeBSD {release} {arch}, the nearest release" in found["Kernel types"]
    assert "10 exported offsets" in found["Kernel fit"]
    assert hz(dump) == ("plain", "0x3e8 (1000)")
    assert [row["Jails"] for row in framework.table(dump, VNETS)] == ["0, web", "db, db.pg"]


@pytest.mark.parametrize("name", ["kernel", "kernel.0", "boot/kernel/kernel", "kernel.debug"])
def test_a_kernel_beside_the_dump_is_found(dump: Path, some: str, name: str) -> None:
    kernel = dump.parent / name
    kernel.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(kernel_of(some), kernel)
    found = facts(dump)
    assert found["Kernel names"].endswith(f" symbols of {kernel}")
    assert found["Kernel types"].endswith(f"DWARF of {kernel}")


def test_a_kernel_without_types_gets_those_of_its_release(some: str, dump: Path) -> None:
    kernel = stripped(some, dump.parent / "kernel")
    found = facts(dump)
    assert found["Kernel names"].endswith(f" symbols of {kernel}")
    assert f"layouts of FreeBSD {some[:2]}" in found["Kernel types"]


def test_tables_are_found_again_without_the_kernel(some: str, dump: Path, fresh_cache: Path) -> None:
    """What was made once lies on the framework's symbol path, known by what must be in the dump's memory."""
    kernel = dump.parent / "kernel"
    shutil.copy(kernel_of(some), kernel)
    first = facts(dump)
    (table,) = (fresh_cache / "symbols" / "freebsd").iterdir()
    written = table.stat().st_mtime_ns
    assert facts(dump) == first
    assert table.stat().st_mtime_ns == written


def test_a_known_table_names_the_files_that_are_there_now(some: str, dump: Path, fresh_cache: Path) -> None:
    """Tables are known by the content of the kernel, which may be anywhere the next time."""
    first = dump.parent / "kernel"
    shutil.copy(kernel_of(some), first)
    facts(dump)
    first.unlink()
    second = dump.parent / "kernel.debug"
    shutil.copy(kernel_of(some), second)
    found = facts(dump)
    assert found["Kernel names"].endswith(f" symbols of {second}")
    assert found["Kernel types"].endswith(f" structures from DWARF of {second}")
    assert len(list((fresh_cache / "symbols" / "freebsd").iterdir())) == 1


def test_a_symbol_file_on_the_path_is_found_by_what_is_in_memory(
    some: str, dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "isf"
    directory.mkdir()
    assert freebsd_isf([str(kernel_of(some)), "-o", str(directory / "kernel.json.xz")]) == 0
    _on_symbol_path(directory, monkeypatch)
    found = facts(dump)
    assert found["Kernel names"].endswith(f" symbols of {kernel_of(some)}")
    assert found["Kernel types"].endswith(f"DWARF of {kernel_of(some)}")


def test_symbol_files_of_other_programs_are_found_too(
    some: str, dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say nothing of a banner: where the kernel's own offsets are, and what they must be, tells it."""
    directory = tmp_path / "isf"
    directory.mkdir()
    content = isf.load(write_symbol_file(some, tmp_path))
    content["symbols"] = {name: one for name, one in content["symbols"].items() if "constant_data" not in one}
    (directory / "foreign.json").write_text(json.dumps(content), encoding="utf-8")
    _on_symbol_path(directory, monkeypatch)
    found = facts(dump)
    assert found["Kernel names"].endswith("isf/foreign.json")
    assert found["Kernel fit"].startswith("fits: the banner, 10 exported offsets")


def _on_symbol_path(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import volatility3.symbols

    monkeypatch.setattr(volatility3.symbols, "__path__", [*volatility3.symbols.__path__, str(directory)])


def test_another_releases_kernel_is_refused_with_both_names(
    some: str, dump: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release, arch = some.split("-")
    other = kernel_file({"14": "15", "15": "14"}[release], arch)
    said = facts(dump, other)["Kernel names"]
    mine, theirs = ("15.0", "14.3") if release == "15" else ("14.3", "15.0")
    assert said.startswith(f"none: the kernel {other} (FreeBSD {theirs}-RELEASE #0: ")
    assert f"does not fit the dump (FreeBSD {mine}-RELEASE #0: " in said
    assert said.endswith("; pass the right one with --freebsd-kernel, or use this one with --freebsd-force")
    with pytest.raises(exceptions.UnsatisfiedException):
        framework.stack(dump, VNETS, kernel=other)
    assert [one for one in caplog.messages if one.startswith("No kernel symbols: the kernel ")]


def test_a_refused_kernel_can_be_forced_and_info_says_so(some: str, dump: Path) -> None:
    release, arch = some.split("-")
    other = kernel_file({"14": "15", "15": "14"}[release], arch)
    rows = framework.table(dump, INFO, kernel=other, force=True)
    found = {row["Variable"]: row["Value"] for row in rows}
    assert found["Kernel names"].endswith(f" symbols of {other}")
    assert found["Kernel fit"].startswith("does not fit: ")
    assert found["Kernel fit"].endswith("; used because of --freebsd-force")


def test_a_kernel_that_does_not_fit_beside_the_dump_is_passed_over(
    some: str, dump: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release, arch = some.split("-")
    shutil.copy(kernel_file({"14": "15", "15": "14"}[release], arch), dump.parent / "kernel")
    caplog.set_level(logging.INFO)
    assert "the dump itself" in facts(dump)["Kernel names"]
    assert [one for one in caplog.messages if " is passed over: the kernel " in one]


def test_another_architectures_kernel_is_refused(dump: Path, some: str) -> None:
    other = kernel_file("15", "arm64" if some != "15-arm64" else "amd64")
    arch = some.split("-")[1]
    assert facts(dump, other)["Kernel names"] == f"none: {other} is a kernel for arm64, the dump is of {arch}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is an empty file"),
        (b"\x7fELF" + bytes(60), "is no ELF kernel"),
        (b"no kernel at all\n", "is neither an ELF file nor an archive"),
    ],
)
def test_what_is_no_kernel_is_refused_in_one_sentence(
    dump: Path, tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "something"
    path.write_bytes(content)
    said = facts(dump, path)["Kernel names"]
    assert said.startswith("none: ")
    assert complaint in said
    assert str(path) in said


def test_a_directory_without_kernels_says_what_was_looked_for(dump: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said = facts(dump, empty)["Kernel names"]
    assert said.startswith(f"none: there is no kernel in {empty}: no file kernel, ")


def test_a_dump_without_any_names_says_where_was_looked(tmp_path: Path, some: str) -> None:
    """The symbol table that the loader left is wiped."""
    world = build_world(some)
    area = world.get("loader_symbols", 1)
    address, size = area.vol_address if hasattr(area, "vol_address") else (int(area), area._type["count"])
    from tests.scenario_dumps import changed

    with changed(world.memory, {address: bytes(size)}):
        path = tmp_path / "vmcore.9"
        path.write_bytes(FORMATS["minidump"](world.memory))
    assert facts(path)["Kernel names"] == (
        f"none: no kernel fits {path}: looked for kernels beside the dump, symbol files, the running system's kernel, "
        f"the kernel's own symbols in the dump; pass it with {OPTION}"
    )


def test_a_saved_configuration_needs_neither_kernel_nor_search(some: str, dump: Path) -> None:
    made = framework.stack(dump, VNETS, kernel=kernel_of(some))
    again = framework.rebuild(made.saved_configuration(), VNETS)
    module = again.context.modules[str(again.plugin.config["kernel"])]
    assert type(again.context.symbol_space[module.symbol_table_name]).__name__ == "FreeBSDKernelSymbols"


@everywhere
def test_other_peoples_plugins_get_what_kvm_nlist_would_give(some: str, dump: Path) -> None:
    made = framework.stack(dump, VNETS, kernel=kernel_of(some))
    module = made.context.modules[str(made.plugin.config["kernel"])]
    table = made.context.symbol_space[module.symbol_table_name]
    mask = made.kernel.address_mask
    assert module.get_symbol("hz").address == table.names.address("hz") & mask
    for name in ("ifnet", "epair_cloner", "epair_dpcpu"):
        assert module.get_symbol(name).address == table.names.address(name) & mask
    assert module.object_from_symbol("hz") == 1000
    first = module.object_from_symbol("ifnet").cstqh_first
    assert str(first.dereference().if_xname.cast("string", max_length=16)) == "vtnet0"
    with pytest.raises(exceptions.SymbolError):
        module.get_symbol("no_such_name")


@pytest.mark.parametrize("some", ["15-amd64", "14-powerpc64", "15-i386"], indirect=True)
def test_a_stock_kernel_brings_its_types_as_ctf(some: str, dump: Path) -> None:
    kernel = dump.parent / "kernel"
    kernel.write_bytes(add_ctf(kernel_of(some), types=dwarf_of(kernel_of(some))))
    found = facts(dump)
    assert found["Kernel types"].endswith(f"CTF of {kernel}")
    assert "10 exported offsets" in found["Kernel fit"]
    assert hz(dump) == ("plain", "1000")
