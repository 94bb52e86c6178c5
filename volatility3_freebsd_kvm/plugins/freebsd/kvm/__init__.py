"""Plugins that show the dump itself: no symbols, no types, only what the file says."""

from __future__ import annotations
