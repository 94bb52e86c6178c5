"""The network of FreeBSD 10, made by hand: there are no layouts of it, and much of it had other shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bsd.handmade import HandMade
from tests.bsd.network_truth import NONE, sound
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm.bsd.bpf import chosen_listeners
from volatility3_freebsd_kvm.bsd.counter import Counters
from volatility3_freebsd_kvm.bsd.ifnet import interfaces
from volatility3_freebsd_kvm.bsd.interface_flags import COUNTERS
from volatility3_freebsd_kvm.bsd.neighbor import neighbors
from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.bsd.route import routes
from volatility3_freebsd_kvm.bsd.stacks import chosen_stacks
from volatility3_freebsd_kvm.exceptions import SymbolError

AF_INET, AF_LINK = 2, 18
FAMILIES = 44
ADDRESS = bytes([192, 0, 2, 10])
TYPES = {
    "link": {"le_next": "void *", "le_prev": "void *"},
    "tail_link": {"tqe_next": "void *", "tqe_prev": "void *"},
    "list_head": {"lh_first": "void *"},
    "tailq_head": {"tqh_first": "void *", "tqh_last": "void *"},
    "slist_link": {"sle_next": "void *"},
    "proc": {"p_list": "struct link", "p_pid": "int", "p_comm": "char[20]"},
    "timeval": {"tv_sec": "long", "tv_usec": "long"},
    "ifaddr": {
        "ifa_addr": "void *",
        "ifa_dstaddr": "void *",
        "ifa_netmask": "void *",
        "ifa_ifp": "void *",
        "ifa_link": "struct tail_link",
        "ifa_flags": "unsigned short",
    },
    # sys/net/if.h of 10: what later is in struct ifnet itself.
    "if_data": {
        "ifi_type": "unsigned char",
        "ifi_addrlen": "unsigned char",
        "ifi_link_state": "unsigned char",
        "ifi_mtu": "unsigned long",
        **{f"ifi_{name}": "unsigned long" for name in COUNTERS if name != "oqdrops"},
        "ifi_epoch": "long",
        "ifi_lastchange": "struct timeval",
    },
    "ifnet": {
        "if_link": "struct tail_link",
        "if_xname": "char[16]",
        "if_dname": "char *",
        "if_dunit": "int",
        "if_addrhead": "struct tailq_head",
        "if_pcount": "int",
        "if_bpf": "void *",
        "if_index": "unsigned short",
        "if_flags": "int",
        "if_drv_flags": "int",
        "if_afdata": f"void *[{FAMILIES}]",
        "if_data": "struct if_data",
        "if_addr": "struct ifaddr *",
        "if_description": "char *",
        "if_groups": "struct tailq_head",
    },
    "ifindex_entry": {"ife_ifnet": "struct ifnet *"},
    "ifg_list": {"ifgl_group": "void *", "ifgl_next": "struct tail_link"},
    "in_ifaddr": {"ia_ifa": "struct ifaddr", "ia_hash": "struct link", "ia_link": "struct tail_link"},
    # sys/net/if_llatbl.h of 10: a fixed number of chains, the address behind the entry.
    "lltable": {
        "llt_link": "struct slist_link",
        "lle_head": "struct list_head[32]",
        "llt_af": "int",
        "llt_ifp": "struct ifnet *",
    },
    "ll_addr": {"mac8": "unsigned char[20]"},
    "llentry": {
        "lle_next": "struct link",
        "lle_tbl": "void *",
        "la_expire": "long",
        "la_flags": "unsigned short",
        "ln_state": "short",
        "ll_addr": "struct ll_addr",
        "pad": "char[8]",
    },
    # sys/net/radix.h, route.h of 10: the tree has no table around it, routes have a plain count.
    "radix_leaf": {"rn_Key": "void *", "rn_Mask": "void *", "rn_Dupedkey": "void *"},
    "radix_inner": {"rn_Off": "int", "rn_L": "void *", "rn_R": "void *"},
    "radix_u": {"rn_leaf": "struct radix_leaf", "rn_node": "struct radix_inner"},
    "radix_node": {
        "rn_mklist": "void *",
        "rn_parent": "void *",
        "rn_bit": "short",
        "rn_bmask": "char",
        "rn_flags": "unsigned char",
        "rn_u": "struct radix_u",
    },
    "radix_node_head": {"rnh_treetop": "struct radix_node *"},
    "rtentry": {
        "rt_nodes": "struct radix_node[2]",
        "rt_gateway": "void *",
        "rt_flags": "int",
        "rt_ifp": "struct ifnet *",
        "rt_ifa": "struct ifaddr *",
        "rt_mtu": "unsigned long",
        "rt_weight": "unsigned long",
        "rt_expire": "unsigned long",
        "rt_pksent": "unsigned long",
    },
    # sys/net/bpf.c, bpfdesc.h of 10.
    "bpf_if": {
        "bif_next": "struct link",
        "bif_dlist": "struct list_head",
        "bif_dlt": "unsigned int",
        "bif_ifp": "struct ifnet *",
        "bif_wlist": "struct list_head",
    },
    "bpf_d": {
        "bd_next": "struct link",
        "bd_bif": "struct bpf_if *",
        "bd_rfilter": "void *",
        "bd_rcount": "unsigned long",
        "bd_dcount": "unsigned long",
        "bd_fcount": "unsigned long",
        "bd_promisc": "unsigned char",
        "bd_pid": "int",
        "bd_direction": "int",
    },
}
"""Unions are structures here: only where members are counts."""


class Old(HandMade):
    """One network stack without VIMAGE, with an interface em0, a neighbour, two routes and a listener."""

    def __init__(self) -> None:
        super().__init__(TYPES)
        proc = self.new("struct proc", p_pid=77, p_comm=b"dhclient")
        self.first("allproc", proc, "p_list")
        self.interface = self._interface()
        self._addresses()
        self._neighbors()
        self._routes()
        self._bpf()

    def first(self, head: str, element: Object, link: str, head_type: str = "list_head") -> Object:
        """A variable that is a list of one element."""
        made = self.variable(head, f"struct {head_type}")
        self.write(int(made), addressof(element).to_bytes(8, "little"))
        self.write(addressof(element, link) + 8, int(made).to_bytes(8, "little"))
        return made

    def bytes(self, data: bytes) -> Object:
        made = self.new(f"unsigned char[{len(data)}]")
        self.write(int(made), data)
        return made

    def inet(self, address: bytes) -> Object:
        return self.bytes(bytes([16, AF_INET, 0, 0]) + address + bytes(8))

    def _interface(self) -> Object:
        data = {"ifi_type": 6, "ifi_addrlen": 6, "ifi_link_state": 2, "ifi_mtu": 1500, "ifi_ipackets": 7}
        data |= {"ifi_obytes": 1 << 40, "ifi_epoch": 3}
        made = self.new(
            "struct ifnet",
            if_xname=b"em0",
            if_dname=self.text(b"em"),
            if_index=1,
            if_flags=0x8843 & ~0x40,
            if_drv_flags=0x40,
            if_pcount=1,
            **{f"if_data__{name}": value for name, value in data.items()},
        )
        self.first("ifnet", made, "if_link", "tailq_head")
        table = self.new("struct ifindex_entry[8]")
        table[1].ife_ifnet = made
        self.variable("ifindex_table", "void *", addressof(table))
        self.variable("if_index", "int", 1)
        return made

    def _addresses(self) -> None:
        link = bytes([54, AF_LINK, 1, 0, 6, 3, 6, 0]) + b"em0" + bytes.fromhex("02005e000001")
        first = self.new("struct ifaddr", ifa_addr=self.bytes(link.ljust(54, b"\0")), ifa_ifp=self.interface)
        whole = self.new("struct in_ifaddr")
        whole.ia_ifa.ifa_addr = self.inet(ADDRESS)
        whole.ia_ifa.ifa_dstaddr = self.inet(bytes([192, 0, 2, 255]))
        whole.ia_ifa.ifa_netmask = self.bytes(bytes([7, AF_INET, 0, 0, 255, 255, 255]))
        whole.ia_ifa.ifa_ifp = self.interface
        self.interface.if_addr = first
        head, second = addressof(self.interface, "if_addrhead"), addressof(whole.ia_ifa)
        self.write(head, addressof(first).to_bytes(8, "little"))
        first.ifa_link.tqe_prev = head
        first.ifa_link.tqe_next = second
        whole.ia_ifa.ifa_link.tqe_prev = addressof(first, "ifa_link")
        self.first("in_ifaddrhead", whole, "ia_link", "tailq_head")
        self.address = second

    def _neighbors(self) -> None:
        self.table = self.new("struct lltable", llt_af=AF_INET, llt_ifp=self.interface)
        entry = self.new("struct llentry", lle_tbl=self.table, la_expire=90, la_flags=0x8 | 0x10, ln_state=1)
        assert self.types.sizeof("struct llentry") % 16 == 0
        self.inet(bytes([192, 0, 2, 1]))  # Behind it.
        entry.ll_addr.mac8 = bytes.fromhex("02005e0000fe").ljust(20, b"\0")
        self.table.lle_head[9].lh_first = entry
        entry.lle_next.le_prev = addressof(self.table, "lle_head") + 9 * 8
        self.variable("lltables", "struct slist_link", {"sle_next": addressof(self.table)})
        self.variable("time_second", "long", 1_000_100)
        self.variable("time_uptime", "long", 100)

    def _routes(self) -> None:
        top = self.new("struct radix_node", rn_bit=32, rn_flags=4 | 2)
        zeros = self._route_leaf(self.bytes(bytes(32)), 0)
        default = self._route(self.inet(bytes(4)), self.bytes(bytes(4)), self.inet(bytes([192, 0, 2, 1])), 0x803)
        mask = self.bytes(bytes([7, 255, 255, 255, 255, 255, 255]))
        net = self._route(
            self.inet(bytes([192, 0, 2, 0])), mask, self.bytes(bytes([54, AF_LINK, 1, 0]).ljust(54, b"\0")), 0x1
        )
        self._chain(zeros, default)
        self._children(top, zeros, net)
        head = self.new("struct radix_node_head", rnh_treetop=top)
        table = self.new(f"void *[{2 * (FAMILIES + 1)}]")
        table[AF_INET] = head
        self.variable("rt_tables", "void *", addressof(table))
        self.variable("rt_numfibs", "int", 2)

    # The two halves of the union lie one behind the other in what stands for it: the leaf's comes first.

    def _route_leaf(self, key: Object, mask: Object | int) -> Object:
        made = self.new("struct radix_node", rn_bit=-33, rn_flags=4 | 2)
        made.rn_u.rn_leaf.rn_Key, made.rn_u.rn_leaf.rn_Mask = key, mask
        return made

    def _route(self, key: Object, mask: Object, gateway: Object, flags: int) -> Object:
        made = self.new(
            "struct rtentry",
            rt_gateway=gateway,
            rt_flags=flags,
            rt_ifp=self.interface,
            rt_ifa=self.address,
            rt_mtu=1500,
            rt_weight=1,
            rt_pksent=33,
            rt_expire=160 if flags == 0x1 else 0,
        )
        leaf = made.rt_nodes[0]
        leaf.rn_bit, leaf.rn_flags = -33, 4
        leaf.rn_u.rn_leaf.rn_Key, leaf.rn_u.rn_leaf.rn_Mask = key, mask
        return made

    def _chain(self, leaf: Object, following: Object) -> None:
        leaf.rn_u.rn_leaf.rn_Dupedkey = following

    def _children(self, node: Object, left: Object, right: Object) -> None:
        node.rn_u.rn_node.rn_L, node.rn_u.rn_node.rn_R = left, right

    def _bpf(self) -> None:
        point = self.new("struct bpf_if", bif_dlt=1, bif_ifp=self.interface)
        self.interface.if_bpf = point
        self.first("bpf_iflist", point, "bif_next")
        program = self.bytes((0x06).to_bytes(2, "little") + bytes(2) + (96).to_bytes(4, "little"))
        listener = self.new(
            "struct bpf_d",
            bd_bif=point,
            bd_rfilter=program,
            bd_rcount=12,
            bd_dcount=1,
            bd_fcount=5,
            bd_promisc=1,
            bd_pid=77,
            bd_direction=1,
        )
        point.bif_dlist.lh_first = listener
        listener.bd_next.le_prev = addressof(point, "bif_dlist")


@pytest.fixture(scope="module")
def old() -> Old:
    return Old()


def test_an_interface(old: Old) -> None:
    kernel = old.kernel()
    (one,) = sound(interfaces(kernel, kernel.vnets()))
    assert (one.name, one.index, one.driver, one.vnet, one.jails, one.home) == ("em0", 1, "em0", NONE, NONE, NONE)
    assert one.flags == ("UP", "BROADCAST", "RUNNING", "SIMPLEX", "MULTICAST")
    assert (one.mtu, one.type, one.link_state, one.link_address) == (1500, "ether", "up", "02:00:5e:00:00:01")
    assert (one.counts["ipackets"], one.counts["obytes"]) == (7, 1 << 40)
    assert one.counts["oqdrops"] is Absent.NOT_AVAILABLE
    assert one.promiscuous_by == ("bpf: dhclient[77]",)
    assert one.notes == ("IFF_PROMISC is not set, but if_pcount is 1",)
    (address,) = one.addresses
    assert (address.text, address.prefix, address.broadcast) == ("192.0.2.10", 24, "192.0.2.255")
    assert address.notes == ()


def test_a_neighbor(old: Old) -> None:
    kernel = old.kernel()
    (one,) = sound(neighbors(kernel, kernel.vnets()))
    assert (one.text, one.link_address, one.interface) == ("192.0.2.1", "02:00:5e:00:00:fe", "em0")
    assert (one.state, one.seconds_left, one.used) == ("reachable", -10, Absent.NOT_AVAILABLE)
    assert one.flags == ("proxy",)
    assert one.notes == ()


def test_routes(old: Old) -> None:
    kernel = old.kernel()
    default, net = sound(routes(kernel, kernel.vnets()))
    assert (default.destination, default.gateway, default.flags) == ("default", "192.0.2.1", "UGS")
    assert (net.destination, net.gateway, net.flags) == ("192.0.2.0/24", "link#1", "U")
    assert (net.interface, net.source, net.mtu, net.used) == ("em0", "192.0.2.10", 1500, 33)
    assert (default.seconds_left, net.seconds_left) == (NONE, 60)
    assert (net.nexthop, net.group, net.notes) == (Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE, ())


def test_a_listener(old: Old) -> None:
    (one,) = sound(chosen_listeners(old.kernel()))
    assert (one.interface, one.link_type, one.role, one.pid) == ("em0", "EN10MB", "reader", 77)
    assert (one.process.command, one.flags) == ("dhclient", ("promiscuous",))
    assert (one.counts["received"], one.counts["dropped"], one.counts["captured"]) == (12, 1, 5)
    assert one.counts["written"] is Absent.NOT_AVAILABLE
    assert one.read_filter.lines() == ("ret #96",)  # type: ignore[union-attr]
    assert (one.buffer_mode, one.holders, one.notes) == (Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE, ())


def test_one_stack_serves_all_jails(old: Old) -> None:
    kernel = old.kernel()
    assert [stack.vnet for stack in chosen_stacks(kernel)] == [None]
    with pytest.raises(SymbolError, match=r"^there is no jail db; there are: none that can be read$"):
        chosen_stacks(kernel, jail="db")
    with pytest.raises(SymbolError, match=r"^there is no vnet 0; there are: none \(a kernel without VIMAGE"):
        chosen_stacks(kernel, "0")


# Counters of 11


class Eleven(HandMade):
    """Counters of a kernel whose copies of per-CPU memory are as far apart as ``struct pcpu`` is long."""

    def __init__(self, keg: dict[str, str]) -> None:
        super().__init__({"pcpu": {"pc_curthread": "void *", "pad": "char[504]"}, "uma_keg": keg})
        self.variable("mp_maxid", "int", 1)
        self.counter = self.new("unsigned char[8192]")
        for at, value in ((0, 40), (512, 2), (4096, 100)):
            self.write(int(self.counter) + at, value.to_bytes(8, "little"))


@pytest.mark.parametrize(
    ("keg", "value"), [({"uk_slabsize": "unsigned short"}, 42), ({"uk_ppera": "unsigned int"}, 140)]
)
def test_how_far_apart_counters_are(keg: dict[str, str], value: int) -> None:
    eleven = Eleven(keg)
    assert Counters(eleven.kernel()).fetch(int(eleven.counter)) == value


def test_counters_where_the_size_of_a_page_is_not_known() -> None:
    eleven = Eleven({"uk_ppera": "unsigned int"})
    kernel = replace(eleven.kernel(), architecture="arm64")
    with pytest.raises(SymbolError, match=r"^the size of a page is not known$"):
        Counters(kernel).fetch(int(eleven.counter))
