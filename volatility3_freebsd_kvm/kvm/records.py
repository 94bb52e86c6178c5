"""The plain records that the reader yields."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Protection(enum.IntFlag):
    """Protection of a mapping, with the values of ``vm_prot_t`` (sys/vm/vm.h)."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4
    UNKNOWN = 0x80
    """The dump does not keep it: direct maps, and superpages that the dumper expanded."""

    @property
    def text(self) -> str:
        """``rwx`` with dashes, or ``???`` where the dump does not know."""
        if self & Protection.UNKNOWN:
            return "???"
        return "".join(letter if self & bit else "-" for letter, bit in zip("rwx", (1, 2, 4), strict=True))


class Absence(enum.Enum):
    """Why the bytes behind an address are not there."""

    NOT_MAPPED = "not mapped"
    NOT_DUMPED = "not dumped"
    BEYOND_END = "beyond the end of the file"


class Run(NamedTuple):
    """Physically consecutive bytes that are also consecutive in the file. All in bytes."""

    pa: int
    length: int
    offset: int


class Leaf(NamedTuple):
    """One entry of a page map: a page or superpage, or a hole where a table is missing.

    ``pa`` is None exactly when ``absence`` says why the table that would tell it cannot be read.
    """

    va: int
    pa: int | None
    length: int
    prot: Protection
    absence: Absence | None = None


class MappedRange(NamedTuple):
    """A range of kernel virtual memory, as long as translation, protection and presence allow.

    ``offset`` is the file offset, or None when ``absence`` says why there is none.
    """

    va: int
    pa: int | None
    length: int
    prot: Protection
    offset: int | None
    absence: Absence | None


class DumpedRange(NamedTuple):
    """Consecutive dumped pages; ``va`` is their address in the direct map, or None if they have none."""

    pa: int
    length: int
    offset: int
    va: int | None
