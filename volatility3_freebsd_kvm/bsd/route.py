"""Routing tables of every vnet, FIB and family, as netstat -rn shows them.

# Reference: sys/net/route.h, route.c (rt_tables_get_rnh_ptr), sys/net/route/route_var.h, usr.bin/netstat/route.c
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..exceptions import AddressError, KVMError, SymbolError
from .addresses import AF_INET, AF_INET6, InterfaceNames, SocketAddress, address_text, prefix_length, unspecified
from .clock import NANO, Clock, clock_of
from .counter import Counters
from .fields import Fields
from .kernel import Kernel, View
from .needs import unmet
from .nexthop import Hop, hops_of
from .objects import Object
from .radix import Leaf, RadixTree
from .records import Absent, Problem, attempt
from .sockaddrs import family_name, mask_bytes, read_address
from .stacks import jail_names, place, vnet_address

MAX_FIBS = 1 << 16
MAX_FAMILIES = 256
MAX_UNSOUND = 16
"""So many broken tables end a walk: what is walked is no table of tables."""
_LETTERS = (
    (0x1, "U"),
    (0x2, "G"),
    (0x4, "H"),
    (0x8, "R"),
    (0x10, "D"),
    (0x20, "M"),
    (0x40, "d"),
    (0x200, "X"),
    (0x800, "S"),
    (0x8000, "1"),
    (0x4000, "2"),
    (0x40000, "3"),
    (0x1000, "B"),
    (0x400000, "b"),
    (0x400, "L"),
)
"""RTF_ by the letters of netstat -r, in its order."""
_MASK_AT = {AF_INET: (4, 4), AF_INET6: (8, 16)}
"""Where the address is in a socket address, and its size."""


@dataclass(frozen=True)
class Route:
    """A route, or one of the nexthops of a route that has several.

    Attributes:
        address: of the ``struct rtentry``.
        vnet: address of the vnet.
        jails: names of the jails that use that.
        fib: number of the table.
        family: ``inet``, ``inet6``.
        destination: ``default``, ``192.0.2.0/24``, ``fe80::%em0/64``; hosts without a prefix, as netstat has them.
        gateway: address, or ``link#3`` for an interface.
        flags: letters as in netstat -r: ``UGS``.
        interface: name of the one that packets leave by.
        source: address of the interface that is used with it (``rt_ifa``).
        mtu: of the path.
        seconds_left: until it expires; negative if that time is over.
        expires: when.
        weight: share of the packets, where there are several nexthops; else what the kernel keeps for the route.
        nexthop, group: their numbers, since 13.0; group NOT_APPLICABLE for a single nexthop.
        used: packets sent by this nexthop.
        notes: what is odd.
    """

    address: int
    vnet: int | Absent
    jails: tuple[str, ...] | Absent
    fib: int
    family: str
    destination: str | Absent
    gateway: str | Absent = Absent.UNREADABLE
    flags: str | Absent = Absent.UNREADABLE
    interface: str | Absent = Absent.UNREADABLE
    source: str | Absent = Absent.UNREADABLE
    mtu: int | Absent = Absent.UNREADABLE
    seconds_left: int | Absent = Absent.UNREADABLE
    expires: datetime.datetime | Absent = Absent.UNREADABLE
    weight: int | Absent = Absent.UNREADABLE
    nexthop: int | Absent = Absent.UNREADABLE
    group: int | Absent = Absent.NOT_APPLICABLE
    used: int | Absent = Absent.UNREADABLE
    notes: tuple[str, ...] = ()


def routes(kernel: Kernel, stacks: list[View]) -> Iterator[Route | Problem]:
    """The routes of some vnets; see `stacks.chosen_stacks`."""
    heads = ("rib_head.head", "radix_node_head.rnh_treetop")
    missing = unmet(kernel, "rt_tables", (heads, "radix_node.rn_bit", "rtentry.rt_nodes", "ifnet.if_afdata"))
    if missing:
        yield missing
        return
    walk = _Walk(kernel, clock_of(kernel), Counters(kernel))
    for stack in stacks:
        yield from walk.of_stack(stack)


@dataclass(frozen=True)
class _Table:
    """A routing table: the tree of a family in a FIB."""

    stack: View
    fib: int
    family: int
    address: int
    names: InterfaceNames

    @property
    def where(self) -> str:
        return place(self.stack, f"{family_name(self.family)} routes of fib {self.fib}")


@dataclass
class _Walk:
    kernel: Kernel
    clock: Clock
    counters: Counters
    problems: list[Problem] = field(default_factory=list)

    def of_stack(self, stack: View) -> Iterator[Route | Problem]:
        """The routes of all tables of a vnet."""
        self.problems = []
        try:
            tables = list(self._tables(stack))
        except KVMError as error:
            yield Problem(place(stack, "rt_tables"), f"cannot be walked: {error}")
            return
        unsound = 0
        for table in tables:
            sound = True
            for record in self._of_table(table):
                sound &= not isinstance(record, Problem)
                yield record
            unsound += not sound
            if unsound >= MAX_UNSOUND:
                last = f"fib {table.fib} {family_name(table.family)}"
                text = f"{unsound} tables are not sound, those behind {last} are left out"
                yield Problem(place(stack, "rt_tables"), text)
                break
        yield from self.problems

    # Tables

    def _tables(self, stack: View) -> Iterator[_Table]:
        """The table of pointers has one for each family, FIB by FIB."""
        structs, names = self.kernel.structs, InterfaceNames(stack)
        first = int(stack.pointer("rt_tables"))
        families = self._families()
        for fib in range(self._fibs(stack)):
            row = first + fib * families * structs.word_size
            try:
                data = structs.read(row, families * structs.word_size)
            except AddressError as error:
                self.problems.append(Problem(place(stack, "rt_tables"), f"fib {fib} cannot be read: {error}"))
                return
            for family in range(1, families):
                at = family * structs.word_size
                address = int.from_bytes(data[at : at + structs.word_size], structs.byteorder)
                if address:
                    yield _Table(stack, fib, family, address, names)

    def _families(self) -> int:
        """AF_MAX + 1; the array of what families keep of an interface has AF_MAX elements."""
        _, reference = self.kernel.structs.member("ifnet", "if_afdata")
        count = int(reference.get("count", 0))
        if not 0 < count < MAX_FAMILIES:
            msg = f"if_afdata has {count} elements, which is no number of address families"
            raise SymbolError(msg)
        return count + 1

    def _fibs(self, stack: View) -> int:
        """How many FIBs there are: of each vnet since 13.0, of all of them before."""
        # To 12 the variable has no underscore in front, and is found nevertheless.
        name = stack.find("_rt_numfibs").symbol.removeprefix("vnet_entry_")
        count = stack.integer("_rt_numfibs")
        if not 0 < count <= MAX_FIBS:
            self.problems.append(
                Problem(place(stack, name), f"{count} routing tables are impossible: only fib 0 is shown")
            )
            return 1
        return count

    def _of_table(self, table: _Table) -> Iterator[Route | Problem]:
        kernel, found = self.kernel, 0
        head = kernel.object("rib_head", table.address) if kernel.has_type("rib_head") else None
        try:
            # Since 11.0 the tree's head is the first member of the table.
            old = kernel.object("radix_node_head", table.address)
            tree = RadixTree(kernel.structs, int(head.head.rnh_treetop if head else old.rnh_treetop))
        except KVMError as error:
            yield Problem(table.where, f"cannot be walked: {error}", table.address)
            return
        for leaf in tree:
            found += 1
            yield from self._of_leaf(table, leaf)
        yield from (Problem(table.where, problem) for problem in tree.problems)
        count = attempt(lambda: int(head.rnh_prefixes)) if head else Absent.NOT_AVAILABLE
        if isinstance(count, int) and count != found:
            yield Problem(table.where, f"{found} were found, but rnh_prefixes counts {count}", table.address)

    # Routes

    def _of_leaf(self, table: _Table, leaf: Leaf) -> Iterator[Route]:
        entry, fields = self.kernel.object("rtentry", leaf.address), Fields()
        route = Route(
            leaf.address,
            vnet_address(table.stack),
            jail_names(table.stack),
            table.fib,
            family_name(table.family),
            fields.take("rn_key", lambda: self._destination(table, leaf, fields)),
        )
        if not entry.has_("rt_nhop"):
            yield self._complete_old(route, entry, table, fields)
            return
        hops = fields.take("rt_nhop", lambda: list(hops_of(self.kernel, int(entry.rt_nhop), fields)))
        if isinstance(hops, Absent) or not hops:
            yield replace(route, notes=fields.notes)
            return
        for hop in hops:
            yield self._complete(route, entry, hop, table, fields)

    def _destination(self, table: _Table, leaf: Leaf, fields: Fields) -> str:
        key, note = read_address(self.kernel, leaf.key)
        if note:
            fields.note(f"rn_key: {note}")
        if key.family != table.family:
            fields.note(f"its destination is of family {family_name(key.family)}")
        if key.family not in _MASK_AT:
            return key.text
        text = address_text(key.address, table.names, key.zone)
        at, size = _MASK_AT[key.family]
        if not leaf.mask:
            return text
        mask = fields.take("rn_mask", lambda: mask_bytes(self.kernel, leaf.mask)[at : at + size])
        return text + "/?" if isinstance(mask, Absent) else _network(key, text, mask)

    def _complete_old(self, route: Route, entry: Object, table: _Table, fields: Fields) -> Route:
        """To 12 a route has all of it."""
        expire = fields.take("rt_expire", lambda: int(entry.rt_expire))
        route = replace(
            route,
            gateway=fields.take(
                "rt_gateway", lambda: self._address(int(entry.rt_gateway), table, "rt_gateway", fields)
            ),
            flags=fields.take("rt_flags", lambda: _letters(int(entry.rt_flags))),
            interface=fields.take("rt_ifp", lambda: str(entry.rt_ifp.if_xname)),
            source=fields.take("rt_ifa", lambda: self._address(int(entry.rt_ifa.ifa_addr), table, "rt_ifa", fields)),
            mtu=fields.take("rt_mtu", lambda: int(entry.rt_mtu)),
            seconds_left=self._left(expire),
            expires=self._when(expire),
            weight=fields.take("rt_weight", lambda: int(entry.rt_weight)),
            nexthop=Absent.NOT_AVAILABLE,
            group=Absent.NOT_AVAILABLE,
            used=fields.take("rt_pksent", lambda: self._used(entry, "rt_pksent")),
        )
        return replace(route, notes=fields.notes)

    def _complete(self, route: Route, entry: Object, one: Hop, table: _Table, common: Fields) -> Route:
        """Since 13.0 the nexthop has the rest; what only the control plane needs is in its private part."""
        hop, fields = one.hop, Fields()
        for note in common.notes:
            fields.note(note)
        expire = fields.take("nh_expire", lambda: _expiry(entry, hop))
        route = replace(
            route,
            gateway=fields.take("gw_sa", lambda: self._address(hop.at_("gw_sa"), table, "gw_sa", fields)),
            flags=fields.take("rt_flags", lambda: _letters(int(entry.rte_flags) | int(hop.nh_priv.rt_flags))),
            interface=fields.take("nh_ifp", lambda: str(hop.nh_ifp.if_xname)),
            source=fields.take("nh_ifa", lambda: self._address(int(hop.nh_ifa.ifa_addr), table, "nh_ifa", fields)),
            mtu=fields.take("nh_mtu", lambda: int(hop.nh_mtu)),
            seconds_left=self._left(expire),
            expires=self._when(expire),
            weight=fields.take("rt_weight", lambda: int(entry.rt_weight)) if one.weight is None else one.weight,
            nexthop=fields.take("nh_idx", lambda: int(hop.nh_priv.nh_idx)),
            group=Absent.NOT_APPLICABLE if one.group is None else one.group,
            used=fields.take("nh_pksent", lambda: self._used(hop, "nh_pksent")),
        )
        back = attempt(lambda: int(hop.nh_priv.nh))
        if isinstance(back, int) and back != hop.address_:
            fields.note(f"the private part of nexthop {hop.address_:#x} is that of {back:#x}")
        return replace(route, notes=fields.notes)

    # Fields

    def _address(self, address: int, table: _Table, what: str, fields: Fields) -> str:
        found, note = read_address(self.kernel, address, table.names)
        if note:
            fields.note(f"{what}: {note}")
        return found.text

    def _used(self, holder: Object, member: str) -> int:
        """Packets: per CPU since 11.0, a plain number before."""
        value = int(getattr(holder, member))
        return self.counters.fetch(value) if holder.kind_(member) == "pointer" else value

    def _left(self, expire: int | Absent) -> int | Absent:
        if isinstance(expire, Absent) or not expire:
            return expire or Absent.NOT_APPLICABLE
        uptime = self.clock.uptime
        return uptime if isinstance(uptime, Absent) else expire - uptime // NANO

    def _when(self, expire: int | Absent) -> datetime.datetime | Absent:
        if isinstance(expire, Absent) or not expire:
            return expire or Absent.NOT_APPLICABLE
        return self.clock.at(expire * NANO)


def _network(key: SocketAddress, text: str, mask: bytes) -> str:
    """A destination with its prefix; with the mask itself where that is not one."""
    length = prefix_length(mask, 8 * len(key.address))
    if length is None:
        return f"{text}&{mask.hex()}"
    return "default" if not length and unspecified(key.address) else f"{text}/{length}"


def _letters(flags: int) -> str:
    return "".join(letter for bit, letter in _LETTERS if flags & bit)


def _expiry(entry: Object, hop: Object) -> int:
    """Seconds of uptime: of the nexthop since 14.0, of the route before; 0 for never."""
    private = hop.nh_priv
    return int(private.nh_expire if private.object_().has_("nh_expire") else entry.rt_expire)
