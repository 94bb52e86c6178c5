"""Vnodes: identity, locks, lists and counts of `struct vnode`, and its vector of operations."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.writers.objects import Object, addressof, link_tailq

from .build_filesystems import NAME_CACHED, VNODE_TYPES
from .model import Vnode
from .paths import open_files, parent_of, use_counts
from .shapes import (
    fill_hash,
    fill_vector,
    fnv_32,
    hash_table,
    lockmgr_init,
    mtx_init,
    rw_init,
    set_members,
    set_variable,
    text,
    vector,
)
from .world import World

VECTORS = {
    "ufs": ("ffs_vnodeops2", "ffs_fifoops2"),
    "tmpfs": ("tmpfs_vnodeop_entries", "tmpfs_fifoop_entries"),
    "devfs": ("devfs_vnodeops", "devfs_specops"),
    "nfs": ("newnfs_vnodeops", "newnfs_fifoops"),
    "nullfs": ("null_vnodeops", "null_vnodeops"),
    "": ("dead_vnodeops", "dead_vnodeops"),
}
"""`struct vop_vector` of a file system, and that of its fifos (devfs: its devices)."""
TAGS = {"ufs": "ufs", "tmpfs": "tmpfs", "devfs": "devfs", "nfs": "nfs", "nullfs": "null", "": "none"}
"""`v_tag`, and the name of the vnode's lock."""
FILE_OPERATIONS = {
    "ffs_vnodeops2": ("ffs_read", "ffs_write", "vfs_cache_lookup", "ufs_getattr"),
    "ffs_fifoops2": ("fifo_read", "fifo_write", "vop_panic", "ufs_getattr"),
    "tmpfs_vnodeop_entries": ("tmpfs_read", "tmpfs_write", "vfs_cache_lookup", "tmpfs_getattr"),
    "tmpfs_fifoop_entries": ("fifo_read", "fifo_write", "vop_panic", "tmpfs_getattr"),
    "devfs_vnodeops": ("vop_eopnotsupp", "vop_eopnotsupp", "devfs_lookup", "devfs_getattr"),
    "devfs_specops": ("dead_read", "dead_write", "vop_panic", "devfs_getattr"),
    "newnfs_vnodeops": ("nfs_read", "nfs_write", "nfs_lookup", "nfs_getattr"),
    "newnfs_fifoops": ("nfsfifo_read", "nfsfifo_write", "vop_panic", "nfs_getattr"),
    "null_vnodeops": ("null_bypass", "null_bypass", "null_lookup", "null_getattr"),
    "dead_vnodeops": ("dead_read", "dead_write", "dead_lookup", "vop_ebadf"),
    "default_vnodeops": ("vop_eopnotsupp", "vop_eopnotsupp", "vop_enotdir", "vop_eopnotsupp"),
}
"""What the vectors do to read, write, look up and get attributes."""

VARIABLES = {
    "rootvnode": "vnode *",
    "numvnodes": "unsigned long",
    "freevnodes": "unsigned long",
    "desiredvnodes": "int",
    "vnode_free_list": "vnodelst",
    "vfs_hash_tbl": "nchashhead *",
    "vfs_hash_mask": "unsigned long",
} | dict.fromkeys(FILE_OPERATIONS, "vop_vector")
FUNCTIONS = sorted({function for functions in FILE_OPERATIONS.values() for function in functions})

VV_ROOT, VV_TEXT = 0x1, 0x20
VIRF_DOOMED, VIRF_MOUNTPOINT = 0x1, 0x4
VI_DOOMED, VI_FREE, VI_ACTIVE = 0x80, 0x100, 0x200
"""`v_iflag` of 12; 13.0 has neither."""
VSTATE_CONSTRUCTED, VSTATE_DEAD = 1, 3
HASH_SIZE = 256


def create(world: World) -> None:
    """Make the vnodes and the vectors of operations."""
    for name, functions in FILE_OPERATIONS.items():
        table = world.put("vop_vector", name, vector(world, "vop_vector", name))
        members = ("vop_read", "vop_write", "vop_lookup", "vop_getattr")
        fill_vector(world, table, dict(zip(members, functions, strict=True)))
        if name != "default_vnodeops" and not table.vop_default:
            table.vop_default = vector(world, "vop_vector", "default_vnodeops")
    for vnode in world.system.vnodes:
        _vnode(world, vnode)
    set_variable(world, "rootvnode", world.get("vnode", "rootvnode"))
    set_variable(world, "numvnodes", len(world.system.vnodes))
    set_variable(world, "desiredvnodes", 100_000)


def fstype_of(world: World, vnode: Vnode) -> str:
    """The kind of file system a vnode is on; empty for reclaimed vnodes."""
    return next((mount.fstype for mount in world.system.mounts if mount.key == vnode.mount), "")


def _vnode(world: World, vnode: Vnode) -> None:
    """`getnewvnode` and what the file system does to it then (kern/vfs_subr.c)."""
    fstype = fstype_of(world, vnode)
    special = vnode.kind == "VFIFO" or vnode.kind == "VCHR"
    obj = world.put("vnode", vnode.key, world.new("struct vnode"))
    obj.v_type = VNODE_TYPES.index(vnode.kind)
    obj.v_op = world.get("vop_vector", VECTORS[fstype][special])
    obj.v_vflag = VV_ROOT if not vnode.path or vnode.path == "/" else 0
    if vnode.doomed:
        obj.v_vflag = 0
    set_members(world, obj, v_tag=text(world, TAGS[fstype]), v_state=VSTATE_CONSTRUCTED)
    lockmgr_init(world, obj.v_lock, TAGS[fstype])
    obj.v_vnlock = addressof(obj, "v_lock")
    mtx_init(world, obj.v_interlock, "vnode interlock")
    bufobj = obj.v_bufobj
    rw_init(world, bufobj.bo_lock, "bufobj interlock")
    bufobj.bo_private = obj
    bufobj.bo_bsize = 32768
    for member in ("bo_clean", "bo_dirty"):
        link_tailq(bufobj[member].bv_hd, (), "")
    link_tailq(obj.v_cache_dst, (), "")
    # kern/vfs_cache.c, 13.0: the part of the hash that the directory contributes.
    set_members(world, obj, v_nchash=fnv_32(pointer_bytes(world, obj)))


def pointer_bytes(world: World, obj: Object) -> bytes:
    """The bytes of a pointer to an object, as memory holds them."""
    return int(obj).to_bytes(
        world.memory.types.pointer_size, "big" if world.memory.types.byteorder == "big" else "little"
    )


def connect(world: World) -> None:
    """Fill in what vnodes refer to, and how often they are referred to."""
    uses = use_counts(world.system, own=world.has("proc", "p_pd"))
    for vnode in world.system.vnodes:
        obj = world.get("vnode", vnode.key)
        obj.v_mount = world.find("mount", vnode.mount)
        _type_specific(world, vnode, obj)
        obj.v_bufobj.bo_object = next(
            (world.find("vm_object", item.key) for item in world.system.objects if item.vnode == vnode.key), 0
        )
        obj.v_usecount = uses[vnode.key]
        obj.v_holdcnt = uses[vnode.key] + (vnode.key in _holders(world))
        _writers(world, vnode, obj)
        if vnode.lower:
            obj.v_vnlock = addressof(world.get("vnode", vnode.lower), "v_lock")
        if vnode.doomed:
            set_members(world, obj, v_irflag=VIRF_DOOMED, v_state=VSTATE_DEAD)
    if world.has("vnode", "v_vnodelist"):
        _global_list(world)
    else:
        _active_lists(world)
    _hash(world)


def _type_specific(world: World, vnode: Vnode, obj: Object) -> None:
    """The union of `v_mountedhere`, `v_rdev`, `v_fifoinfo`, and `v_unpcb`, which sockets bound to a path fill in."""
    covering = next((mount.key for mount in world.system.mounts if mount.covers == vnode.key), "")
    if covering:
        obj.v_mountedhere = world.get("mount", covering)
        set_members(world, obj, v_irflag=VIRF_MOUNTPOINT)
    if vnode.kind == "VCHR":
        cdev = world.get("cdev", vnode.device)
        obj.v_rdev = cdev
        cdev.si_usecount = cdev.si_usecount + use_counts(world.system, own=True)[vnode.key]
        cdev.si_refcount = cdev.si_refcount + 1
    if vnode.kind == "VFIFO":
        obj.v_fifoinfo = world.find("fifoinfo", vnode.key)


def _holders(world: World) -> set[str]:
    """Directories that the name cache holds because it knows names in them."""
    found = {directory for directory, _ in world.system.negative_names}
    for vnode in world.system.vnodes:
        if fstype_of(world, vnode) in NAME_CACHED and vnode.cached and not vnode.deleted:
            for path in (vnode.path, *vnode.names):
                parent = parent_of(world.system, path) if path not in ("", "/") else None
                found |= {parent.key} if parent else set()
    return found


def _writers(world: World, vnode: Vnode, obj: Object) -> None:
    """`v_writecount`: files open for writing, or (13.0) less than zero: processes that execute it."""
    files = _open(world, vnode.key)
    writers = sum("w" in flags for flags in files)
    executed = sum(process.text == vnode.key and process.state == "normal" for process in world.system.processes)
    if world.has("vop_vector", "vop_is_text"):
        obj.v_writecount = writers
        obj.v_vflag = obj.v_vflag | (VV_TEXT if executed else 0)
    else:
        obj.v_writecount = -executed if executed else writers


def _open(world: World, key: str) -> Iterator[str]:
    """The modes in which files refer to a vnode."""
    for descriptors in open_files(world.system).values():
        if descriptors[0][1].kind == "vnode" and descriptors[0][1].key == key:
            yield descriptors[0][1].flags


def _global_list(world: World) -> None:
    """13.0: `vnode_list` with two markers in it; a vnode that nobody holds is on it all the same."""
    markers = []
    for name in ("vnode_list_reclaim_marker", "vnode_list_free_marker"):
        marker = world.new("struct vnode", v_type=VNODE_TYPES.index("VMARKER"))
        set_variable(world, name, marker)
        markers.append(marker)
    vnodes = world.all("vnode")
    if world.has_symbol("vnode_list"):
        link_tailq(world.symbol("vnode_list"), [*markers, *vnodes.values()], "v_vnodelist")
    set_variable(world, "freevnodes", sum(not obj.v_holdcnt for obj in vnodes.values()))
    for mount in world.all("mount").values():
        link_tailq(mount.mnt_lazyvnodelist, (), "")


def _active_lists(world: World) -> None:
    """12: held vnodes on their mount's active list, the others on `vnode_free_list`."""
    free = []
    active: dict[str, list[Object]] = {mount.key: [] for mount in world.system.mounts}
    for vnode in world.system.vnodes:
        obj = world.get("vnode", vnode.key)
        obj.v_iflag = VI_DOOMED if vnode.doomed else 0
        if obj.v_holdcnt and vnode.mount:
            active[vnode.mount].append(obj)
            obj.v_iflag = obj.v_iflag | VI_ACTIVE
        elif not obj.v_holdcnt:
            free.append(obj)
            obj.v_iflag = obj.v_iflag | VI_FREE
    for key, vnodes in active.items():
        mount = world.get("mount", key)
        link_tailq(mount.mnt_activevnodelist, vnodes, "v_actfreelist")
        mount.mnt_activevnodelistsize = len(vnodes)
        link_tailq(mount.mnt_tmpfreevnodelist, (), "")
    link_tailq(world.symbol("vnode_free_list"), free, "v_actfreelist")
    set_variable(world, "freevnodes", len(free))


def _hash(world: World) -> None:
    """The hash by mount and inode of the file systems that use it (kern/vfs_hash.c): UFS and NFS."""
    table = hash_table(world, "vfs_hash_tbl", "vfs_hash_mask", HASH_SIZE)
    hashed = []
    for vnode in world.system.vnodes:
        fstype = fstype_of(world, vnode)
        obj = world.get("vnode", vnode.key)
        if fstype == "ufs":
            obj.v_hash = vnode.inode
        elif fstype == "nfs":
            # Over the file handle there, of which only the file's number is known here.
            obj.v_hash = fnv_32(struct.pack("<Q", vnode.inode))
        else:
            continue
        hashed.append(obj)
    fill_hash(table, hashed, "v_hashlist", lambda obj: _bucket(world, obj))


def _bucket(world: World, obj: Object) -> int:
    mount = world.memory.cast("struct mount", obj.v_mount)
    return int(obj.v_hash + mount.mnt_hashseed) & 0xFFFFFFFF
