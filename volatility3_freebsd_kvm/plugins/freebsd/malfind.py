"""Memory of processes that code may have been injected into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers
from volatility3.framework.renderers import format_hints

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, save
from volatility3_freebsd_kvm.process_options import (
    chosen_processes,
    process_requirements,
    saving_requirements,
    size_limit,
)

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.malfind import Suspect, Suspects
    from volatility3_freebsd_kvm.bsd.records import Problem

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("Command", str),
    ("Start", Hex),
    ("End", Hex),
    ("Protection", str),
    ("Reason", str),
    ("Type", str),
    ("Path", str),
]
FILE = ("File", str)
# As in windows.malfind the columns with many lines come last.
BYTES: list[tuple[str, Any]] = [
    ("Notes", str),
    ("Address", Hex),
    ("Hexdump", format_hints.HexBytes),
    ("Disasm", renderers.Disassembly),
]
ARCHITECTURES = {
    ("amd64", 64): "intel64",
    ("amd64", 32): "intel",
    ("i386", 32): "intel",
    ("arm64", 64): "arm64",
    ("arm64", 32): "arm",
    ("arm", 32): "arm",
}
"""The framework's names of what it can disassemble, by FreeBSD's and the word size of the process."""


class Malfind(interfaces.plugins.PluginInterface):
    """Lists memory of processes that code may have been injected into.

    That is memory which is anonymous and executable, or writable and executable, changed pages of programs and
    libraries, and mappings of deleted files. JIT compilers and debuggers make some of these as well.
    """

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, which processes, and whether to save the memory."""
        return [
            *process_requirements(),
            *saving_requirements("the memory of each range", "ranges"),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row a range; minidumps have the ranges, but not the bytes."""
        from volatility3_freebsd_kvm.bsd.malfind import Suspects

        kernel = kernel_of(self)
        suspects = Suspects(kernel)
        row = _row_of(kernel.architecture)
        if self.config.get("dump"):
            return grid([*COLUMNS, FILE, *BYTES], self._saved(suspects), lambda one: row(*one))
        records = suspects.records(*chosen_processes(self))
        return grid([*COLUMNS, *BYTES], records, row)

    def _saved(self, suspects: Suspects) -> Iterator[tuple[Suspect, object, tuple[str, ...]] | Problem]:
        """Ranges with the names of their files and further notes."""
        from volatility3_freebsd_kvm.bsd.records import Absent, Problem

        limit = size_limit(self)
        for record in suspects.records(*chosen_processes(self)):
            if isinstance(record, Problem):
                yield record
                continue
            section = suspects.section(record, limit)
            name = save(self.open, section.name, section.size, section.pieces()) if section.size else None
            yield record, name or Absent.NOT_APPLICABLE, section.notes


def _row_of(architecture: str) -> Callable[..., tuple[object, ...]]:
    """Makes rows; the name of a file is a column only where it is given."""

    def row(suspect: Suspect, *more: Any) -> tuple[object, ...]:
        file, notes = (more[:1], more[1]) if more else ((), ())
        return (
            suspect.pid,
            suspect.command,
            suspect.start,
            suspect.end,
            suspect.protection,
            suspect.reasons,
            suspect.kind,
            suspect.path,
            *file,
            tuple(dict.fromkeys((*suspect.notes, *notes))),
            suspect.address,
            suspect.data,
            _disassembly(suspect, ARCHITECTURES.get((architecture, suspect.bits))),
        )

    return row


def _disassembly(suspect: Suspect, architecture: str | None) -> object:
    if not isinstance(suspect.data, bytes) or not isinstance(suspect.address, int):
        return renderers.UnreadableValue()
    if architecture is None:
        return renderers.NotApplicableValue()
    return renderers.Disassembly(suspect.data, suspect.address, architecture)
