"""Finds the symbol table of a FreeBSD kernel for the plugins that ask for one."""

from __future__ import annotations

import logging

from volatility3.framework import constants, interfaces
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.automagic.options import FreeBSDKernel
from volatility3_freebsd_kvm.symbols import loading

vollog = logging.getLogger(__name__)

_parent = interfaces.configuration.parent_path


class FreeBSDSymbolFinder(interfaces.automagic.AutomagicInterface):
    """Symbols and types of the FreeBSD kernel: from its file, from symbol files or from the dump alone."""

    priority = 40
    exclusion_list = ["windows", "linux", "mac"]

    def __call__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        requirement: interfaces.configuration.RequirementInterface,
        progress_callback: constants.ProgressCallback = None,
    ) -> None:
        """Fill in each symbol table that is asked for beside a layer of a FreeBSD kernel."""
        found = self.find_requirements(
            context,
            config_path,
            requirement,
            (requirements.TranslationLayerRequirement, requirements.SymbolTableRequirement),
            shortcut=False,
        )
        layers = {
            _parent(path): context.config.get(path, None)
            for path, one in found
            if isinstance(one, requirements.TranslationLayerRequirement)
        }
        for path, one in found:
            layer_name = layers.get(_parent(path))
            if not isinstance(one, requirements.SymbolTableRequirement) or not layer_name:
                continue
            if one.unsatisfied(context, _parent(path)):
                self._fill(context, path, str(layer_name), progress_callback)
                one.construct(context, _parent(path))

    @staticmethod
    def _fill(
        context: interfaces.context.ContextInterface,
        path: str,
        layer_name: str,
        progress_callback: constants.ProgressCallback,
    ) -> None:
        try:
            chosen = loading.choose_table(
                context,
                layer_name,
                kernel=FreeBSDKernel.location(context),
                force=FreeBSDKernel.force(context),
                progress=progress_callback,
            )
        except (kvm.KVMError, OSError) as error:
            vollog.warning("No kernel symbols: %s", error)
            return
        if chosen is not None:
            loading.configure(context, path, chosen, context.layers[layer_name].address_mask)
