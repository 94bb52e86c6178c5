"""What the description says that `freebsd.lsof` has to show, record by record."""

from __future__ import annotations

import stat
from functools import lru_cache

from tests.bsd.process_truth import IN_ORDER
from tests.scenario.kernels import build_world
from tests.scenario.model import Descriptor, Process, Socket, Vnode
from tests.scenario.paths import directories_of, full_path, open_files, table_owner
from tests.scenario.system import SYSTEM
from volatility3_freebsd_kvm.bsd.file_objects import Referent
from volatility3_freebsd_kvm.bsd.open_files import OUTSIDE, OpenFile
from volatility3_freebsd_kvm.bsd.path import DOOMED_NOTE, NO_NAME
from volatility3_freebsd_kvm.bsd.records import Absent

VNODES = {vnode.key: vnode for vnode in SYSTEM.vnodes}
PROCESSES = {process.pid: process for process in SYSTEM.processes}
SOCKETS = {socket.key: socket for socket in SYSTEM.sockets}
FSTYPES = {mount.key: mount.fstype for mount in SYSTEM.mounts}
FORMATS = {
    "VREG": stat.S_IFREG,
    "VDIR": stat.S_IFDIR,
    "VCHR": stat.S_IFCHR,
    "VSOCK": stat.S_IFSOCK,
    "VFIFO": stat.S_IFIFO,
}
NONE, NOT_AVAILABLE = Absent.NOT_APPLICABLE, Absent.NOT_AVAILABLE


# Vnodes


def expected_path(vnode: Vnode) -> str:
    """Its path as far as it can be found out: tmpfs needs no name cache, devfs and nullfs neither."""
    if vnode.doomed:
        return ""
    if vnode.deleted or vnode.dotdot:
        return f"{vnode.path.rpartition('/')[0]}/<inode {vnode.inode}>"
    return full_path(SYSTEM, vnode)


def expected_notes(vnode: Vnode) -> tuple[str, ...]:
    if vnode.doomed:
        return (DOOMED_NOTE,)
    if vnode.deleted:
        return ("deleted",)
    if vnode.dotdot:
        return (NO_NAME,)
    return (f"also {', '.join(vnode.names)}",) if vnode.names else ()


def attributes(vnode: Vnode) -> tuple[int | Absent, str | Absent, int | Absent]:
    """Inode, mode and size. No kernel here has types for NFS; devices have no size."""
    fstype = FSTYPES.get(vnode.mount, "")
    if fstype in ("nfs", ""):
        return (NOT_AVAILABLE,) * 3
    mode = stat.filemode(FORMATS[vnode.kind] | vnode.mode)
    return vnode.inode, mode, NONE if fstype == "devfs" else vnode.size


def vnode_referent(key: str) -> Referent:
    vnode = VNODES[key]
    inode, mode, size = attributes(vnode)
    path = expected_path(vnode)
    return Referent(
        path or NONE,
        bool(path),
        vnode_type=vnode.kind,
        inode=inode,
        mode=mode,
        size=size,
        notes=expected_notes(vnode),
    )


# Descriptors


@lru_cache(maxsize=1)
def holders() -> dict[tuple[str, str], str]:
    """Descriptors as PID/FD by kind and key of what they refer to; those of a shared table for each of its users."""
    found: dict[tuple[str, str], list[str]] = {}
    for pid in IN_ORDER:
        process = PROCESSES[pid]
        if process.state != "zombie":
            for item in PROCESSES[table_owner(process)].descriptors:
                found.setdefault((item.kind, item.key), []).append(f"{pid}/{item.fd}")
    return {key: ", ".join(names) for key, names in found.items()}


def referent(kernel: str, item: Descriptor) -> Referent:
    """What a descriptor refers to."""
    makers = {"vnode": lambda: vnode_referent(item.key), "pipe": lambda: pipe(item.key)}
    makers |= {"socket": lambda: socket(SOCKETS[item.key]), "kqueue": lambda: kqueue(item.key)}
    if item.kind in makers:
        return makers[item.kind]()
    if item.kind == "eventfd":
        known = build_world(kernel).has_type("eventfd")
        return Referent(f"count {SYSTEM.eventfds[0].count}" if known else NOT_AVAILABLE)
    return {
        "shm": lambda: shared_memory(item.key),
        "sem": lambda: Referent("/worker.sem, value 2", mode="-rw-------"),
        "mqueue": lambda: Referent("/worker, 3 of 10 messages of at most 128 bytes", inode=3),
        "pts": lambda: Referent("master of pts/0"),
        "procdesc": lambda: Referent("process 863 (sleep)"),
    }[item.kind]()


def pipe(key: str) -> Referent:
    name, _, end = key.partition(":")
    number = next(index for index, one in enumerate(SYSTEM.pipes) if one.key == name)
    waiting = len(SYSTEM.pipes[number].buffered[int(end)])
    text = f"-> {holders()['pipe', f'{name}:{1 - int(end)}']}"
    return Referent(
        text + (f", {waiting} bytes waiting" if waiting else ""), inode=2 * number + 1 + int(end), size=waiting
    )


def kqueue(key: str) -> Referent:
    watched = {
        "syslogd-kq": "watches EVFILT_READ 4, EVFILT_READ 5; 1 pending",
        # By descriptor, then by hash: 850 is in chain 17, 42 in chain 42.
        "worker-kq": "watches EVFILT_READ 7, EVFILT_PROC 850, EVFILT_TIMER 42; 0 pending",
    }
    return Referent(watched[key])


def shared_memory(key: str) -> Referent:
    memory = next(one for one in SYSTEM.shared_memory if one.key == key)
    return Referent(memory.path or "anonymous", mode=stat.filemode(stat.S_IFREG | memory.mode), size=memory.size)


def socket(item: Socket) -> Referent:
    """As sockstat(1) would tell it."""
    if item.family == "unix":
        return unix_socket(item)
    version = "46" if item.dual else {"inet": "4", "inet6": "6"}[item.family]
    protocol = {"raw": "icmp"}.get(item.protocol, item.protocol) + version
    name = end(item, item.local)
    if item.foreign[1]:
        name += f" <-> {end(item, item.foreign)}"
    return Referent(f"{name} {item.state}".strip(), protocol=protocol)


def end(item: Socket, place: tuple[str, int]) -> str:
    address, port = place
    # What the description has as the port of a raw socket is its protocol.
    port_text = str(port) if port and item.protocol != "raw" else "*"
    if address in ("0.0.0.0", "::", ""):
        return f"*:{port_text}"
    scope = f"%{item.scope}" if item.scope else ""
    return f"[{address}{scope}]:{port_text}" if item.family == "inet6" else f"{address}:{port_text}"


def unix_socket(item: Socket) -> Referent:
    names = {
        "log": Referent("/var/run/log", True),
        "log-client": Referent(f"-> {holders()['socket', 'log']} (/var/run/log)"),
        "pair-a": Referent(f"-> {holders()['socket', 'pair-b']}"),
        "pair-b": Referent(f"-> {holders()['socket', 'pair-a']}"),
        "pg-unix": Referent("/jails/db/pg/tmp/.s.PGSQL.5432 LISTEN", bound="/tmp/.s.PGSQL.5432"),
    }
    found = names[item.key]
    return Referent(found.name, found.path, found.bound, protocol=item.protocol)


# Records


class Expected:
    """Makes the records of one kernel."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.world = build_world(kernel)
        self.shown: dict[int, int] = {}

    def records(self, pids: list[int] | None = None) -> list[OpenFile]:
        """Of all processes, or of some."""
        found = []
        for pid in IN_ORDER:
            process = PROCESSES[pid]
            if (pids is None or pid in pids) and process.state != "zombie":
                found += [*self.special(process), *self.descriptors(process)]
        return found

    def record(self, process: Process, fd: str, **fields: object) -> OpenFile:
        credentials = SYSTEM.credentials[process.credentials]
        return OpenFile(process.pid, process.comm, credentials.uid, credentials.jid, fd, **fields)  # type: ignore[arg-type]

    def special(self, process: Process) -> list[OpenFile]:
        cwd, root, jail = directories_of(SYSTEM, process, own=self.world.has("proc", "p_pd"))
        tty = next((session.tty for session in SYSTEM.sessions if session.sid == process.sid), "")
        on_tty = (vnode.key for vnode in SYSTEM.vnodes if tty and vnode.device == tty and vnode.mount == "dev")
        terminal = next(on_tty, "")
        places = (("text", process.text), ("ctty", terminal), ("cwd", cwd), ("root", root), ("jail", jail))
        return [self.of_vnode(process, name, key) for name, key in places if key]

    def of_vnode(self, process: Process, name: str, key: str) -> OpenFile:
        what = vnode_referent(key)
        seen_as, notes = self.seen_as(process, what)
        data = int(self.world.get("vnode", key))
        return self.record(process, name, kind="vnode", referent=what, seen_as=seen_as, data=data, notes=notes)

    def descriptors(self, process: Process) -> list[OpenFile]:
        owner = table_owner(process)
        if owner in self.shown:
            note = f"shares the descriptors of process {self.shown[owner]}"
            return [self.record(process, "*", notes=(note,))]
        self.shown[owner] = process.pid
        return [self.descriptor(process, owner, item) for item in sorted(PROCESSES[owner].descriptors, key=_number)]

    def descriptor(self, process: Process, owner: int, item: Descriptor) -> OpenFile:
        what = referent(self.kernel, item)
        file = self.world.get("file", (owner, item.fd))
        fifo = item.kind == "vnode" and VNODES[item.key].kind == "VFIFO"
        seen_as, notes = self.seen_as(process, what)
        return self.record(
            process,
            str(item.fd),
            kind="fifo" if fifo else item.kind,
            flags="".join(letter if letter in item.flags else "-" for letter in "rwasfndl"),
            fd_flags=("close-on-exec",) if item.close_on_exec else (),
            references=len(open_files(SYSTEM)[item.file or (owner, item.fd)]),
            offset=item.offset if item.kind in ("vnode", "shm") and not fifo else NONE,
            rights=("all",) if item.rights is None else item.rights,
            referent=what,
            seen_as=seen_as,
            file=int(file),
            data=int(file.f_vnode or file.f_data),
            notes=notes,
        )

    def seen_as(self, process: Process, what: Referent) -> tuple[str | Absent, tuple[str, ...]]:
        if what.bound:
            return what.bound, ()
        _, root, _ = directories_of(SYSTEM, process, own=self.world.has("proc", "p_pd"))
        base = full_path(SYSTEM, VNODES[root]) if root else "/"
        if base == "/" or not what.path:
            return NONE, ()
        name = str(what.name)
        if name != base and not name.startswith(base + "/"):
            return NONE, (OUTSIDE,)
        return name[len(base) :] or "/", ()


def _number(item: Descriptor) -> int:
    return item.fd
