"""Dump headers, versions 1 to 4, and the dumps that they lead to on devices and disks."""

from __future__ import annotations

import datetime
import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kvm.packed import bsd_label, gpt_disk, live_dump, mbr_disk, text_archive, text_partition
from tests.writers.kerneldump import MAGIC_CLEARED, MAGIC_TEXT, METADATA_SIZE, DumpHeader, partition
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.kvm import kerneldump
from volatility3_freebsd_kvm.kvm.kerneldump import DumpArea, at_end, at_start, parse
from volatility3_freebsd_kvm.kvm.partitions import partitions
from volatility3_freebsd_kvm.kvm.reader import BytesReader

DATA = random.Random(1).randbytes(10_000)
VERSIONS = (1, 2, 3, 4)


def on(device: bytes) -> DumpArea | None:
    return at_end(BytesReader(device), 0, len(device))


def found(device: bytes) -> tuple[DumpArea, bytes]:
    area = on(device)
    assert area is not None
    return area, device[area.offset : area.offset + area.length]


# --- the header ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_every_version(version: int):
    header = parse(
        DumpHeader(
            version=version, length=123456, extent=200704, key_size=512, compression=2, block_size=4096, hostname=b"a.b"
        ).pack()
    )
    assert header == kerneldump.KernelDumpHeader(
        magic=b"FreeBSD Kernel Dump",
        architecture="amd64",
        version=version,
        architecture_version=2,
        length=123456,
        time=1767225600,
        key_size=512 if version >= 2 else 0,
        block_size=4096,
        hostname="a.b",
        version_string="FreeBSD 15.0-RELEASE GENERIC",
        panic_string="example panic",
        compression=2 if version >= 3 else 0,
        extent=200704 if version >= 4 else 123456,
        parity_ok=True,
    )
    assert header.when == datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(("version", "room"), [(1, 191), (2, 187), (3, 186), (4, 174)])
def test_long_texts_end_where_their_field_does(version: int, room: int):
    texts = DumpHeader(version=version, hostname=b"h" * 80, version_string=b"v" * 300, panic_string=b"p" * 300)
    header = parse(texts.pack())
    assert header is not None
    assert (header.hostname, header.version_string, header.panic_string) == ("h" * 64, "v" * 192, "p" * room)


def test_texts_are_printable_and_on_one_line():
    header = parse(
        DumpHeader(
            hostname=b"a\x1b[31mb\xff",
            version_string=b"FreeBSD 11.0 #0: today\n    root@here:/usr/obj\n",
            panic_string=b"\0x",
        ).pack()
    )
    assert header is not None
    assert header.hostname == "a\\x1b[31mb\\xff"
    assert header.version_string == "FreeBSD 11.0 #0: today root@here:/usr/obj"
    assert header.panic_string == ""


@pytest.mark.parametrize("byte", [0, 20, 33, 47, 60, 100, 200, 400, 495, 500, 511])
def test_any_changed_bit_breaks_the_parity(byte: int):
    block = bytearray(DumpHeader(length=1).pack())
    assert kerneldump.parity(bytes(block)) == 0
    block[byte] ^= 0x10
    assert kerneldump.parity(bytes(block)) != 0


def test_what_is_no_header():
    assert parse(b"") is None
    assert parse(bytes(512)) is None
    assert parse(b"FreeBSD Kernel Dumps".ljust(512, b"\0")) is None
    assert not kerneldump.is_header(b"minidump FreeBSD/amd64")


@pytest.mark.parametrize("version", [0, 5, 0x0400_0000])
def test_unknown_versions_are_refused(version: int):
    block = bytearray(DumpHeader().pack())
    struct.pack_into(">I", block, 32, version)
    with pytest.raises(FormatError, match=f"^the dump header has version {version}; versions 1 to 4 are known$"):
        parse(bytes(block))


def test_a_header_that_is_cut_off():
    with pytest.raises(FormatError, match=r"^the dump header is cut off: 100 bytes of 512$"):
        parse(DumpHeader().pack()[:100])


@pytest.mark.parametrize("seconds", [0, 253_402_300_800, 1 << 62, (1 << 64) - 1])
def test_impossible_times_are_none(seconds: int):
    header = parse(DumpHeader(time=seconds).pack())
    assert header is not None
    assert header.when is None


def test_the_last_second_that_python_knows():
    header = parse(DumpHeader(time=253_402_300_799).pack())
    assert header is not None
    assert header.when == datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_dump_on_its_device(version: int, sector: int):
    device = partition(DATA, version=version, sector=sector)
    area, data = found(device)
    assert data == DATA
    assert (area.kind, area.parity_ok, area.notes) == ("dump device", True, [])
    assert area.header.version == version
    assert area.offset == len(device) - sector - -(-len(DATA) // sector) * sector


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cleared_trailer(version: int):
    area, data = found(partition(DATA, version=version, cleared=True))
    assert data == DATA
    assert area.header.magic == b"FreeBSD Kernel Dump"
    assert area.parity_ok
    (note,) = area.notes
    assert note.startswith("savecore has cleared the trailing header")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_key_stands_in_front_of_the_dump(version: int):
    device = partition(DATA, version=version, key=b"k" * 293)
    area, data = found(device)
    assert data == DATA
    assert device[area.key_offset : area.offset] == (b"k" * 293).ljust(512, b"\0")


def test_version_1_headers_take_512_bytes_whatever_the_sector():
    header = DumpHeader(version=1, length=8192, block_size=4096).pack()
    device = bytes(METADATA_SIZE) + header + DATA[:8192] + header.ljust(4096, b"\0")
    area, data = found(device)
    assert (data, area.notes) == (DATA[:8192], [])


def test_an_extent_larger_than_the_dump():
    """A compressed dump that might not fit takes all of the device."""
    header = DumpHeader(length=len(DATA), extent=65536, compression=1).pack()
    area, data = found(bytes(METADATA_SIZE) + header + DATA.ljust(65536, b"\0") + header)
    assert (data, area.notes) == (DATA, [])


def test_a_leading_header_with_another_key_is_not_used():
    """It would lead to a place before the device."""
    device = bytearray(partition(DATA, cleared=True))
    lead = device.index(b"FreeBSD Kernel Dump")
    header = DumpHeader(length=len(DATA), extent=10240, key_size=1 << 31).pack()
    device[lead : lead + 512] = header
    area, data = found(bytes(device))
    assert data == DATA
    assert (area.header.key_size, area.header.magic) == (0, b"Cleared Kernel Dump")
    assert area.notes[-1] == "the leading and the trailing dump header differ"


def test_headers_that_differ_are_told():
    device = bytearray(partition(DATA))
    place = device.index(b"FreeBSD Kernel Dump")
    other = DumpHeader(length=len(DATA), hostname=b"other").pack()
    device[place : place + 512] = other
    area, data = found(bytes(device))
    assert (data, area.header.hostname) == (DATA, "example")
    assert area.notes == ["the leading and the trailing dump header differ"]


def test_a_missing_leading_header_is_told():
    device = partition(DATA)
    place = device.index(b"FreeBSD Kernel Dump")
    area, data = found(device[:place] + bytes(512) + device[place + 512 :])
    assert data == DATA
    assert area.notes == ["the leading dump header is missing; the trailing one is used"]


def test_the_leading_header_is_used_where_the_trailing_one_is_damaged():
    device = bytearray(partition(DATA))
    device[-512 + 70] ^= 1  # in the host name
    area, data = found(bytes(device))
    assert (data, area.header.hostname, area.parity_ok) == (DATA, "example", False)
    assert area.notes == ["the leading and the trailing dump header differ"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"length": 1 << 50, "extent": 1 << 50}, "claims 1125899906842624 bytes"),
        ({"length": 2000, "extent": 1000}, "claims 2000 bytes of dump within an extent of 1024"),
        ({"length": 512, "extent": 512, "key_size": 1 << 20}, "a key of 1048576"),
        ({"length": 512, "extent": 512, "key_size": 1 << 17}, "claims a key of 131072 bytes"),
        ({"length": 0, "extent": 512}, "an empty dump"),
        ({"version": 3, "length": (1 << 64) - 1}, "claims 18446744073709551616 bytes"),
    ],
)
def test_impossible_headers_are_refused(changes: dict[str, int], reason: str):
    header = replace(DumpHeader(), **changes)
    with pytest.raises(FormatError, match=reason) as error:
        on(bytes(1 << 18) + header.pack())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_changed_byte_of_a_trailer_does_more_than_harm(version: int):
    device = bytearray(partition(DATA[:1000], version=version, key=b"k" if version > 1 else b""))
    messages = set()
    for at in range(len(device) - 512, len(device)):
        for value in {0, 0xFF, device[at] ^ 0x80}:
            kept, device[at] = device[at], value
            try:
                area = on(bytes(device))
            except FormatError as error:
                messages.add(str(error))
            else:
                assert area is None or 0 <= area.offset <= area.offset + area.length <= len(device)
            device[at] = kept
    assert messages
    assert not any("\n" in message for message in messages)


@given(st.binary(min_size=476, max_size=476), st.sampled_from([b"FreeBSD Kernel Dump", MAGIC_TEXT, MAGIC_CLEARED]))
@settings(max_examples=300, deadline=None)
def test_random_headers_stay_within_their_file(rest: bytes, magic: bytes):
    block = bytearray(magic.ljust(20, b"\0") + rest[:12] + struct.pack(">I", rest[0] % 5) + rest)[:512]
    for data in (bytes(8192) + block, block + bytes(8192)):
        for look in (lambda reader: at_end(reader, 0, reader.size), at_start):
            try:
                area = look(BytesReader(bytes(data)))
            except FormatError:
                continue
            assert area is None or 0 <= area.offset <= area.offset + area.length <= len(data)


def test_every_cut_of_a_device_is_nothing():
    device = partition(DATA)
    for size in [0, 1, 511, 512, 513, METADATA_SIZE, len(device) - 512, len(device) - 511, len(device) - 1]:
        assert on(device[:size]) is None


# --- headers in front, live dumps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_header_in_front_of_the_dump(version: int, sector: int):
    data = b"minidump FreeBSD/amd64\0" + DATA
    file = DumpHeader(version=version, length=len(data), block_size=sector).pack().ljust(sector, b"\0") + data
    area = at_start(BytesReader(file + bytes(100)))
    assert area is not None
    assert (area.offset, area.length, area.notes) == (sector, len(data), [])


def test_a_header_of_512_bytes_in_front_although_blocks_are_larger():
    data = b"minidump FreeBSD/amd64\0" + DATA
    file = DumpHeader(version=1, length=len(data), block_size=4096).pack() + data
    area = at_start(BytesReader(file))
    assert area is not None
    assert (area.offset, area.length) == (512, len(data))


def test_a_cut_off_dump_behind_its_header_is_told():
    area = at_start(BytesReader(DumpHeader(length=10_000).pack() + DATA[:4000]))
    assert area is not None
    assert (area.offset, area.length) == (512, 4000)
    assert area.notes == ["the file is cut off: it holds 4000 of the 10000 bytes that the dump header tells of"]


@pytest.mark.parametrize("size", [512, 100])
def test_nothing_behind_a_header(size: int):
    with pytest.raises(FormatError, match=r"nothing is behind it|cut off"):
        at_start(BytesReader(DumpHeader(length=10_000).pack()[:size]))


@pytest.mark.parametrize("page_size", [4096, 16384])
def test_a_live_dump_with_its_header(page_size: int):
    area, data = found(live_dump(DATA, page_size))
    assert (area.kind, area.offset, data, area.notes) == ("live dump with its header", 0, DATA, [])


def test_a_compressed_live_dump_with_its_header():
    area, data = found(live_dump(DATA, stored=DATA[:777]))
    assert (area.kind, data) == ("live dump with its header", DATA[:777])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_text_dump_on_its_device(version: int):
    archive = text_archive()
    area, data = found(text_partition(archive, version=version))
    assert area.header.is_text
    assert len(data) == len(archive)
    assert data[-512:] == archive[:512]


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sector", [512, 4096])
def test_partitions_of_a_gpt(sector: int):
    first, second = bytes(sector * 10), partition(DATA, sector=sector)
    disk = gpt_disk(first, second, sector=sector)
    reader = BytesReader(disk)
    assert list(partitions(reader)) == [
        (64 * sector, 74 * sector, "p1"),
        (74 * sector, 74 * sector + len(second), "p2"),
    ]
    assert at_end(reader, 64 * sector, 74 * sector) is None
    area = at_end(reader, 74 * sector, 74 * sector + len(second))
    assert area is not None
    assert disk[area.offset : area.offset + area.length] == DATA


@pytest.mark.parametrize("absolute", [True, False])
def test_partitions_of_an_mbr_and_of_its_freebsd_slice(absolute: bool):
    swap = partition(DATA)
    disk = mbr_disk(swap, absolute=absolute)
    found = {name: (start, end) for start, end, name in partitions(BytesReader(disk))}
    place = (63 + 100 + 128) * 512
    assert found == {
        "s1": (63 * 512, 163 * 512),
        "s2": (163 * 512, place + len(swap)),
        "s2a": (163 * 512 + 16 * 512, place),
        "s2b": (place, place + len(swap)),
    }


def test_a_label_without_slices():
    label = bsd_label((16, 100), (116, 50), raw=(0, 200))
    disk = bytes(512) + label + bytes(300 * 512)
    assert list(partitions(BytesReader(disk))) == [(16 * 512, 116 * 512, "a"), (116 * 512, 166 * 512, "b")]


@given(st.binary(min_size=1024, max_size=1024), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_random_tables_name_no_place_outside_the_disk(noise: bytes, kind: int):
    disk = bytearray(noise * 10)
    if kind == 0:
        disk[512:520] = b"EFI PART"
    if kind == 1:
        disk[510:512] = b"\x55\xaa"
        disk[450] = 0xA5
    if kind == 2:
        disk[512:516] = disk[644:648] = struct.pack("<I", 0x82564557)
    found = list(partitions(BytesReader(bytes(disk))))
    assert len(found) < 2000
    assert all(0 <= start < end <= len(disk) for start, end, _ in found)
