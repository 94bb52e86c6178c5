"""YARA rules over the memory of processes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.layers.process import add_process_layer
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of
from volatility3_freebsd_kvm.process_options import chosen_processes, process_requirements

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel
    from volatility3_freebsd_kvm.bsd.records import Problem
    from volatility3_freebsd_kvm.bsd.user_walk import UserProcess

COLUMNS: list[tuple[str, Any]] = [
    ("Offset", Hex),
    ("PID", int),
    ("Command", str),
    ("Rule", str),
    ("Component", str),
    ("Value", renderers.LayerData),
    ("Region", str),
    ("Path", str),
    ("Notes", str),
]
NO_YARA = "neither yara-python nor yara-x is installed: pip install yara-python"
NO_RULES = "there are no rules: give --yara-string, --yara-file or --yara-compiled-file"
OPTIONS = ("insensitive", "wide", "yara_string", "yara_file", "yara_compiled_file", "max_size")


@dataclass(frozen=True)
class Match:
    """A match of a rule; one without an address says what of a process could not be searched."""

    process: UserProcess
    notes: tuple[str, ...] = ()
    address: int | None = None
    rule: str = ""
    component: str = ""
    value: bytes = b""


class VmaYaraScan(interfaces.plugins.PluginInterface):
    """Searches the memory of processes with YARA rules."""

    _required_framework_version = (2, 22, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The rules, the kernel, and which processes."""
        yarascan = _yarascan()
        if yarascan is None:
            # That YARA is missing is said when the plugin runs.
            rules = [requirements.StringRequirement(name=name, description=NO_YARA, optional=True) for name in OPTIONS]
        else:
            rules = yarascan.YaraScan.get_yarascan_option_requirements()
        return [*rules, *process_requirements()]

    def run(self) -> renderers.TreeGrid:
        """One row a match, and one a process that says what of it could not be searched."""
        kernel = kernel_of(self)
        return grid(COLUMNS, self._matches(kernel), _Row(self, kernel))

    def _matches(self, kernel: Kernel) -> Iterator[Match | Problem]:
        from volatility3_freebsd_kvm.bsd.records import Problem
        from volatility3_freebsd_kvm.bsd.user import UserMemories
        from volatility3_freebsd_kvm.bsd.user_walk import user_processes

        scanner = self._scanner()
        if isinstance(scanner, Problem):
            yield scanner
            return
        for process in user_processes(UserMemories(kernel), *chosen_processes(self)):
            if isinstance(process, Problem):
                yield process
            else:
                yield from self._in_process(scanner, process)

    def _scanner(self) -> Any:
        """What finds the rules' matches in bytes, or why there is nothing of that kind."""
        from volatility3_freebsd_kvm.bsd.records import Problem

        yarascan = _yarascan()
        if yarascan is None:
            return Problem("yara", NO_YARA)
        if not any(self.config.get(name) for name in ("yara_string", "yara_file", "yara_compiled_file")):
            return Problem("yara", NO_RULES)
        try:
            rules = yarascan.YaraScan.process_yara_options(dict(self.config))
            return yarascan.YaraScanner(rules=rules)
        except Exception as error:  # noqa: BLE001 - each of the libraries has errors of its own, and so has opening a file
            return Problem("yara", f"the rules cannot be used: {error}")

    def _in_process(self, scanner: Any, process: UserProcess) -> Iterator[Match]:
        from volatility3_freebsd_kvm.bsd.user_scan import WINDOW, not_read, windows

        size = min(int(self.config.get("max_size") or WINDOW), WINDOW)
        for window in windows(process.memory, size):
            for offset, rule, component, value in scanner(window.data, window.address):
                if offset < window.address + window.own:
                    yield Match(process, (), offset, str(rule), str(component), bytes(value))
        lost = not_read(process.memory)
        if lost:
            yield Match(process, (f"not searched: {lost}",))


def _yarascan() -> Any:
    """The framework's module, which cannot be imported without YARA; then None."""
    try:
        return importlib.import_module("volatility3.plugins.yarascan")
    except ImportError:
        return None


class _Row:
    """Makes rows; a process gets a layer when something is found in it."""

    def __init__(self, plugin: interfaces.plugins.PluginInterface, kernel: Kernel) -> None:
        from volatility3_freebsd_kvm.bsd.backing import Backings

        self._context = plugin.context
        self._module = plugin.context.modules[str(plugin.config["kernel"])]
        self._backings = Backings(kernel)
        self._layers: dict[int, str] = {}

    def __call__(self, match: Match) -> tuple[object, ...]:
        from volatility3_freebsd_kvm.bsd.records import Absent

        process, absent = match.process, Absent.NOT_APPLICABLE
        if match.address is None:
            return (absent, process.pid, process.command, absent, absent, absent, absent, absent, match.notes)
        entry = process.memory.entry_at(match.address)
        backing = self._backings.of(process.memory, entry) if entry else None
        return (
            match.address,
            process.pid,
            process.command,
            match.rule,
            match.component,
            renderers.LayerData(self._context, self._layer(process), match.address, len(match.value)),
            f"{entry.start:#x}-{entry.end:#x} {protection(entry.protection)}" if entry else absent,
            backing.path if backing and backing.path else absent,
            match.notes,
        )

    def _layer(self, process: UserProcess) -> str:
        address = process.proc.address_
        if address not in self._layers:
            self._layers[address] = add_process_layer(
                self._context,
                self._module.layer_name,
                self._module.symbol_table_name,
                address,
                f"{self._module.layer_name}_Process{process.pid}",
            )
        return self._layers[address]


def protection(bits: int) -> str:
    """VM_PROT_ bits as ``rwx``."""
    from volatility3_freebsd_kvm.bsd.vm import protection_text

    return protection_text(bits)
