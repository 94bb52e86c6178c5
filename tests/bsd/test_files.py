"""Descriptor tables, open files and what they refer to."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bsd.file_expectations import NONE, PROCESSES, Expected
from tests.bsd.kernel_variants import NOWHERE, Patch, nothing_known, nowhere, with_symbols, without_types
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from tests.writers.objects import addressof
from volatility3_freebsd_kvm.bsd.capability import NAMES, rights_names
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.needs import ADVICE
from volatility3_freebsd_kvm.bsd.open_files import OpenFile, open_files
from volatility3_freebsd_kvm.bsd.pipe import read_waiting
from volatility3_freebsd_kvm.bsd.records import Absent, Problem

SOME = ("12.1-amd64", "12.1-i386", "15-amd64", "14-powerpc64")
"""Kernels for what is the same on all of them: both places of directories, both word sizes, both byte orders."""
CSH = 850
"""Shares its table with 860, which is younger and so comes first in the list."""


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def files_of(found: Iterable[OpenFile | Problem], pid: int) -> dict[str, OpenFile]:
    return {item.fd: item for item in found if isinstance(item, OpenFile) and item.pid == pid}


def problems(found: Iterable[OpenFile | Problem]) -> list[str]:
    return [str(item) for item in found if isinstance(item, Problem)]


def of_process(kernel: Kernel, pid: int) -> tuple[dict[str, OpenFile], list[str]]:
    found = list(open_files(kernel, [pid]))
    return files_of(found, pid), problems(found)


def all_but(records: dict[str, OpenFile], *names: str) -> dict[str, OpenFile]:
    return {fd: record for fd, record in records.items() if fd not in names}


def truth(kernel: str, pid: int) -> dict[str, OpenFile]:
    return {record.fd: record for record in Expected(kernel).records([pid])}


# --- the truth ------------------------------------------------------------------------------------------------------


def test_every_field_of_every_open_file_is_as_described(kernel: str) -> None:
    found = list(open_files(walkable(kernel)))
    expected = Expected(kernel).records()
    assert [(item.pid, item.fd) for item in found if isinstance(item, OpenFile)] == [
        (item.pid, item.fd) for item in expected
    ]
    for record, wanted in zip(found, expected, strict=True):
        assert record == wanted


@pytest.mark.parametrize("pid", [CSH, 900, 1001])
def test_one_process(name: str, pid: int) -> None:
    assert of_process(walkable(name), pid) == (truth(name, pid), [])


def test_a_shared_table_is_shown_where_its_other_users_are_not_asked_for(name: str) -> None:
    shared = {fd for fd in of_process(walkable(name), 860)[0] if fd.isdecimal()}
    own = {fd for fd in of_process(walkable(name), CSH)[0] if fd.isdecimal()}
    assert own == shared == {str(item.fd) for item in PROCESSES[CSH].descriptors}


def test_by_jail(name: str) -> None:
    by_name, by_id = (list(open_files(walkable(name), (), [jail])) for jail in ("web", "1"))
    assert by_name == by_id == Expected(name).records([1000, 1001])


def test_who_is_not_there_is_said(name: str) -> None:
    assert problems(open_files(walkable(name), [7])) == ["pid 7: there is no such process"]
    assert problems(open_files(walkable(name), (), ["mail"])) == [
        "jail mail: no process is in a jail of that id or name"
    ]


def test_what_waits_in_a_pipe_is_read_around_the_end_of_its_buffer(name: str) -> None:
    pipe = int(build_world(name).get("pipe", "sh-pipe:0"))
    assert read_waiting(walkable(name), pipe) == SYSTEM.pipes[0].buffered[0]


# --- capability rights ----------------------------------------------------------------------------------------------

FIRST, SECOND = 1 << 57, 1 << 58


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0x7FFFFFFFFF, 0x1FFFFF), ("all",)),  # 10
        ((0x7FFFFFFFFFF, 0x1FFFFF), ("all",)),  # 12, 13, 14
        ((0xFFFFFFFFFFF, 0x7FFFFF), ("all",)),  # 15
        ((0, 0), ("none",)),
        ((0x4, 0x80), ("CAP_SEEK_TELL", "CAP_IOCTL")),
        ((0xD, 0), ("CAP_READ", "CAP_SEEK")),
        ((0x80000000000, 0x600000), ("CAP_FCHROOT", "CAP_INOTIFY_ADD", "CAP_INOTIFY_RM")),
        ((1 << 50, 1 << 30), ("CAP_0:0x4000000000000", "CAP_1:0x40000000")),
    ],
)
def test_names_of_rights(words: tuple[int, int], expected: tuple[str, ...]) -> None:
    assert rights_names([FIRST | words[0], SECOND | words[1]]) == expected


def test_all_but_one_right_is_not_all() -> None:
    names = rights_names([FIRST | 0x7FFFFFFFFFF & ~0x2, SECOND | 0x1FFFFF])
    assert "CAP_WRITE" not in names
    assert len(names) == 43 + 21 - 1 - 1  # CAP_SEEK_TELL is in CAP_SEEK


def test_words_of_rights_that_do_not_say_which_they_are() -> None:
    assert rights_names([SECOND | 1, SECOND | 0x80]) == (f"{SECOND | 1:#x}", "CAP_IOCTL")


@given(st.integers(0, (1 << 44) - 1), st.integers(0, (1 << 23) - 1))
def test_every_right_has_its_own_name(first: int, second: int) -> None:
    names = rights_names([FIRST | first, SECOND | second])
    if names in (("all",), ("none",)):
        return
    found = [0, 0]
    for name in names:
        word = 0 if name[4:] in NAMES[0] else 1
        found[word] |= 1 << NAMES[word].index(name[4:])
    # The right to seek includes SEEK_TELL.
    found[0] |= first & 0x4 if first & 0x8 else 0
    assert found == [first, second]


# --- hostile tables -------------------------------------------------------------------------------------------------


def table(kernel: str, pid: int) -> int:
    """The `struct fdescenttbl`."""
    return int(build_world(kernel).get("filedesc", pid).fd_files)


def entry(kernel: str, pid: int, number: int) -> int:
    """A `struct filedescent`."""
    types = build_world(kernel).memory.types
    start = table(kernel, pid) + types.offsetof("fdescenttbl", "fdt_ofiles")
    return start + number * types.sizeof("struct filedescent")


@pytest.mark.parametrize("count", [1 << 30, (1 << 31) - 1, -1])
def test_impossible_number_of_descriptors(name: str, count: int) -> None:
    kernel = damaged(name, Patch(name).member("fdescenttbl", table(name, CSH), "fdt_nfiles", count))
    found, said = of_process(kernel, CSH)
    assert found == truth(name, CSH)
    where = f"descriptors of process {CSH}"
    assert said[0] == f"{where}: room for {count} descriptors is impossible"
    assert said[-1].startswith(f"{where}: the walk ends at descriptor ")
    assert len(said) == 3


def test_descriptors_beyond_the_table(name: str) -> None:
    """A count that is too large leads into other memory; if that is another table, the bitmap gives it away."""
    kernel = damaged(name, Patch(name).member("fdescenttbl", table(name, CSH), "fdt_nfiles", 1 << 20))
    found, said = of_process(kernel, CSH)
    wanted = truth(name, CSH)
    assert {fd: record for fd, record in found.items() if fd in wanted} == wanted
    assert all(record.notes for fd, record in found.items() if fd not in wanted)
    assert 1 <= len(said) <= 18
    assert all("where no open file is" in one or "cannot be read" in one or "the walk ends" in one for one in said)


def test_table_that_leads_nowhere(name: str) -> None:
    kernel = damaged(name, Patch(name).member("filedesc", build_world(name).get("filedesc", CSH), "fd_files", NOWHERE))
    found, said = of_process(kernel, CSH)
    assert found == {fd: record for fd, record in truth(name, CSH).items() if not fd.isdecimal()}
    (problem,) = said
    assert problem.startswith(f"descriptors of process {CSH}: address 0x10 {nowhere(name)}")


def test_descriptor_table_that_leads_nowhere(name: str) -> None:
    """Until 12 the directories are in it, too."""
    proc = build_world(name).get("proc", CSH)
    found, said = of_process(damaged(name, Patch(name).member("proc", proc, "p_fd", NOWHERE)), CSH)
    own = build_world(name).has("proc", "p_pd")
    assert set(found) == {"text", "ctty", *({"cwd", "root"} if own else set())}
    assert len(said) == (1 if own else 2)
    assert all(f"of process {CSH}: address " in one for one in said)


@pytest.mark.parametrize("place", [NOWHERE, 0x11])
def test_descriptor_that_leads_to_no_file(name: str, place: int) -> None:
    found, said = of_process(damaged(name, Patch(name).pointer(entry(name, CSH, 16), place)), CSH)
    assert found == all_but(truth(name, CSH), "16")
    assert said == [f"descriptors of process {CSH}: descriptor 16 leads to {place:#x}, where no open file is"]


def test_descriptor_that_leads_to_something_else(name: str) -> None:
    vnode = int(build_world(name).get("vnode", "csh"))
    found, said = of_process(damaged(name, Patch(name).pointer(entry(name, CSH, 16), vnode)), CSH)
    assert found == all_but(truth(name, CSH), "16")
    assert said == [f"descriptors of process {CSH}: descriptor 16 leads to {vnode:#x}, where no open file is"]


def test_descriptor_that_the_bitmap_does_not_know(name: str) -> None:
    world = build_world(name)
    filedesc = world.get("filedesc", 900)
    bits = sum(1 << item.fd for item in PROCESSES[900].descriptors if item.fd != 5)
    found, said = of_process(damaged(name, Patch(name).pointer(filedesc.fd_map, bits)), 900)
    assert said == []
    assert found["5"].notes == ("fd_map says that it is not in use",)
    assert all_but(found, "5") == all_but(truth(name, 900), "5")


def test_descriptor_above_the_highest_one(name: str) -> None:
    world = build_world(name)
    if not world.has("filedesc", "fd_lastfile"):
        pytest.skip("there is no fd_lastfile")
    patch = Patch(name).member("filedesc", world.get("filedesc", 900), "fd_lastfile", 13)
    found, _ = of_process(damaged(name, patch), 900)
    assert found["14"].notes == ("above fd_lastfile, which is 13",)
    assert found["13"].notes == ()


def test_more_users_of_a_table_than_there_are_processes(name: str) -> None:
    patch = Patch(name).member("filedesc", build_world(name).get("filedesc", CSH), "fd_refcnt", 3)
    found = list(open_files(damaged(name, patch)))
    assert problems(found) == ["descriptors of process 860: 3 processes share them, but only 2 of those are known"]
    assert problems(open_files(damaged(name, patch), [CSH])) == []


# --- hostile files --------------------------------------------------------------------------------------------------


def file(kernel: str, pid: int, number: int) -> int:
    return int(build_world(kernel).get("file", (pid, number)))


def changed(kernel: str, pid: int, number: int, peer: str = "", **members: int) -> OpenFile:
    """A descriptor whose file was changed; the others of the process, but that of a peer, must be what they are."""
    patch = Patch(kernel)
    for member, value in members.items():
        patch.member("file", file(kernel, pid, number), member, value)
    found, said = of_process(damaged(kernel, patch), pid)
    assert said == []
    assert all_but(found, str(number), peer) == all_but(truth(kernel, pid), str(number), peer)
    return found[str(number)]


def test_type_and_operations_that_disagree(name: str) -> None:
    """Operations are what the kernel acts by, so they are believed."""
    found = changed(name, 900, 7, f_type=3)
    assert (found.kind, found.referent) == ("eventfd", truth(name, 900)["7"].referent)
    assert found.notes == ("its f_type says pipe, its operations are eventfdops",)


def test_kind_of_a_later_release(name: str) -> None:
    place = Patch(name).room(0x100)
    patch = Patch(name).pointer(place, place).member("file", file(name, 900, 7), "f_ops", place)
    found, said = of_process(damaged(name, patch.member("file", file(name, 900, 7), "f_type", 17)), 900)
    assert (said, found["7"].kind, found["7"].referent.name) == ([], "type 17", NONE)


def test_device_under_another_name(name: str) -> None:
    """A path tells what something is called, the device what it is."""
    world = build_world(name)
    vnode, device = world.get("vnode", "dev-null"), world.get("cdev", "mem")
    found, said = of_process(damaged(name, Patch(name).member("vnode", vnode, "v_rdev", int(device))), 800)
    assert said == []
    assert (found["0"].referent.name, found["0"].referent.notes) == ("/dev/null", ("device mem",))


def test_file_that_is_being_opened(name: str) -> None:
    found = changed(name, 900, 7, f_ops=int(build_world(name).get("fileops", "badfileops")))
    assert found.notes == ("its operations are badfileops: it is being opened, or was closed",)


def test_vnode_that_leads_nowhere(name: str) -> None:
    found = changed(name, CSH, 16, f_vnode=NOWHERE)
    referent = found.referent
    assert (referent.name, referent.vnode_type, referent.inode) == ("<unreadable>", *[Absent.UNREADABLE] * 2)
    assert len(referent.notes) == 1
    assert nowhere(name).split(" (")[0] in referent.notes[0]


@pytest.mark.parametrize(
    ("pid", "number"),
    [(820, 3), (880, 3), (900, 5), (900, 7), (900, 8), (900, 9), (900, 10), (862, 3), (820, 8)],
)
def test_data_that_leads_nowhere(name: str, pid: int, number: int) -> None:
    found = changed(name, pid, number, peer="4" if pid == 880 else "", f_data=NOWHERE)
    wanted = truth(name, pid)[str(number)]
    if wanted.referent.name is Absent.NOT_AVAILABLE:
        return
    assert found.kind == wanted.kind
    if found.kind == "socket":
        assert found.referent.protocol is Absent.NOT_AVAILABLE
    else:
        assert found.referent.name is Absent.UNREADABLE
    assert isinstance(found.referent.name, Absent)


def test_other_end_that_leads_nowhere(name: str) -> None:
    pipe = build_world(name).get("pipe", "sh-pipe:1")
    found, said = of_process(damaged(name, Patch(name).member("pipe", pipe, "pipe_peer", NOWHERE)), 880)
    assert said == []
    assert found["4"].referent.name is Absent.UNREADABLE
    assert all_but(found, "4") == all_but(truth(name, 880), "4")


def test_other_end_that_was_closed(name: str) -> None:
    pipe = build_world(name).get("pipe", "sh-pipe:1")
    found, _ = of_process(damaged(name, Patch(name).member("pipe", pipe, "pipe_present", 2)), 880)
    assert found["3"].referent.name == "-> closed, 19 bytes waiting"


def test_more_in_a_pipe_than_it_holds(name: str) -> None:
    pipe = build_world(name).get("pipe", "sh-pipe:0")
    kernel = damaged(name, Patch(name).member("pipe", pipe, "pipe_buffer.cnt", 1 << 20))
    found, _ = of_process(kernel, 880)
    assert found["3"].referent.notes == ("1048576 bytes cannot be in a buffer of 16384",)
    with pytest.raises(LookupError, match="1048576 bytes from"):
        read_waiting(kernel, int(pipe))


def test_kqueue_whose_knotes_loop(name: str) -> None:
    world = build_world(name)
    knote = world.get("knote", ("syslogd-kq", 4, "EVFILT_READ"))
    found, _ = of_process(damaged(name, Patch(name).first(addressof(knote, "kn_link"), int(knote))), 700)
    referent = found["3"].referent
    assert referent.name == "watches EVFILT_READ 4, EVFILT_READ 5; 1 pending"
    assert referent.notes == (f"loops back to {int(knote):#x} after 1 elements",)


@pytest.mark.parametrize("size", [(1 << 31) - 1, -1])
def test_kqueue_with_an_impossible_table(name: str, size: int) -> None:
    kqueue = build_world(name).get("kqueue", "worker-kq")
    found, _ = of_process(damaged(name, Patch(name).member("kqueue", kqueue, "kq_knlistsize", size)), 900)
    referent = found["10"].referent
    assert referent.name == "watches EVFILT_PROC 850, EVFILT_TIMER 42; 0 pending"
    assert referent.notes == (f"{size} chains of knotes are impossible",)


def test_name_of_shared_memory_without_an_end(name: str) -> None:
    """A string is read as far as it goes, and no farther than a name may be."""
    patch = Patch(name)
    place = patch.room(0x3000)
    patch.text(place, b"A" * 0x3000)
    patch.member("shmfd", build_world(name).get("shmfd", "worker-shm"), "shm_path", place)
    found, said = of_process(damaged(name, patch), 900)
    assert said == []
    assert found["5"].referent.name == "A" * 4096


def test_socket_whose_protocol_leads_nowhere(name: str) -> None:
    socket = build_world(name).get("socket", "ssh-session")
    found, said = of_process(damaged(name, Patch(name).member("socket", socket, "so_proto", NOWHERE)), 820)
    assert said == []
    assert found["3"].kind == "socket"
    assert nowhere(name).split(" (")[0] in found["3"].referent.notes[0]
    assert all_but(found, "3") == all_but(truth(name, 820), "3")


def test_unix_sockets_whose_peers_lead_nowhere(name: str) -> None:
    unpcb = build_world(name).get("unpcb", "pair-a")
    found, said = of_process(damaged(name, Patch(name).member("unpcb", unpcb, "unp_conn", NOWHERE)), 910)
    assert said == []
    assert found["1"].referent.name is NONE
    assert found["1"].referent.notes[0].startswith("the other end cannot be read: address 0x")
    assert all_but(found, "1") == all_but(truth(name, 910), "1")


# --- hostile processes ----------------------------------------------------------------------------------------------


def test_processes_in_a_circle(name: str) -> None:
    world = build_world(name)
    youngest, csh = world.get("proc", 866), world.get("proc", CSH)
    found = list(open_files(damaged(name, Patch(name).first(addressof(csh, "p_list"), int(youngest)))))
    assert any("loops back to" in one for one in problems(found))
    # The pid hash knows the rest.
    shown = {(item.pid, item.fd) for item in found if isinstance(item, OpenFile)}
    assert shown == {(item.pid, item.fd) for item in Expected(name).records()}


def test_program_whose_name_is_not_cached(name: str) -> None:
    """Since 13.0 a process remembers by which name it was started, and in which directory."""
    world = build_world(name)
    vnode = world.get("vnode", "truss")
    patch = Patch(name).first(addressof(vnode, "v_cache_dst"), 0)
    text = of_process(damaged(name, patch), 862)[0]["text"].referent
    if world.has("proc", "p_binname"):
        assert (text.name, text.notes[0]) == ("/usr/bin/truss", "named as when it was started")
    else:
        assert text.name == "/<inode 55>"
    assert text.inode == 55


def test_kernel_without_types(name: str) -> None:
    (problem,) = open_files(without_types(name))
    assert isinstance(problem, Problem)
    assert str(problem) == (
        "descriptors: the types of this kernel lack proc.p_fd, filedesc.fd_files or filedesc.fd_ofiles, "
        f"filedescent.fde_file, file.f_type, file.f_ops, file.f_data; {ADVICE}"
    )


def test_kernel_of_which_nothing_is_known(name: str) -> None:
    assert len(list(open_files(nothing_known(name)))) == 1


# --- shapes of other releases, by hand ------------------------------------------------------------------------------


def test_operations_of_modules_and_of_nobody(name: str) -> None:
    """A table of operations without a name is no reason to doubt; one with an unknown name neither."""
    place = Patch(name).room(0x100)
    kernel = walkable(name)
    patch = Patch(name).pointer(place, place).member("file", file(name, 900, 7), "f_ops", place)
    found, said = of_process(damaged(name, patch), 900)
    assert (said, found["7"].kind, found["7"].notes) == ([], "eventfd", ())
    named = with_symbols(damaged(name, patch), {"cryptofops": place}, size=0x80)
    assert of_process(named, 900)[0]["7"].notes == ("its f_type says eventfd, its operations are cryptofops",)
    assert kernel.architecture


@settings(max_examples=20, deadline=None)
@given(data=st.binary(min_size=48, max_size=96))
def test_any_bytes_in_a_table_end_the_walk(data: bytes) -> None:
    kernel = damaged("15-amd64", {entry("15-amd64", CSH, 16): data})
    assert sum(1 for _ in open_files(kernel, [CSH])) < 100
