"""Recognising FreeBSD dumps: from the file to the kernel's address space."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from volatility3.framework import constants, interfaces

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.automagic.options import FreeBSDKernel, FreeBSDKey
from volatility3_freebsd_kvm.kvm.pagemap import amd64, i386
from volatility3_freebsd_kvm.layers import dump as dump_layers
from volatility3_freebsd_kvm.layers import kernel as kernel_layers
from volatility3_freebsd_kvm.layers.container import FreeBSDContainerLayer, unwrap_layer
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.reader import name_of
from volatility3_freebsd_kvm.layers.stack import open_dump
from volatility3_freebsd_kvm.symbols import loading

vollog = logging.getLogger(__name__)

_path_join = interfaces.configuration.path_join

KERNEL_LAYERS: Mapping[str, type[FreeBSDKernelLayer]] = {
    "amd64": kernel_layers.FreeBSDIntel32e,
    "i386": kernel_layers.FreeBSDIntelPAE,
    "arm64": kernel_layers.FreeBSDAArch64,
    "riscv": kernel_layers.FreeBSDRiscV64,
    "arm": kernel_layers.FreeBSDArm,
    "powerpc64": kernel_layers.FreeBSDPowerPC64,
    "powerpc64le": kernel_layers.FreeBSDPowerPC64,
    "powerpc": kernel_layers.FreeBSDPowerPC,
    "mips": kernel_layers.FreeBSDMips,
}


def kernel_layer_class(dump: kvm.Dump) -> type[FreeBSDKernelLayer]:
    """The layer class for the kernel of ``dump``.

    Raises:
        kvm.SymbolError: the page tables of a full dump cannot be found.
    """
    if dump.architecture == "mips" and dump.word_bits == 64:
        return kernel_layers.FreeBSDMips64
    page_map = dump.page_map
    if isinstance(page_map, amd64.La57PageTables):
        return kernel_layers.FreeBSDIntel57
    if isinstance(page_map, i386.PageTables | i386.MinidumpPageMap):
        return kernel_layers.FreeBSDIntel
    return KERNEL_LAYERS[dump.architecture]


def _add_layer(
    context: interfaces.context.ContextInterface,
    layer_class: type[interfaces.layers.DataLayerInterface],
    config: Mapping[str, str | int],
) -> interfaces.layers.DataLayerInterface:
    """Configure and construct a layer under a free name."""
    name = context.layers.free_layer_name(layer_class.__name__)
    for key, value in config.items():
        context.config[_path_join(name, key)] = value
    return layer_class(context, name, name)


def _add_kernel_layer(
    context: interfaces.context.ContextInterface, layer_class: type[FreeBSDKernelLayer], below: str, root: int
) -> interfaces.layers.DataLayerInterface:
    """A kernel layer; ``root`` is the physical address of its page tables, 0 where the dump brings a page map."""
    # KernelModule copies kernel_virtual_offset into the module and fails without it.
    config: dict[str, str | int] = {"memory_layer": below, "page_map_offset": root, "kernel_virtual_offset": 0}
    return _add_layer(context, layer_class, config)


class FreeBSDContainerStacker(interfaces.automagic.StackerLayerInterface):
    """What a dump arrives in: compression, encryption, dump devices and headers; runs before all others."""

    stack_order = 8
    exclusion_list = ["windows", "linux", "mac"]

    @classmethod
    def stack(
        cls,
        context: interfaces.context.ContextInterface,
        layer_name: str,
        progress_callback: constants.ProgressCallback = None,
    ) -> interfaces.layers.DataLayerInterface | None:
        """The layer of the dump inside, if it is in something."""
        layer = context.layers[layer_name]
        # What stands on other layers is memory already.
        if isinstance(layer, FreeBSDContainerLayer | interfaces.layers.TranslationLayerInterface):
            return None
        key = FreeBSDKey.location(context)
        try:
            unwrapped = unwrap_layer(layer, key, progress_callback)
        except kvm.NotADumpError:
            return None
        except (kvm.FormatError, OSError) as error:
            vollog.warning("%s cannot be used as a FreeBSD dump: %s", name_of(layer), error)
            return None
        if unwrapped.text:
            files = ", ".join(unwrapped.text.files)
            vollog.warning(
                "%s is a text dump, which holds no memory, but %s; freebsd.kvm.info lists them, freebsd.dmesg shows "
                "msgbuf.txt",
                name_of(layer),
                files,
            )
        if not unwrapped.containers or not unwrapped.holds_dump:
            return None
        for warning in unwrapped.warnings:
            vollog.info("%s: %s", name_of(layer), warning)
        return _add_layer(context, FreeBSDContainerLayer, {"base_layer": layer_name, **({"key": key} if key else {})})


class FreeBSDDumpStacker(interfaces.automagic.StackerLayerInterface):
    """Minidumps and ELF cores; runs before the framework's own ELF stacker, which would take the latter for its own."""

    stack_order = 9
    exclusion_list = ["windows", "linux", "mac"]

    @classmethod
    def stack(
        cls,
        context: interfaces.context.ContextInterface,
        layer_name: str,
        progress_callback: constants.ProgressCallback = None,
    ) -> interfaces.layers.DataLayerInterface | None:
        """The physical layer, or the kernel layer of a dump that knows virtual addresses only."""
        layer = context.layers[layer_name]
        if isinstance(layer, FreeBSDDumpLayer | FreeBSDKernelLayer):
            return None
        try:
            dump = open_dump(layer)
        except kvm.NotADumpError:
            return None
        except kvm.FormatError as error:
            vollog.warning("%s cannot be used as a FreeBSD dump: %s", name_of(layer), error)
            return None
        if not dump.physical.is_physical:
            return _add_kernel_layer(context, kernel_layer_class(dump), layer_name, 0)
        kind = dump_layers.FreeBSDElfLayer if dump.core else dump_layers.FreeBSDMinidumpLayer
        return _add_layer(context, kind, {"base_layer": layer_name})


def _advice(context: interfaces.context.ContextInterface, dump: kvm.Dump) -> str:
    """What the user can do about page tables that were not found."""
    if FreeBSDKernel.location(context) is None:
        return "; name the kernel with --freebsd-kernel"
    return "; without --freebsd-kernel the tables are looked for by themselves" if dump.architecture == "amd64" else ""


class FreeBSDKernelStacker(interfaces.automagic.StackerLayerInterface):
    """The kernel's address space over the physical memory of a dump."""

    stack_order = 33
    exclusion_list = ["windows", "linux", "mac"]

    @classmethod
    def stack(
        cls,
        context: interfaces.context.ContextInterface,
        layer_name: str,
        progress_callback: constants.ProgressCallback = None,
    ) -> interfaces.layers.DataLayerInterface | None:
        """The kernel layer, if the dump says how to translate, or the kernel's symbols or the tables themselves do."""
        layer = context.layers[layer_name]
        if not isinstance(layer, FreeBSDDumpLayer):
            return None
        dump = layer.dump
        try:
            if dump.core and not dump.core.has_virtual:
                _, symbols = loading.page_table_symbols(FreeBSDKernel.location(context), dump.architecture)
                dump = kvm.open(dump.reader, symbols=symbols)
            kernel_class = kernel_layer_class(dump)
        except (kvm.KVMError, OSError) as error:
            vollog.warning("No kernel address space for %s: %s%s", dump.reader.name, error, _advice(context, dump))
            return None
        for warning in dump.page_map.warnings:
            vollog.info("%s: %s", dump.reader.name, warning)
        root = getattr(dump.page_map, "root", 0)
        return _add_kernel_layer(context, kernel_class, layer_name, root)
