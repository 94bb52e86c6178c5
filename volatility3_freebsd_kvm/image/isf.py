"""Volatility's symbol files (ISF), format 6.2.0.

# Reference: volatility3 schema 6.2.0; the newest table class of the framework (2.28) reads this one
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ..exceptions import FormatError
from .types import Types

FORMAT = "6.2.0"
_TABLES = ("metadata", "base_types", "user_types", "enums")


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
    return lzma.compress(text(content), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=9)


def text(content: Mapping[str, Any]) -> bytes:
    """A symbol file as it is before compression."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def load(path: Path) -> dict[str, Any]:
    """Read a symbol file, compressed or not.

    Raises:
        FormatError: it is none.
    """
    with path.open("rb") as stream:
        return parse(stream, str(path))


def parse(stream: IO[bytes], name: str) -> dict[str, Any]:
    """Read a symbol file that is open, compressed with xz or not; raises as `load` does."""
    try:
        # Reading may decompress already.
        data = stream.read()
        content = json.loads(lzma.decompress(data) if data.startswith(b"\xfd7zXZ") else data)
    except (lzma.LZMAError, zlib.error, OSError, EOFError, ValueError, RecursionError) as error:
        msg = f"{name} cannot be read as a symbol file ({error})"
        raise FormatError(msg) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(one), dict) for one in _TABLES):
        msg = f"{name} is no symbol file: it lacks the tables of one"
        raise FormatError(msg)
    content.setdefault("symbols", {})
    try:
        _check(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"{name} is a damaged symbol file ({error!r})"
        raise FormatError(msg) from None
    return content


def _check(content: Mapping[str, Any]) -> None:
    """Look at all that is relied upon later; what is damaged raises one of Python's own errors."""
    for base in content["base_types"].values():
        int(base["size"])
    for enum in content["enums"].values():
        int(enum["size"])
        sum(enum["constants"].values())
    for definition in content["user_types"].values():
        int(definition["size"])
        for member in definition["fields"].values():
            int(member["offset"])
            _check_type(member["type"])
    for symbol in content["symbols"].values():
        if "type" in symbol:
            _check_type(symbol["type"])


def _check_type(reference: Mapping[str, Any]) -> None:
    while (kind := reference["kind"]) in ("pointer", "array", "bitfield"):
        if kind == "array":
            int(reference["count"])
        elif kind == "bitfield" and (reference["bit_position"] < 0 or reference["bit_length"] < 1):
            msg = f"{reference['bit_length']} bits from {reference['bit_position']} on"
            raise ValueError(msg)
        reference = reference["type" if kind == "bitfield" else "subtype"]
    if kind != "function":
        # Names are looked up in dictionaries.
        hash(reference["name"])


def types_of(content: Mapping[str, Any]) -> Types:
    """The types of a symbol file."""
    return Types(dict(content["base_types"]), dict(content["user_types"]), dict(content["enums"]))
