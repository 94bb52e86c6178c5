"""The units of .debug_info and .debug_types: their headers, entries, strings and references.

# Reference: DWARF Debugging Information Format, version 5, sections 7.5.1, 7.5.2 and 7.26
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from struct import Struct
from struct import error as StructError
from typing import Any, Literal, NamedTuple

from ..exceptions import FormatError
from . import dwarf_abbrev as abbrev
from .dwarf_abbrev import NAMELESS, Abbreviations, Layout, Shape, Table
from .dwarf_sections import Sections
from .dwarf_strings import IndexedStrings, InlineStrings, Strings

_MAX_UNITS = 1 << 20
_REREADS = 16
_MAX_CHAIN = 64
_END = -1
_DEFINED = frozenset((*abbrev.COMPOUNDS, abbrev.ENUM))
_NO_TABLE = Table({})
_TYPE_UNITS = (2, 6)
_SKELETONS = (4, 5)


class _Descriptions(dict[int, int]):
    """Types of one unit by offset: numbers that stand for their name or, for pointers, arrays and the like, what to.

    The same number is the same type, in whatever unit. Types without names have numbers of their own in each.
    """

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def __missing__(self, offset: int) -> int:
        unit = self._unit
        data, usual, numbers = unit.data, unit.usual, unit.file.descriptions
        passed: list[tuple[int, Any]] = []
        at, number = offset, _END
        for _ in range(_MAX_CHAIN):
            shape = usual[data[at]]
            if shape is None:
                number = self[at] = self._unusual(at)
                break
            target = shape.type_column.unpack_from(data, at)[0] if shape.type_column else 0
            if shape.tag == abbrev.TYPEDEF and target and not self._is_named_by_typedef(target):
                passed.append((at, None))
            elif shape.name_column:
                number = self[at] = self._by_name(shape, shape.name_column.unpack_from(data, at))
                break
            elif shape.tag in _DEFINED:
                number = self[at] = numbers.setdefault((unit.start, unit.signature, at), len(numbers))
                break
            else:
                passed.append((at, shape.tag if shape.tag != abbrev.ARRAY else tuple(self._dimensions(at))))
                if not target:
                    break
            at = target
            if at in self:
                number = self[at]
                break
        for at, what in reversed(passed):
            if what is not None:
                number = numbers.setdefault((what, number), len(numbers))
            self[at] = number
        return number

    def _is_named_by_typedef(self, target: int) -> bool:
        shape = self._unit.usual[self._unit.data[target]] or self._unit.shape(target)[0]
        return shape.tag in _DEFINED and shape.name == NAMELESS

    def _by_name(self, shape: Shape, name: tuple[int]) -> int:
        place = self._unit.indexed.offsets([name])[0] if shape.name == abbrev.STRX else name[0]
        known = self._unit.file.descriptions
        return known.setdefault((shape.tag, shape.name, place), len(known))

    def _unusual(self, offset: int) -> int:
        """An entry whose layout is not among those for which it is quick."""
        unit = self._unit
        shape, at = unit.shape(offset)
        values = shape.read(unit.data, at)
        known = unit.file.descriptions
        own = shape.name == NAMELESS and (abbrev.TYPE in values or shape.tag in _DEFINED)
        key = (unit.start, unit.signature, offset) if own else (shape.tag, unit.name_of(shape, values))
        return known.setdefault(key, len(known))

    def _dimensions(self, offset: int) -> Iterator[Any]:
        shape, at = self._unit.shape(offset)
        for child, start in self._unit.children(shape, at):
            values = child.read(self._unit.data, start)
            yield values.get(abbrev.COUNT)
            yield values.get(abbrev.UPPER_BOUND)


class Entry(NamedTuple):
    """A type or variable on the top level of a unit.

    Attributes:
        offset: Where it is.
        shape: Its layout.
        at: Where its attributes start.
        look: What it has for children, at all depths, if that is quick to get. It is the same in all units.
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
        usual: Those that are comparable, by the first byte of an entry; None is another one.
        names: Its strings by what `Shape.name` says, likewise.
        indexed: Those by index, likewise.
        ids: Types that have been read, for who reads them: number by offset.
    """

    __slots__ = (
        *("_abbreviations", "_budget", "_descriptions", "_section", "_table", "data", "end", "file", "first", "ids"),
        *("indexed", "layout", "names", "shapes", "signature", "start", "type_offset", "usual"),
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
        self.usual: list[Shape | None] = []
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
            self.usual = self._table.usual
            self.indexed = IndexedStrings(self)
            self.names = ({}, self.file.strings, InlineStrings(), self.indexed, self.file.line_strings)
            self._descriptions = _Descriptions(self)
            self.data = self._section[self.start : self.end]

    def unload(self) -> None:
        """Forget everything that can be read again."""
        self.data = b""
        self._table = _NO_TABLE
        self._budget = _REREADS * (self.end - self.start)
        self.shapes = {}
        self.names = ()
        self.ids = {}
        self.usual = []
        self.indexed = IndexedStrings(self)
        self._descriptions = _Descriptions(self)

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
        loaded = bool(self.data)
        self.load()
        shape, at = self.shape(self.first)
        name = self.name_of(shape, shape.read(self.data, at))
        if not loaded:
            self.unload()
        return name

    def string_place(self) -> tuple[Sequence[int], int]:
        """.debug_str_offsets in words of this unit, and which of these is its first.

        That is in DW_AT_str_offsets_base; without, it comes after the section's first header.
        """
        shape, at = self.shape(self.first)
        size = self.layout.offset_size
        default = 2 * size if self.layout.version >= 5 else 0
        base = shape.read(self.data, at).get(abbrev.STR_OFFSETS_BASE, default)
        if not isinstance(base, int) or base % size:
            msg = f"{self} has its names at {base} in .debug_str_offsets"
            raise FormatError(msg)
        return self.file.string_words(size), base // size

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
                if shape.collected and shape.children:
                    look, end_of_look = self._look(shape.end(data, at))
                    found.append(Entry(start, shape, at, look))
                    at = end_of_look if look else self.after(shape, at)
                else:
                    if shape.collected:
                        found.append(Entry(start, shape, at, None))
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
                    for gap, block in shape.gaps:
                        at += gap + 1
                        size = data[at - 1]
                        if size >= 0x80:
                            size, at = abbrev.read_leb(data, at - 1)
                        if block:
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

    def _look(self, at: int) -> tuple[tuple[Any, ...] | None, int]:
        """`Entry.look` of the children that start at ``at``, and where they end."""
        data, usual = self.data, self.usual
        found: list[Any] = []
        targets: list[tuple[int]] = []
        start, depth, nested = at, 1, False
        while depth:
            code = data[at]
            if not code:
                at += 1
                depth -= 1
                found.append(depth)
                continue
            shape = usual[code]
            if shape is None:
                return None, at
            begin, step = at, shape.step
            at += step
            if shape.children:
                depth += 1
                nested = True
            else:
                while data[at] == code:
                    at += step
            entries = data[begin:at]
            found += (shape.kind, shape.look(entries))
            if shape.name == abbrev.STRX and shape.name_column:
                found += self.indexed.offsets(shape.name_column.iter_unpack(entries))
            if shape.type_column:
                targets += shape.type_column.iter_unpack(entries)
        described = self._descriptions
        if nested:  # what is inside has just been looked at
            found += [described[target] if not start <= target < at else _END for (target,) in targets]
        else:
            found += map(described.__getitem__, chain.from_iterable(targets))
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
        units: In the order of the file, type units last.
    """

    def __init__(self, sections: Sections, *, little_endian: bool) -> None:
        """Read the sections and the headers of the units.

        Raises:
            FormatError: a section or header is damaged.
        """
        self._order: Literal["little", "big"] = "little" if little_endian else "big"
        self.abbreviations = Abbreviations(sections.read("abbrev"))
        self.strings = Strings(sections.read("str"), ".debug_str")
        self.line_strings = Strings(sections.read("line_str"), ".debug_line_str")
        self._string_offsets = sections.read("str_offsets")
        self._string_words: dict[int, Sequence[int]] = {}
        self.descriptions: dict[tuple[Any, ...], int] = {}
        self._signatures: dict[int, Unit] = {}
        self._by_start = list(self._headers(sections.read("info"), types=False))
        self._starts = [unit.start for unit in self._by_start]
        units = [*self._by_start, *self._headers(sections.read("types"), types=True)]
        # Type units have no names, so that they had better be reached from those that have.
        self.units = sorted(units, key=lambda unit: unit.signature != 0)

    def string_words(self, size: int) -> Sequence[int]:
        """.debug_str_offsets in words of ``size`` bytes."""
        words = self._string_words.get(size)
        if words is None:
            words = array("I" if size == 4 else "Q")
            words.frombytes(self._string_offsets[: len(self._string_offsets) // size * size])
            if self._order != sys.byteorder:
                words.byteswap()
            self._string_words[size] = words
        return words

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
                return self._by_start[index], value - self._starts[index]
        elif value in self._signatures:
            found = self._signatures[value]
            return found, found.type_offset
        msg = f"{unit} refers to {value:#x}, where no type is"
        raise FormatError(msg)

    def _headers(self, section: bytes, *, types: bool) -> Iterator[Unit]:
        at = count = 0
        while at < len(section):
            if section.startswith(b"\0\0\0\0", at) and not section[at:].strip(b"\0"):
                return  # padding
            unit = self._header(section, at, types=types)
            if unit.signature:
                self._signatures.setdefault(unit.signature, unit)
            count += 1
            if count > _MAX_UNITS:
                msg = f"there are more than {_MAX_UNITS} units"
                raise FormatError(msg)
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
