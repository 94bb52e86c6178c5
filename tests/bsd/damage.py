"""Changes to the scenario's memory, as hiding, wear or malice would make them."""

from __future__ import annotations

from tests.scenario.kernels import build_world
from tests.scenario.world import World
from tests.scenario_dumps import walkable
from tests.writers.objects import Object
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import SymbolTable
from volatility3_freebsd_kvm.image.types import Types


class Damage:
    """Collects changes; `kernel` is what a walker finds afterwards.

    Attributes:
        world: the scenario on the kernel.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.world: World = build_world(name)
        self.types = self.world.memory.types
        self.word = self.types.pointer_size
        self.changes: dict[int, bytes] = {}

    def kernel(self, *, types: Types | None = None, symbols: SymbolTable | None = None) -> Kernel:
        """The kernel over changed memory, if wanted with other types or symbols."""
        whole = walkable(self.name)
        old = whole.structs
        structs = Structs(self._read, types or old.types, 8 * old.word_size, old.byteorder)
        names = Names(symbols or whole.names.symbols, structs, whole.names.kerndisp)
        return Kernel(names, whole.architecture, whole.variables, whole.message_buffer)

    def _read(self, address: int, length: int) -> bytes:
        data = bytearray(walkable(self.name).structs.read(address, length))
        for at, changed in self.changes.items():
            start, stop = max(at, address), min(at + len(changed), address + length)
            if start < stop:
                data[start - address : stop - address] = changed[start - at : stop - at]
        return bytes(data)

    def at(self, obj: Object, path: str) -> int:
        """The address of a member."""
        return int(obj) + self.types.offsetof(obj._type["name"], path)

    def pointer(self, address: int) -> int:
        """What is there now."""
        return self.world.memory.read_pointer(address)

    def put(self, address: int, value: int, size: int = 0) -> None:
        """Write an integer, of a pointer's size unless told."""
        order = self.world.memory.machine.byteorder
        self.changes[address] = (value % (1 << 8 * (size or self.word))).to_bytes(size or self.word, order)  # type: ignore[arg-type]

    def set(self, obj: Object, path: str, value: int, size: int = 0) -> None:
        """Write a member."""
        self.put(self.at(obj, path), value, size)

    def unlink(self, obj: Object, link: str) -> None:
        """Take an element out of a LIST or TAILQ; its own link stays as it is, as LIST_REMOVE leaves it."""
        place = self.at(obj, link)
        following, slot = self.pointer(place), self.pointer(place + self.word)
        self.put(slot, following)
        if following:
            self.put(following + self.types.offsetof(obj._type["name"], link) + self.word, slot)

    def descriptor(self, pid: int, fd: int) -> int:
        """The address of the entry's `fde_file`."""
        table = self.pointer(self.at(self.world.get("filedesc", pid), "fd_files"))
        entry = table + self.types.offsetof("fdescenttbl", "fdt_ofiles") + fd * self.types.sizeof("struct filedescent")
        return entry + self.types.offsetof("filedescent", "fde_file")
