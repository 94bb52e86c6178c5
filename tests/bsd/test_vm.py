"""Address maps of processes: their entries, and the objects and pages behind them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bsd.kernel_variants import NOWHERE, Patch, nothing_known, nowhere, without_types
from tests.bsd.synthetic_names import with_structs
from tests.bsd.vm_expectations import PAGE, PROCESSES, USERS, expected, pages
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.needs import ADVICE
from volatility3_freebsd_kvm.bsd.path import Paths
from volatility3_freebsd_kvm.bsd.pctrie import Trie
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.shm import named_objects
from volatility3_freebsd_kvm.bsd.vm import MapEntry, process_maps, protection_text
from volatility3_freebsd_kvm.bsd.vm_map import Map
from volatility3_freebsd_kvm.bsd.vm_object import VmObjects
from volatility3_freebsd_kvm.image.structs import Structs

SOME = ("12.1-amd64", "12.1-i386", "15-amd64", "14-powerpc64")
"""Both shapes of maps, both of lists of pages (15 has none), both word sizes, both byte orders."""
CSH = 850


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def entries_of(kernel: Kernel, pid: int) -> tuple[list[MapEntry], list[str]]:
    """Entries without their addresses, and problems."""
    found = list(process_maps(kernel, [pid]))
    entries = [without_address(item) for item in found if isinstance(item, MapEntry)]
    return entries, [str(item) for item in found if isinstance(item, Problem)]


def without_address(entry: MapEntry) -> MapEntry:
    return replace(entry, address=Absent.NOT_APPLICABLE)


# --- the truth ------------------------------------------------------------------------------------------------------


def test_every_field_of_every_entry_is_as_described(kernel: str) -> None:
    found = list(process_maps(walkable(kernel)))
    wanted = [entry for process in USERS for entry in expected(kernel, process)]
    assert [item for item in found if isinstance(item, Problem)] == []
    for item, truth in zip(found, wanted, strict=True):
        assert isinstance(item, MapEntry)
        assert without_address(item) == truth


def test_kernel_processes_have_nothing_mapped(name: str) -> None:
    assert entries_of(walkable(name), 0) == ([], [])
    assert entries_of(walkable(name), 864) == ([], [])


def test_by_jail(name: str) -> None:
    found = [without_address(item) for item in process_maps(walkable(name), (), ["db"]) if isinstance(item, MapEntry)]
    assert found == expected(name, PROCESSES[1100])


@pytest.mark.parametrize(("bits", "text"), [(0, "---"), (1, "r--"), (2, "-w-"), (5, "r-x"), (7, "rwx"), (0x107, "rwx")])
def test_protection(bits: int, text: str) -> None:
    assert protection_text(bits) == text


def test_resident_pages_by_tree(kernel: str) -> None:
    """The tree of each object holds what its list has, where there is one."""
    walked = walkable(kernel)
    node = "vm_radix_node" if walked.has_type("vm_radix_node") else "pctrie_node"
    place = walked.structs.offset("vm_page", "pindex")
    for item in SYSTEM.objects:
        obj = walked.object("vm_object", int(build_world(kernel).get("vm_object", item.key)))
        trie = Trie(walked, obj.at_("rtree"), node)
        offset = 0 if walked.has_member("vm_radix", "rt_trie") else place
        found = [walked.structs.uint(leaf + offset, walked.structs.word_size) for leaf in trie]
        assert found == sorted(pages(kernel, item.key)), item.key
        assert trie.problems == []


def test_window_of_a_shadow_chain(name: str) -> None:
    """The heap's own pages, one below, each counted once, whatever part of it is mapped."""
    objects = VmObjects(walkable(name), Paths(walkable(name)))
    heap = objects.chain(int(build_world(name).get("vm_object", "csh-heap")))
    assert [item.resident for item in heap.objects] == [2, 1]
    windows = [(0, 4), (0, 1), (1, 1), (2, 1), (3, 1), (1, 3), (4, 4), (0, 0)]
    assert [objects.resident(heap, first * PAGE, count * PAGE) for first, count in windows] == [3, 1, 1, 0, 1, 2, 0, 0]


def test_names_of_shared_memory(kernel: str) -> None:
    assert named_objects(walkable(kernel)) == {int(build_world(kernel).get("vm_object", "shm-object")): "/worker"}


def test_mapping_of_shared_memory(name: str) -> None:
    """The heap of csh as if it were that of another process's shared memory."""
    world = build_world(name)
    entry = entry_at(name, CSH, 3)
    kernel = damaged(
        name, Patch(name).member("vm_map_entry", entry, "object", int(world.get("vm_object", "shm-object")))
    )
    found = entries_of(kernel, CSH)[0][3]
    assert (found.kind, found.path, found.resident) == ("swap", "/worker", 1)


def test_mapping_of_a_device(name: str) -> None:
    world = build_world(name)
    obj = world.get("vm_object", "framebuffer")
    kernel = damaged(name, Patch(name).member("vm_object", obj, "handle", int(world.get("cdev", "mem"))))
    assert entries_of(kernel, CSH)[0][5].path == "/dev/mem"


def test_mapping_of_a_file_on_tmpfs(name: str) -> None:
    """A swap object that knows the file: until 13 its vnode, since 14 its node, by a pager that came at run time."""
    world, kernel = build_world(name), walkable(name)
    obj = world.get("vm_object", "csh-evil")
    patch = Patch(name)
    if kernel.has_member("vm_object", "un_pager.swp.swp_tmpfs"):
        patch.member("vm_object", obj, "type", 1).member("vm_object", obj, "flags", 0x8200)
        place = kernel.structs.offset("vm_object", "un_pager.swp.swp_tmpfs")
        patch.pointer(int(obj) + place, int(world.get("vnode", "uncached")))
    else:
        pager = patch.room(0x100)
        patch.number(pager, 2, 4).pointer(kernel.address("pagertab") + 9 * patch.word, pager)
        patch.member("vm_object", obj, "type", 9)
        place = kernel.structs.offset("vm_object", "un_pager.swp.swp_priv")
        patch.pointer(int(obj) + place, int(world.get("tmpfs_node", "uncached")))
    found = entries_of(damaged(name, patch), CSH)[0][4]
    assert (found.kind, found.path) == ("vnode", "/tmp/uncached")


def test_shared_address_space(name: str) -> None:
    world = build_world(name)
    patch = Patch(name).member("proc", world.get("proc", 861), "p_vmspace", int(world.get("vmspace", CSH)))
    found = [item for item in process_maps(damaged(name, patch)) if isinstance(item, MapEntry) and item.pid == CSH]
    assert found == [MapEntry(CSH, "csh", notes=("shares the address space of process 861",))]


# --- other flags ----------------------------------------------------------------------------------------------------


def entry_at(kernel: str, pid: int, number: int) -> int:
    """The `struct vm_map_entry` of a process, by its place."""
    walked = walkable(kernel)
    space = walked.object("vmspace", int(build_world(kernel).get("vmspace", pid)))
    return Map(walked, space.vm_map).addresses()[number]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"eflags": 0x20, "wired_count": 1}, ("user-wired",)),
        ({"wired_count": 2}, ("wired",)),
        ({"eflags": 0x401}, ("nosync", "no core dump")),
        ({"eflags": 0x2000}, ("grows up",)),
        ({"eflags": 0x30000}, ("guard", "stack gap")),
    ],
)
def test_flags(name: str, members: dict[str, int], words: tuple[str, ...]) -> None:
    patch = Patch(name)
    for member, value in members.items():
        patch.member("vm_map_entry", entry_at(name, CSH, 3), member, value)
    assert entries_of(damaged(name, patch), CSH)[0][3].flags == words


def test_submap(name: str) -> None:
    kernel = damaged(name, Patch(name).member("vm_map_entry", entry_at(name, CSH, 3), "eflags", 0x2))
    found = entries_of(kernel, CSH)[0][3]
    assert (found.kind, found.object, found.resident, found.path) == ("submap", *[Absent.NOT_APPLICABLE, 0], found.path)


def test_bit_that_means_another_thing_since_13(name: str) -> None:
    kernel = damaged(name, Patch(name).member("vm_map_entry", entry_at(name, CSH, 3), "eflags", 0x800))
    assert entries_of(kernel, CSH)[0][3].flags == (("write-counted",) if name.startswith("12") else ("text",))


# --- hostile maps ---------------------------------------------------------------------------------------------------

WHERE = f"address map of process {CSH}"


def step(kernel: str, number: int) -> int:
    """Where the way upwards is read on from an entry: its ``next``, in the tree the right child of the one below."""
    return addressof_entry(kernel, entry_at(kernel, CSH, number), "next" if is_listed(kernel) else "right")


def is_listed(kernel: str) -> bool:
    return walkable(kernel).has_member("vm_map_entry", "next")


def addressof_entry(kernel: str, entry: int, member: str) -> int:
    return entry + walkable(kernel).structs.offset("vm_map_entry", member)


def starts(found: list[MapEntry]) -> list[int]:
    return [int(item.start) for item in found if isinstance(item.start, int)]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("to", ["first", "nowhere"])
def test_broken_way_upwards(name: str, number: int, to: str) -> None:
    """The rest is found from the other end and by the tree; what no other link leads to is missing in the count."""
    place = entry_at(name, CSH, 0) if to == "first" else NOWHERE
    found, said = entries_of(damaged(name, Patch(name).pointer(step(name, number), place)), CSH)
    wanted = expected(name, PROCESSES[CSH])
    assert [item for item in wanted if item in found] == found
    assert len(found) == 8 if is_listed(name) else len(found) >= 4
    assert all(one.startswith(f"{WHERE}: ") for one in said)
    if to == "nowhere":
        assert said[0].startswith(f"{WHERE}: its entries end where address 0x")
        assert nowhere(name).split(" (")[0] in said[0]
    assert len(found) == 8 or said[-1] == f"{WHERE}: {len(found)} entries were found, the map counts 8"
    assert said


def test_entry_that_only_the_tree_knows(name: str) -> None:
    """Taken out of the list, or out of the way that the threads make: so a mapping might be hidden."""
    before, hidden, after = (entry_at(name, CSH, number) for number in (3, 4, 5))
    patch = Patch(name)
    if is_listed(name):
        patch.pointer(addressof_entry(name, before, "next"), after)
        patch.pointer(addressof_entry(name, after, "prev"), before)
        found, said = entries_of(damaged(name, patch), CSH)
        assert found == expected(name, PROCESSES[CSH])
        assert said == [f"{WHERE}: 1 entries are not on the way upwards"]
    assert hidden not in (before, after)


@pytest.mark.parametrize("count", [0, 7, (1 << 31) - 1])
def test_wrong_number_of_entries(name: str, count: int) -> None:
    place = addressof(build_world(name).get("vmspace", CSH), "vm_map")
    found, said = entries_of(damaged(name, Patch(name).member("vm_map", place, "nentries", count)), CSH)
    assert found == expected(name, PROCESSES[CSH])
    assert said == [f"{WHERE}: 8 entries were found, the map counts {count}"]


def test_entry_out_of_order(name: str) -> None:
    entry = entry_at(name, CSH, 2)
    found, said = entries_of(damaged(name, Patch(name).member("vm_map_entry", entry, "start", 0)), CSH)
    assert said
    assert starts(found) == sorted(starts(found))
    assert starts(found)[-5:] == [item.start for item in expected(name, PROCESSES[CSH])][-5:]


def test_entry_that_ends_before_it_starts(name: str) -> None:
    entry = entry_at(name, CSH, 3)
    found, said = entries_of(damaged(name, Patch(name).member("vm_map_entry", entry, "end", 0)), CSH)
    assert said == []
    assert found[3].notes == ("its end is not behind its start",)
    assert found[3].resident == 0


def test_address_space_that_leads_nowhere(name: str) -> None:
    proc = build_world(name).get("proc", CSH)
    found, said = entries_of(damaged(name, Patch(name).member("proc", proc, "p_vmspace", NOWHERE)), CSH)
    assert found == []
    assert said[0].startswith(f"{WHERE}: ")


# --- hostile objects ------------------------------------------------------------------------------------------------


def vm_object(kernel: str, key: str) -> Object:
    found = build_world(kernel).get("vm_object", key)
    assert isinstance(found, Object)
    return found


def heap_of(kernel: Kernel) -> MapEntry:
    found, said = entries_of(kernel, CSH)
    assert said == []
    assert len(found) == 8
    return found[3]


def test_object_that_shadows_itself(name: str) -> None:
    heap = vm_object(name, "csh-heap")
    found = heap_of(damaged(name, Patch(name).member("vm_object", heap, "backing_object", int(heap))))
    assert (found.depth, found.resident) == (0, 2)
    assert found.notes == ("its objects shadow each other in a circle",)


def test_objects_that_shadow_each_other(name: str) -> None:
    heap, old = vm_object(name, "csh-heap"), vm_object(name, "csh-heap-old")
    found = heap_of(damaged(name, Patch(name).member("vm_object", old, "backing_object", int(heap))))
    assert (found.depth, found.resident) == (1, 3)
    assert found.notes == ("its objects shadow each other in a circle",)


def test_object_that_is_nowhere(name: str) -> None:
    heap = vm_object(name, "csh-heap")
    found = heap_of(damaged(name, Patch(name).member("vm_object", heap, "backing_object", NOWHERE)))
    assert (found.depth, found.resident) == (0, 2)
    assert found.notes[0].startswith("its object 0x10 cannot be read: address 0x")
    entry = entry_at(name, CSH, 3)
    found = heap_of(damaged(name, Patch(name).member("vm_map_entry", entry, "object", NOWHERE)))
    assert (found.kind, found.resident, found.object) == ("none", 0, NOWHERE)
    assert found.notes[0].startswith("its object 0x10 cannot be read: address 0x")


def test_pages_in_a_circle(name: str) -> None:
    """Of the list (until 14), or of the tree."""
    world, walked = build_world(name), walkable(name)
    libc = vm_object(name, "libc-text")
    patch = Patch(name)
    if walked.has_member("vm_object", "memq"):
        first = world.memory.read_pointer(addressof(libc, "memq"))
        patch.pointer(first + walked.structs.offset("vm_page", "listq"), first)
        word = f"loops back to {first:#x} after 1 elements"
    else:
        root = world.memory.read_pointer(addressof(libc, "rtree"))
        patch.pointer(root + walked.structs.offset("pctrie_node", "pn_child"), root)
        word = f"a branch leads back to the node {root:#x}"
    found = entries_of(damaged(name, patch), CSH)[0][2]
    assert found.notes == (f"its resident pages: {word}",)
    assert isinstance(found.resident, int)
    assert found.resident <= 2


@pytest.mark.parametrize("count", [-1, (1 << 31) - 1])
def test_impossible_number_of_pages(name: str, count: int) -> None:
    libc = vm_object(name, "libc-text")
    patch = Patch(name).member("vm_object", libc, "resident_page_count", count)
    found = entries_of(damaged(name, patch), CSH)[0][2]
    assert found.private == count
    if count > 0:
        assert (found.resident, found.notes) == (2, ())
    else:
        assert found.resident in (0, 1)
        assert found.notes[0].startswith("its resident pages: ")


def test_type_of_no_pager(name: str) -> None:
    found = heap_of(damaged(name, Patch(name).member("vm_object", vm_object(name, "csh-heap-old"), "type", 200)))
    assert found.kind == "unknown"


def test_file_that_is_nowhere(name: str) -> None:
    found = entries_of(
        damaged(name, Patch(name).member("vm_object", vm_object(name, "libc-text"), "handle", 0x10)), CSH
    )
    libc = found[0][2]
    assert (libc.kind, libc.path) == ("vnode", "<unreadable>")
    assert nowhere(name).split(" (")[0] in libc.notes[0]


def test_trie_that_is_too_deep(name: str) -> None:
    """A chain of nodes, each the only child of the one above: it ends at the number of pages that are said to be."""
    walked = walkable(name)
    node = "vm_radix_node" if walked.has_type("vm_radix_node") else "pctrie_node"
    size = walked.structs.size(node)
    prefix = "rn" if node == "vm_radix_node" else "pn"
    at = walked.structs.offset(node, f"{prefix}_child")
    word = walked.structs.word_size

    def read(address: int, length: int) -> bytes:
        number, place = divmod(address - 0xA000_0000, size)
        data = bytearray(size)
        data[at : at + word] = (0xA000_0000 + (number + 1) * size).to_bytes(word, walked.structs.byteorder)
        return bytes(data[place : place + length])

    endless = with_structs(walked, Structs(read, walked.structs.types, 8 * word, walked.structs.byteorder))
    trie = Trie(endless, 0xA000_0000 + at, node, limit=1000)
    assert list(trie) == []
    assert trie.problems == ["has more than 1000 nodes"]


def test_kernel_without_types(name: str) -> None:
    (problem,) = process_maps(without_types(name))
    assert str(problem) == (
        "address maps: the types of this kernel lack proc.p_vmspace, vmspace.vm_map, vm_map_entry.start, "
        f"vm_map_entry.object; {ADVICE}"
    )
    assert len(list(process_maps(nothing_known(name)))) == 1
