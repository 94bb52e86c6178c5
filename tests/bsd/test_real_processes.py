"""Processes and threads of the real dumps, whose kernels tell no types but a few offsets; LLDB lists the same ones.

They are sparse recordings: most of the list was left out, and the links back still show it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import RealFile
from tests.framework import table

PSLIST, THREADS = "freebsd.pslist.PsList", "freebsd.threads.Threads"


class Real(NamedTuple):
    """What is in a dump: ``(pid, command)``, ``(pid, tid, name, cpu)`` of the crash, and the CPUs whose idle threads
    do not run."""

    dump: str
    kernel: str
    processes: list[tuple[int, str]]
    crash: tuple[int, int, str, int]
    others: list[tuple[int, int, str, int | None]]
    idle: int
    not_idling: set[int]


REALS = [
    Real(
        "vmcore-amd64-minidump",
        "kernel-amd64.elf",
        [(800, "sysctl"), (28, "pagedaemon"), (11, "idle")],
        (800, 100670, "sysctl", 10),
        [(28, 100210, "dom0", 4), (28, 100214, "laundry: dom0", None), (28, 100215, "uma", None)],
        12,
        {4, 10},
    ),
    Real(
        "vmcore-amd64-full",
        "kernel-amd64.elf",
        [(806, "sysctl"), (11, "idle")],
        (806, 100659, "sysctl", 9),
        [],
        12,
        {9},
    ),
    Real(
        "vmcore-arm64-minidump",
        "kernel-arm64.elf",
        [(939, "sysctl"), (21, "syncer"), (11, "idle")],
        (939, 100137, "sysctl", 2),
        [(21, 100081, "syncer", 6)],
        8,
        {2, 6},
    ),
    Real(
        "vmcore-i386-minidump",
        "kernel-i386.elf",
        [(806, "sysctl"), (11, "idle")],
        (806, 100673, "sysctl", 11),
        [],
        12,
        {11},
    ),
]


@pytest.fixture(scope="module", params=REALS, ids=lambda real: real.dump)
def real(request: pytest.FixtureRequest) -> Real:
    return request.param


@pytest.fixture(scope="module")
def files(real: Real, real_file: RealFile) -> tuple[Path, Path]:
    return real_file(real.dump), real_file(real.kernel)


def rows(files: tuple[Path, Path], plugin: str, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of processes or threads, and the notes of the other ones."""
    found = table(files[0], plugin, kernel=files[1], **options)
    return [row for row in found if row["PID"] is not None], [row["Notes"] for row in found if row["PID"] is None]


def test_processes(real: Real, files: tuple[Path, Path]) -> None:
    found, problems = rows(files, PSLIST)
    assert [(row["PID"], row["Command"]) for row in found] == real.processes
    assert all(row["Offset"] and row["PPID"] is None and row["State"] is None for row in found)
    # A link back for each process that was left out.
    assert len(problems) == len(real.processes) - 1
    assert all(note.startswith("allproc: the link back of ") for note in problems)


def test_threads(real: Real, files: tuple[Path, Path]) -> None:
    found, _ = rows(files, THREADS)
    idle = [(11, 100003 + cpu, f"idle: cpu{cpu}", None if cpu in real.not_idling else cpu) for cpu in range(real.idle)]
    expected = [real.crash, *real.others, *idle]
    assert [(row["PID"], row["TID"], row["Name"], row["CPU"]) for row in found] == expected
    assert [row["Name"] for row in found if "dumptid" in row["Notes"]] == ["sysctl"]
    assert all(row["PCB"] and row["State"] is None for row in found)


def test_how_many_threads_there_are(files: tuple[Path, Path], real: Real) -> None:
    counts = {"amd64-minidump": 16, "amd64-full": 13, "arm64-minidump": 10, "i386-minidump": 13}
    assert len(rows(files, THREADS)[0]) == counts[real.dump.removeprefix("vmcore-")]


def test_one_process(real: Real, files: tuple[Path, Path]) -> None:
    found, _ = rows(files, THREADS, pid=[real.processes[0][0]])
    assert [(row["PID"], row["TID"], row["Name"], row["CPU"]) for row in found] == [real.crash]


def test_what_needs_types_says_so(real: Real, files: tuple[Path, Path]) -> None:
    found, problems = rows(files, "freebsd.creds.Creds")
    assert [row["PID"] for row in found] == [pid for pid, _ in real.processes]
    assert {row["EUID"] for row in found} == {None}
    assert problems[0].startswith("credentials: the types of this kernel lack proc.p_ucred")
    found, problems = rows(files, "freebsd.psaux.PsAux")
    assert {row["Arguments"] for row in found} == {None}
    assert problems[0].startswith("arguments: the types of this kernel lack proc.p_args, pargs.ar_args")


def test_views_that_there_are(real: Real, files: tuple[Path, Path]) -> None:
    found, _ = rows(files, "freebsd.psxview.PsXView")
    assert [(row["PID"], row["allproc"], row["Children"], row["Threads"]) for row in found] == [
        (pid, True, None, None) for pid, _ in real.processes
    ]


def test_a_tree_without_parents_is_flat(real: Real, files: tuple[Path, Path]) -> None:
    found, _ = rows(files, "freebsd.pstree.PsTree")
    assert [row["PID"] for row in found] == [pid for pid, _ in reversed(real.processes)]
