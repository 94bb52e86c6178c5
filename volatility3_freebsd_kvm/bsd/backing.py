"""What the memory of a map entry is of: a file, a device, or nobody's.

# Reference: sys/vm/vm_object.h, sys/kern/kern_proc.c (kern_proc_vmmap_out)
"""

from __future__ import annotations

from dataclasses import dataclass

from .filesystem import attributes_of
from .kernel import Kernel
from .path import NO_NAME, Paths
from .user import UserMemory
from .user_pages import UserEntry
from .vm import ANONYMOUS, NONE
from .vm_object import Chain, VmObjects

FILE = "vnode"


@dataclass(frozen=True)
class Backing:
    """What is at the bottom of a map entry.

    Attributes:
        kind: of the object: ``vnode``, ``swap``, …; ``none`` if there is no object yet.
        object: its address, 0 for none.
        vnode: of a file.
        path: of the file, device or shared memory; empty if it has none.
        offset: where in it the entry begins, in bytes.
        deleted: the file has no name any more.
        notes: what is odd about the path.
    """

    kind: str
    object: int = 0
    vnode: int = 0
    path: str = ""
    offset: int = 0
    deleted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_anonymous(self) -> bool:
        """Whether it is no file's and no device's memory."""
        return self.kind in ANONYMOUS


class Backings:
    """Finds them; remembers those of objects."""

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self.objects = VmObjects(kernel, Paths(kernel))
        self._known: dict[int, Backing] = {}

    def of(self, memory: UserMemory, entry: UserEntry) -> Backing:
        """That of an entry of a process's map; never raises."""
        return self.of_chain(memory.chain(entry), entry.offset)

    def of_chain(self, chain: Chain, offset: int = 0) -> Backing:
        """That of an object and what it shadows; ``offset`` is in the first object."""
        if not chain.objects:
            return Backing(NONE, notes=chain.notes)
        bottom = chain.objects[-1]
        if bottom.address not in self._known:
            path, notes = self.objects.path(bottom)
            deleted = bool(bottom.vnode) and self._is_deleted(bottom.vnode)
            if deleted:
                # Then there is a reason why it has no name.
                notes = tuple(note for note in notes if note != NO_NAME)
            self._known[bottom.address] = Backing(bottom.kind, bottom.address, bottom.vnode, path, 0, deleted, notes)
        found = self._known[bottom.address]
        start = offset + sum(item.backing_offset for item in chain.objects)
        return Backing(
            found.kind, found.object, found.vnode, found.path, start, found.deleted, (*found.notes, *chain.notes)
        )

    def _is_deleted(self, vnode: int) -> bool:
        return attributes_of(self._kernel, self._kernel.object("vnode", vnode)).deleted
