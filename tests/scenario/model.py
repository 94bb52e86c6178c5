"""The vocabulary of the description.

Everything is plain data with FreeBSD's names. Things refer to each other by number (pid, jid) or by key (a short name
that is unique among things of that kind), never by address: addresses exist only once the writer has put it all into
memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ThreadState = Literal["running", "runq", "can_run", "sleep", "lock", "iwait", "suspended", "inactive"]


@dataclass(frozen=True)
class Credentials:
    """Who a process is: `struct ucred`. `groups` are the supplementary groups, without the effective one."""

    uid: int = 0
    ruid: int = 0
    svuid: int = 0
    gid: int = 0
    rgid: int = 0
    svgid: int = 0
    groups: tuple[int, ...] = ()
    jid: int = 0
    capability_mode: bool = False
    login_class: str = "daemon"
    audit_id: int = 0xFFFFFFFF
    audit_session: int = 0


@dataclass(frozen=True)
class Thread:
    """`struct thread`; `wmesg` is the wait message or, in state lock, the lock's name.

    Attributes:
        frames: Names of kernel functions on its stack, the innermost first.
        cpu: The CPU it runs on (state running), else the last one.
        syscall: Number of the system call it is in, if any.
        owner: In state lock: tid of the thread that holds the lock.
        base_priority: Its own priority while it borrows `priority` from a thread that waits for its lock.
    """

    tid: int
    name: str
    state: ThreadState = "sleep"
    wmesg: str = ""
    cpu: int = 0
    priority: int = 120
    frames: tuple[str, ...] = ()
    syscall: int | None = None
    interruptible: bool = True
    owner: int = 0
    base_priority: int | None = None


@dataclass(frozen=True)
class Descriptor:
    """An entry of a descriptor table.

    Attributes:
        kind: vnode, pipe, socket, kqueue, pts, shm, eventfd, procdesc, sem, mqueue.
        key: What it refers to: the key of that thing.
        flags: r, w, a (append), n (non-blocking) as letters.
        offset: File offset.
        rights: Names of capability rights (CAP_READ …); None: all of them.
        close_on_exec: The descriptor's own flag.
        file: Key of the open file: descriptors with the same key share one `struct file`.
    """

    fd: int
    kind: str
    key: str
    flags: str = "rw"
    offset: int = 0
    rights: tuple[str, ...] | None = None
    close_on_exec: bool = False
    file: str = ""


@dataclass(frozen=True)
class Page:
    """A resident page of a VM object: content at the start of the page, rest zero."""

    index: int
    content: bytes


@dataclass(frozen=True)
class VmObject:
    """`struct vm_object`; `backing` is the object that it shadows. `vnode` is a vnode's key.

    `swapped` are pages that are not resident but on a swap device: (index, swap block).
    """

    key: str
    kind: Literal["anonymous", "vnode", "device", "phys", "swap"] = "anonymous"
    size: int = 0x1000
    pages: tuple[Page, ...] = ()
    backing: str = ""
    backing_offset: int = 0
    vnode: str = ""
    swapped: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class SwapDevice:
    """`struct swdevt`, by the name of the device; sizes are in pages."""

    device: str
    blocks: int
    used: int
    first: int = 1


@dataclass(frozen=True)
class VmEntry:
    """`struct vm_map_entry`; protections as rwx letters."""

    start: int
    end: int
    prot: str
    max_prot: str = "rwx"
    object: str = ""
    offset: int = 0
    copy_on_write: bool = False
    needs_copy: bool = False
    grows_down: bool = False
    guard: bool = False


@dataclass(frozen=True)
class UserPage:
    """A page that the process's page tables map, by the object that it belongs to."""

    va: int
    object: str
    index: int


@dataclass(frozen=True)
class Process:
    """`struct proc` and what hangs below it.

    Attributes:
        args: The arguments; None for kernel processes.
        args_cached: The kernel keeps a copy (`p_args`); long ones are on the user's stack only.
        environment: On the user's stack.
        state: normal, zombie, or new.
        flags: Names of P_ flags besides those that follow from the rest.
        flags2: Names of P2_ flags.
        start: Seconds and microseconds since boot.
        text: Key of the vnode it executes.
        cwd, root, jail_root: Keys of vnodes.
        shares_files_with: pid whose descriptor table it shares.
        exit_status: wait(2) status of a zombie, as (exit code, signal).
        tracer: pid of the debugger.
        abi: Name of the `sysentvec`.
        nice: -20 to 20.
    """

    pid: int
    ppid: int
    comm: str
    pgid: int
    sid: int
    credentials: str
    args: tuple[str, ...] | None = None
    args_cached: bool = True
    environment: tuple[str, ...] = ()
    threads: tuple[Thread, ...] = ()
    state: Literal["normal", "zombie", "new"] = "normal"
    flags: tuple[str, ...] = ()
    flags2: tuple[str, ...] = ()
    start: tuple[int, int] = (0, 0)
    text: str = ""
    cwd: str = ""
    root: str = ""
    jail_root: str = ""
    descriptors: tuple[Descriptor, ...] = ()
    shares_files_with: int | None = None
    exit_status: tuple[int, int] = (0, 0)
    tracer: int | None = None
    abi: str = "FreeBSD ELF64"
    nice: int = 0
    vm_entries: tuple[VmEntry, ...] = ()
    user_pages: tuple[UserPage, ...] = ()

    @property
    def is_kernel(self) -> bool:
        """Whether it has no user part."""
        return "P_KPROC" in self.flags

    @property
    def cpu_time(self) -> tuple[int, int]:
        """Microseconds it has run, as user and in the kernel; each process another time."""
        return self.pid * 1000, self.pid * 500 + 100_000


@dataclass(frozen=True)
class Session:
    """`struct session`, by its leader's pid; `tty` is a terminal's name."""

    sid: int
    login: str = ""
    tty: str = ""


@dataclass(frozen=True)
class Terminal:
    """`struct tty`: name below /dev, its session and its foreground process group; what waits to be output or read."""

    name: str
    sid: int
    pgid: int
    output: bytes = b""
    input: bytes = b""


@dataclass(frozen=True)
class Jail:
    """`struct prison`; jid 0 is the host. `parameters` are names of pr_allow flags."""

    jid: int
    name: str
    hostname: str
    path: str = "/"
    root: str = ""
    parent: int = 0
    ip4: tuple[str, ...] = ()
    ip6: tuple[str, ...] = ()
    vnet: bool = False
    securelevel: int = -1
    osrelease: str = ""
    host_uuid: str = ""
    parameters: tuple[str, ...] = ()
    children_max: int = 0


@dataclass(frozen=True)
class Mount:
    """`struct mount`: what statfs(2) tells. `flags` are names of MNT_ flags; `covers` is the key of the vnode below."""

    key: str
    source: str
    on: str
    fstype: str
    flags: tuple[str, ...] = ()
    owner: int = 0
    covers: str = ""
    fsid: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Vnode:
    """`struct vnode`.

    Attributes:
        mount: Key of the mount it is on; empty for none.
        path: From the root of the whole system; empty for the root of a file system, whose path is where it is mounted.
        names: Further names (hard links), as paths.
        cached: Whether the name cache knows its name.
        deleted: Unlinked while open.
        device: Name of the device of a character vnode.
        lower: nullfs: key of the vnode below.
        dotdot: The name cache knows the parent of this directory by ``..`` but not the directory's own name.
        doomed: Reclaimed while open: the file system it was on is gone (forced unmount, revoke).
    """

    key: str
    mount: str
    path: str
    kind: Literal["VREG", "VDIR", "VCHR", "VFIFO", "VLNK", "VSOCK", "VBAD"] = "VREG"
    inode: int = 2
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    names: tuple[str, ...] = ()
    cached: bool = True
    deleted: bool = False
    device: str = ""
    lower: str = ""
    dotdot: bool = False
    doomed: bool = False

    @property
    def times(self) -> tuple[int, int, int, int]:
        """Seconds of last access, modification, status change and of birth, each different."""
        base = 1_760_000_000 + 1000 * self.inode
        return base + 400, base + 200, base + 300, base + 100


@dataclass(frozen=True)
class Device:
    """`struct cdev`: a character device; `driver` is the name of its `struct cdevsw`. It is in every devfs mount,
    but hidden (DE_WHITEOUT) in those whose key is in `hidden`."""

    name: str
    driver: str
    inode: int
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipe:
    """`struct pipepair`; descriptors refer to ``key:0`` and ``key:1``. `buffered` is what waits in each end."""

    key: str
    buffered: tuple[bytes, bytes] = (b"", b"")


@dataclass(frozen=True)
class Kqueue:
    """`struct kqueue` with the number of events that are pending, and its knotes as (ident, filter name)."""

    key: str
    count: int = 0
    knotes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class SharedMemory:
    """`struct shmfd`; `path` is empty for SHM_ANON, `object` the key of the VM object with its pages."""

    key: str
    path: str
    size: int
    mode: int = 0o600
    object: str = ""


@dataclass(frozen=True)
class EventFd:
    """`struct eventfd`."""

    key: str
    count: int


@dataclass(frozen=True)
class ProcessDescriptor:
    """`struct procdesc`."""

    key: str
    pid: int


@dataclass(frozen=True)
class Semaphore:
    """`struct ksem`, POSIX."""

    key: str
    path: str
    value: int


@dataclass(frozen=True)
class MessageQueue:
    """`struct mqueue`, by its name on mqueuefs."""

    key: str
    name: str
    max_messages: int
    message_size: int
    messages: int = 0


@dataclass(frozen=True)
class PseudoTerminal:
    """The master side of a pts(4); `tty` names the slave."""

    key: str
    tty: str


@dataclass(frozen=True)
class Socket:
    """`struct socket` with its protocol's control block.

    Attributes:
        vnet: jid of the vnet it is in; 0 is the host's.
        family: inet, inet6 or unix.
        protocol: tcp, udp, raw, divert; stream, dgram or seqpacket for unix.
        state: TCP state (LISTEN, ESTABLISHED …), empty otherwise; SYN_RCVD without a descriptor is in the syncache.
        local, foreign: (address, port); path of a unix socket as the address.
        peer: Key of the connected unix socket.
        receive_queue, send_queue: Bytes that wait.
        backlog: (queue limit, incomplete, complete) of a listener.
        options: Names of SO_ options.
        owner: uid that made it.
        scope: Interface of a link-local address.
        listener: Key of the socket whose accept queue it waits in; `queue` says which queue that is.
        dual: An IPv6 socket that also takes IPv4.
        idle: Seconds since something was received.
    """

    key: str
    family: Literal["inet", "inet6", "unix"]
    protocol: str
    vnet: int = 0
    state: str = ""
    local: tuple[str, int] = ("", 0)
    foreign: tuple[str, int] = ("", 0)
    peer: str = ""
    receive_queue: int = 0
    send_queue: int = 0
    backlog: tuple[int, int, int] = (0, 0, 0)
    options: tuple[str, ...] = ()
    owner: int = 0
    scope: str = ""
    listener: str = ""
    queue: Literal["", "incomplete", "complete"] = ""
    dual: bool = False
    idle: int = 0


@dataclass(frozen=True)
class InterfaceAddress:
    """An address of an interface; `peer` is the broadcast address, or the other end of a point-to-point link."""

    family: Literal["inet", "inet6"]
    address: str
    prefix: int
    peer: str = ""


@dataclass(frozen=True)
class Interface:
    """`struct ifnet`; `flags` are names of IFF_ flags. Counters by their ifconfig/netstat names.

    `index` counts within the vnet, as it is until 13; `global_index` is what 14 has instead, if that differs.
    `home` is the jid of the vnet that it was created in, if not the one that it is in.
    """

    name: str
    vnet: int
    index: int
    kind: Literal["ether", "loop"]
    flags: tuple[str, ...]
    mtu: int
    link_address: str = ""
    addresses: tuple[InterfaceAddress, ...] = ()
    groups: tuple[str, ...] = ("all",)
    counters: dict[str, int] = field(default_factory=dict, hash=False)
    promiscuous: int = 0
    description: str = ""
    global_index: int = 0
    home: int | None = None


@dataclass(frozen=True)
class Neighbor:
    """An entry of the ARP or ND table (`struct llentry`); `expire` is seconds of uptime, 0 for permanent."""

    vnet: int
    interface: str
    address: str
    link_address: str
    state: str = "reachable"
    expire: int = 0


@dataclass(frozen=True)
class Route:
    """A route; `gateway` is an address or an interface (``link``). `flags` as netstat -r shows them.

    `expire` is in seconds of uptime, 0 for never. `multipath` is further (gateway, interface, weight) of a route with
    several nexthops, the first of which has weight 1; kernels without nexthop groups have that one only.
    """

    vnet: int
    fib: int
    destination: str
    gateway: str
    interface: str
    flags: str
    expire: int = 0
    multipath: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class BpfListener:
    """`struct bpf_d`."""

    interface: str
    vnet: int
    pid: int
    promiscuous: bool
    received: int
    dropped: int
    captured: int
    filter_length: int


@dataclass(frozen=True)
class KernelSymbol:
    """A symbol of a kernel module, by its offset from where the module is loaded."""

    name: str
    offset: int
    size: int
    kind: Literal["function", "object"] = "function"


@dataclass(frozen=True)
class LinkerFile:
    """`struct linker_file` with its modules as (id, name). `address` is filled by the writer; `size` in bytes."""

    id: int
    name: str
    path: str
    size: int
    references: int = 1
    modules: tuple[tuple[int, str], ...] = ()
    dependencies: tuple[int, ...] = ()
    symbols: tuple[KernelSymbol, ...] = ()
    vnet_variables: dict[str, int] = field(default_factory=dict, hash=False)
    dpcpu_variables: dict[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Sysctl:
    """A leaf of the sysctl tree: its value in memory, or only the handler that would make it."""

    name: str
    kind: Literal["int", "uint", "long", "ulong", "string", "opaque", "u64"]
    value: int | str | bytes | None
    handler: str = ""
    description: str = ""
    writable: bool = False


@dataclass(frozen=True)
class MessageBuffer:
    """The kernel's message buffer: all of its text; older text is overwritten when it is longer than `size`."""

    size: int
    text: str


@dataclass(frozen=True)
class Cpu:
    """`struct pcpu`: the threads by tid."""

    cpuid: int
    running: int
    idle: int


@dataclass(frozen=True)
class System:
    """The whole system."""

    hostname: str
    domain: str
    host_uuid: str
    host_id: int
    ident: str
    boot_time: tuple[int, int]
    uptime: tuple[int, int]
    securelevel: int
    panic: str
    dump_tid: int
    memory_pages: int
    cpus: tuple[Cpu, ...]
    credentials: dict[str, Credentials]
    jails: tuple[Jail, ...]
    processes: tuple[Process, ...]
    sessions: tuple[Session, ...]
    terminals: tuple[Terminal, ...]
    mounts: tuple[Mount, ...]
    vnodes: tuple[Vnode, ...]
    objects: tuple[VmObject, ...]
    pipes: tuple[Pipe, ...]
    kqueues: tuple[Kqueue, ...]
    shared_memory: tuple[SharedMemory, ...]
    eventfds: tuple[EventFd, ...]
    process_descriptors: tuple[ProcessDescriptor, ...]
    semaphores: tuple[Semaphore, ...]
    message_queues: tuple[MessageQueue, ...]
    pseudo_terminals: tuple[PseudoTerminal, ...]
    sockets: tuple[Socket, ...]
    interfaces: tuple[Interface, ...]
    neighbors: tuple[Neighbor, ...]
    routes: tuple[Route, ...]
    bpf_listeners: tuple[BpfListener, ...]
    linker_files: tuple[LinkerFile, ...]
    sysctls: tuple[Sysctl, ...]
    kenv: dict[str, str]
    message_buffer: MessageBuffer
    devices: tuple[Device, ...] = ()
    negative_names: tuple[tuple[str, str], ...] = ()
    """Names that the name cache knows not to exist: key of the directory, and the name."""
    swap_devices: tuple[SwapDevice, ...] = ()
