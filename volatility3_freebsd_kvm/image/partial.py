"""Types that the dump itself tells: the members of ``proc`` and ``thread`` whose offsets the kernel exports.

# Reference: sys/kern/kern_proc.c, kern_thread.c (proc_off_*, thread_off_*; since 10.4)
"""

from __future__ import annotations

from typing import Any

from ..exceptions import AddressError
from .nlist import Names
from .types import TypeReference, Types

PARTIAL = "offsets that the kernel exports (proc_off_*, thread_off_*)"
"""Where such types come from, for people."""
_NAME_SIZE = 20
"""MAXCOMLEN + 1."""
_MAX_OFFSET = 0x10000
_NAME: TypeReference = {"kind": "array", "count": _NAME_SIZE, "subtype": {"kind": "base", "name": "char"}}
_INT: TypeReference = {"kind": "base", "name": "int"}


def _pointer(to: str) -> TypeReference:
    return {"kind": "pointer", "subtype": {"kind": "struct", "name": to}}


_STRUCT_SYMBOLS = {
    "proc": {
        "p_list": ("proc_off_p_list", {"kind": "struct", "name": "unnamed_proc_p_list"}),
        "p_threads": ("proc_off_p_threads", {"kind": "struct", "name": "unnamed_proc_p_threads"}),
        "p_pid": ("proc_off_p_pid", _INT),
        "p_comm": ("proc_off_p_comm", _NAME),
        "p_hash": ("proc_off_p_hash", {"kind": "struct", "name": "unnamed_proc_p_list"}),
    },
    "thread": {
        "td_tid": ("thread_off_td_tid", _INT),
        "td_name": ("thread_off_td_name", _NAME),
        "td_oncpu": ("thread_off_td_oncpu", _INT),
        "td_pcb": ("thread_off_td_pcb", {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}),
        "td_plist": ("thread_off_td_plist", {"kind": "struct", "name": "unnamed_thread_td_plist"}),
    },
}


def partial_types(names: Names) -> Types:
    """What is known of a kernel without type information; nothing of one before 10.4."""
    structs = names.structs
    types = Types.empty(structs.word_size, structs.byteorder)
    for name, size, signed, kind in (("int", 4, True, "int"), ("char", 1, True, "char")):
        types.base_types[name] = {"size": size, "signed": signed, "kind": kind, "endian": structs.byteorder}
    for type_name, members in _STRUCT_SYMBOLS.items():
        fields: dict[str, Any] = {}
        for member, (symbol, reference) in members.items():
            offset = _exported(names, symbol)
            if offset is not None:
                fields[member] = {"offset": offset, "type": reference}
        if fields:
            size = max(one["offset"] + 2 * structs.word_size + _NAME_SIZE for one in fields.values())
            types.user_types[type_name] = {"kind": "struct", "size": size, "fields": fields}
    if types.user_types:
        types.user_types.update(_queues(structs.word_size))
    # What a kernel does not tell is void behind pointers.
    return types.pruned(list(types.user_types))


def _exported(names: Names, symbol: str) -> int | None:
    address = names.value(symbol)
    try:
        offset = names.structs.uint(address, 4) if address is not None else _MAX_OFFSET
    except AddressError:
        return None
    return offset if offset < _MAX_OFFSET else None


def _queues(word: int) -> dict[str, Any]:
    """The heads and links that the members are (sys/queue.h)."""

    def pair(first: str, second: str, to: str) -> dict[str, Any]:
        back = {"kind": "pointer", "subtype": _pointer(to)}
        fields = {first: {"offset": 0, "type": _pointer(to)}, second: {"offset": word, "type": back}}
        return {"kind": "struct", "size": 2 * word, "fields": fields}

    return {
        "proclist": {"kind": "struct", "size": word, "fields": {"lh_first": {"offset": 0, "type": _pointer("proc")}}},
        "unnamed_proc_p_list": pair("le_next", "le_prev", "proc"),
        "unnamed_proc_p_threads": pair("tqh_first", "tqh_last", "thread"),
        "unnamed_thread_td_plist": pair("tqe_next", "tqe_prev", "thread"),
    }
