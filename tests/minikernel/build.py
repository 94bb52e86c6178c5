"""Builds the mini-kernels and their modules, once per content.

What is built is kept in `toolchain.cache_directory` under a name that stands for the sources, the flags and the version
of the compiler and headers, so that a second call returns at once and nothing is ever stale. Safe for parallel runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from .toolchain import VERSIONS, Toolchain, cache_directory, digest, locked, staging, toolchain

SOURCES = Path(__file__).parent / "src"
UNITS = (
    *("proc", "sched", "vm", "fs", "file", "net", "inet", "linker", "link_elf", "link_elf_obj", "kern", "sysent", "md"),
    *("machdep", "stack", "facts", "types"),
)
"""The C files of a kernel."""
PARSED_ANEW = ("md", "types")
"""Units that do not take the precompiled headers: one varies them, the other is about all that is unused in them."""
RELEASES = tuple(VERSIONS)
OSRELDATES = {"14": 1403000, "15": 1500068}
"""__FreeBSD_version, which the packaged headers leave out."""
EMPTY_HEADERS = (
    *("bus_if.h", "device_if.h"),
    *(f"opt_{name}.h" for name in ("bpf", "inet", "inet6", "kdb", "netgraph", "ufs", "vm")),
)
"""Headers that a kernel build generates and that may be empty here."""
FLAGS = (
    *("-nostdinc", "-ffreestanding", "-fno-pic", "-fno-common", "-fno-stack-protector", "-fno-strict-aliasing"),
    *("-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer", "-O0", "-g", "-w"),
)


@dataclass(frozen=True)
class Architecture:
    """How kernels of an architecture are compiled and linked.

    Attributes:
        triple: Clang's name of the processor.
        headers: The include directory of its machine headers.
        emulation: ld.lld's -m.
        base: Where the image starts; text follows the ELF headers.
        kernbase: The symbol of this name, KERNBASE of vmparam.h.
        flags: Further compiler flags.
        extra: Further lines of the linker script.
        object_modules: Modules are ET_REL (link_elf_obj.c), otherwise ET_DYN (link_elf.c).
    """

    triple: str
    headers: str
    emulation: str
    base: int
    kernbase: int
    flags: tuple[str, ...] = ()
    extra: str = ""
    object_modules: bool = False


ARCHITECTURES = {
    "amd64": Architecture(
        triple="x86_64",
        headers="x86_64-freebsd-none",
        emulation="elf_x86_64_fbsd",
        base=0xFFFFFFFF80200000,
        kernbase=0xFFFFFFFF80000000,
        flags=("-mcmodel=kernel", "-mno-red-zone", "-mno-mmx", "-mno-sse", "-msoft-float"),
        object_modules=True,
    ),
    "arm64": Architecture(
        triple="aarch64",
        headers="aarch64-freebsd-none",
        emulation="aarch64elf",
        base=0xFFFF000000000000,
        kernbase=0xFFFF000000000000,
        flags=("-mgeneral-regs-only", "-ffixed-x18"),
    ),
    "riscv64": Architecture(
        triple="riscv64",
        headers="riscv64-freebsd-none",
        emulation="elf64lriscv",
        base=0xFFFFFFC000000000,
        kernbase=0xFFFFFFC000000000,
        flags=("-march=rv64imafdc", "-mabi=lp64", "-mcmodel=medany", "-mno-relax"),
    ),
    "i386": Architecture(
        triple="i686",
        headers="x86-freebsd-none",
        emulation="elf_i386_fbsd",
        base=0x800000,
        kernbase=0x800000,
        flags=("-mno-mmx", "-mno-sse", "-msoft-float"),
    ),
    "arm": Architecture(
        triple="armv7",
        headers="arm-freebsd-eabihf",
        emulation="armelf_fbsd",
        base=0xC0000000,
        kernbase=0xC0000000,
        flags=("-mfloat-abi=soft",),
        extra="physaddr = 0;",
    ),
    "powerpc64": Architecture(
        triple="powerpc64",
        headers="powerpc64-freebsd-none",
        emulation="elf64ppc_fbsd",
        base=0x100000,
        kernbase=0x100100,
        flags=("-mabi=elfv2", "-mno-altivec", "-msoft-float"),
    ),
}
"""By FreeBSD's name of the platform."""


def build(release: str, arch: str, *, dwarf: int = 4) -> Path:
    """The kernel of a FreeBSD release for an architecture: an ELF file with symbols and debug information.

    Args:
        release: "14" or "15".
        arch: A key of `ARCHITECTURES`.
        dwarf: Version of the debug information; kernels of both releases have 4.

    Raises:
        ToolchainUnavailable: The compiler is not here and cannot be fetched.
        RuntimeError: The C files do not compile; the message is the compiler's.
    """
    return _product(release, arch, dwarf) / "kernel"


def build_module(release: str, arch: str, *, dwarf: int = 4) -> Path:
    """The module ``mini.ko`` for the kernel of `build`, with a VNET and a DPCPU variable and its own functions.

    ET_REL on amd64, ET_DYN elsewhere. Arguments and errors are those of `build`.
    """
    return _product(release, arch, dwarf) / "mini.ko"


@cache
def _product(release: str, arch: str, dwarf: int) -> Path:
    """The directory with everything built for one kernel."""
    architecture = ARCHITECTURES[arch]
    identity = digest(VERSIONS[release], repr((release, architecture, dwarf)), *_contents())
    target = cache_directory() / "kernels" / f"freebsd-{release}-{arch}-{identity}"
    if not target.is_dir():
        with locked(target):
            if not target.is_dir():
                tools = toolchain(release)
                with staging(target) as directory:
                    _Build(tools, release, architecture, dwarf, directory).run()
                    for name in directory.iterdir():
                        if name.name not in ("kernel", "mini.ko"):
                            _remove(name)
                    directory.rename(target)
    return target


@cache
def _contents() -> tuple[bytes, ...]:
    """The names and contents of all that decides what is built, this file included."""
    files = [Path(__file__), *sorted(path for path in SOURCES.rglob("*") if path.is_file())]
    return tuple(part for path in files for part in (path.name.encode(), path.read_bytes()))


def _remove(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink()


class _Build:
    """One build in a directory of its own."""

    def __init__(self, tools: Toolchain, release: str, arch: Architecture, dwarf: int, directory: Path) -> None:
        self.tools = tools
        self.release = release
        self.arch = arch
        self.dwarf = dwarf
        self.directory = directory

    def run(self) -> None:
        """Leave ``kernel`` and ``mini.ko`` in the directory."""
        generated = self.directory / "generated"
        generated.mkdir()
        for name in EMPTY_HEADERS:
            (generated / name).touch()
        (generated / "syscalls.inc").write_text("".join(f"{line}\n" for line in _system_calls(self.tools)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            module = pool.submit(self._compile_module, SOURCES / "kld" / "mini.c")
            anew = [pool.submit(self._compile, SOURCES / f"{unit}.c", *_flags(unit)) for unit in PARSED_ANEW]
            headers = ("-include-pch", self._compile(SOURCES / "kernel.h", "-x", "c-header"))
            sources = [SOURCES / f"{unit}.c" for unit in UNITS if unit not in PARSED_ANEW]
            objects = list(pool.map(lambda source: self._compile(source, *headers), sources))
            objects += [future.result() for future in anew]
        functions = generated / "functions.c"
        functions.write_text(_functions(objects))
        objects.append(self._compile(functions))
        self._link_kernel(objects)
        self._link_module([module.result()])

    def _compile(self, source: Path, *flags: str | Path) -> Path:
        output = self.directory / f"{source.stem}.o"
        headers = self.tools.headers
        include: list[str | Path] = [
            *("-I", SOURCES, "-I", SOURCES / "include", "-I", self.directory / "generated"),
            *("-isystem", headers / self.arch.headers, "-isystem", headers / "generic-freebsd"),
            *("-isystem", self.tools.compiler_headers),
        ]
        # Debug information names the files as a kernel built in /usr/src does, not as they lie on this machine.
        maps = [
            f"-ffile-prefix-map={self.directory / 'generated'}=/usr/obj/usr/src/sys/MINI",
            f"-ffile-prefix-map={SOURCES}=/usr/src/sys/mini",
            f"-ffile-prefix-map={headers / self.arch.headers}=/usr/src/sys",
            f"-ffile-prefix-map={headers / 'generic-freebsd'}=/usr/src/sys",
            f"-ffile-prefix-map={self.tools.compiler_headers}=/usr/lib/clang/include",
            "-fdebug-compilation-dir=/usr/obj/usr/src/sys/MINI",
        ]
        target = [
            *(f"--target={self.arch.triple}-unknown-freebsd{self.release}.0", f"-DRELEASE={self.release}"),
            *("-U__FreeBSD_version", f"-D__FreeBSD_version={OSRELDATES[self.release]}"),
        ]
        compiler = ["clang", *target, *FLAGS, f"-gdwarf-{self.dwarf}", *self.arch.flags, *maps, *include]
        self.tools.run([*compiler, *flags, "-c", source, "-o", output], self.directory)
        return output

    def _compile_module(self, source: Path) -> Path:
        return self._compile(source, "-DKLD_MODULE", *(() if self.arch.object_modules else ("-fPIC",)))

    def _link(self, *arguments: str | Path) -> None:
        self.tools.run(["ld.lld", "-m", self.arch.emulation, *arguments], self.directory)

    def _link_kernel(self, objects: list[Path]) -> None:
        script = (SOURCES / "kernel.ld").read_text()
        values = {"BASE": f"{self.arch.base:#x}", "KERNBASE": f"{self.arch.kernbase:#x}", "EXTRA": self.arch.extra}
        for name, value in values.items():
            script = script.replace(f"@{name}@", value)
        path = self.directory / "kernel.ld"
        path.write_text(script)
        self._link(
            *("-static", "-z", "max-page-size=4096", "-z", "nognustack", "--build-id=sha1", "--no-relax"),
            "-T",
            path,
            "-o",
            self.directory / "kernel",
            *objects,
        )

    def _link_module(self, objects: list[Path]) -> None:
        output = self.directory / "mini.ko"
        if self.arch.object_modules:
            self._link("-r", "-d", "-o", output, *objects)
        else:
            self._link("-shared", "-z", "notext", "-z", "max-page-size=4096", "-o", output, *objects)


def _system_calls(tools: Toolchain) -> Iterator[str]:
    """Lines of syscalls.inc: every system call of sys/syscall.h with its handler from sys/sysproto.h."""
    headers = tools.headers / "generic-freebsd" / "sys"
    prototypes = (headers / "sysproto.h").read_text()
    handlers = dict(re.findall(r"^int\s+(\w+)\(struct thread \*, struct (\w+) \*\);", prototypes, re.MULTILINE))
    for name, number in re.findall(r"^#define\s+SYS_(\w+)\s+(\d+)", (headers / "syscall.h").read_text(), re.MULTILINE):
        handler = next((found for found in (f"sys_{name}", name) if found in handlers), None)
        if handler is not None and name != "MAXSYSCALL":
            yield f"SYSTEM_CALL({number}, {name}, {handler}, {handlers[handler]})"


def _flags(unit: str) -> tuple[str, ...]:
    return ("-fno-eliminate-unused-debug-types",) if unit == "types" else ()


def _functions(objects: list[Path]) -> str:
    """C source of every function that the objects refer to and none defines."""
    defined: set[str] = set()
    wanted: set[str] = set()
    for path in objects:
        with path.open("rb") as stream:
            symbols = ELFFile(stream).get_section_by_name(".symtab")
            assert isinstance(symbols, SymbolTableSection)
            for symbol in symbols.iter_symbols():
                if symbol["st_info"]["bind"] != "STB_LOCAL":
                    (wanted if symbol["st_shndx"] == "SHN_UNDEF" else defined).add(symbol.name)
    missing = sorted(name for name in wanted - defined if not name.startswith(("__start_", "__stop_", ".TOC.")))
    return "".join(f"int\n{name}(void)\n{{\n\treturn ({number});\n}}\n\n" for number, name in enumerate(missing))
