"""The kernel's hash tables, whose size a variable tells: ``pidhashtbl`` and ``pidhash``.

# Reference: sys/kern/subr_hash.c (hashinit), sys/kern/kern_proc.c, kern_thread.c
"""

from __future__ import annotations

from collections.abc import Iterator

from ..exceptions import AddressError, SymbolError
from ..image.chain import LIMIT
from .kernel import Kernel
from .lists import Queue
from .objects import Object

MAX_CHAINS = 1 << 20
_PIECE = 4096
_MAX_PROBLEMS = 64


class HashVariable:
    """The elements of a table that hashinit(9) made, as objects; only the chains that are not empty are walked.

    Iterate once; afterwards `problems` says what was irregular, as with `Queue`.
    """

    def __init__(self, kernel: Kernel, table: str, mask: str, type_name: str, link: str, *, limit: int = LIMIT) -> None:
        """Describe the table.

        Args:
            kernel: the kernel.
            table: the variable that points to the first head.
            mask: the variable that holds the number of chains less one.
            type_name: type of the elements.
            link: path of the member that links them.
            limit: at most so many elements in all.
        """
        self.problems: list[str] = []
        self._kernel = kernel
        self._table, self._mask = table, mask
        self._type_name, self._link = type_name, link
        self._limit = limit

    def __iter__(self) -> Iterator[Object]:
        """Walk the chains.

        Raises:
            SymbolError: the kernel has no such variables, or its types lack the structure or the member.
        """
        self._kernel.structs.member(self._type_name, self._link)
        try:
            table = int(self._kernel.pointer(self._table))
            mask = self._kernel.integer(self._mask, self._kernel.structs.word_size, signed=False)
        except AddressError as error:
            self.problems.append(f"cannot be found because {error}")
            return
        if mask & (mask + 1) or mask >= MAX_CHAINS:
            self.problems.append(f"{self._mask} is {mask:#x}, which is no number of chains less one")
            return
        yield from self._walk(table, mask + 1)

    def _walk(self, table: int, chains: int) -> Iterator[Object]:
        left = self._limit
        for number, head in self._heads(table, chains):
            queue = Queue(self._kernel.structs, head, self._type_name, self._link, limit=left)
            for element in queue:
                left -= 1
                yield element
            self.problems += [f"chain {number}: {problem}" for problem in queue.problems]
            if len(self.problems) > _MAX_PROBLEMS:
                self.problems.append("too many problems, the rest of the table is left out")
                return

    def _heads(self, table: int, chains: int) -> Iterator[tuple[int, int]]:
        """``(number, address of the head)`` of chains that are not empty, read a page at a time."""
        structs = self._kernel.structs
        word = structs.word_size
        number = 0
        while number < chains:
            address = table + number * word
            count = max(1, min(chains - number, (_PIECE - address % _PIECE) // word))
            try:
                data = structs.read(address, count * word)
            except AddressError as error:
                self.problems.append(f"chains {number} to {number + count - 1} cannot be read: {error}")
                data = b""
            for at in range(0, len(data), word):
                if any(data[at : at + word]):
                    yield number + at // word, address + at
            number += count
            if len(self.problems) > _MAX_PROBLEMS:
                self.problems.append("too many problems, the rest of the table is left out")
                return


def has_table(kernel: Kernel, table: str, mask: str, type_name: str, link: str) -> bool:
    """Whether the kernel's symbols and types know such a table."""
    try:
        kernel.structs.member(type_name, link)
        kernel.address(table)
        kernel.address(mask)
    except SymbolError:
        return False
    return True
