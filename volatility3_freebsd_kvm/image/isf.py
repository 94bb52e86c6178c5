"""Volatility's symbol files (ISF), format 6.2.0.

# Reference: volatility3 schema 6.2.0; the newest table class of the framework (2.28) reads this one
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ..exceptions import FormatError
from .types import Types

FORMAT = "6.2.0"


def document(types: Types, producer: Mapping[str, str], symbols: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The whole file as a dictionary.

    Args:
        types: The types.
        producer: Who made it from what; free text fields that the schema allows nowhere else.
        symbols: ``{name: {"address"[, "type", "constant_data"]}}``.
    """
    return {
        "metadata": {"format": FORMAT, "producer": dict(producer)},
        "base_types": types.base_types,
        "user_types": types.user_types,
        "enums": types.enums,
        "symbols": dict(symbols or {}),
    }


def dump(content: Mapping[str, Any]) -> bytes:
    """A symbol file, compressed; the same content gives the same bytes wherever the same liblzma is."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return lzma.compress(text, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=9)


def load(path: Path) -> dict[str, Any]:
    """Read a symbol file, compressed or not.

    Raises:
        FormatError: it is none.
    """
    with path.open("rb") as stream:
        return parse(stream, str(path))


def parse(stream: IO[bytes], name: str) -> dict[str, Any]:
    """Read a symbol file that is open, compressed with xz or not; raises as `load` does."""
    data = stream.read()
    try:
        content = json.loads(lzma.decompress(data) if data.startswith(b"\xfd7zXZ") else data)
    except (lzma.LZMAError, ValueError, RecursionError) as error:
        msg = f"{name} is no symbol file ({error})"
        raise FormatError(msg) from None
    tables = ("metadata", "base_types", "user_types", "enums")
    if not isinstance(content, dict) or not all(isinstance(content.get(one), dict) for one in tables):
        msg = f"{name} is no symbol file: it lacks the tables of one"
        raise FormatError(msg)
    return content


def types_of(content: Mapping[str, Any]) -> Types:
    """The types of a symbol file."""
    return Types(dict(content["base_types"]), dict(content["user_types"]), dict(content["enums"]))
