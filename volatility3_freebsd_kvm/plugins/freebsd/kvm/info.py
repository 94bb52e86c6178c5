"""What a dump says of itself."""

from __future__ import annotations

import datetime
import string
from collections.abc import Iterator

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.automagic.options import FreeBSDKernel, FreeBSDKey
from volatility3_freebsd_kvm.layers.container import unwrap_layer
from volatility3_freebsd_kvm.layers.stack import dump_of, kernel_layer_of, layer_stack
from volatility3_freebsd_kvm.output import clean
from volatility3_freebsd_kvm.symbols import loading

Row = tuple[str, str | interfaces.renderers.BaseAbsentValue]
_SHOWN_RANGES = 16
_SHOWN_TEXT = 512
_FIRST_WITH_EXTENT = 4
_LOOKED_AT = 1 << 20
_PRINTABLE = frozenset(string.printable.encode())


def _span(start: int, end: int) -> str:
    return f"{start:#x}-{end:#x}"


def _section(offset: int, size: int) -> str:
    return f"{_span(offset, offset + size)} of the file ({size} bytes)"


def _verdict(error: Exception) -> str:
    if isinstance(error, kvm.NotADumpError):
        return "no FreeBSD kernel dump"
    return "dump that cannot be opened" if isinstance(error, kvm.MissingPieceError | OSError) else "damaged dump"


def container_rows(unwrapped: kvm.Unwrapped) -> Iterator[Row]:
    """What a dump arrived in, and what its header and savecore say of it."""
    for container in unwrapped.containers:
        yield "Container", container.text
    if unwrapped.header:
        yield from _header_rows(unwrapped.header, parity_ok=unwrapped.parity_ok)
    if unwrapped.info_file:
        yield from _saved_rows(unwrapped.info_file, alone=unwrapped.header is None)


def _header_rows(header: kvm.KernelDumpHeader, *, parity_ok: bool) -> Iterator[Row]:
    yield "Dump host", header.hostname
    yield "Dump time", _utc(header.when) if header.when else renderers.UnreadableValue()
    yield "Dump kernel", header.version_string
    yield "Panic", header.panic_string or renderers.NotApplicableValue()
    yield "Dump architecture", f"{header.architecture}, version {header.architecture_version}"
    yield "Dump length", str(header.length)
    yield "Dump extent", str(header.extent) if header.version >= _FIRST_WITH_EXTENT else renderers.NotAvailableValue()
    yield "Dump block size", str(header.block_size)
    yield "Dump parity", "ok" if parity_ok else "bad"


def _saved_rows(info: kvm.InfoFile, *, alone: bool) -> Iterator[Row]:
    """The info file; what the dump header says as well is left to it."""
    yield "Info file", info.path.name
    if alone:
        yield "Dump host", info.hostname
        yield "Dump time", _utc(info.when) if info.when else f"{info.time} (local time of that machine)"
        yield "Dump kernel", info.version_string
        yield "Panic", info.panic_string or renderers.NotApplicableValue()
    yield "Saved from", info.device or renderers.NotAvailableValue()
    yield "Saved length", str(info.length) if info.length is not None else renderers.NotAvailableValue()
    yield "Saved status", info.status or renderers.NotAvailableValue()


def _utc(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def text_rows(unwrapped: kvm.Unwrapped) -> Iterator[Row]:
    """A text dump: its header and files."""
    yield "Format", "text dump"
    yield from container_rows(unwrapped)
    if unwrapped.text:
        if not unwrapped.header and not unwrapped.info_file:
            for variable, name in (("Dump kernel", "version.txt"), ("Panic", "panic.txt")):
                if name in unwrapped.text.files:
                    yield variable, " ".join(unwrapped.text.read(name)[:_SHOWN_TEXT].decode("utf-8", "replace").split())
        for name, (_, size) in unwrapped.text.files.items():
            yield "File", f"{name}, {size} bytes"
    for warning in unwrapped.warnings:
        yield "Warning", warning


class Info(interfaces.plugins.PluginInterface):
    """Shows what a FreeBSD kernel dump says of itself: format, layout, completeness and the layers on top of it."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """Any layer will do: what is no dump is told so."""
        return [
            requirements.TranslationLayerRequirement(
                name="primary", description="Layer of the FreeBSD kernel, its physical memory or the file"
            )
        ]

    def run(self) -> renderers.TreeGrid:
        """One row for each thing that is known."""
        return renderers.TreeGrid(
            [("Variable", str), ("Value", str)],
            # What a dump says may hold anything.
            (
                (0, (name, clean(value) if isinstance(value, str) else value))
                for name, value in self.describe(self.context, str(self.config["primary"]))
            ),
        )

    @classmethod
    def describe(cls, context: interfaces.context.ContextInterface, layer_name: str) -> Iterator[Row]:
        """``(variable, value)`` for the dump that a layer stands on."""
        layers = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layer_stack(context, layer_name))
        try:
            dump = dump_of(context, layer_name, FreeBSDKey.location(context))
        except kvm.TextDumpError:
            yield from text_rows(unwrap_layer(layer_stack(context, layer_name)[0]))
            yield "Layers", layers
            return
        except (kvm.FormatError, OSError) as error:
            yield "Format", _verdict(error)
            yield "Problem", str(error)
            yield "Layers", layers
            return
        yield from cls._identity(dump)
        if dump.unwrapped:
            yield from container_rows(dump.unwrapped)
        if isinstance(dump, kvm.Minidump):
            yield from cls._minidump(dump)
        elif isinstance(dump, kvm.ElfDump):
            yield from cls._elf(dump)
        yield from cls._memory(dump)
        yield from cls._translation(context, layer_name)
        yield from cls._kernel(context, layer_name)
        yield "Layers", layers
        layer = kernel_layer_of(context, layer_name)
        for warning in dict.fromkeys(dump.warnings + (layer.space.page_map.warnings if layer else [])):
            yield "Warning", warning

    @staticmethod
    def _kernel(context: interfaces.context.ContextInterface, layer_name: str) -> Iterator[Row]:
        """Whose names and types other plugins would use, and whether they are this kernel's."""
        try:
            chosen = loading.choose_table(
                context, layer_name, kernel=FreeBSDKernel.location(context), force=FreeBSDKernel.force(context)
            )
        except (kvm.KVMError, OSError) as error:
            yield "Kernel names", f"none: {error}"
            return
        if chosen is None:
            return
        yield "Kernel", chosen.banner or renderers.UnreadableValue()
        yield "Kernel names", f"{chosen.symbols} symbols of {chosen.identity.symbols_from or chosen.url}"
        origin = f"{chosen.types} structures from {chosen.identity.types_from or chosen.url}"
        yield "Kernel types", origin if chosen.types else "none"
        yield "Kernel fit", f"{chosen.fit}{'; used because of --freebsd-force' if chosen.forced else ''}"

    @staticmethod
    def _identity(dump: kvm.Dump) -> Iterator[Row]:
        yield "Format", dump.format
        yield "Architecture", dump.architecture
        yield "Byte order", dump.byteorder
        yield "Word size", f"{dump.word_bits} bits"
        yield "Page size", str(dump.page_size)
        yield "File size", f"{dump.reader.size} ({dump.reader.size:#x})"

    @classmethod
    def _minidump(cls, dump: kvm.Minidump) -> Iterator[Row]:
        header = dump.header
        yield "Version", str(header.version)
        yield "Kernel base", f"{header.kernbase:#x}"
        if header.dmapbase:
            # The end is exclusive everywhere but in powerpc64 headers.
            end = header.dmapend + 1 if header.architecture.startswith("powerpc64") else header.dmapend
            yield "Direct map", _span(header.dmapbase, end)
            yield "Direct map physical base", f"{header.dmapphys:#x}"
        yield from cls._particulars(header)
        yield "Message buffer", f"{_section(header.msgbuf_off, header.msgbufsize)}, {cls._text(dump.message_buffer)}"
        ranges = [_span(start, end) for start, end in dump.physical.bitmap.avail.ranges]
        if not header.dumpavailsize:
            ranges.append("(all that the bitmap covers: this version has no table)")
        else:
            yield "Dump available table", _section(header.dump_avail_off, header.dumpavailsize)
        yield "Dump available ranges", ", ".join(ranges)
        yield "Bitmap", _section(header.bitmap_off, header.bitmapsize)
        yield "Page map", _section(header.pmap_off, header.pmapsize)
        yield "Pages offset", f"{header.pages_off:#x}"

    @staticmethod
    def _particulars(header: kvm.MinidumpHeader) -> Iterator[Row]:
        """Fields that one architecture has."""
        if header.architecture == "i386":
            yield "PAE", "yes" if header.paemode else "no"
        if header.mmu_name:
            yield "MMU", header.mmu_name
            yield "Kernel runs at", f"{header.startkernel:#x}-{header.endkernel:#x}"
        if header.architecture == "arm":
            names = {0: "unknown (read as ARMv6)", 1: "ARMv4", 2: "ARMv6", 3: "ARMv6 LPAE"}
            yield "MMU format", names.get(header.mmuformat, str(header.mmuformat))

    @staticmethod
    def _text(ring: bytes) -> str:
        content = ring[:_LOOKED_AT].strip(b"\0")
        if not content:
            return "holds no text"
        text = sum(byte in _PRINTABLE for byte in content)
        kind = "text" if text * 10 >= len(content) * 9 else "something that is not text"
        return f"holds {len(content)} bytes of {kind}"

    @staticmethod
    def _elf(dump: kvm.ElfDump) -> Iterator[Row]:
        yield "Version", renderers.NotApplicableValue()
        for number, segment in enumerate(dump.core.segments):
            if number == _SHOWN_RANGES:
                yield "Segments not shown", str(len(dump.core.segments) - number)
                break
            parts = []
            if dump.core.has_physical:
                parts.append(f"physical {_span(segment.p_paddr, segment.p_paddr + segment.p_memsz)}")
            if dump.core.has_virtual:
                virtual = _span(segment.p_vaddr, segment.p_vaddr + segment.p_memsz)
                parts.append(f"virtual {virtual} {segment.prot.text}")
            where = f"at {_span(segment.p_offset, segment.p_offset + segment.p_filesz)} of the file"
            yield f"Segment {number}", f"{', '.join(parts)} {where}"

    @staticmethod
    def _memory(dump: kvm.Dump) -> Iterator[Row]:
        readable = runs = 0
        for run in dump.physical.runs():
            readable += run.length
            runs += 1
        first, last = dump.physical.bounds()
        kind = "Physical ranges" if dump.physical.is_physical else "Virtual ranges"
        yield "Pages dumped", str(dump.pages_dumped)
        yield "Pages beyond end of file", str(dump.pages_beyond_end)
        yield "Bytes of memory", str(sum(run.length for run in dump.physical.promised_runs()))
        yield "Bytes readable", str(readable)
        yield kind, f"{runs} within {_span(first, last + 1)}" if runs else "none"

    @staticmethod
    def _translation(context: interfaces.context.ContextInterface, layer_name: str) -> Iterator[Row]:
        layer = kernel_layer_of(context, layer_name)
        if layer is None:
            yield "Translation", "none: the page tables were not found (see the log)"
            return
        page_map = layer.space.page_map
        root = getattr(page_map, "root", None)
        yield "Translation", page_map.name if root is None else f"{page_map.name}, root at {root:#x}"
