"""Routes of every vnet, FIB and family: as they are, hidden, and in trees that lead astray."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import timedelta

import pytest

from tests.bsd.damage import Damage
from tests.bsd.kernel_variants import NOWHERE, nowhere, without_symbols, without_types
from tests.bsd.network_truth import (
    BOOT,
    JAILS,
    NONE,
    SHAPES,
    UPTIME,
    has_nexthops,
    route_family,
    shown_destination,
    shown_gateway,
    sound,
    split,
    vnet,
    vnet_text,
    without_vimage,
)
from tests.scenario.kernels import build_world
from tests.scenario.model import Route as Truth
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from tests.writers.objects import Object
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.radix import MAX_BITS
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.route import Route, routes
from volatility3_freebsd_kvm.bsd.stacks import chosen_stacks

MULTIPATH = next(item for item in SYSTEM.routes if item.multipath)
MTU = {(item.vnet, item.name): item.mtu for item in SYSTEM.interfaces}


def truth(jid: int, fib: int, destination: str) -> Truth:
    return next(one for one in SYSTEM.routes if (one.vnet, one.fib, one.destination) == (jid, fib, destination))


def entry(kernel: str, item: Truth) -> Object:
    found: Object = build_world(kernel).get("rtentry", (item.vnet, item.fib, item.destination))
    return found


def in_tables(items: Iterable[Truth]) -> list[Truth]:
    """By vnet, FIB and family, each table in the order that it is described in."""
    return sorted(items, key=lambda item: (item.vnet, item.fib, route_family(item)))


def walk(kernel: Kernel) -> tuple[dict[int, list[Route]], list[Problem]]:
    """Routes by the address of their entry: several for several nexthops."""
    found, problems = split(routes(kernel, kernel.vnets()))
    shown: dict[int, list[Route]] = {}
    for one in found:
        shown.setdefault(one.address, []).append(one)
    return shown, problems


def hops(kernel: str, item: Truth) -> list[tuple[str, str, int]]:
    """Gateway, interface and weight of each nexthop."""
    more = item.multipath if has_nexthops(kernel) else ()
    return [(item.gateway, item.interface, 1), *more]


# The truth


def test_every_route_is_there(kernel: str) -> None:
    walked = walkable(kernel)
    found = sound(routes(walked, walked.vnets()))
    order = [(one.vnet, one.fib, one.family) for one in found]
    expected = [(vnet(kernel, one.vnet), one.fib, route_family(one)) for one in in_tables(SYSTEM.routes)]
    assert list(dict.fromkeys(order)) == list(dict.fromkeys(expected))
    for item in SYSTEM.routes:
        mine = [one for one in found if one.address == int(entry(kernel, item))]
        assert [(one.gateway, one.interface, one.weight) for one in mine] == [
            (shown_gateway(kernel, item, gateway), name, weight) for gateway, name, weight in hops(kernel, item)
        ]
        for one in mine:
            assert (one.vnet, one.jails, one.fib) == (vnet(kernel, item.vnet), JAILS[item.vnet], item.fib)
            assert (one.family, one.destination) == (route_family(item), shown_destination(item))
            assert one.flags == item.flags
            assert one.mtu == MTU[item.vnet, str(one.interface)]
            assert one.seconds_left == (item.expire - UPTIME if item.expire else NONE)
            assert one.expires == (BOOT + timedelta(seconds=item.expire) if item.expire else NONE)
            assert one.notes == ()
    assert len(found) == sum(len(hops(kernel, item)) for item in SYSTEM.routes)


def test_packets_are_counted(kernel: str) -> None:
    walked = walkable(kernel)
    by_address = {one.address: one for one in sound(routes(walked, walked.vnets()))}
    for item in SYSTEM.routes:
        one = by_address[int(entry(kernel, item))]
        if has_nexthops(kernel):
            assert isinstance(one.nexthop, int)
            assert isinstance(one.used, int)
            # The scenario counts 20 for the first nexthop, 21 for the second, …; a group has a number, too.
            assert one.used - 19 in (one.nexthop, one.nexthop - 1)
        else:
            assert (one.used, one.nexthop) == (10 + len(item.destination), Absent.NOT_AVAILABLE)


def test_sources_are_addresses_of_interfaces(kernel: str) -> None:
    walked = walkable(kernel)
    by_address = {one.address: one for one in sound(routes(walked, walked.vnets()))}
    wanted = {
        "192.0.2.0/24": "192.0.2.10",
        "192.0.2.10": "192.0.2.10",
        "127.0.0.1": "127.0.0.1",
        "10.0.0.0/8": "127.0.0.1",
        "fe80::/64": "fe80::1%vtnet0",
        "default6": "2001:db8::10",
    }
    assert {key: by_address[int(entry(kernel, truth(0, 0, key)))].source for key in wanted} == wanted


def test_groups_of_nexthops(kernel: str) -> None:
    walked = walkable(kernel)
    found = [one for one in sound(routes(walked, walked.vnets())) if isinstance(one.group, int)]
    if not has_nexthops(kernel):
        assert found == []
        return
    assert [one.destination for one in found] == [MULTIPATH.destination] * 2
    assert len({one.group for one in found}) == 1
    assert len({one.nexthop for one in found}) == 2


@pytest.mark.parametrize("kernel", SHAPES, scope="session")
@pytest.mark.parametrize("jid", [0, 2])
def test_of_one_vnet(kernel: str, jid: int) -> None:
    walked = walkable(kernel)
    found = {one.address for one in sound(routes(walked, chosen_stacks(walked, jail=str(jid))))}
    assert found == {int(entry(kernel, item)) for item in SYSTEM.routes if item.vnet == jid}


def test_a_kernel_without_types(kernel: str) -> None:
    walked = without_types(kernel)
    text = "the types of this kernel lack rib_head.head or radix_node_head.rnh_treetop, radix_node.rn_bit, "
    text += "rtentry.rt_nodes, ifnet.if_afdata; a kernel file with type information (--freebsd-kernel) would tell them"
    assert list(routes(walked, walked.vnets())) == [Problem("rt_tables", text)]


# Damage: a few kernels


@pytest.fixture(scope="module", params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def damage(name: str) -> Damage:
    return Damage(name)


def where(damage: Damage, family: str = "inet", fib: int = 0, jid: int = 0) -> str:
    return f"{family} routes of fib {fib} of {vnet_text(damage.name, jid)}"


def miscounted(damage: Damage, missing: int, *, jid: int = 0, fib: int = 0) -> list[Problem]:
    """What a table of IPv4 that counts its routes says when some are not found."""
    head = damage.world.get("rib_head", (jid, fib, 2))
    if not damage.world.has("rib_head", "rnh_prefixes"):
        return []
    count = len([one for one in SYSTEM.routes if (one.vnet, one.fib, route_family(one)) == (jid, fib, "inet")])
    text = f"{count - missing} were found, but rnh_prefixes counts {count}"
    return [Problem(where(damage, fib=fib, jid=jid), text, int(head))]


def node_at(damage: Damage, item: Truth, path: str) -> int:
    """Address of a member of a route's leaf."""
    return int(entry(damage.name, item)) + damage.types.offsetof("radix_node", path)


def inner_at(damage: Damage, item: Truth, path: str) -> int:
    """The same of the inner node that came with it, which is the second one of the entry."""
    return node_at(damage, item, path) + damage.types.sizeof("struct radix_node")


def found_of(damage: Damage, item: Truth) -> tuple[list[Route], list[Problem]]:
    shown, problems = walk(damage.kernel())
    return shown.get(int(entry(damage.name, item)), []), problems


HOST = truth(0, 0, "192.0.2.99")
NET = truth(0, 0, "203.0.113.0/24")
DEFAULT = truth(0, 0, "default")


def test_a_route_that_was_cut_out(damage: Damage) -> None:
    """203.0.113.0/24 follows 203.0.113.0/25 in the chain of their key."""
    first = truth(0, 0, "203.0.113.0/25")
    assert damage.pointer(node_at(damage, first, "rn_u.rn_leaf.rn_Dupedkey")) == int(entry(damage.name, NET))
    damage.put(node_at(damage, first, "rn_u.rn_leaf.rn_Dupedkey"), 0)
    shown, problems = walk(damage.kernel())
    assert int(entry(damage.name, NET)) not in shown
    assert len(shown) == len(SYSTEM.routes) - 1
    assert problems == miscounted(damage, 1)


def test_a_chain_of_keys_in_a_loop(damage: Damage) -> None:
    damage.put(node_at(damage, NET, "rn_u.rn_leaf.rn_Dupedkey"), int(entry(damage.name, NET)))
    shown, problems = walk(damage.kernel())
    assert len(shown) == len(SYSTEM.routes)
    assert problems == [Problem(where(damage), f"a branch loops back to {int(entry(damage.name, NET)):#x}")]


def test_a_chain_of_keys_that_leads_to_an_inner_node(damage: Damage) -> None:
    inner = int(entry(damage.name, HOST)) + damage.types.sizeof("struct radix_node")
    bit = damage.types.size(damage.types.member("radix_node", "rn_bit").type)
    damage.put(inner_at(damage, HOST, "rn_bit"), 40, bit)
    damage.put(node_at(damage, DEFAULT, "rn_u.rn_leaf.rn_Dupedkey"), inner)
    _, problems = walk(damage.kernel())
    assert Problem(where(damage), f"the chain of a key leads to the inner node {inner:#x}") in problems


def test_inner_nodes_in_a_loop(damage: Damage) -> None:
    head = damage.world.get("rib_head", (0, 0, 2))
    top = damage.pointer(damage.at(head, "head.rnh_treetop"))
    for side in "LR":
        damage.put(top + damage.types.offsetof("radix_node", f"rn_u.rn_node.rn_{side}"), top)
    shown, problems = walk(damage.kernel())
    gone = [one for one in SYSTEM.routes if (one.vnet, one.fib, route_family(one)) == (0, 0, "inet")]
    assert len(shown) == len(SYSTEM.routes) - len(gone)
    loop = Problem(where(damage), f"a branch loops back to {top:#x}")
    assert problems == [loop, *miscounted(damage, len(gone))]


@pytest.mark.parametrize("bit", [0, 31, MAX_BITS + 1, 0x7FFF])
def test_an_absurd_bit(damage: Damage, bit: int) -> None:
    """No bit below the top may be less than its 32, and none is behind the longest key."""
    head = damage.world.get("rib_head", (0, 0, 2))
    top = damage.pointer(damage.at(head, "head.rnh_treetop"))
    child = damage.pointer(top + damage.types.offsetof("radix_node", "rn_u.rn_node.rn_R"))
    damage.put(child + damage.types.offsetof("radix_node", "rn_bit"), bit, 2)
    shown, problems = walk(damage.kernel())
    text = f"node {child:#x} tests bit {bit}, which cannot be below bit 32"
    assert problems[0] == Problem(where(damage), text)
    assert [problem.where for problem in problems] == [where(damage)] * len(problems)
    destinations = {
        one.destination for hops_found in shown.values() for one in hops_found if one.vnet == vnet(damage.name, 0)
    }
    assert {"default", "10.0.0.0/8", "127.0.0.1", "::1"} <= destinations
    assert "192.0.2.0/24" not in destinations


@pytest.mark.parametrize("place", [NOWHERE, NOWHERE + 1])
def test_a_branch_that_leads_nowhere(damage: Damage, place: int) -> None:
    head = damage.world.get("rib_head", (0, 0, 2))
    top = damage.pointer(damage.at(head, "head.rnh_treetop"))
    damage.put(top + damage.types.offsetof("radix_node", "rn_u.rn_node.rn_R"), place)
    _, problems = walk(damage.kernel())
    text = f"a branch ends where address {place:#x} {nowhere(damage.name)}"
    if place % 2:
        text = f"a branch leads to the misaligned address {place:#x}"
    assert problems[0] == Problem(where(damage), text)


@pytest.mark.parametrize(
    ("length", "note"),
    [
        (0, "rn_key: sa_len is 0, but an address of family inet needs 8"),
        (255, "rn_key: sa_len is 255, more than the 16 of family inet"),
    ],
)
def test_a_destination_of_an_absurd_length(damage: Damage, length: int, note: str) -> None:
    key = damage.pointer(node_at(damage, HOST, "rn_u.rn_leaf.rn_Key"))
    damage.put(key, length, 1)
    found, problems = found_of(damage, HOST)
    assert problems == []
    assert [(one.destination, one.notes) for one in found] == [("192.0.2.99", (note,))]


def test_a_destination_that_leads_nowhere(damage: Damage) -> None:
    damage.put(node_at(damage, HOST, "rn_u.rn_leaf.rn_Key"), NOWHERE)
    found, problems = found_of(damage, HOST)
    assert problems == []
    note = f"rn_key cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}"
    assert [(one.destination, one.gateway, one.notes) for one in found] == [(Absent.UNREADABLE, "192.0.2.1", (note,))]


def test_a_destination_of_another_family(damage: Damage) -> None:
    key = damage.pointer(node_at(damage, HOST, "rn_u.rn_leaf.rn_Key"))
    damage.put(key + 1, 77, 1)
    found, _ = found_of(damage, HOST)
    assert [one.notes for one in found] == [("its destination is of family af 77",)]


def test_a_mask_that_is_no_prefix(damage: Damage) -> None:
    mask = damage.pointer(node_at(damage, NET, "rn_u.rn_leaf.rn_Mask"))
    damage.changes[mask + 4] = bytes([255, 0, 255])
    found, _ = found_of(damage, NET)
    assert [one.destination for one in found] == ["203.0.113.0&ff00ff"]


def test_a_mask_that_leads_nowhere(damage: Damage) -> None:
    damage.put(node_at(damage, NET, "rn_u.rn_leaf.rn_Mask"), NOWHERE)
    found, _ = found_of(damage, NET)
    assert [one.destination for one in found] == ["203.0.113.0/?"]
    assert found[0].notes == (f"rn_mask cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}",)


@pytest.mark.parametrize(
    ("flags", "letters"),
    [(0x1 | 0x8 | 0x800, "URS"), (0x1 | 0x20 | 0x4000 | 0x40000, "UM23"), (0x40_1241, "UdXBb"), (0x400, "L")],
)
def test_flags(damage: Damage, flags: int, letters: str) -> None:
    """Letters in the order of netstat."""
    one = entry(damage.name, HOST)
    if has_nexthops(damage.name):
        hop = damage.pointer(damage.at(one, "rt_nhop"))
        private = damage.pointer(hop + damage.types.offsetof("nhop_object", "nh_priv"))
        damage.put(private + damage.types.offsetof("nhop_priv", "rt_flags"), flags, 4)
        damage.set(one, "rte_flags", 0, 4)
    else:
        damage.set(one, "rt_flags", flags, 4)
    found, _ = found_of(damage, HOST)
    assert [route.flags for route in found] == [letters]


def test_what_a_route_leads_to_is_nowhere(damage: Damage) -> None:
    one = entry(damage.name, HOST)
    error = f"cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}"
    if has_nexthops(damage.name):
        damage.set(one, "rt_nhop", NOWHERE)
        notes = (f"rt_nhop {error}",)
    else:
        damage.set(one, "rt_gateway", NOWHERE)
        notes = (f"rt_gateway {error}",)
    found, problems = found_of(damage, HOST)
    assert problems == []
    assert [(route.destination, route.gateway, route.notes) for route in found] == [
        ("192.0.2.99", Absent.UNREADABLE, notes)
    ]


def test_absurd_numbers_of_tables(damage: Damage) -> None:
    own = damage.world.has_symbol("vnet_entry__rt_numfibs")
    variable = damage.world.vnet_symbol(0, "_rt_numfibs") if own else damage.world.symbol("rt_numfibs")
    damage.put(int(variable), -1, 4)
    shown, problems = walk(damage.kernel())
    texts = {problem.where: problem.text for problem in problems}
    name = "_rt_numfibs" if own else "rt_numfibs"
    assert texts[f"{name} of {vnet_text(damage.name, 0)}"] == "-1 routing tables are impossible: only fib 0 is shown"
    fibs = {(one.vnet, one.fib) for hops_found in shown.values() for one in hops_found}
    assert fibs == {(vnet(damage.name, 0), 0), (vnet(damage.name, 2), 0)}


def test_tables_behind_the_end(damage: Damage) -> None:
    """More FIBs than there is memory: the pointers that follow are no tables, or are not there."""
    own = damage.world.has_symbol("vnet_entry__rt_numfibs")
    variable = damage.world.vnet_symbol(2, "_rt_numfibs") if own else damage.world.symbol("rt_numfibs")
    damage.put(int(variable), 60_000, 4)
    shown, problems = walk(damage.kernel())
    assert set(shown) >= {int(entry(damage.name, item)) for item in SYSTEM.routes if item.vnet == 2}
    texts = [problem.text for problem in problems if problem.where == f"rt_tables of {vnet_text(damage.name, 2)}"]
    assert len(problems) < 200
    assert any(text.startswith("16 tables are not sound, those behind fib ") for text in texts) or any(
        "cannot be read" in text for text in texts
    )


def test_tables_that_lead_nowhere(damage: Damage) -> None:
    damage.put(int(damage.world.vnet_symbol(0, "rt_tables")), NOWHERE)
    shown, problems = walk(damage.kernel())
    text = f"fib 0 cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}"
    assert problems == [Problem(f"rt_tables of {vnet_text(damage.name, 0)}", text)]
    assert {one.vnet for hops_found in shown.values() for one in hops_found} == {vnet(damage.name, 2)}


def test_a_kernel_without_the_variable(damage: Damage) -> None:
    kernel = without_symbols(damage.kernel(), "vnet_entry_rt_tables")
    shown, problems = walk(kernel)
    assert shown == {}
    text = "cannot be walked: the kernel and its modules have no symbol rt_tables"
    assert problems == [Problem(f"rt_tables of {vnet_text(damage.name, jid)}", text) for jid in (0, 2)]


def test_a_table_that_leads_nowhere(damage: Damage) -> None:
    families = damage.types.member("ifnet", "if_afdata").type["count"] + 1
    table = damage.pointer(int(damage.world.vnet_symbol(0, "rt_tables")))
    damage.put(table + (families + 2) * damage.word, NOWHERE)
    shown, problems = walk(damage.kernel())
    assert len(shown) == len(SYSTEM.routes) - 2
    assert [(problem.where, problem.address) for problem in problems] == [(where(damage, fib=1), NOWHERE)]
    assert problems[0].text.startswith("cannot be walked: address 0x")


def test_a_kernel_without_vimage(name: str) -> None:
    kernel = without_vimage(name)
    found = sound(routes(kernel, kernel.vnets()))
    assert {one.address for one in found} == {int(entry(name, item)) for item in SYSTEM.routes if item.vnet == 0}
    assert {(one.vnet, one.notes) for one in found} == {(NONE, ())}


class TestGroups:
    """Groups of nexthops, whose slots are shared out by weight."""

    @pytest.fixture(params=["14-powerpc64", "15-arm64", "14-i386"])
    def damage(self, request: pytest.FixtureRequest) -> Damage:
        return Damage(str(request.param))

    @staticmethod
    def group(damage: Damage) -> int:
        return damage.pointer(damage.at(entry(damage.name, MULTIPATH), "rt_nhop"))

    @staticmethod
    def private(damage: Damage, slots: int = 3) -> int:
        return TestGroups.group(damage) + damage.types.sizeof("struct nhgrp_object") + slots * damage.word

    @staticmethod
    def lines(damage: Damage) -> list[tuple[object, ...]]:
        found, problems = found_of(damage, MULTIPATH)
        assert problems == []
        return [(one.gateway, one.weight, one.group, one.notes) for one in found]

    @pytest.mark.parametrize("slots", [0, 65, 255])
    def test_an_absurd_number_of_slots(self, damage: Damage, slots: int) -> None:
        place = self.group(damage)
        size = damage.types.size(damage.types.member("nhgrp_object", "nhg_size").type)
        damage.put(place + damage.types.offsetof("nhgrp_object", "nhg_size"), slots, size)
        note = f"group {place:#x} of nexthops has {slots} slots, which is impossible"
        found, problems = found_of(damage, MULTIPATH)
        assert problems == []
        assert [(one.destination, one.gateway, one.notes) for one in found] == [
            ("203.0.113.128/25", Absent.UNREADABLE, (note,))
        ]

    def test_without_the_private_part(self, damage: Damage) -> None:
        damage.put(self.private(damage) + damage.types.offsetof("nhgrp_priv", "nhg"), 0)
        found, _ = found_of(damage, MULTIPATH)
        assert [(one.gateway, one.weight, one.notes) for one in found] == [("172.16.0.2", 1, ()), ("172.16.0.3", 2, ())]

    def test_other_weights_than_slots(self, damage: Damage) -> None:
        size = damage.types.sizeof("struct nhgrp_priv")
        weights = self.private(damage) + size + damage.types.offsetof("weightened_nhop", "weight")
        damage.put(weights, 77, 4)
        assert [line[:2] for line in self.lines(damage)] == [("172.16.0.2", 77), ("172.16.0.3", 2)]

    def test_a_slot_that_has_no_weight(self, damage: Damage) -> None:
        slot = self.group(damage) + damage.types.sizeof("struct nhgrp_object")
        other = damage.pointer(damage.at(entry(damage.name, truth(0, 1, "default")), "rt_nhop"))
        before = damage.pointer(slot)
        assert other != before
        damage.put(slot, other)
        note = f"group {self.group(damage):#x} has a slot for nexthop {other:#x}, which has no weight"
        assert [line[3] for line in self.lines(damage)] == [(note,), (note,)]

    def test_a_nexthop_with_the_private_part_of_another(self, damage: Damage) -> None:
        mine, other = (
            damage.pointer(damage.at(entry(damage.name, one), "rt_nhop")) for one in (HOST, truth(0, 0, "default"))
        )
        at = damage.types.offsetof("nhop_object", "nh_priv")
        damage.put(mine + at, damage.pointer(other + at))
        found, _ = found_of(damage, HOST)
        assert [one.notes for one in found] == [(f"the private part of nexthop {mine:#x} is that of {other:#x}",)]

    def test_times_of_13(self, damage: Damage) -> None:
        """Until 13 routes have the time that they expire at, not nexthops."""
        types = copy.deepcopy(damage.kernel().structs.types)
        del types.user_types["nhop_priv"]["fields"]["nh_expire"]
        fields = types.user_types["rtentry"]["fields"]
        fields["rt_expire"] = fields["rt_weight"]
        size = damage.types.size(damage.types.member("rtentry", "rt_weight").type)
        damage.set(entry(damage.name, HOST), "rt_weight", 1500, size)
        shown, problems = split(routes(kernel := damage.kernel(types=types), kernel.vnets()))
        assert problems == []
        mine = next(one for one in shown if one.address == int(entry(damage.name, HOST)))
        assert (mine.seconds_left, mine.expires) == (300, BOOT + timedelta(seconds=1500))
