"""Dumps of the variant of the scenario whose processes have real ELF images, and damage to these processes' memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest

from tests.scenario.build import build
from tests.scenario.kernels import load
from tests.scenario.user_images import system_for
from tests.scenario.world import World
from tests.scenario_dumps import FORMATS, kernel_over, write_symbol_file
from tests.writers.kernel_memory import KernelMemory
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.user import user_memory


@lru_cache(maxsize=1)
def images_world(kernel: str) -> World:
    """The variant in the memory of a machine with that kernel."""
    image, machine, release = load(kernel)
    world = World(KernelMemory(image, machine), system_for(machine, modern=release >= "13.0"), release)
    build(world)
    vector = world.get("sysentvec", "FreeBSD ELF32")
    if machine.arch == "amd64" and world.has("sysentvec", "sv_psstringssz"):
        # Two pointers and two ints of 32 bits.
        vector.sv_psstringssz = 16
    return world


@lru_cache(maxsize=2)
def images_kernel(kernel: str, form: str = "full") -> Kernel:
    """A kernel as walkers take it, over a dump of the variant; skips the test where there is no dump of that form."""
    if form == "full" and kernel.endswith("powerpc64"):
        pytest.skip("there is no full dump with page tables of processes of this architecture")
    return _opened(kernel, form)


def _opened(kernel: str, form: str) -> Kernel:
    return _over(kernel, images_dump(kernel, form))


def _over(kernel: str, data: bytes) -> Kernel:
    return kernel_over(kernel, kvm.open(data, symbols=load(kernel)[0].symbols))


@lru_cache(maxsize=2)
def images_dump(kernel: str, form: str = "full") -> bytes:
    """A dump of the variant."""
    return FORMATS[form](images_world(kernel).memory)


def write_images_dump(kernel: str, directory: Path, form: str = "full") -> tuple[Path, Path]:
    """Write ``(dump, kernel)`` files, as `scenario_dumps.write_dump` does."""
    path = directory / f"vmcore-images-{kernel}-{form}"
    path.write_bytes(images_dump(kernel, form))
    return path, write_symbol_file(kernel, directory)


def damaged_images(kernel: str, pid: int, changes: Mapping[int, bytes]) -> Kernel:
    """A kernel over a full dump in which the memory of a process was changed; each change within a page."""
    walkable = images_kernel(kernel)
    memory = user_memory(walkable, walkable.object("proc", int(images_world(kernel).get("proc", pid))))
    assert memory is not None
    data = bytearray(images_dump(kernel))
    for va, changed in changes.items():
        assert memory.read(va, len(changed)) is not None
        page = next(memory.pages(va, va + 1))
        assert page.pa is not None
        at = memory.space.physical.locate(page.pa)
        data[at : at + len(changed)] = changed
    return _over(kernel, bytes(data))


def damaged_structures(kernel: str, changes: Mapping[int, bytes]) -> Kernel:
    """A kernel over a minidump in which some of the kernel's own memory was changed; each change within a page."""
    space = images_kernel(kernel, "minidump").space
    assert space is not None
    data = bytearray(images_dump(kernel, "minidump"))
    for va, changed in changes.items():
        at = space.physical.locate(space.page_map.kvatop(va))
        data[at : at + len(changed)] = changed
    return _over(kernel, bytes(data))
