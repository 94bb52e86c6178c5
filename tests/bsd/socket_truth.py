"""What the scenario says of its sockets, in the words of sockstat."""

from __future__ import annotations

from typing import NamedTuple

from tests.scenario.build_sockets import credential_key, has_socket
from tests.scenario.kernels import build_world
from tests.scenario.model import Process, Socket
from tests.scenario.system import SYSTEM
from tests.scenario.world import World

SOCKETS = {item.key: item for item in SYSTEM.sockets}
JAILS = {jail.jid: jail.name for jail in SYSTEM.jails}
FULL_NAMES = {0: "0", 1: "web", 2: "db", 3: "db.pg"}
"""Of jails: `pr_name` has the names of those above in it."""


class Expected(NamedTuple):
    """A socket's line, without its owners; None is what makes no sense there."""

    protocol: str
    local: str | None
    foreign: str | None
    state: str | None
    vnet: int
    uid: int
    jid: int
    received: int | None
    unsent: int | None
    listening: str | None
    options: frozenset[str] | None


def expected(kernel: str, item: Socket, separator: str = ":") -> Expected:
    """The line of a socket on a kernel."""
    world = build_world(kernel)
    known = has_socket(world, item)
    listens = "SO_ACCEPTCONN" in item.options
    made = _maker(item)
    return Expected(
        protocol(item),
        _local(item, separator),
        _foreign(item, separator),
        item.state or None,
        int(world.get("vnet", item.vnet)),
        made.owner,
        SYSTEM.credentials[credential_key(SYSTEM, made)].jid,
        None if listens or not known else item.receive_queue,
        None if listens or not known else item.send_queue,
        _queue(item) if listens else None,
        frozenset(item.options) if known else None,
    )


def pcb(world: World, item: Socket) -> int:
    """The address of its control block."""
    kinds = ("unpcb",) if item.family == "unix" else ("inpcb", "syncache")
    return next(int(found) for kind in kinds if (found := world.find(kind, item.key)))


def holders(item: Socket) -> list[tuple[int, int]]:
    """``(pid, fd)`` of every descriptor, those of shared tables included."""
    found = []
    for process in SYSTEM.processes:
        owner = _table_owner(process)
        found += [
            (process.pid, entry.fd)
            for entry in owner.descriptors
            if (entry.kind, entry.key) == ("socket", item.key) and process.state != "zombie"
        ]
    return sorted(found)


def process_of(pid: int) -> Process:
    return next(process for process in SYSTEM.processes if process.pid == pid)


def _table_owner(process: Process) -> Process:
    if process.shares_files_with is None:
        return process
    return process_of(process.shares_files_with)


def _maker(item: Socket) -> Socket:
    """Connections that were not accepted yet have the credentials of the socket that listens."""
    if item.listener:
        return SOCKETS[item.listener]
    if item.state == "SYN_RCVD":
        same = [one for one in SYSTEM.sockets if (one.vnet, one.state) == (item.vnet, "LISTEN")]
        return next(one for one in same if one.local[1] == item.local[1])
    return item


def protocol(item: Socket) -> str:
    if item.family == "unix":
        return {"seqpacket": "seqpac"}.get(item.protocol, item.protocol)
    name = {"raw": "icmp", "divert": "div"}.get(item.protocol, item.protocol)
    return name + ("46" if item.dual else "6" if item.family == "inet6" else "4")


def _local(item: Socket, separator: str) -> str | None:
    if item.family == "unix":
        senders = any(other.peer == item.key for other in SYSTEM.sockets)
        return item.local[0] or (None if item.peer or senders else "(not connected)")
    return _end(item, *item.local, separator)


def _foreign(item: Socket, separator: str) -> str | None:
    if item.family != "unix":
        return _end(item, *item.foreign, separator)
    parts = [f"-> {_peer(SOCKETS[item.peer])}"] if item.peer else []
    senders = [other for other in SYSTEM.sockets if other.protocol == "dgram" and other.peer == item.key]
    if senders:
        parts.append("<- " + ",".join("[{} {}]".format(*holders(other)[0]) for other in senders))
    return " ".join(parts) or None


def _peer(item: Socket) -> str:
    if item.local[0]:
        return item.local[0]
    held = holders(item)
    return "[{} {}]".format(*held[0]) if held else "(address)"


def _end(item: Socket, address: str, port: int, separator: str) -> str:
    text = "*" if address in ("", "0.0.0.0", "::") else address
    if item.scope and address.startswith("fe80:"):
        text += f"%{item.scope}"
    shown = "*" if not port or item.protocol == "raw" else str(port)
    return f"{text}{separator}{shown}"


def _queue(item: Socket) -> str:
    limit, incomplete, complete = item.backlog
    return f"{complete}/{incomplete}/{limit}"
