"""The options of plugins that show processes (``--pid``, ``--jail``), and of those that save memory (``--dump``)."""

from __future__ import annotations

from typing import Any

from volatility3.framework import interfaces
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.output import kernel_requirement

MAX_SIZE = 1 << 30


def process_requirements() -> list[interfaces.configuration.RequirementInterface]:
    """The kernel, and which processes; `chosen_processes` takes them up."""
    return [
        kernel_requirement(),
        requirements.ListRequirement(
            name="pid", description="Only processes with these ids", element_type=int, optional=True
        ),
        requirements.ListRequirement(
            name="jail",
            description="Only processes in these jails, by id or name; 0 is the host",
            element_type=str,
            optional=True,
        ),
    ]


def chosen_processes(plugin: interfaces.plugins.PluginInterface) -> tuple[list[int], list[str]]:
    """The ids and jails that were asked for, empty for all; as the walkers take them."""
    pids, jails = plugin.config.get("pid"), plugin.config.get("jail")
    return [int(pid) for pid in _as_list(pids)], [str(jail) for jail in _as_list(jails)]


def saving_requirements(what: str, plural: str) -> list[interfaces.configuration.RequirementInterface]:
    """Whether to save, and how much; `size_limit` takes up the latter.

    Args:
        what: is saved, for the help: ``each image as a file``.
        plural: ``images``.
    """
    return [
        requirements.BooleanRequirement(
            name="dump",
            description=f"Save {what}, with zeros for what is not in memory",
            default=False,
            optional=True,
        ),
        requirements.IntRequirement(
            name="maxsize",
            description=f"Do not save {plural} of more bytes than this",
            default=MAX_SIZE,
            optional=True,
        ),
    ]


def size_limit(plugin: interfaces.plugins.PluginInterface) -> int:
    """The most bytes that a saved file may have."""
    return int(plugin.config.get("maxsize") or MAX_SIZE)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
