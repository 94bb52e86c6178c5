"""Counters that every CPU keeps: where their copies are on each architecture and release, and sums of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bsd.damage import Damage
from tests.bsd.network_truth import SHAPES, vnet
from tests.bsd.test_interfaces import look
from volatility3_freebsd_kvm.bsd.counter import Counters
from volatility3_freebsd_kvm.bsd.ifnet import Interface
from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.exceptions import AddressError, SymbolError


@pytest.fixture(scope="module", params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def damage(name: str) -> Damage:
    return Damage(name)


def interface_of(damage: Damage) -> Interface:
    return look(damage.kernel())[0][vnet(damage.name, 0), "vtnet0"]


def stored_counter(damage: Damage) -> int:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    return damage.pointer(damage.at(interface, "if_counters"))


def test_a_counter_that_is_not_dumped(damage: Damage) -> None:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    damage.put(damage.at(interface, "if_counters"), 0)
    one = interface_of(damage)
    assert one.counts["ipackets"] is Absent.UNREADABLE
    assert one.counts["opackets"] == 65_432


def test_sums_wrap(damage: Damage) -> None:
    base = stored_counter(damage)
    for cpu, value in enumerate((5, (1 << 64) - 3, 0, 1)):
        damage.put(base + cpu * damage.world.memory.machine.page_size, value, 8)
    assert interface_of(damage).counts["ipackets"] == 3


def test_a_counter_before_there_is_memory(damage: Damage) -> None:
    kernel = damage.kernel()
    first = Counters(kernel)._pcpu[0]
    early = first + kernel.structs.offset("pcpu", "pc_early_dummy_counter")
    with pytest.raises(SymbolError, match=r"^the counter was not allocated yet$"):
        Counters(kernel).fetch(early)
    with pytest.raises(AddressError, match="NULL pointer"):
        Counters(kernel).fetch(0)


class TestCountersOfAmd64:
    """Since 13.0 they are relative to the first ``struct pcpu``."""

    NAMES = ("14-amd64", "15-amd64")

    @pytest.mark.parametrize("name", NAMES)
    def test_relative(self, name: str) -> None:
        damage = Damage(name)
        stored = stored_counter(damage)
        first = damage.pointer(int(damage.world.symbol("__pcpu")))
        assert damage.world.memory.read((stored + first) % (1 << 64), 8) != bytes(8)
        assert Counters(damage.kernel()).fetch(stored) == 123_456

    @pytest.mark.parametrize("name", NAMES)
    def test_a_kernel_that_stores_addresses(self, name: str) -> None:
        damage = Damage(name)
        first = damage.pointer(int(damage.world.symbol("__pcpu")))
        assert Counters(damage.kernel()).fetch((stored_counter(damage) + first) % (1 << 64)) == 123_456

    @pytest.mark.parametrize("name", NAMES)
    def test_a_kernel_of_which_the_types_are_not_known(self, name: str) -> None:
        damage = Damage(name)
        kernel = replace(damage.kernel(), variables={})
        assert Counters(kernel).fetch(stored_counter(damage)) == 123_456

    @pytest.mark.parametrize("name", NAMES)
    def test_one_kind_of_counter_stays_so(self, name: str) -> None:
        damage = Damage(name)
        counters = Counters(damage.kernel())
        stored = stored_counter(damage)
        first = damage.pointer(int(damage.world.symbol("__pcpu")))
        assert counters.fetch(stored) == 123_456
        with pytest.raises(AddressError):
            counters.fetch((stored + first) % (1 << 64))
