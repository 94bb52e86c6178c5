"""Installed as ``volatility3/plugins/freebsd``: leads to the plugins of volatility3_freebsd_kvm."""

from __future__ import annotations

from volatility3_freebsd_kvm import _discovery

_discovery.attach(__name__, __path__, _discovery.PLUGINS_DIRECTORY / _discovery.CATEGORY)
