"""The sysctl tree and the kernel environment (kern/kern_sysctl.c, kern_environment.c)."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, assign, content, link_slist

from .model import Sysctl
from .shapes import mtx_init, set_variable, text
from .trees import link_tree
from .world import World

NODE = 1
KINDS = {
    "int": (2, "I", "int", "sysctl_handle_int"),
    "string": (3, "A", "", "sysctl_handle_string"),
    "opaque": (5, "", "", "sysctl_handle_opaque"),
    "uint": (6, "IU", "unsigned int", "sysctl_handle_int"),
    "long": (7, "L", "long", "sysctl_handle_long"),
    "ulong": (8, "LU", "unsigned long", "sysctl_handle_long"),
    "u64": (9, "QU", "", "sysctl_handle_64"),
}
"""CTLTYPE, format, C type and handler of each kind of value."""
CTLFLAG_RD, CTLFLAG_WR, CTLFLAG_DYN = 0x80000000, 0x40000000, 0x02000000
CTLFLAG_MPSAFE, CTLFLAG_VNET = 0x00040000, 0x00020000
CTL_AUTO_START = 0x100
KENV_SIZE = 512

KERNEL_VARIABLES = {"kern.ostype": "ostype", "kern.maxproc": "maxproc", "hw.ncpu": "mp_ncpus"}
"""Values that are variables of the kernel's own."""
TOP_LEVEL = {
    name: number + 1 for number, name in enumerate(("kern", "vm", "vfs", "net", "debug", "hw", "machdep", "user"))
}
"""Numbers that sys/sysctl.h fixes: CTL_KERN and its like."""
FIXED = {
    "kern.ostype": 1,
    "kern.maxproc": 6,
    "kern.ipc": 30,
    "kern.hostuuid": 36,
    "hw.ncpu": 3,
    "net.inet": 2,
    "net.inet.ip": 0,
    "net.inet.ip.forwarding": 1,
}

VARIABLES = {
    "sysctl__children": "struct sysctl_oid_list",
    "kenvp": "char **",
    "dynamic_kenv": "int",
    "kern_envp": "char *",
    "md_envp": "char *",
    "kenv_lock": "struct mtx",
}
FUNCTIONS = [*dict.fromkeys(kind[3] for kind in KINDS.values()), "sysctl_hostuuid"]


class SysctlTree:
    """The tree while it grows: static oids first, in the order of registration, then those of the description."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = addressof(world.symbol("sysctl__children"))
        self.lists: dict[int, list[Object]] = {self.root: []}
        self._next = CTL_AUTO_START

    def register(self, oid: Object) -> None:
        """`sysctl_register_oid`: oids without a number of their own are numbered from CTL_AUTO_START on."""
        siblings = self.lists.setdefault(oid.oid_parent, [])
        if oid.oid_number < 0 or oid.oid_number in [other.oid_number for other in siblings]:
            oid.oid_number, self._next = self._next, self._next + 1
        siblings.append(oid)
        self.lists.setdefault(addressof(oid, "oid_children"), [])

    def register_static(self) -> None:
        """`sysctl_register_all`: what SYSCTL_* put into ``set_sysctl_set``."""
        memory = self.world.memory
        symbols = memory.image.symbols
        start, stop = (symbols.get(f"__{end}_set_sysctl_set", 0) for end in ("start", "stop"))
        for place in range(start, stop, memory.types.pointer_size):
            self.register(memory.cast("struct sysctl_oid", memory.read_pointer(place)))

    def children(self, parent: int) -> list[Object]:
        """Ordered by number, as `sysctl_register_oid` keeps them."""
        return sorted(self.lists[parent], key=lambda oid: int(oid.oid_number))

    def find(self, parent: int, name: str) -> Object | None:
        """The child of that name."""
        return next((oid for oid in self.lists[parent] if self.name_of(oid) == name), None)

    def name_of(self, oid: Object) -> str:
        """Its own name."""
        data = b""
        while not data.endswith(b"\0"):
            data += self.world.memory.read(oid.oid_name + len(data), 1)
        return data[:-1].decode()

    def node(self, path: str) -> int:
        """The list of children of the node at `path`; made if it is not there."""
        parent, name = self._place(path)
        oid = self.find(parent, name)
        if oid is None:
            oid = self.add(path, NODE | CTLFLAG_RD | CTLFLAG_WR, "N")
        return addressof(oid, "oid_children")

    def add(self, path: str, kind: int, fmt: str) -> Object:
        """A new oid; nodes above it are made as needed."""
        parent, name = self._place(path)
        oid = self.world.new(
            "struct sysctl_oid",
            where="kva",
            oid_parent=parent,
            oid_number=TOP_LEVEL.get(path, FIXED.get(path, -1)),
            oid_kind=kind | CTLFLAG_DYN | CTLFLAG_MPSAFE,
            oid_name=text(self.world, name),
            oid_fmt=text(self.world, fmt),
            oid_refcnt=1,
        )
        self.register(oid)
        return oid

    def _place(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition(".")
        return (self.node(above) if above else self.root), name

    def link(self) -> None:
        """Link every list: a red-black tree keyed by number since 14.0, until then an ordered SLIST."""
        memory = self.world.memory
        for parent, registered in self.lists.items():
            head = memory.cast("struct sysctl_oid_list", parent)
            if self.world.has("sysctl_oid_list", "rbh_root"):
                link_tree(head, registered, "oid_link", lambda oid: int(oid.oid_number))
            else:
                link_slist(head, self.children(parent), "oid_link")


def create(world: World) -> None:
    """Make the tree and the environment; values of VNET variables wait for `connect`."""
    tree = SysctlTree(world)
    tree.register_static()
    for item in world.system.sysctls:
        parent, _, name = item.name.rpartition(".")
        oid = tree.find(tree.node(parent), name)
        if oid is None:
            oid = _add_leaf(world, tree, item)
        world.put("sysctl_oid", item.name, oid)
    tree.link()
    _create_environment(world, world.system.kenv)


def connect(world: World) -> None:
    """Values that are in variables of other topics, and those of the host's vnet."""
    for item in world.system.sysctls:
        oid = world.get("sysctl_oid", item.name)
        if isinstance(item.value, int) and oid.oid_arg1:
            place = int(oid.oid_arg1)
            if oid.oid_kind & CTLFLAG_VNET:
                vnet = world.find("vnet", 0)
                if not vnet:
                    continue
                place = (place + vnet.vnet_data_base) % (1 << 8 * world.memory.types.pointer_size)
            assign(world.memory.cast(_c_type(world, item), place), item.value)


def _c_type(world: World, item: Sysctl) -> str:
    if item.kind == "u64":
        return "unsigned long" if world.memory.types.pointer_size == 8 else "unsigned long long"
    return KINDS[item.kind][2]


def _add_leaf(world: World, tree: SysctlTree, item: Sysctl) -> Object:
    number, fmt, _, handler = KINDS[item.kind]
    access = CTLFLAG_RD | (CTLFLAG_WR if item.writable else 0)
    oid = tree.add(item.name, number | access, fmt)
    oid.oid_handler = world.function(item.handler or handler)
    oid.oid_descr = text(world, item.description) if item.description else 0
    if item.value is not None:
        _set_value(world, oid, item)
    return oid


def _set_value(world: World, oid: Object, item: Sysctl) -> None:
    """Where the value is: `oid_arg1`; strings and opaque data have their length in `oid_arg2`."""
    variable = KERNEL_VARIABLES.get(item.name, "")
    if world.has_symbol(variable):
        oid.oid_arg1 = world.symbol(variable)
        if isinstance(item.value, str):
            oid.oid_arg2 = len(content(world.symbol(variable)))
    elif isinstance(item.value, int):
        oid.oid_arg1 = world.new(_c_type(world, item), where="kva")
    else:
        data = item.value if isinstance(item.value, bytes) else (item.value or "").encode() + b"\0"
        oid.oid_arg1 = world.memory.array("char", data, where="kva")
        oid.oid_arg2 = len(data)


# The kernel environment


def _create_environment(world: World, kenv: dict[str, str]) -> None:
    """`init_dynamic_kenv`: an array of strings; the loader's block, which it was made from, stays."""
    strings = [f"{name}={value}".encode() + b"\0" for name, value in kenv.items()]
    block = world.memory.array("char", b"".join(strings) + b"\0", where="kva")
    entries = [world.memory.array("char", string, where="kva") for string in strings]
    table = world.memory.array("char *", [*entries, *[0] * (KENV_SIZE + 1 - len(entries))], where="kva")
    set_variable(world, "kenvp", table)
    set_variable(world, "dynamic_kenv", 1)
    set_variable(world, "kern_envp", block)
    set_variable(world, "md_envp", block)
    if world.has_symbol("kenv_lock"):
        mtx_init(world, world.symbol("kenv_lock"), "kernel environment")
