"""Definitions of types in a comparable form, each kept once, and what they are in the form of symbol files.

What a member's type is made of has a number: two types are the same if they have the same one. A definition is a tuple
of names, offsets and such numbers. Structures and enums within it are known by name only: that is what ends the
comparison of two versions of a type that leads to every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..exceptions import FormatError
from .types import VOID, TypeReference, Types

Signature = tuple[Any, ...]
VOID_NUMBER, FUNCTION_NUMBER = 0, 1
# The largest kernels have less than a tenth of these.
_MAX_TYPES = 1 << 18
_MAX_NUMBERS = 1 << 21
_FUNCTION: TypeReference = {"kind": "function"}


class Origin:
    """Where definitions come from: a unit.

    Attributes:
        source: Its name, for types that share theirs with others.
        compound_names, enum_names: What types got another name: by the one in the debug information.
        references: What numbers are for types of this unit.
    """

    __slots__ = ("compound_names", "enum_names", "references", "source")

    def __init__(self, source: str) -> None:
        """A unit of which nothing is known yet."""
        self.source = source
        self.compound_names: dict[str, str] = {}
        self.enum_names: dict[str, str] = {}
        self.references: dict[int, TypeReference] = {}


class _Definition(NamedTuple):
    signature: Signature
    origin: Origin


class Definitions:
    """All definitions so far.

    Attributes:
        types: Those that have been written out.
        keys: What each number stands for.
    """

    def __init__(self, types: Types) -> None:
        """Fill ``types``."""
        self.types = types
        self.keys: list[tuple[Any, ...]] = [("base", "void", 0), ("function",)]
        self._numbers: dict[tuple[Any, ...], int] = {key: number for number, key in enumerate(self.keys)}
        # The names that the signatures of one name got: {name: {signature: final name}}.
        self._compounds: dict[str, dict[Signature, str]] = {}
        self._enums: dict[str, dict[Signature, str]] = {}
        self._variants: dict[tuple[str, str], int] = {}
        self._references: dict[int, TypeReference] = {}
        # By final name.
        self._known_compounds: dict[str, _Definition] = {}
        self._known_enums: dict[str, _Definition] = {}

    def number(self, key: tuple[Any, ...]) -> int:
        """The number of a type.

        ``("base", name, size)``, ``("struct" | "union" | "class", name[, final name])``,
        ``("enum", name, size[, final name])``, ``("pointer", number)``, ``("array", count, number)``,
        ``("bitfield", position, length, number)``, ``("anonymous", number)`` of a member without a name,
        ``("function",)``.
        """
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.keys)
            self.keys.append(key)
            if found > _MAX_NUMBERS:
                msg = f"there are more than {_MAX_NUMBERS} pointers, arrays and the like"
                raise FormatError(msg)
        return found

    def size(self, number: int) -> int:
        """Bytes in a base type or enum, 4 where that is not known."""
        key = self.keys[number]
        return (int(key[2]) if key[0] in ("base", "enum") else 0) or 4

    def define_compound(self, name: str, signature: Signature, origin: Origin) -> str:
        """Enter ``(kind, size, [member, offset, number]...)`` and return the name it has got."""
        variants = self._compounds.setdefault(name, {})
        final = variants.get(signature)
        if final is None:
            final = variants[signature] = self._free_name(self._known_compounds, name, origin.source)
            self._known_compounds[final] = _Definition(signature, origin)
        if final != name:
            origin.compound_names[name] = final
        return final

    def define_enum(self, name: str, signature: Signature, origin: Origin) -> str:
        """Enter ``(size, base, [constant, value]...)`` and return the name it has got."""
        variants = self._enums.setdefault(name, {})
        final = variants.get(signature)
        if final is None:
            final = variants[signature] = self._free_name(self._known_enums, name, origin.source)
            self._known_enums[final] = _Definition(signature, origin)
        if final != name:
            origin.enum_names[name] = final
        return final

    def _free_name(self, taken: dict[str, _Definition], name: str, source: str) -> str:
        final = name
        while final in taken:
            number = self._variants[name, source] = self._variants.get((name, source), -1) + 1
            final = f"{name}__{source}" + (f"_{number}" if number else "")
        if len(taken) > _MAX_TYPES:
            msg = f"there are more than {_MAX_TYPES} types"
            raise FormatError(msg)
        return final

    def write_all(self) -> None:
        """Bring everything into `types`."""
        for name in self._known_compounds:
            self._write_compound(name)
        for name in self._known_enums:
            self._write_enum(name)

    def write_wanted(self, names: Iterable[str]) -> None:
        """Bring the types of these names into `types`, with those that have one of them in another unit.

        What they embed comes along, and types without names that they lead to.
        """
        waiting = [final for name in names for final in self._finals(name)]
        seen = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._known_enums:
                self._write_enum(name)
            if name in self._known_compounds:
                self._write_compound(name)
                signature, origin = self._known_compounds[name]
                waiting.extend(self._embedded(number, origin) for number in signature[4::3])

    def _finals(self, name: str) -> Iterator[str]:
        """All types that have a name in some unit."""
        yield name
        for table in (self._compounds, self._enums):
            yield from table.get(name, {}).values()

    def _embedded(self, number: int, origin: Origin) -> str:
        """The structure or enum that a member needs to be read, or nothing."""
        key, behind_pointer = self.keys[number], False
        while key[0] in ("pointer", "array", "bitfield", "anonymous"):
            behind_pointer |= key[0] == "pointer"
            key = self.keys[key[-1]]
        name = str(self._named(key, origin)["name"]) if key[0] in ("struct", "union", "class", "enum") else ""
        return name if not behind_pointer or name.startswith("unnamed_") else ""

    def _write_enum(self, name: str) -> None:
        if name not in self.types.enums:
            size, base, *constants = self._known_enums[name].signature
            pairs = dict(zip(constants[::2], constants[1::2], strict=True))
            self.types.enums[name] = {"size": size, "base": base, "constants": pairs}

    def _write_compound(self, name: str) -> None:
        if name not in self.types.user_types:
            self.types.user_types[name] = self._compound(*self._known_compounds[name])

    def _compound(self, signature: Signature, origin: Origin) -> dict[str, Any]:
        kind, size, *members = signature
        fields: dict[str, dict[str, Any]] = {}
        for name, offset, number in zip(members[::3], members[1::3], members[2::3], strict=True):
            key = self.keys[number]
            if key[0] == "anonymous":
                fields[name] = {"offset": offset, "type": self.reference(key[1], origin), "anonymous": True}
            else:
                fields[name] = {"offset": offset, "type": self.reference(number, origin)}
        return {"kind": kind, "size": size, "fields": fields}

    def reference(self, number: int, origin: Origin) -> TypeReference:
        """What a number is for a type of a unit."""
        # Most units have no names of their own and share the references.
        known = origin.references if origin.compound_names or origin.enum_names else self._references
        found = known.get(number)
        if found is None:
            found = known[number] = self._make_reference(self.keys[number], origin)
        return found

    def _make_reference(self, key: tuple[Any, ...], origin: Origin) -> TypeReference:
        kind = key[0]
        if kind == "base":
            return VOID if key[1] == "void" else {"kind": "base", "name": key[1]}
        if kind == "function":
            return _FUNCTION
        if kind == "pointer":
            return {"kind": "pointer", "subtype": self.reference(key[1], origin)}
        if kind == "array":
            return {"kind": "array", "count": key[1], "subtype": self.reference(key[2], origin)}
        if kind == "bitfield":
            inner = self.reference(key[3], origin)
            return {"kind": "bitfield", "bit_position": key[1], "bit_length": key[2], "type": inner}
        return self._named(key, origin)

    def _named(self, key: tuple[Any, ...], origin: Origin) -> TypeReference:
        """A reference to a structure or enum, by the name that it has in a unit."""
        kind, name = key[:2]
        if kind == "enum":
            return {"kind": kind, "name": key[3] if len(key) > 3 else origin.enum_names.get(name, name)}
        return {"kind": kind, "name": key[2] if len(key) > 2 else origin.compound_names.get(name, name)}

    def variable(self, number: int, origin: Origin) -> TypeReference | None:
        """The type of a variable, if it is in `types`; a pointer to one that is not is a pointer to void."""
        key = self.keys[number]
        if key[0] == "pointer":
            return {"kind": "pointer", "subtype": self.variable(key[1], origin) or VOID}
        if key[0] == "array":
            element = self.variable(key[2], origin)
            return {"kind": "array", "count": key[1], "subtype": element} if element else None
        reference = self.reference(number, origin)
        known: dict[str, dict[str, Any]] = {
            "base": self.types.base_types,
            "enum": self.types.enums,
            "function": {"": {}},
        }
        return reference if reference.get("name", "") in known.get(key[0], self.types.user_types) else None
