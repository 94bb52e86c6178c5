r"""A FreeBSD kernel dump: open it, read it, walk it.

    >>> from volatility3_freebsd_kvm import kvm
    >>> dump = kvm.open("vmcore.5")                        # doctest: +SKIP
    >>> dump.read(0xffffffff81cd4c0c, 4)                   # doctest: +SKIP
    b'd\x00\x00\x00'

# Reference: lib/libkvm/kvm.c (kvm_open2, kvm_read2), lib/libkvm/kvm_private.h
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path

from ..exceptions import MissingPieceError, NotADumpError, NotDumpedError, SymbolError, TextDumpError
from . import containers, elfcore, minidump, pagemap
from .containers import Unwrapped
from .elfcore import ElfCore
from .minidump import HEADER_SIZE, MinidumpHeader
from .pagemap.base import PageMap, SectionTable
from .pagemap.virtual import VirtualElfPageMap
from .physical import MinidumpMemory, PhysicalMemory, SegmentedMemory
from .rawfind import Search
from .reader import Reader, open_reader
from .records import DumpedRange, MappedRange, Run
from .space import AddressSpace
from .textdump import TextDump

_TOP = 1 << 64
_LEADING = frozenset(chain.from_iterable(pagemap.FULL_SYMBOLS.values())) - {"kernbase", "physaddr"}
"""Symbols of any kernel that lead to page tables."""


class Dump(ABC):
    """An open dump.

    Attributes:
        reader: the file.
        format: what kind of dump, for people.
        architecture: FreeBSD's name: amd64, i386, arm64, riscv, arm, powerpc64, powerpc64le, powerpc, mips.
        byteorder: ``little`` or ``big``.
        word_bits: 32 or 64.
        page_size: of the dumped machine, in bytes.
        physical: physical memory (in virtual-address ELFs, where ``is_physical`` is false, bytes by virtual address).
        unwrapped: what the dump arrived in; None if nothing was looked for.
    """

    unwrapped: Unwrapped | None = None
    header: MinidumpHeader | None = None
    core: ElfCore | None = None

    def __init__(
        self, reader: Reader, physical: PhysicalMemory, symbols: Mapping[str, int] | None, root: int | None
    ) -> None:
        """Use `open`."""
        self.reader = reader
        self.physical = physical
        self.page_size = physical.page_size
        self._symbols = symbols or {}
        self._root = root
        self._warnings: list[str] = []

    format: str
    architecture: str
    byteorder: str
    word_bits: int

    def _make_page_map(self) -> PageMap:
        """The page map, when it is first needed.

        Raises:
            SymbolError: the kernel's symbols are needed and missing.
        """
        if self.architecture not in pagemap.FULL:
            msg = f"full dumps of physical memory cannot be translated on {self.architecture}"
            raise SymbolError(msg)
        return pagemap.FULL[self.architecture](self.physical, self._symbols, self._root)

    @cached_property
    def kernel(self) -> AddressSpace:
        """The kernel's address space.

        Raises:
            SymbolError: this dump needs symbols of its kernel to be translated; pass them to `open`.
        """
        return AddressSpace(self.physical, self._make_page_map())

    @property
    def page_map(self) -> PageMap:
        """How kernel virtual addresses are translated; raises as `kernel` does."""
        return self.kernel.page_map

    @property
    def warnings(self) -> list[str]:
        """Oddities that did not prevent reading, one sentence each; walking may add some."""
        kernel = self.__dict__.get("kernel")
        return self._warnings + (kernel.page_map.warnings if kernel is not None else [])

    @property
    @abstractmethod
    def pages_dumped(self) -> int:
        """How many pages the dump promises."""

    @property
    @abstractmethod
    def pages_beyond_end(self) -> int:
        """How many of them lie, wholly or partly, beyond the end of the file."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.architecture} {self.format!r} {self.reader.name!r}>"

    def close(self) -> None:
        """Release the file."""
        self.reader.close()

    def __enter__(self) -> Dump:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def kerndisp(self) -> int:
        """How far from where it is linked the kernel runs (``kvm_kerndisp``): of powerpc64, else 0.

        Symbols keep their linked values; reading at them adds it.
        """
        return 0

    # Addresses

    def kvatop(self, va: int) -> int:
        """The physical address of kernel virtual address ``va``.

        Raises:
            NotMappedError: there is no translation.
            NotDumpedError, BeyondEndError: a page table that is needed is missing.
            SymbolError: see `kernel`.
        """
        return self.page_map.kvatop(va)

    def offset_of(self, pa: int) -> int:
        """The file offset of physical address ``pa``.

        Raises:
            NotDumpedError: the dump does not hold that page.
            BeyondEndError: it should, but the file ends before.
        """
        self._require_physical(pa)
        return self.physical.offset_of(pa)

    def _require_physical(self, pa: int) -> None:
        if not self.physical.is_physical:
            raise NotDumpedError(pa, "this ELF core knows virtual addresses only")

    def pa_of(self, offset: int) -> int:
        """The physical address whose byte is at ``offset`` in the file: the inverse of `offset_of`.

        Raises:
            NotDumpedError: no memory there.
        """
        return self.physical.pa_of(offset)

    # Bytes

    def read_physical(self, pa: int, length: int) -> bytes:
        """``length`` bytes of physical memory.

        Raises:
            NotDumpedError, BeyondEndError: with the first address that fails.
        """
        self._require_physical(pa)
        return self.physical.read(pa, length)

    def read(self, va: int, length: int) -> bytes:
        """``length`` bytes of kernel virtual memory.

        Raises:
            NotMappedError, NotDumpedError, BeyondEndError: with the first address that fails.
            SymbolError: see `kernel`.
        """
        return self.kernel.read(va, length)

    # Walking

    def runs(self) -> Iterator[Run]:
        """Readable physical memory: ``(pa, length, file offset)`` of consecutive bytes, ascending."""
        return self.physical.runs() if self.physical.is_physical else iter(())

    def pages(self) -> Iterator[DumpedRange]:
        """All readable dumped pages with their direct-map addresses, see `AddressSpace.pages`."""
        return self.kernel.pages() if self.physical.is_physical else iter(())

    def walk(self, start: int = 0, end: int = _TOP) -> Iterator[MappedRange]:
        """All kernel mappings, see `AddressSpace.walk`."""
        return self.kernel.walk(start, end)


class Minidump(Dump):
    """A minidump: selected pages, with the kernel's page map."""

    header: MinidumpHeader
    physical: MinidumpMemory

    def __init__(self, reader: Reader) -> None:
        """Read and check the header; index the bitmap.

        Raises:
            NotADumpError, FormatError: see `open`.
        """
        self.header = minidump.parse_header(reader.buffer[0:HEADER_SIZE])
        warnings = minidump.check_header(self.header, reader.size)
        bitmap = minidump.read_bitmap(self.header, reader)
        header = self.header
        physical = MinidumpMemory(reader, bitmap, header.pages_off, header.page_size, header.byteorder)
        super().__init__(reader, physical, None, None)
        self.format = self.header.name
        self.architecture = self.header.architecture
        self.byteorder = self.header.byteorder
        self.word_bits = self.header.word_bits
        self._warnings = warnings
        if bitmap.stray_bits:
            warnings.append(f"{bitmap.stray_bits} bits are set beyond the last range of dump_avail; ignored")
        if self.pages_beyond_end:
            warnings.append(
                f"the file is cut off: {self.pages_beyond_end} of {self.pages_dumped} pages lie wholly or partly "
                "beyond its end"
            )
        # Now, so that a page map that cannot be used is refused when the dump is opened.
        self.kernel = AddressSpace(self.physical, self._make_page_map())

    def _make_page_map(self) -> PageMap:
        header = self.header

        def section(entry_size: int) -> SectionTable:
            return SectionTable(self.reader, header.pmap_off, header.pmapsize, entry_size, self._entry_order)

        return pagemap.MINIDUMP[header.architecture](header, section, self.physical)

    @property
    def _entry_order(self) -> str:
        # powerpc64le keeps its page tables big endian.
        return "big" if self.architecture == "powerpc64le" else self.byteorder

    @property
    def pages_dumped(self) -> int:
        """See `Dump.pages_dumped`."""
        return self.physical.bitmap.count

    @property
    def pages_beyond_end(self) -> int:
        """See `Dump.pages_beyond_end`."""
        return self.physical.pages_beyond_end

    @property
    def kerndisp(self) -> int:
        """See `Dump.kerndisp`."""
        return self.header.startkernel - pagemap.powerpc64.LINKED_AT if self.header.startkernel else 0

    @property
    def message_buffer(self) -> bytes:
        """The raw message buffer: a ring without its indexes (short if the file is cut)."""
        return self.reader.buffer[self.header.msgbuf_off : self.header.msgbuf_off + self.header.msgbufsize]

    @property
    def message_buffer_pages(self) -> bytes:
        """The same up to the end of its last page, where kernels keep the indexes (``struct msgbuf``) as a rule."""
        size = -(-self.header.msgbufsize // self.page_size) * self.page_size
        return self.reader.buffer[self.header.msgbuf_off : self.header.msgbuf_off + size]


class ElfDump(Dump):
    """An ELF core: physical memory, kernel virtual memory, or both."""

    core: ElfCore

    def __init__(self, reader: Reader, symbols: Mapping[str, int] | None = None, root: int | None = None) -> None:
        """Read and check the headers.

        Raises:
            NotADumpError, FormatError: see `open`.
        """
        self.core = core = elfcore.parse(reader)
        segments = core.physical_segments() if core.has_physical else core.virtual_segments()
        if core.dump_delta:
            kernbase, physaddr = core.dump_delta
            symbols = {**(symbols or {}), "kernbase": kernbase, "physaddr": physaddr}
        physical = SegmentedMemory(reader, segments, core.page_size, core.byteorder, is_physical=core.has_physical)
        physical.has_user_pages = core.exported is None or core.exported.has_user_pages
        super().__init__(reader, physical, symbols, root)
        self.format = core.name
        self.architecture = core.architecture
        self.byteorder = core.byteorder
        self.word_bits = core.word_bits
        self._warnings = list(core.warnings)
        if self.pages_beyond_end:
            self._warnings.append(
                f"the file is cut off: {self.pages_beyond_end} of {self.pages_dumped} pages lie wholly or partly "
                "beyond its end"
            )

    def _make_page_map(self) -> PageMap:
        if self.core.has_virtual:
            return VirtualElfPageMap(self.core, self.page_size)
        try:
            return super()._make_page_map()
        except SymbolError:
            # A kernel that does not lead to its tables is the wrong one; without any, they are looked for.
            if self._root is not None or _LEADING.intersection(self._symbols):
                raise
            found = Search(self.reader, self.core.physical_segments(), architecture=self.architecture).run()
            if found is None or found.memory.page_size != self.page_size:
                raise
            return found.page_map

    @property
    def kerndisp(self) -> int:
        """See `Dump.kerndisp`; an exported core keeps it."""
        displaced = self.core.exported and self.core.exported.displaced
        return displaced[2] if displaced else 0

    @property
    def pages_dumped(self) -> int:
        """See `Dump.pages_dumped`."""
        return sum(-(-run.length // self.page_size) for run in self.physical.promised_runs())

    @property
    def pages_beyond_end(self) -> int:
        """See `Dump.pages_beyond_end`."""
        present = sum(
            max(0, min(run.length, self.reader.size - run.offset)) // self.page_size
            if run.offset + run.length > self.reader.size
            else -(-run.length // self.page_size)
            for run in self.physical.promised_runs()
        )
        return self.pages_dumped - present


def open_dump(
    source: str | os.PathLike[str] | bytes | Reader,
    symbols: Mapping[str, int] | None = None,
    root: int | None = None,
    *,
    key: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], None] | None = None,
    unwrap: bool = True,
) -> Dump:
    """Open a FreeBSD kernel dump of any architecture, in whatever it arrived.

    Args:
        source: a path, the bytes themselves, or a `Reader`.
        symbols: values of kernel symbols. Minidumps need none; full dumps need the few that lead to the page tables,
            see the ``full`` function of the architecture's module in `pagemap`.
        root: physical address of the top page table of a full dump, instead of symbols.
        key: the RSA private key (PEM) to an encrypted dump.
        cache: directory for unpacked copies of compressed dumps, which later calls use again. Without one, they are
            unpacked into a temporary file each time; what was encrypted always is.
        progress: is told percent and what is being done while a compressed dump is unpacked.
        unwrap: False refuses everything but a plain dump.

    Raises:
        NotADumpError: this is no FreeBSD kernel dump.
        TextDumpError: it is a text dump, which holds no memory; see `open_text_dump`.
        MissingPieceError: a key, a library or room on the disk is missing to read it.
        FormatError: it is one that cannot be read, and why.
        OSError: the file cannot be opened.
    """
    reader = open_reader(source)
    try:
        if not unwrap:
            return _open(reader, symbols, root)
        if isinstance(reader, Unwrapped):
            return _open_unwrapped(reader, symbols, root)
        unwrapped = _unwrapped(reader, key, cache, progress)
        try:
            return _open_unwrapped(unwrapped, symbols, root)
        except BaseException:
            unwrapped.close_inner()
            raise
    except BaseException:
        # What was opened here would stay mapped for as long as the exception is kept.
        if reader is not source:
            reader.close()
        raise


def open_text_dump(
    source: str | os.PathLike[str] | bytes | Reader,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> TextDump | None:
    """Open a text dump, saved or still on its device; None if ``source`` is something else.

    Args:
        source: a path, the bytes themselves, or a `Reader`.
        cache: directory for unpacked copies, see `open_dump`.

    Raises:
        FormatError: a container is damaged.
        OSError: the file cannot be opened.
    """
    reader = open_reader(source)
    text = None
    try:
        text = (reader if isinstance(reader, Unwrapped) else _unwrapped(reader, None, cache, None)).text
    except (NotADumpError, MissingPieceError):
        pass
    finally:
        if text is None and reader is not source:
            reader.close()
    return text


def _unwrapped(
    reader: Reader,
    key: str | os.PathLike[str] | None,
    cache: str | os.PathLike[str] | None,
    progress: Callable[[float, str], None] | None,
) -> Unwrapped:
    return containers.unwrap(
        reader, key=Path(key) if key else None, cache=Path(cache) if cache else None, progress=progress
    )


def _open_unwrapped(unwrapped: Unwrapped, symbols: Mapping[str, int] | None, root: int | None) -> Dump:
    """The dump inside, with what its containers say of it."""
    if unwrapped.text:
        msg = f"{unwrapped.name} is a text dump, which holds no memory, but {', '.join(unwrapped.text.files)}"
        raise TextDumpError(msg)
    dump = _open(unwrapped if unwrapped.containers else unwrapped.outer, symbols, root)
    dump.unwrapped = unwrapped
    dump._warnings = unwrapped.warnings + dump._warnings + list(containers.contradictions(unwrapped, dump.architecture))
    return dump


def _open(reader: Reader, symbols: Mapping[str, int] | None, root: int | None) -> Dump:
    start = reader.buffer[0:16]
    if minidump.is_minidump(start):
        return Minidump(reader)
    if start.startswith(elfcore.ELF_MAGIC):
        return ElfDump(reader, symbols, root)
    msg = f"{reader.name} is no FreeBSD kernel dump: neither a minidump nor an ELF core"
    raise NotADumpError(msg if reader.size else f"{reader.name} is empty")
