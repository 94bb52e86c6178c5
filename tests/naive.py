"""A second reader of minidumps, from scratch: slow, short, and sharing nothing with the package or the writers.

It counts bits one by one and reads every page table entry from the file. Little-endian architectures and big-endian
powerpc64 (radix) are enough for what it checks.
"""

from __future__ import annotations

import struct

PAGE = 4096


class NaiveMinidump:
    """Reads kernel memory; returns None for whatever cannot be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.arch = data[17:32].split(b"\0")[0].decode()
        self.order = ">" if self.arch == "powerpc64" else "<"
        at = 64 if self.arch == "powerpc64" else 24
        self.version, msgbuf, bitmap, self.pmap_size = self._unpack("4I", at)
        self._header(at + 16)
        has_avail = self.version >= (3 if self.arch == "amd64" else 2)
        avail = self._unpack("I", self._avail_at())[0] if has_avail else 0
        self.avail_at = PAGE + self._round(msgbuf)
        self.bitmap_at = self.avail_at + self._round(avail)
        self.pmap_at = self.bitmap_at + self._round(bitmap)
        self.pages_at = self.pmap_at + self._round(self.pmap_size)
        self.bitmap_bits = bitmap * 8
        self.ranges = self._ranges() if avail else [(0, self.bitmap_bits * PAGE)]
        self._places: dict[int, int] = {}
        self._number_pages()

    def _unpack(self, layout: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + layout, self.data, at)

    @staticmethod
    def _round(size: int) -> int:
        return (size + PAGE - 1) // PAGE * PAGE

    def _header(self, at: int) -> None:
        self.dmap, self.dmap_end, self.dmap_phys, self.moved = 0, 0, 0, 0
        if self.arch in ("i386", "arm"):
            self.kernbase, self.extra = self._unpack("2I", at)
        elif self.arch == "amd64":
            self.kernbase, self.dmap, self.dmap_end = self._unpack("3Q", at)
        elif self.arch == "powerpc64":
            self.kernbase, _, self.dmap, self.dmap_end = self._unpack("4Q", at)
            self.moved = self._unpack("Q", 0x78)[0] - 0x100100
        else:
            self.kernbase, self.dmap_phys, self.dmap, self.dmap_end = self._unpack("4Q", at)

    def _avail_at(self) -> int:
        return {"amd64": 64, "i386": 48, "arm": 52, "arm64": 72, "riscv": 72, "powerpc64": 136}[self.arch]

    def _ranges(self) -> list[tuple[int, int]]:
        ranges = []
        at = self.avail_at
        while True:
            start, end = self._unpack("2Q", at)
            if not end:
                return ranges
            ranges.append((start, end))
            at += 16

    def _number_pages(self) -> None:
        word = 4 if self.arch in ("i386", "arm") else 8
        bit = place = 0
        for start, end in self.ranges:
            for page in range(start, end, PAGE):
                at = self.bitmap_at + bit // (8 * word) * word
                if self._unpack("I" if word == 4 else "Q", at)[0] >> bit % (8 * word) & 1:
                    self._places[page] = self.pages_at + place * PAGE
                    place += 1
                bit += 1

    def byte(self, va: int) -> int | None:
        """The byte at a kernel virtual address."""
        pa = self.translate(va)
        if pa is None or pa // PAGE * PAGE not in self._places:
            return None
        at = self._places[pa // PAGE * PAGE] + pa % PAGE
        return self.data[at] if at < len(self.data) else None

    def _physical_word(self, pa: int) -> int | None:
        if pa // PAGE * PAGE not in self._places:
            return None
        return int(struct.unpack_from(self.order + "Q", self.data, self._places[pa // PAGE * PAGE] + pa % PAGE)[0])

    def translate(self, va: int) -> int | None:
        """Virtual to physical."""
        if va < self.dmap:
            va += self.moved
        in_dmap = self.dmap and self.dmap <= va < self.dmap_end
        if in_dmap and not (self.arch == "amd64" and va >= self.kernbase):
            return va - self.dmap + self.dmap_phys
        if va < self.kernbase:
            return None
        distance = va - self.kernbase
        if self.arch == "amd64":
            return self._amd64(va, distance)
        if self.arch == "powerpc64":
            return self._radix(va)
        size = 4 if self.arch == "arm" or (self.arch == "i386" and not self.extra) else 8
        if distance // PAGE >= self.pmap_size // size:
            return None
        entry = self._unpack("I" if size == 4 else "Q", self.pmap_at + distance // PAGE * size)[0]
        return self._flat(entry, va)

    def _flat(self, entry: int, va: int) -> int | None:
        if self.arch == "i386":
            return entry // PAGE * PAGE % (1 << 52) + va % PAGE if entry & 1 else None
        if self.arch == "arm":
            return entry // PAGE * PAGE + va % PAGE if entry & 2 else None
        if self.arch == "arm64":
            return entry % (1 << 48) // PAGE * PAGE + va % PAGE if entry & 3 == 3 else None
        return entry % (1 << 54) // 1024 * PAGE + va % PAGE if entry & 1 and entry & 14 else None

    def _amd64(self, va: int, distance: int) -> int | None:
        if distance // (1 << 21) >= self.pmap_size // 8:
            return None
        entry = self._unpack("Q", self.pmap_at + distance // (1 << 21) * 8)[0]
        if not entry & 1:
            return None
        if entry & 0x80:
            return entry % (1 << 52) // (1 << 21) * (1 << 21) + va % (1 << 21)
        page_table = entry % (1 << 52) // PAGE * PAGE
        entry_or_none = self._physical_word(page_table + va // PAGE % 512 * 8)
        if entry_or_none is None or not entry_or_none & 1:
            return None
        return entry_or_none % (1 << 52) // PAGE * PAGE + va % PAGE

    def _radix(self, va: int) -> int | None:
        entry: int | None = self._unpack("Q", self.pmap_at + (va >> 39) % 8192 * 8)[0]
        for shift in (30, 21, 12):
            if not entry or not entry >> 63 or entry >> 62 & 1:
                return None
            entry = self._physical_word(entry % (1 << 56) // 256 * 256 + (va >> shift) % 512 * 8)
            if entry and entry >> 63 and entry >> 62 & 1:
                span = 1 << shift
                return entry % (1 << 56) // span * span + va % span
        return None
