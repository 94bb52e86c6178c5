"""Modules of the kernel and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import linker


class Lsmod(interfaces.plugins.PluginInterface):
    """Lists the modules in the kernel and its files as kldstat -v does, and notes what not every list of them has."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a module, in the order of registration."""
        from volatility3_freebsd_kvm.bsd import linker

        columns = [
            ("Id", int),
            ("Refs", int),
            ("Name", str),
            ("Version", int),
            ("File", str),
            ("Handler", Hex),
            ("Handler symbol", str),
            ("Argument", Hex),
            ("Offset", Hex),
            ("Notes", str),
        ]
        return grid(columns, linker.modules(kernel_of(self)), _row)


def _row(module: linker.Module) -> tuple[object, ...]:
    return (
        module.id,
        module.refs,
        module.name,
        module.version,
        module.file_name or None,
        module.handler,
        module.handler_symbol or (Absent.NOT_AVAILABLE if module.handler else Absent.NOT_APPLICABLE),
        module.argument,
        Absent.NOT_APPLICABLE if module.address is None else module.address,
        "; ".join(module.notes),
    )
