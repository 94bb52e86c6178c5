"""The scenario's kernels changed in a few places, or with less known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.scenario.kernels import build_world
from tests.scenario_dumps import walkable
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.partial import partial_types
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable
from volatility3_freebsd_kvm.image.types import Types

OBJECT, FUNCTION, GLOBAL = 1, 2, 1 << 4
NOWHERE = 0x10
"""An address that no kernel maps."""


def nowhere(kernel: str) -> str:
    """What reading there says."""
    # powerpc64 has low addresses one to one.
    return "is not dumped (physical address 0x10)" if kernel.endswith("powerpc64") else "is not mapped"


class Patch(dict[int, bytes]):
    """Bytes by address, for `damaged`: ``Patch(kernel).member("module", address, "file", 0)``."""

    def __init__(self, kernel: str) -> None:
        super().__init__()
        self.world = build_world(kernel)
        self.types = self.world.memory.types

    @property
    def word(self) -> int:
        return self.types.pointer_size

    def number(self, address: int, value: int, size: int) -> Patch:
        order = "big" if self.types.byteorder == "big" else "little"
        self[address] = (value & (1 << 8 * size) - 1).to_bytes(size, order)
        return self

    def pointer(self, address: int, value: int) -> Patch:
        return self.number(address, int(value), self.word)

    def member(self, type_name: str, address: int, path: str, value: int) -> Patch:
        """A member, which dots may lead to: ``link.tqe_next``."""
        address, name = int(address), type_name
        size = 0
        for part in path.split("."):
            found = self.types.member(name, part)
            address, size, name = address + found.offset, self.types.size(found.type), found.type.get("name", "")
        return self.number(address, int(value), size)

    def first(self, address: int, value: int) -> Patch:
        """The first pointer of a head or a link, whatever its name."""
        return self.pointer(int(address), value)

    def text(self, address: int, text: bytes) -> Patch:
        self[int(address)] = text
        return self

    def room(self, size: int, where: str = "kva") -> int:
        """Fresh memory: there only for who follows a pointer to it."""
        return self.world.memory.allocate(size, where)


def with_symbols(kernel: Kernel, symbols: Mapping[str, int], size: int = 0) -> Kernel:
    """The same kernel with more variables."""
    kerndisp = kernel.names.kerndisp
    more = [Symbol(name, value - kerndisp, size, GLOBAL | OBJECT) for name, value in symbols.items()]
    return replace(kernel, names=Names(SymbolTable([*kernel.names.symbols, *more]), kernel.structs, kerndisp))


def without_symbols(kernel: Kernel, *names: str) -> Kernel:
    """The same kernel without some of its symbols."""
    rest = SymbolTable(symbol for symbol in kernel.names.symbols if symbol.name not in names)
    return replace(kernel, names=Names(rest, kernel.structs, kernel.names.kerndisp))


def without_types(name: str) -> Kernel:
    """The kernel as known by its symbols only: proc and thread have five members each."""
    return _with_types(walkable(name), partial_types(walkable(name).names), walkable(name).names.symbols)


def nothing_known(name: str) -> Kernel:
    """The kernel as known by its dump's header only."""
    kernel = walkable(name)
    return _with_types(kernel, Types.empty(kernel.structs.word_size, kernel.structs.byteorder), SymbolTable())


def _with_types(kernel: Kernel, types: Types, symbols: SymbolTable) -> Kernel:
    structs = Structs(kernel.structs.read, types, 8 * kernel.structs.word_size, kernel.structs.byteorder)
    return replace(kernel, names=Names(symbols, structs, kernel.names.kerndisp), variables={})
