"""The plugins about open files, mounts and address maps, as ``-r json`` shows them, compared with the description."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.plugins import timeliner

from tests.bsd.file_expectations import Expected
from tests.bsd.kernel_variants import NOWHERE, Patch
from tests.bsd.vm_expectations import PROCESSES, USERS, expected
from tests.framework import plugin_classes, stack, table
from tests.scenario.kernels import build_world, load
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import changed, symbols_of, walkable, write_dump
from tests.writers.objects import addressof
from volatility3_freebsd_kvm.bsd.needs import ADVICE
from volatility3_freebsd_kvm.bsd.open_files import OpenFile
from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.bsd.vm import MapEntry
from volatility3_freebsd_kvm.image import table as image_table
from volatility3_freebsd_kvm.image.partial import partial_types

KERNELS = ("12.1-amd64", "12.1-i386", "13.0-amd64", "14-riscv", "14-powerpc64", "15-amd64", "15-arm64")
LSOF, MOUNT, MAPS = "freebsd.lsof.Lsof", "freebsd.mount.Mount", "freebsd.proc_maps.Maps"
CSH = 850
UTC = datetime.timezone.utc

Row = dict[str, Any]


class Files(NamedTuple):
    """A dump of the scenario and its kernel."""

    name: str
    dump: Path
    kernel: Path

    def rows(self, plugin: str, **options: Any) -> list[Row]:
        return table(self.dump, plugin, kernel=self.kernel, **options)


@pytest.fixture(scope="module", params=KERNELS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    name = str(request.param)
    return Files(name, *write_dump(name, tmp_path_factory.mktemp("scenario")))


def cell(value: object) -> object:
    """As JSON has it: nothing for what is absent, text for lists."""
    if isinstance(value, Absent):
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


# --- open files -----------------------------------------------------------------------------------------------------


def file_row(record: OpenFile) -> Row:
    what = record.referent
    return {
        "PID": record.pid,
        "Command": record.command,
        "UID": record.uid,
        "JID": record.jid,
        "FD": record.fd,
        "Type": cell(record.kind),
        "V-type": cell(what.vnode_type),
        "Flags": cell(record.flags),
        "FD flags": cell(record.fd_flags),
        "Refs": cell(record.references),
        "Offset": cell(record.offset),
        "Prot": cell(what.protocol),
        "Rights": cell(record.rights),
        "Inode": cell(what.inode),
        "Mode": cell(what.mode),
        "Size": cell(what.size),
        "Name": cell(what.name),
        "Seen as": cell(record.seen_as),
        "File": cell(record.file),
        "Object": cell(record.data),
        "Notes": cell((*record.notes, *what.notes)),
    }


def test_open_files(files: Files) -> None:
    assert files.rows(LSOF) == [file_row(record) for record in Expected(files.name).records()]


def test_open_files_of_some_processes(files: Files) -> None:
    assert files.rows(LSOF, pid=[CSH, 900]) == [file_row(record) for record in Expected(files.name).records([CSH, 900])]


@pytest.mark.parametrize("jail", ["web", "1"])
def test_open_files_of_a_jail(files: Files, jail: str) -> None:
    assert files.rows(LSOF, jail=[jail]) == [file_row(record) for record in Expected(files.name).records([1000, 1001])]


def test_timeline_has_the_times_of_files(files: Files) -> None:
    plugin = stack(files.dump, LSOF, kernel=files.kernel, pid=[CSH]).plugin
    assert isinstance(plugin, timeliner.TimeLinerInterface)
    found = list(plugin.generate_timeline())
    kinds = ("ACCESSED", "MODIFIED", "CHANGED", "CREATED")
    events = ("was read", "was written", "had its inode changed", "was made")
    for name, key, fd in (("/bin/csh", "csh", "text"), ("/tmp/<inode 90>", "deleted", "17")):
        what = f"File {name}, {fd} of process 850 csh,"
        times = next(vnode.times for vnode in SYSTEM.vnodes if vnode.key == key)
        wanted = [
            (
                f"{what} {event}",
                timeliner.TimeLinerType[kind],
                datetime.datetime.fromtimestamp(time, datetime.timezone.utc),
            )
            for event, kind, time in zip(events, kinds, times, strict=True)
        ]
        assert [item for item in found if item[0].startswith(what)] == wanted
    # A terminal is open thrice, but told once.
    assert len({description for description, _, _ in found}) == len(found)


# --- address maps ---------------------------------------------------------------------------------------------------


def map_row(entry: MapEntry) -> Row:
    return {
        "PID": entry.pid,
        "Command": entry.command,
        "Start": cell(entry.start),
        "End": cell(entry.end),
        "Protection": cell(entry.protection),
        "Max protection": cell(entry.max_protection),
        "Resident": cell(entry.resident),
        "Private": cell(entry.private),
        "Refs": cell(entry.references),
        "Shadows": cell(entry.shadows),
        "Depth": cell(entry.depth),
        "Flags": cell(entry.flags),
        "Type": cell(entry.kind),
        "Offset": cell(entry.offset),
        "Path": cell(entry.path),
        "Object": cell(entry.object),
        "Notes": cell(entry.notes),
    }


def test_address_maps(files: Files) -> None:
    wanted = [map_row(entry) for process in USERS for entry in expected(files.name, process)]
    assert files.rows(MAPS) == wanted


def test_address_maps_of_a_process_and_of_a_jail(files: Files) -> None:
    assert files.rows(MAPS, pid=[CSH]) == [map_row(entry) for entry in expected(files.name, PROCESSES[CSH])]
    assert files.rows(MAPS, jail=["db"]) == [map_row(entry) for entry in expected(files.name, PROCESSES[1100])]
    assert files.rows(MAPS, pid=[CSH], jail=["db"]) == []


# --- mounts ---------------------------------------------------------------------------------------------------------


def test_mounts(files: Files) -> None:
    jails = ", ".join(jail.name for jail in SYSTEM.jails[1:])
    flags = {
        "root": "local, soft-updates",
        "dev": "multilabel",
        "tmp": "local, noexec, nosuid",
        "home": "noatime, nosuid",
        "web-dev": "multilabel",
        "web-www": "read-only",
    }
    order = "big" if walkable(files.name).structs.byteorder == "big" else "little"
    assert files.rows(MOUNT) == [
        {
            "Mounted from": mount.source,
            "Mounted on": mount.on,
            "Type": mount.fstype,
            "Flags": flags[mount.key],
            "Owner": mount.owner,
            "Fsid": b"".join(value.to_bytes(4, order) for value in mount.fsid).hex(),  # type: ignore[arg-type]
            "Vnodes": sum(vnode.mount == mount.key for vnode in SYSTEM.vnodes),
            "Jails": jails if mount.key == "root" else "",
            "Offset": int(build_world(files.name).get("mount", mount.key)),
            "Notes": "",
        }
        for mount in SYSTEM.mounts
    ]


# --- what is wrong --------------------------------------------------------------------------------------------------


def damaged_rows(files: Files, patch: Patch, plugin: str, directory: Path, **options: Any) -> list[Row]:
    memory = build_world(files.name).memory
    with changed(memory, patch):
        path = directory / f"vmcore-{files.name}-damaged"
        path.write_bytes(memory.minidump().data)
    return table(path, plugin, kernel=files.kernel, **options)


def problem_of(rows: list[Row]) -> list[str]:
    """Texts of the rows that say nothing but what went wrong."""
    return [row["Notes"] for row in rows if all(value is None for name, value in row.items() if name != "Notes")]


def test_descriptor_table_that_leads_nowhere(files: Files, tmp_path: Path) -> None:
    patch = Patch(files.name).member("filedesc", build_world(files.name).get("filedesc", 900), "fd_files", NOWHERE)
    rows = damaged_rows(files, patch, LSOF, tmp_path, pid=[900, 1])
    (problem,) = problem_of(rows)
    assert problem.startswith("descriptors of process 900: address 0x10 is not ")
    specials = [file_row(record) for record in Expected(files.name).records([900, 1]) if not record.fd.isdecimal()]
    assert [row for row in rows if row["PID"] is not None] == specials


def test_mounts_in_a_circle(files: Files, tmp_path: Path) -> None:
    first, last = (build_world(files.name).get("mount", key) for key in ("root", "tmp"))
    rows = damaged_rows(files, Patch(files.name).first(addressof(last, "mnt_list"), int(first)), MOUNT, tmp_path)
    assert [row["Mounted on"] for row in rows] == ["/", "/dev", "/tmp", None]
    assert problem_of(rows) == [f"mountlist: loops back to {int(first):#x} after 3 elements"]


def test_object_that_shadows_itself(files: Files, tmp_path: Path) -> None:
    heap = build_world(files.name).get("vm_object", "csh-heap")
    patch = Patch(files.name).member("vm_object", heap, "backing_object", int(heap))
    rows = damaged_rows(files, patch, MAPS, tmp_path, pid=[CSH])
    assert [row["Notes"] for row in rows] == [
        *("", "", "", "its objects shadow each other in a circle", "writable and executable", "", "", "")
    ]


def test_name_with_control_characters_cannot_fake_a_row(files: Files, tmp_path: Path) -> None:
    entry = build_world(files.name).get("namecache", ("bin", "csh"))
    patch = Patch(files.name).text(addressof(entry, "nc_name"), b"a\nb")
    rows = damaged_rows(files, patch, LSOF, tmp_path, pid=[CSH])
    assert rows[0]["Name"] == "/bin/a\\x0ab"


@pytest.fixture(scope="module", params=["12.1-amd64", "12.1-i386"])
def untyped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A dump with a kernel whose types nobody knows, not even our layouts: its variables tell ten members."""
    name = str(request.param)
    _, machine, _ = load(name)
    identity = image_table.TableIdentity(
        architecture=machine.arch, word_bits=machine.word_bits, byteorder=machine.byteorder, symbols_from="a test"
    )
    content = image_table.document(identity, symbols_of(name), partial_types(walkable(name).names), {})
    directory = tmp_path_factory.mktemp("untyped")
    kernel = directory / "kernel.json"
    kernel.write_text(json.dumps(content), encoding="utf-8")
    return Files(name, write_dump(name, directory)[0], kernel)


@pytest.mark.parametrize(
    ("plugin", "where"), [(LSOF, "descriptors"), (MOUNT, "mountlist"), (MAPS, "address maps")], ids=[LSOF, MOUNT, MAPS]
)
def test_kernel_without_types_says_what_is_missing(untyped: Files, plugin: str, where: str) -> None:
    (row,) = untyped.rows(plugin)
    assert row["Notes"].startswith(f"{where}: the types of this kernel lack ")
    assert row["Notes"].endswith(ADVICE)
    assert {value for name, value in row.items() if name != "Notes"} == {None}


def test_help_is_a_sentence() -> None:
    for name in (LSOF, MOUNT, MAPS):
        text = str(plugin_classes()[name].__doc__)
        assert text.endswith(".")
        assert "\n" not in text.strip()
