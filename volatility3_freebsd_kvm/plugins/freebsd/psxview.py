"""Processes by every way that leads to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.process_views import SeenProcess


class PsXView(interfaces.plugins.PluginInterface):
    """Compares lists, hash tables, trees and bitmaps of processes; False marks where one is missing, perhaps hidden."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a process that any of them knows, and one for each pid in use that no process has."""
        from volatility3_freebsd_kvm.bsd.process_views import VIEWS, process_views

        columns: list[tuple[str, Any]] = [
            ("PID", int),
            ("Command", str),
            ("State", str),
            *((view.title, bool) for view in VIEWS),
            ("Offset", Hex),
            ("Notes", str),
        ]
        return grid(columns, process_views(kernel_of(self)), _row)


def _row(process: SeenProcess) -> tuple[object, ...]:
    return (
        process.pid,
        process.command,
        process.state,
        *process.seen.values(),
        process.offset,
        process.notes,
    )
