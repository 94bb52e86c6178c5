"""Kernels that are known by their types only: their variables are those that the builders ask for.

A builder module lists them in ``VARIABLES`` (``VARIABLES_32`` and ``VARIABLES_64`` for one word size only), ``VNET``
and ``PCPU`` (C type by name), and functions in ``FUNCTIONS`` (names). What a layout file has no type for is left out;
``TYPES`` (``TYPES_32``, ``TYPES_64``) add some, see `private_types`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.writers.ctype import TypeTable
from tests.writers.kernel_image import KernelImage, from_types
from tests.writers.machine import Machine
from volatility3_freebsd_kvm.image.types import Types

from .build import topics
from .private_types import declare

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
        declare(table, {**getattr(module, "TYPES", {}), **getattr(module, f"TYPES_{machine.word_bits}", {})})
        for name, variables in tables.items():
            variables.update(_known(table, getattr(module, name, {})))
        tables["VARIABLES"].update(_known(table, getattr(module, f"VARIABLES_{machine.word_bits}", {})))
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
