"""The kernel's path-compressed tries: of the resident pages of a VM object, of its swap blocks.

# Reference: sys/kern/subr_pctrie.c (struct pctrie_node), sys/vm/vm_radix.c (struct vm_radix_node, until 14)
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exceptions import AddressError
from .kernel import Kernel

MAX_NODES = 1 << 22
_LEAF = 1
_NOTHING = (0, _LEAF)
"""A slot without a child: NULL, since 13.0 a leaf that is NULL."""


class Trie:
    """The leaves of a trie.

    Iterate once; afterwards `problems` says what was irregular. Leaves before the irregularity are sound.

    Attributes:
        problems: one clause for each irregularity.
    """

    def __init__(self, kernel: Kernel, root: int, node_type: str, *, limit: int = MAX_NODES) -> None:
        """Describe the trie.

        Args:
            kernel: the kernel.
            root: address of the word with the root.
            node_type: ``pctrie_node`` or ``vm_radix_node``.
            limit: at most so many nodes and leaves.

        Raises:
            SymbolError: the kernel's types lack the node.
        """
        self.problems: list[str] = []
        self._structs = kernel.structs
        self._root = root
        self._limit = limit
        prefix = "rn" if kernel.has_member(node_type, "rn_child") else "pn"
        self._at, reference = self._structs.member(node_type, f"{prefix}_child")
        # A child may be a structure of one pointer (SMR), which is as large as one.
        self._length = int(reference["count"]) * self._structs.word_size

    def __iter__(self) -> Iterator[int]:
        """What the leaves point to, by rising keys."""
        seen: set[int] = set()
        waiting: list[int] = []
        try:
            waiting.append(self._structs.pointer(self._root))
        except AddressError as error:
            self.problems.append(f"its root cannot be read: {error}")
        left = self._limit
        while waiting:
            child = waiting.pop()
            if child in _NOTHING:
                continue
            if left <= 0:
                self.problems.append(f"has more than {self._limit} nodes")
                return
            left -= 1
            if child & _LEAF:
                yield child & ~_LEAF
            elif child in seen:
                self.problems.append(f"a branch leads back to the node {child:#x}")
            else:
                seen.add(child)
                waiting += reversed(self._children(child))

    def _children(self, node: int) -> list[int]:
        structs = self._structs
        word = structs.word_size
        try:
            data = structs.read(node + self._at, self._length)
        except AddressError as error:
            self.problems.append(f"the node {node:#x} cannot be read: {error}")
            return []
        return [int.from_bytes(data[at : at + word], structs.byteorder) for at in range(0, len(data), word)]
