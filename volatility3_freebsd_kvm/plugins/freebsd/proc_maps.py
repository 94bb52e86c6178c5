"""Address maps of processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, save
from volatility3_freebsd_kvm.process_options import (
    chosen_processes,
    process_requirements,
    saving_requirements,
    size_limit,
)

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel
    from volatility3_freebsd_kvm.bsd.records import Problem
    from volatility3_freebsd_kvm.bsd.vm import MapEntry

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("Command", str),
    ("Start", Hex),
    ("End", Hex),
    ("Protection", str),
    ("Max protection", str),
    ("Resident", int),
    ("Private", int),
    ("Refs", int),
    ("Shadows", int),
    ("Depth", int),
    ("Flags", str),
    ("Type", str),
    ("Offset", Hex),
    ("Path", str),
    ("Object", Hex),
]
NOTES, FILE = ("Notes", str), ("File", str)


class Maps(interfaces.plugins.PluginInterface):
    """Lists what is mapped into the address spaces of processes, as procstat -v does, and saves it with --dump."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 1, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, which processes, which of their entries, and whether to save these."""
        return [
            *process_requirements(),
            requirements.ListRequirement(
                name="address",
                description="Only entries that hold one of these addresses",
                element_type=int,
                optional=True,
            ),
            *saving_requirements("the memory of each entry", "entries"),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row an entry of a map; pages are counted by what is resident in the VM objects."""
        from volatility3_freebsd_kvm.bsd.vm import process_maps

        kernel = kernel_of(self)
        records = self._chosen(process_maps(kernel, *chosen_processes(self)))
        if self.config.get("dump"):
            return grid([*COLUMNS, FILE, NOTES], self._saved(kernel, records), lambda one: (*_row(one[0]), *one[1:]))
        return grid([*COLUMNS, NOTES], records, lambda record: (*_row(record), record.notes))

    def _chosen(self, records: Iterable[MapEntry | Problem]) -> Iterator[MapEntry | Problem]:
        from volatility3_freebsd_kvm.bsd.records import Problem

        addresses = [int(one) for one in self.config.get("address") or ()]
        for record in records:
            if isinstance(record, Problem) or not addresses or any(_holds(record, one) for one in addresses):
                yield record

    def _saved(
        self, kernel: Kernel, records: Iterable[MapEntry | Problem]
    ) -> Iterator[tuple[MapEntry, object, tuple[str, ...]] | Problem]:
        """Entries with the names of their files and their notes."""
        from volatility3_freebsd_kvm.bsd.records import Absent, Problem
        from volatility3_freebsd_kvm.bsd.user import UserMemories
        from volatility3_freebsd_kvm.bsd.user_dump import Sections

        sections = Sections(UserMemories(kernel), size_limit(self))
        told: tuple[str, ...] = ()
        for record in records:
            if isinstance(record, Problem):
                yield record
                continue
            section = sections.of(record)
            if sections.notes is not told:
                told = sections.notes
                yield from (Problem(f"memory of process {record.pid}", note) for note in told)
            name = save(self.open, section.name, section.size, section.pieces()) if section.size else None
            yield record, name or Absent.NOT_APPLICABLE, (*record.notes, *section.notes)


def _holds(record: MapEntry, address: int) -> bool:
    start, end = record.start, record.end
    return isinstance(start, int) and isinstance(end, int) and start <= address < end


def _row(record: MapEntry) -> tuple[object, ...]:
    return (
        record.pid,
        record.command,
        record.start,
        record.end,
        record.protection,
        record.max_protection,
        record.resident,
        record.private,
        record.references,
        record.shadows,
        record.depth,
        record.flags,
        record.kind,
        record.offset,
        record.path,
        record.object,
    )
