"""CPU sets: `struct cpuset` of the system, of the kernel and of each jail (kern/kern_cpuset.c)."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_list

from .shapes import set_members, set_variable
from .world import World

CPU_SET_ROOT, CPU_SET_RDONLY = 0x1, 0x2

VARIABLES = {
    "cpuset_ids": "struct setlist",
    "cpuset_default": "struct cpuset *",
    "cpuset_zero": "struct cpuset *",
    "cpuset_kernel": "struct cpuset *",
    "cpuset_root": "struct _cpuset *",
}


def create_cpusets(world: World) -> None:
    """Set 0 with all CPUs, set 1 for everything that starts, set 2 for kernel threads, and one for each jail.

    They are entered as "cpuset" by jid; that of kernel threads by "kernel". `cpuset_thread0` makes the first three, a
    new jail's set is a child of its parent's root set (`cpuset_create_root`).
    """
    zero = _make(world, 0, None, CPU_SET_ROOT | CPU_SET_RDONLY)
    default = world.put("cpuset", 0, _make(world, 1, zero, 0))
    kernel = world.put("cpuset", "kernel", _make(world, 2, zero, 0))
    children = {zero: [kernel, default]}
    sets = [zero, default, kernel]
    for jail in world.system.jails[1:]:
        parent = world.get("cpuset", jail.parent)
        made = world.put("cpuset", jail.jid, _make(world, 2 + jail.jid, parent, CPU_SET_ROOT))
        sets.append(made)
        children.setdefault(parent, []).insert(0, made)
    for parent, made in children.items():
        link_list(parent.cs_children, made, "cs_siblings")
    if world.has_symbol("cpuset_ids"):
        link_list(world.symbol("cpuset_ids"), sets[:0:-1], "cs_link")
    for name, value in (("default", default), ("zero", zero), ("kernel", kernel)):
        set_variable(world, f"cpuset_{name}", value)
    set_variable(world, "cpuset_root", addressof(zero, "cs_mask"))


def _make(world: World, number: int, parent: Object | None, flags: int) -> Object:
    made = world.new("struct cpuset", cs_ref=1, cs_id=number, cs_flags=flags)
    made.cs_mask = {"__bits": [(1 << len(world.system.cpus)) - 1]}
    return set_members(world, made, cs_parent=parent or 0)
