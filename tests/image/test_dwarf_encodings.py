"""One set of types in every encoding that DWARF has for it."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.image import dwarf_writer as w
from tests.image.dwarf_writer import Entry, Format, UnitPlan, dwarf, elf, unit
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes

SIGNATURE = 0x1122334455667788


def read(data: bytes, *wanted: str) -> DwarfTypes:
    """Everything in a file, or what is wanted of it."""
    reader = DwarfTypes(ELFFile(io.BytesIO(data)), "kernel")
    if wanted:
        reader.add_wanted(wanted)
    else:
        reader.add_all()
    return reader


def base(name: str) -> dict[str, Any]:
    return {"kind": "base", "name": name}


def pointer(subtype: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "pointer", "subtype": subtype}


def array(count: int, subtype: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "array", "count": count, "subtype": subtype}


def struct(name: str) -> dict[str, Any]:
    return {"kind": "struct", "name": name}


def kernel_unit(form: Format, source: str = "kern/kern_proc.c") -> Entry:
    """What a C file with ``struct proc`` and a little around it gives."""
    integer = Entry(w.BASE, {w.NAME: "int", w.BYTE_SIZE: 4, w.ENCODING: 5})
    char = Entry(w.BASE, {w.NAME: "char", w.BYTE_SIZE: 1, w.ENCODING: 6})
    unsigned = Entry(w.BASE, {w.NAME: "unsigned int", w.BYTE_SIZE: 4, w.ENCODING: 7})
    u_int = Entry(w.TYPEDEF, {w.TYPE: unsigned, w.NAME: "u_int"})
    thread = Entry(w.STRUCT, {w.NAME: "thread", w.DECLARATION: 1})
    thread_pointer = Entry(w.POINTER, {w.TYPE: thread})
    name = Entry(w.ARRAY, {w.TYPE: char}, [Entry(w.SUBRANGE, {w.COUNT: 20})])
    matrix = Entry(
        w.ARRAY,
        {w.TYPE: Entry(w.CONST)},
        [Entry(w.SUBRANGE, {w.UPPER_BOUND: 2}), Entry(w.SUBRANGE, {w.COUNT: 5}), Entry(w.SUBRANGE, {w.TYPE: u_int})],
    )
    constant = Entry(w.CONST, {w.TYPE: Entry(w.VOLATILE)})
    constant.attributes[w.TYPE] = volatile = Entry(w.VOLATILE, {w.TYPE: u_int})
    matrix.attributes[w.TYPE] = constant
    state = Entry(
        w.ENUM,
        {w.TYPE: integer, w.NAME: "p_state", w.BYTE_SIZE: 4},
        [
            Entry(w.ENUMERATOR, {w.NAME: "PRS_NEW", w.CONST_VALUE: 0}),
            Entry(w.ENUMERATOR, {w.NAME: "PRS_ZOMBIE", w.CONST_VALUE: 255}),
            Entry(w.ENUMERATOR, {w.NAME: "PRS_BAD", w.CONST_VALUE: -300}),
        ],
    )
    union = Entry(
        w.UNION,
        {w.BYTE_SIZE: 8},
        [
            Entry(w.MEMBER, {w.NAME: "p_next", w.TYPE: thread_pointer, w.PLACE: 0}),
            Entry(w.MEMBER, {w.NAME: "p_hash", w.TYPE: integer, w.PLACE: 0}),
        ],
    )
    bits = {w.BIT_SIZE: 3, w.DATA_BIT_OFFSET: 8 * 300 + 5} if form.version >= 4 else _old_bits(form)
    callback = Entry(w.POINTER, {w.TYPE: Entry(w.SUBROUTINE)})
    routine = Entry(w.SUBROUTINE, {w.TYPE: integer}, [Entry(w.PARAMETER, {w.TYPE: thread_pointer})])
    callback.attributes[w.TYPE] = routine
    anonymous = Entry(w.STRUCT, {w.BYTE_SIZE: 4}, [Entry(w.MEMBER, {w.NAME: "low", w.TYPE: integer, w.PLACE: 0})])
    anonymous_t = Entry(w.TYPEDEF, {w.TYPE: anonymous, w.NAME: "sigset_t"})
    proc = Entry(
        w.STRUCT,
        {w.NAME: "proc", w.BYTE_SIZE: 336},
        [
            Entry(w.MEMBER, {w.NAME: "p_pid", w.TYPE: integer, w.PLACE: 0}),
            Entry(w.MEMBER, {w.NAME: "p_thread", w.TYPE: thread_pointer, w.PLACE: 8}),
            union,
            Entry(w.MEMBER, {w.TYPE: union, w.PLACE: 16}),
            Entry(w.MEMBER, {w.NAME: "p_comm", w.TYPE: name, w.PLACE: 24}),
            Entry(w.MEMBER, {w.NAME: "p_matrix", w.TYPE: matrix, w.PLACE: 44}),
            Entry(w.MEMBER, {w.NAME: "p_state", w.TYPE: state, w.PLACE: 296}),
            Entry(w.MEMBER, {w.NAME: "p_flag", w.TYPE: volatile, **bits}),
            Entry(w.MEMBER, {w.NAME: "p_call", w.TYPE: callback, w.PLACE: 304}),
            Entry(w.MEMBER, {w.NAME: "p_any", w.TYPE: Entry(w.POINTER), w.PLACE: 312}),
            Entry(w.MEMBER, {w.NAME: "p_sigmask", w.TYPE: anonymous_t, w.PLACE: 320}),
        ],
    )
    any_pointer = proc.children[9].attributes[w.TYPE]
    assert isinstance(any_pointer, Entry)
    local = Entry(
        w.STRUCT, {w.NAME: "proc", w.BYTE_SIZE: 1}, [Entry(w.MEMBER, {w.NAME: "x", w.TYPE: char, w.PLACE: 0})]
    )
    inner = Entry(
        w.BLOCK, {w.LOW_PC: 0}, [local, Entry(w.VARIABLE, {w.NAME: "hz", w.TYPE: local, w.LOCATION: b"\x91\x08"})]
    )
    function = Entry(w.FUNCTION, {w.NAME: "proc_init", w.LOW_PC: 0, w.LOCATION: bytes(200)}, [inner])
    hz = Entry(w.VARIABLE, {w.NAME: "hz", w.TYPE: integer, w.LOCATION: b"\x03" + bytes(8)})
    initproc = Entry(w.VARIABLE, {w.NAME: "initproc", w.TYPE: Entry(w.POINTER), w.LOCATION: b"\x03" + bytes(8)})
    initproc.attributes[w.TYPE] = proc_pointer = Entry(w.POINTER, {w.TYPE: proc})
    return unit(
        source,
        *(function, proc, thread_pointer, thread, integer, name, char, matrix, constant, volatile, u_int, unsigned),
        *(state, callback, routine, any_pointer, anonymous_t, anonymous, hz, initproc, proc_pointer),
    )


def _old_bits(form: Format) -> dict[int, Any]:
    """DWARF 2 and 3 count from the most significant bit."""
    skipped = 32 - 5 - 3 if form.order == "<" else 5
    return {w.BYTE_SIZE: 4, w.BIT_OFFSET: skipped, w.BIT_SIZE: 3, w.PLACE: 300}


def expected(form: Format) -> dict[str, Any]:
    """What `kernel_unit` says."""
    union = {"kind": "union", "name": "unnamed_proc_unnamed_field_10"}
    position = 5 if form.order == "<" else 32 - 5 - 3
    flag = {"kind": "bitfield", "bit_position": position, "bit_length": 3, "type": base("unsigned int")}
    return {
        "proc": {
            "kind": "struct",
            "size": 336,
            "fields": {
                "p_pid": {"offset": 0, "type": base("int")},
                "p_thread": {"offset": 8, "type": pointer(struct("thread"))},
                "unnamed_field_10": {"offset": 16, "type": union, "anonymous": True},
                "p_comm": {"offset": 24, "type": array(20, base("char"))},
                "p_matrix": {"offset": 44, "type": array(3, array(5, array(0, base("unsigned int"))))},
                "p_state": {"offset": 296, "type": {"kind": "enum", "name": "p_state"}},
                "p_flag": {"offset": 300, "type": flag},
                "p_call": {"offset": 304, "type": pointer({"kind": "function"})},
                "p_any": {"offset": 312, "type": pointer(base("void"))},
                "p_sigmask": {"offset": 320, "type": struct("sigset_t")},
            },
        },
        "unnamed_proc_unnamed_field_10": {
            "kind": "union",
            "size": 8,
            "fields": {
                "p_next": {"offset": 0, "type": pointer(struct("thread"))},
                "p_hash": {"offset": 0, "type": base("int")},
            },
        },
        "sigset_t": {"kind": "struct", "size": 4, "fields": {"low": {"offset": 0, "type": base("int")}}},
    }


ENUMS = {"p_state": {"size": 4, "base": "int", "constants": {"PRS_NEW": 0, "PRS_ZOMBIE": 255, "PRS_BAD": -300}}}
FORMATS = {
    "DWARF 2 of a 32-bit machine": Format(2, "<", address_size=4, names=w.STRING, places=w.BLOCK1, numbers=w.DATA2),
    "DWARF 2, big-endian": Format(2, ">", names=w.STRP, places=w.BLOCK1, references=w.REF_ADDR),
    "DWARF 3 of 64 bits": Format(3, "<", 8, references=w.REF_ADDR, places=w.UDATA, numbers=w.UDATA),
    "DWARF 3, big-endian": Format(3, ">", 8, address_size=4, references=w.REF8, numbers=w.DATA8),
    "DWARF 4": Format(4),
    "DWARF 4, big-endian": Format(4, ">", references=w.REF2),
    "DWARF 4 with siblings": Format(4, siblings=True),
    "DWARF 4 with names in place": Format(4, names=w.STRING, siblings=True, numbers=w.DATA2),
    "DWARF 4, variable references": Format(4, references=w.REF_UDATA, numbers=w.UDATA),
    "DWARF 4, long codes": Format(4, spare_codes=200),
    "DWARF 4, codes of one and two bytes": Format(4, spare_codes=120),
    "DWARF 5": Format(5, names=w.STRX1, numbers=w.IMPLICIT_CONST),
    "DWARF 5, big-endian": Format(5, ">", names=w.STRX2, references=w.REF_ADDR),
    "DWARF 5, 3 bytes": Format(5, names=w.STRX3),
    "DWARF 5, 3 bytes, big-endian": Format(5, ">", names=w.STRX3),
    "DWARF 5, 4 bytes": Format(5, "<", 8, names=w.STRX4),
    "DWARF 5, variable": Format(5, names=w.STRX, numbers=w.UDATA),
    "DWARF 5, strings of lines": Format(5, names=w.LINE_STRP, address_size=4),
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_every_encoding_says_the_same(form: Format) -> None:
    reader = read(elf(form, dwarf(form, kernel_unit(form)), "amd64" if form.address_size == 8 else "i386"))
    endian = "little" if form.order == "<" else "big"
    assert reader.types.user_types == expected(form)
    assert reader.types.enums == ENUMS
    assert reader.types.base_types == {
        "void": {"size": 0, "signed": False, "kind": "void", "endian": endian},
        "pointer": {"size": form.address_size, "signed": False, "kind": "int", "endian": endian},
        "int": {"size": 4, "signed": True, "kind": "int", "endian": endian},
        "char": {"size": 1, "signed": True, "kind": "char", "endian": endian},
        "unsigned int": {"size": 4, "signed": False, "kind": "int", "endian": endian},
    }
    assert reader.variables == {"hz": base("int"), "initproc": pointer(struct("proc"))}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_second_unit_of_the_same_types_adds_nothing(form: Format) -> None:
    """Neither does one that spells them in another encoding."""
    units = kernel_unit(form), unit("kern/empty.c"), kernel_unit(form, "kern/kern_exit.c")
    reader = read(elf(form, dwarf(form, *units), "amd64" if form.address_size == 8 else "i386"))
    assert reader.types.user_types == expected(form)
    assert [source for source, _ in reader.units()] == ["kern/kern_proc.c", "kern/empty.c", "kern/kern_exit.c"]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_wanted_types_come_with_what_they_embed(form: Format) -> None:
    data = elf(form, dwarf(form, kernel_unit(form)), "amd64" if form.address_size == 8 else "i386")
    assert read(data, "proc").types.pruned(["proc"]) == read(data).types.pruned(["proc"])
    reader = read(data, "sigset_t", "no_such_type")
    assert reader.types.user_types == {"sigset_t": expected(form)["sigset_t"]}
    assert reader.types.enums == {}
    # What is not known of a pointer's target leaves a pointer.
    assert reader.variables == {"hz": base("int"), "initproc": pointer(base("void"))}
    assert read(data, "p_state").types.enums == ENUMS


def softc(unit_number: int, *members: tuple[str, Entry], size: int = 8, name: str = "softc") -> Entry:
    children = [
        Entry(w.MEMBER, {w.NAME: member, w.TYPE: target, w.PLACE: 4 * number})
        for number, (member, target) in enumerate(members)
    ]
    return Entry(w.STRUCT, {w.NAME: name, w.BYTE_SIZE: size}, children)


def integers() -> tuple[Entry, Entry]:
    return (
        Entry(w.BASE, {w.NAME: "int", w.BYTE_SIZE: 4, w.ENCODING: 5}),
        Entry(w.BASE, {w.NAME: "u_int", w.BYTE_SIZE: 4, w.ENCODING: 7}),
    )


@pytest.mark.parametrize("form", [Format(4), Format(5, names=w.STRX1), Format(4, names=w.STRING)])
def test_types_of_one_name_that_differ_in_one_member_are_kept_apart(form: Format) -> None:
    """In a name, a place, a size or only in a type, at whatever depth."""
    units = []
    for number in range(9):
        signed, unsigned = integers()
        link = Entry(w.POINTER, {w.TYPE: unsigned if number == 4 else signed})
        counts = (4, 2) if number == 5 else (2, 4)
        grid = Entry(w.ARRAY, {w.TYPE: signed}, [Entry(w.SUBRANGE, {w.COUNT: count}) for count in counts])
        alias = Entry(w.TYPEDEF, {w.TYPE: unsigned if number == 6 else signed, w.NAME: "alias_t"})
        inside = Entry(w.MEMBER, {w.NAME: "inside", w.TYPE: unsigned if number == 7 else signed, w.PLACE: 0})
        nameless = Entry(w.UNION, {w.BYTE_SIZE: 4}, [inside])
        members = [
            ("renamed" if number == 2 else "a", signed),
            *(("b", unsigned if number == 1 else signed), ("link", link), ("grid", grid)),
            *(("alias", alias), ("nameless", nameless)),
        ]
        own = softc(number, *members, size=64 if number == 3 else 56)
        units.append(unit(f"dev/driver{number}.c", own, signed, unsigned, link, grid, alias, nameless))
    data = elf(form, dwarf(form, *units))
    types = read(data).types.user_types
    names = [name for name in types if not name.startswith("unnamed_")]
    assert names == ["softc", *(f"softc__driver{number}" for number in range(1, 8))]
    assert types["softc__driver1"]["fields"]["b"]["type"] == base("u_int")
    assert list(types["softc__driver2"]["fields"]) == ["renamed", "b", "link", "grid", "alias", "nameless"]
    assert types["softc__driver3"]["size"] == 64
    assert types["softc__driver4"]["fields"]["link"]["type"] == pointer(base("u_int"))
    assert types["softc__driver5"]["fields"]["grid"]["type"] == array(4, array(2, base("int")))
    assert types["softc__driver6"]["fields"]["alias"]["type"] == base("u_int")
    nameless = types["softc__driver7"]["fields"]["nameless"]["type"]
    assert nameless == {"kind": "union", "name": "unnamed_softc_nameless__driver7"}
    assert types[nameless["name"]]["fields"]["inside"]["type"] == base("u_int")
    assert len(types) == 10
    wanted = read(data, "softc").types.user_types
    assert wanted == types


def test_what_embeds_one_of_two_types_of_a_name_refers_to_its_own() -> None:
    units = []
    for number in range(2):
        signed, _ = integers()
        inner = softc(number, (f"only{number}", signed))
        outer = softc(number, ("inner", inner), (f"of{number}", signed), name=f"user{number}")
        units.append(unit(f"dev/driver{number}.c", outer, inner, signed))
    form = Format()
    reader = read(elf(form, dwarf(form, *units)))
    assert reader.types.user_types["user0"]["fields"]["inner"]["type"] == struct("softc")
    assert reader.types.user_types["user1"]["fields"]["inner"]["type"] == struct("softc__driver1")
    wanted = read(elf(form, dwarf(form, *units)), "user1").types
    assert wanted.user_types.keys() == {"user1", "softc__driver1"}


def test_definitions_win_over_declarations_of_types_and_variables() -> None:
    """Wherever they come."""
    form = Format()
    units = []
    for number in range(3):
        signed, _ = integers()
        dimension = Entry(w.SUBRANGE, {w.COUNT: 16} if number == 1 else {})
        text = Entry(w.ARRAY, {w.TYPE: signed}, [dimension])
        name = {w.NAME: "version", w.TYPE: text}
        if number == 1:
            entries = [softc(0, ("x", signed), name="thread"), Entry(w.VARIABLE, name)]
            state = Entry(
                w.ENUM, {w.NAME: "state", w.BYTE_SIZE: 4}, [Entry(w.ENUMERATOR, {w.NAME: "ON", w.CONST_VALUE: 1})]
            )
        else:
            entries = [
                Entry(w.STRUCT, {w.NAME: "thread", w.DECLARATION: 1}),
                Entry(w.VARIABLE, {**name, w.DECLARATION: 1}),
            ]
            state = Entry(w.ENUM, {w.NAME: "state", w.BYTE_SIZE: 4, w.DECLARATION: 1})
        units.append(unit(f"kern/{number}.c", *entries, state, text, signed))
    reader = read(elf(form, dwarf(form, *units)))
    assert list(reader.types.user_types) == ["thread"]
    assert reader.types.enums == {"state": {"size": 4, "base": "unsigned int", "constants": {"ON": 1}}}
    assert reader.variables == {"version": array(16, base("int"))}


def test_a_definition_may_name_its_declaration_instead_of_itself() -> None:
    """GCC writes the name and the incomplete type of ``extern char version[]`` once, the rest where it is defined."""
    form = Format()
    signed, _ = integers()
    open_array = Entry(w.ARRAY, {w.TYPE: signed}, [Entry(w.SUBRANGE)])
    full = Entry(w.ARRAY, {w.TYPE: signed}, [Entry(w.SUBRANGE, {w.UPPER_BOUND: 7})])
    declared = Entry(w.VARIABLE, {w.NAME: "version", w.TYPE: open_array, w.DECLARATION: 1})
    plain = Entry(w.VARIABLE, {w.NAME: "hz", w.TYPE: signed, w.DECLARATION: 1})
    defined = [
        Entry(w.VARIABLE, {w.SPECIFICATION: declared, w.TYPE: full}),
        Entry(w.VARIABLE, {w.SPECIFICATION: plain}),
    ]
    reader = read(elf(form, dwarf(form, unit("a.c", declared, plain, *defined, open_array, full, signed))))
    assert reader.variables == {"version": array(8, base("int")), "hz": base("int")}


@pytest.mark.parametrize(
    "bound", [{}, {w.UPPER_BOUND: -1}, {w.UPPER_BOUND: 0xFFFFFFFF}, {w.COUNT: 0}, {w.COUNT: b"\x30"}]
)
def test_flexible_arrays_have_no_elements(bound: dict[int, Any]) -> None:
    form = Format()
    signed, _ = integers()
    flexible = Entry(w.ARRAY, {w.TYPE: signed}, [Entry(w.SUBRANGE, bound)])
    reader = read(
        elf(form, dwarf(form, unit("a.c", Entry(w.VARIABLE, {w.NAME: "v", w.TYPE: flexible}), flexible, signed)))
    )
    assert reader.variables == {"v": array(0, base("int"))}


def test_types_of_other_units_are_found() -> None:
    """References across units come from optimisation at link time, partial units from dwz."""
    form = Format(4, references=w.REF_ADDR)
    signed, _ = integers()
    shared = softc(0, ("x", signed), name="shared")
    nameless = softc(0, ("y", signed))
    del nameless.attributes[w.NAME]
    nameless_t = Entry(w.TYPEDEF, {w.TYPE: nameless, w.NAME: "nameless_t"})
    partial = Entry(w.PARTIAL_UNIT, {}, [signed, shared, nameless_t, nameless])
    user = softc(1, ("s", shared), ("n", nameless_t), ("i", signed), name="user")
    imported = Entry(w.IMPORTED_UNIT, {w.IMPORT: partial})
    data = elf(form, dwarf(form, partial, unit("kern/user.c", imported, user)))
    types = read(data).types.user_types
    assert types["user"]["fields"] == {
        "s": {"offset": 0, "type": struct("shared")},
        "n": {"offset": 4, "type": struct("nameless_t")},
        "i": {"offset": 8, "type": base("int")},
    }
    assert types.keys() == {"user", "shared", "nameless_t"}
    assert read(data, "user").types.user_types == types
    # One unit alone brings the types of others along.
    reader = DwarfTypes(ELFFile(io.BytesIO(data)))
    reader.add(list(reader.units())[1][1])
    assert reader.types.user_types == types


@pytest.mark.parametrize("form", [Format(4), Format(5), Format(5, ">", 8)])
def test_type_units(form: Format) -> None:
    signed, _ = integers()
    shared = softc(0, ("x", signed), name="shared")
    type_unit = UnitPlan(Entry(w.TYPE_UNIT, {}, [shared, signed]), SIGNATURE, shared)
    skeleton = Entry(w.STRUCT, {w.NAME: "shared", w.DECLARATION: 1, w.SIGNATURE: SIGNATURE})
    through = Entry(w.POINTER, {w.TYPE: skeleton})
    direct = Entry(w.MEMBER, {w.NAME: "s", w.TYPE: SIGNATURE, w.PLACE: 0})
    user = Entry(
        w.STRUCT,
        {w.NAME: "user", w.BYTE_SIZE: 24},
        [direct, Entry(w.MEMBER, {w.NAME: "p", w.TYPE: through, w.PLACE: 16})],
    )
    data = elf(form, dwarf(form, type_unit, unit("kern/user.c", user, through, skeleton)))
    types = read(data).types.user_types
    assert types["user"]["fields"] == {
        "s": {"offset": 0, "type": struct("shared")},
        "p": {"offset": 16, "type": pointer(struct("shared"))},
    }
    assert types["shared"]["fields"] == {"x": {"offset": 0, "type": base("int")}}
    assert read(data, "user").types.user_types == types


@pytest.mark.parametrize("address_size", [4, 8])
def test_compressed_sections(address_size: int) -> None:
    form = Format(4, address_size=address_size)
    machine = "amd64" if address_size == 8 else "i386"
    content = dwarf(form, kernel_unit(form))
    assert read(elf(form, content, machine, compressed=True)).types.user_types == expected(form)
    old = [
        w.Section(f".zdebug_{name}", b"ZLIB" + len(data).to_bytes(8, "big") + zlib.compress(data))
        for name, data in content.sections.items()
    ]
    assert read(w.elf_file(form, old, machine)).types.user_types == expected(form)


@pytest.mark.parametrize("machine", ["amd64", "i386", "arm", "arm64", "riscv64", "powerpc64"])
def test_object_files_are_relocated(machine: str) -> None:
    """Modules of amd64 are object files."""
    small = machine in ("i386", "arm")
    form = Format(4, ">" if machine == "powerpc64" else "<", address_size=4 if small else 8)
    data = elf(form, dwarf(form, kernel_unit(form)), machine, relocatable=True)
    assert read(data).types.user_types == expected(form)


def test_old_names_are_kept_for_types_that_only_a_pointer_typedef_names() -> None:
    form = Format()
    signed, _ = integers()
    nameless = softc(0, ("y", signed))
    del nameless.attributes[w.NAME]
    behind = Entry(w.POINTER, {w.TYPE: nameless})
    handle = Entry(w.TYPEDEF, {w.TYPE: behind, w.NAME: "handle_t"})
    user = softc(1, ("h", handle), name="user")
    reader = read(elf(form, dwarf(form, unit("a.c", user, handle, behind, nameless, signed))))
    assert reader.types.user_types["user"]["fields"]["h"]["type"] == pointer(struct("handle_t"))
    assert reader.types.user_types["handle_t"]["fields"] == {"y": {"offset": 0, "type": base("int")}}


def test_progress_is_told() -> None:
    form = Format()
    told: list[tuple[float, str]] = []
    reader = DwarfTypes(ELFFile(io.BytesIO(elf(form, dwarf(form, *(kernel_unit(form, f"{n}.c") for n in range(4)))))))
    reader.add_wanted(["proc"], lambda percent, what: told.append((percent, what)))
    assert told == [(25.0 * number, f"Reading types of {number}.c") for number in range(4)]


def test_what_is_not_supported_is_said() -> None:
    form = Format()
    content = dwarf(form, kernel_unit(form))
    packed = [
        w.Section(f".debug_{name}", w.compress(form, data, method=2), flags=0x800)
        for name, data in content.sections.items()
    ]
    with pytest.raises(FormatError, match=r"compressed with method 2.* only zlib"):
        read(w.elf_file(form, packed))
    with pytest.raises(FormatError, match="object file for EM_MIPS, whose relocations"):
        read(elf(replace(form, address_size=4), content, "mips", relocatable=True))
    future = {**content.sections, "info": content.sections["info"][:4] + b"\6" + content.sections["info"][5:]}
    with pytest.raises(FormatError, match=r"unknown version \(6\)"):
        read(elf(form, future))
