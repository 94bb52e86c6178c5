"""Makes the example: ``python -m examples.make_vmcore`` from the top of the checkout.

``vmcore.0`` is an amd64 minidump of the tests' scenario: a small server with two jails that panicked, in the memory of
the mini-kernel with FreeBSD 15's structures. ``kernel`` is that kernel as a release would ship it, without debug
information. There is no FreeBSD machine behind them; tests/scenario says what is in there.
"""

from __future__ import annotations

from pathlib import Path

from tests.minikernel.kernels import kernel_file
from tests.minikernel.strip import strip_debug
from tests.scenario.kernels import build_world

RELEASE, ARCH = "15", "amd64"
EXAMPLE = Path(__file__).with_name("vmcore.0")
KERNEL = Path(__file__).with_name("kernel")


def build() -> bytes:
    """The bytes of the dump."""
    return build_world(f"{RELEASE}-{ARCH}").memory.minidump().data


def build_kernel() -> bytes:
    """The bytes of the kernel file: symbols, but no debug information."""
    return strip_debug(kernel_file(RELEASE, ARCH).read_bytes())


if __name__ == "__main__":
    EXAMPLE.write_bytes(build())
    KERNEL.write_bytes(build_kernel())
