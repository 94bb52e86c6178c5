"""The kernel's messages, as dmesg(8) shows them."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.layers.stack import dump_of, text_dump_of
from volatility3_freebsd_kvm.output import clean, grid, kernel_of, kernel_requirement
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd import msgbuf
    from volatility3_freebsd_kvm.bsd.clock import Clock

_SAVED = "msgbuf.txt"
_NO_KERNEL = "the kernel's symbols are missing"
_NO_CONSOLE = "there is no kernel to look for it in"


class Dmesg(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Shows the kernel message buffer from its oldest line on, those of earlier boots marked, as dmesg -a does.

    Of a text dump that is msgbuf.txt; a minidump whose kernel is not known has a copy in its header.
    """

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

    @classmethod
    def unsatisfied(cls, context: interfaces.context.ContextInterface, config_path: str) -> dict[str, Any]:
        """What is missing; nothing where there is a message buffer without a kernel."""
        missing = super().unsatisfied(context, config_path)
        return {} if missing and _text_without_kernel(context, config_path) else missing

    def build_configuration(self) -> interfaces.configuration.HierarchicalDict:
        """What makes the plugin again; where there is no kernel, the layer alone does."""
        if self.config.get("kernel"):
            return super().build_configuration()
        names = (requirement.name for requirement in self.get_requirements() if requirement.name != "kernel")
        options: dict[str, Any] = {name: self.config.get(name) for name in names}
        result = interfaces.configuration.HierarchicalDict(options)
        layer = self.context.layers[str(self.config["kernel.layer_name"])]
        result.splice("kernel.layer_name", layer.build_configuration())
        return result

    def run(self) -> renderers.TreeGrid:
        """One row a line; what is odd about the buffer comes first."""
        text, known_clock = self._text_and_clock()
        clock = known_clock if self.config.get("timestamps") else None
        times: list[tuple[str, type]] = [("Uptime", str), ("Time", datetime.datetime)] if clock else []
        columns = [("Sequence", int), *times, ("Priority", str), ("Line", str), ("Notes", str)]
        return grid(columns, _records(text), lambda line: _row(line, clock))

    def _text_and_clock(self) -> tuple[msgbuf.Text, Clock]:
        from volatility3_freebsd_kvm.bsd import msgbuf
        from volatility3_freebsd_kvm.bsd.clock import Clock, clock_of

        console = bool(self.config.get("console"))
        if self.config.get("kernel"):
            kernel = kernel_of(self)
            return (msgbuf.console_buffer if console else msgbuf.message_buffer)(kernel), clock_of(kernel)
        text = _text_without_kernel(self.context, self.config_path)
        if text is None or console:
            text = msgbuf.Text(b"", "consmsgbuf", problems=(Problem("consmsgbuf", _NO_CONSOLE),))
        return text, Clock(Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE)

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """The lines that have timestamps."""
        from volatility3_freebsd_kvm.bsd import msgbuf

        text, clock = self._text_and_clock()
        for line in msgbuf.lines(text):
            time = _time(line, clock)
            if isinstance(time, datetime.datetime):
                yield f"Kernel message {line.number}: {clean(line.text)}", TimeLinerType.CREATED, time


def _text_without_kernel(context: interfaces.context.ContextInterface, config_path: str) -> msgbuf.Text | None:
    """The text that a text dump or the header of a minidump holds; None if the layer is neither's."""
    from volatility3_freebsd_kvm.bsd import msgbuf

    path = interfaces.configuration.path_join(config_path, "kernel", "layer_name")
    layer_name = str(context.config.get(path, None) or "")
    if layer_name not in context.layers:
        return None
    try:
        text_dump = text_dump_of(context, layer_name)
        if text_dump:
            return _saved_text(text_dump)
        dump = dump_of(context, layer_name)
    except (kvm.FormatError, OSError):
        return None
    if not isinstance(dump, kvm.Minidump) or not dump.message_buffer.strip(b"\0"):
        return None
    byteorder: msgbuf.ByteOrder = "big" if dump.byteorder == "big" else "little"
    return msgbuf.ring_text(dump.message_buffer_pages, dump.word_bits // 8, byteorder, _NO_KERNEL)


def _saved_text(dump: kvm.TextDump) -> msgbuf.Text:
    from volatility3_freebsd_kvm.bsd import msgbuf

    problems = [Problem("text dump", note) for note in dump.notes]
    if _SAVED not in dump.files:
        problems.append(Problem("text dump", f"holds no {_SAVED}, but {', '.join(dump.files)}"))
        return msgbuf.file_text(b"", tuple(problems))
    return msgbuf.file_text(dump.read(_SAVED), tuple(problems))


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
