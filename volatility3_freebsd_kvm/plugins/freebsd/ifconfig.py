"""Network interfaces, as ifconfig(8) shows them."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.network_options import network_requirements, of_chosen_stacks
from volatility3_freebsd_kvm.output import Columns, Hex, clean, grid
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

_NONE = Absent.NOT_APPLICABLE
_COUNTS = {
    "Ipkts": "ipackets",
    "Ierrs": "ierrors",
    "Idrop": "iqdrops",
    "Ibytes": "ibytes",
    "Opkts": "opackets",
    "Oerrs": "oerrors",
    "Odrop": "oqdrops",
    "Obytes": "obytes",
    "Coll": "collisions",
}
"""Columns of netstat -i."""
_COLUMNS: Columns = [
    ("Vnet", Hex),
    ("Jails", str),
    ("Interface", str),
    ("Index", int),
    ("Flags", str),
    ("MTU", int),
    ("Link address", str),
    ("Family", str),
    ("Address", str),
    ("Prefix", int),
    ("Broadcast", str),
    ("Peer", str),
    ("Address flags", str),
    ("Type", str),
    ("Link state", str),
    ("Driver", str),
    ("Driver flags", str),
    ("Groups", str),
    ("Description", str),
    *((name, int) for name in _COUNTS),
    ("Promisc", int),
    ("Promisc by", str),
    ("Home vnet", Hex),
    ("FIB", int),
    ("Attached", datetime.datetime),
    ("Changed", datetime.datetime),
    ("Offset", Hex),
    ("Notes", str),
]

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.ifaddr import InterfaceAddress
    from volatility3_freebsd_kvm.bsd.ifnet import Interface

    Row = tuple[Interface, InterfaceAddress]


class Ifconfig(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Lists network interfaces of every vnet with each of their addresses and counters, and tells hidden ones."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which networks."""
        return network_requirements()

    def run(self) -> renderers.TreeGrid:
        """A row for each address, with all that is known of its interface; one for an interface without addresses."""
        return grid(_COLUMNS, self._rows(), _row)

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """When interfaces were attached, and when they were changed last."""
        from volatility3_freebsd_kvm.bsd.ifnet import interfaces as walk

        for one in of_chosen_stacks(self, walk):
            if isinstance(one, Problem):
                continue
            name = clean(str(one.name))
            if isinstance(one.attached, datetime.datetime):
                yield f"Interface {name} ({one.address:#x}) was attached", TimeLinerType.CREATED, one.attached
            if isinstance(one.changed, datetime.datetime):
                yield f"Interface {name} ({one.address:#x}) was changed", TimeLinerType.MODIFIED, one.changed

    def _rows(self) -> Iterator[Row | Problem]:
        from volatility3_freebsd_kvm.bsd.ifaddr import InterfaceAddress
        from volatility3_freebsd_kvm.bsd.ifnet import interfaces as walk

        nothing = InterfaceAddress(0, _NONE, _NONE, flags=_NONE)
        for one in of_chosen_stacks(self, walk):
            if isinstance(one, Problem):
                yield one
            else:
                yield from ((one, address) for address in one.addresses or (nothing,))


def _row(item: Row) -> tuple[object, ...]:
    one, address = item
    return (
        one.vnet,
        one.jails,
        one.name,
        one.index,
        one.flags,
        one.mtu,
        one.link_address,
        address.family,
        address.text,
        address.prefix,
        address.broadcast,
        address.peer,
        address.flags,
        one.type,
        one.link_state,
        one.driver,
        one.driver_flags,
        one.groups,
        one.description,
        *(one.counts[name] for name in _COUNTS.values()),
        one.promiscuous,
        one.promiscuous_by,
        one.home,
        one.fib,
        one.attached,
        one.changed,
        one.address,
        "; ".join((*address.notes, *one.notes)),
    )
