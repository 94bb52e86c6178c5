"""How entries of .debug_info are laid out: abbreviation tables, compiled for fast reading.

A kernel has millions of entries but only a few hundred different layouts, which repeat in thousands of tables. So that
each layout is worked out once, and reading an entry is one call of ``struct`` where all its attributes have fixed
sizes.

# Reference: DWARF Debugging Information Format, version 5, sections 7.5.3 to 7.5.6
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Literal, NamedTuple

from ..exceptions import FormatError

# DW_AT_*: those that describe C types.
SIBLING, NAME, BYTE_SIZE, BIT_OFFSET, BIT_SIZE = 0x01, 0x03, 0x0B, 0x0C, 0x0D
CONST_VALUE, UPPER_BOUND, COUNT, MEMBER_LOCATION = 0x1C, 0x2F, 0x37, 0x38
DECL_LINE, DECLARATION, ENCODING, SPECIFICATION, TYPE = 0x3B, 0x3C, 0x3E, 0x47, 0x49
SIGNATURE, DATA_BIT_OFFSET, STR_OFFSETS_BASE = 0x69, 0x6B, 0x72
_NUMBERS = frozenset(
    (
        *(SIBLING, BYTE_SIZE, BIT_OFFSET, BIT_SIZE, CONST_VALUE, UPPER_BOUND, COUNT, MEMBER_LOCATION),
        *(DECL_LINE, DECLARATION, ENCODING, DATA_BIT_OFFSET, STR_OFFSETS_BASE),
    )
)
_REFERENCES = frozenset((SPECIFICATION, TYPE, SIGNATURE))

# DW_TAG_*
ARRAY, CLASS, ENUM, MEMBER, POINTER, STRUCT, SUBROUTINE, TYPEDEF = 0x01, 0x02, 0x04, 0x0D, 0x0F, 0x13, 0x15, 0x16
UNION, SUBRANGE, BASE, ENUMERATOR, VARIABLE = 0x17, 0x21, 0x24, 0x28, 0x34
QUALIFIERS = frozenset((0x26, 0x2D, 0x35, 0x37, 0x47, 0x4B))
"""const, packed, volatile, restrict, atomic, immutable"""
COMPOUNDS = {STRUCT: "struct", UNION: "union", CLASS: "class"}
_USUAL = {
    **dict.fromkeys(COMPOUNDS, (NAME, BYTE_SIZE)),
    **dict.fromkeys((POINTER, *QUALIFIERS), (TYPE,)),
    TYPEDEF: (TYPE, NAME),
    MEMBER: (NAME, TYPE, MEMBER_LOCATION),
}
# What tells the entries within one definition from those of another, besides references.
_TELLING = frozenset(
    (
        *(NAME, BYTE_SIZE, BIT_OFFSET, BIT_SIZE, CONST_VALUE, UPPER_BOUND, COUNT, MEMBER_LOCATION),
        *(DECLARATION, ENCODING, DATA_BIT_OFFSET),
    )
)
_COLLECTED = frozenset((*COMPOUNDS, ENUM, TYPEDEF, BASE, VARIABLE))

# Where a name is: nowhere, .debug_str, in the entry, .debug_str by .debug_str_offsets, .debug_line_str.
NAMELESS, STRP, INLINE, STRX, LINE_STRP = range(5)
# What a reference counts from: the unit, .debug_info; or the signature of a type unit.
LOCAL, GLOBAL, BY_SIGNATURE = range(1, 4)

_NAME_FORMS = {
    0x08: INLINE,
    0x0E: STRP,
    0x1F: LINE_STRP,
    **dict.fromkeys((0x1A, 0x25, 0x26, 0x27, 0x28, 0x1F02), STRX),
}
_REFERENCE_FORMS = {**dict.fromkeys(range(0x11, 0x16), LOCAL), 0x10: GLOBAL, 0x20: BY_SIGNATURE}
_NOT_NUMBERS = frozenset((*_NAME_FORMS, *_REFERENCE_FORMS, 0x1D, 0x1F20, 0x1F21))
_FLAG_PRESENT, _IMPLICIT_CONST, _INDIRECT = 0x19, 0x21, 0x16
_IN_ABBREVIATION = (_FLAG_PRESENT, _IMPLICIT_CONST)
_FIXED = {
    **dict.fromkeys((0x0B, 0x0C, 0x11, 0x25, 0x29), 1),
    **dict.fromkeys((0x05, 0x12, 0x26, 0x2A), 2),
    **dict.fromkeys((0x27, 0x2B), 3),
    **dict.fromkeys((0x06, 0x13, 0x1C, 0x28, 0x2C), 4),
    **dict.fromkeys((0x07, 0x14, 0x20, 0x24), 8),
    0x1E: 16,
    _FLAG_PRESENT: 0,
    _IMPLICIT_CONST: 0,
}
_OFFSETS = frozenset((0x0E, 0x17, 0x1D, 0x1F, 0x1F20, 0x1F21))
_ADDRESS, _REF_ADDRESS, _SIGNED = 0x01, 0x10, 0x0D
_FORMATS = {1: "B", 2: "H", 3: "3s", 4: "I", 8: "Q"}

# Most units have a table of their own; no kernel has half as many units.
_MAX_TABLES = 1 << 13
_REREADS = 16

_LEB = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
# A code, then tag, children flag and pairs of attribute and form; DW_FORM_implicit_const has its value here.
_DECLARATION = re.compile(
    rb"(%(leb)s)(%(leb)s[\x00\x01](?:(?!\x00\x00)%(leb)s(?:\x21%(leb)s|(?!\x21)%(leb)s))*)\x00\x00" % {b"leb": _LEB}
)


_Reader = Callable[[bytes, int, str], tuple[Any, int]]


class Layout(NamedTuple):
    """What decides the size of a form."""

    version: int
    offset_size: int
    address_size: int
    order: Literal["little", "big"]


class _Attribute(NamedTuple):
    """One attribute of an abbreviation; ``wanted`` is its number if it is of use in this form, otherwise 0."""

    number: int
    wanted: int
    form: int
    size: int | None
    value: int


class _Part(NamedTuple):
    """Some attributes of fixed size, then at most one whose size is in the data."""

    size: int
    keys: tuple[int, ...]
    unpack: Callable[[bytes, int], tuple[Any, ...]]
    key: int
    read: _Reader | None


class Shape:
    """The layout of entries, from one abbreviation declaration.

    Attributes:
        tag: DW_TAG_*.
        children: Whether entries of their own follow.
        size: Bytes of all attributes, or -1 if that is in the data.
        unpack: Values of `keys` where the size is fixed.
        keys: The attributes (DW_AT_*) that `unpack` gives.
        constants: Attributes whose value is in the abbreviation.
        name: Where the name is: NAMELESS, STRP, INLINE, STRX or LINE_STRP.
        references: What each reference (DW_AT_type, ...) counts from: LOCAL, GLOBAL or BY_SIGNATURE.
        collected: A type or variable with a name; those of a unit's top level are collected.
        plain: `unpack` gives all that is wanted, in the usual order: name, type and place of a member, name and size of
            a structure, type and name of a typedef, type of a pointer. Nearly every entry is so.
        gaps, tail: Where nothing but LEB128 numbers, and blocks that start with one as their size, have no fixed size:
            the bytes before each and whether it is a block, and the bytes after the last one.
        step: Bytes from one entry to the next, the code included, where the size is fixed.
        comparable: Whether `look` works.
        kind: What tells entries from others besides what `look` gives.
        name_column, type_column: Unpack nothing but the name or what DW_AT_type refers to, where all sizes are fixed.
            They count from the last byte of the code, to do so for many entries in a row as well.
    """

    __slots__ = (
        *("_mask", "_masks", "_order", "_parts", "children", "collected", "comparable", "constants", "gaps", "keys"),
        *("kind", "name", "name_column", "plain", "references", "size", "step", "tag", "tail", "type_column", "unpack"),
    )

    def __init__(self, tag: int, children: bool, attributes: list[_Attribute], layout: Layout) -> None:
        """Work out how to read entries of a layout."""
        self.tag = tag
        self.children = children
        self.constants = {one.wanted: one.value for one in attributes if one.wanted and one.form in _IN_ABBREVIATION}
        self.name = next((_NAME_FORMS[one.form] for one in attributes if one.wanted == NAME), NAMELESS)
        self.references = {one.wanted: _REFERENCE_FORMS[one.form] for one in attributes if one.wanted in _REFERENCES}
        self._order = layout.order
        self._parts = list(_parts(attributes, layout))
        self.keys, self.unpack = self._parts[0].keys, self._parts[0].unpack
        self.size = -1 if any(part.read for part in self._parts) else self._parts[0].size
        self.step = 1 + self.size
        known = {one.wanted for one in attributes}
        self.collected = tag in _COLLECTED and (self.name != NAMELESS or SPECIFICATION in known)
        self.plain = (
            self.size >= 0
            and not self.constants
            and self.keys == _USUAL.get(tag)
            and self.references.get(TYPE, LOCAL) == LOCAL
            and not (tag == MEMBER and children)
        )
        simple = self.size < 0 and all(part.read in _SIMPLE for part in self._parts)
        self.gaps = tuple((part.size, part.read is _read_block) for part in self._parts[:-1]) if simple else ()
        self.tail = self._parts[-1].size
        self._prepare_look(attributes, layout)

    def _prepare_look(self, attributes: list[_Attribute], layout: Layout) -> None:
        self.kind = (self.tag, tuple(self.constants.items()))
        three_bytes = any(one.wanted == NAME and one.size not in (1, 2, 4, 8) for one in attributes)
        self.comparable = self.size >= 0 and not three_bytes and self.references.get(TYPE, LOCAL) == LOCAL
        masks = [b"\0"]
        for one in attributes:
            compared = one.number in _TELLING and not (one.wanted == NAME and self.name == STRX)
            masks.append((b"\xff" if compared else b"\0") * (one.size or 0))
        self._mask = b"".join(masks)
        self._masks: dict[int, int] = {}
        self.name_column = self._column(NAME, attributes, layout)
        self.type_column = self._column(TYPE, attributes, layout)

    def _column(self, wanted: int, attributes: list[_Attribute], layout: Layout) -> Struct | None:
        """Unpacks one attribute; counts from the code, so that it does so for many entries in a row as well."""
        if not self.comparable or wanted not in self.keys:
            return None
        only = [(one.wanted if one.wanted == wanted else 0, one.size or 0) for one in attributes]
        return _struct([(0, 1), *only], layout)

    def read(self, data: bytes, at: int) -> dict[int, Any]:
        """The wanted attributes of the entry whose attributes start at ``at``."""
        if self.size >= 0:
            values = dict(zip(self.keys, self.unpack(data, at), strict=False))
        else:
            values = {}
            for size, keys, unpack, key, read in self._parts:
                values.update(zip(keys, unpack(data, at), strict=False))
                at += size
                if read:
                    value, at = read(data, at, self._order)
                    if key:
                        values[key] = value
        if self.constants:
            values.update(self.constants)
        return values

    def end(self, data: bytes, at: int) -> int:
        """Where the attributes that start at ``at`` end."""
        if self.size >= 0:
            return at + self.size
        if self.gaps:
            for gap, block in self.gaps:
                size, at = read_leb(data, at + gap)
                if block:
                    at += size
            return at + self.tail
        for size, _, _, _, read in self._parts:
            at += size
            if read:
                at = read(data, at, self._order)[1]
        return at

    def look(self, data: bytes) -> bytes:
        """The bytes of such entries in a row without what differs from unit to unit: references, numbers of files.

        Two units that say the same have the same there, but for names by index.
        """
        size = len(data)
        mask = self._masks.get(size)
        if mask is None:
            mask = self._masks[size] = int.from_bytes(self._mask * (size // self.step), "little")
        return (int.from_bytes(data, "little") & mask).to_bytes(size, "little")


class Table:
    """One abbreviation table.

    Attributes:
        shapes: By code.
        top_steps, inner_steps: By the first byte of an entry, for walking: how far to the next entry where that is all
            there is to know. 0 if more is to be done; negative, in `inner_steps` only, if the entry has children.
        usual: The comparable ones by the first byte of an entry; None is another one.
    """

    __slots__ = ("inner_steps", "shapes", "top_steps", "usual")

    def __init__(self, shapes: dict[int, Shape]) -> None:
        """Index what has been parsed."""
        self.shapes = shapes
        self.top_steps = [0] * 256
        self.usual: list[Shape | None] = [None] * 256
        self.inner_steps = [0] * 256
        for code, shape in shapes.items():
            if code < 0x80 and shape.size >= 0:
                step = 1 + shape.size
                self.usual[code] = shape if shape.comparable else None
                self.inner_steps[code] = -step if shape.children else step
                if not shape.collected and not shape.children:
                    self.top_steps[code] = step


class Abbreviations:
    """All tables of a file, each layout compiled once.

    Tables are read where units say that they are; so that a file cannot make us read the same bytes again and again,
    the sum of what is read is bounded by the section.
    """

    def __init__(self, section: bytes) -> None:
        """Take .debug_abbrev."""
        self._section = section
        self._tables: dict[tuple[int, Layout], Table] = {}
        self._shapes: dict[tuple[bytes, Layout], Shape] = {}
        self._budget = _REREADS * len(section)

    def table(self, offset: int, layout: Layout) -> Table:
        """The table at an offset of .debug_abbrev.

        Raises:
            FormatError: there is none that can be read.
        """
        found = self._tables.get((offset, layout))
        if found is None:
            if len(self._tables) >= _MAX_TABLES:
                self._tables.clear()
            found = self._tables[offset, layout] = Table(self._parse(offset, layout))
        return found

    def _parse(self, offset: int, layout: Layout) -> dict[int, Shape]:
        section, at = self._section, offset
        shapes: dict[int, Shape] = {}
        while at < len(section) and section[at]:
            match = _DECLARATION.match(section, at)
            if match is None:
                msg = f"the abbreviation at offset {at:#x} of .debug_abbrev cannot be read"
                raise FormatError(msg)
            at = match.end()
            code, declaration = match.groups()
            shape = self._shapes.get((declaration, layout))
            if shape is None:
                shape = self._shapes[declaration, layout] = _compile(declaration, layout)
            shapes[code[0] if len(code) == 1 else read_leb(code, 0)[0]] = shape
        self._budget -= at - offset
        if self._budget < 0 or at >= len(section):
            msg = f"the abbreviations at offset {offset:#x} of .debug_abbrev have no end or overlap others"
            raise FormatError(msg)
        return shapes


def _compile(declaration: bytes, layout: Layout) -> Shape:
    tag, at = read_leb(declaration, 0)
    children = declaration[at] == 1
    attributes: list[_Attribute] = []
    named = False
    at += 1
    while at < len(declaration):
        number, at = read_leb(declaration, at)
        form, at = read_leb(declaration, at)
        value = 1
        if form == _IMPLICIT_CONST:
            value, at = _read_signed_leb(declaration, at, "")
        wanted = _wanted(number, form)
        if wanted == DECL_LINE and (named or tag not in COMPOUNDS):
            wanted = 0  # it is only used where there is nothing better to make a name of
        named |= wanted == NAME
        attributes.append(_Attribute(number, wanted, form, _size(form, layout), value))
    return Shape(tag, children, attributes, layout)


def _wanted(number: int, form: int) -> int:
    """The attribute if it is of use in this form, otherwise 0."""
    if number == NAME:
        return number if form in _NAME_FORMS else 0
    if number in _REFERENCES:
        return number if form in _REFERENCE_FORMS else 0
    return number if number in _NUMBERS and form not in _NOT_NUMBERS else 0


def _size(form: int, layout: Layout) -> int | None:
    if form in _OFFSETS:
        return layout.offset_size
    if form == _ADDRESS:
        return layout.address_size
    if form == _REF_ADDRESS:
        return layout.address_size if layout.version == 2 else layout.offset_size
    return _FIXED.get(form)


def _parts(attributes: list[_Attribute], layout: Layout) -> Iterator[_Part]:
    """The attributes cut behind each whose size is in the data; the last part has none."""
    fixed: list[tuple[int, int]] = []
    for one in attributes:
        if one.size is None:
            yield _part(fixed, layout, one.wanted, _reader(one.form))
            fixed = []
        elif one.form not in _IN_ABBREVIATION:
            fixed.append((one.wanted, one.size))
    yield _part(fixed, layout)


def _part(fixed: list[tuple[int, int]], layout: Layout, key: int = 0, read: _Reader | None = None) -> _Part:
    packed = _struct(fixed, layout)
    keys = tuple(wanted for wanted, size in fixed if wanted and size in _FORMATS)
    return _Part(packed.size, keys, packed.unpack_from, key, read)


def _struct(fixed: list[tuple[int, int]], layout: Layout) -> Struct:
    """Unpacks those attributes of fixed size that are wanted."""
    codes = [_FORMATS.get(size, f"{size}x") if wanted else f"{size}x" for wanted, size in fixed]
    return Struct(("<" if layout.order == "little" else ">") + "".join(codes))


def read_leb(data: bytes, at: int, _order: str = "") -> tuple[int, int]:
    """An unsigned LEB128 number and where it ends."""
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 70:
            msg = "a number in the debug information has more than 64 bits"
            raise FormatError(msg)


def _read_signed_leb(data: bytes, at: int, _order: str) -> tuple[int, int]:
    start = at
    value, at = read_leb(data, at)
    bits = 7 * (at - start)
    return value - (1 << bits) if value >> (bits - 1) else value, at


def _read_string(data: bytes, at: int, _order: str) -> tuple[bytes, int]:
    end = data.index(0, at)
    return data[at:end], end + 1


def _read_block(data: bytes, at: int, _order: str) -> tuple[bytes, int]:
    size, at = read_leb(data, at)
    return data[at : at + size], at + size


def _sized_block(width: int) -> Callable[[bytes, int, str], tuple[bytes, int]]:
    def read(data: bytes, at: int, order: str) -> tuple[bytes, int]:
        start = at + width
        end = start + int.from_bytes(data[at:start], "little" if order == "little" else "big")
        return data[start:end], end

    return read


_READERS: dict[int, _Reader] = {
    **dict.fromkeys((0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23, 0x1F01, 0x1F02), read_leb),
    _SIGNED: _read_signed_leb,
    0x08: _read_string,
    **dict.fromkeys((0x09, 0x18), _read_block),
    0x0A: _sized_block(1),
    0x03: _sized_block(2),
    0x04: _sized_block(4),
}


_SIMPLE = (None, read_leb, _read_signed_leb, _read_block)


def _reader(form: int) -> _Reader:
    reader = _READERS.get(form)
    if reader is None:
        what = "DW_FORM_indirect, which no compiler writes" if form == _INDIRECT else f"the unknown form {form:#x}"
        msg = f"the debug information uses {what}"
        raise FormatError(msg)
    return reader
