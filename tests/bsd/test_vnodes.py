"""Paths of vnodes, the names that are cached of them, and what their file systems keep."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.bsd.file_expectations import FSTYPES, NOT_AVAILABLE, VNODES, attributes, expected_notes, expected_path
from tests.bsd.kernel_variants import NOWHERE, Patch, nowhere, without_types
from tests.bsd.synthetic_names import VDIR, SyntheticNames, without_types_of_modules
from tests.scenario.kernels import build_world
from tests.scenario.model import Vnode as Truth
from tests.scenario.paths import use_counts
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm.bsd.file_times import FileTimes, file_times
from volatility3_freebsd_kvm.bsd.filesystem import Attributes, attributes_of, lower_vnode
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.namecache import CachedName, NamesOf
from volatility3_freebsd_kvm.bsd.path import (
    CUT,
    MAX_COMPONENTS,
    NO_NAME,
    NO_NAME_ABOVE,
    Paths,
    VnodePath,
    seen_from,
    vnode_names,
    vnode_path,
)
from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.bsd.vnode import describe_vnode, names_text

SOME = ("12.1-amd64", "12.1-i386", "15-amd64", "14-powerpc64")


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vnode(kernel: str, key: str) -> Object:
    found = build_world(kernel).get("vnode", key)
    assert isinstance(found, Object)
    return found


def cached(kernel: str, directory: str, text: str) -> Object:
    found = build_world(kernel).get("namecache", (directory, text))
    assert isinstance(found, Object)
    return found


def path_of(kernel: Kernel, name: str, key: str) -> VnodePath:
    return vnode_path(kernel, int(vnode(name, key)))


def is_known(truth: Truth) -> bool:
    return not (truth.doomed or truth.deleted or truth.dotdot)


# --- the truth ------------------------------------------------------------------------------------------------------


def test_paths(kernel: str) -> None:
    """Of all vnodes, across mounts, nullfs and both devfs, with and without a cached name."""
    paths = Paths(walkable(kernel))
    for truth in SYSTEM.vnodes:
        found = paths.of(int(vnode(kernel, truth.key)))
        notes = (NO_NAME,) if truth.deleted else () if truth.names else expected_notes(truth)
        assert found == VnodePath(expected_path(truth), is_known(truth), notes), truth.key


def test_paths_do_not_depend_on_what_was_asked_for_before(kernel: str) -> None:
    paths = Paths(walkable(kernel))
    for truth in reversed(SYSTEM.vnodes):
        assert paths.of(int(vnode(kernel, truth.key))) == vnode_path(walkable(kernel), int(vnode(kernel, truth.key)))


def test_all_names_of_a_file(kernel: str) -> None:
    for truth in SYSTEM.vnodes:
        found = [path.path for path in vnode_names(walkable(kernel), int(vnode(kernel, truth.key)))]
        assert found == [expected_path(truth), *truth.names], truth.key


def test_vnodes(kernel: str) -> None:
    paths = Paths(walkable(kernel))
    uses = use_counts(SYSTEM, own=walkable(kernel).has_member("proc", "p_pd"))
    for truth in SYSTEM.vnodes:
        found = describe_vnode(walkable(kernel), int(vnode(kernel, truth.key)), paths)
        assert (found.type, found.doomed, found.path.path) == (truth.kind, truth.doomed, expected_path(truth))
        assert found.fstype == FSTYPES.get(truth.mount, "")
        assert (found.attributes.inode, found.mode, found.attributes.size) == attributes(truth), truth.key
        assert found.device == (truth.device or Absent.NOT_APPLICABLE)
        assert found.uses == uses[truth.key]
        assert (*found.notes, *names_text(found)) == expected_notes(truth)


def test_attributes(kernel: str) -> None:
    known = [truth for truth in SYSTEM.vnodes if FSTYPES.get(truth.mount) in ("ufs", "tmpfs", "nullfs")]
    for truth in known:
        found = attributes_of(walkable(kernel), walkable(kernel).object("vnode", int(vnode(kernel, truth.key))))
        links = found.links
        assert found == Attributes(
            truth.inode, found.mode, truth.uid, truth.gid, truth.size, 0 if truth.deleted else links
        )
        assert isinstance(found.mode, int)
        assert found.mode & 0o7777 == truth.mode
        assert links == 1 + len(truth.names) or truth.kind == "VDIR" or truth.deleted
    assert len(known) > 40


def test_names_that_lead_to_a_vnode(name: str) -> None:
    names = NamesOf(walkable(name), int(vnode(name, "csh")))
    entries = [cached(name, "bin", text) for text in ("csh", "tcsh")]
    assert list(names) == [
        CachedName(int(entry), text, int(vnode(name, "bin")), int(vnode(name, "csh")), 0)
        for entry, text in zip(entries, ("csh", "tcsh"), strict=True)
    ]
    assert names.problems == []


def test_dotdot_is_no_name(name: str) -> None:
    found = {one.name: (one.is_dotdot, one.is_name) for one in NamesOf(walkable(name), int(vnode(name, "var")))}
    assert found == {"var": (False, True), "..": (True, False)}


def test_times_of_files(kernel: str) -> None:
    """UFS, tmpfs and what nullfs shows of them; devices have their own, and no types tell those of NFS."""
    for truth in SYSTEM.vnodes:
        found = file_times(walkable(kernel), int(vnode(kernel, truth.key)))
        fstype = FSTYPES.get(truth.mount)
        if fstype in ("ufs", "tmpfs", "nullfs"):
            below = VNODES[truth.lower] if truth.lower else truth
            assert found == FileTimes(*(datetime.fromtimestamp(one, timezone.utc) for one in below.times)), truth.key
        elif truth.kind == "VCHR":
            assert isinstance(found.accessed, datetime)
            assert found.born is NOT_AVAILABLE
        elif fstype in ("nfs", None):
            assert found == FileTimes()


def test_times_that_no_calendar_has(name: str) -> None:
    disk = build_world(name).get("inode", "sh")
    disk = disk.i_dp.dp2 if build_world(name).has("inode", "i_dp") else disk.dinode_u.din2
    kernel = damaged(name, Patch(name).member("ufs2_dinode", int(disk), "di_atime", (1 << 63) - 1))
    found = file_times(kernel, int(vnode(name, "sh")))
    assert found.accessed is NOT_AVAILABLE
    assert isinstance(found.modified, datetime)


# --- as a process sees them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/jails/web/etc", "/jails/web", "/etc"),
        ("/jails/web", "/jails/web", "/"),
        ("/jails/webmail", "/jails/web", ""),
        ("/etc", "/jails/web", ""),
        ("/etc", "/", "/etc"),
        ("/", "/", "/"),
    ],
)
def test_seen_from_another_root(path: str, root: str, expected: str) -> None:
    assert seen_from(VnodePath(path), VnodePath(root)) == expected


def test_nothing_is_seen_from_a_root_that_is_not_known() -> None:
    assert seen_from(VnodePath("/a/b"), VnodePath("/a", complete=False)) == ""
    assert seen_from(VnodePath("", complete=False), VnodePath("/")) == ""


# --- what is not known ----------------------------------------------------------------------------------------------


def test_directory_without_a_name(name: str) -> None:
    """A file in it still has its own name; what is above is known by the mount and the directory's number."""
    patch = Patch(name).pointer(addressof(vnode(name, "usr-sbin"), "v_cache_dd"), 0)
    kernel = damaged(name, patch.first(addressof(vnode(name, "usr-sbin"), "v_cache_dst"), 0))
    assert path_of(kernel, name, "usr-sbin") == VnodePath("/<inode 51>", False, (NO_NAME,))
    assert path_of(kernel, name, "sshd") == VnodePath("/<inode 51>/sshd", False, (NO_NAME_ABOVE,))


def test_mount_point_without_a_name(name: str) -> None:
    """The mount itself tells where it is."""
    patch = Patch(name).pointer(addressof(vnode(name, "home-dir"), "v_cache_dd"), 0)
    kernel = damaged(name, patch.first(addressof(vnode(name, "home-dir"), "v_cache_dst"), 0))
    note = "the name cache does not know the mount point; the path is what it was when it was mounted on"
    assert path_of(kernel, name, "home-root") == VnodePath("/home", True, (note,))
    assert path_of(kernel, name, "alice-notes") == VnodePath("/home/alice/notes.txt", True, (note,))


def test_file_system_that_is_mounted_on_nothing(name: str) -> None:
    mount = build_world(name).get("mount", "home")
    kernel = damaged(name, Patch(name).member("mount", mount, "mnt_vnodecovered", 0))
    note = "the file system of /home is not mounted on anything"
    assert path_of(kernel, name, "alice-home") == VnodePath("/home/alice", True, (note,))


def test_nullfs_whose_lower_name_is_not_cached(name: str) -> None:
    kernel = damaged(name, Patch(name).first(addressof(vnode(name, "srv-index"), "v_cache_dst"), 0))
    assert path_of(kernel, name, "jail-web-index") == VnodePath(
        "/jails/web/usr/local/www/<inode 208>", False, (NO_NAME,)
    )


def test_nullfs_that_shows_another_directory(name: str) -> None:
    """Something of a nullfs that is not below what it shows."""
    world = build_world(name)
    node = world.get("null_node", "jail-web-index")
    kernel = damaged(name, Patch(name).member("null_node", node, "null_lowervp", int(vnode(name, "sh"))))
    found = path_of(kernel, name, "jail-web-index")
    assert found == VnodePath(
        "/jails/web/usr/local/www/<inode 2>/bin/sh", False, ("it is not below what this nullfs shows",)
    )


def test_lower_vnode_needs_no_types(name: str) -> None:
    kernel = without_types_of_modules(walkable(name))
    assert lower_vnode(kernel, int(vnode(name, "jail-web-index"))) == int(vnode(name, "srv-index"))
    assert lower_vnode(kernel, int(vnode(name, "sh"))) == 0
    assert path_of(kernel, name, "jail-web-index").path == "/jails/web/usr/local/www/index.html"


def test_device_without_types_of_devfs(name: str) -> None:
    kernel = without_types_of_modules(walkable(name))
    assert path_of(kernel, name, "dev-pts0") == VnodePath("/dev/pts/0")
    assert path_of(kernel, name, "jail-web-null") == VnodePath("/jails/web/dev/null")


def test_tmpfs_without_types(name: str) -> None:
    kernel = without_types_of_modules(walkable(name))
    uncached = int(vnode(name, "uncached"))
    assert vnode_path(kernel, uncached) == VnodePath(f"/tmp/<vnode {uncached:#x}>", False, (NO_NAME,))
    assert attributes_of(kernel, kernel.object("vnode", uncached)).inode is NOT_AVAILABLE


def test_kernel_without_types(name: str) -> None:
    address = int(vnode(name, "sh"))
    found = vnode_path(without_types(name), address)
    assert (found.path, found.complete) == (f"<vnode {address:#x}>", False)
    assert found.notes == ("struct vnode has no member v_mount in this kernel",)
    assert describe_vnode(without_types(name), address).type is NOT_AVAILABLE


# --- hostile names --------------------------------------------------------------------------------------------------


def test_name_that_is_of_another_vnode(name: str) -> None:
    entry = cached(name, "bin", "sleep")
    kernel = damaged(name, Patch(name).pointer(_target(name, entry), int(vnode(name, "sh"))))
    found = path_of(kernel, name, "sleep")
    note = f"the name at {int(entry):#x} is of vnode {int(vnode(name, 'sh')):#x}"
    assert found == VnodePath("/<inode 43>", False, (note, NO_NAME))


def _target(kernel: str, entry: Object) -> int:
    return addressof(entry, "n_un.nu_vp" if build_world(kernel).has("namecache", "n_un") else "nc_vp")


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80])
def test_entries_that_are_not_in_use(name: str, flags: int) -> None:
    entry = cached(name, "bin", "sleep")
    kernel = damaged(name, Patch(name).member("namecache", entry, "nc_flag", flags))
    assert path_of(kernel, name, "sleep").path == "/<inode 43>"


@pytest.mark.parametrize("text", [b"a/b\0\0", b"\0\0\0\0\0"])
def test_impossible_names(name: str, text: bytes) -> None:
    entry = cached(name, "bin", "sleep")
    kernel = damaged(name, {addressof(entry, "nc_name"): text})
    found = path_of(kernel, name, "sleep")
    assert found.path == ("/bin/a/b" if text[0] else "/bin/<no name>")
    assert found.notes == (f"the name at {int(entry):#x} is impossible",)


def test_name_without_an_end(name: str) -> None:
    """Its length tells where it ends; memory behind has no NUL."""
    entry = cached(name, "bin", "sleep")
    patch = Patch(name).member("namecache", entry, "nc_nlen", 255)
    kernel = damaged(name, patch.text(addressof(entry, "nc_name"), b"A" * 255))
    assert path_of(kernel, name, "sleep").path == "/bin/" + "A" * 255


@pytest.mark.parametrize("place", [NOWHERE, 0x13])
def test_names_that_lead_nowhere(name: str, place: int) -> None:
    kernel = damaged(name, Patch(name).first(addressof(vnode(name, "sleep"), "v_cache_dst"), place))
    found = path_of(kernel, name, "sleep")
    assert (found.path, found.complete, found.notes[-1]) == ("/<inode 43>", False, NO_NAME)
    assert len(found.notes) == 2


def test_directory_of_a_name_leads_nowhere(name: str) -> None:
    entry = cached(name, "bin", "sleep")
    found = path_of(damaged(name, Patch(name).member("namecache", entry, "nc_dvp", NOWHERE)), name, "sleep")
    assert (found.path, found.complete) == ("<unreadable>/sleep", False)
    assert nowhere(name).split(" (")[0] in found.notes[0]


def test_own_entry_of_a_directory_that_is_nowhere(name: str) -> None:
    """The list of names has it, too."""
    kernel = damaged(name, Patch(name).pointer(addressof(vnode(name, "usr"), "v_cache_dd"), NOWHERE))
    assert path_of(kernel, name, "usr") == VnodePath("/usr")
    patch = Patch(name).pointer(addressof(vnode(name, "var-cache"), "v_cache_dd"), NOWHERE)
    assert path_of(damaged(name, patch), name, "var-cache") == VnodePath("/<inode 75>", False, (NO_NAME,))


def test_list_of_names_that_loops(name: str) -> None:
    entry = cached(name, "bin", "csh")
    kernel = damaged(name, Patch(name).first(addressof(entry, "nc_dst"), int(entry)))
    paths = [path.path for path in vnode_names(kernel, int(vnode(name, "csh")))]
    assert paths == ["/bin/csh"]


def test_directories_in_a_circle(name: str) -> None:
    """/usr is in /usr/bin."""
    entry = cached(name, "rootvnode", "usr")
    kernel = damaged(name, Patch(name).member("namecache", entry, "nc_dvp", int(vnode(name, "usr-bin"))))
    paths = Paths(kernel)
    found = [paths.of(int(vnode(name, key))) for key in ("truss", "usr-bin", "usr", "sh")]
    note = ("the names lead in a circle",)
    assert found[0] == VnodePath(f"{CUT}/bin/usr/bin/truss".replace("/bin/usr", "/usr"), False, note)
    assert [path.notes for path in found] == [note, note, note, ()]
    assert found[3] == VnodePath("/bin/sh")


def test_mounts_in_a_circle(name: str) -> None:
    """What /tmp is mounted on is a file in /tmp that has no name."""
    world = build_world(name)
    patch = Patch(name).member("mount", world.get("mount", "tmp"), "mnt_vnodecovered", int(vnode(name, "deleted")))
    found = path_of(damaged(name, patch), name, "deleted")
    assert not found.complete
    assert found.path == "/tmp/<inode 90>"


def test_nullfs_upon_itself(name: str) -> None:
    node = build_world(name).get("null_node", "jail-web-index")
    address = int(vnode(name, "jail-web-index"))
    kernel = damaged(name, Patch(name).member("null_node", node, "null_lowervp", address))
    found = path_of(kernel, name, "jail-web-index")
    assert found.path == f"/jails/web/usr/local/www/<vnode {address:#x}>"
    assert not found.complete


def test_devfs_without_a_root(name: str) -> None:
    """Every directory of it is in itself: devices know their names all the same, other things do not."""
    world = build_world(name)
    pts = world.get("devfs_dirent", "/dev/pts")
    dot = world.memory.read_pointer(addressof(pts, "de_dlist"))
    dotdot = world.memory.read_pointer(dot + world.memory.types.offsetof("devfs_dirent", "de_list"))
    patch = Patch(name).member("devfs_dirent", dotdot, "de_dir", int(pts))
    assert path_of(damaged(name, patch), name, "dev-pts0") == VnodePath("/dev/pts/0")
    patch.member("vnode", vnode(name, "dev-pts0"), "v_rdev", 0)
    found = path_of(damaged(name, patch), name, "dev-pts0")
    assert (found.path, found.complete) == ("<unreadable>", False)
    assert "the directories of this devfs have no root" in found.notes[0]


def test_node_of_another_vnode(name: str) -> None:
    node = build_world(name).get("inode", "sh")
    kernel = damaged(name, Patch(name).member("vnode", vnode(name, "sleep"), "v_data", int(node)))
    found = attributes_of(kernel, kernel.object("vnode", int(vnode(name, "sleep"))))
    assert found == Attributes(notes=(f"its inode at {int(node):#x} is of another vnode, {int(vnode(name, 'sh')):#x}",))


def test_tmpfs_whose_tree_loops(name: str) -> None:
    """The one whose name is in the tree only is not found any more, and nothing hangs."""
    world = build_world(name)
    root = world.get("tmpfs_node", "tmp-root")
    head = addressof(root, "tn_spec.tn_dir.tn_dirhead")
    first = world.memory.read_pointer(head)
    patch = Patch(name)
    for at in range(3):
        patch.pointer(first + at * patch.word, first)
    found = path_of(damaged(name, patch), name, "uncached")
    assert found.path in ("/tmp/uncached", "/tmp/<inode 91>")


# --- large name caches ----------------------------------------------------------------------------------------------


@pytest.fixture
def synthetic(name: str) -> SyntheticNames:
    return SyntheticNames(walkable(name), int(build_world(name).get("mount", "root")))


def reads_of(names: SyntheticNames, vnodes: list[int]) -> int:
    """How often memory is read to find all their paths."""
    names.reads = 0
    paths = Paths(names.kernel())
    for address in vnodes:
        paths.of(address)
    return names.reads


def test_many_files_in_one_directory(name: str, synthetic: SyntheticNames) -> None:
    root = int(vnode(name, "rootvnode"))
    directory = synthetic.vnode(VDIR)
    synthetic.name("directory", root, directory)
    files = [synthetic.vnode() for _ in range(2000)]
    for number, address in enumerate(files):
        synthetic.name(f"f{number}", directory, address)
    paths = Paths(synthetic.kernel())
    assert [paths.of(address) for address in files] == [VnodePath(f"/directory/f{number}") for number in range(2000)]
    half, all_of_them = reads_of(synthetic, files[:1000]), reads_of(synthetic, files)
    assert all_of_them < 2.1 * half


def test_deep_directories(name: str, synthetic: SyntheticNames) -> None:
    """Each is read once, however many paths lead through it; and no path is longer than one can be."""
    chain = [int(vnode(name, "rootvnode"))]
    for number in range(2000):
        chain.append(synthetic.vnode(VDIR))
        synthetic.name(f"{number % 10}", chain[-2], chain[-1])
    half, all_of_them = reads_of(synthetic, chain[1:1001]), reads_of(synthetic, chain[1:])
    assert all_of_them < 2.1 * half
    paths = Paths(synthetic.kernel())
    assert paths.of(chain[3]) == VnodePath("/0/1/2")
    deepest = Paths(synthetic.kernel()).of(chain[-1])
    assert (deepest.complete, deepest.notes) == (False, (f"more than {MAX_COMPONENTS} directories deep",))
    assert deepest.path.startswith(f"{CUT}/")
    assert deepest.path.endswith("/7/8/9")
    assert max(len(paths.of(address).path) for address in chain) < 4200


def test_file_with_many_names(name: str, synthetic: SyntheticNames) -> None:
    file = synthetic.vnode()
    for number in range(2000):
        synthetic.name(f"n{number}", int(vnode(name, "bin")), file)
    kernel = synthetic.kernel()
    assert vnode_path(kernel, file) == VnodePath("/bin/n0")
    synthetic.reads = 0
    found = vnode_names(kernel, file)
    assert [path.path for path in found] == [f"/bin/n{number}" for number in range(1000)]
    assert synthetic.reads < 20_000
    note = names_text(describe_vnode(kernel, file))
    assert note == (f"also {', '.join(f'/bin/n{number}' for number in range(1, 9))} and 991 more",)


@pytest.mark.parametrize("knows_itself", [True, False])
def test_directory_with_many_directories_in_it(name: str, synthetic: SyntheticNames, knows_itself: bool) -> None:
    """Their ``..`` all lead to it, and its own name may be the last one."""
    directory = synthetic.vnode(VDIR)
    for _ in range(2000):
        inner = synthetic.vnode(VDIR)
        synthetic.own_entry(inner, synthetic.name("..", inner, directory, 0x02))
    own = synthetic.name("directory", int(vnode(name, "rootvnode")), directory)
    if knows_itself:
        synthetic.own_entry(directory, own)
    kernel = synthetic.kernel()
    synthetic.reads = 0
    assert vnode_path(kernel, directory) == VnodePath("/directory")
    assert (synthetic.reads < 100) == knows_itself
    synthetic.reads = 0
    assert vnode_path(kernel, inner).path == f"/directory/<vnode {inner:#x}>"
    assert synthetic.reads < 30_000


def test_circle_of_many_directories(name: str, synthetic: SyntheticNames) -> None:
    circle = [synthetic.vnode(VDIR) for _ in range(300)]
    for number, address in enumerate(circle):
        synthetic.name("d", circle[number - 1], address)
    paths = Paths(synthetic.kernel())
    for address in circle:
        found = paths.of(address)
        assert (found.complete, found.notes) == (False, ("the names lead in a circle",))
        assert found.path.startswith(f"{CUT}/d")
    assert synthetic.reads < 300 * 30
