"""Sockets, whatever their protocol: ``struct socket``, its buffers, and the queues of one that listens.

# Reference: sys/sys/socketvar.h, sys/sys/sockbuf.h, sys/kern/uipc_socket.c (sotoxsocket)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..exceptions import KVMError
from .fields import Fields, text_of
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .protocols import SO_ACCEPTCONN, Protocol, read_protocol
from .records import Absent, Problem, attempt

COMPLETE, INCOMPLETE = "complete", "incomplete"
_NONE = Absent.NOT_APPLICABLE


@dataclass(frozen=True)
class Buffer:
    """A ``struct sockbuf``; those that listen have none, what can be told of them is the space for later.

    Attributes:
        bytes: that wait, and are claimed by data not ready yet (``sb_ccc``).
        mbuf_bytes: of memory in use for them (``sb_mbcnt``).
        limit: how many bytes there may be (``sb_hiwat``).
        low: its low-water mark (``sb_lowat``).
        mbuf_limit: how much memory there may be (``sb_mbmax``).
    """

    bytes: int | Absent
    mbuf_bytes: int | Absent
    limit: int | Absent
    low: int | Absent
    mbuf_limit: int | Absent


NO_BUFFER = Buffer(_NONE, _NONE, _NONE, _NONE, _NONE)


@dataclass(frozen=True)
class ListenQueue:
    """How many connections wait at a socket that listens; as text ``qlen/incqlen/maxqlen``, as netstat -L has it.

    Attributes:
        complete: ready to be accepted.
        incomplete: held back by an accept filter.
        limit: how many may wait.
    """

    complete: int | Absent
    incomplete: int | Absent
    limit: int | Absent

    def __str__(self) -> str:
        numbers = (self.complete, self.incomplete, self.limit)
        return "/".join("?" if isinstance(number, Absent) else str(number) for number in numbers)


@dataclass(frozen=True)
class Credential:
    """Who made something: a ``struct ucred`` that the kernel keeps with it."""

    uid: int | Absent
    jid: int | Absent
    jail: str | Absent


NO_CREDENTIAL = Credential(_NONE, _NONE, _NONE)


@dataclass(frozen=True)
class Socket:
    """A socket.

    Attributes:
        address: of its ``struct socket``.
        protocol: what its ``so_proto`` says.
        type: SOCK_STREAM, …
        options: SO_ flags.
        state: SS_ flags.
        pcb: address of its protocol's control block, 0 for none.
        vnet: address of its ``struct vnet``, 0 on kernels without VIMAGE.
        creator: whose credentials it was made with.
        generation: ``so_gencnt``: sockets are numbered as they are made or change.
        fib: number of its routing table.
        cookie: SO_USER_COOKIE.
        error: errno that waits for the process.
        references: ``so_count``.
        receive, send: its buffers.
        listening: the queues of one that listens.
        listener: address of the socket in whose queue it waits, 0 for none.
        notes: what cannot be read.
    """

    address: int
    protocol: Protocol | Absent
    type: int | Absent
    options: int | Absent
    state: int | Absent
    pcb: int | Absent
    vnet: int | Absent
    creator: Credential
    generation: int | Absent
    fib: int | Absent
    cookie: int | Absent
    error: int | Absent
    references: int | Absent
    receive: Buffer
    send: Buffer
    listening: ListenQueue | Absent
    listener: int | Absent
    notes: tuple[str, ...] = ()

    @property
    def listens(self) -> bool:
        """Whether connections can be made to it."""
        return isinstance(self.options, int) and bool(self.options & SO_ACCEPTCONN)


def read_socket(kernel: Kernel, address: int) -> Socket:
    """The socket at an address; what cannot be had is `Absent` and told in its notes."""
    socket = kernel.object("socket", address)
    fields = Fields()
    where = f"socket {address:#x}"
    options = fields.take(where, lambda: int(socket.so_options) & 0xFFFF_FFFF)
    listens = isinstance(options, int) and bool(options & SO_ACCEPTCONN)
    protocol = attempt(lambda: read_protocol(kernel, int(socket.so_proto)))
    creator = read_credential(fields, "so_cred", lambda: socket.so_cred)
    return Socket(
        address,
        protocol,
        attempt(lambda: int(socket.so_type)),
        options,
        attempt(lambda: int(socket.so_state)),
        attempt(lambda: int(socket.so_pcb)),
        attempt(lambda: int(socket.so_vnet)),
        creator,
        attempt(lambda: int(socket.so_gencnt)),
        attempt(lambda: int(socket.so_fibnum)),
        attempt(lambda: int(socket.so_user_cookie)),
        attempt(lambda: int(socket.so_error)),
        attempt(lambda: int(socket.so_count)),
        _buffer(fields, socket, "rcv", listens),
        _buffer(fields, socket, "snd", listens),
        _listen_queue(fields, socket) if listens else _NONE,
        _listener(fields, socket, listens),
        (*fields.notes, *(protocol.notes if isinstance(protocol, Protocol) else ())),
    )


def read_credential(fields: Fields, what: str, get: Any) -> Credential:
    """The credential behind a pointer; `NO_CREDENTIAL` where that is NULL.

    Args:
        fields: takes notes.
        what: the member, for the note.
        get: reads the pointer to the ``struct ucred``.
    """
    pointer = fields.take(what, get)
    if isinstance(pointer, Absent):
        return Credential(pointer, pointer, pointer)
    if not pointer:
        return NO_CREDENTIAL
    ucred = pointer.as_("ucred")
    uid = fields.take(what, lambda: int(ucred.cr_uid))
    if uid is Absent.UNREADABLE:
        return Credential(uid, uid, uid)
    jid = fields.take(f"{what}->cr_prison", lambda: int(ucred.cr_prison.as_("prison").pr_id))
    return Credential(uid, jid, attempt(lambda: text_of(ucred.cr_prison.as_("prison").pr_name)))


# Buffers. Since 12.0 the memory of the buffers has other use in sockets that listen (anonymous union of struct socket)


def shares_memory(socket: Object) -> bool:
    """Whether listening sockets have their queues where others have their buffers."""
    return socket.has_("sol_qlen")


def _buffer(fields: Fields, socket: Object, which: str, listens: bool) -> Buffer:
    what = f"so_{which}"
    if listens and shares_memory(socket):
        space = fields.take(what, lambda: int(getattr(socket, f"sol_sb{which}_hiwat")))
        low = attempt(lambda: int(getattr(socket, f"sol_sb{which}_lowat")))
        return Buffer(_NONE, _NONE, space, low, _NONE)
    return Buffer(
        # sb_cc up to 10
        fields.take(what, lambda: int(getattr(socket, what).first_("sb_ccc", "sb_cc"))),
        attempt(lambda: int(getattr(socket, what).sb_mbcnt)),
        attempt(lambda: int(getattr(socket, what).sb_hiwat)),
        attempt(lambda: int(getattr(socket, what).sb_lowat)),
        attempt(lambda: int(getattr(socket, what).sb_mbmax)),
    )


# Listening


def _listen_queue(fields: Fields, socket: Object) -> ListenQueue:
    """``sol_qlen`` since 12.0, ``so_qlen`` before; likewise the others."""

    def number(name: str) -> int | Absent:
        return fields.take("the listen queue", lambda: int(socket.first_(f"sol_{name}", f"so_{name}")))

    return ListenQueue(number("qlen"), number("incqlen"), number("qlimit"))


def _listener(fields: Fields, socket: Object, listens: bool) -> int | Absent:
    """``so_listen`` since 12.0, in the memory that those that listen use otherwise; ``so_head`` before."""
    if listens and shares_memory(socket):
        return _NONE
    return fields.take("so_listen", lambda: int(socket.first_("so_listen", "so_head")))


def waiting_connections(kernel: Kernel, listener: Socket) -> Iterator[tuple[int, str] | Problem]:
    """The sockets in the queues of one that listens: ``(address, "complete" or "incomplete")``, the oldest first."""
    socket = kernel.object("socket", listener.address)
    for queue, name in ((COMPLETE, "comp"), (INCOMPLETE, "incomp")):
        where = f"queue of {queue} connections of socket {listener.address:#x}"
        try:
            head = socket.at_(f"sol_{name}" if shares_memory(socket) else f"so_{name}")
            elements = Queue(kernel.structs, head, "socket", "so_list")
        except KVMError as error:
            yield Problem(where, str(error), listener.address)
            continue
        found = 0
        for element in elements.addresses():
            found += 1
            yield element, queue
        yield from (Problem(where, problem, listener.address) for problem in elements.problems)
        yield from _compare(listener, queue, where, found)


def _compare(listener: Socket, queue: str, where: str, found: int) -> Iterator[Problem]:
    counted = attempt(lambda: getattr(listener.listening, queue))
    if isinstance(counted, int) and counted != found:
        yield Problem(where, f"{found} found, but the socket counts {counted}", listener.address)
