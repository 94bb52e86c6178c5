"""freebsd.ifconfig, arp, route and bpf over dumps, as JSON, beside what the scenario says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from volatility3.plugins import timeliner

from tests.bsd.damage import Damage
from tests.bsd.kernel_variants import NOWHERE, nowhere
from tests.bsd.network_truth import (
    BOOT,
    JAILS,
    UPTIME,
    counts,
    has_nexthops,
    index_of,
    interfaces,
    route_family,
    shown_address,
    shown_destination,
    shown_flags,
    shown_gateway,
    shown_neighbor,
    vnet,
    vnet_text,
)
from tests.bsd.test_bpf import PROGRAM
from tests.framework import plugin_classes, stack, table
from tests.scenario.kernels import build_world
from tests.scenario.model import Interface, InterfaceAddress, Neighbor
from tests.scenario.network_shapes import family_of
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import changed, write_dump, write_symbol_file

IFCONFIG, ARP, ROUTE, BPF = (f"freebsd.{name}.{name.capitalize()}" for name in ("ifconfig", "arp", "route", "bpf"))
KERNELS = ("12.1-amd64", "12.1-i386", "13.0-amd64", "14-riscv", "14-powerpc64", "15-amd64", "15-arm64", "15-arm")

Row = dict[str, Any]
Dump = tuple[Path, Path]

pytestmark = pytest.mark.parametrize("kernel", KERNELS, scope="session")


@pytest.fixture(scope="session")
def dump(kernel: str, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    return write_dump(kernel, tmp_path_factory.mktemp("network"))


@pytest.fixture
def run(dump: Dump) -> Callable[..., list[Row]]:
    """Rows of a plugin over the dump."""

    def rows(plugin: str, **options: Any) -> list[Row]:
        return table(dump[0], plugin, kernel=dump[1], **options)

    return rows


def when(time: datetime) -> str:
    return time.isoformat()


def jails(jid: int) -> str:
    return ", ".join(JAILS[jid])


def address_of(kernel: str, kind: str, key: object) -> int:
    return int(build_world(kernel).get(kind, key))


# ifconfig


def interface_line(kernel: str, item: Interface, address: InterfaceAddress) -> Row:
    numbers = counts(item)
    home = item.vnet if item.home is None else item.home
    return {
        "Vnet": vnet(kernel, item.vnet),
        "Jails": jails(item.vnet),
        "Interface": item.name,
        "Index": index_of(kernel, item),
        "Flags": ", ".join(shown_flags(item)),
        "MTU": item.mtu,
        "Link address": item.link_address or None,
        "Family": address.family,
        "Address": shown_address(item, address),
        "Prefix": address.prefix,
        "Broadcast": address.peer or None,
        "Peer": None,
        "Address flags": "",
        "Type": item.kind,
        "Link state": "up",
        "Driver": item.name.rstrip("ab"),
        "Driver flags": "RUNNING",
        "Groups": ", ".join(item.groups),
        "Description": item.description or None,
        "Ipkts": numbers["ipackets"],
        "Ierrs": numbers["ierrors"],
        "Idrop": 0,
        "Ibytes": numbers["ibytes"],
        "Opkts": numbers["opackets"],
        "Oerrs": 0,
        "Odrop": 0,
        "Obytes": numbers["obytes"],
        "Coll": 0,
        "Promisc": item.promiscuous,
        "Promisc by": "bpf: sh[880]" if item.promiscuous else "",
        "Home vnet": vnet(kernel, home),
        "FIB": 0,
        "Attached": when(BOOT + timedelta(seconds=1)),
        "Changed": when(BOOT.replace(microsecond=0) + timedelta(seconds=5)),
        "Offset": address_of(kernel, "ifnet", (item.vnet, item.name)),
        "Notes": "",
    }


def test_ifconfig(kernel: str, run: Callable[..., list[Row]]) -> None:
    expected = [interface_line(kernel, item, address) for item in interfaces() for address in item.addresses]
    assert run(IFCONFIG) == expected


@pytest.mark.parametrize("options", [{"vnet": "db"}, {"vnet": "2"}, {"jail": "3"}, {"jail": "db.pg", "vnet": "db"}])
def test_ifconfig_of_one_vnet(kernel: str, run: Callable[..., list[Row]], options: dict[str, str]) -> None:
    assert [(row["Interface"], row["Address"]) for row in run(IFCONFIG, **options)] == [
        ("lo0", "127.0.0.1"),
        ("epair0b", "172.16.0.2"),
        ("epair0b", "fd00:2::2"),
    ]


def test_an_interface_without_addresses(kernel: str, dump: Dump, tmp_path: Path) -> None:
    damage = Damage(kernel)
    damage.set(damage.world.get("ifaddr", (2, "lo0", "")), "ifa_link", 0)
    for family in ("in", "in6"):
        damage.put(int(damage.world.vnet_symbol(2, f"{family}_ifaddrhead")), 0)
        damage.put(int(damage.world.vnet_symbol(2, f"{family}_ifaddrhmask")), 0)
        damage.put(int(damage.world.vnet_symbol(2, f"{family}_ifaddrhashtbl")), 0)
    rows = damaged_rows(damage, tmp_path, IFCONFIG, vnet="db")
    assert [(row["Interface"], row["Family"], row["Address"], row["Prefix"]) for row in rows][:1] == [
        ("lo0", None, None, None)
    ]


def test_interfaces_on_the_timeline(kernel: str, dump: Dump) -> None:
    made = stack(dump[0], IFCONFIG, kernel=dump[1]).plugin
    assert isinstance(made, timeliner.TimeLinerInterface)
    events = list(made.generate_timeline())
    address = address_of(kernel, "ifnet", (0, "vtnet0"))
    assert events[0] == (
        f"Interface vtnet0 ({address:#x}) was attached",
        timeliner.TimeLinerType.CREATED,
        BOOT + timedelta(seconds=1),
    )
    assert len(events) == 2 * len(SYSTEM.interfaces)


# arp


def neighbor_line(kernel: str, item: Neighbor) -> Row:
    permanent = item.state == "permanent"
    return {
        "Vnet": vnet(kernel, item.vnet),
        "Jails": jails(item.vnet),
        "Family": "inet" if family_of(item.address) == 2 else "inet6",
        "Address": shown_neighbor(item),
        "Link address": item.link_address or None,
        "Interface": item.interface,
        "State": item.state,
        "Expire": item.expire - UPTIME if item.expire else None,
        "Expires": when(BOOT + timedelta(seconds=item.expire)) if item.expire else None,
        "Used": None,
        "Flags": "static, own" if permanent else "",
        "Offset": address_of(kernel, "llentry", (item.vnet, item.interface, item.address)),
        "Notes": "",
    }


def test_arp(kernel: str, run: Callable[..., list[Row]]) -> None:
    by_offset = {row["Offset"]: row for row in run(ARP)}
    expected = [neighbor_line(kernel, item) for item in SYSTEM.neighbors]
    assert by_offset == {row["Offset"]: row for row in expected}


def test_arp_of_one_vnet(kernel: str, run: Callable[..., list[Row]]) -> None:
    assert [row["Address"] for row in run(ARP, jail="db")] == ["172.16.0.1"]


def test_neighbors_on_the_timeline(kernel: str, tmp_path: Path) -> None:
    damage = Damage(kernel)
    size = damage.types.size(damage.types.member("llentry", "lle_hittime").type)
    damage.set(damage.world.get("llentry", (0, "vtnet0", "2001:db8::1")), "lle_hittime", 1000, size)
    with changed(damage.world.memory, damage.changes):
        path, symbols = write_dump(kernel, tmp_path)
    events = list(stack(path, ARP, kernel=symbols).plugin.generate_timeline())
    text = "Neighbor 2001:db8::1 at 58:9c:fc:00:00:fe on vtnet0 was used"
    assert events == [(text, timeliner.TimeLinerType.ACCESSED, BOOT + timedelta(seconds=1000))]


# route


def route_lines(kernel: str) -> list[tuple[object, ...]]:
    lines = []
    for item in SYSTEM.routes:
        more = item.multipath if has_nexthops(kernel) else ()
        for gateway, name, weight in ((item.gateway, item.interface, 1), *more):
            line = {
                "Vnet": vnet(kernel, item.vnet),
                "Jails": jails(item.vnet),
                "FIB": item.fib,
                "Family": route_family(item),
                "Destination": shown_destination(item),
                "Gateway": shown_gateway(kernel, item, gateway),
                "Flags": item.flags,
                "Netif": name,
                "MTU": 16384 if name == "lo0" else 1500,
                "Expire": item.expire - UPTIME if item.expire else None,
                "Expires": when(BOOT + timedelta(seconds=item.expire)) if item.expire else None,
                "Weight": weight,
                "Offset": address_of(kernel, "rtentry", (item.vnet, item.fib, item.destination)),
                "Notes": "",
            }
            lines.append(tuple(sorted(line.items(), key=lambda one: one[0])))
    return lines


def cut(row: Row) -> tuple[object, ...]:
    """A row for comparison; numbers that the scenario does not describe are looked at elsewhere."""
    left_out = ("Source", "Nhop", "Group", "Use")
    return tuple(sorted(((name, value) for name, value in row.items() if name not in left_out), key=lambda one: one[0]))


def test_route(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = run(ROUTE)
    assert sorted(map(cut, rows), key=str) == sorted(route_lines(kernel), key=str)
    assert all(row["Use"] >= 13 for row in rows)
    nexthops = has_nexthops(kernel)
    assert all(isinstance(row["Nhop"], int) == nexthops for row in rows)
    assert sum(isinstance(row["Group"], int) for row in rows) == (2 if nexthops else 0)


def test_route_of_one_vnet(kernel: str, run: Callable[..., list[Row]]) -> None:
    rows = run(ROUTE, vnet="db")
    assert {row["Destination"] for row in rows} == {"default", "172.16.0.0/24", "127.0.0.1", "fd00:2::/64"}


# bpf


def listener_line(kernel: str, program: str) -> Row:
    item = SYSTEM.bpf_listeners[0]
    return {
        "PID": item.pid,
        "Command": "sh",
        "JID": 0,
        "Netif": item.interface,
        "Vnet": vnet(kernel, item.vnet),
        "Role": "reader",
        "Direction": "inout",
        "Flags": "promiscuous, immediate",
        "Recv": item.received,
        "Drop": item.dropped,
        "Match": item.captured,
        "Written": 0,
        "Wdrop": 0,
        "Sblen": 0,
        "Hblen": 0,
        "Bufsize": 4096,
        "Buffer mode": "0",
        "Held by": "880/6",
        "Filter length": item.filter_length,
        "Filter": program,
        "Write filter": None,
        "Offset": address_of(kernel, "bpf_d", (item.vnet, item.interface, item.pid)),
        "Notes": "",
    }


def test_bpf(kernel: str, run: Callable[..., list[Row]]) -> None:
    (row,) = run(BPF)
    assert row.pop("DLT") in (None, "EN10MB")
    assert row == listener_line(kernel, "; ".join(PROGRAM[:4]) + "; ...")


def test_bpf_with_whole_programs(kernel: str, run: Callable[..., list[Row]]) -> None:
    (row,) = run(BPF, programs=True, jail="0")
    assert row["Filter"] == "; ".join(PROGRAM)
    assert run(BPF, programs=True, vnet="db") == []


# What is not as it should be


def damaged_rows(damage: Damage, directory: Path, plugin: str, **options: Any) -> list[Row]:
    with changed(damage.world.memory, damage.changes):
        path, symbols = write_dump(damage.name, directory)
    return table(path, plugin, kernel=symbols, **options)


def test_problems_are_rows(kernel: str, tmp_path: Path) -> None:
    damage = Damage(kernel)
    damage.set(damage.world.get("ifnet", (0, "vtnet0")), "if_link", NOWHERE)
    rows = damaged_rows(damage, tmp_path, IFCONFIG, vnet="0")
    assert {row["Interface"] for row in rows} == {"vtnet0", "lo0", "epair0a", None}
    (problem,) = (row for row in rows if row["Interface"] is None)
    text = f"ifnet of {vnet_text(kernel, 0)}: ends after 2 elements where address {NOWHERE:#x} {nowhere(kernel)}"
    assert problem.pop("Notes") == text
    assert set(problem.values()) == {None}


@pytest.mark.parametrize("plugin", [IFCONFIG, ARP, ROUTE, BPF])
@pytest.mark.parametrize("option", ["vnet", "jail"])
def test_what_there_is_not(kernel: str, run: Callable[..., list[Row]], plugin: str, option: str) -> None:
    (row,) = run(plugin, **{option: "nix"})
    assert row["Notes"].startswith(f"the walk: ended because there is no {option} nix; there are: 0")


@pytest.mark.parametrize(
    ("plugin", "text"),
    [
        (IFCONFIG, "interfaces: the types of this kernel lack ifnet.if_link, ifnet.if_xname"),
        (ARP, "lltables: the types of this kernel lack lltable.llt_link, lltable.lle_head, llentry.lle_next"),
        (ROUTE, "rt_tables: the types of this kernel lack rib_head.head or radix_node_head.rnh_treetop, "),
        (BPF, "bpf: the types of this kernel lack bpf_d.bd_next, bpf_if.bif_next or bpf_if_ext.bif_next"),
    ],
)
def test_a_kernel_with_partial_types(kernel: str, dump: Dump, tmp_path: Path, plugin: str, text: str) -> None:
    symbols = partial_symbol_file(kernel, tmp_path)
    (row,) = table(dump[0], plugin, kernel=symbols)
    assert row["Notes"].startswith(text)
    assert row["Notes"].endswith("a kernel file with type information (--freebsd-kernel) would tell them")


def partial_symbol_file(kernel: str, directory: Path) -> Path:
    """The symbol file without the structures of the network."""
    path = write_symbol_file(kernel, directory)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["user_types"] = {
        name: content["user_types"][name] for name in ("proc", "thread", "vnet", "prison", "ucred")
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_short_names_are_unique(kernel: str) -> None:
    names = [name for name in plugin_classes() if "." in name]
    for plugin in (IFCONFIG, ARP, ROUTE, BPF):
        short = plugin.rpartition(".")[0]
        assert [name for name in names if short in name] == [plugin]
