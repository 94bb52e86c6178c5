"""What the scenario says of the network, as the walkers tell it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from tests.bsd.damage import Damage
from tests.scenario.build_interfaces import COUNTERS
from tests.scenario.build_interfaces import FLAGS as FLAG_BITS
from tests.scenario.kernels import build_world
from tests.scenario.model import Interface, InterfaceAddress, Neighbor, Route
from tests.scenario.network_shapes import family_of, interface_index
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable

T = TypeVar("T")
NONE = Absent.NOT_APPLICABLE
BOOT = datetime.fromtimestamp(SYSTEM.boot_time[0], timezone.utc) + timedelta(microseconds=SYSTEM.boot_time[1] // 1000)
UPTIME = SYSTEM.uptime[0]
JAILS = {0: ("0", "web"), 2: ("db", "db.pg")}
"""Who uses the vnets."""
SHAPES = ("12.1-amd64", "12.1-i386", "13.0-amd64", "14-powerpc64", "15-arm64")
"""Every generation, word size and byte order."""


def sound(records: Iterable[T | Problem]) -> list[T]:
    """What a walk found, which must have gone well."""
    found = list(records)
    assert [str(one) for one in found if isinstance(one, Problem)] == []
    return found  # type: ignore[return-value]


def split(records: Iterable[T | Problem]) -> tuple[list[T], list[Problem]]:
    """What a walk found, and what it said of itself."""
    found = list(records)
    return [one for one in found if not isinstance(one, Problem)], [one for one in found if isinstance(one, Problem)]


def vnet(kernel: str, jid: int) -> int:
    return int(build_world(kernel).get("vnet", jid))


def vnet_text(kernel: str, jid: int) -> str:
    """As problems name it."""
    return f"vnet {vnet(kernel, jid):#x} " + ("(host, jail 1 web)" if jid == 0 else "(jail 2 db, jail 3 db.pg)")


def interfaces() -> list[Interface]:
    """Of both vnets, in the order of their lists."""
    return sorted(SYSTEM.interfaces, key=lambda item: (item.vnet, item.index))


def index_of(kernel: str, item: Interface) -> int:
    return interface_index(build_world(kernel), item)


def shown_flags(item: Interface) -> tuple[str, ...]:
    """In the order of bits, as ifconfig prints them."""
    ordered = sorted(item.flags, key=lambda name: FLAG_BITS[name])
    return tuple(name.removeprefix("IFF_").removeprefix("DRV_") for name in ordered)


def counts(item: Interface) -> dict[str, int]:
    return {name: item.counters.get(name, 0) for name in COUNTERS}


def shown_address(item: Interface, address: InterfaceAddress) -> str:
    return address.address + (f"%{item.name}" if address.address.startswith("fe80") else "")


def shown_neighbor(item: Neighbor) -> str:
    return item.address + (f"%{item.interface}" if item.address.startswith("fe80") else "")


def shown_destination(item: Route) -> str:
    """As netstat -r has it."""
    if item.destination.startswith("default"):
        return "default"
    address, slash, prefix = item.destination.partition("/")
    return address + (f"%{item.interface}" if address.startswith("fe80") else "") + slash + prefix


def route_family(item: Route) -> str:
    if item.destination.startswith("default"):
        return "inet6" if item.destination == "default6" else "inet"
    return "inet" if family_of(item.destination.partition("/")[0]) == 2 else "inet6"


def shown_gateway(kernel: str, item: Route, gateway: str) -> str:
    """``link#`` and the index of the interface whose address the destination is, or that the route goes through."""
    if gateway != "link":
        return gateway + (f"%{item.interface}" if gateway.startswith("fe80") else "")
    own = [one for one in SYSTEM.interfaces if one.vnet == item.vnet]
    owner = next((one for one in own if item.destination in {address.address for address in one.addresses}), None)
    through = next(one for one in own if one.name == item.interface)
    return f"link#{index_of(kernel, owner or through)}"


def has_nexthops(kernel: str) -> bool:
    """Since 13.0; the layouts that are called 13.0 are older than that."""
    return bool(build_world(kernel).has("rtentry", "rt_nhop"))


def without_vimage(kernel: str) -> Kernel:
    """The kernel as one without VIMAGE has its symbols: the variables of the host's vnet are plain ones."""
    damage = Damage(kernel)
    if not damage.world.has_symbol("vnet_entry_ifindex_table"):
        table = damage.pointer(int(damage.world.symbol("ifindex_table")))
        for item in SYSTEM.interfaces:
            if item.vnet:
                damage.put(table + index_of(kernel, item) * damage.types.sizeof("struct ifindex_entry"), 0)
    names = walkable(kernel).names
    base, mask = names.vnets[0].data_base, (1 << 8 * damage.word) - 1
    kept = []
    for one in names.symbols:
        if one.name in ("__start_set_vnet", "__stop_set_vnet", "vnet0", "vnet_head"):
            continue
        moved = base if one.name.startswith("vnet_entry_") else 0
        kept.append(Symbol(one.name.removeprefix("vnet_entry_"), one.value + moved & mask, one.size, one.info))
    return damage.kernel(symbols=SymbolTable(kept))
