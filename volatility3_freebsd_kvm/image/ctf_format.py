"""The CTF container: header, strings, labels and the records of types, versions 2 and 3.

This is the format of Solaris and FreeBSD (magic 0xcff1). The one of GNU binutils has the same name, section ``.ctf``,
and another magic.

# Reference: sys/sys/ctf.h, share/man/man5/ctf.5
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..exceptions import FormatError

UNKNOWN, INTEGER, FLOAT, POINTER, ARRAY, FUNCTION, STRUCT, UNION, ENUM, FORWARD, TYPEDEF, VOLATILE, CONST, RESTRICT = (
    range(14)
)
"""CTF_K_*"""
INT_SIGNED, INT_CHAR, INT_BOOL = 1, 2, 4
"""CTF_INT_*"""

_MAGIC = {b"\xf1\xcf": "<", b"\xcf\xf1": ">"}
_GNU_MAGIC = (b"\xf2\xdf", b"\xdf\xf2")
_HEADER_SIZE = 36
_COMPRESSED = 1
_EXTERNAL_STRING = 1 << 31
# Ten times what a kernel with everything built in has.
_MAX_SIZE = 1 << 25
_MAX_TYPES = 1 << 18
_MAX_ENTRIES = 1 << 20
_MAX_NAME = 255
_MAX_SHOWN = 60
_MAX_LABELS = 64


def quoted(name: str) -> str:
    """A name from a file as messages show it."""
    return repr(name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}...")


class Layout(NamedTuple):
    """How a version writes its records; the letters are those of `struct`.

    Attributes:
        record: name, info, size or type.
        array: contents, index, number of elements.
        member: name, type, offset in bits.
        large_member: the same with the offset as two words, for structures of ``threshold`` bytes and more.
        id: a type.
        kind_shift: where the kind is in the info.
        max_vlen: mask of the number of members in the info.
        child_bit: set in the ids of types that are the container's own, where there is a parent.
        long_size: the size that says that 64 bits of size follow.
    """

    record: str
    array: str
    member: str
    large_member: str
    id: str
    kind_shift: int
    max_vlen: int
    child_bit: int
    long_size: int
    threshold: int


_LAYOUTS = {
    2: Layout("IHH", "HHI", "IHH", "IHHII", "H", 11, 0x3FF, 0x8000, 0xFFFF, 1 << 13),
    3: Layout("III", "III", "III", "IIII", "I", 26, 0xFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 29),
}


class Record(NamedTuple):
    """A type as it is written.

    Attributes:
        home: the container that it is in.
        kind: CTF_K_*.
        root: whether the name may be looked up from outside.
        name: may be empty.
        value: the size in bytes, or the type that is referred to.
        entries: number of members, constants or arguments.
        body: where they start in the container.
    """

    home: Container
    kind: int
    root: bool
    name: str
    value: int
    entries: int
    body: int


class Container:
    """A container, its types found but not interpreted.

    Attributes:
        name: what messages call the file.
        order: byte order of the container, ``<`` or ``>``. That of the machine which made it: a cross-built kernel may
            have the other one than the kernel's.
        layout: its version's.
        parent_name: file that the parent container is in, or "".
        parent_label: label of the parent that this one was made for, or "".
        labels: those of this container.
        records: by index; the first, 0, is void.
        objects: types of the data objects of the symbol table, in its order, as bytes of ``layout.id``.
    """

    def __init__(self, data: bytes, name: str, strings: bytes = b"") -> None:
        """Inflate a container and find its types.

        Args:
            data: contents of the section.
            name: of the file, for messages.
            strings: ELF string table, for names that are there.

        Raises:
            FormatError: it is no container, too large, or damaged.
        """
        self.name = name
        self.order, self.layout, compressed = self._check_preamble(data)
        if len(data) < _HEADER_SIZE:
            raise self.damaged(f"it ends in its header, after {len(data)} bytes")
        fields = struct.unpack_from(f"{self.order}8I", data, 4)
        label, parent, *offsets, length = fields
        if offsets != sorted(offsets):
            raise self.damaged("its sections overlap")
        labels, objects, functions, types, strings_at = offsets
        size = strings_at + length
        if size > _MAX_SIZE:
            msg = f"the CTF of {name} would be {size} bytes long; a kernel's has a few million at most"
            raise FormatError(msg)
        self._data = self._inflate(data[_HEADER_SIZE:], size) if compressed else data[_HEADER_SIZE:][:size]
        if len(self._data) != size:
            raise self.damaged(f"it has {len(self._data)} of {size} bytes")
        self._strings = self._data[strings_at:]
        self._elf_strings = strings
        self._names: dict[int, str] = {0: ""}
        # Linkers let names share their ends, but not many times over.
        self._spare_text = 4 * (len(self._strings) + len(strings))
        self._formats = {key: struct.Struct(self.order + getattr(self.layout, key)) for key in _FORMATS}
        self.parent_name = self.text(parent)
        self.parent_label = self.text(label)
        count = min((objects - labels) // 8, _MAX_LABELS)
        self.labels = [self.text(one) for one, _ in self._entries("II", labels, count)]
        self.objects = self._data[objects:functions]
        self.records = list(self._find_types(types, strings_at))

    def damaged(self, what: str) -> FormatError:
        """An error about this container."""
        return FormatError(f"the CTF of {self.name} is damaged: {what}")

    def _check_preamble(self, data: bytes) -> tuple[str, Layout, bool]:
        magic = data[:2]
        if magic in _GNU_MAGIC:
            msg = f"{self.name} has GNU's CTF, not FreeBSD's"
            raise FormatError(msg)
        if magic not in _MAGIC or len(data) < 4:
            msg = f"the CTF section of {self.name} starts with {magic.hex() or 'nothing'}, not with CTF's magic cff1"
            raise FormatError(msg)
        if data[2] not in _LAYOUTS:
            msg = f"{self.name} has CTF of version {data[2]}; versions 2 and 3 can be read"
            raise FormatError(msg)
        return _MAGIC[magic], _LAYOUTS[data[2]], bool(data[3] & _COMPRESSED)

    def _inflate(self, data: bytes, size: int) -> bytes:
        """At most one byte more than promised, so that a small file cannot fill the memory."""
        try:
            return zlib.decompressobj().decompress(data, size + 1)
        except zlib.error as error:
            raise self.damaged(f"it cannot be inflated ({error})") from None

    def text(self, reference: int) -> str:
        """A string of the container or of the ELF string table.

        Raises:
            FormatError: there is none.
        """
        known = self._names.get(reference)
        if known is not None:
            return known
        table = self._elf_strings if reference & _EXTERNAL_STRING else self._strings
        at = reference & ~_EXTERNAL_STRING
        end = table.find(b"\0", at, at + _MAX_NAME + 1)
        if end < 0:
            raise self.damaged(f"there is no name at {at:#x} of its string table")
        self._spare_text -= end - at
        if self._spare_text < 0:
            raise self.damaged("its names overlap")
        name = self._names[reference] = table[at:end].decode("utf-8", "replace")
        return name

    def _find_types(self, at: int, end: int) -> Iterator[Record]:
        """Walk over the records, which have different lengths."""
        yield Record(self, UNKNOWN, False, "", 0, 0, 0)
        layout, form = self.layout, self._formats["record"]
        unpack, size, shift, mask = form.unpack_from, form.size, layout.kind_shift, layout.max_vlen
        data, text, sentinel = self._data, self.text, layout.long_size
        byteorder: Literal["little", "big"] = "little" if self.order == "<" else "big"
        types = entries = 0
        while at < end:
            if at + size > end:
                break
            name, info, value = unpack(data, at)
            kind, count = info >> shift, info & mask
            at += size
            if value == sentinel and kind not in _REFERENCES:
                value = int.from_bytes(data[at : at + 4], byteorder) << 32
                value |= int.from_bytes(data[at + 4 : at + 8], byteorder)
                at += 8
            yield Record(self, kind, bool(info >> (shift - 1) & 1), text(name), value, count, at)
            at += self._body_size(kind, value, count)
            types += 1
            entries += count
            if types > _MAX_TYPES or entries > _MAX_ENTRIES:
                raise self.damaged(f"it has more than {_MAX_TYPES} types or {_MAX_ENTRIES} members")
        if at != end:
            raise self.damaged("its last type is cut off")

    def _body_size(self, kind: int, size: int, count: int) -> int:
        """Bytes of what follows a record."""
        if kind in (STRUCT, UNION):
            large = size >= self.layout.threshold
            return count * self._formats["large_member" if large else "member"].size
        if kind in (INTEGER, FLOAT):
            return 4
        if kind == ARRAY:
            return self._formats["array"].size
        if kind == ENUM:
            return count * 8
        if kind == FUNCTION:
            # 16-bit arguments are padded to an even number of them.
            return count * 4 if self.layout.id == "I" else (count + count % 2) * 2
        if kind in _BODILESS:
            return 0
        raise self.damaged(f"it has a type of kind {kind}, which no version knows")

    def _entries(self, form: str, at: int, count: int) -> Iterator[tuple[int, ...]]:
        packed = struct.Struct(self.order + form)
        return packed.iter_unpack(memoryview(self._data)[at : at + count * packed.size])

    def encoding(self, record: Record) -> tuple[int, int]:
        """Encoding (CTF_INT_* or CTF_FP_*) and width in bits of an integer or a float."""
        (word,) = struct.unpack_from(f"{self.order}I", self._data, record.body)
        return word >> 24, word & 0xFFFF

    def array(self, record: Record) -> tuple[int, int]:
        """The type of the elements and their number."""
        contents, _, count = self._formats["array"].unpack_from(self._data, record.body)
        return contents, count

    def members(self, record: Record) -> Iterator[tuple[str, int, int]]:
        """Name, type and offset in bits of each member of a structure or union."""
        text = self.text
        if record.value < self.layout.threshold:
            for name, type_id, offset in self._entries(self.layout.member, record.body, record.entries):
                yield text(name), type_id, offset
            return
        for entry in self._entries(self.layout.large_member, record.body, record.entries):
            yield text(entry[0]), entry[1], entry[-2] << 32 | entry[-1]

    def constants(self, record: Record) -> dict[str, int]:
        """Values of an enumeration by name; all are of 32 bits and signed."""
        return {self.text(name): value for name, value in self._entries("Ii", record.body, record.entries)}

    def object_ids(self, order: str, count: int) -> tuple[int, ...] | None:
        """Types of the data objects, read in one of the byte orders, if there are ``count``."""
        form = f"{order}{count}{self.layout.id}"
        return struct.unpack(form, self.objects) if struct.calcsize(form) == len(self.objects) else None


_FORMATS = ("record", "array", "member", "large_member")
_REFERENCES = frozenset((POINTER, FUNCTION, FORWARD, TYPEDEF, VOLATILE, CONST, RESTRICT))
_BODILESS = _REFERENCES | {UNKNOWN}
