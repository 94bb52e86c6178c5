"""The kernel as a whole, read back from the minidump: CPUs, clocks, messages, system calls, modules, sysctl."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.scenario.system import SYSTEM
from tests.scenario_checks.kernel_reader import KernelReader, minidump, names_by_address, scenario


@pytest.fixture(scope="module")
def reader(kernel: str) -> KernelReader:
    return minidump(kernel)


def nanoseconds(reader: KernelReader, bintime: int) -> int:
    seconds = reader.field(bintime, "bintime", "sec")
    return seconds * 1_000_000_000 + round(reader.field(bintime, "bintime", "frac") * 1_000_000_000 / 2**64)


# Identity, CPUs, clocks


def test_identity(reader: KernelReader) -> None:
    version = reader.string(reader.symbol("version"))
    release = reader.string(reader.symbol("osrelease"))
    assert version.startswith(f"FreeBSD {release} ")
    assert reader.string(reader.symbol("ostype")) == "FreeBSD"
    assert str(reader.variable("osreldate"))[:2] == release[:2]
    assert reader.string(reader.symbol("kernelname")) == "/boot/kernel/kernel"
    assert reader.variable("physmem") == SYSTEM.memory_pages
    assert reader.variable("hz") == 1000


def test_every_cpu_is_in_the_table_and_in_the_list(reader: KernelReader) -> None:
    table = reader.symbol("cpuid_to_pcpu")
    cpus = [reader.pointer(table + cpu.cpuid * reader.word) for cpu in SYSTEM.cpus]
    assert [reader.field(pcpu, "pcpu", "pc_cpuid") for pcpu in cpus] == [cpu.cpuid for cpu in SYSTEM.cpus]
    assert list(reader.slist(reader.symbol("cpuhead"), "pcpu", "pc_allcpu")) == cpus
    assert reader.pointer(reader.symbol("cpuhead") + reader.word) == reader.at(cpus[-1], "pcpu", "pc_allcpu")
    assert reader.variable("mp_ncpus") == reader.variable("mp_maxid") + 1 == len(cpus)
    assert reader.unsigned(reader.symbol("all_cpus"), reader.word) == 0b1111
    for cpu, pcpu in zip(SYSTEM.cpus, cpus, strict=True):
        offset = reader.pointer(reader.symbol("dpcpu_off") + cpu.cpuid * reader.word)
        assert reader.field(pcpu, "pcpu", "pc_dynamic") == offset
        for member, tid in (("pc_curthread", cpu.running), ("pc_idlethread", cpu.idle)):
            assert reader.field(reader.field(pcpu, "pcpu", member), "thread", "td_tid") == tid


def test_clocks(reader: KernelReader) -> None:
    boot, uptime = (seconds * 1_000_000_000 + rest for seconds, rest in (SYSTEM.boot_time, SYSTEM.uptime))
    hands = first = reader.variable("timehands")
    assert nanoseconds(reader, reader.at(hands, "timehands", "th_boottime")) == boot
    assert nanoseconds(reader, reader.at(hands, "timehands", "th_offset")) == uptime
    assert nanoseconds(reader, reader.at(hands, "timehands", "th_bintime")) == boot + uptime
    generations = []
    while hands != first or not generations:
        generations.append(reader.field(hands, "timehands", "th_generation"))
        hands = reader.field(hands, "timehands", "th_next")
    assert max(generations) == generations[0]
    assert 1 < len(generations) <= 16
    assert reader.variable("time_uptime") == uptime // 1_000_000_000
    assert reader.variable("time_second") == (boot + uptime) // 1_000_000_000


def test_ticks_have_wrapped_as_on_a_real_machine(reader: KernelReader) -> None:
    expected = 2**31 - 1 - 600_000 + SYSTEM.uptime[0] * 1000 + SYSTEM.uptime[1] // 1_000_000
    assert reader.unsigned(reader.symbol("ticks"), 4) == expected % 2**32


def test_panic(reader: KernelReader) -> None:
    assert reader.string(reader.variable("panicstr")) == SYSTEM.panic
    assert reader.variable("dumptid") == SYSTEM.dump_tid


def test_message_buffer_holds_the_end_of_the_text(reader: KernelReader) -> None:
    buffer = SYSTEM.message_buffer
    head = reader.variable("msgbufp")
    fields = {name: reader.field(head, "msgbuf", f"msg_{name}") for name in ("ptr", "magic", "size", "wseq", "cksum")}
    assert fields["magic"] == 0x063062
    assert fields["size"] == buffer.size
    assert reader.field(head, "msgbuf", "msg_seqmod") == 16 * buffer.size
    assert fields["ptr"] + fields["size"] == head
    ring = reader.read(fields["ptr"], buffer.size)
    assert sum(ring) == fields["cksum"]
    start = fields["wseq"] % buffer.size
    assert len(buffer.text) > buffer.size, "the ring has wrapped"
    assert (ring[start:] + ring[:start]).decode() == buffer.text[-buffer.size :]
    assert reader.dump.message_buffer[: buffer.size] == ring


# System calls


def test_system_calls_lead_to_functions_of_their_name(reader: KernelReader, kernel: str) -> None:
    names = names_by_address(kernel)
    size = reader.sizeof("sysent")
    found = 0
    for number in range(560):
        entry = reader.symbol("sysent") + number * size
        handler = names[reader.field(entry, "sysent", "sy_call")]
        name = reader.string(reader.pointer(reader.symbol("syscallnames") + number * reader.word))
        if name.startswith("#"):
            assert "nosys" in handler
        else:
            assert handler & {name, f"sys_{name}", "nosys"}, name
            found += "nosys" not in handler
    assert found > 300
    entry = reader.symbol("sysent") + 202 * size
    assert "sys___sysctl" in names[reader.field(entry, "sysent", "sy_call")]
    assert reader.field(entry, "sysent", "sy_narg") == 6


def test_abis(reader: KernelReader) -> None:
    vectors = [name for name in reader.image.symbols if "_sysvec" in name]
    names = {reader.string_field(reader.symbol(name), "sysentvec", "sv_name") for name in vectors}
    assert "null" in names
    assert names & {"FreeBSD ELF64", "FreeBSD ELF64 V2", "FreeBSD ELF32"}
    for name in set(vectors) - {"null_sysvec"}:
        table = reader.field(reader.symbol(name), "sysentvec", "sv_table")
        assert table in (reader.symbol("sysent"), reader.image.symbols.get("freebsd32_sysent"))


# Modules


def linker_files(reader: KernelReader) -> dict[int, int]:
    files = list(reader.tailq(reader.symbol("linker_files"), "linker_file", "link"))
    return {reader.field(file, "linker_file", "id"): file for file in files}


def test_linker_files(reader: KernelReader) -> None:
    files = linker_files(reader)
    assert list(files) == [item.id for item in SYSTEM.linker_files]
    assert reader.variable("linker_kernel_file") == files[1]
    for item in SYSTEM.linker_files:
        file = files[item.id]
        assert reader.string_field(file, "linker_file", "filename") == item.name
        assert reader.string_field(file, "linker_file", "pathname") == item.path
        assert reader.field(file, "linker_file", "refs") == item.references
        count = reader.field(file, "linker_file", "ndeps")
        deps = reader.field(file, "linker_file", "deps")
        assert tuple(reader.pointer(deps + index * reader.word) for index in range(count)) == tuple(
            files[key] for key in item.dependencies
        )
        if item.id != 1:
            assert reader.field(file, "linker_file", "size") == item.size
    kernel = reader.field(files[1], "linker_file", "address"), reader.field(files[1], "linker_file", "size")
    assert kernel[0] <= reader.symbol("version") < kernel[0] + kernel[1]


def test_modules_by_three_ways(reader: KernelReader) -> None:
    files = linker_files(reader)
    expected = [(item.id, number, name) for item in SYSTEM.linker_files for number, name in item.modules]
    modules = list(reader.tailq(reader.symbol("modules"), "module", "link"))
    ids = {file: key for key, file in files.items()}
    assert [
        (
            ids[reader.field(module, "module", "file")],
            reader.field(module, "module", "id"),
            reader.string_field(module, "module", "name"),
        )
        for module in modules
    ] == expected
    by_file = [
        module
        for file in files.values()
        for module in reader.tailq(reader.at(file, "linker_file", "modules"), "module", "flink")
    ]
    assert by_file == modules
    known = list(reader.tailq(reader.symbol("found_modules"), "modlist", "link"))
    assert [
        (ids[reader.field(item, "modlist", "container")], reader.string_field(item, "modlist", "name"))
        for item in known
    ] == [(key, name) for key, _, name in expected]


def file_type(reader: KernelReader, file: int) -> str:
    """The private structure around a linker file, by the name of its class."""
    ops = reader.field(file, "linker_file", "ops")
    cls = reader.field(ops, "kobj_ops", "cls")
    name = reader.string_field(cls, "linker_class", "name")
    assert name.startswith(f"elf{8 * reader.word}")
    member = "progtab" if name.endswith("_obj") else "dynamic"
    names = ("elf_file", "elf_file__link_elf_obj", "elf_file__link_elf")
    return next(item for item in names if reader.has(item, member))


def symbols(reader: KernelReader, file: int) -> Iterator[tuple[str, int, int]]:
    """Name, value and size of all symbols in memory."""
    kind = file_type(reader, file)
    table, count = (reader.field(file, kind, name) for name in ("ddbsymtab", "ddbsymcnt"))
    strings, length = (reader.field(file, kind, name) for name in ("ddbstrtab", "ddbstrcnt"))
    names = reader.read(strings, length)
    order = ">" if reader.order == "big" else "<"
    layout = struct.Struct(order + ("IBBHQQ" if reader.word == 8 else "IIIBBH"))
    for entry in layout.iter_unpack(reader.read(table, count * layout.size)):
        value, size = (entry[4], entry[5]) if reader.word == 8 else (entry[1], entry[2])
        yield names[entry[0] : names.index(b"\0", entry[0])].decode(), value, size


def test_the_kernels_symbols_are_in_memory(kernel: str, reader: KernelReader) -> None:
    found = {name: value for name, value, _ in symbols(reader, linker_files(reader)[1])}
    # As the file has them, wherever the kernel runs.
    linked = scenario(kernel).memory.image.symbols
    assert {name: found.get(name) for name in linked} == linked


def test_preload_metadata_leads_to_the_same_symbols(reader: KernelReader) -> None:
    place, records = reader.variable("preload_metadata"), {}
    while kind := reader.unsigned(place, 4):
        length = reader.unsigned(place + 4, 4)
        records[kind] = reader.read(place + 8, length)
        place += 8 + -(-length // reader.word) * reader.word
    assert records[1] == b"/boot/kernel/kernel\0"
    start, end = (int.from_bytes(records[kind], reader.order) for kind in (0x8003, 0x8004))
    file = linker_files(reader)[1]
    kind = file_type(reader, file)
    assert reader.field(file, kind, "ddbsymtab") == start + reader.word
    size = -(-reader.pointer(start) // reader.word) * reader.word
    strings = start + reader.word + size
    assert reader.field(file, kind, "ddbstrtab") == strings + reader.word
    assert strings + reader.word + reader.pointer(strings) == end


def test_modules_symbols(reader: KernelReader) -> None:
    files = linker_files(reader)
    for item in SYSTEM.linker_files:
        if item.id == 1:
            continue
        file = files[item.id]
        kind = file_type(reader, file)
        base = reader.field(file, "linker_file", "address")
        start = 0 if reader.has(kind, "progtab") else base
        found = {name: (value + start, size) for name, value, size in symbols(reader, file)}
        for symbol in item.symbols:
            assert found[symbol.name] == (base + symbol.offset, symbol.size)
            text = symbol.name.encode()[: symbol.size]
            assert reader.read(base + symbol.offset, len(text)) == text


def test_sections_of_relocatable_modules(reader: KernelReader) -> None:
    for key, file in linker_files(reader).items():
        kind = file_type(reader, file)
        if not reader.has(kind, "progtab"):
            continue
        assert key != 1, "the kernel is no relocatable object"
        table, count = (reader.field(file, kind, name) for name in ("progtab", "nprogtab"))
        element = reader.types.member(kind, "progtab").type["subtype"]["name"]
        size = reader.types.size({"kind": "struct", "name": element})
        names = [reader.string_field(table + index * size, element, "name") for index in range(count)]
        assert names[:2] == [".text", ".data"]
        item = next(item for item in SYSTEM.linker_files if item.id == key)
        assert ("set_vnet" in names) == bool(item.vnet_variables)


def module_variable(reader: KernelReader, file: int, prefix: str, name: str) -> int:
    """Where the template of a module's VNET or DPCPU variable is, in the kernel's own set."""
    kind = file_type(reader, file)
    value = next(value for symbol, value, _ in symbols(reader, file) if symbol == f"{prefix}_entry_{name}")
    if reader.has(kind, "progtab"):
        return value
    start, stop, base = (reader.field(file, kind, f"{prefix}_{end}") for end in ("start", "stop", "base"))
    value += reader.field(file, "linker_file", "address")
    assert start <= value < stop
    sets = list(reader.tailq(reader.symbol(f"set_{prefix}_list"), "elf_set", "es_link"))
    assert start in [reader.field(item, "elf_set", "es_start") for item in sets]
    return value - start + base


def test_variables_of_modules_in_vnets_and_on_cpus(reader: KernelReader) -> None:
    modulus = 1 << 8 * reader.word
    vnets = list(reader.list(reader.symbol("vnet_head"), "vnet", "vnet_le"))
    assert reader.variable("vnet0") in vnets
    assert len(vnets) == 1 + sum(jail.vnet for jail in SYSTEM.jails)
    for item in SYSTEM.linker_files:
        file = linker_files(reader)[item.id]
        for name, expected in item.vnet_variables.items():
            place = module_variable(reader, file, "vnet", name)
            for vnet in vnets:
                base = reader.field(vnet, "vnet", "vnet_data_base")
                assert reader.unsigned((place + base) % modulus, 4) == expected
        for name, expected in item.dpcpu_variables.items():
            if not reader.has_symbol("pcpu_entry_modspace"):
                pytest.skip("this kernel has no room for modules' DPCPU variables (modspace)")
            place = module_variable(reader, file, "pcpu", name)
            for cpu in SYSTEM.cpus:
                base = reader.pointer(reader.symbol("dpcpu_off") + cpu.cpuid * reader.word)
                assert reader.unsigned((place + base) % modulus, 4) == expected


# sysctl and kenv


def rank(reader: KernelReader, oid: int, parent: int) -> int:
    """The rank of a subtree; both ways down must agree on it, and the parent pointer must be right."""
    if not oid:
        return 0
    links = reader.at(oid, "sysctl_oid", "oid_link")
    up, left, right = (reader.pointer(links + index * reader.word) for index in range(3))
    assert up & ~3 == parent
    ranks = [rank(reader, child, oid) + (2 if up & bit else 1) for child, bit in ((left, 1), (right, 2))]
    assert ranks[0] == ranks[1]
    return ranks[0]


def children(reader: KernelReader, head: int) -> Iterator[int]:
    """The oids of a list, in order of their numbers."""
    if not reader.has("sysctl_oid_list", "rbh_root"):
        yield from reader.slist(head, "sysctl_oid", "oid_link")
        return
    rank(reader, reader.pointer(head), 0)
    waiting, oid = [], reader.pointer(head)
    while waiting or oid:
        while oid:
            waiting.append(oid)
            oid = reader.pointer(reader.at(oid, "sysctl_oid", "oid_link") + reader.word)
        oid = waiting.pop()
        yield oid
        oid = reader.pointer(reader.at(oid, "sysctl_oid", "oid_link") + 2 * reader.word)


def sysctl_tree(reader: KernelReader, head: int, path: str = "") -> Iterator[tuple[str, int]]:
    numbers = []
    for oid in children(reader, head):
        assert reader.field(oid, "sysctl_oid", "oid_parent") == head
        numbers.append(reader.signed_field(oid, "sysctl_oid", "oid_number"))
        name = path + reader.string_field(oid, "sysctl_oid", "oid_name")
        yield name, oid
        if reader.field(oid, "sysctl_oid", "oid_kind") & 0xF == 1:
            yield from sysctl_tree(reader, reader.at(oid, "sysctl_oid", "oid_children"), f"{name}.")
    assert numbers == sorted(set(numbers))


def sysctl_value(reader: KernelReader, oid: int) -> int | str | bytes | None:
    place = reader.field(oid, "sysctl_oid", "oid_arg1")
    kind = reader.field(oid, "sysctl_oid", "oid_kind")
    if not place:
        return None
    if kind & 0x20000:
        place = (place + reader.field(reader.variable("vnet0"), "vnet", "vnet_data_base")) % (1 << 8 * reader.word)
    if kind & 0xF == 3:
        return reader.string(place)
    if kind & 0xF == 5:
        return reader.read(place, reader.field(oid, "sysctl_oid", "oid_arg2"))
    sizes = {2: 4, 6: 4, 7: reader.word, 8: reader.word, 9: 8}
    return reader.unsigned(place, sizes[kind & 0xF])


def test_sysctl_tree(reader: KernelReader, kernel: str) -> None:
    found = dict(sysctl_tree(reader, reader.symbol("sysctl__children")))
    names = names_by_address(kernel)
    for item in SYSTEM.sysctls:
        oid = found[item.name]
        assert sysctl_value(reader, oid) == item.value
        if item.handler:
            assert item.handler in names.get(
                reader.field(oid, "sysctl_oid", "oid_handler"), ()
            ) or not reader.has_symbol(item.handler)
        if item.writable:
            assert reader.field(oid, "sysctl_oid", "oid_kind") & 0x40000000


def test_static_oids_are_in_the_tree(reader: KernelReader) -> None:
    if not reader.has_symbol("__start_set_sysctl_set"):
        pytest.skip("this kernel has no set of sysctls")
    found = {oid for _, oid in sysctl_tree(reader, reader.symbol("sysctl__children"))}
    start, stop = reader.symbol("__start_set_sysctl_set"), reader.symbol("__stop_set_sysctl_set")
    assert stop > start
    assert {reader.pointer(place) for place in range(start, stop, reader.word)} <= found


def test_kernel_environment(reader: KernelReader) -> None:
    table, strings = reader.variable("kenvp"), []
    while entry := reader.pointer(table + len(strings) * reader.word):
        strings.append(reader.string(entry))
    expected = [f"{name}={value}" for name, value in SYSTEM.kenv.items()]
    assert strings == expected
    assert reader.variable("dynamic_kenv") == 1
    block, place = reader.variable("kern_envp"), []
    while text := reader.string(block):
        place.append(text)
        block += len(text) + 1
    assert place == expected
