"""Environment variables of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.arguments import Variable

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("Command", str),
    ("Name", str),
    ("Value", str),
    ("Offset", Hex),
    ("Notes", str),
]


class Envars(interfaces.plugins.PluginInterface):
    """Shows the environment of processes, which is on the user's stack; minidumps do not hold that."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a variable, or one a process that says why there are none."""
        from volatility3_freebsd_kvm.bsd.arguments import environment_records

        return grid(COLUMNS, environment_records(kernel_of(self), *chosen_processes(self)), _row)


def _row(variable: Variable) -> tuple[object, ...]:
    return (
        variable.pid,
        variable.command,
        variable.name,
        variable.value,
        variable.offset,
        variable.notes,
    )
