"""Unix-domain sockets: `struct unpcb`, the lists of all, and their own buffers (sys/unpcb.h, kern/uipc_usrreq.c)."""

from __future__ import annotations

import posixpath
from itertools import pairwise

from tests.writers.objects import Object, link_list, link_stailq, link_tailq

from . import mbufs
from .build_sockets import count, credential_key, holders, queued_record
from .model import Socket
from .network_shapes import AF_UNIX
from .paths import full_path
from .shapes import mtx_init, set_members, set_variable
from .world import World

LISTS = {"stream": "unp_shead", "dgram": "unp_dhead", "seqpacket": "unp_sphead"}
UNP_HAVEPC, UNP_HAVEPCCACHED = 0x1, 0x2
XU_NGROUPS = 16
SUN_PATH = 2
"""Offset of `sun_path`."""

VARIABLES = {
    **dict.fromkeys(LISTS.values(), "struct unp_head"),
    "unp_gencnt": "unsigned long",
    "unp_count": "unsigned int",
}


def create(world: World) -> None:
    """The control block of every unix socket, on the list of its type, the youngest first."""
    items = _members(world)
    for number, item in enumerate(items, 1):
        unpcb = world.put("unpcb", item.key, world.new("struct unpcb", unp_gencnt=number, unp_refcount=1))
        mtx_init(world, unpcb.unp_mtx, "unp")
        if item.local[0]:
            unpcb.unp_addr = _address(world, item.local[0])
    for protocol, name in LISTS.items():
        if world.has_symbol(name):
            of_type = [world.get("unpcb", item.key) for item in items if item.protocol == protocol]
            link_list(world.symbol(name), of_type[::-1], "unp_link")
    set_variable(world, "unp_gencnt", len(items))
    set_variable(world, "unp_count", len(items))


def connect(world: World) -> None:
    """Sockets, peers, files that they are bound to, and what waits in buffers."""
    for item in _members(world):
        unpcb = world.get("unpcb", item.key)
        unpcb.unp_socket = world.get("socket", item.key)
        world.get("socket", item.key).so_pcb = unpcb
        _connect_peer(world, item, unpcb)
        _connect_vnode(world, item, unpcb)
    _fill_buffers(world)


def _members(world: World) -> list[Socket]:
    return [item for item in world.system.sockets if item.family == "unix"]


def _address(world: World, path: str) -> Object:
    """`sodupsockaddr`: as long as `sun_len` says; what lies behind is not zero."""
    text = path.encode()
    data = bytes([SUN_PATH + len(text), AF_UNIX]) + text
    size = world.memory.types.sizeof("struct sockaddr_un")
    address = world.new("struct sockaddr_un")
    world.memory.write(int(address), data.ljust(min(len(data) + 8, size), b"\xa5"))
    return address


# Peers


def _connect_peer(world: World, item: Socket, unpcb: Object) -> None:
    """`unp_connect2`: datagram sockets are on the list of the one that they send to."""
    if item.peer:
        unpcb.unp_conn = world.get("unpcb", item.peer)
        if item.protocol != "dgram":
            _set_credentials(world, unpcb, next(other for other in _members(world) if other.key == item.peer))
            unpcb.unp_flags = UNP_HAVEPC
    if "SO_ACCEPTCONN" in item.options:
        # Who called listen(2) is told to those that connect.
        _set_credentials(world, unpcb, item)
        unpcb.unp_flags = 0 if world.has("unpcb", "unp_pairbusy") else UNP_HAVEPCCACHED
    senders = [other for other in _members(world) if other.protocol == "dgram" and other.peer == item.key]
    link_list(unpcb.unp_refs, [world.get("unpcb", other.key) for other in senders[::-1]], "unp_reflink")


def _set_credentials(world: World, unpcb: Object, item: Socket) -> None:
    """`cru2xt`: a `struct xucred`, with the pid since 13.0."""
    credentials = world.system.credentials[credential_key(world.system, item)]
    groups = [credentials.gid, *credentials.groups][:XU_NGROUPS]
    peer = unpcb.unp_peercred
    peer.cr_version = 0
    peer.cr_uid, peer.cr_ngroups, peer.cr_groups = credentials.uid, len(groups), groups
    owners = holders(world.system, item)
    if owners:
        set_members(world, peer, cr_pid=owners[0].pid)


def _connect_vnode(world: World, item: Socket, unpcb: Object) -> None:
    """The file it is bound to, by its path in the jail of its maker."""
    if not item.local[0]:
        return
    system = world.system
    jid = system.credentials[credential_key(system, item)].jid
    root = next(jail.path for jail in system.jails if jail.jid == jid)
    path = posixpath.join(root, item.local[0].lstrip("/"))
    key = next((vnode.key for vnode in system.vnodes if vnode.kind == "VSOCK" and full_path(system, vnode) == path), "")
    vnode = world.find("vnode", key)
    unpcb.unp_vnode = vnode
    if isinstance(vnode, Object):
        set_members(world, vnode, v_unpcb=unpcb)


# Buffers of 14 (datagrams) and 15 (streams); before, they are as those of other sockets


def _fill_buffers(world: World) -> None:
    for item in _members(world):
        socket = world.get("socket", item.key)
        if "SO_ACCEPTCONN" in item.options:
            continue
        if item.protocol == "dgram" and world.has("sockbuf", "uxdg_mb"):
            link_stailq(socket.so_rcv.uxdg_mb, [], "")
            link_stailq(socket.so_snd.uxdg_mb, [], "")
            link_tailq(socket.so_rcv.uxdg_conns, [], "")
        elif item.protocol != "dgram" and world.has("sockbuf", "uxst_mbq"):
            _fill_stream(world, item, socket)
    for item in _members(world):
        if item.protocol == "dgram" and item.receive_queue and world.has("sockbuf", "uxdg_mb"):
            _fill_datagrams(world, item)


def _fill_stream(world: World, item: Socket, socket: Object) -> None:
    """15.0: `uxst_mbq` instead of `sb_mb`."""
    data = mbufs.chain(world, mbufs.pattern(item.key, item.receive_queue)) if item.receive_queue else []
    link_stailq(socket.so_snd.uxst_mbq, [], "")
    _queue(socket.so_rcv.uxst_mbq, data, "m_stailq")
    count(socket.so_rcv, data, world)


def _fill_datagrams(world: World, item: Socket) -> None:
    """14.0: what a connected peer sent waits in the peer's send buffer, which is linked to the receiver's."""
    socket = world.get("socket", item.key)
    record = queued_record(world, item, item.receive_queue, "so_rcv")
    count(socket.so_rcv, record, world)
    sender = next((other for other in _members(world) if other.peer == item.key), None)
    buffer = world.get("socket", sender.key).so_snd if sender else socket.so_rcv
    link_stailq(buffer.uxdg_mb, [record[0]], "m_stailqpkt")
    if sender:
        link_tailq(socket.so_rcv.uxdg_conns, [buffer], "uxdg_clist")
    buffer.uxdg_cc = sum(mbuf.m_len for mbuf in record)
    buffer.uxdg_ctl = sum(mbuf.m_len for mbuf in record if mbuf.m_type != mbufs.MT_DATA)
    buffer.uxdg_mbcnt = mbufs.MSIZE * len(record)


def _queue(head: Object, items: list[Object], link: str) -> None:
    link_stailq(head, items, link)
    for mbuf, following in pairwise(items):
        mbuf.m_next = following
