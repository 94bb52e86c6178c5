"""Simulated memory of a running kernel: its image, objects by C type, and the same memory in every dump format."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from volatility3_freebsd_kvm.image.types import TypeReference

from . import elfcore, kerneldump
from .kernel_image import KernelImage
from .machine import MIB, Machine
from .memory import Mapping, PhysicalMemory
from .minidump import Minidump, build_minidump
from .objects import Object, assign

_ALIGN = 16
_TABLE_AREA = 8 * MIB


class KernelMemory:
    """The memory of one machine with one kernel.

    The image lies in superpages, objects in the direct map (pages in no order) or, where there is none and on request,
    in kernel memory mapped page by page.

    Attributes:
        image: The kernel.
        machine: The machine.
        kernphys: Physical address of the kernel's first superpage.
        physical: Physical memory.
        mappings: What the page map maps: image and kernel memory, but not the direct map.
        user_pages: Pages that belong to processes: full dumps and raw images hold them, minidumps do not.
        message_buffer: The message buffer section of minidumps.
    """

    def __init__(self, image: KernelImage, machine: Machine, *, kernphys: int | None = None, seed: int = 1) -> None:
        """Load the kernel, at `kernphys` or where the machine's loader usually puts it."""
        self.image = image
        self.types = image.types
        self.machine = machine
        self.kernphys = machine.kernphys if kernphys is None else kernphys
        end = machine.ram[1]
        self.physical = PhysicalMemory(machine.page_size, free_area=(end - _TABLE_AREA, end))
        self.mappings: list[Mapping] = []
        self.user_pages: set[int] = set()
        self.message_buffer = b""
        self._pages: dict[int, int] = {}
        self._load()
        self._free = self._free_pages(seed)
        self._contiguous = end - 2 * _TABLE_AREA
        self._next_kva = machine.kva
        self._room: dict[str, tuple[int, int]] = {}
        if self.displacement:
            self._relocate()

    # Physical layout

    def _load(self) -> None:
        delta = self.kernphys - self.machine.linked
        step = self.machine.superpage
        flags: dict[int, list[bool]] = {}
        for segment in self.image.segments:
            self.physical.write(segment.va + delta, segment.data.ljust(segment.size, b"\0"))
            for va in range(segment.va & -step, segment.va + segment.size, step):
                write, execute = flags.setdefault(va, [False, False])
                flags[va] = [write | segment.write, execute | segment.execute]
        for va, (write, execute) in sorted(flags.items()):
            self._map(Mapping(va, va + delta, step, write, execute, leaf=step))

    def _map(self, mapping: Mapping) -> None:
        self.mappings.append(mapping)
        self._pages.update(mapping.base_pages(self.machine.page_size))

    def _free_pages(self, seed: int) -> Iterator[int]:
        """Pages for objects, in no order, as a busy machine hands them out."""
        page_size = self.machine.page_size
        start = self.kernphys + (self.image.end - self.machine.linked)
        start = -(-start // self.machine.superpage) * self.machine.superpage
        pages = [
            page
            for low, high in self.machine.dump_avail
            for page in range(max(low, start), min(high, self.machine.ram[1] - 3 * _TABLE_AREA), page_size)
        ]
        random.Random(seed).shuffle(pages)
        return iter(pages)

    # Bytes

    def pa_of(self, va: int) -> int:
        """The physical address of a kernel virtual address.

        Raises:
            KeyError: It is not mapped.
        """
        dmap = self.machine.dmap
        low, high = self.machine.ram
        if dmap is not None and dmap <= va < dmap + high - low:
            return va - dmap + low
        page_size = self.machine.page_size
        return self._pages[va & -page_size] + va % page_size

    def write(self, va: int, data: bytes) -> None:
        """Store bytes at a kernel virtual address."""
        for at, pa, size in self._pieces(va, len(data)):
            self.physical.write(pa, data[at : at + size])

    def read(self, va: int, length: int) -> bytes:
        """Bytes at a kernel virtual address."""
        return b"".join(self.physical.read(pa, size) for _, pa, size in self._pieces(va, length))

    def _pieces(self, va: int, length: int) -> Iterator[tuple[int, int, int]]:
        page_size = self.machine.page_size
        at = 0
        while at < length:
            size = min(length - at, page_size - (va + at) % page_size)
            yield at, self.pa_of(va + at), size
            at += size

    def read_pointer(self, va: int) -> int:
        """The pointer at a kernel virtual address."""
        data = self.read(va, self.types.pointer_size)
        return int.from_bytes(data, "big" if self.types.byteorder == "big" else "little")

    # Objects

    def allocate(self, size: int, where: str = "dmap", align: int = _ALIGN) -> int:
        """The address of `size` fresh, zeroed bytes.

        Args:
            size: Bytes.
            where: ``dmap`` (falls back to ``kva`` on machines without one) or ``kva``.
            align: Alignment in bytes.
        """
        if self.machine.dmap is None:
            where = "kva"
        at, end = self._room.get(where, (0, 0))
        at = -(-at // align) * align
        if at + size > end:
            at, end = self._fresh(size, where)
        self._room[where] = (at + size, end)
        return at

    def _fresh(self, size: int, where: str) -> tuple[int, int]:
        """``[start, end)`` of fresh pages."""
        page_size = self.machine.page_size
        count = -(-max(size, 1) // page_size)
        if where == "kva":
            start = self._next_kva
            for number in range(count):
                pa = next(self._free)
                self.physical.write(pa, bytes(page_size))
                self._map(Mapping(start + number * page_size, pa, page_size))
            # A guard page between allocations, as kernel stacks have.
            self._next_kva += (count + 1) * page_size
            return start, start + count * page_size
        if count == 1:
            pa = next(self._free)
        else:
            pa, self._contiguous = self._contiguous, self._contiguous + count * page_size
            if self._contiguous > self.machine.ram[1] - _TABLE_AREA:
                raise ValueError("the simulated memory is full")
        self.physical.write(pa, bytes(count * page_size))
        start = self.direct_va(pa)
        return start, start + count * page_size

    def direct_va(self, pa: int) -> int:
        """Where the direct map shows a physical address."""
        assert self.machine.dmap is not None
        return self.machine.dmap + pa - self.machine.ram[0]

    def new(self, type_name: str | TypeReference, *, where: str = "dmap", extra: int = 0, **members: Any) -> Object:
        """A new object: ``new("struct proc", p_pid=1, p_comm=b"init")``.

        Args:
            type_name: Its type, as in C.
            where: See `allocate`.
            extra: Bytes behind it, for flexible arrays.
            **members: Values of members.
        """
        reference = self.types.parse(type_name)
        obj = Object(self, reference, self.allocate(self.types.size(reference) + extra, where))
        for name, value in members.items():
            obj[name] = value
        return obj

    def array(self, type_name: str, values: Sequence[Any], *, where: str = "dmap") -> Object:
        """A new array holding `values`."""
        reference = {"kind": "array", "count": len(values), "subtype": self.types.parse(type_name)}
        obj = self.new(reference, where=where)
        assign(obj, values)
        return obj

    def string(self, text: bytes | str) -> Object:
        """A new string with its NUL."""
        data = text.encode() if isinstance(text, str) else text
        return self.array("char", data + b"\0") if data else self.array("char", b"\0")

    def symbol(self, name: str) -> Object:
        """The variable of that name.

        Raises:
            KeyError: The kernel has none, or nothing tells its type.
        """
        return Object(self, self.image.variables[name], self.running(name))

    @property
    def displacement(self) -> int:
        """How far from where it is linked the kernel runs: powerpc64 kernels relocate themselves to the direct map."""
        if self.machine.arch != "powerpc64":
            return 0
        return (self.machine.dmap or 0) + self.kernphys - self.machine.ram[0] - self.machine.linked

    def running(self, name: str) -> int:
        """Where a symbol is at run time, which is what pointers say."""
        return self.image.symbols[name] + self.displacement

    @property
    def running_image(self) -> KernelImage:
        """The kernel with its symbols where they are at run time."""
        return replace(self.image, symbols={name: self.running(name) for name in self.image.symbols})

    def _relocate(self) -> None:
        """Move the pointers that the compiler put into variables along with the kernel."""
        for name, reference in self.image.variables.items():
            address = self.image.symbols.get(name)
            if address is not None and self.machine.linked <= address < self.image.end:
                for at in self._pointers(reference, address):
                    value = self.read_pointer(at)
                    if self.machine.linked <= value < self.image.end:
                        self.write(at, (value + self.displacement).to_bytes(8, "big"))

    def _pointers(self, reference: TypeReference, address: int) -> Iterator[int]:
        """Addresses of the pointers in a variable; what a union shares is taken once."""
        waiting, seen = [(reference, address)], set()
        while waiting:
            inner, at = waiting.pop()
            if inner["kind"] == "pointer" and at not in seen:
                seen.add(at)
                yield at
            elif inner["kind"] == "array" and inner["subtype"]["kind"] != "base":
                step = self.types.size(inner["subtype"])
                waiting += [(inner["subtype"], at + index * step) for index in range(inner["count"])]
            elif inner["kind"] in ("struct", "union"):
                fields = self.types.types.user_types.get(inner["name"], {}).get("fields", {})
                waiting += [(one["type"], at + one["offset"]) for one in fields.values()]

    def cast(self, type_name: str | TypeReference, va: int) -> Object:
        """What is at `va`, as a type."""
        return Object(self, self.types.parse(type_name), int(va))

    # Dumps

    def minidump(self, version: int | None = None, **changes: Any) -> Minidump:
        """A minidump, of the newest version unless told otherwise. Pages of processes are left out."""
        machine = self.machine
        if machine.arch == "powerpc64":
            changes.setdefault("mmu_name", "mmu_radix")
        if machine.arch == "i386":
            changes.setdefault("paemode", True)
        return build_minidump(
            machine.arch,
            version or machine.minidumps[-1],
            self.physical,
            self.mappings,
            dump_avail=machine.dump_avail,
            dumped=set(self.physical.pages) - self.user_pages,
            message_buffer=self.message_buffer,
            kernbase=machine.kernbase,
            kernel_end=machine.kernel_end,
            **({"dmapphys": machine.ram[0], "dmapbase": machine.dmap} if machine.dmap else {}),
            **changes,
        )

    def with_page_tables(self) -> PhysicalMemory:
        """Physical memory with the hardware's page tables, and the symbols that lead to them, set."""
        machine = self.machine
        assert machine.tables is not None
        memory = self.physical.copy()
        mappings = list(self.mappings)
        if machine.dmap is not None:
            low, high = machine.ram
            mappings.append(Mapping(machine.dmap, low, high - low, leaf=machine.superpage))
        root = machine.tables(memory, mappings)
        for name in machine.root_symbols:
            self._set_word(memory, name, root)
        for name in machine.table_symbols:
            memory.write(self.pa_of(self.image.symbols[name]), memory.read(root, machine.page_size))
        if machine.arch == "amd64" and self.image.symbols.get("kernphys", 0) > machine.linked:
            self._set_word(memory, "kernphys", self.kernphys)
        if "pae_mode" in self.image.symbols:
            self._set_word(memory, "pae_mode", 1)
        return memory

    def _set_word(self, memory: PhysicalMemory, name: str, value: int) -> None:
        size = self.image.sizes.get(name) or self.types.pointer_size
        memory.write_integer(self.pa_of(self.image.symbols[name]), value, size, self.machine.byteorder)

    def full_dump(self) -> bytes:
        """A full dump: an ELF core of all physical memory."""
        delta = (self.machine.linked, self.kernphys) if self.machine.arch == "arm" else None
        return elfcore.full_dump(self.with_page_tables(), self.machine.dump_avail, self.machine.arch, delta=delta)

    def raw_image(self) -> bytes:
        """All of physical memory from address 0 of its RAM on; holes are zero."""
        memory = self.with_page_tables()
        low, high = self.machine.ram
        image = bytearray(high - low)
        for pa, page in memory.pages.items():
            image[pa - low : pa - low + len(page)] = page
        return bytes(image)

    def partition(self, **options: Any) -> bytes:
        """A dump partition that holds the minidump between its two headers; see `kerneldump.partition`."""
        return kerneldump.partition(self.minidump().data, architecture=self.machine.arch, **options)
