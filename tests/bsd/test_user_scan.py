"""The memory of a process in pieces to be searched."""

from __future__ import annotations

import pytest

from tests.bsd.user_image_truth import at
from tests.scenario.user_images import ACROSS, SHELLCODE, WORKER
from tests.scenario.user_memory import PAGE
from tests.user_image_dumps import images_kernel, images_world
from volatility3_freebsd_kvm.bsd.user import UserMemory, user_memory
from volatility3_freebsd_kvm.bsd.user_scan import not_read, windows


@pytest.fixture(scope="module", params=["15-amd64", "12.1-i386"])
def worker(request: pytest.FixtureRequest) -> tuple[str, UserMemory]:
    name = str(request.param)
    kernel = images_kernel(name)
    memory = user_memory(kernel, kernel.object("proc", int(images_world(name).get("proc", WORKER))))
    assert memory is not None
    return name, memory


def test_a_stretch_is_one_piece(worker: tuple[str, UserMemory]) -> None:
    name, memory = worker
    found = [(one.address, len(one.data), one.own) for one in windows(memory)]
    assert found == [(address, length, length) for address, length in memory.readable()]
    start = at(name, SHELLCODE)
    (piece,) = (one for one in windows(memory) if one.address == start)
    assert (len(piece.data), piece.data.find(ACROSS)) == (3 * PAGE, 2 * PAGE - 10)


@pytest.mark.parametrize(("size", "pages"), [(PAGE, 1), (1, 1), (2 * PAGE, 2), (3 * PAGE, 3)])
def test_long_stretches_are_cut_with_an_overlap(worker: tuple[str, UserMemory], size: int, pages: int) -> None:
    name, memory = worker
    start = at(name, SHELLCODE)
    found = [one for one in windows(memory, size, 100) if start <= one.address < start + 4 * PAGE]
    assert [(one.address, one.own) for one in found] == [
        (start + at_, min(pages * PAGE, 3 * PAGE - at_)) for at_ in range(0, 3 * PAGE, pages * PAGE)
    ]
    whole = memory.read(start, 3 * PAGE)
    for one in found:
        low = one.address - start
        assert one.data == whole[low : low + one.own + 100]
    # What lies across the cut is whole in exactly one piece's own part.
    starts = [one.address + one.data.find(ACROSS) for one in found if 0 <= one.data.find(ACROSS) < one.own]
    assert starts == [start + 2 * PAGE - 10]


def test_what_cannot_be_read(worker: tuple[str, UserMemory]) -> None:
    # Of the shellcode and of the text of libutil, and of that of libc; what was never touched holds nothing.
    assert not_read(worker[1]) == "3 pages: 2 swapped out, 1 not resident"


def test_entries(worker: tuple[str, UserMemory]) -> None:
    name, memory = worker
    start = at(name, SHELLCODE)
    entries = [memory.entry_at(address) for address in (start, start + 4 * PAGE - 1)]
    assert [(one.start, one.end) for one in entries if one] == [(start, start + 4 * PAGE)] * 2
    assert memory.entry_at(start - 1) is None
    assert memory.entry_at(start + 4 * PAGE) is None
