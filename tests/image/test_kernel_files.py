"""Kernels and modules as files: what they say of themselves, and what damaged ones say."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import RealFile
from tests.minikernel import ToolchainUnavailable, build_module
from tests.minikernel.kernels import kernel_file
from tests.minikernel.strip import strip_debug
from tests.scenario.kernels import ARCHITECTURES
from tests.writers.elfcore import ET_CORE, ET_DYN, elf_kernel
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.kernel import Identity, KernelFile

from . import elf_files

RELEASES = {
    "14": ("FreeBSD 14.3-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    root@mini:/usr/obj/usr/src/sys/MINI\n", 1403000),
    "15": ("FreeBSD 15.0-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    root@mini:/usr/obj/usr/src/sys/MINI\n", 1500068),
}
WORDS = {
    "amd64": (64, "little"),
    "arm64": (64, "little"),
    "riscv": (64, "little"),
    "i386": (32, "little"),
    "arm": (32, "little"),
    "powerpc64": (64, "big"),
}
KERNELS = [f"{release}-{arch}" for release in RELEASES for arch in ARCHITECTURES]


def opened(data: bytes, name: str = "kernel") -> KernelFile:
    return KernelFile(io.BytesIO(data), name)


def module_file(release: str, arch: str) -> Path:
    try:
        return build_module(release, {"riscv": "riscv64"}.get(arch, arch))
    except ToolchainUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> tuple[str, str, bytes]:
    release, arch = request.param.split("-")
    return release, arch, kernel_file(release, arch).read_bytes()


@pytest.fixture(params=ARCHITECTURES)
def module(request: pytest.FixtureRequest) -> tuple[str, KernelFile]:
    return request.param, opened(module_file("15", request.param).read_bytes(), "mini.ko")


@pytest.fixture(scope="module")
def amd64() -> bytes:
    return strip_debug(kernel_file("14", "amd64").read_bytes())


def symbols_by_the_library(data: bytes) -> dict[str, tuple[int, int]]:
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return {
        symbol.name: (symbol["st_value"], symbol["st_size"])
        for symbol in table.iter_symbols()
        if symbol.name and symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_COMMON")
        if symbol["st_info"]["type"] not in ("STT_FILE", "STT_SECTION")
    }


# Whole files


def test_a_kernel_tells_what_it_is(kernel: tuple[str, str, bytes]) -> None:
    release, arch, data = kernel
    file = opened(data)
    assert (file.architecture, file.word_bits, file.byteorder) == (arch, *WORDS[arch])
    assert (file.elf_type, file.is_kernel) == ("EXEC", True)
    assert (file.has_symbols, file.has_dwarf, file.has_ctf, file.debuglink) == (True, True, False, None)
    notes = ELFFile(io.BytesIO(data)).get_section_by_name(".note.gnu.build-id")
    assert isinstance(notes, NoteSection)
    build_id = next(notes.iter_notes())["n_desc"]
    assert len(build_id) == 40
    version, osreldate = RELEASES[release]
    assert file.identity == Identity(version, osreldate, "MINI", build_id)


def test_symbols_are_those_that_the_library_reads(kernel: tuple[str, str, bytes]) -> None:
    _, _, data = kernel
    expected = symbols_by_the_library(data)
    file = opened(data)
    assert {symbol.name: (symbol.value, symbol.size) for symbol in file.symbols} == expected
    assert file.symbol_values(list(expected)) == {name: value for name, (value, _) in expected.items()}


def test_linker_sets_with_and_without_symbols(kernel: tuple[str, str, bytes]) -> None:
    """A stripped kernel has them as sections; only sets that nothing in the kernel walks have no symbols."""
    _, _, data = kernel
    symbols = symbols_by_the_library(data)
    sets = opened(data).linker_sets
    for name in ("sysctl_set", "sysinit_set", "sysuninit_set", "vnet", "pcpu"):
        assert sets[name] == (symbols[f"__start_set_{name}"][0], symbols[f"__stop_set_{name}"][0]), name
    start, stop = sets["vnet"]
    assert start < symbols["vnet_entry_ipforwarding"][0] < stop
    bare = opened(elf_files.without_symbols(data)).linker_sets
    sections = {section.name: section for section in opened(data).sections}
    assert bare["sysctl_set"] == sets["sysctl_set"]
    assert bare["vnet"] == (start, start + sections["set_vnet"].size)


def test_initial_values_are_read_at_their_linked_addresses(kernel: tuple[str, str, bytes]) -> None:
    release, _, data = kernel
    file = opened(data)
    symbol = file.symbols.get("osreldate")
    assert symbol is not None
    assert file.read(symbol.value, 4) == RELEASES[release][1].to_bytes(4, file.byteorder)
    assert file.read_symbol(symbol) == file.read(symbol.value, 4)
    ostype = file.symbols.value("ostype")
    assert ostype is not None
    assert file.read(ostype, 8) == b"FreeBSD\0"


def test_only_initialised_data_is_read(amd64: bytes) -> None:
    file = opened(amd64)
    data = file.section(".data")
    bss = file.section(".bss")
    assert data is not None
    assert bss is not None
    end = data.address + data.size
    assert file.content(data)[-8:] == file.read(end - 8, 8)
    assert file.content(bss) == b""
    assert file.read(end - 8, 9) is None
    assert file.read(end, 1) is None
    assert file.read(bss.address, 1) is None
    assert file.read(0, 1) is None
    assert file.read(file.sections[1].address - 1, 1) is None
    assert file.read(1 << 64, 1) is None
    assert file.read(data.address, -1) is None
    assert file.read(data.address, 0) == b""


def test_modules(module: tuple[str, KernelFile]) -> None:
    """Linked as shared objects except on amd64, where symbols count from the start of their sections."""
    arch, file = module
    assert file.elf_type == ("REL" if arch == "amd64" else "DYN")
    assert (file.architecture, file.is_kernel, file.has_dwarf) == (arch, False, True)
    assert file.identity == Identity("", None, "", None)
    assert {"vnet", "pcpu", "sysctl_set", "modmetadata_set"} <= file.linker_sets.keys()
    assert file.linker_sets["vnet"][1] - file.linker_sets["vnet"][0] == 16
    number = {
        name: int.from_bytes(variable(file, name), file.byteorder)
        for name in ("mini_debug", "vnet_entry_mini_connections", "pcpu_entry_mini_hits", "vnet_entry_mini_private")
    }
    assert number == {
        "mini_debug": 1,
        "vnet_entry_mini_connections": 7,
        "pcpu_entry_mini_hits": 11,
        "vnet_entry_mini_private": 0x0123456789ABCDEF,
    }
    assert variable(file, "mini_banner") == b"mini module\0"


def variable(file: KernelFile, name: str) -> bytes:
    symbol = file.symbols.get(name)
    assert symbol is not None
    value = file.read_symbol(symbol)
    assert value is not None
    return value


def test_symbols_of_an_unlinked_file_count_from_their_section() -> None:
    """Files that something else has placed have addresses in their section headers, which are added."""
    data = module_file("15", "amd64").read_bytes()
    before = opened(data)
    index = next(section.index for section in before.sections if section.name == ".data")
    moved = opened(elf_files.put_section(data, ".data", sh_addr=0x10000))
    for symbol in before.symbols:
        after = moved.symbols.get(symbol.name)
        assert after is not None
        assert after.value - symbol.value == (0x10000 if symbol.section == index else 0), symbol
    assert moved.symbol_values(["mini_debug"]) == {"mini_debug": moved.symbols.value("mini_debug")}
    assert variable(moved, "mini_debug") == variable(before, "mini_debug")
    assert moved.read(0x10000, 4) is None


def test_a_file_with_debug_information_only_has_no_data(amd64: bytes) -> None:
    """Its program headers still claim some."""
    full = kernel_file("14", "amd64").read_bytes()
    file = opened(elf_files.only_keep_debug(full))
    whole = opened(full)
    assert (file.has_dwarf, file.has_symbols, file.is_kernel) == (True, True, True)
    assert file.build_id == whole.build_id == opened(amd64).build_id
    assert file.identity == Identity("", None, "", whole.build_id)
    address = whole.symbols.value("version")
    assert address is not None
    assert file.read(address, 7) is None
    assert whole.read(address, 7) == b"FreeBSD"


def test_without_section_headers_the_segments_count(amd64: bytes) -> None:
    file = opened(elf_files.put_header(amd64, e_shoff=0, e_shnum=0, e_shstrndx=0))
    whole = opened(amd64)
    address = whole.symbols.value("version")
    assert address is not None
    assert (file.sections, file.has_symbols, file.linker_sets) == ([], False, {})
    assert file.read(address, 12) == b"FreeBSD 14.3"
    assert file.build_id == whole.build_id


def test_section_counts_that_do_not_fit_the_header_are_in_section_0(amd64: bytes) -> None:
    whole = opened(amd64)
    elf = ELFFile(io.BytesIO(amd64))
    data = elf_files.put_section(amd64, 0, sh_size=elf["e_shnum"], sh_link=elf["e_shstrndx"])
    file = opened(elf_files.put_header(data, e_shnum=0, e_shstrndx=0xFFFF))
    assert [section.name for section in file.sections] == [section.name for section in whole.sections]
    assert file.identity == whole.identity


def test_segment_counts_that_do_not_fit_the_header_are_in_section_0(amd64: bytes) -> None:
    elf = ELFFile(io.BytesIO(amd64))
    data = elf_files.put_section(amd64, 0, sh_info=elf["e_phnum"])
    assert opened(elf_files.put_header(data, e_phnum=0xFFFF)).segments == opened(amd64).segments
    assert [segment.type for segment in opened(amd64).segments] == ["LOAD", "LOAD", "LOAD", "NOTE"]


@pytest.mark.parametrize("name", ["kernel.debug", "k", "ker", "kern", "mini.ko.debug"])
@pytest.mark.parametrize("arch", ["amd64", "powerpc64", "arm"])
def test_debuglink(arch: str, name: str) -> None:
    data = elf_files.add_debuglink(strip_debug(kernel_file("14", arch).read_bytes()), name.encode(), 0x12345678)
    assert opened(data).debuglink == (name, 0x12345678)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"../../etc/passwd\0\0\0\0\x01\x02\x03\x04", ("passwd", 0x04030201)),
        (b"kernel.debug", None),
        (b"kernel.debug\0\0\0\0\x01\x02\x03", None),
        (b"\0\0\0\0\x01\x02\x03\x04", None),
        (b"/\0\0\0\x01\x02\x03\x04", None),
        (b"", None),
    ],
)
def test_strange_debuglinks(amd64: bytes, content: bytes, expected: tuple[str, int] | None) -> None:
    assert opened(elf_files.add_section(amd64, ".gnu_debuglink", content)).debuglink == expected


def test_ctf_counts_where_it_has_content(amd64: bytes) -> None:
    assert opened(elf_files.add_section(amd64, ".SUNW_ctf", b"\xf1\xcf\x03\x00")).has_ctf
    assert not opened(elf_files.add_section(amd64, ".SUNW_ctf", b"")).has_ctf
    beyond = elf_files.put_section(elf_files.add_section(amd64, ".SUNW_ctf", b"abcd"), ".SUNW_ctf", sh_size=1 << 40)
    assert not opened(beyond).has_ctf


def note(order: str, name: bytes, kind: int, description: bytes) -> bytes:
    padded = [text + bytes(-len(text) % 4) for text in (name, description)]
    return struct.pack(order + "III", len(name), len(description), kind) + padded[0] + padded[1]


@pytest.mark.parametrize("arch", ["amd64", "powerpc64"])
def test_the_build_id_is_found_among_other_notes(arch: str) -> None:
    order = {"amd64": "<", "powerpc64": ">"}[arch]
    notes = (
        note(order, b"FreeBSD\0", 3, b"other")
        + note(order, b"GNU\0", 1, b"abi")
        + note(order, b"GNU\0", 3, b"\x01\xfe")
    )
    empty = elf_kernel({"allproc": 1}, arch)
    assert opened(elf_files.add_section(empty, ".notes", notes, sh_type="SHT_NOTE")).build_id == "01fe"
    cut = notes[:-8] + struct.pack(order + "I", 3) + b"\xff" * 4
    assert opened(elf_files.add_section(empty, ".notes", cut[:-4], sh_type="SHT_NOTE")).build_id is None
    assert opened(empty).build_id is None


# Kernels reduced to their symbols


def test_a_kernel_of_symbols_only_has_no_identity() -> None:
    data = elf_kernel({"allproc": 0xFFFFFFFF81C9A2F0, "version": 0xFFFFFFFF81C9A300}, "amd64")
    file = opened(put_bss(data))
    assert file.is_kernel
    assert file.identity == Identity("", None, "", None)
    assert file.linker_sets == {}


def put_bss(data: bytes) -> bytes:
    """What elf_kernel calls .data has no content of its own."""
    return elf_files.put_section(data, ".data", sh_type="SHT_NOBITS")


@pytest.mark.parametrize(
    ("symbols", "elf_type", "expected"),
    [
        ({"allproc": 1}, 2, True),
        ({"kernbase": 1}, ET_DYN, True),
        ({"KPML4phys": 1}, 2, True),
        ({"allproc": 1}, 1, False),
        ({"allproc": 1}, ET_CORE, False),
        ({"main": 1, "version": 2}, 2, False),
        ({}, 2, False),
    ],
)
def test_what_counts_as_a_kernel(symbols: dict[str, int], elf_type: int, expected: bool) -> None:
    assert opened(elf_kernel(symbols, "amd64", elf_type=elf_type)).is_kernel is expected


@pytest.mark.parametrize("name", ["amd64", "arm64", "i386"])
def test_reduced_kernels_of_real_dumps(real_file: RealFile, name: str) -> None:
    with real_file(f"kernel-{name}.elf").open("rb") as stream:
        file = KernelFile(stream, name)
        assert (file.architecture, file.is_kernel, file.has_dwarf, file.has_ctf) == (name, True, False, False)
        assert file.identity == Identity("", None, "", None)
        assert {"allproc", "dumptid", "kernbase", "hz"} <= set(file.symbols.names())
        address = file.symbols.value("allproc")
        assert address is not None
        assert file.read(address, 8) is None


# Damage


def test_a_stripped_kernel_has_everything_but_symbols(amd64: bytes) -> None:
    file = opened(elf_files.without_symbols(amd64))
    assert (file.has_symbols, file.is_kernel) == (False, False)
    assert file.identity == Identity("", None, "", opened(amd64).build_id)
    for use in (lambda: file.symbols, lambda: file.symbol_values(["allproc"])):
        with pytest.raises(FormatError, match=r"^kernel has no symbol table \(stripped\)$"):
            use()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "kernel is an empty file"),
        (b"#!/bin/sh\n", "kernel is no ELF kernel: it does not begin as one"),
        (b"\x7fELF\x02\x01\x01", "kernel is damaged: its ELF header is cut off"),
        (b"\x7fELF\x05" + bytes(100), "kernel is no ELF kernel: Invalid EI_CLASS"),
        (b"\x7fELF\x02\x01\x01" + bytes(47), "kernel is no ELF kernel: expected"),
    ],
)
def test_other_files(data: bytes, message: str) -> None:
    with pytest.raises(FormatError) as error:
        opened(data)
    assert str(error.value).startswith(message)


def test_a_cut_off_kernel_is_told_as_such(amd64: bytes) -> None:
    elf = ELFFile(io.BytesIO(amd64))
    message = f"{elf['e_shnum']} section headers at {elf['e_shoff']:#x}, behind its end \\(cut off\\?\\)$"
    with pytest.raises(FormatError, match=message):
        opened(amd64[:-1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"e_shentsize": 0}, "section headers of 0 bytes, 64 expected"),
        ({"e_shentsize": 40}, "section headers of 40 bytes, 64 expected"),
        ({"e_shoff": (1 << 64) - 64}, "behind its end"),
        ({"e_shoff": 1 << 63}, "behind its end"),
        ({"e_shnum": 0xFFFF}, "65535 section headers at"),
    ],
)
def test_damaged_headers(amd64: bytes, fields: dict[str, int], message: str) -> None:
    with pytest.raises(FormatError, match=f"^kernel is damaged: .*{message}"):
        opened(elf_files.put_header(amd64, **fields))


def test_a_section_count_beyond_the_file_is_refused(amd64: bytes) -> None:
    data = elf_files.put_header(elf_files.put_section(amd64, 0, sh_size=(1 << 64) - 1), e_shnum=0)
    with pytest.raises(FormatError, match="18446744073709551615 section headers"):
        opened(data)


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        (".symtab", {"sh_size": 1 << 60}, "its symbol table is cut off"),
        (".symtab", {"sh_offset": 1 << 63}, "its symbol table is cut off"),
        (".symtab", {"sh_link": 4000}, "its names in section 4000, which is not there"),
        (".symtab", {"sh_link": 0}, "its names in section 0, which is not there"),
        (".strtab", {"sh_size": 0}, "its symbol table is cut off"),
        (".strtab", {"sh_offset": (1 << 64) - 1}, "its symbol table is cut off"),
    ],
)
def test_damaged_symbol_tables(amd64: bytes, section: str, fields: dict[str, int], message: str) -> None:
    file = opened(elf_files.put_section(amd64, section, **fields))
    with pytest.raises(FormatError, match=message):
        len(file.symbols)
    with pytest.raises(FormatError, match=message):
        file.symbol_values(["allproc"])


def test_section_content_beyond_the_file(amd64: bytes) -> None:
    file = opened(elf_files.put_section(amd64, ".data", sh_offset=len(amd64) + 10))
    section = file.section(".data")
    assert section is not None
    with pytest.raises(FormatError, match=r"its section \.data is cut off"):
        file.content(section)
    assert file.read(section.address, 4) is None


def test_sections_without_a_name_table(amd64: bytes) -> None:
    file = opened(elf_files.put_header(amd64, e_shstrndx=0))
    assert {section.name for section in file.sections} == {""}
    assert file.identity == opened(amd64).identity


def complaint(use: Callable[[], object]) -> str:
    try:
        use()
    except FormatError as error:
        return str(error)
    return ""


def use_everything(data: bytes) -> None:
    """Each part works or says in one sentence why not."""
    refused = complaint(lambda: opened(data))
    assert "\n" not in refused
    if refused:
        return
    file = opened(data)
    assert isinstance(file.has_dwarf, bool)
    assert isinstance(file.debuglink, tuple | None)
    for section in file.sections:
        file.read(section.address, 16)
        file.read(0, 16, section.index)
    for use in (
        lambda: file.segments,
        lambda: file.linker_sets,
        lambda: file.identity,
        lambda: file.is_kernel,
        lambda: [file.read_symbol(symbol) for symbol in file.symbols],
        lambda: [file.content(section) for section in file.sections],
    ):
        assert "\n" not in complaint(use)


@pytest.fixture(scope="module", params=["amd64", "powerpc64", "i386"])
def small(request: pytest.FixtureRequest) -> bytes:
    """A small file with every kind of table."""
    return strip_debug(module_file("14", request.param).read_bytes())


EDGES = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 4000), st.sampled_from([1, 2, 4, 8]), st.sampled_from(EDGES)),
        min_size=1,
        max_size=6,
    )
)
def test_damaged_files_end_in_one_sentence(small: bytes, changes: list[tuple[bool, int, int, int]]) -> None:
    data = bytearray(small)
    start = ELFFile(io.BytesIO(small))["e_shoff"]
    for in_header, place, width, value in changes:
        at = place % 64 if in_header else start + place % (len(data) - start)
        at -= at % width
        data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    use_everything(bytes(data))


def test_truncated_files_end_in_one_sentence(small: bytes) -> None:
    for length in [*range(80), *range(80, len(small), 997)]:
        use_everything(small[:length])
