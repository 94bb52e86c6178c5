"""Damaged and hostile CTF gives types or one sentence, soon and without filling the memory."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.writers import ctf as writer
from tests.writers.ctf import BOOL, CHAR, SIGNED, Ctf, insert_section
from tests.writers.ctype import TypeTable
from tests.writers.elfcore import elf_kernel
from tests.writers.headers import ByteOrder
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.ctf import CtfTypes, from_elf
from volatility3_freebsd_kvm.image.ctf_objects import Symbol

HEADER = {"version": 2, "flags": 3, "parlabel": 4, "parname": 8, "lbloff": 12, "objtoff": 16, "funcoff": 20}
HEADER.update(typeoff=24, stroff=28, strlen=32)
"""Where the fields of the header are."""
SYMBOLS = [Symbol(name, 1, 1, 0x1000, size) for name, size in (("allproc", 8), ("nprocs", 4), ("other", 0))]


def read(data: bytes, byteorder: ByteOrder = "little", **options: Any) -> CtfTypes:
    return CtfTypes(data, word_bits=64, byteorder=byteorder, name="kernel", **options)


def refused(data: bytes, **options: Any) -> str:
    """The sentence that a container is refused with."""
    with pytest.raises(FormatError) as caught:
        read(data, **options)
    return assert_is_a_sentence(caught.value)


def assert_is_a_sentence(error: FormatError) -> str:
    message = str(error)
    assert 10 < len(message) < 300
    assert message.isprintable()
    return message


def everything(version: int = 3, byteorder: ByteOrder = "little", *, compressed: bool = False) -> bytes:
    """A container with a type of every kind."""
    ctf = Ctf(version, byteorder, label="FreeBSD 15.0")
    number = ctf.integer("int", 4, SIGNED)
    ctf.integer("void", 0, SIGNED)
    floating = ctf.floating("double", 8)
    flag = ctf.integer("_Bool bitfield", 1, BOOL | SIGNED, 1)
    text = ctf.array(ctf.add(writer.CONST, "", ctf.integer("char", 1, SIGNED | CHAR)), 20)
    kind = ctf.enum("kind", 4, {"A": 0, "B": 1, "C": -1})
    proc = ctf.reserve()
    proclist = ctf.struct("proclist", 8, [("lh_first", ctf.pointer(proc), 0)])
    nameless = ctf.union("", 8, [("word", number, 0), ("double", floating, 0)])
    function = ctf.pointer(ctf.function(number, [proc, number, 0]))
    members = [
        ("p_comm", text, 0),
        ("flag", flag, 160),
        ("kind", kind, 168),
        ("", nameless, 192),
        ("call", function, 256),
    ]
    members.append(("state", ctf.add(writer.TYPEDEF, "state_t", ctf.enum("", 1, {"ON": 1})), 320))
    ctf.struct("proc", 48, [*members, ("next", ctf.add(writer.VOLATILE, "", ctf.pointer(proc)), 328)], at=proc)
    ctf.struct("proc", 4, [("other", ctf.add(writer.RESTRICT, "", number), 0)], root=False)
    ctf.add(writer.FORWARD, "ghost")
    ctf.struct("large", 70000, [("first", number, 0), ("last", number, 8 * 69996)])
    return ctf.build([proclist, number, nameless], [[number, proc], [], [number]], compressed=compressed)


def use(found: CtfTypes) -> None:
    """What readers of the types do with them: none of that may take long or go wrong."""
    json.dumps([found.types.user_types, found.types.enums, found.types.base_types, found.variables])
    found.types.pruned(["proc", "proclist"])
    table = TypeTable(found.types)
    for name in list(found.types.user_types)[:20]:
        table.has_member(name, "no_such_member")


def attempt(data: bytes, byteorder: ByteOrder = "little") -> CtfTypes | None:
    """The types, or nothing if the container is refused in a sentence."""
    try:
        found = read(data, byteorder, symbols=SYMBOLS)
    except FormatError as error:
        assert_is_a_sentence(error)
        return None
    use(found)
    return found


def patched(data: bytes, field: str, value: int) -> bytes:
    at = HEADER[field]
    width = 1 if field in ("version", "flags") else 4
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def test_the_container_of_these_tests_is_whole() -> None:
    found = attempt(everything())
    assert found is not None
    assert set(found.types.user_types) >= {"proc", "proc__2", "proclist", "large", "unnamed_other"}
    assert set(found.variables) == {"allproc", "nprocs", "other"}


# Headers


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing, not with CTF's magic cff1"),
        (b"\xf1\xcf\x03", "not with CTF's magic"),
        (b"\x7fELF" * 20, "starts with 7f45"),
        (b"\xf2\xdf\x04\x00" + bytes(60), "GNU's CTF"),
        (b"\xdf\xf2\x04\x00" + bytes(60), "GNU's CTF"),
        (everything()[:35], "ends in its header, after 35 bytes"),
        (everything()[:-1], "bytes$"),
        (everything(compressed=True)[:-30], "it has"),
        (everything()[:36], "it has 0 of"),
        (everything(compressed=True)[:36] + b"no zlib", "cannot be inflated"),
    ],
)
def test_what_is_no_container_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(data)


@pytest.mark.parametrize("version", [0, 1, 4, 255])
def test_other_versions_are_refused(version: int) -> None:
    assert refused(patched(everything(), "version", version)) == (
        f"kernel has CTF of version {version}; versions 2 and 3 can be read"
    )


@pytest.mark.parametrize(
    "field", ["lbloff", "objtoff", "funcoff", "typeoff", "stroff", "strlen", "parname", "parlabel"]
)
@pytest.mark.parametrize("value", [1, 7, 0x100, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_offsets_may_be_anything(field: str, value: int) -> None:
    attempt(patched(everything(), field, value))
    attempt(patched(everything(2), field, value))


def test_sections_in_another_order_are_refused() -> None:
    assert "overlap" in refused(patched(everything(), "typeoff", 0))


def test_a_container_cannot_promise_more_than_a_kernel_has() -> None:
    assert "would be 268435996 bytes long" in refused(patched(everything(), "strlen", 0x10000000))


def test_a_small_file_cannot_become_a_large_one() -> None:
    """A gigabyte of zeros is a megabyte; no more of it is inflated than the header says."""
    pieces = zlib.compressobj(9)
    bomb = b"".join(pieces.compress(bytes(1 << 20)) for _ in range(200)) + pieces.flush()
    header = everything(compressed=True)[:36]
    tracemalloc.start()
    try:
        refused(header + bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


# Types


def with_records(make: Callable[[Ctf, int], object], version: int = 3) -> bytes:
    """A container of ``int`` and what is made with its id."""
    ctf = Ctf(version)
    make(ctf, ctf.integer("int", 4, SIGNED))
    return ctf.build()


def typedef_to_itself(ctf: Ctf, _: int) -> None:
    at = ctf.reserve()
    ctf.add(writer.TYPEDEF, "loop", at, at=at)


def typedefs_in_a_circle(ctf: Ctf, _: int) -> None:
    first, second = ctf.reserve(), ctf.reserve()
    ctf.add(writer.TYPEDEF, "first", second, at=first)
    ctf.add(writer.TYPEDEF, "second", first, at=second)


def array_of_itself(ctf: Ctf, _: int) -> None:
    at = ctf.reserve()
    ctf.struct("user", 8, [("array", ctf.array(at, 2, at=at), 0)])


def pointer_to_itself(ctf: Ctf, _: int) -> None:
    at = ctf.reserve()
    ctf.struct("user", 8, [("pointer", ctf.pointer(at, at=at), 0)])


def long_chain(ctf: Ctf, number: int) -> None:
    for place in range(100):
        number = ctf.add(writer.TYPEDEF, f"t{place}", ctf.pointer(number))


@pytest.mark.parametrize(
    "make", [typedef_to_itself, typedefs_in_a_circle, array_of_itself, pointer_to_itself, long_chain]
)
def test_types_defined_by_themselves_are_refused(make: Callable[[Ctf, int], object]) -> None:
    assert refused(with_records(make)).endswith("is a chain of more than 64 types")


def struct_within_itself(ctf: Ctf, _: int) -> None:
    at = ctf.reserve()
    ctf.struct("proc", 8, [("proc", at, 0)], at=at)


def structs_within_each_other(ctf: Ctf, _: int) -> None:
    places = [ctf.reserve() for _ in range(3)]
    for number, at in enumerate(places):
        inner = ctf.array(places[number - 1], 1)
        ctf.struct(f"s{number}", 8, [("inner", inner, 0)], at=at)


def nameless_within_itself(ctf: Ctf, _: int) -> None:
    at = ctf.reserve()
    ctf.struct("", 8, [("", at, 0)], at=at)
    ctf.struct("outer", 8, [("", at, 0)])


@pytest.mark.parametrize("make", [struct_within_itself, structs_within_each_other, nameless_within_itself])
def test_structures_that_contain_themselves_are_refused(make: Callable[[Ctf, int], object]) -> None:
    assert "contains itself" in refused(with_records(make))


def nested(depth: int, width: int) -> Callable[[Ctf, int], object]:
    def make(ctf: Ctf, number: int) -> None:
        inner = ctf.struct("", 4, [("value", number, 0)])
        for _ in range(depth):
            inner = ctf.struct("", 4, [("", inner, 0)] * width)
        ctf.struct("outer", 4, [("", inner, 0)])

    return make


@pytest.mark.parametrize(("depth", "width"), [(100, 1), (30, 2), (5, 200), (5000, 1)])
def test_members_of_anonymous_structures_do_not_explode(depth: int, width: int) -> None:
    started = time.monotonic()
    assert "levels of anonymous structures" in refused(with_records(nested(depth, width)))
    assert time.monotonic() - started < 10


def test_moderate_nesting_is_fine() -> None:
    found = read(with_records(nested(10, 2)))
    assert TypeTable(found.types).has_member("outer", "value")


def test_a_nameless_structure_that_points_to_itself_has_few_names() -> None:
    def make(ctf: Ctf, _: int) -> None:
        at = ctf.reserve()
        ctf.struct("", 16, [("next", ctf.pointer(at), 0), ("previous", ctf.pointer(at), 64)], at=at)
        ctf.struct("outer", 16, [("first", at, 0)])

    found = read(with_records(make))
    # Copies are made as long as their names are short, twice as many with each level, and not more than so many.
    assert len(found.types.user_types) < 1 << 16
    assert max(map(len, found.types.user_types)) < 1024


@pytest.mark.parametrize("nameless", [False, True])
def test_many_typedefs_of_a_long_chain_are_no_work(nameless: bool) -> None:
    def make(ctf: Ctf, number: int) -> None:
        at = ctf.struct("", 4, [("value", number, 0)]) if nameless else number
        for _ in range(60):
            at = ctf.pointer(at)
        for place in range(20000):
            ctf.add(writer.TYPEDEF, f"t{place}", at)

    started = time.monotonic()
    found = read(with_records(make))
    assert time.monotonic() - started < 10
    assert len(found.types.user_types) == (pytest.approx(65536 / 62, abs=2) if nameless else 0)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", [writer.POINTER, writer.TYPEDEF, writer.CONST])
def test_references_out_of_range_are_refused(version: int, kind: int) -> None:
    def make(ctf: Ctf, _: int) -> None:
        ctf.struct("user", 8, [("member", ctf.add(kind, "name" * (kind == writer.TYPEDEF), 77), 0)])

    assert refused(with_records(make, version)).endswith("it refers to type 77, but has 3 types")


@pytest.mark.parametrize(("version", "kind"), [(2, 14), (2, 31), (3, 14), (3, 63)])
def test_unknown_kinds_are_refused(version: int, kind: int) -> None:
    data = with_records(lambda ctf, number: ctf.add(kind, "", number), version)
    assert refused(data).endswith(f"it has a type of kind {kind}, which no version knows")


def test_holes_are_void() -> None:
    """ctfconvert fills gaps in the ids with records of kind 0."""

    def make(ctf: Ctf, _: int) -> None:
        hole = ctf.add(0)
        ctf.struct("user", 8, [("member", ctf.pointer(hole), 0)])

    member = read(with_records(make)).types.user_types["user"]["fields"]["member"]
    assert member["type"] == {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", [writer.STRUCT, writer.UNION, writer.ENUM, writer.FUNCTION])
def test_more_members_than_there_are_bytes_are_refused(version: int, kind: int) -> None:
    data = with_records(lambda ctf, _: ctf.add(kind, "x", 4, count=0x3FF), version)
    assert refused(data).endswith("its last type is cut off")
    if version == 3:
        data = with_records(lambda ctf, _: ctf.add(kind, "x", 4, count=0xFFFFFF))
        assert refused(data).endswith("it has more than 262144 types or 1048576 members")


def test_names_out_of_range_are_refused() -> None:
    data = bytearray(everything())
    (at,) = struct.unpack_from("<I", data, HEADER["typeoff"])
    for reference in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data)):
        struct.pack_into("<I", data, 36 + at, reference)
        assert "there is no name at" in refused(bytes(data))


def test_names_are_not_endless() -> None:
    data = with_records(lambda ctf, number: ctf.struct("n" * 300, 4, [("member", number, 0)]))
    assert "there is no name at" in refused(data)


def test_names_that_overlap_are_refused() -> None:
    """A string table of a few bytes may be read as many long names."""
    ctf = Ctf()
    ctf.string("x" * 250)
    for _ in range(240):
        ctf.integer("int", 4, SIGNED)
    data = bytearray(ctf.build())
    for number in range(240):
        struct.pack_into("<I", data, 36 + 16 * number, 1 + number)
    assert refused(bytes(data)).endswith("its names overlap")


def test_numbers_of_a_thousand_bytes_are_refused() -> None:
    assert "'huge' is a number of 4096 bytes" in refused(with_records(lambda ctf, _: ctf.integer("huge", 4096)))


@pytest.mark.parametrize("bits", [0, 33, 64, 65535])
def test_integers_with_impossible_widths_are_whole(bits: int) -> None:
    def make(ctf: Ctf, _: int) -> None:
        ctf.struct("user", 8, [("member", ctf.integer("unsigned int", 4, 0, bits), 0)])

    member = read(with_records(make)).types.user_types["user"]["fields"]["member"]
    assert member == {"offset": 0, "type": {"kind": "base", "name": "unsigned int"}}


@pytest.mark.parametrize("name", ["void", "pointer", ""])
def test_bit_fields_of_strange_integers_do_no_harm(name: str) -> None:
    def make(ctf: Ctf, _: int) -> None:
        ctf.struct("user", 8, [("member", ctf.integer(name, 4, 0, 3), 5)])

    use(read(with_records(make)))


# Anything


@functools.cache
def valid(version: int, byteorder: ByteOrder) -> bytes:
    return everything(version, byteorder)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    version=st.sampled_from([2, 3]),
    byteorder=st.sampled_from(["little", "big"]),
    patches=st.lists(st.tuples(st.integers(0, 10000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
)
def test_patched_containers_give_types_or_a_sentence(
    version: int, byteorder: ByteOrder, patches: list[tuple[int, bytes]]
) -> None:
    data = bytearray(valid(version, byteorder))
    for at, patch in patches:
        at %= len(data)
        data[at : at + len(patch)] = patch[: len(data) - at]
    attempt(bytes(data), byteorder)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_every_byte_may_be_wrong(version: int, value: int) -> None:
    data = valid(version, "little")
    for at in range(len(data)):
        attempt(data[:at] + bytes([value]) + data[at + 1 :])


@pytest.mark.parametrize("version", [2, 3])
def test_containers_may_end_anywhere(version: int) -> None:
    data, packed = valid(version, "little"), everything(version, compressed=True)
    for at in range(len(data)):
        refused(data[:at])
    end_mark_and_checksum = 8
    for at in range(len(packed) - end_mark_and_checksum):
        refused(packed[:at])
    assert attempt(packed[:-1]) is not None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_behind_a_header_give_types_or_a_sentence(body: bytes) -> None:
    for version in (2, 3):
        header = struct.pack("<HBB8I", 0xCFF1, version, 0, 0, 0, 0, 0, 0, 0, max(0, len(body) - 64), min(64, len(body)))
        attempt(header + body)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 100000), value=st.integers(0, 255))
def test_patched_kernels_give_types_or_a_sentence(at: int, value: int) -> None:
    kernel = bytearray(patched_kernel())
    kernel[at % len(kernel)] = value
    with contextlib.suppress(FormatError):
        elf = None
        with contextlib.suppress(Exception):
            elf = ELFFile(io.BytesIO(kernel))
        if elf is not None:
            use(from_elf(elf, "kernel"))


@functools.cache
def patched_kernel() -> bytes:
    symbols = {symbol.name: 0x1000 + 16 * number for number, symbol in enumerate(SYMBOLS)}
    return insert_section(elf_kernel(symbols, "amd64"), everything())


# Size


def large(types: int) -> bytes:
    """A container like that of a kernel: of three types, one is a structure of ten members."""
    ctf = Ctf(3)
    base = [ctf.integer("int", 4, SIGNED), ctf.integer("char", 1, SIGNED | CHAR)]
    known = [*base, ctf.array(base[1], 16)]
    number = 0
    while number < types:
        one = ctf.reserve()
        pointer = ctf.pointer(one)
        alias = ctf.add(writer.TYPEDEF, f"type{number}_t", one)
        members = [
            (f"member{number}_{place}", known[(number * 7 + place) % len(known)], 128 * place) for place in range(9)
        ]
        ctf.struct(f"type{number}", 160, [*members, ("next", pointer, 1152)], at=one)
        known = [*known[-20:], pointer, alias if number % 50 == 0 else base[0]]
        number += 3
    return ctf.build(compressed=True)


def test_a_kernel_of_30000_types_takes_a_second() -> None:
    data = large(30000)
    started = time.perf_counter()
    found = read(data)
    taken = time.perf_counter() - started
    assert len(found.types.user_types) == 10000
    # About half a second by itself; far more on a machine that is busy with other tests.
    assert taken < 10
