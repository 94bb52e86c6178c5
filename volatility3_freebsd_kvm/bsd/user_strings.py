"""The strings that exec put on a process's stack: its arguments and its environment.

# Reference: sys/sys/exec.h (struct ps_strings, PROC_PS_STRINGS), sys/kern/kern_proc.c (get_proc_vector, get_ps_strings)
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import AddressError, FormatError
from .kernel import Kernel
from .objects import Object
from .user import Readable

ARG_MAX = 512 * 1024
"""Pointers and strings that exec takes; 256 KiB on 32-bit machines."""
SV_ILP32 = 0x100
"""Flag of a ``sysentvec``: its processes have 32-bit pointers."""
_PIECE = 256


@dataclass
class UserStrings:
    """Reads a process's strings.

    Attributes:
        memory: the process's memory.
        word: bytes of a pointer of the process.
        byteorder: ``little`` or ``big``.
        ps_strings: address of its ``struct ps_strings``.
        notes: what was irregular in what has been read.
    """

    memory: Readable
    word: int
    byteorder: str
    ps_strings: int
    notes: list[str]

    @classmethod
    def of(cls, kernel: Kernel, proc: Object, memory: Readable) -> UserStrings:
        """Those of a process; raises as `Object` members do."""
        vector = proc.p_sysent.object_()
        word = 4 if vector.sv_flags & SV_ILP32 else kernel.structs.word_size
        return cls(memory, word, kernel.structs.byteorder, _address(kernel, proc, vector), [])

    def arguments(self) -> tuple[str, ...]:
        """The arguments.

        Raises:
            AddressError: they cannot be read.
            FormatError: their number is impossible.
        """
        return self._vector(0)

    def environment(self) -> tuple[str, ...]:
        """The environment, ``name=value``; raises as `arguments`."""
        return self._vector(2 * self.word)

    def _vector(self, at: int) -> tuple[str, ...]:
        """A vector by its pointer and its count, which are at that offset of ``struct ps_strings``."""
        address = self._uint(self.ps_strings + at, self.word)
        count = self._uint(self.ps_strings + at + self.word, 4)
        if count * self.word > ARG_MAX:
            msg = f"ps_strings says that there are {count} strings, which is impossible"
            raise FormatError(msg)
        found: list[str] = []
        left = ARG_MAX
        for index in range(count):
            try:
                text = self._string(self._uint(address + index * self.word, self.word), left)
            except AddressError as error:
                self.notes.append(f"only {index} of {count} strings can be read: {error}")
                break
            found.append(text.decode("utf-8", "replace"))
            left -= len(text) + 1
            if left <= 0:
                self.notes.append(f"only {index + 1} of {count} strings are shown: they are too long to be true")
                break
        return tuple(found)

    def _uint(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory.read(address, size), "big" if self.byteorder == "big" else "little")

    def _string(self, address: int, limit: int) -> bytes:
        """The bytes before the NUL, read in aligned pieces, so that no page is touched that is not needed."""
        found = b""
        while b"\0" not in found and len(found) < limit:
            place = address + len(found)
            found += self.memory.read(place, _PIECE - place % _PIECE)
        return found.split(b"\0")[0][:limit]


def _address(kernel: Kernel, proc: Object, vector: Object) -> int:
    """Below the top of the stack, wherever that is, since 14; at the same place for all of an ABI before."""
    if kernel.has_member("vmspace", "vm_stacktop"):
        return int(proc.p_vmspace.vm_stacktop) - int(vector.sv_psstringssz)
    return int(vector.sv_psstrings)
