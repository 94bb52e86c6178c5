"""The members of a structure in a CTF container, as far as they depend on each other and on nothing else."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise

from .ctf_format import STRUCT, UNION, Record

Member = tuple[str, int, int]
"""Name, type and offset in bits."""


class Members:
    """The members of a structure or union.

    Attributes:
        entries: all of them, in their order.
    """

    def __init__(self, record: Record) -> None:
        """Read them.

        Raises:
            FormatError: a name is damaged.
        """
        self.entries: list[Member] = list(record.home.members(record))
        self._union = record.kind == UNION
        self._end = 8 * record.value
        self._nameless: dict[int, int] = {}

    def nameless(self, first: int) -> str:
        """A name for a member that has none, by its place; the second one there gets an underscore, as with DWARF."""
        offset = first >> 3
        number = self._nameless[offset] = self._nameless.get(offset, -1) + 1
        return f"unnamed_field_{offset:x}" + ("_" * number if number < 16 else f"_{number}")

    def room(self, first: int) -> int:
        """Bits from ``first`` up to the next member or the end of the structure; negative behind that."""
        if self._union:
            return self._end - first
        following = bisect_right(self._offsets, first)
        return min([self._end - first, *(next_one - first for next_one in self._offsets[following : following + 1])])

    @cached_property
    def _offsets(self) -> list[int]:
        return sorted(first for _, _, first in self.entries)


def counts_from_lowest(records: Iterable[Record], widths: Mapping[int, int]) -> bool:
    """Whether a big-endian kernel's bit fields are counted from the lowest bit of their unit.

    They should be counted from the highest one, which is the first in memory. But ctfconvert on a little-endian machine
    turns around what older debug information (DW_AT_bit_offset) says. Then neighbours come in descending order.

    Args:
        records: the container's.
        widths: bits of those types that are bit fields.
    """
    votes = 0
    for record in records:
        if record.kind == STRUCT:
            members = [(first, widths.get(type_id, 0)) for _, type_id, first in record.home.members(record)]
            for (first, width), (following, next_width) in pairwise(members):
                if width and next_width:
                    votes += (following + next_width == first) - (first + width == following)
    return votes > 0
