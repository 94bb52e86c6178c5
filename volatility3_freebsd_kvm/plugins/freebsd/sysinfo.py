"""The system at a glance."""

from __future__ import annotations

import datetime
from collections.abc import Generator

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.output import grid, kernel_of, kernel_requirement
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType


class SysInfo(interfaces.plugins.PluginInterface, TimeLinerInterface):
    """Shows what the system is, when it booted and was dumped, why, how large it is, and how it is secured."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a fact; those that this kernel does not tell are absent."""
        from volatility3_freebsd_kvm.bsd import system

        columns = [("Fact", str), ("Value", str), ("Notes", str)]
        return grid(columns, system.facts(kernel_of(self)), lambda fact: (fact.name, fact.value, "; ".join(fact.notes)))

    def generate_timeline(self) -> Generator[tuple[str, TimeLinerType, datetime.datetime], None, None]:
        """The boot and the dump."""
        from volatility3_freebsd_kvm.bsd.clock import clock_of

        clock = clock_of(kernel_of(self))
        for what, time in (("booted", clock.boot_time), ("was dumped", clock.capture_time)):
            if isinstance(time, datetime.datetime):
                yield f"The system {what}", TimeLinerType.CREATED, time
