"""The kernel linker's files and their symbols: of the scenario's kernels, and of lists and files that lie."""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scenario.model import LinkerFile as Described
from tests.scenario.system import SYSTEM
from tests.scenario.world import World
from tests.scenario_checks import kernel_reader
from volatility3_freebsd_kvm.exceptions import AddressError, NotMappedError, SymbolError
from volatility3_freebsd_kvm.image.linker import (
    MAX_FILES,
    End,
    LinkerFile,
    linker_files,
    module_symbols,
    read_symbols,
)
from volatility3_freebsd_kvm.image.memory_table import MAX_SYMBOLS, TablePlace
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types

LAYOUTS = Path(__file__).parents[2] / "symbols"
PAGE = 4096
MODULES = [item for item in SYSTEM.linker_files if item.id != 1]

# The scenario's kernels


def without_elf_files(types: Types) -> Types:
    return replace(types, user_types={k: v for k, v in types.user_types.items() if not k.startswith("elf_file")})


@pytest.fixture(params=["types", "no elf_file"])
def structs(request: pytest.FixtureRequest, kernel: str) -> Structs:
    """The memory of a minidump, with all types or without the private ones."""
    reader = kernel_reader.minidump(kernel)
    types = reader.types.types if request.param == "types" else without_elf_files(reader.types.types)
    return Structs(reader.dump.read, types, 8 * reader.word, reader.order)


def walk_of(structs: Structs, kernel: str) -> dict[int, LinkerFile]:
    found = linker_files(structs, kernel_reader.scenario(kernel).memory.image.symbols.get)
    assert (found.end, found.problem) == (End.COMPLETE, "")
    return {file.id: file for file in found if file.id is not None}


def test_files_are_those_of_the_scenario(structs: Structs, kernel: str) -> None:
    files = walk_of(structs, kernel)
    world = kernel_reader.scenario(kernel)
    bits = 8 * structs.word_size
    assert list(files) == [item.id for item in SYSTEM.linker_files]
    for order, item in enumerate(SYSTEM.linker_files, 1):
        file = files[item.id]
        objects = world.arch == "amd64" and item.id != 1
        assert file.address == int(world.get("linker_file", item.id))
        assert (file.filename, file.pathname, file.refs) == (item.name, item.path, item.references)
        assert (file.userrefs, file.flags, file.loadcnt) == (int(item.id != 1), 3, order)
        assert file.dependencies == tuple(files[key].address for key in item.dependencies)
        assert file.class_name == f"elf{bits}_obj" if objects else f"elf{bits}"
        assert file.kind == ("elf_obj" if objects else "elf")
        assert file.notes == ()
        if item.id != 1:
            assert file.size == item.size
            assert file.bias == file.base


def expected_symbols(world: World, item: Described, base: int) -> dict[str, tuple[int, int]]:
    """Addresses and sizes; variables of sets are where the kernel's own set has room for them."""
    expected = {symbol.name: (base + symbol.offset, symbol.size) for symbol in item.symbols}
    for short, variables in (("vnet", item.vnet_variables), ("pcpu", item.dpcpu_variables)):
        if (item.id, short) in world.all("module_set"):
            start = int(world.get("module_set", (item.id, short)))
            names = [f"{short}_entry_{name}" for name in variables]
            expected |= {name: (start + 4 * index, 4) for index, name in enumerate(names)}
    return expected


def test_module_symbols_are_at_the_addresses_they_run_at(structs: Structs, kernel: str) -> None:
    files, world = walk_of(structs, kernel), kernel_reader.scenario(kernel)
    for item in MODULES:
        file = files[item.id]
        table, lost = read_symbols(structs, file)
        found = {symbol.name: (symbol.value, symbol.size) for symbol in table}
        assert found == expected_symbols(world, item, file.base)
        assert lost == 0
        for symbol in item.symbols:
            text = symbol.name.encode()[: symbol.size]
            assert structs.read(found[symbol.name][0], len(text)) == text


def test_variables_of_modules_rebase_like_the_kernels_own(structs: Structs, kernel: str) -> None:
    files, world = walk_of(structs, kernel), kernel_reader.scenario(kernel)
    mask = (1 << 8 * structs.word_size) - 1
    vnets = [int(vnet.vnet_data_base) for vnet in world.all("vnet").values()]
    cpus = [int(world.symbol("dpcpu_off")[cpu.cpuid]) for cpu in SYSTEM.cpus]
    checked = 0
    for item in MODULES:
        table = module_symbols(structs, files[item.id])
        for short, variables, bases in (("vnet", item.vnet_variables, vnets), ("pcpu", item.dpcpu_variables, cpus)):
            for name, value in variables.items():
                template = table.value(f"{short}_entry_{name}")
                assert template is not None
                assert [structs.uint((template + base) & mask, 4) for base in bases] == [value] * len(bases)
                checked += 1
    assert checked == 2


def test_sets_and_sections(structs: Structs, kernel: str) -> None:
    files, world = walk_of(structs, kernel), kernel_reader.scenario(kernel)
    file = files[2]
    places = {"dpcpu": int(world.get("module_set", (2, "pcpu"))), "vnet": int(world.get("module_set", (2, "vnet")))}
    assert {name: base for name, (_, _, base) in file.sets.items()} == places
    assert all(stop - start == 4 for start, stop, _ in file.sets.values())
    assert files[4].sets == {}
    if file.kind == "elf":
        assert file.sections == ()
        assert all(file.base <= start < file.base + file.size for start, _, _ in file.sets.values())
    else:
        assert file.sections == (
            (".text", file.base, 0x3000),
            (".data", file.base + 0x3000, 0x3000),
            ("set_pcpu", places["dpcpu"], 4),
            ("set_vnet", places["vnet"], 4),
        )


def test_the_kernels_own_file_has_the_symbols_of_the_kernel(structs: Structs, kernel: str) -> None:
    world = kernel_reader.scenario(kernel)
    # Real kernels that run where they are linked have no bias.
    table = module_symbols(structs, replace(walk_of(structs, kernel)[1], bias=0))
    assert table.value("linker_kernel_file") == world.memory.image.symbols["linker_kernel_file"]
    assert len(table) > 1000


# Lists and files made by hand, in the layouts of FreeBSD 14

HEAD, KERNEL_FILE = 0x1000, 0x1100
CLASSES = 0x2000
FILES, FILE_STEP = 0x10000, 0x1000
BASES, BASE_STEP = 0x400000, 0x10000
TABLES, TABLE_STEP = 0x800000, 0x10000


class Memory:
    """Pages at virtual addresses, some of which may be taken away."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}

    def read(self, address: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            at = address + len(data)
            if at // PAGE not in self.pages:
                raise NotMappedError(at)
            data += self.pages[at // PAGE][at % PAGE : at % PAGE + length - len(data)]
        return bytes(data)

    def write(self, address: int, data: bytes) -> None:
        for at, byte in enumerate(data, address):
            self.pages.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def drop(self, *addresses: int) -> None:
        for address in addresses:
            del self.pages[address // PAGE]


@dataclass
class Given:
    """A file to be put into memory: a name, and symbols as name, value, section."""

    name: str
    symbols: list[tuple[str, int, int]] = field(default_factory=list)
    objects: bool = False
    members: dict[str, int] = field(default_factory=dict)


@lru_cache
def layout(arch: str) -> Types:
    content = json.loads(lzma.decompress((LAYOUTS / f"freebsd-14-{arch}.json.xz").read_bytes()))
    return Types(content["base_types"], content["user_types"], content["enums"])


class Linker:
    """A kernel linker's list."""

    def __init__(self, arch: str, files: list[Given]) -> None:
        types = layout(arch)
        self.word, byteorder = (types.base_types["pointer"][key] for key in ("size", "endian"))
        bits = 8 * self.word
        self.order = ">" if byteorder == "big" else "<"
        self.memory = Memory()
        self.structs = Structs(self.memory.read, types, bits, byteorder)
        self.next_at = self.structs.offset("linker_file", "link.tqe_next")
        for number, name in enumerate((f"elf{bits}", f"elf{bits}_obj")):
            place = CLASSES + 0x1000 * number
            self.set(place, "kobj_ops", cls=place + 0x900)
            self.set(place + 0x900, "kobj_class", name=place + 0x980)
            self.memory.write(place + 0x980, name.encode() + b"\0")
        self.addresses = [FILES + FILE_STEP * number for number in range(len(files))]
        for number, file in enumerate(files):
            self._add(number, file)
        self.chain(self.addresses)
        self.words(KERNEL_FILE, *self.addresses[:1])

    def words(self, address: int, *values: int) -> None:
        modulus = 1 << 8 * self.word
        code = "Q" if self.word == 8 else "I"
        data = struct.pack(f"{self.order}{len(values)}{code}", *(value % modulus for value in values))
        self.memory.write(address, data)

    def set(self, place: int, type_name: str, **members: int) -> None:
        """Set members of a structure; __ stands for a dot."""
        for name, value in members.items():
            offset, reference = self.structs.member(type_name, name.replace("__", "."))
            size = self.structs.size_of(reference)
            data = (value % (1 << 8 * size)).to_bytes(size, self.structs.byteorder)
            self.memory.write(place + offset, data)

    def chain(self, addresses: list[int]) -> None:
        """Link the list."""
        back = HEAD
        for address, following in zip(addresses, [*addresses[1:], 0], strict=False):
            self.set(address, "linker_file", link__tqe_next=following, link__tqe_prev=back)
            back = address + self.next_at
        self.words(HEAD, addresses[0] if addresses else 0, back)

    def _add(self, number: int, file: Given) -> None:
        address, base, table = (
            start + number * step for start, step in ((FILES, FILE_STEP), (BASES, BASE_STEP), (TABLES, TABLE_STEP))
        )
        text = address + 0x800
        self.memory.write(text, file.name.encode() + b"\0")
        ops = CLASSES + 0x1000 * file.objects
        self.set(address, "linker_file", id=number + 1, ops=ops, filename=text, pathname=text, refs=1)
        self.set(address, "linker_file", address=base, size=0x8000)
        names = b"\0" + b"".join(name.encode() + b"\0" for name, _, _ in file.symbols)
        records = self.record(0, 0, 0) + b"".join(
            self.record(names.index(b"\0" + name.encode() + b"\0") + 1, value, section)
            for name, value, section in file.symbols
        )
        self.memory.write(table, records)
        self.memory.write(table + 0x8000, names)
        place = {"ddbsymtab": table, "ddbsymcnt": len(file.symbols) + 1}
        place |= {"ddbstrtab": table + 0x8000, "ddbstrcnt": len(names)}
        kind = "elf_file__link_elf_obj" if file.objects else "elf_file"
        self.set(address, kind, address=base, **place)
        self.set(address, "linker_file", **{k: v for k, v in file.members.items() if k in ("size", "ndeps")})
        self.set(address, kind, **{k: v for k, v in file.members.items() if k not in ("size", "ndeps")})

    def record(self, name: int, value: int, section: int) -> bytes:
        if self.word == 8:
            return struct.pack(self.order + "IBBHQQ", name, 0x12 if name else 0, 0, section, value, 0)
        return struct.pack(self.order + "IIIBBH", name, value, 0, 0x12 if name else 0, 0, section)

    @property
    def symbols(self) -> Callable[[str], int | None]:
        return {"linker_files": HEAD, "linker_kernel_file": KERNEL_FILE}.get

    def names(self) -> list[str]:
        return [file.filename for file in linker_files(self.structs, self.symbols)]


NAMES = ["kernel", "a.ko", "b.ko", "c.ko"]
ARCHES = ["amd64", "i386", "powerpc64"]


@pytest.fixture(params=ARCHES)
def four(request: pytest.FixtureRequest) -> Linker:
    return Linker(request.param, [Given(name) for name in NAMES])


def test_a_whole_list(four: Linker) -> None:
    walk = linker_files(four.structs, four.symbols)
    assert [file.filename for file in walk] == NAMES
    assert (walk.end, walk.problem, len(walk)) == (End.COMPLETE, "", 4)


def test_without_its_static_symbol_the_list_is_found_through_the_kernel(four: Linker) -> None:
    walk = linker_files(four.structs, {"linker_kernel_file": KERNEL_FILE}.get)
    assert [file.filename for file in walk] == NAMES


def test_the_head_may_be_known_by_another_address(four: Linker) -> None:
    four.words(HEAD + 0x800, four.addresses[0], four.addresses[3] + four.next_at)
    walk = linker_files(four.structs, {"linker_files": HEAD + 0x800}.get)
    assert [(file.filename, file.notes) for file in walk] == [(name, ()) for name in NAMES]
    assert (walk.end, walk.problem) == (End.COMPLETE, "")


def test_without_any_symbol_there_is_no_list(four: Linker) -> None:
    with pytest.raises(SymbolError, match="the kernel's symbols have no linker_files"):
        linker_files(four.structs, {}.get)


def test_without_types_there_is_no_list(four: Linker) -> None:
    bare = Structs(four.memory.read, Types.empty(8, "little"), 64, "little")
    with pytest.raises(SymbolError, match=r"no member link.tqe_next in struct linker_file"):
        linker_files(bare, four.symbols)


def test_an_unreadable_head_is_an_error(four: Linker) -> None:
    four.memory.drop(HEAD)
    with pytest.raises(AddressError):
        linker_files(four.structs, four.symbols)


def test_an_empty_list_has_no_files(four: Linker) -> None:
    four.chain([])
    assert linker_files(four.structs, four.symbols).files == ()


def test_a_looped_list_ends(four: Linker) -> None:
    four.words(four.addresses[2] + four.next_at, four.addresses[1])
    walk = linker_files(four.structs, four.symbols)
    # The last file hangs on the links back alone.
    assert [file.filename for file in walk] == NAMES
    assert (walk.end, walk.problem) == (
        End.LOOP,
        f"the list of files loops back to {four.addresses[1]:#x} after 3 files",
    )
    assert walk.files[3].notes == ("only links back lead to it",)


def test_a_list_that_leads_to_itself_ends(four: Linker) -> None:
    first = four.addresses[0]
    four.words(first + four.next_at, first, HEAD)
    four.words(HEAD, first, first + four.next_at)
    walk = linker_files(four.structs, four.symbols)
    assert [file.filename for file in walk] == ["kernel"]
    assert walk.end is End.LOOP


def test_a_misaligned_link_ends_the_list_and_the_rest_is_found_backwards(four: Linker) -> None:
    four.words(four.addresses[1] + four.next_at, four.addresses[2] + 1)
    walk = linker_files(four.structs, four.symbols)
    assert [file.filename for file in walk] == NAMES
    assert walk.end is End.MISALIGNED
    assert walk.problem == f"after 2 files the list leads to the misaligned address {four.addresses[2] + 1:#x}"
    assert [file.notes for file in walk] == [(), (), ("only links back lead to it",), ("only links back lead to it",)]


def test_an_unreadable_file_does_not_hide_those_behind_it(four: Linker) -> None:
    four.memory.drop(four.addresses[1])
    walk = linker_files(four.structs, four.symbols)
    assert [file.filename for file in walk] == ["kernel", "b.ko", "c.ko"]
    assert walk.end is End.UNREADABLE
    assert walk.problem == f"after 1 files address {four.addresses[1] + four.next_at:#x} is not mapped"


def test_an_endless_list_is_cut(four: Linker) -> None:
    addresses = [0x10000000 + 0x400 * number for number in range(MAX_FILES + 10)]
    four.chain(addresses)
    walk = linker_files(four.structs, four.symbols)
    assert walk.end is End.LIMIT
    assert walk.problem == f"the list has more than {MAX_FILES} files"
    assert MAX_FILES <= len(walk) <= MAX_FILES + 10


def test_a_file_that_was_taken_out_of_the_list_by_its_forward_link_alone_shows(four: Linker) -> None:
    four.words(four.addresses[0] + four.next_at, four.addresses[2])
    walk = linker_files(four.structs, four.symbols)
    assert [file.filename for file in walk] == ["kernel", "b.ko", "c.ko", "a.ko"]
    back, expected = four.addresses[1] + four.next_at, four.addresses[0] + four.next_at
    assert walk.files[1].notes == (f"its link back leads to {back:#x}, not to {expected:#x}",)
    assert walk.files[3].notes == ("only links back lead to it",)


def test_a_head_that_disagrees_with_the_end_is_told(four: Linker) -> None:
    four.words(four.addresses[2] + four.next_at, 0)
    walk = linker_files(four.structs, four.symbols)
    assert [file.filename for file in walk] == NAMES
    ends = [four.addresses[2] + four.next_at, four.addresses[3] + four.next_at]
    assert walk.problem == f"the list ends at {ends[0]:#x}, but its head says at {ends[1]:#x}"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 5)), max_size=8), st.data())
def test_whatever_the_links_are_the_walk_ends(changes: list[tuple[int, int, int]], data: st.DataObject) -> None:
    linker = Linker("i386", [Given(name) for name in NAMES])
    targets = [0, HEAD, *linker.addresses]
    for number, which, target in changes:
        shift = data.draw(st.sampled_from([0, 0, linker.next_at, 2]))
        at = linker.addresses[number] + linker.next_at + which * linker.word
        linker.words(at, targets[target] + shift)
    walk = linker_files(linker.structs, linker.symbols)
    assert len({file.address for file in walk}) == len(walk)
    assert walk.end in End


# One file


def only(linker: Linker, number: int = 1) -> LinkerFile:
    return linker_files(linker.structs, linker.symbols).files[number]


def test_values_of_shared_objects_count_from_their_base() -> None:
    linker = Linker("i386", [Given("kernel"), Given("a.ko", [("f", 0x10, 1), ("absolute", 0x10, 0xFFF1), ("u", 0, 0)])])
    table = module_symbols(linker.structs, only(linker))
    assert [(symbol.name, symbol.value) for symbol in table] == [("f", BASES + BASE_STEP + 0x10), ("absolute", 0x10)]


def test_values_of_object_files_are_final_and_what_was_never_relocated_is_left_out() -> None:
    base = BASES + BASE_STEP
    symbols = [("f", base + 0x10, 1), ("end", base + 0x200, 1), ("in_comment", 0x40, 9), ("absolute", 7, 0xFFF1)]
    linker = Linker("amd64", [Given("kernel"), Given("a.ko", symbols, objects=True)])
    sections(linker, (".text", base, 0x200))
    file = only(linker)
    assert file.sections == ((".text", base, 0x200),)
    assert [(one.name, one.value) for one in module_symbols(linker.structs, file)] == [
        ("f", base + 0x10),
        ("end", base + 0x200),
        ("absolute", 7),
    ]


def sections(linker: Linker, *given: tuple[str, int, int], address: int = 0x600000, count: int | None = None) -> None:
    """Give the second file an `Elf_progent` for each."""
    for number, (name, start, size) in enumerate(given):
        text = address + 0x800 + 32 * number
        linker.memory.write(text, name.encode() + b"\0")
        entry = struct.pack(linker.order + "QQiiQ", start, size, 0, number, text)
        linker.memory.write(address + 32 * number, entry)
    number = len(given) if count is None else count
    linker.set(linker.addresses[1], "elf_file__link_elf_obj", progtab=address, nprogtab=number)


def test_sets_of_shared_objects_are_moved_into_the_kernels_own() -> None:
    base = BASES + BASE_STEP
    symbols = [("vnet_entry_a", 0x100, 1), ("vnet_entry_b", 0x10C, 1), ("beside", 0x110, 1), ("pcpu_entry_c", 0x204, 2)]
    members = {"vnet_start": base + 0x100, "vnet_stop": base + 0x110, "vnet_base": 0x9000}
    members |= {"pcpu_start": base + 0x200, "pcpu_stop": base + 0x208, "pcpu_base": 0xA000}
    linker = Linker("powerpc64", [Given("kernel"), Given("a.ko", symbols, members=members)])
    file = only(linker)
    assert file.sets == {"vnet": (base + 0x100, base + 0x110, 0x9000), "dpcpu": (base + 0x200, base + 0x208, 0xA000)}
    assert [(one.name, one.value) for one in module_symbols(linker.structs, file)] == [
        ("vnet_entry_a", 0x9000),
        ("vnet_entry_b", 0x900C),
        ("beside", base + 0x110),
        ("pcpu_entry_c", 0xA004),
    ]


def test_a_set_that_ends_before_it_starts_is_none() -> None:
    members = {"vnet_start": 0x500000, "vnet_stop": 0x400000, "vnet_base": 0x9000}
    assert only(Linker("i386", [Given("kernel"), Given("a.ko", members=members)])).sets == {}


@pytest.mark.parametrize(("arch", "objects"), [("amd64", True), *((arch, False) for arch in ARCHES)])
def test_without_a_class_the_kind_is_told_by_its_look(arch: str, objects: bool) -> None:
    linker = Linker(arch, [Given("kernel"), Given("a.ko", [("f", 0x10, 1)], objects=objects)])
    if objects:
        sections(linker, (".text", BASES + BASE_STEP, 0x200))
    linker.set(linker.addresses[1], "linker_file", ops=0x70000000)
    file = only(linker)
    assert (file.class_name, file.kind) == ("", "elf_obj" if objects else "elf")
    assert file.notes == (f"ops: address {0x70000000 + 256 * linker.word:#x} is not mapped",)
    assert file.symbols is not None


def test_an_unknown_class_has_no_symbols() -> None:
    linker = Linker("i386", [Given("kernel"), Given("a.ko")])
    linker.memory.write(CLASSES + 0x980, b"wasm\0")
    linker.set(linker.addresses[1], "elf_file", ddbsymtab=linker.addresses[1])
    file = only(linker)
    assert (file.class_name, file.kind, file.symbols) == ("wasm", "", None)
    assert file.notes == ("no symbols: its class wasm is not known",)
    with pytest.raises(SymbolError, match=r"a\.ko has no symbol table that could be read"):
        module_symbols(linker.structs, file)


def test_types_without_elf_file_and_an_unusual_layout_give_no_symbols() -> None:
    linker = Linker("i386", [Given("kernel"), Given("a.ko", [("f", 0x10, 1)])])
    fresh = Structs(linker.memory.read, without_elf_files(linker.structs.types), 32, "little")
    assert [len(module_symbols(fresh, file)) for file in linker_files(fresh, linker.symbols)] == [0, 1]
    linker.memory.write(TABLES + TABLE_STEP, b"not zero")
    file = linker_files(fresh, linker.symbols).files[1]
    assert file.symbols is None
    assert file.notes == ("no symbols: the kernel's types do not have its elf_file, and it does not look as usual",)


def test_a_file_that_can_be_read_in_part_shows_what_there_is() -> None:
    linker = Linker("amd64", [Given("kernel"), Given("a.ko", objects=True)])
    sections(linker, (".text", BASES + BASE_STEP, 0x200), (".data", BASES + BASE_STEP + 0x200, 0x10))
    linker.set(linker.addresses[1], "linker_file", pathname=0x70000000)
    linker.set(linker.addresses[1], "elf_file__link_elf_obj", progtab=0x600000 - 32)
    file = only(linker)
    assert (file.filename, file.pathname, file.sections) == ("a.ko", "", ((".text", BASES + BASE_STEP, 0x200),))
    assert file.notes == (
        "progtab: address 0x5fffe0 is not mapped",
        "pathname: address 0x70000000 is not mapped",
    )


def test_a_structure_that_ends_on_an_unreadable_page_is_told_once() -> None:
    linker = Linker("i386", [Given("kernel"), Given("a.ko")])
    moved = FILES + 0x10 * FILE_STEP - 40
    content = linker.memory.read(linker.addresses[1], 0x100)
    linker.memory.write(moved, content)
    linker.chain([linker.addresses[0], moved])
    linker.memory.drop(moved + 40)
    walk = linker_files(linker.structs, linker.symbols)
    file = walk.files[1]
    assert (file.filename, file.refs) == ("a.ko", 1)
    assert (file.id, file.base) == (2, BASES + BASE_STEP)
    assert file.notes == (f"not all of it can be read (address {moved + 40:#x} is not mapped)",)


@pytest.mark.parametrize(
    ("member", "value", "note"),
    [("nprogtab", 0xFFFFFFFF, "4294967295 sections are impossible"), ("ndeps", -5, "-5 dependencies are impossible")],
)
def test_absurd_counts_are_told(member: str, value: int, note: str) -> None:
    linker = Linker("amd64", [Given("kernel"), Given("a.ko", objects=True, members={member: value})])
    linker.set(linker.addresses[1], "linker_file", deps=FILES)
    file = only(linker)
    assert (file.sections, file.dependencies, file.notes) == ((), (), (note,))


@pytest.mark.parametrize("count", [-1, 1 << 31 - 1, MAX_SYMBOLS + 1])
def test_absurd_numbers_of_symbols_are_refused(count: int) -> None:
    linker = Linker("amd64", [Given("kernel"), Given("a.ko", objects=True, members={"ddbsymcnt": count})])
    claimed = count % (1 << 64)
    message = f"a.ko claims to have {claimed} symbols; at most {MAX_SYMBOLS} are read"
    with pytest.raises(SymbolError) as raised:
        module_symbols(linker.structs, only(linker))
    assert str(raised.value) == message


def test_a_limit_of_the_callers_own_is_kept() -> None:
    linker = Linker("i386", [Given("kernel"), Given("a.ko", [("f", 1, 1), ("g", 2, 1)])])
    assert len(module_symbols(linker.structs, only(linker), limit=3)) == 2
    with pytest.raises(SymbolError, match="claims to have 3 symbols; at most 2 are read"):
        module_symbols(linker.structs, only(linker), limit=2)


def test_a_table_over_its_own_names_is_none() -> None:
    linker = Linker("i386", [Given("kernel"), Given("a.ko", [("f", 1, 1)])])
    file = replace(only(linker), symbols=TablePlace(TABLES, 5, TABLES + 16, 64))
    with pytest.raises(SymbolError, match=f"5 symbols with 64 bytes of names at {TABLES:#x} are no symbol table"):
        module_symbols(linker.structs, file)


def test_a_table_that_is_not_there_is_an_error_and_one_in_part_is_not() -> None:
    many = [(f"function_number_{number}", 4 * number, 1) for number in range(600)]
    linker = Linker("i386", [Given("kernel"), Given("a.ko", many)])
    file = only(linker)
    table = TABLES + TABLE_STEP
    linker.memory.drop(table + PAGE)
    found, lost = read_symbols(linker.structs, file)
    # 16 bytes each: the second page held the symbols from 256 to 511, of which the first is the empty one.
    assert [symbol.name for symbol in found] == [name for name, _, _ in (*many[:255], *many[511:])]
    assert lost == 256
    linker.memory.drop(table, table + 2 * PAGE)
    with pytest.raises(SymbolError, match=f"the symbol table at {table:#x} cannot be read"):
        module_symbols(linker.structs, file)


def test_a_kernel_of_unknown_size_says_so() -> None:
    linker = Linker("i386", [Given("kernel", members={"size": -BASES})])
    assert only(linker, 0).notes == ("its size is not known: the loader did not tell",)
