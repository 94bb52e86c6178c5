"""Nexthops: where routes lead since 13.0, and the groups of them that share a route.

# Reference: sys/net/route/nhop.h, nhop_var.h, nhgrp_var.h, nhgrp_ctl.c
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .fields import Fields
from .kernel import Kernel
from .objects import Object
from .records import Absent, attempt

NHF_MULTIPATH = 0x8
MAX_SLOTS = 64
"""Slots of a group: RIB_MAX_MPATH_WIDTH."""


@dataclass(frozen=True)
class Hop:
    """A nexthop of a route.

    Attributes:
        hop: the ``struct nhop_object``.
        weight: its share of the route's packets; None if it is the only one.
        group: number of the group; None if it is not in one.
    """

    hop: Object
    weight: int | None = None
    group: int | Absent | None = None


def hops_of(kernel: Kernel, address: int, fields: Fields) -> Iterator[Hop]:
    """The nexthops behind a route's ``rt_nhop``: one, or those of a group.

    Raises:
        AddressError: nothing can be read there.
        SymbolError: the kernel's types do not know nexthops.
    """
    hop = kernel.object("nhop_object", address)
    # Both begin with their flags.
    if not int(hop.nh_flags) & NHF_MULTIPATH:
        yield Hop(hop)
        return
    group = kernel.object("nhgrp_object", address)
    count = int(group.nhg_size)
    if not 0 < count <= MAX_SLOTS:
        fields.note(f"group {address:#x} of nexthops has {count} slots, which is impossible")
        return
    word = kernel.structs.word_size
    start = address + kernel.structs.size("nhgrp_object")
    data = kernel.structs.read(start, count * word)
    slots = [int.from_bytes(data[at : at + word], kernel.structs.byteorder) for at in range(0, len(data), word)]
    private = kernel.object("nhgrp_priv", start + len(data))
    number = attempt(lambda: int(private.nhg_idx))
    weights = _weights(kernel, private, address) or {one: slots.count(one) for one in dict.fromkeys(slots)}
    for one, weight in weights.items():
        yield Hop(kernel.object("nhop_object", one), weight, number)
    odd = sorted(set(slots) - set(weights))
    if odd:
        fields.note(f"group {address:#x} has a slot for nexthop {odd[0]:#x}, which has no weight")


def _weights(kernel: Kernel, private: Object, group: int) -> dict[int, int]:
    """The nexthops of a group and their weights, from the part that only the control plane uses.

    It lies behind the slots, and its own link back tells whether it is there.
    """
    back = attempt(lambda: int(private.nhg))
    count = attempt(lambda: int(private.nhg_nh_count))
    size = attempt(lambda: kernel.structs.size("weightened_nhop"))
    if back != group or not isinstance(count, int) or not isinstance(size, int):
        return {}
    start = private.address_ + kernel.structs.size("nhgrp_priv")
    found: dict[int, int] = {}
    for at in range(count):
        entry = kernel.object("weightened_nhop", start + at * size)
        hop, weight = attempt(lambda entry=entry: int(entry.nh)), attempt(lambda entry=entry: int(entry.weight))  # type: ignore[misc]
        if isinstance(hop, Absent) or isinstance(weight, Absent):
            return {}
        found[hop] = weight
    return found
