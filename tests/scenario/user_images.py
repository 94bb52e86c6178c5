"""Processes with real ELF images: what rtld has loaded, and what was hidden, patched or injected.

A variant of the system: contents depend on the machine, so it is made for each kernel. Process 900 has 64-bit images
where the machine has them, process 910 runs 32-bit ones on amd64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from tests.writers.machine import Machine

from .model import Page, Process, System, UserPage, VmEntry, VmObject, Vnode
from .system import SYSTEM
from .user_memory import PAGE, STACK, STACK_GAP, STACK_PAGES, TEXT, address

MACHINES = {"amd64": 62, "i386": 3, "arm64": 183, "riscv": 243, "arm": 40, "powerpc64": 21}
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR, PT_GNU_STACK = 1, 2, 3, 4, 6, 0x6474E551
DT_DEBUG, DT_STRTAB = 21, 5
R, W, X = 4, 2, 1
OSRELDATE = 1_403_000

RTLD, LIBC, LIBUTIL, LIBEVIL = 0x8_0020_0000, 0x8_0030_0000, 0x8_0080_0000, 0x8_0090_0000
HEAP, SHELLCODE, COPIED, DROPPER = 0x8_0100_0000, 0x8_0130_0000, 0x8_0140_0000, 0x8_0150_0000
WORKER, NARROW = 900, 910
MARKER = b"\xcc\x90\xeb\xfe a marker in memory that was injected"
ACROSS = b"a marker across two pages"
PATCH = b"\xe9\x00\x10\x00\x00 patched text"
DATA_AT, DATA_OFFSET = 0x5000, 0x3000
"""Where the data segment is in memory and in the file: as lld does it, they differ."""
FILE_SIZE = 0x4000

VNODES = (
    Vnode("usr-lib32", "root", "/usr/lib32", "VDIR", 57, 512, 0o755),
    Vnode("worker-exe", "root", "/usr/bin/worker", inode=65, size=FILE_SIZE + 0x200, mode=0o555),
    Vnode("libutil", "root", "/lib/libutil.so.9", inode=66, size=FILE_SIZE + 0x200, mode=0o444),
    Vnode("libevil", "root", "/lib/libevil.so.1", inode=67, size=FILE_SIZE + 0x200, mode=0o444),
    Vnode("narrow-exe", "root", "/usr/bin/narrow", inode=68, size=FILE_SIZE + 0x200, mode=0o555),
    Vnode("rtld32", "root", "/libexec/ld-elf32.so.1", inode=69, size=FILE_SIZE + 0x200, mode=0o555),
    Vnode("libc32", "root", "/usr/lib32/libc.so.7", inode=58, size=FILE_SIZE + 0x200, mode=0o444),
)


@dataclass(frozen=True)
class ElfWriter:
    """Writes ELF files of four pages: headers, text, more text, data."""

    bits: int
    byteorder: str
    machine: int

    @property
    def _order(self) -> str:
        return "<" if self.byteorder == "little" else ">"

    def words(self, *values: int) -> bytes:
        return struct.pack(f"{self._order}{len(values)}{'Q' if self.bits == 64 else 'I'}", *values)

    def note(self, name: bytes, kind: int, content: bytes) -> bytes:
        return (
            struct.pack(f"{self._order}III", len(name), len(content), kind)
            + name.ljust(-(-len(name) // 4) * 4, b"\0")
            + content
        )

    def header(self, kind: int, entry: int, phnum: int, *, phoff: int = 0x40, phentsize: int | None = None) -> bytes:
        """The ELF header; the table of sections lies behind what is mapped, as in real files."""
        ident = b"\x7fELF" + bytes([self.bits // 32, 1 if self.byteorder == "little" else 2, 1, 9]) + bytes(8)
        sizes = (64, 56, 64) if self.bits == 64 else (52, 32, 40)
        word = "Q" if self.bits == 64 else "I"
        return ident + struct.pack(
            f"{self._order}HHI{word * 3}IHHHHHH",
            kind, self.machine, 1, entry, phoff, FILE_SIZE, 0, sizes[0], phentsize or sizes[1], phnum, sizes[2], 8, 7,
        )  # fmt: skip

    def segment(self, kind: int, flags: int, offset: int, vaddr: int, filesz: int, memsz: int) -> bytes:
        if self.bits == 64:
            return struct.pack(f"{self._order}IIQQQQQQ", kind, flags, offset, vaddr, vaddr, filesz, memsz, PAGE)
        return struct.pack(f"{self._order}IIIIIIII", kind, offset, vaddr, vaddr, filesz, memsz, flags, PAGE)

    def file(self, name: str, *, kind: int = ET_DYN, base: int = 0, interpreter: str = "", debug: int = 0) -> bytes:
        """A whole file.

        Args:
            name: Makes files differ; it is in the text, in the data and in the build id.
            kind: ET_EXEC or ET_DYN.
            base: What it is linked for.
            interpreter: Path of the run-time linker.
            debug: What rtld writes into DT_DEBUG.
        """
        notes = self.note(b"FreeBSD\0", 1, struct.pack(f"{self._order}I", OSRELDATE)) + self.note(
            b"GNU\0", 3, build_id(name)
        )
        interp = interpreter.encode() + b"\0"
        dynamic = self.words(DT_STRTAB, base + 0x800, DT_DEBUG, debug, 0, 0)
        headers = [
            self.segment(PT_PHDR, R, 0x40, base + 0x40, 0x200, 0x200),
            *([self.segment(PT_INTERP, R, 0x400, base + 0x400, len(interp), len(interp))] if interpreter else []),
            self.segment(PT_LOAD, R, 0, base, 0x1000, 0x1000),
            self.segment(PT_LOAD, R | X, 0x1000, base + 0x2000, 0x2000, 0x2000),
            self.segment(PT_LOAD, R | W, DATA_OFFSET, base + DATA_AT, 0x800, 0x1800),
            self.segment(PT_DYNAMIC, R | W, DATA_OFFSET + 0x100, base + DATA_AT + 0x100, len(dynamic), len(dynamic)),
            self.segment(PT_GNU_STACK, R | W, 0, 0, 0, 0),
            self.segment(PT_NOTE, R, 0x500, base + 0x500, len(notes), len(notes)),
        ]
        content = bytearray(FILE_SIZE)
        for at, data in (
            (0, self.header(kind, base + 0x2000, len(headers))),
            (0x40, b"".join(headers)),
            (0x400, interp),
            (0x500, notes),
            (0x1000, b"text of " + name.encode()),
            (0x2000, b"more text of " + name.encode()),
            (DATA_OFFSET, b"data of " + name.encode()),
            (DATA_OFFSET + 0x100, dynamic),
        ):
            content[at : at + len(data)] = data
        return bytes(content[: DATA_OFFSET + 0x800]).ljust(FILE_SIZE, b"\0")


def build_id(name: str) -> bytes:
    """20 bytes that tell files apart."""
    return name.encode().ljust(20, b".")[:20]


@dataclass(frozen=True)
class Loaded:
    """An image in a process.

    Attributes:
        key: Of its vnode and, with ``-file``, of its object.
        base: Where it is mapped, as a 64-bit process's address.
        debug: What is in DT_DEBUG.
        patched: Both pages of its text were changed; the second is on the swap device.
        resident: The pages of the file that are in memory.
    """

    key: str
    base: int
    kind: int = ET_DYN
    interpreter: str = ""
    debug: int = 0
    patched: bool = False
    resident: tuple[int, ...] = (0, 1, 2, 3)


def _image(writer: ElfWriter, one: Loaded) -> tuple[list[VmObject], list[VmEntry], list[UserPage]]:
    """The objects, entries and touched pages of an image: rtld has written to its data, which is a private copy."""
    base = one.base
    content = writer.file(one.key, kind=one.kind, base=base if one.kind == ET_EXEC else 0, interpreter=one.interpreter)
    changed = writer.file(
        one.key, kind=one.kind, base=base if one.kind == ET_EXEC else 0, interpreter=one.interpreter, debug=one.debug
    )
    file, data, text = f"{one.key}-file", f"{one.key}-data", f"{one.key}-text-copy"
    objects = [
        VmObject(
            file, "vnode", FILE_SIZE + PAGE, tuple(_page(content, index) for index in one.resident), vnode=one.key
        ),
        VmObject(data, "anonymous", PAGE, (Page(0, changed[DATA_OFFSET:]),), file, DATA_OFFSET),
    ]
    shown = text if one.patched else file
    if one.patched:
        page = PATCH + content[PAGE + len(PATCH) : 2 * PAGE]
        objects.append(VmObject(text, "anonymous", 2 * PAGE, (Page(0, page),), file, PAGE, swapped=((1, 0x1241),)))
    entries = [
        VmEntry(base, base + PAGE, "r--", "rwx", file, 0, copy_on_write=True, needs_copy=True),
        VmEntry(
            base + 2 * PAGE, base + 4 * PAGE, "r-x", "rwx", shown, 0 if one.patched else PAGE,
            copy_on_write=True, needs_copy=not one.patched,
        ),
        VmEntry(base + DATA_AT, base + DATA_AT + PAGE, "rw-", "rwx", data, copy_on_write=True),
        VmEntry(base + DATA_AT + PAGE, base + DATA_AT + 2 * PAGE, "rw-", "rwx"),
    ]  # fmt: skip
    touched = [UserPage(base + DATA_AT, data, 0)]
    if 0 in one.resident:
        touched.append(UserPage(base, file, 0))
    if one.patched:
        touched.append(UserPage(base + 2 * PAGE, text, 0))
    return objects, entries, touched


def _page(content: bytes, index: int) -> Page:
    return Page(index, content[index * PAGE : (index + 1) * PAGE])


R_DEBUG, LINK_MAPS, NAMES = 0x100, 0x200, 0x800
"""Where rtld has them in its heap, from its start."""
LINK_MAP_STEP = 0x40


def link_map_address(index: int, bits: int) -> int:
    """Where the structure of a listed object is."""
    return address(HEAP, bits) + LINK_MAPS + LINK_MAP_STEP * index


def rtld_heap(writer: ElfWriter, bits: int, listed: list[tuple[int, str]], *, modern: bool) -> bytes:
    """``struct r_debug``, a ``struct link_map`` an object, and their names.

    Args:
        writer: For its words.
        bits: Word size of the process.
        listed: Addresses and names of the objects, in order.
        modern: 13.0 or later: `r_ldbase`, `l_addr` and `l_refname` are there.
    """
    content = bytearray(PAGE)
    heap = address(HEAP, bits)
    rtld = listed[-1][0]
    debug = writer.words(int(modern), link_map_address(0, bits), rtld + 0x2000, 0, rtld if modern else 0)
    # r_version and r_state are ints.
    if writer.byteorder == "big":
        debug = struct.pack(">i", int(modern)).ljust(bits // 8, b"\0") + debug[bits // 8 :]
    content[R_DEBUG : R_DEBUG + len(debug)] = debug
    for index, (base, name) in enumerate(listed):
        at = NAMES + 0x80 * index
        content[at : at + len(name)] = name.encode()
        following = link_map_address(index + 1, bits) if index + 1 < len(listed) else 0
        before = link_map_address(index - 1, bits) if index else 0
        words = writer.words(base, heap + at, base + DATA_AT + 0x100, following, before, *([base, 0] if modern else []))
        place = LINK_MAPS + LINK_MAP_STEP * index
        content[place : place + len(words)] = words
    return bytes(content)


LISTED = {
    WORKER: (
        (TEXT, "/usr/bin/worker"),
        (LIBC, "/lib/libc.so.7"),
        (LIBUTIL, "/lib/libutil.so.9"),
        (RTLD, "/libexec/ld-elf.so.1"),
    ),
    NARROW: ((TEXT, "/usr/bin/narrow"), (LIBC, "/usr/lib32/libc.so.7"), (RTLD, "/libexec/ld-elf32.so.1")),
}
"""What rtld has in its list, in order; addresses of a 64-bit process."""


def loaded(pid: int, bits: int) -> tuple[Loaded, ...]:
    """The images of a process, by rising addresses."""
    debug = address(HEAP, bits) + R_DEBUG
    if pid == NARROW:
        return (
            Loaded("narrow-exe", TEXT, ET_EXEC, "/libexec/ld-elf32.so.1", debug),
            Loaded("rtld32", RTLD),
            Loaded("libc32", LIBC, resident=(1, 2, 3)),
        )
    return (
        Loaded("worker-exe", TEXT, ET_EXEC, "/libexec/ld-elf.so.1", debug),
        Loaded("rtld", RTLD),
        Loaded("libc", LIBC, resident=(0, 1, 3)),
        Loaded("libutil", LIBUTIL, patched=True),
        Loaded("libevil", LIBEVIL),
    )


def bits_of(pid: int, machine: Machine) -> int:
    """Word size of a process."""
    return 32 if pid == NARROW and machine.arch == "amd64" else machine.word_bits


def writer_of(pid: int, machine: Machine) -> ElfWriter:
    """Writes the images of a process."""
    bits = bits_of(pid, machine)
    number = MACHINES["i386"] if machine.arch == "amd64" and bits == 32 else MACHINES[machine.arch]
    return ElfWriter(bits, "big" if machine.byteorder == "big" else "little", number)


def _process(process: Process, machine: Machine, *, modern: bool) -> tuple[Process, list[VmObject]]:
    bits, writer = bits_of(process.pid, machine), writer_of(process.pid, machine)
    objects: list[VmObject] = []
    entries: list[VmEntry] = []
    touched: list[UserPage] = []
    images = loaded(process.pid, bits)
    for one in images:
        for known, more in zip((objects, entries, touched), _image(writer, one), strict=True):
            known += more  # type: ignore[operator]
    listed = [(address(base, bits), name) for base, name in LISTED[process.pid]]
    heap = rtld_heap(writer, bits, listed, modern=modern)
    stack = VmObject(f"images-stack-{process.pid}", "anonymous", STACK_PAGES * PAGE)
    objects += [VmObject(f"heap-{process.pid}", "anonymous", PAGE, (Page(0, heap),)), stack]
    entries.append(VmEntry(HEAP, HEAP + PAGE, "rw-", "rwx", f"heap-{process.pid}"))
    if process.pid == WORKER:
        more_objects, more_entries = _injected(writer)
        objects += more_objects
        entries += more_entries
    low = STACK - stack.size
    entries += [
        VmEntry(STACK - STACK_GAP, low, "---", "---", guard=True),
        VmEntry(low, STACK, "rw-", "rwx", stack.key, grows_down=True),
    ]
    narrow = process.pid == NARROW and machine.arch == "amd64"
    process = replace(
        process,
        text=images[0].key,
        vm_entries=tuple(entries),
        user_pages=tuple(touched),
        environment=("HOME=/", "LANG=C"),
        abi="FreeBSD ELF32" if narrow else process.abi,
    )
    return process, objects


def _injected(writer: ElfWriter) -> tuple[list[VmObject], list[VmEntry]]:
    """Shellcode whose first page is zeros, an image that was copied into memory, a mapping of a deleted file.

    One page of the shellcode is on the swap device.
    """
    copied = writer.file("copied")
    objects = [
        VmObject(
            "shellcode",
            "anonymous",
            4 * PAGE,
            (
                Page(0, b""),
                Page(1, MARKER.ljust(PAGE - 10, b"\0") + ACROSS[:10]),
                Page(2, ACROSS[10:]),
            ),
            swapped=((3, 0x1240),),
        ),
        VmObject(
            "copied",
            "anonymous",
            8 * PAGE,
            tuple(_page_at(copied, at, page) for at, page in ((0, 2), (1, 4), (2, 5), (3, 7))),
        ),
        VmObject("dropper-file", "vnode", PAGE, (Page(0, b"\x90\x90 a deleted file"),), vnode="deleted"),
    ]
    entries = [
        VmEntry(SHELLCODE, SHELLCODE + 4 * PAGE, "rwx", "rwx", "shellcode"),
        VmEntry(COPIED, COPIED + 8 * PAGE, "rw-", "rwx", "copied"),
        VmEntry(DROPPER, DROPPER + PAGE, "r-x", "rwx", "dropper-file", copy_on_write=True, needs_copy=True),
    ]
    return objects, entries


def _page_at(content: bytes, index: int, place: int) -> Page:
    return Page(place, content[index * PAGE : (index + 1) * PAGE])


def system_for(machine: Machine, *, modern: bool) -> System:
    """The system with these processes.

    Args:
        machine: Whose images they are.
        modern: The kernel is of 13.0 or later.
    """
    processes, objects = [], [item for item in SYSTEM.objects if item.vnode not in ("libc",)]
    for process in SYSTEM.processes:
        if process.pid == WORKER or (process.pid == NARROW and machine.arch == "amd64"):
            process, more = _process(process, machine, modern=modern)
            objects += more
        elif any(entry.object == "libc-text" for entry in process.vm_entries):
            kept = tuple(entry for entry in process.vm_entries if entry.object != "libc-text")
            process = replace(process, vm_entries=kept)
        processes.append(process)
    return replace(SYSTEM, vnodes=(*SYSTEM.vnodes, *VNODES), objects=tuple(objects), processes=tuple(processes))
