"""Makes FreeBSD an operating system of the framework."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import volatility3.symbols
from volatility3 import framework
from volatility3.framework import automagic, constants, interfaces

from volatility3_freebsd_kvm._discovery import CATEGORY, PACKAGE_DIRECTORY, only_import_errors

ExclusiveClass: TypeAlias = (
    type[interfaces.automagic.AutomagicInterface] | type[interfaces.automagic.StackerLayerInterface]
)
"""A class with an ``exclusion_list``: the systems for whose plugins it does not run."""

# A saved configuration names classes, and the framework looks for them in sys.modules only.
CLASS_PACKAGES = ("layers", "symbols", "automagic", "extensions")


def register() -> None:
    """Do all of the registration; see `volatility3_freebsd_kvm.register`."""
    with only_import_errors("registering FreeBSD"):
        if CATEGORY not in constants.OS_CATEGORIES:
            constants.OS_CATEGORIES.append(CATEGORY)
        exclude_other_systems()
        for directory in symbol_directories():
            _add_symbol_directory(str(directory))
        for package in CLASS_PACKAGES:
            importlib.import_module(f"volatility3_freebsd_kvm.{package}")


def exclude_other_systems() -> None:
    """Keep the framework's Windows, Linux and Mac classes from running for FreeBSD plugins.

    Without this they scan our images for seconds. The list is replaced on the class: the framework shares its lists.
    """
    # The framework imports these after the plugins, too late for us.
    framework.import_files(sys.modules[automagic.__name__], ignore_errors=True)
    for cls in _framework_classes():
        if _belongs_to_another_system(cls):
            cls.exclusion_list = [*cls.exclusion_list, CATEGORY]


def symbol_directories() -> list[Path]:
    """Return the existing directories of our symbol files: in the installed package, or beside it in a checkout."""
    candidates = [PACKAGE_DIRECTORY / "isf"]
    if (PACKAGE_DIRECTORY.parent / "pyproject.toml").is_file():
        candidates.append(PACKAGE_DIRECTORY.parent / "symbols")
    return [directory for directory in candidates if directory.is_dir()]


def _framework_classes() -> Iterator[ExclusiveClass]:
    """Yield the automagic and stacker classes that the framework itself brings."""
    bases: tuple[ExclusiveClass, ...] = (
        interfaces.automagic.AutomagicInterface,
        interfaces.automagic.StackerLayerInterface,
    )
    for base in bases:
        for cls in framework.class_subclasses(base):
            if cls.__module__.startswith("volatility3.framework."):
                yield cls


def _belongs_to_another_system(cls: ExclusiveClass) -> bool:
    """Tell whether a class serves other systems only and does not yet know of FreeBSD.

    A class without exclusions serves every system; one that excludes every other system is FreeBSD's own.
    """
    excluded = set(cls.exclusion_list)
    others = set(constants.OS_CATEGORIES) - {CATEGORY}
    return bool(excluded) and CATEGORY not in excluded and not others <= excluded


def _add_symbol_directory(directory: str) -> None:
    """Append a directory to the places where the framework looks for symbol files, also when -s replaced them."""
    for path in (constants.SYMBOL_BASEPATHS, volatility3.symbols.__path__):
        if directory not in path:
            path.append(directory)
