"""The machine as its kernel counts it: size of pages and memory, load averages.

# Reference: sys/kern/kern_mib.c (hw.physmem), sys/vm/vm_init.c (pagesizes), sys/sys/resource.h (struct loadavg)
"""

from __future__ import annotations

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel

_USUAL_PAGE = 4096
_LARGEST_PAGE = 1 << 16
FSCALE = 1 << 11
"""What a load of 1.0 is stored as, unless the kernel says otherwise."""


def page_size(kernel: Kernel) -> int | None:
    """Bytes of a page: ``pagesizes[0]``; None where that cannot be had and the architecture allows several."""
    try:
        size = kernel.integer("pagesizes", kernel.structs.word_size, signed=False)
    except (SymbolError, AddressError):
        size = 0
    if _USUAL_PAGE <= size <= _LARGEST_PAGE and size.bit_count() == 1:
        return size
    return None if kernel.architecture in ("", "arm64") else _USUAL_PAGE


def pages(kernel: Kernel, name: str) -> int:
    """A number of pages, as in ``physmem`` and ``realmem``; raises as `Kernel.integer` does."""
    return kernel.integer(name, kernel.structs.word_size)


def pages_to_bytes(kernel: Kernel, name: str) -> int:
    """A number of pages in bytes.

    Raises:
        SymbolError: there is no such variable, or the size of a page is not known.
        AddressError: it cannot be read.
    """
    count, size = pages(kernel, name), page_size(kernel)
    if size is None:
        msg = "the size of a page is not known"
        raise SymbolError(msg)
    return count * size


def load_averages(kernel: Kernel) -> tuple[float, float, float]:
    """The load over 1, 5 and 15 minutes: ``averunnable``, three 32 bit numbers and, aligned to its size, their scale.

    Raises:
        SymbolError: there is no such variable.
        AddressError: it cannot be read.
    """
    structs, start = kernel.structs, kernel.address("averunnable")
    word = structs.word_size
    one, five, fifteen = (structs.uint(start + at, 4) for at in (0, 4, 8))
    scale = structs.uint(start + -(-12 // word) * word, word) or FSCALE
    return one / scale, five / scale, fifteen / scale
