"""The kernel itself: modules, sysctls, environment, messages."""

from __future__ import annotations

from .model import (
    KernelSymbol,
    LinkerFile,
    MessageBuffer,
    Sysctl,
)

LINKER_FILES = (
    LinkerFile(1, "kernel", "/boot/kernel/kernel", 0, 3, ((1, "cam"), (2, "tcp_cubic"), (3, "ufs"))),
    LinkerFile(
        2,
        "if_epair.ko",
        "/boot/kernel/if_epair.ko",
        0x6000,
        1,
        ((400, "if_epair"),),
        (1,),
        (
            KernelSymbol("epair_start", 0x100, 0x80),
            KernelSymbol("epair_ioctl", 0x180, 0x40),
            KernelSymbol("epair_cloner_name", 0x3000, 8, "object"),
        ),
        {"epair_cloner": 0x1234},
        {"epair_dpcpu": 7},
    ),
    LinkerFile(
        4,
        "nullfs.ko",
        "/boot/kernel/nullfs.ko",
        0x4000,
        1,
        ((401, "nullfs"),),
        (1,),
        (KernelSymbol("nullfs_mount", 0x40, 0x200),),
    ),
)

SYSCTLS = (
    Sysctl("kern.ostype", "string", "FreeBSD", description="Operating system type"),
    Sysctl("kern.maxproc", "int", 4072, description="Maximum number of processes"),
    Sysctl("kern.hostuuid", "string", None, "sysctl_hostuuid"),
    Sysctl("kern.ipc.maxsockbuf", "ulong", 2_097_152, writable=True, description="Maximum socket buffer size"),
    Sysctl("vm.swap_total", "u64", 4_294_967_296),
    Sysctl("net.inet.ip.forwarding", "int", 1, writable=True),
    Sysctl("hw.ncpu", "int", 4),
    Sysctl("security.bsd.see_other_uids", "int", 0, writable=True),
    Sysctl("debug.example.opaque", "opaque", b"\x01\x02\x03\x04"),
)

KENV = {
    "hostid": "0x12345678",
    "kernelname": "/boot/kernel/kernel",
    "vfs.root.mountfrom": "ufs:/dev/ada0p2",
    "smbios.system.product": "Example Server",
    "currdev": "disk0p2:",
}

PANIC = "example: the scenario panicked"
BOOT = "---<<BOOT>>---\nFreeBSD EXAMPLE GENERIC amd64\nreal memory  = 67108864 (64 MB)\n"
FILLER = "".join(f"example0: message number {number} of a long boot\n" for number in range(120))
RC = "<118>Starting syslogd.\n<118>Starting sshd.\n<6>epair0a: link state changed to UP\n"
"""Text with the priority that log(9) and the console's users put in front of a line."""
MESSAGES = MessageBuffer(4096, BOOT + FILLER + RC + f"panic: {PANIC}\ncpuid = 0\n")
