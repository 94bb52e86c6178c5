"""Listeners of bpf(4): who captures packets, where, and with which filter; as netstat -B tells it and beyond.

# Reference: sys/net/bpf.c (bpf_iflist, struct bpf_if, bpfstats_fill_xbpf), sys/net/bpfdesc.h, usr.bin/netstat/bpf.c
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..exceptions import KVMError, SymbolError
from ..image.chain import Chain
from .bpf_descriptors import find_descriptors
from .bpf_filter import MAX_INSTRUCTIONS, Filter, read_filter
from .counter import Counters
from .fields import Fields
from .interface_views import FoundInterface, find_interfaces
from .kernel import Kernel, View
from .lists import Queue
from .needs import unmet
from .objects import Object
from .process import is_readable, procs
from .records import Absent, Problem, attempt
from .stacks import chosen_stacks, jail_names, vnet_address

MAX_LISTENERS = 1 << 16
MAX_FILTER = 1 << 16
_DIRECTIONS = {0: "in", 1: "inout", 2: "out"}
"""enum bpf_direction."""
_BUFFER_MODES = {1: "buffer", 2: "zero-copy"}
"""BPF_BUFMODE_."""
_LINK_TYPES = {0: "NULL", 1: "EN10MB", 9: "PPP", 12: "RAW", 105: "IEEE802_11", 108: "LOOP", 109: "ENC", 117: "PFLOG"}
_LINK_TYPES |= {121: "PFSYNC", 127: "IEEE802_11_RADIO", 186: "USB", 246: "PFSYNC"}
"""DLT_ of the kernel's own drivers."""
_FLAGS = (
    ("bd_promisc", "promiscuous"),
    ("bd_immediate", "immediate"),
    ("bd_hdrcmplt", "header-complete"),
    ("bd_feedback", "feedback"),
    ("bd_async", "async"),
    ("bd_locked", "locked"),
    ("bd_compat32", "compat32"),
)
_COUNTERS = {
    "received": "bd_rcount",
    "dropped": "bd_dcount",
    "captured": "bd_fcount",
    "written": "bd_wcount",
    "written_matched": "bd_wfcount",
    "write_drops": "bd_wdcount",
    "zero_copies": "bd_zcopy",
}
READER, WRITER, DETACHED = "reader", "writer", "detached"


@dataclass(frozen=True)
class Process:
    """The process that a listener names."""

    command: str | Absent
    jid: int | Absent
    jail: str | Absent


_NOBODY = Process(Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE)


@dataclass(frozen=True)
class Listener:
    """A ``struct bpf_d``: an open /dev/bpf.

    Attributes:
        address: of it.
        role: ``reader``; ``writer``, for which no packet was captured yet; ``detached`` from any interface.
        interface: name of the interface.
        interface_address: of its ``struct ifnet``, 0 where it is not known.
        vnet: address of the interface's vnet.
        vnet_jails: names of the jails that use it.
        link_type: DLT_ of what is captured.
        pid: of who opened it or set it up last.
        process: that process, as far as it is known.
        direction: ``in``, ``out`` or ``inout``.
        flags: as netstat --libxo names them: ``promiscuous``, ``immediate``, ``locked``, …
        buffer_mode: ``buffer`` or ``zero-copy``.
        buffer_size, stored, held: bytes of a buffer, of what is in the one being filled, and of what waits to be read.
        counts: packets: ``received``, ``dropped``, ``captured`` (matched), ``written``, ``written_matched``,
            ``write_drops``, ``zero_copies``.
        read_filter, write_filter: the programs.
        holders: ``(pid, descriptor)`` of who has it open; NOT_AVAILABLE where the kernel does not tell.
        notes: what is odd.
    """

    address: int
    role: str
    interface: str | Absent
    interface_address: int
    vnet: int | Absent
    vnet_jails: tuple[str, ...] | Absent
    link_type: str | Absent
    pid: int | Absent
    process: Process
    direction: str | Absent
    flags: tuple[str, ...] | Absent
    buffer_mode: str | Absent
    buffer_size: int | Absent
    stored: int | Absent
    held: int | Absent
    counts: dict[str, int | Absent]
    read_filter: Filter | Absent
    write_filter: Filter | Absent
    holders: tuple[tuple[int, int], ...] | Absent
    notes: tuple[str, ...] = ()


def listeners(kernel: Kernel, interfaces: list[FoundInterface] | None = None) -> Iterator[Listener | Problem]:
    """Every listener, by interface as ``bpf_iflist`` has them; detached ones last.

    Args:
        kernel: the kernel.
        interfaces: those of all vnets, if they were found already.
    """
    missing = unmet(kernel, "bpf", ("bpf_d.bd_next", ("bpf_if.bif_next", "bpf_if_ext.bif_next")))
    if missing:
        yield missing
        return
    yield from _Walk(kernel, interfaces).listeners()


@dataclass(frozen=True)
class _Point:
    """A ``struct bpf_if``: where an interface hands over its packets.

    Attributes:
        address: of it.
        owner: the interface, None if it is not known.
        link_type: DLT_.
        notes: for all listeners of it.
    """

    address: int
    owner: FoundInterface | None
    link_type: str | Absent
    notes: tuple[str, ...] = ()


@dataclass
class _Walk:
    kernel: Kernel
    interfaces: list[FoundInterface] | None
    problems: list[Problem] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def listeners(self) -> Iterator[Listener | Problem]:
        """All of them, then what was irregular."""
        if self.interfaces is None:
            self.interfaces = []
            for found in find_interfaces(self.kernel, self.kernel.vnets()):
                if isinstance(found, FoundInterface):
                    self.interfaces.append(found)
                else:
                    self.problems.append(found)
        reader = _Reader(self.kernel)
        points = list(self._points())
        for point in points:
            for role, listener in self._of_point(point):
                yield reader.record(listener, role, point)
        yield from self._unlisted(reader, {point.address: point for point in points})
        yield from self.problems

    # Points

    def _points(self) -> Iterator[_Point]:
        """Those of ``bpf_iflist``, then those that only an interface knows."""
        by_point: dict[int, FoundInterface] = {}
        for one in self.interfaces or ():
            at = attempt(lambda one=one: int(one.interface.if_bpf))  # type: ignore[misc]
            if isinstance(at, int) and at:
                by_point.setdefault(at, one)
        listed, sound = self._listed_points()
        for address in listed:
            yield self._point(address, by_point.get(address), ())
        known = set(listed)
        for address, owner in by_point.items():
            # What has no listeners may be `dead_bpf_if`, which interfaces without bpf have.
            if address not in known:
                note = "hidden: its bpf_if is not on bpf_iflist" if sound else "its bpf_if is not reached on bpf_iflist"
                yield self._point(address, owner, (note,))

    def _listed_points(self) -> tuple[list[int], bool]:
        """The addresses on ``bpf_iflist``, and whether it is whole.

        The link is in the part that other files may see since 12.0, which is the first member, and was in ``bpf_if``
        itself before; so it does not need the type of the whole, which is private to bpf.c.
        """
        structs = self.kernel.structs
        old = structs.has("bpf_if", "bif_next")
        try:
            head = self.kernel.address("bpf_iflist")
        except SymbolError as error:
            self.problems.append(Problem("bpf_iflist", str(error)))
            return [], False
        at = structs.offset("bpf_if", "bif_next") if old else structs.offset("bpf_if_ext", "bif_next")
        chain = Chain(
            lambda: structs.pointer(head),
            lambda address: structs.pointer(address + at),
            limit=MAX_LISTENERS,
            alignment=structs.word_size,
        )
        found = [address for address in chain if self._is_readable(address + at)]
        if chain.problem:
            self.problems.append(Problem("bpf_iflist", chain.problem))
        return found, not chain.problem

    def _is_readable(self, address: int) -> bool:
        return not isinstance(attempt(lambda: self.kernel.structs.pointer(address)), Absent)

    def _point(self, address: int, owner: FoundInterface | None, notes: tuple[str, ...]) -> _Point:
        point = self.kernel.object("bpf_if", address)
        link_type = attempt(lambda: int(point.bif_dlt))
        named = attempt(lambda: int(point.bif_ifp))
        if owner is None and isinstance(named, int):
            # 802.11 has several points of one interface, and if_bpf leads to one of them.
            owner = next((one for one in self.interfaces or () if one.interface.address_ == named), None)
            if owner is None and named:
                notes += (f"its interface at {named:#x} is not known otherwise",)
        elif owner and isinstance(named, int) and named != owner.interface.address_:
            notes += (f"the bpf_if of {owner.name} says that its interface is at {named:#x}",)
        text = link_type if isinstance(link_type, Absent) else _LINK_TYPES.get(link_type, str(link_type))
        return _Point(address, owner, text, notes)

    # Listeners

    def _of_point(self, point: _Point) -> Iterator[tuple[str, Object]]:
        """The writers first, as netstat -B has them."""
        structs = self.kernel.structs
        heads = [(WRITER, "bpf_if", "bif_wlist"), (READER, "bpf_if", "bif_dlist"), (READER, "bpf_if_ext", "bif_dlist")]
        for role, type_name, member in heads:
            if not structs.has(type_name, member):
                continue
            head = point.address + structs.offset(type_name, member)
            queue = Queue(structs, head, "bpf_d", "bd_next", limit=MAX_LISTENERS)
            for listener in queue:
                if listener.address_ not in self.seen and is_readable(listener, "bd_next"):
                    self.seen.add(listener.address_)
                    yield role, listener
            name = point.owner.name if point.owner else f"{point.address:#x}"
            self.problems += [Problem(f"{member} of {name}", problem) for problem in queue.problems]

    def _unlisted(self, reader: _Reader, points: dict[int, _Point]) -> Iterator[Listener]:
        """Those that only an open descriptor leads to: of no interface, or taken off its list."""
        for address in reader.descriptors.files:
            if address in self.seen:
                continue
            listener = self.kernel.object("bpf_d", address)
            at = attempt(lambda listener=listener: int(listener.bd_bif))  # type: ignore[misc]
            if at == 0 or isinstance(at, Absent):
                yield reader.record(listener, DETACHED, _Point(0, None, Absent.NOT_APPLICABLE))
                continue
            writers_known = self.kernel.has_member("bpf_if", "bif_wlist")
            note = (
                "hidden: not on the lists of its interface"
                if writers_known
                else "not on bif_dlist: a writer, or hidden"
            )
            point = points.get(at) or self._point(at, None, ())
            yield reader.record(
                listener, WRITER, replace(point, notes=(*point.notes, f"{note}, known by its descriptor"))
            )


# Reading them


class _Reader:
    """Makes records of listeners."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._counters = Counters(kernel)
        self._processes = _processes(kernel)
        self.descriptors = find_descriptors(kernel)
        limit = attempt(lambda: kernel.integer("bpf_maxinsns"))
        self._limit = limit if isinstance(limit, int) and 0 < limit <= MAX_FILTER else MAX_INSTRUCTIONS

    def record(self, one: Object, role: str, point: _Point) -> Listener:
        """What there is to tell of a listener."""
        fields = Fields()
        for note in point.notes:
            fields.note(note)
        pid = fields.take("bd_pid", lambda: int(one.bd_pid))
        owner = point.owner
        record = Listener(
            one.address_,
            role,
            owner.name if owner else Absent.NOT_APPLICABLE if role == DETACHED else Absent.NOT_AVAILABLE,
            owner.interface.address_ if owner else 0,
            *_home(owner.stack if owner else None),
            link_type=point.link_type,
            pid=pid,
            process=self._process(pid, fields),
            direction=fields.take("bd_direction", lambda: _named(_DIRECTIONS, int(one.bd_direction))),
            flags=fields.take("bd_promisc", lambda: _flags(one)),
            buffer_mode=fields.take("bd_bufmode", lambda: _named(_BUFFER_MODES, int(one.bd_bufmode))),
            buffer_size=fields.take("bd_bufsize", lambda: int(one.bd_bufsize)),
            stored=fields.take("bd_slen", lambda: int(one.bd_slen)),
            held=fields.take("bd_hlen", lambda: int(one.bd_hlen)),
            counts={name: self._count(one, member, fields) for name, member in _COUNTERS.items()},
            read_filter=self._filter(one, "bd_rfilter", fields),
            write_filter=self._filter(one, "bd_wfilter", fields),
            holders=self.descriptors.holders(one.address_),
        )
        self._remark(one, point, role, record, fields)
        return replace(record, notes=fields.notes)

    def _process(self, pid: int | Absent, fields: Fields) -> Process:
        if isinstance(pid, Absent):
            return _NOBODY
        found = self._processes.get(pid)
        if found is None:
            fields.note(f"there is no process {pid}")
        return found or _NOBODY

    def _count(self, one: Object, member: str, fields: Fields) -> int | Absent:
        """Per CPU since 12.0; a plain number before."""
        stored = fields.take(member, lambda: int(getattr(one, member)))
        if isinstance(stored, Absent) or one.kind_(member) != "pointer":
            return stored
        return fields.take(member, lambda: self._counters.fetch(stored))

    def _filter(self, one: Object, member: str, fields: Fields) -> Filter | Absent:
        address = fields.take(member, lambda: int(getattr(one, member)))
        if isinstance(address, Absent):
            return address
        found = read_filter(self._kernel.structs, address, self._limit)
        if found.problem:
            fields.note(f"{member}: {found.problem}")
        return found

    def _remark(self, one: Object, point: _Point, role: str, record: Listener, fields: Fields) -> None:
        point_of = attempt(lambda: int(one.bd_bif))
        if role != DETACHED and isinstance(point_of, int) and point_of != point.address:
            fields.note(f"its bd_bif is {point_of:#x}, not {point.address:#x}")
        if self.descriptors.complete and one.address_ not in self.descriptors.files:
            fields.note("no open /dev/bpf leads to it")
        holders = record.holders
        if isinstance(holders, tuple) and holders and record.pid not in {pid for pid, _ in holders}:
            fields.note(f"held by {', '.join(f'process {pid} as descriptor {fd}' for pid, fd in holders)}")


def _home(stack: View | None) -> tuple[int | Absent, tuple[str, ...] | Absent]:
    if stack is None:
        return Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE
    return vnet_address(stack), jail_names(stack)


def _named(names: dict[int, str], value: int) -> str:
    return names.get(value, str(value))


def _flags(one: Object) -> tuple[str, ...]:
    """Members that a release does not have are passed over."""
    return tuple(name for member, name in _FLAGS if one.has_(member) and getattr(one, member))


def _processes(kernel: Kernel) -> dict[int, Process]:
    """All processes by pid; who lists processes tells what is wrong with their lists."""
    found: dict[int, Process] = {}
    try:
        for proc in procs(kernel):
            if isinstance(proc, Object):
                pid = attempt(lambda proc=proc: int(proc.p_pid))  # type: ignore[misc]
                if isinstance(pid, int):
                    found.setdefault(pid, _process(proc))
    except KVMError:
        pass
    return found


def _process(proc: Object) -> Process:
    return Process(
        attempt(lambda: str(proc.p_comm)),
        attempt(lambda: int(proc.p_ucred.cr_prison.pr_id)),
        attempt(lambda: str(proc.p_ucred.cr_prison.pr_name)),
    )


# Choosing some


def chosen_listeners(kernel: Kernel, vnet: str = "", jail: str = "") -> Iterator[Listener | Problem]:
    """The listeners that an analyst wants to see.

    Args:
        kernel: the kernel.
        vnet: only on interfaces of the vnet of this jail (id or name) or at this address.
        jail: only of processes of the jail of this id or name.

    Raises:
        SymbolError: there is no such vnet or jail.
    """
    stacks = chosen_stacks(kernel, vnet)
    if jail:
        chosen_stacks(kernel, jail=jail)
    wanted = {vnet_address(stack) for stack in stacks}
    for one in listeners(kernel):
        if isinstance(one, Listener):
            if vnet and one.vnet not in wanted:
                continue
            if jail and jail not in (str(one.process.jid), one.process.jail):
                continue
        yield one
