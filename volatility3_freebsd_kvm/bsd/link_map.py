"""``struct r_debug`` and the list of ``struct link_map`` in the memory of a process of either word size.

# Reference: sys/sys/link_elf.h. The first member is the address of the mapping in all releases; 13.0 renamed it from
#            `l_addr` to `l_base` and put the load offset, now `l_addr`, and `l_refname` behind `l_prev`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..exceptions import AddressError, FormatError
from .elf_header import PT_DYNAMIC, ElfHeader, Read

DT_NULL, DT_DEBUG = 0, 21
MAX_DYNAMIC = 4096
"""Entries of a dynamic section."""
MAX_OBJECTS = 4096
PATH_MAX = 1024
_PIECE = 256


@dataclass(frozen=True)
class LinkMap:
    """A ``struct link_map``.

    Attributes:
        address: of the structure.
        base: where the object is mapped.
        name: its path as rtld knows it; None if it cannot be read.
        dynamic: address of its dynamic section.
        notes: what is odd.
    """

    address: int
    base: int
    name: str | None
    dynamic: int
    notes: tuple[str, ...] = ()


class _Words:
    """Reads words of a process."""

    def __init__(self, read: Read, header: ElfHeader) -> None:
        self.read = read
        self.word = header.bits // 8
        self.order: Literal["little", "big"] = "big" if header.byteorder == "big" else "little"

    def words(self, address: int, count: int) -> list[int]:
        data = self.read(address, count * self.word)
        return [int.from_bytes(data[at : at + self.word], self.order) for at in range(0, len(data), self.word)]

    def int32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), self.order)


def debug_address(read: Read, header: ElfHeader) -> tuple[int, int, int]:
    """What the executable's ``DT_DEBUG`` leads to.

    Args:
        read: reads the process's memory.
        header: of its executable.

    Returns:
        ``(r_map, r_state, r_ldbase)`` of ``struct r_debug``; rtld has said where it is itself since 13.0, else 0.

    Raises:
        AddressError: something on the way cannot be read.
        FormatError: there is no way.
    """
    words = _Words(read, header)
    debug = _dynamic_value(words, header, DT_DEBUG)
    if debug is None:
        msg = "the executable has no DT_DEBUG"
        raise FormatError(msg)
    if not debug:
        msg = "DT_DEBUG is 0: rtld had not begun"
        raise FormatError(msg)
    _, first = words.words(debug, 2)
    version, state = words.int32(debug), words.int32(debug + 3 * words.word)
    return first, state, words.words(debug + 4 * words.word, 1)[0] if version else 0


def _dynamic_value(words: _Words, header: ElfHeader, wanted: int) -> int | None:
    """The value of an entry of the dynamic section."""
    segment = header.first(PT_DYNAMIC)
    if segment is None:
        return None
    start = header.address(segment.vaddr)
    for index in range(min(segment.memsz // (2 * words.word), MAX_DYNAMIC)):
        tag, value = words.words(start + 2 * words.word * index, 2)
        if tag == DT_NULL:
            return None
        if tag == wanted:
            return value
    return None


class LinkMaps:
    """The objects of rtld's list.

    Iterate once; afterwards `problems` says what was irregular. The walk goes on behind a wrong link back, and ends at
    any other irregularity.
    """

    def __init__(self, read: Read, header: ElfHeader) -> None:
        """``header`` is that of the executable."""
        self._words = _Words(read, header)
        self.problems: list[str] = []

    def of(self, first: int) -> Iterator[LinkMap]:
        """From the first object, which is the executable, on."""
        seen: set[int] = set()
        address, before = first, 0
        while address:
            if address in seen:
                self.problems.append(f"it loops back to {address:#x}")
                return
            if len(seen) >= MAX_OBJECTS:
                self.problems.append(f"it has more than {MAX_OBJECTS} objects")
                return
            seen.add(address)
            try:
                base, name, dynamic, following, back = self._words.words(address, 5)
            except AddressError as error:
                self.problems.append(f"it ends where {error}")
                return
            notes = [] if back == before else [f"l_prev is {back:#x}, not {before:#x}"]
            text = self._name(name, notes)
            yield LinkMap(address, base, text, dynamic, tuple(notes))
            address, before = following, address

    def _name(self, address: int, notes: list[str]) -> str | None:
        """A string, read in aligned pieces, so that no page is touched that is not needed."""
        found = b""
        try:
            while b"\0" not in found and len(found) < PATH_MAX:
                place = address + len(found)
                found += self._words.read(place, _PIECE - place % _PIECE)
        except AddressError as error:
            notes.append(f"l_name cannot be read: {error}")
            return None
        if b"\0" not in found[:PATH_MAX]:
            notes.append("l_name is too long to be true")
        return found.split(b"\0")[0][:PATH_MAX].decode("utf-8", "replace")
