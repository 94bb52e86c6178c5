"""rtld's list of what it has loaded, compared with what the scenario put there; and lists that lead astray."""

from __future__ import annotations

import pytest

from tests.bsd.user_image_truth import IMAGE_SIZE, PATHS, at, images, writer
from tests.scenario.kernels import load
from tests.scenario.user_images import (
    DATA_AT,
    HEAP,
    LIBC,
    LIBEVIL,
    LIBUTIL,
    LISTED,
    NAMES,
    NARROW,
    PT_INTERP,
    R_DEBUG,
    RTLD,
    WORKER,
    link_map_address,
)
from tests.scenario.user_memory import PAGE, STACK, TEXT
from tests.user_image_dumps import damaged_images, images_kernel
from volatility3_freebsd_kvm.bsd.auxv import AT_BASE, AT_PHDR, auxiliary_vector
from volatility3_freebsd_kvm.bsd.backing import Backing
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.link_map import PATH_MAX, LinkMap
from volatility3_freebsd_kvm.bsd.process import Found, chosen
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.rtld import Library, _remarks, library_records
from volatility3_freebsd_kvm.bsd.user import user_memory

HIDDEN = "suspicious: mapped, but not in rtld's list"
LOST = "not found in rtld's list, which cannot be read to its end"
ALONE = "found by its mapping alone"
NOWHERE = 0x1234_5000


@pytest.fixture(scope="module", params=["15-amd64", "12.1-i386", "14-arm64"])
def name(request: pytest.FixtureRequest) -> str:
    """A kernel in whose processes there is damage."""
    return str(request.param)


def listed(kernel: Kernel, pid: int = WORKER) -> list[Library | Problem]:
    return list(library_records(kernel, [pid]))


def brief(records: list[Library | Problem]) -> list[tuple[object, ...]]:
    """Address, name and notes; of a problem its text."""
    return [(str(one),) if isinstance(one, Problem) else (one.base, one.name, one.notes) for one in records]


def sound(name: str, first: int = 0, end: int | None = None) -> list[tuple[object, ...]]:
    """The same of objects of the list."""
    return [(at(name, base), text, ()) for base, text in LISTED[WORKER][first:end]]


def unlisted(name: str, note: str, *bases: int) -> list[tuple[object, ...]]:
    return [(at(name, base), Absent.NOT_APPLICABLE, (note,)) for base in bases]


def place(name: str, index: int, word: int) -> int:
    """The address of a word of a link_map: l_base, l_name, l_ld, l_next, l_prev."""
    size = load(name)[1].word_bits
    return link_map_address(index, size) + word * size // 8


def words(name: str, *values: int) -> bytes:
    return writer(name).words(*values)


def test_libraries(kernel: str) -> None:
    size = load(kernel)[1].word_bits
    files = images(kernel)
    expected = [
        Library(
            WORKER,
            "worker",
            base=at(kernel, base),
            name=name,
            path=PATHS[files[at(kernel, base)].key],
            size=IMAGE_SIZE,
            link_map=link_map_address(index, size),
        )
        for index, (base, name) in enumerate(LISTED[WORKER])
    ]
    hidden = Library(
        WORKER, "worker", base=at(kernel, LIBEVIL), path="/lib/libevil.so.1", size=IMAGE_SIZE, notes=(HIDDEN,)
    )
    assert listed(images_kernel(kernel)) == [*expected, hidden]


@pytest.mark.parametrize("name", ["12.1-amd64", "13.0-amd64", "14-amd64", "15-amd64"])
def test_32_bit_process(name: str) -> None:
    found = listed(images_kernel(name), NARROW)
    lost = at(name, LIBC, NARROW)
    note = f"its ELF header is not in memory: address {lost:#x} is not resident (a page of kind vnode)"
    notes = {LIBC: (note,)}
    assert brief(found) == [(at(name, base, NARROW), text, notes.get(base, ())) for base, text in LISTED[NARROW]]
    assert [one.link_map for one in found if isinstance(one, Library)] == [
        link_map_address(index, 32) for index in range(3)
    ]
    assert [one.size for one in found if isinstance(one, Library)] == [IMAGE_SIZE, Absent.NOT_APPLICABLE, IMAGE_SIZE]


def test_auxiliary_vector(kernel: str) -> None:
    walkable = images_kernel(kernel)
    (found,) = chosen(walkable, [WORKER])
    assert isinstance(found, Found)
    memory = user_memory(walkable, found.proc)
    assert memory is not None
    vector = auxiliary_vector(walkable, found.proc, memory)
    assert (vector[AT_PHDR], vector[AT_BASE]) == (TEXT + 0x40, at(kernel, RTLD))


def test_process_without_images() -> None:
    assert brief(listed(images_kernel("15-amd64"), 1)) == [
        (Absent.NOT_APPLICABLE, Absent.NOT_APPLICABLE, ("no ELF header of its executable is in memory",))
    ]


def test_minidump() -> None:
    assert list(library_records(images_kernel("15-amd64", "minidump"))) == [
        Problem("user memory", "not dumped: minidumps have no user pages")
    ]


# Lists that lead astray


def test_loop(name: str) -> None:
    back = link_map_address(0, load(name)[1].word_bits)
    found = listed(damaged_images(name, WORKER, {place(name, 1, 3): words(name, back)}))
    assert brief(found) == [
        *sound(name, 0, 2),
        (f"rtld's list of process 900: it loops back to {back:#x}",),
        *unlisted(name, LOST, LIBUTIL, LIBEVIL),
    ]


def test_next_leads_nowhere(name: str) -> None:
    found = listed(damaged_images(name, WORKER, {place(name, 0, 3): words(name, NOWHERE)}))
    assert brief(found) == [
        *sound(name, 0, 1),
        (f"rtld's list of process 900: it ends where address {NOWHERE:#x} is not mapped",),
        *unlisted(name, LOST, LIBC, LIBUTIL, LIBEVIL),
    ]


def test_library_taken_out_of_the_list(name: str) -> None:
    after = link_map_address(2, load(name)[1].word_bits)
    before = link_map_address(0, load(name)[1].word_bits)
    changes = {place(name, 0, 3): words(name, after), place(name, 2, 4): words(name, before)}
    found = listed(damaged_images(name, WORKER, changes))
    assert brief(found) == [*sound(name, 0, 1), *sound(name, 2), *unlisted(name, HIDDEN, LIBC, LIBEVIL)]


def test_link_back(name: str) -> None:
    found = listed(damaged_images(name, WORKER, {place(name, 1, 4): words(name, NOWHERE)}))
    before = link_map_address(0, load(name)[1].word_bits)
    base, text, _ = sound(name)[1]
    assert brief(found)[1] == (base, text, (f"l_prev is {NOWHERE:#x}, not {before:#x}",))
    assert len(found) == 5


def test_name_nowhere(name: str) -> None:
    found = listed(damaged_images(name, WORKER, {place(name, 1, 1): words(name, NOWHERE)}))
    note = f"l_name cannot be read: address {NOWHERE:#x} is not mapped"
    assert brief(found)[1] == (at(name, LIBC), Absent.UNREADABLE, (note,))


def test_endless_name(name: str) -> None:
    change = {at(name, HEAP) + NAMES: b"x" * (PAGE - NAMES), place(name, 0, 1): words(name, at(name, HEAP) + NAMES)}
    found = listed(damaged_images(name, WORKER, change))
    shown = found[0]
    assert isinstance(shown, Library)
    assert shown.name == "x" * PATH_MAX
    assert shown.notes == ("l_name is too long to be true", "the file there has another name")


def test_address_of_something_else(name: str) -> None:
    """Where neither the address nor the dynamic section is that of an image."""
    changes = {place(name, 1, 0): words(name, at(name, HEAP), 0)[: load(name)[1].word_bits // 8]}
    changes |= {place(name, 1, 2): words(name, NOWHERE)}
    found = listed(damaged_images(name, WORKER, changes))
    assert brief(found)[1] == (at(name, HEAP), "/lib/libc.so.7", ("there is no ELF image",))
    assert brief(found)[-2:] == unlisted(name, HIDDEN, LIBC, LIBEVIL)
    changes[place(name, 1, 0)] = words(name, NOWHERE)
    found = listed(damaged_images(name, WORKER, changes))
    assert brief(found)[1] == (NOWHERE, "/lib/libc.so.7", ("nothing is mapped there",))


def test_load_offset_in_place_of_the_address(name: str) -> None:
    """Linux's rtld has it there: 0 for what is not relocated."""
    found = listed(damaged_images(name, WORKER, {place(name, 1, 0): words(name, 0)}))
    assert brief(found)[1] == (at(name, LIBC), "/lib/libc.so.7", ("rtld says that it is at 0x0",))
    assert brief(found)[-1:] == unlisted(name, HIDDEN, LIBEVIL)


def test_other_dynamic_section(name: str) -> None:
    found = listed(damaged_images(name, WORKER, {place(name, 1, 2): words(name, NOWHERE)}))
    dynamic = at(name, LIBC) + DATA_AT + 0x100
    note = f"l_ld is {NOWHERE:#x}, its PT_DYNAMIC is at {dynamic:#x}"
    assert brief(found)[1] == (at(name, LIBC), "/lib/libc.so.7", (note,))


def test_file_of_another_name() -> None:
    change = {HEAP + NAMES + 0x80: b"/lib/libm.so.5\0"}
    found = listed(damaged_images("15-amd64", WORKER, change))
    assert brief(found)[1] == (LIBC, "/lib/libm.so.5", ("the file there has another name",))


@pytest.mark.parametrize(("state", "text"), [(1, "RT_ADD"), (2, "RT_DELETE"), (77, "state 77")])
def test_while_the_list_changes(state: int, text: str) -> None:
    change = {HEAP + R_DEBUG + 3 * 8: state.to_bytes(4, "little")}
    found = brief(listed(damaged_images("15-amd64", WORKER, change)))
    note = f"rtld was just changing its list ({text})"
    assert found[0] == (Absent.NOT_APPLICABLE, Absent.NOT_APPLICABLE, (note,))
    assert found[1:5] == sound("15-amd64")


def test_vdso() -> None:
    """It has no mapping of its own."""
    item = LinkMap(0x1000, 0x7FFF_FFFF_F000, "[vdso]", 0x7FFF_FFFF_F200)
    assert list(_remarks(item, None, Backing("phys", 1))) == ["in the page that the kernel shares with processes"]


# No way to the list


def debug_entry(name: str) -> int:
    """The address of the value of DT_DEBUG."""
    return TEXT + DATA_AT + 0x100 + 3 * load(name)[1].word_bits // 8


@pytest.mark.parametrize(
    ("tag", "value", "why"),
    [
        (21, NOWHERE, f"address {NOWHERE:#x} is not mapped"),
        (21, 0, "DT_DEBUG is 0: rtld had not begun"),
        (22, 0, "the executable has no DT_DEBUG"),
    ],
)
def test_debug_entry(name: str, tag: int, value: int, why: str) -> None:
    word = load(name)[1].word_bits // 8
    change = {debug_entry(name) - word: words(name, tag, value)}
    found = listed(damaged_images(name, WORKER, change))
    assert brief(found) == [
        (Absent.NOT_APPLICABLE, Absent.NOT_APPLICABLE, (f"rtld's list cannot be found: {why}",)),
        *unlisted(name, ALONE, RTLD, LIBC, LIBUTIL, LIBEVIL),
    ]


def test_static_executable(name: str) -> None:
    made = writer(name)
    size = 56 if made.bits == 64 else 32
    # Instead of PT_INTERP, a segment of no meaning.
    change = {TEXT + 0x40 + size: (PT_INTERP + 0x100).to_bytes(4, "little")}
    found = brief(listed(damaged_images(name, WORKER, change)))
    note = "linked statically: there is no run-time linker"
    assert found[0] == (Absent.NOT_APPLICABLE, Absent.NOT_APPLICABLE, (note,))
    assert found[1:] == unlisted(name, ALONE, RTLD, LIBC, LIBUTIL, LIBEVIL)


def test_overwritten_stack() -> None:
    """Without the auxiliary vector the executable is the image of the file that the process executes."""
    change = {STACK - 32: bytes(32)}
    assert brief(listed(damaged_images("15-amd64", WORKER, change)))[:4] == sound("15-amd64")


def test_endless_dynamic_section() -> None:
    made = writer("15-amd64")
    dynamic = made.segment(2, 6, 0x3100, TEXT + DATA_AT + 0x100, 1 << 30, 1 << 30)
    filler = made.words(*[1] * 64)
    change = {TEXT + 0x40 + 5 * 56: dynamic, TEXT + DATA_AT + 0x100: filler}
    found = brief(listed(damaged_images("15-amd64", WORKER, change)))
    assert found[0][2] == ("rtld's list cannot be found: the executable has no DT_DEBUG",)
