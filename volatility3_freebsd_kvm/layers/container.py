"""The dump inside a container, as a framework layer: what compression, encryption and dump devices hide."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

from volatility3.framework import constants, exceptions, interfaces
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.layers.reader import local_path, of_layer, set_size, unpacked_directory

vollog = logging.getLogger(__name__)

_OPEN: dict[tuple[object, ...], kvm.Unwrapped] = {}
"""What this process has unwrapped: the framework makes each layer twice, and what was encrypted is not kept."""


def unwrap_layer(
    layer: interfaces.layers.DataLayerInterface,
    key: str | None = None,
    progress: constants.ProgressCallback = None,
) -> kvm.Unwrapped:
    """What is inside the file of a layer; done, and its losses logged, once for a file and key.

    Args:
        layer: the layer of the file, usually the framework's FileLayer.
        key: URL of the RSA private key (PEM) to an encrypted dump.
        progress: is told of long work.

    Raises:
        kvm.FormatError, OSError: see `kvm.unwrap`.
    """
    if isinstance(layer, FreeBSDContainerLayer):
        return layer.unwrapped
    reader = of_layer(layer)
    status = reader.path.stat() if reader.path else None
    pem = local_path(key) if key else None
    identity = (reader.name, status and (status.st_size, status.st_mtime_ns), pem, constants.CACHE_PATH)
    if status and (known := _OPEN.get(identity)):
        reader.close()
        set_size(layer, _size_for_framework(known, reader.path))
        return known
    try:
        found = kvm.unwrap(reader, key=pem, cache=unpacked_directory(), progress=progress)
    except kvm.FormatError:
        if reader.size:
            set_size(layer, reader.size)
        raise
    for loss in found.losses:
        vollog.warning("%s: %s", reader.name, loss)
    if status and found.containers:
        _OPEN[identity] = found
        found.shared = True
        set_size(layer, _size_for_framework(found, reader.path))
    return found


def holds_no_memory(layer: interfaces.layers.DataLayerInterface, key: str | None = None) -> bool:
    """Whether a file is a text dump, or a dump that cannot be opened: nobody need look for memory in it.

    Args:
        layer: the layer of the file.
        key: see `unwrap_layer`.
    """
    try:
        return unwrap_layer(layer, key).text is not None
    except kvm.NotADumpError:
        return False
    except (kvm.FormatError, OSError):
        return True


def _size_for_framework(unwrapped: kvm.Unwrapped, path: Path | None) -> int:
    """How long a file is for the framework, which unpacks by suffix."""
    suffixes = reversed(path.suffixes if path else [])
    unpacked = len(list(itertools.takewhile(lambda suffix: suffix in (".gz", ".bz2", ".xz"), suffixes)))
    sizes = [*(container.size for container in unwrapped.containers), unwrapped.size]
    return sizes[min(unpacked, len(sizes) - 1)]


def reader_of(layer: interfaces.layers.DataLayerInterface) -> kvm.Reader:
    """What is in a layer, for `kvm.open`.

    Raises:
        kvm.FormatError, OSError: see `kvm.unwrap`.
    """
    return layer.unwrapped if isinstance(layer, FreeBSDContainerLayer) else of_layer(layer)


class FreeBSDContainerLayer(interfaces.layers.DataLayerInterface):
    """A dump as it was before it was compressed, encrypted or written to its device; its addresses are offsets.

    What is open is never pickled.
    """

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Open what is in the layer that ``base_layer`` names.

        Raises:
            exceptions.LayerException: it cannot be opened any more.
        """
        super().__init__(context=context, config_path=config_path, name=name, metadata=metadata)
        self._base_layer = str(self.config["base_layer"])
        self._unwrapped: kvm.Unwrapped | None = None
        try:
            # Now, as the framework's FileLayer does: a saved configuration may be older than its file.
            _ = self.unwrapped
        except (kvm.FormatError, OSError) as error:
            raise exceptions.LayerException(name, str(error)) from None

    @property
    def unwrapped(self) -> kvm.Unwrapped:
        """What is inside.

        Raises:
            kvm.FormatError, OSError: it cannot be had any more.
        """
        if self._unwrapped is None:
            key = self.config.get("key", None)
            self._unwrapped = unwrap_layer(self._context.layers[self._base_layer], str(key) if key else None)
        return self._unwrapped

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is open."""
        return {**self.__dict__, "_unwrapped": None}

    @property
    def minimum_address(self) -> int:
        """The first byte."""
        return 0

    @property
    def maximum_address(self) -> int:
        """The last byte."""
        return self.unwrapped.size - 1

    @property
    def dependencies(self) -> list[str]:
        """The layer that holds the file."""
        return [self._base_layer]

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The layer that holds the file, and the key to it."""
        return [
            requirements.TranslationLayerRequirement(name="base_layer", optional=False),
            requirements.StringRequirement(name="key", description="RSA private key", optional=True),
        ]

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Whether all of ``length`` bytes are within the dump."""
        return offset >= 0 and offset + max(length, 1) <= self.unwrapped.size

    def read(self, offset: int, length: int, pad: bool = False) -> bytes:
        """Bytes of the dump; see the framework for ``pad``."""
        size = self.unwrapped.size
        if not pad and not (0 <= offset <= offset + length <= size):
            bad = size if 0 <= offset < size else offset
            raise exceptions.InvalidAddressException(self.name, bad, f"{bad:#x} is beyond the end of the dump")
        data = self.unwrapped.buffer[max(offset, 0) : max(offset + length, 0)]
        return (bytes(max(0, min(-offset, length))) + data).ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """Refused: a dump is evidence."""
        raise exceptions.LayerException(self.name, f"{self.name} is a dump and cannot be written")
