"""The pages of VM objects: those in memory, and those on a swap device.

# Reference: sys/vm/vm_page.h (struct vm_page), vm_radix.h, swap_pager.c (struct swblk; struct swblock until 11)
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .kernel import Kernel
from .lists import HashTable, Queue
from .pctrie import MAX_NODES, Trie
from .records import Absent, attempt

if TYPE_CHECKING:
    from .vm_object import VmObject

MAX_PAGES = 1 << 24
NOWHERE = (1 << 64) - 1
"""Instead of the physical address of a page with nothing valid in it."""


class PageTable(NamedTuple):
    """Pages of an object: their indexes, rising, and where each of them is.

    Attributes:
        indexes: page numbers within the object.
        places: physical addresses (`NOWHERE` of a page with nothing valid in it), or swap blocks.
    """

    indexes: array[int]
    places: array[int]

    @classmethod
    def of(cls, pages: Iterable[tuple[int, int]]) -> PageTable:
        """Put ``(index, place)`` in order."""
        known = sorted(pages)
        return cls(array("Q", (index for index, _ in known)), array("Q", (place for _, place in known)))

    def find(self, index: int) -> int | None:
        """The place of one page."""
        at = bisect_left(self.indexes, index) if 0 <= index <= NOWHERE else len(self.indexes)
        return self.places[at] if at < len(self.indexes) and self.indexes[at] == index else None

    def bounds(self, first: int, end: int) -> tuple[int, int]:
        """Which of the pages are ``[first, end)``."""
        low, high = (min(max(index, 0), NOWHERE) for index in (first, end))
        return bisect_left(self.indexes, low), bisect_left(self.indexes, high)

    def within(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """``(index, place)`` of the pages ``[first, end)``."""
        low, high = self.bounds(first, end)
        return zip(self.indexes[low:high], self.places[low:high], strict=True)


NO_PAGES = PageTable(array("Q"), array("Q"))


class ObjectPages:
    """Lists the pages of objects, each object once.

    Attributes:
        problems: what was irregular about an object's pages, by its address.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._resident: dict[int, PageTable | Absent] = {}
        self._swapped: dict[int, PageTable | Absent] = {}
        self.problems: dict[int, tuple[str, ...]] = {}

    def resident(self, item: VmObject) -> PageTable | Absent:
        """The pages in memory; `Absent` where they cannot be found."""
        if item.address not in self._resident:
            self._resident[item.address] = attempt(lambda: self._list_resident(item))
        return self._resident[item.address]

    def swapped(self, item: VmObject) -> PageTable | Absent:
        """The pages that have a block on a swap device, whether or not they are in memory, too."""
        if not item.swap:
            return NO_PAGES
        if item.address not in self._swapped:
            self._swapped[item.address] = attempt(lambda: self._list_swapped(item))
        return self._swapped[item.address]

    def _note(self, item: VmObject, what: str, problems: list[str]) -> None:
        if problems or item.address not in self.problems:
            known = self.problems.get(item.address, ())
            self.problems[item.address] = (*known, *(f"{what}: {problem}" for problem in problems))

    # Pages in memory

    def _list_resident(self, item: VmObject) -> PageTable:
        structs = self._kernel.structs
        obj = self._kernel.object("vm_object", item.address)
        page = _PageReader(self._kernel)
        limit = min(max(item.resident, 0) + 1, MAX_PAGES)
        walk: Queue | Trie
        if obj.has_("memq"):
            # Until 14; the trie has the same pages.
            walk = queue = Queue(structs, obj.at_("memq"), "vm_page", "listq", limit=limit)
            found = PageTable.of(page.read(address) for address in queue.addresses())
        else:
            node = "vm_radix_node" if self._kernel.has_type("vm_radix_node") else "pctrie_node"
            walk = trie = Trie(self._kernel, obj.at_("rtree"), node, limit=2 * limit)
            # The leaves of 15 point to the key within the page, those before to the page.
            at = page.index_at if self._kernel.has_member("vm_radix", "rt_trie") else 0
            found = PageTable.of(page.read(leaf - at) for leaf in trie)
        self._note(item, "its resident pages", walk.problems)
        return found

    # Pages on swap devices

    def _list_swapped(self, item: VmObject) -> PageTable:
        """Since 12.0 each object has a trie of its own; raises `SymbolError` where the types do not know it."""
        obj = self._kernel.object("vm_object", item.address)
        structs = self._kernel.structs
        if not obj.has_("un_pager.swp.swp_blks"):
            found, problems = self._swap_hash
            self._note(item, "its swapped pages", problems)
            return PageTable.of(found.get(item.address, ()))
        at_index, index_type = structs.member("swblk", "p")
        at_blocks, blocks = structs.member("swblk", "d")
        size, count = structs.size_of(blocks["subtype"]), int(blocks["count"])
        limit = min(2 * (max(item.size, 0) // max(count, 1) + 2), MAX_NODES)
        trie = Trie(self._kernel, obj.at_("un_pager.swp.swp_blks"), "pctrie_node", limit=limit)
        pages: list[tuple[int, int]] = []
        for leaf in trie:
            first = structs.uint(leaf, structs.size_of(index_type))
            pages += _blocks(structs.read(leaf - at_index + at_blocks, size * count), size, first, structs.byteorder)
        self._note(item, "its swapped pages", trie.problems)
        return PageTable.of(pages)

    @cached_property
    def _swap_hash(self) -> tuple[dict[int, list[tuple[int, int]]], list[str]]:
        """``(index, block)`` by object, and problems: until 11 all objects share a hash (`swhash`).

        Raises:
            SymbolError: the kernel or its types do not know it.
            AddressError: it cannot be read.
        """
        kernel, structs = self._kernel, self._kernel.structs
        at_blocks, blocks = structs.member("swblock", "swb_pages")
        size = structs.size_of(blocks["subtype"])
        table = HashTable(structs, kernel.pointer("swhash"), kernel.integer("swhash_mask") + 1, "swblock", "swb_hnext")
        found: dict[int, list[tuple[int, int]]] = {}
        for one in table:
            data = structs.read(one.address_ + at_blocks, structs.size_of(blocks))
            pages = _blocks(data, size, int(one.swb_index), structs.byteorder)
            found.setdefault(int(one.swb_object), []).extend(pages)
        return found, table.problems


def _blocks(data: bytes, size: int, first: int, byteorder: Any) -> Iterator[tuple[int, int]]:
    """``(index, block)`` of an array of blocks, the first of them that of page ``first``; SWAPBLK_NONE is negative."""
    for number, at in enumerate(range(0, len(data), size)):
        block = int.from_bytes(data[at : at + size], byteorder)
        if not block >> (8 * size - 1) and 0 <= first + number <= NOWHERE:
            yield first + number, block


class _PageReader:
    """Reads what matters of a `struct vm_page` at once."""

    def __init__(self, kernel: Kernel) -> None:
        """Raises `SymbolError` if the types do not know the members."""
        self._structs = structs = kernel.structs
        self._size = structs.size("vm_page")
        self.index_at, index = structs.member("vm_page", "pindex")
        self._address_at, address = structs.member("vm_page", "phys_addr")
        self._index_end = self.index_at + structs.size_of(index)
        self._address_end = self._address_at + structs.size_of(address)
        valid = structs.find("vm_page", "valid")
        self._valid = slice(valid[0], valid[0] + structs.size_of(valid[1])) if valid else slice(0, self._size)

    def read(self, page: int) -> tuple[int, int]:
        """``(index, physical address)`` of the page."""
        data, order = self._structs.read(page, self._size), self._structs.byteorder
        index = int.from_bytes(data[self.index_at : self._index_end], order)
        if not any(data[self._valid]):
            return index, NOWHERE
        return index, int.from_bytes(data[self._address_at : self._address_end], order)
