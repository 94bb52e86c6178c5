"""Writes small DWARF in every encoding, and ELF files to carry it.

Entries are trees of `Entry`; a `Format` decides how they become bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

# DW_TAG_*
ARRAY, CLASS, ENUM, PARAMETER, BLOCK, MEMBER, POINTER, UNIT, STRUCT = (
    0x01,
    0x02,
    0x04,
    0x05,
    0x0B,
    0x0D,
    0x0F,
    0x11,
    0x13,
)
SUBROUTINE, TYPEDEF, UNION, SUBRANGE, BASE, CONST, ENUMERATOR, FUNCTION = 0x15, 0x16, 0x17, 0x21, 0x24, 0x26, 0x28, 0x2E
VARIABLE, VOLATILE, PARTIAL_UNIT, IMPORTED_UNIT, TYPE_UNIT = 0x34, 0x35, 0x3C, 0x3D, 0x41
# DW_AT_*
SIBLING, LOCATION, NAME, BYTE_SIZE, BIT_OFFSET, BIT_SIZE, LOW_PC, CONST_VALUE = (
    0x01,
    0x02,
    0x03,
    0x0B,
    0x0C,
    0x0D,
    0x11,
    0x1C,
)
UPPER_BOUND, COUNT, PLACE, DECL_FILE, DECLARATION, ENCODING, SPECIFICATION = 0x2F, 0x37, 0x38, 0x3A, 0x3C, 0x3E, 0x47
TYPE, IMPORT, SIGNATURE, DATA_BIT_OFFSET, STR_OFFSETS_BASE = 0x49, 0x18, 0x69, 0x6B, 0x72
# DW_FORM_*
ADDR, BLOCK2, BLOCK4, DATA2, DATA4, DATA8, STRING, BLOCK_FORM, BLOCK1 = (
    0x01,
    0x03,
    0x04,
    0x05,
    0x06,
    0x07,
    0x08,
    0x09,
    0x0A,
)
DATA1, SDATA, STRP, UDATA, REF_ADDR, REF1, REF2, REF4, REF8 = 0x0B, 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x13, 0x14
REF_UDATA, INDIRECT, SEC_OFFSET, EXPRLOC, FLAG_PRESENT, STRX, ADDRX = 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B
LINE_STRP, REF_SIG8, IMPLICIT_CONST, STRX1, STRX2, STRX3, STRX4 = 0x1F, 0x20, 0x21, 0x25, 0x26, 0x27, 0x28
_INDEXED = {STRX1: 1, STRX2: 2, STRX3: 3, STRX4: 4}
_NUMBERS = {DATA1: 1, DATA2: 2, DATA4: 4, DATA8: 8, REF1: 1, REF2: 2, REF4: 4, REF8: 8, REF_SIG8: 8}
_FLAG = 0x0C
DW_UT_TYPE, DW_UT_PARTIAL = 2, 3
_SHT_RELA, _SHT_REL, _SHF_COMPRESSED = 4, 9, 0x800
RELOCATIONS = {"amd64": 10, "i386": 1, "arm": 2, "arm64": 258, "riscv64": 1, "powerpc64": 1, "mips": 2}
"""The type that stores 32 bits, by machine."""
MACHINES = {"amd64": 62, "i386": 3, "arm": 40, "arm64": 183, "riscv64": 243, "powerpc64": 21, "mips": 8}

Attributes = dict[int, "str | int | bytes | Entry"]


@dataclass(eq=False)
class Entry:
    """A DIE: text is a name, another entry a reference to it, ``bytes`` an expression.

    Where it has been written: its unit's place in the section and its own in the unit.
    """

    tag: int
    attributes: Attributes = field(default_factory=dict)
    children: list[Entry] = field(default_factory=list)
    unit: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Format:
    """How entries are written.

    Attributes:
        version: Of DWARF, 2 to 5.
        order: ``<`` or ``>``.
        offset_size: 8 for 64-bit DWARF.
        address_size: Of the machine.
        names, references, numbers: DW_FORM_* for each; `IMPLICIT_CONST` puts numbers into the abbreviations.
        places: DW_FORM_* for the offsets of members; `BLOCK1` is an expression as in DWARF 2.
        siblings: Whether there is DW_AT_sibling.
        spare_codes: Unused abbreviation codes before the first one, for codes of two bytes.
    """

    version: int = 4
    order: str = "<"
    offset_size: int = 4
    address_size: int = 8
    names: int = STRP
    references: int = REF4
    numbers: int = DATA4
    places: int = DATA2
    siblings: bool = False
    spare_codes: int = 0

    @property
    def offset(self) -> str:
        """For ``struct``."""
        return self.order + ("I" if self.offset_size == 4 else "Q")


@dataclass
class Dwarf:
    """Sections by name without ``.debug_``; ``relocations`` are places of .debug_info that hold string offsets."""

    sections: dict[str, bytes]
    relocations: list[int] = field(default_factory=list)


@dataclass
class UnitPlan:
    """One unit to write: its top entry and, if it is a type unit, its signature and the entry that it stands for."""

    top: Entry
    signature: int = 0
    described: Entry | None = None


def uleb(value: int, pad: int = 0) -> bytes:
    """Unsigned LEB128, with at least ``pad`` bytes."""
    out = bytearray()
    while value > 0x7F or len(out) < pad - 1:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


class Writer:
    """Writes units one after the other."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.strings = {STRP: bytearray(b"\0"), LINE_STRP: bytearray(b"\0")}
        self.indexes: list[int] = []
        self.abbreviations: dict[tuple[object, ...], int] = {}
        self.relocations: list[int] = []
        self.patches: list[tuple[bytearray, int, int, Entry]] = []
        self.infos = {"info": bytearray(), "types": bytearray()}

    def write(self, units: Sequence[UnitPlan]) -> Dwarf:
        """All sections for the units."""
        for unit in units:
            self._unit(unit, "types" if unit.signature and self.form.version < 5 else "info")
        self._patch()
        sections = {name: bytes(data) for name, data in self.infos.items() if data}
        sections["abbrev"] = self._abbreviation_table()
        sections["str"] = bytes(self.strings[STRP])
        sections["line_str"] = bytes(self.strings[LINE_STRP])
        if self.form.version >= 5:
            offsets = b"".join(struct.pack(self.form.offset, at) for at in self.indexes)
            header = struct.pack(self.form.order + "HH", 5, 0)
            sections["str_offsets"] = self._length(len(offsets) + 4) + header + offsets
        return Dwarf(sections, self.relocations)

    def _length(self, length: int) -> bytes:
        if self.form.offset_size == 4:
            return struct.pack(self.form.order + "I", length)
        return b"\xff" * 4 + struct.pack(self.form.order + "Q", length)

    def _unit(self, unit: UnitPlan, section: str) -> None:
        form, data = self.form, self.infos[section]
        start = len(data)
        kind = DW_UT_TYPE if unit.signature else DW_UT_PARTIAL if unit.top.tag == PARTIAL_UNIT else 1
        header = struct.pack(form.order + "H", form.version)
        if form.version >= 5:
            header += bytes([kind, form.address_size]) + struct.pack(form.offset, 0)
        else:
            header += struct.pack(form.offset, 0) + bytes([form.address_size])
        described_at = len(self._length(0)) + len(header) + 8
        if unit.signature:
            header += struct.pack(form.order + "Q", unit.signature) + bytes(form.offset_size)
        data += self._length(0) + header
        self._entry(unit.top, data, start)
        data += bytes(1)
        if unit.described:
            struct.pack_into(form.offset, data, start + described_at, unit.described.offset)
        length = self._length(len(data) - start - len(self._length(0)))
        data[start : start + len(length)] = length

    def _patch(self) -> None:
        """Fill in the references, when all their targets are known."""
        for data, at, kind, target in self.patches:
            if kind == REF_UDATA:
                data[at : at + 4] = uleb(target.offset, 4)
            elif kind == REF_ADDR:
                struct.pack_into(self._address_format(), data, at, target.unit + target.offset)
            else:
                size = _NUMBERS[kind]
                data[at : at + size] = target.offset.to_bytes(size, "little" if self.form.order == "<" else "big")

    def _address_format(self) -> str:
        """DW_FORM_ref_addr has the size of an address in DWARF 2."""
        wide = self.form.address_size == 8 if self.form.version == 2 else self.form.offset_size == 8
        return self.form.order + ("Q" if wide else "I")

    def _entry(self, entry: Entry, data: bytearray, start: int) -> None:
        entry.unit, entry.offset = start, len(data) - start
        attributes = dict(entry.attributes)
        if entry.tag == UNIT and self.form.names in (STRX, *_INDEXED) and self.form.version >= 5:
            attributes[STR_OFFSETS_BASE] = 8 if self.form.offset_size == 4 else 16
        if self.form.siblings and entry.children and entry.tag not in (UNIT, PARTIAL_UNIT, TYPE_UNIT):
            attributes[SIBLING] = entry
        specs = [(number, *self._encoding(number, value)) for number, value in attributes.items()]
        signature = (entry.tag, bool(entry.children), *((number, kind, constant) for number, kind, constant in specs))
        code = self.abbreviations.setdefault(signature, len(self.abbreviations) + 1 + self.form.spare_codes)
        data += uleb(code)
        sibling = -1
        for (number, kind, _), value in zip(specs, attributes.values(), strict=True):
            if number == SIBLING:
                sibling = len(data)
                data += bytes(4)
            else:
                self._value(kind, value, data, start)
        for child in entry.children:
            self._entry(child, data, start)
        if entry.children:
            data += bytes(1)
        if sibling >= 0:
            struct.pack_into(self.form.order + "I", data, sibling, len(data) - start)

    def _encoding(self, number: int, value: str | int | bytes | Entry) -> tuple[int, int | None]:
        """The form of a value, and the value where it is in the abbreviation."""
        form = self.form
        if isinstance(value, Entry):
            return (REF4 if number == SIBLING else form.references), None
        if isinstance(value, str):
            return form.names, None
        if isinstance(value, bytes):
            return (EXPRLOC if form.version >= 4 else BLOCK1), None
        special = {
            STR_OFFSETS_BASE: SEC_OFFSET,
            SIGNATURE: REF_SIG8,
            TYPE: REF_SIG8,
            LOW_PC: ADDR,
            PLACE: form.places,
            DECLARATION: FLAG_PRESENT if form.version >= 4 else _FLAG,
        }
        if number in special:
            return special[number], None
        if value >= 0 and form.numbers == IMPLICIT_CONST:
            return IMPLICIT_CONST, value
        return (SDATA if value < 0 else form.numbers), None

    def _value(self, kind: int, value: str | int | bytes | Entry, data: bytearray, start: int) -> None:
        order = "little" if self.form.order == "<" else "big"
        if isinstance(value, Entry):
            self.patches.append((data, len(data), kind, value))
            width = struct.calcsize(self._address_format())
            data += bytes(4 if kind == REF_UDATA else width if kind == REF_ADDR else _NUMBERS[kind])
        elif isinstance(value, str):
            data += self._name(kind, value, len(data))
        elif isinstance(value, bytes):
            data += (bytes([len(value)]) if kind == BLOCK1 else uleb(len(value))) + value
        elif kind in _NUMBERS:
            data += value.to_bytes(_NUMBERS[kind], "little" if order == "little" else "big")
        elif kind == ADDR:
            data += value.to_bytes(self.form.address_size, "little" if order == "little" else "big")
        elif kind == SEC_OFFSET:
            data += struct.pack(self.form.offset, value)
        elif kind == BLOCK1:
            data += bytes([1 + len(uleb(value)), 0x23]) + uleb(value)  # DW_OP_plus_uconst
        elif kind == _FLAG:
            data.append(value)
        elif kind in (UDATA, SDATA):
            data += uleb(value) if kind == UDATA else sleb(value)

    def _name(self, kind: int, text: str, at: int) -> bytes:
        encoded = text.encode() + b"\0"
        if kind == STRING:
            return encoded
        section = self.strings[LINE_STRP if kind == LINE_STRP else STRP]
        found = bytes(section).find(b"\0" + encoded)
        offset = found + 1 if found >= 0 else len(section)
        if found < 0:
            section += encoded
        if kind in (STRP, LINE_STRP):
            self.relocations.append(at)
            return struct.pack(self.form.offset, offset)
        if offset not in self.indexes:
            self.indexes.append(offset)
        index = self.indexes.index(offset)
        if kind == STRX:
            return uleb(index)
        return index.to_bytes(_INDEXED[kind], "little" if self.form.order == "<" else "big")

    def _abbreviation_table(self) -> bytes:
        out = bytearray()
        for signature, code in self.abbreviations.items():
            tag, children, *attributes = signature
            assert isinstance(tag, int)
            out += uleb(code) + uleb(tag) + bytes([bool(children)])
            for spec in attributes:
                assert isinstance(spec, tuple)
                number, kind, constant = spec
                out += uleb(number) + uleb(kind) + (sleb(constant) if constant is not None else b"")
            out += bytes(2)
        return bytes(out + b"\0")


def dwarf(form: Format, *units: Entry | UnitPlan) -> Dwarf:
    """The sections for some units."""
    return Writer(form).write([unit if isinstance(unit, UnitPlan) else UnitPlan(unit) for unit in units])


def unit(name: str, *entries: Entry) -> Entry:
    """A compilation unit."""
    return Entry(UNIT, {NAME: name}, list(entries))


def elf(
    form: Format,
    content: Dwarf | dict[str, bytes],
    machine: str = "amd64",
    *,
    relocatable: bool = False,
    compressed: bool = False,
) -> bytes:
    """An ELF file with DWARF sections.

    Args:
        form: word size and byte order.
        content: the sections, by name without ``.debug_``.
        machine: a key of `MACHINES`.
        relocatable: an object file, whose offsets of strings are in relocations only.
        compressed: all of them are compressed.
    """
    found = content.sections if isinstance(content, Dwarf) else content
    sections = [Section(f".debug_{name}", data) for name, data in found.items()]
    if relocatable and isinstance(content, Dwarf):
        sections += _relocated(form, sections, content.relocations, machine)
    if compressed:
        sections = [replace(one, data=compress(form, one.data), flags=_SHF_COMPRESSED) for one in sections]
    return elf_file(form, sections, machine, relocatable=relocatable)


def compress(form: Format, data: bytes, size: int | None = None, method: int = 1) -> bytes:
    """What a section with SHF_COMPRESSED holds."""
    size = len(data) if size is None else size
    header = (method, 0, size, 1) if form.address_size == 8 else (method, size, 1)
    return struct.pack(form.order + ("IIQQ" if form.address_size == 8 else "III"), *header) + zlib.compress(data)


@dataclass(frozen=True)
class Section:
    """A section of an ELF file; ``about`` is the name of the section that a relocation section belongs to."""

    name: str
    data: bytes
    type: int = 1
    flags: int = 0
    entry_size: int = 0
    about: str = ""


def _relocated(form: Format, sections: list[Section], places: list[int], machine: str) -> list[Section]:
    """Moves the string offsets of .debug_info, the first section, into relocations."""
    info = bytearray(sections[0].data)
    wide = form.address_size == 8
    relocations = b""
    for at in places:
        value = struct.unpack_from(form.order + "I", info, at)[0]
        if wide:
            struct.pack_into(form.order + "I", info, at, 0xDEADBEEF)  # RELA: what is there does not count
            relocations += struct.pack(form.order + "QQq", at, 1 << 32 | RELOCATIONS[machine], value)
        else:
            relocations += struct.pack(form.order + "II", at, 1 << 8 | RELOCATIONS[machine])
    sections[0] = replace(sections[0], data=bytes(info))
    if wide:
        return [Section(".rela.debug_info", relocations, _SHT_RELA, 0, 24, ".debug_info")]
    return [Section(".rel.debug_info", relocations, _SHT_REL, 0, 8, ".debug_info")]


def elf_file(form: Format, sections: list[Section], machine: str = "amd64", *, relocatable: bool = False) -> bytes:
    """An ELF file with sections and two symbols, both 0."""
    wide = form.address_size == 8
    symbols = Section(".symtab", bytes(48 if wide else 32), 2, 0, 24 if wide else 16)
    everything = [Section("", b"", 0), *sections, symbols, Section(".shstrtab", b"", 3)]
    order = [one.name for one in everything]
    names = b"".join(name.encode() + b"\0" for name in order)
    everything[-1] = replace(everything[-1], data=names)
    at = 64 if wide else 52
    body, table = b"", b""
    for one in everything:
        link = order.index(".symtab") if one.about else len(order) - 1 if one.name == ".symtab" else 0
        info = order.index(one.about) if one.about else 0
        start = len("\0".join(order[: order.index(one.name)])) + 1 if one.name else 0
        fields = (start, one.type, one.flags, 0, at, len(one.data), link, info, 1, one.entry_size)
        table += struct.pack(form.order + ("IIQQQQIIQQ" if wide else "10I"), *fields)
        body += one.data
        at += len(one.data)
    header = b"\x7fELF" + bytes([2 if wide else 1, 1 if form.order == "<" else 2, 1, 9]) + bytes(8)
    kind = 1 if relocatable else 2
    sizes = (64 if wide else 52, 0, 0, 64 if wide else 40, len(everything), len(everything) - 1)
    layout = form.order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    return header + struct.pack(layout, kind, MACHINES[machine], 1, 0, 0, at, 0, *sizes) + body + table
