"""elfs, library_list, malfind and vmayarascan as ``vol`` runs them, compared with what the scenario put into memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.framework import interfaces, renderers

from tests import framework
from tests.bsd.user_image_truth import IMAGE_SIZE, PATHS, at, bits, images, machine_name, type_of
from tests.scenario.kernels import load
from tests.scenario.user_images import (
    ACROSS,
    COPIED,
    DATA_OFFSET,
    DROPPER,
    LIBC,
    LIBEVIL,
    LIBUTIL,
    LISTED,
    MARKER,
    OSRELDATE,
    PATCH,
    SHELLCODE,
    WORKER,
    build_id,
    link_map_address,
)
from tests.scenario.user_memory import PAGE
from tests.user_image_dumps import write_images_dump

KERNELS = ("12.1-amd64", "12.1-i386", "14-riscv", "15-amd64", "15-arm64")
NAMES = {
    "elfs": "freebsd.elfs.Elfs",
    "library_list": "freebsd.library_list.LibraryList",
    "malfind": "freebsd.malfind.Malfind",
    "vmayarascan": "freebsd.vmayarascan.VmaYaraScan",
}
NOT_DUMPED = "not dumped: minidumps have no user pages"
DISASSEMBLED = {"amd64": "intel64", "i386": "intel", "arm64": "arm64"}

Row = dict[str, Any]


class Files(NamedTuple):
    """A dump and its kernel."""

    name: str
    dump: Path
    kernel: Path

    def plugin(self, plugin: str, **options: Any) -> interfaces.plugins.PluginInterface:
        """A plugin ready to run; names of options are as they are, also those with _."""
        made = framework.stack(self.dump, NAMES[plugin], kernel=self.kernel).plugin
        for name, value in options.items():
            made.config[name] = value
        return made

    def rows(self, plugin: str, **options: Any) -> list[Row]:
        return framework.rows_of(self.plugin(plugin, **options))


@pytest.fixture(scope="module", params=KERNELS)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    name = str(request.param)
    return Files(name, *write_images_dump(name, tmp_path_factory.mktemp("full")))


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files("15-amd64", *write_images_dump("15-amd64", tmp_path_factory.mktemp("modern")))


@pytest.fixture(scope="module")
def minidump(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files("15-amd64", *write_images_dump("15-amd64", tmp_path_factory.mktemp("minidump"), "minidump"))


class Kept(io.BytesIO, interfaces.plugins.FileHandlerInterface):
    """A file in memory, which remains after it was closed."""

    files: dict[str, bytes] = {}

    def __init__(self, filename: str) -> None:
        io.BytesIO.__init__(self)
        interfaces.plugins.FileHandlerInterface.__init__(self, filename)

    def close(self) -> None:
        if not self.closed:
            self.files[self.preferred_filename] = self.getvalue()
        super().close()


@pytest.fixture
def saved() -> Iterator[dict[str, bytes]]:
    Kept.files.clear()
    yield Kept.files
    Kept.files.clear()


def test_elfs(full: Files) -> None:
    rows = full.rows("elfs", pid=[WORKER])
    missing = {LIBC: "1 of 4 pages: 1 not resident", LIBUTIL: "1 of 4 pages: 1 swapped out"}
    expected = [
        {
            "PID": WORKER,
            "Command": "worker",
            "Start": start,
            "End": start + IMAGE_SIZE,
            "Type": type_of(one),
            "Bits": bits(full.name),
            "Machine": machine_name(full.name, WORKER),
            "Segments": "r--, r-x, rw-",
            "Missing": missing.get(one.base, ""),
            "Built for": OSRELDATE,
            "Build ID": build_id(one.key).hex(),
            "Path": PATHS[one.key],
            "Notes": "",
        }
        for start, one in images(full.name).items()
    ]
    assert rows[:-1] == expected
    copied = rows[-1]
    assert (copied["Start"], copied["Path"]) == (at(full.name, COPIED) + 2 * PAGE, None)
    assert copied["Notes"] == "in anonymous memory, not executable: there as data"


def test_elfs_are_saved(modern: Files, saved: dict[str, bytes]) -> None:
    plugin = modern.plugin("elfs", pid=[WORKER, 1], dump=True)
    plugin.set_open_method(Kept)
    rows = framework.rows_of(plugin)
    starts = [*images("15-amd64"), COPIED + 2 * PAGE]
    names = [f"pid.{WORKER}.{start:#x}.elf" for start in starts]
    assert [row["File"] for row in rows] == [*names, None]
    assert {row["Notes"] for row in rows[:4]} == {"its section headers are not in memory and were taken out"}
    assert sorted(saved) == sorted(names)
    assert {len(data) for data in saved.values()} == {DATA_OFFSET + 0x800}
    patched = saved[f"pid.{WORKER}.{LIBUTIL:#x}.elf"]
    assert patched[PAGE : PAGE + len(PATCH)] == PATCH
    assert saved[f"pid.{WORKER}.{LIBC:#x}.elf"][2 * PAGE : 3 * PAGE] == bytes(PAGE)


def test_elfs_that_are_too_large(modern: Files, saved: dict[str, bytes]) -> None:
    plugin = modern.plugin("elfs", pid=[WORKER], dump=True, maxsize=0x100)
    plugin.set_open_method(Kept)
    rows = framework.rows_of(plugin)
    assert {row["File"] for row in rows} == {None}
    assert rows[0]["Notes"] == "its 0x3800 bytes are more than --maxsize and were not saved"
    assert saved == {}


def test_library_list(full: Files) -> None:
    files = images(full.name)
    expected = [
        {
            "PID": WORKER,
            "Command": "worker",
            "Load address": at(full.name, base),
            "Size": IMAGE_SIZE,
            "Name": name,
            "Path": PATHS[files[at(full.name, base)].key],
            "Link map": link_map_address(index, load(full.name)[1].word_bits),
            "Notes": "",
        }
        for index, (base, name) in enumerate(LISTED[WORKER])
    ]
    hidden = {
        "PID": WORKER,
        "Command": "worker",
        "Load address": at(full.name, LIBEVIL),
        "Size": IMAGE_SIZE,
        "Name": None,
        "Path": "/lib/libevil.so.1",
        "Link map": None,
        "Notes": "suspicious: mapped, but not in rtld's list",
    }
    assert full.rows("library_list", pid=[WORKER]) == [*expected, hidden]


def test_malfind(full: Files) -> None:
    rows = full.rows("malfind", pid=[WORKER])
    text, code, file = (at(full.name, one) for one in (LIBUTIL + 2 * PAGE, SHELLCODE, DROPPER))
    shown = [
        (row["Start"], row["End"], row["Protection"], row["Reason"], row["Type"], row["Path"], row["Address"])
        for row in rows
    ]
    assert shown == [
        (text, text + 2 * PAGE, "r-x", "2 pages of the file are private copies", "vnode", "/lib/libutil.so.9", text),
        (code, code + 4 * PAGE, "rwx", "writable and executable, anonymous and executable", "swap", None, code + PAGE),
        (file, file + PAGE, "r-x", "its file is deleted", "vnode", "/tmp/<inode 90>", file),
    ]
    assert [row["Notes"] for row in rows] == [
        f"not as in the file: {text:#x}, {text + PAGE:#x}, may be a debugger's or a text relocation's",
        "may be a JIT compiler's",
        "",
    ]
    beginnings = (PATCH, MARKER, b"\x90\x90 a deleted file")
    assert [bytes.fromhex(row["Hexdump"]) for row in rows] == [one.ljust(64, b"\0") for one in beginnings]


def test_what_is_disassembled(full: Files) -> None:
    values: list[Any] = []
    grid = full.plugin("malfind", pid=[WORKER]).run()
    grid.populate(lambda node, _: values.append(node.values[-1]), None)
    architecture = DISASSEMBLED.get(load(full.name)[1].arch)
    if architecture is None:
        assert {type(one) for one in values} == {renderers.NotApplicableValue}
        return
    assert [(one.architecture, one.offset) for one in values] == [
        (architecture, at(full.name, LIBUTIL + 2 * PAGE)),
        (architecture, at(full.name, SHELLCODE) + PAGE),
        (architecture, at(full.name, DROPPER)),
    ]
    assert values[1].data == MARKER.ljust(64, b"\0")


def test_malfind_saves(modern: Files, saved: dict[str, bytes]) -> None:
    plugin = modern.plugin("malfind", pid=[WORKER], dump=True)
    plugin.set_open_method(Kept)
    rows = framework.rows_of(plugin)
    name = f"pid.{WORKER}.{SHELLCODE:#x}-{SHELLCODE + 4 * PAGE:#x}.dmp"
    assert rows[1]["File"] == name
    assert rows[1]["Notes"] == "may be a JIT compiler's, 1 of 4 pages are missing: 1 swapped out"
    assert len(saved) == 3
    assert len(saved[name]) == 4 * PAGE
    assert saved[name][2 * PAGE - 10 : 2 * PAGE - 10 + len(ACROSS)] == ACROSS


def scanned(files: Files, **options: Any) -> list[tuple[object, ...]]:
    """What was found and the notes."""
    rows = files.rows("vmayarascan", **options)
    return [(row["Offset"], row["Rule"], row["Component"], row["Value"], row["Region"], row["Notes"]) for row in rows]


def test_vmayarascan_finds_what_is_across_pages(full: Files) -> None:
    pytest.importorskip("yara")
    rows = full.rows("vmayarascan", pid=[WORKER], yara_string=ACROSS.decode())
    start = at(full.name, SHELLCODE)
    assert rows == [
        {
            "Offset": start + 2 * PAGE - 10,
            "PID": WORKER,
            "Command": "worker",
            "Rule": "r1",
            "Component": "$a",
            "Value": ACROSS.hex(" "),
            "Region": f"{start:#x}-{start + 4 * PAGE:#x} rwx",
            "Path": None,
            "Notes": "",
        },
        {
            **dict.fromkeys(("Offset", "Rule", "Component", "Region", "Path")),
            "PID": WORKER,
            "Command": "worker",
            "Value": "N/A",
            "Notes": "not searched: 3 pages: 2 swapped out, 1 not resident",
        },
    ]


def test_vmayarascan_in_pieces(modern: Files) -> None:
    pytest.importorskip("yara")
    whole = scanned(modern, pid=[WORKER], yara_string="text of ")
    # Twice in each of six images, but for a page of libc that is missing and those of libutil, of which one was
    # patched and one is swapped out; and the note.
    assert len(whole) == 6 * 2 - 3 + 1
    assert scanned(modern, pid=[WORKER], yara_string="text of ", max_size=PAGE) == whole
    assert scanned(modern, pid=[WORKER], yara_string="TEXT of ", insensitive=True) == whole


def test_vmayarascan_with_rules_of_a_file(modern: Files, tmp_path: Path) -> None:
    pytest.importorskip("yara")
    rules = tmp_path / "rules.yar"
    rules.write_text('rule injected { strings: $code = { CC 90 EB FE } $text = "deleted file" condition: any of them }')
    found = scanned(modern, pid=[WORKER, 910], yara_file=rules.as_uri())
    assert [one[:3] for one in found if one[0] is not None] == [
        (SHELLCODE + PAGE, "injected", "$code"),
        (DROPPER + 5, "injected", "$text"),
    ]
    rows = modern.rows("vmayarascan", pid=[WORKER], yara_file=rules.as_uri())
    assert rows[1]["Path"] == "/tmp/<inode 90>"


def test_vmayarascan_by_jail(modern: Files) -> None:
    pytest.importorskip("yara")
    rows = modern.rows("vmayarascan", jail=["web"], yara_string="nginx: worker")
    assert [(row["PID"], row["Offset"] is None) for row in rows] == [(1001, False), (1001, True), (1000, True)]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({}, "yara: there are no rules: give --yara-string, --yara-file or --yara-compiled-file"),
        ({"yara_string": "/(/"}, "yara: the rules cannot be used: "),
        ({"yara_file": "file:///nowhere.yar"}, "yara: the rules cannot be used: "),
    ],
)
def test_vmayarascan_without_rules(modern: Files, options: dict[str, Any], note: str) -> None:
    pytest.importorskip("yara")
    (row,) = scanned(modern, **options)
    assert str(row[-1]).startswith(note)


def test_vmayarascan_without_yara(modern: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = framework.plugin_classes()[NAMES["vmayarascan"]]
    with monkeypatch.context() as patch:
        patch.setitem(cls.run.__globals__, "_yarascan", lambda: None)
        options = {requirement.name for requirement in cls.get_requirements()}
        (row,) = scanned(modern, yara_string="x")
    assert {"yara_string", "yara_file", "yara_compiled_file", "pid", "jail", "kernel"} < options
    assert row[-1] == "yara: neither yara-python nor yara-x is installed: pip install yara-python"


@pytest.mark.parametrize("plugin", ["elfs", "library_list", "vmayarascan"])
def test_minidumps_have_no_user_memory(minidump: Files, plugin: str) -> None:
    (row,) = minidump.rows(plugin, **({"yara_string": "x"} if plugin == "vmayarascan" else {}))
    assert row["Notes"] == f"user memory: {NOT_DUMPED}"
    assert {value for name, value in row.items() if name != "Notes"} <= {None, "N/A"}


def test_malfind_has_the_ranges_of_minidumps(minidump: Files) -> None:
    rows = minidump.rows("malfind", pid=[WORKER])
    assert [row["Start"] for row in rows] == [LIBUTIL + 2 * PAGE, SHELLCODE, DROPPER]
    assert all(row["Notes"].endswith(f"its memory is {NOT_DUMPED}") for row in rows)
    assert {(row["Address"], row["Hexdump"], row["Disasm"]) for row in rows} == {(None, "N/A", "")}
