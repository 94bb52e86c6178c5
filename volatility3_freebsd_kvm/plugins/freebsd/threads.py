"""Threads of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.thread import Thread

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("TID", int),
    ("Command", str),
    ("Name", str),
    ("State", str),
    ("CPU", int),
    ("Last CPU", int),
    ("Priority", int),
    ("Wait message", str),
    ("Wait channel", Hex),
    ("Wait symbol", str),
    ("Lock", str),
    ("PCB", Hex),
    ("Stack", Hex),
    ("Offset", Hex),
    ("Notes", str),
]


class Threads(interfaces.plugins.PluginInterface):
    """Lists the threads of processes and what they wait for, as procstat(1) -t does; CPU is where one was running."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a thread, process by process."""
        from volatility3_freebsd_kvm.bsd.thread import thread_records

        return grid(COLUMNS, thread_records(kernel_of(self), *chosen_processes(self)), _row)


def _row(thread: Thread) -> tuple[object, ...]:
    return (
        thread.pid,
        thread.tid,
        thread.command,
        thread.name,
        thread.state,
        thread.cpu,
        thread.last_cpu,
        thread.priority,
        thread.wait_message,
        thread.wait_channel,
        thread.wait_symbol,
        thread.lock,
        thread.pcb,
        thread.stack,
        thread.offset,
        thread.notes,
    )
