"""Sockets (sys/socketvar.h, sys/sockbuf.h, kern/uipc_socket.c), whatever their protocol."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from tests.writers.objects import Object, addressof, link_tailq

from . import mbufs
from .build_domains import SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM
from .model import Descriptor, Process, Socket, System
from .network_shapes import FAMILIES, packed, sockaddr
from .shapes import mtx_init, set_members, set_variable, sx_init
from .world import World

OPTIONS = {
    "SO_DEBUG": 0x1,
    "SO_ACCEPTCONN": 0x2,
    "SO_REUSEADDR": 0x4,
    "SO_KEEPALIVE": 0x8,
    "SO_DONTROUTE": 0x10,
    "SO_BROADCAST": 0x20,
    "SO_LINGER": 0x80,
    "SO_OOBINLINE": 0x100,
    "SO_REUSEPORT": 0x200,
}
"""sys/socket.h."""
SS_NOFDREF, SS_ISCONNECTED, SS_ISCONNECTING, SS_ISDISCONNECTING = 0x1, 0x2, 0x4, 0x8
SS_NBIO, SS_ISDISCONNECTED, SS_PROTOREF = 0x100, 0x2000, 0x4000
STATES = {
    "SYN_SENT": SS_ISCONNECTING,
    "ESTABLISHED": SS_ISCONNECTED,
    "CLOSE_WAIT": SS_ISCONNECTED,
    "FIN_WAIT_1": SS_ISDISCONNECTING,
    "FIN_WAIT_2": SS_ISCONNECTED,
    "TIME_WAIT": SS_ISDISCONNECTED,
}
"""`so_state` by the state of the TCP connection."""
SBS_CANTSENDMORE, SBS_CANTRCVMORE = 0x10, 0x20
SENDING_ENDED, RECEIVING_ENDED = ("FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT"), ("FIN_WAIT_1", "CLOSE_WAIT", "TIME_WAIT")
SB_AUTOSIZE = 0x800
SQ_INCOMP, SQ_COMP = 0x0800, 0x1000
TYPES_OF = {"tcp": SOCK_STREAM, "udp": SOCK_DGRAM, "raw": SOCK_RAW, "divert": SOCK_RAW}
TYPES_OF |= {"stream": SOCK_STREAM, "dgram": SOCK_DGRAM, "seqpacket": SOCK_SEQPACKET}
SPACE = {"tcp": (65536, 32768), "udp": (42080, 9216), "raw": (9216, 9216), "stream": (8192, 8192)}
"""Space for receiving and sending, by protocol."""

VARIABLES = {
    "so_gencnt": "unsigned long",
    "maxsockets": "int",
    "numopensockets": "int",
    "sb_max": "unsigned long",
    "somaxconn": "unsigned int",
}
FUNCTIONS = ["soisconnected", "so_rdknl_lock"]


def create(world: World) -> None:
    """Every socket, the oldest first, which `so_gencnt` tells."""
    described = [item for item in world.system.sockets if has_socket(world, item)]
    for number, item in enumerate(described, 1):
        socket = world.put("socket", item.key, world.new("struct socket", so_gencnt=number))
        _fill_socket(world, item, socket)
        if "SO_ACCEPTCONN" in item.options:
            _fill_listener(item, socket)
        else:
            _fill_buffers(world, item, socket)
    set_variable(world, "so_gencnt", len(described))
    set_variable(world, "numopensockets", len(described))
    set_variable(world, "maxsockets", 2048)
    set_variable(world, "sb_max", 2 * 1024 * 1024)
    set_variable(world, "somaxconn", 128)


def connect(world: World) -> None:
    """Credentials, vnets, protocols, and the queues of those that listen."""
    for item in world.system.sockets:
        socket = world.find("socket", item.key)
        if isinstance(socket, int):
            continue
        socket.so_cred = credential_of(world, item)
        socket.so_vnet = world.get("vnet", item.vnet)
        socket.so_proto = world.get("protosw", (item.family, item.protocol))
        world.get("vnet", item.vnet).vnet_sockcnt += 1
        if "SO_ACCEPTCONN" in item.options:
            _link_queues(world, item, socket)


# What is known about a socket


def modern(world: World) -> bool:
    """14.0: sockets have I/O locks of their own, references from protocols are counted, SS_NOFDREF is gone."""
    return world.has("socket", "so_snd_sx")


def has_socket(world: World, item: Socket) -> bool:
    """Those in the syncache have none yet; until 13 those in TIME_WAIT have none any more (`tcp_twstart`)."""
    if item.state == "SYN_RCVD" and not item.listener:
        return False
    return item.state != "TIME_WAIT" or modern(world) or bool(_descriptors(world, item))


def _descriptors(world: World, item: Socket) -> list[Descriptor]:
    return [
        descriptor
        for process in world.system.processes
        for descriptor in process.descriptors
        if descriptor.kind == "socket" and descriptor.key == item.key
    ]


def queued(world: World, item: Socket, queue: str) -> list[Object]:
    """The sockets that wait in a queue of a listener, the oldest first."""
    waiting = [other for other in world.system.sockets if (other.listener, other.queue) == (item.key, queue)]
    return [world.get("socket", other.key) for other in waiting]


def credential_key(system: System, item: Socket) -> str:
    """Whose credentials its maker had: those of a process that has it, or of another in the same jail or vnet."""
    made = next((other for other in system.sockets if other.key == item.listener), item)
    held = [process.credentials for process in holders(system, made)]
    jails = [system.credentials[key].jid for key in held] or [made.vnet]
    near = [key for key, credentials in system.credentials.items() if credentials.jid in jails]
    everyone = [*held, *near, *system.credentials]
    return next(key for key in everyone if system.credentials[key].uid == made.owner and key != "kernel")


def credential_of(world: World, item: Socket) -> Object | int:
    """The `struct ucred` of its maker."""
    return world.find("ucred", credential_key(world.system, item))


def holders(system: System, item: Socket) -> list[Process]:
    """The processes that have a descriptor of it."""
    return [
        process
        for process in system.processes
        if any((entry.kind, entry.key) == ("socket", item.key) for entry in process.descriptors)
    ]


# struct socket


def _fill_socket(world: World, item: Socket, socket: Object) -> None:
    descriptors = _descriptors(world, item)
    socket.so_type = TYPES_OF[item.protocol]
    socket.so_options = sum(OPTIONS[name] for name in item.options)
    socket.so_state = _state(world, item, descriptors)
    socket.so_count = _references(world, item, len(descriptors))
    mtx_init(world, socket.so_lock, "socket")
    if modern(world):
        sx_init(world, socket.so_snd_sx, "so_snd_sx")
        sx_init(world, socket.so_rcv_sx, "so_rcv_sx")
        mtx_init(world, socket.so_snd_mtx, "so_snd")
        mtx_init(world, socket.so_rcv_mtx, "so_rcv")


def _state(world: World, item: Socket, descriptors: list[Descriptor]) -> int:
    state = STATES.get(item.state, 0)
    if (item.protocol == "udp" and item.foreign[1]) or item.peer:
        state = SS_ISCONNECTED
    if any("n" in descriptor.flags for descriptor in descriptors):
        state |= SS_NBIO
    if not modern(world) and not descriptors and "SO_ACCEPTCONN" not in item.options:
        state |= SS_NOFDREF if item.listener else SS_NOFDREF | SS_PROTOREF
    return state


def _references(world: World, item: Socket, descriptors: int) -> int:
    """The file has one, so has a protocol that is not done; those in a queue of a listener each have one on it."""
    if item.listener:
        return int(modern(world))
    waiting = sum(1 for other in world.system.sockets if other.listener == item.key)
    held = 1 if descriptors or "SO_ACCEPTCONN" in item.options or modern(world) else 0
    return held + waiting


# Listeners


def _fill_listener(item: Socket, socket: Object) -> None:
    """What lies where other sockets have their buffers (12.0)."""
    limit, incomplete, complete = item.backlog
    socket.sol_qlimit, socket.sol_incqlen, socket.sol_qlen = limit, incomplete, complete
    receive, send = _space(item)
    socket.sol_sbrcv_hiwat, socket.sol_sbsnd_hiwat = receive, send
    socket.sol_sbrcv_lowat, socket.sol_sbsnd_lowat = 1, 2048
    if item.protocol == "tcp":
        socket.sol_sbrcv_flags = socket.sol_sbsnd_flags = SB_AUTOSIZE


def _link_queues(world: World, item: Socket, listener: Object) -> None:
    for queue, head, state in (("incomplete", "sol_incomp", SQ_INCOMP), ("complete", "sol_comp", SQ_COMP)):
        waiting = queued(world, item, queue)
        link_tailq(listener[head], waiting, "so_list")
        for socket in waiting:
            socket.so_listen = listener
            socket.so_qstate = state


# Buffers


def _space(item: Socket) -> tuple[int, int]:
    return SPACE.get(item.protocol, (8192, 8192))


def _fill_buffers(world: World, item: Socket, socket: Object) -> None:
    for which, space, ended in (
        ("so_rcv", _space(item)[0], RECEIVING_ENDED),
        ("so_snd", _space(item)[1], SENDING_ENDED),
    ):
        buffer = socket[which]
        buffer.sb_sel = addressof(socket, "so_rdsel" if which == "so_rcv" else "so_wrsel")
        buffer.sb_hiwat, buffer.sb_mbmax = space, 8 * space
        buffer.sb_lowat = 1 if which == "so_rcv" else 2048
        buffer.sb_flags = SB_AUTOSIZE if item.protocol == "tcp" else 0
        if item.state in ended:
            buffer.sb_state = SBS_CANTRCVMORE if which == "so_rcv" else SBS_CANTSENDMORE
        link_tailq(buffer.sb_aiojobq, [], "")
        _fill_locks(world, socket, which)
        _fill_queue(world, item, socket, which)


def _fill_locks(world: World, socket: Object, which: str) -> None:
    buffer = socket[which]
    if world.has("sockbuf", "sb_sx"):
        mtx_init(world, buffer.sb_mtx, which)
        sx_init(world, buffer.sb_sx, f"{which}_sx")
    else:
        buffer.sb_mtx = addressof(socket, f"{which}_mtx")


def _fill_queue(world: World, item: Socket, socket: Object, which: str) -> None:
    """The bytes that wait, in mbufs; unix sockets of 14 and 15 have their own queues, see `build_unix`."""
    size = item.receive_queue if which == "so_rcv" else item.send_queue
    own_queue = {"dgram": "uxdg_mb", "stream": "uxst_mbq", "seqpacket": "uxst_mbq"}.get(item.protocol, "")
    if item.family == "unix" and world.has("sockbuf", own_queue):
        return
    records = [queued_record(world, item, size, which)] if size else []
    put_records(socket[which], records, world)


def queued_record(world: World, item: Socket, size: int, which: str) -> list[Object]:
    """The mbufs of one record of `size` bytes in all: datagrams begin with the sender's address."""
    if which == "so_snd" or item.protocol in ("tcp", "stream"):
        return mbufs.chain(world, mbufs.pattern(item.key, size))
    if item.family == "unix":
        name = bytes([16, FAMILIES["unix"]]).ljust(16, b"\0")
    else:
        sender = item.foreign[0] or ("198.51.100.9" if item.family == "inet" else "2001:db8::9")
        name = sockaddr(packed(sender), item.foreign[1] or 5140)
    header = mbufs.chain(world, name, kind=mbufs.MT_SONAME)
    data = mbufs.chain(world, mbufs.pattern(item.key, size - len(name)), packet=True)
    header[-1].m_next = data[0]
    return [*header, *data]


def put_records(buffer: Object, records: list[list[Object]], world: World) -> None:
    """Enter records into a classic buffer and count them (`sbappend…`)."""
    every = [mbuf for record in records for mbuf in record]
    for record, following in pairwise(records):
        record[0].m_nextpkt = following[0]
    if every:
        buffer.sb_mb, buffer.sb_mbtail, buffer.sb_lastrecord = every[0], every[-1], records[-1][0]
    count(buffer, every, world)


def count(buffer: Object, every: Iterable[Object], world: World) -> None:
    """`sballoc` for each mbuf."""
    every = list(every)
    data = sum(mbuf.m_len for mbuf in every)
    buffer.sb_acc = buffer.sb_ccc = data
    buffer.sb_ctl = sum(mbuf.m_len for mbuf in every if mbuf.m_type != mbufs.MT_DATA)
    buffer.sb_mbcnt = mbufs.MSIZE * len(every)
    set_members(world, buffer, sb_mcnt=len(every))
