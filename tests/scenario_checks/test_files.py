"""What the dumps hold of mounts, vnodes, names, devices and terminals, read from scratch, is as described."""

from __future__ import annotations

import pytest

from tests.scenario.system import SYSTEM

from .file_truth import (
    FORMATS,
    MOUNTS,
    TYPES,
    VNODES,
    all_vnodes,
    every_kernel,
    files,
    fnv,
    known_path,
    ordered_vnodes,
    truth_path,
    walker,
)
from .file_walker import Walker

# Mounts


@every_kernel
def test_mounts(kernel: str) -> None:
    walk = walker(kernel)
    flags = {"MNT_RDONLY": 1, "MNT_NOEXEC": 4, "MNT_NOSUID": 8, "MNT_LOCAL": 0x1000, "MNT_ROOTFS": 0x4000}
    flags |= {"MNT_SOFTDEP": 0x200000, "MNT_MULTILABEL": 0x4000000, "MNT_NOATIME": 0x10000000}
    found = walk.mounts()
    assert len(found) == len(SYSTEM.mounts)
    for address, mount in zip(found, SYSTEM.mounts, strict=True):
        stat = walk.at(address, "mount", "mnt_stat")
        assert walk.array(stat, "statfs", "f_mntonname") == mount.on.encode()
        assert walk.array(stat, "statfs", "f_mntfromname") == mount.source.encode()
        assert walk.array(stat, "statfs", "f_fstypename") == mount.fstype.encode()
        assert walk.get(stat, "statfs", "f_version") == 0x20140518
        assert walk.get(stat, "statfs", "f_owner") == mount.owner
        first = walk.at(stat, "statfs", "f_fsid")
        assert (walk.number(first, 4), walk.number(first + 4, 4)) == mount.fsid
        wanted = sum(flags[name] for name in mount.flags)
        assert walk.get(address, "mount", "mnt_flag") == walk.get(stat, "statfs", "f_flags") == wanted
        covered = walk.get(address, "mount", "mnt_vnodecovered")
        if mount.covers:
            assert walk.get(covered, "vnode", "v_mountedhere") == address
            assert walk.path(covered) == mount.on
        else:
            assert covered == 0
        if walk.has("mount", "mnt_rootvnode"):
            assert walk.path(walk.get(address, "mount", "mnt_rootvnode")) == mount.on
        vfs = walk.get(address, "mount", "mnt_vfc")
        assert walk.array(vfs, "vfsconf", "vfc_name") == mount.fstype.encode()
        assert walk.get(address, "mount", "mnt_op") == walk.get(vfs, "vfsconf", "vfc_vfsops")


@every_kernel
def test_mount_options(kernel: str) -> None:
    walk = walker(kernel)
    for address, mount in zip(walk.mounts(), SYSTEM.mounts, strict=True):
        options = {}
        for option in walk.queue(walk.get(address, "mount", "mnt_opt"), "vfsopt", "link"):
            name = walk.string(walk.get(option, "vfsopt", "name")).decode()
            value = walk.get(option, "vfsopt", "value")
            options[name] = walk.string(value).decode() if value else ""
        assert (options["fstype"], options["fspath"]) == (mount.fstype, mount.on)
        assert options["from"] == mount.source
        assert ("nosuid" in options) == ("MNT_NOSUID" in mount.flags)


@every_kernel
def test_file_systems(kernel: str) -> None:
    walk = walker(kernel)
    found = {
        walk.array(conf, "vfsconf", "vfc_name"): conf
        for conf in walk.queue(walk.symbols["vfsconf"], "vfsconf", "vfc_list")
    }
    assert {mount.fstype.encode() for mount in SYSTEM.mounts} <= set(found)
    for name, conf in found.items():
        assert walk.get(conf, "vfsconf", "vfc_typenum") == fnv(name) & 0xFF
        count = sum(mount.fstype.encode() == name for mount in SYSTEM.mounts)
        assert walk.get(conf, "vfsconf", "vfc_refcount") == count
    assert walk.number(walk.symbols["maxvfsconf"], 4) > max(
        walk.get(conf, "vfsconf", "vfc_typenum") for conf in found.values()
    )


# Vnodes


@every_kernel
def test_vnodes_of_each_mount(kernel: str) -> None:
    walk = walker(kernel)
    for address, mount in zip(walk.mounts(), SYSTEM.mounts, strict=True):
        vnodes = walk.mount_vnodes(address)
        described = [vnode for vnode in SYSTEM.vnodes if vnode.mount == mount.key]
        assert walk.get(address, "mount", "mnt_nvnodelistsize") == len(vnodes) == len(described)
        for vnode, truth in zip(vnodes, described, strict=True):
            assert walk.get(vnode, "vnode", "v_mount") == address
            assert walk.get(vnode, "vnode", "v_type") == TYPES[truth.kind], truth.key
            assert walk.path(vnode) == known_path(truth), truth.key
            if mount.fstype != "nfs":
                assert walk.inode_number(vnode) == truth.inode, truth.key
            if walk.has("vnode", "v_state"):
                assert walk.get(vnode, "vnode", "v_state") == 1


@every_kernel
def test_vnode_operations_are_those_of_the_file_system(kernel: str) -> None:
    walk = walker(kernel)
    expected = {
        ("ufs", "VREG"): "ffs_vnodeops2",
        ("tmpfs", "VREG"): "tmpfs_vnodeop_entries",
        ("tmpfs", "VFIFO"): "tmpfs_fifoop_entries",
        ("devfs", "VCHR"): "devfs_specops",
        ("devfs", "VDIR"): "devfs_vnodeops",
        ("nullfs", "VREG"): "null_vnodeops",
    }
    for vnode, truth in zip(all_vnodes(walk), ordered_vnodes(), strict=True):
        name = expected.get((MOUNTS[truth.mount].fstype, truth.kind))
        if name:
            assert walk.names[walk.get(vnode, "vnode", "v_op")] == name
        default = walk.get(walk.get(vnode, "vnode", "v_op"), "vop_vector", "vop_default")
        assert walk.names[default].endswith(("vnodeops", "fifo_specops"))
        if walk.has("vnode", "v_tag"):
            tag = {"nullfs": b"null"}.get(MOUNTS[truth.mount].fstype, MOUNTS[truth.mount].fstype.encode())
            assert walk.string(walk.get(vnode, "vnode", "v_tag")) == tag


@every_kernel
def test_attributes_of_ufs_and_tmpfs(kernel: str) -> None:
    walk = walker(kernel)
    for vnode, truth in zip(all_vnodes(walk), ordered_vnodes(), strict=True):
        data = walk.get(vnode, "vnode", "v_data")
        fstype = MOUNTS[truth.mount].fstype
        names = 0 if truth.deleted else 1 + len(truth.names)
        if fstype == "ufs":
            assert walk.get(data, "inode", "i_mode") == FORMATS[truth.kind] | truth.mode
            assert (walk.get(data, "inode", "i_size"), walk.get(data, "inode", "i_uid")) == (truth.size, truth.uid)
            disk = walk.get(data, "inode", "i_dp.dp2" if walk.has("inode", "i_dp") else "dinode_u.din2")
            times = [walk.get(disk, "ufs2_dinode", f"di_{kind}time") for kind in ("a", "m", "c", "birth")]
            links = walk.get(data, "inode", "i_nlink")
            assert walk.get(disk, "ufs2_dinode", "di_size") == truth.size
            assert walk.get(disk, "ufs2_dinode", "di_nlink") == links
            mount = walk.get(walk.get(data, "inode", "i_ump"), "ufsmount", "um_mountp")
            assert mount == walk.get(vnode, "vnode", "v_mount")
        elif fstype == "tmpfs":
            assert walk.get(data, "tmpfs_node", "tn_mode") == truth.mode
            assert (walk.get(data, "tmpfs_node", "tn_size"), walk.get(data, "tmpfs_node", "tn_uid")) == (
                truth.size,
                truth.uid,
            )
            times = [walk.get(data, "tmpfs_node", f"tn_{kind}time.tv_sec") for kind in ("a", "m", "c", "birth")]
            links = walk.get(data, "tmpfs_node", "tn_links")
        else:
            continue
        assert tuple(times) == truth.times
        assert links == names if truth.kind != "VDIR" else links >= 2


@every_kernel
def test_tmpfs_knows_all_its_nodes(kernel: str) -> None:
    walk = walker(kernel)
    mount = next(item for item, truth in zip(walk.mounts(), SYSTEM.mounts, strict=True) if truth.key == "tmp")
    data = walk.get(mount, "mount", "mnt_data")
    nodes = list(walk.chain(walk.at(data, "tmpfs_mount", "tm_nodes_used"), "tmpfs_node", "tn_entries"))
    assert {walk.get(node, "tmpfs_node", "tn_vnode") for node in nodes} == set(walk.mount_vnodes(mount))


@every_kernel
def test_directories_of_tmpfs(kernel: str) -> None:
    """The names of a file system that is all memory, the one without an entry in the name cache included."""
    walk = walker(kernel)
    for vnode, truth in zip(all_vnodes(walk), ordered_vnodes(), strict=True):
        if MOUNTS[truth.mount].fstype == "tmpfs" and truth.kind == "VDIR":
            node = walk.get(vnode, "vnode", "v_data")
            head = walk.at(node, "tmpfs_node", "tn_spec.tn_dir.tn_dirhead")
            names = {}
            for entry in tree_nodes(walk, walk.pointer(head), 0):
                length = walk.get(entry, "tmpfs_dirent", "td_namelen")
                name = walk.dump.read(walk.get(entry, "tmpfs_dirent", "ud.td_name"), length)
                cookie = fnv(name, 33554467 + length) & 0x3FFFFFFF
                assert walk.get(entry, "tmpfs_dirent", "td_cookie") == cookie
                names[name.decode()] = walk.get(walk.get(entry, "tmpfs_dirent", "td_node"), "tmpfs_node", "tn_id")
            inside = [item for item in SYSTEM.vnodes if item.mount == truth.mount and item.path and not item.deleted]
            assert names == {item.path.rpartition("/")[2]: item.inode for item in inside}


def tree_nodes(walk: Walker, node: int, parent: int) -> list[int]:
    """The entries below one, in order; the links are three words: parent first (14.0), or last, before the colour."""
    if not node:
        return []
    word = walk.types.pointer_size
    union = walk.types.member("tmpfs_dirent", "uh").type["name"]
    link = walk.types.member(union, "td_entries").type["name"]
    links = [walk.pointer(node + index * word) for index in range(3)]
    left, right, above = (links[1], links[2], links[0] & ~3) if walk.has(link, "rbe_link") else links
    assert above == parent
    found = [*tree_nodes(walk, left, node), node, *tree_nodes(walk, right, node)]
    cookies = [walk.get(entry, "tmpfs_dirent", "td_cookie") for entry in found]
    assert cookies == sorted(cookies)
    return found


@every_kernel
def test_root_vnode_and_global_lists(kernel: str) -> None:
    walk = walker(kernel)
    root = walk.global_pointer("rootvnode")
    assert walk.path(root) == "/"
    mounted = set(all_vnodes(walk))
    if walk.has("vnode", "v_vnodelist"):
        listed = walk.queue(walk.symbols["vnode_list"], "vnode", "v_vnodelist")
        markers = {walk.global_pointer(f"vnode_list_{kind}_marker") for kind in ("free", "reclaim")}
        assert all(walk.get(marker, "vnode", "v_type") == 9 for marker in markers)
        rest = set(listed) - markers
    else:
        free = walk.queue(walk.symbols["vnode_free_list"], "vnode", "v_actfreelist")
        active = [
            vnode
            for mount in walk.mounts()
            for vnode in walk.queue(walk.at(mount, "mount", "mnt_activevnodelist"), "vnode", "v_actfreelist")
        ]
        assert all(walk.get(vnode, "vnode", "v_holdcnt") for vnode in active)
        assert not any(walk.get(vnode, "vnode", "v_holdcnt") for vnode in free)
        assert all(walk.get(vnode, "vnode", "v_iflag") & 0x200 for vnode in active)
        # A reclaimed vnode that is open is on no list.
        rest = {*free, *active, *doomed(walk)}
    assert rest == mounted | doomed(walk)
    assert walk.number(walk.symbols["numvnodes"], walk.types.pointer_size) == len(SYSTEM.vnodes)


def doomed(walk: Walker) -> set[int]:
    """Vnodes of open files that are on no mount."""
    found = set()
    for file, _ in files(walk).values():
        vnode = walk.get(file, "file", "f_vnode")
        if vnode and not walk.get(vnode, "vnode", "v_mount"):
            found.add(vnode)
            assert walk.get(vnode, "vnode", "v_type") == 8
            assert walk.names[walk.get(vnode, "vnode", "v_op")] == "dead_vnodeops"
            if walk.has("vnode", "v_irflag"):
                assert walk.get(vnode, "vnode", "v_irflag") & 1
            else:
                assert walk.get(vnode, "vnode", "v_iflag") & 0x80
    return found


@every_kernel
def test_vnode_hash(kernel: str) -> None:
    walk = walker(kernel)
    if "vfs_hash_tbl" not in walk.symbols:
        pytest.skip("this kernel has no vfs_hash_tbl")
    found = set()
    for index, chain in walk.hash_chains("vfs_hash_tbl", "vfs_hash_mask", "vnode", "v_hashlist", back=True).items():
        for vnode in chain:
            seed = walk.get(walk.get(vnode, "vnode", "v_mount"), "mount", "mnt_hashseed")
            mask = walk.global_pointer("vfs_hash_mask")
            assert walk.get(vnode, "vnode", "v_hash") + seed & mask == index
            found.add(vnode)
    hashed = {
        vnode
        for vnode, truth in zip(all_vnodes(walk), ordered_vnodes(), strict=True)
        if MOUNTS[truth.mount].fstype in ("ufs", "nfs")
    }
    assert found == hashed


# The name cache


@every_kernel
def test_name_cache_by_hash_and_by_directory(kernel: str) -> None:
    walk = walker(kernel)
    size = walk.types.pointer_size
    single = walk.types.size(walk.types.member("namecache", "nc_hash").type) == size
    names = {}
    chains = walk.hash_chains("nchashtbl", "nchash", "namecache", "nc_hash", back=not single)
    for index, chain in chains.items():
        for address in chain:
            entry = walk.name_entry(address)
            where = entry.directory.to_bytes(size, walk.order)
            if walk.has("vnode", "v_nchash"):
                assert walk.get(entry.directory, "vnode", "v_nchash") == fnv(where)
                value = fnv(entry.name, fnv(where))
            else:
                value = fnv(where, fnv(entry.name))
            assert value & len(chains) - 1 == index
            names[address] = entry
    expected = expected_names()
    found = {(walk.path(entry.directory), entry.name.decode()): entry for entry in names.values()}
    assert {key for key in found if key[0] is not None} == set(expected)
    for key, entry in found.items():
        if entry.flags & 0x20:
            assert expected[key] is None
        elif key[0] is not None:
            assert walk.path(entry.vnode) == expected[key]
    dotdot = [entry for entry in names.values() if entry.flags & 0x02]
    assert [walk.path(entry.vnode) for entry in dotdot] == ["/var"]
    assert walk.get(dotdot[0].directory, "vnode", "v_cache_dd") == dotdot[0].address
    assert walk.number(walk.symbols["numcache"], size) == len(names)
    assert walk.number(walk.symbols["numneg"], size) == len(SYSTEM.negative_names)
    by_directory = {
        name
        for vnode in all_vnodes(walk)
        for name in walk.chain(walk.at(vnode, "vnode", "v_cache_src"), "namecache", "nc_src")
    }
    assert by_directory == {address for address, entry in names.items() if not entry.flags & 0x02}


def expected_names() -> dict[tuple[str | None, str], str | None]:
    """What names lead to, by directory and name; the path it is known by first for files with several."""
    found: dict[tuple[str | None, str], str | None] = {}
    for vnode in SYSTEM.vnodes:
        in_cache = vnode.mount and MOUNTS[vnode.mount].fstype in ("ufs", "tmpfs", "nfs")
        if in_cache and vnode.path not in ("", "/") and known_path(vnode):
            for path in (vnode.path, *vnode.names):
                directory, _, name = path.rpartition("/")
                found[directory or "/", name] = vnode.path
    for key, name in SYSTEM.negative_names:
        found[truth_path(VNODES[key]), name] = None
    # Where something is mounted, the name leads to the directory below it, whose path is the same.
    return found


@every_kernel
def test_times_of_names_on_nfs(kernel: str) -> None:
    walk = walker(kernel)
    offset = walk.types.offsetof("namecache_ts", "nc_nc")
    count = 0
    for vnode in all_vnodes(walk):
        for name in walk.chain(walk.at(vnode, "vnode", "v_cache_src"), "namecache", "nc_src"):
            timed = bool(walk.get(name, "namecache", "nc_flag") & 0x04)
            assert timed == (walk.fstype(vnode) == b"nfs")
            if timed:
                assert walk.get(name - offset, "namecache_ts", "nc_ticks") > 0
                count += 1
    assert count >= 3


@every_kernel
def test_negative_names_are_on_their_lists(kernel: str) -> None:
    walk = walker(kernel)
    if "neglists" not in walk.symbols:
        pytest.skip("neglists are private to vfs_cache.c")
    size = walk.types.sizeof("struct neglist")
    found = []
    for index in range(4):
        place = walk.at(walk.symbols["neglists"] + index * size, "neglist", "nl_list")
        found += [walk.name_entry(entry).name.decode() for entry in walk.queue(place, "namecache", "nc_dst")]
    assert sorted(found) == sorted(name for _, name in SYSTEM.negative_names)


# Devices and terminals


@every_kernel
def test_devices(kernel: str) -> None:
    walk = walker(kernel)
    privates = walk.queue(walk.symbols["cdevp_list"], "cdev_priv", "cdp_list")
    assert len(privates) == len(SYSTEM.devices)
    for private, device in zip(privates, SYSTEM.devices, strict=True):
        cdev = walk.at(private, "cdev_priv", "cdp_c")
        assert walk.array(cdev, "cdev", "si_name") == device.name.encode()
        fields = [walk.get(cdev, "cdev", f"si_{field}") for field in ("mode", "uid", "gid")]
        assert fields == [device.mode, device.uid, device.gid]
        driver = walk.get(cdev, "cdev", "si_devsw")
        if device.driver in walk.symbols:
            assert walk.names[driver] == device.driver
        assert walk.string(walk.get(driver, "cdevsw", "d_name"))
        assert cdev in walk.chain(walk.at(driver, "cdevsw", "d_devs"), "cdev", "si_list")
        assert walk.get(private, "cdev_priv", "cdp_inode") == device.inode
        entries = walk.get(private, "cdev_priv", "cdp_dirents")
        for index in range(walk.get(private, "cdev_priv", "cdp_inuse")):
            entry = walk.pointer(entries + index * walk.types.pointer_size)
            assert walk.get(entry, "devfs_dirent", "de_cdp") == private
            assert walk.entry_name(entry) == device.name.rpartition("/")[2]


@every_kernel
def test_devfs_trees(kernel: str) -> None:
    walk = walker(kernel)
    for address, mount in zip(walk.mounts(), SYSTEM.mounts, strict=True):
        if mount.fstype == "devfs":
            data = walk.get(address, "mount", "mnt_data")
            assert walk.get(data, "devfs_mount", "dm_mount") == address
            root = walk.get(data, "devfs_mount", "dm_rootdir")
            shown = {device.name for device in SYSTEM.devices if mount.key not in device.hidden}
            assert dict(tree(walk, root, "")) == {device.name: device.name in shown for device in SYSTEM.devices}


def tree(walk: Walker, directory: int, prefix: str) -> list[tuple[str, bool]]:
    """Devices below a directory of devfs, and whether they are shown."""
    found = []
    entries = walk.queue(walk.at(directory, "devfs_dirent", "de_dlist"), "devfs_dirent", "de_list")
    assert [walk.entry_name(entry) for entry in entries[:2]] == [".", ".."]
    for entry in entries[2:]:
        name = prefix + walk.entry_name(entry)
        if walk.get(entry, "devfs_dirent", "de_cdp"):
            found.append((name, not walk.get(entry, "devfs_dirent", "de_flags") & 0x01))
        else:
            found += tree(walk, entry, name + "/")
    return found


@every_kernel
def test_terminals(kernel: str) -> None:
    walk = walker(kernel)
    ttys = walk.queue(walk.symbols["tty_list"], "tty", "t_list")
    assert len(ttys) == len(SYSTEM.terminals) == walk.number(walk.symbols["tty_list_count"], 4)
    for tty, terminal in zip(ttys, SYSTEM.terminals, strict=True):
        cdev = walk.get(tty, "tty", "t_dev")
        assert walk.array(cdev, "cdev", "si_name") == terminal.name.encode()
        assert walk.get(cdev, "cdev", "si_drv1") == tty
        session = walk.get(tty, "tty", "t_session")
        assert walk.get(session, "session", "s_sid") == terminal.sid
        assert walk.get(session, "session", "s_ttyp") == tty
        assert walk.path(walk.get(session, "session", "s_ttyvp")) == f"/dev/{terminal.name}"
        assert walk.get(walk.get(tty, "tty", "t_pgrp"), "pgrp", "pg_id") == terminal.pgid
        assert output(walk, tty) == terminal.output
        assert typed(walk, tty) == terminal.input


def output(walk: Walker, tty: int) -> bytes:
    queue = walk.at(tty, "tty", "t_outq")
    word = walk.types.pointer_size
    data, block = b"", walk.get(queue, "ttyoutq", "to_firstblock")
    while block:
        data += walk.dump.read(block + word, 256 - word)
        block = walk.pointer(block)
    return data[walk.get(queue, "ttyoutq", "to_begin") : walk.get(queue, "ttyoutq", "to_end")]


def typed(walk: Walker, tty: int) -> bytes:
    queue = walk.at(tty, "tty", "t_inq")
    word = walk.types.pointer_size
    data, block = b"", walk.get(queue, "ttyinq", "ti_firstblock")
    while block:
        data += walk.dump.read(block + 2 * word + 16, 128)
        block = walk.pointer(block + word)
    return data[walk.get(queue, "ttyinq", "ti_begin") : walk.get(queue, "ttyinq", "ti_end")]
