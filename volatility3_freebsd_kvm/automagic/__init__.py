"""Automagic for FreeBSD kernel dumps; importing this package makes all of its classes known to the framework."""

from __future__ import annotations

if __name__ != "volatility3_freebsd_kvm.automagic":
    # A second import under another name would register every class twice.
    raise ImportError(f"{__name__} is not a plugin: import volatility3_freebsd_kvm.automagic")

# Import the modules of this package below.
from volatility3_freebsd_kvm.automagic.options import FreeBSDKernel, FreeBSDKey
from volatility3_freebsd_kvm.automagic.raw import FreeBSDRawStacker
from volatility3_freebsd_kvm.automagic.stackers import (
    FreeBSDContainerStacker,
    FreeBSDDumpStacker,
    FreeBSDKernelStacker,
)
from volatility3_freebsd_kvm.automagic.symbol_finder import FreeBSDSymbolFinder

__all__ = [
    "FreeBSDContainerStacker",
    "FreeBSDDumpStacker",
    "FreeBSDKernel",
    "FreeBSDKernelStacker",
    "FreeBSDKey",
    "FreeBSDRawStacker",
    "FreeBSDSymbolFinder",
]
