"""From a symbol file and a layer to the kernel's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volatility3.framework import exceptions, interfaces

from volatility3_freebsd_kvm.exceptions import NotMappedError
from volatility3_freebsd_kvm.image import isf, table
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer


def content_of(table: interfaces.symbols.SymbolTableInterface) -> Mapping[str, Any]:
    """The symbol file behind a table of the framework."""
    content: Mapping[str, Any] = table._delegate._json_object  # type: ignore[attr-defined]
    return content


def names_of(content: Mapping[str, Any], layer: interfaces.layers.DataLayerInterface) -> Names:
    """The names of a kernel.

    Args:
        content: the symbol file.
        layer: the kernel's memory; one of ours, or any that holds the kernel's virtual addresses.
    """
    identity = table.identity_of(content)
    types = isf.types_of(content)
    pointer = types.base_types.get("pointer", {})
    word_bits = 8 * int(pointer.get("size", identity.word_bits // 8))
    byteorder = str(pointer.get("endian", identity.byteorder))
    read = layer.space.read if isinstance(layer, FreeBSDKernelLayer) else _Reader(layer)
    kerndisp = layer.dump.kerndisp if isinstance(layer, FreeBSDKernelLayer) else 0
    return Names(table.symbols_of(content), Structs(read, types, word_bits, byteorder), kerndisp)


class _Reader:
    """Reads another layer with this package's errors."""

    def __init__(self, layer: interfaces.layers.DataLayerInterface) -> None:
        self._layer = layer

    def __call__(self, address: int, length: int) -> bytes:
        try:
            # Layers of the framework take addresses without their sign extension.
            return self._layer.read(address & self._layer.address_mask, length)
        except exceptions.InvalidAddressException as error:
            raise NotMappedError(error.invalid_address) from None
