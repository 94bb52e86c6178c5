"""The page map, walked."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.renderers import format_hints

from volatility3_freebsd_kvm.kvm import AddressSpace, Protection
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.stack import kernel_layer_of

vollog = logging.getLogger(__name__)

_TOP = 1 << 64
_IN_FILE = "in the file"
Row = tuple[int, tuple[object, ...]]


def _hex(value: int | None, *, unreadable: bool = True) -> object:
    """An address, or why there is none: it cannot be told from this dump, or makes no sense."""
    if value is None:
        return renderers.UnreadableValue() if unreadable else renderers.NotApplicableValue()
    return format_hints.Hex(value)


class Pages(interfaces.plugins.PluginInterface):
    """Lists what the FreeBSD kernel has mapped, with protection, place in the dump, or why it cannot be read.

    Ranges are as long as translation, protection and presence allow; a protection of ??? is one that the dump does not
    keep. The direct map is left out where it is no part of the page map: --physical lists all dumped pages with their
    address in it instead. Addresses on amd64 may lack their sign extension, as scanners print them.
    """

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)
    _layer: FreeBSDKernelLayer | None = None

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel's layer and the filters."""
        return [
            requirements.TranslationLayerRequirement(name="primary", description="Layer of the FreeBSD kernel"),
            requirements.IntRequirement(
                name="start", description="First address to list (virtual; physical with --physical)", optional=True
            ),
            requirements.IntRequirement(
                name="end", description="End of the addresses to list, exclusive", optional=True
            ),
            requirements.BooleanRequirement(
                name="physical",
                description="List the dumped pages by physical address",
                default=False,
                optional=True,
            ),
            requirements.BooleanRequirement(
                name="summary",
                description="Only totals, by protection and by kind of absence",
                default=False,
                optional=True,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """Mappings, pages or totals."""
        summary, physical = self.config.get("summary"), self.config.get("physical")
        columns = [
            ("Virtual", format_hints.Hex),
            ("Physical", format_hints.Hex),
            ("Length", format_hints.Hex),
            ("Protection", str),
            ("File offset", format_hints.Hex),
            ("Notes", str),
        ]
        if summary:
            columns = [("Kind", str), ("Protection", str), ("Presence", str), ("Ranges", int), ("Bytes", int)]
        layer = self._layer = kernel_layer_of(self.context, str(self.config["primary"]))
        if layer is None:
            vollog.error("There is no FreeBSD kernel address space to walk; freebsd.kvm.info says what this file is")
            return renderers.TreeGrid(columns, iter(()))
        lister = self._summary if summary else self._physical if physical else self._mapped
        return renderers.TreeGrid(columns, lister(layer.space))

    def _bounds(self, *, virtual: bool = True) -> tuple[int, int]:
        """The range asked for; virtual addresses may lack their sign extension, as scanners report them."""
        start, end = self.config.get("start"), self.config.get("end")
        low, high = 0 if start is None else int(str(start)), _TOP if end is None else int(str(end))
        if virtual and self._layer is not None:
            # The end is exclusive: it is its last address that has a sign.
            low, high = self._layer.canonicalize(low), self._layer.canonicalize(high - 1) + 1 if high else 0
        return low, high

    def _mapped(self, space: AddressSpace) -> Iterator[Row]:
        for piece in space.walk(*self._bounds()):
            notes = piece.absence.value if piece.absence else ""
            if piece.absence and piece.pa is None and space.physical.is_physical:
                notes = f"page table {notes}"
            yield (
                0,
                (
                    _hex(piece.va),
                    _hex(piece.pa, unreadable=space.physical.is_physical),
                    _hex(piece.length),
                    piece.prot.text,
                    _hex(piece.offset),
                    notes,
                ),
            )

    def _physical(self, space: AddressSpace) -> Iterator[Row]:
        start, end = self._bounds(virtual=False)
        for piece in space.pages():
            low, high = max(piece.pa, start), min(piece.pa + piece.length, end)
            if low < high:
                moved = low - piece.pa
                va = None if piece.va is None else piece.va + moved
                unknown = Protection.UNKNOWN.text
                row = (_hex(va, unreadable=False), _hex(low), _hex(high - low), unknown, _hex(piece.offset + moved), "")
                yield 0, row

    def _summary(self, space: AddressSpace) -> Iterator[Row]:
        totals: dict[tuple[str, str, str], list[int]] = collections.defaultdict(lambda: [0, 0])
        start, end = self._bounds()
        for mapped in space.walk(start, end):
            kind = "page map" if mapped.pa is not None or mapped.offset is not None else "page table missing"
            presence = mapped.absence.value if mapped.absence else _IN_FILE
            self._add(totals[kind, mapped.prot.text, presence], mapped.length)
        everything = (start, end) == (0, _TOP)
        for page in space.pages():
            kind = "dumped pages, no direct map" if page.va is None else "dumped pages in the direct map"
            low, high = page.va or 0, (page.va or 0) + page.length
            length = page.length if everything else min(high, end) - max(low, start)
            if length > 0 and (everything or page.va is not None):
                self._add(totals[kind, Protection.UNKNOWN.text, _IN_FILE], length)
        for key, (ranges, size) in sorted(totals.items()):
            yield 0, (*key, ranges, size)

    @staticmethod
    def _add(total: list[int], length: int) -> None:
        total[0] += 1
        total[1] += length
