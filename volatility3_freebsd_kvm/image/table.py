"""Everything that is known of one kernel, as one symbol file: types, symbols, and what tells the kernel from others.

The symbol file is one for the framework and other people's tools; what their format has no room for (sizes of symbols,
symbols that share a name, the kernel's identity) is kept in ``constant_data`` of symbols of our own.

# Reference: volatility3 schema 6.2.0
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..exceptions import FormatError
from . import isf
from .symbols import Symbol, SymbolTable
from .types import TypeReference, Types

IDENTITY, SYMBOL_TABLE = "freebsd_identity", "freebsd_symbol_table"
PRODUCER = "volatility3-freebsd-kvm"
_PRODUCER_VERSION = "1"


@dataclass(frozen=True)
class TableIdentity:
    """What a table knows of the kernel it was made from; empty where it does not.

    Attributes:
        architecture: FreeBSD's name of it.
        word_bits: 32 or 64.
        byteorder: ``little`` or ``big``.
        version: the banner, ``version[]``.
        osreldate: ``__FreeBSD_version``.
        ident: name of the kernel configuration, ``kern_ident[]``.
        build_id: GNU build id in hexadecimal.
        symbols_from: what the symbols were read from, for people.
        types_from: what the types were read from, for people.
        samples: ``(address, bytes in hexadecimal)``: read-only data as it must be in the kernel's memory.
    """

    architecture: str = ""
    word_bits: int = 64
    byteorder: str = "little"
    version: str = ""
    osreldate: int | None = None
    ident: str = ""
    build_id: str = ""
    symbols_from: str = ""
    types_from: str = ""
    samples: tuple[tuple[int, str], ...] = field(default=(), repr=False)

    @property
    def banner(self) -> str:
        """The banner's first line."""
        return self.version.partition("\n")[0].strip()


def document(
    identity: TableIdentity,
    symbols: SymbolTable,
    types: Types,
    variables: Mapping[str, TypeReference] | None = None,
) -> dict[str, Any]:
    """The symbol file of a kernel.

    Args:
        identity: what is known of the kernel.
        symbols: its symbols.
        types: its types, possibly only some.
        variables: types of the symbols, where they are known; those that lead to unknown types are left out.
    """
    producer = {"name": PRODUCER, "version": _PRODUCER_VERSION}
    entries: dict[str, dict[str, Any]] = {one.name: {"address": one.value} for one in symbols}
    for name, reference in (variables or {}).items():
        if name in entries and _is_known(reference, types):
            entries[name]["type"] = reference
    base = symbols.value("version") or 0
    entries[IDENTITY] = {"address": base, "constant_data": _packed(identity)}
    entries[SYMBOL_TABLE] = {"address": base, "constant_data": _encode(symbols.pack())}
    return isf.document(types, producer, entries)


def with_identity(content: Mapping[str, Any], identity: TableIdentity) -> dict[str, Any]:
    """One of our symbol files with another identity; the rest is shared."""
    entries = content["symbols"]
    return {**content, "symbols": {**entries, IDENTITY: {**entries[IDENTITY], "constant_data": _packed(identity)}}}


def _packed(identity: TableIdentity) -> str:
    return _encode(json.dumps(asdict(identity)).encode())


def identity_of(content: Mapping[str, Any]) -> TableIdentity:
    """What a symbol file says of its kernel; one that is not ours says nothing.

    Raises:
        FormatError: it claims to, in a form that is not ours.
    """
    try:
        packed = content.get("symbols", {}).get(IDENTITY, {}).get("constant_data")
        return _identity(json.loads(_decode(packed))) if packed else TableIdentity()
    except FormatError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        msg = f"a symbol file has a damaged identity ({error})"
        raise FormatError(msg) from None


def _identity(values: dict[str, Any]) -> TableIdentity:
    """The identity of these values; raises `ValueError` and its like if they are none."""
    samples = tuple((int(address), bytes.fromhex(data).hex()) for address, data in values.pop("samples", ()))
    known = {one.name for one in fields(TableIdentity)}
    found = TableIdentity(**{key: value for key, value in values.items() if key in known}, samples=samples)
    texts = {one.name for one in fields(found) if isinstance(one.default, str)}
    wrong = sorted(name for name in texts if not isinstance(getattr(found, name), str))
    if found.word_bits not in (32, 64) or found.byteorder not in ("little", "big"):
        wrong.append("word_bits or byteorder")
    if found.osreldate is not None and type(found.osreldate) is not int:
        wrong.append("osreldate")
    if wrong:
        msg = f"an impossible value of {', '.join(wrong)}"
        raise ValueError(msg)
    return found


def symbols_of(content: Mapping[str, Any]) -> SymbolTable:
    """The symbols of a symbol file, with their sizes where it is one of ours.

    Raises:
        FormatError: the table is damaged.
    """
    try:
        entries = content.get("symbols", {})
        packed = entries.get(SYMBOL_TABLE, {}).get("constant_data")
        if packed:
            return SymbolTable.unpack(_decode(packed))
        return SymbolTable(Symbol(name, int(entry["address"])) for name, entry in entries.items() if "address" in entry)
    except FormatError:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        msg = f"a symbol file has damaged symbols ({error})"
        raise FormatError(msg) from None


def variables_of(content: Mapping[str, Any]) -> dict[str, TypeReference]:
    """The types of the symbols of a symbol file, where it has them."""
    return {name: entry["type"] for name, entry in content.get("symbols", {}).items() if "type" in entry}


def _is_known(reference: TypeReference, types: Types) -> bool:
    """Whether the framework can make something of a type: all that it needs is in the table."""
    inner = reference
    while "subtype" in inner:
        inner = inner["subtype"]
    if inner["kind"] in ("function", "bitfield"):
        return inner["kind"] == "function" and inner is not reference
    table = {"base": types.base_types, "enum": types.enums}.get(inner["kind"], types.user_types)
    return inner["name"] in table


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"a symbol file has damaged constant data ({error})"
        raise FormatError(msg) from None
