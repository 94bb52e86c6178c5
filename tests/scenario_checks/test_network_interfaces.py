"""Interfaces, addresses, neighbours and packet filters, read back from the minidump."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from tests.scenario.model import Interface, Neighbor
from tests.scenario.system import SYSTEM
from tests.scenario_checks.network_reader import AF_INET, AF_INET6, AF_LINK, NetworkReader, address_text, network

BY_NAME = {(item.vnet, item.name): item for item in SYSTEM.interfaces}
FLAGS = {"IFF_UP": 0x1, "IFF_BROADCAST": 0x2, "IFF_LOOPBACK": 0x8, "IFF_PROMISC": 0x100, "IFF_SIMPLEX": 0x800}
FLAGS |= {"IFF_MULTICAST": 0x8000}
IFF_DRV_RUNNING = 0x40
COUNTERS = ("ipackets", "ierrors", "opackets", "oerrors", "collisions", "ibytes", "obytes", "imcasts", "omcasts")
COUNTERS += ("iqdrops", "oqdrops", "noproto")
TYPES = {"ether": 6, "loop": 24}
LLE_STATIC, LLE_IFADDR, LLE_VALID = 0x2, 0x4, 0x8
BPF_RET = 0x06
FNV_START, FNV_PRIME = 33554467, 0x01000193


@pytest.fixture(scope="module")
def reader(kernel: str) -> NetworkReader:
    return network(kernel)


# Walking


def interfaces(reader: NetworkReader) -> dict[tuple[int, str], int]:
    """Every interface by vnet and name, from the lists, in their order."""
    return {
        (jid, reader.text(ifnet, "ifnet", "if_xname")): ifnet
        for jid in sorted(reader.vnets)
        for ifnet in reader.stailq(reader.vnet_symbol(jid, "ifnet"), "ifnet", "if_link")
    }


def addresses(reader: NetworkReader, ifnet: int) -> list[int]:
    return list(reader.stailq(reader.at(ifnet, "ifnet", "if_addrhead"), "ifaddr", "ifa_link"))


def index_of(reader: NetworkReader, item: Interface) -> int:
    own = reader.has_vnet_symbol("ifindex_table")
    return item.index if own else item.global_index or item.index


# Interfaces


def test_lists_hold_every_interface(reader: NetworkReader) -> None:
    assert list(interfaces(reader)) == sorted(BY_NAME, key=lambda key: (key[0], BY_NAME[key].index))


def test_interfaces_have_identity_flags_and_vnets(reader: NetworkReader) -> None:
    for key, ifnet in interfaces(reader).items():
        item = BY_NAME[key]
        name = reader.string_field(ifnet, "ifnet", "if_dname") + str(reader.field(ifnet, "ifnet", "if_dunit"))
        assert item.name.startswith(name)
        assert reader.field(ifnet, "ifnet", "if_type") == TYPES[item.kind]
        assert reader.field(ifnet, "ifnet", "if_mtu") == item.mtu
        assert reader.field(ifnet, "ifnet", "if_flags") == sum(FLAGS[flag] for flag in item.flags if flag in FLAGS)
        running = "IFF_DRV_RUNNING" in item.flags
        assert reader.field(ifnet, "ifnet", "if_drv_flags") == (IFF_DRV_RUNNING if running else 0)
        assert reader.field(ifnet, "ifnet", "if_pcount") == item.promiscuous
        assert reader.field(ifnet, "ifnet", "if_vnet") == reader.vnets[item.vnet]
        home = item.vnet if item.home is None else item.home
        assert reader.field(ifnet, "ifnet", "if_home_vnet") == reader.vnets[home]
        description = reader.field(ifnet, "ifnet", "if_description")
        assert (reader.string(description) if description else "") == item.description


def test_index_tables_agree_with_interfaces(reader: NetworkReader) -> None:
    found = interfaces(reader)
    size = reader.sizeof("ifindex_entry")
    for key, ifnet in found.items():
        index = reader.field(ifnet, "ifnet", "if_index")
        assert index == index_of(reader, BY_NAME[key])
        own = reader.has_vnet_symbol("ifindex_table")
        table = reader.vnet_variable(key[0], "ifindex_table") if own else reader.variable("ifindex_table")
        highest = reader.vnet_variable(key[0], "if_index") if own else reader.variable("if_index")
        assert reader.field(table + index * size, "ifindex_entry", "ife_ifnet") == ifnet
        assert index <= highest
        if not own:
            generation = reader.field(table + index * size, "ifindex_entry", "ife_gencnt")
            assert generation == reader.field(ifnet, "ifnet", "if_idxgen")
    if reader.has_vnet_symbol("ifindex_table"):
        return
    indexes = [reader.field(ifnet, "ifnet", "if_index") for ifnet in found.values()]
    assert len(set(indexes)) == len(indexes)


def test_counters_add_up(reader: NetworkReader) -> None:
    for key, ifnet in interfaces(reader).items():
        place = reader.at(ifnet, "ifnet", "if_counters")
        values = {name: reader.counter(reader.pointer(place + at * reader.word)) for at, name in enumerate(COUNTERS)}
        assert {name: value for name, value in values.items() if value} == BY_NAME[key].counters


def test_groups_know_members_and_interfaces_groups(reader: NetworkReader) -> None:
    found = interfaces(reader)
    for jid in reader.vnets:
        members: dict[str, set[int]] = {}
        for group in reader.stailq(reader.vnet_symbol(jid, "ifg_head"), "ifg_group", "ifg_next"):
            head = reader.at(group, "ifg_group", "ifg_members")
            listed = [
                reader.field(entry, "ifg_member", "ifgm_ifp")
                for entry in reader.stailq(head, "ifg_member", "ifgm_next")
            ]
            assert reader.field(group, "ifg_group", "ifg_refcnt") == len(listed)
            members[reader.text(group, "ifg_group", "ifg_group")] = set(listed)
        for (vnet, name), ifnet in found.items():
            if vnet != jid:
                continue
            entries = reader.stailq(reader.at(ifnet, "ifnet", "if_groups"), "ifg_list", "ifgl_next")
            groups = [reader.field(entry, "ifg_list", "ifgl_group") for entry in entries]
            names = tuple(reader.text(group, "ifg_group", "ifg_group") for group in groups)
            assert names == BY_NAME[vnet, name].groups
            assert all(ifnet in members[group] for group in names)


def test_each_vnet_has_its_loopback(reader: NetworkReader) -> None:
    for jid in reader.vnets:
        assert reader.vnet_variable(jid, "loif") == interfaces(reader)[jid, "lo0"]


# Addresses


def test_link_addresses_come_first(reader: NetworkReader) -> None:
    for key, ifnet in interfaces(reader).items():
        item = BY_NAME[key]
        first = addresses(reader, ifnet)[0]
        assert first == reader.field(ifnet, "ifnet", "if_addr")
        family, data = reader.sockaddr(reader.field(first, "ifaddr", "ifa_addr"))
        name_length, address_length = data[5], data[6]
        assert family == AF_LINK
        assert data[8 : 8 + name_length].decode() == item.name
        assert data[8 + name_length :][:address_length] == bytes.fromhex(item.link_address.replace(":", ""))
        assert int.from_bytes(data[2:4], reader.order) == reader.field(ifnet, "ifnet", "if_index")
        if address_length:
            copy = reader.read(reader.field(ifnet, "ifnet", "if_hw_addr"), 6)
            assert copy == data[8 + name_length :][:6]


def test_addresses_follow_in_order(reader: NetworkReader) -> None:
    for key, ifnet in interfaces(reader).items():
        found = []
        for ifaddr in addresses(reader, ifnet)[1:]:
            assert reader.field(ifaddr, "ifaddr", "ifa_ifp") == ifnet
            own = reader.field(ifaddr, "ifaddr", "ifa_addr")
            family, _ = reader.sockaddr(own)
            mask = reader.field(ifaddr, "ifaddr", "ifa_netmask")
            found.append((family, reader.inet_address(own), prefix_length(reader, mask, family)))
        families = {"inet": AF_INET, "inet6": AF_INET6}
        wanted = [(families[item.family], item.address, item.prefix) for item in BY_NAME[key].addresses]
        assert found == wanted


def prefix_length(reader: NetworkReader, mask: int, family: int) -> int:
    """Only as many bytes of a mask count as it says it has."""
    _, data = reader.sockaddr(mask)
    bits = "".join(f"{byte:08b}" for byte in data[4 if family == AF_INET else 8 :])
    return len(bits[: 32 if family == AF_INET else 128].rstrip("0"))


def test_broadcast_addresses(reader: NetworkReader) -> None:
    for key, ifnet in interfaces(reader).items():
        inet = [item for item in BY_NAME[key].addresses if item.family == "inet"]
        found = [
            item
            for item in addresses(reader, ifnet)
            if reader.sockaddr(reader.field(item, "ifaddr", "ifa_addr"))[0] == 2
        ]
        for item, ifaddr in zip(inet, found, strict=True):
            peer = reader.field(ifaddr, "ifaddr", "ifa_dstaddr")
            assert (reader.inet_address(peer) if reader.read(peer, 1) != b"\0" else "") == item.peer


def fnv(data: bytes) -> int:
    value = FNV_START
    for byte in data:
        value = (value * FNV_PRIME % (1 << 32)) ^ byte
    return value


def test_lists_and_hashes_of_addresses_agree(reader: NetworkReader) -> None:
    for jid in reader.vnets:
        for family, name, link in (("in", "in_ifaddr", "ia_hash"), ("in6", "in6_ifaddr", "ia6_hash")):
            listed = list(reader.stailq(reader.vnet_symbol(jid, f"{family}_ifaddrhead"), name, "ia_link"))
            table = reader.vnet_variable(jid, f"{family}_ifaddrhashtbl")
            mask = reader.vnet_variable(jid, f"{family}_ifaddrhmask")
            hashed = []
            for chain, ifaddr in reader.chains(table, mask, reader.word, name, link):
                data = reader.data(ifaddr, name, "ia_addr")
                address = data[4:8] if family == "in" else data[8:24]
                folded = bytes(4)
                for at in range(0, len(address), 4):
                    folded = bytes(one ^ two for one, two in zip(folded, address[at : at + 4], strict=True))
                assert fnv(folded) & mask == chain
                hashed.append(ifaddr)
            assert sorted(hashed) == sorted(listed)
            wanted = "inet" if family == "in" else "inet6"
            expected = [
                address.address
                for item in SYSTEM.interfaces
                if item.vnet == jid
                for address in item.addresses
                if address.family == wanted
            ]
            found = [reader.inet_address(reader.at(ifaddr, name, "ia_addr")) for ifaddr in listed]
            assert sorted(found) == sorted(expected)


def test_subnets_are_in_host_order(reader: NetworkReader) -> None:
    for jid in reader.vnets:
        for ifaddr in reader.stailq(reader.vnet_symbol(jid, "in_ifaddrhead"), "in_ifaddr", "ia_link"):
            address = reader.inet_address(reader.at(ifaddr, "in_ifaddr", "ia_addr"))
            mask = reader.field(ifaddr, "in_ifaddr", "ia_subnetmask")
            assert reader.field(ifaddr, "in_ifaddr", "ia_subnet") == int(ipaddress.ip_address(address)) & mask


# Neighbours


def tables(reader: NetworkReader) -> Iterator[tuple[int, int]]:
    for jid in reader.vnets:
        for table in reader.slist(reader.vnet_symbol(jid, "lltables"), "lltable", "llt_link"):
            yield jid, table


def test_neighbor_tables_hold_every_neighbor(reader: NetworkReader) -> None:
    found = []
    for jid, table in tables(reader):
        ifnet = reader.field(table, "lltable", "llt_ifp")
        family = reader.field(table, "lltable", "llt_af") & 0xFF
        heads, size = (reader.field(table, "lltable", name) for name in ("lle_head", "llt_hsize"))
        for chain, entry in reader.chains(heads, size - 1, reader.word, "llentry", "lle_next"):
            assert reader.field(entry, "llentry", "lle_tbl") == table
            assert reader.field(entry, "llentry", "lle_head") == heads + chain * reader.word
            address = reader.read(reader.at(entry, "llentry", "r_l3addr"), 4 if family == AF_INET else 16)
            key = reader.words(address)[-1]
            assert (key ^ key >> 8 ^ key >> 16 ^ key >> 24) & size - 1 == chain
            found.append(neighbor(reader, jid, reader.text(ifnet, "ifnet", "if_xname"), entry, address))
    key = lambda item: (item.vnet, item.address)  # noqa: E731
    assert sorted(found, key=key) == sorted(SYSTEM.neighbors, key=key)


def neighbor(reader: NetworkReader, jid: int, name: str, entry: int, address: bytes) -> Neighbor:
    flags = reader.field(entry, "llentry", "la_flags")
    link = ""
    if flags & LLE_VALID:
        link = reader.read(reader.field(entry, "llentry", "ll_addr"), 6).hex(":")
    state = ("incomplete", "reachable", "stale", "delay", "probe")[reader.field(entry, "llentry", "ln_state")]
    state = "permanent" if flags & LLE_STATIC else state
    own = any(item.address == address_text(address) for item in BY_NAME[jid, name].addresses)
    assert bool(flags & LLE_IFADDR) == own
    return Neighbor(jid, name, address_text(address), link, state, reader.field(entry, "llentry", "la_expire"))


def test_interfaces_lead_to_their_neighbor_tables(reader: NetworkReader) -> None:
    known = {table for _, table in tables(reader)}
    reached = set()
    for ifnet in interfaces(reader).values():
        data = reader.at(ifnet, "ifnet", "if_afdata")
        inet, inet6 = (reader.pointer(data + family * reader.word) for family in (AF_INET, AF_INET6))
        reached |= {reader.field(inet, "in_ifinfo", "ii_llt"), reader.field(inet6, "in6_ifextra", "lltable")}
    assert reached == known


# bpf


def bpf_interfaces(reader: NetworkReader) -> list[int]:
    """The link is in `bif_ext`, the first member."""
    return list(reader.list(reader.symbol("bpf_iflist"), "bpf_if", "bif_ext.bif_next"))


def test_interfaces_and_bpf_point_at_each_other(reader: NetworkReader) -> None:
    found = {reader.field(entry, "bpf_if", "bif_ifp"): entry for entry in bpf_interfaces(reader)}
    assert set(found) == set(interfaces(reader).values())
    for ifnet, entry in found.items():
        assert reader.field(ifnet, "ifnet", "if_bpf") == entry
        assert reader.pointer(reader.field(entry, "bpf_if", "bif_bpf")) == entry


def test_bpf_listeners(reader: NetworkReader) -> None:
    found = []
    names = {ifnet: key for key, ifnet in interfaces(reader).items()}
    for entry in bpf_interfaces(reader):
        jid, name = names[reader.field(entry, "bpf_if", "bif_ifp")]
        for listener in reader.list(reader.at(entry, "bpf_if", "bif_ext.bif_dlist"), "bpf_d", "bd_next"):
            assert reader.field(listener, "bpf_d", "bd_bif") == entry
            counts = [reader.counter(reader.field(listener, "bpf_d", f"bd_{which}count")) for which in "rdf"]
            pid, promiscuous = (reader.field(listener, "bpf_d", which) for which in ("bd_pid", "bd_promisc"))
            length = program_length(reader, reader.field(listener, "bpf_d", "bd_rfilter"))
            found.append((name, jid, pid, bool(promiscuous), *counts, length))
    wanted = SYSTEM.bpf_listeners
    assert found == [
        (one.interface, one.vnet, one.pid, one.promiscuous, one.received, one.dropped, one.captured, one.filter_length)
        for one in wanted
    ]


def program_length(reader: NetworkReader, program: int) -> int:
    """Instructions up to the one behind which nothing can be reached."""
    at, furthest = 0, 0
    while at <= furthest:
        code = reader.unsigned(program + 8 * at, 2)
        true, false = reader.read(program + 8 * at + 2, 2)
        if code != BPF_RET:
            furthest = max(furthest, at + 1 + max(true, false))
        at += 1
    return at
