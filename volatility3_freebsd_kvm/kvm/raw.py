"""Raw physical memory: images of virtual machines, and whatever a tool took from a running machine.

    >>> from volatility3_freebsd_kvm import kvm
    >>> dump = kvm.open_raw("memory.img")                   # doctest: +SKIP

There is no header. What architecture it is, where its RAM starts and where the page tables are is found by looking for
the kernel, see `rawfind`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..exceptions import NotADumpError
from .dump import Dump
from .filled import FilledReader
from .pagemap import FULL
from .pagemap.base import PageMap
from .physical import Segment, SegmentedMemory
from .rawfind import Search, raw_segments
from .rawplaces import Progress
from .reader import Reader, open_reader

_WORD_BITS = {"i386": 32, "arm": 32}
_SHOWN_REASONS = 3


class NoKernelError(NotADumpError):
    """No kernel of FreeBSD was found in raw memory.

    Attributes:
        reasons: why what looked like one was rejected, one sentence each.
        is_freebsd: this is memory of FreeBSD by all appearances.
    """

    def __init__(self, message: str, reasons: Sequence[str] = (), *, is_freebsd: bool = False) -> None:
        """Keep the reasons."""
        super().__init__(message)
        self.reasons = tuple(reasons)
        self.is_freebsd = is_freebsd


class RawDump(Dump):
    """Physical memory without a header, with the kernel's own page tables.

    Attributes:
        base: the physical address of the first byte of a raw file; 0 where segments were given.
        gap: how many bytes below 4 GiB are no memory and left out of the file.
        root: the physical address of the top page table.
        how: what was found and what confirmed it; empty where the page tables were given.
    """

    physical: SegmentedMemory
    format = "physical memory"
    byteorder = "little"

    def __init__(
        self,
        physical: SegmentedMemory,
        architecture: str,
        *,
        page_map: PageMap | None = None,
        root: int | None = None,
        base: int = 0,
        gap: int = 0,
    ) -> None:
        """Use `open_raw`."""
        reader = physical.reader
        super().__init__(reader.reader if isinstance(reader, FilledReader) else reader, physical, None, root)
        self.architecture = architecture
        self.word_bits = _WORD_BITS.get(architecture, 64)
        self.base = base
        self.gap = gap
        self.how = ""
        self._found = page_map

    def _make_page_map(self) -> PageMap:
        return self._found or super()._make_page_map()

    @property
    def root(self) -> int:
        """See the class."""
        return int(getattr(self.page_map, "root", self._root or 0))

    @property
    def pages_dumped(self) -> int:
        """See `Dump.pages_dumped`."""
        return sum(-(-run.length // self.page_size) for run in self.physical.promised_runs())

    @property
    def pages_beyond_end(self) -> int:
        """See `Dump.pages_beyond_end`."""
        return self.pages_dumped - sum(-(-run.length // self.page_size) for run in self.physical.runs())


def open_raw(
    source: str | os.PathLike[str] | bytes | Reader,
    symbols: Mapping[str, int] | None = None,
    root: int | None = None,
    *,
    architecture: str | None = None,
    segments: Sequence[Segment] | None = None,
    base: int = 0,
    gap: int = 0,
    page_size: int = 4096,
    thorough: bool = True,
    progress: Progress | None = None,
) -> RawDump:
    """Open physical memory that has no header of FreeBSD's.

    Args:
        source: a path, the bytes themselves, or a `Reader`.
        symbols: values of kernel symbols: those of `pagemap.FULL_SYMBOLS`, and ``version`` to confirm them.
        root: physical address of the top page table. With ``architecture``, nothing is looked for then.
        architecture: amd64, i386, arm64 or riscv (arm only with symbols); None to find out.
        segments: ``(physical address, length, offset in source)``; None if the source is memory from its first byte on.
        base: the physical address of that first byte; only with ``root``, else it is found.
        gap: how many bytes below 4 GiB are no memory and left out of the source; likewise.
        page_size: only with ``root``, else it is found: 4096, on arm64 also 16384.
        thorough: also look for a kernel whose ELF header is not there: reads all of the first 4 GiB.
        progress: is told percent and what is being done.

    Raises:
        NoKernelError: there is no kernel of FreeBSD, or none whose page tables can be found and confirmed.
        OSError: the file cannot be opened.
    """
    reader = open_reader(source)
    try:
        if root is not None and architecture is not None:
            _check_architecture(architecture)
            parts = list(segments) if segments is not None else raw_segments(reader.size, base, gap)
            memory = SegmentedMemory(reader, parts, page_size)
            return RawDump(memory, architecture, root=root, base=base, gap=gap)
        return _search(reader, symbols, architecture, segments, thorough=thorough, progress=progress)
    except BaseException:
        if reader is not source:
            reader.close()
        raise


def _check_architecture(architecture: str) -> None:
    if architecture not in FULL:
        msg = f"raw memory of {architecture} cannot be translated; {', '.join(FULL)} can"
        raise NoKernelError(msg)


def _search(
    reader: Reader,
    symbols: Mapping[str, int] | None,
    architecture: str | None,
    segments: Sequence[Segment] | None,
    *,
    thorough: bool,
    progress: Progress | None,
) -> RawDump:
    if architecture is not None:
        _check_architecture(architecture)
    search = Search(reader, list(segments) if segments is not None else None, symbols, architecture, progress)
    found = search.run(thorough=thorough)
    if found is None:
        what = "traces of FreeBSD, but no kernel with its page tables" if search.is_freebsd else "no FreeBSD kernel"
        why = "; ".join(search.reasons[:_SHOWN_REASONS])
        msg = f"{reader.name} holds {what}{f' ({why})' if why else ''}"
        raise NoKernelError(msg, search.reasons, is_freebsd=search.is_freebsd)
    dump = RawDump(found.memory, found.architecture, page_map=found.page_map, base=found.base, gap=found.gap)
    dump.how = found.how
    return dump
