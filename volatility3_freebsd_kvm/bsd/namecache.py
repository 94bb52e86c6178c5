"""The name cache: names that have been looked up, and the directories that they are in.

# Reference: sys/kern/vfs_cache.c (struct namecache, NCF_*), sys/sys/vnode.h (v_cache_src, v_cache_dst, v_cache_dd)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError
from .kernel import Kernel
from .lists import Queue
from .objects import Object

DOTDOT, NEGATIVE = 0x02, 0x20
UNUSABLE = NEGATIVE | 0x40 | 0x80
"""NCF_NEGATIVE, NCF_INVALID (12.0) and NCF_WIP (13.0; until then hot negative entries had that bit)."""
MAX_NAMES = 1 << 20
_MAX_PROBLEMS = 16


@dataclass(frozen=True)
class CachedName:
    """A `struct namecache`.

    Attributes:
        address: of the structure.
        name: one component of a path.
        directory: address of the vnode of the directory that the name is in.
        vnode: address of the vnode that it leads to; of no meaning for negative entries.
        flags: NCF_* bits.
    """

    address: int
    name: str
    directory: int
    vnode: int
    flags: int

    @property
    def is_dotdot(self) -> bool:
        """Whether it is the ``..`` of a directory, and tells where that is rather than how it is called."""
        return bool(self.flags & DOTDOT)

    @property
    def is_negative(self) -> bool:
        """Whether somebody looked for the name and it did not exist."""
        return bool(self.flags & NEGATIVE)

    @property
    def is_name(self) -> bool:
        """Whether it names the vnode that it leads to."""
        return not self.flags & (DOTDOT | UNUSABLE)


def read_name(entry: Object) -> CachedName:
    """The contents of a `struct namecache`; raises `AddressError` where it cannot be read."""
    length = int(entry.nc_nlen)
    return CachedName(
        entry.address_,
        entry.structs_.string(entry.at_("nc_name"), length).decode("utf-8", "replace"),
        int(entry.nc_dvp),
        # 12.0 put the vnode into a union with the state of negative entries.
        int(entry.n_un.nu_vp if entry.has_("n_un") else entry.nc_vp),
        int(entry.nc_flag),
    )


class NamesOf:
    """The entries that lead to a vnode (``v_cache_dst``), the youngest first, ``..`` of directories in it included.

    Iterate once; afterwards `problems` says what was irregular.
    """

    def __init__(self, kernel: Kernel, vnode: int, *, limit: int = MAX_NAMES) -> None:
        """Take the address of the vnode; raises `SymbolError` if the types do not know the name cache."""
        self.vnode = vnode
        head = kernel.object("vnode", vnode).at_("v_cache_dst")
        self._queue = Queue(kernel.structs, head, "namecache", "nc_dst", limit=limit)

    @property
    def problems(self) -> list[str]:
        """One clause for each irregularity of the list."""
        return self._queue.problems

    def __iter__(self) -> Iterator[CachedName]:
        problems = self._queue.problems
        unreadable = ""
        for entry in self._queue:
            if len(problems) >= _MAX_PROBLEMS:
                problems.append("the rest of the list is left out")
                return
            try:
                found = read_name(entry)
            except AddressError as error:
                unreadable = f"the name at {entry.address_:#x} cannot be read: {error}"
                continue
            if found.vnode != self.vnode:
                problems.append(f"the name at {entry.address_:#x} is of vnode {found.vnode:#x}")
            else:
                yield found
        if unreadable and not problems:
            # If all of the entry was lost, the list ended there and says so.
            problems.append(unreadable)


def dotdot_of(kernel: Kernel, vnode: int) -> int:
    """Address of a directory's parent if the name cache knows its ``..``, else 0 (``v_cache_dd``).

    Raises:
        SymbolError: the types do not know the name cache.
        AddressError: the directory or the entry cannot be read.
    """
    entry = kernel.object("vnode", vnode).v_cache_dd
    if not entry:
        return 0
    found = read_name(entry.as_("namecache"))
    return found.vnode if found.is_dotdot and found.directory == vnode else 0
