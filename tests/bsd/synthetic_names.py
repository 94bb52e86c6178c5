"""Name caches as large as one likes: vnodes and names in memory that no dump has to hold."""

from __future__ import annotations

from dataclasses import replace

from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types

BASE = 0xA000_0000
"""No kernel of the scenario has anything there."""
VDIR, VREG = 2, 1


def with_structs(kernel: Kernel, structs: Structs) -> Kernel:
    """The same kernel with another memory or other types."""
    return replace(kernel, names=Names(kernel.names.symbols, structs))


def without_types_of_modules(kernel: Kernel) -> Kernel:
    """As a real kernel is, whose types do not have those of its modules."""
    private = ("null_node", "null_mount", "devfs_dirent", "devfs_mount", "tmpfs_node", "tmpfs_mount", "tmpfs_dirent")
    old = kernel.structs
    rest = {key: value for key, value in old.types.user_types.items() if key not in private}
    types = Types(old.types.base_types, rest, old.types.enums)
    return with_structs(kernel, Structs(old.read, types, 8 * old.word_size, old.byteorder))


class SyntheticNames:
    """Builds vnodes and names, then gives a kernel that has them besides its own.

    Attributes:
        reads: how often memory was read.
    """

    def __init__(self, kernel: Kernel, mount: int) -> None:
        """Take the kernel and the mount that everything will be on."""
        self.below = kernel
        self.structs = kernel.structs
        self.mount = mount
        self.data = bytearray()
        self.reads = 0
        self._first: dict[int, int] = {}
        self._old = not kernel.has_member("namecache", "n_un")

    def vnode(self, kind: int = VREG) -> int:
        """A vnode without a name."""
        address = self._room(self.structs.size("vnode"))
        self._set("vnode", address, "v_type", kind)
        self._set("vnode", address, "v_mount", self.mount)
        self._first[address] = address + self.structs.offset("vnode", "v_cache_dst")
        return address

    def name(self, text: str, directory: int, vnode: int, flags: int = 0) -> int:
        """Another name of a vnode that was made here, behind those it has."""
        entry = self._room(self.structs.size("namecache") + len(text) + 1)
        self._set("namecache", entry, "nc_dvp", directory)
        self._set("namecache", entry, "nc_vp" if self._old else "n_un.nu_vp", vnode)
        self._set("namecache", entry, "nc_flag", flags)
        self._set("namecache", entry, "nc_nlen", len(text))
        self._put(entry + self.structs.offset("namecache", "nc_name"), text.encode())
        link = entry + self.structs.offset("namecache", "nc_dst")
        slot = self._first[vnode]
        self._pointer(slot, entry)
        self._pointer(link + self.structs.word_size, slot)
        self._first[vnode] = link
        return entry

    def own_entry(self, directory: int, entry: int) -> None:
        """Let a directory know its own entry, or its ``..``."""
        self._set("vnode", directory, "v_cache_dd", entry)

    def kernel(self) -> Kernel:
        """The kernel with all this."""
        content, below, end = bytes(self.data), self.structs.read, BASE + len(self.data)

        def read(address: int, length: int) -> bytes:
            self.reads += 1
            inside = address >= BASE and address + length <= end
            return content[address - BASE : address - BASE + length] if inside else below(address, length)

        old = self.structs
        return with_structs(self.below, Structs(read, old.types, 8 * old.word_size, old.byteorder))

    def _room(self, size: int) -> int:
        address = BASE + len(self.data)
        self.data += bytes(-(-size // 16) * 16)
        return address

    def _set(self, type_name: str, address: int, path: str, value: int) -> None:
        offset, reference = self.structs.member(type_name, path)
        size = self.structs.size_of(reference)
        self._put(address + offset, value.to_bytes(size, self.structs.byteorder))

    def _pointer(self, address: int, value: int) -> None:
        self._put(address, value.to_bytes(self.structs.word_size, self.structs.byteorder))

    def _put(self, address: int, data: bytes) -> None:
        self.data[address - BASE : address - BASE + len(data)] = data
