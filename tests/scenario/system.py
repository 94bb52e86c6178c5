"""The system: a small server with two jails that panicked. Add to it freely; builders and tests follow."""

from __future__ import annotations

from .files import DEVICES, JAILS, MOUNTS, NEGATIVE_NAMES, VNODES
from .kernel import KENV, LINKER_FILES, MESSAGES, PANIC, SYSCTLS
from .model import (
    BpfListener,
    Cpu,
    EventFd,
    Kqueue,
    MessageQueue,
    Pipe,
    ProcessDescriptor,
    PseudoTerminal,
    Semaphore,
    Session,
    SharedMemory,
    SwapDevice,
    System,
    Terminal,
)
from .network import INTERFACES, NEIGHBORS, ROUTES, SOCKETS
from .processes import CREDENTIALS, OBJECTS, PAGE, PROCESSES
from .user_memory import complete

COMPLETE_PROCESSES, COMPLETE_OBJECTS = complete(PROCESSES, OBJECTS, VNODES)

SYSTEM = System(
    hostname="server",
    domain="example",
    host_uuid=JAILS[0].host_uuid,
    host_id=0x12345678,
    ident="GENERIC",
    boot_time=(1_767_225_600, 250_000_000),
    uptime=(1200, 500_000_000),
    securelevel=1,
    panic=PANIC,
    dump_tid=100126,
    memory_pages=16384,
    cpus=(Cpu(0, 100126, 100010), Cpu(1, 100011, 100011), Cpu(2, 100012, 100012), Cpu(3, 100013, 100013)),
    credentials=CREDENTIALS,
    jails=JAILS,
    processes=COMPLETE_PROCESSES,
    sessions=(Session(850, "alice", "pts/0"), Session(880, "root", "pts/1"), Session(1, "root")),
    terminals=(Terminal("pts/0", 850, 850, b"$ su -\r\nPassword:", b"open sesame\n"), Terminal("pts/1", 880, 880)),
    mounts=MOUNTS,
    vnodes=VNODES,
    objects=COMPLETE_OBJECTS,
    pipes=(Pipe("sh-pipe", (b"waiting in the pipe", b"")), Pipe("worker-pipe")),
    kqueues=(
        Kqueue("syslogd-kq", 1, ((4, "EVFILT_READ"), (5, "EVFILT_READ"))),
        Kqueue("worker-kq", 0, ((7, "EVFILT_READ"), (42, "EVFILT_TIMER"), (850, "EVFILT_PROC"))),
    ),
    shared_memory=(
        SharedMemory("worker-shm", "/worker", 2 * PAGE, object="shm-object"),
        SharedMemory("worker-anon", "", PAGE, 0o600),
    ),
    eventfds=(EventFd("worker-event", 5),),
    process_descriptors=(ProcessDescriptor("truss-child", 863),),
    semaphores=(Semaphore("worker-sem", "/worker.sem", 2),),
    message_queues=(MessageQueue("worker-mq", "worker", 10, 128, 3),),
    pseudo_terminals=(PseudoTerminal("master-0", "pts/0"),),
    sockets=SOCKETS,
    interfaces=INTERFACES,
    neighbors=NEIGHBORS,
    routes=ROUTES,
    bpf_listeners=(BpfListener("vtnet0", 0, 880, True, 1000, 3, 900, 12),),
    linker_files=LINKER_FILES,
    sysctls=SYSCTLS,
    kenv=KENV,
    message_buffer=MESSAGES,
    swap_devices=(SwapDevice("ada0p3", 0x10000, 2),),
    devices=DEVICES,
    negative_names=NEGATIVE_NAMES,
)
"""What there is."""
