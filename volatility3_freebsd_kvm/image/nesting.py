"""Refuses types that would keep their readers busy forever.

No compiler makes structures that contain themselves, but a file may say so. And members of anonymous structures count
as those of the outer one, so that a few dozen structures may have billions of members.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Extent = tuple[int, int]
"""How many members a structure has with those of anonymous ones, and how deep these are nested."""

_MAX_MEMBERS = 1 << 16
_MAX_DEPTH = 64
_MAX_SHOWN = 60


def check_nesting(user_types: dict[str, Any], measured: dict[str, Extent]) -> None:
    """Measure all structures, entering them into ``measured``; those that are there already are not looked at.

    Raises:
        ValueError: one contains itself, or too much.
    """
    for start in user_types:
        if start not in measured:
            _measure(start, user_types, measured)


def _measure(start: str, user_types: dict[str, Any], measured: dict[str, Extent]) -> None:
    """Depth first, inner structures before outer ones."""
    stack, entered = [start], set[str]()
    while stack:
        name = stack[-1]
        if name in measured:
            stack.pop()
            continue
        inner = [one for one in _embedded(user_types[name]) if one[0] in user_types]
        waiting = [one for one, _ in inner if one not in measured]
        if waiting and name in entered:
            msg = f"structure {name[:_MAX_SHOWN]!r} contains itself"
            raise ValueError(msg)
        entered.add(name)
        stack.extend(waiting)
        if not waiting:
            measured[name] = _extent(name, user_types[name], [measured[one] for one, anonymous in inner if anonymous])


def _extent(name: str, definition: dict[str, Any], anonymous: list[Extent]) -> Extent:
    members = len(definition["fields"]) + sum(count for count, _ in anonymous)
    depth = 1 + max((inner for _, inner in anonymous), default=0)
    # Structures with thousands of members exist, but not by way of anonymous ones.
    if anonymous and (members > _MAX_MEMBERS or depth > _MAX_DEPTH):
        msg = f"structure {name[:_MAX_SHOWN]!r} contains {members} members in {depth} levels of anonymous structures"
        raise ValueError(msg)
    return members, depth


def _embedded(definition: dict[str, Any]) -> Iterable[tuple[str, bool]]:
    """Names of the structures that one contains, and whether their members count as its own."""
    for field in definition["fields"].values():
        inner = field["type"]
        while inner["kind"] == "array":
            inner = inner["subtype"]
        if inner["kind"] in ("struct", "union"):
            yield inner["name"], "anonymous" in field
