"""The kernel environment: what kenv(1) shows, and what the loader and config(8) left of theirs.

# Reference: sys/kern/kern_environment.c (kenvp, md_envp, kern_envp), sys/sys/kenv.h
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel
from .records import Problem

MAX_ENTRIES = 1024
"""KENV_SIZE is 512."""
MAX_STRING = 4096
"""Names and values of kenv(2) have up to 128 characters; the loader may give longer ones."""
DYNAMIC = "kenvp"
STATIC = ("md_envp", "kern_envp")
"""What the loader gave (12.0), and what was compiled in; up to 11 there is only the latter. Cleared since 12.0."""


@dataclass(frozen=True)
class Variable:
    """A variable of the kernel environment.

    Attributes:
        name: ``vfs.root.mountfrom``.
        value: its value.
        sources: where it is: ``kenvp``, which is in force, ``md_envp``, ``kern_envp``.
        address: of the string in the first of these.
        notes: what is odd.
    """

    name: str
    value: str
    sources: tuple[str, ...]
    address: int
    notes: tuple[str, ...] = ()


def variables(kernel: Kernel) -> Iterator[Variable | Problem]:
    """The variables in force in their order, then those that only an earlier environment has."""
    found: dict[tuple[str, str], Variable] = {}
    problems: list[Problem] = []
    in_force: dict[str, str] = {}
    for source in (DYNAMIC, *STATIC):
        for item in _entries(kernel, source):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            if source == DYNAMIC:
                in_force.setdefault(item.name, item.value)
            key = item.name, item.value
            known = found.get(key)
            if known is None:
                found[key] = item
            elif source not in known.sources:
                found[key] = replace(known, sources=(*known.sources, source))
            else:
                found[key] = replace(known, notes=("more than once",))
    yield from (_compared(variable, in_force) for variable in found.values())
    yield from problems


def _compared(variable: Variable, in_force: dict[str, str]) -> Variable:
    """Say so if another value is in force, or none."""
    if not in_force or in_force.get(variable.name) == variable.value:
        return variable
    note = "another value is in force" if variable.name in in_force else "not in force: it was unset"
    if DYNAMIC in variable.sources:
        note = "behind another of that name, which is in force"
    return replace(variable, notes=(*variable.notes, note))


def _entries(kernel: Kernel, source: str) -> Iterator[Variable | Problem]:
    """The entries of one environment; nothing if this kernel does not have it."""
    try:
        start = int(kernel.pointer(source))
        if source == DYNAMIC and not _is_dynamic(kernel):
            yield Problem(source, "not made yet: the kernel was still starting")
        elif start:
            places = _array(kernel, start) if source == DYNAMIC else _block(kernel, start)
            yield from _strings(kernel, source, places)
    except SymbolError as error:
        if source == DYNAMIC:
            yield Problem(source, str(error))
    except AddressError as error:
        yield Problem(source, f"ends where {error}")


def _is_dynamic(kernel: Kernel) -> bool:
    """``dynamic_kenv``, an int or a bool; what is not known is taken to be so."""
    size = kernel.names.nlist(["dynamic_kenv"])[0].size
    try:
        return bool(kernel.integer("dynamic_kenv", size or 1))
    except (SymbolError, AddressError):
        return True


def _strings(kernel: Kernel, source: str, places: Iterator[int]) -> Iterator[Variable | Problem]:
    for number, place in enumerate(places):
        if number == MAX_ENTRIES:
            yield Problem(source, f"has more than {MAX_ENTRIES} variables")
            return
        try:
            text = kernel.text(place, MAX_STRING)
        except AddressError as error:
            yield Problem(source, f"a string cannot be read: {error}", place)
            continue
        name, equals, value = text.partition("=")
        notes = () if equals else ("no name=value",)
        if len(text) == MAX_STRING:
            notes = (*notes, f"cut after {MAX_STRING} characters")
        yield Variable(name, value, (source,), place, notes)


def _array(kernel: Kernel, start: int) -> Iterator[int]:
    """Pointers until NULL; the order of the array is that of kenv(1)."""
    word = kernel.structs.word_size
    place = start
    while string := kernel.structs.pointer(place):
        yield string
        place += word


def _block(kernel: Kernel, start: int) -> Iterator[int]:
    """String after string until an empty one."""
    place = start
    while length := len(kernel.structs.string(place, MAX_STRING)):
        yield place
        place += length + 1
