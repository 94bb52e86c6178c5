"""Socket addresses in structures that may be damaged: read as their family needs, whatever length they claim.

# Reference: sys/sys/socket.h, sys/netinet/in.h, sys/netinet6/in6.h, sys/net/if_dl.h
"""

from __future__ import annotations

from ..exceptions import AddressError
from .addresses import AF_INET, AF_INET6, AF_LINK, AF_UNIX, InterfaceNames, SocketAddress, decode_sockaddr
from .kernel import Kernel

FAMILIES = {AF_UNIX: "unix", AF_INET: "inet", AF_LINK: "link", AF_INET6: "inet6"}
"""As ifconfig(8) calls them."""
_NEEDED = {AF_INET: 8, AF_INET6: 24, AF_LINK: 8}
"""Bytes up to the end of the address."""
_WHOLE = {AF_INET: 16, AF_INET6: 28}
_SDL_DATA = 8


def family_name(family: int) -> str:
    """``inet``, ``inet6``, ``link``; ``af 16`` for others."""
    return FAMILIES.get(family, f"af {family}")


def read_address(kernel: Kernel, address: int, names: InterfaceNames | None = None) -> tuple[SocketAddress, str]:
    """The socket address in memory, and what is wrong with its length, if anything.

    Raises:
        AddressError: it cannot be read, or the pointer is NULL.
    """
    if not address:
        raise AddressError(address, "a NULL pointer")
    length, family = kernel.structs.read(address, 2)
    size = min(max(length, _NEEDED.get(family, 2)), _WHOLE.get(family, 255))
    data = kernel.structs.read(address, size)
    return decode_sockaddr(data, kernel.structs.byteorder, names), _length_note(data, length, family)


def _length_note(data: bytes, length: int, family: int) -> str:
    needed = _NEEDED.get(family, 0)
    if family == AF_LINK and length >= needed:
        needed = _SDL_DATA + data[5] + data[6]
    if length < needed:
        return f"sa_len is {length}, but an address of family {family_name(family)} needs {needed}"
    whole = _WHOLE.get(family, length)
    return f"sa_len is {length}, more than the {whole} of family {family_name(family)}" if length > whole else ""


def mask_bytes(kernel: Kernel, address: int) -> bytes:
    """The bytes of a mask from the start of its socket address on: as many as it says, the rest are zeros.

    Raises:
        AddressError: it cannot be read, or the pointer is NULL.
    """
    if not address:
        raise AddressError(address, "a NULL pointer")
    return kernel.structs.read(address, max(kernel.structs.read(address, 1)[0], 1))
