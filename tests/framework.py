"""The framework's way from a file to its layers, in process but otherwise as `vol` goes it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import volatility3.plugins
from volatility3 import framework
from volatility3.cli import text_renderer
from volatility3.framework import automagic, contexts, interfaces, plugins
from volatility3.framework.automagic import stacker

from volatility3_freebsd_kvm import _discovery, kvm
from volatility3_freebsd_kvm.layers.stack import layer_stack

INFO = "freebsd.kvm.info.Info"
GENERIC = "layerwriter.LayerWriter"
"""A plugin of no system: every stacker has its turn."""


@functools.cache
def plugin_classes() -> dict[str, type[interfaces.plugins.PluginInterface]]:
    """All plugins that `vol` would list, with ours from the checkout when the package is not installed."""
    if importlib.util.find_spec("volatility3.plugins.freebsd") is None:
        volatility3.plugins.__path__.insert(0, str(_discovery.PLUGINS_DIRECTORY))
    framework.import_files(volatility3.plugins, ignore_errors=True)
    return dict(framework.list_plugins())


@dataclass(frozen=True)
class Stack:
    """What stands on a file.

    Attributes:
        plugin: The plugin that the layers were made for.
        layers: From the file upwards.
    """

    plugin: interfaces.plugins.PluginInterface
    layers: tuple[interfaces.layers.DataLayerInterface, ...]

    @property
    def context(self) -> interfaces.context.ContextInterface:
        return self.plugin.context

    @property
    def kernel(self) -> Any:
        """The top layer."""
        return self.layers[-1]

    @property
    def memory(self) -> Any:
        """The layer below it: physical memory, or the file of a core by virtual address."""
        return self.layers[-2]

    @property
    def dump(self) -> kvm.Dump:
        return self.kernel.dump

    @property
    def classes(self) -> list[str]:
        return [type(layer).__name__ for layer in self.layers]

    def saved_configuration(self) -> dict[str, Any]:
        """What --save-config writes, after its way through a file."""
        return json.loads(json.dumps(dict(self.plugin.build_configuration()), sort_keys=True))


def table(
    source: Path,
    plugin: str,
    *,
    kernel: Path | None = None,
    force: bool = False,
    key: Path | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """The rows of a plugin as ``-r json`` shows them, those of nested levels behind their parents.

    Args:
        source: What -f names.
        plugin: Full name: ``freebsd.pslist.PsList``.
        kernel: What --freebsd-kernel names.
        force: Whether --freebsd-force is given.
        key: What --freebsd-key names.
        options: The plugin's own, with _ for -: ``pid=[1]``.
    """
    return rows_of(stack(source, plugin, kernel=kernel, force=force, key=key, **options).plugin)


def rows_of(plugin: interfaces.plugins.PluginInterface) -> list[dict[str, Any]]:
    """The rows of a plugin as `table` has them."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        text_renderer.JsonRenderer().render(plugin.run())
    rows = []
    waiting = json.loads(output.getvalue())
    while waiting:
        row = waiting.pop(0)
        waiting[:0] = row.pop("__children")
        rows.append(row)
    return rows


def stack(
    source: Path,
    plugin: str = INFO,
    *,
    kernel: Path | None = None,
    force: bool = False,
    key: Path | None = None,
    **options: Any,
) -> Stack:
    """Run the automagic of a plugin over a file.

    Args:
        source: What -f names.
        plugin: The plugin, whose system decides which stackers run.
        kernel: What --freebsd-kernel names.
        force: Whether --freebsd-force is given.
        key: What --freebsd-key names.
        options: The plugin's own.
    """
    context = contexts.Context()
    cls = plugin_classes()[plugin]
    for name, value in options.items():
        context.config[f"plugins.{cls.__name__}.{name.replace('_', '-')}"] = value
    context.config["automagic.LayerStacker.single_location"] = source.resolve().as_uri()
    context.config["automagic.FreeBSDKernel.freebsd_force"] = force
    if kernel is not None:
        context.config["automagic.FreeBSDKernel.freebsd_kernel"] = kernel.resolve().as_uri()
    if key is not None:
        context.config["automagic.FreeBSDKey.freebsd_key"] = str(key)
    return _construct(context, cls)


def variables(rows: list[dict[str, Any]], *names: str) -> list[tuple[str, Any]]:
    """Some rows of freebsd.kvm.info."""
    return [(row["Variable"], row["Value"]) for row in rows if row["Variable"] in names]


def beside(made: Stack, plugin: str, **options: Any) -> interfaces.plugins.PluginInterface | None:
    """Another plugin on the layers and the module of a plugin that asks for ``kernel``; None if it wants more.

    Args:
        made: The layers, with that plugin.
        plugin: Full name.
        options: The plugin's own.
    """
    context, cls = made.context, plugin_classes()[plugin]
    path = f"plugins.{cls.__name__}"
    offered = {**options, "kernel": made.plugin.config["kernel"], "primary": made.kernel.name}
    for requirement in cls.get_requirements():
        name = requirement.name.replace("-", "_")
        if name in offered:
            context.config[f"{path}.{requirement.name}"] = offered[name]
    return None if cls.unsatisfied(context, path) else cls(context, path)


def rebuild(configuration: dict[str, Any], plugin: str = INFO) -> Stack:
    """Make the layers again from a saved configuration, in a context that knows no file."""
    context = contexts.Context()
    cls = plugin_classes()[plugin]
    tree = interfaces.configuration.HierarchicalDict(configuration)
    context.config.splice(f"plugins.{cls.__name__}", tree)
    return _construct(context, cls)


def _construct(context: contexts.Context, cls: type[interfaces.plugins.PluginInterface]) -> Stack:
    chosen = automagic.choose_automagic(automagic.available(context), cls)
    context.config["automagic.LayerStacker.stackers"] = stacker.choose_os_stackers(cls)
    made = plugins.construct_plugin(context, chosen, cls, "plugins", None, None)
    top = made.config.get("primary") or made.config.get("kernel.layer_name")
    if made.config.get("kernel"):
        top = context.modules[str(made.config["kernel"])].layer_name
    return Stack(made, tuple(layer_stack(context, str(top))))
