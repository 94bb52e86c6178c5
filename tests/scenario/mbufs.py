"""Chains of mbufs (sys/mbuf.h)."""

from __future__ import annotations

from itertools import pairwise

from tests.writers.objects import Object, addressof

from .world import World

MSIZE = 256
M_PKTHDR, M_EOR = 0x2, 0x8
MT_DATA, MT_SONAME = 1, 8


def pattern(key: str, size: int) -> bytes:
    """Data to recognise: the key again and again."""
    text = f"<{key}>".encode()
    return (text * (size // len(text) + 1))[:size]


def chain(world: World, data: bytes, *, packet: bool = False, kind: int = MT_DATA) -> list[Object]:
    """Mbufs that hold `data`; with `packet` the first has a packet header."""
    pieces: list[bytes] = []
    while data or not pieces:
        room = MSIZE - _data_offset(world, packet=packet and not pieces)
        pieces.append(data[:room])
        data = data[room:]
    made = [_mbuf(world, piece, packet=packet and at == 0, kind=kind) for at, piece in enumerate(pieces)]
    for mbuf, following in pairwise(made):
        mbuf.m_next = following
    if packet:
        made[0].m_pkthdr.len = sum(len(piece) for piece in pieces)
    return made


def _data_offset(world: World, *, packet: bool) -> int:
    return world.memory.types.offsetof("mbuf", "m_pktdat" if packet else "m_dat")


def _mbuf(world: World, data: bytes, *, packet: bool, kind: int) -> Object:
    mbuf = world.memory.cast("struct mbuf", world.memory.allocate(MSIZE, align=MSIZE))
    place = addressof(mbuf) + _data_offset(world, packet=packet)
    world.memory.write(place, data)
    mbuf.m_data, mbuf.m_len = place, len(data)
    mbuf.m_type = kind
    mbuf.m_flags = M_PKTHDR if packet else 0
    return mbuf
