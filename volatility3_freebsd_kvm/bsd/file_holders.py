"""Which descriptors lead to a pipe or a socket: who is at the other end of one.

# Reference: sys/sys/filedesc.h, sys/sys/file.h
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from ..exceptions import KVMError
from .file import Files, table_of
from .kernel import Kernel
from .objects import Object
from .process import procs

_KINDS = ("pipe", "fifo", "socket")
_MAX_SHOWN = 4


class Holders:
    """The descriptors that lead to each end of a pipe and to each socket, found when somebody asks first."""

    def __init__(self, kernel: Kernel, files: Files) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._files = files

    def of(self, address: int) -> tuple[tuple[int, int], ...]:
        """``(pid, descriptor)`` of all that lead to the pipe or socket at an address."""
        return tuple(self._all.get(address, ()))

    def text(self, address: int) -> str:
        """The same as text: ``880/4, 881/4``; empty if there are none."""
        found = [f"{pid}/{number}" for pid, number in self.of(address)]
        more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
        return ", ".join(found[:_MAX_SHOWN]) + more

    @cached_property
    def _all(self) -> dict[int, list[tuple[int, int]]]:
        found: dict[int, list[tuple[int, int]]] = {}
        for proc in procs(self._kernel):
            if isinstance(proc, Object):
                for pid, number, data in self._of_process(proc):
                    found.setdefault(data, []).append((pid, number))
        return found

    def _of_process(self, proc: Object) -> Iterator[tuple[int, int, int]]:
        """Pid, descriptor and ``f_data``; what is irregular is told by whoever lists the descriptors."""
        try:
            pid = int(proc.p_pid)
            table = table_of(self._files, proc)
        except KVMError:
            return
        for entry in table or ():
            try:
                file = self._files.read(entry.file)
            except KVMError:
                continue
            if file.kind in _KINDS:
                yield pid, entry.number, file.data
