"""Kernels are found where analysts and FreeBSD keep them, with their own debug information."""

from __future__ import annotations

import os
import platform
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.minikernel.strip import strip_debug
from tests.writers.elfcore import ET_CORE, elf_kernel
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.locate import Locator, beside, candidates, opened, running_system

from . import elf_files
from .installation import BOOT, DEBUG, PAIR, debug_file, kernel, module, names, pack, put, refusal, system, whole

# Files and directories


@pytest.mark.parametrize("named", [f"{BOOT}/kernel", f"{DEBUG}/kernel.debug", BOOT, DEBUG, "boot", ""])
def test_every_way_into_a_system_leads_to_both_halves(tmp_path: Path, named: str) -> None:
    put(tmp_path, system())
    (source,) = candidates(tmp_path / named, "amd64")
    assert names([source], tmp_path) == [PAIR]
    kernel_path, debug_path = tmp_path / PAIR[0], tmp_path / PAIR[1]
    assert source.description == f"{kernel_path}, with debug information from {debug_path}"
    assert (source.architecture, source.warnings) == ("amd64", ())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"kernel": kernel, "kernel.debug": debug_file}, ("kernel", "kernel.debug")),
        ({"kernel": kernel, "kernel.symbols": debug_file}, ("kernel", "kernel.symbols")),
        ({"kernel": kernel, ".debug/kernel.debug": debug_file}, ("kernel", ".debug/kernel.debug")),
        ({"kernel": kernel, "kernel.full": whole}, ("kernel", "kernel.full")),
        ({"kernel": kernel}, ("kernel", None)),
        ({"kernel": whole}, ("kernel", "kernel")),
        ({"kernel.debug": debug_file}, ("kernel.debug", "kernel.debug")),
        ({"kernel.full": whole}, ("kernel.full", "kernel.full")),
    ],
)
def test_one_directory_with_everything(
    tmp_path: Path, files: dict[str, Callable[[], bytes]], expected: tuple[str, str | None]
) -> None:
    put(tmp_path, {name: content() for name, content in files.items()})
    assert names(candidates(tmp_path, "amd64"), tmp_path) == [expected]


def test_kernels_of_a_system_come_the_newest_first(tmp_path: Path) -> None:
    """Behind /boot/kernel, as crashinfo takes them."""
    put(tmp_path, {f"boot/{name}/kernel": kernel() for name in ("kernel", "a.old", "b.new")})
    os.utime(tmp_path / "boot/a.old", (1, 1))
    found = names(candidates(tmp_path, "amd64"), tmp_path)
    assert found == [(f"boot/{name}/kernel", None) for name in ("kernel", "b.new", "a.old")]
    assert names(candidates(tmp_path / "boot", "amd64"), tmp_path) == found


def test_a_directory_with_kernels_in_directories_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, {"host/kernel": kernel(), "host/kernel.debug": debug_file()})
    assert names(candidates(tmp_path, "amd64"), tmp_path) == [("host/kernel", "host/kernel.debug")]


def test_any_architecture_is_taken_where_none_is_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, {"kernel": elf_kernel({"allproc": 1}, "riscv")}) / "kernel"
    (source,) = candidates(path)
    assert (source.kernel, source.debug, source.architecture) == (path, None, "riscv")


def test_both_halves_open(tmp_path: Path) -> None:
    put(tmp_path, system() | {"full/kernel": whole()})
    with opened(next(candidates(tmp_path, "amd64"))) as (first, second):
        assert second is not None
        assert first.build_id == second.build_id
        assert (first.has_dwarf, second.has_dwarf) == (False, True)
        assert first.name == str(tmp_path / PAIR[0])
        assert first.identity.ident == "MINI"
    with opened(next(candidates(tmp_path / "full", "amd64"))) as (first, second):
        assert first is second
    with opened(next(candidates(put(tmp_path / "alone", {"kernel": kernel()}), "amd64"))) as (_, second):
        assert second is None


# Debug information of other kernels


def test_other_build_ids_do_not_go_together(tmp_path: Path) -> None:
    """The debug information by itself is a candidate: the dump may be that of its kernel."""
    put(tmp_path, {"kernel": kernel(), "kernel.debug": debug_file("15")})
    first, second = candidates(tmp_path, "amd64")
    assert names([first, second], tmp_path) == [("kernel", None), ("kernel.debug", "kernel.debug")]
    assert first.warnings == (
        f"{tmp_path / 'kernel.debug'} belongs to another kernel than {tmp_path / 'kernel'}: their build ids differ",
    )


def test_the_checksum_decides_where_there_are_no_build_ids(tmp_path: Path) -> None:
    bare = elf_files.without_build_id(kernel())
    put(tmp_path, {"kernel": bare, "kernel.debug": debug_file()})
    assert names(candidates(tmp_path / "kernel", "amd64"), tmp_path) == [("kernel", "kernel.debug")]
    put(tmp_path, {"kernel.debug": debug_file() + b"\0"})
    (source,) = candidates(tmp_path / "kernel", "amd64")
    assert source.debug is None
    assert len(source.warnings) == 1
    there, wanted = zlib.crc32(debug_file() + bytes(1)), zlib.crc32(debug_file())
    assert source.warnings[0].endswith(f"its CRC is {there:08x}, the kernel's .gnu_debuglink has {wanted:08x}")


@pytest.mark.parametrize(("release", "fits"), [("14", True), ("15", False)])
def test_symbols_decide_where_there_is_nothing_else(tmp_path: Path, release: str, fits: bool) -> None:
    """kernel.symbols of 10 and before, when the link is lost."""
    old = elf_files.without_build_id(strip_debug(whole()))
    put(tmp_path, {"kernel": old, "kernel.symbols": debug_file(release)})
    (source,) = candidates(tmp_path / "kernel", "amd64")
    assert (source.debug is not None) is fits
    assert [warning.partition(": ")[2] for warning in source.warnings] == ([] if fits else ["allproc is elsewhere"])


def test_debug_information_that_is_none_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, {"kernel": kernel(), "kernel.debug": strip_debug(whole()), "kernel.symbols": debug_file()})
    (source,) = candidates(tmp_path / "kernel", "amd64")
    assert names([source], tmp_path) == [("kernel", "kernel.symbols")]
    assert source.warnings == (f"{tmp_path / 'kernel.debug'} has no DWARF debug information",)


def test_a_damaged_companion_ends_nothing(tmp_path: Path) -> None:
    put(tmp_path, {"kernel": kernel(), "kernel.debug": debug_file()[:-5]})
    locator = Locator("amd64")
    (source,) = locator.candidates(tmp_path / "kernel")
    assert names([source], tmp_path) == [("kernel", None)]
    assert len(locator.skipped) == 1
    assert locator.skipped[0].startswith(f"{tmp_path / 'kernel.debug'} is damaged: ")


def test_a_stripped_kernel_has_its_symbols_in_the_debug_information(tmp_path: Path) -> None:
    put(tmp_path, {"kernel": elf_files.without_symbols(kernel()), "kernel.debug": debug_file()})
    assert names(candidates(tmp_path / "kernel", "amd64"), tmp_path) == [("kernel.debug", "kernel.debug")]


# Beside a dump


@pytest.mark.parametrize("dump", ["vmcore.5", "vmcore.5.gz", "vmcore.5.zst", "vmcore_encrypted.5", "livecore.5"])
def test_the_kernel_with_the_number_of_the_dump_comes_first(tmp_path: Path, dump: str) -> None:
    put(
        tmp_path,
        {dump: b"", "kernel": kernel("15"), "kernel.5": kernel(), "kernel.debug.5": debug_file(), "kernel.4": kernel()},
    )
    assert names(beside(tmp_path / dump, "amd64"), tmp_path) == [("kernel.5", "kernel.debug.5"), ("kernel", None)]


def test_a_link_to_the_last_dump_counts_as_the_dump(tmp_path: Path) -> None:
    put(tmp_path, {"vmcore.3": b"", "kernel.3": kernel()})
    (tmp_path / "vmcore.last").symlink_to("vmcore.3")
    assert names(beside(tmp_path / "vmcore.last", "amd64"), tmp_path) == [("kernel.3", None)]


def test_order_of_what_lies_beside_a_dump(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"kernel": kernel(), f"{BOOT}/kernel": kernel(), "kernel.debug": debug_file("15"), "other/kernel": kernel()},
    )
    pack(tmp_path / "kernel.txz", {f"{BOOT}/kernel": kernel()})
    found = [source.description for source in beside(tmp_path / "vmcore.0", "amd64", tmp_path / "cache")]
    assert found == [
        str(tmp_path / "kernel"),
        f"{tmp_path / 'kernel.debug'}, with debug information",
        str(tmp_path / BOOT / "kernel"),
        f"{BOOT}/kernel of {tmp_path / 'kernel.txz'}",
    ]


def test_a_dump_in_var_crash_leads_to_the_kernel_of_its_system(tmp_path: Path) -> None:
    put(tmp_path, system() | {"var/crash/vmcore.0": b"", "var/crash/minfree": b"2048"})
    assert names(beside(tmp_path / "var/crash/vmcore.0", "amd64"), tmp_path) == [PAIR]


def test_nothing_beside_a_dump_is_no_error(tmp_path: Path) -> None:
    put(tmp_path, {"vmcore.0": b"", "kernel": b"not a kernel at all"})
    locator = Locator("amd64")
    assert list(locator.beside(tmp_path / "vmcore.0")) == []
    assert locator.skipped == [f"{tmp_path / 'kernel'} is neither an ELF file nor an archive"]
    assert list(beside(tmp_path / "gone/vmcore.0", "amd64")) == []


def test_only_freebsd_has_kernels_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert list(running_system("amd64")) == []


def test_the_kernels_of_a_running_freebsd(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(platform, "system", lambda: "FreeBSD")
    monkeypatch.setattr(Locator, "_in_directory", lambda self, path, deep: asked.append((path, deep)) or iter(()))
    assert list(running_system("amd64")) == []
    assert asked == [(Path("/"), False)]


# Refusals


def test_refusals_say_what_was_found(tmp_path: Path) -> None:
    netbsd = strip_debug(whole()).replace(b"FreeBSD 14.3-RELEASE #0", b"NetBSD 10.0 (GENERIC)#0")
    put(
        tmp_path,
        {
            "empty": b"",
            "text": b"hello\n",
            "core": elf_kernel({"allproc": 1}, "amd64", elf_type=ET_CORE),
            "mini.ko": module(),
            "program": elf_kernel({"main": 1}, "amd64"),
            "stripped": elf_files.without_symbols(kernel()),
            "arm64": elf_kernel({"allproc": 1}, "arm64"),
            "netbsd": netbsd,
            "cut": kernel()[:-1],
        },
    )
    told = {path.name: refusal(path).removeprefix(str(path)) for path in tmp_path.iterdir()}
    assert told.pop("cut").startswith(" is damaged: ")
    assert told == {
        "empty": " is an empty file",
        "text": " is neither an ELF file nor an archive",
        "core": " is a core dump, not a kernel",
        "mini.ko": " is a module or an object file, not a kernel",
        "program": " is no FreeBSD kernel: it defines no symbol of one",
        "stripped": " has no symbol table (stripped), and there is no kernel.debug with one",
        "arm64": " is a kernel for arm64, the dump is of amd64",
        "netbsd": " is a kernel of NetBSD",
    }
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'} cannot be read (No such file or directory)"


def test_an_empty_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"there is no kernel in {tmp_path}: no file kernel, kernel.gz or kernel.debug, neither there nor in "
        "boot/kernel, boot/* and usr/lib/debug/boot/*, and no kernel.txz"
    )


def test_a_directory_whose_kernels_do_not_fit(tmp_path: Path) -> None:
    other = elf_kernel({"allproc": 1}, "arm64")
    put(tmp_path, {"kernel": other})
    first = f"{tmp_path / 'kernel'} is a kernel for arm64, the dump is of amd64"
    assert refusal(tmp_path) == first
    put(tmp_path, {f"{BOOT}/kernel": b"text"})
    assert refusal(tmp_path) == f"{first} (1 more file does not fit either)"
    put(tmp_path, {"boot/old/kernel": b""})
    assert refusal(tmp_path) == f"{first} (2 more files do not fit either)"


def test_the_same_question_gets_the_same_answer(tmp_path: Path) -> None:
    locator = Locator("amd64")
    path = put(tmp_path, {"kernel": b"text"}) / "kernel"
    for _ in range(2):
        with pytest.raises(FormatError, match=r"is neither an ELF file nor an archive$"):
            list(locator.candidates(path))
    assert len(locator.skipped) == 1


def test_a_directory_that_is_named_as_a_kernel(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    assert refusal(tmp_path).startswith("there is no kernel in ")
