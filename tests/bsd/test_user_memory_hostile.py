"""Processes whose page tables, maps and objects were damaged or made by an attacker, and those of older releases."""

from __future__ import annotations

import copy
import itertools

import pytest

from tests.bsd.kernel_variants import NOWHERE, Patch, with_symbols
from tests.bsd.synthetic_names import with_structs
from tests.bsd.test_user_memory import CSH, SOME, at, bits_of, csh, memory_of, without_pages
from tests.bsd.vm_expectations import PAGE
from tests.scenario.kernels import build_world
from tests.scenario.processes import HEAP, MARKER
from tests.scenario.user_memory import STACK
from tests.scenario_dumps import damaged, walkable
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.user_pages import NotResidentError, State, SwappedError, UserRange
from volatility3_freebsd_kvm.bsd.vm_map import Map
from volatility3_freebsd_kvm.exceptions import AddressError, NotDumpedError, NotMappedError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- hostile memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["12.1-amd64", "15-arm64", "14-riscv"])
def test_page_tables_in_a_circle(name: str) -> None:
    """Every entry of the top table leads to the table itself."""
    world = build_world(name)
    kernel_view = world.memory.direct_va(csh(name).root.pa)  # type: ignore[union-attr]
    pa = csh(name).root.pa  # type: ignore[union-attr]
    entry = {"amd64": pa | 0x27, "arm64": pa | 0x3, "riscv": pa >> 12 << 10 | 0x1}[world.arch]
    patch = Patch(name)
    for slot in range(512):
        patch.number(kernel_view + 8 * slot, entry, 8)
    memory = csh(name, patch)
    assert sum(one.length for one in memory.pages()) == memory.end
    assert len(list(memory.readable())) < 1 << 20


def heap_object(name: str, key: str = "csh-heap") -> Object:
    found = build_world(name).get("vm_object", key)
    assert isinstance(found, Object)
    return found


def heap_ranges(name: str, patch: Patch) -> list[UserRange]:
    heap = at(name, HEAP)
    return list(csh(name, patch).pages(heap, heap + 4 * PAGE))


def test_objects_that_shadow_each_other(name: str) -> None:
    old = heap_object(name, "csh-heap-old")
    found = heap_ranges(name, Patch(name).member("vm_object", old, "backing_object", int(heap_object(name))))
    assert [(one.state, one.source) for one in found] == [
        (State.PRESENT, "page table"),
        (State.PRESENT, "shadow 1"),
        (State.SWAPPED, "object"),
        (State.PRESENT, "object"),
    ]
    patch = without_pages(name, old).member("vm_object", old, "backing_object", int(heap_object(name)))
    found = heap_ranges(name, patch)
    assert (found[1].state, found[1].detail) == (State.UNKNOWN, "its objects shadow each other in a circle")
    with pytest.raises(AddressError) as caught:
        csh(name, patch).read(at(name, HEAP) + PAGE, 1)
    assert str(caught.value).endswith("cannot be read (its objects shadow each other in a circle)")


def test_an_object_that_is_nowhere(name: str) -> None:
    found = heap_ranges(name, Patch(name).member("vm_object", heap_object(name), "backing_object", NOWHERE))
    assert [one.state for one in found] == [State.PRESENT, State.UNKNOWN, State.SWAPPED, State.PRESENT]
    assert found[1].detail.startswith("its object 0x10 cannot be read: address 0x")


def test_swap_blocks_that_are_nowhere(name: str) -> None:
    """What is known stays known: the page is not taken for one that was never touched."""
    trie = addressof(heap_object(name), "un_pager") + swap_at(name)
    found = heap_ranges(name, Patch(name).pointer(trie, NOWHERE))
    assert [one.state for one in found] == [State.PRESENT, State.PRESENT, State.UNKNOWN, State.PRESENT]
    assert found[2].detail.startswith("its swapped pages: the node 0x10 cannot be read: address 0x")


def swap_at(name: str) -> int:
    structs = walkable(name).structs
    return structs.offset("vm_object", "un_pager.swp.swp_blks") - structs.offset("vm_object", "un_pager")


def page_of(name: str, key: str, index: int) -> int:
    """The `struct vm_page` of a page of an object."""
    kernel = walkable(name, "full")
    low, _ = build_world(name).memory.machine.ram
    memory = csh(name)
    entry = next(entry for entry in memory.entries if entry.object == int(build_world(name).get("vm_object", key)))
    (found,) = memory.pages(entry.start + index * PAGE, entry.start + (index + 1) * PAGE)
    assert found.pa is not None
    return int(kernel.pointer("vm_page_array")) + (found.pa - low) // PAGE * kernel.structs.size("vm_page")


def test_a_page_with_nothing_valid_is_not_there(name: str) -> None:
    """It is being read from its file or from swap: what is in the memory is something else."""
    found = heap_ranges(name, Patch(name).member("vm_page", page_of(name, "csh-heap", 3), "valid", 0))
    assert (found[3].state, found[3].pa) == (State.UNTOUCHED, None)


def test_a_page_in_memory_that_does_not_exist(name: str) -> None:
    top = 0x7FFF_F000
    found = heap_ranges(name, Patch(name).member("vm_page", page_of(name, "csh-heap", 3), "phys_addr", top))
    assert (found[3].state, found[3].source, found[3].pa) == (State.NOT_DUMPED, "object", top)
    patch = Patch(name).member("vm_page", page_of(name, "csh-heap", 3), "phys_addr", top)
    with pytest.raises(NotDumpedError) as caught:
        csh(name, patch).read(at(name, HEAP) + 3 * PAGE, 1)
    assert str(caught.value).endswith("is not dumped (physical address 0x7ffff000)")


@pytest.mark.parametrize("index", [-1, 1 << 31])
def test_absurd_page_numbers(name: str, index: int) -> None:
    found = heap_ranges(name, Patch(name).member("vm_page", page_of(name, "csh-heap", 3), "pindex", index))
    assert (found[3].state, found[3].length) == (State.UNTOUCHED, PAGE)


@pytest.mark.parametrize("size", [0, -1])
def test_absurd_sizes_of_objects(name: str, size: int) -> None:
    found = heap_ranges(name, Patch(name).member("vm_object", heap_object(name), "size", size))
    assert [one.state for one in found] == [State.PRESENT, State.PRESENT, State.SWAPPED, State.PRESENT]


def test_an_entry_for_everything(name: str) -> None:
    """From the heap to the last address there is: no page of it is looked at one by one."""
    kernel = walkable(name)
    entries = (kernel.object("vm_map_entry", entry) for entry in entry_addresses(name))
    heap = next(entry for entry in entries if entry.start == at(name, HEAP))
    memory = csh(name, Patch(name).member("vm_map_entry", heap.address_, "end", (1 << bits_of(name)) - PAGE))
    assert sum(one.length for one in memory.pages()) == memory.end
    heap_pages = memory.count(at(name, HEAP), at(name, HEAP) + 0x100 * PAGE)
    assert heap_pages == {State.PRESENT: 3, State.SWAPPED: 1, State.UNTOUCHED: 0xFC}
    assert memory.read(at(name, HEAP), len(MARKER)) == MARKER


@pytest.mark.parametrize("start", [HEAP - 3 * PAGE, HEAP + 0x800], ids=["overlap", "unaligned"])
def test_entries_that_overlap_or_begin_within_a_page_are_cut(name: str, start: int) -> None:
    """What is said to be readable can be read, whatever the map says."""
    kernel = walkable(name)
    entries = [kernel.object("vm_map_entry", entry) for entry in entry_addresses(name)]
    place, heap = next((n, one) for n, one in enumerate(entries) if one.start == at(name, HEAP))
    end = int(heap.end)
    patch = Patch(name).member("vm_map_entry", heap.address_, "start", at(name, start))
    if start < HEAP:  # over the entry before
        patch.member("vm_map_entry", entries[place - 1].address_, "end", end - PAGE)
    memory = csh(name, patch)
    for address, length in memory.readable():
        assert len(memory.read(address, length)) == length
    cut = f"its entry {at(name, start):#x}-{end:#x} overlaps another or holds no whole pages"
    assert [note for note in memory.notes if "overlaps" in note] == [cut]
    assert all(one.end <= two.start for one, two in itertools.pairwise(memory.entries))
    assert all(not (one.start | one.end) % PAGE for one in memory.entries)


def entry_addresses(name: str) -> list[int]:
    kernel = walkable(name)
    vmspace = kernel.object("vmspace", int(build_world(name).get("vmspace", CSH)))
    return Map(kernel, vmspace.vm_map).addresses()


def test_a_map_that_cannot_be_walked_is_told(name: str) -> None:
    """Pages of the page tables are found all the same."""
    patch = Patch(name)
    vmspace = build_world(name).get("vmspace", CSH)
    structs = walkable(name).structs
    base = int(vmspace) + structs.offset("vmspace", "vm_map.header")
    for member in ("next", "prev", "left", "right"):
        if structs.has("vm_map_entry", member):
            patch.pointer(base + structs.offset("vm_map_entry", member), NOWHERE)
    patch.pointer(int(vmspace) + structs.offset("vmspace", "vm_map.root"), 0)
    memory = csh(name, patch)
    assert memory.entries == ()
    assert memory.notes[0].startswith("its map: its entries end where address 0x")
    assert memory.read(at(name, HEAP), len(MARKER)) == MARKER
    with pytest.raises(NotMappedError):
        memory.read(at(name, HEAP) + PAGE, 1)


# --- older releases -------------------------------------------------------------------------------------------------


def with_swap_hash(kernel: Kernel, symbols: dict[str, int]) -> Kernel:
    """A kernel as until 11: the swap blocks of all objects are in one hash (`struct swblock`)."""
    types = kernel.structs.types
    tables = copy.deepcopy(types.user_types)
    for table in tables.values():
        table["fields"].pop("swp_blks", None)
    wide = {"kind": "base", "name": "unsigned long"}
    pointer = {"kind": "pointer", "subtype": wide}
    fields = {
        "swb_hnext": (0, pointer),
        "swb_object": (8, pointer),
        "swb_index": (16, wide),
        "swb_pages": (32, {"kind": "array", "count": 4, "subtype": wide}),
    }
    tables["swblock"] = {
        "kind": "struct",
        "size": 64,
        "fields": {name: {"offset": offset, "type": kind} for name, (offset, kind) in fields.items()},
    }
    structs = Structs(kernel.structs.read, Types(types.base_types, tables, types.enums), 64, "little")
    return with_symbols(with_structs(kernel, structs), symbols)


def swap_hash(patch: Patch, blocks: list[tuple[int, int, list[int]]], loop: bool = False) -> dict[str, int]:
    """One chain of a hash of two, with ``(object, first page, blocks)``, and its symbols."""
    variables, heads, items = patch.room(16), patch.room(16), patch.room(64 * len(blocks))
    patch.pointer(variables, heads).number(variables + 8, 1, 4).pointer(heads, 0).pointer(heads + 8, items)
    for number, (owner, first, pages) in enumerate(blocks):
        at = items + 64 * number
        following = at + 64 if number + 1 < len(blocks) else items if loop else 0
        patch.pointer(at, following).pointer(at + 8, owner).number(at + 16, first, 8)
        for slot, block in enumerate(pages):
            patch.number(at + 32 + 8 * slot, block, 8)
    return {"swhash": variables, "swhash_mask": variables + 8}


def test_swap_blocks_of_older_releases() -> None:
    name = "12.1-amd64"
    heap, old = int(heap_object(name)), int(heap_object(name, "csh-heap-old"))
    patch = Patch(name)
    symbols = swap_hash(patch, [(old, 0, [1, 2, 3, 4]), (heap, 0, [-1, -1, 0x99, 0x98])])
    memory = memory_of(with_swap_hash(damaged(name, patch, "full"), symbols), name)
    assert [(one.state, one.source, one.block) for one in memory.pages(HEAP, HEAP + 4 * PAGE)] == [
        (State.PRESENT, "page table", None),
        (State.PRESENT, "shadow 1", None),
        (State.SWAPPED, "object", 0x99),
        (State.PRESENT, "object", None),
    ]


def test_a_swap_hash_that_loops() -> None:
    name = "12.1-amd64"
    patch = Patch(name)
    symbols = swap_hash(patch, [(1, 0, [1, 2, 3, 4]), (2, 0, [5, 6, 7, 8])], loop=True)
    memory = memory_of(with_swap_hash(damaged(name, patch, "full"), symbols), name)
    found = list(memory.pages(HEAP, HEAP + 4 * PAGE))
    assert [one.state for one in found] == [State.PRESENT, State.PRESENT, State.UNKNOWN, State.PRESENT]
    assert found[2].detail.startswith("its swapped pages: chain 1: loops back to 0x")


def test_a_kernel_whose_swap_blocks_are_not_known() -> None:
    name = "12.1-amd64"
    memory = memory_of(with_swap_hash(walkable(name, "full"), {}), name)
    (found,) = memory.pages(HEAP + 2 * PAGE, HEAP + 3 * PAGE)
    assert found.state is State.UNKNOWN
    assert found.detail == f"the swap blocks of its object {int(heap_object(name)):#x} cannot be listed"


@pytest.mark.parametrize("name", ["12.1-amd64", "15-arm64", "14-riscv"])
def test_tables_below_the_top_one_that_are_not_in_the_dump(name: str) -> None:
    """The map and its objects know the pages all the same; where they do not, the page table would have to."""
    root = csh(name).root
    assert root is not None
    lost = 0x7FFF_F000
    entry = {"amd64": lost | 0x27, "arm64": lost | 0x3, "riscv": lost >> 12 << 10 | 0x1}[build_world(name).arch]
    patch = Patch(name)
    for slot in range(512):
        patch.number(build_world(name).memory.direct_va(root.pa) + 8 * slot, entry, 8)
    memory = csh(name, patch)
    assert memory.read(HEAP, len(MARKER)) == MARKER
    assert {one.source for one in memory.pages()} == {"object", "shadow 1", ""}
    for va, kind in ((HEAP + 2 * PAGE, SwappedError), (STACK - 4 * PAGE, NotResidentError), (0x1000, NotDumpedError)):
        with pytest.raises(AddressError) as caught:
            memory.read(va, 1)
        assert type(caught.value) is kind
    assert str(caught.value) == "address 0x1000 is not dumped (the page table for it at 0x7ffff000 is not dumped)"
