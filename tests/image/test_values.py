"""The value of a variable as one line: by its type, or by its size alone."""

from __future__ import annotations

import struct as packing
from typing import Any

import pytest

from tests.fake_memory import Memory, array, base, bits, c_types, enum, of, pointer, struct
from volatility3_freebsd_kvm.exceptions import NotMappedError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import VOID
from volatility3_freebsd_kvm.image.values import value_text

AT = 0x1000


def memory_with(content: bytes, byteorder: str = "little") -> Structs:
    memory = Memory(byteorder=byteorder).put(AT, content)
    types = c_types(
        memory,
        pair=struct(16, first=(0, base("int")), second=(8, pointer(VOID))),
        six=struct(24, **{f"m{number}": (4 * number, base("int")) for number in range(6)}),
        seven=struct(28, **{f"m{number}": (4 * number, base("int")) for number in range(7)}),
        flags=struct(4, low=(0, bits(0, 4, base("unsigned int"))), high=(0, bits(4, 28, base("int")))),
        bare=struct(8, inside=(0, of("six")), text=(0, array(8, base("char")))),
        measured=struct(16, number=(0, base("int")), weight=(8, base("double"))),
    )
    types.enums["state"] = {"size": 4, "base": "int", "constants": {"GONE": -1, "ZERO": 0, "RUN": 2}}
    return memory.structs(types)


@pytest.mark.parametrize(
    ("content", "size", "text"),
    [
        ("64", 1, "0x64 (100)"),
        ("e803", 2, "0x3e8 (1000)"),
        ("ffffffff", 4, "0xffffffff (4294967295)"),
        ("0102030405060708", 8, "0x807060504030201 (578437695752307201)"),
        ("0102030405060708", 0, "0x807060504030201 (578437695752307201)"),
        ("010203", 3, "01 02 03"),
        ("00112233445566778899aabbccddeeff", 16, "00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff"),
        ("00112233445566778899aabbccddeeff", 17, "00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff …"),
    ],
)
def test_without_a_type_the_size_decides(content: str, size: int, text: str) -> None:
    assert value_text(memory_with(bytes.fromhex(content)), AT, size, None) == text


@pytest.mark.parametrize(
    ("content", "reference", "text"),
    [
        ("feffffff", base("int"), "-2"),
        ("feffffff", base("unsigned int"), "4294967294"),
        ("41", base("char"), "65"),
        ("00f0ffffffffffff", pointer(of("pair")), "0xfffffffffffff000"),
        ("02000000", enum("state"), "RUN (2)"),
        ("ffffffff", enum("state"), "GONE (-1)"),
        ("09000000", enum("state"), "9"),
        ("a5000000", bits(4, 4, base("unsigned int")), "10"),
        ("ffffffff000000000010000000000000", of("pair"), "{first = -1, second = 0x1000}"),
        ("ff000000", of("flags"), "{low = 15, high = 15}"),
        (packing.pack("<6i", *range(6)).hex(), of("six"), "{m0 = 0, m1 = 1, m2 = 2, m3 = 3, m4 = 4, m5 = 5}"),
        (packing.pack("<7i", *range(7)).hex(), of("seven"), "{m0 = 0, m1 = 1, m2 = 2, m3 = 3, m4 = 4, m5 = 5, …}"),
        ("0102030405060708", of("bare"), "01 02 03 04 05 06 07 08"),
        ("01" * 16, of("measured"), "{number = 16843009}"),
        ("000000000000f03f", base("double"), "00 00 00 00 00 00 f0 3f"),
        ("01020304", array(2, base("short")), "01 02 03 04"),
    ],
)
def test_a_type_decides_what_is_shown(content: str, reference: dict[str, Any], text: str) -> None:
    assert value_text(memory_with(bytes.fromhex(content)), AT, 0, reference) == text


def test_big_endian_values() -> None:
    assert value_text(memory_with(bytes.fromhex("000003e8"), "big"), AT, 4, None) == "0x3e8 (1000)"
    assert value_text(memory_with(bytes.fromhex("000003e8"), "big"), AT, 4, base("int")) == "1000"
    assert value_text(memory_with(bytes.fromhex("000000ff"), "big"), AT, 4, of("flags")) == "{low = 15, high = 15}"


@pytest.mark.parametrize(
    ("content", "count", "text"),
    [
        (b"GENERIC\0\0", 9, '"GENERIC"'),
        (b"GENERIC\0\0", 0, '"GENERIC"'),
        (b"FreeBSD\n\t\x1b[31m\0", 14, '"FreeBSD\\x0a\\x09\\x1b[31m"'),
        ("Grüße\0".encode(), 8, '"Grüße"'),
        (b"\xff\xfe\0", 3, '"\ufffd\ufffd"'),
        (b"x" * 300, 256, f'"{"x" * 256}"'),
        (b"x" * 300, 257, f'"{"x" * 256}" …'),
    ],
)
def test_characters_are_text_without_what_steers_a_terminal(content: bytes, count: int, text: str) -> None:
    assert value_text(memory_with(content), AT, len(content), array(count, base("char"))) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"amd64\0\0\0", '"amd64"'),
        (bytes(6), '""'),
        (bytes.fromhex("001122334455"), "00 11 22 33 44 55"),
        (b"ab\0cd\0", "61 62 00 63 64 00"),
        (b"\xe9\xe9", "e9 e9"),
    ],
)
def test_small_numbers_are_text_only_if_all_of_them_are(content: bytes, text: str) -> None:
    assert value_text(memory_with(content), AT, 0, array(len(content), base("unsigned char"))) == text


@pytest.mark.parametrize("reference", [None, base("int"), of("pair"), array(4, base("char"))])
def test_what_cannot_be_read_has_no_value(reference: dict[str, Any] | None) -> None:
    with pytest.raises(NotMappedError):
        value_text(memory_with(b""), AT, 4, reference)


def test_a_structure_that_is_not_known_is_shown_by_the_size_of_its_symbol() -> None:
    assert value_text(memory_with(bytes(range(4))), AT, 4, of("nothing")) == "00 01 02 03"
