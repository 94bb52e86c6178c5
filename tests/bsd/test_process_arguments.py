"""Arguments and environment: the kernel's copy, and the user's stack where something can read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.bsd.process_damage import Changes, member_at, member_change, nowhere, pointer_change, structs_of
from tests.bsd.process_truth import IN_ORDER, PROCESSES, address_of, credentials_of
from tests.scenario.build_vm import stack_of
from tests.scenario.kernels import build_world
from tests.scenario.model import Process
from tests.scenario.user_memory import Stack, StackBuilder, has_memory
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.arguments import Arguments, Variable, argument_records, environment_records
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.objects import Object
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.user import UserMemories
from volatility3_freebsd_kvm.bsd.user_strings import UserStrings
from volatility3_freebsd_kvm.exceptions import NotDumpedError

NOT_DUMPED = "are on the user's stack, which is not dumped: minidumps have no user pages"
CACHED = [process for process in PROCESSES.values() if process.args and process.args_cached]


@pytest.fixture
def full(kernel: str) -> str:
    """A kernel whose architecture has full dumps."""
    if kernel.endswith("powerpc64"):
        pytest.skip("full dumps of powerpc64 cannot be translated")
    return kernel


def expected_arguments(process: Process, kernel: str, *, stack: bool) -> Arguments:
    if process.args and process.args_cached:
        shown, source, notes = process.args, "p_args", ()
    elif not has_memory(process):
        shown, source, notes = (f"[{process.comm}]",), Absent.NOT_APPLICABLE, ()
    elif stack:
        shown, source, notes = process.args, "user stack", ()
    else:
        shown, source, notes = Absent.UNREADABLE, Absent.NOT_APPLICABLE, (f"the arguments {NOT_DUMPED}",)
    uid = credentials_of(process).uid
    return Arguments(address_of(kernel, "proc", process.pid), process.pid, uid, process.comm, shown, source, notes)


def test_arguments_are_as_described(kernel: str) -> None:
    expected = [expected_arguments(PROCESSES[pid], kernel, stack=False) for pid in IN_ORDER]
    assert list(argument_records(walkable(kernel))) == expected


def test_arguments_of_a_full_dump(full: str) -> None:
    expected = [expected_arguments(PROCESSES[pid], full, stack=True) for pid in IN_ORDER]
    assert list(argument_records(walkable(full, "full"))) == expected


def test_the_environment_of_a_full_dump(full: str) -> None:
    check_environment(walkable(full, "full"))


def check_environment(kernel: Kernel) -> None:
    found = [one for one in environment_records(kernel) if isinstance(one, Variable)]
    variables = [(one.pid, f"{one.name}={one.value}") for one in found if isinstance(one.name, str)]
    assert variables == [(pid, text) for pid in IN_ORDER for text in PROCESSES[pid].environment]
    empty = {one.pid for one in found if one.notes == ("its environment is empty",)}
    assert empty == {pid for pid in IN_ORDER if has_memory(PROCESSES[pid]) and not PROCESSES[pid].environment}


def test_the_environment_is_not_in_a_minidump(kernel: str) -> None:
    found = list(environment_records(walkable(kernel)))
    assert [one.pid for one in found] == [pid for pid in IN_ORDER if has_memory(PROCESSES[pid])]
    for one in found:
        assert isinstance(one, Variable)
        assert (one.name, one.value) == (Absent.NOT_APPLICABLE, Absent.NOT_APPLICABLE)
        assert one.notes == (f"the environment variables {NOT_DUMPED}",)


# --- damaged copies -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["12.1-amd64", "14-powerpc64", "15-i386"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def walk(name: str, pid: int, changes: Changes) -> Arguments:
    (record,) = argument_records(damaged(name, changes), [pid])
    assert isinstance(record, Arguments)
    return record


def test_an_absurd_length_is_not_believed(name: str) -> None:
    record = walk(name, 862, member_change(name, "pargs", 862, "ar_length", 0xFFFF0000))
    assert isinstance(record.arguments, tuple)
    assert record.arguments[:3] == ("truss", "sleep", "5")
    assert len("\0".join(record.arguments)) <= 256
    assert record.notes[0] == "ar_length is 0xffff0000, which is impossible: 256 bytes are shown"


def test_a_copy_without_an_end(name: str) -> None:
    record = walk(name, 862, member_change(name, "pargs", 862, "ar_length", 9))
    assert (record.arguments, record.notes) == (("truss", "sle"), ("p_args does not end with a NUL",))


def test_an_empty_copy_is_none(name: str) -> None:
    record = walk(name, 862, member_change(name, "pargs", 862, "ar_length", 0))
    assert (record.arguments, record.source) == (Absent.UNREADABLE, Absent.NOT_APPLICABLE)
    assert record.notes == (f"the arguments {NOT_DUMPED}",)


def test_a_copy_in_nowhere(name: str) -> None:
    record = walk(name, 862, member_change(name, "proc", 862, "p_args", nowhere(name)))
    lost = nowhere(name) + structs_of(name).offset("pargs", "ar_length")
    assert (record.arguments, record.source) == (Absent.UNREADABLE, Absent.NOT_APPLICABLE)
    assert record.notes == (f"p_args cannot be read: address {lost:#x} is not mapped",)


def test_what_setproctitle_left_of_a_zombie(name: str) -> None:
    """The copy outlives exit(2); only wait(2) frees it."""
    title = address_of(name, "pargs", 700)
    record = walk(name, 864, member_change(name, "proc", 864, "p_args", title))
    assert (record.arguments, record.source) == (("/usr/sbin/syslogd", "-s"), "p_args")


def test_bytes_that_are_no_text(name: str) -> None:
    record = walk(name, 862, {member_at(name, "pargs", 862, "ar_args"): b"\xff\x1b[2J"})
    assert record.arguments == ("\N{REPLACEMENT CHARACTER}\x1b[2J", "sleep", "5")


def test_who_has_no_environment_is_told_when_asked(name: str) -> None:
    assert list(environment_records(walkable(name), [11, 864, 5])) == [
        Variable(
            address_of(name, "proc", pid),
            pid,
            PROCESSES[pid].comm,
            Absent.NOT_APPLICABLE,
            Absent.NOT_APPLICABLE,
            ("a kernel process or a zombie has no environment",),
        )
        for pid in (11, 864)
    ] + [Problem("pid 5", "there is no such process")]


# --- the user's stack -----------------------------------------------------------------------------------------------


class StackMemory:
    """A process's stack and nothing else; `changes` are other bytes in it."""

    def __init__(self, stack: Stack, changes: Changes) -> None:
        content = bytearray(stack.content)
        self._low = stack.top - len(content)
        for address, data in changes.items():
            content[address - self._low : address - self._low + len(data)] = data
        self._content = bytes(content)

    def read(self, address: int, length: int) -> bytes:
        at = address - self._low
        if not 0 <= at <= len(self._content) - length:
            raise NotDumpedError(address)
        return self._content[at : at + length]


Give = Callable[..., None]


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Make the stacks of a kernel's processes readable."""

    def give(name: str, changes: Changes | None = None) -> None:
        def memory(_memories: UserMemories, proc: Object) -> StackMemory:
            return StackMemory(stack_of(build_world(name), PROCESSES[proc.p_pid]), changes or {})

        monkeypatch.setattr(UserMemories, "of", memory)

    return give


def test_arguments_of_the_stack(kernel: str, stacks: Give) -> None:
    stacks(kernel)
    expected = [expected_arguments(PROCESSES[pid], kernel, stack=True) for pid in IN_ORDER]
    assert list(argument_records(walkable(kernel))) == expected


def test_environment_of_the_stack(kernel: str, stacks: Give) -> None:
    stacks(kernel)
    check_environment(walkable(kernel))


def stack_at(name: str, pid: int) -> Stack:
    return stack_of(build_world(name), PROCESSES[pid])


def test_a_vector_of_absurd_length(name: str, stacks: Give) -> None:
    word, order = structs_of(name).word_size, structs_of(name).byteorder
    stacks(name, {stack_at(name, 880).ps_strings + word: (0x7FFFFFFF).to_bytes(4, order)})
    (record,) = argument_records(walkable(name), [880])
    assert isinstance(record, Arguments)
    assert record.arguments == Absent.UNREADABLE
    why = "ps_strings says that there are 2147483647 strings, which is impossible"
    assert record.notes == (f"the arguments on the user's stack cannot be read: {why}",)


def test_a_string_in_nowhere_ends_the_vector(name: str, stacks: Give) -> None:
    stack, word = stack_at(name, 850), structs_of(name).word_size
    stacks(name, pointer_change(name, stack.envp + word, 0x1000))
    found = [one for one in environment_records(walkable(name), [850]) if isinstance(one, Variable)]
    assert [(one.name, one.value) for one in found] == [
        ("HOME", "/home/alice"),
        (Absent.NOT_APPLICABLE, Absent.NOT_APPLICABLE),
    ]
    assert found[1].notes == ("only 1 of 3 strings can be read: address 0x1000 is not dumped",)


def test_a_variable_without_a_value(name: str, stacks: Give) -> None:
    stack = stack_at(name, 850)
    structs = structs_of(name)
    first = int.from_bytes(StackMemory(stack, {}).read(stack.envp, structs.word_size), structs.byteorder)
    stacks(name, {first: b"HOME:"})
    found = [one for one in environment_records(walkable(name), [850]) if isinstance(one, Variable)]
    assert (found[0].name, found[0].value, found[0].notes) == ("HOME:/home/alice", "", ("a string without =",))


@pytest.mark.parametrize("name", ["12.1-amd64", "15-amd64", "15-arm64"])
def test_32_bit_processes_of_a_64_bit_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pointers of four bytes, and a ps_strings of their own size (SV_ILP32)."""
    modern = structs_of(name).has("vmspace", "vm_stacktop")
    stack = StackBuilder(32, "little", modern=modern).build(("sh", "-c", "true"), ("A=1", "B="), "/bin/sh", 1)
    changes = member_change(name, "sysentvec", "FreeBSD ELF64", "sv_flags", 0x100)
    if modern:
        changes |= member_change(name, "sysentvec", "FreeBSD ELF64", "sv_psstringssz", 16)
        changes |= member_change(name, "vmspace", 880, "vm_stacktop", stack.top)
    else:
        changes |= member_change(name, "sysentvec", "FreeBSD ELF64", "sv_psstrings", stack.ps_strings)
    monkeypatch.setattr(UserMemories, "of", lambda _memories, _proc: StackMemory(stack, {}))
    kernel = damaged(name, changes)
    (record,) = argument_records(kernel, [880])
    assert isinstance(record, Arguments)
    assert (record.arguments, record.source, record.notes) == (("sh", "-c", "true"), "user stack", ())
    found = [(one.name, one.value) for one in environment_records(kernel, [880]) if isinstance(one, Variable)]
    assert found == [("A", "1"), ("B", "")]


def test_a_stack_that_is_not_there(name: str, stacks: Give) -> None:
    top = member_change(name, "sysentvec", "FreeBSD ELF64", "sv_psstrings", 0x10000)
    if structs_of(name).has("vmspace", "vm_stacktop"):
        top = member_change(name, "vmspace", 880, "vm_stacktop", 0x10000)
    stacks(name)
    (record,) = argument_records(damaged(name, top), [880])
    assert isinstance(record, Arguments)
    assert record.arguments == Absent.UNREADABLE
    assert [note.rpartition(": ")[0] for note in record.notes] == ["the arguments on the user's stack cannot be read"]
    assert record.notes[0].endswith("is not dumped")


def test_strings_that_are_all_the_same_are_not_read_for_ever(name: str, stacks: Give) -> None:
    """A vector of very many pointers to one long string."""
    structs = structs_of(name)

    class Endless:
        def read(self, address: int, length: int) -> bytes:
            if length == 4 and address == 0x10000 + structs.word_size:
                return (60_000).to_bytes(4, structs.byteorder)
            return b"x" * length

    strings = UserStrings(Endless(), structs.word_size, structs.byteorder, 0x10000, [])
    (text,) = strings.arguments()
    assert text == "x" * (1 << 19)
    assert strings.notes == ["only 1 of 60000 strings are shown: they are too long to be true"]
