"""What walkers yield besides their own records."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeVar

from ..exceptions import AddressError, SymbolError

T = TypeVar("T")


class Absent(Enum):
    """Why a field of a record has no value."""

    UNREADABLE = "the memory is not mapped, not dumped or beyond the end of the file"
    NOT_AVAILABLE = "this kernel has no such field, or its types do not know it"
    NOT_APPLICABLE = "it makes no sense here"


class Problem(NamedTuple):
    """A walk that did not end as it should, or an object that is not what it should be.

    Attributes:
        where: what was walked: ``allproc``, ``descriptors of process 806``.
        text: what was seen, one clause.
        address: of the object in question, if there is one.
    """

    where: str
    text: str
    address: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def attempt(get: Callable[[], T]) -> T | Absent:
    """The value, or why there is none: for fields that may be missing or unreadable.

    ``attempt(lambda: int(proc.p_ucred.cr_uid))``
    """
    try:
        return get()
    except AddressError:
        return Absent.UNREADABLE
    except SymbolError:
        return Absent.NOT_AVAILABLE
