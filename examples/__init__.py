"""The example dump and its maker."""

from __future__ import annotations

if __name__ != "examples":
    raise ImportError(f"{__name__} is not a plugin")
