/* What each architecture's own code keeps: page tables, per-CPU areas, interrupt tables. */
#include "kernel.h"

/* A table that the processor walks, in the kernel's own memory. */
#define PAGE_TABLE(type, name) type name[PAGE_SIZE / sizeof(type)] __aligned(PAGE_SIZE)

/* What sys/conf/Makefile.* names as the kernel's interpreter: a needle for scanners. */
static const char interpreter[] __attribute__((section(".interp"), used)) = "/red/herring";

struct pmap kernel_pmap_store;
vm_offset_t virtual_avail;
vm_offset_t virtual_end;
const char machine[] = MACHINE;

#if defined(__amd64__)
/* --- sys/amd64/amd64/pmap.c, machdep.c, locore.S, trap.c (13.1: kernphys is a variable; 15.0: kva_layout) --- */

u_int64_t KPML4phys;
u_int64_t KPML5phys;
vm_paddr_t kernphys;
vm_paddr_t KERNend;
static u_int64_t KPTphys __used;
static u_int64_t KPDphys __used;
static u_int64_t KPDPphys __used;
static u_int64_t DMPDphys __used;
static u_int64_t DMPDPphys __used;
static int ndmpdp __used;
vm_paddr_t dmaplimit;
int nkpt;
int la57;
int pti;
pt_entry_t pg_nx;
int pmap_pcid_enabled = 1;
int invpcid_works;
#if RELEASE >= 15
struct kva_layout_s kva_layout = {
	.kva_min = KV4ADDR(NPML4EPG / 2, 0, 0, 0),
	.kva_max = KV4ADDR(NPML4EPG - 1, NPDPEPG - 1, NPDEPG - 1, NPTEPG - 1),
	.dmap_low = KV4ADDR(DMPML4I, 0, 0, 0),
	.dmap_high = KV4ADDR(DMPML4I + NDMPML4E, 0, 0, 0),
	.lm_low = KV4ADDR(LMSPML4I, 0, 0, 0),
	.lm_high = KV4ADDR(LMEPML4I + 1, 0, 0, 0),
	.km_low = KV4ADDR(KPML4BASE, 0, 0, 0),
	.km_high = KV4ADDR(KPML4BASE + NKPML4E - 1, NPDPEPG - 1, NPDEPG - 1, NPTEPG - 1),
	.rec_pt = KV4ADDR(PML4PML4I, 0, 0, 0),
};
#endif
struct pcpu *__pcpu;
struct pcpu temp_bsp_pcpu;
static struct gate_descriptor idt0[NIDT] __used;
struct gate_descriptor *idt = &idt0[0];
struct region_descriptor r_idt;
struct user_segment_descriptor *gdt;
char *bootSTK;
char cpu_vendor[20];
char cpu_model[128];
FUNCTION(Xfast_syscall);
FUNCTION(Xfast_syscall_pti);
FUNCTION(Xint0x80_syscall);
FUNCTION(Xdiv);
FUNCTION(Xpage);
FUNCTION(Xtimerint);
FUNCTION(calltrap);
FUNCTION(fork_trampoline);
FUNCTION(trap);
FUNCTION(amd64_syscall);

#elif defined(__aarch64__)
/* --- sys/arm64/arm64/locore.S, pmap.c, machdep.c, mp_machdep.c (14.0) --- */

PAGE_TABLE(pd_entry_t, pagetable_l3_ttbr1);
PAGE_TABLE(pd_entry_t, pagetable_l2_ttbr1);
PAGE_TABLE(pd_entry_t, pagetable_l1_ttbr1);
PAGE_TABLE(pd_entry_t, pagetable_l0_ttbr1);
PAGE_TABLE(pd_entry_t, pagetable_l0_ttbr0_bootstrap);
vm_paddr_t dmap_phys_base;
vm_paddr_t dmap_phys_max;
vm_offset_t dmap_max_addr;
struct pcpu *__pcpu;
struct pcpu pcpu0;
FUNCTION(handle_el1h_sync);
FUNCTION(handle_el1h_irq);
FUNCTION(handle_el0_sync);
FUNCTION(handle_el0_irq);
FUNCTION(fork_trampoline);
FUNCTION(do_el0_sync);
FUNCTION(do_el1h_sync);

#elif defined(__riscv)
/* --- sys/riscv/riscv/locore.S, pmap.c, machdep.c (14.0) --- */

PAGE_TABLE(pd_entry_t, pagetable_l2);
PAGE_TABLE(pd_entry_t, pagetable_l1);
PAGE_TABLE(pd_entry_t, pagetable_l0);
enum pmap_mode __read_frequently pmap_mode = PMAP_MODE_SV39;
vm_paddr_t dmap_phys_base;
vm_paddr_t dmap_phys_max;
vm_offset_t dmap_max_addr;
struct pcpu __pcpu[MAXCPU];
FUNCTION(cpu_exception_handler);
FUNCTION(do_trap_supervisor);
FUNCTION(do_trap_user);
FUNCTION(fork_trampoline);

#elif defined(__i386__)
/* --- sys/i386/i386/pmap_base.c, pmap.c, locore.S, machdep.c (13.0: one kernel for PAE and not) --- */

int pae_mode;
uint64_t *IdlePDPT;
uint64_t *IdlePTD_pae;
uint32_t *IdlePTD_nopae;
u_int tramp_idleptd;
u_long KPTphys;
vm_paddr_t KERNend;
int nkpt;
int pti;
uint64_t pg_nx;
struct pcpu __pcpu[MAXCPU];
static struct gate_descriptor idt0[NIDT] __used;
struct gate_descriptor *idt = &idt0[0];
struct region_descriptor r_idt;
char cpu_vendor[20];
FUNCTION(Xint0x80_syscall);
FUNCTION(Xdiv);
FUNCTION(Xpage);
FUNCTION(calltrap);
FUNCTION(fork_trampoline);
FUNCTION(trap);

#elif defined(__arm__)
/* --- sys/arm/arm/pmap-v6.c, locore.S, machdep.c (14.0) --- */

vm_paddr_t kernel_l1pa;
struct pcpu __pcpu[MAXCPU];
struct pcpu *pcpup = &__pcpu[0];
FUNCTION(swi_entry);
FUNCTION(data_abort_entry);
FUNCTION(fork_trampoline);

#elif defined(__powerpc64__)
/* --- sys/powerpc/aim/mmu_oea64.c, mmu_radix.c, powerpc/machdep.c (14.0) --- */

int radix_mmu = 1;
int hw_direct_map = 1;
vm_offset_t __startkernel, __endkernel;
struct pcpu __pcpu[MAXCPU];
FUNCTION(fork_trampoline);
FUNCTION(trap);
#endif
