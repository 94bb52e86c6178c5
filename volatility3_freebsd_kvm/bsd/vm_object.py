"""VM objects: what memory is made of, the pages of it that are resident, and what is behind it.

# Reference: sys/vm/vm_object.h, vm_object.c (vm_object_kvme_type, vm_object_vnode), vm.h (OBJT_*), sys/vm/vm_pager.h
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property

from ..exceptions import AddressError, KVMError, SymbolError
from .kernel import Kernel
from .lists import Queue
from .machine import page_size
from .objects import Object
from .path import Paths
from .records import Absent, attempt
from .shm import named_objects
from .vm_pages import NO_PAGES, ObjectPages

KINDS = ("default", "swap", "vnode", "device", "phys", "dead", "sg", "mgtdevice")
"""OBJT_ by number. Since 14 there is no default any more; what is above are pagers that came at run time (tmpfs)."""
PAGER_KINDS = {1: "default", 2: "vnode", 3: "swap", 4: "device", 5: "phys", 6: "dead", 7: "sg", 8: "mgtdevice"}
"""KVME_TYPE_, which a pager says since 14 (`pgo_kvme_type`)."""
UNKNOWN = "unknown"
OLD_TMPFS_NODE, OLD_TMPFS = 0x200, 0x8000
"""OBJ_TMPFS_NODE and OBJ_TMPFS, until 13."""
SWAP = 0x200
"""OBJ_SWAP, since 14."""
MAX_DEPTH = 512
MAX_DEVICES = 1 << 16


@dataclass(frozen=True)
class VmObject:
    """A `struct vm_object`.

    Attributes:
        address: of the structure.
        kind: of `KINDS`, or ``unknown``.
        size: pages.
        resident: ``resident_page_count``.
        references: ``ref_count``.
        shadows: ``shadow_count``: objects that shadow it.
        backing: address of the object that it shadows, 0 for none.
        backing_offset: where in that it begins, in bytes.
        vnode: address of the vnode whose pages they are, 0 for none.
        handle: what the pager knows the object by.
        swap: its pages may be on a swap device.
    """

    address: int
    kind: str
    size: int
    resident: int
    references: int
    shadows: int | Absent
    backing: int
    backing_offset: int
    vnode: int
    handle: int
    swap: bool = False


@dataclass(frozen=True)
class Chain:
    """An object and those that it shadows, the top first; `notes` say why it ends where it should not."""

    objects: tuple[VmObject, ...]
    notes: tuple[str, ...] = ()


class VmObjects:
    """Reads objects, each once."""

    def __init__(self, kernel: Kernel, paths: Paths) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._paths = paths
        self._objects: dict[int, VmObject] = {}
        self.object_pages = ObjectPages(kernel)
        self.problems = self.object_pages.problems
        self._page_size = page_size(kernel)
        # `swp_priv` is there since 14.
        self._old_swap = kernel.has_member("vm_object", "un_pager.swp.swp_tmpfs")

    def read(self, address: int) -> VmObject:
        """The object at an address.

        Raises:
            AddressError: it cannot be read.
            SymbolError: the types do not know it.
        """
        if address not in self._objects:
            self._objects[address] = self._read(self._kernel.object("vm_object", address))
        return self._objects[address]

    def chain(self, address: int) -> Chain:
        """An object and what is below it; never raises."""
        found: list[VmObject] = []
        seen: set[int] = set()
        while address:
            if address in seen:
                return Chain(tuple(found), ("its objects shadow each other in a circle",))
            if len(found) >= MAX_DEPTH:
                return Chain(tuple(found), (f"more than {MAX_DEPTH} objects shadow each other",))
            seen.add(address)
            try:
                found.append(self.read(address))
            except KVMError as error:
                return Chain(tuple(found), (f"its object {address:#x} cannot be read: {error}",))
            address = found[-1].backing
        return Chain(tuple(found))

    def path(self, item: VmObject) -> tuple[str, tuple[str, ...]]:
        """What the pages of an object are of, and notes about that: a file, a device, shared memory; else empty."""
        if item.vnode:
            path = self._paths.of(item.vnode)
            return path.path, path.notes
        if item.kind in ("device", "mgtdevice"):
            return self._devices.get(item.handle, ""), ()
        return self._shared_memory.get(item.address, ""), ()

    def _read(self, obj: Object) -> VmObject:
        kind = self._kind(obj)
        return VmObject(
            address=obj.address_,
            kind=kind,
            size=int(obj.size),
            resident=int(obj.resident_page_count),
            references=int(obj.ref_count),
            shadows=attempt(lambda: int(obj.shadow_count)),
            backing=int(obj.backing_object),
            backing_offset=int(obj.backing_object_offset),
            vnode=self._vnode(obj) if kind == "vnode" else 0,
            handle=int(obj.handle),
            swap=self._has_swap(obj),
        )

    def _has_swap(self, obj: Object) -> bool:
        """Whether the pager of an object is the swap pager: by its type or, since 14, by a flag of other pagers."""
        return int(obj.type) == KINDS.index("swap") or (not self._old_swap and bool(int(obj.flags) & SWAP))

    def _kind(self, obj: Object) -> str:
        number = int(obj.type)
        if number == KINDS.index("swap") and self._old_swap and int(obj.flags) & OLD_TMPFS_NODE:
            return "vnode"
        if 0 <= number < len(KINDS):
            return KINDS[number]
        kind = attempt(lambda: PAGER_KINDS.get(int(self._pager(number).pgo_kvme_type), UNKNOWN))
        return UNKNOWN if isinstance(kind, Absent) else kind

    def _pager(self, number: int) -> Object:
        """The operations of a pager that came at run time: ``pagertab`` has room for some."""
        structs = self._kernel.structs
        table = self._kernel.address("pagertab")
        return self._kernel.object("pagerops", structs.pointer(table + number * structs.word_size))

    def _vnode(self, obj: Object) -> int:
        """The vnode of a file's pages; those of tmpfs have one only while somebody has the file open."""
        if int(obj.type) == KINDS.index("vnode"):
            return int(obj.handle)
        if self._old_swap:
            return int(obj.un_pager.swp.swp_tmpfs) if int(obj.flags) & OLD_TMPFS else 0
        node = attempt(lambda: int(obj.un_pager.swp.swp_priv.as_("tmpfs_node").tn_vnode))
        return 0 if isinstance(node, Absent) else node

    @cached_property
    def _shared_memory(self) -> dict[int, str]:
        return named_objects(self._kernel)

    @cached_property
    def _devices(self) -> dict[int, str]:
        """Names of devices by the addresses of their `struct cdev`, by which pagers know them."""
        found: dict[int, str] = {}
        try:
            at = self._kernel.structs.offset("cdev_priv", "cdp_c")
            head = self._kernel.address("cdevp_list")
            for private in Queue(self._kernel.structs, head, "cdev_priv", "cdp_list", limit=MAX_DEVICES):
                device = private.address_ + at
                name = attempt(lambda device=device: str(self._kernel.object("cdev", device).si_name))  # type: ignore[misc]
                if isinstance(name, str):
                    found[device] = f"/dev/{name}"
        except (AddressError, SymbolError):
            pass
        return found

    # Resident pages

    def pages(self, item: VmObject) -> array[int] | Absent:
        """The indexes of the resident pages of an object, rising; `Absent` where they cannot be found.

        What is irregular is entered in `problems`, by address.
        """
        found = self.object_pages.resident(item)
        return found if isinstance(found, Absent) else found.indexes

    def resident(self, chain: Chain, offset: int, length: int) -> int | Absent:
        """How many pages of a window of an object are resident, in it or in what it shadows.

        Args:
            chain: the object.
            offset: where the window begins, in bytes.
            length: of the window, in bytes.
        """
        page_size = self._page_size
        if page_size is None:
            return Absent.NOT_AVAILABLE
        first, count = offset // page_size, length // page_size
        if len(chain.objects) == 1 and not first and count >= chain.objects[0].size:
            return chain.objects[0].resident
        found: set[int] = set()
        for item in chain.objects:
            pages = self.object_pages.resident(item) if item.resident else NO_PAGES
            if isinstance(pages, Absent):
                return pages
            low, high = pages.bounds(first, first + count)
            found.update(page - first for page in pages.indexes[low:high])
            # The same page has a higher index in the object below.
            first += item.backing_offset // page_size
        return len(found)

    def notes(self, chain: Chain) -> tuple[str, ...]:
        """What was irregular in the pages of a chain's objects, as far as they were asked for."""
        return tuple(note for item in chain.objects for note in self.problems.get(item.address, ()))
