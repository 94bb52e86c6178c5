"""Simulated RAM and what the kernel maps of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DEFAULT_FREE_AREA = (0x0200_0000, 0x0400_0000)


class PhysicalMemory:
    """Sparse physical memory made of pages; only touched pages exist.

    Attributes:
        page_size: Bytes in one page.
        pages: Content of each existing page, keyed by its page-aligned physical address.
    """

    def __init__(self, page_size: int = 4096, free_area: tuple[int, int] = DEFAULT_FREE_AREA) -> None:
        """Start with no page at all.

        Args:
            page_size: Bytes in one page, a power of two.
            free_area: Physical addresses (start, exclusive end) from which `allocate` takes its pages.
        """
        if page_size & (page_size - 1):
            raise ValueError(f"page size {page_size} is not a power of two")
        self.page_size = page_size
        self.pages: dict[int, bytearray] = {}
        self._free, self._free_end = free_area

    def copy(self) -> PhysicalMemory:
        """Return an independent copy, which allocates from the same place."""
        other = PhysicalMemory(self.page_size, (self._free, self._free_end))
        other.pages = {pa: bytearray(page) for pa, page in self.pages.items()}
        return other

    def page_of(self, pa: int) -> int:
        """Return the address of the page that holds `pa`."""
        return pa & -self.page_size

    def write(self, pa: int, data: bytes) -> None:
        """Store bytes at a physical address; pages that do not exist yet are created full of zeros."""
        position = 0
        while position < len(data):
            page, offset = self.page_of(pa + position), (pa + position) % self.page_size
            piece = data[position : position + self.page_size - offset]
            content = self.pages.setdefault(page, bytearray(self.page_size))
            content[offset : offset + len(piece)] = piece
            position += len(piece)

    def read(self, pa: int, length: int) -> bytes:
        """Return bytes at a physical address.

        Raises:
            KeyError: A page in the range does not exist.
        """
        result = bytearray()
        while len(result) < length:
            at = pa + len(result)
            offset = at % self.page_size
            piece = min(self.page_size - offset, length - len(result))
            result += self.pages[self.page_of(at)][offset : offset + piece]
        return bytes(result)

    def write_integer(self, pa: int, value: int, size: int, byteorder: str = "little") -> None:
        """Store one integer of `size` bytes."""
        if byteorder not in ("little", "big"):
            raise ValueError(f"no such byte order: {byteorder}")
        self.write(pa, value.to_bytes(size, "little") if byteorder == "little" else value.to_bytes(size, "big"))

    def read_integer(self, pa: int, size: int, byteorder: str = "little") -> int:
        """Return one integer of `size` bytes."""
        return int.from_bytes(self.read(pa, size), "big" if byteorder == "big" else "little")

    def allocate(self, count: int = 1, align: int | None = None) -> int:
        """Take fresh, zeroed, consecutive pages from the free area.

        Args:
            count: Number of pages.
            align: Alignment of the first page in bytes (default: the page size).

        Returns:
            Physical address of the first page.

        Raises:
            MemoryError: The free area is used up.
        """
        align = max(align or 0, self.page_size)
        pa = -(-self._free // align) * align
        length = count * self.page_size
        while any(page in self.pages for page in range(pa, pa + length, self.page_size)):
            pa += align
        if pa + length > self._free_end:
            raise MemoryError(f"the free area ends at {self._free_end:#x}")
        self._free = pa + length
        for page in range(pa, pa + length, self.page_size):
            self.pages[page] = bytearray(self.page_size)
        return pa

    def fill_random(self, pa: int, length: int, seed: int) -> bytes:
        """Store reproducible random bytes and return them."""
        data = random.Random(seed).randbytes(length)
        self.write(pa, data)
        return data

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield (address, length) of each run of consecutive existing pages, ascending."""
        yield from page_runs(self.pages, self.page_size)


def page_runs(pages: Iterable[int], page_size: int) -> Iterator[tuple[int, int]]:
    """Yield (address, length) of each run of consecutive pages, ascending."""
    start: int | None = None
    end = 0
    for page in sorted(pages):
        if start is not None and page == end:
            end += page_size
            continue
        if start is not None:
            yield start, end - start
        start, end = page, page + page_size
    if start is not None:
        yield start, end - start


@dataclass(frozen=True)
class Mapping:
    """One stretch of kernel virtual addresses and what it maps.

    Attributes:
        va: First virtual address, aligned to the leaf size.
        pa: First physical address, aligned to the leaf size.
        length: Bytes, a multiple of the leaf size.
        write: Writable.
        execute: Executable by the kernel.
        leaf: Bytes that one page table entry maps (a superpage, an arm64 block, …); None means the base page.
    """

    va: int
    pa: int
    length: int
    write: bool = True
    execute: bool = False
    leaf: int | None = None

    @property
    def end(self) -> int:
        """The first virtual address behind the mapping."""
        return self.va + self.length

    def leaves(self, page_size: int) -> Iterator[tuple[int, int]]:
        """Yield (va, pa) of every page table entry that the mapping needs.

        Raises:
            ValueError: Addresses or length are not multiples of the leaf size.
        """
        size = self.leaf or page_size
        if self.va % size or self.pa % size or self.length % size:
            raise ValueError(f"{self} is not aligned to its leaf size {size:#x}")
        for distance in range(0, self.length, size):
            yield self.va + distance, self.pa + distance

    def base_pages(self, page_size: int) -> Iterator[tuple[int, int]]:
        """Yield (va, pa) of every base page, whatever the leaf size."""
        for va, pa in self.leaves(page_size):
            for distance in range(0, self.leaf or page_size, page_size):
                yield va + distance, pa + distance
