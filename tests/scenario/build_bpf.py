"""Listeners of bpf(4): `struct bpf_if` of every interface, and who reads from it (net/bpf.c, net/bpfdesc.h)."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_list

from .model import BpfListener, Interface
from .network_shapes import counter
from .shapes import mtx_init, rw_init, set_members, set_variable
from .world import World

DLT_NULL, DLT_EN10MB = 0, 1
BPF_D_INOUT = 1
BPF_IDLE = 0
BUFFER_SIZE = 4096
SIGIO = 23
INSTRUCTION_SIZE = 8
BPF_LDH_ABS, BPF_LD_ABS, BPF_JEQ, BPF_RET = 0x28, 0x20, 0x15, 0x06

TYPES = {"bpf_iflist_head": {"lh_first": "struct bpf_if *"}}
VARIABLES = {"bpf_iflist": "struct bpf_iflist_head", "bpf_bpfd_cnt": "int"}
FUNCTIONS = ["bpf_timed_out"]


def create(world: World) -> None:
    """`bpfattach2` of every interface, and the listeners of each."""
    attached = []
    for item in world.system.interfaces:
        interface = world.get("ifnet", (item.vnet, item.name))
        attached.insert(0, world.put("bpf_if", (item.vnet, item.name), _attach(world, item, interface)))
    link_list(world.symbol("bpf_iflist"), [_ext(entry) for entry in attached], "bif_next")
    set_variable(world, "bpf_bpfd_cnt", sum(listener.promiscuous for listener in world.system.bpf_listeners))


def connect(world: World) -> None:
    """Nothing: a listener knows the process by its pid."""


def _attach(world: World, item: Interface, interface: Object) -> Object:
    entry = world.new("struct bpf_if")
    entry.bif_dlt, entry.bif_hdrlen = (DLT_NULL, 4) if item.kind == "loop" else (DLT_EN10MB, 14)
    entry.bif_ifp = interface
    entry.bif_bpf = addressof(interface, "if_bpf")
    interface.if_bpf = entry
    if world.has("bpf_if", "bif_lock"):
        rw_init(world, entry.bif_lock, "bpf interface lock")
    listeners = [
        _listener(world, listener, entry)
        for listener in world.system.bpf_listeners
        if (listener.vnet, listener.interface) == (item.vnet, item.name)
    ]
    link_list(entry.bif_ext.bif_dlist, listeners, "bd_next")
    link_list(entry.bif_wlist, [], "bd_next")
    set_members(world, entry, bif_refcnt=1 + len(listeners))
    return entry


def _ext(entry: Object) -> Object:
    """`bif_ext` is the first member, and the list's link is in it."""
    ext: Object = entry.bif_ext
    return ext


def _listener(world: World, listener: BpfListener, entry: Object) -> Object:
    """`struct bpf_d`, with a buffer that is being filled and one that is free."""
    made = world.put("bpf_d", (listener.vnet, listener.interface, listener.pid), world.new("struct bpf_d"))
    made.bd_bif = entry
    made.bd_pid, made.bd_promisc, made.bd_direction = listener.pid, listener.promiscuous, BPF_D_INOUT
    made.bd_bufsize, made.bd_state, made.bd_sig, made.bd_feedback = BUFFER_SIZE, BPF_IDLE, SIGIO, 0
    made.bd_immediate = 1
    made.bd_sbuf, made.bd_fbuf = world.memory.allocate(BUFFER_SIZE), world.memory.allocate(BUFFER_SIZE)
    made.bd_rfilter = _filter(world, listener.filter_length)
    values = {"bd_rcount": listener.received, "bd_dcount": listener.dropped, "bd_fcount": listener.captured}
    for name in ("bd_rcount", "bd_dcount", "bd_fcount", "bd_wcount", "bd_wfcount", "bd_wdcount", "bd_zcopy"):
        made[name] = counter(world, values.get(name, 0))
    mtx_init(world, made.bd_lock, "bpf")
    set_members(world, made, bd_refcnt=1)
    return made


def _filter(world: World, length: int) -> int:
    """A program of so many instructions: "ether proto ip, and any of the hosts …"; its length is stored nowhere."""
    program = [(BPF_LDH_ABS, 0, 0, 12), (BPF_JEQ, 0, length - 4, 0x800), (BPF_LD_ABS, 0, 0, 26)]
    program += [(BPF_JEQ, length - 2 - at, 0, 0xC000_0200 + at) for at in range(3, length - 2)]
    program += [(BPF_RET, 0, 0, 0), (BPF_RET, 0, 0, 262_144)]
    order = "big" if world.memory.machine.byteorder == "big" else "little"
    address = world.memory.allocate(length * INSTRUCTION_SIZE)
    for at, (code, true, false, value) in enumerate(program):
        data = code.to_bytes(2, order) + bytes([true, false]) + value.to_bytes(4, order)
        world.memory.write(address + at * INSTRUCTION_SIZE, data)
    return address
