"""Kernel files and what is in them: symbols, types, names."""

from __future__ import annotations

from pathlib import Path


def wanted_types() -> list[str]:
    """Names of the kernel types that this project's walkers use; a release lacks some of them."""
    lines = Path(__file__).with_name("wanted_types.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
