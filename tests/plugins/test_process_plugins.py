"""The plugins about processes over dumps of the scenario, as ``-r json`` shows them, compared with its description."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.plugins import timeliner

from tests.bsd.process_damage import link_at, member_change, pointer_change
from tests.bsd.process_truth import (
    IN_ORDER,
    JAILS,
    LOGINS,
    PROCESSES,
    REMARKS,
    STATES,
    TTYS,
    address_of,
    credentials_of,
    emulation_of,
    flags_of,
    start_of,
)
from tests.bsd.test_process_tree import described
from tests.bsd.test_process_views import expected_views
from tests.framework import plugin_classes, stack, table
from tests.scenario.kernels import build_world
from tests.scenario.model import Process
from tests.scenario.user_memory import has_memory
from tests.scenario_dumps import changed, write_dump, write_symbol_file
from volatility3_freebsd_kvm.bsd.process_views import VIEWS

KERNELS = ("12.1-amd64", "12.1-i386", "13.0-amd64", "14-riscv", "14-powerpc64", "15-amd64", "15-arm64", "15-arm")
NAMES = {
    "pslist": "freebsd.pslist.PsList",
    "pstree": "freebsd.pstree.PsTree",
    "psxview": "freebsd.psxview.PsXView",
    "psaux": "freebsd.psaux.PsAux",
    "envars": "freebsd.envars.Envars",
    "creds": "freebsd.creds.Creds",
    "threads": "freebsd.threads.Threads",
}

Row = dict[str, Any]


class Files(NamedTuple):
    """A dump of the scenario and its kernel."""

    name: str
    dump: Path
    kernel: Path

    def rows(self, plugin: str, **options: Any) -> list[Row]:
        return table(self.dump, NAMES[plugin], kernel=self.kernel, **options)


@pytest.fixture(scope="module", params=KERNELS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    name = str(request.param)
    return Files(name, *write_dump(name, tmp_path_factory.mktemp("scenario")))


def text(items: Any) -> str:
    return ", ".join(map(str, items))


def start_text(process: Process) -> str:
    return start_of(process).isoformat()


def test_pslist(files: Files) -> None:
    rows = files.rows("pslist")
    assert [row["PID"] for row in rows] == IN_ORDER
    for row in rows:
        process = PROCESSES[row["PID"]]
        credentials = credentials_of(process)
        assert set(row.pop("Flags").split(", ")) == flags_of(process, files.name)
        assert row == {
            "PID": process.pid,
            "PPID": process.ppid,
            "PGID": process.pgid,
            "SID": process.sid,
            "UID": credentials.ruid,
            "EUID": credentials.uid,
            "GID": credentials.gid,
            "JID": credentials.jid,
            "TTY": TTYS.get(process.sid),
            "State": STATES[process.pid],
            "Start": start_text(process),
            "Threads": len(process.threads),
            "Emulation": emulation_of(process, files.name),
            "Command": process.comm,
            "Offset": address_of(files.name, "proc", process.pid),
            "Notes": text(REMARKS.get(process.pid, ())),
        }


def test_pstree(files: Files) -> None:
    rows = files.rows("pstree")
    assert [row["PID"] for row in rows] == [pid for _, pid in described()]
    for row in rows:
        process = PROCESSES[row["PID"]]
        credentials = credentials_of(process)
        assert row == {
            "PID": process.pid,
            "PPID": process.ppid,
            "PGID": process.pgid,
            "SID": process.sid,
            "EUID": credentials.uid,
            "JID": credentials.jid,
            "TTY": TTYS.get(process.sid),
            "State": STATES[process.pid],
            "Start": start_text(process),
            "Reaper": 0 if process.ppid == 0 else 1,
            "Command": process.comm,
            "Offset": address_of(files.name, "proc", process.pid),
            "Notes": text(REMARKS.get(process.pid, ())),
        }


def test_psxview(files: Files) -> None:
    titles = {view.key: view.title for view in VIEWS}
    rows = files.rows("psxview")
    assert sorted(row["PID"] for row in rows) == sorted(PROCESSES)
    for row in rows:
        process = PROCESSES[row["PID"]]
        views = expected_views(process, files.name)
        assert row == {
            "PID": process.pid,
            "Command": process.comm,
            "State": STATES[process.pid],
            **{titles[key]: value if value is True else None for key, value in views.items()},
            "Offset": address_of(files.name, "proc", process.pid),
            "Notes": "",
        }


def test_psaux(files: Files) -> None:
    rows = files.rows("psaux")
    assert [row["PID"] for row in rows] == IN_ORDER
    for row in rows:
        process = PROCESSES[row["PID"]]
        cached = bool(process.args and process.args_cached)
        user = has_memory(process)
        assert row == {
            "PID": process.pid,
            "EUID": credentials_of(process).uid,
            "Command": process.comm,
            "Arguments": " ".join(process.args or ()) if cached else None if user else f"[{process.comm}]",
            "Source": "p_args" if cached else None,
            "Offset": address_of(files.name, "proc", process.pid),
            "Notes": ""
            if cached or not user
            else "the arguments are on the user's stack, which is not dumped: minidumps have no user pages",
        }


def test_envars(files: Files) -> None:
    rows = files.rows("envars")
    assert [row["PID"] for row in rows] == [pid for pid in IN_ORDER if has_memory(PROCESSES[pid])]
    assert {(row["Name"], row["Value"]) for row in rows} == {(None, None)}
    assert {row["Notes"] for row in rows} == {
        "the environment variables are on the user's stack, which is not dumped: minidumps have no user pages"
    }


def test_creds(files: Files) -> None:
    rows = files.rows("creds")
    assert [row["PID"] for row in rows] == IN_ORDER
    for row in rows:
        process = PROCESSES[row["PID"]]
        truth = credentials_of(process)
        audited = truth.audit_id != 0xFFFFFFFF
        assert row == {
            "PID": process.pid,
            "Command": process.comm,
            "EUID": truth.uid,
            "RUID": truth.ruid,
            "SVUID": truth.svuid,
            "EGID": truth.gid,
            "RGID": truth.rgid,
            "SVGID": truth.svgid,
            "Groups": text(truth.groups),
            "JID": truth.jid,
            "Jail": JAILS[truth.jid],
            "Login": LOGINS.get(process.sid, "root" if process.sid else None),
            "Login class": truth.login_class,
            "Capability mode": truth.capability_mode,
            "Audit ID": truth.audit_id if audited else None,
            "Audit session": truth.audit_session if audited else None,
            "Ucred": address_of(files.name, "ucred", process.credentials),
            "Notes": "",
        }


def test_threads(files: Files) -> None:
    expected = [(PROCESSES[pid], thread) for pid in IN_ORDER for thread in PROCESSES[pid].threads]
    rows = files.rows("threads")
    assert [row["TID"] for row in rows] == [thread.tid for _, thread in expected]
    for row, (process, thread) in zip(rows, expected, strict=True):
        built = build_world(files.name).get("thread", thread.tid)
        sleeps = thread.state == "sleep"
        wanted = {
            "PID": process.pid,
            "Command": process.comm,
            "Name": thread.name,
            "State": thread.state,
            "CPU": thread.cpu if thread.state == "running" else None,
            "Last CPU": thread.cpu,
            "Priority": thread.priority,
            "Wait message": thread.wmesg if sleeps else None,
            "Wait channel": int(built.td_wchan) if sleeps else None,
            "Lock": thread.wmesg if thread.state == "lock" else None,
            "PCB": int(built.td_pcb),
            "Offset": int(built),
        }
        assert {column: row[column] for column in wanted} == wanted
    assert {row["TID"]: row["Notes"] for row in rows}[100126] == "it dumped the kernel (dumptid)"
    assert {row["TID"]: row["Wait symbol"] for row in rows}[100000] == "kernel!proc0"


def test_the_timeline_has_the_start_of_each_process(files: Files) -> None:
    plugin: Any = stack(files.dump, NAMES["pslist"], kernel=files.kernel).plugin
    assert isinstance(plugin, timeliner.TimeLinerInterface)
    expected = {
        f"Process {process.pid} {process.comm} ({address_of(files.name, 'proc', process.pid):#x}) was started": (
            timeliner.TimeLinerType.CREATED,
            start_of(process),
        )
        for process in PROCESSES.values()
    }
    found = {description: (kind, when) for description, kind, when in plugin.generate_timeline()}
    assert found == expected


# --- options --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """One kernel is enough for what the plugins do themselves."""
    return Files("15-amd64", *write_dump("15-amd64", tmp_path_factory.mktemp("modern")))


@pytest.mark.parametrize("plugin", [name for name in NAMES if name != "psxview"])
def test_pid_and_jail_choose(modern: Files, plugin: str) -> None:
    assert {row["PID"] for row in modern.rows(plugin, pid=[1000, 1001])} == {1000, 1001}
    assert {row["PID"] for row in modern.rows(plugin, jail=["db", "3"])} == {1100, 1101}
    assert {row["PID"] for row in modern.rows(plugin, jail=["web"], pid=[1001])} == {1001}


@pytest.mark.parametrize("plugin", [name for name in NAMES if name != "psxview"])
def test_what_there_is_not_is_a_row_with_a_note(modern: Files, plugin: str) -> None:
    (row,) = modern.rows(plugin, pid=[4711])
    assert row.pop("Notes") == "pid 4711: there is no such process"
    assert set(row.values()) == {None}
    (row,) = modern.rows(plugin, jail=["mail"])
    assert row["Notes"] == "jail mail: no process is in a jail of that id or name"


def test_a_subtree(modern: Files) -> None:
    assert [row["PID"] for row in modern.rows("pstree", pid=[850])] == [pid for _, pid in described(850)]


def test_levels_are_those_of_the_tree(modern: Files) -> None:
    plugin: Any = stack(modern.dump, NAMES["pstree"], kernel=modern.kernel).plugin
    grid = plugin.run()
    shown: list[tuple[int, int]] = []
    grid.populate(lambda node, seen: seen.append((node.path_depth - 1, int(node.values[0]))) or seen, shown)
    assert shown == described()


@pytest.mark.parametrize(("name", "full"), NAMES.items())
def test_short_names_mean_one_plugin(name: str, full: str) -> None:
    assert [one for one in plugin_classes() if f"freebsd.{name}" in one] == [full]


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_broken_list_is_a_row_and_the_rest_is_shown(tmp_path: Path) -> None:
    """allproc loops behind 850; its name has an escape sequence; 900 has no credentials."""
    name = "15-amd64"
    target = address_of(name, "proc", 880)
    changes = pointer_change(name, link_at(name, "proc", 850, "p_list"), target)
    changes |= member_change(name, "proc", 900, "p_ucred", 0)
    world = build_world(name)
    changes[link_at(name, "proc", 850, "p_comm")] = b"c\x1b[2Jsh\0"
    dump = tmp_path / "vmcore"
    with changed(world.memory, changes):
        dump.write_bytes(world.memory.minidump().data)
    files = Files(name, dump, write_symbol_file(name, tmp_path))
    rows = files.rows("pslist")
    assert sorted(row["PID"] for row in rows if row["PID"] is not None) == sorted(PROCESSES)
    problem = {row["Notes"] for row in rows if row["PID"] is None}
    assert problem == {f"allproc: loops back to {target:#x} after 8 elements"}
    by_pid = {row["PID"]: row for row in rows}
    assert by_pid[850]["Command"] == "c\\x1b[2Jsh"
    assert (by_pid[900]["EUID"], by_pid[900]["PGID"]) == (None, 900)
    assert by_pid[900]["Notes"] == (
        "p_ucred cannot be read: address 0x0 is not mapped (a NULL pointer), "
        "cr_prison cannot be read: address 0x0 is not mapped (a NULL pointer), "
        "found in the pid hash; allproc ends early"
    )
    assert datetime.datetime.fromisoformat(by_pid[900]["Start"]) == start_of(PROCESSES[900])
