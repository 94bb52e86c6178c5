"""Shapes that the builders of the network share: addresses, hashes, per-CPU counters, variables of a vnet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tests.writers.objects import Object, addressof, assign

from .model import Interface
from .shapes import set_members
from .world import World

AF_UNIX, AF_INET, AF_LINK, AF_INET6 = 1, 2, 18, 28
FAMILIES = {"unix": AF_UNIX, "inet": AF_INET, "inet6": AF_INET6}
SOCKADDR_IN6_SIZE = 28
CALLOUT_ACTIVE, CALLOUT_PENDING = 0x2, 0x4


# Addresses


def family_of(address: str) -> int:
    """The address family of an address in text."""
    return AF_INET if ipaddress.ip_address(address).version == 4 else AF_INET6


def packed(address: str, zone: int = 0) -> bytes:
    """The bytes of an address; the kernel keeps the zone of a link-local one in its bytes 2 and 3 (in6_setscope)."""
    data = ipaddress.ip_address(address).packed
    if zone and len(data) == 16 and ipaddress.ip_address(address).is_link_local:
        return data[:2] + zone.to_bytes(2, "big") + data[4:]
    return data


def sockaddr(address: bytes, port: int = 0) -> bytes:
    """A `struct sockaddr_in` or `struct sockaddr_in6` with an address of 4 or 16 bytes."""
    port_bytes = port.to_bytes(2, "big")
    if len(address) == 4:
        return bytes([16, AF_INET]) + port_bytes + address + bytes(8)
    return bytes([SOCKADDR_IN6_SIZE, AF_INET6]) + port_bytes + bytes(4) + address + bytes(4)


def sockaddr_dl(world: World, index: int, link_type: int, name: str, address: bytes, size: int) -> bytes:
    """A `struct sockaddr_dl` of `size` bytes."""
    order: Any = world.memory.machine.byteorder
    head = bytes([size, AF_LINK]) + index.to_bytes(2, order) + bytes([link_type, len(name), len(address), 0])
    return (head + name.encode() + address).ljust(size, b"\0")


def link_address(text: str) -> bytes:
    """The bytes of an Ethernet address."""
    return bytes.fromhex(text.replace(":", ""))


def netmask(family: int, prefix: int) -> bytes:
    """The mask of a prefix length."""
    bits = 32 if family == AF_INET else 128
    return ((1 << bits) - (1 << bits - prefix)).to_bytes(bits // 8, "big")


def prefix_of(text: str) -> tuple[bytes, int]:
    """Address and prefix length of a route's destination; ``default`` and ``default6`` are the default routes."""
    names = {"default": "0.0.0.0/0", "default6": "::/0"}
    network = ipaddress.ip_network(names.get(text, text))
    return network.network_address.packed, network.prefixlen


# Hashes


def host_words(world: World, data: bytes) -> list[int]:
    """Bytes as the machine reads them in 32-bit words."""
    order: Any = world.memory.machine.byteorder
    return [int.from_bytes(data[at : at + 4], order) for at in range(0, len(data), 4)]


def jenkins_hash32(words: Sequence[int], start: int) -> int:
    """`jenkins_hash32` of libkern/jenkins_hash.c: hashword() of Bob Jenkins' lookup3."""
    a = b = c = (0xDEADBEEF + 4 * len(words) + start) & 0xFFFFFFFF
    rest = list(words)
    while len(rest) > 3:
        a, b, c = a + rest[0], b + rest[1], c + rest[2]
        for shift in (4, 6, 8, 16, 19, 4):
            a = (a - c & 0xFFFFFFFF) ^ _rotate(c, shift)
            a, b, c = b & 0xFFFFFFFF, (c + b) & 0xFFFFFFFF, a
        rest = rest[3:]
    if rest:
        a, b, c = (value + word & 0xFFFFFFFF for value, word in zip((a, b, c), [*rest, 0, 0][:3], strict=True))
        for shift in (14, 11, 25, 16, 4, 14, 24):
            c = ((c ^ b) - _rotate(b, shift)) & 0xFFFFFFFF
            a, b, c = b, c, a
        return b
    return c


def _rotate(value: int, count: int) -> int:
    value &= 0xFFFFFFFF
    return (value << count | value >> 32 - count) & 0xFFFFFFFF


def new_table(world: World, type_name: str, count: int) -> Object:
    """A zeroed array of `count`."""
    return world.memory.new({"kind": "array", "count": count, "subtype": world.memory.types.parse(type_name)})


# Variables of a vnet


def vnets(world: World) -> Iterator[tuple[int, Object]]:
    """Every vnet with its jid."""
    yield from world.all("vnet").items()


def has_vnet_symbol(world: World, name: str) -> bool:
    """Whether the kernel has ``V_name`` as a VNET variable."""
    return world.has_symbol("vnet_entry_" + name)


def set_vnet_variable(world: World, jid: int, name: str, value: Any) -> None:
    """Give ``V_name`` of a vnet a value, if the kernel has it."""
    if has_vnet_symbol(world, name):
        assign(world.vnet_symbol(jid, name), value)


def vnet_hash(world: World, jid: int, name: str, mask_name: str, head: str, count: int) -> Object:
    """What hashinit(9) makes for a vnet."""
    table = new_table(world, head, count)
    set_vnet_variable(world, jid, name, table)
    set_vnet_variable(world, jid, mask_name, count - 1)
    return table


def interface_index(world: World, interface: Interface) -> int:
    """`if_index`: until 13 each vnet numbers its own interfaces, later one table serves all."""
    own = has_vnet_symbol(world, "ifindex_table") or has_vnet_symbol(world, "if_index")
    return interface.index if own else interface.global_index or interface.index


def zone_of(world: World, jid: int, name: str) -> int:
    """The zone of an address's scope: the index of the interface of that name in a vnet, 0 without a name."""
    found = [item for item in world.system.interfaces if (item.vnet, item.name) == (jid, name)]
    return interface_index(world, found[0]) if found else 0


# counter(9)


class _CounterZone:
    """A zone of per-CPU integers: in a slab, each CPU has a page of its own (UMA_PCPU_ALLOC_SIZE)."""

    def __init__(self, world: World) -> None:
        self.page_size = world.memory.machine.page_size
        self.slab, self.at = 0, self.page_size

    def allocate(self, world: World) -> int:
        """The address of CPU 0's copy of a new counter."""
        if self.at == self.page_size:
            self.slab = world.memory.allocate(len(world.system.cpus) * self.page_size, align=self.page_size)
            self.at = 0
        self.at += 8
        return self.slab + self.at - 8


_zones: WeakKeyDictionary[World, _CounterZone] = WeakKeyDictionary()


def counter(world: World, value: int = 0) -> int:
    """A `counter_u64_t` whose CPUs' parts add up to `value`: the pointer as structures hold it."""
    zone = _zones.setdefault(world, _CounterZone(world))
    address = zone.allocate(world)
    cpus = len(world.system.cpus)
    share = value // (cpus + 1)
    order: Any = world.memory.machine.byteorder
    for number in range(cpus):
        part = share if number else value - share * (cpus - 1)
        world.memory.write(address + number * zone.page_size, part.to_bytes(8, order))
    return address - _counter_bias(world)


def _counter_bias(world: World) -> int:
    """13.0 on amd64: per-CPU pointers are relative to `__pcpu`, a pointer since then (zpcpu_base_to_offset)."""
    if world.arch != "amd64" or not world.has_symbol("__pcpu"):
        return 0
    if world.memory.image.variables["__pcpu"]["kind"] != "pointer":
        return 0
    return world.memory.read_pointer(addressof(world.symbol("__pcpu")))


# Callouts


def callout(world: World, obj: Object, function: str, argument: Object | int, due: int = 0) -> None:
    """A `struct callout`, active until `due` seconds of uptime, or idle."""
    set_members(world, obj, c_func=world.function(function), c_arg=argument)
    if due:
        set_members(world, obj, c_time=due << 32, c_flags=CALLOUT_ACTIVE)
