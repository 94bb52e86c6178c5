"""Dump headers and dump partitions, as `mkdumpheader` and the dump device code lay them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC_DUMP = b"FreeBSD Kernel Dump"
MAGIC_CLEARED = b"Cleared Kernel Dump"
MAGIC_TEXT = b"FreeBSD Text Dump"
HEADER_SIZE = 512
METADATA_SIZE = 64 * 1024
_ARCHITECTURE_VERSION = {"amd64": 2, "i386": 2}


@dataclass(frozen=True)
class DumpHeader:
    """A `struct kerneldumpheader`; all numbers are big endian on disk.

    Versions: 1 until 11, 2 adds the key size, 3 the compression, 4 (12.0 and later) the extent.
    """

    architecture: str = "amd64"
    version: int = 4
    length: int = 0
    time: int = 1_767_225_600
    hostname: bytes = b"example"
    version_string: bytes = b"FreeBSD 15.0-RELEASE GENERIC\n"
    panic_string: bytes = b"example panic"
    compression: int = 0
    key_size: int = 0
    extent: int = 0
    block_size: int = 512
    magic: bytes = MAGIC_DUMP

    def pack(self) -> bytes:
        """The 512 bytes, with parity."""
        head = struct.pack(
            ">20s12sIIQQ",
            self.magic,
            {"riscv": "riscv", "arm64": "aarch64"}.get(self.architecture, self.architecture).encode(),
            self.version,
            _ARCHITECTURE_VERSION.get(self.architecture, 1),
            self.length,
            self.time,
        )
        head += struct.pack(">I", self.key_size) if self.version >= 2 else b""
        head += struct.pack(">I64s192s", self.block_size, self.hostname, self.version_string)
        tail = struct.pack(">B", self.compression) if self.version >= 3 else b""
        if self.version >= 4:
            tail += struct.pack(">Q4x", self.extent or self.length)
        room = HEADER_SIZE - 4 - len(head) - len(tail)
        if self.version < 4:
            room = min(room, 192)
        body = (head + self.panic_string[: room - 1].ljust(room, b"\0") + tail).ljust(HEADER_SIZE - 4, b"\0")
        parity = 0
        for (word,) in struct.iter_unpack(">I", body):
            parity ^= word
        return body + struct.pack(">I", parity)


def partition(
    dump: bytes,
    *,
    architecture: str = "amd64",
    version: int = 4,
    size: int | None = None,
    cleared: bool = False,
    sector: int = 512,
    key: bytes = b"",
    compression: int = 0,
) -> bytes:
    """A dump device after a panic: the dump at its end, between two copies of the header.

    Args:
        dump: What the kernel wrote.
        architecture: As in the header.
        version: Of the header.
        size: Bytes of the device; by default a little more than is needed.
        cleared: savecore(8) has been there: the trailing header's magic is overwritten.
        sector: Bytes in a block of the device.
        key: The encrypted key that stands before the dump.
        compression: 0 none, 1 gzip, 2 zstd.
    """
    padded = dump.ljust(-(-len(dump) // sector) * sector, b"\0")
    keys = key.ljust(-(-len(key) // sector) * sector, b"\0")
    header = DumpHeader(
        architecture=architecture,
        version=version,
        length=len(dump),
        extent=len(padded),
        block_size=sector,
        key_size=len(keys),
        compression=compression,
    ).pack()
    trailer = MAGIC_CLEARED.ljust(20, b"\0") + header[20:] if cleared else header
    tail = header.ljust(sector, b"\0") + keys + padded + trailer.ljust(sector, b"\0")
    size = size or METADATA_SIZE + -(-len(tail) // 4096) * 4096
    if METADATA_SIZE + len(tail) > size:
        raise ValueError("the device is too small for the dump")
    return bytes(size - len(tail)) + tail
