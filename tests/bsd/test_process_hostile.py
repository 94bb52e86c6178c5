"""Lists of processes that lead astray, and processes that are not what they should be: each walk ends and says so."""

from __future__ import annotations

import pytest

from tests.bsd.process_damage import Changes, link_at, member_at, member_change, nowhere, pointer_change, structs_of
from tests.bsd.process_truth import IN_ORDER, LIVE, PROCESSES, ZOMBIES, address_of
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.process import Process, process_records
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

ONLY_HASHED = "not in allproc, only in the pid hash"
BEHIND_A_TEAR = "found in the pid hash; allproc ends early"


@pytest.fixture(scope="module", params=["12.1-amd64", "14-i386", "15-arm64"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def walk(name: str, changes: Changes) -> tuple[list[Process], list[Problem]]:
    found = list(process_records(damaged(name, changes)))
    return [one for one in found if isinstance(one, Process)], [one for one in found if isinstance(one, Problem)]


def next_of(name: str, pid: int) -> int:
    return link_at(name, "proc", pid, "p_list")


def without(name: str, pid: int, links: str) -> Changes:
    """The changes that take a process out of allproc or of its hash chain, as an attacker would."""
    structs = structs_of(name)
    at = member_at(name, "proc", pid, links)
    following, back = structs.pointer(at), structs.pointer(at + structs.word_size)
    changes = pointer_change(name, back, following)
    if following:
        changes |= pointer_change(name, following + structs.offset("proc", links) + structs.word_size, back)
    return changes


# --- lists ----------------------------------------------------------------------------------------------------------


def test_a_loop_ends_and_the_hash_has_the_rest(name: str) -> None:
    third, fifth = LIVE[2], LIVE[4]
    target = address_of(name, "proc", third)
    records, problems = walk(name, pointer_change(name, next_of(name, fifth), target))
    assert [record.pid for record in records[:5]] == LIVE[:5]
    assert sorted(record.pid for record in records) == sorted(PROCESSES)
    assert {record.pid for record in records if BEHIND_A_TEAR in record.notes} == set(LIVE[5:])
    assert problems == [Problem("allproc", f"loops back to {target:#x} after 5 elements")]


def test_a_list_that_points_into_nowhere(name: str) -> None:
    records, problems = walk(name, pointer_change(name, next_of(name, LIVE[4]), nowhere(name)))
    assert sorted(record.pid for record in records) == sorted(PROCESSES)
    assert {record.pid for record in records if BEHIND_A_TEAR in record.notes} == set(LIVE[5:])
    assert problems == [
        Problem("allproc", f"ends after 6 elements where address {nowhere(name):#x} is not mapped"),
    ]


def test_a_misaligned_link(name: str) -> None:
    wrong = address_of(name, "proc", 1) + 1
    records, problems = walk(name, pointer_change(name, next_of(name, LIVE[0]), wrong))
    assert sorted(record.pid for record in records) == sorted(PROCESSES)
    assert problems == [Problem("allproc", f"leads to the misaligned address {wrong:#x} after 1 elements")]


def test_no_list_at_all(name: str) -> None:
    records, problems = walk(name, pointer_change(name, walkable(name).address("allproc"), 0))
    zombies = ZOMBIES if name.startswith("12") else []
    assert [record.pid for record in records[: len(zombies)]] == zombies
    assert sorted(record.pid for record in records) == sorted(PROCESSES)
    assert problems == []


def test_a_process_that_was_taken_out_of_the_list(name: str) -> None:
    records, problems = walk(name, without(name, 900, "p_list"))
    assert {record.pid: record.notes for record in records}[900] == (ONLY_HASHED,)
    assert sorted(record.pid for record in records) == sorted(PROCESSES)
    assert problems == []


def test_the_wrong_link_back_is_told_but_the_walk_goes_on(name: str) -> None:
    at = next_of(name, LIVE[3]) + structs_of(name).word_size
    element, right = address_of(name, "proc", LIVE[3]), next_of(name, LIVE[2])
    records, problems = walk(name, pointer_change(name, at, 0))
    assert [record.pid for record in records] == IN_ORDER
    assert problems == [Problem("allproc", f"the link back of {element:#x} leads to 0x0, not to {right:#x}")]


def test_a_nonsensical_hash_mask_is_not_believed(name: str) -> None:
    word = structs_of(name).word_size
    for mask, text in ((0x1234, "0x1234"), ((1 << 8 * word) - 1, hex((1 << 8 * word) - 1)), (0xFFFFFFF, "0xfffffff")):
        records, problems = walk(name, pointer_change(name, walkable(name).address("pidhash"), mask))
        assert {record.pid for record in records} >= set(LIVE)
        assert problems == [Problem("pidhashtbl", f"pidhash is {text}, which is no number of chains less one")]


def test_a_hash_table_in_nowhere(name: str) -> None:
    records, problems = walk(name, pointer_change(name, walkable(name).address("pidhashtbl"), nowhere(name)))
    assert [record.pid for record in records[: len(LIVE)]] == LIVE
    assert {problem.where for problem in problems} == {"pidhashtbl"}
    # Read a page at a time: 512 heads of 8 bytes are one, and of 4 bytes too.
    assert [problem.text for problem in problems] == [
        f"chains 0 to 511 cannot be read: address {nowhere(name):#x} is not mapped"
    ]


def test_a_chain_of_the_hash_that_loops(name: str) -> None:
    target = address_of(name, "proc", 850)
    records, problems = walk(name, pointer_change(name, link_at(name, "proc", 850, "p_hash"), target))
    assert {record.pid for record in records} >= set(LIVE)
    assert problems == [Problem("pidhashtbl", f"chain {850 & 511}: loops back to {target:#x} after 1 elements")]


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_process_group_that_cannot_be_read(name: str) -> None:
    records, problems = walk(name, member_change(name, "proc", 850, "p_pgrp", nowhere(name)))
    record = next(record for record in records if record.pid == 850)
    assert (record.pgid, record.sid, record.tty) == (Absent.UNREADABLE, Absent.UNREADABLE, Absent.UNREADABLE)
    number, session = (nowhere(name) + structs_of(name).offset("pgrp", member) for member in ("pg_id", "pg_session"))
    assert record.notes == (
        f"p_pgrp cannot be read: address {number:#x} is not mapped",
        f"p_pgrp cannot be read: address {session:#x} is not mapped",
        f"s_ttyp cannot be read: address {session:#x} is not mapped",
        f"p_pgrp leads to {nowhere(name):#x}, which is not in pgrphashtbl",
    )
    # What the group would tell is missing from the state, the rest is there.
    assert record.state == "S"
    assert (record.ppid, record.euid, record.command, record.threads) == (820, 1001, "csh", 1)
    assert problems == []


def test_a_process_group_that_is_something_else(name: str) -> None:
    other = address_of(name, "proc", 1)
    records, problems = walk(name, member_change(name, "proc", 850, "p_pgrp", other))
    record = next(record for record in records if record.pid == 850)
    assert f"p_pgrp leads to {other:#x}, which is not in pgrphashtbl" in record.notes
    assert (record.ppid, record.euid, record.command, record.threads) == (820, 1001, "csh", 1)
    assert problems == []


def test_null_pointers(name: str) -> None:
    changes: Changes = {}
    for member in ("p_pgrp", "p_ucred", "p_sysent", "p_stats", "p_pptr"):
        changes |= member_change(name, "proc", 910, member, 0)
    records, problems = walk(name, changes)
    record = next(record for record in records if record.pid == 910)
    assert (record.pgid, record.euid, record.jid, record.emulation, record.start) == (Absent.UNREADABLE,) * 5
    assert (record.ppid, record.state, record.command) == (0, "S", "sandboxed")
    null = "cannot be read: address 0x0 is not mapped (a NULL pointer)"
    assert record.notes == tuple(
        f"{member} {null}" for member in ("p_pgrp", "p_ucred", "cr_prison", "p_stats", "p_sysent")
    )
    assert problems == []


def test_a_process_without_threads(name: str) -> None:
    changes = pointer_change(name, member_at(name, "proc", 910, "p_threads"), 0)
    records, _ = walk(name, changes)
    assert next(record.state for record in records if record.pid == 910) == "?Cs"


def test_a_name_without_an_end(name: str) -> None:
    changes = {member_at(name, "proc", 910, "p_comm"): b"A" * 19 + b"\xff" + b"B" * 40}
    records, _ = walk(name, changes)
    assert next(record.command for record in records if record.pid == 910) == "A" * 19 + "\N{REPLACEMENT CHARACTER}"


def test_a_time_that_no_calendar_has(name: str) -> None:
    at = address_of(name, "proc", 910)
    stats = walkable(name).object("proc", at).p_stats
    records, _ = walk(name, {stats.at_("p_start.tv_sec"): b"\x7f" * structs_of(name).word_size})
    start = next(record.start for record in records if record.pid == 910)
    # With 32 bits, any number of seconds is a date.
    assert start == Absent.NOT_AVAILABLE or (start.year, structs_of(name).word_size) == (2093, 4)


def test_an_emulation_name_without_an_end_is_cut(name: str) -> None:
    kernel = walkable(name)
    text = int(kernel.object("proc", address_of(name, "proc", 910)).p_sysent.sv_name)
    records, _ = walk(name, {text: b"x" * 200})
    emulations = {record.emulation for record in records}
    assert "x" * 64 in emulations
