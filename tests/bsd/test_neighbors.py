"""Neighbours of IPv4 and IPv6: as they are, in tables that are hidden, and in tables that lead astray."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.bsd.damage import Damage
from tests.bsd.kernel_variants import NOWHERE, nowhere, without_types
from tests.bsd.network_truth import (
    BOOT,
    JAILS,
    NONE,
    SHAPES,
    UPTIME,
    shown_neighbor,
    sound,
    split,
    vnet,
    vnet_text,
    without_vimage,
)
from tests.scenario.kernels import build_world
from tests.scenario.model import Neighbor as Truth
from tests.scenario.network_shapes import family_of
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from tests.writers.objects import Object
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.neighbor import Neighbor, neighbors
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.stacks import chosen_stacks

BY_ADDRESS = {item.address: item for item in SYSTEM.neighbors}


def walk(kernel: Kernel) -> tuple[dict[str, Neighbor], list[Problem]]:
    """Neighbours by their address without its scope."""
    found, problems = split(neighbors(kernel, kernel.vnets()))
    shown = {str(one.text).partition("%")[0]: one for one in found}
    assert len(shown) == len(found)
    return shown, problems


def entry(kernel: str, item: Truth) -> Object:
    found: Object = build_world(kernel).get("llentry", (item.vnet, item.interface, item.address))
    return found


# The truth


def test_every_neighbor_is_there(kernel: str) -> None:
    walked = walkable(kernel)
    found = sound(neighbors(walked, walked.vnets()))
    assert len(found) == len(SYSTEM.neighbors)
    by_address = {one.address: one for one in found}
    for item in SYSTEM.neighbors:
        one = by_address[int(entry(kernel, item))]
        assert (one.vnet, one.jails) == (vnet(kernel, item.vnet), JAILS[item.vnet])
        assert one.family == ("inet" if family_of(item.address) == 2 else "inet6")
        assert one.text == shown_neighbor(item)
        assert one.link_address == (item.link_address or NONE)
        assert (one.interface, one.state) == (item.interface, item.state)
        assert one.seconds_left == (item.expire - UPTIME if item.expire else NONE)
        assert one.expires == (BOOT + timedelta(seconds=item.expire) if item.expire else NONE)
        assert one.used is NONE
        assert one.flags == (("static", "own") if item.state == "permanent" else ())
        assert one.notes == ()


@pytest.mark.parametrize("kernel", SHAPES, scope="session")
@pytest.mark.parametrize("jid", [0, 2])
def test_of_one_vnet(kernel: str, jid: int) -> None:
    walked = walkable(kernel)
    found = sound(neighbors(walked, chosen_stacks(walked, str(jid))))
    assert {one.text for one in found} == {shown_neighbor(item) for item in SYSTEM.neighbors if item.vnet == jid}


def test_a_kernel_without_types(kernel: str) -> None:
    walked = without_types(kernel)
    text = "the types of this kernel lack lltable.llt_link, lltable.lle_head, llentry.lle_next; "
    text += "a kernel file with type information (--freebsd-kernel) would tell them"
    assert list(neighbors(walked, walked.vnets())) == [Problem("lltables", text)]


# What is remarkable: a few kernels


@pytest.fixture(scope="module", params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def damage(name: str) -> Damage:
    return Damage(name)


def where(damage: Damage, family: str = "inet", interface: str = "vtnet0", jid: int = 0) -> str:
    return f"lltable {family} of {interface} of {vnet_text(damage.name, jid)}"


def of(damage: Damage, address: str) -> Object:
    return entry(damage.name, BY_ADDRESS[address])


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0x8, ()),
        (0x8 | 0x20, ("published",)),
        (0x8 | 0x10, ("redirect",)),
        (0x8 | 0x1, ("deleted",)),
        (0x8 | 0x2 | 0x20, ("static", "published")),
        (0xFFFF, ("deleted", "static", "own", "published", "child", "redirect")),
    ],
)
def test_flags(damage: Damage, flags: int, names: tuple[str, ...]) -> None:
    damage.set(of(damage, "192.0.2.1"), "la_flags", flags, 2)
    one = walk(damage.kernel())[0]["192.0.2.1"]
    assert one.flags == names
    assert one.state == ("permanent" if "static" in names else "reachable")
    assert (one.seconds_left is NONE) == ("static" in names)


@pytest.mark.parametrize(
    ("address", "state", "text"),
    [
        ("192.0.2.1", 2, "verify"),
        ("192.0.2.1", 9, "9"),
        ("fe80::fe", 3, "delay"),
        ("fe80::fe", 4, "probe"),
        ("fe80::fe", -2, "no state"),
    ],
)
def test_states(damage: Damage, address: str, state: int, text: str) -> None:
    damage.set(of(damage, address), "ln_state", state, 2)
    assert walk(damage.kernel())[0][address].state == text


def test_what_expired(damage: Damage) -> None:
    size = damage.types.size(damage.types.member("llentry", "la_expire").type)
    damage.set(of(damage, "192.0.2.1"), "la_expire", 1000, size)
    one = walk(damage.kernel())[0]["192.0.2.1"]
    assert (one.seconds_left, one.expires) == (1000 - UPTIME, BOOT + timedelta(seconds=1000))


def test_a_stale_entry_stays_a_while(damage: Damage) -> None:
    item = of(damage, "fe80::fe")
    size = damage.types.size(damage.types.member("llentry", "lle_remtime").type)
    damage.set(item, "lle_remtime", 500 * walkable(damage.name).integer("hz"), size)
    assert walk(damage.kernel())[0]["fe80::fe"].seconds_left == 86_400 + 500 - UPTIME


def test_when_it_was_used(damage: Damage) -> None:
    item = of(damage, "2001:db8::1")
    damage.set(item, "lle_hittime", 1190, damage.types.size(damage.types.member("llentry", "lle_hittime").type))
    damage.set(item, "ln_router", 1, 2)
    damage.set(item, "la_numheld", 3, 4)
    one = walk(damage.kernel())[0]["2001:db8::1"]
    assert one.used == BOOT + timedelta(seconds=1190)
    assert one.flags == ("router",)
    assert one.notes == ("3 packets wait for it",)


# Hidden and damaged


def table_of(damage: Damage, family: int, interface: str = "vtnet0", jid: int = 0) -> Object:
    found: Object = damage.world.get("lltable", (jid, interface, family))
    return found


def test_a_table_that_the_list_lacks(damage: Damage) -> None:
    gone = table_of(damage, 2)
    before = table_of(damage, 28)  # The youngest is the first.
    assert damage.pointer(damage.at(before, "llt_link")) == int(gone)
    damage.set(before, "llt_link", damage.pointer(damage.at(gone, "llt_link")))
    shown, problems = walk(damage.kernel())
    assert problems == []
    assert set(shown) == set(BY_ADDRESS)
    note = "hidden: its table is not on lltables, known by vtnet0"
    hidden = {address for address, one in shown.items() if one.notes}
    assert hidden == {"192.0.2.1", "192.0.2.77", "192.0.2.10"}
    assert {one.notes for one in shown.values()} == {(), (note,)}


def test_a_loop_of_tables(damage: Damage) -> None:
    last, first = table_of(damage, 2), damage.pointer(int(damage.world.vnet_symbol(0, "lltables")))
    damage.set(last, "llt_link", first)
    shown, problems = walk(damage.kernel())
    assert set(shown) == set(BY_ADDRESS)
    assert problems == [
        Problem(f"lltables of {vnet_text(damage.name, 0)}", f"loops back to {first:#x} after 6 elements")
    ]
    assert {one.notes for one in shown.values()} == {()}


def test_tables_that_lead_nowhere(damage: Damage) -> None:
    damage.put(int(damage.world.vnet_symbol(0, "lltables")), NOWHERE)
    shown, problems = walk(damage.kernel())
    text = f"ends after 1 elements where address {NOWHERE:#x} {nowhere(damage.name)}"
    assert problems == [Problem(f"lltables of {vnet_text(damage.name, 0)}", text)]
    note = "its table is not reached on lltables, known by vtnet0"
    assert {address: one.notes for address, one in shown.items() if one.notes} == {
        item.address: (note,) for item in SYSTEM.neighbors if item.vnet == 0
    }


def test_a_loop_in_a_chain(damage: Damage) -> None:
    item = of(damage, "192.0.2.77")
    damage.set(item, "lle_next", int(item))
    shown, problems = walk(damage.kernel())
    assert set(shown) == set(BY_ADDRESS)
    assert len(problems) == 1
    assert problems[0].where == where(damage)
    assert problems[0].text.partition(": ")[2] == f"loops back to {int(item):#x} after 1 elements"


@pytest.mark.parametrize("size", [-1, 1 << 20, (1 << 31) - 1])
def test_an_absurd_number_of_chains(damage: Damage, size: int) -> None:
    damage.set(table_of(damage, 2), "llt_hsize", size, 4)
    shown, problems = walk(damage.kernel())
    assert set(shown) == {item.address for item in SYSTEM.neighbors if item.vnet or family_of(item.address) == 28}
    assert problems == [Problem(where(damage), f"{size} hash chains are impossible")]


def test_chains_that_lead_nowhere(damage: Damage) -> None:
    damage.set(table_of(damage, 2), "lle_head", NOWHERE)
    shown, problems = walk(damage.kernel())
    assert set(shown) == {item.address for item in SYSTEM.neighbors if item.vnet or family_of(item.address) == 28}
    assert {problem.where for problem in problems} == {where(damage)}
    assert problems[0].text == f"chain 0: ends after 0 elements where address {NOWHERE:#x} {nowhere(damage.name)}"


def test_an_interface_that_leads_nowhere(damage: Damage) -> None:
    damage.set(table_of(damage, 2), "llt_ifp", NOWHERE)
    shown, problems = walk(damage.kernel())
    assert problems == []
    one = shown["192.0.2.1"]
    assert (one.interface, one.link_address) == (Absent.UNREADABLE, "58:9c:fc:00:00:fe")


def test_an_absurd_length_of_link_addresses(damage: Damage) -> None:
    damage.set(damage.world.get("ifnet", (0, "vtnet0")), "if_addrlen", 255, 1)
    assert walk(damage.kernel())[0]["192.0.2.1"].link_address == "58:9c:fc:00:00:fe"


def test_a_link_address_that_leads_nowhere(damage: Damage) -> None:
    damage.set(of(damage, "192.0.2.1"), "ll_addr", NOWHERE)
    one = walk(damage.kernel())[0]["192.0.2.1"]
    assert one.link_address is Absent.UNREADABLE
    assert one.notes == (f"ll_addr cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}",)


def test_an_entry_of_another_table(damage: Damage) -> None:
    other = table_of(damage, 2, "lo0")
    damage.set(of(damage, "192.0.2.1"), "lle_tbl", int(other))
    note = f"its lle_tbl is {int(other):#x}, not {int(table_of(damage, 2)):#x}"
    assert walk(damage.kernel())[0]["192.0.2.1"].notes == (note,)


def test_a_table_of_another_family(damage: Damage) -> None:
    size = damage.types.size(damage.types.member("lltable", "llt_af").type)
    damage.set(table_of(damage, 2, "epair0b", 2), "llt_af", 77, size)
    shown, problems = walk(damage.kernel())
    assert problems == []
    one = shown["ac100001" + 24 * "0"]
    assert (one.family, one.interface, one.link_address) == ("af 77", "epair0b", "02:aa:bb:cc:dd:0a")


def test_a_kernel_without_vimage(name: str) -> None:
    kernel = without_vimage(name)
    found = sound(neighbors(kernel, kernel.vnets()))
    assert {(one.vnet, one.text) for one in found} == {
        (NONE, shown_neighbor(item)) for item in SYSTEM.neighbors if item.vnet == 0
    }
    assert {one.notes for one in found} == {()}
