"""Other people's plugins: the framework's objects have the methods that plugins are used to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import framework
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import write_dump

VNETS = "freebsd.kvm.vnets.Vnets"
LIVE = {process.pid: process for process in SYSTEM.processes if process.state == "normal"}


@pytest.fixture(scope="module", params=["15-amd64", "12.1-i386", "14-arm64", "15-powerpc64"])
def module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    dump, kernel = write_dump(request.param, tmp_path_factory.mktemp("dump"))
    made = framework.stack(Path(dump), VNETS, kernel=kernel)
    return made.context.modules[str(made.plugin.config["kernel"])]


def processes(module: Any) -> dict[int, Any]:
    head = module.object_from_symbol("allproc")
    return {int(proc.p_pid): proc for proc in head.to_list("proc", "p_list")}


def test_queue_heads_are_lists_of_objects(module: Any) -> None:
    found = processes(module)
    assert set(LIVE) <= set(found)
    assert {pid: proc.get_name() for pid, proc in found.items() if pid in LIVE} == {
        pid: process.comm for pid, process in LIVE.items()
    }


def test_processes_know_parent_threads_and_arguments(module: Any) -> None:
    for pid, proc in processes(module).items():
        if pid not in LIVE:
            continue
        truth = LIVE[pid]
        assert proc.get_parent_pid() == (truth.ppid if pid else 0)
        assert {(int(thread.td_tid), thread.get_name()) for thread in proc.get_threads()} == {
            (thread.tid, thread.name) for thread in truth.threads
        }
        if truth.args_cached:
            assert proc.get_arguments() == (truth.args or ())


def test_vnodes_and_map_entries_speak_for_themselves(module: Any) -> None:
    shell = next(proc for proc in processes(module).values() if proc.get_name() == "csh")
    assert shell.p_textvp.dereference().full_path() == next(
        vnode.path for vnode in SYSTEM.vnodes if vnode.key == next(p.text for p in SYSTEM.processes if p.comm == "csh")
    )
    truth = next(process for process in SYSTEM.processes if process.comm == "csh")
    entries = list(shell.get_map_entries())
    # Other machines' address spaces are smaller: what is where is compared elsewhere.
    assert len(entries) == len(truth.vm_entries)
    assert [entry.protection for entry in entries] == [entry.prot for entry in truth.vm_entries]
    first = shell.p_vmspace.vm_map.header.vol.type_name
    assert first.endswith("!vm_map_entry")
