"""Routing tables, read back from the minidump: walked, and asked as the kernel would ask them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.scenario.model import Route
from tests.scenario.system import SYSTEM
from tests.scenario_checks.network_reader import AF_INET, AF_INET6, AF_LINK, NetworkReader, destination, network

RNF_NORMAL, RNF_ROOT, RNF_ACTIVE = 1, 2, 4
FLAGS = {"U": 0x1, "G": 0x2, "H": 0x4, "R": 0x8, "D": 0x10, "S": 0x800, "B": 0x1000, "2": 0x4000, "1": 0x8000}
RTF_PINNED = 0x10_0000
NHF_MULTIPATH, NHF_DEFAULT = 0x8, 0x80
OFFSETS = {AF_INET: 4, AF_INET6: 8}
SIZES = {AF_INET: 4, AF_INET6: 16}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@pytest.fixture(scope="module")
def reader(kernel: str) -> NetworkReader:
    return network(kernel)


# Tables


def families(reader: NetworkReader) -> int:
    """AF_MAX + 1."""
    return int(reader.types.member("ifnet", "if_afdata").type["count"]) + 1


def fibs(reader: NetworkReader, jid: int) -> int:
    if reader.has_vnet_symbol("_rt_numfibs"):
        return reader.vnet_variable(jid, "_rt_numfibs")
    return reader.variable("rt_numfibs")


def tables(reader: NetworkReader) -> Iterator[tuple[int, int, int, int]]:
    """Vnet, fib, family and address of each `struct rib_head`."""
    for jid in reader.vnets:
        table = reader.pointer(reader.vnet_symbol(jid, "rt_tables"))
        for fib in range(fibs(reader, jid)):
            for family in range(families(reader)):
                head = reader.pointer(table + (fib * families(reader) + family) * reader.word)
                if head:
                    yield jid, fib, family, head


# Nodes


@dataclass(frozen=True)
class Leaf:
    """A leaf of a tree."""

    va: int
    bit: int
    flags: int
    key: int
    mask: int


def bit_of(reader: NetworkReader, node: int) -> int:
    return reader.signed_field(node, "radix_node", "rn_bit")


def node_field(reader: NetworkReader, node: int, member: str) -> int:
    return reader.field(node, "radix_node", f"rn_u.{member}")


def leaf_at(reader: NetworkReader, node: int) -> Leaf:
    key, mask = (node_field(reader, node, f"rn_leaf.rn_{name}") for name in ("Key", "Mask"))
    return Leaf(node, bit_of(reader, node), reader.field(node, "radix_node", "rn_flags"), key, mask)


def chain(reader: NetworkReader, node: int) -> Iterator[Leaf]:
    while node:
        yield leaf_at(reader, node)
        node = node_field(reader, node, "rn_leaf.rn_Dupedkey")


def leaves(reader: NetworkReader, node: int, depth: int = 0) -> Iterator[Leaf]:
    """All leaves below a node; checks bit numbers and parents on the way."""
    assert depth < 300
    bit = bit_of(reader, node)
    if bit < 0:
        yield from chain(reader, node)
        return
    assert node_field(reader, node, "rn_node.rn_Off") == bit >> 3
    assert reader.field(node, "radix_node", "rn_bmask") & 0xFF == 0x80 >> (bit & 7)
    for side in ("rn_L", "rn_R"):
        child = node_field(reader, node, f"rn_node.{side}")
        assert reader.field(child, "radix_node", "rn_parent") == node
        assert not 0 <= bit_of(reader, child) <= bit
        for leaf in leaves(reader, child, depth + 1):
            byte = reader.read(leaf.key + (bit >> 3), 1)[0]
            assert bool(byte & 0x80 >> (bit & 7)) == (side == "rn_R")
            yield leaf


def prefix(reader: NetworkReader, leaf: Leaf, family: int) -> Network:
    """A leaf's key and mask; the mask is as long as it says, the rest is zero, and without one it is a host."""
    size, skip = SIZES[family], OFFSETS[family]
    key_family, data = reader.sockaddr(leaf.key)
    assert key_family == family
    address = bytearray(data[skip : skip + size])
    if address[:2] == b"\xfe\x80":
        address[2:4] = b"\0\0"
    length = 8 * size
    if leaf.mask:
        mask = reader.read(leaf.mask, reader.read(leaf.mask, 1)[0]).ljust(skip + size, b"\0")[skip:]
        length = len("".join(f"{byte:08b}" for byte in mask).rstrip("0"))
    return ipaddress.ip_network((bytes(address), length))


# Routes


def routes(reader: NetworkReader) -> Iterator[tuple[Route, int, int]]:
    """Every route that a table holds as it would be described, its rtentry and its family."""
    for jid, fib, family, head in tables(reader):
        top = reader.field(head, "rib_head", "head.rnh_treetop")
        for leaf in leaves(reader, top):
            if not leaf.flags & RNF_ROOT:
                yield route(reader, jid, fib, family, leaf), leaf.va, family


def route(reader: NetworkReader, jid: int, fib: int, family: int, leaf: Leaf) -> Route:
    found = prefix(reader, leaf, family)
    name = str(found) if leaf.mask else str(found.network_address)
    name = {"0.0.0.0/0": "default", "::/0": "default6"}.get(name, name)
    if reader.has("rtentry", "rt_nhop"):
        return Route(jid, fib, name, *nexthop_of(reader, leaf.va))
    gateway = gateway_of(reader, reader.field(leaf.va, "rtentry", "rt_gateway"))
    flags, expire = (reader.field(leaf.va, "rtentry", f"rt_{name}") for name in ("flags", "expire"))
    interface = reader.text(reader.field(leaf.va, "rtentry", "rt_ifp"), "ifnet", "if_xname")
    return Route(jid, fib, name, gateway, interface, letters(flags), expire)


def gateway_of(reader: NetworkReader, va: int) -> str:
    family, _ = reader.sockaddr(va)
    return "link" if family == AF_LINK else reader.inet_address(va)


def letters(flags: int) -> str:
    assert flags & 1
    return "".join(sorted(letter for letter, bit in FLAGS.items() if flags & bit))


def nexthop_of(reader: NetworkReader, entry: int) -> tuple[str, str, str, int, tuple[tuple[str, str, int], ...]]:
    """Gateway, interface, flags, time of expiry and further nexthops."""
    hop = reader.field(entry, "rtentry", "rt_nhop")
    further: tuple[tuple[str, str, int], ...] = ()
    if reader.field(hop, "nhop_object", "nh_flags") & NHF_MULTIPATH:
        count = reader.field(hop, "nhgrp_object", "nhg_size")
        slots = [reader.pointer(hop + reader.sizeof("nhgrp_object") + at * reader.word) for at in range(count)]
        hops = list(dict.fromkeys(slots))
        further = tuple((*gateway_and_interface(reader, one), slots.count(one)) for one in hops[1:])
        hop = hops[0]
    private = reader.field(hop, "nhop_object", "nh_priv")
    assert reader.field(private, "nhop_priv", "nh") == hop
    flags = reader.field(entry, "rtentry", "rte_flags") | reader.field(private, "nhop_priv", "rt_flags")
    expire = reader.field(private, "nhop_priv", "nh_expire")
    return *gateway_and_interface(reader, hop), letters(flags), expire, further


def gateway_and_interface(reader: NetworkReader, hop: int) -> tuple[str, str]:
    interface = reader.text(reader.field(hop, "nhop_object", "nh_ifp"), "ifnet", "if_xname")
    return gateway_of(reader, reader.at(hop, "nhop_object", "gw_sa")), interface


def wanted(reader: NetworkReader) -> list[Route]:
    modern = reader.has("rtentry", "rt_nhop")
    return [
        Route(
            *(item.vnet, item.fib, item.destination, item.gateway, item.interface),
            flags="".join(sorted(item.flags)),
            expire=item.expire,
            multipath=item.multipath if modern else (),
        )
        for item in SYSTEM.routes
    ]


def order(item: Route) -> tuple[int, int, str]:
    return item.vnet, item.fib, item.destination


def test_tables_exist_for_each_family_and_fib(reader: NetworkReader) -> None:
    found = {(jid, fib, family) for jid, fib, family, _ in tables(reader)}
    highest = max(item.fib for item in SYSTEM.routes)
    assert {(0, fib, family) for fib in range(highest + 1) for family in (AF_INET, AF_INET6)} <= found
    assert {family for _, _, family in found} == {AF_INET, AF_INET6}
    for jid, fib, family, head in tables(reader):
        if reader.has("rib_head", "rib_vnet"):
            assert reader.field(head, "rib_head", "rib_vnet") == reader.vnets[jid]
            assert reader.field(head, "rib_head", "rib_family") == family
            assert reader.field(head, "rib_head", "rib_fibnum") == fib


def test_tables_hold_every_route(reader: NetworkReader) -> None:
    assert sorted((item for item, _, _ in routes(reader)), key=order) == sorted(wanted(reader), key=order)


def test_routes_of_interfaces_are_pinned(reader: NetworkReader) -> None:
    for item, entry, _ in routes(reader):
        if reader.has("rtentry", "rt_nhop"):
            hop = reader.field(entry, "rtentry", "rt_nhop")
            if reader.field(hop, "nhop_object", "nh_flags") & NHF_MULTIPATH:
                continue
            flags = reader.field(reader.field(hop, "nhop_object", "nh_priv"), "nhop_priv", "rt_flags")
        else:
            flags = reader.field(entry, "rtentry", "rt_flags")
        assert bool(flags & RTF_PINNED) == (item.gateway == "link")


def test_roots_and_masks(reader: NetworkReader) -> None:
    """The root's own leaves are keys of zeros and ones; masks of routes are keys of the tree of masks."""
    for _, _, family, head in tables(reader):
        top = reader.field(head, "rib_head", "head.rnh_treetop")
        nodes = reader.at(head, "rib_head", "rnh_nodes")
        assert top == nodes + reader.sizeof("radix_node")
        every = list(leaves(reader, top))
        roots = [leaf for leaf in every if leaf.flags & RNF_ROOT]
        assert [reader.read(leaf.key, 32) for leaf in roots] == [bytes(32), b"\xff" * 32]
        masks = reader.field(head, "rib_head", "head.rnh_masks")
        assert masks == reader.at(head, "rib_head", "rmhead")
        mask_top = reader.field(masks, "radix_mask_head", "head.rnh_treetop")
        keys = {leaf.key for leaf in leaves(reader, mask_top)}
        for leaf in every:
            assert not leaf.mask or leaf.mask in keys
            length = prefix(reader, leaf, family).prefixlen if not leaf.flags & RNF_ROOT else 0
            if leaf.mask and length:
                assert leaf.bit == -1 - (8 * OFFSETS[family] + length)
                assert leaf.flags == RNF_ACTIVE | RNF_NORMAL


# Looking up, as rn_match does


def match(reader: NetworkReader, top: int, address: bytes, family: int) -> int:
    """The leaf that a lookup ends at; 0 for none. Follows the lists of masks of the nodes."""
    key = bytes([4 + len(address), family]).ljust(OFFSETS[family], b"\0") + address
    key = key.ljust(32, b"\0")
    node = top
    while bit_of(reader, node) >= 0:
        bit = bit_of(reader, node)
        right = key[bit >> 3] & 0x80 >> (bit & 7)
        node = node_field(reader, node, "rn_node.rn_R" if right else "rn_node.rn_L")
    differing = difference(reader, node, key, family)
    for leaf in chain(reader, node):
        if leaf.flags & RNF_ROOT:
            continue
        if differing is None or (leaf.mask and applies(reader, leaf, key)):
            return leaf.va
    while node != top:
        # Leaves of a chain but the first have the one before them as parent.
        node = reader.field(node, "radix_node", "rn_parent")
        entry = reader.field(node, "radix_node", "rn_mklist")
        while entry:
            found = apply_mask(reader, entry, top, key, differing)
            if found:
                return found
            entry = reader.field(entry, "radix_mask", "rm_mklist")
    return 0


def difference(reader: NetworkReader, node: int, key: bytes, family: int) -> int | None:
    """The first bit in which a key differs from that of a leaf."""
    other = reader.read(leaf_at(reader, node).key, 32)
    for at in range(8 * OFFSETS[family], 8 * (OFFSETS[family] + SIZES[family])):
        if (key[at >> 3] ^ other[at >> 3]) & 0x80 >> (at & 7):
            return at
    return None


def applies(reader: NetworkReader, leaf: Leaf, key: bytes) -> bool:
    mask = reader.read(leaf.mask, reader.read(leaf.mask, 1)[0])
    own = reader.read(leaf.key, 32)
    return all((own[at] ^ key[at]) & mask[at] == 0 for at in range(4, len(mask)))


def apply_mask(reader: NetworkReader, entry: int, top: int, key: bytes, differing: int | None) -> int:
    where = reader.pointer(reader.at(entry, "radix_mask", "rm_rmu"))
    if reader.field(entry, "radix_mask", "rm_flags") & RNF_NORMAL:
        fits = differing is not None and -1 - differing <= reader.signed_field(entry, "radix_mask", "rm_bit")
        return where if fits else 0
    # Only the default route has a mask that is not normal: it is a duplicate of the root's left leaf.
    root = node_field(reader, top, "rn_node.rn_L")
    while bit_of(reader, root) >= 0:
        root = node_field(reader, root, "rn_node.rn_L")
    return next((leaf.va for leaf in chain(reader, root) if leaf.mask == where), 0)


ADDRESSES = (
    *("192.0.2.1", "192.0.2.10", "192.0.2.99", "192.0.2.100", "203.0.113.1", "203.0.113.127", "203.0.113.128"),
    *("203.0.113.200", "10.0.0.80", "10.0.0.81", "10.255.1.1", "127.0.0.1", "127.0.0.2", "172.16.0.1", "172.16.0.9"),
    *("198.51.0.0", "198.51.100.7", "198.52.0.0", "8.8.8.8", "255.255.255.255", "128.0.0.1"),
    *("::1", "::2", "2001:db8::10", "2001:db8::11", "2001:db8:1::1", "2001:db8:2::1", "2001:db9::1", "fd00:2::7"),
    *("fd00:3::7", "ff02::1", "4000::"),
)


def best(jid: int, fib: int, address: str) -> Route | None:
    """The longest prefix, by trying all."""
    ip = ipaddress.ip_address(address)
    fitting = [
        item
        for item in SYSTEM.routes
        if (item.vnet, item.fib) == (jid, fib) and destination(item).version == ip.version and ip in destination(item)
    ]
    return max(fitting, key=lambda item: destination(item).prefixlen, default=None)


def test_lookups_find_the_longest_prefix(reader: NetworkReader) -> None:
    for jid, fib, family, head in tables(reader):
        top = reader.field(head, "rib_head", "head.rnh_treetop")
        for address in ADDRESSES:
            data = ipaddress.ip_address(address).packed
            if len(data) != SIZES[family]:
                continue
            leaf = match(reader, top, data, family)
            expected = best(jid, fib, address)
            assert bool(leaf) == (expected is not None), address
            if expected:
                assert prefix(reader, leaf_at(reader, leaf), family) == destination(expected), address


# Nexthops


def test_nexthops_are_hashed_and_shared(reader: NetworkReader) -> None:
    if not reader.has("rtentry", "rt_nhop"):
        return
    for jid, fib, _, head in tables(reader):
        control = reader.field(head, "rib_head", "nh_control")
        assert reader.field(control, "nh_control", "ctl_rh") == head
        hashed = list(items(reader, control, "nh_head", "nhop_priv", "nh_next"))
        groups = list(items(reader, control, "gr_head", "nhgrp_priv", "nhg_priv_next"))
        indexes = [reader.field(one, "nhop_priv", "nh_idx") for one in hashed]
        indexes += [reader.field(one, "nhgrp_priv", "nhg_idx") for one in groups]
        assert sorted(indexes) == list(range(1, len(indexes) + 1))
        uses = [entry for item, entry, _ in routes(reader) if (item.vnet, item.fib) == (jid, fib)]
        mine = [entry for entry in uses if hop_control(reader, entry) == control]
        reached = {reader.field(entry, "rtentry", "rt_nhop") for entry in mine}
        for one in groups:
            group = reader.field(one, "nhgrp_priv", "nhg")
            assert group in reached
            reached.remove(group)
            for at in range(reader.field(group, "nhgrp_object", "nhg_size")):
                reached.add(reader.pointer(group + reader.sizeof("nhgrp_object") + at * reader.word))
        assert reached == {reader.field(one, "nhop_priv", "nh") for one in hashed}


def hop_control(reader: NetworkReader, entry: int) -> int:
    hop = reader.field(entry, "rtentry", "rt_nhop")
    if reader.field(hop, "nhop_object", "nh_flags") & NHF_MULTIPATH:
        hop = reader.pointer(hop + reader.sizeof("nhgrp_object"))
    return reader.field(reader.field(hop, "nhop_object", "nh_priv"), "nhop_priv", "nh_control")


def items(reader: NetworkReader, control: int, head: str, name: str, link: str) -> Iterator[int]:
    """The elements of a hash table of nexthops or groups."""
    place = reader.at(control, "nh_control", head)
    tag = "nhops_head" if head == "nh_head" else "nhgroups_head"
    table, size, count = (reader.field(place, tag, member) for member in ("ptr", "hash_size", "items_count"))
    found = 0
    for bucket in range(size):
        item = reader.pointer(table + bucket * reader.word)
        while item:
            yield item
            found += 1
            item = reader.field(item, name, link)
    assert found == count


def test_equal_nexthops_are_one(reader: NetworkReader) -> None:
    if not reader.has("rtentry", "rt_nhop"):
        return
    hops: dict[str, int] = {}
    for item, entry, _ in routes(reader):
        if (item.vnet, item.fib) == (0, 0):
            hops[item.destination] = reader.field(entry, "rtentry", "rt_nhop")
    assert hops["203.0.113.0/24"] == hops["203.0.113.0/25"]
    assert hops["203.0.113.0/24"] != hops["default"]
    shared = reader.field(hops["203.0.113.0/24"], "nhop_object", "nh_priv")
    assert reader.field(shared, "nhop_priv", "nh_refcnt") == 2
    assert reader.field(hops["default"], "nhop_object", "nh_flags") & NHF_DEFAULT
