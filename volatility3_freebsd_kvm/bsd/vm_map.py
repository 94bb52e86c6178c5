"""Walks the entries of an address map: a list with a splay tree (until 12), or a threaded splay tree (13.0).

# Reference: sys/vm/vm_map.h, vm_map.c (vm_map_entry_succ, vm_map_entry_pred)
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exceptions import AddressError
from .kernel import Kernel
from .objects import Object
from .records import attempt

MAX_ENTRIES = 1 << 20
_MAX_PROBLEMS = 16


class Map:
    """The entries of a `struct vm_map`, by rising addresses.

    Iterate once; afterwards `problems` says what was irregular. Where the way upwards is not sound, entries are also
    looked for from the top downwards and by the tree.

    Attributes:
        address: of the structure.
        problems: one clause for each irregularity.
    """

    def __init__(self, kernel: Kernel, map_: Object) -> None:
        """Take the map; raises `SymbolError` if the types do not know its entries."""
        self.address = map_.address_
        self.problems: list[str] = []
        self._kernel = kernel
        self._map = map_
        structs = kernel.structs
        self._header = map_.at_("header")
        self._at_start, reference = structs.member("vm_map_entry", "start")
        self._start_size = structs.size_of(reference)
        self._at_left, self._at_right = (structs.offset("vm_map_entry", name) for name in ("left", "right"))
        self._listed = kernel.has_member("vm_map_entry", "next")
        if self._listed:
            self._at_before, self._at_next = (structs.offset("vm_map_entry", name) for name in ("prev", "next"))

    def __iter__(self) -> Iterator[Object]:
        return (self._kernel.object("vm_map_entry", entry) for entry in self.addresses())

    def addresses(self) -> list[int]:
        """The entries' addresses."""
        found = dict(self._walk(upwards=True))
        counted = attempt(lambda: int(self._map.nentries))
        if self.problems or counted != len(found):
            known = len(found)
            for way in (self._walk(upwards=False), self._tree()):
                found |= {entry: start for entry, start in way if entry not in found}
            if len(found) > known:
                self.problems.append(f"{len(found) - known} entries are not on the way upwards")
        if isinstance(counted, int) and counted != len(found):
            self.problems.append(f"{len(found)} entries were found, the map counts {counted}")
        # From both ends the same may have been met.
        self.problems[:] = dict.fromkeys(self.problems)
        return sorted(found, key=lambda entry: found[entry])

    # One after the other

    def _walk(self, *, upwards: bool) -> Iterator[tuple[int, int]]:
        """Entries and their starts from one end, as long as these rise (or fall)."""
        seen: set[int] = set()
        try:
            entry = self._outermost(upwards=upwards)
            last = -1 if upwards else 1 << 8 * self._start_size
            while entry != self._header:
                start = self._start(entry)
                if entry in seen:
                    self.problems.append(f"its entries lead back to {entry:#x}")
                    return
                if (start <= last) if upwards else (start >= last):
                    self.problems.append(f"the entry {entry:#x} at {start:#x} is out of order")
                    return
                if len(seen) >= MAX_ENTRIES:
                    self.problems.append(f"has more than {MAX_ENTRIES} entries")
                    return
                seen.add(entry)
                yield entry, start
                last, entry = start, self._neighbour(entry, start, upwards=upwards)
        except AddressError as error:
            self.problems.append(f"its entries end where {error}")

    def _start(self, entry: int) -> int:
        return self._kernel.structs.uint(entry + self._at_start, self._start_size)

    def _outermost(self, *, upwards: bool) -> int:
        structs = self._kernel.structs
        if self._listed:
            return structs.pointer(self._header + (self._at_next if upwards else self._at_before))
        return structs.pointer(self._header + (self._at_right if upwards else self._at_left))

    def _neighbour(self, entry: int, start: int, *, upwards: bool) -> int:
        """The next entry: by the list, or in the threaded tree, where a missing child is replaced by a neighbour.

        A child to the right is a real one if something left of it lies above `start`; then the next entry is the
        leftmost below it, whose own left child is missing and so leads back to `entry`.
        """
        structs = self._kernel.structs
        if self._listed:
            return structs.pointer(entry + (self._at_next if upwards else self._at_before))
        outer, inner = (self._at_right, self._at_left) if upwards else (self._at_left, self._at_right)
        found = structs.pointer(entry + outer)
        if found == self._header:
            return found
        child = structs.pointer(found + inner)
        if child in (entry, self._header) or not self._beyond(child, start, upwards=upwards):
            return found
        steps: set[int] = set()
        while child != entry:
            if child in steps or child == self._header:
                raise AddressError(child, "the tree of entries is broken")
            steps.add(child)
            found, child = child, structs.pointer(child + inner)
        return found

    def _beyond(self, entry: int, start: int, *, upwards: bool) -> bool:
        other = self._start(entry)
        return other > start if upwards else other < start

    # By the tree

    def _tree(self) -> Iterator[tuple[int, int]]:
        """Entries and their starts by the tree alone, in no order.

        What lies between the nearest entries above in the tree is a child; a neighbour that stands for a missing one is
        itself such an entry, and so does not.
        """
        limit = 1 << 8 * self._start_size
        seen: set[int] = set()
        root = attempt(lambda: int(self._map.root))
        waiting = [(root, -1, limit)] if isinstance(root, int) and root else []
        problems = 0
        while waiting and problems < _MAX_PROBLEMS and len(seen) < MAX_ENTRIES:
            entry, low, high = waiting.pop()
            if entry in (0, self._header) or entry in seen:
                continue
            try:
                start = self._start(entry)
                if low < start < high:
                    children = [self._kernel.structs.pointer(entry + at) for at in (self._at_left, self._at_right)]
                    seen.add(entry)
                    yield entry, start
                    waiting += [(children[0], low, start), (children[1], start, high)]
            except AddressError as error:
                problems += 1
                self.problems.append(f"a branch of its tree ends where {error}")
