"""ELF images in the memory of processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, save
from volatility3_freebsd_kvm.process_options import (
    chosen_processes,
    process_requirements,
    saving_requirements,
    size_limit,
)

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.elfs import Image
    from volatility3_freebsd_kvm.bsd.records import Problem

COLUMNS: list[tuple[str, Any]] = [
    ("PID", int),
    ("Command", str),
    ("Start", Hex),
    ("End", Hex),
    ("Type", str),
    ("Bits", int),
    ("Machine", str),
    ("Segments", str),
    ("Missing", str),
    ("Built for", int),
    ("Build ID", str),
    ("Path", str),
]
NOTES, FILE = ("Notes", str), ("File", str)


class Elfs(interfaces.plugins.PluginInterface):
    """Lists the ELF images in the memory of processes, also those that hide among data, and saves them with --dump."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, which processes, and whether to save the images."""
        return [
            *process_requirements(),
            *saving_requirements("each image as a file", "images"),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row an image; what is missing counts the pages that its file would fill."""
        from volatility3_freebsd_kvm.bsd.elfs import image_records

        records = image_records(kernel_of(self), *chosen_processes(self))
        if self.config.get("dump"):
            return grid([*COLUMNS, FILE, NOTES], self._saved(records), lambda one: (*_row(one[0]), *one[1:]))
        return grid([*COLUMNS, NOTES], records, lambda image: (*_row(image), image.notes))

    def _saved(self, records: Iterable[Image | Problem]) -> Iterator[tuple[Image, object, tuple[str, ...]] | Problem]:
        """Images with the names of their files and their notes."""
        from volatility3_freebsd_kvm.bsd.elf_dump import elf_file
        from volatility3_freebsd_kvm.bsd.records import Absent, Problem

        limit = size_limit(self)
        for record in records:
            if isinstance(record, Problem):
                yield record
                continue
            file = elf_file(record, limit)
            name = save(self.open, file.name, file.size, file.pieces()) if file.size else None
            yield record, name or Absent.NOT_APPLICABLE, (*record.notes, *file.notes)


def _row(image: Image) -> tuple[object, ...]:
    return (
        image.pid,
        image.command,
        image.start,
        image.end,
        image.type,
        image.bits,
        image.machine,
        image.segments,
        image.missing,
        image.osreldate,
        image.build_id,
        image.path,
    )
