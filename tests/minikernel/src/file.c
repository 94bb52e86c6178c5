/* Open files: descriptor tables and the objects behind each type of file; ttys and character devices. */
#include "kernel.h"

/* --- sys/kern/kern_descrip.c (13.0) --- */

#define NDFILE 20
#define NDSLOTSIZE sizeof(NDSLOTTYPE)
#define NDENTRIES (NDSLOTSIZE * __CHAR_BIT)
#define NDSLOTS(x) (((x) + NDENTRIES - 1) / NDENTRIES)
struct freetable {
	struct fdescenttbl *ft_table;
	SLIST_ENTRY(freetable) ft_next;
};
struct fdescenttbl0 {
	int fdt_nfiles;
	struct filedescent fdt_ofiles[NDFILE];
};
struct filedesc0 {
	struct filedesc fd_fd;
	SLIST_HEAD(, freetable) fd_free;
	struct fdescenttbl0 fd_dfiles;
	NDSLOTTYPE fd_dmap[NDSLOTS(NDFILE)];
};
static uma_zone_t __read_mostly file_zone __used;
static uma_zone_t __read_mostly filedesc0_zone __used;
uma_zone_t __read_mostly pwd_zone;
volatile int __exclusive_cache_line openfiles;
struct mtx sigio_lock;

/* --- the fileops of each type of file: the .c file of its name (15.0 made them const) --- */

#if RELEASE >= 15
#define FILEOPS_CONST const
#else
#define FILEOPS_CONST
#endif
#define FILEOPS(qualifiers, table, read, write, prefix) \
	FUNCTION(read); \
	FUNCTION(write); \
	FUNCTION(prefix##_ioctl); \
	FUNCTION(prefix##_poll); \
	FUNCTION(prefix##_kqfilter); \
	FUNCTION(prefix##_stat); \
	FUNCTION(prefix##_close); \
	qualifiers FILEOPS_CONST struct fileops table __used = { \
		.fo_read = POINTER(read), \
		.fo_write = POINTER(write), \
		.fo_ioctl = POINTER(prefix##_ioctl), \
		.fo_poll = POINTER(prefix##_poll), \
		.fo_kqfilter = POINTER(prefix##_kqfilter), \
		.fo_stat = POINTER(prefix##_stat), \
		.fo_close = POINTER(prefix##_close), \
		.fo_flags = DFLAG_PASSABLE, \
	}
FILEOPS(, badfileops, badfo_readwrite, badfo_readwrite, badfo);
FILEOPS(, path_fileops, badfo_readwrite, badfo_readwrite, vn_path);
FILEOPS(, vnops, vn_io_fault, vn_io_fault, vn);
FILEOPS(, socketops, soo_read, soo_write, soo);
FILEOPS(, pipeops, pipe_read, pipe_write, pipe);
FILEOPS(, shm_ops, shm_read, shm_write, shm);
FILEOPS(static, kqueueops, invfo_rdwr, invfo_rdwr, kqueue);
FILEOPS(static, ksem_ops, invfo_rdwr, invfo_rdwr, ksem);
FILEOPS(static, ptsdev_ops, ptsdev_read, ptsdev_write, ptsdev);
FILEOPS(static, eventfdops, eventfd_read, eventfd_write, eventfd);
FILEOPS(static, timerfdops, timerfd_read, timerfd_write, timerfd);
FILEOPS(static, mqueueops, invfo_rdwr, invfo_rdwr, mqf);
FILEOPS(static, cryptofops, invfo_rdwr, invfo_rdwr, cryptof);
FILEOPS(static, devfs_ops_f, devfs_read_f, devfs_write_f, devfs_f);
#if RELEASE >= 15
FILEOPS(static, inotifyfdops, inotify_read, inotify_write, inotify);
#endif

/* --- sys/kern/sys_pipe.c, kern_event.c (14.0) --- */

static uma_zone_t pipe_zone __used;
static uma_zone_t knote_zone __used;
FUNCTION(filt_fileattach);
FUNCTION(filt_procattach);
FUNCTION(filt_procdetach);
FUNCTION(filt_proc);
FUNCTION(filt_timerattach);
FUNCTION(filt_timerdetach);
FUNCTION(filt_timer);
FUNCTION(filt_userattach);
FUNCTION(filt_userdetach);
FUNCTION(filt_user);
FUNCTION(filt_sigattach);
FUNCTION(filt_sigdetach);
FUNCTION(filt_signal);
#if RELEASE >= 15
#define FILTEROPS_CONST const
#else
#define FILTEROPS_CONST
#endif
static FILTEROPS_CONST struct filterops file_filtops = { .f_isfd = 1, .f_attach = POINTER(filt_fileattach) };
static FILTEROPS_CONST struct filterops proc_filtops = {
	.f_isfd = 0,
	.f_attach = POINTER(filt_procattach),
	.f_detach = POINTER(filt_procdetach),
	.f_event = POINTER(filt_proc),
};
FILTEROPS_CONST struct filterops sig_filtops = {
	.f_isfd = 0,
	.f_attach = POINTER(filt_sigattach),
	.f_detach = POINTER(filt_sigdetach),
	.f_event = POINTER(filt_signal),
};
static FILTEROPS_CONST struct filterops timer_filtops = {
	.f_isfd = 0,
	.f_attach = POINTER(filt_timerattach),
	.f_detach = POINTER(filt_timerdetach),
	.f_event = POINTER(filt_timer),
};
static FILTEROPS_CONST struct filterops user_filtops = {
	.f_attach = POINTER(filt_userattach),
	.f_detach = POINTER(filt_userdetach),
	.f_event = POINTER(filt_user),
};
static struct {
	FILTEROPS_CONST struct filterops *for_fop;
	int for_nolock;
	int for_refcnt;
} sysfilt_ops[EVFILT_SYSCOUNT] __used = {
	[~EVFILT_READ] = { (void *)&file_filtops, 1 },
	[~EVFILT_WRITE] = { (void *)&file_filtops, 1 },
	[~EVFILT_VNODE] = { (void *)&file_filtops, 1 },
	[~EVFILT_PROC] = { (void *)&proc_filtops, 1 },
	[~EVFILT_SIGNAL] = { (void *)&sig_filtops, 1 },
	[~EVFILT_TIMER] = { (void *)&timer_filtops, 1 },
	[~EVFILT_USER] = { (void *)&user_filtops, 1 },
};

/* --- sys/kern/uipc_shm.c, uipc_sem.c (14.0) --- */

struct shm_mapping {
	char *sm_path;
	Fnv32_t sm_fnv;
	struct shmfd *sm_shmfd;
	LIST_ENTRY(shm_mapping) sm_link;
};
static LIST_HEAD(, shm_mapping) *shm_dictionary __used;
static u_long shm_hash __used;
static struct mtx shm_timestamp_lock __used;
struct ksem_mapping {
	char *km_path;
	Fnv32_t km_fnv;
	struct ksem *km_ksem;
	LIST_ENTRY(ksem_mapping) km_link;
};
static LIST_HEAD(, ksem_mapping) *ksem_dictionary __used;
static u_long ksem_hash __used;
static int nsems __used;

/* --- sys/kern/uipc_mqueue.c (14.0) --- */

#define MQFS_NAMELEN NAME_MAX
struct mqfs_vdata {
	LIST_ENTRY(mqfs_vdata) mv_link;
	struct mqfs_node *mv_node;
	struct vnode *mv_vnode;
	struct task mv_task;
};
typedef enum { mqfstype_none = 0, mqfstype_root, mqfstype_dir, mqfstype_this, mqfstype_parent, mqfstype_file,
	mqfstype_symlink } mqfs_type_t;
struct mqfs_node {
	char mn_name[MQFS_NAMELEN + 1];
	struct mqfs_info *mn_info;
	struct mqfs_node *mn_parent;
	LIST_HEAD(, mqfs_node) mn_children;
	LIST_ENTRY(mqfs_node) mn_sibling;
	LIST_HEAD(, mqfs_vdata) mn_vnodes;
	const void *mn_pr_root;
	int mn_refcount;
	mqfs_type_t mn_type;
	int mn_deleted;
	uint32_t mn_fileno;
	void *mn_data;
	struct timespec mn_birth;
	struct timespec mn_ctime;
	struct timespec mn_atime;
	struct timespec mn_mtime;
	uid_t mn_uid;
	gid_t mn_gid;
	int mn_mode;
};
struct mqfs_info {
	struct sx mi_lock;
	struct mqfs_node *mi_root;
	struct unrhdr *mi_unrhdr;
};
struct mqueue_msg {
	TAILQ_ENTRY(mqueue_msg) msg_link;
	unsigned int msg_prio;
	unsigned int msg_size;
};
struct mqueue {
	struct mtx mq_mutex;
	int mq_flags;
	long mq_maxmsg;
	long mq_msgsize;
	long mq_curmsgs;
	long mq_totalbytes;
	TAILQ_HEAD(msgq, mqueue_msg) mq_msgq;
	int mq_receivers;
	int mq_senders;
	struct selinfo mq_rsel;
	struct selinfo mq_wsel;
	struct mqueue_notifier *mq_notifier;
};
static struct mqfs_info mqfs_data __used;
static uma_zone_t mqnode_zone __used;
static uma_zone_t mqueue_zone __used;

/* --- sys/kern/sys_eventfd.c, sys_timerfd.c (14.0) --- */

struct eventfd {
	eventfd_t efd_count;
	uint32_t efd_flags;
	struct selinfo efd_sel;
	struct mtx efd_lock;
	unsigned int efd_refcount;
};
struct timerfd {
	struct itimerspec tfd_time;
	clockid_t tfd_clockid;
	int tfd_flags;
	int tfd_timflags;
	timerfd_t tfd_count;
	bool tfd_expired;
	struct mtx tfd_lock;
	struct callout tfd_callout;
	struct selinfo tfd_sel;
	struct timespec tfd_boottim;
	int tfd_jumped;
	LIST_ENTRY(timerfd) entry;
	ino_t tfd_ino;
	struct timespec tfd_atim;
	struct timespec tfd_mtim;
	struct timespec tfd_birthtim;
};
static LIST_HEAD(, timerfd) timerfd_head __used = LIST_HEAD_INITIALIZER(timerfd_head);

/* --- sys/kern/sysv_shm.c, sysv_sem.c, sysv_msg.c (14.0) --- */

static struct shmid_kernel *shmsegs __used;
static int shmalloced __used;
static int shm_nused __used;
static int semtot __used;
static struct semid_kernel *sema __used;
static int nfree_msgmaps __used;
static struct msqid_kernel *msqids __used;

/* --- sys/kern/tty.c, tty_inq.c, tty_outq.c, tty_pts.c (14.0) --- */

static TAILQ_HEAD(, tty) tty_list __used = TAILQ_HEAD_INITIALIZER(tty_list);
static unsigned int tty_list_count __used;
struct tty *constty;
struct msgbuf consmsgbuf;
#define BMSIZE 32
#define TTYINQ_QUOTESIZE (TTYINQ_DATASIZE / BMSIZE)
struct ttyinq_block {
	struct ttyinq_block *tib_prev;
	struct ttyinq_block *tib_next;
	uint32_t tib_quotes[TTYINQ_QUOTESIZE];
	char tib_data[TTYINQ_DATASIZE];
};
static uma_zone_t ttyinq_zone __used;
struct ttyoutq_block {
	struct ttyoutq_block *tob_next;
	char tob_data[TTYOUTQ_DATASIZE];
};
static uma_zone_t ttyoutq_zone __used;
struct pts_softc {
	int pts_unit;
	unsigned int pts_flags;
	char pts_pkt;
	struct selinfo pts_inpoll;
	struct selinfo pts_outpoll;
	struct ucred *pts_cred;
};
static struct unrhdr *pts_pool __used;
FUNCTION(ptsdrv_outwakeup);
FUNCTION(ptsdrv_inwakeup);
FUNCTION(ptsdrv_open);
FUNCTION(ptsdrv_close);
FUNCTION(ptsdrv_pktnotify);
FUNCTION(ptsdrv_free);
static struct ttydevsw pts_class __used = {
	.tsw_flags = TF_NOPREFIX,
	.tsw_outwakeup = POINTER(ptsdrv_outwakeup),
	.tsw_inwakeup = POINTER(ptsdrv_inwakeup),
	.tsw_open = POINTER(ptsdrv_open),
	.tsw_close = POINTER(ptsdrv_close),
	.tsw_pktnotify = POINTER(ptsdrv_pktnotify),
	.tsw_free = POINTER(ptsdrv_free),
};

/* --- character devices: kern/tty.c, dev/null/null.c, dev/mem/memdev.c, net/bpf.c, kern/kern_cons.c --- */

#define CDEVSW(table, name, prefix) \
	FUNCTION(prefix##_dev_open); \
	FUNCTION(prefix##_dev_close); \
	FUNCTION(prefix##_dev_read); \
	FUNCTION(prefix##_dev_write); \
	FUNCTION(prefix##_dev_ioctl); \
	static struct cdevsw table __used = { \
		.d_version = D_VERSION, \
		.d_name = name, \
		.d_open = POINTER(prefix##_dev_open), \
		.d_close = POINTER(prefix##_dev_close), \
		.d_read = POINTER(prefix##_dev_read), \
		.d_write = POINTER(prefix##_dev_write), \
		.d_ioctl = POINTER(prefix##_dev_ioctl), \
	}
CDEVSW(ttydev_cdevsw, "ttydev", tty);
CDEVSW(null_cdevsw, "null", null);
CDEVSW(zero_cdevsw, "zero", zero);
CDEVSW(mem_cdevsw, "mem", mem);
CDEVSW(bpf_cdevsw, "bpf", bpf);
CDEVSW(klog_cdevsw, "klog", klog);
CDEVSW(g_dev_cdevsw, "g_dev", geom);

/* --- private types that no variable above shows --- */

void
file_types(void *pointer)
{
	RETAIN(struct filedesc0);
	RETAIN(struct fdescenttbl0);
	RETAIN(struct freetable);
	RETAIN(struct eventfd);
	RETAIN(struct timerfd);
	RETAIN(struct ttyinq_block);
	RETAIN(struct ttyoutq_block);
	RETAIN(struct pts_softc);
	RETAIN(struct mqueue);
	RETAIN(struct mqueue_msg);
}
