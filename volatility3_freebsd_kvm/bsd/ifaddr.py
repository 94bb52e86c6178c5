"""Addresses of interfaces, from each interface's list and from the lists and hash tables of all addresses of a vnet.

# Reference: sys/net/if_var.h (struct ifaddr), sys/netinet/in_var.h, in.c, sys/netinet6/in6_var.h, in6.c
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..exceptions import AddressError, FormatError, KVMError, SymbolError
from .addresses import AF_INET, AF_INET6, AF_LINK, InterfaceNames, prefix_length
from .fields import Fields
from .kernel import Kernel, View
from .lists import HashTable, Queue
from .objects import Object
from .process import is_readable
from .records import Absent
from .sockaddrs import family_name, mask_bytes, read_address

MAX_ADDRESSES = 1 << 20
_MAX_CHAINS = 1 << 16
_IN6_FLAGS = (
    (0x1, "anycast"),
    (0x2, "tentative"),
    (0x4, "duplicated"),
    (0x8, "detached"),
    (0x10, "deprecated"),
    (0x20, "no_dad"),
    (0x40, "autoconf"),
    (0x80, "temporary"),
    (0x100, "prefer_source"),
)
"""IN6_IFF_ as ifconfig(8) shows them."""
IFF_BROADCAST, IFF_POINTOPOINT = 0x2, 0x10
_MASK_AT = {AF_INET: 4, AF_INET6: 8}


@dataclass(frozen=True)
class InterfaceAddress:
    """An address of an interface.

    Attributes:
        address: of the ``struct ifaddr``.
        family: ``inet``, ``inet6``, ``link`` or ``af 16``.
        text: the address, with its scope: ``fe80::1%em0``.
        prefix: length of the network's prefix; NOT_APPLICABLE for families without one, and see `notes`.
        broadcast, peer: the broadcast address, or the other end of a point-to-point link.
        flags: of IPv6, as ifconfig shows them; ``carp`` for one that carp(4) shares.
        family_number: AF_; 0 where it cannot be read.
        notes: which lists do not know it, what is wrong with it.
    """

    address: int
    family: str | Absent
    text: str | Absent
    prefix: int | Absent = Absent.NOT_APPLICABLE
    broadcast: str | Absent = Absent.NOT_APPLICABLE
    peer: str | Absent = Absent.NOT_APPLICABLE
    flags: tuple[str, ...] | Absent = ()
    family_number: int = 0
    notes: tuple[str, ...] = ()

    def with_notes(self, notes: Iterable[str]) -> InterfaceAddress:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))


# Reading one


def read_interface_address(
    kernel: Kernel, ifaddr: Object, interface_flags: int, names: InterfaceNames
) -> InterfaceAddress:
    """What there is to tell of an address.

    Args:
        kernel: the kernel.
        ifaddr: its ``struct ifaddr``.
        interface_flags: IFF_ flags of its interface: they say what the other address is.
        names: of the vnet's interfaces, for scopes.
    """
    fields = Fields()
    own = fields.take("ifa_addr", lambda: read_address(kernel, int(ifaddr.ifa_addr), names))
    if isinstance(own, Absent):
        return InterfaceAddress(ifaddr.address_, own, own, own, flags=own, notes=fields.notes)
    socket_address, note = own
    if note:
        fields.note(f"ifa_addr: {note}")
    family = socket_address.family
    prefix: int | Absent = Absent.NOT_APPLICABLE
    if family in _MASK_AT:
        prefix = fields.take("ifa_netmask", lambda: _prefix(kernel, ifaddr, family, fields))
    other = _other_end(kernel, ifaddr, names, fields) if family in _MASK_AT else Absent.NOT_APPLICABLE
    return InterfaceAddress(
        ifaddr.address_,
        family_name(family),
        socket_address.text,
        prefix,
        other if interface_flags & IFF_BROADCAST and family == AF_INET else Absent.NOT_APPLICABLE,
        other if interface_flags & IFF_POINTOPOINT else Absent.NOT_APPLICABLE,
        fields.take("ia6_flags", lambda: _flags(kernel, ifaddr, family)),
        family,
        fields.notes,
    )


def _prefix(kernel: Kernel, ifaddr: Object, family: int, fields: Fields) -> int | Absent:
    """The length of the prefix. Masks of IPv6 may be longer than their ``sin6_len`` says, so it is not asked."""
    at = _MASK_AT[family]
    if family == AF_INET6 and kernel.has_member("in6_ifaddr", "ia_prefixmask"):
        mask = kernel.structs.read(_whole(kernel, ifaddr, "in6_ifaddr").at_("ia_prefixmask") + at, 16)
    else:
        mask = mask_bytes(kernel, int(ifaddr.ifa_netmask))[at : at + (4 if family == AF_INET else 16)]
    length = prefix_length(mask, 32 if family == AF_INET else 128)
    if length is None:
        fields.note(f"the mask {mask.hex()} is no prefix")
        return Absent.NOT_APPLICABLE
    return length


def _other_end(kernel: Kernel, ifaddr: Object, names: InterfaceNames, fields: Fields) -> str | Absent:
    """Text of ``ifa_dstaddr``, which is there but empty if there is no other address."""
    other = fields.take("ifa_dstaddr", lambda: int(ifaddr.ifa_dstaddr))
    if isinstance(other, Absent) or not other:
        return other if isinstance(other, Absent) else Absent.NOT_APPLICABLE
    found = fields.take("ifa_dstaddr", lambda: read_address(kernel, other, names))
    if isinstance(found, Absent):
        return found
    if found[1]:
        fields.note(f"ifa_dstaddr: {found[1]}")
    return found[0].text if found[0].family else Absent.NOT_APPLICABLE


def _flags(kernel: Kernel, ifaddr: Object, family: int) -> tuple[str, ...]:
    bits = int(_whole(kernel, ifaddr, "in6_ifaddr").ia6_flags) if family == AF_INET6 else 0
    carp = ("carp",) if ifaddr.has_("ifa_carp") and ifaddr.ifa_carp else ()
    return tuple(name for bit, name in _IN6_FLAGS if bits & bit) + carp


def _whole(kernel: Kernel, ifaddr: Object, type_name: str) -> Object:
    """The ``struct in_ifaddr`` or ``in6_ifaddr`` that an ifaddr is part of."""
    return kernel.object(type_name, ifaddr.address_ - kernel.structs.offset(type_name, "ia_ifa"))


# Finding them


@dataclass
class AddressViews:
    """The addresses that a vnet's lists and hash tables know.

    Attributes:
        places: by name of the list or table, the addresses of the ``struct ifaddr`` in it; families by their number.
        problems: by name, what was irregular.
    """

    places: dict[tuple[int, str], dict[int, None]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def missing(self, family: int, ifaddr: int) -> list[str]:
        """The lists and tables that should know an address of a family, but do not; those that are broken aside."""
        broken = {name for name, _ in self.problems}
        places = [(name, found) for (known, name), found in self.places.items() if known == family]
        return [name for name, found in places if name not in broken and ifaddr not in found]

    def strays(self, listed: set[int]) -> dict[int, list[str]]:
        """The addresses that are not in ``listed``, and where they are known."""
        found: dict[int, list[str]] = {}
        for (_, name), addresses in self.places.items():
            for one in addresses:
                if one not in listed:
                    found.setdefault(one, []).append(name)
        return found


_VIEWS = ((AF_INET, "in", "in_ifaddr", "ia_hash"), (AF_INET6, "in6", "in6_ifaddr", "ia6_hash"))


def address_views(stack: View) -> AddressViews:
    """Walk the lists and hash tables of a vnet's addresses, as far as the kernel has and its types know them."""
    views = AddressViews()
    for family, prefix, type_name, link in _VIEWS:
        for name, walk in ((f"{prefix}_ifaddrhead", _in_list), (f"{prefix}_ifaddrhashtbl", _in_hash)):
            try:
                part = stack.kernel.structs.offset(type_name, "ia_ifa")
                elements = walk(stack, name, type_name, link)
                found = dict.fromkeys(one.address_ + part for one in elements if is_readable(one, "ia_ifa.ifa_addr"))
            except SymbolError:
                continue
            except KVMError as error:
                views.problems.append((name, f"cannot be walked: {error}"))
                continue
            views.problems += [(name, problem) for problem in elements.problems]
            views.places[family, name] = found
    return views


def _in_list(stack: View, name: str, type_name: str, _link: str) -> Queue:
    return Queue(stack.kernel.structs, stack.address(name), type_name, "ia_link", limit=MAX_ADDRESSES)


def _in_hash(stack: View, name: str, type_name: str, link: str) -> HashTable:
    structs = stack.kernel.structs
    mask_name = name.replace("hashtbl", "hmask")
    table, mask = int(stack.pointer(name)), stack.integer(mask_name, structs.word_size, signed=False)
    structs.member(type_name, link)
    chains = mask + 1 if table else 0
    if mask & (mask + 1) or mask >= _MAX_CHAINS:
        msg = f"{mask_name} is {mask:#x}, which is no number of chains less one"
        raise FormatError(msg)
    return HashTable(structs, table, chains, type_name, link, limit=MAX_ADDRESSES)


def listed_addresses(interface: Object) -> tuple[list[Object], list[str]]:
    """The addresses on an interface's own list, and what is irregular there.

    Raises:
        SymbolError: the kernel's types do not know the list.
    """
    queue = Queue(interface.structs_, interface.at_("if_addrhead"), "ifaddr", "ifa_link", limit=MAX_ADDRESSES)
    return [one for one in queue if is_readable(one, "ifa_addr")], queue.problems


def is_link_address(kernel: Kernel, ifaddr: Object) -> bool:
    """Whether an address is of the link level."""
    try:
        return kernel.structs.read(int(ifaddr.ifa_addr) + 1, 1)[0] == AF_LINK
    except AddressError:
        return False
