"""The kernel's messages, as dmesg(8) shows them."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.output import clean, grid, kernel_of, kernel_requirement
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import msgbuf

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.clock import Clock


class Dmesg(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Shows the kernel message buffer from its oldest line on, those of earlier boots marked, as dmesg -a does."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, which buffer, and which columns."""
        return [
            kernel_requirement(),
            requirements.BooleanRequirement(
                name="console",
                description="The buffer of a redirected console (consmsgbuf) instead",
                optional=True,
                default=False,
            ),
            requirements.BooleanRequirement(
                name="timestamps",
                description="Show when lines were written, for kernels with kern.msgbuf_show_timestamp",
                optional=True,
                default=False,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row a line; what is odd about the buffer comes first."""
        from volatility3_freebsd_kvm.bsd import msgbuf
        from volatility3_freebsd_kvm.bsd.clock import clock_of

        kernel = kernel_of(self)
        clock = clock_of(kernel) if self.config.get("timestamps") else None
        times: list[tuple[str, type]] = [("Uptime", str), ("Time", datetime.datetime)] if clock else []
        columns = [("Sequence", int), *times, ("Priority", str), ("Line", str), ("Notes", str)]
        text = msgbuf.console_buffer(kernel) if self.config.get("console") else msgbuf.message_buffer(kernel)
        return grid(columns, _records(text), lambda line: _row(line, clock))

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """The lines that have timestamps."""
        from volatility3_freebsd_kvm.bsd import msgbuf
        from volatility3_freebsd_kvm.bsd.clock import clock_of

        kernel = kernel_of(self)
        clock = clock_of(kernel)
        for line in msgbuf.lines(msgbuf.message_buffer(kernel)):
            time = _time(line, clock)
            if isinstance(time, datetime.datetime):
                yield f"Kernel message {line.number}: {clean(line.text)}", TimeLinerType.CREATED, time


def _records(text: msgbuf.Text) -> Iterator[msgbuf.Line | Problem]:
    from volatility3_freebsd_kvm.bsd import msgbuf

    yield from text.problems
    yield from msgbuf.lines(text)


def _row(line: msgbuf.Line, clock: Clock | None) -> tuple[object, ...]:
    from volatility3_freebsd_kvm.bsd.clock import NANO

    uptime = Absent.NOT_APPLICABLE if line.uptime is None else f"{line.uptime / NANO:.6f}"
    return (
        line.number,
        *([uptime, _time(line, clock)] if clock else []),
        line.priority or Absent.NOT_APPLICABLE,
        line.text,
        "; ".join(line.notes),
    )


def _time(line: msgbuf.Line, clock: Clock) -> datetime.datetime | Absent:
    """When a line was written; the times of earlier boots are not known."""
    if line.uptime is None or line.boot:
        return Absent.NOT_APPLICABLE
    return clock.at(line.uptime)
