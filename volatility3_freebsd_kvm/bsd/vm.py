"""Address maps of processes.

# Reference: sys/vm/vm_map.h, sys/kern/kern_proc.c (kern_proc_vmmap_out), usr.bin/procstat/procstat_vm.c
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..exceptions import AddressError, KVMError
from .kernel import Kernel
from .needs import unmet
from .objects import Object
from .path import Paths
from .process import Found, chosen
from .records import Absent, Problem, attempt
from .vm_map import Map
from .vm_object import Chain, VmObjects

SUB_MAP, COW, NEEDS_COPY, GROWS_DOWN, GUARD = 0x2, 0x4, 0x8, 0x1000, 0x10000
FLAGS = {
    COW: "copy-on-write",
    NEEDS_COPY: "needs-copy",
    GROWS_DOWN: "grows down",
    0x2000: "grows up",
    GUARD: "guard",
    0x20000: "stack gap",
    0x40000: "stack gap",
    0x20: "user-wired",
    0x1: "nosync",
    0x400: "no core dump",
    SUB_MAP: "submap",
}
"""MAP_ENTRY_ bits of ``eflags``: those with one meaning in all releases that have them."""
_TEXT = 0x800
"""MAP_ENTRY_VN_EXEC since 13.0; until 12 the bit of writable mappings of files."""
_READ, _WRITE, _EXECUTE = 1, 2, 4
NONE = "none"
ANONYMOUS = (NONE, "default", "swap")
"""Kinds of memory that is no file's and no device's."""


@dataclass(frozen=True)
class MapEntry:
    """A `struct vm_map_entry` of a process.

    Attributes:
        pid, command: the process.
        process: address of its ``struct proc``.
        address: of the structure.
        start, end: the range of addresses, the end behind it.
        protection: ``r-x``.
        max_protection: what mprotect(2) may make of it.
        flags: in words.
        kind: what is at the bottom of it: ``swap``, ``vnode``, …; ``none``, ``guard``.
        depth: how many objects there are below the first one.
        resident: pages in memory, in the object or in what it shadows.
        private: pages of the object if it shadows nothing, as procstat -v counts them (PRES).
        references: to the object.
        shadows: objects that shadow the object.
        offset: in the file or whatever is at the bottom, in bytes.
        path: of that file, device or shared memory.
        object: address of the VM object.
        notes: what is odd.
    """

    pid: int | Absent
    command: str | Absent
    address: int | Absent = Absent.NOT_APPLICABLE
    start: int | Absent = Absent.NOT_APPLICABLE
    end: int | Absent = Absent.NOT_APPLICABLE
    protection: str | Absent = Absent.NOT_APPLICABLE
    max_protection: str | Absent = Absent.NOT_APPLICABLE
    flags: tuple[str, ...] | Absent = Absent.NOT_APPLICABLE
    kind: str | Absent = Absent.NOT_APPLICABLE
    depth: int | Absent = Absent.NOT_APPLICABLE
    resident: int | Absent = Absent.NOT_APPLICABLE
    private: int | Absent = Absent.NOT_APPLICABLE
    references: int | Absent = Absent.NOT_APPLICABLE
    shadows: int | Absent = Absent.NOT_APPLICABLE
    offset: int | Absent = Absent.NOT_APPLICABLE
    path: str | Absent = Absent.NOT_APPLICABLE
    object: int | Absent = Absent.NOT_APPLICABLE
    notes: tuple[str, ...] = ()
    process: int | Absent = field(default=Absent.NOT_APPLICABLE, compare=False)


def protection_text(bits: int) -> str:
    """VM_PROT_ bits as ``rwx``."""
    letters = ((_READ, "r"), (_WRITE, "w"), (_EXECUTE, "x"))
    return "".join(letter if bits & bit else "-" for bit, letter in letters)


def process_maps(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[MapEntry | Problem]:
    """The entries of the address maps of processes, by rising addresses. Kernel processes have none.

    Args:
        kernel: the kernel.
        pids: only of these; of all if there are none.
        jails: only of those in a jail of that id or name.
    """
    needed = ("proc.p_list", "proc.p_vmspace", "vmspace.vm_map", "vm_map_entry.start", "vm_map_entry.object")
    lacking = unmet(kernel, "address maps", needed)
    if lacking:
        yield lacking
        return
    lister = _Lister(kernel)
    for found in chosen(kernel, pids, jails):
        if isinstance(found, Found):
            yield from lister.list(found.proc)
        else:
            yield found


def memory_sections(kernel: Kernel, proc: Object, *, heap_only: bool = False) -> Iterator[tuple[int, int]]:
    """``(address, length)`` of what a process has mapped, by rising addresses; guards are left out.

    Args:
        kernel: the kernel.
        proc: the process.
        heap_only: only anonymous memory that can be written, without stacks.

    Raises:
        SymbolError, AddressError: the kernel's types do not know the map, or it cannot be read.
    """
    objects = VmObjects(kernel, Paths(kernel))
    for entry in Map(kernel, proc.p_vmspace.as_("vmspace").vm_map) if proc.p_vmspace else ():
        start, end, bits = int(entry.start), int(entry.end), int(entry.eflags)
        if bits & (GUARD | SUB_MAP) or end <= start:
            continue
        if heap_only:
            anonymous = _kind(objects.chain(int(entry.object.vm_object))) in ANONYMOUS
            if not anonymous or bits & GROWS_DOWN or not int(entry.protection) & _WRITE:
                continue
        yield start, end - start


# Telling of entries


class _Lister:
    """Lists process by process and remembers the address spaces that were shown."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.objects = VmObjects(kernel, Paths(kernel))
        self.threaded = not kernel.has_member("vm_map_entry", "next")
        self.shown: dict[int, int | Absent] = {}

    def list(self, proc: Object) -> Iterator[MapEntry | Problem]:
        pid, command = attempt(lambda: int(proc.p_pid)), attempt(lambda: str(proc.p_comm))
        where = f"address map of process {pid if isinstance(pid, int) else f'at {proc.address_:#x}'}"
        try:
            pointer = proc.p_vmspace
            if not pointer:
                return
            walk = Map(self.kernel, pointer.as_("vmspace").vm_map)
            if walk.address in self.shown:
                if int(pointer.as_("vmspace").vm_map.nentries):
                    note = f"shares the address space of process {self.shown[walk.address]}"
                    yield MapEntry(pid, command, notes=(note,))
                return
            self.shown[walk.address] = pid
            for entry in walk:
                try:
                    yield replace(self._describe(pid, command, entry), process=proc.address_)
                except AddressError as error:
                    walk.problems.append(f"the entry {entry.address_:#x} cannot be read: {error}")
        except KVMError as error:
            yield Problem(where, str(error), proc.address_)
            return
        yield from (Problem(where, problem, walk.address) for problem in walk.problems)

    def _describe(self, pid: int | Absent, command: str | Absent, entry: Object) -> MapEntry:
        start, end = int(entry.start), int(entry.end)
        bits, protection = int(entry.eflags), int(entry.protection)
        guard, submap = bool(bits & GUARD), bool(bits & SUB_MAP)
        address = 0 if submap else int(entry.object.vm_object)
        chain = self.objects.chain(address)
        offset = int(entry.offset)
        resident = self.objects.resident(chain, offset, max(end - start, 0)) if chain.objects else 0
        notes = [*chain.notes, *self.objects.notes(chain), *_range_notes(start, end, protection)]
        path, path_notes = self.objects.path(chain.objects[-1]) if chain.objects else ("", ())
        first = chain.objects[0] if chain.objects else None
        return MapEntry(
            pid=pid,
            command=command,
            address=entry.address_,
            start=start,
            end=end,
            protection=protection_text(protection),
            max_protection=protection_text(int(entry.max_protection)),
            flags=self._flags(bits, int(entry.wired_count)),
            kind="guard" if guard else "submap" if submap else _kind(chain),
            depth=max(len(chain.objects) - 1, 0),
            resident=resident,
            private=first.resident if first and not first.backing else 0,
            references=first.references if first else 0,
            shadows=first.shadows if first else 0,
            # That of a stack gap keeps its protection there.
            offset=Absent.NOT_APPLICABLE if guard else offset + sum(item.backing_offset for item in chain.objects),
            path=path or Absent.NOT_APPLICABLE,
            object=address or Absent.NOT_APPLICABLE,
            notes=(*notes, *path_notes),
        )

    def _flags(self, bits: int, wired: int) -> tuple[str, ...]:
        found = [name for bit, name in FLAGS.items() if bits & bit]
        if bits & _TEXT:
            found.append("text" if self.threaded else "write-counted")
        if wired and "user-wired" not in found:
            found.append("wired")
        return tuple(dict.fromkeys(found))


def _kind(chain: Chain) -> str:
    return chain.objects[-1].kind if chain.objects else NONE


def _range_notes(start: int, end: int, protection: int) -> Iterator[str]:
    if end <= start:
        yield "its end is not behind its start"
    if protection & _WRITE and protection & _EXECUTE:
        yield "writable and executable"
