"""Puts the description into memory: every topic's objects first, then what connects them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from types import ModuleType

from .world import World

TOPICS = (
    "build_system",
    "build_jails",
    "build_processes",
    "build_threads",
    "build_devices",
    "build_mounts",
    "build_vnodes",
    "build_filesystems",
    "build_namecache",
    "build_files_special",
    "build_kqueues",
    "build_files",
    "build_vm",
    "build_domains",
    "build_sockets",
    "build_pcbs",
    "build_syncache",
    "build_unix",
    "build_interfaces",
    "build_addresses",
    "build_neighbors",
    "build_bpf",
    "build_routes",
    "build_linker",
    "build_sysctl",
)
"""The modules of the topics, in order; each has ``create(world)`` and ``connect(world)``."""


def topics() -> Iterator[ModuleType]:
    """The modules of the topics."""
    for name in TOPICS:
        full_name = f"{__package__}.{name}"
        if importlib.util.find_spec(full_name):
            yield importlib.import_module(full_name)


def build(world: World) -> None:
    """Build everything."""
    modules = list(topics())
    for module in modules:
        module.create(world)
    for module in modules:
        module.connect(world)
