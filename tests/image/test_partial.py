"""A kernel without types tells where a few members are: proc and thread with five members each come of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import RealFile
from tests.fake_memory import Memory
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from tests.test_real_dumps import DUMPS, Real
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.lists import Queue
from volatility3_freebsd_kvm.bsd.objects import Object
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.partial import partial_types
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.types import VOID, Types

PROC = {"p_pid": 0xC4, "p_comm": 0x3D8, "p_list": 0, "p_hash": 0xC8, "p_threads": 0x10}
THREAD = {"td_tid": 0xA0, "td_name": 0x2BC, "td_oncpu": 0x6BC, "td_pcb": 0x438, "td_plist": 0x10}
OFFSETS = {f"proc_off_{name}": value for name, value in PROC.items()} | {
    f"thread_off_{name}": value for name, value in THREAD.items()
}


def names_with(offsets: Mapping[str, int | None], word_size: int = 8, byteorder: str = "little") -> Names:
    """A kernel that exports these; None stands for memory that cannot be read."""
    memory = Memory(word_size, byteorder)
    symbols = []
    for number, (name, value) in enumerate(offsets.items()):
        symbols.append(Symbol(name, 0x1000 + 4 * number, 4))
        if value is not None:
            memory.number(0x1000 + 4 * number, value, 4)
    return Names(SymbolTable(symbols), memory.structs(Types.empty(word_size, byteorder)))


def offsets_of(types: Types, name: str) -> dict[str, int]:
    return {member: one["offset"] for member, one in types.user_types[name]["fields"].items()}


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("word_size", [4, 8])
def test_all_ten_members(word_size: int, byteorder: str) -> None:
    types = partial_types(names_with(OFFSETS, word_size, byteorder))
    assert offsets_of(types, "proc") == PROC
    assert offsets_of(types, "thread") == THREAD
    assert types.user_types["proc"]["size"] >= 0x3D8 + 20
    structs = Structs(lambda address, length: bytes(length), types, 8 * word_size, byteorder)
    assert structs.offset("proc", "p_list.le_prev") == word_size
    assert structs.offset("proc", "p_threads.tqh_last") == 0x10 + word_size
    assert structs.offset("thread", "td_plist.tqe_prev") == 0x10 + word_size
    assert structs.size("proclist") == word_size
    assert types.base_types["int"] == {"size": 4, "signed": True, "kind": "int", "endian": byteorder}


def test_what_a_kernel_does_not_tell_is_missing() -> None:
    some = {"proc_off_p_pid": 8, "proc_off_p_comm": None, "proc_off_p_list": 0x10000, "proc_off_p_hash": 0xFFFFFFFF}
    types = partial_types(names_with(some))
    assert offsets_of(types, "proc") == {"p_pid": 8}
    assert "thread" not in types.user_types
    # Nothing else is known of a thread: what leads to one is void.
    assert types.user_types["unnamed_proc_p_threads"]["fields"]["tqh_first"]["type"]["subtype"] == VOID


@pytest.mark.parametrize("offsets", [{}, {"proc_off_p_pid": None}, {"thread_off_td_tid": 0x10000}])
def test_a_kernel_that_tells_nothing_has_no_types(offsets: dict[str, Any]) -> None:
    types = partial_types(names_with(offsets))
    assert (types.user_types, types.enums) == ({}, {})


@pytest.mark.parametrize("name", ["15-amd64", "14-powerpc64", "12.1-i386", "15-arm"])
def test_processes_of_the_scenario_by_partial_types(name: str) -> None:
    kernel = walkable(name)
    types = partial_types(kernel.names)
    structs = Structs(kernel.structs.read, types, 8 * kernel.structs.word_size, kernel.structs.byteorder)
    whole = kernel.structs
    for type_name in ("proc", "thread"):
        for member, offset in offsets_of(types, type_name).items():
            assert offset == whole.offset(type_name, member)
    # proc_off_p_hash is younger than the others.
    assert set(offsets_of(types, "proc")) == set(PROC) - ({"p_hash"} if name.startswith("12.1") else set())
    assert set(offsets_of(types, "thread")) == set(THREAD)
    allproc = Queue(structs, kernel.address("allproc"), "proc", "p_list")
    assert {one.p_pid: str(one.p_comm) for one in allproc} == {
        one.pid: one.comm for one in SYSTEM.processes if one.state != "zombie"
    }
    assert allproc.problems == []
    init = Object(structs, "proc", int(build_world(name).get("proc", 1)))
    threads = Queue(structs, init.at_("p_threads"), "thread", "td_plist")
    expected = next(one for one in SYSTEM.processes if one.pid == 1).threads
    assert [one.td_tid for one in threads] == [one.tid for one in expected]


@pytest.mark.parametrize("real", DUMPS, ids=lambda real: real.name)
def test_processes_of_the_real_dumps(real: Real, real_file: RealFile) -> None:
    with real_file(real.kernel).open("rb") as stream:
        symbols = KernelFile(stream, real.kernel).symbols
    dump = kvm.open(real_file(real.name), symbols={one.name: one.value for one in symbols})
    empty = Structs(dump.kernel.read, Types.empty(real.pointer_size, "little"), 8 * real.pointer_size, "little")
    types = partial_types(Names(symbols, empty))
    structs = Structs(dump.kernel.read, types, 8 * real.pointer_size, "little")
    assert offsets_of(types, "proc")["p_pid"] == real.symbols["proc_off_p_pid"].value
    assert offsets_of(types, "thread")["td_oncpu"] == real.exported_offsets["thread_off_td_oncpu"]
    found = []
    for proc in Queue(structs, real.symbols["allproc"].va, "proc", "p_list", check_back=False):
        found.append((proc.p_pid, str(proc.p_comm), proc.p_threads.tqh_first.td_tid))
    assert found == [tuple(one) for one in real.processes]
