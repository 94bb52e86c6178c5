"""Memory that code may have been injected into, compared with what the scenario put there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bsd.user_image_truth import at, bits
from tests.scenario.kernels import load
from tests.scenario.user_images import (
    DROPPER,
    HEAP,
    LIBUTIL,
    MARKER,
    NARROW,
    PATCH,
    SHELLCODE,
    WORKER,
)
from tests.scenario.user_memory import PAGE, STACK, STACK_PAGES
from tests.user_image_dumps import damaged_images, damaged_structures, images_kernel, images_world
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.malfind import SHOWN, Suspect, Suspects
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.vm import MapEntry, process_maps

NOT_DUMPED = "its memory is not dumped: minidumps have no user pages"
JIT, DEBUGGER = "may be a JIT compiler's", "may be a debugger's or a text relocation's"
CSH, EVIL, FRAMEBUFFER = 850, 0x8_0130_0000, 0x8_0140_0000


def found(kernel: Kernel, *pids: int) -> list[Suspect | Problem]:
    return [
        replace(one, entry=None) if isinstance(one, Suspect) else one
        for one in Suspects(kernel).records(pids or [WORKER])
    ]


def shown(data: bytes) -> bytes:
    return data.ljust(SHOWN, b"\0")[:SHOWN]


def expected(kernel: str) -> list[Suspect]:
    size = bits(kernel)
    text, code, file = (at(kernel, one) for one in (LIBUTIL + 2 * PAGE, SHELLCODE, DROPPER))
    return [
        Suspect(
            WORKER,
            "worker",
            text,
            text + 2 * PAGE,
            "r-x",
            "vnode",
            "/lib/libutil.so.9",
            ("2 pages of the file are private copies",),
            text,
            shown(PATCH),
            size,
            (f"not as in the file: {text:#x}, {text + PAGE:#x}", DEBUGGER),
        ),
        # Its first page is zeros.
        Suspect(
            WORKER,
            "worker",
            code,
            code + 4 * PAGE,
            "rwx",
            "swap",
            Absent.NOT_APPLICABLE,
            ("writable and executable", "anonymous and executable"),
            code + PAGE,
            shown(MARKER),
            size,
            (JIT,),
        ),
        Suspect(
            WORKER,
            "worker",
            file,
            file + PAGE,
            "r-x",
            "vnode",
            "/tmp/<inode 90>",
            ("its file is deleted",),
            file,
            shown(b"\x90\x90 a deleted file"),
            size,
            (),
        ),
    ]


def test_suspects(kernel: str) -> None:
    assert found(images_kernel(kernel)) == expected(kernel)


def test_minidump_has_the_ranges_but_not_the_bytes(kernel: str) -> None:
    unread = [
        replace(one, address=Absent.UNREADABLE, data=Absent.UNREADABLE, notes=(*one.notes, NOT_DUMPED))
        for one in expected(kernel)
    ]
    if load(kernel)[1].arch == "powerpc64":
        unread = [replace(one, bits=64) for one in unread]
    assert found(images_kernel(kernel, "minidump")) == unread


@pytest.mark.parametrize("name", ["12.1-amd64", "15-amd64"])
def test_32_bit_process_is_not_suspicious(name: str) -> None:
    assert found(images_kernel(name), NARROW) == []


def test_word_size_of_a_process() -> None:
    """The process of 64 bits comes after the one of 32 in the list."""
    suspects = Suspects(images_kernel("15-amd64"))
    assert [one.bits for one in suspects.records([NARROW, WORKER]) if isinstance(one, Suspect)] == [64, 64, 64]


def test_everybody() -> None:
    suspects = found(images_kernel("15-amd64"), WORKER, CSH, 1)
    assert [(one.pid, one.start) for one in suspects if isinstance(one, Suspect)] == [
        (CSH, EVIL),
        *((WORKER, one.start) for one in expected("15-amd64")),
    ]


def test_only_zeros() -> None:
    kernel = damaged_images("15-amd64", WORKER, {SHELLCODE + PAGE: bytes(PAGE), SHELLCODE + 2 * PAGE: bytes(PAGE)})
    suspect = found(kernel)[1]
    assert isinstance(suspect, Suspect)
    assert (suspect.address, suspect.data) == (SHELLCODE, bytes(SHOWN))
    assert suspect.notes == (JIT, "only zeros in the first 0x3000 bytes that can be read")


def test_section_to_be_saved() -> None:
    suspects = Suspects(images_kernel("15-amd64"))
    code = next(one for one in suspects.records([WORKER]) if isinstance(one, Suspect) and one.start == SHELLCODE)
    section = suspects.section(code, 1 << 20)
    assert (section.name, section.size) == (f"pid.900.{SHELLCODE:#x}-{SHELLCODE + 4 * PAGE:#x}.dmp", 4 * PAGE)
    assert section.notes == ("1 of 4 pages are missing: 1 swapped out",)
    data = b"".join(piece for _, piece in section.pieces())
    assert data[PAGE : PAGE + len(MARKER)] == MARKER
    assert suspects.section(code, PAGE).size == 0


# Other maps: by changes to the kernel's structures, which minidumps have


def changed_entry(kernel: str, start: int, pid: int = WORKER, **members: int) -> Kernel:
    """A kernel over a minidump in which an entry of a process's map has other values."""
    types = images_world(kernel).memory.types
    entry, order = entry_at(kernel, at(kernel, start), pid), load(kernel)[1].byteorder
    changes = {}
    for member, value in members.items():
        size = types.size(types.member("vm_map_entry", member).type)
        changes[entry + types.offsetof("vm_map_entry", member)] = value.to_bytes(size, order)  # type: ignore[arg-type]
    return damaged_structures(kernel, changes)


def entry_at(kernel: str, start: int, pid: int) -> int:
    """The address of the ``struct vm_map_entry`` that begins at an address of a process."""
    records = process_maps(images_kernel(kernel, "minidump"), [pid])
    address = next(one.address for one in records if isinstance(one, MapEntry) and one.start == start)
    assert isinstance(address, int)
    return address


@pytest.fixture(scope="module", params=["15-amd64", "12.1-i386", "14-powerpc64"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("protection", "reasons"),
    [
        (5, ("2 pages of the file are private copies",)),
        (7, ("writable and executable", "2 pages of the file are private copies")),
        (4, ("2 pages of the file are private copies",)),
        (1, None),
        (3, None),
    ],
)
def test_protection_of_text(name: str, protection: int, reasons: tuple[str, ...] | None) -> None:
    start = at(name, LIBUTIL + 2 * PAGE)
    kernel = changed_entry(name, LIBUTIL + 2 * PAGE, protection=protection)
    suspects = {one.start: one.reasons for one in found(kernel) if isinstance(one, Suspect)}
    assert suspects.get(start) == reasons


def test_executable_stack(name: str) -> None:
    low = STACK - STACK_PAGES * PAGE
    kernel = changed_entry(name, low, protection=7)
    (suspect,) = (one for one in found(kernel) if isinstance(one, Suspect) and one.start == at(name, low))
    assert suspect.reasons == ("writable and executable", "anonymous and executable", "executable stack")


def test_heap_that_became_executable(name: str) -> None:
    kernel = changed_entry(name, HEAP, protection=5)
    (suspect,) = (one for one in found(kernel) if isinstance(one, Suspect) and one.start == at(name, HEAP))
    assert (suspect.reasons, suspect.protection) == (("anonymous and executable",), "r-x")


@pytest.mark.parametrize(
    ("offset", "reasons"), [(PAGE, ("a page of the file is a private copy",)), (2 * PAGE, None)], ids=["one", "none"]
)
def test_window_without_private_copies(name: str, offset: int, reasons: tuple[str, ...] | None) -> None:
    """The copies are of pages before what is mapped."""
    start = at(name, LIBUTIL + 2 * PAGE)
    kernel = changed_entry(name, LIBUTIL + 2 * PAGE, offset=offset)
    assert {one.start: one.reasons for one in found(kernel) if isinstance(one, Suspect)}.get(start) == reasons


def test_executable_device(name: str) -> None:
    kernel = changed_entry(name, FRAMEBUFFER, CSH, protection=5)
    (suspect,) = (one for one in found(kernel, CSH) if isinstance(one, Suspect) and one.kind == "device")
    assert (suspect.start, suspect.reasons) == (at(name, FRAMEBUFFER), ("executable device memory",))


def test_entry_that_ends_before_it_begins(name: str) -> None:
    kernel = changed_entry(name, SHELLCODE, end=at(name, SHELLCODE) - PAGE)
    assert at(name, SHELLCODE) not in {one.start for one in found(kernel) if isinstance(one, Suspect)}
