"""VM objects: their pages, shadow chains, tries and pagers (vm/vm_object.c, vm_radix.c, swap_pager.c)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.writers.objects import Object, addressof, link_list, link_tailq

from .model import VmObject
from .pages import user_page
from .shapes import rw_init, set_members
from .trees import Trie, set_root
from .vm_pages import PageArray, use_page
from .world import World

TYPES_BY_KIND = {"anonymous": 1, "swap": 1, "vnode": 2, "device": 3, "phys": 4}
"""OBJT_*; until 13 anonymous memory that was never swapped has type 0, OBJT_DEFAULT."""
FICTITIOUS, UNMANAGED, ONE_MAPPING, COLORED = 0x1, 0x2, 0x2000, 0x1000
OLD_NO_SPLIT, OLD_MIGHT_BE_DIRTY = 0x10, 0x100
ANONYMOUS, SHADOW_LIST, SWAP, POSIX_SHM = 0x10, 0x100, 0x200, 0x20000
DEVICE_FLAGS = FICTITIOUS | UNMANAGED
OLD_FLAGS = {
    "anonymous": ONE_MAPPING | COLORED,
    "swap": OLD_NO_SPLIT | COLORED,
    "vnode": OLD_MIGHT_BE_DIRTY,
    "device": DEVICE_FLAGS,
    "phys": DEVICE_FLAGS,
}
NEW_FLAGS = {
    "anonymous": ANONYMOUS | SWAP | ONE_MAPPING | COLORED,
    "swap": SWAP | POSIX_SHM | COLORED,
    "vnode": 0,
    "device": DEVICE_FLAGS,
    "phys": DEVICE_FLAGS,
}
"""The bits were dealt anew when `flags` became an int (13.0)."""
SWAPBLK_NONE = -1


class VmObjects:
    """Makes the objects of the description and knows where their pages are."""

    def __init__(self, world: World, array: PageArray) -> None:
        self.world = world
        self.array = array
        self.pages: dict[tuple[str, int], int] = {}
        self.in_use: list[Object] = []
        types = world.memory.types
        self._wide_flags = types.size(types.member("vm_object", "flags").type) == 4
        self._page_trie = Trie(world, "vm_radix_node" if world.has_type("vm_radix_node") else "pctrie_node")
        self._swap_trie = Trie(world, "pctrie_node")

    def create(self, item: VmObject, contents: dict[int, bytes]) -> Object:
        """Make an object; `contents` are its resident pages."""
        obj = self.world.put("vm_object", item.key, self.initialise(self.world.new("struct vm_object"), item.kind))
        obj.size = item.size // self.world.memory.machine.page_size
        if not self._wide_flags and item.kind == "anonymous" and not item.swapped:
            obj.type = 0
        self._fill_pages(obj, item, contents)
        self._fill_pager(obj, item)
        return obj

    def initialise(self, obj: Object, kind: str) -> Object:
        """`_vm_object_allocate`."""
        world = self.world
        rw_init(world, obj.lock, "vm object")
        obj.type = TYPES_BY_KIND[kind]
        obj.flags = (NEW_FLAGS if self._wide_flags else OLD_FLAGS)[kind]
        set_members(world, obj, generation=1, memattr=6 if world.arch in ("amd64", "i386") else 0)
        if world.has("vm_object", "memq"):
            link_tailq(obj.memq, (), "listq")
        set_root(obj.rtree, self._page_trie.empty)
        if kind in ("anonymous", "swap"):
            set_root(obj.un_pager.swp.swp_blks, self._swap_trie.empty)
        return obj

    def _fill_pages(self, obj: Object, item: VmObject, contents: dict[int, bytes]) -> None:
        pages = []
        for index, content in sorted(contents.items()):
            pa = self.pages[item.key, index] = user_page(self.world.memory, content)
            page = self.array.page(pa)
            use_page(self.world, page, obj, index, dirty=item.kind != "vnode")
            pages.append((index, page))
        obj.resident_page_count = len(pages)
        if self.world.has("vm_object", "memq"):
            link_tailq(obj.memq, [page for _, page in pages], "listq")
        set_root(obj.rtree, self._page_trie.build([(index, self._leaf(page)) for index, page in pages]))
        self.in_use += [page for _, page in pages]

    def _leaf(self, page: Object) -> int:
        """A trie of 15 is a pctrie: its leaves point to the key."""
        return addressof(page, "pindex") if self.world.has("vm_radix", "rt_trie") else int(page)

    def _fill_pager(self, obj: Object, item: VmObject) -> None:
        if item.kind == "vnode":
            vnode = next(vnode for vnode in self.world.system.vnodes if vnode.key == item.vnode)
            obj.un_pager.vnp.vnp_size = max(vnode.size, item.size)
        elif item.kind == "device":
            link_tailq(obj.un_pager.devp.devp_pglist, (), "plinks")
        elif item.swapped:
            self._fill_swap(obj, dict(item.swapped))

    def _fill_swap(self, obj: Object, blocks: dict[int, int]) -> None:
        """`swp_pager_meta_build`: a `struct swblk` for so many consecutive pages."""
        count = self.world.memory.types.member("swblk", "d").type["count"]
        made = {}
        for first in sorted({index // count * count for index in blocks}):
            values = [blocks.get(first + offset, SWAPBLK_NONE) for offset in range(count)]
            made[first] = self.world.new("struct swblk", p=first, d=values)
        leaves = [(first, int(block)) for first, block in made.items()]
        set_root(obj.un_pager.swp.swp_blks, self._swap_trie.build(leaves))

    def link(self, items: Iterable[VmObject], references: Counter[str], others: Iterable[Object]) -> None:
        """Shadow chains, reference counts and the list of all objects; `others` come first in it."""
        known = list(items)
        for item in known:
            obj = self.world.get("vm_object", item.key)
            obj.ref_count = references[item.key] + sum(other.backing == item.key for other in known)
            if item.backing:
                obj.backing_object = self.world.get("vm_object", item.backing)
                obj.backing_object_offset = item.backing_offset
        for item in known:
            self._link_shadows(item, [other for other in known if other.backing == item.key])
        everything = [*others, *self.world.all("vm_object").values()]
        if self.world.has_symbol("vm_object_list"):
            link_tailq(self.world.symbol("vm_object_list"), everything, "object_list")

    def _link_shadows(self, item: VmObject, shadows: list[VmObject]) -> None:
        """Since 13.0 only anonymous objects know what shadows them."""
        if self._wide_flags and item.kind != "anonymous":
            return
        obj = self.world.get("vm_object", item.key)
        made = [self.world.get("vm_object", other.key) for other in reversed(shadows)]
        link_list(obj.shadow_head, made, "shadow_list")
        set_members(self.world, obj, shadow_count=len(made))
        for shadow in made if self._wide_flags else ():
            shadow.flags |= SHADOW_LIST
