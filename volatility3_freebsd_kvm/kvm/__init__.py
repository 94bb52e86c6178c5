"""libkvm in Python: which bytes are at this physical or kernel virtual address of a FreeBSD kernel dump.

This package knows nothing of Volatility and can be used on its own::

    from volatility3_freebsd_kvm import kvm

    with kvm.open("vmcore.5") as dump:
        print(dump.architecture, dump.read(0xFFFFFFFF81CD4C0C, 4))
"""

from __future__ import annotations

from ..exceptions import (
    AddressError,
    BeyondEndError,
    FormatError,
    KVMError,
    NotADumpError,
    NotDumpedError,
    NotMappedError,
    SymbolError,
)
from .dump import Dump, ElfDump, Minidump
from .dump import open_dump as open  # noqa: A004 - kvm.open() reads like kvm_open()
from .elfcore import ElfCore
from .minidump import MinidumpHeader
from .reader import Reader
from .records import Absence, DumpedRange, MappedRange, Protection, Run
from .space import AddressSpace

__all__ = [
    "Absence",
    "AddressError",
    "AddressSpace",
    "BeyondEndError",
    "Dump",
    "DumpedRange",
    "ElfCore",
    "ElfDump",
    "FormatError",
    "KVMError",
    "MappedRange",
    "Minidump",
    "MinidumpHeader",
    "NotADumpError",
    "NotDumpedError",
    "NotMappedError",
    "Protection",
    "Reader",
    "Run",
    "SymbolError",
    "open",
]
