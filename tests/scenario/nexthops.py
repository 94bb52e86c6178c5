"""Nexthops and their groups (13.0: net/route/nhop.h, nhop_var.h, nhgrp_var.h), for `build_routes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.writers.objects import Object, addressof, link_stailq

from .model import Route
from .network_shapes import counter, family_of, new_table, prefix_of
from .route_shapes import RTF_DYNAMIC, RTF_STATIC, RTF_UP, address_of, flags_of, gateway_bytes, interface_of, owner_of
from .shapes import rw_init, set_members
from .world import World

NHF_MULTIPATH, NHF_REJECT, NHF_BLACKHOLE, NHF_REDIRECT, NHF_DEFAULT = 0x8, 0x10, 0x20, 0x40, 0x80
NHF_BROADCAST, NHF_GATEWAY, NHF_HOST = 0x100, 0x200, 0x400
FROM_ROUTE = {0x8: NHF_REJECT, 0x4: NHF_HOST, 0x1000: NHF_BLACKHOLE, 0x10: NHF_REDIRECT, 0x20: NHF_REDIRECT}
FROM_ROUTE |= {0x40_0000: NHF_BROADCAST, 0x2: NHF_GATEWAY}
"""`convert_rt_to_nh_flags`: NHF_ by RTF_."""
ORIGIN_REDIRECT, ORIGIN_KERNEL, ORIGIN_STATIC = 1, 2, 4
BUCKETS, ITEMS = 16, 1024
GROUP_BUCKETS = 8
SHORT_SDL = 16
"""Bytes of a `struct sockaddr_dl_short`."""

Identity = tuple[Any, ...]


class Control:
    """The nexthops of one table: `struct nh_control`."""

    def __init__(self, world: World, jid: int, fib: int, family: int, rib: Object) -> None:
        self.world = world
        self.jid, self.fib, self.family = jid, fib, family
        self.object = world.new("struct nh_control", ctl_rh=rib)
        rw_init(world, self.object.ctl_lock, "nhop_ctl")
        rib.nh_control = self.object
        link_stailq(rib.rnh_subscribers, [], "")
        self._hops: dict[Identity, Object] = {}
        self._groups: list[Object] = []
        self._indexes = 0

    def nexthop(self, route: Route) -> Object:
        """What a route's `rt_nhop` points to; equal ones are one object."""
        first = self._hop(route, route.gateway, route.interface)
        if not route.multipath:
            return first
        hops = [(first, 1)]
        hops += [(self._hop(route, gateway, name), weight) for gateway, name, weight in route.multipath]
        return self._group(hops)

    def _index(self) -> int:
        self._indexes += 1
        return self._indexes

    # Nexthops

    def _hop(self, route: Route, gateway: str, name: str) -> Object:
        flags = flags_of(route)
        default = prefix_of(route.destination)[1] == 0
        owner = owner_of(self.world, route).name if gateway == "link" else name
        identity = (gateway, name, owner, flags & ~RTF_UP, default, route.expire)
        if identity not in self._hops:
            self._hops[identity] = self._make(route, gateway, name, owner)
        hop = self._hops[identity]
        self._private(hop).nh_refcnt += 1
        return hop

    def _private(self, hop: Object) -> Object:
        return self.world.memory.cast("struct nhop_priv", hop.nh_priv)

    def _make(self, route: Route, gateway: str, name: str, owner: str) -> Object:
        """`nhop_create_from_info`: the object that packets need, and its private part behind it."""
        world = self.world
        # Both are aligned to two cache lines, and together in one item of the zone.
        size = -(-world.memory.types.sizeof("struct nhop_object") // 256) * 256
        hop = world.new("struct nhop_object", extra=size + world.memory.types.sizeof("struct nhop_priv"))
        private = world.memory.cast("struct nhop_priv", addressof(hop) + size)
        flags = flags_of(route)
        hop.nh_flags = sum({new for old, new in FROM_ROUTE.items() if flags & old})
        hop.nh_flags |= NHF_DEFAULT if prefix_of(route.destination)[1] == 0 else 0
        hop.nh_mtu = interface_of(world, self.jid, name).mtu
        world.memory.write(addressof(hop, "gw_sa"), gateway_bytes(world, route, name, gateway, SHORT_SDL))
        hop.nh_ifp = world.get("ifnet", (self.jid, name))
        hop.nh_aifp = world.get("ifnet", (self.jid, owner))
        hop.nh_ifa = address_of(world, route, name, gateway, self.family)
        hop.nh_pksent = counter(world, 20 + len(self._hops))
        hop.nh_priv = private
        self._fill_private(route, gateway, hop, private)
        return hop

    def _fill_private(self, route: Route, gateway: str, hop: Object, private: Object) -> None:
        flags = flags_of(route)
        neighbor = self.family if gateway == "link" else family_of(gateway)
        set_members(self.world, private, nh_upper_family=self.family, nh_neigh_family=neighbor, nh_family=self.family)
        private.rt_flags = flags & ~RTF_UP
        private.nh_idx, private.nh_fibnum = self._index(), self.fib
        set_members(self.world, private, nh_expire=route.expire, nh_linked=2, nh_finalized=1)
        origin = ORIGIN_STATIC if flags & RTF_STATIC else ORIGIN_KERNEL
        set_members(self.world, private, nh_origin=ORIGIN_REDIRECT if flags & RTF_DYNAMIC else origin)
        private.nh = hop
        private.nh_control = self.object
        private.nh_vnet = self.world.get("vnet", self.jid)

    # Groups

    def _group(self, hops: Sequence[tuple[Object, int]]) -> Object:
        """`struct nhgrp_object`: as many slots for each nexthop as its weight; the private part is behind them."""
        world = self.world
        slots = [hop for hop, weight in hops for _ in range(weight)]
        word = world.memory.types.pointer_size
        head, private_size = (world.memory.types.sizeof(f"struct nhgrp_{name}") for name in ("object", "priv"))
        weighted = world.memory.types.sizeof("struct weightened_nhop")
        group = world.new("struct nhgrp_object", extra=len(slots) * word + private_size + len(hops) * weighted)
        group.nhg_flags, group.nhg_size = NHF_MULTIPATH, len(slots)
        order: Any = world.memory.machine.byteorder
        data = b"".join(addressof(hop).to_bytes(word, order) for hop in slots)
        world.memory.write(addressof(group) + head, data)
        private = world.memory.cast("struct nhgrp_priv", addressof(group) + head + len(data))
        private.nhg_idx, private.nhg_nh_count, private.nhg_origin = self._index(), len(hops), ORIGIN_STATIC
        private.nhg_refcount, private.nhg_linked = 1, 2
        private.nh_control, private.nhg = self.object, group
        for number, (hop, weight) in enumerate(hops):
            place = addressof(private) + private_size + number * weighted
            entry = world.memory.cast("struct weightened_nhop", place)
            entry.nh, entry.weight = hop, weight
        self._groups.append(private)
        return group

    # Hash tables and indexes

    def store(self) -> None:
        """Hash tables of nexthops and groups, and the map of used indexes."""
        control = self.object
        chains: dict[int, list[Object]] = {}
        for hop in self._hops.values():
            chains.setdefault(self._hash(hop) & BUCKETS - 1, []).insert(0, self._private(hop))
        self._store_table(control.nh_head, BUCKETS, chains, "nh_next", len(self._hops))
        if self._groups:
            groups: dict[int, list[Object]] = {}
            for private in self._groups:
                groups.setdefault(self._hash_group(private) & GROUP_BUCKETS - 1, []).insert(0, private)
            self._store_table(control.gr_head, GROUP_BUCKETS, groups, "nhg_priv_next", len(self._groups))
        self._store_indexes()

    def _store_table(self, head: Object, size: int, chains: dict[int, list[Object]], link: str, count: int) -> None:
        """CHT_SLIST."""
        table = new_table(self.world, "void *", size)
        head.hash_size, head.items_count, head.ptr = size, count, table
        for chain, items in chains.items():
            table[chain] = items[0]
            for item, following in zip(items, [*items[1:], 0], strict=True):
                item[link] = following

    def _store_indexes(self) -> None:
        """`bitmask_head`: a bit is clear when its index is taken; 0 always is."""
        size = 8 * self.world.memory.types.sizeof("unsigned long")
        blocks = new_table(self.world, "unsigned long", ITEMS // size)
        for block in range(ITEMS // size):
            taken = range(self._indexes + 1)
            blocks[block] = sum(1 << bit for bit in range(size) if size * block + bit not in taken)
        indexes = self.object.nh_idx_head
        indexes.free_off, indexes.blocks, indexes.items_count = self._indexes // size, ITEMS // size, self._indexes
        indexes.idx = blocks

    def _hash(self, hop: Object) -> int:
        """`hash_priv`: interface, family, type and the last four bytes of the gateway."""
        order: Any = self.world.memory.machine.byteorder
        gateway = self.world.memory.read(addressof(hop, "gw_sa"), 28)
        family = gateway[1]
        address = {2: gateway[4:8], 28: gateway[20:24]}.get(family, bytes(4))
        key = int(self._if_index(hop)).to_bytes(2, order) + bytes([family, 0]) + address
        return _djb(key)

    def _if_index(self, hop: Object) -> int:
        interface = self.world.memory.cast("struct ifnet", hop.nh_ifp)
        return int(interface.if_index)

    def _hash_group(self, private: Object) -> int:
        size = self.world.memory.types.sizeof("struct weightened_nhop") * private.nhg_nh_count
        start = addressof(private) + self.world.memory.types.sizeof("struct nhgrp_priv")
        return _djb(self.world.memory.read(start, size))


def _djb(data: bytes) -> int:
    result = 0
    for byte in data:
        result = (33 * result ^ byte) & 0xFFFFFFFF
    return result
