"""Processes with their arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.arguments import Arguments

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("EUID", int),
    ("Command", str),
    ("Arguments", str),
    ("Source", str),
    ("Offset", Hex),
    ("Notes", str),
]


class PsAux(interfaces.plugins.PluginInterface):
    """Shows the arguments of processes: the kernel's copy (p_args), else those on the user's stack if it was dumped."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a process, the youngest first."""
        from volatility3_freebsd_kvm.bsd.arguments import argument_records

        return grid(COLUMNS, argument_records(kernel_of(self), *chosen_processes(self)), _row)


def _row(record: Arguments) -> tuple[object, ...]:
    arguments = record.arguments
    return (
        record.pid,
        record.uid,
        record.command,
        " ".join(arguments) if isinstance(arguments, tuple) else arguments,
        record.source,
        record.offset,
        record.notes,
    )
