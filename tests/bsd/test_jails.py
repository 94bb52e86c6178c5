"""Jails by the list, by the tree and by what processes hold."""

from __future__ import annotations

import pytest

from tests.bsd.kernel_variants import (
    NOWHERE,
    Patch,
    nowhere,
    with_symbols,
    without_symbols,
    without_types,
)
from tests.scenario.build_jails import allow_bits, jail_processes
from tests.scenario.kernels import build_world
from tests.scenario.model import Jail as Truth
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd import jail
from volatility3_freebsd_kvm.bsd.jail import Jail, jail_of, jails
from volatility3_freebsd_kvm.bsd.jail_flags import AllowNames, flag_names
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

SOME = ("12.1-amd64", "12.1-i386", "15-arm64", "14-powerpc64")
"""Kernels for what is the same on all of them: two with pr_ip4 and pr_uref, two with pr_addrs and pr_state."""
WEB, DB, PG = SYSTEM.jails[1:]
NO_UUID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    """One kernel after the other: each has to be built."""
    return str(request.param)


def prison(kernel: str, jid: int) -> int:
    return int(build_world(kernel).get("prison", jid))


def found(kernel) -> dict[int | Absent, Jail]:
    return {item.jid: item for item in jails(kernel) if isinstance(item, Jail)}


def problems(kernel) -> list[str]:
    return [str(item) for item in jails(kernel) if isinstance(item, Problem)]


def is_new(kernel: str) -> bool:
    return walkable(kernel).has_member("prison", "pr_addrs")


# The truth


def test_jails_behind_their_parents(kernel: str):
    items = list(jails(walkable(kernel)))
    assert [(item.jid, item.level) for item in items] == [(0, 0), (1, 1), (2, 1), (3, 2)]
    assert [item.address for item in items] == [prison(kernel, jid) for jid in range(4)]
    assert [item.notes for item in items] == [()] * 4


def test_host(kernel: str):
    host = found(walkable(kernel))[0]
    assert (host.name, host.hostname, host.domainname) == ("0", f"{SYSTEM.hostname}.{SYSTEM.domain}", SYSTEM.domain)
    assert (host.host_uuid, host.hostid, host.path) == (SYSTEM.host_uuid, SYSTEM.host_id, "/")
    assert (host.parent, host.securelevel, host.own_vnet) == (Absent.NOT_APPLICABLE, SYSTEM.securelevel, True)
    assert (host.children, host.children_max, host.enforce_statfs, host.devfs_ruleset) == (3, 999_999, 0, 0)
    assert host.osreldate == walkable(kernel).integer("osreldate")


@pytest.mark.parametrize("truth", SYSTEM.jails[1:], ids=lambda jail: jail.name)
def test_every_field_of_a_jail(kernel: str, truth: Truth):
    item = found(walkable(kernel))[truth.jid]
    world = build_world(kernel)
    host_release = walkable(kernel).text(walkable(kernel).address("osrelease"))
    assert (item.name, item.hostname, item.domainname, item.path) == (truth.name, truth.hostname, "", truth.path)
    assert (item.ip4, item.ip6) == (truth.ip4, truth.ip6)
    assert (item.parent, item.state, item.securelevel) == (truth.parent, "alive", truth.securelevel)
    assert item.osrelease == (truth.osrelease or host_release)
    assert (item.host_uuid, item.hostid) == (truth.host_uuid or NO_UUID, 0)
    assert (item.own_vnet, item.vnet) == (truth.vnet, int(world.get("vnet", world.vnet_of(truth.jid))))
    assert item.children == sum(other.parent == truth.jid for other in SYSTEM.jails[1:])
    assert (item.children_max, item.enforce_statfs, item.devfs_ruleset) == (truth.children_max, 2, 4)
    assert (item.allow, item.processes) == (allow_bits(truth), len(jail_processes(world, truth)))


def test_parameters_by_the_names_of_jls(kernel: str):
    items = found(walkable(kernel))
    # What 12 and an early 13 call these two bits is not certain.
    certain = ("allow.unprivileged_proc_debug", "allow.suser") if is_new(kernel) else ()
    rest = () if certain else ("allow=0x600",)
    assert items[1].parameters == (
        *("persist", "host=new", "vnet=inherit", "ip4=new", "ip6=new", "allow.set_hostname", "allow.raw_sockets"),
        *certain,
        *("allow.reserved_ports", *rest),
    )
    assert items[2].parameters == (
        *("persist", "host=new", "vnet=new", "ip4=inherit", "ip6=inherit"),
        *("allow.set_hostname", "allow.sysvipc", "allow.mount", *certain, "allow.reserved_ports", *rest),
    )


def test_all_that_the_host_may(kernel: str):
    parameters = found(walkable(kernel))[0].parameters
    assert isinstance(parameters, tuple)
    assert parameters[:4] == ("host=new", "vnet=new", "ip4=inherit", "ip6=inherit")
    assert ("allow.setaudit" in parameters) == kernel.startswith("15")
    assert ("allow.nfsd" in parameters) == is_new(kernel)
    assert any(one.startswith("allow=") for one in parameters) == (not is_new(kernel))


def test_one_jail_by_its_address(name: str):
    item = jail_of(walkable(name), prison(name, 1))
    assert (item.jid, item.hostname, item.ip4, item.processes) == (1, WEB.hostname, WEB.ip4, Absent.NOT_AVAILABLE)


# Names of the bits


def test_names_of_flags():
    assert list(flag_names(0, vimage=False, has_ip4=False, has_ip6=False)) == [
        *("host=inherit", "ip4=inherit", "ip4.nosaddrsel", "ip6=inherit", "ip6.nosaddrsel"),
    ]
    assert list(flag_names(0x4000019F, vimage=True, has_ip4=True, has_ip6=False)) == [
        *("persist", "host=new", "vnet=new", "ip4=new", "ip6=disable", "flags=0x40000000"),
    ]


def test_names_that_a_kernel_has_itself(name: str):
    """12.0: the table also has what modules added."""
    patch = Patch(name)
    table, texts = patch.room(32 * 3 * patch.word), patch.room(64)
    patch.text(texts, b"allow.mount.zfs\0allow.vmm\0wrong\0")
    for index, (offset, bit) in enumerate(((0, 0x200), (16, 0x800), (26, 0x1000), (0, 0x6000))):
        entry = table + index * 3 * patch.word
        patch.pointer(entry, texts + offset).number(entry + 2 * patch.word, bit, 4)
    kernel = with_symbols(damaged(name, patch), {"pr_flag_allow": table})
    names = AllowNames.of(kernel)
    assert list(names.text(0x1A00)) == ["allow.mount.zfs", "allow.vmm", "allow=0x1000"]


def test_names_up_to_11(name: str):
    patch = Patch(name)
    table, size, texts = patch.room(2 * patch.word), patch.room(patch.word), patch.room(64)
    patch.text(texts, b"allow.set_hostname\0allow.example\0")
    patch.pointer(table, texts).pointer(table + patch.word, texts + 19).pointer(size, 2 * patch.word)
    kernel = with_symbols(damaged(name, patch), {"pr_allow_names": table, "pr_allow_names_size": size})
    assert list(AllowNames.of(kernel).text(3)) == ["allow.set_hostname", "allow.example"]


def test_without_a_release_only_what_is_the_same_in_all_has_a_name(name: str):
    names = AllowNames.of(without_symbols(walkable(name), "osreldate"))
    assert list(names.text(0xFFFF)) == [
        *("allow.set_hostname", "allow.sysvipc", "allow.raw_sockets", "allow.chflags", "allow.mount"),
        *("allow.quotas", "allow.socket_af", "allow=0xff80"),
    ]


# Dying and hidden ones


def test_dying(name: str):
    patch = Patch(name)
    member, value = ("pr_state", 2) if is_new(name) else ("pr_uref", 0)
    assert found(damaged(name, patch.member("prison", prison(name, 1), member, value)))[1].state == "dying"


def test_unknown_state():
    patch = Patch("15-arm64").member("prison", prison("15-arm64", 1), "pr_state", 9)
    assert found(damaged("15-arm64", patch))[1].state == "unknown (9)"


def test_jail_that_is_not_in_the_list(name: str):
    """db is taken out of allprison, properly."""
    web, pg = prison(name, 1), prison(name, 3)
    at = walkable(name).structs.offset("prison", "pr_list")
    patch = Patch(name).member("prison", web, "pr_list.tqe_next", pg)
    patch.member("prison", pg, "pr_list.tqe_prev", web + at)
    items = found(damaged(name, patch))
    assert {jid: (item.level, item.notes) for jid, item in items.items()} == {
        0: (0, ()),
        1: (1, ()),
        2: (1, ("not in allprison: only the tree of jails leads to it",)),
        3: (2, ()),
    }
    assert problems(damaged(name, patch)) == []


def test_jail_that_only_its_processes_lead_to(name: str):
    """web is in no list."""
    web, db, host = (prison(name, jid) for jid in (1, 2, 0))
    structs = walkable(name).structs
    head = walkable(name).address("allprison")
    sibling = structs.offset("prison", "pr_sibling")
    patch = Patch(name).first(head, db).member("prison", db, "pr_list.tqe_prev", head)
    # The youngest child is first: db, then web.
    patch.member("prison", db, "pr_sibling.le_next", 0)
    assert structs.pointer(db + sibling) == web
    items = found(damaged(name, patch))
    pids = list(jail_processes(build_world(name), WEB))
    assert items[1].notes in [
        (f"neither in allprison nor in the tree: only process {pid} leads to it",) for pid in pids
    ]
    assert (items[1].level, items[1].hostname, items[1].processes) == (1, "web.example", 2)
    assert items[0].address == host


def test_jail_that_its_parent_does_not_know(name: str):
    patch = Patch(name).first(prison(name, 2) + walkable(name).structs.offset("prison", "pr_children"), 0)
    items = found(damaged(name, patch))
    assert (items[3].level, items[3].notes) == (2, ("not among the children of its parent",))


# Damage


def test_looped_list(name: str):
    patch = Patch(name).member("prison", prison(name, 3), "pr_list.tqe_next", prison(name, 1))
    kernel = damaged(name, patch)
    assert list(found(kernel)) == [0, 1, 2, 3]
    assert problems(kernel) == [f"allprison: loops back to {prison(name, 1):#x} after 3 elements"]


def test_jails_that_are_each_others_parents(name: str):
    patch = Patch(name).member("prison", prison(name, 2), "pr_parent", prison(name, 3))
    items = [item for item in jails(damaged(name, patch)) if isinstance(item, Jail)]
    assert [(item.jid, item.level) for item in items] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert items[2].notes == ("its parents form a loop",)


def test_children_that_loop(name: str):
    patch = Patch(name).member("prison", prison(name, 1), "pr_sibling.le_next", prison(name, 2))
    kernel = damaged(name, patch)
    assert list(found(kernel)) == [0, 1, 2, 3]
    assert problems(kernel) == [f"children of jail 0: loops back to {prison(name, 2):#x} after 2 elements"]


def test_lists_of_children_that_all_lead_into_each_other(name: str, monkeypatch: pytest.MonkeyPatch):
    """They have a number of elements together."""
    monkeypatch.setattr(jail, "MAX_CHILDREN", 2)
    items = list(jails(walkable(name)))
    assert [item.jid for item in items if isinstance(item, Jail)] == [0, 1, 2, 3]
    assert [str(item) for item in items if isinstance(item, Problem)] == [
        "pr_children: the jails have more than 2 children in all"
    ]


def test_two_billion_addresses(name: str):
    web = prison(name, 1)
    patch = Patch(name)
    if is_new(name):
        block = walkable(name).structs.pointer(web + walkable(name).structs.offset("prison", "pr_addrs"))
        patch.number(block + walkable(name).structs.offset("prison_ip", "ips"), 0x7FFFFFFF, 4)
    else:
        patch.member("prison", web, "pr_ip4s", 0x7FFFFFFF)
    item = found(damaged(name, patch))[1]
    assert (item.ip4, item.ip6) == (Absent.NOT_AVAILABLE, WEB.ip6)
    assert item.notes == ("2147483647 IPv4 addresses are impossible",)


def test_addresses_in_nowhere(name: str):
    at = walkable(name).structs.offset("prison", "pr_addrs" if is_new(name) else "pr_ip4")
    item = found(damaged(name, Patch(name).pointer(prison(name, 1) + at, NOWHERE)))[1]
    assert item.ip4 is Absent.UNREADABLE
    place = NOWHERE + (2 * build_world(name).memory.types.pointer_size if is_new(name) else 0)
    reason = nowhere(name).replace("0x10", f"{place:#x}")
    assert item.notes == (f"its IPv4 addresses cannot be read: address {place:#x} {reason}",)


def test_lists_of_processes_that_differ():
    name = "15-arm64"
    patch = Patch(name).first(prison(name, 1) + walkable(name).structs.offset("prison", "pr_proclist"), 0)
    item = found(damaged(name, patch))[1]
    assert (item.processes, item.notes) == (2, ("pr_proclist has 0 processes, allproc has 2",))


def test_name_without_an_end(name: str):
    size = walkable(name).structs.member("prison", "pr_name")[1]["count"]
    at = walkable(name).structs.offset("prison", "pr_name")
    item = found(damaged(name, Patch(name).text(prison(name, 1) + at, b"x" * size)))[1]
    assert item.name == "x" * size


def test_without_the_type_of_a_block_of_addresses():
    """kern_jail.c's own: not among the types of a kernel that were pruned."""
    kernel = walkable("15-arm64")
    types = kernel.structs.types
    without = {name: kind for name, kind in types.user_types.items() if name != "prison_ip"}
    pruned = type(types)(types.base_types, without, types.enums)
    structs = type(kernel.structs)(kernel.structs.read, pruned, 64, "little")
    names = type(kernel.names)(kernel.names.symbols, structs)
    item = found(type(kernel)(names, kernel.architecture))[1]
    assert (item.ip4, item.ip6) == (WEB.ip4, WEB.ip6)


def test_without_types():
    assert problems(without_types("15-arm64")) == [
        (
            "prison0: the types of this kernel lack prison.pr_id, prison.pr_list; "
            "a kernel file with type information (--freebsd-kernel) would tell them"
        )
    ]


def test_without_the_symbol_of_the_list(name: str):
    kernel = without_symbols(walkable(name), "allprison")
    items = found(kernel)
    # The youngest child comes first in the tree.
    assert [(jid, item.level, item.notes) for jid, item in items.items()] == [
        *((0, 0, ()), (2, 1, ()), (3, 2, ()), (1, 1, ())),
    ]
    assert problems(kernel) == ["allprison: the kernel and its modules have no symbol allprison"]
