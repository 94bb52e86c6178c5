"""The system at a glance, its clocks and the machine's measures."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.bsd.kernel_variants import (
    NOWHERE,
    Patch,
    nothing_known,
    with_symbols,
    without_symbols,
    without_types,
)
from tests.conftest import RealFile
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import damaged, walkable
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.bsd.clock import NANO, Clock, clock_of, utc
from volatility3_freebsd_kvm.bsd.kernel import Kernel
from volatility3_freebsd_kvm.bsd.machine import load_averages, page_size
from volatility3_freebsd_kvm.bsd.records import Absent, Problem
from volatility3_freebsd_kvm.bsd.system import Fact, facts
from volatility3_freebsd_kvm.exceptions import SymbolError
from volatility3_freebsd_kvm.image.kernel import KernelFile
from volatility3_freebsd_kvm.image.nlist import Names
from volatility3_freebsd_kvm.image.partial import partial_types
from volatility3_freebsd_kvm.image.structs import Structs
from volatility3_freebsd_kvm.image.types import Types

SOME = ("12.1-amd64", "12.1-i386", "15-arm64", "14-powerpc64")
BOOT, UPTIME = (seconds * NANO + rest for seconds, rest in (SYSTEM.boot_time, SYSTEM.uptime))
BOOT_TIME = datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=timezone.utc)


@pytest.fixture(scope="module", params=SOME)
def name(request: pytest.FixtureRequest) -> str:
    """One kernel after the other: each has to be built."""
    return str(request.param)


def values(kernel: Kernel) -> dict[str, str | Absent]:
    return {item.name: item.value for item in facts(kernel) if isinstance(item, Fact)}


def notes(kernel: Kernel) -> dict[str, tuple[str, ...]]:
    return {item.name: item.notes for item in facts(kernel) if isinstance(item, Fact) and item.notes}


def hands(kernel: str) -> int:
    return int(walkable(kernel).pointer("timehands"))


# The truth


def test_clock(kernel: str):
    clock = clock_of(walkable(kernel))
    assert clock == Clock(BOOT, UPTIME, "timehands")
    assert clock.now == BOOT + UPTIME
    assert clock.boot_time == BOOT_TIME
    assert clock.capture_time == BOOT_TIME + timedelta(seconds=1200, microseconds=500_000)
    assert clock.at(NANO) == BOOT_TIME + timedelta(seconds=1)


def test_facts(kernel: str):
    found = values(walkable(kernel))
    release = walkable(kernel).text(walkable(kernel).address("osrelease"))
    assert str(found["Version"]).startswith(f"FreeBSD {release} #0: ")
    assert "\n" not in str(found["Version"])
    assert found["osreldate"] == str(walkable(kernel).integer("osreldate"))
    pages = f"{SYSTEM.memory_pages} pages ({SYSTEM.memory_pages * 4096} bytes)"
    assert {name: found[name] for name in EXPECTED} == EXPECTED | {
        "Release": release,
        "Ident": walkable(kernel).text(walkable(kernel).address("kern_ident")),
        "Architecture": kernel.split("-")[1],
        "Physical memory": pages,
        "Real memory": pages,
    }
    assert found["security.bsd.see_other_uids"] == "0"
    assert found["net.inet.ip.forwarding"] == "1"
    assert "kern.randompid" not in found
    assert notes(walkable(kernel)) == {}
    assert not [item for item in facts(walkable(kernel)) if isinstance(item, Problem)]


EXPECTED: dict[str, str | Absent] = {
    "Release": "",
    "Ident": "",
    "Architecture": "",
    "Kernel file": "/boot/kernel/kernel",
    "Boot flags": "none",
    "hz": "1000",
    "Boot time": "2026-01-01 00:00:00.250000 UTC",
    "Capture time": "2026-01-01 00:20:00.750000 UTC",
    "Uptime": "0:20:00.500000",
    "Hostname": f"{SYSTEM.hostname}.{SYSTEM.domain}",
    "Domain": SYSTEM.domain,
    "Host UUID": SYSTEM.host_uuid,
    "Host ID": f"{SYSTEM.host_id:#x}",
    "Securelevel": str(SYSTEM.securelevel),
    "CPUs": str(len(SYSTEM.cpus)),
    "Page size": "4096",
    "Physical memory": "",
    "Real memory": "",
    "Load averages": Absent.NOT_AVAILABLE,
    "Panic": SYSTEM.panic,
    "Dumping thread": "tid 100126, sh, pid 880",
    "Processes": str(sum(process.state != "zombie" for process in SYSTEM.processes)),
    "Jails": str(len(SYSTEM.jails) - 1),
    "Mounts": str(len(SYSTEM.mounts)),
    "Linker files": str(len(SYSTEM.linker_files)),
    "VIMAGE": "yes",
    "Vnets": "2",
    "Message buffer": f"{SYSTEM.message_buffer.size} bytes of text, checksum matches",
}


# With less known


def test_symbols_without_types(name: str):
    found = values(without_types(name))
    known = ("Kernel file", "Boot flags", "hz", "CPUs", "Panic", "Dumping thread", "Processes", "Message buffer")
    assert {one: found[one] for one in known} == {one: EXPECTED[one] for one in known}
    assert (found["Boot time"], found["Capture time"], found["Uptime"]) == (
        "2026-01-01 00:00:00.000000 UTC",
        "2026-01-01 00:20:00.000000 UTC",
        "0:20:00",
    )
    assert notes(without_types(name))["Boot time"] == ("to the second only",)
    for one in ("Hostname", "Host UUID", "Securelevel", "Jails", "Mounts", "Linker files"):
        assert found[one] is Absent.NOT_AVAILABLE
    assert "security.bsd.see_other_uids" not in found


def test_nothing_but_the_header(name: str):
    found = values(nothing_known(name))
    text = f"{SYSTEM.message_buffer.size} bytes of text"
    assert {one: value for one, value in found.items() if not isinstance(value, Absent)} == {
        "Architecture": name.split("-")[1],
        "Message buffer": text,
    } | ({} if name == "15-arm64" else {"Page size": "4096"})


def test_banner_of_the_message_buffer():
    kernel = nothing_known("15-arm64")
    ring = b"FreeBSD 13.0-RELEASE #0: old\nFreeBSD 14.3-RELEASE releng/14.3 GENERIC\nmore\n"
    found = Kernel(kernel.names, "arm64", message_buffer=ring)
    assert values(found)["Version"] == "FreeBSD 14.3-RELEASE releng/14.3 GENERIC"
    assert notes(found)["Version"] == ("from the message buffer",)


@pytest.mark.parametrize(
    ("arch", "thread", "hz"),
    [
        ("amd64", "tid 100670, sysctl, pid 800", "100"),
        ("arm64", "tid 100137, sysctl, pid 939", "1000"),
        ("i386", "tid 100673, sysctl, pid 806", "100"),
    ],
)
def test_real_dumps(real_file: RealFile, arch: str, thread: str, hz: str):
    dump = kvm.open(real_file(f"vmcore-{arch}-minidump"))
    with real_file(f"kernel-{arch}.elf").open("rb") as file:
        symbols = KernelFile(file, arch).symbols
    structs = Structs(dump.kernel.read, Types.empty(dump.word_bits // 8, "little"), dump.word_bits, "little")
    types = partial_types(Names(symbols, structs))
    names = Names(symbols, Structs(dump.kernel.read, types, dump.word_bits, "little"))
    found = values(Kernel(names, arch, message_buffer=dump.message_buffer))
    assert (found["Dumping thread"], found["hz"], found["Architecture"]) == (thread, hz, arch)
    assert found["VIMAGE"] is found["Version"] is found["Boot time"] is Absent.NOT_AVAILABLE


# Clocks


def test_clock_that_was_being_updated(name: str):
    """The current element of the ring has generation 0: the one before it is taken."""
    clock = clock_of(damaged(name, Patch(name).member("timehands", hands(name), "th_generation", 0)))
    assert (clock.boot, clock.uptime) == (BOOT, UPTIME - 1_000_000)
    assert clock.notes == ("the clock was being updated: the time of the update before",)


def test_clock_of_11(name: str):
    """boottimebin beside timehands that have no time of the boot."""
    patch = Patch(name)
    place = patch.room(16)
    patch.member("bintime", place, "sec", 1000).member("bintime", place, "frac", 1 << 63)
    kernel = with_symbols(damaged(name, patch), {"boottimebin": place})
    types = kernel.structs.types
    members = {one: at for one, at in types.user_types["timehands"]["fields"].items() if one != "th_boottime"}
    older = {**types.user_types, "timehands": {**types.user_types["timehands"], "fields": members}}
    structs = Structs(
        kernel.structs.read,
        Types(types.base_types, older, types.enums),
        8 * kernel.structs.word_size,
        kernel.structs.byteorder,
    )
    clock = clock_of(Kernel(Names(kernel.names.symbols, structs, kernel.names.kerndisp), name.split("-")[1]))
    assert clock == Clock(1000 * NANO + NANO // 2, UPTIME, "boottime")


def test_clock_in_nowhere_falls_back_to_the_seconds(name: str):
    clock = clock_of(damaged(name, Patch(name).pointer(walkable(name).address("timehands"), NOWHERE)))
    assert clock == Clock(BOOT // NANO * NANO, UPTIME // NANO * NANO, "time_second", ("to the second only",))


def test_no_clock_at_all(name: str):
    kernel = without_symbols(walkable(name), "timehands", "boottimebin", "time_second")
    clock = clock_of(kernel)
    assert clock == Clock(Absent.NOT_AVAILABLE, Absent.NOT_AVAILABLE)
    assert clock.now is clock.boot_time is clock.at(0) is Absent.NOT_AVAILABLE


def test_time_beyond_the_calendar(name: str):
    at = walkable(name).structs.offset("timehands", "th_boottime.sec")
    size = 4 if name.endswith("i386") else 8
    value = 2**31 - 1 if size == 4 else 2**62
    found = values(damaged(name, Patch(name).number(hands(name) + at, value, size)))
    assert found["Boot time"] == ("2038-01-19 03:14:07.250000 UTC" if size == 4 else Absent.NOT_AVAILABLE)


@pytest.mark.parametrize("seconds", [2**63, -(2**63)])
def test_dates_that_are_none(seconds: int):
    assert utc(seconds * NANO) is Absent.NOT_AVAILABLE


# Oddities


def test_no_panic(name: str):
    kernel = damaged(name, Patch(name).pointer(walkable(name).address("panicstr"), 0))
    assert values(kernel)["Panic"] is Absent.NOT_APPLICABLE
    assert notes(kernel) == {"Panic": ("no panic: dumped on demand, perhaps while it was running",)}


def test_panic_text_without_an_end(name: str):
    patch = Patch(name).text(int(build_world(name).get("panicstr", 0)), b"x" * 256)
    assert values(damaged(name, patch))["Panic"] == "x" * 256


def test_thread_of_no_process(name: str):
    kernel = damaged(name, Patch(name).number(walkable(name).address("dumptid"), 5, 4))
    assert values(kernel)["Dumping thread"] == "tid 5"
    assert notes(kernel) == {"Dumping thread": ("no process has such a thread",)}


def test_types_of_another_kernel(name: str):
    at = walkable(name).structs.offset("prison", "pr_name")
    kernel = damaged(name, Patch(name).text(walkable(name).address("prison0") + at, b"web\0"))
    assert [str(item) for item in facts(kernel) if isinstance(item, Problem)] == [
        "prison0: its name is 'web', not '0': the types may not be those of this kernel"
    ]


def test_symbols_of_another_kernel(name: str):
    kernel = damaged(name, Patch(name).number(walkable(name).address("osreldate"), 901000, 4))
    assert notes(kernel) == {
        "Version": ("osreldate is 901000: the symbols may not be those of this kernel",),
    }
    kernel = damaged(name, Patch(name).text(walkable(name).address("version"), b"nonsense\0"))
    assert notes(kernel) == {"Version": ("no FreeBSD banner: the symbols may not be those of this kernel",)}


def test_kernel_file_that_was_renamed(name: str):
    kernel = damaged(name, Patch(name).text(walkable(name).address("kernelname"), b"/boot/kernel.old/kernel\0"))
    assert values(kernel)["Kernel file"] == "/boot/kernel.old/kernel"
    assert notes(kernel) == {"Kernel file": ("the linker has /boot/kernel/kernel",)}


def test_boot_flags(name: str):
    kernel = damaged(name, Patch(name).number(walkable(name).address("boothowto"), 0x80000802 | 0x400, 4))
    assert values(kernel)["Boot flags"] == "SINGLE VERBOSE BOOTINFO 0x400"


def test_looped_lists_are_counted_as_far_as_they_go(name: str):
    mounts = list(build_world(name).all("mount").values())
    patch = Patch(name).member("mount", mounts[-1], "mnt_list.tqe_next", int(mounts[0]))
    kernel = damaged(name, patch)
    assert values(kernel)["Mounts"] == str(len(mounts))
    assert notes(kernel) == {"Mounts": (f"mountlist loops back to {int(mounts[0]):#x} after {len(mounts)} elements",)}


def test_kernel_without_vimage(name: str):
    kernel = without_symbols(walkable(name), "vnet0", "vnet_head", "__start_set_vnet", "__stop_set_vnet")
    found = values(kernel)
    assert (found["VIMAGE"], found["Vnets"]) == ("no", Absent.NOT_APPLICABLE)


# The machine


def test_page_sizes(name: str):
    patch = Patch(name)
    place = patch.room(16)
    kernels = {}
    for size in (16384, 12345, 1 << 20):
        patch.pointer(place, size)
        kernels[size] = with_symbols(without_symbols(damaged(name, patch), "pagesizes"), {"pagesizes": place})
    usual = None if name == "15-arm64" else 4096
    assert {size: page_size(kernel) for size, kernel in kernels.items()} == {
        16384: 16384,
        12345: usual,
        1 << 20: usual,
    }
    unknown = values(without_symbols(walkable(name), "pagesizes"))
    assert unknown["Physical memory"] == ("16384 pages (67108864 bytes)" if usual else "16384 pages")


def test_load_averages(name: str):
    patch = Patch(name)
    place = patch.room(32)
    for index, load in enumerate((2048, 3072, 20480)):
        patch.number(place + 4 * index, load, 4)
    kernel = with_symbols(damaged(name, patch), {"averunnable": place})
    # The scale of old kernels is a constant.
    assert load_averages(kernel) == (1.0, 1.5, 10.0)
    patch.number(place + (16 if patch.word == 8 else 12), 1024, patch.word)
    kernel = with_symbols(damaged(name, patch), {"averunnable": place})
    assert load_averages(kernel) == (2.0, 3.0, 20.0)
    assert values(kernel)["Load averages"] == "{ 2.00 3.00 20.00 }"


def test_no_load_averages(name: str):
    with pytest.raises(SymbolError, match="no symbol averunnable"):
        load_averages(walkable(name))
