"""Names, vnets and CPUs as an analyst asks for them, and what `freebsd.kvm.info` says of the kernel."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from volatility3.framework import constants, exceptions

from tests import framework
from tests.conftest import RealFile
from tests.minikernel.kernels import kernel_file
from tests.minikernel.strip import strip_debug
from tests.plugins.test_kvm_plugins import Vol, without_children
from tests.scenario.kernels import build_world, load
from tests.scenario.system import SYSTEM
from tests.scenario.world import World
from tests.scenario_dumps import FORMATS, changed, symbols_of, walkable, write_dump
from tests.test_real_dumps import DUMPS, Real
from tests.writers.objects import addressof
from volatility3_freebsd_kvm import _registration
from volatility3_freebsd_kvm.exceptions import FormatError
from volatility3_freebsd_kvm.image import isf, table
from volatility3_freebsd_kvm.symbols import loading

INFO, NLIST = framework.INFO, "freebsd.kvm.nlist.Nlist"
VNETS, CPUS = "freebsd.kvm.vnets.Vnets", "freebsd.kvm.cpus.Cpus"
NO_VNETS = ("vnet_head: no vnets: the kernel was built without VIMAGE, or its symbols do not lead to them",)
NO_CPUS = ("cpus: this kernel's symbols and types do not lead to any per-CPU data",)
KERNELS = ("15-amd64", "14-powerpc64", "12.1-i386", "15-arm")
EPAIR = next(file for file in SYSTEM.linker_files if file.name == "if_epair.ko")
EPAIR_VNET, EPAIR_DPCPU = next(iter(EPAIR.vnet_variables)), next(iter(EPAIR.dpcpu_variables))
SOME = "15-amd64"

Row = dict[str, Any]


class Case(NamedTuple):
    """A dump of the scenario, what goes with it and what is in it."""

    name: str
    dump: Path
    kernel: Path
    world: World

    def nlist(self, *names: str, **options: Any) -> list[Row]:
        return framework.table(self.dump, NLIST, kernel=self.kernel, name=list(names), **options)

    @property
    def symbols(self) -> dict[str, int]:
        return load(self.name)[0].symbols

    def vnet(self, jid: int) -> int:
        return addressof(self.world.get("vnet", jid))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """Dumps are written once."""
    known: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in known:
            known[name] = Case(name, *write_dump(name, tmp_path_factory.mktemp(name)), build_world(name))
        return known[name]

    return case


@pytest.fixture(params=KERNELS)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


@pytest.fixture
def some(cases: Callable[[str], Case]) -> Case:
    return cases(SOME)


@pytest.fixture
def no_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no release's types were shipped."""
    monkeypatch.setattr(_registration, "symbol_directories", list)


def facts(dump: Path, kernel: Path | None, **options: Any) -> dict[str, str]:
    return {row["Variable"]: row["Value"] for row in framework.table(dump, INFO, kernel=kernel, **options)}


def picked(rows: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


# The real dumps, as commands


@pytest.fixture(scope="module")
def vol(tmp_path_factory: pytest.TempPathFactory) -> Vol:
    found = Vol(tmp_path_factory.mktemp("vol"))
    if found.run("--help").returncode:
        pytest.skip("there is no vol beside the interpreter")
    return found


ASKED = ("hz", "dumptid", "allproc", "pcb_size", "proc_off_p_pid")
NOWHERE = "the kernel and its modules have no symbol no_such_name"
reals = pytest.mark.parametrize("real", DUMPS, ids=lambda real: real.name)


@reals
def test_names_in_a_real_dump(real: Real, real_file: RealFile, vol: Vol) -> None:
    done = vol.run(
        *("-r", "json", "-f", real_file(real.name), "--freebsd-kernel", real_file(real.kernel)),
        *("freebsd.kvm.nlist", "--name", *ASKED, "no_such_name"),
    )
    assert done.returncode == 0, done.stderr
    *found, missing = without_children(done.stdout)
    expected = [real.symbols[name] for name in ASKED]
    assert picked(found, "Name", "Kind", "Module", "Address", "Size", "Value", "Notes") == [
        (name, "plain", "kernel", one.va, one.size, f"{one.value:#x} ({one.value})", "")
        for name, one in zip(ASKED, expected, strict=True)
    ]
    assert {name: value for name, value in missing.items() if value is not None} == {
        "Name": "no_such_name",
        "Notes": NOWHERE,
    }


@reals
def test_names_in_a_real_dump_as_text(real: Real, real_file: RealFile, vol: Vol) -> None:
    done = vol.run(
        *("-f", real_file(real.name), "--freebsd-kernel", real_file(real.kernel)),
        *("freebsd.kvm.nlist", "--name", *ASKED, "no_such_name"),
    )
    doubt = "nothing in it can be compared with the dump, so it may be the wrong kernel"
    assert (done.returncode, done.stderr.count("WARNING"), done.stderr.count(doubt)) == (0, 1, 1)
    _, _, heading, _, *lines = done.stdout.splitlines()
    assert heading.split("\t")[:3] == ["Name", "Symbol", "Kind"]
    expected = []
    for name in ASKED:
        one = real.symbols[name]
        value = f"{one.value:#x} ({one.value})"
        expected.append(f"{name}\t{name}\tplain\tkernel\tN/A\tN/A\t{one.va:#x}\t{one.size}\t{value}\t")
    assert lines == [*expected, f"no_such_name\t-\t-\t-\tN/A\tN/A\t-\t-\t-\t{NOWHERE}"]


@reals
def test_a_real_dump_without_types_or_vnets(real: Real, real_file: RealFile) -> None:
    dump, kernel = real_file(real.name), real_file(real.kernel)
    found = facts(dump, kernel)
    assert found["Kernel names"].endswith(f" symbols of {kernel}")
    assert found["Kernel types"] == "6 structures from offsets that the kernel exports (proc_off_*, thread_off_*)"
    assert found["Kernel fit"] == "unknown: nothing could be compared"
    assert picked(framework.table(dump, VNETS, kernel=kernel), "Notes") == [NO_VNETS]
    assert picked(framework.table(dump, CPUS, kernel=kernel), "Notes") == [NO_CPUS]


# freebsd.kvm.nlist


def test_each_kind_of_name(case: Case) -> None:
    base = int(case.world.get("linker_file", EPAIR.id).address)
    function = next(one for one in EPAIR.symbols if one.name not in case.symbols)
    rows = case.nlist("hz", "_hz", "ifnet", EPAIR_VNET, EPAIR_DPCPU, f"if_epair!{function.name}", "no_such_name")
    host = case.vnet(0)
    assert picked(rows[:3], "Name", "Symbol", "Kind", "Module", "Vnet", "CPU", "Address") == [
        ("hz", "hz", "plain", "kernel", None, None, case.symbols["hz"]),
        ("_hz", "hz", "plain", "kernel", None, None, case.symbols["hz"]),
        ("ifnet", "vnet_entry_ifnet", "vnet", "kernel", host, None, addressof(case.world.vnet_symbol(0, "ifnet"))),
    ]
    assert picked(rows[3:6], "Name", "Kind", "Module", "Vnet", "CPU") == [
        (EPAIR_VNET, "vnet", "if_epair.ko", host, None),
        (EPAIR_DPCPU, "dpcpu", "if_epair.ko", None, 0),
        (f"if_epair!{function.name}", "kld", "if_epair.ko", None, None),
    ]
    assert [row["Value"] for row in rows[3:5]] == [
        f"{value:#x} ({value})" for value in (EPAIR.vnet_variables[EPAIR_VNET], EPAIR.dpcpu_variables[EPAIR_DPCPU])
    ]
    assert (rows[5]["Address"], rows[5]["Size"], rows[5]["Value"]) == (base + function.offset, function.size, None)
    assert rows[6] == {name: rows[6]["Name"] if name == "Name" else None for name in rows[6]} | {"Notes": NOWHERE}
    assert {row["Notes"] for row in rows[:6]} == {""}


def test_values_are_what_their_types_make_of_them(case: Case) -> None:
    rows = {row["Name"]: row["Value"] for row in case.nlist("hz", "version", "osreldate", "prison0", "allproc")}
    kernel = walkable(case.name)
    assert (rows["hz"], rows["osreldate"]) == ("1000", str(kernel.integer("osreldate")))
    text = kernel.text(kernel.address("version")).replace("\n", "\\x0a")
    assert rows["version"] == f'"{text}"'
    assert rows["allproc"] == f"{{lh_first = {kernel.pointer('allproc'):#x}}}"
    assert rows["prison0"].startswith("{")


@pytest.mark.parametrize("how", ["id", "other id", "name", "address", "decimal address"])
def test_another_vnets_variable(case: Case, how: str) -> None:
    address = case.vnet(2)
    which = {"id": "2", "other id": "3", "name": "db", "address": hex(address), "decimal address": str(address)}[how]
    ((vnet, found, value, notes),) = picked(case.nlist("ifnet", vnet=which), "Vnet", "Address", "Value", "Notes")
    assert (vnet, found, notes) == (address, addressof(case.world.vnet_symbol(2, "ifnet")), "")
    first = walkable(case.name).vnet(2).pointer("ifnet")
    assert f"{first:#x}" in value


def test_the_variables_of_all_vnets(case: Case) -> None:
    rows = case.nlist("ifnet", "hz", "no_such_name", EPAIR_VNET, all_vnets=True)
    assert picked(rows, "Name", "Vnet") == [
        ("ifnet", case.vnet(0)),
        ("ifnet", case.vnet(2)),
        ("hz", None),
        ("no_such_name", None),
        (EPAIR_VNET, case.vnet(0)),
        (EPAIR_VNET, case.vnet(2)),
    ]
    assert [row["Address"] for row in rows[:2]] == [addressof(case.world.vnet_symbol(jid, "ifnet")) for jid in (0, 2)]


def test_the_variables_of_one_cpu_and_of_all(case: Case) -> None:
    ((cpu, one),) = picked(case.nlist(EPAIR_DPCPU, cpu=3), "CPU", "Address")
    assert cpu == 3
    rows = case.nlist(EPAIR_DPCPU, "hz", all_cpus=True)
    assert [row["CPU"] for row in rows] == [0, 1, 2, 3, None]
    places = [row["Address"] for row in rows[:4]]
    assert len(set(places)) == 4
    assert places[3] == one
    names = walkable(case.name).names
    assert [b - a for a, b in pairwise(places)] == [
        names.cpu(number + 1).data_base - names.cpu(number).data_base for number in range(3)
    ]


def test_a_vnet_or_cpu_that_is_not_there_is_told_in_each_row(some: Case) -> None:
    rows = some.nlist("ifnet", "hz", vnet="nobody")
    known = f"there is no vnet nobody; there are: {some.vnet(0):#x} (host, jail 1 web), {some.vnet(2):#x} (jail 2 db,"
    assert [row["Name"] for row in rows] == ["ifnet", "hz"]
    assert all(row["Notes"].startswith(known) for row in rows)
    assert {row["Address"] for row in rows} == {None}
    (row,) = some.nlist(EPAIR_DPCPU, cpu=64)
    assert (row["Address"], row["Notes"]) == (None, "CPU 64 has no per-CPU data; those that have: 0, 1, 2, 3")


def test_addresses_lead_to_names(case: Case) -> None:
    kernel = walkable(case.name)
    hz, ifnet = case.symbols["hz"], addressof(case.world.vnet_symbol(2, "ifnet"))
    module = kernel.address(f"if_epair.ko!{EPAIR.symbols[0].name}")
    dpcpu = kernel.cpu(3).address(EPAIR_DPCPU)
    rows = case.nlist(hex(hz + 1), hex(ifnet), hex(module + 4), hex(dpcpu), "0x10", "0xhello")
    assert picked(rows[:5], "Kind", "Symbol", "Module", "Vnet", "CPU", "Address", "Value") == [
        ("address", "hz+0x1", "kernel", None, None, hz + 1, None),
        ("address", "vnet_entry_ifnet", "kernel", case.vnet(2), None, ifnet, None),
        ("address", f"{EPAIR.symbols[0].name}+0x4", "if_epair.ko", None, None, module + 4, None),
        ("address", f"pcpu_entry_{EPAIR_DPCPU}", "if_epair.ko", None, 3, dpcpu, None),
        (None, None, None, None, None, 0x10, None),
    ]
    assert [row["Notes"] for row in rows] == [
        *[""] * 4,
        "the address is in no symbol of the kernel or its modules",
        "0xhello is no hexadecimal number",
    ]


def edited(case: Case, directory: Path, change: Callable[[dict[str, Any], list[Any]], None]) -> Path:
    """The kernel's symbol file with other symbols."""
    content = isf.load(case.kernel)
    symbols = list(table.symbols_of(content))
    change(content, symbols)
    made = table.document(
        table.identity_of(content), table.SymbolTable(symbols), isf.types_of(content), table.variables_of(content)
    )
    path = directory / "edited.json"
    path.write_bytes(isf.text(made))
    return path


def test_what_cannot_be_read_has_no_value(some: Case, tmp_path: Path) -> None:
    kernel = edited(some, tmp_path, lambda _, symbols: symbols.append(table.Symbol("gone", 0x10, 4)))
    (row,) = framework.table(some.dump, NLIST, kernel=kernel, name=["gone"])
    assert (row["Address"], row["Size"], row["Value"], row["Notes"]) == (0x10, 4, None, "")


def test_a_kernel_without_vnets_or_cpus_says_so(some: Case, tmp_path: Path) -> None:
    left_out = ("__start_set_vnet", "vnet0", "vnet_head", "dpcpu_off")

    def leave_out(_: dict[str, Any], symbols: list[Any]) -> None:
        symbols[:] = [one for one in symbols if one.name not in left_out]

    kernel = edited(some, tmp_path, leave_out)
    rows = framework.table(some.dump, NLIST, kernel=kernel, name=["ifnet"], all_vnets=True)
    assert picked(rows, "Kind", "Address", "Notes") == [
        ("vnet", None, "the kernel's symbols do not say where the VNET templates are (set_vnet)")
    ]
    entry = next(one.name for one in symbols_of(SOME) if one.name.startswith("pcpu_entry_"))
    name = entry.removeprefix("pcpu_entry_")
    rows = framework.table(some.dump, NLIST, kernel=kernel, name=[name], all_cpus=True)
    note = "CPU 0 has no per-CPU data; those that have: none (not readable)"
    assert picked(rows, "Kind", "Address", "Notes") == [("dpcpu", None, note)]
    assert picked(framework.table(some.dump, VNETS, kernel=kernel), "Notes") == [NO_VNETS]
    assert picked(framework.table(some.dump, CPUS, kernel=kernel), "Notes") == [NO_CPUS]


def test_no_name_is_said(some: Case) -> None:
    assert picked(some.nlist(), "Name", "Notes") == [(None, "--name: no name was given")]


# freebsd.kvm.vnets, freebsd.kvm.cpus


def test_vnets(case: Case) -> None:
    kernel = walkable(case.name)
    rows = framework.table(case.dump, VNETS, kernel=case.kernel)
    assert picked(rows, "Vnet", "JID", "Jails", "Data base", "Notes") == [
        (case.vnet(jid), jids, jails, kernel.names.vnet(jid).data_base, "")
        for jid, jids, jails in ((0, "0, 1", "0, web"), (2, "2, 3", "db, db.pg"))
    ]
    for row, jid in zip(rows, (0, 2), strict=True):
        vnet = case.world.get("vnet", jid)
        assert (row["Interfaces"], row["Sockets"]) == (vnet.vnet_ifcnt, vnet.vnet_sockcnt)


def test_cpus(case: Case) -> None:
    rows = framework.table(case.dump, CPUS, kernel=case.kernel)
    names = {thread.tid: thread.name or process.comm for process in SYSTEM.processes for thread in process.threads}
    pcpus = walkable(case.name).names.cpus
    assert picked(rows, "CPU", "DPCPU offset", "Pcpu", "TID", "Notes") == [
        (cpu.cpuid, pcpu.data_base, pcpu.pcpu, cpu.running, "") for cpu, pcpu in zip(SYSTEM.cpus, pcpus, strict=True)
    ]
    assert [row["Name"] for row in rows] == [names[cpu.running] for cpu in SYSTEM.cpus]
    assert [row["Thread"] for row in rows] == [addressof(case.world.get("thread", cpu.running)) for cpu in SYSTEM.cpus]


@pytest.fixture
def bare(some: Case, tmp_path: Path, no_layouts: None) -> Path:
    """The kernel as it is installed, without types."""
    path = tmp_path / "kernel"
    path.write_bytes(strip_debug(kernel_file(*SOME.split("-")).read_bytes()))
    return path


def test_vnets_and_cpus_of_a_kernel_without_types(some: Case, bare: Path) -> None:
    assert "offsets that the kernel exports" in facts(some.dump, bare)["Kernel types"]
    rows = framework.table(some.dump, VNETS, kernel=bare)
    assert picked(rows, "Vnet", "JID", "Jails", "Interfaces", "Sockets", "Notes") == [
        (some.vnet(jid), None, None, None, None, "") for jid in (0, 2)
    ]
    names = walkable(SOME).names
    assert [row["Data base"] for row in rows] == [vnet.data_base for vnet in names.vnets]
    rows = framework.table(some.dump, CPUS, kernel=bare)
    assert picked(rows, "CPU", "DPCPU offset", "Pcpu", "Thread", "TID", "Name", "Notes") == [
        (cpu.cpuid, cpu.data_base, cpu.pcpu, None, None, None, "") for cpu in names.cpus
    ]
    (row,) = framework.table(some.dump, NLIST, kernel=bare, name=["hz"])
    assert row["Value"] == "0x3e8 (1000)"


def test_cpus_whose_pcpu_is_not_known(some: Case, tmp_path: Path) -> None:
    def forget(_: dict[str, Any], symbols: list[Any]) -> None:
        symbols[:] = [one for one in symbols if one.name != "cpuid_to_pcpu"]

    rows = framework.table(some.dump, CPUS, kernel=edited(some, tmp_path, forget))
    note = "the kernel does not say where its struct pcpu is (cpuid_to_pcpu)"
    assert picked(rows, "CPU", "Pcpu", "Thread", "TID", "Name", "Notes") == [
        (number, None, None, None, None, note) for number in range(4)
    ]


def test_a_damaged_list_of_vnets_is_told(some: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = walkable(SOME).address("vnet_head")
    with changed(some.world.memory, {head: (0x10).to_bytes(8, "little")}):
        dump = tmp_path / "damaged"
        dump.write_bytes(FORMATS["minidump"](some.world.memory))
    rows = framework.table(dump, VNETS, kernel=some.kernel)
    assert [row["Vnet"] for row in rows] == [some.vnet(0), None, None]
    assert [row["Notes"].partition(" after ")[0] for row in rows] == [
        "",
        "vnet_head: ends",
        "vnet_head: there is no vnet at 0x10: no magic number can be read there",
    ]
    assert [one for one in caplog.messages if one.startswith("vnet_head: ")] == [row["Notes"] for row in rows[1:]]


# What freebsd.kvm.info says of the kernel, and what stands in the way of it


def test_text_out_of_the_dump_cannot_steer_a_terminal(some: Case, tmp_path: Path) -> None:
    version = walkable(SOME).address("version")
    with changed(some.world.memory, {version: b"FreeBSD 15.0\x1b]0;pwned\x07 #0\n\0"}):
        dump = tmp_path / "hostile"
        dump.write_bytes(FORMATS["minidump"](some.world.memory))
    found = facts(dump, kernel_file(*SOME.split("-")), force=True)
    assert found["Kernel"] == "FreeBSD 15.0\\x1b]0;pwned\\x07 #0"
    assert found["Kernel fit"].startswith("does not fit: the banner is FreeBSD 15.0\\x1b]0;pwned\\x07 #0, not FreeBSD")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.json.xz", lambda whole: isf.dump(whole)[:-20]),
        ("cut.json", lambda whole: isf.text(whole)[:-20]),
        ("nothing.json", lambda whole: b""),
        ("wrong.json.xz", isf.text),
    ],
)
def test_a_damaged_symbol_file_that_is_named_is_told(
    some: Case, tmp_path: Path, name: str, content: Callable[[dict[str, Any]], bytes]
) -> None:
    path = tmp_path / name
    path.write_bytes(content(isf.load(some.kernel)))
    said = facts(some.dump, path)["Kernel names"]
    assert said.startswith(f"none: {path.as_uri()} cannot be read as a symbol file (")


def test_symbol_files_of_nonsense_are_told(some: Case, tmp_path: Path) -> None:
    content = isf.load(some.kernel)
    content["user_types"]["proc"]["fields"]["p_pid"] = 5
    path = tmp_path / "nonsense.json"
    path.write_bytes(isf.text(content))
    said = facts(some.dump, path)["Kernel names"]
    assert said.startswith(f"none: {path.as_uri()} is a damaged symbol file (")


def test_a_file_of_types_alone_is_no_kernel(some: Case) -> None:
    (path,) = (
        one for one in _registration.symbol_directories()[-1].iterdir() if one.name == "freebsd-15-amd64.json.xz"
    )
    said = facts(some.dump, path)["Kernel names"]
    assert said == f"none: {path.as_uri()} has types, but no symbols of a kernel"


def test_names_that_the_framework_cannot_have_are_unknown_to_it(some: Case) -> None:
    made = framework.stack(some.dump, VNETS, kernel=some.kernel)
    module = made.context.modules[str(made.plugin.config["kernel"])]
    symbols = made.context.symbol_space[module.symbol_table_name]
    assert symbols.get_symbol("ifnet").type is not None
    for name in (f"if_epair.ko!{EPAIR.symbols[0].name}", "no_such_name"):
        with pytest.raises(exceptions.SymbolError, match=f"Unknown symbol: {name}$"):
            symbols.get_symbol(name)


def test_a_kernel_of_the_network_is_no_kernel(some: Case) -> None:
    context = framework.stack(some.dump, kernel=some.kernel).plugin.context
    expected = r"^https://example\.org/boot/kernel is no file of this machine: fetch it first$"
    with pytest.raises(FormatError, match=expected):
        loading.choose_table(context, "primary", kernel="https://example.org/boot/kernel", force=False)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test; the framework's own part of it is as it was, but finds no tables of other tests."""
    framework.plugin_classes()
    cache = tmp_path / "cache"
    cache.mkdir()
    known = Path(constants.CACHE_PATH) / constants.IDENTIFIERS_FILENAME
    if known.exists():
        shutil.copy(known, cache)
    monkeypatch.setattr(constants, "CACHE_PATH", str(cache))
    monkeypatch.setattr(loading, "_symbol_files", lambda: iter(()))
    return cache


def test_a_cache_that_cannot_be_written_costs_time_only(
    some: Case, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("symbols", "freebsd-kvm"):
        (own_cache / name).write_text("a file where a directory should be")
    rows = framework.table(some.dump, VNETS, kernel=kernel_file(*SOME.split("-")))
    assert [row["Jails"] for row in rows] == ["0, web", "db, db.pg"]
    assert [row["Jails"] for row in framework.table(some.dump, VNETS)] == ["0, web", "db, db.pg"]
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert sorted(warnings) == [
        f"{own_cache / name} cannot be written ({reason}): the next run has to make the symbol tables anew"
        for name, reason in (("freebsd-kvm", "File exists"), ("symbols/freebsd", "Not a directory"))
    ]


def test_a_kept_table_that_was_cut_off_is_made_anew(some: Case, own_cache: Path) -> None:
    kernel = kernel_file(*SOME.split("-"))
    first = facts(some.dump, kernel)
    (kept,) = (own_cache / "symbols" / "freebsd").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[: len(content) // 2])
    assert facts(some.dump, kernel) == first
    assert kept.read_bytes() == content
    assert json.loads(content)["user_types"]["proc"]
