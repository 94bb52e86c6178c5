"""Recognising FreeBSD in physical memory that has no header: raw images and what the framework makes memory of."""

from __future__ import annotations

import logging

from volatility3.framework import constants, interfaces
from volatility3.framework.layers import intel

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.automagic.options import FreeBSDKernel, FreeBSDKey
from volatility3_freebsd_kvm.kvm import minidump
from volatility3_freebsd_kvm.layers.container import holds_no_memory
from volatility3_freebsd_kvm.layers.dump import FreeBSDDumpLayer
from volatility3_freebsd_kvm.layers.kernel import FreeBSDKernelLayer
from volatility3_freebsd_kvm.layers.raw import FreeBSDRawLayer, source_of
from volatility3_freebsd_kvm.layers.reader import name_of
from volatility3_freebsd_kvm.symbols import loading

vollog = logging.getLogger(__name__)

_path_join = interfaces.configuration.path_join
_OTHERS = frozenset({"WindowsIntelStacker", "LinuxIntelStacker", "MacIntelStacker"})


class FreeBSDRawStacker(interfaces.automagic.StackerLayerInterface):
    """Physical memory without a header; runs behind everything that knows a file format.

    Only what confirms itself is taken. For plugins of no system, that may be about to look at Windows, a kernel is
    looked for by its ELF header only, which takes milliseconds.
    """

    stack_order = 30
    exclusion_list = ["windows", "linux", "mac"]

    @classmethod
    def stack(
        cls,
        context: interfaces.context.ContextInterface,
        layer_name: str,
        progress_callback: constants.ProgressCallback = None,
    ) -> interfaces.layers.DataLayerInterface | None:
        """The physical layer, if there is a FreeBSD kernel whose page tables are found."""
        layer = context.layers[layer_name]
        # What is virtual memory, or a dump already, is no physical memory.
        if isinstance(layer, FreeBSDDumpLayer | FreeBSDKernelLayer | intel.Intel):
            return None
        # The container stacker has said why.
        is_file = not isinstance(layer, interfaces.layers.TranslationLayerInterface)
        if is_file and holds_no_memory(layer, FreeBSDKey.location(context)):
            return None
        try:
            dump = cls._open(context, layer, progress_callback)
        except kvm.NoKernelError as error:
            for reason in error.reasons:
                vollog.debug("%s: %s", name_of(layer), reason)
            # Somebody else's image is nothing to warn of.
            ours = error.is_freebsd or FreeBSDKernel.location(context) is not None
            vollog.log(logging.WARNING if ours else logging.INFO, "%s%s", error, cls._advice(context, ours=ours))
            return None
        except kvm.NotADumpError as error:
            vollog.debug("%s", error)
            return None
        except (kvm.KVMError, OSError) as error:
            vollog.warning("%s cannot be used as memory of FreeBSD: %s", name_of(layer), error)
            return None
        vollog.info("%s: %s memory from %#x on; %s", name_of(layer), dump.architecture, dump.base, dump.how)
        name = context.layers.free_layer_name(FreeBSDRawLayer.__name__)
        for key, value in {"base_layer": layer_name, **FreeBSDRawLayer.config_of(dump)}.items():
            context.config[_path_join(name, key)] = value
        return FreeBSDRawLayer(context, name, name)

    @classmethod
    def _open(
        cls,
        context: interfaces.context.ContextInterface,
        layer: interfaces.layers.DataLayerInterface,
        progress: constants.ProgressCallback,
    ) -> kvm.RawDump:
        source = source_of(context, layer)
        if minidump.is_minidump(source.reader.buffer[0:16]):
            msg = f"{source.reader.name} is a minidump, no raw memory"
            raise kvm.NotADumpError(msg)
        architecture, symbols = loading.page_table_symbols(FreeBSDKernel.location(context))
        chosen = context.config.get(_path_join("automagic", "LayerStacker", "stackers"), None)
        return kvm.open_raw(
            source.reader,
            symbols,
            architecture=architecture,
            segments=source.segments,
            thorough=isinstance(chosen, list) and not _OTHERS & set(chosen),
            progress=progress,
        )

    @staticmethod
    def _advice(context: interfaces.context.ContextInterface, *, ours: bool) -> str:
        return (
            "; if it is one, name it with --freebsd-kernel" if ours and FreeBSDKernel.location(context) is None else ""
        )
