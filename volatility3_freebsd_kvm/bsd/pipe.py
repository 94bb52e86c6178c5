"""Pipes and named pipes.

# Reference: sys/sys/pipe.h (struct pipe, pipebuf), sys/kern/sys_pipe.c
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import AddressError
from .kernel import Kernel
from .objects import Object
from .records import Absent, attempt

MAX_BUFFER = 1 << 30
_ACTIVE = 1
_EOF, _DIRECT_WRITE = 0x80, 0x400
"""PIPE_EOF and PIPE_DIRECTW of ``pipe_state``."""


@dataclass(frozen=True)
class Pipe:
    """One end of a pipe: a `struct pipe`.

    Attributes:
        address: of the structure.
        peer: address of the other end, 0 if that is closed.
        waiting: bytes that wait to be read from this end.
        size: bytes of its buffer.
        inode: its number for stat(2).
        notes: what is odd.
    """

    address: int
    peer: int | Absent
    waiting: int | Absent
    size: int | Absent
    inode: int | Absent
    notes: tuple[str, ...] = ()


def read_pipe(kernel: Kernel, address: int) -> Pipe:
    """The end of a pipe at an address; never raises: what cannot be had is `Absent`."""
    pipe = kernel.object("pipe", address)
    waiting, size = attempt(lambda: _waiting(pipe)), attempt(lambda: int(pipe.pipe_buffer.size))
    peer = attempt(lambda: _peer(kernel, pipe))
    notes = []
    # What a direct write offers is not in the buffer.
    in_buffer = attempt(lambda: int(pipe.pipe_buffer.cnt))
    if isinstance(in_buffer, int) and isinstance(size, int) and in_buffer > size:
        notes.append(f"{in_buffer} bytes cannot be in a buffer of {size}")
    if attempt(lambda: bool(int(pipe.pipe_state) & _EOF)) is True:
        notes.append("at its end")
    return Pipe(address, peer, waiting, size, attempt(lambda: int(pipe.pipe_ino)), tuple(notes))


def _peer(kernel: Kernel, pipe: Object) -> int:
    """The other end, unless that was closed: both stay in memory until both are."""
    peer = int(pipe.pipe_peer)
    return peer if peer and int(kernel.object("pipe", peer).pipe_present) == _ACTIVE else 0


def _waiting(pipe: Object) -> int:
    """Bytes in the buffer, and those of a writer that lends its pages (``pipe_pages``, until 12 ``pipe_map``)."""
    count = int(pipe.pipe_buffer.cnt)
    if int(pipe.pipe_state) & _DIRECT_WRITE:
        count += int(pipe.first_("pipe_pages", "pipe_map").cnt)
    return count


def read_waiting(kernel: Kernel, address: int) -> bytes:
    """The bytes that wait in the buffer of an end, in their order; the buffer is a ring.

    Raises:
        AddressError: they cannot be read, or the buffer is not what one can be.
        SymbolError: the types do not know pipes.
    """
    buffer = kernel.object("pipe", address).pipe_buffer
    count, start, size = int(buffer.cnt), int(buffer.out), int(buffer.size)
    place = int(buffer.buffer)
    if not count:
        return b""
    if count > size or start >= size or size > MAX_BUFFER:
        raise AddressError(place, f"{count} bytes from {start} on cannot be in a buffer of {size}")
    first = min(count, size - start)
    return kernel.structs.read(place + start, first) + kernel.structs.read(place, count - first)
