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

/* sys/kern/kern_event.c, vfs_default.c, deadfs/dead_vnops.c, net/bpf.c */
FUNCTION(knlist_mtx_lock);
FUNCTION(knlist_mtx_unlock);
FUNCTION(bpf_dtor);
FUNCTION(vop_ebadf);
FUNCTION(vop_enotdir);
FUNCTION(dead_read);
FUNCTION(dead_write);

/* sys/netinet/if_ether.c, netinet6/nd6.c, tcp_timer.c, net/if.c, if_ethersubr.c, if_loop.c, if_epair.c, if_vtnet.c */
FUNCTION(arptimer);
FUNCTION(nd6_llinfo_timer);
FUNCTION(tcp_timer_enter);
FUNCTION(if_transmit);
FUNCTION(if_qflush);
FUNCTION(if_get_counter_default);
FUNCTION(looutput);
FUNCTION(ether_reassign);
FUNCTION(ether_requestencap);
FUNCTION(ether_resolvemulti);
FUNCTION(epair_init);
FUNCTION(epair_ioctl);
FUNCTION(epair_transmit);
FUNCTION(vtnet_init);
FUNCTION(vtnet_ioctl);
FUNCTION(vtnet_txq_mq_start);

/* sys/net/radix.c, if_llatbl.c */
FUNCTION(rn_addroute);
FUNCTION(rn_delete);
FUNCTION(rn_lookup);
FUNCTION(rn_match);
FUNCTION(rn_walktree);
FUNCTION(rn_walktree_from);
FUNCTION(htable_foreach_entry);
FUNCTION(htable_free_tbl);
FUNCTION(htable_link_entry);
FUNCTION(htable_unlink_entry);

#define LLTABLE_FUNCTIONS(prefix) \
	FUNCTION(prefix##_lltable_alloc); \
	FUNCTION(prefix##_lltable_delete_entry); \
	FUNCTION(prefix##_lltable_destroy_lle); \
	FUNCTION(prefix##_lltable_dump_entry); \
	FUNCTION(prefix##_lltable_fill_sa_entry); \
	FUNCTION(prefix##_lltable_free_entry); \
	FUNCTION(prefix##_lltable_hash); \
	FUNCTION(prefix##_lltable_lookup); \
	FUNCTION(prefix##_lltable_match_prefix)
LLTABLE_FUNCTIONS(in);
LLTABLE_FUNCTIONS(in6);
