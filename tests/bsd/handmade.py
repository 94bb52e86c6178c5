"""A few objects in memory of their own: for shapes that no kernel of the scenario has."""

from __future__ import annotations

from typing import Any

from tests.scenario.private_types import Definitions, declare
from tests.writers.ctype import TypeTable
from tests.writers.objects import Object, assign
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.exceptions import NotMappedError
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.types import Types

BASE = 0xFFFF_0000
SIZE = 0x10000
INTEGERS = {"char": (1, True), "unsigned char": (1, False), "short": (2, True), "unsigned short": (2, False)}
INTEGERS |= {"int": (4, True), "unsigned int": (4, False), "long": (8, True), "unsigned long": (8, False)}
OBJECT = 0x11


class HandMade:
    """Little-endian memory of 64 bits. It serves as the memory of `tests.writers.objects.Object`.

    Attributes:
        types: those that were declared.
    """

    def __init__(self, definitions: Definitions) -> None:
        """Definitions are C types of the members by name; see `private_types`."""
        types = Types.empty(8, "little")
        for name, (size, signed) in INTEGERS.items():
            types.base_types[name] = {"size": size, "signed": signed, "kind": "int", "endian": "little"}
        self.types = TypeTable(types)
        declare(self.types, definitions)
        missing = set(definitions) - set(types.user_types)
        assert not missing, missing
        self._data = bytearray(SIZE)
        self._used = 0
        self._symbols: list[Symbol] = []

    # What objects ask for

    def read(self, address: int, length: int) -> bytes:
        if not BASE <= address <= address + length <= BASE + self._used:
            raise NotMappedError(address)
        return bytes(self._data[address - BASE : address - BASE + length])

    def write(self, address: int, data: bytes) -> None:
        self._data[address - BASE : address - BASE + len(data)] = data

    def read_pointer(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    # Making

    def new(self, type_name: str, **members: Any) -> Object:
        """A zeroed object with these members set; nested ones with two underscores for the dot."""
        reference = self.types.parse(type_name)
        address = BASE + self._used
        self._used += -(-self.types.size(reference) // 16) * 16
        made = Object(self, reference, address)  # type: ignore[arg-type]
        for name, value in members.items():
            *path, last = name.split("__")
            inner: Any = made
            for part in path:
                inner = inner[part]
            inner[last] = value
        return made

    def variable(self, name: str, type_name: str, value: Any = None) -> Object:
        """A global variable."""
        made = self.new(type_name)
        if value is not None:
            assign(made, value)
        self._symbols.append(Symbol(name, int(made), self.types.sizeof(type_name), OBJECT))
        return made

    def text(self, string: bytes) -> Object:
        """A string."""
        made = self.new(f"char[{len(string) + 1}]")
        self.write(int(made), string)
        return made

    def kernel(self) -> Kernel:
        structs = Structs(self.read, self.types.types, 64, "little")
        return Kernel(Names(SymbolTable(self._symbols), structs), "amd64")
