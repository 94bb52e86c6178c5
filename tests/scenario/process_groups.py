"""Process groups and sessions: `struct pgrp`, `struct session`, `pgrphashtbl` (kern/kern_proc.c)."""

from __future__ import annotations

from tests.writers.objects import Object, link_list

from .credentials import max_processes, power_of_two
from .model import Process
from .shapes import fill_hash, hash_table, mtx_init, set_members, sx_init
from .world import World

TYPES = {"pgrphashhead": {"lh_first": "struct pgrp *"}}
VARIABLES = {
    "pgrphashtbl": "struct pgrphashhead *",
    "pgrphash": "unsigned long",
    "session0": "struct session",
    "pgrp0": "struct pgrp",
}


def in_order_of_creation(world: World) -> list[Process]:
    """Processes as they were forked."""
    return sorted(world.system.processes, key=lambda process: (process.start, process.pid))


def create_groups(world: World) -> None:
    """Sessions and groups; number 0 are the kernel's own, static ones."""
    for process in in_order_of_creation(world):
        if not world.find("session", process.sid):
            _create_session(world, process.sid)
        if not world.find("pgrp", process.pgid):
            _create_group(world, process.pgid, world.get("session", process.sid))
    table = hash_table(world, "pgrphashtbl", "pgrphash", power_of_two(max_processes(world) // 4))
    # pgrp0 is put into the table as any other.
    fill_hash(table, world.all("pgrp").values(), "pg_hash", lambda pgrp: pgrp.pg_id)


def _static_or_new(world: World, name: str, type_name: str, number: int) -> Object:
    if number == 0 and world.has_symbol(name):
        return world.symbol(name)
    return world.new(f"struct {type_name}")


def _create_session(world: World, sid: int) -> None:
    session = world.put("session", sid, _static_or_new(world, "session0", "session", sid))
    session.s_sid = sid
    session.s_count = 0
    known = [item for item in world.system.sessions if item.sid == sid]
    session.s_login = known[0].login if known else "root" if sid else ""
    mtx_init(world, session.s_mtx, "session")


def _create_group(world: World, pgid: int, session: Object) -> None:
    pgrp = world.put("pgrp", pgid, _static_or_new(world, "pgrp0", "pgrp", pgid))
    pgrp.pg_id = pgid
    pgrp.pg_session = session
    session.s_count += 1
    mtx_init(world, pgrp.pg_mtx, "process group")
    if world.has("pgrp", "pg_killsx"):
        sx_init(world, pgrp.pg_killsx, "killpg racer")


def connect_groups(world: World) -> None:
    """Members and leaders."""
    members: dict[int, list[Process]] = {}
    for process in in_order_of_creation(world):
        _insert(members.setdefault(process.pgid, []), process)
        world.get("proc", process.pid).p_pgrp = world.get("pgrp", process.pgid)
        if process.sid == process.pid and process.state != "zombie":
            world.get("session", process.sid).s_leader = world.get("proc", process.pid)
    for pgid, processes in members.items():
        pgrp = world.get("pgrp", pgid)
        link_list(pgrp.pg_members, [world.get("proc", process.pid) for process in processes], "p_pglist")
        set_members(world, pgrp, pg_jobc=_job_control(world, processes))


def _insert(members: list[Process], process: Process) -> None:
    """`fork1` inserts behind the parent if that is in the group, `enterpgrp` at the head."""
    pids = [member.pid for member in members]
    members.insert(pids.index(process.ppid) + 1 if process.ppid in pids else 0, process)


def _job_control(world: World, members: list[Process]) -> int:
    """`pg_jobc` (until 13.0): members whose parents are in another group of the same session."""
    groups = {process.pid: (process.pgid, process.sid) for process in world.system.processes}
    return sum(
        groups[process.ppid][0] != process.pgid and groups[process.ppid][1] == process.sid for process in members
    )
