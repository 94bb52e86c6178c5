"""What the dumps hold of descriptors and of what they refer to, read from scratch, is as described."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.scenario.model import Descriptor
from tests.scenario.system import SYSTEM

from .file_truth import (
    PROCESSES,
    VNODES,
    all_vnodes,
    every_kernel,
    files,
    fnv,
    known_path,
    ordered_vnodes,
    process_of,
    truth_files,
    truth_path,
    walker,
)
from .file_walker import Walker

# Descriptors


OPERATIONS = {
    "vnode": (1, "vnops"),
    "socket": (2, "socketops"),
    "pipe": (3, "pipeops"),
    "kqueue": (5, "kqueueops"),
    "mqueue": (7, "mqueueops"),
    "shm": (8, "shm_ops"),
    "sem": (9, "ksem_ops"),
    "pts": (10, "ptsdev_ops"),
    "procdesc": (12, "procdesc_ops"),
    "eventfd": (13, "eventfdops"),
}


@every_kernel
def test_descriptors(kernel: str) -> None:
    walk = walker(kernel)
    found, expected = files(walk), truth_files()
    assert set(found) == set(expected)
    by_file = Counter(file for (pid, _), (file, _) in found.items() if not PROCESSES[pid].shares_files_with)
    for key, descriptor in expected.items():
        file, entry = found[key]
        assert walk.get(entry, "filedescent", "fde_flags") == descriptor.close_on_exec
        flags = {"r": 1, "w": 2, "n": 4, "a": 8}
        assert walk.get(file, "file", "f_flag") == sum(flags[letter] for letter in descriptor.flags)
        assert walk.get(file, "file", "f_offset") == descriptor.offset
        assert walk.get(file, "file", "f_count") == by_file[file]
        kind, operations = OPERATIONS[descriptor.kind]
        vnode = VNODES.get(descriptor.key) if descriptor.kind == "vnode" else None
        if vnode and vnode.kind == "VCHR":
            operations = "devfs_ops_f"
        if vnode and vnode.kind == "VFIFO":
            kind, operations = 4, "pipeops"
        assert walk.get(file, "file", "f_type") == kind, descriptor
        assert walk.names[walk.get(file, "file", "f_ops")] == operations
        if vnode:
            address = walk.get(file, "file", "f_vnode")
            assert walk.path(address) == known_path(vnode) or vnode.doomed
            assert walk.get(address, "vnode", "v_usecount") > 0
            if vnode.kind == "VCHR":
                assert walk.get(file, "file", "f_data") == walk.get(address, "vnode", "v_rdev")
        else:
            assert walk.get(file, "file", "f_vnode") == 0
        credentials = SYSTEM.credentials[process_of(PROCESSES[key[0]]).credentials]
        cred = walk.get(file, "file", "f_cred")
        assert walk.get(cred, "ucred", "cr_uid") in {credentials.uid, owner_uid(descriptor)}


def owner_uid(descriptor: Descriptor) -> int:
    """The uid of the process that opened a shared file first."""
    return next(
        SYSTEM.credentials[process.credentials].uid
        for process in SYSTEM.processes
        for item in process.descriptors
        if item == descriptor or (descriptor.file and item.file == descriptor.file)
    )


@every_kernel
def test_shared_files_and_tables(kernel: str) -> None:
    walk = walker(kernel)
    found, expected = files(walk), truth_files()
    shared: dict[str, set[int]] = {}
    for key, descriptor in expected.items():
        if descriptor.file:
            shared.setdefault(descriptor.file, set()).add(found[key][0])
    assert all(len(addresses) == 1 for addresses in shared.values())
    procs = walk.processes()
    for pid, process in PROCESSES.items():
        if process.shares_files_with:
            tables = [walk.get(procs[number], "proc", "p_fd") for number in (pid, process.shares_files_with)]
            assert tables[0] == tables[1]
            assert walk.get(tables[0], "filedesc", "fd_refcnt") == 2
        elif pid in procs:
            table = walk.get(procs[pid], "proc", "p_fd")
            sharers = sum(other.shares_files_with == pid for other in PROCESSES.values())
            assert walk.get(table, "filedesc", "fd_refcnt") == 1 + sharers
            if walk.has("filedesc", "fd_lastfile"):
                highest = max((item.fd for item in process.descriptors), default=-1)
                assert walk.get(table, "filedesc", "fd_lastfile", signed=True) == highest
    assert walk.number(walk.symbols["openfiles"], 4) == len({file for file, _ in found.values()})


@every_kernel
def test_old_tables_are_kept(kernel: str) -> None:
    """Number 70 needed a third table; the second one is still there with what it held."""
    walk = walker(kernel)
    filedesc = walk.get(walk.processes()[700], "proc", "p_fd")
    old = list(walk.chain(walk.at(filedesc, "filedesc0", "fd_free"), "freetable", "ft_next", back=False))
    assert len(old) == 1
    table = walk.get(old[0], "freetable", "ft_table")
    count = walk.get(table, "fdescenttbl", "fdt_nfiles")
    assert count == 64
    size = walk.types.sizeof("struct filedescent")
    start = walk.at(table, "fdescenttbl", "fdt_ofiles")
    assert old[0] == start + count * size
    found = {
        number: walk.get(start + number * size, "filedescent", "fde_file")
        for number in range(count)
        if walk.get(start + number * size, "filedescent", "fde_file")
    }
    assert found == {number: file for (pid, number), (file, _) in files(walk).items() if pid == 700 and number < count}


@every_kernel
def test_capability_rights(kernel: str) -> None:
    walk = walker(kernel)
    bits = {"CAP_READ": 1, "CAP_WRITE": 2, "CAP_SEEK": 0xC, "CAP_FSTAT": 0x80000}
    found = files(walk)
    for key, descriptor in truth_files().items():
        caps = walk.at(found[key][1], "filedescent", "fde_caps")
        rights = walk.at(caps, "filecaps", "fc_rights")
        first, second = walk.number(rights, 8), walk.number(rights + 8, 8)
        assert (first >> 57, second >> 57) == (1, 2)
        limited = descriptor.rights is not None
        if limited:
            assert first & (1 << 57) - 1 == sum(bits[name] for name in descriptor.rights or ())
            assert second & (1 << 57) - 1 == 0
        else:
            assert first & 0x7FFFFFFFFFF == 0x7FFFFFFFFFF
        assert walk.get(caps, "filecaps", "fc_nioctls", signed=True) == (0 if limited else -1)


@every_kernel
def test_directories_and_programs(kernel: str) -> None:
    walk = walker(kernel)
    for pid, proc in walk.processes().items():
        process = PROCESSES[pid]
        own = walk.has("proc", "p_pd")
        holder = process if own else process_of(process)
        for vnode, key in zip(walk.places(proc), (holder.cwd, holder.root, holder.jail_root), strict=True):
            assert (walk.path(vnode) if vnode else "") == (truth_path(VNODES[key]) if key else "")
        program = walk.get(proc, "proc", "p_textvp")
        assert (walk.path(program) if program else "") == (VNODES[process.text].path if process.text else "")
        if program and walk.has("proc", "p_binname"):
            name = walk.string(walk.get(proc, "proc", "p_binname")).decode()
            directory = walk.path(walk.get(proc, "proc", "p_textdvp"))
            assert f"{directory.rstrip('/')}/{name}" == VNODES[process.text].path if directory else False
        if own:
            pwddesc = walk.get(proc, "proc", "p_pd")
            assert walk.get(pwddesc, "pwddesc", "pd_cmask") == 0o022
        else:
            assert walk.get(walk.get(proc, "proc", "p_fd"), "filedesc", "fd_cmask") == 0o022


@every_kernel
def test_shared_directories_are_counted(kernel: str) -> None:
    walk = walker(kernel)
    if not walk.has("proc", "p_pd"):
        pytest.skip("directories are in the descriptor table")
    users: Counter[int] = Counter()
    for proc in walk.processes().values():
        pwddesc = walk.get(proc, "proc", "p_pd")
        users[walk.pointer(walk.at(pwddesc, "pwddesc", "pd_pwd"))] += 1
    assert {walk.get(pwd, "pwd", "pwd_refcount") - count for pwd, count in users.items()} == {0}
    assert max(users.values()) > 1


# What files refer to


def data_of(walk: Walker, kind: str) -> dict[str, int]:
    """`f_data` by key of the description."""
    found = files(walk)
    return {
        descriptor.key: walk.get(found[key][0], "file", "f_data")
        for key, descriptor in truth_files().items()
        if descriptor.kind == kind
    }


@every_kernel
def test_pipes(kernel: str) -> None:
    walk = walker(kernel)
    data = data_of(walk, "pipe")
    for pipe in SYSTEM.pipes:
        ends = data[f"{pipe.key}:0"], data[f"{pipe.key}:1"]
        for number, end in enumerate(ends):
            assert walk.get(end, "pipe", "pipe_peer") == ends[1 - number]
            assert walk.get(end, "pipe", "pipe_present") == 1
            assert contents(walk, end) == pipe.buffered[number]
        pair = walk.get(ends[0], "pipe", "pipe_pair")
        assert (walk.at(pair, "pipepair", "pp_rpipe"), walk.at(pair, "pipepair", "pp_wpipe")) == ends


def contents(walk: Walker, end: int) -> bytes:
    buffer = walk.at(end, "pipe", "pipe_buffer")
    count, start, size, place = (walk.get(buffer, "pipebuf", name) for name in ("cnt", "out", "size", "buffer"))
    if not size:
        assert count == 0
        return b""
    whole = walk.dump.read(place, size)
    assert walk.get(buffer, "pipebuf", "in") == (start + count) % size
    return (whole + whole)[start : start + count]


@every_kernel
def test_fifo_leads_to_its_pipe(kernel: str) -> None:
    walk = walker(kernel)
    file = files(walk)[880, 5][0]
    vnode = walk.get(file, "file", "f_vnode")
    assert walk.pointer(walk.get(vnode, "vnode", "v_fifoinfo")) == walk.get(file, "file", "f_data")


@every_kernel
def test_kqueues(kernel: str) -> None:
    walk = walker(kernel)
    numbers = {"EVFILT_READ": -1, "EVFILT_PROC": -5, "EVFILT_TIMER": -7}
    owners = {"syslogd-kq": 700, "worker-kq": 900}
    word = walk.types.pointer_size
    for queue in SYSTEM.kqueues:
        kqueue = data_of(walk, "kqueue")[queue.key]
        assert walk.get(kqueue, "kqueue", "kq_count") == queue.count
        pending = walk.queue(walk.at(kqueue, "kqueue", "kq_head"), "knote", "kn_tqe")
        assert [walk.get(knote, "knote", "kn_kevent.ident") for knote in pending] == [
            ident for ident, _ in queue.knotes[: queue.count]
        ]
        filedesc = walk.get(walk.processes()[owners[queue.key]], "proc", "p_fd")
        assert walk.get(kqueue, "kqueue", "kq_fdp") == filedesc
        assert kqueue in walk.queue(walk.at(filedesc, "filedesc", "fd_kqlist"), "kqueue", "kq_list")
        found = []
        tables = [("kq_knlist", walk.get(kqueue, "kqueue", "kq_knlistsize"))]
        if walk.get(kqueue, "kqueue", "kq_knhash"):
            tables.append(("kq_knhash", walk.get(kqueue, "kqueue", "kq_knhashmask") + 1))
        for member, size in tables:
            table = walk.get(kqueue, "kqueue", member)
            for index in range(size):
                for knote in walk.chain(table + index * word, "knote", "kn_link", back=False):
                    assert walk.get(knote, "knote", "kn_kq") == kqueue
                    ident = walk.get(knote, "knote", "kn_kevent.ident")
                    assert index == (ident if member == "kq_knlist" else (ident ^ ident >> 8) & size - 1)
                    found.append((ident, walk.get(knote, "knote", "kn_kevent.filter", signed=True)))
                    check_knote(walk, knote, owners[queue.key])
        assert sorted(found) == sorted((ident, numbers[name]) for ident, name in queue.knotes)


def check_knote(walk: Walker, knote: int, pid: int) -> None:
    """It is in the list of what it watches, and that is what its number says."""
    ident = walk.get(knote, "knote", "kn_kevent.ident")
    kind = walk.get(knote, "knote", "kn_kevent.filter", signed=True)
    if kind == -1:
        assert walk.get(knote, "knote", "kn_ptr.p_fp") == files(walk)[pid, ident][0]
    if kind == -5:
        assert walk.get(knote, "knote", "kn_ptr.p_proc") == walk.processes()[ident]
        assert walk.get(knote, "knote", "kn_knlist") == walk.get(walk.processes()[ident], "proc", "p_klist")
    knlist = walk.get(knote, "knote", "kn_knlist")
    if knlist:
        assert knote in walk.chain(walk.at(knlist, "knlist", "kl_list"), "knote", "kn_selnext", back=False)
    assert walk.get(knote, "knote", "kn_fop")


@every_kernel
def test_shared_memory(kernel: str) -> None:
    walk = walker(kernel)
    named = dictionary(walk, "shm", "sm_", "shmfd")
    data = data_of(walk, "shm")
    for memory in SYSTEM.shared_memory:
        shmfd = data[memory.key]
        assert walk.get(shmfd, "shmfd", "shm_size") == memory.size
        assert walk.get(shmfd, "shmfd", "shm_mode") == memory.mode
        assert named.get(memory.path.encode()) == (shmfd if memory.path else None)
        path = walk.get(shmfd, "shmfd", "shm_path")
        assert (walk.string(path).decode() if path else "") == memory.path
        assert walk.get(shmfd, "shmfd", "shm_uid") == 80
    assert len(named) == sum(bool(memory.path) for memory in SYSTEM.shared_memory)


@every_kernel
def test_semaphores(kernel: str) -> None:
    walk = walker(kernel)
    named = dictionary(walk, "ksem", "km_", "ksem")
    data = data_of(walk, "sem")
    for semaphore in SYSTEM.semaphores:
        ksem = data[semaphore.key]
        assert walk.get(ksem, "ksem", "ks_value") == semaphore.value
        assert named[semaphore.path.encode()] == ksem
        assert walk.string(walk.get(ksem, "ksem", "ks_path")) == semaphore.path.encode()


def dictionary(walk: Walker, name: str, prefix: str, target: str) -> dict[bytes, int]:
    """What a hash of paths leads to."""
    mapping = "shm_mapping" if name == "shm" else "ksem_mapping"
    found = {}
    chains = walk.hash_chains(f"{name}_dictionary", f"{name}_hash", mapping, prefix + "link", back=True)
    for index, chain in chains.items():
        for address in chain:
            path = walk.string(walk.get(address, mapping, prefix + "path"))
            assert walk.get(address, mapping, prefix + "fnv") == fnv(path)
            assert fnv(path) & len(chains) - 1 == index
            found[path] = walk.get(address, mapping, prefix + target)
    return found


@every_kernel
def test_message_queues(kernel: str) -> None:
    walk = walker(kernel)
    root = walk.get(walk.symbols["mqfs_data"], "mqfs_info", "mi_root")
    nodes = list(walk.chain(walk.at(root, "mqfs_node", "mn_children"), "mqfs_node", "mn_sibling"))
    assert sorted(data_of(walk, "mqueue").values()) == sorted(nodes)
    for node, truth in zip(nodes, SYSTEM.message_queues, strict=True):
        assert walk.array(node, "mqfs_node", "mn_name") == truth.name.encode()
        queue = walk.get(node, "mqfs_node", "mn_data")
        values = [walk.get(queue, "mqueue", f"mq_{name}") for name in ("maxmsg", "msgsize", "curmsgs")]
        assert values == [truth.max_messages, truth.message_size, truth.messages]
        messages = walk.queue(walk.at(queue, "mqueue", "mq_msgq"), "mqueue_msg", "msg_link")
        sizes = [walk.get(message, "mqueue_msg", "msg_size") for message in messages]
        assert (len(sizes), sum(sizes)) == (truth.messages, walk.get(queue, "mqueue", "mq_totalbytes"))
        header = walk.types.sizeof("struct mqueue_msg")
        assert walk.dump.read(messages[0] + header, sizes[0]) == b"message 0"


@every_kernel
def test_event_counters(kernel: str) -> None:
    walk = walker(kernel)
    for eventfd in SYSTEM.eventfds:
        address = data_of(walk, "eventfd")[eventfd.key]
        assert address
        if walk.types.has("eventfd"):
            assert walk.get(address, "eventfd", "efd_count") == eventfd.count


@every_kernel
def test_process_descriptors(kernel: str) -> None:
    walk = walker(kernel)
    for item in SYSTEM.process_descriptors:
        address = data_of(walk, "procdesc")[item.key]
        assert walk.get(address, "procdesc", "pd_pid") == item.pid
        proc = walk.processes()[item.pid]
        assert walk.get(address, "procdesc", "pd_proc") == proc
        assert walk.get(proc, "proc", "p_procdesc") == address


@every_kernel
def test_listener_behind_the_open_bpf_device(kernel: str) -> None:
    walk = walker(kernel)
    file = files(walk)[880, 6][0]
    private = walk.get(file, "file", "f_vnun.fvn_cdevpriv")
    if not private:
        pytest.skip("nothing has made listeners")
    assert walk.get(private, "cdev_privdata", "cdpd_fp") == file
    assert walk.get(walk.get(private, "cdev_privdata", "cdpd_data"), "bpf_d", "bd_pid") == 880
    # The device is the first member of its struct cdev_priv.
    device = walk.at(walk.get(file, "file", "f_data"), "cdev_priv", "cdp_fdpriv")
    assert list(walk.chain(device, "cdev_privdata", "cdpd_list")) == [private]


@every_kernel
def test_use_counts(kernel: str) -> None:
    """Every reference that can be found is counted."""
    walk = walker(kernel)
    uses: Counter[int] = Counter()
    uses.update(walk.get(file, "file", "f_vnode") for file in {file for file, _ in files(walk).values()})
    procs = walk.processes().values()
    uses.update(walk.get(proc, "proc", "p_textvp") for proc in procs)
    holders = {walk.holder(proc): walk.places(proc) for proc in procs}
    uses.update(place for places in holders.values() for place in places)
    uses.update(walk.get(mount, "mount", "mnt_vnodecovered") for mount in walk.mounts())
    uses.update(walk.global_pointer("rootvnode") for _ in range(1))
    for vnode, truth in zip(all_vnodes(walk), ordered_vnodes(), strict=True):
        assert walk.get(vnode, "vnode", "v_usecount") >= uses[vnode], truth.key
        assert walk.get(vnode, "vnode", "v_holdcnt") >= walk.get(vnode, "vnode", "v_usecount")
        if truth.kind == "VCHR":
            assert walk.get(walk.get(vnode, "vnode", "v_rdev"), "cdev", "si_usecount") >= uses[vnode]


@every_kernel
def test_programs_cannot_be_written(kernel: str) -> None:
    walk = walker(kernel)
    executed = {walk.get(proc, "proc", "p_textvp") for proc in walk.processes().values()} - {0}
    for vnode in executed:
        if walk.has("vop_vector", "vop_is_text"):
            assert walk.get(vnode, "vnode", "v_vflag") & 0x20
        else:
            assert walk.get(vnode, "vnode", "v_writecount", signed=True) < 0


@every_kernel
def test_masters_of_terminals(kernel: str) -> None:
    walk = walker(kernel)
    for master in SYSTEM.pseudo_terminals:
        tty = data_of(walk, "pts")[master.key]
        assert walk.array(walk.get(tty, "tty", "t_dev"), "cdev", "si_name") == master.tty.encode()


@every_kernel
def test_sockets_of_descriptors(kernel: str) -> None:
    walk = walker(kernel)
    families = {"inet": 2, "inet6": 28, "unix": 1}
    truths = {socket.key: socket for socket in SYSTEM.sockets}
    data = data_of(walk, "socket")
    if not all(data.values()):
        pytest.skip("nothing has made sockets")
    for key, socket in data.items():
        domain = walk.get(walk.get(socket, "socket", "so_proto"), "protosw", "pr_domain")
        assert walk.get(domain, "domain", "dom_family") == families[truths[key].family]
    assert len(set(data.values())) == len(data)
