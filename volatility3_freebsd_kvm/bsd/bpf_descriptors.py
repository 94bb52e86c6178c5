"""The open files of /dev/bpf: what each leads to and who has it.

# Reference: sys/fs/devfs/devfs_int.h, devfs_vnops.c (devfs_set_cdevpriv), sys/net/bpf.c (bpfopen)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..exceptions import KVMError
from .file import Files, table_of
from .kernel import Kernel
from .lists import Queue
from .objects import Object
from .process import procs
from .records import Absent

MAX_DEVICES = 1 << 20
MAX_OPENS = 1 << 16

Holder = tuple[int, int]
"""``(pid, descriptor)``."""


@dataclass
class Descriptors:
    """The open files of bpf devices.

    Attributes:
        files: by ``struct bpf_d``, the addresses of the ``struct file`` that lead to it.
        complete: whether these are all.
    """

    files: dict[int, list[int]] = field(default_factory=dict)
    complete: bool = True
    _holders: dict[int, list[Holder]] = field(default_factory=dict)

    def holders(self, listener: int) -> tuple[Holder, ...] | Absent:
        """Who has a listener open; NOT_AVAILABLE where the kernel does not tell."""
        if listener not in self.files:
            return () if self.complete else Absent.NOT_AVAILABLE
        return tuple(holder for file in self.files[listener] for holder in self._holders.get(file, ()))

    def find_holders(self, kernel: Kernel) -> None:
        """Look for the files in the descriptor tables of all processes."""
        wanted = {file for files in self.files.values() for file in files}
        reader = Files(kernel)
        for proc in procs(kernel) if wanted else ():
            if not isinstance(proc, Object):
                continue
            try:
                pid, table = int(proc.p_pid), table_of(reader, proc)
            except KVMError:
                continue
            for entry in table or ():
                if entry.file.address_ in wanted:
                    self._holders.setdefault(entry.file.address_, []).append((pid, entry.number))


def find_descriptors(kernel: Kernel) -> Descriptors:
    """The open files of all devices of bpf's driver, and who has them."""
    found = Descriptors()
    try:
        driver = kernel.address("bpf_cdevsw")
        for one in _opens(kernel, driver, found):
            found.files.setdefault(int(one.cdpd_data), []).append(int(one.cdpd_fp))
        found.find_holders(kernel)
    except KVMError:
        found.complete = False
    return found


def _opens(kernel: Kernel, driver: int, found: Descriptors) -> Iterator[Object]:
    """What devfs keeps for each open file of the devices ``bpf``, and ``bpf0`` … of long ago."""
    devices = Queue(kernel.structs, kernel.address("cdevp_list"), "cdev_priv", "cdp_list", limit=MAX_DEVICES)
    for device in devices:
        if int(device.cdp_c.si_devsw) == driver:
            opens = Queue(kernel.structs, device.at_("cdp_fdpriv"), "cdev_privdata", "cdpd_list", limit=MAX_OPENS)
            yield from opens
            found.complete &= not opens.problems
    found.complete &= not devices.problems
