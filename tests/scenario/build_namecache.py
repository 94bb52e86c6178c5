"""The name cache (kern/vfs_cache.c): `struct namecache` in the lists of both vnodes and in the hash."""

from __future__ import annotations

import posixpath

from tests.writers.objects import Object, addressof, link_list, link_tailq

from .build_filesystems import NAME_CACHED
from .build_vnodes import fstype_of, pointer_bytes
from .model import Vnode
from .paths import parent_of
from .shapes import fill_hash, fnv_32, hash_table, mtx_init, set_variable, timespec
from .world import World

VARIABLES = {
    "nchashtbl": "nchashhead *",
    "nchash": "unsigned long",
    "numcache": "unsigned long",
    "numneg": "unsigned long",
    "numcachehv": "unsigned long",
}

NCF_ISDOTDOT, NCF_TS, NCF_DTS, NCF_NEGATIVE = 0x02, 0x04, 0x08, 0x20
HASH_SIZE = 512
NEGATIVE_LISTS = 4
"""`numneglists`."""
TICKS = 12345


def create(world: World) -> None:
    """The name cache is all about connections."""


def connect(world: World) -> None:
    """Enter every name that is to be known, oldest first: each list has the newest in front."""
    cache = _Cache(world)
    for vnode in world.system.vnodes:
        if fstype_of(world, vnode) in NAME_CACHED and vnode.cached and not vnode.deleted:
            cache.enter_names(vnode)
    for vnode in world.system.vnodes:
        if vnode.dotdot:
            cache.enter_dotdot(vnode)
    for directory, name in world.system.negative_names:
        cache.enter(directory, name, 0, NCF_NEGATIVE)
    cache.finish()


def name_hash(world: World, name: bytes, directory: Object) -> int:
    """`cache_get_hash`: until 13.0-CURRENT the name, then the directory's address; since 13.0 the other way round."""
    if world.has("vnode", "v_nchash"):
        return fnv_32(name, directory.v_nchash)
    return fnv_32(pointer_bytes(world, directory), fnv_32(name))


class _Cache:
    """What there is so far, newest first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sources: dict[str, list[Object]] = {}
        self.destinations: dict[str, list[Object]] = {}
        self.negative: list[Object] = []
        self.hashes: dict[int, int] = {}
        self.entries: list[Object] = []

    def enter_names(self, vnode: Vnode) -> None:
        """All names of a vnode, the path it is known by last."""
        if vnode.path in ("", "/") or vnode.dotdot:
            return
        for path in (*vnode.names, vnode.path):
            parent = parent_of(self.world.system, path)
            if parent is None:
                raise ValueError(f"nothing describes the directory of {path}")
            entry = self.enter(parent.key, posixpath.basename(path), self.world.get("vnode", vnode.key))
            self.destinations.setdefault(vnode.key, []).insert(0, entry)
            if vnode.kind == "VDIR":
                self.world.get("vnode", vnode.key).v_cache_dd = entry

    def enter_dotdot(self, vnode: Vnode) -> None:
        """The name ``..`` in a directory, which leads to its parent."""
        parent = parent_of(self.world.system, vnode.path)
        assert parent is not None
        obj = self.world.get("vnode", vnode.key)
        entry = self.enter(vnode.key, "..", self.world.get("vnode", parent.key), NCF_ISDOTDOT)
        self.destinations.setdefault(parent.key, []).insert(0, entry)
        obj.v_cache_dd = entry

    def enter(self, directory: str, name: str, target: Object | int, flags: int = 0) -> Object:
        """`cache_enter_time`."""
        parent = self.world.get("vnode", directory)
        on = next(vnode.mount for vnode in self.world.system.vnodes if vnode.key == directory)
        timed = next(mount.fstype for mount in self.world.system.mounts if mount.key == on) == "nfs"
        entry = self.allocate(name, timed)
        entry.nc_dvp = parent
        if target:
            entry.n_un.nu_vp = target
        flags |= NCF_TS | (NCF_DTS if target and flags & NCF_ISDOTDOT == 0 else 0) if timed else 0
        entry.nc_flag, entry.nc_nlen = flags, len(name)
        self.world.memory.write(addressof(entry, "nc_name"), name.encode() + b"\0")
        self.hashes[int(entry)] = name_hash(self.world, name.encode(), parent)
        self.entries.append(entry)
        if flags & NCF_ISDOTDOT == 0:
            self.sources.setdefault(directory, []).insert(0, entry)
        if flags & NCF_NEGATIVE:
            self.negative.append(entry)
        self.world.put("namecache", (directory, name), entry)
        return entry

    def allocate(self, name: str, timed: bool) -> Object:
        """An entry from one of the zones: short names have 40-odd bytes of room; NFS wants times with them."""
        room = 48 if len(name) < 40 else 264
        if not timed:
            return self.world.new("struct namecache", extra=room)
        with_times = self.world.new("struct namecache_ts", extra=room, nc_ticks=TICKS)
        with_times.nc_time = timespec(self.world.system.boot_time[0] + 5)
        with_times.nc_dotdottime = timespec(self.world.system.boot_time[0] + 6)
        return self.world.memory.cast("struct namecache", addressof(with_times, "nc_nc"))

    def finish(self) -> None:
        """Link all lists and the hash."""
        for key, entries in self.sources.items():
            link_list(self.world.get("vnode", key).v_cache_src, entries, "nc_src")
        for key, entries in self.destinations.items():
            link_tailq(self.world.get("vnode", key).v_cache_dst, entries, "nc_dst")
        table = hash_table(self.world, "nchashtbl", "nchash", HASH_SIZE)
        fill_hash(table, self.entries, "nc_hash", lambda entry: self.hashes[int(entry)])
        set_variable(self.world, "numcache", len(self.entries))
        set_variable(self.world, "numneg", len(self.negative))
        set_variable(self.world, "numcachehv", len(self.sources))
        if self.world.has_symbol("neglists"):
            self.link_negative()

    def link_negative(self) -> None:
        """`neglists`, by the entry's address (13.0; the older ones are private to vfs_cache.c and in no layout)."""
        lists = self.world.symbol("neglists")
        for index in range(NEGATIVE_LISTS):
            mine = [entry for entry in self.negative if int(entry) >> 8 & NEGATIVE_LISTS - 1 == index]
            for member, name in (("nl_lock", "ncnegl"), ("nl_evict_lock", "ncnege")):
                mtx_init(self.world, lists[index][member], name)
            link_tailq(lists[index].nl_list, mine, "nc_dst")
            link_tailq(lists[index].nl_hotlist, (), "nc_dst")
