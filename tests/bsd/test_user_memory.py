"""Memory of processes in full dumps, page by page as described: by page tables, by objects, or why it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.bsd.kernel_variants import Patch, without_types
from tests.bsd.vm_expectations import OBJECTS, PAGE, PROCESSES, USERS, chain
from tests.scenario.build_vm import stack_of
from tests.scenario.kernels import build_world, load
from tests.scenario.model import Process, VmEntry
from tests.scenario.processes import HEAP, MARKER, SHADOWED
from tests.scenario.user_memory import STACK, address, stack_object
from tests.scenario_dumps import FORMATS, damaged, walkable
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.user import (
    NO_PHYSICAL,
    NO_USER_PAGES,
    NO_USER_PART,
    UserMemories,
    UserMemory,
    user_memory,
)
from volatility3_freebsd_kvm.bsd.user_pages import GuardError, NotResidentError, State, SwappedError, UserRange
from volatility3_freebsd_kvm.exceptions import AddressError, BeyondEndError, NotMappedError
from volatility3_freebsd_kvm.kvm.space import AddressSpace

CSH = 850
TEXT, DATA = 0x200000, 0x204000
LIBC, FRAMEBUFFER = 0x800200000, 0x801400000
SOME = ("12.1-amd64", "15-arm64", "14-riscv", "15-i386")
"""Both shapes of maps and of lists of pages, both word sizes, several formats of page tables."""
MEMBERS = {
    "amd64": ("pm_cr3", "pm_ucr3", "pm_pml4", "pm_pmltop"),
    "arm64": ("pm_l0_paddr", "pm_ttbr", "pm_l0"),
    "riscv": ("pm_satp", "pm_top"),
    "i386": ("pm_pdir", "pm_pdpt_pae", "pm_pdir_nopae"),
}
"""What leads to page tables."""


class Expected(NamedTuple):
    """A page of a process, as the description has it."""

    state: State
    source: str
    content: bytes = b""


@pytest.fixture
def full(kernel: str) -> str:
    """A kernel whose architecture has full dumps."""
    if kernel.endswith("powerpc64"):
        pytest.skip("full dumps of powerpc64 cannot be translated")
    return kernel


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def bits_of(name: str) -> int:
    return build_world(name).memory.machine.word_bits


def at(name: str, va: int) -> int:
    return address(va, bits_of(name))


def memory_of(kernel: Kernel, name: str, pid: int = CSH) -> UserMemory:
    found = user_memory(kernel, kernel.object("proc", int(build_world(name).get("proc", pid))))
    assert found is not None
    return found


def csh(name: str, changes: Patch | None = None) -> UserMemory:
    kernel = walkable(name, "full") if changes is None else damaged(name, changes, "full")
    return memory_of(kernel, name)


# --- the truth ------------------------------------------------------------------------------------------------------


def contents(name: str, process: Process) -> dict[tuple[str, int], bytes]:
    """The resident pages of all objects, by object and index, with the stack of that process."""
    found = {(item.key, page.index): page.content for item in OBJECTS.values() for page in item.pages}
    key = stack_object(process)
    stack = stack_of(build_world(name), process).content
    stack = bytes(-len(stack) % PAGE) + stack
    first = (OBJECTS[key].size - len(stack)) // PAGE
    return found | {(key, first + part): stack[part * PAGE :][:PAGE] for part in range(len(stack) // PAGE)}


def expected_pages(name: str, process: Process) -> dict[int, Expected]:
    resident = contents(name, process)
    touched = {page.va for page in process.user_pages}
    found = {}
    for entry in process.vm_entries:
        for va in range(entry.start, entry.end, PAGE):
            page = expected_page(entry, va, resident)
            if va in touched or (entry.grows_down and page.state is State.PRESENT):
                page = page._replace(source="page table")
            found[at(name, va)] = page
    return found


def expected_page(entry: VmEntry, va: int, resident: dict[tuple[str, int], bytes]) -> Expected:
    if entry.guard:
        return Expected(State.GUARD, "")
    index = (entry.offset + va - entry.start) // PAGE
    for depth, item in enumerate(chain(entry.object)):
        source = f"shadow {depth}" if depth else "object"
        if (item.key, index) in resident:
            return Expected(State.PRESENT, source, resident[item.key, index].ljust(PAGE, b"\0"))
        if index in dict(item.swapped):
            return Expected(State.SWAPPED, source)
        index += item.backing_offset // PAGE
    made_of_zeros = item.kind == "anonymous"
    return Expected(State.UNTOUCHED if made_of_zeros else State.NOT_RESIDENT, "")


def page_by_page(memory: UserMemory, ranges: Iterator[UserRange]) -> dict[int, Expected]:
    """What was found, page by page, without what is not mapped."""
    found = {}
    for one in ranges:
        assert one.length % PAGE == 0
        for va in range(one.address, one.address + one.length, PAGE) if one.state is not State.NOT_MAPPED else ():
            content = memory.read(va, PAGE) if one.state is State.PRESENT else b""
            found[va] = Expected(one.state, one.source, content)
    return found


def test_every_page_of_every_process_is_as_described(full: str) -> None:
    kernel = walkable(full, "full")
    memories = UserMemories(kernel)
    for process in USERS:
        memory = memories.of(kernel.object("proc", int(build_world(full).get("proc", process.pid))))
        assert memory is not None
        assert memory.notes == ()
        assert page_by_page(memory, memory.pages()) == expected_pages(full, process)


def test_ranges_have_no_gaps(full: str) -> None:
    memory = csh(full)
    position = 0
    for found in memory.pages():
        assert (found.address, found.length > 0) == (position, True)
        position += found.length
    assert position == memory.end


def test_markers_are_at_their_addresses(full: str) -> None:
    memory, heap = csh(full), at(full, HEAP)
    assert memory.read(heap, len(MARKER)) == MARKER
    assert memory.read(heap + PAGE, len(SHADOWED)) == SHADOWED
    # Across the border of a page of the tables and one of an object that the first one shadows.
    assert memory.read(heap + PAGE - 2, 12) == b"\0\0" + SHADOWED[:10]
    assert memory.read(heap + 3 * PAGE, 25) == b"the last page of the heap"


def test_what_is_not_there_says_why(full: str) -> None:
    memory = csh(full)
    cases: dict[int, tuple[type[AddressError], str]] = {
        HEAP + 2 * PAGE + 5: (SwappedError, "is swapped out (swap block 0x1234)"),
        LIBC + PAGE: (NotResidentError, "is not resident (a page of kind vnode)"),
        FRAMEBUFFER: (NotResidentError, "is not resident (a page of kind device)"),
        STACK - 4 * PAGE: (NotResidentError, "is not resident (memory that was never touched, zeros to the process)"),
        STACK - 0x20000: (GuardError, "is in a guard"),
        HEAP - PAGE: (NotMappedError, "is not mapped"),
    }
    for va, (kind, text) in cases.items():
        where = at(full, va)
        with pytest.raises(AddressError) as caught:
            memory.read(where, 4)
        assert type(caught.value) is kind
        assert str(caught.value) == f"address {where:#x} {text}"


def test_reading_fails_at_the_first_page_that_is_not_there(name: str) -> None:
    with pytest.raises(SwappedError) as caught:
        csh(name).read(at(name, HEAP) + 10, 4 * PAGE)
    assert caught.value.address == at(name, HEAP) + 2 * PAGE


def test_what_is_missing_is_counted(name: str) -> None:
    memory, heap = csh(name), at(name, HEAP)
    assert memory.count(heap, heap + 4 * PAGE) == {State.PRESENT: 3, State.SWAPPED: 1}
    assert memory.missing(heap, heap + 4 * PAGE) == "1 of 4 pages are missing: 1 swapped out"
    assert memory.missing(heap, heap + PAGE) == ""
    assert memory.missing(heap, heap + 5 * PAGE) == "2 of 5 pages are missing: 1 swapped out, 1 not mapped"


def test_readable_stretches_and_padding(name: str) -> None:
    memory, heap = csh(name), at(name, HEAP)
    assert list(memory.readable(heap, heap + 4 * PAGE)) == [(heap, 2 * PAGE), (heap + 3 * PAGE, PAGE)]
    assert list(memory.readable(heap + 7, heap + 9)) == [(heap + 7, 2)]
    padded = memory.read_padded(heap + 2 * PAGE - 8, PAGE + 11)
    assert padded == bytes(PAGE + 8) + b"the"
    assert list(memory.pages(heap + 7, heap + 7)) == []
    assert list(memory.pages(memory.end + PAGE)) == []


def test_addresses_within_pages_keep_their_places(name: str) -> None:
    memory, heap = csh(name), at(name, HEAP)
    (whole,) = memory.pages(heap, heap + PAGE)
    (part,) = memory.pages(heap + 0x10, heap + 0x20)
    assert whole.pa is not None
    assert part == whole._replace(address=heap + 0x10, length=0x10, pa=whole.pa + 0x10)


def test_objects_tell_private_copies(name: str) -> None:
    """As if there were no page tables: the copy of a page of the text is in the object, the text below it."""
    memory = csh(name)
    found = [(one.address, one.state, one.source) for one in memory.by_objects(TEXT, DATA + 2 * PAGE)]
    assert found == [
        (TEXT, State.PRESENT, "object"),
        (TEXT + PAGE, State.NOT_RESIDENT, ""),
        (TEXT + 2 * PAGE, State.PRESENT, "object"),
        (TEXT + 3 * PAGE, State.NOT_RESIDENT, ""),
        (DATA, State.PRESENT, "object"),
        (DATA + PAGE, State.NOT_RESIDENT, ""),
    ]
    data = next(entry for entry in memory.entries if entry.start == DATA)
    assert [item.kind for item in memory.chain(data).objects][-1] == "vnode"
    assert len(memory.chain(data).objects) == 2
    (swapped,) = memory.by_objects(at(name, HEAP) + 2 * PAGE, at(name, HEAP) + 3 * PAGE)
    assert (swapped.source, swapped.block) == ("object", 0x1234)


def test_the_text_below_a_copy_is_found_through_the_offset(name: str) -> None:
    """Page 0 of the data is page 2 of the text; without a page of its own the text's shows."""
    world = build_world(name)
    data = world.get("vm_object", "csh-data")
    memory = csh(name, tables_lost(name, without_pages(name, data)))
    (found, rest) = memory.pages(DATA, DATA + 2 * PAGE)
    assert (found.state, found.source, rest.state) == (State.PRESENT, "shadow 1", State.NOT_RESIDENT)
    assert memory.read(DATA, 17) == b"third page of csh"


# --- where there is nothing -----------------------------------------------------------------------------------------


def test_minidumps_have_no_user_pages(kernel: str) -> None:
    memories = UserMemories(walkable(kernel))
    for process in USERS:
        proc = memories.kernel.object("proc", int(build_world(kernel).get("proc", process.pid)))
        assert memories.of(proc) is None
        assert memories.why_none(proc) == NO_USER_PAGES


def test_kernel_processes_and_zombies_have_no_memory(name: str) -> None:
    memories = UserMemories(walkable(name, "full"))
    for pid in (0, 11, 864):
        proc = memories.kernel.object("proc", int(build_world(name).get("proc", pid)))
        assert memories.of(proc) is None
        assert memories.why_none(proc) == NO_USER_PART


def test_a_kernel_known_by_its_bytes_only(name: str) -> None:
    memories = UserMemories(replace(walkable(name, "full"), space=None))
    proc = memories.kernel.object("proc", int(build_world(name).get("proc", CSH)))
    assert memories.of(proc) is None
    assert memories.why_none(proc) == NO_PHYSICAL


def test_a_kernel_without_types(name: str) -> None:
    kernel = replace(without_types(name), space=walkable(name, "full").space)
    proc = kernel.object("proc", int(build_world(name).get("proc", CSH)))
    assert UserMemories(kernel).of(proc) is None
    why = UserMemories(kernel).why_none(proc)
    assert why.startswith("cannot be read: struct proc has no member p_")
    assert why.endswith(" in this kernel")


def test_pages_behind_the_end_of_the_file(name: str) -> None:
    """The file ends within the page with the marker; what leads there is still known."""
    heap = at(name, HEAP)
    whole = damaged(name, tables_lost(name), "full")
    assert whole.space is not None
    _, offset = memory_of(whole, name).space.locate(heap)
    cut = kvm.open(FORMATS["full"](build_world(name).memory)[: offset + 10], symbols=load(name)[0].symbols)
    memory = memory_of(replace(whole, space=AddressSpace(cut.physical, whole.space.page_map)), name)
    found = [(one.address, one.length, one.state) for one in memory.pages(heap, heap + PAGE)]
    assert found == [(heap, 10, State.PRESENT), (heap + 10, PAGE - 10, State.BEYOND_END)]
    assert memory.read(heap, 10) == MARKER[:10]
    with pytest.raises(BeyondEndError) as caught:
        memory.read(heap, 11)
    assert caught.value.address == heap + 10


# --- ways to the page tables ----------------------------------------------------------------------------------------


def pmap_of(name: str, pid: int = CSH) -> Object:
    pmap = build_world(name).get("vmspace", pid).vm_pmap
    assert isinstance(pmap, Object)
    return pmap


def tables_lost(name: str, patch: Patch | None = None, value: int = 0) -> Patch:
    """Nothing leads to the page tables."""
    patch = Patch(name) if patch is None else patch
    pmap = pmap_of(name)
    for member in MEMBERS[build_world(name).arch]:
        if patch.types.has_member("pmap", member):
            patch.member("pmap", pmap, member, value)
    return patch


def without_pages(name: str, obj: Object) -> Patch:
    """An object that has lost its pages."""
    patch = Patch(name).member("vm_object", obj, "resident_page_count", 0)
    if patch.types.has_member("vm_object", "memq"):
        head = addressof(obj, "memq")
        return patch.pointer(head, 0).pointer(head + patch.word, head)
    return patch.pointer(addressof(obj, "rtree"), 1)


def test_without_page_tables_the_objects_have_everything(name: str) -> None:
    memory = csh(name, tables_lost(name))
    assert memory.root is None
    assert memory.notes == ("its page tables cannot be used: the types of this kernel do not lead to them",)
    found = page_by_page(memory, memory.pages())
    wanted = expected_pages(name, PROCESSES[CSH])
    assert {va: page._replace(source="") for va, page in found.items()} == {
        va: page._replace(source="") for va, page in wanted.items()
    }
    assert {page.source for page in found.values()} == {"object", "shadow 1", ""}
    assert memory.end == at(name, STACK)


@pytest.mark.parametrize("name", ["12.1-amd64", "13.0-amd64", "15-amd64"])
def test_tables_that_are_not_in_the_dump(name: str) -> None:
    memory = csh(name, tables_lost(name, value=0x7FFFF000))
    assert memory.root is None
    assert memory.notes == ("its page tables cannot be used: the top one at 0x7ffff000 is not dumped",)
    assert memory.read(HEAP, len(MARKER)) == MARKER


def test_isolated_tables_are_those_of_user_mode() -> None:
    """13.0 runs with PTI in the scenario. Bits of a PCID do not matter."""
    name = "13.0-amd64"
    pmap = pmap_of(name)
    user = int(pmap.pm_ucr3)
    assert user != int(pmap.pm_cr3)
    assert csh(name).root == (user, "amd64")
    patched = csh(name, Patch(name).member("pmap", pmap, "pm_ucr3", user | 0x803))
    assert patched.root == (user, "amd64")
    assert patched.read(HEAP, len(MARKER)) == MARKER


def test_either_table_of_an_isolated_process_will_do() -> None:
    name = "13.0-amd64"
    pmap = pmap_of(name)
    memory = csh(name, Patch(name).member("pmap", pmap, "pm_ucr3", 0x7FFFF000))
    assert memory.root == (int(pmap.pm_cr3), "amd64")
    (found,) = memory.pages(HEAP, HEAP + PAGE)
    assert (found.state, found.source) == (State.PRESENT, "page table")


@pytest.mark.parametrize("name", ["12.1-amd64", "15-amd64", "15-arm64", "14-riscv"])
def test_the_kernels_own_view_of_the_top_table_will_do(name: str) -> None:
    """Without the members that have its physical address."""
    root = csh(name).root
    patch, pmap = Patch(name), pmap_of(name)
    for member in ("pm_cr3", "pm_l0_paddr", "pm_ttbr", "pm_satp"):
        if patch.types.has_member("pmap", member):
            patch.member("pmap", pmap, member, 0)
    assert csh(name, patch).root == root


@pytest.mark.parametrize("name", ["12.1-amd64", "15-amd64"])
def test_tables_of_guests_are_left_alone(name: str) -> None:
    memory = csh(name, Patch(name).member("pmap", pmap_of(name), "pm_type", 1))
    assert memory.root is None
    assert memory.read(HEAP, len(MARKER)) == MARKER
