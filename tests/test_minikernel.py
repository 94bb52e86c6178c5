"""The mini-kernels are what they claim to be: checked with pyelftools, gdb and what the C compiler itself says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

import pytest
from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Symbol, SymbolTableSection

from tests.minikernel import ARCHITECTURES, RELEASES, ToolchainUnavailable, build, build_module
from tests.minikernel.build import SOURCES, UNITS, _product
from tests.minikernel.toolchain import CACHE_VARIABLE, _find, cache_directory

MACHINES = {
    "amd64": ("EM_X86_64", 64, "little", 0xFFFFFFFF80200000),
    "arm64": ("EM_AARCH64", 64, "little", 0xFFFF000000000000),
    "riscv64": ("EM_RISCV", 64, "little", 0xFFFFFFC000000000),
    "i386": ("EM_386", 32, "little", 0x800000),
    "arm": ("EM_ARM", 32, "little", 0xC0000000),
    "powerpc64": ("EM_PPC64", 64, "big", 0x100000),
}


def _words(text: str) -> list[str]:
    return text.split()


SECTIONS = (".text", ".rodata", ".data", ".bss", "set_vnet", "set_pcpu", "set_sysctl_set", "set_sysinit_set", ".symtab")
OBJECTS = _words("""
    allproc pidhashtbl pidhash pgrphashtbl pgrphash proc0 thread0_st vmspace0 initproc prison0 allprison nprocs
    tidhashtbl tidhash thread_zone proc_zone uihashtbl exec_args_kva_freelist execsw null_sysvec
    version osrelease osreldate ostype kern_ident kernelname hz boothowto physmem realmem sccs compiler_version
    cpuid_to_pcpu cpuhead dpcpu_off mp_maxid mp_maxcpus mp_ncpus all_cpus stopped_cpus stoppcbs __pcpu
    panicstr panicked dumping dumptid dumppcb dumper_configs kdb_active rebooting
    timehands ths timecounter time_second time_uptime event_list eventhandler_lists sleepq_chains turnstile_chains
    msgbufp msgbufsize consmsgbuf constty kenvp kern_envp md_envp dynamic_kenv preload_metadata
    sysctl__children sysctl___kern_ostype sysctl___net_inet_ip_forwarding sysent syscallnames
    linker_files linker_kernel_file modules found_modules classes set_vnet_list set_pcpu_list
    mountlist rootvnode vfsconf vnode_list nchashtbl nchash default_vnodeops ffs_vnodeops2 devfs_specops null_vnodeops
    cdevp_list tty_list pts_class shm_dictionary ksem_dictionary mqfs_data sysfilt_ops md_softc_list g_classes swtailq
    vnops socketops pipeops kqueueops shm_ops ksem_ops ptsdev_ops procdesc_ops eventfdops badfileops devfs_ops_f
    vm_page_array vm_page_array_size vm_phys_segs vm_phys_nsegs vm_object_list kernel_map_store kernel_object_store
    kernel_pmap_store pagertab dump_avail uma_kegs uma_cachezones kmemstatistics file_zone vnode_zone socket_zone
    vnet0 vnet_head bpf_iflist netisr_proto domains inetdomain unp_shead unp_dhead unp_sphead ifindex_table ip_protox
    ip6_protox t_functions cc_list ng_typelist root_bus bus_data_devices audit_q mac_policy_list
""")
MACHINE_OBJECTS = {
    "amd64": [
        "KPML4phys",
        "KPML5phys",
        "kernphys",
        "la57",
        "idt",
        "idt0",
        "freebsd32_sysent",
        "elf64_freebsd_sysvec_la48",
    ],
    "arm64": ["pagetable_l0_ttbr1", "dmap_phys_base", "elf64_freebsd_sysvec"],
    "riscv64": ["pagetable_l1", "pmap_mode", "dmap_phys_base", "elf64_freebsd_sysvec"],
    "i386": ["pae_mode", "IdlePDPT", "IdlePTD_nopae", "tramp_idleptd", "idt0", "elf32_freebsd_sysvec"],
    "arm": ["kernel_l1pa", "elf32_freebsd_sysvec"],
    "powerpc64": ["elf64_freebsd_sysvec_v2"],
}
MACHINE_FUNCTIONS = {
    "amd64": ["Xfast_syscall", "Xpage", "calltrap"],
    "arm64": ["handle_el1h_sync"],
    "i386": ["calltrap"],
}
VNET = _words("""
    ifnet ifg_head loif lltables rt_tables _rt_numfibs pfil_head_list pfil_hook_list link_pfil_head inet_pfil_head
    tcbinfo udbinfo ulitecbinfo ripcbinfo tcp_syncache tcp_func_set_ptr default_cc_ptr divhash in_ifaddrhead
    in6_ifaddrhead nd_prefix ipforwarding pf_idhash pf_hashmask pf_status pf_main_anchor pf_anchors sahtree sptree
    nl_ctl ng_ID_hash modspace
""")
DPCPU = ["tdq", "cc_cpu", "exec_args_kva", "nws"]
PRIVATE_TYPES = {
    "proc": ["thread_domain_data", "exec_args_kva"],
    "sched": ["tdq", "td_sched", "sleepqueue", "turnstile", "callout_cpu", "cc_exec", "timehands", "taskqueue"],
    "vm": ["pctrie_node", "swblk"],
    "fs": ["namecache", "namecache_ts", "negstate", "tmpfs_node", "tmpfs_mount", "vop_vector"],
    "file": ["filedesc0", "freetable", "ttyinq_block", "ttyoutq_block", "pts_softc", "eventfd", "timerfd", "mqfs_node"],
    "net": ["bpf_if", "pfil_head", "pfil_link", "pfil_hook", "ifindex_entry"],
    "inet": ["divcb"],
    "linker": ["module", "modlist"],
    "link_elf": ["elf_file", "elf_set"],
    "link_elf_obj": ["elf_file"],
    "kern": ["_device", "devclass", "mac_policy_conf"],
    "md": ["md_s", "indir"],
}
# kernel-structures.md section 20 (read from DWARF of a separate compilation): amd64 14, amd64 15, arm64 14, arm64 15.
REFERENCE = {
    ("proc", ""): (0x560, 0x558, 0x548, 0x550),
    ("proc", "p_comm"): (0x3E0, 0x3E0, 0x3E0, 0x3E0),
    ("proc", "p_jaillist"): (0x550, 0x548, 0x538, 0x540),
    ("thread", ""): (0x6F0, 0x720, 0x5E8, 0x618),
    ("thread", "td_name"): (0x2D4, 0x2DC, 0x2D4, 0x2DC),
    ("thread", "td_oncpu"): (0x6CC, 0x6FC, 0x5C4, 0x5F4),
    ("ucred", ""): (0x100, 0x108, 0x100, 0x108),
    ("prison", ""): (0x880, 0x880, 0x880, 0x880),
    ("vnode", ""): (0x1C0, 0x1B8, 0x1C0, 0x1B8),
    ("socket", ""): (0x400, 0x400, 0x480, 0x480),
    ("socket", "sol_incomp"): (0x200, 0x200, 0x240, 0x240),
    ("inpcb", ""): (0x188, 0x178, 0x188, 0x178),
    ("tcpcb", ""): (0x528, 0x518, 0x528, 0x518),
    ("ifnet", ""): (0x508, 0x520, 0x508, 0x520),
    ("ifnet", "if_counters"): (0x450, 0x468, 0x450, 0x468),
    ("vmspace", ""): (0x268, 0x248, 0x1C8, 0x1A8),
    ("vm_map", ""): (0xD8, 0xB8, 0xD8, 0xB8),
    ("vm_object", "un_pager"): (0xD0, 0xC0, 0xD0, 0xC0),
    ("vm_page", ""): (0x68, 0x58, 0x68, 0x58),
    ("linker_file", ""): (0xC8, 0xC8, 0xC8, 0xC8),
    ("mount", ""): (0xB00, 0xB00, 0xB80, 0xB80),
    ("pcb", ""): (0x140, 0x140, 0x4E0, 0x4E0),
    ("sysentvec", ""): (0x188, 0x1A0, 0x188, 0x1A0),
    ("unpcb", ""): (0x100, 0x140, 0x100, 0x180),
}
REFERENCE_COLUMNS = [("14", "amd64"), ("15", "amd64"), ("14", "arm64"), ("15", "arm64")]


@dataclass(frozen=True)
class Member:
    """Where a member of a structure lies; ``bits`` is its place from the structure's start and its width."""

    offset: int
    size: int
    bits: tuple[int, int] | None = None


@dataclass(frozen=True)
class Structure:
    size: int
    members: dict[str, Member] = field(default_factory=dict)


class Kernel:
    """A kernel file as pyelftools sees it."""

    def __init__(self, release: str, arch: str) -> None:
        self.release = release
        self.arch = arch
        self.path = build(release, arch)
        self.elf = ELFFile(self.path.open("rb"))
        self.byteorder = "little" if self.elf.little_endian else "big"
        table = self.elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        self.symbols: dict[str, list[Symbol]] = {}
        for symbol in table.iter_symbols():
            self.symbols.setdefault(symbol.name, []).append(symbol)
        self._structures: dict[str, dict[str, Structure]] = {}

    def address(self, name: str) -> int:
        (symbol,) = self.symbols[name]
        return int(symbol["st_value"])

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the loaded image; what the file does not hold is zero."""
        for segment in self.elf.iter_segments("PT_LOAD"):
            offset = address - segment["p_vaddr"]
            if offset >= 0 and offset + size <= segment["p_memsz"]:
                return segment.data()[offset : offset + size].ljust(size, b"\0")
        raise AssertionError(f"{address:#x} is not in the image")

    def integer(self, address: int, size: int) -> int:
        return int.from_bytes(self.read(address, size), "little" if self.byteorder == "little" else "big")

    def records(self, section: str, *widths: int) -> Iterator[list[bytes]]:
        """The fields of each record of a section."""
        data = self.elf.get_section_by_name(section).data()
        for start in range(0, len(data), sum(widths)):
            record, at = [], start
            for width in widths:
                record.append(data[at : at + width])
                at += width
            yield record

    def word(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.byteorder == "little" else "big")

    @cached_property
    def facts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(offset, size) by type and member, from the table that the compiler filled in."""
        return {
            (tag.rstrip(b"\0").decode(), member.rstrip(b"\0").decode()): (self.word(offset), self.word(size))
            for tag, member, offset, size in self.records("minikernel_facts", 32, 32, 4, 4)
        }

    @cached_property
    def constants(self) -> dict[str, int]:
        return {
            name.rstrip(b"\0").decode(): self.word(value) for name, value in self.records("minikernel_constants", 48, 8)
        }

    @cached_property
    def units(self) -> dict[str, CompileUnit]:
        """Compilation units by the name of their file."""
        named = {}
        for unit in self.elf.get_dwarf_info().iter_CUs():
            named[Path(unit.get_top_DIE().attributes["DW_AT_name"].value.decode()).stem] = unit
        return named

    def structures(self, unit: str) -> dict[str, Structure]:
        if unit not in self._structures:
            self._structures[unit] = {
                name: Structure(die.attributes["DW_AT_byte_size"].value, dict(_members(die, 0)))
                for die, name in _definitions(self.units[unit])
            }
        return self._structures[unit]


def _definitions(unit: CompileUnit) -> Iterator[tuple[DIE, str]]:
    for die in unit.get_top_DIE().iter_children():
        if (
            die.tag == "DW_TAG_structure_type"
            and "DW_AT_byte_size" in die.attributes
            and "DW_AT_name" in die.attributes
        ):
            yield die, die.attributes["DW_AT_name"].value.decode()


def _members(die: DIE, base: int) -> Iterator[tuple[str, Member]]:
    """Members with those of unnamed structures and unions in their places."""
    for child in die.iter_children():
        if child.tag != "DW_TAG_member":
            continue
        attributes = child.attributes
        offset = base + (
            attributes["DW_AT_data_member_location"].value if "DW_AT_data_member_location" in attributes else 0
        )
        if "DW_AT_name" not in attributes:
            yield from _members(_stripped(child), offset)
            continue
        bits = None
        if "DW_AT_bit_size" in attributes:
            width = attributes["DW_AT_bit_size"].value
            if "DW_AT_data_bit_offset" in attributes:
                bits = (base * 8 + attributes["DW_AT_data_bit_offset"].value, width)
            else:  # DWARF 2 and 3: from the most significant bit of the storage unit
                unit_bits = _size(_stripped(child)) * 8
                from_top = attributes["DW_AT_bit_offset"].value
                low = from_top if child.cu.structs.little_endian is False else unit_bits - from_top - width
                bits = (offset * 8 + low, width)
        yield attributes["DW_AT_name"].value.decode(), Member(offset, _size(_stripped(child)), bits)


def _stripped(die: DIE) -> DIE:
    """The type of a member without typedefs and qualifiers."""
    die = die.get_DIE_from_attribute("DW_AT_type")
    while die.tag in ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"):
        if "DW_AT_type" not in die.attributes:
            break
        die = die.get_DIE_from_attribute("DW_AT_type")
    return die


def _size(die: DIE) -> int:
    if die.tag == "DW_TAG_pointer_type":
        return int(die.cu["address_size"])
    if die.tag == "DW_TAG_array_type":
        count = 1
        for child in die.iter_children():
            if "DW_AT_count" in child.attributes:
                count *= child.attributes["DW_AT_count"].value
            else:
                count *= (
                    child.attributes["DW_AT_upper_bound"].value + 1 if "DW_AT_upper_bound" in child.attributes else 0
                )
        return count * _size(_stripped(die))
    return int(die.attributes["DW_AT_byte_size"].value) if "DW_AT_byte_size" in die.attributes else 0


@cache
def load(release: str, arch: str) -> Kernel:
    return Kernel(release, arch)


def require(release: str, arch: str) -> Kernel:
    try:
        return load(release, arch)
    except ToolchainUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=[(release, arch) for release in RELEASES for arch in ARCHITECTURES], ids="-".join)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return require(*request.param)


def test_is_an_executable_at_the_address_of_a_kernel(kernel: Kernel) -> None:
    machine, bits, byteorder, base = MACHINES[kernel.arch]
    header = kernel.elf.header
    assert (header["e_machine"], kernel.elf.elfclass, kernel.byteorder) == (machine, bits, byteorder)
    assert header["e_type"] == "ET_EXEC"
    loads = list(kernel.elf.iter_segments("PT_LOAD"))
    assert loads[0]["p_vaddr"] == base
    assert [segment["p_flags"] for segment in loads] == [5, 4, 6]
    assert loads[-1]["p_memsz"] > loads[-1]["p_filesz"]
    assert all(segment["p_vaddr"] % 4096 == segment["p_offset"] % 4096 for segment in loads)
    (interpreter,) = kernel.elf.iter_segments("PT_INTERP")
    assert interpreter.get_interp_name() == "/red/herring"
    assert header["e_entry"] == kernel.address("btext")


def test_has_the_sections_of_a_kernel(kernel: Kernel) -> None:
    for name in SECTIONS:
        section = kernel.elf.get_section_by_name(name)
        assert section is not None, name
        assert section["sh_size"] > 0, name
    assert kernel.elf.get_section_by_name(".note.gnu.build-id")["sh_size"] == 36
    assert kernel.address("etext") <= kernel.elf.get_section_by_name(".rodata")["sh_addr"]
    assert kernel.address("_end") == kernel.address("end")


def test_names_no_path_of_this_machine(kernel: Kernel) -> None:
    data = kernel.path.read_bytes()
    for path in (cache_directory(), SOURCES, Path.home(), Path.cwd()):
        if len(path.parts) > 2:
            assert str(path).encode() not in data


def test_has_the_roots(kernel: Kernel) -> None:
    names = OBJECTS + MACHINE_OBJECTS[kernel.arch]
    assert [name for name in names if name not in kernel.symbols] == []
    sizeless = [name for name in names if kernel.symbols[name][0]["st_info"]["type"] != "STT_OBJECT"]
    assert sizeless == []
    assert [name for name in names if kernel.symbols[name][0]["st_size"] == 0] == []
    assert "zombproc" not in kernel.symbols
    assert "boottime" not in kernel.symbols
    static = ("linker_files", "modules", "tty_list", "uma_kegs", "bpf_iflist", "swtailq", "event_list", "dumppcb")
    assert {kernel.symbols[name][0]["st_info"]["bind"] for name in static} == {"STB_LOCAL"}


def test_ticks_is_the_low_half_of_ticksl_since_15(kernel: Kernel) -> None:
    shift = 4 if kernel.arch == "powerpc64" else 0
    if kernel.release == "15":
        assert kernel.address("ticks") == kernel.address("ticksl") + shift
    else:
        assert "ticksl" not in kernel.symbols
        assert kernel.symbols["ticks"][0]["st_size"] == 4


def test_functions_are_in_text_and_apart(kernel: Kernel) -> None:
    text = kernel.elf.get_section_by_name(".text")
    functions = [s[0] for s in kernel.symbols.values() if s[0]["st_info"]["type"] == "STT_FUNC"]
    assert len(functions) > 700
    places = sorted((symbol["st_value"] & ~(kernel.arch == "arm"), symbol["st_size"]) for symbol in functions)
    assert places[0][0] >= text["sh_addr"]
    assert places[-1][0] + places[-1][1] <= text["sh_addr"] + text["sh_size"]
    assert all(size > 0 for _, size in places)
    assert all(before[0] + before[1] <= after[0] for before, after in pairwise(places))
    for name in (
        "sys_read",
        "tcp_input",
        "ether_input",
        "null_bypass",
        "vop_stdlock",
        *MACHINE_FUNCTIONS.get(kernel.arch, []),
    ):
        assert name in kernel.symbols


def test_kernbase_is_the_headers_own(kernel: Kernel) -> None:
    assert kernel.address("kernbase") == kernel.constants["KERNBASE"]
    assert kernel.constants["PAGE_SIZE"] == 4096
    assert kernel.constants["VNET_MAGIC_N"] == 0x5E4A6F28
    assert kernel.constants["P_MAGIC"] == 0xBEEFFACE


def test_debug_information_agrees_with_the_compiler(kernel: Kernel) -> None:
    structures = kernel.structures("types")
    differing = {}
    for (tag, name), (offset, size) in kernel.facts.items():
        found = structures[tag].members[name] if name else Member(0, structures[tag].size)
        if (found.offset, found.size) != (offset, size):
            differing[tag, name] = (offset, size), found
    assert len(kernel.facts) > 120
    assert differing == {}


@pytest.mark.parametrize(("release", "arch"), REFERENCE_COLUMNS)
def test_agrees_with_offsets_measured_elsewhere(release: str, arch: str) -> None:
    kernel = require(release, arch)
    column = REFERENCE_COLUMNS.index((release, arch))
    measured = {key: kernel.facts[key][1 if key[1] == "" else 0] for key in REFERENCE}
    assert measured == {key: values[column] for key, values in REFERENCE.items()}


def test_proc_is_1368_bytes_on_amd64_15() -> None:
    kernel = require("15", "amd64")
    assert kernel.facts["proc", ""] == (0, 1368)
    assert kernel.structures("types")["proc"].size == 1368


def test_exported_offsets(kernel: Kernel) -> None:
    structures = kernel.structures("types")
    exported = [name for name in kernel.symbols if re.match(r"(proc|thread)_off_", name)]
    assert len(exported) == 10
    for name in exported:
        tag, member = name.split("_off_")
        assert kernel.integer(kernel.address(name), 4) == structures[tag].members[member].offset
    assert kernel.integer(kernel.address("pcb_size"), 4) == structures["pcb"].size


def test_initial_values_lie_where_debug_information_says(kernel: Kernel) -> None:
    structures = kernel.structures("types")

    def member(symbol: str, tag: str, name: str) -> int:
        place = structures[tag].members[name]
        return kernel.integer(kernel.address(symbol) + place.offset, place.size)

    assert member("proc0", "proc", "p_magic") == 0xBEEFFACE
    assert member("thread0_st", "thread", "td_tid") == 100000
    assert member("prison0", "prison", "pr_ref") == 1
    assert member("sample_vnode", "vnode", "v_type") == 4
    assert member("sample_vnode", "vnode", "v_vflag") == 1
    comm = structures["proc"].members["p_comm"]
    assert kernel.read(kernel.address("proc0") + comm.offset, comm.size) == b"kernel".ljust(20, b"\0")
    assert kernel.integer(kernel.address("osreldate"), 4) == {"14": 1403000, "15": 1500068}[kernel.release]
    assert kernel.read(kernel.address("version"), 10) == f"FreeBSD {kernel.release}".encode()


def test_bit_field_lies_where_debug_information_says(kernel: Kernel) -> None:
    bits = kernel.structures("types")["tcpcb"].members["t_state"].bits
    assert bits is not None
    start, width = bits
    first = start // 8
    data = kernel.read(kernel.address("sample_tcpcb") + first, 4)
    if kernel.byteorder == "little":
        value = int.from_bytes(data, "little") >> start % 8
    else:  # counted from the most significant bit
        value = int.from_bytes(data, "big") >> (32 - start % 8 - width)
    assert value & (1 << width) - 1 == kernel.constants["TCPS_TIME_WAIT"] == 10


@pytest.mark.parametrize(
    ("section", "prefix", "names"), [("set_vnet", "vnet_entry_", VNET), ("set_pcpu", "pcpu_entry_", DPCPU)]
)
def test_virtualised_variables_are_in_their_sets(kernel: Kernel, section: str, prefix: str, names: list[str]) -> None:
    place = kernel.elf.get_section_by_name(section)
    start, stop = kernel.address(f"__start_{section}"), kernel.address(f"__stop_{section}")
    assert (start, stop) == (place["sh_addr"], place["sh_addr"] + place["sh_size"])
    assert [name for name in names if prefix + name not in kernel.symbols] == []
    assert [name for name in names if name in kernel.symbols and prefix == "vnet_entry_"] == []
    for name, symbols in kernel.symbols.items():
        if name.startswith(prefix):
            assert start <= symbols[0]["st_value"] <= symbols[0]["st_value"] + symbols[0]["st_size"] <= stop, name


def test_virtualised_variables_have_initial_values(kernel: Kernel) -> None:
    pointer = kernel.elf.elfclass // 8
    assert kernel.integer(kernel.address("vnet_entry_default_cc_ptr"), pointer) == kernel.address("cubic_cc_algo")
    assert kernel.integer(kernel.address("vnet_entry__rt_numfibs"), 4) == 1
    assert kernel.integer(kernel.address("vnet_entry_tcp_recvspace"), 4) == 65536


def test_system_calls_point_to_their_handlers(kernel: Kernel) -> None:
    pointer = kernel.elf.elfclass // 8
    shape = kernel.structures("types")["sysent"]
    count = kernel.constants["SYS_MAXSYSCALL"]
    assert kernel.symbols["sysent"][0]["st_size"] == count * shape.size
    owners = {
        symbol[0]["st_value"]: name
        for name, symbol in kernel.symbols.items()
        if symbol[0]["st_info"]["type"] == "STT_FUNC"
    }
    handlers = {}
    for number in range(count):
        address = kernel.integer(
            kernel.address("sysent") + number * shape.size + shape.members["sy_call"].offset, pointer
        )
        name_at = kernel.integer(kernel.address("syscallnames") + number * pointer, pointer)
        name = kernel.read(name_at, 32).partition(b"\0")[0].decode()
        handlers[name] = owners[address]
        assert name == "#" or owners[address] in (f"sys_{name}", name), (number, name)
    assert handlers["read"] == "sys_read"
    assert handlers["freebsd11_stat"] == "freebsd11_stat"
    assert handlers["#"] == "nosys"
    assert len(handlers) > 400


@pytest.mark.parametrize("unit", PRIVATE_TYPES)
@pytest.mark.parametrize("release", RELEASES)
def test_has_the_types_that_headers_lack(release: str, unit: str) -> None:
    structures = require(release, "amd64").structures(unit)
    assert [name for name in PRIVATE_TYPES[unit] if name not in structures] == []


def test_both_elf_files_have_one_name_and_two_shapes() -> None:
    kernel = require("15", "amd64")
    dynamic, relocatable = kernel.structures("link_elf")["elf_file"], kernel.structures("link_elf_obj")["elf_file"]
    assert "progtab" in relocatable.members
    assert "progtab" not in dynamic.members
    assert {"vnet_start", "vnet_stop", "vnet_base"} <= set(dynamic.members)


def test_every_unit_is_in_the_debug_information(kernel: Kernel) -> None:
    assert {*UNITS, "functions"} == set(kernel.units)
    assert {unit.header.version for unit in kernel.units.values()} == {4}


@pytest.mark.parametrize("arch", ["amd64", "i386"])
def test_gdb_prints_the_same(arch: str) -> None:
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("gdb is not installed")
    kernel = require("15", arch)
    expected = {}
    for (tag, member), (offset, size) in kernel.facts.items():
        if member:
            expected[f"(unsigned long)&((struct {tag} *)0)->{member}"] = offset
        else:
            expected[f"sizeof(struct {tag})"] = size
    commands = [argument for expression in expected for argument in ("-ex", f"print/d {expression}")]
    done = subprocess.run(
        [gdb, "-nx", "-batch", *commands, kernel.path], capture_output=True, text=True, timeout=120, check=True
    )
    printed = [int(value) for value in re.findall(r"^\$\d+ = (\d+)$", done.stdout, re.MULTILINE)]
    assert dict(zip(expected, printed, strict=True)) == expected


def test_module_has_sets_and_symbols_of_its_own(kernel: Kernel) -> None:
    with build_module(kernel.release, kernel.arch).open("rb") as stream:
        module = ELFFile(stream)
        assert module["e_type"] == ("ET_REL" if kernel.arch == "amd64" else "ET_DYN")
        assert module["e_machine"] == kernel.elf["e_machine"]
        for name in ("set_vnet", "set_pcpu", "set_sysctl_set", "set_modmetadata_set", "set_sysinit_set", ".debug_info"):
            assert module.get_section_by_name(name) is not None, name
        table = module.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        order = "little" if module.little_endian else "big"
        for symbol, section, value in (
            ("vnet_entry_mini_connections", "set_vnet", 7),
            ("vnet_entry_mini_private", "set_vnet", 0x0123456789ABCDEF),
            ("pcpu_entry_mini_hits", "set_pcpu", 11),
            ("pcpu_entry_mini_cycles", "set_pcpu", 0xFEDCBA9876543210),
        ):
            (found,) = table.get_symbol_by_name(symbol)
            place = module.get_section(found["st_shndx"])
            assert place.name == section
            at = found["st_value"] - place["sh_addr"]
            assert (
                int.from_bytes(place.data()[at : at + found["st_size"]], "little" if order == "little" else "big")
                == value
            )
        for function in ("mini_ioctl", "mini_modevent"):
            assert table.get_symbol_by_name(function)[0]["st_info"]["type"] == "STT_FUNC"


def test_a_second_build_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = require("15", "amd64")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    again = _product.__wrapped__("15", "amd64", 4)
    assert tmp_path in again.parents
    assert sorted(path.name for path in again.iterdir()) == ["kernel", "mini.ko"]
    assert again.name == kernel.path.parent.name
    assert (again / "kernel").read_bytes() == kernel.path.read_bytes()
    assert (again / "mini.ko").read_bytes() == build_module("15", "amd64").read_bytes()


def test_without_a_toolchain_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ToolchainUnavailable, match=r"ziglang 0\.0\.1 is not installed and pip cannot fetch it: .+"):
        _find("0.0.1")
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
