"""The sysctl tree with its values."""

from __future__ import annotations

import pytest

from tests.bsd.kernel_variants import NOWHERE, Patch, nowhere, with_symbols, without_symbols, without_types
from tests.scenario.build_sysctl import FIXED, KINDS, TOP_LEVEL
from tests.scenario.kernels import build_world
from tests.scenario.model import Sysctl as Truth
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.sysctl import Sysctl, flag_names, sysctls
from volatility3_freebsd_kvm.exceptions import SymbolError
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types

SOME = ("12.1-amd64", "12.1-i386", "15-arm64", "14-powerpc64")
"""Kernels for what is the same on all of them: two with lists, two with trees."""
OPAQUE = "debug.example.opaque"
RD, WR = 0x80000000, 0x40000000


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    """One kernel after the other: each has to be built."""
    return str(request.param)


def oid(kernel: str, sysctl: str) -> int:
    return int(build_world(kernel).get("sysctl_oid", sysctl))


def is_tree(kernel: str) -> bool:
    return walkable(kernel).has_member("sysctl_oid", "oid_link.rbe_link")


def found(kernel: Kernel, prefix: str = "", vnet: int | str | None = None) -> dict[str, Sysctl]:
    names = [prefix] if prefix else []
    return {item.name: item for item in sysctls(kernel, names, vnet) if isinstance(item, Sysctl)}


def problems(kernel: Kernel, prefix: str = "") -> list[str]:
    return [str(item) for item in sysctls(kernel, [prefix] if prefix else []) if isinstance(item, Problem)]


def text_of(value: int | str | bytes | None) -> str | Absent:
    if value is None:
        return Absent.NOT_AVAILABLE
    return value.hex(" ") if isinstance(value, bytes) else str(value)


# The truth


@pytest.mark.parametrize("truth", SYSTEM.sysctls, ids=lambda item: item.name)
def test_every_field(kernel: str, truth: Truth):
    item = found(walkable(kernel), truth.name)[truth.name]
    _number, form, _, handler = KINDS[truth.kind]
    assert (item.address, item.value, item.notes) == (oid(kernel, truth.name), text_of(truth.value), ())
    assert (item.type, item.format) == (truth.kind, form)
    assert ("RW" in item.flags) == truth.writable
    assert ("RD" in item.flags) == (not truth.writable)
    assert item.description == truth.description or item.description
    handlers = {"", "kernel!kernel_function", f"kernel!{truth.handler or handler}"}
    assert item.handler_symbol in handlers
    assert (item.handler == 0) == (item.handler_symbol == "")
    above = truth.name.rpartition(".")[0]
    if truth.name in FIXED and above in TOP_LEVEL:
        assert item.oid == (TOP_LEVEL[above], FIXED[truth.name])


def test_tree_is_whole_and_in_order(kernel: str):
    items = list(sysctls(walkable(kernel)))
    assert all(isinstance(item, Sysctl) for item in items)
    assert [item.oid for item in items] == sorted(item.oid for item in items)
    assert {item.name for item in items} >= {truth.name for truth in SYSTEM.sysctls}
    assert {item.notes for item in items} == {()}
    nodes = {item.name for item in items if item.type == "node"}
    assert {item.name.rpartition(".")[0] for item in items} - {""} == nodes - {"vfs", "machdep"} & nodes
    assert {item.value for item in items if item.type == "node"} == {Absent.NOT_APPLICABLE}


def test_static_oids_are_found(kernel: str):
    if not walkable(kernel).has("sysctl___kern_ident"):
        pytest.skip("this kernel has no set of sysctls")
    items = found(walkable(kernel))
    assert items["kern.ident"].value == walkable(kernel).text(walkable(kernel).address("kern_ident"))
    assert items["kern.ident"].address == walkable(kernel).address("sysctl___kern_ident")
    assert items["kern.proc.args"].value is Absent.NOT_AVAILABLE
    assert items["kern.proc.args"].handler_symbol == "kernel!sysctl_kern_proc_args"
    assert items["kern.maxproc"].flags == ("RD", "TUN", "MPSAFE", "NOFETCH")


def test_values_of_a_vnet(kernel: str):
    """The host forwards, jail 2 with a vnet of its own does not; a compiled kernel has one variable in each."""
    forwarding = "net.inet.ip.forwarding"
    host, jail = (found(walkable(kernel), forwarding, vnet)[forwarding] for vnet in (None, "db"))
    assert host.value == "1"
    assert jail.value == ("0" if "VNET" in host.flags else "1")
    assert found(walkable(kernel), forwarding, 2)[forwarding] == jail


def test_unknown_vnet(name: str):
    with pytest.raises(SymbolError, match="there is no vnet nonsense"):
        list(sysctls(walkable(name), [], "nonsense"))


# What is asked for


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("kern.ipc", ["kern.ipc", "kern.ipc.maxsockbuf"]),
        ("kern.ipc.", ["kern.ipc", "kern.ipc.maxsockbuf"]),
        ("vm.swap_total", ["vm.swap_total"]),
        ("kern.ip", []),
        ("vm.swap_total.more", []),
    ],
)
def test_prefix(name: str, prefix: str, names: list[str]):
    assert list(found(walkable(name), prefix)) == names


def test_several_names(name: str):
    items = [item.name for item in sysctls(walkable(name), ["vm.swap_total", "kern.ipc", "hw.n"])]
    assert items == ["kern.ipc", "kern.ipc.maxsockbuf", "vm.swap_total"]


def test_tree_of_10():
    """Until 10 the children are in a list of their own, where oid_arg1 leads."""
    name = "12.1-amd64"
    nodes = [item for item in sysctls(walkable(name)) if isinstance(item, Sysctl) and item.type == "node"]
    patch = Patch(name)
    for node in nodes:
        head = node.address + walkable(name).structs.offset("sysctl_oid", "oid_children")
        patch.member("sysctl_oid", node.address, "oid_arg1", head)
    kernel = damaged(name, patch)
    types = kernel.structs.types
    members = dict(types.user_types["sysctl_oid"]["fields"])
    for newer in ("oid_children", "oid_parent"):
        del members[newer]
    older = {**types.user_types, "sysctl_oid": {**types.user_types["sysctl_oid"], "fields": members}}
    structs = Structs(kernel.structs.read, Types(types.base_types, older, types.enums), 64, "little")
    before = list(sysctls(walkable(name)))
    assert list(sysctls(Kernel(Names(kernel.names.symbols, structs), "amd64"))) == before


def test_flags():
    assert flag_names(RD | 2) == ("RD",)
    assert flag_names(WR | 2) == ("WR",)
    assert flag_names(0xFFFFFFF0)[:2] == ("RW", "DORMANT")
    assert flag_names(0xC00C0000 | 0x10) == ("RW", "TUN", "MPSAFE", "0x10")
    assert flag_names(0) == ()


# Values


def changed(name: str, patch: Patch, symbols: dict[str, int] | None = None) -> Sysctl:
    """The opaque sysctl after a change."""
    return found(with_symbols(damaged(name, patch), symbols or {}), OPAQUE)[OPAQUE]


def of_kind(name: str, kind: int, argument: int, length: int = 0, form: bytes = b"", handler: int = 0) -> Patch:
    """The opaque sysctl as another kind."""
    patch = Patch(name)
    text = patch.room(64)
    patch.text(text, form + b"\0").member("sysctl_oid", oid(name, OPAQUE), "oid_fmt", text)
    for member, value in (("oid_kind", RD | kind), ("oid_arg1", argument), ("oid_arg2", length)):
        patch.member("sysctl_oid", oid(name, OPAQUE), member, value)
    return patch.member("sysctl_oid", oid(name, OPAQUE), "oid_handler", handler)


@pytest.mark.parametrize(
    ("kind", "size", "value"),
    [
        (2, 4, -2),
        (6, 4, 2**32 - 2),
        (4, 8, -(2**63)),
        (9, 8, 2**64 - 1),
        (0xA, 1, 255),
        (0xB, 2, 65535),
        (0xC, 1, -1),
        (0xD, 2, -32768),
        (0xE, 4, -1),
        (0xF, 4, 2**32 - 1),
        (7, 0, -3),
        (8, 0, 2**31),
    ],
)
def test_integers_of_all_kinds(name: str, kind: int, size: int, value: int):
    patch = Patch(name)
    place = patch.room(16)
    patch.number(place, value, size or patch.word)
    patch |= of_kind(name, kind, place)
    assert changed(name, patch).value == str(value)


@pytest.mark.parametrize(("kind", "value", "shown"), [(2, -5, "-5"), (6, -5, str(2**32 - 5)), (0xA, 0x1FF, "255")])
def test_constants_without_a_variable(name: str, kind: int, value: int, shown: str):
    assert changed(name, of_kind(name, kind, 0, value)).value == shown


def test_strings(name: str):
    patch = Patch(name)
    place = patch.room(8192)
    patch.text(place, b"hello\nworld\n\0")
    assert changed(name, patch | of_kind(name, 3, place)).value == "hello\nworld"
    assert changed(name, patch | of_kind(name, 3, place, 4)).value == "hell"
    assert changed(name, patch | of_kind(name, 3, 0)).value is Absent.NOT_AVAILABLE
    patch.text(place, b"x" * 8192)
    assert changed(name, patch | of_kind(name, 3, place)).value == "x" * 4096 + " …"


@pytest.mark.parametrize(("kind", "first"), [(3, "\x01\x02"), (5, "01 02")])
def test_impossible_lengths(name: str, kind: int, first: str):
    patch = Patch(name)
    place = patch.room(256)
    patch.text(place, b"\x01\x02\0")
    item = changed(name, patch | of_kind(name, kind, place, -1))
    assert isinstance(item.value, str)
    assert item.value.startswith(first)
    assert len(item.value) < 200
    assert item.notes == ("a length of -1 bytes is impossible",)


def test_long_opaque_data_is_cut(name: str):
    patch = Patch(name)
    place = patch.room(128)
    assert changed(name, patch | of_kind(name, 5, place, 100)).value == bytes(64).hex(" ") + " … (100 bytes)"


def test_structures(name: str):
    patch = Patch(name)
    place = patch.room(64)
    seconds = 4 if name.endswith("i386") else 8
    patch.number(place, 1_767_225_600, seconds).number(place + seconds, 250_000, patch.word)
    size = seconds + patch.word
    assert changed(name, patch | of_kind(name, 5, place, size, b"S,timeval")).value == (
        "{ sec = 1767225600, usec = 250000 } Thu Jan  1 00:00:00 2026"
    )
    for index, value in enumerate((1000, 1, 0, 127, 8128)):
        patch.number(place + 4 * index, value, 4)
    assert changed(name, patch | of_kind(name, 5, place, 20, b"S,clockinfo")).value == (
        "{ hz = 1000, tick = 1, profhz = 8128, stathz = 127 }"
    )


def computed(name: str, handler: str, kind: int, argument: int = 0, length: int = 0, **symbols: int) -> str | Absent:
    """The value of a sysctl with one of the handlers that are known."""
    code = walkable(name).address("sysctl_handle_int") + 1
    return changed(name, of_kind(name, kind, argument, length, handler=code), {handler: code, **symbols}).value


def test_values_that_known_handlers_compute(name: str):
    structs = walkable(name).structs
    at = structs.offset("prison", "pr_hostname")
    assert computed(name, "sysctl_kern_boottime", 5) == "{ sec = 1767225600, usec = 250000 } Thu Jan  1 00:00:00 2026"
    assert computed(name, "sysctl_hostname", 3, at, 256) == f"{SYSTEM.hostname}.{SYSTEM.domain}"
    assert computed(name, "sysctl_hostname", 3, 0x7FFFFFF0, 256) is Absent.NOT_AVAILABLE
    assert computed(name, "sysctl_hostid", 8) == str(SYSTEM.host_id)
    assert computed(name, "sysctl_kern_securelvl", 2) == str(SYSTEM.securelevel)
    assert computed(name, "sysctl_osreldate", 2) == str(walkable(name).integer("osreldate"))
    assert computed(name, "sysctl_osrelease", 3) == walkable(name).text(walkable(name).address("osrelease"))
    assert computed(name, "sysctl_msec_to_ticks", 2, walkable(name).address("hz")) == "1000"
    assert computed(name, "sysctl_vm_loadavg", 5) is Absent.NOT_AVAILABLE
    assert computed(name, "sysctl_handle_counter_u64", 9, walkable(name).address("hz")) is Absent.NOT_AVAILABLE


def test_memory_in_bytes(name: str):
    assert computed(name, "sysctl_hw_physmem", 8) == str(SYSTEM.memory_pages * 4096)
    assert computed(name, "sysctl_hw_realmem", 8) == str(SYSTEM.memory_pages * 4096)


def test_load_averages(name: str):
    patch = Patch(name)
    place = patch.room(32)
    for index, load in enumerate((512, 1024, 2048 * 3)):
        patch.number(place + 4 * index, load, 4)
    patch.number(place + (16 if patch.word == 8 else 12), 2048, patch.word)
    code = walkable(name).address("sysctl_handle_int") + 1
    patch |= of_kind(name, 5, place, 24, b"S,loadavg", code)
    item = changed(name, patch, {"averunnable": place, "sysctl_vm_loadavg": code})
    assert item.value == "{ 0.25 0.50 3.00 }"


def test_sum_over_all_cpus(name: str):
    """sysctl_dpcpu_int: the argument is the address of a template."""
    patch = Patch(name)
    template = walkable(name).address("__start_set_pcpu") + 16
    mask = (1 << 8 * patch.word) - 1
    for cpu in walkable(name).names.cpus:
        patch.number((template + cpu.data_base) & mask, 10 + cpu.cpuid, 4)
    code = walkable(name).address("sysctl_handle_int") + 1
    patch |= of_kind(name, 2, template, handler=code)
    assert changed(name, patch, {"sysctl_dpcpu_int": code}).value == str(10 + 11 + 12 + 13)


def test_variable_in_nowhere(name: str):
    assert changed(name, of_kind(name, 2, NOWHERE)).value is Absent.UNREADABLE


def test_handler_outside_of_known_code(name: str):
    patch = Patch(name)
    code = patch.room(64)
    item = changed(name, patch | of_kind(name, 2, code, handler=code))
    assert (item.value, item.handler, item.handler_symbol) == (Absent.NOT_AVAILABLE, code, "")
    assert item.notes == ("its handler is in no known code",)


# Damage


def first_pair(name: str) -> tuple[int, int]:
    """kern.ostype and the one that its link leads to."""
    ostype = oid(name, "kern.ostype")
    structs = walkable(name).structs
    at = structs.offset("sysctl_oid", "oid_link")
    return ostype, ostype + at


def test_list_that_loops():
    name = "12.1-amd64"
    ostype, link = first_pair(name)
    kernel = damaged(name, Patch(name).pointer(link, ostype))
    assert problems(kernel, "kern") == [f"children of kern: loops back to {ostype:#x} after 1 elements"]
    items = found(kernel)
    assert "kern.ostype" in items
    assert "kern.maxproc" not in items
    assert "vm.swap_total" in items


def test_tree_that_loops():
    name = "15-arm64"
    _ostype, link = first_pair(name)
    root = walkable(name).structs.pointer(walkable(name).address("sysctl___kern"))
    kernel = damaged(name, Patch(name).pointer(link + 8, root))
    items = list(sysctls(kernel))
    assert f"children of kern: a branch loops back to {root:#x}" in [str(item) for item in items]
    names = [item.name for item in items if isinstance(item, Sysctl)]
    assert len(names) == len(set(names))
    assert {"kern.ostype", "vm.swap_total"} <= set(names)


def test_node_that_is_its_own_child(name: str):
    """A leaf becomes a node whose children are those of its parent: the walk must not go round."""
    patch = Patch(name)
    node = found(walkable(name))["kern.ipc"].address
    buffers = oid(name, "kern.ipc.maxsockbuf")
    patch.first(node + walkable(name).structs.offset("sysctl_oid", "oid_children"), buffers)
    patch.member("sysctl_oid", buffers, "oid_kind", RD | 1)
    patch.first(buffers + walkable(name).structs.offset("sysctl_oid", "oid_children"), node)
    kernel = damaged(name, patch)
    assert "children of kern.ipc.maxsockbuf: leads to kern.ipc again: not followed" in problems(kernel)
    assert "vm.swap_total" in found(kernel)


def test_nodes_nested_too_deep(name: str):
    """Each new node is the only child of the one before."""
    patch = Patch(name)
    structs = walkable(name).structs
    at, size = structs.offset("sysctl_oid", "oid_children"), structs.size("sysctl_oid")
    text = patch.room(16)
    patch.text(text, b"deeper\0")
    above = oid(name, OPAQUE)
    patch.member("sysctl_oid", above, "oid_kind", RD | 1)
    for _ in range(40):
        node = patch.room(size)
        patch.member("sysctl_oid", node, "oid_kind", RD | 1).member("sysctl_oid", node, "oid_name", text)
        patch.member("sysctl_oid", node, "oid_parent", above + at).first(above + at, node)
        above = node
    kernel = damaged(name, patch)
    deepest = f"{OPAQUE}{'.deeper' * 21}"
    assert problems(kernel) == [f"children of {deepest}: deeper than 24 levels: not followed"]
    assert list(found(kernel, OPAQUE))[-1] == deepest


def test_lists_that_all_lead_into_each_other(name: str):
    """Each of 300 nodes in a list has the whole list as its children."""
    if is_tree(name):
        pytest.skip("a tree cannot be shared as a list can")
    patch = Patch(name)
    structs = walkable(name).structs
    size, link = structs.size("sysctl_oid"), structs.offset("sysctl_oid", "oid_link")
    text, first = patch.room(16), patch.room(300 * size)
    nodes = range(first, first + 300 * size, size)
    patch.text(text, b"node\0")
    for node in nodes:
        patch.member("sysctl_oid", node, "oid_kind", RD | 1).member("sysctl_oid", node, "oid_name", text)
        patch.first(node + structs.offset("sysctl_oid", "oid_children"), first)
        patch.pointer(node + link, node + size if node != nodes[-1] else 0)
    opaque = oid(name, OPAQUE)
    patch.member("sysctl_oid", opaque, "oid_kind", RD | 1)
    patch.first(opaque + structs.offset("sysctl_oid", "oid_children"), first)
    items = list(sysctls(damaged(name, patch), [OPAQUE]))
    names = [item.name for item in items if isinstance(item, Sysctl)]
    # As deep as they go, one in another, and then what is left of each list.
    assert len(names) == len({item.address for item in items if isinstance(item, Sysctl)}) == 301
    assert 0 < len([item for item in items if isinstance(item, Problem)]) < 1000


def test_name_without_an_end(name: str):
    patch = Patch(name)
    place = patch.room(4096)
    patch.text(place, b"x" * 4096).member("sysctl_oid", oid(name, OPAQUE), "oid_name", place)
    assert f"debug.example.{'x' * 256}" in found(damaged(name, patch))


def test_name_in_nowhere(name: str):
    patch = Patch(name).member("sysctl_oid", oid(name, OPAQUE), "oid_name", NOWHERE)
    assert f"debug.example.?{oid(name, OPAQUE):#x}" in found(damaged(name, patch))


def test_parent_pointer_of_another_list(name: str):
    patch = Patch(name).member("sysctl_oid", oid(name, OPAQUE), "oid_parent", 0x1000)
    assert found(damaged(name, patch), OPAQUE)[OPAQUE].notes == ("its parent pointer leads to another list",)


def test_oid_that_was_taken_out_of_the_tree():
    """security, the last of the root's oids, is compiled in."""
    name = "15-arm64"
    kernel = walkable(name)
    children = {item.address: item for item in sysctls(kernel) if isinstance(item, Sysctl) and len(item.oid) == 1}
    at = kernel.structs.offset("sysctl_oid", "oid_link")
    security = kernel.address("sysctl___security")
    patch = Patch(name)
    (above,) = [one for one in children if security in (kernel.structs.pointer(one + at + 8 * side) for side in (1, 2))]
    for side in (1, 2):
        if kernel.structs.pointer(above + at + 8 * side) == security:
            patch.pointer(above + at + 8 * side, 0)
    items = found(damaged(name, patch))
    lost = items["security"]
    assert (lost.address, lost.oid) == (security, (256,))
    assert lost.notes == ("compiled in, but not in the tree: it was removed or is hidden",)
    assert items["security.bsd"].notes == items["security.bsd.unprivileged_read_msgbuf"].notes == lost.notes
    assert items["security.bsd.unprivileged_read_msgbuf"].oid[:2] == items["security.bsd"].oid


def test_list_in_nowhere(name: str):
    patch = Patch(name).first(walkable(name).address("sysctl__children"), NOWHERE)
    kernel = damaged(name, patch)
    structs = walkable(name).structs
    link = NOWHERE + structs.offset("sysctl_oid", "oid_link")
    sides = (1, 2) if is_tree(name) else (0,)
    places = [link + side * structs.word_size for side in sides]
    how = "a branch ends" if is_tree(name) else "ends after 1 elements"
    assert problems(kernel) == [
        "sysctl__children: 0x10 cannot be read",
        *(
            f"sysctl__children: {how} where address {place:#x} {nowhere(name).replace('0x10', hex(place))}"
            for place in places
        ),
    ]


# What is not known


def test_without_types():
    assert problems(without_types("15-arm64")) == [
        (
            "sysctl__children: the types of this kernel lack sysctl_oid.oid_link, sysctl_oid.oid_kind, "
            "sysctl_oid.oid_name; a kernel file with type information (--freebsd-kernel) would tell them"
        )
    ]


def test_without_the_symbol_of_the_root(name: str):
    kernel = without_symbols(walkable(name), "sysctl__children")
    assert problems(kernel) == ["sysctl__children: this kernel's symbols do not have it"]
