"""Interfaces, their addresses and counters: as they are, hidden from one of the places that know them, and damaged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.bsd.damage import Damage
from tests.bsd.kernel_variants import NOWHERE, nowhere, without_symbols, without_types
from tests.bsd.network_truth import (
    BOOT,
    JAILS,
    NONE,
    SHAPES,
    counts,
    index_of,
    interfaces,
    shown_address,
    shown_flags,
    sound,
    split,
    vnet,
    vnet_text,
    without_vimage,
)
from tests.scenario.kernels import build_world
from tests.scenario.model import Interface as Truth
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd import ifnet
from volatility3_freebsd_kvm.bsd.ifaddr import InterfaceAddress
from volatility3_freebsd_kvm.bsd.ifnet import Interface
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.stacks import chosen_stacks
from volatility3_freebsd_kvm.exceptions import SymbolError

HOST = [item for item in interfaces() if item.vnet == 0]
JAIL = [item for item in interfaces() if item.vnet == 2]


def look(kernel: Kernel) -> tuple[dict[tuple[int, str], Interface], list[Problem]]:
    """Interfaces by the address of the vnet and by name."""
    found, problems = split(ifnet.interfaces(kernel, kernel.vnets()))
    shown = {(one.vnet, one.name): one for one in found}
    assert len(shown) == len(found)
    return shown, problems  # type: ignore[return-value]


def address_lines(item: Truth) -> list[tuple[object, ...]]:
    lines = []
    for one in item.addresses:
        broadcast = one.peer if one.family == "inet" and one.peer else NONE
        lines.append((one.family, shown_address(item, one), one.prefix, broadcast, NONE, (), ()))
    return lines


def lines_of(one: Interface) -> list[tuple[object, ...]]:
    return [(at.family, at.text, at.prefix, at.broadcast, at.peer, at.flags, at.notes) for at in one.addresses]


# The truth


def test_every_interface_is_there_in_order(kernel: str) -> None:
    walked = walkable(kernel)
    found = sound(ifnet.interfaces(walked, walked.vnets()))
    assert [(one.vnet, one.name) for one in found] == [(vnet(kernel, item.vnet), item.name) for item in interfaces()]
    for one, item in zip(found, interfaces(), strict=True):
        assert one.address == int(build_world(kernel).get("ifnet", (item.vnet, item.name)))
        assert one.jails == JAILS[item.vnet]
        assert one.index == index_of(kernel, item)
        assert one.flags == shown_flags(item)
        assert one.driver_flags == ("RUNNING",)
        assert (one.mtu, one.type, one.link_state) == (item.mtu, item.kind, "up")
        assert one.link_address == (item.link_address or NONE)
        assert one.driver == item.name.rstrip("ab")
        assert one.groups == item.groups
        assert one.description == (item.description or NONE)
        assert one.counts == counts(item)
        assert one.promiscuous == item.promiscuous
        assert one.promiscuous_by == (("bpf: sh[880]",) if item.promiscuous else ())
        assert one.home == vnet(kernel, item.vnet if item.home is None else item.home)
        assert (one.fib, one.notes) == (0, ())
        assert one.attached == BOOT + timedelta(seconds=1)
        assert one.changed == BOOT.replace(microsecond=0) + timedelta(seconds=5)


def test_every_address_is_there_in_order(kernel: str) -> None:
    walked = walkable(kernel)
    for one, item in zip(sound(ifnet.interfaces(walked, walked.vnets())), interfaces(), strict=True):
        assert lines_of(one) == address_lines(item), item.name


def test_a_kernel_without_types(kernel: str) -> None:
    walked = without_types(kernel)
    text = "the types of this kernel lack ifnet.if_link, ifnet.if_xname; "
    text += "a kernel file with type information (--freebsd-kernel) would tell them"
    assert list(ifnet.interfaces(walked, walked.vnets())) == [Problem("interfaces", text)]


# Damage: a few kernels


@pytest.fixture(scope="module", params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def damage(name: str) -> Damage:
    return Damage(name)


def own_table(damage: Damage) -> bool:
    """Whether each vnet has a table of indexes."""
    return bool(damage.world.has_symbol("vnet_entry_ifindex_table"))


def table_entry(damage: Damage, item: Truth) -> int:
    """Address of the entry in the table of indexes."""
    variable = (
        damage.world.vnet_symbol(item.vnet, "ifindex_table")
        if own_table(damage)
        else damage.world.symbol("ifindex_table")
    )
    return damage.pointer(int(variable)) + index_of(damage.name, item) * damage.types.sizeof("struct ifindex_entry")


def skip_in_list(damage: Damage, item: Truth) -> None:
    """Lead the list around an interface, as a rootkit would."""
    before = [one for one in interfaces() if one.vnet == item.vnet and one.index < item.index][-1:]
    gone = damage.world.get("ifnet", (item.vnet, item.name))
    place = (
        damage.at(damage.world.get("ifnet", (item.vnet, before[0].name)), "if_link")
        if before
        else int(damage.world.vnet_symbol(item.vnet, "ifnet"))
    )
    damage.put(place, damage.pointer(damage.at(gone, "if_link")))


@pytest.mark.parametrize("item", [HOST[0], HOST[1], JAIL[1]], ids=lambda item: item.name)
def test_an_interface_that_the_list_lacks(damage: Damage, item: Truth) -> None:
    skip_in_list(damage, item)
    shown, problems = look(damage.kernel())
    assert problems == []
    one = shown[vnet(damage.name, item.vnet), item.name]
    assert one.notes == (f"hidden: not on ifnet, known by ifindex_table[{index_of(damage.name, item)}]",)
    assert lines_of(one) == address_lines(item)
    assert one.counts == counts(item)
    assert len(shown) == len(SYSTEM.interfaces)
    assert [other.notes for other in shown.values() if other is not one] == [()] * (len(shown) - 1)


def test_an_interface_that_the_table_lacks(damage: Damage) -> None:
    damage.put(table_entry(damage, HOST[2]), 0)
    shown, problems = look(damage.kernel())
    assert problems == []
    notes = {key: one.notes for key, one in shown.items() if one.notes}
    assert notes == {(vnet(damage.name, 0), "epair0a"): ("not in ifindex_table",)}


def test_an_interface_under_two_indexes(damage: Damage) -> None:
    item = HOST[0]
    number = max(index_of(damage.name, one) for one in (HOST if own_table(damage) else interfaces())) + 1
    size = damage.types.sizeof("struct ifindex_entry")
    at = table_entry(damage, item) + (number - index_of(damage.name, item)) * size
    damage.put(at, int(damage.world.get("ifnet", (0, item.name))))
    highest = damage.world.vnet_symbol(0, "if_index") if own_table(damage) else damage.world.symbol("if_index")
    damage.put(int(highest), number, 4)
    shown, problems = look(damage.kernel())
    assert problems == []
    notes = {key: one.notes for key, one in shown.items() if one.notes}
    assert notes == {(vnet(damage.name, 0), "vtnet0"): (f"ifindex_table has it as 1, {number}",)}


def test_a_loop_in_the_list(damage: Damage) -> None:
    first, last = (damage.world.get("ifnet", (0, item.name)) for item in (HOST[0], HOST[-1]))
    damage.set(last, "if_link", int(first))
    shown, problems = look(damage.kernel())
    assert len(shown) == len(SYSTEM.interfaces)
    where = f"ifnet of {vnet_text(damage.name, 0)}"
    assert problems == [Problem(where, f"loops back to {int(first):#x} after 3 elements")]


def test_a_list_that_leads_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("ifnet", (0, "vtnet0")), "if_link", NOWHERE)
    shown, problems = look(damage.kernel())
    where = f"ifnet of {vnet_text(damage.name, 0)}"
    assert problems == [Problem(where, f"ends after 2 elements where address {NOWHERE:#x} {nowhere(damage.name)}")]
    broken = "not reached on ifnet, which is broken; known by ifindex_table"
    notes = {name: one.notes for (_, name), one in shown.items() if one.notes}
    assert notes == {"lo0": (f"{broken}[2]",), "epair0a": (f"{broken}[3]",)}


@pytest.mark.parametrize("highest", [1 << 16, -1])
def test_an_absurd_number_of_indexes(damage: Damage, highest: int) -> None:
    variable = damage.world.vnet_symbol(0, "if_index") if own_table(damage) else damage.world.symbol("if_index")
    damage.put(int(variable), highest, 4)
    shown, problems = look(damage.kernel())
    where = f"ifindex_table of {vnet_text(damage.name, 0)}" if own_table(damage) else "ifindex_table"
    assert problems == [Problem(where, f"if_index is {highest}, which is no index")]
    assert {one.notes for one in shown.values()} == {()}
    assert len(shown) == len(SYSTEM.interfaces)


def test_an_index_that_leads_nowhere(damage: Damage) -> None:
    damage.put(table_entry(damage, HOST[1]), NOWHERE)
    shown, problems = look(damage.kernel())
    where = f"ifindex_table of {vnet_text(damage.name, 0)}" if own_table(damage) else "ifindex_table"
    index = index_of(damage.name, HOST[1])
    assert problems == [Problem(where, f"entry {index} leads to {NOWHERE:#x}, where no interface can be read")]
    assert shown[vnet(damage.name, 0), "lo0"].notes == ("not in ifindex_table",)


def test_an_interface_that_says_it_is_in_another_vnet(damage: Damage) -> None:
    damage.set(damage.world.get("ifnet", (0, "lo0")), "if_vnet", vnet(damage.name, 2))
    shown, problems = look(damage.kernel())
    assert problems == []
    note = f"its if_vnet is {vnet(damage.name, 2):#x}"
    assert {key: one.notes for key, one in shown.items() if one.notes} == {(vnet(damage.name, 0), "lo0"): (note,)}


def test_an_interface_of_no_vnet(damage: Damage) -> None:
    skip_in_list(damage, HOST[1])
    gone = damage.world.get("ifnet", (0, "lo0"))
    damage.set(gone, "if_vnet", NOWHERE)
    shown, problems = look(damage.kernel())
    if own_table(damage):
        hidden = "hidden: not on ifnet, known by ifindex_table[2]"
        assert shown[vnet(damage.name, 0), "lo0"].notes == (hidden,)
        assert problems == []
    else:
        strays = [problem for problem in problems if problem.where == "ifindex_table"]
        assert strays == [Problem("ifindex_table", f"has interface {int(gone):#x}, which is in no vnet", int(gone))]


# Addresses


def addresses_of(damage: Damage, item: Truth) -> tuple[list[InterfaceAddress], list[Problem]]:
    shown, problems = look(damage.kernel())
    return list(shown[vnet(damage.name, item.vnet), item.name].addresses), problems


def ifaddr(damage: Damage, item: Truth, text: str) -> int:
    return int(damage.world.get("ifaddr", (item.vnet, item.name, text)))


def test_an_address_that_the_interface_lacks(damage: Damage) -> None:
    item = HOST[0]
    first = damage.world.get("ifaddr", (0, "vtnet0", "192.0.2.10"))
    damage.set(first, "ifa_link", ifaddr(damage, item, "fe80::1"))
    found, problems = addresses_of(damage, item)
    assert problems == []
    assert [one.text for one in found] == ["192.0.2.10", "fe80::1%vtnet0", "2001:db8::10", "10.0.0.80"]
    note = "hidden: not on if_addrhead, known by in_ifaddrhead, in_ifaddrhashtbl"
    assert [one.notes for one in found] == [(), (), (), (note,)]


@pytest.mark.parametrize(("text", "family"), [("192.0.2.10", "in"), ("2001:db8::10", "in6")])
def test_an_address_that_the_hash_lacks(damage: Damage, text: str, family: str) -> None:
    table = damage.pointer(int(damage.world.vnet_symbol(0, f"{family}_ifaddrhashtbl")))
    target = int(damage.world.get(f"{family}_ifaddr", (0, "vtnet0", text)))
    chains = 512 if family == "in" else 256
    place = next(at for at in range(table, table + chains * damage.word, damage.word) if damage.pointer(at) == target)
    damage.put(place, 0)
    found, problems = addresses_of(damage, HOST[0])
    assert problems == []
    assert {one.text: one.notes for one in found if one.notes} == {text: (f"not in {family}_ifaddrhashtbl",)}


def test_an_address_of_no_known_interface(damage: Damage) -> None:
    one = damage.world.get("ifaddr", (0, "vtnet0", "2001:db8::10"))
    damage.set(damage.world.get("ifaddr", (0, "vtnet0", "fe80::1")), "ifa_link", 0)
    damage.set(one, "ifa_ifp", NOWHERE)
    found, problems = addresses_of(damage, HOST[0])
    assert [address.text for address in found] == ["192.0.2.10", "10.0.0.80", "fe80::1%vtnet0"]
    where = f"in6_ifaddrhead of {vnet_text(damage.name, 0)}"
    assert problems == [Problem(where, f"has address {int(one):#x}, which is of no known interface", int(one))]


def test_a_loop_of_addresses(damage: Damage) -> None:
    last = damage.world.get("ifaddr", (0, "vtnet0", "2001:db8::10"))
    first = ifaddr(damage, HOST[0], "")
    damage.set(last, "ifa_link", first)
    found, problems = addresses_of(damage, HOST[0])
    assert problems == [Problem("if_addrhead of vtnet0", f"loops back to {first:#x} after 5 elements")]
    assert [one.text for one in found] == [shown_address(HOST[0], one) for one in HOST[0].addresses]


def test_addresses_that_lead_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("ifaddr", (0, "vtnet0", "192.0.2.10")), "ifa_addr", NOWHERE)
    found, problems = addresses_of(damage, HOST[0])
    assert problems == []
    assert (found[0].text, found[0].prefix, found[0].family) == (Absent.UNREADABLE,) * 3
    assert found[0].notes == (f"ifa_addr cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}",)
    assert [one.notes for one in found[1:]] == [()] * 3


@pytest.mark.parametrize(
    ("length", "note"),
    [
        (0, "ifa_addr: sa_len is 0, but an address of family inet needs 8"),
        (255, "ifa_addr: sa_len is 255, more than the 16 of family inet"),
    ],
)
def test_an_address_of_an_absurd_length(damage: Damage, length: int, note: str) -> None:
    whole = damage.world.get("in_ifaddr", (0, "vtnet0", "192.0.2.10"))
    damage.set(whole, "ia_addr", length, 1)
    found, problems = addresses_of(damage, HOST[0])
    assert problems == []
    assert (found[0].text, found[0].notes) == ("192.0.2.10", (note,))


def test_a_mask_that_is_no_prefix(damage: Damage) -> None:
    whole = damage.world.get("in_ifaddr", (0, "vtnet0", "192.0.2.10"))
    damage.changes[damage.at(whole, "ia_sockmask") + 4] = bytes([255, 0, 255, 0])
    found, _ = addresses_of(damage, HOST[0])
    assert (found[0].prefix, found[0].notes) == (NONE, ("the mask ff00ff00 is no prefix",))


def test_a_mask_of_no_length(damage: Damage) -> None:
    whole = damage.world.get("in_ifaddr", (0, "vtnet0", "192.0.2.10"))
    damage.set(whole, "ia_sockmask", 0, 1)
    found, _ = addresses_of(damage, HOST[0])
    assert (found[0].prefix, found[0].notes) == (0, ())


def test_a_point_to_point_link(damage: Damage) -> None:
    damage.set(damage.world.get("ifnet", (0, "vtnet0")), "if_flags", 0x1 | 0x10, 4)
    found, _ = addresses_of(damage, HOST[0])
    assert [(one.broadcast, one.peer) for one in found[:2]] == [(NONE, "192.0.2.255"), (NONE, "10.0.0.80")]


def test_flags_of_an_address(damage: Damage) -> None:
    whole = damage.world.get("in6_ifaddr", (0, "vtnet0", "fe80::1"))
    damage.set(whole, "ia6_flags", 0x2 | 0x40 | 0x100, 4)
    damage.set(damage.world.get("ifaddr", (0, "vtnet0", "fe80::1")), "ifa_carp", int(whole))
    found, _ = addresses_of(damage, HOST[0])
    assert found[2].flags == ("tentative", "autoconf", "prefer_source", "carp")


@pytest.mark.parametrize("mask", [0x1234, 0xFFFF_FFFE, (1 << 31) - 1])
def test_an_absurd_mask_of_the_hash(damage: Damage, mask: int) -> None:
    damage.put(int(damage.world.vnet_symbol(0, "in_ifaddrhmask")), mask)
    found, problems = addresses_of(damage, HOST[0])
    where = f"in_ifaddrhashtbl of {vnet_text(damage.name, 0)}"
    text = f"cannot be walked: in_ifaddrhmask is {mask:#x}, which is no number of chains less one"
    assert problems == [Problem(where, text)]
    assert [one.notes for one in found] == [()] * 4


def test_a_loop_in_the_hash(damage: Damage) -> None:
    one = damage.world.get("in_ifaddr", (0, "vtnet0", "192.0.2.10"))
    damage.set(one, "ia_hash", int(one))
    _, problems = addresses_of(damage, HOST[0])
    assert len(problems) == 1
    assert problems[0].where == f"in_ifaddrhashtbl of {vnet_text(damage.name, 0)}"
    assert problems[0].text.partition(": ")[2] == f"loops back to {int(one):#x} after 1 elements"


# What is remarkable about an interface


def interface_of(damage: Damage, name: str = "vtnet0") -> Interface:
    return look(damage.kernel())[0][vnet(damage.name, 0), name]


def test_a_changed_link_address(damage: Damage) -> None:
    place = damage.pointer(damage.at(damage.world.get("ifaddr", (0, "vtnet0", "")), "ifa_addr"))
    damage.changes[place + 8 + len("vtnet0")] = bytes.fromhex("0200deadbeef")
    one = interface_of(damage)
    assert one.link_address == "02:00:de:ad:be:ef"
    assert one.notes == ("the hardware's address is 58:9c:fc:00:00:01",)


def test_a_link_address_that_claims_too_much(damage: Damage) -> None:
    place = damage.pointer(damage.at(damage.world.get("ifaddr", (0, "lo0", "")), "ifa_addr"))
    damage.changes[place + 6] = b"\xff"
    one = interface_of(damage, "lo0")
    assert one.notes == ("if_addr: sa_len is 56, but an address of family link needs 266",)


@pytest.mark.parametrize(
    ("count", "flags", "by", "notes"),
    [
        (2, 0x100, ("bpf: sh[880]",), ("1 of those that made it promiscuous are not known",)),
        (
            0,
            0x100,
            ("bpf: sh[880]",),
            ("bpf has 1 promiscuous listeners, if_pcount is 0", "IFF_PROMISC is set, but if_pcount is 0"),
        ),
        (1, 0, ("bpf: sh[880]",), ("IFF_PROMISC is not set, but if_pcount is 1",)),
        (1, 0x20100, ("bpf: sh[880]", "ifconfig"), ()),
    ],
)
def test_promiscuity(damage: Damage, count: int, flags: int, by: tuple[str, ...], notes: tuple[str, ...]) -> None:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    damage.set(interface, "if_pcount", count, 4)
    damage.set(interface, "if_flags", flags, 4)
    one = interface_of(damage)
    assert (one.promiscuous, one.promiscuous_by, one.notes) == (count, by, notes)


def test_a_bridge_is_promiscuous(damage: Damage) -> None:
    interface = damage.world.get("ifnet", (0, "lo0"))
    damage.set(interface, "if_bridge", int(interface))
    damage.set(interface, "if_pcount", 1, 4)
    damage.set(interface, "if_flags", 0x109, 4)
    one = interface_of(damage, "lo0")
    assert (one.promiscuous_by, one.notes) == (("bridge",), ())


def test_counters_of_a_driver(damage: Damage) -> None:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    damage.set(interface, "if_get_counter", damage.world.function("vtnet_ioctl"))
    note = "the driver has counters of its own (vtnet_ioctl), which are not in these"
    assert interface_of(damage).notes == (note,)


def test_groups_in_a_loop(damage: Damage) -> None:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    first = damage.pointer(damage.at(interface, "if_groups"))
    second = damage.pointer(first + damage.types.offsetof("ifg_list", "ifgl_next"))
    damage.put(second + damage.types.offsetof("ifg_list", "ifgl_next"), first)
    one = interface_of(damage)
    assert one.groups == ("all", "egress")
    assert one.notes == (f"if_groups loops back to {first:#x} after 2 elements",)


def test_text_that_does_not_end(damage: Damage) -> None:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    damage.changes[damage.at(interface, "if_xname")] = b"x" * 16
    buffers = damage.world.get("bpf_d", (0, "vtnet0", 880))
    text = damage.pointer(damage.at(buffers, "bd_sbuf"))
    damage.changes[text] = b"y" * 4096
    damage.set(interface, "if_description", text)
    one = look(damage.kernel())[0][vnet(damage.name, 0), "x" * 16]
    assert one.description == "y" * 1024


def test_numbers_without_a_name(damage: Damage) -> None:
    interface = damage.world.get("ifnet", (0, "vtnet0"))
    damage.set(interface, "if_type", 0xEE, 1)
    damage.set(interface, "if_link_state", 7, 1)
    damage.set(interface, "if_flags", 0x7FFF_FFFF ^ 0x440, 4)
    damage.set(interface, "if_drv_flags", 0x400, 4)
    one = interface_of(damage)
    assert (one.type, one.link_state, one.driver_flags) == ("238", "7", ("OACTIVE",))
    assert one.flags[4:8] == ("POINTOPOINT", "NOARP", "PROMISC", "ALLMULTI")  # type: ignore[index]
    assert one.flags[-2:] == ("DYING", "RENAMING")  # type: ignore[index]


def test_without_a_table_of_indexes(damage: Damage) -> None:
    kernel = without_symbols(damage.kernel(), "ifindex_table", "vnet_entry_ifindex_table")
    shown, problems = look(kernel)
    assert problems == []
    assert len(shown) == len(SYSTEM.interfaces)
    assert {one.notes for one in shown.values()} == {()}


def test_a_kernel_without_vimage(name: str) -> None:
    kernel = without_vimage(name)
    found = sound(ifnet.interfaces(kernel, chosen_stacks(kernel, jail="db")))
    assert [(one.name, one.vnet, one.jails, one.home, one.notes) for one in found] == [
        (item.name, NONE, NONE, NONE, ()) for item in HOST
    ]
    assert [lines_of(one) for one in found] == [address_lines(item) for item in HOST]
    with pytest.raises(SymbolError, match=r"^there is no jail nix; there are: 0 0, 1 web, 2 db, 3 db.pg$"):
        chosen_stacks(kernel, jail="nix")


def test_an_interface_that_is_not_attached(damage: Damage) -> None:
    skip_in_list(damage, HOST[1])
    damage.set(damage.world.get("ifnet", (0, "lo0")), "if_addr", 0)
    note = "not attached yet, or no longer; known by ifindex_table[2]"
    assert interface_of(damage, "lo0").notes[0] == note
