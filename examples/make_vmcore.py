"""Makes ``vmcore.0``, the example dump: ``python -m examples.make_vmcore`` from the top of the checkout.

A small amd64 minidump, version 3, as FreeBSD 13 and later write it: a kernel image in 2 MiB pages of which a few 4 KiB
pages are dumped, kernel memory mapped page by page from scattered physical pages, one page that is mapped but not
dumped, and the text of a message buffer. There is no kernel code in it.
"""

from __future__ import annotations

from pathlib import Path

from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import minidump

EXAMPLE = Path(__file__).with_name("vmcore.0")

KERNEL_TEXT = 0xFFFFFFFF80200000
KERNEL_DATA = 0xFFFFFFFF80400000
KERNEL_MEMORY = 0xFFFFFE0000000000
SUPERPAGE = 1 << 21
PAGE = 4096

VERSION = b"FreeBSD 14.3-RELEASE GENERIC\n"
MESSAGES = b"""---<<BOOT>>---
FreeBSD 14.3-RELEASE GENERIC amd64
CPU: Example CPU @ 2.40GHz (2400.00-MHz K8-class CPU)
real memory  = 134217728 (128 MB)
avail memory = 100663296 (96 MB)
panic: example of a message buffer
cpuid = 0
time = 1767225600
Uptime: 1m0s
Dumping 1 out of 96 MB:
"""


def build() -> bytes:
    """Return the bytes of the example dump."""
    memory = PhysicalMemory(free_area=(0x3000000, 0x3100000))
    memory.write(0x200000, b"\x7fELF".ljust(PAGE, b"\0"))
    memory.write(0x234000, b"This page of the kernel's text is dumped, its neighbours are not.\n")
    memory.write(0x400000, VERSION + b"\0")
    memory.write(0x400000 + PAGE, b"GENERIC\0")
    scattered = [0x1201000, 0x1200000, 0x1345000, 0x1346000, 0x1347000]
    for number, pa in enumerate(scattered):
        memory.write(pa, f"kernel memory, page {number}\n".encode() * 16)
    for pa in range(0x1600000, 0x1610000, PAGE):
        memory.write(pa, b"only in the direct map\n" * 8)
    dumped = set(memory.pages)
    mappings = [
        Mapping(KERNEL_TEXT, 0x200000, SUPERPAGE, write=False, execute=True, leaf=SUPERPAGE),
        Mapping(KERNEL_DATA, 0x400000, SUPERPAGE, leaf=SUPERPAGE),
        *(Mapping(KERNEL_MEMORY + number * PAGE, pa, PAGE) for number, pa in enumerate(scattered)),
        # Allocated so that the dumper left it out, as kernels do with M_NODUMP memory.
        Mapping(KERNEL_MEMORY + len(scattered) * PAGE, 0x1348000, PAGE),
    ]
    return minidump(
        "amd64",
        3,
        memory,
        mappings,
        dump_avail=[(0x0, 0x9F000), (0x100000, 0x7FDF000)],
        dumped=dumped,
        message_buffer=MESSAGES.ljust(98304 - 72, b"\0"),
        kernel_end=0xFFFFFFFFC0000000,
    )


if __name__ == "__main__":
    EXAMPLE.write_bytes(build())
