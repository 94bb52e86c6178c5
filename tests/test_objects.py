"""The memory writer itself: C values and lists, byte by byte, in either byte order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.writers.kernel_image import from_types
from tests.writers.kernel_memory import KernelMemory
from tests.writers.machine import MACHINES
from tests.writers.objects import addressof, content, link_list, link_slist, link_tailq, sizeof
from volatility3_freebsd_kvm.image.types import Types


def base(name: str) -> dict[str, Any]:
    return {"kind": "base", "name": name}


def pointer(name: str) -> dict[str, Any]:
    return {"kind": "pointer", "subtype": {"kind": "struct", "name": name}}


def struct_type(size: int, **fields: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "struct", "size": size, "fields": {k: {"offset": o, "type": t} for k, (o, t) in fields.items()}}


def bits(position: int, length: int) -> dict[str, Any]:
    return {"kind": "bitfield", "bit_position": position, "bit_length": length, "type": base("int")}


def memory(arch: str) -> KernelMemory:
    endian = MACHINES[arch].byteorder
    types = Types.empty(8, endian)
    types.base_types |= {
        "int": {"size": 4, "signed": True, "kind": "int", "endian": endian},
        "char": {"size": 1, "signed": True, "kind": "char", "endian": endian},
    }
    types.enums["color"] = {"size": 4, "base": "int", "constants": {"RED": 7}}
    types.user_types |= {
        "head": struct_type(16, lh_first=(0, pointer("item")), slh_first=(0, pointer("item"))),
        "tail_head": struct_type(16, tqh_first=(0, pointer("item")), tqh_last=(8, pointer("item"))),
        "link": struct_type(
            16,
            le_next=(0, pointer("item")),
            le_prev=(8, pointer("item")),
            tqe_next=(0, pointer("item")),
            tqe_prev=(8, pointer("item")),
            sle_next=(0, pointer("item")),
        ),
        "item": struct_type(
            48,
            number=(0, base("int")),
            low=(4, bits(0, 3)),
            high=(4, bits(28, 4)),
            link=(8, {"kind": "struct", "name": "link"}),
            text=(24, {"kind": "array", "count": 8, "subtype": base("char")}),
            pair=(32, {"kind": "array", "count": 2, "subtype": base("int")}),
            color=(40, {"kind": "enum", "name": "color"}),
        ),
    }
    return KernelMemory(from_types(types, {"head": "struct head"}, MACHINES[arch]), MACHINES[arch])


def test_members_are_written_where_c_has_them() -> None:
    item = memory("amd64").new("struct item", number=-2, low=5, high=9, text=b"abc", pair=[1, 2], color="RED")
    assert content(item).hex() == ("feffffff05000090" + "00" * 16 + "616263000000000001000000020000000700000000000000")
    assert (item.number, item.low, item.high, item.color, item.pair[1]) == (-2, 5, 9, 7, 2)


def test_big_endian_members() -> None:
    item = memory("powerpc64").new("struct item", number=-2, low=5, high=9, pair=[1, 2])
    assert content(item)[:8].hex() == "fffffffe90000005"
    assert content(item)[32:40].hex() == "0000000100000002"
    item.low = 2
    assert (item.low, item.high) == (2, 9)


@pytest.mark.parametrize(
    ("name", "value"), [("number", 1 << 32), ("low", 8), ("text", b"123456789"), ("pair", [1, 2, 3]), ("link", 5)]
)
def test_values_that_do_not_fit_are_refused(name: str, value: object) -> None:
    item = memory("amd64").new("struct item", number=3)
    before = content(item)
    with pytest.raises(ValueError, match=r"fit|takes"):
        item[name] = value
    assert content(item) == before


def test_unknown_members_and_types() -> None:
    item = memory("amd64").new("struct item")
    with pytest.raises(AttributeError, match="no member"):
        item.nothing = 1
    with pytest.raises(KeyError, match="no type"):
        memory("amd64").new("struct nothing")


def test_lists_lead_forwards_and_back() -> None:
    kernel = memory("amd64")
    items = [kernel.new("struct item", number=number) for number in range(3)]
    head = kernel.symbol("head")
    link_list(head, items, "link")
    assert head.lh_first == addressof(items[0])
    assert [item.link.le_next for item in items] == [addressof(items[1]), addressof(items[2]), 0]
    assert [item.link.le_prev for item in items] == [
        addressof(head, "lh_first"),
        addressof(items[0], "link.le_next"),
        addressof(items[1], "link.le_next"),
    ]


def test_tail_queues_end_where_the_head_says() -> None:
    kernel = memory("amd64")
    items = [kernel.new("struct item") for _ in range(2)]
    head = kernel.new("struct tail_head")
    link_tailq(head, items, "link")
    assert head.tqh_last == addressof(items[1], "link.tqe_next")
    assert items[0].link.tqe_prev == addressof(head, "tqh_first")
    link_tailq(head, [], "link")
    assert (head.tqh_first, head.tqh_last) == (0, addressof(head, "tqh_first"))


def test_single_lists() -> None:
    kernel = memory("amd64")
    items = [kernel.new("struct item") for _ in range(2)]
    link_slist(kernel.symbol("head"), items, "link")
    assert (kernel.symbol("head").slh_first, items[0].link.sle_next, items[1].link.sle_next) == (
        addressof(items[0]),
        addressof(items[1]),
        0,
    )


def test_objects_lie_in_the_direct_map_or_in_kernel_memory() -> None:
    kernel = memory("amd64")
    direct, mapped = kernel.new("struct item"), kernel.new("struct item", where="kva")
    assert addressof(direct) >= 0xFFFFF80000000000
    assert kernel.machine.kva <= addressof(mapped) < kernel.machine.kva + 0x10000
    large = kernel.allocate(3 * 4096)
    kernel.write(large, b"x" * 3 * 4096)
    assert kernel.pa_of(large + 8192) == kernel.pa_of(large) + 8192
    assert addressof(memory("i386").new("struct item")) >= MACHINES["i386"].kva
    assert sizeof(direct) == 48
