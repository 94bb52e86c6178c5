"""Radix trees as the kernel builds them (net/radix.h, net/radix.c): Patricia trees of socket addresses with masks.

A tree is built as Python objects and stored at once. Leaves and the inner nodes above them come in pairs, the leaf
first; bit numbers count from the first bit of the socket address. Masks are leaves of a tree of their own, and equal
masks are one leaf.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.writers.objects import Object, addressof

from .network_shapes import new_table
from .world import World

RNF_NORMAL, RNF_ROOT, RNF_ACTIVE = 0x1, 0x2, 0x4
MAX_KEY = 32
"""RADIX_MAX_KEY_LEN."""

TYPES = {
    "radix_mask_rmu": {"rmu_mask": "void *"},
    "radix_mask": {
        "rm_bit": "short",
        "rm_unused": "char",
        "rm_flags": "unsigned char",
        "rm_mklist": "struct radix_mask *",
        "rm_rmu": "struct radix_mask_rmu",
        "rm_refs": "int",
    },
}
VARIABLES = {"rn_zeros": "char[32]", "rn_ones": "char[32]"}


@dataclass(frozen=True)
class Key:
    """Bytes that a leaf points to; the first is their count."""

    va: int
    data: bytes

    @property
    def length(self) -> int:
        """`LEN`."""
        return self.data[0]

    def bit(self, offset: int, mask: int) -> bool:
        """Whether the key has a bit."""
        return offset < len(self.data) and bool(self.data[offset] & mask)


@dataclass(eq=False)
class Mask:
    """`struct radix_mask`: on the list of an inner node, for a route below it."""

    bit: int
    flags: int
    leaf: Node
    references: int = 0
    object: Object | None = None


@dataclass(eq=False)
class Node:
    """`struct radix_node`: an inner node when `bit` is not negative, else a leaf."""

    object: Object
    bit: int = -1
    flags: int = RNF_ACTIVE
    parent: Node | None = None
    masks: list[Mask] = field(default_factory=list)
    # Leaves:
    key: Key | None = None
    mask: Key | None = None
    duplicate: Node | None = None
    # Inner nodes:
    left: Node | None = None
    right: Node | None = None

    def child(self, key: Key) -> Node:
        """The side of an inner node on which a key is."""
        side = self.right if key.bit(self.bit >> 3, 0x80 >> (self.bit & 7)) else self.left
        assert side is not None
        return side

    def replace(self, old: Node, new: Node) -> None:
        """Put another child in the place of one."""
        if self.left is old:
            self.left = new
        else:
            self.right = new


class Tree:
    """A `struct radix_head` with its three root nodes."""

    def __init__(self, world: World, head: Object, nodes: Object, offset: int, masks: Tree | None = None) -> None:
        """`rn_inithead_internal`: keys differ from bit `offset` on; the ends are keys of zeros and of ones.

        Args:
            world: Where it goes.
            head: Its head.
            nodes: Array of the three root nodes.
            offset: In bits, to the address within a socket address.
            masks: The tree of its masks.
        """
        self.world = world
        self.offset = offset
        self.masks = masks
        self.top, zeros, ones = Node(nodes[1], bit=offset), Node(nodes[0]), Node(nodes[2])
        self.nodes = [zeros, self.top, ones]
        self._lists: list[Mask] = []
        for node, name, byte in ((zeros, "rn_zeros", b"\0"), (ones, "rn_ones", b"\xff")):
            node.key = Key(_constant(world, name, byte), byte * MAX_KEY)
            node.bit, node.parent = -1 - offset, self.top
        for node in self.nodes:
            node.flags = RNF_ROOT | RNF_ACTIVE
        self.top.left, self.top.right, self.top.parent = zeros, ones, self.top
        head.rnh_treetop = nodes[1]
        if masks is not None:
            head.rnh_masks = masks.head
        self.head = head

    def add(self, key: Key, mask: bytes | None, pair: Object) -> Node:
        """`rn_addroute`: a leaf for a key; `pair` is the array of the two nodes to use.

        Args:
            key: The socket address.
            mask: The mask as a socket address; None for a host.
            pair: Where the nodes are.
        """
        mask_leaf = None
        if mask is not None:
            assert self.masks is not None
            mask_leaf = self.masks.add_mask(mask, self.offset >> 3)
        leaf, found = self._insert(key, pair)
        first = leaf if found is None else self._add_duplicate(found, leaf, mask_leaf)
        if mask_leaf is not None:
            leaf.mask, leaf.bit = mask_leaf.key, mask_leaf.bit
            leaf.flags |= mask_leaf.flags & RNF_NORMAL
        if found is None:
            self._take_lists(leaf)
        if mask_leaf is not None:
            self._lift(leaf, first)
        return leaf

    def add_mask(self, mask: bytes, skip: int) -> Node:
        """`rn_addmask`: the leaf of a mask; its bytes before `skip` are taken as ones, its last zeros are cut off."""
        data = b"\xff" * skip + mask[skip : mask[0]]
        data = data.rstrip(b"\0")
        if len(data) <= skip:
            return self.nodes[0]
        data = bytes([len(data)]) + data[1:]
        for node in self.nodes:
            if node.bit < 0 and node.key and node.key.data[: len(data)] == data and not node.flags & RNF_ROOT:
                return node
        size = 2 * self.world.memory.types.sizeof("struct radix_node")
        room = self.world.memory.allocate(size + MAX_KEY)
        self.world.memory.write(room + size, data)
        reference = {"kind": "array", "count": 2, "subtype": self.world.memory.types.parse("struct radix_node")}
        key = Key(room + size, data.ljust(MAX_KEY, b"\0"))
        leaf, _ = self._insert(key, self.world.memory.cast(reference, room))
        ones = len("".join(f"{byte:08b}" for byte in data[skip:]).rstrip("0"))
        leaf.bit = -1 - (8 * skip + ones)
        leaf.flags |= RNF_NORMAL
        return leaf

    # Keys

    def _search(self, key: Key) -> Node:
        node = self.top
        while node.bit >= 0:
            node = node.child(key)
        return node

    def _insert(self, key: Key, pair: Object) -> tuple[Node, Node | None]:
        """`rn_insert`: a new leaf, and the one that has the key already, if any; then the new one is not linked yet."""
        other = self._search(key)
        assert other.key is not None
        leaf = Node(pair[0], key=key)
        self.nodes.append(leaf)
        skip = self.offset >> 3
        theirs = other.key.data.ljust(256, b"\0")
        differing = next((at for at in range(skip, key.length) if key.data[at] != theirs[at]), None)
        if differing is None:
            return leaf, other
        bit = 8 * differing + 8 - (key.data[differing] ^ theirs[differing]).bit_length()
        parent, below = self.top, self.top.child(key)
        while 0 <= below.bit < bit:
            parent, below = below, below.child(key)
        inner = Node(pair[1], bit=bit, parent=parent)
        self.nodes.append(inner)
        parent.replace(below, inner)
        one = key.bit(bit >> 3, 0x80 >> (bit & 7))
        inner.left, inner.right = (below, leaf) if one else (leaf, below)
        leaf.parent = below.parent = inner
        return leaf, None

    def _add_duplicate(self, first: Node, leaf: Node, mask: Node | None) -> Node:
        """Into the chain of leaves with one key: most specific first. Returns the chain's head."""
        before: Node | None = None
        at: Node | None = first
        while at is not None:
            if mask is None or (at.mask is not None and (mask.bit < at.bit)):
                break
            before, at = at, at.duplicate
        leaf.duplicate = at
        if before is None:
            parent = first.parent
            assert parent is not None
            parent.replace(first, leaf)
            leaf.parent, first.parent = parent, leaf
            return leaf
        before.duplicate, leaf.parent = leaf, before
        if at is not None:
            at.parent = leaf
        return first

    # Masks of routes, as high in the tree as they apply

    def _take_lists(self, leaf: Node) -> None:
        """The new inner node takes over masks of its other child that apply to all of it."""
        inner = leaf.parent
        assert inner is not None
        limit = -1 - inner.bit
        below = inner.left if inner.right is leaf else inner.right
        assert below is not None
        if below.bit >= 0:
            kept = [mask for mask in below.masks if mask.bit < limit]
            inner.masks = below.masks[len(kept) :]
            below.masks = kept
            return
        at: Node | None = below
        while at is not None:
            if at.mask is not None and at.bit >= limit and not at.masks:
                inner.masks.append(self._new_mask(at))
            at = at.duplicate

    def _lift(self, leaf: Node, first: Node) -> None:
        """To the list of the highest ancestor to all of which the route applies."""
        index = -1 - leaf.bit
        at = first.parent
        assert at is not None
        if index > at.bit:
            return
        lower = at
        while True:
            lower, at = at, at.parent
            assert at is not None
            if index > at.bit or lower is self.top:
                break
        place = next((at for at, mask in enumerate(lower.masks) if mask.bit > leaf.bit), len(lower.masks))
        lower.masks.insert(place, self._new_mask(leaf))

    def _new_mask(self, leaf: Node) -> Mask:
        mask = Mask(leaf.bit, leaf.flags, leaf, object=self.world.new("struct radix_mask"))
        leaf.masks = [mask]
        self._lists.append(mask)
        return mask

    # Memory

    def store(self) -> None:
        """Write all nodes and masks."""
        for node in self.nodes:
            obj = node.object
            obj.rn_bit, obj.rn_flags = node.bit, node.flags
            obj.rn_parent = node.parent.object if node.parent else 0
            obj.rn_mklist = node.masks[0].object if node.masks else 0
            if node.bit < 0:
                _store_leaf(node)
            else:
                assert node.left is not None
                assert node.right is not None
                obj.rn_bmask = 0x80 >> (node.bit & 7)
                inner = obj.rn_u.rn_node
                inner.rn_Off, inner.rn_L, inner.rn_R = node.bit >> 3, node.left.object, node.right.object
                for number, mask in enumerate(node.masks):
                    _store_mask(mask, node.masks[number + 1] if number + 1 < len(node.masks) else None)
        if self.masks is not None:
            self.masks.store()


def _store_leaf(node: Node) -> None:
    leaf = node.object.rn_u.rn_leaf
    leaf.rn_Key = node.key.va if node.key else 0
    leaf.rn_Mask = node.mask.va if node.mask else 0
    leaf.rn_Dupedkey = node.duplicate.object if node.duplicate else 0


def _store_mask(mask: Mask, following: Mask | None) -> None:
    """A list entry of a normal mask leads to the leaf, else to the mask."""
    assert mask.object is not None
    mask.object.rm_bit, mask.object.rm_flags, mask.object.rm_refs = mask.bit, mask.flags, mask.references
    mask.object.rm_mklist = following.object if following else 0
    leaf_mask = mask.leaf.mask.va if mask.leaf.mask else 0
    mask.object.rm_rmu.rmu_mask = mask.leaf.object._va if mask.flags & RNF_NORMAL else leaf_mask


def _constant(world: World, name: str, byte: bytes) -> int:
    """The static buffers `rn_zeros` and `rn_ones`."""
    if not world.find("radix", name):
        world.put("radix", name, world.symbol(name) if world.has_symbol(name) else new_table(world, "char", MAX_KEY))
    buffer = addressof(world.get("radix", name))
    world.memory.write(buffer, byte * MAX_KEY)
    return buffer
