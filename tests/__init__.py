"""Tests. Not plugins, although ``vol -p`` on the repository walks here, too."""

from __future__ import annotations

if __name__ != "tests":
    raise ImportError(f"{__name__} is not a plugin")
