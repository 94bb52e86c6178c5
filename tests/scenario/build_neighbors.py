"""Neighbours: ARP and ND tables (net/if_llatbl.c, netinet/in.c, netinet6/in6.c), and families' data of interfaces."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_list, link_slist

from .model import Interface, Neighbor
from .network_shapes import (
    AF_INET,
    AF_INET6,
    callout,
    counter,
    family_of,
    has_vnet_symbol,
    host_words,
    interface_index,
    link_address,
    new_table,
    packed,
    vnets,
)
from .shapes import mtx_init, rw_init, set_members
from .world import World

HASH_SIZE = 32
"""LLTBL_HASHTBL_SIZE."""
LLE_STATIC, LLE_IFADDR, LLE_VALID, LLE_LINKED = 0x2, 0x4, 0x8, 0x40
RLLE_VALID, RLLE_IFADDR = 0x1, 0x4
STATES = {"incomplete": 0, "reachable": 1, "stale": 2, "delay": 3, "probe": 4, "permanent": 1}
"""`ln_state`; the first two mean the same for ARP."""
ETHER_HEADER = 14
ETHERTYPES = {AF_INET: b"\x08\x00", AF_INET6: b"\x86\xdd"}
IN6_STATISTICS, ICMP6_STATISTICS = 20, 34
ND_REACHABLE, ND_RETRANS, ND_PERFORMNUD, ND_AUTO_LINKLOCAL = 30000, 1000, 0x1, 0x20

TYPES = {
    "lltables_head": {"slh_first": "struct lltable *"},
    "llentries": {"clh_first": "struct llentry *"},
    "in_ifinfo": {"ii_llt": "struct lltable *", "ii_igmp": "void *", "ii_allhosts": "void *"},
    "in6_ifextra": {
        "in6_ifstat": "void *",
        "icmp6_ifstat": "void *",
        "nd_ifinfo": "void *",
        "scope6_id": "void *",
        "lltable": "struct lltable *",
        "mld_ifinfo": "void *",
    },
    "nd_ifinfo": {
        **dict.fromkeys(("linkmtu", "maxmtu", "basereachable", "reachable", "retrans", "flags"), "unsigned int"),
        "recalctm": "int",
        "chlim": "unsigned char",
        "initialized": "unsigned char",
        **dict.fromkeys(("randomseed0", "randomseed1", "randomid"), "unsigned char[8]"),
    },
    "scope6_id": {"s6id_list": "unsigned int[16]"},
}
VNET = {"lltables": "struct lltables_head"}
METHODS = {
    "lookup": "lookup",
    "alloc_entry": "alloc",
    "delete_entry": "delete_entry",
    "dump_entry": "dump_entry",
    "hash": "hash",
    "fill_sa_entry": "fill_sa_entry",
    "free_entry": "free_entry",
    "match_prefix": "match_prefix",
}
"""Functions of a table, and how the families' names for them end."""
COMMON = ("foreach_entry", "link_entry", "unlink_entry", "free_tbl")
FUNCTIONS = [
    *(f"{prefix}_lltable_{method}" for prefix in ("in", "in6") for method in METHODS.values()),
    *(f"htable_{method}" for method in COMMON),
    *("arptimer", "nd6_llinfo_timer", "in_lltable_destroy_lle", "in6_lltable_destroy_lle"),
]


def create(world: World) -> None:
    """Both tables of every interface, and their entries."""
    for item in world.system.interfaces:
        interface = world.get("ifnet", (item.vnet, item.name))
        tables = {family: _table(world, item, interface, family) for family in (AF_INET, AF_INET6)}
        info = world.new("struct in_ifinfo", ii_llt=tables[AF_INET])
        interface.if_afdata[AF_INET] = info
        interface.if_afdata[AF_INET6] = _extra(world, item, tables[AF_INET6])
        interface.if_afdata_initialized = 2


def connect(world: World) -> None:
    """The list of all tables of a vnet, the youngest first."""
    for jid, _ in vnets(world):
        if has_vnet_symbol(world, "lltables"):
            tables = [table for (vnet, _, _), table in world.all("lltable").items() if vnet == jid]
            link_slist(world.vnet_symbol(jid, "lltables"), tables[::-1], "llt_link")


# What families keep of an interface


def _extra(world: World, item: Interface, table: Object) -> Object:
    """`in6_domifattach`."""
    neighbor = world.new("struct nd_ifinfo", linkmtu=item.mtu, maxmtu=item.mtu, basereachable=ND_REACHABLE)
    neighbor.reachable, neighbor.retrans, neighbor.chlim = ND_REACHABLE, ND_RETRANS, 64
    neighbor.initialized, neighbor.flags = 1, ND_PERFORMNUD | ND_AUTO_LINKLOCAL
    scope = world.new("struct scope6_id")
    # Zones of interfaces and links are numbered like interfaces.
    scope.s6id_list[1] = scope.s6id_list[2] = interface_index(world, item)
    extra = world.new("struct in6_ifextra", lltable=table, nd_ifinfo=neighbor, scope6_id=scope)
    extra.in6_ifstat = world.memory.array("void *", [counter(world) for _ in range(IN6_STATISTICS)])
    extra.icmp6_ifstat = world.memory.array("void *", [counter(world) for _ in range(ICMP6_STATISTICS)])
    return extra


# Tables


def _table(world: World, item: Interface, interface: Object, family: int) -> Object:
    """`in_lltattach`, `in6_lltattach`, and `htable_link_entry` of each entry."""
    table = world.put("lltable", (item.vnet, item.name, family), world.new("struct lltable"))
    chains = new_table(world, "struct llentries", HASH_SIZE)
    table.llt_af, table.llt_hsize, table.llt_ifp, table.lle_head = family, HASH_SIZE, interface, chains
    prefix = "in" if family == AF_INET else "in6"
    for member, method in METHODS.items():
        set_members(world, table, **{f"llt_{member}": world.function(f"{prefix}_lltable_{method}")})
    for method in COMMON:
        set_members(world, table, **{f"llt_{method}": world.function(f"htable_{method}")})
    placed: dict[int, list[Object]] = {}
    for neighbor in world.system.neighbors:
        if (neighbor.vnet, neighbor.interface, family_of(neighbor.address)) != (item.vnet, item.name, family):
            continue
        entry = _entry(world, item, neighbor, family)
        entry.lle_tbl = table
        placed.setdefault(_chain(world, item, neighbor), []).insert(0, entry)
    for chain, entries in placed.items():
        link_list(chains[chain], entries, "lle_next")
        for entry in entries:
            entry.lle_head = addressof(chains[chain])
    set_members(world, table, llt_entries=sum(len(entries) for entries in placed.values()), llt_maxentries=-1)
    return table


def _chain(world: World, item: Interface, neighbor: Neighbor) -> int:
    """LLATBL_HASH of the address or of its last word, as the machine reads it."""
    key = host_words(world, packed(neighbor.address, interface_index(world, item)))[-1]
    return (((key >> 8 ^ key) >> 8 ^ key) >> 8 ^ key) & HASH_SIZE - 1


def _entry(world: World, item: Interface, neighbor: Neighbor, family: int) -> Object:
    entry = world.new("struct llentry", lle_refcnt=1, ln_state=STATES[neighbor.state])
    world.put("llentry", (neighbor.vnet, neighbor.interface, neighbor.address), entry)
    world.memory.write(addressof(entry, "r_l3addr"), packed(neighbor.address, interface_index(world, item)))
    flags = LLE_LINKED
    if neighbor.link_address:
        flags |= LLE_VALID
        destination, source = link_address(neighbor.link_address), link_address(item.link_address)
        header = destination + source + ETHERTYPES[family]
        world.memory.write(addressof(entry, "r_linkdata"), header)
        entry.r_hdrlen, entry.r_flags = len(header), RLLE_VALID
        entry.ll_addr = addressof(entry, "r_linkdata")
    if neighbor.state == "permanent":
        flags |= LLE_STATIC
        if any(address.address == neighbor.address for address in item.addresses):
            flags |= LLE_IFADDR
            entry.r_flags |= RLLE_IFADDR
    entry.la_flags = flags
    entry.la_expire = neighbor.expire
    entry.la_asked = 0 if neighbor.link_address else 2
    set_members(world, entry, r_family=family)
    timer = "arptimer" if family == AF_INET else "nd6_llinfo_timer"
    entry.lle_free = world.function("in_lltable_destroy_lle" if family == AF_INET else "in6_lltable_destroy_lle")
    callout(world, entry.lle_timer, timer, entry, neighbor.expire)
    rw_init(world, entry.lle_lock, "lle")
    mtx_init(world, entry.req_mtx, "lle req")
    return entry
