"""The memory of a process, as a framework layer."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from volatility3.framework import exceptions, interfaces
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.layers.dump import Mapping
from volatility3_freebsd_kvm.layers.scanning import StretchScanLayer

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.user import UserMemories, UserMemory

_PAGE_BITS = 12
_MEMORIES: WeakKeyDictionary[interfaces.layers.DataLayerInterface, dict[str, UserMemories]] = WeakKeyDictionary()
"""By the layer of a kernel and the name of a symbol table: processes share objects, whose pages are listed once."""


class FreeBSDProcessLayer(StretchScanLayer):
    """The addresses of a process: pages by its page tables, else by its map and the objects in it.

    What is swapped out, was never touched or is a guard is invalid. Nothing is read before it is needed, and what is
    open is never pickled.
    """

    _direct_metadata = collections.ChainMap(
        {"os": "FreeBSD", "mapped": True}, dict(interfaces.layers.TranslationLayerInterface._direct_metadata)
    )

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the layers, the symbol table and the address of the ``struct proc`` that the configuration names."""
        super().__init__(context=context, config_path=config_path, name=name, metadata=metadata)
        self._memory_layer = str(self.config["memory_layer"])
        self._kernel_layer = str(self.config["kernel_layer"])
        self._symbol_table = str(self.config["symbol_table_name"])
        self._process = int(str(self.config["process"]))
        self._memory: UserMemory | None = None

    def is_of(self, kernel_layer: str, process: int) -> bool:
        """Whether this is the layer of the process at an address of a kernel's memory."""
        return (self._kernel_layer, self._process) == (kernel_layer, process)

    @property
    def memory(self) -> UserMemory:
        """The process's memory.

        Raises:
            exceptions.LayerException: there is none.
        """
        if self._memory is None:
            memories = self._memories()
            proc = memories.kernel.object("proc", self._process)
            self._memory = memories.of(proc)
            if self._memory is None:
                text = f"the memory of the process at {self._process:#x} {memories.why_none(proc)}"
                raise exceptions.LayerException(self.name, text)
        return self._memory

    def _memories(self) -> UserMemories:
        from volatility3_freebsd_kvm.bsd.user import UserMemories
        from volatility3_freebsd_kvm.symbols.walkable import walkable_kernel

        known = _MEMORIES.setdefault(self._context.layers[self._kernel_layer], {})
        if self._symbol_table not in known:
            kernel = walkable_kernel(self._context, self._kernel_layer, self._symbol_table)
            known[self._symbol_table] = UserMemories(kernel)
        return known[self._symbol_table]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is open."""
        return {**self.__dict__, "_memory": None}

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """What is needed to make the layer again."""
        return [
            requirements.TranslationLayerRequirement(name="memory_layer", description="Physical memory"),
            requirements.TranslationLayerRequirement(name="kernel_layer", description="The kernel's memory"),
            requirements.SymbolTableRequirement(name="symbol_table_name", description="Symbols and types"),
            requirements.IntRequirement(name="process", description="Address of the struct proc"),
        ]

    @property
    def dependencies(self) -> list[str]:
        """The physical layer, to which addresses are mapped, and that of the kernel, which knows how."""
        return [self._memory_layer, self._kernel_layer]

    @property
    def minimum_address(self) -> int:
        """The lowest address that can be mapped."""
        return 0

    @property
    def maximum_address(self) -> int:
        """The highest address that can be mapped."""
        return max(self.memory.end, 1) - 1

    # Bytes

    # The framework keeps the last 512 results, of any size; ours are cheap to make again.
    def read(self, offset: int, length: int, pad: bool = False) -> bytes:  # type: ignore[override]
        """Read the process's memory; see the framework for ``pad``."""
        try:
            return self.memory.read(offset, length)
        except kvm.AddressError as error:
            if not pad:
                raise self._fault(error) from None
        return self.memory.read_padded(offset, length)

    def _fault(self, error: kvm.AddressError) -> exceptions.InvalidAddressException:
        """The framework's exception; what is not in physical memory is a page fault."""
        if isinstance(error, kvm.NotDumpedError | kvm.BeyondEndError):
            return exceptions.InvalidAddressException(self.name, error.address, str(error))
        return exceptions.PagedInvalidAddressException(self.name, error.address, _PAGE_BITS, 0, str(error))

    def write(self, offset: int, value: bytes) -> None:
        """Refused: a dump is evidence."""
        raise exceptions.LayerException(self.name, f"{self.name} is a dump and cannot be written")

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Whether all of ``length`` bytes can be read."""
        length, covered = max(length, 1), 0
        for _, size in self.memory.readable(offset, offset + length):
            covered += size
        return covered == length

    def mapping(self, offset: int, length: int, ignore_errors: bool = False) -> Iterable[Mapping]:
        """Where the bytes are in physical memory: only bytes that can be read, and all of them."""
        position, limit = offset, offset + max(length, 1)
        for va, run in self.memory.space.readable(max(offset, 0), limit):
            if not ignore_errors and va != position:
                break
            position = va + run.length
            size = run.length if length else 0
            yield va, size, run.pa, size, self._memory_layer
        if not ignore_errors and position < limit:
            raise self._fault(self._reason(position))

    def _reason(self, offset: int) -> kvm.AddressError:
        try:
            self.memory.space.locate(offset)
        except kvm.AddressError as error:
            return error
        return kvm.NotMappedError(offset)


def add_process_layer(
    context: interfaces.context.ContextInterface,
    kernel_layer: str,
    symbol_table: str,
    process: int,
    preferred_name: str,
    config_prefix: str | None = None,
) -> str:
    """The name of a layer with a process's memory, made if the preferred name is not that of one already.

    Args:
        context: that holds the kernel.
        kernel_layer: the layer of the kernel's memory.
        symbol_table: the table of its symbols and types.
        process: address of the ``struct proc``.
        preferred_name: what to call a new layer; a free name like it is taken.
        config_prefix: where in the configuration a new layer has its own.
    """
    known = context.layers.get(preferred_name)
    if isinstance(known, FreeBSDProcessLayer) and known.is_of(kernel_layer, process):
        return preferred_name
    name = context.layers.free_layer_name(preferred_name)
    path = interfaces.configuration.path_join(config_prefix or "temporary", name)
    values = {
        "memory_layer": str(context.layers[kernel_layer].config["memory_layer"]),
        "kernel_layer": kernel_layer,
        "symbol_table_name": symbol_table,
        "process": process,
    }
    for key, value in values.items():
        context.config[interfaces.configuration.path_join(path, key)] = value
    context.add_layer(FreeBSDProcessLayer(context, path, name))
    return name
