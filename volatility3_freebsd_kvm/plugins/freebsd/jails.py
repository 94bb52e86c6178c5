"""Jails, as jls(8) lists them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.output import Hex, kernel_of, kernel_requirement, rows

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import jail

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel

_COLUMNS: list[tuple[str, type]] = [
    ("JID", int),
    ("Name", str),
    ("Hostname", str),
    ("Path", str),
    ("IPv4", str),
    ("IPv6", str),
    ("Parent", int),
    ("State", str),
    ("Processes", int),
    ("Vnet", str),
    ("Vnet address", Hex),
    ("Securelevel", int),
    ("OS release", str),
    ("Host UUID", str),
    ("Children", int),
    ("Children max", int),
    ("Statfs", int),
    ("Devfs ruleset", int),
    ("Parameters", str),
    ("Offset", Hex),
    ("Notes", str),
]


class Jails(interfaces.plugins.PluginInterface):
    """Shows the tree of jails as jls does, the host as jail 0, dying and hidden ones too."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which jails."""
        return [
            kernel_requirement(),
            requirements.ListRequirement(
                name="jail",
                element_type=str,
                optional=True,
                description="Only these jails: ids or names",
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """A row for each jail, below that of its parent."""
        wanted = {str(one) for one in self.config.get("jail") or ()}
        return renderers.TreeGrid(_COLUMNS, _tree(kernel_of(self), wanted))


def _tree(kernel: Kernel, wanted: set[str]) -> Iterator[tuple[int, Any]]:
    """``(level, row)``; those of a choice are all on one level."""
    from volatility3_freebsd_kvm.bsd import jail

    level = 0

    def records() -> Iterator[jail.Jail | Problem]:
        nonlocal level
        for record in jail.jails(kernel):
            if isinstance(record, Problem) or not wanted or wanted & {str(record.jid), str(record.name)}:
                level = 0 if isinstance(record, Problem) or wanted else record.level
                yield record

    for row in rows(_COLUMNS, records(), _row):
        yield level, row


def _row(one: jail.Jail) -> tuple[object, ...]:
    return (
        one.jid,
        one.name,
        one.hostname,
        one.path,
        one.ip4,
        one.ip6,
        one.parent,
        one.state,
        one.processes,
        one.own_vnet if isinstance(one.own_vnet, Absent) else "new" if one.own_vnet else "inherit",
        one.vnet,
        one.securelevel,
        one.osrelease,
        one.host_uuid,
        one.children,
        one.children_max,
        one.enforce_statfs,
        one.devfs_ruleset,
        one.parameters,
        one.address,
        "; ".join(one.notes),
    )
