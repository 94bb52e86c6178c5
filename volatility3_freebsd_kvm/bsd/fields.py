"""Taking the fields of a record one by one, so that one bad pointer costs no more than the fields behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..exceptions import AddressError, SymbolError
from .objects import Pointer
from .records import Absent

T = TypeVar("T")


class Fields:
    """Gives the values of fields or why there are none; remembers, once each, what an analyst should know of it."""

    def __init__(self) -> None:
        """Start without notes."""
        self._notes: dict[str, None] = {}

    def take(self, what: str, get: Callable[[], T]) -> T | Absent:
        """The value, or why there is none; what cannot be read is noted.

        Args:
            what: the member that leads there, for the note: ``p_pgrp``.
            get: reads the value.
        """
        try:
            return get()
        except AddressError as error:
            self.note(f"{what} cannot be read: {error}")
            return Absent.UNREADABLE
        except SymbolError:
            return Absent.NOT_AVAILABLE

    def note(self, text: str) -> None:
        """Add a note, if it is not there already."""
        self._notes[text] = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes in the order they came."""
        return tuple(self._notes)


def text_of(value: Any) -> str:
    """The text of a member that is an array of characters in some releases and a pointer to them in others.

    Raises:
        AddressError: it cannot be read.
    """
    return value.text_() if isinstance(value, Pointer) else str(value)
