"""A FreeBSD kernel whose types are real and whose memory the tests fill: real headers, real DWARF, our own C files.

`build` and `build_module` make the ELF files on demand; `toolchain` gets the compiler and the headers; `src` holds the
C files. The kernel has no code worth running: what counts is its symbols, types and the places of its variables.
"""

from __future__ import annotations

from .build import ARCHITECTURES, RELEASES, build, build_module
from .toolchain import ToolchainUnavailable

__all__ = ["ARCHITECTURES", "RELEASES", "ToolchainUnavailable", "build", "build_module"]
