"""Dumps as other tools want them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import PurePath
from typing import IO, cast

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.automagic.options import FreeBSDKey
from volatility3_freebsd_kvm.kvm import export
from volatility3_freebsd_kvm.layers.stack import dump_of, kernel_layer_of
from volatility3_freebsd_kvm.output import clean

vollog = logging.getLogger(__name__)

Row = tuple[str, str | interfaces.renderers.BaseAbsentValue]
_PACKED = (".gz", ".zst", ".xz", ".bz2", ".enc")


NO_TABLES = "this dump does not hold the kernel's own page tables: only an ELF core of it can be analysed again"


class Export(interfaces.plugins.PluginInterface):
    """Writes the memory of a FreeBSD dump as an ELF core for gdb, kgdb and LLDB, or as a raw image.

    The ELF core has kernel virtual and physical addresses, and can be analysed here like the dump itself. Memory that
    the dump does not hold is in neither: gdb cannot access it, and in a raw image it is a hole that reads as zeros.
    What was written is read back and compared with the dump.

    A gdb for x86 that was built without FreeBSD support needs -iex 'set osabi GNU/Linux' before the names of the kernel
    and the core; LLDB needs "target modules load --file kernel --slide 0" behind them.
    """

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """A layer on the dump, and what to make of it."""
        return [
            requirements.TranslationLayerRequirement(
                name="primary", description="Layer of the FreeBSD kernel or its physical memory"
            ),
            requirements.ChoiceRequirement(
                name="format",
                choices=["elf", "raw"],
                description="What to write: an ELF core or a raw image of physical memory",
                default="elf",
                optional=True,
            ),
            requirements.BooleanRequirement(
                name="first-page",
                description="Begin a raw image with the first dumped page instead of physical address 0",
                default=False,
                optional=True,
            ),
            requirements.BooleanRequirement(
                name="no-verify",
                description="Do not read back and compare what was written",
                default=False,
                optional=True,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """What was written, and what could not be."""
        return renderers.TreeGrid(
            [("Variable", str), ("Value", str)],
            ((0, (name, clean(value) if isinstance(value, str) else value)) for name, value in self._rows()),
        )

    def _rows(self) -> Iterator[Row]:
        """Do it; errors are the last row."""
        try:
            yield from self._export()
        except (kvm.KVMError, OSError) as error:
            vollog.error("Nothing was exported: %s", error)
            yield "Problem", str(error)

    def _export(self) -> Iterator[Row]:
        layer_name = str(self.config["primary"])
        dump = dump_of(self.context, layer_name, FreeBSDKey.location(self.context))
        layer = kernel_layer_of(self.context, layer_name)
        space = layer.space if layer else None
        form = str(self.config.get("format") or "elf")
        if form == "raw":
            plan = export.plan_raw(dump, from_first_page=bool(self.config.get("first-page")))
        else:
            plan = export.plan_elf(dump, space)
        yield from self._write(plan, dump, space, f"{_stem(dump)}.{form}")
        yield from _description(plan, dump)

    def _write(self, plan: export.Plan, dump: kvm.Dump, space: kvm.AddressSpace | None, name: str) -> Iterator[Row]:
        """Write and verify the file; its name says so if it did not come to its end."""
        handler = self.open(interfaces.plugins.FileHandlerInterface.sanitize_filename(name))
        with handler:
            verdict = None
            complete = False
            stream = cast("IO[bytes]", handler)
            try:
                export.write(plan, dump, stream, self._progress_callback)
                if not self.config.get("no-verify"):
                    same = export.verify(plan, dump, stream, space, self._progress_callback)
                    verdict = f"{-(-same // dump.page_size)} pages ({same} bytes) read back, identical to the dump"
                complete = True
            except (kvm.KVMError, OSError) as error:
                vollog.error("The exported file cannot be used: %s", error)
                verdict = f"NO: {error}"
            if not complete:
                handler.preferred_filename = f"{handler.preferred_filename}.incomplete"
        yield "File output", handler.preferred_filename
        yield "Verified", verdict or renderers.NotApplicableValue()


def _stem(dump: kvm.Dump) -> str:
    """What to call the file, without what a container added to the name."""
    path = PurePath(dump.reader.name)
    while path.suffix in _PACKED:
        path = path.with_suffix("")
    return path.name or "memory"


def _description(plan: export.Plan, dump: kvm.Dump) -> Iterator[Row]:
    """What is in the file."""
    memory = sum(copy.length for copy in plan.copies)
    if plan.head:
        yield "Format", f"ELF core ({dump.word_bits} bit, {dump.architecture})"
        yield "Segments", str(plan.segments)
        yield "Kernel virtual addresses", "yes" if plan.has_map else "none"
    else:
        yield "Format", "raw image of physical memory"
        yield "Physical address of offset 0", f"{plan.base:#x}"
    yield "File size", f"{plan.size} ({plan.size:#x})"
    yield "Bytes of memory", str(memory)
    if not plan.head:
        yield "Bytes of holes", str(plan.size - memory)
    first, last = dump.physical.bounds()
    yield "Addresses", f"{first:#x}-{last + 1:#x}, {'physical' if dump.physical.is_physical else 'virtual'}"
    notes = plan.notes
    if not plan.head and not dump.physical.has_user_pages:
        notes = (*notes, NO_TABLES)
    for note in notes:
        yield "Warning", note
