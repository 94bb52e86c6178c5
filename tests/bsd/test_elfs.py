"""ELF images in the memory of processes, compared with what the scenario put there; and headers that lie."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bsd.user_image_truth import (
    IMAGE_SIZE,
    PATHS,
    at,
    bits,
    file_of,
    images,
    machine_name,
    type_of,
    writer,
)
from tests.scenario.user_images import (
    COPIED,
    DATA_OFFSET,
    LIBC,
    LIBEVIL,
    LIBUTIL,
    NARROW,
    OSRELDATE,
    PATCH,
    RTLD,
    WORKER,
    ElfWriter,
    build_id,
)
from tests.scenario.user_memory import PAGE, TEXT
from tests.user_image_dumps import damaged_images, images_kernel
from volatility3_freebsd_kvm.bsd.elf_dump import elf_file
from volatility3_freebsd_kvm.bsd.elf_header import PT_LOAD, ElfHeader, ElfNotes, Segment, read_header, read_notes
from volatility3_freebsd_kvm.bsd.elfs import Image, image_records
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.exceptions import AddressError, FormatError, NotMappedError

FILE_BYTES = DATA_OFFSET + 0x800
SEGMENTS = ("r--", "r-x", "rw-")


@pytest.fixture(scope="module", params=["15-amd64", "12.1-i386"])
def name(request: pytest.FixtureRequest) -> str:
    """A kernel in whose processes there is damage."""
    return str(request.param)


def found(kernel: Kernel, pid: int = WORKER) -> dict[int, Image]:
    records = list(image_records(kernel, [pid]))
    assert [one for one in records if isinstance(one, Problem)] == []
    return {one.start: one for one in records if isinstance(one, Image)}


def content(image: Image) -> bytes:
    """The rebuilt file."""
    file = elf_file(image)
    data = bytearray(file.size)
    position = 0
    for offset, piece in file.pieces():
        assert offset >= position
        position = offset + len(piece)
        data[offset:position] = piece
    assert len(data) == file.size
    return bytes(data)


def test_images(kernel: str) -> None:
    missing = {LIBC: "1 of 4 pages: 1 not resident", LIBUTIL: "1 of 4 pages: 1 swapped out"}
    expected = [
        Image(
            pid=WORKER,
            command="worker",
            start=start,
            end=start + IMAGE_SIZE,
            type=type_of(one),
            bits=bits(kernel),
            machine=machine_name(kernel, WORKER),
            segments=SEGMENTS,
            build_id=build_id(one.key).hex(),
            osreldate=OSRELDATE,
            path=PATHS[one.key],
            missing=missing.get(one.base, ""),
            executable=True,
        )
        for start, one in images(kernel).items()
    ]
    copied = at(kernel, COPIED) + 2 * PAGE
    shown = [image for image in found(images_kernel(kernel)).values() if image.start != copied]
    assert [without_details(image) for image in shown] == expected


def without_details(image: Image) -> Image:
    assert image.vnode
    assert image.header is not None
    return Image(**{**vars(image), "vnode": 0, "header": None})


def test_image_in_anonymous_memory(kernel: str) -> None:
    image = found(images_kernel(kernel))[at(kernel, COPIED) + 2 * PAGE]
    assert (image.type, image.build_id, image.vnode) == ("DYN", build_id("copied").hex(), 0)
    assert (image.path, image.executable) == (Absent.NOT_APPLICABLE, False)
    assert image.notes == ("in anonymous memory", "not executable: there as data")


@pytest.mark.parametrize("name", ["12.1-amd64", "13.0-amd64", "14-amd64", "15-amd64"])
def test_32_bit_process(name: str) -> None:
    shown = found(images_kernel(name), NARROW)
    expected = images(name, NARROW)
    assert [(start, image.path) for start, image in shown.items()] == [
        (start, PATHS[one.key]) for start, one in expected.items()
    ]
    lost = at(name, LIBC, NARROW)
    assert [image.type for image in shown.values()] == ["EXEC", "DYN", Absent.UNREADABLE]
    assert {(image.bits, image.machine) for start, image in shown.items() if start != lost} == {(32, "i386")}
    note = f"its ELF header is not in memory: address {lost:#x} is not resident (a page of kind vnode)"
    assert (shown[lost].notes, shown[lost].header, shown[lost].end) == ((note,), None, lost + PAGE)
    assert elf_file(shown[lost]).size == 0


def test_what_only_begins_like_an_image() -> None:
    (image,) = found(images_kernel("15-amd64"), 1).values()
    assert image.notes == ("not a valid ELF header: it begins with 7f 45 4c 46 20 74 65",)
    assert (image.start, image.path, image.type, image.bits) == (
        TEXT,
        "/sbin/init",
        Absent.NOT_APPLICABLE,
        Absent.NOT_APPLICABLE,
    )


def test_others_say_why_there_is_nothing() -> None:
    shown = list(image_records(images_kernel("15-amd64"), [0, 864, 4711]))
    why = "does not exist: a kernel process or a zombie has no memory of its own"
    assert [str(one) for one in shown] == [
        f"memory of process 0: {why}",
        f"memory of process 864: {why}",
        "pid 4711: there is no such process",
    ]


@pytest.mark.parametrize("pids", [(), (WORKER, 1)])
def test_minidump(pids: tuple[int, ...]) -> None:
    shown = list(image_records(images_kernel("15-amd64", "minidump"), pids))
    assert shown == [Problem("user memory", "not dumped: minidumps have no user pages")]


# Files


def test_rebuilt_files(kernel: str) -> None:
    shown = found(images_kernel(kernel))
    made = writer(kernel)
    for start, one in images(kernel).items():
        expected = bytearray(file_of(kernel, one)[:FILE_BYTES])
        # The table of sections is not in memory.
        offset, size = (40, 8) if made.bits == 64 else (32, 4)
        expected[offset : offset + size] = bytes(size)
        expected[-6 + (64 if made.bits == 64 else 52) : 64 if made.bits == 64 else 52] = bytes(6)
        if one.patched:
            expected[PAGE : PAGE + len(PATCH)] = PATCH
        for index in {0, 1, 2, 3} - set(one.resident) | ({2} if one.patched else set()):
            expected[index * PAGE : (index + 1) * PAGE] = bytes(PAGE)
        assert content(shown[start]) == bytes(expected)
        file = elf_file(shown[start])
        assert (file.name, file.notes) == (
            f"pid.900.{start:#x}.elf",
            ("its section headers are not in memory and were taken out",),
        )


def test_too_large_a_file() -> None:
    image = found(images_kernel("15-amd64"))[LIBC]
    file = elf_file(image, FILE_BYTES - 1)
    assert (file.size, list(file.pieces())) == (0, [])
    assert file.notes == (f"its {FILE_BYTES:#x} bytes are more than --maxsize and were not saved",)
    assert elf_file(image, FILE_BYTES).size == FILE_BYTES


# Damage


def header_field(made: ElfWriter, name: str) -> int:
    """Where a field of the ELF header is."""
    wide = {"e_type": 16, "e_machine": 18, "e_phoff": 32, "e_phentsize": 54, "e_phnum": 56}
    narrow = {"e_type": 16, "e_machine": 18, "e_phoff": 28, "e_phentsize": 42, "e_phnum": 44}
    return (wide if made.bits == 64 else narrow)[name]


def program_header(made: ElfWriter, index: int, *fields: int) -> tuple[int, bytes]:
    """Offset and bytes of another program header: type, flags, offset, vaddr, filesz, memsz."""
    data = made.segment(*fields)
    return 0x40 + index * len(data), data


def test_too_many_program_headers(name: str) -> None:
    made, start = writer(name), at(name, LIBC)
    change = {start + header_field(made, "e_phnum"): struct.pack("<H", 0xFFFF)}
    image = found(damaged_images(name, WORKER, change))[start]
    size = 56 if made.bits == 64 else 32
    fitting = (PAGE - 0x40) // size
    assert image.notes == (f"{fitting} of its at least 65535 program headers, at 0x40, are in its first page",)
    assert image.segments == SEGMENTS


@pytest.mark.parametrize(
    ("field", "value", "notes"),
    [
        ("e_phentsize", 7, ("its program headers have 7 bytes each, not {size}", "not executable: there as data")),
        (
            "e_phoff",
            0xF00000,
            ("0 of its 7 program headers, at 0xf00000, are in its first page", "not executable: there as data"),
        ),
        ("e_machine", 243, ("it is for riscv, which this machine is not",)),
        ("e_machine", 4711, ("it is for machine 4711, which this machine is not",)),
        ("e_type", 9, ("its type 9 is unknown",)),
        ("e_type", 2, ("it is linked for 0x0",)),
    ],
)
def test_fields_of_the_header(name: str, field: str, value: int, notes: tuple[str, ...]) -> None:
    made, start = writer(name), at(name, LIBEVIL)
    change = {start + header_field(made, field): value.to_bytes(4 if field == "e_phoff" else 2, "little")}
    image = found(damaged_images(name, WORKER, change))[start]
    assert image.notes == tuple(note.format(size=56 if made.bits == 64 else 32) for note in notes)


@pytest.mark.parametrize("part", ["memsz", "filesz"])
def test_giant_segment(name: str, part: str) -> None:
    made, start = writer(name), at(name, LIBEVIL)
    giant = (1 << made.bits) - PAGE
    filesz, memsz = (0x800, giant) if part == "memsz" else (giant, giant)
    place, data = program_header(made, 3, PT_LOAD, 6, DATA_OFFSET, 0x5000, filesz, memsz)
    image = found(damaged_images(name, WORKER, {start + place: data}))[start]
    low = start + 0x5000
    assert image.notes == (f"program header 3 is impossible: {giant:#x} bytes at {low:#x}",)
    assert (image.segments, image.end) == (("r--", "r-x"), start + 0x4000)
    assert elf_file(image).size == 0x3000


def test_more_of_the_file_than_memory(name: str) -> None:
    made, start = writer(name), at(name, LIBEVIL)
    place, data = program_header(made, 3, PT_LOAD, 6, DATA_OFFSET, 0x5000, 0x900, 0x800)
    image = found(damaged_images(name, WORKER, {start + place: data}))[start]
    assert image.notes == ("program header 3 is impossible: 0x900 bytes of the file in 0x800",)


def test_more_than_can_be_counted() -> None:
    made = writer("15-amd64")
    place, data = program_header(made, 3, PT_LOAD, 6, DATA_OFFSET, 0x5000, 1 << 40, 1 << 40)
    image = found(damaged_images("15-amd64", WORKER, {LIBEVIL + place: data}))[LIBEVIL]
    assert image.missing == f"not counted: its segments claim {(1 << 40) + 0x3000:#x} bytes of the file"
    assert elf_file(image).notes == (f"its {(1 << 40) + 0x3000:#x} bytes are more than --maxsize and were not saved",)
    # Those that it hides behind itself are shown nevertheless only if they are of another file.
    assert {RTLD, LIBC, LIBUTIL} < set(found(damaged_images("15-amd64", WORKER, {LIBEVIL + place: data})))


def test_overlapping_segments_are_written_once() -> None:
    made = writer("15-amd64")
    place, data = program_header(made, 3, PT_LOAD, 6, 0x800, 0x2000, 0x1000, 0x1000)
    image = found(damaged_images("15-amd64", WORKER, {LIBEVIL + place: data}))[LIBEVIL]
    assert len(content(image)) == 0x3000


@pytest.mark.parametrize("offset", [4, 5])
def test_neither_class_nor_byte_order(offset: int) -> None:
    image = found(damaged_images("15-amd64", WORKER, {LIBEVIL + offset: b"\x07"}))[LIBEVIL]
    shown = bytearray(b"\x7fELF\x02\x01\x01")
    shown[offset] = 7
    assert image.notes == (f"not a valid ELF header: it begins with {shown.hex(' ')}",)


# Headers alone


class Bytes:
    """Memory at an address."""

    def __init__(self, data: bytes, start: int = 0x10000) -> None:
        self.data = data
        self.start = start

    def read(self, address: int, length: int) -> bytes:
        at = address - self.start
        if not 0 <= at <= at + length <= len(self.data):
            raise NotMappedError(address)
        return self.data[at : at + length]

    def header(self) -> ElfHeader:
        return read_header(self.read, self.start, PAGE, 1 << 47)


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_header_of_either_word_size_and_byte_order(word_bits: int, byteorder: str) -> None:
    made = ElfWriter(word_bits, byteorder, 21)
    memory = Bytes(made.file("file"))
    header = memory.header()
    assert (header.bits, header.byteorder, header.machine, header.type) == (word_bits, byteorder, 21, 3)
    assert header.sections == (0x4000, 64 if word_bits == 64 else 40, 8)
    assert (header.bias, header.end) == (0x10000, 0x10000 + IMAGE_SIZE)
    assert header.loads == (
        Segment(PT_LOAD, 4, 0, 0, 0x1000, 0x1000),
        Segment(PT_LOAD, 5, 0x1000, 0x2000, 0x2000, 0x2000),
        Segment(PT_LOAD, 6, DATA_OFFSET, 0x5000, 0x800, 0x1800),
    )
    assert read_notes(memory.read, header) == ElfNotes(build_id("file").hex(), OSRELDATE)


def test_notes_that_are_cut_off() -> None:
    made = ElfWriter(64, "little", 62)
    memory = Bytes(made.file("file")[:0x500])
    with pytest.raises(NotMappedError):
        read_notes(memory.read, memory.header())


def test_sections_in_a_segment_stay() -> None:
    made = ElfWriter(64, "little", 62)
    header = bytearray(made.header(3, 0, 1))
    header[40:48] = (0x100).to_bytes(8, "little")
    data = bytes(header) + made.segment(PT_LOAD, 5, 0, 0, 0x1000, 0x1000)
    parsed = Bytes(data.ljust(PAGE, b"\0")).header()
    image = Image(1, "x", parsed.start, parsed.end, header=parsed, memory=object())  # type: ignore[arg-type]
    assert elf_file(image).notes == ()


@given(st.binary(max_size=400), st.integers(1, 2), st.integers(1, 2))
def test_any_header(data: bytes, size: int, order: int) -> None:
    memory = Bytes(b"\x7fELF" + bytes([size, order]) + data)
    try:
        header = memory.header()
        assert len(header.segments) <= PAGE // 32
        assert header.end <= 1 << 47
        read_notes(memory.read, header)
    except (AddressError, FormatError):
        pass
