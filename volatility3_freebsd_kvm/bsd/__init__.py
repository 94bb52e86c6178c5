"""Walks the kernel's data structures and yields plain records; knows nothing of plugins."""

from __future__ import annotations
