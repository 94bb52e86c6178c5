"""The kernel linker's files and modules, seen from every list that knows of them.

The files themselves are read in `image.linker`; here are the modules in them, and what only some of the lists have.

# Reference: sys/kern/kern_linker.c (linker_files, found_modules), kern_module.c (modules), sys/sys/linker.h
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from ..exceptions import KVMError, SymbolError
from ..image.linker import End, LinkerFile, linker_files, read_file
from .kernel import Kernel
from .lists import Queue
from .needs import unmet
from .objects import Object
from .records import Absent, Problem, attempt

MAX_MODULES = 1 << 16
_MAX_NAME = 256
_LINKED = 1


@dataclass(frozen=True)
class Module:
    """A module: what DECLARE_MODULE makes, one or several in a file.

    Attributes:
        address: of its ``struct module``; None for what only ``found_modules`` has.
        id: number, as ``kldstat -v`` and modstat(2) have it.
        name: ``nullfs``, ``pci/em``.
        refs: references.
        file: address of its linker file.
        file_name: name of that.
        handler: its event handler.
        handler_symbol: as ``module!symbol+0x10``; empty where it is in no known code.
        argument: what the handler is given.
        version: of MODULE_VERSION, by ``found_modules``; there is none for most modules.
        notes: what is odd.
    """

    address: int | None
    id: int | Absent
    name: str | Absent
    refs: int | Absent
    file: int | Absent
    file_name: str
    handler: int | Absent
    handler_symbol: str
    argument: int | Absent
    version: int | Absent
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kld:
    """A linker file with what the other lists say of it.

    Attributes:
        file: the file.
        dependencies: names of the files it depends on.
        modules: names of the modules in it.
        symbols: how many of its symbols are known.
        notes: what is odd, also about the file itself.
    """

    file: LinkerFile
    dependencies: tuple[str, ...]
    modules: tuple[str, ...] | Absent
    symbols: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """An element of ``found_modules``."""

    name: str
    version: int
    file: int


@dataclass
class Listed:
    """The modules by the lists that have them; `problems` tells how walks ended.

    Files' lists may be made to lead into each other: `left` is how many modules they may have together.
    """

    everywhere: dict[int, None] = field(default_factory=dict)
    by_file: dict[int, list[int]] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    left: int = MAX_MODULES


class Linker:
    """All the linker's lists, each read once."""

    def __init__(self, kernel: Kernel) -> None:
        """Read nothing yet."""
        self.kernel = kernel
        self.structs = kernel.structs
        self.problems: list[Problem] = []

    @cached_property
    def files(self) -> dict[int, LinkerFile]:
        """The files of ``linker_files`` by address."""
        try:
            walk = linker_files(self.structs, self._running)
        except KVMError as error:
            self.problems.append(Problem("linker_files", str(error)))
            return {}
        if walk.problem or walk.end is not End.COMPLETE:
            self.problems.append(Problem("linker_files", walk.problem))
        return {file.address: file for file in walk}

    def _running(self, name: str) -> int | None:
        """Where a variable of the kernel is, as pointers in memory have it."""
        names = self.kernel.names
        value = names.value(name)
        return None if value is None else (value + names.kerndisp) & (1 << 8 * self.structs.word_size) - 1

    @cached_property
    def listed(self) -> Listed:
        """The modules of ``modules``, of each file's own list and of ``found_modules``."""
        found = Listed()
        found.everywhere = dict.fromkeys(self._addresses(found, "modules", "module", "link"))
        for address, file in self.files.items():
            found.by_file[address] = list(self._of_file(found, file))
        for item in self._queue(found, "found_modules", "modlist", "link"):
            version = attempt(partial(_version, item))
            if isinstance(version, Version):
                found.versions.append(version)
            else:
                found.problems.append(Problem("found_modules", f"{item.address_:#x} cannot be read", item.address_))
        return found

    @cached_property
    def hidden(self) -> dict[int, LinkerFile]:
        """Files that other lists lead to, but ``linker_files`` does not; their notes say how."""
        leads: dict[int, list[str]] = {}
        for address in self.listed.everywhere:
            file = _file_of(self, address)
            if isinstance(file, int):
                leads.setdefault(file, []).append(f"module {_name(self.kernel.object('module', address))}")
        for version in self.listed.versions:
            leads.setdefault(version.file, []).append(f"{version.name} of found_modules")
        for one in self.files.values():
            for dependency in one.dependencies:
                leads.setdefault(dependency, []).append(f"a dependency of {one.filename}")
        return {address: self._hidden(address, by) for address, by in leads.items() if self._is_hidden(address)}

    def _is_hidden(self, address: int) -> bool:
        return bool(address) and bool(self.files) and address not in self.files

    def _hidden(self, address: int, leads: list[str]) -> LinkerFile:
        file = read_file(self.structs, address)
        note = f"not in linker_files: only {', '.join(dict.fromkeys(leads))} leads to it"
        return replace(file, notes=(note, *file.notes))

    def file_name(self, address: int | Absent) -> str:
        """A file's name, or its address if there is no such file."""
        if isinstance(address, Absent):
            return ""
        file = self.files.get(address) or self.hidden.get(address)
        return file.filename if file and file.filename else f"{address:#x}"

    # Lists

    def _queue(self, found: Listed, head: str, type_name: str, link: str) -> Iterator[Object]:
        """The elements of a TAILQ that a symbol is the head of."""
        try:
            queue = Queue(self.structs, self.kernel.address(head), type_name, link, limit=MAX_MODULES)
        except SymbolError as error:
            found.problems.append(Problem(head, str(error)))
            return
        yield from queue
        found.problems += [Problem(head, problem) for problem in queue.problems]

    def _addresses(self, found: Listed, head: str, type_name: str, link: str) -> Iterator[int]:
        return (item.address_ for item in self._queue(found, head, type_name, link))

    def _of_file(self, found: Listed, file: LinkerFile) -> Iterator[int]:
        """The modules of a file: a TAILQ through ``flink``."""
        try:
            head = file.address + self.structs.offset("linker_file", "modules")
            queue = Queue(self.structs, head, "module", "flink", limit=found.left)
        except SymbolError:
            return
        for address in queue.addresses():
            found.left -= 1
            yield address
        found.problems += [Problem(f"modules of {file.filename}", problem) for problem in queue.problems]


def files(kernel: Kernel) -> Iterator[Kld | Problem]:
    """The linker's files in the order of its list, behind them those that only other lists lead to."""
    missing = unmet(kernel, "linker_files", ("linker_file.link",))
    if missing:
        yield missing
        return
    linker = Linker(kernel)
    own = attempt(lambda: int(kernel.pointer("linker_kernel_file")))
    for file in (*linker.files.values(), *linker.hidden.values()):
        yield _kld(linker, file, own)
    if linker.files and isinstance(own, int) and own not in linker.files:
        yield Problem("linker_kernel_file", f"the kernel's own file {own:#x} is not in linker_files", own)
    yield from linker.problems
    yield from linker.listed.problems


def _kld(linker: Linker, file: LinkerFile, kernel_file: int | Absent) -> Kld:
    names = linker.kernel.names
    symbols = names.symbols if file.address == kernel_file else names.module_symbols(file)
    modules: tuple[str, ...] | Absent = Absent.NOT_AVAILABLE
    if linker.kernel.has_member("module", "flink"):
        listed = linker.listed.by_file.get(file.address)
        if listed is None:
            listed = [module for module in linker.listed.everywhere if _file_of(linker, module) == file.address]
        modules = tuple(_name(linker.kernel.object("module", address)) for address in listed)
    notes = list(file.notes)
    if file.flags is not None and not file.flags & _LINKED:
        notes.append("not linked: loading has not finished or has failed")
    return Kld(file, tuple(map(linker.file_name, file.dependencies)), modules, len(symbols), tuple(notes))


def modules(kernel: Kernel) -> Iterator[Module | Problem]:
    """The modules of ``modules``, then those that only their file's list has, then the rest of ``found_modules``."""
    missing = unmet(kernel, "modules", ("linker_file.link", "module.link", "module.flink"))
    if missing:
        yield missing
        return
    linker = Linker(kernel)
    listed = linker.listed
    in_files = {address: file for file, addresses in listed.by_file.items() for address in addresses}
    named: set[tuple[int, str]] = set()
    for address in dict.fromkeys([*listed.everywhere, *in_files]):
        module = _module(linker, address, in_files)
        if isinstance(module.file, int) and isinstance(module.name, str):
            named.add((module.file, _plain(module.name)))
        yield module
    for version in listed.versions:
        if (version.file, version.name) not in named:
            yield _only_version(linker, version)
    yield from linker.problems
    yield from listed.problems


def _module(linker: Linker, address: int, in_files: dict[int, int]) -> Module:
    module = linker.kernel.object("module", address)
    file = _file_of(linker, address)
    name = attempt(lambda: module.name.text_(_MAX_NAME))
    handler = attempt(lambda: int(module.handler))
    symbol, odd = code_at(linker.kernel, handler)
    notes = [*_views(linker, address, file, in_files), *([f"its handler {odd}"] if odd else [])]
    found = [one.version for one in linker.listed.versions if one.file == file and one.name == _plain(name)]
    if not found and linker.listed.versions:
        notes.append("not in found_modules")
    return Module(
        address=address,
        id=attempt(lambda: int(module.id)),
        name=name,
        refs=attempt(lambda: int(module.refs)),
        file=file,
        file_name=linker.file_name(file),
        handler=handler,
        handler_symbol=symbol,
        argument=attempt(lambda: int(module.arg)),
        version=found[0] if found else Absent.NOT_AVAILABLE,
        notes=tuple(notes),
    )


def _views(linker: Linker, address: int, file: int | Absent, in_files: dict[int, int]) -> Iterator[str]:
    """Which list does not have it."""
    if address not in linker.listed.everywhere:
        yield "not in modules: only its file's list has it"
    elif linker.files and address not in in_files:
        yield "not in its file's list of modules"
    if address in in_files and isinstance(file, int) and in_files[address] != file:
        yield f"it is in the list of {linker.file_name(in_files[address])}"
    if isinstance(file, int) and linker.files and file not in linker.files:
        yield "its file is not in linker_files" if file else "it has no file"


def _only_version(linker: Linker, version: Version) -> Module:
    absent = Absent.NOT_APPLICABLE
    notes = ["in found_modules only: a version, not a module"]
    if linker.files and version.file not in linker.files:
        notes.append("its file is not in linker_files")
    name = linker.file_name(version.file)
    return Module(
        None, absent, version.name, absent, version.file, name, absent, "", absent, version.version, tuple(notes)
    )


def _plain(name: str | Absent) -> str:
    """The name that MODULE_VERSION has for a driver's module: DRIVER_MODULE puts the bus before it."""
    return name.rpartition("/")[2] if isinstance(name, str) else ""


def _version(item: Object) -> Version:
    return Version(item.name.text_(_MAX_NAME), int(item.version), int(item.container))


def _file_of(linker: Linker, module: int) -> int | Absent:
    return attempt(lambda: int(linker.kernel.object("module", module).file))


def _name(module: Object) -> str:
    name = attempt(lambda: str(module.name.text_(_MAX_NAME)))
    return name if isinstance(name, str) else f"{module.address_:#x}"


def code_at(kernel: Kernel, address: int | Absent) -> tuple[str, str]:
    """``(place, problem)`` of a pointer to code.

    Returns:
        The place is ``kernel!symbol``, ``if_x.ko!symbol+0x10``, or ``if_x.ko+0x10`` where symbols lack, and empty for
        what is in no file of the kernel linker. The problem is a clause: ``is in no known code``.
    """
    if isinstance(address, Absent) or not address:
        return "", ""
    found = kernel.symbol_at(address)
    if found is not None:
        return str(found), "is data" if found.symbol.kind == "object" else ""
    for file in kernel.names.linker_files:
        if not file.filename:
            continue
        inside = file.base <= address < file.base + file.size
        if inside or any(start <= address < start + size for _, start, size in file.sections):
            return f"{file.filename}+{address - file.base:#x}", ""
    return "", "is in no known code"
