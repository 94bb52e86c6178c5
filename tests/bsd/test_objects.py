"""Structures in memory as objects: members by name, pointers followed, and what is missing told apart from what is not
readable."""

from __future__ import annotations

import copy

import pytest

from tests.fake_memory import Memory, array, base, bits, c_types, enum, of, pointer, struct
from volatility3_freebsd_kvm.bsd.objects import MAX_TEXT, Array, MissingMemberError, Object, Pointer, value_at
from volatility3_freebsd_kvm.bsd.records import Absent, attempt
from volatility3_freebsd_kvm.exceptions import NotMappedError, SymbolError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import VOID

PROC, CRED, NAME, TABLE = 0x1000, 0x2000, 0x3000, 0x4000
byteorder = pytest.mark.parametrize("byteorder", ["little", "big"])


def structs_over(memory: Memory) -> Structs:
    types = c_types(
        memory,
        ucred=struct(8, cr_uid=(0, base("unsigned int")), cr_ref=(4, base("int"))),
        pair=struct(8, first=(0, base("int")), second=(4, base("int"))),
        inner=struct(4, p_inside=(0, base("short")), p_deep=(2, base("short"))),
        proc=struct(
            128,
            p_pid=(0, base("int")),
            p_flag=(4, base("unsigned int")),
            p_ucred=(8, pointer(of("ucred"))),
            p_pair=(16, of("pair")),
            p_comm=(24, array(8, base("char"))),
            p_groups=(32, array(3, base("int"))),
            p_pairs=(44, array(2, of("pair"))),
            p_low=(60, bits(0, 3, base("unsigned int"))),
            p_high=(60, bits(28, 4, base("int"))),
            p_state=(64, enum("state")),
            anonymous_0=(68, of("inner")),
            p_sysent=(72, pointer({"kind": "function"})),
            p_data=(80, pointer(VOID)),
            p_again=(88, pointer(pointer(of("ucred")))),
            p_name=(96, pointer(base("char"))),
            p_counter=(104, pointer(base("int"))),
            p_pages=(112, array(2, pointer(of("ucred")))),
        ),
    )
    types.enums["state"] = {"size": 4, "base": "unsigned int", "constants": {"PRS_NEW": 0, "PRS_NORMAL": 1}}
    return memory.structs(types)


def scene(byteorder: str = "little") -> Memory:
    """A process with all that its pointers lead to."""
    memory = Memory(byteorder=byteorder).put(PROC, bytes(128)).put(CRED, bytes(8)).put(TABLE, bytes(64))
    memory.number(CRED, 1001, 4).number(CRED + 4, -3, 4)
    memory.number(PROC, -7, 4).number(PROC + 4, 0x80000001, 4).number(PROC + 8, CRED)
    memory.number(PROC + 16, 5, 4).number(PROC + 20, 6, 4)
    memory.put(PROC + 24, b"init\0xx")
    for index, value in enumerate((10, -20, 30)):
        memory.number(PROC + 32 + 4 * index, value, 4)
    for index, value in enumerate((1, 2, 3, 4)):
        memory.number(PROC + 44 + 4 * index, value, 4)
    memory.number(PROC + 60, 5 | 0xE << 28, 4).number(PROC + 64, 1, 4)
    memory.number(PROC + 68, -1, 2).number(PROC + 70, 77, 2)
    memory.number(PROC + 72, 0xFFFFFFFF80001000).number(PROC + 80, CRED).number(PROC + 88, TABLE)
    memory.number(TABLE, CRED).number(PROC + 96, NAME).number(PROC + 104, CRED)
    memory.put(NAME, "größe".encode().ljust(64, b"\0"))
    return memory.number(PROC + 112, CRED).number(PROC + 120, 0)


def proc_in(memory: Memory) -> Object:
    return Object(structs_over(memory), "proc", PROC)


@byteorder
def test_members_are_attributes(byteorder: str) -> None:
    proc = proc_in(scene(byteorder))
    assert (proc.p_pid, proc.p_flag) == (-7, 0x80000001)
    assert (proc.p_pair.first, proc.p_pair.second) == (5, 6)
    assert (proc.p_low, proc.p_high) == (5, -2)
    assert proc.p_state == 1
    assert (proc.p_inside, proc.p_deep) == (-1, 77)
    assert (proc.anonymous_0.p_deep, getattr(proc, "p_pair.second")) == (77, 6)


@byteorder
def test_pointers_lead_on(byteorder: str) -> None:
    proc = proc_in(scene(byteorder))
    assert proc.p_ucred == CRED
    assert (proc.p_ucred.cr_uid, proc.p_ucred.cr_ref) == (1001, -3)
    assert proc.p_ucred.object_() == Object(proc.structs_, "ucred", CRED)
    assert (proc.p_ucred.address_, proc.p_ucred.type_) == (CRED, "ucred")
    # One star more than needed.
    assert proc.p_again.cr_uid == 1001
    assert proc.p_counter.object_() == 1001
    assert proc.p_data.as_("ucred").cr_uid == 1001
    assert proc.p_sysent == 0xFFFFFFFF80001000
    assert proc.p_name.text_() == "größe"
    assert proc.p_name.text_(3) == "gr\ufffd"
    assert isinstance(proc.p_ucred, int)
    assert f"{proc.p_ucred:#x}" == "0x2000"


def test_a_null_pointer_leads_nowhere_but_is_an_empty_text() -> None:
    proc = proc_in(scene().put(PROC + 8, bytes(8)).put(PROC + 80, bytes(8)).put(PROC + 96, bytes(8)))
    assert not proc.p_ucred
    for get in (lambda: proc.p_ucred.cr_uid, proc.p_ucred.object_, lambda: proc.p_data.as_("ucred")):
        with pytest.raises(NotMappedError, match=r"^address 0x0 is not mapped \(a NULL pointer\)$"):
            get()
    assert proc.p_name.text_() == ""
    assert attempt(lambda: proc.p_ucred.cr_uid) is Absent.UNREADABLE


def test_pointers_to_what_is_not_known_have_no_members() -> None:
    """Pruned types have void behind such pointers; it must not matter whether the memory can be read."""
    proc = proc_in(scene())
    expected = "what is behind the pointer is not known to have a member pcb_rip in this kernel"
    for get in (lambda: proc.p_data.pcb_rip, lambda: proc.p_sysent.pcb_rip, lambda: proc.p_counter.pcb_rip):
        with pytest.raises(MissingMemberError, match=f"^{expected}$"):
            get()
        assert attempt(get) is Absent.NOT_AVAILABLE
    assert attempt(lambda: proc_in(scene().put(PROC + 80, bytes(8))).p_data.pcb_rip) is Absent.NOT_AVAILABLE


@pytest.mark.parametrize("missing", ["p_nothing", "p_pair.third", "cr_uid", "p_pid.low"])
def test_missing_members(missing: str) -> None:
    proc = proc_in(scene())
    with pytest.raises(MissingMemberError) as refused:
        getattr(proc, missing)
    assert str(refused.value) == f"struct proc has no member {missing} in this kernel"
    assert isinstance(refused.value, SymbolError)
    assert isinstance(refused.value, AttributeError)
    assert not hasattr(proc, missing)
    assert not proc.has_(missing)
    assert proc.kind_(missing) == ""
    with pytest.raises(SymbolError):
        proc.at_(missing)


def test_missing_types() -> None:
    thing = Object(structs_over(scene()), "nothing", PROC)
    assert attempt(lambda: thing.p_pid) is Absent.NOT_AVAILABLE
    assert attempt(lambda: thing.size_) is Absent.NOT_AVAILABLE
    assert attempt(thing.bytes_) is Absent.NOT_AVAILABLE
    assert thing.bytes_(2) == b"\xf9\xff"


def test_what_the_types_say() -> None:
    proc = proc_in(scene())
    assert proc.has_("p_pair.second")
    assert proc.at_("p_pair.second") == PROC + 20
    kinds = {name: proc.kind_(name) for name in ("p_pid", "p_ucred", "p_pair", "p_comm", "p_low", "p_state")}
    assert kinds == {
        "p_pid": "base",
        "p_ucred": "pointer",
        "p_pair": "struct",
        "p_comm": "array",
        "p_low": "bitfield",
        "p_state": "enum",
    }
    assert proc.size_ == 128
    assert proc.bytes_(4) == b"\xf9\xff\xff\xff"
    assert len(proc.bytes_()) == 128


def test_of_several_names_the_first_that_exists_counts() -> None:
    proc = proc_in(scene())
    assert proc.first_("p_newest", "p_pid", "p_flag") == -7
    assert proc.first_("p_pair.third", "p_pair.second") == 6
    with pytest.raises(MissingMemberError, match=r"^struct proc has no member p_newest in this kernel$"):
        proc.first_("p_newest", "p_older")


def test_arrays() -> None:
    proc = proc_in(scene())
    groups = proc.p_groups
    assert isinstance(groups, Array)
    assert (len(groups), list(groups), groups[1]) == (3, [10, -20, 30], -20)
    assert bytes(groups) == b"\x0a\0\0\0\xec\xff\xff\xff\x1e\0\0\0"
    assert [(one.first, one.second) for one in proc.p_pairs] == [(1, 2), (3, 4)]
    # Many arrays are longer than they are declared.
    assert groups[3] == proc.p_pairs[0].first == 1
    assert [int(one) for one in proc.p_pages] == [CRED, 0]
    assert proc.p_pages[0].cr_uid == 1001


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"init\0xx\0", "init"), (b"12345678", "12345678"), (bytes(8), ""), (b"\xff\xfeab\0", "\ufffd\ufffdab")],
)
def test_character_arrays_are_text(content: bytes, text: str) -> None:
    assert str(proc_in(scene().put(PROC + 24, content)).p_comm) == text


def test_arrays_without_a_length_are_read_up_to_the_nul() -> None:
    memory = Memory().put(TABLE, b"x" * (MAX_TEXT + 64))
    flexible = Array(structs_over(memory), base("char"), 0, TABLE)
    assert str(flexible) == "x" * MAX_TEXT
    memory.put(TABLE + 70, b"\0")
    assert str(flexible) == "x" * 70
    assert (len(flexible), list(flexible), bytes(flexible)) == (0, [], b"")


def test_what_cannot_be_read_is_told_when_it_is_asked_for() -> None:
    memory = scene().number(PROC + 8, 0xDEAD0000).number(PROC + 96, 0xDEAD0000).number(PROC + 88, 0xDEAD0000)
    proc = proc_in(memory)
    assert proc.p_ucred == 0xDEAD0000
    assert proc.p_ucred.object_().address_ == 0xDEAD0000
    for get in (lambda: proc.p_ucred.cr_uid, proc.p_name.text_, lambda: proc.p_again.cr_uid):
        with pytest.raises(NotMappedError, match=r"^address 0xdead0000 is not mapped$"):
            get()
        assert attempt(get) is Absent.UNREADABLE
    gone = Object(proc.structs_, "proc", 0x9000)
    assert gone.p_pair.address_ == 0x9000 + 16
    assert len(gone.p_groups) == 3
    for get in (lambda: gone.p_pid, lambda: gone.p_groups[0], lambda: str(gone.p_comm), gone.bytes_):
        assert attempt(get) is Absent.UNREADABLE


def test_everything_is_read_anew() -> None:
    memory = scene()
    proc = proc_in(memory)
    assert proc.p_pid == -7
    memory.number(PROC, 8, 4)
    assert proc.p_pid == 8


def test_objects_are_equal_by_type_and_address() -> None:
    proc = proc_in(scene())
    same, other = Object(structs_over(Memory()), "proc", PROC), Object(proc.structs_, "ucred", PROC)
    assert proc == same
    assert proc != other
    assert proc != PROC
    assert len({proc, same, other}) == 2
    assert repr(proc) == "<struct proc at 0x1000>"


def test_objects_can_be_copied() -> None:
    """Python asks an object that has nothing yet for its special methods."""
    proc = proc_in(scene())
    assert copy.copy(proc) == proc
    assert copy.copy(proc).p_pid == -7


@pytest.mark.parametrize("name", ["address_x_", "_", "__len__", "nothing_"])
def test_what_belongs_to_the_object_itself_is_no_member(name: str) -> None:
    proc = proc_in(scene())
    with pytest.raises(AttributeError):
        getattr(proc, name)
    with pytest.raises(AttributeError):
        getattr(proc.p_ucred, name)


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        (of("proc"), Object),
        ({"kind": "union", "name": "pair"}, Object),
        (array(1, VOID), Array),
        (pointer(VOID), Pointer),
    ],
)
def test_what_a_type_gives(reference: dict[str, object], kind: type) -> None:
    assert type(value_at(structs_over(scene()), reference, PROC)) is kind


def test_attempt_lets_errors_of_the_program_through() -> None:
    assert attempt(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 // 0)
