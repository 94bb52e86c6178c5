/* Scheduling, sleeping, time, interrupts, per-CPU data, panic state. */
#include "kernel.h"

/* --- sys/kern/sched_ule.c (14.0 three run queues; 15.0 one) --- */

#define TDQ_NAME_LEN (sizeof("sched lock ") + sizeof(__XSTRING(MAXCPU)))
struct tdq {
	struct mtx_padalign tdq_lock;
	struct cpu_group *tdq_cg;
	struct thread *tdq_curthread;
	int tdq_load;
	int tdq_sysload;
	int tdq_cpu_idle;
	int tdq_transferable;
	short tdq_switchcnt;
	short tdq_oldswitchcnt;
	u_char tdq_lowpri;
	u_char tdq_owepreempt;
#if RELEASE >= 15
	u_char tdq_ts_off;
	u_char tdq_ts_deq_off;
	u_char tdq_ts_ticks;
	int tdq_id;
	struct runq tdq_runq;
#else
	u_char tdq_idx;
	u_char tdq_ridx;
	int tdq_id;
	struct runq tdq_realtime;
	struct runq tdq_timeshare;
	struct runq tdq_idle;
#endif
	char tdq_name[TDQ_NAME_LEN];
};
DPCPU_DEFINE_STATIC(struct tdq, tdq);
DPCPU_DEFINE_STATIC(uint32_t, randomval);
struct td_sched {
	short ts_flags;
	int ts_cpu;
	u_int ts_rltick;
	u_int ts_slice;
	u_int ts_slptime;
	u_int ts_runtime;
	u_int ts_ltick;
	u_int ts_ftick;
	u_int ts_ticks;
};
struct cpu_group *cpu_top;

/* --- sys/kern/subr_sleepqueue.c (14.0) --- */

#define SC_TABLESIZE 256
#define NR_SLEEPQS 2
struct sleepqueue {
	struct threadqueue sq_blocked[NR_SLEEPQS];
	u_int sq_blockedcnt[NR_SLEEPQS];
	LIST_ENTRY(sleepqueue) sq_hash;
	LIST_HEAD(, sleepqueue) sq_free;
	const void *sq_wchan;
	int sq_type;
};
struct sleepqueue_chain {
	LIST_HEAD(, sleepqueue) sc_queues;
	struct mtx sc_lock;
} __aligned(CACHE_LINE_SIZE);
static struct sleepqueue_chain sleepq_chains[SC_TABLESIZE] __used;
static uma_zone_t sleepq_zone __used;

/* --- sys/kern/subr_turnstile.c (14.0) --- */

#define TC_TABLESIZE 128
struct turnstile {
	struct mtx ts_lock;
	struct threadqueue ts_blocked[2];
	struct threadqueue ts_pending;
	LIST_ENTRY(turnstile) ts_hash;
	LIST_ENTRY(turnstile) ts_link;
	LIST_HEAD(, turnstile) ts_free;
	struct lock_object *ts_lockobj;
	struct thread *ts_owner;
};
struct turnstile_chain {
	LIST_HEAD(, turnstile) tc_turnstiles;
	struct mtx tc_lock;
};
static struct turnstile_chain turnstile_chains[TC_TABLESIZE] __used;
static uma_zone_t turnstile_zone __used;

/* --- sys/kern/kern_timeout.c (14.0: one DPCPU variable; 13.0 and older an array) --- */

struct cc_exec {
	struct callout *cc_curr;
#if RELEASE < 15
	callout_func_t *cc_drain;
#endif
	void *cc_last_func;
	void *cc_last_arg;
	callout_func_t *ce_migration_func;
	void *ce_migration_arg;
	sbintime_t ce_migration_time;
	sbintime_t ce_migration_prec;
	int ce_migration_cpu;
	bool cc_cancel;
	bool cc_waiting;
};
struct callout_cpu {
	struct mtx_padalign cc_lock;
	struct cc_exec cc_exec_entity[2];
	struct callout *cc_next;
	struct callout_list *cc_callwheel;
	struct callout_tailq cc_expireq;
	sbintime_t cc_firstevent;
	sbintime_t cc_lastscan;
	struct thread *cc_thread;
	u_int cc_bucket;
};
DPCPU_DEFINE_STATIC(struct callout_cpu, cc_cpu);
static u_int callwheelsize __used = 256;
u_int callwheelmask = 255;
static int ncallout __used;

/* --- sys/kern/kern_tc.c (12.0 and later: no global boottime) --- */

struct timehands {
	struct timecounter *th_counter;
	int64_t th_adjustment;
	uint64_t th_scale;
	u_int th_large_delta;
	u_int th_offset_count;
	struct bintime th_offset;
	struct bintime th_bintime;
	struct timeval th_microtime;
	struct timespec th_nanotime;
	struct bintime th_boottime;
	u_int th_generation;
	struct timehands *th_next;
};
FUNCTION(dummy_get_timecount);
static struct timecounter dummy_timecounter = {
	.tc_get_timecount = POINTER(dummy_get_timecount),
	.tc_counter_mask = ~0u,
	.tc_frequency = 1000000,
	.tc_name = "dummy",
	.tc_quality = -1000000,
};
static struct timehands ths[16] = {
	[0] = {
		.th_counter = &dummy_timecounter,
		.th_scale = (uint64_t)-1 / 1000000,
		.th_large_delta = 1000000,
		.th_offset = { .sec = 1 },
		.th_generation = 1,
		.th_next = &ths[1],
	},
	[1] = { .th_next = &ths[0] },
};
static struct timehands *volatile timehands __used = &ths[0];
struct timecounter *timecounter = &dummy_timecounter;
static struct timecounter *timecounters __used = &dummy_timecounter;
volatile time_t time_second = 1;
volatile time_t time_uptime = 1;
struct bintime tc_tick_bt;
sbintime_t tc_tick_sbt;
struct bintime tick_bt;
sbintime_t tick_sbt;
volatile int rtc_generation = 1;

/* --- sys/kern/kern_clock.c; 15.0: ticksl, of which ticks is the low half (subr_ticks.S) --- */

#if RELEASE >= 15
volatile long ticksl;
#if BYTE_ORDER == BIG_ENDIAN && defined(__LP64__)
__asm__(".globl ticks\n\t.type ticks, %object\n\t.set ticks, ticksl + 4\n\t.size ticks, 4");
#else
__asm__(".globl ticks\n\t.type ticks, %object\n\t.set ticks, ticksl\n\t.size ticks, 4");
#endif
#else
volatile int ticks;
#endif
int stathz = 127;
int profhz = 8128;
int psratio = 64;
static long cp_time_total[CPUSTATES] __used;
DPCPU_DEFINE_STATIC(long, pcputicks);

/* --- sys/kern/kern_intr.c, subr_taskqueue.c, subr_gtaskqueue.c, subr_epoch.c (14.0) --- */

static TAILQ_HEAD(, intr_event) event_list __used = TAILQ_HEAD_INITIALIZER(event_list);
struct intr_event *clk_intr_event;
struct proc *intrproc;
u_long *intrcnt;
char *intrnames;
size_t sintrcnt, sintrnames;

struct taskqueue_busy {
	struct task *tb_running;
	u_int tb_seq;
	bool tb_canceling;
	LIST_ENTRY(taskqueue_busy) tb_link;
};
struct taskqueue {
	STAILQ_HEAD(, task) tq_queue;
	LIST_HEAD(, taskqueue_busy) tq_active;
	struct task *tq_hint;
	u_int tq_seq;
	int tq_callouts;
	struct mtx_padalign tq_mutex;
	taskqueue_enqueue_fn tq_enqueue;
	void *tq_context;
	char *tq_name;
	struct thread **tq_threads;
	int tq_tcount;
	int tq_spin;
	int tq_flags;
	taskqueue_callback_fn tq_callbacks[TASKQUEUE_NUM_CALLBACKS];
	void *tq_cb_contexts[TASKQUEUE_NUM_CALLBACKS];
};
static struct taskqueue taskqueue_of_thread;
struct taskqueue *taskqueue_thread = &taskqueue_of_thread;
struct taskqueue *taskqueue_swi;
struct taskqueue *taskqueue_fast;

/* --- sys/kern/subr_eventhandler.c (14.0) --- */

static TAILQ_HEAD(, eventhandler_list) eventhandler_lists __used = TAILQ_HEAD_INITIALIZER(eventhandler_lists);
static int eventhandler_lists_initted __used = 1;
struct eventhandler_entry_generic {
	struct eventhandler_entry ee;
	void (*func)(void);
};
struct eventhandler_entry_generic_vimage {
	struct eventhandler_entry ee;
	void (*func)(void);
	struct eventhandler_entry_vimage v_ee;
};

/* --- sys/kern/subr_pcpu.c, subr_smp.c (14.0) --- */
/* Room for the variables of modules. */
DPCPU_DEFINE_STATIC(char, modspace[DPCPU_MODMIN]) __aligned(__alignof(void *));

struct pcpu *cpuid_to_pcpu[MAXCPU];
struct cpuhead cpuhead = STAILQ_HEAD_INITIALIZER(cpuhead);
uintptr_t dpcpu_off[MAXCPU];
u_int mp_maxid;
int mp_maxcpus = MAXCPU;
int mp_ncpus = 1;
int mp_ncores;
int smp_cpus = 1;
int smp_threads_per_core;
volatile int smp_started;
cpuset_t all_cpus;
cpuset_t hlt_cpus_mask;
cpuset_t logical_cpus_mask;
cpuset_t cpuset_domain[MAXMEMDOM];
volatile cpuset_t stopped_cpus;
volatile cpuset_t started_cpus;
volatile cpuset_t suspended_cpus;
volatile cpuset_t resuming_cpus;
struct pcb *stoppcbs;
struct mtx smp_ipi_mtx;

/* --- sys/kern/kern_shutdown.c, subr_kdb.c, kern_dump.c (14.0) --- */

const char *panicstr __read_mostly;
bool __read_frequently panicked;
int dumping;
int rebooting;
bool dumped_core;
static struct dumperinfo dumper __used;
static TAILQ_HEAD(dumpconflist, dumperinfo) dumper_configs __used = TAILQ_HEAD_INITIALIZER(dumper_configs);
static struct pcb dumppcb __used;
lwpid_t dumptid;
int do_minidump = 1;
bool scheduler_stopped;
u_char kdb_active = 0;
const char *volatile kdb_why = KDB_WHY_UNSET;
struct thread *kdb_thread;
struct pcb *kdb_thrctx;
struct trapframe *kdb_frame;

FUNCTION(configure_final);
SYSINIT(configure3, SI_SUB_CONFIGURE, SI_ORDER_ANY, POINTER(configure_final), NULL);

/* --- private types that no variable above shows --- */

void
sched_types(void *pointer)
{
	RETAIN(struct td_sched);
	RETAIN(struct sleepqueue);
	RETAIN(struct turnstile);
	RETAIN(struct taskqueue);
	RETAIN(struct taskqueue_busy);
	RETAIN(struct eventhandler_entry_generic);
	RETAIN(struct eventhandler_entry_generic_vimage);
}
