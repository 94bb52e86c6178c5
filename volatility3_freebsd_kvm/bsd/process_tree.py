"""The tree of processes: who was started by whom.

# Reference: sys/kern/kern_exit.c (proc_realparent, reapers), sys/sys/procctl.h (PROC_REAP_ACQUIRE), bin/ps/ps.c (-d)
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from .kernel import Kernel
from .process import Found, Process, ProcessReader, chosen
from .records import Absent, Problem, attempt

MAX_LEVEL = 100
"""Deeper trees are drawn no deeper: renderers recurse."""
CYCLE = "its parents lead back to itself"


@dataclass(frozen=True)
class Node:
    """A process in the tree.

    Attributes:
        level: how deep it is shown, 0 at the top.
        process: the process.
        reaper: pid of the process that its children fall to when it exits.
    """

    level: int
    process: Process
    reaper: int | Absent


def process_tree(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Node | Problem]:
    """The processes as a tree: parents before their children, the older ones first, each process once.

    Args:
        kernel: the kernel.
        pids: only the trees below these.
        jails: only processes in a jail of that id or name.

    Yields:
        Nodes, and where the lists of processes are irregular.
    """
    nodes: list[Node] = []
    reader, wanted = ProcessReader(kernel), tuple(jails)
    for found in chosen(kernel, (), wanted):
        if isinstance(found, Found):
            nodes.append(_node(reader, found))
        else:
            yield found
    # The lists have the youngest first; that decides where times do not.
    nodes.reverse()
    nodes.sort(key=_age)
    yield from _Tree(nodes, complete=not wanted).walk(frozenset(pids))


def _node(reader: ProcessReader, found: Found) -> Node:
    return Node(0, reader.record(found), attempt(lambda: int(found.proc.p_reaper.p_pid)))


def _age(node: Node) -> float:
    start = node.process.start
    return start.timestamp() if isinstance(start, datetime.datetime) else math.inf


class _Tree:
    """Finds parents by pid and puts processes below them; nothing that a dump says can make it endless."""

    def __init__(self, nodes: list[Node], *, complete: bool) -> None:
        self._nodes = nodes
        self._complete = complete
        self._by_pid: dict[int, int] = {}
        for index, node in enumerate(nodes):
            if isinstance(node.process.pid, int):
                self._by_pid.setdefault(node.process.pid, index)
        self._children: dict[int, list[int]] = {}
        for index in range(len(nodes)):
            parent = self._parent(index)
            if parent is not None:
                self._children.setdefault(parent, []).append(index)
        self._shown: set[int] = set()

    def walk(self, pids: frozenset[int]) -> Iterator[Node | Problem]:
        """The whole tree, or the trees below some pids."""
        if not pids:
            for index in range(len(self._nodes)):
                if self._parent(index) is None:
                    yield from self._below(index, self._why_alone(self._nodes[index].process))
            # Whom no tree has reached has parents that lead in a circle.
            for index in range(len(self._nodes)):
                yield from self._below(index, CYCLE)
            return
        roots = [self._by_pid[pid] for pid in sorted(pids) if pid in self._by_pid]
        # Who is below another wanted one has its place there.
        for root in [one for one in roots if not self._is_below(one, set(roots))] + roots:
            yield from self._below(root, "")
        yield from (Problem(f"pid {pid}", "there is no such process") for pid in sorted(pids - set(self._by_pid)))

    def _parent(self, index: int) -> int | None:
        """Its parent's index; None for who has none that is listed."""
        ppid = self._nodes[index].process.ppid
        parent = self._by_pid.get(ppid) if isinstance(ppid, int) else None
        return None if parent == index else parent

    def _why_alone(self, process: Process) -> str:
        """Only the kernel itself has no parent."""
        if not self._complete or not process.pid or isinstance(process.ppid, Absent):
            return ""
        return CYCLE if process.ppid == process.pid else f"its parent {process.ppid} is not listed"

    def _is_below(self, index: int, others: set[int]) -> bool:
        seen = {index}
        parent = self._parent(index)
        while parent is not None and parent not in seen:
            if parent in others:
                return True
            seen.add(parent)
            parent = self._parent(parent)
        return False

    def _below(self, root: int, note: str) -> Iterator[Node]:
        """The tree below a process, without whom has been shown already."""
        waiting = [(root, 0, note)]
        while waiting:
            index, level, remark = waiting.pop()
            if index in self._shown:
                continue
            self._shown.add(index)
            if level > MAX_LEVEL:
                remark = f"is at level {level}"
            node = self._nodes[index]
            notes = (remark, *node.process.notes) if remark else node.process.notes
            yield replace(node, level=min(level, MAX_LEVEL), process=replace(node.process, notes=notes))
            waiting += [(child, level + 1, "") for child in reversed(self._children.get(index, ()))]
