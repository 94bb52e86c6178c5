"""What the run-time linker has loaded into processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.rtld import Library

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("Command", str),
    ("Load address", Hex),
    ("Size", int),
    ("Name", str),
    ("Path", str),
    ("Link map", Hex),
    ("Notes", str),
]


class LibraryList(interfaces.plugins.PluginInterface):
    """Lists the libraries that rtld has loaded into processes, and those that are mapped without its knowledge."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row an object, in rtld's order; then those that it does not know."""
        from volatility3_freebsd_kvm.bsd.rtld import library_records

        return grid(COLUMNS, library_records(kernel_of(self), *chosen_processes(self)), _row)


def _row(library: Library) -> tuple[object, ...]:
    return (
        library.pid,
        library.command,
        library.base,
        library.size,
        library.name,
        library.path,
        library.link_map,
        library.notes,
    )
