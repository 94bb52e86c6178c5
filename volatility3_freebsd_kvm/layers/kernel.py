"""The kernel's address space, as a framework layer, for every architecture.

Minidumps bring their own page map; over full dumps the kernel's page tables are walked from ``page_map_offset``. Either
way it is `kvm` that translates, and reads go straight to the file: one dictionary look-up and one slice for a page that
was seen before.

On amd64 and i386 the layers are `Intel` layers for the framework, so that other people's plugins take them for such.
"""

from __future__ import annotations

import collections
import collections.abc
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from volatility3 import classproperty
from volatility3.framework import constants, exceptions, interfaces
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import intel

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.kvm.pagemap import PageMap, amd64, arm, arm64, i386, riscv
from volatility3_freebsd_kvm.kvm.physical import PhysicalMemory
from volatility3_freebsd_kvm.kvm.space import AddressSpace
from volatility3_freebsd_kvm.layers.container import reader_of
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer, Mapping
from volatility3_freebsd_kvm.layers.scanning import StretchScanLayer

_TOP = 1 << 64
_PAGE_BITS = 12


class FreeBSDKernelLayer(StretchScanLayer):
    """Kernel virtual memory of a dump.

    Attributes:
        virtual_bits: significant bits of an address. Of the framework's `Intel32e` that is 48: addresses are accepted
            with and without their sign extension and come back as they were given.
    """

    virtual_bits: ClassVar[int] = 64

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Stand on the layer that ``memory_layer`` names."""
        super().__init__(context=context, config_path=config_path, name=name, metadata=metadata)
        self._memory_layer = str(self.config["memory_layer"])
        self._dump: kvm.Dump | None = None
        self._space: AddressSpace | None = None
        self._low_half = 1 << (self.virtual_bits - 1)
        self._fold = _TOP - (1 << self.virtual_bits) if 32 < self.virtual_bits < 64 else 0

    @property
    def space(self) -> AddressSpace:
        """The address space behind this layer.

        Raises:
            kvm.KVMError: the dump below cannot be used.
        """
        if self._space is None:
            self._space = self._open()
        return self._space

    @property
    def dump(self) -> kvm.Dump:
        """The dump: of the layer below or, for an ELF core of virtual memory, the file that this layer stands on."""
        below = self._context.layers[self._memory_layer]
        if isinstance(below, FreeBSDDumpLayer):
            return below.dump
        if self._dump is None:
            self._dump = kvm.open(reader_of(below))
        return self._dump

    def destroy(self) -> None:
        """Close the dump, if it is this layer's own."""
        if self._dump is not None:
            self._dump.close()

    def _open(self) -> AddressSpace:
        dump = self.dump
        root = int(str(self.config.get("page_map_offset") or 0))
        tables = self.page_tables(dump.physical, root) if root else None
        return AddressSpace(dump.physical, tables) if tables else dump.kernel

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap | None:
        """The kernel's own page tables from ``root`` on; None where the dump brings its page map."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open dump."""
        return {**self.__dict__, "_dump": None, "_space": None}

    # Addresses

    def canonicalize(self, addr: int) -> int:
        """The full address for one that may lack its sign extension."""
        return self._virtual(addr)

    def _virtual(self, offset: int) -> int:
        if self._fold and self._low_half <= offset < self._low_half << 1:
            return offset + self._fold
        return offset

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """``(start, end, delta)`` of full addresses, where ``address - delta`` is what the caller would call it."""
        end = offset + length
        if not self._fold:
            delta = self.space.page_map.displacement(offset)
            yield max(offset, 0) + delta, min(end + delta, _TOP), delta
            return
        for low, high, delta in (
            (0, self._low_half, 0),
            (self._low_half, self._low_half << 1, self._fold),
            (self._low_half << 1, _TOP, 0),
        ):
            start, stop = max(offset, low), min(end, high)
            if start < stop:
                yield start + delta, stop + delta, delta

    @property
    def minimum_address(self) -> int:
        """The lowest address that can be mapped."""
        return 0

    @property
    def maximum_address(self) -> int:
        """The highest address that can be mapped."""
        return (1 << self.virtual_bits) - 1

    @property
    def dependencies(self) -> list[str]:
        """The physical layer, or the file of a virtual-address ELF."""
        return [self._memory_layer]

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The same as those of the framework's Intel layers, so that saved configurations look alike."""
        return [
            requirements.TranslationLayerRequirement(name="memory_layer", optional=False),
            requirements.IntRequirement(name="page_map_offset", optional=False),
            requirements.IntRequirement(name="kernel_virtual_offset", optional=True),
            requirements.StringRequirement(name="kernel_banner", optional=True),
        ]

    # Bytes

    # The framework keeps the last 512 results, of any size; ours are cheap to make again.
    def read(self, offset: int, length: int, pad: bool = False) -> bytes:  # type: ignore[override]
        """Read kernel memory; see the framework for ``pad``."""
        space = self._space or self.space
        va = offset + self._fold if self._low_half <= offset < self._low_half << 1 else offset
        try:
            return space.read(va, length)
        except kvm.AddressError as error:
            if not pad:
                raise self._fault(error, offset + error.address - va) from None
        return self._read_padded(offset, length)

    def _read_padded(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        for start, end, delta in self._pieces(offset, length):
            for va, run in self.space.readable(start, end):
                at = va - delta - offset
                data[at : at + run.length] = self.space.physical.read(run.pa, run.length)
        return bytes(data)

    def _fault(self, error: kvm.AddressError, offset: int) -> exceptions.InvalidAddressException:
        """The framework's exception; a missing translation is a page fault, a missing page is not."""
        if isinstance(error, kvm.NotMappedError):
            return exceptions.PagedInvalidAddressException(self.name, offset, _PAGE_BITS, 0, str(error))
        return exceptions.InvalidAddressException(self.name, offset, str(error))

    def write(self, offset: int, value: bytes) -> None:
        """Refused: a dump is evidence."""
        raise exceptions.LayerException(self.name, f"{self.name} is a dump and cannot be written")

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Whether all of ``length`` bytes are translated, dumped and within the file."""
        try:
            if length <= self.space.page_size:
                self.space.read(self._virtual(offset), max(length, 1))
            else:
                collections.deque(self.mapping(offset, length), maxlen=0)
        except (kvm.AddressError, exceptions.InvalidAddressException):
            return False
        return True

    def mapping(self, offset: int, length: int, ignore_errors: bool = False) -> Iterable[Mapping]:
        """Where the bytes are in the layer below: only bytes that can be read, and all of them.

        Pages that are missing within a superpage or the direct map are left out one by one.
        """
        if not length:
            return self._one(offset, ignore_errors)
        return self._ranges(offset, length, ignore_errors)

    def _one(self, offset: int, ignore_errors: bool) -> Iterator[Mapping]:
        try:
            pa, file_offset = self.space.locate(self._virtual(offset))
        except kvm.AddressError as error:
            if ignore_errors:
                return
            raise self._fault(error, offset) from None
        yield offset, 0, pa if self.space.physical.is_physical else file_offset, 0, self._memory_layer

    def _ranges(self, offset: int, length: int, ignore_errors: bool) -> Iterator[Mapping]:
        position, limit = offset, offset + length
        physical = self.space.physical.is_physical
        for start, end, delta in self._pieces(offset, length):
            for va, run in self.space.readable(start, end):
                if not ignore_errors and va - delta != position:
                    self._raise_fault(position)
                position = va - delta + run.length
                yield va - delta, run.length, run.pa if physical else run.offset, run.length, self._memory_layer
        if not ignore_errors and position < limit:
            self._raise_fault(position)

    def _raise_fault(self, offset: int) -> None:
        try:
            self.space.locate(self._virtual(offset))
        except kvm.AddressError as error:
            raise self._fault(error, offset) from None

    def scan(
        self,
        context: interfaces.context.ContextInterface,
        scanner: interfaces.layers.ScannerInterface,
        progress_callback: constants.ProgressCallback = None,
        sections: Iterable[tuple[int, int]] | None = None,
    ) -> Iterable[Any]:
        """Scan; sections may be given with or without their sign extension, results come without it."""
        if sections is not None and self._fold:
            sections = [
                (start - self._fold if start >= self._low_half << 1 else start, size) for start, size in sections
            ]
        return super().scan(context, scanner, progress_callback, sections)


def _metadata(
    architecture: str,
    inherited: collections.abc.Mapping[str, Any] = interfaces.layers.TranslationLayerInterface._direct_metadata,
) -> collections.ChainMap[str, Any]:
    """What the framework asks layers for; a layer's own words come before those of the layers below."""
    return collections.ChainMap({"os": "FreeBSD", "architecture": architecture, "mapped": True}, dict(inherited))


class _IntelKernelLayer(FreeBSDKernelLayer, intel.Intel):
    """What the Intel variants share: the framework's inner interface, answered from our own translation."""

    @classproperty
    def minimum_address(cls) -> int:
        """The lowest address that can be mapped; asked of the class as well."""
        return 0

    @classproperty
    def maximum_address(cls) -> int:
        """The highest address that can be mapped, without the sign extension."""
        return (1 << cls._maxvirtaddr) - 1

    def _kvatop(self, offset: int) -> int:
        try:
            return self.space.page_map.kvatop(self._virtual(offset))
        except kvm.AddressError as error:
            raise exceptions.PagedInvalidAddressException(self.name, offset, _PAGE_BITS, 0, str(error)) from None

    def _translate_entry(self, page_address: int) -> tuple[int, int]:  # type: ignore[override]
        """A page table entry for the page, and the highest bit of its offset, as the framework's walker has them."""
        return (self._kvatop(page_address) & self.page_mask) | self._PAGE_PRESENT, _PAGE_BITS - 1

    def _translate(self, offset: int) -> tuple[int, int, str]:
        """``(mapped offset, bytes in the page, layer)``."""
        pa = self._kvatop(offset)
        if not self.space.physical.is_physical:
            return self.space.physical.locate(pa), 1 << _PAGE_BITS, self._memory_layer
        return pa, 1 << _PAGE_BITS, self._memory_layer

    def _mapping(self, offset: int, length: int, ignore_errors: bool = False) -> Iterable[Mapping]:
        return self.mapping(offset, length, ignore_errors)


class FreeBSDIntel(_IntelKernelLayer, intel.Intel):
    """i386 without PAE."""

    _direct_metadata = _metadata("Intel32", intel.Intel._direct_metadata)
    virtual_bits = 32

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return i386.PageTables(physical, root)


class FreeBSDIntelPAE(_IntelKernelLayer, intel.IntelPAE):
    """i386 with PAE."""

    _direct_metadata = _metadata("Intel32", intel.IntelPAE._direct_metadata)
    virtual_bits = 32

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return i386.PaePageTables(physical, root)


class FreeBSDIntel32e(_IntelKernelLayer, intel.Intel32e):
    """amd64."""

    _direct_metadata = _metadata("Intel64", intel.Intel32e._direct_metadata)
    virtual_bits = 48

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return amd64.PageTables(physical, root)


class FreeBSDIntel57(_IntelKernelLayer, intel.Intel32e):
    """amd64 with five levels of page tables (LA57)."""

    _direct_metadata = _metadata("Intel64", intel.Intel32e._direct_metadata)
    _maxvirtaddr = 57
    _structure = [("page map layer 5", 9, False), *intel.Intel32e._structure]
    virtual_bits = 57

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return amd64.La57PageTables(physical, root)


class FreeBSDAArch64(FreeBSDKernelLayer):
    """arm64; the granule is the page size of the dump."""

    _direct_metadata = _metadata("AArch64")

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return arm64.full(physical, {}, root)


class FreeBSDRiscV64(FreeBSDKernelLayer):
    """riscv64."""

    _direct_metadata = _metadata("RISC-V64")

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return riscv.PageTables(physical, root)


class FreeBSDArm(FreeBSDKernelLayer):
    """arm, 32 bit."""

    _direct_metadata = _metadata("ARM32")
    virtual_bits = 32

    @classmethod
    def page_tables(cls, physical: PhysicalMemory, root: int) -> PageMap:
        """See `FreeBSDKernelLayer.page_tables`."""
        return arm.PageTables(physical, root)


class FreeBSDPowerPC64(FreeBSDKernelLayer):
    """powerpc64 and powerpc64le."""

    _direct_metadata = _metadata("PowerPC64")


class FreeBSDPowerPC(FreeBSDKernelLayer):
    """powerpc, 32 bit: ELF cores of virtual memory only."""

    _direct_metadata = _metadata("PowerPC32")
    virtual_bits = 32


class FreeBSDMips(FreeBSDKernelLayer):
    """mips, 32 bit."""

    _direct_metadata = _metadata("MIPS32")
    virtual_bits = 32


class FreeBSDMips64(FreeBSDKernelLayer):
    """mips, 64 bit."""

    _direct_metadata = _metadata("MIPS64")
