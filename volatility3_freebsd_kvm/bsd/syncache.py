"""Connections that are half open: the SYN cache of every vnet. They have no socket yet.

# Reference: sys/netinet/tcp_syncache.h, tcp_syncache.c (syncache_insert, syncache_pcblist)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..exceptions import AddressError, KVMError
from ..image.chain import LIMIT
from .fields import Fields
from .inpcb import endpoints
from .kernel import View
from .lists import Queue
from .objects import Object
from .protocols import INP_IPV4, INP_IPV6
from .records import Absent, Problem, attempt
from .socket import Credential, read_credential

INC_ISIPV6 = 0x1
MAX_BUCKETS = 1 << 20
_PAGE = 4096
_MAX_PROBLEMS = 16


@dataclass(frozen=True)
class HalfOpen:
    """A ``struct syncache``.

    Attributes:
        address: of it.
        versions: ``4`` or ``6``.
        local, foreign: 4 or 16 bytes.
        creator: credential of the socket that listens.
        fib: number of the routing table.
        iss, irs: initial sequence numbers, ours and the peer's.
        mss: the largest segment that the peer takes.
        window: that we advertise.
        retransmits: how often the answer was sent again.
        notes: what cannot be read.
    """

    address: int
    versions: str
    local: bytes | Absent
    foreign: bytes | Absent
    local_port: int | Absent
    foreign_port: int | Absent
    creator: Credential
    fib: int | Absent
    iss: int | Absent
    irs: int | Absent
    mss: int | Absent
    window: int | Absent
    retransmits: int | Absent
    notes: tuple[str, ...] = ()


def half_open(view: View) -> Iterator[HalfOpen | Problem]:
    """The connections in the SYN cache of a vnet.

    Raises:
        SymbolError: the kernel has none, or its types do not know it.
    """
    structs = view.kernel.structs
    step, at_bucket = structs.size("syncache_head"), structs.offset("syncache_head", "sch_bucket")
    structs.member("syncache", "sc_hash")
    where = f"syncache of vnet {view.vnet.address:#x}" if view.vnet else "syncache"
    cache = view.variable("tcp_syncache", "tcp_syncache")
    try:
        table, count = int(cache.hashbase), int(cache.hashsize)
    except AddressError as error:
        yield Problem(where, str(error), cache.address_)
        return
    if not table:
        return  # Nobody has initialized it.
    if not 0 < count <= MAX_BUCKETS:
        yield Problem(where, f"{count} buckets are impossible", cache.address_)
        return
    yield from _walk(view, where, range(table, table + count * step, step), at_bucket)


def _walk(view: View, where: str, heads: range, at_bucket: int) -> Iterator[HalfOpen | Problem]:
    problems, left = 0, LIMIT
    number = 0
    while number < len(heads) and problems <= _MAX_PROBLEMS:
        head = heads[number] + at_bucket
        try:
            empty = not view.kernel.structs.pointer(head)
        except AddressError as error:
            problems += 1
            yield Problem(where, f"bucket {number} cannot be read: {error}", head)
            number += -(-(_PAGE - head % _PAGE) // heads.step)
            continue
        if not empty:
            queue = Queue(view.kernel.structs, head, "syncache", "sc_hash", limit=left)
            for entry in queue:
                left -= 1
                yield _read(entry)
            problems += len(queue.problems)
            yield from (Problem(where, f"bucket {number} {problem}", head) for problem in queue.problems)
        number += 1
    if problems > _MAX_PROBLEMS:
        yield Problem(where, "too many problems, the rest of the buckets is left out")


def _read(entry: Object) -> HalfOpen:
    fields = Fields()
    what = f"syncache entry {entry.address_:#x}"
    flags = fields.take(what, lambda: int(entry.sc_inc.inc_flags))
    versions = "6" if isinstance(flags, int) and flags & INC_ISIPV6 else "4"
    try:
        ends = endpoints(entry, "sc_inc", INP_IPV6 if versions == "6" else INP_IPV4)
    except KVMError:
        ends = None
    (local, local_port), (foreign, foreign_port) = ends or ((Absent.UNREADABLE,) * 2,) * 2
    return HalfOpen(
        entry.address_,
        versions,
        local,
        foreign,
        local_port,
        foreign_port,
        read_credential(fields, "sc_cred", lambda: entry.sc_cred),
        attempt(lambda: int(entry.sc_inc.inc_fibnum)),
        attempt(lambda: int(entry.sc_iss)),
        attempt(lambda: int(entry.sc_irs)),
        # sc_requested_mss up to 10 is the peer's as well.
        attempt(lambda: int(entry.sc_peer_mss)),
        attempt(lambda: int(entry.sc_wnd)),
        attempt(lambda: int(entry.sc_rxmits)),
        fields.notes,
    )
