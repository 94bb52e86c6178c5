"""TCP connections: ``struct tcpcb``, and ``struct tcptw`` of those in TIME_WAIT up to 13.

# Reference: sys/netinet/tcp_var.h, tcp_subr.c (tcp_inptoxtp), tcp_usrreq.c (tcp_fill_info), tcp_timer.c, tcp_timewait.c
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from .clock import NANO, clock_of, utc
from .fields import Fields
from .inpcb import Inpcb
from .kernel import Kernel
from .objects import Object, Pointer
from .protocols import INP_TIMEWAIT, TCP_FLAGS, names_of, tcp_state
from .records import Absent, attempt
from .socket import Credential, read_credential

TIMERS = ("rexmt", "persist", "keep", "2msl", "delack")
"""In the order of `tt_which`."""
CALLOUT_ACTIVE = 0x2
SBT_MAX = (1 << 63) - 1
TCP_RTT_SHIFT, TCP_RTTVAR_SHIFT = 5, 4
TCP_TMR_GRANULARITY_USEC = 2
_NONE = Absent.NOT_APPLICABLE


@dataclass(frozen=True)
class TcpClock:
    """The clocks that TCP counts by, at the moment of the dump.

    Attributes:
        hz: ticks in a second, 0 if not known.
        ticks: the counter, 32 bits.
        uptime, now: nanoseconds since boot and since 1970.
    """

    hz: int
    ticks: int
    uptime: int | Absent
    now: int | Absent

    @classmethod
    def of(cls, kernel: Kernel) -> TcpClock:
        """Read them; 0 for what is not known."""
        hz = attempt(lambda: kernel.integer("hz"))
        ticks = attempt(lambda: kernel.integer("ticks", signed=False))
        clock = clock_of(kernel)
        known = isinstance(hz, int) and isinstance(ticks, int) and hz > 0
        return cls(hz if known else 0, ticks if known else 0, clock.uptime, clock.now)  # type: ignore[arg-type]

    def since(self, tick: int) -> float | Absent:
        """Seconds since a time in ticks, which wrap; negative for one to come."""
        if not self.hz:
            return Absent.NOT_AVAILABLE
        passed = (self.ticks - tick) % (1 << 32)
        return (passed - (1 << 32) if passed >> 31 else passed) / self.hz

    def date(self, tick: int) -> datetime.datetime | Absent:
        """The date of a time in ticks; there is none for 0, which means never."""
        passed = self.since(tick)
        if isinstance(passed, Absent):
            return passed
        if not tick or passed < 0:
            return _NONE
        return self.now if isinstance(self.now, Absent) else utc(self.now - round(passed * NANO))

    def until(self, due: int) -> float | Absent:
        """Seconds until a time of uptime in ``sbintime_t``, which has 32 bits of fraction; negative for one past."""
        if isinstance(self.uptime, Absent):
            return self.uptime
        return round(((due * NANO >> 32) - self.uptime) / NANO, 2)


@dataclass(frozen=True)
class Tcp:
    """What TCP knows of a connection. Numbers are bytes or sequence numbers unless told.

    Attributes:
        address: of the ``struct tcpcb`` or ``struct tcptw``.
        short: whether it is a ``struct tcptw``, which has little.
        state: ``ESTABLISHED``, …
        flags: names of ``t_flags``.
        timers: seconds until each of `TIMERS` runs out; NOT_APPLICABLE for those that are stopped.
        idle: seconds since something was received.
        started: when it was established.
        received, sent: when something was received and sent last; the latter since 14.0.
        rtt, rtt_variance, rto: milliseconds; the round trip smoothed, and the time after which data are sent again.
        backoff: how often the same data were sent again (``t_rxtshift``).
        mss: the largest segment.
        retransmitted, out_of_order, zero_windows: segments, as netstat -T has them.
        sent_bytes, retransmitted_bytes: in all, since 14.0.
        congestion, stack: names of the algorithm and of the function block (RACK, BBR).
        creator: the credential in a ``struct tcptw``.
        notes: what is odd.
    """

    address: int
    short: bool
    state: str | Absent
    flags: tuple[str, ...] | Absent = _NONE
    timers: tuple[float | Absent, ...] = (_NONE,) * len(TIMERS)
    idle: float | Absent = _NONE
    started: datetime.datetime | Absent = _NONE
    received: datetime.datetime | Absent = _NONE
    sent: datetime.datetime | Absent = _NONE
    iss: int | Absent = _NONE
    snd_una: int | Absent = _NONE
    snd_nxt: int | Absent = _NONE
    snd_max: int | Absent = _NONE
    snd_wnd: int | Absent = _NONE
    snd_cwnd: int | Absent = _NONE
    snd_ssthresh: int | Absent = _NONE
    snd_scale: int | Absent = _NONE
    irs: int | Absent = _NONE
    rcv_nxt: int | Absent = _NONE
    rcv_adv: int | Absent = _NONE
    rcv_wnd: int | Absent = _NONE
    rcv_scale: int | Absent = _NONE
    mss: int | Absent = _NONE
    rtt: float | Absent = _NONE
    rtt_variance: float | Absent = _NONE
    rto: float | Absent = _NONE
    backoff: int | Absent = _NONE
    retransmitted: int | Absent = _NONE
    out_of_order: int | Absent = _NONE
    zero_windows: int | Absent = _NONE
    sent_bytes: int | Absent = _NONE
    retransmitted_bytes: int | Absent = _NONE
    congestion: str | Absent = _NONE
    stack: str | Absent = _NONE
    creator: Credential | None = None
    notes: tuple[str, ...] = ()


def embedded(kernel: Kernel) -> bool:
    """Whether a tcpcb begins with its inpcb, as since 14.0; 14 has ``inp_ppcb`` too, without using it."""
    reference = kernel.structs.find("tcpcb", "t_inpcb")
    return reference is not None and reference[1]["kind"] == "struct"


def read_tcp(kernel: Kernel, inpcb: Inpcb, clock: TcpClock) -> Tcp:
    """What TCP knows of a connection; with as much as its state where the kernel's types know no more."""
    waits = isinstance(inpcb.flags, int) and bool(inpcb.flags & INP_TIMEWAIT)
    if not kernel.has_member("tcpcb", "t_state"):
        return Tcp(0, waits, "TIME_WAIT" if waits else Absent.NOT_AVAILABLE)
    if embedded(kernel):
        return _tcpcb(kernel.object("tcpcb", inpcb.address - kernel.structs.offset("tcpcb", "t_inpcb")), clock, ())
    if isinstance(inpcb.ppcb, Absent):
        return Tcp(0, waits, "TIME_WAIT" if waits else inpcb.ppcb)
    if waits:
        return _tcptw(kernel, inpcb, clock)
    if not inpcb.ppcb:
        return Tcp(0, False, "CLOSED", notes=("it has no tcpcb",))
    block = kernel.object("tcpcb", inpcb.ppcb)
    back = attempt(lambda: int(block.t_inpcb))
    odd = isinstance(back, int) and back != inpcb.address
    return _tcpcb(block, clock, (f"tcpcb {block.address_:#x} belongs to inpcb {back:#x}",) if odd else ())


# struct tcpcb


def _tcpcb(block: Object, clock: TcpClock, notes: tuple[str, ...]) -> Tcp:
    fields = Fields()
    state = fields.take(f"tcpcb {block.address_:#x}", lambda: tcp_state(int(block.t_state)))

    def number(name: str) -> int | Absent:
        return attempt(lambda: int(getattr(block, name)))

    received = number("t_rcvtime")
    listens = state == "LISTEN"
    return Tcp(
        block.address_,
        False,
        state,
        attempt(lambda: names_of(int(block.t_flags) & 0xFFFF_FFFF, TCP_FLAGS)),
        _timers(block, clock),
        received if isinstance(received, Absent) else _NONE if listens or not received else clock.since(received),
        _date(number("t_starttime"), clock),
        _NONE if listens else _date(received, clock),
        _NONE if listens else _date(number("t_sndtime"), clock),
        **{name: number(name) for name in _NUMBERS},  # type: ignore[arg-type]
        mss=number("t_maxseg"),
        rtt=_round_trip(block, "t_srtt", TCP_RTT_SHIFT, clock),
        rtt_variance=_round_trip(block, "t_rttvar", TCP_RTTVAR_SHIFT, clock),
        rto=attempt(lambda: int(block.t_rxtcur) * 1000 / clock.hz if clock.hz else Absent.NOT_AVAILABLE),
        backoff=number("t_rxtshift"),
        retransmitted=number("t_sndrexmitpack"),
        out_of_order=number("t_rcvoopack"),
        zero_windows=number("t_sndzerowin"),
        sent_bytes=number("t_sndbytes"),
        retransmitted_bytes=number("t_snd_rxt_bytes"),
        congestion=_congestion(block),
        stack=attempt(lambda: str(block.t_fb.as_("tcp_function_block").tfb_tcp_block_name) if block.t_fb else _NONE),
        notes=(*notes, *fields.notes),
    )


_NUMBERS: tuple[str, ...] = ("iss", "snd_una", "snd_nxt", "snd_max", "snd_wnd", "snd_cwnd", "snd_ssthresh", "snd_scale")
_NUMBERS += ("irs", "rcv_nxt", "rcv_adv", "rcv_wnd", "rcv_scale")


def _date(tick: int | Absent, clock: TcpClock) -> datetime.datetime | Absent:
    return tick if isinstance(tick, Absent) else clock.date(tick)


def _congestion(block: Object) -> str | Absent:
    """``t_cc`` since 13.1, ``cc_algo`` before."""

    def name() -> str | Absent:
        algorithm: Pointer = block.first_("t_cc", "cc_algo")
        return str(algorithm.as_("cc_algo").name) if algorithm else _NONE

    return attempt(name)


def _round_trip(block: Object, name: str, shift: int, clock: TcpClock) -> float | Absent:
    """Milliseconds of a time in ticks or (in stacks that say so, since 14.0) microseconds with ``shift`` fraction bits.

    There is none before the first measurement: the variance begins with a default, the average with 0.
    """

    def value() -> float | Absent:
        if not block.t_srtt:
            return _NONE
        unit = 1_000_000 // clock.hz if clock.hz else 0
        if block.has_("t_tmr_granularity") and block.t_tmr_granularity == TCP_TMR_GRANULARITY_USEC:
            unit = 1
        return (int(getattr(block, name)) * unit >> shift) / 1000 if unit else Absent.NOT_AVAILABLE

    return attempt(value)


# Timers


def _timers(block: Object, clock: TcpClock) -> tuple[float | Absent, ...]:
    """Since 14.0 a time for each in the tcpcb; before, a callout for each in a ``struct tcp_timer``."""
    read: Callable[[Object, int], int] = _due_of_callout if block.kind_("t_timers") == "pointer" else _due_of_time
    dues = [attempt(lambda number=number: read(block, number)) for number in range(len(TIMERS))]  # type: ignore[misc]
    return tuple(due if isinstance(due, Absent) else clock.until(due) if due else _NONE for due in dues)


def _due_of_time(block: Object, number: int) -> int:
    """0 if it is stopped."""
    due = int(block.t_timers[number])
    return 0 if due >= SBT_MAX or due < 0 else due


def _due_of_callout(block: Object, number: int) -> int:
    callout = getattr(block.t_timers.as_("tcp_timer"), f"tt_{TIMERS[number]}")
    return int(callout.c_time) if callout.c_flags & CALLOUT_ACTIVE else 0


# struct tcptw


def _tcptw(kernel: Kernel, inpcb: Inpcb, clock: TcpClock) -> Tcp:
    """`tcp_twstart` keeps this only; it may be gone already while the inpcb is being freed."""
    if not inpcb.ppcb or not isinstance(inpcb.ppcb, int):
        return Tcp(0, True, "TIME_WAIT")
    short = kernel.object("tcptw", inpcb.ppcb)
    fields = Fields()
    back = fields.take(f"tcptw {inpcb.ppcb:#x}", lambda: int(short.tw_inpcb))
    if isinstance(back, int) and back != inpcb.address:
        fields.note(f"tcptw {inpcb.ppcb:#x} belongs to inpcb {back:#x}")
    due = attempt(lambda: clock.since(int(short.tw_time) & 0xFFFF_FFFF))
    left = due if isinstance(due, Absent) else -due
    creator = read_credential(fields, "tw_cred", lambda: short.tw_cred)
    return Tcp(
        short.address_,
        True,
        "TIME_WAIT",
        timers=(_NONE, _NONE, _NONE, left, _NONE),
        started=_date(attempt(lambda: int(short.t_starttime)), clock),
        iss=attempt(lambda: int(short.iss)),
        snd_nxt=attempt(lambda: int(short.snd_nxt)),
        irs=attempt(lambda: int(short.irs)),
        rcv_nxt=attempt(lambda: int(short.rcv_nxt)),
        creator=creator,
        notes=fields.notes,
    )
