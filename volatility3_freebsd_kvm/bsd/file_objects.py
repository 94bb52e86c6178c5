"""What open files refer to: a name and a few words for files of every kind.

# Reference: sys/kern/kern_descrip.c (fo_fill_kinfo), uipc_shm.c, uipc_sem.c, uipc_mqueue.c, sys_procdesc.c,
# sys_eventfd.c, sys_timerfd.c, tty_pts.c, vfs_inotify.c, kern_jaildesc.c
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from ..exceptions import AddressError, SymbolError
from .file import File, Files, symbol_or_address
from .file_holders import Holders
from .file_socket import describe_socket
from .kernel import Kernel
from .kqueue import Kqueue
from .path import Paths
from .pipe import read_pipe
from .records import Absent
from .shm import read_shared_memory
from .vnode import Vnode, describe_vnode, device_text, names_text

CLOCKS = {0: "CLOCK_REALTIME", 4: "CLOCK_MONOTONIC", 5: "CLOCK_UPTIME"}
MAX_KNOTES_SHOWN = 8
MAX_NAME = 1024
_NONE = Absent.NOT_APPLICABLE


@dataclass(frozen=True)
class Referent:
    """What an open file refers to.

    Attributes:
        name: its path or, for what has none, what is to be said of it.
        path: whether `name` is a path from the root of the whole system.
        bound: the name by which the process itself called it, where that is another: of unix(4) sockets.
        vnode_type: ``VREG``, …
        inode: its number on its file system.
        mode: type and permissions as ls(1) shows them.
        size: bytes.
        protocol: of a socket.
        notes: what is odd, what is not known.
    """

    name: str | Absent = _NONE
    path: bool = False
    bound: str = ""
    vnode_type: str | Absent = _NONE
    inode: int | Absent = _NONE
    mode: str | Absent = _NONE
    size: int | Absent = _NONE
    protocol: str | Absent = _NONE
    notes: tuple[str, ...] = ()


NOTHING = Referent()


class Referents:
    """Tells what files refer to, each once."""

    def __init__(self, kernel: Kernel, files: Files, paths: Paths) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._paths = paths
        self._holders = Holders(kernel, files)
        self._vnodes: dict[int, Vnode] = {}
        self._known: dict[int, Referent] = {}
        self._ways: dict[str, Callable[[File], Referent]] = {
            "vnode": self._vnode,
            "fifo": self._fifo,
            "socket": self._socket,
            "pipe": self._pipe,
            "kqueue": self._kqueue,
            "mqueue": self._message_queue,
            "shm": self._shared_memory,
            "sem": self._semaphore,
            "pts": self._pseudo_terminal,
            "dev": self._device,
            "procdesc": self._process,
            "eventfd": self._event_counter,
            "timerfd": self._timer,
            "inotify": self._inotify,
            "jaildesc": self._jail,
        }

    def of(self, file: File) -> Referent:
        """What a file refers to; never raises: what cannot be had is `Absent` and told in the notes."""
        if file.address not in self._known:
            self._known[file.address] = self._describe(file)
        return self._known[file.address]

    def of_vnode(self, address: int) -> Referent:
        """A vnode, for what is no descriptor: directories, the program's text, a terminal."""
        vnode = self._vnode_at(address)
        return Referent(
            name=vnode.path.path or _NONE,
            path=bool(vnode.path.path),
            vnode_type=vnode.type,
            inode=vnode.attributes.inode,
            mode=vnode.mode,
            size=vnode.attributes.size,
            notes=(*vnode.notes, *device_text(vnode), *names_text(vnode)),
        )

    def _vnode_at(self, address: int) -> Vnode:
        if address not in self._vnodes:
            self._vnodes[address] = describe_vnode(self._kernel, address, self._paths)
        return self._vnodes[address]

    def _describe(self, file: File) -> Referent:
        way = self._ways.get(file.kind)
        if way is None:
            return NOTHING
        try:
            return way(file)
        except AddressError as error:
            return Referent(Absent.UNREADABLE, notes=(str(error),))
        except SymbolError:
            return Referent(Absent.NOT_AVAILABLE)

    # Files with a vnode

    def _vnode(self, file: File) -> Referent:
        # O_PATH and devices have it in f_vnode only; f_data is the device of the latter.
        address = file.vnode or file.data
        return self.of_vnode(address) if address else Referent(notes=("it has no vnode",))

    def _fifo(self, file: File) -> Referent:
        found = self._vnode(file)
        pipe = read_pipe(self._kernel, file.data)
        waiting = (f"{pipe.waiting} bytes waiting",) if isinstance(pipe.waiting, int) and pipe.waiting else ()
        return replace(found, notes=(*found.notes, *waiting, *pipe.notes))

    # Pipes and sockets

    def _pipe(self, file: File) -> Referent:
        pipe = read_pipe(self._kernel, file.data)
        if isinstance(pipe.peer, Absent):
            return Referent(pipe.peer, notes=pipe.notes)
        name = f"-> {self._other_end(pipe.peer)}"
        if isinstance(pipe.waiting, int) and pipe.waiting:
            name += f", {pipe.waiting} bytes waiting"
        return Referent(name, inode=pipe.inode, size=pipe.waiting, notes=pipe.notes)

    def _other_end(self, address: int) -> str:
        return (self._holders.text(address) or f"{address:#x}") if address else "closed"

    def _socket(self, file: File) -> Referent:
        if not file.data:
            return Referent(notes=("it has no socket",))
        found = describe_socket(self._kernel, file.data)
        parts = [part for part in (found.name,) if part]
        bound, is_path = "", False
        if found.path:
            path = self._paths.of(found.vnode) if found.vnode else None
            bound, is_path = found.path, bool(path and path.complete)
            parts.insert(0, path.path if path and path.complete else found.path)
        if found.peer:
            to = f" ({found.peer_path})" if found.peer_path else ""
            parts.append(f"-> {self._other_end(found.peer)}{to}")
        name = " ".join(parts)
        return Referent(
            name=name or _NONE,
            path=is_path and len(parts) == 1,
            bound=bound if bound != name else "",
            protocol=found.protocol or Absent.NOT_AVAILABLE,
            notes=found.notes,
        )

    # Communication between processes

    def _kqueue(self, file: File) -> Referent:
        kqueue = Kqueue(self._kernel, file.data)
        knotes = list(kqueue.knotes())
        shown = ", ".join(str(knote) for knote in islice(knotes, MAX_KNOTES_SHOWN))
        more = f" and {len(knotes) - MAX_KNOTES_SHOWN} more" if len(knotes) > MAX_KNOTES_SHOWN else ""
        watched = f"watches {shown}{more}" if knotes else "watches nothing"
        return Referent(f"{watched}; {kqueue.pending} pending", notes=tuple(kqueue.problems))

    def _shared_memory(self, file: File) -> Referent:
        memory = read_shared_memory(self._kernel, file.data)
        mode = memory.mode if isinstance(memory.mode, Absent) else _mode_text(memory.mode)
        return Referent("anonymous" if memory.path == "" else memory.path, mode=mode, size=memory.size)

    def _semaphore(self, file: File) -> Referent:
        ksem = self._kernel.object("ksem", file.data)
        path = ksem.ks_path.text_(MAX_NAME) or "anonymous"
        return Referent(f"{path}, value {int(ksem.ks_value)}", mode=_mode_text(int(ksem.ks_mode)))

    def _message_queue(self, file: File) -> Referent:
        node = self._kernel.object("mqfs_node", file.data)
        queue = node.mn_data.as_("mqueue")
        numbers = f"{int(queue.mq_curmsgs)} of {int(queue.mq_maxmsg)} messages of at most {int(queue.mq_msgsize)} bytes"
        return Referent(f"/{node.mn_name}, {numbers}", inode=int(node.mn_fileno))

    def _event_counter(self, file: File) -> Referent:
        return Referent(f"count {int(self._kernel.object('eventfd', file.data).efd_count)}")

    def _timer(self, file: File) -> Referent:
        timer = self._kernel.object("timerfd", file.data)
        number = int(timer.tfd_clockid)
        return Referent(f"{CLOCKS.get(number, f'clock {number}')}, count {int(timer.tfd_count)}")

    def _inotify(self, file: File) -> Referent:
        return Referent(f"{int(self._kernel.object('inotify_softc', file.data).npending)} pending")

    # Things that have descriptors

    def _pseudo_terminal(self, file: File) -> Referent:
        device = self._kernel.object("tty", file.data).t_dev.as_("cdev")
        return Referent(f"master of {device.si_name}")

    def _device(self, file: File) -> Referent:
        return Referent(file.operations or symbol_or_address(self._kernel, file.data))

    def _process(self, file: File) -> Referent:
        procdesc = self._kernel.object("procdesc", file.data)
        name = f"process {int(procdesc.pd_pid)}"
        proc = procdesc.pd_proc
        return Referent(f"{name} ({proc.as_('proc').p_comm})" if proc else f"{name}, which is gone")

    def _jail(self, file: File) -> Referent:
        prison = self._kernel.object("jaildesc", file.data).jd_prison
        if not prison:
            return Referent("a jail that is gone")
        found = prison.as_("prison")
        return Referent(f"jail {int(found.pr_id)} ({found.pr_name})")


def _mode_text(mode: int) -> str:
    return stat.filemode(stat.S_IFREG | mode & 0o7777)
