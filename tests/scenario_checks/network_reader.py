"""A reader of the network from scratch: vnets, counters, socket addresses. It knows nothing of how all was written."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

from tests.scenario.model import Route
from tests.scenario_checks.kernel_reader import KernelReader, minidump

AF_UNIX, AF_INET, AF_LINK, AF_INET6 = 1, 2, 18, 28
PAGE_SIZE = 4096
CPUS = 4
MAGIC = (0x3E0D8F29, 0x5E4A6F28)


class NetworkReader(KernelReader):
    """Reads by vnet; those are named by the jid of the first jail that uses them."""

    def __init__(self, base: KernelReader) -> None:
        super().__init__(base.dump, base.image)
        self.vnets = dict(self._vnets())

    # Shapes

    def kind(self, name: str, member: str) -> str:
        """Of a member's type."""
        return str(self.types.member(name, member).type["kind"])

    def bits(self, va: int, name: str, member: str) -> int:
        """The value of a member that may be a bit field."""
        reference = self.types.member(name, member).type
        value = self.field(va, name, member)
        if reference["kind"] == "bitfield":
            return value >> reference["bit_position"] & (1 << reference["bit_length"]) - 1
        return value

    def data(self, va: int, name: str, path: str) -> bytes:
        """The bytes of a member."""
        return self.read(*self.place(va, name, path))

    def text(self, va: int, name: str, member: str) -> str:
        """The string in an array of characters."""
        return self.data(va, name, member).split(b"\0")[0].decode()

    def port(self, va: int, name: str, path: str) -> int:
        """A number in network byte order."""
        return int.from_bytes(self.data(va, name, path), "big")

    def stailq(self, head: int, name: str, link: str) -> Iterator[int]:
        """A STAILQ; its tail must be right."""
        place, item = head, self.pointer(head)
        while item:
            yield item
            place = self.at(item, name, link)
            item = self.pointer(place)
        assert self.pointer(head + self.word) == place

    def chains(self, table: int, mask: int, size: int, name: str, link: str) -> Iterator[tuple[int, int]]:
        """``(chain, element)`` of a table of LIST heads, which are `size` bytes apart."""
        for chain in range(mask + 1):
            for item in self.list(table + chain * size, name, link):
                yield chain, item

    # Vnets

    def _vnets(self) -> Iterator[tuple[int, int]]:
        known = list(self.list(self.symbol("vnet_head"), "vnet", "vnet_le"))
        prisons = [self.symbol("prison0"), *self.tailq(self.symbol("allprison"), "prison", "pr_list")]
        found: dict[int, int] = {}
        for prison in prisons:
            vnet = self.field(prison, "prison", "pr_vnet")
            assert self.field(vnet, "vnet", "vnet_magic_n") in MAGIC
            found.setdefault(vnet, self.field(prison, "prison", "pr_id"))
        assert set(found) == set(known)
        assert self.variable("vnet0") == next(vnet for vnet, jid in found.items() if jid == 0)
        yield from ((jid, vnet) for vnet, jid in found.items())

    def has_vnet_symbol(self, name: str) -> bool:
        """Whether there is a variable ``V_name``."""
        return self.has_symbol("vnet_entry_" + name)

    def vnet_symbol(self, jid: int, name: str) -> int:
        """The address of ``V_name``."""
        base = self.field(self.vnets[jid], "vnet", "vnet_data_base")
        return (self.symbol("vnet_entry_" + name) + base) % (1 << 8 * self.word)

    def vnet_variable(self, jid: int, name: str) -> int:
        """The number in ``V_name``."""
        size = self.types.size(self.image.variables["vnet_entry_" + name])
        return self.unsigned(self.vnet_symbol(jid, name), size)

    # Values

    def counter(self, pointer: int) -> int:
        """The sum of a `counter_u64_t`."""
        variable = self.image.variables.get("__pcpu", {"kind": ""})
        if "__pcpu" in self.image.symbols and variable["kind"] == "pointer" and self._x86_64:
            pointer = (pointer + self.pointer(self.symbol("__pcpu"))) % (1 << 64)
        return sum(self.unsigned(pointer + cpu * PAGE_SIZE, 8) for cpu in range(CPUS)) % (1 << 64)

    @property
    def _x86_64(self) -> bool:
        return self.word == 8 and self.image.symbols["kernbase"] == 0xFFFFFFFF80000000

    def sockaddr(self, va: int) -> tuple[int, bytes]:
        """Family and bytes of a socket address, as long as it says it is."""
        data = self.read(va, self.read(va, 1)[0])
        return data[1], data

    def inet_address(self, va: int) -> str:
        """The address in a socket address of IPv4 or IPv6."""
        family, data = self.sockaddr(va)
        return address_text(data[4:8] if family == AF_INET else data[8:24])

    def words(self, data: bytes) -> list[int]:
        """32-bit words as the machine reads them."""
        return [int.from_bytes(data[at : at + 4], self.order) for at in range(0, len(data), 4)]


def address_text(data: bytes) -> str:
    """An address in text, a zone within a link-local one taken out."""
    if len(data) == 16 and data[0] == 0xFE and data[1] & 0xC0 == 0x80:
        data = data[:2] + bytes(2) + data[4:]
    return str(ipaddress.ip_address(data))


def destination(route: Route) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """What a route leads to."""
    return ipaddress.ip_network({"default": "0.0.0.0/0", "default6": "::/0"}.get(route.destination, route.destination))


@lru_cache(maxsize=1)
def network(kernel: str) -> NetworkReader:
    """The minidump of the scenario on a kernel."""
    return NetworkReader(minidump(kernel))
