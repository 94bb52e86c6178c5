"""A reader of kernel structures that knows nothing of how they were written: bytes by offsets, out of a dump."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

from tests.scenario.kernels import build_world
from tests.scenario.world import World
from tests.writers.kernel_image import KernelImage
from volatility3_freebsd_kvm import kvm


class KernelReader:
    """Reads through `dump` what `image` has names for."""

    def __init__(self, dump: kvm.Dump, image: KernelImage) -> None:
        self.dump = dump
        self.image = image
        self.types = image.types
        self.word = image.types.pointer_size
        self.order = "big" if image.types.byteorder == "big" else "little"

    # Values

    def read(self, va: int, length: int) -> bytes:
        return self.dump.read(va, length)

    def unsigned(self, va: int, size: int) -> int:
        return int.from_bytes(self.read(va, size), self.order)

    def signed(self, va: int, size: int) -> int:
        return int.from_bytes(self.read(va, size), self.order, signed=True)

    def pointer(self, va: int) -> int:
        return self.unsigned(va, self.word)

    def string(self, va: int, limit: int = 4096) -> str:
        data = b""
        while b"\0" not in data and len(data) < limit:
            # To the end of the page at most: the next one may be missing.
            data += self.read(va + len(data), min(64, 4096 - (va + len(data)) % 4096))
        return data.split(b"\0")[0].decode()

    # Members

    def has(self, name: str, member: str) -> bool:
        return self.types.has_member(name, member)

    def place(self, va: int, name: str, path: str) -> tuple[int, int]:
        """Address and size of a member; dots lead through members."""
        size = 0
        for part in path.split("."):
            member = self.types.member(name, part)
            va, size, name = va + member.offset, self.types.size(member.type), member.type.get("name", "")
        return va, size

    def at(self, va: int, name: str, path: str) -> int:
        return self.place(va, name, path)[0]

    def field(self, va: int, name: str, path: str) -> int:
        return self.unsigned(*self.place(va, name, path))

    def signed_field(self, va: int, name: str, path: str) -> int:
        return self.signed(*self.place(va, name, path))

    def string_field(self, va: int, name: str, path: str) -> str:
        return self.string(self.field(va, name, path))

    def sizeof(self, name: str) -> int:
        return self.types.sizeof(f"struct {name}")

    # Variables

    def has_symbol(self, name: str) -> bool:
        return name in self.image.symbols

    def symbol(self, name: str) -> int:
        return self.image.symbols[name]

    def variable(self, name: str) -> int:
        return self.unsigned(self.symbol(name), self.types.size(self.image.variables[name]))

    # Queues; each checks the links back

    def tailq(self, head: int, name: str, link: str) -> Iterator[int]:
        back, item = head, self.pointer(head)
        while item:
            entry = self.at(item, name, link)
            assert self.pointer(entry + self.word) == back, f"{name} at {item:#x} does not link back"
            yield item
            back, item = entry, self.pointer(entry)
        assert self.pointer(head + self.word) == back

    def list(self, head: int, name: str, link: str) -> Iterator[int]:
        back, item = head, self.pointer(head)
        while item:
            entry = self.at(item, name, link)
            assert self.pointer(entry + self.word) == back, f"{name} at {item:#x} does not link back"
            yield item
            back, item = entry, self.pointer(entry)

    def slist(self, head: int, name: str, link: str) -> Iterator[int]:
        item = self.pointer(head)
        while item:
            yield item
            item = self.pointer(self.at(item, name, link))


@lru_cache(maxsize=1)
def scenario(kernel: str) -> World:
    """The scenario in the memory of that kernel."""
    return build_world(kernel)


@lru_cache(maxsize=1)
def minidump(kernel: str) -> KernelReader:
    """Its minidump."""
    world = scenario(kernel)
    return KernelReader(kvm.open(world.memory.minidump().data), world.memory.running_image)


@lru_cache(maxsize=1)
def full_dump(kernel: str) -> KernelReader:
    """All of its physical memory."""
    world = scenario(kernel)
    return KernelReader(kvm.open(world.memory.full_dump(), world.memory.image.symbols), world.memory.running_image)


@cache
def names_by_address(kernel: str) -> dict[int, set[str]]:
    """What is at an address, by the kernel's symbols."""
    names: dict[int, set[str]] = {}
    for name, value in scenario(kernel).memory.running_image.symbols.items():
        names.setdefault(value, set()).add(name)
    return names
