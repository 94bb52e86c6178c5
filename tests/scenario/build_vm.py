"""Virtual memory: physical pages, VM objects, address spaces of processes and of the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.writers.memory import Mapping
from tests.writers.objects import Object, addressof

from . import user_memory
from .model import Process
from .shapes import set_members, set_variable
from .user_tables import UserTables
from .vm_maps import MapBuilder, fill_user_map, protection
from .vm_objects import VmObjects
from .vm_pages import PageArray, create_swap, queue_pages
from .world import World

TYPES = {
    "object_q": {"tqh_first": "struct vm_object *", "tqh_last": "struct vm_object **"},
    "swdevt_list": {"tqh_first": "struct swdevt *", "tqh_last": "struct swdevt **"},
}
_RADIX_64 = {"rn_owner": "uint64_t", "rn_count": "uint16_t", "rn_clev": "uint16_t", "rn_child": "void *[16]"}
_PCTRIE_64 = {"pn_owner": "uint64_t", "pn_count": "uint16_t", "pn_clev": "uint16_t", "pn_child": "void *[16]"}
TYPES_64 = {
    "vm_radix_node": _RADIX_64,
    "pctrie_node": _PCTRIE_64,
    "swblk": {"p": "uint64_t", "d": "int64_t[16]"},
}
TYPES_32 = {
    "vm_radix_node": {**_RADIX_64, "rn_child": "void *[8]"},
    "pctrie_node": {**_PCTRIE_64, "pn_child": "void *[8]"},
    "swblk": {"p": "uint64_t", "d": "int64_t[8]"},
}
VARIABLES = {
    "vm_page_array": "struct vm_page *",
    "vm_page_array_size": "long",
    "first_page": "long",
    "vm_phys_segs": "struct vm_phys_seg[64]",
    "vm_phys_nsegs": "int",
    "vm_dom": "struct vm_domain[1]",
    "phys_avail": "unsigned long[64]",
    "dump_avail": "unsigned long[64]",
    "vm_object_list": "struct object_q",
    "kernel_object_store": "struct vm_object",
    "kernel_map": "struct vm_map *",
    "kernel_pmap_store": "struct pmap",
    "vmspace0": "struct vmspace",
    "swtailq": "struct swdevt_list",
    "nswapdev": "int",
    "swdevhd": "struct swdevt *",
    "swap_pager_avail": "int",
    "swap_total": "unsigned long",
    "ps_arg_cache_limit": "unsigned long",
}
FUNCTIONS = ["swapdev_strategy", "swapdev_close"]
USER_MAX = {"riscv": 0x40_0000_0000, "i386": 0xBFC0_0000, "arm": 0xBFC0_0000}
USER_MAX_64 = 0x7FFF_FFFF_F000
ARG_CACHE_LIMIT = 256


def create(world: World) -> None:
    """Make pages, objects and maps; pointers to credentials and vnodes wait for `connect`."""
    array = PageArray(world)
    array.fill_segments()
    create_swap(world, world.system.swap_devices)
    objects = VmObjects(world, array)
    _create_objects(world, objects)
    tables = UserTables(world, array)
    _create_vmspace0(world, tables)
    for process in world.system.processes:
        if user_memory.has_memory(process):
            _create_vmspace(world, process, objects, tables)
        else:
            world.put("vmspace", process.pid, world.symbol("vmspace0"))
    queue_pages(world, objects.in_use)
    _create_kernel_pmap(world, tables)
    set_variable(world, "ps_arg_cache_limit", ARG_CACHE_LIMIT)
    if world.has_symbol("vm_cnt"):
        page_size = world.memory.machine.page_size
        set_members(world, world.symbol("vm_cnt"), v_page_size=page_size, v_page_count=world.system.memory_pages)


def connect(world: World) -> None:
    """Processes to their address spaces, objects to vnodes and credentials, and the kernel's map."""
    for process in world.system.processes:
        proc = world.find("proc", process.pid)
        if proc:
            proc.p_vmspace = world.get("vmspace", process.pid)
    for item in world.system.objects:
        obj = world.get("vm_object", item.key)
        if item.vnode:
            obj.handle = world.find("vnode", item.vnode)
    for process in world.system.processes:
        _charge(world, process)
    for device in world.system.swap_devices:
        node = next((vnode.key for vnode in world.system.vnodes if vnode.device == device.device), "")
        world.get("swdevt", device.device).sw_vp = world.find("vnode", node)
    _create_kernel_map(world)


# Objects


def word_bits(world: World, process: Process) -> int:
    """The word size of a process."""
    return 32 if process.abi == "FreeBSD ELF32" else world.memory.machine.word_bits


def stack_of(world: World, process: Process) -> user_memory.Stack:
    """The stack of a process of this machine, as exec has left it."""
    bits = word_bits(world, process)
    builder = user_memory.StackBuilder(bits, world.memory.types.byteorder, modern=world.has("vmspace", "vm_stacktop"))
    path = user_memory.process_path(world.system, process)
    return builder.build(process.args or (), process.environment, path, _osreldate(world))


def _osreldate(world: World) -> int:
    order = "big" if world.memory.types.byteorder == "big" else "little"
    return int.from_bytes(world.memory.read(world.memory.image.symbols["osreldate"], 4), order)


def _stack_pages(world: World, process: Process) -> dict[int, bytes]:
    """The resident pages of a stack's object, by index."""
    page_size = world.memory.machine.page_size
    key = user_memory.stack_object(process)
    size = next(item.size for item in world.system.objects if item.key == key)
    content = stack_of(world, process).content
    # Filled up to whole pages, downwards.
    content = bytes(-len(content) % page_size) + content
    first = (size - len(content)) // page_size
    return {first + index: content[at : at + page_size] for index, at in enumerate(range(0, len(content), page_size))}


def _create_objects(world: World, objects: VmObjects) -> None:
    stacks = {
        user_memory.stack_object(process): _stack_pages(world, process)
        for process in world.system.processes
        if user_memory.has_memory(process)
    }
    for item in world.system.objects:
        objects.create(item, {**{page.index: page.content for page in item.pages}, **stacks.get(item.key, {})})
    references = Counter(entry.object for process in world.system.processes for entry in process.vm_entries)
    references.update(memory.object for memory in world.system.shared_memory)
    others = []
    if world.has_symbol("kernel_object_store"):
        others.append(objects.initialise(world.symbol("kernel_object_store"), "phys"))
        others[0].ref_count = 1
    objects.link(world.system.objects, references, others)


def _charge(world: World, process: Process) -> None:
    """Anonymous memory is charged to the user who made it (`swap_reserve_by_cred`)."""
    credentials = world.find("ucred", process.credentials)
    kinds = {item.key: item for item in world.system.objects}
    for entry in process.vm_entries:
        item = kinds.get(entry.object)
        if item and item.kind == "anonymous":
            set_members(world, world.get("vm_object", item.key), cred=credentials, charge=item.size)


# Address spaces


def _create_vmspace0(world: World, tables: UserTables) -> None:
    """What kernel processes and zombies have: nothing in it."""
    vmspace = world.symbol("vmspace0")
    MapBuilder(world, vmspace.vm_map, 0x1000, _user_max(world)).finish()
    vmspace.vm_map.pmap = addressof(vmspace, "vm_pmap")
    vmspace.vm_refcnt = 1 + sum(process.is_kernel for process in world.system.processes)
    tables.initialise(vmspace.vm_pmap, 0)


def _user_max(world: World) -> int:
    return USER_MAX.get(world.arch, USER_MAX_64)


def _create_vmspace(world: World, process: Process, objects: VmObjects, tables: UserTables) -> None:
    bits = word_bits(world, process)

    def address(va: int) -> int:
        return user_memory.address(va, bits)

    vmspace = world.put("vmspace", process.pid, world.new("struct vmspace"))
    fill_user_map(MapBuilder(world, vmspace.vm_map, 0x1000, _user_max(world)), process, address)
    vmspace.vm_map.pmap = addressof(vmspace, "vm_pmap")
    _fill_sizes(world, vmspace, process)
    tables.create(vmspace.vm_pmap, list(user_mappings(world, process, objects.pages)))


def user_mappings(world: World, process: Process, pages: dict[tuple[str, int], int]) -> Iterator[Mapping]:
    """What the process's page tables map: the pages it is said to have touched, and its stack."""
    bits, page_size = word_bits(world, process), world.memory.machine.page_size
    wanted = {page.va: (page.object, page.index) for page in process.user_pages}
    stack = next(entry for entry in process.vm_entries if entry.grows_down)
    for index in _stack_pages(world, process):
        wanted[stack.start + index * page_size] = (stack.object, index)
    for va, key in wanted.items():
        entry = next(entry for entry in process.vm_entries if entry.start <= va < entry.end)
        write = "w" in entry.prot and not entry.needs_copy
        yield Mapping(user_memory.address(va, bits), pages[key], page_size, write, "x" in entry.prot)


def _fill_sizes(world: World, vmspace: Object, process: Process) -> None:
    """What exec and obreak record; sizes are in pages."""
    bits, page_size = word_bits(world, process), world.memory.machine.page_size
    entries = [entry for entry in process.vm_entries if not entry.guard]
    stack = next(entry for entry in entries if entry.grows_down)
    text = next(entry for entry in entries if "x" in entry.prot)
    data = [entry for entry in entries if "w" in entry.prot and not entry.grows_down]
    set_members(
        world,
        vmspace,
        vm_refcnt=1,
        vm_tsize=(text.end - text.start) // page_size,
        vm_dsize=sum(entry.end - entry.start for entry in data) // page_size,
        vm_ssize=(stack.end - stack.start) // page_size,
        vm_taddr=text.start,
        vm_daddr=user_memory.address(data[0].start if data else text.end, bits),
        vm_maxsaddr=user_memory.address(user_memory.STACK - user_memory.STACK_GAP, bits),
        vm_stacktop=user_memory.address(stack.end, bits),
    )


# The kernel


def _create_kernel_pmap(world: World, tables: UserTables) -> None:
    if world.has_symbol("kernel_pmap_store"):
        resident = sum(mapping.length for mapping in world.memory.mappings) // world.memory.machine.page_size
        tables.initialise(world.symbol("kernel_pmap_store"), resident)


def _create_kernel_map(world: World) -> None:
    """`kmem_init`: entries for the image and for each module."""
    if world.has_symbol("kernel_map_store"):
        kernel_map = world.symbol("kernel_map_store")
    elif world.has_symbol("kernel_map"):
        kernel_map = world.new("struct vm_map", where="kva")
        set_variable(world, "kernel_map", kernel_map)
    else:
        return
    machine = world.memory.machine
    end = -(-world.memory.image.end // machine.page_size) * machine.page_size
    ranges = [(machine.linked + world.memory.displacement, end + world.memory.displacement)]
    files = world.all("linker_file")
    ranges += [(int(file.address), int(file.address + file.size)) for key, file in files.items() if key != 1]
    low = min(machine.kernbase, *(start for start, _ in ranges))
    top = (1 << machine.word_bits) - machine.page_size
    high = machine.kernel_end or min(max(low + (1 << 30), *(end for _, end in ranges)), top)
    builder = MapBuilder(world, kernel_map, low, high)
    for start, end in ranges:
        entry = builder.insert(start, end, protection=protection("rwx"), max_protection=protection("rwx"))
        if world.has_symbol("kernel_object_store"):
            entry.object.vm_object = world.symbol("kernel_object_store")
            entry.offset = start - low
    builder.finish()
    set_members(world, kernel_map, system_map=1, busy=0)
    if world.has_symbol("kernel_pmap_store"):
        kernel_map.pmap = world.symbol("kernel_pmap_store")
