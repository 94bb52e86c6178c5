"""The sysctl tree: every oid with what sysctl(8) would say of it.

# Reference: sys/sys/sysctl.h (struct sysctl_oid), sys/kern/kern_sysctl.c (sysctl__children, sysctl_register_all)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel
from .linker import code_at
from .lists import Queue, RedBlackTree
from .needs import unmet
from .objects import Object
from .records import Absent, Problem, attempt
from .sysctl_values import Values

_ROOT = "sysctl__children"
MAX_OIDS = 1 << 18
MAX_DEPTH = 24
"""CTL_MAXNAME."""
MAX_STATIC = 1 << 16
MAX_REPEATED = 64
_MAX_NAME, _MAX_DESCRIPTION = 256, 1024
_KIND, _NODE = 0xF, 1
_TYPES = (
    *("", "node", "int", "string", "s64", "opaque", "uint", "long"),
    *("ulong", "u64", "u8", "u16", "s8", "s16", "s32", "u32"),
)
"""CTLTYPE_*, since 11.0; up to 10 there are none behind u64."""
_RD, _WR = 0x8000_0000, 0x4000_0000
_FLAGS = {
    0x2000_0000: "DORMANT",
    0x1000_0000: "ANYBODY",
    0x0800_0000: "SECURE",
    0x0400_0000: "PRISON",
    0x0200_0000: "DYN",
    0x0100_0000: "SKIP",
    0x0008_0000: "TUN",
    0x0004_0000: "MPSAFE",
    0x0002_0000: "VNET",
    0x0001_0000: "DYING",
    0x0000_8000: "CAPRD",
    0x0000_4000: "CAPWR",
    0x0000_2000: "STATS",
    0x0000_1000: "NOFETCH",
    0x0000_0800: "NEEDGIANT",
}
"""CTLFLAG_* but RD and WR."""


@dataclass(frozen=True)
class Sysctl:
    """An oid.

    Attributes:
        address: of its ``struct sysctl_oid``.
        name: ``kern.ostype``.
        oid: its numbers: (1, 1).
        type: ``node``, ``int``, ``string``, ...
        format: as sysctl(9) has it: ``I``, ``A``, ``S,timeval``, ...
        flags: ``RW``, ``TUN``, ``VNET``, ...
        value: as sysctl(8) prints it; there is none for nodes, and none where only the handler knows it.
        handler: address of the function that reads and writes it.
        handler_symbol: its name, empty where it is in no known code.
        description: what sysctl -d prints.
        notes: what is odd.
    """

    address: int
    name: str
    oid: tuple[int, ...]
    type: str
    format: str | Absent
    flags: tuple[str, ...]
    value: str | Absent
    handler: int | Absent
    handler_symbol: str
    description: str | Absent
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """A list of oids: where its head is, and what its members' names begin with."""

    head: int
    name: str = ""
    oid: tuple[int, ...] = ()


def sysctls(kernel: Kernel, names: Collection[str] = (), vnet: int | str | None = None) -> Iterator[Sysctl | Problem]:
    """The tree, nodes before what is below them, then what the kernel was compiled with but is not in the tree.

    Args:
        kernel: the kernel.
        names: only these oids and those below them: ``kern``, ``kern.ipc``; all if there are none.
        vnet: whose VNET variables are the values; see `Kernel.vnet`.

    Raises:
        SymbolError: there is no such vnet.
    """
    walk = _Walk(kernel, [name.strip(".") for name in names], Values(kernel, vnet))
    missing = unmet(kernel, _ROOT, ("sysctl_oid.oid_link", "sysctl_oid.oid_kind", "sysctl_oid.oid_name"))
    if missing or not kernel.has(_ROOT):
        yield missing or Problem(_ROOT, "this kernel's symbols do not have it")
        return
    yield from walk.run()


class _Walk:
    def __init__(self, kernel: Kernel, wanted: list[str], values: Values) -> None:
        self.kernel = kernel
        self.wanted = wanted
        self.values = values
        self.is_tree = kernel.has_member("sysctl_oid", "oid_link.rbe_link")
        # Up to 10 a node's children are in a list of their own, where oid_arg1 leads.
        self.embedded = kernel.has_member("sysctl_oid", "oid_children")
        self.at_children = kernel.structs.offset("sysctl_oid", "oid_children") if self.embedded else 0
        self.names: dict[int, str] = {}
        self.repeated = 0
        self.code: dict[int | Absent, tuple[str, str]] = {}
        self.places: dict[int, _Place] = {}

    def run(self) -> Iterator[Sysctl | Problem]:
        """Everything below the root."""
        waiting = [self._members(_Place(self.kernel.address(_ROOT)))]
        sound = True
        while waiting:
            item = next(waiting[-1], None)
            if item is None:
                waiting.pop()
            elif isinstance(item, Problem):
                sound = False
                yield item
            else:
                oid, place = item
                if self._is_wanted(place.name):
                    yield self._record(oid, place)
                if self._leads_on(oid, place) and (head := self._children(oid)):
                    waiting.append(self._members(_Place(head, place.name, place.oid)))
        note = "it was removed or is hidden" if sound else "it may be behind what could not be walked"
        yield from self._static(f"compiled in, but not in the tree: {note}")

    # The tree

    def _members(self, place: _Place) -> Iterator[tuple[Object, _Place] | Problem]:
        """``(oid, its own place)`` of each member of a list."""
        where = f"children of {place.name}" if place.name else _ROOT
        if place.head in self.places or len(place.oid) >= MAX_DEPTH:
            known = self.places.get(place.head)
            text = f"are those of {known.name or 'the root'}" if known else f"deeper than {MAX_DEPTH} levels"
            yield Problem(where, f"{text}: not followed", place.head)
            return
        self.places[place.head] = place
        members = self._list(place.head)
        for oid in members:
            if oid.address_ in self.names:
                self.repeated += 1
                yield Problem(where, f"leads to {self.names[oid.address_]} again: not followed", oid.address_)
                if self.repeated >= MAX_REPEATED:
                    return  # Lists may be made to lead into each other, all of them.
                continue
            if len(self.names) >= MAX_OIDS:
                yield Problem(where, f"the tree has more than {MAX_OIDS} oids", oid.address_)
                return
            if isinstance(attempt(partial(_kind, oid)), Absent):
                yield Problem(where, f"{oid.address_:#x} cannot be read", oid.address_)
                continue
            own = self._place_of(oid, place)
            self.names[oid.address_] = own.name
            yield oid, own
        yield from (Problem(where, problem) for problem in members.problems)

    def _list(self, head: int) -> Queue | RedBlackTree:
        if self.is_tree:
            return RedBlackTree(self.kernel.structs, head, "sysctl_oid", "oid_link", limit=MAX_OIDS)
        return Queue(self.kernel.structs, head, "sysctl_oid", "oid_link", limit=MAX_OIDS)

    def _place_of(self, oid: Object, above: _Place) -> _Place:
        name = attempt(lambda: oid.oid_name.text_(_MAX_NAME))
        number = attempt(lambda: int(oid.oid_number))
        shown = name if isinstance(name, str) and name else f"?{oid.address_:#x}"
        numbers = (*above.oid, number if isinstance(number, int) else -1)
        return _Place(above.head, f"{above.name}.{shown}" if above.name else shown, numbers)

    def _leads_on(self, oid: Object, place: _Place) -> bool:
        """Whether there may be something below that is wanted."""
        kind = attempt(lambda: int(oid.oid_kind))
        if isinstance(kind, Absent) or kind & _KIND != _NODE:
            return False
        return self._is_wanted(place.name) or any(one.startswith(f"{place.name}.") for one in self.wanted)

    def _children(self, oid: Object) -> int:
        """The head of the list of a node's children, 0 if it has none."""
        if self.embedded:
            return oid.address_ + self.at_children
        head = attempt(lambda: int(oid.oid_arg1))
        return head if isinstance(head, int) else 0

    def _is_wanted(self, name: str) -> bool:
        return not self.wanted or any(name == one or name.startswith(f"{one}.") for one in self.wanted)

    # What is not in it

    def _static(self, note: str) -> Iterator[Sysctl | Problem]:
        """The oids of ``set_sysctl_set`` that the walk has not met."""
        if self.wanted:
            return
        try:
            start, stop = (self.kernel.address(f"__{edge}_set_sysctl_set") for edge in ("start", "stop"))
        except SymbolError:
            return
        word = self.kernel.structs.word_size
        for place in range(start, min(stop, start + MAX_STATIC * word), word):
            try:
                address = self.kernel.structs.pointer(place)
            except AddressError as error:
                yield Problem("set_sysctl_set", f"ends where {error}")
                return
            if address and address not in self.names:
                yield self._lost(address, note)

    def _lost(self, address: int, note: str) -> Sysctl:
        oid = self.kernel.object("sysctl_oid", address)
        place = _Place(0, "?", (-1,))
        above = [oid]
        # A parent pointer leads to the list of children that the oid above begins with.
        while self.embedded and len(above) < MAX_DEPTH:
            head = attempt(partial(_parent, above[-1]))
            if isinstance(head, Absent) or not head:
                break
            if head in self.places:
                place = self.places[head]
                break
            above.append(self.kernel.object("sysctl_oid", head - self.at_children))
        for one in reversed(above if place.head else above[:1]):
            place = self._place_of(one, place)
        return self._record(oid, place, note)

    # One oid

    def _record(self, oid: Object, place: _Place, note: str = "") -> Sysctl:
        kind = attempt(lambda: int(oid.oid_kind))
        handler = attempt(lambda: int(oid.oid_handler))
        if handler not in self.code:
            self.code[handler] = code_at(self.kernel, handler)
        symbol, odd = self.code[handler]
        notes = [note] if note else []
        if odd:
            notes.append(f"its handler {odd}")
        if not note and self.embedded and attempt(lambda: int(oid.oid_parent)) != place.head:
            notes.append("its parent pointer leads to another list")
        value = self.values.of(oid, symbol, notes)
        return Sysctl(
            address=oid.address_,
            name=place.name,
            oid=place.oid,
            type="" if isinstance(kind, Absent) else _TYPES[kind & _KIND],
            format=attempt(lambda: oid.oid_fmt.text_(_MAX_NAME)),
            flags=() if isinstance(kind, Absent) else flag_names(kind),
            value=value,
            handler=handler,
            handler_symbol=symbol,
            description=attempt(lambda: oid.oid_descr.text_(_MAX_DESCRIPTION)),
            notes=tuple(notes),
        )


def _parent(oid: Object) -> int:
    return int(oid.oid_parent)


def _kind(oid: Object) -> int:
    return int(oid.oid_kind)


def flag_names(kind: int) -> tuple[str, ...]:
    """``oid_kind`` without the type: ``RW``, ``TUN``, ...; bits without a name together in hexadecimal."""
    access = ("R" if kind & _RD else "") + ("W" if kind & _WR else "")
    if access in ("R", "W"):
        access = {"R": "RD", "W": "WR"}[access]
    names = [access] if access else []
    names += [name for bit, name in _FLAGS.items() if kind & bit]
    rest = kind & 0xFFFF_FFFF & ~(_KIND | _RD | _WR | sum(_FLAGS))
    return (*names, f"{rest:#x}") if rest else tuple(names)
