"""Processes and their state, on every kernel of the scenario."""

from __future__ import annotations

import datetime

import pytest

from tests.bsd.process_damage import member_change, reshaped
from tests.bsd.process_truth import (
    IN_ORDER,
    JAILS,
    PROCESSES,
    REMARKS,
    STATES,
    TTYS,
    ZOMBIES,
    address_of,
    credentials_of,
    emulation_of,
    flags_of,
    start_of,
)
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.process import (
    Found,
    Process,
    chosen,
    found_procs,
    process_records,
    procs,
)
from volatility3_freebsd_kvm.bsd.process_flags import P2_FLAGS, P_FLAGS, flag_names
from volatility3_freebsd_kvm.bsd.records import Absent, Problem


def pids_of(found: object) -> list[int]:
    return [int(one.proc.p_pid) for one in found if isinstance(one, Found)]


def record_of(kernel: Kernel, pid: int) -> Process:
    (record,) = process_records(kernel, [pid])
    assert isinstance(record, Process)
    return record


# --- the truth ------------------------------------------------------------------------------------------------------


def test_every_process_is_listed_once_in_the_kernels_order(kernel: str) -> None:
    records = list(process_records(walkable(kernel)))
    assert [record.pid for record in records if isinstance(record, Process)] == IN_ORDER
    assert [record for record in records if isinstance(record, Problem)] == []


def test_every_field_is_as_described(kernel: str) -> None:
    for record in process_records(walkable(kernel)):
        assert isinstance(record, Process)
        process = PROCESSES[record.pid]
        credentials = credentials_of(process)
        expected = Process(
            offset=address_of(kernel, "proc", process.pid),
            pid=process.pid,
            ppid=process.ppid,
            pgid=process.pgid,
            sid=process.sid,
            uid=credentials.ruid,
            euid=credentials.uid,
            gid=credentials.gid,
            jid=credentials.jid,
            jail=JAILS[credentials.jid],
            tty=TTYS.get(process.sid, Absent.NOT_APPLICABLE),
            state=STATES[process.pid],
            start=start_of(process),
            threads=len(process.threads),
            emulation=emulation_of(process, kernel),
            command=process.comm,
            flags=record.flags,
            notes=REMARKS.get(process.pid, ()),
        )
        assert record == expected
        assert isinstance(record.flags, tuple)
        assert set(record.flags) == flags_of(process, kernel)


def test_zombies_are_found_wherever_the_release_keeps_them(kernel: str) -> None:
    walked = walkable(kernel)
    places = {int(found.proc.p_pid): found.where for found in found_procs(walked) if isinstance(found, Found)}
    keeper = "zombproc" if walked.has("zombproc") else "pidhashtbl"
    assert walked.has("zombproc") == kernel.startswith(("12", "13"))
    assert {pid for pid, where in places.items() if where != "allproc"} == set(ZOMBIES)
    assert {places[pid] for pid in ZOMBIES} == {keeper}


def test_procs_gives_the_structures(kernel: str) -> None:
    found = list(procs(walkable(kernel)))
    assert [one.address_ for one in found] == [address_of(kernel, "proc", pid) for pid in IN_ORDER]


# --- choosing -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["12.1-amd64", "15-arm64"])
def name(request: pytest.FixtureRequest) -> str:
    """Two kernels are enough for what does not depend on the layout."""
    return str(request.param)


def test_choosing_by_pid(name: str) -> None:
    assert pids_of(chosen(walkable(name), [850, 864, 0])) == [850, 0, 864]


@pytest.mark.parametrize(
    ("jails", "expected"),
    [
        (["1"], [1001, 1000]),
        (["web"], [1001, 1000]),
        (["db.pg"], [1101]),
        (["2", "web"], [1100, 1001, 1000]),
    ],
)
def test_choosing_by_jail(name: str, jails: list[str], expected: list[int]) -> None:
    assert pids_of(chosen(walkable(name), (), jails)) == expected


def test_the_host_is_jail_0(name: str) -> None:
    assert pids_of(chosen(walkable(name), (), ["0"])) == [pid for pid in IN_ORDER if not 1000 <= pid <= 1101]


def test_choosing_what_there_is_not_is_said(name: str) -> None:
    assert list(chosen(walkable(name), [99, 7])) == [
        Problem("pid 7", "there is no such process"),
        Problem("pid 99", "there is no such process"),
    ]
    assert list(chosen(walkable(name), (), ["mail"])) == [
        Problem("jail mail", "no process is in a jail of that id or name")
    ]
    # Another jail's process is nothing to complain about.
    assert list(chosen(walkable(name), [850], ["web"])) == []


def test_a_process_whose_jail_is_not_known_is_not_passed_over_silently(name: str) -> None:
    kernel = damaged(name, member_change(name, "proc", 1001, "p_ucred", 0))
    found = list(chosen(kernel, (), ["web"]))
    assert pids_of(found) == [1000]
    assert [one for one in found if isinstance(one, Problem)] == [
        Problem("process 1001", "is left out because its jail is not known", address_of(name, "proc", 1001))
    ]


# --- states and remarks ---------------------------------------------------------------------------------------------


def p_flag(name: str, pid: int) -> int:
    return int(walkable(name).object("proc", address_of(name, "proc", pid)).p_flag) % (1 << 32)


@pytest.mark.parametrize(
    ("pid", "set_bits", "clear_bits", "state"),
    [
        (820, 0x2000, 0, "SEs"),
        (820, 0x10, 0, "SVs"),
        (820, 0x20000, 0, "Ts"),
        (820, 0x80000, 0, "Ts"),
        (820, 0, 0x10000000, "SWs"),
        (850, 0, 0x2, "Ss"),
        (880, 0x20000, 0, "Rs+"),
    ],
)
def test_state_letters_that_come_from_flags(name: str, pid: int, set_bits: int, clear_bits: int, state: str) -> None:
    value = (p_flag(name, pid) | set_bits) & ~clear_bits
    assert record_of(damaged(name, member_change(name, "proc", pid, "p_flag", value)), pid).state == state


@pytest.mark.parametrize(
    ("kind", "key", "member", "value", "pid", "state"),
    [
        ("proc", 820, "p_nice", -5, 820, "S<s"),
        ("proc", 820, "p_lock", 1, 820, "SLs"),
        ("proc", 820, "p_state", 0, 820, "Rs"),
        ("proc", 820, "p_state", 7, 820, "?s"),
        ("thread", 100111, "td_pri_class", 2, 820, "S<s"),
        ("thread", 100111, "td_inhibitors", 8, 820, "Ls"),
        ("thread", 100111, "td_inhibitors", 16, 820, "Ws"),
        ("thread", 100111, "td_flags", 0, 820, "Ds"),
        ("thread", 100111, "td_state", 3, 820, "Rs"),
    ],
)
def test_state_letters_that_come_from_members(
    name: str, kind: str, key: int, member: str, value: int, pid: int, state: str
) -> None:
    assert record_of(damaged(name, member_change(name, kind, key, member, value)), pid).state == state


@pytest.mark.parametrize(("seconds", "state"), [(19, "Ss"), (20, "Is"), (1_000_000, "Is"), (-5, "Ss")])
def test_who_sleeps_for_20_seconds_is_idle(name: str, seconds: int, state: str) -> None:
    since = walkable(name).integer("ticks") - seconds * walkable(name).integer("hz")
    assert record_of(damaged(name, member_change(name, "thread", 100111, "td_slptick", since)), 820).state == state


@pytest.mark.parametrize(
    ("member", "value", "note"),
    [
        ("p_magic", 0xDEADBEEF, "p_magic is 0xdeadbeef, not 0xbeefface"),
        ("p_state", 0, "just being created"),
        ("p_flag", 0x10002000, "exiting"),
        ("p_flag", 0x14004000, "in execve"),
    ],
)
def test_remarks(name: str, member: str, value: int, note: str) -> None:
    assert record_of(damaged(name, member_change(name, "proc", 820, member, value)), 820).notes == (note,)


@pytest.mark.parametrize(
    ("code", "signal", "note"),
    [(0, 0, "exited with 0"), (0, 9, "killed by signal 9"), (0, 11 | 0x80, "killed by signal 11, core dumped")],
)
def test_how_a_zombie_ended(name: str, code: int, signal: int, note: str) -> None:
    changes = member_change(name, "proc", 864, "p_xexit", code) | member_change(name, "proc", 864, "p_xsig", signal)
    assert record_of(damaged(name, changes), 864).notes == (note,)


def test_a_user_process_in_the_kernels_address_space(name: str) -> None:
    kernel = damaged(name, member_change(name, "proc", 900, "p_vmspace", walkable(name).address("vmspace0")))
    assert record_of(kernel, 900).notes == ("a user process with the kernel's address space",)
    assert record_of(kernel, 0).notes == ()


def test_flags_without_a_name_are_shown_as_a_number() -> None:
    assert flag_names(0x4000 | 0x10000000, P_FLAGS) == ("P_EXEC", "P_INMEM")
    assert flag_names(0x80000002, P2_FLAGS) == ("P2_NOTRACE", "0x80000000")
    assert flag_names(-0x80000000, P_FLAGS) == ("P_PPTRACE",)
    assert flag_names(0, P_FLAGS) == ()


# --- older shapes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "note"), [(3 << 8, "exited with 3"), (0x86, "killed by signal 6, core dumped")])
def test_the_exit_status_of_10(name: str, status: int, note: str) -> None:
    """One member, as wait(2) gives it; two since 11.0."""
    kernel = damaged(name, member_change(name, "proc", 864, "p_xexit", status))
    old = reshaped(kernel, names={("proc", "p_xexit"): "p_xstat", ("proc", "p_xsig"): "p_other"})
    assert record_of(old, 864).notes == (note,)


def test_without_timehands_the_boot_is_known_to_the_second(name: str) -> None:
    record = record_of(reshaped(walkable(name), without=["timehands"]), 850)
    # It was at a quarter of a second, and so was the start of 850 after it.
    assert record.start == start_of(PROCESSES[850]) - datetime.timedelta(microseconds=250_000)


def test_a_kernel_with_hardly_any_types(name: str) -> None:
    """What is not known is said to be so, and the rest is there."""
    kernel = reshaped(walkable(name), without=["ucred", "pgrp", "session", "thread", "pstats", "sysentvec", "prison"])
    records = [one for one in process_records(kernel) if isinstance(one, Process)]
    assert [(one.pid, one.command) for one in records] == [(pid, PROCESSES[pid].comm) for pid in IN_ORDER]
    for one in records:
        assert (one.pgid, one.euid, one.jid, one.start, one.emulation) == (Absent.NOT_AVAILABLE,) * 5
        assert one.notes == REMARKS.get(one.pid, ())
