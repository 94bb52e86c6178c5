"""From what an analyst has, a file, a directory, an archive or only the dump, to kernel files and their modules.

# Reference: usr.sbin/crashinfo/crashinfo.sh (find_kernel); gdb's manual, "Debugging Information in Separate Files"
"""

from __future__ import annotations

import logging
import platform
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..exceptions import FormatError
from . import trees
from .archive import Progress, Unpacker
from .kernel import KernelFile
from .trees import Archives, Directory, Tree

_ANCHORS = ("allproc", "proc0", "dumptid", "version", "osreldate", "hz", "vnet0", "bootverbose")
_OTHER_SYSTEMS = ("NetBSD", "OpenBSD", "DragonFly", "Linux")
_NUMBER = re.compile(r".+\.(\d+|last)(?:\.(?:gz|zst))?")
_CHUNK = 1 << 20
_MAX_NAME = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KernelSource:
    """One kernel: what has its symbols, and what has its types.

    Attributes:
        kernel: the file with ``.symtab``; as a rule with the kernel's initial data and CTF too.
        debug: the file with DWARF; may be the same; None if there is none.
        description: where it came from, for the log and for ``freebsd.kvm.info``.
        architecture: FreeBSD's name of the machine.
        warnings: debug information that was passed over since it belongs to another kernel, one sentence each.
        names: what to call the two files; what is unpacked has names of our own on the disk.
    """

    kernel: Path
    debug: Path | None
    description: str
    architecture: str
    warnings: tuple[str, ...] = ()
    names: tuple[str, str] = ("", "")
    _tree: Tree | None = field(default=None, repr=False, compare=False)
    _name: str = field(default="", repr=False, compare=False)
    _unpacker: Unpacker = field(default_factory=Unpacker, repr=False, compare=False)

    @property
    def labels(self) -> tuple[str, str]:
        """What to call the file with the symbols and the one with the types."""
        kernel, debug = self.names
        return kernel or str(self.kernel), debug or str(self.debug)


@dataclass(frozen=True)
class _File:
    """What counts of one ELF file."""

    name: str
    label: str
    path: Path
    architecture: str
    elf_type: str
    build_id: str | None
    debuglink: tuple[str, int] | None
    has_symbols: bool
    has_dwarf: bool
    is_kernel: bool
    hollow: bool
    version: str
    anchors: dict[str, int]


class Locator:
    """Finds kernels. Every path may be packed: compressed files and archives are unpacked into the cache directory.

    Attributes:
        skipped: why files were passed over, one sentence each.
    """

    def __init__(
        self, architecture: str | None = None, cache: Path | None = None, progress: Progress | None = None
    ) -> None:
        """Remember what is looked for.

        Args:
            architecture: of the dump, FreeBSD's name; kernels of others are passed over. None takes any.
            cache: directory to unpack into, made when it is needed. Without one nothing is unpacked.
            progress: is called with percent and text while something is unpacked.
        """
        self.architecture = architecture
        self.skipped: list[str] = []
        self._unpacker = Unpacker(cache, progress)

    # Kernels

    def candidates(self, path: Path) -> Iterator[KernelSource]:
        """The kernels in what a user named, the likeliest first; later ones are looked at when they are asked for.

        Args:
            path: a kernel, its debug information, a directory laid out as /boot/kernel, /boot or a whole system, or an
                archive: a distribution set, a package, a tar file.

        Raises:
            FormatError: there is none, and why.
        """
        path = path.absolute()
        before = len(self.skipped)
        found = False
        for source in self._in_directory(path, deep=True) if path.is_dir() else self._of_file(path):
            found = True
            yield source
        if not found:
            known = [reason for reason in self.skipped if str(path) in reason]
            raise FormatError(self._nothing(path, self.skipped[before:] or known))

    def beside(self, dump: Path) -> Iterator[KernelSource]:
        """Kernels that lie with a dump: ``kernel.5`` beside ``vmcore.5``, then what the directory has.

        For a dump in ``var/crash`` also those of the system that this belongs to.
        """
        dump = dump.absolute()
        directory = dump.parent
        seen: set[Path] = set()
        names = dict.fromkeys(
            match[1] for one in (dump.name, _resolved_name(dump)) if (match := _NUMBER.fullmatch(one))
        )
        numbered = [
            directory / f"{stem}.{number}" for number in names for stem in ("kernel", "kernel.debug", "kernel.symbols")
        ]
        for path in numbered:
            if path.is_file():
                yield from self._new(self._of_file(path), seen)
        yield from self._new(self._in_directory(directory, deep=False), seen)
        if directory.parts[-2:] == ("var", "crash"):
            yield from self._new(self._in_directory(directory.parents[1], deep=False), seen)

    def running_system(self) -> Iterator[KernelSource]:
        """The kernels of this machine, if it runs FreeBSD."""
        if platform.system() == "FreeBSD":
            yield from self._in_directory(Path("/"), deep=False)

    @staticmethod
    def _new(sources: Iterator[KernelSource], seen: set[Path]) -> Iterator[KernelSource]:
        """Those that are not the kernel, or the other half, of an earlier one."""
        for source in sources:
            if source.kernel not in seen:
                seen.update(path for path in (source.kernel, source.debug) if path)
                yield source

    @staticmethod
    def _nothing(path: Path, reasons: list[str]) -> str:
        if not reasons and path.is_dir():
            return (
                f"there is no kernel in {path}: no file kernel, kernel.gz or kernel.debug, neither there nor in "
                f"boot/kernel, boot/* and {trees.DEBUG_TREE}/boot/*, and no kernel.txz"
            )
        others = len(reasons) - 1
        more = f" ({others} more {'file does' if others == 1 else 'files do'} not fit either)" if others > 0 else ""
        return reasons[0] + more if reasons else f"there is no kernel in {path}"

    @contextmanager
    def _noting(self, path: Path) -> Iterator[None]:
        """A file that cannot be used is noted and ends nothing."""
        try:
            yield
        except FormatError as error:
            self._skip(str(error))
        except OSError as error:
            self._skip(f"{trees.printable(str(path))} cannot be read ({error.strerror or error})")

    def _skip(self, reason: str) -> None:
        if reason not in self.skipped:
            self.skipped.append(reason)
            _log.info("%s", reason)

    def _in_directory(self, directory: Path, *, deep: bool) -> Iterator[KernelSource]:
        seen: set[Path] = set()
        for path in trees.kernels_in(directory, deep=deep):
            yield from self._new(self._of_file(path), seen)
        unpacked: set[Path] = set()
        for path in trees.archives_in(directory):
            if path not in unpacked:
                unpacked.update((path, *trees.partners(path)))
                yield from self._new(self._of_file(path), seen)

    def _of_file(self, path: Path) -> Iterator[KernelSource]:
        with self._noting(path):
            kind = self._unpacker.kind(path)
            if kind == "archive":
                yield from self._of_archive(path)
            elif kind == "other":
                self._skip(f"{path} is neither an ELF file nor an archive")
            else:
                yield from self._sources(Directory(path.anchor), path.relative_to(path.anchor).as_posix(), path)

    def _of_archive(self, path: Path) -> Iterator[KernelSource]:
        tree = Archives([path, *trees.partners(path)], self._unpacker)
        names = tree.kernels()
        if not names:
            wanted = f"boot/kernel/kernel or {trees.DEBUG_TREE}/boot/kernel/kernel.debug"
            self._skip(f"the archive {path} holds no kernel, as {wanted}")
        seen: set[Path] = set()
        for name in names:
            yield from self._new(self._sources(tree, name, path), seen)

    # One kernel

    def _sources(self, tree: Tree, name: str, path: Path) -> Iterator[KernelSource]:
        """The kernel of that name, or nothing and a note."""
        source = None
        with self._noting(path):
            source = self._source(tree, name)
        if source is not None:
            yield source

    def _source(self, tree: Tree, name: str) -> KernelSource | None:
        """The kernel of that name with its other half; None, and a note, if it does not fit."""
        given = self._file(tree, name)
        if given is None or not self._fits(given):
            return None
        warnings: list[str] = []
        kernel, debug = given, given if given.has_dwarf else None
        if given.has_dwarf and given.hollow:
            kernel = self._partner(tree, given, trees.kernel_names(name), warnings) or given
        elif debug is None:
            link = given.debuglink[0] if given.debuglink else None
            debug = self._partner(tree, given, trees.debug_names(name, link), warnings)
        # Symbols stay with the debug information when a kernel is stripped.
        if not kernel.has_symbols and debug is not None:
            kernel = debug
        if not self._is_kernel(kernel):
            return None
        text = kernel.label
        if debug is not None:
            text += ", with debug information" + (f" from {debug.label}" if debug is not kernel else "")
        return KernelSource(
            kernel=kernel.path,
            debug=debug.path if debug else None,
            description=text,
            architecture=kernel.architecture,
            warnings=tuple(warnings),
            names=(kernel.label, debug.label if debug else ""),
            _tree=tree,
            _name=given.name,
            _unpacker=self._unpacker,
        )

    def _partner(self, tree: Tree, given: _File, names: Iterator[str], warnings: list[str]) -> _File | None:
        """The first of these files that belongs to the given one."""
        for name in names:
            other = None
            with self._noting(Path(name)):
                other = self._file(tree, name)
            if other is None:
                continue
            kernel, debug = (other, given) if given.hollow and given.has_dwarf else (given, other)
            reason = _mismatch(kernel, debug)
            if not reason:
                return other
            warnings.append(reason)
            self._skip(reason)
        return None

    def _file(self, tree: Tree, name: str) -> _File | None:
        found = tree.find(name)
        if found is None:
            return None
        label = tree.label(name)
        path = self._unpacker.plain(found)
        with path.open("rb") as stream:
            elf = KernelFile(stream, label)
            text = elf.section(".text")
            return _File(
                name=name,
                label=label,
                path=path,
                architecture=elf.architecture,
                elf_type=elf.elf_type,
                build_id=elf.build_id,
                debuglink=elf.debuglink,
                has_symbols=elf.has_symbols,
                has_dwarf=elf.has_dwarf,
                is_kernel=elf.is_kernel,
                hollow=text is not None and text.type == "NOBITS",
                version=elf.identity.version,
                anchors=dict(sorted(elf.symbol_values(_ANCHORS).items())) if elf.has_symbols else {},
            )

    def _fits(self, file: _File) -> bool:
        """Whether it may be a kernel for the dump, stripped or not."""
        reason = ""
        if file.elf_type == "CORE":
            reason = f"{file.label} is a core dump, not a kernel"
        elif file.elf_type == "REL":
            reason = f"{file.label} is a module or an object file, not a kernel"
        elif self.architecture not in (None, file.architecture):
            reason = f"{file.label} is a kernel for {file.architecture}, the dump is of {self.architecture}"
        if reason:
            self._skip(reason)
        return not reason

    def _is_kernel(self, file: _File) -> bool:
        other = next((system for system in _OTHER_SYSTEMS if file.version.startswith(system)), None)
        reason = ""
        if not file.has_symbols:
            reason = f"{file.label} has no symbol table (stripped), and there is no kernel.debug with one"
        elif not file.is_kernel:
            reason = f"{file.label} is no FreeBSD kernel: it defines no symbol of one"
        elif other:
            reason = f"{file.label} is a kernel of {other}"
        if reason:
            self._skip(reason)
        return not reason


def candidates(
    path: Path, architecture: str | None = None, cache: Path | None = None, progress: Progress | None = None
) -> Iterator[KernelSource]:
    """See `Locator.candidates`."""
    return Locator(architecture, cache, progress).candidates(path)


def beside(
    dump: Path, architecture: str | None = None, cache: Path | None = None, progress: Progress | None = None
) -> Iterator[KernelSource]:
    """See `Locator.beside`."""
    return Locator(architecture, cache, progress).beside(dump)


def running_system(architecture: str | None = None) -> Iterator[KernelSource]:
    """See `Locator.running_system`."""
    return Locator(architecture).running_system()


@contextmanager
def opened(source: KernelSource) -> Iterator[tuple[KernelFile, KernelFile | None]]:
    """``(kernel, debug)`` of a source, open; one and the same object where one file is both.

    Raises:
        FormatError, OSError: the files are not any more what they were.
    """
    with ExitStack() as stack:
        names = source.labels
        kernel = KernelFile(stack.enter_context(source.kernel.open("rb")), names[0])
        debug = None
        if source.debug == source.kernel:
            debug = kernel
        elif source.debug is not None:
            debug = KernelFile(stack.enter_context(source.debug.open("rb")), names[1])
        yield kernel, debug


def find_module(source: KernelSource, filename: str, *, debug: bool = False) -> Path | None:
    """The file of a kernel module; see `find_modules`."""
    return find_modules(source, [filename], debug=debug).get(filename)


def find_modules(source: KernelSource, filenames: Collection[str], *, debug: bool = False) -> dict[str, Path]:
    """Files of kernel modules: beside the kernel, or in boot/kernel or boot/modules of the same system.

    Ask for all at once: an archive is read through each time.

    Args:
        source: the kernel.
        filenames: as the kernel has them in ``linker_file.filename``; a directory in them does not count.
        debug: their debug information instead (``.ko.debug``, ``.ko.symbols``).

    Returns:
        Files by name, those that are not there left out. Whether they are the ones that were loaded is not looked at.

    Raises:
        FormatError, OSError: they cannot be unpacked.
    """
    if source._tree is None:
        return {}
    directory = _system_directory(source._name)
    places = {
        name: list(trees.module_names(directory, PurePosixPath(name).name, debug=debug))
        for name in filenames
        if _is_file_name(PurePosixPath(name).name)
    }
    there = source._tree.find_all({place for several in places.values() for place in several})
    found = {}
    for name, several in places.items():
        path = next((there[place] for place in several if place in there), None)
        if path is not None:
            found[name] = source._unpacker.plain(path)
    return found


def _is_file_name(name: str) -> bool:
    return name not in ("", "..") and "\0" not in name and len(name) < _MAX_NAME


def _system_directory(name: str) -> str:
    """The directory of a kernel, also for its debug information."""
    directory = name.rpartition("/")[0]
    return re.sub(rf"(^|/){trees.DEBUG_TREE}/", r"\1", directory)


def _mismatch(kernel: _File, debug: _File) -> str:
    """Why debug information is not that of a kernel; empty if it is, or if nothing speaks against it."""
    if not debug.has_dwarf:
        return f"{debug.label} has no DWARF debug information"
    if kernel.architecture != debug.architecture:
        return f"{debug.label} is for {debug.architecture}, {kernel.label} for {kernel.architecture}"
    if kernel.build_id and debug.build_id:
        same = kernel.build_id == debug.build_id
        return "" if same else f"{debug.label} belongs to another kernel than {kernel.label}: their build ids differ"
    if kernel.debuglink and kernel.debuglink[0] == PurePosixPath(debug.name).name:
        checksum = _crc32(debug.path)
        if checksum != kernel.debuglink[1]:
            return (
                f"{debug.label} belongs to another kernel than {kernel.label}: its CRC is {checksum:08x}, "
                f"the kernel's .gnu_debuglink has {kernel.debuglink[1]:08x}"
            )
    for name in kernel.anchors:
        if kernel.anchors[name] != debug.anchors.get(name, kernel.anchors[name]):
            return f"{debug.label} belongs to another kernel than {kernel.label}: {name} is elsewhere"
    return ""


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            value = zlib.crc32(piece, value)
    return value


def _resolved_name(path: Path) -> str:
    """The name behind a link such as ``vmcore.last``."""
    try:
        return path.resolve().name
    except (OSError, RuntimeError):
        return path.name
