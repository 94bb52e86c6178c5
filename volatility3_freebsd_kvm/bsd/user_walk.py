"""Processes that have memory to look into, one after the other, and why others have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .needs import unmet
from .objects import Object
from .process import Found, chosen, number_of
from .records import Absent, Problem, attempt
from .user import NO_PHYSICAL, NO_USER_PAGES, NO_USER_PART, UserMemories, UserMemory

NEEDED = ("proc.p_vmspace", "vmspace.vm_map", "vm_map_entry.start", "vm_map_entry.object")
"""Members without which there is no way to the memory of a process."""


@dataclass(frozen=True)
class UserProcess:
    """A process whose memory can be looked into."""

    proc: Object
    pid: int | Absent
    command: str | Absent
    memory: UserMemory


def user_processes(
    memories: UserMemories, pids: Iterable[int] = (), jails: Iterable[str] = ()
) -> Iterator[UserProcess | Problem]:
    """The processes that `chosen` gives, with their memory.

    That a dump has no user pages at all is told once. Kernel processes and zombies are mentioned if they were asked
    for by pid. Of processes that share an address space, all but the first are mentioned only.
    """
    wanted = tuple(pids)
    lacking = unmet(memories.kernel, "user memory", NEEDED)
    if lacking:
        yield lacking
        return
    told = False
    owners: dict[int, str] = {}
    for found in chosen(memories.kernel, wanted, jails):
        if not isinstance(found, Found):
            yield found
            continue
        why = memories.why_none(found.proc)
        if why in (NO_USER_PAGES, NO_PHYSICAL):
            if not told:
                yield Problem("user memory", why.removeprefix("is "))
            told = True
        elif not why:
            yield from _with_memory(memories, found.proc, owners)
        elif wanted or why != NO_USER_PART:
            yield Problem(f"memory of process {number_of(found.proc)}", why, found.proc.address_)


def _with_memory(memories: UserMemories, proc: Object, owners: dict[int, str]) -> Iterator[UserProcess | Problem]:
    where = f"memory of process {number_of(proc)}"
    owner = owners.setdefault(int(proc.p_vmspace), number_of(proc))
    if owner != number_of(proc):
        yield Problem(where, f"is that of process {owner}, too, and shown there", proc.address_)
        return
    memory = memories.of(proc)
    if memory is None:
        yield Problem(where, memories.why_none(proc), proc.address_)
        return
    pid, command = attempt(lambda: int(proc.p_pid)), attempt(lambda: str(proc.p_comm))
    yield UserProcess(proc, pid, command, memory)
    # Afterwards: who walks the memory may have been told why it found nothing.
    yield from (Problem(where, note, proc.address_) for note in memory.notes)
