"""Threads of the scenario: states, queues, stacks and registers, found again by a walker that knows no builder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenario.model import Thread
from tests.scenario.system import SYSTEM

from .process_reader import ProcessReader, processes_of
from .test_processes import everyone

THREADS = {thread.tid: (process, thread) for process in SYSTEM.processes for thread in process.threads}
STATES = {
    "running": (4, 0),
    "runq": (3, 0),
    "can_run": (2, 0),
    "sleep": (1, 2),
    "lock": (1, 8),
    "iwait": (1, 16),
    "suspended": (1, 1),
    "inactive": (0, 0),
}
REGISTERS = {
    "amd64": ("pcb_rip", "pcb_rbp"),
    "i386": ("pcb_eip", "pcb_ebp"),
    "riscv": ("pcb_ra", "pcb_s"),
    "arm": ("pcb_regs.sf_pc", "pcb_regs.sf_r11"),
    "powerpc64": ("pcb_lr", "pcb_sp"),
}
"""Members of `struct pcb`: program counter and frame pointer; of an array, the first element."""
SYSTEM_CALL = {
    "amd64": ("amd64_syscall", "Xfast_syscall", "tf_rip", ("tf_rax", 0)),
    "i386": ("syscall", "Xint0x80_syscall", "tf_eip", ("tf_eax", 0)),
    "arm64": ("do_el0_sync", "handle_el0_sync", "tf_elr", ("tf_x", 8)),
    "riscv": ("do_trap_user", "cpu_exception_handler", "tf_sepc", ("tf_t", 0)),
    "arm": ("swi_handler", "swi_entry", "tf_pc", ("tf_r7", 0)),
    "powerpc64": ("trap", "fork_trampoline", "srr0", ("fixreg", 0)),
}
"""The outermost function of a system call, who calls it; of the trap frame, the pc and where the number is."""


@pytest.fixture(scope="module")
def reader(kernel: str) -> ProcessReader:
    return processes_of(kernel)


def tid_of(reader: ProcessReader, td: int) -> int:
    return reader.get(td, "thread", "td_tid") if td else -1


def threads(reader: ProcessReader) -> dict[int, int]:
    """Every thread by tid, from the lists of all processes."""
    found = {}
    for proc in everyone(reader).values():
        for td in reader.linked(reader.at(proc, "proc", "p_threads"), "thread", "td_plist", tail=True):
            assert reader.get(td, "thread", "td_proc") == proc
            found[tid_of(reader, td)] = td
    return found


def test_every_thread_is_in_its_process(reader: ProcessReader) -> None:
    found = threads(reader)
    assert set(found) == set(THREADS)
    for tid, td in found.items():
        process, thread = THREADS[tid]
        assert reader.get(reader.get(td, "thread", "td_proc"), "proc", "p_pid") == process.pid
        assert reader.characters(td, "thread", "td_name") == thread.name
        assert reader.get(td, "thread", "td_priority") == thread.priority
        assert reader.get(td, "thread", "td_lastcpu") == thread.cpu
        assert reader.get(td, "thread", "td_oncpu") == (thread.cpu if thread.state == "running" else -1)
        state = reader.get(td, "thread", "td_state"), reader.get(td, "thread", "td_inhibitors")
        assert state == STATES[thread.state]
        assert bool(reader.get(td, "thread", "td_flags") & 8) == (thread.state == "sleep" and thread.interruptible)
        assert reader.get(td, "thread", "td_ucred") == reader.get(
            reader.get(td, "thread", "td_proc"), "proc", "p_ucred"
        )
        if thread.syscall is not None:
            assert reader.get(td, "thread", "td_sa.code") == thread.syscall


def test_what_threads_wait_for(reader: ProcessReader) -> None:
    procs = everyone(reader)
    for tid, td in threads(reader).items():
        process, thread = THREADS[tid]
        message, channel = reader.get(td, "thread", "td_wmesg"), reader.get(td, "thread", "td_wchan")
        lock = reader.get(td, "thread", "td_lockname")
        assert (reader.string(message) if message else None) == (thread.wmesg if thread.state == "sleep" else None)
        assert (reader.string(lock) if lock else None) == (thread.wmesg if thread.state == "lock" else None)
        assert bool(channel) == (thread.state == "sleep")
        if thread.wmesg == "wait":
            assert channel == procs[process.pid]


def test_thread_hash(reader: ProcessReader) -> None:
    found = list(reader.chains("tidhashtbl", "tidhash", "thread", "td_hash"))
    mask = reader.variable("tidhash")
    assert all(tid_of(reader, td) & mask == chain for chain, td in found)
    alive = [tid for tid, (_, thread) in THREADS.items() if thread.state != "inactive"]
    assert sorted(tid_of(reader, td) for _, td in found) == sorted(alive)


def test_sleep_queues_hold_all_sleepers(reader: ProcessReader) -> None:
    size = reader.types.sizeof("struct sleepqueue_chain")
    seen: list[int] = []
    for index in range(256):
        head = reader.symbols["sleepq_chains"] + index * size
        for queue in reader.linked(head, "sleepqueue", "sq_hash"):
            channel = reader.get(queue, "sleepqueue", "sq_wchan")
            assert (channel >> 8 ^ channel) & 255 == index
            sleepers = reader.linked(reader.at(queue, "sleepqueue", "sq_blocked"), "thread", "td_slpq", tail=True)
            assert reader.unsigned(reader.at(queue, "sleepqueue", "sq_blockedcnt"), 4) == len(sleepers)
            spare = reader.linked(reader.at(queue, "sleepqueue", "sq_free"), "sleepqueue", "sq_hash")
            assert len(spare) == len(sleepers) - 1
            for td in sleepers:
                assert reader.get(td, "thread", "td_wchan") == channel
                assert reader.get(td, "thread", "td_sleepqueue") == 0
            seen += [tid_of(reader, td) for td in sleepers]
    assert sorted(seen) == sorted(tid for tid, (_, thread) in THREADS.items() if thread.state == "sleep")


def test_a_turnstile_leads_to_the_lock_and_its_owner(reader: ProcessReader) -> None:
    found = threads(reader)
    size = reader.types.sizeof("struct turnstile_chain")
    blocked: list[int] = []
    for index in range(128):
        for turnstile in reader.linked(reader.symbols["turnstile_chains"] + index * size, "turnstile", "ts_hash"):
            lock = reader.get(turnstile, "turnstile", "ts_lockobj")
            assert (lock >> 8 ^ lock) & 127 == index
            owner = reader.get(turnstile, "turnstile", "ts_owner")
            assert reader.linked(reader.at(owner, "thread", "td_contested"), "turnstile", "ts_link") == [turnstile]
            assert reader.get(lock, "mtx", "mtx_lock") == owner | 2
            name = reader.string(reader.get(lock, "lock_object", "lo_name"))
            for td in reader.linked(reader.at(turnstile, "turnstile", "ts_blocked"), "thread", "td_lockq", tail=True):
                _, thread = THREADS[tid_of(reader, td)]
                assert thread.wmesg == name
                assert found[thread.owner] == owner
                assert reader.get(td, "thread", "td_blocked") == turnstile
                blocked.append(thread.tid)
    assert blocked == [tid for tid, (_, thread) in THREADS.items() if thread.state == "lock"]


# --- run queues -----------------------------------------------------------------------------------------------------


def tdqs(reader: ProcessReader) -> Iterator[tuple[int, int]]:
    for cpu in SYSTEM.cpus:
        if "pcpu_entry_tdq" in reader.symbols:
            offset = reader.pointer(reader.symbols["dpcpu_off"] + cpu.cpuid * reader.word)
            yield cpu.cpuid, (reader.symbols["pcpu_entry_tdq"] + offset) % (1 << 8 * reader.word)
        else:
            yield cpu.cpuid, reader.symbols["tdq_cpu"] + cpu.cpuid * reader.types.sizeof("struct tdq")


def test_run_queues(reader: ProcessReader) -> None:
    queued: list[int] = []
    for cpu, tdq in tdqs(reader):
        members = [
            name for name in ("tdq_runq", "tdq_realtime", "tdq_timeshare", "tdq_idle") if reader.has("tdq", name)
        ]
        for name in members:
            queued += run_queue(reader, reader.at(tdq, "tdq", name), cpu)
        assert reader.characters(tdq, "tdq", "tdq_name") == f"sched lock {cpu}"
        busy = [
            thread.tid
            for _, thread in THREADS.values()
            if thread.cpu == cpu and thread.state in ("running", "runq") and not thread.name.startswith("idle")
        ]
        assert reader.get(tdq, "tdq", "tdq_load") == len(busy)
    assert queued == [tid for tid, (_, thread) in THREADS.items() if thread.state == "runq"]


def run_queue(reader: ProcessReader, runq: int, cpu: int) -> list[int]:
    found: list[int] = []
    heads = reader.at(runq, "runq", "rq_queues")
    count = reader.types.member("runq", "rq_queues").type["count"]
    used = 0
    for index in range(count):
        tds = reader.linked(heads + index * 2 * reader.word, "thread", "td_runq", tail=True)
        used |= bool(tds) << index
        for td in tds:
            assert reader.get(td, "thread", "td_rqindex") == index
            assert reader.get(td, "thread", "td_lastcpu") == cpu
            found.append(tid_of(reader, td))
    # The words of status bits are longs, the lowest first; i386's are ints of the same size.
    words = [reader.unsigned(runq + at, reader.word) for at in range(0, count // 8, reader.word)]
    assert sum(word << 8 * reader.word * index for index, word in enumerate(words)) == used
    return found


# --- stacks and registers -------------------------------------------------------------------------------------------


def registers(reader: ProcessReader, pcb: int) -> tuple[int, int]:
    """Program counter and frame pointer (powerpc64: stack pointer) in a `struct pcb`."""
    if reader.arch == "arm64":  # the last two of the saved registers
        count = reader.types.member("pcb", "pcb_x").type["count"]
        last = reader.at(pcb, "pcb", "pcb_x") + (count - 1) * 8
        return reader.pointer(last), reader.pointer(last - 8)
    pc, fp = REGISTERS[reader.arch]
    return reader.pointer(reader.at(pcb, "pcb", pc)), reader.pointer(reader.at(pcb, "pcb", fp))


def saved_registers(reader: ProcessReader, td: int, thread: Thread) -> tuple[int, int]:
    if thread.state != "running":
        return registers(reader, reader.get(td, "thread", "td_pcb"))
    if thread.tid == reader.variable("dumptid"):
        return registers(reader, reader.symbols["dumppcb"])
    start = reader.symbols["stoppcbs"]
    if reader.variables["stoppcbs"]["kind"] == "pointer":
        start = reader.pointer(start)
    return registers(reader, start + thread.cpu * reader.types.sizeof("struct pcb"))


def stack_of(reader: ProcessReader, td: int) -> range:
    low = reader.address(td, "thread", "td_kstack")
    assert low % 4096 == 0
    return range(low, low + reader.get(td, "thread", "td_kstack_pages") * 4096)


def backtrace(reader: ProcessReader, td: int, thread: Thread) -> list[str]:
    """Function names from a chain of frames that stays in the thread's stack and only goes up."""
    stack = stack_of(reader, td)
    pc, fp = saved_registers(reader, td, thread)
    found = [reader.function_at(pc)] if pc else []
    while fp in stack:
        record = fp - 2 * reader.word if reader.arch == "riscv" else fp
        above = reader.pointer(record)
        if reader.arch == "powerpc64":  # the return address is in the caller's frame
            if above not in stack:
                break
            pc = reader.pointer(above + 2 * reader.word)
        else:
            pc = reader.pointer(record + reader.word)
        found.append(reader.function_at(pc))
        assert above not in stack or above > fp
        fp = above
    return found


def test_backtraces(reader: ProcessReader) -> None:
    for tid, td in threads(reader).items():
        process, thread = THREADS[tid]
        names = backtrace(reader, td, thread)
        if thread.state == "inactive":
            assert names == []
            continue
        call, caller, *_ = SYSTEM_CALL[reader.arch]
        expected = [call if name == "amd64_syscall" else name for name in thread.frames]
        if expected:
            expected.append("fork_trampoline" if process.is_kernel else caller)
            assert len(names) == len(expected)
        assert len(names) >= 4
        # Functions that this kernel does not have are some other's code there.
        for described, found in zip(expected, names, strict=False):
            assert found == described or described not in reader.symbols


def test_user_threads_have_a_trap_frame_on_their_stack(reader: ProcessReader) -> None:
    for tid, td in threads(reader).items():
        frame = reader.get(td, "thread", "td_frame")
        assert frame in stack_of(reader, td)
        process, thread = THREADS[tid]
        _, _, pc, (register, index) = SYSTEM_CALL[reader.arch]
        assert bool(reader.get(frame, "trapframe", pc)) != process.is_kernel
        number = reader.pointer(reader.at(frame, "trapframe", register) + index * reader.word)
        if thread.syscall is not None:
            assert number == thread.syscall


def test_registers_of_running_threads_are_not_in_their_pcb(reader: ProcessReader) -> None:
    found = threads(reader)
    for tid, (_, thread) in THREADS.items():
        if thread.state == "running":
            pcb = reader.get(found[tid], "thread", "td_pcb")
            assert registers(reader, pcb)[1] != saved_registers(reader, found[tid], thread)[1]


def test_cpus_know_their_threads(reader: ProcessReader) -> None:
    found = threads(reader)
    for cpu in SYSTEM.cpus:
        pcpu = reader.pointer(reader.symbols["cpuid_to_pcpu"] + cpu.cpuid * reader.word)
        assert reader.get(pcpu, "pcpu", "pc_curthread") == found[cpu.running]
        assert reader.get(pcpu, "pcpu", "pc_idlethread") == found[cpu.idle]
        assert reader.get(pcpu, "pcpu", "pc_curpcb") == reader.get(found[cpu.running], "thread", "td_pcb")
    assert reader.variable("dumptid") == SYSTEM.dump_tid
