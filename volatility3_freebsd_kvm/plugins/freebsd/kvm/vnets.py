"""Virtual network stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.bsd.records import Absent, Problem, attempt
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel
    from volatility3_freebsd_kvm.image.vnet import Vnet


class Vnets(interfaces.plugins.PluginInterface):
    """Lists the virtual network stacks (vnets) and the jails that use each; --vnet of other plugins chooses one."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a vnet, the host's first."""
        kernel = kernel_of(self)
        columns = [
            ("Vnet", Hex),
            ("JID", str),
            ("Jails", str),
            ("Data base", Hex),
            ("Interfaces", int),
            ("Sockets", int),
            ("Notes", str),
        ]
        records: list[Vnet | Problem] = [*kernel.names.vnets]
        records += [Problem("vnet_head", text) for text in kernel.names.vnet_problems]
        if not records:
            records.append(
                Problem(
                    "vnet_head", "no vnets: the kernel was built without VIMAGE, or its symbols do not lead to them"
                )
            )
        return grid(columns, records, lambda vnet: _row(kernel, vnet))


def _row(kernel: Kernel, vnet: Vnet) -> tuple[object, ...]:
    structure = kernel.object("vnet", vnet.address)
    return (
        vnet.address,
        vnet.jids or Absent.NOT_AVAILABLE,
        vnet.jail_names or Absent.NOT_AVAILABLE,
        vnet.data_base,
        attempt(lambda: structure.vnet_ifcnt),
        attempt(lambda: structure.vnet_sockcnt),
        vnet.problem,
    )
