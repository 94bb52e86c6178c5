"""The kernel linker's files: the kernel and its modules, where they are, and their symbols.

# Reference: sys/kern/kern_linker.c (linker_files), sys/sys/linker.h (struct linker_file), sys/kern/link_elf.c
#            (elf_relocaddr), link_elf_obj.c
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..exceptions import AddressError, SymbolError
from ..kvm.intervals import first_wins
from .elf_file import ELF_OBJECT, Members, Section, Shape, class_name, read_elf_file, shapes_of
from .memory_table import MAX_SYMBOLS, TablePlace, read_table
from .structs import Structs
from .symbols import Symbol, SymbolTable

MAX_FILES = 1024
MAX_DEPENDENCIES = 1024
_SHN_ABS = 0xFFF1


@dataclass(frozen=True)
class LinkerFile:
    """A file of the kernel linker.

    Attributes:
        address: of its ``struct linker_file``.
        id: ``kldstat``'s number; None where it cannot be read, as with the other numbers.
        filename: ``if_epair.ko``.
        pathname: ``/boot/kernel/if_epair.ko``.
        base: where it is loaded (``linker_file.address``).
        size: bytes from there.
        refs: references, of dependent files too.
        userrefs: references by kldload(2).
        flags: LINKER_FILE_LINKED 1, LINKER_FILE_MODULES 2.
        loadcnt: its place in the order of loading.
        dependencies: addresses of the ``struct linker_file`` it depends on.
        class_name: of its linker class: ``elf64``, ``elf64_obj``, ...
        kind: ``elf`` (the kernel, ET_DYN modules), ``elf_obj`` (ET_REL modules) or empty: not known.
        type_name: the ``struct elf_file`` it is the start of, empty where the types do not have it.
        bias: what is added to its symbols (``elf_file.address``): 0 for a kernel that runs where it is linked.
        sets: ``(start, stop, base)`` of its ``vnet`` and ``dpcpu`` variables: where they were loaded, and where in the
            kernel's own set the linker put them. What is at base still has to be rebased, as the kernel's own are.
        sections: ``(name, address, size)`` of each section of an ET_REL module.
        symbols: where its symbol table is.
        notes: what is odd or could not be read, one clause each.
    """

    address: int
    id: int | None = None
    filename: str = ""
    pathname: str = ""
    base: int = 0
    size: int = 0
    refs: int | None = None
    userrefs: int | None = None
    flags: int | None = None
    loadcnt: int | None = None
    dependencies: tuple[int, ...] = ()
    class_name: str = ""
    kind: str = ""
    type_name: str = ""
    bias: int = 0
    sets: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    symbols: TablePlace | None = None
    notes: tuple[str, ...] = ()


class End(enum.Enum):
    """Why a walk ended."""

    COMPLETE = "complete"
    LOOP = "loops back"
    MISALIGNED = "misaligned link"
    LIMIT = "too long"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Walk:
    """The files in the order of the list.

    Attributes:
        files: the files; those that only the links back lead to come last.
        end: how following the list ended.
        problem: one clause on an irregular end or an inconsistent list, else empty.
    """

    files: tuple[LinkerFile, ...]
    end: End
    problem: str = ""

    def __iter__(self) -> Iterator[LinkerFile]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def linker_files(structs: Structs, symbols: Callable[[str], int | None]) -> Walk:
    """Walk ``linker_files``.

    Where the list is damaged, the links back lead to the files behind the damage.

    Args:
        structs: the kernel's memory and types.
        symbols: gives the value of a kernel symbol.

    Raises:
        SymbolError: the list cannot be found: a type or symbol is missing.
        AddressError: its head cannot be read.
    """
    walk = _ListWalk(structs, _list_head(structs, symbols))
    forward, end, problem = walk.forward()
    backward, problem_back = walk.backward(set(forward))
    shapes = shapes_of(structs)
    files = [read_file(structs, address, shapes) for address in forward]
    for address in backward:
        file = read_file(structs, address, shapes)
        files.append(replace(file, notes=(*file.notes, "only links back lead to it")))
    for index, note in walk.broken.items():
        files[index] = replace(files[index], notes=(*files[index].notes, note))
    return Walk(tuple(files), end, problem or problem_back)


def _list_head(structs: Structs, symbols: Callable[[str], int | None]) -> int:
    """Address of ``linker_files``, which is static; without its symbol the kernel, first of all files, leads to it."""
    structs.member("linker_file", "link.tqe_next")
    head = symbols("linker_files")
    if head:
        return _as_linked(structs, head)
    kernel = symbols("linker_kernel_file")
    if not kernel:
        msg = "the list of linker files cannot be found: the kernel's symbols have no linker_files"
        raise SymbolError(msg)
    return structs.value(structs.pointer(kernel), "linker_file", "link.tqe_prev")


def _as_linked(structs: Structs, head: int) -> int:
    """The address by which the first element knows the head: a kernel that has moved is not where its symbols say."""
    first = structs.pointer(head)
    try:
        known = structs.value(first, "linker_file", "link.tqe_prev")
        same = structs.read(known, 2 * structs.word_size) == structs.read(head, 2 * structs.word_size)
    except AddressError:
        return head
    return known if same else head


class _ListWalk:
    """A TAILQ of linker files, followed both ways.

    Attributes:
        broken: by the place of an element: how its link back is wrong.
    """

    def __init__(self, structs: Structs, head: int) -> None:
        self.structs = structs
        self.head = head
        self.next_at = structs.offset("linker_file", "link.tqe_next")
        self.prev_at = structs.offset("linker_file", "link.tqe_prev")
        self.broken: dict[int, str] = {}

    def forward(self) -> tuple[list[int], End, str]:
        """``(elements, end, problem)``."""
        found: dict[int, None] = {}
        back, address = self.head, self.structs.pointer(self.head)
        while address:
            problem = self._problem(address, found)
            if problem:
                return list(found), *problem
            try:
                following = self.structs.pointer(address + self.next_at)
            except AddressError as error:
                return list(found), End.UNREADABLE, f"after {len(found)} files {error}"
            self._check_back(address, back, len(found))
            found[address] = None
            back, address = address + self.next_at, following
        return list(found), End.COMPLETE, self._check_tail(back)

    def _problem(self, address: int, found: dict[int, None]) -> tuple[End, str] | None:
        if address in found:
            return End.LOOP, f"the list of files loops back to {address:#x} after {len(found)} files"
        if address % self.structs.word_size:
            return End.MISALIGNED, f"after {len(found)} files the list leads to the misaligned address {address:#x}"
        if len(found) >= MAX_FILES:
            return End.LIMIT, f"the list has more than {MAX_FILES} files"
        return None

    def _check_back(self, address: int, expected: int, index: int) -> None:
        try:
            back = self.structs.pointer(address + self.prev_at)
        except AddressError as error:
            self.broken[index] = str(error)
            return
        if back != expected:
            self.broken[index] = f"its link back leads to {back:#x}, not to {expected:#x}"

    def _check_tail(self, last: int) -> str:
        try:
            tail = self.structs.pointer(self.head + self.structs.word_size)
        except AddressError as error:
            return str(error)
        return "" if tail == last else f"the list ends at {last:#x}, but its head says at {tail:#x}"

    def backward(self, known: set[int]) -> tuple[list[int], str]:
        """``(elements, problem)``: elements that `forward` has not met, from the end of the list to its start."""
        found: dict[int, None] = {}
        seen: set[int] = set()
        try:
            link = self.structs.pointer(self.head + self.structs.word_size)
            while link != self.head and len(seen) < MAX_FILES:
                address = link - self.next_at
                if address <= 0 or address in seen or address % self.structs.word_size:
                    break
                seen.add(address)
                link = self.structs.pointer(address + self.prev_at)
                if address not in known:
                    found[address] = None
        except AddressError as error:
            return list(found)[::-1], f"followed backwards, {error}"
        return list(found)[::-1], ""


# One file


def read_file(structs: Structs, address: int, shapes: Mapping[str, Shape] | None = None) -> LinkerFile:
    """The file whose ``struct linker_file`` is at ``address``; what is unreadable is told in its notes.

    Args:
        structs: the kernel's memory and types.
        address: of the structure.
        shapes: what `shapes_of` gives, if it is at hand.
    """
    members = Members(structs, address)
    kind = "linker_file"
    base, size = members.unsigned(kind, "address"), members.unsigned(kind, "size")
    if size and base + size == 1 << 8 * structs.word_size:
        members.note("its size is not known: the loader did not tell")
    name = class_name(members)
    elf = read_elf_file(members, shapes_of(structs) if shapes is None else shapes, name, base, size)
    return LinkerFile(
        address=address,
        id=members.number(kind, "id"),
        filename=members.text(kind, "filename"),
        pathname=members.text(kind, "pathname"),
        base=base,
        size=size,
        refs=members.number(kind, "refs"),
        userrefs=members.number(kind, "userrefs"),
        flags=members.number(kind, "flags"),
        loadcnt=members.number(kind, "loadcnt"),
        dependencies=_dependencies(members),
        class_name=name,
        kind=elf.kind,
        type_name=elf.type_name,
        bias=elf.bias,
        sets=elf.sets,
        sections=elf.sections,
        symbols=elf.symbols,
        notes=tuple(members.notes),
    )


def _dependencies(members: Members) -> tuple[int, ...]:
    count, start = members.number("linker_file", "ndeps") or 0, members.unsigned("linker_file", "deps")
    if not 0 <= count <= MAX_DEPENDENCIES:
        members.note(f"{count} dependencies are impossible")
        return ()
    found = []
    word = members.structs.word_size
    for at in range(start, start + count * word, word) if start else ():
        try:
            found.append(members.structs.pointer(at))
        except AddressError as error:
            members.note(f"deps: {error}")
            break
    return tuple(found)


# Symbols


def module_symbols(structs: Structs, file: LinkerFile, limit: int = MAX_SYMBOLS) -> SymbolTable:
    """A file's symbols at the addresses they have in memory; what cannot be read of them is left out.

    VNET and DPCPU variables have the address of their template in the kernel's own set: what is to be rebased by
    ``vnet_data_base`` or ``dpcpu_off``, as the kernel's own.

    Raises:
        SymbolError: there is no table, it has more than ``limit`` symbols, or nothing of it can be read.
    """
    return read_symbols(structs, file, limit)[0]


def read_symbols(structs: Structs, file: LinkerFile, limit: int = MAX_SYMBOLS) -> tuple[SymbolTable, int]:
    """``(symbols, lost)``: what `module_symbols` gives, and how many symbols could not be read; raises as that does."""
    place = file.symbols
    name = file.filename or f"the file at {file.address:#x}"
    if place is None:
        msg = f"{name} has no symbol table that could be read"
        raise SymbolError(msg)
    if place.count > limit:
        msg = f"{name} claims to have {place.count} symbols; at most {limit} are read"
        raise SymbolError(msg)
    relocatable = file.kind == ELF_OBJECT
    bits = 8 * structs.word_size
    table, lost = read_table(structs.read, place, bits, structs.byteorder, 0 if relocatable else file.bias)
    if relocatable and file.sections:
        table = SymbolTable(_in_sections(table, file))
    elif file.sets and not relocatable:
        table = SymbolTable(_relocated(table, file))
    return table, lost


def _in_sections(table: SymbolTable, file: LinkerFile) -> Iterator[Symbol]:
    """The symbols of sections that are in memory: the others were never relocated."""
    parts = [(start, start + size) for _, start, size in file.sections]
    # The ends belong to it: there are symbols at them.
    ranges = [(start, end + 1) for start, end in (*parts, (file.base, file.base + file.size)) if start < end]
    pieces = list(first_wins(ranges))
    starts = [start for start, _, _ in pieces]
    for symbol in table:
        place = bisect_right(starts, symbol.value) - 1
        if symbol.section == _SHN_ABS or (place >= 0 and symbol.value < pieces[place][1]):
            yield symbol


def _relocated(table: SymbolTable, file: LinkerFile) -> Iterator[Symbol]:
    """As `elf_relocaddr` does."""
    for symbol in table:
        value = symbol.value
        if symbol.section != _SHN_ABS:
            value = next(
                (base + value - start for start, stop, base in file.sets.values() if start <= value < stop), value
            )
        yield symbol if value == symbol.value else replace(symbol, value=value)
