"""What file systems keep for a vnode: UFS inodes, tmpfs nodes, the directory trees of devfs, nullfs nodes, fifos."""

from __future__ import annotations

import struct

from tests.writers.objects import Object, addressof, link_tailq

from .file_types import FILE_SYSTEM_TYPES
from .model import Mount, Vnode
from .paths import full_path, parent_of
from .shapes import (
    FNV_32_INIT,
    fill_hash,
    fnv_32,
    hash_table,
    link_red_black,
    mtx_init,
    private,
    set_members,
    timespec,
    words,
)
from .trees import link_tree
from .world import World

NAME_CACHED = ("ufs", "tmpfs", "nfs")
"""File systems that enter names into the name cache; devfs and nullfs find names in their own way."""

TYPES = FILE_SYSTEM_TYPES
VARIABLES = {"null_node_hashtbl": "nchashhead *", "null_hash_mask": "unsigned long"}
FUNCTIONS: list[str] = []

VNODE_TYPES = ("VNON", "VREG", "VDIR", "VBLK", "VCHR", "VLNK", "VSOCK", "VFIFO", "VBAD", "VMARKER")
"""`enum vtype`, the same in all releases."""

# sys/stat.h
FORMAT = {"VREG": 0o100000, "VDIR": 0o040000, "VCHR": 0o020000, "VFIFO": 0o010000, "VLNK": 0o120000, "VSOCK": 0o140000}
DT_CHR, DT_DIR = 2, 4
DIRENT_NAME = 24
"""Offset of `d_name` in `struct dirent` since 12.0 (sys/dirent.h, which the layouts lack)."""
DE_WHITEOUT, DE_DOT, DE_DOTDOT = 0x1, 0x2, 0x4
DEVFS_ROOTINO = 2
FIRST_DIRECTORY = 1000
"""Inodes of directories on devfs, beyond those of devices."""
NULL_HASH = 64


def create(world: World) -> None:
    """Make every file system's own data."""
    kinds = {mount.key: mount.fstype for mount in world.system.mounts}
    makers = {"ufs": _inode, "tmpfs": _tmpfs_node, "nullfs": _null_node, "nfs": _nfs_node}
    for vnode in world.system.vnodes:
        maker = makers.get(kinds.get(vnode.mount, ""))
        if maker:
            world.put("v_data", vnode.key, maker(world, vnode))
    for index, mount in enumerate(mount for mount in world.system.mounts if mount.fstype == "devfs"):
        _Devfs(world, mount, index).build()
    for vnode in world.system.vnodes:
        if vnode.kind == "VFIFO":
            # fs/fifofs/fifo_vnops.c: the pipe, two counts of long and two generations of int.
            world.put("fifoinfo", vnode.key, words(world, 0, 1, 0, extra=8))


def links_of(world: World, vnode: Vnode) -> int:
    """`st_nlink`: the names of a file; a directory's is 2 and one for each directory in it."""
    if vnode.deleted:
        return 0
    if vnode.kind != "VDIR":
        return 1 + len(vnode.names)
    base = vnode.path.rstrip("/")
    inside = [item for item in world.system.vnodes if item.kind == "VDIR" and item.mount == vnode.mount]
    return 2 + sum(item.path.rpartition("/")[0] == base for item in inside if item.path not in ("", "/"))


def _inode(world: World, vnode: Vnode) -> Object:
    """`struct inode` (ufs/ufs/inode.h) with the inode on disk behind it."""
    inode = world.put("inode", vnode.key, world.new("struct inode"))
    links = links_of(world, vnode)
    inode.i_number, inode.i_size, inode.i_gen = vnode.inode, vnode.size, 0x1000 + vnode.inode
    inode.i_uid, inode.i_gid, inode.i_mode = vnode.uid, vnode.gid, FORMAT[vnode.kind] | vnode.mode
    inode.i_nlink = inode.i_effnlink = links
    disk = _dinode(world, vnode, links)
    if world.has("inode", "i_dp"):
        inode.i_dp.dp2 = disk
    else:
        inode.dinode_u.din2 = disk
    return inode


def _dinode(world: World, vnode: Vnode, links: int) -> Object:
    """`struct ufs2_dinode`, a format on disk and so the same in every kernel (ufs/ufs/dinode.h)."""
    disk = world.new("struct ufs2_dinode")
    disk.di_mode, disk.di_nlink = FORMAT[vnode.kind] | vnode.mode, links
    disk.di_uid, disk.di_gid, disk.di_gen = vnode.uid, vnode.gid, 0x1000 + vnode.inode
    disk.di_blksize, disk.di_size, disk.di_blocks = 32768, vnode.size, -(-vnode.size // 512)
    disk.di_atime, disk.di_mtime, disk.di_ctime, disk.di_birthtime = vnode.times
    return disk


def _tmpfs_node(world: World, vnode: Vnode) -> Object:
    """`struct tmpfs_node` (fs/tmpfs/tmpfs.h)."""
    node = world.put("tmpfs_node", vnode.key, world.new("struct tmpfs_node"))
    node.tn_type = VNODE_TYPES.index(vnode.kind)
    node.tn_id, node.tn_size, node.tn_gen = vnode.inode, vnode.size, 0x2000 + vnode.inode
    node.tn_uid, node.tn_gid, node.tn_mode = vnode.uid, vnode.gid, vnode.mode
    node.tn_links = links_of(world, vnode)
    set_members(world, node, tn_attached=not vnode.deleted, tn_refcount=1)
    for member, seconds in zip(("tn_atime", "tn_mtime", "tn_ctime", "tn_birthtime"), vnode.times, strict=True):
        node[member] = timespec(seconds)
    mtx_init(world, node.tn_interlock, "tmpfsni")
    return node


def _null_node(world: World, vnode: Vnode) -> Object:
    """`struct null_node` (fs/nullfs/null.h)."""
    return world.put("null_node", vnode.key, world.new("struct null_node"))


def _nfs_node(world: World, vnode: Vnode) -> Object:
    """`struct nfsnode`, which neither layouts nor headers have."""
    return private(world, "nfsnode")


class _Devfs:
    """The tree of `struct devfs_dirent` of one devfs mount (fs/devfs/devfs_devs.c)."""

    def __init__(self, world: World, mount: Mount, index: int) -> None:
        self.world = world
        self.mount = mount
        self.index = index
        self.content: dict[int, list[Object]] = {}
        self.next_inode = FIRST_DIRECTORY

    def build(self) -> None:
        """The mount's own structure, and an entry for every device."""
        root = self.directory("(root)", None, DEVFS_ROOTINO)
        self.enter(self.mount.on, root)
        mounted = self.world.new("struct devfs_mount", dm_idx=self.index, dm_rootdir=root, dm_holdcnt=1)
        mounted.dm_generation = len(self.world.system.devices)
        hidden = [device for device in self.world.system.devices if self.mount.key in device.hidden]
        mounted.dm_ruleset = 4 if hidden else 0
        self.world.put("devfs_mount", self.mount.key, mounted)
        places = {"": root}
        for device in self.world.system.devices:
            place, _, name = device.name.rpartition("/")
            if place not in places:
                self.next_inode += 1
                places[place] = self.directory(place, root, self.next_inode)
                self.enter(f"{self.mount.on}/{place}", places[place])
            entry = self.entry(name, DT_CHR, device.inode)
            entry.de_mode, entry.de_uid, entry.de_gid, entry.de_links = device.mode, device.uid, device.gid, 1
            entry.de_flags = DE_WHITEOUT if device in hidden else 0
            entry.de_dir = places[place]
            self.content[int(places[place])].append(entry)
            self.enter(f"{self.mount.on}/{device.name}", entry)
            self.of_device(device.name, entry)
        for address, entries in self.content.items():
            link_tailq(self.world.memory.cast("struct devfs_dirent", address).de_dlist, entries, "de_list")

    def enter(self, path: str, entry: Object) -> None:
        """Make the entry known by its whole path."""
        self.world.put("devfs_dirent", path, entry)

    def entry(self, name: str, kind: int, inode: int) -> Object:
        """`devfs_newdirent`: one allocation with the `struct dirent` behind it."""
        size = -(-(DIRENT_NAME + len(name) + 1) // 8) * 8
        entry = self.world.new("struct devfs_dirent", extra=size, de_inode=inode, de_holdcnt=1)
        place = addressof(entry) + self.world.memory.types.sizeof("struct devfs_dirent")
        order = ">" if self.world.memory.types.byteorder == "big" else "<"
        header = struct.pack(order + "QqHBxHxx", inode, 0, size, kind, len(name))
        self.world.memory.write(place, header + name.encode())
        entry.de_dirent = place
        for member in ("de_atime", "de_mtime", "de_ctime"):
            entry[member] = timespec(self.world.system.boot_time[0])
        return entry

    def directory(self, name: str, above: Object | None, inode: int) -> Object:
        """`devfs_vmkdir`: the directory with its first two entries."""
        directory = self.entry(name, DT_DIR, inode)
        directory.de_mode, directory.de_links, directory.de_dir = 0o555, 2, directory
        dot, dotdot = self.entry(".", DT_DIR, 0), self.entry("..", DT_DIR, 0)
        dot.de_flags, dot.de_dir = DE_DOT, directory
        dotdot.de_flags, dotdot.de_dir = DE_DOTDOT, above or directory
        self.content[int(directory)] = [dot, dotdot]
        if above is not None:
            above.de_links = above.de_links + 1
            self.content[int(above)].append(directory)
        return directory

    def of_device(self, name: str, entry: Object) -> None:
        """Let the device know its entry in this mount: `cdp_dirents`, by the mount's index."""
        priv = self.world.get("cdev_priv", name)
        entry.de_cdp = priv
        if self.index == 0:
            priv.cdp_dirent0 = entry
            priv.cdp_dirents = addressof(priv, "cdp_dirent0")
        else:
            size = self.world.memory.types.pointer_size
            before = [self.world.memory.read_pointer(priv.cdp_dirents + size * at) for at in range(self.index)]
            priv.cdp_dirents = words(self.world, *before, entry)
            priv.cdp_maxdirent = self.index
        priv.cdp_inuse = self.index + 1


def connect(world: World) -> None:
    """Lead vnodes to their file system's data, and that to vnodes, mounts and VM objects."""
    kinds = {mount.key: mount.fstype for mount in world.system.mounts}
    connectors = {
        "ufs": _connect_inode,
        "tmpfs": _connect_tmpfs,
        "nullfs": _connect_null,
        "devfs": _connect_devfs,
    }
    for vnode in world.system.vnodes:
        obj = world.get("vnode", vnode.key)
        obj.v_data = world.find("v_data", vnode.key)
        connector = connectors.get(kinds.get(vnode.mount, ""))
        if connector:
            connector(world, vnode, obj)
        if vnode.kind == "VFIFO":
            world.get("fifoinfo", vnode.key)[0] = world.find("pipe", f"{vnode.key}:0")
    _hash_null(world)


def _connect_inode(world: World, vnode: Vnode, obj: Object) -> None:
    inode = world.get("inode", vnode.key)
    inode.i_vnode = obj
    inode.i_ump = world.get("mnt_data", vnode.mount)


def _connect_tmpfs(world: World, vnode: Vnode, obj: Object) -> None:
    node = world.get("tmpfs_node", vnode.key)
    node.tn_vnode = obj
    if vnode.kind == "VREG":
        node.tn_spec.tn_reg.tn_aobj = next(
            (world.find("vm_object", item.key) for item in world.system.objects if item.vnode == vnode.key), 0
        )
    if vnode.kind == "VDIR":
        _tmpfs_directory(world, vnode, node)


def _tmpfs_directory(world: World, vnode: Vnode, node: Object) -> None:
    """The entries of a directory: a tree of `struct tmpfs_dirent` by a hash of the name (fs/tmpfs/tmpfs_subr.c)."""
    base = full_path(world.system, vnode)
    above = parent_of(world.system, vnode.path) if vnode.path else None
    node.tn_spec.tn_dir.tn_parent = world.get("tmpfs_node", above.key) if above else node
    entries = []
    for item in world.system.vnodes:
        place, _, name = item.path.rpartition("/")
        if item.mount == vnode.mount and item.path and place == base and not item.deleted:
            entry = world.new("struct tmpfs_dirent", td_node=world.get("tmpfs_node", item.key), td_namelen=len(name))
            # The name has no NUL.
            entry.ud.td_name = world.memory.array("char", name.encode())
            entry.td_cookie = entry.td_hash = _tmpfs_hash(name.encode())
            entries.append(entry)
    head = node.tn_spec.tn_dir.tn_dirhead
    # The links come first in an entry, so that a tree of the links is one of the entries.
    links = [entry.uh for entry in sorted(entries, key=lambda entry: int(entry.td_cookie))]
    if links and world.has(links[0].td_entries._type["name"], "rbe_link"):
        link_tree(head, links, "td_entries", lambda uh: world.memory.cast("struct tmpfs_dirent", int(uh)).td_cookie)
    else:
        link_red_black(head, links, "td_entries")


def _tmpfs_hash(name: bytes) -> int:
    """`tmpfs_dirent_hash`: below are the offsets of ``.`` and ``..``, above those of names with the same hash."""
    value = fnv_32(name, FNV_32_INIT + len(name)) & 0x3FFFFFFF
    return value + 4 if value < 4 else value


def _connect_null(world: World, vnode: Vnode, obj: Object) -> None:
    node = world.get("null_node", vnode.key)
    node.null_lowervp, node.null_vnode = world.get("vnode", vnode.lower), obj


def _connect_devfs(world: World, vnode: Vnode, obj: Object) -> None:
    mount = next(mount for mount in world.system.mounts if mount.key == vnode.mount)
    entry = world.get("devfs_dirent", vnode.path or mount.on)
    entry.de_vnode = obj
    obj.v_data = entry
    set_members(world, entry, de_usecount=obj.v_usecount)


def _hash_null(world: World) -> None:
    """The hash of nullfs nodes by the vnode below: ``vfs_hash_index``, the low bits of its hash and its mount's seed
    (fs/nullfs/null_subr.c)."""
    table = hash_table(world, "null_node_hashtbl", "null_hash_mask", NULL_HASH)
    nodes = world.all("null_node").values()
    fill_hash(table, nodes, "null_hash", lambda node: _lower_index(world, node))


def _lower_index(world: World, node: Object) -> int:
    lower = world.memory.cast("struct vnode", node.null_lowervp)
    seed = world.memory.cast("struct mount", lower.v_mount).mnt_hashseed
    return int(lower.v_hash + seed) & 0xFFFFFFFF
