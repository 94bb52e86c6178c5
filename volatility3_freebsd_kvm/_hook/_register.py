"""Found by the walk of ``vol`` through its plugin directories; imports the real plugin modules."""

from __future__ import annotations

from volatility3_freebsd_kvm._discovery import import_plugins

import_plugins(__name__.rpartition(".")[0])
