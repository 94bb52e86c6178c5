"""Plugins for FreeBSD kernel dumps, imported as ``volatility3.plugins.freebsd``."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    from volatility3_freebsd_kvm import _discovery
except ModuleNotFoundError as error:
    if error.name != "volatility3_freebsd_kvm":
        raise
    # `vol -p` on a checkout that is not installed: the library is beside these plugins.
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    from volatility3_freebsd_kvm import _discovery

_discovery.attach(__name__, __path__, Path(__path__[0]))
