/* Processes, threads, credentials, jails: the roots that plugins start from. */
#include "kernel.h"

/* --- sys/kern/kern_proc.c (14.0) --- */

struct pidhashhead *pidhashtbl = NULL;
struct sx *pidhashtbl_lock;
u_long pidhash;
u_long pidhashlock;
struct pgrphashhead *pgrphashtbl;
u_long pgrphash;
struct proclist allproc = LIST_HEAD_INITIALIZER(allproc);
struct sx __exclusive_cache_line allproc_lock;
struct sx __exclusive_cache_line proctree_lock;
struct mtx __exclusive_cache_line ppeers_lock;
struct mtx __exclusive_cache_line procid_lock;
uma_zone_t proc_zone;
uma_zone_t pgrp_zone;
int allproc_gen;
int kstack_pages = KSTACK_PAGES;
#if RELEASE >= 15
pid_t pid_max = PID_MAX;
#else
int pid_max = PID_MAX;
#endif

/* What kernel debuggers need to list processes and threads without debug information. */
const int proc_off_p_pid = offsetof(struct proc, p_pid);
const int proc_off_p_comm = offsetof(struct proc, p_comm);
const int proc_off_p_list = offsetof(struct proc, p_list);
const int proc_off_p_hash = offsetof(struct proc, p_hash);
const int proc_off_p_threads = offsetof(struct proc, p_threads);
const int thread_off_td_tid = offsetof(struct thread, td_tid);
const int thread_off_td_name = offsetof(struct thread, td_name);
const int thread_off_td_oncpu = offsetof(struct thread, td_oncpu);
const int thread_off_td_pcb = offsetof(struct thread, td_pcb);
const int thread_off_td_plist = offsetof(struct thread, td_plist);
/* Read by LLDB to step through stoppcbs. */
const int pcb_size = sizeof(struct pcb);

bitstr_t bit_decl(proc_id_pidmap, PID_MAX);
bitstr_t bit_decl(proc_id_grpidmap, PID_MAX);
bitstr_t bit_decl(proc_id_sessidmap, PID_MAX);
bitstr_t bit_decl(proc_id_reapmap, PID_MAX);

/* --- sys/kern/init_main.c (14.0) --- */

extern struct sysentvec null_sysvec;
static struct session session0;
static struct pgrp pgrp0;
struct proc proc0 = {
	.p_magic = P_MAGIC,
	.p_pid = 0,
	.p_comm = "kernel",
	.p_state = PRS_NORMAL,
	.p_flag = P_SYSTEM | P_INMEM | P_KPROC,
	.p_numthreads = 1,
	.p_sysent = &null_sysvec,
	.p_pgrp = &pgrp0,
	.p_threads = { (struct thread *)&thread0_st, &((struct thread *)&thread0_st)->td_plist.tqe_next },
	.p_vmspace = &vmspace0,
};
struct thread0_storage thread0_st = {
	.t0st_thread = {
		.td_proc = &proc0,
		.td_plist = { NULL, &proc0.p_threads.tqh_first },
		.td_tid = 100000,
		.td_name = "swapper",
		.td_oncpu = NOCPU,
		.td_lastcpu = NOCPU,
	},
};
struct vmspace vmspace0;
struct proc *initproc;
int boothowto;
int bootverbose;
static struct session session0 = { .s_count = 1, .s_leader = &proc0, .s_sid = 0 };
static struct pgrp pgrp0 = { .pg_members = { &proc0 }, .pg_session = &session0, .pg_id = 0 };
/* The registered SYSINITs: since 14.0 lists, not an array. */
STAILQ_HEAD(sysinitlist, sysinit);
static struct sysinitlist sysinit_list __used = STAILQ_HEAD_INITIALIZER(sysinit_list);
static struct sysinitlist sysinit_done_list __used = STAILQ_HEAD_INITIALIZER(sysinit_done_list);

/* --- sys/kern/kern_fork.c, kern_exit.c, vm/vm_pageout.c, kern/subr_param.c (14.0) --- */

int nprocs = 1;
int lastpid = 0;
static int randompid __used = 0;
struct proc *pageproc;
int maxproc = 6000;
int maxprocperuid = 5400;
int maxusers = 384;
int ngroups_max = 1023;
int maxfiles = 100000;
int maxfilesperproc = 90000;
int hz = 1000;
int tick = 1000;
u_long maxtsiz = MAXTSIZ, dfldsiz = DFLDSIZ, maxdsiz = MAXDSIZ, dflssiz = DFLSSIZ, maxssiz = MAXSSIZ, sgrowsiz = SGROWSIZ;

/* --- sys/kern/kern_thread.c (14.0) --- */

LIST_HEAD(tidhashhead, thread);
static struct tidhashhead *tidhashtbl __used;
static u_long tidhash __used;
static u_long tidhashlock __used;
static struct rwlock *tidhashtbl_lock __used;
static uma_zone_t thread_zone __used;
static unsigned long *tid_bitmap __used;
static struct mtx tid_lock __used;
static int maxthread __used;
static int nthreads __used = 1;
struct thread_domain_data {
	struct thread *tdd_zombies;
	int tdd_reapticks;
} __aligned(CACHE_LINE_SIZE);
static struct thread_domain_data thread_domain_data[MAXMEMDOM] __used;
static struct task thread_reap_task __used;

/* --- sys/kern/kern_exec.c (14.0) --- */

struct exec_args_kva {
	vm_offset_t addr;
	u_int gen;
	SLIST_ENTRY(exec_args_kva) next;
};
DPCPU_DEFINE_STATIC(struct exec_args_kva *, exec_args_kva);
static SLIST_HEAD(, exec_args_kva) exec_args_kva_freelist __used;
static struct mtx exec_args_kva_mtx __used;
static u_int exec_args_gen __used;
u_long ps_arg_cache_limit = PAGE_SIZE / 16;
FUNCTION(exec_elf64_imgact);
FUNCTION(exec_elf32_imgact);
FUNCTION(exec_shell_imgact);
static struct execsw elf64_execsw = { POINTER(exec_elf64_imgact), "ELF64" };
static struct execsw elf32_execsw = { POINTER(exec_elf32_imgact), "ELF32" };
static struct execsw shell_execsw = { POINTER(exec_shell_imgact), "#!" };
static const struct execsw *execsw_table[] = { &elf64_execsw, &elf32_execsw, &shell_execsw, NULL };
static const struct execsw **execsw __used = execsw_table;

/* --- sys/kern/kern_resource.c, kern_prot.c, kern_loginclass.c (14.0) --- */

LIST_HEAD(uihashhead, uidinfo);
static struct uihashhead *uihashtbl __used;
static u_long uihash __used;
static struct rwlock uihashtbl_lock __used;
LIST_HEAD(, loginclass) loginclasses;
int unprivileged_proc_debug = 1;
static int see_other_uids __used = 1;
static int see_other_gids __used = 1;

/* --- sys/kern/kern_jail.c (14.0; 15.0: prison_desc and jail descriptors) --- */

struct prison prison0 = {
	.pr_id = 0,
	.pr_name = "0",
	.pr_ref = 1,
	.pr_uref = 1,
	.pr_path = "/",
	.pr_securelevel = -1,
	.pr_devfs_rsnum = 0,
	.pr_state = PRISON_STATE_ALIVE,
	.pr_childmax = JAIL_MAX,
	.pr_hostuuid = "00000000-0000-0000-0000-000000000000",
	.pr_children = LIST_HEAD_INITIALIZER(prison0.pr_children),
	.pr_flags = PR_HOST | PR_VNET,
	.pr_allow = PR_ALLOW_ALL_STATIC,
};
struct prisonlist allprison = TAILQ_HEAD_INITIALIZER(allprison);
struct sx allprison_lock;
int lastprid = 0;
static int lastdeadid __used = 0;

/* --- sys/kern/kern_cpuset.c (14.0) --- */

static uma_zone_t cpuset_zone __used;
static struct setlist cpuset_ids __used;
struct cpuset *cpuset_default, *cpuset_zero, *cpuset_kernel;
cpuset_t *cpuset_root;

/* --- sys/kern/sys_procdesc.c, kern_sig.c, kern_ktrace.c (14.0) --- */

FUNCTION(procdesc_poll);
FUNCTION(procdesc_kqfilter);
FUNCTION(procdesc_stat);
FUNCTION(procdesc_close);
const struct fileops procdesc_ops = {
	.fo_poll = POINTER(procdesc_poll),
	.fo_kqfilter = POINTER(procdesc_kqfilter),
	.fo_stat = POINTER(procdesc_stat),
	.fo_close = POINTER(procdesc_close),
	.fo_flags = DFLAG_PASSABLE,
};
static uma_zone_t ksiginfo_zone __used;
static STAILQ_HEAD(, ktr_request) ktr_free __used;
#if RELEASE >= 15
/* sys/kern/kern_jaildesc.c (15.0) */
FUNCTION(jaildesc_close);
FUNCTION(jaildesc_stat);
const struct fileops jaildesc_ops = {
	.fo_close = POINTER(jaildesc_close),
	.fo_stat = POINTER(jaildesc_stat),
	.fo_flags = DFLAG_PASSABLE,
};
#endif
