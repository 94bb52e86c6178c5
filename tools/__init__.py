"""Scripts that make what the repository carries."""

from __future__ import annotations

if __name__ != "tools":
    raise ImportError(f"{__name__} is not a plugin")
