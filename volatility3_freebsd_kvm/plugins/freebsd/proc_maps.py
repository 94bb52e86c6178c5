"""Address maps of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.vm import MapEntry


class Maps(interfaces.plugins.PluginInterface):
    """Lists what is mapped into the address spaces of processes, as procstat -v does."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row an entry of a map; pages are counted by what is resident in the VM objects."""
        from volatility3_freebsd_kvm.bsd.vm import process_maps

        columns = [
            ("PID", int),
            ("Command", str),
            ("Start", Hex),
            ("End", Hex),
            ("Protection", str),
            ("Max protection", str),
            ("Resident", int),
            ("Private", int),
            ("Refs", int),
            ("Shadows", int),
            ("Depth", int),
            ("Flags", str),
            ("Type", str),
            ("Offset", Hex),
            ("Path", str),
            ("Object", Hex),
            ("Notes", str),
        ]
        return grid(columns, process_maps(kernel_of(self), *chosen_processes(self)), _row)


def _row(record: MapEntry) -> tuple[object, ...]:
    return (
        record.pid,
        record.command,
        record.start,
        record.end,
        record.protection,
        record.max_protection,
        record.resident,
        record.private,
        record.references,
        record.shadows,
        record.depth,
        record.flags,
        record.kind,
        record.offset,
        record.path,
        record.object,
        record.notes,
    )
