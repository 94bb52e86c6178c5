"""Numbers that every CPU counts for itself, and their sums: counter(9).

A counter is a place in a zone of per-CPU memory; each CPU has a copy of that memory, one behind the other.

# Reference: sys/sys/counter.h, sys/kern/subr_counter.c, sys/sys/pcpu.h (zpcpu_*), sys/amd64/include/pcpu.h
"""

from __future__ import annotations

from functools import cached_property

from ..exceptions import AddressError, SymbolError
from .kernel import Kernel
from .machine import page_size

_EARLY = "pc_early_dummy_counter"
_MAX_CPUS = 4096


class Counters:
    """Reads counters of a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        """Nothing is read yet."""
        self._kernel = kernel
        self._mask = (1 << 8 * kernel.structs.word_size) - 1
        self._settled: int | None = None

    def fetch(self, stored: int) -> int:
        """The sum over all CPUs, as counter_u64_fetch(9) gives it.

        Args:
            stored: the ``counter_u64_t`` as a structure holds it, which is not always an address.

        Raises:
            AddressError: the copy of some CPU cannot be read, or the pointer is NULL.
            SymbolError: the kernel does not tell how far the copies are apart, or the counter was not allocated yet.
        """
        if not stored:
            raise AddressError(stored, "a NULL pointer")
        if self._settled is None and len(self._biases) > 1:
            self._settle(stored)
        bias = self._biases[0] if self._settled is None else self._settled
        return self._sum(stored + bias & self._mask)

    def _settle(self, stored: int) -> None:
        """Keep to the first bias under which a counter can be read."""
        for bias in self._biases:
            try:
                self._sum(stored + bias & self._mask)
            except AddressError:
                continue
            self._settled = bias
            return

    def _sum(self, base: int) -> int:
        if base in self._unallocated:
            msg = "the counter was not allocated yet"
            raise SymbolError(msg)
        uint, step = self._kernel.structs.uint, self._stride
        return sum(uint(base + cpu * step & self._mask, 8) for cpu in self._cpus) & (1 << 64) - 1

    @cached_property
    def _cpus(self) -> list[int]:
        """The ids of the CPUs; as many as the kernel was made for, where it is not known which of them there are."""
        found = [cpu.cpuid for cpu in self._kernel.names.cpus]
        return found or list(range(min(self._kernel.integer("mp_maxid"), _MAX_CPUS - 1) + 1))

    @cached_property
    def _stride(self) -> int:
        """Bytes from a CPU's copy to the next one's: a page since 12.0, the size of ``struct pcpu`` before.

        ``uk_slabsize`` left the keg when pages came.
        """
        structs = self._kernel.structs
        size = structs.size("pcpu") if structs.has("uma_keg", "uk_slabsize") else page_size(self._kernel)
        if size is None:
            msg = "the size of a page is not known"
            raise SymbolError(msg)
        return size

    @cached_property
    def _pcpu(self) -> tuple[int, bool | None]:
        """Address of the first ``struct pcpu``, and whether a variable points to it; None where that is not known."""
        symbol = self._kernel.names.symbols.find("__pcpu")
        if symbol is None:
            return 0, False
        reference = self._kernel.variables.get("__pcpu")
        if reference is not None:
            points: bool | None = reference["kind"] == "pointer"
        else:
            points = symbol.size == self._kernel.structs.word_size if symbol.size else None
        try:
            address = self._kernel.address("__pcpu")
            return (address if points is False else self._kernel.structs.pointer(address)), points
        except AddressError:
            return 0, points

    @cached_property
    def _biases(self) -> tuple[int, ...]:
        """What has to be added to a stored counter, the likeliest first.

        On amd64 since 13.0 that is the address of the first ``struct pcpu``; ``__pcpu`` is a pointer there. Some
        snapshots before 13.0 have the pointer, but store addresses.
        """
        first, points = self._pcpu
        if self._kernel.architecture not in ("amd64", "") or points is False or not first:
            return (0,)
        return (first, 0) if points else (0, first)

    @cached_property
    def _unallocated(self) -> frozenset[int]:
        """What counters lead to before there is memory for them (EARLY_COUNTER)."""
        first, _ = self._pcpu
        if not first or not self._kernel.has_member("pcpu", _EARLY):
            return frozenset()
        return frozenset({first + self._kernel.structs.offset("pcpu", _EARLY)})
