"""The kernel environment: what is in force, and what the loader left."""

from __future__ import annotations

import pytest

from tests.bsd.kernel_variants import NOWHERE, Patch, nowhere, without_symbols, without_types
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd import kenv
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.records import Problem

SOME = ("12.1-amd64", "12.1-i386", "15-arm64", "14-powerpc64")


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    """One kernel after the other: each has to be built."""
    return str(request.param)


def environment(kernel: Kernel) -> list[kenv.Variable]:
    return [item for item in kenv.variables(kernel) if isinstance(item, kenv.Variable)]


def problems(kernel: Kernel) -> list[str]:
    return [str(item) for item in kenv.variables(kernel) if isinstance(item, Problem)]


def test_kenv(kernel: str):
    items = list(kenv.variables(walkable(kernel)))
    assert [(item.name, item.value) for item in items] == list(SYSTEM.kenv.items())
    assert {(item.sources, item.notes) for item in items} == {(("kenvp", "md_envp", "kern_envp"), ())}
    array = int(walkable(kernel).pointer("kenvp"))
    word = walkable(kernel).structs.word_size
    assert [item.address for item in items] == [
        walkable(kernel).structs.pointer(array + index * word) for index in range(len(items))
    ]


def test_kenv_needs_no_types(name: str):
    assert {item.name: item.value for item in environment(without_types(name))} == SYSTEM.kenv


def test_variables_that_only_the_loader_set_or_that_were_changed(name: str):
    patch = Patch(name)
    block = patch.room(64)
    patch.text(block, b"currdev=disk1p2:\0gone=1\0hostid=0x12345678\0\0")
    patch.pointer(walkable(name).address("md_envp"), block).pointer(walkable(name).address("kern_envp"), 0)
    items = {(item.name, item.value): item for item in environment(damaged(name, patch))}
    assert items["hostid", "0x12345678"].sources == ("kenvp", "md_envp")
    assert items["currdev", "disk0p2:"].sources == ("kenvp",)
    changed_, gone = items["currdev", "disk1p2:"], items["gone", "1"]
    assert (changed_.sources, changed_.notes) == (("md_envp",), ("another value is in force",))
    assert (gone.sources, gone.address, gone.notes) == (("md_envp",), block + 17, ("not in force: it was unset",))


def test_kernel_that_was_still_starting(name: str):
    patch = Patch(name).number(walkable(name).address("dynamic_kenv"), 0, 1 if name[:2] > "12" else 4)
    kernel = damaged(name, patch)
    assert [(item.name, item.sources) for item in environment(kernel)] == [
        (one, ("md_envp", "kern_envp")) for one in SYSTEM.kenv
    ]
    assert problems(kernel) == ["kenvp: not made yet: the kernel was still starting"]


def test_kenv_without_symbols(name: str):
    kernel = without_symbols(walkable(name), "kenvp", "md_envp", "kern_envp")
    assert problems(kernel) == ["kenvp: the kernel and its modules have no symbol kenvp"]
    assert environment(kernel) == []


def test_kenv_with_wild_strings(name: str):
    patch = Patch(name)
    array = int(walkable(name).pointer("kenvp"))
    endless, plain = patch.room(8192), patch.room(16)
    patch.text(endless, b"a=" + b"x" * 8190).text(plain, b"no value\0")
    for index, value in enumerate((NOWHERE, endless, plain, plain)):
        patch.pointer(array + index * patch.word, value)
    patch.pointer(walkable(name).address("md_envp"), 0).pointer(walkable(name).address("kern_envp"), 0)
    kernel = damaged(name, patch)
    assert problems(kernel) == [f"kenvp: a string cannot be read: address 0x10 {nowhere(name)}"]
    first, second, third = environment(kernel)
    assert (first.name, len(first.value), first.notes) == ("a", 4094, ("cut after 4096 characters",))
    assert (second.name, second.value, second.notes) == ("no value", "", ("more than once",))
    assert third.name == "currdev"


def test_kenv_without_an_end(name: str):
    patch = Patch(name)
    array, plain = patch.room(2048 * patch.word), patch.room(16)
    patch.text(plain, b"a=b\0").pointer(walkable(name).address("kenvp"), array)
    for index in range(2048):
        patch.pointer(array + index * patch.word, plain)
    kernel = damaged(name, patch)
    assert problems(kernel) == ["kenvp: has more than 1024 variables"]
    assert [(item.name, item.notes) for item in environment(kernel) if item.sources == ("kenvp",)] == [
        ("a", ("more than once",))
    ]
