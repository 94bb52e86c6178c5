"""Vnodes: what kind of file they are, where, and what their file system knows of them.

# Reference: sys/sys/vnode.h (struct vnode, enum vtype), sys/kern/vfs_subr.c
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from . import filesystem
from .filesystem import Attributes
from .kernel import Kernel
from .objects import Object
from .path import NO_NAME, Paths, VnodePath, is_doomed
from .records import Absent, attempt

TYPES = ("VNON", "VREG", "VDIR", "VBLK", "VCHR", "VLNK", "VSOCK", "VFIFO", "VBAD", "VMARKER")
"""`enum vtype`, the same in all releases."""
_FORMATS = {
    "VREG": stat.S_IFREG,
    "VDIR": stat.S_IFDIR,
    "VBLK": stat.S_IFBLK,
    "VCHR": stat.S_IFCHR,
    "VLNK": stat.S_IFLNK,
    "VSOCK": stat.S_IFSOCK,
    "VFIFO": stat.S_IFIFO,
}
_PERMISSIONS = 0o7777
MAX_OTHER_NAMES = 8
DELETED = "deleted"
NEEDED = ("vnode.v_type", "vnode.v_mount", "vnode.v_vflag", "mount.mnt_stat")
"""Members without which there is nothing to be said of a vnode."""


@dataclass(frozen=True)
class Vnode:
    """A vnode.

    Attributes:
        address: of the `struct vnode`.
        type: ``VREG``, ``VDIR``, …
        fstype: name of the file system; empty for a vnode that is on none.
        path: from the root of the whole system.
        other_names: further paths of the same file that the name cache knows.
        attributes: what the file system keeps.
        device: name of the device of a character vnode, below the root of its devfs.
        uses: ``v_usecount``.
        writers: ``v_writecount``; below 0 since 13.0: so many mappings execute it.
        doomed: the file system it was on is gone, or access was revoked.
        notes: what is odd, what is not known.
    """

    address: int
    type: str | Absent
    fstype: str | Absent
    path: VnodePath
    other_names: tuple[VnodePath, ...]
    attributes: Attributes
    device: str | Absent
    uses: int | Absent
    writers: int | Absent
    doomed: bool | Absent
    notes: tuple[str, ...] = ()

    @property
    def mode(self) -> str | Absent:
        """Type and permissions as ls(1) shows them."""
        mode = self.attributes.mode
        if isinstance(mode, Absent):
            return mode
        return stat.filemode(_FORMATS.get(str(self.type), 0) | mode & _PERMISSIONS)


def type_of(vnode: Object) -> str:
    """The name of ``v_type``: ``VREG``; ``type 23`` for what is none. Raises as reading a member does."""
    number = int(vnode.v_type)
    return TYPES[number] if 0 <= number < len(TYPES) else f"type {number}"


def describe_vnode(kernel: Kernel, address: int, paths: Paths | None = None) -> Vnode:
    """All that is known of the vnode at an address; never raises: what cannot be had is `Absent`.

    Args:
        kernel: the kernel.
        address: of the vnode.
        paths: for whoever describes many vnodes.
    """
    paths = paths or Paths(kernel)
    vnode = kernel.object("vnode", address)
    kind = attempt(lambda: type_of(vnode))
    names = paths.names(address)
    path = paths.of(address)
    attributes = filesystem.attributes_of(kernel, vnode)
    return Vnode(
        address=address,
        type=kind,
        fstype=attempt(lambda: filesystem.fstype_of(vnode)),
        path=path,
        other_names=tuple(name for name in names if name.path != path.path),
        attributes=attributes,
        device=attempt(lambda: filesystem.device_name(vnode)) if kind in ("VCHR", "VBLK") else Absent.NOT_APPLICABLE,
        uses=attempt(lambda: int(vnode.v_usecount)),
        writers=attempt(lambda: int(vnode.v_writecount)),
        doomed=attempt(lambda: is_doomed(vnode)),
        notes=_notes(path, attributes),
    )


def _notes(path: VnodePath, attributes: Attributes) -> tuple[str, ...]:
    if attributes.deleted:
        # Then there is a reason why it has no name.
        return (DELETED, *(note for note in path.notes if note != NO_NAME), *attributes.notes)
    return (*path.notes, *attributes.notes)


def device_text(vnode: Vnode) -> tuple[str, ...]:
    """A note about the device of a character vnode whose path does not tell it."""
    device = vnode.device
    if not isinstance(device, str) or not device or vnode.path.path.endswith(f"/{device}"):
        return ()
    return (f"device {device}",)


def names_text(vnode: Vnode) -> tuple[str, ...]:
    """A note about a file's further names; none if it has but one."""
    others = [name.path for name in vnode.other_names]
    if not others:
        return ()
    more = f" and {len(others) - MAX_OTHER_NAMES} more" if len(others) > MAX_OTHER_NAMES else ""
    return (f"also {', '.join(others[:MAX_OTHER_NAMES])}{more}",)
