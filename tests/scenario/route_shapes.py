"""What a described route means in memory, whichever structures hold it."""

from __future__ import annotations

import ipaddress

from tests.writers.objects import Object

from .build_interfaces import KINDS
from .model import Interface, Route
from .network_shapes import AF_LINK, family_of, interface_index, packed, prefix_of, sockaddr
from .world import World

RTF_UP, RTF_HOST, RTF_DYNAMIC, RTF_STATIC, RTF_PINNED = 0x1, 0x4, 0x10, 0x800, 0x10_0000
LETTERS = {"U": 0x1, "G": 0x2, "H": 0x4, "R": 0x8, "D": 0x10, "M": 0x20, "S": 0x800, "B": 0x1000}
LETTERS |= {"2": 0x4000, "1": 0x8000, "3": 0x4_0000, "b": 0x40_0000}
"""As netstat(1) shows flags; RTF_PINNED, which routes of interfaces have, has no letter."""


def flags_of(route: Route) -> int:
    """RTF_ flags."""
    flags = sum(LETTERS[letter] for letter in route.flags)
    return flags | (RTF_PINNED if route.gateway == "link" else 0)


def interface_of(world: World, jid: int, name: str) -> Interface:
    """The description of an interface."""
    return next(item for item in world.system.interfaces if (item.vnet, item.name) == (jid, name))


def owner_of(world: World, route: Route) -> Interface:
    """The interface that a route's destination is an address of, else the one that it goes through."""
    destination, _ = prefix_of(route.destination)
    for item in world.system.interfaces:
        if item.vnet == route.vnet and any(packed(address.address) == destination for address in item.addresses):
            return item
    return interface_of(world, route.vnet, route.interface)


def address_of(world: World, route: Route, name: str, gateway: str, family: int) -> Object:
    """`rt_ifa`: the address of the interface that reaches the gateway or the destination, else any."""
    item = owner_of(world, route) if gateway == "link" else interface_of(world, route.vnet, name)
    target = ipaddress.ip_address(prefix_of(route.destination)[0] if gateway == "link" else gateway)
    same = [address for address in item.addresses if family_of(address.address) == family]
    best = [
        address
        for address in same
        if target in ipaddress.ip_network(f"{address.address}/{address.prefix}", strict=False)
    ]
    key = next((address.address for address in [*best, *same]), "")
    return world.get("ifaddr", (item.vnet, item.name, key))


def gateway_bytes(world: World, route: Route, name: str, gateway: str, size: int) -> bytes:
    """The gateway's socket address: for an interface, its index in a link-level one of `size` bytes."""
    if gateway != "link":
        zone = interface_index(world, interface_of(world, route.vnet, name))
        return sockaddr(packed(gateway, zone))
    item = owner_of(world, route)
    order = "big" if world.memory.machine.byteorder == "big" else "little"
    index = interface_index(world, item).to_bytes(2, order)
    return (bytes([size, AF_LINK]) + index + bytes([KINDS[item.kind][0]])).ljust(size, b"\0")
