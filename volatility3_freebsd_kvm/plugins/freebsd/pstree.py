"""Processes as a tree."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.bsd.records import Problem
from volatility3_freebsd_kvm.output import Hex, kernel_of, rows
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.process_tree import Node

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("PPID", int),
    ("PGID", int),
    ("SID", int),
    ("EUID", int),
    ("JID", int),
    ("TTY", str),
    ("State", str),
    ("Start", datetime.datetime),
    ("Reaper", int),
    ("Command", str),
    ("Offset", Hex),
    ("Notes", str),
]


class PsTree(interfaces.plugins.PluginInterface):
    """Shows the processes below their parents; --pid shows the trees below these."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a process, behind its parent's."""
        from volatility3_freebsd_kvm.bsd.process_tree import process_tree

        return renderers.TreeGrid(COLUMNS, _levels(process_tree(kernel_of(self), *chosen_processes(self))))


def _levels(nodes: Iterable[Node | Problem]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Rows with their levels."""
    from volatility3_freebsd_kvm.bsd.process_tree import Node

    level = 0

    def remember() -> Iterator[Node | Problem]:
        nonlocal level
        for node in nodes:
            level = node.level if isinstance(node, Node) else 0
            yield node

    yield from ((level, values) for values in rows(COLUMNS, remember(), _row))


def _row(node: Node) -> tuple[object, ...]:
    process = node.process
    return (
        process.pid,
        process.ppid,
        process.pgid,
        process.sid,
        process.euid,
        process.jid,
        process.tty,
        process.state,
        process.start,
        node.reaper,
        process.command,
        process.offset,
        process.notes,
    )
