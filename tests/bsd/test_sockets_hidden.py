"""Sockets that some of the places do not have which should: what is said of them, and that nothing else changes."""

from __future__ import annotations

import pytest

from tests.bsd.damage import Damage
from tests.bsd.socket_truth import SOCKETS, expected, holders, pcb
from tests.bsd.test_sockets import line, peers_named
from volatility3_freebsd_kvm.bsd.connection import Connection
from volatility3_freebsd_kvm.bsd.sockets import find_connections

SHAPES = ("12.1-amd64", "12.1-i386", "14-powerpc64", "15-arm64")
"""Every generation, word size and byte order."""
BY_HASHES = "known by the hash of connections and the hash of ports"

pytestmark = pytest.mark.parametrize("kernel", SHAPES, scope="session")


@pytest.fixture
def damage(kernel: str) -> Damage:
    return Damage(kernel)


def look(damage: Damage) -> tuple[dict[str, Connection], list[str]]:
    """Connections by key, and problems as text."""
    connections, problems = find_connections(damage.kernel())
    keys = {pcb(damage.world, item): key for key, item in SOCKETS.items()}
    shown = {keys[int(one.pcb)]: one for one in connections}  # type: ignore[arg-type]
    assert len(shown) == len(connections)
    return shown, [str(problem) for problem in problems]


def is_complete(damage: Damage, shown: dict[str, Connection], *, but: str = "") -> bool:
    """Whether every socket is shown as it is."""
    return all(
        peers_named(line(shown[key])) == expected(damage.name, item) for key, item in SOCKETS.items() if key != but
    )


def database(damage: Damage, jid: int = 0, protocol: str = "tcp") -> str:
    return f"{protocol} in vnet {int(damage.world.get('vnet', jid)):#x}"


def listed(damage: Damage, protocol: str = "tcp") -> int:
    """How many control blocks the list of the host's vnet has."""
    items = [item for item in SOCKETS.values() if (item.protocol, item.vnet) == (protocol, 0)]
    return sum(bool(damage.world.find("inpcb", item.key)) for item in items)


def hash_links(damage: Damage, key: str) -> list[str]:
    """The links of its hash table of connections."""
    if not damage.world.has("inpcb", "inp_hash_exact"):
        return ["inp_hash"]
    return ["inp_hash_exact" if SOCKETS[key].foreign[1] else "inp_hash_wild"]


def test_a_connection_that_the_list_lacks(damage: Damage) -> None:
    damage.unlink(damage.world.get("inpcb", "ssh-session"), "inp_list")
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    one = shown["ssh-session"]
    assert one.notes == (f"hidden: not on the list of {database(damage)}, {BY_HASHES}",)
    assert [(holder.pid, holder.fd) for holder in one.holders] == [(820, 3)]
    count = listed(damage)
    assert problems == [f"list of {database(damage)}: {count - 1} found, but the kernel counts {count}"]


def test_a_connection_that_only_its_descriptor_leads_to(damage: Damage) -> None:
    for link in ("inp_list", "inp_portlist", *hash_links(damage, "ssh-session")):
        damage.unlink(damage.world.get("inpcb", "ssh-session"), link)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert shown["ssh-session"].notes == (f"hidden: not on the list of {database(damage)}, known by its descriptor",)
    assert len(problems) == 1


def test_a_link_that_was_bent_around_a_connection(damage: Damage) -> None:
    """Only the pointer forward was changed: the list goes on, and the next link back tells."""
    hidden = damage.world.get("inpcb", "fin")
    place = damage.at(hidden, "inp_list")
    following, slot = damage.pointer(place), damage.pointer(place + damage.word)
    damage.put(slot, following)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert shown["fin"].notes == (f"hidden: not on the list of {database(damage)}, {BY_HASHES}",)
    count = listed(damage)
    where = f"list of {database(damage)}"
    assert problems == [
        f"{where}: the link back of {following:#x} leads to {place:#x}, not to {slot:#x}",
        f"{where}: {count - 1} found, but the kernel counts {count}",
    ]


def test_a_connection_of_a_jail_that_only_its_descriptor_leads_to(damage: Damage) -> None:
    for link in ("inp_list", "inp_portlist", *hash_links(damage, "pg-client")):
        damage.unlink(damage.world.get("inpcb", "pg-client"), link)
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    assert shown["pg-client"].notes == (f"hidden: not on the list of {database(damage, 2)}, known by its descriptor",)


def test_a_connection_that_only_an_accept_queue_leads_to(damage: Damage) -> None:
    for link in ("inp_list", "inp_portlist", *hash_links(damage, "web-waiting-1")):
        damage.unlink(damage.world.get("inpcb", "web-waiting-1"), link)
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    web = int(damage.world.get("socket", "web"))
    assert shown["web-waiting-1"].notes == (
        f"hidden: not on the list of {database(damage)}, known by an accept queue",
        f"waits to be accepted at socket {web:#x}",
    )


def test_a_connection_that_the_hash_lacks(damage: Damage) -> None:
    for link in hash_links(damage, "ssh4"):
        damage.unlink(damage.world.get("inpcb", "ssh4"), link)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert shown["ssh4"].notes == ("in no hash of connections, though flagged so (INP_INHASHLIST)",)
    assert problems == []


def test_a_connection_that_the_hash_of_ports_lacks(damage: Damage) -> None:
    damage.unlink(damage.world.get("inpcb", "dns"), "inp_portlist")
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    assert shown["dns"].notes == ("in no hash of ports, though flagged so (INP_INHASHLIST)",)


def test_a_connection_that_no_process_has(damage: Damage) -> None:
    damage.put(damage.descriptor(820, 3), 0)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    assert shown["ssh-session"].holders == ()
    assert shown["ssh-session"].notes == ("no process has a descriptor of it",)
    assert problems == []


def test_a_process_that_allproc_lacks(damage: Damage) -> None:
    damage.unlink(damage.world.get("proc", 800), "p_list")
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    for key in ("ssh4", "ssh6"):
        assert shown[key].notes == ("no process has a descriptor of it",)
    assert shown["ssh-session"].holders[0].pid == 820


def test_a_control_block_that_denies_its_socket(damage: Damage) -> None:
    damage.set(damage.world.get("inpcb", "ssh-session"), "inp_socket", 0)
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    socket = int(damage.world.get("socket", "ssh-session"))
    said = f"socket {socket:#x} says that it is its own, but inp_socket leads elsewhere"
    assert shown["ssh-session"].notes == (said,)
    assert [(holder.pid, holder.fd) for holder in shown["ssh-session"].holders] == holders(SOCKETS["ssh-session"])


def test_a_control_block_with_the_socket_of_another(damage: Damage) -> None:
    other = damage.world.get("socket", "nfsd")
    damage.set(damage.world.get("inpcb", "time-wait"), "inp_socket", int(other))
    shown, _ = look(damage)
    said = f"its socket {int(other):#x} belongs to control block {int(damage.world.get('inpcb', 'nfsd')):#x}"
    assert shown["time-wait"].notes[0] == said


def test_a_queue_that_lacks_a_socket(damage: Damage) -> None:
    damage.unlink(damage.world.get("socket", "web-waiting-2"), "so_list")
    shown, problems = look(damage)
    web = int(damage.world.get("socket", "web"))
    assert shown["web-waiting-2"].notes == (f"socket {web:#x} does not have it in its queues, as it says",)
    assert shown["web-waiting-1"].notes == (f"waits to be accepted at socket {web:#x}",)
    where = f"queue of complete connections of socket {web:#x}"
    assert problems == [f"{where}: 1 found, but the socket counts 2"]


def test_a_socket_that_is_in_another_vnet_than_its_control_block(damage: Damage) -> None:
    jail = int(damage.world.get("vnet", 2))
    damage.set(damage.world.get("socket", "ssh4"), "so_vnet", jail)
    shown, _ = look(damage)
    assert shown["ssh4"].notes == (f"its socket says that it is in vnet {jail:#x}",)
    assert shown["ssh4"].vnet == int(damage.world.get("vnet", 0))


def test_a_control_block_of_another_database(damage: Damage) -> None:
    info = int(damage.world.vnet_symbol(0, "udbinfo"))
    damage.set(damage.world.get("inpcb", "ssh4"), "inp_pcbinfo", info)
    shown, _ = look(damage)
    assert shown["ssh4"].notes == (f"inp_pcbinfo leads to {info:#x}, not to the database of tcp",)


# unix(4)


def test_a_unix_socket_that_the_list_lacks(damage: Damage) -> None:
    damage.unlink(damage.world.get("unpcb", "log"), "unp_link")
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    note = "hidden: not on the list of dgram sockets, known by its descriptor"
    assert shown["log"].notes == (note,)
    count = sum(item.family == "unix" for item in SOCKETS.values())
    assert problems == [f"lists of unix sockets: {count - 1} found, but the kernel counts {count}"]


def test_a_unix_socket_that_only_its_peer_leads_to(damage: Damage) -> None:
    damage.unlink(damage.world.get("unpcb", "seq-a"), "unp_link")
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    assert shown["seq-a"].notes[0] == "hidden: not on the list of seqpacket sockets, known by its peer"


def test_a_unix_control_block_that_denies_its_socket(damage: Damage) -> None:
    damage.set(damage.world.get("unpcb", "log"), "unp_socket", 0)
    shown, problems = look(damage)
    assert is_complete(damage, shown)
    socket = int(damage.world.get("socket", "log"))
    assert shown["log"].notes == (f"socket {socket:#x} says that it is its own, but unp_socket leads elsewhere",)
    assert [(holder.pid, holder.fd) for holder in shown["log"].holders] == holders(SOCKETS["log"])
    assert problems == []


def test_unix_sockets_with_one_control_block(damage: Damage) -> None:
    log = damage.world.get("unpcb", "log")
    damage.set(damage.world.get("socket", "pair-a"), "so_pcb", int(log))
    connections, _ = find_connections(damage.kernel())
    socket = int(damage.world.get("socket", "pair-a"))
    (pair,) = [one for one in connections if one.pcb == int(damage.world.get("unpcb", "pair-a"))]
    assert pair.notes == (f"its socket {socket:#x} belongs to control block {int(log):#x}",)


def test_a_unix_socket_whose_peer_is_none(damage: Damage) -> None:
    damage.set(damage.world.get("unpcb", "seq-a"), "unp_conn", 0x10)
    shown, _ = look(damage)
    assert shown["seq-a"].foreign_text() == "-> 0x10"
    assert shown["seq-a"].notes[0] == "connected to 0x10, which is no unix socket's control block"


def test_who_connected_is_told_once_it_is_somebody_else(damage: Damage) -> None:
    """A process that made a connection for another, or that is gone: the descriptors of both ends are cut."""
    for fd in (1, 2):
        damage.put(damage.descriptor(910, fd), 0)
    shown, _ = look(damage)
    known = damage.world.has("xucred", "cr_pid")
    former = ("its peer was process 910 of user 1001 when they connected",) if known else ()
    closed = "no process has a descriptor of it"
    assert shown["pair-a"].notes == (*former, closed)


# Files


def test_a_file_whose_type_is_changed(damage: Damage) -> None:
    """By its functions it is still a socket."""
    file = damage.pointer(damage.descriptor(820, 3))
    damage.put(file + damage.types.offsetof("file", "f_type"), 1, 2)
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    assert shown["ssh-session"].notes == (f"f_type is 1 in file {file:#x}",)


def test_a_file_whose_functions_are_changed(damage: Damage) -> None:
    file = damage.pointer(damage.descriptor(820, 3))
    damage.put(file + damage.types.offsetof("file", "f_ops"), int(damage.world.symbol("pipeops")))
    shown, _ = look(damage)
    assert is_complete(damage, shown)
    assert shown["ssh-session"].notes == (f"f_ops is not socketops in file {file:#x}",)
