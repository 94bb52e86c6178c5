"""Names in the debug information: in .debug_str, by index, or in the entries themselves.

Each kind is a dictionary that fills itself: a name is decoded when it is first asked for.

# Reference: DWARF Debugging Information Format, version 5, sections 7.5.5 and 7.26
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..exceptions import FormatError

if TYPE_CHECKING:
    from .dwarf_units import Unit

MAX_NAME = 1 << 10
"""Longest name in bytes; the kernel's own rules keep far below."""


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
        self._budget -= max(0, end - offset)
        if end < 0 or self._budget < 0:
            msg = f"{self._name} has no proper string at offset {offset:#x}"
            raise FormatError(msg)
        text = self[offset] = self._section[offset:end].decode("utf-8", "replace")
        return text


class InlineStrings(dict[Any, str]):
    """Names that stand in the entries themselves."""

    def __missing__(self, text: bytes) -> str:
        if len(text) > MAX_NAME:
            msg = f"a name in the debug information has {len(text)} bytes"
            raise FormatError(msg)
        return text.decode("utf-8", "replace")


class IndexedStrings(dict[Any, str]):
    """Names of one unit by index in its part of .debug_str_offsets."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit
        self._place: tuple[Sequence[int], int] | None = None

    def __missing__(self, index: int | bytes) -> str:
        number = index if isinstance(index, int) else int.from_bytes(index, self._unit.layout.order)
        text = self[index] = self._unit.file.strings[self.offsets([(number,)])[0]]
        return text

    def offsets(self, indexes: Iterable[tuple[int]]) -> list[int]:
        """The strings' offsets in .debug_str, which are quicker to get and the same in all units."""
        if self._place is None:
            self._place = self._unit.string_place()
        words, start = self._place
        try:
            return [words[start + index] for (index,) in indexes]
        except IndexError:
            msg = f"a string index in {self._unit} is beyond .debug_str_offsets"
            raise FormatError(msg) from None
