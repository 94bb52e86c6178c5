"""Neighbours: the link-level addresses that ARP and ND found for addresses of IP, as arp(8) and ndp(8) show them.

# Reference: sys/net/if_llatbl.h, if_llatbl.c, sys/netinet/in.c (in_lltable_dump_entry), sys/netinet6/nd6.h, in6.c
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..exceptions import KVMError, SymbolError
from .addresses import AF_INET, AF_INET6, InterfaceNames, address_text, link_text
from .clock import NANO, Clock, clock_of
from .fields import Fields
from .interface_views import FoundInterface, find_interfaces
from .kernel import Kernel, View
from .lists import HashTable, Queue
from .needs import unmet
from .objects import Object
from .process import is_readable
from .records import Absent, Problem, attempt
from .sockaddrs import family_name, read_address
from .stacks import jail_names, place, vnet_address, vnet_key

MAX_TABLES = 1 << 18
MAX_CHAINS = 1 << 16
MAX_NEIGHBORS = 1 << 22
LLE_STATIC, LLE_VALID = 0x2, 0x8
_FLAGS = (
    (0x1, "deleted"),
    (LLE_STATIC, "static"),
    (0x4, "own"),
    (0x20, "published"),
    (0x80, "child"),
)
"""LLE_ flags that mean the same in every release; ``own`` is an address of the interface itself (LLE_IFADDR)."""
_FLAG_10 = (0x10, "proxy")
"""LLE_PROXY to 10; since 11.0 the bit is of entries that a redirect made."""
_FLAG_11 = (0x10, "redirect")
_STATES_INET = {0: "incomplete", 1: "reachable", 2: "verify"}
"""ARP_LLINFO_."""
_STATES_INET6 = {-2: "no state", -1: "deleting", 0: "incomplete", 1: "reachable", 2: "stale", 3: "delay", 4: "probe"}
"""ND6_LLINFO_."""
_SIZES = {AF_INET: 4, AF_INET6: 16}
_LINK_LENGTH = 6
_MAX_LINK_LENGTH = 32


@dataclass(frozen=True)
class Neighbor:
    """A ``struct llentry``.

    Attributes:
        address: of it.
        vnet: address of the vnet.
        jails: names of the jails that use that.
        family: ``inet`` (ARP) or ``inet6`` (ND).
        text: the address of IP, with its scope.
        link_address: NOT_APPLICABLE while it is not known.
        interface: name of the interface.
        state: ``incomplete``, ``reachable``, ``stale``, …; ``permanent`` for one that does not expire.
        seconds_left: until it expires; negative if that time is over.
        expires: when.
        used: when it was last used, where the kernel remembers that.
        flags: ``static``, ``published``, ``own``, ``router``, …
        notes: what is odd.
    """

    address: int
    vnet: int | Absent
    jails: tuple[str, ...] | Absent
    family: str | Absent
    text: str | Absent
    link_address: str | Absent
    interface: str | Absent
    state: str | Absent
    seconds_left: int | Absent
    expires: datetime.datetime | Absent
    used: datetime.datetime | Absent
    flags: tuple[str, ...] | Absent
    notes: tuple[str, ...] = ()


def neighbors(kernel: Kernel, stacks: list[View]) -> Iterator[Neighbor | Problem]:
    """The neighbours of some vnets; see `stacks.chosen_stacks`."""
    missing = unmet(kernel, "lltables", ("lltable.llt_link", "lltable.lle_head", "llentry.lle_next"))
    if missing:
        yield missing
        return
    walk = _Walk(kernel, clock_of(kernel))
    # What is wrong with lists of interfaces, their own walk says.
    for one in find_interfaces(kernel, stacks):
        if isinstance(one, FoundInterface):
            walk.interfaces.setdefault(one.vnet, []).append(one)
    for stack in stacks:
        yield from walk.of_stack(stack)


@dataclass(frozen=True)
class _Table:
    """A ``struct lltable``: the neighbours of a family on an interface."""

    table: Object
    stack: View
    family: int
    interface: str | Absent
    link_length: int
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        name = "?" if isinstance(self.interface, Absent) else self.interface
        return place(self.stack, f"lltable {family_name(self.family)} of {name}")


@dataclass
class _Walk:
    kernel: Kernel
    clock: Clock
    problems: list[Problem] = field(default_factory=list)
    interfaces: dict[int, list[FoundInterface]] = field(default_factory=dict)

    def of_stack(self, stack: View) -> Iterator[Neighbor | Problem]:
        """The neighbours in all tables of a vnet."""
        names = InterfaceNames(stack)
        self.problems = []
        for table in self._tables(stack):
            for entry in self._entries(table):
                yield self._record(entry, table, names)
        yield from self.problems

    # Tables

    def _tables(self, stack: View) -> Iterator[_Table]:
        """Those on the list, then those that only an interface leads to."""
        listed, sound = self._listed(stack)
        for table in listed:
            yield self._table(table, stack, ())
        known = {table.address_ for table in listed}
        for address, name in self._of_interfaces(stack):
            if address not in known:
                note = "hidden: its table is not on lltables" if sound else "its table is not reached on lltables"
                yield self._table(self.kernel.object("lltable", address), stack, (f"{note}, known by {name}",))

    def _listed(self, stack: View) -> tuple[list[Object], bool]:
        where = place(stack, "lltables")
        try:
            queue = Queue(self.kernel.structs, stack.address("lltables"), "lltable", "llt_link", limit=MAX_TABLES)
        except SymbolError as error:
            self.problems.append(Problem(where, str(error)))
            return [], False
        found = [table for table in queue if is_readable(table, "llt_link")]
        self.problems += [Problem(where, problem) for problem in queue.problems]
        return found, not queue.problems

    def _of_interfaces(self, stack: View) -> Iterator[tuple[int, str]]:
        """Tables that interfaces have in ``if_afdata``."""
        for found in self.interfaces.get(vnet_key(stack), ()):
            data = attempt(lambda found=found: found.interface.if_afdata)  # type: ignore[misc]
            for family, type_name, member in ((AF_INET, "in_ifinfo", "ii_llt"), (AF_INET6, "in6_ifextra", "lltable")):
                try:
                    table = int(getattr(data[family].as_(type_name), member)) if not isinstance(data, Absent) else 0
                except KVMError:
                    continue
                if table:
                    yield table, str(found.name)

    def _table(self, table: Object, stack: View, notes: tuple[str, ...]) -> _Table:
        family = attempt(lambda: int(table.llt_af))
        length = attempt(lambda: int(_address_length(table.llt_ifp)))
        if isinstance(length, Absent) or not 0 < length <= _MAX_LINK_LENGTH:
            length = _LINK_LENGTH
        interface = attempt(lambda: str(table.llt_ifp.if_xname))
        return _Table(table, stack, family if isinstance(family, int) else 0, interface, length, notes)

    def _entries(self, table: _Table) -> Iterator[Object]:
        """The entries of all chains: a fixed number of them in the table itself to 10, apart from it since 11.0."""
        where, structs = table.where, self.kernel.structs
        try:
            if table.table.kind_("lle_head") == "array":
                heads, chains = table.table.at_("lle_head"), len(table.table.lle_head)
            else:
                heads, chains = int(table.table.lle_head), int(table.table.llt_hsize)
        except KVMError as error:
            self.problems.append(Problem(where, f"cannot be walked: {error}"))
            return
        if not 0 <= chains <= MAX_CHAINS:
            self.problems.append(Problem(where, f"{chains} hash chains are impossible"))
            return
        entries = HashTable(structs, heads, chains, "llentry", "lle_next", limit=MAX_NEIGHBORS)
        yield from (entry for entry in entries if is_readable(entry, "lle_next"))
        self.problems += [Problem(where, problem) for problem in entries.problems]

    # Entries

    def _record(self, entry: Object, table: _Table, names: InterfaceNames) -> Neighbor:
        fields = Fields()
        for note in table.notes:
            fields.note(note)
        flags = fields.take("la_flags", lambda: int(entry.la_flags))
        expiry = fields.take("la_expire", lambda: self._expiry(entry))
        permanent = isinstance(flags, int) and bool(flags & LLE_STATIC)
        if permanent:
            expiry = Absent.NOT_APPLICABLE
        self._check(entry, table, fields)
        return Neighbor(
            address=entry.address_,
            vnet=vnet_address(table.stack),
            jails=jail_names(table.stack),
            family=family_name(table.family),
            text=fields.take("r_l3addr", lambda: self._address(entry, table.family, names)),
            link_address=fields.take("ll_addr", lambda: self._link_address(entry, table.link_length, flags)),
            interface=table.interface,
            state="permanent" if permanent else fields.take("ln_state", lambda: _state(entry, table.family)),
            seconds_left=expiry if isinstance(expiry, Absent) else self._left(expiry),
            expires=expiry if isinstance(expiry, Absent) else self.clock.at(expiry * NANO),
            used=fields.take("lle_hittime", lambda: self._used(entry)),
            flags=flags if isinstance(flags, Absent) else _flag_names(entry, flags),
            notes=fields.notes,
        )

    def _check(self, entry: Object, table: _Table, fields: Fields) -> None:
        own = attempt(lambda: int(entry.lle_tbl))
        if isinstance(own, int) and own != table.table.address_:
            fields.note(f"its lle_tbl is {own:#x}, not {table.table.address_:#x}")
        waiting = attempt(lambda: int(entry.la_numheld))
        if isinstance(waiting, int) and waiting:
            fields.note(f"{waiting} packets wait for it")

    def _address(self, entry: Object, family: int, names: InterfaceNames) -> str:
        """Since 11.0 in the entry; before, a socket address behind it."""
        structs = self.kernel.structs
        if not entry.has_("r_l3addr"):
            return read_address(self.kernel, entry.address_ + entry.size_, names)[0].text
        if family not in _SIZES:
            return structs.read(entry.at_("r_l3addr"), 16).hex()
        return address_text(structs.read(entry.at_("r_l3addr"), _SIZES[family]), names)

    def _link_address(self, entry: Object, length: int, flags: int | Absent) -> str | Absent:
        """Since 11.0 ``ll_addr`` points to it; before, it was a union with the bytes."""
        if isinstance(flags, int) and not flags & LLE_VALID:
            return Absent.NOT_APPLICABLE
        place_of = int(entry.ll_addr) if entry.kind_("ll_addr") == "pointer" else entry.at_("ll_addr")
        return link_text(self.kernel.structs.read(place_of, length))

    def _expiry(self, entry: Object) -> int | Absent:
        """Seconds of uptime; a stale entry of ND stays for ``lle_remtime`` ticks more. NOT_APPLICABLE: never."""
        expire = int(entry.la_expire)
        if not expire:
            return Absent.NOT_APPLICABLE
        ticks = int(entry.lle_remtime) if entry.has_("lle_remtime") else 0
        hz = attempt(lambda: self.kernel.integer("hz")) if ticks else 0
        return expire + (ticks // hz if isinstance(hz, int) and hz > 0 else 0)

    def _left(self, expiry: int) -> int | Absent:
        uptime = self.clock.uptime
        return uptime if isinstance(uptime, Absent) else expiry - uptime // NANO

    def _used(self, entry: Object) -> datetime.datetime | Absent:
        seconds = int(entry.lle_hittime)
        return self.clock.at(seconds * NANO) if seconds else Absent.NOT_APPLICABLE


def _address_length(interface: Object) -> int:
    return int(interface.if_addrlen if interface.has_("if_addrlen") else interface.if_data.ifi_addrlen)


def _state(entry: Object, family: int) -> str:
    states = _STATES_INET if family == AF_INET else _STATES_INET6
    value = int(entry.ln_state)
    return states.get(value, str(value))


def _flag_names(entry: Object, flags: int) -> tuple[str, ...]:
    names = (*_FLAGS, _FLAG_11 if entry.has_("r_l3addr") else _FLAG_10)
    router = attempt(lambda: int(entry.ln_router))
    return (*(name for bit, name in names if flags & bit), *(("router",) if router == 1 else ()))
