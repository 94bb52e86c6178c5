"""Every plugin shows of a dump in whatever form, in ``-r json``, what it shows of the plain minidump."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.forms import ALL, FORMS, Form, sample_of, save
from tests.framework import Stack, beside, plugin_classes, rows_of, stack
from tests.kvm.packed import private_key
from tests.scenario_dumps import write_symbol_file

PSLIST, INFO, LAYERS = "freebsd.pslist.PsList", "freebsd.kvm.info.Info", "freebsd.kvm.layers.Layers"
OPTIONS = {"freebsd.kvm.nlist.Nlist": {"name": ["hz", "allproc", "vnet0"]}}
WRITERS = {"freebsd.kvm.export.Export"}
"""Plugins that do nothing but write files."""
ASKING = {"freebsd.vmayarascan.VmaYaraScan"}
"""Plugins that want to be told what to look for."""
OF_CONTAINERS = ("Container", "Dump ", "Panic", "Layers")
"""Rows of freebsd.kvm.info that only containers have, or that name their layers; those of dump_avail are others."""
OF_DUMP_AVAIL = "Dump available"
OF_DEVICES = "savecore has cleared the trailing header"
"""A warning."""
CASES = [
    *(("15-amd64", form) for form in FORMS),
    *(("15-arm64", form) for form in ("zstd", "disk with a GPT")),
    *(("15-riscv", form) for form in ("gzip by savecore", "device, version 4")),
    *(("15-i386", form) for form in ("ChaCha20 of zstd", "disk with an MBR")),
    *(("15-arm", form) for form in ("AES", "device, cleared")),
    *(("15-powerpc64", form) for form in ("gzip by the kernel", "device of 4 KiB sectors")),
]

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_key(tmp_path_factory.mktemp("keys") / "private.pem")


def names() -> list[str]:
    """All plugins of ours that need not write files."""
    return sorted(name for name in plugin_classes() if name.startswith("freebsd.") and name not in WRITERS)


def everything(made: Stack) -> dict[str, Rows | None]:
    """The rows of every plugin; None of those that cannot run."""
    plugins = {name: beside(made, name, **OPTIONS.get(name, {})) for name in names()}
    return {name: rows_of(plugin) if plugin else None for name, plugin in plugins.items()}


@functools.lru_cache(maxsize=1)
def plain(kernel: str) -> tuple[dict[str, Rows | None], str]:
    """What the plugins show of the plain dump, and the kernel's symbol file."""
    with tempfile.TemporaryDirectory() as directory:
        symbols = write_symbol_file(kernel, Path(directory))
        path = save(Path(directory), "vmcore.0", sample_of(kernel).data)
        return everything(stack(path, PSLIST, kernel=symbols)), symbols.read_text()


def comparable(plugin: str, rows: Rows, form: Form) -> Rows:
    """The rows without what is a container's own."""
    if plugin == INFO:
        rows = [
            row
            for row in rows
            if row["Variable"].startswith(OF_DUMP_AVAIL)
            or (not row["Variable"].startswith(OF_CONTAINERS) and not str(row["Value"]).startswith(OF_DEVICES))
        ]
    if plugin == LAYERS:
        # Below the dump, and what those layers are called.
        rows = [
            {name: value for name, value in row.items() if name not in ("Layer", "Base")}
            for row in rows
            if row["Layer class"] not in ("FileLayer", "FreeBSDContainerLayer")
        ]
    hidden = form.differs.get(plugin, ())
    return [{name: value for name, value in row.items() if name not in hidden} for row in rows]


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_every_plugin_shows_the_same(kernel: str, name: str, pem: Path, tmp_path: Path):
    form = FORMS[name]
    expected, symbols = plain(kernel)
    arrived = form.build(tmp_path, sample_of(kernel), pem)
    found = everything(
        stack(arrived.path, PSLIST, kernel=save(tmp_path, "kernel.json", symbols.encode()), key=arrived.key)
    )
    different = [
        plugin
        for plugin, rows in found.items()
        if form.differs.get(plugin) != ALL
        and json.dumps(comparable(plugin, rows or [], form))
        != json.dumps(comparable(plugin, expected[plugin] or [], form))
    ]
    assert different == []


def test_every_plugin_has_something_to_show():
    """So that nothing is not the same as nothing."""
    rows, _ = plain("15-amd64")
    assert {plugin for plugin, shown in rows.items() if shown is None} <= ASKING
    assert {plugin for plugin, shown in rows.items() if shown == []} == set()
    assert len(rows) > 25


def test_differences_would_be_seen(pem: Path, tmp_path: Path):
    """One byte of a process's name, within a container."""
    sample = sample_of("15-amd64")
    data = sample.data.replace(b"sshd\0", b"sshD\0")
    assert data != sample.data
    arrived = FORMS["zstd"].build(tmp_path, sample._replace(data=data), pem)
    expected, symbols = plain("15-amd64")
    found = everything(stack(arrived.path, PSLIST, kernel=save(tmp_path, "kernel.json", symbols.encode())))
    assert found[PSLIST] != expected[PSLIST]
    assert found["freebsd.kvm.pages.Pages"] == expected["freebsd.kvm.pages.Pages"]
