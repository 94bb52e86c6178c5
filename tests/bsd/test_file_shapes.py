"""Files and vnodes in shapes that no kernel of the scenario has: those of 10 and 11, and of modules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bsd.handmade import HandMade
from tests.writers.objects import Object, addressof
from volatility3_freebsd_kvm.bsd.file import Directories, Files, Table, directories_of
from volatility3_freebsd_kvm.bsd.file_objects import Referents
from volatility3_freebsd_kvm.bsd.filesystem import Attributes, attributes_of, device_name, lower_vnode
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.path import Paths, VnodePath, is_doomed, vnode_path
from volatility3_freebsd_kvm.bsd.pipe import read_pipe
from volatility3_freebsd_kvm.bsd.records import Absent

POINTER = "void *"
FILES = {
    "fileops": {"fo_read": POINTER},
    "file": {
        "f_data": POINTER,
        "f_ops": "fileops *",
        "f_vnode": POINTER,
        "f_cred": POINTER,
        "f_type": "short",
        "f_flag": "unsigned int",
        "f_count": "int",
        "f_offset": "long",
    },
    "filedescent": {"fde_file": "file *", "fde_caps": "unsigned long[5]", "fde_flags": "unsigned char"},
}
# sys/sys/filedesc.h of 10: the table's size is in the structure itself, and so are the directories.
OLD_TABLE = {
    "filedesc": {
        "fd_ofiles": "filedescent *",
        "fd_cdir": POINTER,
        "fd_rdir": POINTER,
        "fd_jdir": POINTER,
        "fd_nfiles": "int",
        "fd_map": "unsigned long *",
        "fd_lastfile": "int",
        "fd_cmask": "unsigned short",
        "fd_refcnt": "unsigned short",
    },
    "proc": {"p_fd": "filedesc *"},
}
NAMES = {
    "statfs": {"f_mntonname": "char[88]"},
    "vfsconf": {"vfc_name": "char[16]"},
    "mount": {"mnt_vfc": "vfsconf *", "mnt_vnodecovered": POINTER, "mnt_stat": "statfs", "mnt_data": POINTER},
    "link": {"tqe_next": POINTER, "tqe_prev": POINTER},
    "head": {"tqh_first": POINTER, "tqh_last": POINTER},
    "cdev": {"si_name": "char[64]"},
    # 10 and 11 name the union, and the vnode of a name has no union around it.
    "union": {"vu_cdev": "cdev *"},
    "vnode": {
        "v_data": POINTER,
        "v_mount": "mount *",
        "v_un": "union",
        "v_cache_dst": "head",
        "v_cache_dd": POINTER,
        "v_iflag": "unsigned int",
        "v_vflag": "unsigned int",
        "v_type": "int",
    },
    "namecache": {
        "nc_dst": "link",
        "nc_dvp": "vnode *",
        "nc_vp": "vnode *",
        "nc_flag": "unsigned char",
        "nc_nlen": "unsigned char",
        "nc_name": "char[32]",
    },
}


class World(HandMade):
    """Mounts, vnodes and names."""

    def mount(self, fstype: bytes, on: bytes, covered: Object | int = 0) -> Object:
        conf = self.new("vfsconf", vfc_name=fstype)
        return self.new("mount", mnt_vfc=conf, mnt_vnodecovered=covered, mnt_stat__f_mntonname=on)

    def vnode(self, mount: Object | int, **members: Any) -> Object:
        return self.new("vnode", v_mount=mount, **members)

    def name(self, text: bytes, directory: Object, vnode: Object) -> None:
        entry = self.new("namecache", nc_dvp=directory, nc_vp=vnode, nc_nlen=len(text), nc_name=text)
        vnode.v_cache_dst = {"tqh_first": entry, "tqh_last": addressof(entry, "nc_dst")}
        entry.nc_dst.tqe_prev = addressof(vnode, "v_cache_dst")


@pytest.fixture
def world() -> World:
    return World({**FILES, **OLD_TABLE, **NAMES})


# --- 10 and 11 ------------------------------------------------------------------------------------------------------


def test_descriptor_table_of_10(world: World) -> None:
    operations = world.variable("vnops", "fileops")
    files = [world.new("file", f_type=1, f_ops=operations, f_flag=3, f_count=1, f_offset=7) for _ in range(2)]
    entries = world.new("filedescent[20]")
    entries[0].fde_file, entries[0].fde_flags = files[0], 1
    entries[4].fde_file = files[1]
    bitmap = world.new("unsigned long[1]")
    bitmap[0] = 0b10001
    members = {
        "fd_nfiles": 20,
        "fd_lastfile": 4,
        "fd_refcnt": 1,
        "fd_cdir": 0x1000,
        "fd_rdir": 0x2000,
        "fd_cmask": 0o77,
    }
    filedesc = world.new("filedesc", fd_ofiles=entries, fd_map=bitmap, **members)
    proc = world.new("proc", p_fd=filedesc)
    kernel = world.kernel()
    table = Table(Files(kernel), kernel.object("filedesc", int(filedesc)))
    found = [(one.number, one.file.address_, one.flags, one.notes) for one in table]
    assert found == [(0, int(files[0]), ("close-on-exec",), ()), (4, int(files[1]), (), ())]
    assert (table.size, table.references, table.problems) == (20, 1, [])
    assert directories_of(kernel, kernel.object("proc", int(proc))) == Directories(0x1000, 0x2000, 0, 0, 0o77)
    file = Files(kernel).read(kernel.object("file", int(files[1])))
    assert (file.kind, file.flags, file.references, file.offset, file.operations) == (
        "vnode",
        "rw------",
        1,
        7,
        "vnops",
    )


def test_names_of_11(world: World) -> None:
    root_mount = world.mount(b"ufs", b"/")
    root = world.vnode(root_mount, v_vflag=1, v_type=2)
    directory, file = world.vnode(root_mount, v_type=2), world.vnode(root_mount, v_type=1)
    world.name(b"etc", root, directory)
    world.name(b"passwd", directory, file)
    assert vnode_path(world.kernel(), int(file)) == VnodePath("/etc/passwd")


def test_devices_of_11(world: World) -> None:
    device = world.new("cdev", si_name=b"pts/3")
    covered = world.vnode(world.mount(b"ufs", b"/"), v_vflag=1)
    vnode = world.vnode(world.mount(b"devfs", b"/dev", covered), v_type=4, v_un__vu_cdev=device)
    kernel = world.kernel()
    assert device_name(kernel.object("vnode", int(vnode))) == "pts/3"
    # Where that is mounted, the name cache of this world does not know, but the mount does.
    assert vnode_path(kernel, int(vnode)).path == "/pts/3"
    gone = world.vnode(world.mount(b"devfs", b"/dev"), v_type=4)
    assert device_name(world.kernel().object("vnode", int(gone))) == ""


@pytest.mark.parametrize(("flags", "doomed"), [(0x80, True), (0x280, True), (0x200, False)])
def test_doomed_vnodes_of_11(world: World, flags: int, doomed: bool) -> None:
    vnode = world.vnode(world.mount(b"ufs", b"/"), v_iflag=flags)
    assert is_doomed(world.kernel().object("vnode", int(vnode))) == doomed


# --- file systems whose types are in modules ------------------------------------------------------------------------


@pytest.mark.parametrize("words", [1, 2, 3])
def test_lower_vnode_behind_links_of_any_size(words: int) -> None:
    """A LIST has two words; whatever it may become, the vnode below is in front of the one above."""
    world = World({**NAMES, "null_node": {"hash": f"void *[{words}]", "lower": "vnode *", "vnode": "vnode *"}})
    lower = world.vnode(world.mount(b"ufs", b"/"))
    vnode = world.vnode(world.mount(b"nullfs", b"/mnt"))
    vnode.v_data = world.new("null_node", lower=lower, vnode=vnode)
    assert lower_vnode(world.kernel(), int(vnode)) == int(lower)


def test_nullfs_upon_nullfs() -> None:
    """/a is shown at /b, and that at /c."""
    private = {"null_node": {"hash": "void *[2]", "lower": "vnode *", "vnode": "vnode *"}}
    private["null_mount"] = {"vfs": "mount *", "lower": "vnode *"}
    world = World({**NAMES, **private})
    root_mount = world.mount(b"ufs", b"/")
    root = world.vnode(root_mount, v_vflag=1, v_type=2)
    places = {name: world.vnode(root_mount, v_type=2) for name in ("a", "b", "c")}
    for name, place in places.items():
        world.name(name.encode(), root, place)
    directory, file = world.vnode(root_mount, v_type=2), world.vnode(root_mount, v_type=1)
    world.name(b"dir", places["a"], directory)
    world.name(b"file", directory, file)
    below_root, below_file = places["a"], file
    for name in ("b", "c"):
        mount = world.mount(b"nullfs", f"/{name}".encode(), places[name])
        mount.mnt_data = world.new("null_mount", vfs=mount, lower=below_root)
        below_root, below_file = (upper(world, mount, lower) for lower in (below_root, below_file))
        below_root.v_vflag = 1
        assert vnode_path(world.kernel(), int(below_root)) == VnodePath(f"/{name}")
        assert vnode_path(world.kernel(), int(below_file)) == VnodePath(f"/{name}/dir/file")


def upper(world: World, mount: Object, lower: Object) -> Object:
    vnode = world.vnode(mount)
    vnode.v_data = world.new("null_node", lower=lower, vnode=vnode)
    return vnode


def test_attributes_of_nfs_and_zfs() -> None:
    vattr = {"va_fileid": "unsigned long", "va_mode": "unsigned short", "va_uid": "int", "va_gid": "int"}
    nodes = {
        "vattr": vattr,
        "nfsvattr": {"na_vattr": "vattr"},
        "nfsnode": {"n_size": "unsigned long", "n_vattr": "nfsvattr", "n_vnode": "vnode *"},
        "znode": {
            "z_vnode": "vnode *",
            "z_id": "unsigned long",
            "z_size": "unsigned long",
            "z_links": "unsigned long",
            "z_uid": "unsigned long",
            "z_gid": "unsigned long",
            "z_mode": "unsigned short",
        },
    }
    world = World({**NAMES, **nodes})
    nfs, zfs = (world.vnode(world.mount(name, b"/mnt")) for name in (b"nfs", b"zfs"))
    node = world.new("nfsnode", n_size=99, n_vnode=nfs)
    node.n_vattr.na_vattr = {"va_fileid": 5, "va_mode": 0o600, "va_uid": 10, "va_gid": 20}
    nfs.v_data = node
    zfs.v_data = world.new("znode", z_vnode=zfs, z_id=6, z_size=7, z_links=0, z_uid=8, z_gid=9, z_mode=0o755)
    kernel = world.kernel()
    # NFS does not keep links that could be trusted.
    assert attributes_of(kernel, kernel.object("vnode", int(nfs))) == Attributes(
        5, 0o600, 10, 20, 99, Absent.NOT_APPLICABLE
    )
    found = attributes_of(kernel, kernel.object("vnode", int(zfs)))
    assert found == Attributes(6, 0o755, 8, 9, 7, 0)
    assert found.deleted


# --- files of other kinds -------------------------------------------------------------------------------------------

KINDS = {
    "timerfd": {"tfd_clockid": "int", "tfd_count": "unsigned long"},
    "inotify_softc": {"npending": "unsigned int"},
    "prison": {"pr_id": "int", "pr_name": "char[256]"},
    "jaildesc": {"jd_prison": "prison *"},
    "procdesc": {"pd_proc": POINTER, "pd_pid": "int"},
    "ksem": {"ks_path": "char *", "ks_value": "int", "ks_mode": "int"},
}


def referent(world: HandMade, kind: int, operations: str, data: Object | int) -> tuple[str | Absent, tuple[str, ...]]:
    """Name and notes of an open file."""
    table = world.variable(operations, "fileops")
    file = world.new("file", f_type=kind, f_ops=table, f_data=data, f_count=1)
    kernel: Kernel = world.kernel()
    files = Files(kernel)
    found = Referents(kernel, files, Paths(kernel)).of(files.read(kernel.object("file", int(file))))
    return found.name, found.notes


@pytest.mark.parametrize(
    ("kind", "operations", "type_name", "members", "text"),
    [
        (14, "timerfdops", "timerfd", {"tfd_clockid": 4, "tfd_count": 2}, "CLOCK_MONOTONIC, count 2"),
        (14, "timerfdops", "timerfd", {"tfd_clockid": 99}, "clock 99, count 0"),
        (15, "inotifyfdops", "inotify_softc", {"npending": 3}, "3 pending"),
        (16, "jaildesc_ops", "jaildesc", {}, "a jail that is gone"),
        (12, "procdesc_ops", "procdesc", {"pd_pid": 17}, "process 17, which is gone"),
        (9, "ksem_ops", "ksem", {"ks_value": 4}, "anonymous, value 4"),
    ],
)
def test_files_of_other_kinds(kind: int, operations: str, type_name: str, members: dict[str, int], text: str) -> None:
    world = HandMade({**FILES, **KINDS})
    assert referent(world, kind, operations, world.new(type_name, **members)) == (text, ())


def test_jail_behind_a_descriptor() -> None:
    world = HandMade({**FILES, **KINDS})
    prison = world.new("prison", pr_id=7, pr_name=b"web.inner")
    assert referent(world, 16, "jaildesc_ops", world.new("jaildesc", jd_prison=prison)) == ("jail 7 (web.inner)", ())


def test_files_of_drivers_and_of_unknown_kinds() -> None:
    world = HandMade({**FILES, **KINDS})
    assert referent(world, 11, "linuxfileops", 0x1234) == ("linuxfileops", ())
    assert referent(world, 6, "cryptofops", 0x1234) == (Absent.NOT_APPLICABLE, ())
    assert referent(world, 2, "socketops", 0) == (Absent.NOT_APPLICABLE, ("it has no socket",))
    assert referent(world, 1, "vnops", 0) == (Absent.NOT_APPLICABLE, ("it has no vnode",))


@pytest.mark.parametrize(
    ("lent", "state", "waiting"), [("pipe_pages", 0x400, 105), ("pipe_map", 0x400, 105), ("pipe_map", 0, 5)]
)
def test_pages_that_a_writer_lends_to_a_pipe(lent: str, state: int, waiting: int) -> None:
    """`pipe_pages` since 13.0, `pipe_map` before."""
    buffer = {"cnt": "unsigned int", "in": "unsigned int", "out": "unsigned int", "size": "unsigned int"}
    pipe = {"pipe_buffer": "pipebuf", lent: "pages", "pipe_peer": "pipe *", "pipe_state": "int", "pipe_present": "int"}
    pipe["pipe_ino"] = "unsigned long"
    world = HandMade({"pipebuf": {**buffer, "buffer": "char *"}, "pages": {"cnt": "int"}, "pipe": pipe})
    made = world.new("pipe", pipe_state=state, pipe_present=1, **{f"{lent}__cnt": 100})
    made.pipe_buffer = {"cnt": 5, "size": 16384}
    found = read_pipe(world.kernel(), int(made))
    assert (found.waiting, found.peer, found.notes) == (waiting, 0, ())
