"""The machine and the kernel as a whole: CPUs, identity, clocks, panic, message buffer, system calls."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, assign, link_stailq

from . import syscalls, user_memory
from .model import Cpu, MessageBuffer
from .shapes import mtx_init, set_members, set_variable, text
from .world import World

MSG_MAGIC = 0x063062
"""sys/msgbuf.h."""
HZ = 1000
TICKS_AT_BOOT = 0x7FFFFFFF - 600 * HZ
"""`init_param1`: ticks wrap ten minutes after boot."""
PANIC_BUFFER = 256

SYSCALL_STATIC, SYSCALL_ABSENT = 1, 4
SV_ABI_FREEBSD, SV_ILP32, SV_LP64, SV_SHP, SV_TIMEKEEP = 9, 0x100, 0x200, 0x10000, 0x40000

TYPES = {
    "cpuhead": {"stqh_first": "struct pcpu *", "stqh_last": "struct pcpu **"},
}
VARIABLES = {
    "version": "char[256]",
    "osrelease": "char[32]",
    "ostype": "char[8]",
    "kern_ident": "char[16]",
    "compiler_version": "char[64]",
    "kernelname": "char[1024]",
    "physmem": "long",
    "realmem": "long",
    "Maxmem": "long",
    "tick": "int",
    "ticks": "int",
    "stathz": "int",
    "boothowto": "int",
    "maxproc": "int",
    "time_second": "long",
    "time_uptime": "long",
    "ths": "struct timehands[16]",
    "timehands": "struct timehands *",
    "panicstr": "char *",
    "dumping": "int",
    "dumptid": "int",
    "msgbufp": "struct msgbuf *",
    "msgbufsize": "int",
    "cpuid_to_pcpu": "struct pcpu *[256]",
    "__pcpu": "struct pcpu[4]",
    "cpuhead": "struct cpuhead",
    "dpcpu_off": "unsigned long[256]",
    "mp_ncpus": "int",
    "mp_maxid": "unsigned int",
    "mp_maxcpus": "int",
    "all_cpus": "struct _cpuset",
    "smp_cpus": "int",
    "smp_started": "int",
    "stopped_cpus": "struct _cpuset",
    "nprocs": "int",
    "sysent": f"struct sysent[{syscalls.MAXSYSCALL}]",
    "syscallnames": f"char *[{syscalls.MAXSYSCALL}]",
    "null_sysvec": "struct sysentvec",
}
VARIABLES_64 = {
    "elf64_freebsd_sysvec": "struct sysentvec",
    "ia32_freebsd_sysvec": "struct sysentvec",
    "freebsd32_sysent": f"struct sysent[{syscalls.MAXSYSCALL}]",
}
VARIABLES_32 = {"elf32_freebsd_sysvec": "struct sysentvec"}
FUNCTIONS = [
    "nosys",
    *(syscalls.handler(name) for name, _ in syscalls.SYSCALLS.values() if syscalls.handler(name) != "nosys"),
    "sendsig",
    "exec_setregs",
    "exec_copyout_strings",
    "elf64_freebsd_fixup",
    "elf64_coredump",
    "cpu_fetch_syscall_args",
    "cpu_set_syscall_retval",
    "null_fetch_syscall_args",
    "null_set_syscall_retval",
]
NATIVE_VECTORS = (
    *("elf64_freebsd_sysvec", "elf64_freebsd_sysvec_la48", "elf64_freebsd_sysvec_v2"),
    "elf32_freebsd_sysvec",
)


def create(world: World) -> None:
    """Make the CPUs first: the DPCPU copies of other topics' variables depend on them."""
    for cpu in world.system.cpus:
        world.add_cpu(cpu.cpuid)
    _create_pcpus(world)
    _identify(world)
    _set_clocks(world)
    _panic(world)
    _create_message_buffer(world, world.system.message_buffer)
    _create_system_calls(world)
    _create_abis(world)


def connect(world: World) -> None:
    """Threads on their CPUs; the count of processes."""
    for cpu in world.system.cpus:
        _run_threads(world, cpu, world.get("cpu", cpu.cpuid))
    set_variable(world, "nprocs", sum(process.state != "zombie" for process in world.system.processes))


# CPUs


def _create_pcpus(world: World) -> None:
    """`pcpu_init` of kern/subr_pcpu.c: an entry of `__pcpu` (a pointer on amd64 and arm64 since 13) for each CPU."""
    cpus = world.system.cpus
    array = world.symbol("__pcpu") if world.has_symbol("__pcpu") else 0
    if not array or array._type["kind"] == "pointer":
        array = world.memory.array("struct pcpu", [{}] * len(cpus))
        set_variable(world, "__pcpu", array)
    table = world.symbol("cpuid_to_pcpu")
    for cpu in cpus:
        pcpu = world.put("cpu", cpu.cpuid, array[cpu.cpuid])
        table[cpu.cpuid] = pcpu
        _fill_pcpu(world, cpu, pcpu)
    link_stailq(world.symbol("cpuhead"), world.all("cpu").values(), "pc_allcpu")
    mask = (1 << len(cpus)) - 1
    set_variable(world, "mp_ncpus", len(cpus))
    set_variable(world, "smp_cpus", len(cpus))
    set_variable(world, "mp_ncores", len(cpus))
    set_variable(world, "mp_maxid", len(cpus) - 1)
    set_variable(world, "mp_maxcpus", table._type["count"])
    set_variable(world, "smp_started", 1)
    set_variable(world, "all_cpus", {"__bits": [mask]})
    # The panicking CPU has stopped the others.
    set_variable(world, "stopped_cpus", {"__bits": [mask & ~1]})


def _fill_pcpu(world: World, cpu: Cpu, pcpu: Object) -> None:
    set_members(
        world,
        pcpu,
        pc_cpuid=cpu.cpuid,
        pc_dynamic=world.symbol("dpcpu_off")[cpu.cpuid],
        pc_prvspace=pcpu,
        pc_apic_id=2 * cpu.cpuid,
        pc_acpi_id=cpu.cpuid,
        pc_vcpu_id=cpu.cpuid,
        pc_switchticks=ticks(world) % (1 << 31),
        pc_cp_time=[1000 + cpu.cpuid, 0, 500 + cpu.cpuid, 20, 100_000],
    )


def _run_threads(world: World, cpu: Cpu, pcpu: Object) -> None:
    """What the scheduler and the context switch keep up to date."""
    current = world.find("thread", cpu.running)
    pcpu.pc_curthread = current
    pcpu.pc_idlethread = world.find("thread", cpu.idle)
    if current:
        pcpu.pc_curpcb = current.td_pcb
    # cpu_switch loads what the process has; kernel threads run on whatever was there.
    process = next((item for item in world.system.processes if cpu.running in [t.tid for t in item.threads]), None)
    vmspace = world.find("vmspace", process.pid) if process else 0
    if vmspace and world.has("pcpu", "pc_curpmap"):
        pcpu.pc_curpmap = addressof(vmspace, "vm_pmap")


# Identity


def release_name(world: World) -> str:
    """What `uname -r` prints: of a compiled kernel what it says, else by its layouts."""
    compiled = bytes(world.memory.read(addressof(world.symbol("osrelease")), 32)).rstrip(b"\0")
    return compiled.decode() or {"12.1": "12.1-RELEASE"}.get(world.release, f"{world.release}-CURRENT")


def banner(world: World) -> str:
    """The text of `version` of a kernel that was not compiled."""
    release = release_name(world)
    built = "Thu Jan  1 00:00:00 UTC 1970\n    root@mini:/usr/obj/usr/src/sys"
    return f"FreeBSD {release} #0: {built}/{world.system.ident}\n"


def _identify(world: World) -> None:
    """What newvers.sh and the loader leave; a compiled kernel brings its own strings."""
    strings = {
        "osrelease": release_name(world),
        "version": banner(world),
        "ostype": "FreeBSD",
        "kern_ident": world.system.ident,
        "compiler_version": "FreeBSD clang version 8.0.1",
        "kernelname": world.system.linker_files[0].path,
    }
    for name, string in strings.items():
        if world.has_symbol(name) and not any(_bytes(world.symbol(name))):
            assign(world.symbol(name), string)
    dates = {"12.1": 1201000, "13.0": 1300010}
    if world.release in dates:
        set_variable(world, "osreldate", dates[world.release])
    _, end = world.memory.machine.ram
    for name, pages in (
        ("physmem", world.system.memory_pages),
        ("realmem", world.system.memory_pages),
        ("Maxmem", end // world.memory.machine.page_size),
    ):
        set_variable(world, name, pages)
    set_variable(world, "maxproc", _sysctl(world, "kern.maxproc"))


def _sysctl(world: World, name: str) -> int:
    return int(next(item.value for item in world.system.sysctls if item.name == name) or 0)


def _bytes(obj: Object) -> bytes:
    return obj._memory.read(int(obj), obj._memory.types.size(obj._type))


# Clocks


def ticks(world: World) -> int:
    """`ticks` at the panic, before it is cut to an int."""
    seconds, nanoseconds = world.system.uptime
    return TICKS_AT_BOOT + seconds * HZ + nanoseconds * HZ // 1_000_000_000


def bintime(seconds: int, nanoseconds: int) -> dict[str, int]:
    """A value for a `struct bintime`."""
    return {"sec": seconds, "frac": (nanoseconds << 64) // 1_000_000_000}


def _set_clocks(world: World) -> None:
    set_variable(world, "hz", HZ)
    set_variable(world, "tick", 1_000_000 // HZ)
    set_variable(world, "stathz", 127)
    low = ticks(world) & 0xFFFFFFFF
    set_variable(world, "ticks", low)
    if world.has_symbol("ticksl"):  # 15.0: the low half of it is ticks
        set_variable(world, "ticksl", ticks(world) if world.memory.types.pointer_size == 8 else low)
    boot, uptime = world.system.boot_time, world.system.uptime
    now = _sum(boot, uptime)
    set_variable(world, "time_second", now[0])
    set_variable(world, "time_uptime", uptime[0])
    set_variable(world, "boottime", {"tv_sec": boot[0], "tv_usec": boot[1] // 1000})  # until 11
    set_variable(world, "boottimebin", bintime(*boot))
    if world.has_symbol("timehands"):
        _create_timehands(world)


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    seconds, nanoseconds = one[0] + other[0], one[1] + other[1]
    return seconds + nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000


def _create_timehands(world: World) -> None:
    """The ring of kern/kern_tc.c: the current hands are those of the last windup, the others are older."""
    ring = world.symbol("ths")
    count = ring._type["count"]
    hands = [ring[index] for index in range(count)]
    for index, hand in enumerate(hands):
        if not hand.th_next:
            hand.th_next = hands[(index + 1) % count]
    # A compiled kernel may use only some of its array: what its links lead to.
    used = [hands[0]]
    while hands[0] != (after := world.memory.cast("struct timehands", used[-1].th_next)):
        used.append(after)
    for age, hand in enumerate(reversed(used)):
        _wind(world, hand, age * 1_000_000_000 // HZ, 1_200_500 - age)
    set_variable(world, "timehands", used[-1])


def _wind(world: World, hand: Object, age: int, generation: int) -> None:
    """`tc_windup` as of `age` nanoseconds ago."""
    system = world.system
    moment = system.uptime[0] * 1_000_000_000 + system.uptime[1] - age
    offset = divmod(moment, 1_000_000_000)
    clock = _sum(system.boot_time, offset)
    hand.th_scale = (1 << 64) // 1_000_000_000 & ~1
    hand.th_offset = bintime(*offset)
    hand.th_bintime = bintime(*clock)
    hand.th_microtime = {"tv_sec": clock[0], "tv_usec": clock[1] // 1000}
    hand.th_nanotime = {"tv_sec": clock[0], "tv_nsec": clock[1]}
    hand.th_boottime = bintime(*system.boot_time)
    hand.th_generation = generation


# The panic and the message buffer


def _panic(world: World) -> None:
    """`vpanic`: `panicstr` points to its static buffer."""
    message = world.system.panic.encode()
    buffer = world.memory.array("char", message.ljust(PANIC_BUFFER, b"\0"), where="kva")
    set_variable(world, "panicstr", world.put("panicstr", 0, buffer))
    set_variable(world, "panicked", 1)
    set_variable(world, "dumping", 1)
    set_variable(world, "dumptid", world.system.dump_tid)


def _create_message_buffer(world: World, buffer: MessageBuffer) -> None:
    """`msgbufinit` and `msgbuf_addstr` of kern/subr_msgbuf.c: the structure is at the end of the ring."""
    size = buffer.size
    area = world.memory.allocate(size + world.memory.types.sizeof("struct msgbuf"), "kva", align=4096)
    head = world.put("msgbuf", 0, world.memory.cast("struct msgbuf", area + size))
    characters = [byte for byte in buffer.text.encode() if byte not in b"\0\r"]
    ring = bytearray(size)
    for sequence, character in enumerate(characters):
        ring[sequence % size] = character
    modulus = 16 * size
    head.msg_ptr = area
    head.msg_magic = MSG_MAGIC
    head.msg_size = size
    head.msg_wseq = len(characters) % modulus
    head.msg_rseq = max(0, len(characters) - size // 2) % modulus  # syslogd was behind
    head.msg_cksum = sum(ring)
    head.msg_seqmod = modulus
    head.msg_lastpri = -1
    mtx_init(world, head.msg_lock, "msgbuf")
    world.memory.write(area, bytes(ring))
    world.memory.message_buffer = bytes(ring)
    set_variable(world, "msgbufp", head)
    set_variable(world, "msgbufsize", size + world.memory.types.sizeof("struct msgbuf"))


# System calls


def _create_system_calls(world: World) -> None:
    """Tables of kernels that were not compiled: init_sysent.c, syscalls.c and freebsd32_sysent.c."""
    if not world.has_symbol("sysent") or world.symbol("sysent")[1].sy_call:
        return
    for name in ("sysent", "freebsd32_sysent"):
        if world.has_symbol(name):
            _fill_table(world, world.symbol(name), narrow=name != "sysent" or world.memory.types.pointer_size == 4)
    names = world.symbol("syscallnames")
    for number in range(syscalls.MAXSYSCALL):
        names[number] = text(world, syscalls.SYSCALLS.get(number, (f"#{number}",))[0])


def _fill_table(world: World, table: Object, *, narrow: bool) -> None:
    for number in range(syscalls.MAXSYSCALL):
        entry = table[number]
        if number not in syscalls.SYSCALLS:
            entry.sy_call, entry.sy_thrcnt = world.function("nosys"), SYSCALL_ABSENT
            continue
        name, (arguments, wide) = syscalls.SYSCALLS[number]
        entry.sy_narg = arguments + wide * narrow
        entry.sy_call = world.function(syscalls.handler(name))
        entry.sy_thrcnt = SYSCALL_STATIC


def _create_abis(world: World) -> None:
    """The `sysentvec` of each ABI, entered by its name in `Process.abi`; native processes have the native one."""
    wide = world.memory.types.pointer_size == 8
    native = next(name for name in NATIVE_VECTORS if world.has_symbol(name))
    narrow = "ia32_freebsd_sysvec" if world.has_symbol("ia32_freebsd_sysvec") else native
    for abi, name in (("FreeBSD ELF64", native), ("FreeBSD ELF32", narrow), ("null", "null_sysvec")):
        vector = world.put("sysentvec", abi, world.symbol(name))
        if not vector.sv_name:
            _fill_abi(world, vector, abi if wide or abi == "null" else "FreeBSD ELF32")


def _fill_abi(world: World, vector: Object, name: str) -> None:
    """As in amd64/amd64/elf_machdep.c, compat/ia32/ia32_sysvec.c and kern/init_main.c."""
    vector.sv_name = text(world, name)
    if name == "null":
        vector.sv_flags = SV_TIMEKEEP
        vector.sv_fetch_syscall_args = world.function("null_fetch_syscall_args")
        vector.sv_set_syscall_retval = world.function("null_set_syscall_retval")
        return
    bits = 64 if name == "FreeBSD ELF64" else 32
    compatible = bits < world.memory.machine.word_bits
    table = world.symbol("freebsd32_sysent" if compatible else "sysent")
    stack = user_memory.address(user_memory.STACK, bits)
    set_members(
        world,
        vector,
        sv_size=table._type["count"],
        sv_table=table,
        sv_flags=SV_ABI_FREEBSD | SV_SHP | SV_TIMEKEEP | (SV_LP64 if bits == 64 else SV_ILP32),
        sv_pagesize=world.memory.machine.page_size,
        sv_minuser=world.memory.machine.page_size,
        sv_maxuser=stack,
        sv_usrstack=stack,
        sv_psstrings=stack - (32 if bits == 64 else 16),
        sv_stackprot=7,
        sv_syscallnames=world.symbol("syscallnames"),
    )
    functions = {
        "sv_fixup": "elf64_freebsd_fixup",
        "sv_sendsig": "sendsig",
        "sv_coredump": "elf64_coredump",
        "sv_copyout_strings": "exec_copyout_strings",
        "sv_setregs": "exec_setregs",
        "sv_fetch_syscall_args": "cpu_fetch_syscall_args",
        "sv_set_syscall_retval": "cpu_set_syscall_retval",
    }
    set_members(world, vector, **{member: world.function(name) for member, name in functions.items()})
