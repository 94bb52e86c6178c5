"""Where the builders meet: the memory, what has been made so far, and the vnets and CPUs with their own variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.writers.kernel_memory import KernelMemory
from tests.writers.objects import Object, addressof

from .model import System

VNET_MAGIC = {True: 0x5E4A6F28, False: 0x3E0D8F29}
"""`vnet_magic_n` by whether the kernel is 14 or later."""


class World:
    """A system on its way into memory.

    Builders come in two phases: ``create`` makes the objects of a topic and enters them with `put`; ``connect`` fills
    in what leads to objects of other topics, which all exist by then.

    Attributes:
        memory: Where it goes.
        system: What is to be there.
        release: Whose shapes the types have: 12.1, 13.0 (of April 2019), 14 or 15.
    """

    def __init__(self, memory: KernelMemory, system: System, release: str) -> None:
        self.memory = memory
        self.system = system
        self.release = release
        self._objects: dict[tuple[str, Any], Object] = {}
        self._vnet_bases: dict[int, int] = {}
        self._cpu_bases: dict[int, int] = {}

    @property
    def arch(self) -> str:
        """The architecture."""
        return self.memory.machine.arch

    @property
    def new(self) -> Callable[..., Object]:
        """`KernelMemory.new`."""
        return self.memory.new

    # Objects by what the description calls them

    def put(self, kind: str, key: Any, obj: Object) -> Object:
        """Enter an object; `kind` is the C tag or a name of the builder's own."""
        if (kind, key) in self._objects:
            raise ValueError(f"there is a {kind} {key} already")
        self._objects[kind, key] = obj
        return obj

    def get(self, kind: str, key: Any) -> Object:
        """The object entered as `key`."""
        return self._objects[kind, key]

    def find(self, kind: str, key: Any) -> Object | int:
        """The object entered as `key`, or 0 (NULL) for an empty key or one that was never made."""
        return self._objects.get((kind, key), 0)

    def all(self, kind: str) -> dict[Any, Object]:
        """Every object of a kind, by key, in the order of making."""
        return {key: obj for (what, key), obj in self._objects.items() if what == kind}

    # Types and symbols

    def has_type(self, name: str) -> bool:
        """Whether this kernel has a structure or union of that name."""
        return self.memory.types.has(name)

    def has(self, type_name: str, member: str) -> bool:
        """Whether structure `type_name` has `member`: builders ask this, never the release."""
        return self.memory.types.has_member(type_name, member)

    def has_symbol(self, name: str) -> bool:
        """Whether the kernel has a variable of that name whose type is known."""
        return name in self.memory.image.symbols and name in self.memory.image.variables

    def symbol(self, name: str) -> Object:
        """A global variable."""
        return self.memory.symbol(name)

    def function(self, name: str, default: str = "kernel_function") -> int:
        """The address of a function, or of a stand-in where this kernel has no such function."""
        symbols = self.memory.image.symbols
        found = name if name in symbols else default
        return self.memory.running(found) if found in symbols else 0

    # Vnets

    def add_vnet(self, jid: int) -> Object:
        """The `struct vnet` of a jail (0: the host), with its own copy of all VNET variables."""
        start, stop = (self.memory.running(f"__{edge}_set_vnet") for edge in ("start", "stop"))
        data = self.memory.allocate(stop - start, align=64)
        self.memory.write(data, self.memory.read(start, stop - start))
        self._vnet_bases[jid] = data - start
        modulus = 1 << 8 * self.memory.types.pointer_size
        vnet = self.new(
            "struct vnet",
            vnet_magic_n=VNET_MAGIC[self.release >= "14"],
            vnet_data_mem=data,
            vnet_data_base=(data - start) % modulus,
        )
        return self.put("vnet", jid, vnet)

    def vnet_symbol(self, jid: int, name: str) -> Object:
        """The variable ``V_name`` of a vnet."""
        return self._variable("vnet_entry_" + name, self._vnet_bases[jid])

    def vnet_of(self, jid: int) -> int:
        """The jid of the jail whose vnet a jail uses."""
        jails = {jail.jid: jail for jail in self.system.jails}
        while jid and not jails[jid].vnet:
            jid = jails[jid].parent
        return jid

    # CPUs

    def add_cpu(self, cpuid: int) -> None:
        """A copy of all DPCPU variables, entered in ``dpcpu_off``."""
        start, stop = (self.memory.running(f"__{edge}_set_pcpu") for edge in ("start", "stop"))
        data = self.memory.allocate(stop - start, align=64)
        self.memory.write(data, self.memory.read(start, stop - start))
        self._cpu_bases[cpuid] = data - start
        self.symbol("dpcpu_off")[cpuid] = (data - start) % (1 << 8 * self.memory.types.pointer_size)

    def dpcpu_symbol(self, cpuid: int, name: str) -> Object:
        """The DPCPU variable `name` of a CPU."""
        return self._variable("pcpu_entry_" + name, self._cpu_bases[cpuid])

    def _variable(self, symbol: str, base: int) -> Object:
        template = self.memory.symbol(symbol)
        return self.memory.cast(template._type, addressof(template) + base)
