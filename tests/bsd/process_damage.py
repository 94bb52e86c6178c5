"""Changes to the scenario's memory, by the names of what is changed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tests.bsd.process_truth import address_of
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import TypeReference, Types

Changes = dict[int, bytes]

NOWHERE = {8: 0xFFFFFFFF_00001000, 4: 0xFFF01000}
"""An address that no kernel of the scenario maps, by word size."""


def structs_of(name: str) -> Structs:
    """How a kernel's structures are read."""
    return walkable(name).structs


def nowhere(name: str) -> int:
    """An aligned address that is not mapped."""
    return NOWHERE[structs_of(name).word_size]


def member_at(name: str, kind: str, key: object, member: str) -> int:
    """Where a member of something is; ``member`` may be a path."""
    return address_of(name, kind, key) + structs_of(name).offset(kind, member)


def pointer_change(name: str, address: int, value: int) -> Changes:
    """Another pointer at an address."""
    structs = structs_of(name)
    return {address: value.to_bytes(structs.word_size, structs.byteorder)}


def member_change(name: str, kind: str, key: object, member: str, value: int) -> Changes:
    """Another value for an integer, enum or pointer member."""
    structs = structs_of(name)
    size = structs.size_of(structs.member(kind, member)[1])
    return {member_at(name, kind, key, member): (value % (1 << 8 * size)).to_bytes(size, structs.byteorder)}


def link_at(name: str, kind: str, key: object, link: str) -> int:
    """Where the pointer to the next element is."""
    return member_at(name, kind, key, link)


def reshaped(
    kernel: Kernel,
    *,
    names: Mapping[tuple[str, str], str] | None = None,
    types: Mapping[tuple[str, str], TypeReference] | None = None,
    without: Iterable[str] = (),
) -> Kernel:
    """A kernel with other names or types of members, by ``(structure, member)``, and without some structures."""
    known = kernel.structs.types
    tables = {kind: copy.deepcopy(one) for kind, one in known.user_types.items() if kind not in without}
    for (kind, member), reference in (types or {}).items():
        tables[kind]["fields"][member]["type"] = reference
    for (kind, member), name in (names or {}).items():
        tables[kind]["fields"][name] = tables[kind]["fields"].pop(member)
    types_now = Types(known.base_types, tables, known.enums)
    structs = Structs(kernel.structs.read, types_now, 8 * kernel.structs.word_size, kernel.structs.byteorder)
    return replace(kernel, names=Names(kernel.names.symbols, structs))
