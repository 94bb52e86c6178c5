"""What a release of FreeBSD installs for its kernel, as files, directories and archives."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.minikernel import ToolchainUnavailable, build_module
from tests.minikernel.kernels import kernel_file
from tests.minikernel.strip import strip_debug
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.locate import KernelSource, candidates

from . import elf_files

BOOT = "boot/kernel"
DEBUG = "usr/lib/debug/boot/kernel"


@cache
def whole(release: str = "14") -> bytes:
    """kernel.full: everything in one file."""
    return kernel_file(release, "amd64").read_bytes()


@cache
def debug_file(release: str = "14") -> bytes:
    return elf_files.only_keep_debug(whole(release))


@cache
def kernel(release: str = "14") -> bytes:
    return elf_files.add_debuglink(strip_debug(whole(release)), b"kernel.debug", zlib.crc32(debug_file(release)))


@cache
def module() -> bytes:
    try:
        return build_module("14", "amd64").read_bytes()
    except ToolchainUnavailable as error:
        pytest.skip(str(error))


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def system() -> dict[str, bytes]:
    """As 11.0 and later install it."""
    return {
        f"{BOOT}/kernel": kernel(),
        f"{BOOT}/mini.ko": module(),
        f"{DEBUG}/kernel.debug": debug_file(),
        f"{DEBUG}/mini.ko.debug": module() + b"debug",
        "boot/modules/port.ko": module() + b"port",
        f"{BOOT}/linker.hints": b"hints",
    }


def pack(path: Path, files: dict[str, bytes], mode: str = "w:xz", prefix: str = "./") -> Path:
    quick = {"preset": 0} if mode == "w:xz" else {}
    with tarfile.open(path, mode, **quick) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            tar.addfile(member(prefix + name, len(content)), io.BytesIO(content))
    return path


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def names(sources: Iterable[KernelSource], root: Path) -> list[tuple[str, str | None]]:
    """Kernel and debug information of each, below ``root``."""
    return [
        (one.kernel.relative_to(root).as_posix(), one.debug.relative_to(root).as_posix() if one.debug else None)
        for one in sources
    ]


def refusal(path: Path, architecture: str | None = "amd64", cache: Path | None = None) -> str:
    with pytest.raises(FormatError) as error:
        list(candidates(path, architecture, cache))
    assert "\n" not in str(error.value)
    return str(error.value)


PAIR = (f"{BOOT}/kernel", f"{DEBUG}/kernel.debug")
