"""The scenario as an analyst gets it: dump files with their kernels, and the kernel that walkers start from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from tests.scenario.kernels import LAYOUTS, build_world, load
from tests.writers.kernel_memory import KernelMemory
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.image import table, wanted_types
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import Symbol, SymbolTable

FUNCTION, OBJECT, GLOBAL = 2, 1, 1 << 4
FORMATS: dict[str, Callable[[KernelMemory], bytes]] = {
    "minidump": lambda memory: memory.minidump().data,
    "full": lambda memory: memory.full_dump(),
}
"""What a dump may be. Minidumps have no user pages."""


@lru_cache(maxsize=4)
def symbols_of(name: str) -> SymbolTable:
    """The symbols of a scenario kernel, with sizes."""
    image, _, _ = load(name)
    if name not in LAYOUTS:
        return KernelFile(io.BytesIO(image.file), name).symbols
    return SymbolTable(
        Symbol(one, value, image.sizes.get(one, 0), GLOBAL | (OBJECT if one in image.variables else FUNCTION))
        for one, value in image.symbols.items()
    )


@lru_cache(maxsize=4)
def walkable(name: str, form: str = "minidump") -> Kernel:
    """A kernel of the scenario as walkers take it, over a dump of that format."""
    dump = kvm.open(FORMATS[form](build_world(name).memory), symbols=load(name)[0].symbols)
    return kernel_over(name, dump)


def kernel_over(name: str, dump: kvm.Dump) -> Kernel:
    """The same over any dump: for damaged ones."""
    image, machine, _ = load(name)
    structs = Structs(dump.kernel.read, image.types.types, machine.word_bits, machine.byteorder)
    ring = dump.message_buffer if isinstance(dump, kvm.Minidump) else b""
    names = Names(symbols_of(name), structs, dump.kerndisp)
    return Kernel(names, machine.arch, image.variables, ring, dump.kernel)


@contextmanager
def changed(memory: KernelMemory, changes: Mapping[int, bytes]) -> Iterator[None]:
    """Memory with other bytes at some kernel virtual addresses, for as long as the block lasts."""
    before = {address: memory.read(address, len(data)) for address, data in changes.items()}
    try:
        for address, data in changes.items():
            memory.write(address, data)
        yield
    finally:
        for address, data in before.items():
            memory.write(address, data)


def damaged(name: str, changes: Mapping[int, bytes], form: str = "minidump") -> Kernel:
    """The scenario's kernel over a dump whose memory was changed."""
    memory = build_world(name).memory
    with changed(memory, changes):
        return kernel_over(name, kvm.open(FORMATS[form](memory), symbols=load(name)[0].symbols))


def write_dump(name: str, directory: Path, form: str = "minidump") -> tuple[Path, Path]:
    """Write ``(dump, kernel)`` files; the kernel is a symbol file with types, which `vol` takes at once."""
    path = directory / f"vmcore-{name}-{form}"
    path.write_bytes(FORMATS[form](build_world(name).memory))
    return path, write_symbol_file(name, directory)


def write_symbol_file(name: str, directory: Path) -> Path:
    """The symbol file of a scenario kernel."""
    image, machine, release = load(name)
    identity = table.TableIdentity(
        architecture=machine.arch,
        word_bits=machine.word_bits,
        byteorder=machine.byteorder,
        symbols_from=f"the scenario's kernel {name}",
        types_from=f"FreeBSD {release}",
    )
    content = table.document(identity, symbols_of(name), image.types.types.pruned(wanted_types()), image.variables)
    path = directory / f"kernel-{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
