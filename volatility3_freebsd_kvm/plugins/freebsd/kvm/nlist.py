"""Kernel names and what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent, Problem, attempt
from volatility3_freebsd_kvm.exceptions import SymbolError
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel
    from volatility3_freebsd_kvm.image.nlist import Resolved


class Nlist(interfaces.plugins.PluginInterface):
    """Resolves kernel names as kvm_nlist does: plain symbols, VNET and DPCPU variables, and those of modules."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel and what to look up."""
        return [
            kernel_requirement(),
            requirements.ListRequirement(
                name="name",
                description="Names to resolve: hz, ifnet, if_epair.ko!epair_start; or addresses, 0x...",
                element_type=str,
                optional=True,
            ),
            requirements.StringRequirement(
                name="vnet",
                description="Whose VNET variables: a jail's id or name, or the address of a struct vnet",
                optional=True,
            ),
            requirements.IntRequirement(name="cpu", description="Whose DPCPU variables: a CPU's id", optional=True),
            requirements.BooleanRequirement(
                name="all-vnets", description="VNET variables of every vnet", optional=True, default=False
            ),
            requirements.BooleanRequirement(
                name="all-cpus", description="DPCPU variables of every CPU", optional=True, default=False
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """A row for each name, or several for VNET and DPCPU variables."""
        kernel = kernel_of(self)
        wanted = self.config.get("name") or []
        wanted = wanted if isinstance(wanted, list) else [str(wanted)]
        columns = [
            ("Name", str),
            ("Symbol", str),
            ("Kind", str),
            ("Module", str),
            ("Vnet", Hex),
            ("CPU", int),
            ("Address", Hex),
            ("Size", int),
            ("Value", str),
            ("Notes", str),
        ]
        records = (found for name in wanted for found in self._resolve(kernel, str(name)))
        if not wanted:
            return grid(columns, [Problem("--name", "no name was given")], lambda found: _row(kernel, found))
        return grid(columns, records, lambda found: _row(kernel, found))

    def _resolve(self, kernel: Kernel, name: str) -> Iterator[Resolved]:
        """The name for each vnet and CPU that was chosen, or the symbol that an address is in."""
        from volatility3_freebsd_kvm.image.nlist import Resolved

        names = kernel.names
        if name.startswith("0x"):
            yield _at_address(kernel, name)
            return
        try:
            first = names.nlist([name], self.config.get("vnet"), self.config.get("cpu"))[0]
        except SymbolError as error:
            yield Resolved(name, note=str(error))
            return
        if first.kind == "vnet" and self.config.get("all-vnets") and names.vnets:
            yield from (names.nlist([name], vnet)[0] for vnet in names.vnets)
        elif first.kind == "dpcpu" and self.config.get("all-cpus") and names.cpus:
            yield from (names.nlist([name], cpu=cpu.cpuid)[0] for cpu in names.cpus)
        else:
            yield first


def _at_address(kernel: Kernel, name: str) -> Resolved:
    from volatility3_freebsd_kvm.image.nlist import Resolved

    try:
        address = int(name, 16)
    except ValueError:
        return Resolved(name, note=f"{name} is no hexadecimal number")
    found = kernel.names.lookup(address)
    if found is None:
        return Resolved(name, address=address, note="the address is in no symbol of the kernel or its modules")
    symbol = found.symbol.name + (f"+{found.offset:#x}" if found.offset else "")
    return Resolved(name, "address", symbol, found.module, address, vnet=found.vnet, cpu=found.cpu)


def _row(kernel: Kernel, found: Resolved) -> tuple[object, ...]:
    value = _value(kernel, found)
    return (
        found.name,
        found.symbol or None,
        found.kind or None,
        found.module or None,
        found.vnet.address if found.vnet else Absent.NOT_APPLICABLE,
        Absent.NOT_APPLICABLE if found.cpu is None else found.cpu,
        found.address,
        found.size or None,
        value,
        found.note,
    )


def _value(kernel: Kernel, found: Resolved) -> object:
    from volatility3_freebsd_kvm.image.nlist import KERNEL
    from volatility3_freebsd_kvm.image.values import value_text

    address = found.address
    if address is None or found.kind in ("", "address") or found.is_function:
        return Absent.NOT_AVAILABLE if address is None else Absent.NOT_APPLICABLE
    reference = kernel.variables.get(found.symbol) if found.module == KERNEL else None
    return attempt(lambda: value_text(kernel.structs, address, found.size, reference))
