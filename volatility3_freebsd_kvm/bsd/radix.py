"""Radix trees: what routing tables and the tables of packet filters are made of.

A tree has inner nodes, which test a bit of the key, and leaves, which hold a key and a mask. Leaves with the same key
are chained.

# Reference: sys/net/radix.h, sys/net/radix.c (rn_walktree)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError
from ..image.structs import Structs

RNF_ROOT = 2
MAX_NODES = 1 << 24
MAX_BITS = 8 * 255
"""A key is a socket address, whose length is one byte."""
_MAX_PROBLEMS = 64


@dataclass(frozen=True)
class Leaf:
    """A leaf.

    Attributes:
        address: of its ``struct radix_node``, which is the first member of what it is a leaf for.
        key: address of the key, a ``struct sockaddr``.
        mask: address of the mask; 0 for a key that stands for itself only.
    """

    address: int
    key: int
    mask: int


@dataclass(frozen=True)
class _Node:
    bit: int
    flags: int
    first: int
    """The left child, or a leaf's key."""
    second: int
    """The right child, or a leaf's mask."""
    chained: int


class RadixTree:
    """The leaves of a tree in the order of their keys, without those of the root; loops and nonsense end branches.

    Iterate once; afterwards `problems` says what was irregular.
    """

    def __init__(self, structs: Structs, top: int, *, limit: int = MAX_NODES) -> None:
        """Describe the tree.

        Args:
            structs: memory and types.
            top: address of its first node (``rnh_treetop``).
            limit: at most so many nodes.

        Raises:
            SymbolError: the kernel's types lack ``struct radix_node``.
        """
        self.problems: list[str] = []
        self._structs = structs
        self._top = top
        self._limit = limit
        self._seen: set[int] = set()
        self._size = structs.size("radix_node")
        members = [structs.member("radix_node", name) for name in ("rn_bit", "rn_flags")]
        self._small = [(at, structs.size_of(reference)) for at, reference in members]
        self._inner = [structs.offset("radix_node", f"rn_u.rn_node.rn_{name}") for name in "LR"]
        self._leaf = [structs.offset("radix_node", f"rn_u.rn_leaf.rn_{name}") for name in ("Key", "Mask", "Dupedkey")]

    def __iter__(self) -> Iterator[Leaf]:
        waiting = [(self._top, -1)]
        while waiting:
            address, above = waiting.pop()
            node = self._visit(address, above)
            if node is None:
                continue
            if node.bit >= 0:
                waiting += [(node.second, node.bit), (node.first, node.bit)]
            else:
                yield from self._chain(address, node)

    def _chain(self, address: int, node: _Node | None) -> Iterator[Leaf]:
        """A leaf and those with the same key."""
        while node is not None:
            if not node.flags & RNF_ROOT:
                yield Leaf(address, node.first, node.second)
            address = node.chained
            node = self._visit(address, -1) if address else None
            if node is not None and node.bit >= 0:
                self._say(f"the chain of a key leads to the inner node {address:#x}")
                node = None

    def _visit(self, address: int, above: int) -> _Node | None:
        """A node that was not met before; None, with a problem, if it cannot be one."""
        problem = self._irregular(address)
        if not problem:
            self._seen.add(address)
            try:
                node = self._read(address)
            except AddressError as error:
                self._say(f"a branch ends where {error}")
                return None
            if node.bit < 0 or above < node.bit <= MAX_BITS:
                return node
            problem = f"node {address:#x} tests bit {node.bit}, which cannot be below bit {above}"
        self._say(problem)
        return None

    def _irregular(self, address: int) -> str:
        if address in self._seen:
            return f"a branch loops back to {address:#x}"
        if address % self._structs.word_size:
            return f"a branch leads to the misaligned address {address:#x}"
        if len(self._seen) >= self._limit:
            return f"has more than {self._limit} nodes"
        return ""

    def _say(self, problem: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def _read(self, address: int) -> _Node:
        data = self._structs.read(address, self._size)
        order, word = self._structs.byteorder, self._structs.word_size
        (bit_at, bit_size), (flags_at, flags_size) = self._small
        bit = int.from_bytes(data[bit_at : bit_at + bit_size], order, signed=True)
        flags = int.from_bytes(data[flags_at : flags_at + flags_size], order)
        places = self._leaf if bit < 0 else self._inner
        words = [int.from_bytes(data[at : at + word], order) for at in places]
        return _Node(bit, flags, words[0], words[1], words[2] if bit < 0 else 0)
