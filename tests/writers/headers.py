"""Field tables of the minidump headers: `struct minidumphdr` of each architecture and version."""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from typing import Literal

ByteOrder = Literal["little", "big"]

MAGIC = {
    "amd64": b"minidump FreeBSD/amd64",
    "i386": b"minidump FreeBSD/i386",
    "arm": b"minidump FreeBSD/arm",
    "arm64": b"minidump FreeBSD/arm64",
    "riscv": b"minidump FreeBSD/riscv",
    "mips": b"minidump FreeBSD/mips",
    "powerpc64": b"minidump FreeBSD/powerpc64",
    "powerpc64le": b"minidump FreeBSD/powerpc64",
}
"""Magic string by architecture (both powerpc64 byte orders share one)."""

NEWEST_VERSION = {
    "amd64": 3,
    "i386": 2,
    "arm": 2,
    "arm64": 3,
    "riscv": 2,
    "mips": 2,
    "powerpc64": 2,
    "powerpc64le": 2,
}


@dataclass(frozen=True)
class Field:
    """One header field: its name in FreeBSD's `struct minidumphdr`, where it is, and how long (in bytes)."""

    name: str
    offset: int
    size: int

    @property
    def is_text(self) -> bool:
        """Whether the field is a NUL padded string rather than an integer."""
        return self.size > 8


_COMMON = (
    Field("magic", 0x00, 24),
    Field("version", 0x18, 4),
    Field("msgbufsize", 0x1C, 4),
    Field("bitmapsize", 0x20, 4),
)
_BASE_AND_DMAP = (Field("kernbase", 0x28, 8), Field("dmapbase", 0x30, 8), Field("dmapend", 0x38, 8))
_AMD64 = (*_COMMON, Field("pmapsize", 0x24, 4), *_BASE_AND_DMAP)
_MIPS = (*_COMMON, Field("ptesize", 0x24, 4), *_BASE_AND_DMAP)
_ARM64 = (
    *_COMMON,
    Field("pmapsize", 0x24, 4),
    Field("kernbase", 0x28, 8),
    Field("dmapphys", 0x30, 8),
    Field("dmapbase", 0x38, 8),
    Field("dmapend", 0x40, 8),
)
_I386 = (*_COMMON, Field("ptesize", 0x24, 4), Field("kernbase", 0x28, 4), Field("paemode", 0x2C, 4))
_ARM_SHORT = (*_COMMON, Field("ptesize", 0x24, 4), Field("kernbase", 0x28, 4))
_ARM = (*_ARM_SHORT, Field("arch", 0x2C, 4), Field("mmuformat", 0x30, 4))
_POWERPC64 = (
    Field("magic", 0x00, 32),
    Field("mmu_name", 0x20, 32),
    Field("version", 0x40, 4),
    Field("msgbufsize", 0x44, 4),
    Field("bitmapsize", 0x48, 4),
    Field("pmapsize", 0x4C, 4),
    Field("kernbase", 0x50, 8),
    Field("kernend", 0x58, 8),
    Field("dmapbase", 0x60, 8),
    Field("dmapend", 0x68, 8),
    Field("hw_direct_map", 0x70, 4),
    Field("startkernel", 0x78, 8),
    Field("endkernel", 0x80, 8),
)
_DUMPAVAIL = {
    "amd64": Field("dumpavailsize", 0x40, 4),
    "mips": Field("dumpavailsize", 0x40, 4),
    "arm64": Field("dumpavailsize", 0x48, 4),
    "riscv": Field("dumpavailsize", 0x48, 4),
    "i386": Field("dumpavailsize", 0x30, 4),
    "arm": Field("dumpavailsize", 0x34, 4),
    "powerpc64": Field("dumpavailsize", 0x88, 4),
    "powerpc64le": Field("dumpavailsize", 0x88, 4),
}
_FLAGS = Field("flags", 0x4C, 4)
_BASE = {
    "amd64": _AMD64,
    "mips": _MIPS,
    "arm64": _ARM64,
    "riscv": _ARM64,
    "i386": _I386,
    "arm": _ARM,
    "powerpc64": _POWERPC64,
    "powerpc64le": _POWERPC64,
}


def has_dump_avail(arch: str, version: int) -> bool:
    """Whether dumps of this version carry the dump_avail table (and a bitmap dense over it)."""
    return version >= (3 if arch == "amd64" else 2)


def header_fields(arch: str, version: int, *, short: bool = False) -> dict[str, Field]:
    """Return the header's fields by name.

    Args:
        arch: Architecture, a key of `MAGIC`.
        version: Minidump version.
        short: The arm header of FreeBSD 9 and 10, without `arch` and `mmuformat`.
    """
    if arch not in _BASE:
        raise ValueError(f"no minidump format is known for {arch}")
    if not 1 <= version <= NEWEST_VERSION[arch]:
        raise ValueError(f"{arch} minidumps have versions 1 to {NEWEST_VERSION[arch]}, not {version}")
    if short and (arch, version) != ("arm", 1):
        raise ValueError("only arm version 1 has a short header")
    fields: list[Field] = [*(_ARM_SHORT if short else _BASE[arch])]
    if has_dump_avail(arch, version):
        fields.append(_DUMPAVAIL[arch])
    if arch == "arm64" and version >= 3:
        fields.append(_FLAGS)
    return {field.name: field for field in fields}


def pack_header(
    fields: Dictionary[str, Field], values: Dictionary[str, int | bytes], size: int, byteorder: ByteOrder
) -> bytes:
    """Return the header, padded with zeros to `size` bytes (one page)."""
    if missing := fields.keys() ^ values.keys():
        raise ValueError(f"fields and values differ: {sorted(missing)}")
    header = bytearray(size)
    for name, field in fields.items():
        put_field(header, field, values[name], byteorder)
    return bytes(header)


def put_field(header: bytearray, field: Field, value: int | bytes, byteorder: ByteOrder) -> None:
    """Store one field in place; integers are taken modulo the field's width."""
    if isinstance(value, bytes):
        if not field.is_text or len(value) > field.size:
            raise ValueError(f"{field.name} cannot hold {value!r}")
        data = value.ljust(field.size, b"\0")
    elif field.is_text:
        raise ValueError(f"{field.name} holds text, not a number")
    else:
        data = (value % (1 << (8 * field.size))).to_bytes(field.size, byteorder)
    header[field.offset : field.offset + field.size] = data
