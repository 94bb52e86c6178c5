"""Listeners of bpf(4), as netstat(1) -B shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.network_options import chosen_names, network_requirements
from volatility3_freebsd_kvm.output import Columns, Hex, grid, kernel_of

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.bpf import Listener
    from volatility3_freebsd_kvm.bsd.bpf_filter import Filter

_NONE = Absent.NOT_APPLICABLE
_FIRST = 4
_COUNTS = {"Recv": "received", "Drop": "dropped", "Match": "captured", "Written": "written", "Wdrop": "write_drops"}
_COLUMNS: Columns = [
    ("PID", int),
    ("Command", str),
    ("JID", int),
    ("Netif", str),
    ("Vnet", Hex),
    ("Role", str),
    ("Direction", str),
    ("Flags", str),
    *((name, int) for name in _COUNTS),
    ("Sblen", int),
    ("Hblen", int),
    ("Bufsize", int),
    ("Buffer mode", str),
    ("DLT", str),
    ("Held by", str),
    ("Filter length", int),
    ("Filter", str),
    ("Write filter", str),
    ("Offset", Hex),
    ("Notes", str),
]


class Bpf(interfaces.plugins.PluginInterface):
    """Lists who captures packets with bpf as netstat -B does, with the filters, and tells listeners that hide."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which listeners."""
        return [
            *network_requirements("Only listeners of the processes of this jail (id or name); 0 is the host"),
            requirements.BooleanRequirement(
                name="programs",
                description=f"Show whole filter programs, not the first {_FIRST} instructions only",
                optional=True,
                default=False,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row a listener: an open /dev/bpf."""
        whole = bool(self.config.get("programs"))
        return grid(_COLUMNS, self._listeners(), lambda one: _row(one, whole=whole))

    def _listeners(self) -> Iterator[Listener | Problem]:
        from volatility3_freebsd_kvm.bsd.bpf import chosen_listeners

        return chosen_listeners(kernel_of(self), *chosen_names(self))


def _row(one: Listener, *, whole: bool) -> tuple[object, ...]:
    program = one.read_filter
    return (
        one.pid,
        one.process.command,
        one.process.jid,
        one.interface,
        one.vnet,
        one.role,
        one.direction,
        one.flags,
        *(one.counts[name] for name in _COUNTS.values()),
        one.stored,
        one.held,
        one.buffer_size,
        one.buffer_mode,
        one.link_type,
        one.holders if isinstance(one.holders, Absent) else [f"{pid}/{fd}" for pid, fd in one.holders],
        program if isinstance(program, Absent) else len(program.instructions),
        _program(program, whole=whole),
        _program(one.write_filter, whole=whole),
        one.address,
        "; ".join(one.notes),
    )


def _program(program: Filter | Absent, *, whole: bool) -> str | Absent:
    """The instructions in one line; NOT_APPLICABLE without a program, which lets every packet through."""
    if isinstance(program, Absent):
        return program
    lines = program.lines()
    if not program.address:
        return _NONE
    shown = lines if whole else lines[:_FIRST]
    return "; ".join(shown) + ("; ..." if len(shown) < len(lines) else "")
