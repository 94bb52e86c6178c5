"""Types read from DWARF are what the C compiler itself wrote into the kernels."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import pytest
from elftools.elf.elffile import ELFFile

from tests.minikernel import build, build_module
from tests.minikernel.kernels import kernel_file, mini_kernel
from tests.scenario.kernels import ARCHITECTURES
from tests.writers.ctype import TypeTable
from tests.writers.elfcore import elf_kernel
from tests.writers.kernel_image import KernelImage
from tests.writers.machine import MACHINES
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image import wanted_types
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes
from volatility3_freebsd_kvm.image.kernel import KernelFile, symbol_values

TCPS_TIME_WAIT = 10


@pytest.fixture(scope="module", params=[f"{release}-{arch}" for release in ("14", "15") for arch in ARCHITECTURES])
def image(request: pytest.FixtureRequest) -> tuple[KernelImage, str]:
    release, arch = request.param.split("-")
    return mini_kernel(release, arch), arch


def facts(image: KernelImage, order: str) -> Iterator[tuple[str, str, int, int]]:
    """Type, member, offset and size, as ``offsetof`` and ``sizeof`` gave them to the compiler."""
    section = ELFFile(io.BytesIO(image.file)).get_section_by_name("minikernel_facts")
    for record in struct.iter_unpack(order + "32s32sII", section.data()):
        name, member = (text.split(b"\0")[0].decode() for text in record[:2])
        if name:
            yield name, member, record[2], record[3]


def test_offsets_and_sizes_are_the_compilers(image: tuple[KernelImage, str]) -> None:
    kernel, arch = image
    order = "<" if MACHINES[arch].byteorder == "little" else ">"
    checked = 0
    for name, member, offset, size in facts(kernel, order):
        if member:
            assert kernel.types.offsetof(name.split()[-1], member) == offset, (name, member)
        else:
            assert kernel.types.sizeof(name) == size, name
        checked += 1
    assert checked == 140


def test_bit_fields_lie_where_the_compiler_put_them(image: tuple[KernelImage, str]) -> None:
    """Counted from the other side on big-endian machines."""
    kernel, _ = image
    offset, reference = kernel.types.member("tcpcb", "t_state")
    assert reference["kind"] == "bitfield"
    at = kernel.symbols["sample_tcpcb"] + offset
    size = kernel.types.size(reference)
    segment = next(one for one in kernel.segments if one.va <= at < one.va + len(one.data))
    data = segment.data[at - segment.va : at - segment.va + size]
    assert kernel.types.decode(reference, data) == TCPS_TIME_WAIT


def test_two_structures_of_one_name_are_both_there(image: tuple[KernelImage, str]) -> None:
    """``struct elf_file`` of link_elf.c and of link_elf_obj.c."""
    types = image[0].types
    both = [name for name in types.types.user_types if name == "elf_file" or name.startswith("elf_file__")]
    assert len(both) == 2
    assert {types.has_member(name, "progtab") for name in both} == {True, False}


def test_anonymous_members_count_as_the_structures_own(image: tuple[KernelImage, str]) -> None:
    types = image[0].types
    assert types.has_member("vnode", "v_mountedhere")
    assert "v_mountedhere" not in types.types.user_types["vnode"]["fields"]


def test_no_member_loses_its_type_however_deep_it_is_reached(image: tuple[KernelImage, str]) -> None:
    """Every structure leads to every other; what a member is must not depend on the way to it."""
    types = image[0].types
    assert types.member("pcpu", "pc_curthread").type["subtype"]["name"] == "thread"
    assert types.member("namecache", "nc_dvp").type["subtype"]["name"] == "vnode"
    assert types.member("threadqueue", "tqh_first").type["subtype"]["name"] == "thread"
    plain = [
        f"{name}.{member}"
        for name, definition in types.types.user_types.items()
        for member, field in definition["fields"].items()
        if field["type"] == {"kind": "base", "name": "void"}
    ]
    assert plain == []
    assert not any(name.startswith(("filedesc__", "selinfo__", "knlist__")) for name in types.types.user_types)


@pytest.mark.parametrize("release", ["14", "15"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_wanted_types_are_those_of_all_types(release: str, arch: str) -> None:
    """With all that they embed, under the same names; types that share a wanted name come along."""
    everything = mini_kernel(release, arch)
    names = wanted_types()
    with kernel_file(release, arch).open("rb") as stream:
        reader = DwarfTypes(ELFFile(stream))
        reader.add_wanted(names)
    assert reader.types.pruned(names) == everything.types.types.pruned(names)
    assert len(reader.types.user_types) < len(everything.types.types.user_types) / 2
    assert {"elf_file", "elf_file__link_elf_obj"} <= reader.types.user_types.keys()
    for name in ("hz", "version", "allproc", "initproc", "vnet_entry_tcbinfo", "vnet_entry_ipforwarding"):
        assert reader.variables[name] == everything.variables[name], name
    # struct vmem is not wanted: of a pointer to it a pointer is left, of a structure of it there is nothing.
    assert reader.variables["kernel_arena"] == {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}
    assert "vmem" not in reader.types.user_types
    assert "thread_domain_data" in everything.variables
    assert "thread_domain_data" not in reader.variables


def test_a_module_is_read_like_the_kernel() -> None:
    """On amd64 it is an object file with relocations, elsewhere a shared object."""
    for arch in ("amd64", "arm64"):
        with build_module("15", arch).open("rb") as stream:
            reader = DwarfTypes(ELFFile(stream))
            reader.add_all()
        kernel = mini_kernel("15", arch).types.types
        assert reader.types.user_types["proc"] == kernel.user_types["proc"]
        assert reader.variables["vnet_entry_mini_connections"]["kind"] == "base"


def test_one_unit_alone() -> None:
    with kernel_file("15", "amd64").open("rb") as stream:
        reader = DwarfTypes(ELFFile(stream))
        units = dict(reader.units())
        reader.add(units["/usr/src/sys/mini/link_elf_obj.c"])
    assert "progtab" in reader.types.user_types["elf_file"]["fields"]
    assert "elf_file__link_elf_obj" not in reader.types.user_types
    assert reader.types.user_types["vnode"] == mini_kernel("15", "amd64").types.types.user_types["vnode"]


def test_dwarf_5_says_the_same_as_dwarf_4() -> None:
    path = kernel_file("15", "amd64")
    with build("15", "amd64", dwarf=5).open("rb") as stream:
        reader = DwarfTypes(ELFFile(stream))
        reader.add_all()
    types = mini_kernel("15", "amd64").types.types
    assert path.exists()
    assert reader.types.user_types == types.user_types
    assert reader.types.enums == types.enums


def test_pruning_keeps_what_is_embedded_and_cuts_pointers() -> None:
    types = mini_kernel("15", "amd64").types.types
    pruned = types.pruned(["proc", "no_such_type"])
    assert {"proc", "mtx", "rusage", "itimerval"} <= pruned.user_types.keys()
    assert "vmspace" not in pruned.user_types
    assert pruned.user_types["proc"]["fields"]["p_vmspace"]["type"] == {
        "kind": "pointer",
        "subtype": {"kind": "base", "name": "void"},
    }
    before, after = TypeTable(types), TypeTable(pruned)
    for member in types.user_types["proc"]["fields"]:
        assert before.offsetof("proc", member) == after.offsetof("proc", member)
    assert after.sizeof("struct proc") == 1368


def test_a_kernel_without_debug_information_is_refused() -> None:
    with pytest.raises(FormatError, match="no DWARF debug information"):
        DwarfTypes(ELFFile(io.BytesIO(elf_kernel({"hz": 1}, "amd64"))), "kernel")


def test_symbol_values() -> None:
    """Also of names that are the tail of other names; with duplicates the last one counts, as in libkvm."""
    data = elf_kernel({"hz": 1, "stathz": 2, "hzz": 3, "other_hz": 4}, "powerpc64")
    kernel = KernelFile(io.BytesIO(data), "kernel")
    assert kernel.architecture == "powerpc64"
    assert kernel.symbol_values(["hz", "stathz", "absent"]) == {"hz": 1, "stathz": 2}
    path = kernel_file("14", "arm64")
    image = mini_kernel("14", "arm64")
    names = ["allproc", "pagetable_l0_ttbr1", "version"]
    assert symbol_values(path, names) == {name: image.symbols[name] for name in names}


def test_stripped_and_foreign_files_are_refused() -> None:
    with pytest.raises(FormatError, match="no ELF kernel"):
        KernelFile(io.BytesIO(b"#!/bin/sh\n"), "rc")
