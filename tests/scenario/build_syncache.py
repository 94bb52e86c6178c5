"""Connections that are not complete: the SYN cache of every vnet (netinet/tcp_syncache.c)."""

from __future__ import annotations

from tests.writers.objects import Object, content, link_tailq

from .build_pcbs import fill_endpoints
from .build_sockets import credential_of
from .build_system import HZ, ticks
from .model import Socket
from .network_shapes import has_vnet_symbol, host_words, jenkins_hash32, new_table, vnets
from .shapes import mtx_init
from .world import World

HASH_SIZE, BUCKET_LIMIT, REXMT_LIMIT = 128, 30, 3
"""TCP_SYNCACHE_HASHSIZE would be 512."""
HASH_SECRET = 0x51CA_C4E5
SCF_WINSCALE, SCF_TIMESTAMP, SCF_SACK = 0x02, 0x04, 0x80

TYPES = {
    "sch_head": {"tqh_first": "struct syncache *", "tqh_last": "struct syncache **"},
    "syncache_head": {
        "sch_mtx": "struct mtx",
        "sch_bucket": "struct sch_head",
        "sch_timer": "struct callout",
        "sch_nextc": "int",
        "sch_length": "unsigned int",
        "sch_sc": "struct tcp_syncache *",
    },
}
VNET = {"tcp_syncache": "struct tcp_syncache"}
FUNCTIONS = ["syncache_timer"]


def create(world: World) -> None:
    """An entry for each connection in state SYN_RCVD without a socket."""
    for item in _members(world):
        entry = world.put("syncache", item.key, world.new("struct syncache"))
        fill_endpoints(world, item, entry.sc_inc)
        entry.sc_rxmits = 1
        entry.sc_iss, entry.sc_irs = 0x2000_0000 + item.foreign[1], 0x9000_0000 + item.foreign[1]
        entry.sc_peer_mss, entry.sc_wnd = 1460, 65535
        entry.sc_ip_ttl = 64
        entry.sc_requested_s_scale = entry.sc_requested_r_scale = 6
        entry.sc_flags = SCF_WINSCALE | SCF_TIMESTAMP | SCF_SACK


def connect(world: World) -> None:
    """The hash table of every vnet."""
    for item in _members(world):
        entry = world.get("syncache", item.key)
        entry.sc_cred = credential_of(world, _listener(world, item))
        entry.sc_rxttime = _signed(ticks(world) + HZ)
    for jid, vnet in vnets(world):
        if has_vnet_symbol(world, "tcp_syncache"):
            _fill_cache(world, jid, vnet, [item for item in _members(world) if item.vnet == jid])


def _members(world: World) -> list[Socket]:
    return [item for item in world.system.sockets if item.state == "SYN_RCVD" and not item.listener]


def _listener(world: World, item: Socket) -> Socket:
    """Who will accept it."""
    return next(
        other
        for other in world.system.sockets
        if (other.vnet, other.state, other.local[1]) == (item.vnet, "LISTEN", item.local[1])
    )


def _signed(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (1 << 32 if value >> 31 else 0)


def _fill_cache(world: World, jid: int, vnet: Object, members: list[Socket]) -> None:
    """`syncache_init` and `syncache_insert`."""
    cache = world.vnet_symbol(jid, "tcp_syncache")
    table = new_table(world, "struct syncache_head", HASH_SIZE)
    cache.hashbase = table
    cache.hashsize, cache.hashmask, cache.bucket_limit = HASH_SIZE, HASH_SIZE - 1, BUCKET_LIMIT
    cache.cache_limit = HASH_SIZE * BUCKET_LIMIT
    cache.rexmt_limit = REXMT_LIMIT
    cache.hash_secret = HASH_SECRET
    cache.vnet = vnet
    for number in range(HASH_SIZE):
        head = table[number]
        mtx_init(world, head.sch_mtx, "tcp_sc_head")
        head.sch_sc = cache
        inside = [item for item in members if _chain(world, item) == number]
        link_tailq(head.sch_bucket, [world.get("syncache", item.key) for item in inside[::-1]], "sc_hash")
        head.sch_length = len(inside)
        head.sch_nextc = _signed(ticks(world) + HZ) if inside else 0


def _chain(world: World, item: Socket) -> int:
    """The first five words of `in_endpoints` are hashed: both ports and the foreign address."""
    endpoints = content(world.get("syncache", item.key).sc_inc.inc_ie)
    return jenkins_hash32(host_words(world, endpoints[:20]), HASH_SECRET) & HASH_SIZE - 1
