"""`freebsd.kvm.export`: what plugins and debuggers see in the file is what they see in the dump."""

from __future__ import annotations

import functools
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from volatility3.framework import interfaces

from tests import framework
from tests.conftest import RealFile
from tests.minikernel.kernels import kernel_file
from tests.plugins.test_kvm_plugins import Vol, save, small, vol, without_children
from tests.scenario.build_system import HZ
from tests.scenario.kernels import ARCHITECTURES, build_world, load
from tests.scenario.process_groups import in_order_of_creation
from tests.scenario_dumps import write_dump
from tests.test_real_dumps import DUMPS
from tests.writers.elfcore import EM_X86_64, Segment, elfcore
from tests.writers.parameters import MIB
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm import export

__all__ = ["vol"]

EXPORT, PAGES = "freebsd.kvm.export.Export", "freebsd.kvm.pages.Pages"
PLUGINS: dict[str, dict[str, Any]] = {
    "freebsd.pslist.PsList": {},
    "freebsd.sysinfo.SysInfo": {},
    "freebsd.kvm.nlist.Nlist": {"name": ["hz", "allproc", "version", "ifnet"]},
    "freebsd.threads.Threads": {},
    "freebsd.dmesg.Dmesg": {},
    "freebsd.envars.Envars": {},
    PAGES: {},
}
NO_TABLES = ("powerpc64",)
"""Architectures whose full dumps cannot be translated."""
GDB_NAMES = {
    "amd64": "i386:x86-64",
    "i386": "i386",
    "arm64": "aarch64",
    "riscv": "riscv:rv64",
    "arm": "arm",
    "powerpc64": "powerpc:common64",
}

Row = dict[str, Any]


def write_export(dump: Path, symbols: dict[str, int], directory: Path) -> Path:
    """The dump as an ELF core, without the framework."""
    path = directory / f"{dump.name}.elf"
    with kvm.open(dump, symbols=symbols) as opened, path.open("w+b") as file:
        plan = export.plan_elf(opened)
        assert (plan.has_map, plan.left_out, plan.notes) == (True, 0, ())
        export.write(plan, opened, file)
        export.verify(plan, opened, file)
    return path


@pytest.mark.parametrize(
    ("kernel", "form"),
    [
        *(("12.1-amd64", "minidump"), ("15-amd64", "full"), ("15-arm64", "minidump"), ("14-riscv", "full")),
        *(("15-i386", "minidump"), ("12.1-i386", "full"), ("14-powerpc64", "minidump"), ("15-arm", "full")),
    ],
)
def test_plugins_see_the_same(kernel: str, form: str, tmp_path: Path):
    dump, names = write_dump(kernel, tmp_path, form)
    core = write_export(dump, load(kernel)[0].symbols, tmp_path)
    for plugin, options in PLUGINS.items():
        expected, found = (framework.table(path, plugin, kernel=names, **options) for path in (dump, core))
        if plugin == PAGES:
            # The bytes are elsewhere in another file; whether they are there is the same.
            for row in expected + found:
                row["File offset"] = row["File offset"] is not None
        assert len(expected) > 3
        assert found == expected, plugin


# --- Debuggers ------------------------------------------------------------------------------------------------------


@functools.cache
def gdb_for(arch: str) -> str:
    """A gdb that knows an architecture; skips the test where there is none."""
    for name in ("gdb-multiarch", "gdb"):
        found = shutil.which(name)
        if found:
            command = [found, "-batch", "-nx", "-ex", f"set architecture {GDB_NAMES[arch]}"]
            if not subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr:
                return found
    pytest.skip(f"there is no gdb for {arch}")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("release", "form"), [("15", "minidump"), ("14", "full")])
def test_gdb_reads_the_kernel(release: str, form: str, arch: str, tmp_path: Path):
    if form == "full" and arch in NO_TABLES:
        pytest.skip("full dumps of physical memory cannot be translated on this architecture")
    name = f"{release}-{arch}"
    dump, _ = write_dump(name, tmp_path, form)
    core = write_export(dump, load(name)[0].symbols, tmp_path)
    commands = [
        # A gdb that does not know FreeBSD would take kernel and core for different systems, and give up.
        *("-iex", "set osabi GNU/Linux"),
        *(str(kernel_file(release, arch)), str(core)),
        *("-ex", "p hz", "-ex", "p ((struct proc *)allproc.lh_first)->p_comm"),
        *("-ex", "p ((struct proc *)allproc.lh_first)->p_pid", "-ex", "x/4bx 0x10"),
    ]
    done = subprocess.run(
        [gdb_for(arch), "-batch", "-nx", *commands], capture_output=True, text=True, timeout=120, check=False
    )
    last = [process for process in in_order_of_creation(build_world(name)) if process.state != "zombie"][-1]
    assert re.findall(r"^\$\d = (.*)$", done.stdout, re.MULTILINE) == [
        str(HZ),
        f"\"{last.comm}\", '\\000' <repeats {19 - len(last.comm)} times>",
        str(last.pid),
    ], done.stdout + done.stderr
    assert "Cannot access memory at address 0x10" in done.stderr


# --- The plugin -----------------------------------------------------------------------------------------------------


def values(rows: list[Row]) -> dict[str, Any]:
    return {row["Variable"]: row["Value"] for row in rows}


def test_elf(vol: Vol, tmp_path: Path):
    dump = save(tmp_path, small())
    found = values(vol.rows("-f", dump, "-o", tmp_path, "freebsd.kvm.export"))
    core = tmp_path / "vmcore.0.elf"
    opened = kvm.open(core)
    headers = opened.core
    assert headers is not None
    assert headers.exported is not None
    assert found == {
        "File output": "vmcore.0.elf",
        "Verified": "7 pages (28672 bytes) read back, identical to the dump",
        "Format": "ELF core (64 bit, amd64)",
        "Segments": str(len(headers.segments) + len(headers.exported.absent) + 2),
        "Kernel virtual addresses": "yes",
        "File size": f"{core.stat().st_size} ({core.stat().st_size:#x})",
        "Bytes of memory": "28672",
        "Addresses": "0x100000-0x204000, physical",
    }
    original = kvm.open(dump)
    assert [run[:2] for run in opened.runs()] == [run[:2] for run in original.runs()]
    layers = [line for line in vol.info("-f", core).splitlines() if line.startswith("Layers")]
    assert layers == [
        "Layers: base_layer (FileLayer), memory_layer (FreeBSDElfLayer), primary (FreeBSDIntel32e)",
    ]


@pytest.mark.parametrize(("options", "base"), [([], 0), (["--first-page"], 0x10_0000)])
def test_raw(vol: Vol, options: list[str], base: int, tmp_path: Path):
    dump = save(tmp_path, small())
    found = values(vol.rows("-f", dump, "-o", tmp_path, "freebsd.kvm.export", "--format", "raw", *options))
    assert found == {
        "File output": "vmcore.0.raw",
        "Verified": "7 pages (28672 bytes) read back, identical to the dump",
        "Format": "raw image of physical memory",
        "Physical address of offset 0": f"{base:#x}",
        "File size": f"{0x20_4000 - base} ({0x20_4000 - base:#x})",
        "Bytes of memory": "28672",
        "Bytes of holes": str(0x20_4000 - base - 28672),
        "Addresses": "0x100000-0x204000, physical",
        "Warning": "this dump does not hold the kernel's own page tables: only an ELF core of it can be analysed again",
    }
    image = (tmp_path / "vmcore.0.raw").read_bytes()
    expected = bytearray(len(image))
    opened = kvm.open(dump)
    for run in opened.runs():
        expected[run.pa - base : run.pa - base + run.length] = opened.read_physical(run.pa, run.length)
    assert image == expected


def test_names_are_not_taken_twice(vol: Vol, tmp_path: Path):
    dump = save(tmp_path, small())
    (tmp_path / "vmcore.0.elf").write_bytes(b"precious")
    found = values(vol.rows("-f", dump, "-o", tmp_path, "freebsd.kvm.export", "--no-verify"))
    assert (found["File output"], found["Verified"]) == ("vmcore.0-1.elf", None)
    assert (tmp_path / "vmcore.0.elf").read_bytes() == b"precious"
    assert kvm.open(tmp_path / "vmcore.0-1.elf").pages_dumped == 7


def test_cut_off_dump(vol: Vol, tmp_path: Path):
    found = values(vol.rows("-f", save(tmp_path, small()[:-0x1800]), "-o", tmp_path, "freebsd.kvm.export"))
    assert found["Warning"] == (
        "the dump is cut off: 6144 bytes that it should hold are beyond its end and not exported"
    )
    assert found["Verified"] == "6 pages (22528 bytes) read back, identical to the dump"


def scattered(tmp_path: Path) -> Path:
    segments = [Segment(MIB, MIB, b"a" * 4096), Segment(1 << 51, 1 << 51, b"b" * 4096)]
    return save(tmp_path, elfcore(segments, bits=64, byteorder="little", machine=EM_X86_64))


def test_a_raw_image_that_would_be_absurd(vol: Vol, tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    dump = scattered(tmp_path)
    done = vol.run("-r", "json", "-f", dump, "-o", output, "freebsd.kvm.export", "--format", "raw")
    assert done.returncode == 0
    assert '"Problem"' in done.stdout
    assert "use --format elf" in done.stdout
    assert list(output.iterdir()) == []


def test_without_page_tables(vol: Vol, tmp_path: Path):
    done = vol.run("-r", "json", "-f", scattered(tmp_path), "-o", tmp_path, "freebsd.kvm.export")
    found = values(without_children(done.stdout))
    assert found["Kernel virtual addresses"] == "none"
    assert found["Warning"].startswith("without kernel virtual addresses: no page table root: ")
    assert kvm.open(tmp_path / "vmcore.0.elf").read_physical(1 << 51, 4096) == b"b" * 4096


def test_what_is_no_dump(vol: Vol, tmp_path: Path):
    done = vol.run("-r", "json", "-f", save(tmp_path, b"nothing" * 1000), "-o", tmp_path, "freebsd.kvm.export")
    assert "Traceback" not in done.stdout + done.stderr
    assert '"Problem"' in done.stdout


class Memory(io.BytesIO, interfaces.plugins.FileHandlerInterface):
    """A file handler whose disk may be full, and which may forget."""

    closed_as = ""
    room = 1 << 30

    def __init__(self, filename: str) -> None:
        io.BytesIO.__init__(self)
        interfaces.plugins.FileHandlerInterface.__init__(self, filename)

    def write(self, data: Any) -> int:
        if self.tell() > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)

    def close(self) -> None:
        if not self.closed:
            type(self).closed_as = self.preferred_filename
        super().close()


class Full(Memory):
    room = 0x2000


class Forgetful(Memory):
    def flush(self) -> None:
        io.BytesIO.seek(self, 0x5000)
        io.BytesIO.write(self, b"something else")


@pytest.mark.parametrize(
    ("handler", "verdict"),
    [
        (Full, "NO: [Errno 28] No space left on device"),
        (Forgetful, "NO: the exported file differs from the dump within 0x1000 bytes from address "),
    ],
)
def test_a_file_that_failed_is_called_incomplete(handler: type[Memory], verdict: str, tmp_path: Path):
    made = framework.stack(save(tmp_path, small()), EXPORT).plugin
    made.set_open_method(handler)
    rows: dict[str, str] = {}
    made.run().populate(lambda node, _: rows.update([tuple(node.values)]))
    assert rows["Verified"].startswith(verdict[:40])
    assert handler.closed_as == rows["File output"] == "vmcore.0.elf.incomplete"


@pytest.mark.parametrize("name", [real.name for real in DUMPS])
def test_real_dumps(name: str, real_file: RealFile, vol: Vol, tmp_path: Path):
    dump = real_file(name)
    arguments = ["-f", dump, "-o", tmp_path, "freebsd.kvm.export"]
    original = kvm.open(dump)
    readable = sum(run.length for run in original.runs())
    for form in ("elf", "raw"):
        done = vol.run("-r", "json", *arguments, "--format", form)
        assert f"({readable} bytes) read back, identical to the dump" in done.stdout, done.stderr
        path = tmp_path / f"{dump.name}.{form}"
        assert path.stat().st_blocks * 512 < 8 * MIB
        if form == "elf":
            assert [run[:2] for run in kvm.open(path).runs()] == [run[:2] for run in original.runs()]
        path.unlink()


@pytest.mark.parametrize("name", ["14-amd64", "15-arm64", "14-riscv", "15-i386"])
def test_raw_images_are_opened_again(name: str, tmp_path: Path):
    dump, names = write_dump(name, tmp_path, "full")
    image = tmp_path / "memory.raw"
    with kvm.open(dump) as opened, image.open("w+b") as file:
        plan = export.plan_raw(opened)
        export.write(plan, opened, file)
        export.verify(plan, opened, file)
    for plugin in ("freebsd.pslist.PsList", "freebsd.sysinfo.SysInfo"):
        assert framework.table(image, plugin, kernel=names) == framework.table(dump, plugin, kernel=names)
