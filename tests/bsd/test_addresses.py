"""Addresses of the network as text, and the names of interfaces in them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bsd.handmade import HandMade
from tests.scenario.kernels import build_world
from tests.scenario.network_shapes import interface_index
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from tests.writers.objects import link_tailq
from volatility3_freebsd_kvm.bsd.addresses import (
    AF_INET,
    AF_INET6,
    AF_LINK,
    AF_UNIX,
    InterfaceNames,
    SocketAddress,
    address_text,
    decode_sockaddr,
    endpoint,
    has_scope,
    ipv6_text,
    link_text,
    prefix_length,
    read_sockaddr,
    sockaddr_bytes,
    split_zone,
    unix_path,
    unspecified,
)
from volatility3_freebsd_kvm.bsd.kernel import View
from volatility3_freebsd_kvm.exceptions import AddressError

LINK_LOCAL = ipaddress.ip_address("fe80::1").packed
IN_ZONE_3 = LINK_LOCAL[:2] + b"\0\3" + LINK_LOCAL[4:]


class Fixed(InterfaceNames):
    """Knows one interface."""

    def __init__(self) -> None:
        pass

    def name(self, index: int) -> str:
        return {3: "em0"}.get(index, str(index))


# Bytes of an address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("::", "::"),
        ("::1", "::1"),
        ("::2", "::0.0.0.2"),
        ("::1:0:0", "::1:0:0"),
        ("::c000:201", "::192.0.2.1"),
        ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("::ffff:0:0", "::ffff:0.0.0.0"),
        ("::fffe:c000:201", "::fffe:c000:201"),
        ("2001:db8::10", "2001:db8::10"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("1:0:0:2:3:0:0:4", "1::2:3:0:0:4"),
        ("ff02::1:ff00:1", "ff02::1:ff00:1"),
    ],
)
def test_ipv6_is_written_as_inet_ntop_does(address: str, text: str) -> None:
    assert ipv6_text(ipaddress.IPv6Address(address).packed) == text


@given(st.binary(min_size=16, max_size=16))
def test_ipv6_text_means_the_same_address(data: bytes) -> None:
    assert ipaddress.IPv6Address(ipv6_text(data)).packed == data


@given(st.binary(min_size=4, max_size=4))
def test_ipv4_text_means_the_same_address(data: bytes) -> None:
    assert ipaddress.IPv4Address(address_text(data)).packed == data


@pytest.mark.parametrize(
    ("data", "scope", "text"),
    [
        (IN_ZONE_3, 0, "fe80::1%em0"),
        (LINK_LOCAL, 3, "fe80::1%em0"),
        (LINK_LOCAL, 9, "fe80::1%9"),
        (IN_ZONE_3, 9, "fe80::1%9"),
        (LINK_LOCAL, 0, "fe80::1"),
        (bytes.fromhex("ff020003000000000000000000000001"), 0, "ff02::1%em0"),
        (bytes.fromhex("ff010003000000000000000000000001"), 0, "ff01::1%em0"),
        # No zone in what means the same everywhere.
        (bytes.fromhex("ff050003000000000000000000000001"), 0, "ff05:3::1"),
        (bytes.fromhex("20010db8000000000000000000000001"), 3, "2001:db8::1"),
        (bytes.fromhex("fec00003000000000000000000000001"), 0, "fec0:3::1"),
    ],
)
def test_scopes_are_told_as_getnameinfo_does(data: bytes, scope: int, text: str) -> None:
    assert address_text(data, Fixed(), scope) == text


def test_scopes_without_names_are_numbers() -> None:
    assert address_text(IN_ZONE_3) == "fe80::1%3"


@given(st.binary(min_size=16, max_size=16))
def test_zones_are_taken_out_of_scoped_addresses_only(data: bytes) -> None:
    bare, zone = split_zone(data)
    if has_scope(data):
        assert bare == data[:2] + bytes(2) + data[4:]
        assert zone == int.from_bytes(data[2:4], "big")
    else:
        assert (bare, zone) == (data, 0)


def test_endpoints() -> None:
    assert endpoint("192.0.2.1", 80) == "192.0.2.1:80"
    assert endpoint("::1", 22) == "::1:22"
    assert endpoint("*", 0) == "*:*"
    assert endpoint("fe80::1%em0", 546, ".") == "fe80::1%em0.546"
    assert unspecified(bytes(16))
    assert not unspecified(LINK_LOCAL)


def test_link_level_addresses() -> None:
    assert link_text(bytes([0x58, 0x9C, 0xFC, 0, 0, 1])) == "58:9c:fc:00:00:01"
    assert link_text(b"") == ""


@pytest.mark.parametrize(
    ("mask", "bits", "length"),
    [
        (bytes([255, 255, 255, 0]), 32, 24),
        (bytes([255, 255]), 32, 16),
        (b"", 32, 0),
        (b"\xff" * 8, 128, 64),
        (b"\xff" * 17, 128, 128),
        (bytes([255, 0, 255, 0]), 32, None),
        (bytes([0x7F]), 32, None),
    ],
)
def test_masks(mask: bytes, bits: int, length: int | None) -> None:
    assert prefix_length(mask, bits) == length


@given(st.integers(0, 128))
def test_every_prefix_has_its_length(length: int) -> None:
    mask = ((1 << 128) - (1 << 128 - length)).to_bytes(16, "big")
    assert prefix_length(mask, 128) == prefix_length(mask.rstrip(b"\0"), 128) == length


# struct sockaddr


def test_sockaddr_in() -> None:
    data = bytes([16, AF_INET, 0, 80, 192, 0, 2, 1]) + bytes(8)
    assert decode_sockaddr(data, "little") == SocketAddress(AF_INET, "192.0.2.1", 80, bytes([192, 0, 2, 1]))


def test_a_short_sockaddr_in_of_a_mask() -> None:
    assert decode_sockaddr(bytes([6, AF_INET, 0, 0, 255, 255]), "big").text == "255.255.0.0"


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_sockaddr_in6_with_a_scope(byteorder: str) -> None:
    scope = (3).to_bytes(4, byteorder)  # type: ignore[arg-type]
    data = bytes([28, AF_INET6, 2, 34]) + bytes(4) + LINK_LOCAL + scope
    found = decode_sockaddr(data, byteorder, Fixed())
    assert found == SocketAddress(AF_INET6, "fe80::1%em0", 546, LINK_LOCAL, 3)


def test_sockaddr_in6_with_its_zone_inside() -> None:
    data = bytes([28, AF_INET6, 0, 0]) + bytes(4) + IN_ZONE_3 + bytes(4)
    assert decode_sockaddr(data, "little") == SocketAddress(AF_INET6, "fe80::1%3", 0, LINK_LOCAL, 3)


def test_sockaddr_dl() -> None:
    head = bytes([20, AF_LINK, 3, 0, 6, 3, 6, 0])
    found = decode_sockaddr(head + b"em0" + bytes([2, 0, 0, 0, 0, 9]), "little")
    assert found == SocketAddress(AF_LINK, "02:00:00:00:00:09", 0, bytes([2, 0, 0, 0, 0, 9]), 3, "em0")


def test_sockaddr_dl_without_an_address() -> None:
    data = bytes([20, AF_LINK, 0, 3, 24, 0, 0, 0]) + bytes(12)
    assert decode_sockaddr(data, "big", Fixed()) == SocketAddress(AF_LINK, "link#3", 0, b"", 3, "em0")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (bytes([14, AF_UNIX]) + b"/var/run/log", "/var/run/log"),
        (bytes([16, AF_UNIX]) + b"/var/run/log\0x", "/var/run/log"),
        (bytes([2, AF_UNIX]), ""),
        (bytes([4, AF_UNIX]) + b"/\xff", "/\ufffd"),
    ],
)
def test_sockaddr_un(data: bytes, path: str) -> None:
    assert unix_path(data) == path
    assert decode_sockaddr(data, "little") == SocketAddress(AF_UNIX, path)


def test_a_sockaddr_of_another_family() -> None:
    assert decode_sockaddr(bytes([4, 99, 1, 2]), "little") == SocketAddress(99, "0102")


@given(st.binary(max_size=64), st.sampled_from(["little", "big"]))
def test_any_bytes_are_some_sockaddr(data: bytes, byteorder: str) -> None:
    found = decode_sockaddr(data, byteorder, Fixed())
    assert len(found.address) <= 64
    assert 0 <= found.port < 1 << 16


def test_a_sockaddr_in_memory_is_as_long_as_it_says() -> None:
    system = HandMade({})
    made = system.new("char[32]")
    system.write(int(made), bytes([8, AF_INET, 0, 80, 192, 0, 2, 1]) + b"\xff" * 24)
    structs = system.kernel().structs
    assert sockaddr_bytes(structs, int(made)) == bytes([8, AF_INET, 0, 80, 192, 0, 2, 1])
    assert read_sockaddr(system.kernel(), int(made)).text == "192.0.2.1"
    system.write(int(made), b"\0")
    assert sockaddr_bytes(structs, int(made)) == bytes([0, AF_INET])


@pytest.mark.parametrize("address", [0, 0x1000])
def test_a_sockaddr_that_is_nowhere(address: int) -> None:
    with pytest.raises(AddressError):
        read_sockaddr(HandMade({}).kernel(), address)


# Names of interfaces


def test_every_interface_is_named_in_its_vnet(kernel: str) -> None:
    world = build_world(kernel)
    for jid in (0, 2):
        names = InterfaceNames(walkable(kernel).vnet(jid))
        for item in SYSTEM.interfaces:
            if item.vnet == jid:
                assert names.name(interface_index(world, item)) == item.name
        assert names.name(77) == "77"


TAIL_LINK = {"tqe_next": "void *", "tqe_prev": "void *"}
INTERFACES = {
    "tail_link": TAIL_LINK,
    "tailq_head": {"tqh_first": "void *", "tqh_last": "void *"},
    "ifnet": {"if_link": "struct tail_link", "if_index": "unsigned short", "if_xname": "char[16]"},
}


class Interfaces(HandMade):
    def __init__(self, more: dict[str, dict[str, str]] | None = None) -> None:
        super().__init__({**INTERFACES, **(more or {})})
        self.em0, self.lo0 = (
            self.new("struct ifnet", if_index=index, if_xname=name) for index, name in ((1, b"em0"), (2, b"lo0"))
        )

    def names(self) -> InterfaceNames:
        return InterfaceNames(View(self.kernel()))


def test_the_index_table_of_11_has_pointers_only() -> None:
    system = Interfaces()
    table = system.new("long[4]")
    table[1], table[2] = int(system.em0), int(system.lo0)
    system.variable("ifindex_table", "void *", table)
    system.variable("if_index", "int", 2)
    names = system.names()
    assert [names.name(index) for index in (0, 1, 2, 3)] == ["0", "em0", "lo0", "3"]


def test_the_index_table_of_14_has_entries() -> None:
    system = Interfaces({"ifindex_entry": {"ife_ifnet": "void *", "ife_gencnt": "unsigned short"}})
    table = system.new("struct ifindex_entry[4]")
    table[2].ife_ifnet = system.lo0
    system.variable("ifindex_table", "void *", table)
    system.variable("if_index", "int", 2)
    assert system.names().name(2) == "lo0"


def test_names_come_from_the_list_where_there_is_no_table() -> None:
    system = Interfaces()
    link_tailq(system.variable("ifnet", "struct tailq_head"), [system.em0, system.lo0], "if_link")
    assert [system.names().name(index) for index in (1, 2, 3)] == ["em0", "lo0", "3"]


def test_an_entry_of_another_interface_is_not_believed() -> None:
    """An index may have been given away again; the number is all that is certain then."""
    system = Interfaces()
    table = system.new("long[4]")
    table[1] = int(system.lo0)
    system.variable("ifindex_table", "void *", table)
    system.variable("if_index", "int", 2)
    assert system.names().name(1) == "1"


def test_an_interface_with_an_unprintable_name_is_a_number() -> None:
    system = Interfaces()
    system.em0.if_xname = b"e\x1b[2J"
    link_tailq(system.variable("ifnet", "struct tailq_head"), [system.em0], "if_link")
    assert system.names().name(1) == "1"


def test_names_are_numbers_where_nothing_is_known() -> None:
    assert InterfaceNames(View(HandMade({}).kernel())).name(7) == "7"
