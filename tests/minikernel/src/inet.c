/* IPv4, IPv6 and what runs over them; packet filters and IPsec. */
#include "kernel.h"

/* --- sys/netinet/in.c, ip_input.c, ip_icmp.c, if_ether.c (14.0) --- */

VNET_DEFINE(struct in_ifaddrhead, in_ifaddrhead);
VNET_DEFINE(struct in_ifaddrhashhead *, in_ifaddrhashtbl);
VNET_DEFINE(u_long, in_ifaddrhmask);
VNET_DEFINE(int, ipforwarding);
VNET_DEFINE(int, ip_defttl) = IPDEFTTL;
VNET_DEFINE(struct socket *, ip_mrouter);
VNET_PCPUSTAT_DEFINE(struct ipstat, ipstat);
VNET_DEFINE_STATIC(int, arpt_keep) = 20 * 60;
FUNCTION(icmp_input);
FUNCTION(igmp_input);
FUNCTION(tcp_input);
FUNCTION(udp_input);
FUNCTION(rip_input);
FUNCTION(rip6_input);
FUNCTION(icmp6_input);
FUNCTION(tcp6_input);
FUNCTION(udp6_input);
FUNCTION(frag6_input);
FUNCTION(tcp_ctlinput);
FUNCTION(udp_ctlinput);
FUNCTION(rip_ctlinput);
/* 14.0: arrays of functions; before, indexes into inetsw. */
ipproto_input_t *ip_protox[IPPROTO_MAX] = {
	[0 ... IPPROTO_MAX - 1] = POINTER(rip_input),
	[IPPROTO_ICMP] = POINTER(icmp_input),
	[IPPROTO_IGMP] = POINTER(igmp_input),
	[IPPROTO_TCP] = POINTER(tcp_input),
	[IPPROTO_UDP] = POINTER(udp_input),
};
ipproto_ctlinput_t *ip_ctlprotox[IPPROTO_MAX] = {
	[0 ... IPPROTO_MAX - 1] = POINTER(rip_ctlinput),
	[IPPROTO_TCP] = POINTER(tcp_ctlinput),
	[IPPROTO_UDP] = POINTER(udp_ctlinput),
};

/* --- sys/netinet6/in6_ifattach.c, ip6_input.c, nd6.c, nd6_rtr.c (14.0) --- */

VNET_DEFINE(struct in6_ifaddrhead, in6_ifaddrhead);
VNET_DEFINE(struct in6_ifaddrlisthead *, in6_ifaddrhashtbl);
VNET_DEFINE(u_long, in6_ifaddrhmask);
VNET_DEFINE(int, ip6_forwarding);
VNET_DEFINE(struct nd_prhead, nd_prefix);
TAILQ_HEAD(nd6_drhead, nd_defrouter);
VNET_DEFINE_STATIC(struct nd6_drhead, nd6_defrouter);
VNET_DEFINE(struct rwlock, nd6_lock);
ip6proto_input_t *ip6_protox[IPPROTO_MAX] = {
	[0 ... IPPROTO_MAX - 1] = POINTER(rip6_input),
	[IPPROTO_ICMPV6] = POINTER(icmp6_input),
	[IPPROTO_TCP] = POINTER(tcp6_input),
	[IPPROTO_UDP] = POINTER(udp6_input),
	[IPPROTO_FRAGMENT] = POINTER(frag6_input),
};

/* --- sys/netinet/tcp_subr.c, tcp_syncache.c, udp_usrreq.c, raw_ip.c, in_pcb.c (14.0) --- */

VNET_DEFINE(struct inpcbinfo, tcbinfo);
VNET_DEFINE(struct inpcbinfo, udbinfo);
VNET_DEFINE(struct inpcbinfo, ulitecbinfo);
VNET_DEFINE(struct inpcbinfo, ripcbinfo);
VNET_DEFINE(uint32_t, in_pcbhashseed);
VNET_DEFINE(int, ipport_firstauto) = IPPORT_EPHEMERALFIRST;
VNET_DEFINE(int, ipport_lastauto) = IPPORT_EPHEMERALLAST;
VNET_DEFINE_STATIC(struct tcp_syncache, tcp_syncache);
VNET_DEFINE(int, tcp_mssdflt) = TCP_MSS;
VNET_DEFINE(int, tcp_sendspace) = 1024 * 32;
VNET_DEFINE(int, tcp_recvspace) = 1024 * 64;
VNET_PCPUSTAT_DEFINE(struct tcpstat, tcpstat);
VNET_DEFINE(counter_u64_t, tcps_states[TCP_NSTATES]);
FUNCTION(tcp_default_fb_init);
FUNCTION(tcp_do_segment);
FUNCTION(tcp_default_output);
FUNCTION(tcp_default_ctloutput);
FUNCTION(tcp_timer_activate);
struct tcp_funchead t_functions = TAILQ_HEAD_INITIALIZER(t_functions);
static struct tcp_function_block tcp_def_funcblk = {
	.tfb_tcp_block_name = "freebsd",
	.tfb_tcp_output = POINTER(tcp_default_output),
	.tfb_tcp_do_segment = POINTER(tcp_do_segment),
	.tfb_tcp_ctloutput = POINTER(tcp_default_ctloutput),
	.tfb_tcp_fb_init = POINTER(tcp_default_fb_init),
};
VNET_DEFINE_STATIC(struct tcp_function_block *, tcp_func_set_ptr) = &tcp_def_funcblk;

/* --- sys/netinet/cc/cc.c, cc_cubic.c, cc_newreno.c (14.0: cubic is the default) --- */

#define CC_ALGORITHM(algorithm) \
	FUNCTION(algorithm##_cb_init); \
	FUNCTION(algorithm##_ack_received); \
	FUNCTION(algorithm##_cong_signal); \
	FUNCTION(algorithm##_post_recovery); \
	struct cc_algo algorithm##_cc_algo = { \
		.name = #algorithm, \
		.cb_init = POINTER(algorithm##_cb_init), \
		.ack_received = POINTER(algorithm##_ack_received), \
		.cong_signal = POINTER(algorithm##_cong_signal), \
		.post_recovery = POINTER(algorithm##_post_recovery), \
	}
CC_ALGORITHM(cubic);
CC_ALGORITHM(newreno);
struct cc_head cc_list = STAILQ_HEAD_INITIALIZER(cc_list);
struct rwlock cc_list_lock;
VNET_DEFINE(struct cc_algo *, default_cc_ptr) = &cubic_cc_algo;

/* --- sys/netinet/ip_divert.c (14.0: its own control block) --- */

#define DIVHASHSIZE 8
struct divcb {
	union {
		SLIST_ENTRY(divcb) dcb_next;
		intptr_t dcb_bound;
	};
	struct socket *dcb_socket;
	uint16_t dcb_port;
	uint64_t dcb_gencnt;
	struct epoch_context dcb_epochctx;
};
SLIST_HEAD(divhashhead, divcb);
VNET_DEFINE_STATIC(struct divhashhead, divhash[DIVHASHSIZE]);
VNET_DEFINE_STATIC(uint64_t, dcb_count);
VNET_DEFINE_STATIC(uint64_t, dcb_gencnt);

/* --- sys/netpfil/pf/pf.c, pf_ioctl.c, pf_ruleset.c, pf_table.c (14.3; GENERIC has pf as a module) --- */

VNET_DEFINE(u_long, pf_hashmask);
VNET_DEFINE(u_long, pf_srchashmask);
VNET_DEFINE(struct pf_keyhash *, pf_keyhash);
VNET_DEFINE(struct pf_idhash *, pf_idhash);
VNET_DEFINE(struct pf_srchash *, pf_srchash);
VNET_DEFINE(struct pf_kstatus, pf_status);
VNET_DEFINE(struct pf_krule, pf_default_rule);
VNET_DEFINE(struct pf_kanchor, pf_main_anchor);
VNET_DEFINE(struct pf_kanchor_global, pf_anchors);
VNET_DEFINE(struct pf_limit, pf_limits[PF_LIMIT_MAX]);
VNET_DEFINE(uma_zone_t, pf_state_z);
VNET_DEFINE(uma_zone_t, pf_state_key_z);
VNET_DEFINE(struct pfi_kkif *, pfi_all);
VNET_DEFINE_STATIC(struct pfr_ktablehead, pfr_ktables);

/* --- sys/netipsec/key.c, keysock.c (14.0) --- */

TAILQ_HEAD(secpolicy_queue, secpolicy);
LIST_HEAD(secpolicy_list, secpolicy);
VNET_DEFINE_STATIC(struct secpolicy_queue, sptree[IPSEC_DIR_MAX]);
VNET_DEFINE_STATIC(struct secpolicy_queue, sptree_ifnet[IPSEC_DIR_MAX]);
TAILQ_HEAD(secashead_queue, secashead);
LIST_HEAD(secashead_list, secashead);
VNET_DEFINE_STATIC(struct secashead_queue, sahtree);
LIST_HEAD(secasvar_list, secasvar);
VNET_DEFINE_STATIC(struct secasvar_list *, savhashtbl);
VNET_DEFINE_STATIC(u_long, savhash_mask);

void
inet_types(void *pointer)
{
	RETAIN(struct divcb);
	RETAIN(struct tcpcb);
	RETAIN(struct udpcb);
	RETAIN(struct syncache);
	RETAIN(struct secasvar);
	RETAIN(struct secashead);
	RETAIN(struct secpolicy);
	RETAIN(struct pf_kstate);
	RETAIN(struct pf_krule);
}
