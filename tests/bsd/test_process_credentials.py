"""Credentials on every kernel of the scenario, and those that somebody has changed."""

from __future__ import annotations

import pytest

from tests.bsd.kernel_variants import without_types
from tests.bsd.process_damage import Changes, member_at, member_change, nowhere, structs_of
from tests.bsd.process_truth import IN_ORDER, JAILS, LOGINS, PROCESSES, address_of, credentials_of
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.credentials import Credentials, credential_records
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

UNSET = 0xFFFFFFFF


def test_credentials_are_as_described(kernel: str) -> None:
    found = list(credential_records(walkable(kernel)))
    assert [one.pid for one in found if isinstance(one, Credentials)] == IN_ORDER
    for record in found:
        assert isinstance(record, Credentials)
        process = PROCESSES[record.pid]
        truth = credentials_of(process)
        audited = truth.audit_id != UNSET
        assert record == Credentials(
            offset=address_of(kernel, "ucred", process.credentials),
            pid=process.pid,
            command=process.comm,
            euid=truth.uid,
            ruid=truth.ruid,
            svuid=truth.svuid,
            egid=truth.gid,
            rgid=truth.rgid,
            svgid=truth.svgid,
            groups=truth.groups,
            jid=truth.jid,
            jail=JAILS[truth.jid],
            login=LOGINS.get(process.sid, "root" if process.sid else Absent.NOT_APPLICABLE),
            login_class=truth.login_class,
            capability_mode=truth.capability_mode,
            audit_id=truth.audit_id if audited else Absent.NOT_APPLICABLE,
            audit_session=truth.audit_session if audited else Absent.NOT_APPLICABLE,
        )


@pytest.fixture(scope="module", params=["12.1-i386", "14-amd64", "15-amd64"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def walk(name: str, pid: int, changes: Changes) -> Credentials:
    (record,) = credential_records(damaged(name, changes), [pid])
    assert isinstance(record, Credentials)
    return record


def test_choosing(name: str) -> None:
    found = list(credential_records(walkable(name), [850, 9], ["0"]))
    assert [one.pid for one in found if isinstance(one, Credentials)] == [850]
    assert found[1:] == [Problem("pid 9", "there is no such process")]


def test_the_kernels_credentials_are_not_for_users(name: str) -> None:
    stolen = address_of(name, "ucred", "kernel")
    record = walk(name, 850, member_change(name, "proc", 850, "p_ucred", stolen))
    assert (record.euid, record.ruid, record.offset) == (0, 0, stolen)
    assert record.notes == (
        "a user process with the kernel's own credentials",
        "thread 100120 acts as user 1001 in jail 0",
    )


def test_without_types_nobody_is_accused(name: str) -> None:
    records = [one for one in credential_records(without_types(name)) if isinstance(one, Credentials)]
    assert [one.pid for one in records] == IN_ORDER
    assert {(one.euid, one.offset, one.notes) for one in records} == {(Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE, ())}


def test_a_thread_in_another_jail(name: str) -> None:
    other = address_of(name, "ucred", "web-root")
    record = walk(name, 800, member_change(name, "thread", 100110, "td_ucred", other))
    assert record.notes == ("thread 100110 acts as user 0 in jail 1",)


def test_a_thread_with_equal_credentials_elsewhere_is_nothing_special(name: str) -> None:
    other = address_of(name, "ucred", "su")  # the same effective user, the same jail
    assert walk(name, 800, member_change(name, "thread", 100110, "td_ucred", other)).notes == ()


@pytest.mark.parametrize("count", [17, 0x7FFFFFFF, -1])
def test_an_impossible_number_of_groups(name: str, count: int) -> None:
    record = walk(name, 850, member_change(name, "ucred", "alice", "cr_ngroups", count))
    assert record.groups == Absent.UNREADABLE
    assert record.notes == (f"cr_ngroups is {count}, with room for 16 (cr_agroups)",)
    assert (record.euid, record.jid, record.login_class) == (1001, 0, "staff")


def test_no_groups_at_all(name: str) -> None:
    """Before 15.0 there is at least the effective one."""
    record = walk(name, 850, member_change(name, "ucred", "alice", "cr_ngroups", 0))
    if structs_of(name).has("ucred", "cr_gid"):
        assert (record.groups, record.notes) == ((), ())
    else:
        assert (record.groups, record.notes) == (
            Absent.UNREADABLE,
            ("cr_ngroups is 0, with room for 16 (cr_agroups)",),
        )


def test_groups_in_nowhere(name: str) -> None:
    record = walk(name, 850, member_change(name, "ucred", "alice", "cr_groups", nowhere(name)))
    lost = f"cannot be read: address {nowhere(name):#x} is not mapped"
    assert record.groups == Absent.UNREADABLE
    if structs_of(name).has("ucred", "cr_gid"):
        assert (record.egid, record.notes) == (1001, (f"cr_groups {lost}",))
    else:
        assert (record.egid, record.notes) == (Absent.UNREADABLE, (f"p_ucred {lost}", f"cr_groups {lost}"))


def test_credentials_in_nowhere(name: str) -> None:
    record = walk(name, 850, member_change(name, "proc", 850, "p_ucred", nowhere(name)))
    assert (record.offset, record.pid, record.command) == (nowhere(name), 850, "csh")
    values = (record.euid, record.egid, record.groups, record.jid, record.login_class, record.capability_mode)
    assert values == (Absent.UNREADABLE,) * 6
    assert all("cannot be read: address" in note for note in record.notes)
    assert record.login == "alice"


def test_a_login_class_without_an_end(name: str) -> None:
    at = member_at(name, "loginclass", "staff", "lc_name")
    size = structs_of(name).size_of(structs_of(name).member("loginclass", "lc_name")[1])
    assert walk(name, 850, {at: b"s" * size}).login_class == "s" * size
