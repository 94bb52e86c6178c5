"""Threads on every kernel of the scenario, and lists of them that lead astray."""

from __future__ import annotations

import pytest

from tests.bsd.process_damage import (
    Changes,
    link_at,
    member_at,
    member_change,
    nowhere,
    pointer_change,
    reshaped,
    structs_of,
)
from tests.bsd.process_truth import IN_ORDER, PROCESSES, address_of
from tests.scenario import model
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.objects import Object
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.thread import Thread, ThreadLists, thread_records, threads

NOTHING = Absent.NOT_APPLICABLE
EXPECTED = [(process, thread) for pid in IN_ORDER for process in [PROCESSES[pid]] for thread in process.threads]


def notes_of(thread: model.Thread, kernel: str) -> tuple[str, ...]:
    if thread.tid == SYSTEM.dump_tid:
        return ("it dumped the kernel (dumptid)",)
    # struct turnstile is private to its file.
    if thread.owner and walkable(kernel).has_member("turnstile", "ts_owner"):
        names = {one.tid: one.name for _, one in EXPECTED}
        return (f"the lock is held by thread {thread.owner} ({names[thread.owner]})",)
    return ()


def test_threads_are_as_described(kernel: str) -> None:
    found = list(thread_records(walkable(kernel)))
    assert [one for one in found if isinstance(one, Problem)] == []
    assert [one.tid for one in found if isinstance(one, Thread)] == [thread.tid for _, thread in EXPECTED]
    for record, (process, thread) in zip(found, EXPECTED, strict=True):
        assert isinstance(record, Thread)
        built = build_world(kernel).get("thread", thread.tid)
        sleeps = thread.state == "sleep"
        assert record == Thread(
            offset=int(built),
            pid=process.pid,
            tid=thread.tid,
            command=process.comm,
            name=thread.name,
            state=thread.state,
            cpu=thread.cpu if thread.state == "running" else NOTHING,
            last_cpu=thread.cpu,
            priority=thread.priority,
            wait_channel=int(built.td_wchan) if sleeps else NOTHING,
            wait_symbol="kernel!proc0" if thread.wmesg == "swapin" else record.wait_symbol,
            wait_message=thread.wmesg if sleeps else NOTHING,
            lock=thread.wmesg if thread.state == "lock" else NOTHING,
            pcb=int(built.td_pcb),
            stack=int(built.td_kstack) % (1 << 8 * structs_of(kernel).word_size),
            notes=notes_of(thread, kernel),
        )


def test_wait_symbols_are_those_of_the_kernels_variables(kernel: str) -> None:
    found = {one.tid: one for one in thread_records(walkable(kernel)) if isinstance(one, Thread)}
    for process, thread in EXPECTED:
        record = found[thread.tid]
        if thread.wmesg == "swapin":
            assert record.wait_symbol == "kernel!proc0"
        elif thread.wmesg == "nanslp" and walkable(kernel).has("nanowait"):
            offset = f"+{thread.cpu:#x}" if thread.cpu else ""
            assert record.wait_symbol == f"kernel!nanowait{offset}"
        else:
            assert record.wait_symbol == NOTHING, f"{process.pid} {thread.name}"


def test_threads_gives_the_structures(kernel: str) -> None:
    walked = walkable(kernel)
    worker = walked.object("proc", address_of(kernel, "proc", 900))
    assert [one.td_tid for one in threads(walked, worker) if isinstance(one, Object)] == [100130, 100131, 100132]


# --- changed --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["12.1-amd64", "14-i386", "15-arm64"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def walk(name: str, pid: int, changes: Changes) -> tuple[list[Thread], list[Problem]]:
    found = list(thread_records(damaged(name, changes), [pid]))
    return [one for one in found if isinstance(one, Thread)], [one for one in found if isinstance(one, Problem)]


def test_choosing(name: str) -> None:
    found = [one.tid for one in thread_records(walkable(name), (), ["db"]) if isinstance(one, Thread)]
    assert found == [100160]
    assert list(thread_records(walkable(name), [5])) == [Problem("pid 5", "there is no such process")]


@pytest.mark.parametrize(
    ("state", "inhibitors", "text"),
    [
        (1, 0x1 | 0x2, "suspended+sleep"),
        (1, 0x2 | 0x4, "sleep+swapped"),
        (1, 0, "inhibited"),
        (1, 0x100, "inhibited"),
        (4, 0x2, "running"),
        (77, 0, "unknown state 77"),
    ],
)
def test_states(name: str, state: int, inhibitors: int, text: str) -> None:
    changes = member_change(name, "thread", 100100, "td_state", state)
    changes |= member_change(name, "thread", 100100, "td_inhibitors", inhibitors)
    (record,), problems = walk(name, 700, changes)
    assert (record.state, problems) == (text, [])


@pytest.mark.parametrize(("cpu", "shown"), [(-1, NOTHING), (3, 3), (255, 255), (5000, NOTHING), (-7, NOTHING)])
def test_cpus(name: str, cpu: int, shown: int | Absent) -> None:
    (record,), _ = walk(name, 700, member_change(name, "thread", 100100, "td_oncpu", cpu))
    assert record.cpu == shown


@pytest.mark.parametrize(("cpu", "shown"), [(0xFF, NOTHING), (3, 3)])
def test_cpus_of_10_are_single_bytes(name: str, cpu: int, shown: int | Absent) -> None:
    at = member_at(name, "thread", 100100, "td_oncpu")
    byte = {"kind": "base", "name": "unsigned char"}
    kernel = reshaped(damaged(name, {at: bytes([cpu])}), types={("thread", "td_oncpu"): byte})
    (record,) = thread_records(kernel, [700])
    assert isinstance(record, Thread)
    assert record.cpu == shown


def test_a_loop_ends(name: str) -> None:
    target = address_of(name, "thread", 100130)
    records, problems = walk(name, 900, pointer_change(name, link_at(name, "thread", 100131, "td_plist"), target))
    assert [record.tid for record in records] == [100130, 100131]
    assert problems == [
        Problem("threads of process 900", f"loops back to {target:#x} after 2 elements", address_of(name, "proc", 900))
    ]


def test_a_list_that_points_into_nowhere(name: str) -> None:
    records, problems = walk(
        name, 900, pointer_change(name, link_at(name, "thread", 100130, "td_plist"), nowhere(name))
    )
    lost = nowhere(name) + structs_of(name).offset("thread", "td_plist")
    assert [record.tid for record in records] == [100130]
    assert problems == [
        Problem(
            "threads of process 900",
            f"ends after 2 elements where address {lost:#x} is not mapped",
            address_of(name, "proc", 900),
        )
    ]


def test_a_thread_that_was_taken_out(name: str) -> None:
    """As TAILQ_REMOVE does it, but the count stays."""
    structs = structs_of(name)
    at = link_at(name, "thread", 100131, "td_plist")
    following, back = structs.pointer(at), structs.pointer(at + structs.word_size)
    changes = pointer_change(name, back, following)
    changes |= pointer_change(name, following + structs.offset("thread", "td_plist") + structs.word_size, back)
    records, problems = walk(name, 900, changes)
    assert [record.tid for record in records] == [100130, 100132]
    assert problems == [
        Problem("threads of process 900", "p_numthreads is 3, p_threads has 2", address_of(name, "proc", 900))
    ]


def test_a_thread_of_another_process(name: str) -> None:
    other = address_of(name, "proc", 1)
    records, problems = walk(name, 900, member_change(name, "thread", 100131, "td_proc", other))
    assert [record.notes for record in records] == [(), (f"td_proc leads to {other:#x}, not to its process",), ()]
    assert problems == []


def test_pointers_into_nowhere(name: str) -> None:
    changes: Changes = {}
    for member in ("td_wmesg", "td_wchan", "td_proc", "td_pcb", "td_kstack"):
        changes |= member_change(name, "thread", 100100, member, nowhere(name))
    (record,), problems = walk(name, 700, changes)
    assert (record.wait_message, record.wait_channel, record.wait_symbol) == (Absent.UNREADABLE, nowhere(name), NOTHING)
    assert (record.pcb, record.stack, record.state) == (nowhere(name), nowhere(name), "sleep")
    assert record.notes == (
        f"td_wmesg cannot be read: address {nowhere(name):#x} is not mapped",
        f"td_proc leads to {nowhere(name):#x}, not to its process",
    )
    assert problems == []


def test_names_without_an_end(name: str) -> None:
    changes = {member_at(name, "thread", 100100, "td_name"): b"n" * 40}
    text = walkable(name).object("thread", address_of(name, "thread", 100100)).td_wmesg
    changes[int(text)] = b"w" * 200
    (record,), _ = walk(name, 700, changes)
    size = structs_of(name).size_of(structs_of(name).member("thread", "td_name")[1])
    assert (record.name, record.wait_message) == ("n" * size, "w" * 128)


def test_lists_of_many_processes_that_are_the_same_are_not_walked_without_end(name: str) -> None:
    walked = walkable(name)
    lists = ThreadLists(walked, limit=5)
    worker = walked.object("proc", address_of(name, "proc", 900))
    assert len([one for one in lists.of(worker) if isinstance(one, Object)]) == 3
    found = list(lists.of(worker))
    assert len([one for one in found if isinstance(one, Object)]) == 2
    assert found[2:] == [Problem("threads of process 900", "is longer than 2 elements", worker.address_)]
