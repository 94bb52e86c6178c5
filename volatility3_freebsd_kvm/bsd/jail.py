"""Jails: the host's prison and those below it, from the list, from the tree and from what processes hold.

# Reference: sys/sys/jail.h, sys/kern/kern_jail.c (allprison, prison0, struct prison_ip, kern_jail_get)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..exceptions import AddressError, SymbolError
from .jail_flags import AllowNames, flag_names
from .kernel import Kernel
from .lists import Queue
from .needs import unmet
from .objects import Object
from .records import Absent, Problem, attempt

MAX_JAILS = 1 << 20
MAX_CHILDREN = 1 << 20
"""Of all jails together."""
MAX_ADDRESSES = 4096
"""Of a jail; security.jail.jail_max_af_ips is 255 unless changed."""
MAX_PROCESSES = 1 << 20
_STATES = {0: "invalid", 1: "alive", 2: "dying"}
"""enum prison_state (14.0)."""

Addresses = tuple[str, ...]


@dataclass(frozen=True)
class Jail:
    """A jail; JID 0 is the host.

    Attributes:
        address: of its ``struct prison``.
        level: how deep below the host, which is 0.
        jid, name, hostname, domainname, path, host_uuid, hostid: as jls(8) calls them; the name is the full one.
        parent: JID of the jail above.
        ip4, ip6: its addresses.
        vnet: address of the ``struct vnet`` it uses.
        own_vnet: whether that is its own (``vnet=new``).
        state: ``alive``, ``dying``, ``invalid``.
        flags, allow: pr_flags and pr_allow.
        parameters: what these say, by the names of jls(8): ``persist``, ``ip4=new``, ``allow.raw_sockets``.
        enforce_statfs, devfs_ruleset, securelevel, osrelease, osreldate: as jls(8) calls them.
        children, children_max: jails below it, and how many there may be.
        references, users: pr_ref and pr_uref.
        processes: how many processes run in it, by their credentials; those of jails below it are not counted.
        notes: what is odd.
    """

    address: int
    level: int
    jid: int | Absent
    name: str | Absent
    hostname: str | Absent
    domainname: str | Absent
    path: str | Absent
    host_uuid: str | Absent
    hostid: int | Absent
    parent: int | Absent
    ip4: Addresses | Absent
    ip6: Addresses | Absent
    vnet: int | Absent
    own_vnet: bool | Absent
    state: str | Absent
    flags: int | Absent
    allow: int | Absent
    parameters: tuple[str, ...] | Absent
    enforce_statfs: int | Absent
    devfs_ruleset: int | Absent
    securelevel: int | Absent
    osrelease: str | Absent
    osreldate: int | Absent
    children: int | Absent
    children_max: int | Absent
    references: int | Absent
    users: int | Absent
    processes: int | Absent
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    """The prisons by address, with what is odd, in the order in which they were met.

    Lists may be made to lead into each other: what is left is how many elements all of a kind together may have.
    """

    notes: dict[int, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    children_left: int = field(default_factory=lambda: MAX_CHILDREN)
    processes_left: int = field(default_factory=lambda: MAX_PROCESSES)

    def add(self, address: int, note: str = "") -> None:
        """Enter one that is not known yet; ``note`` says why it is odd that it was not."""
        if address and address not in self.notes:
            self.notes[address] = [note] if note else []


def jails(kernel: Kernel) -> Iterator[Jail | Problem]:
    """Every jail, each behind its parent; the host first."""
    missing = unmet(kernel, "prison0", ("prison.pr_id", "prison.pr_list"))
    if missing:
        yield missing
        return
    found = _Found()
    _listed(kernel, found)
    _in_tree(kernel, found)
    processes = _by_processes(kernel, found)
    allow = AllowNames.of(kernel)
    for address, level in _tree_order(kernel, found):
        prison = kernel.object("prison", address)
        yield _jail(kernel, prison, level, processes, allow, found)
    yield from found.problems


def jail_of(kernel: Kernel, address: int) -> Jail:
    """The jail whose ``struct prison`` is at an address; its place in the tree and its processes are not looked up."""
    absent = Absent.NOT_AVAILABLE
    return _jail(kernel, kernel.object("prison", address), 0, absent, AllowNames.of(kernel), _Found({address: []}))


# Where prisons are found


def _listed(kernel: Kernel, found: _Found) -> None:
    """``prison0``, which no list has, and ``allprison``."""
    try:
        found.add(kernel.address("prison0"))
    except SymbolError as error:
        found.problems.append(Problem("prison0", str(error)))
    for prison in _queue(kernel, found, "allprison", "pr_list"):
        found.add(prison.address_)


def _queue(kernel: Kernel, found: _Found, head: str, link: str) -> Iterator[Object]:
    try:
        queue = Queue(kernel.structs, kernel.address(head), "prison", link, limit=MAX_JAILS)
    except SymbolError as error:
        found.problems.append(Problem(head, str(error)))
        return
    yield from queue
    found.problems += [Problem(head, problem) for problem in queue.problems]


def _in_tree(kernel: Kernel, found: _Found) -> None:
    """What the lists of children lead to."""
    if not kernel.has_member("prison", "pr_children"):
        return
    waiting, in_tree, listed = list(found.notes), set[int](), set(found.notes)
    note = "not in allprison: only the tree of jails leads to it" if kernel.has("allprison") else ""
    while waiting:
        prison = kernel.object("prison", waiting.pop(0))
        if found.children_left <= 0:
            found.problems.append(Problem("pr_children", f"the jails have more than {MAX_CHILDREN} children in all"))
            return
        head = prison.at_("pr_children")
        children = Queue(kernel.structs, head, "prison", "pr_sibling", limit=found.children_left)
        for child in children.addresses():
            found.children_left -= 1
            if child not in found.notes:
                found.add(child, note)
                waiting.append(child)
            in_tree.add(child)
        found.problems += [Problem(f"children of jail {_label(prison)}", problem) for problem in children.problems]
    for address in listed - in_tree - {_host(kernel)}:
        found.notes[address].append("not among the children of its parent")


def _by_processes(kernel: Kernel, found: _Found) -> dict[int, int] | Absent:
    """How many processes each prison has; prisons that only processes lead to are entered."""
    needed = (("proc", "p_list"), ("proc", "p_ucred"), ("ucred", "cr_prison"))
    if not kernel.has("allproc") or not all(kernel.has_member(*one) for one in needed):
        return Absent.NOT_AVAILABLE
    counts: dict[int, int] = {}
    queue = Queue(kernel.structs, kernel.address("allproc"), "proc", "p_list", limit=MAX_PROCESSES)
    for proc in queue:
        prison = attempt(partial(_prison_of, proc))
        if isinstance(prison, Absent):
            continue
        counts[prison] = counts.get(prison, 0) + 1
        if prison not in found.notes:
            found.add(prison, f"neither in allprison nor in the tree: only process {_pid(proc)} leads to it")
    found.problems += [Problem("allproc", f"{problem}: some processes are not counted") for problem in queue.problems]
    return counts


def _prison_of(proc: Object) -> int:
    return int(proc.p_ucred.cr_prison)


def _pid(proc: Object) -> object:
    pid = attempt(lambda: int(proc.p_pid))
    return pid if isinstance(pid, int) else f"{proc.address_:#x}"


def _tree_order(kernel: Kernel, found: _Found) -> Iterator[tuple[int, int]]:
    """``(address, level)``: children behind their parents; what has no known parent, or is below itself, at the end."""
    children: dict[int, list[int]] = {}
    roots = []
    for address in found.notes:
        parent = _parent(kernel, address)
        if parent in found.notes and parent != address:
            children.setdefault(parent, []).append(address)
        else:
            roots.append(address)
    seen: set[int] = set()
    # Those that hang on none of the roots are below themselves.
    for root in (*roots, *found.notes):
        waiting = [] if root in seen else [(root, 0)]
        if waiting and root not in roots:
            found.notes[root].append("its parents form a loop")
        while waiting:
            address, level = waiting.pop()
            if address not in seen:
                seen.add(address)
                yield address, level
                waiting += [(child, level + 1) for child in reversed(children.get(address, ()))]


def _parent(kernel: Kernel, address: int) -> int:
    parent = attempt(lambda: int(kernel.object("prison", address).pr_parent))
    return parent if isinstance(parent, int) else 0


def _host(kernel: Kernel) -> int:
    return kernel.address("prison0") if kernel.has("prison0") else 0


def _label(prison: Object) -> object:
    jid = attempt(lambda: prison.pr_id)
    return jid if isinstance(jid, int) else f"{prison.address_:#x}"


# One jail


def _jail(
    kernel: Kernel, prison: Object, level: int, processes: dict[int, int] | Absent, allow: AllowNames, found: _Found
) -> Jail:
    notes = found.notes[prison.address_]
    flags, allowed = _integer(prison, "pr_flags"), _integer(prison, "pr_allow")
    ip4, ip6 = (_addresses(kernel, prison, family, notes) for family in (0, 1))
    return Jail(
        address=prison.address_,
        level=level,
        jid=_integer(prison, "pr_id"),
        name=_text(prison, "pr_name"),
        hostname=_text(prison, "pr_hostname"),
        domainname=_text(prison, "pr_domainname"),
        path=_text(prison, "pr_path"),
        host_uuid=_text(prison, "pr_hostuuid"),
        hostid=_integer(prison, "pr_hostid"),
        parent=Absent.NOT_APPLICABLE if prison.address_ == _host(kernel) else attempt(lambda: prison.pr_parent.pr_id),
        ip4=ip4,
        ip6=ip6,
        vnet=_integer(prison, "pr_vnet"),
        own_vnet=_own_vnet(kernel, prison, flags),
        state=attempt(lambda: _state(prison)),
        flags=flags,
        allow=allowed,
        parameters=_parameters(kernel, flags, allowed, (ip4, ip6), allow),
        enforce_statfs=_integer(prison, "pr_enforce_statfs"),
        devfs_ruleset=_integer(prison, "pr_devfs_rsnum"),
        securelevel=_integer(prison, "pr_securelevel"),
        osrelease=_text(prison, "pr_osrelease"),
        osreldate=_integer(prison, "pr_osreldate"),
        children=_integer(prison, "pr_childcount"),
        children_max=_integer(prison, "pr_childmax"),
        references=_integer(prison, "pr_ref"),
        users=_integer(prison, "pr_uref"),
        processes=_count(kernel, prison, processes, found),
        notes=tuple(notes),
    )


def _integer(prison: Object, member: str) -> int | Absent:
    return attempt(lambda: int(getattr(prison, member)))


def _text(prison: Object, member: str) -> str | Absent:
    return attempt(lambda: str(getattr(prison, member)))


def _own_vnet(kernel: Kernel, prison: Object, flags: int | Absent) -> bool | Absent:
    """PR_VNET; without VIMAGE there is nothing to own."""
    if not kernel.names.vnets:
        return Absent.NOT_APPLICABLE
    return flags if isinstance(flags, Absent) else bool(flags & 0x10)


def _state(prison: Object) -> str:
    """14.0 has a state; before, a jail without users is dying (kern_jail_get)."""
    if prison.has_("pr_state"):
        return _STATES.get(int(prison.pr_state), f"unknown ({int(prison.pr_state)})")
    return "alive" if prison.pr_uref else "dying"


def _parameters(
    kernel: Kernel, flags: int | Absent, allow: int | Absent, addresses: tuple[object, object], names: AllowNames
) -> tuple[str, ...] | Absent:
    if isinstance(flags, Absent):
        return flags
    has_ip4, has_ip6 = (bool(one) and not isinstance(one, Absent) for one in addresses)
    return (
        *flag_names(flags, vimage=bool(kernel.names.vnets), has_ip4=has_ip4, has_ip6=has_ip6),
        *(() if isinstance(allow, Absent) else names.text(allow)),
    )


def _count(kernel: Kernel, prison: Object, processes: dict[int, int] | Absent, found: _Found) -> int | Absent:
    """Processes by their credentials; since 14.0 compared with the prison's own list."""
    if isinstance(processes, Absent):
        return processes
    count = processes.get(prison.address_, 0)
    if prison.has_("pr_proclist") and kernel.has_member("proc", "p_jaillist"):
        notes = found.notes[prison.address_]
        queue = Queue(kernel.structs, prison.at_("pr_proclist"), "proc", "p_jaillist", limit=found.processes_left)
        listed = sum(1 for _ in queue.addresses())
        found.processes_left -= listed
        notes += [f"pr_proclist {problem}" for problem in queue.problems]
        if listed != count:
            notes.append(f"pr_proclist has {listed} processes, allproc has {count}")
    return count


# Addresses


def _addresses(kernel: Kernel, prison: Object, family: int, notes: list[str]) -> Addresses | Absent:
    """Its IPv4 (family 0) or IPv6 (1) addresses."""
    name = ("IPv4", "IPv6")[family]
    try:
        count, place = _address_list(kernel, prison, family)
        if not 0 <= count <= MAX_ADDRESSES:
            notes.append(f"{count} {name} addresses are impossible")
            return Absent.NOT_AVAILABLE
        size = (4, 16)[family]
        packed = kernel.structs.read(place, count * size) if count and place else b""
    except AddressError as error:
        notes.append(f"its {name} addresses cannot be read: {error}")
        return Absent.UNREADABLE
    except SymbolError:
        return Absent.NOT_AVAILABLE
    return tuple(str(ipaddress.ip_address(packed[at : at + size])) for at in range(0, len(packed), size))


def _address_list(kernel: Kernel, prison: Object, family: int) -> tuple[int, int]:
    """``(count, address)`` of the packed addresses."""
    if not prison.has_("pr_addrs"):
        member = ("pr_ip4", "pr_ip6")[family]
        return int(getattr(prison, f"{member}s")), int(getattr(prison, member))
    # 14.0: pr_addrs[2], each a struct prison_ip of kern_jail.c: {epoch_context ctx, uint32_t ips, addresses}.
    block: Any = prison.pr_addrs[family]
    if not block:
        return 0, 0
    if kernel.has_member("prison_ip", "ips"):
        at = kernel.structs.offset("prison_ip", "ips")
    else:
        at = 2 * kernel.structs.word_size
    return kernel.structs.uint(int(block) + at, 4), int(block) + at + 4
