"""Neighbours, as arp(8) and ndp(8) show them."""

from __future__ import annotations

import datetime
from collections.abc import Generator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.bsd.records import Problem
from volatility3_freebsd_kvm.network_options import network_requirements, of_chosen_stacks
from volatility3_freebsd_kvm.output import Columns, Hex, clean, grid
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.neighbor import Neighbor

_COLUMNS: Columns = [
    ("Vnet", Hex),
    ("Jails", str),
    ("Family", str),
    ("Address", str),
    ("Link address", str),
    ("Interface", str),
    ("State", str),
    ("Expire", int),
    ("Expires", datetime.datetime),
    ("Used", datetime.datetime),
    ("Flags", str),
    ("Offset", Hex),
    ("Notes", str),
]


class Arp(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Lists the neighbours of IPv4 (ARP) and IPv6 (ND) in every vnet, as arp -an and ndp -an do together."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which networks."""
        return network_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a neighbour; Expire is in seconds from the time of the dump."""
        from volatility3_freebsd_kvm.bsd.neighbor import neighbors

        return grid(_COLUMNS, of_chosen_stacks(self, neighbors), _row)

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """When neighbours were used last, where the kernel remembers that."""
        from volatility3_freebsd_kvm.bsd.neighbor import neighbors

        for one in of_chosen_stacks(self, neighbors):
            if not isinstance(one, Problem) and isinstance(one.used, datetime.datetime):
                what = f"Neighbor {one.text} at {one.link_address} on {clean(str(one.interface))} was used"
                yield what, TimeLinerType.ACCESSED, one.used


def _row(one: Neighbor) -> tuple[object, ...]:
    return (
        one.vnet,
        one.jails,
        one.family,
        one.text,
        one.link_address,
        one.interface,
        one.state,
        one.seconds_left,
        one.expires,
        one.used,
        one.flags,
        one.address,
        "; ".join(one.notes),
    )
