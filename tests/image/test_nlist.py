"""Names resolve as kvm_nlist resolves them, for every vnet, CPU and module of the scenario."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.scenario.kernels import LAYOUTS, build_world, load
from tests.scenario.system import SYSTEM
from tests.scenario.world import World
from tests.scenario_dumps import damaged, symbols_of, walkable
from tests.writers.objects import addressof
from volatility3_freebsd_kvm.exceptions import NotMappedError, SymbolError
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.types import Types
from volatility3_freebsd_kvm.image.vnet import VNET_MAGICS

VNET_JAILS = {0: (0, 1), 2: (2, 3)}
"""Jail whose vnet it is, and all that use it."""
EPAIR = next(file for file in SYSTEM.linker_files if file.name == "if_epair.ko")


@pytest.fixture
def names(kernel: str) -> Names:
    return walkable(kernel).names


@pytest.fixture
def world(kernel: str) -> World:
    return build_world(kernel)


def variables(kernel: str, prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in load(kernel)[0].variables if name.startswith(prefix)]


def test_every_plain_symbol_has_its_value(kernel: str, names: Names) -> None:
    symbols = {name: load(kernel)[0].symbols[name] for name in names.symbols.names()}
    assert len(symbols) > 100
    found = names.nlist(symbols)
    assert {one.name: one.address for one in found} == symbols
    assert {one.kind for one in found} == {"plain"}


def test_every_vnet_variable_is_each_vnets_own(kernel: str, names: Names, world: World) -> None:
    wanted = [name for name in variables(kernel, "vnet_entry_") if name not in names.symbols]
    assert len(wanted) > 20
    for jid, jids in VNET_JAILS.items():
        expected = {name: addressof(world.vnet_symbol(jid, name)) for name in wanted}
        for which in (*jids, *(jail.name for jail in SYSTEM.jails if jail.jid in jids), world.get("vnet", jid)):
            chosen = which if isinstance(which, int | str) else addressof(which)
            found = names.nlist(wanted, vnet=chosen)
            assert {one.name: one.address for one in found} == expected
            assert {(one.kind, one.symbol) for one in found} == {("vnet", f"vnet_entry_{name}") for name in wanted}
    assert {one.name: one.address for one in names.nlist(wanted)} == {
        name: addressof(world.vnet_symbol(0, name)) for name in wanted
    }


def test_every_dpcpu_variable_is_each_cpus_own(kernel: str, names: Names, world: World) -> None:
    others = {*names.symbols.names(), *variables(kernel, "vnet_entry_")}
    wanted = [name for name in variables(kernel, "pcpu_entry_") if name not in others]
    if kernel in LAYOUTS:
        pytest.skip("this kernel has no DPCPU variables of its own but the room for modules")
    assert wanted
    for cpu in SYSTEM.cpus:
        found = names.nlist(wanted, cpu=cpu.cpuid)
        assert {one.name: one.address for one in found} == {
            name: addressof(world.dpcpu_symbol(cpu.cpuid, name)) for name in wanted
        }
        assert {(one.kind, one.cpu) for one in found} == {("dpcpu", cpu.cpuid)}
    assert names.nlist(wanted) == names.nlist(wanted, cpu=0)


def test_a_modules_symbols_and_variables_are_found(names: Names, world: World) -> None:
    base = int(world.get("linker_file", EPAIR.id).address)
    for symbol in EPAIR.symbols:
        # The kernel itself has functions of that name here, and they win.
        unqualified = [symbol.name] if symbol.name not in names.symbols else []
        for asked in (*unqualified, f"if_epair.ko!{symbol.name}", f"if_epair!{symbol.name}"):
            found = names.nlist([asked])[0]
            assert (found.kind, found.module, found.address) == ("kld", "if_epair.ko", base + symbol.offset)
            assert found.size == symbol.size
    for kind, values, choices in (
        ("vnet", EPAIR.vnet_variables, [{"vnet": jid} for jid in VNET_JAILS]),
        ("dpcpu", EPAIR.dpcpu_variables, [{"cpu": cpu.cpuid} for cpu in SYSTEM.cpus]),
    ):
        for name, value in values.items():
            places = set()
            for choice in choices:
                found = names.nlist([name], **choice)[0]
                assert (found.kind, found.module) == (kind, "if_epair.ko")
                assert found.address is not None
                assert names.structs.uint(found.address, 4) == value
                places.add(found.address)
            assert len(places) == len(choices)


def test_an_explicit_prefix_gives_the_template(kernel: str, names: Names) -> None:
    symbols = load(kernel)[0].symbols
    for name in ("vnet_entry_ifnet", next(name for name in symbols if name.startswith("pcpu_entry_"))):
        found = names.nlist([name], vnet=2, cpu=1)[0]
        assert (found.kind, found.address) == ("plain", symbols[name])


def test_one_leading_underscore_too_many_is_forgiven(names: Names) -> None:
    plain, vnet, twice = names.nlist(["_hz", "_ifnet", "__hz"])
    assert (plain.symbol, plain.address) == ("hz", names.value("hz"))
    assert vnet.symbol == "vnet_entry_ifnet"
    assert not twice.kind


def test_a_name_that_is_nowhere_is_unresolved(names: Names) -> None:
    found = names.nlist(["no_such_name", "if_epair.ko!no_such_name", "no_such.ko!hz"])
    assert [one.kind for one in found] == ["", "", ""]
    assert [one.address for one in found] == [None, None, None]
    assert found[0].note == "the kernel and its modules have no symbol no_such_name"
    assert found[1].note == "module if_epair.ko has no symbol no_such_name"
    with pytest.raises(SymbolError, match="the kernel and its modules have no symbol no_such_name"):
        names.address("no_such_name")


def test_a_vnet_or_cpu_that_is_nowhere_is_refused_with_those_that_are(names: Names) -> None:
    first = names.vnets[0].address
    with pytest.raises(SymbolError, match=f"there is no vnet 9; there are: {first:#x} \\(host, jail 1 web\\), "):
        names.nlist(["ifnet"], vnet=9)
    with pytest.raises(SymbolError, match="CPU 64 has no per-CPU data; those that have: 0, 1, 2, 3"):
        names.nlist(["ifnet"], cpu=64)


def test_plain_symbols_win_over_vnet_ones_and_those_over_dpcpu_ones(kernel: str, names: Names) -> None:
    entry = next(name for name in names.symbols.names() if name.startswith("pcpu_entry_"))
    template = names.value(entry)
    assert template is not None
    extra = [
        Symbol("twice", 0x1234),
        Symbol("vnet_entry_twice", names.value("vnet_entry_ifnet") or 0),
        Symbol("vnet_entry_both", names.value("vnet_entry_ifnet") or 0),
        Symbol("pcpu_entry_both", template),
        Symbol("vnet_entry_outside", 0x4321),
        Symbol("vnet_entry_null", 0),
    ]
    resolver = Names(SymbolTable([*names.symbols, *extra]), names.structs, names.kerndisp)
    twice, both, outside, null = resolver.nlist(["twice", "both", "outside", "null"])
    assert (twice.kind, twice.address) == ("plain", 0x1234)
    assert (both.kind, both.address) == ("vnet", names.address("ifnet"))
    # Only what lies in the set is rebased.
    assert (outside.kind, outside.address) == ("vnet", 0x4321)
    assert (null.kind, null.address) == ("vnet", 0)


def test_of_symbols_with_one_name_the_last_counts() -> None:
    table = SymbolTable([Symbol("one", 1), Symbol("one", 2), Symbol("_one", 3), Symbol("two", 4)])
    resolver = Names(table, Structs(_nothing, Types.empty(8, "little"), 64, "little"))
    assert [one.address for one in resolver.nlist(["one", "_one", "two", "_two"])] == [2, 3, 4, 4]


def test_addresses_lead_back_to_names(kernel: str, names: Names, world: World) -> None:
    symbols = symbols_of(kernel)
    for name in ("hz", "allproc", "prison0", "vnet_entry_ifnet"):
        symbol = symbols.get(name)
        assert symbol is not None
        found = names.lookup(symbol.value + symbol.size - 1)
        assert found is not None
        assert (found.module, found.symbol.value, found.offset) == ("kernel", symbol.value, symbol.size - 1)
    start = EPAIR.symbols[0]
    address = names.address(f"if_epair.ko!{start.name}")
    assert str(names.lookup(address)) == f"if_epair.ko!{start.name}"
    assert str(names.lookup(address + 4)) == f"if_epair.ko!{start.name}+0x4"
    assert names.lookup(address + start.size + 0x1000) is None
    copy = names.lookup(names.address("ifnet", vnet=2) + 1)
    assert copy is not None
    assert (str(copy), copy.vnet) == ("kernel!vnet_entry_ifnet+0x1", names.vnet(2))
    of_cpu = names.lookup(names.address("epair_dpcpu", cpu=3))
    assert of_cpu is not None
    assert of_cpu.cpu == 3


def test_vnets_are_known_without_types(kernel: str, names: Names, world: World) -> None:
    """Known layouts of `struct vnet` serve, where the magic number and the base agree."""
    structs = names.structs
    bare = Structs(
        structs.read, Types.empty(structs.word_size, structs.byteorder), 8 * structs.word_size, structs.byteorder
    )
    found = Names(names.symbols, bare).vnets
    assert [(one.address, one.data_base, one.jails) for one in found] == [
        (one.address, one.data_base, ()) for one in names.vnets
    ]
    assert [one.address for one in found] == [addressof(world.get("vnet", jid)) for jid in VNET_JAILS]


def test_a_vnet_whose_base_does_not_fit_says_so(kernel: str, world: World) -> None:
    vnet = world.get("vnet", 2)
    types = world.memory.types
    at = addressof(vnet) + types.offsetof("vnet", "vnet_data_base")
    word = world.memory.read(at, types.pointer_size)
    changed = damaged(kernel, {at: bytes([word[0] ^ 0x10, *word[1:-1], word[-1] ^ 0x10])}).names
    assert [one.problem for one in changed.vnets] == [
        "",
        "vnet_data_base is not vnet_data_mem less the start of set_vnet",
    ]


def test_what_has_no_magic_number_is_no_vnet(kernel: str, world: World) -> None:
    at = addressof(world.get("vnet", 2)) + world.memory.types.offsetof("vnet", "vnet_magic_n")
    assert int.from_bytes(world.memory.read(at, 4), world.memory.machine.byteorder) in VNET_MAGICS
    assert len(damaged(kernel, {at: b"\0\0\0\0"}).names.vnets) == 1


def test_without_templates_vnet_variables_say_what_is_missing(names: Names) -> None:
    symbols = SymbolTable(one for one in names.symbols if "set_vnet" not in one.name)
    found = Names(symbols, names.structs).nlist(["ifnet"])[0]
    assert (found.kind, found.address) == ("vnet", None)
    assert found.note == "the kernel's symbols do not say where the VNET templates are (set_vnet)"


def test_a_displaced_kernels_variables_are_rebased_from_where_it_runs() -> None:
    """powerpc64: symbols keep linked values, bases were computed from running ones."""
    linked, displacement, data, word = 0x200000, 0x5000000, 0xC000000000100000, 8
    memory = {
        0x300000: data.to_bytes(8, "big"),
        data + 0x10: VNET_MAGICS[1].to_bytes(4, "big"),
        data + 0x20: (data + 0x1000).to_bytes(8, "big"),
        data + 0x28: (data + 0x1000 - linked - displacement).to_bytes(8, "big"),
    }

    def read(address: int, length: int) -> bytes:
        if len(memory.get(address, b"")) < length:
            raise NotMappedError(address)
        return memory[address][:length]

    symbols = SymbolTable(
        [
            Symbol("__start_set_vnet", linked),
            Symbol("__stop_set_vnet", linked + 0x100),
            Symbol("vnet_entry_one", linked + 0x40, 8, 1),
            Symbol("vnet0", 0x300000),
        ]
    )
    names = Names(symbols, Structs(read, Types.empty(word, "big"), 64, "big"), displacement)
    found = names.nlist(["one"])[0]
    assert (found.kind, found.template, found.address) == ("vnet", linked + 0x40, data + 0x1040)
    assert names.vnets[0].problem == ""
    copy = names.lookup(data + 0x1044)
    assert copy is not None
    assert str(copy) == "kernel!vnet_entry_one+0x4"
    assert str(replace(copy, offset=0)) == "kernel!vnet_entry_one"


def _nothing(address: int, length: int) -> bytes:
    raise NotMappedError(address)
