"""Makes the type layouts in ``symbols/``: ``python -m tools.make_layouts`` from the top of the checkout.

One file for each release and architecture of the mini-kernel, types only, cut to those that the package's
``image/wanted_types.txt`` names and what is embedded in them. They serve where a dump has no kernel with debug
information at hand. A test rebuilds them and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.minikernel import RELEASES
from tests.minikernel.kernels import dwarf_of, kernel_file
from volatility3_freebsd_kvm.image import isf, wanted_types

TOP = Path(__file__).parents[1]
ARCHITECTURES = ("amd64", "arm64", "riscv", "i386", "arm", "powerpc64")
UNCERTAIN = frozenset({"bpf_if", "inotify_softc", "mqfs_node", "tmpfs_dirent", "tmpfs_mount", "tmpfs_node"})
"""Types of no header that is at hand: kernels bring their own, and where they do not, none is better than a guess."""
FULL_RELEASE = {"14": "14.3-RELEASE", "15": "15.0-RELEASE"}


def layout_path(release: str, arch: str) -> Path:
    """Where a layout is kept."""
    return TOP / "symbols" / f"freebsd-{release}-{arch}.json.xz"


def layout(release: str, arch: str) -> dict[str, object]:
    """The content of one layout."""
    types, _ = dwarf_of(kernel_file(release, arch))
    wanted = [name for name in wanted_types() if name not in UNCERTAIN]
    return isf.document(types.pruned(wanted), provenance(release, arch))


def provenance(release: str, arch: str) -> dict[str, str]:
    """What the file says of itself."""
    return {
        "name": "volatility3-freebsd-kvm",
        "version": "1",
        "release": f"FreeBSD {FULL_RELEASE[release]} (quite sure; the headers do not carry their version)",
        "architecture": arch,
        "source": "DWARF of a compilation unit that includes the release's kernel headers; options as in GENERIC",
        "types": "layouts only, no symbols; types private to a .c file of the kernel follow a description of them",
    }


def main() -> int:
    """Write all layouts; tell their sizes."""
    (TOP / "symbols").mkdir(exist_ok=True)
    for release in RELEASES:
        for arch in ARCHITECTURES:
            data = isf.dump(layout(release, arch))
            layout_path(release, arch).write_bytes(data)
            sys.stdout.write(f"{layout_path(release, arch).name}: {len(data)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
