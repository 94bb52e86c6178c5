"""The kernel environment, as kenv(1) shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import kenv


class Kenv(interfaces.plugins.PluginInterface):
    """Shows the kernel environment: what the loader, the kernel's configuration and kenv(1) have set."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a variable; Source tells where it is: kenvp is what is in force."""
        from volatility3_freebsd_kvm.bsd import kenv

        columns = [("Name", str), ("Value", str), ("Source", str), ("Offset", Hex), ("Notes", str)]
        return grid(columns, kenv.variables(kernel_of(self)), _row)


def _row(variable: kenv.Variable) -> tuple[object, ...]:
    return variable.name, variable.value, variable.sources, variable.address, "; ".join(variable.notes)
