"""Virtual memory: physical memory seen through a page map."""

from __future__ import annotations

from collections.abc import Iterator

from ..exceptions import AddressError
from .pagemap.base import PageMap
from .physical import PhysicalMemory
from .records import Absence, DumpedRange, Leaf, MappedRange, Run

_CACHE_LIMIT = 1 << 17
_TOP = 1 << 64


class AddressSpace:
    """Reads and walks virtual memory.

    Attributes:
        physical: what the translations lead to.
        page_map: the translations.
    """

    def __init__(self, physical: PhysicalMemory, page_map: PageMap) -> None:
        """Put the two together."""
        self.physical = physical
        self.page_map = page_map
        self.page_size = physical.page_size
        self._shift = self.page_size.bit_length() - 1
        self._mask = self.page_size - 1
        self._buffer = physical.reader.buffer
        # File offset by virtual page, for pages that are wholly in the file.
        self._pages: dict[int, int] = {}
        self._cacheable = page_map.page_granular

    def read(self, va: int, length: int) -> bytes:
        """``length`` bytes from ``va``.

        Raises:
            NotMappedError, NotDumpedError, BeyondEndError: with the first address that fails.
        """
        base = self._pages.get(va >> self._shift)
        if base is not None:
            within = va & self._mask
            if within + length <= self.page_size:
                return self._buffer[base + within : base + within + length]
        return self._read(va, length)

    def _read(self, va: int, length: int) -> bytes:
        pieces = []
        end = va + length
        while va < end:
            within = va & self._mask
            room = min(self.page_size - within, end - va)
            base = self._pages.get(va >> self._shift)
            if base is None:
                pa, size = self.page_map.translate(va)
                size = min(size, end - va)
                if size > room or (base := self._remember(va, pa)) is None:
                    pieces.append(self._read_piece(va, pa, size))
                    va += size
                    continue
            pieces.append(self._buffer[base + within : base + within + room])
            va += room
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_piece(self, va: int, pa: int, size: int) -> bytes:
        try:
            return self.physical.read(pa, size)
        except AddressError as error:
            raise self._virtual_error(error, va + error.address - pa) from None

    def _virtual_error(self, error: AddressError, va: int) -> AddressError:
        """The error of a physical address as that of the virtual one it was translated from."""
        where = f"physical address {error.address:#x}" if self.physical.is_physical else ""
        return type(error)(va, ", ".join(filter(None, (where, error.detail))))

    def _remember(self, va: int, pa: int) -> int | None:
        """Cache and return where the page of ``va`` is in the file; None unless all of it is there."""
        if not self._cacheable or (va ^ pa) & self._mask:
            return None
        offset = self.physical.page_offset(pa & ~self._mask)
        if offset < 0 or offset + self.page_size > self.physical.reader.size:
            return None
        if len(self._pages) >= _CACHE_LIMIT:
            self._pages.clear()
        self._pages[va >> self._shift] = offset
        return offset

    def locate(self, va: int) -> tuple[int, int]:
        """``(physical address, file offset)`` of the byte at ``va``; raises as `read` does."""
        pa, _ = self.page_map.translate(va)
        try:
            return pa, self.physical.offset_of(pa)
        except AddressError as error:
            raise self._virtual_error(error, va) from None

    def walk(self, start: int = 0, end: int = _TOP) -> Iterator[MappedRange]:
        """All mappings in ``[start, end)`` by ascending address.

        Direct maps are left out (`pages` has them) unless they are ordinary entries of the page tables.

        A range ends where translation, protection or presence changes; a page that is mapped but cannot be read says
        why, and so does a range whose page table is missing.
        """
        for leaf in self.page_map.walk(start, end):
            yield from self._presence(leaf)

    def _presence(self, leaf: Leaf) -> Iterator[MappedRange]:
        """Cut a leaf by what is in the file."""
        if leaf.pa is None:
            yield MappedRange(leaf.va, None, leaf.length, leaf.prot, None, leaf.absence)
            return
        delta = leaf.va - leaf.pa
        position, end = leaf.pa, leaf.pa + leaf.length

        def piece(start: int, stop: int, offset: int | None, absence: Absence | None) -> MappedRange:
            pa = start if self.physical.is_physical else None
            return MappedRange(start + delta, pa, stop - start, leaf.prot, offset, absence)

        size = self.physical.reader.size
        for run in self.physical.promised_runs(position, end):
            if run.pa > position:
                yield piece(position, run.pa, None, Absence.NOT_DUMPED)
            position = run.pa + run.length
            present = max(0, min(run.length, size - run.offset))
            if present:
                yield piece(run.pa, run.pa + present, run.offset, None)
            if present < run.length:
                yield piece(run.pa + present, position, None, Absence.BEYOND_END)
        if position < end:
            yield piece(position, end, None, Absence.NOT_DUMPED)

    def readable(self, start: int = 0, end: int = _TOP) -> Iterator[tuple[int, Run]]:
        """``(va, run)`` of all memory in ``[start, end)`` that can be read, ascending, direct maps included."""
        for leaf in self.page_map.translations(start, end):
            if leaf.pa is not None:
                for run in self.physical.runs(leaf.pa, leaf.pa + leaf.length):
                    yield leaf.va + run.pa - leaf.pa, run

    def pages(self) -> Iterator[DumpedRange]:
        """All readable dumped pages, consecutive ones together, with their address in the direct map if they have one.

        With `walk`, this is what libkvm's ``kvm_walk_pages`` should have been.
        """
        for run in self.physical.runs():
            yield from self._direct_pieces(run)

    def _direct_pieces(self, run: Run) -> Iterator[DumpedRange]:
        """Cut a run where a direct map begins or ends."""
        directs = self.page_map.directs
        edges = {phys for _, _, phys in directs} | {phys + end - base for base, end, phys in directs}
        position, end = run.pa, run.pa + run.length
        for cut in [*sorted(edge for edge in edges if position < edge < end), end]:
            offset = run.offset + position - run.pa
            yield DumpedRange(position, cut - position, offset, self.page_map.direct_va(position))
            position = cut
