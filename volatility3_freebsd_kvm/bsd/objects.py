"""Structures in kernel memory as objects whose members are attributes: ``proc.p_ucred.cr_uid``.

Nothing is read before it is asked for, and everything is read anew each time. What belongs to the object itself and not
to the C structure ends in an underscore: ``address_``, ``type_``, ``has_()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..exceptions import NotMappedError, SymbolError
from ..image.structs import Structs
from ..image.types import TypeReference

MAX_TEXT = 4096


class MissingMemberError(SymbolError, AttributeError):
    """This kernel's structure has no such member."""


class Object:
    """A structure or union at an address."""

    __slots__ = ("address_", "structs_", "type_")

    def __init__(self, structs: Structs, type_name: str, address: int) -> None:
        """Name the type and the address; whether the type is known shows when a member is asked for."""
        self.structs_ = structs
        self.type_ = type_name
        self.address_ = address

    def __getattr__(self, name: str) -> Any:
        """The value of a member: an integer, `Pointer`, `Array` or `Object`.

        Raises:
            MissingMemberError: there is no such member.
            AddressError: it cannot be read.
        """
        if name.endswith("_"):
            # Nothing of the object is asked here: who copies it asks before it has anything.
            raise MissingMemberError(name)
        found = self.structs_.find(self.type_, name)
        if found is None:
            msg = f"struct {self.type_} has no member {name} in this kernel"
            raise MissingMemberError(msg)
        return value_at(self.structs_, found[1], self.address_ + found[0])

    def has_(self, path: str) -> bool:
        """Whether there is such a member; ``path`` may lead through embedded structures."""
        return self.structs_.has(self.type_, path)

    def first_(self, *names: str) -> Any:
        """The first member of these that the structure has; give the newest name first.

        Raises:
            MissingMemberError: it has none of them.
            AddressError: it cannot be read.
        """
        name = next((one for one in names if self.has_(one)), names[0])
        return getattr(self, name)

    def at_(self, path: str) -> int:
        """The address of a member; raises `SymbolError` if there is none."""
        return self.address_ + self.structs_.offset(self.type_, path)

    def kind_(self, path: str) -> str:
        """What kind of type a member has: ``struct``, ``pointer``, …; empty if there is no such member."""
        found = self.structs_.find(self.type_, path)
        return str(found[1]["kind"]) if found else ""

    @property
    def size_(self) -> int:
        """Size of the structure in bytes; raises `SymbolError` if it is not known."""
        return self.structs_.size(self.type_)

    def bytes_(self, length: int | None = None) -> bytes:
        """The structure's bytes; raises `AddressError` where they cannot be read."""
        return self.structs_.read(self.address_, self.size_ if length is None else length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and (self.type_, self.address_) == (other.type_, other.address_)

    def __hash__(self) -> int:
        return hash((self.type_, self.address_))

    def __repr__(self) -> str:
        return f"<struct {self.type_} at {self.address_:#x}>"


class Pointer(int):
    """A pointer: its value, and what it points to. Members of a structure behind it are its own attributes."""

    structs_: Structs
    reference_: TypeReference

    def __new__(cls, value: int, structs: Structs, reference: TypeReference) -> Pointer:
        """Take the value and the type that it points to."""
        self = super().__new__(cls, value)
        self.structs_ = structs
        self.reference_ = reference
        return self

    def __getattr__(self, name: str) -> Any:
        """A member of the structure behind the pointer; raises as `Object` does, `NotMappedError` if it is NULL."""
        if name.startswith("__"):
            raise AttributeError(name)
        if self.reference_["kind"] not in ("struct", "union", "class", "pointer"):
            # Among others void, which pointers to types that are not known become.
            msg = f"what is behind the pointer is not known to have a member {name} in this kernel"
            raise MissingMemberError(msg)
        return getattr(self.object_(), name)

    def object_(self) -> Any:
        """What the pointer leads to: an object, or the value of an integer.

        Raises:
            NotMappedError: the pointer is NULL.
            AddressError: it leads to memory that cannot be read, for anything but structures.
        """
        if not self:
            raise NotMappedError(0, "a NULL pointer")
        return value_at(self.structs_, self.reference_, int(self))

    def as_(self, type_name: str) -> Object:
        """The structure of another type behind the pointer; raises `NotMappedError` if it is NULL."""
        if not self:
            raise NotMappedError(0, "a NULL pointer")
        return Object(self.structs_, type_name, int(self))

    def text_(self, limit: int = MAX_TEXT) -> str:
        """The string behind the pointer, empty if it is NULL; raises `AddressError` where it cannot be read."""
        return self.structs_.string(int(self), limit).decode("utf-8", "replace") if self else ""


class Array:
    """An array: ``[index]``, iteration, ``bytes()`` of it and, for characters, ``str()``."""

    __slots__ = ("address_", "count_", "reference_", "structs_")

    def __init__(self, structs: Structs, reference: TypeReference, count: int, address: int) -> None:
        """``count`` elements of the type ``reference``."""
        self.structs_ = structs
        self.reference_ = reference
        self.count_ = count
        self.address_ = address

    def __len__(self) -> int:
        return self.count_

    def __getitem__(self, index: int) -> Any:
        """An element; indexes beyond the declared end are allowed: many arrays are longer than they are declared.

        Raises:
            AddressError: it cannot be read.
        """
        step = self.structs_.size_of(self.reference_)
        return value_at(self.structs_, self.reference_, self.address_ + index * step)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self.count_))

    def __bytes__(self) -> bytes:
        return self.structs_.read(self.address_, self.count_ * self.structs_.size_of(self.reference_))

    def __str__(self) -> str:
        return self.structs_.string(self.address_, self.count_ or MAX_TEXT).decode("utf-8", "replace")


def value_at(structs: Structs, reference: TypeReference, address: int) -> Any:
    """The value of a type at an address; raises `AddressError` where an integer or pointer cannot be read."""
    kind = reference["kind"]
    if kind == "pointer":
        return Pointer(structs.pointer(address), structs, reference["subtype"])
    if kind in ("struct", "union", "class"):
        return Object(structs, reference["name"], address)
    if kind == "array":
        return Array(structs, reference["subtype"], reference["count"], address)
    return structs.decode(reference, address)
