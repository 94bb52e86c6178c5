"""Members are found and decoded as C has them, in both byte orders, and strings touch no more memory than they must."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_memory import Memory, array, base, bits, c_types, enum, of, pointer, struct
from volatility3_freebsd_kvm.exceptions import NotMappedError, SymbolError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import VOID

AT = 0x1000
ORDERS = ("little", "big")
byteorder = pytest.mark.parametrize("byteorder", ORDERS)


def item(memory: Memory) -> Structs:
    types = c_types(
        memory,
        link=struct(16, next=(0, pointer(of("item"))), prev=(8, pointer(pointer(of("item"))))),
        inner=struct(8, low=(0, base("int")), anonymous_1=(4, of("innermost"))),
        innermost=struct(4, deepest=(2, base("short"))),
        item=struct(
            64,
            number=(0, base("int")),
            link=(8, of("link")),
            anonymous_0=(24, of("inner")),
            color=(32, enum("color")),
            flags=(36, bits(3, 5, base("unsigned int"))),
            offset=(36, bits(8, 4, base("int"))),
            handler=(40, pointer({"kind": "function"})),
            opaque=(48, pointer(VOID)),
            kind=(56, bits(28, 4, enum("color"))),
        ),
    )
    types.enums["color"] = {"size": 4, "base": "int", "constants": {"RED": -1, "BLUE": 7}}
    return memory.structs(types)


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        ("number", 0),
        ("link", 8),
        ("link.prev", 16),
        ("low", 24),
        ("deepest", 30),
        ("anonymous_0.low", 24),
        ("anonymous_0.deepest", 30),
        ("color", 32),
        ("handler", 40),
    ],
)
def test_members_are_found_by_path_and_through_anonymous_ones(path: str, offset: int) -> None:
    structs = item(Memory())
    assert structs.offset("item", path) == offset
    assert structs.member("item", path)[0] == offset
    assert structs.has("item", path)


@pytest.mark.parametrize(
    ("type_name", "path"),
    [
        ("item", "nothing"),
        ("item", "link.nothing"),
        ("item", "number.nothing"),
        ("item", "link.next.number"),
        ("item", ""),
        ("item", "link."),
        ("nothing", "number"),
        ("int", "number"),
    ],
)
def test_what_is_no_member_is_refused_by_name(type_name: str, path: str) -> None:
    structs = item(Memory())
    assert structs.find(type_name, path) is None
    assert not structs.has(type_name, path)
    with pytest.raises(SymbolError) as refused:
        structs.value(AT, type_name, path)
    assert str(refused.value) == f"the types of this kernel have no member {path} in struct {type_name}"


def test_a_pointer_or_integer_that_is_called_like_a_structure_has_no_members() -> None:
    memory = Memory()
    types = c_types(memory, int=struct(4, inside=(0, base("int"))), one=struct(4, number=(0, base("int"))))
    assert not memory.structs(types).has("one", "number.inside")


def test_types_that_claim_to_contain_each_other_end() -> None:
    memory = Memory()
    loop = {f"type{number}": {} for number in range(20)}
    for name in loop:
        loop[name] = struct(8, **{f"anonymous_{index}": (index, of(other)) for index, other in enumerate(loop)})
    loop["type19"]["fields"]["found"] = {"offset": 3, "type": base("int")}
    structs = memory.structs(c_types(memory, **loop))
    assert structs.find("type0", "nothing") is None
    assert structs.offset("type0", "found") == 19 + 3


def test_sizes_of_structures() -> None:
    structs = item(Memory())
    assert structs.size("item") == 64
    with pytest.raises(SymbolError, match=r"^the types of this kernel have no struct nothing$"):
        structs.size("nothing")


@pytest.mark.parametrize(
    ("reference", "size"),
    [
        (base("int"), 4),
        (base("nothing"), 0),
        (VOID, 0),
        (enum("color"), 4),
        (of("item"), 64),
        (of("nothing"), 0),
        (pointer(of("nothing")), 8),
        ({"kind": "function"}, 8),
        (bits(3, 5, base("unsigned int")), 4),
        (array(3, base("short")), 6),
        (array(3, array(2, pointer(VOID))), 48),
        (array(0, of("item")), 0),
    ],
)
def test_sizes_of_types(reference: dict[str, Any], size: int) -> None:
    assert item(Memory()).size_of(reference) == size


@byteorder
def test_numbers_are_read_in_the_kernels_byte_order(byteorder: str) -> None:
    memory = Memory(byteorder=byteorder).put(AT, bytes.fromhex("0102030405060708"))
    structs = item(memory)
    little = byteorder == "little"
    assert structs.uint(AT, 2) == (0x0201 if little else 0x0102)
    assert structs.uint(AT, 4) == (0x04030201 if little else 0x01020304)
    assert structs.pointer(AT) == (0x0807060504030201 if little else 0x0102030405060708)
    assert Structs(memory.read, structs.types, 32, byteorder).pointer(AT) == structs.uint(AT, 4)


@byteorder
def test_members_have_the_sign_of_their_type(byteorder: str) -> None:
    memory = Memory(byteorder=byteorder).put(AT, bytes(64))
    structs = item(memory)
    memory.number(AT, -2, 4).number(AT + 30, -300, 2).number(AT + 32, -1, 4).number(AT + 40, -8)
    assert structs.value(AT, "item", "number") == -2
    assert structs.value(AT, "item", "deepest") == -300
    assert structs.value(AT, "item", "color") == -1
    assert structs.value(AT, "item", "handler") == (1 << 64) - 8


@byteorder
def test_bit_fields_count_from_the_lowest_bit_of_their_unit(byteorder: str) -> None:
    memory = Memory(byteorder=byteorder).put(AT, bytes(64))
    structs = item(memory)
    memory.number(AT + 36, 0b10110 << 3 | 0b1010 << 8, 4)
    assert structs.value(AT, "item", "flags") == 0b10110
    assert structs.value(AT, "item", "offset") == 0b1010 - 16
    memory.number(AT + 56, 0xF0000000, 4)
    assert structs.value(AT, "item", "kind") == -1
    memory.number(AT + 56, 0x70000000, 4)
    assert structs.value(AT, "item", "kind") == 7


def test_a_type_without_a_size_is_read_as_a_word() -> None:
    memory = Memory(4).number(AT, 0xFEDCBA98)
    assert item(memory).decode(base("nothing"), AT) == 0xFEDCBA98
    assert item(memory).decode(VOID, AT) == 0xFEDCBA98


def test_what_cannot_be_read_says_where() -> None:
    structs = item(Memory().put(AT, bytes(3)))
    with pytest.raises(NotMappedError) as missing:
        structs.value(AT, "item", "number")
    assert missing.value.address == AT + 3


@given(
    st.sampled_from(ORDERS),
    st.sampled_from(["unsigned char", "short", "int", "unsigned int", "long", "unsigned long"]),
    st.data(),
)
def test_any_bit_field_is_read_as_it_was_written(order: str, name: str, data: st.DataObject) -> None:
    memory = Memory(byteorder=order)
    types = c_types(memory)
    size, signed = types.base_types[name]["size"], types.base_types[name]["signed"]
    length = data.draw(st.integers(1, 8 * size))
    position = data.draw(st.integers(0, 8 * size - length))
    smallest = -(1 << length - 1) if signed else 0
    value = data.draw(st.integers(smallest, smallest + (1 << length) - 1))
    others = data.draw(st.integers(0, (1 << 8 * size) - 1))
    mask = (1 << length) - 1
    memory.number(AT, others & ~(mask << position) | (value & mask) << position, size)
    assert memory.structs(types).decode(bits(position, length, base(name)), AT) == value


@pytest.mark.parametrize(
    ("content", "limit", "expected"),
    [
        (b"init\0rest", 20, b"init"),
        (b"\0rest", 20, b""),
        (b"x" * 200 + bytes(56), 1024, b"x" * 200),
        (b"x" * 200 + bytes(56), 100, b"x" * 100),
        (b"x" * 70, 1024, b"x" * 64),  # the rest of the second piece is not there
        (b"init", 0, b""),
    ],
)
def test_strings_end_at_the_first_nul_the_limit_or_where_memory_does(
    content: bytes, limit: int, expected: bytes
) -> None:
    assert item(Memory().put(AT, content.ljust(64, b"\0"))).string(AT, limit) == expected


@pytest.mark.parametrize("address", [AT, AT + 1, AT + 63])
def test_strings_do_not_touch_pages_that_they_do_not_reach(address: int) -> None:
    memory = Memory().put(AT, bytes(64))
    assert item(memory).string(address, 1024) == b""
    assert memory.reads == [(address, AT + 64 - address)]


def test_a_string_that_is_not_there_at_all() -> None:
    with pytest.raises(NotMappedError) as missing:
        item(Memory()).string(AT, 10)
    assert missing.value.address == AT


@given(st.binary(max_size=300), st.integers(0, 130), st.integers(0, 320))
def test_any_string_is_read_as_c_would(content: bytes, shift: int, limit: int) -> None:
    memory = Memory().put(AT, bytes(1024)).put(AT + shift, content)
    assert item(memory).string(AT + shift, limit) == content.split(b"\0")[0][:limit]
