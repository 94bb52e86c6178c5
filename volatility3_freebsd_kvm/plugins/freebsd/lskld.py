"""Kernel files and modules, as kldstat(8) lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import linker


class Lskld(interfaces.plugins.PluginInterface):
    """Lists the kernel and the loaded kernel modules as kldstat does, also files that only other lists lead to."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and whether sections are shown."""
        return [
            kernel_requirement(),
            requirements.BooleanRequirement(
                name="sections", description="Show the sections of each file", optional=True, default=False
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row a file, in the order of the linker's list."""
        from volatility3_freebsd_kvm.bsd import linker

        with_sections = bool(self.config.get("sections"))
        columns = [
            ("Id", int),
            ("Refs", int),
            ("Address", Hex),
            ("Size", Hex),
            ("Name", str),
            ("Path", str),
            ("User refs", int),
            ("Load order", int),
            ("Depends on", str),
            ("Modules", str),
            ("Kind", str),
            ("Symbols", int),
            ("Offset", Hex),
            *([("Sections", str)] if with_sections else []),
            ("Notes", str),
        ]
        return grid(columns, linker.files(kernel_of(self)), lambda kld: _row(kld, with_sections=with_sections))


def _row(kld: linker.Kld, *, with_sections: bool) -> tuple[object, ...]:
    file = kld.file
    sections = [f"{name} {start:#x}-{start + size:#x}" for name, start, size in file.sections]
    return (
        file.id,
        file.refs,
        file.base,
        file.size,
        file.filename or None,
        file.pathname or None,
        file.userrefs,
        file.loadcnt,
        kld.dependencies,
        kld.modules,
        file.class_name or None,
        kld.symbols,
        file.address,
        *([sections] if with_sections else []),
        "; ".join(kld.notes),
    )
