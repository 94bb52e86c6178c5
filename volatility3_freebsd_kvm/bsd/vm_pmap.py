"""From a process's ``struct pmap`` to the page tables that its processor uses.

# Reference: sys/{amd64,arm64,riscv,i386}/include/pmap.h, sys/arm/include/pmap_var.h, sys/amd64/amd64/pmap.c
#            (pmap_pinit_type, PMAP_NO_CR3), sys/riscv/include/riscvreg.h (SATP_MODE_S)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..exceptions import AddressError, KVMError
from ..kvm.space import AddressSpace
from ..kvm.userspace import UserRoot
from .kernel import Kernel
from .objects import Object
from .records import Absent, attempt

_X86_FRAME = 0x000F_FFFF_FFFF_F000
_ALL_BITS = _NO_CR3 = (1 << 64) - 1
"""PMAP_NO_CR3: there is no table for user mode alone, since the kernel does without PTI."""
_SATP_PPN = (1 << 44) - 1
_SATP_KINDS = {8: "riscv-sv39", 9: "riscv-sv48"}
_PMAP_MODES = {0: "riscv-sv39", 1: "riscv-sv48"}
"""enum pmap_mode: PMAP_MODE_SV39, PMAP_MODE_SV48."""
_STAGE_2 = 2


def user_root(kernel: Kernel, space: AddressSpace, pmap: Object) -> tuple[UserRoot | None, str]:
    """Where the top page table of a process is, or why that cannot be told, a clause.

    Of several ways to it the first is taken that leads to a table in the dump.

    Args:
        kernel: the kernel.
        space: its address space.
        pmap: the process's ``struct pmap``.
    """
    ways = _WAYS.get(kernel.architecture)
    if ways is None:
        return None, f"page tables of processes are not known on {kernel.architecture or 'this architecture'}"
    why = "the types of this kernel do not lead to them"
    try:
        for root in ways(kernel, space, pmap):
            try:
                space.physical.read(root.pa, 32)
            except AddressError as error:
                why = f"the top one at {root.pa:#x} {error.kind}"
            else:
                return root, ""
    except KVMError as error:
        why = str(error)
    return None, why


def _member(pmap: Object, name: str) -> int:
    """An integer or pointer, 0 if there is no such member, or it cannot be read."""
    value = attempt(lambda: int(getattr(pmap, name))) if pmap.has_(name) else 0
    return 0 if isinstance(value, Absent) else value & _ALL_BITS


def _behind(space: AddressSpace, pmap: Object, *names: str) -> Iterator[int]:
    """Physical addresses of the tables that the kernel sees at these members."""
    for name in names:
        va = _member(pmap, name)
        if va:
            try:
                yield space.page_map.kvatop(va)
            except AddressError:
                continue


def _amd64(kernel: Kernel, space: AddressSpace, pmap: Object) -> Iterator[UserRoot]:
    """Under PTI the table for user mode, which maps the same of the process. Tables of guests have another format."""
    if _member(pmap, "pm_type"):
        return
    la57 = attempt(lambda: kernel.integer("la57"))
    kind = "amd64-la57" if isinstance(la57, int) and la57 else "amd64"
    for name in ("pm_ucr3", "pm_cr3"):
        value = _member(pmap, name)
        if value & _X86_FRAME and value != _NO_CR3:
            yield UserRoot(value & _X86_FRAME, kind)
    for pa in _behind(space, pmap, "pm_pmltop", "pm_pml4"):
        yield UserRoot(pa, kind)


def _arm64(kernel: Kernel, space: AddressSpace, pmap: Object) -> Iterator[UserRoot]:
    """The physical address since 13.0, before only where the kernel sees the table."""
    if _member(pmap, "pm_stage") == _STAGE_2:
        return
    kind = "arm64-16k" if space.page_size == 16384 else "arm64"
    for name in ("pm_l0_paddr", "pm_ttbr"):
        value = _member(pmap, name) & 0x0000_FFFF_FFFF_F000
        if value:
            yield UserRoot(value, kind)
    for pa in _behind(space, pmap, "pm_l0"):
        yield UserRoot(pa, kind)


def _riscv(kernel: Kernel, space: AddressSpace, pmap: Object) -> Iterator[UserRoot]:
    """The register's value says the mode, too; `pmap_mode` since 13.1."""
    if _member(pmap, "pm_stage") == _STAGE_2:
        return
    satp = _member(pmap, "pm_satp")
    if satp >> 60 in _SATP_KINDS:
        yield UserRoot((satp & _SATP_PPN) << 12, _SATP_KINDS[satp >> 60])
    mode = attempt(lambda: kernel.integer("pmap_mode"))
    kind = _PMAP_MODES.get(mode, "riscv-sv39") if isinstance(mode, int) else "riscv-sv39"
    for pa in _behind(space, pmap, "pm_top", "pm_l1"):
        yield UserRoot(pa, kind)


def _i386(kernel: Kernel, space: AddressSpace, pmap: Object) -> Iterator[UserRoot]:
    """With PAE by its four directory pointers; kernels since 13.0 can do both and say which they do."""
    pae = attempt(lambda: kernel.integer("pae_mode"))
    if pae != 0:
        for pa in _behind(space, pmap, "pm_pdpt_pae", "pm_pdpt"):
            yield UserRoot(pa, "i386-pae")
    if isinstance(pae, Absent) and pmap.has_("pm_pdpt"):
        return
    for pa in _behind(space, pmap, "pm_pdir_nopae", "pm_pdir"):
        yield UserRoot(pa, "i386")


def _arm(kernel: Kernel, space: AddressSpace, pmap: Object) -> Iterator[UserRoot]:
    """The first-level table of pmap-v6, 16 KiB that are physically consecutive."""
    for pa in _behind(space, pmap, "pm_pt1"):
        yield UserRoot(pa, "arm")


_WAYS: dict[str, Callable[[Kernel, AddressSpace, Object], Iterator[UserRoot]]] = {
    "amd64": _amd64,
    "arm64": _arm64,
    "riscv": _riscv,
    "i386": _i386,
    "arm": _arm,
}
