"""The bytes of a framework layer as a `kvm` reader."""

from __future__ import annotations

import urllib.parse
import urllib.request

from volatility3.framework import interfaces
from volatility3.framework.layers import physical

from volatility3_freebsd_kvm.kvm import reader


class LayerReader:
    """Any data layer, read through the framework; bytes that the layer does not have read as zeros."""

    def __init__(self, layer: interfaces.layers.DataLayerInterface) -> None:
        """Wrap ``layer``, whose addresses become file offsets."""
        self._layer = layer
        self.size = layer.maximum_address + 1
        self.name = name_of(layer)
        self.buffer: reader.Sliceable = self

    def __getitem__(self, index: slice, /) -> bytes:
        """Read ``[start:stop]``, clipped to the layer."""
        stop = min(index.stop, self.size)
        if index.start >= stop:
            return b""
        return self._layer.read(index.start, stop - index.start, pad=True)

    def close(self) -> None:
        """The layer belongs to the framework."""


def name_of(layer: interfaces.layers.DataLayerInterface) -> str:
    """What to call a layer in messages: a local file by its path."""
    if not isinstance(layer, physical.FileLayer):
        return layer.name
    url = urllib.parse.urlparse(layer.location)
    return urllib.request.url2pathname(url.path) if url.scheme == "file" else layer.location


def of_layer(layer: interfaces.layers.DataLayerInterface) -> reader.Reader:
    """The fastest reader there is: plain local files are mapped, everything else goes through the layer.

    Args:
        layer: the layer that a dump was found in; usually the framework's FileLayer.
    """
    if isinstance(layer, physical.FileLayer):
        # The framework has no public way to the open file; decompressors come as other types and are not mapped.
        direct = reader.map_stream(layer._file, name_of(layer))
        if direct is not None:
            return direct
    return LayerReader(layer)
