"""Internet protocol control blocks.

A database has three places for them: its list, its hash tables of connections and its hash table of ports.

# Reference: sys/netinet/in_pcb.h, in_pcb.c (in_pcballoc, in_pcbinshash), in_pcb_var.h
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..exceptions import AddressError, KVMError
from ..image.chain import LIMIT
from .fields import Fields
from .kernel import Kernel, View
from .lists import Queue
from .objects import Object
from .protocols import INP_IPV4, INP_IPV6
from .records import Absent, Problem, attempt
from .socket import Credential, read_credential

DATABASES = {"tcp": "tcbinfo", "udp": "udbinfo", "udplite": "ulitecbinfo", "raw": "ripcbinfo", "divert": "divcbinfo"}
"""The ``V_`` variable of each protocol's ``struct inpcbinfo``. Raw sockets of IPv4 and IPv6 share one."""
NEEDED = ("tcp", "udp", "raw")
"""Those that every kernel with IP has."""
LIST, HASH, PORTS = "list", "hash", "ports"
BACK_LINK = "the link back"
"""How `Queue` begins to tell of a wrong link back, behind which it goes on."""
MAX_CHAINS = 1 << 22
_PIECE = 4096
_MAX_PROBLEMS = 16


@dataclass(frozen=True)
class Inpcb:
    """A ``struct inpcb``.

    Attributes:
        address: of it.
        versions: ``4``, ``6``, ``46`` for a socket of IPv6 that takes IPv4 too, empty for none.
        local, foreign: 4 or 16 bytes, the zone still inside.
        local_port, foreign_port: 0 for none.
        flags: INP_ flags.
        socket: address of its socket, 0 for none.
        ppcb: address of the control block of TCP or UDP, up to 13; 0 later.
        database: address of the ``struct inpcbinfo`` it says it belongs to.
        creator: ``inp_cred``.
        generation: ``inp_gencnt``.
        ip_protocol: of a raw socket.
        fib: number of its routing table.
        notes: what cannot be read.
    """

    address: int
    versions: str | Absent
    local: bytes | Absent
    foreign: bytes | Absent
    local_port: int | Absent
    foreign_port: int | Absent
    flags: int | Absent
    socket: int | Absent
    ppcb: int | Absent
    database: int | Absent
    creator: Credential
    generation: int | Absent
    ip_protocol: int | Absent
    fib: int | Absent
    notes: tuple[str, ...] = ()


def read_inpcb(kernel: Kernel, address: int) -> Inpcb:
    """The control block at an address; what cannot be had is `Absent` and told in its notes."""
    inpcb = kernel.object("inpcb", address)
    fields = Fields()
    vflag = fields.take(f"inpcb {address:#x}", lambda: int(inpcb.inp_vflag))
    ends = attempt(lambda: endpoints(inpcb, "inp_inc", vflag if isinstance(vflag, int) else 0))
    local, foreign = (ends, ends) if isinstance(ends, Absent) else ends
    return Inpcb(
        address,
        versions_of(vflag),
        local if isinstance(local, Absent) else local[0],
        foreign if isinstance(foreign, Absent) else foreign[0],
        local if isinstance(local, Absent) else local[1],
        foreign if isinstance(foreign, Absent) else foreign[1],
        attempt(lambda: int(inpcb.inp_flags) & 0xFFFF_FFFF),
        attempt(lambda: int(inpcb.inp_socket)),
        attempt(lambda: int(inpcb.inp_ppcb)),
        attempt(lambda: int(inpcb.inp_pcbinfo)),
        read_credential(fields, "inp_cred", lambda: inpcb.inp_cred),
        attempt(lambda: int(inpcb.inp_gencnt)),
        attempt(lambda: int(inpcb.inp_ip_p)),
        attempt(lambda: int(inpcb.inp_inc.inc_fibnum)),
        fields.notes,
    )


def versions_of(vflag: int | Absent) -> str | Absent:
    """The digits that sockstat(1) puts behind the protocol."""
    if isinstance(vflag, Absent):
        return vflag
    return ("4" if vflag & INP_IPV4 else "") + ("6" if vflag & INP_IPV6 else "")


End = tuple[bytes, int]


def endpoints(owner: Object, conninfo: str, vflag: int) -> tuple[End, End]:
    """``(address, port)`` of the local and of the foreign end in a ``struct in_conninfo``.

    An IPv4 address is in the last 4 of the 16 bytes that are there for either. Tools show a socket that takes both by
    its IPv4 address, which is 0 in all such; should its IPv6 address not be 0, that is taken.

    Args:
        owner: the structure that has the member.
        conninfo: the member: ``inp_inc``, ``sc_inc``.
        vflag: INP_IPV4, INP_IPV6.

    Raises:
        AddressError: it cannot be read.
        SymbolError: the kernel's types do not know it.
    """
    found = []
    for which in ("l", "f"):
        # In 10 these are unnamed unions, of the same size.
        data = owner.structs_.read(owner.at_(f"{conninfo}.inc_ie.ie_depend{which}addr"), 16)
        port = int.from_bytes(owner.structs_.read(owner.at_(f"{conninfo}.inc_ie.ie_{which}port"), 2), "big")
        short = vflag & INP_IPV4 and (not vflag & INP_IPV6 or not any(data[:12]))
        found.append((data[12:] if short else data, port))
    return found[0], found[1]


# Databases


@dataclass
class PcbDatabase:
    """A protocol's control blocks in one vnet.

    Attributes:
        view: the vnet.
        protocol: ``tcp``, ``udp``, ``udplite``, ``raw``, ``divert``.
        address: of the ``struct inpcbinfo``.
        ways: each control block's address, with the places that lead to it, in the order of the list.
        sound: the places that were walked to their end; what they lack is not there.
        problems: where it was not.
    """

    view: View
    protocol: str
    address: int
    ways: dict[int, set[str]] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    @property
    def where(self) -> str:
        """What to call it in messages: ``tcp in vnet 0x…``."""
        return f"{self.protocol} in vnet {self.view.vnet.address:#x}" if self.view.vnet else self.protocol

    @property
    def info(self) -> Object:
        """The ``struct inpcbinfo``."""
        return self.view.kernel.object("inpcbinfo", self.address)

    def walk(self) -> PcbDatabase:
        """Find everything; afterwards `ways` has it."""
        for place, method in ((LIST, self._walk_list), (HASH, self._walk_hashes), (PORTS, self._walk_ports)):
            before = len(self.problems)
            try:
                method()
            except KVMError as error:
                self._problem(place, str(error))
            if all(one.text.startswith(BACK_LINK) for one in self.problems[before:]):
                self.sound.add(place)
        self._compare_count()
        return self

    def _found(self, address: int, place: str) -> None:
        self.ways.setdefault(address, set()).add(place)

    def _problem(self, place: str, text: str) -> None:
        self.problems.append(Problem(f"{place} of {self.where}", text, self.address))

    # The list

    def _walk_list(self) -> None:
        """`ipi_listhead` is the head itself since 14.0; before, a pointer to another variable."""
        info = self.info
        pointer = info.kind_("ipi_listhead") == "pointer"
        head = int(info.ipi_listhead) if pointer else info.at_("ipi_listhead")
        if not head:
            return  # Nobody has initialized it: the protocol is not in use.
        queue = Queue(self.view.kernel.structs, head, "inpcb", "inp_list")
        for address in queue.addresses():
            self._found(address, LIST)
        for problem in queue.problems:
            self._problem(LIST, problem)

    def _compare_count(self) -> None:
        counted = attempt(lambda: int(self.info.ipi_count))
        number = sum(LIST in ways for ways in self.ways.values())
        if LIST in self.sound and isinstance(counted, int) and counted != number:
            self._problem(LIST, f"{number} found, but the kernel counts {counted}")

    # The hash tables of connections

    def _walk_hashes(self) -> None:
        """Two tables since 14.0: of what is connected, and of the rest; one before."""
        pairs = (("ipi_hash_exact", "inp_hash_exact"), ("ipi_hash_wild", "inp_hash_wild"), ("ipi_hashbase", "inp_hash"))
        for table, link in pairs:
            if self.info.has_(table) and self.view.kernel.has_member("inpcb", link):
                for address in self._chains(table, "ipi_hashmask", "inpcb", link, HASH):
                    self._found(address, HASH)

    # The hash table of ports

    def _walk_ports(self) -> None:
        """Until 14 a chain has a ``struct inpcbport`` for each port, which has a list; since 15 it has the inpcbs."""
        kernel = self.view.kernel
        if not kernel.has_member("inpcb", "inp_phd"):
            for address in self._chains("ipi_porthashbase", "ipi_porthashmask", "inpcb", "inp_portlist", PORTS):
                self._found(address, PORTS)
            return
        for port in self._chains("ipi_porthashbase", "ipi_porthashmask", "inpcbport", "phd_hash", PORTS):
            head = kernel.object("inpcbport", port).at_("phd_pcblist")
            queue = Queue(kernel.structs, head, "inpcb", "inp_portlist")
            for address in queue.addresses():
                self._found(address, PORTS)
            for problem in queue.problems:
                self._problem(PORTS, f"inpcbport {port:#x} {problem}")

    def _chains(self, table: str, mask: str, type_name: str, link: str, place: str) -> Iterator[int]:
        """The elements of a table that hashinit(9) made."""
        first, last = int(getattr(self.info, table)), int(getattr(self.info, mask))
        if not first:
            return
        if last & (last + 1) or last >= MAX_CHAINS:
            self._problem(place, f"{mask} is {last:#x}, which is no number of chains less one")
            return
        problems, left = 0, LIMIT
        for number, head in self._heads(first, last + 1, place):
            queue = Queue(self.view.kernel.structs, head, type_name, link, limit=left)
            for address in queue.addresses():
                left -= 1
                yield address
            for problem in queue.problems:
                problems += 1
                self._problem(place, f"chain {number} of {table} {problem}")
            if problems > _MAX_PROBLEMS:
                self._problem(place, f"too many problems, the rest of {table} is left out")
                return

    def _heads(self, table: int, chains: int, place: str) -> Iterator[tuple[int, int]]:
        """``(number, address of the head)`` of chains that are not empty, read a page at a time."""
        structs = self.view.kernel.structs
        word = structs.word_size
        number = problems = 0
        while number < chains and problems <= _MAX_PROBLEMS:
            address = table + number * word
            count = max(1, min(chains - number, (_PIECE - address % _PIECE) // word))
            try:
                data = structs.read(address, count * word)
            except AddressError as error:
                problems += 1
                self._problem(place, f"chains {number} to {number + count - 1} cannot be read: {error}")
                data = b""
            for at in range(0, len(data), word):
                if any(data[at : at + word]):
                    yield number + at // word, address + at
            number += count


def find_database(view: View, protocol: str) -> PcbDatabase:
    """The database of a protocol in a vnet.

    Raises:
        SymbolError: the kernel has none, or its types do not know it.
    """
    view.kernel.structs.member("inpcbinfo", "ipi_listhead")
    view.kernel.structs.member("inpcb", "inp_list")
    return PcbDatabase(view, protocol, view.address(DATABASES[protocol]))
