"""From a layer to its kernel's table: with the user's options and the framework's directories."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from volatility3.framework import constants, interfaces
from volatility3.framework.automagic import symbol_cache
from volatility3.framework.layers import resources

from volatility3_freebsd_kvm._discovery import CATEGORY
from volatility3_freebsd_kvm.kvm.pagemap import FULL_SYMBOLS
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.reader import local_path as local_path
from volatility3_freebsd_kvm.layers.reader import unpacked_directory as unpacked_directory
from volatility3_freebsd_kvm.layers.stack import kernel_layer_of, layer_stack
from volatility3_freebsd_kvm.symbols.table import FreeBSDKernelSymbols

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.symbols.sources import Chosen

SYMBOL_FILES = (".json", ".json.xz", ".json.gz", ".json.bz2")
"""How the names of symbol files end."""
_CONFIRMING = ("version",)
"""Symbols that tell whether page tables are the right ones."""
TABLE_CLASS = f"{FreeBSDKernelSymbols.__module__}.{FreeBSDKernelSymbols.__qualname__}"


def choose_table(
    context: interfaces.context.ContextInterface,
    layer_name: str,
    *,
    kernel: str | None,
    force: bool,
    progress: constants.ProgressCallback = None,
) -> Chosen | None:
    """The table for the kernel of a layer; None if it is no FreeBSD kernel's layer.

    Args:
        context: that holds the layer.
        layer_name: a kernel layer, or one on top of it.
        kernel: URL of what the user named.
        force: take a kernel that does not fit.
        progress: is told of long work.

    Raises:
        KVMError: there is none, and what was looked for.
    """
    layer = kernel_layer_of(context, layer_name)
    if layer is None:
        return None
    # Here, not at import: they bring the ELF library, and every start of `vol` would pay for it.
    from volatility3_freebsd_kvm._registration import symbol_directories
    from volatility3_freebsd_kvm.symbols.sources import Settings, Sources

    settings = Settings(
        kernel=local_path(kernel) if kernel else None,
        force=force,
        cache=unpacked_directory(),
        tables=Path(constants.CACHE_PATH) / "symbols" / "freebsd",
        layouts=tuple(symbol_directories()),
        symbol_files=_symbol_files(),
        image=_image(context, layer),
    )
    return Sources(layer.dump, layer.space, settings, progress).choose()


def configure(context: interfaces.context.ContextInterface, config_path: str, chosen: Chosen, symbol_mask: int) -> None:
    """Configure a table requirement so that the framework constructs the chosen table, now or from a saved file."""
    values = {"class": TABLE_CLASS, "isf_url": chosen.url, "symbol_mask": symbol_mask}
    for key, value in values.items():
        context.config[interfaces.configuration.path_join(config_path, key)] = value


def symbols_in(path: Path, names: Collection[str]) -> dict[str, int]:
    """The values of some symbols of a symbol file.

    Raises:
        FormatError, OSError: it is none, or cannot be read.
    """
    from volatility3_freebsd_kvm.image import isf, table

    with resources.ResourceAccessor().open(path.as_uri()) as stream:
        symbols = table.symbols_of(isf.parse(stream, str(path)))
    return {name: value for name in names if (value := symbols.value(name)) is not None}


def page_table_symbols(location: str | None, architecture: str | None = None) -> tuple[str | None, Mapping[str, int]]:
    """``(architecture, symbols)`` of the kernel that the user named: those symbols that lead to its page tables.

    Args:
        location: URL of what the user named; with None there are no symbols.
        architecture: that the kernel must be of; None for any.

    Raises:
        FormatError, OSError: that file is no kernel, or cannot be read.
    """
    if location is None:
        return architecture, {}
    # Here, not at import: it brings the ELF library, and every start of `vol` would pay for it.
    from volatility3_freebsd_kvm.image import isf, locate, table

    path = local_path(location)
    if path.name.endswith(SYMBOL_FILES):
        architecture = architecture or table.identity_of(isf.load(path)).architecture
        return _translatable(architecture, symbols_in(path, _leading(architecture)))
    source = next(locate.candidates(path, architecture, unpacked_directory()))
    with locate.opened(source) as (kernel, _):
        return _translatable(source.architecture, kernel.symbol_values(_leading(source.architecture)))


def _leading(architecture: str) -> Collection[str]:
    return (*FULL_SYMBOLS.get(architecture, ()), *_CONFIRMING)


def _translatable(architecture: str, symbols: Mapping[str, int]) -> tuple[str | None, Mapping[str, int]]:
    """The kernel, if its kind of memory can be translated."""
    return (architecture, symbols) if architecture in FULL_SYMBOLS else (None, {})


def _image(context: interfaces.context.ContextInterface, layer: FreeBSDKernelLayer) -> Path | None:
    """The file at the bottom of the stack."""
    location = str(layer_stack(context, layer.name)[0].config.get("location", None) or "")
    return local_path(location) if location.startswith("file:") else None


def _symbol_files() -> Iterator[tuple[str, bytes]]:
    """Symbol files of FreeBSD kernels on the framework's symbol path, as `FreeBSDIdentifier` has told them."""
    path = str(Path(constants.CACHE_PATH) / constants.IDENTIFIERS_FILENAME)
    known = symbol_cache.SqliteCache(path)  # type: ignore[abstract]
    for identifier, location in known.get_identifier_dictionary(operating_system=CATEGORY).items():
        if identifier and location:
            yield str(location), bytes(identifier)
