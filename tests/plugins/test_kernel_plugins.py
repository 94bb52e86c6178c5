"""The plugins about the kernel as a whole, through the framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import framework
from tests.bsd.kernel_variants import NOWHERE, Patch
from tests.conftest import RealFile
from tests.scenario.kernels import build_world
from tests.scenario.system import SYSTEM
from tests.scenario_dumps import changed, walkable, write_dump
from volatility3_freebsd_kvm.timeline import TimeLinerInterface, TimeLinerType

KERNELS = ("12.1-amd64", "12.1-i386", "15-amd64", "15-arm64", "14-riscv", "14-powerpc64")
RING = SYSTEM.message_buffer.text[-SYSTEM.message_buffer.size :]
Row = dict[str, Any]


class Vol:
    """`vol` on the dump of one kernel."""

    def __init__(self, kernel: str, directory: Path) -> None:
        self.kernel = kernel
        self.dump, self.symbols = write_dump(kernel, directory)

    def table(self, plugin: str, **options: Any) -> list[Row]:
        return framework.table(self.dump, plugin, kernel=self.symbols, **options)

    def plugin(self, plugin: str, **options: Any) -> Any:
        return framework.stack(self.dump, plugin, kernel=self.symbols, **options).plugin


@pytest.fixture(scope="module", params=KERNELS)
def vol(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vol:
    return Vol(request.param, tmp_path_factory.mktemp("dump"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Vol:
    return Vol("15-amd64", tmp_path_factory.mktemp("dump"))


def address(vol: Vol, kind: str, key: object) -> int:
    return int(build_world(vol.kernel).get(kind, key))


def columns(rows: list[Row], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# lskld, lsmod


def test_lskld(vol: Vol):
    rows = vol.table("freebsd.lskld.Lskld")
    assert columns(rows, "Id", "Refs", "Name", "Path", "Load order", "User refs", "Notes") == [
        (item.id, item.references, item.name, item.path, order, 0 if item.id == 1 else 1, "")
        for order, item in enumerate(SYSTEM.linker_files, 1)
    ]
    assert columns(rows, "Depends on", "Modules", "Offset") == [
        (
            "" if item.id == 1 else "kernel",
            ", ".join(name for _, name in item.modules),
            address(vol, "linker_file", item.id),
        )
        for item in SYSTEM.linker_files
    ]
    assert columns(rows[1:], "Size", "Symbols") == [
        (item.size, len(item.symbols) + len(item.vnet_variables) + len(item.dpcpu_variables))
        for item in SYSTEM.linker_files[1:]
    ]
    assert all(isinstance(row["Address"], int) and "Sections" not in row for row in rows)


def test_lskld_with_sections(one: Vol):
    rows = one.table("freebsd.lskld.Lskld", sections=True)
    base = rows[2]["Address"]
    assert rows[2]["Sections"] == f".text {base:#x}-{base + 0x2000:#x}, .data {base + 0x2000:#x}-{base + 0x4000:#x}"
    assert rows[0]["Sections"] == ""


def test_lsmod(vol: Vol):
    rows = vol.table("freebsd.lsmod.Lsmod")
    assert columns(rows, "Id", "Name", "File", "Refs", "Version", "Argument", "Notes") == [
        (number, name, item.name, 1, 1, 0, "") for item in SYSTEM.linker_files for number, name in item.modules
    ]
    assert columns(rows[3:], "Handler symbol") == [("if_epair.ko!epair_start",), ("nullfs.ko!nullfs_mount",)]
    assert [row["Offset"] for row in rows] == [address(vol, "module", row["Id"]) for row in rows]


# jails


def test_jails(vol: Vol):
    rows = vol.table("freebsd.jails.Jails")
    assert columns(rows, "JID", "Name", "Parent", "State", "Path", "Vnet", "Processes", "Notes") == [
        (0, "0", None, "alive", "/", "new", 19, ""),
        (1, "web", 0, "alive", "/jails/web", "inherit", 2, ""),
        (2, "db", 0, "alive", "/jails/db", "new", 1, ""),
        (3, "db.pg", 2, "alive", "/jails/db/pg", "inherit", 1, ""),
    ]
    assert columns(rows, "Hostname", "IPv4", "IPv6", "Securelevel", "Children max") == [
        ("server.example", "", "", 1, 999_999),
        ("web.example", "10.0.0.80", "fd00::80", 2, 0),
        ("db.example", "", "", -1, 10),
        ("pg.example", "", "", -1, 0),
    ]
    assert rows[0]["Host UUID"] == SYSTEM.host_uuid
    assert rows[1]["OS release"] == "14.3-RELEASE"
    assert rows[1]["Parameters"].startswith(
        "persist, host=new, vnet=inherit, ip4=new, ip6=new, allow.set_hostname, allow.raw_sockets, "
    )
    assert rows[2]["Vnet address"] == rows[3]["Vnet address"] == address(vol, "vnet", 2)
    assert [row["Offset"] for row in rows] == [address(vol, "prison", jid) for jid in range(4)]


def test_jails_are_a_tree(one: Vol):
    grid = one.plugin("freebsd.jails.Jails").run()
    levels: list[int] = []
    grid.populate(lambda node, levels: [*levels, node.path_depth], levels)
    depths = grid.visit(None, lambda node, found: [*found, (node.path_depth, node.values[0])], [])
    assert depths == [(1, 0), (2, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("wanted", "found"), [(["web"], [1]), (["3", "db"], [2, 3]), (["nonsense"], [])])
def test_chosen_jails(one: Vol, wanted: list[str], found: list[int]):
    assert [row["JID"] for row in one.table("freebsd.jails.Jails", jail=wanted)] == found


# dmesg


def test_dmesg(vol: Vol):
    rows = vol.table("freebsd.dmesg.Dmesg")
    assert set(rows[0]) == {"Sequence", "Priority", "Line", "Notes"}
    assert [row["Sequence"] for row in rows] == list(range(1, len(rows) + 1))
    shown = "".join(f"{NUMBERS.get(row['Priority'], '')}{row['Line']}\n" for row in rows)
    assert shown == RING
    assert [row["Notes"] for row in rows] == ["its start may have been overwritten", *[""] * (len(rows) - 1)]


NUMBERS = {"console.info": "<118>", "kern.info": "<6>"}


def test_dmesg_of_the_console(vol: Vol):
    rows = vol.table("freebsd.dmesg.Dmesg", console=True)
    reason = "not in use: no console was redirected"
    if not walkable(vol.kernel).has("consmsgbuf"):
        reason = "the kernel and its modules have no symbol consmsgbuf"
    assert columns(rows, "Sequence", "Line", "Notes") == [(None, None, f"consmsgbuf: {reason}")]


def test_timestamps_of_messages(tmp_path: Path):
    """A ring in which the kernel was told to write them."""
    world = build_world("15-amd64")
    head = world.get("msgbuf", 0)
    ring = b"Copyright (c) 1992-2025 The FreeBSD Project.\n[1.250000] first\n<118>[1200.000000] last\n"
    memory = world.memory
    before = memory.read(int(head.msg_ptr), 4096)
    sequence, checksum = int(head.msg_wseq), int(head.msg_cksum)
    try:
        memory.write(int(head.msg_ptr), ring.ljust(4096, b"\0"))
        head.msg_wseq, head.msg_cksum = len(ring), sum(ring)
        dump, symbols = write_dump("15-amd64", tmp_path)
    finally:
        memory.write(int(head.msg_ptr), before)
        head.msg_wseq, head.msg_cksum = sequence, checksum
    rows = framework.table(dump, "freebsd.dmesg.Dmesg", kernel=symbols, timestamps=True)
    assert columns(rows, "Uptime", "Time", "Priority", "Line") == [
        (None, None, None, "Copyright (c) 1992-2025 The FreeBSD Project."),
        ("1.250000", "2026-01-01T00:00:01.500000+00:00", None, "first"),
        ("1200.000000", "2026-01-01T00:20:00.250000+00:00", "console.info", "last"),
    ]
    plugin = framework.stack(dump, "freebsd.dmesg.Dmesg", kernel=symbols).plugin
    assert isinstance(plugin, TimeLinerInterface)
    assert [(text, kind, time.isoformat()) for text, kind, time in plugin.generate_timeline()] == [
        ("Kernel message 2: first", TimeLinerType.CREATED, "2026-01-01T00:00:01.500000+00:00"),
        ("Kernel message 3: last", TimeLinerType.CREATED, "2026-01-01T00:20:00.250000+00:00"),
    ]


# sysctl, kenv


def test_sysctl(vol: Vol):
    rows = {row["Name"]: row for row in vol.table("freebsd.sysctl.Sysctl")}
    for item in SYSTEM.sysctls:
        row = rows[item.name]
        value = item.value.hex(" ") if isinstance(item.value, bytes) else item.value
        assert row["Value"] == (None if value is None else str(value))
        assert (row["Type"], row["Notes"], row["Offset"]) == (item.kind, "", address(vol, "sysctl_oid", item.name))
        assert row["Flags"].startswith("RW" if item.writable else "RD")
        assert row["Description"].startswith(item.description)
    assert (rows["kern"]["Value"], rows["kern"]["OID"], rows["kern.ipc"]["OID"]) == (None, "1", "1.30")


def test_sysctl_by_name_and_vnet(one: Vol):
    names = ["kern.ipc", "net.inet.ip.forwarding", "kern.nonsense"]
    rows = one.table("freebsd.sysctl.Sysctl", name=names, vnet="db")
    assert columns(rows, "Name", "Value", "Notes") == [
        ("kern.ipc", None, ""),
        ("kern.ipc.maxsockbuf", "2097152", ""),
        ("net.inet.ip.forwarding", "0", ""),
        (None, None, "kern.nonsense: there is no such sysctl"),
    ]


def test_sysctl_of_an_unknown_vnet(one: Vol):
    (row,) = one.table("freebsd.sysctl.Sysctl", vnet="nonsense")
    assert row["Notes"].startswith("the walk: ended because there is no vnet nonsense; there are: ")


def test_kenv(vol: Vol):
    rows = vol.table("freebsd.kenv.Kenv")
    assert columns(rows, "Name", "Value", "Source", "Notes") == [
        (name, value, "kenvp, md_envp, kern_envp", "") for name, value in SYSTEM.kenv.items()
    ]
    assert all(isinstance(row["Offset"], int) for row in rows)


# sysinfo


def test_sysinfo(vol: Vol):
    rows = {row["Fact"]: row["Value"] for row in vol.table("freebsd.sysinfo.SysInfo")}
    expected = {
        "Architecture": vol.kernel.split("-")[1],
        "Hostname": "server.example",
        "Host UUID": SYSTEM.host_uuid,
        "Boot time": "2026-01-01 00:00:00.250000 UTC",
        "Capture time": "2026-01-01 00:20:00.750000 UTC",
        "Uptime": "0:20:00.500000",
        "CPUs": "4",
        "Securelevel": "1",
        "Panic": SYSTEM.panic,
        "Dumping thread": "tid 100126, sh, pid 880",
        "Kernel file": "/boot/kernel/kernel",
        "Linker files": "3",
        "Jails": "3",
        "Vnets": "2",
        "VIMAGE": "yes",
        "Mounts": "6",
        "security.bsd.see_other_uids": "0",
    }
    assert {name: rows[name] for name in expected} == expected


def test_timeline_of_the_system(one: Vol):
    assert [(text, kind, time.isoformat()) for text, kind, time in one.plugin(SYSINFO).generate_timeline()] == [
        ("The system booted", TimeLinerType.CREATED, "2026-01-01T00:00:00.250000+00:00"),
        ("The system was dumped", TimeLinerType.CREATED, "2026-01-01T00:20:00.750000+00:00"),
    ]


SYSINFO = "freebsd.sysinfo.SysInfo"


# Damage


@pytest.fixture(scope="module")
def damaged_vol(tmp_path_factory: pytest.TempPathFactory) -> Vol:
    """A kernel whose lists loop, and whose message buffer is none."""
    name = "15-arm64"
    world, patch = build_world(name), Patch(name)
    patch.member("linker_file", world.get("linker_file", 4), "link.tqe_next", world.get("linker_file", 1))
    patch.member("module", world.get("module", 401), "link.tqe_next", world.get("module", 1))
    patch.member("prison", world.get("prison", 3), "pr_list.tqe_next", world.get("prison", 1))
    patch.member("msgbuf", world.get("msgbuf", 0), "msg_magic", 1)
    patch.member("sysctl_oid", world.get("sysctl_oid", "debug.example.opaque"), "oid_arg2", 1 << 31)
    patch.pointer(walkable(name).address("kenvp"), NOWHERE)
    with changed(world.memory, patch):
        return Vol(name, tmp_path_factory.mktemp("damaged"))


FILES_LOOP, MODULES_LOOP = "linker_files: the list of files loops back to ", "modules: loops back to "
NO_MAGIC = "msgbufp: its magic number is 0x1, not 0x63062; the copy in the minidump's header is shown"


@pytest.mark.parametrize(
    ("plugin", "sound", "notes"),
    [
        ("lskld.Lskld", 3, [FILES_LOOP, MODULES_LOOP]),
        ("lsmod.Lsmod", 5, [FILES_LOOP, MODULES_LOOP]),
        ("jails.Jails", 4, ["allprison: loops back to "]),
        # One line is at both ends of the ring.
        ("dmesg.Dmesg", RING.count("\n") + 1, [NO_MAGIC]),
        ("kenv.Kenv", 5, ["kenvp: ends where address 0x10 is not mapped"]),
    ],
)
def test_damage_is_a_row(damaged_vol: Vol, plugin: str, sound: int, notes: list[str]):
    rows = damaged_vol.table(f"freebsd.{plugin}")
    bad = [row["Notes"] for row in rows if {value for name, value in row.items() if name != "Notes"} == {None}]
    assert len(rows) == sound + len(bad)
    assert [text[: len(note)] for text, note in zip(bad, notes, strict=True)] == notes


def test_sysctl_of_an_impossible_length(damaged_vol: Vol):
    (row,) = damaged_vol.table("freebsd.sysctl.Sysctl", name=["debug.example.opaque"])
    assert row["Notes"] == "a length of 2147483648 bytes is impossible"
    assert row["Value"].startswith("01 02 03 04 ")


# Real dumps, of which only a dozen symbols and no types are known


@pytest.mark.parametrize(
    ("arch", "thread"),
    [("amd64", "tid 100670, sysctl, pid 800"), ("arm64", "tid 100137, sysctl, pid 939")],
)
def test_sysinfo_of_a_real_dump(real_file: RealFile, arch: str, thread: str):
    dump, kernel = real_file(f"vmcore-{arch}-minidump"), real_file(f"kernel-{arch}.elf")
    rows = {row["Fact"]: row["Value"] for row in framework.table(dump, SYSINFO, kernel=kernel)}
    assert (rows["Architecture"], rows["Dumping thread"], rows["Hostname"]) == (arch, thread, None)


@pytest.mark.parametrize(
    ("plugin", "note"),
    [
        (
            "dmesg.Dmesg",
            "msgbufp: the kernel and its modules have no symbol msgbufp; the minidump's header holds no text",
        ),
        ("lskld.Lskld", "linker_files: the types of this kernel lack linker_file.link; "),
        ("lsmod.Lsmod", "modules: the types of this kernel lack linker_file.link, module.link, module.flink; "),
        ("jails.Jails", "prison0: the types of this kernel lack prison.pr_id, prison.pr_list; "),
        ("sysctl.Sysctl", "sysctl__children: the types of this kernel lack sysctl_oid.oid_link, "),
        ("kenv.Kenv", "kenvp: the kernel and its modules have no symbol kenvp"),
    ],
)
def test_what_a_real_dump_cannot_tell_is_said(real_file: RealFile, plugin: str, note: str):
    dump, kernel = real_file("vmcore-amd64-minidump"), real_file("kernel-amd64.elf")
    (row,) = framework.table(dump, f"freebsd.{plugin}", kernel=kernel)
    assert row["Notes"].startswith(note)
    assert {value for name, value in row.items() if name not in ("Notes", "__children")} == {None}
