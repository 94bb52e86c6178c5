/* Identity, message buffer, environment, sysctl, and the registries of kern/ that fit nowhere else. */
#include "kernel.h"

/* --- vers.c, which sys/conf/newvers.sh makes --- */

#if RELEASE >= 15
#define NUMBER "15.0"
#else
#define NUMBER "14.3"
#endif
#define BANNER "FreeBSD " NUMBER "-RELEASE #0: Thu Jan  1 00:00:00 UTC 1970\n    root@mini:/usr/obj/usr/src/sys/MINI\n"
const char sccs[sizeof("@(#)") + 255] = "@(#)" BANNER;
const char version[256] = BANNER;
const char compiler_version[] = "FreeBSD clang version";
const char osrelease[32] = NUMBER "-RELEASE";
const char ostype[] = "FreeBSD";
const int osreldate = __FreeBSD_version;
const char kern_ident[] = "MINI";
const char copyright[] = "Copyright (c) 1992-2025 The FreeBSD Project.\n";
char kernelname[MAXPATHLEN] = "/boot/kernel/kernel";
int cold = 1;
int vm_guest;
u_long maxphys = 1024 * 1024;
int unmapped_buf_allowed = 1;

/* --- sys/kern/subr_msgbuf.c, subr_prf.c (identical since 10.0) --- */

int msgbufsize = 96 * 1024;
struct msgbuf *msgbufp;
struct mtx msgbuf_lock;
int msgbuftrigger;

/* --- sys/kern/kern_environment.c (14.0; dynamic_kenv is a bool since 13.0) --- */

char **kenvp;
bool dynamic_kenv;
struct mtx kenv_lock;
char *kern_envp;
char *md_envp;
static int md_env_len __used;
static int md_env_pos __used;
char static_env[] = "";
char static_hints[] = "";
static uma_zone_t kenv_zone __used;

/* --- sys/kern/kern_sysctl.c, kern_mib.c (14.0: red-black trees) --- */

struct sysctl_oid_list sysctl__children = RB_INITIALIZER(&sysctl__children);
SYSCTL_ROOT_NODE(CTL_KERN, kern, CTLFLAG_RW | CTLFLAG_CAPRD | CTLFLAG_MPSAFE, 0, "High kernel, proc, limits &c");
SYSCTL_ROOT_NODE(CTL_VM, vm, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "Virtual memory");
SYSCTL_ROOT_NODE(CTL_VFS, vfs, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "File system");
SYSCTL_ROOT_NODE(CTL_NET, net, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "Network, (see socket.h)");
SYSCTL_ROOT_NODE(CTL_HW, hw, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "hardware");
SYSCTL_ROOT_NODE(CTL_MACHDEP, machdep, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "machine dependent");
SYSCTL_ROOT_NODE(OID_AUTO, security, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "Security");
SYSCTL_NODE(_net, PF_INET, inet, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "Internet Family");
SYSCTL_NODE(_net_inet, IPPROTO_IP, ip, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "IP");
SYSCTL_NODE(_security, OID_AUTO, bsd, CTLFLAG_RW | CTLFLAG_MPSAFE, 0, "BSD security policy");
SYSCTL_STRING(_kern, KERN_OSTYPE, ostype, CTLFLAG_RD | CTLFLAG_CAPRD | CTLFLAG_MPSAFE, __DECONST(char *, ostype), 0,
    "Operating system type");
SYSCTL_STRING(_kern, KERN_VERSION, version, CTLFLAG_RD | CTLFLAG_MPSAFE, __DECONST(char *, version), 0,
    "Kernel version");
SYSCTL_STRING(_kern, OID_AUTO, ident, CTLFLAG_RD | CTLFLAG_MPSAFE, __DECONST(char *, kern_ident), 0,
    "Kernel identifier");
SYSCTL_INT(_kern, KERN_MAXPROC, maxproc, CTLFLAG_RDTUN | CTLFLAG_NOFETCH, &maxproc, 0, "Maximum number of processes");
SYSCTL_INT(_kern, KERN_MAXFILES, maxfiles, CTLFLAG_RW, &maxfiles, 0, "Maximum number of files");
SYSCTL_ULONG(_kern, OID_AUTO, ps_arg_cache_limit, CTLFLAG_RWTUN, &ps_arg_cache_limit, 0,
    "Process' command line characters cache limit");
SYSCTL_LONG(_hw, OID_AUTO, physmem_pages, CTLFLAG_RD, &physmem, 0, "Pages of memory");
SYSCTL_INT(_hw, HW_NCPU, ncpu, CTLFLAG_RD | CTLFLAG_CAPRD, &mp_ncpus, 0, "Number of active CPUs");
int unprivileged_read_msgbuf = 1;
SYSCTL_INT(_security_bsd, OID_AUTO, unprivileged_read_msgbuf, CTLFLAG_RW, &unprivileged_read_msgbuf, 0,
    "Unprivileged processes may read the kernel message buffer");
VNET_DECLARE(int, ipforwarding);
SYSCTL_INT(_net_inet_ip, IPCTL_FORWARDING, forwarding, CTLFLAG_VNET | CTLFLAG_RW, &VNET_NAME(ipforwarding), 0,
    "Enable IP forwarding between interfaces");
extern int sysctl_kern_proc_args(SYSCTL_HANDLER_ARGS);
SYSCTL_NODE(_kern, KERN_PROC, proc, CTLFLAG_RD | CTLFLAG_MPSAFE, 0, "Process table");
SYSCTL_PROC(_kern_proc, KERN_PROC_ARGS, args, CTLTYPE_OPAQUE | CTLFLAG_RD | CTLFLAG_MPSAFE, NULL, 0,
    sysctl_kern_proc_args, "", "Process argument list");

/* --- sys/kern/subr_bus.c (14.0: the tag is _device, members are those of 10.0 and later) --- */

typedef TAILQ_HEAD(devclass_list, devclass) devclass_list_t;
typedef TAILQ_HEAD(driver_list, driverlink) driver_list_t;
typedef TAILQ_HEAD(device_list, _device) device_list_t;
struct driverlink {
	kobj_class_t driver;
	TAILQ_ENTRY(driverlink) link;
	int pass;
	int flags;
	TAILQ_ENTRY(driverlink) passlink;
};
struct devclass {
	TAILQ_ENTRY(devclass) link;
	devclass_t parent;
	driver_list_t drivers;
	char *name;
	device_t *devices;
	int maxunit;
	int flags;
	struct sysctl_ctx_list sysctl_ctx;
	struct sysctl_oid *sysctl_tree;
};
struct _device {
	KOBJ_FIELDS;
	TAILQ_ENTRY(_device) link;
	TAILQ_ENTRY(_device) devlink;
	device_t parent;
	device_list_t children;
	driver_t *driver;
	devclass_t devclass;
	int unit;
	char *nameunit;
	char *desc;
	u_int busy;
	device_state_t state;
	uint32_t devflags;
	u_int flags;
	u_int order;
	void *ivars;
	void *softc;
	LIST_HEAD(, device_prop_elm) props;
	struct sysctl_ctx_list sysctl_ctx;
	struct sysctl_oid *sysctl_tree;
};
device_t root_bus;
static device_list_t bus_data_devices __used;
static int bus_data_generation __used = 1;
static devclass_list_t devclasses __used = TAILQ_HEAD_INITIALIZER(devclasses);

/* --- sys/geom/geom_subr.c, sys/geom/eli/g_eli.c (14.0) --- */

struct class_list_head g_classes = LIST_HEAD_INITIALIZER(g_classes);
static struct g_tailq_head geoms __used = TAILQ_HEAD_INITIALIZER(geoms);
struct sx topology_lock;
int g_debugflags;
static char cached_passphrase[256] __used;

/* --- sys/kern/kern_cons.c, kern_et.c, kern_fail.c --- */

static STAILQ_HEAD(, cn_device) cn_devlist __used = STAILQ_HEAD_INITIALIZER(cn_devlist);
struct cn_device {
	STAILQ_ENTRY(cn_device) cnd_next;
	struct consdev *cnd_cn;
};
static struct cn_device cn_devtab[16] __used;
int cn_mute;

/* --- sys/security/audit/audit.c, audit_pipe.c; sys/security/mac/mac_policy.h, mac_framework.c (14.0) --- */

struct kaudit_queue audit_q;
int audit_q_len;
struct vnode *audit_vp;
struct mac_policy_conf {
	const char *mpc_name;
	const char *mpc_fullname;
	struct mac_policy_ops *mpc_ops;
	int mpc_loadtime_flags;
	int *mpc_field_off;
	int mpc_runtime_flags;
	int _mpc_spare1;
	uint64_t _mpc_spare2;
	uint64_t _mpc_spare3;
	void *_mpc_spare4;
	LIST_ENTRY(mac_policy_conf) mpc_list;
};
LIST_HEAD(mac_policy_list_head, mac_policy_conf);
struct mac_policy_list_head mac_policy_list;
struct mac_policy_list_head mac_static_policy_list;
u_int mac_policy_count;

void
kern_types(void *pointer)
{
	RETAIN(struct _device);
	RETAIN(struct devclass);
	RETAIN(struct driverlink);
	RETAIN(struct mac_policy_conf);
	RETAIN(struct keybuf);
}
