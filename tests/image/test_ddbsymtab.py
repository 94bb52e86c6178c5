"""The kernel's symbols out of a dump alone: those of the scenario, and of tiny kernels that lack, lie and mislead."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterable

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenario.build import build
from tests.scenario.elf_symbols import kernel_tables
from tests.scenario.kernels import load
from tests.scenario.system import SYSTEM
from tests.scenario.world import World
from tests.scenario_checks import kernel_reader
from tests.writers.elfcore import virtual_dump
from tests.writers.kernel_memory import KernelMemory
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.minidump import build_minidump
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.exceptions import SymbolError
from volatility3_freebsd_kvm.image.ddbsymtab import RecoveredSymbols, find_kernel_symbols
from volatility3_freebsd_kvm.image.symbols import SymbolTable
from volatility3_freebsd_kvm.kvm.reader import StreamReader

PAGE = 4096
NONE = (
    "the dump holds no symbol table of its kernel: the loader left none, or its pages were not dumped; "
    "pass the kernel file"
)
Row = tuple[str, int, int]


def rows(table: SymbolTable) -> list[Row]:
    return [(symbol.name, symbol.value, symbol.size) for symbol in table]


def find(dump: kvm.Dump) -> RecoveredSymbols:
    return find_kernel_symbols(dump.kernel, dump.word_bits, dump.byteorder)


# The scenario's kernels

IN_FULL = ("13.0-amd64", "14-i386", "15-arm64")
"""These are looked for in full dumps, too."""


def truth(world: World) -> list[Row]:
    """What the kernel file has, read by somebody else."""
    section = ELFFile(io.BytesIO(world.memory.image.file)).get_section_by_name(".symtab")
    return [
        (symbol.name, symbol["st_value"], symbol["st_size"])
        for symbol in section.iter_symbols()
        if symbol.name
        and symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_COMMON")
        and symbol["st_info"]["type"] not in ("STT_FILE", "STT_SECTION")
    ]


def test_the_kernels_symbols_are_recovered(kernel: str) -> None:
    world = kernel_reader.scenario(kernel)
    word = world.memory.types.pointer_size
    expected = truth(world)
    assert len(expected) > 1000
    readers = [kernel_reader.minidump, *([kernel_reader.full_dump] if kernel in IN_FULL else [])]
    for reader in readers:
        found = find(reader(kernel).dump)
        assert rows(found.table) == expected
        assert found.symtab_address == int(world.get("loader_symbols", 1)) + word
        assert found.count == kernel_tables(world).count
        assert (found.lost, found.confirmed, found.complete, found.notes) == (0, True, True, ())


@pytest.mark.parametrize(("kernel_name", "kernphys"), [("14-powerpc64", 0x2000000), ("15-amd64", 0x1200000)])
def test_a_kernel_loaded_elsewhere_has_the_symbols_of_its_file(kernel_name: str, kernphys: int) -> None:
    image, machine, release = load(kernel_name)
    world = World(KernelMemory(image, machine, kernphys=kernphys), SYSTEM, release)
    build(world)
    start = {"startkernel": (machine.dmap or 0) + kernphys + 0x100} if machine.arch == "powerpc64" else {}
    with kvm.open(world.memory.minidump(**start).data) as dump:
        assert dump.kvatop(image.symbols["version"]) == image.symbols["version"] - machine.linked + kernphys
        found = find(dump)
        assert rows(found.table) == truth(world)
        assert found.confirmed


# Tiny kernels

ORDERS = {"i386": ("<", 0xC0400000), "mips": (">", 0xC0400000), "amd64": ("<", 0xFFFFFFFF80400000)}
ORDERS |= {"arm64": ("<", 0xFFFF000000400000), "powerpc64": (">", 0xC008000000400000)}
"""Byte order, and an address in the kernel map."""
VARIABLES = {"version": 0, "ostype": 0x100, "osreldate": 0x120, "proc_off_p_pid": 0x124, "linker_kernel_file": 0x128}
ELF_FILE, DDBSYMTAB = 0x1000, 0x2E8
TABLES = 0x4000


class TinyKernel:
    """Some pages with the few variables that matter, scattered over physical memory, and symbol tables on demand.

    Attributes:
        symbols: Name, value, size, st_info.
    """

    def __init__(self, arch: str = "arm64", fillers: int = 600) -> None:
        self.arch = arch
        self.order, self.base = ORDERS[arch]
        self.bits = 64 if arch in ("amd64", "arm64", "powerpc64") else 32
        self.pages: dict[int, bytearray] = {}
        self.symbols = [(f"local_function_{number}", self.base + 16 * number, 16, 2) for number in range(fillers)]
        self.symbols += [(name, self.base + at, 8, 0x11) for name, at in VARIABLES.items()]
        self.write(0, b"FreeBSD 14.2-RELEASE GENERIC\0")
        self.write(0x100, b"FreeBSD\0")
        self.write(0x120, struct.pack(self.order + "ii", 1402000, 0xC4))
        self.write(0x128, self.words(self.base + ELF_FILE))
        self.write(ELF_FILE, bytes(PAGE))

    # Memory

    def words(self, *values: int) -> bytes:
        return struct.pack(f"{self.order}{len(values)}{'Q' if self.bits == 64 else 'I'}", *values)

    @property
    def word(self) -> int:
        return self.bits // 8

    def write(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data, offset):
            self.pages.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def dump(self, missing: Iterable[int] = (), *, virtual: bool = False) -> kvm.Dump:
        """A minidump without the pages at these offsets, or an ELF core by virtual addresses."""
        memory = PhysicalMemory(free_area=(0x3000000, 0x4000000))
        places = list(range(0x100000, 0x100000 + 2 * PAGE * len(self.pages), PAGE))
        random.Random(1).shuffle(places)
        gone = {offset // PAGE for offset in missing}
        mappings = []
        for (number, content), pa in zip(self.pages.items(), places, strict=False):
            memory.write(pa, bytes(content))
            mappings.append(Mapping(self.base + number * PAGE, pa, PAGE))
        dumped = {pa for (number, _), pa in zip(self.pages.items(), places, strict=False) if number not in gone}
        if virtual:
            return kvm.open(virtual_dump(memory, mappings, self.arch))
        mmu = {"mmu_name": "mmu_radix"} if self.arch == "powerpc64" else {}
        version = {"amd64": 3, "arm64": 3}.get(self.arch, 2)
        return kvm.open(build_minidump(self.arch, version, memory, mappings, dumped=dumped, **mmu).data)

    # Tables

    def tables(self, symbols: Iterable[tuple[str, int, int, int]] | None = None) -> tuple[bytes, bytes]:
        """The bytes of a symbol table and its names."""
        names, records = bytearray(1), bytearray(24 if self.bits == 64 else 16)
        for name, value, size, info in self.symbols if symbols is None else symbols:
            if self.bits == 64:
                records += struct.pack(self.order + "IBBHQQ", len(names), info, 0, 1, value, size)
            else:
                records += struct.pack(self.order + "IIIBBH", len(names), value, size, info, 0, 1)
            names += name.encode() + b"\0"
        return bytes(records), bytes(names)

    def load(self, offset: int = TABLES, *, sizes: bool = True, linked: bool = True) -> TablesAt:
        """Leave the tables as the loader does, with or without the sizes, and tell the kernel's `elf_file`."""
        records, names = self.tables()
        symtab = offset + self.word
        strtab = symtab + len(records) + self.word
        for at, size in ((symtab, len(records)), (strtab, len(names))):
            self.write(at - self.word, self.words(size if sizes else 0))
        self.write(symtab, records)
        self.write(strtab, names)
        count = len(records) // (24 if self.bits == 64 else 16)
        if linked:
            self.link(symtab, count, strtab, len(names))
        return TablesAt(symtab, strtab, count, len(names))

    def link(self, symtab: int, count: int, strtab: int, length: int) -> None:
        self.write(ELF_FILE + DDBSYMTAB, self.words(self.base + symtab, count, self.base + strtab, length))

    @property
    def rows(self) -> list[Row]:
        return [symbol[:3] for symbol in self.symbols]


class TablesAt:
    """Offsets of the tables of a tiny kernel, and their lengths."""

    def __init__(self, symtab: int, strtab: int, count: int, length: int) -> None:
        self.symtab, self.strtab, self.count, self.length = symtab, strtab, count, length


@pytest.fixture(params=ORDERS)
def tiny(request: pytest.FixtureRequest) -> TinyKernel:
    return TinyKernel(request.param)


def test_tables_are_found_in_every_byte_order_and_word_size(tiny: TinyKernel) -> None:
    at = tiny.load()
    found = find(tiny.dump())
    assert rows(found.table) == tiny.rows
    assert (found.symtab_address, found.strtab_address) == (tiny.base + at.symtab, tiny.base + at.strtab)
    assert (found.count, found.lost, found.confirmed, found.complete) == (606, 0, True, True)


def test_tables_are_found_in_elf_cores_by_virtual_addresses(tiny: TinyKernel) -> None:
    at = tiny.load()
    found = find(tiny.dump(virtual=True))
    assert (rows(found.table), found.confirmed) == (tiny.rows, True)
    assert found.symtab_address == tiny.base + at.symtab


def test_tables_are_found_in_files_that_cannot_be_mapped() -> None:
    tiny = TinyKernel()
    tiny.load()
    with tiny.dump() as mapped:
        stream = io.BytesIO(mapped.reader.buffer[0 : mapped.reader.size])
    with kvm.open(StreamReader(stream, "stream")) as dump:
        assert rows(find(dump).table) == tiny.rows


def test_tables_are_found_where_the_kernel_does_not_confirm_them(tiny: TinyKernel) -> None:
    tiny.load(linked=False)
    found = find(tiny.dump())
    assert (rows(found.table), found.confirmed, found.complete, found.notes) == (tiny.rows, False, True, ())


def test_tables_are_found_without_their_sizes(tiny: TinyKernel) -> None:
    at = tiny.load(sizes=False, linked=False)
    found = find(tiny.dump())
    assert rows(found.table) == tiny.rows
    assert (found.symtab_address, found.strtab_address) == (tiny.base + at.symtab, tiny.base + at.strtab)
    assert (found.count, found.confirmed, found.complete) == (606, False, True)


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("value", [1, 7, 24 << 40, (1 << 64) - 24, 24, 48 << 10])
def test_sizes_that_lie_are_seen_through(value: int, linked: bool) -> None:
    tiny = TinyKernel()
    at = tiny.load(linked=linked)
    tiny.write(at.symtab - 8, tiny.words(value))
    tiny.write(at.strtab - 8, tiny.words(value))
    found = find(tiny.dump())
    assert (rows(found.table), found.confirmed) == (tiny.rows, linked)
    assert found.symtab_address == tiny.base + at.symtab


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_names_may_cross_pages(shift: int) -> None:
    tiny = TinyKernel("i386")
    tiny.symbols = [("x", tiny.base, 0, 2), *(one for one in tiny.symbols if one[0] != "proc_off_p_pid")]
    records, names = tiny.tables()
    where = TABLES + 2 * tiny.word + len(records) + names.index(b"linker_kernel_file")
    tiny.symbols[0] = ("x" * (1 + (-where - shift) % PAGE), tiny.base, 0, 2)
    at = tiny.load(linked=False)
    assert (at.strtab + tiny.tables()[1].index(b"linker_kernel_file") + shift) % PAGE == 0
    assert rows(find(tiny.dump()).table) == tiny.rows


# What is missing


def test_symbols_in_a_hole_are_lost_and_the_others_are_not() -> None:
    tiny = TinyKernel()
    at = tiny.load()
    hole = at.symtab // PAGE * PAGE + PAGE
    # Records that the missing page has any part of.
    first, last = (hole - at.symtab) // 24, (hole + PAGE - 1 - at.symtab) // 24
    found = find(tiny.dump([hole]))
    assert rows(found.table) == [row for number, row in enumerate(tiny.rows, 1) if not first <= number <= last]
    assert (found.lost, found.count, found.confirmed) == (last - first + 1, 606, True)
    assert found.notes == (f"{last - first + 1} of 606 symbols are lost: their record or name is not dumped",)


def test_names_in_a_hole_are_lost_and_none_is_cut_off() -> None:
    tiny = TinyKernel()
    at = tiny.load()
    hole = at.strtab // PAGE * PAGE + PAGE
    names = tiny.tables()[1]
    kept = []
    for row in tiny.rows:
        start = at.strtab + names.index(b"\0" + row[0].encode() + b"\0") + 1
        if start + len(row[0]) < hole or start >= hole + PAGE:
            kept.append(row)
    found = find(tiny.dump([hole]))
    assert 300 < len(kept) < 500
    assert rows(found.table) == kept
    assert found.lost == 605 - len(kept)


@pytest.mark.parametrize("arch", ["arm64", "mips"])
def test_without_the_first_page_the_rest_is_found_by_its_records(arch: str) -> None:
    tiny = TinyKernel(arch)
    at = tiny.load(offset=TABLES + 0xF00, linked=False)
    end = TABLES + PAGE
    found = find(tiny.dump([TABLES]))
    size = 24 if tiny.bits == 64 else 16
    first = -(-(end - at.symtab) // size)
    assert rows(found.table) == tiny.rows[first - 1 :]
    assert found.symtab_address == tiny.base + at.symtab + first * size
    assert (found.confirmed, found.count) == (False, 606 - first)


def test_with_the_kernels_own_pointers_the_first_page_is_counted_as_lost() -> None:
    tiny = TinyKernel()
    at = tiny.load(offset=TABLES + 0xF00)
    found = find(tiny.dump([TABLES]))
    lost = -(-(TABLES + PAGE - at.symtab) // 24)
    assert rows(found.table) == tiny.rows[lost - 1 :]
    assert (found.symtab_address, found.lost, found.confirmed) == (tiny.base + at.symtab, lost, True)


def test_without_any_page_of_the_table_there_is_none(tiny: TinyKernel) -> None:
    at = tiny.load()
    with pytest.raises(SymbolError) as raised:
        find(tiny.dump(range(TABLES, at.strtab, PAGE)))
    assert str(raised.value) == NONE


@pytest.mark.parametrize("pages", [0, 1, 3, 5])
def test_a_cut_file_gives_what_is_left_or_the_sentence(pages: int) -> None:
    tiny = TinyKernel()
    tiny.load()
    whole = tiny.dump()
    kept = whole.reader.size - pages * PAGE
    with kvm.open(whole.reader.buffer[0:kept]) as dump:
        assert dump.pages_beyond_end == pages
        try:
            found = find(dump)
        except SymbolError as error:
            assert str(error) == NONE  # noqa: PT017 - either is right
        else:
            assert set(rows(found.table)) <= set(tiny.rows)
            assert len(found.table) + found.lost >= 605


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 14)))
def test_whatever_is_missing_no_symbol_is_wrong(missing: set[int]) -> None:
    tiny = TinyKernel()
    tiny.load()
    try:
        found = find(tiny.dump(number * PAGE for number in missing))
    except SymbolError as error:
        assert str(error) == NONE  # noqa: PT017 - either is right
    else:
        assert set(rows(found.table)) <= set(tiny.rows)


# What leads astray


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["arm64", "i386", "powerpc64"]), st.booleans(), st.data())
def test_damage_never_does_more_than_hide_the_table(arch: str, linked: bool, data: st.DataObject) -> None:
    tiny = TinyKernel(arch, fillers=20)
    at = tiny.load(linked=linked)
    for _ in range(data.draw(st.integers(1, 12))):
        place = data.draw(
            st.sampled_from([0, VARIABLES["linker_kernel_file"], ELF_FILE + DDBSYMTAB, at.symtab, at.strtab])
        )
        tiny.write(
            max(0, place + data.draw(st.integers(0, 31)) - tiny.word), data.draw(st.binary(min_size=1, max_size=8))
        )
    try:
        found = find(tiny.dump())
    except SymbolError as error:
        assert str(error) == NONE  # noqa: PT017 - either is right
    else:
        assert set(VARIABLES) & set(found.table.names())


def test_a_dump_without_tables_has_none(tiny: TinyKernel) -> None:
    tiny.write(TABLES, b"panic: linker_kernel_file\0 is not proc_off_p_pid\0 at all\0")
    with pytest.raises(SymbolError) as raised:
        find(tiny.dump())
    assert str(raised.value) == NONE


def other_kernel(tiny: TinyKernel, distance: int) -> list[tuple[str, int, int, int]]:
    """The same names where another kernel had them."""
    return [(name, value + distance, size, info) for name, value, size, info in tiny.symbols]


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("stale_first", [True, False])
def test_what_an_earlier_boot_left_is_not_taken(stale_first: bool, linked: bool) -> None:
    tiny = TinyKernel()
    right, stale = (0x20000, TABLES) if stale_first else (TABLES, 0x20000)
    at = tiny.load(right, linked=linked)
    records, names = tiny.tables(other_kernel(tiny, 0x40))
    tiny.write(stale, tiny.words(len(records)) + records + tiny.words(len(names)) + names)
    found = find(tiny.dump())
    assert rows(found.table) == tiny.rows
    assert (found.symtab_address, found.confirmed) == (tiny.base + at.symtab, linked)


def test_only_what_an_earlier_boot_left_is_no_table() -> None:
    tiny = TinyKernel()
    records, names = tiny.tables(other_kernel(tiny, 0x40))
    tiny.write(TABLES, tiny.words(len(records)) + records + tiny.words(len(names)) + names)
    with pytest.raises(SymbolError, match="holds no symbol table"):
        find(tiny.dump())


def test_a_table_that_is_right_and_wrong_is_none() -> None:
    tiny = TinyKernel()
    stale = dict.fromkeys(("ostype", "proc_off_p_pid", "linker_kernel_file"), 0x200)
    tiny.symbols = [(name, value + stale.get(name, 0), size, info) for name, value, size, info in tiny.symbols]
    tiny.load()
    with pytest.raises(SymbolError, match="holds no symbol table"):
        find(tiny.dump())


def test_of_two_tables_the_kernel_tells_its_own() -> None:
    tiny = TinyKernel()
    everything = tiny.symbols
    tiny.symbols = everything[300:]
    at = tiny.load(0x20000)
    tiny.symbols = everything
    tiny.load(TABLES, linked=False)
    found = find(tiny.dump())
    assert rows(found.table) == [symbol[:3] for symbol in everything[300:]]
    assert found.symtab_address == tiny.base + at.symtab


def exported(tiny: TinyKernel, offset: int = 0x20000) -> tuple[int, int, int, int]:
    """Put .dynsym, something else and .dynstr of the image into memory; offsets and lengths, as of an `elf_file`."""
    records, names = tiny.tables(symbol for symbol in tiny.symbols if symbol[3] >> 4)
    between = struct.pack(tiny.order + "16I", *range(0x1234567, 0x1234567 + 16))
    tiny.write(offset, records + between + names)
    return offset, len(records) // (24 if tiny.bits == 64 else 16), offset + len(records) + len(between), len(names)


@pytest.mark.parametrize("linked", [True, False])
def test_without_the_loaders_symbols_there_are_the_exported_ones(tiny: TinyKernel, linked: bool) -> None:
    place = exported(tiny)
    if linked:
        tiny.link(*place)
    found = find(tiny.dump())
    assert [name for name, _, _ in rows(found.table)] == list(VARIABLES)
    assert (found.symtab_address, found.strtab_address) == (tiny.base + place[0], tiny.base + place[2])
    assert (found.count, found.confirmed, found.complete) == (6, linked, False)
    assert found.notes == (
        "the loader left no symbols that can be read: only exported names are known, no static ones",
    )


def test_the_exported_names_lead_to_the_loaders_table() -> None:
    tiny = TinyKernel()
    tiny.symbols.insert(0, ("exported_function", tiny.base, 16, 0x12))
    exported(tiny)
    at = tiny.load()
    # All that could be searched for, or proves the table right, is in the hole.
    hole = (at.strtab + at.length - 1) // PAGE * PAGE
    names = tiny.tables()[1]
    assert at.strtab + names.index(b"version") >= hole
    found = find(tiny.dump([hole]))
    assert found.symtab_address == tiny.base + at.symtab
    assert (found.complete, found.confirmed) == (True, True)
    assert set(rows(found.table)) < set(tiny.rows)
    assert found.lost == 606 - len(found.table)


@pytest.mark.parametrize(
    "numbers",
    [(1 << 60, 20), (606, 1 << 60), (1 << 21, 1 << 26), (606, 1), (1, 1), (0, 0)],
    ids=["many symbols", "many names", "limits", "one name", "one symbol", "nothing"],
)
def test_absurd_numbers_in_the_kernels_structure_are_not_believed(numbers: tuple[int, int]) -> None:
    tiny = TinyKernel()
    at = tiny.load()
    tiny.link(at.symtab, numbers[0], at.strtab, numbers[1])
    found = find(tiny.dump())
    assert (rows(found.table), found.lost) == (tiny.rows, 0)


def test_pointers_into_nothing_are_not_followed() -> None:
    tiny = TinyKernel()
    tiny.load()
    tiny.link(0x100000, 10, 0x100000 + 10 * 24 + 8, 100)
    found = find(tiny.dump())
    assert (rows(found.table), found.confirmed) == (tiny.rows, False)


def test_thousands_of_names_do_not_hide_the_table_behind_them() -> None:
    tiny = TinyKernel()
    tiny.write(TABLES, b"linker_kernel_file\0" * 3000)
    at = tiny.load(0x40000)
    found = find(tiny.dump())
    assert found.symtab_address == tiny.base + at.symtab


def test_progress_is_told() -> None:
    tiny = TinyKernel()
    tiny.load()
    dump = tiny.dump()
    told: list[tuple[float, str]] = []
    find_kernel_symbols(dump.kernel, 64, "little", lambda percent, what: told.append((percent, what)))
    assert told
    assert all(0 < percent <= 99 and what == "Searching for the kernel's symbols" for percent, what in told)
