"""Address maps: `struct vm_map` and its entries, a list with a splay tree (until 12) or a threaded splay tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from tests.writers.objects import Object

from .model import Process, VmEntry
from .shapes import mtx_init, set_members, sx_init
from .trees import SplayNode, SplayTree, in_order
from .world import World

COPY_ON_WRITE, NEEDS_COPY, VN_EXEC, GROWS_DOWN = 0x4, 0x8, 0x800, 0x1000
GUARD, STACK_GAP, HEADER = 0x10000, 0x20000, 0x80000
READ, WRITE, EXECUTE = 1, 2, 4
INHERIT_COPY = 1
GUARD_SIZE = 0x1000
"""security.bsd.stack_guard_page, in bytes."""


def protection(letters: str) -> int:
    """VM_PROT_* of rwx letters."""
    return sum(bit for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)) if letter in letters)


class MapBuilder:
    """Fills a `struct vm_map`.

    Attributes:
        threaded: 13.0 and later: entries have no ``next``, missing children are replaced by neighbours.
    """

    def __init__(self, world: World, map_: Object, low: int, high: int) -> None:
        self.world = world
        self.map = map_
        self.low, self.high = low, high
        self.threaded = not world.has("vm_map_entry", "next")
        self._tree = SplayTree(classic=not self.threaded)
        self._entries: dict[int, Object] = {}
        self._initialise()

    def _initialise(self) -> None:
        """`_vm_map_init`; the header's end is the lowest address, its start the one behind the highest (12.0)."""
        header = self.map.header
        header.start, header.end, header.eflags = self.high, self.low, HEADER
        sx_init(self.world, self.map.lock, "vm map (user)")
        types = self.world.memory.types
        # In 15 both locks are in one union.
        if types.offsetof("vm_map", "lock") != types.offsetof("vm_map", "system_mtx"):
            mtx_init(self.world, self.map.system_mtx, "vm map (system)")
        self._link([])

    def insert(self, start: int, end: int, **members: object) -> Object:
        """`vm_map_insert`."""
        entry = self.world.new("struct vm_map_entry", start=start, end=end, next_read=end, **members)
        before = max((node for node in in_order(self._tree.root) if node.end <= start), key=_start, default=None)
        self._tree.insert(SplayNode(start, end), before)
        self._entries[start] = entry
        return entry

    def lookup(self, address: int) -> None:
        """`vm_map_lookup_entry` in passing, which moves an entry to the root."""
        self._tree.lookup(address)

    def finish(self) -> None:
        """Write the tree and the list."""
        nodes = in_order(self._tree.root)
        self._measure(nodes)
        self._link(nodes)
        self.map.nentries = len(nodes)
        # Guards count for nothing.
        sizes = [node.end - node.start for node in nodes if not self._entries[node.start].eflags & GUARD]
        self.map.size = sum(sizes)
        self.map.timestamp = 2 * len(nodes) + 1

    def _measure(self, nodes: Sequence[SplayNode]) -> None:
        """`max_free`: the widest gap below and beside each entry; until 12.0 only gaps behind entries count."""
        old = self.world.has("vm_map_entry", "adj_free")
        limits = [self.low, *(node.end for node in nodes)], [*(node.start for node in nodes), self.high]
        gaps = {
            id(node): (0 if old else node.start - limits[0][index], limits[1][index + 1] - node.end)
            for index, node in enumerate(nodes)
        }
        for node in _children_first(self._tree.root):
            left, right = gaps[id(node)]
            below = [child.max_free for child in (node.left, node.right) if child]
            own = [right] if old else [gap for gap, child in ((left, node.left), (right, node.right)) if not child]
            node.max_free = max(*own, *below, 0)
            entry = self._entries[node.start]
            entry.max_free = node.max_free
            set_members(self.world, entry, adj_free=right)

    def _link(self, nodes: Sequence[SplayNode]) -> None:
        header = self.map.header
        ring = [header, *(self._entries[node.start] for node in nodes), header]
        if not self.threaded:
            for one, other in pairwise(ring):
                one.next, other.prev = other, one
        for index, node in enumerate(nodes, 1):
            before, after = (ring[index - 1], ring[index + 1]) if self.threaded else (0, 0)
            entry = self._entries[node.start]
            entry.left = self._entries[node.left.start] if node.left else before
            entry.right = self._entries[node.right.start] if node.right else after
        if self.threaded:
            header.right, header.left = ring[1], ring[-2]
        root = self._tree.root
        self.map.root = self._entries[root.start] if root else 0


def _start(node: SplayNode) -> int:
    return node.start


def _children_first(root: SplayNode | None) -> Iterable[SplayNode]:
    order: list[SplayNode] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is not None:
            order.append(node)
            waiting += [node.left, node.right]
    return reversed(order)


def fill_user_map(builder: MapBuilder, process: Process, address: Callable[[int], int]) -> None:
    """The entries of a process in the order in which exec makes them: stack and gap, then the rest upwards."""
    world = builder.world
    stack = [entry for entry in process.vm_entries if entry.grows_down]
    gaps = [entry for entry in process.vm_entries if entry.guard]
    rest = [entry for entry in process.vm_entries if entry not in stack and entry not in gaps]
    texts = {item.key for item in world.system.objects if item.vnode and item.vnode == process.text}
    stack_starts = {entry.start for entry in stack}
    for entry in (*stack, *gaps, *sorted(rest, key=lambda item: item.start)):
        is_gap = entry.guard and entry.end in stack_starts
        is_text = builder.threaded and "x" in entry.prot and entry.object in texts
        made = builder.insert(
            address(entry.start),
            address(entry.end),
            eflags=_flags(entry) | (STACK_GAP if is_gap else 0) | (VN_EXEC if is_text else 0),
            protection=protection(entry.prot),
            max_protection=protection(entry.max_prot),
            inheritance=INHERIT_COPY,
            read_ahead=7,
            offset=entry.offset,
        )
        if entry.object:
            made.object.vm_object = world.get("vm_object", entry.object)
        if is_gap:
            made.next_read, made.offset = GUARD_SIZE, protection("rw")
    builder.lookup(address(min(rest, key=lambda item: item.start).start))
    builder.finish()


def _flags(entry: VmEntry) -> int:
    flags = ((entry.copy_on_write, COPY_ON_WRITE), (entry.needs_copy, NEEDS_COPY))
    flags += ((entry.grows_down, GROWS_DOWN), (entry.guard, GUARD))
    return sum(bit for present, bit in flags if present)
