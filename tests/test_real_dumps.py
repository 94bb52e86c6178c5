"""The four real dumps, read by `kvm` alone and through the framework's layers; the values were checked with LLDB.

They are sparse recordings, cut before their end: a zero does not mean that the machine had a zero there.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from volatility3.framework import exceptions
from volatility3.framework.layers import intel

from tests.conftest import RealFile
from tests.framework import Stack, stack
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.image import kernel as image


class Symbol(NamedTuple):
    """A variable of the kernel: where it is, its size in bytes, and what it holds."""

    va: int
    offset: int
    size: int
    value: int


class Process(NamedTuple):
    """A process and the id of its first thread."""

    pid: int
    comm: str
    tid: int


class Real(NamedTuple):
    """What is known of a dump."""

    name: str
    kernel: str
    architecture: str
    layer: str
    layer_architecture: str
    pointer_size: int
    symbols: dict[str, Symbol]
    exported_offsets: dict[str, int]
    processes: list[Process]
    pages_dumped: int
    pages_beyond_end: int
    file_size: int
    last_byte: int


AMD64_VARIABLES = {
    "hz": 0xFFFFFFFF_81CD4C0C,
    "dumptid": 0xFFFFFFFF_81CA69A8,
    "allproc": 0xFFFFFFFF_81C9A2F0,
    "pcb_size": 0xFFFFFFFF_815CA590,
    "proc_off_p_pid": 0xFFFFFFFF_815CA620,
    "proc_off_p_comm": 0xFFFFFFFF_815CA624,
}
AMD64_OFFSETS = {
    "proc_off_p_threads": 0x10,
    "thread_off_td_tid": 0xA0,
    "thread_off_td_pcb": 0x438,
    "thread_off_td_oncpu": 0x6BC,
}

FULL = Real(
    name="vmcore-amd64-full",
    kernel="kernel-amd64.elf",
    architecture="amd64",
    layer="FreeBSDIntel32e",
    layer_architecture="Intel64",
    pointer_size=8,
    symbols={
        "hz": Symbol(AMD64_VARIABLES["hz"], 0x1C70C0C, 4, 100),
        "dumptid": Symbol(AMD64_VARIABLES["dumptid"], 0x1C429A8, 4, 100659),
        "allproc": Symbol(AMD64_VARIABLES["allproc"], 0x1C362F0, 8, 0xFFFFF800_02F13528),
        "pcb_size": Symbol(AMD64_VARIABLES["pcb_size"], 0x1566590, 4, 0x140),
        "proc_off_p_pid": Symbol(AMD64_VARIABLES["proc_off_p_pid"], 0x1566620, 4, 0xC4),
        "proc_off_p_comm": Symbol(AMD64_VARIABLES["proc_off_p_comm"], 0x1566624, 4, 0x3D8),
        "KPML4phys": Symbol(0xFFFFFFFF_81D47EB8, 0x1CE3EB8, 8, 0x27BE000),
    },
    exported_offsets=AMD64_OFFSETS,
    processes=[Process(806, "sysctl", 100659), Process(11, "idle", 100003)],
    pages_dumped=159 + 32475,  # the two segments
    pages_beyond_end=1619,
    file_size=0x7928800,
    last_byte=0x798C7FF,
)
AMD64 = Real(
    name="vmcore-amd64-minidump",
    kernel="kernel-amd64.elf",
    architecture="amd64",
    layer="FreeBSDIntel32e",
    layer_architecture="Intel64",
    pointer_size=8,
    symbols={
        "hz": Symbol(AMD64_VARIABLES["hz"], 0x2433C0C, 4, 100),
        "dumptid": Symbol(AMD64_VARIABLES["dumptid"], 0x24059A8, 4, 100670),
        "allproc": Symbol(AMD64_VARIABLES["allproc"], 0x23F92F0, 8, 0xFFFFF800_02C3B528),
        "pcb_size": Symbol(AMD64_VARIABLES["pcb_size"], 0x1D29590, 4, 0x140),
        "proc_off_p_pid": Symbol(AMD64_VARIABLES["proc_off_p_pid"], 0x1D29620, 4, 0xC4),
        "proc_off_p_comm": Symbol(AMD64_VARIABLES["proc_off_p_comm"], 0x1D29624, 4, 0x3D8),
        "KPML4phys": Symbol(0xFFFFFFFF_81D47EB8, 0x24A6EB8, 8, 0),  # a hole of the recording
    },
    exported_offsets=AMD64_OFFSETS,
    processes=[Process(800, "sysctl", 100670), Process(28, "pagedaemon", 100210), Process(11, "idle", 100003)],
    pages_dumped=24144,
    pages_beyond_end=1393,
    file_size=0x60F9800,
    last_byte=0x798C7FF,
)
ARM64 = Real(
    name="vmcore-arm64-minidump",
    kernel="kernel-arm64.elf",
    architecture="arm64",
    layer="FreeBSDAArch64",
    layer_architecture="AArch64",
    pointer_size=8,
    symbols={
        "hz": Symbol(0xFFFF0000_00E2651C, 0x289551C, 4, 1000),
        "dumptid": Symbol(0xFFFF0000_00DF3CF0, 0x2862CF0, 4, 100137),
        "allproc": Symbol(0xFFFF0000_00DE7230, 0x2856230, 8, 0xFFFFA000_09F0F000),
        "pcb_size": Symbol(0xFFFF0000_0096BC0C, 0x23DAC0C, 4, 0x560),
        "proc_off_p_pid": Symbol(0xFFFF0000_0096BC2C, 0x23DAC2C, 4, 0xC4),
        "proc_off_p_comm": Symbol(0xFFFF0000_0096BC30, 0x23DAC30, 4, 0x3D8),
    },
    exported_offsets={**AMD64_OFFSETS, "thread_off_td_oncpu": 0x524},
    processes=[Process(939, "sysctl", 100137), Process(21, "syncer", 100081), Process(11, "idle", 100003)],
    pages_dumped=19296,
    pages_beyond_end=2323,
    file_size=0x4917C00,
    last_byte=0x4C397BFF,
)
I386 = Real(
    name="vmcore-i386-minidump",
    kernel="kernel-i386.elf",
    architecture="i386",
    layer="FreeBSDIntelPAE",
    layer_architecture="Intel32",
    pointer_size=4,
    symbols={
        "hz": Symbol(0x1D4053C, 0x168D53C, 4, 100),
        "dumptid": Symbol(0x1D2DA60, 0x167AA60, 4, 100673),
        "allproc": Symbol(0x1D21540, 0x166E540, 4, 0x1641E000),
        "pcb_size": Symbol(0x1809A74, 0x1156A74, 4, 0xC0),
        "proc_off_p_pid": Symbol(0x1809AB8, 0x1156AB8, 4, 0x78),
        "proc_off_p_comm": Symbol(0x1809ABC, 0x1156ABC, 4, 0x280),
    },
    exported_offsets={
        "proc_off_p_threads": 8,
        "thread_off_td_tid": 0x50,
        "thread_off_td_pcb": 0x2C0,
        "thread_off_td_oncpu": 0x34C,
    },
    processes=[Process(806, "sysctl", 100673), Process(11, "idle", 100003)],
    pages_dumped=18928,
    pages_beyond_end=912,
    file_size=0x4767E00,
    last_byte=0x7C25DFF,
)
DUMPS = [FULL, AMD64, ARM64, I386]
MINIDUMPS = [AMD64, ARM64, I386]

HEADERS = {
    "vmcore-amd64-minidump": {
        "version": 3,
        "msgbufsize": 0x17FB8,
        "bitmapsize": 0x1000,
        "pmapsize": 0x7FF000,
        "kernbase": 0xFFFFFE00_00000000,
        "dmapbase": 0xFFFFF800_00000000,
        "dmapend": 0xFFFFFC00_00000000,
        "dumpavailsize": 0x1000,
        "dump_avail_off": 0x19000,
        "bitmap_off": 0x1A000,
        "pmap_off": 0x1B000,
        "pages_off": 0x81A000,
        "page_size": 4096,
    },
    "vmcore-arm64-minidump": {
        "version": 2,
        "msgbufsize": 0x17FB8,
        "bitmapsize": 0x2000,
        "pmapsize": 0x6AE000,
        "kernbase": 0xFFFF0000_00000000,
        "dmapphys": 0x40000000,
        "dmapbase": 0xFFFFA000_00000000,
        "dmapend": 0xFFFFFF00_00000000,
        "dumpavailsize": 0x1000,
        "dump_avail_off": 0x19000,
        "bitmap_off": 0x1A000,
        "pmap_off": 0x1C000,
        "pages_off": 0x6CA000,
        "page_size": 4096,
    },
    "vmcore-i386-minidump": {
        "version": 2,
        "msgbufsize": 0x17FC8,
        "bitmapsize": 0x1000,
        "pmapsize": 0xEC000,
        "kernbase": 0x800000,
        "paemode": 1,
        "dumpavailsize": 0x1000,
        "dump_avail_off": 0x19000,
        "bitmap_off": 0x1A000,
        "pmap_off": 0x1B000,
        "pages_off": 0x107000,
        "page_size": 4096,
    },
}
DUMP_AVAIL = {
    "vmcore-amd64-minidump": [(0, 0x9F000), (0x104000, 0x7FDF000)],
    "vmcore-i386-minidump": [(0, 0x9F000), (0x100000, 0x7FDF000)],
    "vmcore-arm64-minidump": [
        (0x40000000, 0x4BCA0000),
        (0x4BD00000, 0x4BDC0000),
        (0x4BE40000, 0x4BFB0000),
        (0x4C000000, 0x4C020000),
        (0x4C040000, 0x4C0F0000),
        (0x4C1E0000, 0x4F4C0000),
        (0x4F550000, 0x50000000),
    ],
}
BITS_DEFINED = {"vmcore-amd64-minidump": 32634, "vmcore-arm64-minidump": 64816, "vmcore-i386-minidump": 32638}

ReadMemory = Callable[[int, int], bytes]


@pytest.fixture(scope="module")
def stacks(real_file: RealFile) -> Callable[..., Stack]:
    """The layers of a dump by its name, made once."""
    return functools.cache(lambda name, kernel=None: stack(real_file(name), kernel=kernel))


@pytest.fixture(params=DUMPS, ids=lambda real: real.name)
def real(request: pytest.FixtureRequest) -> Real:
    return request.param


@pytest.fixture(params=MINIDUMPS, ids=lambda real: real.name)
def minidump(request: pytest.FixtureRequest) -> Real:
    return request.param


def opened(real: Real, real_file: RealFile) -> kvm.Dump:
    """The dump with the symbols of its kernel."""
    symbols = image.symbol_values(real_file(real.kernel), ["KPML4phys", "kernbase"])
    return kvm.open(real_file(real.name), symbols=symbols)


@pytest.fixture(params=["kvm", "layer"])
def read(request: pytest.FixtureRequest, real: Real, real_file: RealFile, stacks: Callable[..., Stack]) -> ReadMemory:
    """Reads kernel memory: with `kvm` alone, or through the framework."""
    if request.param == "kvm":
        return opened(real, real_file).read
    return stacks(real.name).kernel.read


# --- headers --------------------------------------------------------------------------------------------------------


def test_headers(minidump: Real, real_file: RealFile):
    header = kvm.open(real_file(minidump.name)).header
    expected = HEADERS[minidump.name]
    assert {name: getattr(header, name) for name in expected} == expected
    assert (header.architecture, header.byteorder, header.word_bits) == (
        minidump.architecture,
        "little",
        8 * minidump.pointer_size,
    )


def test_dump_avail(minidump: Real, real_file: RealFile):
    dump = kvm.open(real_file(minidump.name))
    assert list(dump.physical.bitmap.avail.ranges) == DUMP_AVAIL[minidump.name]
    assert sum(end - start for start, end in DUMP_AVAIL[minidump.name]) // 4096 == BITS_DEFINED[minidump.name]


def test_completeness(real: Real, real_file: RealFile):
    dump = kvm.open(real_file(real.name))
    assert dump.reader.size == real.file_size
    assert (dump.pages_dumped, dump.pages_beyond_end) == (real.pages_dumped, real.pages_beyond_end)
    assert dump.warnings == [
        f"the file is cut off: {real.pages_beyond_end} of {real.pages_dumped} pages lie wholly or partly beyond its end"
    ]


def test_the_whole_bitmap_counts_the_pages(minidump: Real, real_file: RealFile):
    header = HEADERS[minidump.name]
    with real_file(minidump.name).open("rb") as file:
        file.seek(header["bitmap_off"])
        bitmap = int.from_bytes(file.read(header["bitmapsize"]), "little")
    assert bitmap.bit_count() == minidump.pages_dumped
    dump = kvm.open(real_file(minidump.name))
    promised = [run.pa + at for run in dump.physical.promised_runs() for at in range(0, run.length, 4096)]
    available = [page for start, end in DUMP_AVAIL[minidump.name] for page in range(start, end, 4096)]
    assert promised == [page for bit, page in enumerate(available) if bitmap >> bit & 1]
    for number, pa in enumerate(promised):
        assert dump.physical.locate(pa) == header["pages_off"] + number * 4096


def test_full_dump_segments(real_file: RealFile):
    core = kvm.open(real_file(FULL.name)).core
    assert core is not None
    segments = [(part.p_paddr, part.p_offset, part.p_filesz, part.p_memsz) for part in core.segments]
    assert segments == [
        (0, 0x1000, 0x9F000, 0x9F000),
        (0x104000, 0xA0000, 0x7FDF000 - 0x104000, 0x7FDF000 - 0x104000),
    ]


def test_the_message_buffer_is_a_hole_of_the_recording(minidump: Real, real_file: RealFile):
    dump = kvm.open(real_file(minidump.name))
    assert isinstance(dump, kvm.Minidump)
    assert dump.message_buffer == bytes(HEADERS[minidump.name]["msgbufsize"])


# --- symbols --------------------------------------------------------------------------------------------------------


def test_symbols_hold_what_lldb_expects(real: Real, read: ReadMemory):
    found = {name: int.from_bytes(read(symbol.va, symbol.size), "little") for name, symbol in real.symbols.items()}
    assert found == {name: symbol.value for name, symbol in real.symbols.items()}


def test_exported_offsets(real: Real, read: ReadMemory, real_file: RealFile):
    addresses = image.symbol_values(real_file(real.kernel), real.exported_offsets)
    found = {name: int.from_bytes(read(va, 4), "little") for name, va in addresses.items()}
    assert found == real.exported_offsets


def test_symbol_values_of_the_kernel_files(real: Real, real_file: RealFile):
    expected = {name: symbol.va for name, symbol in real.symbols.items()}
    assert image.symbol_values(real_file(real.kernel), expected) == expected


def test_file_offsets_of_symbols(real: Real, real_file: RealFile):
    dump = opened(real, real_file)
    found = {name: dump.offset_of(dump.kvatop(symbol.va)) for name, symbol in real.symbols.items()}
    assert found == {name: symbol.offset for name, symbol in real.symbols.items()}
    for symbol in real.symbols.values():
        assert dump.pa_of(symbol.offset) == dump.kvatop(symbol.va)


def test_file_offsets_of_symbols_through_the_layers(real: Real, stacks: Callable[..., Stack]):
    made = stacks(real.name)
    for name, symbol in real.symbols.items():
        ((va, length, pa, _, memory),) = made.kernel.mapping(symbol.va, symbol.size)
        assert (va, length, memory) == (symbol.va, symbol.size, made.memory.name), name
        assert made.memory.translate(pa) == (symbol.offset, made.layers[0].name), name
        assert made.layers[0].read(symbol.offset, symbol.size) == made.kernel.read(symbol.va, symbol.size), name


def test_a_symbol_whose_page_map_entry_was_not_recorded(real_file: RealFile, stacks: Callable[..., Stack]):
    idle_pdpt = image.symbol_values(real_file(I386.kernel), ["IdlePDPT"])["IdlePDPT"]
    assert idle_pdpt == 0x1D8B044
    with pytest.raises(kvm.NotMappedError) as unmapped:
        kvm.open(real_file(I386.name)).read(idle_pdpt, 4)
    assert unmapped.value.address == idle_pdpt
    with pytest.raises(exceptions.PagedInvalidAddressException) as fault:
        stacks(I386.name).kernel.read(idle_pdpt, 4)
    assert fault.value.invalid_address == idle_pdpt


# --- physical memory ------------------------------------------------------------------------------------------------


def test_arm64_pages_in_a_gap_are_absent(real_file: RealFile, stacks: Callable[..., Stack]):
    """libkvm returns the page at 0x4bc50000 for the first one: it lies between two ranges of dump_avail."""
    dump = kvm.open(real_file(ARM64.name))
    memory = stacks(ARM64.name).memory
    for pa in (0x4BCB0000, 0x4BCCF000):
        with pytest.raises(kvm.NotDumpedError):
            dump.read_physical(pa, 1)
        assert not memory.is_valid(pa)
        assert memory.read(pa, 16, pad=True) == bytes(16)
        assert list(memory.mapping(pa, 4096, ignore_errors=True)) == []
        with pytest.raises(exceptions.InvalidAddressException):
            memory.translate(pa)
    assert dump.physical.locate(0x4BC50000) > dump.header.pages_off  # the page that libkvm would show


def test_pages_beyond_the_end_are_told_from_pages_never_dumped(real: Real, real_file: RealFile):
    dump = kvm.open(real_file(real.name))
    last = list(dump.physical.promised_runs())[-1]
    with pytest.raises(kvm.BeyondEndError):
        dump.read_physical(last.pa + last.length - 1, 1)
    with pytest.raises(kvm.NotDumpedError):
        dump.read_physical(last.pa + last.length, 1)
    assert len(dump.read_physical(real.last_byte, 1)) == 1
    with pytest.raises(kvm.BeyondEndError) as beyond:
        dump.read_physical(real.last_byte, 2)
    assert beyond.value.address == real.last_byte + 1


def test_the_physical_layer_is_the_file_run_by_run(real: Real, real_file: RealFile, stacks: Callable[..., Stack]):
    """Every byte of the page area that the file holds is found once, in order."""
    made = stacks(real.name)
    memory = made.memory
    assert memory.maximum_address == real.last_byte
    start = HEADERS.get(real.name, {"pages_off": 0x1000})["pages_off"]
    total = position = 0
    for pa, length, offset, mapped_length, _ in memory.mapping(0, real.last_byte + 1, ignore_errors=True):
        assert (length, offset) == (mapped_length, start + total)
        assert pa >= position
        position, total = pa + length, total + length
    assert start + total == real.file_size
    assert position == real.last_byte + 1


def test_layers(real: Real, stacks: Callable[..., Stack]):
    made = stacks(real.name)
    physical = "FreeBSDElfLayer" if real is FULL else "FreeBSDMinidumpLayer"
    assert made.classes == ["FileLayer", physical, real.layer]
    assert made.kernel.metadata["architecture"] == real.layer_architecture
    assert {layer.metadata["os"] for layer in made.layers[1:]} == {"FreeBSD"}
    assert isinstance(made.kernel, intel.Intel) == (real.architecture in ("amd64", "i386"))


# --- processes ------------------------------------------------------------------------------------------------------


def processes(real: Real, read: ReadMemory, kernel: Path) -> Iterator[Process]:
    """Walk allproc with nothing but the offsets that the kernel exports for debuggers."""
    names = ["proc_off_p_pid", "proc_off_p_comm", "proc_off_p_list", "proc_off_p_threads", "thread_off_td_tid"]
    addresses = image.symbol_values(kernel, names)

    def number(va: int, size: int) -> int:
        return int.from_bytes(read(va, size), "little")

    p_pid, p_comm, p_list, p_threads, td_tid = (number(addresses[name], 4) for name in names)
    proc = number(real.symbols["allproc"].va, real.pointer_size)
    while proc:
        thread = number(proc + p_threads, real.pointer_size)
        comm = read(proc + p_comm, 20).partition(b"\0")[0].decode("ascii")
        yield Process(number(proc + p_pid, 4), comm, number(thread + td_tid, 4))
        proc = number(proc + p_list, real.pointer_size)


def test_processes(real: Real, read: ReadMemory, real_file: RealFile):
    found = list(itertools.islice(processes(real, read, real_file(real.kernel)), 10))
    assert found == real.processes
    assert found[0].tid == real.symbols["dumptid"].value


# --- the full dump, with and without symbols ------------------------------------------------------------------------


def test_full_dump_by_symbols_and_by_self_map_are_the_same(real_file: RealFile):
    by_symbols = opened(FULL, real_file)
    by_scan = kvm.open(real_file(FULL.name))
    assert by_symbols.page_map.root == by_scan.page_map.root == 0x27BE000
    walked = list(by_symbols.walk())
    assert walked == list(by_scan.walk())
    assert list(by_symbols.pages()) == list(by_scan.pages())
    # The recording holds few tables, but all that LLDB needed.
    assert sum(part.va <= FULL.symbols["hz"].va < part.va + part.length for part in walked) == 1


@pytest.mark.parametrize("with_kernel", [True, False], ids=["kernel file", "self-map"])
def test_full_dump_layers_with_and_without_the_kernel_option(
    with_kernel: bool, real_file: RealFile, stacks: Callable[..., Stack]
):
    made = stacks(FULL.name, real_file(FULL.kernel) if with_kernel else None)
    assert made.classes == ["FileLayer", "FreeBSDElfLayer", "FreeBSDIntel32e"]
    assert made.kernel.config["page_map_offset"] == 0x27BE000
    expected = opened(FULL, real_file)
    high = 0xFFFF_8000_0000_0000
    found = [
        (va, length, pa) for va, length, pa, _, _ in made.kernel.mapping(high, (1 << 64) - high, ignore_errors=True)
    ]
    assert found == [(va, run.length, run.pa) for va, run in expected.kernel.readable(high)]
    assert sum(length for _, length, _ in found) == 14_878_720
    for va, length, pa in found:
        assert made.kernel.read(va, length) == expected.read_physical(pa, length)


def test_a_kernel_of_another_release_is_an_error_of_one_sentence(real_file: RealFile):
    symbols = {"kernbase": 0xFFFFFFFF_80000000, "KPML4phys": FULL.symbols["allproc"].va}
    with pytest.raises(kvm.SymbolError, match=r"^KPML4phys leads to no page table .*belong to this dump\?$"):
        kvm.open(real_file(FULL.name), symbols=symbols).read(FULL.symbols["hz"].va, 4)


def test_a_variable_full_of_zeros_is_no_page_table(real_file: RealFile):
    symbols = {"kernbase": 0xFFFFFFFF_80000000, "KPML4phys": FULL.symbols["KPML4phys"].va + 0x100000}
    with pytest.raises(kvm.SymbolError, match="belong to this dump"):
        kvm.open(real_file(FULL.name), symbols=symbols).read(FULL.symbols["hz"].va, 4)
