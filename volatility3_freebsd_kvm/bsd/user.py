"""The memory of processes, where the dump has it.

Minidumps have no user pages; full dumps and raw memory have those that were resident.
"""

from __future__ import annotations

from typing import Protocol

from .kernel import Kernel
from .objects import Object


class UserMemory(Protocol):
    """Reads a process's own addresses."""

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a user address.

        Raises:
            AddressError: some of them are not mapped, not resident or not dumped.
        """
        ...


def user_memory(kernel: Kernel, proc: Object) -> UserMemory | None:
    """The memory of a process; None where this dump and this kernel give no way to it."""
    del kernel, proc
    return None
