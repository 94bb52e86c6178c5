"""Open files."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import Hex, clean, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.file_times import FileTimes
    from volatility3_freebsd_kvm.bsd.open_files import OpenFile


class Lsof(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Lists what processes have open: files, sockets, pipes and all else with a descriptor, and their directories."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and which processes."""
        return process_requirements()

    def run(self) -> renderers.TreeGrid:
        """One row a descriptor, as fstat(1) and procstat -f have them; other ends are named as PID/FD."""
        from volatility3_freebsd_kvm.bsd.open_files import open_files

        columns = [
            ("PID", int),
            ("Command", str),
            ("UID", int),
            ("JID", int),
            ("FD", str),
            ("Type", str),
            ("V-type", str),
            ("Flags", str),
            ("FD flags", str),
            ("Refs", int),
            ("Offset", int),
            ("Prot", str),
            ("Rights", str),
            ("Inode", int),
            ("Mode", str),
            ("Size", int),
            ("Name", str),
            ("Seen as", str),
            ("File", Hex),
            ("Object", Hex),
            ("Notes", str),
        ]
        return grid(columns, open_files(kernel_of(self), *chosen_processes(self)), _row)

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """When each open file was read, written, changed and made, as far as its file system has that in memory."""
        from volatility3_freebsd_kvm.bsd.file_times import file_times
        from volatility3_freebsd_kvm.bsd.open_files import OpenFile, open_files

        kernel = kernel_of(self)
        told: set[object] = set()
        for record in open_files(kernel, *chosen_processes(self)):
            if isinstance(record, OpenFile) and record.kind in ("vnode", "fifo") and record.data not in told:
                told.add(record.data)
                if isinstance(record.data, int) and isinstance(record.referent.name, str):
                    name = clean(record.referent.name)
                    what = f"File {name}, {record.fd} of process {record.pid} {clean(str(record.command))},"
                    yield from _events(what, file_times(kernel, record.data))


def _events(what: str, times: FileTimes) -> Iterator[tuple[str, TimeLinerType, datetime.datetime]]:
    kinds = (
        ("was read", TimeLinerType.ACCESSED, times.accessed),
        ("was written", TimeLinerType.MODIFIED, times.modified),
        ("had its inode changed", TimeLinerType.CHANGED, times.changed),
        ("was made", TimeLinerType.CREATED, times.born),
    )
    for event, kind, time in kinds:
        if isinstance(time, datetime.datetime):
            yield f"{what} {event}", kind, time


def _row(record: OpenFile) -> tuple[object, ...]:
    referent = record.referent
    return (
        record.pid,
        record.command,
        record.uid,
        record.jid,
        record.fd,
        record.kind,
        referent.vnode_type,
        record.flags,
        record.fd_flags,
        record.references,
        record.offset,
        referent.protocol,
        record.rights,
        referent.inode,
        referent.mode,
        referent.size,
        referent.name,
        record.seen_as,
        record.file,
        record.data,
        (*record.notes, *referent.notes),
    )
