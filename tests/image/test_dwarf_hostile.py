"""Damaged and malicious debug information gives one sentence, soon."""

from __future__ import annotations

import io
import struct
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.image import dwarf_writer as w
from tests.image.dwarf_writer import Dwarf, Entry, Format, dwarf, elf, unit
from tests.image.test_dwarf_encodings import integers, kernel_unit, read, softc
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes

FORM = Format()
FUZZED = [Format(4), Format(5, names=w.STRX1), Format(2, ">", names=w.STRING, places=w.BLOCK1, numbers=w.UDATA)]


def refuse(data: bytes, match: str) -> None:
    """It is refused with one sentence that names the file."""
    with pytest.raises(FormatError, match=match) as caught:
        read(data)
    text = str(caught.value)
    assert "kernel" in text
    assert "\n" not in text
    assert len(text) < 400
    assert caught.value.__suppress_context__


def complaint(data: bytes) -> str:
    """What is said of a file, or nothing; anything but a FormatError fails the test."""
    try:
        read(data)
    except FormatError as error:
        return str(error)
    return ""


def sections(*entries: Entry, form: Format = FORM) -> dict[str, bytes]:
    return dict(dwarf(form, unit("kern/kern_proc.c", *entries)).sections)


@pytest.mark.parametrize("form", FUZZED)
@given(
    patches=st.lists(
        st.tuples(st.sampled_from(["info", "abbrev", "str", "str_offsets"]), st.integers(0, 4000), st.integers(0, 255)),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_patched_bytes(form: Format, patches: list[tuple[str, int, int]]) -> None:
    content = {name: bytearray(data) for name, data in dwarf(form, kernel_unit(form)).sections.items()}
    for name, at, value in patches:
        if content.get(name):
            content[name][at % len(content[name])] = value
    data = elf(form, {name: bytes(data) for name, data in content.items()})
    start = time.process_time()
    sentence = complaint(data)
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert time.process_time() - start < 5


@pytest.mark.parametrize("form", FUZZED)
@given(name=st.sampled_from(["info", "abbrev", "str", "str_offsets"]), length=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_cut_sections(form: Format, name: str, length: float) -> None:
    content = dict(dwarf(form, kernel_unit(form)).sections)
    data = content.get(name, b"")
    content[name] = data[: int(length * len(data))]
    assert "\n" not in complaint(elf(form, content))


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_patched_files(data: st.DataObject) -> None:
    """Section headers too, as far as the ELF library takes them."""
    whole = bytearray(elf(FORM, dwarf(FORM, kernel_unit(FORM))))
    for _ in range(data.draw(st.integers(1, 6))):
        area = data.draw(st.sampled_from([range(64), range(len(whole) - 448, len(whole))]))
        whole[data.draw(st.sampled_from(area))] = data.draw(st.integers(0, 255))
    opened = None
    with suppress(Exception):  # what opening the file raises is for who opens it
        opened = ELFFile(io.BytesIO(bytes(whole)))
    if opened:
        with suppress(FormatError):
            DwarfTypes(opened).add_all()


def test_chains_are_followed_so_far_only() -> None:
    signed, _ = integers()
    chain = [signed]
    for _ in range(80):
        chain.append(Entry(w.POINTER, {w.TYPE: chain[-1]}))
    variable = Entry(w.VARIABLE, {w.NAME: "deep", w.TYPE: chain[-1]})
    refuse(elf(FORM, sections(variable, *chain)), "chain of more than 64 pointers")
    member = softc(0, ("deep", chain[-1]))
    refuse(elf(FORM, sections(member, *chain)), "chain of more than 64 pointers")


@pytest.mark.parametrize("tag", [w.POINTER, w.TYPEDEF, w.ARRAY, w.CONST])
@pytest.mark.parametrize("named", [True, False])
def test_circles_end(tag: int, named: bool) -> None:
    first = Entry(tag, {w.NAME: "circle"} if named else {})
    first.attributes[w.TYPE] = second = Entry(tag, {w.TYPE: first})
    refuse(elf(FORM, sections(softc(0, ("x", first)), first, second)), "chain of more than 64 pointers")


def test_a_structure_may_contain_itself() -> None:
    """Which no compiler allows, but nothing breaks."""
    nameless = Entry(w.STRUCT, {w.BYTE_SIZE: 8}, [])
    nameless.children.append(Entry(w.MEMBER, {w.NAME: "again", w.TYPE: nameless, w.PLACE: 0}))
    types = read(elf(FORM, sections(softc(0, ("x", nameless)), nameless))).types
    inner = types.user_types["unnamed_softc_x"]
    assert inner["fields"] == {"again": {"offset": 0, "type": {"kind": "struct", "name": "unnamed_softc_x"}}}


def test_nested_types_without_names_are_no_bomb() -> None:
    """Each has two members of the next: written out without sharing, 2**50 of them."""
    levels = [Entry(w.STRUCT, {w.BYTE_SIZE: 8}, []) for _ in range(51)]
    for outer, inner in pairwise(levels):
        outer.children += [Entry(w.MEMBER, {w.NAME: name, w.TYPE: inner, w.PLACE: 0}) for name in "ab"]
    types = read(elf(FORM, sections(softc(0, ("x", levels[0])), *levels))).types
    assert len(types.user_types) == 52


def test_long_strings_are_refused() -> None:
    content = sections(softc(0, name="s" * 1024))
    assert list(read(elf(FORM, content)).types.user_types) == ["s" * 1024]
    content = sections(softc(0, name="s" * 1025))
    refuse(elf(FORM, content), "no proper string at offset")
    form = replace(FORM, names=w.STRING)
    refuse(elf(form, sections(softc(0, name="s" * 1025), form=form)), "a name in the debug information has 1025 bytes")


def test_strings_that_share_their_bytes_are_bounded() -> None:
    """A short file whose names are all tails of one string would need memory for its square."""
    content = dwarf(FORM, unit("a.c", *(softc(0, name=f"{number:03}") for number in range(600))))
    info = bytearray(content.sections["info"])
    for number, at in enumerate(content.relocations):
        struct.pack_into("<I", info, at, number)
    strings = {**content.sections, "info": bytes(info), "str": b"a" * 1000 + b"\0"}
    refuse(elf(FORM, strings), "cannot be read in a{80}: .debug_str has no proper string at offset")


def test_entries_read_again_and_again_are_bounded() -> None:
    """Structures in structures, something referring to each: to step over each takes the square of their number."""
    count = 50_000
    abbreviations = (
        w.uleb(1) + bytes([w.UNIT, 1, 0, 0])
        + w.uleb(2) + bytes([w.STRUCT, 1, 0, 0])
        + w.uleb(3) + bytes([w.VARIABLE, 0, w.NAME, w.STRING, w.TYPE, w.REF4, 0, 0])
        + bytes(1)
    )  # fmt: skip
    header = 11
    first = header + 1 + 7 * count
    variables = b"".join(b"\3v\0" + struct.pack("<I", first + number) for number in range(count))
    body = b"\1" + variables + b"\2" * count + bytes(count + 1)
    info = struct.pack("<IHIB", header - 4 + len(body), 4, 0, 8) + body
    start = time.process_time()
    refuse(elf(FORM, {"info": info, "abbrev": abbreviations}), "entries of the unit at offset 0x0 .* overlap")
    assert time.process_time() - start < 20


def test_units_must_lie_in_the_section() -> None:
    content = sections()
    info = content["info"]
    refuse(elf(FORM, {**content, "info": struct.pack("<I", len(info)) + info[4:]}), "unit at offset 0x0 .* is damaged")
    refuse(elf(FORM, {**content, "info": info[:7]}), "header at offset 0x0 .* cut off")
    refuse(elf(FORM, {**content, "info": info + b"\1"}), "header at offset .* cut off")
    refuse(elf(FORM, {**content, "info": b"\0\0\0\0" + info}), "no unit at offset 0x0")
    read(elf(FORM, {**content, "info": info + bytes(64)}))


@pytest.mark.parametrize(
    ("abbreviations", "message"),
    [
        (b"", "have no end"),
        (b"\1\x11\1\0\0", "have no end"),
        (b"\1\x11\2\0\0\0", "cannot be read"),
        (b"\1\x11\1\3\x16\0\0\0", "DW_FORM_indirect"),
        (b"\1\x11\1\3\x77\0\0\0", "unknown form 0x77"),
        (b"\2\x11\1\0\0\0", "no entry at offset 0xb"),
        (b"\1" + b"\xff" * 11 + b"\x7f\1\0\0\0", "cannot be read"),
    ],
)
def test_abbreviations_are_checked(abbreviations: bytes, message: str) -> None:
    refuse(elf(FORM, {**sections(), "abbrev": abbreviations}), message)


def test_references_must_lead_somewhere() -> None:
    lost = softc(0, ("x", Entry(w.BASE)))
    refuse(elf(FORM, sections(lost)), "no entry at offset 0x0 of the unit at offset 0x0 of the debug information")
    form = replace(FORM, references=w.REF_UDATA)
    lost = softc(0, ("x", Entry(w.BASE, offset=1 << 27)))
    refuse(elf(form, sections(lost, form=form)), "no entry at offset 0x8000000")
    type_of_nobody = Entry(w.VARIABLE, {w.NAME: "v", w.TYPE: 0x1234})
    refuse(elf(FORM, sections(type_of_nobody)), "refers to 0x1234, where no type is")
    form = Format(5, names=w.STRX4)
    content = sections(form=form)
    refuse(
        elf(form, {**content, "str_offsets": content["str_offsets"][:8]}),
        "a string index in the unit at offset 0x0 .* beyond .debug_str_offsets",
    )


def test_many_members_without_names_at_one_place() -> None:
    union = Entry(w.UNION, {w.BYTE_SIZE: 4})
    members = [Entry(w.MEMBER, {w.TYPE: union, w.PLACE: 0}) for _ in range(65)]
    many = Entry(w.STRUCT, {w.NAME: "softc", w.BYTE_SIZE: 4}, members)
    refuse(elf(FORM, sections(many, union)), "more than 64 members without names")
    del members[-1]
    assert read(elf(FORM, sections(Entry(w.STRUCT, {w.NAME: "softc", w.BYTE_SIZE: 4}, members), union)))


@pytest.mark.parametrize("size", [1 << 40, (1 << 30) + 1, 10_000])
def test_compressed_sections_hold_what_they_promise(size: int) -> None:
    content = sections(softc(0))
    packed = [w.Section(f".debug_{name}", w.compress(FORM, data, size), flags=0x800) for name, data in content.items()]
    refuse(w.elf_file(FORM, packed), f"does not unpack to {size} bytes")
    packed = [replace(one, data=one.data[:-9] + bytes(9)) for one in packed]
    refuse(w.elf_file(FORM, packed), "unpack|cannot be read")
    packed = [replace(one, data=one.data[:10]) for one in packed]
    refuse(w.elf_file(FORM, packed), "cannot be read")


def test_relocations_are_checked() -> None:
    content = dwarf(FORM, unit("a.c"))
    good = elf(FORM, content, relocatable=True)
    entry = struct.pack("<QQq", content.relocations[0], 1 << 32 | 10, 1)
    assert entry in good
    for damaged, message in (
        (struct.pack("<QQq", content.relocations[0], 7 << 32 | 10, 1), "refers to symbol 7"),
        (struct.pack("<QQq", 1 << 40, 1 << 32 | 10, 1), "cannot be read"),
    ):
        refuse(good.replace(entry, damaged), message)


def test_where_the_damage_is_told() -> None:
    content: Dwarf = dwarf(FORM, kernel_unit(FORM))
    info = bytearray(content.sections["info"])
    info[-200:] = b"\x7f" * 200
    refuse(elf(FORM, {**content.sections, "info": bytes(info)}), r"kernel cannot be read in kern/kern_proc.c: ")


def test_nothing_of_a_damaged_unit_is_left_open() -> None:
    """What has been read before remains usable."""
    signed, _ = integers()
    good = unit("good.c", softc(0, ("x", signed)), signed)
    lost = unit("bad.c", softc(0, ("x", Entry(w.BASE)), name="other"))
    reader = DwarfTypes(ELFFile(io.BytesIO(elf(FORM, dwarf(FORM, good, lost)))), "kernel")
    units: list[Any] = [one for _, one in reader.units()]
    reader.add(units[0])
    with pytest.raises(FormatError, match=r"cannot be read in bad\.c: "):
        reader.add(units[1])
    assert list(reader.types.user_types) == ["softc"]
