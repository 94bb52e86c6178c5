"""Text dumps, which hold files and no memory, and the message buffers that can be had without a kernel."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from volatility3.framework import exceptions

from tests.forms import sample_of, save, small_dump
from tests.framework import INFO, plugin_classes, rebuild, rows_of, stack, table, variables
from tests.kvm.packed import TEXT_FILES, text_archive, text_partition
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.layers.stack import text_dump_of

DMESG = "freebsd.dmesg.Dmesg"
ADVICE = "freebsd.kvm.info lists them, freebsd.dmesg shows msgbuf.txt"


@pytest.mark.parametrize("name", ["textdump.tar.0", "textdump.tar.0.gz", "ada0p2"])
def test_rows_of_a_text_dump(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    archive = text_archive()
    data = {"textdump.tar.0": archive, "textdump.tar.0.gz": gzip.compress(archive), "ada0p2": text_partition(archive)}
    path = save(tmp_path, name, data[name])
    rows = table(path, INFO)
    assert variables(rows, "Format", "File", "Layers") == [
        ("Format", "text dump"),
        *(("File", f"{file}, {len(content)} bytes") for file, content in TEXT_FILES.items()),
        ("Layers", "primary (FileLayer)"),
    ]
    if name == "ada0p2":
        expected = [("Dump host", "example"), ("Panic", "example panic"), ("Dump parity", "ok")]
    else:
        expected = [("Dump kernel", "FreeBSD 15.0-RELEASE GENERIC"), ("Panic", "sysctl debug.kdb.panic")]
    wanted = [variable for variable, _ in expected]
    assert variables(rows, *wanted) == expected
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    files = "ddb.txt, config.txt, msgbuf.txt, panic.txt, version.txt"
    assert said == [f"{path} is a text dump, which holds no memory, but {files}; {ADVICE}"]


def test_the_message_buffer_of_a_text_dump(tmp_path: Path):
    made = stack(save(tmp_path, "textdump.tar.0", text_archive()))
    text = text_dump_of(made.context, made.layers[0].name)
    assert text is not None
    assert text.read("msgbuf.txt").startswith(b"Copyright (c) 1992-2025")
    plain = stack(save(tmp_path, "vmcore.0", small_dump()))
    assert text_dump_of(plain.context, plain.layers[0].name) is None
    other = stack(save(tmp_path, "letter", b"Dear diary"))
    assert text_dump_of(other.context, other.layers[0].name) is None


# --- freebsd.dmesg ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"timestamps": True}])
@pytest.mark.parametrize("name", ["textdump.tar.0", "textdump.tar.0.gz", "ada0p2"])
def test_dmesg_shows_msgbuf_txt(name: str, options: dict[str, bool], tmp_path: Path):
    archive = text_archive({**TEXT_FILES, "msgbuf.txt": b"<118>[12.5]\x1b[1m\n<6>[3.000250] done\n"})
    data = {"textdump.tar.0": archive, "textdump.tar.0.gz": gzip.compress(archive), "ada0p2": text_partition(archive)}
    rows = table(save(tmp_path, name, data[name]), DMESG, **options)
    times = [{"Uptime": None, "Time": None}, {"Uptime": "3.000250", "Time": None}] if options else [{}, {}]
    assert rows == [
        {"Sequence": 1, "Priority": "console.info", "Line": "[12.5]\\x1b[1m", "Notes": "", **times[0]},
        {"Sequence": 2, "Priority": "kern.info", "Line": "done", "Notes": "", **times[1]},
    ]


def problems(rows: list[dict[str, Any]]) -> list[str]:
    """The notes of rows that have nothing else."""
    return [row["Notes"] for row in rows if {value for name, value in row.items() if name != "Notes"} == {None}]


def test_dmesg_again_from_a_saved_configuration(tmp_path: Path):
    made = stack(save(tmp_path, "textdump.tar.0.gz", gzip.compress(text_archive())), DMESG, timestamps=True)
    again = rebuild(made.saved_configuration(), DMESG)
    assert rows_of(again.plugin) == rows_of(made.plugin)
    assert len(rows_of(again.plugin)) == 2


def test_dmesg_of_a_text_dump_that_is_cut_off(tmp_path: Path):
    archive = text_archive()
    start = archive.index(TEXT_FILES["msgbuf.txt"])
    rows = table(save(tmp_path, "textdump.tar.0", archive[: start + 20]), DMESG)
    assert problems(rows) == ["text dump: the archive is cut off within msgbuf.txt"]
    assert rows[1]["Line"] == "Copyright (c) 1992-2"


def test_dmesg_of_a_text_dump_without_msgbuf_txt(tmp_path: Path):
    files = {name: data for name, data in TEXT_FILES.items() if name.startswith("d")}
    rows = table(save(tmp_path, "textdump.tar.0", text_archive(files)), DMESG)
    assert problems(rows) == ["text dump: holds no msgbuf.txt, but ddb.txt"]
    assert len(rows) == 1


def test_there_is_no_other_console_in_a_text_dump(tmp_path: Path):
    rows = table(save(tmp_path, "textdump.tar.0", text_archive()), DMESG, console=True)
    assert problems(rows) == ["consmsgbuf: there is no kernel to look for it in"]


@pytest.mark.parametrize("kernel", ["15-amd64", "15-i386", "15-powerpc64"])
def test_dmesg_of_a_minidump_whose_kernel_is_not_known(kernel: str, tmp_path: Path):
    """Nothing but the headers: there is a copy of the buffer among them."""
    data = sample_of(kernel).data
    with kvm.open(data) as dump:
        assert isinstance(dump, kvm.Minidump)
        path = save(tmp_path, "vmcore.0", data[: dump.header.pages_off + dump.page_size])
        text = dump.message_buffer.decode()
    rows = table(path, DMESG)
    (problem,) = problems(rows)
    assert problem.startswith("msgbufp: the kernel's symbols are missing; the copy in the minidump's header is shown, ")
    assert [row["Line"] for row in rows[2:-1]] == [line.split(">")[-1] for line in text.split("\n")[1:-1]]


# --- all others ------------------------------------------------------------------------------------------------------


def test_every_other_plugin_says_that_there_is_no_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = save(tmp_path, "textdump.tar.0", text_archive())
    files = "ddb.txt, config.txt, msgbuf.txt, panic.txt, version.txt"
    refused = []
    for name in sorted(one for one in plugin_classes() if one.startswith("freebsd.")):
        caplog.clear()
        try:
            stack(path, name)
        except exceptions.UnsatisfiedException:
            refused.append(name)
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert said == [f"{path} is a text dump, which holds no memory, but {files}; {ADVICE}"]
    assert "freebsd.pslist.PsList" in refused
    assert not {INFO, DMESG} & set(refused)
    assert len(refused) > 20
