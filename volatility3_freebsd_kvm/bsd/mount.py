"""Mounted file systems.

# Reference: sys/sys/mount.h (struct mount, struct statfs, MNTOPT_NAMES), sys/kern/vfs_mount.c,
# sys/kern/kern_jail.c (prison_canseemount)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError, KVMError, SymbolError
from .kernel import Kernel
from .lists import Queue
from .needs import unmet
from .objects import Object
from .path import Paths
from .process import is_readable
from .records import Absent, Problem, attempt

FLAGS = {
    0x40: "asynchronous",
    0x100: "NFS exported",
    0x1000: "local",
    0x10000000: "noatime",
    0x4: "noexec",
    0x8: "nosuid",
    0x400000: "nosymfollow",
    0x2000: "with quotas",
    0x1: "read-only",
    0x2: "synchronous",
    0x20: "union",
    0x40000000: "noclusterr",
    0x80000000: "noclusterw",
    0x100000: "suiddir",
    0x200000: "soft-updates",
    0x100000000: "journaled soft-updates",
    0x4000000: "multilabel",
    0x8000000: "acls",
    0x10: "nfsv4acls",
    0x2000000: "gjournal",
    0x200000000: "automounted",
    0x400000000: "verified",
    0x800000000: "untrusted",
    0x20000000000: "named attributes",
}
"""MNT_ flags that mount(8) prints, in its order and words; a bit has had one meaning in all releases."""
MAX_MOUNTS = 1 << 16
MAX_VNODES = 1 << 21
MAX_PRISONS = 1 << 16
_VMARKER = 9
_MNTK_UNMOUNT = 0x01000000
_FSID_BYTES = 8
_VNODES = ("v_nmntvnodes", "v_type", "v_mount")


@dataclass(frozen=True)
class Mount:
    """A `struct mount`.

    Attributes:
        address: of the structure.
        source: what is mounted: a device, a directory, ``server:/path``.
        on: where, as it was said when it was mounted, from the root of the whole system.
        fstype: ``ufs``, ``zfs``, …
        flags: in the words of mount(8).
        flag_bits: ``mnt_flag``.
        owner: uid of who mounted it.
        fsid: in the form of mount -v.
        jails: names of the jails (not the host) whose processes see it in mount(8).
        vnodes: how many there are in its list.
        vnodes_counted: how many the kernel says there are.
        notes: what is odd.
    """

    address: int
    source: str | Absent
    on: str | Absent
    fstype: str | Absent
    flags: tuple[str, ...] | Absent
    flag_bits: int | Absent
    owner: int | Absent
    fsid: str | Absent
    jails: tuple[str, ...] | Absent
    vnodes: int | Absent
    vnodes_counted: int | Absent
    notes: tuple[str, ...] = ()


def mounts(kernel: Kernel, paths: Paths | None = None) -> Iterator[Mount | Problem]:
    """Every mount of ``mountlist``, in the kernel's order; a problem at the end if that list is irregular."""
    lacking = unmet(kernel, "mountlist", ("mount.mnt_list", "mount.mnt_stat", "statfs.f_mntonname"))
    if lacking:
        yield lacking
        return
    try:
        queue = Queue(kernel.structs, kernel.address("mountlist"), "mount", "mnt_list", limit=MAX_MOUNTS)
    except SymbolError as error:
        yield Problem("mountlist", str(error))
        return
    jails, problems = prisons(kernel)
    yield from problems
    paths = paths or Paths(kernel)
    for mount in queue:
        if is_readable(mount, "mnt_list"):
            yield _describe(kernel, mount, jails, paths)
    yield from (Problem("mountlist", problem) for problem in queue.problems)


def prisons(kernel: Kernel) -> tuple[list[Object], list[Problem]]:
    """All jails but the host as `struct prison`, and what is wrong with their list; none without the types."""
    if not kernel.has_member("prison", "pr_list") or not kernel.has("allprison"):
        return [], []
    queue = Queue(kernel.structs, kernel.address("allprison"), "prison", "pr_list", limit=MAX_PRISONS)
    return [prison for prison in queue if is_readable(prison, "pr_list")], [
        Problem("allprison", problem) for problem in queue.problems
    ]


def flag_names(bits: int) -> tuple[str, ...]:
    """The words of mount(8) for ``mnt_flag``."""
    return tuple(name for bit, name in FLAGS.items() if bits & bit)


def _describe(kernel: Kernel, mount: Object, jails: list[Object], paths: Paths) -> Mount:
    stat = mount.mnt_stat
    bits = attempt(lambda: int(mount.mnt_flag))
    on = attempt(lambda: str(stat.f_mntonname))
    listed, vnode_notes = _count_vnodes(kernel, mount)
    counted = attempt(lambda: int(mount.mnt_nvnodelistsize))
    if isinstance(listed, int) and isinstance(counted, int) and listed != counted:
        vnode_notes = (*vnode_notes, f"{listed} vnodes are in its list, the kernel has counted {counted}")
    return Mount(
        address=mount.address_,
        source=attempt(lambda: str(stat.f_mntfromname)),
        on=on,
        fstype=attempt(lambda: str(stat.f_fstypename)),
        flags=bits if isinstance(bits, Absent) else flag_names(bits),
        flag_bits=bits,
        owner=attempt(lambda: int(stat.f_owner)),
        fsid=attempt(lambda: kernel.structs.read(stat.at_("f_fsid"), _FSID_BYTES).hex()),
        jails=_seen_by(mount, on, jails),
        vnodes=listed,
        vnodes_counted=counted,
        notes=(*_state_notes(mount), *_mount_point_notes(mount, on, paths), *vnode_notes),
    )


def _state_notes(mount: Object) -> tuple[str, ...]:
    bits = attempt(lambda: int(mount.mnt_kern_flag))
    return ("it is being unmounted",) if isinstance(bits, int) and bits & _MNTK_UNMOUNT else ()


def _mount_point_notes(mount: Object, on: str | Absent, paths: Paths) -> tuple[str, ...]:
    """Whether the directory below says the same as the mount."""
    covered = attempt(lambda: mount.mnt_vnodecovered)
    if isinstance(covered, Absent) or isinstance(on, Absent):
        return ()
    if not covered:
        return () if on == "/" else ("it is not mounted on any directory",)
    vnode = covered.as_("vnode")
    # 10 and 11 have a union of that name.
    above = attempt(lambda: int(vnode.v_mountedhere if vnode.has_("v_mountedhere") else vnode.v_un.vu_mount))
    notes = () if isinstance(above, Absent) or above == mount.address_ else ("its directory does not lead to it",)
    path = paths.of(int(covered))
    if path.complete and path.path != on:
        notes = (*notes, f"its directory is now {path.path}")
    return notes


def _count_vnodes(kernel: Kernel, mount: Object) -> tuple[int | Absent, tuple[str, ...]]:
    """How many vnodes are in the list of a mount, markers aside, and what is wrong with it."""
    structs = kernel.structs
    if not all(kernel.has_member("vnode", name) for name in _VNODES):
        return Absent.NOT_AVAILABLE, ()
    queue = Queue(structs, mount.at_("mnt_nvnodelist"), "vnode", "v_nmntvnodes", limit=MAX_VNODES)
    count = strangers = 0
    try:
        for vnode in queue.addresses():
            if structs.value(vnode, "vnode", "v_type") != _VMARKER:
                count += 1
                strangers += structs.value(vnode, "vnode", "v_mount") != mount.address_
    except AddressError as error:
        queue.problems.append(f"ends where {error}")
    except KVMError:
        return Absent.NOT_AVAILABLE, ()
    notes = [f"its list of vnodes: {problem}" for problem in queue.problems]
    if strangers:
        notes.append(f"{strangers} vnodes in its list say that they are on another mount")
    return count, tuple(notes)


# Jails


def _seen_by(mount: Object, on: str | Absent, jails: list[Object]) -> tuple[str, ...] | Absent:
    return attempt(lambda: tuple(str(jail.pr_name) for jail in jails if _can_see(jail, mount, on)))


def _can_see(jail: Object, mount: Object, on: str | Absent) -> bool:
    """`prison_canseemount`: all mounts, those below the jail's path, or only the one that its root is on."""
    enforce = int(jail.pr_enforce_statfs)
    root = jail.pr_root
    if enforce == 0 or (root and int(root.as_("vnode").v_mount) == mount.address_):
        return True
    if enforce != 1 or isinstance(on, Absent):
        return False
    path = str(jail.pr_path)
    return path == "/" or on == path or on.startswith(path + "/")
