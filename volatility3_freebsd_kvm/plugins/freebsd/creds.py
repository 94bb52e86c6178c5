"""Credentials of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.credentials import Credentials

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("Command", str),
    ("EUID", int),
    ("RUID", int),
    ("SVUID", int),
    ("EGID", int),
    ("RGID", int),
    ("SVGID", int),
    ("Groups", str),
    ("JID", int),
    ("Jail", str),
    ("Login", str),
    ("Login class", str),
    ("Capability mode", bool),
    ("Audit ID", int),
    ("Audit session", int),
    ("Ucred", Hex),
    ("Notes", str),
]


class Creds(interfaces.plugins.PluginInterface):
    """Shows who processes are: user and group ids, supplementary groups, jail, login class, Capsicum, audit ids."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a process, the youngest first."""
        from volatility3_freebsd_kvm.bsd.credentials import credential_records

        return grid(COLUMNS, credential_records(kernel_of(self), *chosen_processes(self)), _row)


def _row(record: Credentials) -> tuple[object, ...]:
    return (
        record.pid,
        record.command,
        record.euid,
        record.ruid,
        record.svuid,
        record.egid,
        record.rgid,
        record.svgid,
        record.groups,
        record.jid,
        record.jail,
        record.login,
        record.login_class,
        record.capability_mode,
        record.audit_id,
        record.audit_session,
        record.offset,
        record.notes,
    )
