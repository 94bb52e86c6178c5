"""The auxiliary vector: what exec told a process's run-time linker.

# Reference: sys/sys/elf_common.h (AT_), sys/kern/kern_proc.c (proc_getauxv), imgact_elf.c (freebsd_copyout_auxargs)
"""

from __future__ import annotations

from typing import Literal

from ..exceptions import AddressError
from .kernel import Kernel
from .objects import Object
from .user import UserMemory
from .user_strings import ARG_MAX, UserStrings

AT_NULL, AT_PHDR, AT_BASE = 0, 3, 7
PROC_AUXV_MAX = 256


def auxiliary_vector(kernel: Kernel, proc: Object, memory: UserMemory) -> dict[int, int]:
    """Values by AT_ number; empty where the stack does not have them any more, or they cannot be read.

    The vector begins behind the NULL that ends the pointers to the environment.

    Raises:
        SymbolError: the kernel's types do not lead to it.
    """
    found: dict[int, int] = {}
    try:
        strings = UserStrings.of(kernel, proc, memory)
        word = strings.word
        order: Literal["big", "little"] = "big" if strings.byteorder == "big" else "little"
        environment = memory.read(strings.ps_strings + 2 * word, 2 * word)
        count = int.from_bytes(environment[word : word + 4], order)
        if count * word > ARG_MAX:
            return {}
        at = int.from_bytes(environment[:word], order) + (count + 1) * word
        for place in range(at, at + 2 * word * PROC_AUXV_MAX, 2 * word):
            pair = memory.read(place, 2 * word)
            kind = int.from_bytes(pair[:word], order)
            if kind == AT_NULL:
                break
            found.setdefault(kind, int.from_bytes(pair[word:], order))
    except AddressError:
        pass
    return found
