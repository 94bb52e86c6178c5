"""Radix trees of any bytes: every walk ends and tells each leaf once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from volatility3_freebsd_kvm.bsd.radix import RadixTree
from volatility3_freebsd_kvm.exceptions import NotMappedError
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types

NODE = 24
FIELDS = {
    "rn_bit": {"offset": 0, "type": {"kind": "base", "name": "short"}},
    "rn_flags": {"offset": 3, "type": {"kind": "base", "name": "unsigned char"}},
    "rn_u": {"offset": 8, "type": {"kind": "union", "name": "unnamed_rn_u"}},
}
WORD = {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}


def tree_over(memory: bytes) -> RadixTree:
    types = Types.empty(4, "little")
    types.base_types["short"] = {"size": 2, "signed": True, "kind": "int", "endian": "little"}
    types.base_types["unsigned char"] = {"size": 1, "signed": False, "kind": "int", "endian": "little"}
    types.user_types["radix_node"] = {"kind": "struct", "size": NODE, "fields": FIELDS}
    parts = {"rn_leaf": ("rn_Key", "rn_Mask", "rn_Dupedkey"), "rn_node": ("rn_Off", "rn_L", "rn_R")}
    for part, names in parts.items():
        fields = {name: {"offset": 4 * at, "type": WORD} for at, name in enumerate(names)}
        types.user_types[f"unnamed_{part}"] = {"kind": "struct", "size": 12, "fields": fields}
    fields = {part: {"offset": 0, "type": {"kind": "struct", "name": f"unnamed_{part}"}} for part in parts}
    types.user_types["unnamed_rn_u"] = {"kind": "union", "size": 12, "fields": fields}

    def read(address: int, length: int) -> bytes:
        if address + length > len(memory):
            raise NotMappedError(address)
        return memory[address : address + length]

    return RadixTree(Structs(read, types, 32, "little"), 0)


def node(bit: int, flags: int, words: tuple[int, int, int]) -> bytes:
    data = bit.to_bytes(2, "little", signed=True) + bytes([0, flags]) + bytes(4)
    return data + b"".join(word.to_bytes(4, "little") for word in words) + bytes(4)


links = st.integers(0, 12).map(lambda number: number * NODE) | st.integers(0, 400)
nodes = st.builds(node, st.integers(-600, 600), st.sampled_from([0, 2, 4]), st.tuples(links, links, links))


@settings(max_examples=200, deadline=None)
@given(st.lists(nodes, max_size=10))
def test_any_tree_ends(made: list[bytes]) -> None:
    tree = tree_over(b"".join(made))
    found = [leaf.address for leaf in tree]
    assert len(set(found)) == len(found) <= len(made) * NODE
    assert len(tree.problems) <= 64


def test_a_tree_in_order() -> None:
    leaves = [node(-1, 4, (100 + at, 200 + at, 0)) for at in range(3)]
    inner = [node(32, 4, (0, 1 * NODE, 2 * NODE)), node(40, 4, (0, 3 * NODE, 4 * NODE))]
    tree = tree_over(b"".join([inner[0], inner[1], leaves[2], leaves[0], leaves[1]]))
    assert [(leaf.address, leaf.key, leaf.mask) for leaf in tree] == [
        (3 * NODE, 100, 200),
        (4 * NODE, 101, 201),
        (2 * NODE, 102, 202),
    ]
    assert tree.problems == []


def test_a_tree_with_too_many_nodes() -> None:
    made = [node(32, 4, (0, NODE, 2 * NODE)), node(-1, 4, (0, 0, 0)), node(-1, 4, (0, 0, 0))]
    whole = tree_over(b"".join(made))
    tree = RadixTree(whole._structs, 0, limit=2)
    assert [leaf.address for leaf in tree] == [NODE]
    assert tree.problems == ["has more than 2 nodes"]
