"""Paths of vnodes as `vn_fullpath` puts them together: names from the name cache, across mounts, nullfs and devfs.

# Reference: sys/kern/vfs_cache.c (vn_fullpath, vn_vptocnp), sys/fs/nullfs/null_vnops.c (null_vptocnp),
# sys/fs/devfs/devfs_vnops.c (devfs_vptocnp)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..exceptions import AddressError, KVMError
from . import filesystem
from .filesystem import attributes_of
from .kernel import Kernel
from .namecache import CachedName, NamesOf, dotdot_of, read_name
from .objects import Object
from .records import attempt
from .tmpfs import TmpfsNames

VROOT = 0x1
"""VV_ROOT."""
VDIR = 2
DOOMED, OLD_DOOMED = 0x1, 0x80
"""VIRF_DOOMED in `v_irflag` (13.0), and before that VI_DOOMED in `v_iflag`."""
MAX_LENGTH = 4096
MAX_COMPONENTS = 512
"""PATH_MAX is 1024, so that no path of FreeBSD has more."""
MAX_NAMES = 1000
MAX_KNOWN = 1 << 16
CUT = "<...>"
NO_NAME = "the name cache has no name for it"
NO_NAME_ABOVE = "the name cache has no name for a directory above it"
DOOMED_NOTE = "doomed: its file system is gone, or it was revoked"


@dataclass(frozen=True)
class VnodePath:
    """Where a vnode is.

    Attributes:
        path: from the root of the whole system, whatever jail it is seen from. What is not known is in angle brackets:
            ``/var/<inode 75>/file``. Empty for a vnode that is on no file system any more.
        complete: whether all of it is known.
        notes: why not, and what is odd.
    """

    path: str
    complete: bool = True
    notes: tuple[str, ...] = ()

    def below(self, name: str, notes: tuple[str, ...] = ()) -> VnodePath:
        """The path of something in this directory; without a name, of what is in the same place."""
        if not name:
            return replace(self, notes=(*self.notes, *notes))
        path = f"{self.path.rstrip('/')}/{name}"
        above = tuple(NO_NAME_ABOVE if note == NO_NAME else note for note in self.notes)
        if len(path) > MAX_LENGTH:
            return VnodePath(f"{CUT}/{name}", False, (*above, *notes, f"longer than {MAX_LENGTH} characters"))
        return VnodePath(path, self.complete, (*above, *notes))


_Place = int | tuple[str, int, int]
"""A vnode; or ``("root", mount, 0)``; or ``("null", vnode, mount)``: below a nullfs, the vnode at the bottom."""


@dataclass(frozen=True)
class _Step:
    """A name and where it is; or, where the way ends, a path that stands for all above."""

    name: str = ""
    above: _Place | None = None
    end: VnodePath | None = None
    mounted_on: str = ""
    notes: tuple[str, ...] = ()
    known: bool = True
    """Whether `name` is one, rather than a number that stands for it."""


def is_doomed(vnode: Object) -> bool:
    """Whether a vnode was reclaimed while somebody still has it; raises `AddressError` if it cannot be read."""
    if vnode.has_("v_irflag"):
        return bool(int(vnode.v_irflag) & DOOMED)
    return bool(int(vnode.v_iflag) & OLD_DOOMED)


def vnode_path(kernel: Kernel, vnode: int) -> VnodePath:
    """The path of one vnode by its address; whoever asks for many uses one `Paths`."""
    return Paths(kernel).of(vnode)


def vnode_names(kernel: Kernel, vnode: int) -> tuple[VnodePath, ...]:
    """All paths by which the name cache knows a vnode; see `Paths.names`."""
    return Paths(kernel).names(vnode)


class Paths:
    """Finds paths and remembers those of directories, so that many cost little.

    Never raises: what cannot be read ends a path with a note.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._known: dict[_Place, VnodePath] = {}
        self._roots: dict[int, int] = {}
        self._fstypes: dict[int, str] = {}
        self._tmpfs = TmpfsNames(kernel)

    def of(self, vnode: int) -> VnodePath:
        """The path of a vnode by its address, from the root of the whole system."""
        return self._path(vnode)

    def names(self, vnode: int) -> tuple[VnodePath, ...]:
        """All paths by which the name cache knows a file, the last used one first: several where it has hard links.

        Directories, devices and what is on nullfs have one.
        """
        found: list[VnodePath] = []
        try:
            obj = self._kernel.object("vnode", vnode)
            linked = int(obj.v_type) != VDIR and not int(obj.v_vflag) & VROOT
            mount = filesystem.mount_of(obj) if linked else None
            if mount and self._fstype(mount) not in ("devfs", "nullfs"):
                for name in NamesOf(self._kernel, vnode):
                    if name.is_name:
                        found.append(self._path(name.directory).below(name.name))
                    if len(found) >= MAX_NAMES:
                        break
        except KVMError:
            pass
        return tuple(found) or (self.of(vnode),)

    def _fstype(self, mount: Object) -> str:
        if mount.address_ not in self._fstypes:
            self._fstypes[mount.address_] = filesystem.fstype_of_mount(mount)
        return self._fstypes[mount.address_]

    def _path(self, place: _Place) -> VnodePath:
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        trail: list[tuple[_Place, _Step]] = []
        seen: set[_Place] = set()
        current: _Place | None = place
        path: VnodePath | None = None
        while current is not None and (path := self._known.get(current)) is None:
            if current in seen:
                path = VnodePath(CUT, False, ("the names lead in a circle",))
                break
            if len(seen) >= MAX_COMPONENTS:
                path = VnodePath(CUT, False, (f"more than {MAX_COMPONENTS} directories deep",))
                break
            seen.add(current)
            step = self._guarded_step(current)
            trail.append((current, step))
            current = step.above
        for where, step in reversed(trail):
            path = self._join(path, step)
            self._known[where] = path
        assert path is not None  # noqa: S101 - the trail ends in a known path or in a step that has one
        return path

    def _join(self, above: VnodePath | None, step: _Step) -> VnodePath:
        if step.end is not None or above is None:
            return step.end or VnodePath("", False)
        if step.mounted_on and not above.complete:
            note = "the name cache does not know the mount point; the path is what it was when it was mounted on"
            return VnodePath(step.mounted_on, True, (note,))
        path = above.below(step.name, step.notes)
        return path if step.known else replace(path, complete=False)

    # One step upwards

    def _guarded_step(self, place: _Place) -> _Step:
        try:
            return self._step(place)
        except AddressError as error:
            return _Step(end=VnodePath("<unreadable>", False, (str(error),)))
        except KVMError as error:
            return _Step(end=VnodePath(f"<vnode {_vnode_of(place):#x}>", False, (str(error),)))

    def _step(self, place: _Place) -> _Step:
        if isinstance(place, int):
            return self._step_from_vnode(self._kernel.object("vnode", place))
        kind, first, second = place
        if kind == "root":
            return self._step_from_root(self._kernel.object("mount", first))
        return self._step_below_nullfs(first, self._kernel.object("mount", second))

    def _step_from_vnode(self, vnode: Object) -> _Step:
        mount = filesystem.mount_of(vnode)
        if mount is None or is_doomed(vnode):
            note = DOOMED_NOTE if is_doomed(vnode) else "it is on no file system"
            return _Step(end=VnodePath("", False, (note,)))
        if int(vnode.v_vflag) & VROOT:
            return _Step(above=("root", mount.address_, 0))
        fstype = self._fstype(mount)
        if fstype == "nullfs":
            bottom = filesystem.bottom_vnode(self._kernel, vnode.address_)
            return _Step(above=("null", bottom, mount.address_)) if bottom else self._unnamed(vnode, mount)
        if fstype == "devfs":
            name = filesystem.devfs_name(self._kernel, vnode)
            return _Step(name, ("root", mount.address_, 0)) if name else self._unnamed(vnode, mount)
        return self._step_by_name(vnode, mount)

    def _step_by_name(self, vnode: Object, mount: Object) -> _Step:
        names = NamesOf(self._kernel, vnode.address_)
        found = self._own_name(vnode) or next((name for name in names if name.is_name), None)
        if found is None:
            return self._other_way(vnode, mount, tuple(names.problems))
        notes = tuple(names.problems)
        if not found.name or "/" in found.name:
            notes = (*notes, f"the name at {found.address:#x} is impossible")
        return _Step(found.name or "<no name>", found.directory, notes=notes)

    def _own_name(self, vnode: Object) -> CachedName | None:
        """The entry of a directory itself, which may be far down the list of those that lead to it."""
        entry = vnode.v_cache_dd
        try:
            found = read_name(entry.as_("namecache")) if entry else None
        except AddressError:
            return None  # The list of names may do without.
        return found if found and found.is_name and found.vnode == vnode.address_ else None

    def _other_way(self, vnode: Object, mount: Object, problems: tuple[str, ...]) -> _Step:
        """Without an entry for the vnode: by the directory's ``..``, or by what the file system has in memory."""
        if self._fstype(mount) == "tmpfs":
            path = self._tmpfs.path_of(vnode, mount)
            if path:
                return _Step(path, ("root", mount.address_, 0), notes=problems)
        parent = attempt(lambda: dotdot_of(self._kernel, vnode.address_))
        if isinstance(parent, int) and parent:
            return _Step(self._number(vnode), parent, notes=(*problems, NO_NAME), known=False)
        return self._unnamed(vnode, mount, problems)

    def _unnamed(self, vnode: Object, mount: Object, problems: tuple[str, ...] = ()) -> _Step:
        """What is known of a vnode without a name: the mount that it is on, and its number there."""
        notes = (*problems, NO_NAME)
        return _Step(self._number(vnode), ("root", mount.address_, 0), notes=notes, known=False)

    def _number(self, vnode: Object) -> str:
        inode = attributes_of(self._kernel, vnode).inode
        return f"<inode {inode}>" if isinstance(inode, int) else f"<vnode {vnode.address_:#x}>"

    def _step_from_root(self, mount: Object) -> _Step:
        on = str(mount.mnt_stat.f_mntonname)
        covered = int(mount.mnt_vnodecovered)
        if covered:
            return _Step(above=covered, mounted_on=on)
        note = () if on == "/" else (f"the file system of {on} is not mounted on anything",)
        return _Step(end=VnodePath(on or "<unknown>", bool(on), note))

    def _step_below_nullfs(self, bottom: int, mount: Object) -> _Step:
        """A step in the file system that a nullfs shows, which ends at what the nullfs has as its root."""
        root: _Place = ("root", mount.address_, 0)
        shown = self._bottom_root(mount)
        if bottom == shown:
            return _Step(above=root)
        vnode = self._kernel.object("vnode", bottom)
        below = self._step_from_vnode(vnode)
        if below.known and below.name:
            if isinstance(below.above, int):
                return _Step(below.name, ("null", below.above, mount.address_), notes=below.notes)
            if shown and below.above == self._step_from_vnode(self._kernel.object("vnode", shown)).above:
                # The names of devfs and tmpfs go up to the root at once, and that is what the nullfs shows.
                return _Step(below.name, root, notes=below.notes)
        notes = below.notes or ("it is not below what this nullfs shows",)
        return _Step(self._number(vnode), root, notes=notes, known=False)

    def _bottom_root(self, mount: Object) -> int:
        if mount.address_ not in self._roots:
            self._roots[mount.address_] = filesystem.bottom_root(self._kernel, mount)
        return self._roots[mount.address_]


def _vnode_of(place: _Place) -> int:
    return place if isinstance(place, int) else place[1]


def seen_from(path: VnodePath, root: VnodePath) -> str:
    """A path as a process with another root directory sees it; empty if it lies outside, or one is not known."""
    if not (path.path and root.path and root.complete):
        return ""
    base = root.path.rstrip("/")
    if path.path == root.path:
        return "/"
    return path.path[len(base) :] if path.path.startswith(base + "/") else ""
