"""Processes."""

from __future__ import annotations

import datetime
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, clean, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.process import Process

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("PPID", int),
    ("PGID", int),
    ("SID", int),
    ("UID", int),
    ("EUID", int),
    ("GID", int),
    ("JID", int),
    ("TTY", str),
    ("State", str),
    ("Start", datetime.datetime),
    ("Threads", int),
    ("Emulation", str),
    ("Command", str),
    ("Flags", str),
    ("Offset", Hex),
    ("Notes", str),
]


class PsList(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Lists the processes as ps(1) does, zombies too; UID is the real user, EUID and GID are the effective ids."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a process, the youngest first, zombies last."""
        from volatility3_freebsd_kvm.bsd.process import process_records

        return grid(COLUMNS, process_records(kernel_of(self), *chosen_processes(self)), row)

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """When each process was forked."""
        from volatility3_freebsd_kvm.bsd.process import Process, process_records

        for record in process_records(kernel_of(self), *chosen_processes(self)):
            if isinstance(record, Process) and isinstance(record.start, datetime.datetime):
                command = clean(str(record.command))
                description = f"Process {record.pid} {command} ({record.offset:#x}) was started"
                yield description, TimeLinerType.CREATED, record.start


def row(process: Process) -> tuple[object, ...]:
    """The cells of a process."""
    return (
        process.pid,
        process.ppid,
        process.pgid,
        process.sid,
        process.uid,
        process.euid,
        process.gid,
        process.jid,
        process.tty,
        process.state,
        process.start,
        process.threads,
        process.emulation,
        process.command,
        process.flags,
        process.offset,
        process.notes,
    )
