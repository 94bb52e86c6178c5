"""Symbol tables: what counts as a symbol, which of several is meant, and which one an address is in."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable

UNDEF, ABS, COMMON = 0, 0xFFF1, 0xFFF2
NOTYPE, OBJECT, FUNC, SECTION, FILE, IFUNC = 0, 1, 2, 3, 4, 10
LOCAL, GLOBAL, WEAK = 0 << 4, 1 << 4, 2 << 4


class Entry(NamedTuple):
    """One Elf_Sym."""

    name: str
    value: int = 0
    size: int = 0
    info: int = GLOBAL | OBJECT
    section: int = 1


def tables(entries: list[Entry], bits: int = 64, byteorder: str = "little") -> tuple[bytes, bytes]:
    """``.symtab`` and ``.strtab``; strings as linkers write them, the first one empty."""
    order = "<" if byteorder == "little" else ">"
    symtab, strtab = b"", bytearray(1)
    for name, value, size, info, section in entries:
        at = len(strtab) if name else 0
        if bits == 64:
            symtab += struct.pack(order + "IBBHQQ", at, info, 0, section, value, size)
        else:
            symtab += struct.pack(order + "IIIBBH", at, value, size, info, 0, section)
        strtab += name.encode() + b"\0" if name else b""
    return symtab, bytes(strtab)


def parsed(entries: list[Entry], bits: int = 64, byteorder: str = "little", bias: int = 0) -> SymbolTable:
    return SymbolTable.parse(*tables(entries, bits, byteorder), bits, byteorder, bias)


def looked_up(table: SymbolTable, address: int) -> tuple[str, int] | None:
    found = table.lookup(address)
    return (found[0].name, found[1]) if found else None


# Parsing


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_records_of_every_kind_of_file(bits: int, byteorder: str) -> None:
    high = (1 << bits) - 0x1000
    entries = [
        Entry("allproc", high, bits // 8, GLOBAL | OBJECT, 13),
        Entry("kern_exit", 0x201000, 0x123, LOCAL | FUNC, 2),
    ]
    table = parsed([Entry("", 0, 0, 0, 0), *entries], bits, byteorder)
    assert list(table) == [
        Symbol("allproc", high, bits // 8, 0x11, 13),
        Symbol("kern_exit", 0x201000, 0x123, 0x02, 2),
    ]
    assert [(symbol.kind, symbol.binding) for symbol in table] == [("object", "global"), ("function", "local")]
    assert (len(table), table[1].name) == (2, "kern_exit")


@pytest.mark.parametrize(
    "entry",
    [
        Entry("undefined", 1, section=UNDEF),
        Entry("common", 1, section=COMMON),
        Entry(".text", 1, info=LOCAL | SECTION),
        Entry("kern_exit.c", 0, info=LOCAL | FILE, section=ABS),
        Entry("", 1),
    ],
)
def test_what_is_no_symbol(entry: Entry) -> None:
    assert [symbol.name for symbol in parsed([Entry("before"), entry, Entry("after")])] == ["before", "after"]


def test_names_beyond_or_at_the_end_of_the_strings() -> None:
    symtab, strtab = tables([Entry("first", 1), Entry("last", 2)])
    far = struct.pack("<IBBHQQ", 0xFFFFFFFF, GLOBAL | OBJECT, 0, 1, 3, 0)
    assert [one.name for one in SymbolTable.parse(symtab + far, strtab[:-1], 64, "little")] == ["first"]
    assert len(SymbolTable.parse(symtab, b"", 64, "little")) == 0


def test_names_end() -> None:
    """Else a table of many names that all reach to the end of the strings would take for ever."""
    symtab, strtab = tables([Entry("x" * 4000, 1), Entry("y" * 5000, 2), Entry("last", 3)])
    assert [len(one.name) for one in SymbolTable.parse(symtab, strtab, 64, "little")] == [4000, 4]


def test_names_are_text_whatever_they_are() -> None:
    symtab = struct.pack("<IBBHQQ", 1, GLOBAL | OBJECT, 0, 1, 3, 0)
    assert SymbolTable.parse(symtab, b"\0a\xff\0", 64, "little")[0].name == "a\ufffd"


@pytest.mark.parametrize("bits", [32, 64])
def test_an_incomplete_last_record_is_passed_over(bits: int) -> None:
    symtab, strtab = tables([Entry("one", 1), Entry("two", 2)], bits)
    assert [one.name for one in SymbolTable.parse(symtab[:-1], strtab, bits, "little")] == ["one"]
    assert len(SymbolTable.parse(b"", strtab, bits, "little")) == 0


@pytest.mark.parametrize(
    ("bits", "bias", "expected"),
    [(64, 0xFFFFFFFF82000000, 0xFFFFFFFF82000010), (64, -0x10, 0), (64, -0x11, (1 << 64) - 1), (32, 0xFFFFFFF0, 0)],
)
def test_the_load_address_is_added_except_to_absolute_values(bits: int, bias: int, expected: int) -> None:
    table = parsed([Entry("inside", 0x10), Entry("absolute", 0x10, section=ABS)], bits, "little", bias)
    assert (table.value("inside"), table.value("absolute")) == (expected, 0x10)


def test_kinds_and_bindings_that_have_no_name() -> None:
    symbols = [
        Symbol("a", 1, info=0x2A),
        Symbol("b", 1, info=0xD0),
        Symbol("c", 1, info=0x06),
        Symbol("d", 1, info=0x0F),
    ]
    assert [(one.kind, one.binding) for one in symbols] == [
        ("ifunc", "weak"),
        ("notype", "13"),
        ("tls", "local"),
        ("15", "local"),
    ]


# By name


def test_of_several_the_last_one_counts() -> None:
    """As in libkvm: static variables of different files often share a name."""
    table = parsed([Entry("debug", 1), Entry("hz", 2), Entry("debug", 3)])
    assert (table.value("debug"), len(table), list(table.names())) == (3, 3, ["debug", "hz"])
    assert table.get("debug") == Symbol("debug", 3, 0, GLOBAL | OBJECT, 1)
    assert ("debug" in table, "absent" in table) == (True, False)
    assert (table.get("absent"), table.value("absent")) == (None, None)


def test_nlist_takes_names_with_an_underscore_too() -> None:
    """As compilers once wrote them; whichever comes last in the table."""
    table = parsed([Entry("hz", 1), Entry("_start", 2), Entry("start", 3), Entry("stop", 4), Entry("_stop", 5)])
    found = {
        name: symbol.value for name in ("_hz", "hz", "_start", "start", "_stop", "stop") if (symbol := table.find(name))
    }
    assert found == {"_hz": 1, "hz": 1, "_start": 3, "start": 3, "_stop": 5, "stop": 4}
    assert (table.find("__hz"), table.find("_"), table.find("")) == (None, None, None)


# By address


def test_an_address_is_in_the_symbol_before_it() -> None:
    table = parsed(
        [
            Entry("second", 0x2000, 0x10, GLOBAL | FUNC),
            Entry("first", 0x1000, 0x100, GLOBAL | FUNC),
            Entry("label", 0x3000, 0, GLOBAL | NOTYPE),
            Entry("last", 0x4000, 8),
        ]
    )
    assert {
        address: looked_up(table, address) for address in (0x1000, 0x10FF, 0x2000, 0x200F, 0x3000, 0x3FFF, 0x4007)
    } == {
        0x1000: ("first", 0),
        0x10FF: ("first", 0xFF),
        0x2000: ("second", 0),
        0x200F: ("second", 0xF),
        0x3000: ("label", 0),
        0x3FFF: ("label", 0xFFF),
        0x4007: ("last", 7),
    }
    for address in (0, 0xFFF, 0x1100, 0x1FFF, 0x2010, 0x4008, 1 << 64):
        assert looked_up(table, address) is None, address


def test_the_last_label_reaches_no_further_than_itself() -> None:
    table = parsed([Entry("end", 0x1000, 0, GLOBAL | NOTYPE)])
    assert (looked_up(table, 0x1000), looked_up(table, 0x1001)) == (("end", 0), None)
    assert SymbolTable().lookup(0) is None


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([Entry("label", 0x10, 0), Entry("sized", 0x10, 4)], "sized"),
        ([Entry("data", 0x10, 4), Entry("code", 0x10, 4, GLOBAL | FUNC)], "code"),
        ([Entry("data", 0x10, 4), Entry("resolver", 0x10, 4, GLOBAL | IFUNC)], "resolver"),
        ([Entry("own", 0x10, 4, LOCAL | FUNC), Entry("exported", 0x10, 4, GLOBAL | FUNC)], "exported"),
        ([Entry("weak", 0x10, 4, WEAK | FUNC), Entry("strong", 0x10, 4, GLOBAL | FUNC)], "strong"),
        ([Entry("one", 0x10, 4), Entry("two", 0x10, 4)], "one"),
        ([Entry("$x", 0x10, 4, LOCAL | FUNC), Entry("data", 0x10, 4)], "data"),
        ([Entry("constant", 0x10, 4, GLOBAL | FUNC, ABS), Entry("data", 0x10, 4)], "data"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_best_of_several_at_one_address(entries: list[Entry], expected: str, turned: bool) -> None:
    if turned and expected == "one":
        expected = "two"
    assert looked_up(parsed(entries[::-1] if turned else entries), 0x12) == (expected, 2)


@pytest.mark.parametrize("mark", ["$d", "$x.7", ".L0 ", ".Lpcrel_hi1"])
def test_marks_of_compilers_do_not_split_functions(mark: str) -> None:
    """Those of arm and arm64, and those that riscv needs for relocation."""
    table = parsed([Entry("code", 0x1000, 0x100, GLOBAL | FUNC), Entry(mark, 0x1040, 0, LOCAL)])
    assert looked_up(table, 0x1060) == ("code", 0x60)
    assert table.value(mark) == 0x1040


# Storage

SYMBOLS = st.lists(
    st.builds(
        Symbol,
        name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
        value=st.integers(0, (1 << 64) - 1),
        size=st.integers(0, (1 << 64) - 1),
        info=st.integers(0, 255),
        section=st.integers(0, 0xFFFF),
    ),
    max_size=20,
)


@given(SYMBOLS)
def test_what_is_packed_comes_back(symbols: list[Symbol]) -> None:
    table = SymbolTable.unpack(SymbolTable(symbols).pack())
    assert list(table) == symbols
    for symbol in symbols:
        assert table.get(symbol.name) == [one for one in symbols if one.name == symbol.name][-1]


PACKED = SymbolTable([Symbol("allproc", 1), Symbol("hz", 2)]).pack()
PLAIN = zlib.decompress(PACKED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"something else",
        PACKED[:10],
        zlib.compress(b""),
        zlib.compress(PLAIN[:-1]),
        zlib.compress(PLAIN[:20]),
        zlib.compress(struct.pack("<I", 3) + PLAIN[4:]),
        zlib.compress(struct.pack("<I", 0) + PLAIN[4:]),
        zlib.compress(struct.pack("<I", 0xFFFFFFFF) + PLAIN[4:]),
        zlib.compress(PLAIN[:4] + struct.pack("<I", 0xFFFFFFFF) + PLAIN[8:]),
        zlib.compress(PLAIN.replace(b"\0hz", b"\0\xffz")),
        zlib.compress(PLAIN.replace(b"\0hz", b"-hz")),
    ],
)
def test_damaged_packed_tables(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^a packed symbol table is damaged"):
        SymbolTable.unpack(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_packed_table_or_damaged(data: bytes) -> None:
    try:
        table = SymbolTable.unpack(zlib.compress(data))
    except FormatError:
        return
    assert len(list(table)) == len(table)
