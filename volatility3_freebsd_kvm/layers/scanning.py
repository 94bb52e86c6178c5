"""Scanning by stretches of addresses, wherever their bytes are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from volatility3.framework import interfaces
from volatility3.framework.layers import linear


class StretchScanLayer(linear.LinearlyMappedLayer):
    """Scans consecutive addresses as one piece.

    The framework starts a new chunk wherever the layer below is not consecutive, and so misses what lies across such a
    border.
    """

    def _scan_iterator(
        self,
        scanner: interfaces.layers.ScannerInterface,
        sections: Iterable[tuple[int, int]],
        linear: bool = True,
    ) -> Iterator[interfaces.layers.IteratorValue]:
        """Chunks of this layer; a scanner reports what begins in the first ``chunk_size`` bytes of each."""
        for start, length in sections:
            for position, end in self._stretches(start, length):
                while position < end:
                    size = min(end - position, scanner.chunk_size + scanner.overlap)
                    yield [(self.name, position, size)], position + size
                    position += min(size, scanner.chunk_size)

    def _stretches(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """``[start, end)`` of each stretch of readable addresses."""
        start = end = offset
        for at, size, *_ in self.mapping(offset, length, ignore_errors=True):
            if at != end:
                if start < end:
                    yield start, end
                start = at
            end = at + size
        if start < end:
            yield start, end
