"""C types from DWARF, versions 2 to 5.

A kernel says the same in thousands of units: each repeats the types of the headers that it includes. So an entry is
first brought into a small comparable form, and just what is new is written out as a type.

# Reference: DWARF Debugging Information Format, version 5, sections 5 and 7
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from struct import error as StructError

from elftools.elf.elffile import ELFFile

from ..exceptions import FormatError
from .dwarf_definitions import Definitions, Origin
from .dwarf_entries import EntryReader
from .dwarf_sections import Sections
from .dwarf_units import DebugFile, Unit
from .types import TypeReference, Types

Progress = Callable[[float, str], None]
_MAX_SHOWN = 80
_DAMAGE = (IndexError, KeyError, ValueError, OverflowError, StructError)


class DwarfTypes:
    """Collects the types of compile units into one table.

    The same type comes from many units and is taken once. Where two different types have one name (``struct elf_file``
    of link_elf.c and of link_elf_obj.c), the later one gets the unit's name appended: ``elf_file__link_elf_obj``. Two
    types are the same if their members have the same names, places and types; structures and enums among these are
    known by their name.

    Not read: DWARF that is in another file (split units in .dwo and .dwp, supplementary files of ``dwz -m``), sections
    compressed with zstd, type units in sections of their own (object files that are not linked), DW_FORM_indirect.

    Attributes:
        types: what has been collected so far.
        variables: type of each variable with a name, by that name.
    """

    def __init__(self, elf: ELFFile, name: str = "the file") -> None:
        """Look for DWARF.

        Raises:
            FormatError: there is none, or it is damaged.
        """
        sections = Sections(elf, name)
        if not sections.has_dwarf():
            msg = f"{name} has no DWARF debug information; kernel.debug has"
            raise FormatError(msg)
        endian = "little" if elf.little_endian else "big"
        self._name = name
        with self._guard("its headers"):
            self._file = DebugFile(sections, little_endian=elf.little_endian)
        self.types = Types.empty(elf.elfclass // 8, endian)
        self.variables: dict[str, TypeReference] = {}
        self._definitions = Definitions(self.types)
        self._variables: dict[str, tuple[int, Origin]] = {}
        self._reader = EntryReader(self._file, self._definitions, endian)

    @contextmanager
    def _guard(self, where: str) -> Iterator[None]:
        """Turn whatever damage does into one sentence."""
        try:
            yield
        except _DAMAGE as error:
            # IndexError, KeyError and the like say nothing to who reads the message.
            detail = error if isinstance(error, FormatError) else "an entry is cut off or of an unknown layout"
            msg = f"the debug information of {self._name} cannot be read in {where}: {detail}"
            raise FormatError(msg) from None

    def units(self) -> Iterator[tuple[str, Unit]]:
        """``(source file, unit)`` of each unit."""
        for unit in self._file.units:
            with self._guard(str(unit)):
                source = unit.source()
            yield source, unit

    def add_all(self, progress: Progress | None = None) -> None:
        """Collect the types of every unit.

        Raises:
            FormatError: the debug information is damaged.
        """
        self._read_all(progress)
        self._definitions.write_all()
        self._write_variables()

    def add_wanted(self, names: Collection[str], progress: Progress | None = None) -> None:
        """Collect the types of these names, with what `Types.pruned` keeps for them.

        All types that have one of the names are taken: ``elf_file`` brings ``elf_file__link_elf_obj`` along. Of the
        variables there are those whose type is known then; a pointer to another type is one to void.

        Args:
            names: names of structures, unions, enums and typedefs of types without a name; others are passed over.
            progress: is told percent and what is being done.

        Raises:
            FormatError: the debug information is damaged.
        """
        self._read_all(progress)
        self._definitions.write_wanted(names)
        for name, (number, origin) in self._variables.items():
            reference = self._definitions.variable(number, origin)
            if reference:
                self.variables[name] = reference
        self._variables.clear()

    def add(self, unit: Unit) -> None:
        """Collect the types and variables of one unit.

        Raises:
            FormatError: its debug information is damaged.
        """
        with self._guard(str(unit)):
            source = unit.source()
        with self._guard(_shown(source) or str(unit)):
            self._read(unit, source, alone=True)
        self._reader.release()
        self._definitions.write_all()
        self._write_variables()

    def _read_all(self, progress: Progress | None) -> None:
        count = len(self._file.units)
        for number, (source, unit) in enumerate(self.units()):
            if progress:
                progress(100 * number / count, f"Reading types of {_shown(source)}")
            with self._guard(_shown(source) or str(unit)):
                self._read(unit, source)
        self._reader.release()

    def _read(self, unit: Unit, source: str, *, alone: bool = False) -> None:
        reader, origin = self._reader, Origin(PurePosixPath(source).stem or f"unit_{unit.start:x}")
        reader.begin(unit, origin, alone=alone)
        contents = reader.contents(unit)
        for name, offset, look in contents.definitions:
            reader.define(unit, offset, name, look)
        for offset in contents.typedefs:
            reader.resolve(unit, offset)
        for name, number in reader.variables(unit, contents):
            self._variables[name] = number, origin
        reader.define_pending()
        reader.finish()

    def _write_variables(self) -> None:
        for name, (number, origin) in self._variables.items():
            self.variables[name] = self._definitions.reference(number, origin)
        self._variables.clear()


def _shown(source: str) -> str:
    """A file's name for messages: its end, on one line."""
    return "".join(character if character.isprintable() else "?" for character in source[-_MAX_SHOWN:])
