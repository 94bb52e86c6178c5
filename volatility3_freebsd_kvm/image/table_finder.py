"""Symbol tables in memory, found by one of their names.

# Reference: sys/sys/elf32.h, elf64.h (Elf_Sym), elf_common.h, stand/common/load_elf.c
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..exceptions import AddressError
from ..kvm.space import AddressSpace
from .memory_table import HOLE, MAX_STRINGS, MAX_SYMBOLS, TablePlace

_BLOCK = 1 << 20
_REACH = 1 << 25
"""How far before a name the table may begin; symbols and names of a kernel take some 5 MB."""
_NEAR = 1 << 31
"""A kernel is smaller than this."""
_SHN_LORESERVE, _MAX_SECTIONS = 0xFF00, 0x1000
_MAX_TYPE = 13
"""STT_LOPROC and STB_LOPROC; more are in no symbol table."""
_MAX_RECORDS = 8
"""So many records that seem to have a name are looked at."""
_RECORDS = {64: "IBBHQQ", 32: "IIIBBH"}
_FORM = bytes(0 if not byte else 0x61 if 0x20 < byte < 0x7F else 1 for byte in range(256))
"""Translates bytes to what they are in a table of names: the end of a name, a part of one, or neither."""


class TableFinder:
    """Finds the symbol tables around a name."""

    def __init__(self, space: AddressSpace, word_bits: int, byteorder: str) -> None:
        """Remember where to look; nothing is read yet."""
        self.space = space
        self.word = word_bits // 8
        self.record = struct.Struct((">" if byteorder == "big" else "<") + _RECORDS[word_bits])
        self.byteorder: Any = byteorder
        self._heads: dict[int, list[tuple[int, int]]] = {}

    def words(self, address: int, length: int) -> array[int]:
        """Memory as words; 0 where there is none."""
        return self._words(bytes(self._fill(address, length, b"\0")[0]))

    def _words(self, data: bytes) -> array[int]:
        words = array("Q" if self.word == 8 else "I", data)
        if self.byteorder != sys.byteorder:
            words.byteswap()
        return words

    def _pieces(self, address: int, length: int) -> Iterator[tuple[int, bytearray]]:
        """What there is of some memory: ``(address, bytes)``, with gaps between one and the next."""
        buffer = self.space.physical.reader.buffer
        start, piece = address, bytearray()
        for at, run in self.space.readable(address, address + length):
            if at != start + len(piece):
                if piece:
                    yield start, piece
                start, piece = at, bytearray()
            piece += buffer[run.offset : run.offset + run.length]
        if piece:
            yield start, piece

    def _fill(self, address: int, length: int, blank: bytes) -> tuple[bytearray, list[tuple[int, int]]]:
        """As `read_with_holes`, but quick where there is next to nothing."""
        found, holes = bytearray(), []
        for start, piece in [*self._pieces(address, length), (address + length, bytearray())]:
            gap = start - address - len(found)
            if gap:
                holes.append((len(found), len(found) + gap))
            found += blank * gap + piece
        return found, holes

    # Tables as the loader leaves them

    def with_sizes(self, hit: int) -> Iterator[TablePlace]:
        """Tables that the name at ``hit`` may belong to, with the size in front of symbols and names."""
        for block in range(hit // _BLOCK * _BLOCK, max(-1, hit - _REACH - _BLOCK), -_BLOCK):
            for head, size in reversed(self._heads_in(block)):
                place = self._behind(head, size)
                if place is not None and place.holds(hit):
                    yield place

    def _heads_in(self, block: int) -> list[tuple[int, int]]:
        """``(address, value)`` of each word that may be the size of a symbol table: the first record is all zero."""
        if block not in self._heads:
            record, word, most = self.record.size, self.word, MAX_SYMBOLS * self.record.size
            zero = bytes(record)
            self._heads[block] = [
                (start + index * word, value)
                # The last word may have its record in the next block.
                for start, data in self._pieces(block, _BLOCK + record)
                for index, value in enumerate(self._words(bytes(data[: len(data) // word * word])))
                if value
                and value <= most
                and not value % record
                and data[index * word + word : index * word + word + record] == zero
            ]
        return self._heads[block]

    def _behind(self, head: int, size: int) -> TablePlace | None:
        """The table whose size is at ``head``, if the size of the names is where it must be."""
        at = head + self.word + -(-size // self.word) * self.word
        try:
            strings = int.from_bytes(self.space.read(at, self.word), self.byteorder)
        except AddressError:
            return None
        place = TablePlace(head + self.word, size // self.record.size, at + self.word, strings)
        return place if 0 < strings <= MAX_STRINGS else None

    # Tables without sizes: .dynsym, those of other loaders, and those whose beginning is not dumped

    def without_sizes(self, hit: int) -> Iterator[TablePlace]:
        """Tables that the name at ``hit`` may belong to, by the record that has it and the records around that."""
        end = self._end_of_names(hit)
        for start in self._starts_of_names(hit):
            length = self._told_length(start, hit) or end - start
            for at, value in islice(self._records_of(hit, start), _MAX_RECORDS):
                first = self._first_record(at, value, length)
                last = self._last_record(at, value, length, start)
                yield TablePlace(first, (last - first) // self.record.size + 1, start, length)

    def _starts_of_names(self, hit: int) -> list[int]:
        """Where the names that ``hit`` is among may begin: with a NUL, behind what is no name."""
        for block, length in _blocks_before(hit):
            # One byte more: two NULs may be in two blocks.
            data, _ = self._fill(block, length + 1, HOLE)
            form = data.translate(_FORM)
            last = max(form.rfind(b"\0\0"), form.rfind(b"\1"))
            if last >= 0:
                # The size of the names may look like some more of them.
                near = form[last + 1 : last + 2 + self.word]
                return [block + last + 1 + at for at, byte in enumerate(near) if not byte]
        return []

    def _end_of_names(self, hit: int) -> int:
        """The first address behind the names: behind a NUL, with what is no name next."""
        for block in range(hit, hit + MAX_STRINGS, _BLOCK):
            data, _ = self._fill(block, _BLOCK + 1, HOLE)
            form = data.translate(_FORM)
            ends = [at for at in (form.find(b"\0\0"), form.find(b"\1")) if at >= 0]
            if ends:
                return block + form.rfind(b"\0", 0, min(ends) + 1) + 1
        return hit + MAX_STRINGS

    def _told_length(self, start: int, hit: int) -> int:
        """The length of the names that the word in front of them tells, 0 where that makes no sense."""
        try:
            length = int.from_bytes(self.space.read(start - self.word, self.word), self.byteorder)
            sensible = hit - start < length <= MAX_STRINGS and self.space.read(start + length - 1, 1) == b"\0"
        except AddressError:
            return 0
        return length if sensible else 0

    def _records_of(self, hit: int, start: int) -> Iterator[tuple[int, int]]:
        """``(address, value)`` of records before ``start`` that have the name at ``hit`` and lead to a variable."""
        pattern = (hit - start).to_bytes(4, self.byteorder)
        for block, length in _blocks_before(start):
            for begin, data in reversed(list(self._pieces(block, length + self.record.size))):
                at = data.rfind(pattern)
                while at >= 0:
                    content = bytes(data[at : at + self.record.size])
                    if len(content) == self.record.size:
                        _, value, info, section = self._fields(content)
                        if info & 15 <= 1 and 0 < section < _MAX_SECTIONS and self._leads_somewhere(value):
                            yield begin + at, value
                    at = data.rfind(pattern, 0, at + 3)

    def _fields(self, content: bytes) -> tuple[int, int, int, int]:
        """``(st_name, st_value, st_info, st_shndx)``."""
        fields = self.record.unpack(content)
        if self.word == 8:
            return fields[0], fields[4], fields[1], fields[3]
        return fields[0], fields[1], fields[3], fields[5]

    def _leads_somewhere(self, value: int) -> bool:
        try:
            return len(self.space.read(value, 4)) == 4
        except AddressError:
            return False

    def _is_record(self, content: bytes, value: int, strings: int) -> bool:
        """Whether these bytes may be a symbol of the same table."""
        name, other, info, section = self._fields(content)
        reserved = not 0 < section < _SHN_LORESERVE
        return (
            name < strings
            and info & 15 <= _MAX_TYPE
            and info >> 4 <= _MAX_TYPE
            and (reserved or (section < _MAX_SECTIONS and abs(other - value) < _NEAR))
        )

    def _first_record(self, at: int, value: int, strings: int) -> int:
        """The null symbol or, where it is not dumped, the first that can be seen."""
        size, first, seen = self.record.size, at, True
        while at > size and first - at < _REACH:
            length = min(at // size, _BLOCK // size) * size
            at -= length
            for address, content in reversed(self._records(at, length)):
                if content is not None:
                    if not any(content):
                        # Behind a hole it may be anything.
                        return address if seen else first
                    if not self._is_record(content, value, strings):
                        return first
                    first = address
                seen = content is not None
        return first

    def _last_record(self, at: int, value: int, strings: int, end: int) -> int:
        """The last record before ``end``."""
        size, last = self.record.size, at
        while at + size <= end:
            length = min((end - at) // size, _BLOCK // size) * size
            for address, content in self._records(at, length):
                if content is not None:
                    if not any(content) or not self._is_record(content, value, strings):
                        return last
                    last = address
            at += length
        return last

    def _records(self, address: int, length: int) -> list[tuple[int, bytes | None]]:
        """``(address, bytes)`` of each record; None for those that are not wholly there."""
        data, holes = self._fill(address, length, b"\0")
        missing = bytearray(length)
        for start, end in holes:
            missing[start:end] = b"\1" * (end - start)
        return [
            (
                address + at,
                None if 1 in missing[at : at + self.record.size] else bytes(data[at : at + self.record.size]),
            )
            for at in range(0, length, self.record.size)
        ]


def _blocks_before(end: int) -> Iterator[tuple[int, int]]:
    """``(address, length)`` of pieces before an address, the nearest first."""
    for upper in range(end, max(0, end - _REACH), -_BLOCK):
        lower = max(0, upper - _BLOCK)
        yield lower, upper - lower
