"""The message buffer: from memory, from the minidump's header, in order and line by line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bsd.kernel_variants import (
    NOWHERE,
    Patch,
    nothing_known,
    nowhere,
    with_symbols,
    without_symbols,
    without_types,
)
from tests.conftest import RealFile
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.msgbuf import (
    Line,
    Text,
    console_buffer,
    lines,
    message_buffer,
    priority_name,
    read_head,
)
from volatility3_freebsd_kvm.exceptions import NotMappedError
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.types import Types

SOME = ("12.1-amd64", "12.1-i386", "15-arm64", "14-powerpc64")
SIZE = SYSTEM.message_buffer.size
TEXT = SYSTEM.message_buffer.text[-SIZE:]
UNTYPED = "the kernel and its modules have no symbol msgbufp"
BANNER = "Copyright (c) 1992-2025 The FreeBSD Project.\nCopyright (c) 1979, 1980 The Regents\n"


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    """One kernel after the other: each has to be built."""
    return str(request.param)


def head_of(kernel: str) -> int:
    return int(build_world(kernel).get("msgbuf", 0))


def text_of(text: Text) -> str:
    return text.data.decode()


def problems(text: Text) -> list[str]:
    return [str(problem) for problem in text.problems]


# The truth


def test_text_is_whole_and_in_order(kernel: str):
    text = message_buffer(walkable(kernel))
    assert (text_of(text), text.source, text.problems) == (TEXT, "msgbufp", ())
    assert (text.cut, text.checksum) == (True, "matches")


def test_head(kernel: str):
    head = read_head(walkable(kernel), head_of(kernel))
    assert (head.size, head.seqmod, head.pointer + head.size) == (SIZE, 16 * SIZE, head_of(kernel))
    assert (head.wseq, head.problem) == (len(SYSTEM.message_buffer.text), "")


def test_lines(kernel: str):
    found = list(lines(message_buffer(walkable(kernel))))
    assert [line.number for line in found] == list(range(1, TEXT.count("\n") + 1))
    assert found[0].notes == ("its start may have been overwritten",)
    assert found[-1] == Line(len(found), "cpuid = 0")
    assert found[-2].text == f"panic: {SYSTEM.panic}"
    by_text = {line.text: line.priority for line in found}
    assert by_text["Starting syslogd."] == "console.info"
    assert by_text["epair0a: link state changed to UP"] == "kern.info"
    assert by_text["example0: message number 119 of a long boot"] == ""
    assert {line.boot for line in found} == {0}


# With less known


def test_types_are_not_needed(name: str):
    assert text_of(message_buffer(without_types(name))) == TEXT


def test_without_symbols_the_header_is_shown_as_it_is_stored(name: str):
    text = message_buffer(nothing_known(name))
    start = len(SYSTEM.message_buffer.text) % SIZE
    assert text_of(text) == TEXT[SIZE - start :] + TEXT[: SIZE - start]
    assert text.source == "minidump header"
    assert problems(text) == [
        (
            f"msgbufp: {UNTYPED}; the copy in the minidump's header is shown, "
            "as it is stored: what is at its start may be newer than what is at its end"
        )
    ]


def test_header_with_the_structure_behind_the_ring(name: str):
    """The rest of the last page of the minidump's section holds it: msgbufinit puts it there."""
    kernel = nothing_known(name)
    structure = walkable(name).structs.read(head_of(name), 64)
    text = message_buffer(replace(kernel, message_buffer=kernel.message_buffer + structure))
    assert (text_of(text), text.checksum) == (TEXT, "matches")
    assert problems(text) == [
        (
            f"msgbufp: {UNTYPED}; the copy in the minidump's header is shown, in the order that the copy of its "
            "structure tells"
        )
    ]


def ring_only(ring: bytes) -> Kernel:
    """A kernel of which only a minidump's header is known."""
    return Kernel(Names(SymbolTable(), empty_structs(lambda _address, _length: b"")), "amd64", message_buffer=ring)


def empty_structs(read: Callable[[int, int], bytes]) -> Structs:
    """Memory without types."""
    return Structs(read, Types.empty(8, "little"), 64, "little")


@pytest.mark.parametrize(
    ("ring", "shown", "how"),
    [
        (b"second\nthird\n\0\0\0first\n", "first\nsecond\nthird\n", "from the gap in it on"),
        (b"first\nsecond\n\0\0\0", "first\nsecond\n", "from the gap in it on"),
        (b"[7] d\n<6>[8] e\n[3] b\n[5.000001] c\n", "[3] b\n[5.000001] c\n[7] d\n<6>[8] e\n", "newest timestamp on"),
        (b"[3] a\n[5] b\n", "[3] a\n[5] b\n", "what is at its start may be newer than what is at its end"),
    ],
)
def test_order_by_the_text_itself(ring: bytes, shown: str, how: str):
    text = message_buffer(ring_only(ring))
    assert text_of(text) == shown
    assert problems(text)[0].endswith(how)


def test_no_text_at_all():
    assert problems(message_buffer(ring_only(bytes(64)))) == [
        f"msgbufp: {UNTYPED}; the minidump's header holds no text either"
    ]
    assert problems(message_buffer(ring_only(b""))) == [f"msgbufp: {UNTYPED}; the dump's header has no copy"]


@pytest.mark.parametrize("arch", ["amd64", "arm64", "i386"])
def test_real_dumps_whose_recordings_have_no_text(real_file: RealFile, arch: str):
    dump = kvm.open(real_file(f"vmcore-{arch}-minidump"))
    structs = Structs(dump.kernel.read, Types.empty(dump.word_bits // 8, "little"), dump.word_bits, "little")
    kernel = Kernel(Names(SymbolTable(), structs), arch, message_buffer=dump.message_buffer)
    text = message_buffer(kernel)
    assert text.data == b""
    assert problems(text) == [f"msgbufp: {UNTYPED}; the minidump's header holds no text either"]


# Damage


def header_note(reason: str) -> str:
    return (
        f"msgbufp: {reason}; the copy in the minidump's header is shown, "
        "as it is stored: what is at its start may be newer than what is at its end"
    )


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("msg_magic", 0xDEAD, "its magic number is 0xdead, not 0x63062"),
        ("msg_size", 0, "a size of 0 bytes is impossible"),
        ("msg_size", 0x80000000, "a size of 2147483648 bytes is impossible"),
    ],
)
def test_structure_that_is_wrong(name: str, member: str, value: int, reason: str):
    text = message_buffer(damaged(name, Patch(name).member("msgbuf", head_of(name), member, value)))
    assert problems(text) == [header_note(reason)]
    assert len(text.data) == SIZE


def test_pointer_to_nowhere(name: str):
    text = message_buffer(damaged(name, Patch(name).pointer(walkable(name).address("msgbufp"), NOWHERE)))
    assert problems(text) == [header_note(f"address 0x10 {nowhere(name)}")]


def test_ring_in_nowhere_is_taken_from_the_header_in_the_right_order(name: str):
    text = message_buffer(damaged(name, Patch(name).member("msgbuf", head_of(name), "msg_ptr", NOWHERE)))
    assert (text_of(text), text.checksum) == (TEXT, "matches")
    assert problems(text) == [
        (
            f"msgbufp: {SIZE} of {SIZE} bytes cannot be read (address 0x10 {nowhere(name)}): "
            "the copy in the minidump's header is shown"
        )
    ]


def test_ring_of_which_a_page_is_missing():
    """Three pages, of which the one in the middle is not mapped; the writer is in the last one."""
    pages = {0x1000: b"old\n".ljust(4096, b"\0"), 0x3000: b"newest\noldest\n".ljust(4096, b"\0")}
    head = struct.pack("<Q6I", 0x1000, 0x63062, 3 * 4096, 2 * 4096 + 7, 0, 0, 16 * 3 * 4096)
    pages[0x9000] = struct.pack("<Q", 0x9008) + head

    def read(address: int, length: int) -> bytes:
        page, at = pages.get(address & ~0xFFF, b""), address & 0xFFF
        if len(page) < at + length:
            raise NotMappedError(address if not page else (address & ~0xFFF) + 0x1000)
        return page[at : at + length]

    kernel = replace(ring_only(b""), names=Names(SymbolTable([Symbol("msgbufp", 0x9000, 8)]), empty_structs(read)))
    text = message_buffer(kernel)
    assert (text_of(text), text.cut, text.checksum) == ("oldest\nold\nnewest\n", False, "")
    assert problems(text) == ["msgbufp: 4096 of 12288 bytes cannot be read (address 0x2000 is not mapped)"]


def test_text_that_was_changed(name: str):
    ring = head_of(name) - SIZE
    before = walkable(name).structs.read(ring, 1)[0]
    text = message_buffer(damaged(name, Patch(name).text(ring, bytes([before ^ 1]))))
    total = sum(TEXT.encode()) + (1 if before % 2 == 0 else -1)
    assert problems(text) == [
        (
            f"msgbufp: the checksum of the text is {total:#x}, msg_cksum is {sum(TEXT.encode()):#x}: "
            "changed by other means, or torn"
        )
    ]


def test_absurd_sequence_numbers(name: str):
    patch = Patch(name).member("msgbuf", head_of(name), "msg_wseq", 0xFFFFFFFF)
    patch.member("msgbuf", head_of(name), "msg_seqmod", 3)
    text = message_buffer(damaged(name, patch))
    assert len(text.data) == SIZE
    assert problems(text) == [
        f"msgbufp: msg_seqmod is 3, not 16 times the size {SIZE}",
        "msgbufp: msg_wseq 4294967295 is beyond the last sequence number",
    ]


# The console's buffer


def test_console_that_was_never_redirected():
    assert problems(console_buffer(walkable("15-arm64"))) == ["consmsgbuf: not in use: no console was redirected"]


def test_kernel_without_a_console_buffer(name: str):
    kernel = without_symbols(walkable(name), "consmsgbuf")
    assert problems(console_buffer(kernel)) == ["consmsgbuf: the kernel and its modules have no symbol consmsgbuf"]


def test_console_buffer(name: str):
    patch = Patch(name)
    place, ring = patch.room(256), patch.room(64)
    patch.text(ring, b"new\n\0\0\0\0old\n")
    for member, value in (("msg_ptr", ring), ("msg_magic", 0x63062), ("msg_size", 12), ("msg_wseq", 16)):
        patch.member("msgbuf", place, member, value)
    patch.member("msgbuf", place, "msg_seqmod", 192).member("msgbuf", place, "msg_cksum", sum(b"new\nold\n"))
    text = console_buffer(with_symbols(without_symbols(damaged(name, patch), "consmsgbuf"), {"consmsgbuf": place}))
    assert (text_of(text), text.checksum, text.problems) == ("old\nnew\n", "matches", ())


def test_console_buffer_that_is_wrong(name: str):
    patch = Patch(name)
    place = patch.room(256)
    patch.member("msgbuf", place, "msg_magic", 7)
    text = console_buffer(with_symbols(without_symbols(damaged(name, patch), "consmsgbuf"), {"consmsgbuf": place}))
    assert problems(text) == ["consmsgbuf: its magic number is 0x7, not 0x63062"]


# Lines


def lines_of(text: str, *, cut: bool = False) -> list[Line]:
    return list(lines(Text(text.encode(), "msgbufp", cut=cut)))


def test_boots():
    text = f"late\n---<<BOOT>>---\n{BANNER}a\n{BANNER}b\n"
    assert [(line.text[:9], line.boot, line.notes) for line in lines_of(text)] == [
        ("late", -2, ("of 2 boots before",)),
        ("---<<BOOT", -1, ("of the previous boot",)),
        ("Copyright", -1, ("of the previous boot",)),
        ("Copyright", -1, ("of the previous boot",)),
        ("a", -1, ("of the previous boot",)),
        ("Copyright", 0, ()),
        ("Copyright", 0, ()),
        ("b", 0, ()),
    ]


def test_banner_that_a_process_wrote_starts_no_boot():
    assert [line.boot for line in lines_of(f"a\n<118>{BANNER}b\n")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "priority", "uptime", "rest"),
    [
        ("<118>[12.345678] started", "console.info", 12_345_678_000, "started"),
        ("<5>[7] seven", "kern.notice", 7_000_000_000, "seven"),
        ("[0.000001] early", "", 1000, "early"),
        ("[12.3] no timestamp", "", None, "[12.3] no timestamp"),
        ("<x> no priority", "", None, "<x> no priority"),
        ("<6>", "kern.info", None, ""),
    ],
)
def test_what_is_in_front_of_a_line(text: str, priority: str, uptime: int | None, rest: str):
    (line,) = lines_of(text)
    assert (line.priority, line.uptime, line.text) == (priority, uptime, rest)


@pytest.mark.parametrize(
    ("number", "name_"),
    [(0, "kern.emerg"), (13, "user.notice"), (118, "console.info"), (191, "local7.debug"), (9999, "1249.debug")],
)
def test_priorities(number: int, name_: str):
    assert priority_name(number) == name_


def test_endless_line():
    (line,) = lines_of("x" * 10_000)
    assert (len(line.text), line.notes) == (8192, ("1808 more characters",))


def test_carriage_returns_and_broken_utf8():
    found = list(lines(Text(b"a\r\n\xff\xfe\n", "msgbufp")))
    assert [line.text for line in found] == ["a", "\ufffd\ufffd"]


@given(st.binary(max_size=300))
def test_any_bytes_are_shown(data: bytes):
    text = message_buffer(ring_only(data))
    assert sorted(text.data) == sorted(data.replace(b"\0", b"")) or not data.strip(b"\0")
    assert len(list(lines(text))) <= text.data.count(b"\n") + 1
