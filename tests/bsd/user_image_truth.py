"""What the images in `tests.scenario.user_images` look like from outside."""

from __future__ import annotations

from tests.scenario.kernels import load
from tests.scenario.user_images import (
    DATA_AT,
    ET_EXEC,
    NARROW,
    VNODES,
    WORKER,
    ElfWriter,
    Loaded,
    bits_of,
    loaded,
    writer_of,
)
from tests.scenario.user_memory import address

IMAGE_SIZE = DATA_AT + 0x1800
MACHINE_NAMES = {"arm64": "aarch64"}
PATHS = {vnode.key: vnode.path for vnode in VNODES} | {"rtld": "/libexec/ld-elf.so.1", "libc": "/lib/libc.so.7"}


def machine_name(kernel: str, pid: int) -> str:
    """The architecture of a process's images."""
    arch = load(kernel)[1].arch
    return "i386" if arch == "amd64" and pid == NARROW else MACHINE_NAMES.get(arch, arch)


def bits(kernel: str, pid: int = WORKER) -> int:
    return bits_of(pid, load(kernel)[1])


def writer(kernel: str, pid: int = WORKER) -> ElfWriter:
    return writer_of(pid, load(kernel)[1])


def images(kernel: str, pid: int = WORKER) -> dict[int, Loaded]:
    """The images of a process by their addresses."""
    size = bits(kernel, pid)
    return {address(one.base, size): one for one in loaded(pid, size)}


def at(kernel: str, va: int, pid: int = WORKER) -> int:
    """Where a 64-bit process's address is in a process."""
    return address(va, bits(kernel, pid))


def file_of(kernel: str, one: Loaded, pid: int = WORKER) -> bytes:
    """The file of an image as rtld has changed it."""
    base = one.base if one.kind == ET_EXEC else 0
    made = writer(kernel, pid)
    return made.file(one.key, kind=one.kind, base=base, interpreter=one.interpreter, debug=one.debug)


def type_of(one: Loaded) -> str:
    return "EXEC" if one.kind == ET_EXEC else "DYN"
