"""Filters of bpf(4): the instructions of the packet filter machine, as tcpdump -d shows them.

# Reference: sys/net/bpf.h (BPF_), sys/net/bpf_filter.c (bpf_validate)
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import AddressError
from ..image.structs import Structs

INSTRUCTION_SIZE = 8
"""u_short code; u_char jt, jf; bpf_u_int32 k: since 4.2BSD, everywhere."""
MAX_INSTRUCTIONS = 512
"""BPF_MAXINSNS, unless net.bpf.maxinsns says otherwise."""
_CLASS, _JUMP, _RETURN, _JUMP_ALWAYS = 0x07, 0x05, 0x06, 0x05
_SIZES = {0x00: "ld", 0x08: "ldh", 0x10: "ldb"}
_ALU = ("add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor")
_BITWISE = ("or", "and", "xor")
_JUMPS = {0x10: "jeq", 0x20: "jgt", 0x30: "jge", 0x40: "jset"}
_X = 0x08
_FIXED = {0x07: "tax", 0x87: "txa", 0x84: "neg", 0x16: "ret", 0x0E: "ret x", 0x80: "ld #pktlen", 0x81: "ldx #pktlen"}


@dataclass(frozen=True)
class Instruction:
    """An instruction: its code, how many to skip if a test is true and false, and its operand."""

    code: int
    true: int
    false: int
    operand: int

    def last_target(self, at: int) -> int:
        """The farthest instruction that may come next; -1 behind a return."""
        kind = self.code & _CLASS
        if kind == _RETURN:
            return -1
        if self.code == _JUMP_ALWAYS:
            return at + 1 + self.operand
        return at + 1 + (max(self.true, self.false) if kind == _JUMP else 0)

    def text(self, at: int) -> str:
        """As tcpdump -d has it, in one piece: ``jeq #0x800 jt 2 jf 5``; ``at`` is its number."""
        if self.code in _FIXED:
            return _FIXED[self.code]
        kinds = (self._load, self._load_x, self._store, self._store, self._compute)
        kind = self.code & _CLASS
        text = kinds[kind]() if kind < len(kinds) else self._branch(at)
        return text or f"unimp {self.code:#x}"

    def _load(self) -> str:
        size, mode, k = self.code & 0x18, self.code & ~0x1F, self.operand
        operands = {0x20: f"[{k}]", 0x40: f"[x + {k}]"} if size in _SIZES else {}
        if size == 0:
            operands |= {0x00: f"#{k:#x}", 0x60: f"M[{k}]"}
        return f"{_SIZES[size]} {operands[mode]}" if mode in operands else ""

    def _load_x(self) -> str:
        k = self.operand
        return {0x01: f"ldx #{k:#x}", 0x61: f"ldx M[{k}]", 0xB1: f"ldxb 4*([{k}]&0xf)"}.get(self.code, "")

    def _store(self) -> str:
        return {0x02: f"st M[{self.operand}]", 0x03: f"stx M[{self.operand}]"}.get(self.code, "")

    def _compute(self) -> str:
        number = self.code >> 4
        if number >= len(_ALU):
            return ""
        name, k = _ALU[number], self.operand
        constant = f"#{k:#x}" if name in _BITWISE else f"#{k}"
        return f"{name} {'x' if self.code & _X else constant}"

    def _branch(self, at: int) -> str:
        if self.code == _JUMP_ALWAYS:
            return f"ja {at + 1 + self.operand}"
        if self.code == _RETURN:
            return f"ret #{self.operand}"
        name = _JUMPS.get(self.code & ~0x0F)
        if self.code & _CLASS != _JUMP or name is None:
            return ""
        operand = "x" if self.code & _X else f"#{self.operand:#x}"
        return f"{name} {operand} jt {at + 1 + self.true} jf {at + 1 + self.false}"


@dataclass(frozen=True)
class Filter:
    """A filter program.

    Attributes:
        address: of it; 0 for none, which lets every packet through.
        instructions: from the first on.
        problem: why there are no more, if they do not end as a program must.
    """

    address: int
    instructions: tuple[Instruction, ...] = ()
    problem: str = ""

    def lines(self) -> tuple[str, ...]:
        """The instructions as text."""
        return tuple(one.text(at) for at, one in enumerate(self.instructions))


def read_filter(structs: Structs, address: int, limit: int = MAX_INSTRUCTIONS) -> Filter:
    """The program at an address. Its length is stored nowhere: it ends where no path leads on."""
    found: list[Instruction] = []
    farthest = 0 if address else -1
    problem = ""
    while len(found) <= farthest:
        if farthest >= limit:
            problem = f"instruction {len(found) - 1} leads beyond {limit} instructions"
            break
        try:
            one = _read_instruction(structs, address + len(found) * INSTRUCTION_SIZE)
        except AddressError as error:
            problem = f"instruction {len(found)} cannot be read: {error}"
            break
        farthest = max(farthest, one.last_target(len(found)))
        found.append(one)
    return Filter(address, tuple(found), problem)


def _read_instruction(structs: Structs, address: int) -> Instruction:
    data = structs.read(address, INSTRUCTION_SIZE)
    order = structs.byteorder
    return Instruction(int.from_bytes(data[:2], order), data[2], data[3], int.from_bytes(data[4:], order))
