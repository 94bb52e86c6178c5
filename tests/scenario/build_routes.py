"""Routing tables: one radix tree for each vnet, fib and family (net/route.c until 12, net/route/ since 13.0).

Until 12 a `struct rtentry` has gateway, interface and flags itself; since 13.0 it leads to a nexthop, which routes may
share, or to a group of them.
"""

from __future__ import annotations

import ipaddress

from tests.writers.objects import Object, addressof

from . import nexthops
from .model import Route
from .network_shapes import (
    AF_INET,
    AF_INET6,
    counter,
    has_vnet_symbol,
    interface_index,
    netmask,
    new_table,
    packed,
    prefix_of,
    set_vnet_variable,
    sockaddr,
    vnets,
)
from .radix import TYPES as RADIX_TYPES
from .radix import VARIABLES as RADIX_VARIABLES
from .radix import Key, Tree
from .route_shapes import RTF_HOST, RTF_UP, address_of, flags_of, gateway_bytes, interface_of
from .shapes import mtx_init, set_members, set_variable, text
from .world import World

OFFSETS = {AF_INET: 32, AF_INET6: 64}
"""Bits before the address in its socket address."""
KEY_SIZES = {AF_INET: 16, AF_INET6: 28}
SDL_SIZE = 54
RM_CLASS = 3 << 24
METHODS = ("matchaddr", "lookup", "walktree", "walktree_from")

TYPES = RADIX_TYPES
VARIABLES = {"rt_numfibs": "unsigned int", **RADIX_VARIABLES}
VNET = {"rt_tables": "void *"}
FUNCTIONS = [*(f"rn_{name}" for name in ("match", *METHODS)), "rn_addroute", "rn_delete", "in_addroute", "in6_addroute"]


def create(world: World) -> None:
    """The tables of every vnet, without routes."""
    for jid, _ in vnets(world):
        fibs = _fibs(world, jid)
        table = new_table(world, "void *", fibs * (_af_max(world) + 1))
        for fib in range(fibs):
            for family in (AF_INET, AF_INET6):
                head = world.put("rib_head", (jid, fib, family), world.new("struct rib_head"))
                table[fib * (_af_max(world) + 1) + family] = head
        set_vnet_variable(world, jid, "_rt_numfibs", fibs)
        variable = world.vnet_symbol(jid, "rt_tables")
        order = "big" if world.memory.types.byteorder == "big" else "little"
        size = world.memory.types.pointer_size
        world.memory.write(addressof(variable), addressof(table).to_bytes(size, order))
    set_variable(world, "rt_numfibs", _fibs(world, 0))


def connect(world: World) -> None:
    """The trees."""
    for (jid, fib, family), head in world.all("rib_head").items():
        routes = [
            route
            for route in world.system.routes
            if (route.vnet, route.fib) == (jid, fib) and len(prefix_of(route.destination)[0]) == _length(family)
        ]
        _fill_head(world, (jid, fib, family), head, len(routes))
        masks = Tree(world, head.rmhead.head, head.rmhead.mask_nodes, 0)
        tree = Tree(world, head.head, head.rnh_nodes, OFFSETS[family], masks)
        hops = nexthops.Control(world, jid, fib, family, head) if world.has("rtentry", "rt_nhop") else None
        for route in routes:
            _add(world, tree, hops, route, family)
        tree.store()
        if hops:
            hops.store()


def _length(family: int) -> int:
    return 4 if family == AF_INET else 16


def _af_max(world: World) -> int:
    """AF_MAX, which is the size of `if_afdata`."""
    return int(world.memory.types.member("ifnet", "if_afdata").type["count"])


def _fibs(world: World, jid: int) -> int:
    """Until 12 all vnets have as many tables; later each has its own number."""
    own = has_vnet_symbol(world, "_rt_numfibs")
    return 1 + max((route.fib for route in world.system.routes if route.vnet == jid or not own), default=0)


# Heads


def _fill_head(world: World, place: tuple[int, int, int], head: Object, count: int) -> None:
    """`rt_table_init`."""
    jid, fib, family = place
    for method in METHODS:
        head[f"rnh_{method}"] = world.function("rn_match" if method == "matchaddr" else f"rn_{method}")
    add = {AF_INET: "in_addroute", AF_INET6: "in6_addroute"}[family] if _old(world) else "rn_addroute"
    head.rnh_addaddr, head.rnh_deladdr = world.function(add), world.function("rn_delete")
    head.rib_lock.lock_object = {"lo_name": text(world, "rib head lock"), "lo_flags": 0x0003_0000 | RM_CLASS}
    head.rnh_gen = count
    set_members(world, head, rib_vnet=world.get("vnet", jid), rib_family=family, rib_fibnum=fib, rnh_prefixes=count)
    set_members(world, head, rnh_gen_rib=count, rnh_multipath=0)


def _old(world: World) -> bool:
    return not world.has("rtentry", "rt_nhop")


# Routes


def _key(world: World, route: Route) -> bytes:
    destination, _ = prefix_of(route.destination)
    if len(destination) == 16:
        zone = interface_index(world, interface_of(world, route.vnet, route.interface))
        destination = packed(str(ipaddress.ip_address(destination)), zone)
    return sockaddr(destination)


def _mask(route: Route, family: int) -> bytes | None:
    """The mask as a socket address; none for hosts."""
    if "H" in route.flags:
        return None
    size, skip = KEY_SIZES[family], OFFSETS[family] // 8
    head = bytes([size, family]).ljust(skip, b"\0")
    return (head + netmask(family, prefix_of(route.destination)[1])).ljust(size, b"\0")


def _add(world: World, tree: Tree, hops: nexthops.Control | None, route: Route, family: int) -> None:
    entry = world.new("struct rtentry")
    world.put("rtentry", (route.vnet, route.fib, route.destination), entry)
    key = _key(world, route)
    if hops is None:
        place = _fill_old(world, route, family, entry, key)
    else:
        place = addressof(entry, "rt_dst6")
        entry.rte_flags = flags_of(route) & (RTF_UP | RTF_HOST)
        entry.rt_weight = 1
        entry.rt_nhop = hops.nexthop(route)
    world.memory.write(place, key)
    tree.add(Key(place, key.ljust(32, b"\0")), _mask(route, family), entry.rt_nodes)


def _fill_old(world: World, route: Route, family: int, entry: Object, key: bytes) -> int:
    """Until 12. `rt_setgate`: destination and gateway share one allocation; returns the address of the first."""
    word = world.memory.types.pointer_size
    length = -(-len(key) // word) * word
    gateway = gateway_bytes(world, route, route.interface, route.gateway, SDL_SIZE)
    place = world.memory.allocate(length + -(-len(gateway) // word) * word)
    world.memory.write(place + length, gateway)
    entry.rt_gateway = place + length
    interface = interface_of(world, route.vnet, route.interface)
    entry.rt_ifp = world.get("ifnet", (route.vnet, route.interface))
    entry.rt_ifa = address_of(world, route, route.interface, route.gateway, family)
    entry.rt_flags = flags_of(route)
    entry.rt_refcnt, entry.rt_weight, entry.rt_fibnum = 1, 1, route.fib
    entry.rt_mtu, entry.rt_expire = interface.mtu, route.expire
    entry.rt_pksent = counter(world, 10 + len(route.destination))
    mtx_init(world, entry.rt_mtx, "rtentry")
    return place
