"""Finding the kernel in physical memory that nothing describes: architecture, base of RAM, and page tables.

What is found is believed only when it confirms itself: the tables must translate where the kernel is linked to where
its ELF header lies, a known variable to its known value, or some of the kernel's addresses to its version string.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..exceptions import AddressError, SymbolError
from . import pagemap
from .pagemap import FULL_SYMBOLS, PageMap, amd64, arm64, i386, riscv
from .physical import PhysicalMemory, Segment, SegmentedMemory
from .rawplaces import STEP, Place, Progress, banners, dynamic_symbols, kernel_places
from .reader import Reader

USUAL_BASES = {"arm64": (0x40000000, 0x80000000, 0), "riscv": (0x80000000, 0), "arm": (0x40000000, 0x10000000, 0)}
"""Where RAM starts on common (virtual) machines without PC ancestry."""
_WINDOWS = {
    "amd64": ((amd64.KERNBASE, 1 << 64),),
    "i386": ((0x400000, 0x8000000), (0xC0000000, 0xC8000000)),
    "arm64": ((arm64.KERNBASE, arm64.KERNBASE + (256 << 20)),),
    "riscv": ((riscv.KERNBASE, riscv.KERNBASE + (256 << 20)),),
    "arm": ((0xC0000000, 0xC8000000),),
}
"""Where kernels are linked."""
_TABLE_ROOM = 64 << 20
"""How far behind a kernel image its first tables may lie."""
_MAX_CANDIDATES = 16
_MAX_TRIES = 1 << 11
_MAX_REASONS = 200
_BANNER_LENGTH = 9
_FIRST_GAP = 2 << 30
"""The gap for devices begins here at the earliest."""


class Found(NamedTuple):
    """A kernel in memory.

    Attributes:
        memory: physical memory, with its true addresses.
        architecture: FreeBSD's name.
        base: what to add to the addresses that the search started with.
        page_map: the kernel's own tables.
        how: what was found and what confirmed it.
        gap: bytes below 4 GiB that are no memory and that the file leaves out.
    """

    memory: SegmentedMemory
    architecture: str
    base: int
    page_map: PageMap
    how: str
    gap: int = 0


_Try = tuple[int, SegmentedMemory, PageMap]
"""``(base, memory, page map)`` to be confirmed."""


class Search:
    """One search.

    Attributes:
        reasons: why what looked right was rejected, one sentence each.
        is_freebsd: a kernel of FreeBSD was seen, whether or not its tables were found.
    """

    def __init__(
        self,
        reader: Reader,
        segments: list[Segment] | None = None,
        symbols: Mapping[str, int] | None = None,
        architecture: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare.

        Args:
            reader: what holds memory.
            segments: where; None if the file is memory from its first byte on, whatever address that has.
            symbols: values of kernel symbols.
            architecture: whose kernel to look for; None for any.
            progress: is told of long work.
        """
        self.reasons: list[str] = []
        self.is_freebsd = False
        self._reader = reader
        self._segments = segments
        self._symbols = dict(symbols or {})
        self._architecture = architecture
        self._progress = progress
        self._left = _MAX_TRIES
        self._memories: dict[tuple[int, int], SegmentedMemory] = {}
        self._memory = self._shifted(0)
        self._banners: list[int] | None = None
        self._tables: dict[str, list[PageMap]] = {}

    def _shifted(self, base: int, page_size: int = 4096) -> SegmentedMemory:
        if (base, page_size) not in self._memories:
            segments = self._segments if self._segments is not None else [Segment(0, self._reader.size, 0)]
            moved = [Segment(segment.start + base, segment.length, segment.offset) for segment in segments]
            self._memories[base, page_size] = SegmentedMemory(self._reader, moved, page_size)
        return self._memories[base, page_size]

    def run(self, *, thorough: bool = True) -> Found | None:
        """Look for the kernel.

        Args:
            thorough: also without the ELF header of a kernel: reads all of the first 4 GiB.
        """
        for place in kernel_places(self._memory, self._architecture, self._progress):
            self._left = _MAX_TRIES
            found = next(self._at(place), None)
            if found:
                self.is_freebsd = True
                return self._with_gap(found)
            self._reject(f"no page tables lead to the kernel at {place.pa:#x} ({place.architecture})")
        if thorough or self._symbols:
            self._left = _MAX_TRIES
            found = next(self._without_header(), None)
            return self._with_gap(found) if found else None
        return None

    def _reject(self, reason: str) -> None:
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)

    # With the kernel's ELF header

    def _at(self, place: Place) -> Iterator[Found]:
        """What confirms itself as the kernel at ``place``."""
        names = FULL_SYMBOLS[place.architecture]
        known = {name: value for name, value in self._symbols.items() if name in names}
        sources = [("the kernel's symbols", known)]
        if place.dynamic:
            sources.append(("symbols in memory", dict(dynamic_symbols(self._memory, place, names))))
        for source, symbols in sources:
            if symbols:
                yield from self._confirmed(place, self._by_symbols(place, symbols), source)
        yield from self._confirmed(place, self._by_scan(place), "tables that map themselves or the kernel")

    def _confirmed(self, place: Place, tries: Iterator[_Try], how: str) -> Iterator[Found]:
        for base, memory, page_map in tries:
            if all(self._translates(page_map, place.va + at, place.pa + base + at) for at in self._checked(place)):
                text = f"{how}; {place.va:#x} is translated to its ELF header at {place.pa + base:#x}"
                yield Found(memory, place.architecture, base, page_map, text)

    @staticmethod
    def _checked(place: Place) -> tuple[int, ...]:
        """Which bytes of the image must be where they should; one does not tell the granules of arm64 apart."""
        return (0, place.size - 1) if place.architecture == "arm64" else (0,)

    def _translates(self, page_map: PageMap, va: int, pa: int) -> bool:
        self._left -= 1
        try:
            result = page_map.kvatop(va)
        except AddressError as error:
            self._reject(f"{_root(page_map)}: {error}")
            return False
        if result != pa:
            self._reject(f"{_root(page_map)}: {va:#x} is translated to {result:#x}, the kernel is at {pa:#x}")
        return result == pa

    def _by_symbols(self, place: Place, symbols: Mapping[str, int]) -> Iterator[_Try]:
        name = {"arm64": "pagetable_l0_ttbr1", "riscv": "pagetable_l1"}.get(place.architecture)
        if name is None:
            try:
                yield 0, self._memory, pagemap.FULL[place.architecture](self._memory, symbols, None)
            except SymbolError as error:
                self._reject(f"by symbols: {error}")
        elif name in symbols:
            yield from self._with_root(place, place.pa + symbols[name] - place.va)

    def _by_scan(self, place: Place) -> Iterator[_Try]:
        if place.architecture in ("amd64", "i386"):
            yield from ((0, self._memory, page_map) for page_map in self._self_maps(place.architecture))
            return
        module = arm64 if place.architecture == "arm64" else riscv
        sizes = (4096, 16384) if module is arm64 else (4096,)
        near = place.pa, place.pa + place.size + _TABLE_ROOM
        for start, end in (near, (0, near[0]), (near[1], 1 << 64)):
            for page_size in sizes:
                for root in module.root_pages(self._shifted(0, page_size), start, end):
                    yield from self._with_root(place, root, page_size)
                    self._left -= 1
                    if self._left <= 0:
                        self._reject(f"{_MAX_TRIES} pages look like page tables of a kernel; the others were not tried")
                        return

    def _self_maps(self, architecture: str) -> list[PageMap]:
        """Tables that map themselves; looked for once."""
        if architecture not in self._tables:
            found = {"amd64": amd64.find_tables, "i386": i386.find_tables}[architecture](self._memory)
            self._tables[architecture] = list(found)
        return self._tables[architecture]

    def _with_root(self, place: Place, root: int, page_size: int | None = None) -> Iterator[_Try]:
        """Tables with the top table at ``root``, as the memory that was searched counts, for each possible base."""
        for size in (page_size,) if page_size else (4096, 16384) if place.architecture == "arm64" else (4096,):
            for base in self._bases(place, root):
                memory = self._shifted(base, size)
                yield base, memory, pagemap.FULL[place.architecture](memory, {}, root + base)

    def _bases(self, place: Place, root: int) -> Iterator[int]:
        """What the address of the first byte of a raw file may be.

        The next table below the kernel's top table lies in or shortly behind the kernel's image, which tells the base
        but for some multiples of 2 MiB.
        """
        if self._segments is not None:
            yield 0
            return
        index = 0 if place.architecture == "arm64" else 256
        try:
            entry = int.from_bytes(self._memory.read(root + 8 * index, 8), "little")
        except AddressError:
            return
        table = entry & 0xFFFFFFFFF000 if place.architecture == "arm64" else (entry >> 10 & (1 << 44) - 1) << 12
        low = max(0, table - place.pa - place.size - _TABLE_ROOM)
        for base in range((table - place.pa) // STEP * STEP, low - STEP, -STEP):
            if base >= 0:
                yield base

    # The gap for devices below 4 GiB

    def _with_gap(self, found: Found) -> Found:
        """What was found, with true addresses from 4 GiB on where the file leaves out the gap below."""
        if found.architecture != "amd64" or self._segments is not None or self._reader.size <= _FIRST_GAP:
            return found
        gap = next(amd64.displacements(found.memory, _root_of(found.page_map), _FIRST_GAP), 0)
        if not gap:
            return found
        memory = SegmentedMemory(self._reader, raw_segments(self._reader.size, 0, gap), 4096)
        page_map = amd64.by_root(memory, _root_of(found.page_map))
        how = f"{found.how}; the file leaves out {gap:#x} bytes below 4 GiB, as tables of processes above show"
        return found._replace(memory=memory, page_map=page_map, how=how, gap=gap)

    # Without it

    def _without_header(self) -> Iterator[Found]:
        """By symbols, or by tables that map themselves; a variable or the version string must confirm it."""
        if self._symbols:
            if self._architecture is None:
                return
            yield from self._known_kernel(self._architecture)
        elif self._has_banner():
            for architecture in ("amd64", "i386"):
                if self._architecture in (None, architecture):
                    for page_map in self._self_maps(architecture)[:_MAX_CANDIDATES]:
                        if self._shows_banner(page_map, architecture, 0):
                            how = "tables that map themselves and the kernel's version string"
                            yield Found(self._memory, architecture, 0, page_map, how)
        else:
            self._reject("no version string of FreeBSD in the first 4 GiB")

    def _known_kernel(self, architecture: str) -> Iterator[Found]:
        bases = (0,) if self._segments is not None else USUAL_BASES.get(architecture, (0,))
        for base in bases:
            memory = self._shifted(base)
            for symbols in self._variants(architecture, base):
                try:
                    page_map = pagemap.FULL[architecture](memory, symbols, None)
                except SymbolError as error:
                    self._reject(f"with RAM from {base:#x} on: {error}")
                    continue
                if self._is_kernel(memory, page_map, architecture, base):
                    yield Found(memory, architecture, base, page_map, "the kernel's symbols, confirmed by its version")

    def _variants(self, architecture: str, base: int) -> Iterator[Mapping[str, int]]:
        """The symbols; of arm kernels with each address that the kernel may be loaded at."""
        if architecture != "arm" or self._symbols.get("physaddr"):
            yield self._symbols
            return
        first = self._memory.bounds()[0] + base
        for physaddr in range(first, first + _TABLE_ROOM, STEP):
            yield {**self._symbols, "physaddr": physaddr}

    def _is_kernel(self, memory: PhysicalMemory, page_map: PageMap, architecture: str, base: int) -> bool:
        """Whether tables show the version string, where the kernel has it if that is known."""
        if "version" not in self._symbols:
            return self._shows_banner(page_map, architecture, base)
        try:
            text = memory.read(page_map.kvatop(self._symbols["version"]), _BANNER_LENGTH)
        except AddressError as error:
            self._reject(f"{_root(page_map)}: version: {error}")
            return False
        if text[:8] != b"FreeBSD ":
            self._reject(f"{_root(page_map)}: the kernel's version reads {text!r}")
        return text[:8] == b"FreeBSD "

    def _has_banner(self) -> bool:
        if self._banners is None:
            self._banners = banners(self._memory, self._progress)
            self.is_freebsd |= bool(self._banners)
        return bool(self._banners)

    def _shows_banner(self, page_map: PageMap, architecture: str, base: int) -> bool:
        """Whether a version string is where the kernel's image is."""
        self._has_banner()
        known = sorted(self._banners or ())
        for start, end in _WINDOWS[architecture]:
            for leaf in page_map.translations(start, end):
                if leaf.pa is not None:
                    at = bisect_left(known, leaf.pa - base)
                    if at < len(known) and known[at] + base < leaf.pa + leaf.length:
                        return True
        self._reject(f"{_root(page_map)}: maps no version string of FreeBSD where the kernel is linked")
        return False


def raw_segments(size: int, base: int, gap: int) -> list[Segment]:
    """A raw file of ``size`` bytes as segments.

    Args:
        size: bytes.
        base: the address of its first byte.
        gap: how many bytes below 4 GiB are no memory and left out; PCs have their devices there.
    """
    low = (4 << 30) - gap - base
    if not gap or not 0 < low < size:
        return [Segment(base, size, 0)]
    return [Segment(base, low, 0), Segment(4 << 30, size - low, low)]


def _root_of(page_map: PageMap) -> int:
    return int(getattr(page_map, "root", 0))


def _root(page_map: PageMap) -> str:
    return f"{page_map.name} at {_root_of(page_map):#x}"
