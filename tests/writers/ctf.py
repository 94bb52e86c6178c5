"""Writes CTF, the type sections of FreeBSD's kernels, the way ctfconvert and ctfmerge do.

`Ctf` writes records; `TypesWriter` turns types of any origin into records; `add_ctf` makes of a kernel with debug
information one as a release has it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dictionary
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.minikernel.strip import strip_debug
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes
from volatility3_freebsd_kvm.image.types import TypeReference, Types

from .headers import ByteOrder

MAGIC = 0xCFF1
INTEGER, FLOAT, POINTER, ARRAY, FUNCTION, STRUCT, UNION, ENUM, FORWARD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(
    1, 14
)
KINDS = {"struct": STRUCT, "union": UNION, "enum": ENUM}
SIGNED, CHAR, BOOL = 1, 2, 4
SECTION = ".SUNW_ctf"
Members = Sequence[tuple[str, int, int]]
_WORDS = frozenset(("signed", "unsigned", "long", "short", "int", "char"))
_FLOAT_ENCODINGS = {4: 1, 8: 2, 12: 6, 16: 6}


class Ctf:
    """A container in the making.

    Attributes:
        version: 2 or 3.
        parent: name of the file with the parent container, or "".
    """

    def __init__(
        self,
        version: int = 3,
        byteorder: ByteOrder = "little",
        *,
        parent: str = "",
        parent_label: str = "",
        label: str = "",
    ) -> None:
        self.version = version
        self.parent = parent
        self._parent_label = parent_label
        self._label = label
        self._order = "<" if byteorder == "little" else ">"
        self._id = "H" if version == 2 else "I"
        self._strings: dict[str, int] = {"": 0}
        self._string_data = bytearray(b"\0")
        self._records: list[bytes] = []

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self._order + form, *values)

    def string(self, text: str) -> int:
        """Offset of a string in the table."""
        if text not in self._strings:
            self._strings[text] = len(self._string_data)
            self._string_data += text.encode() + b"\0"
        return self._strings[text]

    @property
    def child_bit(self) -> int:
        return (0x8000 if self.version == 2 else 0x80000000) if self.parent else 0

    # Types

    def reserve(self) -> int:
        """The id of a type that will be added `at` it."""
        self._records.append(b"")
        if self.version == 2 and len(self._records) > 0x7FFF:
            raise ValueError("version 2 has 32,767 types at most")
        return len(self._records) | self.child_bit

    def add(
        self,
        kind: int,
        name: str = "",
        value: int = 0,
        body: bytes = b"",
        count: int = 0,
        *,
        root: bool = True,
        at: int = 0,
    ) -> int:
        """Add a type with a size or another type as its `value`; returns its id."""
        at = at or self.reserve()
        shift, limit, sentinel = (11, 0x3FF, 0xFFFF) if self.version == 2 else (26, 0xFFFFFF, 0xFFFFFFFF)
        if count > limit:
            raise ValueError(f"version {self.version} has {limit} members at most, not {count}")
        info = kind << shift | root << (shift - 1) | count
        long = value >= sentinel and kind in (INTEGER, FLOAT, ARRAY, STRUCT, UNION, ENUM)
        record = self.pack(f"I{self._id * 2}", self.string(name), info, sentinel if long else value)
        if long:
            record += self.pack("II", value >> 32, value & 0xFFFFFFFF)
        self._records[(at ^ self.child_bit) - 1] = record + body
        return at

    def integer(self, name: str, size: int, encoding: int = 0, bits: int = -1) -> int:
        bits = 8 * size if bits < 0 else bits
        return self.add(INTEGER, name, size, self.pack("I", encoding << 24 | bits), 1)

    def floating(self, name: str, size: int, encoding: int = 0) -> int:
        encoding = encoding or _FLOAT_ENCODINGS[size]
        return self.add(FLOAT, name, size, self.pack("I", encoding << 24 | 8 * size), 1)

    def pointer(self, target: int, *, at: int = 0) -> int:
        return self.add(POINTER, "", target, root=False, at=at)

    def array(self, contents: int, count: int, index: int = 0, *, at: int = 0) -> int:
        body = self.pack(f"{self._id * 2}I", contents, index, count)
        return self.add(ARRAY, "", 0, body, 1, root=False, at=at)

    def function(self, result: int = 0, arguments: Sequence[int] = ()) -> int:
        padding = [0] if self.version == 2 and len(arguments) % 2 else []
        body = self.pack(self._id * (len(arguments) + len(padding)), *arguments, *padding)
        return self.add(FUNCTION, "", result, body, len(arguments), root=False)

    def compound(self, kind: int, name: str, size: int, members: Members, *, root: bool = True, at: int = 0) -> int:
        """A structure or union; members are name, type and offset in bits."""
        if size >= (1 << 13 if self.version == 2 else 1 << 29):
            form = "IHHII" if self.version == 2 else "IIII"
            padding = [0] if self.version == 2 else []
            entries = [
                (self.string(one), kind_id, *padding, bit >> 32, bit & 0xFFFFFFFF) for one, kind_id, bit in members
            ]
        else:
            form = f"I{self._id * 2}"
            entries = [(self.string(one), kind_id, bit) for one, kind_id, bit in members]
        body = b"".join(self.pack(form, *entry) for entry in entries)
        return self.add(kind, name, size, body, len(members), root=root, at=at)

    def struct(self, name: str, size: int, members: Members, *, root: bool = True, at: int = 0) -> int:
        return self.compound(STRUCT, name, size, members, root=root, at=at)

    def union(self, name: str, size: int, members: Members, *, root: bool = True, at: int = 0) -> int:
        return self.compound(UNION, name, size, members, root=root, at=at)

    def enum(self, name: str, size: int, constants: Dictionary[str, int]) -> int:
        """Of version 2, only the first 1023 constants fit, which is how ctfconvert does it."""
        kept = list(constants.items())[: 0x3FF if self.version == 2 else None]
        body = b"".join(self.pack("II", self.string(one), value & 0xFFFFFFFF) for one, value in kept)
        return self.add(ENUM, name, size, body, len(kept))

    # The container

    def build(
        self, objects: Iterable[int] = (), functions: Iterable[Sequence[int]] = (), *, compressed: bool = False
    ) -> bytes:
        """The section.

        Args:
            objects: Type of each data object of the symbol table, in its order, 0 for unknown ones.
            functions: The same for functions: result and arguments, nothing for unknown ones.
            compressed: All but the header is a zlib stream.
        """
        parent_label, parent = self.string(self._parent_label), self.string(self.parent)
        sections = [
            self.pack("II", self.string(self._label), len(self._records)) if self._label else b"",
            b"".join(self.pack(self._id, one) for one in objects),
            b"".join(map(self._function_entry, functions)),
            b"".join(self._records),
        ]
        sections[2] += bytes(-len(sections[1] + sections[2]) % 4)
        offsets = [0]
        for section in sections:
            offsets.append(offsets[-1] + len(section))
        header = self.pack("HBB", MAGIC, self.version, int(compressed))
        header += self.pack("8I", parent_label, parent, *offsets, len(self._string_data))
        data = b"".join(sections) + self._string_data
        return header + (zlib.compress(data, 9) if compressed else data)

    def _function_entry(self, types: Sequence[int]) -> bytes:
        if not types:
            return self.pack(self._id, 0)
        info = FUNCTION << (11 if self.version == 2 else 26) | len(types) - 1
        return self.pack(self._id * (1 + len(types)), info, *types)


class TypesWriter:
    """Writes types of any origin as ctfconvert and ctfmerge would.

    That is: types without a name are written once where they are equal; names of the kind ``foo_t`` are typedefs;
    spellings of integers become one; bit fields are members of integer types with less bits. Typedefs and qualifiers,
    which the types to be written do not have any more, are put here and there.
    """

    def __init__(self, types: Types, ctf: Ctf, parent: TypesWriter | None = None) -> None:
        self.types = types
        self.ctf = ctf
        self._parent = parent
        self._ids: dict[Any, int] = {}
        self._pending: list[tuple[TypeReference, int]] = []
        self._dress = 0

    def add_all(self) -> None:
        """Write everything that can be looked up by a name."""
        for table in (self.types.user_types, self.types.enums):
            for name, definition in table.items():
                if not name.startswith("unnamed_"):
                    self.id({"kind": definition.get("kind", "enum"), "name": name})

    def id(self, reference: TypeReference) -> int:
        """The id of a type, which is written if that has not been done."""
        result = self._written(reference)
        while self._pending:
            self._add_members(*self._pending.pop())
        return result

    def _written(self, reference: TypeReference) -> int:
        key = self._key(reference)
        known = self._ids.get(key) or self._from_parent(reference, key)
        if known is None:
            known = self._ids[key] = self._write(reference)
        return known

    def _from_parent(self, reference: TypeReference, key: Any) -> int | None:
        """The parent's id, if it has the same type."""
        if self._parent is None or key not in self._parent._ids:
            return None
        name = reference.get("name", "")
        table, theirs = self._table(reference["kind"]), self._parent._table(reference["kind"])
        return self._parent._ids[key] if table.get(name) == theirs.get(name) else None

    def _table(self, kind: str) -> dict[str, dict[str, Any]]:
        if kind in ("struct", "union"):
            return self.types.user_types
        return self.types.enums if kind == "enum" else self.types.base_types

    def _key(self, reference: TypeReference) -> Any:
        """Equal for equal types: by name, or without a name by content."""
        kind = reference["kind"]
        if "subtype" in reference:
            return kind, reference.get("count"), self._key(reference["subtype"])
        if kind == "bitfield":
            return kind, reference["bit_length"], reference["type"]["name"]
        name = reference.get("name", "")
        if not name.startswith("unnamed_"):
            return kind, name
        definition = self._table(kind)[name]
        if kind == "enum":
            return kind, definition["size"], tuple(definition["constants"].items())
        fields = definition["fields"].items()
        return kind, definition["size"], tuple((key, one["offset"], self._key(one["type"])) for key, one in fields)

    def _write(self, reference: TypeReference) -> int:
        kind = reference["kind"]
        if kind == "pointer":
            return self.ctf.pointer(self._dressed(reference["subtype"]))
        if kind == "array":
            index = self._written({"kind": "base", "name": "long"})
            return self.ctf.array(self._dressed(reference["subtype"]), reference["count"], index)
        if kind == "function":
            return self._write_function()
        if kind in KINDS:
            return self._write_tagged(reference)
        return self._write_base(reference["name"])

    def _write_function(self) -> int:
        number = self._written({"kind": "base", "name": "int"})
        return self.ctf.function(number, [number, self.ctf.pointer(number), number])

    def _dressed(self, reference: TypeReference) -> int:
        """The type, now and then by way of a typedef or a qualifier."""
        plain = self._written(reference)
        if reference["kind"] == "function":
            return plain
        self._dress += 1
        style = ("", "const", "", "volatile", "typedef", "both")[self._dress % 6]
        anonymous = reference.get("name", "unnamed_").startswith("unnamed_")
        if not style or (anonymous and style != "const"):
            return plain
        key = style, plain
        if key not in self._ids:
            alias = f"alias{plain:x}"
            made = plain
            if style in ("typedef", "both"):
                made = self.ctf.add(TYPEDEF, alias, made)
            if style != "typedef":
                made = self.ctf.add(VOLATILE if style == "volatile" else CONST, "", made, root=False)
            self._ids[key] = made
        return self._ids[key]

    def _write_tagged(self, reference: TypeReference) -> int:
        name, kind = reference["name"], reference["kind"]
        definition = self._table(kind).get(name)
        if definition is None:
            return self.ctf.add(FORWARD, name, 0)
        plain = self._tag(name)
        if kind == "enum":
            made = self.ctf.enum(plain, definition["size"], definition["constants"])
        else:
            made = self.ctf.reserve()
            self._pending.append((reference, made))
        return self.ctf.add(TYPEDEF, name, made) if name.endswith("_t") else made

    def _tag(self, name: str) -> str:
        """What C has as the tag: none for anonymous types and for typedefs, the same one for two of one name."""
        if name.startswith("unnamed_") or name.endswith("_t"):
            return ""
        stem = name.rpartition("__")[0]
        return stem if stem in self.types.user_types else name

    def _add_members(self, reference: TypeReference, at: int) -> None:
        name = reference["name"]
        definition = self.types.user_types[name]
        members = [
            ("" if field.get("anonymous") else key, *self._member(field)) for key, field in definition["fields"].items()
        ]
        self.ctf.compound(KINDS[reference["kind"]], self._tag(name), definition["size"], members, at=at)

    def _member(self, field: dict[str, Any]) -> tuple[int, int]:
        """Type and offset in bits."""
        reference, first = field["type"], 8 * field["offset"]
        if reference["kind"] != "bitfield":
            return self._dressed(reference), first
        inner, width, position = reference["type"], reference["bit_length"], reference["bit_position"]
        base = self._table(inner["kind"])[inner["name"]]
        unit = 8 * base["size"]
        big = self.types.base_types["pointer"]["endian"] == "big"
        first += unit - position - width if big else position
        if width == unit or inner["kind"] == "enum":
            return self._written(inner), first
        key = self._key(reference)
        if key not in self._ids:
            name, encoding = integer(inner["name"], base)
            self._ids[key] = self.ctf.integer(f"{name} bitfield", base["size"], encoding, width)
        return self._ids[key], first

    def _write_base(self, name: str) -> int:
        base = self.types.base_types.get(name, {"size": self.types.base_types["pointer"]["size"], "kind": "int"})
        if name == "void":
            return self.ctf.integer("void", 0, SIGNED)
        if base["kind"] == "float":
            return self.ctf.floating(name, base["size"])
        name, encoding = integer(name, base)
        key = "base", name
        if key not in self._ids:
            self._ids[key] = self.ctf.integer(name, base["size"], encoding)
        return self._ids[key]


def integer(name: str, base: Dictionary[str, Any]) -> tuple[str, int]:
    """How ctfconvert calls an integer type, and its encoding: it goes by the words, not by what DWARF says besides."""
    words = name.split()
    if not _WORDS.issuperset(words):
        boolean = base["kind"] == "bool"
        return name, BOOL | SIGNED if boolean else SIGNED * bool(base.get("signed"))
    unsigned = "unsigned" in words
    plain = " ".join(word for word in ("long",) * words.count("long") + ("short", "char") if word in words) or "int"
    return "unsigned " * unsigned + plain, (CHAR if "char" in words else 0) | (0 if unsigned else SIGNED)


# Kernels


def add_ctf(
    kernel: Path | bytes,
    version: int = 3,
    *,
    compressed: bool = True,
    types: tuple[Types, Dictionary[str, TypeReference]] | None = None,
    byteorder: ByteOrder | None = None,
) -> bytes:
    """A kernel as a release has it: without debug information, with a symbol table and CTF.

    Args:
        kernel: A kernel with DWARF.
        version: Of the CTF.
        compressed: As it is in kernels; in object files it is not.
        types: Types and types of variables, if they have been read before.
        byteorder: Of the container, if not the kernel's.
    """
    data = kernel if isinstance(kernel, bytes) else kernel.read_bytes()
    if types is None:
        reader = DwarfTypes(ELFFile(io.BytesIO(data)))
        reader.add_all()
        types = reader.types, reader.variables
    stripped = strip_debug(data)
    elf = ELFFile(io.BytesIO(stripped))
    order = byteorder or ("little" if elf.little_endian else "big")
    return insert_section(stripped, kernel_container(elf, *types, Ctf(version, order, label="kernel"), compressed))


def kernel_container(
    elf: ELFFile, types: Types, variables: Dictionary[str, TypeReference], ctf: Ctf, compressed: bool = True
) -> bytes:
    """The container of a kernel, its objects and functions in the order of the symbol table."""
    writer = TypesWriter(types, ctf)
    writer.add_all()
    objects, functions = [], []
    result = [writer.id({"kind": "base", "name": "int"})]
    for name, kind in listed_symbols(elf):
        if kind == "STT_OBJECT":
            objects.append(writer.id(variables[name]) if name in variables else 0)
        else:
            functions.append(result * (len(functions) % 4))
    return ctf.build(objects, functions, compressed=compressed)


def listed_symbols(elf: ELFFile) -> list[tuple[str, str]]:
    """Names and types of the symbols that have a place in the object or function section."""
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    result = []
    for symbol in table.iter_symbols():
        kind, section = symbol["st_info"]["type"], symbol["st_shndx"]
        if kind not in ("STT_OBJECT", "STT_FUNC") or section == "SHN_UNDEF":
            continue
        if symbol.name in ("", "_START_", "_END_") or (
            kind == "STT_OBJECT" and section == "SHN_ABS" and not symbol["st_value"]
        ):
            continue
        result.append((symbol.name, kind))
    return result


def insert_section(data: bytes, content: bytes) -> bytes:
    """An ELF file with the section added, and the section headers at its end."""
    elf = ELFFile(io.BytesIO(data))
    headers = [section.header.copy() for section in elf.iter_sections()]
    names = elf.get_section(elf["e_shstrndx"])
    output = bytearray(data)
    output += bytes(-len(output) % 8)
    strings = headers[elf["e_shstrndx"]]
    new_names = names.data() + SECTION.encode() + b"\0"
    symtab = next(index for index, header in enumerate(headers) if header["sh_type"] == "SHT_SYMTAB")
    added = headers[0].copy()
    added.update(sh_name=len(names.data()), sh_type="SHT_PROGBITS", sh_addralign=4, sh_link=symtab)
    for header, piece in ((strings, new_names), (added, content)):
        header["sh_offset"], header["sh_size"] = len(output), len(piece)
        output += piece + bytes(-len(piece) % 8)
    header = elf.header.copy()
    header["e_shoff"], header["e_shnum"] = len(output), len(headers) + 1
    output += b"".join(elf.structs.Elf_Shdr.build(one) for one in [*headers, added])
    packed = elf.structs.Elf_Ehdr.build(header)
    output[: len(packed)] = packed
    return bytes(output)
