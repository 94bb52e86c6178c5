"""Connections as the protocols see them."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.output import Columns, Hex, grid, kernel_of, kernel_requirement
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.connection import Connection
    from volatility3_freebsd_kvm.bsd.tcp import Tcp

_NONE = Absent.NOT_APPLICABLE
_COLUMNS: Columns = [
    ("Proto", str),
    ("Recv-Q", int),
    ("Send-Q", int),
    ("Local Address", str),
    ("Foreign Address", str),
    ("State", str),
    ("Listen", str),
    ("R-HIWA", int),
    ("S-HIWA", int),
    ("R-BCNT", int),
    ("S-BCNT", int),
    ("rexmt", float),
    ("persist", float),
    ("keep", float),
    ("msl2", float),
    ("delack", float),
    ("rcvtime", float),
    ("Vnet", Hex),
    ("Socket", Hex),
    ("PCB", Hex),
]
_TCP_NUMBERS: tuple[tuple[str, type, str], ...] = (
    ("Rexmit", int, "retransmitted"),
    ("OOORcv", int, "out_of_order"),
    ("Zero-win", int, "zero_windows"),
    ("ISS", int, "iss"),
    ("SND_UNA", int, "snd_una"),
    ("SND_NXT", int, "snd_nxt"),
    ("SND_MAX", int, "snd_max"),
    ("SND_WND", int, "snd_wnd"),
    ("Cwnd", int, "snd_cwnd"),
    ("Ssthresh", int, "snd_ssthresh"),
    ("Snd scale", int, "snd_scale"),
    ("IRS", int, "irs"),
    ("RCV_NXT", int, "rcv_nxt"),
    ("RCV_ADV", int, "rcv_adv"),
    ("RCV_WND", int, "rcv_wnd"),
    ("Rcv scale", int, "rcv_scale"),
    ("MSS", int, "mss"),
    ("RTT ms", float, "rtt"),
    ("RTT var ms", float, "rtt_variance"),
    ("RTO ms", float, "rto"),
    ("Backoff", int, "backoff"),
    ("Sent", int, "sent_bytes"),
    ("Sent again", int, "retransmitted_bytes"),
    ("CC", str, "congestion"),
    ("Stack", str, "stack"),
    ("Flags", str, "flags"),
    ("Established", datetime.datetime, "started"),
    ("Received", datetime.datetime, "received"),
    ("Last sent", datetime.datetime, "sent"),
)
"""Column, type and field of `Tcp` of what --tcp-info adds."""


class Netstat(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Lists connections by protocol as netstat -anx does, with queues and timers; --tcp-info tells all of TCP."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which connections."""
        return [
            kernel_requirement(),
            requirements.BooleanRequirement(
                name="tcp-info",
                description="Sequence numbers, windows, round trip times, retransmissions and times of TCP connections",
                optional=True,
                default=False,
            ),
            requirements.ListRequirement(
                name="protocol",
                description="Only these protocols: tcp, tcp4, udp, icmp, raw, unix, stream, inet6, ...",
                element_type=str,
                optional=True,
            ),
            requirements.StringRequirement(
                name="vnet",
                description="Only the vnet of this jail (id or name), or at this address; 0 is the host's",
                optional=True,
            ),
            requirements.StringRequirement(
                name="jail",
                description="Only what the processes of this jail (id or name) have or made; 0 is the host",
                optional=True,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row a connection, in the order of netstat: TCP, UDP, raw, unix."""
        details = bool(self.config.get("tcp-info"))
        more = [(name, kind) for name, kind, _ in _TCP_NUMBERS] if details else []
        columns = [*_COLUMNS, *more, ("Notes", str)]
        return grid(columns, self._connections(), lambda found: _row(found, details))

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """When TCP connections were established, and when something was received and sent last."""
        for found in self._connections():
            if isinstance(found, Problem) or found.tcp is None:
                continue
            ends = f"{found.shown_protocol()} {found.local_text()} {found.foreign_text()}"
            for what, kind, when in (
                ("established", TimeLinerType.CREATED, found.tcp.started),
                ("received last", TimeLinerType.ACCESSED, found.tcp.received),
                ("sent last", TimeLinerType.MODIFIED, found.tcp.sent),
            ):
                if isinstance(when, datetime.datetime):
                    yield f"Connection {ends} {what}", kind, when

    def _connections(self) -> Iterator[Connection | Problem]:
        from volatility3_freebsd_kvm.bsd.sockets import Selection

        selection = Selection(
            str(self.config.get("vnet") or ""),
            str(self.config.get("jail") or ""),
            protocols=tuple(self.config.get("protocol") or ()),
        )
        return selection.connections(kernel_of(self))


def _row(found: Connection, details: bool) -> tuple[object, ...]:
    from volatility3_freebsd_kvm.bsd.tcp import TIMERS

    socket, tcp = found.socket, found.tcp
    receive, send = (socket.receive, socket.send) if socket else (None, None)
    values = (
        found.shown_protocol(),
        found.received,
        found.unsent,
        found.local_text("."),
        found.foreign_text("."),
        found.state,
        found.listening,
        receive.limit if receive else _NONE,
        send.limit if send else _NONE,
        receive.mbuf_bytes if receive else _NONE,
        send.mbuf_bytes if send else _NONE,
        *(tcp.timers if tcp else (_NONE,) * len(TIMERS)),
        tcp.idle if tcp else _NONE,
        found.vnet or _NONE,
        socket.address if socket else _NONE,
        found.pcb or _NONE,
    )
    more = _details(tcp) if details else ()
    return (*values, *more, "; ".join(found.notes))


def _details(tcp: Tcp | None) -> tuple[object, ...]:
    return tuple(getattr(tcp, field) if tcp else _NONE for _, _, field in _TCP_NUMBERS)
