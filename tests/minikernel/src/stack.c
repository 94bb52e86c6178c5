/*
 * Functions that stand on kernel stacks: every backtrace of a blocked, interrupted or panicking thread goes through some
 * of them. Also types that no other unit has a place for.
 */
#include "kernel.h"

/* sys/kern/kern_synch.c, subr_sleepqueue.c, subr_turnstile.c, kern_mutex.c */
FUNCTION(mi_switch);
FUNCTION(sched_switch);
FUNCTION(sleepq_switch);
FUNCTION(sleepq_wait);
FUNCTION(sleepq_wait_sig);
FUNCTION(sleepq_catch_signals);
FUNCTION(_sleep);
FUNCTION(turnstile_wait);
FUNCTION(__mtx_lock_sleep);

/* sys/kern/kern_intr.c, kern_thread.c, subr_trap.c, sched_ule.c, kern_fork.c, vm/vm_glue.c */
FUNCTION(ithread_loop);
FUNCTION(thread_suspend_switch);
FUNCTION(thread_suspend_check);
FUNCTION(ast);
FUNCTION(sched_idletd);
FUNCTION(cpu_idle);
FUNCTION(cpustop_handler);
FUNCTION(fork_exit);
FUNCTION(swapper);

/* sys/kern/kern_exit.c, kern_sig.c, kern_shutdown.c, subr_kdb.c, kern_sysctl.c */
FUNCTION(kern_wait6);
FUNCTION(kern_sigsuspend);
FUNCTION(vpanic);
FUNCTION(panic);
FUNCTION(kdb_enter);
FUNCTION(userland_sysctl);
FUNCTION(doadump);

#if defined(__i386__)
FUNCTION(syscall);
#elif defined(__arm__)
FUNCTION(swi_handler);
FUNCTION(abort_handler);
#endif

/* sys/kern/kern_jail.c (14.0 and later): an array of addresses behind a header. */
struct prison_ip {
	struct epoch_context ctx;
	uint32_t ips;
	char pr_ip[];
};

void
retain_jail_types(void *pointer)
{
	RETAIN(struct prison_ip);
}
