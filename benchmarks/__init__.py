"""Benchmarks; run by name: ``pytest benchmarks``."""

from __future__ import annotations

if __name__ != "benchmarks":
    raise ImportError(f"{__name__} is not a plugin")
