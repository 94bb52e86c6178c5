"""What the walkers over processes and threads need besides plain reads: signs by type, hash tables, functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

from tests.writers.kernel_image import KernelImage
from volatility3_freebsd_kvm import kvm

from .kernel_reader import KernelReader, scenario


class ProcessReader(KernelReader):
    """A minidump of the scenario."""

    def __init__(self, dump: kvm.Dump, image: KernelImage, arch: str) -> None:
        super().__init__(dump, image)
        self.arch = arch
        self.symbols = image.symbols
        self.variables = image.variables
        code = [(value, name) for name, value in image.symbols.items() if name not in image.variables and value]
        self.functions = sorted(code)

    def get(self, va: int, tag: str, path: str) -> int:
        """A number or pointer in a structure, with its type's sign."""
        *parents, last = path.split(".")
        for parent in parents:
            offset, reference = self.types.member(tag, parent)
            va, tag = va + offset, reference["name"]
        offset, reference = self.types.member(tag, last)
        signed = reference["kind"] == "base" and self.types.types.base_types[reference["name"]]["signed"]
        return (self.signed if signed else self.unsigned)(va + offset, self.types.size(reference))

    def address(self, va: int, tag: str, path: str) -> int:
        """The same of a register or address, which may have a signed type."""
        return self.get(va, tag, path) % (1 << 8 * self.word)

    def characters(self, va: int, tag: str, member: str) -> str:
        """The string in an array of characters."""
        return self.read(*self.place(va, tag, member)).split(b"\0")[0].decode()

    def linked(self, head: int, tag: str, link: str, *, tail: bool = False) -> list[int]:
        """The elements of a LIST, or a TAILQ, at `head`."""
        return list((self.tailq if tail else self.list)(head, tag, link))

    def chains(self, table: str, mask: str, tag: str, link: str) -> Iterator[tuple[int, int]]:
        """``(chain, element)`` of a hashinit(9) table."""
        heads = self.variable(table)
        for index in range(self.variable(mask) + 1):
            for item in self.list(heads + index * self.word, tag, link):
                yield index, item

    def function_at(self, va: int) -> str:
        """The function whose code an address is in: the nearest symbol below."""
        return self.functions[bisect_right(self.functions, (va, "\x7f")) - 1][1]


@lru_cache(maxsize=1)
def processes_of(kernel: str) -> ProcessReader:
    """The scenario's minidump on a kernel."""
    memory = scenario(kernel).memory
    return ProcessReader(kvm.open(memory.minidump().data), memory.running_image, memory.machine.arch)
