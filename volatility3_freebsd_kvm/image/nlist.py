"""Kernel names to addresses, as libkvm's ``kvm_nlist`` does it, for any vnet, any CPU and any module.

# Reference: lib/libkvm/kvm.c (_kvm_nlist, kvm_fdnlist_prefix), kvm_vnet.c, kvm_pcpu.c, lib/libc/gen/nlist.c
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ..exceptions import AddressError, KVMError, SymbolError
from .linker import LinkerFile, linker_files, module_symbols
from .structs import Structs
from .symbols import Symbol, SymbolTable
from .vnet import Cpu, Vnet, VnetList, find_cpus, find_vnets

KERNEL = "kernel"
VNET_PREFIX, DPCPU_PREFIX = "vnet_entry_", "pcpu_entry_"


@dataclass(frozen=True)
class Resolved:
    """What became of one name.

    Attributes:
        name: as it was asked for.
        kind: ``plain``, ``vnet``, ``dpcpu``, ``kld`` (plain, of a module) or empty: not found.
        symbol: the symbol that was found, with its prefix.
        module: ``kernel`` or the module's file name.
        address: where the variable is: for this vnet, on this CPU.
        template: what the symbol table says; another address than `address` for ``vnet`` and ``dpcpu``.
        size: in bytes, 0 where the symbol table does not know it.
        is_function: whether it is code.
        vnet: whose variable this is.
        cpu: of which CPU.
        note: why there is no address.
    """

    name: str
    kind: str = ""
    symbol: str = ""
    module: str = ""
    address: int | None = None
    template: int | None = None
    size: int = 0
    is_function: bool = False
    vnet: Vnet | None = None
    cpu: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Location:
    """A symbol and how far behind it an address lies; as text ``module!symbol+0x10``."""

    module: str
    symbol: Symbol
    offset: int
    vnet: Vnet | None = None
    cpu: int | None = None

    def __str__(self) -> str:
        return f"{self.module}!{self.symbol.name}" + (f"+{self.offset:#x}" if self.offset else "")


@dataclass(frozen=True)
class _Set:
    """Where the templates of VNET or DPCPU variables are at run time: ``[start, stop)``."""

    start: int
    stop: int

    def holds(self, address: int) -> bool:
        """Whether a template is in the set; what is not is not rebased (``_kvm_vnet_validaddr``)."""
        return self.start <= address < self.stop


class Names:
    """The names of a kernel and its modules.

    Attributes:
        symbols: the kernel's own symbols.
        structs: its memory and types.
        kerndisp: how far from where it is linked the kernel runs; see `kvm.Dump.kerndisp`.
    """

    def __init__(self, symbols: SymbolTable, structs: Structs, kerndisp: int = 0) -> None:
        """Nothing is read before it is asked for."""
        self.symbols = symbols
        self.structs = structs
        self.kerndisp = kerndisp
        self._mask = (1 << 8 * structs.word_size) - 1
        self._modules: dict[int, SymbolTable] = {}

    def value(self, name: str) -> int | None:
        """The value of a kernel symbol by its exact name."""
        return self.symbols.value(name)

    # What can be chosen

    @property
    def vnets(self) -> tuple[Vnet, ...]:
        """Every virtual network stack, the host's first; none on a kernel without VIMAGE."""
        return self._vnet_list.vnets

    @property
    def vnet_problems(self) -> tuple[str, ...]:
        """What is irregular about the kernel's list of vnets, one clause each."""
        return self._vnet_list.problems

    @cached_property
    def _vnet_list(self) -> VnetList:
        return find_vnets(self.structs, self.symbols.value, self.kerndisp)

    @cached_property
    def cpus(self) -> list[Cpu]:
        """Every CPU that has per-CPU data."""
        return find_cpus(self.structs, self.symbols)

    @cached_property
    def modules(self) -> list[LinkerFile]:
        """The files of the kernel linker but the kernel itself."""
        kernel = self.symbols.value("linker_kernel_file")
        try:
            own = self.structs.pointer(kernel) if kernel else 0
        except AddressError:
            own = 0
        return [file for file in self.linker_files if file.address != own]

    @cached_property
    def linker_files(self) -> list[LinkerFile]:
        """The files of the kernel linker; empty where the kernel's types do not know them."""
        try:
            return list(linker_files(self.structs, self.symbols.value))
        except KVMError:
            return []

    def module_symbols(self, file: LinkerFile) -> SymbolTable:
        """A module's symbols at the addresses it runs at; empty where they cannot be had."""
        if file.address not in self._modules:
            try:
                self._modules[file.address] = module_symbols(self.structs, file)
            except KVMError:
                self._modules[file.address] = SymbolTable()
        return self._modules[file.address]

    def vnet(self, which: int | str | None = None) -> Vnet:
        """A vnet by jail id, jail name or address; None gives the host's.

        An integer is a jail id, or an address if there is a vnet at it; text may be either or a jail's name.

        Raises:
            SymbolError: there is none.
        """
        if which is None and self.vnets:
            return self.vnets[0]
        number = _number(which)
        for vnet in self.vnets:
            if number == vnet.address or number in vnet.jids or (isinstance(which, str) and which in vnet.jail_names):
                return vnet
        known = ", ".join(str(vnet) for vnet in self.vnets) or "none (a kernel without VIMAGE, or not readable)"
        msg = f"there is no vnet {which}; there are: {known}" if which is not None else f"there are no vnets: {known}"
        raise SymbolError(msg)

    def cpu(self, number: int = 0) -> Cpu:
        """A CPU by its id.

        Raises:
            SymbolError: it has no per-CPU data.
        """
        for cpu in self.cpus:
            if cpu.cpuid == number:
                return cpu
        known = ", ".join(str(cpu.cpuid) for cpu in self.cpus) or "none (not readable)"
        msg = f"CPU {number} has no per-CPU data; those that have: {known}"
        raise SymbolError(msg)

    # Names to addresses

    def nlist(
        self, names: Iterable[str], vnet: int | str | Vnet | None = None, cpu: int | None = None
    ) -> list[Resolved]:
        """Resolve names: plain, then as VNET variables, then as DPCPU variables, then in each module likewise.

        A name may have one leading underscore more than the symbol, and may be qualified: ``if_epair.ko!epair_cloner``.

        Args:
            names: the names.
            vnet: whose VNET variables; see `vnet`.
            cpu: whose DPCPU variables; CPU 0 unless told.

        Returns:
            One result for each name, in their order; `Resolved.kind` is empty where there is none.

        Raises:
            SymbolError: there is no such vnet or CPU.
        """
        chosen = vnet if isinstance(vnet, Vnet) or vnet is None else self.vnet(vnet)
        if cpu is not None:
            self.cpu(cpu)
        return [self._resolve(name, chosen, cpu or 0) for name in names]

    def running(self, found: Resolved) -> int:
        """Where a variable is at run time: what pointers to it say. A displaced kernel's symbols say otherwise.

        Raises:
            SymbolError: it was not found.
        """
        if found.address is None:
            raise SymbolError(found.note)
        return found.address + (self.kerndisp if found.kind == "plain" else 0)

    def address(self, name: str, vnet: int | str | Vnet | None = None, cpu: int | None = None) -> int:
        """The address of one name.

        Raises:
            SymbolError: there is none.
        """
        found = self.nlist([name], vnet, cpu)[0]
        if found.address is None:
            raise SymbolError(found.note)
        return found.address

    def _resolve(self, name: str, vnet: Vnet | None, cpu: int) -> Resolved:
        module, _, plain = name.rpartition("!")
        unavailable = None
        for owner, table in self._tables(module):
            found = self._in_table(table, owner, plain, vnet, cpu)
            if found is not None:
                found = replace(found, name=name)
                if found.address is not None:
                    return found
                unavailable = unavailable or found
        if unavailable:
            return unavailable
        where = f"module {module}" if module else "the kernel and its modules"
        return Resolved(name, note=f"{where} {'has' if module else 'have'} no symbol {plain}")

    def _tables(self, module: str) -> Iterator[tuple[str, SymbolTable]]:
        if module in ("", KERNEL):
            yield KERNEL, self.symbols
        if module != KERNEL:
            for file in self.modules:
                if module in ("", file.filename, file.filename.removesuffix(".ko")):
                    yield file.filename, self.module_symbols(file)

    def _in_table(self, table: SymbolTable, module: str, name: str, vnet: Vnet | None, cpu: int) -> Resolved | None:
        plain = table.find(name)
        if plain is not None:
            kind = "plain" if module == KERNEL else "kld"
            code = plain.kind in ("function", "ifunc")
            return Resolved(name, kind, plain.name, module, plain.value, plain.value, plain.size, code)
        # libkvm takes one leading underscore away; variables whose own name has one are found as they are, too.
        for bare in dict.fromkeys((name[1:] if name.startswith("_") else name, name)):
            for kind, prefix, copy in (("vnet", VNET_PREFIX, self._vnet_copy), ("dpcpu", DPCPU_PREFIX, self._cpu_copy)):
                symbol = table.find(prefix + bare)
                if symbol is not None:
                    result = Resolved(name, kind, symbol.name, module, None, symbol.value, symbol.size)
                    return copy(result, vnet, cpu)
        return None

    def _vnet_copy(self, result: Resolved, vnet: Vnet | None, _cpu: int) -> Resolved:
        templates = self._sets.get(VNET_PREFIX)
        if templates is None:
            return replace(result, note="the kernel's symbols do not say where the VNET templates are (set_vnet)")
        try:
            vnet = vnet or self.vnet()
        except SymbolError as error:
            return replace(result, note=str(error))
        return replace(result, address=self._rebased(result, templates, vnet.data_base), vnet=vnet)

    def _cpu_copy(self, result: Resolved, _vnet: Vnet | None, cpu: int) -> Resolved:
        templates = self._sets.get(DPCPU_PREFIX)
        if templates is None:
            return replace(result, note="the kernel's symbols do not say where the DPCPU templates are (set_pcpu)")
        try:
            base = self.cpu(cpu).data_base
        except SymbolError as error:
            return replace(result, note=str(error))
        return replace(result, address=self._rebased(result, templates, base), cpu=cpu)

    def _rebased(self, result: Resolved, templates: _Set, base: int) -> int:
        """The variable's address in the copy that ``base`` leads to.

        Bases were computed from where the templates are at run time; modules' symbols are such addresses already.
        """
        template = result.template or 0
        running = template + (self.kerndisp if result.module == KERNEL else 0)
        return (running + base) & self._mask if template and templates.holds(running) else template

    @cached_property
    def _sets(self) -> dict[str, _Set]:
        found = {}
        for prefix, name in ((VNET_PREFIX, "set_vnet"), (DPCPU_PREFIX, "set_pcpu")):
            start, stop = (self.symbols.value(f"__{edge}_{name}") for edge in ("start", "stop"))
            if start is not None and stop is not None:
                found[prefix] = _Set(start + self.kerndisp, stop + self.kerndisp)
        return found

    # Addresses to names

    def lookup(self, address: int) -> Location | None:
        """The symbol that an address is in: of the kernel, of a module, or of a vnet's or CPU's copy of a variable."""
        found = self._lookup_linked(address)
        if found is not None:
            return found
        for vnet in self.vnets:
            if (copy := self._lookup_copy(VNET_PREFIX, address - vnet.data_base)) is not None:
                return replace(copy, vnet=vnet)
        for cpu in self.cpus:
            if (copy := self._lookup_copy(DPCPU_PREFIX, address - cpu.data_base)) is not None:
                return replace(copy, cpu=cpu.cpuid)
        return None

    def _lookup_copy(self, prefix: str, template: int) -> Location | None:
        templates = self._sets.get(prefix)
        template &= self._mask
        return self._lookup_linked(template) if templates and templates.holds(template) else None

    def _lookup_linked(self, address: int) -> Location | None:
        for file in self.modules:
            if _holds(file, address) and (hit := self.module_symbols(file).lookup(address)) is not None:
                return Location(file.filename, *hit)
        hit = self.symbols.lookup(address)
        if hit is None and self.kerndisp:
            hit = self.symbols.lookup(address - self.kerndisp)
        if hit is None:
            return None
        if not hit[0].size and any(_holds(file, address) for file in self.modules):
            return None
        return Location(KERNEL, *hit)


def _holds(file: LinkerFile, address: int) -> bool:
    if file.base <= address < file.base + file.size:
        return True
    inside = any(start <= address < start + size for _, start, size in file.sections)
    # The module's templates are within the kernel's own set.
    return inside or any(base <= address < base + stop - start for start, stop, base in file.sets.values())


def _number(which: int | str | None) -> int | None:
    if isinstance(which, str):
        try:
            return int(which, 0)
        except ValueError:
            return None
    return which
