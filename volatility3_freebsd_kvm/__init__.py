"""FreeBSD kernel dumps for Volatility 3.

``volatility3_freebsd_kvm.kvm`` reads dumps on its own; importing it, or this package, does not import Volatility.
"""

from __future__ import annotations

__version__ = "0.1.0"

if __name__ != "volatility3_freebsd_kvm":
    # `vol -p <repository>` walks the whole checkout under its own names.
    from ._discovery import redirect

    redirect(__name__)


def register() -> None:
    """Tell the framework that FreeBSD exists; calling it again changes nothing.

    Raises:
        ImportError: Whatever went wrong, as this is the only exception that ``vol`` tolerates from a plugin module.
    """
    from volatility3_freebsd_kvm import _registration

    _registration.register()
