"""The layer of a process: other people's plugins read, map, scan, copy and save it as any other."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from volatility3.framework import contexts, exceptions, interfaces
from volatility3.framework.automagic import construct_layers
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import scanners

from tests import framework
from tests.scenario.build_vm import stack_of
from tests.scenario.kernels import build_world
from tests.scenario.processes import HEAP, MARKER, SHADOWED
from tests.scenario.system import SYSTEM
from tests.scenario.user_memory import STACK, address
from tests.scenario_dumps import write_dump
from volatility3_freebsd_kvm.layers.process import FreeBSDProcessLayer

VNETS = "freebsd.kvm.vnets.Vnets"
CSH, KERNEL, ZOMBIE = 850, 11, 864
PAGE = 4096


class Made(NamedTuple):
    """The layer of csh and what it stands in."""

    name: str
    stack: framework.Stack
    processes: dict[int, Any]
    layer: FreeBSDProcessLayer

    def at(self, va: int) -> int:
        return address(va, build_world(self.name).memory.machine.word_bits)


def processes_of(stack: framework.Stack) -> dict[int, Any]:
    module = stack.context.modules[str(stack.plugin.config["kernel"])]
    head = module.object_from_symbol("allproc")
    return {int(proc.p_pid): proc for proc in head.to_list("proc", "p_list")}


@pytest.fixture(scope="module", params=["12.1-i386", "13.0-amd64", "14-riscv", "15-amd64", "15-arm64"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    dump, kernel = write_dump(request.param, tmp_path_factory.mktemp("dump"), "full")
    stack = framework.stack(dump, VNETS, kernel=kernel)
    processes = processes_of(stack)
    name = processes[CSH].add_process_layer()
    return Made(request.param, stack, processes, stack.context.layers[name])


def test_the_layer_has_the_usual_name_and_is_made_once(made: Made) -> None:
    assert made.layer.name == f"{made.stack.kernel.name}_Process{CSH}"
    assert made.processes[CSH].add_process_layer() == made.layer.name
    other = made.processes[CSH].add_process_layer(config_prefix="mine", preferred_name="other")
    assert other == "other"
    assert made.stack.context.layers[other].config_path == "mine.other"
    assert made.processes[1].add_process_layer(preferred_name="other") == "other_1"
    assert made.stack.context.layers["other_1"].read(made.at(0x200000), 4) == b"\x7fELF"


def test_who_has_no_memory_has_no_layer(made: Made) -> None:
    assert made.processes[KERNEL].add_process_layer() is None
    assert made.processes[0].add_process_layer() is None


def test_a_minidump_has_no_layers_of_processes(tmp_path: Any) -> None:
    dump, kernel = write_dump("15-amd64", tmp_path)
    assert processes_of(framework.stack(dump, VNETS, kernel=kernel))[CSH].add_process_layer() is None


def check_reading(layer: Any, made: Made) -> None:
    heap = made.at(HEAP)
    assert layer.read(heap, len(MARKER)) == MARKER
    assert layer.read(heap + PAGE - 2, 2 + len(SHADOWED)) == b"\0\0" + SHADOWED
    with pytest.raises(exceptions.PagedInvalidAddressException) as caught:
        layer.read(heap + PAGE, 2 * PAGE)
    assert caught.value.invalid_address == heap + 2 * PAGE
    assert str(caught.value).endswith("is swapped out (swap block 0x1234)")
    assert layer.read(heap + 2 * PAGE - 1, PAGE + 4, pad=True) == bytes(PAGE + 1) + b"the"


def test_reading(made: Made) -> None:
    check_reading(made.layer, made)


def test_writing_is_refused(made: Made) -> None:
    with pytest.raises(exceptions.LayerException, match="cannot be written"):
        made.layer.write(made.at(HEAP), b"x")


def test_validity(made: Made) -> None:
    heap = made.at(HEAP)
    assert made.layer.is_valid(heap)
    assert made.layer.is_valid(heap, 2 * PAGE)
    assert not made.layer.is_valid(heap, 2 * PAGE + 1)
    assert not made.layer.is_valid(heap + 2 * PAGE)
    assert not made.layer.is_valid(0)
    assert not made.layer.is_valid(made.layer.maximum_address + 1)


def test_mapping_leads_to_physical_memory(made: Made) -> None:
    heap = made.at(HEAP)
    memory = made.stack.memory
    found = list(made.layer.mapping(heap, 4 * PAGE, ignore_errors=True))
    assert [(one[0], one[1]) for one in found] == [(heap, PAGE), (heap + PAGE, PAGE), (heap + 3 * PAGE, PAGE)]
    assert {one[4] for one in found} == {memory.name}
    contents = [memory.read(one[2], 20) for one in found]
    assert contents == [MARKER[:20], SHADOWED[:20], b"the last page of the"]
    assert [one[:2] for one in made.layer.mapping(heap + 5, 0)] == [(heap + 5, 0)]
    with pytest.raises(exceptions.PagedInvalidAddressException):
        list(made.layer.mapping(heap, 4 * PAGE))
    with pytest.raises(exceptions.PagedInvalidAddressException):
        list(made.layer.mapping(heap + 2 * PAGE, 0))
    assert made.layer.translate(heap + 3)[0] == found[0][2] + 3


def test_scanning_finds_what_lies_across_a_border(made: Made) -> None:
    heap = made.at(HEAP)
    scan = made.layer.scan(
        made.stack.context,
        scanners.BytesScanner(SHADOWED),
        sections=made.processes[CSH].get_process_memory_sections(),
    )
    assert list(scan) == [heap + PAGE]
    border = scanners.BytesScanner(b"\0" + SHADOWED)
    assert list(made.layer.scan(made.stack.context, border)) == [heap + PAGE - 1]


def test_the_stack_is_at_its_place(made: Made) -> None:
    process = next(one for one in SYSTEM.processes if one.pid == CSH)
    content = stack_of(build_world(made.name), process).content
    assert made.layer.read(made.at(STACK) - len(content), len(content)) == content


def test_sections(made: Made) -> None:
    process = next(one for one in SYSTEM.processes if one.pid == CSH)
    mapped = [(made.at(one.start), one.end - one.start) for one in process.vm_entries if not one.guard]
    assert list(made.processes[CSH].get_process_memory_sections()) == sorted(mapped)
    heap = [(made.at(HEAP), 4 * PAGE), (made.at(0x801300000), PAGE)]
    assert list(made.processes[CSH].get_process_memory_sections(heap_only=True)) == heap
    assert list(made.processes[KERNEL].get_process_memory_sections()) == []


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context)), lambda context: context.clone()],
    ids=["deepcopy", "pickle", "clone"],
)
def test_copies_of_a_context_read_the_same(
    made: Made, duplicate: Callable[[contexts.Context], contexts.Context]
) -> None:
    made.layer.read(made.at(HEAP), 1)  # the dump is open
    again = duplicate(made.stack.context)
    assert again.layers[made.layer.name] is not made.layer
    check_reading(again.layers[made.layer.name], made)


def test_a_saved_configuration_gives_the_same_layer(made: Made) -> None:
    saved = json.loads(json.dumps(dict(made.layer.build_configuration())))
    context = contexts.Context()
    context.config.splice("other.process", interfaces.configuration.HierarchicalDict(saved))
    context.config["other.process.class"] = "volatility3_freebsd_kvm.layers.process.FreeBSDProcessLayer"
    requirement = requirements.TranslationLayerRequirement(name="process")
    assert construct_layers.ConstructionMagic(context, "automagic")(context, "other", requirement) == []
    layer = context.layers[str(context.config["other.process"])]
    check_reading(layer, made)
    assert dict(layer.build_configuration()) == saved


def test_a_process_that_is_gone_says_so(made: Made, tmp_path: Any) -> None:
    """The configuration of one dump with another."""
    path = "broken.process"
    for key in ("memory_layer", "kernel_layer", "symbol_table_name"):
        made.stack.context.config[f"{path}.{key}"] = made.layer.config[key]
    made.stack.context.config[f"{path}.process"] = 0x1000
    layer = FreeBSDProcessLayer(made.stack.context, path, "broken")
    with pytest.raises(exceptions.LayerException, match="cannot be read: address 0x"):
        layer.read(0x1000, 1)
