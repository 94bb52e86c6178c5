"""Jails: `prison0`, the tree of `struct prison`, and the vnets (sys/jail.h, kern/kern_jail.c, net/vnet.c)."""

from __future__ import annotations

import ipaddress

from tests.writers.objects import Object, addressof, link_list, link_tailq

from . import cpusets
from .model import Jail
from .shapes import mtx_init, set_members, set_variable, sx_init
from .world import World

PR_PERSIST, PR_HOST, PR_IP4_USER, PR_IP6_USER, PR_VNET = 0x1, 0x2, 0x4, 0x8, 0x10
PR_IP4_SADDRSEL, PR_IP6_SADDRSEL = 0x80, 0x100
PR_IP4, PR_IP6 = 0x0200_0000, 0x0400_0000
ALLOW = {
    "allow.set_hostname": 0x1,
    "allow.sysvipc": 0x2,
    "allow.raw_sockets": 0x4,
    "allow.chflags": 0x8,
    "allow.mount": 0x10,
    "allow.quotas": 0x20,
    "allow.socket_af": 0x40,
    "allow.mlock": 0x80,
    "allow.read_msgbuf": 0x100,
    "allow.unprivileged_proc_debug": 0x200,
    "allow.suser": 0x400,
    "allow.reserved_ports": 0x8000,
}
"""Bits of `pr_allow`: PR_ALLOW_* of sys/jail.h."""
ALLOW_ALL = 0x87FF
"""PR_ALLOW_ALL_STATIC of 12; what a kernel was compiled with goes first."""
ALLOW_DEFAULT = ("allow.set_hostname", "allow.reserved_ports", "allow.unprivileged_proc_debug", "allow.suser")
"""What every jail may."""
PRISON_STATE_ALIVE = 1
CHAR = {"kind": "base", "name": "char"}
SI_SUB_VNET_DONE = 0xDC0_0000
"""`vnet_state` of a vnet that is complete (sys/kernel.h)."""
JAIL_MAX = 999_999

TYPES = {
    "prisonlist": {"tqh_first": "struct prison *", "tqh_last": "struct prison **"},
    "vnet_list_head": {"lh_first": "struct vnet *"},
}
VARIABLES = {
    "prison0": "struct prison",
    "allprison": "struct prisonlist",
    "allprison_lock": "struct sx",
    "lastprid": "int",
    "vnet_head": "struct vnet_list_head",
    "vnet0": "struct vnet *",
    **cpusets.VARIABLES,
}


def create(world: World) -> None:
    """The vnets, CPU sets and prisons, the latter in the order of their ids, as `allprison` holds them."""
    cpusets.create_cpusets(world)
    _create_vnets(world)
    for jail in world.system.jails:
        prison = world.new("struct prison") if jail.jid else world.symbol("prison0")
        _fill_prison(world, jail, world.put("prison", jail.jid, prison))
    _link_prisons(world)
    _count_children(world)


def connect(world: World) -> None:
    """Root directories; reference counts and lists of processes, which credentials hold."""
    for jail in world.system.jails:
        prison = world.get("prison", jail.jid)
        prison.pr_root = world.find("vnode", jail.root or "rootvnode")
        _count_references(world, jail, prison)
        if world.has("prison", "pr_proclist"):  # 14.0
            link_list(prison.pr_proclist, _processes(world, jail), "p_jaillist")


def jail_processes(world: World, jail: Jail) -> list[int]:
    """Pids of a jail's own processes that have not exited, the youngest first."""
    inside = [
        process
        for process in world.system.processes
        if world.system.credentials[process.credentials].jid == jail.jid and process.state != "zombie"
    ]
    return [process.pid for process in sorted(inside, key=lambda process: (process.start, process.pid), reverse=True)]


# Vnets


def _create_vnets(world: World) -> None:
    """`vnet_alloc`: the youngest is at the head of `vnet_head`."""
    vnets = []
    for jail in world.system.jails:
        if jail.vnet or jail.jid == 0:
            vnets.insert(0, world.add_vnet(jail.jid))
            set_members(world, vnets[0], vnet_state=SI_SUB_VNET_DONE)
    link_list(world.symbol("vnet_head"), vnets, "vnet_le")
    set_variable(world, "vnet0", world.get("vnet", 0))


# Prisons


def _fill_prison(world: World, jail: Jail, prison: Object) -> None:
    """`kern_jail_set`, and `prison0_init` for the host."""
    system = world.system
    prison.pr_id = jail.jid
    prison.pr_name = jail.name
    prison.pr_path = jail.path
    prison.pr_hostname = f"{system.hostname}.{system.domain}" if jail.jid == 0 else jail.hostname
    prison.pr_domainname = system.domain if jail.jid == 0 else ""
    prison.pr_hostuuid = jail.host_uuid or "00000000-0000-0000-0000-000000000000"
    prison.pr_hostid = system.host_id if jail.jid == 0 else 0
    prison.pr_securelevel = jail.securelevel
    prison.pr_enforce_statfs = 2 if jail.jid else 0
    prison.pr_devfs_rsnum = 4 if jail.jid else 0
    prison.pr_childmax = jail.children_max if jail.jid else JAIL_MAX
    prison.pr_parent = world.get("prison", jail.parent) if jail.jid else 0
    prison.pr_vnet = world.get("vnet", world.vnet_of(jail.jid))
    prison.pr_cpuset = world.get("cpuset", jail.jid)
    prison.pr_flags = _flags(jail)
    prison.pr_allow = _allow(jail, prison)
    set_members(world, prison, pr_state=PRISON_STATE_ALIVE)
    mtx_init(world, prison.pr_mtx, "jail mutex")
    _set_release(world, jail, prison)
    _set_addresses(world, jail, prison)


def _flags(jail: Jail) -> int:
    if jail.jid == 0:
        return PR_HOST | PR_VNET | PR_IP4_SADDRSEL | PR_IP6_SADDRSEL
    flags = PR_HOST | PR_PERSIST | PR_IP4_SADDRSEL | PR_IP6_SADDRSEL
    flags |= PR_VNET if jail.vnet else 0
    flags |= PR_IP4 | PR_IP4_USER if jail.ip4 else 0
    return flags | (PR_IP6 | PR_IP6_USER if jail.ip6 else 0)


def allow_bits(jail: Jail) -> int:
    """`pr_allow` of a jail below the host."""
    return sum(ALLOW[name] for name in {*ALLOW_DEFAULT, *jail.parameters})


def _allow(jail: Jail, prison: Object) -> int:
    return allow_bits(jail) if jail.jid else prison.pr_allow or ALLOW_ALL


def _set_release(world: World, jail: Jail, prison: Object) -> None:
    """What uname(1) says inside: the parent's unless it was given."""
    parent = world.get("prison", jail.parent)
    if jail.jid:
        inherited, date = parent._memory.read(addressof(parent, "pr_osrelease"), 32), parent.pr_osreldate
    else:
        inherited = world.memory.read(addressof(world.symbol("osrelease")), 32)
        date = world.symbol("osreldate")._memory.read(addressof(world.symbol("osreldate")), 4)
    prison.pr_osrelease = jail.osrelease or inherited.split(b"\0")[0]
    prison.pr_osreldate = date


def _set_addresses(world: World, jail: Jail, prison: Object) -> None:
    """14.0: `pr_addrs`, a `struct prison_ip` for each family; before, `pr_ip4` and `pr_ip6` with their counts."""
    for family, addresses in enumerate((jail.ip4, jail.ip6)):
        if not addresses:
            continue
        packed = b"".join(ipaddress.ip_address(address).packed for address in addresses)
        if world.has("prison", "pr_addrs"):
            prison.pr_addrs[family] = _prison_ip(world, packed, len(addresses))
        else:
            member = ("pr_ip4", "pr_ip6")[family]
            prison[member] = world.memory.array("char", packed)
            prison[member + "s"] = len(addresses)


def _prison_ip(world: World, packed: bytes, count: int) -> Object:
    """`struct prison_ip` of kern_jail.c: an epoch context, the number of addresses, and they themselves."""
    context = world.memory.types.sizeof("struct epoch_context")
    made = world.memory.new({"kind": "array", "count": context + 4 + len(packed), "subtype": CHAR})
    world.memory.write(int(made) + context, count.to_bytes(4, world.memory.machine.byteorder) + packed)
    return made


def _link_prisons(world: World) -> None:
    """`allprison` without `prison0`; each prison's children, the youngest first."""
    jails = world.system.jails
    link_tailq(world.symbol("allprison"), [world.get("prison", jail.jid) for jail in jails[1:]], "pr_list")
    for jail in jails:
        children = [world.get("prison", child.jid) for child in jails[:0:-1] if child.parent == jail.jid]
        link_list(world.get("prison", jail.jid).pr_children, children, "pr_sibling")
    set_variable(world, "lastprid", max(jail.jid for jail in jails))
    if world.has_symbol("allprison_lock"):
        sx_init(world, world.symbol("allprison_lock"), "allprison")


def _count_children(world: World) -> None:
    """`pr_childcount` counts jails at any depth."""
    parents = {jail.jid: jail.parent for jail in world.system.jails}
    for jid in list(parents)[1:]:
        while jid:
            jid = parents[jid]
            world.get("prison", jid).pr_childcount += 1


def _count_references(world: World, jail: Jail, prison: Object) -> None:
    """Users are processes, child jails and, of a persistent jail, itself; credentials only hold the structure."""
    jails = [child for child in world.system.jails[1:] if child.parent == jail.jid]
    credentials = [item for item in world.system.credentials.values() if item.jid == jail.jid]
    prison.pr_uref = len(jail_processes(world, jail)) + len(jails) + 1
    prison.pr_ref = prison.pr_uref + len(credentials) + 1


def _processes(world: World, jail: Jail) -> list[Object]:
    return [world.get("proc", pid) for pid in jail_processes(world, jail)]
