"""Processes, threads and jails of the scenario, found again by a walker that knows no builder."""

from __future__ import annotations

import ipaddress

import pytest

from tests.scenario.model import Process
from tests.scenario.system import SYSTEM

from .process_reader import ProcessReader, processes_of

PROCESSES = {process.pid: process for process in SYSTEM.processes}
JAILS = {jail.jid: jail for jail in SYSTEM.jails}
BY_AGE = sorted(SYSTEM.processes, key=lambda process: process.start)
LIVE = [process for process in BY_AGE if process.state != "zombie"]
ZOMBIES = [process for process in BY_AGE if process.state == "zombie"]
P_FLAGS = {
    "P_CONTROLT": 0x2,
    "P_KPROC": 0x4,
    "P_IDLEPROC": 0x8,
    "P_HADTHREADS": 0x80,
    "P_SUGID": 0x100,
    "P_SYSTEM": 0x200,
    "P_TRACED": 0x800,
    "P_WEXIT": 0x2000,
    "P_EXEC": 0x4000,
    "P_STOPPED_SIG": 0x20000,
    "P_STOPPED_TRACE": 0x40000,
    "P_INMEM": 0x1000_0000,
}


@pytest.fixture(scope="module")
def reader(kernel: str) -> ProcessReader:
    return processes_of(kernel)


@pytest.fixture
def release(kernel: str) -> str:
    return kernel.split("-")[0]


def pid_of(reader: ProcessReader, proc: int) -> int:
    return reader.get(proc, "proc", "p_pid") if proc else -1


def live(reader: ProcessReader) -> dict[int, int]:
    """Processes of `allproc`: address by pid, in its order."""
    return {pid_of(reader, proc): proc for proc in reader.linked(reader.symbols["allproc"], "proc", "p_list")}


def everyone(reader: ProcessReader) -> dict[int, int]:
    """The same with the zombies: from `zombproc` where that exists, else from the hash."""
    found = live(reader)
    if "zombproc" in reader.symbols:
        more = reader.linked(reader.symbols["zombproc"], "proc", "p_list")
    else:
        more = [proc for _, proc in reader.chains("pidhashtbl", "pidhash", "proc", "p_hash")]
    return found | {pid_of(reader, proc): proc for proc in more}


# --- processes ------------------------------------------------------------------------------------------------------


def test_allproc_holds_the_living_youngest_first(reader: ProcessReader) -> None:
    assert list(live(reader)) == [process.pid for process in reversed(LIVE)]
    assert set(everyone(reader)) == set(PROCESSES)
    assert reader.variable("nprocs") == len(PROCESSES)
    assert reader.variable("lastpid") == max(PROCESSES)


def test_static_and_named_processes_are_in_the_list(reader: ProcessReader) -> None:
    procs = live(reader)
    assert procs[0] == reader.symbols["proc0"]
    assert procs[1] == reader.variable("initproc")
    assert procs[28] == reader.variable("pageproc")
    assert (
        reader.linked(reader.at(procs[0], "proc", "p_threads"), "thread", "td_plist", tail=True)[0]
        == (reader.symbols["thread0_st"])
    )


@pytest.mark.parametrize("pid", PROCESSES)
def test_fields_of_a_process(reader: ProcessReader, release: str, pid: int) -> None:
    proc, process = everyone(reader)[pid], PROCESSES[pid]
    assert reader.get(proc, "proc", "p_magic") == 0xBEEFFACE
    assert reader.characters(proc, "proc", "p_comm") == process.comm
    assert reader.get(proc, "proc", "p_state") == {"new": 0, "normal": 1, "zombie": 2}[process.state]
    assert reader.get(proc, "proc", "p_flag") == sum(P_FLAGS[name] for name in flags_of(process, release))
    assert reader.get(proc, "proc", "p_flag2") == (0x40 if process.flags2 else 0)
    assert reader.get(proc, "proc", "p_nice") == process.nice
    assert reader.get(proc, "proc", "p_numthreads") == len(process.threads)
    assert arguments(reader, proc) == (process.args if process.args_cached else None or ())
    stats = reader.get(proc, "proc", "p_stats")
    started = (reader.get(stats, "pstats", "p_start.tv_sec"), reader.get(stats, "pstats", "p_start.tv_usec"))
    assert started == process.start
    assert reader.get(proc, "proc", "p_osrel") == reader.variable("osreldate")
    if process.state == "zombie":
        status = reader.get(proc, "proc", "p_xexit"), reader.get(proc, "proc", "p_xsig")
        assert status == process.exit_status
        assert reader.get(proc, "proc", "p_ru.ru_utime.tv_usec") == process.cpu_time[0] % 1_000_000
    assert reader.get(proc, "proc", "p_rux.rux_uu") == process.cpu_time[0]
    assert reader.get(proc, "proc", "p_rux.rux_runtime") == sum(process.cpu_time) * 1000


def flags_of(process: Process, release: str) -> set[str]:
    """Those of the description, and what every such process has."""
    names = {*process.flags, "P_INMEM"}
    names |= {"P_CONTROLT"} if process.sid in (850, 880) else set()
    names |= {"P_WEXIT"} if process.state == "zombie" else set()
    names |= set() if process.is_kernel else {"P_EXEC"}
    names |= {"P_SYSTEM"} if process.comm == "init" else set()
    return names | ({"P_IDLEPROC"} if process.comm == "idle" and release == "15" else set())


def arguments(reader: ProcessReader, proc: int) -> tuple[str, ...] | None:
    pargs = reader.get(proc, "proc", "p_args")
    if not pargs:
        return None if PROCESSES[pid_of(reader, proc)].args is None else ()
    data = reader.read(reader.at(pargs, "pargs", "ar_args"), reader.get(pargs, "pargs", "ar_length"))
    assert data.endswith(b"\0")
    return tuple(data[:-1].decode().split("\0"))


def test_every_process_has_its_abi(reader: ProcessReader) -> None:
    native = "FreeBSD ELF64" if reader.word == 8 else "FreeBSD ELF32"
    for pid, proc in everyone(reader).items():
        vector = reader.get(proc, "proc", "p_sysent")
        name = reader.string(reader.get(vector, "sysentvec", "sv_name"))
        assert name.startswith("null" if PROCESSES[pid].is_kernel else native)


def test_pid_hash_has_every_process_in_its_chain(reader: ProcessReader, release: str) -> None:
    found = list(reader.chains("pidhashtbl", "pidhash", "proc", "p_hash"))
    mask = reader.variable("pidhash")
    assert mask == 511  # of maxproc / 4 = 1018, the next lower power of two
    pids = [pid_of(reader, proc) for _, proc in found]
    assert [pid & mask for pid in pids] == [chain for chain, _ in found]
    assert sorted(pids) == sorted(PROCESSES if release >= "13" else [process.pid for process in LIVE])


def test_offsets_for_debuggers_are_right(reader: ProcessReader) -> None:
    names = [name for name in reader.symbols if name.startswith(("proc_off_", "thread_off_"))]
    assert len(names) >= 9
    for name in names:
        tag, _, member = name.partition("_off_")
        assert reader.variable(name) == reader.at(0, tag, member)


# --- the family -----------------------------------------------------------------------------------------------------


def parent_now(process: Process) -> int:
    return process.ppid if process.tracer is None else process.tracer


def test_children_lead_to_everybody(reader: ProcessReader) -> None:
    procs, reached, queue = everyone(reader), set(), [0]
    while queue:
        pid = queue.pop()
        reached.add(pid)
        children = [
            pid_of(reader, proc)
            for proc in reader.linked(reader.at(procs[pid], "proc", "p_children"), "proc", "p_sibling")
        ]
        assert sorted(children) == sorted(p.pid for p in SYSTEM.processes if p.pid and parent_now(p) == pid)
        queue += children
    assert reached == set(PROCESSES)


def test_parents_real_parents_and_orphans(reader: ProcessReader, release: str) -> None:
    procs = everyone(reader)
    for pid, proc in procs.items():
        process = PROCESSES[pid]
        assert pid_of(reader, reader.get(proc, "proc", "p_pptr")) == (parent_now(process) if pid else -1)
        known = process.tracer is not None or release >= "13"
        assert reader.get(proc, "proc", "p_oppid") == (process.ppid if known else 0)
        orphans = reader.linked(reader.at(proc, "proc", "p_orphans"), "proc", "p_orphan")
        away = {p.pid for p in SYSTEM.processes if p.ppid == pid and p.tracer not in (None, pid)}
        assert {pid_of(reader, orphan) for orphan in orphans} == away
        assert [reader.get(orphan, "proc", "p_treeflag") & 3 for orphan in orphans] == [3, *[1] * len(orphans)][
            : len(orphans)
        ]
    assert pid_of(reader, reader.linked(reader.at(procs[850], "proc", "p_orphans"), "proc", "p_orphan")[0]) == 866


def test_reapers_have_everybody(reader: ProcessReader) -> None:
    procs = everyone(reader)
    seen: set[int] = set()
    for pid in (0, 1):
        subjects = reader.linked(reader.at(procs[pid], "proc", "p_reaplist"), "proc", "p_reapsibling")
        assert {reader.get(proc, "proc", "p_reaper") for proc in subjects} == {procs[pid]}
        assert reader.get(procs[pid], "proc", "p_treeflag") & 4
        seen |= {pid_of(reader, proc) for proc in subjects}
    assert seen == set(PROCESSES) - {0}


def test_groups_and_sessions(reader: ProcessReader) -> None:
    procs = everyone(reader)
    members: dict[int, list[int]] = {}
    for chain, pgrp in reader.chains("pgrphashtbl", "pgrphash", "pgrp", "pg_hash"):
        pgid = reader.get(pgrp, "pgrp", "pg_id")
        assert chain == pgid & reader.variable("pgrphash")
        for proc in reader.linked(reader.at(pgrp, "pgrp", "pg_members"), "proc", "p_pglist"):
            assert reader.get(proc, "proc", "p_pgrp") == pgrp
            members.setdefault(pgid, []).append(pid_of(reader, proc))
            session = reader.get(pgrp, "pgrp", "pg_session")
            assert reader.get(session, "session", "s_sid") == PROCESSES[pid_of(reader, proc)].sid
            check_session(reader, session, procs)
    expected: dict[int, list[int]] = {}
    for process in SYSTEM.processes:
        expected.setdefault(process.pgid, []).append(process.pid)
    assert {key: sorted(value) for key, value in members.items()} == {k: sorted(v) for k, v in expected.items()}


def check_session(reader: ProcessReader, session: int, procs: dict[int, int]) -> None:
    sid = reader.get(session, "session", "s_sid")
    assert reader.get(session, "session", "s_leader") == procs[sid]
    assert reader.get(session, "session", "s_count") == len({p.pgid for p in SYSTEM.processes if p.sid == sid})
    for known in SYSTEM.sessions:
        if known.sid == sid:
            assert reader.characters(session, "session", "s_login") == known.login


@pytest.mark.parametrize("name", ["pidmap", "grpidmap", "sessidmap"])
def test_bitmaps_of_numbers(reader: ProcessReader, name: str) -> None:
    if f"proc_id_{name}" not in reader.symbols:
        pytest.skip("no bitmaps before 13.0-CURRENT")
    numbers = {
        "pidmap": {p.pid for p in SYSTEM.processes},
        "grpidmap": {p.pgid for p in SYSTEM.processes},
        "sessidmap": {p.sid for p in SYSTEM.processes},
    }
    # A bitstring of longs; bit 0 is the lowest of the first.
    size = reader.types.size(reader.variables[f"proc_id_{name}"])
    words = [reader.unsigned(reader.symbols[f"proc_id_{name}"] + at, reader.word) for at in range(0, size, reader.word)]
    bits = {index * 8 * reader.word + bit for index, w in enumerate(words) if w for bit in range(64) if w >> bit & 1}
    assert bits == numbers[name]


# --- credentials ----------------------------------------------------------------------------------------------------


def test_credentials(reader: ProcessReader) -> None:
    for pid, proc in everyone(reader).items():
        truth = SYSTEM.credentials[PROCESSES[pid].credentials]
        ucred = reader.get(proc, "proc", "p_ucred")

        def value(member: str, ucred: int = ucred) -> int:
            return reader.get(ucred, "ucred", member)

        assert (value("cr_uid"), value("cr_ruid"), value("cr_svuid")) == (truth.uid, truth.ruid, truth.svuid)
        assert (value("cr_rgid"), value("cr_svgid")) == (truth.rgid, truth.svgid)
        assert groups(reader, ucred) == (truth.gid, truth.groups)
        assert bool(value("cr_flags") & 1) == truth.capability_mode
        assert reader.get(value("cr_prison"), "prison", "pr_id") == truth.jid
        assert reader.characters(value("cr_loginclass"), "loginclass", "lc_name") == truth.login_class
        assert reader.get(value("cr_uidinfo"), "uidinfo", "ui_uid") == truth.uid
        assert value("cr_audit.ai_auid") % (1 << 32) == truth.audit_id
        assert value("cr_audit.ai_asid") == truth.audit_session
        assert value("cr_ref") > 0


def groups(reader: ProcessReader, ucred: int) -> tuple[int, tuple[int, ...]]:
    count = reader.get(ucred, "ucred", "cr_ngroups")
    assert count <= reader.get(ucred, "ucred", "cr_agroups")
    start = reader.get(ucred, "ucred", "cr_groups")
    found = tuple(reader.unsigned(start + 4 * index, 4) for index in range(count))
    if reader.has("ucred", "cr_gid"):
        return reader.get(ucred, "ucred", "cr_gid"), found
    return found[0], found[1:]


def test_users_and_login_classes(reader: ProcessReader) -> None:
    users = {}
    for chain, info in reader.chains("uihashtbl", "uihash", "uidinfo", "ui_hash"):
        uid = reader.get(info, "uidinfo", "ui_uid")
        assert chain == uid & reader.variable("uihash")
        users[uid] = reader.get(info, "uidinfo", "ui_proccnt")
    for uid, count in users.items():
        assert count == sum(SYSTEM.credentials[p.credentials].ruid == uid for p in SYSTEM.processes)
    assert {0, 80, 770, 1001, 1002} == set(users)
    classes = reader.linked(reader.symbols["loginclasses"], "loginclass", "lc_next")
    assert {reader.characters(item, "loginclass", "lc_name") for item in classes} == {
        item.login_class for item in SYSTEM.credentials.values()
    }


# --- jails ----------------------------------------------------------------------------------------------------------


def prisons(reader: ProcessReader) -> dict[int, int]:
    found = reader.linked(reader.symbols["allprison"], "prison", "pr_list", tail=True)
    return {reader.get(prison, "prison", "pr_id"): prison for prison in (reader.symbols["prison0"], *found)}


def test_prisons(reader: ProcessReader) -> None:
    found = prisons(reader)
    assert list(found) == list(JAILS)
    for jid, prison in found.items():
        jail = JAILS[jid]
        assert reader.characters(prison, "prison", "pr_name") == jail.name
        assert reader.characters(prison, "prison", "pr_path") == jail.path
        assert reader.characters(prison, "prison", "pr_hostname").startswith(jail.hostname)
        assert reader.get(prison, "prison", "pr_securelevel") == jail.securelevel
        if jid:
            assert reader.get(prison, "prison", "pr_parent") == found[jail.parent]
            assert reader.get(prison, "prison", "pr_childmax") == jail.children_max
        if jail.osrelease:
            assert reader.characters(prison, "prison", "pr_osrelease") == jail.osrelease
        children = reader.linked(reader.at(prison, "prison", "pr_children"), "prison", "pr_sibling")
        assert set(children) == {found[item.jid] for item in SYSTEM.jails[1:] if item.parent == jid}
        assert bool(reader.get(prison, "prison", "pr_flags") & 0x10) == (jail.vnet or jid == 0)
        assert addresses(reader, prison) == (jail.ip4, jail.ip6)
        assert reader.get(prison, "prison", "pr_uref") > 0
    assert [reader.get(found[jid], "prison", "pr_childcount") for jid in (0, 1, 2, 3)] == [3, 0, 1, 0]


def addresses(reader: ProcessReader, prison: int) -> tuple[tuple[str, ...], ...]:
    result = []
    for family, size in enumerate((4, 16)):
        if reader.has("prison", "pr_addrs"):
            start = reader.pointer(reader.at(prison, "prison", "pr_addrs") + family * reader.word)
            count = reader.unsigned(start + 2 * reader.word, 4) if start else 0  # behind an epoch_context
            start += 2 * reader.word + 4
        else:
            name = ("pr_ip4", "pr_ip6")[family]
            start, count = reader.get(prison, "prison", name), reader.get(prison, "prison", name + "s")
        packed = [reader.read(start + index * size, size) for index in range(count)]
        result.append(tuple(str(ipaddress.ip_address(data)) for data in packed))
    return tuple(result)


def test_permissions_of_jails(reader: ProcessReader) -> None:
    names = {"allow.sysvipc": 0x2, "allow.raw_sockets": 0x4, "allow.mount": 0x10}
    for jid, prison in list(prisons(reader).items())[1:]:
        allowed = reader.get(prison, "prison", "pr_allow")
        assert {name for name, bit in names.items() if allowed & bit} == set(JAILS[jid].parameters)
        parent = reader.get(reader.get(prison, "prison", "pr_parent"), "prison", "pr_allow")
        assert allowed & ~parent == 0


def test_vnets(reader: ProcessReader) -> None:
    vnets = reader.linked(reader.symbols["vnet_head"], "vnet", "vnet_le")
    assert len(vnets) == 2
    assert vnets[-1] == reader.variable("vnet0")
    found = prisons(reader)
    owners = {jid: reader.get(prison, "prison", "pr_vnet") for jid, prison in found.items()}
    assert owners == {0: vnets[1], 1: vnets[1], 2: vnets[0], 3: vnets[0]}
    magics = {reader.get(vnet, "vnet", "vnet_magic_n") for vnet in vnets}
    assert magics in ({0x3E0D8F29}, {0x5E4A6F28})


def test_lists_of_a_jails_processes(reader: ProcessReader) -> None:
    if not reader.has("prison", "pr_proclist"):
        pytest.skip("jails have no list of processes before 14.0")
    for jid, prison in prisons(reader).items():
        procs = reader.linked(reader.at(prison, "prison", "pr_proclist"), "proc", "p_jaillist")
        inside = [p.pid for p in reversed(LIVE) if SYSTEM.credentials[p.credentials].jid == jid]
        assert [pid_of(reader, proc) for proc in procs] == inside
