"""Minidumps of every architecture and version, as the kernel's `minidumpsys` writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .bitmap import Range, bit_count, bit_of, pack_bitmap, pack_dump_avail
from .headers import MAGIC, has_dump_avail, header_fields, pack_header
from .memory import Mapping, PhysicalMemory
from .pagemaps import build_page_map
from .parameters import Parameters, defaults

_BITMAP_WORD = {"i386": 4, "arm": 4, "mips": 4}  # all others: 8


@dataclass(frozen=True)
class Minidump:
    """A minidump and the truth about it.

    Attributes:
        data: The file.
        header: Header fields by FreeBSD's names.
        parameters: What it was built with.
        memory: Physical memory, with the page table pages that the writer made.
        dump_avail: Ranges of the dump_avail table, or None if the version has none.
        dumped: Addresses of the dumped pages, in file order.
        tables: Addresses of the page table pages that the writer made.
        dump_avail_offset: File offset of the dump_avail table (of the bitmap if there is none).
        bitmap_offset: File offset of the bitmap.
        pmap_offset: File offset of the page map.
        pages_offset: File offset of the first dumped page.
    """

    data: bytes
    header: dict[str, int | bytes]
    parameters: Parameters
    memory: PhysicalMemory
    dump_avail: tuple[Range, ...] | None
    dumped: tuple[int, ...]
    tables: frozenset[int]
    dump_avail_offset: int
    bitmap_offset: int
    pmap_offset: int
    pages_offset: int

    def offset_of(self, pa: int) -> int | None:
        """Return the file offset of a physical address, or None if its page is not dumped."""
        page = self.memory.page_of(pa)
        if page not in self.dumped:
            return None
        return self.pages_offset + self.dumped.index(page) * self.memory.page_size + pa - page


def build_minidump(
    arch: str,
    version: int,
    memory: PhysicalMemory,
    mappings: Iterable[Mapping],
    *,
    dump_avail: Sequence[Range] | None = None,
    dumped: Collection[int] | None = None,
    message_buffer: bytes = b"",
    parameters: Parameters | None = None,
    **changes: Any,
) -> Minidump:
    """Build a minidump.

    Args:
        arch: amd64, i386, arm, arm64, riscv, mips, powerpc64 or powerpc64le.
        version: Minidump version.
        memory: Physical memory; it is not changed.
        mappings: What the kernel page map maps.
        dump_avail: Physical ranges for versions that have the table; by default one range around all of `memory`.
            Versions without the table ignore it, apart from the size of their bitmap.
        dumped: Addresses of the pages to dump (by default all of `memory`). Page table pages that the writer makes
            come on top, unless `dump_page_tables` is false.
        message_buffer: The message buffer section.
        parameters: All other values (by default those of `defaults`).
        **changes: Single fields of `Parameters` to change, for example ``kernbase=0x400000``.

    Raises:
        ValueError: The description contradicts itself, for example a dumped page outside dump_avail.
    """
    parameters = _parameters(arch, version, parameters, changes)
    memory = memory.copy()
    if memory.page_size != parameters.page_size:
        raise ValueError(f"memory has pages of {memory.page_size} bytes, the dump of {parameters.page_size}")
    everything = dumped is None
    page_map = build_page_map(arch, version, memory, mappings, parameters)
    chosen = set(memory.pages) if dumped is None else set(dumped)
    if not parameters.dump_page_tables:
        chosen -= page_map.tables
    elif not everything:
        chosen |= page_map.tables
    if missing := chosen - memory.pages.keys():
        raise ValueError(f"pages to dump do not exist: {sorted(map(hex, missing))}")

    page_size, byteorder = parameters.page_size, parameters.byteorder
    with_table = has_dump_avail(arch, version)
    ranges = _ranges(memory, dump_avail) if with_table else _ranges_from_zero(memory, dump_avail)
    bits: dict[int, int] = {}
    for pa in chosen:
        bit = bit_of(ranges, pa, page_size)
        if bit is None:
            raise ValueError(f"dumped page {pa:#x} is outside dump_avail")
        bits[bit] = pa
    in_order = tuple(bits[bit] for bit in sorted(bits))

    table = pack_dump_avail(ranges, parameters.dump_avail_entry, page_size, byteorder) if with_table else b""
    bitmap = pack_bitmap(bits, bit_count(ranges, page_size), _BITMAP_WORD.get(arch, 8), page_size, byteorder)
    header = _header_values(arch, version, parameters, len(message_buffer), len(table), len(bitmap), len(page_map.data))
    fields = header_fields(arch, version, short=parameters.short_header)
    sections = [
        pack_header(fields, header, page_size, byteorder),
        _padded(message_buffer, page_size),
        table,
        bitmap,
        _padded(page_map.data, page_size),
    ]
    offsets = [sum(map(len, sections[:count])) for count in range(len(sections) + 1)]
    return Minidump(
        data=b"".join([*sections, *(bytes(memory.pages[pa]) for pa in in_order)]),
        header=header,
        parameters=parameters,
        memory=memory,
        dump_avail=ranges if with_table else None,
        dumped=in_order,
        tables=frozenset(page_map.tables),
        dump_avail_offset=offsets[2],
        bitmap_offset=offsets[3],
        pmap_offset=offsets[4],
        pages_offset=offsets[5],
    )


def minidump(
    arch: str,
    version: int,
    memory: PhysicalMemory,
    mappings: Iterable[Mapping],
    *,
    dump_avail: Sequence[Range] | None = None,
    dumped: Collection[int] | None = None,
    message_buffer: bytes = b"",
    parameters: Parameters | None = None,
    **changes: Any,
) -> bytes:
    """Build a minidump and return the file; see `build_minidump`."""
    return build_minidump(
        arch,
        version,
        memory,
        mappings,
        dump_avail=dump_avail,
        dumped=dumped,
        message_buffer=message_buffer,
        parameters=parameters,
        **changes,
    ).data


def _parameters(arch: str, version: int, parameters: Parameters | None, changes: dict[str, Any]) -> Parameters:
    if parameters is None:
        mmu_name, pte_size = changes.get("mmu_name", "mmu_phyp"), changes.get("pte_size", 4)
        parameters = defaults(arch, version, mmu_name=mmu_name, pte_size=pte_size)
    return replace(parameters, **changes)


def _ranges(memory: PhysicalMemory, dump_avail: Sequence[Range] | None) -> tuple[Range, ...]:
    if dump_avail is not None:
        return tuple(dump_avail)
    if not memory.pages:
        raise ValueError("no memory to dump")
    return ((min(memory.pages), max(memory.pages) + memory.page_size),)


def _ranges_from_zero(memory: PhysicalMemory, dump_avail: Sequence[Range] | None) -> tuple[Range, ...]:
    """Before dump_avail was written, the bitmap began at physical 0 and reached to the end of memory."""
    return ((0, max(end for _, end in _ranges(memory, dump_avail))),)


def _padded(data: bytes, page_size: int) -> bytes:
    return data.ljust(-(-len(data) // page_size) * page_size, b"\0")


def _header_values(
    arch: str, version: int, parameters: Parameters, msgbuf: int, dump_avail: int, bitmap: int, page_map: int
) -> dict[str, int | bytes]:
    """Return a value for each field of this header."""
    known: dict[str, int | bytes] = {
        "magic": MAGIC[arch],
        "mmu_name": parameters.mmu_name.encode(),
        "version": version,
        "msgbufsize": msgbuf,
        "bitmapsize": bitmap,
        "pmapsize": page_map,
        "ptesize": page_map,
        "kernbase": parameters.kernbase,
        "kernend": parameters.kernend,
        "dmapphys": parameters.dmapphys,
        "dmapbase": parameters.dmapbase,
        "dmapend": parameters.dmapend,
        "hw_direct_map": parameters.hw_direct_map,
        "startkernel": parameters.startkernel,
        "endkernel": parameters.endkernel,
        "paemode": int(parameters.paemode),
        "arch": parameters.arm_arch,
        "mmuformat": parameters.mmuformat,
        "dumpavailsize": dump_avail,
        "flags": {4096: 0, 16384: 1}[parameters.page_size],
    }
    return {name: known[name] for name in header_fields(arch, version, short=parameters.short_header)}
