"""A process's memory, by the page tables that its pmap leads to."""

from __future__ import annotations

from tests.scenario_checks.kernel_reader import KernelReader
from tests.writers.machine import MACHINES
from volatility3_freebsd_kvm import kvm


class UserSpace:
    """Translates a process's addresses by its page tables, with the shapes of each processor's manual."""

    SHAPES = {
        "amd64": ((39, 30, 21, 12), 9, 8, 0x1, 0x000F_FFFF_FFFF_F000),
        "arm64": ((39, 30, 21, 12), 9, 8, 0x3, 0x0000_FFFF_FFFF_F000),
        "riscv": ((30, 21, 12), 9, 8, 0x1, 0),
        "i386-pae": ((30, 21, 12), 9, 8, 0x1, 0x000F_FFFF_FFFF_F000),
        "i386": ((22, 12), 10, 4, 0x1, 0xFFFF_F000),
    }

    def __init__(self, reader: KernelReader, everything: KernelReader, space: int, arch: str) -> None:
        self.dump = everything.dump
        self.order = reader.order
        self.arch = arch
        if arch == "i386" and reader.has("pmap", "pm_pdpt_pae"):
            self.arch = "i386-pae"
        self.root = self._root(reader, reader.at(space, "vmspace", "vm_pmap"))

    def _root(self, reader: KernelReader, pmap: int) -> int:
        """The physical address of the top table."""
        dmap = MACHINES["amd64"].dmap
        if self.arch == "amd64":
            top = "pm_pmltop" if reader.has("pmap", "pm_pmltop") else "pm_pml4"
            root = reader.field(pmap, "pmap", "pm_cr3")
            assert reader.field(pmap, "pmap", top) == dmap + root
            self.user_root = reader.field(pmap, "pmap", "pm_ucr3")
            return root
        if self.arch == "arm64":
            assert reader.field(pmap, "pmap", "pm_ttbr") == reader.field(pmap, "pmap", "pm_l0_paddr")
            return reader.field(pmap, "pmap", "pm_l0_paddr")
        if self.arch == "riscv":
            satp = reader.field(pmap, "pmap", "pm_satp")
            assert satp >> 60 == 8, "Sv39"
            return (satp & (1 << 44) - 1) << 12
        name = {"i386": "pm_pdir", "i386-pae": "pm_pdpt_pae", "arm": "pm_pt1"}[self.arch]
        return reader.dump.kvatop(reader.field(pmap, "pmap", name))

    def is_isolated(self) -> bool:
        """Whether user mode has a table of its own, with the same lower half and no kernel."""
        if self.user_root == 2**64 - 1:
            return False
        own, user = (self.dump.read_physical(root, 4096) for root in (self.root, self.user_root))
        assert user[2048:] == bytes(2048)
        for at in range(0, 2048, 8):
            entries = [int.from_bytes(table[at : at + 8], self.order) for table in (own, user)]
            assert entries[0] == (entries[1] | 1 << 63 if entries[1] else 0)
        return True

    def translate(self, va: int) -> int:
        if self.arch == "arm":
            level1 = self._entry(self.root + (va >> 20) * 4, 4)
            assert level1 & 0x3 == 1
            level2 = self._entry((level1 & 0xFFFF_FC00) + (va >> 12 & 0xFF) * 4, 4)
            assert level2 & 0x2
            assert level2 & 0x20, "a page of the user's"
            return (level2 & 0xFFFF_F000) | va & 0xFFF
        shifts, bits, size, valid, mask = self.SHAPES[self.arch]
        table = self.root
        for shift in shifts:
            entry = self._entry(table + (va >> shift & (1 << bits) - 1) * size, size)
            if not entry & valid:
                raise kvm.NotMappedError(va)
            table = (entry >> 10 << 12) & (1 << 56) - 1 if self.arch == "riscv" else entry & mask
        self.last = entry
        assert entry & {"arm64": 0x40, "riscv": 0x10}.get(self.arch, 0x4), "a page of the user's"
        return table | va & 0xFFF

    def _entry(self, pa: int, size: int) -> int:
        return int.from_bytes(self.dump.read_physical(pa, size), self.order)

    def read(self, va: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = min(length - len(data), 4096 - (va + len(data)) % 4096)
            data += self.dump.read_physical(self.translate(va + len(data)), piece)
        return data
