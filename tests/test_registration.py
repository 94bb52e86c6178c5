"""What `register` does to the framework, and what importing the package must not do."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import volatility3.plugins
import volatility3.symbols
from volatility3 import framework
from volatility3.framework import automagic, constants, interfaces
from volatility3.framework.automagic import linux, mac, pdbscan, stacker, windows

import volatility3_freebsd_kvm
from volatility3_freebsd_kvm import _discovery, _registration

PACKAGE = Path(volatility3_freebsd_kvm.__file__).parent

OTHER_SYSTEMS = [
    linux.LinuxIntelStacker,
    linux.LinuxSymbolFinder,
    mac.MacIntelStacker,
    mac.MacSymbolFinder,
    pdbscan.KernelPDBScanner,
    windows.WindowsIntelStacker,
]


@pytest.fixture(scope="module", autouse=True)
def _registered():
    volatility3_freebsd_kvm.register()


@pytest.fixture(scope="module")
def plugin_names():
    """All plugins that `vol` would list, with ours from the checkout when the package is not installed."""
    if importlib.util.find_spec("volatility3.plugins.freebsd") is None:
        volatility3.plugins.__path__.insert(0, str(_discovery.PLUGINS_DIRECTORY))
    framework.import_files(volatility3.plugins, ignore_errors=True)
    return sorted(framework.list_plugins())


def exclusion_lists():
    bases = (interfaces.automagic.AutomagicInterface, interfaces.automagic.StackerLayerInterface)
    return {cls: list(cls.exclusion_list) for base in bases for cls in framework.class_subclasses(base)}


def search_paths():
    return list(constants.SYMBOL_BASEPATHS), list(volatility3.symbols.__path__)


def test_register_twice_changes_nothing():
    before = list(constants.OS_CATEGORIES), exclusion_lists(), search_paths()
    volatility3_freebsd_kvm.register()
    assert (list(constants.OS_CATEGORIES), exclusion_lists(), search_paths()) == before


def test_freebsd_is_one_category():
    assert constants.OS_CATEGORIES.count("freebsd") == 1


@pytest.mark.parametrize("cls", OTHER_SYSTEMS, ids=lambda cls: cls.__name__)
def test_other_systems_do_not_run_for_freebsd(cls):
    assert cls.exclusion_list.count("freebsd") == 1


def test_general_classes_run_for_freebsd():
    assert "freebsd" not in stacker.LayerStacker.exclusion_list


def test_shared_lists_are_untouched():
    assert interfaces.automagic.AutomagicInterface.exclusion_list == []
    assert interfaces.automagic.StackerLayerInterface.exclusion_list == []


def test_classes_outside_the_framework_are_untouched():
    foreign = {cls for cls in exclusion_lists() if not cls.__module__.startswith("volatility3.framework.")}
    assert not any("freebsd" in cls.exclusion_list for cls in foreign)


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        (["linux", "mac"], True),
        (["linux", "mac", "freebsd"], False),
        (["windows", "linux", "mac"], False),
        ([], False),
    ],
    ids=["windows", "windows, knows of freebsd", "freebsd of the framework", "general"],
)
def test_which_classes_learn_of_freebsd(excluded, expected):
    cls = type("Automagic", (), {"exclusion_list": excluded})
    assert _registration._belongs_to_another_system(cls) is expected


def test_chosen_automagic_is_general_or_ours(plugin_names):
    name = next(name for name in plugin_names if name.startswith("freebsd."))
    classes = [cls for cls in exclusion_lists() if issubclass(cls, interfaces.automagic.AutomagicInterface)]
    chosen = automagic.choose_automagic(classes, framework.list_plugins()[name])
    assert stacker.LayerStacker in chosen
    assert not set(OTHER_SYSTEMS) & set(chosen)


def test_classes_for_saved_configurations_are_loaded():
    assert {f"volatility3_freebsd_kvm.{name}" for name in ("layers", "symbols", "automagic")} <= set(sys.modules)


def test_symbol_files_of_an_installed_package(monkeypatch, tmp_path):
    monkeypatch.setattr(_registration, "PACKAGE_DIRECTORY", tmp_path)
    monkeypatch.setattr(constants, "SYMBOL_BASEPATHS", ["base"])
    monkeypatch.setattr(volatility3.symbols, "__path__", ["given with -s", "base"])
    volatility3_freebsd_kvm.register()
    assert search_paths() == (["base"], ["given with -s", "base"])
    (tmp_path / "isf").mkdir()
    for _ in range(2):
        volatility3_freebsd_kvm.register()
    isf = str(tmp_path / "isf")
    assert search_paths() == (["base", isf], ["given with -s", "base", isf])


@pytest.mark.parametrize(("is_checkout", "expected"), [(True, ["symbols"]), (False, [])])
def test_symbol_files_of_a_checkout(monkeypatch, tmp_path, is_checkout, expected):
    (tmp_path / "symbols").mkdir()
    if is_checkout:
        (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(_registration, "PACKAGE_DIRECTORY", tmp_path / "volatility3_freebsd_kvm")
    assert [directory.name for directory in _registration.symbol_directories()] == expected


def test_only_import_error_escapes(monkeypatch):
    def fail():
        raise KeyError("changed by a later framework")

    monkeypatch.setattr(_registration, "exclude_other_systems", fail)
    with pytest.raises(ImportError, match="changed by a later framework") as caught:
        volatility3_freebsd_kvm.register()
    assert isinstance(caught.value.__cause__, KeyError)


def test_import_error_passes_unchanged():
    error = ImportError("no such module")
    with pytest.raises(ImportError) as caught, _discovery.only_import_errors("testing"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("name", ["layers", "automagic", "symbols"])
def test_no_second_import_under_another_name(name):
    spec = importlib.util.spec_from_file_location(f"volatility3.plugins.{name}", PACKAGE / name / "__init__.py")
    with pytest.raises(ImportError, match="is not a plugin"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_plugins_have_one_name_only():
    with pytest.raises(ImportError, match=r"imported as volatility3\.plugins\.freebsd, not as"):
        importlib.import_module("volatility3_freebsd_kvm.plugins.freebsd")


def test_short_names_are_unique(plugin_names):
    short_names = {name.rpartition(".")[0] for name in plugin_names if name.startswith("freebsd.")}
    assert "freebsd.kvm.info" in short_names
    matches = {short: [name for name in plugin_names if short in name] for short in short_names}
    assert {short: names for short, names in matches.items() if len(names) != 1} == {}


WITHOUT_FRAMEWORK = """
import importlib, pkgutil, sys
import volatility3_freebsd_kvm.kvm as kvm
for module in pkgutil.walk_packages(kvm.__path__, kvm.__name__ + "."):
    importlib.import_module(module.name)
print([name for name in sys.modules if name.partition(".")[0] == "volatility3"])
"""


def test_kvm_does_not_need_the_framework():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FRAMEWORK], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
