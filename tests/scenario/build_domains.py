"""Domains and their protocols (sys/domain.h, sys/protosw.h, kern/uipc_domain.c)."""

from __future__ import annotations

from typing import NamedTuple

from tests.writers.objects import Object, addressof, link_slist

from .network_shapes import FAMILIES
from .shapes import fill_vector, set_members, set_variable, text
from .world import World

SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET = 1, 2, 3, 5
PR_ATOMIC, PR_ADDR, PR_CONNREQUIRED, PR_WANTRCVD, PR_RIGHTS, PR_IMPLOPCL = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
PR_LASTHDR, PR_CAPATTACH = 0x40, 0x80
TCP_FLAGS = PR_CONNREQUIRED | PR_IMPLOPCL | PR_WANTRCVD
RAW_FLAGS = PR_ATOMIC | PR_ADDR


class Protocol(NamedTuple):
    """A `struct protosw`; `functions` is what the names of its functions begin with, `operations` its pr_usrreqs."""

    name: str
    type: int
    number: int
    flags: int
    functions: str
    operations: str


INET = (
    Protocol("ip", 0, 0, 0, "ip", ""),
    Protocol("udp", SOCK_DGRAM, 17, RAW_FLAGS, "udp", "udp_usrreqs"),
    Protocol("tcp", SOCK_STREAM, 6, TCP_FLAGS, "tcp", "tcp_usrreqs"),
    Protocol("udplite", SOCK_DGRAM, 136, RAW_FLAGS, "udplite", "udp_usrreqs"),
    Protocol("rawip", SOCK_RAW, 255, RAW_FLAGS, "rip", "rip_usrreqs"),
    Protocol("raw", SOCK_RAW, 1, RAW_FLAGS | PR_LASTHDR, "icmp", "rip_usrreqs"),
    Protocol("igmp", SOCK_RAW, 2, RAW_FLAGS | PR_LASTHDR, "igmp", "rip_usrreqs"),
    Protocol("wildcard", SOCK_RAW, 0, RAW_FLAGS, "rip", "rip_usrreqs"),
)
INET6 = (
    Protocol("ip", 0, 41, 0, "ip6", ""),
    Protocol("udp", SOCK_DGRAM, 17, RAW_FLAGS, "udp6", "udp6_usrreqs"),
    Protocol("tcp", SOCK_STREAM, 6, TCP_FLAGS, "tcp6", "tcp6_usrreqs"),
    Protocol("raw", SOCK_RAW, 58, RAW_FLAGS | PR_LASTHDR, "icmp6", "rip6_usrreqs"),
    Protocol("wildcard", SOCK_RAW, 0, RAW_FLAGS, "rip6", "rip6_usrreqs"),
)
LOCAL = (
    Protocol(
        "stream", SOCK_STREAM, 0, PR_CONNREQUIRED | PR_WANTRCVD | PR_RIGHTS | PR_CAPATTACH, "uipc", "uipc_usrreqs"
    ),
    Protocol("dgram", SOCK_DGRAM, 0, RAW_FLAGS | PR_RIGHTS | PR_CAPATTACH, "uipc", "uipc_usrreqs_dgram"),
    Protocol("seqpacket", SOCK_SEQPACKET, 0, PR_ATOMIC | TCP_FLAGS, "uipc", "uipc_usrreqs_seqpacket"),
)
TABLES = {"inet": ("inetsw", INET), "inet6": ("inet6sw", INET6), "unix": ("localsw", LOCAL)}
"""Until 13: a contiguous table for each domain, by the tables' names."""
DOMAINS = {"inet": ("inetdomain", "internet"), "inet6": ("inet6domain", "internet6"), "unix": ("localdomain", "local")}
POINTERS = {
    "inet": {"tcp": "tcp_protosw", "udp": "udp_protosw", "raw": "rip_protosw"},
    "inet6": {"tcp": "tcp6_protosw", "udp": "udp6_protosw", "raw": "rip6_protosw"},
    "unix": {"stream": "streamproto", "dgram": "dgramproto", "seqpacket": "seqpacketproto"},
}
"""14.0: a protosw of its own for each protocol, which the domain points to."""
OPERATIONS = ("abort", "accept", "attach", "bind", "close", "connect", "control", "detach", "disconnect", "listen")
OPERATIONS += ("peeraddr", "rcvd", "send", "shutdown", "sockaddr")

VARIABLES = {
    "domains": "struct domain *",
    "domain_init_status": "int",
    **{name: "struct domain" for name, _ in DOMAINS.values()},
    **{name: f"struct protosw[{len(protocols)}]" for name, protocols in TABLES.values()},
    **{
        protocol.operations: "struct pr_usrreqs"
        for _, protocols in TABLES.values()
        for protocol in protocols
        if protocol.operations
    },
    "ip_protox": "unsigned char[256]",
    "ip6_protox": "unsigned char[256]",
}
FUNCTIONS = [
    *("ip_init", "ip_slowtimo", "ip_drain", "tcp_slowtimo", "tcp_drain", "sosend_dgram", "soreceive_stream"),
    *("sosend_generic", "soreceive_generic", "soreceive_dgram", "unp_externalize", "unp_dispose", "ip6_init"),
    *(
        f"{prefix}_{what}"
        for prefix in ("tcp", "udp", "udplite", "rip", "icmp", "igmp", "tcp6", "udp6", "rip6", "icmp6")
        for what in ("input", "ctlinput", "ctloutput")
    ),
    *(f"{prefix}_{what}" for prefix in ("tcp_usr", "tcp6_usr", "udp", "udp6", "rip", "rip6") for what in OPERATIONS),
    *(f"uipc_{what}" for what in OPERATIONS),
    "uipc_ctloutput",
]


def create(world: World) -> None:
    """All domains, the last one that was added at the head of `domains`."""
    made = []
    for family in TABLES:
        domain = world.put("domain", family, world.symbol(DOMAINS[family][0]))
        domain.dom_family = FAMILIES[family]
        domain.dom_name = text(world, DOMAINS[family][1])
        fill = _fill_pointers if world.has("domain", "dom_nprotosw") else _fill_table
        fill(world, family, domain)
        made.insert(0, domain)
    _link_domains(world, made)
    set_variable(world, "domain_init_status", 2)


def connect(world: World) -> None:
    """Nothing: domains lead to protocols only."""


def _link_domains(world: World, domains: list[Object]) -> None:
    """14.0: an SLIST; before, a pointer in each."""
    if world.memory.image.variables["domains"]["kind"] != "pointer":
        link_slist(world.symbol("domains"), domains, "dom_next")
        return
    set_variable(world, "domains", domains[0])
    for domain, following in zip(domains, [*domains[1:], 0], strict=True):
        domain.dom_next = following


def _fill_pointers(world: World, family: str, domain: Object) -> None:
    """14.0: `dom_protosw` is an array of pointers behind the domain; all that was compiled in is there already."""
    for name, symbol in POINTERS[family].items():
        protocol = world.put("protosw", (family, name), world.symbol(symbol))
        protocol.pr_domain = domain
        shared = {member: f"pr_{member[3:]}_notsupp" for member in ("pr_sopoll", "pr_sosend", "pr_soreceive")}
        fill_vector(world, protocol, shared)


def _fill_table(world: World, family: str, domain: Object) -> None:
    name, protocols = TABLES[family]
    table = world.symbol(name)
    domain.dom_protosw = table
    domain.dom_protoswNPROTOSW = addressof(table) + len(protocols) * world.memory.types.sizeof("struct protosw")
    for index, protocol in enumerate(protocols):
        entry = world.put("protosw", (family, protocol.name), table[index])
        _fill_protocol(world, entry, protocol, domain)
    _fill_dispatch(world, family, protocols)


def _fill_protocol(world: World, entry: Object, protocol: Protocol, domain: Object) -> None:
    entry.pr_type = protocol.type
    entry.pr_protocol = protocol.number
    entry.pr_flags = protocol.flags
    entry.pr_domain = domain
    if protocol.functions == "uipc":
        entry.pr_ctloutput = world.function("uipc_ctloutput")
    elif protocol.type:
        for what in ("input", "ctlinput", "ctloutput"):
            entry[f"pr_{what}"] = world.function(f"{protocol.functions}_{what}")
    else:
        set_members(world, entry, pr_init=world.function(f"{protocol.functions}_init"))
    if protocol.operations:
        entry.pr_usrreqs = _operations(world, protocol)


def _operations(world: World, protocol: Protocol) -> Object:
    """`struct pr_usrreqs`."""
    table = world.symbol(protocol.operations)
    prefix = protocol.operations.split("_usrreqs")[0]
    prefix = {"tcp": "tcp_usr", "tcp6": "tcp6_usr"}.get(prefix, prefix)
    for what in OPERATIONS:
        set_members(world, table, **{f"pru_{what}": world.function(f"{prefix}_{what}")})
    kind = {SOCK_STREAM: "soreceive_stream", SOCK_DGRAM: "soreceive_dgram"}.get(protocol.type, "soreceive_generic")
    table.pru_soreceive = world.function(kind)
    table.pru_sosend = world.function("sosend_dgram" if protocol.type == SOCK_DGRAM else "sosend_generic")
    return table


def _fill_dispatch(world: World, family: str, protocols: tuple[Protocol, ...]) -> None:
    """`ip_init`: what no entry of the table has a number for goes to the last one, the wildcard for raw sockets."""
    name = {"inet": "ip_protox", "inet6": "ip6_protox"}.get(family)
    if name:
        dispatch = bytearray([len(protocols) - 1]) * 256
        for index, protocol in enumerate(protocols):
            if protocol.number and protocol.number != 255:
                dispatch[protocol.number] = index
        set_variable(world, name, bytes(dispatch))
