"""The kernels that the scenario is put into, and how to get there."""

from __future__ import annotations

import json
import lzma
import os
from functools import lru_cache
from pathlib import Path

import pytest

from tests.writers.kernel_image import KernelImage
from tests.writers.kernel_memory import KernelMemory
from tests.writers.machine import MACHINES, Machine
from volatility3_freebsd_kvm.image.types import Types

from . import old_kernels
from .system import SYSTEM
from .world import World

LAYOUTS = {
    "12.1-amd64": "freebsd-12.1-amd64.json.xz",
    "12.1-i386": "freebsd-12.1-i386.json.xz",
    "13.0-amd64": "freebsd-13.0-current-2019-amd64.json.xz",
}
"""Kernels known by their layouts only, and the files that hold them."""

ARCHITECTURES = ("amd64", "arm64", "riscv", "i386", "arm", "powerpc64")
KERNELS = (*LAYOUTS, *(f"{release}-{arch}" for release in ("14", "15") for arch in ARCHITECTURES))
"""Every kernel: release and architecture."""


def layout_directory() -> Path:
    """Where the layout files are: ``../shared/layouts`` beside the checkout, or FREEBSD_LAYOUTS."""
    beside = Path(__file__).parents[3] / "shared" / "layouts"
    return Path(os.environ.get("FREEBSD_LAYOUTS", beside))


@lru_cache(maxsize=4)
def load(kernel: str) -> tuple[KernelImage, Machine, str]:
    """A kernel, the machine that it runs on and its release; skips the test where it cannot be had."""
    release, arch = kernel.split("-")
    machine = MACHINES[arch]
    if kernel not in LAYOUTS:
        from tests.minikernel.kernels import mini_kernel

        return mini_kernel(release, arch), machine, release
    path = layout_directory() / LAYOUTS[kernel]
    if not path.exists():
        pytest.skip(f"the layouts of FreeBSD {release} are not beside the checkout (FREEBSD_LAYOUTS can name them)")
    tables = json.loads(lzma.decompress(path.read_bytes()))
    types = Types(tables["base_types"], tables["user_types"], tables["enums"])
    return old_kernels.image(types, machine), machine, release


@lru_cache(maxsize=1)
def build_world(kernel: str) -> World:
    """The whole scenario in the memory of a machine with that kernel."""
    from .build import build

    image, machine, release = load(kernel)
    world = World(KernelMemory(image, machine), SYSTEM, release)
    build(world)
    return world
