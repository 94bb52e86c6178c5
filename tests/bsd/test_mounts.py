"""Mounted file systems, who sees them, and their vnodes."""

from __future__ import annotations

import pytest

from tests.bsd.kernel_variants import NOWHERE, Patch, nothing_known, nowhere, without_types
from tests.scenario.build_mounts import MNT
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.mount import FLAGS, Mount, flag_names, mounts
from volatility3_freebsd_kvm.bsd.needs import ADVICE
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

SOME = ("12.1-amd64", "12.1-i386", "15-amd64", "14-powerpc64")
WORDS = {
    "MNT_LOCAL": "local",
    "MNT_SOFTDEP": "soft-updates",
    "MNT_MULTILABEL": "multilabel",
    "MNT_NOSUID": "nosuid",
    "MNT_NOEXEC": "noexec",
    "MNT_NOATIME": "noatime",
    "MNT_RDONLY": "read-only",
}
"""What mount(8) prints; of the root file system being that it says nothing."""
ORDER = ("local", "noatime", "noexec", "nosuid", "read-only", "soft-updates", "multilabel")
JAILS = tuple(jail.name for jail in SYSTEM.jails[1:])


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mount(kernel: str, key: str) -> Object:
    found = build_world(kernel).get("mount", key)
    assert isinstance(found, Object)
    return found


def by_place(kernel: Kernel) -> dict[str | Absent, Mount]:
    return {item.on: item for item in mounts(kernel) if isinstance(item, Mount)}


def problems(kernel: Kernel) -> list[str]:
    return [str(item) for item in mounts(kernel) if isinstance(item, Problem)]


def vnodes_on(key: str) -> int:
    return sum(vnode.mount == key for vnode in SYSTEM.vnodes)


def test_every_field_of_every_mount_is_as_described(kernel: str) -> None:
    order = "big" if walkable(kernel).structs.byteorder == "big" else "little"
    expected = [
        Mount(
            address=int(mount(kernel, truth.key)),
            source=truth.source,
            on=truth.on,
            fstype=truth.fstype,
            flags=tuple(sorted((WORDS[flag] for flag in truth.flags if flag in WORDS), key=ORDER.index)),
            flag_bits=sum(MNT[flag] for flag in truth.flags),
            owner=truth.owner,
            fsid=b"".join(value.to_bytes(4, order) for value in truth.fsid).hex(),  # type: ignore[arg-type]
            # All have their root on this one, and see no other.
            jails=JAILS if truth.key == "root" else (),
            vnodes=vnodes_on(truth.key),
            vnodes_counted=vnodes_on(truth.key),
        )
        for truth in SYSTEM.mounts
    ]
    assert list(mounts(walkable(kernel))) == expected


def test_words_of_flags() -> None:
    assert flag_names(0x1000 | 0x200000 | 0x100000000 | 0x4000) == ("local", "soft-updates", "journaled soft-updates")
    assert flag_names(0) == ()
    assert len(set(FLAGS.values())) == len(FLAGS)
    assert all(bit.bit_count() == 1 for bit in FLAGS)


# --- jails ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enforce", "expected"),
    [
        (0, {"/", "/dev", "/tmp", "/home", "/jails/web/dev", "/jails/web/usr/local/www"}),
        (1, {"/", "/jails/web/dev", "/jails/web/usr/local/www"}),
        (2, {"/"}),
        (7, {"/"}),
    ],
)
def test_what_a_jail_sees(name: str, enforce: int, expected: set[str]) -> None:
    prison = build_world(name).get("prison", 1)
    found = by_place(damaged(name, Patch(name).member("prison", prison, "pr_enforce_statfs", enforce)))
    seen = {on for on, item in found.items() if isinstance(item.jails, tuple) and "web" in item.jails}
    assert seen == expected


def test_jail_whose_path_only_begins_alike(name: str) -> None:
    prison = build_world(name).get("prison", 1)
    patch = Patch(name).member("prison", prison, "pr_enforce_statfs", 1)
    found = by_place(damaged(name, patch.text(addressof(prison, "pr_path"), b"/jails/we\0")))
    assert found["/jails/web/dev"].jails == ()


def test_jails_in_a_circle(name: str) -> None:
    prison = build_world(name).get("prison", 3)
    kernel = damaged(name, Patch(name).first(addressof(prison, "pr_list"), int(build_world(name).get("prison", 2))))
    assert any(one.startswith("allprison: loops back to") for one in problems(kernel))
    assert by_place(kernel)["/"].jails == JAILS


def test_jail_whose_root_leads_nowhere(name: str) -> None:
    prison = build_world(name).get("prison", 1)
    found = by_place(damaged(name, Patch(name).member("prison", prison, "pr_root", NOWHERE)))
    assert {item.jails for item in found.values()} == {Absent.UNREADABLE}
    assert found["/"].vnodes == vnodes_on("root")


# --- what is odd ----------------------------------------------------------------------------------------------------


def test_mount_that_is_on_nothing(name: str) -> None:
    found = by_place(damaged(name, Patch(name).member("mount", mount(name, "home"), "mnt_vnodecovered", 0)))
    assert found["/home"].notes == ("it is not mounted on any directory",)


def test_directory_that_was_renamed_below_a_mount(name: str) -> None:
    entry = build_world(name).get("namecache", ("rootvnode", "home"))
    found = by_place(damaged(name, {addressof(entry, "nc_name"): b"work"}))
    assert found["/home"].notes == ("its directory is now /work",)


def test_directory_that_does_not_lead_to_the_mount(name: str) -> None:
    vnode = build_world(name).get("vnode", "home-dir")
    found = by_place(damaged(name, Patch(name).member("vnode", vnode, "v_mountedhere", 0)))
    assert found["/home"].notes == ("its directory does not lead to it",)


def test_mount_on_its_way_out(name: str) -> None:
    kernel = damaged(name, Patch(name).member("mount", mount(name, "home"), "mnt_kern_flag", 0x01000000))
    assert by_place(kernel)["/home"].notes == ("it is being unmounted",)


def test_vnodes_that_the_kernel_does_not_count(name: str) -> None:
    kernel = damaged(name, Patch(name).member("mount", mount(name, "tmp"), "mnt_nvnodelistsize", 3))
    assert by_place(kernel)["/tmp"].notes == ("4 vnodes are in its list, the kernel has counted 3",)


def test_vnode_of_another_mount(name: str) -> None:
    vnode = build_world(name).get("vnode", "fifo")
    kernel = damaged(name, Patch(name).member("vnode", vnode, "v_mount", int(mount(name, "home"))))
    assert by_place(kernel)["/tmp"].notes == ("1 vnodes in its list say that they are on another mount",)


def test_markers_are_no_vnodes(name: str) -> None:
    vnode = build_world(name).get("vnode", "fifo")
    found = by_place(damaged(name, Patch(name).member("vnode", vnode, "v_type", 9)))["/tmp"]
    assert (found.vnodes, found.vnodes_counted) == (3, 4)


# --- hostile lists --------------------------------------------------------------------------------------------------


def test_mounts_in_a_circle(name: str) -> None:
    first, third = mount(name, "root"), mount(name, "tmp")
    kernel = damaged(name, Patch(name).first(addressof(third, "mnt_list"), int(first)))
    assert list(by_place(kernel)) == ["/", "/dev", "/tmp"]
    assert problems(kernel) == [f"mountlist: loops back to {int(first):#x} after 3 elements"]


@pytest.mark.parametrize("place", [NOWHERE, 0x13])
def test_list_that_leads_nowhere(name: str, place: int) -> None:
    kernel = damaged(name, Patch(name).first(addressof(mount(name, "tmp"), "mnt_list"), place))
    found = [item.on for item in mounts(kernel) if isinstance(item, Mount)]
    assert found == ["/", "/dev", "/tmp"]
    (problem,) = problems(kernel)
    assert nowhere(name).split(" (")[0] in problem or "misaligned" in problem


def test_vnodes_in_a_circle(name: str) -> None:
    vnode = build_world(name).get("vnode", "fifo")
    kernel = damaged(name, Patch(name).first(addressof(vnode, "v_nmntvnodes"), int(vnode)))
    assert problems(kernel) == []
    assert by_place(kernel)["/tmp"].notes == (f"its list of vnodes: loops back to {int(vnode):#x} after 4 elements",)


def test_vnodes_that_lead_nowhere(name: str) -> None:
    vnode = build_world(name).get("vnode", "deleted")
    found = by_place(damaged(name, Patch(name).first(addressof(vnode, "v_nmntvnodes"), NOWHERE)))["/tmp"]
    assert found.vnodes == 2
    assert found.notes[0].startswith("its list of vnodes: ends where address 0x")
    assert found.notes[1:] == ("2 vnodes are in its list, the kernel has counted 4",)


def test_names_without_an_end(name: str) -> None:
    """Each is as long as its array at most."""
    kernel = walkable(name)
    size = kernel.structs.size_of(kernel.structs.member("statfs", "f_mntfromname")[1])
    place = addressof(mount(name, "tmp"), "mnt_stat") + kernel.structs.offset("statfs", "f_mntfromname")
    found = by_place(damaged(name, {place: b"A" * size}))["/tmp"]
    assert found.source == "A" * size


def test_kernel_without_types(name: str) -> None:
    assert problems(without_types(name)) == [
        f"mountlist: the types of this kernel lack mount.mnt_list, mount.mnt_stat, statfs.f_mntonname; {ADVICE}"
    ]
    assert len(list(mounts(nothing_known(name)))) == 1
