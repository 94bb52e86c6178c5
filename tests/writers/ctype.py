"""C types for the memory writer: sizes, members, and values to and from bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from typing import Any, NamedTuple

from volatility3_freebsd_kvm.image.types import TypeReference, Types

COMPOUND = ("struct", "union", "class")
_TEXT = re.compile(r"^(?:(struct|union|enum)\s+)?([\w ]+?)\s*(\**)\s*((?:\[\d*\])*)$")


class Member(NamedTuple):
    """A member of a structure: where it is, in bytes, and what."""

    offset: int
    type: TypeReference


class TypeTable:
    """Types of one kernel, by name.

    Attributes:
        types: The tables.
        pointer_size: Bytes in a pointer.
        byteorder: ``little`` or ``big``.
    """

    def __init__(self, types: Types) -> None:
        self.types = types
        pointer = types.base_types["pointer"]
        self.pointer_size: int = pointer["size"]
        self.byteorder: str = pointer["endian"]

    def parse(self, text: str | TypeReference) -> TypeReference:
        """The type that C would call `text`, for example ``struct proc``, ``int``, ``struct thread *`` or ``char[20]``.

        A plain name may also be a structure or enumeration, as typedefs without a tag become.

        Raises:
            KeyError: There is no such type.
        """
        if not isinstance(text, str):
            return text
        match = _TEXT.match(text.strip())
        if not match:
            raise KeyError(f"no C type: {text!r}")
        tag, name, stars, dimensions = match.groups()
        result = self._named(tag, name)
        for _ in stars:
            result = {"kind": "pointer", "subtype": result}
        for count in reversed(re.findall(r"\[(\d*)\]", dimensions)):
            result = {"kind": "array", "count": int(count or 0), "subtype": result}
        return result

    def _named(self, tag: str | None, name: str) -> TypeReference:
        if tag != "enum" and name in self.types.user_types:
            return {"kind": self.types.user_types[name]["kind"], "name": name}
        if tag in (None, "enum") and name in self.types.enums:
            return {"kind": "enum", "name": name}
        if tag is None and name in self.types.base_types:
            return {"kind": "base", "name": name}
        raise KeyError(f"no type {tag or ''} {name}")

    def has(self, name: str) -> bool:
        """Whether there is a structure or union of that name."""
        return name in self.types.user_types

    def has_member(self, name: str, member: str) -> bool:
        """Whether structure `name` exists and has `member`, perhaps inside an anonymous one."""
        return self.has(name) and self._find(name, member) is not None

    def size(self, reference: TypeReference) -> int:
        """Bytes of a type."""
        kind = reference["kind"]
        if kind == "pointer":
            return self.pointer_size
        if kind == "array":
            return int(reference["count"] * self.size(reference["subtype"]))
        if kind == "bitfield":
            return self.size(reference["type"])
        if kind in COMPOUND:
            return int(self.types.user_types[reference["name"]]["size"])
        table = self.types.enums if kind == "enum" else self.types.base_types
        return int(table[reference["name"]]["size"])

    def sizeof(self, text: str) -> int:
        """Bytes of the type that C would call `text`."""
        return self.size(self.parse(text))

    def offsetof(self, name: str, path: str) -> int:
        """Offset of a member of structure `name`; `path` may lead through members, joined by dots."""
        offset = 0
        for part in path.split("."):
            member = self.member(name, part)
            offset += member.offset
            name = member.type.get("name", "")
        return offset

    def member(self, name: str, member: str) -> Member:
        """The member of structure `name`; members of anonymous structures count as its own, as in C.

        Raises:
            KeyError: There is no such member.
        """
        found = self._find(name, member)
        if found is None:
            raise KeyError(f"struct {name} has no member {member}")
        return found

    def _find(self, name: str, member: str) -> Member | None:
        fields = self.types.user_types[name]["fields"]
        if member in fields:
            return Member(fields[member]["offset"], fields[member]["type"])
        for field in fields.values():
            if field.get("anonymous"):
                inner = self._find(field["type"]["name"], member)
                if inner:
                    return Member(field["offset"] + inner.offset, inner.type)
        return None

    # Values

    def encode(self, reference: TypeReference, value: Any, old: bytes) -> bytes:
        """The bytes of `value` as the type; `old` is what was there, of which the rest is kept.

        Integers, bytes (padded with zeros), floats, booleans, names of enumeration constants, sequences for arrays and
        dictionaries for structures are accepted; pointers take integers and anything with a ``_va``.

        Raises:
            ValueError: The value does not fit.
        """
        kind = reference["kind"]
        if kind in COMPOUND:
            return self._encode_compound(reference["name"], value, old)
        if kind == "array":
            return self._encode_array(reference, value, old)
        if isinstance(value, bytes):
            if len(value) != len(old):
                raise ValueError(f"{len(value)} bytes for a value of {len(old)}")
            return value
        if kind == "bitfield":
            return self._encode_bits(reference, int(value), old)
        if kind == "enum" and isinstance(value, str):
            value = self.types.enums[reference["name"]]["constants"][value]
        if kind == "base" and self.types.base_types[reference["name"]]["kind"] == "float":
            return struct.pack((">" if self.byteorder == "big" else "<") + ("f" if len(old) == 4 else "d"), value)
        return self._encode_integer(int(getattr(value, "_va", value)), len(old), reference)

    def _encode_integer(self, value: int, size: int, reference: TypeReference) -> bytes:
        if not -(1 << (8 * size - 1)) <= value < 1 << (8 * size):
            raise ValueError(f"{value:#x} does not fit into {size} bytes ({reference})")
        return (value % (1 << (8 * size))).to_bytes(size, "big" if self.byteorder == "big" else "little")

    def _encode_compound(self, name: str, value: Any, old: bytes) -> bytes:
        if isinstance(value, bytes):
            if len(value) > len(old):
                raise ValueError(f"{len(value)} bytes do not fit into struct {name}")
            return value + old[len(value) :]
        if not isinstance(value, Dictionary):
            raise ValueError(f"struct {name} takes a dictionary, not {value!r}")
        data = bytearray(old)
        for key, item in value.items():
            offset, reference = self.member(name, key)
            size = self.size(reference)
            data[offset : offset + size] = self.encode(reference, item, bytes(data[offset : offset + size]))
        return bytes(data)

    def _encode_array(self, reference: TypeReference, value: Any, old: bytes) -> bytes:
        size = self.size(reference["subtype"])
        if isinstance(value, bytes | str):
            text = value.encode() if isinstance(value, str) else value
            if len(text) > len(old):
                raise ValueError(f"{text!r} does not fit into {len(old)} bytes")
            return text.ljust(len(old), b"\0")
        if not isinstance(value, Sequence) or len(value) * size > len(old):
            raise ValueError(f"{value!r} does not fit into an array of {reference['count']}")
        pieces = [
            self.encode(reference["subtype"], item, old[at * size : (at + 1) * size]) for at, item in enumerate(value)
        ]
        return b"".join(pieces) + old[len(value) * size :]

    def _encode_bits(self, reference: TypeReference, value: int, old: bytes) -> bytes:
        length, position = reference["bit_length"], reference["bit_position"]
        if not -(1 << length - 1) <= value < 1 << length:
            raise ValueError(f"{value} does not fit into {length} bits")
        order = "big" if self.byteorder == "big" else "little"
        mask = (1 << length) - 1 << position
        unit = int.from_bytes(old, order) & ~mask | (value << position & mask)
        return unit.to_bytes(len(old), order)

    def decode(self, reference: TypeReference, data: bytes) -> Any:
        """A scalar's value; arrays of 1-byte elements as bytes, other compounds as bytes, too."""
        kind = reference["kind"]
        if kind in COMPOUND or kind == "array":
            return data
        number = int.from_bytes(data, "big" if self.byteorder == "big" else "little")
        if kind == "bitfield":
            return number >> reference["bit_position"] & (1 << reference["bit_length"]) - 1
        if kind == "base":
            base = self.types.base_types[reference["name"]]
            if base["kind"] == "float":
                return struct.unpack(
                    (">" if self.byteorder == "big" else "<") + ("f" if len(data) == 4 else "d"), data
                )[0]
            if base["signed"] and number >> (8 * len(data) - 1):
                return number - (1 << 8 * len(data))
        return number
