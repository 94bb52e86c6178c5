"""The kernel's own symbol table, out of its memory alone.

loader(8) leaves it behind the kernel: the size of the symbol table, the table, the size of the names,
the names; each size is a ``long``. Without types nothing tells where, so that they are found by what is in them.

# Reference: stand/common/load_elf.c, sys/kern/link_elf.c (link_elf_preload_parse_symbols, link_elf_init)
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..exceptions import AddressError, SymbolError
from ..kvm.records import Run
from ..kvm.space import AddressSpace
from .memory_table import RECORD_SIZE, TablePlace, read_table
from .symbols import SymbolTable
from .table_finder import TableFinder

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class RecoveredSymbols:
    """The kernel's symbols out of its memory.

    Attributes:
        table: the symbols with the values that the kernel file gives them.
        symtab_address: of the first ``Elf_Sym``.
        strtab_address: of the names.
        count: records of the table, those counted in that `SymbolTable` leaves out.
        lost: symbols whose record or name is not in the dump.
        confirmed: the kernel's own ``struct elf_file`` leads to this table.
        complete: the table has static names, too; else it is only that of the exported ones (``.dynsym``).
        notes: what there is to say about it, one sentence each.
    """

    table: SymbolTable
    symtab_address: int
    strtab_address: int
    count: int
    lost: int = 0
    confirmed: bool = False
    complete: bool = True
    notes: tuple[str, ...] = ()


def find_kernel_symbols(
    space: AddressSpace, word_bits: int, byteorder: str, progress: Progress | None = None
) -> RecoveredSymbols:
    """Find the kernel's own symbol table, with neither its types nor its symbols.

    The kernel image is searched first, which takes a fraction of a second; all of the dump only if it is not there.
    What is found has proved itself: names lead to what they should.

    Args:
        space: the kernel's memory.
        word_bits: 32 or 64.
        byteorder: ``little`` or ``big``.
        progress: is told percent and what is being done.

    Raises:
        SymbolError: there is none.
    """
    search = _Search(space, word_bits, byteorder, progress)
    found = search.in_image()
    if found is None or not found.settled:
        found = _better(found, search.anywhere())
    if found is None:
        msg = (
            "the dump holds no symbol table of its kernel: the loader left none, or its pages were not dumped; "
            "pass the kernel file"
        )
        raise SymbolError(msg)
    return found.result()


_KERNEL_FILE = b"linker_kernel_file"
_NEEDLES = (_KERNEL_FILE, b"proc_off_p_pid")
"""Names of kernel variables and of nothing else. Every kernel has the first, those since 10.4 the second, too."""
_PIECE = 1 << 24
_IMAGE = 1 << 28
_NEIGHBOURHOOD, _MAX_NEIGHBOURS, _MAX_HITS = 1 << 16, 4, 1 << 14
"""Of the names in this many bytes so many are looked at, and so many in all."""
_MAX_ODD_HITS = 16
"""So many names without a loader's table around them are looked at closely."""
_MAX_JUDGED = 1 << 28
"""Bytes of tables to read in all."""
_AMD64_KERNBASE = 0xFFFFFFFF80000000
_ELF_FILE = 1024
"""More bytes than any ``struct elf_file`` has."""
_TOP = 1 << 64
_CHECKS: tuple[tuple[str, int, Callable[[bytes, Any], bool]], ...] = (
    ("version", 8, lambda data, _: data == b"FreeBSD "),
    ("ostype", 8, lambda data, _: data == b"FreeBSD\0"),
    ("osrelease", 8, lambda data, _: re.match(rb"\d+\.\d+", data) is not None),
    ("osreldate", 4, lambda data, order: 300_000 <= int.from_bytes(data, order) < 10_000_000),
    ("proc_off_p_pid", 4, lambda data, order: 0 < int.from_bytes(data, order) < 0x2000),
)
"""What is at a symbol in every kernel: name, bytes to read, test."""


@dataclass(frozen=True)
class _Found:
    """A table of which at least one name leads to what it should.

    Attributes:
        right: how many names do; those of pages that are not dumped do not count.
        wrong: how many do not.
        loader: it has sizes in front of both parts.
        confirmed: the kernel itself leads to it.
    """

    place: TablePlace
    table: SymbolTable
    lost: int
    right: int
    wrong: int
    loader: bool
    confirmed: bool = False

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """The higher the better."""
        return self.confirmed, self.loader, self.right, len(self.table)

    @property
    def settled(self) -> bool:
        """There is no need to look elsewhere."""
        return self.confirmed or (self.loader and not self.lost)

    def result(self) -> RecoveredSymbols:
        """What the caller gets."""
        notes = []
        complete = self.loader or any(symbol.binding == "local" for symbol in self.table)
        if not complete:
            notes.append("the loader left no symbols that can be read: only exported names are known, no static ones")
        if self.lost:
            notes.append(f"{self.lost} of {self.place.count} symbols are lost: their record or name is not dumped")
        place = self.place
        found = RecoveredSymbols(self.table, place.symtab, place.strtab, place.count, self.lost, self.confirmed)
        return replace(found, complete=complete, notes=tuple(notes))


def _better(one: _Found | None, other: _Found | None) -> _Found | None:
    if one is None or other is None:
        return one or other
    return other if other.rank > one.rank else one


class _Search:
    """One search through one dump."""

    def __init__(self, space: AddressSpace, word_bits: int, byteorder: str, progress: Progress | None) -> None:
        self.space = space
        self.read = space.read
        self.bits = word_bits
        self.finder = TableFinder(space, word_bits, byteorder)
        self.record_size = RECORD_SIZE[word_bits]
        self.byteorder: Any = byteorder
        self.progress = progress
        self._judged: dict[TablePlace, _Found | None] = {}
        self._room = _MAX_JUDGED
        self._odd_hits = 0

    # Where to look

    def in_image(self) -> _Found | None:
        """Look where kernels are: in the top 2 GB on amd64, elsewhere at the start of the kernel map."""
        first = next((leaf.va for leaf in self.space.page_map.walk()), 0)
        ranges = [(first, first + _IMAGE)]
        if self.bits == 64:
            ranges.insert(0, (_AMD64_KERNBASE, _TOP))
        best: _Found | None = None
        for start, end in ranges:
            # Behind first: the loader's table follows the image, which has one of its own.
            best = _better(best, self._best(list(self._hits(self.space.readable(start, end)))[::-1]))
            if best is not None and best.settled:
                break
        return best

    def anywhere(self) -> _Found | None:
        """Look through all of the dump, then for the addresses at which the kernel sees the places."""
        hits = self._hits((run.pa, run) for run in self.space.physical.runs())
        return self._best(self._virtual(sorted(hits)))

    def _virtual(self, places: list[int]) -> list[int]:
        if not places:
            return []
        found = []
        for leaf in self.space.page_map.walk():
            if leaf.pa is not None:
                first, end = bisect_left(places, leaf.pa), bisect_left(places, leaf.pa + leaf.length)
                found += [leaf.va + pa - leaf.pa for pa in places[first:end]]
        direct = (self.space.page_map.direct_va(pa) for pa in places)
        return list(dict.fromkeys([*found[:_MAX_HITS], *(va for va in direct if va is not None)]))

    def _hits(self, runs: Iterable[tuple[int, Run]]) -> Iterator[int]:
        """Addresses of the needles."""
        near: Counter[int] = Counter()
        left = _MAX_HITS
        for address, data in self._pieces(runs):
            for needle in _NEEDLES:
                at = data.find(needle)
                while at >= 0 and left:
                    place = (address + at) // _NEIGHBOURHOOD
                    if near[place] >= _MAX_NEIGHBOURS:
                        # To the next neighbourhood.
                        at = (place + 1) * _NEIGHBOURHOOD - address - 1
                    elif data[at + len(needle) : at + len(needle) + 1] == b"\0":
                        near[place] += 1
                        left -= 1
                        yield address + at
                    at = data.find(needle, at + 1)

    def _pieces(self, runs: Iterable[tuple[int, Run]]) -> Iterator[tuple[int, bytes]]:
        """Memory in large pieces; each begins with the end of the one before if it follows that."""
        buffer, size = self.space.physical.reader.buffer, self.space.physical.reader.size
        overlap = max(map(len, _NEEDLES))
        tail, expected, done = b"", -1, 0
        for start, run in runs:
            for at in range(0, run.length, _PIECE):
                data = buffer[run.offset + at : run.offset + min(at + _PIECE, run.length)]
                done += len(data)
                address, following = start + at, start + at + len(data)
                if address == expected:
                    address, data = address - len(tail), tail + data
                yield address, data
                tail, expected = data[-overlap:], following
                if self.progress:
                    self.progress(min(99.0, 100 * done / size), "Searching for the kernel's symbols")

    # What may be there

    def _best(self, hits: list[int]) -> _Found | None:
        """The best table that has one of the names; one that the kernel itself confirms ends the search."""
        best: _Found | None = None
        for hit in hits:
            for place, loader in self._places(hit):
                found = self._judge(place, loader)
                found = found and self._confirmed(found)
                if found and found.confirmed:
                    return found
                # A table of another kernel, say of an earlier boot, has names that lead elsewhere.
                if found and not found.wrong:
                    best = _better(best, found)
        return best

    def _places(self, hit: int) -> Iterator[tuple[TablePlace, bool]]:
        """Tables that the name at ``hit`` may belong to, and whether they are as the loader leaves them."""
        if any(found and place.holds(hit) for place, found in self._judged.items()):
            return
        for place in self.finder.with_sizes(hit):
            yield place, True
            if self._judged.get(place):
                return
        self._odd_hits += 1
        if self._odd_hits <= _MAX_ODD_HITS:
            for place in self.finder.without_sizes(hit):
                yield place, False

    def _judge(self, place: TablePlace, loader: bool, witness: SymbolTable | None = None) -> _Found | None:
        """The table, if some of its names lead to what they should, or to the same as in a table that is right."""
        if place in self._judged:
            return self._judged[place]
        self._judged[place] = None
        size = place.count * self.record_size + place.strings
        if not place.is_possible(self.record_size) or size > self._room:
            return None
        self._room -= size
        try:
            table, lost = read_table(self.read, place, self.bits, self.byteorder)
        except SymbolError:
            return None
        right, wrong = self._check(table)
        if not right and witness is not None:
            right = sum(table.value(name) == witness.value(name) for name in witness.names())
        if right:
            self._judged[place] = _Found(place, table, lost, right, wrong, loader)
        return self._judged[place]

    def _check(self, table: SymbolTable) -> tuple[int, int]:
        """``(right, wrong)``: how many symbols lead to what they should."""
        outcomes = []
        for name, length, test in _CHECKS:
            value = table.value(name)
            if value is not None:
                try:
                    outcomes.append(test(self.read(value, length), self.byteorder))
                except AddressError:
                    continue
        return sum(outcomes), len(outcomes) - sum(outcomes)

    def _confirmed(self, found: _Found) -> _Found:
        """What the kernel itself has for its table, if ``found`` leads there: ``linker_kernel_file``'s ``elf_file``.

        Its type is not known; but ``ddbsymtab, ddbsymcnt, ddbstrtab, ddbstrcnt`` are four words in a row.
        """
        variable = found.table.value(_KERNEL_FILE.decode())
        if variable is None:
            return found
        try:
            file = int.from_bytes(self.read(variable, self.bits // 8), self.byteorder)
        except AddressError:
            return found
        words = self.finder.words(file, _ELF_FILE)
        for at in range(len(words) - 3):
            place = TablePlace(*words[at : at + 4])
            same = (place.symtab, place.strtab) == (found.place.symtab, found.place.strtab)
            if not same and not self._is_loaders(place):
                continue
            theirs = self._judge(place, found.loader if same else True, found.table)
            if theirs is not None:
                return replace(theirs, confirmed=True)
        return found

    def _is_loaders(self, place: TablePlace) -> bool:
        """The names follow the symbols, with one word between them."""
        word = self.bits // 8
        size = -(-place.count * self.record_size // word) * word
        return place.is_possible(self.record_size) and place.strtab == place.symtab + size + word
