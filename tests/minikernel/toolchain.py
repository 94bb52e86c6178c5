"""The C compiler and FreeBSD's kernel headers: both are in the PyPI package ziglang, in exactly pinned versions.

The version of a running environment is used if it is the right one; otherwise pip puts it into the cache directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "MINIKERNEL_CACHE"
"""Names another cache directory."""
VERSIONS = {"14": "0.15.2", "15": "0.17.1"}
"""ziglang by FreeBSD release: 0.15.2 carries the headers of 14.3, 0.17.1 those of 15.0."""


class ToolchainUnavailable(Exception):
    """The compiler and the headers are not here and cannot be fetched."""


def cache_directory() -> Path:
    """Where everything built or fetched is kept, outside of the checkout."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        base = Path(named)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path.home() / ".cache"
    return base / "volatility3-freebsd-kvm" / "minikernel"


@dataclass(frozen=True)
class Toolchain:
    """One version of ziglang.

    Attributes:
        version: Of the package.
        root: The package's directory.
    """

    version: str
    root: Path

    @property
    def headers(self) -> Path:
        """The directory that holds one include directory per FreeBSD target."""
        return self.root / "lib" / "libc" / "include"

    @property
    def compiler_headers(self) -> Path:
        """Clang's own include directory."""
        return self.root / "lib" / "include"

    def run(self, arguments: Sequence[str | Path], cwd: Path) -> None:
        """Run one of zig's tools (``clang``, ``ld.lld``) in ``cwd``.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        command = [self.root / ("zig.exe" if sys.platform == "win32" else "zig"), *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"zig {arguments[0]} failed:\n{done.stderr.strip()}")


_toolchains: dict[str, Toolchain | ToolchainUnavailable] = {}


def toolchain(release: str) -> Toolchain:
    """The toolchain for the headers of a FreeBSD release.

    Raises:
        ToolchainUnavailable: it is not here and pip cannot fetch it. Not tried twice in a process.
    """
    found = _toolchains.get(release)
    if found is None:
        try:
            found = _find(VERSIONS[release])
        except ToolchainUnavailable as error:
            found = error
        _toolchains[release] = found
    if isinstance(found, ToolchainUnavailable):
        raise found
    return found


def _find(version: str) -> Toolchain:
    if root := _installed(version):
        return Toolchain(version, root)
    target = cache_directory() / f"ziglang-{version}"
    if not target.is_dir():
        with locked(target):
            if not target.is_dir():
                _fetch(version, target)
    return Toolchain(version, target / "ziglang")


def _installed(version: str) -> Path | None:
    """The package's directory in the running environment, if it is exactly this version."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        spec = importlib.util.find_spec("ziglang")
        if importlib.metadata.version("ziglang") == version and spec and spec.origin:
            return Path(spec.origin).parent
    return None


def _fetch(version: str, target: Path) -> None:
    with staging(target) as directory:
        command: list[str | Path] = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--no-deps", "--only-binary", ":all:", "--target", str(directory / "site"), f"ziglang=={version}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ToolchainUnavailable(f"ziglang {version} is not installed and pip cannot fetch it: {reason}")
        (directory / "site").rename(target)


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A new directory next to ``target``, from which the finished result is renamed into its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Only one process at a time makes ``target``; without fcntl several may, and the first rename wins."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*parts: str | bytes) -> str:
    """A name for content: 24 hexadecimal digits."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:24]
