"""Queues, hash tables and trees: any walk ends, gives what is sound once, and says what is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_memory import Memory, base, c_types, of, pointer, struct
from volatility3_freebsd_kvm.bsd.lists import MAX_BUCKETS, MAX_PROBLEMS, HashTable, Queue, RedBlackTree
from volatility3_freebsd_kvm.exceptions import SymbolError
from volatility3_freebsd_kvm.image.structs import Structs

HEAD, WORD, LINK = 0x100, 8, 16
FIRST, STEP = 0x100000, 0x40
SHAPES = {
    "LIST": ("le_next", "le_prev"),
    "TAILQ": ("tqe_next", "tqe_prev"),
    "STAILQ": ("stqe_next",),
    "SLIST": ("sle_next",),
}
DOUBLE = ("LIST", "TAILQ")
TREES = {
    "12": {"rbe_left": 0, "rbe_right": 8, "rbe_parent": 16, "rbe_color": 24},
    "14": {"rbe_link": 0},
}


def element(number: int) -> int:
    return FIRST + STEP * number


def structs_over(memory: Memory, shape: str = "LIST") -> Structs:
    word = memory.word_size
    names = SHAPES.get(shape, ())
    types = c_types(
        memory,
        link=struct(
            word * len(names), **{name: (word * index, pointer(of("item"))) for index, name in enumerate(names)}
        ),
        item=struct(64, number=(0, base("int")), link=(LINK, of("link"))),
    )
    return memory.structs(types)


def linked(memory: Memory, count: int, shape: str = "LIST", head: int = HEAD) -> Memory:
    """A list of elements 0, 1, …, each with its number."""
    memory.number(head, element(0) if count else 0)
    if shape == "TAILQ":
        memory.number(head + memory.word_size, element(count - 1) + LINK if count else head)
    for number in range(count):
        place = memory.put(element(number), bytes(64)).number(element(number), number, 4)
        place.number(element(number) + LINK, element(number + 1) if number + 1 < count else 0)
        if shape in DOUBLE:
            back = element(number - 1) + LINK if number else head
            place.number(element(number) + LINK + memory.word_size, back)
    return memory


def walk(memory: Memory, shape: str = "LIST", **options: int) -> tuple[list[int], list[str]]:
    queue = Queue(structs_over(memory, shape), HEAD, "item", "link", **options)
    found = [item.number for item in queue]
    return found, queue.problems


# Queues


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("word_size", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_queues_of_each_shape(shape: str, count: int, word_size: int, byteorder: str) -> None:
    assert walk(linked(Memory(word_size, byteorder), count, shape), shape) == (list(range(count)), [])


def test_elements_are_objects_of_the_type() -> None:
    structs = structs_over(linked(Memory(), 2))
    queue = Queue(structs, HEAD, "item", "link")
    assert [(one.type_, one.address_) for one in queue] == [("item", element(0)), ("item", element(1))]
    assert list(Queue(structs, HEAD, "item", "link").addresses()) == [element(0), element(1)]


@pytest.mark.parametrize(("type_name", "link"), [("item", "nothing"), ("nothing", "link")])
def test_a_queue_of_what_is_not_known(type_name: str, link: str) -> None:
    structs = structs_over(Memory())
    for kind in (Queue, RedBlackTree):
        with pytest.raises(SymbolError, match=f"no member {link} in struct {type_name}$"):
            kind(structs, HEAD, type_name, link)
    table = HashTable(structs, HEAD, 0, type_name, link)
    assert list(table) == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("link", "found", "problem"),
    [
        (element(0), [0, 1, 2], f"loops back to {element(0):#x} after 3 elements"),
        (element(2), [0, 1, 2], f"loops back to {element(2):#x} after 3 elements"),
        (element(1) + 4, [0, 1, 2], f"leads to the misaligned address {element(1) + 4:#x} after 3 elements"),
        (0xDEAD0000, [0, 1, 2], f"ends after 4 elements where address {0xDEAD0000 + LINK:#x} is not mapped"),
    ],
)
def test_a_wrong_link_ends_a_queue(shape: str, link: int, found: list[int], problem: str) -> None:
    memory = linked(Memory(), 5, shape).number(element(2) + LINK, link)
    queue = Queue(structs_over(memory, shape), HEAD, "item", "link", check_back=False)
    walked = list(queue.addresses())
    # What is not there is an element all the same: who reads its members is told.
    assert walked == [element(number) for number in found] + ([link] if link == 0xDEAD0000 else [])
    assert queue.problems == [problem]


def test_a_head_that_cannot_be_read() -> None:
    assert walk(Memory()) == ([], [f"ends after 0 elements where address {HEAD:#x} is not mapped"])


def test_a_queue_that_is_too_long() -> None:
    memory = linked(Memory(), 5)
    assert walk(memory, limit=4) == ([0, 1, 2, 3], ["is longer than 4 elements"])
    assert walk(memory, limit=5) == ([0, 1, 2, 3, 4], [])


@pytest.mark.parametrize("shape", DOUBLE)
def test_a_wrong_link_back_ends_nothing(shape: str) -> None:
    memory = linked(Memory(), 4, shape).number(element(2) + LINK + WORD, 0x5550)
    problem = f"the link back of {element(2):#x} leads to 0x5550, not to {element(1) + LINK:#x}"
    assert walk(memory, shape) == ([0, 1, 2, 3], [problem])
    queue = Queue(structs_over(memory, shape), HEAD, "item", "link", check_back=False)
    assert ([item.number for item in queue], queue.problems) == ([0, 1, 2, 3], [])


def test_an_element_that_was_unlinked_by_its_neighbour_only_is_noticed() -> None:
    memory = linked(Memory(), 4).number(element(0) + LINK, element(2))
    problem = f"the link back of {element(2):#x} leads to {element(1) + LINK:#x}, not to {element(0) + LINK:#x}"
    assert walk(memory) == ([0, 2, 3], [problem])


def test_problems_are_bounded() -> None:
    count = MAX_PROBLEMS + 10
    memory = linked(Memory(), count)
    for number in range(count):
        memory.number(element(number) + LINK + WORD, 0x5550)
    memory.number(element(count - 1) + LINK, element(0))
    found, problems = walk(memory)
    assert found == list(range(count))
    assert len(problems) == MAX_PROBLEMS + 2
    assert problems[MAX_PROBLEMS:] == [
        "has more problems, which are not told",
        f"loops back to {element(0):#x} after {count} elements",
    ]


ELEMENTS = st.integers(0, 9)
ANYWHERE = st.one_of(
    st.just(0), ELEMENTS.map(element), st.sampled_from([3, element(3) + 1, 0xDEAD0000, (1 << 64) - 8, HEAD])
)


def graph(links: Mapping[int, tuple[int, int]], head: int) -> Memory:
    memory = Memory().number(HEAD, head)
    for number, (following, back) in links.items():
        memory.put(element(number), bytes(64)).number(element(number), number, 4)
        memory.number(element(number) + LINK, following).number(element(number) + LINK + WORD, back)
    return memory


@given(ANYWHERE, st.dictionaries(ELEMENTS, st.tuples(ANYWHERE, ANYWHERE)), st.integers(1, 12))
def test_any_graph_of_links_ends(head: int, links: dict[int, tuple[int, int]], limit: int) -> None:
    memory = graph(links, head)
    queue = Queue(structs_over(memory), HEAD, "item", "link", limit=limit)
    walked = list(queue.addresses())
    assert len(walked) == len(set(walked)) <= limit
    # What was given is the path that the links make, as far as it goes.
    at = head
    for address in walked:
        assert address == at
        at = links[(at - FIRST) // STEP][0] if (at - FIRST) // STEP in links and not (at - FIRST) % STEP else 0
    sound = all(address in {element(number) for number in links} for address in walked) and at == 0
    assert not sound or all(one.startswith("the link back") for one in queue.problems)
    assert sound or queue.problems


# Hash tables


def table_of(
    chains: Iterable[Iterable[int]], step: int = WORD, word_size: int = 8, byteorder: str = "little"
) -> Memory:
    """Heads from HEAD on; a chain is the numbers of its elements."""
    memory = Memory(word_size, byteorder)
    for bucket, chain in enumerate(chains):
        slot = HEAD + bucket * step
        memory.put(slot, bytes(step))
        for number in chain:
            memory.number(slot, element(number))
            memory.put(element(number), bytes(64)).number(element(number), number, 4)
            memory.number(element(number) + LINK + word_size, slot)
            slot = element(number) + LINK
    return memory


def elements_of(table: HashTable) -> tuple[list[int], list[str]]:
    return [item.number for item in table], table.problems


@pytest.mark.parametrize(("word_size", "byteorder"), [(8, "little"), (8, "big"), (4, "little"), (4, "big")])
@pytest.mark.parametrize("step", [0, 40])
def test_all_chains_of_a_hash_table(step: int, word_size: int, byteorder: str) -> None:
    memory = table_of([[], [3, 1], [], [7], []], step or word_size, word_size, byteorder)
    table = HashTable(structs_over(memory), HEAD, 5, "item", "link", bucket_size=step)
    assert elements_of(table) == ([3, 1, 7], [])


def test_large_tables_are_read_in_large_pieces() -> None:
    count = 5000
    memory = table_of([[1]] + [[]] * (count - 2) + [[2]])
    memory.reads.clear()
    assert elements_of(HashTable(structs_over(memory), HEAD, count, "item", "link")) == ([1, 2], [])
    assert len(memory.reads) < 30


@pytest.mark.parametrize("buckets", [-1, MAX_BUCKETS + 1, 1 << 64, 0xFFFFFFFFFFFFFFFF + 1])
def test_absurd_masks(buckets: int) -> None:
    table = HashTable(structs_over(Memory()), HEAD, buckets, "item", "link")
    assert elements_of(table) == ([], [f"{buckets} hash chains are impossible"])


def test_a_table_that_is_not_there() -> None:
    found, problems = elements_of(HashTable(structs_over(Memory()), HEAD, MAX_BUCKETS, "item", "link"))
    assert found == []
    assert problems[0] == f"chain 0: ends after 0 elements where address {HEAD:#x} is not mapped"
    assert len(problems) == MAX_PROBLEMS + 2
    assert problems[-1] == "too many problems, the rest of the table is left out"


def test_a_table_of_which_a_part_is_not_there() -> None:
    memory = table_of([[1], [], [2]])
    problem = f"chain 3: ends after 0 elements where address {HEAD + 3 * WORD:#x} is not mapped"
    assert elements_of(HashTable(structs_over(memory), HEAD, 4, "item", "link")) == ([1, 2], [problem])


def test_a_chain_with_a_loop_does_not_end_the_others() -> None:
    memory = table_of([[1, 2], [3]]).number(element(2) + LINK, element(1))
    problem = f"chain 0: loops back to {element(1):#x} after 2 elements"
    assert elements_of(HashTable(structs_over(memory), HEAD, 2, "item", "link")) == ([1, 2, 3], [problem])


def test_an_element_in_two_chains_is_given_once() -> None:
    memory = table_of([[1, 2], [3], [4]]).number(element(3) + LINK, element(2))
    back = f"chain 1: the link back of {element(2):#x} leads to {element(1) + LINK:#x}, not to {element(3) + LINK:#x}"
    found, problems = elements_of(HashTable(structs_over(memory), HEAD, 3, "item", "link"))
    assert found == [1, 2, 3, 4]
    assert problems == [back, f"chain 1: leads to {element(2):#x} of another chain"]


@pytest.mark.parametrize(("limit", "found"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])])
def test_a_table_of_too_many_elements(limit: int, found: list[int]) -> None:
    memory = table_of([[1, 2], [], [3, 4], [5]])
    table = HashTable(structs_over(memory), HEAD, 4, "item", "link", limit=limit)
    assert elements_of(table) == (found, [f"has more than {limit} elements"])
    whole = HashTable(structs_over(memory), HEAD, 4, "item", "link", limit=5)
    assert elements_of(whole) == ([1, 2, 3, 4, 5], [])


@given(
    st.lists(ANYWHERE, max_size=6),
    st.dictionaries(ELEMENTS, st.tuples(ANYWHERE, ANYWHERE)),
    st.integers(1, 12),
)
def test_any_graph_of_chains_ends(heads: list[int], links: dict[int, tuple[int, int]], limit: int) -> None:
    memory = graph(links, 0)
    for bucket, head in enumerate(heads):
        memory.number(HEAD + WORD * bucket, head)
    table = HashTable(structs_over(memory), HEAD, len(heads), "item", "link", limit=limit)
    found = [item.address_ for item in table]
    assert len(found) == len(set(found)) <= limit
    reachable = set()
    waiting = [head for head in heads if head]
    while waiting:
        at = waiting.pop()
        if at not in reachable and at % WORD == 0:
            reachable.add(at)
            following = links.get((at - FIRST) // STEP) if (at - FIRST) % STEP == 0 else None
            waiting += [following[0]] if following and following[0] else []
    assert set(found) <= reachable
    assert set(found) == reachable or any("has more than" in one for one in table.problems)


# Trees

LEFT, RIGHT, PARENT = {"12": 0, "14": 8}, {"12": 8, "14": 16}, {"12": 16, "14": 0}


def tree_types(memory: Memory, shape: str) -> Structs:
    word = memory.word_size
    if shape == "12":
        names = ("rbe_left", "rbe_right", "rbe_parent")
        link = struct(4 * word, **{name: (word * index, pointer(of("node"))) for index, name in enumerate(names)})
    else:
        link = struct(3 * word, rbe_link=(0, {"kind": "array", "count": 3, "subtype": pointer(of("node"))}))
    node = struct(64, number=(0, base("int")), entry=(LINK, of("entry")))
    return memory.structs(c_types(memory, entry=link, node=node))


def tree(
    nodes: Mapping[int, tuple[int, int]], root: int, shape: str, *, word: int = 8, byteorder: str = "little"
) -> Memory:
    """Nodes by number with the addresses left and right of them."""
    memory = Memory(word, byteorder).number(HEAD, root)
    for number, (left, right) in nodes.items():
        memory.put(element(number), bytes(64)).number(element(number), number, 4)
        at = element(number) + LINK
        memory.number(at + LEFT[shape] * word // 8, left).number(at + RIGHT[shape] * word // 8, right)
        memory.number(at + PARENT[shape] * word // 8, 0xBAD0)
    return memory


def nodes_of(memory: Memory, shape: str, **options: int) -> tuple[list[int], list[str]]:
    found = RedBlackTree(tree_types(memory, shape), HEAD, "node", "entry", **options)
    return [(address - FIRST) // STEP for address in found.addresses()], found.problems


shapes = pytest.mark.parametrize("shape", TREES)
SOUND = {4: (element(2), element(6)), 2: (element(1), element(3)), 6: (element(5), 0), 1: (0, 0), 3: (0, 0), 5: (0, 0)}


@shapes
@pytest.mark.parametrize(("word", "byteorder"), [(8, "little"), (4, "little"), (8, "big")])
def test_trees_are_walked_in_order(shape: str, word: int, byteorder: str) -> None:
    memory = tree(SOUND, element(4), shape, word=word, byteorder=byteorder)
    assert nodes_of(memory, shape) == ([1, 2, 3, 4, 5, 6], [])
    structs = tree_types(memory, shape)
    assert [one.number for one in RedBlackTree(structs, HEAD, "node", "entry")] == [1, 2, 3, 4, 5, 6]
    assert nodes_of(tree({}, 0, shape), shape) == ([], [])


@shapes
def test_colours_in_the_low_bits_are_no_part_of_the_address(shape: str) -> None:
    memory = tree({1: (0, element(2) | 1), 2: (3, 2)}, element(1) | 2, shape)
    assert nodes_of(memory, shape) == ([1, 2], [])


@shapes
@pytest.mark.parametrize(
    ("node", "links", "found", "problem"),
    [
        (5, (element(4), 0), [1, 2, 3, 4, 5, 6], f"a branch loops back to {element(4):#x}"),
        (3, (0, element(3)), [1, 2, 3, 4, 5, 6], f"a branch loops back to {element(3):#x}"),
        (2, (element(6), element(3)), [5, 6, 2, 3, 4], f"a branch loops back to {element(6):#x}"),
        (1, (0, element(9) + 4), [1, 2, 3, 4, 5, 6], f"a branch leads to the misaligned address {element(9) + 4:#x}"),
    ],
)
def test_a_wrong_branch_does_not_end_the_others(
    shape: str, node: int, links: tuple[int, int], found: list[int], problem: str
) -> None:
    assert nodes_of(tree({**SOUND, node: links}, element(4), shape), shape) == (found, [problem])


@shapes
def test_branches_that_cannot_be_read(shape: str) -> None:
    memory = tree({**SOUND, 6: (0xDEAD0000, 0)}, element(4), shape)
    found, problems = nodes_of(memory, shape)
    place = (0xDEAD0000 - FIRST) // STEP
    assert found == [1, 2, 3, 4, place, 6]
    assert problems == [
        f"a branch ends where address {0xDEAD0000 + LINK + at:#x} is not mapped" for at in (LEFT[shape], RIGHT[shape])
    ]
    assert nodes_of(Memory(), shape) == ([], [f"a branch ends where address {HEAD:#x} is not mapped"])


@shapes
def test_a_tree_that_is_too_large(shape: str) -> None:
    found, problems = nodes_of(tree(SOUND, element(4), shape), shape, limit=3)
    assert found == [1, 2, 4]
    assert problems == ["has more than 3 elements"]


@shapes
def test_problems_of_a_tree_are_bounded(shape: str) -> None:
    count = MAX_PROBLEMS + 10
    chain = {number: (element(number + 1) + 4, element(number + 1)) for number in range(count)}
    chain[count - 1] = (0, 0)
    found, problems = nodes_of(tree(chain, element(0), shape), shape)
    assert found == list(range(count))
    assert problems[MAX_PROBLEMS:] == ["has more problems, which are not told"]


def test_a_tree_as_deep_as_it_is_large_needs_no_stack() -> None:
    count = 5000
    memory = tree(
        {number: (element(number + 1), 0) for number in range(count - 1)} | {count - 1: (0, 0)}, element(0), "14"
    )
    assert nodes_of(memory, "14") == (list(range(count - 1, -1, -1)), [])


@given(
    st.sampled_from(sorted(TREES)),
    ANYWHERE,
    st.dictionaries(ELEMENTS, st.tuples(ANYWHERE, ANYWHERE)),
    st.integers(1, 12),
)
def test_any_graph_of_branches_ends(shape: str, root: int, links: dict[int, tuple[int, int]], limit: int) -> None:
    found = RedBlackTree(tree_types(tree(links, root, shape), shape), HEAD, "node", "entry", limit=limit)
    addresses = list(found.addresses())
    assert len(addresses) == len(set(addresses)) <= limit
    reachable: set[int] = set()
    waiting = [root]
    while waiting:
        at = waiting.pop() & ~3
        if at and at not in reachable and at % WORD == 0:
            reachable.add(at)
            waiting += links.get((at - FIRST) // STEP, ()) if (at - FIRST) % STEP == 0 else ()
    assert set(addresses) <= reachable
    assert set(addresses) == reachable or any("has more than" in one for one in found.problems)
