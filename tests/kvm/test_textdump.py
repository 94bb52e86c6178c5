"""Text dumps: saved, compressed, and still on their device in reverse order."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kvm.packed import TEXT_FILES, gpt_disk, info_text, kernel_zstd, text_archive, text_partition
from tests.writers.kerneldump import MAGIC_TEXT, DumpHeader
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import FormatError, TextDumpError
from volatility3_freebsd_kvm.kvm import textdump
from volatility3_freebsd_kvm.kvm.reader import BytesReader, open_reader

ARCHIVE = text_archive()
HEADER = DumpHeader(magic=MAGIC_TEXT, length=len(ARCHIVE)).pack()


def backwards(data: bytes) -> bytes:
    return b"".join(data[at : at + 512] for at in range(len(data) - 512, -1, -512))


FORMS = {
    "saved": ("textdump.tar.0", ARCHIVE),
    "saved with zeros at its end": ("textdump.tar.0", ARCHIVE + bytes(1024)),
    "compressed by savecore": ("textdump.tar.0.gz", gzip.compress(ARCHIVE)),
    "compressed with zstd": ("t.zst", kernel_zstd),
    "on its device": ("ada0p2", text_partition(ARCHIVE)),
    "on its device, version 1": ("ada0p2", text_partition(ARCHIVE, version=1)),
    "on its device, cleared": ("ada0p2", text_partition(ARCHIVE, cleared=True)),
    "on a disk": ("disk", gpt_disk(bytes(51200), text_partition(ARCHIVE))),
    "its device compressed": ("ada0p2.gz", gzip.compress(text_partition(ARCHIVE))),
    "behind its header, as on the device": ("cut", HEADER + backwards(ARCHIVE)),
    "behind its header, as saved": ("cut", HEADER + ARCHIVE),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str, tmp_path: Path):
    name, data = FORMS[form]
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data(ARCHIVE))
    text = kvm.open_text_dump(path)
    assert text is not None
    assert list(text.files) == list(TEXT_FILES)
    assert {file: text.read(file) for file in text.files} == TEXT_FILES
    assert text.notes == []
    text.close()
    with pytest.raises(TextDumpError) as error:
        kvm.open(path)
    assert str(error.value) == (
        f"{path} is a text dump, which holds no memory, but ddb.txt, config.txt, msgbuf.txt, panic.txt, version.txt"
    )


def test_its_header_and_info_file(tmp_path: Path):
    path = tmp_path / "textdump.tar.4.gz"
    path.write_bytes(gzip.compress(ARCHIVE))
    (tmp_path / "info.4").write_text(info_text(Magic="FreeBSD Text Dump", Bounds=4))
    unwrapped = kvm.unwrap(open_reader(path))
    assert unwrapped.info_file is not None
    assert unwrapped.info_file.bounds == "4"
    device = kvm.unwrap(BytesReader(text_partition(ARCHIVE)))
    assert device.header is not None
    assert (device.header.is_text, device.header.length, device.header.hostname) == (True, len(ARCHIVE), "example")


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"", "is empty"), (b"Dear diary", "neither a minidump"), (b"\x1f\x8b\x08", "cannot be unpacked|can be unpacked")],
)
def test_what_is_none(data: bytes, what: str, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(data)
    if data.startswith(b"\x1f"):
        with pytest.raises(FormatError, match=what):
            kvm.open_text_dump(path)
    else:
        assert kvm.open_text_dump(path) is None


def test_archives_of_other_things_are_none():
    assert kvm.open_text_dump(text_archive({"holiday.jpg": b"jpg"})) is None
    assert kvm.open_text_dump(ARCHIVE[:257] + b"USTAR" + ARCHIVE[262:]) is None


def test_a_device_that_holds_something_else_than_it_says():
    with pytest.raises(FormatError, match=r"^the text dump on bytes is damaged: its archive does not begin"):
        kvm.open(text_partition(bytes(4096)))


def test_a_length_that_is_no_multiple_of_the_block_is_refused():
    """As savecore does."""
    header = DumpHeader(magic=MAGIC_TEXT, length=len(ARCHIVE) + 100, extent=len(ARCHIVE) + 512).pack()
    with pytest.raises(FormatError, match=r"^the text dump on bytes is damaged"):
        kvm.open_text_dump(bytes(65536) + header + bytes(512) + backwards(ARCHIVE) + header)


@pytest.mark.parametrize("size", [512 + 10, 1024, 1024 + 511, 1536, 4000])
def test_cut_off_archives_are_read_as_far_as_they_go(size: int):
    text = kvm.open_text_dump(ARCHIVE[:size])
    assert text is not None
    for name in text.files:
        assert TEXT_FILES[name].startswith(text.read(name)[: len(TEXT_FILES[name])])
    whole = [name for name in text.files if text.read(name) == TEXT_FILES[name]]
    assert len(whole) >= len(text.files) - 1
    cut_at_a_border = size in (1024,)
    assert bool(text.notes) != cut_at_a_border


def test_sizes_that_no_file_has():
    for size in (b"99999999999", b"-1         ", b"77777777777", b"\xff" * 11):
        text = kvm.open_text_dump(ARCHIVE[:124] + size + ARCHIVE[135:])
        assert text is not None
        assert len(text.notes) == 1
        assert all(len(text.read(name)) <= len(ARCHIVE) for name in text.files)


def test_very_many_files_and_names_that_come_twice():
    text = kvm.open_text_dump(text_archive({"ddb.txt": b"1"}) * 1200)
    assert text is not None
    assert text.files == {"ddb.txt": (512, 1)}
    assert text.read("ddb.txt") == b"1"


def test_long_files_are_read_in_part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(textdump, "MAX_FILE", 100)
    text = kvm.open_text_dump(ARCHIVE)
    assert text is not None
    assert text.read("config.txt") == TEXT_FILES["config.txt"][:100]


def test_names_are_printable():
    text = kvm.open_text_dump(ARCHIVE + text_archive({"a\x1b[2Jb": b"x"}))
    assert text is not None
    assert list(text.files)[-1] == "a\\x1b[2Jb"


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_reversed_blocks_read_as_saved(start: int, length: int):
    reader = textdump.ReversedReader(BytesReader(bytes(77) + backwards(ARCHIVE) + bytes(99)), 77, len(ARCHIVE))
    assert reader.size == len(ARCHIVE)
    assert reader.buffer[start : start + length] == ARCHIVE[start : start + length]


@given(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_does_more_than_harm(at: int, value: int):
    changed = ARCHIVE[:at] + bytes([value]) + ARCHIVE[at + 1 :]
    text = kvm.open_text_dump(changed)
    if text is not None:
        assert len(text.files) <= len(TEXT_FILES) + 1
        assert sum(len(text.read(name)) for name in text.files) <= 2 * len(ARCHIVE)
