"""Processes by every way that leads to them, and those that somebody has taken out of some."""

from __future__ import annotations

import pytest

from tests.bsd.process_damage import Changes, link_at, member_at, member_change, nowhere, pointer_change, structs_of
from tests.bsd.process_truth import IN_ORDER, PROCESSES, STATES, address_of, release_of
from tests.scenario.model import Process
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.process_views import VIEWS, SeenProcess, process_views
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

RUNNING = {process.pid for process in SYSTEM.processes for thread in process.threads if thread.state == "running"}


def expected_views(process: Process, kernel: str) -> dict[str, bool | Absent]:
    """What each view knows of a process that is not hidden."""
    missing, nothing = Absent.NOT_AVAILABLE, Absent.NOT_APPLICABLE
    release, zombie = release_of(kernel), process.state == "zombie"
    return {
        "allproc": nothing if zombie else True,
        "zombproc": missing if release >= "14" else (True if zombie else nothing),
        "pidhash": nothing if zombie and release < "13" else True,
        "children": nothing if process.pid == 0 else True,
        "groups": True,
        "leaders": True if process.pid == process.sid else nothing,
        "threads": nothing if zombie else True,
        "cpus": True if process.pid in RUNNING else nothing,
        "jails": missing if release < "14" else nothing if zombie else True,
        "pidmap": True if release >= "14" else missing,
    }


def test_every_view_knows_every_process(kernel: str) -> None:
    found = list(process_views(walkable(kernel)))
    records = [one for one in found if isinstance(one, SeenProcess)]
    assert sorted(record.pid for record in records) == sorted(PROCESSES)
    assert [record.pid for record in records][: len(IN_ORDER) - 1] == IN_ORDER[:-1]
    for record in records:
        process = PROCESSES[record.pid]
        assert record.seen == expected_views(process, kernel)
        assert (record.offset, record.command) == (address_of(kernel, "proc", process.pid), process.comm)
        assert (record.state, record.notes) == (STATES[process.pid], ())
    assert [one for one in found if isinstance(one, Problem)] == []


def test_the_views_are_in_the_order_of_the_columns() -> None:
    assert [view.key for view in VIEWS] == list(expected_views(PROCESSES[1], "15-amd64"))


# --- hidden ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["12.1-amd64", "14-i386", "15-arm64"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def walk(name: str, changes: Changes) -> tuple[dict[int | Absent, SeenProcess], list[Problem]]:
    found = list(process_views(damaged(name, changes)))
    records = {one.pid: one for one in found if isinstance(one, SeenProcess)}
    return records, [one for one in found if isinstance(one, Problem)]


def unlinked(name: str, pid: int, *links: str) -> Changes:
    """The changes that take a process out of lists, as LIST_REMOVE does it."""
    structs = structs_of(name)
    changes: Changes = {}
    for link in links:
        at = member_at(name, "proc", pid, link)
        following, back = structs.pointer(at), structs.pointer(at + structs.word_size)
        changes |= pointer_change(name, back, following)
        if following:
            changes |= pointer_change(name, following + structs.offset("proc", link) + structs.word_size, back)
    return changes


def missing(record: SeenProcess) -> set[str]:
    return {key for key, value in record.seen.items() if value is False}


def test_a_process_that_was_unlinked_from_allproc(name: str) -> None:
    records, problems = walk(name, unlinked(name, 900, "p_list"))
    assert missing(records[900]) == {"allproc"}
    assert records[900].notes == ("missing from allproc",)
    assert {pid for pid, record in records.items() if record.notes} == {900}
    assert problems == []


def test_a_process_that_was_unlinked_from_nearly_everything(name: str) -> None:
    links = ["p_list", "p_hash", "p_sibling", "p_pglist"]
    links += ["p_jaillist"] if walkable(name).has_member("proc", "p_jaillist") else []
    records, problems = walk(name, unlinked(name, 900, *links))
    lost = {"allproc", "pidhash", "children", "groups"} | ({"jails"} if "p_jaillist" in links else set())
    # It leads its session, and its threads are in their hash.
    assert missing(records[900]) == lost
    assert records[900].seen["leaders"] is True
    assert records[900].notes == tuple(f"missing from {view.root}" for view in VIEWS if view.key in lost)
    assert set(records) == set(PROCESSES)
    assert problems == []


def test_a_hidden_process_that_was_running(name: str) -> None:
    """880, whose thread is taken out of tidhashtbl as well; it leads a session, which it also leaves."""
    structs = structs_of(name)
    at = member_at(name, "thread", 100126, "td_hash")
    changes = unlinked(name, 880, "p_list", "p_hash", "p_sibling", "p_pglist")
    changes |= pointer_change(name, structs.pointer(at + structs.word_size), structs.pointer(at))
    changes |= member_change(name, "session", 880, "s_leader", 0)
    records, _ = walk(name, changes)
    assert records[880].seen["cpus"] is True
    assert missing(records[880]) >= {"allproc", "pidhash", "children", "groups", "leaders", "threads"}


def test_a_pid_in_use_that_nobody_has(name: str) -> None:
    kernel = walkable(name)
    if not kernel.has("proc_id_pidmap"):
        pytest.skip("no bitmap of pids before 13.0-CURRENT")
    structs = structs_of(name)
    at = kernel.address("proc_id_pidmap") + 8192 // 8
    records, problems = walk(name, {at: (1 << 5).to_bytes(structs.word_size, structs.byteorder)})
    record = records[8197]
    assert (record.offset, record.command, record.state) == (Absent.NOT_APPLICABLE,) * 3
    assert record.notes == ("marked as used in proc_id_pidmap, but no process has it",)
    assert {key for key, value in record.seen.items() if value is True} == {"pidmap"}
    assert problems == []


def test_a_process_whose_pid_is_not_marked_as_used(name: str) -> None:
    kernel = walkable(name)
    if not kernel.has("proc_id_pidmap"):
        pytest.skip("no bitmap of pids before 13.0-CURRENT")
    records, _ = walk(name, member_change(name, "proc", 900, "p_pid", 905))
    assert missing(records[905]) == {"pidmap"}
    assert records[900].notes == ("marked as used in proc_id_pidmap, but no process has it",)


def test_the_count_of_processes(name: str) -> None:
    structs = structs_of(name)
    at = walkable(name).address("nprocs")
    _, problems = walk(name, {at: (30).to_bytes(4, structs.byteorder)})
    assert problems == [Problem("nprocs", f"counts 30 processes, {len(PROCESSES)} were found")]


def test_a_jail_with_more_users_than_processes(name: str) -> None:
    """Two processes and the jail itself, which is persistent; a zombie is no user any more."""
    _, problems = walk(name, member_change(name, "prison", 1, "pr_uref", 4))
    text = "has 4 users (pr_uref), 3 of them are known"
    assert problems == [Problem("jail 1", text, address_of(name, "prison", 1))]
    _, problems = walk(name, member_change(name, "prison", 1, "pr_flags", 0))
    text = "has 3 users (pr_uref), 2 of them are known"
    assert problems == [Problem("jail 1", text, address_of(name, "prison", 1))]
    _, problems = walk(name, member_change(name, "prison", 0, "pr_uref", 100))
    # 19 processes, the kernel's among them; two jails; and what the host has from the start.
    assert [problem.text for problem in problems] == ["has 100 users (pr_uref), 22 of them are known"]


def test_who_exits_or_is_being_made_is_explained(name: str) -> None:
    exiting = unlinked(name, 900, "p_list") | member_change(name, "proc", 900, "p_flag", 0x10006000)
    records, _ = walk(name, exiting)
    assert records[900].notes == ("missing from allproc", "exiting, which takes it out of one after the other")
    new = unlinked(name, 860, "p_pglist") | member_change(name, "proc", 860, "p_state", 0)
    records, _ = walk(name, new)
    assert records[860].notes == ("missing from pgrphashtbl", "just being created, not in all of them yet")


# --- damaged --------------------------------------------------------------------------------------------------------


def test_a_loop_in_allproc_is_no_accusation(name: str) -> None:
    target = address_of(name, "proc", 880)
    records, problems = walk(name, pointer_change(name, link_at(name, "proc", 850, "p_list"), target))
    assert set(records) == set(PROCESSES)
    behind = IN_ORDER[IN_ORDER.index(850) + 1 : -1]
    assert {pid for pid, record in records.items() if record.notes} == set(behind)
    assert {record.notes for record in records.values() if record.notes} == {("missing from allproc (damaged)",)}
    count = IN_ORDER.index(850) + 1
    assert problems == [Problem("allproc", f"loops back to {target:#x} after {count} elements")]


def test_a_thread_that_leads_to_no_process(name: str) -> None:
    at = address_of(name, "thread", 100130)
    lost = nowhere(name) + structs_of(name).offset("proc", "p_pid")
    records, problems = walk(name, member_change(name, "thread", 100130, "td_proc", nowhere(name)))
    assert set(records) == set(PROCESSES)
    assert problems == [
        Problem(f"thread at {at:#x}", f"td_proc leads to no process: address {lost:#x} is not mapped", at)
    ]


def test_children_that_lead_in_a_circle(name: str) -> None:
    """The sibling behind 1100 is init itself, their parent."""
    target = address_of(name, "proc", 1)
    records, problems = walk(name, pointer_change(name, link_at(name, "proc", 1100, "p_sibling"), target))
    assert set(records) == set(PROCESSES)
    assert [problem.where for problem in problems] == ["children of process 1"]
    assert [record for record in records.values() if "missing from its parent's p_children (damaged)" in record.notes]


def test_a_jails_list_that_leads_to_nowhere(name: str) -> None:
    if not walkable(name).has_member("prison", "pr_proclist"):
        pytest.skip("jails have no list of processes before 14.0")
    at = address_of(name, "prison", 1)
    head = member_at(name, "prison", 1, "pr_proclist")
    records, problems = walk(name, pointer_change(name, head, nowhere(name)))
    assert {pid for pid, record in records.items() if record.notes} == {1000, 1001}
    assert records[1000].notes == ("missing from its jail's pr_proclist (damaged)",)
    lost = nowhere(name) + structs_of(name).offset("proc", "p_jaillist")
    assert problems == [
        Problem(f"processes of the jail at {at:#x}", f"ends after 1 elements where address {lost:#x} is not mapped", at)
    ]
