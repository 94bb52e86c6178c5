"""Mounts: `mountlist`, `struct mount` with its statfs, options and file system's own data, and `vfsconf`."""

from __future__ import annotations

from tests.writers.objects import Object, link_tailq

from .file_types import MOUNT_TYPES
from .model import Mount
from .paths import mount_root
from .shapes import (
    fill_vector,
    fnv_32,
    link_chain,
    lockmgr_init,
    mtx_init,
    now,
    private,
    set_members,
    set_variable,
    sx_init,
    text,
    vector,
)
from .world import World

FILE_SYSTEMS = {
    "ufs": ("ufs_vfsops", "ufs_vfsconf", "ffs", 0),
    "devfs": ("devfs_vfsops", "devfs_vfsconf", "devfs", 0x00480000),
    "tmpfs": ("tmpfs_vfsops", "tmpfs_vfsconf", "tmpfs", 0x00400000),
    "nfs": ("nfs_vfsops", "nfs_vfsconf", "nfs", 0x09020000),
    "nullfs": ("null_vfsops", "nullfs_vfsconf", "nullfs", 0x00500000),
    "fdescfs": ("fdesc_vfsops", "fdescfs_vfsconf", "fdesc", 0x00480000),
}
"""The variables of a file system, which VFS_SET(9) makes, how its functions begin, and its VFCF_ flags."""

TYPES = MOUNT_TYPES
VARIABLES = {
    "mountlist": "vnodelst",
    "rootdevmp": "mount *",
    "vfsconf": "vnodelst",
    "maxvfsconf": "int",
}
VARIABLES |= {names[0]: "vfsops" for names in FILE_SYSTEMS.values()}
VARIABLES |= {names[1]: "vfsconf" for names in FILE_SYSTEMS.values()}
FUNCTIONS = [
    f"{names[2]}_{operation}" for names in FILE_SYSTEMS.values() for operation in ("mount", "unmount", "root", "statfs")
]

# sys/mount.h
MNT = {
    "MNT_RDONLY": 0x1,
    "MNT_SYNCHRONOUS": 0x2,
    "MNT_NOEXEC": 0x4,
    "MNT_NOSUID": 0x8,
    "MNT_NFS4ACLS": 0x10,
    "MNT_UNION": 0x20,
    "MNT_ASYNC": 0x40,
    "MNT_EXPORTED": 0x100,
    "MNT_LOCAL": 0x1000,
    "MNT_QUOTA": 0x2000,
    "MNT_ROOTFS": 0x4000,
    "MNT_USER": 0x8000,
    "MNT_SUIDDIR": 0x100000,
    "MNT_SOFTDEP": 0x200000,
    "MNT_NOSYMFOLLOW": 0x400000,
    "MNT_IGNORE": 0x800000,
    "MNT_GJOURNAL": 0x2000000,
    "MNT_MULTILABEL": 0x4000000,
    "MNT_ACLS": 0x8000000,
    "MNT_NOATIME": 0x10000000,
}
"""Values of the flags by name."""
MNTK_EXTENDED_SHARED, MNTK_LOOKUP_SHARED = 0x40, 0x40000000
VFS_VERSION = 0x20180504
STATFS_VERSION = 0x20140518
UFS2, FS_UFS2_MAGIC = 2, 0x19540119


def create(world: World) -> None:
    """Make the kinds of file systems and the mounts."""
    for name in FILE_SYSTEMS:
        world.put("vfsconf", name, _file_system(world, name))
    kinds = world.all("vfsconf")
    link_tailq(world.symbol("vfsconf"), kinds.values(), "vfc_list")
    set_variable(world, "maxvfsconf", max(item.vfc_typenum for item in kinds.values()) + 1)
    for number, mount in enumerate(world.system.mounts):
        _mount(world, mount, number)
    link_tailq(world.symbol("mountlist"), world.all("mount").values(), "mnt_list")
    set_variable(world, "rootdevmp", world.find("mount", "dev"))


def _file_system(world: World, name: str) -> Object:
    """`struct vfsconf`; its number is a hash of its name (`vfs_register`, kern/vfs_init.c)."""
    operations_name, conf_name, prefix, flags = FILE_SYSTEMS[name]
    operations = vector(world, "vfsops", operations_name)
    members = ("mount", "unmount", "root", "statfs")
    fill_vector(world, operations, {f"vfs_{member}": f"{prefix}_{member}" for member in members})
    conf = vector(world, "vfsconf", conf_name)
    conf.vfc_version = VFS_VERSION
    conf.vfc_name = name.encode()
    conf.vfc_vfsops = operations
    conf.vfc_typenum = fnv_32(name.encode()) & 0xFF
    conf.vfc_flags = flags
    conf.vfc_refcount = sum(mount.fstype == name for mount in world.system.mounts)
    return conf


def _mount(world: World, mount: Mount, number: int) -> None:
    conf = world.get("vfsconf", mount.fstype)
    obj = world.put("mount", mount.key, world.new("struct mount"))
    mtx_init(world, obj.mnt_mtx, "struct mount mtx")
    mtx_init(world, obj.mnt_listmtx, "struct mount vlist mtx")
    lockmgr_init(world, obj.mnt_explock, "explock")
    obj.mnt_gen = 1
    obj.mnt_ref = 1 + sum(vnode.mount == mount.key for vnode in world.system.vnodes)
    obj.mnt_op, obj.mnt_vfc = conf.vfc_vfsops, conf
    obj.mnt_flag = flags = sum(MNT[name] for name in mount.flags)
    obj.mnt_kern_flag = MNTK_EXTENDED_SHARED | MNTK_LOOKUP_SHARED
    obj.mnt_time = now(world, 100)
    obj.mnt_iosize_max = 0x20000
    obj.mnt_hashseed = fnv_32(bytes([number])) & 0x7FFFFFFF
    link_tailq(obj.mnt_uppers, (), "")
    if world.has("mount", "mnt_notify"):
        link_tailq(obj.mnt_notify, (), "")
    _statfs(obj.mnt_stat, mount, conf.vfc_typenum, flags)
    _options(world, obj, mount)


def _statfs(stat: Object, mount: Mount, kind: int, flags: int) -> None:
    """`struct statfs` as the file system last filled it."""
    stat.f_version = STATFS_VERSION
    stat.f_type, stat.f_flags = kind, flags
    stat.f_bsize, stat.f_iosize = 4096, 32768
    stat.f_blocks, stat.f_bfree, stat.f_bavail = 1_000_000, 400_000, 320_000
    stat.f_files, stat.f_ffree = 500_000, 450_000
    stat.f_syncwrites, stat.f_asyncwrites, stat.f_syncreads, stat.f_asyncreads = 11, 22, 33, 44
    stat.f_namemax = 255
    stat.f_owner = mount.owner
    stat.f_fsid = {"val": list(mount.fsid)}
    stat.f_fstypename, stat.f_mntfromname = mount.fstype.encode(), mount.source.encode()
    stat.f_mntonname = mount.on.encode()


def _options(world: World, obj: Object, mount: Mount) -> None:
    """The options of mount(8): `struct vfsopt`."""
    given = {"fstype": mount.fstype, "fspath": mount.on, "from": mount.source}
    given |= {name.removeprefix("MNT_").lower(): "" for name in mount.flags if name in ("MNT_NOSUID", "MNT_NOEXEC")}
    options = []
    for position, (name, value) in enumerate(given.items()):
        option = world.new("struct vfsopt", name=text(world, name), pos=position, seen=1)
        if value:
            option.value, option.len = text(world, value), len(value) + 1
        options.append(option)
    head = world.new("struct vfsoptlist")
    link_tailq(head, options, "link")
    obj.mnt_opt = head


def connect(world: World) -> None:
    """Lead mounts to their vnodes, credentials and file system's data."""
    for mount in world.system.mounts:
        obj = world.get("mount", mount.key)
        obj.mnt_cred = world.find("ucred", "alice" if mount.owner else "root")
        obj.mnt_vnodecovered = world.find("vnode", mount.covers)
        root = world.get("vnode", mount_root(world.system, mount.key).key)
        set_members(world, obj, mnt_rootvnode=root)
        vnodes = [world.get("vnode", vnode.key) for vnode in world.system.vnodes if vnode.mount == mount.key]
        link_tailq(obj.mnt_nvnodelist, vnodes, "v_nmntvnodes")
        obj.mnt_nvnodelistsize = len(vnodes)
        data = {"ufs": _ufs, "tmpfs": _tmpfs, "devfs": _devfs, "nullfs": _nullfs}.get(mount.fstype, _other)
        obj.mnt_data = world.put("mnt_data", mount.key, data(world, obj, mount))


def _other(world: World, obj: Object, mount: Mount) -> Object:
    """`struct nfsmount` and others that are in no set of headers."""
    return private(world, "unknown")


def _ufs(world: World, obj: Object, mount: Mount) -> Object:
    """`struct ufsmount`, and the superblock where its type is known."""
    device = mount.source.removeprefix("/dev/")
    data = world.new("struct ufsmount", um_mountp=obj, um_dev=world.find("cdev", device), um_fstype=UFS2)
    data.um_devvp = next(world.get("vnode", vnode.key) for vnode in world.system.vnodes if vnode.device == device)
    mtx_init(world, data.um_lock, "FFS Lock")
    if world.has_type("fs"):
        block = world.new("struct fs", fs_magic=FS_UFS2_MAGIC, fs_bsize=32768, fs_fsize=4096, fs_time=now(world, 30))
        block.fs_fsmnt, block.fs_volname = mount.on.encode(), b"rootfs"
        data.um_fs = block
    return data


def _tmpfs(world: World, obj: Object, mount: Mount) -> Object:
    """`struct tmpfs_mount` with the list of its nodes (fs/tmpfs/tmpfs.h)."""
    data = world.new("struct tmpfs_mount")
    nodes = [world.get("tmpfs_node", vnode.key) for vnode in world.system.vnodes if vnode.mount == mount.key]
    link_chain(data.tm_nodes_used, nodes, "tn_entries")
    data.tm_root = world.get("tmpfs_node", mount_root(world.system, mount.key).key)
    data.tm_nodes_max, data.tm_nodes_inuse = 10_000, len(nodes)
    data.tm_pages_used, data.tm_refcount = 2, 1
    mtx_init(world, data.tm_allnode_lock, "tmpfs allnode lock")
    return data


def _devfs(world: World, obj: Object, mount: Mount) -> Object:
    """`struct devfs_mount`, which `build_filesystems` made with its tree."""
    data = world.get("devfs_mount", mount.key)
    data.dm_mount = obj
    sx_init(world, data.dm_lock, "devfsmount")
    return data


def _nullfs(world: World, obj: Object, mount: Mount) -> Object:
    """`struct null_mount`; the mount below knows of it, too (`mnt_uppers`)."""
    root = mount_root(world.system, mount.key)
    lower = next(vnode for vnode in world.system.vnodes if vnode.key == root.lower)
    below = world.get("mount", lower.mount)
    data = world.new("struct null_mount", nullm_vfs=obj, nullm_flags=1)
    set_members(world, data, nullm_lowerrootvp=world.get("vnode", lower.key), nullm_rootvp=world.get("vnode", root.key))
    if not world.has("null_mount", "upper_node"):
        link_tailq(below.mnt_uppers, [obj], "mnt_upper_link")
        return data
    data.upper_node.mp = data.notify_node.mp = obj
    link_tailq(below.mnt_uppers, [data.upper_node], "mnt_upper_link")
    link_tailq(below.mnt_notify, [data.notify_node], "mnt_upper_link")
    return data
