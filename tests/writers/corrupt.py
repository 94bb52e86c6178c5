"""Break a dump on purpose: change a header field of a built dump by name."""

from __future__ import annotations

import random

from .headers import ByteOrder, header_fields, put_field
from .minidump import Minidump
from .parameters import defaults


def patch(
    dump: bytes,
    arch: str,
    version: int,
    field: str,
    value: int | bytes,
    *,
    byteorder: ByteOrder | None = None,
    short: bool = False,
) -> bytes:
    """Return the dump with one header field replaced.

    Args:
        dump: A minidump.
        arch: Its architecture, which decides where the field is.
        version: Its version.
        field: Name in FreeBSD's `struct minidumphdr`.
        value: New value; numbers are taken modulo the width of the field.
        byteorder: Byte order, if it is not the architecture's usual one.
        short: The short arm header.
    """
    fields = header_fields(arch, version, short=short)
    if field not in fields:
        raise ValueError(f"{arch} version {version} has no header field {field}; it has {', '.join(fields)}")
    patched = bytearray(dump)
    put_field(patched, fields[field], value, byteorder or defaults(arch, version).byteorder)
    return bytes(patched)


def overwrite(dump: bytes, offset: int, data: bytes) -> bytes:
    """Return the dump with bytes replaced at a file offset."""
    if offset + len(data) > len(dump):
        raise ValueError(f"{offset:#x} is behind the end of the dump")
    return dump[:offset] + data + dump[offset + len(data) :]


def torn(first: Minidump, second: Minidump, seed: int) -> bytes:
    """A live dump of a system that changed meanwhile: each page is from one of two moments.

    Args:
        first: The dump whose header, bitmap and page map are kept.
        second: The same system later; pages that it does not hold stay as they were.
        seed: Decides about each page.
    """
    generator = random.Random(seed)
    data = bytearray(first.data)
    page_size = first.memory.page_size
    places = {pa: second.pages_offset + number * page_size for number, pa in enumerate(second.dumped)}
    for number, pa in enumerate(first.dumped):
        if pa in places and generator.random() < 0.5:
            at = first.pages_offset + number * page_size
            data[at : at + page_size] = second.data[places[pa] : places[pa] + page_size]
    return bytes(data)
