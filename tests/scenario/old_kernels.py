"""Kernels that are known by their types only: their variables are those that the builders ask for.

A builder module lists them in ``VARIABLES``, ``VNET`` and ``PCPU`` (C type by name) and ``FUNCTIONS`` (names). What a
layout file has no type for is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.writers.ctype import TypeTable
from tests.writers.kernel_image import KernelImage, from_types
from tests.writers.machine import Machine
from volatility3_freebsd_kvm.image.types import Types

from .build import topics

VARIABLES = {
    "osreldate": "int",
    "hz": "int",
    "kernphys": "unsigned long",
    "KPML4phys": "unsigned long",
    "IdlePDPT": "int",
}
FUNCTIONS = ["kernel_function"]


def image(types: Types, machine: Machine) -> KernelImage:
    """A kernel with all the variables whose types it knows."""
    table = TypeTable(types)
    tables: dict[str, dict[str, str]] = {"VARIABLES": dict(VARIABLES), "VNET": {}, "PCPU": {}}
    functions = list(FUNCTIONS)
    for module in topics():
        for name, variables in tables.items():
            variables.update(_known(table, getattr(module, name, {})))
        functions += [name for name in getattr(module, "FUNCTIONS", ()) if name not in functions]
    return from_types(
        types,
        _known(table, tables["VARIABLES"]),
        machine,
        vnet=tables["VNET"],
        pcpu=tables["PCPU"],
        functions=functions,
    )


def _known(table: TypeTable, variables: Mapping[str, str]) -> dict[str, str]:
    known = {}
    for name, text in variables.items():
        try:
            table.parse(text)
        except KeyError:
            continue
        known[name] = text
    return known
