"""C types in the form that Volatility's symbol files have.

What reads types (DWARF, CTF) fills a `Types`; what needs them (the ISF writer, the memory writer of the tests) takes
them out.

# Reference: volatility3 schema 6.2.0
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

TypeReference = dict[str, Any]
"""``{"kind": "base" | "struct" | "union" | "enum" | "pointer" | "array" | "bitfield" | "function", ...}``"""

VOID: TypeReference = {"kind": "base", "name": "void"}
_COMPOUND = ("struct", "union", "class")


@dataclass
class Types:
    """The three tables of types, by name.

    Attributes:
        base_types: ``{"size", "signed", "kind", "endian"}``; ``pointer`` and ``void`` are always there.
        user_types: ``{"kind", "size", "fields": {name: {"offset", "type"[, "anonymous"]}}}``, in bytes.
        enums: ``{"size", "base", "constants": {name: value}}``.
    """

    base_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    user_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    enums: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def empty(cls, pointer_size: int, endian: str) -> Types:
        """Only what every table has."""
        return cls(
            base_types={
                "void": {"size": 0, "signed": False, "kind": "void", "endian": endian},
                "pointer": {"size": pointer_size, "signed": False, "kind": "int", "endian": endian},
            }
        )

    def pruned(self, wanted: Collection[str]) -> Types:
        """Only the types named in ``wanted`` and what is embedded in them; pointers to others become ``void *``.

        Names that do not exist are passed over. Anonymous types come along with what uses them, behind pointers as
        well, since nothing else could name them.
        """
        kept = Types(base_types=dict(self.base_types))
        waiting = [name for name in wanted if name in self.user_types or name in self.enums]
        while waiting:
            name = waiting.pop()
            if name in kept.user_types or name in kept.enums:
                continue
            if name in self.enums:
                kept.enums[name] = self.enums[name]
                continue
            definition = kept.user_types[name] = self.user_types[name]
            for member in definition["fields"].values():
                waiting.extend(self._embedded(member["type"]))
        for name, definition in kept.user_types.items():
            fields = {key: {**value, "type": kept._cut(value["type"])} for key, value in definition["fields"].items()}
            kept.user_types[name] = {**definition, "fields": fields}
        used = {"void", "pointer", *kept._base_names()}
        kept.base_types = {name: value for name, value in kept.base_types.items() if name in used}
        return kept

    def _embedded(self, reference: TypeReference) -> Iterator[str]:
        """Names of the compound types and enums that a member needs to be read."""
        inner, behind_pointer = reference, False
        while "subtype" in inner or inner["kind"] == "bitfield":
            behind_pointer |= inner["kind"] == "pointer"
            inner = inner["type"] if inner["kind"] == "bitfield" else inner["subtype"]
        name = inner.get("name", "")
        known = name in self.user_types or name in self.enums
        if known and (not behind_pointer or name.startswith("unnamed_")):
            yield name

    def _cut(self, reference: TypeReference) -> TypeReference:
        """The reference with unknown types behind pointers replaced by void."""
        if "subtype" in reference:
            return {**reference, "subtype": self._cut(reference["subtype"])}
        if reference["kind"] in _COMPOUND and reference["name"] not in self.user_types:
            return VOID
        if reference["kind"] == "enum" and reference["name"] not in self.enums:
            return VOID
        return reference

    def _base_names(self) -> Iterator[str]:
        for enum in self.enums.values():
            yield enum["base"]
        for definition in self.user_types.values():
            for member in definition["fields"].values():
                inner = member["type"]
                while "subtype" in inner or inner["kind"] == "bitfield":
                    inner = inner["type"] if inner["kind"] == "bitfield" else inner["subtype"]
                if inner["kind"] == "base":
                    yield inner["name"]
