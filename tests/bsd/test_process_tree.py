"""The tree of processes, also where parents lead astray."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bsd.process_damage import Changes, member_at, member_change, nowhere, structs_of
from tests.bsd.process_truth import BY_AGE, PROCESSES, address_of
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.process import Process
from volatility3_freebsd_kvm.bsd.process_tree import CYCLE, MAX_LEVEL, Node, _Tree, process_tree
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

UNKNOWN = Absent.NOT_AVAILABLE
BLANK = Process(0, *[UNKNOWN] * 16)


def levels(found: Iterable[Node | Problem]) -> list[tuple[int, int | Absent]]:
    return [(node.level, node.process.pid) for node in found if isinstance(node, Node)]


def described(pid: int = 0, level: int = 0) -> list[tuple[int, int]]:
    """The tree below a process as the scenario describes it."""
    children = [process.pid for process in BY_AGE if process.ppid == pid and process.pid]
    return [(level, pid), *itertools.chain.from_iterable(described(child, level + 1) for child in children)]


def test_everybody_is_below_the_real_parent(kernel: str) -> None:
    found = list(process_tree(walkable(kernel)))
    assert levels(found) == described()
    for node in found:
        assert isinstance(node, Node)
        # The kernel and init are the only reapers.
        assert node.reaper == (0 if PROCESSES[node.process.pid].ppid == 0 else 1)


@pytest.fixture(scope="module", params=["12.1-amd64", "15-i386"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def walk(name: str, changes: Changes) -> list[Node | Problem]:
    return list(process_tree(damaged(name, changes)))


def test_the_trees_below_some_pids(name: str) -> None:
    assert levels(process_tree(walkable(name), [862, 1100])) == [*described(862), *described(1100)]
    # 863 has its place below 862.
    assert levels(process_tree(walkable(name), [863, 862])) == described(862)
    assert list(process_tree(walkable(name), [99])) == [Problem("pid 99", "there is no such process")]


def test_the_processes_of_a_jail_are_a_tree_of_their_own(name: str) -> None:
    found = list(process_tree(walkable(name), (), ["web"]))
    assert levels(found) == [(0, 1000), (1, 1001)]
    assert [node.process.notes for node in found if isinstance(node, Node)] == [(), ()]
    assert list(process_tree(walkable(name), (), ["none"])) == [
        Problem("jail none", "no process is in a jail of that id or name")
    ]


def test_parents_that_lead_in_a_circle(name: str) -> None:
    """850's parent is 820; now 820's is 850."""
    found = walk(
        name,
        member_change(name, "proc", 820, "p_pptr", address_of(name, "proc", 850))
        | member_change(name, "proc", 820, "p_oppid", 850),
    )
    shown = levels(found)
    assert sorted(pid for _, pid in shown) == sorted(PROCESSES)
    notes = {node.process.pid: node.process.notes for node in found if isinstance(node, Node)}
    assert [pid for pid, texts in notes.items() if CYCLE in texts] == [820]
    assert shown[shown.index((0, 820)) :] == described(820)


def test_a_parent_that_is_itself(name: str) -> None:
    found = walk(name, member_change(name, "proc", 900, "p_pptr", address_of(name, "proc", 900)))
    (node,) = [node for node in found if isinstance(node, Node) and node.process.pid == 900]
    assert (node.level, node.process.notes) == (0, (CYCLE,))


def test_a_parent_that_is_not_there(name: str) -> None:
    """The name of 910 taken for the parent's pid."""
    structs = structs_of(name)
    stranger = member_at(name, "proc", 910, "p_comm") - structs.offset("proc", "p_pid")
    (node,) = [
        node
        for node in walk(name, member_change(name, "proc", 900, "p_pptr", stranger))
        if isinstance(node, Node) and node.process.pid == 900
    ]
    pid = int.from_bytes(b"sand", structs.byteorder)
    assert (node.level, node.process.ppid) == (0, pid)
    assert node.process.notes == (f"its parent {pid} is not listed",)


def test_a_parent_that_cannot_be_read(name: str) -> None:
    found = walk(name, member_change(name, "proc", 900, "p_pptr", nowhere(name)))
    (node,) = [node for node in found if isinstance(node, Node) and node.process.pid == 900]
    lost = nowhere(name) + structs_of(name).offset("proc", "p_pid")
    assert (node.level, node.process.ppid) == (0, Absent.UNREADABLE)
    assert node.process.notes == (f"p_pptr cannot be read: address {lost:#x} is not mapped",)


# --- any parents ----------------------------------------------------------------------------------------------------


def made(pid: int, ppid: int, second: int = 0) -> Node:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=second)
    return Node(0, replace(BLANK, offset=0x1000 + second, pid=pid, ppid=ppid, start=start), UNKNOWN)


def test_deep_trees_are_not_drawn_deeper() -> None:
    nodes = [made(pid, pid - 1, pid) for pid in range(3000)]
    found = [node for node in _Tree(nodes, complete=True).walk(frozenset()) if isinstance(node, Node)]
    assert [node.level for node in found] == [min(pid, MAX_LEVEL) for pid in range(3000)]
    assert found[MAX_LEVEL].process.notes == ()
    assert found[MAX_LEVEL + 1].process.notes == (f"is at level {MAX_LEVEL + 1}",)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-2, 12)), max_size=25), st.frozensets(st.integers(0, 12)))
def test_any_parents_give_a_tree_with_each_process_once(parents: list[tuple[int, int]], pids: frozenset[int]) -> None:
    nodes = [made(pid, ppid, second) for second, (pid, ppid) in enumerate(parents)]
    everyone = [node for node in _Tree(nodes, complete=True).walk(frozenset()) if isinstance(node, Node)]
    assert sorted(node.process.offset for node in everyone) == sorted(node.process.offset for node in nodes)
    above: list[Node] = []
    for node in everyone:
        assert node.level <= len(above)
        above = above[: node.level]
        if above:
            assert node.process.ppid == above[-1].process.pid
        above.append(node)
    some = list(_Tree(nodes, complete=True).walk(pids))
    shown = [node.process.offset for node in some if isinstance(node, Node)]
    assert len(shown) == len(set(shown))
    assert {problem.where for problem in some if isinstance(problem, Problem)} == {
        f"pid {pid}" for pid in pids - {pid for pid, _ in parents}
    }
