"""tmpfs, which is all in memory: every name of every file on it, whether the name cache knows it or not.

# Reference: sys/fs/tmpfs/tmpfs.h, tmpfs_subr.c
"""

from __future__ import annotations

from ..exceptions import AddressError, KVMError, SymbolError
from .kernel import Kernel
from .lists import Queue, RedBlackTree
from .objects import Object

MAX_NODES = 1 << 18
MAX_NAME = 255
_VDIR = 2
_MAX_DEPTH = 512
_DUPLICATES = 0x40000000
"""TMPFS_DIRCOOKIE_DUPHEAD: not a name but the head of those whose hash is the same."""


class Tmpfs:
    """The names on one tmpfs, read once.

    Attributes:
        problems: what was irregular; what was found is sound all the same.
    """

    def __init__(self, kernel: Kernel, mount: Object) -> None:
        """Read all directories.

        Raises:
            SymbolError: the types do not know tmpfs.
            AddressError: the mount cannot be read.
        """
        self._kernel = kernel
        self.problems: list[str] = []
        self._names: dict[int, tuple[str, int]] = {}
        data = mount.mnt_data.as_("tmpfs_mount")
        self._root = int(data.tm_root)
        nodes = Queue(kernel.structs, data.at_("tm_nodes_used"), "tmpfs_node", "tn_entries", limit=MAX_NODES)
        for node in nodes:
            try:
                if int(node.tn_type) == _VDIR:
                    self._read_directory(node)
            except AddressError as error:
                self.problems.append(f"the directory at {node.address_:#x} cannot be read: {error}")
        self.problems += nodes.problems

    def path_of(self, vnode: Object) -> str:
        """The path of a vnode below the root of the file system; empty if it has no name.

        Raises:
            AddressError: the vnode cannot be read.
            SymbolError: the types do not know vnodes.
        """
        node = int(vnode.v_data)
        parts: list[str] = []
        while node != self._root and node in self._names and len(parts) < _MAX_DEPTH:
            name, node = self._names[node]
            parts.append(name)
        return "/".join(reversed(parts)) if node == self._root else ""

    def _read_directory(self, directory: Object) -> None:
        structs = self._kernel.structs
        head = directory.at_("tn_spec.tn_dir.tn_dirhead")
        tree = RedBlackTree(structs, head, "tmpfs_dirent", "uh.td_entries", limit=MAX_NODES)
        for entry in tree:
            if not int(entry.td_cookie) & _DUPLICATES:
                # The name has no NUL behind it.
                name = structs.read(int(entry.ud.td_name), min(int(entry.td_namelen), MAX_NAME))
                self._names[int(entry.td_node)] = name.decode("utf-8", "replace"), directory.address_
        self.problems += tree.problems


class TmpfsNames:
    """The names on every tmpfs; each is read when it is asked for first."""

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._known: dict[int, Tmpfs | None] = {}

    def path_of(self, vnode: Object, mount: Object) -> str:
        """The path of a vnode below the root of its tmpfs; empty if it has none, or it cannot be told."""
        try:
            names = self._of(mount)
            return names.path_of(vnode) if names else ""
        except KVMError:
            return ""

    def _of(self, mount: Object) -> Tmpfs | None:
        if mount.address_ not in self._known:
            try:
                self._known[mount.address_] = Tmpfs(self._kernel, mount)
            except (AddressError, SymbolError):
                self._known[mount.address_] = None
        return self._known[mount.address_]
