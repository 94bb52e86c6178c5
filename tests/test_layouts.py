"""The type layouts in symbols/ are those of the headers, and say what is known of FreeBSD 14 and 15."""

from __future__ import annotations

import pytest

from tests.minikernel import RELEASES
from tests.writers.ctype import TypeTable
from tools.make_layouts import ARCHITECTURES, layout, layout_path
from volatility3_freebsd_kvm.image import isf

# Sizes and offsets by release and architecture.
KNOWN = {
    ("14", "amd64"): {
        "proc": 0x560,
        "thread": 0x6F0,
        "ucred": 0x100,
        "prison": 0x880,
        "proc.p_pid": 0xC4,
        "proc.p_pd": 0x58,
    },
    ("15", "amd64"): {"proc": 0x558, "thread": 0x720, "ucred": 0x108, "proc.p_comm": 0x3E0, "ucred.cr_gid": 0x70},
    ("14", "arm64"): {"proc": 0x548, "thread": 0x5E8, "socket": 0x480, "thread.td_oncpu": 0x5C4, "vnode": 0x1C0},
    ("15", "arm64"): {"proc": 0x550, "thread": 0x618, "inpcb": 0x178, "ifnet.if_vnet": 0x398, "vm_object.rtree": 0x48},
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_layouts_are_those_of_the_headers(release: str, arch: str) -> None:
    assert isf.load(layout_path(release, arch)) == layout(release, arch)


@pytest.mark.parametrize(("release", "arch"), KNOWN)
def test_layouts_have_known_sizes_and_offsets(release: str, arch: str) -> None:
    table = TypeTable(isf.types_of(isf.load(layout_path(release, arch))))
    for name, expected in KNOWN[release, arch].items():
        struct, _, member = name.partition(".")
        assert (table.offsetof(struct, member) if member else table.sizeof(struct)) == expected, name


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_framework_reads_the_layouts(arch: str) -> None:
    from volatility3.framework import contexts
    from volatility3.framework.symbols import intermed

    context = contexts.Context()
    path = layout_path("15", arch)
    table = intermed.IntermediateSymbolTable(context, "types", "types", isf_url=path.resolve().as_uri(), validate=False)
    context.symbol_space.append(table)
    proc = context.symbol_space.get_type("types!proc")
    types = TypeTable(isf.types_of(isf.load(path)))
    assert proc.size == types.sizeof("struct proc")
    assert proc.relative_child_offset("p_comm") == types.offsetof("proc", "p_comm")
    # An anonymous union's members count as the structure's own.
    assert context.symbol_space.get_type("types!vnode").has_member("v_mountedhere")


def test_layouts_are_small() -> None:
    assert sum(layout_path(release, arch).stat().st_size for release in RELEASES for arch in ARCHITECTURES) < 700_000
