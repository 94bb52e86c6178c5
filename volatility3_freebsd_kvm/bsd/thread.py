"""Threads: every ``struct thread`` of a process, what it does and what it waits for.

# Reference: sys/sys/proc.h (struct thread), sys/kern/kern_thread.c, subr_sleepqueue.c, subr_turnstile.c
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..exceptions import SymbolError
from ..image.chain import LIMIT
from .fields import Fields
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .process import Found, chosen, is_readable, number_of
from .records import Absent, Problem, attempt

STATES = {0: "inactive", 1: "inhibited", 2: "can_run", 3: "runq", 4: "running"}
"""``td_state``: TDS_*."""
TDS_INHIBITED = 1
TDI_LOCK = 0x8
INHIBITORS = {0x1: "suspended", 0x2: "sleep", 0x4: "swapped", 0x8: "lock", 0x10: "iwait"}
"""``td_inhibitors``: TDI_*; threads are not swapped out any more since 15.0."""
MAX_CPUS = 4096
_MAX_NAME = 128


@dataclass(frozen=True)
class Thread:
    """A thread.

    Attributes:
        offset: address of its ``struct thread``.
        pid: of its process.
        command: name of its process.
        state: ``running``, ``runq``, ``can_run``, ``inactive``, or all of what keeps it from running: ``sleep``,
            ``lock``, ``iwait``, ``suspended``, ``swapped``.
        cpu: the CPU it is running on; NOT_APPLICABLE if it is not.
        last_cpu: the CPU it ran on last.
        priority: 0 to 255, the lower the sooner.
        wait_channel: the address it sleeps on.
        wait_symbol: the symbol there, if there is one.
        wait_message: what it says that it waits for.
        lock: name of the lock that it is blocked on.
        pcb: address of its ``struct pcb``.
        stack: lowest address of its kernel stack.
        notes: what is remarkable.
    """

    offset: int
    pid: int | Absent
    tid: int | Absent
    command: str | Absent
    name: str | Absent
    state: str | Absent
    cpu: int | Absent
    last_cpu: int | Absent
    priority: int | Absent
    wait_channel: int | Absent
    wait_symbol: str | Absent
    wait_message: str | Absent
    lock: str | Absent
    pcb: int | Absent
    stack: int | Absent
    notes: tuple[str, ...] = ()


class ThreadLists:
    """The threads of processes, a limited number for all together: hostile lists may all lead into each other."""

    def __init__(self, kernel: Kernel, limit: int = LIMIT) -> None:
        """``limit`` is for all processes together."""
        self._kernel = kernel
        self._left = limit

    def of(self, proc: Object) -> Iterator[Object | Problem]:
        """The threads of a process, the oldest first, and where the list is irregular."""
        where = f"threads of process {number_of(proc)}"
        try:
            queue = Queue(self._kernel.structs, proc.at_("p_threads"), "thread", "td_plist", limit=self._left)
        except SymbolError as error:
            yield Problem(where, str(error), proc.address_)
            return
        count = 0
        for thread in queue:
            if is_readable(thread, "td_plist"):
                self._left -= 1
                count += 1
                yield thread
        yield from (Problem(where, problem, proc.address_) for problem in queue.problems)
        expected = attempt(lambda: int(proc.p_numthreads))
        if not queue.problems and isinstance(expected, int) and expected != count:
            yield Problem(where, f"p_numthreads is {expected}, p_threads has {count}", proc.address_)


def threads(kernel: Kernel, proc: Object) -> Iterator[Object | Problem]:
    """The threads of a process as ``struct thread``, and where the list is irregular."""
    return ThreadLists(kernel).of(proc)


def thread_records(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Thread | Problem]:
    """The threads of every process, or of those that `chosen` gives."""
    reader, lists = ThreadReader(kernel), ThreadLists(kernel)
    for found in chosen(kernel, pids, jails):
        if isinstance(found, Found):
            for thread in lists.of(found.proc):
                yield reader.record(found.proc, thread) if isinstance(thread, Object) else thread
        else:
            yield found


class ThreadReader:
    """Makes records of threads."""

    def __init__(self, kernel: Kernel) -> None:
        """Read what all of them need."""
        self._kernel = kernel
        self._dumper = attempt(lambda: kernel.integer("dumptid"))

    def record(self, proc: Object, thread: Object) -> Thread:
        """What there is to tell of a thread that is in a process's list."""
        fields = Fields()
        record = Thread(
            offset=thread.address_,
            pid=fields.take("p_pid", lambda: int(proc.p_pid)),
            tid=fields.take("td_tid", lambda: int(thread.td_tid)),
            command=fields.take("p_comm", lambda: str(proc.p_comm)),
            name=fields.take("td_name", lambda: str(thread.td_name)),
            state=fields.take("td_state", lambda: thread_state(thread)),
            cpu=fields.take("td_oncpu", lambda: cpu_number(thread, "td_oncpu")),
            last_cpu=fields.take("td_lastcpu", lambda: cpu_number(thread, "td_lastcpu")),
            priority=fields.take("td_priority", lambda: int(thread.td_priority)),
            wait_channel=fields.take("td_wchan", lambda: int(thread.td_wchan) or Absent.NOT_APPLICABLE),
            wait_symbol=fields.take("td_wchan", lambda: self._symbol(int(thread.td_wchan))),
            wait_message=fields.take("td_wmesg", lambda: _text(thread, "td_wmesg")),
            lock=fields.take("td_lockname", lambda: _lock_name(thread)),
            pcb=fields.take("td_pcb", lambda: int(thread.td_pcb)),
            stack=fields.take("td_kstack", lambda: self._address(int(thread.td_kstack))),
        )
        self._remark(proc, thread, record, fields)
        return replace(record, notes=fields.notes)

    def _symbol(self, channel: int) -> str | Absent:
        """What is at a wait channel; a symbol of unknown size stands for its first byte only."""
        found = self._kernel.symbol_at(channel) if channel else None
        return Absent.NOT_APPLICABLE if found is None or (found.offset and not found.symbol.size) else str(found)

    def _address(self, value: int) -> int:
        """A ``vm_offset_t``, which some type tables take for a signed number."""
        return value % (1 << 8 * self._kernel.structs.word_size)

    def _remark(self, proc: Object, thread: Object, record: Thread, fields: Fields) -> None:
        if record.tid == self._dumper:
            fields.note("it dumped the kernel (dumptid)")
        owner = fields.take("td_proc", lambda: int(thread.td_proc))
        if isinstance(owner, int) and owner != proc.address_:
            fields.note(f"td_proc leads to {owner:#x}, not to its process")
        if isinstance(record.lock, str):
            # struct turnstile is private to its file, so many type tables do not have it.
            holder = fields.take("td_blocked", lambda: _holder(thread))
            if isinstance(holder, str) and holder:
                fields.note(holder)


def thread_state(thread: Object) -> str:
    """The state by its name in sys/proc.h; raises as `Object` members do."""
    state = thread.td_state
    if state != TDS_INHIBITED:
        return STATES.get(state, f"unknown state {state}")
    inhibitors = thread.td_inhibitors
    return "+".join(name for bit, name in INHIBITORS.items() if inhibitors & bit) or STATES[TDS_INHIBITED]


def cpu_number(thread: Object, member: str) -> int | Absent:
    """A CPU; NOT_APPLICABLE for NOCPU, which is -1 and was 255 until 10. Raises as `Object` members do."""
    value = int(getattr(thread, member))
    is_byte = thread.structs_.size_of(thread.structs_.member(thread.type_, member)[1]) == 1
    return Absent.NOT_APPLICABLE if not 0 <= value < (0xFF if is_byte else MAX_CPUS) else value


def _text(thread: Object, member: str) -> str | Absent:
    pointer = getattr(thread, member)
    return pointer.text_(_MAX_NAME) if pointer else Absent.NOT_APPLICABLE


def _lock_name(thread: Object) -> str | Absent:
    return _text(thread, "td_lockname") if thread.td_inhibitors & TDI_LOCK else Absent.NOT_APPLICABLE


def _holder(thread: Object) -> str:
    """Who holds the lock that a thread is blocked on; readers have no names."""
    owner = thread.td_blocked.ts_owner
    return f"the lock is held by thread {owner.td_tid} ({owner.td_name})" if owner else ""
