"""Sockets and their control blocks, read back from the minidump."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.scenario.model import Socket
from tests.scenario.network_shapes import jenkins_hash32
from tests.scenario.system import SYSTEM
from tests.scenario_checks.network_reader import NetworkReader, address_text, network

SOCKETS = {item.key: item for item in SYSTEM.sockets}
INTERNET = [item for item in SYSTEM.sockets if item.family != "unix"]
UNIX = [item for item in SYSTEM.sockets if item.family == "unix"]
DATABASES = {"tcp": "tcbinfo", "udp": "udbinfo", "raw": "ripcbinfo"}
STATES = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "CLOSING", "LAST_ACK")
STATES += ("FIN_WAIT_2", "TIME_WAIT")
INP_TIMEWAIT = 0x0100_0000
SO_ACCEPTCONN = 2
SOCKET_TYPES = {"tcp": 1, "stream": 1, "udp": 2, "dgram": 2, "raw": 3, "seqpacket": 5}
FAMILIES = {"unix": 1, "inet": 2, "inet6": 28}
HZ = 1000


class Connection(NamedTuple):
    """What netstat -an would show."""

    vnet: int
    protocol: str
    family: str
    state: str
    local: tuple[str, int]
    foreign: tuple[str, int]


def described(item: Socket) -> Connection:
    unspecified = "::" if item.family == "inet6" else "0.0.0.0"
    ends = [
        (address or unspecified, 0 if item.protocol == "raw" else port) for address, port in (item.local, item.foreign)
    ]
    return Connection(item.vnet, item.protocol, item.family, item.state, ends[0], ends[1])


BY_CONNECTION = {described(item): item for item in INTERNET}


@pytest.fixture(scope="module")
def reader(kernel: str) -> NetworkReader:
    return network(kernel)


# Walking


def databases(reader: NetworkReader) -> Iterator[tuple[int, str, int]]:
    """Vnet, protocol and address of every inpcbinfo."""
    for jid in reader.vnets:
        for protocol, name in DATABASES.items():
            yield jid, protocol, reader.vnet_symbol(jid, name)


def inpcbs(reader: NetworkReader, info: int) -> list[int]:
    head = reader.at(info, "inpcbinfo", "ipi_listhead")
    if reader.kind("inpcbinfo", "ipi_listhead") == "pointer":
        head = reader.pointer(head)
    return list(reader.list(head, "inpcb", "inp_list"))


def everything(reader: NetworkReader) -> Iterator[tuple[Connection, int]]:
    for jid, protocol, info in databases(reader):
        for inpcb in inpcbs(reader, info):
            assert reader.field(inpcb, "inpcb", "inp_pcbinfo") == info
            yield connection(reader, jid, protocol, inpcb), inpcb


def endpoints(reader: NetworkReader, va: int, name: str, v6: bool) -> tuple[tuple[str, int], tuple[str, int]]:
    found = []
    for which in "lf":
        data = reader.data(va, name, f"inc_ie.ie_depend{which}addr")
        assert v6 or data[:12] == bytes(12)
        found.append((address_text(data if v6 else data[12:]), reader.port(va, name, f"inc_ie.ie_{which}port")))
    return found[0], found[1]


def connection(reader: NetworkReader, jid: int, protocol: str, inpcb: int) -> Connection:
    v6 = bool(reader.field(inpcb, "inpcb", "inp_vflag") & 2)
    local, foreign = endpoints(reader, reader.at(inpcb, "inpcb", "inp_inc"), "in_conninfo", v6)
    state = tcp_state(reader, inpcb) if protocol == "tcp" else ""
    return Connection(jid, protocol, "inet6" if v6 else "inet", state, local, foreign)


def tcp_state(reader: NetworkReader, inpcb: int) -> str:
    block = tcpcb(reader, inpcb)
    if block is None:
        short = reader.field(inpcb, "inpcb", "inp_ppcb")
        assert reader.field(short, "tcptw", "tw_inpcb") == inpcb
        return "TIME_WAIT"
    return STATES[reader.bits(block, "tcpcb", "t_state")]


def tcpcb(reader: NetworkReader, inpcb: int) -> int | None:
    """The TCP control block; none when there is a `struct tcptw`."""
    if reader.kind("tcpcb", "t_inpcb") == "struct":
        return inpcb - reader.at(0, "tcpcb", "t_inpcb")
    if reader.field(inpcb, "inpcb", "inp_flags") & INP_TIMEWAIT:
        return None
    block = reader.field(inpcb, "inpcb", "inp_ppcb")
    assert reader.field(block, "tcpcb", "t_inpcb") == inpcb
    return block


def in_syncache(item: Socket) -> bool:
    return item.state == "SYN_RCVD"


# Internet


def test_lists_hold_every_socket(reader: NetworkReader) -> None:
    found = [entry for entry, _ in everything(reader)]
    assert len(set(found)) == len(found)
    assert set(found) == {described(item) for item in INTERNET if not in_syncache(item)}


def test_counts_and_generations(reader: NetworkReader) -> None:
    for _, _, info in databases(reader):
        members = inpcbs(reader, info)
        assert reader.field(info, "inpcbinfo", "ipi_count") == len(members)
        generations = [reader.field(inpcb, "inpcb", "inp_gencnt") for inpcb in members]
        assert generations == sorted(set(generations), reverse=True)
        assert not generations or reader.field(info, "inpcbinfo", "ipi_gencnt") >= generations[0]
    for jid, _, info in databases(reader):
        assert reader.field(info, "inpcbinfo", "ipi_vnet") == reader.vnets[jid]


def hashed(reader: NetworkReader, info: int) -> Iterator[tuple[int, str, int]]:
    """``(chain, table, inpcb)`` of the tables by connection."""
    mask = reader.field(info, "inpcbinfo", "ipi_hashmask")
    tables = {"ipi_hash_exact": "inp_hash_exact", "ipi_hash_wild": "inp_hash_wild", "ipi_hashbase": "inp_hash"}
    for member, link in tables.items():
        if reader.has("inpcbinfo", member):
            table = reader.field(info, "inpcbinfo", member)
            for chain, inpcb in reader.chains(table, mask, reader.word, "inpcb", link):
                yield chain, member, inpcb


def expected_chain(reader: NetworkReader, jid: int, inpcb: int, entry: Connection) -> int:
    foreign = reader.data(inpcb, "inpcb", "inp_inc.inc_ie.ie_dependfaddr")
    words = reader.words(foreign if entry.family == "inet6" else foreign[12:])
    ports = entry.local[1] ^ entry.foreign[1]
    if entry.protocol == "raw":
        return 0
    if reader.has("inpcbinfo", "ipi_hash_exact"):
        seed = reader.vnet_variable(jid, "in_pcbhashseed")
        return (jenkins_hash32(words, seed) if any(words) else seed) ^ ports
    return words[-1] ^ words[-1] >> 16 ^ ports


def test_hashes_lead_to_every_socket(reader: NetworkReader) -> None:
    for jid, protocol, info in databases(reader):
        mask = reader.field(info, "inpcbinfo", "ipi_hashmask")
        seen = set()
        for chain, table, inpcb in hashed(reader, info):
            entry = connection(reader, jid, protocol, inpcb)
            assert chain == expected_chain(reader, jid, inpcb, entry) & mask
            if protocol != "raw" and table != "ipi_hashbase":
                assert (table == "ipi_hash_exact") == bool(entry.foreign[1])
            assert inpcb not in seen
            seen.add(inpcb)
        assert seen == set(inpcbs(reader, info))


def test_port_hashes_lead_to_every_socket(reader: NetworkReader) -> None:
    for jid, protocol, info in databases(reader):
        table, mask = (reader.field(info, "inpcbinfo", f"ipi_porthash{name}") for name in ("base", "mask"))
        seen = []
        if reader.has("inpcb", "inp_phd"):
            for chain, entry in reader.chains(table, mask, reader.word, "inpcbport", "phd_hash"):
                port = reader.port(entry, "inpcbport", "phd_port")
                for inpcb in reader.list(reader.at(entry, "inpcbport", "phd_pcblist"), "inpcb", "inp_portlist"):
                    assert reader.field(inpcb, "inpcb", "inp_phd") == entry
                    assert connection(reader, jid, protocol, inpcb).local[1] == port
                    assert port & mask == chain
                    seen.append(inpcb)
        else:
            for chain, inpcb in reader.chains(table, mask, reader.word, "inpcb", "inp_portlist"):
                assert connection(reader, jid, protocol, inpcb).local[1] & mask == chain
                seen.append(inpcb)
        assert sorted(seen) == (sorted(inpcbs(reader, info)) if protocol != "raw" else [])


def test_half_open_connections_are_in_the_syncache(reader: NetworkReader) -> None:
    found = []
    for jid in reader.vnets:
        cache = reader.vnet_symbol(jid, "tcp_syncache")
        table = reader.field(cache, "tcp_syncache", "hashbase")
        size = reader.sizeof("syncache_head")
        for bucket in range(reader.field(cache, "tcp_syncache", "hashsize")):
            head = table + bucket * size
            assert reader.field(head, "syncache_head", "sch_sc") == cache
            entries = list(reader.tailq(reader.at(head, "syncache_head", "sch_bucket"), "syncache", "sc_hash"))
            assert reader.field(head, "syncache_head", "sch_length") == len(entries)
            for entry in entries:
                conninfo = reader.at(entry, "syncache", "sc_inc")
                words = reader.words(reader.read(reader.at(conninfo, "in_conninfo", "inc_ie"), 20))
                secret = reader.field(cache, "tcp_syncache", "hash_secret")
                assert jenkins_hash32(words, secret) & reader.field(cache, "tcp_syncache", "hashmask") == bucket
                v6 = bool(reader.field(conninfo, "in_conninfo", "inc_flags") & 1)
                ends = endpoints(reader, conninfo, "in_conninfo", v6)
                found.append(Connection(jid, "tcp", "inet6" if v6 else "inet", "SYN_RCVD", *ends))
    assert sorted(found) == sorted(described(item) for item in INTERNET if in_syncache(item))


def test_time_wait_queue(reader: NetworkReader) -> None:
    if not reader.has_vnet_symbol("twq_2msl"):
        # 14: those connections have a tcpcb like others.
        assert not reader.types.has("tcptw")
        return
    for jid in reader.vnets:
        queue = list(reader.tailq(reader.vnet_symbol(jid, "twq_2msl"), "tcptw", "tw_2msl"))
        assert len(queue) == sum((item.vnet, item.state) == (jid, "TIME_WAIT") for item in INTERNET)
        for short in queue:
            assert reader.field(reader.field(short, "tcptw", "tw_inpcb"), "inpcb", "inp_ppcb") == short


def test_times_tell_how_long_connections_are_idle(reader: NetworkReader) -> None:
    # In 15 the symbol names the low half of another variable, and has no type.
    now = reader.unsigned(reader.symbol("ticks"), 4)
    for entry, inpcb in everything(reader):
        block = tcpcb(reader, inpcb) if entry.protocol == "tcp" else None
        if block is None or entry.state == "LISTEN":
            continue
        idle = (now - reader.field(block, "tcpcb", "t_rcvtime")) % (1 << 32) // HZ
        assert idle == BY_CONNECTION[entry].idle


def test_both_families_can_share_a_listener(reader: NetworkReader) -> None:
    for entry, inpcb in everything(reader):
        item = BY_CONNECTION[entry]
        assert reader.field(inpcb, "inpcb", "inp_vflag") & 3 == (3 if item.dual else 2 if item.family == "inet6" else 1)


def test_link_local_addresses_have_their_zone_inside(reader: NetworkReader) -> None:
    inpcb = next(inpcb for entry, inpcb in everything(reader) if entry.local[0] == "fe80::1")
    assert reader.data(inpcb, "inpcb", "inp_inc.inc_ie.ie_dependladdr")[:4] == bytes([0xFE, 0x80, 0, 1])


# Sockets


def sockets(reader: NetworkReader) -> dict[str, int]:
    """Every socket that something leads to, by key."""
    found = {}
    for entry, inpcb in everything(reader):
        socket = reader.field(inpcb, "inpcb", "inp_socket")
        if socket:
            assert reader.field(socket, "socket", "so_pcb") == inpcb
            found[BY_CONNECTION[entry].key] = socket
    for key, unpcb in unix(reader).items():
        found[key] = reader.field(unpcb, "unpcb", "unp_socket")
        assert reader.field(found[key], "socket", "so_pcb") == unpcb
    return found


def test_only_time_wait_may_have_lost_its_socket(reader: NetworkReader) -> None:
    missing = {item.key for item in SYSTEM.sockets} - set(sockets(reader))
    expected = {item.key for item in INTERNET if in_syncache(item)}
    if reader.has_vnet_symbol("twq_2msl"):
        expected |= {item.key for item in INTERNET if item.state == "TIME_WAIT"}
    assert missing == expected


def test_sockets_have_type_protocol_vnet_and_owner(reader: NetworkReader) -> None:
    for key, socket in sockets(reader).items():
        item = SOCKETS[key]
        assert reader.field(socket, "socket", "so_type") == SOCKET_TYPES[item.protocol]
        protosw = reader.field(socket, "socket", "so_proto")
        assert reader.field(protosw, "protosw", "pr_type") == SOCKET_TYPES[item.protocol]
        domain = reader.field(protosw, "protosw", "pr_domain")
        assert reader.field(domain, "domain", "dom_family") == FAMILIES[item.family]
        assert reader.field(socket, "socket", "so_vnet") == reader.vnets[item.vnet]
        owner = SOCKETS[item.listener].owner if item.listener else item.owner
        assert reader.field(reader.field(socket, "socket", "so_cred"), "ucred", "cr_uid") == owner
        for name, bit in (("SO_ACCEPTCONN", 2), ("SO_REUSEADDR", 4), ("SO_KEEPALIVE", 8)):
            assert bool(reader.field(socket, "socket", "so_options") & bit) == (name in item.options)


def test_generations_tell_the_order_of_creation(reader: NetworkReader) -> None:
    found = sockets(reader)
    order = sorted(found, key=lambda key: reader.field(found[key], "socket", "so_gencnt"))
    assert order == [item.key for item in SYSTEM.sockets if item.key in found]
    assert reader.variable("so_gencnt") == len(found)


def test_vnets_count_their_sockets(reader: NetworkReader) -> None:
    found = sockets(reader)
    for jid, vnet in reader.vnets.items():
        assert reader.field(vnet, "vnet", "vnet_sockcnt") == sum(SOCKETS[key].vnet == jid for key in found)


def test_listeners_have_queues(reader: NetworkReader) -> None:
    found = sockets(reader)
    listeners = [item for item in SYSTEM.sockets if "SO_ACCEPTCONN" in item.options]
    for item in listeners:
        socket = found[item.key]
        numbers = tuple(reader.field(socket, "socket", name) for name in ("sol_qlimit", "sol_incqlen", "sol_qlen"))
        assert numbers == item.backlog
        for head, queue, state in (("sol_incomp", "incomplete", 0x800), ("sol_comp", "complete", 0x1000)):
            waiting = list(reader.tailq(reader.at(socket, "socket", head), "socket", "so_list"))
            keys = [other.key for other in SYSTEM.sockets if (other.listener, other.queue) == (item.key, queue)]
            assert waiting == [found[key] for key in keys]
            for other in waiting:
                assert reader.field(other, "socket", "so_listen") == socket
                assert reader.field(other, "socket", "so_qstate") == state


# What waits in buffers


def mbuf_bytes(reader: NetworkReader, first: int, next_record: str = "m_nextpkt") -> bytes:
    data = b""
    while first:
        mbuf = first
        while mbuf:
            length = reader.field(mbuf, "mbuf", "m_len")
            data += reader.read(reader.field(mbuf, "mbuf", "m_data"), length)
            mbuf = reader.field(mbuf, "mbuf", "m_next")
        first = reader.field(first, "mbuf", next_record)
    return data


def waiting(reader: NetworkReader, item: Socket, socket: int, which: str) -> bytes:
    buffer = reader.at(socket, "socket", which)
    if item.protocol == "dgram" and reader.has("sockbuf", "uxdg_mb"):
        own = reader.at(buffer, "sockbuf", "uxdg_mb")
        data = mbuf_bytes(reader, reader.pointer(own))
        if which == "so_snd":
            return b""
        peers = reader.at(buffer, "sockbuf", "uxdg_conns")
        for peer in reader.tailq(peers, "sockbuf", "uxdg_clist"):
            data += mbuf_bytes(reader, reader.pointer(reader.at(peer, "sockbuf", "uxdg_mb")))
        return data
    if item.family == "unix" and item.protocol != "dgram" and reader.has("sockbuf", "uxst_mbq"):
        return mbuf_bytes(reader, reader.pointer(reader.at(buffer, "sockbuf", "uxst_mbq")))
    return mbuf_bytes(reader, reader.field(buffer, "sockbuf", "sb_mb"))


def test_buffers_hold_what_is_counted(reader: NetworkReader) -> None:
    for key, socket in sockets(reader).items():
        item = SOCKETS[key]
        if "SO_ACCEPTCONN" in item.options:
            continue
        for which, size in (("so_rcv", item.receive_queue), ("so_snd", item.send_queue)):
            buffer = reader.at(socket, "socket", which)
            assert reader.field(buffer, "sockbuf", "sb_acc") == reader.field(buffer, "sockbuf", "sb_ccc") == size
            data = waiting(reader, item, socket, which)
            assert len(data) == size
            assert not size or f"<{key}>".encode()[: size - 16 if size > 16 else size] in data


# Unix


def unix(reader: NetworkReader) -> dict[str, int]:
    """Control blocks of unix sockets by key; the lists of 12 and later are those of `unpcb.unp_link`."""
    found = {}
    for protocol, name in (("stream", "unp_shead"), ("dgram", "unp_dhead"), ("seqpacket", "unp_sphead")):
        listed = list(reader.list(reader.symbol(name), "unpcb", "unp_link"))
        keys = [item.key for item in UNIX if item.protocol == protocol][::-1]
        assert len(listed) == len(keys)
        found.update(zip(keys, listed, strict=True))
    return found


def test_unix_sockets_have_generations(reader: NetworkReader) -> None:
    found = unix(reader)
    generations = [reader.field(found[item.key], "unpcb", "unp_gencnt") for item in UNIX]
    assert generations == sorted(generations)
    assert reader.variable("unp_count") == len(UNIX)


def test_unix_addresses_are_as_long_as_they_say(reader: NetworkReader) -> None:
    for key, unpcb in unix(reader).items():
        address = reader.field(unpcb, "unpcb", "unp_addr")
        if not SOCKETS[key].local[0]:
            assert address == 0
            continue
        family, data = reader.sockaddr(address)
        assert (family, data[2:].decode()) == (1, SOCKETS[key].local[0])
        assert reader.read(address + len(data), 1) != b"\0"


def test_unix_peers(reader: NetworkReader) -> None:
    found = unix(reader)
    for key, unpcb in found.items():
        item = SOCKETS[key]
        assert reader.field(unpcb, "unpcb", "unp_conn") == found.get(item.peer, 0)
        referring = list(reader.list(reader.at(unpcb, "unpcb", "unp_refs"), "unpcb", "unp_reflink"))
        assert referring == [found[other.key] for other in UNIX if other.protocol == "dgram" and other.peer == key]
        if item.peer and item.protocol == "stream":
            assert reader.field(unpcb, "unpcb", "unp_flags") & 1
            assert reader.field(unpcb, "unpcb", "unp_peercred.cr_uid") == SOCKETS[item.peer].owner


def test_a_bound_unix_socket_has_its_vnode(reader: NetworkReader) -> None:
    unpcb = unix(reader)["log"]
    vnode = reader.field(unpcb, "unpcb", "unp_vnode")
    assert reader.field(vnode, "vnode", "v_unpcb") == unpcb


# Protocols


def test_domains_lead_to_protocols(reader: NetworkReader) -> None:
    head = reader.symbol("domains")
    domains = list(reader.slist(head, "domain", "dom_next"))
    found = {}
    for domain in domains:
        name = reader.string_field(domain, "domain", "dom_name")
        found[name] = {reader.field(protosw, "protosw", "pr_protocol") for protosw in protocols(reader, domain)}
    assert list(found) == ["local", "internet6", "internet"]
    assert found["internet"] >= {6, 17, 0}
    assert found["internet6"] >= {6, 17, 0}


def protocols(reader: NetworkReader, domain: int) -> list[int]:
    if reader.has("domain", "dom_nprotosw"):
        first = reader.at(domain, "domain", "dom_protosw")
        count = reader.field(domain, "domain", "dom_nprotosw")
        found = [reader.pointer(first + number * reader.word) for number in range(count)]
    else:
        start, end = (reader.field(domain, "domain", f"dom_protosw{name}") for name in ("", "NPROTOSW"))
        found = list(range(start, end, reader.sizeof("protosw")))
    assert all(reader.field(item, "protosw", "pr_domain") == domain for item in found)
    return found


def test_the_hash_is_the_published_one() -> None:
    """A vector of lookup3.c: 30 bytes, which as padded words differ in the length only."""
    text = b"Four score and seven years ago\0\0"
    words = [int.from_bytes(text[at : at + 4], "little") for at in range(0, 32, 4)]
    assert jenkins_hash32(words, -2) == 0x17770551
