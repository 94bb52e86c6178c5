"""When files were read, written and made, as their file systems keep it in memory.

# Reference: sys/ufs/ufs/dinode.h (struct ufs2_dinode), sys/fs/tmpfs/tmpfs.h, sys/fs/devfs/devfs_int.h,
# sys/fs/nfsclient/nfsnode.h
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from .clock import NANO, utc
from .filesystem import bottom_vnode, fstype_of
from .kernel import Kernel
from .objects import Object
from .records import Absent, attempt

UFS1 = 1
"""`um_fstype`; its inodes on disk have another layout."""


@dataclass(frozen=True)
class FileTimes:
    """Times of a file (UTC).

    Attributes:
        accessed: it was read.
        modified: its content was written.
        changed: its inode was changed.
        born: it was made.
    """

    accessed: datetime | Absent = Absent.NOT_AVAILABLE
    modified: datetime | Absent = Absent.NOT_AVAILABLE
    changed: datetime | Absent = Absent.NOT_AVAILABLE
    born: datetime | Absent = Absent.NOT_AVAILABLE


def file_times(kernel: Kernel, address: int) -> FileTimes:
    """The times of the file of a vnode; never raises: what cannot be had is `Absent`.

    Args:
        kernel: the kernel.
        address: of the vnode. One of nullfs has the times of the file below.
    """
    bottom = attempt(lambda: kernel.object("vnode", bottom_vnode(kernel, address)))
    if isinstance(bottom, Absent) or not bottom.address_:
        return FileTimes()
    vnode = bottom
    fstype = attempt(lambda: fstype_of(vnode))
    reader = _READERS.get(fstype) if isinstance(fstype, str) else None
    times = attempt(lambda: reader(vnode)) if reader else Absent.NOT_AVAILABLE
    return FileTimes(times, times, times, times) if isinstance(times, Absent) else times


def _ufs(vnode: Object) -> FileTimes:
    """The inode as it will be on disk: `i_dp` in 15.0, `dinode_u` before."""
    inode = vnode.v_data.as_("inode")
    if attempt(lambda: int(inode.i_ump.as_("ufsmount").um_fstype)) == UFS1:
        return FileTimes()
    pointer = inode.i_dp.dp2 if inode.has_("i_dp") else inode.dinode_u.din2
    disk = pointer.as_("ufs2_dinode")

    def time(seconds: str, fraction: str) -> datetime | Absent:
        return attempt(lambda: utc(int(getattr(disk, seconds)) * NANO + int(getattr(disk, fraction))))

    return FileTimes(
        time("di_atime", "di_atimensec"),
        time("di_mtime", "di_mtimensec"),
        time("di_ctime", "di_ctimensec"),
        time("di_birthtime", "di_birthnsec"),
    )


def _tmpfs(vnode: Object) -> FileTimes:
    node = vnode.v_data.as_("tmpfs_node")
    return FileTimes(*(_timespec(node, f"tn_{kind}time") for kind in ("a", "m", "c", "birth")))


def _devfs(vnode: Object) -> FileTimes:
    """A device has its own times, whatever its name was given; nothing there remembers when it came."""
    device = vnode.v_rdev if vnode.has_("v_rdev") else vnode.v_un.vu_cdev
    prefix, node = ("si", device.as_("cdev")) if device else ("de", vnode.v_data.as_("devfs_dirent"))
    return FileTimes(*(_timespec(node, f"{prefix}_{kind}time") for kind in ("a", "m", "c")))


def _nfs(vnode: Object) -> FileTimes:
    attributes = vnode.v_data.as_("nfsnode").n_vattr.na_vattr
    return FileTimes(*(_timespec(attributes, f"va_{kind}time") for kind in ("a", "m", "c", "birth")))


def _timespec(owner: Object, member: str) -> datetime | Absent:
    def read() -> datetime | Absent:
        time = getattr(owner, member)
        return utc(int(time.tv_sec) * NANO + int(time.tv_nsec))

    return attempt(read)


_READERS: dict[str, Callable[[Object], FileTimes]] = {"ufs": _ufs, "tmpfs": _tmpfs, "devfs": _devfs, "nfs": _nfs}
