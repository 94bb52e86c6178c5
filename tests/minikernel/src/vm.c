/* Virtual memory: maps, objects, pages, UMA, malloc types, swap. */
#include "kernel.h"

/* --- sys/vm/vm_map.c, vm_kern.c, vm_init.c (14.0) --- */

struct vm_map kernel_map_store;
struct vm_map exec_map_store;
struct vm_map pipe_map_store;
static uma_zone_t mapentzone __used;
static uma_zone_t kmapentzone __used;
static uma_zone_t vmspace_zone __used;
const void *zero_region;
struct vmem *kernel_arena;
struct vmem *buffer_arena;
struct vmem *transient_arena;
u_long vm_kmem_size;
u_int exec_map_entry_size;
u_int exec_map_entries;
struct kva_md_info kmi;

/* --- sys/vm/vm_object.c, vm_page.c, vm_phys.c, vm_pager.c, vm_meter.c, vm_pageout.c (14.0) --- */

struct object_q vm_object_list;
struct mtx vm_object_list_mtx;
struct vm_object kernel_object_store;
static uma_zone_t obj_zone __used;
vm_page_t vm_page_array;
long vm_page_array_size;
long first_page;
struct vm_domain vm_dom[MAXMEMDOM];
struct vm_phys_seg __read_mostly vm_phys_segs[VM_PHYSSEG_MAX];
int __read_mostly vm_phys_nsegs;
int __read_mostly vm_ndomains = 1;
domainset_t __read_mostly all_domains;
vm_paddr_t phys_avail[PHYS_AVAIL_COUNT];
vm_paddr_t dump_avail[PHYS_AVAIL_COUNT];
struct bitset *vm_page_dump;
long vm_page_dump_pages;
vm_page_t bogus_page;
struct vmmeter __read_mostly vm_cnt;
vm_offset_t kernel_vm_end;
const struct pagerops swappagerops, vnodepagerops, devicepagerops, physpagerops, sgpagerops, mgtdevicepagerops;
#if RELEASE >= 15
const struct pagerops swaptmpfspagerops;
#endif
#ifdef OBJT_FIRST_DYN
#define NPAGERS 16
#else
#define NPAGERS 8
#endif
const struct pagerops *pagertab[NPAGERS] = {
	[OBJT_SWAP] = &swappagerops,
	[OBJT_VNODE] = &vnodepagerops,
	[OBJT_DEVICE] = &devicepagerops,
	[OBJT_PHYS] = &physpagerops,
	[OBJT_SG] = &sgpagerops,
	[OBJT_MGTDEVICE] = &mgtdevicepagerops,
};
long physmem;
long realmem;
long Maxmem;
u_long pagesizes[MAXPAGESIZES] = { PAGE_SIZE };

/* --- sys/kern/subr_pctrie.c (15.0: with a parent) and sys/vm/vm_radix.c (its own nodes until 14): the trie's nodes --- */

#if PCTRIE_WIDTH == 4
typedef uint16_t pn_popmap_t;
#else
typedef uint8_t pn_popmap_t;
#endif
struct pctrie_node {
	uint64_t pn_owner;
	pn_popmap_t pn_popmap;
	uint8_t pn_clev;
#if RELEASE >= 15
	SMR_POINTER(struct pctrie_node *) pn_parent;
#endif
	SMR_POINTER(struct pctrie_node *) pn_child[PCTRIE_COUNT];
};
#if RELEASE < 15
typedef SMR_POINTER(struct vm_radix_node *) smrnode_t;
struct vm_radix_node {
	vm_pindex_t rn_owner;
	pn_popmap_t rn_popmap;
	uint8_t rn_clev;
	smrnode_t rn_child[PCTRIE_COUNT];
};
static uma_zone_t vm_radix_node_zone __used;
#endif
smr_t vm_radix_smr;

/* --- sys/vm/swap_pager.c (12.0 and later: a trie per object) --- */

#define SWAP_META_PAGES 32
struct swblk {
	vm_pindex_t p;
	daddr_t d[SWAP_META_PAGES];
};
static TAILQ_HEAD(, swdevt) swtailq __used = TAILQ_HEAD_INITIALIZER(swtailq);
static struct swdevt *swdevhd __used;
static int nswapdev __used;
int swap_pager_avail;
static uma_zone_t swblk_zone __used;
static uma_zone_t swpctrie_zone __used;
static u_long swap_reserved __used;
static u_long swap_total __used;

/* --- sys/vm/uma_core.c (14.0) --- */

static LIST_HEAD(, uma_keg) uma_kegs __used = LIST_HEAD_INITIALIZER(uma_kegs);
static LIST_HEAD(, uma_zone) uma_cachezones __used = LIST_HEAD_INITIALIZER(uma_cachezones);
static uma_zone_t kegs __used;
static uma_zone_t zones __used;
static uma_zone_t slabzones[2] __used;
static uma_zone_t hashzone __used;
static struct rwlock_padalign __exclusive_cache_line uma_rwlock __used;
unsigned long uma_kmem_limit = ~0UL >> 1;
unsigned long uma_kmem_total;
struct uma_bucket_zone {
	uma_zone_t ubz_zone;
	const char *ubz_name;
	int ubz_entries;
	int ubz_maxsize;
};
static struct uma_bucket_zone bucket_zones[] __used = {
	{ NULL, "4 Bucket", 4, 4096 },
	{ NULL, "6 Bucket", 6, 3072 },
	{ NULL, "8 Bucket", 8, 2048 },
	{ NULL, "12 Bucket", 12, 1536 },
	{ NULL, "16 Bucket", 16, 1024 },
	{ NULL, "32 Bucket", 32, 512 },
	{ NULL, "64 Bucket", 64, 256 },
	{ NULL, "128 Bucket", 128, 128 },
	{ NULL, "256 Bucket", 256, 64 },
	{ NULL, NULL, 0, 0 },
};
/* sys/kern/subr_smr.c, vm/uma_int.h: the per-CPU SMR state that uz_smr points to. */
uma_zone_t pcpu_zone_4, pcpu_zone_8, pcpu_zone_16, pcpu_zone_32, pcpu_zone_64;

/* --- sys/kern/kern_malloc.c (14.0) --- */

static struct malloc_type *kmemstatistics __used;
static int kmemcount __used;
struct malloc_type M_TEMP[1] = {
	{ .ks_version = M_VERSION, .ks_shortdesc = "temp" },
};
struct malloc_type M_DEVBUF[1] = {
	{ .ks_next = M_TEMP, .ks_version = M_VERSION, .ks_shortdesc = "devbuf" },
};
struct kmemzone {
	int kz_size;
	const char *kz_name;
	uma_zone_t kz_zone[1];
};
static struct kmemzone kmemzones[] __used = {
	{ 16, "malloc-16", { 0 } },
	{ 32, "malloc-32", { 0 } },
	{ 64, "malloc-64", { 0 } },
	{ 128, "malloc-128", { 0 } },
	{ 256, "malloc-256", { 0 } },
	{ 384, "malloc-384", { 0 } },
	{ 512, "malloc-512", { 0 } },
	{ 1024, "malloc-1024", { 0 } },
	{ 2048, "malloc-2048", { 0 } },
	{ 4096, "malloc-4096", { 0 } },
	{ 8192, "malloc-8192", { 0 } },
	{ 16384, "malloc-16384", { 0 } },
	{ 32768, "malloc-32768", { 0 } },
	{ 65536, "malloc-65536", { 0 } },
	{ 0, NULL, { 0 } },
};
struct mtx malloc_mtx;

/* --- sys/kern/kern_mbuf.c, vfs_bio.c (14.0) --- */

uma_zone_t zone_mbuf, zone_clust, zone_pack, zone_jumbop, zone_jumbo9, zone_jumbo16;
static struct buf *buf __used;
int nbuf;
static caddr_t buffers_kva __used;

/* --- private types that no variable above shows --- */

void
vm_types(void *pointer)
{
	RETAIN(struct pctrie_node);
#if RELEASE < 15
	RETAIN(struct vm_radix_node);
#endif
	RETAIN(struct swblk);
}
