"""The units of .debug_info and .debug_types: their headers, entries, strings and references.

# Reference: DWARF Debugging Information Format, version 5, sections 7.5.1, 7.5.2 and 7.26
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from ..exceptions import FormatError
from . import dwarf_abbrev as abbrev
from .dwarf_abbrev import Abbreviations, Layout, Shape, Table
from .dwarf_sections import Sections

MAX_UNITS = 1 << 20
MAX_NAME = 1 << 10
"""Longest name in bytes; the kernel's own rules keep far below."""
_REREADS = 16
_NO_TABLE = Table({})
_TYPE_UNITS = (2, 6)
_SKELETONS = (4, 5)


class Strings(dict[Any, str]):
    """Strings of one section by offset, decoded when first asked for.

    The sum of what is decoded is bounded, since strings of a damaged file may all be tails of one long string.
    """

    def __init__(self, section: bytes, name: str) -> None:
        """Take the section."""
        super().__init__()
        self._section = section
        self._name = name
        self._budget = 4 * len(section)

    def __missing__(self, offset: int) -> str:
        end = self._section.find(0, offset, offset + MAX_NAME + 1) if offset < len(self._section) else -1
        self._budget -= end - offset
        if end < 0 or self._budget < 0:
            msg = f"{self._name} has no proper string at offset {offset:#x}"
            raise FormatError(msg)
        text = self[offset] = self._section[offset:end].decode("utf-8", "replace")
        return text


class _InlineStrings(dict[Any, str]):
    """Names that stand in the entries themselves."""

    def __missing__(self, text: bytes) -> str:
        if len(text) > MAX_NAME:
            msg = f"a name in the debug information has {len(text)} bytes"
            raise FormatError(msg)
        return text.decode("utf-8", "replace")


class _IndexedStrings(dict[Any, str]):
    """Names of one unit by index in its part of .debug_str_offsets."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def __missing__(self, index: int | bytes) -> str:
        unit = self._unit
        order = unit.layout.order
        number = index if isinstance(index, int) else int.from_bytes(index, "little" if order == "little" else "big")
        entry = Struct(("<" if order == "little" else ">") + ("I" if unit.layout.offset_size == 4 else "Q"))
        at = unit.string_base() + number * entry.size
        if at + entry.size > len(unit.file.string_offsets):
            msg = f"the string index {number} in {unit} is beyond .debug_str_offsets"
            raise FormatError(msg)
        text = self[index] = unit.file.strings[entry.unpack_from(unit.file.string_offsets, at)[0]]
        return text


class Entry(NamedTuple):
    """A type or variable on the top level of a unit.

    Attributes:
        offset: Where it is.
        shape: Its layout.
        at: Where its attributes start.
        look: What its children have, at all depths, without what they refer to. It is made of what is quick to get, to
            find out whether the same has been read before; None if nothing is.
    """

    offset: int
    shape: Shape
    at: int
    look: tuple[Any, ...] | None


class Unit:
    """A compilation, partial or type unit. Offsets are from its header, which is how most references count.

    Attributes:
        file: What it belongs to.
        start, end: Its place in its section.
        layout: Sizes of forms.
        first: Offset of its first entry.
        signature, type_offset: Of a type unit, otherwise 0.
        data: Its bytes from its header on, between `load` and `unload`.
        shapes: Its abbreviations, likewise.
        names: Its strings by what `Shape.name` says, likewise.
        ids: Types that have been read, for who reads them: number by offset.
    """

    __slots__ = (
        *("_abbreviations", "_base", "_budget", "_section", "_table", "data", "end", "file", "first", "ids"),
        *("layout", "names", "shapes", "signature", "start", "type_offset"),
    )

    def __init__(self, file: DebugFile, section: bytes, start: int, end: int) -> None:
        """Note the place; `DebugFile` fills in what the header says."""
        self.file = file
        self._section = section
        self.start = start
        self.end = end
        self.signature = 0
        self.type_offset = 0
        self.data = b""
        self.shapes: dict[int, Shape] = {}
        self.names: tuple[dict[Any, str], ...] = ()
        self.ids: dict[int, int] = {}
        self.unload()

    def __str__(self) -> str:
        """For messages."""
        return f"the unit at offset {self.start:#x} of the debug information"

    def set_header(self, layout: Layout, abbreviations: int, first: int) -> None:
        """What the header says."""
        self.layout = layout
        self._abbreviations = abbreviations
        self.first = first

    def load(self) -> None:
        """Get ready for reading."""
        if not self.data:
            self._table = self.file.abbreviations.table(self._abbreviations, self.layout)
            self.shapes = self._table.shapes
            self.names = ({}, self.file.strings, _InlineStrings(), _IndexedStrings(self), self.file.line_strings)
            self.data = self._section[self.start : self.end]

    def unload(self) -> None:
        """Forget everything that can be read again."""
        self.data = b""
        self._table = _NO_TABLE
        self._budget = _REREADS * (self.end - self.start)
        self._base = -1
        self.shapes = {}
        self.names = ()
        self.ids = {}

    def spend(self, size: int) -> None:
        """Bound how often the same bytes are read, since references may lead anywhere.

        Raises:
            FormatError: it is enough.
        """
        self._budget -= size
        if self._budget < 0:
            msg = f"entries of {self} overlap"
            raise FormatError(msg)

    def shape(self, offset: int) -> tuple[Shape, int]:
        """The layout of the entry at an offset, and where its attributes start.

        Raises:
            FormatError: there is no entry.
        """
        data = self.data
        if self.first <= offset < len(data):
            code, at = abbrev.read_leb(data, offset)
            shape = self.shapes.get(code)
            if shape is not None:
                return shape, at
        msg = f"there is no entry at offset {offset:#x} of {self}"
        raise FormatError(msg)

    def name_of(self, shape: Shape, values: dict[int, Any]) -> str:
        """The name of an entry, or nothing."""
        return self.names[shape.name][values[abbrev.NAME]] if shape.name else ""

    def source(self) -> str:
        """The name of the source file."""
        if self.first >= self.end - self.start:
            return ""
        self.load()
        shape, at = self.shape(self.first)
        return self.name_of(shape, shape.read(self.data, at))

    def string_base(self) -> int:
        """Where its part of .debug_str_offsets starts: DW_AT_str_offsets_base or, without, after the first header."""
        if self._base < 0:
            shape, at = self.shape(self.first)
            default = 2 * self.layout.offset_size if self.layout.version >= 5 else 0
            base = shape.read(self.data, at).get(abbrev.STR_OFFSETS_BASE, default)
            self._base = base if isinstance(base, int) else default
        return self._base

    def collected(self) -> list[Entry]:
        """The types and variables with names on the top level.

        This is where most of the time goes: every entry of the unit is stepped over.
        """
        data, shapes, steps = self.data, self.shapes, self._table.top_steps
        if self.first >= len(data):
            return []
        shape, at = self.shape(self.first)
        at = shape.end(data, at)
        found = []
        end = len(data) if shape.children else 0
        while at < end:
            code = data[at]
            step = steps[code]
            if step:
                at += step
            elif code:
                start = at
                shape, at = (shapes[code], at + 1) if code < 0x80 else self.shape(at)
                if shape.collected:
                    look, after = self._look(shape, at)
                    found.append(Entry(start, shape, at, look))
                    at = after
                else:
                    at = self.after(shape, at)
            else:
                break
        return found

    def after(self, shape: Shape, at: int) -> int:
        """Where the next entry on the same level starts: after the children, if there are any."""
        end = shape.end(self.data, at)
        if not shape.children:
            return end
        if abbrev.SIBLING in shape.keys:
            sibling = shape.read(self.data, at)[abbrev.SIBLING]
            if isinstance(sibling, int) and sibling > end:
                return sibling
        return self._after_children(end)

    def _after_children(self, at: int) -> int:
        data, shapes, steps = self.data, self.shapes, self._table.inner_steps
        depth = 1
        while depth:
            code = data[at]
            step = steps[code]
            if step > 0:
                at += step
            elif step:
                at -= step
                depth += 1
            elif code:
                shape, at = (shapes[code], at + 1) if code < 0x80 else self.shape(at)
                if shape.gaps:  # the same as `Shape.end`, for speed
                    for gap in shape.gaps:
                        at += gap + 1
                        size = data[at - 1]
                        if size >= 0x80:
                            size, at = abbrev.read_leb(data, at - 1)
                        at += size
                    at += shape.tail
                else:
                    at = shape.end(data, at)
                if shape.children:
                    depth += 1
            else:
                at += 1
                depth -= 1
        return at

    def _look(self, shape: Shape, at: int) -> tuple[tuple[Any, ...] | None, int]:
        """`Entry.look` of an entry and where the next one starts."""
        data, shapes = self.data, self.shapes
        start = at
        at = shape.end(data, at)
        found: list[Any] = []
        depth = 1 if shape.children else 0
        while depth:
            code = data[at]
            if not code:
                at += 1
                depth -= 1
                found.append(depth)
                continue
            child = shapes[code] if code < 0x80 else None
            if child is None or not child.comparable:
                return None, self.after(shape, start)
            begin, step = at, child.step
            at += step
            if child.children:
                depth += 1
            else:
                while data[at] == code:
                    at += step
            found += (child.kind, child.look(data[begin:at]))
            if child.name_index:
                names = self.names[abbrev.STRX]
                found += [names[index] for (index,) in child.name_index(data[begin:at])]
        return tuple(found), at

    def children(self, shape: Shape, at: int) -> Iterator[tuple[Shape, int]]:
        """Layout and place of the attributes of each child of the entry whose attributes start at ``at``."""
        if not shape.children:
            return
        data = self.data
        at = start = shape.end(data, at)
        while data[at]:
            shape, at = self.shape(at)
            yield shape, at
            at = self.after(shape, at)
        self.spend(at - start)


class DebugFile:
    """All units of a file and what they share.

    Attributes:
        units: In the order of the file, those of .debug_types last.
    """

    def __init__(self, sections: Sections, *, little_endian: bool) -> None:
        """Read the sections and the headers of the units.

        Raises:
            FormatError: a section or header is damaged.
        """
        self._order = "little" if little_endian else "big"
        self.abbreviations = Abbreviations(sections.read("abbrev"))
        self.strings = Strings(sections.read("str"), ".debug_str")
        self.line_strings = Strings(sections.read("line_str"), ".debug_line_str")
        self.string_offsets = sections.read("str_offsets")
        self._signatures: dict[int, Unit] = {}
        self._loaded: list[Unit] = []
        self.units = list(self._headers(sections.read("info"), types=False))
        self._starts = [unit.start for unit in self.units]
        self.units += self._headers(sections.read("types"), types=True)

    def target(self, unit: Unit, kind: int, value: int) -> tuple[Unit, int]:
        """What a reference leads to.

        Raises:
            FormatError: nothing.
        """
        if kind == abbrev.LOCAL:
            return unit, value
        if kind == abbrev.GLOBAL:
            index = bisect_right(self._starts, value) - 1
            if index >= 0:
                return self.units[index], value - self._starts[index]
        elif value in self._signatures:
            found = self._signatures[value]
            return found, found.type_offset
        msg = f"{unit} refers to {value:#x}, where no type is"
        raise FormatError(msg)

    def _headers(self, section: bytes, *, types: bool) -> Iterator[Unit]:
        at = 0
        while at < len(section):
            if section.startswith(b"\0\0\0\0", at) and not section[at:].strip(b"\0"):
                return  # padding
            unit = self._header(section, at, types=types)
            if unit.signature:
                self._signatures.setdefault(unit.signature, unit)
            yield unit
            at = unit.end

    def _header(self, section: bytes, at: int, *, types: bool) -> Unit:
        order = "<" if self._order == "little" else ">"
        try:
            length, offset_size, start = Struct(order + "I").unpack_from(section, at)[0], 4, at + 4
            if not length:
                msg = f"there is no unit at offset {at:#x} of the debug information"
                raise FormatError(msg)
            if length == 0xFFFFFFFF:
                length, offset_size, start = Struct(order + "Q").unpack_from(section, at + 4)[0], 8, at + 12
            offset = "I" if offset_size == 4 else "Q"
            version = Struct(order + "H").unpack_from(section, start)[0]
            if version == 5:
                header = Struct(order + "xxBB" + offset)
                kind, address_size, abbreviations = header.unpack_from(section, start)
            else:
                header = Struct(order + "xx" + offset + "B")
                kind = _TYPE_UNITS[0] if types else 0
                abbreviations, address_size = header.unpack_from(section, start)
            unit = Unit(self, section, at, start + length)
            first = start + header.size
            if kind in _TYPE_UNITS:
                signed = Struct(order + "Q" + offset)
                unit.signature, unit.type_offset = signed.unpack_from(section, first)
                first += signed.size
            elif kind in _SKELETONS:
                first += 8
        except StructError:
            msg = f"the header at offset {at:#x} of the debug information is cut off"
            raise FormatError(msg) from None
        if not 2 <= version <= 5 or unit.end > len(section) or address_size not in (1, 2, 4, 8):
            msg = f"the unit at offset {at:#x} of the debug information is damaged or of an unknown version ({version})"
            raise FormatError(msg)
        unit.set_header(Layout(version, offset_size, address_size, self._order), abbreviations, first - at)
        return unit
