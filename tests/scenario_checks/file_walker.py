"""A reader of files from scratch: numbers at offsets of structures in a dump. It knows nothing of how that was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tests.writers.ctype import TypeTable
from volatility3_freebsd_kvm import kvm

VV_ROOT = 1
LIMIT = 10_000


class Name(NamedTuple):
    """A `struct namecache`."""

    address: int
    directory: int
    vnode: int
    flags: int
    name: bytes


class Walker:
    """Kernel memory of a dump by symbols and types."""

    def __init__(self, dump: kvm.Dump, types: TypeTable, symbols: dict[str, int]) -> None:
        self.dump = dump
        self.types = types
        self.symbols = symbols
        self.names = {value: name for name, value in symbols.items()}
        self.order: Literal["big", "little"] = "big" if types.byteorder == "big" else "little"

    # Bytes and numbers

    def number(self, va: int, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.dump.read(va, size), self.order, signed=signed)

    def pointer(self, va: int) -> int:
        return self.number(va, self.types.pointer_size)

    def at(self, va: int, structure: str, path: str) -> int:
        """The address of a member."""
        return va + self.types.offsetof(structure, path)

    def get(self, va: int, structure: str, path: str, *, signed: bool = False) -> int:
        """The value of a member, whatever its size."""
        *outer, last = path.split(".")
        name = structure
        for part in outer:
            name = self.types.member(name, part).type["name"]
        reference = self.types.member(name, last).type
        value = self.number(self.at(va, structure, path), self.types.size(reference), signed=signed)
        if reference["kind"] == "bitfield":
            value = value >> reference["bit_position"] & (1 << reference["bit_length"]) - 1
        return value

    def array(self, va: int, structure: str, member: str) -> bytes:
        """The text in an array of characters, up to its NUL."""
        size = self.types.size(self.types.member(structure, member).type)
        return self.dump.read(self.at(va, structure, member), size).split(b"\0")[0]

    def string(self, va: int) -> bytes:
        text = b""
        while b"\0" not in text:
            text += self.dump.read(va + len(text), 1)
        return text[:-1]

    def has(self, structure: str, member: str) -> bool:
        return self.types.has_member(structure, member)

    def global_pointer(self, name: str) -> int:
        return self.pointer(self.symbols[name])

    # Lists: the first word of every head is the first element, the first word of every entry the next one

    def chain(self, head: int, structure: str, link: str, *, back: bool = True) -> Iterator[int]:
        """Elements of a LIST, TAILQ or (without back links) SLIST; checks that they point back."""
        place, element = head, self.pointer(head)
        for _ in range(LIMIT):
            if not element:
                return
            entry = self.at(element, structure, link)
            if back:
                assert self.pointer(entry + self.types.pointer_size) == place, (structure, link)
            yield element
            place, element = entry, self.pointer(entry)
        raise AssertionError(f"endless list of {structure}")

    def queue(self, head: int, structure: str, link: str) -> list[int]:
        """All elements of a TAILQ, whose head points to the last link."""
        found = list(self.chain(head, structure, link))
        last = self.at(found[-1], structure, link) if found else head
        assert self.pointer(head + self.types.pointer_size) == last, (structure, link)
        return found

    def hash_chains(self, name: str, mask: str, structure: str, link: str, *, back: bool) -> dict[int, list[int]]:
        """The elements in each bucket of a table that hashinit(9) made."""
        table, size = self.global_pointer(name), self.global_pointer(mask) + 1
        assert size & size - 1 == 0
        step = self.types.pointer_size
        return {index: list(self.chain(table + index * step, structure, link, back=back)) for index in range(size)}

    # Vnodes and names

    def fstype(self, vnode: int) -> bytes:
        mount = self.get(vnode, "vnode", "v_mount")
        return self.array(self.get(mount, "mount", "mnt_vfc"), "vfsconf", "vfc_name") if mount else b""

    def name_entry(self, address: int) -> Name:
        length = self.get(address, "namecache", "nc_nlen")
        start = self.at(address, "namecache", "nc_name")
        text = self.dump.read(start, length + 1)
        assert text[length] == 0
        return Name(
            address,
            self.get(address, "namecache", "nc_dvp"),
            self.get(address, "namecache", "n_un.nu_vp"),
            self.get(address, "namecache", "nc_flag"),
            text[:length],
        )

    def path(self, vnode: int) -> str | None:
        """As vn_fullpath does; None if some name is not known."""
        parts: list[str] = []
        for _ in range(100):
            if self.get(vnode, "vnode", "v_vflag") & VV_ROOT:
                covered = self.get(self.get(vnode, "vnode", "v_mount"), "mount", "mnt_vnodecovered")
                if not covered:
                    return "/" + "/".join(reversed(parts))
                vnode = covered
                continue
            step = self.step(vnode)
            if step is None:
                return None
            name, vnode = step
            parts.append(name)
        raise AssertionError("endless path")

    def step(self, vnode: int) -> tuple[str, int] | None:
        """The last name of a vnode and the vnode of its directory."""
        fstype = self.fstype(vnode)
        if fstype == b"devfs":
            return self.devfs_step(vnode)
        if fstype == b"nullfs":
            return self.null_step(vnode)
        for entry in self.queue(self.at(vnode, "vnode", "v_cache_dst"), "namecache", "nc_dst"):
            name = self.name_entry(entry)
            assert name.vnode == vnode
            if not name.flags & 0xE2:
                return name.name.decode(), name.directory
        return None

    def entry_name(self, entry: int) -> str:
        dirent = self.get(entry, "devfs_dirent", "de_dirent")
        length = self.get(dirent, "dirent", "d_namlen")
        return self.dump.read(self.at(dirent, "dirent", "d_name"), length).decode()

    def devfs_step(self, vnode: int) -> tuple[str, int]:
        """Names up to the root of the devfs, whose vnode is the directory."""
        entry = self.get(vnode, "vnode", "v_data")
        assert self.get(entry, "devfs_dirent", "de_vnode") == vnode
        parts = [self.entry_name(entry)]
        directory = self.get(entry, "devfs_dirent", "de_dir")
        while self.get(directory, "devfs_dirent", "de_inode") != 2:
            parts.insert(0, self.entry_name(directory))
            first = self.queue(self.at(directory, "devfs_dirent", "de_dlist"), "devfs_dirent", "de_list")
            directory = self.get(first[1], "devfs_dirent", "de_dir")
        return "/".join(parts), self.get(directory, "devfs_dirent", "de_vnode")

    def null_step(self, vnode: int) -> tuple[str, int] | None:
        """The name of the vnode below, and the vnode above that one's directory."""
        node = self.get(vnode, "vnode", "v_data")
        assert self.get(node, "null_node", "null_vnode") == vnode
        below = self.step(self.get(node, "null_node", "null_lowervp"))
        if below is None:
            return None
        mount = self.get(vnode, "vnode", "v_mount")
        for other in self.mount_vnodes(mount):
            if self.get(self.get(other, "vnode", "v_data"), "null_node", "null_lowervp") == below[1]:
                return below[0], other
        return None

    def mounts(self) -> list[int]:
        return self.queue(self.symbols["mountlist"], "mount", "mnt_list")

    def mount_vnodes(self, mount: int) -> list[int]:
        return self.queue(self.at(mount, "mount", "mnt_nvnodelist"), "vnode", "v_nmntvnodes")

    def inode_number(self, vnode: int) -> int:
        data = self.get(vnode, "vnode", "v_data")
        fstype = self.fstype(vnode)
        if fstype == b"ufs":
            assert self.get(data, "inode", "i_vnode") == vnode
            return self.get(data, "inode", "i_number")
        if fstype == b"tmpfs":
            assert self.get(data, "tmpfs_node", "tn_vnode") == vnode
            return self.get(data, "tmpfs_node", "tn_id")
        if fstype == b"devfs":
            return self.get(data, "devfs_dirent", "de_inode")
        if fstype == b"nullfs":
            return self.inode_number(self.get(data, "null_node", "null_lowervp"))
        return 0

    # Processes and files

    def processes(self) -> dict[int, int]:
        """`struct proc` by pid, live ones."""
        found = self.chain(self.symbols["allproc"], "proc", "p_list")
        return {self.get(proc, "proc", "p_pid"): proc for proc in found}

    def descriptors(self, filedesc: int) -> dict[int, int]:
        """Addresses of the used `struct filedescent` by number, which the bitmap must agree with."""
        table = self.get(filedesc, "filedesc", "fd_files")
        count = self.get(table, "fdescenttbl", "fdt_nfiles")
        size = self.types.sizeof("struct filedescent")
        start = self.at(table, "fdescenttbl", "fdt_ofiles")
        used = {}
        for number in range(count):
            if self.get(start + number * size, "filedescent", "fde_file"):
                used[number] = start + number * size
        assert self.bits(self.get(filedesc, "filedesc", "fd_map"), count) == set(used)
        return used

    def bits(self, va: int, count: int) -> set[int]:
        word = self.types.sizeof("unsigned long")
        return {
            number
            for number in range(count)
            if self.number(va + number // (8 * word) * word, word) >> number % (8 * word) & 1
        }

    def holder(self, proc: int) -> int:
        """The structure with the directories of a process: `struct pwd`, until 12 its descriptor table."""
        if self.has("proc", "p_pd"):
            return self.pointer(self.at(self.get(proc, "proc", "p_pd"), "pwddesc", "pd_pwd"))
        return self.get(proc, "proc", "p_fd")

    def places(self, proc: int) -> tuple[int, int, int]:
        """Current, root and jail root directory."""
        structure, prefix = ("pwd", "pwd") if self.has("proc", "p_pd") else ("filedesc", "fd")
        where = self.holder(proc)
        values = [self.get(where, structure, f"{prefix}_{name}") for name in ("cdir", "rdir", "jdir")]
        return values[0], values[1], values[2]
