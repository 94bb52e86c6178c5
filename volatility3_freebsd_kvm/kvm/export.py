"""Writing a dump anew: as an ELF core that debuggers open, or as a raw image of physical memory.

    >>> with kvm.open("vmcore.5") as dump, open("vmcore.5.elf", "w+b") as file:   # doctest: +SKIP
    ...     plan = export.plan_elf(dump)
    ...     export.write(plan, dump, file)
    ...     export.verify(plan, dump, file)

Memory that was not dumped has no bytes in either: an ELF core does not name it, in a raw image it is a hole.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import IO

from ..exceptions import FormatError, KVMError
from .dump import Dump, open_dump
from .exportplan import Plan, plan_elf, plan_raw
from .reader import Reader, Sliceable, StreamReader
from .records import Protection
from .space import AddressSpace

__all__ = ["Plan", "VerificationError", "plan_elf", "plan_raw", "verify", "write"]

Progress = Callable[[float, str], None]
_PIECE = 1 << 20
_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)
_MAX_IN_MEMORY = 1 << 30
_TOP_32 = 1 << 32


class VerificationError(KVMError):
    """What was written is not what was to be written."""


def write(plan: Plan, dump: Dump, stream: IO[bytes], progress: Progress | None = None) -> None:
    """Write the file, in pieces of a MiB; zeros are left out where the file system does that.

    Args:
        plan: of `plan_elf` or `plan_raw`, for the same dump.
        dump: where the bytes come from.
        stream: an empty file, open for writing, that can seek.
        progress: is told percent and what is being done.

    Raises:
        FormatError: ``stream`` is no real file, and the image too large for memory.
        OSError: it cannot be written.
    """
    if plan.size > _MAX_IN_MEMORY and _descriptor(stream) is None:
        msg = f"{plan.size} bytes are too much for an output file that is held in memory"
        raise FormatError(msg)
    total = sum(copy.length for copy in plan.copies) or 1
    done = 0
    buffer = dump.physical.reader.buffer
    for copy in plan.copies:
        for at in range(0, copy.length, _PIECE):
            size = min(_PIECE, copy.length - at)
            data = buffer[copy.offset + at : copy.offset + at + size]
            if len(data) < size:
                msg = f"the dump became shorter while it was read, at file offset {copy.offset + at + len(data):#x}"
                raise FormatError(msg)
            _write_sparse(stream, copy.target + at, data)
            _release(buffer, copy.offset + at, size)
            done += size
            if progress:
                progress(100 * done / total, "Exporting")
    # The end may be zeros; what does not begin with its headers is no core, should writing have stopped before.
    stream.seek(plan.size - 1)
    last = plan.copies[-1]
    stream.write(buffer[last.offset + last.length - 1 : last.offset + last.length])
    if plan.head:
        stream.seek(0)
        stream.write(plan.head)
    stream.flush()


def _write_sparse(stream: IO[bytes], target: int, data: bytes) -> None:
    """Write what is not zero, by blocks."""
    start = None
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        if block == _ZEROS[: len(block)]:
            if start is not None:
                _write_at(stream, target + start, data[start:at])
            start = None
        elif start is None:
            start = at
    if start is not None:
        _write_at(stream, target + start, data[start:])


def _write_at(stream: IO[bytes], target: int, data: bytes) -> None:
    stream.seek(target)
    while data:
        # A raw file may take less than it is given.
        data = data[stream.write(data) :]


def _release(buffer: Sliceable, offset: int, length: int) -> None:
    """Give back pages of a mapped file, which would otherwise count as ours as long as nobody else wants memory."""
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        start = offset & -mmap.PAGESIZE
        buffer.madvise(mmap.MADV_DONTNEED, start, offset + length - start)


def _descriptor(stream: IO[bytes]) -> int | None:
    """The descriptor of a real file."""
    try:
        return stream.fileno()
    except (OSError, AttributeError):
        return None


def verify(
    plan: Plan,
    dump: Dump,
    stream: IO[bytes],
    space: AddressSpace | None = None,
    progress: Progress | None = None,
) -> int:
    """Read back what was written, as any other dump, and compare it with the original.

    Returns:
        How many bytes of memory are the same: all of them.

    Raises:
        VerificationError: something differs, and what.
        FormatError: what was written cannot be opened.
    """
    stream.flush()
    # Never closed: the file belongs to the caller. Not mapped: it would stay in memory until the end.
    reader = StreamReader(stream, "the exported file")
    if plan.head:
        return _verify_elf(plan, dump, reader, space, progress)
    return _verify_raw(plan, dump, reader, progress)


def _verify_raw(plan: Plan, dump: Dump, reader: Reader, progress: Progress | None) -> int:
    """Compare by offset."""
    if reader.size != plan.size:
        msg = f"the exported file has {reader.size} bytes instead of {plan.size}"
        raise VerificationError(msg)
    pieces = ((run.pa, run.length, run.offset) for run in dump.physical.runs())
    return _compare(
        dump, pieces, lambda pa, size: reader.buffer[pa - plan.base : pa - plan.base + size], plan, progress
    )


def _verify_elf(plan: Plan, dump: Dump, reader: Reader, space: AddressSpace | None, progress: Progress | None) -> int:
    """Open the core, compare memory by physical address (virtual where it has no other) and the page maps."""
    exported = open_dump(reader, unwrap=False)
    if exported.warnings and not (dump.word_bits == 32 and dump.physical.is_physical):
        msg = f"the exported file is not sound: {exported.warnings[0]}"
        raise VerificationError(msg)
    top = _TOP_32 if dump.word_bits == 32 else 1 << 64
    pieces = ((run.pa, run.length, run.offset) for run in dump.physical.runs(0, top))
    _compare(dump, pieces, exported.physical.read, plan, progress)
    space = space or (dump.kernel if plan.has_map else None)
    if space and plan.has_map and dump.physical.is_physical:
        if not plan.left_out:
            _compare_maps(space, exported.kernel, dump.word_bits)
        high = (
            (piece.va, piece.length, piece.offset)
            for piece in (space.walk() if top == _TOP_32 else ())
            if piece.pa is not None and piece.pa + piece.length > top and piece.offset is not None
        )
        _compare(dump, high, exported.kernel.read, plan, None)
    held = sum(run.length for run in exported.physical.runs())
    expected = sum(copy.length for copy in plan.copies)
    if held != expected:
        msg = f"the exported file holds {held} bytes of memory, the dump {expected}"
        raise VerificationError(msg)
    return held


def _compare(
    dump: Dump,
    pieces: Iterable[tuple[int, int, int]],
    read: Callable[[int, int], bytes],
    plan: Plan,
    progress: Progress | None,
) -> int:
    """Compare ``(address, length, file offset)`` of the dump with what ``read`` gives; the number of bytes."""
    total = sum(copy.length for copy in plan.copies) or 1
    same = 0
    for address, length, offset in pieces:
        for at in range(0, length, _PIECE):
            size = min(_PIECE, length - at)
            try:
                data = read(address + at, size)
            except KVMError as error:
                msg = f"the exported file does not have what the dump has: {error}"
                raise VerificationError(msg) from None
            if data != dump.physical.reader.buffer[offset + at : offset + at + size]:
                msg = f"the exported file differs from the dump within {size:#x} bytes from address {address + at:#x}"
                raise VerificationError(msg)
            _release(dump.physical.reader.buffer, offset + at, size)
            same += size
            if progress:
                progress(100 * same / total, "Verifying")
    return same


_Mapped = tuple[int, int | None, int, Protection, bool]


def _compare_maps(original: AddressSpace, exported: AddressSpace, bits: int) -> None:
    """Both map the same to the same, and the same of it is there."""
    for one, two in zip_longest(_mappings(original, bits), _mappings(exported, bits)):
        if one != two:
            place = min(found[0] for found in (one, two) if found)
            msg = f"the page map of the exported file differs from that of the dump at address {place:#x}"
            raise VerificationError(msg)


def _mappings(space: AddressSpace, bits: int) -> Iterator[_Mapped]:
    """``(va, pa, length, protection, present)`` of the page map, joined wherever that can be.

    Physical addresses that do not fit are left out: the exported file cannot tell them.
    """
    last: _Mapped | None = None
    for piece in _fitting(space, bits):
        va, pa, length, prot, present = piece
        if last and last[0] + last[2] == va and last[3:] == piece[3:]:
            follows = pa is None if last[1] is None else pa == last[1] + last[2]
            if follows:
                last = last[0], last[1], last[2] + length, prot, present
                continue
        if last:
            yield last
        last = piece
    if last:
        yield last


def _fitting(space: AddressSpace, bits: int) -> Iterator[_Mapped]:
    """The pieces of the page map, cut where physical addresses stop to fit."""
    top = 1 << bits
    for va, pa, length, prot, offset, _ in space.walk():
        below = length if pa is None else min(length, max(top - pa, 0))
        if below:
            yield va, pa, below, prot, offset is not None
        if below < length:
            yield va + below, None, length - below, prot, offset is not None
