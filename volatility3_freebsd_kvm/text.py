"""Text out of a dump, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text with control characters, which could fake lines or steer a terminal, as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
