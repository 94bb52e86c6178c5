"""What the description says of files, and the dumps that the checks of files read."""

from __future__ import annotations

from functools import lru_cache

import pytest

from tests.scenario.kernels import build_world
from tests.scenario.model import Descriptor, Process, Vnode
from tests.scenario.system import SYSTEM
from volatility3_freebsd_kvm import kvm

from .file_walker import Walker

VNODES = {vnode.key: vnode for vnode in SYSTEM.vnodes}
MOUNTS = {mount.key: mount for mount in SYSTEM.mounts}
PROCESSES = {process.pid: process for process in SYSTEM.processes}
TYPES = {"VREG": 1, "VDIR": 2, "VCHR": 4, "VLNK": 5, "VSOCK": 6, "VFIFO": 7, "VBAD": 8}
FORMATS = {"VREG": 0x8000, "VDIR": 0x4000, "VFIFO": 0x1000, "VSOCK": 0xC000}

every_kernel = pytest.mark.usefixtures("kernel")


@lru_cache(maxsize=1)
def walker(kernel: str) -> Walker:
    memory = build_world(kernel).memory
    return Walker(kvm.open(memory.minidump().data), memory.types, memory.running_image.symbols)


def truth_path(vnode: Vnode) -> str:
    return vnode.path or (MOUNTS[vnode.mount].on if vnode.mount else "")


def known_path(vnode: Vnode) -> str | None:
    """The path that can be found out; devfs and nullfs do not need the name cache."""
    hidden = not vnode.cached or vnode.deleted or vnode.dotdot or vnode.doomed
    return None if hidden else truth_path(vnode)


def all_vnodes(walk: Walker) -> list[int]:
    return [vnode for mount in walk.mounts() for vnode in walk.mount_vnodes(mount)]


def process_of(table_user: Process) -> Process:
    """The process whose descriptors it uses."""
    return PROCESSES[table_user.shares_files_with or table_user.pid]


def fnv(data: bytes, start: int = 33554467) -> int:
    value = start
    for byte in data:
        value = value * 0x01000193 % 2**32 ^ byte
    return value


def ordered_vnodes() -> list[Vnode]:
    """As `all_vnodes` finds them."""
    return [vnode for mount in SYSTEM.mounts for vnode in SYSTEM.vnodes if vnode.mount == mount.key]


def files(walk: Walker) -> dict[tuple[int, int], tuple[int, int]]:
    """`struct file` and `struct filedescent` by pid and number."""
    found = {}
    for pid, proc in walk.processes().items():
        filedesc = walk.get(proc, "proc", "p_fd")
        if filedesc:
            for number, entry in walk.descriptors(filedesc).items():
                found[pid, number] = walk.get(entry, "filedescent", "fde_file"), entry
    return found


def truth_files() -> dict[tuple[int, int], Descriptor]:
    return {
        (process.pid, descriptor.fd): descriptor
        for process in SYSTEM.processes
        if process.state != "zombie"
        for descriptor in process_of(process).descriptors
    }
