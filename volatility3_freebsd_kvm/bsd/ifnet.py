"""Network interfaces with their addresses and counters, as ifconfig(8) and netstat -i show them.

# Reference: sys/net/if_private.h (struct ifnet; if_var.h until 13), sys/net/if.c, sbin/ifconfig/ifconfig.c
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .addresses import AF_LINK, InterfaceNames, link_text
from .bpf import Listener, listeners
from .clock import NANO, Clock, clock_of, utc
from .counter import Counters
from .fields import Fields
from .ifaddr import (
    AddressViews,
    InterfaceAddress,
    address_views,
    is_link_address,
    listed_addresses,
    read_interface_address,
)
from .interface_flags import (
    COUNTERS,
    DRIVER_FLAGS,
    IFF_PPROMISC,
    IFF_PROMISC,
    LINK_STATES,
    TYPES,
    flag_names,
)
from .interface_views import FoundInterface, find_interfaces
from .kernel import Kernel, View
from .lists import Queue
from .objects import Object
from .process import is_readable
from .records import Absent, Problem, attempt
from .sockaddrs import read_address
from .stacks import jail_names, place, vnet_address, vnet_key
from .times import timeval

MAX_GROUPS = 1 << 12
_MAX_DESCRIPTION = 1024
"""ifr_buffer of SIOCSIFDESCR, net.link.ifdescr_maxlen, is 1024 unless changed."""
_MAX_LINK_ADDRESS = 32
_OWN_COUNTERS = "if_get_counter_default"


@dataclass(frozen=True)
class Interface:
    """A network interface.

    Attributes:
        address: of its ``struct ifnet``.
        vnet: address of the vnet that it is in.
        jails: names of the jails that use that.
        name: ``em0``.
        index: ``if_index``.
        flags: names of IFF_ flags, those of the driver included, as ifconfig prints them.
        driver_flags: ``RUNNING``, ``OACTIVE``.
        mtu, type, link_state: as ifconfig and if_types.h name them.
        link_address: Ethernet address; NOT_APPLICABLE for an interface without one.
        driver: name and unit of its driver: ``vtnet0``, also where the interface was renamed.
        groups: names of its groups.
        description: what ifconfig set.
        counts: packets, bytes, errors by the names of `interface_flags.COUNTERS`.
        promiscuous: how many asked for all packets.
        promiscuous_by: who did, as far as it is known.
        home: address of the vnet that it was made in and will go back to.
        fib: number of the routing table for packets that come in.
        attached: when it was attached, or its counters reset.
        changed: when it was changed last.
        addresses: those above the link level.
        notes: what is odd.
    """

    address: int
    vnet: int | Absent
    jails: tuple[str, ...] | Absent
    name: str | Absent
    index: int | Absent
    flags: tuple[str, ...] | Absent
    driver_flags: tuple[str, ...] | Absent
    mtu: int | Absent
    type: str | Absent
    link_state: str | Absent
    link_address: str | Absent
    driver: str | Absent
    groups: tuple[str, ...] | Absent
    description: str | Absent
    counts: dict[str, int | Absent]
    promiscuous: int | Absent
    promiscuous_by: tuple[str, ...]
    home: int | Absent
    fib: int | Absent
    attached: datetime.datetime | Absent
    changed: datetime.datetime | Absent
    addresses: tuple[InterfaceAddress, ...]
    notes: tuple[str, ...] = ()


def interfaces(kernel: Kernel, stacks: list[View]) -> Iterator[Interface | Problem]:
    """The interfaces of some vnets, each vnet's in the order of its list; see `stacks.chosen_stacks`."""
    found = list(find_interfaces(kernel, kernel.vnets()))
    known = [one for one in found if isinstance(one, FoundInterface)]
    reader = _Reader(kernel, known)
    for stack in stacks:
        yield from reader.of_stack(stack)
    yield from (one for one in found if isinstance(one, Problem))


class _Reader:
    """Makes records of interfaces."""

    def __init__(self, kernel: Kernel, known: list[FoundInterface]) -> None:
        """Read what all of them need."""
        self._kernel = kernel
        self._known: dict[int, list[FoundInterface]] = {}
        for one in known:
            self._known.setdefault(one.vnet, []).append(one)
        self._clock: Clock = clock_of(kernel)
        self._counters = Counters(kernel)
        found = list(listeners(kernel, known)) if known else []
        self._bpf_known = not any(isinstance(one, Problem) for one in found)
        self._listeners = [one for one in found if isinstance(one, Listener)]

    def of_stack(self, stack: View) -> Iterator[Interface | Problem]:
        """The interfaces of a vnet, then what is wrong with the lists of its addresses."""
        views, names = address_views(stack), InterfaceNames(stack)
        own = self._known.get(vnet_key(stack), [])
        lists = [_AddressList(one.interface) for one in own]
        listed = {ifaddr.address_ for one in lists for ifaddr in one.found}
        strays = views.strays(listed)
        for one, addresses in zip(own, lists, strict=True):
            mine = {at: known for at, known in strays.items() if self._owner(at) == one.interface.address_}
            yield self._record(one, _Addresses(self._kernel, names, views, addresses, mine))
            yield from (Problem(f"if_addrhead of {one.name}", problem) for problem in addresses.problems)
            strays = {at: known for at, known in strays.items() if at not in mine}
        for at, known in strays.items():
            yield Problem(place(stack, known[0]), f"has address {at:#x}, which is of no known interface", at)
        yield from (Problem(place(stack, name), problem) for name, problem in views.problems)

    def _owner(self, ifaddr: int) -> int | Absent:
        return attempt(lambda: int(self._kernel.object("ifaddr", ifaddr).ifa_ifp))

    def _record(self, found: FoundInterface, addresses: _Addresses) -> Interface:
        one, fields = found.interface, Fields()
        for note in found.notes:
            fields.note(note)
        bits = fields.take("if_flags", lambda: int(one.if_flags))
        driver_bits = fields.take("if_drv_flags", lambda: int(one.if_drv_flags) & DRIVER_FLAGS)
        return Interface(
            address=one.address_,
            vnet=vnet_address(found.stack),
            jails=jail_names(found.stack),
            name=fields.take("if_xname", lambda: str(one.if_xname)),
            index=fields.take("if_index", lambda: int(one.if_index)),
            flags=bits if isinstance(bits, Absent) else flag_names(bits & ~DRIVER_FLAGS | _number(driver_bits)),
            driver_flags=driver_bits if isinstance(driver_bits, Absent) else flag_names(driver_bits),
            mtu=fields.take("if_mtu", lambda: int(_shared(one, "mtu"))),
            type=fields.take("if_type", lambda: _named(TYPES, int(_shared(one, "type")))),
            link_state=fields.take("if_link_state", lambda: _named(LINK_STATES, int(_shared(one, "link_state")))),
            link_address=self._link_address(one, fields),
            driver=fields.take("if_dname", lambda: _driver(one)),
            groups=self._groups(one, fields),
            description=fields.take("if_description", lambda: _description(one)),
            counts=self._counts(one, fields),
            promiscuous=fields.take("if_pcount", lambda: int(one.if_pcount)),
            promiscuous_by=self._promiscuity(one, _number(bits), fields),
            home=self._home(found, fields),
            fib=fields.take("if_fib", lambda: int(one.if_fib)),
            attached=fields.take("if_epoch", lambda: self._attached(one)),
            changed=fields.take("if_lastchange", lambda: _changed(one)),
            addresses=tuple(addresses.records(_number(bits))),
            notes=fields.notes,
        )

    # Fields that take some doing

    def _link_address(self, one: Object, fields: Fields) -> str | Absent:
        """``if_addr`` leads to the address of the link level, which ifconfig may have changed."""
        found = fields.take("if_addr", lambda: read_address(self._kernel, int(one.if_addr.ifa_addr)))
        if isinstance(found, Absent):
            return found
        address, note = found
        if note or address.family != AF_LINK:
            fields.note(f"if_addr: {note or f'leads to an address of family {address.family}'}")
        if address.family != AF_LINK or not address.address:
            return Absent.NOT_APPLICABLE
        length = len(address.address)
        original = attempt(lambda: int(one.if_hw_addr))
        if isinstance(original, int) and original and length <= _MAX_LINK_ADDRESS:
            own = fields.take("if_hw_addr", lambda: self._kernel.structs.read(original, length))
            if isinstance(own, bytes) and own != address.address:
                fields.note(f"the hardware's address is {link_text(own)}")
        return link_text(address.address)

    def _groups(self, one: Object, fields: Fields) -> tuple[str, ...] | Absent:
        def read() -> tuple[str, ...]:
            queue = Queue(self._kernel.structs, one.at_("if_groups"), "ifg_list", "ifgl_next", limit=MAX_GROUPS)
            members = [member for member in queue if is_readable(member, "ifgl_next")]
            for problem in queue.problems:
                fields.note(f"if_groups {problem}")
            return tuple(str(member.ifgl_group.ifg_group) for member in members)

        return fields.take("if_groups", read)

    def _counts(self, one: Object, fields: Fields) -> dict[str, int | Absent]:
        """Per CPU since 11.0; in ``if_data`` before. Some drivers count for themselves."""
        if not one.has_("if_counters"):
            return {name: attempt(lambda name=name: int(_shared(one, name))) for name in COUNTERS}  # type: ignore[misc]
        own = attempt(lambda: self._kernel.symbol_at(int(one.if_get_counter)))
        if own and not isinstance(own, Absent) and own.symbol.name != _OWN_COUNTERS:
            fields.note(f"the driver has counters of its own ({own.symbol.name}), which are not in these")
        return {
            name: attempt(lambda at=at: self._counters.fetch(int(one.if_counters[at])))  # type: ignore[misc]
            for at, name in enumerate(COUNTERS)
        }

    def _promiscuity(self, one: Object, flags: int, fields: Fields) -> tuple[str, ...]:
        """Who asked for all packets. Those of ifconfig are not in ``if_pcount``; netgraph and others leave no name."""
        asking = [item for item in self._listeners if item.interface_address == one.address_ and _is_promiscuous(item)]
        known = [f"bpf: {_text(item.process.command)}[{_text(item.pid)}]" for item in asking]
        if attempt(lambda: int(one.if_bridge)) not in (0, Absent.NOT_AVAILABLE, Absent.UNREADABLE):
            known.append("bridge")
        count = attempt(lambda: int(one.if_pcount))
        if isinstance(count, int):
            if self._bpf_known and count > len(known):
                fields.note(f"{count - len(known)} of those that made it promiscuous are not known")
            if len(asking) > count:
                fields.note(f"bpf has {len(asking)} promiscuous listeners, if_pcount is {count}")
            if bool(flags & IFF_PROMISC) != bool(count or flags & IFF_PPROMISC):
                fields.note(f"IFF_PROMISC is {'set' if flags & IFF_PROMISC else 'not set'}, but if_pcount is {count}")
        return (*known, *(("ifconfig",) if flags & IFF_PPROMISC else ()))

    def _home(self, found: FoundInterface, fields: Fields) -> int | Absent:
        if found.stack.vnet is None:
            return Absent.NOT_APPLICABLE
        return fields.take("if_home_vnet", lambda: int(found.interface.if_home_vnet))

    def _attached(self, one: Object) -> datetime.datetime | Absent:
        return self._clock.at(int(_shared(one, "epoch")) * NANO)


class _AddressList:
    """The addresses on an interface's own list."""

    def __init__(self, interface: Object) -> None:
        found = attempt(lambda: listed_addresses(interface))
        self.found, self.problems = ([], []) if isinstance(found, Absent) else found


@dataclass(frozen=True)
class _Addresses:
    """The addresses of an interface: those on its list, and those that only other places have."""

    kernel: Kernel
    names: InterfaceNames
    views: AddressViews
    listed: _AddressList
    strays: dict[int, list[str]]

    def records(self, flags: int) -> Iterator[InterfaceAddress]:
        """All but the first of the link level, which is the interface's own."""
        link_seen = False
        for ifaddr in self.listed.found:
            if not link_seen and is_link_address(self.kernel, ifaddr):
                link_seen = True
                continue
            yield self._record(ifaddr, flags, listed=True)
        for address in self.strays:
            yield self._record(self.kernel.object("ifaddr", address), flags, listed=False)

    def _record(self, ifaddr: Object, flags: int, *, listed: bool) -> InterfaceAddress:
        record = read_interface_address(self.kernel, ifaddr, flags, self.names)
        if listed:
            missing = self.views.missing(record.family_number, ifaddr.address_)
            return record.with_notes(f"not in {name}" for name in missing)
        known = ", ".join(self.strays[ifaddr.address_])
        whole = not self.listed.problems
        note = (
            f"hidden: not on if_addrhead, known by {known}"
            if whole
            else f"not reached on if_addrhead, known by {known}"
        )
        return record.with_notes([note])


def _shared(one: Object, name: str) -> Any:
    """What ifnet has itself since 11.0, and had in ``if_data`` before."""
    return getattr(one, f"if_{name}") if one.has_(f"if_{name}") else getattr(one.if_data, f"ifi_{name}")


def _named(names: dict[int, str], value: int) -> str:
    return names.get(value, str(value))


def _number(value: int | Absent) -> int:
    return 0 if isinstance(value, Absent) else value


def _text(value: object) -> str:
    return "?" if isinstance(value, Absent) else str(value)


def _driver(one: Object) -> str:
    unit = int(one.if_dunit)
    return str(one.if_dname.text_(16)) + (str(unit) if unit >= 0 else "")


def _description(one: Object) -> str | Absent:
    return one.if_description.text_(_MAX_DESCRIPTION) or Absent.NOT_APPLICABLE


def _changed(one: Object) -> datetime.datetime | Absent:
    when = timeval(_shared(one, "lastchange"))
    return utc(when) if when else Absent.NOT_APPLICABLE


def _is_promiscuous(listener: Listener) -> bool:
    return isinstance(listener.flags, tuple) and "promiscuous" in listener.flags
