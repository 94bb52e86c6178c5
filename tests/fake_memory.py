"""A few bytes of kernel memory and a few C types, made by hand: for what must not depend on a whole kernel."""

from __future__ import annotations

from typing import Any

from volatility3_freebsd_kvm.exceptions import NotMappedError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import TypeReference, Types

INTEGERS = {"char": (1, True), "unsigned char": (1, False), "short": (2, True), "int": (4, True), "long": (8, True)}
UNSIGNED = {"unsigned int": 4, "unsigned long": 8}


class Memory:
    """Bytes by address; `reads` remembers who asked for what.

    Attributes:
        bytes: what is there.
        reads: ``(address, length)`` of each read.
    """

    def __init__(self, word_size: int = 8, byteorder: Any = "little") -> None:
        self.word_size = word_size
        self.byteorder = byteorder
        self.bytes: dict[int, int] = {}
        self.reads: list[tuple[int, int]] = []

    def put(self, address: int, data: bytes) -> Memory:
        self.bytes.update(enumerate(data, address))
        return self

    def number(self, address: int, value: int, size: int = 0) -> Memory:
        """An integer, of a pointer's size unless told."""
        size = size or self.word_size
        return self.put(address, (value % (1 << 8 * size)).to_bytes(size, self.byteorder))

    def read(self, address: int, length: int) -> bytes:
        self.reads.append((address, length))
        for at in range(address, address + length):
            if at not in self.bytes:
                raise NotMappedError(at)
        return bytes(self.bytes[at] for at in range(address, address + length))

    def structs(self, types: Types) -> Structs:
        return Structs(self.read, types, 8 * self.word_size, self.byteorder)


def c_types(memory: Memory, **user_types: dict[str, Any]) -> Types:
    """The integers of C with some structures."""
    types = Types.empty(memory.word_size, memory.byteorder)
    numbers = INTEGERS | {name: (size, False) for name, size in UNSIGNED.items()}
    for name, (size, signed) in numbers.items():
        kind = "char" if "char" in name else "int"
        types.base_types[name] = {"size": size, "signed": signed, "kind": kind, "endian": memory.byteorder}
    types.base_types["double"] = {"size": 8, "signed": True, "kind": "float", "endian": memory.byteorder}
    types.user_types.update(user_types)
    return types


def struct(size: int, **fields: tuple[int, TypeReference]) -> dict[str, Any]:
    """A structure of members at ``(offset, type)``; those whose names start with ``anonymous`` have none in C."""
    members: dict[str, dict[str, Any]] = {}
    for name, (offset, reference) in fields.items():
        members[name] = {"offset": offset, "type": reference}
        if name.startswith("anonymous"):
            members[name]["anonymous"] = True
    return {"kind": "struct", "size": size, "fields": members}


def base(name: str) -> TypeReference:
    return {"kind": "base", "name": name}


def enum(name: str) -> TypeReference:
    return {"kind": "enum", "name": name}


def of(name: str) -> TypeReference:
    """An embedded structure."""
    return {"kind": "struct", "name": name}


def pointer(to: TypeReference) -> TypeReference:
    return {"kind": "pointer", "subtype": to}


def array(count: int, subtype: TypeReference) -> TypeReference:
    return {"kind": "array", "count": count, "subtype": subtype}


def bits(position: int, length: int, within: TypeReference) -> TypeReference:
    return {"kind": "bitfield", "bit_position": position, "bit_length": length, "type": within}
