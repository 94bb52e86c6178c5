"""A kernel to put into simulated memory: its bytes, symbols and types."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from volatility3_freebsd_kvm.image.types import TypeReference, Types

from .ctype import TypeTable
from .elfcore import elf_kernel
from .machine import Machine


@dataclass(frozen=True)
class LoadSegment:
    """A part of the image: what is at `va`; the rest up to `size` is zero."""

    va: int
    data: bytes
    size: int
    write: bool
    execute: bool


@dataclass
class KernelImage:
    """A kernel.

    Attributes:
        file: The bytes of the kernel file.
        segments: What the loader puts into memory.
        symbols: Values by name.
        sizes: Sizes of the symbols that have one.
        types: Its types.
        variables: Types of its variables.
    """

    file: bytes
    segments: list[LoadSegment]
    symbols: dict[str, int]
    types: TypeTable
    variables: dict[str, TypeReference]
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The first address behind the image."""
        return max(segment.va + segment.size for segment in self.segments)


def from_elf(path: Path, types: Types, variables: Dictionary[str, TypeReference]) -> KernelImage:
    """A linked kernel with symbols.

    Args:
        path: The kernel file.
        types: Its types, from its DWARF.
        variables: The types of its variables.
    """
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        segments = [
            LoadSegment(
                segment["p_vaddr"],
                segment.data(),
                segment["p_memsz"],
                bool(segment["p_flags"] & 2),
                bool(segment["p_flags"] & 1),
            )
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
        ]
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        found = [symbol for symbol in table.iter_symbols() if symbol.name and symbol["st_shndx"] != "SHN_UNDEF"]
    return KernelImage(
        path.read_bytes(),
        segments,
        {symbol.name: symbol["st_value"] for symbol in found},
        TypeTable(types),
        dict(variables),
        {symbol.name: symbol["st_size"] for symbol in found},
    )


def from_types(
    types: Types,
    variables: Dictionary[str, str],
    machine: Machine,
    *,
    vnet: Dictionary[str, str] | None = None,
    pcpu: Dictionary[str, str] | None = None,
    functions: Iterable[str] = (),
) -> KernelImage:
    """A kernel that was never compiled: zeroed variables of known types, and a symbol for each.

    Args:
        types: Types, for example of a real release whose headers no compiler has here.
        variables: C type by name.
        machine: Where it is linked.
        vnet: C type by name of the VNET variables, which become ``vnet_entry_name`` within ``set_vnet``.
        pcpu: The same for DPCPU variables, ``pcpu_entry_name`` and ``set_pcpu``.
        functions: Names of functions; 64 bytes each.
    """
    table = TypeTable(types)
    layout = _Layout(table, machine.linked + 0x1000)
    for name in functions:
        layout.symbols[name] = layout.va
        layout.va += 64
    for set_name, prefix, members in (("set_vnet", "vnet_entry_", vnet), ("set_pcpu", "pcpu_entry_", pcpu)):
        if members is not None:
            layout.symbols[f"__start_{set_name}"] = layout.va
            for name, text in members.items():
                layout.add(prefix + name, text)
            layout.symbols[f"__stop_{set_name}"] = layout.va
    for name, text in variables.items():
        layout.add(name, text)
    layout.symbols["kernbase"] = machine.linked & -0x80000000 if machine.arch == "amd64" else machine.linked
    size = layout.va - layout.start
    segment = LoadSegment(layout.start, bytes(size), size, write=True, execute=True)
    file = elf_kernel(layout.symbols, machine.arch)
    return KernelImage(file, [segment], layout.symbols, table, layout.references, layout.sizes)


class _Layout:
    """Variables one behind the other, in the first superpage, behind what would be the ELF headers."""

    def __init__(self, table: TypeTable, start: int) -> None:
        self.table = table
        self.start = self.va = start
        self.symbols: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.references: dict[str, TypeReference] = {}

    def add(self, name: str, text: str) -> None:
        """Place a variable."""
        reference = self.references[name] = self.table.parse(text)
        self.symbols[name] = self.va
        self.sizes[name] = self.table.size(reference)
        self.va += -(-max(self.sizes[name], 1) // 64) * 64
