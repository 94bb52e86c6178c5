"""Symbol tables in the memory of a kernel, parts of which may be missing.

# Reference: sys/kern/link_elf.c, link_elf_obj.c (ddbsymtab, ddbsymcnt, ddbstrtab, ddbstrcnt)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..exceptions import AddressError, SymbolError
from .symbols import SymbolTable

RECORD_SIZE = {64: 24, 32: 16}
"""Bytes of an ``Elf_Sym`` by word size."""
MAX_SYMBOLS = 1 << 21
MAX_STRINGS = 1 << 26
Read = Callable[[int, int], bytes]
"""Gives bytes of memory by address and length, or raises `AddressError`."""
_PAGE = 4096
# No name has such a byte, so that names which touch a hole can be told.
HOLE = b"\xff"
_DAMAGED = "\ufffd"


@dataclass(frozen=True)
class TablePlace:
    """Where a symbol table and its names are.

    Attributes:
        symtab: address of the first ``Elf_Sym``.
        count: how many there are.
        strtab: address of the names.
        strings: bytes of the names.
    """

    symtab: int
    count: int
    strtab: int
    strings: int

    def holds(self, address: int) -> bool:
        """Whether an address is among the names."""
        return self.strtab <= address < self.strtab + self.strings

    def is_possible(self, record: int) -> bool:
        """Whether the numbers are in bounds and table and names are apart; ``record`` is the size of an ``Elf_Sym``."""
        apart = self.symtab + self.count * record <= self.strtab or self.strtab + self.strings <= self.symtab
        return 0 < self.count <= MAX_SYMBOLS and 0 < self.strings <= MAX_STRINGS and apart


def read_table(read: Read, place: TablePlace, word_bits: int, byteorder: str, bias: int = 0) -> tuple[SymbolTable, int]:
    """``(table, lost)``: the symbols without those whose record or name cannot be read, of which there are ``lost``.

    Args:
        read: gives bytes.
        place: where the table is.
        word_bits: 32 or 64.
        byteorder: ``little`` or ``big``.
        bias: see `SymbolTable.parse`.

    Raises:
        SymbolError: the numbers are impossible, or nothing can be read.
    """
    size = RECORD_SIZE[word_bits]
    if not place.is_possible(size):
        msg = f"{place.count} symbols with {place.strings} bytes of names at {place.symtab:#x} are no symbol table"
        raise SymbolError(msg)
    records, holes = read_with_holes(read, place.symtab, place.count * size, b"\0")
    strings, string_holes = read_with_holes(read, place.strtab, place.strings, HOLE)
    for address, missing, length in (
        (place.symtab, holes, len(records)),
        (place.strtab, string_holes, len(strings)),
    ):
        if missing == [(0, length)]:
            msg = f"the symbol table at {place.symtab:#x} cannot be read: nothing of {address:#x} is in the dump"
            raise SymbolError(msg)
    lost = 0
    for start, end in holes:
        # Records that are partly there would be nonsense.
        first, last = start // size, min(-(-end // size), place.count)
        records[first * size : last * size] = bytes((last - first) * size)
        lost += last - first
    table = SymbolTable.parse(bytes(records), bytes(strings), word_bits, byteorder, bias)
    if string_holes:
        table = SymbolTable(symbol for symbol in table if _DAMAGED not in symbol.name)
        lost += _count(records, word_bits, byteorder) - len(table)
    return table, lost


def _count(records: bytearray, word_bits: int, byteorder: str) -> int:
    """How many symbols there would be if every name could be read: all are given the same."""
    renamed = bytearray(records)
    name = b"\1\0\0\0" if byteorder == "little" else b"\0\0\0\1"
    for at in range(0, len(renamed), RECORD_SIZE[word_bits]):
        if any(renamed[at : at + len(name)]):
            renamed[at : at + len(name)] = name
    return len(SymbolTable.parse(bytes(renamed), b"\0x\0", word_bits, byteorder))


def read_with_holes(read: Read, address: int, length: int, blank: bytes) -> tuple[bytearray, list[tuple[int, int]]]:
    """``(bytes, holes)``: what cannot be read is filled with ``blank``; holes are ``[start, end)`` from ``address``."""
    try:
        return bytearray(read(address, length)), []
    except AddressError:
        pass
    found = bytearray()
    holes: list[tuple[int, int]] = []
    while len(found) < length:
        at = len(found)
        size = min(_PAGE - (address + at) % _PAGE, length - at)
        try:
            found += read(address + at, size)
        except AddressError:
            found += blank * size
            if holes and holes[-1][1] == at:
                at = holes.pop()[0]
            holes.append((at, len(found)))
    return found, holes
