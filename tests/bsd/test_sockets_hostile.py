"""Sockets in memory that is torn or was made to lead walkers astray: each walk ends, and says where and why."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.bsd.damage import Damage
from tests.bsd.socket_truth import SOCKETS, expected, pcb
from tests.bsd.test_sockets import line, peers_named
from tests.bsd.test_sockets_hidden import BY_HASHES, database, hash_links, is_complete, listed, look
from tests.scenario.build_syncache import HASH_SIZE
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import walkable
from tests.writers.objects import content
from volatility3_freebsd_kvm.bsd.connection import Connection
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.sockets import Selection, find_connections
from volatility3_freebsd_kvm.exceptions import AddressError, SymbolError
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable

SHAPES = ("12.1-i386", "13.0-amd64", "14-powerpc64", "15-amd64")
NOWHERE = 0x1000

pytestmark = pytest.mark.parametrize("kernel", SHAPES, scope="session")


@pytest.fixture
def damage(kernel: str) -> Damage:
    return Damage(kernel)


def all_of(damage: Damage) -> tuple[list[Connection], list[str]]:
    started = time.monotonic()
    connections, problems = find_connections(damage.kernel())
    assert time.monotonic() - started < 20
    return connections, [str(problem) for problem in problems]


def reason(damage: Damage, address: int) -> str:
    """Why nothing can be read there: on powerpc64 the page may be mapped, but not be in the dump."""
    with pytest.raises(AddressError) as caught:
        walkable(damage.name).structs.read(address, 1)
    return str(caught.value)


def members(damage: Damage, protocol: str = "tcp", jid: int = 0) -> list[str]:
    """Keys in the order of the list: the youngest in front."""
    items = [item for item in SYSTEM.sockets if (item.protocol, item.vnet) == (protocol, jid)]
    return [item.key for item in items[::-1] if damage.world.find("inpcb", item.key)]


# Lists


def test_a_list_that_loops(damage: Damage) -> None:
    keys = members(damage)
    first, last = (damage.world.get("inpcb", keys[at]) for at in (0, -1))
    damage.set(last, "inp_list", int(first))
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert problems == [f"list of {database(damage)}: loops back to {int(first):#x} after {len(keys)} elements"]


def test_a_list_that_ends_nowhere(damage: Damage) -> None:
    keys = members(damage)
    damage.set(damage.world.get("inpcb", keys[2]), "inp_list", NOWHERE)
    connections, problems = all_of(damage)
    by_pcb = {one.pcb: one for one in connections}
    at = NOWHERE + damage.types.offsetof("inpcb", "inp_list")
    text = f"ends after 4 elements where {reason(damage, at)}"
    assert problems == [f"list of {database(damage)}: {text}"]
    for key in keys[:3]:
        assert not any("list" in note for note in by_pcb[pcb(damage.world, SOCKETS[key])].notes)
    for key in keys[3:]:
        one = by_pcb[pcb(damage.world, SOCKETS[key])]
        assert one.notes[0] == f"not reached on the list of {database(damage)}, which is broken; {BY_HASHES}"
        assert peers_named(line(one)) == expected(damage.name, SOCKETS[key])
    # What the list leads to is shown as what it is.
    lost = by_pcb[NOWHERE]
    assert (lost.shown_protocol(), lost.local, lost.state) == ("tcp", Absent.UNREADABLE, Absent.UNREADABLE)
    at = NOWHERE + damage.types.offsetof("inpcb", "inp_vflag")
    assert f"inpcb {NOWHERE:#x} cannot be read: {reason(damage, at)}" in lost.notes


def test_a_list_that_leads_to_a_misaligned_address(damage: Damage) -> None:
    keys = members(damage)
    place = int(damage.world.get("inpcb", keys[3])) + 1
    damage.set(damage.world.get("inpcb", keys[2]), "inp_list", place)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    text = f"leads to the misaligned address {place:#x} after 3 elements"
    assert problems == [f"list of {database(damage)}: {text}"]


def test_a_head_that_leads_nowhere(damage: Damage) -> None:
    info = damage.world.vnet_symbol(0, "udbinfo")
    place = damage.at(info, "ipi_listhead")
    if damage.types.member("inpcbinfo", "ipi_listhead").type["kind"] == "pointer":
        damage.put(place, NOWHERE)
        text = f"ends after 0 elements where {reason(damage, NOWHERE)}"
    else:
        damage.put(place, NOWHERE)
        at = NOWHERE + damage.types.offsetof("inpcb", "inp_list")
        text = f"ends after 1 elements where {reason(damage, at)}"
    connections, problems = all_of(damage)
    assert problems == [f"list of {database(damage, protocol='udp')}: {text}"]
    shown = {one.pcb: one for one in connections}
    for key in members(damage, "udp"):
        assert peers_named(line(shown[pcb(damage.world, SOCKETS[key])])) == expected(damage.name, SOCKETS[key])


def test_a_count_that_is_wrong(damage: Damage) -> None:
    damage.set(damage.world.vnet_symbol(0, "tcbinfo"), "ipi_count", 99, 4)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert problems == [f"list of {database(damage)}: {listed(damage)} found, but the kernel counts 99"]


# Hash tables


def table(damage: Damage) -> str:
    return "ipi_hash_exact" if damage.world.has("inpcbinfo", "ipi_hash_exact") else "ipi_hashbase"


def test_a_hash_chain_that_loops(damage: Damage) -> None:
    one = damage.world.get("inpcb", "ssh-session")
    link = hash_links(damage, "ssh-session")[0]
    damage.set(one, link, int(one))
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    (problem,) = problems
    prefix, _, rest = problem.partition(": ")
    assert prefix == f"hash of {database(damage)}"
    assert rest.startswith("chain ")
    assert rest.endswith(f" of {table(damage)} loops back to {int(one):#x} after 1 elements")


@pytest.mark.parametrize("mask", [0x1234, (1 << 31) - 1])
def test_a_hash_mask_that_is_none(damage: Damage, mask: int) -> None:
    damage.set(damage.world.vnet_symbol(0, "tcbinfo"), "ipi_hashmask", mask)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert {one.notes for one in shown.values() if one.protocol == "tcp" and one.holders} == {()}
    assert set(problems) == {
        f"hash of {database(damage)}: ipi_hashmask is {mask:#x}, which is no number of chains less one"
    }


def test_a_hash_table_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.vnet_symbol(0, "tcbinfo"), table(damage), NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert problems == [f"hash of {database(damage)}: chains 0 to 511 cannot be read: {reason(damage, NOWHERE)}"]


def test_a_hash_table_of_ports_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.vnet_symbol(0, "tcbinfo"), "ipi_porthashbase", NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert problems == [f"ports of {database(damage)}: chains 0 to 511 cannot be read: {reason(damage, NOWHERE)}"]


# SYN cache


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_a_syn_cache_of_impossible_size(damage: Damage, size: int) -> None:
    damage.set(damage.world.vnet_symbol(0, "tcp_syncache"), "hashsize", size, 4)
    connections, problems = all_of(damage)
    vnet = int(damage.world.get("vnet", 0))
    assert problems == [f"syncache of vnet {vnet:#x}: {size} buckets are impossible"]
    assert len(connections) == len(SYSTEM.sockets) - 2


def test_a_syn_cache_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.vnet_symbol(0, "tcp_syncache"), "hashbase", NOWHERE)
    connections, problems = all_of(damage)
    assert len(connections) == len(SYSTEM.sockets) - 2
    head = NOWHERE + damage.types.offsetof("syncache_head", "sch_bucket")
    vnet = int(damage.world.get("vnet", 0))
    assert problems[0] == f"syncache of vnet {vnet:#x}: bucket 0 cannot be read: {reason(damage, head)}"
    # One problem a page.
    size = damage.types.sizeof("struct syncache_head")
    assert len(problems) in (HASH_SIZE * size // 4096, HASH_SIZE * size // 4096 + 1)


def test_a_bucket_that_loops(damage: Damage) -> None:
    one = damage.world.get("syncache", "syn-received")
    damage.set(one, "sc_hash", int(one))
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    (problem,) = problems
    assert problem.endswith(f" loops back to {int(one):#x} after 1 elements")


# Sockets


def test_a_socket_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("inpcb", "nfsd"), "inp_socket", NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown, but="nfsd")
    assert problems == []
    one = shown["nfsd"]
    assert (one.local_text(), one.state, one.received) == ("*:2049", "LISTEN", Absent.UNREADABLE)
    at = NOWHERE + damage.types.offsetof("socket", "so_options")
    assert f"socket {NOWHERE:#x} cannot be read: {reason(damage, at)}" in one.notes


def test_a_credential_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("socket", "ssh4"), "so_cred", NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown, but="ssh4")
    at = NOWHERE + damage.types.offsetof("ucred", "cr_uid")
    assert shown["ssh4"].notes == (f"so_cred cannot be read: {reason(damage, at)}",)
    assert shown["ssh4"].creator.uid is Absent.UNREADABLE
    assert problems == []


def test_a_protocol_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("socket", "ssh4"), "so_proto", NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    at = NOWHERE + damage.types.offsetof("protosw", "pr_type")
    assert shown["ssh4"].notes == (f"so_proto cannot be read: {reason(damage, at)}",)
    assert problems == []


def test_an_accept_queue_that_loops(damage: Damage) -> None:
    first, second = (damage.world.get("socket", f"web-waiting-{number}") for number in (1, 2))
    damage.set(second, "so_list", int(first))
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    where = f"queue of complete connections of socket {int(damage.world.get('socket', 'web')):#x}"
    assert problems == [f"{where}: loops back to {int(first):#x} after 2 elements"]


def test_an_accept_queue_that_ends_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("socket", "web-waiting-2"), "so_list", NOWHERE)
    connections, problems = all_of(damage)
    where = f"queue of complete connections of socket {int(damage.world.get('socket', 'web')):#x}"
    at = NOWHERE + damage.types.offsetof("socket", "so_list")
    assert problems[0] == f"{where}: ends after 3 elements where {reason(damage, at)}"
    assert problems[1:] == [f"{where}: 3 found, but the socket counts 2"]
    lost = next(one for one in connections if one.socket and one.socket.address == NOWHERE)
    assert (lost.protocol, lost.pcb, lost.holders) == ("unknown", Absent.UNREADABLE, ())


def test_tcp_that_is_nowhere(damage: Damage) -> None:
    """A pointer to it there is up to 13 only."""
    if damage.types.member("tcpcb", "t_inpcb").type["kind"] == "struct":
        return
    damage.set(damage.world.get("inpcb", "ssh4"), "inp_ppcb", NOWHERE)
    damage.set(damage.world.get("inpcb", "ssh6"), "inp_ppcb", 0)
    shown, _ = look(damage)
    at = NOWHERE + damage.types.offsetof("tcpcb", "t_state")
    assert shown["ssh4"].state is Absent.UNREADABLE
    assert shown["ssh4"].notes == (f"tcpcb {NOWHERE:#x} cannot be read: {reason(damage, at)}",)
    assert (shown["ssh6"].state, shown["ssh6"].notes) == ("CLOSED", ("it has no tcpcb",))


# unix(4)


def test_a_list_of_unix_sockets_that_loops(damage: Damage) -> None:
    one = damage.world.get("unpcb", "log")
    first = damage.world.get("unpcb", "log-client")
    damage.set(one, "unp_link", int(first))
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert problems == [f"list of dgram sockets: loops back to {int(first):#x} after 2 elements"]


def test_senders_that_loop(damage: Damage) -> None:
    one = damage.world.get("unpcb", "log-client")
    damage.set(one, "unp_reflink", int(one))
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert problems == []
    note = f"the list of sockets connected to it loops back to {int(one):#x} after 1 elements"
    assert shown["log"].notes == (note,)


def test_a_path_without_an_end(damage: Damage) -> None:
    """sun_len says more than there is: what lies behind the path is taken for it up to the first NUL."""
    address = damage.pointer(damage.at(damage.world.get("unpcb", "log"), "unp_addr"))
    damage.put(address, 255, 1)
    shown, problems = look(damage)
    path = shown["log"].local_text()
    assert isinstance(path, str)
    assert path.startswith("/var/run/log\ufffd")
    assert len(path) <= 253
    assert problems == []


def test_a_path_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("unpcb", "log"), "unp_addr", NOWHERE)
    shown, _ = look(damage)
    assert shown["log"].local is Absent.UNREADABLE
    assert shown["log"].notes == (f"unp_addr cannot be read: {reason(damage, NOWHERE)}",)
    assert shown["log-client"].foreign_text() == "-> [700 6]"


# Descriptors


def test_a_descriptor_table_of_impossible_size(damage: Damage) -> None:
    table = damage.pointer(damage.at(damage.world.get("filedesc", 820), "fd_files"))
    damage.put(table + damage.types.offsetof("fdescenttbl", "fdt_nfiles"), 0x7FFF_FFFF, 4)
    connections, problems = all_of(damage)
    limit = 65536
    if damage.world.has_symbol("maxfilesperproc"):
        limit = 2 * int.from_bytes(
            content(damage.world.symbol("maxfilesperproc")), walkable(damage.name).structs.byteorder
        )
    text = f"2147483647 descriptors are impossible; the first {limit} were looked at"
    assert problems[0] == f"descriptors of process 820: {text}"
    # What lies behind the table may look like anything, but costs one problem.
    assert len(problems) <= 2
    shown = {one.pcb: one for one in connections}
    held = shown[pcb(damage.world, SOCKETS["ssh-session"])].holders
    assert (held[0].pid, held[0].fd) == (820, 3)


def test_a_file_that_is_nowhere(damage: Damage) -> None:
    damage.put(damage.descriptor(820, 3), NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    at = NOWHERE + damage.types.offsetof("file", "f_type")
    assert problems == [f"descriptors of process 820: 3 leads nowhere: {reason(damage, at)}"]
    assert shown["ssh-session"].notes == ("no process has a descriptor of it",)


def test_a_descriptor_table_that_is_nowhere(damage: Damage) -> None:
    damage.set(damage.world.get("filedesc", 820), "fd_files", NOWHERE)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    at = NOWHERE + damage.types.offsetof("fdescenttbl", "fdt_nfiles")
    assert problems == [f"descriptors of process 820: {reason(damage, at)}"]
    assert shown["ssh6-session"].holders == ()


def test_a_process_list_that_loops(damage: Damage) -> None:
    proc = damage.world.get("proc", 820)
    damage.set(proc, "p_list", int(proc))
    shown, problems = look(damage)
    assert len(shown) == len(SYSTEM.sockets)
    (problem,) = problems
    assert problem.startswith(f"allproc: loops back to {int(proc):#x} after ")
    assert [holder.pid for holder in shown["ssh-session"].holders] == [820]


# Kernels that know less


def test_types_without_sockets(kernel: str) -> None:
    damage = Damage(kernel)
    types = walkable(kernel).structs.types.pruned(["proc", "thread", "vnet", "prison", "ucred"])
    connections, problems = find_connections(damage.kernel(types=types))
    assert connections == []
    needed = "struct socket, struct inpcb, struct inpcbinfo, struct unpcb"
    assert problems == [Problem("sockets", f"this kernel's types have none of {needed}: sockets cannot be found")]


def test_types_without_descriptor_tables(kernel: str) -> None:
    """Nobody may say then that a socket has no owner."""
    damage = Damage(kernel)
    known = walkable(kernel).structs.types
    types = replace(known, user_types={name: one for name, one in known.user_types.items() if name != "filedesc"})
    connections, problems = find_connections(damage.kernel(types=types))
    text = "the types of this kernel have no member fd_files in struct filedesc"
    assert problems == [Problem("descriptor tables", f"{text}, so the owners of sockets are not known")]
    assert len(connections) == len(SYSTEM.sockets)
    assert not any(one.holders for one in connections)
    assert not any("no process" in note for one in connections for note in one.notes)


def test_types_without_tcp(kernel: str) -> None:
    damage = Damage(kernel)
    known = walkable(kernel).structs.types
    missing = ("tcpcb", "tcptw", "syncache", "protosw", "domain", "prison", "ucred", "xucred", "tcp_timer")
    types = known.pruned([name for name in known.user_types if name not in missing])
    types.user_types = {name: one for name, one in types.user_types.items() if name not in missing}
    connections, problems = find_connections(damage.kernel(types=types))
    ends = {(one.shown_protocol(), one.local_text(), one.foreign_text()) for one in connections if not one.is_unix}
    here = [item for item in SYSTEM.sockets if (item.family != "unix" and item.state != "SYN_RCVD") or item.listener]
    assert ends == {(line.protocol, line.local, line.foreign) for line in (expected(kernel, item) for item in here)}
    states = {one.state for one in connections if one.protocol == "tcp"}
    assert states <= {Absent.NOT_AVAILABLE, "TIME_WAIT"}
    text = "the types of this kernel have no member sc_hash in struct syncache"
    assert problems == [Problem("syncache", text)]


def without_vimage(damage: Damage) -> SymbolTable:
    """The symbols as of a kernel without VIMAGE, and the host's variables where their templates are."""
    names = walkable(damage.name).names
    start, stop = names.symbols.value("__start_set_vnet"), names.symbols.value("__stop_set_vnet")
    assert start is not None
    assert stop is not None
    kept = []
    for one in names.symbols:
        if one.name in ("__start_set_vnet", "__stop_set_vnet", "vnet0", "vnet_head"):
            continue
        kept.append(Symbol(one.name.removeprefix("vnet_entry_"), one.value, one.size, one.info))
    memory = damage.world.memory
    moved = int(damage.world.vnet_symbol(0, "tcbinfo")) - names.symbols.value("vnet_entry_tcbinfo")  # type: ignore[operator]
    running = start + names.kerndisp
    damage.changes[running] = memory.read(start + moved, stop - start)
    # Elements in front of a list point back to its head.
    for protocol, name in (("tcp", "tcbinfo"), ("udp", "udbinfo"), ("raw", "ripcbinfo")):
        info = damage.world.vnet_symbol(0, name)
        if damage.types.member("inpcbinfo", "ipi_listhead").type["kind"] == "struct":
            first = damage.world.get("inpcb", members(damage, protocol)[0])
            place = damage.at(info, "ipi_listhead") - moved + names.kerndisp
            damage.put(damage.at(first, "inp_list") + damage.word, place)
        for key in members(damage, protocol):
            damage.set(damage.world.get("inpcb", key), "inp_pcbinfo", int(info) - moved + names.kerndisp)
    return SymbolTable(kept)


def test_a_kernel_without_vimage(damage: Damage) -> None:
    kernel = damage.kernel(symbols=without_vimage(damage))
    assert [view.vnet for view in kernel.vnets()] == [None]
    connections, problems = find_connections(kernel)
    assert problems == []
    shown = {int(one.pcb): one for one in connections if isinstance(one.pcb, int)}
    host = [item for item in SYSTEM.sockets if item.vnet == 0]
    for item in host:
        one = shown[pcb(damage.world, item)]
        assert peers_named(line(one)) == expected(damage.name, item)._replace(vnet=0), item.key
        assert not any("hidden" in note or "vnet" in note for note in one.notes), item.key
    with pytest.raises(SymbolError, match=r"^there is no vnet db; there are: none \(a kernel without VIMAGE"):
        list(Selection(vnet="db").rows(kernel))


def test_a_vnet_or_jail_that_is_not_there(damage: Damage) -> None:
    kernel = damage.kernel()
    with pytest.raises(SymbolError, match=r"^there is no vnet nine; there are: 0x"):
        list(Selection(vnet="nine").rows(kernel))
    with pytest.raises(SymbolError, match=r"^there is no jail nine; there are: 0 0, 1 web, 2 db, 3 db.pg"):
        list(Selection(jail="nine").rows(kernel))
