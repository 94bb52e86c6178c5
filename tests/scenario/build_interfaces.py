"""Network interfaces: `struct ifnet`, the index table and the groups (net/if.c, net/if_var.h, net/if_private.h)."""

from __future__ import annotations

import re
from itertools import groupby

from tests.writers.objects import Object, addressof, link_stailq, link_tailq

from .model import Interface
from .network_shapes import (
    AF_LINK,
    counter,
    has_vnet_symbol,
    interface_index,
    link_address,
    new_table,
    set_vnet_variable,
    sockaddr_dl,
)
from .shapes import mtx_init, set_members, set_variable, text, words
from .world import World

FLAGS = {
    "IFF_UP": 0x1,
    "IFF_BROADCAST": 0x2,
    "IFF_DEBUG": 0x4,
    "IFF_LOOPBACK": 0x8,
    "IFF_POINTOPOINT": 0x10,
    "IFF_DRV_RUNNING": 0x40,
    "IFF_NOARP": 0x80,
    "IFF_PROMISC": 0x100,
    "IFF_ALLMULTI": 0x200,
    "IFF_DRV_OACTIVE": 0x400,
    "IFF_SIMPLEX": 0x800,
    "IFF_MULTICAST": 0x8000,
}
"""net/if.h; those with DRV are in `if_drv_flags`."""
IFT_ETHER, IFT_LOOP = 6, 24
KINDS = {"ether": (IFT_ETHER, 6, 14), "loop": (IFT_LOOP, 0, 0)}
"""`if_type`, and the lengths of addresses and headers."""
LINK_STATE_UP = 2
COUNTERS = ("ipackets", "ierrors", "opackets", "oerrors", "collisions", "ibytes", "obytes", "imcasts", "omcasts")
COUNTERS += ("iqdrops", "oqdrops", "noproto")
"""By `enum ift_counter`."""
INDEX_LIMIT = 8
IFA_SDL_DATA = 8

TYPES = {
    "ifnethead": {"cstqh_first": "struct ifnet *", "cstqh_last": "struct ifnet **"},
    "unnamed_ifg_next": {"cstqe_next": "void *"},
    "ifg_members": {"cstqh_first": "void *", "cstqh_last": "void **"},
    "ifg_group": {
        "ifg_group": "char[16]",
        "ifg_refcnt": "unsigned int",
        "ifg_pf_kif": "void *",
        "ifg_members": "struct ifg_members",
        "ifg_next": "struct unnamed_ifg_next",
    },
    "ifgrouphead": {"cstqh_first": "struct ifg_group *", "cstqh_last": "struct ifg_group **"},
    "ifg_member": {"ifgm_next": "struct unnamed_ifg_next", "ifgm_ifp": "struct ifnet *"},
    "ifg_list": {"ifgl_group": "struct ifg_group *", "ifgl_next": "struct unnamed_ifg_next"},
}
VARIABLES = {"ifqmaxlen": "int"}
VNET = {
    "ifnet": "struct ifnethead",
    "ifg_head": "struct ifgrouphead",
    "loif": "struct ifnet *",
    "if_index": "int",
    "if_indexlim": "int",
    "ifindex_table": "struct ifindex_entry *",
}
FUNCTIONS = [
    *("ether_output", "ether_input", "looutput", "lo_output", "loioctl", "if_transmit", "if_qflush"),
    *("if_get_counter_default", "ether_reassign", "ether_requestencap", "if_requestencap_default"),
    *("vtnet_ioctl", "vtnet_init", "vtnet_txq_mq_start", "epair_ioctl", "epair_init", "epair_transmit"),
    "ether_resolvemulti",
]


def create(world: World) -> None:
    """Every interface with its link-level address, then the lists of each vnet."""
    set_variable(world, "ifqmaxlen", 50)
    for item in world.system.interfaces:
        interface = world.put("ifnet", (item.vnet, item.name), world.new("struct ifnet"))
        _fill_identity(world, item, interface)
        _fill_state(world, item, interface)
        _fill_link(world, item, interface)
    for jid, items in groupby(sorted(world.system.interfaces, key=_order), key=lambda item: item.vnet):
        _fill_vnet(world, jid, list(items))
    if not has_vnet_symbol(world, "ifindex_table") and world.has_symbol("ifindex_table"):
        _fill_global_table(world)


def connect(world: World) -> None:
    """The vnets."""
    for item in world.system.interfaces:
        interface = world.get("ifnet", (item.vnet, item.name))
        interface.if_vnet = world.get("vnet", item.vnet)
        interface.if_home_vnet = world.get("vnet", item.vnet if item.home is None else item.home)
        world.get("vnet", item.vnet).vnet_ifcnt += 1


def _order(item: Interface) -> tuple[int, int]:
    return item.vnet, item.index


# struct ifnet


def _fill_identity(world: World, item: Interface, interface: Object) -> None:
    match = re.fullmatch(r"([a-z]+)(\d+)[ab]?", item.name)
    assert match
    kind, address_length, header_length = KINDS[item.kind]
    interface.if_xname = item.name
    interface.if_dname = text(world, match[1])
    interface.if_dunit = int(match[2])
    interface.if_index = interface_index(world, item)
    interface.if_type = interface.if_alloctype = kind
    interface.if_addrlen, interface.if_hdrlen = address_length, header_length
    interface.if_softc = words(world, interface)
    if item.description:
        interface.if_description = world.memory.string(item.description)
    _fill_functions(world, item, match[1], interface)


def _fill_functions(world: World, item: Interface, driver: str, interface: Object) -> None:
    if item.kind == "loop":
        functions = {"if_output": "looutput", "if_ioctl": "loioctl", "if_transmit": "if_transmit"}
    else:
        transmit = {"vtnet": "vtnet_txq_mq_start", "epair": "epair_transmit"}[driver]
        functions = {"if_output": "ether_output", "if_ioctl": f"{driver}_ioctl", "if_transmit": transmit}
        functions |= {"if_input": "ether_input", "if_init": f"{driver}_init", "if_reassign": "ether_reassign"}
        functions |= {"if_resolvemulti": "ether_resolvemulti", "if_requestencap": "ether_requestencap"}
    functions |= {"if_qflush": "if_qflush", "if_get_counter": "if_get_counter_default"}
    set_members(world, interface, **{member: world.function(name) for member, name in functions.items()})


def _fill_state(world: World, item: Interface, interface: Object) -> None:
    driver = [name for name in item.flags if "DRV" in name]
    interface.if_flags = sum(FLAGS[name] for name in item.flags if name not in driver)
    interface.if_drv_flags = sum(FLAGS[name] for name in driver)
    interface.if_mtu = item.mtu
    interface.if_link_state = LINK_STATE_UP
    interface.if_baudrate = 10_000_000_000 if item.kind == "ether" else 0
    interface.if_pcount = item.promiscuous
    interface.if_refcount = 1
    interface.if_epoch = 1
    interface.if_lastchange = {"tv_sec": world.system.boot_time[0] + 5, "tv_usec": 0}
    interface.if_snd.ifq_maxlen = 50
    interface.if_snd.altq_ifp = interface
    mtx_init(world, interface.if_snd.ifq_mtx, item.name)
    mtx_init(world, interface.if_addr_lock, "if_addr_lock")
    mtx_init(world, interface.if_afdata_lock, "if_afdata")
    link_stailq(interface.if_multiaddrs, [], "")
    for number, name in enumerate(COUNTERS):
        interface.if_counters[number] = counter(world, item.counters.get(name, 0))


def _fill_link(world: World, item: Interface, interface: Object) -> None:
    """`if_attach`: the link-level address, allocated with its address and mask, is the first of the interface."""
    address = link_address(item.link_address)
    size = 8 * -(-max(54, IFA_SDL_DATA + len(item.name) + len(address)) // 8)
    room = world.memory.types.sizeof("struct ifaddr")
    ifaddr = world.put("ifaddr", (item.vnet, item.name, ""), world.new("struct ifaddr", extra=2 * size))
    place = addressof(ifaddr) + room
    index = interface_index(world, item)
    world.memory.write(place, sockaddr_dl(world, index, KINDS[item.kind][0], item.name, address, size))
    mask = bytes([size - 8, AF_LINK]).ljust(IFA_SDL_DATA, b"\0") + b"\xff" * len(item.name)
    world.memory.write(place + size, mask)
    ifaddr.ifa_addr, ifaddr.ifa_netmask = place, place + size
    ifaddr.ifa_ifp, ifaddr.ifa_refcnt = interface, 1
    for name in ("ifa_ipackets", "ifa_opackets", "ifa_ibytes", "ifa_obytes"):
        ifaddr[name] = counter(world)
    interface.if_addr = ifaddr
    if address:
        interface.if_hw_addr = world.memory.array("char", address)
        interface.if_broadcastaddr = _broadcast(world)


def _broadcast(world: World) -> Object:
    """`etherbroadcastaddr`."""
    return world.find("string", "ether") or world.put("string", "ether", world.memory.array("char", b"\xff" * 6))


# Lists of a vnet


def _fill_vnet(world: World, jid: int, items: list[Interface]) -> None:
    interfaces = [world.get("ifnet", (jid, item.name)) for item in items]
    head = world.vnet_symbol(jid, "ifnet")
    link = link_stailq if {"cstqh_first", "stqh_first"} & set(_members(world, head)) else link_tailq
    link(head, interfaces, "if_link")
    for item, interface in zip(items, interfaces, strict=True):
        if item.kind == "loop":
            set_vnet_variable(world, jid, "loif", interface)
    _fill_groups(world, jid, items)
    if has_vnet_symbol(world, "ifindex_table"):
        limit = _limit(max(item.index for item in items))
        table = new_table(world, "struct ifindex_entry", limit)
        for item, interface in zip(items, interfaces, strict=True):
            table[item.index].ife_ifnet = interface
        set_vnet_variable(world, jid, "ifindex_table", table)
        set_vnet_variable(world, jid, "if_index", max(item.index for item in items))
        set_vnet_variable(world, jid, "if_indexlim", limit)


def _limit(index: int) -> int:
    """The table doubles when it is full."""
    limit = INDEX_LIMIT
    while limit <= index:
        limit *= 2
    return limit


def _members(world: World, obj: Object) -> dict[str, object]:
    fields: dict[str, object] = world.memory.types.types.user_types[obj._type["name"]]["fields"]
    return fields


def _fill_global_table(world: World) -> None:
    """14.0: one table of all vnets."""
    highest = max(interface_index(world, item) for item in world.system.interfaces)
    table = new_table(world, "struct ifindex_entry", _limit(highest))
    for item in world.system.interfaces:
        entry = table[interface_index(world, item)]
        interface = world.get("ifnet", (item.vnet, item.name))
        entry.ife_ifnet = interface
        # An interface that moved was given its index a second time.
        entry.ife_gencnt = interface.if_idxgen = 0 if item.home is None else 1
    set_variable(world, "ifindex_table", table)
    set_variable(world, "if_index", highest)
    set_variable(world, "if_indexlim", _limit(highest))


def _fill_groups(world: World, jid: int, items: list[Interface]) -> None:
    """`if_addgroup`: groups know their members, interfaces their groups."""
    names = list(dict.fromkeys(name for item in items for name in item.groups))
    groups = {
        name: world.put("ifg_group", (jid, name), world.new("struct ifg_group", ifg_group=name)) for name in names
    }
    members: dict[str, list[Object]] = {name: [] for name in names}
    for item in items:
        interface = world.get("ifnet", (jid, item.name))
        entries = [world.new("struct ifg_list", ifgl_group=groups[name]) for name in item.groups]
        link_stailq(interface.if_groups, entries, "ifgl_next")
        for name in item.groups:
            members[name].append(world.new("struct ifg_member", ifgm_ifp=interface))
    for name, group in groups.items():
        group.ifg_refcnt = len(members[name])
        link_stailq(group.ifg_members, members[name], "ifgm_next")
    link_stailq(world.vnet_symbol(jid, "ifg_head"), list(groups.values()), "ifg_next")
