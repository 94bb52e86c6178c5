"""What the bits of a jail stand for, by the names of jls(8).

# Reference: sys/sys/jail.h (PR_*, PR_ALLOW_*), sys/kern/kern_jail.c (pr_flag_allow, prison_add_allow)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel

_PERSIST, _HOST, _IP4_USER, _IP6_USER, _VNET = 0x1, 0x2, 0x4, 0x8, 0x10
_IP4_SADDRSEL, _IP6_SADDRSEL = 0x80, 0x100
_REMOVE = 0x0100_0000
_IP4, _IP6 = 0x0200_0000, 0x0400_0000
_COMPLETE_PROC = 0x0800_0000
_KNOWN = _PERSIST | _HOST | _IP4_USER | _IP6_USER | _VNET | _IP4_SADDRSEL | _IP6_SADDRSEL
_INTERNAL = _REMOVE | _IP4 | _IP6 | _COMPLETE_PROC

_ALWAYS = 0
_ALLOW = {
    0x1: ("allow.set_hostname", _ALWAYS),
    0x2: ("allow.sysvipc", _ALWAYS),
    0x4: ("allow.raw_sockets", _ALWAYS),
    0x8: ("allow.chflags", _ALWAYS),
    0x10: ("allow.mount", _ALWAYS),
    0x20: ("allow.quotas", _ALWAYS),
    0x40: ("allow.socket_af", _ALWAYS),
    # Up to 11 these are kinds of allow.mount.
    0x80: ("allow.mlock", 1_201_000),
    0x100: ("allow.read_msgbuf", 1_201_000),
    0x8000: ("allow.reserved_ports", 1_201_000),
    # In 12 the kernel gave these to whichever module came first.
    0x200: ("allow.unprivileged_proc_debug", 1_300_139),
    0x400: ("allow.suser", 1_300_139),
    0x2_0000: ("allow.nfsd", 1_403_000),
    0x4_0000: ("allow.extattr", 1_500_068),
    0x8_0000: ("allow.adjtime", 1_500_068),
    0x10_0000: ("allow.settime", 1_500_068),
    0x20_0000: ("allow.routing", 1_500_068),
    0x40_0000: ("allow.unprivileged_parent_tampering", 1_500_068),
    0x80_0000: ("allow.setaudit", 1_500_068),
}
"""Bits with a fixed meaning, and the ``osreldate`` from which on it is certain. Others are handed out at run time."""
_KMEM_ACCESS, _KMEM_SINCE = 0x1_0000, 1_201_000
"""Reserved, set for the host, and without a name."""
_MAX_NAME = 64
_MAX_BITS = 32


def flag_names(flags: int, *, vimage: bool, has_ip4: bool, has_ip6: bool) -> Iterator[str]:
    """The parameters in ``pr_flags``.

    Args:
        flags: pr_flags.
        vimage: whether the kernel has vnets.
        has_ip4: whether the jail has IPv4 addresses: jls(8) tells ``disable`` from ``new`` by them.
        has_ip6: the same of IPv6.
    """
    if flags & _PERSIST:
        yield "persist"
    yield f"host={'new' if flags & _HOST else 'inherit'}"
    if vimage:
        yield f"vnet={'new' if flags & _VNET else 'inherit'}"
    for name, user, select, addresses in (
        ("ip4", _IP4_USER, _IP4_SADDRSEL, has_ip4),
        ("ip6", _IP6_USER, _IP6_SADDRSEL, has_ip6),
    ):
        yield f"{name}={('new' if addresses else 'disable') if flags & user else 'inherit'}"
        if not flags & select:
            yield f"{name}.nosaddrsel"
    if flags & ~(_KNOWN | _INTERNAL):
        yield f"flags={flags & ~(_KNOWN | _INTERNAL):#x}"


@dataclass(frozen=True)
class AllowNames:
    """What the bits of ``pr_allow`` are called in a kernel.

    Attributes:
        names: by bit.
        nameless: bits that mean nothing.
    """

    names: dict[int, str]
    nameless: int = 0

    @classmethod
    def of(cls, kernel: Kernel) -> AllowNames:
        """The kernel's own table where it can be read, beside what is certain by its release."""
        try:
            release = kernel.integer("osreldate")
        except (SymbolError, AddressError):
            release = _ALWAYS
        names = {bit: name for bit, (name, since) in _ALLOW.items() if release >= since}
        table = _entries if kernel.has("pr_flag_allow") else _old_entries
        return cls(names | dict(table(kernel)), _KMEM_ACCESS if release >= _KMEM_SINCE else 0)

    def text(self, allow: int) -> Iterator[str]:
        """The names of the bits that are set; those that are not known together as ``allow=0x...``."""
        rest = allow & ~self.nameless
        for bit, name in sorted(self.names.items()):
            if allow & bit:
                yield name
                rest &= ~bit
        if rest:
            yield f"allow={rest:#x}"


def _entries(kernel: Kernel) -> Iterator[tuple[int, str]]:
    """``pr_flag_allow`` (12.0): for each of the 32 bits {name, its negative, bit}; unused entries are 0."""
    word = kernel.structs.word_size
    start = kernel.address("pr_flag_allow")
    for entry in range(start, start + _MAX_BITS * 3 * word, 3 * word):
        try:
            name, bit = _name_at(kernel, entry), kernel.structs.uint(entry + 2 * word, 4)
        except AddressError:
            return
        if name and bit.bit_count() == 1:
            yield bit, name


def _old_entries(kernel: Kernel) -> Iterator[tuple[int, str]]:
    """``pr_allow_names`` (until 11): the names of the bits in their order."""
    word = kernel.structs.word_size
    try:
        start, size = kernel.address("pr_allow_names"), kernel.integer("pr_allow_names_size", word)
        for number in range(min(size // word, _MAX_BITS)):
            if name := _name_at(kernel, start + number * word):
                yield 1 << number, name
    except (SymbolError, AddressError):
        return


def _name_at(kernel: Kernel, pointer: int) -> str:
    """The string that a pointer leads to, if it may be the name of a parameter."""
    address = kernel.structs.pointer(pointer)
    name = kernel.text(address, _MAX_NAME) if address else ""
    return name if name.startswith("allow.") else ""
