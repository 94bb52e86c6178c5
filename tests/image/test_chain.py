"""A chain of addresses ends, whatever the addresses are, and says how it ended."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatility3_freebsd_kvm.exceptions import BeyondEndError, NotMappedError
from volatility3_freebsd_kvm.image.chain import Chain

NAMED = st.integers(1, 40)
"""Few addresses, so that links often lead to what is there."""


def chain(first: int, links: Mapping[int, int], *, end: int = 0, limit: int = 100, alignment: int = 1) -> Chain:
    """A list whose first element is at ``first``; what has no entry in ``links`` cannot be read."""

    def following(address: int) -> int:
        if address not in links:
            raise NotMappedError(address)
        return links[address]

    return Chain(lambda: first, following, end=end, limit=limit, alignment=alignment)


@pytest.mark.parametrize(
    ("first", "links", "options", "found", "problem"),
    [
        (0, {}, {}, [], ""),
        (8, {8: 16, 16: 24, 24: 0}, {}, [8, 16, 24], ""),
        (8, {8: 16, 16: 24, 24: 8}, {}, [8, 16, 24], "loops back to 0x8 after 3 elements"),
        (8, {8: 8}, {}, [8], "loops back to 0x8 after 1 elements"),
        (8, {8: 16, 16: 24, 24: 16}, {}, [8, 16, 24], "loops back to 0x10 after 3 elements"),
        (8, {8: 16}, {}, [8, 16], "ends after 2 elements where address 0x10 is not mapped"),
        (8, {8: 17, 17: 0}, {"alignment": 8}, [8], "leads to the misaligned address 0x11 after 1 elements"),
        (9, {9: 0}, {"alignment": 8}, [], "leads to the misaligned address 0x9 after 0 elements"),
        (8, {8: 16, 16: 24, 24: 0}, {"limit": 2}, [8, 16], "is longer than 2 elements"),
        (8, {8: 16, 16: 24, 24: 0}, {"limit": 3}, [8, 16, 24], ""),
        (8, {8: 16, 16: 99}, {"end": 99}, [8, 16], ""),
        (99, {}, {"end": 99}, [], ""),
        (8, {8: 16, 16: 0}, {"end": 99}, [8, 16], ""),
    ],
)
def test_how_a_chain_ends(
    first: int, links: dict[int, int], options: dict[str, int], found: list[int], problem: str
) -> None:
    walked = chain(first, links, **options)
    assert walked.problem == ""
    assert (list(walked), walked.problem) == (found, problem)


def test_a_head_that_cannot_be_read() -> None:
    def first() -> int:
        raise BeyondEndError(0x20)

    walked = Chain(first, lambda address: 0)
    assert list(walked) == []
    assert walked.problem == "ends after 0 elements where address 0x20 is beyond the end of the file"


def test_elements_come_before_the_next_link_is_read() -> None:
    assert next(iter(chain(8, {}))) == 8


def expected(first: int, links: Mapping[int, int], end: int, limit: int, alignment: int) -> tuple[list[int], str]:
    """The elements and the first word of what is wrong, told in another way."""
    found: list[int] = []
    at = first
    while at not in (0, end):
        if at in found:
            return found, "loops"
        if at % alignment:
            return found, "leads"
        if len(found) == limit:
            return found, "is"
        found.append(at)
        if at not in links:
            return found, "ends"
        at = links[at]
    return found, ""


@given(
    st.integers(0, 40),
    st.dictionaries(NAMED, st.integers(0, 45), max_size=40),
    st.sampled_from([0, 7, 44]),
    st.integers(1, 50),
    st.sampled_from([1, 2, 4]),
)
def test_any_graph_ends_and_what_is_sound_comes_once(
    first: int, links: dict[int, int], end: int, limit: int, alignment: int
) -> None:
    walked = chain(first, links, end=end, limit=limit, alignment=alignment)
    found = list(walked)
    assert (found, walked.problem.partition(" ")[0]) == expected(first, links, end, limit, alignment)
    assert len(set(found)) == len(found) <= limit
