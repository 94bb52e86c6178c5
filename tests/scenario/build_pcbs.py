"""Internet protocol control blocks and their databases (netinet/in_pcb.c, tcp_subr.c, udp_usrreq.c, raw_ip.c).

Until 13 an inpcb leads to its TCP or UDP control block; since 14.0 those begin with their inpcb, and TIME_WAIT, which
had a `struct tcptw`, is a state like others.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.writers.objects import Object, addressof, link_list

from . import tcpcbs
from .build_sockets import credential_of, has_socket
from .model import Socket
from .network_shapes import (
    has_vnet_symbol,
    host_words,
    jenkins_hash32,
    new_table,
    packed,
    set_vnet_variable,
    vnets,
    zone_of,
)
from .shapes import mtx_init, rw_init, set_members
from .world import World

INP_IPV4, INP_IPV6, INP_IPV6PROTO = 0x1, 0x2, 0x4
INP_ANONPORT, INP_INHASHLIST, IN6P_IPV6_V6ONLY = 0x40, 0x2000, 0x8000
INP_TIMEWAIT, INP_SOCKREF = 0x0100_0000, 0x0800_0000
INC_ISIPV6 = 0x1
EPHEMERAL = 10000
HASH_SEED = 0x3C5A_91E7
"""`V_in_pcbhashseed`, which is random."""


class Database(NamedTuple):
    """A `struct inpcbinfo`: ``V_`` variables of it and (until 13) its list's head, name of its locks, table sizes."""

    info: str
    head: str
    name: str
    hash_size: int
    port_hash_size: int


DATABASES = {
    "tcp": Database("tcbinfo", "tcb", "tcp", 512, 512),
    "udp": Database("udbinfo", "udb", "udp", 128, 128),
    "udplite": Database("ulitecbinfo", "ulitecb", "udplite", 128, 128),
    "raw": Database("ripcbinfo", "ripcb", "rip", 256, 1),
    "divert": Database("divcbinfo", "divcb", "div", 1, 1),
}

TYPES = {
    "inpcbporthead": {"clh_first": "struct inpcbport *"},
    "inpcblbgrouphead": {"clh_first": "struct inpcblbgroup *"},
    "udpcb": {
        "u_tun_func": "void *",
        "u_icmp_func": "void *",
        "u_flags": "unsigned int",
        "u_rxcslen": "unsigned short",
        "u_txcslen": "unsigned short",
        "u_tun_ctx": "void *",
    },
    **tcpcbs.TYPES,
}
VARIABLES = tcpcbs.VARIABLES
VNET = {
    **{database.info: "struct inpcbinfo" for database in DATABASES.values()},
    **{database.head: "struct inpcbhead" for database in DATABASES.values()},
    "ipport_firstauto": "int",
    "ipport_lastauto": "int",
    **tcpcbs.VNET,
}
FUNCTIONS = tcpcbs.FUNCTIONS


def create(world: World) -> None:
    """The control block of every socket of the Internet protocols, those in the syncache excepted."""
    for item in world.system.sockets:
        if item.family == "unix" or (item.state == "SYN_RCVD" and not item.listener):
            continue
        _make(world, item)


def connect(world: World) -> None:
    """The databases of every vnet and what leads to sockets, credentials and timers."""
    tcpcbs.connect_stack(world)
    for jid, vnet in vnets(world):
        set_vnet_variable(world, jid, "in_pcbhashseed", HASH_SEED)
        set_vnet_variable(world, jid, "ipport_firstauto", EPHEMERAL)
        set_vnet_variable(world, jid, "ipport_lastauto", 65535)
        for protocol, database in DATABASES.items():
            if has_vnet_symbol(world, database.info):
                members = [item for item in world.system.sockets if (item.vnet, item.protocol) == (jid, protocol)]
                _fill_database(world, jid, vnet, database, [item for item in members if world.find("inpcb", item.key)])
        tcpcbs.connect_vnet(world, jid)


def embedded(world: World) -> bool:
    """14.0: control blocks of TCP and UDP begin with their inpcb."""
    return bool(world.memory.types.member("tcpcb", "t_inpcb").type["kind"] == "struct")


# Control blocks


def _make(world: World, item: Socket) -> None:
    owner: Object | None = None
    owner_type = {"tcp": "tcpcb", "udp": "udpcb"}.get(item.protocol, "")
    if not owner_type:
        inpcb = world.new("struct inpcb")
    elif embedded(world):
        owner = world.new(f"struct {owner_type}")
        inpcb = owner["t_inpcb" if owner_type == "tcpcb" else "u_inpcb"]
    else:
        inpcb = world.new("struct inpcb")
        owner_type = "tcptw" if item.state == "TIME_WAIT" and not has_socket(world, item) else owner_type
        owner = world.new(f"struct {owner_type}")
        inpcb.inp_ppcb = owner
    world.put("inpcb", item.key, inpcb)
    if owner is not None:
        world.put(owner_type, item.key, owner)
    _fill_inpcb(world, item, inpcb)
    if owner_type == "tcpcb" and owner is not None:
        tcpcbs.fill_tcpcb(world, item, owner, inpcb)


def _fill_inpcb(world: World, item: Socket, inpcb: Object) -> None:
    """`in_pcballoc`, and what binding and connecting enter."""
    v6 = item.family == "inet6"
    inpcb.inp_vflag = (INP_IPV6 | (INP_IPV4 if item.dual else 0)) if v6 else INP_IPV4
    if v6:
        inpcb.inp_vflag |= INP_IPV6PROTO
        set_members(world, inpcb, in6p_hops=-1, in6p_cksum=-1)
    inpcb.inp_refcount = 1
    inpcb.inp_ip_ttl = 64
    inpcb.inp_ip_p = item.local[1] if item.protocol == "raw" else 0
    inpcb.inp_flags = _flags(world, item)
    fill_endpoints(world, item, inpcb.inp_inc)
    rw_init(world, inpcb.inp_lock, {"tcp": "tcpinp", "udp": "udpinp"}.get(item.protocol, "rawinp"))


def _flags(world: World, item: Socket) -> int:
    flags = IN6P_IPV6_V6ONLY if item.family == "inet6" and not item.dual else 0
    flags |= INP_ANONPORT if item.local[1] >= EPHEMERAL and item.foreign[1] else 0
    flags |= INP_INHASHLIST if _hashed(item) else 0
    if item.state == "TIME_WAIT" and not has_socket(world, item):
        return flags | INP_TIMEWAIT
    return flags | (INP_SOCKREF if item.state in ("FIN_WAIT_1", "TIME_WAIT") else 0)


def fill_endpoints(world: World, item: Socket, conninfo: Object) -> None:
    """`struct in_conninfo`: all in network byte order; IPv4 addresses are in the last four of the 16 bytes."""
    conninfo.inc_flags = INC_ISIPV6 if item.family == "inet6" else 0
    endpoints = conninfo.inc_ie
    zone = zone_of(world, item.vnet, item.scope)
    for which, (address, port) in (("l", item.local), ("f", item.foreign)):
        # The "port" of a raw socket is its protocol.
        endpoints[f"ie_{which}port"] = (0 if item.protocol == "raw" else port).to_bytes(2, "big")
        data = _address(item, address, zone)
        endpoints[f"ie_depend{which}addr"] = data.rjust(16, b"\0")


def _address(item: Socket, address: str, zone: int = 0) -> bytes:
    return packed(address, zone) if address else bytes(16 if item.family == "inet6" else 4)


# Databases


def _fill_database(world: World, jid: int, vnet: Object, database: Database, members: list[Socket]) -> None:
    """`in_pcbinfo_init`, and `in_pcballoc` and `in_pcbinshash` of the members."""
    info = world.vnet_symbol(jid, database.info)
    mtx_init(world, info.ipi_lock, database.name)
    mtx_init(world, info.ipi_hash_lock, f"{database.name}hash")
    if world.has("inpcbinfo", "ipi_list_lock"):
        rw_init(world, info.ipi_list_lock, f"{database.name}list")
    info.ipi_vnet = vnet
    inpcbs = [world.get("inpcb", item.key) for item in members]
    for number, (item, inpcb) in enumerate(zip(members, inpcbs, strict=True), 1):
        inpcb.inp_gencnt = number
        inpcb.inp_pcbinfo = info
        _connect_inpcb(world, item, inpcb)
    link_list(_list_head(world, jid, info, database), inpcbs[::-1], "inp_list")
    info.ipi_count = info.ipi_gencnt = len(inpcbs)
    if world.has("inpcbinfo", "ipi_hash_exact"):
        _fill_hashes(world, info, database, members)
    else:
        _fill_hash(world, info, database, members)
    _fill_port_hash(world, info, database, members)
    _fill_load_balancing(world, info, database)


def _list_head(world: World, jid: int, info: Object, database: Database) -> Object:
    """14.0: the head itself; before, a pointer to another variable."""
    if world.memory.types.member("inpcbinfo", "ipi_listhead").type["kind"] == "struct":
        head: Object = info.ipi_listhead
        return head
    info.ipi_listhead = world.vnet_symbol(jid, database.head)
    return world.vnet_symbol(jid, database.head)


def _connect_inpcb(world: World, item: Socket, inpcb: Object) -> None:
    inpcb.inp_socket = world.find("socket", item.key)
    inpcb.inp_cred = credential_of(world, item)
    socket = world.find("socket", item.key)
    if isinstance(socket, Object):
        socket.so_pcb = inpcb


def _hashed(item: Socket) -> bool:
    """Raw sockets of IPv6 are in no hash (`rip6_attach`)."""
    return item.protocol != "raw" or item.family == "inet"


def _raw_hash(item: Socket, order: str, mask: int) -> int:
    """INP_PCBHASH_RAW of raw_ip.c: only what is bound to protocol and both addresses is not in chain 0."""
    local, foreign = (int.from_bytes(_address(item, end[0]), order) for end in (item.local, item.foreign))  # type: ignore[arg-type]
    if not (item.local[1] and local and foreign):
        return 0
    return (17 * item.local[1] + local + foreign) % mask + 1


def _fill_hash(world: World, info: Object, database: Database, members: list[Socket]) -> None:
    """Until 13: one table. INP_PCBHASH folds the last word of the foreign address, as the machine reads it."""
    table = new_table(world, "struct inpcbhead", database.hash_size)
    info.ipi_hashbase, info.ipi_hashmask = table, database.hash_size - 1

    def chain_of(item: Socket) -> int:
        if item.protocol == "raw":
            return _raw_hash(item, world.memory.machine.byteorder, database.hash_size - 1)
        foreign = host_words(world, _address(item, item.foreign[0]))[-1]
        return (foreign ^ foreign >> 16 ^ item.local[1] ^ item.foreign[1]) & database.hash_size - 1

    _link_chains(world, table, [(chain_of(item), item) for item in members if _hashed(item)], "inp_hash")


def _fill_hashes(world: World, info: Object, database: Database, members: list[Socket]) -> None:
    """14.0: what is connected is in the exact table, the rest in the wild one; both hash with a seed."""
    exact = new_table(world, "struct inpcbhead", database.hash_size)
    wild = new_table(world, "struct inpcbhead", database.hash_size)
    info.ipi_hash_exact, info.ipi_hash_wild, info.ipi_hashmask = exact, wild, database.hash_size - 1

    def chain_of(item: Socket) -> int:
        if item.protocol == "raw":
            return _raw_hash(item, world.memory.machine.byteorder, database.hash_size - 1)
        words = host_words(world, _address(item, item.foreign[0]))
        hashed = jenkins_hash32(words, HASH_SEED) if any(words) else HASH_SEED
        return (hashed ^ item.local[1] ^ item.foreign[1]) & database.hash_size - 1

    connected = [item for item in members if _hashed(item) and (item.foreign[0] or item.protocol == "raw")]
    rest = [item for item in members if _hashed(item) and item not in connected]
    _link_chains(world, exact, [(chain_of(item), item) for item in connected], "inp_hash_exact")
    _link_chains(world, wild, [(chain_of(item), item) for item in rest], "inp_hash_wild")


def _link_chains(world: World, table: Object, placed: list[tuple[int, Socket]], link: str) -> None:
    """Chains with the youngest first."""
    for chain in {chain for chain, _ in placed}:
        items = [world.get("inpcb", item.key) for at, item in placed if at == chain]
        link_list(table[chain], items[::-1], link)


def _fill_port_hash(world: World, info: Object, database: Database, members: list[Socket]) -> None:
    """By local port; until 14 through a `struct inpcbport` for each port."""
    head = "inpcbporthead" if world.has("inpcb", "inp_phd") else "inpcbhead"
    table = new_table(world, f"struct {head}", database.port_hash_size)
    info.ipi_porthashbase, info.ipi_porthashmask = table, database.port_hash_size - 1
    bound = [item for item in members if item.protocol != "raw"]
    if head == "inpcbhead":
        _link_chains(world, table, [(_port_chain(item.local[1], database), item) for item in bound], "inp_portlist")
        return
    chains: dict[int, list[Object]] = {}
    for port in dict.fromkeys(item.local[1] for item in bound):
        shared = [world.get("inpcb", item.key) for item in bound if item.local[1] == port]
        entry = world.new("struct inpcbport", phd_port=port.to_bytes(2, "big"))
        link_list(entry.phd_pcblist, shared[::-1], "inp_portlist")
        for inpcb in shared:
            inpcb.inp_phd = entry
        chains.setdefault(_port_chain(port, database), []).insert(0, entry)
    for chain, entries in chains.items():
        link_list(table[chain], entries, "phd_hash")


def _port_chain(port: int, database: Database) -> int:
    return port & database.port_hash_size - 1


def _fill_load_balancing(world: World, info: Object, database: Database) -> None:
    """Groups of SO_REUSEPORT_LB: none."""
    head = "struct inpcblbgrouphead" if world.has_type("inpcblbgrouphead") else "void *"
    table = new_table(world, head, database.port_hash_size)
    set_members(world, info, ipi_lbgrouphashbase=addressof(table), ipi_lbgrouphashmask=database.port_hash_size - 1)
