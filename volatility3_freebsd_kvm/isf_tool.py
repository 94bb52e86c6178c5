"""``freebsd-isf``: the symbol file of a FreeBSD kernel, for Volatility 3 on another machine or for other tools."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .exceptions import FormatError, KVMError
from .image import build, isf, locate, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, or 1 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s")
    progress = _Progress() if sys.stderr.isatty() else None
    try:
        with tempfile.TemporaryDirectory(prefix="freebsd-isf-") as cache:
            content = _convert(options.kernel, Path(cache), progress, everything=options.all)
        identity = table.identity_of(content)
        target = options.output or Path(_name(identity))
        # The framework goes by the name, not by what is in the file.
        target.write_bytes(isf.text(content) if target.suffix == ".json" else isf.dump(content))
    except (KVMError, OSError) as error:
        _say(f"freebsd-isf: {error}", progress)
        return 1
    symbols, types = len(table.symbols_of(content)), len(content["user_types"])
    _say(f"{target}: {symbols} symbols, {types} structures from {identity.types_from}", progress)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freebsd-isf",
        description="Write the symbol file (ISF) of a FreeBSD kernel: its symbols, and its types from DWARF or CTF.",
        epilog="Volatility 3 finds the file by itself in a directory of its symbol path (-s DIRECTORY).",
    )
    parser.add_argument(
        "kernel", type=Path, help="the kernel's file or kernel.debug, a directory such as /boot/kernel, or kernel.txz"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write, to a name that ends in .json.xz or .json (default: named by kernel)",
    )
    parser.add_argument("--all", action="store_true", help="keep all types, not only those that plugins use")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what is looked at and passed over")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _convert(path: Path, cache: Path, progress: _Progress | None, *, everything: bool) -> dict[str, Any]:
    """The symbol file of the first kernel there.

    Raises:
        KVMError, OSError: there is none, or it has no types.
    """
    source = next(locate.candidates(path, None, cache, progress))
    for warning in source.warnings:
        _say(warning, progress)
    with locate.opened(source) as (kernel, debug):
        content = build.kernel_table(kernel, debug, everything=everything, progress=progress)
    if not table.identity_of(content).types_from:
        msg = f"{source.description} has neither DWARF nor CTF; kernel.debug beside it would have types"
        raise FormatError(msg)
    return content


def _name(identity: table.TableIdentity) -> str:
    """A file name that tells the kernel: ``freebsd-14.3-RELEASE-GENERIC-amd64-0123abcd.json.xz``."""
    found = re.match(r"FreeBSD (\S+)", identity.version)
    parts = [found[1] if found else "", identity.ident, identity.architecture, identity.build_id[:8]]
    # A kernel may be named as its builder likes.
    return "-".join(["freebsd", *(re.sub(r"[^\w.]+", "-", part) for part in parts if part)]) + ".json.xz"


class _Progress:
    """One line on a terminal, written over."""

    def __call__(self, percent: float, text: str) -> None:
        sys.stderr.write(f"\r{percent:5.1f} % {text:<70.70}")
        sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write("\r" + " " * 79 + "\r")


def _say(text: str, progress: _Progress | None) -> None:
    if progress:
        progress.clear()
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
