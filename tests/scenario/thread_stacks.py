"""Kernel stacks: saved registers, chains of frames, and the trap frames of threads that came from user mode.

Where things are on a stack follows each architecture's vm_machdep.c (`cpu_thread_alloc`, `cpu_fork`), what is saved
its machine/pcb.h and machine/frame.h.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.writers.objects import Object, addressof

from . import user_memory
from .model import Process, Thread
from .shapes import set_members
from .world import World

XSAVE_AREA = 832
"""`cpu_max_ext_state_size` of a CPU with AVX, on top of the stacks of x86."""
VM86_SPACE = 16
INTO_FUNCTION = 4
"""How far behind a function's start the addresses on the stacks are."""
ROOM = 96
"""Bytes of stack that a function uses."""
USER_TEXT = 0x0000_0008_0020_1234

DEFAULT_FRAMES = {
    "sleep": ("sched_switch", "mi_switch", "sleepq_switch", "sleepq_catch_signals", "sleepq_wait_sig", "_sleep"),
    "lock": ("sched_switch", "mi_switch", "turnstile_wait", "__mtx_lock_sleep"),
    "iwait": ("sched_switch", "mi_switch", "ithread_loop"),
    "suspended": ("sched_switch", "mi_switch", "thread_suspend_switch", "thread_suspend_check"),
    "runq": ("sched_switch", "mi_switch", "ast"),
    "can_run": ("sched_switch", "mi_switch", "sched_idletd"),
    "running": ("cpustop_handler", "cpu_idle", "sched_idletd"),
    "inactive": (),
}
"""Functions on the stack of a thread whose description names none, without those that every stack ends with."""
DEEP_SLEEP = ("sched_switch", "mi_switch", "sleepq_switch", "sleepq_wait", "_sleep")
"""The same of a sleep that signals do not end."""
SYSTEM_CALLS = {
    "wait": 7,
    "nanslp": 240,
    "kqread": 560,
    "uwait": 454,
    "sbwait": 29,
    "pause": 341,
    "select": 93,
}
"""In which system call a thread sleeps, by its wait message, if the description does not say."""

FUNCTIONS = sorted(
    {name for frames in DEFAULT_FRAMES.values() for name in frames}
    | {"sleepq_wait", "fork_exit", "fork_trampoline", "swapper", "kern_wait6", "sys_wait4", "kern_sigsuspend"}
    | {"vpanic", "panic", "kdb_enter", "sysctl_handle_int", "userland_sysctl", "sys___sysctl"}
    | {"amd64_syscall", "Xfast_syscall", "syscall", "Xint0x80_syscall", "trap", "calltrap", "doadump"}
)


@dataclass(frozen=True)
class Shape:
    """How an architecture saves a thread; the members are those of `struct pcb` and `struct trapframe`.

    Attributes:
        pc, sp, fp: Saved registers; `pc` may be in several members.
        user_pc, user_sp, user_fp, number: Of the trap frame; `number` is the register with the system call's number.
        user: Further members of a trap frame, as user mode has them.
        system_call, entry: The C function for system calls, and the code that calls it.
        trap, trap_entry: The same for what interrupts user mode.
        above: Words from a frame's record to where the frame pointer points.
        back_chain: powerpc's stacks: the return address is in the caller's frame, and no register is a frame pointer.
    """

    pc: tuple[str, ...]
    sp: str
    fp: str
    user_pc: str
    user_sp: str
    user_fp: str
    number: str
    system_call: str
    entry: str
    trap: str
    trap_entry: str
    user: dict[str, int] = field(default_factory=dict, hash=False)
    above: int = 0
    back_chain: bool = False


SHAPES = {
    "pcb_rip": Shape(
        *(("pcb_rip",), "pcb_rsp", "pcb_rbp", "tf_rip", "tf_rsp", "tf_rbp", "tf_rax"),
        *("amd64_syscall", "Xfast_syscall", "trap", "calltrap"),
        {"tf_cs": 0x43, "tf_ss": 0x3B, "tf_rflags": 0x246, "tf_err": 2},
    ),
    "pcb_eip": Shape(
        *(("pcb_eip",), "pcb_esp", "pcb_ebp", "tf_eip", "tf_esp", "tf_ebp", "tf_eax"),
        *("syscall", "Xint0x80_syscall", "trap", "calltrap"),
        {"tf_cs": 0x33, "tf_ss": 0x3B, "tf_ds": 0x3B, "tf_es": 0x3B, "tf_eflags": 0x246, "tf_err": 2},
    ),
    "pcb_tpidr_el0": Shape(
        *(("pcb_x[-1]",), "pcb_sp", "pcb_x[-2]", "tf_elr", "tf_sp", "tf_x[29]", "tf_x[8]"),
        *("do_el0_sync", "handle_el0_sync", "do_el0_sync", "handle_el0_irq"),
        {"tf_esr": 0x56000000},
    ),
    "pcb_ra": Shape(
        *(("pcb_ra",), "pcb_sp", "pcb_s[0]", "tf_sepc", "tf_sp", "tf_s[0]", "tf_t[0]"),
        *("do_trap_user", "cpu_exception_handler", "do_trap_user", "cpu_exception_handler"),
        {"tf_sstatus": 0x20, "tf_scause": 8},
        above=2,
    ),
    "pcb_regs": Shape(
        *(("pcb_regs.sf_pc", "pcb_regs.sf_lr"), "pcb_regs.sf_sp", "pcb_regs.sf_r11"),
        *("tf_pc", "tf_usr_sp", "tf_r11", "tf_r7", "swi_handler", "swi_entry", "abort_handler", "data_abort_entry"),
        {"tf_spsr": 0x10},
    ),
    "pcb_lr": Shape(
        *(("pcb_lr",), "pcb_sp", "", "srr0", "fixreg[1]", "fixreg[31]", "fixreg[0]"),
        *("trap", "fork_trampoline", "trap", "fork_trampoline"),
        {"srr1": 0xD032, "exc": 0xC00},
        back_chain=True,
    ),
}
"""By a member of `struct pcb` that only this architecture has."""


@dataclass(frozen=True)
class Saved:
    """Where a thread would continue: the registers that `struct pcb` has."""

    pc: int = 0
    sp: int = 0
    fp: int = 0


def shape_of(world: World) -> Shape:
    """The shape of this kernel's `struct pcb`."""
    return next(shape for member, shape in SHAPES.items() if world.has("pcb", member))


def kstack_pages(world: World) -> int:
    """Pages of a kernel stack (KSTACK_PAGES), 4 unless the kernel says otherwise."""
    if world.has_symbol("kstack_pages"):
        data = world.memory.read(int(world.symbol("kstack_pages")), 4)
        return int.from_bytes(data, world.memory.machine.byteorder) or 4
    return 4


def system_call(thread: Thread) -> int | None:
    """The number of the system call that a thread of a process is in."""
    return thread.syscall if thread.syscall is not None else SYSTEM_CALLS.get(thread.wmesg)


def stack_functions(world: World, process: Process, thread: Thread) -> list[str]:
    """Names of the functions on a stack, the innermost first."""
    shape = shape_of(world)
    if thread.frames:
        return [shape.system_call if name == "amd64_syscall" else name for name in thread.frames]
    frames = DEFAULT_FRAMES[thread.state]
    if thread.state == "sleep" and not thread.interruptible:
        frames = DEEP_SLEEP
    if not frames:
        return []
    if process.is_kernel:
        return [*frames, "fork_exit"]
    return [*frames, shape.trap if system_call(thread) is None else shape.system_call]


def build_stack(world: World, process: Process, thread: Thread, td: Object) -> Saved:
    """Allocate the stack, place pcb and trap frame, and write the frames. Returns where the thread would continue."""
    page_size = world.memory.machine.page_size
    pages = kstack_pages(world)
    base = world.memory.allocate(pages * page_size, "kva", align=page_size)
    td.td_kstack, td.td_kstack_pages = base, pages
    frame = _place(world, td, base + pages * page_size)
    if not process.is_kernel:
        _fill_trapframe(world, thread, world.memory.cast("struct trapframe", frame))
    names = stack_functions(world, process, thread)
    return _write_frames(world, process, thread, names, frame) if names else Saved()


def save_registers(world: World, pcb: Object, saved: Saved) -> None:
    """Enter registers into a `struct pcb`."""
    shape = shape_of(world)
    for member in shape.pc:
        set_path(pcb, member, saved.pc)
    set_path(pcb, shape.sp, saved.sp)
    if shape.fp:
        set_path(pcb, shape.fp, saved.fp)


def stale(world: World, td: Object) -> Saved:
    """What the pcb of a running thread holds: where it last waited. Nothing on its stack is of that time."""
    return Saved(code(world, "mi_switch"), td.td_kstack + 0x400, 0)


def code(world: World, name: str) -> int:
    """An address in a function, or in the kernel's text where there is no such function."""
    address = world.function(name) or world.memory.image.symbols.get("btext", 0)
    return address + INTO_FUNCTION if address else 0


def set_path(obj: Object, path: str, value: int) -> None:
    """Set a member of a member, or an element of an array; negative indexes count from its end."""
    *parents, last = path.split(".")
    for parent in parents:
        obj = obj[parent]
    if match := re.fullmatch(r"(\w+)\[(-?\d+)\]", last):
        obj, index = obj[match[1]], int(match[2])
        obj[index % obj._type["count"]] = value
    else:
        obj[last] = value


# Where things are on a stack


def _place(world: World, td: Object, top: int) -> int:
    """Set `td_pcb` and `td_frame`; returns the trap frame's address."""
    x86 = world.has("pcb", "pcb_save")
    area = top - XSAVE_AREA if x86 else top
    if world.has("mdthread", "md_pcb"):  # amd64 since 13.0
        pcb = addressof(td, "td_md.md_pcb")
        set_members(world, td.td_md, md_stack_base=area, md_usr_fpu_save=area)
        frame = area
    else:
        pcb = frame = area - world.memory.types.sizeof("struct pcb") & -16
    td.td_pcb = pcb
    if x86:
        world.memory.cast("struct pcb", pcb).pcb_save = area
    if world.has("pcb", "pcb_eip"):
        frame -= VM86_SPACE
    td.td_frame = frame - world.memory.types.sizeof("struct trapframe") & -16
    return int(td.td_frame)


def _fill_trapframe(world: World, thread: Thread, frame: Object) -> None:
    """A thread that came from user mode, through a system call or (system call None) an interrupt."""
    shape = shape_of(world)
    bits = world.memory.machine.word_bits
    stack = user_memory.address(user_memory.STACK, bits)
    set_path(frame, shape.user_pc, user_memory.address(USER_TEXT, bits) + (thread.tid & 0xFF) * 16)
    set_path(frame, shape.user_sp, stack - 0x800)
    set_path(frame, shape.user_fp, stack - 0x7C0)
    number = system_call(thread)
    set_path(frame, shape.number, number if number is not None else 0x5555)
    for member, value in shape.user.items():
        set_path(frame, member, value)


def _write_frames(world: World, process: Process, thread: Thread, names: list[str], frame: int) -> Saved:
    """The chain from the innermost function's record to the one right below the trap frame."""
    shape = shape_of(world)
    size = world.memory.types.pointer_size
    user_fp = 0 if process.is_kernel else _user_frame(world)
    caller = _outermost(process, thread, shape)
    # On i386 the argument of the outermost function, the trap frame's address, is between it and the record.
    argument = [frame] if world.has("pcb", "pcb_eip") and not process.is_kernel else []
    record = frame - (2 + len(argument)) * size
    if shape.back_chain:
        return _write_back_chain(world, names, caller, frame)
    pointer = user_fp
    for depth, name in enumerate(reversed(names)):
        extra = argument if depth == 0 else []
        _write_words(world, record, [pointer, code(world, caller), *extra])
        pointer, caller = record + shape.above * size, name
        record -= ROOM
    return Saved(code(world, names[0]), record + ROOM - 32, pointer)


def _write_back_chain(world: World, names: list[str], caller: str, frame: int) -> Saved:
    """powerpc64, ELFv2: the caller's frame, the condition register, and the return address of whom this one calls."""
    record = frame - 48
    _write_words(world, record, [0, 0, code(world, caller)])
    for name in reversed(names):
        record -= ROOM
        _write_words(world, record, [record + ROOM, 0, code(world, name)])
    # The innermost function has saved nothing for a callee yet.
    _write_words(world, record, [record + ROOM, 0, 0])
    return Saved(code(world, names[0]), record)


def _outermost(process: Process, thread: Thread, shape: Shape) -> str:
    if process.is_kernel:
        return "fork_trampoline"
    return shape.trap_entry if system_call(thread) is None else shape.entry


def _user_frame(world: World) -> int:
    bits = world.memory.machine.word_bits
    return user_memory.address(user_memory.STACK, bits) - 0x7C0


def _write_words(world: World, va: int, values: list[int]) -> None:
    size = world.memory.types.pointer_size
    order = world.memory.machine.byteorder
    world.memory.write(va, b"".join(value.to_bytes(size, order) for value in values))
