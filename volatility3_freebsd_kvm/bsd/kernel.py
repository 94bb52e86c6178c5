"""A FreeBSD kernel in memory: objects by type and address, variables by name, of any vnet and any CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import SymbolError
from ..image.nlist import KERNEL, Location, Names, Resolved
from ..image.structs import Structs
from ..image.types import TypeReference
from ..image.vnet import Vnet
from ..kvm.space import AddressSpace
from .objects import Object, Pointer, value_at


@dataclass(frozen=True)
class Kernel:
    """What walkers start from. It knows nothing of the framework.

    Attributes:
        names: resolves names (`nlist`) and addresses (`lookup`).
        architecture: FreeBSD's name of it: ``amd64``, ``arm64``, ``riscv``, …
        variables: the types of the kernel's symbols, where they are known.
        message_buffer: the raw ring from the minidump's header with the rest of its last page, empty in other dumps.
        space: the kernel's address space: physical memory and page tables, for those who need more than its bytes.
            None where only bytes can be had.
    """

    names: Names
    architecture: str = ""
    variables: Mapping[str, TypeReference] = field(default_factory=dict)
    message_buffer: bytes = b""
    space: AddressSpace | None = None

    @property
    def structs(self) -> Structs:
        """Memory and types."""
        return self.names.structs

    # Types and objects

    def has_type(self, name: str) -> bool:
        """Whether the kernel's types have a structure or union of that name."""
        return name in self.structs.types.user_types

    def has_member(self, type_name: str, path: str) -> bool:
        """Whether a structure has a member; ``path`` may lead through embedded structures: ``lf.link.tqe_next``."""
        return self.structs.has(type_name, path)

    def object(self, type_name: str, address: int) -> Object:
        """The structure of a type at an address."""
        return Object(self.structs, type_name, address)

    def text(self, address: int, limit: int = 1024) -> str:
        """The string at an address; raises `AddressError` where there is nothing."""
        return self.structs.string(address, limit).decode("utf-8", "replace")

    def constants(self, enum: str) -> dict[int, str]:
        """The names of an enumeration's values; empty if it is not known."""
        found = self.structs.types.enums.get(enum, {}).get("constants", {})
        return {int(value): str(name) for name, value in found.items()}

    # Variables: plain ones, those of the host's vnet, those of CPU 0

    def has(self, name: str) -> bool:
        """Whether the kernel or a module has a symbol or variable of that name."""
        return self._view.has(name)

    def address(self, name: str) -> int:
        """The address of a symbol or variable at run time.

        Raises:
            SymbolError: there is none.
        """
        return self._view.address(name)

    def variable(self, name: str, type_name: str = "") -> Any:
        """A variable: of the structure ``type_name``, or of its own type where the symbols know it.

        Raises:
            SymbolError: there is no such variable, or its type is not known.
            AddressError: it is an integer or pointer that cannot be read.
        """
        return self._view.variable(name, type_name)

    def integer(self, name: str, size: int = 4, *, signed: bool = True) -> int:
        """The value of an integer variable of ``size`` bytes.

        Raises:
            SymbolError: there is no such variable.
            AddressError: it cannot be read.
        """
        return self._view.integer(name, size, signed=signed)

    def pointer(self, name: str, to: str = "") -> Pointer:
        """The value of a pointer variable, to a structure of the type ``to``; raises as `integer` does."""
        return self._view.pointer(name, to)

    @property
    def _view(self) -> View:
        return View(self)

    # Vnets and CPUs

    def vnets(self) -> list[View]:
        """The variables of every vnet, the host's first; without VIMAGE there is one view, of the plain ones."""
        return [View(self, vnet=vnet) for vnet in self.names.vnets] or [View(self)]

    def vnet(self, which: int | str | None = None) -> View:
        """The variables of a vnet by jail id, jail name or address; None means the host's.

        Raises:
            SymbolError: there is no such vnet.
        """
        if which is None and not self.names.vnets:
            return View(self)
        return View(self, vnet=self.names.vnet(which))

    def cpus(self) -> list[View]:
        """The variables of every CPU."""
        return [View(self, cpu=cpu.cpuid) for cpu in self.names.cpus]

    def cpu(self, number: int) -> View:
        """The variables of one CPU.

        Raises:
            SymbolError: it has no per-CPU data.
        """
        return View(self, cpu=self.names.cpu(number).cpuid)

    # Addresses

    def symbol_at(self, address: int) -> Location | None:
        """The symbol that an address is in; as text ``module!symbol+0x10``."""
        return self.names.lookup(address)


@dataclass(frozen=True)
class View:
    """The kernel's variables as one vnet or one CPU has them.

    Attributes:
        kernel: the kernel.
        vnet: the vnet, if it is the view of one.
        cpu: the CPU, if it is the view of one.
    """

    kernel: Kernel
    vnet: Vnet | None = None
    cpu: int | None = None

    def find(self, name: str) -> Resolved:
        """What the name resolves to."""
        return self.kernel.names.nlist([name], self.vnet, self.cpu)[0]

    def has(self, name: str) -> bool:
        """Whether there is such a variable."""
        return self.find(name).address is not None

    def address(self, name: str) -> int:
        """The variable's address at run time.

        Raises:
            SymbolError: there is none.
        """
        return self.kernel.names.running(self.find(name))

    def variable(self, name: str, type_name: str = "") -> Any:
        """The variable; see `Kernel.variable`."""
        found = self.find(name)
        address = self.kernel.names.running(found)
        if type_name:
            return self.kernel.object(type_name, address)
        reference = self.kernel.variables.get(found.symbol) if found.module == KERNEL else None
        if reference is None:
            msg = f"the type of {name} is not known"
            raise SymbolError(msg)
        return value_at(self.kernel.structs, reference, address)

    def integer(self, name: str, size: int = 4, *, signed: bool = True) -> int:
        """The value of an integer variable; see `Kernel.integer`."""
        value = self.kernel.structs.uint(self.address(name), size)
        return value - (1 << 8 * size) if signed and value >> (8 * size - 1) else value

    def pointer(self, name: str, to: str = "") -> Pointer:
        """The value of a pointer variable; see `Kernel.pointer`."""
        reference: TypeReference = {"kind": "struct", "name": to} if to else {"kind": "base", "name": "void"}
        return Pointer(self.kernel.structs.pointer(self.address(name)), self.kernel.structs, reference)
