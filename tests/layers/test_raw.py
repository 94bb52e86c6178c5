"""FreeBSD in raw images and in what the framework takes for memory: from the file to what plugins show."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from volatility3.framework import exceptions
from volatility3.framework.layers import avml

from tests import framework
from tests.scenario.kernels import build_world
from tests.scenario_dumps import write_dump
from tests.writers import machine_images
from tests.writers.kernel_memory import KernelMemory
from volatility3_freebsd_kvm import kvm

MIB = 1 << 20
LAYERS = {
    "amd64": "FreeBSDIntel32e",
    "i386": "FreeBSDIntelPAE",
    "arm64": "FreeBSDAArch64",
    "riscv": "FreeBSDRiscV64",
}
NAMES = ("12.1-amd64", "12.1-i386", "13.0-amd64", *(f"{one}-{arch}" for one in ("14", "15") for arch in LAYERS))
SOME = ("freebsd.pslist.PsList", "freebsd.lsof.Lsof", "freebsd.sysinfo.SysInfo", "freebsd.netstat.Netstat")
OTHERWISE = ("freebsd.psaux.PsAux", "freebsd.envars.Envars")
"""What shows more with memory of processes, which minidumps lack; ``freebsd.kvm`` describes the file itself."""


class Files:
    """The scenario in each form, with the kernel of its symbols."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.dump, self.kernel = write_dump(name, directory)
        self.shown: dict[str, Any] = {}

    @property
    def memory(self) -> KernelMemory:
        return build_world(self.name).memory

    @property
    def top(self) -> str:
        return LAYERS[self.memory.machine.arch]

    def saved(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    def raw(self) -> Path:
        path = self.directory / "memory.img"
        return path if path.exists() else self.saved("memory.img", self.memory.raw_image())

    def expected(self, plugin: str) -> Any:
        """What the plugin shows of the minidump."""
        if plugin not in self.shown:
            self.shown[plugin] = framework.table(self.dump, plugin, kernel=self.kernel)
        return self.shown[plugin]


@pytest.fixture(scope="module")
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(request.param, tmp_path_factory.mktemp("raw"))


@pytest.mark.parametrize("files", NAMES, indirect=True, scope="module")
def test_raw_images_show_what_minidumps_show(files: Files):
    made = framework.stack(files.raw(), kernel=files.kernel)
    assert made.classes == ["FileLayer", "FreeBSDRawLayer", files.top]
    low, high = files.memory.machine.ram
    assert (made.memory.minimum_address, made.memory.maximum_address) == (low, high - 1)
    for plugin in SOME:
        assert framework.table(files.raw(), plugin, kernel=files.kernel) == files.expected(plugin), plugin


@pytest.mark.parametrize("files", NAMES, indirect=True, scope="module")
def test_saved_configurations_need_no_search(files: Files, monkeypatch: pytest.MonkeyPatch):
    made = framework.stack(files.raw(), kernel=files.kernel)
    saved = made.saved_configuration()
    monkeypatch.setattr(kvm.raw, "_search", None)
    again = framework.rebuild(saved)
    assert again.classes == made.classes
    va = files.memory.image.symbols["version"]
    assert again.kernel.read(va, 128) == made.kernel.read(va, 128) == files.memory.read(va, 128)
    assert again.kernel.dump.page_map.name == made.kernel.dump.page_map.name


@pytest.mark.parametrize("files", ["14-amd64", "15-arm64", "15-riscv"], indirect=True, scope="module")
def test_kernels_are_found_without_their_symbols(files: Files):
    made = framework.stack(files.raw())
    assert made.classes == ["FileLayer", "FreeBSDRawLayer", files.top]
    generic = framework.stack(files.raw(), framework.GENERIC)
    assert generic.classes == made.classes


@pytest.mark.parametrize("files", ["14-amd64"], indirect=True, scope="module")
@pytest.mark.parametrize(
    "plugin",
    sorted(
        name
        for name in framework.plugin_classes()
        if name.startswith("freebsd.")
        and name in framework.plugin_classes()
        and ".kvm." not in name
        and name not in (*SOME, *OTHERWISE)
    ),
)
def test_all_plugins_show_of_raw_images_what_they_show_of_full_dumps(files: Files, plugin: str):
    full = files.directory / "vmcore.full"
    if not full.exists():
        full.write_bytes(files.memory.full_dump())
    try:
        expected = framework.table(full, plugin, kernel=files.kernel)
    except exceptions.VolatilityException as error:
        pytest.skip(f"{plugin} needs an option: {error}")
    assert framework.table(files.raw(), plugin, kernel=files.kernel) == expected


Form = Callable[[KernelMemory], bytes]
FORMS: dict[str, tuple[Form, list[str]]] = {
    "LiME": (lambda m: machine_images.lime(m.with_page_tables(), m.machine.dump_avail), ["LimeLayer"]),
    "ELF core of QEMU": (
        lambda m: machine_images.qemu_core(m.with_page_tables(), m.machine.dump_avail, m.machine.arch),
        ["Elf64Layer"],
    ),
    "AVML": (lambda m: machine_images.avml(m.with_page_tables(), m.machine.dump_avail, zlib.compress), ["AVMLLayer"]),
    "saved state of QEMU": (
        lambda m: machine_images.qemu_state(m.with_page_tables(), m.machine.dump_avail),
        ["QemuSuspendLayer"],
    ),
}


@pytest.mark.parametrize(
    ("files", "form"),
    [
        *(("14-amd64", form) for form in FORMS),
        *(("15-arm64", form) for form in ("LiME", "ELF core of QEMU")),
        *(("15-riscv", form) for form in ("LiME", "ELF core of QEMU")),
        *(("15-i386", form) for form in ("LiME", "ELF core of QEMU")),
    ],
    indirect=["files"],
    scope="module",
)
def test_what_the_framework_takes_for_memory(files: Files, form: str, monkeypatch: pytest.MonkeyPatch):
    # Snappy is a library that machines may lack; how pages are packed does not matter here.
    monkeypatch.setattr(avml, "HAS_SNAPPY", True)
    monkeypatch.setattr(avml, "uncompress", zlib.decompress)
    make, between = FORMS[form]
    # The framework has no layer for 32 bits, so that ours reads such a core itself.
    between = [] if (files.memory.machine.arch, form) == ("i386", "ELF core of QEMU") else between
    path = files.saved(form.replace(" ", "-"), make(files.memory))
    made = framework.stack(path, kernel=files.kernel)
    assert made.classes == ["FileLayer", *between, "FreeBSDRawLayer", files.top]
    for low, high in files.memory.machine.dump_avail:
        assert made.memory.is_valid(low, high - low)
    for low, high in files.memory.machine.holes:
        assert not made.memory.is_valid(low, 1)
        assert not made.memory.is_valid(high - 1, 1)
    va = files.memory.image.symbols["version"]
    pieces = list(made.memory.mapping(made.kernel.dump.kvatop(va), 64))
    below = made.context.layers[pieces[0][4]]
    assert below.read(pieces[0][2], 64) == files.memory.read(va, 64)
    assert framework.rebuild(made.saved_configuration()).classes == made.classes
    for plugin in SOME[:2]:
        assert framework.table(path, plugin, kernel=files.kernel) == files.expected(plugin)


@pytest.mark.parametrize("files", ["14-amd64", "15-arm64"], indirect=True, scope="module")
def test_vmware(files: Files):
    memory, state = machine_images.vmware(files.memory.with_page_tables(), files.memory.machine.dump_avail)
    path = files.saved("machine.vmem", memory)
    files.saved("machine.vmss", state)
    made = framework.stack(path, kernel=files.kernel)
    assert made.classes == ["FileLayer", "FileLayer", "VmwareLayer", "FreeBSDRawLayer", files.top]
    assert framework.table(path, SOME[0], kernel=files.kernel) == files.expected(SOME[0])


@pytest.mark.parametrize("files", ["14-amd64"], indirect=True, scope="module")
def test_a_vmem_alone_is_a_raw_image(files: Files):
    path = files.saved("alone.vmem", files.memory.raw_image())
    assert framework.stack(path).classes == ["FileLayer", "FreeBSDRawLayer", files.top]


@pytest.mark.parametrize("files", ["14-amd64"], indirect=True, scope="module")
def test_what_is_found_is_logged(files: Files, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "volatility3_freebsd_kvm")
    framework.stack(files.raw())
    assert "amd64 memory from 0x0 on" in caplog.text
    assert "is translated to its ELF header at 0x200000" in caplog.text


@pytest.mark.parametrize("files", ["15-i386"], indirect=True, scope="module")
def test_memory_of_freebsd_whose_tables_are_not_found_is_a_warning(files: Files, caplog: pytest.LogCaptureFixture):
    """The scenario's i386 tables do not map themselves."""
    caplog.set_level(logging.DEBUG, "volatility3_freebsd_kvm")
    with pytest.raises(exceptions.UnsatisfiedException):
        framework.stack(files.raw(), "freebsd.pslist.PsList")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("but no kernel with its page tables" in text and "--freebsd-kernel" in text for text in warnings)


@pytest.mark.parametrize("content", ["zeros", "random", "Windows"])
@pytest.mark.parametrize("plugin", ["freebsd.pslist.PsList", framework.GENERIC], ids=["freebsd", "generic"])
def test_images_of_others_are_left_alone(tmp_path: Path, content: str, plugin: str, caplog: pytest.LogCaptureFixture):
    from volatility3_freebsd_kvm.automagic.raw import FreeBSDRawStacker

    caplog.set_level(logging.WARNING, "volatility3_freebsd_kvm")
    path = tmp_path / "memory.img"
    page = {"zeros": bytes(4096), "random": bytes(range(256)) * 16, "Windows": b"MZ\x90\0".ljust(4096, b"\xcc")}
    path.write_bytes(page[content] * (8 * MIB // 4096))
    if plugin == framework.GENERIC:
        made = framework.stack(path, plugin)
        assert made.classes == ["FileLayer"]
    else:
        with pytest.raises(exceptions.UnsatisfiedException):
            framework.stack(path, plugin)
    assert caplog.text == ""
    assert FreeBSDRawStacker.exclusion_list == ["windows", "linux", "mac"]


@pytest.mark.parametrize("magic", [b"EMiL", b"AVML", b"QEVM"])
def test_what_the_framework_could_not_open_is_no_raw_memory(tmp_path: Path, magic: bytes):
    path = tmp_path / "memory.img"
    path.write_bytes(magic.ljust(MIB, b"\xff"))
    assert framework.stack(path).classes == ["FileLayer"]
