"""Listeners of bpf(4) and their filters: as they are, hidden, and damaged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bsd.damage import Damage
from tests.bsd.kernel_variants import NOWHERE, nowhere, without_symbols, without_types
from tests.bsd.network_truth import JAILS, NONE, SHAPES, sound, split, vnet, without_vimage
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from tests.writers.objects import Object
from volatility3_freebsd_kvm.bsd.bpf import Listener, Process, chosen_listeners, listeners
from volatility3_freebsd_kvm.bsd.bpf_filter import Filter, Instruction, read_filter
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.exceptions import NotMappedError, SymbolError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types

TRUTH = SYSTEM.bpf_listeners[0]
PROGRAM = (
    "ldh [12]",
    "jeq #0x800 jt 2 jf 10",
    "ld [26]",
    *(f"jeq #{0xC0000200 + at:#x} jt 11 jf {at + 1}" for at in range(3, 10)),
    "ret #0",
    "ret #262144",
)
"""The scenario's filter, as tcpdump -d would have it."""


def listener(kernel: str) -> Object:
    found: Object = build_world(kernel).get("bpf_d", (TRUTH.vnet, TRUTH.interface, TRUTH.pid))
    return found


def point(kernel: str, jid: int = 0, name: str = "vtnet0") -> Object:
    found: Object = build_world(kernel).get("bpf_if", (jid, name))
    return found


def walk(kernel: Kernel) -> tuple[list[Listener], list[Problem]]:
    return split(listeners(kernel))


# The truth


def test_every_listener_is_there(kernel: str) -> None:
    found = sound(listeners(walkable(kernel)))
    assert len(found) == len(SYSTEM.bpf_listeners)
    for one, item in zip(found, SYSTEM.bpf_listeners, strict=True):
        assert one.address == int(listener(kernel))
        assert (one.role, one.interface) == ("reader", item.interface)
        assert one.interface_address == int(build_world(kernel).get("ifnet", (item.vnet, item.interface)))
        assert (one.vnet, one.vnet_jails) == (vnet(kernel, item.vnet), JAILS[item.vnet])
        assert (one.link_type, one.pid, one.process) == ("EN10MB", item.pid, Process("sh", 0, "0"))
        assert (one.direction, one.flags) == ("inout", ("promiscuous", "immediate"))
        assert (one.buffer_size, one.stored, one.held) == (4096, 0, 0)
        assert one.counts == {
            "received": item.received,
            "dropped": item.dropped,
            "captured": item.captured,
            "written": 0,
            "written_matched": 0,
            "write_drops": 0,
            "zero_copies": 0,
        }
        assert isinstance(one.read_filter, Filter)
        assert one.read_filter.lines() == PROGRAM
        assert len(one.read_filter.instructions) == item.filter_length
        assert one.write_filter == Filter(0)
        assert one.holders == ((880, 6),)
        assert one.notes == ()


@pytest.mark.parametrize("kernel", SHAPES, scope="session")
@pytest.mark.parametrize(
    ("choice", "count"),
    [
        ({}, 1),
        ({"vnet": "0"}, 1),
        ({"vnet": "web"}, 1),
        ({"vnet": "db"}, 0),
        ({"jail": "0"}, 1),
        ({"jail": "web"}, 0),
        ({"jail": "0", "vnet": "db"}, 0),
    ],
)
def test_choosing(kernel: str, choice: dict[str, str], count: int) -> None:
    """The process is on the host; the interface's vnet serves jail web, too."""
    assert len(sound(chosen_listeners(walkable(kernel), **choice))) == count


@pytest.mark.parametrize("kernel", SHAPES, scope="session")
@pytest.mark.parametrize("choice", ["vnet", "jail"])
def test_choosing_what_there_is_not(kernel: str, choice: str) -> None:
    with pytest.raises(SymbolError, match=f"^there is no {choice} nix; there are: "):
        list(chosen_listeners(walkable(kernel), **{choice: "nix"}))


def test_a_kernel_without_types(kernel: str) -> None:
    text = "the types of this kernel lack bpf_d.bd_next, bpf_if.bif_next or bpf_if_ext.bif_next; "
    text += "a kernel file with type information (--freebsd-kernel) would tell them"
    assert list(listeners(without_types(kernel))) == [Problem("bpf", text)]


# What is remarkable: a few kernels


@pytest.fixture(scope="module", params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def damage(name: str) -> Damage:
    return Damage(name)


def only(damage: Damage) -> Listener:
    found, problems = walk(damage.kernel())
    assert problems == []
    assert len(found) == 1
    return found[0]


def without_private_types(damage: Damage) -> Types:
    """The types as headers tell them: `struct bpf_if` is private to bpf.c."""
    known = damage.kernel().structs.types
    return known.pruned([one for one in known.user_types if one != "bpf_if"])


def test_a_kernel_whose_headers_only_are_known(damage: Damage) -> None:
    found, problems = split(listeners(damage.kernel(types=without_private_types(damage))))
    assert problems == []
    assert [(one.interface, one.role, one.link_type, one.notes) for one in found] == [
        ("vtnet0", "reader", Absent.NOT_AVAILABLE, ())
    ]


@pytest.mark.parametrize(("number", "text"), [(0, "in"), (2, "out"), (9, "9")])
def test_directions(damage: Damage, number: int, text: str) -> None:
    damage.set(listener(damage.name), "bd_direction", number, 4)
    assert only(damage).direction == text


def test_flags(damage: Damage) -> None:
    one = listener(damage.name)
    for member, size in (("bd_promisc", 1), ("bd_immediate", 1)):
        damage.set(one, member, 0, size)
    for member in ("bd_hdrcmplt", "bd_feedback", "bd_async", "bd_locked"):
        damage.set(one, member, 1, 4)
    damage.set(one, "bd_bufmode", 2, 4)
    damage.set(one, "bd_slen", 300, 4)
    damage.set(one, "bd_hlen", 4000, 4)
    shown = only(damage)
    assert shown.flags == ("header-complete", "feedback", "async", "locked")
    assert (shown.buffer_mode, shown.stored, shown.held) == ("zero-copy", 300, 4000)


def test_a_process_that_is_gone(damage: Damage) -> None:
    damage.set(listener(damage.name), "bd_pid", 4711, 4)
    shown = only(damage)
    assert shown.process == Process(Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE)
    assert shown.notes == ("there is no process 4711", "held by process 880 as descriptor 6")


def test_a_descriptor_that_another_process_has(damage: Damage) -> None:
    damage.set(listener(damage.name), "bd_pid", 1, 4)
    shown = only(damage)
    assert (shown.pid, shown.process.command) == (1, "init")
    assert shown.notes == ("held by process 880 as descriptor 6",)


def test_a_filter_for_writing(damage: Damage) -> None:
    one = listener(damage.name)
    damage.set(one, "bd_wfilter", damage.pointer(damage.at(one, "bd_rfilter")) + 11 * 8)
    damage.set(one, "bd_rfilter", 0)
    shown = only(damage)
    assert shown.read_filter == Filter(0)
    assert isinstance(shown.write_filter, Filter)
    assert shown.write_filter.lines() == ("ret #262144",)


# Hidden


def unlink(damage: Damage, head: int, gone: Object) -> None:
    """Empty a list of one."""
    assert damage.pointer(head) == int(gone)
    damage.put(head, 0)


def readers(damage: Damage) -> int:
    at = damage.types.offsetof("bpf_if_ext", "bif_dlist")
    return int(point(damage.name)) + at


def test_a_listener_that_its_interface_lacks(damage: Damage) -> None:
    unlink(damage, readers(damage), listener(damage.name))
    shown = only(damage)
    assert (shown.interface, shown.role) == ("vtnet0", "writer")
    assert shown.notes == ("hidden: not on the lists of its interface, known by its descriptor",)


def test_a_listener_that_cannot_be_on_the_list_that_is_known(damage: Damage) -> None:
    unlink(damage, readers(damage), listener(damage.name))
    found = sound(listeners(damage.kernel(types=without_private_types(damage))))
    note = "not on bif_dlist: a writer, or hidden, known by its descriptor"
    assert [(one.interface, one.notes) for one in found] == [("vtnet0", (note,))]


def test_a_writer(damage: Damage) -> None:
    one = listener(damage.name)
    unlink(damage, readers(damage), one)
    place = damage.at(point(damage.name), "bif_wlist")
    damage.put(place, int(one))
    damage.put(damage.at(one, "bd_next") + damage.word, place)
    shown = only(damage)
    assert (shown.role, shown.notes) == ("writer", ())


def test_a_detached_listener(damage: Damage) -> None:
    one = listener(damage.name)
    unlink(damage, readers(damage), one)
    damage.set(one, "bd_bif", 0)
    shown = only(damage)
    assert (shown.role, shown.interface, shown.link_type, shown.vnet) == ("detached", NONE, NONE, Absent.NOT_AVAILABLE)
    assert (shown.pid, shown.notes) == (880, ())


def test_a_listener_that_no_descriptor_leads_to(damage: Damage) -> None:
    device = damage.world.get("cdev_priv", "bpf")
    damage.set(device, "cdp_fdpriv", 0)
    shown = only(damage)
    assert (shown.holders, shown.notes) == ((), ("no open /dev/bpf leads to it",))


def test_a_kernel_that_does_not_tell_of_devices(damage: Damage) -> None:
    found = sound(listeners(without_symbols(damage.kernel(), "cdevp_list")))
    assert [(one.holders, one.notes) for one in found] == [(Absent.NOT_AVAILABLE, ())]


def test_an_interface_that_the_list_lacks(damage: Damage) -> None:
    """The interfaces of bpf are listed from the youngest to vtnet0, the first that was attached."""
    before = point(damage.name, 0, "lo0")
    place = int(before) + damage.types.offsetof("bpf_if_ext", "bif_next")
    assert damage.pointer(place) == int(point(damage.name))
    damage.put(place, 0)
    shown = only(damage)
    assert (shown.interface, shown.notes) == ("vtnet0", ("hidden: its bpf_if is not on bpf_iflist",))


def test_an_interface_of_another_bpf_if(damage: Damage) -> None:
    other = damage.world.get("ifnet", (0, "lo0"))
    damage.set(point(damage.name), "bif_ifp", int(other))
    shown = only(damage)
    assert shown.interface == "vtnet0"
    assert shown.notes == (f"the bpf_if of vtnet0 says that its interface is at {int(other):#x}",)


def test_a_bpf_if_of_an_unknown_interface(damage: Damage) -> None:
    damage.set(point(damage.name), "bif_ifp", NOWHERE)
    damage.set(damage.world.get("ifnet", (0, "vtnet0")), "if_bpf", 0)
    shown = only(damage)
    assert shown.interface is Absent.NOT_AVAILABLE
    assert shown.notes == (f"its interface at {NOWHERE:#x} is not known otherwise",)


# Damaged


def test_a_loop_of_interfaces(damage: Damage) -> None:
    first = damage.pointer(int(damage.world.symbol("bpf_iflist")))
    damage.put(int(point(damage.name)) + damage.types.offsetof("bpf_if_ext", "bif_next"), first)
    found, problems = walk(damage.kernel())
    assert [(one.interface, one.notes) for one in found] == [("vtnet0", ())]
    count = len(SYSTEM.interfaces)
    assert problems == [Problem("bpf_iflist", f"loops back to {first:#x} after {count} elements")]


def test_a_list_of_interfaces_that_leads_nowhere(damage: Damage) -> None:
    damage.put(int(damage.world.symbol("bpf_iflist")), NOWHERE)
    found, problems = walk(damage.kernel())
    assert [(one.interface, one.notes) for one in found] == [("vtnet0", ("its bpf_if is not reached on bpf_iflist",))]
    text = f"ends after 1 elements where address {NOWHERE:#x} {nowhere(damage.name)}"
    assert problems == [Problem("bpf_iflist", text)]


def test_a_kernel_without_the_list(damage: Damage) -> None:
    found, problems = split(listeners(without_symbols(damage.kernel(), "bpf_iflist")))
    assert [one.interface for one in found] == ["vtnet0"]
    assert problems == [Problem("bpf_iflist", "the kernel and its modules have no symbol bpf_iflist")]


def test_a_loop_of_listeners(damage: Damage) -> None:
    one = listener(damage.name)
    damage.set(one, "bd_next", int(one))
    found, problems = walk(damage.kernel())
    assert len(found) == 1
    assert problems == [Problem("bif_dlist of vtnet0", f"loops back to {int(one):#x} after 1 elements")]


def test_listeners_that_lead_nowhere(damage: Damage) -> None:
    damage.set(listener(damage.name), "bd_next", NOWHERE)
    found, problems = walk(damage.kernel())
    assert len(found) == 1
    text = f"ends after 2 elements where address {NOWHERE:#x} {nowhere(damage.name)}"
    assert problems == [Problem("bif_dlist of vtnet0", text)]


def test_a_counter_that_leads_nowhere(damage: Damage) -> None:
    damage.set(listener(damage.name), "bd_rcount", 0)
    shown = only(damage)
    assert (shown.counts["received"], shown.counts["dropped"]) == (Absent.UNREADABLE, 3)
    assert shown.notes == ("bd_rcount cannot be read: address 0x0 cannot be read (a NULL pointer)",)


def test_a_filter_that_leads_nowhere(damage: Damage) -> None:
    damage.set(listener(damage.name), "bd_rfilter", NOWHERE)
    shown = only(damage)
    problem = f"instruction 0 cannot be read: address {NOWHERE:#x} {nowhere(damage.name)}"
    assert shown.read_filter == Filter(NOWHERE, (), problem)
    assert shown.notes == (f"bd_rfilter: {problem}",)


@pytest.mark.parametrize(("limit", "shown_limit"), [(10, 10), (0, 512), (-5, 512), (1 << 30, 512)])
def test_a_filter_that_jumps_too_far(damage: Damage, limit: int, shown_limit: int) -> None:
    one = listener(damage.name)
    program = damage.pointer(damage.at(one, "bd_rfilter"))
    damage.put(program, 0x05, 2)
    damage.put(program + 4, 0xFFFF_FFFF, 4)
    kernel = damage.kernel()
    if damage.world.has_symbol("bpf_maxinsns"):
        damage.put(int(damage.world.symbol("bpf_maxinsns")), limit, 4)
    else:
        shown_limit = 512
    found, _ = walk(kernel)
    problem = f"instruction 0 leads beyond {shown_limit} instructions"
    assert found[0].notes == (f"bd_rfilter: {problem}",)
    assert isinstance(found[0].read_filter, Filter)
    assert found[0].read_filter.lines() == ("ja 4294967296",)


def test_a_kernel_without_vimage(name: str) -> None:
    found = sound(chosen_listeners(without_vimage(name), jail="0"))
    assert [(one.interface, one.vnet, one.notes) for one in found] == [("vtnet0", NONE, ())]


# Instructions


@pytest.mark.parametrize(
    ("code", "operand", "text"),
    [
        (0x20, 26, "ld [26]"),
        (0x28, 12, "ldh [12]"),
        (0x30, 23, "ldb [23]"),
        (0x40, 14, "ld [x + 14]"),
        (0x48, 16, "ldh [x + 16]"),
        (0x00, 255, "ld #0xff"),
        (0x60, 3, "ld M[3]"),
        (0x80, 0, "ld #pktlen"),
        (0x01, 16, "ldx #0x10"),
        (0x61, 1, "ldx M[1]"),
        (0x81, 0, "ldx #pktlen"),
        (0xB1, 14, "ldxb 4*([14]&0xf)"),
        (0x02, 4, "st M[4]"),
        (0x03, 5, "stx M[5]"),
        (0x04, 2, "add #2"),
        (0x1C, 0, "sub x"),
        (0x44, 31, "or #0x1f"),
        (0x54, 255, "and #0xff"),
        (0x64, 2, "lsh #2"),
        (0x84, 0, "neg"),
        (0x94, 7, "mod #7"),
        (0xA4, 1, "xor #0x1"),
        (0x06, 96, "ret #96"),
        (0x16, 0, "ret"),
        (0x07, 0, "tax"),
        (0x87, 0, "txa"),
        (0x05, 3, "ja 14"),
        (0x15, 0x800, "jeq #0x800 jt 12 jf 13"),
        (0x25, 1, "jgt #0x1 jt 12 jf 13"),
        (0x3D, 0, "jge x jt 12 jf 13"),
        (0x45, 0x1FFF, "jset #0x1fff jt 12 jf 13"),
        (0x62, 4, "unimp 0x62"),
        (0xB4, 4, "unimp 0xb4"),
        (0x55, 4, "unimp 0x55"),
        (0x17, 4, "unimp 0x17"),
        (0x68, 4, "unimp 0x68"),
        (0x120, 4, "unimp 0x120"),
    ],
)
def test_instructions(code: int, operand: int, text: str) -> None:
    assert Instruction(code, 1, 2, operand).text(10) == text


def read_from(data: bytes, limit: int = 512) -> Filter:
    def read(address: int, length: int) -> bytes:
        if address + length > 16 + len(data):
            raise NotMappedError(address)
        return data[address - 16 : address - 16 + length]

    return read_filter(Structs(read, Types.empty(8, "little"), 64, "little"), 16, limit)


def test_a_filter_without_an_end() -> None:
    found = read_from(bytes(24))
    assert found.lines() == ("ld #0x0",) * 3
    assert found.problem == "instruction 3 cannot be read: address 0x28 is not mapped"


def test_a_filter_that_is_too_long() -> None:
    found = read_from(bytes(80), limit=4)
    assert len(found.instructions) == 4
    assert found.problem == "instruction 3 leads beyond 4 instructions"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=160))
def test_any_filter_ends(data: bytes) -> None:
    found = read_from(data, limit=12)
    assert len(found.lines()) <= 12
    assert found.problem or found.instructions
