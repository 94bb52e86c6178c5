"""Symbol tables: of kernel files and modules, or of the copy that a kernel keeps in memory.

# Reference: sys/sys/elf64.h, elf32.h (Elf_Sym), lib/libc/gen/nlist.c (__fdnlist)
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..exceptions import FormatError

_SHN_UNDEF, _SHN_ABS, _SHN_COMMON = 0, 0xFFF1, 0xFFF2
_STT_SECTION, _STT_FILE = 3, 4
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
KINDS = {0: "notype", 1: "object", 2: "function", 6: "tls", 10: "ifunc"}
BINDINGS = {0: "local", 1: "global", 2: "weak"}
# Record of a table by word size, and where in it are name, value, size, info and section.
_FORMATS = {64: ("IBBHQQ", (0, 4, 5, 1, 3)), 32: ("IIIBBH", (0, 1, 2, 3, 5))}
_PACKED = struct.Struct("<QQBH")
_MAX_PACKED = 1 << 30
_MAX_NAME = 4096


@dataclass(frozen=True)
class Symbol:
    """One symbol.

    Attributes:
        name: its name.
        value: its address as the table has it; for modules the load address may still have to be added.
        size: its size in bytes, 0 where the table does not know it.
        info: ELF's ``st_info``: type and binding.
        section: index of the section that defines it, or one of ELF's special values.
    """

    name: str
    value: int
    size: int = 0
    info: int = 0
    section: int = 1

    @property
    def kind(self) -> str:
        """``function``, ``object``, ``notype``, ``tls``, ``ifunc`` or ELF's number."""
        return KINDS.get(self.info & 15, str(self.info & 15))

    @property
    def binding(self) -> str:
        """``local``, ``global``, ``weak`` or ELF's number."""
        return BINDINGS.get(self.info >> 4, str(self.info >> 4))


class SymbolTable:
    """Defined symbols with names, in the order of the table."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        """Take the symbols as they are."""
        self._rows = [(one.name, one.value, one.size, one.info, one.section) for one in symbols]

    @classmethod
    def parse(cls, symtab: bytes, strtab: bytes, word_bits: int, byteorder: str, bias: int = 0) -> SymbolTable:
        """Read an ELF symbol table; sections, files, undefined and common symbols are left out, as in `nlist`.

        Args:
            symtab: the table, ``Elf_Sym`` after ``Elf_Sym``; an incomplete last one is passed over.
            strtab: the names.
            word_bits: 32 or 64.
            byteorder: ``little`` or ``big``.
            bias: is added to each address that belongs to a section: where the file was loaded.
        """
        code, places = _FORMATS[word_bits]
        record = struct.Struct((">" if byteorder == "big" else "<") + code)
        mask = (1 << word_bits) - 1
        at_name, at_value, at_size, at_info, at_section = places
        table = cls()
        append = table._rows.append
        for fields in record.iter_unpack(symtab[: len(symtab) // record.size * record.size]):
            section, info, start = fields[at_section], fields[at_info], fields[at_name]
            if section in (_SHN_UNDEF, _SHN_COMMON) or info & 15 in (_STT_SECTION, _STT_FILE) or not start:
                continue
            end = strtab.find(b"\0", start, start + _MAX_NAME)
            if end <= start:
                continue
            value = fields[at_value] if section == _SHN_ABS else (fields[at_value] + bias) & mask
            append((strtab[start:end].decode("utf-8", "replace"), value, fields[at_size], info, section))
        return table

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Symbol:
        """A symbol by its place in the table."""
        return Symbol(*self._rows[index])

    def __iter__(self) -> Iterator[Symbol]:
        return (Symbol(*row) for row in self._rows)

    # By name

    @cached_property
    def _by_name(self) -> dict[str, int]:
        # Of several the last one stays, as in libkvm.
        return {row[0]: index for index, row in enumerate(self._rows)}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def names(self) -> Iterable[str]:
        """Each name once."""
        return self._by_name.keys()

    def get(self, name: str) -> Symbol | None:
        """The symbol of that name; of several the last one, as in libkvm."""
        index = self._by_name.get(name)
        return None if index is None else self[index]

    def find(self, name: str) -> Symbol | None:
        """As `nlist` finds it: the last symbol of that name, or of that name less one leading underscore."""
        places = [self._by_name.get(name, -1)]
        if name.startswith("_"):
            places.append(self._by_name.get(name[1:], -1))
        index = max(places)
        return None if index < 0 else self[index]

    def value(self, name: str) -> int | None:
        """The value of that symbol."""
        index = self._by_name.get(name)
        return None if index is None else self._rows[index][1]

    # By address

    @cached_property
    def _by_address(self) -> tuple[list[int], list[int]]:
        """Addresses ascending, and the best symbol at each: with a size before without, functions before others."""
        best: dict[int, tuple[bool, bool, bool, int]] = {}
        for index, (name, value, size, info, section) in enumerate(self._rows):
            # $x and its like mark code and data for disassemblers, .L what riscv's relocations refer to.
            if section == _SHN_ABS or name.startswith(("$", ".L")):
                continue
            rank = (size > 0, info & 15 in (_STT_FUNC, _STT_GNU_IFUNC), info >> 4 == 1, -index)
            if value not in best or rank > best[value]:
                best[value] = rank
        addresses = sorted(best)
        return addresses, [-best[address][3] for address in addresses]

    def lookup(self, address: int) -> tuple[Symbol, int] | None:
        """``(symbol, offset)`` of the symbol that an address is in.

        One without a size reaches to the next, the last not beyond itself; behind the end of one with a size there is
        none.
        """
        addresses, indexes = self._by_address
        place = bisect_right(addresses, address) - 1
        if place < 0:
            return None
        symbol = self[indexes[place]]
        offset = address - symbol.value
        reach = symbol.size or (addresses[place + 1] - symbol.value if place + 1 < len(addresses) else 1)
        return (symbol, offset) if offset < reach else None

    # Storage

    def pack(self) -> bytes:
        """The table, compressed, for `unpack`."""
        names = "\0".join(row[0] for row in self._rows).encode()
        rows = b"".join(_PACKED.pack(*row[1:]) for row in self._rows)
        return zlib.compress(struct.pack("<II", len(self._rows), len(names)) + rows + names)

    @classmethod
    def unpack(cls, data: bytes) -> SymbolTable:
        """What `pack` made.

        Raises:
            FormatError: it is something else.
        """
        try:
            content = zlib.decompressobj().decompress(data, _MAX_PACKED)
            count, length = struct.unpack_from("<II", content)
            end = 8 + count * _PACKED.size
            names = content[end : end + length].decode().split("\0")
            rows = list(_PACKED.iter_unpack(content[8:end]))
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            msg = f"a packed symbol table is damaged ({error})"
            raise FormatError(msg) from None
        if len(content) != end + length or count != len(rows) or count != len(names) * bool(count):
            msg = f"a packed symbol table is damaged: {count} symbols, {len(names)} names"
            raise FormatError(msg)
        table = cls()
        table._rows = [(name, *row) for name, row in zip(names, rows, strict=False)]
        return table
