"""Routing tables, as netstat(1) -r shows them."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.network_options import network_requirements, of_chosen_stacks
from volatility3_freebsd_kvm.output import Columns, Hex, grid

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import route

_COLUMNS: Columns = [
    ("Vnet", Hex),
    ("Jails", str),
    ("FIB", int),
    ("Family", str),
    ("Destination", str),
    ("Gateway", str),
    ("Flags", str),
    ("Netif", str),
    ("MTU", int),
    ("Source", str),
    ("Expire", int),
    ("Expires", datetime.datetime),
    ("Weight", int),
    ("Nhop", int),
    ("Group", int),
    ("Use", int),
    ("Offset", Hex),
    ("Notes", str),
]


class Route(interfaces.plugins.PluginInterface):
    """Lists the routes of every vnet, FIB and family as netstat -rn does, each nexthop of a multipath route too."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which networks."""
        return network_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a route, or several for one with several nexthops; Expire is in seconds from the time of the dump."""
        from volatility3_freebsd_kvm.bsd import route

        return grid(_COLUMNS, of_chosen_stacks(self, route.routes), _row)


def _row(one: route.Route) -> tuple[object, ...]:
    return (
        one.vnet,
        one.jails,
        one.fib,
        one.family,
        one.destination,
        one.gateway,
        one.flags,
        one.interface,
        one.mtu,
        one.source,
        one.seconds_left,
        one.expires,
        one.weight,
        one.nexthop,
        one.group,
        one.used,
        one.address,
        "; ".join(one.notes),
    )
