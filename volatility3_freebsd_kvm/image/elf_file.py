"""What the kernel linker knows of an ELF file: two different structures of one name.

``struct elf_file`` of link_elf.c is for the kernel and for modules that are shared objects (ET_DYN), that of
link_elf_obj.c for modules that are object files (ET_REL: amd64). Both begin with the ``struct linker_file``.

# Reference: sys/kern/link_elf.c, link_elf_obj.c (struct elf_file, Elf_progent), sys/sys/kobj.h
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..exceptions import AddressError, SymbolError
from .memory_table import TablePlace
from .structs import Structs

ELF, ELF_OBJECT = "elf", "elf_obj"
SETS = {"dpcpu": ("pcpu", "set_pcpu"), "vnet": ("vnet", "set_vnet")}
"""Prefix of the members and name of the section of each linker set that the kernel copies."""
MAX_SECTIONS = 2048
MAX_PATH = 1024
"""MAXPATHLEN."""
_MAX_NAME = 256
_KOBJ_CACHE_SIZE = 256
_PARTLY = "not all of it can be read"
# The members behind the linker_file, unchanged from 10 to 15: of a word each, but those marked with * are ints.
_ORDERS = {
    ELF: "preloaded* address dynamic nbuckets* nchains* buckets chains hash strtab strsz* symtab got "
    "pltrel pltrelsize* pltrela pltrelasize* rel relsize* rela relasize* modptr "
    "ddbsymtab ddbsymcnt ddbstrtab ddbstrcnt symbase strbase ctftab ctfcnt ctfoff typoff typlen "
    "pcpu_start pcpu_stop pcpu_base vnet_start vnet_stop vnet_base",
    ELF_OBJECT: "preloaded* address object e_shdr progtab nprogtab* relatab nrelatab* reltab nreltab* "
    "ddbsymtab ddbsymcnt ddbstrtab ddbstrcnt",
}

Section = tuple[str, int, int]
"""Name, address and size."""


@dataclass(frozen=True)
class ElfFile:
    """What a ``struct elf_file`` tells; see `LinkerFile` for the attributes."""

    kind: str = ""
    type_name: str = ""
    bias: int = 0
    sets: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    symbols: TablePlace | None = None


class Members:
    """Members of the structure at an address; what cannot be read is noted, what a kernel does not have is None or 0.

    Attributes:
        notes: one clause for each problem.
    """

    def __init__(self, structs: Structs, address: int) -> None:
        """Read nothing yet."""
        self.structs = structs
        self.address = address
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def _unreadable(self, error: AddressError) -> None:
        """One note is enough for a whole structure."""
        if not any(note.startswith(_PARTLY) for note in self.notes):
            self.note(f"{_PARTLY} ({error})")

    def number(self, type_name: str, member: str) -> int | None:
        """An integer, or None."""
        try:
            return self.structs.value(self.address, type_name, member)
        except SymbolError:
            return None
        except AddressError as error:
            self._unreadable(error)
            return None

    def unsigned(self, type_name: str, member: str) -> int:
        """An address or a size, or 0."""
        return (self.number(type_name, member) or 0) & (1 << 8 * self.structs.word_size) - 1

    def at(self, offset: int, size: int) -> int:
        """What is at an offset, or 0."""
        try:
            return self.structs.uint(self.address + offset, size)
        except AddressError as error:
            self._unreadable(error)
            return 0

    def text(self, type_name: str, member: str) -> str:
        """The string that a member points to."""
        return self.string(self.unsigned(type_name, member), member, MAX_PATH)

    def string(self, pointer: int, what: str, limit: int = _MAX_NAME) -> str:
        """The string at ``pointer``."""
        if not pointer:
            return ""
        try:
            return self.structs.string(pointer, limit).decode("utf-8", "replace")
        except AddressError as error:
            self.note(f"{what}: {error}")
            return ""


def class_name(members: Members) -> str:
    """The name of a linker file's class, ``lf->ops->cls->name``: ``elf64``, ``elf64_obj``, ..."""
    structs = members.structs
    operations = members.unsigned("linker_file", "ops")
    if not operations:
        return ""
    known = structs.has("kobj_ops", "cls")
    at = structs.offset("kobj_ops", "cls") if known else _KOBJ_CACHE_SIZE * structs.word_size
    name = structs.offset("kobj_class", "name") if structs.has("kobj_class", "name") else 0
    try:
        pointer = structs.pointer(structs.pointer(operations + at) + name)
    except AddressError as error:
        members.note(f"ops: {error}")
        return ""
    return members.string(pointer, "ops")


def read_elf_file(members: Members, shapes: Mapping[str, Shape], name: str, base: int, size: int) -> ElfFile:
    """What there is around a ``struct linker_file``.

    Args:
        members: of the linker file; problems become notes there.
        shapes: see `shapes_of`.
        name: of its linker class.
        base: where the file is loaded.
        size: bytes from there.
    """
    if name.startswith("elf"):
        kind = ELF_OBJECT if name.endswith("_obj") else ELF
    else:
        kind = _kind_by_look(members, shapes, base, size)
    if kind not in shapes:
        members.note(f"no symbols: its class {name} is not known" if name else "no symbols: its class is not known")
        return ElfFile(kind)
    shape = shapes[kind]
    file = shape.read(members)
    if not shape.type_name and not (file.symbols and looks_like_table(members.structs, file.symbols)):
        members.note("no symbols: the kernel's types do not have its elf_file, and it does not look as usual")
        return ElfFile(kind)
    return file


def _kind_by_look(members: Members, shapes: Mapping[str, Shape], base: int, size: int) -> str:
    """The kind that makes sense: a table of symbols, and for ET_REL files sections within the file."""
    silent = Members(members.structs, members.address)
    for kind in (ELF_OBJECT, ELF):
        file = shapes[kind].read(silent) if kind in shapes else ElfFile()
        if file.symbols and looks_like_table(members.structs, file.symbols):
            inside = any(base <= address < base + size for _, address, _ in file.sections)
            if inside or kind == ELF:
                return kind
    return ""


def looks_like_table(structs: Structs, place: TablePlace) -> bool:
    """Whether the first symbol is all zero, and the first byte of the names too."""
    try:
        first = structs.read(place.symtab, 2 * structs.word_size + 8)
        return not any(first) and structs.read(place.strtab, 1) == b"\0"
    except AddressError:
        return False


# Layouts


@dataclass(frozen=True)
class Shape:
    """One of the two structures.

    Attributes:
        type_name: its name among the types, empty if they lack it.
        places: offset and size by member.
        section: size of an ``Elf_progent``, and the offsets of addr, size and name.
    """

    kind: str
    type_name: str
    places: dict[str, tuple[int, int]]
    section: tuple[int, tuple[int, ...]]

    def read(self, members: Members) -> ElfFile:
        """What is there."""
        sections = tuple(self._sections(members))
        sets = _sets_of(sections) if self.kind == ELF_OBJECT else self._sets(members)
        bias = self._value(members, "address")
        return ElfFile(self.kind, self.type_name, bias, sets, sections, self._table(members))

    def _value(self, members: Members, name: str) -> int:
        return members.at(*self.places[name]) if name in self.places else 0

    def _table(self, members: Members) -> TablePlace | None:
        names = ("ddbsymtab", "ddbsymcnt", "ddbstrtab", "ddbstrcnt")
        place = TablePlace(*(self._value(members, name) for name in names))
        return place if place.symtab and place.count and place.strtab else None

    def _sets(self, members: Members) -> dict[str, tuple[int, int, int]]:
        """``vnet_start`` and its like."""
        found = {}
        for name, (prefix, _) in SETS.items():
            start, stop, base = (self._value(members, f"{prefix}_{edge}") for edge in ("start", "stop", "base"))
            if start < stop:
                found[name] = start, stop, base
        return found

    def _sections(self, members: Members) -> Iterator[Section]:
        """``progtab``: every section that is in memory."""
        count, start = self._value(members, "nprogtab"), self._value(members, "progtab")
        if count > MAX_SECTIONS:
            members.note(f"{count} sections are impossible")
            return
        size, offsets = self.section
        for entry in range(start, start + count * size, size) if start else ():
            try:
                address, length, name = (members.structs.pointer(entry + at) for at in offsets)
            except AddressError as error:
                members.note(f"progtab: {error}")
                continue
            if address:
                yield members.string(name, "progtab"), address, length


def _sets_of(sections: tuple[Section, ...]) -> dict[str, tuple[int, int, int]]:
    """link_elf_obj.c: the section is where the linker put it, in the kernel's own set."""
    names = {section: name for name, (_, section) in SETS.items()}
    return {
        names[section]: (address, address + size, address) for section, address, size in sections if section in names
    }


def shapes_of(structs: Structs) -> dict[str, Shape]:
    """The structures by kind: as the types have them, else as they have been since long.

    As the two have one name in C, one of them carries an appendix here: ``elf_file__link_elf_obj``, ``elf_file__2``.
    """
    found: dict[str, Shape] = {}
    for name in sorted(structs.types.user_types):
        if (name == "elf_file" or name.startswith("elf_file__")) and structs.has(name, "ddbsymtab"):
            kind = ELF_OBJECT if structs.has(name, "progtab") else ELF
            if kind not in found:
                found[kind] = Shape(kind, name, _known_places(structs, name), _progent(structs, name))
    if "linker_file" in structs.types.user_types:
        for kind in _ORDERS.keys() - found.keys():
            found[kind] = Shape(kind, "", _usual_places(structs, kind), _progent(structs, ""))
    return found


def _known_places(structs: Structs, name: str) -> dict[str, tuple[int, int]]:
    members = (structs.member(name, member) for member in structs.types.user_types[name]["fields"])
    sizes = [(offset, structs.size_of(reference)) for offset, reference in members]
    return dict(zip(structs.types.user_types[name]["fields"], sizes, strict=True))


def _usual_places(structs: Structs, kind: str) -> dict[str, tuple[int, int]]:
    places, offset = {}, structs.size("linker_file")
    for member in _ORDERS[kind].split():
        size = 4 if member.endswith("*") else structs.word_size
        offset = -(-offset // size) * size
        places[member.rstrip("*")] = offset, size
        offset += size
    return places


def _progent(structs: Structs, type_name: str) -> tuple[int, tuple[int, ...]]:
    """Size of an ``Elf_progent`` and the offsets of addr, size and name."""
    names = ("addr", "size", "name")
    if structs.has(type_name, "progtab"):
        element = str(structs.member(type_name, "progtab")[1].get("subtype", {}).get("name", ""))
        if all(structs.has(element, name) for name in names):
            return structs.size(element), tuple(structs.offset(element, name) for name in names)
    word = structs.word_size
    return 3 * word + 8, (0, word, 2 * word + 8)
