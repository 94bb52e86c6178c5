"""What follows from the description of files: full paths, who refers to a vnode, which files are open."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator

from .model import Descriptor, Process, System, Vnode

FileKey = str | tuple[int, int]


def full_path(system: System, vnode: Vnode) -> str:
    """The path of a vnode from the root of the whole system: that of its mount if it is the root of one."""
    if vnode.path or not vnode.mount:
        return vnode.path
    return next(mount.on for mount in system.mounts if mount.key == vnode.mount)


def directories(system: System) -> dict[str, Vnode]:
    """Every directory by its path; where something is mounted, the root of what is mounted."""
    found: dict[str, Vnode] = {}
    for vnode in system.vnodes:
        path = full_path(system, vnode)
        if vnode.kind == "VDIR" and (path not in found or not vnode.path):
            found[path] = vnode
    return found


def parent_of(system: System, path: str) -> Vnode | None:
    """The directory in which a path's last name is."""
    return directories(system).get(posixpath.dirname(path))


def mount_root(system: System, key: str) -> Vnode:
    """The vnode at the root of a mount."""
    return next(vnode for vnode in system.vnodes if vnode.mount == key and (not vnode.path or vnode.path == "/"))


def has_files(process: Process) -> bool:
    """Whether a process has a descriptor table: all but zombies."""
    return process.state != "zombie"


def table_owner(process: Process) -> int:
    """The pid of the process whose descriptor table this is."""
    return process.pid if process.shares_files_with is None else process.shares_files_with


def directories_of(system: System, process: Process, *, own: bool) -> tuple[str, str, str]:
    """Keys of the current, root and jail root directory.

    Args:
        system: The description.
        process: The process.
        own: They belong to the process (13.0), and not to the descriptor table, which it may share (until 12).
    """
    holder = process
    if not own:
        holder = next(other for other in system.processes if other.pid == table_owner(process))
    return holder.cwd, holder.root, holder.jail_root


def open_files(system: System) -> dict[FileKey, list[tuple[int, Descriptor]]]:
    """The descriptors of every open file; a table that is shared counts once."""
    files: dict[FileKey, list[tuple[int, Descriptor]]] = {}
    for process in system.processes:
        if has_files(process) and table_owner(process) == process.pid:
            for descriptor in process.descriptors:
                key = descriptor.file or (process.pid, descriptor.fd)
                files.setdefault(key, []).append((process.pid, descriptor))
    return files


def use_counts(system: System, *, own: bool) -> Counter[str]:
    """How often each vnode is in use (`v_usecount`); `own` as in `directories_of`."""
    return Counter(_uses(system, own=own))


def _uses(system: System, *, own: bool) -> Iterator[str]:
    yield "rootvnode"
    for descriptors in open_files(system).values():
        if descriptors[0][1].kind == "vnode":
            yield descriptors[0][1].key
    for process in system.processes:
        if has_files(process):
            yield process.text
            if own or table_owner(process) == process.pid:
                yield from directories_of(system, process, own=own)
    yield from (jail.root for jail in system.jails)
    for mount in system.mounts:
        yield mount.covers
        yield mount_root(system, mount.key).key
    yield from (vnode.lower for vnode in system.vnodes)
    yield from (item.vnode for item in system.objects)
    for session in system.sessions:
        yield from (vnode.key for vnode in system.vnodes if session.tty and vnode.device == session.tty)
    # Sockets are bound to them, disks are mounted or swapped to.
    disks = {mount.source for mount in system.mounts} | {f"/dev/{item.device}" for item in system.swap_devices}
    yield from (vnode.key for vnode in system.vnodes if vnode.kind == "VSOCK" or vnode.path in disks)
