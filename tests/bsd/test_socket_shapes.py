"""Shapes of sockets that no kernel of the scenario has: FreeBSD 10, divert sockets of 14, SCTP."""

from __future__ import annotations

import pytest

from tests.bsd.old_sockets import AF_INET, SOCK_STREAM, TYPES, Old
from tests.writers.objects import Object, link_list, link_slist, link_tailq
from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.bsd.sctp import MAX_ADDRESSES
from volatility3_freebsd_kvm.bsd.sockets import find_connections

AF_DIVERT = 44
SOCK_RAW = 3
SO_ACCEPTCONN = 2
INP_INHASHLIST, INP_TIMEWAIT = 0x2000, 0x0100_0000
LISTEN, ESTABLISHED = 1, 4


# FreeBSD 10


def test_descriptors_of_10() -> None:
    system = Old()
    socket = system.socket(system.tcp, so_rcv__sb_cc=7, so_snd__sb_cc=8, so_rcv__sb_hiwat=100, so_gencnt=3)
    inpcb = system.connection(socket, (53, 4000), ESTABLISHED)
    system.list_of_tcp([inpcb])
    system.process([system.socket(system.tcp), socket])
    connections, problems = system.found()
    one = connections[int(inpcb)]
    assert [(holder.pid, holder.command, holder.uid, holder.jail, holder.fd) for holder in one.holders] == [
        (42, "named", 53, "0", 2)
    ]
    assert (one.local_text(), one.foreign_text(), one.state) == ("192.0.2.1:53", "192.0.2.2:4000", "ESTABLISHED")
    assert (one.received, one.unsent, one.notes) == (7, 8, ())
    assert one.socket is not None
    assert (one.socket.receive.limit, one.socket.generation) == (100, 3)
    assert problems == []


def test_a_socket_of_10_without_a_control_block() -> None:
    system = Old()
    system.process([system.socket(system.tcp)])
    connections, problems = find_connections(system.kernel())
    assert [(one.protocol, one.pcb, one.notes) for one in connections] == [
        ("tcp", 0, ("it has no control block; known by its descriptor",))
    ]
    assert [one.where for one in problems] == ["syncache"]


def test_queues_of_10() -> None:
    system = Old()
    listener = system.socket(system.tcp, so_options=SO_ACCEPTCONN, so_qlen=1, so_incqlen=1, so_qlimit=5)
    ready, held = (system.socket(system.tcp, so_head=listener) for _ in range(2))
    link_tailq(listener.so_comp, [ready], "so_list")
    link_tailq(listener.so_incomp, [held], "so_list")
    inpcbs = [
        system.connection(listener, (53, 0), LISTEN),
        system.connection(ready, (53, 1), ESTABLISHED),
        system.connection(held, (53, 2), ESTABLISHED),
    ]
    system.list_of_tcp(inpcbs)
    system.process([listener])
    connections, problems = system.found()
    shown = [connections[int(inpcb)] for inpcb in inpcbs]
    assert (str(shown[0].listening), shown[0].state, shown[0].received) == ("1/1/5", "LISTEN", 0)
    assert shown[1].notes == (f"waits to be accepted at socket {int(listener):#x}",)
    assert shown[2].notes == (f"held back by the accept filter of socket {int(listener):#x}",)
    assert problems == []


def test_time_wait_of_10() -> None:
    system = Old()
    inpcb = system.connection(0, (53, 4000), ESTABLISHED, INP_TIMEWAIT)
    short = system.new("struct tcptw", tw_inpcb=inpcb, iss=99, tw_cred=system.cred)
    inpcb.inp_ppcb = short
    system.list_of_tcp([inpcb])
    connections, _ = system.found()
    one = connections[int(inpcb)]
    assert one.tcp is not None
    assert (one.state, one.tcp.short, one.tcp.iss, one.tcp.address) == ("TIME_WAIT", True, 99, int(short))
    assert one.tcp.creator is not None
    assert (one.tcp.creator.uid, one.creator.uid, one.notes) == (53, 53, ("it has no socket",))


def test_a_tcptw_of_another_connection() -> None:
    system = Old()
    inpcb = system.connection(0, (53, 4000), ESTABLISHED, INP_TIMEWAIT)
    inpcb.inp_ppcb = short = system.new("struct tcptw", tw_inpcb=0x4242)
    system.list_of_tcp([inpcb])
    connections, _ = system.found()
    assert connections[int(inpcb)].notes == (f"tcptw {int(short):#x} belongs to inpcb 0x4242", "it has no socket")


def test_hashes_of_10() -> None:
    system = Old()
    info = system.infos["tcb"]
    listed, hashed = (system.connection(0, (53, port), ESTABLISHED, INP_INHASHLIST) for port in (1, 2))
    system.list_of_tcp([listed])
    heads, ports = system.new("struct list_head[4]"), system.new("struct list_head[4]")
    link_list(heads[3], [hashed], "inp_hash")
    port = system.new("struct inpcbport", phd_port=53)
    link_list(ports[1], [port], "phd_hash")
    link_list(port.phd_pcblist, [listed, hashed], "inp_portlist")
    info.ipi_hashbase, info.ipi_hashmask, info.ipi_porthashbase, info.ipi_porthashmask = heads, 3, ports, 3
    connections, _ = system.found()
    assert connections[int(listed)].notes == (
        "in no hash of connections, though flagged so (INP_INHASHLIST)",
        "it has no socket",
    )
    known = "the hash of connections and the hash of ports"
    assert connections[int(hashed)].notes == (
        f"hidden: not on the list of tcp, known by {known}",
        "it has no socket",
    )


def test_a_tcpcb_of_another_connection() -> None:
    system = Old()
    inpcb = system.connection(0, (53, 1), ESTABLISHED)
    other = system.connection(0, (53, 2), ESTABLISHED)
    inpcb.inp_ppcb = other.inp_ppcb
    system.list_of_tcp([inpcb, other])
    connections, _ = system.found()
    said = f"tcpcb {other.inp_ppcb:#x} belongs to inpcb {int(other):#x}"
    assert connections[int(inpcb)].notes == (said, "it has no socket")


def test_sockets_of_other_families() -> None:
    system = Old()
    route = system.socket(system.protocol(17, b"route", SOCK_RAW, 0), so_pcb=0x1230)
    unknown = system.socket(system.protocol(99, b"strange", SOCK_RAW, 0), so_pcb=0x4560)
    system.process([route, unknown])
    connections, problems = system.found()
    assert [(one.protocol, one.versions, one.local, one.notes) for one in connections.values()] == [
        ("route", "", Absent.NOT_APPLICABLE, ("of type raw",)),
        ("strange", "", Absent.NOT_APPLICABLE, ("of type raw",)),
    ]
    assert problems == []


def test_raw_sockets_of_protocols_without_a_name() -> None:
    system = Old()
    inpcb = system.new("struct inpcb", inp_vflag=1, inp_ip_p=200, inp_pcbinfo=system.infos["ripcb"])
    info = system.infos["ripcb"]
    link_list(Object(system, system.types.parse("struct list_head"), info.ipi_listhead), [inpcb], "inp_list")  # type: ignore[arg-type]
    info.ipi_count = 1
    connections, _ = system.found()
    one = connections[int(inpcb)]
    assert (one.shown_protocol(), one.notes) == ("raw4", ("IP protocol 200", "it has no socket"))


# Offload


def test_connections_of_a_network_card() -> None:
    system = Old()
    inpcb = system.connection(0, (53, 1), ESTABLISHED)
    Object(system, system.types.parse("struct tcpcb"), inpcb.inp_ppcb).t_flags = 0x200_0000  # type: ignore[arg-type]
    system.list_of_tcp([inpcb])
    connections, _ = system.found()
    assert connections[int(inpcb)].shown_protocol() == "toe4"


# Round trip times


@pytest.mark.parametrize(("granularity", "rtt", "variance"), [(1, 30.0, 5.0), (2, 0.03, 0.005)])
def test_round_trip_times_are_in_the_unit_of_the_stack(granularity: int, rtt: float, variance: float) -> None:
    """In ticks of a millisecond with 5 and 4 bits of fraction, or in microseconds: RACK."""
    more = {"tcpcb": {**TYPES["tcpcb"], "t_srtt": "int", "t_rttvar": "int", "t_tmr_granularity": "unsigned char"}}
    system = Old(more)
    system.variable("hz", "int", 1000)
    system.variable("ticks", "int", 5)
    inpcb = system.connection(0, (53, 1), ESTABLISHED)
    block = Object(system, system.types.parse("struct tcpcb"), inpcb.inp_ppcb)  # type: ignore[arg-type]
    block.t_srtt, block.t_rttvar, block.t_tmr_granularity = 30 << 5, 5 << 4, granularity
    system.list_of_tcp([inpcb])
    connections, _ = system.found()
    tcp = connections[int(inpcb)].tcp
    assert tcp is not None
    assert (tcp.rtt, tcp.rtt_variance) == (rtt, variance)


# Divert sockets since 14

DIVERT = {
    "divcb_link": {"sle_next": "void *"},
    "divcb": {
        "dcb_next": "struct divcb_link",
        "dcb_socket": "void *",
        "dcb_port": "unsigned short",
        "dcb_gencnt": "unsigned long",
    },
    "divert_head": {"slh_first": "void *"},
}


class Divert(Old):
    """A kernel with V_divhash; `dcb_bound` shares its place with `dcb_next`."""

    def __init__(self) -> None:
        super().__init__(DIVERT)
        fields = self.types.types.user_types["divcb"]["fields"]
        fields["dcb_bound"] = {"offset": 0, "type": self.types.parse("long")}
        self.divert = self.protocol(AF_DIVERT, b"divert", SOCK_RAW, 0)
        self.hash = self.variable("divhash", "struct divert_head[8]")

    def block(self, port: int) -> tuple[Object, Object]:
        socket = self.socket(self.divert)
        block = self.new("struct divcb", dcb_socket=socket, dcb_port=port.to_bytes(2, "big"))
        socket.so_pcb = block
        return block, socket


def test_divert_sockets_of_14() -> None:
    system = Divert()
    bound, socket = system.block(8668)
    link_slist(system.hash[4], [bound], "dcb_next")
    unbound, other = system.block(0)
    unbound["dcb_bound"] = -1
    hidden, third = system.block(8669)
    system.process([socket, other, third])
    connections, problems = system.found()
    assert problems == []
    lines = {key: (one.shown_protocol(), one.local_text(), one.foreign_text()) for key, one in connections.items()}
    assert lines == {
        int(bound): ("div4", "*:8668", "*:*"),
        int(unbound): ("div4", "*:*", "*:*"),
        int(hidden): ("div4", "*:8669", "*:*"),
    }
    assert connections[int(bound)].notes == ()
    assert connections[int(unbound)].notes == ()
    assert connections[int(hidden)].notes == ("hidden: bound, but not in divhash",)
    assert [connections[int(one)].holders[0].fd for one in (bound, unbound, hidden)] == [0, 2, 4]


def test_divert_sockets_without_types() -> None:
    """All that is certain then is the socket."""
    system = Old()
    socket = system.socket(system.protocol(AF_DIVERT, b"divert", SOCK_RAW, 0), so_pcb=0x1230)
    system.process([socket])
    connections, _ = system.found()
    assert [(one.shown_protocol(), one.local, one.notes) for one in connections.values()] == [
        ("div", Absent.NOT_APPLICABLE, ("of type raw",))
    ]


def test_a_chain_of_divert_sockets_that_loops() -> None:
    system = Divert()
    bound, _ = system.block(8668)
    link_slist(system.hash[4], [bound], "dcb_next")
    bound.dcb_next.sle_next = bound
    connections, problems = system.found()
    assert list(connections) == [int(bound)]
    assert [str(one) for one in problems] == [f"divhash: chain 4 loops back to {int(bound):#x} after 1 elements"]
    assert connections[int(bound)].notes == ("no process has a descriptor of it",)


# SCTP

SCTP = {
    "sctp_epinfo": {"listhead": "struct list_head"},
    "sctp_base_info": {"sctppcbinfo": "struct sctp_epinfo"},
    "sctp_inpcb": {
        "ip_inp": "struct inpcb",
        "sctp_list": "struct link",
        "sctp_addr_list": "struct list_head",
        "sctp_flags": "unsigned int",
        "sctp_asoc_list": "struct list_head",
    },
    "sctp_ifa": {"next_ifa": "struct link", "address": "unsigned char[28]"},
    "sctp_laddr": {"sctp_nxt_addr": "struct link", "ifa": "struct sctp_ifa *"},
    "sctp_association": {"state": "int", "nets": "struct tailq_head"},
    "sctp_tcb": {"sctp_tcblist": "struct link", "asoc": "struct sctp_association", "rport": "unsigned short"},
    "sctp_net_route": {"ro_nh": "void *", "_l_addr": "unsigned char[28]"},
    "sctp_nets": {"sctp_next": "struct tail_link", "ro": "struct sctp_net_route"},
}


def sockaddr_in(*address: int) -> bytes:
    return bytes([16, AF_INET, 0, 0, *address]).ljust(28, b"\0")


class Sctp(Old):
    """A server with one association."""

    def __init__(self) -> None:
        super().__init__(SCTP)
        self.base = self.variable("system_base_info", "struct sctp_base_info")
        protocol = self.protocol(AF_INET, b"internet", SOCK_STREAM, 132)
        self.server = self.socket(protocol)
        self.endpoint = self.new(
            "struct sctp_inpcb",
            sctp_flags=8,
            ip_inp__inp_vflag=1,
            ip_inp__inp_socket=self.server,
            ip_inp__inp_cred=self.cred,
            ip_inp__inp_inc__inc_ie__ie_lport=(2905).to_bytes(2, "big"),
        )
        self.server.so_pcb = self.endpoint
        link_list(self.base.sctppcbinfo.listhead, [self.endpoint], "sctp_list")
        self.process([self.server])

    def associate(self, state: int, *peers: bytes) -> Object:
        block = self.new("struct sctp_tcb", asoc__state=state, rport=(36412).to_bytes(2, "big"))
        nets = [self.new("struct sctp_nets", ro___l_addr=peer) for peer in peers]
        link_tailq(block.asoc.nets, nets, "sctp_next")
        link_list(self.endpoint.sctp_asoc_list, [block], "sctp_tcblist")
        return block


def test_sctp_endpoints_and_associations() -> None:
    system = Sctp()
    ifas = [system.new("struct sctp_ifa", address=sockaddr_in(192, 0, 2, last)) for last in (1, 9)]
    laddrs = [system.new("struct sctp_laddr", ifa=ifa) for ifa in ifas]
    link_list(system.endpoint.sctp_addr_list, laddrs, "sctp_nxt_addr")
    block = system.associate(0x8, sockaddr_in(198, 51, 100, 1), sockaddr_in(198, 51, 100, 2))
    connections, problems = system.found()
    assert problems == []
    lines = {
        key: (one.shown_protocol(), one.local_text(), one.foreign_text(), one.state) for key, one in connections.items()
    }
    assert lines == {
        int(system.endpoint): ("sctp4", "192.0.2.1,192.0.2.9:2905", "*:*", "LISTEN"),
        int(block): ("sctp4", "192.0.2.1,192.0.2.9:2905", "198.51.100.1,198.51.100.2:36412", "ESTABLISHED"),
    }
    assert [(one.holders[0].pid, one.creator.uid, one.notes) for one in connections.values()] == [(42, 53, ())] * 2


@pytest.mark.parametrize(
    ("flags", "state"),
    [(0, "CLOSED"), (2, "COOKIE_WAIT"), (0x88, "SHUTDOWN_PENDING"), (0x10, "SHUTDOWN_SENT"), (0x1008, "ESTABLISHED")],
)
def test_states_of_sctp(flags: int, state: str) -> None:
    system = Sctp()
    block = system.associate(flags)
    connections, _ = system.found()
    assert connections[int(block)].state == state
    assert connections[int(block)].local_text() == "*:2905"


def test_sctp_that_is_damaged() -> None:
    system = Sctp()
    block = system.associate(0x8)
    block.sctp_tcblist.le_next = block
    system.endpoint.sctp_list.le_next = 0x1000
    connections, problems = system.found()
    assert set(connections) == {int(system.endpoint), int(block), 0x1000} - {0x1000}
    texts = sorted(str(one) for one in problems)
    at = 0x1000 + system.types.offsetof("sctp_inpcb", "sctp_flags")
    link = 0x1000 + system.types.offsetof("sctp_inpcb", "sctp_list")
    bound = 0x1000 + system.types.offsetof("sctp_inpcb", "sctp_addr_list")
    assert texts == sorted(
        [
            f"sctp: endpoint 0x1000: address {at:#x} is not mapped",
            f"sctp_inpcb of sctp: ends after 2 elements where address {link:#x} is not mapped",
            f"sctp_laddr of sctp: ends after 0 elements where address {bound:#x} is not mapped",
            f"sctp_tcb of sctp: loops back to {int(block):#x} after 1 elements",
        ]
    )


def test_sctp_without_types() -> None:
    system = Old()
    system.variable("system_base_info", "long")
    _, problems = system.found()
    text = "the types of this kernel have no member sctppcbinfo.listhead in struct sctp_base_info"
    assert [str(one) for one in problems] == [f"sctp: {text}"]


def test_peers_of_sctp_are_bounded() -> None:
    system = Sctp()
    block = system.associate(0x8, sockaddr_in(198, 51, 100, 1))
    first = Object(system, system.types.parse("struct sctp_nets"), block.asoc.nets.tqh_first)  # type: ignore[arg-type]
    first.sctp_next.tqe_next = first
    connections, problems = system.found()
    assert connections[int(block)].foreign_text() == "198.51.100.1:36412"
    assert [str(one) for one in problems] == [f"sctp_nets of sctp: loops back to {int(first):#x} after 1 elements"]
    assert MAX_ADDRESSES == 1024
