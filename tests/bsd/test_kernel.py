"""The kernel that walkers start from: types, variables by name, vnets and CPUs with variables of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bsd.kernel_variants import Patch, nothing_known, nowhere, with_symbols, without_symbols
from tests.fake_memory import base
from tests.scenario.kernels import LAYOUTS, build_world
from tests.scenario.system import SYSTEM
from tests.scenario.world import World
from tests.scenario_dumps import damaged, walkable
from tests.writers.objects import addressof
from volatility3_freebsd_kvm.bsd.kernel import Kernel, View
from volatility3_freebsd_kvm.bsd.objects import Object, Pointer
from volatility3_freebsd_kvm.exceptions import NotMappedError, SymbolError

EPAIR = next(file for file in SYSTEM.linker_files if file.name == "if_epair.ko")
UNKNOWN = "the kernel and its modules have no symbol no_such_name"
SOME = "15-amd64"


@pytest.fixture
def whole(kernel: str) -> Kernel:
    return walkable(kernel)


@pytest.fixture
def world(kernel: str) -> World:
    return build_world(kernel)


# Types


def test_types_can_be_asked_for(whole: Kernel) -> None:
    assert whole.has_type("proc")
    assert not whole.has_type("no_such_type")
    assert whole.has_member("proc", "p_list.le_next")
    assert not whole.has_member("proc", "p_list.no_such_member")
    assert whole.object("proc", 0x1000) == Object(whole.structs, "proc", 0x1000)


def test_names_of_constants(whole: Kernel) -> None:
    assert whole.constants("uio_rw") == {0: "UIO_READ", 1: "UIO_WRITE"}
    assert whole.constants("no_such_enum") == {}


# Variables


def test_variables_by_name(whole: Kernel, world: World) -> None:
    assert whole.has("hz")
    assert whole.integer("hz") == 1000
    proc0 = whole.variable("proc0", "proc")
    assert (proc0.address_, proc0.p_pid, str(proc0.p_comm)) == (whole.address("proc0"), 0, "kernel")
    first = whole.pointer("allproc", "proc")
    assert isinstance(first, Pointer)
    assert first in {addressof(proc) for proc in world.all("proc").values()}
    assert whole.pointer("allproc") == first


def test_integers_have_the_size_and_sign_that_are_asked_for() -> None:
    kernel = walkable(SOME)
    place = kernel.address("hz")
    changed = with_symbols(damaged(SOME, {place: b"\xfe\xff\xff\xff"}), {"same_place": place})
    assert changed.integer("same_place") == -2
    assert changed.integer("same_place", signed=False) == 0xFFFFFFFE
    assert changed.integer("same_place", 2) == -2
    assert changed.integer("same_place", 1, signed=False) == 0xFE


def test_variables_of_known_type_need_no_other(kernel: str, whole: Kernel) -> None:
    known = replace(whole, variables={"hz": base("int")})
    assert known.variable("hz") == 1000
    with pytest.raises(SymbolError, match=r"^the type of allproc is not known$"):
        known.variable("allproc")


def test_a_modules_variable_has_not_the_type_of_the_kernels_namesake() -> None:
    kernel = walkable(SOME)
    name = EPAIR.symbols[0].name
    typed = replace(kernel, variables={name: base("int"), "vnet_entry_ifnet": base("int")})
    assert typed.has(f"if_epair.ko!{name}")
    with pytest.raises(SymbolError, match=f"^the type of if_epair.ko!{name} is not known$"):
        typed.variable(f"if_epair.ko!{name}")
    assert typed.variable("ifnet") == kernel.integer("ifnet")


def test_names_that_are_nowhere(whole: Kernel) -> None:
    assert not whole.has("no_such_name")
    for get in (whole.address, whole.variable, whole.integer, whole.pointer):
        with pytest.raises(SymbolError, match=f"^{UNKNOWN}$"):
            get("no_such_name")


def test_variables_that_cannot_be_read(kernel: str) -> None:
    gone = with_symbols(walkable(kernel), {"gone": 0x10}, size=4)
    assert gone.variable("gone", "proc").address_ == 0x10
    for get in (gone.integer, gone.pointer):
        with pytest.raises(
            LookupError, match=r"^address 0x10 " + nowhere(kernel).replace("(", r"\(").replace(")", r"\)")
        ):
            get("gone")
    with pytest.raises(LookupError):
        replace(gone, variables={"gone": base("int")}).variable("gone")


def test_text(whole: Kernel) -> None:
    assert whole.text(whole.address("version")).startswith("FreeBSD ")
    assert whole.text(whole.address("version"), 7) == "FreeBSD"
    with pytest.raises(LookupError):
        whole.text(0x10)


# Vnets and CPUs


def test_each_vnet_has_its_own_variables(whole: Kernel, world: World) -> None:
    views = whole.vnets()
    assert [view.vnet.jids for view in views if view.vnet] == [(0, 1), (2, 3)]
    for view, jid in zip(views, (0, 2), strict=True):
        assert view.address("ifnet") == addressof(world.vnet_symbol(jid, "ifnet"))
        assert view.pointer("ifnet", "ifnet").if_index >= 1
        assert view.address("hz") == whole.address("hz")
        assert not view.has("no_such_name")
        assert view.find("ifnet").kind == "vnet"
    assert whole.address("ifnet") == views[0].address("ifnet")
    assert whole.names.vnet_problems == ()


@pytest.mark.parametrize("which", [2, 3, "2", "db", "db.pg"])
def test_a_vnet_is_chosen_by_any_of_its_jails(whole: Kernel, world: World, which: int | str) -> None:
    assert whole.vnet(which).address("ifnet") == addressof(world.vnet_symbol(2, "ifnet"))
    assert whole.vnet().address("ifnet") == whole.vnet(0).address("ifnet") == whole.vnet("web").address("ifnet")
    by_address = addressof(world.get("vnet", 2))
    assert whole.vnet(by_address) == whole.vnet(hex(by_address)) == whole.vnet(2)


@pytest.mark.parametrize("which", [9, "9", "no jail", 0x10, -1, ""])
def test_a_vnet_that_is_not_there(whole: Kernel, which: int | str) -> None:
    with pytest.raises(
        SymbolError, match=f"^there is no vnet {which}; there are: 0x[0-9a-f]+ \\(host, jail 1 web\\), "
    ):
        whole.vnet(which)


def test_each_cpu_has_its_own_variables(kernel: str, whole: Kernel, world: World) -> None:
    views = whole.cpus()
    assert [view.cpu for view in views] == [0, 1, 2, 3]
    assert whole.cpu(2) == views[2]
    with pytest.raises(SymbolError, match=r"^CPU 4 has no per-CPU data; those that have: 0, 1, 2, 3$"):
        whole.cpu(4)
    if kernel not in LAYOUTS:
        name = next(one.name for one in whole.names.symbols if one.name.startswith("pcpu_entry_"))
        short = name.removeprefix("pcpu_entry_")
        found = [view.address(short) for view in views]
        assert found == [addressof(world.dpcpu_symbol(cpu, short)) for cpu in range(4)]
        assert whole.address(short) == found[0]


def test_a_kernel_without_vimage_has_one_view_of_plain_variables() -> None:
    plain = without_symbols(walkable(SOME), "__start_set_vnet", "__stop_set_vnet", "vnet0", "vnet_head")
    assert plain.vnets() == [View(plain)]
    assert plain.vnet() == View(plain)
    assert plain.vnets()[0].integer("hz") == 1000
    expected = r"^there is no vnet db; there are: none \(a kernel without VIMAGE, or not readable\)$"
    with pytest.raises(SymbolError, match=expected):
        plain.vnet("db")


def test_a_kernel_of_which_nothing_is_known(kernel: str) -> None:
    bare = nothing_known(kernel)
    assert (bare.has("hz"), bare.has_type("proc"), bare.cpus(), bare.constants("uio_rw")) == (False, False, [], {})
    assert bare.vnets() == [View(bare)]
    assert bare.symbol_at(0x1000) is None
    with pytest.raises(SymbolError, match=r"^CPU 0 has no per-CPU data; those that have: none \(not readable\)$"):
        bare.cpu(0)


def test_addresses_lead_back_to_names(whole: Kernel) -> None:
    symbol = whole.names.symbols.get("prison0")
    assert symbol is not None
    assert str(whole.symbol_at(symbol.value + 2)) == "kernel!prison0+0x2"
    assert whole.symbol_at(0x10) is None


# Damaged lists of vnets


def link_of(patch: Patch, jid: int) -> int:
    return addressof(patch.world.get("vnet", jid)) + patch.types.offsetof("vnet", "vnet_le")


def test_a_looped_list_of_vnets(kernel: str) -> None:
    patch = Patch(kernel)
    listed = [vnet.address for vnet in walkable(kernel).names.vnets]
    last = listed[-1]
    jid = 2 if last == addressof(patch.world.get("vnet", 2)) else 0
    names = damaged(kernel, patch.pointer(link_of(patch, jid), last)).names
    assert {vnet.address for vnet in names.vnets} <= set(listed)
    assert [one.split(" after ")[0] for one in names.vnet_problems] == [f"loops back to {last:#x}"]


def test_a_list_of_vnets_that_leads_nowhere(kernel: str) -> None:
    patch = Patch(kernel)
    head = walkable(kernel).address("vnet_head")
    names = damaged(kernel, patch.pointer(head, 0x10)).names
    assert len(names.vnets) == 1
    end, bogus = names.vnet_problems
    assert end.startswith("ends after 1 elements where address 0x")
    assert bogus == "there is no vnet at 0x10: no magic number can be read there"


def test_what_has_no_magic_number_is_told() -> None:
    patch = Patch(SOME)
    address = addressof(patch.world.get("vnet", 2))
    names = damaged(SOME, patch.member("vnet", address, "vnet_magic_n", 0)).names
    assert [vnet.jids for vnet in names.vnets] == [(0, 1)]
    assert names.vnet_problems == (f"there is no vnet at {address:#x}: no magic number can be read there",)


def test_vnets_of_a_kernel_whose_head_cannot_be_read() -> None:
    kernel = with_symbols(walkable(SOME), {"vnet_head": 0x10})
    assert [vnet.jids for vnet in kernel.names.vnets] == [(0, 1)]
    assert kernel.names.vnet_problems == ("ends after 0 elements where address 0x10 is not mapped",)
    with pytest.raises(NotMappedError):
        kernel.pointer("vnet_head")
