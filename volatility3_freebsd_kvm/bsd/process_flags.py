"""What the flags of a process are called, and the state that ps(1) makes of them.

# Reference: sys/sys/proc.h (the bits are the same since 10), bin/ps/print.c (state),
# sys/kern/kern_proc.c (fill_kinfo_proc_only, fill_kinfo_thread)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..exceptions import KVMError, SymbolError
from .kernel import Kernel
from .objects import Object
from .times import seconds_since_tick

PRS_NEW, PRS_NORMAL, PRS_ZOMBIE = 0, 1, 2
P_CONTROLT, P_KPROC, P_PPWAIT, P_SYSTEM = 0x2, 0x4, 0x10, 0x200
P_TRACED, P_WEXIT, P_INEXEC, P_INMEM = 0x800, 0x2000, 0x400_0000, 0x1000_0000
P_STOPPED = 0x2_0000 | 0x4_0000 | 0x8_0000
CRED_FLAG_CAPMODE = 0x1
P_FLAGS = {
    0x1: "P_ADVLOCK",
    0x2: "P_CONTROLT",
    0x4: "P_KPROC",
    0x8: "P_IDLEPROC",  # 15.0; not in use before
    0x10: "P_PPWAIT",
    0x20: "P_PROFIL",
    0x40: "P_STOPPROF",
    0x80: "P_HADTHREADS",
    0x100: "P_SUGID",
    0x200: "P_SYSTEM",
    0x400: "P_SINGLE_EXIT",
    0x800: "P_TRACED",
    0x1000: "P_WAITED",
    0x2000: "P_WEXIT",
    0x4000: "P_EXEC",
    0x8000: "P_WKILLED",
    0x1_0000: "P_CONTINUED",
    0x2_0000: "P_STOPPED_SIG",
    0x4_0000: "P_STOPPED_TRACE",
    0x8_0000: "P_STOPPED_SINGLE",
    0x10_0000: "P_PROTECTED",
    0x20_0000: "P_SIGEVENT",
    0x40_0000: "P_SINGLE_BOUNDARY",
    0x80_0000: "P_HWPMC",
    0x100_0000: "P_JAILED",
    0x200_0000: "P_TOTAL_STOP",
    0x400_0000: "P_INEXEC",
    0x800_0000: "P_STATCHILD",
    0x1000_0000: "P_INMEM",
    0x2000_0000: "P_SWAPPINGOUT",  # until 14
    0x4000_0000: "P_SWAPPINGIN",
    0x8000_0000: "P_PPTRACE",
}
P2_FLAGS = {
    0x1: "P2_INHERIT_PROTECTED",
    0x2: "P2_NOTRACE",
    0x4: "P2_NOTRACE_EXEC",
    0x8: "P2_AST_SU",
    0x10: "P2_PTRACE_FSTP",
    0x20: "P2_TRAPCAP",
    0x40: "P2_ASLR_ENABLE",
    0x80: "P2_ASLR_DISABLE",
    0x100: "P2_ASLR_IGNSTART",
    0x200: "P2_PROTMAX_ENABLE",
    0x400: "P2_PROTMAX_DISABLE",
    0x800: "P2_STKGAP_DISABLE",
    0x1000: "P2_STKGAP_DISABLE_EXEC",
    0x2000: "P2_ITSTOPPED",
    0x4000: "P2_PTRACEREQ",
    0x8000: "P2_NO_NEW_PRIVS",
    0x1_0000: "P2_WXORX_DISABLE",
    0x2_0000: "P2_WXORX_ENABLE_EXEC",
    0x4_0000: "P2_WEXIT",
    0x8_0000: "P2_REAPKILLED",
    0x10_0000: "P2_MEMBAR_PRIVE",
    0x20_0000: "P2_MEMBAR_PRIVE_SYNCORE",
    0x40_0000: "P2_MEMBAR_GLOBE",
    0x80_0000: "P2_LOGSIGEXIT_ENABLE",
    0x100_0000: "P2_LOGSIGEXIT_CTL",
    0x200_0000: "P2_HWT",
}
TDS_CAN_RUN, TDS_RUNQ, TDS_RUNNING = 2, 3, 4
TDI_SLEEPING, TDI_LOCK = 0x2, 0x8
TDF_SINTR = 0x8
PRI_REALTIME, PRI_IDLE = 2, 4
MAXSLP = 20
"""Seconds after which ps(1) calls a sleeper idle."""


def flag_names(value: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """The names of the bits that are set; bits without a name as one hexadecimal number."""
    found = [name for bit, name in names.items() if value & bit]
    rest = value & 0xFFFF_FFFF & ~sum(names)
    return (*found, hex(rest)) if rest else tuple(found)


def process_flags(proc: Object) -> tuple[str, ...]:
    """``p_flag`` and ``p_flag2`` by name; raises as `Object` members do."""
    return flag_names(proc.p_flag, P_FLAGS) + flag_names(proc.p_flag2, P2_FLAGS)


def is_zombie(proc: Object) -> bool:
    """Whether it has exited and waits for its parent; False where that is not known."""
    return _holds(lambda: proc.p_state == PRS_ZOMBIE)


def is_exiting(proc: Object) -> bool:
    """Whether it is on its way out, or a zombie; False where that is not known."""
    return is_zombie(proc) or has_flag(proc, P_WEXIT)


def has_flag(proc: Object, bits: int) -> bool:
    """Whether any of these bits of ``p_flag`` is set; False where they are not known."""
    return _holds(lambda: bool(proc.p_flag & bits))


def is_jailed(kernel: Kernel, proc: Object) -> bool:
    """Whether it is in a jail (`jailed`); raises as `Object` members do."""
    prison = proc.p_ucred.cr_prison
    try:
        return int(prison) != kernel.address("prison0")
    except SymbolError:
        return bool(prison.pr_id)


def process_state(kernel: Kernel, proc: Object) -> str:
    """The state as ps(1) shows it: ``Ss``, ``IsJ``, ``RNL``; that of its first thread.

    Raises:
        SymbolError: this kernel's types do not tell.
        AddressError: it cannot be read.
    """
    return _letter(kernel, proc) + "".join(
        letter for letter, test in _modifiers(kernel, proc).items() if _holds(test)
    )  # fmt: skip


def _letter(kernel: Kernel, proc: Object) -> str:
    state = proc.p_state
    if state != PRS_NORMAL:
        return {PRS_NEW: "R", PRS_ZOMBIE: "Z"}.get(state, "?")
    thread = proc.p_threads.tqh_first
    if not thread:
        return "?"
    if thread.td_state in (TDS_CAN_RUN, TDS_RUNQ, TDS_RUNNING):
        return "R"
    if proc.p_flag & P_STOPPED:
        return "T"
    if thread.td_inhibitors & TDI_SLEEPING:
        return _sleeper(kernel, thread)
    return "L" if thread.td_inhibitors & TDI_LOCK else "W"


def _sleeper(kernel: Kernel, thread: Object) -> str:
    if not thread.td_flags & TDF_SINTR:
        return "D"
    slept = seconds_since_tick(kernel, thread.td_slptick)
    return "I" if isinstance(slept, float) and slept >= MAXSLP else "S"


def _modifiers(kernel: Kernel, proc: Object) -> dict[str, Callable[[], bool]]:
    """The further letters in the order of ps(1)."""
    first = proc.p_threads.tqh_first
    zombie = is_zombie(proc)
    return {
        "W": lambda: not proc.p_flag & P_INMEM,
        "<": lambda: _is_favoured(proc, first),
        "N": lambda: not _is_favoured(proc, first) and (proc.p_nice > 0 or first.td_pri_class == PRI_IDLE),
        "X": lambda: bool(proc.p_flag & P_TRACED),
        "E": lambda: bool(proc.p_flag & P_WEXIT) and not zombie,
        "V": lambda: bool(proc.p_flag & P_PPWAIT),
        "L": lambda: bool(proc.p_flag & P_SYSTEM) or proc.p_lock > 0,
        "C": lambda: bool(proc.p_ucred.cr_flags & CRED_FLAG_CAPMODE),
        "s": lambda: bool(proc.p_pgrp.pg_session.s_leader == proc.address_),
        "+": lambda: _is_foreground(proc),
        "J": lambda: is_jailed(kernel, proc),
    }


def _is_favoured(proc: Object, first: Object) -> bool:
    return bool(proc.p_nice < 0 or first.td_pri_class == PRI_REALTIME)


def _is_foreground(proc: Object) -> bool:
    group = proc.p_pgrp
    terminal = group.pg_session.s_ttyp
    return bool(proc.p_flag & P_CONTROLT and terminal and terminal.t_pgrp.pg_id == group.pg_id)


def _holds(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except KVMError:
        return False
