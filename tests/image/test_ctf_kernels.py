"""Kernels and modules as they are installed: CTF says what DWARF does, and which variable has which type."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.minikernel.kernels import dwarf_of, kernel_file
from tests.minikernel.strip import strip_debug
from tests.scenario.kernels import ARCHITECTURES
from tests.writers import ctf as writer
from tests.writers.ctf import SIGNED, Ctf, TypesWriter, add_ctf, insert_section
from tests.writers.elfcore import elf_kernel
from tests.writers.headers import ByteOrder
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.ctf import CtfTypes, from_elf
from volatility3_freebsd_kvm.image.ctf_objects import Symbol
from volatility3_freebsd_kvm.image.types import TypeReference, Types

OBJECT, FUNC = 1, 2
UNDEF, ABS = 0, 0xFFF1
PROCLIST = {"kind": "struct", "name": "proclist"}
SIGNED_CHAR = {"kind": "base", "name": "signed char"}

SHARED = {("unnamed_pf_kruleset_rules", "inactive"), ("unnamed_pf_ruleset_rules", "inactive")}
"""``struct { … } active, inactive;``: one type of two users. Here each has its own name for it, with DWARF one."""
DOUBLES = {"elf_file": {"elf_file__link_elf_obj", "elf_file__2"}, "indir": {"indir__types", "indir__2"}}
"""Types of one name are told apart by the source file, which CTF does not know, so by a number."""
CROSSING = {
    "amd64": {
        ("gate_descriptor", "gd_hioffset"): (4, 16, 48),
        ("region_descriptor", "rd_base"): (2, 0, 64),
        ("segment_descriptor", "sd_lobase"): (1, 8, 24),
        ("system_segment_descriptor", "sd_hibase"): (4, 24, 40),
        ("user_segment_descriptor", "sd_lobase"): (1, 8, 24),
    },
    "i386": {
        ("region_descriptor", "rd_base"): (2, 0, 32),
        ("segment_descriptor", "sd_lobase"): (1, 8, 24),
        ("user_segment_descriptor", "sd_lobase"): (1, 8, 24),
    },
}
"""Packed bit fields: offset, position and width. With DWARF they may end behind their unit; here they never do."""
WIDE_ENUMS = {"14": set[str](), "15": {"IF_SA_CNT_WHICH", "ccsignal_t"}}
"""Those with constants of 32 bits, which in CTF are signed; 14 has none."""
UNUSED_BASES = {"__ARRAY_SIZE_TYPE__", "signed char"}
"""Base types that CTF does not have; ctfconvert calls ``signed char`` plainly ``char``, which it takes for signed."""
UNUSED_FLOATS = {"i386": set[str](), "powerpc64": {"float"}}
"""The same, where not all architectures are alike; otherwise all floats."""


def leaf(reference: TypeReference) -> TypeReference:
    while "subtype" in reference:
        reference = reference["subtype"]
    return reference


def differences(left: Types, right: Types) -> Iterator[tuple[str, str]]:
    """Structure and member of what is not the same; without a member if it is the structure itself."""
    for name in left.user_types.keys() & right.user_types.keys():
        mine, other = left.user_types[name], right.user_types[name]
        if (mine["kind"], mine["size"], list(mine["fields"])) != (other["kind"], other["size"], list(other["fields"])):
            yield name, ""
        for member in mine["fields"].keys() & other["fields"].keys():
            if mine["fields"][member] != other["fields"][member]:
                yield name, member


def bits(field: dict[str, Any], types: Types) -> tuple[int, int, int]:
    """Offset, position and width of a member."""
    reference = field["type"]
    if reference["kind"] == "bitfield":
        return field["offset"], reference["bit_position"], reference["bit_length"]
    return field["offset"], 0, 8 * types.base_types[reference["name"]]["size"]


Kernel = tuple[str, str, Types, dict[str, TypeReference], CtfTypes]


@pytest.fixture(scope="module", params=[f"{release}-{arch}" for release in ("14", "15") for arch in ARCHITECTURES])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """Release, architecture, types and variables from DWARF, and those from CTF."""
    release, arch = request.param.split("-")
    path = kernel_file(release, arch)
    types, variables = dwarf_of(path)
    elf = ELFFile(io.BytesIO(add_ctf(path, types=(types, variables))))
    assert not elf.has_dwarf_info()
    return release, arch, types, variables, from_elf(elf, "kernel")


def test_structures_are_those_of_dwarf(kernel: Kernel) -> None:
    _, arch, types, _, ctf = kernel
    plain = {
        (name, member)
        for name, definition in types.user_types.items()
        for member, field in definition["fields"].items()
        if leaf(field["type"]) == SIGNED_CHAR
    }
    assert ("proc", "p_nice") in plain
    crossing = CROSSING.get(arch, {})
    assert set(differences(types, ctf.types)) == SHARED | crossing.keys() | plain
    for name, member in plain:
        assert leaf(ctf.types.user_types[name]["fields"][member]["type"]) == {"kind": "base", "name": "char"}
    for (name, member), place in crossing.items():
        assert bits(ctf.types.user_types[name]["fields"][member], ctf.types) == place


def test_names_of_structures_are_those_of_dwarf(kernel: Kernel) -> None:
    _, _, types, _, ctf = kernel
    assert types.user_types.keys() - ctf.types.user_types.keys() == {"elf_file__link_elf_obj", "indir__types"}
    assert ctf.types.user_types.keys() - types.user_types.keys() == {
        *("elf_file__2", "indir__2"),
        *("_".join(pair) for pair in SHARED),
    }
    for theirs, ours in (("elf_file__link_elf_obj", "elf_file__2"), ("indir__types", "indir__2")):
        assert ctf.types.user_types[ours] == types.user_types[theirs]


def test_enumerations_are_those_of_dwarf(kernel: Kernel) -> None:
    release, _, types, _, ctf = kernel
    assert ctf.types.enums.keys() == types.enums.keys()
    different = {name for name, one in types.enums.items() if ctf.types.enums[name] != one}
    assert different == WIDE_ENUMS[release]
    for name in different:
        assert max(types.enums[name]["constants"].values()) >= 1 << 31
        wrapped = {key: value % (1 << 32) for key, value in ctf.types.enums[name]["constants"].items()}
        assert wrapped == types.enums[name]["constants"]
    assert ctf.types.enums["enum_vtype_uint8"]["size"] == 1


def test_base_types_are_those_of_dwarf(kernel: Kernel) -> None:
    _, arch, types, _, ctf = kernel
    unused = UNUSED_BASES | UNUSED_FLOATS.get(arch, {"double", "float"})
    assert types.base_types.keys() - ctf.types.base_types.keys() == unused
    assert ctf.types.base_types.keys() <= types.base_types.keys()
    different = {name for name, base in ctf.types.base_types.items() if types.base_types[name] != base}
    assert different == (set() if arch in ("amd64", "i386") else {"char"})
    assert ctf.types.base_types["char"]["signed"] is True


def test_variables_have_the_types_of_dwarf(kernel: Kernel) -> None:
    _, _, _, variables, ctf = kernel
    assert ctf.warnings == []
    assert ctf.variables == variables
    assert ctf.variables["allproc"] == PROCLIST
    assert ctf.variables["version"]["subtype"] == {"kind": "base", "name": "char"}


@pytest.mark.parametrize(("release", "arch"), [("14", "amd64"), ("15", "i386"), ("15", "powerpc64"), ("14", "arm")])
def test_both_versions_say_the_same(release: str, arch: str) -> None:
    path = kernel_file(release, arch)
    dwarf = dwarf_of(path)
    old, new = (
        from_elf(ELFFile(io.BytesIO(add_ctf(path, version, compressed=version == 3, types=dwarf))), "kernel")
        for version in (2, 3)
    )
    assert old.types == new.types
    assert old.variables == new.variables


def test_a_kernel_without_types_is_told_so() -> None:
    stripped = strip_debug(kernel_file("15", "amd64").read_bytes())
    with pytest.raises(FormatError, match=r"^/boot/kernel/kernel has no CTF type information \(\.SUNW_ctf\);"):
        from_elf(ELFFile(io.BytesIO(stripped)), "/boot/kernel/kernel")


# Variables


def container(version: int = 3, byteorder: ByteOrder = "little") -> tuple[Ctf, int, int]:
    """Two types that variables may have."""
    ctf = Ctf(version, byteorder)
    number = ctf.integer("int", 4, SIGNED)
    return ctf, number, ctf.struct("proclist", 8, [("lh_first", ctf.pointer(number), 0)])


def joined(ctf: Ctf, ids: list[int], symbols: list[Symbol], byteorder: ByteOrder = "little") -> CtfTypes:
    return CtfTypes(ctf.build(ids), word_bits=64, byteorder=byteorder, symbols=symbols)


def test_symbols_without_a_place_in_the_container_are_passed_over() -> None:
    ctf, number, proclist = container()
    symbols = [
        Symbol("", OBJECT, 1, 0),
        Symbol("elsewhere", OBJECT, UNDEF, 0),
        Symbol("main", FUNC, 1, 0x1000),
        Symbol("nprocs", OBJECT, 1, 0x2000, 4),
        Symbol("_START_", OBJECT, 1, 0),
        Symbol("nothing", OBJECT, ABS, 0),
        Symbol("unknown", OBJECT, 1, 0x3000, 8),
        Symbol("absolute", OBJECT, ABS, 0x200000, 4),
        Symbol("allproc", OBJECT, 1, 0x4000, 8),
        Symbol("_END_", OBJECT, 1, 0),
    ]
    found = joined(ctf, [number, 0, number, proclist], symbols)
    assert found.variables == {
        "nprocs": {"kind": "base", "name": "int"},
        "absolute": {"kind": "base", "name": "int"},
        "allproc": PROCLIST,
    }
    assert found.warnings == []


def test_symbols_may_be_plain_tuples() -> None:
    ctf, _, proclist = container()
    data = ctf.build([proclist])
    symbols = [("allproc", OBJECT, 1, 0x4000)]
    assert CtfTypes(data, word_bits=64, byteorder="little", symbols=symbols).variables == {"allproc": PROCLIST}


@pytest.mark.parametrize(
    ("symbols", "ids"),
    [
        pytest.param(["nprocs", "allproc"], ["int"], id="too few"),
        pytest.param(["nprocs", "allproc"], ["int", "proclist", "int"], id="too many"),
        pytest.param(["allproc", "nprocs"], ["int", "proclist"], id="another order"),
        pytest.param(["prison0"], ["proclist"], id="a known variable of another type"),
        pytest.param(["version"], ["int"], id="a version that is no text"),
        pytest.param(["a", "b", "c"], ["int", "int", "proclist"], id="other sizes"),
        pytest.param(["nprocs"], ["beyond"], id="no such type"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_a_symbol_table_of_another_file_gives_no_variables(version: int, symbols: list[str], ids: list[str]) -> None:
    ctf, number, proclist = container(version)
    places = {"int": number, "proclist": proclist, "beyond": 77}
    table = [Symbol(name, OBJECT, 1, 0x1000, 8 if name in ("allproc", "a", "b") else 4) for name in symbols]
    found = joined(ctf, [places[one] for one in ids], table)
    assert found.variables == {}
    assert found.warnings == [
        "the symbol table of the file is not the one that its CTF was made with: the types of its variables are unknown"
    ]
    assert set(found.types.user_types) == {"proclist"}


def test_a_variable_that_is_smaller_than_its_type_has_another_one() -> None:
    """ctfmerge takes static variables of one name for each other, if their files are called alike."""
    ctf, number, proclist = container()
    symbols = [Symbol(name, OBJECT, 1, 0x1000, size) for name, size in (("a", 4), ("b", 4), ("flexible", 64))]
    found = joined(ctf, [number, proclist, proclist], [*symbols[:2], symbols[2]])
    assert found.variables == {}
    found = joined(ctf, [number, number, proclist], symbols)
    assert found.variables.keys() == {"a", "b", "flexible"}
    found = joined(ctf, [number, proclist, number, number], [*symbols[:2], Symbol("c", OBJECT, 1, 0, 4), symbols[0]])
    assert found.variables.keys() == {"a", "c"}


@pytest.mark.parametrize("version", [2, 3])
def test_types_of_variables_may_be_in_the_other_byte_order(version: int) -> None:
    """ctfconvert swaps everything else where it makes a big-endian container on a little-endian machine."""
    ctf, number, proclist = container(version, "big")
    swapped = [int.from_bytes(one.to_bytes(version * 2 - 2, "big"), "little") for one in (number, proclist)]
    symbols = [Symbol("nprocs", OBJECT, 1, 0x1000, 4), Symbol("allproc", OBJECT, 1, 0x2000, 8)]
    found = joined(ctf, swapped, symbols, "big")
    assert found.variables["allproc"] == PROCLIST


def test_a_variable_names_its_type_without_a_name() -> None:
    ctf, number, _ = container()
    nameless = ctf.struct("", 4, [("value", number, 0)])
    found = joined(ctf, [nameless], [Symbol("stats", OBJECT, 1, 0x1000, 4)])
    assert found.variables == {"stats": {"kind": "struct", "name": "unnamed_stats"}}
    assert "value" in found.types.user_types["unnamed_stats"]["fields"]


# Modules


def parent_and_child(version: int, labels: tuple[str, str] = ("v1", "v1")) -> tuple[CtfTypes, Ctf, dict[str, int]]:
    """A kernel, and the beginnings of a module's container, with ids of the kernel's types."""
    ctf = Ctf(version, label=labels[0])
    number = ctf.integer("int", 4, SIGNED)
    flag = ctf.integer("int bitfield", 4, SIGNED, 3)
    lock = ctf.struct("mtx", 8, [("owner", ctf.pointer(0), 0)])
    nameless = ctf.struct("", 4, [("inner", number, 0)])
    forward = ctf.add(writer.FORWARD, "pf_kstate")
    ctf.struct("holder", 8, [("state", ctf.pointer(forward), 0)])
    ids = {"int": number, "flag": flag, "mtx": lock, "nameless": nameless}
    kernel = CtfTypes(ctf.build(), word_bits=64, byteorder="little", name="kernel")
    return kernel, Ctf(version, parent="kernel", parent_label=labels[1]), ids


@pytest.mark.parametrize("version", [2, 3])
def test_modules_build_on_the_types_of_the_kernel(version: int) -> None:
    kernel, child, ids = parent_and_child(version)
    own = child.struct("softc", 4, [("flag", ids["flag"], 0)])
    members = [
        ("lock", ids["mtx"], 0),
        ("own", own, 64),
        ("part", ids["nameless"], 96),
        ("next", child.pointer(own), 128),
    ]
    child.struct("pf_kstate", 24, members)
    module = CtfTypes(child.build(), word_bits=64, byteorder="little", name="pf.ko", parent=kernel)
    assert own > (0x7FFF if version == 2 else 0x7FFFFFFF)
    found = module.types.user_types["pf_kstate"]["fields"]
    assert found["lock"] == {"offset": 0, "type": {"kind": "struct", "name": "mtx"}}
    assert found["own"] == {"offset": 8, "type": {"kind": "struct", "name": "softc"}}
    assert found["part"]["type"] == {"kind": "struct", "name": "unnamed_pf_kstate_part"}
    assert found["next"]["type"]["subtype"]["name"] == "softc"
    assert list(module.types.user_types["unnamed_pf_kstate_part"]["fields"]) == ["inner"]
    assert module.types.user_types["softc"]["fields"]["flag"]["type"]["bit_length"] == 3
    assert module.types.user_types["mtx"] == kernel.types.user_types["mtx"]
    assert "pf_kstate" not in kernel.types.user_types
    assert module.types.user_types["holder"]["fields"]["state"]["type"]["subtype"]["name"] == "pf_kstate"


def test_structures_of_modules_do_not_replace_those_of_the_kernel() -> None:
    kernel, child, ids = parent_and_child(3)
    other = child.struct("mtx", 4, [("number", ids["int"], 0)])
    same = child.struct("holder", 8, [("state", child.pointer(child.add(writer.FORWARD, "pf_kstate")), 0)])
    child.struct("user", 16, [("theirs", ids["mtx"], 0), ("ours", other, 64), ("same", same, 64)])
    module = CtfTypes(child.build(), word_bits=64, byteorder="little", parent=kernel)
    names = [field["type"]["name"] for field in module.types.user_types["user"]["fields"].values()]
    assert names == ["mtx", "mtx__2", "holder"]
    assert module.types.user_types["mtx"]["size"] == 8
    assert set(kernel.types.user_types) == {"mtx", "holder"}


def test_variables_of_modules_have_types_of_the_kernel() -> None:
    kernel, child, ids = parent_and_child(3)
    own = child.struct("softc", 4, [("number", ids["int"], 0)])
    symbols = [Symbol("pf_lock", OBJECT, 1, 0, 8), Symbol("pf_softc", OBJECT, 1, 8, 4)]
    data = child.build([ids["mtx"], own])
    module = CtfTypes(data, word_bits=64, byteorder="little", symbols=symbols, parent=kernel)
    assert {name: one["name"] for name, one in module.variables.items()} == {"pf_lock": "mtx", "pf_softc": "softc"}


def test_a_module_needs_its_kernel() -> None:
    _, child, _ = parent_and_child(3)
    with pytest.raises(
        FormatError, match=r"^the CTF of pf\.ko builds on that of 'kernel', which has to be read first$"
    ):
        CtfTypes(child.build(), word_bits=64, byteorder="little", name="pf.ko")


def test_a_module_for_another_kernel_is_told_so() -> None:
    kernel, child, _ = parent_and_child(3, ("FreeBSD 15.0", "FreeBSD 14.3"))
    module = CtfTypes(child.build(), word_bits=64, byteorder="little", name="pf.ko", parent=kernel)
    assert module.warnings == [
        (
            "the CTF of pf.ko was made for 'FreeBSD 14.3' of 'kernel', but that one is 'FreeBSD 15.0':"
            " its types may be wrong"
        )
    ]


def test_modules_with_all_types_of_their_own_do_not_need_the_kernel() -> None:
    kernel, _, _ = parent_and_child(3)
    ctf, _, _ = container()
    module = CtfTypes(ctf.build(), word_bits=64, byteorder="little", parent=kernel)
    assert set(module.types.user_types) == {"proclist"}


@pytest.mark.parametrize("arch", ["amd64", "powerpc64"])
def test_a_whole_kernel_as_the_parent_of_a_module(arch: str) -> None:
    path = kernel_file("15", arch)
    types, _ = dwarf_of(path)
    byteorder: ByteOrder = "big" if arch == "powerpc64" else "little"
    parent_writer = TypesWriter(types, Ctf(3, byteorder, label="FreeBSD"))
    parent_writer.add_all()
    kernel = CtfTypes(parent_writer.ctf.build(compressed=True), word_bits=64, byteorder=byteorder, name="kernel")
    softc = {
        "kind": "struct",
        "size": 4096,
        "fields": {"thread": {"offset": 0, "type": {"kind": "struct", "name": "thread"}}},
    }
    more = Types(types.base_types, {**types.user_types, "softc": softc}, types.enums)
    child_writer = TypesWriter(more, Ctf(3, byteorder, parent="kernel", parent_label="FreeBSD"), parent_writer)
    reference = child_writer.id({"kind": "struct", "name": "softc"})
    data = child_writer.ctf.build([reference], compressed=True)
    assert len(data) < 400
    module = insert_section(elf_kernel({"pf_softc": 0x1000}, arch, size=4096), data)
    found = from_elf(ELFFile(io.BytesIO(module)), "pf.ko", kernel)
    assert found.types.user_types["softc"] == softc
    assert found.types.user_types["thread"] == kernel.types.user_types["thread"]
    assert found.variables == {"pf_softc": {"kind": "struct", "name": "softc"}}
