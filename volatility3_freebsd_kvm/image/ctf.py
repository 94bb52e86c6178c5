"""C types from CTF, the type sections of kernels and modules as they are installed.

# Reference: cddl/contrib/opensolaris/tools/ctf/cvt (ctfconvert and ctfmerge, which write them)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct.core import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ..exceptions import FormatError
from . import ctf_format as ctf
from .ctf_format import Container, Record, quoted
from .ctf_members import Member, Members, counts_from_lowest
from .ctf_objects import Symbol, data_objects, elf_symbols, plausible
from .nesting import Extent, check_nesting
from .types import VOID, TypeReference, Types

SECTION = ".SUNW_ctf"
_Link = tuple[int, int | None, int]
"""A pointer or array: its id, the number of elements, which pointers do not have, and how many types were before it."""
# What the ELF library raises at impossible headers.
_DAMAGE = (ELFError, ConstructError, ValueError, LookupError, TypeError, AssertionError, ArithmeticError)
_FUNCTION: TypeReference = {"kind": "function"}
_KINDS = {ctf.STRUCT: "struct", ctf.UNION: "union"}
_TAGGED = frozenset((ctf.STRUCT, ctf.UNION, ctf.ENUM))
_TRANSPARENT = frozenset((ctf.TYPEDEF, ctf.VOLATILE, ctf.CONST, ctf.RESTRICT))
_UNSIGNED = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int"}
_SIGNED = {1: "signed char", 2: "short", 4: "int"}
_MAX_CHAIN = 64
_MAX_HINT = 512
# A kernel needs a few thousand.
_MAX_COPIES = 1 << 16
_MAX_NUMBER = 32


class CtfTypes:
    """The types of a container in one table.

    Typedefs and qualifiers are resolved away. What has no name gets one from each of its users, as with DWARF. Where
    two different structures have one name (``struct elf_file`` of link_elf.c and of link_elf_obj.c), the second is
    ``elf_file__2``.

    CTF cannot say: the width of bit fields of enumeration types, which is taken from the place of the next member;
    constants beyond 32 bits; that a plain ``char`` is unsigned.

    Attributes:
        types: those of the container and of its parent, if it has one.
        variables: types of the data objects of the symbol table, by name.
        warnings: sentences about what was left out.
    """

    def __init__(
        self,
        data: bytes,
        *,
        word_bits: int,
        byteorder: str,
        name: str = "the file",
        symbols: Iterable[Symbol | tuple[str, int, int, int]] | None = None,
        strings: bytes = b"",
        parent: CtfTypes | None = None,
    ) -> None:
        """Convert a container.

        Args:
            data: contents of the section.
            word_bits: 32 or 64.
            byteorder: ``little`` or ``big``, of the kernel.
            name: of the file, for messages.
            symbols: the symbol table that the container was made with, in its order.
            strings: ELF string table, for names that are there.
            parent: the types that this container builds on; not used where it does not say so.

        Raises:
            FormatError: it is no container, damaged, or lacks its parent.
        """
        self._container = Container(data, name, strings)
        self._endian = byteorder
        self.warnings: list[str] = []
        self._parent = self._check_parent(parent)
        self.types = Types.empty(word_bits // 8, byteorder)
        self._long = "long" if word_bits == 64 else "long long"
        self._references: dict[int, TypeReference] = {0: VOID}
        self._widths: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._tags: dict[str, TypeReference] = {}
        self._typedefs: dict[int, str] = {}
        if self._parent:
            self._inherit(self._parent)
        self._copies: dict[tuple[int, str], TypeReference] = {}
        self._spare_copies = _MAX_COPIES
        self._numbers: dict[str, int] = {}
        self._doubles: list[tuple[str, TypeReference]] = []
        self._pending: list[tuple[Record, TypeReference]] = []
        self._enum_bytes: dict[str, int] = {}
        self._from_lowest: bool = self._parent._from_lowest if self._parent else byteorder == "little"
        self._extents: dict[str, Extent] = dict(self._parent._extents) if self._parent else {}
        self._add_all()
        self.variables = self._join([Symbol(*one) for one in symbols]) if symbols is not None else {}
        self._merge_doubles()
        try:
            check_nesting(self.types.user_types, self._extents)
        except ValueError as error:
            raise self._container.damaged(str(error)) from None

    def _check_parent(self, parent: CtfTypes | None) -> CtfTypes | None:
        container = self._container
        if not container.parent_name:
            return None
        if parent is None or parent._parent:
            needed = quoted(container.parent_name)
            msg = f"the CTF of {container.name} builds on that of {needed}, which has to be read first"
            raise FormatError(msg)
        labels = parent._container.labels
        if container.parent_label and labels and container.parent_label not in labels:
            self.warnings.append(
                f"the CTF of {container.name} was made for {quoted(container.parent_label)} of"
                f" {quoted(container.parent_name)}, but that one is {quoted(labels[0])}: its types may be wrong"
            )
        return parent

    def _inherit(self, parent: CtfTypes) -> None:
        theirs = parent.types
        self.types = Types(dict(theirs.base_types), dict(theirs.user_types), dict(theirs.enums))
        self._references.update(parent._references)
        self._widths.update(parent._widths)
        self._steps.update(parent._steps)
        self._tags.update(parent._tags)
        self._typedefs.update(parent._typedefs)

    # Records and names

    def _record(self, type_id: int) -> Record:
        """The record of a type; where there is no parent, every id is one of the container's own."""
        container, index = self._container, type_id
        if self._parent:
            if not type_id & container.layout.child_bit:
                return self._parent._record(type_id)
            index = type_id ^ container.layout.child_bit
        if index >= len(container.records):
            raise container.damaged(f"it refers to type {type_id}, but has {len(container.records) - 1} types")
        return container.records[index]

    def _exists(self, type_id: int) -> bool:
        try:
            return bool(self._record(type_id))
        except FormatError:
            return False

    def _own(self) -> Iterator[tuple[int, Record]]:
        """The container's own types and their ids."""
        bit = self._container.layout.child_bit if self._parent else 0
        return ((index | bit, record) for index, record in enumerate(self._container.records))

    def _add_all(self) -> None:
        """Convert everything that has a name."""
        tagged = [one for one in self._own() if one[1].name and one[1].kind in _TAGGED]
        tags: dict[str, TypeReference] = {}
        # Of two with one name, the visible one keeps it.
        for type_id, record in sorted(tagged, key=lambda one: not one[1].root):
            reference = self._references[type_id] = self._claim(record, record.name)
            tags.setdefault(record.name, reference)
        self._tags.update(tags)
        for _, record in self._own():
            if record.kind == ctf.TYPEDEF:
                self._typedefs.setdefault(record.value, record.name)
        for type_id, record in self._own():
            if record.kind in (ctf.INTEGER, ctf.FLOAT, ctf.TYPEDEF):
                self._reference(type_id, record.name)
        if self._endian == "big" and not self._from_lowest:
            self._from_lowest = counts_from_lowest(self._container.records, self._widths)
        self._define_pending()

    def _claim(self, record: Record, name: str) -> TypeReference:
        """A reference to a structure or enumeration that gets the name, or the name and a number."""
        kind = _KINDS.get(record.kind, "enum")
        table = self._table(kind)
        entered = name
        while entered in table:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            entered = f"{name}__{self._numbers[name]}"
        reference: TypeReference = {"kind": kind, "name": entered}
        if kind == "enum":
            table[entered] = self._enum(record)
        else:
            table[entered] = {"kind": kind, "size": record.value, "fields": {}}
            self._pending.append((record, reference))
        if entered != name:
            self._doubles.append((name, reference))
        return reference

    def _table(self, kind: str) -> dict[str, Any]:
        if kind == "enum":
            return self.types.enums
        return self.types.user_types if kind in ("struct", "union") else self.types.base_types

    def _merge_doubles(self) -> None:
        """Forget what is the same as an earlier type of that name, and number the others anew."""
        kept: dict[tuple[str, str], str] = {}
        numbers: dict[str, int] = {}
        for name, reference in self._doubles:
            table = self._table(reference["kind"])
            definition = table.pop(reference["name"])
            key = name, repr(definition)
            entered = kept.get(key, name)
            while table.get(entered, definition) != definition:
                numbers[name] = numbers.get(name, 1) + 1
                entered = f"{name}__{numbers[name]}"
            # In place: references to it are out already.
            reference["name"] = kept[key] = entered
            table[entered] = definition

    # References

    def _reference(self, type_id: int, hint: str) -> TypeReference:
        """A reference to a type; ``hint`` is for those without a name.

        Raises:
            FormatError: there is no such type, or it is defined by itself.
        """
        known = self._references.get(type_id)
        if known is not None:
            return known
        at, user, chain = self._follow(type_id)
        result = self._references.get(at)
        fixed = result is not None
        if result is None:
            record = self._record(at)
            result = self._leaf(at, record, user or hint)
            fixed = at in self._references or record.kind not in _TAGGED
            self._spare_copies -= 0 if fixed else len(chain)
        if at in self._widths and not chain:
            self._widths[type_id] = self._widths[at]
        for place, count, _ in reversed(chain):
            pointer: TypeReference = {"kind": "pointer", "subtype": result}
            result = pointer if count is None else {"kind": "array", "count": count, "subtype": result}
            if fixed:
                self._references[place] = result
        if fixed or user:
            self._references[type_id] = result
        return result

    def _follow(self, type_id: int) -> tuple[int, str, list[_Link]]:
        """Where a chain of pointers, arrays and typedefs ends, or gets to what is known.

        Returns:
            The last type; what typedefs call it, or ""; the pointers and arrays.
        """
        at, user, chain, direct, steps = type_id, "", list[_Link](), 0, 0
        while at not in self._references and steps <= _MAX_CHAIN:
            record = self._record(at)
            if record.kind == ctf.POINTER:
                chain.append((at, None, steps))
                at = record.value
            elif record.kind == ctf.ARRAY:
                contents, count = record.home.array(record)
                chain.append((at, count, steps))
                at = contents
            elif record.kind in _TRANSPARENT:
                if record.kind == ctf.TYPEDEF and record.name:
                    user, direct = record.name, len(chain)
                at = record.value
            else:
                break
            steps += 1
        steps += self._steps.get(at, 0)
        if steps > _MAX_CHAIN:
            raise self._container.damaged(f"type {type_id} is a chain of more than {_MAX_CHAIN} types")
        for place, _, before in ((type_id, None, 0), *chain):
            self._steps[place] = steps - before
        # Of "typedef struct {} foo_t, *foo_p", the structure is foo_t.
        return at, self._typedefs.get(at, user) if user and len(chain) > direct else user, chain

    def _leaf(self, type_id: int, record: Record, user: str) -> TypeReference:
        """A reference to what is neither pointer, array nor typedef."""
        known = self._references.get(type_id)
        if known is not None:
            return known
        if record.kind in _TAGGED:
            return self._copy(type_id, record, user)
        if record.kind in (ctf.INTEGER, ctf.FLOAT):
            return self._base(type_id, record)
        if record.kind == ctf.FORWARD:
            return self._forward(record)
        return _FUNCTION if record.kind == ctf.FUNCTION else VOID

    def _copy(self, type_id: int, record: Record, user: str) -> TypeReference:
        """A structure or enumeration without a name, named by its user.

        Several users may share it, since ctfmerge keeps equal types once; each gets its own. Whoever makes names or
        numbers of them explode gets shared ones.
        """
        if not user or len(user) > _MAX_HINT or self._spare_copies < 0:
            user = f"unnamed_{type_id:x}"
        known = self._copies.get((type_id, user))
        if known is None:
            known = self._copies[type_id, user] = self._claim(record, user)
            self._spare_copies -= 1 + record.entries
        if self._spare_copies < 0:
            # One for all from now on.
            self._references[type_id] = known
        return known

    def _forward(self, record: Record) -> TypeReference:
        """What a declaration declares, which may have been defined meanwhile; FreeBSD's do not say their kind."""
        known = self._tags.get(record.name)
        if known is None and record.name in self.types.enums and record.name not in self.types.user_types:
            known = {"kind": "enum", "name": record.name}
        if known is None:
            defined = self.types.user_types.get(record.name, {})
            known = {"kind": defined.get("kind", _KINDS.get(record.value, "struct")), "name": record.name}
        return known

    def _base(self, type_id: int, record: Record) -> TypeReference:
        """An integer or float; types of bit fields are integers of less bits than their size has."""
        if not record.value:
            return VOID
        if record.value > _MAX_NUMBER:
            raise record.home.damaged(f"{quoted(record.name)} is a number of {record.value} bytes")
        encoding, bits = record.home.encoding(record)
        name, kind, signed = record.name, "float", False
        if record.kind == ctf.INTEGER:
            kind = "bool" if encoding & ctf.INT_BOOL else "char" if encoding & ctf.INT_CHAR else "int"
            signed = bool(encoding & ctf.INT_SIGNED) and kind != "bool"
            if 0 < bits < 8 * record.value:
                self._widths[type_id] = bits
                name = name.removesuffix(" bitfield")
        name = name or f"unnamed_{type_id:x}"
        self._add_base(name, record.value, signed, kind)
        return {"kind": "base", "name": name}

    def _add_base(self, name: str, size: int, signed: bool, kind: str = "int") -> None:
        base = {"size": size, "signed": signed, "kind": kind, "endian": self._endian}
        self.types.base_types.setdefault(name, base)

    # Definitions

    def _enum(self, record: Record) -> dict[str, Any]:
        constants = record.home.constants(record)
        signed = any(value < 0 for value in constants.values())
        names = _SIGNED if signed else _UNSIGNED
        long = self._long if signed else f"unsigned {self._long}"
        base = long if record.value == 8 else names.get(record.value, names[4])
        self._add_base(base, record.value, signed, "char" if record.value == 1 else "int")
        return {"size": record.value, "base": base, "constants": constants}

    def _define_pending(self) -> None:
        """Define what has been referred to, which refers to more."""
        while self._pending:
            record, reference = self._pending.pop()
            members = Members(record)
            fields = self.types.user_types[reference["name"]]["fields"]
            parent = reference["name"]
            owner = parent if parent.startswith("unnamed_") else f"unnamed_{parent}"
            for member in members.entries:
                name, type_id, first = member
                known = self._references.get(type_id)
                if known and name and known["kind"] != "enum" and type_id not in self._widths and not first & 7:
                    fields[name] = {"offset": first >> 3, "type": known}
                else:
                    self._add_member(fields, owner, members, member)

    def _add_member(self, fields: dict[str, Any], owner: str, members: Members, member: Member) -> None:
        """The less common members: without a name, bit fields, enumerations."""
        name, type_id, first = member
        if not name:
            name = members.nameless(first)
            reference = self._reference(type_id, f"{owner}_{name}")
            # Others are padding.
            if reference["kind"] in ("struct", "union"):
                fields[name] = {"offset": first >> 3, "type": reference, "anonymous": True}
            return
        reference = self._reference(type_id, f"{owner}_{name}")
        width = self._widths.get(type_id, 0)
        if reference["kind"] == "enum":
            width = self._enum_width(reference["name"], first, members)
        elif first & 7 and reference["kind"] == "base":
            width = width or 8 * self._size(reference)
        fields[name] = self._bit_field(reference, first, width) if width else {"offset": first >> 3, "type": reference}

    def _enum_width(self, name: str, first: int, members: Members) -> int:
        """Bits of an enumeration member if it is a bit field, which only the lack of room tells, otherwise 0.

        The next member tells how many there may be, the constants how many there have to be.
        """
        definition = self.types.enums[name]
        room, size = members.room(first), 8 * int(definition["size"])
        if room <= 0 or (room >= size and not first & 7):
            return 0
        if name not in self._enum_bytes:
            needed = max((one.bit_length() + (one < 0) for one in definition["constants"].values()), default=0)
            self._enum_bytes[name] = max(1, -(-needed // 8))
        return min(room, 8 * self._enum_bytes[name], size)

    def _bit_field(self, reference: TypeReference, first: int, width: int) -> dict[str, Any]:
        """A bit field within the aligned unit that holds it; packed ones that cross it are within a later unit."""
        unit = 8 * self._size(reference) or 8
        start = first - first % unit
        if first + width > start + unit:
            later = -(-(first + width - unit) // 8) * 8
            start = later if later <= first else start
        position = first - start if self._from_lowest else unit - (first - start) - width
        field = {"kind": "bitfield", "bit_position": position, "bit_length": width, "type": reference}
        return {"offset": start // 8, "type": field}

    # Variables

    def _join(self, symbols: list[Symbol]) -> dict[str, TypeReference]:
        """Types of the data objects, or none and a warning where the symbol table is another one."""
        objects = data_objects(symbols)
        # ctfconvert does not swap these ids where it writes for a machine of the other byte order.
        for order in (self._container.order, "<>".replace(self._container.order, "")):
            found = self._typed(objects, order)
            if found is not None and plausible(found, self._size):
                return {one.name: kind for one, kind in found if not one.size or self._size(kind) <= one.size}
        self.warnings.append(
            f"the symbol table of {self._container.name} is not the one that its CTF was made with:"
            " the types of its variables are unknown"
        )
        return {}

    def _typed(self, objects: list[Symbol], order: str) -> list[tuple[Symbol, TypeReference]] | None:
        """The objects whose types are known; nothing if their number or the types cannot be right."""
        ids = self._container.object_ids(order, len(objects))
        if ids is None or not all(map(self._exists, set(ids))):
            return None
        pairs = zip(objects, ids, strict=True)
        found = [(one, self._reference(type_id, f"unnamed_{one.name}")) for one, type_id in pairs if type_id]
        self._define_pending()
        return found

    def _size(self, reference: TypeReference) -> int:
        """Bytes of a type, 0 if that is unknown."""
        factor = 1
        while reference["kind"] == "array":
            factor *= reference["count"]
            reference = reference["subtype"]
        name = "pointer" if reference["kind"] == "pointer" else reference.get("name", "")
        return int(factor * self._table(reference["kind"]).get(name, {}).get("size", 0))


def from_elf(elf: ELFFile, name: str, parent: CtfTypes | None = None) -> CtfTypes:
    """The types and variables of a kernel or module with a CTF section.

    Args:
        elf: the file.
        name: of the file, for messages.
        parent: the kernel's types, which those of a module may build on.

    Raises:
        FormatError: it has none, or they are damaged.
    """
    data, strings, symbols = b"", b"", None
    try:
        section = elf.get_section_by_name(SECTION)
        table = elf.get_section_by_name(".symtab")
        if section is not None and section["sh_type"] != "SHT_NOBITS":
            data = section.data()
        if data and isinstance(table, SymbolTableSection):
            strings = elf.get_section(table["sh_link"]).data()
            symbols = elf_symbols(elf, table, strings)
    except _DAMAGE as error:
        msg = f"{name} is no ELF file that can be read: {str(error) or 'damaged'}"
        raise FormatError(msg) from None
    if not data:
        msg = f"{name} has no CTF type information ({SECTION}); kernels made with WITH_CTF=1, as GENERIC is, have"
        raise FormatError(msg)
    byteorder = "little" if elf.little_endian else "big"
    return CtfTypes(
        data, word_bits=elf.elfclass, byteorder=byteorder, name=name, symbols=symbols, strings=strings, parent=parent
    )
