"""Whatever a dump says of processes, every walk over them ends without an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bsd.process_damage import Changes, nowhere, structs_of
from tests.bsd.process_truth import PROCESSES, address_of
from tests.scenario.kernels import build_world
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm.bsd.arguments import argument_records, environment_records
from volatility3_freebsd_kvm.bsd.credentials import credential_records
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.process import process_records
from volatility3_freebsd_kvm.bsd.process_tree import process_tree
from volatility3_freebsd_kvm.bsd.process_views import process_views
from volatility3_freebsd_kvm.bsd.thread import thread_records

WALKS: list[Callable[[Kernel], Iterable[Any]]] = [
    process_records,
    process_tree,
    process_views,
    thread_records,
    credential_records,
    argument_records,
    environment_records,
]
KINDS = ("proc", "thread", "ucred", "pgrp", "session", "pargs", "prison", "loginclass")
ROOTS = (
    "allproc",
    "pidhashtbl",
    "pidhash",
    "pgrphashtbl",
    "tidhash",
    "timehands",
    "allprison",
    "nprocs",
    "ticks",
    "hz",
)


@pytest.fixture(scope="module", params=["12.1-i386", "15-amd64"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def objects(name: str) -> list[tuple[int, int]]:
    """``(address, size)`` of what is damaged."""
    world, structs = build_world(name), structs_of(name)
    found = [(int(one), structs.size(kind)) for kind in KINDS for one in world.all(kind).values()]
    return found + [(walkable(name).address(root), structs.word_size) for root in ROOTS]


def draw_changes(name: str, data: st.DataObject) -> Changes:
    structs = structs_of(name)
    word = structs.word_size
    places = objects(name)
    values = st.one_of(
        st.sampled_from([0, 1, nowhere(name), *(address for address, _ in places)]),
        st.sampled_from([address_of(name, "proc", pid) + word for pid in PROCESSES]),
        st.integers(0, (1 << 8 * word) - 1),
    )
    changes: Changes = {}
    for _ in range(data.draw(st.integers(1, 30))):
        address, size = data.draw(st.sampled_from(places))
        at = data.draw(st.integers(0, max(size // word - 1, 0)))
        changes[address + at * word] = data.draw(values).to_bytes(word, structs.byteorder)
    return changes


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_walk_ends(name: str, data: st.DataObject) -> None:
    kernel = damaged(name, draw_changes(name, data))
    for walk in WALKS:
        for record in walk(kernel):
            assert record is not None
