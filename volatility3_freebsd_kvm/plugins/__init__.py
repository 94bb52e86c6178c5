"""The directory for ``vol -p``; the plugins below it are imported as ``volatility3.plugins.freebsd``."""

from __future__ import annotations

if __name__ != "volatility3_freebsd_kvm.plugins":
    # `vol -p <repository>/volatility3_freebsd_kvm` walks this package as if it held plugins.
    from .._discovery import redirect

    redirect(__name__)
