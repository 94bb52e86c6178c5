"""C types from DWARF, versions 2 to 5.

# Reference: DWARF Debugging Information Format, version 5, sections 5 and 7
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from ..exceptions import FormatError
from .types import VOID, TypeReference, Types

_MAX_DEPTH = 64
_FUNCTION: TypeReference = {"kind": "function"}
_QUALIFIERS = frozenset(
    f"DW_TAG_{name}_type" for name in ("const", "volatile", "restrict", "atomic", "immutable", "packed")
)
_KINDS = {"DW_TAG_structure_type": "struct", "DW_TAG_union_type": "union", "DW_TAG_class_type": "class"}
# DW_ATE_*: 1 address, 2 boolean, 4 float, 5 signed, 6 signed char, 7 unsigned, 8 unsigned char, 0x10 UTF
_SIGNED = (5, 6, 0xD)
_BASE_KIND = {2: "bool", 3: "float", 4: "float", 6: "char", 8: "char"}


class DwarfTypes:
    """Collects the types of compile units into one table.

    The same type comes from many units and is taken once. Where two different types have one name (``struct elf_file``
    of link_elf.c and of link_elf_obj.c), the later one gets the unit's name appended: ``elf_file__link_elf_obj``.

    Attributes:
        types: what has been collected so far.
        variables: type of each variable with a name, by that name.
    """

    def __init__(self, elf: ELFFile, name: str = "the file") -> None:
        """Look for DWARF.

        Raises:
            FormatError: there is none.
        """
        if not elf.has_dwarf_info():
            msg = f"{name} has no DWARF debug information; kernel.debug has"
            raise FormatError(msg)
        self._name = name
        self._dwarf = elf.get_dwarf_info()
        self._endian = "little" if elf.little_endian else "big"
        self.types = Types.empty(elf.elfclass // 8, self._endian)
        self.variables: dict[str, TypeReference] = {}
        self._references: dict[int, TypeReference] = {}
        self._pending: list[tuple[DIE, TypeReference]] = []

    def units(self) -> Iterator[tuple[str, CompileUnit]]:
        """``(source file, unit)`` of each compile unit."""
        for unit in self._dwarf.iter_CUs():
            yield _text(unit.get_top_DIE(), "DW_AT_name"), unit

    def add_all(self, progress: Callable[[float, str], None] | None = None) -> None:
        """Collect the types of every unit."""
        units = list(self.units())
        for number, (source, unit) in enumerate(units):
            if progress:
                progress(100 * number / len(units), f"Reading types of {source}")
            self.add(unit)

    def add(self, unit: CompileUnit) -> None:
        """Collect the types and variables of one unit.

        Raises:
            FormatError: its debug information is damaged.
        """
        source = PurePosixPath(_text(unit.get_top_DIE(), "DW_AT_name")).stem
        self._references.clear()
        try:
            for die in unit.get_top_DIE().iter_children():
                # What has no name gets one from what uses it.
                if "DW_AT_name" not in die.attributes:
                    continue
                if die.tag in _KINDS or die.tag in ("DW_TAG_enumeration_type", "DW_TAG_typedef", "DW_TAG_base_type"):
                    self._reference(die, source)
                    self._define_pending(source)
                elif die.tag == "DW_TAG_variable":
                    name = _text(die, "DW_AT_name")
                    self.variables[name] = self._target(die, source, f"unnamed_{name}")
                    self._define_pending(source)
        except (DWARFError, ELFError, KeyError, IndexError, RecursionError) as error:
            msg = f"the debug information of {self._name} is damaged in {source} ({error})"
            raise FormatError(msg) from None

    def _target(self, die: DIE, source: str, hint: str = "", depth: int = 0) -> TypeReference:
        """The type that ``die`` refers to."""
        if "DW_AT_type" not in die.attributes:
            return VOID
        return self._reference(die.get_DIE_from_attribute("DW_AT_type"), source, hint, depth + 1)

    def _reference(self, die: DIE, source: str, hint: str = "", depth: int = 0) -> TypeReference:
        """A reference to the type ``die`` describes, defining it if that is still to be done."""
        known = self._references.get(die.offset)
        if known is None:
            if depth > _MAX_DEPTH:
                msg = f"a type in {source} is a chain of more than {_MAX_DEPTH} pointers, arrays or typedefs"
                raise FormatError(msg)
            known = self._make_reference(die, source, hint, depth)
            self._references[die.offset] = known
        return known

    def _make_reference(self, die: DIE, source: str, hint: str, depth: int) -> TypeReference:
        tag = die.tag
        if tag in _KINDS:
            return self._compound(die, source, hint)
        if tag == "DW_TAG_pointer_type":
            return {"kind": "pointer", "subtype": self._target(die, source, hint, depth)}
        if tag == "DW_TAG_typedef":
            return self._target(die, source, _text(die, "DW_AT_name"), depth)
        if tag in _QUALIFIERS:
            return self._target(die, source, hint, depth)
        if tag == "DW_TAG_array_type":
            return self._array(die, source, hint, depth)
        if tag == "DW_TAG_base_type":
            return self._base(die)
        if tag == "DW_TAG_enumeration_type":
            return self._enum(die, source, hint, depth)
        return _FUNCTION if tag == "DW_TAG_subroutine_type" else VOID

    def _base(self, die: DIE) -> TypeReference:
        name = _text(die, "DW_AT_name")
        encoding = _number(die, "DW_AT_encoding")
        self.types.base_types.setdefault(
            name,
            {
                "size": _number(die, "DW_AT_byte_size"),
                "signed": encoding in _SIGNED,
                "kind": _BASE_KIND.get(encoding, "int"),
                "endian": self._endian,
            },
        )
        return {"kind": "base", "name": name}

    def _array(self, die: DIE, source: str, hint: str, depth: int) -> TypeReference:
        """Arrays of arrays from the inside out; a flexible array has no elements."""
        result = self._target(die, source, hint, depth)
        counts = [_count(child) for child in die.iter_children() if child.tag == "DW_TAG_subrange_type"]
        for count in reversed(counts):
            result = {"kind": "array", "count": count, "subtype": result}
        return result

    def _enum(self, die: DIE, source: str, hint: str, depth: int) -> TypeReference:
        size = _number(die, "DW_AT_byte_size", 4)
        constants = {
            _text(child, "DW_AT_name"): _number(child, "DW_AT_const_value")
            for child in die.iter_children()
            if child.tag == "DW_TAG_enumerator"
        }
        if "DW_AT_type" in die.attributes:
            base = self._target(die, source, "", depth).get("name", "unsigned int")
        else:
            base = {1: "unsigned char", 2: "unsigned short", 8: "unsigned long"}.get(size, "unsigned int")
            plain = {"size": size, "signed": False, "kind": "int", "endian": self._endian}
            self.types.base_types.setdefault(base, plain)
        definition = {"size": size, "base": base, "constants": constants}
        name = self._define(self.types.enums, _text(die, "DW_AT_name") or hint or "enum", definition, source)
        return {"kind": "enum", "name": name}

    def _compound(self, die: DIE, source: str, hint: str) -> TypeReference:
        """A structure or union: referred to by name at once and defined later, since members lead anywhere."""
        name = _text(die, "DW_AT_name") or hint or f"unnamed_{source}_{_number(die, 'DW_AT_decl_line')}"
        reference: TypeReference = {"kind": _KINDS[str(die.tag)], "name": name}
        if "DW_AT_declaration" not in die.attributes:
            self._pending.append((die, reference))
        return reference

    def _define_pending(self, source: str) -> None:
        """Define what has been referred to, which refers to more."""
        while self._pending:
            die, reference = self._pending.pop()
            size = _number(die, "DW_AT_byte_size")
            definition: dict[str, Any] = {"kind": reference["kind"], "size": size, "fields": {}}
            for child in die.iter_children():
                if child.tag == "DW_TAG_member":
                    self._add_member(definition["fields"], reference["name"], child, source)
            # In place: references to it are out already.
            reference["name"] = self._define(self.types.user_types, reference["name"], definition, source)

    def _add_member(self, fields: dict[str, Any], parent: str, die: DIE, source: str) -> None:
        name = _text(die, "DW_AT_name")
        anonymous = not name
        if anonymous:
            if _number(die, "DW_AT_bit_size"):
                return  # padding
            name = f"unnamed_field_{_number(die, 'DW_AT_data_member_location'):x}"
            while name in fields:
                name += "_"
        owner = parent if parent.startswith("unnamed_") else f"unnamed_{parent}"
        reference = self._target(die, source, f"{owner}_{name}")
        fields[name] = self._place(die, reference)
        if anonymous:
            fields[name]["anonymous"] = True

    def _place(self, die: DIE, reference: TypeReference) -> dict[str, Any]:
        """Offset and type of a member; of a bit field, those of the unit that it is a part of."""
        offset = _number(die, "DW_AT_data_member_location")
        bits = _number(die, "DW_AT_bit_size")
        if not bits:
            return {"offset": offset, "type": reference}
        size = self._size(reference)
        if "DW_AT_data_bit_offset" in die.attributes:
            first = _number(die, "DW_AT_data_bit_offset")
            offset = first // (8 * size) * size
            from_start = first - 8 * offset
            position = from_start if self._endian == "little" else 8 * size - from_start - bits
        else:
            # DWARF 2 and 3 count from the most significant bit of a unit of its own size.
            position = 8 * _number(die, "DW_AT_byte_size", size) - _number(die, "DW_AT_bit_offset") - bits
        field = {"kind": "bitfield", "bit_position": position, "bit_length": bits, "type": reference}
        return {"offset": offset, "type": field}

    def _size(self, reference: TypeReference) -> int:
        table = self.types.enums if reference["kind"] == "enum" else self.types.base_types
        return int(table.get(reference.get("name", ""), {}).get("size", 4)) or 4

    @staticmethod
    def _define(table: dict[str, Any], name: str, definition: dict[str, Any], source: str) -> str:
        """Enter a definition and return the name it has got."""
        entered, number = name, 0
        while table.setdefault(entered, definition) != definition:
            entered = f"{name}__{source}" + (f"_{number}" if number else "")
            number += 1
        return entered


def _text(die: DIE, attribute: str) -> str:
    value = die.attributes[attribute].value if attribute in die.attributes else b""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(die: DIE, attribute: str, default: int = 0) -> int:
    """A constant; old compilers wrote member offsets as an expression, DW_OP_plus_uconst."""
    if attribute not in die.attributes:
        return default
    value = die.attributes[attribute].value
    if isinstance(value, int):
        return value
    number = shift = 0
    for byte in list(value)[1:]:
        number |= (byte & 0x7F) << shift
        shift += 7
    return number


def _count(die: DIE) -> int:
    if "DW_AT_count" in die.attributes:
        return max(0, _number(die, "DW_AT_count"))
    return max(0, _number(die, "DW_AT_upper_bound", -1) + 1)
