"""What the walkers over processes should find: as the scenario describes it, and as ps(1) would show it."""

from __future__ import annotations

import datetime

from tests.scenario.kernels import build_world
from tests.scenario.model import Credentials, Process
from tests.scenario.system import SYSTEM

PROCESSES = {process.pid: process for process in SYSTEM.processes}
BY_AGE = sorted(SYSTEM.processes, key=lambda process: (process.start, process.pid))
LIVE = [process.pid for process in reversed(BY_AGE) if process.state != "zombie"]
ZOMBIES = [process.pid for process in reversed(BY_AGE) if process.state == "zombie"]
IN_ORDER = [*LIVE, *ZOMBIES]
"""The youngest first, zombies last."""
JAILS = {jail.jid: jail.name for jail in SYSTEM.jails}
TTYS = {session.sid: session.tty for session in SYSTEM.sessions if session.tty}
LOGINS = {session.sid: session.login for session in SYSTEM.sessions}

STATES = {
    0: "SLs",
    1: "SLs",
    11: "RNL",
    12: "WL",
    28: "DL",
    700: "Ss",
    800: "Ss",
    820: "Ss",
    850: "Ss+",
    860: "S",
    861: "T",
    862: "S",
    863: "TX",
    864: "Z",
    866: "TX",
    870: "S",
    880: "Rs+",
    900: "SNs",
    910: "SCs",
    920: "Ss",
    1000: "SsJ",
    1001: "SJ",
    1100: "SsJ",
    1101: "SsJ",
}
"""What ps(1) would show."""
REMARKS = {863: ("traced by 862",), 864: ("exited with 3",), 866: ("traced by 862",)}


def release_of(kernel: str) -> str:
    return kernel.split("-")[0]


def address_of(kernel: str, kind: str, key: object) -> int:
    """Where the scenario has put something."""
    return int(build_world(kernel).get(kind, key))


def credentials_of(process: Process) -> Credentials:
    return SYSTEM.credentials[process.credentials]


def start_of(process: Process) -> datetime.datetime:
    """The boot time and what had passed since."""
    seconds, nanoseconds = SYSTEM.boot_time
    boot = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    passed, microseconds = process.start
    return boot + datetime.timedelta(seconds=passed, microseconds=microseconds + nanoseconds // 1000)


def flags_of(process: Process, kernel: str) -> set[str]:
    """The description's flags, and those that every such process has."""
    names = {*process.flags, *process.flags2, "P_INMEM"}
    names |= {"P_CONTROLT"} if process.sid in TTYS else set()
    names |= {"P_WEXIT"} if process.state == "zombie" else set()
    names |= set() if process.is_kernel else {"P_EXEC"}
    names |= {"P_SYSTEM"} if process.pid == 1 else set()
    return names | ({"P_IDLEPROC"} if process.comm == "idle" and release_of(kernel) == "15" else set())


def emulation_of(process: Process, kernel: str) -> str:
    if process.is_kernel:
        return "null"
    architecture = kernel.split("-")[1]
    if architecture in ("i386", "arm"):
        return "FreeBSD ELF32"
    return "FreeBSD ELF64 V2" if architecture == "powerpc64" else "FreeBSD ELF64"
