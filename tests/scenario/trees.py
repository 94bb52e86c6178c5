"""The shapes of the kernel's trees, by its own algorithms: rank-balanced (red-black), splay and radix trees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from tests.writers.objects import Object

from .world import World

Item = TypeVar("Item")

LEFT, RIGHT, BOTH = 1, 2, 3


class RbNode(Generic[Item]):
    """A node of `RbTree`; ``links[0]`` is the parent, ``bits`` are what sys/tree.h keeps in its low two bits."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.links: list[RbNode[Item] | None] = [None, None, None]
        self.bits = 0


class RbTree(Generic[Item]):
    """The tree of sys/tree.h since 14.0 (RB_INSERT): a weak AVL tree whose bits say which children are long edges."""

    def __init__(self, key: Callable[[Item], Any]) -> None:
        self.root: RbNode[Item] | None = None
        self._key = key

    def insert(self, item: Item) -> None:
        """RB_INSERT of a new key."""
        node = RbNode(item)
        parent, place = None, self.root
        side = 0
        while place is not None:
            parent = place
            side = LEFT if self._key(item) < self._key(place.item) else RIGHT
            place = place.links[side]
        node.links[0] = parent
        if parent is None:
            self.root = node
            return
        parent.links[side] = node
        self._balance(parent, node)

    def nodes(self) -> Iterator[RbNode[Item]]:
        """All nodes, parents first."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node is not None:
                yield node
                waiting += node.links[1:]

    def _balance(self, parent: RbNode[Item], node: RbNode[Item]) -> None:
        """RB_INSERT_COLOR."""
        child: RbNode[Item] | None = None
        place: RbNode[Item] | None = parent
        while place is not None:
            above, bits = place.links[0], place.bits
            side = RIGHT if place.links[RIGHT] is node else LEFT
            if bits & side:
                place.bits ^= side
                return
            place.bits ^= side ^ BOTH
            if bits & BOTH == 0:
                # Both edges are short now: the subtree grew, go on above it.
                child, node, place = node, place, above
                continue
            place.bits = 0
            if node.bits & side:
                assert child is not None
                self._lift(place, node, child, side)
            else:
                child = node
            self._rotate(place, child, side ^ BOTH)
            child.links[0], child.bits = above, 0
            self._replace(above, place, child)
            return

    def _lift(self, parent: RbNode[Item], node: RbNode[Item], child: RbNode[Item], side: int) -> None:
        """The first half of a double rotation."""
        self._rotate(node, child, side)
        if child.bits & (side ^ BOTH):
            parent.bits ^= side
        node.bits ^= BOTH if child.bits & side else side

    @staticmethod
    def _rotate(node: RbNode[Item], child: RbNode[Item], side: int) -> None:
        between = child.links[side]
        node.links[side ^ BOTH] = between
        if between is not None:
            between.links[0] = node
        child.links[side] = node
        node.links[0] = child

    def _replace(self, parent: RbNode[Item] | None, old: RbNode[Item], new: RbNode[Item]) -> None:
        if parent is None:
            self.root = new
        else:
            parent.links[LEFT if parent.links[LEFT] is old else RIGHT] = new


def link_tree(head: Object, items: Iterable[Object], link: str, key: Callable[[Object], Any]) -> None:
    """Make `head` (RB_HEAD of 14.0 or later) hold `items`, inserted in that order, by their member `link`."""
    tree = RbTree(key)
    for item in items:
        tree.insert(item)
    head.rbh_root = tree.root.item if tree.root else 0
    for node in tree.nodes():
        targets = [int(other.item) if other else 0 for other in node.links]
        targets[0] |= node.bits
        for index, target in enumerate(targets):
            node.item[link].rbe_link[index] = target


class SplayNode:
    """A range of addresses in `SplayTree`."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.left: SplayNode | None = None
        self.right: SplayNode | None = None
        self.max_free = 0


class SplayTree:
    """The tree of a `vm_map` (vm/vm_map.c): splayed from the top down at every insertion and lookup.

    Attributes:
        classic: Until 12, a rotation needs a grandchild, and the predecessor is splayed before an insertion.
    """

    def __init__(self, *, classic: bool) -> None:
        self.root: SplayNode | None = None
        self.classic = classic

    def insert(self, node: SplayNode, before: SplayNode | None) -> None:
        """`vm_map_entry_link`; `before` is the entry that precedes it in the map."""
        if not self.classic:
            self.root, node.left, node.right = None, *self._split(node.start)
        elif before is None:
            node.left, node.right = None, self.root
        else:
            self.lookup(before.start)
            assert self.root is before
            node.left, node.right = before, before.right
            before.right = None
        self.root = node

    def lookup(self, address: int) -> None:
        """`vm_map_lookup_entry` of an address that is in the map, with the map locked for writing."""
        left, right = self._split(address)
        assert self.root is not None
        self.root.left, self.root.right = left, right

    def _split(self, address: int) -> tuple[SplayNode | None, SplayNode | None]:
        """What is to the left and to the right of the address; `root` becomes the entry that holds it, if any."""
        low = high = ends = SplayNode(0, 0)
        root = self.root
        while root is not None:
            if address < root.start:
                root = self._step(root, address, "left", "right")
                high.left, high, root = root, root, root.left
            elif address >= root.end:
                root = self._step(root, address, "right", "left")
                low.right, low, root = root, root, root.right
            else:
                break
        self.root = root
        low.right = root.left if root else None
        high.left = root.right if root else None
        return ends.right, ends.left

    def _step(self, root: SplayNode, address: int, toward: str, away: str) -> SplayNode:
        """Rotate if the path goes the same way twice; returns the node to put aside."""
        child = getattr(root, toward)
        if child is None or not (address < child.start if toward == "left" else address >= child.end):
            return root
        if self.classic and getattr(child, toward) is None:
            return root
        setattr(root, toward, getattr(child, away))
        setattr(child, away, root)
        return child


def in_order(root: SplayNode | None) -> list[SplayNode]:
    """The nodes by address."""
    result: list[SplayNode] = []
    waiting: list[SplayNode] = []
    while root is not None or waiting:
        while root is not None:
            waiting.append(root)
            root = root.left
        root = waiting.pop()
        result.append(root)
        root = root.right
    return result


class Trie:
    """A radix tree that skips levels (vm/vm_radix.c, kern/subr_pctrie.c), as nodes of this kernel's shape."""

    def __init__(self, world: World, node_type: str) -> None:
        self._world = world
        self._type = node_type
        self._prefix = "rn" if world.has(node_type, "rn_owner") else "pn"
        children = world.memory.types.member(node_type, f"{self._prefix}_child").type
        self._slots: int = children["count"]
        self._width = self._slots.bit_length() - 1
        # Since 14 a child that is missing is a leaf without a value, and a node says which it has.
        self.popmap = world.has(node_type, f"{self._prefix}_popmap")
        self.empty = 1 if self.popmap else 0

    def build(self, items: Sequence[tuple[int, int]]) -> int:
        """The root of a tree of ``(key, address)``, ordered by key."""
        if not items:
            return self.empty
        if len(items) == 1:
            return items[0][1] | 1
        level = ((items[0][0] ^ items[-1][0]).bit_length() - 1) // self._width
        shift = level * self._width
        slots: dict[int, list[tuple[int, int]]] = {}
        for item in items:
            slots.setdefault(item[0] >> shift & self._slots - 1, []).append(item)
        owner = items[0][0] >> (shift + self._width) << (shift + self._width)
        return int(self._node(owner, level, {slot: self.build(group) for slot, group in slots.items()}))

    def _node(self, owner: int, level: int, children: dict[int, int]) -> Object:
        node = self._world.new(f"struct {self._type}")
        node[f"{self._prefix}_owner"] = owner
        node[f"{self._prefix}_clev"] = level * self._width if self.popmap else level
        if self.popmap:
            node[f"{self._prefix}_popmap"] = sum(1 << slot for slot in children)
        else:
            node[f"{self._prefix}_count"] = len(children)
        for slot in range(self._slots):
            set_pointer(node[f"{self._prefix}_child"], slot, children.get(slot, self.empty))
        return node


def set_pointer(obj: Object, member: str | int, value: int) -> None:
    """Set a pointer that may be wrapped as `SMR_POINTER`."""
    place = obj._member(member)
    if place._type["kind"] == "struct":
        place["__ptr"] = value
    else:
        obj[member] = value


def set_root(tree: Object, value: int) -> None:
    """Set the root of a `struct pctrie` or `struct vm_radix` (which is a pctrie since 15)."""
    types = tree._memory.types
    if types.has_member(tree._type["name"], "rt_trie"):
        tree = tree.rt_trie
    set_pointer(tree, "pt_root" if types.has_member(tree._type["name"], "pt_root") else "rt_root", value)
