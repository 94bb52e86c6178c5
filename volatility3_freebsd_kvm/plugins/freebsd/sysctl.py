"""The sysctl tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import sysctl

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel


class Sysctl(interfaces.plugins.PluginInterface):
    """Shows the sysctl tree with the values in memory and the handlers, and notes handlers outside of known code."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, which part of the tree, and whose values."""
        return [
            kernel_requirement(),
            requirements.ListRequirement(
                name="name",
                element_type=str,
                optional=True,
                description="Only these and what is below them: kern.ipc net.inet.ip",
            ),
            requirements.StringRequirement(
                name="vnet",
                description="Whose VNET variables: a jail's id or name, or the address of a struct vnet",
                optional=True,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row an oid, in the order of their numbers."""
        names = [str(name) for name in self.config.get("name") or ()]
        columns = [
            ("Name", str),
            ("OID", str),
            ("Type", str),
            ("Format", str),
            ("Flags", str),
            ("Value", str),
            ("Handler", Hex),
            ("Handler symbol", str),
            ("Description", str),
            ("Offset", Hex),
            ("Notes", str),
        ]
        return grid(columns, _records(kernel_of(self), names, self.config.get("vnet")), _row)


def _records(kernel: Kernel, names: list[str], vnet: str | None) -> Iterator[sysctl.Sysctl | Problem]:
    from volatility3_freebsd_kvm.bsd import sysctl

    found = set()
    sound = True
    for record in sysctl.sysctls(kernel, names, vnet):
        sound = sound and not isinstance(record, Problem)
        if isinstance(record, sysctl.Sysctl):
            found.add(record.name)
        yield record
    if sound:
        yield from (Problem(name, "there is no such sysctl") for name in names if name.strip(".") not in found)


def _row(item: sysctl.Sysctl) -> tuple[object, ...]:
    return (
        item.name,
        ".".join(map(str, item.oid)),
        item.type or None,
        item.format,
        item.flags,
        item.value,
        item.handler,
        item.handler_symbol or (Absent.NOT_AVAILABLE if item.handler else Absent.NOT_APPLICABLE),
        item.description,
        item.address,
        "; ".join(item.notes),
    )
