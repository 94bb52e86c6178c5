"""One symbol file holds all that is known of a kernel; the framework takes it; damage is told in one sentence."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volatility3 import schemas

from tests.fake_memory import Memory, array, base, bits, c_types, enum, of, pointer, struct
from tests.minikernel.kernels import kernel_file
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image import build, isf, wanted_types
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.image.partial import PARTIAL, partial_types
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.table import (
    IDENTITY,
    SYMBOL_TABLE,
    TableIdentity,
    document,
    identity_of,
    symbols_of,
    variables_of,
)
from volatility3_freebsd_kvm.image.types import Types

KERNEL = TableIdentity(
    architecture="powerpc64",
    word_bits=64,
    byteorder="big",
    version="FreeBSD 15.0-RELEASE #0: today\n    root@here:/usr/obj\n",
    osreldate=1500068,
    ident="GENERIC64",
    build_id="0123abcd",
    symbols_from="/boot/kernel/kernel",
    types_from="CTF of /boot/kernel/kernel",
    samples=((0x1000, "00ff"), (0x2000, "01")),
)
NOTHING = Types.empty(8, "little")


def encoded(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def with_identity(text: str) -> dict[str, Any]:
    content = document(TableIdentity(), SymbolTable(), NOTHING)
    content["symbols"][IDENTITY]["constant_data"] = text
    return content


def with_identity_values(**values: object) -> dict[str, Any]:
    return with_identity(encoded(values))


# Round trips


@pytest.mark.parametrize("identity", [KERNEL, TableIdentity(), replace(KERNEL, osreldate=None, ident="Größe \x1b")])
def test_the_identity_comes_back(identity: TableIdentity) -> None:
    content = json.loads(json.dumps(document(identity, SymbolTable(), NOTHING)))
    assert identity_of(content) == identity


def test_the_banner_is_the_first_line_of_the_version() -> None:
    assert KERNEL.banner == "FreeBSD 15.0-RELEASE #0: today"
    assert TableIdentity().banner == ""


def test_what_later_versions_add_to_the_identity_is_passed_over() -> None:
    assert identity_of(with_identity_values(architecture="arm64", invented=5)) == TableIdentity(architecture="arm64")


SYMBOLS = st.builds(
    Symbol,
    name=st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1),
    value=st.integers(0, (1 << 64) - 1),
    size=st.integers(0, (1 << 64) - 1),
    info=st.integers(0, 255),
    section=st.integers(0, 0xFFFF),
)


@given(st.lists(SYMBOLS))
def test_symbols_come_back_in_order_with_all_that_elf_says(symbols: list[Symbol]) -> None:
    content = json.loads(json.dumps(document(TableIdentity(), SymbolTable(symbols), NOTHING)))
    assert list(symbols_of(content)) == symbols
    others = {name: one["address"] for name, one in content["symbols"].items() if name not in (IDENTITY, SYMBOL_TABLE)}
    # Other people's tools see the last of several, as libkvm does.
    assert others == {one.name: one.value for one in symbols if one.name not in (IDENTITY, SYMBOL_TABLE)}


def test_symbols_of_other_peoples_files_have_no_sizes() -> None:
    content = {"symbols": {"hz": {"address": 5}, "ticks": {"address": 7.0}, "constant": {"constant_data": "AA=="}}}
    assert list(symbols_of(content)) == [Symbol("hz", 5), Symbol("ticks", 7)]
    assert identity_of(content) == TableIdentity()
    assert list(symbols_of({})) == []


def test_variables_keep_types_that_are_known_all_the_way() -> None:
    types = c_types(Memory(), proc=struct(8, p_pid=(0, base("int"))))
    types.enums["state"] = {"size": 4, "base": "int", "constants": {}}
    known = {
        "hz": base("int"),
        "proc0": of("proc"),
        "allproc": pointer(of("proc")),
        "table": array(4, pointer(of("proc"))),
        "state": enum("state"),
        "handler": pointer({"kind": "function"}),
    }
    unknown = {
        "thread0": of("thread"),
        "curthread": pointer(of("thread")),
        "main": {"kind": "function"},
        "field": bits(0, 3, base("int")),
        "odd": base("no such type"),
        "mood": enum("mood"),
    }
    nowhere = {"not_a_symbol": base("int")}
    symbols = SymbolTable(Symbol(name, number) for number, name in enumerate([*known, *unknown]))
    content = document(TableIdentity(), symbols, types, {**known, **unknown, **nowhere})
    assert variables_of(content) == known


# The framework's schema


def assert_valid(content: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("jsonschema", reason="without jsonschema the framework calls everything valid")
    content = json.loads(json.dumps(content))
    assert schemas.validate(content, use_cache=False)
    assert not [one for one in caplog.messages if "Schema" in one]


def some_of(content: dict[str, Any], step: int = 10) -> dict[str, Any]:
    """Every tenth type and symbol, and our own: the framework needs seconds for all of them."""
    thinned = {key: {name: content[key][name] for name in [*content[key]][::step]} for key in ("user_types", "symbols")}
    thinned["symbols"] |= {name: content["symbols"][name] for name in (IDENTITY, SYMBOL_TABLE, "hz", "allproc")}
    thinned["user_types"] |= {name: content["user_types"][name] for name in ("proc", "thread", "vnode", "inpcb")}
    return {**content, **thinned}


@pytest.mark.parametrize("name", ["15-amd64", "14-powerpc64", "15-i386"])
def test_the_table_of_a_kernel_is_a_symbol_file_of_the_framework(name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = kernel_file(*name.split("-"))
    with path.open("rb") as stream:
        content = build.kernel_table(KernelFile(stream, path.name))
    assert len(content["user_types"]) > 100
    assert_valid(some_of(content), caplog)


def test_a_table_of_partial_types_is_one_too(caplog: pytest.LogCaptureFixture) -> None:
    names = walkable("15-amd64").names
    content = document(replace(KERNEL, types_from=PARTIAL), names.symbols, partial_types(names))
    assert {"proc", "thread"} <= set(content["user_types"])
    assert_valid(content, caplog)
    assert_valid(document(TableIdentity(), SymbolTable(), NOTHING), caplog)


def test_what_is_no_symbol_file_would_be_told(caplog: pytest.LogCaptureFixture) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="without jsonschema the framework calls everything valid")
    content = document(TableIdentity(), SymbolTable(), NOTHING)
    content["symbols"]["wrong"] = {"address": "0x10"}
    with pytest.raises(jsonschema.exceptions.ValidationError):
        schemas.validate(content, use_cache=False)


# Damage


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (with_identity("*"), "a symbol file has damaged constant data "),
        (with_identity("AAA"), "a symbol file has damaged constant data "),
        (with_identity(encoded([1])), "a symbol file has a damaged identity "),
        (with_identity(encoded("text")), "a symbol file has a damaged identity "),
        (with_identity(base64.b64encode(b"{").decode()), "a symbol file has a damaged identity "),
        (with_identity(base64.b64encode(b"[" * 100_000).decode()), "a symbol file has a damaged identity "),
        (with_identity_values(samples=[[1]]), "a symbol file has a damaged identity "),
        (with_identity_values(samples=[[1, "xyz"]]), "a symbol file has a damaged identity "),
        (with_identity_values(samples=[["one", "00"]]), "a symbol file has a damaged identity "),
        (with_identity_values(samples=5), "a symbol file has a damaged identity "),
        (with_identity_values(word_bits=16), "a symbol file has a damaged identity (an impossible value of word_bits"),
        (with_identity_values(byteorder="middle"), "a symbol file has a damaged identity (an impossible value of "),
        (with_identity_values(osreldate="15"), "a symbol file has a damaged identity (an impossible value of osreldat"),
        (with_identity_values(version=5, ident=[]), "a symbol file has a damaged identity (an impossible value of id"),
        ({"symbols": []}, "a symbol file has a damaged identity "),
        ({"symbols": {IDENTITY: 5}}, "a symbol file has a damaged identity "),
        ({"symbols": {IDENTITY: {"constant_data": 5}}}, "a symbol file has "),
    ],
)
def test_a_damaged_identity_is_told(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FormatError) as damaged:
        identity_of(content)
    assert str(damaged.value).startswith(complaint)
    assert "\n" not in str(damaged.value)


def with_symbols(data: bytes) -> dict[str, Any]:
    return {"symbols": {SYMBOL_TABLE: {"constant_data": base64.b64encode(data).decode()}}}


PACKED = SymbolTable([Symbol("hz", 5, 4), Symbol("ticks", 6, 4)]).pack()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (with_symbols(b"no zlib"), "a packed symbol table is damaged (Error -3 "),
        (with_symbols(PACKED[:-8]), "a packed symbol table is damaged"),
        (with_symbols(SymbolTable().pack()[:4]), "a packed symbol table is damaged"),
        ({"symbols": {SYMBOL_TABLE: {"constant_data": "?"}}}, "a symbol file has damaged constant data ("),
        ({"symbols": {SYMBOL_TABLE: {"constant_data": [1]}}}, "a symbol file has damaged "),
        ({"symbols": {"hz": {"address": "here"}}}, "a symbol file has damaged symbols ("),
        ({"symbols": {"hz": {"address": None}}}, "a symbol file has damaged symbols ("),
        ({"symbols": {"hz": {"address": 1e999}}}, "a symbol file has damaged symbols ("),
        ({"symbols": {"hz": 5}}, "a symbol file has damaged symbols ("),
        ({"symbols": [5]}, "a symbol file has damaged symbols ("),
    ],
)
def test_damaged_symbols_are_told(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FormatError) as damaged:
        symbols_of(content)
    assert str(damaged.value).startswith(complaint)


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_any_damaged_byte_of_the_symbols_is_told_or_harmless(at: int, change: int) -> None:
    damaged = bytearray(PACKED)
    damaged[at] ^= change
    with suppress(FormatError):
        assert len(symbols_of(with_symbols(bytes(damaged)))) == 2


TABLES: dict[str, Any] = document(
    KERNEL,
    SymbolTable([Symbol("hz", 5, 4)]),
    c_types(Memory(), proc=struct(16, p_flag=(0, bits(0, 3, base("int"))), p_link=(8, pointer(of("proc"))))),
    {"hz": base("int")},
)


def changed(*path: str, to: Any) -> bytes:
    """The file with one value replaced, or taken out."""
    content = json.loads(json.dumps(TABLES))
    place = content
    for part in path[:-1]:
        place = place[part]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(content).encode()


def read(data: bytes, name: str = "file") -> dict[str, Any]:
    return isf.parse(io.BytesIO(data), name)


def test_symbol_files_are_read_compressed_or_not(tmp_path: Path) -> None:
    for number, data in enumerate((isf.dump(TABLES), isf.text(TABLES))):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert isf.load(path) == json.loads(json.dumps(TABLES))
    assert lzma.decompress(isf.dump(TABLES)) == isf.text(TABLES)
    assert isf.dump(dict(reversed(TABLES.items()))) == isf.dump(TABLES)


def test_types_come_back_from_a_symbol_file() -> None:
    types = isf.types_of(read(isf.text(TABLES)))
    assert (types.base_types, types.user_types, types.enums) == (
        TABLES["base_types"],
        TABLES["user_types"],
        TABLES["enums"],
    )


def test_a_file_of_layouts_needs_no_symbols() -> None:
    assert read(changed("symbols", to=None))["symbols"] == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"\xff\xfe\xfd",
        isf.text(TABLES)[:-1],
        isf.dump(TABLES)[:-1],
        isf.dump(TABLES)[:100],
        isf.dump(TABLES)[:40] + b"XXXX" + isf.dump(TABLES)[44:],
        b"[" * 200_000,
    ],
)
def test_what_cannot_be_read_is_told_with_its_name(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^kernel\.json cannot be read as a symbol file \(.*\)$"):
        read(data, "kernel.json")


@pytest.mark.parametrize("packer", [gzip, bz2, lzma])
def test_a_stream_that_decompresses_and_is_cut_off_is_told(packer: Any) -> None:
    """The framework opens files through the library of their suffix."""
    packed = packer.compress(isf.text(TABLES))
    expected = pytest.raises(FormatError, match=r"^kernel\.json\.xx cannot be read as a symbol file \(.*\)$")
    with packer.open(io.BytesIO(packed[: len(packed) // 2])) as stream, expected:
        isf.parse(stream, "kernel.json.xx")


@pytest.mark.parametrize(
    "data", [b"[]", b"5", b"{}", changed("user_types", to=None), changed("enums", to=[]), changed("metadata", to=5)]
)
def test_json_of_something_else_is_told(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^file is no symbol file: it lacks the tables of one$"):
        read(data)


PROC = ("user_types", "proc")


@pytest.mark.parametrize(
    "data",
    [
        changed("symbols", to=[]),
        changed("symbols", "hz", to=5),
        changed("symbols", "hz", "type", to={"kind": "struct"}),
        changed("base_types", "int", to=[]),
        changed("base_types", "int", "size", to=None),
        changed("enums", "state", to={"size": 4, "constants": {"A": "one"}}),
        changed(*PROC, to=5),
        changed(*PROC, "size", to="large"),
        changed(*PROC, "fields", to=None),
        changed(*PROC, "fields", "p_link", to={"offset": 8}),
        changed(*PROC, "fields", "p_link", "offset", to=None),
        changed(*PROC, "fields", "p_link", "offset", to=[8]),
        changed(*PROC, "fields", "p_link", "type", "kind", to=None),
        changed(*PROC, "fields", "p_link", "type", "subtype", to=None),
        changed(*PROC, "fields", "p_link", "type", "subtype", to=7),
        changed(*PROC, "fields", "p_link", "type", to={"kind": "array", "subtype": base("int")}),
        changed(*PROC, "fields", "p_link", "type", to={"kind": "struct", "name": []}),
        changed(*PROC, "fields", "p_flag", "type", "bit_length", to=0),
        changed(*PROC, "fields", "p_flag", "type", "bit_position", to=-1),
        changed(*PROC, "fields", "p_flag", "type", "bit_position", to=None),
    ],
)
def test_damaged_tables_are_told_when_they_are_read(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^file is a damaged symbol file \(.+\)$"):
        read(data)


def test_the_wanted_types_are_what_a_kernels_table_has() -> None:
    path = kernel_file("15", "amd64")
    with path.open("rb") as stream:
        kernel = KernelFile(stream, path.name)
        few, all_of_them = build.kernel_table(kernel), build.kernel_table(kernel, everything=True)
    wanted = {name for name in wanted_types() if name in all_of_them["user_types"]}
    assert wanted <= set(few["user_types"]) < set(all_of_them["user_types"])
    assert few["symbols"].keys() == all_of_them["symbols"].keys()
