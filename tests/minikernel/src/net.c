/* The network stack below the transport protocols: vnets, interfaces, neighbours, routes, hooks, sockets' domains. */
#include "kernel.h"

/* --- sys/net/vnet.c (14.0; VIMAGE is in GENERIC since 12.0) --- */

struct vnet_list_head vnet_head;
struct vnet *vnet0;
struct rwlock vnet_rwlock;
struct sx vnet_sxlock;
struct vnet_data_free {
	uintptr_t vnd_start;
	int vnd_len;
	TAILQ_ENTRY(vnet_data_free) vnd_link;
};
static TAILQ_HEAD(, vnet_data_free) vnet_data_free_head __used = TAILQ_HEAD_INITIALIZER(vnet_data_free_head);
#define VNET_MODMIN (8 * PAGE_SIZE)
/* The spare room that loaded modules' sets are copied to. */
VNET_DEFINE_STATIC(char, modspace[VNET_MODMIN]) __aligned(__alignof(void *));

/* --- sys/net/if.c (14.0: one index table for all vnets) --- */

VNET_DEFINE(struct ifnethead, ifnet);
VNET_DEFINE(struct ifgrouphead, ifg_head);
VNET_DEFINE(if_t, loif);
struct ifindex_entry {
	struct ifnet *ife_ifnet;
	uint16_t ife_gencnt;
};
static struct ifindex_entry *ifindex_table __used;
static int if_index __used;
static int if_indexlim __used = 8;
struct sx ifnet_sxlock;
struct sx ifnet_detach_sxlock;
int ifqmaxlen = 50;
FUNCTION(ether_input);
FUNCTION(ether_output);
FUNCTION(ether_transmit);
FUNCTION(if_start);
FUNCTION(lo_output);
FUNCTION(loioctl);
void (*lagg_linkstate_p)(struct ifnet *, int);
struct mbuf *(*lagg_input_ethernet_p)(struct ifnet *, struct mbuf *);
void (*bridge_dn_p)(struct mbuf *, struct ifnet *);
void (*vlan_input_p)(struct ifnet *, struct mbuf *);
void (*ng_ether_input_p)(struct ifnet *, struct mbuf **);
int (*ng_ether_output_p)(struct ifnet *, struct mbuf **);
int (*carp_output_p)(struct ifnet *, struct mbuf *, const struct sockaddr *);

/* --- sys/net/if_clone.c, if_loop.c (14.0) --- */

VNET_DEFINE_STATIC(int, if_cloners_count);
VNET_DEFINE_STATIC(LIST_HEAD(, if_clone), if_cloners);

/* --- sys/net/if_llatbl.c (14.0) --- */

VNET_DEFINE_STATIC(SLIST_HEAD(, lltable), lltables) = SLIST_HEAD_INITIALIZER(lltables);

/* --- sys/net/route/route_tables.c, nhop.c, rtsock.c (14.0) --- */

VNET_DEFINE(uint32_t, _rt_numfibs) = RT_MAXFIBS < 1 ? RT_MAXFIBS : 1;
VNET_DEFINE_STATIC(struct rib_head **, rt_tables);
VNET_DEFINE(u_int, rt_add_addr_allfibs);
struct rcb {
	LIST_ENTRY(rcb) list;
	struct socket *rcb_socket;
	sa_family_t rcb_family;
};
VNET_DEFINE_STATIC(CK_LIST_HEAD(, rcb), rcb_list);
struct rtbridge *rtsock_callback_p;
struct rtbridge *netlink_callback_p;

/* --- sys/net/pfil.c (13.0 and later: heads, links and hooks) --- */

struct pfil_hook {
	pfil_mbuf_chk_t hook_mbuf_chk;
	pfil_mem_chk_t hook_mem_chk;
	void *hook_ruleset;
	int hook_flags;
	int hook_links;
	enum pfil_types hook_type;
	const char *hook_modname;
	const char *hook_rulname;
	LIST_ENTRY(pfil_hook) hook_list;
};
struct pfil_link {
	CK_STAILQ_ENTRY(pfil_link) link_chain;
	pfil_mbuf_chk_t link_mbuf_chk;
	pfil_mem_chk_t link_mem_chk;
	void *link_ruleset;
	int link_flags;
	struct pfil_hook *link_hook;
	struct epoch_context link_epoch_ctx;
};
typedef CK_STAILQ_HEAD(pfil_chain, pfil_link) pfil_chain_t;
struct pfil_head {
	int head_nhooksin;
	int head_nhooksout;
	pfil_chain_t head_in;
	pfil_chain_t head_out;
	int head_flags;
	enum pfil_types head_type;
	LIST_ENTRY(pfil_head) head_list;
	const char *head_name;
};
LIST_HEAD(pfilheadhead, pfil_head);
VNET_DEFINE_STATIC(struct pfilheadhead, pfil_head_list) = LIST_HEAD_INITIALIZER(pfil_head_list);
LIST_HEAD(pfilhookhead, pfil_hook);
VNET_DEFINE_STATIC(struct pfilhookhead, pfil_hook_list) = LIST_HEAD_INITIALIZER(pfil_hook_list);
VNET_DEFINE(struct pfil_head *, link_pfil_head);
VNET_DEFINE(struct pfil_head *, inet_pfil_head);
VNET_DEFINE(struct pfil_head *, inet_local_pfil_head);
VNET_DEFINE(struct pfil_head *, inet6_pfil_head);
VNET_DEFINE(struct pfil_head *, inet6_local_pfil_head);

/* --- sys/net/bpf.c (13.0 and later) --- */

struct bpf_if {
	struct bpf_if_ext bif_ext;
	u_int bif_dlt;
	u_int bif_hdrlen;
	struct bpfd_list bif_wlist;
	struct ifnet *bif_ifp;
	struct bpf_if **bif_bpf;
	volatile u_int bif_refcnt;
	struct epoch_context epoch_ctx;
};
CK_LIST_HEAD(bpf_iflist_head, bpf_if);
static struct bpf_iflist_head bpf_iflist __used;
static int bpf_bpfd_cnt __used;

/* --- sys/net/netisr.c (14.0) --- */

FUNCTION(ip_input);
FUNCTION(ip6_input);
FUNCTION(igmp_input);
FUNCTION(arpintr);
FUNCTION(ether_nh_input);
FUNCTION(ip_direct_input);
FUNCTION(rts_input);
FUNCTION(epair_nh_sintr);
static struct netisr_proto netisr_proto[NETISR_MAXPROT] __used = {
	[NETISR_IP] = { .np_name = "ip", .np_handler = POINTER(ip_input), .np_qlimit = 256 },
	[NETISR_IGMP] = { .np_name = "igmp", .np_handler = POINTER(igmp_input), .np_qlimit = 256 },
	[NETISR_ROUTE] = { .np_name = "rtsock", .np_handler = POINTER(rts_input), .np_qlimit = 256 },
	[NETISR_ARP] = { .np_name = "arp", .np_handler = POINTER(arpintr), .np_qlimit = 256 },
	[NETISR_ETHER] = { .np_name = "ether", .np_handler = POINTER(ether_nh_input), .np_qlimit = 256 },
	[NETISR_IPV6] = { .np_name = "ip6", .np_handler = POINTER(ip6_input), .np_qlimit = 256 },
	[NETISR_IP_DIRECT] = { .np_name = "ip_direct", .np_handler = POINTER(ip_direct_input), .np_qlimit = 256 },
};
DPCPU_DEFINE(struct netisr_workstream, nws);

/* --- sys/kern/uipc_socket.c, uipc_domain.c (14.0) --- */

static uma_zone_t socket_zone __used;
so_gen_t so_gencnt;
int maxsockets;
u_long sb_max = 2 * 1024 * 1024;
static int numopensockets __used;
int domain_init_status = 1;

#define PROTOSW(name, type, protocol, prefix) \
	FUNCTION(prefix##_attach); \
	FUNCTION(prefix##_detach); \
	FUNCTION(prefix##_connect); \
	FUNCTION(prefix##_send); \
	FUNCTION(prefix##_disconnect); \
	FUNCTION(prefix##_ctloutput); \
	struct protosw name##_protosw = { \
		.pr_type = type, \
		.pr_protocol = protocol, \
		.pr_attach = POINTER(prefix##_attach), \
		.pr_detach = POINTER(prefix##_detach), \
		.pr_connect = POINTER(prefix##_connect), \
		.pr_send = POINTER(prefix##_send), \
		.pr_disconnect = POINTER(prefix##_disconnect), \
		.pr_ctloutput = POINTER(prefix##_ctloutput), \
	}
PROTOSW(tcp, SOCK_STREAM, IPPROTO_TCP, tcp_usr);
PROTOSW(udp, SOCK_DGRAM, IPPROTO_UDP, udp);
PROTOSW(rip, SOCK_RAW, 0, rip);
PROTOSW(tcp6, SOCK_STREAM, IPPROTO_TCP, tcp6_usr);
PROTOSW(udp6, SOCK_DGRAM, IPPROTO_UDP, udp6);
PROTOSW(rip6, SOCK_RAW, 0, rip6);
FUNCTION(uipc_send);
static struct protosw streamproto __used = { .pr_type = SOCK_STREAM, .pr_send = POINTER(uipc_send) };
static struct protosw dgramproto __used = { .pr_type = SOCK_DGRAM, .pr_send = POINTER(uipc_send) };
static struct protosw seqpacketproto __used = { .pr_type = SOCK_SEQPACKET, .pr_send = POINTER(uipc_send) };
struct domain inetdomain = {
	.dom_family = AF_INET,
	.dom_name = "internet",
	.dom_nprotosw = 3,
	.dom_protosw = { &tcp_protosw, &udp_protosw, &rip_protosw },
};
struct domain inet6domain = {
	.dom_family = AF_INET6,
	.dom_name = "internet6",
	.dom_nprotosw = 3,
	.dom_protosw = { &tcp6_protosw, &udp6_protosw, &rip6_protosw },
};
static struct domain localdomain __used = {
	.dom_family = AF_LOCAL,
	.dom_name = "local",
	.dom_nprotosw = 3,
	.dom_protosw = { &streamproto, &dgramproto, &seqpacketproto },
};
struct domainhead domains = SLIST_HEAD_INITIALIZER(domains);

/* --- sys/kern/uipc_usrreq.c (14.0) --- */

static uma_zone_t unp_zone __used;
static unp_gen_t unp_gencnt __used;
static u_int unp_count __used;
static struct unp_head unp_shead __used;
static struct unp_head unp_dhead __used;
static struct unp_head unp_sphead __used;

/* --- sys/netlink/netlink_domain.c, netlink_glue.c (14.0 a pointer; 15.0 the structure itself) --- */

#if RELEASE >= 15
VNET_DEFINE(struct nl_control, nl_ctl);
#else
VNET_DEFINE(struct nl_control *, nl_ctl);
#endif

/* --- sys/netgraph/ng_base.c (14.0; usually a module) --- */

VNET_DEFINE_STATIC(LIST_HEAD(, ng_node) *, ng_ID_hash);
VNET_DEFINE_STATIC(u_long, ng_ID_hmask);
VNET_DEFINE_STATIC(u_long, ng_nodes);
VNET_DEFINE_STATIC(LIST_HEAD(, ng_node) *, ng_name_hash);
VNET_DEFINE_STATIC(u_long, ng_name_hmask);
static LIST_HEAD(, ng_type) ng_typelist __used;

/* --- sys/kern/kern_hhook.c, kern_khelp.c, kern_osd.c (14.0) --- */

struct hhook {
	hhook_func_t hhk_func;
	struct helper *hhk_helper;
	void *hhk_udata;
	STAILQ_ENTRY(hhook) hhk_next;
};
LIST_HEAD(hhookheadhead, hhook_head);
struct hhookheadhead hhook_head_list;
VNET_DEFINE(struct hhookheadhead, hhook_vhead_list);
static TAILQ_HEAD(helper_head, helper) helpers __used = TAILQ_HEAD_INITIALIZER(helpers);

void
net_types(void *pointer)
{
	RETAIN(struct pfil_link);
	RETAIN(struct pfil_hook);
	RETAIN(struct pfil_head);
	RETAIN(struct bpf_if);
	RETAIN(struct rcb);
	RETAIN(struct hhook);
}
