"""What VNET and DPCPU variables are rebased by: virtual network stacks and CPUs.

# Reference: sys/net/vnet.c, vnet.h (struct vnet), sys/kern/kern_jail.c, sys/kern/subr_pcpu.c (dpcpu_off)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..exceptions import AddressError, SymbolError
from .chain import Chain
from .structs import Structs
from .symbols import SymbolTable

VNET_MAGICS = (0x3E0D8F29, 0x5E4A6F28)
"""VNET_MAGIC_N to 13, and from 14 on."""
MAX_VNETS = 1 << 16
MAX_CPUS = 4096
MAX_JAIL_NAME = 256
_MAX_PROBLEMS = 64
# Without types: where vnet_magic_n, vnet_data_mem and vnet_data_base are, by word size; the last one up to 10.
_KNOWN_LAYOUTS = {8: ((0x10, 0x20, 0x28),), 4: ((0x8, 0x18, 0x1C), (0x8, 0x14, 0x18))}


@dataclass(frozen=True)
class Vnet:
    """A virtual network stack.

    Attributes:
        address: of its ``struct vnet``.
        data_base: what is added to the address of a template, modulo the word size.
        jails: ``(jid, name)`` of each jail that uses it; known only with types. Jail 0 is the host.
        problem: what is wrong with it, if anything.
    """

    address: int
    data_base: int
    jails: tuple[tuple[int, str], ...] = ()
    problem: str = ""

    @property
    def jids(self) -> tuple[int, ...]:
        """The ids of its jails."""
        return tuple(jid for jid, _ in self.jails)

    @property
    def jail_names(self) -> tuple[str, ...]:
        """The names of its jails."""
        return tuple(name for _, name in self.jails)

    def __str__(self) -> str:
        owners = ", ".join(f"jail {jid} {name}" if jid else "host" for jid, name in self.jails)
        return f"{self.address:#x}" + (f" ({owners})" if owners else "")


@dataclass(frozen=True)
class Cpu:
    """A CPU with per-CPU data.

    Attributes:
        cpuid: its number.
        data_base: ``dpcpu_off[cpuid]``, which is added to the address of a template.
        pcpu: address of its ``struct pcpu``, 0 where it is not known.
    """

    cpuid: int
    data_base: int
    pcpu: int = 0


@dataclass(frozen=True)
class VnetList:
    """The vnets of a kernel.

    Attributes:
        vnets: the host's first, then those of ``vnet_head``.
        problems: what was irregular about ``vnet_head``, one clause each.
    """

    vnets: tuple[Vnet, ...]
    problems: tuple[str, ...]


def find_vnets(structs: Structs, value: Callable[[str], int | None], kerndisp: int = 0) -> VnetList:
    """Every vnet; what has not the magic number of one is left out and told.

    Args:
        structs: the kernel's memory; its types may be unknown.
        value: gives the value of a kernel symbol.
        kerndisp: how far from where it is linked the kernel runs.
    """
    finder = _Vnets(structs, value, kerndisp)
    vnets = tuple(finder.find())
    return VnetList(vnets, tuple(finder.problems))


@dataclass
class _Vnets:
    structs: Structs
    value: Callable[[str], int | None]
    kerndisp: int
    jails: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def find(self) -> Iterator[Vnet]:
        start = self.value("__start_set_vnet")
        if start is None:
            return
        self.jails = self._jails_by_vnet()
        host = self._host()
        for address in dict.fromkeys(([host] if host else []) + self._listed()):
            vnet = self._vnet(address, start + self.kerndisp)
            if vnet is not None:
                yield vnet
            elif len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(f"there is no vnet at {address:#x}: no magic number can be read there")

    def _listed(self) -> list[int]:
        """The elements of ``vnet_head``."""
        head = self.value("vnet_head")
        if head is None:
            return []
        following = self.structs.offset("vnet", "vnet_le") if self.structs.has("vnet", "vnet_le") else 0
        chain = Chain(
            lambda: self.structs.pointer(head), lambda address: self.structs.pointer(address + following),
            limit=MAX_VNETS, alignment=self.structs.word_size,
        )  # fmt: skip
        found = list(chain)
        self.problems += [chain.problem] if chain.problem else []
        return found

    def _host(self) -> int:
        """``vnet0``, or the vnet of process 0's jail, as libkvm has it."""
        structs = self.structs
        try:
            vnet0 = self.value("vnet0")
            found = structs.pointer(vnet0) if vnet0 else 0
            proc0 = self.value("proc0")
            if found or not proc0:
                return found
            prison = structs.value(structs.value(proc0, "proc", "p_ucred"), "ucred", "cr_prison")
            return structs.value(prison, "prison", "pr_vnet")
        except (AddressError, SymbolError):
            return 0

    def _vnet(self, address: int, start: int) -> Vnet | None:
        """The vnet at an address; None if it has no magic number there."""
        found = [values for layout in self._layouts() if (values := self._read(address, layout)) is not None]
        if not found:
            return None
        mask = (1 << 8 * self.structs.word_size) - 1
        consistent = [base for memory, base in found if base == (memory - start) & mask]
        problem = "" if consistent else "vnet_data_base is not vnet_data_mem less the start of set_vnet"
        return Vnet(address, consistent[0] if consistent else found[0][1], tuple(self.jails.get(address, ())), problem)

    def _read(self, address: int, layout: tuple[int, int, int]) -> tuple[int, int] | None:
        """``(vnet_data_mem, vnet_data_base)``."""
        at_magic, at_memory, at_base = layout
        try:
            if self.structs.uint(address + at_magic, 4) in VNET_MAGICS:
                return self.structs.pointer(address + at_memory), self.structs.pointer(address + at_base)
        except AddressError:
            pass
        return None

    def _layouts(self) -> tuple[tuple[int, int, int], ...]:
        names = ("vnet_magic_n", "vnet_data_mem", "vnet_data_base")
        if all(self.structs.has("vnet", name) for name in names):
            at_magic, at_mem, at_base = (self.structs.offset("vnet", name) for name in names)
            return ((at_magic, at_mem, at_base),)
        return _KNOWN_LAYOUTS[self.structs.word_size]

    def _jails_by_vnet(self) -> dict[int, list[tuple[int, str]]]:
        found: dict[int, list[tuple[int, str]]] = {}
        for address in dict.fromkeys(self._prisons()):
            try:
                vnet = self.structs.value(address, "prison", "pr_vnet")
                jid = self.structs.value(address, "prison", "pr_id")
                name = self.structs.string(address + self.structs.offset("prison", "pr_name"), MAX_JAIL_NAME)
            except (AddressError, SymbolError):
                continue
            found.setdefault(vnet, []).append((jid, name.decode("utf-8", "replace")))
        return found

    def _prisons(self) -> Iterator[int]:
        prison0, head = self.value("prison0"), self.value("allprison")
        if prison0:
            yield prison0
        if head is not None and self.structs.has("prison", "pr_list"):
            following = self.structs.offset("prison", "pr_list")
            yield from Chain(
                lambda: self.structs.pointer(head), lambda address: self.structs.pointer(address + following),
                alignment=self.structs.word_size,
            )  # fmt: skip


def find_cpus(structs: Structs, symbols: SymbolTable) -> list[Cpu]:
    """The CPUs that have per-CPU data: whose entry in ``dpcpu_off`` is not 0."""
    offsets = symbols.get("dpcpu_off")
    if offsets is None:
        return []
    count = offsets.size // structs.word_size or _configured_cpus(structs, symbols)
    pcpus = symbols.value("cpuid_to_pcpu")
    found = []
    for cpuid in range(min(count, MAX_CPUS)):
        at = cpuid * structs.word_size
        try:
            base = structs.pointer(offsets.value + at)
        except AddressError:
            break
        if base:
            found.append(Cpu(cpuid, base, _pointer_or_0(structs, pcpus + at) if pcpus else 0))
    return found


def _configured_cpus(structs: Structs, symbols: SymbolTable) -> int:
    """``mp_maxid`` + 1, where the size of the table is not known."""
    maxid = symbols.value("mp_maxid")
    try:
        return structs.uint(maxid, 4) + 1 if maxid else 1
    except AddressError:
        return 1


def _pointer_or_0(structs: Structs, address: int) -> int:
    try:
        return structs.pointer(address)
    except AddressError:
        return 0
