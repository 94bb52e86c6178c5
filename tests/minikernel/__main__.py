"""Builds mini-kernels and prints where they are: `python -m tests.minikernel [RELEASE-ARCHITECTURE ...]`, else all."""

from __future__ import annotations

import sys

from .build import ARCHITECTURES, RELEASES, build, build_module


def main(names: list[str]) -> None:
    """Build the named kernels with their modules."""
    for name in names or [f"{release}-{arch}" for release in RELEASES for arch in ARCHITECTURES]:
        release, _, arch = name.partition("-")
        print(build(release, arch), build_module(release, arch))


if __name__ == "__main__":
    main(sys.argv[1:])
