"""C objects in simulated kernel memory, with members as Python attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from volatility3_freebsd_kvm.image.types import TypeReference

from .ctype import COMPOUND

if TYPE_CHECKING:
    from .kernel_memory import KernelMemory


class Object:
    """A C object at a kernel virtual address.

    Members read and write as attributes: ``proc.p_pid = 1``, ``proc.p_list.le_next = other``; array elements by index.
    Scalars come as Python values, compounds and arrays as further objects. A member whose name is not an identifier of
    its own here (``_va`` …) is reached with ``obj["name"]``. Pointers take objects.
    """

    __slots__ = ("_memory", "_type", "_va")

    def __init__(self, memory: KernelMemory, reference: TypeReference, va: int) -> None:
        object.__setattr__(self, "_memory", memory)
        object.__setattr__(self, "_type", reference)
        object.__setattr__(self, "_va", va)

    def __repr__(self) -> str:
        return f"<{self._type.get('name', self._type['kind'])} at {self._va:#x}>"

    def __index__(self) -> int:
        return int(self._va)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and (self._va, self._type) == (other._va, other._type)

    def __hash__(self) -> int:
        return hash(self._va)

    def _member(self, key: str | int) -> Object:
        table = self._memory.types
        if isinstance(key, int):
            element = self._type["subtype"]
            base = self._va
            if self._type["kind"] == "pointer":
                base = self._memory.read_pointer(base)
            return Object(self._memory, element, base + key * table.size(element))
        if self._type["kind"] not in COMPOUND:
            raise AttributeError(f"{self!r} has no members")
        try:
            offset, reference = table.member(self._type["name"], key)
        except KeyError as error:
            raise AttributeError(str(error)) from None
        return Object(self._memory, reference, self._va + offset)

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __getitem__(self, key: str | int) -> Any:
        member = self._member(key)
        if member._type["kind"] in (*COMPOUND, "array"):
            return member
        return member._memory.types.decode(member._type, member._memory.read(member._va, sizeof(member)))

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, key: str | int, value: Any) -> None:
        assign(self._member(key), value)


def addressof(obj: Object, member: str | None = None) -> int:
    """The address of an object, or of a member of it (dots lead through members)."""
    for part in member.split(".") if member else ():
        obj = obj._member(part)
    return int(obj._va)


def sizeof(obj: Object) -> int:
    """Bytes of an object."""
    return int(obj._memory.types.size(obj._type))


def assign(obj: Object, value: Any) -> None:
    """Give an object a value; see `TypeTable.encode` for what it may be."""
    old = obj._memory.read(obj._va, sizeof(obj))
    obj._memory.write(obj._va, obj._memory.types.encode(obj._type, value, old))


def content(obj: Object) -> bytes:
    """The bytes of an object."""
    return obj._memory.read(obj._va, sizeof(obj))


def link_list(head: Object, items: Iterable[Object], link: str) -> None:
    """Make `head` (LIST or CK_LIST) hold `items`, linked by their member `link`, in that order."""
    first, forward, back = _names(head, ("lh_first", "clh_first"), ("le_next", "cle_next"), ("le_prev", "cle_prev"))
    place = addressof(head, first)
    head[first] = 0
    previous: Object | None = None
    for item in items:
        entry = item[link]
        entry[forward] = 0
        entry[back] = place
        if previous is None:
            head[first] = item
        else:
            previous[link][forward] = item
        place = addressof(entry, forward)
        previous = item


def link_tailq(head: Object, items: Iterable[Object], link: str) -> None:
    """Make `head` (TAILQ) hold `items`, linked by their member `link`."""
    head.tqh_first = 0
    place = addressof(head, "tqh_first")
    previous: Object | None = None
    for item in items:
        entry = item[link]
        entry.tqe_next = 0
        entry.tqe_prev = place
        if previous is None:
            head.tqh_first = item
        else:
            previous[link].tqe_next = item
        place = addressof(entry, "tqe_next")
        previous = item
    head.tqh_last = place


def link_stailq(head: Object, items: Iterable[Object], link: str) -> None:
    """Make `head` (STAILQ or CK_STAILQ) hold `items`, linked by their member `link`."""
    first, last, forward = _names(
        head, ("stqh_first", "cstqh_first"), ("stqh_last", "cstqh_last"), ("stqe_next", "cstqe_next")
    )
    _link_forward(head, items, link, first, forward, last)


def link_slist(head: Object, items: Iterable[Object], link: str) -> None:
    """Make `head` (SLIST or CK_SLIST) hold `items`, linked by their member `link`."""
    first, forward = _names(head, ("slh_first", "cslh_first"), ("sle_next", "csle_next"))
    _link_forward(head, items, link, first, forward, None)


def _link_forward(head: Object, items: Iterable[Object], link: str, first: str, forward: str, last: str | None) -> None:
    head[first] = 0
    place = addressof(head, first)
    previous: Object | None = None
    for item in items:
        item[link][forward] = 0
        if previous is None:
            head[first] = item
        else:
            previous[link][forward] = item
        place = addressof(item[link], forward)
        previous = item
    if last:
        head[last] = place


def _names(head: Object, *choices: tuple[str, str]) -> Iterator[str]:
    """The spelling of the names for this head: the plain one or that of Concurrency Kit."""
    plain = head._memory.types.has_member(head._type["name"], choices[0][0])
    return iter([choice[0] if plain else choice[1] for choice in choices])
