"""From records to tables: absent values, problems as rows, and nothing in them that steers a terminal."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from volatility3.cli import text_renderer
from volatility3.framework import interfaces, renderers
from volatility3.framework.renderers import format_hints

from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.exceptions import FormatError, NotMappedError, SymbolError
from volatility3_freebsd_kvm.output import Hex, cell, clean, grid, problem_row, rows, save
from volatility3_freebsd_kvm.text import printable

COLUMNS = [("PID", int), ("Address", Hex), ("Name", str), ("Notes", str)]


@dataclass(frozen=True)
class Record:
    pid: int
    name: str = "sh"


def values(record: Record) -> tuple[object, ...]:
    if record.pid < 0:
        raise SymbolError("the types of this kernel have no member p_pid")
    return (record.pid, 0x1000 + record.pid, record.name, ())


def rendered(*records: Record | Problem) -> list[dict[str, Any]]:
    """As -r json has them."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        text_renderer.JsonRenderer().render(grid(COLUMNS, records, values))
    return json.loads(output.getvalue())


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (5, int, 5),
        (True, int, 1),
        (5, Hex, format_hints.Hex(5)),
        ("text", str, "text"),
        (5, str, "5"),
        ((), str, ""),
        ((1, "two"), str, "1, two"),
        (["a"], str, "a"),
        ("one\ntwo\x1b[2J\ttab", str, "one\\x0atwo\\x1b[2J\\x09tab"),
        (("one\n", "two"), str, "one\\x0a, two"),
        (0, bool, False),
    ],
)
def test_values_in_columns(value: object, kind: type, expected: object) -> None:
    found = cell(value, kind)
    assert found == expected
    assert type(found) is kind


def test_times_stay_as_they_are() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    assert cell(now, datetime.datetime) is now


@pytest.mark.parametrize("kind", [int, str, Hex, bool, datetime.datetime])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, renderers.NotAvailableValue),
        (Absent.NOT_AVAILABLE, renderers.NotAvailableValue),
        (Absent.UNREADABLE, renderers.UnreadableValue),
        (Absent.NOT_APPLICABLE, renderers.NotApplicableValue),
        (renderers.UnparsableValue(), renderers.UnparsableValue),
    ],
)
def test_each_absence_has_a_value_of_the_framework(value: object, expected: type, kind: type) -> None:
    assert type(cell(value, kind)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain text", "plain text"),
        ("größe ✓", "größe ✓"),
        ("\x00\x07\x7f\x9b", "\\x00\\x07\\x7f\\x9b"),
        ("a\u202eb\u2028c", "a\\x202eb\\x2028c"),
        ("\ufffd", "\ufffd"),
    ],
)
def test_text_without_what_steers_a_terminal(text: str, expected: str) -> None:
    assert clean(text) == printable(text) == expected
    assert clean(text).isprintable()


def test_records_are_rows() -> None:
    assert rendered(Record(1, "init"), Record(2, "a\nb")) == [
        {"PID": 1, "Address": 0x1001, "Name": "init", "Notes": "", "__children": []},
        {"PID": 2, "Address": 0x1002, "Name": "a\\x0ab", "Notes": "", "__children": []},
    ]


def test_problems_are_rows_and_warnings(caplog: pytest.LogCaptureFixture) -> None:
    found = rendered(Record(1), Problem("allproc\x1b", "loops back to 0x10 after 1 elements", 0x10), Record(2))
    assert [one["PID"] for one in found] == [1, None, 2]
    assert found[1] == {
        "PID": None,
        "Address": None,
        "Name": None,
        "Notes": "allproc\\x1b: loops back to 0x10 after 1 elements",
        "__children": [],
    }
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.WARNING, "allproc\\x1b: loops back to 0x10 after 1 elements")
    ]
    row = problem_row(COLUMNS, Problem("here", "something"))
    assert [type(one) for one in row[:3]] == [renderers.NotApplicableValue] * 3
    assert row[3] == "here: something"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotMappedError(0x10), "the walk: ended because address 0x10 is not mapped"),
        (SymbolError("there is no symbol allproc"), "the walk: ended because there is no symbol allproc"),
        (FormatError("the table is damaged"), "the walk: ended because the table is damaged"),
    ],
)
def test_an_error_ends_a_walk_with_a_row(error: Exception, text: str) -> None:
    def walk() -> Iterator[Record | Problem]:
        yield Record(1)
        raise error

    found = list(rows(COLUMNS, walk(), values))
    assert [row[0] for row in found[:1]] == [1]
    assert [row[3] for row in found] == ["", text]


def test_an_error_of_one_row_costs_that_row() -> None:
    found = rendered(Record(1), Record(-1), Record(2))
    assert [one["PID"] for one in found] == [1, None, 2]
    assert found[1]["Notes"] == "a row: cannot be shown because the types of this kernel have no member p_pid"


def test_errors_of_the_program_are_not_hidden() -> None:
    def walk() -> Iterator[Record | Problem]:
        yield Record(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(rows(COLUMNS, walk(), values))
    with pytest.raises(ValueError, match="zip"):
        list(rows(COLUMNS, [Record(1)], lambda record: (record.pid,)))


def test_rows_come_as_the_walk_goes() -> None:
    """Who shows the first rows does not wait for the last."""
    seen = []

    def walk() -> Iterator[Record]:
        for pid in range(3):
            seen.append(pid)
            yield Record(pid)

    assert next(rows(COLUMNS, walk(), values))[0] == 0
    assert seen == [0]


# --- files ----------------------------------------------------------------------------------------------------------


class Saved(io.BytesIO, interfaces.plugins.FileHandlerInterface):  # type: ignore[misc]
    """Keeps what was written; the framework's own may or may not seek."""

    can_seek = True
    content = b""

    def __init__(self, filename: str) -> None:
        io.BytesIO.__init__(self)
        interfaces.plugins.FileHandlerInterface.__init__(self, filename)

    def seekable(self) -> bool:
        return self.can_seek

    def seek(self, *where: int) -> int:
        if not self.can_seek:
            raise io.UnsupportedOperation("seek")
        return super().seek(*where)

    def close(self) -> None:
        if not self.closed:
            type(self).content = self.getvalue()
            self.preferred_filename = f"final-{self.preferred_filename}"
        super().close()


class Stream(Saved):
    can_seek = False


@pytest.mark.parametrize("handler", [Saved, Stream])
@pytest.mark.parametrize(
    ("size", "pieces", "content"),
    [
        (6, [(0, b"abcdef")], b"abcdef"),
        (6, [(1, b"b"), (4, b"ef")], b"\0b\0\0ef"),
        (5, [(0, b"a"), (3, b"d")], b"a\0\0d\0"),
        (4, [(1, b"b")], b"\0b\0\0"),
        (3, [], b"\0\0\0"),
        (1, [], b"\0"),
        (0, [], b""),
        (3 << 20, [((2 << 20) + 1, b"x")], bytes((2 << 20) + 1) + b"x" + bytes((1 << 20) - 2)),
    ],
)
def test_files_have_zeros_where_nothing_is(
    handler: type[Saved], size: int, pieces: list[tuple[int, bytes]], content: bytes
) -> None:
    assert save(handler, "name", size, pieces) == "final-name"
    assert handler.content == content
