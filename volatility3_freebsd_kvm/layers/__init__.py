"""Layers for FreeBSD kernel dumps; importing this package makes all of its classes known to the framework."""

from __future__ import annotations

if __name__ != "volatility3_freebsd_kvm.layers":
    # A second import under another name would register every class twice.
    raise ImportError(f"{__name__} is not a plugin: import volatility3_freebsd_kvm.layers")

# Import the modules of this package below.
from volatility3_freebsd_kvm.layers.container import FreeBSDContainerLayer
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer, FreeBSDElfLayer, FreeBSDMinidumpLayer
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.process import FreeBSDProcessLayer
from volatility3_freebsd_kvm.layers.raw import FreeBSDRawLayer

__all__ = [
    "FreeBSDContainerLayer",
    "FreeBSDDumpLayer",
    "FreeBSDElfLayer",
    "FreeBSDKernelLayer",
    "FreeBSDMinidumpLayer",
    "FreeBSDProcessLayer",
    "FreeBSDRawLayer",
]
