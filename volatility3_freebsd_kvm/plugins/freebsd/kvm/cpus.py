"""CPUs and their per-CPU data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers

from volatility3_freebsd_kvm.bsd.records import Absent, Problem, attempt
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel
    from volatility3_freebsd_kvm.image.vnet import Cpu


class Cpus(interfaces.plugins.PluginInterface):
    """Lists the CPUs with per-CPU data (DPCPU) and what each was running; --cpu of other plugins chooses one."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel."""
        return [kernel_requirement()]

    def run(self) -> renderers.TreeGrid:
        """One row a CPU."""
        kernel = kernel_of(self)
        columns = [
            ("CPU", int),
            ("Pcpu", Hex),
            ("DPCPU offset", Hex),
            ("Thread", Hex),
            ("TID", int),
            ("Name", str),
            ("Notes", str),
        ]
        records: list[Cpu | Problem] = [*kernel.names.cpus]
        if not records:
            records.append(Problem("cpus", "this kernel's symbols and types do not lead to any per-CPU data"))
        return grid(columns, records, lambda cpu: _row(kernel, cpu))


def _row(kernel: Kernel, cpu: Cpu) -> tuple[object, ...]:
    known = cpu.pcpu != 0
    thread = attempt(lambda: kernel.object("pcpu", cpu.pcpu).pc_curthread) if known else Absent.NOT_AVAILABLE
    return (
        cpu.cpuid,
        cpu.pcpu or Absent.NOT_AVAILABLE,
        cpu.data_base,
        thread,
        thread if isinstance(thread, Absent) else attempt(lambda: thread.td_tid),
        thread if isinstance(thread, Absent) else attempt(lambda: str(thread.td_name)),
        "" if known else "the kernel does not say where its struct pcpu is (cpuid_to_pcpu)",
    )
