"""Kernel structures in memory, read member by member: as little as name resolution needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..exceptions import AddressError, SymbolError
from .types import TypeReference, Types

_COMPOUND = ("struct", "union", "class")
_STRING_PIECE = 64


class Structs:
    """Reads members of structures by name.

    Attributes:
        types: what is known of the kernel's types; may lack any of them.
        word_size: bytes of a pointer.
        byteorder: ``little`` or ``big``.
    """

    def __init__(self, read: Callable[[int, int], bytes], types: Types, word_bits: int, byteorder: str) -> None:
        """Take ``read(address, length)``, which raises `AddressError` where there is nothing."""
        self.read = read
        self.types = types
        self.word_size = word_bits // 8
        self.byteorder: Any = byteorder
        self._members: dict[tuple[str, str], tuple[int, TypeReference] | None] = {}

    # Layouts

    def has(self, type_name: str, path: str) -> bool:
        """Whether a structure is known and has that member; ``path`` may lead through members: ``lf.link.tqe_next``."""
        return self.find(type_name, path) is not None

    def member(self, type_name: str, path: str) -> tuple[int, TypeReference]:
        """``(offset, type)`` of a member, searched through anonymous ones.

        Raises:
            SymbolError: there is no such structure or member.
        """
        found = self.find(type_name, path)
        if found is None:
            msg = f"the types of this kernel have no member {path} in struct {type_name}"
            raise SymbolError(msg)
        return found

    def offset(self, type_name: str, path: str) -> int:
        """Offset of a member in bytes; raises as `member` does."""
        return self.member(type_name, path)[0]

    def size(self, type_name: str) -> int:
        """Size of a structure in bytes.

        Raises:
            SymbolError: there is none.
        """
        definition = self.types.user_types.get(type_name)
        if definition is None:
            msg = f"the types of this kernel have no struct {type_name}"
            raise SymbolError(msg)
        return int(definition["size"])

    def find(self, type_name: str, path: str) -> tuple[int, TypeReference] | None:
        """As `member`, but None if there is no such structure or member."""
        key = (type_name, path)
        if key not in self._members:
            self._members[key] = self._search(type_name, path)
        return self._members[key]

    def _search(self, type_name: str, path: str) -> tuple[int, TypeReference] | None:
        offset, reference = 0, {"kind": "struct", "name": type_name}
        for part in path.split("."):
            found = self._in_structure(str(reference["name"]), part) if reference["kind"] in _COMPOUND else None
            if found is None:
                return None
            offset, reference = offset + found[0], found[1]
        return offset, reference

    def _in_structure(self, type_name: str, name: str) -> tuple[int, TypeReference] | None:
        seen = {type_name}
        waiting = [(type_name, 0)]
        for current, base in waiting:
            fields = self.types.user_types.get(current, {}).get("fields", {})
            if name in fields:
                return base + fields[name]["offset"], fields[name]["type"]
            for one in fields.values():
                inner = str(one["type"].get("name", ""))
                # A symbol file may claim that types contain each other.
                if one.get("anonymous") and inner not in seen:
                    seen.add(inner)
                    waiting.append((inner, base + one["offset"]))
        return None

    def size_of(self, reference: TypeReference) -> int:
        """Size of a type in bytes, 0 where it is not known."""
        count = 1
        while reference["kind"] in ("array", "bitfield"):
            if reference["kind"] == "array":
                count *= reference["count"]
                reference = reference["subtype"]
            else:
                reference = reference["type"]
        if reference["kind"] in ("pointer", "function"):
            return count * self.word_size
        table = {"base": self.types.base_types, "enum": self.types.enums}.get(reference["kind"], self.types.user_types)
        return count * int(table.get(reference["name"], {}).get("size", 0))

    # Memory

    def uint(self, address: int, size: int) -> int:
        """An unsigned integer of ``size`` bytes; raises `AddressError` as ``read`` does."""
        return int.from_bytes(self.read(address, size), self.byteorder)

    def pointer(self, address: int) -> int:
        """A pointer."""
        return self.uint(address, self.word_size)

    def value(self, address: int, type_name: str, path: str) -> int:
        """The value of an integer, enum, pointer or bit field member; signed where its type is.

        Raises:
            SymbolError: there is no such member.
            AddressError: it cannot be read.
        """
        offset, reference = self.member(type_name, path)
        return self.decode(reference, address + offset)

    def decode(self, reference: TypeReference, address: int) -> int:
        """The integer of a type at an address; raises `AddressError` as ``read`` does."""
        bits = reference if reference["kind"] == "bitfield" else None
        inner = reference["type"] if bits else reference
        value = self.uint(address, self.size_of(inner) or self.word_size)
        width = 8 * (self.size_of(inner) or self.word_size)
        if bits:
            width = int(bits["bit_length"])
            value = value >> int(bits["bit_position"]) & (1 << width) - 1
        base = self.types.enums.get(inner.get("name", ""), {}).get("base", inner.get("name", ""))
        signed = inner["kind"] in ("base", "enum") and self.types.base_types.get(base, {}).get("signed", False)
        return value - (1 << width) if signed and value >> (width - 1) else value

    def string(self, address: int, limit: int) -> bytes:
        """The bytes before the first NUL, at most ``limit``; those before an unreadable page if it comes first.

        Raises:
            AddressError: not even the first piece can be read.
        """
        found = b""
        while len(found) < limit:
            # Not beyond the end of a piece of 64 bytes, so that no unneeded page is touched.
            length = min(limit - len(found), _STRING_PIECE - (address + len(found)) % _STRING_PIECE)
            try:
                piece = self.read(address + len(found), length)
            except AddressError:
                if found:
                    break
                raise
            found += piece
            if b"\0" in piece:
                return found[: found.index(b"\0")]
        return found
