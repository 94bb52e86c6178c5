"""Mounted file systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.mount import Mount as Record


class Mount(interfaces.plugins.PluginInterface):
    """Lists the mounted file systems as mount(8) does, with the jails that see each of them."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a mount, in the kernel's order, which is that of mounting."""
        from volatility3_freebsd_kvm.bsd.mount import mounts

        columns = [
            ("Mounted from", str),
            ("Mounted on", str),
            ("Type", str),
            ("Flags", str),
            ("Owner", int),
            ("Fsid", str),
            ("Vnodes", int),
            ("Jails", str),
            ("Offset", Hex),
            ("Notes", str),
        ]
        return grid(columns, mounts(kernel_of(self)), _row)


def _row(record: Record) -> tuple[object, ...]:
    return (
        record.source,
        record.on,
        record.fstype,
        record.flags,
        record.owner,
        record.fsid,
        record.vnodes,
        record.jails,
        record.address,
        record.notes,
    )
