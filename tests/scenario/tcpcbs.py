"""TCP control blocks, TIME_WAIT and timers (netinet/tcp_var.h, tcp_timewait.c, tcp_timer.c), for `build_pcbs`."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_stailq, link_tailq

from .build_sockets import OPTIONS, credential_of
from .build_system import HZ, ticks
from .model import Socket
from .network_shapes import callout, counter, has_vnet_symbol
from .shapes import set_members, set_variable
from .world import World

STATES = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "CLOSING", "LAST_ACK")
STATES += ("FIN_WAIT_2", "TIME_WAIT")
"""`t_state` (netinet/tcp_fsm.h)."""
TF_ACKNOW, TF_NODELAY, TF_SENTFIN, TF_REQ_SCALE, TF_RCVD_SCALE = 0x1, 0x4, 0x10, 0x20, 0x40
TF_REQ_TSTMP, TF_RCVD_TSTMP, TF_SACK_PERMIT = 0x80, 0x100, 0x200
ESTABLISHED_FLAGS = TF_REQ_SCALE | TF_RCVD_SCALE | TF_REQ_TSTMP | TF_RCVD_TSTMP | TF_SACK_PERMIT
MSS, WINDOW = 1448, 65535
KEEP_IDLE = 7200
MSL = 30
AGE = 100
"""Seconds since a connection was made, besides those that it is idle."""
CC_FUNCTIONS = ("mod_init", "mod_destroy", "cb_init", "cb_destroy", "conn_init", "ack_received", "cong_signal")
CC_FUNCTIONS += ("post_recovery", "after_idle", "ctl_output")
TIMERS = ("tt_rexmt", "tt_persist", "tt_keep", "tt_2msl", "tt_delack")
SBT_MAX = 0x7FFF_FFFF_FFFF_FFFF
TIMER_KEEP, TIMER_2MSL = 2, 3

TYPES = {
    "tcp_timer": {
        **dict.fromkeys(TIMERS, "struct callout"),
        "tt_flags": "unsigned int",
        "tt_draincnt": "unsigned int",
    },
    "tcptw_head": {"tqh_first": "struct tcptw *", "tqh_last": "struct tcptw **"},
    "unnamed_cc_algo_entries": {"stqe_next": "void *"},
    "cc_algo": {
        "name": "char[16]",
        **dict.fromkeys(CC_FUNCTIONS, "void *"),
        "entries": "struct unnamed_cc_algo_entries",
    },
    "cc_head": {"stqh_first": "struct cc_algo *", "stqh_last": "struct cc_algo **"},
    "tcp_funchead": {"tqh_first": "void *", "tqh_last": "void **"},
}
VARIABLES = {
    "tcp_def_funcblk": "struct tcp_function_block",
    "t_functions": "struct tcp_funchead",
    "tcp_func_set_ptr": "struct tcp_function_block *",
    "newreno_cc_algo": "struct cc_algo",
    "cc_list": "struct cc_head",
    "tcp_keepidle": "int",
    "tcp_msl": "int",
}
VNET = {"twq_2msl": "struct tcptw_head", "tcps_states": "void *[11]", "default_cc_ptr": "struct cc_algo *"}
FUNCTIONS = [
    *("tcp_output", "tcp_do_segment", "tcp_default_ctloutput", "newreno_cb_init", "newreno_ack_received"),
    *("newreno_cong_signal", "newreno_post_recovery", "newreno_after_idle"),
    *(f"tcp_timer_{name}" for name in ("rexmt", "persist", "keep", "2msl", "delack", "enter")),
]


def connect_stack(world: World) -> None:
    """What all vnets share: the function block and the congestion control."""
    if world.has_symbol("tcp_def_funcblk"):
        block = world.symbol("tcp_def_funcblk")
        block.tfb_tcp_block_name = "freebsd"
        set_variable(world, "tcp_func_set_ptr", block)
        for member, function in (("tfb_tcp_output", "tcp_output"), ("tfb_tcp_do_segment", "tcp_do_segment")):
            if not block[member]:
                block[member] = world.function(function)
        block.tfb_refcnt = 1 + len(world.all("tcpcb"))
    if world.has_symbol("t_functions"):
        link_tailq(world.symbol("t_functions"), [], "")
    set_variable(world, "tcp_keepidle", KEEP_IDLE * HZ)
    set_variable(world, "tcp_msl", MSL * HZ)
    algorithms = [world.symbol(f"{name}_cc_algo") for name in _algorithms(world)]
    for name, algorithm in zip(_algorithms(world), algorithms, strict=True):
        algorithm.name = name
    if world.has_symbol("cc_list"):
        link_stailq(world.symbol("cc_list"), algorithms, "entries")


def _algorithms(world: World) -> list[str]:
    """14.0: cubic is the default; before, newreno."""
    return [name for name in ("cubic", "newreno") if world.has_symbol(f"{name}_cc_algo")]


def connect_vnet(world: World, jid: int) -> None:
    """What needs ticks; the queue of TIME_WAIT; how many connections are in which state."""
    items = [item for item in world.system.sockets if (item.vnet, item.protocol) == (jid, "tcp")]
    waiting = []
    for item in items:
        block = world.find("tcpcb", item.key)
        if isinstance(block, Object):
            _connect_tcpcb(world, jid, item, block)
        short = world.find("tcptw", item.key)
        if isinstance(short, Object):
            _fill_tcptw(world, item, short)
            waiting.append(short)
    if has_vnet_symbol(world, "twq_2msl"):
        link_tailq(world.vnet_symbol(jid, "twq_2msl"), waiting, "tw_2msl")
    if has_vnet_symbol(world, "default_cc_ptr"):
        _set_pointer(world, world.vnet_symbol(jid, "default_cc_ptr"), _algorithms(world))
    _count_states(world, jid, items)


def _set_pointer(world: World, variable: Object, names: list[str]) -> None:
    value = addressof(world.symbol(f"{names[0]}_cc_algo"))
    order = "big" if world.memory.types.byteorder == "big" else "little"
    world.memory.write(addressof(variable), value.to_bytes(world.memory.types.pointer_size, order))


def _count_states(world: World, jid: int, items: list[Socket]) -> None:
    if not has_vnet_symbol(world, "tcps_states"):
        return
    states = world.vnet_symbol(jid, "tcps_states")
    for number, name in enumerate(STATES):
        states[number] = counter(world, sum(item.state == name for item in items))


def _sequences(item: Socket) -> tuple[int, int]:
    """Initial sequence numbers, ours and the peer's."""
    return 0x1000_0000 + item.local[1] * 4096, 0x8000_0000 + item.foreign[1] * 4096


def fill_tcpcb(world: World, item: Socket, block: Object, inpcb: Object) -> None:
    """`tcp_newtcpcb`, and what the handshake enters."""
    block.t_state = STATES.index(item.state)
    if world.memory.types.member("tcpcb", "t_inpcb").type["kind"] == "pointer":
        block.t_inpcb = inpcb
    block.t_maxseg = MSS
    block.t_flags = ESTABLISHED_FLAGS if item.state not in ("LISTEN", "SYN_SENT") else TF_REQ_SCALE | TF_REQ_TSTMP
    block.t_rxtcur = HZ
    block.t_srtt, block.t_rttvar = 0, HZ * 16
    block.snd_cwnd, block.snd_ssthresh = 10 * MSS, 0x3FFF_C000
    link_tailq(block.t_segq, [], "")
    link_tailq(block.snd_holes, [], "")
    if item.state != "LISTEN":
        _fill_sequences(world, item, block)
    _fill_timers(world, item, block)


def _fill_sequences(world: World, item: Socket, block: Object) -> None:
    ours, theirs = _sequences(item)
    block.iss = ours
    block.snd_una = ours + 1 if item.state != "SYN_SENT" else ours
    finished = item.state in ("FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT")
    block.snd_nxt = block.snd_max = ours + 1 + item.send_queue + finished
    if item.state == "SYN_SENT":
        return
    block.irs = theirs
    block.rcv_nxt = theirs + 1 + item.receive_queue
    block.rcv_adv = theirs + 1 + WINDOW
    block.rcv_wnd = WINDOW - item.receive_queue
    block.snd_wnd = WINDOW
    block.snd_scale = block.rcv_scale = 6
    block.last_ack_sent = block.rcv_nxt
    set_members(world, block, t_sndbytes=1000 + item.send_queue)


def _fill_timers(world: World, item: Socket, block: Object) -> None:
    """14.0: one callout and a time for each timer; before, a callout for each in `struct tcp_timer`."""
    if world.memory.types.member("tcpcb", "t_timers").type["kind"] == "pointer":
        timers = world.new("struct tcp_timer")
        block.t_timers = timers
        for name in TIMERS:
            due = _due(world, item, name)
            callout(world, timers[name], f"tcp_timer_{name[3:]}", block, due)
        return
    due = [_due(world, item, name) for name in TIMERS]
    for number, seconds in enumerate(due):
        block.t_timers[number] = seconds << 32 if seconds else SBT_MAX
    active = [seconds for seconds in due if seconds]
    callout(world, block.t_callout, "tcp_timer_enter", block, min(active, default=0))


def _due(world: World, item: Socket, timer: str) -> int:
    """When a timer runs out, in seconds of uptime; 0 for never."""
    uptime = world.system.uptime[0]
    if item.state in ("FIN_WAIT_2", "TIME_WAIT"):
        return uptime + 2 * MSL - item.idle if timer == "tt_2msl" else 0
    if timer == "tt_rexmt" and (item.state == "SYN_SENT" or item.send_queue):
        return uptime + 1
    keep = item.state in ("ESTABLISHED", "CLOSE_WAIT") and "SO_KEEPALIVE" in item.options and timer == "tt_keep"
    return uptime + KEEP_IDLE - item.idle if keep else 0


def _connect_tcpcb(world: World, jid: int, item: Socket, block: Object) -> None:
    set_members(world, block, t_vnet=world.get("vnet", jid))
    now = ticks(world)
    if item.state != "LISTEN":
        received = (now - item.idle * HZ) & 0xFFFF_FFFF
        block.t_rcvtime = received
        set_members(world, block, t_sndtime=received, t_acktime=received if item.state != "SYN_SENT" else 0)
    if item.state not in ("LISTEN", "SYN_SENT"):
        block.t_starttime = (now - (item.idle + AGE) * HZ) & 0xFFFF_FFFF
    if world.has_symbol("tcp_def_funcblk"):
        block.t_fb = world.symbol("tcp_def_funcblk")
    for name in _algorithms(world)[:1]:
        set_members(world, block, cc_algo=world.symbol(f"{name}_cc_algo"), t_cc=world.symbol(f"{name}_cc_algo"))


def _fill_tcptw(world: World, item: Socket, short: Object) -> None:
    """`tcp_twstart`."""
    ours, theirs = _sequences(item)
    now = ticks(world)
    short.tw_inpcb = world.get("inpcb", item.key)
    short.iss, short.irs = ours, theirs
    short.snd_nxt, short.rcv_nxt = ours + 1002, theirs + 2
    short.last_win = WINDOW >> 6
    short.tw_so_options = sum(OPTIONS[name] for name in item.options)
    short.tw_cred = credential_of(world, item)
    short.t_starttime = (now - (item.idle + AGE) * HZ) & 0xFFFF_FFFF
    low = (now + 2 * MSL * HZ - item.idle * HZ) & 0xFFFF_FFFF
    short.tw_time = low - (1 << 32 if low >> 31 else 0)
