"""Types that are private to .c files, for kernels whose layouts lack them.

A builder module lists them in ``TYPES``: C types of the members by name, in order. Where the kernel's own tables have a
type of that name, theirs is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.writers.ctype import COMPOUND, TypeTable
from volatility3_freebsd_kvm.image.types import TypeReference

Definitions = Mapping[str, Mapping[str, str]]

_FIXED = {
    "uint8_t": ("unsigned char",),
    "uint16_t": ("unsigned short",),
    "uint32_t": ("unsigned int",),
    "int64_t": ("long", "long long"),
    "uint64_t": ("unsigned long", "unsigned long long"),
}
"""What the names of sys/types.h stand for: the first that has the size."""


def declare(table: TypeTable, definitions: Definitions) -> None:
    """Add structures to `table`, laid out as the ABI does; those it has already are left alone."""
    for name, members in definitions.items():
        if table.has(name):
            continue
        # First without members: a structure may point to its own kind.
        definition: dict[str, Any] = {"kind": "struct", "size": 0, "fields": {}}
        table.types.user_types[name] = definition
        try:
            _lay_out(table, definition, members)
        except KeyError:
            # It embeds what these layouts do not have.
            del table.types.user_types[name]


def _lay_out(table: TypeTable, definition: dict[str, Any], members: Mapping[str, str]) -> None:
    offset, strictest = 0, 1
    for member, text in members.items():
        reference = table.parse(_known_name(table, text))
        alignment = _alignment(table, reference)
        strictest = max(strictest, alignment)
        offset = -(-offset // alignment) * alignment
        definition["fields"][member] = {"offset": offset, "type": reference}
        offset += table.size(reference)
    definition["size"] = -(-offset // strictest) * strictest


def _known_name(table: TypeTable, text: str) -> str:
    name, bracket, count = text.partition("[")
    sizes = {"8": 8, "16": 16, "32": 32, "64": 64}
    for candidate in _FIXED.get(name, ()):
        bits = sizes[name.strip("uint_")]
        if candidate in table.types.base_types and table.types.base_types[candidate]["size"] * 8 == bits:
            return candidate + bracket + count
    return text


def _alignment(table: TypeTable, reference: TypeReference) -> int:
    """As on LP64 and on i386, where nothing is aligned to more than a pointer's size."""
    kind = reference["kind"]
    if kind == "array":
        return _alignment(table, reference["subtype"])
    if kind in COMPOUND:
        fields = table.types.user_types[reference["name"]]["fields"].values()
        return max((_alignment(table, field["type"]) for field in fields), default=1)
    return min(table.size(reference), table.pointer_size)
