"""The interfaces of each vnet, from its list and from the table of indexes: who is missing from one may be hidden.

# Reference: sys/net/if.c (V_ifnet, V_ifindex_table, ifnet_setbyindex), sys/net/if_private.h
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel, View
from .lists import Queue
from .needs import unmet
from .objects import Object
from .process import is_readable
from .records import Absent, Problem, attempt
from .stacks import place, vnet_key

MAX_INTERFACES = 1 << 16
"""An index has 16 bits."""
_MAX_PROBLEMS = 16
_NEEDED = ("ifnet.if_link", "ifnet.if_xname")


@dataclass(frozen=True)
class FoundInterface:
    """An interface, and where it was found.

    Attributes:
        interface: the ``struct ifnet``.
        stack: the vnet.
        notes: which of the places does not know it.
    """

    interface: Object
    stack: View
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str | Absent:
        """``em0``."""
        return attempt(lambda: str(self.interface.if_xname))

    @property
    def vnet(self) -> int:
        """Address of the vnet, 0 on a kernel without VIMAGE."""
        return vnet_key(self.stack)


@dataclass
class _Table:
    """The interfaces of an index table by address, each with its indexes."""

    indexes: dict[int, list[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    known: bool = True


def find_interfaces(kernel: Kernel, stacks: Sequence[View]) -> Iterator[FoundInterface | Problem]:
    """The interfaces of some vnets: those on the list first, then those that only the table of indexes has."""
    missing = unmet(kernel, "interfaces", _NEEDED)
    if missing:
        yield missing
        return
    yield from _Finder(kernel, stacks).find()


@dataclass
class _List:
    """The interfaces on a vnet's list by address."""

    interfaces: dict[int, Object]
    problems: list[str]


class _Finder:
    def __init__(self, kernel: Kernel, stacks: Sequence[View]) -> None:
        self._kernel = kernel
        self._stacks = stacks
        self._shared = _shared_table(kernel)
        # Where all vnets share a table, what one's list lacks may be on another's.
        self._lists = {vnet_key(stack): _walk_list(stack) for stack in (kernel.vnets() if self._shared else stacks)}
        self._listed = {address for one in self._lists.values() for address in one.interfaces}

    def find(self) -> Iterator[FoundInterface | Problem]:
        """What all lists and tables have."""
        homes: dict[int, int] = {}
        if self._shared:
            homes = {address: _home(self._kernel, address) for address in self._shared.indexes}
            yield from (Problem("ifindex_table", problem) for problem in self._shared.problems)
            for address in sorted(set(homes) - self._listed):
                if homes[address] not in self._lists:
                    yield Problem("ifindex_table", f"has interface {address:#x}, which is in no vnet", address)
        for stack in self._stacks:
            yield from self._of_stack(stack, homes)

    def _of_stack(self, stack: View, homes: dict[int, int]) -> Iterator[FoundInterface | Problem]:
        listed = self._lists[vnet_key(stack)]
        table = self._shared or _read_table(self._kernel, stack)
        for address, interface in listed.interfaces.items():
            notes = _listed_notes(stack, interface, table.indexes.get(address), table)
            yield FoundInterface(interface, stack, tuple(notes))
        for address, indexes in table.indexes.items():
            if address not in self._listed and homes.get(address, vnet_key(stack)) == vnet_key(stack):
                yield _unlisted(self._kernel, stack, address, indexes, sound=not listed.problems)
        yield from (Problem(place(stack, "ifnet"), problem) for problem in listed.problems)
        if not self._shared:
            yield from (Problem(place(stack, "ifindex_table"), problem) for problem in table.problems)


def _vnet(stack: View) -> int:
    return stack.vnet.address if stack.vnet else 0


def _walk_list(stack: View) -> _List:
    try:
        queue = Queue(stack.kernel.structs, stack.address("ifnet"), "ifnet", "if_link", limit=MAX_INTERFACES)
    except SymbolError as error:
        return _List({}, [str(error)])
    return _List({one.address_: one for one in queue if is_readable(one, "if_link")}, queue.problems)


def _listed_notes(stack: View, interface: Object, indexes: list[int] | None, table: _Table) -> Iterator[str]:
    own = attempt(lambda: int(interface.if_index))
    if indexes is None and table.known:
        yield "not in ifindex_table"
    elif indexes and isinstance(own, int) and indexes != [own]:
        yield f"ifindex_table has it as {', '.join(map(str, indexes))}"
    home = attempt(lambda: int(interface.if_vnet))
    if stack.vnet and isinstance(home, int) and home != stack.vnet.address:
        yield f"its if_vnet is {home:#x}"


def _unlisted(kernel: Kernel, stack: View, address: int, indexes: list[int], *, sound: bool) -> FoundInterface:
    interface, known = kernel.object("ifnet", address), f"known by ifindex_table[{indexes[0]}]"
    if attempt(lambda: int(interface.if_addr)) == 0:
        note = f"not attached yet, or no longer; {known}"
    elif sound:
        note = f"hidden: not on ifnet, {known}"
    else:
        note = f"not reached on ifnet, which is broken; {known}"
    return FoundInterface(interface, stack, (note,))


# The table of indexes


def _shared_table(kernel: Kernel) -> _Table | None:
    """Since 14.0 one table serves all vnets; None where each vnet has its own."""
    if not kernel.names.vnets or kernel.names.nlist(["ifindex_table"])[0].kind != "plain":
        return None
    return _read_table(kernel, View(kernel))


def _home(kernel: Kernel, address: int) -> int:
    vnet = attempt(lambda: int(kernel.object("ifnet", address).if_vnet))
    return -1 if isinstance(vnet, Absent) else vnet


def _read_table(kernel: Kernel, stack: View) -> _Table:
    table = _Table()
    try:
        first, highest = int(stack.pointer("ifindex_table")), stack.integer("if_index")
    except SymbolError:
        return _Table(known=False)
    except AddressError as error:
        return _Table(problems=[f"cannot be found because {error}"], known=False)
    if not 0 <= highest < MAX_INTERFACES:
        return _Table(problems=[f"if_index is {highest}, which is no index"], known=False)
    step, nothing = _entry_size(kernel), {0, (1 << 8 * kernel.structs.word_size) - 1}
    for index in range(1, highest + 1):
        try:
            # Both the old entry and the new one begin with the pointer. Reserved indexes have all ones (IFNET_HOLD).
            address = kernel.structs.pointer(first + index * step)
            if address not in nothing:
                _enter(kernel, table, index, address)
        except AddressError as error:
            table.known = False
            table.problems.append(f"entry {index} cannot be read: {error}")
            if len(table.problems) > _MAX_PROBLEMS:
                table.problems.append("too many problems, the rest of the table is left out")
                break
    return table


def _entry_size(kernel: Kernel) -> int:
    """Bytes of an entry, which is private to if.c: with a generation since 14.0, as interfaces have one since then."""
    structs = kernel.structs
    if kernel.has_type("ifindex_entry"):
        return structs.size("ifindex_entry")
    return structs.word_size * (2 if structs.has("ifnet", "if_idxgen") else 1)


def _enter(kernel: Kernel, table: _Table, index: int, address: int) -> None:
    """Enter what looks like an interface."""
    own = attempt(lambda: int(kernel.object("ifnet", address).if_index))
    if isinstance(own, Absent):
        table.problems.append(f"entry {index} leads to {address:#x}, where no interface can be read")
    else:
        table.indexes.setdefault(address, []).append(index)
