"""What is under a layer."""

from __future__ import annotations

from volatility3.framework import interfaces

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.layers.container import reader_of, unwrap_layer
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer


def layer_stack(
    context: interfaces.context.ContextInterface, layer_name: str
) -> list[interfaces.layers.DataLayerInterface]:
    """The layer and all that it stands on, the lowest (the file) first."""
    found: dict[str, interfaces.layers.DataLayerInterface] = {}
    waiting = [layer_name]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = context.layers[name]
            waiting += found[name].dependencies
    return list(reversed(found.values()))


def dump_of(context: interfaces.context.ContextInterface, layer_name: str, key: str | None = None) -> kvm.Dump:
    """The FreeBSD dump that a layer stands on.

    Args:
        context: that holds the layer.
        layer_name: the layer.
        key: the RSA private key (PEM) to an encrypted dump that no layer stands on yet.

    Raises:
        kvm.NotADumpError: there is none.
        kvm.FormatError: there is one that cannot be read, and why.
    """
    stack = layer_stack(context, layer_name)
    for layer in reversed(stack):
        if isinstance(layer, FreeBSDDumpLayer | FreeBSDKernelLayer):
            return layer.dump
    return _kernel_dump(kvm.open(unwrap_layer(stack[0], key)))


def text_dump_of(context: interfaces.context.ContextInterface, layer_name: str) -> kvm.TextDump | None:
    """The text dump in the file that a layer stands on, if it is one; `read` of it gives ``msgbuf.txt`` and others.

    Raises:
        kvm.FormatError, OSError: the file is damaged, or cannot be read.
    """
    try:
        return unwrap_layer(layer_stack(context, layer_name)[0]).text
    except (kvm.NotADumpError, kvm.MissingPieceError):
        return None


def open_dump(layer: interfaces.layers.DataLayerInterface) -> kvm.Dump:
    """Open the dump of a FreeBSD kernel that a layer holds, in no container any more.

    Raises:
        kvm.NotADumpError: it holds none, or an ELF core of a process or of another system.
        kvm.FormatError: it holds one that cannot be read, and why.
    """
    return _kernel_dump(kvm.open(reader_of(layer), unwrap=False))


def _kernel_dump(dump: kvm.Dump) -> kvm.Dump:
    if dump.core and not dump.core.is_kernel:
        msg = f"{dump.reader.name} is an ELF core, but not one of a FreeBSD kernel"
        raise kvm.NotADumpError(msg)
    return dump


def kernel_layer_of(context: interfaces.context.ContextInterface, layer_name: str) -> FreeBSDKernelLayer | None:
    """The kernel's layer in the stack of a layer."""
    for layer in reversed(layer_stack(context, layer_name)):
        if isinstance(layer, FreeBSDKernelLayer):
            return layer
    return None
