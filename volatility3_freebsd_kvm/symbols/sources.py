"""Where the table of a dump's kernel comes from: a kernel file, a symbol file, or the dump itself."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volatility3.framework.layers import resources

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import FormatError, KVMError, SymbolError
from volatility3_freebsd_kvm.image import build, ddbsymtab, isf, layouts, locate, table, wanted_types
from volatility3_freebsd_kvm.image.fit import Fit, Verdict, banner_at, check_fit, check_types, matches
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.partial import PARTIAL, partial_types
from volatility3_freebsd_kvm.image.store import Store
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.symbols import SymbolTable
from volatility3_freebsd_kvm.image.types import Types
from volatility3_freebsd_kvm.kvm.space import AddressSpace
from volatility3_freebsd_kvm.symbols import loading

vollog = logging.getLogger(__name__)

Progress = Callable[[float, str], None]
OPTION = "--freebsd-kernel"


@dataclass(frozen=True)
class Chosen:
    """The table of a dump's kernel.

    Attributes:
        url: of the symbol file.
        identity: what it says of the kernel.
        fit: how it compares with the dump.
        symbols: how many there are.
        types: how many structures and unions there are.
        banner: the kernel's, as memory has it; empty if it cannot be read.
        forced: whether it is used although it does not fit.
    """

    url: str
    identity: table.TableIdentity
    fit: Fit
    symbols: int
    types: int
    banner: str
    forced: bool = False


@dataclass(frozen=True)
class Settings:
    """What the user and the framework say.

    Attributes:
        kernel: what ``--freebsd-kernel`` names, already a path.
        force: take a kernel that does not fit.
        cache: directory for what was unpacked or recovered.
        tables: directory for the tables of kernel files; on the framework's symbol path, so that they are found again
            when the kernel is not at hand.
        layouts: directories of type layouts.
        symbol_files: ``(url, identifier)`` of symbol files of FreeBSD kernels that the framework knows.
        image: the dump's file, if it is one.
    """

    kernel: Path | None
    force: bool
    cache: Path
    tables: Path
    layouts: tuple[Path, ...]
    symbol_files: Iterable[tuple[str, bytes]] = ()
    image: Path | None = None


class Sources:
    """Looks for the table of one dump's kernel."""

    def __init__(
        self, dump: kvm.Dump, space: AddressSpace, settings: Settings, progress: Progress | None = None
    ) -> None:
        """Nothing is done before `choose`."""
        self.dump = dump
        self.space = space
        self.settings = settings
        self.progress = progress
        self.kept = Store(settings.cache)
        self.tables = Store(settings.tables)
        self._locator = locate.Locator(dump.architecture, settings.cache, progress)
        self._looked_for: list[str] = []

    def choose(self) -> Chosen:
        """The first table that fits; a kernel that the user named is the only one that counts.

        Raises:
            KVMError, OSError: the kernel that the user named cannot be used, or none was found: what was looked for.
        """
        if self.settings.kernel is not None:
            return self._named(self.settings.kernel)
        for label, source in (
            ("kernels beside the dump", self._beside),
            ("symbol files", self._symbol_files),
            ("the running system's kernel", self._running),
            ("the kernel's own symbols in the dump", self._dump_alone),
        ):
            self._looked_for.append(label)
            for chosen in source():
                vollog.info("Kernel names: %s, types: %s (%s)", *_origins(chosen), chosen.fit)
                return chosen
        msg = f"no kernel fits {self.dump.reader.name}: looked for {', '.join(self._looked_for)}; pass it with {OPTION}"
        raise SymbolError(msg)

    # Kernel files

    def _named(self, path: Path) -> Chosen:
        """The kernel that the user named: it is used or refused, nothing takes its place.

        Raises:
            KVMError, OSError: it cannot be read or does not fit.
        """
        if path.name.endswith(loading.SYMBOL_FILES):
            return self._told(self._accept(path.as_uri(), forced=self.settings.force))
        refused: KVMError | OSError | None = None
        for source in self._locator.candidates(path):
            try:
                return self._told(self._accept(self._from_kernel(source), forced=self.settings.force))
            except (KVMError, OSError) as error:
                vollog.info("%s: %s", source.description, error)
                refused = refused or error
        raise refused or FormatError(f"{path} holds no kernel for {self.dump.architecture}")

    def _told(self, chosen: Chosen) -> Chosen:
        """The user's own choice, with a warning if nothing tells whether it is the right one."""
        if chosen.fit.verdict is Verdict.UNKNOWN:
            vollog.warning(
                "%s: nothing in it can be compared with the dump, so it may be the wrong kernel",
                chosen.identity.symbols_from or chosen.url,
            )
        return chosen

    def _beside(self) -> Iterator[Chosen]:
        if self.settings.image is not None:
            yield from self._first_fitting(self._locator.beside(self.settings.image))

    def _running(self) -> Iterator[Chosen]:
        yield from self._first_fitting(self._locator.running_system())

    def _first_fitting(self, sources: Iterable[locate.KernelSource]) -> Iterator[Chosen]:
        for source in sources:
            try:
                yield self._accept(self._from_kernel(source))
            except (KVMError, OSError) as error:
                vollog.info("%s is passed over: %s", source.description, error)

    def _from_kernel(self, source: locate.KernelSource) -> str:
        """URL of the table of a kernel file, built or found again.

        Raises:
            KVMError, OSError: it cannot be read.
        """
        for warning in source.warnings:
            vollog.warning("%s", warning)
        files = dict.fromkeys(path for path in (source.kernel, source.debug) if path is not None)
        key = self.tables.key(["kernel", "\n".join(wanted_types()), *files])
        path = self.tables.find(key)
        if path is not None:
            vollog.debug("%s: its table is known (%s)", source.description, path.name)
            return self._renamed(path.as_uri(), source)
        with locate.opened(source) as (kernel, debug):
            content = build.kernel_table(kernel, debug, progress=self.progress)
        return self.tables.put(key, content).as_uri()

    def _renamed(self, url: str, source: locate.KernelSource) -> str:
        """URL of a known table that names the files of ``source``: it may have been made of copies of them."""
        content = _load(url)
        identity = table.identity_of(content)
        kernel, debug = source.labels
        kind, of, name = identity.types_from.partition(" of ")
        types_from = f"{kind}{of}{kernel if name == identity.symbols_from else debug}" if of else identity.types_from
        named = dataclasses.replace(identity, symbols_from=kernel, types_from=types_from)
        return url if named == identity else self._keep(table.with_identity(content, named))

    # Symbol files

    def _symbol_files(self) -> Iterator[Chosen]:
        structs = Structs(self.space.read, self._no_types(), self.dump.word_bits, self.dump.byteorder)
        for location, words in self.settings.symbol_files:
            if matches(words, structs):
                try:
                    yield self._accept(location)
                except (KVMError, OSError) as error:
                    vollog.info("The symbol file %s is passed over: %s", location, error)

    # The dump alone

    def _dump_alone(self) -> Iterator[Chosen]:
        try:
            found = ddbsymtab.find_kernel_symbols(self.space, self.dump.word_bits, self.dump.byteorder, self.progress)
        except KVMError as error:
            vollog.info("The dump alone: %s", error)
            return
        remarks = "".join(f"; {note}" for note in found.notes)
        origin = f"the dump itself (symbol table at {found.symtab_address:#x}{remarks})"
        identity = table.TableIdentity(
            architecture=self.dump.architecture,
            word_bits=self.dump.word_bits,
            byteorder=self.dump.byteorder,
            symbols_from=origin,
        )
        content = table.document(identity, found.table, self._no_types())
        yield self._accept(self._keep(content))

    def _keep(self, content: Mapping[str, Any]) -> str:
        """URL of a table that belongs to this dump or these names of files, and not on the framework's symbol path."""
        key = self.kept.key([isf.text(content)])
        return (self.kept.find(key) or self.kept.put(key, content)).as_uri()

    # Types where the kernel file has none

    def _no_types(self) -> Types:
        return Types.empty(self.dump.word_bits // 8, self.dump.byteorder)

    def _names(self, symbols: SymbolTable, types: Types) -> Names:
        structs = Structs(self.space.read, types, self.dump.word_bits, self.dump.byteorder)
        return Names(symbols, structs, self.dump.kerndisp)

    def _with_types(self, content: Mapping[str, Any], identity: table.TableIdentity) -> tuple[str, dict[str, Any]]:
        """A table without types, completed with those of the nearest release that fit, or with what the dump tells."""
        symbols = table.symbols_of(content)
        types, origin = self._nearest_layout(symbols) or (None, "")
        if types is None:
            types = partial_types(self._names(symbols, self._no_types()))
            origin = PARTIAL if types.user_types else "nowhere"
        completed = table.document(dataclasses.replace(identity, types_from=origin), symbols, types)
        return self._keep(completed), completed

    def _nearest_layout(self, symbols: SymbolTable) -> tuple[Types, str] | None:
        release = layouts.release_of(self._names(symbols, self._no_types()))
        for layout in layouts.nearest(self.settings.layouts, self.dump.architecture, release):
            try:
                types = isf.types_of(isf.load(layout.path))
            except KVMError as error:
                vollog.info("Types of %s are passed over: %s", layout, error)
                continue
            fit = Fit(tuple(check_types(self._names(symbols, types))))
            vollog.info("Types of %s: %s", layout, fit)
            if fit.verdict is Verdict.FITS:
                return types, f"layouts of {layout}, the nearest release that agrees with the kernel's own offsets"
        return None

    # Acceptance

    def _accept(self, url: str, *, forced: bool = False) -> Chosen:
        """The table at ``url`` if it fits.

        Raises:
            SymbolError: it does not, with the names of both kernels.
            FormatError, OSError: it is none, or cannot be read.
        """
        content = _load(url)
        identity = table.identity_of(content)
        if not identity.types_from and identity.symbols_from:
            url, content = self._with_types(content, identity)
            identity = table.identity_of(content)
        names = self._names(table.symbols_of(content), isf.types_of(content))
        if not len(names.symbols):
            msg = f"{url} has types, but no symbols of a kernel"
            raise FormatError(msg)
        fit = check_fit(names, identity)
        differs = fit.verdict is Verdict.DIFFERS
        if not differs or forced:
            if differs:
                vollog.warning("%s does not fit the dump and is used all the same: %s", identity.symbols_from, fit)
            types = len(names.structs.types.user_types)
            return Chosen(url, identity, fit, len(names.symbols), types, banner_at(names) or "", forced=differs)
        vollog.info("%s: %s", identity.symbols_from, fit)
        msg = (
            f"the kernel {identity.symbols_from} ({identity.banner or 'without a banner'}) does not fit the dump "
            f"({self._banner()}); pass the right one with {OPTION}, or use this one with --freebsd-force"
        )
        raise SymbolError(msg)

    def _banner(self) -> str:
        """What the dump itself says of its kernel."""
        ring = self.dump.message_buffer if isinstance(self.dump, kvm.Minidump) else b""
        return layouts.banner_in(ring) or self._banner_by_symbols() or "of a kernel that it does not name"

    def _banner_by_symbols(self) -> str:
        try:
            found = ddbsymtab.find_kernel_symbols(self.space, self.dump.word_bits, self.dump.byteorder)
        except KVMError:
            return ""
        return banner_at(self._names(found.table, self._no_types())) or ""


def _load(url: str) -> dict[str, Any]:
    """A symbol file; raises `FormatError` or `OSError` if it is none, or cannot be read."""
    with resources.ResourceAccessor().open(url) as stream:
        return isf.parse(stream, url)


def _origins(chosen: Chosen) -> tuple[str, str]:
    return chosen.identity.symbols_from or chosen.url, chosen.identity.types_from or chosen.url
