"""The bytes of a framework layer as a `kvm` reader."""

from __future__ import annotations

import bz2
import gzip
import lzma
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

from volatility3.framework import constants, interfaces
from volatility3.framework.layers import physical

from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.kvm import reader

_DECOMPRESSORS = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile)
_PIECE = 1 << 18
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)


class LayerReader:
    """Any data layer, read through the framework; bytes that the layer does not have read as zeros.

    Raises:
        FormatError: the framework unpacks a file that is damaged.
    """

    path: Path | None = None

    def __init__(self, layer: interfaces.layers.DataLayerInterface) -> None:
        """Wrap ``layer``, whose addresses become file offsets."""
        self._layer = layer
        self.name = name_of(layer)
        try:
            self.size = layer.maximum_address + 1
        except _DAMAGE as error:
            msg = f"{self.name} cannot be unpacked: {str(error) or type(error).__name__}"
            raise FormatError(msg) from None
        self.buffer: reader.Sliceable = self

    def __getitem__(self, index: slice, /) -> bytes:
        """Read ``[start:stop]``, clipped to the layer."""
        stop = min(index.stop, self.size)
        if index.start >= stop:
            return b""
        # The framework joins what it reads piece by piece, which takes time by the square of the length.
        pieces = range(index.start, stop, _PIECE)
        return b"".join(self._layer.read(at, min(_PIECE, stop - at), pad=True) for at in pieces)

    def close(self) -> None:
        """The layer belongs to the framework."""


def name_of(layer: interfaces.layers.DataLayerInterface) -> str:
    """What to call a layer in messages: a local file by its path."""
    path = path_of(layer)
    if path is not None:
        return str(path)
    return layer.location if isinstance(layer, physical.FileLayer) else layer.name


def path_of(layer: interfaces.layers.DataLayerInterface) -> Path | None:
    """The local file that a layer shows."""
    if not isinstance(layer, physical.FileLayer):
        return None
    return local_path(layer.location) if layer.location.startswith("file:") else None


def local_path(location: str) -> Path:
    """The path of a file URL.

    Raises:
        FormatError: it is the URL of something else.
    """
    parts = urllib.parse.urlparse(location)
    if parts.scheme != "file":
        msg = f"{location} is no file of this machine: fetch it first"
        raise FormatError(msg)
    return Path(urllib.request.url2pathname(parts.path))


def unpacked_directory() -> Path:
    """Where dumps and kernels are unpacked to, in the framework's cache."""
    return Path(constants.CACHE_PATH) / "freebsd-kvm"


def of_layer(layer: interfaces.layers.DataLayerInterface) -> reader.Reader:
    """The fastest reader there is: local files as they are, everything else through the layer.

    Args:
        layer: the layer that a dump was found in; usually the framework's FileLayer.

    Raises:
        FormatError, OSError: see `LayerReader`; the file is gone.
    """
    if isinstance(layer, physical.FileLayer):
        path = path_of(layer)
        # The framework has no public way to the open file; decompressors come as other types and are not mapped.
        direct = reader.map_stream(layer._file, name_of(layer), path)
        if direct is not None:
            return direct
        if path is not None:
            return reader.open_file(path)
    return LayerReader(layer)


def set_size(layer: interfaces.layers.DataLayerInterface, size: int) -> None:
    """Tell a layer how long its file is unpacked, in bytes.

    The framework unpacks .gz, .bz2 and .xz files by itself, and asks for their size at the end of each stacking: it
    would unpack all of the file once more, in each command, and fail where that fails.
    """
    if isinstance(layer, physical.FileLayer) and isinstance(layer._file, _DECOMPRESSORS):
        layer._maximum_address = layer._maximum_address or size - 1
