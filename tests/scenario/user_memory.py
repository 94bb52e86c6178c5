"""User address spaces: what every process has without being told, and the stack as exec lays it out.

The description gives addresses of a 64-bit process. On 32-bit machines `address` folds them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .model import Page, Process, System, UserPage, VmEntry, VmObject, Vnode

PAGE = 0x1000
TEXT = 0x0000_0000_0020_0000
STACK = 0x0000_0008_2000_0000
"""The first address above every user stack."""
STACK_PAGES = 4
STACK_GAP = 0x20000
_HIGH = 0x0000_0008_0000_0000
_FOLDED = 0x2000_0000

AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_EXECPATH, AT_CANARY, AT_CANARYLEN, AT_OSRELDATE, AT_NCPUS, AT_PAGESIZES, AT_PAGESIZESLEN = range(15, 22)
AT_STACKPROT = 23
AT_ARGC, AT_ARGV, AT_ENVC, AT_ENVV, AT_PS_STRINGS = range(28, 33)
AT_USRSTACKBASE, AT_USRSTACKLIM = 35, 36


def address(va: int, bits: int) -> int:
    """Where a 64-bit process's address is in a process of that word size."""
    return va if bits == 64 or va < _HIGH else va - _HIGH + _FOLDED


def has_memory(process: Process) -> bool:
    """Whether a process has an address space of its own: neither kernel processes nor zombies do."""
    return not process.is_kernel and process.state != "zombie"


def complete(
    processes: Iterable[Process], objects: Iterable[VmObject], vnodes: Iterable[Vnode]
) -> tuple[tuple[Process, ...], tuple[VmObject, ...]]:
    """Give processes without a map their text and a stack, and make the objects for these."""
    files = {vnode.key: vnode for vnode in vnodes}
    known = {item.key: item for item in objects}
    result = []
    for process in processes:
        if has_memory(process) and not process.vm_entries:
            text = next((item.key for item in known.values() if item.vnode == process.text), f"{process.text}-text")
            known.setdefault(text, _text_object(text, files[process.text]))
            stack = VmObject(f"stack-{process.pid}", "anonymous", STACK_PAGES * PAGE)
            known[stack.key] = stack
            process = replace(process, vm_entries=_entries(known[text], stack), user_pages=(UserPage(TEXT, text, 0),))
        result.append(process)
    return tuple(result), tuple(known.values())


def _text_object(key: str, vnode: Vnode) -> VmObject:
    page = Page(0, b"\x7fELF" + f" text of {posixpath.basename(vnode.path)}".encode())
    return VmObject(key, "vnode", -(-vnode.size // PAGE) * PAGE, (page,), vnode=vnode.key)


def _entries(text: VmObject, stack: VmObject) -> tuple[VmEntry, ...]:
    low = STACK - stack.size
    return (
        VmEntry(TEXT, TEXT + min(text.size, 4 * PAGE), "r-x", "rwx", text.key, copy_on_write=True, needs_copy=True),
        VmEntry(STACK - STACK_GAP, low, "---", "---", guard=True),
        VmEntry(low, STACK, "rw-", "rwx", stack.key, grows_down=True),
    )


def stack_object(process: Process) -> str:
    """The key of the object with a process's stack."""
    return next(entry.object for entry in process.vm_entries if entry.grows_down)


@dataclass(frozen=True)
class Stack:
    """A stack as a process finds it when it starts.

    Attributes:
        content: What is right below the top.
        top: The first address above.
        ps_strings: Address of `struct ps_strings`.
        argv, envp: Addresses of the two vectors of pointers.
        auxv: Types and values, without AT_NULL.
    """

    content: bytes
    top: int
    ps_strings: int
    argv: int
    envp: int
    auxv: tuple[tuple[int, int], ...]


class StackBuilder:
    """`exec_copyout_strings` of kern/kern_exec.c and `__elfN(freebsd_copyout_auxargs)` of kern/imgact_elf.c."""

    def __init__(self, bits: int, byteorder: str, *, modern: bool) -> None:
        """Say whose stacks.

        Args:
            bits: Word size of the process.
            byteorder: Of the machine.
            modern: The auxiliary vector has the entries that 13.0 added.
        """
        self._word = bits // 8
        self._order = "big" if byteorder == "big" else "little"
        self._modern = modern
        self.top = address(STACK, bits)

    @property
    def ps_strings(self) -> int:
        """Its address: two pointers and two ints."""
        return self.top - 4 * self._word

    def build(self, arguments: Sequence[str], environment: Sequence[str], path: str, osreldate: int) -> Stack:
        """The stack of a process that has just been started."""
        image: dict[int, bytes] = {}
        low = self.ps_strings

        def push(data: bytes) -> int:
            nonlocal low
            low = (low - len(data)) & -self._word
            image[low] = data
            return low

        execpath = push(path.encode() + b"\0")
        canary = push(bytes(range(64)))
        page_sizes = push(self._words(PAGE, 0))
        texts = [item.encode() + b"\0" for item in (*arguments, *environment)]
        strings = push(b"".join(texts))
        places = [strings + sum(map(len, texts[:index])) for index in range(len(texts))]
        auxv = self._auxv(execpath, canary, page_sizes, osreldate)
        if self._modern:
            auxv += [(AT_ARGC, len(arguments)), (AT_ENVC, len(environment))]
        count = len(texts) + 2 + 2 * (len(auxv) + 1 + 2 * self._modern)
        argv = (low - count * self._word) & -16
        envp = argv + (len(arguments) + 1) * self._word
        if self._modern:
            auxv += [(AT_ARGV, argv), (AT_ENVV, envp)]
        pointers = [*places[: len(arguments)], 0, *places[len(arguments) :], 0]
        image[argv] = self._words(*pointers, *(value for pair in (*auxv, (AT_NULL, 0)) for value in pair))
        # The entry point finds argc in front of it.
        image[argv - self._word] = self._words(len(arguments))
        image[self.ps_strings] = self._ps_strings(argv, len(arguments), envp, len(environment))
        return Stack(self._flatten(image), self.top, self.ps_strings, argv, envp, tuple(auxv))

    def _auxv(self, execpath: int, canary: int, page_sizes: int, osreldate: int) -> list[tuple[int, int]]:
        entries = [
            (AT_PHDR, TEXT + 0x40),
            (AT_PHENT, 56 if self._word == 8 else 32),
            (AT_PHNUM, 11),
            (AT_PAGESZ, PAGE),
            (AT_FLAGS, 0),
            (AT_ENTRY, TEXT + 0x1000),
            (AT_BASE, address(_HIGH + 0x200000, 8 * self._word)),
            (AT_EXECPATH, execpath),
            (AT_OSRELDATE, osreldate),
            (AT_CANARY, canary),
            (AT_CANARYLEN, 64),
            (AT_NCPUS, 4),
            (AT_PAGESIZES, page_sizes),
            (AT_PAGESIZESLEN, 2 * self._word),
            (AT_STACKPROT, 3),
        ]
        if self._modern:
            entries += [(AT_PS_STRINGS, self.ps_strings), (AT_USRSTACKBASE, self.top), (AT_USRSTACKLIM, STACK_GAP)]
        return entries

    def _ps_strings(self, argv: int, argc: int, envp: int, envc: int) -> bytes:
        half = [count.to_bytes(4, self._order).ljust(self._word, b"\0") for count in (argc, envc)]
        return self._words(argv) + half[0] + self._words(envp) + half[1]

    def _words(self, *values: int) -> bytes:
        return b"".join(value.to_bytes(self._word, self._order) for value in values)

    def _flatten(self, image: dict[int, bytes]) -> bytes:
        low = min(image)
        content = bytearray(self.top - low)
        for place, data in image.items():
            content[place - low : place - low + len(data)] = data
        return bytes(content)


def process_path(system: System, process: Process) -> str:
    """The path of the file that a process executes."""
    return next(vnode.path for vnode in system.vnodes if vnode.key == process.text)
