"""freebsd.sockstat and freebsd.netstat over dumps, as JSON, beside what the scenario says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from volatility3.plugins import timeliner

from tests.bsd.damage import Damage
from tests.bsd.socket_truth import FULL_NAMES, SOCKETS, expected, holders, pcb, process_of
from tests.framework import plugin_classes, stack, table
from tests.scenario.build_sockets import has_socket
from tests.scenario.kernels import build_world
from tests.scenario.model import Socket
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import changed, write_dump, write_symbol_file

SOCKSTAT, NETSTAT = "freebsd.sockstat.Sockstat", "freebsd.netstat.Netstat"
KERNELS = ("12.1-amd64", "12.1-i386", "13.0-amd64", "14-riscv", "14-powerpc64", "15-amd64", "15-arm64", "15-arm")

Row = dict[str, Any]
Dump = tuple[Path, Path]

pytestmark = pytest.mark.parametrize("kernel", KERNELS, scope="session")


@pytest.fixture(scope="session")
def dump(kernel: str, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    return write_dump(kernel, tmp_path_factory.mktemp("sockets"))


@pytest.fixture
def run(dump: Dump) -> Callable[..., list[Row]]:
    """Rows of a plugin over the dump."""

    def rows(plugin: str, **options: Any) -> list[Row]:
        return table(dump[0], plugin, kernel=dump[1], **options)

    return rows


def key_of(kernel: str, row: Row) -> str:
    return {pcb(build_world(kernel), item): item.key for item in SYSTEM.sockets}[row["PCB"]]


def keys(kernel: str, rows: list[Row]) -> set[str]:
    return {key_of(kernel, row) for row in rows}


def shown(text: str | None) -> str | None:
    """The address of a peer that nobody has is not known to the description."""
    return re.sub("0x[0-9a-f]+", "(address)", text) if text else None


def socket_line(kernel: str, item: Socket, holder: tuple[int, int] | None) -> Row:
    """A row of sockstat but its notes."""
    truth = expected(kernel, item)
    pid, fd = holder or (None, None)
    credentials = SYSTEM.credentials[process_of(pid).credentials] if pid else None
    jid = credentials.jid if credentials else truth.jid
    world = build_world(kernel)
    socket = int(world.find("socket", item.key))
    return {
        "User": credentials.uid if credentials else None,
        "Command": process_of(pid).comm if pid else None,
        "PID": pid,
        "FD": fd,
        "Proto": truth.protocol,
        "Local Address": truth.local,
        "Foreign Address": truth.foreign,
        "State": truth.state,
        "Vnet": truth.vnet,
        "JID": jid,
        "Jail": FULL_NAMES[jid],
        "Recv-Q": truth.received,
        "Send-Q": truth.unsent,
        "Listen": truth.listening,
        "Options": truth.options,
        "FIB": 0,
        "Creator": truth.uid,
        "Socket": socket or None,
        "PCB": pcb(world, item),
    }


def cut(row: Row) -> Row:
    """A row for comparison."""
    plain = {name: value for name, value in row.items() if name not in ("Notes", "Generation")}
    plain["Foreign Address"] = shown(row["Foreign Address"])
    options = row["Options"]
    plain["Options"] = None if options is None else frozenset(filter(None, options.split(", ")))
    return plain


def place(row: Row) -> tuple[int, int, int]:
    return row["PCB"], row["PID"] or 0, row["FD"] or 0


def test_sockstat_has_every_socket_and_owner(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = run(SOCKSTAT)
    lines = [socket_line(kernel, item, one) for item in SYSTEM.sockets for one in holders(item) or [None]]  # type: ignore[list-item]
    assert sorted(map(cut, rows), key=place) == sorted(lines, key=place)
    numbers = {row["Socket"]: row["Generation"] for row in rows if row["Socket"]}
    world = build_world(kernel)
    made = [int(world.get("socket", item.key)) for item in SYSTEM.sockets if has_socket(world, item)]
    assert [numbers[socket] for socket in made] == list(range(1, len(made) + 1))


def test_sockstat_is_in_the_order_of_sockstat(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = run(SOCKSTAT)
    held = [(row["PID"], row["FD"]) for row in rows if row["PID"]]
    assert held == sorted(held)
    assert all(row["PID"] is None for row in rows[len(held) :])
    assert all(row["Notes"] for row in rows[len(held) :])


def test_sockstat_says_why_nobody_has_a_socket(kernel: str, run: Callable[..., list[Row]]) -> None:
    notes = {key_of(kernel, row): row["Notes"] for row in run(SOCKSTAT) if row["PID"] is None}
    world = build_world(kernel)
    assert notes["syn-received6"] == "half open: in the SYN cache"
    assert notes["nfsd"] == "no process has a descriptor of it"
    assert notes["closed"] == "its process has closed it"
    assert notes["web-waiting-1"] == f"waits to be accepted at socket {int(world.get('socket', 'web')):#x}"
    assert {row["Notes"] for row in run(SOCKSTAT) if row["PID"]} == {""}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"pid": [820]}, {"ssh-session", "ssh6-session"}),
        ({"pid": [820], "protocol": ["tcp6"]}, {"ssh6-session"}),
        ({"vnet": "2"}, {"pg4", "pg6", "pg-client"}),
        ({"vnet": "db", "protocol": ["inet6"]}, {"pg6"}),
        ({"jail": "db.pg"}, {"pg4", "pg6", "pg-client", "pg-unix"}),
        ({"jail": "1"}, {"web", "web-client", "web-waiting-1", "web-waiting-2"}),
        ({"protocol": ["icmp", "stream"]}, {"icmp", "pair-a", "pair-b", "pg-unix"}),
    ],
)
def test_sockstat_can_be_narrowed(
    kernel: str, run: Callable[..., list[Row]], options: dict[str, Any], wanted: set[str]
) -> None:
    assert keys(kernel, run(SOCKSTAT, **options)) == wanted


@pytest.mark.parametrize("plugin", [SOCKSTAT, NETSTAT])
@pytest.mark.parametrize(
    ("option", "start"), [("vnet", "there is no vnet nine; "), ("jail", "there is no jail nine; ")]
)
def test_what_is_not_there_is_said(
    kernel: str, run: Callable[..., list[Row]], plugin: str, option: str, start: str
) -> None:
    (row,) = run(plugin, **{option: "nine"})
    assert row["Notes"].startswith(f"the walk: ended because {start}")
    assert {value for name, value in row.items() if name != "Notes"} == {None}


# netstat


def test_netstat_has_every_connection_once(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = {key_of(kernel, row): row for row in run(NETSTAT)}
    assert set(rows) == set(SOCKETS)
    for key, row in rows.items():
        truth = expected(kernel, SOCKETS[key], ".")
        assert (row["Proto"], row["Local Address"], shown(row["Foreign Address"])) == truth[:3]
        assert (row["State"], row["Vnet"]) == (truth.state, truth.vnet)
        assert (row["Recv-Q"], row["Send-Q"], row["Listen"]) == (truth.received, truth.unsent, truth.listening)


def test_netstat_has_buffers_and_timers(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = {key_of(kernel, row): row for row in run(NETSTAT, protocol=["tcp", "udp"])}
    session = rows["ssh-session"]
    assert (session["R-HIWA"], session["S-HIWA"], session["R-BCNT"], session["S-BCNT"]) == (65536, 32768, 0, 256)
    assert rows["closed"]["rcvtime"] == 9
    assert rows["ssh4"]["rcvtime"] is None
    assert rows["dns"]["rexmt"] is None
    if build_world(kernel).has_type("tcp_timer"):
        return  # Until 13 timers are in a structure that shipped symbols may lack; the walkers' tests have them.
    assert (session["rexmt"], session["keep"], session["persist"]) == (0.5, 7199.5, None)
    assert (rows["fin"]["msl2"], rows["time-wait"]["msl2"]) == (59.5, 59.5)


def test_netstat_tells_all_of_tcp_if_asked(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = {key_of(kernel, row): row for row in run(NETSTAT, tcp_info=True, vnet="0")}
    item = SOCKETS["ssh-session"]
    ours, theirs = 0x1000_0000 + item.local[1] * 4096, 0x8000_0000 + item.foreign[1] * 4096
    row = rows["ssh-session"]
    assert (row["ISS"], row["SND_UNA"], row["SND_NXT"], row["SND_MAX"]) == (ours, ours + 1, ours + 49, ours + 49)
    assert (row["IRS"], row["RCV_NXT"], row["RCV_ADV"], row["RCV_WND"]) == (theirs, theirs + 1, theirs + 65536, 65535)
    assert (row["SND_WND"], row["Cwnd"], row["MSS"], row["Snd scale"], row["Rcv scale"]) == (65535, 14480, 1448, 6, 6)
    assert (row["Rexmit"], row["OOORcv"], row["Zero-win"], row["Backoff"], row["RTO ms"]) == (0, 0, 0, 0, 1000)
    assert (row["RTT ms"], row["RTT var ms"], row["Stack"]) == (None, None, "freebsd")
    assert row["Established"] == "2026-01-01T00:18:20.750000+00:00"
    assert row["Received"] == "2026-01-01T00:20:00.750000+00:00"
    half_open = rows["syn-received"]
    assert (half_open["ISS"], half_open["MSS"], half_open["Rexmit"]) == (0x2000_0000 + 50023, 1460, 1)
    assert rows["dns"]["MSS"] is None


def test_netstat_gives_a_timeline(kernel: str, dump: Dump) -> None:
    plugin = stack(dump[0], NETSTAT, kernel=dump[1]).plugin
    assert isinstance(plugin, timeliner.TimeLinerInterface)
    times = {text: (kind, when) for text, kind, when in plugin.generate_timeline()}
    session, closed = "Connection tcp4 192.0.2.10:22 198.51.100.7:50022", "tcp4 192.0.2.10:40004 203.0.113.7:443"
    assert times[f"{session} established"] == (timeliner.TimeLinerType.CREATED, minutes(18, 20))
    assert times[f"Connection {closed} received last"] == (timeliner.TimeLinerType.ACCESSED, minutes(19, 51))
    sent = f"Connection {closed} sent last"
    if build_world(kernel).has("tcpcb", "t_sndtime"):
        assert times[sent] == (timeliner.TimeLinerType.MODIFIED, minutes(19, 51))
    else:
        assert sent not in times
    assert not any("*:*" in text for text in times)


def minutes(minute: int, second: int) -> datetime:
    """After midnight of the day of the dump."""
    return datetime(2026, 1, 1, 0, minute, second, 750_000, timezone.utc)


# Hidden and damaged


@pytest.fixture
def hidden(kernel: str, dump: Dump, tmp_path: Path) -> Dump:
    """A dump in which a connection is off its list and its hash tables, and another's list loops."""
    damage = Damage(kernel)
    inpcb = damage.world.get("inpcb", "ssh-session")
    exact = damage.world.has("inpcb", "inp_hash_exact")
    for link in ("inp_list", "inp_portlist", "inp_hash_exact" if exact else "inp_hash"):
        damage.unlink(inpcb, link)
    log = damage.world.get("unpcb", "log")
    damage.set(log, "unp_link", int(damage.world.get("unpcb", "log-client")))
    with changed(damage.world.memory, damage.changes):
        path = tmp_path / "vmcore"
        path.write_bytes(damage.world.memory.minidump().data)
    return path, dump[1]


def test_hidden_connections_are_shown_with_their_notes(kernel: str, hidden: Dump) -> None:
    where = f"the list of tcp in vnet {int(build_world(kernel).get('vnet', 0)):#x}"
    for plugin in (SOCKSTAT, NETSTAT):
        rows = table(hidden[0], plugin, kernel=hidden[1])
        (row,) = [row for row in rows if row["PCB"] and key_of(kernel, row) == "ssh-session"]
        assert row["Notes"] == f"hidden: not on {where}, known by its descriptor"
        assert row["State"] == "ESTABLISHED"
        problems = [row["Notes"] for row in rows if row["Proto"] is None]
        assert len(problems) == 2
        assert problems[0].startswith(f"{where.removeprefix('the ')}: ")
        assert problems[1].startswith("list of dgram sockets: loops back to ")
        assert keys(kernel, [row for row in rows if row["PCB"]]) == set(SOCKETS)


# Kernels without types


@pytest.fixture(scope="session")
def untyped(kernel: str, dump: Dump, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """Symbols only: what such a kernel's types are, the dump itself tells."""
    directory = tmp_path_factory.mktemp("untyped")
    path = write_symbol_file(kernel, directory)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["user_types"] = {name: one for name, one in content["user_types"].items() if name in ("proc", "thread")}
    path.write_text(json.dumps(content), encoding="utf-8")
    return dump[0], path


@pytest.mark.parametrize("plugin", [SOCKSTAT, NETSTAT])
def test_a_kernel_without_types_is_one_row(kernel: str, untyped: Dump, plugin: str) -> None:
    (row,) = table(untyped[0], plugin, kernel=untyped[1])
    needed = "struct socket, struct inpcb, struct inpcbinfo, struct unpcb"
    assert row["Notes"] == f"sockets: this kernel's types have none of {needed}: sockets cannot be found"
    assert {value for name, value in row.items() if name != "Notes"} == {None}


def test_names_are_unique(kernel: str) -> None:
    """`vol` takes any unique part of ``module.Class``."""
    del kernel
    for short, plugin in (("freebsd.sockstat", SOCKSTAT), ("freebsd.netstat", NETSTAT)):
        assert [name for name in plugin_classes() if short in name] == [plugin]
