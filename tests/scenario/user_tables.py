"""The page tables of a process and the `struct pmap` that leads to them (machine/pmap.h of each architecture)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.writers import pagetables
from tests.writers.memory import Mapping, PhysicalMemory
from tests.writers.objects import Object, link_tailq

from .pages import map_page
from .shapes import mtx_init, set_members
from .trees import Trie, set_root
from .vm_pages import PageArray
from .world import World

X86_USER, X86_GLOBAL = 0x4, 0x100
ARM64_USER, ARM64_NOT_GLOBAL, ARM64_PXN, ARM64_UXN = 0x40, 0x800, 1 << 53, 1 << 54
RISCV_USER, RISCV_GLOBAL, RISCV_LEAF = 0x10, 0x20, 0xE
ARM_USER, ARM_NOT_GLOBAL = 0x20, 0x800
X86_NO_EXECUTE = 1 << 63
NO_CR3 = -1
PTI_RELEASE = "13.0"
"""The kernel that isolates its page tables (vm.pmap.pti)."""
SATP_SV39 = 8 << 60


class UserTables:
    """Builds the hardware's tables in memory; their pages are user pages."""

    def __init__(self, world: World, array: PageArray) -> None:
        self.world = world
        self.array = array
        self.memory: PhysicalMemory = world.memory.physical

    @property
    def possible(self) -> bool:
        """Whether there is a builder of tables for this architecture."""
        return self.world.memory.machine.tables is not None

    def create(self, pmap: Object, mappings: Iterable[Mapping]) -> None:
        """Map the pages for the process whose `pmap` this is (`pmap_pinit`, `pmap_enter`)."""
        wanted = list(mappings)
        self.initialise(pmap, len(wanted))
        if not self.possible:
            return
        before = set(self.memory.pages)
        root = self._builder()(self.memory, wanted)
        tables = set(self.memory.pages) - before
        self._let_user_in(root, tables)
        self.world.memory.user_pages |= tables
        for table in tables:
            self._account(self.array.page(table))
        self._set_root(pmap, root)

    def initialise(self, pmap: Object, resident: int) -> None:
        """`pmap_pinit` of an empty map."""
        world = self.world
        mtx_init(world, pmap.pm_mtx, "pmap")
        pmap.pm_stats.resident_count = resident
        if world.has("pmap", "pm_pvchunk"):
            link_tailq(pmap.pm_pvchunk, (), "pc_list")
        # powerpc's pm_root is something else.
        if world.has("pmap", "pm_root") and isinstance(pmap.pm_root, Object):
            node = "vm_radix_node" if world.has_type("vm_radix_node") else "pctrie_node"
            set_root(pmap.pm_root, Trie(world, node).empty)

    def _account(self, page: Object) -> None:
        """Page table pages are wired and belong to no object."""
        set_members(self.world, page, wire_count=1, ref_count=1)

    def _builder(self) -> Callable[[PhysicalMemory, Iterable[Mapping]], int]:
        """i386 kernels until 12 are PAE or not; GENERIC is not."""
        if self.world.has("pmap", "pm_pdir") and not self.world.has("pmap", "pm_pdpt"):
            return pagetables.i386
        tables = self.world.memory.machine.tables
        assert tables is not None
        return tables

    # Entries: the builders make those of a kernel

    def _let_user_in(self, root: int, tables: set[int]) -> None:
        size = self._entry_size()
        change = {"amd64": _x86, "i386": _x86, "arm64": _arm64, "riscv": _riscv, "arm": _arm}[self.world.arch]
        for table in tables:
            for slot in range(table, table + self.memory.page_size, size):
                entry = self.memory.read_integer(slot, size)
                target = self._target(entry)
                if entry and target != root:
                    self.memory.write_integer(slot, change(entry, target not in tables), size)

    def _entry_size(self) -> int:
        narrow = self.world.arch == "arm" or self._builder() is pagetables.i386
        return 4 if narrow else 8

    def _target(self, entry: int) -> int:
        """The page that an entry points to."""
        if self.world.arch == "riscv":
            return (entry & 0x003F_FFFF_FFFF_FC00) >> 10 << 12
        return entry & 0x000F_FFFF_FFFF_F000

    # What leads to the root

    def _set_root(self, pmap: Object, root: int) -> None:
        architecture = self.world.arch
        if architecture == "i386":
            self._set_i386(pmap, root)
        elif architecture == "arm":
            self._set_arm(pmap, root)
        else:
            kva = self.world.memory.direct_va(root)
            set_members(
                self.world,
                pmap,
                **dict.fromkeys(("pm_pml4", "pm_pmltop", "pm_l0", "pm_l1", "pm_top"), kva),
                pm_cr3=root,
                pm_ucr3=NO_CR3,
                pm_l0_paddr=root,
                pm_ttbr=root,
                pm_levels=4,
                pm_satp=SATP_SV39 | root >> 12,
            )
            if self.world.has("pmap", "pm_stage") and architecture == "arm64":
                pmap.pm_stage = 1  # PM_STAGE1
            if architecture == "amd64" and self.world.release == PTI_RELEASE:
                self._isolate(pmap, root)

    def _isolate(self, pmap: Object, root: int) -> None:
        """`pmap_pinit_pml4_pti`: a table for user mode with the same lower half, which the kernel may not execute."""
        page = self.memory.allocate()
        for slot in range(0, self.memory.page_size // 2, 8):
            entry = self.memory.read_integer(root + slot, 8)
            if entry:
                self.memory.write_integer(page + slot, entry, 8)
                self.memory.write_integer(root + slot, entry | X86_NO_EXECUTE, 8)
        self.world.memory.user_pages.add(page)
        self._account(self.array.page(page))
        table = self.world.memory.direct_va(page)
        set_members(self.world, pmap, pm_ucr3=page, pm_pml4u=table, pm_pmltopu=table)

    def _kernel_view(self, pages: Iterable[int]) -> int:
        """Where the kernel itself sees tables that no direct map shows; so minidumps have these pages."""
        memory = self.world.memory
        start = memory._next_kva
        for number, pa in enumerate(pages):
            map_page(memory, start + number * memory.machine.page_size, pa)
            memory._next_kva = start + (number + 2) * memory.machine.page_size
            memory.user_pages.discard(pa)
        return start

    def _set_i386(self, pmap: Object, root: int) -> None:
        """The directory pages are mapped by pmap_qenter, the PDPT comes from a zone."""
        if self._builder() is pagetables.i386:
            pmap.pm_pdir = self._kernel_view([root])
            pmap.pm_ptdpg[0] = self.array.page(root)
            return
        directories = []
        for slot in range(4):
            entry = self.memory.read_integer(root + 8 * slot, 8)
            if not entry:
                page = self.memory.allocate()
                self.memory.write_integer(root + 8 * slot, page | 1, 8)
                entry = page | 1
            directories.append(entry & 0x000F_FFFF_FFFF_F000)
        # A PDPT's entries have neither the user nor the write bit.
        for slot, page in enumerate(directories):
            self.memory.write_integer(root + 8 * slot, page | 1, 8)
            pmap.pm_ptdpg[slot] = self.array.page(page)
        view = {"pm_pdpt_pae": [root], "pm_pdpt": [root], "pm_pdir_pae": directories, "pm_pdir": directories}
        for name, pages in view.items():
            if self.world.has("pmap", name):
                pmap[name] = self._kernel_view(pages)

    def _set_arm(self, pmap: Object, root: int) -> None:
        """pmap-v6: L1 is four pages, PT2TAB the descriptors of the pages that hold L2 tables."""
        page_size = self.memory.page_size
        pmap.pm_pt1 = self._kernel_view(range(root, root + 4 * page_size, page_size))
        table = self.memory.allocate()
        for group in range(page_size // 4):
            entries = [self.memory.read_integer(root + 16 * group + 4 * part, 4) for part in range(4)]
            for entry in filter(None, entries):
                self.memory.write_integer(table + 4 * group, entry & 0xFFFFF000 | 0x13, 4)
        pmap.pm_pt2tab = self._kernel_view([table])


def _x86(entry: int, leaf: bool) -> int:
    return (entry & ~X86_GLOBAL if leaf else entry) | X86_USER


def _arm64(entry: int, leaf: bool) -> int:
    if not leaf:
        return entry
    executable = not entry & ARM64_PXN
    entry |= ARM64_USER | ARM64_NOT_GLOBAL | ARM64_PXN
    return entry & ~ARM64_UXN if executable else entry


def _riscv(entry: int, leaf: bool) -> int:
    return entry & ~RISCV_GLOBAL | RISCV_USER if leaf and entry & RISCV_LEAF else entry


def _arm(entry: int, leaf: bool) -> int:
    return entry | ARM_USER | ARM_NOT_GLOBAL if leaf else entry
