"""The kernel linker: loaded files, their modules and symbols (kern/kern_linker.c, kern_module.c, link_elf*.c)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.writers.objects import Object, addressof, link_tailq

from .elf_symbols import ElfSymbol, SymbolTable, kernel_tables, module_symbols
from .model import LinkerFile
from .pages import kernel_range
from .shapes import set_members, set_variable, sx_init, text
from .world import World

LINKED, MODULES = 1, 2
"""LINKER_FILE_*."""
SHF_WRITE, SHF_EXECINSTR = 1, 4
PRELOAD_NAME, PRELOAD_TYPE, PRELOAD_ADDR, PRELOAD_SIZE = 1, 2, 3, 4
METADATA_SSYM, METADATA_ESYM, METADATA_HOWTO, METADATA_KERNEND = 0x8003, 0x8004, 0x8007, 0x8008
DPCPU_SET, VNET_SET = ("pcpu", "set_pcpu"), ("vnet", "set_vnet")

TYPES = {
    "modlist": {
        "link": "struct unnamed_linker_file_link",
        "container": "struct linker_file *",
        "name": "char *",
        "version": "int",
    },
    "linker_file_list": {"tqh_first": "struct linker_file *", "tqh_last": "struct linker_file **"},
    "modulelist": {"tqh_first": "struct module *", "tqh_last": "struct module **"},
    "modlisthead": {"tqh_first": "struct modlist *", "tqh_last": "struct modlist **"},
    "linker_class_list": {"tqh_first": "struct linker_class *", "tqh_last": "struct linker_class **"},
    "elf_set_head": {"tqh_first": "struct elf_set *", "tqh_last": "struct elf_set **"},
    "kobj_ops": {"cache": "void *[256]", "cls": "struct kobj_class *"},
    "Elf_progent": {"addr": "void *", "size": "unsigned long", "flags": "int", "sec": "int", "name": "char *"},
    "elf_file__link_elf_obj": {
        "lf": "struct linker_file",
        "preloaded": "int",
        "address": "char *",
        "object": "struct vm_object *",
        "e_shdr": "void *",
        "progtab": "struct Elf_progent *",
        "nprogtab": "unsigned int",
        "relatab": "void *",
        "nrelatab": "unsigned int",
        "reltab": "void *",
        "nreltab": "int",
        "ddbsymtab": "void *",
        "ddbsymcnt": "long",
        "ddbstrtab": "char *",
        "ddbstrcnt": "long",
        "shstrtab": "char *",
        "shstrcnt": "long",
        "ctftab": "char *",
        "ctfcnt": "long",
        "ctfoff": "char *",
        "typoff": "char *",
        "typlen": "long",
    },
}
VARIABLES = {
    "linker_files": "struct linker_file_list",
    "linker_kernel_file": "struct linker_file *",
    "next_file_id": "int",
    "loadcnt": "int",
    "classes": "struct linker_class_list",
    "found_modules": "struct modlisthead",
    "modules": "struct modulelist",
    "nextid": "int",
    "kld_sx": "struct sx",
    "modules_sx": "struct sx",
    "link_elf_class": "struct linker_class",
    "set_pcpu_list": "struct elf_set_head",
    "set_vnet_list": "struct elf_set_head",
    "preload_metadata": "char *",
}
VNET_MODMIN, DPCPU_MODMIN = 8192, 2048
VNET = {"modspace": f"char[{VNET_MODMIN}]"}
PCPU = {"modspace": f"char[{DPCPU_MODMIN}]"}
FUNCTIONS = ["link_elf_lookup_symbol", "module_register_init"]


def create(world: World) -> None:
    """Make the files in the order of loading, and what the loader left."""
    classes = _create_classes(world)
    room = {name: 0 for name, _ in (DPCPU_SET, VNET_SET)}
    for item in world.system.linker_files:
        if item.id == 1:
            _create_kernel(world, item, classes[0])
        else:
            _ModuleFile(world, item, room).create(classes)
    files = world.all("linker_file")
    for item in world.system.linker_files:
        _create_modules(world, item, files)
    _link_lists(world)
    _create_preload_metadata(world)


def connect(world: World) -> None:
    """Copy the modules' VNET and DPCPU variables to where each vnet and CPU has them, as `vnet_data_copy` does."""
    modulus = 1 << 8 * world.memory.types.pointer_size
    vnets = [int(vnet.vnet_data_base) for vnet in world.all("vnet").values()]
    cpus = [int(world.symbol("dpcpu_off")[cpu.cpuid]) for cpu in world.system.cpus]
    for (_, kind), data in world.all("module_set").items():
        place, content = int(data), world.memory.read(int(data), data._type["count"])
        for base in vnets if kind == "vnet" else cpus:
            world.memory.write((place + base) % modulus, content)


# Classes (kobj): their name tells the two structures "elf_file" apart


def _create_classes(world: World) -> list[Object]:
    """`link_elf_class` of link_elf.c and its namesake of link_elf_obj.c; only amd64's modules need the latter."""
    bits = world.memory.machine.word_bits
    plain = _find_class(world, f"elf{bits}")
    classes = [plain]
    if world.arch == "amd64":
        classes.append(_find_class(world, f"elf{bits}_obj"))
    for item in classes:
        operations = world.new("struct kobj_ops", where="kva", cls=item)
        item.ops = operations
        item.refs = 1
    if world.has_symbol("classes"):
        link_tailq(world.symbol("classes"), classes, "link")
    return classes


def _find_class(world: World, name: str) -> Object:
    """The class that is compiled in under that name, or a new one. Both have the same symbol."""
    candidates = [value for symbol, value in kernel_tables(world).values if symbol == "link_elf_class"]
    for place in candidates:
        found = world.memory.cast("struct linker_class", place)
        if found.name and world.memory.read(found.name, len(name) + 1) == name.encode() + b"\0":
            return found
        if not found.name:
            break
    else:
        found = world.new("struct linker_class")
    found.name = text(world, name)
    found.size = world.memory.types.sizeof(f"struct {_file_type(world, objects=name.endswith('_obj'))}")
    return found


def _file_type(world: World, *, objects: bool) -> str:
    """The name of link_elf_obj.c's `struct elf_file`, or of link_elf.c's."""
    member = "progtab" if objects else "dynamic"
    names = ("elf_file", "elf_file__link_elf_obj", "elf_file__link_elf")
    return next(name for name in names if world.has(name, member))


# The kernel itself


def _create_kernel(world: World, item: LinkerFile, cls: Object) -> None:
    """`link_elf_init`; the symbols are a copy that the loader made of the file's."""
    memory = world.memory
    file = world.new(f"struct {_file_type(world, objects=False)}", where="kva")
    base = memory.machine.linked + memory.displacement
    tables = kernel_tables(world)
    symbols = _place_loader_tables(world, tables)
    file.preloaded = 1
    file.address = memory.displacement
    _set_debug_tables(file, tables, symbols)
    _fill_file(world, item, file.lf, cls, base, -(-memory.image.end // 4096) * 4096 - memory.machine.linked)
    set_variable(world, "linker_kernel_file", file.lf)


def _place_loader_tables(world: World, tables: SymbolTable) -> tuple[int, int]:
    """Addresses of symbols and strings; each has its size in front of it, as the loader leaves them (SSYM, ESYM)."""
    word = world.memory.types.pointer_size
    order = "big" if world.memory.types.byteorder == "big" else "little"
    symbols_size = -(-len(tables.symbols) // word) * word
    area = world.memory.allocate(2 * word + symbols_size + len(tables.strings), align=world.memory.machine.page_size)
    world.memory.write(area, len(tables.symbols).to_bytes(word, order) + tables.symbols)
    strings = area + word + symbols_size
    world.memory.write(strings, len(tables.strings).to_bytes(word, order) + tables.strings)
    reference = {"kind": "array", "count": strings + word + len(tables.strings) - area, "subtype": _char(world)}
    world.put("loader_symbols", 1, world.memory.cast(reference, area))
    return area + word, strings + word


def _char(world: World) -> dict[str, str]:
    reference: dict[str, str] = world.memory.types.parse("char")
    return reference


def _set_debug_tables(file: Object, tables: SymbolTable, places: tuple[int, int]) -> None:
    file.ddbsymtab, file.ddbstrtab = places
    file.ddbsymcnt = tables.count
    file.ddbstrcnt = len(tables.strings)


def _fill_file(world: World, item: LinkerFile, lf: Object, cls: Object, address: int, size: int) -> None:
    """`linker_make_file` and `linker_load_dependencies`."""
    world.put("linker_file", item.id, lf)
    order = [file.id for file in world.system.linker_files]
    lf.ops = cls.ops
    lf.refs = item.references
    lf.userrefs = 0 if item.id == 1 else 1
    lf.flags = LINKED | MODULES
    lf.filename = text(world, item.name)
    lf.pathname = text(world, item.path)
    lf.id = item.id
    lf.address = address
    lf.size = size
    lf.loadcnt = order.index(item.id) + 1
    lf.ndeps = len(item.dependencies)
    if item.dependencies:
        lf.deps = world.memory.array(
            "struct linker_file *", [world.get("linker_file", key) for key in item.dependencies]
        )
    link_tailq(lf.modules, (), "flink")
    lf.common.stqh_last = addressof(lf, "common.stqh_first")


# Modules' files


class _ModuleFile:
    """A module in memory: one mapping with text in its first half and data in the second, and its sets."""

    def __init__(self, world: World, item: LinkerFile, room: dict[str, int]) -> None:
        self.world = world
        self.item = item
        self.room = room
        self.objects = world.arch == "amd64"
        self.size = -(-item.size // 4096) * 4096
        self.base = kernel_range(world, self.size, execute=True)
        self.data = self.base + self.size // 2 // 4096 * 4096
        self.sets: dict[str, tuple[int, int, int]] = {}

    def create(self, classes: list[Object]) -> None:
        """Load it."""
        world, item = self.world, self.item
        file = world.new(f"struct {_file_type(world, objects=self.objects)}", where="kva")
        for symbol in item.symbols:
            self._write_symbol(symbol.name, symbol.offset, symbol.size)
        self._load_set(DPCPU_SET, item.dpcpu_variables)
        self._load_set(VNET_SET, item.vnet_variables)
        tables = module_symbols(world, self._symbols())
        places = world.memory.allocate(len(tables.symbols)), world.memory.allocate(len(tables.strings))
        for place, content in zip(places, (tables.symbols, tables.strings), strict=True):
            world.memory.write(place, content)
        file.address = self.base
        _set_debug_tables(file, tables, places)
        _fill_file(world, item, file.lf, classes[-1], self.base, self.size)
        if self.objects:
            self._fill_object(file)
        else:
            self._fill_dynamic(file, tables, places)

    def _write_symbol(self, name: str, offset: int, size: int) -> None:
        """Its name serves as what is there."""
        self.world.memory.write(self.base + offset, name.encode()[:size])

    def _load_set(self, kind: tuple[str, str], variables: dict[str, int]) -> None:
        """Give the variables room in the kernel's own set, its ``modspace``, with their initial values."""
        world, (short, section) = self.world, kind
        space = f"{short}_entry_modspace"
        if not variables or not world.has_symbol(space):
            return
        order = "big" if world.memory.types.byteorder == "big" else "little"
        content = b"".join(value.to_bytes(4, order) for value in variables.values())
        length = -(-len(content) // 16) * 16
        base = addressof(world.symbol(space)) + self.room[short]
        self.room[short] += length
        # link_elf.c keeps the section where it was loaded, too; link_elf_obj.c has it in modspace only.
        start = base if self.objects else self.base + self.size - 64 * (1 + len(self.sets))
        world.memory.write(start, content)
        world.memory.write(base, content)
        self.sets[section] = (start, start + len(content), base)
        reference = {"kind": "array", "count": len(content), "subtype": _char(world)}
        world.put("module_set", (self.item.id, short), world.memory.cast(reference, base))

    def _symbols(self) -> Iterator[ElfSymbol]:
        """Those of ET_REL files have been relocated; those of ET_DYN files count from the start of the file."""
        start = 0 if self.objects else self.base
        for symbol in self.item.symbols:
            address = self.base + symbol.offset
            section = 1 if address < self.data else 2
            yield ElfSymbol(symbol.name, address - start, symbol.size, symbol.kind == "function", section)
        groups = ((DPCPU_SET, self.item.dpcpu_variables), (VNET_SET, self.item.vnet_variables))
        for (short, section_name), variables in groups:
            if section_name in self.sets:
                first = self.sets[section_name][0] - start
                section = 3 + list(self.sets).index(section_name)
                for index, name in enumerate(variables):
                    yield ElfSymbol(f"{short}_entry_{name}", first + 4 * index, 4, False, section)

    def _fill_object(self, file: Object) -> None:
        """link_elf_obj.c: what `progtab` knows of each allocated section."""
        sections = [
            (self.base, self.data - self.base, SHF_EXECINSTR, ".text"),
            (self.data, self.base + self.size - self.data, SHF_WRITE, ".data"),
            *((start, stop - start, SHF_WRITE, name) for name, (start, stop, _) in self.sets.items()),
        ]
        entries = [
            {"addr": address, "size": size, "flags": flags, "sec": index + 1, "name": text(self.world, name)}
            for index, (address, size, flags, name) in enumerate(sections)
        ]
        element = self.world.memory.types.member(file._type["name"], "progtab").type["subtype"]
        values = [{key: int(value) for key, value in entry.items()} for entry in entries]
        array = self.world.memory.array(element, values)
        file.progtab = array
        file.nprogtab = len(entries)

    def _fill_dynamic(self, file: Object, tables: SymbolTable, places: tuple[int, int]) -> None:
        """link_elf.c: the dynamic symbols are all there are; the sets are entered in the kernel's lists."""
        file.symtab, file.strtab = places
        file.strsz = len(tables.strings)
        file.nchains = tables.count
        for short, section in (DPCPU_SET, VNET_SET):
            if section not in self.sets:
                continue
            start, stop, base = self.sets[section]
            file[f"{short}_start"], file[f"{short}_stop"], file[f"{short}_base"] = start, stop, base
            entry = self.world.new("struct elf_set", es_start=start, es_stop=stop, es_base=base)
            self.world.put("elf_set", (self.item.id, short), entry)


# Modules and lists


def _create_modules(world: World, item: LinkerFile, files: dict[int, Object]) -> None:
    """`module_register` and `modlist_newmodule`."""
    lf = files[item.id]
    made = []
    for number, name in item.modules:
        module = world.new("struct module", where="kva", file=lf, refs=1, id=number, name=text(world, name))
        # A module's own handler is in the module.
        own = lf.address + item.symbols[0].offset if item.symbols else 0
        module.handler = own or world.function(f"{name}_modevent")
        made.append(world.put("module", number, module))
        known = world.new("struct modlist", container=lf, name=text(world, name))
        world.put("modlist", name, set_members(world, known, version=1))
    link_tailq(lf.modules, made, "flink")


def _link_lists(world: World) -> None:
    files, modules = world.all("linker_file"), world.all("module")
    for name, items, link in (
        ("linker_files", files.values(), "link"),
        ("modules", modules.values(), "link"),
        ("found_modules", world.all("modlist").values(), "link"),
        ("set_pcpu_list", _sets(world, "pcpu"), "es_link"),
        ("set_vnet_list", _sets(world, "vnet"), "es_link"),
    ):
        if world.has_symbol(name):
            link_tailq(world.symbol(name), items, link)
    set_variable(world, "next_file_id", max(files) + 1)
    set_variable(world, "loadcnt", len(files) + 1)
    set_variable(world, "nextid", max(modules) + 1)
    for name in ("kld_sx", "modules_sx"):
        if world.has_symbol(name):
            sx_init(world, world.symbol(name), {"kld_sx": "kernel linker"}.get(name, "module subsystem sx lock"))


def _sets(world: World, kind: str) -> Iterable[Object]:
    """Ordered by the address at which they were loaded."""
    found = [item for (_, short), item in world.all("elf_set").items() if short == kind]
    return sorted(found, key=lambda item: int(item.es_start))


def _create_preload_metadata(world: World) -> None:
    """What loader(8) tells the kernel of itself; sys/linker.h: type, length, data padded to a word."""
    memory = world.memory
    word = memory.types.pointer_size
    order = "big" if memory.types.byteorder == "big" else "little"
    loaded = world.get("loader_symbols", 1)
    end = int(loaded) + loaded._type["count"]
    kernel = world.get("linker_file", 1)
    records: list[tuple[int, bytes | int]] = [
        (PRELOAD_NAME, world.system.linker_files[0].path.encode() + b"\0"),
        (PRELOAD_TYPE, b"elf kernel\0"),
        (PRELOAD_ADDR, kernel.address),
        (PRELOAD_SIZE, kernel.size),
        (METADATA_SSYM, int(loaded)),
        (METADATA_ESYM, end),
        (METADATA_HOWTO, (0).to_bytes(4, order)),
        (METADATA_KERNEND, -(-end // 4096) * 4096),
        (0, b""),
    ]
    content = b""
    for kind, value in records:
        data = value if isinstance(value, bytes) else value.to_bytes(word, order)
        content += (
            kind.to_bytes(4, order) + len(data).to_bytes(4, order) + data.ljust(-(-len(data) // word) * word, b"\0")
        )
    area = memory.allocate(len(content), align=memory.machine.page_size)
    memory.write(area, content)
    set_variable(world, "preload_metadata", area)
    set_variable(world, "preload_kmdp", area)
