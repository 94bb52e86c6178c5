"""The mini-kernels as images for the memory writer; their types are read from DWARF once and kept beside them."""

from __future__ import annotations

import hashlib
import pickle
from functools import cache
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.writers.kernel_image import KernelImage, from_elf
from volatility3_freebsd_kvm.image import dwarf
from volatility3_freebsd_kvm.image.types import TypeReference, Types

from . import ToolchainUnavailable, build


def kernel_file(release: str, arch: str) -> Path:
    """The kernel ELF; skips the test where it cannot be built."""
    try:
        return build(release, {"riscv": "riscv64"}.get(arch, arch))
    except ToolchainUnavailable as error:
        pytest.skip(str(error))


def mini_kernel(release: str, arch: str) -> KernelImage:
    """A kernel with its types; skips the test where it cannot be built."""
    path = kernel_file(release, arch)
    return from_elf(path, *dwarf_of(path))


def dwarf_of(path: Path) -> tuple[Types, dict[str, TypeReference]]:
    """Types and types of variables of a kernel.

    Reading them takes seconds, so that the result is kept beside the kernel, under the version of the code that read
    it.
    """
    kept = path.with_name(f"{path.name}.{_version_of_the_code()}.types")
    if kept.exists():
        # Our own file in our own cache directory.
        found: tuple[Types, dict[str, TypeReference]] = pickle.loads(kept.read_bytes())
        return found
    with path.open("rb") as stream:
        reader = dwarf.DwarfTypes(ELFFile(stream), path.name)
        reader.add_all()
    result = reader.types, reader.variables
    partial = kept.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(result))
    partial.replace(kept)
    return result


@cache
def _version_of_the_code() -> str:
    """Stands for all modules that read DWARF."""
    sources = sorted(Path(dwarf.__file__).parent.glob("dwarf*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
