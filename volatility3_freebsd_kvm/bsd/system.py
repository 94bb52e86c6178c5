"""The system at a glance: what it is, when it was, why it was dumped and what is in it.

# Reference: sys/conf/newvers.sh, sys/kern/kern_mib.c, kern_shutdown.c (panicstr, dumptid), sys/sys/reboot.h (RB_*)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from ..exceptions import KVMError, SymbolError
from ..image.layouts import banner_in
from .clock import Clock, clock_of
from .kernel import Kernel
from .lists import Queue
from .machine import load_averages, page_size, pages
from .msgbuf import message_buffer
from .objects import Object
from .records import Absent, Problem, attempt
from .sysctl import Sysctl, sysctls
from .sysctl_values import load_text

MAX_PROCESSES, MAX_THREADS = 1 << 20, 1 << 20
_MAX_TEXT = 1024
_PANIC_BUFFER = 256
_RELEASE = re.compile(r"FreeBSD (\d+)\.(\d+)")
_BOOT_FLAGS = {
    0x1: "ASKNAME",
    0x2: "SINGLE",
    0x4: "NOSYNC",
    0x8: "HALT",
    0x10: "INITNAME",
    0x20: "DFLTROOT",
    0x40: "KDB",
    0x80: "RDONLY",
    0x100: "DUMP",
    0x200: "MINIROOT",
    0x800: "VERBOSE",
    0x1000: "SERIAL",
    0x2000: "CDROM",
    0x4000: "POWEROFF",
    0x8000: "GDB",
    0x1_0000: "MUTE",
    0x2_0000: "SELFTEST",
    0x10_0000: "PAUSE",
    0x20_0000: "REROOT",
    0x40_0000: "POWERCYCLE",
    0x1000_0000: "PROBE",
    0x2000_0000: "MULTIPLE",
    0x8000_0000: "BOOTINFO",
}
SECURITY = (
    *(f"security.bsd.{name}" for name in ("see_other_uids", "see_other_gids", "see_jail_proc")),
    *(f"security.bsd.{name}" for name in ("unprivileged_proc_debug", "unprivileged_read_msgbuf", "suser_enabled")),
    *("kern.randompid", "kern.module_path", "kern.corefile", "kern.coredump", "kern.sugid_coredump"),
    *("kern.elf64.aslr.enable", "kern.elf32.aslr.enable", "kern.elf64.allow_wx", "kern.elf32.allow_wx"),
    *("vfs.usermount", "net.inet.ip.forwarding", "net.inet6.ip6.forwarding"),
)
"""Sysctls that say how open a system is; those that it has are shown."""

Value = str | Absent


@dataclass(frozen=True)
class Fact:
    """One thing known of the system."""

    name: str
    value: Value
    notes: tuple[str, ...] = ()


def facts(kernel: Kernel) -> Iterator[Fact | Problem]:
    """All that is known; what this kernel does not tell is `Absent`."""
    clock = clock_of(kernel)
    yield from _identity(kernel)
    yield from _times(clock)
    yield from _host(kernel)
    yield from _hardware(kernel)
    yield from _panic(kernel)
    yield from _contents(kernel)
    yield from _security(kernel)


def _text(kernel: Kernel, name: str) -> Value:
    """A string, on one line as uname(1) prints it."""
    return attempt(lambda: re.sub(r"\n\s*", " ", kernel.text(kernel.address(name), _MAX_TEXT).rstrip()))


def _integer(kernel: Kernel, name: str) -> Value:
    return attempt(lambda: str(kernel.integer(name)))


# Identity


def _identity(kernel: Kernel) -> Iterator[Fact]:
    yield _version(kernel)
    yield Fact("Release", _text(kernel, "osrelease"))
    yield Fact("Ident", _text(kernel, "kern_ident"))
    yield Fact("osreldate", _integer(kernel, "osreldate"))
    yield Fact("Compiler", _text(kernel, "compiler_version"))
    yield Fact("Architecture", kernel.architecture or _text(kernel, "machine"))
    yield _kernel_file(kernel)
    yield Fact("Boot flags", attempt(lambda: _boot_flags(kernel.integer("boothowto", signed=False))))
    yield Fact("hz", _integer(kernel, "hz"))


def _version(kernel: Kernel) -> Fact:
    """The banner, compared with ``osreldate``; without symbols that of the message buffer, which may be older."""
    version, date = _text(kernel, "version"), attempt(lambda: kernel.integer("osreldate"))
    if isinstance(version, Absent) or not version:
        printed = banner_in(kernel.message_buffer)
        return Fact("Version", printed, ("from the message buffer",)) if printed else Fact("Version", version or "")
    notes = []
    release = _RELEASE.match(version)
    if release is None:
        notes.append("no FreeBSD banner: the symbols may not be those of this kernel")
    elif isinstance(date, int) and date // 100_000 != int(release[1]):
        notes.append(f"osreldate is {date}: the symbols may not be those of this kernel")
    return Fact("Version", version, tuple(notes))


def _kernel_file(kernel: Kernel) -> Fact:
    """``kernelname`` (kern.bootfile), which can be set; what the linker has of it otherwise."""
    name = _text(kernel, "kernelname")
    loaded = attempt(lambda: kernel.pointer("linker_kernel_file", "linker_file").pathname.text_(_MAX_TEXT))
    if not isinstance(name, str) or not name:
        return Fact("Kernel file", loaded)
    differs = isinstance(loaded, str) and bool(loaded) and loaded != name
    return Fact("Kernel file", name, (f"the linker has {loaded}",) if differs else ())


def _boot_flags(howto: int) -> str:
    """RB_*, as the loader's boot_* variables set them."""
    names = [name for bit, name in _BOOT_FLAGS.items() if howto & bit]
    rest = howto & ~sum(_BOOT_FLAGS)
    return " ".join([*names, *([f"{rest:#x}"] if rest else [])]) or "none"


# Times


def _times(clock: Clock) -> Iterator[Fact]:
    yield Fact("Boot time", date_text(clock.boot_time), clock.notes)
    yield Fact("Capture time", date_text(clock.capture_time))
    yield Fact("Uptime", _duration(clock.uptime))


def date_text(date: datetime | Absent) -> Value:
    """``2026-01-01 00:00:00.250000 UTC``."""
    return date if isinstance(date, Absent) else f"{date:%Y-%m-%d %H:%M:%S.%f} UTC"


def _duration(nanoseconds: int | Absent) -> Value:
    """``1 day, 0:20:00.500000``."""
    if isinstance(nanoseconds, Absent):
        return nanoseconds
    try:
        return str(timedelta(microseconds=nanoseconds // 1000))
    except OverflowError:
        return f"{nanoseconds // 10**9} seconds"


# Host and machine


def _host(kernel: Kernel) -> Iterator[Fact | Problem]:
    """What the host's prison has, which no variable has any more."""

    def member(name: str, shown: Callable[[Object], str]) -> Fact:
        return Fact(name, attempt(lambda: shown(kernel.object("prison", kernel.address("prison0")))))

    yield member("Hostname", lambda host: str(host.pr_hostname))
    yield member("Domain", lambda host: str(host.pr_domainname))
    yield member("Host UUID", lambda host: str(host.pr_hostuuid))
    yield member("Host ID", lambda host: f"{int(host.pr_hostid):#x}")
    yield member("Securelevel", lambda host: str(int(host.pr_securelevel)))
    name = attempt(lambda: str(kernel.object("prison", kernel.address("prison0")).pr_name))
    if isinstance(name, str) and name != "0":
        yield Problem("prison0", f"its name is {name!r}, not '0': the types may not be those of this kernel")


def _hardware(kernel: Kernel) -> Iterator[Fact]:
    size = page_size(kernel)
    yield Fact("CPU model", _text(kernel, "cpu_model"))
    yield Fact("CPUs", _integer(kernel, "mp_ncpus"))
    yield Fact("Page size", str(size) if size else Absent.NOT_AVAILABLE)
    for name, variable in (("Physical memory", "physmem"), ("Real memory", "realmem")):
        yield Fact(name, attempt(partial(_memory, kernel, variable, size)))
    yield Fact("Load averages", attempt(lambda: load_text(load_averages(kernel))))


def _memory(kernel: Kernel, variable: str, size: int | None) -> str:
    count = pages(kernel, variable)
    return f"{count} pages ({count * size} bytes)" if size else f"{count} pages"


# The panic


def _panic(kernel: Kernel) -> Iterator[Fact]:
    text = attempt(lambda: _panic_text(kernel))
    asked = text is Absent.NOT_APPLICABLE
    yield Fact("Panic", text, ("no panic: dumped on demand, perhaps while it was running",) if asked else ())
    tid = attempt(lambda: kernel.integer("dumptid"))
    yield _dumping_thread(kernel, tid)


def _panic_text(kernel: Kernel) -> Value:
    pointer = kernel.pointer("panicstr")
    return pointer.text_(_PANIC_BUFFER).rstrip("\n") if pointer else Absent.NOT_APPLICABLE


def _dumping_thread(kernel: Kernel, tid: int | Absent) -> Fact:
    """``dumptid`` and the process that has such a thread."""
    name = "Dumping thread"
    if isinstance(tid, Absent):
        return Fact(name, tid)
    try:
        proc = _process_of(kernel, tid)
    except KVMError as error:
        return Fact(name, f"tid {tid}", (f"its process is not known: {error}",))
    if proc is None:
        return Fact(name, f"tid {tid}", ("no process has such a thread",) if tid else ())
    command = attempt(lambda: str(proc.p_comm))
    pid = attempt(lambda: int(proc.p_pid))
    shown = f"tid {tid}, {command if isinstance(command, str) else '?'}"
    return Fact(name, f"{shown}, pid {pid}" if isinstance(pid, int) else shown)


def _process_of(kernel: Kernel, tid: int) -> Object | None:
    """The process of a thread, which the lists of all processes are searched for."""
    structs, left = kernel.structs, MAX_THREADS
    for proc in Queue(structs, kernel.address("allproc"), "proc", "p_list", limit=MAX_PROCESSES):
        threads = Queue(structs, proc.at_("p_threads"), "thread", "td_plist", limit=left)
        for thread in threads:
            left -= 1
            if attempt(partial(_tid, thread)) == tid:
                return proc
    return None


def _tid(thread: Object) -> int:
    return int(thread.td_tid)


# What is in it


def _contents(kernel: Kernel) -> Iterator[Fact]:
    yield _count(kernel, "Processes", "allproc", "proc", "p_list")
    yield _count(kernel, "Jails", "allprison", "prison", "pr_list")
    yield _count(kernel, "Mounts", "mountlist", "mount", "mnt_list")
    yield _count(kernel, "Linker files", "linker_files", "linker_file", "link")
    vnets = kernel.names.vnets
    yield Fact("VIMAGE", _vimage(kernel))
    yield Fact("Vnets", str(len(vnets)) if vnets else Absent.NOT_APPLICABLE)
    yield _messages(kernel)


def _count(kernel: Kernel, name: str, head: str, type_name: str, link: str) -> Fact:
    """How many elements a list has."""
    try:
        queue = Queue(kernel.structs, kernel.address(head), type_name, link)
        found = sum(1 for _ in queue.addresses())
    except SymbolError:
        return Fact(name, Absent.NOT_AVAILABLE)
    return Fact(name, str(found), tuple(f"{head} {problem}" for problem in queue.problems))


def _vimage(kernel: Kernel) -> Value:
    """Whether ``vnet0`` is there and in use."""
    if not kernel.has("vnet0"):
        # What has neither is no whole table of symbols.
        return "no" if kernel.has("prison0") else Absent.NOT_AVAILABLE
    return attempt(lambda: "yes" if kernel.pointer("vnet0") else "no")


def _messages(kernel: Kernel) -> Fact:
    text = message_buffer(kernel)
    notes = tuple(str(problem) for problem in text.problems)
    if not text.data:
        return Fact("Message buffer", Absent.NOT_AVAILABLE, notes)
    checksum = ", checksum matches" if text.checksum == "matches" else ""
    return Fact("Message buffer", f"{len(text.data)} bytes of text{checksum}", notes)


# Security


def _security(kernel: Kernel) -> Iterator[Fact]:
    """Of those that a damaged tree does not lead to any more there is nothing to say here."""
    found = {item.name: item for item in sysctls(kernel, SECURITY) if isinstance(item, Sysctl)}
    yield from (Fact(name, found[name].value, found[name].notes) for name in SECURITY if name in found)
