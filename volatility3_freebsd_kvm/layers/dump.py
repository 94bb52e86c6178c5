"""Physical memory of a FreeBSD dump, as a framework layer."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

from volatility3.framework import exceptions, interfaces
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.layers.container import reader_of
from volatility3_freebsd_kvm.layers.scanning import StretchScanLayer

Mapping = tuple[int, int, int, int, str]
"""``(offset, length, mapped offset, mapped length, layer)`` as the framework has it."""


class FreeBSDDumpLayer(StretchScanLayer):
    """Physical memory behind a dump file; addresses that the dump does not hold are invalid.

    The dump is opened when first used and never pickled, so that the layer survives cloning of its context and other
    processes.
    """

    _direct_metadata = collections.ChainMap(
        {"os": "FreeBSD"}, dict(interfaces.layers.TranslationLayerInterface._direct_metadata)
    )

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Open the dump in the layer that ``base_layer`` names."""
        super().__init__(context=context, config_path=config_path, name=name, metadata=metadata)
        self._base_layer = str(self.config["base_layer"])
        self._dump: kvm.Dump | None = None
        self._bounds: tuple[int, int] | None = None

    @property
    def dump(self) -> kvm.Dump:
        """The dump.

        Raises:
            kvm.FormatError: it cannot be read.
        """
        if self._dump is None:
            self._dump = kvm.open(reader_of(self._context.layers[self._base_layer]))
        return self._dump

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open dump."""
        return {**self.__dict__, "_dump": None}

    def destroy(self) -> None:
        """Close the dump."""
        if self._dump is not None:
            self._dump.close()

    # Addresses

    @property
    def minimum_address(self) -> int:
        """The first readable physical address."""
        return self._limits()[0]

    @property
    def maximum_address(self) -> int:
        """The last readable physical address."""
        return self._limits()[1]

    @property
    def address_mask(self) -> int:
        """All bits that an address can have; the framework cannot tell when nothing is readable."""
        return (1 << max(1, self.maximum_address.bit_length())) - 1

    def _limits(self) -> tuple[int, int]:
        if self._bounds is None:
            self._bounds = self.dump.physical.bounds()
        return self._bounds

    @property
    def dependencies(self) -> list[str]:
        """The layer that holds the file."""
        return [self._base_layer]

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The layer that holds the file."""
        return [requirements.TranslationLayerRequirement(name="base_layer", optional=False)]

    # Bytes

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Whether all of ``length`` bytes can be read."""
        return self.dump.physical.is_readable(offset, max(length, 1))

    # The framework keeps the last 512 results, of any size; ours are cheap to make again.
    def read(self, offset: int, length: int, pad: bool = False) -> bytes:  # type: ignore[override]
        """Read physical memory; see the framework for ``pad``."""
        physical = self.dump.physical
        try:
            return physical.read(offset, length)
        except kvm.AddressError as error:
            if not pad:
                raise exceptions.InvalidAddressException(self.name, error.address, str(error)) from None
        data = bytearray(length)
        for run in physical.runs(max(offset, 0), offset + length):
            data[run.pa - offset : run.pa - offset + run.length] = physical.read(run.pa, run.length)
        return bytes(data)

    def write(self, offset: int, value: bytes) -> None:
        """Refused: a dump is evidence."""
        raise exceptions.LayerException(self.name, f"{self.name} is a dump and cannot be written")

    def mapping(self, offset: int, length: int, ignore_errors: bool = False) -> Iterable[Mapping]:
        """Where the bytes are in the file."""
        physical = self.dump.physical
        position, end = offset, offset + max(length, 1)
        for run in physical.runs(max(offset, 0), end):
            if run.pa > position and not ignore_errors:
                break
            size = run.length if length else 0
            yield run.pa, size, run.offset, size, self._base_layer
            position = run.pa + run.length
        if position < end and not ignore_errors:
            raise exceptions.InvalidAddressException(self.name, position, self._reason(position))

    def _reason(self, pa: int) -> str:
        try:
            self.dump.physical.offset_of(pa)
        except kvm.AddressError as error:
            return str(error)
        return f"address {pa:#x} cannot be read"


class FreeBSDMinidumpLayer(FreeBSDDumpLayer):
    """Physical memory of a minidump: the pages that its bitmap names."""


class FreeBSDElfLayer(FreeBSDDumpLayer):
    """Physical memory of a full dump: an ELF core, 32 or 64 bit, by p_paddr."""
