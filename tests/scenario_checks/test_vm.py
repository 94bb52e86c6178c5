"""Virtual memory, read back from the minidump and (what belongs to processes) from the full dump."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import pytest

from tests.scenario.model import Process, VmEntry, VmObject
from tests.scenario.system import SYSTEM
from tests.scenario.user_memory import STACK, address, has_memory, process_path, stack_object
from tests.scenario_checks.kernel_reader import KernelReader, full_dump, minidump
from tests.scenario_checks.user_space import UserSpace
from tests.writers.machine import MACHINES
from volatility3_freebsd_kvm import kvm

OBJECTS = {item.key: item for item in SYSTEM.objects}
USERS = [process for process in SYSTEM.processes if has_memory(process)]
PROT = {"r": 1, "w": 2, "x": 4}
COW, NEEDS_COPY, GROWS_DOWN, GUARD, STACK_GAP = 0x4, 0x8, 0x1000, 0x10000, 0x20000


@pytest.fixture(scope="module")
def reader(kernel: str) -> KernelReader:
    return minidump(kernel)


@pytest.fixture(scope="module")
def everything(kernel: str) -> KernelReader:
    if MACHINES[kernel.split("-")[1]].tables is None:
        pytest.skip("no full dump of this architecture has page tables here")
    return full_dump(kernel)


@pytest.fixture(scope="module")
def procs(reader: KernelReader) -> dict[int, int]:
    """Every process by pid, from the list of processes and (until 12) that of zombies."""
    heads = [reader.symbol(name) for name in ("allproc", "zombproc") if reader.has_symbol(name)]
    found = [proc for head in heads for proc in reader.list(head, "proc", "p_list")]
    return {reader.field(proc, "proc", "p_pid"): proc for proc in found}


@pytest.fixture(scope="module")
def spaces(reader: KernelReader, procs: dict[int, int]) -> dict[int, int]:
    """The vmspace of each process."""
    return {pid: reader.field(proc, "proc", "p_vmspace") for pid, proc in procs.items()}


@pytest.fixture(scope="module")
def objects(reader: KernelReader, spaces: dict[int, int]) -> dict[str, int]:
    """Where each object is: by the maps, by what is below those, and by what is left over in the list of all."""
    found: dict[str, int] = {}
    for process in USERS:
        described = sorted(process.vm_entries, key=lambda entry: entry.start)
        for item, entry in zip(
            described, entries(reader, reader.at(spaces[process.pid], "vmspace", "vm_map")), strict=True
        ):
            target = reader.field(entry, "vm_map_entry", "object.vm_object")
            key = item.object
            while key:
                assert found.setdefault(key, target) == target, key
                key, target = OBJECTS[key].backing, reader.field(target, "vm_object", "backing_object")
            assert not target
    for memory in SYSTEM.shared_memory:
        if memory.object:
            found[memory.object] = _unmapped_object(reader, memory.object, set(found.values()))
    return found


def _unmapped_object(reader: KernelReader, key: str, known: set[int]) -> int:
    listed = set(reader.tailq(reader.symbol("vm_object_list"), "vm_object", "object_list")) - known
    pages = len(OBJECTS[key].pages)
    matching = [
        obj
        for obj in listed
        if reader.field(obj, "vm_object", "type") == 1
        and reader.field(obj, "vm_object", "size") == OBJECTS[key].size // 4096
        and reader.field(obj, "vm_object", "resident_page_count") == pages
    ]
    assert len(matching) == 1
    return matching[0]


def prot(letters: str) -> int:
    return sum(PROT.get(letter, 0) for letter in letters)


# Maps


def limits(reader: KernelReader, map_: int) -> tuple[int, int]:
    """The lowest address of a map and the one behind its highest: the other way round than the names say."""
    return reader.field(map_, "vm_map", "header.end"), reader.field(map_, "vm_map", "header.start")


def successor(reader: KernelReader, entry: int) -> int:
    """`vm_map_entry_succ` of 13.0: a missing right child is a thread to what follows."""
    start = reader.field(entry, "vm_map_entry", "start")
    after = reader.field(entry, "vm_map_entry", "right")
    left = reader.field(after, "vm_map_entry", "left")
    if reader.field(left, "vm_map_entry", "start") > start:
        while left != entry:
            after, left = left, reader.field(left, "vm_map_entry", "left")
    return after


def entries(reader: KernelReader, map_: int) -> list[int]:
    """All entries of a map, in order."""
    header = reader.at(map_, "vm_map", "header")
    classic = reader.has("vm_map_entry", "next")
    entry = reader.field(header, "vm_map_entry", "next" if classic else "right")
    found = []
    while entry != header:
        found.append(entry)
        assert len(found) < 100
        entry = reader.field(entry, "vm_map_entry", "next") if classic else successor(reader, entry)
    if classic:
        back, entry = [], reader.field(header, "vm_map_entry", "prev")
        while entry != header:
            back.append(entry)
            entry = reader.field(entry, "vm_map_entry", "prev")
        assert back[::-1] == found
    return found


def tree(reader: KernelReader, root: int, known: list[int]) -> Iterator[tuple[int, int, int]]:
    """The tree of a map in order, with the range of entries below each: what is no child leads past the subtree."""
    place = {entry: index for index, entry in enumerate(known)}

    def walk(entry: int, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        left, right = (reader.field(entry, "vm_map_entry", side) for side in ("left", "right"))
        if low < place[entry]:
            assert low <= place[left] < place[entry]
            yield from walk(left, low, place[entry])
        yield entry, low, high
        if place[entry] + 1 < high:
            assert place[entry] < place[right] < high
            yield from walk(right, place[entry] + 1, high)

    if root:
        yield from walk(root, 0, len(known))


def check_map(reader: KernelReader, map_: int) -> list[int]:
    """A map's list, tree, counts and free space agree."""
    found = entries(reader, map_)
    low, high = limits(reader, map_)
    root = reader.field(map_, "vm_map", "root")
    nodes = list(tree(reader, root, found))
    assert [entry for entry, _, _ in nodes] == found
    assert reader.field(map_, "vm_map", "nentries") == len(found)
    ranges = [tuple(reader.field(entry, "vm_map_entry", end) for end in ("start", "end")) for entry in found]
    assert ranges == sorted(ranges)
    assert all(low <= start < end <= high for start, end in ranges)
    guards = [reader.field(entry, "vm_map_entry", "eflags") & GUARD for entry in found]
    sizes = [end - start for (start, end), guard in zip(ranges, guards, strict=True) if not guard]
    assert reader.field(map_, "vm_map", "size") == sum(sizes)
    edges = [low, *(edge for pair in ranges for edge in pair), high]
    gaps = [edges[index + 1] - edges[index] for index in range(0, len(edges), 2)]
    # Until 12.0 only the gaps behind entries count.
    skip = int(reader.has("vm_map_entry", "adj_free"))
    for entry, first, after in nodes:
        assert reader.field(entry, "vm_map_entry", "max_free") == max(gaps[first + skip : after + 1])
    return found


def test_maps_of_processes(reader: KernelReader, spaces: dict[int, int], objects: dict[str, int]) -> None:
    bits = 8 * reader.word
    for process in USERS:
        map_ = reader.at(spaces[process.pid], "vmspace", "vm_map")
        found = check_map(reader, map_)
        expected = sorted(process.vm_entries, key=lambda entry: entry.start)
        for item, entry in zip(expected, found, strict=True):
            check_entry(reader, entry, item, bits)
            target = reader.field(entry, "vm_map_entry", "object.vm_object")
            assert target == (objects[item.object] if item.object else 0)
        assert reader.field(map_, "vm_map", "pmap") == reader.at(spaces[process.pid], "vmspace", "vm_pmap")


def check_entry(reader: KernelReader, entry: int, item: VmEntry, bits: int) -> None:
    fields = {
        name: reader.field(entry, "vm_map_entry", name)
        for name in ("start", "end", "protection", "max_protection", "eflags", "offset")
    }
    assert fields["start"] == address(item.start, bits)
    assert fields["end"] == address(item.end, bits)
    assert (fields["protection"], fields["max_protection"]) == (prot(item.prot), prot(item.max_prot))
    flags = {
        COW: item.copy_on_write,
        NEEDS_COPY: item.needs_copy,
        GROWS_DOWN: item.grows_down,
        GUARD: item.guard,
        STACK_GAP: item.guard,
    }
    assert {flag: bool(fields["eflags"] & flag) for flag in flags} == flags
    assert fields["offset"] == (prot("rw") if item.guard else item.offset)


def test_kernel_processes_and_zombies_have_an_empty_map(reader: KernelReader, spaces: dict[int, int]) -> None:
    empty = reader.symbol("vmspace0")
    for process in SYSTEM.processes:
        if process.pid in spaces:
            assert (spaces[process.pid] == empty) != has_memory(process)
    assert check_map(reader, reader.at(empty, "vmspace", "vm_map")) == []


def test_kernel_map(reader: KernelReader) -> None:
    stored = reader.has_symbol("kernel_map_store")
    map_ = reader.symbol("kernel_map_store") if stored else reader.variable("kernel_map")
    found = check_map(reader, map_)
    starts = [reader.field(entry, "vm_map_entry", "start") for entry in found]
    for file in reader.tailq(reader.symbol("linker_files"), "linker_file", "link"):
        assert reader.field(file, "linker_file", "address") in starts


def test_sizes(reader: KernelReader, spaces: dict[int, int]) -> None:
    for process in USERS:
        space = spaces[process.pid]
        stack = next(entry for entry in process.vm_entries if entry.grows_down)
        assert reader.field(space, "vmspace", "vm_ssize") == (stack.end - stack.start) // 4096
        assert reader.field(space, "vmspace", "vm_refcnt") == 1
        resident = reader.field(space, "vmspace", "vm_pmap.pm_stats.resident_count")
        assert resident >= len(process.user_pages) + 1


# Objects and pages


def trie(reader: KernelReader, node: int, kind: str) -> Iterator[int]:
    """The leaves of a radix tree by rising keys."""
    if node in (0, 1):
        return
    if node & 1:
        yield node & ~1
        return
    _, level, slots = trie_node(reader, node, kind)
    used = [child for child in slots if child not in (0, 1)]
    assert len(used) > 1, "a node with one child would not be there"
    assert level < 64
    for child in used:
        yield from trie(reader, child, kind)


def trie_node(reader: KernelReader, node: int, kind: str) -> tuple[int, int, list[int]]:
    """The key that all below a node begin with, the number of bits below its own, and its children."""
    prefix = "rn" if reader.has(kind, "rn_owner") else "pn"
    count = reader.types.member(kind, f"{prefix}_child").type["count"]
    base = reader.at(node, kind, f"{prefix}_child")
    slots = [reader.pointer(base + slot * reader.word) for slot in range(count)]
    used = [slot for slot, child in enumerate(slots) if child not in (0, 1)]
    level = reader.field(node, kind, f"{prefix}_clev")
    if reader.has(kind, f"{prefix}_popmap"):
        assert reader.field(node, kind, f"{prefix}_popmap") == sum(1 << slot for slot in used)
    else:
        assert reader.field(node, kind, f"{prefix}_count") == len(used)
        level *= count.bit_length() - 1
    return reader.field(node, kind, f"{prefix}_owner"), level, slots


def trie_lookup(reader: KernelReader, node: int, kind: str, key: int) -> int:
    """`vm_radix_lookup`: the leaf of a key, which has to be there."""
    while not node & 1:
        owner, level, slots = trie_node(reader, node, kind)
        bits = level + len(slots).bit_length() - 1
        assert key >> bits == owner >> bits
        assert owner % (1 << bits) == 0
        node = slots[key >> level & len(slots) - 1]
    return node & ~1


def radix_root(reader: KernelReader, obj: int) -> int:
    return reader.pointer(reader.at(obj, "vm_object", "rtree"))


@lru_cache(maxsize=1)
def pages_by_object(reader: KernelReader) -> dict[int, dict[int, int]]:
    """All of `vm_page_array`: pages by the object that they say they belong to, and by index."""
    base, count, size = (
        reader.variable("vm_page_array"),
        reader.variable("vm_page_array_size"),
        reader.sizeof("vm_page"),
    )
    content = reader.read(base, count * size)
    place = reader.types.offsetof("vm_page", "object")
    found: dict[int, dict[int, int]] = {}
    for page in range(count):
        at = page * size + place
        if owner := int.from_bytes(content[at : at + reader.word], reader.order):
            va = base + page * size
            found.setdefault(owner, {})[reader.field(va, "vm_page", "pindex")] = va
    return found


def resident(reader: KernelReader, obj: int) -> dict[int, int]:
    """The pages of an object by index: by its list (until 14), its tree and the array of all pages."""
    kind = "vm_radix_node" if reader.types.has("vm_radix_node") else "pctrie_node"
    # The leaves of 15 are the keys.
    key = reader.types.offsetof("vm_page", "pindex") if reader.has("vm_radix", "rt_trie") else 0
    leaves = [leaf - key for leaf in trie(reader, radix_root(reader, obj), kind)]
    found = {reader.field(page, "vm_page", "pindex"): page for page in leaves}
    assert list(found) == sorted(found)
    for index, page in found.items():
        assert trie_lookup(reader, radix_root(reader, obj), kind, index) == page + key
    if reader.has("vm_object", "memq"):
        assert list(reader.tailq(reader.at(obj, "vm_object", "memq"), "vm_page", "listq")) == list(found.values())
    assert pages_by_object(reader).get(obj, {}) == found
    assert reader.field(obj, "vm_object", "resident_page_count") == len(found)
    return found


def physical(reader: KernelReader, page: int) -> int:
    """The address of a page: it says so itself, and its place in the array and in its segment says the same."""
    pa = reader.field(page, "vm_page", "phys_addr")
    size = reader.sizeof("vm_page")
    number = (page - reader.variable("vm_page_array")) // size
    assert reader.variable("first_page") + number == pa // 4096
    segment = reader.symbol("vm_phys_segs") + reader.field(page, "vm_page", "segind") * reader.sizeof("vm_phys_seg")
    start, end = (reader.field(segment, "vm_phys_seg", name) for name in ("start", "end"))
    assert start <= pa < end
    assert reader.field(segment, "vm_phys_seg", "first_page") + (pa - start) // 4096 * size == page
    return pa


def object_type(reader: KernelReader, item: VmObject) -> set[int]:
    old = reader.place(0, "vm_object", "flags")[1] == 2
    if item.kind == "anonymous":
        return {0, 1} if old else {1}
    return {{"swap": 1, "vnode": 2, "device": 3, "phys": 4}[item.kind]}


def test_objects(reader: KernelReader, objects: dict[str, int]) -> None:
    assert set(objects) == set(OBJECTS)
    listed = list(reader.tailq(reader.symbol("vm_object_list"), "vm_object", "object_list"))
    assert set(objects.values()) <= set(listed)
    uses = [entry.object for process in SYSTEM.processes for entry in process.vm_entries]
    uses += [item.backing for item in SYSTEM.objects] + [memory.object for memory in SYSTEM.shared_memory]
    for item in SYSTEM.objects:
        obj = objects[item.key]
        assert reader.field(obj, "vm_object", "type") in object_type(reader, item)
        assert reader.field(obj, "vm_object", "size") == item.size // 4096
        assert reader.field(obj, "vm_object", "ref_count") == uses.count(item.key)
        assert reader.field(obj, "vm_object", "backing_object") == objects.get(item.backing, 0)
        assert reader.field(obj, "vm_object", "backing_object_offset") == item.backing_offset
        if item.kind == "anonymous":
            shadows = reader.list(reader.at(obj, "vm_object", "shadow_head"), "vm_object", "shadow_list")
            expected = {objects[other.key] for other in SYSTEM.objects if other.backing == item.key}
            assert set(shadows) == expected


def test_vnodes_of_objects(reader: KernelReader, procs: dict[int, int], objects: dict[str, int]) -> None:
    texts = {process.text: reader.field(procs[process.pid], "proc", "p_textvp") for process in USERS}
    for item in SYSTEM.objects:
        handle = reader.field(objects[item.key], "vm_object", "handle")
        if item.kind == "vnode":
            assert reader.field(handle, "vnode", "v_bufobj.bo_object") == objects[item.key]
            assert texts.get(item.vnode, handle) == handle
        else:
            assert not handle


def test_resident_pages(reader: KernelReader, objects: dict[str, int]) -> None:
    stacks = {stack_object(process) for process in USERS}
    for item in SYSTEM.objects:
        found = resident(reader, objects[item.key])
        indexes = {page.index for page in item.pages}
        if item.key in stacks:
            assert set(found) > indexes
        else:
            assert set(found) == indexes


def test_pages_are_in_the_full_dump_only(
    reader: KernelReader, everything: KernelReader, objects: dict[str, int]
) -> None:
    for item in SYSTEM.objects:
        found = resident(reader, objects[item.key])
        for page in item.pages:
            pa = physical(reader, found[page.index])
            assert everything.dump.read_physical(pa, 4096) == page.content.ljust(4096, b"\0")
            with pytest.raises(kvm.NotDumpedError):
                reader.dump.read_physical(pa, 1)


def test_swapped_pages(reader: KernelReader, objects: dict[str, int]) -> None:
    devices = list(reader.tailq(reader.symbol("swtailq"), "swdevt", "sw_list"))
    ranges = [tuple(reader.field(item, "swdevt", name) for name in ("sw_first", "sw_end")) for item in devices]
    count = reader.types.member("swblk", "d").type["count"]
    for item in SYSTEM.objects:
        if item.kind not in ("anonymous", "swap"):
            continue
        obj = objects[item.key]
        root = reader.pointer(reader.at(obj, "vm_object", "un_pager.swp.swp_blks"))
        found = {}
        for block in trie(reader, root, "pctrie_node"):
            first, places = reader.field(block, "swblk", "p"), reader.at(block, "swblk", "d")
            values = [reader.signed(places + 8 * offset, 8) for offset in range(count)]
            found.update({first + offset: value for offset, value in enumerate(values) if value != -1})
        assert found == dict(item.swapped)
        for block in found.values():
            assert any(start <= block < end for start, end in ranges)


def test_active_queue(reader: KernelReader) -> None:
    queue = reader.at(reader.symbol("vm_dom"), "vm_domain", "vmd_pagequeues") + reader.sizeof("vm_pagequeue")
    queued = list(reader.tailq(reader.at(queue, "vm_pagequeue", "pq_pl"), "vm_page", "plinks.q"))
    owned = [page for pages in pages_by_object(reader).values() for page in pages.values()]
    assert sorted(queued) == sorted(owned)
    assert reader.field(queue, "vm_pagequeue", "pq_cnt") == len(queued)


# Processes' own memory, by the tables that their pmap leads to


@pytest.fixture(scope="module")
def user_spaces(
    reader: KernelReader, everything: KernelReader, spaces: dict[int, int], kernel: str
) -> dict[int, UserSpace]:
    arch = kernel.split("-")[1]
    return {process.pid: UserSpace(reader, everything, spaces[process.pid], arch) for process in USERS}


def test_user_pages(user_spaces: dict[int, UserSpace], reader: KernelReader) -> None:
    for process in USERS:
        for page in process.user_pages:
            content = next(item.content for item in OBJECTS[page.object].pages if item.index == page.index)
            va = address(page.va, 8 * reader.word)
            assert user_spaces[process.pid].read(va, 4096) == content.ljust(4096, b"\0")
        if user_spaces[process.pid].arch != "arm":
            with pytest.raises(kvm.NotMappedError):
                user_spaces[process.pid].translate(0x100000)


def test_one_kernel_isolates_its_page_tables(user_spaces: dict[int, UserSpace], kernel: str) -> None:
    if kernel.endswith("amd64"):
        assert {space.is_isolated() for space in user_spaces.values()} == {kernel == "13.0-amd64"}


def strings(reader: KernelReader, space: UserSpace, vector: int, count: int) -> list[str]:
    pointers = space.read(vector, (count + 1) * reader.word)
    words = [
        int.from_bytes(pointers[at : at + reader.word], reader.order) for at in range(0, len(pointers), reader.word)
    ]
    assert words.pop() == 0
    result = []
    for word in words:
        text = b""
        while not text.endswith(b"\0"):
            text += space.read(word + len(text), 1)
        result.append(text[:-1].decode())
    return result


def ps_strings(reader: KernelReader, vmspace: int) -> int:
    """Where it is: below the stack's top (14.0), or where the ABI says."""
    if reader.has("vmspace", "vm_stacktop"):
        return reader.field(vmspace, "vmspace", "vm_stacktop") - 4 * reader.word
    native = "elf64_freebsd_sysvec" if reader.word == 8 else "elf32_freebsd_sysvec"
    return reader.field(reader.symbol(native), "sysentvec", "sv_psstrings")


def check_stack(reader: KernelReader, space: UserSpace, vmspace: int, process: Process) -> None:
    place, word = ps_strings(reader, vmspace), reader.word
    assert place + 4 * word == address(STACK, 8 * word)
    raw = space.read(place, 4 * word)
    argv, argc, envp, envc = (
        int.from_bytes(raw[at : at + size], reader.order)
        for at, size in ((0, word), (word, 4), (2 * word, word), (3 * word, 4))
    )
    assert strings(reader, space, argv, argc) == list(process.args or ())
    assert strings(reader, space, envp, envc) == list(process.environment)
    place, auxv = envp + (envc + 1) * word, {}
    while kind := int.from_bytes(space.read(place, word), reader.order):
        auxv[kind] = int.from_bytes(space.read(place + word, word), reader.order)
        place += 2 * word
    assert (auxv[6], auxv[18]) == (4096, reader.variable("osreldate"))
    path = process_path(SYSTEM, process)
    assert space.read(auxv[15], len(path) + 1) == path.encode() + b"\0"


def test_arguments_and_environment(
    user_spaces: dict[int, UserSpace], reader: KernelReader, spaces: dict[int, int]
) -> None:
    assert any(len(" ".join(process.args or ())) > 500 for process in USERS)
    for process in USERS:
        check_stack(reader, user_spaces[process.pid], spaces[process.pid], process)


def test_permissions(user_spaces: dict[int, UserSpace], kernel: str) -> None:
    if kernel.split("-")[1] != "amd64":
        pytest.skip("looked at on amd64 only")
    csh = user_spaces[850]
    expected = {0x200000: (False, True), 0x204000: (True, False), 0x801300000: (True, True)}
    for va, (write, execute) in expected.items():
        csh.translate(va)
        assert (bool(csh.last & 2), not csh.last >> 63) == (write, execute)
