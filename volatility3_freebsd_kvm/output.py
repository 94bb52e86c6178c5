"""From the walkers' records to the framework's tables; what all plugins share.

Every start of ``vol``, also for other systems, imports all plugins and this module: what walks is imported when a
plugin runs.
"""

from __future__ import annotations

import datetime
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.renderers import format_hints

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.text import printable

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel

vollog = logging.getLogger(__name__)

R = TypeVar("R")
Columns = Sequence[tuple[str, type]]
_ZEROS = bytes(1 << 20)
_ABSENT = {
    Absent.UNREADABLE: renderers.UnreadableValue,
    Absent.NOT_AVAILABLE: renderers.NotAvailableValue,
    Absent.NOT_APPLICABLE: renderers.NotApplicableValue,
}


def kernel_requirement() -> requirements.ModuleRequirement:
    """The requirement of a plugin that needs the kernel's names; `kernel_of` takes it up."""
    return requirements.ModuleRequirement(name="kernel", description="FreeBSD kernel")


def kernel_of(plugin: interfaces.plugins.PluginInterface) -> Kernel:
    """The kernel for the walkers; the plugin has the requirement `kernel_requirement`."""
    from volatility3_freebsd_kvm.symbols.walkable import walkable_kernel

    module = plugin.context.modules[str(plugin.config["kernel"])]
    return walkable_kernel(plugin.context, module.layer_name, module.symbol_table_name)


def grid(columns: Columns, records: Iterable[R | Problem], row: Callable[[R], Sequence[Any]]) -> renderers.TreeGrid:
    """A table of records, with a row for each problem, which has nothing but ``Notes``.

    Args:
        columns: names and types; one of them is ``Notes``, by custom the last.
        records: what a walker yields.
        row: a value for each column; `cell` tells what may be one.
    """
    return renderers.TreeGrid(list(columns), ((0, values) for values in rows(columns, records, row)))


def rows(
    columns: Columns, records: Iterable[R | Problem], row: Callable[[R], Sequence[Any]]
) -> Iterator[tuple[Any, ...]]:
    """The rows of `grid`. An error of this package ends the walk, or costs one row, and is told as a problem."""
    for record in _guarded(records):
        found = record if isinstance(record, Problem) else _values(record, row)
        if isinstance(found, Problem):
            vollog.warning("%s", clean(str(found)))
            yield problem_row(columns, found)
        else:
            yield tuple(cell(value, kind) for value, (_, kind) in zip(found, columns, strict=True))


def _values(record: R, row: Callable[[R], Sequence[Any]]) -> Sequence[Any] | Problem:
    try:
        return row(record)
    except kvm.KVMError as error:
        return Problem("a row", f"cannot be shown because {error}")


def _guarded(records: Iterable[R | Problem]) -> Iterator[R | Problem]:
    try:
        yield from records
    except kvm.KVMError as error:
        yield Problem("the walk", f"ended because {error}")


def problem_row(columns: Columns, problem: Problem) -> tuple[Any, ...]:
    """The row of a problem: nothing but what and where."""
    return tuple(clean(str(problem)) if name == "Notes" else renderers.NotApplicableValue() for name, _ in columns)


def cell(value: Any, kind: type) -> Any:
    """A value as the framework wants it in a column of that type.

    None and `Absent` become its absent values, numbers hexadecimal where the column is, lists text; control characters
    in text, which a dump may hold, are escaped.
    """
    if value is None:
        return renderers.NotAvailableValue()
    if isinstance(value, Absent):
        return _ABSENT[value]()
    if isinstance(value, interfaces.renderers.BaseAbsentValue | interfaces.renderers.BasicType):
        return value
    if kind is str:
        return clean(", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else str(value))
    if kind is datetime.datetime:
        return value
    return kind(value)


def save(
    open_file: type[interfaces.plugins.FileHandlerInterface], name: str, size: int, pieces: Iterable[tuple[int, bytes]]
) -> str:
    """Write a file through the framework.

    Args:
        open_file: the plugin's ``open``.
        name: what the file should be called; the framework may add to it if there is such a file.
        size: how long it gets, in bytes.
        pieces: ``(offset, bytes)``, rising; what is between them and behind the last one becomes zeros.

    Returns:
        What it is called.

    Raises:
        kvm.MissingPieceError: it cannot be written.
    """
    try:
        with open_file(name) as file:
            position = 0
            for offset, data in pieces:
                _write_zeros(file, offset - position, last=False)
                file.write(data)
                position = offset + len(data)
            _write_zeros(file, size - position, last=True)
    except OSError as error:
        msg = f"{name} cannot be written: {error.strerror or error}"
        raise kvm.MissingPieceError(msg) from None
    return str(file.preferred_filename)


def _write_zeros(file: interfaces.plugins.FileHandlerInterface, count: int, *, last: bool) -> None:
    """Leave a hole in the file where its kind allows; something must be behind that."""
    if count > 1 and file.seekable():
        file.seek(count - last, io.SEEK_CUR)
        count = int(last)
    for start in range(0, count, len(_ZEROS)):
        file.write(_ZEROS[: count - start])


clean = printable
Hex = format_hints.Hex
