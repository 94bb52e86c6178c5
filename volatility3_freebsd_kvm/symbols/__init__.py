"""Symbol tables for FreeBSD kernel dumps; importing this package makes all of its classes known to the framework."""

from __future__ import annotations

if __name__ != "volatility3_freebsd_kvm.symbols":
    # A second import under another name would register every class twice.
    raise ImportError(f"{__name__} is not a plugin: import volatility3_freebsd_kvm.symbols")

# Import the modules of this package below.
from volatility3_freebsd_kvm.symbols.identifier import FreeBSDIdentifier
from volatility3_freebsd_kvm.symbols.table import FreeBSDKernelSymbols

__all__ = ["FreeBSDIdentifier", "FreeBSDKernelSymbols"]
