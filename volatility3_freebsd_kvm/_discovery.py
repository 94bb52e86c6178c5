"""Puts the plugins where ``vol`` looks, whichever way it came across them.

``vol`` imports every Python file below the directories of ``volatility3.plugins.__path__`` and tolerates nothing but
ImportError. It meets this package in one of three ways:

* installed: the two files of ``_hook`` lie in ``volatility3/plugins/freebsd`` and lead to ``plugins/freebsd`` here;
* ``-p <package>/plugins``: ``plugins/freebsd`` itself is found, with or without an installed package beside it;
* ``-p <package>`` or ``-p <repository>``: one level too high, which `redirect` puts right.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, MutableSequence
from pathlib import Path
from typing import NoReturn

import volatility3.plugins
from volatility3 import framework

vollog = logging.getLogger(__name__)

PACKAGE_DIRECTORY = Path(__file__).resolve().parent
PLUGINS_DIRECTORY = PACKAGE_DIRECTORY / "plugins"
CATEGORY = "freebsd"
PLUGIN_PACKAGE = f"volatility3.plugins.{CATEGORY}"


@contextlib.contextmanager
def only_import_errors(task: str) -> Iterator[None]:
    """Turn every failure into ImportError, since any other exception would end every ``vol`` command of the user.

    Args:
        task: What is being done, for the message.

    Raises:
        ImportError: Anything that the body raised, as the cause.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ImportError(f"volatility3-freebsd-kvm: {task} failed: {error!r}") from error


def attach(name: str, path: MutableSequence[str], modules: Path) -> None:
    """Make the package ``volatility3.plugins.freebsd`` complete: its search path and FreeBSD in the framework.

    Args:
        name: ``__name__`` of the calling package.
        path: ``__path__`` of the calling package, changed in place.
        modules: Directory that holds the plugin modules.

    Raises:
        ImportError: The package was imported under another name, or FreeBSD could not be registered.
    """
    if name != PLUGIN_PACKAGE:
        raise ImportError(f"the FreeBSD plugins are imported as {PLUGIN_PACKAGE}, not as {name}")
    with only_import_errors("making the plugins available"):
        from volatility3_freebsd_kvm import __version__, register

        _compare_versions(modules.resolve().parent.parent, __version__)
        path[:] = _search_path(path[0], str(modules))
        register()


def import_plugins(name: str) -> None:
    """Import all modules of the plugin package: ``vol`` walks its own directories but no package's ``__path__``.

    Args:
        name: Name of the imported plugin package.

    Raises:
        ImportError: A plugin module failed with anything else than ImportError.
    """
    with only_import_errors("importing the plugins"):
        failures = framework.import_files(sys.modules[name], ignore_errors=True)
    if failures:
        vollog.info("FreeBSD plugins that could not be loaded (use -vv to see why): %s", ", ".join(sorted(failures)))


def redirect(name: str) -> NoReturn:
    """Replace a ``-p`` directory that is too high by our plugin directory, then refuse the import.

    Args:
        name: The name under which a module of ours was imported.

    Raises:
        ImportError: Always.
    """
    live = volatility3.plugins.__path__
    wanted = str(PLUGINS_DIRECTORY)
    too_high = {str(PACKAGE_DIRECTORY), str(PACKAGE_DIRECTORY.parent)}
    given = [index for index, entry in enumerate(live) if os.path.realpath(entry) in too_high]
    if given and wanted not in live:
        # Twice: the first ends the imports from the directory being walked, the second is the one walked next.
        live[given[0] : given[0] + 1] = [wanted, wanted]
        vollog.info("Using the plugin directory %s", wanted)
    raise ImportError(f"{name} is not a plugin: use -p {wanted}")


def _search_path(own: str, modules: str) -> list[str]:
    """Return the directories of the package in the framework's order, so that a user's directory still wins."""
    found: list[str] = []
    for base in volatility3.plugins.__path__:
        candidate = Path(base, CATEGORY)
        if candidate.is_dir():
            found += [own, modules] if candidate.samefile(own) else [str(candidate)]
    return list(dict.fromkeys(found)) or [own, modules]


def _compare_versions(package: Path, version: str) -> None:
    """Warn when the plugins of one release are about to run on the library of another."""
    if package == PACKAGE_DIRECTORY:
        return
    found = re.search(r'^__version__ = "(.+)"$', (package / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    other = found[1] if found else "unknown"
    if other != version:
        vollog.warning(
            "The FreeBSD plugins in %s are version %s, but the installed volatility3-freebsd-kvm is version %s (%s): "
            "leave out -p, or install the same version",
            package,
            other,
            version,
            PACKAGE_DIRECTORY,
        )
