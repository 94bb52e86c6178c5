"""The stack of layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.renderers import format_hints

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.layers.container import FreeBSDContainerLayer
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.stack import layer_stack


class Extent(NamedTuple):
    """How much a layer holds: bytes that it maps, and those of them that can be read."""

    mapped: int
    readable: int
    notes: str


class Layers(interfaces.plugins.PluginInterface):
    """Lists the layers of a FreeBSD image from the file upwards, with how much each maps and how much can be read."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """Any layer will do."""
        return [
            requirements.TranslationLayerRequirement(
                name="primary", description="Layer of the FreeBSD kernel, its physical memory or the file"
            )
        ]

    def run(self) -> renderers.TreeGrid:
        """One row a layer."""
        columns = [
            ("Layer", str),
            ("Layer class", str),
            ("Base", str),
            ("Minimum", format_hints.Hex),
            ("Maximum", format_hints.Hex),
            ("Mapped", int),
            ("Readable", int),
            ("Notes", str),
        ]
        return renderers.TreeGrid(columns, self._generator())

    def _generator(self) -> Iterator[tuple[int, tuple[object, ...]]]:
        for layer in layer_stack(self.context, str(self.config["primary"])):
            extent = self.extent(layer)
            base: object = ", ".join(layer.dependencies) or renderers.NotApplicableValue()
            yield (
                0,
                (
                    layer.name,
                    type(layer).__name__,
                    base,
                    format_hints.Hex(layer.minimum_address),
                    format_hints.Hex(layer.maximum_address),
                    extent.mapped,
                    extent.readable,
                    extent.notes,
                ),
            )

    @classmethod
    def extent(cls, layer: interfaces.layers.DataLayerInterface) -> Extent:
        """Measure a layer; foreign ones by what their mapping yields."""
        if isinstance(layer, FreeBSDKernelLayer):
            return cls._kernel_extent(layer)
        if isinstance(layer, FreeBSDDumpLayer):
            return cls._dump_extent(layer.dump)
        if isinstance(layer, FreeBSDContainerLayer):
            size = layer.maximum_address + 1
            return Extent(size, size, "; ".join(container.text for container in layer.unwrapped.containers))
        if isinstance(layer, interfaces.layers.TranslationLayerInterface):
            length = layer.maximum_address - layer.minimum_address + 1
            mapped = sum(size for _, size, *_ in layer.mapping(layer.minimum_address, length, ignore_errors=True))
            return Extent(mapped, mapped, "")
        size = layer.maximum_address - layer.minimum_address + 1
        return Extent(size, size, "")

    @staticmethod
    def _dump_extent(dump: kvm.Dump) -> Extent:
        mapped = sum(run.length for run in dump.physical.promised_runs())
        readable = sum(run.length for run in dump.physical.runs())
        notes = f"{dump.architecture} {dump.format}"
        if readable < mapped:
            notes += f"; {mapped - readable} bytes are beyond the end of the file"
        return Extent(mapped, readable, notes)

    @staticmethod
    def _kernel_extent(layer: FreeBSDKernelLayer) -> Extent:
        """The page map counts with all it maps, a direct map only where there is memory behind it."""
        mapped = readable = 0
        space = layer.space
        for piece in space.walk():
            mapped += piece.length if piece.pa is not None or piece.offset is not None else 0
            readable += piece.length if piece.offset is not None else 0
        notes = [space.page_map.name]
        for base, end, phys in space.page_map.directs[:1]:
            notes.append(f"direct map {base:#x}-{end:#x} of physical {phys:#x}")
            if space.page_map.directs_in_tables:
                continue
            physical, direct_va = space.physical, space.page_map.direct_va
            mapped += sum(run.length for run in physical.promised_runs() if direct_va(run.pa) is not None)
            readable += sum(piece.length for piece in space.pages() if piece.va is not None)
        return Extent(mapped, readable, "; ".join(notes + space.page_map.warnings))
