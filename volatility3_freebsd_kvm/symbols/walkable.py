"""From the framework's layers and symbol tables to the kernel that walkers start from."""

from __future__ import annotations

from volatility3.framework import interfaces

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.image.table import variables_of
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.stack import dump_of
from volatility3_freebsd_kvm.symbols.names import content_of, names_of
from volatility3_freebsd_kvm.symbols.table import FreeBSDKernelSymbols


def walkable_kernel(context: interfaces.context.ContextInterface, layer_name: str, table_name: str) -> Kernel:
    """The kernel in a layer, by a symbol table.

    Args:
        context: that holds both.
        layer_name: of the kernel's memory.
        table_name: of its symbols and types.
    """
    table, layer = context.symbol_space[table_name], context.layers[layer_name]
    content = content_of(table)
    names = table.names if isinstance(table, FreeBSDKernelSymbols) and _is_in(table, layer_name) else None
    architecture, message_buffer, space = "", b"", None
    try:
        dump = dump_of(context, layer_name)
        architecture = dump.architecture
        message_buffer = dump.message_buffer_pages if isinstance(dump, kvm.Minidump) else b""
        space = layer.space if isinstance(layer, FreeBSDKernelLayer) else None
    except kvm.KVMError:
        pass
    return Kernel(names or names_of(content, layer), architecture, variables_of(content), message_buffer, space)


def _is_in(table: FreeBSDKernelSymbols, layer_name: str) -> bool:
    """Whether the table's own names are those of this layer: they belong to the module that uses it."""
    modules = (table.context.modules[name] for name in table.context.modules)
    return any((one.symbol_table_name, one.layer_name) == (table.name, layer_name) for one in modules)
