"""Linker files and modules by all the lists that know of them."""

from __future__ import annotations

import pytest

from tests.bsd.kernel_variants import NOWHERE, Patch, nowhere, without_symbols, without_types
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd import linker
from volatility3_freebsd_kvm.bsd.linker import Kld, Module
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

SOME = ("12.1-amd64", "12.1-i386", "15-arm64", "14-powerpc64")
"""Kernels for what is the same on all of them."""
NAMES = {item.id: item.name for item in SYSTEM.linker_files}
MODULES = [(item.id, number, name) for item in SYSTEM.linker_files for number, name in item.modules]


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    """One kernel after the other: each has to be built."""
    return str(request.param)


def address(kernel: str, kind: str, key: object) -> int:
    return int(build_world(kernel).get(kind, key))


def files_of(kernel) -> list[Kld]:
    return [item for item in linker.files(kernel) if isinstance(item, Kld)]


def modules_of(kernel) -> list[Module]:
    return [item for item in linker.modules(kernel) if isinstance(item, Module)]


def problems_of(records) -> list[str]:
    return [str(item) for item in records if isinstance(item, Problem)]


# The truth


def test_files(kernel: str):
    found = list(linker.files(walkable(kernel)))
    assert all(isinstance(item, Kld) for item in found)
    assert [item.file.id for item in found] == list(NAMES)
    for order, (item, truth) in enumerate(zip(found, SYSTEM.linker_files, strict=True), 1):
        file = item.file
        assert file.address == address(kernel, "linker_file", truth.id)
        assert (file.filename, file.pathname, file.refs) == (truth.name, truth.path, truth.references)
        assert (file.userrefs, file.loadcnt, file.flags) == (0 if truth.id == 1 else 1, order, 3)
        assert item.dependencies == tuple(NAMES[key] for key in truth.dependencies)
        assert item.modules == tuple(name for _, name in truth.modules)
        assert item.notes == ()
        if truth.id != 1:
            assert file.size == truth.size
            assert item.symbols == len(truth.symbols) + len(truth.vnet_variables) + len(truth.dpcpu_variables)
    version = walkable(kernel).address("version")
    assert found[0].file.base <= version < found[0].file.base + found[0].file.size
    assert found[0].symbols == len(walkable(kernel).names.symbols)


def test_classes_tell_the_two_kinds_of_files_apart(kernel: str):
    bits = 32 if kernel.endswith(("-i386", "-arm")) else 64
    module = f"elf{bits}_obj" if kernel.endswith("-amd64") else f"elf{bits}"
    assert [item.file.class_name for item in files_of(walkable(kernel))] == [f"elf{bits}", module, module]


def test_modules(kernel: str):
    found = list(linker.modules(walkable(kernel)))
    assert [(item.file, item.id, item.name) for item in found] == [
        (address(kernel, "linker_file", key), number, name) for key, number, name in MODULES
    ]
    for item, (key, number, _) in zip(found, MODULES, strict=True):
        assert item.address == address(kernel, "module", number)
        assert (item.refs, item.version, item.argument, item.notes) == (1, 1, 0, ())
        assert item.file_name == NAMES[key]


def test_handlers_of_modules_are_named(kernel: str):
    handlers = {item.name: item.handler_symbol for item in modules_of(walkable(kernel))}
    assert handlers["if_epair"] == "if_epair.ko!epair_start"
    assert handlers["nullfs"] == "nullfs.ko!nullfs_mount"


# What is hidden from some of the lists


def test_file_that_is_not_in_linker_files(name: str):
    """nullfs.ko, the last file, is unlinked as a rootkit would do it: both neighbours and the tail are right."""
    epair, nullfs = address(name, "linker_file", 2), address(name, "linker_file", 4)
    patch = Patch(name)
    patch.member("linker_file", epair, "link.tqe_next", 0)
    head = walkable(name).address("linker_files")
    at_link = walkable(name).structs.offset("linker_file", "link")
    patch.pointer(head + patch.word, epair + at_link)
    kernel = damaged(name, patch)
    found = list(linker.files(kernel))
    assert [item.file.id for item in found] == [1, 2, 4]
    assert found[2].file.address == nullfs
    assert found[2].file.filename == "nullfs.ko"
    assert found[2].modules == ("nullfs",)
    assert found[2].notes == ("not in linker_files: only module nullfs, nullfs of found_modules leads to it",)
    module = modules_of(kernel)[-1]
    assert (module.name, module.file_name) == ("nullfs", "nullfs.ko")
    assert module.notes == (
        "not in its file's list of modules",
        "its file is not in linker_files",
        "its handler is in no known code",
    )


def test_module_that_only_its_files_list_has(name: str):
    before, nullfs = address(name, "module", 400), address(name, "module", 401)
    patch = Patch(name).member("module", before, "link.tqe_next", 0)
    found = modules_of(damaged(name, patch))
    assert [item.name for item in found] == [name for _, _, name in MODULES]
    assert (found[-1].address, found[-1].notes) == (nullfs, ("not in modules: only its file's list has it",))


def test_module_that_its_files_list_lacks(name: str):
    lf = address(name, "linker_file", 4)
    patch = Patch(name).first(lf + walkable(name).structs.offset("linker_file", "modules"), 0)
    kernel = damaged(name, patch)
    assert files_of(kernel)[2].modules == ()
    assert modules_of(kernel)[-1].notes == ("not in its file's list of modules",)


def test_module_of_another_file_than_its_list_is_of(name: str):
    patch = Patch(name).member("module", address(name, "module", 401), "file", address(name, "linker_file", 1))
    found = modules_of(damaged(name, patch))[-2]
    assert (found.name, found.file_name) == ("nullfs", "kernel")
    assert found.notes == ("it is in the list of nullfs.ko", "not in found_modules")


def test_version_without_a_module_is_shown(name: str):
    """Modules have names of their own; MODULE_VERSION may name what is none."""
    patch = Patch(name)
    text = patch.room(16)
    patch.text(text, b"acpi\0").member("modlist", address(name, "modlist", "ufs"), "name", text)
    patch.member("modlist", address(name, "modlist", "ufs"), "version", 3)
    found = modules_of(damaged(name, patch))
    assert found[2].notes == ("not in found_modules",)
    assert found[2].version is Absent.NOT_AVAILABLE
    last = found[-1]
    assert (last.address, last.name, last.version, last.file_name) == (None, "acpi", 3, "kernel")
    assert last.notes == ("in found_modules only: a version, not a module",)


def test_drivers_modules_are_found_by_their_name_without_the_bus(name: str):
    patch = Patch(name)
    text = patch.room(16)
    patch.text(text, b"pci/ufs\0").member("module", address(name, "module", 3), "name", text)
    found = modules_of(damaged(name, patch))[2]
    assert (found.name, found.version, found.notes) == ("pci/ufs", 1, ())


def test_handler_outside_of_all_files(name: str):
    patch = Patch(name)
    code = patch.room(64)
    patch.member("module", address(name, "module", 401), "handler", code)
    found = modules_of(damaged(name, patch))[-1]
    assert (found.handler, found.handler_symbol) == (code, "")
    assert found.notes == ("its handler is in no known code",)


def test_handler_that_is_data(name: str):
    patch = Patch(name).member("module", address(name, "module", 401), "handler", walkable(name).address("prison0"))
    found = modules_of(damaged(name, patch))[-1]
    assert (found.handler_symbol, found.notes) == ("kernel!prison0", ("its handler is data",))


# Damage


def test_looped_list_of_files(name: str):
    first, last = address(name, "linker_file", 1), address(name, "linker_file", 4)
    kernel = damaged(name, Patch(name).member("linker_file", last, "link.tqe_next", first))
    found = list(linker.files(kernel))
    assert [item.file.id for item in found[:3]] == [1, 2, 4]
    assert problems_of(found) == [f"linker_files: the list of files loops back to {first:#x} after 3 files"]


def test_looped_list_of_modules(name: str):
    first, last = address(name, "module", 1), address(name, "module", 401)
    kernel = damaged(name, Patch(name).member("module", last, "link.tqe_next", first))
    found = list(linker.modules(kernel))
    assert [item.name for item in found[:5]] == [name for _, _, name in MODULES]
    assert problems_of(found) == [f"modules: loops back to {first:#x} after 5 elements"]


def test_list_of_versions_into_nowhere(name: str):
    patch = Patch(name).member("modlist", address(name, "modlist", "ufs"), "link.tqe_next", NOWHERE)
    found = list(linker.modules(damaged(name, patch)))
    assert [item.version for item in found[:5]] == [1, 1, 1, Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE]
    assert problems_of(found) == [
        "found_modules: 0x10 cannot be read",
        f"found_modules: ends after 4 elements where address 0x10 {nowhere(name)}",
    ]


def test_module_with_wild_pointers(name: str):
    module = address(name, "module", 401)
    patch = Patch(name).member("module", module, "name", NOWHERE).member("module", module, "file", NOWHERE)
    found = modules_of(damaged(name, patch))[-2]
    assert (found.id, found.name, found.file, found.file_name) == (401, Absent.UNREADABLE, NOWHERE, "0x10")
    assert found.notes == (
        "it is in the list of nullfs.ko",
        "its file is not in linker_files",
        "not in found_modules",
    )


def test_two_billion_dependencies(name: str):
    patch = Patch(name).member("linker_file", address(name, "linker_file", 2), "ndeps", 0x7FFFFFFF)
    found = files_of(damaged(name, patch))[1]
    assert (found.dependencies, found.notes) == ((), ("2147483647 dependencies are impossible",))


def test_unterminated_name(name: str):
    patch = Patch(name)
    text = patch.room(8192)
    patch.text(text, b"x" * 8192).member("module", address(name, "module", 401), "name", text)
    assert modules_of(damaged(name, patch))[-2].name == "x" * 256


def test_kernels_file_that_is_not_listed(name: str):
    patch = Patch(name).pointer(walkable(name).address("linker_kernel_file"), address(name, "module", 1))
    found = list(linker.files(damaged(name, patch)))
    assert problems_of(found) == [
        f"linker_kernel_file: the kernel's own file {address(name, 'module', 1):#x} is not in linker_files"
    ]


def test_file_whose_loading_failed(name: str):
    patch = Patch(name).member("linker_file", address(name, "linker_file", 4), "flags", 2)
    assert files_of(damaged(name, patch))[2].notes == ("not linked: loading has not finished or has failed",)


# What is not known


def test_without_types():
    advice = "a kernel file with type information (--freebsd-kernel) would tell them"
    assert problems_of(linker.files(without_types("15-amd64"))) == [
        f"linker_files: the types of this kernel lack linker_file.link; {advice}"
    ]
    assert problems_of(linker.modules(without_types("15-amd64"))) == [
        f"modules: the types of this kernel lack linker_file.link, module.link, module.flink; {advice}"
    ]


def test_without_the_static_symbols():
    """A stripped kernel: linker_kernel_file leads to the list of files, and their own lists to the modules."""
    kernel = without_symbols(walkable("15-amd64"), "linker_files", "modules", "found_modules")
    found = list(linker.modules(kernel))
    assert [item.name for item in found[:5]] == [name for _, _, name in MODULES]
    assert {item.notes for item in found[:5]} == {("not in modules: only its file's list has it",)}
    assert problems_of(found) == [
        "modules: the kernel and its modules have no symbol modules",
        "found_modules: the kernel and its modules have no symbol found_modules",
    ]
