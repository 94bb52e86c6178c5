"""libkvm in Python: which bytes are at this physical or kernel virtual address of a FreeBSD kernel dump.

This package knows nothing of Volatility and can be used on its own::

    from volatility3_freebsd_kvm import kvm

    with kvm.open("vmcore.5") as dump:
        print(dump.architecture, dump.read(0xFFFFFFFF81CD4C0C, 4))

A dump may be compressed, encrypted, behind its header or still on its device: ``kvm.open("ada0p2.img")``,
``kvm.open("vmcore_encrypted.3", key="private.pem", cache="/var/tmp/dumps")``. Raw images of memory have no header at
all; ``kvm.open_raw("memory.img")`` looks for the kernel in them.
"""

from __future__ import annotations

from ..exceptions import (
    AddressError,
    BeyondEndError,
    FormatError,
    KVMError,
    MissingPieceError,
    NotADumpError,
    NotDumpedError,
    NotMappedError,
    SymbolError,
    TextDumpError,
)
from .containers import Container, Unwrapped, unwrap
from .dump import Dump, ElfDump, Minidump, open_text_dump
from .dump import open_dump as open  # noqa: A004 - kvm.open() reads like kvm_open()
from .elfcore import ElfCore
from .filled import FilledReader
from .infofile import InfoFile
from .kerneldump import KernelDumpHeader
from .minidump import MinidumpHeader
from .physical import Segment
from .raw import NoKernelError, RawDump, open_raw
from .reader import Reader, Sliceable, open_reader
from .records import Absence, DumpedRange, MappedRange, Protection, Run
from .space import AddressSpace
from .textdump import TextDump

__all__ = [
    "Absence",
    "AddressError",
    "AddressSpace",
    "BeyondEndError",
    "Container",
    "Dump",
    "DumpedRange",
    "ElfCore",
    "ElfDump",
    "FilledReader",
    "FormatError",
    "InfoFile",
    "KVMError",
    "KernelDumpHeader",
    "MappedRange",
    "Minidump",
    "MinidumpHeader",
    "MissingPieceError",
    "NoKernelError",
    "NotADumpError",
    "NotDumpedError",
    "NotMappedError",
    "Protection",
    "RawDump",
    "Reader",
    "Run",
    "Segment",
    "Sliceable",
    "SymbolError",
    "TextDump",
    "TextDumpError",
    "Unwrapped",
    "open",
    "open_raw",
    "open_reader",
    "open_text_dump",
    "unwrap",
]
