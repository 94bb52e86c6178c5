"""What plugins show of processes' memory in full dumps and images of memory, compared with the description."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.framework import interfaces

from tests import framework
from tests.bsd.process_truth import IN_ORDER, PROCESSES, address_of, credentials_of
from tests.bsd.test_user_memory import expected_pages
from tests.bsd.vm_expectations import PAGE, expected
from tests.scenario.kernels import build_world
from tests.scenario.processes import HEAP
from tests.scenario.user_memory import address, has_memory
from tests.scenario_dumps import write_dump, write_symbol_file
from volatility3_freebsd_kvm.bsd.user_pages import State

KERNELS = ("12.1-amd64", "12.1-i386", "13.0-amd64", "14-riscv", "15-amd64", "15-arm64", "15-i386", "15-arm")
RAW = ("15-amd64", "15-arm64", "14-riscv", "15-i386")
PSAUX, ENVARS, MAPS = "freebsd.psaux.PsAux", "freebsd.envars.Envars", "freebsd.proc_maps.Maps"
CSH = 850

Row = dict[str, Any]


class Files(NamedTuple):
    """A full dump or an image of the scenario, and its kernel."""

    name: str
    dump: Path
    kernel: Path

    def rows(self, plugin: str, **options: Any) -> list[Row]:
        return framework.table(self.dump, plugin, kernel=self.kernel, **options)

    def saved(self, **options: Any) -> tuple[list[Row], dict[str, bytes]]:
        return saved(self.dump, self.kernel, **options)

    def at(self, va: int) -> int:
        return address(va, build_world(self.name).memory.machine.word_bits)


def saved(dump: Path, kernel: Path, **options: Any) -> tuple[list[Row], dict[str, bytes]]:
    """The rows of proc_maps --dump, and the files that it saved."""
    found: dict[str, bytes] = {}

    class Handler(io.BytesIO, interfaces.plugins.FileHandlerInterface):  # type: ignore[misc]
        def __init__(self, filename: str) -> None:
            io.BytesIO.__init__(self)
            interfaces.plugins.FileHandlerInterface.__init__(self, filename)

        def close(self) -> None:
            if not self.closed:
                found[self.preferred_filename] = self.getvalue()
            super().close()

    plugin = framework.stack(dump, MAPS, kernel=kernel, dump=True, **options).plugin
    plugin.set_open_method(Handler)
    return framework.rows_of(plugin), found


@pytest.fixture(scope="module", params=[*KERNELS, *(f"{name} raw" for name in RAW)])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    name, _, raw = request.param.partition(" ")
    directory = tmp_path_factory.mktemp("scenario")
    if not raw:
        return Files(name, *write_dump(name, directory, "full"))
    (directory / "memory.img").write_bytes(build_world(name).memory.raw_image())
    return Files(name, directory / "memory.img", write_symbol_file(name, directory))


def test_psaux(files: Files) -> None:
    rows = files.rows(PSAUX)
    assert [row["PID"] for row in rows] == IN_ORDER
    for row in rows:
        process = PROCESSES[row["PID"]]
        arguments = process.args if has_memory(process) else (f"[{process.comm}]",)
        source = "p_args" if process.args and process.args_cached else "user stack" if has_memory(process) else None
        assert row == {
            "PID": process.pid,
            "EUID": credentials_of(process).uid,
            "Command": process.comm,
            "Arguments": " ".join(arguments or ()),
            "Source": source,
            "Offset": address_of(files.name, "proc", process.pid),
            "Notes": "",
        }


def test_envars(files: Files) -> None:
    wanted = []
    for process in (PROCESSES[pid] for pid in IN_ORDER):
        variables = [text.split("=") for text in process.environment]
        rows = [(name, value, "") for name, value in variables] or [(None, None, "its environment is empty")]
        wanted += [(process.pid, process.comm, *row) for row in rows] if has_memory(process) else []
    found = [(row["PID"], row["Command"], row["Name"], row["Value"], row["Notes"]) for row in files.rows(ENVARS)]
    assert found == wanted


def test_proc_maps_saves_what_is_there(files: Files) -> None:
    rows, contents = files.saved(pid=[CSH])
    pages = expected_pages(files.name, PROCESSES[CSH])
    truth = expected(files.name, PROCESSES[CSH])
    assert [(row["Start"], row["End"]) for row in rows] == [(entry.start, entry.end) for entry in truth]
    for row, entry in zip(rows, truth, strict=True):
        start, end = row["Start"], row["End"]
        inside = [pages[va] for va in range(start, end, PAGE)]
        name = f"pid.{CSH}.{start:#x}-{end:#x}.dmp"
        if any(page.state is State.PRESENT for page in inside):
            assert row["File"] == name
            assert contents.pop(name) == b"".join(page.content or bytes(PAGE) for page in inside)
        else:
            assert row["File"] is None
        notes = missing_of(inside)
        assert row["Notes"] == ", ".join([*entry.notes, *notes])
    assert contents == {}


def missing_of(pages: list[Any]) -> list[str]:
    counted = {state: sum(page.state is state for page in pages) for state in State}
    total = len(pages) - counted.pop(State.PRESENT)
    why = ", ".join(f"{count} {state.value}" for state, count in counted.items() if count)
    return [f"{total} of {len(pages)} pages are missing: {why}"] if total and not counted[State.GUARD] else []


def test_proc_maps_saves_only_what_is_asked_for(files: Files) -> None:
    heap = files.at(HEAP)
    rows, contents = files.saved(pid=[CSH], address=[heap + 0x1234, 0x1000])
    name = f"pid.{CSH}.{heap:#x}-{heap + 4 * PAGE:#x}.dmp"
    assert [(row["Start"], row["File"], row["Notes"]) for row in rows] == [
        (heap, name, "1 of 4 pages are missing: 1 swapped out")
    ]
    assert list(contents) == [name]
    assert [row["Start"] for row in files.rows(MAPS, pid=[CSH], address=[heap + 4 * PAGE - 1])] == [heap]


def test_proc_maps_saves_nothing_too_large(files: Files) -> None:
    rows, contents = files.saved(pid=[CSH], maxsize=2 * PAGE)
    sizes = {row["File"]: row["End"] - row["Start"] for row in rows if row["File"]}
    assert set(sizes) == set(contents)
    assert max(sizes.values()) == 2 * PAGE
    heap = next(row for row in rows if row["Start"] == files.at(HEAP))
    assert heap["File"] is None
    assert heap["Notes"] == (
        "1 of 4 pages are missing: 1 swapped out, its 0x4000 bytes are more than --maxsize and were not saved"
    )


def test_proc_maps_without_dump_has_no_file_column(files: Files) -> None:
    rows = files.rows(MAPS, pid=[CSH])
    assert "File" not in rows[0]
    assert [row["Notes"] for row in rows] == [", ".join(one.notes) for one in expected(files.name, PROCESSES[CSH])]


def test_proc_maps_cannot_save_from_a_minidump(tmp_path: Path) -> None:
    rows, contents = saved(*write_dump("15-amd64", tmp_path), pid=[CSH])
    assert contents == {}
    assert {row["File"] for row in rows} == {None}
    assert rows[0]["Notes"] == "its memory is not dumped: minidumps have no user pages"


def test_a_file_that_cannot_be_written_ends_the_walk(files: Files) -> None:
    class Full(io.BytesIO, interfaces.plugins.FileHandlerInterface):  # type: ignore[misc]
        def __init__(self, filename: str) -> None:
            io.BytesIO.__init__(self)
            interfaces.plugins.FileHandlerInterface.__init__(self, filename)

        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    plugin = framework.stack(files.dump, MAPS, kernel=files.kernel, dump=True, pid=[CSH]).plugin
    plugin.set_open_method(Full)
    (row,) = framework.rows_of(plugin)
    name = "pid.850.0x200000-0x204000.dmp"
    assert row["Notes"] == f"the walk: ended because {name} cannot be written: No space left on device"
