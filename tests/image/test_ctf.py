"""Types read from CTF are those that ctfconvert and ctfmerge would have written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.writers import ctf as writer
from tests.writers.ctf import BOOL, CHAR, SIGNED, Ctf
from tests.writers.headers import ByteOrder
from volatility3_freebsd_kvm.image.ctf import CtfTypes

INT = {"kind": "base", "name": "int"}
VOID = {"kind": "base", "name": "void"}
VERSIONS = (2, 3)


def read(ctf: Ctf, byteorder: ByteOrder = "little", word_bits: int = 64, **options: Any) -> CtfTypes:
    return CtfTypes(ctf.build(), word_bits=word_bits, byteorder=byteorder, **options)


def fields(types: CtfTypes, name: str) -> dict[str, Any]:
    found: dict[str, Any] = types.types.user_types[name]["fields"]
    return found


# The container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_containers_of_every_kind_are_read(
    version: int, byteorder: ByteOrder, word_bits: int, compressed: bool
) -> None:
    ctf = Ctf(version, byteorder, label="FreeBSD")
    number = ctf.integer("int", 4, SIGNED)
    ctf.struct("pair", 2 * word_bits // 8, [("left", number, 0), ("right", ctf.pointer(number), word_bits)])
    data = ctf.build([number], [[number, number, number]], compressed=compressed)
    found = CtfTypes(data, word_bits=word_bits, byteorder=byteorder)
    assert found.types.user_types == {
        "pair": {
            "kind": "struct",
            "size": word_bits // 4,
            "fields": {
                "left": {"offset": 0, "type": INT},
                "right": {"offset": word_bits // 8, "type": {"kind": "pointer", "subtype": INT}},
            },
        }
    }
    assert found.types.base_types == {
        "void": {"size": 0, "signed": False, "kind": "void", "endian": byteorder},
        "pointer": {"size": word_bits // 8, "signed": False, "kind": "int", "endian": byteorder},
        "int": {"size": 4, "signed": True, "kind": "int", "endian": byteorder},
    }
    assert found.variables == {}
    assert found.warnings == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_container_may_have_another_byte_order_than_the_kernel(version: int) -> None:
    """Kernels for big-endian machines are made on little-endian ones."""
    ctf = Ctf(version, "little")
    ctf.struct("one", 4, [("number", ctf.integer("int", 4, SIGNED), 0)])
    found = read(ctf, "big")
    assert fields(found, "one") == {"number": {"offset": 0, "type": INT}}
    assert found.types.base_types["int"]["endian"] == "big"


def test_names_may_be_in_the_string_table_of_the_file() -> None:
    ctf = Ctf()
    ctf.integer("int", 4, SIGNED)
    data = bytearray(ctf.build())
    name_at = 36
    data[name_at : name_at + 4] = (1 << 31 | 5).to_bytes(4, "little")
    found = CtfTypes(bytes(data), word_bits=64, byteorder="little", strings=b"\0abc\0outside\0")
    assert found.types.base_types["outside"]["size"] == 4


# Kinds of types


@pytest.mark.parametrize(
    ("name", "size", "encoding", "expected"),
    [
        ("int", 4, SIGNED, ("int", True)),
        ("unsigned long", 8, 0, ("int", False)),
        ("char", 1, SIGNED | CHAR, ("char", True)),
        ("unsigned char", 1, CHAR, ("char", False)),
        ("_Bool", 1, SIGNED | BOOL, ("bool", False)),
        ("unsigned __int128", 16, 0, ("int", False)),
    ],
)
def test_integers(name: str, size: int, encoding: int, expected: tuple[str, bool]) -> None:
    ctf = Ctf()
    ctf.integer(name, size, encoding)
    base = read(ctf).types.base_types[name]
    assert (base["size"], base["kind"], base["signed"]) == (size, *expected)


@pytest.mark.parametrize(
    ("name", "size", "encoding"),
    [("float", 4, 1), ("double", 8, 2), ("long double", 16, 6), ("complex float", 8, 3), ("complex double", 16, 4)],
)
def test_floats_and_complex_numbers(name: str, size: int, encoding: int) -> None:
    ctf = Ctf()
    ctf.floating(name, size, encoding)
    base = read(ctf).types.base_types[name]
    assert (base["size"], base["kind"], base["signed"]) == (size, "float", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_pointers_arrays_and_functions(version: int) -> None:
    ctf = Ctf(version)
    number = ctf.integer("int", 4, SIGNED)
    void = ctf.integer("void", 0, SIGNED)
    matrix = ctf.array(ctf.array(number, 3), 2)
    members = [
        ("matrix", matrix, 0),
        ("nothing", ctf.pointer(void), 192),
        ("unknown", ctf.pointer(0), 256),
        ("one_argument", ctf.pointer(ctf.function(number, [number])), 320),
        ("two_arguments", ctf.pointer(ctf.function(number, [number, number])), 384),
        ("flexible", ctf.array(number, 0), 448),
    ]
    ctf.struct("all", 56, members)
    found = {name: one["type"] for name, one in fields(read(ctf), "all").items()}
    function = {"kind": "pointer", "subtype": {"kind": "function"}}
    assert found == {
        "matrix": {"kind": "array", "count": 2, "subtype": {"kind": "array", "count": 3, "subtype": INT}},
        "nothing": {"kind": "pointer", "subtype": VOID},
        "unknown": {"kind": "pointer", "subtype": VOID},
        "one_argument": function,
        "two_arguments": function,
        "flexible": {"kind": "array", "count": 0, "subtype": INT},
    }


@pytest.mark.parametrize("qualifier", [writer.TYPEDEF, writer.VOLATILE, writer.CONST, writer.RESTRICT])
def test_typedefs_and_qualifiers_are_resolved(qualifier: int) -> None:
    ctf = Ctf()
    number = ctf.integer("int", 4, SIGNED)
    layer = ctf.add(qualifier, "alias" if qualifier == writer.TYPEDEF else "", number)
    layer = ctf.add(qualifier, "alias2" if qualifier == writer.TYPEDEF else "", layer)
    ctf.struct("one", 16, [("plain", layer, 0), ("behind", ctf.pointer(layer), 64)])
    found = read(ctf)
    assert fields(found, "one")["plain"]["type"] == INT
    assert fields(found, "one")["behind"]["type"] == {"kind": "pointer", "subtype": INT}
    assert set(found.types.user_types) == {"one"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("size", "constants", "base"),
    [
        (4, {"VNON": 0, "VREG": 1}, "unsigned int"),
        (4, {"NEGATIVE": -1, "ZERO": 0}, "int"),
        (1, {"VNON": 0, "VREG": 200}, "unsigned char"),
        (2, {"MANY": 60000}, "unsigned short"),
        (8, {"LONG": 1}, "unsigned long"),
    ],
)
def test_enumerations_of_every_size(version: int, size: int, constants: dict[str, int], base: str) -> None:
    """``__enum_uint8`` makes them of one byte."""
    ctf = Ctf(version)
    ctf.enum("vtype", size, constants)
    types = read(ctf).types
    assert types.enums == {"vtype": {"size": size, "base": base, "constants": constants}}
    assert types.base_types[base]["size"] == size


def test_the_base_of_a_long_enumeration_depends_on_the_word() -> None:
    ctf = Ctf()
    ctf.enum("wide", 8, {"ONE": 1})
    assert read(ctf, word_bits=32).types.enums["wide"]["base"] == "unsigned long long"


@pytest.mark.parametrize(("version", "kept"), [(2, 1023), (3, 3000)])
def test_enumerations_with_thousands_of_constants(version: int, kept: int) -> None:
    ctf = Ctf(version)
    ctf.enum("errors", 4, {f"E{number}": number for number in range(3000)})
    constants = read(ctf).types.enums["errors"]["constants"]
    assert len(constants) == kept
    assert constants[f"E{kept - 1}"] == kept - 1


# Structures


@pytest.mark.parametrize(
    ("version", "size"),
    [(2, 8191), (2, 8192), (2, 0xFFFE), (2, 0xFFFF), (2, 0x12345678), (3, 1 << 29), (3, (1 << 32) - 1), (3, 1 << 33)],
)
def test_large_structures(version: int, size: int) -> None:
    """From a threshold on, members and sizes are written in a longer form."""
    ctf = Ctf(version)
    number = ctf.integer("int", 4, SIGNED)
    last = size - 4
    ctf.struct("large", size, [("first", number, 0), ("last", number, 8 * last if size > 8191 else 65504)])
    ctf.struct("behind", 4, [("number", number, 0)])
    found = read(ctf)
    assert found.types.user_types["large"]["size"] == size
    assert fields(found, "large")["last"]["offset"] == (last if size > 8191 else 8188)
    assert fields(found, "behind") == {"number": {"offset": 0, "type": INT}}


def test_a_thousand_members_and_more() -> None:
    ctf = Ctf(3)
    number = ctf.integer("int", 4, SIGNED)
    ctf.struct("many", 8000, [(f"m{place}", number, 32 * place) for place in range(2000)])
    assert fields(read(ctf), "many")["m1999"]["offset"] == 7996
    with pytest.raises(ValueError, match="1023 members"):
        Ctf(2).struct("many", 8000, [(f"m{place}", 0, 32 * place) for place in range(1024)])


def test_structures_refer_to_themselves_and_to_later_ones() -> None:
    ctf = Ctf()
    first, second = ctf.reserve(), ctf.reserve()
    ctf.struct("first", 16, [("next", ctf.pointer(first), 0), ("other", ctf.pointer(second), 64)], at=first)
    ctf.union("second", 16, [("one", first, 0)], at=second)
    found = read(ctf)
    assert fields(found, "first")["next"]["type"] == {"kind": "pointer", "subtype": {"kind": "struct", "name": "first"}}
    assert fields(found, "first")["other"]["type"]["subtype"] == {"kind": "union", "name": "second"}
    assert fields(found, "second")["one"]["type"] == {"kind": "struct", "name": "first"}


def test_anonymous_members_are_flattened_and_named_by_their_place() -> None:
    ctf = Ctf()
    number = ctf.integer("int", 4, SIGNED)
    left = ctf.struct("", 4, [("a", number, 0)])
    right = ctf.struct("", 4, [("b", number, 0)])
    either = ctf.union("", 4, [("", left, 0), ("", right, 0)])
    ctf.struct("outer", 8, [("c", number, 0), ("", either, 32)])
    found = read(ctf)
    assert fields(found, "outer")["unnamed_field_4"] == {
        "offset": 4,
        "type": {"kind": "union", "name": "unnamed_outer_unnamed_field_4"},
        "anonymous": True,
    }
    inner = fields(found, "unnamed_outer_unnamed_field_4")
    assert list(inner) == ["unnamed_field_0", "unnamed_field_0_"]
    assert inner["unnamed_field_0_"]["type"]["name"] == "unnamed_outer_unnamed_field_4_unnamed_field_0_"
    assert list(fields(found, inner["unnamed_field_0_"]["type"]["name"])) == ["b"]


def test_equal_types_without_a_name_have_a_name_for_each_user() -> None:
    """ctfmerge keeps one of them; with DWARF there is one for each."""
    ctf = Ctf()
    entry = ctf.struct("", 16, [("tqe_next", ctf.pointer(0), 0), ("tqe_prev", ctf.pointer(0), 64)])
    ctf.struct("one", 16, [("link", ctf.add(writer.CONST, "", entry), 0)])
    ctf.struct("other", 32, [("link", ctf.array(entry, 2), 0)])
    ctf.add(writer.TYPEDEF, "entry_t", entry)
    found = read(ctf)
    assert fields(found, "one")["link"]["type"] == {"kind": "struct", "name": "unnamed_one_link"}
    assert fields(found, "other")["link"]["type"]["subtype"] == {"kind": "struct", "name": "unnamed_other_link"}
    names = ("unnamed_one_link", "unnamed_other_link", "entry_t")
    assert set(found.types.user_types) == {"one", "other", *names}
    assert all(list(fields(found, name)) == ["tqe_next", "tqe_prev"] for name in names)


def test_a_typedef_names_what_has_no_name() -> None:
    """As in ``typedef struct { … } node_t, *node_p;``."""
    ctf = Ctf()
    node = ctf.reserve()
    pointer = ctf.add(writer.TYPEDEF, "node_p", ctf.pointer(node))
    name = ctf.add(writer.TYPEDEF, "node_t", node)
    ctf.struct("", 8, [("next", pointer, 0)], at=node)
    kind = ctf.add(writer.TYPEDEF, "kind_t", ctf.enum("", 4, {"A": 1}))
    ctf.struct("user", 24, [("node", name, 0), ("first", pointer, 64), ("kind", kind, 128)])
    found = read(ctf)
    assert fields(found, "user")["node"]["type"] == {"kind": "struct", "name": "node_t"}
    assert fields(found, "user")["first"]["type"]["subtype"] == {"kind": "struct", "name": "node_t"}
    assert fields(found, "user")["kind"]["type"] == {"kind": "enum", "name": "kind_t"}
    assert set(found.types.user_types) == {"user", "node_t"}


def test_a_typedef_leaves_a_name_alone() -> None:
    ctf = Ctf()
    named = ctf.struct("malloc_type", 4, [("number", ctf.integer("int", 4, SIGNED), 0)])
    alias = ctf.add(writer.TYPEDEF, "malloc_type_t", named)
    ctf.struct("user", 4, [("type", alias, 0)])
    found = read(ctf)
    assert fields(found, "user")["type"]["type"] == {"kind": "struct", "name": "malloc_type"}
    assert set(found.types.user_types) == {"malloc_type", "user"}


def test_two_structures_of_one_name_are_both_there_and_the_visible_one_has_it() -> None:
    ctf = Ctf()
    number = ctf.integer("int", 4, SIGNED)
    hidden = ctf.struct("elf_file", 4, [("hidden", number, 0)], root=False)
    visible = ctf.struct("elf_file", 8, [("visible", number, 0)])
    ctf.union("elf_file", 8, [("union", number, 0)])
    again = ctf.struct("elf_file", 4, [("hidden", number, 0)])
    ctf.struct("users", 24, [("a", hidden, 0), ("b", visible, 32), ("c", again, 96)])
    found = read(ctf)
    names = [field["type"]["name"] for field in fields(found, "users").values()]
    assert names == ["elf_file__3", "elf_file", "elf_file__3"]
    assert list(fields(found, "elf_file")) == ["visible"]
    assert list(fields(found, "elf_file__2")) == ["union"]
    assert list(fields(found, "elf_file__3")) == ["hidden"]


def test_a_number_behind_a_name_is_not_given_twice() -> None:
    ctf = Ctf()
    number = ctf.integer("int", 4, SIGNED)
    for size, name in ((4, "one"), (8, "one"), (12, "one__2"), (16, "one")):
        ctf.struct(name, size, [("member", number, 0)])
    sizes = {name: definition["size"] for name, definition in read(ctf).types.user_types.items()}
    assert sizes["one"] == 4
    assert sorted(sizes.values()) == [4, 8, 12, 16]
    assert all(name.startswith("one") for name in sizes)


def test_declarations_are_joined_with_definitions() -> None:
    ctf = Ctf()
    forward = [ctf.add(writer.FORWARD, name) for name in ("defined_struct", "defined_union", "defined_enum", "nowhere")]
    members = [(f"m{place}", ctf.pointer(one), 64 * place) for place, one in enumerate(forward)]
    members.append(("union", ctf.pointer(ctf.add(writer.FORWARD, "elsewhere", writer.UNION)), 256))
    ctf.struct("user", 40, members)
    number = ctf.integer("int", 4, SIGNED)
    ctf.struct("defined_struct", 4, [("a", number, 0)])
    ctf.union("defined_union", 4, [("a", number, 0)])
    ctf.enum("defined_enum", 4, {"A": 1})
    assert [field["type"]["subtype"] for field in fields(read(ctf), "user").values()] == [
        {"kind": "struct", "name": "defined_struct"},
        {"kind": "union", "name": "defined_union"},
        {"kind": "enum", "name": "defined_enum"},
        {"kind": "struct", "name": "nowhere"},
        {"kind": "union", "name": "elsewhere"},
    ]


# Bit fields


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("byteorder", "positions"), [("little", [0, 4, 16, 0, 1]), ("big", [28, 16, 0, 31, 28])], ids=["little", "big"]
)
def test_bit_fields_are_parts_of_aligned_units(version: int, byteorder: ByteOrder, positions: list[int]) -> None:
    """Bits are counted from the first in memory, which is the most significant one on big-endian machines."""
    ctf = Ctf(version, byteorder)
    widths = {bits: ctf.integer("unsigned int bitfield", 4, 0, bits) for bits in (4, 12, 16, 1, 3)}
    firsts = [0, 4, 16, 32, 33]
    ctf.struct("bits", 8, [(f"b{bits}", widths[bits], first) for bits, first in zip(widths, firsts, strict=True)])
    found = read(ctf, byteorder)
    unsigned = {"kind": "base", "name": "unsigned int"}
    assert fields(found, "bits") == {
        f"b{bits}": {
            "offset": 0 if first < 32 else 4,
            "type": {"kind": "bitfield", "bit_position": position, "bit_length": bits, "type": unsigned},
        }
        for bits, first, position in zip(widths, firsts, positions, strict=True)
    }
    assert found.types.base_types["unsigned int"]["signed"] is False
    assert "unsigned int bitfield" not in found.types.base_types


def test_bit_fields_of_big_endian_kernels_may_be_counted_from_the_lowest_bit() -> None:
    """Made on a little-endian machine from older debug information; the order of neighbours tells."""
    ctf = Ctf(3, "little")
    state, rest, alone = (ctf.integer("unsigned int bitfield", 4, 0, bits) for bits in (4, 28, 1))
    ctf.struct("tcpcb", 4, [("t_state", state, 28), ("rest", rest, 0)])
    ctf.struct("other", 4, [("flag", alone, 31)])
    found = read(ctf, "big")
    assert fields(found, "tcpcb")["t_state"]["type"]["bit_position"] == 28
    assert fields(found, "tcpcb")["rest"]["type"]["bit_position"] == 0
    assert fields(found, "other")["flag"]["type"]["bit_position"] == 31


def test_packed_bit_fields_that_cross_units_are_in_a_later_unit() -> None:
    """As in i386's ``struct segment_descriptor``: reading a unit has to give the whole value."""
    ctf = Ctf()
    low, base = (ctf.integer("unsigned int bitfield", 4, 0, bits) for bits in (16, 24))
    ctf.struct("segment_descriptor", 8, [("sd_lolimit", low, 0), ("sd_lobase", base, 16)])
    place = fields(read(ctf), "segment_descriptor")["sd_lobase"]
    assert (place["offset"], place["type"]["bit_position"], place["type"]["bit_length"]) == (1, 8, 24)


def test_padding_is_no_member() -> None:
    ctf = Ctf()
    ctf.struct("padded", 4, [("", ctf.integer("int bitfield", 4, SIGNED, 7), 0), ("a", ctf.integer("int", 4), 0)])
    assert list(fields(read(ctf), "padded")) == ["a"]


def test_booleans_can_be_bit_fields() -> None:
    ctf = Ctf()
    ctf.struct("flags", 1, [("set", ctf.integer("_Bool bitfield", 1, BOOL | SIGNED, 1), 3)])
    found = read(ctf)
    assert fields(found, "flags")["set"]["type"] == {
        "kind": "bitfield",
        "bit_position": 3,
        "bit_length": 1,
        "type": {"kind": "base", "name": "_Bool"},
    }
    assert found.types.base_types["_Bool"]["kind"] == "bool"


@pytest.mark.parametrize(("byteorder", "position"), [("little", 0), ("big", 24)])
def test_enumerations_without_room_are_bit_fields(byteorder: ByteOrder, position: int) -> None:
    """``enum vtype v_type:8; short v_irflag;`` of FreeBSD 13: CTF gives the enumeration as if it were whole."""
    ctf = Ctf(2, byteorder)
    vtype = ctf.enum("vtype", 4, {f"V{number}": number for number in range(10)})
    short, number = ctf.integer("short", 2, SIGNED), ctf.integer("int", 4, SIGNED)
    ctf.struct("vnode", 12, [("v_type", vtype, 0), ("v_irflag", short, 16), ("v_seqc", number, 32), ("v_x", vtype, 64)])
    found = fields(read(ctf, byteorder), "vnode")
    enum = {"kind": "enum", "name": "vtype"}
    field = {"kind": "bitfield", "bit_position": position, "bit_length": 8, "type": enum}
    assert found["v_type"] == {"offset": 0, "type": field}
    assert found["v_x"] == {"offset": 8, "type": enum}


def test_enumeration_bit_fields_end_where_the_next_member_starts() -> None:
    ctf = Ctf()
    kind = ctf.enum("kind", 4, {"A": 0, "B": 5})
    rest = ctf.integer("unsigned int bitfield", 4, 0, 27)
    ctf.struct("packed", 4, [("kind", kind, 2), ("rest", rest, 5)])
    ctf.union("either", 4, [("kind", kind, 0), ("number", ctf.integer("int", 4), 0)])
    found = read(ctf)
    reference = fields(found, "packed")["kind"]["type"]
    assert (reference["bit_position"], reference["bit_length"]) == (2, 3)
    assert fields(found, "either")["kind"] == {"offset": 0, "type": {"kind": "enum", "name": "kind"}}
