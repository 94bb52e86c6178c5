"""Divert sockets since 14.0, which have control blocks of their own; before, they have inpcbs.

# Reference: sys/netinet/ip_divert.c (struct divcb, V_divhash)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError
from .kernel import Kernel, View
from .lists import Queue
from .records import Absent, Problem, attempt

DIVHASHSIZE = 8
_MAX_CHAINS = 256


@dataclass(frozen=True)
class Divcb:
    """A ``struct divcb``.

    Attributes:
        address: of it.
        port: that it is bound to, 0 for none.
        socket: address of its socket.
        bound: whether it should be in the hash table.
    """

    address: int
    port: int | Absent
    socket: int | Absent
    bound: bool | Absent


def divert_sockets(view: View) -> Iterator[Divcb | Problem]:
    """The divert sockets of a vnet that are bound; none where the kernel has no such table.

    Raises:
        SymbolError: there are some, but the kernel's types do not know them.
    """
    found = view.find("divhash")
    if found.address is None:
        return
    structs = view.kernel.structs
    first, chains = view.address("divhash"), found.size // structs.word_size or DIVHASHSIZE
    for number in range(min(chains, _MAX_CHAINS)):
        head = first + number * structs.word_size
        try:
            if not structs.pointer(head):
                continue
        except AddressError as error:
            yield Problem("divhash", f"chain {number} cannot be read: {error}", head)
            continue
        queue = Queue(structs, head, "divcb", "dcb_next")
        for address in queue.addresses():
            yield read_divcb(view.kernel, address)
        yield from (Problem("divhash", f"chain {number} {problem}", head) for problem in queue.problems)


def read_divcb(kernel: Kernel, address: int) -> Divcb:
    """The control block at an address. One that is not bound has -1 (DCB_UNBOUND) where others have their link."""
    divcb = kernel.object("divcb", address)
    unbound = (1 << 8 * kernel.structs.word_size) - 1
    bound = attempt(lambda: kernel.structs.pointer(divcb.at_("dcb_bound")) != unbound)

    def port() -> int:
        return int.from_bytes(kernel.structs.read(divcb.at_("dcb_port"), 2), "big") if bound is True else 0

    return Divcb(address, attempt(port), attempt(lambda: int(divcb.dcb_socket)), bound)
