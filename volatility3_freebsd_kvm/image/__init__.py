"""Kernel files: symbols, and later types."""

from __future__ import annotations
