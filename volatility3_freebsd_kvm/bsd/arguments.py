"""Arguments and environment of processes: the kernel's copy (``p_args``), else what exec put on the user's stack.

# Reference: sys/sys/proc.h (struct pargs), sys/kern/kern_proc.c (proc_getargv, sysctl_kern_proc_args), bin/ps/fmt.c
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..exceptions import KVMError
from .fields import Fields
from .kernel import Kernel
from .needs import unmet
from .objects import Object
from .process import Found, chosen
from .process_flags import P_KPROC, has_flag, is_zombie
from .records import Absent, Problem, attempt
from .user import UserMemories
from .user_strings import ARG_MAX, UserStrings

KERNEL_COPY, USER_STACK = "p_args", "user stack"
CACHE_LIMIT = 256
"""PAGE_SIZE / 16, what kern.ps_arg_cache_limit is unless it was changed."""


@dataclass(frozen=True)
class Arguments:
    """The command line of a process.

    Attributes:
        offset: address of its ``struct proc``.
        uid: its effective user.
        command: ``p_comm``.
        arguments: one by one; of kernel processes and zombies the name in brackets, as ps(1) shows it.
        source: where they are from: ``p_args``, which setproctitle(3) changes, or ``user stack``.
        notes: why they are not there.
    """

    offset: int
    pid: int | Absent
    uid: int | Absent
    command: str | Absent
    arguments: tuple[str, ...] | Absent
    source: str | Absent
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variable:
    """A variable of a process's environment; one without a name says in `notes` why there are none."""

    offset: int
    pid: int | Absent
    command: str | Absent
    name: str | Absent
    value: str | Absent
    notes: tuple[str, ...] = ()


# Arguments


def argument_records(
    kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()
) -> Iterator[Arguments | Problem]:
    """The command line of every process, or of those that `chosen` gives."""
    lacking = unmet(kernel, "arguments", ["proc.p_args", "pargs.ar_args"])
    if lacking:
        yield lacking
    memories = UserMemories(kernel)
    for found in chosen(kernel, pids, jails):
        yield _command_line(memories, found.proc) if isinstance(found, Found) else found


def _command_line(memories: UserMemories, proc: Object) -> Arguments:
    kernel = memories.kernel
    fields = Fields()
    command = fields.take("p_comm", lambda: str(proc.p_comm))
    arguments: tuple[str, ...] | Absent | None
    arguments, source = fields.take("p_args", lambda: kernel_copy(kernel, proc, fields.note)), KERNEL_COPY
    if arguments is None and _has_user_part(proc):
        arguments, source = _on_stack(memories, proc, "arguments", UserStrings.arguments, fields), USER_STACK
    elif arguments is None:
        arguments, source = (f"[{command}]" if isinstance(command, str) else "[]",), ""
    return Arguments(
        offset=proc.address_,
        pid=fields.take("p_pid", lambda: int(proc.p_pid)),
        uid=fields.take("p_ucred", lambda: int(proc.p_ucred.cr_uid)),
        command=command,
        arguments=arguments,
        source=Absent.NOT_APPLICABLE if isinstance(arguments, Absent) or not source else source,
        notes=fields.notes,
    )


def kernel_copy(kernel: Kernel, proc: Object, note: Callable[[str], None]) -> tuple[str, ...] | None:
    """The arguments in ``p_args``; None if there is no copy: it is not made of long ones (kern.ps_arg_cache_limit).

    Args:
        kernel: the kernel.
        proc: the process.
        note: is told what is irregular.

    Raises:
        SymbolError: the kernel's types do not know it.
        AddressError: it cannot be read.
    """
    copy = proc.p_args
    if not copy:
        return None
    length = int(copy.ar_length)
    if not length:
        return None
    if length > ARG_MAX:
        limit = attempt(lambda: kernel.integer("ps_arg_cache_limit", kernel.structs.word_size, signed=False))
        shown = limit if isinstance(limit, int) and 0 < limit <= ARG_MAX else CACHE_LIMIT
        note(f"ar_length is {length:#x}, which is impossible: {shown} bytes are shown")
        length = shown
    data = kernel.structs.read(copy.object_().at_("ar_args"), length)
    if not data.endswith(b"\0"):
        note("p_args does not end with a NUL")
    return tuple(data.removesuffix(b"\0").decode("utf-8", "replace").split("\0"))


def _has_user_part(proc: Object) -> bool:
    return not is_zombie(proc) and not has_flag(proc, P_KPROC)


# The user's stack


def _on_stack(
    memories: UserMemories, proc: Object, what: str, take: Callable[[UserStrings], tuple[str, ...]], fields: Fields
) -> tuple[str, ...] | Absent:
    """Strings of a process's stack, or why there are none."""
    memory = memories.of(proc)
    if memory is None:
        fields.note(f"the {what} are on the user's stack, which {memories.why_none(proc)}")
        return Absent.UNREADABLE
    try:
        strings = UserStrings.of(memories.kernel, proc, memory)
        found = take(strings)
    except KVMError as error:
        fields.note(f"the {what} on the user's stack cannot be read: {error}")
        return Absent.UNREADABLE
    for text in strings.notes:
        fields.note(text)
    return found


# The environment


def environment_records(
    kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()
) -> Iterator[Variable | Problem]:
    """The environment of every user process, or of those that `chosen` gives: a record a variable."""
    wanted = tuple(pids)
    memories = UserMemories(kernel)
    for found in chosen(kernel, wanted, jails):
        if isinstance(found, Problem):
            yield found
        elif _has_user_part(found.proc):
            yield from _environment(memories, found.proc)
        elif wanted:
            yield _without(found.proc, ("a kernel process or a zombie has no environment",))


def _environment(memories: UserMemories, proc: Object) -> Iterator[Variable]:
    fields = Fields()
    strings = _on_stack(memories, proc, "environment variables", UserStrings.environment, fields)
    if isinstance(strings, Absent) or not strings:
        yield _without(proc, fields.notes or ("its environment is empty",))
        return
    pid, command = attempt(lambda: int(proc.p_pid)), attempt(lambda: str(proc.p_comm))
    for string in strings:
        name, equals, value = string.partition("=")
        notes = () if equals else ("a string without =",)
        yield Variable(proc.address_, pid, command, name, value, notes)
    if fields.notes:
        yield _without(proc, fields.notes)


def _without(proc: Object, notes: tuple[str, ...]) -> Variable:
    """A record that is not a variable but says why there is none, or no more."""
    pid, command = attempt(lambda: int(proc.p_pid)), attempt(lambda: str(proc.p_comm))
    absent = Absent.NOT_APPLICABLE
    return Variable(proc.address_, pid, command, absent, absent, notes)
