"""The options of plugins that show the network of one vnet or of all: ``--vnet`` and ``--jail``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from volatility3.framework import interfaces
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Problem
from volatility3_freebsd_kvm.output import kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel, View

R = TypeVar("R")


def network_requirements(
    jail: str = "Only the network that this jail (id or name) uses; 0 is the host",
) -> list[interfaces.configuration.RequirementInterface]:
    """The kernel, and which networks; `of_chosen_stacks` takes them up.

    Args:
        jail: what the option ``--jail`` does.
    """
    return [
        kernel_requirement(),
        requirements.StringRequirement(
            name="vnet",
            description="Only the vnet of this jail (id or name), or at this address; 0 is the host's",
            optional=True,
        ),
        requirements.StringRequirement(name="jail", description=jail, optional=True),
    ]


def of_chosen_stacks(
    plugin: interfaces.plugins.PluginInterface, walk: Callable[[Kernel, list[View]], Iterator[R | Problem]]
) -> Iterator[R | Problem]:
    """What a walker finds in the networks that were asked for, all of them by default."""
    from volatility3_freebsd_kvm.bsd.stacks import chosen_stacks

    kernel = kernel_of(plugin)
    yield from walk(kernel, chosen_stacks(kernel, *chosen_names(plugin)))


def chosen_names(plugin: interfaces.plugins.PluginInterface) -> tuple[str, str]:
    """The vnet and the jail that were asked for, empty for all."""
    # `is None`: 0 is the host.
    found = [plugin.config.get(name) for name in ("vnet", "jail")]
    vnet, jail = ("" if one is None else str(one) for one in found)
    return vnet, jail
