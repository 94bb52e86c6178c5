"""What the description says that address maps have to show, entry by entry."""

from __future__ import annotations

from functools import lru_cache

from tests.bsd.process_truth import IN_ORDER
from tests.scenario.kernels import build_world
from tests.scenario.model import Process, VmEntry
from tests.scenario.model import VmObject as Truth
from tests.scenario.system import SYSTEM
from tests.scenario.user_memory import address as folded
from tests.scenario.user_memory import has_memory, stack_object
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.bsd.vm import MapEntry

PAGE = 4096
OBJECTS = {item.key: item for item in SYSTEM.objects}
PROCESSES = {process.pid: process for process in SYSTEM.processes}
VNODES = {vnode.key: vnode for vnode in SYSTEM.vnodes}
USERS = [PROCESSES[pid] for pid in IN_ORDER if has_memory(PROCESSES[pid])]


@lru_cache(maxsize=256)
def pages(kernel: str, key: str) -> frozenset[int]:
    """The resident pages of an object: those of the description; of stacks, those that the writer counted."""
    item = OBJECTS[key]
    found = {page.index for page in item.pages}
    if any(key == stack_object(process) for process in USERS):
        count = int(build_world(kernel).get("vm_object", key).resident_page_count)
        # They are at the top, one behind the other.
        found |= set(range(item.size // PAGE - count, item.size // PAGE))
    return frozenset(found)


def chain(key: str) -> list[Truth]:
    found = []
    while key:
        found.append(OBJECTS[key])
        key = OBJECTS[key].backing
    return found


def resident(kernel: str, item: VmEntry) -> int:
    first, count = item.offset // PAGE, (item.end - item.start) // PAGE
    found: set[int] = set()
    for one in chain(item.object):
        found |= {page - first for page in pages(kernel, one.key) if first <= page < first + count}
        first += one.backing_offset // PAGE
    return len(found)


def kind(kernel: str, item: VmEntry) -> str:
    if item.guard:
        return "guard"
    bottom = chain(item.object)[-1]
    if bottom.kind == "anonymous":
        # Until 13 memory that was never swapped is of no pager.
        old = walkable(kernel).structs.size_of(walkable(kernel).structs.member("vm_object", "flags")[1]) == 2
        return "default" if old and not bottom.swapped else "swap"
    return bottom.kind


def flags(kernel: str, process: Process, item: VmEntry) -> tuple[str, ...]:
    threaded = not walkable(kernel).has_member("vm_map_entry", "next")
    is_text = threaded and "x" in item.prot and any(one.vnode == process.text for one in chain(item.object)[:1])
    words = (
        (item.copy_on_write, "copy-on-write"),
        (item.needs_copy, "needs-copy"),
        (item.grows_down, "grows down"),
        (item.guard, "guard"),
        (item.guard, "stack gap"),
        (is_text, "text"),
    )
    return tuple(word for there, word in words if there)


def uses(key: str) -> int:
    mapped = [entry.object for process in SYSTEM.processes for entry in process.vm_entries]
    return [*mapped, *(one.backing for one in SYSTEM.objects), *(one.object for one in SYSTEM.shared_memory)].count(key)


def shadows(kernel: str, key: str) -> int:
    """Since 13.0 only anonymous objects know what shadows them."""
    old = walkable(kernel).structs.size_of(walkable(kernel).structs.member("vm_object", "flags")[1]) == 2
    if not old and OBJECTS[key].kind != "anonymous":
        return 0
    return sum(one.backing == key for one in SYSTEM.objects)


def path(item: VmEntry) -> str | Absent:
    bottom = chain(item.object)[-1] if item.object else None
    return VNODES[bottom.vnode].path if bottom and bottom.vnode else Absent.NOT_APPLICABLE


def expected(kernel: str, process: Process) -> list[MapEntry]:
    bits = build_world(kernel).memory.machine.word_bits
    found = []
    for item in sorted(process.vm_entries, key=lambda entry: entry.start):
        objects = chain(item.object)
        found.append(
            MapEntry(
                pid=process.pid,
                command=process.comm,
                start=folded(item.start, bits),
                end=folded(item.end, bits),
                protection=item.prot,
                max_protection=item.max_prot,
                flags=flags(kernel, process, item),
                kind=kind(kernel, item),
                depth=max(len(objects) - 1, 0),
                resident=resident(kernel, item),
                private=len(pages(kernel, item.object)) if len(objects) == 1 else 0,
                references=uses(item.object) if item.object else 0,
                shadows=shadows(kernel, item.object) if item.object else 0,
                offset=Absent.NOT_APPLICABLE
                if item.guard
                else item.offset + sum(one.backing_offset for one in objects),
                path=path(item),
                object=int(build_world(kernel).get("vm_object", item.object)) if item.object else Absent.NOT_APPLICABLE,
                notes=("writable and executable",) if "w" in item.prot and "x" in item.prot else (),
            )
        )
    return found
