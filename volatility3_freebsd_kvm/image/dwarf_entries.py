"""From the entries of a unit to definitions of types.

# Reference: DWARF Debugging Information Format, version 5, section 5
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..exceptions import FormatError
from . import dwarf_abbrev as abbrev
from .dwarf_abbrev import COMPOUNDS, LOCAL, NAMELESS, QUALIFIERS, TYPE, Shape
from .dwarf_definitions import FUNCTION_NUMBER, VOID_NUMBER, Definitions, Origin
from .dwarf_strings import MAX_NAME
from .dwarf_units import DebugFile, Unit

_MAX_DEPTH = 64
_MAX_MEMBERS = 1 << 16
_MAX_UNNAMED = 64
_MAX_VARIABLES = 1 << 20
# DW_ATE_*: 1 address, 2 boolean, 4 float, 5 signed, 6 signed char, 7 unsigned, 8 unsigned char, 0x10 UTF
_SIGNED = (5, 6, 0xD)
_BASE_KIND = {2: "bool", 3: "float", 4: "float", 6: "char", 8: "char"}
_NO_ELEMENTS = (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_CONSTANT_OPERATIONS = (b"\x23", b"\x10")
_CHAINS = frozenset((abbrev.POINTER, abbrev.ARRAY, *QUALIFIERS))


class Contents(NamedTuple):
    """What the top level of a unit has.

    Attributes:
        definitions: Name, offset and look of structures and enums with a name, be it from a typedef.
        typedefs: Offsets of those that may lead to a type without a name in some other way.
        variables: Layout and place of the attributes.
    """

    definitions: list[tuple[str, int, tuple[Any, ...] | None]]
    typedefs: list[int]
    variables: list[tuple[Shape, int]]


class EntryReader:
    """Reads the entries of one unit after the other.

    ``begin``, then what is wanted of `contents`, then ``finish``.
    """

    def __init__(self, file: DebugFile, definitions: Definitions, endian: str) -> None:
        """Read from ``file`` into ``definitions``."""
        self._file = file
        self._definitions = definitions
        self._number = definitions.number
        self._endian = endian
        self._pending: list[tuple[Unit, int, str]] = []
        self._defined: set[str] = set()
        self._seen: dict[tuple[Any, ...], str] = {}
        self._foreign: set[Unit] = set()
        self._unit: Unit | None = None
        self._origin = Origin("")
        self._alone = False

    def begin(self, unit: Unit, origin: Origin, *, alone: bool = False) -> None:
        """Turn to a unit.

        Args:
            unit: the unit.
            origin: what its definitions are entered under.
            alone: no other unit will be read, so that types in others are to be defined as well.
        """
        self._unit = unit
        self._origin = origin
        self._alone = alone
        unit.load()

    def finish(self) -> None:
        """Forget what is not needed for other units."""
        if self._unit is not None and self._unit not in self._foreign:
            self._unit.unload()

    def release(self) -> None:
        """Forget the units that others referred to, too."""
        for unit in self._foreign:
            unit.unload()
        self._foreign.clear()

    def contents(self, unit: Unit) -> Contents:
        """What the unit has. Its base types are entered, and the names of its types are noted."""
        found = Contents([], [], [])
        data, names, ids, number = unit.data, unit.names, unit.ids, self._number
        for offset, shape, at, look in unit.collected():
            tag = shape.tag
            if shape.plain:
                first, second = shape.unpack(data, at)
                if tag == abbrev.TYPEDEF:
                    if first not in ids:
                        self._note_typedef(unit, names[shape.name][second], offset, first, found)
                else:
                    name = names[shape.name][first]
                    ids[offset] = number((COMPOUNDS[tag], name))
                    found.definitions.append((name, offset, look))
            else:
                self._note(unit, offset, shape, at, look, found)
        return found

    def _note(
        self, unit: Unit, offset: int, shape: Shape, at: int, look: tuple[Any, ...] | None, found: Contents
    ) -> None:
        """An entry with unusual attributes."""
        if shape.tag == abbrev.VARIABLE:
            found.variables.append((shape, at))
            return
        values = shape.read(unit.data, at)
        name = unit.name_of(shape, values)
        if shape.tag == abbrev.BASE:
            unit.ids[offset] = self._base(unit, shape, values)
        elif shape.tag == abbrev.TYPEDEF:
            if shape.references.get(TYPE) == LOCAL:
                self._note_typedef(unit, name, offset, values[TYPE], found)
            elif TYPE in values:
                found.typedefs.append(offset)
        elif abbrev.SIGNATURE not in values:
            if shape.tag in COMPOUNDS:
                unit.ids[offset] = self._number((COMPOUNDS[shape.tag], name))
            else:
                unit.ids[offset] = self._number(("enum", name, _constant(values, abbrev.BYTE_SIZE, 4)))
            if not values.get(abbrev.DECLARATION):
                found.definitions.append((name, offset, look))

    def _note_typedef(self, unit: Unit, name: str, offset: int, target: int, found: Contents) -> None:
        """A type without a name is called like the first typedef of it."""
        shape, at = unit.shape(target)
        if shape.tag in _CHAINS:
            found.typedefs.append(offset)
        elif shape.name == NAMELESS and target not in unit.ids:
            if shape.tag in COMPOUNDS:
                unit.ids[target] = self._number((COMPOUNDS[shape.tag], name))
            elif shape.tag == abbrev.ENUM:
                size = _constant(shape.read(unit.data, at), abbrev.BYTE_SIZE, 4)
                unit.ids[target] = self._number(("enum", name, size))
            else:
                return
            found.definitions.append((name, target, None))

    def variables(self, unit: Unit, contents: Contents) -> Iterator[tuple[str, int]]:
        """Name and type of each variable.

        Where one is only declared, another unit may know more, such as how many elements it has.
        """
        for shape, at in contents.variables:
            values = shape.read(unit.data, at)
            owner, name = unit, unit.name_of(shape, values)
            declared = bool(values.get(abbrev.DECLARATION))
            if abbrev.SPECIFICATION in values:
                other, offset = self._follow(unit, shape, abbrev.SPECIFICATION, values)
                general, start = other.shape(offset)
                known = general.read(other.data, start)
                name = name or other.name_of(general, known)
                if TYPE not in values:
                    owner, shape, values = other, general, known
            if name and not (declared and name in self._defined):
                if not declared:
                    self._defined.add(name)
                    if len(self._defined) > _MAX_VARIABLES:
                        msg = f"there are more than {_MAX_VARIABLES} variables"
                        raise FormatError(msg)
                yield name, self.target(owner, shape, values, f"unnamed_{name}")

    def define(self, unit: Unit, offset: int, name: str, look: tuple[Any, ...] | None) -> None:
        """Define the structure or enum at an offset, and what only it leads to."""
        shape, at = unit.shape(offset)
        if shape.tag == abbrev.ENUM:
            self._define_enum(unit, shape, at, name)
            return
        # Most have been read in another unit.
        key = (shape.tag, name, self._compound_size(unit, shape, at), look)
        final = self._seen.get(key) if look else None
        if final is None:
            final = self._define_compound(unit, shape, at, name, 0)
            if look:
                self._seen[key] = final
            self.define_pending()
        elif final != name:
            self._origin.compound_names[name] = final

    def define_pending(self) -> None:
        """Define what has been met meanwhile and is not on the top level of a unit."""
        while self._pending:
            unit, offset, name = self._pending.pop()
            shape, at = unit.shape(offset)
            self._define_compound(unit, shape, at, name, 0)

    def target(self, unit: Unit, shape: Shape, values: dict[int, Any], hint: str, depth: int = 0) -> int:
        """The type that an entry refers to."""
        if TYPE not in values:
            return VOID_NUMBER
        other, offset = self._follow(unit, shape, TYPE, values)
        return self.resolve(other, offset, hint, depth + 1)

    def _follow(self, unit: Unit, shape: Shape, attribute: int, values: dict[int, Any]) -> tuple[Unit, int]:
        """The unit and offset that a reference leads to."""
        kind = shape.references[attribute]
        if kind == LOCAL:
            return unit, values[attribute]
        other, offset = self._file.target(unit, kind, values[attribute])
        if other is not unit:
            other.load()
            self._foreign.add(other)
        return other, offset

    def resolve(self, unit: Unit, offset: int, hint: str = "", depth: int = 0) -> int:
        """The number of the type described at ``offset``; what has no name gets ``hint``."""
        number = unit.ids.get(offset)
        if number is None:
            if depth > _MAX_DEPTH or len(hint) > MAX_NAME:
                msg = f"a type is a chain of more than {_MAX_DEPTH} pointers, arrays or typedefs"
                raise FormatError(msg)
            shape, at = unit.shape(offset)
            if shape.plain and shape.tag not in COMPOUNDS:
                number = self._resolve_plain(unit, shape, at, hint, depth)
            else:
                number = self._make(unit, offset, shape, at, hint, depth)
            unit.ids[offset] = number
        return number

    def _resolve_plain(self, unit: Unit, shape: Shape, at: int, hint: str, depth: int) -> int:
        """Pointers, qualifiers and typedefs, which most types are."""
        values = shape.unpack(unit.data, at)
        if shape.tag == abbrev.TYPEDEF:
            return self.resolve(unit, values[0], unit.names[shape.name][values[1]], depth + 1)
        number = self.resolve(unit, values[0], hint, depth + 1)
        return self._number(("pointer", number)) if shape.tag == abbrev.POINTER else number

    def _make(self, unit: Unit, offset: int, shape: Shape, at: int, hint: str, depth: int) -> int:
        tag = shape.tag
        if tag == abbrev.SUBROUTINE:
            return FUNCTION_NUMBER
        values = shape.read(unit.data, at)
        if tag == abbrev.ARRAY:
            return self._array(unit, shape, at, self.target(unit, shape, values, hint, depth))
        if tag == abbrev.POINTER:
            return self._number(("pointer", self.target(unit, shape, values, hint, depth)))
        if tag == abbrev.TYPEDEF:
            return self.target(unit, shape, values, unit.name_of(shape, values), depth)
        if tag in QUALIFIERS:
            return self.target(unit, shape, values, hint, depth)
        if tag == abbrev.BASE:
            return self._base(unit, shape, values)
        if abbrev.SIGNATURE in values:
            other, inner = self._follow(unit, shape, abbrev.SIGNATURE, values)
            return self.resolve(other, inner, hint, depth + 1)
        name = unit.name_of(shape, values) or hint
        if tag in COMPOUNDS:
            return self._compound(unit, offset, shape, at, name, depth)
        if tag == abbrev.ENUM:
            return self._enum(unit, shape, at, name or "enum")
        return VOID_NUMBER

    def _base(self, unit: Unit, shape: Shape, values: dict[int, Any]) -> int:
        name = unit.name_of(shape, values)
        size, encoding = _constant(values, abbrev.BYTE_SIZE), _constant(values, abbrev.ENCODING)
        known = self._definitions.types.base_types
        if name not in known:
            kind = _BASE_KIND.get(encoding, "int")
            known[name] = {"size": size, "signed": encoding in _SIGNED, "kind": kind, "endian": self._endian}
        return self._number(("base", name, size))

    def _array(self, unit: Unit, shape: Shape, at: int, element: int) -> int:
        """Arrays of arrays from the inside out; a flexible array has no elements."""
        data = unit.data
        counts = [
            _count(child.read(data, start)) for child, start in unit.children(shape, at) if child.tag == abbrev.SUBRANGE
        ]
        for count in reversed(counts):
            element = self._number(("array", count, element))
        return element

    def _enum(self, unit: Unit, shape: Shape, at: int, name: str) -> int:
        """An enum that is a part of what uses it, or that is below the top level."""
        values = shape.read(unit.data, at)
        key = ("enum", name, _constant(values, abbrev.BYTE_SIZE, 4))
        if values.get(abbrev.DECLARATION):
            return self._number(key)
        final = self._define_enum(unit, shape, at, name)
        return self._number((*key, final) if name.startswith("unnamed_") else key)

    def _define_enum(self, unit: Unit, shape: Shape, at: int, name: str) -> str:
        data = unit.data
        values = shape.read(data, at)
        size = _constant(values, abbrev.BYTE_SIZE, 4)
        if TYPE in values:
            key = self._definitions.keys[self.target(unit, shape, values, "")]
            base = key[1] if key[0] == "base" else "unsigned int"
        else:
            base = self._plain_base(size)
        constants: list[Any] = []
        for child, start in unit.children(shape, at):
            if child.tag == abbrev.ENUMERATOR:
                constant = child.read(data, start)
                constants += (unit.name_of(child, constant), _constant(constant, abbrev.CONST_VALUE))
        return self._definitions.define_enum(name, (size, base, *constants), self._origin)

    def _plain_base(self, size: int) -> str:
        """What an enum is that does not say it."""
        base = {1: "unsigned char", 2: "unsigned short", 8: "unsigned long"}.get(size, "unsigned int")
        plain = {"size": size, "signed": False, "kind": "int", "endian": self._endian}
        self._definitions.types.base_types.setdefault(base, plain)
        return base

    def _compound(self, unit: Unit, offset: int, shape: Shape, at: int, name: str, depth: int) -> int:
        """A structure or union that is a part of what uses it, or that is not on the top level of this unit."""
        values = shape.read(unit.data, at)
        kind = COMPOUNDS[shape.tag]
        name = name or f"unnamed_{self._origin.source}_{_constant(values, abbrev.DECL_LINE)}"
        number = self._number((kind, name))
        if values.get(abbrev.DECLARATION):
            return number
        if not name.startswith("unnamed_"):
            # Other units define what they have a name for.
            if unit is self._unit or self._alone or unit.signature or shape.name == NAMELESS:
                self._pending.append((unit, offset, name))
            return number
        # The number for now serves who refers to it from its own inside.
        unit.ids[offset] = number
        return self._number((kind, name, self._define_compound(unit, shape, at, name, depth)))

    def _define_compound(self, unit: Unit, shape: Shape, at: int, name: str, depth: int) -> str:
        signature: list[Any] = [COMPOUNDS[shape.tag], self._compound_size(unit, shape, at)]
        if shape.children:
            owner = name if name.startswith("unnamed_") else f"unnamed_{name}"
            self._add_members(unit, shape.end(unit.data, at), owner, signature, depth)
        return self._definitions.define_compound(name, tuple(signature), self._origin)

    @staticmethod
    def _compound_size(unit: Unit, shape: Shape, at: int) -> int:
        if shape.plain:
            return int(shape.unpack(unit.data, at)[1])
        return _constant(shape.read(unit.data, at), abbrev.BYTE_SIZE)

    def _add_members(self, unit: Unit, start: int, owner: str, signature: list[Any], depth: int) -> None:
        """Append name, offset and type of each member."""
        data, ids, names, shapes = unit.data, unit.ids, unit.names, unit.shapes
        unnamed: dict[int, int] = {}
        at = start
        while code := data[at]:
            shape, at = (shapes[code], at + 1) if code < 0x80 else unit.shape(at)
            if shape.plain and shape.tag == abbrev.MEMBER:
                text, target, place = shape.unpack(data, at)
                at += shape.size
                name = names[shape.name][text]
                number = ids.get(target)
                if number is None:
                    number = self.resolve(unit, target, f"{owner}_{name}", depth + 1)
                signature += (name, place, number)
            else:
                if shape.tag == abbrev.MEMBER:
                    self._add_member(unit, shape, at, owner, signature, unnamed, depth)
                at = unit.after(shape, at)
        unit.spend(at - start)
        if len(signature) > 3 * _MAX_MEMBERS:
            msg = f"a type has more than {_MAX_MEMBERS} members"
            raise FormatError(msg)

    def _add_member(
        self, unit: Unit, shape: Shape, at: int, owner: str, signature: list[Any], unnamed: dict[int, int], depth: int
    ) -> None:
        """One with unusual attributes. ``unnamed`` counts those without names by offset."""
        values = shape.read(unit.data, at)
        text = name = unit.name_of(shape, values)
        offset = _constant(values, abbrev.MEMBER_LOCATION)
        bits = _constant(values, abbrev.BIT_SIZE)
        if not text:
            if bits:
                return  # padding
            nth = unnamed[offset] = unnamed.get(offset, -1) + 1
            if nth >= _MAX_UNNAMED:
                msg = f"a type has more than {_MAX_UNNAMED} members without names at one place"
                raise FormatError(msg)
            name = f"unnamed_field_{offset:x}" + "_" * nth
        number = self.target(unit, shape, values, f"{owner}_{name}", depth)
        if bits:
            offset, number = self._bit_field(values, offset, bits, number)
        elif not text:
            number = self._number(("anonymous", number))
        signature += (name, offset, number)

    def _bit_field(self, values: dict[int, Any], offset: int, bits: int, number: int) -> tuple[int, int]:
        """Offset and type of the unit that a bit field is a part of."""
        size = self._definitions.size(number)
        if abbrev.DATA_BIT_OFFSET in values:
            first = _constant(values, abbrev.DATA_BIT_OFFSET)
            offset = first // (8 * size) * size
            from_start = first - 8 * offset
            position = from_start if self._endian == "little" else 8 * size - from_start - bits
        else:
            # DWARF 2 and 3 count from the most significant bit of a unit of its own size.
            whole = 8 * _constant(values, abbrev.BYTE_SIZE, size)
            position = whole - _constant(values, abbrev.BIT_OFFSET) - bits
        return offset, self._number(("bitfield", position, bits, number))


def _constant(values: dict[int, Any], attribute: int, default: int = 0) -> int:
    """A constant; old compilers wrote member offsets as an expression, DW_OP_plus_uconst."""
    value = values.get(attribute, default)
    if isinstance(value, int):
        return value
    return abbrev.read_leb(value, 1)[0] if value[:1] in _CONSTANT_OPERATIONS else default


def _count(values: dict[int, Any]) -> int:
    if abbrev.COUNT in values:
        return max(0, _constant(values, abbrev.COUNT))
    bound = _constant(values, abbrev.UPPER_BOUND, -1)
    # Old compilers wrote -1 for no elements, in whatever size.
    return 0 if bound in _NO_ELEMENTS else max(0, bound + 1)
