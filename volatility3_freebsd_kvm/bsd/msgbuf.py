"""The kernel's message buffer: what dmesg(8) shows, and where its lines are from.

# Reference: sys/sys/msgbuf.h (struct msgbuf), sys/kern/subr_msgbuf.c, sys/sys/syslog.h
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from ..exceptions import AddressError, SymbolError
from .clock import NANO
from .kernel import Kernel
from .records import Problem

ByteOrder = Literal["little", "big"]

MSG_MAGIC = 0x063062
MAX_SIZE = 64 << 20
MAX_LINE = 8192
SEQUENCES = 16
"""Sequence numbers count modulo 16 times the size (MSGBUF_SEQNORM)."""
_FIELDS = ("magic", "size", "wseq", "rseq", "cksum", "seqmod")
_PIECE = 4096
_PRIORITY = re.compile(r"<(\d{1,4})>")
_TIMESTAMP = re.compile(r"\[(\d{1,12})(?:\.(\d{6}))?\] ")
_BOOT_TAG = "---<<BOOT>>---"
_COPYRIGHT = re.compile(r"Copyright \(c\) 1992-\d{4} The FreeBSD Project")
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp"),
    *("security", "console", "", *(f"local{number}" for number in range(8))),
)


@dataclass(frozen=True)
class Head:
    """A ``struct msgbuf``; it has looked the same since 8.0.

    Attributes:
        address: where it is; 0 for the copy behind the ring in a minidump's header.
        pointer: where the ring is.
        magic, size, wseq, rseq, cksum, seqmod: its members; sizes in bytes.
    """

    address: int
    pointer: int
    magic: int
    size: int
    wseq: int
    rseq: int
    cksum: int
    seqmod: int

    @property
    def problem(self) -> str:
        """What is wrong with it, if anything: one clause."""
        if self.magic != MSG_MAGIC:
            return f"its magic number is {self.magic:#x}, not {MSG_MAGIC:#x}"
        if not 0 < self.size <= MAX_SIZE:
            return f"a size of {self.size} bytes is impossible"
        return ""


@dataclass(frozen=True)
class Text:
    """The text of a message buffer, the oldest first.

    Attributes:
        data: the bytes, without what was never written.
        source: where they are from: ``msgbufp``, ``consmsgbuf``, ``minidump header``.
        cut: whether older text was overwritten, so that the first line may lack its start.
        checksum: ``matches`` or what is wrong, one clause; empty if there is none.
        problems: what was irregular.
    """

    data: bytes
    source: str
    cut: bool = False
    checksum: str = ""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of the message buffer.

    Attributes:
        number: counted from 1.
        text: without its priority and timestamp.
        priority: ``console.info``, by the ``<118>`` that log(9) puts first; empty for printf(9).
        uptime: of ``kern.msgbuf_show_timestamp``, in nanoseconds, if there is one.
        boot: 0 for the boot that ended in this dump, -1 for the one before, ...
        notes: what is odd.
    """

    number: int
    text: str
    priority: str = ""
    uptime: int | None = None
    boot: int = 0
    notes: tuple[str, ...] = ()


# The buffer


def message_buffer(kernel: Kernel) -> Text:
    """The text of ``msgbufp``, or of the minidump's header where that cannot be found or is wrong."""
    try:
        head = read_head(kernel, int(kernel.pointer("msgbufp")))
    except (SymbolError, AddressError) as error:
        return _header_text(kernel, str(error))
    if head.problem:
        return _header_text(kernel, head.problem)
    return _text_of(kernel, head, "msgbufp")


def console_buffer(kernel: Kernel) -> Text:
    """The text of ``consmsgbuf``: what was written to a redirected console (TIOCCONS).

    The text is empty and has a problem if there is no such buffer.
    """
    name = "consmsgbuf"
    try:
        head = read_head(kernel, kernel.address(name))
    except (SymbolError, AddressError) as error:
        return Text(b"", name, problems=(Problem(name, str(error)),))
    if not head.magic and not head.pointer:
        return Text(b"", name, problems=(Problem(name, "not in use: no console was redirected"),))
    if head.problem:
        return Text(b"", name, problems=(Problem(name, head.problem, head.address),))
    return _text_of(kernel, head, name)


def read_head(kernel: Kernel, address: int) -> Head:
    """The ``struct msgbuf`` at an address; its types need not be known.

    Raises:
        AddressError: it cannot be read.
    """
    structs = kernel.structs
    data = structs.read(address, structs.word_size + 4 * len(_FIELDS))
    return _parse_head(data, structs.word_size, structs.byteorder, address)


def _parse_head(data: bytes, word: int, byteorder: ByteOrder, address: int = 0) -> Head:
    numbers = (int.from_bytes(data[at : at + 4], byteorder) for at in range(word, word + 4 * len(_FIELDS), 4))
    return Head(address, int.from_bytes(data[:word], byteorder), *numbers)


def _text_of(kernel: Kernel, head: Head, source: str) -> Text:
    """The ring in memory; the minidump's copy stands in for pages that are missing."""
    problems = list(_odd(head, source))
    ring, missing = _read_ring(kernel, head.pointer, head.size)
    copy = kernel.message_buffer if source == "msgbufp" else b""
    if missing and len(copy) >= head.size:
        problems.append(Problem(source, f"{missing}: the copy in the minidump's header is shown", head.pointer))
        ring, missing = copy[: head.size], ""
    if missing:
        problems.append(Problem(source, missing, head.pointer))
    checksum = "" if missing else _checksum(ring, head)
    if checksum not in ("", "matches"):
        problems.append(Problem(source, checksum, head.address))
    return replace(_ordered(ring, head.wseq, source), checksum=checksum, problems=tuple(problems))


def _odd(head: Head, source: str) -> Iterator[Problem]:
    if head.seqmod != SEQUENCES * head.size:
        yield Problem(source, f"msg_seqmod is {head.seqmod}, not {SEQUENCES} times the size {head.size}", head.address)
    if head.wseq >= SEQUENCES * head.size:
        yield Problem(source, f"msg_wseq {head.wseq} is beyond the last sequence number", head.address)


def _read_ring(kernel: Kernel, start: int, size: int) -> tuple[bytes, str]:
    """``(bytes, problem)``: what cannot be read is NUL."""
    try:
        return kernel.structs.read(start, size), ""
    except AddressError:
        pass
    ring, problem, lost = bytearray(size), "", 0
    at = 0
    while at < size:
        length = min(size - at, _PIECE - (start + at) % _PIECE)
        try:
            ring[at : at + length] = kernel.structs.read(start + at, length)
        except AddressError as error:
            problem = problem or str(error)
            lost += length
        at += length
    return bytes(ring), f"{lost} of {size} bytes cannot be read ({problem})"


def _checksum(ring: bytes, head: Head) -> str:
    total = sum(ring) & 0xFFFFFFFF
    if total == head.cksum:
        return "matches"
    return f"the checksum of the text is {total:#x}, msg_cksum is {head.cksum:#x}: changed by other means, or torn"


def _ordered(ring: bytes, written: int, source: str) -> Text:
    start = written % len(ring)
    data = (ring[start:] + ring[:start]).replace(b"\0", b"")
    return Text(data, source, cut=len(data) == len(ring))


def file_text(data: bytes, problems: tuple[Problem, ...] = ()) -> Text:
    """The text of ``msgbuf.txt``: a message buffer that the kernel has put in order already."""
    return Text(data.replace(b"\0", b""), "msgbuf.txt", problems=problems)


# Without the structure: the ring in a minidump's header


def _header_text(kernel: Kernel, reason: str) -> Text:
    return ring_text(kernel.message_buffer, kernel.structs.word_size, kernel.structs.byteorder, reason)


def ring_text(ring: bytes, word_size: int, byteorder: ByteOrder, reason: str) -> Text:
    """The text of a ring without its indexes, ordered as well as can be.

    Args:
        ring: the copy in a minidump's header, with the rest of its last page.
        word_size: of the kernel, in bytes.
        byteorder: of the kernel.
        reason: why the ring in memory is not shown.
    """
    source = "minidump header"
    if not ring.strip(b"\0"):
        where = "the minidump's header holds no text either" if ring else "the dump's header has no copy"
        return Text(b"", source, problems=(Problem("msgbufp", f"{reason}; {where}"),))
    head = _head_behind(ring, word_size, byteorder)
    if head:
        text = replace(_ordered(ring[: head.size], head.wseq, source), checksum=_checksum(ring[: head.size], head))
        how = "in the order that the copy of its structure tells"
    else:
        start, how = _start_by_text(ring)
        text = _ordered(ring, start, source)
    problem = Problem("msgbufp", f"{reason}; the copy in the minidump's header is shown, {how}")
    return replace(text, problems=(problem,))


def _head_behind(ring: bytes, word: int, byteorder: ByteOrder) -> Head | None:
    """The structure behind the ring (`msgbufinit`): there if the ring is given with the rest of its last page."""
    magic = MSG_MAGIC.to_bytes(4, byteorder)
    at = ring.rfind(magic) - word
    if at <= 0 or len(ring) < at + word + 4 * len(_FIELDS):
        return None
    head = _parse_head(ring[at:], word, byteorder)
    return head if head.size == at and not head.problem else None


def _start_by_text(ring: bytes) -> tuple[int, str]:
    """``(start, how)``: behind the newest timestamp, else behind the NULs, else as stored."""
    stamps = [(found.start(), int(found[1])) for found in re.finditer(rb"(?m)^(?:<\d{1,4}>)?\[(\d{1,12})[.\]]", ring)]
    for (_, before), (place, after) in pairwise(stamps):
        if after < before:
            return place, "from behind its newest timestamp on"
    gap = re.search(rb"\0+", ring)
    if gap:
        return gap.end() % len(ring), "from the gap in it on"
    return 0, "as it is stored: what is at its start may be newer than what is at its end"


# Lines


def lines(text: Text) -> Iterator[Line]:
    """The lines, those of earlier boots marked."""
    pieces = text.data.decode("utf-8", "replace").replace("\r", "").split("\n")
    if not pieces[-1]:
        pieces.pop()
    found = [_line(number, piece) for number, piece in enumerate(pieces, 1)]
    boots = _boots(found)
    for line, boot in zip(found, boots, strict=True):
        notes = list(line.notes)
        if line.number == 1 and text.cut:
            notes.append("its start may have been overwritten")
        if boot < 0:
            notes.append("of the previous boot" if boot == -1 else f"of {-boot} boots before")
        yield replace(line, boot=boot, notes=tuple(notes))


def _line(number: int, text: str) -> Line:
    priority, uptime, notes = "", None, []
    if found := _PRIORITY.match(text):
        priority, text = priority_name(int(found[1])), text[found.end() :]
    if found := _TIMESTAMP.match(text):
        uptime = int(found[1]) * NANO + int(found[2] or 0) * 1000
        text = text[found.end() :]
    if len(text) > MAX_LINE:
        notes.append(f"{len(text) - MAX_LINE} more characters")
        text = text[:MAX_LINE]
    return Line(number, text, priority, uptime, notes=tuple(notes))


def priority_name(number: int) -> str:
    """``console.info`` for 118, as syslog.conf(5) writes it; what has no name stays a number."""
    facility = number >> 3
    name = _FACILITIES[facility] if facility < len(_FACILITIES) else ""
    return f"{name or facility}.{_LEVELS[number & 7]}"


def _boots(found: list[Line]) -> list[int]:
    """For each line how many boots ago it was: only the kernel itself says how it starts, so without a priority."""
    starts = set()
    for index, line in enumerate(found):
        if line.priority or not _COPYRIGHT.match(line.text):
            continue
        tagged = index and not found[index - 1].priority and found[index - 1].text == _BOOT_TAG
        starts.add(index - 1 if tagged else index)
    boots, boot = [], -len(starts)
    for index in range(len(found)):
        boot += index in starts
        boots.append(boot)
    return boots
