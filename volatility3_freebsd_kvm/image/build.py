"""From kernel files to the table of a kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import wanted_types
from .ctf import from_elf
from .dwarf import DwarfTypes
from .elf import SHF_ALLOC
from .kernel import KernelFile
from .symbols import Symbol
from .table import TableIdentity, document
from .types import TypeReference, Types

_log = logging.getLogger(__name__)

Progress = Callable[[float, str], None]
_SHF_WRITE, _SHF_EXECINSTR = 1, 4
_SAMPLES, _SAMPLE_SIZE = 32, 16


@dataclass(frozen=True)
class KernelTypes:
    """Types and where they come from."""

    types: Types
    variables: Mapping[str, TypeReference]
    origin: str


def kernel_table(
    kernel: KernelFile,
    debug: KernelFile | None = None,
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The table of a kernel: symbols of ``kernel``, types of ``debug`` or of the kernel's own DWARF or CTF.

    Args:
        kernel: the file with the symbols.
        debug: the file with the DWARF, if it is another one.
        everything: keep all types, not only those that the walkers use and what those embed.
        progress: is told percent and what is being done.

    Returns:
        The symbol file; without types (``TableIdentity.types_from`` is empty) if neither file has any.

    Raises:
        FormatError: a file is stripped or damaged.
    """
    found = _types(kernel, debug, everything, progress)
    types, variables, origin = (found.types, found.variables, found.origin) if found else _no_types(kernel)
    return document(identity(kernel, origin), kernel.symbols, types, variables)


def identity(kernel: KernelFile, types_from: str = "") -> TableIdentity:
    """What a kernel file says of itself, with samples of its read-only data."""
    own = kernel.identity
    return TableIdentity(
        architecture=kernel.architecture,
        word_bits=kernel.word_bits,
        byteorder=kernel.byteorder,
        version=own.version,
        osreldate=own.osreldate,
        ident=own.ident,
        build_id=own.build_id or "",
        symbols_from=kernel.name,
        types_from=types_from,
        samples=tuple(_samples(kernel)),
    )


def _no_types(kernel: KernelFile) -> tuple[Types, dict[str, TypeReference], str]:
    return Types.empty(kernel.word_bits // 8, kernel.byteorder), {}, ""


def _types(
    kernel: KernelFile, debug: KernelFile | None, everything: bool, progress: Progress | None
) -> KernelTypes | None:
    for file in (debug, kernel):
        if file is not None and file.has_dwarf:
            return _dwarf(file, everything, progress)
    for file in (kernel, debug):
        if file is not None and file.has_ctf:
            ctf = from_elf(file.elf, file.name)
            for warning in ctf.warnings:
                _log.warning("%s", warning)
            types = ctf.types if everything else ctf.types.pruned(wanted_types())
            return KernelTypes(types, ctf.variables, f"CTF of {file.name}")
    return None


def _dwarf(file: KernelFile, everything: bool, progress: Progress | None) -> KernelTypes:
    reader = DwarfTypes(file.elf, file.name)
    if everything:
        reader.add_all(progress)
        return KernelTypes(reader.types, reader.variables, f"DWARF of {file.name}")
    reader.add_wanted(wanted_types(), progress)
    return KernelTypes(reader.types.pruned(wanted_types()), reader.variables, f"DWARF of {file.name}")


def _samples(kernel: KernelFile) -> Iterator[tuple[int, str]]:
    """Read-only data here and there, to know the kernel again in memory."""
    constant = {
        section.index
        for section in kernel.sections
        if section.flags & SHF_ALLOC
        and not section.flags & (_SHF_WRITE | _SHF_EXECINSTR)
        and section.type == "PROGBITS"
    }
    objects = [one for one in kernel.symbols if one.section in constant and one.kind == "object" and one.size >= 4]
    for one in _spread(objects, _SAMPLES):
        data = kernel.read(one.value, min(one.size, _SAMPLE_SIZE))
        if data and any(data):
            yield one.value, data.hex()


def _spread(symbols: list[Symbol], count: int) -> list[Symbol]:
    """At most ``count`` of them, evenly chosen by address."""
    ordered = sorted(symbols, key=lambda one: one.value)
    step = max(1, len(ordered) // count)
    return ordered[::step][:count]
