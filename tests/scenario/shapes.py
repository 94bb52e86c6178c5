"""Shapes that several builders meet: locks, times, hash tables, structures that only some kernels have types for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.writers.objects import Object, assign, link_list, link_slist

from .world import World

FNV_32_INIT = 33554467
FNV_32_PRIME = 0x01000193

_INITIALIZED = 0x0001_0000
_WITNESS = 0x0002_0000
_RECURSABLE = 0x0008_0000
_SLEEPABLE = 0x0010_0000
_UPGRADABLE = 0x0020_0000
_MTX, _SX, _RW, _LOCKMGR = (number << 24 for number in (1, 2, 5, 6))


def fnv_32(data: bytes, start: int = FNV_32_INIT) -> int:
    """`fnv_32_buf` and `fnv_32_str` of sys/fnv_hash.h: FNV-1, with FreeBSD's own start."""
    for byte in data:
        start = (start * FNV_32_PRIME & 0xFFFFFFFF) ^ byte
    return start


def timespec(seconds: int, nanoseconds: int = 0) -> dict[str, int]:
    """A value for a `struct timespec`."""
    return {"tv_sec": seconds, "tv_nsec": nanoseconds}


def now(world: World, before: int = 0) -> int:
    """The time of the panic in seconds since 1970, or some seconds before."""
    return world.system.boot_time[0] + world.system.uptime[0] - before


# Locks that nobody holds (sys/lock.h; the class indexes are those of lock_classes[] in kern/subr_lock.c)


def _lock_object(world: World, obj: Object, name: str, flags: int) -> None:
    obj.lock_object = {"lo_name": text(world, name), "lo_flags": _INITIALIZED | _WITNESS | flags}


def mtx_init(world: World, mtx: Object, name: str) -> None:
    """A sleep mutex; unowned is 0."""
    _lock_object(world, mtx, name, _MTX)


def sx_init(world: World, sx: Object, name: str) -> None:
    """A shared/exclusive lock; unlocked is no sharers (SX_LOCK_SHARED)."""
    _lock_object(world, sx, name, _SX | _SLEEPABLE | _UPGRADABLE)
    sx.sx_lock = 1


def rw_init(world: World, rw: Object, name: str) -> None:
    """A read/write lock; unlocked is no readers (RW_LOCK_READ)."""
    _lock_object(world, rw, name, _RW | _UPGRADABLE)
    rw.rw_lock = 1


def lockmgr_init(world: World, lock: Object, name: str) -> None:
    """A lockmgr lock; LK_UNLOCKED is no sharers (LK_SHARE)."""
    _lock_object(world, lock, name, _LOCKMGR | _SLEEPABLE | _UPGRADABLE | _RECURSABLE)
    lock.lk_lock = 1


def knlist_init(world: World, knlist: Object, argument: Object | int) -> None:
    """A `struct knlist` whose lock is a mutex (`knlist_init_mtx`, kern/kern_event.c)."""
    knlist.kl_lock = world.function("knlist_mtx_lock")
    knlist.kl_unlock = world.function("knlist_mtx_unlock")
    knlist.kl_lockarg = argument


# Strings, tables and vectors


def text(world: World, string: str) -> Object:
    """A constant string; the same one for the same text."""
    found = world.find("string", string)
    return found if isinstance(found, Object) else world.put("string", string, world.memory.string(string))


def vector(world: World, type_name: str, name: str) -> Object:
    """The kernel's table of functions (or other variable) of that name; one in a module's memory if it has none."""
    if world.has_symbol(name):
        return world.symbol(name)
    found = world.find("vector", name)
    return found if isinstance(found, Object) else world.put("vector", name, world.new(f"struct {type_name}"))


def fill_vector(world: World, table: Object, functions: dict[str, str]) -> None:
    """Enter functions where the table, as compiled, has none."""
    for member, function in functions.items():
        if world.has(table._type["name"], member) and not table[member]:
            table[member] = world.function(function)


def set_variable(world: World, name: str, value: Any) -> None:
    """Give a global variable a value, if the kernel has it."""
    if world.has_symbol(name):
        assign(world.symbol(name), value)


def hash_table(world: World, name: str, mask_name: str, count: int) -> Object | None:
    """What hashinit(9) makes: `count` list heads, the table's address in `name` and ``count - 1`` in `mask_name`."""
    if not world.has_symbol(name):
        return None
    head = world.memory.image.variables[name]["subtype"]
    table = world.memory.new({"kind": "array", "count": count, "subtype": head})
    set_variable(world, name, table)
    set_variable(world, mask_name, count - 1)
    return table


def fill_hash(table: Object | None, items: Iterable[Object], link: str, hash_of: Callable[[Object], int]) -> None:
    """Insert items into their chains, each in front of those before it, as LIST_INSERT_HEAD does."""
    if table is None:
        return
    mask = table._type["count"] - 1
    chains: dict[int, list[Object]] = {}
    for item in items:
        chains.setdefault(hash_of(item) & mask, []).insert(0, item)
    for index, chain in chains.items():
        link_chain(table[index], chain, link)


def link_chain(head: Object, items: Iterable[Object], link: str) -> None:
    """Link items into a list of whichever kind the head is: LIST or SLIST, or those of Concurrency Kit."""
    members = head._memory.types.types.user_types[head._type["name"]]["fields"]
    double = {"lh_first", "clh_first"} & set(members)
    (link_list if double else link_slist)(head, items, link)


def link_red_black(head: Object, items: Sequence[Object], link: str) -> None:
    """Make `head` (RB_HEAD until 13.0) hold items that are in order: halved again and again, the lowest level red."""
    head.rbh_root = _red_black(items, link, 0, 0, len(items).bit_length() - 1) if items else 0


def _red_black(items: Sequence[Object], link: str, parent: Object | int, depth: int, deepest: int) -> Object | int:
    if not items:
        return 0
    middle = len(items) // 2
    node = items[middle]
    entry = node[link]
    entry.rbe_parent = parent
    # A level that is not full is red; a root is always black.
    entry.rbe_color = int(depth == deepest and depth > 0)
    entry.rbe_left = _red_black(items[:middle], link, node, depth + 1, deepest)
    entry.rbe_right = _red_black(items[middle + 1 :], link, node, depth + 1, deepest)
    return node


# Structures without a type


def words(world: World, *values: Object | int | str, extra: int = 0) -> Object:
    """A structure that this kernel's types lack: pointer-sized words one behind the other, and `extra` bytes."""
    items = [text(world, value) if isinstance(value, str) else value for value in values]
    reference = {"kind": "array", "count": len(items), "subtype": world.memory.types.parse("void *")}
    obj = world.memory.new(reference, extra=extra)
    for index, item in enumerate(items):
        obj[index] = item
    return obj


def private(world: World, type_name: str, size: int = 256) -> Object:
    """A structure, or so many zero bytes where nothing tells its type."""
    if world.has_type(type_name):
        return world.new(f"struct {type_name}")
    return world.memory.new({"kind": "array", "count": size, "subtype": world.memory.types.parse("char")})


def set_members(world: World, obj: Object, **members: Any) -> Object:
    """Set those members that this kernel's shape of the structure has."""
    for name, value in members.items():
        if world.has(obj._type["name"], name):
            obj[name] = value
    return obj
