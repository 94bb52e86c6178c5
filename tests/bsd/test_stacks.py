"""Choosing network stacks by vnet and by jail."""

from __future__ import annotations

import pytest

from tests.bsd.network_truth import SHAPES, interfaces, sound, vnet
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd import ifnet
from volatility3_freebsd_kvm.bsd.stacks import chosen_stacks
from volatility3_freebsd_kvm.exceptions import SymbolError

pytestmark = pytest.mark.parametrize("kernel", SHAPES, scope="session")


@pytest.mark.parametrize(
    ("which", "jid"), [("db", 2), ("2", 2), ("3", 2), ("db.pg", 2), ("0", 0), ("1", 0), ("web", 0)]
)
def test_by_vnet_and_by_jail(kernel: str, which: str, jid: int) -> None:
    walked = walkable(kernel)
    wanted = [item.name for item in interfaces() if item.vnet == jid]
    for stacks in (chosen_stacks(walked, which), chosen_stacks(walked, jail=which)):
        assert [one.name for one in sound(ifnet.interfaces(walked, stacks))] == wanted


def test_by_address_of_the_vnet(kernel: str) -> None:
    walked = walkable(kernel)
    stacks = chosen_stacks(walked, hex(vnet(kernel, 2)))
    assert [one.name for one in sound(ifnet.interfaces(walked, stacks))] == ["lo0", "epair0b"]


def test_a_jail_that_is_not_in_the_vnet(kernel: str) -> None:
    assert chosen_stacks(walkable(kernel), "db", "web") == []


def test_none_of_that_name(kernel: str) -> None:
    with pytest.raises(SymbolError, match=r"^there is no jail nix; there are: 0 0, 1 web, 2 db, 3 db.pg$"):
        chosen_stacks(walkable(kernel), jail="nix")
    with pytest.raises(SymbolError, match=r"^there is no vnet nix; there are: 0x"):
        chosen_stacks(walkable(kernel), "nix")
