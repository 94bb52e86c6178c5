"""amd64: minidump page maps (versions 1 to 3) and the kernel's own 4- and 5-level tables.

# Reference: lib/libkvm/kvm_minidump_amd64.c, lib/libkvm/kvm_amd64.c, sys/amd64/include/vmparam.h,
#            sys/amd64/amd64/pmap.c
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from ...exceptions import AddressError, FormatError, NotMappedError, SymbolError
from ..minidump import MinidumpHeader
from ..physical import PhysicalMemory
from ..records import Protection
from .base import PROTECTIONS, Decoded, DirectMap, Level, PageMap, SectionTable, TablePageMap, Window
from .columns import column, enumerate_pages, own_address

KERNBASE = 0xFFFFFFFF80000000
"""Where the kernel is linked; its text starts 2 MiB above (KERNSTART)."""
DMAP_BASE = 0xFFFFF80000000000
"""DMAP_MIN_ADDRESS of 10.0 to 14.x; checked before use."""
NBPDR = 1 << 21
PG_V = 1
PG_PS = 0x80
PG_FRAME = 0x000FFFFFFFFFF000
SYMBOLS = ("KPML4phys", "kernbase", "kernphys", "la57", "KPML5phys")
_RECURSIVE_SLOT = 256
"""PML4PML4I and PML5PML5I."""
_MAX_ROOTS = 1 << 11
_LOOKED_THROUGH = 16 << 30
_FABRICATED = 0x063
"""V, RW, A and M: all that the version 1 dumper sets in the entries it makes up for superpages."""
_TOP = 1 << 64


class _Amd64Entries(TablePageMap):
    """What an amd64 page table entry says."""

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """PG_V, PG_RW (1), PG_PS (7) and PG_NX (63)."""
        if not entry & PG_V:
            return None
        shift = self.levels[level].shift
        if shift == 12:
            return True, entry & PG_FRAME, PROTECTIONS[1 | entry & 2 | (~entry >> 63 & 1) << 2]
        if entry & PG_PS:
            if shift > 30:
                return None  # reserved there: the processor faults
            return True, entry & PG_FRAME & -(1 << shift), PROTECTIONS[1 | entry & 2 | (~entry >> 63 & 1) << 2]
        return False, entry & PG_FRAME, PROTECTIONS[0]


class MinidumpV1PageMap(_Amd64Entries):
    """Version 1: one PTE per 4 KiB of kernel memory."""

    name = "minidump, one PTE per 4 KiB"
    levels = (Level(12, 0),)

    def decode(self, level: int, entry: int, va: int) -> Decoded | None:
        """As everywhere, but superpages were expanded by the dumper, which loses NX."""
        if entry & ~PG_FRAME == _FABRICATED:
            return True, entry & PG_FRAME, Protection.UNKNOWN
        return super().decode(level, entry, va)


class MinidumpPageMap(_Amd64Entries):
    """Versions 2 and 3: one PDE per 2 MiB; the page table pages are ordinary dumped pages.

    1 GiB pages were written as 512 PDEs by the dumper.
    """

    name = "minidump, one PDE per 2 MiB"
    levels = (Level(21, 0), Level(12, 9))


class PageTables(_Amd64Entries):
    """The kernel's own tables, from the PML4 on.

    Attributes:
        root: physical address of the top table.
        maps_kernel: whether they map where the kernel starts.
    """

    name = "4-level page tables"
    directs_in_tables = True
    levels: tuple[Level, ...] = (Level(39, 9), Level(30, 9), Level(21, 9), Level(12, 9))

    def __init__(self, memory: PhysicalMemory, root: int) -> None:
        """``root`` is the physical address of the top table."""
        bits = self.levels[0].shift + self.levels[0].bits
        half = 1 << (bits - 1)
        windows = (Window(0, half, 0), Window(_TOP - half, _TOP, _TOP - 2 * half))
        super().__init__(memory, root & PG_FRAME, windows)
        self.root = root & PG_FRAME
        self.maps_kernel = self._maps(KERNBASE + NBPDR)
        if not self.maps_kernel:
            self.warnings.append("the page tables do not map the start of the kernel; they may be damaged")
        if self._maps(DMAP_BASE + NBPDR, NBPDR):
            self.directs = (DirectMap(DMAP_BASE, DMAP_BASE + (1 << 42), 0),)

    def _maps(self, va: int, pa: int | None = None) -> bool:
        """Whether ``va`` is mapped, and to ``pa`` if given."""
        try:
            return self.kvatop(va) == pa if pa is not None else self.kvatop(va) >= 0
        except AddressError:
            return False


class La57PageTables(PageTables):
    """The kernel's own tables, from the PML5 on."""

    name = "5-level page tables"
    levels = (Level(48, 9), *PageTables.levels)


def minidump(header: MinidumpHeader, section: Callable[[int], SectionTable], memory: PhysicalMemory) -> PageMap:
    """The page map of a minidump. The kernel range is tested before the direct map."""
    kind = MinidumpV1PageMap if header.version == 1 else MinidumpPageMap
    if header.kernbase % (1 << kind.levels[0].shift):
        msg = f"kernbase is {header.kernbase:#x}, which is no multiple of what one page map entry covers"
        raise FormatError(msg)
    table = section(8)
    end = min(header.kernbase + (table.length << kind.levels[0].shift), _TOP)
    windows = (
        Window(header.kernbase, end, header.kernbase),
        Window(header.dmapbase, min(header.dmapend, header.kernbase), header.dmapbase, direct=True),
    )
    return kind(memory, table, windows)


def full(memory: PhysicalMemory, symbols: Mapping[str, int], root: int | None) -> PageTables:
    """The page tables of a full dump.

    Args:
        memory: physical memory.
        symbols: values of ``KPML4phys`` and, where the kernel has them, ``kernbase``, ``kernphys``, ``la57`` and
            ``KPML5phys``. May be empty: then the tables are found by their self-map.
        root: the physical address of the top table, PML4 or PML5, if known; nothing else is needed then.

    Raises:
        SymbolError: there is no way to the tables.
    """
    if root is not None:
        return by_root(memory, root)
    if "KPML4phys" in symbols:
        return _by_symbols(memory, symbols)
    for tables in find_tables(memory):
        if _lower_half_in_use(memory, tables.root):
            tables.warnings.append(
                f"the page tables at {tables.root:#x} may be those of a process; pass the kernel to be sure"
            )
        return tables
    msg = "no page table root: the symbol KPML4phys is needed (pass the kernel), and no table maps itself in this dump"
    raise SymbolError(msg)


def by_root(memory: PhysicalMemory, root: int) -> PageTables:
    """The tables with that top table; it has five levels if only so the start of the kernel is mapped."""
    tables = PageTables(memory, root)
    if tables.maps_kernel:
        return tables
    deeper = La57PageTables(memory, root)
    return deeper if deeper.maps_kernel else tables


def _by_symbols(memory: PhysicalMemory, symbols: Mapping[str, int]) -> PageTables:
    kernbase = symbols.get("kernbase", KERNBASE)
    first: PageTables | None = None
    for kernphys in _kernphys_candidates(memory, symbols, kernbase):
        delta = kernphys - (kernbase + NBPDR)
        try:
            tables = _tables_at(memory, symbols, delta)
            if tables.kvatop(kernbase + NBPDR) == kernphys:
                return tables
        except NotMappedError:
            # Seen where tables are partly lost; good enough if nothing better comes.
            if _is_kernel_root(memory, tables.root):
                first = first or tables
        except AddressError:
            continue
    if first is None:
        msg = "KPML4phys leads to no page table that maps the kernel: does this kernel belong to this dump?"
        raise SymbolError(msg)
    return first


def _tables_at(memory: PhysicalMemory, symbols: Mapping[str, int], delta: int) -> PageTables:
    """The tables, given ``delta`` = physical minus virtual address of the kernel image."""

    def word(name: str, size: int) -> int:
        return int.from_bytes(memory.read(symbols[name] + delta, size), "little")

    if symbols.get("la57") and symbols.get("KPML5phys") and word("la57", 4):
        return La57PageTables(memory, word("KPML5phys", 8))
    return PageTables(memory, word("KPML4phys", 8))


def _kernphys_candidates(memory: PhysicalMemory, symbols: Mapping[str, int], kernbase: int) -> Iterator[int]:
    """Physical addresses where the kernel may start, the likely ones first.

    Since 13.1 the loader may put it at any multiple of 2 MiB below 4 GiB, and the variable ``kernphys`` holds the
    place, so the right candidate confirms itself. Before, ``kernphys`` was an absolute symbol or absent: always 2 MiB.
    """
    kernphys = symbols.get("kernphys", 0)
    if kernphys >= kernbase + NBPDR:
        for candidate in range(NBPDR, 1 << 32, NBPDR):
            try:
                value = memory.read(candidate + kernphys - kernbase - NBPDR, 8)
            except AddressError:
                continue
            if int.from_bytes(value, "little") == candidate:
                yield candidate
    yield NBPDR


def find_roots(memory: PhysicalMemory) -> Iterator[int]:
    """Physical addresses of top tables that refer to themselves in slot 256: the kernel's and those of processes.

    PML4 and PML5 pages alike. A candidate must also map the top of memory (slot 511) through a dumped page. Only the
    first 4 GiB are looked at, where the kernel makes its tables at boot.
    """
    for pa in own_address(memory, 8 * _RECURSIVE_SLOT, PG_FRAME, PG_V | PG_PS, PG_V):
        if _is_kernel_root(memory, pa):
            yield pa


def find_tables(memory: PhysicalMemory) -> Iterator[PageTables]:
    """The tables of `find_roots`, the likeliest first.

    Those that map the start of the kernel come first, though in a damaged dump none may. Of them, the kernel's own map
    nothing in the lower half; and five levels come before four: with LA57 the kernel keeps its PML4 with its self-map
    below the PML5, which alone has all of the kernel's address space since 15.0.
    """

    def order(tables: PageTables) -> tuple[bool, bool, int]:
        return not tables.maps_kernel, _lower_half_in_use(memory, tables.root), -len(tables.levels)

    return iter(sorted((by_root(memory, root) for root in islice(find_roots(memory), _MAX_ROOTS)), key=order))


def displacements(memory: PhysicalMemory, root: int, start: int) -> Iterator[int]:
    """How far top tables of processes are from where they say that they are, from ``start`` on.

    Each refers to itself and shares the kernel's top entry, so that it tells its true address: where an image leaves
    out the gap below 4 GiB, what is behind it seems to be lower than that. A table above 4 GiB that is where it says
    ends this: there is no gap.
    """
    kernel = int.from_bytes(memory.read(root + 8 * 511, 8), "little") & PG_FRAME
    for first, entries in column(memory, 8 * _RECURSIVE_SLOT, start=start, end=start + _LOOKED_THROUGH):
        for pa, entry in enumerate_pages(first, entries):
            if entry & (PG_V | PG_PS) != PG_V or not 0 <= (distance := (entry & PG_FRAME) - pa) <= start:
                continue
            if int.from_bytes(memory.read(pa + 8 * 511, 8), "little") & PG_FRAME != kernel:
                continue
            if not distance and pa >= 1 << 32:
                return
            if distance and entry & PG_FRAME >= 1 << 32 and not distance % NBPDR:
                yield distance


def _lower_half_in_use(memory: PhysicalMemory, root: int) -> bool:
    return any(memory.read(root, 8 * _RECURSIVE_SLOT))


def _is_kernel_root(memory: PhysicalMemory, pa: int) -> bool:
    entry = int.from_bytes(memory.read(pa + 8 * 511, 8), "little")
    return entry & (PG_V | PG_PS) == PG_V and memory.is_readable(entry & PG_FRAME, 4096)
