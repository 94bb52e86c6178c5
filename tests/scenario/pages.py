"""Pages that are no kernel objects: those of processes, and kernel address ranges of a wanted kind."""

from __future__ import annotations

from tests.writers.kernel_memory import KernelMemory
from tests.writers.memory import Mapping
from tests.writers.objects import Object

from .world import World


def user_page(memory: KernelMemory, content: bytes = b"") -> int:
    """The physical address of a fresh page that belongs to a process."""
    pa = next(memory._free)
    memory.physical.write(pa, content.ljust(memory.machine.page_size, b"\0"))
    memory.user_pages.add(pa)
    return pa


def kernel_range(world: World, size: int, *, execute: bool = False) -> int:
    """The address of fresh kernel pages: on amd64 in the kernel's top 2 GB, which its modules need, else in KVA."""
    memory = world.memory
    page_size = memory.machine.page_size
    size = -(-size // page_size) * page_size
    start = _next_address(world, size)
    for va in range(start, start + size, page_size):
        map_page(memory, va, next(memory._free), execute=execute)
    return start


def _next_address(world: World, size: int) -> int:
    memory = world.memory
    if world.arch != "amd64":
        start = memory._next_kva
        # A guard page behind it, as behind what KernelMemory.allocate hands out.
        memory._next_kva += size + memory.machine.page_size
        return start
    step = memory.machine.superpage
    low = -(-memory.image.end // step) * step
    used = [mapping.end for mapping in memory.mappings if low <= mapping.va]
    return max(used, default=low)


def map_page(memory: KernelMemory, va: int, pa: int, *, execute: bool = False) -> None:
    """Let the kernel see a page at `va`; a page that did not exist is full of zeros."""
    if pa not in memory.physical.pages:
        memory.physical.write(pa, bytes(memory.machine.page_size))
    memory._map(Mapping(va, pa, memory.machine.page_size, execute=execute))


def at(world: World, type_name: str, va: int) -> Object:
    """What is at a kernel address, as a type."""
    return world.memory.cast(type_name, va)
