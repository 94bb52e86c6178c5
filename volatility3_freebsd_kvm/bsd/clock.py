"""When the kernel booted, how long it has been up, and when the dump was taken.

# Reference: sys/kern/kern_tc.c (timehands, tc_windup), sys/sys/time.h (struct bintime)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel
from .objects import Object
from .records import Absent

NANO = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_HANDS = 64
"""The ring of timehands has 2 to 16 elements."""


@dataclass(frozen=True)
class Clock:
    """The kernel's clocks at the moment of the dump, in nanoseconds.

    Attributes:
        boot: time of the boot since 1970; it moves when the clock is stepped.
        uptime: time since the boot, as of the last tick.
        source: where they are from: ``timehands``, ``boottime`` or ``time_second``; empty where they cannot be had.
        notes: what is odd about them.
    """

    boot: int | Absent
    uptime: int | Absent
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def now(self) -> int | Absent:
        """The time of the dump since 1970."""
        if isinstance(self.boot, Absent):
            return self.boot
        return self.uptime if isinstance(self.uptime, Absent) else self.boot + self.uptime

    @property
    def boot_time(self) -> datetime | Absent:
        """The boot as a date (UTC)."""
        return utc(self.boot)

    @property
    def capture_time(self) -> datetime | Absent:
        """The dump as a date (UTC)."""
        return utc(self.now)

    def at(self, uptime: int) -> datetime | Absent:
        """The date of an uptime in nanoseconds."""
        return self.boot if isinstance(self.boot, Absent) else utc(self.boot + uptime)


def utc(nanoseconds: int | Absent) -> datetime | Absent:
    """Nanoseconds since 1970 as a date; `Absent.NOT_AVAILABLE` where no calendar reaches."""
    if isinstance(nanoseconds, Absent):
        return nanoseconds
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return Absent.NOT_AVAILABLE


def clock_of(kernel: Kernel) -> Clock:
    """The kernel's clocks, from the first of its three records of them that can be read."""
    missing = Absent.NOT_AVAILABLE
    readers: tuple[Callable[[Kernel], Clock], ...] = (_timehands, _boottime, _seconds)
    for read in readers:
        try:
            return read(kernel)
        except SymbolError:
            continue
        except AddressError:
            missing = Absent.UNREADABLE
    return Clock(missing, missing)


def _timehands(kernel: Kernel) -> Clock:
    """``timehands`` has the time of the boot since 12.0."""
    hands = kernel.pointer("timehands", "timehands").object_()
    notes = []
    if hands.th_generation == 0:
        notes.append("the clock was being updated: the time of the update before")
        hands = _previous(hands)
    return Clock(_bintime(hands.th_boottime), _bintime(hands.th_offset), "timehands", tuple(notes))


def _previous(hands: Object) -> Object:
    """The element of the ring before this one; itself where the ring is broken."""
    current = hands
    for _ in range(_MAX_HANDS):
        following = current.th_next
        if following == hands.address_ and current.th_generation:
            return current
        current = following.object_()
    return hands


def _boottime(kernel: Kernel) -> Clock:
    """Up to 11 there is a variable ``boottimebin``, beside timehands without the time of the boot."""
    boot = _bintime(kernel.variable("boottimebin", "bintime"))
    if kernel.has_member("timehands", "th_offset"):
        uptime = _bintime(kernel.pointer("timehands", "timehands").th_offset)
    else:
        uptime = time_variable(kernel, "time_uptime") * NANO
    return Clock(boot, uptime, "boottime")


def _seconds(kernel: Kernel) -> Clock:
    """Every kernel has these two, and they need no types."""
    now, uptime = (time_variable(kernel, name) for name in ("time_second", "time_uptime"))
    return Clock((now - uptime) * NANO, uptime * NANO, "time_second", ("to the second only",))


def time_variable(kernel: Kernel, name: str) -> int:
    """A variable of type ``time_t``, which has 4 bytes on i386; raises as `Kernel.integer` does."""
    size = kernel.names.nlist([name])[0].size
    return kernel.integer(name, size if size in (4, 8) else 4 if kernel.architecture == "i386" else 8)


def _bintime(value: Object) -> int:
    """A ``struct bintime`` in nanoseconds, rounded: the fraction is cut when it is made from them."""
    return int(value.sec) * NANO + ((int(value.frac) * NANO + (1 << 63)) >> 64)
