"""Addresses of the network as text: IPv4, IPv6 with its scope, link-level, and whatever ``struct sockaddr`` holds.

Use `address_text` for the bare bytes of an address, `read_sockaddr` for a ``struct sockaddr`` in memory and
`InterfaceNames` for the name behind ``%`` in a scoped address.

# Reference: sys/sys/socket.h, sys/netinet/in.h, sys/netinet6/in6.h, scope6.c (in6_setscope), sys/net/if_dl.h, if.c
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from ..exceptions import AddressError, KVMError
from ..image.structs import Structs
from .kernel import Kernel, View
from .lists import Queue
from .objects import Object
from .records import attempt

AF_UNIX, AF_INET, AF_LINK, AF_INET6 = 1, 2, 18, 28
MAX_INTERFACES = 1 << 16
"""``if_index`` is an ``unsigned short``."""
ANY = "*"
"""What the tools print for an address or port that is not specified."""
_SDL_DATA = 8
_SUN_PATH = 2
_SIN6_SIZE = 28


class InterfaceNames:
    """The names of a vnet's interfaces by index: from the index table, else from the list of interfaces."""

    def __init__(self, view: View) -> None:
        """Nothing is read before a name is asked for.

        Args:
            view: of a vnet; see `Kernel.vnet`.
        """
        self._view = view
        self._names: dict[int, str] = {}

    def name(self, index: int) -> str:
        """``em0``; the number itself where no interface has that index, as getnameinfo(3) does it."""
        if index not in self._names:
            self._names[index] = self._find(index) or str(index)
        return self._names[index]

    def _find(self, index: int) -> str:
        ways: tuple[Callable[[int], str], ...] = (self._in_table, self._in_list)
        for way in ways:
            try:
                if found := way(index):
                    return found
            except KVMError:
                continue
        return ""

    def _in_table(self, index: int) -> str:
        """Until 13 each vnet has a table; since 14.0 one serves all. Entries begin with a pointer in every release."""
        structs = self._view.kernel.structs
        if not 0 < index <= min(self._view.integer("if_index"), MAX_INTERFACES):
            return ""
        sized = self._view.kernel.has_type("ifindex_entry")
        step = structs.size("ifindex_entry") if sized else structs.word_size
        entry = structs.pointer(int(self._view.pointer("ifindex_table")) + index * step)
        return self._checked(self._view.kernel.object("ifnet", entry), index) if entry else ""

    def _in_list(self, index: int) -> str:
        head = self._view.address("ifnet")
        queue = Queue(self._view.kernel.structs, head, "ifnet", "if_link", limit=MAX_INTERFACES, check_back=False)
        return next((name for one in queue if (name := self._checked(one, index))), "")

    @staticmethod
    def _checked(interface: Object, index: int) -> str:
        name = attempt(lambda: str(interface.if_xname) if interface.if_index == index else "")
        return name if isinstance(name, str) and name.isprintable() else ""


# The bytes of an address


def unspecified(data: bytes) -> bool:
    """Whether an address is all zeros: INADDR_ANY, ``::``."""
    return not any(data)


def address_text(data: bytes, names: InterfaceNames | None = None, scope: int = 0) -> str:
    """An IPv4 address of 4 bytes or an IPv6 address of 16, as inet_ntop(3) and getnameinfo(3) write them.

    Args:
        data: the bytes as the kernel has them; the zone inside a scoped address is taken out of it.
        names: of the interfaces, for the text behind ``%``; without them it is the number.
        scope: zone that is told apart from the address (``sin6_scope_id``); it precedes the one inside.

    Returns:
        ``192.0.2.10``, ``2001:db8::10``, ``fe80::1%em0``.
    """
    if len(data) == 4:
        return str(ipaddress.IPv4Address(data))
    bare, inside = split_zone(data)
    zone = scope or inside
    text = ipv6_text(bare)
    return f"{text}%{names.name(zone) if names else zone}" if zone and has_scope(data) else text


def has_scope(data: bytes) -> bool:
    """Whether the 16 bytes of an IPv6 address mean something on one link or interface only: fe80::/10, ff01, ff02."""
    return (data[0] == 0xFE and data[1] & 0xC0 == 0x80) or (data[0] == 0xFF and data[1] & 0x0F in (1, 2))


def split_zone(data: bytes) -> tuple[bytes, int]:
    """``(address, zone)``: the kernel keeps the zone of a scoped address in its bytes 2 and 3; 0 is none."""
    if not has_scope(data):
        return data, 0
    return data[:2] + bytes(2) + data[4:], int.from_bytes(data[2:4], "big")


def ipv6_text(data: bytes) -> str:
    """16 bytes as FreeBSD's inet_ntop(3) writes them, which shows IPv4 within IPv6 with dots."""
    words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, 16, 2)]
    dotted = str(ipaddress.IPv4Address(data[12:]))
    if not any(words[:5]) and words[5] == 0xFFFF:
        return f"::ffff:{dotted}"
    if not any(words[:6]) and (words[6] or words[7] > 1):
        return f"::{dotted}"
    return str(ipaddress.IPv6Address(data))


def link_text(data: bytes) -> str:
    """A link-level address: ``58:9c:fc:00:00:01``."""
    return ":".join(f"{byte:02x}" for byte in data)


def prefix_length(mask: bytes, bits: int) -> int | None:
    """The length of the prefix that a mask stands for; None if its ones are not all in front.

    Args:
        mask: its bytes from the start of the address, trailing zeros may be missing: masks in routes are cut short.
        bits: 32 or 128.
    """
    value = int.from_bytes(mask[: bits // 8].ljust(bits // 8, b"\0"), "big")
    length = value.bit_count()
    return length if value == (1 << bits) - (1 << bits - length) else None


def endpoint(address: str, port: int, separator: str = ":") -> str:
    """An address with a port, where 0 is any: ``*:80``, ``::1:22`` (sockstat); ``*.80`` with a dot (netstat)."""
    return f"{address}{separator}{port or ANY}"


# struct sockaddr


@dataclass(frozen=True)
class SocketAddress:
    """What a ``struct sockaddr`` says.

    Attributes:
        family: AF_INET, AF_INET6, AF_LINK, AF_UNIX or another number.
        text: the address; the path of AF_UNIX; ``link#3`` for AF_LINK without an address; hexadecimal for others.
        port: of AF_INET and AF_INET6, else 0.
        address: the bytes of the address: 4 or 16 (the zone taken out), or those of the link level.
        zone: scope of an IPv6 address; index of the interface for AF_LINK.
        name: of the interface, in AF_LINK.
    """

    family: int
    text: str
    port: int = 0
    address: bytes = b""
    zone: int = 0
    name: str = ""


def read_sockaddr(kernel: Kernel, address: int, names: InterfaceNames | None = None) -> SocketAddress:
    """The socket address in memory, as long as it says it is.

    Raises:
        AddressError: it cannot be read.
    """
    return decode_sockaddr(sockaddr_bytes(kernel.structs, address), kernel.structs.byteorder, names)


def sockaddr_bytes(structs: Structs, address: int) -> bytes:
    """The bytes of a socket address: ``sa_len`` of them, 255 at most; two where it says less.

    Raises:
        AddressError: they cannot be read.
    """
    if not address:
        raise AddressError(address, "a NULL pointer")
    return structs.read(address, max(structs.read(address, 1)[0], 2))


def decode_sockaddr(data: bytes, byteorder: str, names: InterfaceNames | None = None) -> SocketAddress:
    """What the bytes of a socket address say; those that are missing at the end are zeros (masks in routes).

    Args:
        data: from ``sa_len`` on.
        byteorder: the machine's: ``little`` or ``big``.
        names: of the interfaces, for scopes.
    """
    family = data[1] if len(data) > 1 else 0
    if family == AF_INET:
        data = data.ljust(16, b"\0")
        return SocketAddress(family, address_text(data[4:8]), int.from_bytes(data[2:4], "big"), data[4:8])
    if family == AF_INET6:
        return _decode_inet6(data.ljust(_SIN6_SIZE, b"\0"), byteorder, names)
    if family == AF_LINK:
        return _decode_link(data.ljust(_SDL_DATA, b"\0"), byteorder, names)
    if family == AF_UNIX:
        return SocketAddress(family, unix_path(data))
    return SocketAddress(family, data[2:].hex())


def _decode_inet6(data: bytes, byteorder: str, names: InterfaceNames | None) -> SocketAddress:
    inside = data[8:24]
    scope = int.from_bytes(data[24:28], "big" if byteorder == "big" else "little")
    bare, zone = split_zone(inside)
    text = address_text(inside, names, scope)
    return SocketAddress(AF_INET6, text, int.from_bytes(data[2:4], "big"), bare, scope or zone)


def _decode_link(data: bytes, byteorder: str, names: InterfaceNames | None) -> SocketAddress:
    """The interface's name and its address stand one behind the other."""
    index = int.from_bytes(data[2:4], "big" if byteorder == "big" else "little")
    name_length, length = data[5], data[6]
    name = data[_SDL_DATA : _SDL_DATA + name_length].split(b"\0")[0].decode("utf-8", "replace")
    address = data[_SDL_DATA + name_length : _SDL_DATA + name_length + length]
    if not name and names and index:
        name = names.name(index)
    return SocketAddress(AF_LINK, link_text(address) or f"link#{index}", address=address, zone=index, name=name)


def unix_path(data: bytes) -> str:
    """The path in the bytes of a ``struct sockaddr_un``: it may or may not end with a NUL within ``sun_len``."""
    return data[_SUN_PATH:].split(b"\0")[0].decode("utf-8", "replace")
