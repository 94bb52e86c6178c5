"""Physical memory of a FreeBSD machine that no dump describes: raw images, and what the framework takes for memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from volatility3.framework import interfaces
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import qemu, segmented

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm import elfcore
from volatility3_freebsd_kvm.layers.container import reader_of
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer, Mapping

_MAX_SEGMENTS = 1 << 22
_OTHER_FORMATS = (b"EMiL", b"AVML", b"QEVM")
"""LiME, AVML (where snappy may be missing), and the saved state of a QEMU machine."""
_NUMBERS = ("base_address", "gap_size", "page_size", "page_map_offset")


class Source(NamedTuple):
    """Where physical memory is.

    Attributes:
        reader: what has the bytes.
        segments: physical address, length and offset in it of each piece; None: from its first byte on.
    """

    reader: kvm.Reader
    segments: list[kvm.Segment] | None


def source_of(context: interfaces.context.ContextInterface, layer: interfaces.layers.DataLayerInterface) -> Source:
    """The physical memory that a layer shows: a raw file, a 32-bit ELF core, or a layer of the framework over a file.

    Where such a layer only says what is where in the file, the file is read directly.

    Raises:
        kvm.NotADumpError: it is the dump or the core of something else.
        kvm.FormatError, OSError: it cannot be read.
    """
    if isinstance(layer, interfaces.layers.TranslationLayerInterface):
        return _translated(context, layer)
    reader = reader_of(layer)
    if reader.buffer[0:4] == elfcore.ELF_MAGIC:
        return Source(reader, _core_segments(reader))
    if reader.buffer[0:4] in _OTHER_FORMATS:
        msg = f"{reader.name} is in a format that the framework should know, but could not open"
        raise kvm.NotADumpError(msg)
    return Source(reader, None)


def _core_segments(reader: kvm.Reader) -> list[kvm.Segment] | None:
    """Memory in the ELF core of a virtual machine; the framework itself knows those of 64 bits."""
    core = elfcore.parse(reader)
    if not (core.has_physical and core.has_notes) or core.is_kernel:
        msg = f"{reader.name} is an ELF core, but not of a machine's memory"
        raise kvm.NotADumpError(msg)
    return core.physical_segments()


def _translated(
    context: interfaces.context.ContextInterface, layer: interfaces.layers.TranslationLayerInterface
) -> Source:
    pieces = list(_pieces(layer))
    bases = {piece[4] for piece in pieces}
    if isinstance(layer, segmented.SegmentedLayer | qemu.QemuSuspendLayer) and len(bases) == 1:
        below = kvm.FilledReader(reader_of(context.layers[bases.pop()]))
        offsets = ((pa, size, at if mapped == size else below.filled(at, pa)) for pa, size, at, mapped, _ in pieces)
        segments = _joined(offsets)
        return Source(below if below.is_needed else below.reader, segments)
    # What has compressed pages must unpack them.
    return Source(reader_of(layer), _joined((pa, size, pa) for pa, size, *_ in pieces))


def _pieces(layer: interfaces.layers.TranslationLayerInterface) -> Iterator[Mapping]:
    first, last = layer.minimum_address, layer.maximum_address
    for number, piece in enumerate(layer.mapping(first, last - first + 1, ignore_errors=True)):
        if number >= _MAX_SEGMENTS:
            msg = f"{layer.name} has more than {_MAX_SEGMENTS} pieces of memory"
            raise kvm.FormatError(msg)
        yield piece


def _joined(pieces: Iterable[tuple[int, int, int]]) -> list[kvm.Segment]:
    """``(pa, length, offset)`` as segments; pieces that continue each other are one."""
    segments: list[kvm.Segment] = []
    for pa, length, offset in pieces:
        if segments:
            last = segments[-1]
            if last.start + last.length == pa and last.offset + last.length == offset:
                segments[-1] = last._replace(length=last.length + length)
                continue
        segments.append(kvm.Segment(pa, length, offset))
    return segments


class FreeBSDRawLayer(FreeBSDDumpLayer):
    """Physical memory without a header of FreeBSD's, over a file or a layer of the framework.

    Its configuration says what was found, so that nothing has to be looked for again.
    """

    @classmethod
    def config_of(cls, dump: kvm.RawDump) -> dict[str, str | int]:
        """What a layer must be told to show memory as ``dump`` does."""
        return {
            "architecture": dump.architecture,
            "base_address": dump.base,
            "gap_size": dump.gap,
            "page_size": dump.page_size,
            "page_map_offset": dump.root,
        }

    @property
    def dump(self) -> kvm.Dump:
        """The memory.

        Raises:
            kvm.FormatError: it cannot be read.
        """
        if self._dump is None:
            source = source_of(self._context, self._context.layers[self._base_layer])
            number = {name: int(str(self.config[name])) for name in _NUMBERS}
            self._dump = kvm.open_raw(
                source.reader,
                root=number["page_map_offset"],
                architecture=str(self.config["architecture"]),
                segments=source.segments,
                base=number["base_address"],
                gap=number["gap_size"],
                page_size=number["page_size"],
            )
        return self._dump

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The layer below, and what was found in it."""
        return [
            requirements.TranslationLayerRequirement(name="base_layer", optional=False),
            requirements.StringRequirement(name="architecture", description="FreeBSD's name", optional=False),
            requirements.IntRequirement(name="base_address", description="Where RAM begins", optional=False),
            requirements.IntRequirement(name="gap_size", description="What is left out below 4 GiB", optional=False),
            requirements.IntRequirement(name="page_size", optional=False),
            requirements.IntRequirement(name="page_map_offset", optional=False),
        ]

    def mapping(self, offset: int, length: int, ignore_errors: bool = False) -> Iterable[Mapping]:
        """Where the bytes are in the layer below: at their own address, if that layer is memory already."""
        below = self._context.layers[self._base_layer]
        same = isinstance(below, interfaces.layers.TranslationLayerInterface)
        for pa, size, at, mapped, name in super().mapping(offset, length, ignore_errors):
            yield pa, size, pa if same else at, mapped, name
