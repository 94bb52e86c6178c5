"""Addresses of interfaces (netinet/in.c, netinet/in_var.h, netinet6/in6.c, netinet6/in6_var.h)."""

from __future__ import annotations

from itertools import groupby

from tests.writers.objects import Object, addressof, link_stailq

from .model import Interface, InterfaceAddress
from .network_shapes import (
    AF_INET,
    AF_INET6,
    counter,
    host_words,
    interface_index,
    netmask,
    packed,
    sockaddr,
    vnet_hash,
)
from .shapes import fnv_32, link_chain, set_members
from .world import World

IFA_ROUTE, IFA_RTSELF = 0x1, 0x4
INADDR_HASH_SIZE, IN6ADDR_HASH_SIZE = 512, 256
INFINITE_LIFETIME = 0xFFFF_FFFF
SHORT_MASK = 8
"""`sin_len` of a mask that the kernel made up."""

TYPES = {
    "in_ifaddrhead": {"cstqh_first": "struct in_ifaddr *", "cstqh_last": "struct in_ifaddr **"},
    "in6_ifaddrhead": {"cstqh_first": "struct in6_ifaddr *", "cstqh_last": "struct in6_ifaddr **"},
    "in_ifaddrhashhead": {"lh_first": "struct in_ifaddr *"},
    "in6_ifaddrlisthead": {"clh_first": "struct in6_ifaddr *"},
}
VNET = {
    "in_ifaddrhead": "struct in_ifaddrhead",
    "in_ifaddrhashtbl": "struct in_ifaddrhashhead *",
    "in_ifaddrhmask": "unsigned long",
    "in6_ifaddrhead": "struct in6_ifaddrhead",
    "in6_ifaddrhashtbl": "struct in6_ifaddrlisthead *",
    "in6_ifaddrhmask": "unsigned long",
}


def create(world: World) -> None:
    """Every address, on the list of its interface behind the link-level one."""
    for item in world.system.interfaces:
        interface = world.get("ifnet", (item.vnet, item.name))
        addresses = [world.get("ifaddr", (item.vnet, item.name, ""))]
        for address in item.addresses:
            made = _inet(world, item, address) if address.family == "inet" else _inet6(world, item, address)
            world.put("ifaddr", (item.vnet, item.name, address.address), made.ia_ifa)
            world.put(made._type["name"], (item.vnet, item.name, address.address), made)
            _fill_ifaddr(world, item, made.ia_ifa, interface)
            addresses.append(made.ia_ifa)
        link_stailq(interface.if_addrhead, addresses, "ifa_link")


def connect(world: World) -> None:
    """The lists and hashes of every vnet."""
    for jid, items in groupby(sorted(world.system.interfaces, key=_order), key=lambda item: item.vnet):
        interfaces = list(items)
        _fill_lists(world, jid, _of_family(interfaces, "inet"), _of_family(interfaces, "inet6"))


Place = tuple[Interface, InterfaceAddress]


def _order(item: Interface) -> tuple[int, int]:
    return item.vnet, item.index


def _of_family(interfaces: list[Interface], family: str) -> list[Place]:
    return [(item, address) for item in interfaces for address in item.addresses if address.family == family]


def _zone(world: World, item: Interface) -> int:
    return interface_index(world, item)


# One address


def _inet(world: World, item: Interface, address: InterfaceAddress) -> Object:
    """`struct in_ifaddr`: the subnet in host byte order, the rest in socket addresses."""
    made = world.new("struct in_ifaddr")
    own, mask = packed(address.address), netmask(AF_INET, address.prefix)
    made.ia_subnetmask = int.from_bytes(mask, "big")
    made.ia_subnet = int.from_bytes(own, "big") & int.from_bytes(mask, "big")
    _put(world, made, "ia_addr", sockaddr(own))
    if address.peer:
        _put(world, made, "ia_dstaddr", sockaddr(packed(address.peer)))
    short = item.kind == "loop"
    _put(world, made, "ia_sockmask", bytes([SHORT_MASK if short else 16, AF_INET, 0, 0]) + mask)
    made.ia_ifa.ifa_addr = addressof(made, "ia_addr")
    made.ia_ifa.ifa_dstaddr = addressof(made, "ia_dstaddr")
    made.ia_ifa.ifa_netmask = addressof(made, "ia_sockmask")
    return made


def _inet6(world: World, item: Interface, address: InterfaceAddress) -> Object:
    """`struct in6_ifaddr`; link-local addresses have their zone inside."""
    made = world.new("struct in6_ifaddr")
    own, mask = packed(address.address, _zone(world, item)), netmask(AF_INET6, address.prefix)
    _put(world, made, "ia_addr", sockaddr(own))
    _put(world, made, "ia_net", sockaddr(bytes(one & two for one, two in zip(own, mask, strict=True))))
    _put(world, made, "ia_prefixmask", sockaddr(mask))
    made.ia_plen = address.prefix
    made.ia6_lifetime.ia6t_vltime = made.ia6_lifetime.ia6t_pltime = INFINITE_LIFETIME
    made.ia6_createtime = made.ia6_updatetime = 5
    made.ia_ifa.ifa_addr = addressof(made, "ia_addr")
    made.ia_ifa.ifa_netmask = addressof(made, "ia_prefixmask")
    if address.peer:
        _put(world, made, "ia_dstaddr", sockaddr(packed(address.peer)))
        made.ia_ifa.ifa_dstaddr = addressof(made, "ia_dstaddr")
    return made


def _put(world: World, obj: Object, member: str, data: bytes) -> None:
    world.memory.write(addressof(obj, member), data)


def _fill_ifaddr(world: World, item: Interface, ifaddr: Object, interface: Object) -> None:
    ifaddr.ifa_ifp = interface
    ifaddr.ifa_flags = IFA_ROUTE | IFA_RTSELF
    ifaddr.ifa_refcnt = 2
    for name in ("ifa_ipackets", "ifa_opackets", "ifa_ibytes", "ifa_obytes"):
        set_members(world, ifaddr, **{name: counter(world)})


# All addresses of a vnet


def _fill_lists(world: World, jid: int, inet: list[Place], inet6: list[Place]) -> None:
    def found(kind: str, places: list[Place]) -> list[Object]:
        return [world.get(kind, (jid, item.name, address.address)) for item, address in places]

    link_stailq(world.vnet_symbol(jid, "in_ifaddrhead"), found("in_ifaddr", inet), "ia_link")
    link_stailq(world.vnet_symbol(jid, "in6_ifaddrhead"), found("in6_ifaddr", inet6), "ia_link")
    _fill_hash(world, jid, "in", inet, found("in_ifaddr", inet))
    _fill_hash(world, jid, "in6", inet6, found("in6_ifaddr", inet6))


def _fill_hash(world: World, jid: int, family: str, places: list[Place], objects: list[Object]) -> None:
    head, link, size = {
        "in": ("struct in_ifaddrhashhead", "ia_hash", INADDR_HASH_SIZE),
        "in6": ("struct in6_ifaddrlisthead", "ia6_hash", IN6ADDR_HASH_SIZE),
    }[family]
    table = vnet_hash(world, jid, f"{family}_ifaddrhashtbl", f"{family}_ifaddrhmask", head, size)
    chains: dict[int, list[Object]] = {}
    for (item, address), obj in zip(places, objects, strict=True):
        data = packed(address.address, _zone(world, item))
        chains.setdefault(_hash(world, data) & size - 1, []).insert(0, obj)
    for chain, members in chains.items():
        link_chain(table[chain], members, link)


def _hash(world: World, address: bytes) -> int:
    """INADDR_HASHVAL and `in6_addrhash`: FNV of the address, an IPv6 one folded to a word first."""
    folded = 0
    for word in host_words(world, address):
        folded ^= word
    order = "big" if world.memory.machine.byteorder == "big" else "little"
    return fnv_32(folded.to_bytes(4, order))
