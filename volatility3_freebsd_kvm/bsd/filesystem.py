"""What file systems keep for a vnode: number, mode, owner, size and links of a file; its vnode below; devfs's names.

# Reference: sys/ufs/ufs/inode.h, sys/fs/tmpfs/tmpfs.h, sys/fs/devfs/devfs_int.h, sys/fs/nullfs/null.h,
# sys/fs/nfsclient/nfsnode.h, sys/contrib/openzfs/include/sys/zfs_znode.h
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel
from .objects import Object
from .records import Absent, attempt

MAX_LAYERS = 16
"""More file systems than anybody stacks on each other."""
_DT_DIR = 4
_DEVFS_ROOT = 2
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Attributes:
    """What stat(2) would tell of a file.

    Attributes:
        inode: its number within the file system.
        mode: permissions and, where the file system keeps it there, the type, as in ``st_mode``.
        uid: owner.
        gid: group.
        size: bytes.
        links: names that it has on the file system; 0 is a file that was deleted while it is open.
        notes: what is odd.
    """

    inode: int | Absent = Absent.NOT_AVAILABLE
    mode: int | Absent = Absent.NOT_AVAILABLE
    uid: int | Absent = Absent.NOT_AVAILABLE
    gid: int | Absent = Absent.NOT_AVAILABLE
    size: int | Absent = Absent.NOT_AVAILABLE
    links: int | Absent = Absent.NOT_AVAILABLE
    notes: tuple[str, ...] = ()

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more."""
        return self.links == 0


_NOTHING = Absent.UNREADABLE
UNREADABLE = Attributes(_NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING)


@dataclass(frozen=True)
class _Node:
    """A file system's structure: its type and the paths of members in it, empty where it has none."""

    type_name: str
    vnode: str
    inode: str
    mode: str
    uid: str
    gid: str
    size: str
    links: str


_VATTR = "n_vattr.na_vattr.va_"
_NODES = {
    "ufs": _Node("inode", "i_vnode", "i_number", "i_mode", "i_uid", "i_gid", "i_size", "i_effnlink"),
    "tmpfs": _Node("tmpfs_node", "tn_vnode", "tn_id", "tn_mode", "tn_uid", "tn_gid", "tn_size", "tn_links"),
    "devfs": _Node("devfs_dirent", "de_vnode", "de_inode", "de_mode", "de_uid", "de_gid", "", "de_links"),
    "zfs": _Node("znode", "z_vnode", "z_id", "z_mode", "z_uid", "z_gid", "z_size", "z_links"),
    "nfs": _Node(
        "nfsnode", "n_vnode", _VATTR + "fileid", _VATTR + "mode", _VATTR + "uid", _VATTR + "gid", "n_size", ""
    ),
}
"""By the name of the file system. Vnodes lead to these structures, which lead back."""


def mount_of(vnode: Object) -> Object | None:
    """The mount that a vnode is on; None for vnodes that are on none.

    Raises:
        AddressError: the vnode cannot be read.
        SymbolError: the types do not know vnodes.
    """
    mount = vnode.v_mount
    return mount.as_("mount") if mount else None


def fstype_of(vnode: Object) -> str:
    """The name of the file system that a vnode is on; empty if it is on none.

    Raises:
        AddressError: it cannot be read.
        SymbolError: the types do not know mounts.
    """
    mount = mount_of(vnode)
    return fstype_of_mount(mount) if mount else ""


def fstype_of_mount(mount: Object) -> str:
    """The name of the file system that is mounted; raises as `fstype_of`."""
    return str(mount.mnt_vfc.as_("vfsconf").vfc_name)


def attributes_of(kernel: Kernel, vnode: Object) -> Attributes:
    """What the file system keeps of a file in memory; never raises: what cannot be had is `Absent`.

    A vnode of nullfs has those of the vnode below.
    """
    try:
        bottom = kernel.object("vnode", bottom_vnode(kernel, vnode.address_))
        if not bottom.address_:
            return Attributes(notes=("the vnode below it is not known",))
        layout = _NODES.get(fstype_of(bottom))
        return _read(kernel, bottom, layout) if layout else Attributes()
    except AddressError:
        return UNREADABLE
    except SymbolError:
        return Attributes()


def _read(kernel: Kernel, vnode: Object, layout: _Node) -> Attributes:
    if not kernel.has_type(layout.type_name):
        return Attributes()
    node = int(vnode.v_data.as_(layout.type_name).address_)

    def member(path: str) -> int | Absent:
        if not path:
            return Absent.NOT_APPLICABLE
        return attempt(lambda: kernel.structs.value(node, layout.type_name, path))

    back = member(layout.vnode)
    if isinstance(back, int) and back != vnode.address_:
        return Attributes(notes=(f"its {layout.type_name} at {node:#x} is of another vnode, {back:#x}",))
    return Attributes(
        inode=member(layout.inode),
        mode=member(layout.mode),
        uid=member(layout.uid),
        gid=member(layout.gid),
        size=member(layout.size),
        links=member(layout.links),
    )


# nullfs


def lower_vnode(kernel: Kernel, vnode: int) -> int:
    """The vnode that a nullfs vnode shows, 0 if it cannot be told.

    `struct null_node` is private to a module, whose types a kernel does not have: but in every release the vnode
    below is the word in front of the pointer back to the vnode itself, which tells it beyond doubt.

    Raises:
        AddressError: the vnode or its node cannot be read.
    """
    structs = kernel.structs
    node = int(kernel.object("vnode", vnode).v_data)
    if not node:
        return 0
    word = structs.word_size
    # Behind a LIST_ENTRY, which is two words; one or three should that change.
    for place in (3, 2, 4):
        if structs.pointer(node + place * word) == vnode:
            return structs.pointer(node + (place - 1) * word)
    return 0


def bottom_vnode(kernel: Kernel, vnode: int) -> int:
    """The vnode at the bottom of a stack of nullfs; the vnode itself if it is on another file system.

    Raises:
        AddressError: something cannot be read.
        SymbolError: the types do not know mounts.
    """
    for _ in range(MAX_LAYERS):
        if not vnode or fstype_of(kernel.object("vnode", vnode)) != "nullfs":
            return vnode
        vnode = lower_vnode(kernel, vnode)
    return 0


def bottom_root(kernel: Kernel, mount: Object) -> int:
    """The vnode at the bottom of what a nullfs mount shows as its root; 0 if it cannot be told.

    `struct null_mount` begins with the mount itself; the vnode behind is the lower root, until 12 the upper one.

    Raises:
        AddressError: something cannot be read.
        SymbolError: the types do not know mounts.
    """
    structs = kernel.structs
    data = int(mount.mnt_data)
    if not data or structs.pointer(data) != mount.address_:
        return 0
    return bottom_vnode(kernel, structs.pointer(data + structs.word_size))


# devfs


def devfs_name(kernel: Kernel, vnode: Object) -> str:
    """The path of a vnode below the root of its devfs: ``pts/0``; empty if it cannot be told.

    Raises:
        AddressError: something cannot be read.
        SymbolError: the types do not know devfs.
    """
    try:
        return _dirent_path(vnode.v_data.as_("devfs_dirent"))
    except (AddressError, SymbolError):
        # A device is called as its directories and its entry are.
        device = attempt(lambda: device_name(vnode))
        if isinstance(device, Absent) or not device:
            raise
        return device


def device_name(vnode: Object) -> str:
    """The name of the device of a character vnode; empty if it is none, or the device is gone.

    Raises:
        AddressError: the vnode or the device cannot be read.
        SymbolError: the types do not know devices.
    """
    # 10 and 11 have a union of that name.
    device = vnode.v_rdev if vnode.has_("v_rdev") else vnode.v_un.vu_cdev
    return str(device.as_("cdev").si_name) if device else ""


def _dirent_path(dirent: Object) -> str:
    """Names from the root of a devfs to an entry, whose directories tell theirs by their second entry, ``..``."""
    structs = dirent.structs_
    parts: list[str] = []
    for _ in range(_MAX_DEPTH):
        if int(dirent.de_inode) == _DEVFS_ROOT:
            return "/".join(reversed(parts))
        entry = dirent.de_dirent.as_("dirent")
        parts.append(str(entry.d_name))
        if int(entry.d_type) == _DT_DIR:
            dot = Object(structs, "devfs_dirent", structs.pointer(dirent.at_("de_dlist")))
            dirent = Object(structs, "devfs_dirent", structs.pointer(dot.at_("de_list")))
        dirent = dirent.de_dir.as_("devfs_dirent")
    raise AddressError(dirent.address_, "the directories of this devfs have no root")
