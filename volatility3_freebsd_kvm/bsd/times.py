"""Time stamps that count from boot: in structures and in ticks. What boot was, `clock` tells.

# Reference: sys/sys/_timeval.h, sys/kern/kern_clock.c (ticks)
"""

from __future__ import annotations

from typing import Any

from ..exceptions import KVMError
from .clock import NANO
from .kernel import Kernel
from .records import Absent


def timeval(value: Any) -> int:
    """A ``struct timeval`` in nanoseconds; raises `AddressError` where it cannot be read."""
    return int(value.tv_sec) * NANO + int(value.tv_usec) * 1000


def seconds_since_tick(kernel: Kernel, tick: int) -> float | Absent:
    """Seconds since a time in ticks, which wrap; NOT_AVAILABLE if the kernel does not tell."""
    try:
        hz, now = kernel.integer("hz"), kernel.integer("ticks")
    except KVMError:
        return Absent.NOT_AVAILABLE
    if hz <= 0:
        return Absent.NOT_AVAILABLE
    passed = (now - tick) % (1 << 32)
    return (passed - (1 << 32) if passed >> 31 else passed) / hz
