"""Memory of a machine as tools from outside save it: LiME, ELF cores of QEMU, QEMU's own format, VMware, AVML."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dictionary

from .bitmap import Range
from .elfcore import ET_EXEC, PT_NOTE, TARGETS, Segment, elf_structures, elfcore
from .memory import PhysicalMemory

_LIME_MAGIC = 0x4C694D45
_AVML_MAGIC = 0x4C4D5641
_QEMU_CONFIGURATION, _QEMU_START, _QEMU_FOOTER, _QEMU_END = 7, 1, 0x7E, 0
_RAM_FILLED, _RAM_SIZES, _RAM_PAGE, _RAM_DONE, _RAM_SAME_BLOCK = 0x02, 0x04, 0x08, 0x10, 0x20


def contents(memory: PhysicalMemory, start: int, end: int) -> bytes:
    """Bytes of a range; what was never written is zero."""
    image = bytearray(end - start)
    for pa, page in memory.pages.items():
        if start <= pa < end:
            image[pa - start : pa - start + len(page)] = page
    return bytes(image)


def raw(memory: PhysicalMemory, ranges: Sequence[Range]) -> bytes:
    """A flat file from the first address on; holes are zero."""
    return contents(memory, ranges[0][0], ranges[-1][1])


def lime(memory: PhysicalMemory, ranges: Sequence[Range]) -> bytes:
    """LiME, version 1: a header with the first and the last address before each range."""
    return b"".join(
        struct.pack("<IIQQ8x", _LIME_MAGIC, 1, start, end - 1) + contents(memory, start, end) for start, end in ranges
    )


def qemu_core(memory: PhysicalMemory, ranges: Sequence[Range], arch: str) -> bytes:
    """What QEMU's ``dump-guest-memory`` and VirtualBox's ``dumpvmcore`` write: a note, then memory by p_paddr."""
    target = TARGETS[arch]
    note = struct.pack("<III", 5, 16, 1) + b"CORE\0\0\0\0" + bytes(16)
    parts = [Segment(0, 0, note, kind=PT_NOTE, align=0)]
    parts += [Segment(start, 0, contents(memory, start, end), flags=0, align=0) for start, end in ranges]
    return elfcore(parts, bits=target.bits, byteorder=target.byteorder, machine=target.machine, osabi=0)


def qemu_state(memory: PhysicalMemory, ranges: Sequence[Range], *, page_size: int = 4096) -> bytes:
    """What QEMU's ``migrate`` and libvirt's ``save`` write of the RAM of a PC: pages, of some only their one byte."""
    block = b"\x06pc.ram"
    size = ranges[-1][1]
    machine = b"pc-i440fx-9.0"
    parts = [
        b"QEVM" + struct.pack(">I", 3),
        struct.pack(">BI", _QEMU_CONFIGURATION, len(machine)) + machine,
        struct.pack(">BI", _QEMU_START, 2) + b"\x03ram" + struct.pack(">II", 0, 4),
        struct.pack(">Q", size | _RAM_SIZES) + block + struct.pack(">Q", size),
    ]
    first = True
    for start, end in ranges:
        for pa in range(start, end, page_size):
            page = bytes(memory.pages.get(pa, bytes(page_size)))
            kind = _RAM_FILLED if page == page[:1] * page_size else _RAM_PAGE
            parts.append(struct.pack(">Q", pa | kind | (0 if first else _RAM_SAME_BLOCK)))
            parts.append(b"" if not first else block)
            parts.append(page if kind == _RAM_PAGE else page[:1])
            first = False
    parts.append(struct.pack(">Q", _RAM_DONE) + struct.pack(">BI", _QEMU_FOOTER, 2) + bytes([_QEMU_END]))
    description = json.dumps({"page_size": page_size, "devices": []}).encode()
    return b"".join(parts) + struct.pack(">BI", 6, len(description)) + b"\0" + description


def vmware(memory: PhysicalMemory, ranges: Sequence[Range], *, page_size: int = 4096) -> tuple[bytes, bytes]:
    """VMware's pair of files: memory without holes (.vmem), and where it belongs (.vmss)."""
    tags = _vmware_tag(b"regionsCount", (), len(ranges))
    position = 0
    for number, (start, end) in enumerate(ranges):
        tags += _vmware_tag(b"regionPageNum", (number,), position // page_size)
        tags += _vmware_tag(b"regionPPN", (number,), start // page_size)
        tags += _vmware_tag(b"regionSize", (number,), (end - start) // page_size)
        position += end - start
    header = struct.pack("<4sII", b"\xd2\xbe\xd2\xbe", 8, 1)
    group = struct.pack("<64sQQ", b"memory", len(header) + 80, len(tags) + 2)
    return b"".join(contents(memory, *each) for each in ranges), header + group + tags + b"\0\0"


def _vmware_tag(name: bytes, indices: Sequence[int], value: int) -> bytes:
    flags = len(indices) << 6 | 4
    return struct.pack("<BB", flags, len(name)) + name + struct.pack(f"<{len(indices)}II", *indices, value)


def avml(memory: PhysicalMemory, ranges: Sequence[Range], compress: Callable[[bytes], bytes]) -> bytes:
    """AVML, version 2: ranges as framed streams of what snappy, or a stand-in for it, has compressed.

    Frames that do not become smaller are kept as they are.
    """
    image = b""
    for start, end in ranges:
        data = contents(memory, start, end)
        frames = [b"\xff\x06\x00\x00sNaPpY"]
        for at in range(0, len(data), 1 << 16):
            plain = data[at : at + (1 << 16)]
            packed = compress(plain)
            kind, piece = (0, packed) if len(packed) < len(plain) else (1, plain)
            frames.append(struct.pack("<I", kind | (len(piece) + 4) << 8) + bytes(4) + piece)
        image += struct.pack("<IIQQQ", _AVML_MAGIC, 2, start, end - 1, 0) + b"".join(frames) + bytes(8)
    return image


def kernel_header(
    arch: str,
    va: int,
    size: int,
    *,
    dynamic: tuple[int, int] | None = None,
    interpreter: bytes = b"/red/herring\0",
    elf_type: int = ET_EXEC,
) -> bytes:
    """The page that a kernel in memory begins with: its ELF and program headers.

    Args:
        arch: Architecture.
        va: Where it is linked.
        size: Bytes of the image.
        dynamic: Address and size of its dynamic section.
        interpreter: What the file names as its interpreter.
        elf_type: e_type.
    """
    target = TARGETS[arch]
    elf = elf_structures(target.bits, target.byteorder)
    parts = [Segment(va, va, b"", memsz=size, filesz=size, flags=5)]
    if dynamic is not None:
        parts.append(Segment(dynamic[0], dynamic[0], b"", memsz=dynamic[1], filesz=dynamic[1], kind=2))
    header = elf.header(elf_type=elf_type, machine=target.machine, osabi=9, phoff=elf.header_size, phnum=len(parts))
    table = b"".join(elf.program_header(part, part.vaddr - va) for part in parts)
    return (header + table + interpreter).ljust(4096, b"\0")


def dynamic_section(va: int, symbols: Dictionary[str, int]) -> bytes:
    """A dynamic section at ``va`` of a 64-bit kernel, followed by the symbols and strings that it names."""
    elf = elf_structures(64, "little")
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = elf.symbol(0, 0, 0, 0, 0) + b"".join(
        elf.symbol(strings.index(b"\0" + name.encode() + b"\0") + 1, value, 8, 0x11, 1)
        for name, value in symbols.items()
    )
    at = va + 5 * 16
    tags = [(5, at + len(table)), (6, at), (10, len(strings)), (11, 24), (0, 0)]
    return b"".join(struct.pack("<QQ", *tag) for tag in tags) + table + strings
