"""What a minidump says besides memory and mappings, with the values that real kernels have."""

from __future__ import annotations

from dataclasses import dataclass

from .headers import ByteOrder

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

ARM_MMU_UNKNOWN, ARM_MMU_V4, ARM_MMU_V6, ARM_MMU_V6_LPAE = 0, 1, 2, 3


@dataclass(frozen=True)
class Parameters:
    """Options of `minidump`; fields that an architecture does not have are ignored for it.

    Attributes:
        byteorder: Of header, dump_avail, bitmap and page map (powerpc64 page maps are always big endian).
        page_size: Bytes of a page.
        kernbase: Virtual address of the first page map entry.
        kernel_end: First address behind the page map; None means behind the last mapping.
        dmapphys: Physical address that dmapbase maps (arm64, riscv).
        dmapbase: First address of the direct map.
        dmapend: End of the direct map: exclusive, but inclusive on powerpc64.
        dump_avail_entry: Bytes of one dump_avail value (arm: 4 or 8).
        dump_page_tables: Whether the page table pages that the writer makes (amd64, radix) are dumped.
        paemode: i386 with 8-byte PTEs.
        short_header: arm version 1 of FreeBSD 9 and 10, without `arch` and `mmuformat`.
        arm_arch: The `__ARM_ARCH` number.
        mmuformat: Format of the arm PTEs.
        pte_size: Bytes of a mips PTE: 4, or 8 for 64-bit (and n32) kernels.
        pbmt: Svpbmt memory type (0 to 3) in every riscv PTE.
        mmu_name: powerpc64: mmu_g5 or mmu_phyp (hash), mmu_radix.
        hpt_groups: powerpc64 hash: number of page table entry groups, a power of two.
        kernend: powerpc64: end of the kernel address space.
        hw_direct_map: powerpc64 hash: the direct map uses 16 MiB pages.
        startkernel: powerpc64: where the kernel image starts after its relocation.
        endkernel: powerpc64: where it ends.
    """

    byteorder: ByteOrder = "little"
    page_size: int = 4096
    kernbase: int = 0
    kernel_end: int | None = None
    dmapphys: int = 0
    dmapbase: int = 0
    dmapend: int = 0
    dump_avail_entry: int = 8
    dump_page_tables: bool = True
    paemode: bool = False
    short_header: bool = False
    arm_arch: int = 7
    mmuformat: int = ARM_MMU_V6
    pte_size: int = 4
    pbmt: int = 0
    mmu_name: str = "mmu_phyp"
    hpt_groups: int = 2048
    kernend: int = 0
    hw_direct_map: int = 0
    startkernel: int = 0
    endkernel: int = 0


_DEFAULTS: dict[tuple[str, int], Parameters] = {
    # FreeBSD 7: the kernel map is the top 2 GiB, the direct map is the PML4 slot below it.
    ("amd64", 1): Parameters(
        kernbase=0xFFFF_FFFF_8000_0000, dmapbase=0xFFFF_FF00_0000_0000, dmapend=0xFFFF_FF80_0000_0000
    ),
    ("amd64", 2): Parameters(
        kernbase=0xFFFF_FE00_0000_0000, dmapbase=0xFFFF_F800_0000_0000, dmapend=0xFFFF_FC00_0000_0000
    ),
    ("amd64", 3): Parameters(
        kernbase=0xFFFF_FE00_0000_0000, dmapbase=0xFFFF_F800_0000_0000, dmapend=0xFFFF_FC00_0000_0000
    ),
    ("i386", 1): Parameters(kernbase=0xC000_0000),
    ("i386", 2): Parameters(kernbase=0x80_0000, paemode=True),
    ("arm", 1): Parameters(kernbase=0xC000_0000),
    ("arm", 2): Parameters(kernbase=0xC000_0000),
    ("arm64", 1): Parameters(
        kernbase=0xFFFF_0000_0000_0000,
        dmapphys=0x4000_0000,
        dmapbase=0xFFFF_FD00_0000_0000,
        dmapend=0xFFFF_FF00_0000_0000,
    ),
    ("arm64", 2): Parameters(
        kernbase=0xFFFF_0000_0000_0000,
        dmapphys=0x4000_0000,
        dmapbase=0xFFFF_A000_0000_0000,
        dmapend=0xFFFF_FF00_0000_0000,
    ),
    ("arm64", 3): Parameters(
        kernbase=0xFFFF_0000_0000_0000,
        dmapphys=0x4000_0000,
        dmapbase=0xFFFF_A000_0000_0000,
        dmapend=0xFFFF_FF00_0000_0000,
    ),
    ("riscv", 1): Parameters(
        kernbase=0xFFFF_FFC0_0000_0000,
        dmapphys=0x8000_0000,
        dmapbase=0xFFFF_FFD0_0000_0000,
        dmapend=0xFFFF_FFF0_0000_0000,
    ),
    ("riscv", 2): Parameters(
        kernbase=0xFFFF_FFC0_0000_0000,
        dmapphys=0x8000_0000,
        dmapbase=0xFFFF_FFD0_0000_0000,
        dmapend=0xFFFF_FFF0_0000_0000,
    ),
    # The mips kernel never fills in dmapbase and dmapend.
    ("mips", 1): Parameters(kernbase=0xC000_0000, byteorder="big"),
    ("mips", 2): Parameters(kernbase=0xC000_0000, byteorder="big"),
}


def defaults(arch: str, version: int, *, mmu_name: str = "mmu_phyp", pte_size: int = 4) -> Parameters:
    """Return what a usual kernel of this architecture and version writes.

    Args:
        arch: Architecture.
        version: Minidump version.
        mmu_name: powerpc64 only: decides the address space layout (radix or hash).
        pte_size: mips only: 8 for a 64-bit kernel.
    """
    if arch in ("powerpc64", "powerpc64le"):
        byteorder: ByteOrder = "big" if arch == "powerpc64" else "little"
        if mmu_name == "mmu_radix":
            return Parameters(
                byteorder=byteorder,
                mmu_name=mmu_name,
                kernbase=0xC008_0000_0000_0000,
                kernend=0xC008_0FFF_FFFF_FFFF,
                dmapbase=0xC000_0000_0000_0000,
                dmapend=0xC007_FFFF_FFFF_FFFF,
                startkernel=0xC000_0000_0010_0100,
                endkernel=0xC000_0000_0200_0000,
            )
        return Parameters(
            byteorder=byteorder,
            mmu_name=mmu_name,
            kernbase=0xE000_0000_0000_0000,
            kernend=0xE000_0007_FFFF_FFFF,
            dmapbase=0xC000_0000_0000_0000,
            dmapend=0xCFFF_FFFF_FFFF_FFFF,
            startkernel=0xC000_0000_0010_0100,
            endkernel=0xC000_0000_0200_0000,
        )
    if (arch, version) not in _DEFAULTS:
        raise ValueError(f"there is no {arch} minidump version {version}")
    if arch == "mips" and pte_size == 8:
        return Parameters(kernbase=0xC000_0000_0000_0000, byteorder="big", pte_size=8)
    return _DEFAULTS[arch, version]
