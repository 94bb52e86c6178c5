"""Whether a kernel file and types belong to a dump: each comparison agrees, differs or cannot be made."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_memory import Memory, base, c_types, struct
from tests.minikernel.kernels import kernel_file
from tests.scenario_dumps import symbols_of, walkable
from volatility3_freebsd_kvm.image import build
from volatility3_freebsd_kvm.image.fit import (
    MAX_BANNER,
    Check,
    Fit,
    Verdict,
    banner_at,
    check_fit,
    check_kernel,
    check_types,
    fingerprint,
    matches,
)
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.partial import PARTIAL, partial_types
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.table import IDENTITY, SYMBOL_TABLE, TableIdentity, document

FITS, UNKNOWN, DIFFERS = Verdict.FITS, Verdict.UNKNOWN, Verdict.DIFFERS
BANNER = "FreeBSD 15.0-RELEASE #0: today"
VERSION, OSRELDATE, IDENT, P_PID, TD_TID, DATA = 0x1000, 0x2000, 0x2100, 0x2200, 0x2204, 0x3000
SYMBOLS = [
    Symbol("version", VERSION),
    Symbol("osreldate", OSRELDATE, 4),
    Symbol("kern_ident", IDENT, 8),
    Symbol("proc_off_p_pid", P_PID, 4),
    Symbol("thread_off_td_tid", TD_TID, 4),
    Symbol("proc0", 0x4000, 100),
    Symbol("allproc", 0x5000, 8),
    Symbol("dumptid", 0x5008, 4),
]
IDENTITY_OF_KERNEL = TableIdentity(
    version=f"{BANNER}\n    root@here\n", osreldate=1500068, ident="GENERIC", symbols_from="kernel", types_from="DWARF"
)


def memory() -> Memory:
    """The memory of that kernel."""
    found = Memory().put(VERSION, f"{BANNER}\n    root@here\n".encode().ljust(128, b"\0"))
    found.number(OSRELDATE, 1500068, 4).put(IDENT, b"GENERIC".ljust(64, b"\0"))
    return found.number(P_PID, 0x10, 4).number(TD_TID, 0x20, 4).put(DATA, bytes(range(64)))


def names_over(found: Memory, symbols: list[Symbol] | None = None, p_pid: int = 0x10, size: int = 100) -> Names:
    types = c_types(
        found,
        proc=struct(size, p_pid=(p_pid, base("int"))),
        thread=struct(64, td_tid=(0x20, base("int"))),
    )
    return Names(SymbolTable(SYMBOLS if symbols is None else symbols), found.structs(types))


def without(*left_out: str) -> list[Symbol]:
    return [one for one in SYMBOLS if one.name not in left_out]


def erased(found: Memory, address: int, length: int = 128) -> Memory:
    """The memory without a piece."""
    for at in range(address, address + length):
        found.bytes.pop(at, None)
    return found


def shown(checks: object) -> list[tuple[str, str, str, Verdict]]:
    return [(one.what, one.expected, one.found, one.verdict) for one in checks]  # type: ignore[attr-defined]


# Single comparisons


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (BANNER.encode(), ("the banner", BANNER, BANNER, FITS)),
        (BANNER.encode() + b"\n more", ("the banner", BANNER, BANNER, FITS)),
        (b"FreeBSD 14.3", ("the banner", BANNER, "FreeBSD 14.3", DIFFERS)),
        (b"", ("the banner", BANNER, "", DIFFERS)),
        (b"Linux\x1b]0;owned\x07", ("the banner", BANNER, "Linux\\x1b]0;owned\\x07", DIFFERS)),
        (b"x" * 5000, ("the banner", BANNER, "x" * MAX_BANNER, DIFFERS)),
    ],
)
def test_the_banner(content: bytes, expected: tuple[str, str, str, Verdict]) -> None:
    names = names_over(memory().put(VERSION, content.ljust(6016, b"\0")))
    identity = TableIdentity(version=IDENTITY_OF_KERNEL.version)
    checks = list(check_kernel(names, identity))
    assert shown(checks) == [expected]
    assert checks[0].strong


@pytest.mark.parametrize(
    ("content", "verdict"), [(b"FreeBSD 9.9-ANY", FITS), (b"NetBSD 10", DIFFERS), (b"", DIFFERS), (b"FreeBSD", FITS)]
)
def test_without_a_banner_of_its_own_a_kernel_is_at_least_freebsd(content: bytes, verdict: Verdict) -> None:
    names = names_over(memory().put(VERSION, content.ljust(128, b"\0")))
    (check,) = check_kernel(names, TableIdentity())
    assert (check.verdict, check.strong, check.expected) == (verdict, False, "FreeBSD")
    assert Fit((check,)).verdict is (UNKNOWN if verdict is FITS else DIFFERS)


def test_a_banner_that_cannot_be_read_is_not_compared() -> None:
    assert list(check_kernel(names_over(erased(memory(), VERSION)), TableIdentity(version=BANNER))) == []
    assert list(check_kernel(names_over(memory(), without("version")), TableIdentity(version=BANNER))) == []
    assert banner_at(names_over(erased(memory(), VERSION))) is None
    assert banner_at(names_over(memory(), without("version"))) is None
    assert banner_at(names_over(memory())) == BANNER


NO_BANNER = without("version")


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (TableIdentity(osreldate=1500068), [("osreldate", "1500068", "1500068", FITS)]),
        (TableIdentity(osreldate=1403000), [("osreldate", "1403000", "1500068", DIFFERS)]),
        (TableIdentity(ident="GENERIC"), [("kern_ident", "GENERIC", "GENERIC", FITS)]),
        (TableIdentity(ident="MINI"), [("kern_ident", "MINI", "GENERIC", DIFFERS)]),
        (TableIdentity(), []),
    ],
)
def test_release_and_configuration(identity: TableIdentity, expected: list[tuple[Any, ...]]) -> None:
    assert shown(check_kernel(names_over(memory(), NO_BANNER), identity)) == expected


def test_release_and_configuration_that_cannot_be_read() -> None:
    identity = TableIdentity(osreldate=1500068, ident="GENERIC")
    found = erased(erased(memory(), OSRELDATE, 4), IDENT)
    assert shown(check_kernel(names_over(found, NO_BANNER), identity)) == [
        ("osreldate", "1500068", "", UNKNOWN),
        ("kern_ident", "GENERIC", "", UNKNOWN),
    ]
    assert list(check_kernel(names_over(found, without("version", "osreldate", "kern_ident")), identity)) == []


def sample(at: int, *, right: bool = True) -> tuple[int, str]:
    data = bytes(range(at, at + 4)) if right else b"\xff\xff\xff\xff"
    return DATA + at, data.hex()


RIGHT, WRONG, GONE = sample(0), sample(0, right=False), (0x9000, "00010203")


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ((), []),
        ((GONE,), []),
        ((RIGHT,), [("read-only data", "1 equal samples", "1 equal", FITS)]),
        ((WRONG,), [("read-only data", "1 equal samples", "0 equal", DIFFERS)]),
        ((RIGHT, sample(4), sample(8), WRONG), [("read-only data", "4 equal samples", "3 equal", FITS)]),
        ((RIGHT, sample(4), WRONG, WRONG), [("read-only data", "4 equal samples", "2 equal", DIFFERS)]),
        ((RIGHT, sample(4), WRONG, WRONG, GONE), [("read-only data", "4 equal samples", "2 equal", DIFFERS)]),
        ((GONE, GONE, GONE, RIGHT), [("read-only data", "1 equal samples", "1 equal", FITS)]),
    ],
)
def test_read_only_data(samples: tuple[tuple[int, str], ...], expected: list[tuple[Any, ...]]) -> None:
    names = names_over(memory(), NO_BANNER)
    assert shown(check_kernel(names, TableIdentity(samples=samples))) == expected


@pytest.mark.parametrize(
    ("found", "symbols", "p_pid", "expected"),
    [
        (memory(), SYMBOLS, 0x10, ("proc_off_p_pid", "16", "16", FITS)),
        (memory(), SYMBOLS, 0x18, ("proc_off_p_pid", "24", "16", DIFFERS)),
        (erased(memory(), P_PID, 4), SYMBOLS, 0x10, ("proc_off_p_pid", "16", "", UNKNOWN)),
        (memory(), without("proc_off_p_pid"), 0x10, None),
    ],
)
def test_exported_offsets(found: Memory, symbols: list[Symbol], p_pid: int, expected: tuple[Any, ...] | None) -> None:
    checks = shown(check_types(names_over(found, symbols, p_pid)))
    others = [("thread_off_td_tid", "32", "32", FITS), ("the size of proc0", "at least 100", "100", FITS)]
    assert checks == ([expected] if expected else []) + others


@pytest.mark.parametrize(("size", "verdict"), [(100, FITS), (96, FITS), (101, DIFFERS)])
def test_sizes_of_symbols_are_weak(size: int, verdict: Verdict) -> None:
    check = list(check_types(names_over(memory(), [Symbol("proc0", 0x4000, 100)], size=size)))
    assert shown(check) == [("the size of proc0", f"at least {size}", "100", verdict)]
    assert Fit(tuple(check)).verdict is (UNKNOWN if verdict is FITS else DIFFERS)


def test_symbols_without_sizes_and_unknown_types_are_not_compared() -> None:
    assert list(check_types(names_over(memory(), [Symbol("proc0", 0x4000), Symbol("prison0", 0x4000, 5)]))) == []


# All together


def check(verdict: Verdict, *, strong: bool = True, what: str = "it", group: str = "") -> Check:
    return Check(what, "this", "that", verdict, strong, group)


@pytest.mark.parametrize(
    ("checks", "verdict", "text"),
    [
        ((), UNKNOWN, "unknown: nothing could be compared"),
        ((check(UNKNOWN),), UNKNOWN, "unknown: nothing could be compared"),
        ((check(FITS, strong=False),), UNKNOWN, "unknown: it"),
        ((check(FITS), check(UNKNOWN)), FITS, "fits: it"),
        ((check(FITS), check(DIFFERS, strong=False)), DIFFERS, "does not fit: it is that, not this"),
        (
            (check(DIFFERS), check(FITS), check(DIFFERS, what="another")),
            DIFFERS,
            "does not fit: it is that, not this; another is that, not this",
        ),
        (
            (check(FITS), *[check(FITS, group="offsets")] * 3, check(UNKNOWN, group="offsets"), check(FITS, what="x")),
            FITS,
            "fits: it, x, 3 offsets",
        ),
        ((replace(check(DIFFERS), found=""),), DIFFERS, "does not fit: it is empty, not this"),
    ],
)
def test_the_verdict_and_how_it_is_told(checks: tuple[Check, ...], verdict: Verdict, text: str) -> None:
    assert Fit(checks).verdict is verdict
    assert str(Fit(checks)) == text


def test_types_made_of_the_kernels_own_offsets_say_nothing() -> None:
    names = names_over(memory(), p_pid=0x18)
    assert check_fit(names, IDENTITY_OF_KERNEL).verdict is DIFFERS
    assert check_fit(names, replace(IDENTITY_OF_KERNEL, types_from=PARTIAL)).verdict is FITS


def kernel_of(name: str) -> tuple[SymbolTable, TableIdentity]:
    path = kernel_file(*name.split("-"))
    with path.open("rb") as stream:
        kernel = KernelFile(stream, path.name)
        return kernel.symbols, build.identity(kernel, "DWARF")


@pytest.mark.parametrize("name", ["15-amd64", "14-powerpc64"])
def test_a_kernel_fits_its_own_memory_and_no_others(name: str) -> None:
    release, arch = name.split("-")
    symbols, identity = kernel_of(name)
    memory = walkable(name)
    own = check_fit(Names(symbols, memory.structs, memory.names.kerndisp), identity)
    assert own.verdict is FITS
    assert {one.verdict for one in own.checks} == {FITS}
    assert str(own).startswith("fits: the banner, osreldate, kern_ident, read-only data, 10 exported offsets, ")
    symbols, identity = kernel_of(f"{'14' if release == '15' else '15'}-{arch}")
    other = check_fit(Names(symbols, memory.structs, memory.names.kerndisp), identity)
    assert other.verdict is DIFFERS


def test_partial_types_always_agree_and_other_releases_types_do_not() -> None:
    kernel = walkable("15-amd64")
    known = kernel.structs
    partial = Structs(known.read, partial_types(kernel.names), 64, "little")
    assert {one.verdict for one in check_types(Names(kernel.names.symbols, partial))} == {FITS}
    old = Structs(known.read, walkable("12.1-amd64").structs.types, 64, "little")
    assert Fit(tuple(check_types(Names(kernel.names.symbols, old)))).verdict is DIFFERS


# Words by which a symbol file is found again


def content(identity: TableIdentity = IDENTITY_OF_KERNEL) -> dict[str, Any]:
    names = names_over(memory())
    return json.loads(json.dumps(document(identity, names.symbols, names.structs.types)))


def test_a_symbol_file_is_known_by_what_must_be_in_memory() -> None:
    words = fingerprint(content())
    assert words is not None
    assert json.loads(words) == {
        "banner": [VERSION, BANNER],
        "numbers": [[OSRELDATE, 1500068], [P_PID, 0x10], [TD_TID, 0x20]],
    }
    assert matches(words, names_over(memory()).structs)


@pytest.mark.parametrize(
    "other",
    [
        memory().put(VERSION, b"FreeBSD 14.3"),
        memory().number(OSRELDATE, 1500069, 4),
        memory().number(TD_TID, 0x28, 4),
        erased(memory(), TD_TID, 4),
        erased(memory(), VERSION),
        Memory(),
    ],
)
def test_other_memory_does_not_match(other: Memory) -> None:
    words = fingerprint(content())
    assert words is not None
    assert not matches(words, other.structs(c_types(other)))


def test_other_programs_files_are_known_without_a_banner() -> None:
    foreign = content()
    for name in (IDENTITY, SYMBOL_TABLE):
        del foreign["symbols"][name]
    words = fingerprint(foreign)
    assert words is not None
    assert json.loads(words)["banner"] == [VERSION, ""]
    assert matches(words, names_over(memory()).structs)
    assert not matches(words, names_over(memory().put(VERSION, b"Linux")).structs)


def changed(name: str, value: object) -> dict[str, Any]:
    found = content()
    found["symbols"][name] = value
    return found


@pytest.mark.parametrize(
    "no_kernel",
    [
        {},
        [],
        5,
        {"symbols": {"init_task": {"address": 1}}},
        {"symbols": []},
        {"symbols": 5},
        {key: value for key, value in content().items() if key != "user_types"},
        {**content(), "user_types": {"proc": {"size": 4}, "thread": []}},
        {**content(), "user_types": {"proc": {"size": 4, "fields": {"p_pid": {"type": base("int")}}}}},
        changed("version", {}),
        changed("osreldate", 5),
        changed("proc_off_p_pid", {}),
        changed(IDENTITY, {"address": 0, "constant_data": "?"}),
        changed(IDENTITY, 7),
    ],
)
def test_what_is_no_kernels_symbol_file_is_passed_over(no_kernel: Any) -> None:
    assert fingerprint(no_kernel) is None


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\xff",
        b"[]",
        b"5",
        b"{}",
        b'{"banner": [4096], "numbers": []}',
        b'{"banner": [4096, ""], "numbers": 5}',
        b'{"banner": [4096, ""], "numbers": [[1]]}',
        b'{"banner": ["here", ""], "numbers": []}',
        b'{"banner": [4096, ""], "numbers": [["here", 1]]}',
        b'{"banner": [1e999, ""], "numbers": []}',
        b'{"banner": [-4096, ""], "numbers": []}',
        b"[" * 100_000,
    ],
)
def test_damaged_words_match_nothing(words: bytes) -> None:
    assert not matches(words, names_over(memory()).structs)


@given(st.integers(0, 150), st.integers(1, 255))
def test_any_damaged_byte_of_the_words_is_no_error(at: int, change: int) -> None:
    words = bytearray(fingerprint(content()) or b"")
    words[at % len(words)] ^= change
    assert matches(bytes(words), names_over(memory()).structs) in (True, False)


def test_kernels_of_the_scenario_match_their_own_memory_only() -> None:
    known = {name: walkable(name) for name in ("15-amd64", "14-amd64", "15-i386")}
    for name, kernel in known.items():
        words = fingerprint(document(kernel_of(name)[1], symbols_of(name), kernel.structs.types))
        assert words is not None
        assert [other for other, memory in known.items() if matches(words, memory.structs)] == [name]
