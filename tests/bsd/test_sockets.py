"""Every socket of the scenario, from the lists of protocols, descriptors, queues and hash tables."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

import pytest

from tests.bsd.socket_truth import SOCKETS, Expected, expected, holders, pcb, process_of
from tests.scenario.build_sockets import SPACE, has_socket
from tests.scenario.kernels import build_world
from tests.scenario.model import Socket
from tests.scenario.system import SYSTEM
from tests.scenario.tcpcbs import AGE, MSS, WINDOW
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd.connection import Connection
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.sockets import Selection, find_connections
from volatility3_freebsd_kvm.bsd.tcp import TIMERS, Tcp

NONE = Absent.NOT_APPLICABLE
TCP = [item for item in SYSTEM.sockets if item.protocol == "tcp"]
CAPTURE = datetime(2026, 1, 1, 0, 20, 0, 750_000, timezone.utc)
"""Boot and uptime of the scenario."""


@lru_cache(maxsize=1)
def found(kernel: str) -> dict[int, Connection]:
    """By control block."""
    connections, problems = find_connections(walkable(kernel))
    assert problems == []
    assert len({one.pcb for one in connections}) == len(connections)
    return {int(one.pcb): one for one in connections if isinstance(one.pcb, int)}


def connection(kernel: str, key: str) -> Connection:
    return found(kernel)[pcb(build_world(kernel), SOCKETS[key])]


def line(one: Connection) -> Expected:
    return Expected(
        one.shown_protocol(),
        text(one.local_text()),
        text(one.foreign_text()),
        text(one.state),
        number(one.vnet),
        number(one.creator.uid),
        number(one.creator.jid),
        one.received if isinstance(one.received, int) else unless_absent(one.received),
        one.unsent if isinstance(one.unsent, int) else unless_absent(one.unsent),
        None if isinstance(one.listening, Absent) else str(one.listening),
        None if one.options is NONE else frozenset(one.options),  # type: ignore[arg-type]
    )


def text(value: str | Absent) -> str | None:
    return value if isinstance(value, str) else unless_absent(value)


def number(value: int | Absent) -> int:
    assert isinstance(value, int)
    return value


def unless_absent(value: object) -> None:
    assert value is NONE


def peers_named(lined: Expected) -> Expected:
    """With the addresses of those that have no descriptor taken out."""
    return lined._replace(foreign=re.sub(r"0x[0-9a-f]+", "(address)", lined.foreign) if lined.foreign else None)


def test_every_socket_is_there_as_it_is(kernel: str) -> None:
    world = build_world(kernel)
    lines = {address: peers_named(line(one)) for address, one in found(kernel).items()}
    assert lines == {pcb(world, item): expected(kernel, item) for item in SYSTEM.sockets}


def test_every_descriptor_of_a_socket_is_known(kernel: str) -> None:
    world = build_world(kernel)
    for item in SYSTEM.sockets:
        one = found(kernel)[pcb(world, item)]
        assert [(holder.pid, holder.fd) for holder in one.holders] == holders(item), item.key
        for holder in one.holders:
            process = process_of(number(holder.pid))
            credentials = SYSTEM.credentials[process.credentials]
            assert (holder.command, holder.uid, holder.jid) == (process.comm, credentials.uid, credentials.jid)
            assert holder.notes == ()


def test_sockets_are_those_of_their_control_blocks(kernel: str) -> None:
    world = build_world(kernel)
    for item in SYSTEM.sockets:
        one = found(kernel)[pcb(world, item)]
        assert (one.socket.address if one.socket else 0) == int(world.find("socket", item.key)), item.key
        assert one.fib == 0


def test_sockets_are_numbered_in_the_order_of_their_making(kernel: str) -> None:
    world = build_world(kernel)
    made = [item for item in SYSTEM.sockets if has_socket(world, item)]
    numbers = [one.socket.generation for item in made if (one := found(kernel)[pcb(world, item)]).socket]
    assert numbers == list(range(1, len(made) + 1))


def test_buffers_have_space(kernel: str) -> None:
    for item in SYSTEM.sockets:
        one = found(kernel)[pcb(build_world(kernel), item)]
        if one.socket:
            space = SPACE.get(item.protocol, (8192, 8192))
            assert (one.socket.receive.limit, one.socket.send.limit) == space
            listens = "SO_ACCEPTCONN" in item.options
            mbufs = NONE if listens else -(-item.send_queue // 200) * 256
            assert one.socket.send.mbuf_bytes == mbufs


def test_what_nobody_has_says_why(kernel: str) -> None:
    world = build_world(kernel)
    notes = {item.key: found(kernel)[pcb(world, item)].notes for item in SYSTEM.sockets}
    web, ssh6 = (int(world.get("socket", key)) for key in ("web", "ssh6"))
    modern = world.has("socket", "so_snd_sx")
    closed, unknown = ("its process has closed it",), ("no process has a descriptor of it",)
    assert {key: value for key, value in notes.items() if value} == {
        "web-waiting-1": (f"waits to be accepted at socket {web:#x}",),
        "web-waiting-2": (f"waits to be accepted at socket {web:#x}",),
        "ssh6-filtered": (f"held back by the accept filter of socket {ssh6:#x}",),
        "ssh6-waiting": (f"waits to be accepted at socket {ssh6:#x}",),
        "nfsd": unknown,
        "closed": closed,
        "time-wait": closed if modern else ("it has no socket",),
        "syn-received": ("half open: in the SYN cache",),
        "syn-received6": ("half open: in the SYN cache",),
        # The flag that says so is gone since 14.
        "seq-a": unknown if modern else closed,
        "seq-b": unknown if modern else closed,
    }


# TCP


def tcp_of(kernel: str, item: Socket) -> Tcp:
    tcp = found(kernel)[pcb(build_world(kernel), item)].tcp
    assert tcp is not None
    return tcp


def sequences(item: Socket) -> tuple[int, int]:
    return 0x1000_0000 + item.local[1] * 4096, 0x8000_0000 + item.foreign[1] * 4096


def test_sequence_numbers_and_windows(kernel: str) -> None:
    for item in TCP:
        tcp = tcp_of(kernel, item)
        if item.state in ("LISTEN", "SYN_RCVD") or tcp.short:
            continue
        ours, theirs = sequences(item)
        sent = item.state != "SYN_SENT"
        finished = item.state in ("FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT")
        assert (tcp.iss, tcp.snd_una) == (ours, ours + sent)
        assert tcp.snd_nxt == tcp.snd_max == ours + 1 + item.send_queue + finished
        assert tcp.irs == (theirs if sent else 0)
        assert tcp.rcv_nxt == (theirs + 1 + item.receive_queue if sent else 0)
        assert tcp.rcv_adv == (theirs + 1 + WINDOW if sent else 0)
        assert tcp.rcv_wnd == (WINDOW - item.receive_queue if sent else 0)
        assert (tcp.snd_wnd, tcp.snd_scale, tcp.rcv_scale) == ((WINDOW, 6, 6) if sent else (0, 0, 0))
        assert (tcp.mss, tcp.snd_cwnd, tcp.snd_ssthresh) == (MSS, 10 * MSS, 0x3FFF_C000)
        assert (tcp.retransmitted, tcp.out_of_order, tcp.zero_windows, tcp.backoff) == (0, 0, 0, 0)
        assert (tcp.rtt, tcp.rtt_variance, tcp.rto) == (NONE, NONE, 1000)


def test_algorithms_and_flags(kernel: str) -> None:
    world = build_world(kernel)
    congestion = "cubic" if world.has_symbol("cubic_cc_algo") else "newreno"
    for item in TCP:
        tcp = tcp_of(kernel, item)
        if item.state == "SYN_RCVD" or tcp.short:
            continue
        assert (tcp.congestion, tcp.stack) == (congestion, "freebsd")
        assert isinstance(tcp.flags, tuple)
        assert ("TF_SACK_PERMIT" in tcp.flags) == (item.state not in ("LISTEN", "SYN_SENT"))
        counted = world.has("tcpcb", "t_sndbytes")
        if counted and item.state not in ("LISTEN", "SYN_SENT"):
            assert (tcp.sent_bytes, tcp.retransmitted_bytes) == (1000 + item.send_queue, 0)
        elif not counted:
            assert (tcp.sent_bytes, tcp.retransmitted_bytes) == (Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE)


def test_times_of_connections(kernel: str) -> None:
    sent_known = build_world(kernel).has("tcpcb", "t_sndtime")
    for item in TCP:
        tcp = tcp_of(kernel, item)
        if item.state == "SYN_RCVD":
            continue
        established = item.state not in ("LISTEN", "SYN_SENT")
        received = CAPTURE - timedelta(seconds=item.idle)
        assert tcp.started == (received - timedelta(seconds=AGE) if established else NONE)
        if tcp.short or item.state == "LISTEN":
            assert (tcp.idle, tcp.received, tcp.sent) == (NONE, NONE, NONE)
        else:
            sent = received if sent_known else Absent.NOT_AVAILABLE
            assert (tcp.idle, tcp.received, tcp.sent) == (item.idle, received, sent)


def test_timers(kernel: str) -> None:
    for item in TCP:
        tcp = tcp_of(kernel, item)
        timers = {name: value for name, value in zip(TIMERS, tcp.timers, strict=True) if value is not NONE}
        if item.state in ("FIN_WAIT_2", "TIME_WAIT"):
            # A tcptw counts in ticks, the others in binary time; half a second of uptime is what differs.
            assert timers == {"2msl": 60 - item.idle - (0 if tcp.short else 0.5)}
        elif item.state == "SYN_SENT" or item.send_queue:
            keep = {"keep": 7199.5} if "SO_KEEPALIVE" in item.options else {}
            assert timers == {"rexmt": 0.5, **keep}
        else:
            assert timers == {}


def test_half_open_connections(kernel: str) -> None:
    for key in ("syn-received", "syn-received6"):
        one, port = connection(kernel, key), SOCKETS[key].foreign[1]
        assert one.half_open is not None
        assert one.tcp is not None
        assert (one.half_open.iss, one.half_open.irs) == (0x2000_0000 + port, 0x9000_0000 + port)
        assert (one.half_open.mss, one.half_open.window, one.half_open.retransmits) == (1460, 65535, 1)
        assert (one.tcp.iss, one.tcp.mss, one.tcp.rcv_wnd, one.tcp.retransmitted) == (one.half_open.iss, 1460, 65535, 1)


# unix(4)


def test_unix_sockets_know_their_files_and_peers(kernel: str) -> None:
    world = build_world(kernel)
    log, client = connection(kernel, "log").unpcb, connection(kernel, "log-client").unpcb
    assert log is not None
    assert client is not None
    assert (log.vnode, log.path, log.peer, log.senders) == (
        int(world.get("vnode", world_key(world, "/var/run/log"))),
        "/var/run/log",
        0,
        (client.address,),
    )
    assert (client.vnode, client.path, client.peer, client.senders) == (0, NONE, log.address, ())


def world_key(world: object, path: str) -> str:
    return next(vnode.key for vnode in SYSTEM.vnodes if vnode.path == path.lstrip("/") or vnode.path == path)


def test_unix_sockets_know_who_connected(kernel: str) -> None:
    world = build_world(kernel)
    pair = connection(kernel, "pair-a").unpcb
    assert pair is not None
    pid = 910 if world.has("xucred", "cr_pid") else Absent.NOT_AVAILABLE
    assert (pair.peer_uid, pair.peer_pid) == (1001, pid)
    log = connection(kernel, "log").unpcb
    assert log is not None
    assert log.peer_uid is NONE


# Choosing


def rows(kernel: str, **chosen: object) -> list[tuple[str, int, int]]:
    """``(key, pid, fd)``, 0 and -1 for what nobody has."""
    world = build_world(kernel)
    keys = {pcb(world, item): item.key for item in SYSTEM.sockets}
    result = []
    for row in Selection(**chosen).rows(walkable(kernel)):  # type: ignore[arg-type]
        assert not isinstance(row, Problem)
        one, holder = row
        pid = holder.pid if holder else 0
        assert isinstance(pid, int)
        result.append((keys[int(one.pcb)], pid, holder.fd if holder else -1))  # type: ignore[arg-type]
    return result


KERNELS_TO_CHOOSE_ON = ("12.1-amd64", "15-arm64")


@pytest.mark.parametrize("kernel", KERNELS_TO_CHOOSE_ON, scope="session")
class TestSelection:
    def test_rows_are_by_process_then_what_nobody_has(self, kernel: str) -> None:
        shown = rows(kernel)
        held = [row for row in shown if row[1]]
        assert held == sorted(held, key=lambda row: row[1:])
        assert shown[: len(held)] == held
        assert {row[0] for row in shown} == set(SOCKETS)

    def test_by_process(self, kernel: str) -> None:
        assert rows(kernel, pids=(820, 1001)) == [
            ("ssh-session", 820, 3),
            ("ssh6-session", 820, 5),
            ("web", 1001, 6),
            ("web-client", 1001, 9),
        ]

    @pytest.mark.parametrize("vnet", ["2", "db", "address"])
    def test_by_vnet(self, kernel: str, vnet: str) -> None:
        named = hex(int(build_world(kernel).get("vnet", 2))) if vnet == "address" else vnet
        assert {row[0] for row in rows(kernel, vnet=named)} == {"pg4", "pg-client", "pg6"}

    @pytest.mark.parametrize(
        ("jail", "keys"),
        [
            ("1", {"web", "web-client", "web-waiting-1", "web-waiting-2"}),
            ("web", {"web", "web-client", "web-waiting-1", "web-waiting-2"}),
            ("3", {"pg4", "pg-client", "pg6", "pg-unix"}),
            ("db.pg", {"pg4", "pg-client", "pg6", "pg-unix"}),
        ],
    )
    def test_by_jail(self, kernel: str, jail: str, keys: set[str]) -> None:
        assert {row[0] for row in rows(kernel, jail=jail)} == keys

    @pytest.mark.parametrize(
        ("protocols", "keys"),
        [
            (("icmp",), {"icmp"}),
            (("raw",), {"icmp"}),
            (("udp6",), {"syslog6", "linklocal"}),
            (("TCP46",), {"nfsd"}),
            (("seqpac", "dgram"), {"seq-a", "seq-b", "log", "log-client"}),
            (("unix",), {key for key, item in SOCKETS.items() if item.family == "unix"}),
            (("inet6",), {key for key, item in SOCKETS.items() if item.family == "inet6"}),
            (("inet",), {key for key, item in SOCKETS.items() if item.family == "inet" or item.dual}),
            (("sctp",), set()),
        ],
    )
    def test_by_protocol(self, kernel: str, protocols: tuple[str, ...], keys: set[str]) -> None:
        assert {row[0] for row in rows(kernel, protocols=protocols)} == keys

    def test_protocols_are_in_the_order_of_netstat(self, kernel: str) -> None:
        shown = [one for one in Selection().connections(walkable(kernel)) if not isinstance(one, Problem)]
        assert len(shown) == len(SYSTEM.sockets)
        order = ["tcp", "udp", "raw", "stream", "dgram", "seqpacket"]
        assert [one.protocol for one in shown] == sorted((one.protocol for one in shown), key=order.index)
