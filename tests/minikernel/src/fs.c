/* File systems: name cache, vnodes, mounts and what individual file systems keep. */
#include "kernel.h"

/* --- sys/kern/vfs_cache.c (14.0: nc_hash moved behind nc_dst) --- */

struct negstate {
	u_char neg_flag;
	u_char neg_hit;
};
struct namecache {
	LIST_ENTRY(namecache) nc_src;
	TAILQ_ENTRY(namecache) nc_dst;
	CK_SLIST_ENTRY(namecache) nc_hash;
	struct vnode *nc_dvp;
	union {
		struct vnode *nu_vp;
		struct negstate nu_neg;
	} n_un;
	u_char nc_flag;
	u_char nc_nlen;
	char nc_name[];
};
struct namecache_ts {
	struct timespec nc_time;
	struct timespec nc_dotdottime;
	int nc_ticks;
	int nc_pad;
	struct namecache nc_nc;
};
#define NUMNEGLISTS 16
struct neglist {
	struct mtx nl_evict_lock;
	struct mtx nl_lock __aligned(CACHE_LINE_SIZE);
	TAILQ_HEAD(, namecache) nl_list;
	TAILQ_HEAD(, namecache) nl_hotlist;
	u_long nl_hotnum;
} __aligned(CACHE_LINE_SIZE);
static struct neglist neglists[NUMNEGLISTS] __used;
CK_SLIST_HEAD(nchashhead, namecache);
static struct nchashhead *nchashtbl __used;
static u_long nchash __used;
static u_long numneg __used;
static u_long numcache __used;
static uma_zone_t cache_zone_small __used;
static uma_zone_t cache_zone_small_ts __used;
static uma_zone_t cache_zone_large __used;
static uma_zone_t cache_zone_large_ts __used;

/* --- sys/kern/vfs_subr.c, vfs_mount.c, vfs_init.c, vfs_lookup.c (14.0) --- */

static TAILQ_HEAD(freelst, vnode) vnode_list __used = TAILQ_HEAD_INITIALIZER(vnode_list);
static struct vnode *vnode_list_free_marker __used;
static struct vnode *vnode_list_reclaim_marker __used;
static uma_zone_t vnode_zone __used;
static uma_zone_t vnodepoll_zone __used;
static uma_zone_t buf_trie_zone __used;
static u_long __exclusive_cache_line numvnodes __used;
static u_long freevnodes __used;
u_long desiredvnodes = 100000;
struct vnode *rootvnode;
struct mount *rootdevmp;
struct mntlist mountlist = TAILQ_HEAD_INITIALIZER(mountlist);
struct mtx_padalign __exclusive_cache_line mountlist_mtx;
static uma_zone_t mount_zone __used;
struct uma_zone *namei_zone;
int maxvfsconf = VFS_GENERIC + 1;

/* --- VFS operation vectors and the file systems' switches: each sys/fs/..., sys/ufs/... file of its name --- */

FUNCTION(vop_eopnotsupp);
FUNCTION(vop_panic);
FUNCTION(dead_lookup);
FUNCTION(fifo_open);
FUNCTION(fifo_close);
FUNCTION(ufs_lookup);
FUNCTION(ufs_getattr);
FUNCTION(ffs_read);
FUNCTION(ffs_write);
FUNCTION(ffs_getpages);
FUNCTION(devfs_lookupx);
FUNCTION(devfs_open);
FUNCTION(devfs_close);
FUNCTION(devfs_readdir);
FUNCTION(null_bypass);
FUNCTION(null_lookup);
FUNCTION(tmpfs_read);
FUNCTION(tmpfs_write);
FUNCTION(tmpfs_readdir);
FUNCTION(vfs_cache_lookup);

#define STANDARD_VOPS \
	.vop_access = vop_stdaccess, \
	.vop_accessx = vop_stdaccessx, \
	.vop_advise = vop_stdadvise, \
	.vop_advlock = vop_stdadvlock, \
	.vop_advlockasync = vop_stdadvlockasync, \
	.vop_advlockpurge = vop_stdadvlockpurge, \
	.vop_allocate = vop_stdallocate, \
	.vop_bmap = vop_stdbmap, \
	.vop_getpages = vop_stdgetpages, \
	.vop_getwritemount = vop_stdgetwritemount, \
	.vop_inactive = vop_stdinactive, \
	.vop_ioctl = vop_stdioctl, \
	.vop_islocked = vop_stdislocked, \
	.vop_kqfilter = vop_stdkqfilter, \
	.vop_lock1 = vop_stdlock, \
	.vop_need_inactive = vop_stdneed_inactive, \
	.vop_pathconf = vop_stdpathconf, \
	.vop_poll = vop_stdpoll, \
	.vop_putpages = vop_stdputpages, \
	.vop_unlock = vop_stdunlock, \
	.vop_vptocnp = vop_stdvptocnp, \
	.vop_vptofh = vop_stdvptofh, \
	.vop_unp_bind = vop_stdunp_bind, \
	.vop_unp_connect = vop_stdunp_connect, \
	.vop_unp_detach = vop_stdunp_detach, \
	.vop_set_text = vop_stdset_text, \
	.vop_deallocate = vop_stddeallocate, \
	.registered = true

/* Since 13.0 registration fills the slots that a vector inherits, so they are never NULL in memory. */
struct vop_vector default_vnodeops = {
	.vop_bypass = POINTER(vop_eopnotsupp),
	STANDARD_VOPS,
};
struct vop_vector dead_vnodeops = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_lookup = POINTER(dead_lookup),
};
struct vop_vector fifo_specops = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_open = POINTER(fifo_open),
	.vop_close = POINTER(fifo_close),
	.vop_create = POINTER(vop_panic),
};
struct vop_vector ufs_vnodeops = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_lookup = POINTER(vfs_cache_lookup),
	.vop_cachedlookup = POINTER(ufs_lookup),
	.vop_getattr = POINTER(ufs_getattr),
};
#define FFS_VECTOR(name) \
	struct vop_vector name = { \
		.vop_default = &ufs_vnodeops, \
		STANDARD_VOPS, \
		.vop_lookup = POINTER(vfs_cache_lookup), \
		.vop_cachedlookup = POINTER(ufs_lookup), \
		.vop_getattr = POINTER(ufs_getattr), \
		.vop_read = POINTER(ffs_read), \
		.vop_write = POINTER(ffs_write), \
	}
FFS_VECTOR(ffs_vnodeops1);
FFS_VECTOR(ffs_vnodeops2);
FFS_VECTOR(ffs_fifoops1);
FFS_VECTOR(ffs_fifoops2);
static struct vop_vector devfs_vnodeops __used = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_lookup = POINTER(devfs_lookupx),
	.vop_readdir = POINTER(devfs_readdir),
};
struct vop_vector devfs_specops = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_open = POINTER(devfs_open),
	.vop_close = POINTER(devfs_close),
};
struct vop_vector null_vnodeops = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_bypass = POINTER(null_bypass),
	.vop_lookup = POINTER(null_lookup),
};
struct vop_vector tmpfs_vnodeop_entries = {
	.vop_default = &default_vnodeops,
	STANDARD_VOPS,
	.vop_read = POINTER(tmpfs_read),
	.vop_write = POINTER(tmpfs_write),
	.vop_readdir = POINTER(tmpfs_readdir),
};
struct vop_vector tmpfs_fifoop_entries = {
	.vop_default = &fifo_specops,
	STANDARD_VOPS,
	.vop_open = POINTER(fifo_open),
};

#define FILE_SYSTEM(name, type, number, next) \
	FUNCTION(name##_mount); \
	FUNCTION(name##_unmount); \
	FUNCTION(name##_root); \
	FUNCTION(name##_statfs); \
	struct vfsops name##_vfsops = { \
		.vfs_mount = POINTER(name##_mount), \
		.vfs_unmount = POINTER(name##_unmount), \
		.vfs_root = POINTER(name##_root), \
		.vfs_statfs = POINTER(name##_statfs), \
	}; \
	static struct vfsconf name##_vfsconf __used = { \
		.vfc_version = VFS_VERSION, \
		.vfc_name = type, \
		.vfc_vfsops = &name##_vfsops, \
		.vfc_typenum = number, \
		.vfc_list = { next }, \
	}
FILE_SYSTEM(ffs, "ufs", 0x35, NULL);
FILE_SYSTEM(devfs, "devfs", 0x71, NULL);
FILE_SYSTEM(nullfs, "nullfs", 0x29, NULL);
FILE_SYSTEM(tmpfs, "tmpfs", 0x87, NULL);
FILE_SYSTEM(fdesc, "fdescfs", 0x59, NULL);
struct vfsconfhead vfsconf = TAILQ_HEAD_INITIALIZER(vfsconf);

/* --- sys/fs/tmpfs/tmpfs.h (14.0), which is not in the header sets --- */

struct tmpfs_dirent {
	union {
		RB_ENTRY(tmpfs_dirent) td_entries;
		LIST_ENTRY(tmpfs_dirent) td_dup_entries;
	} uh;
	uint32_t td_cookie;
	uint32_t td_hash;
	u_int td_namelen;
	struct tmpfs_node *td_node;
	union {
		char *td_name;
		off_t td_index;
	} ud;
};
RB_HEAD(tmpfs_dir, tmpfs_dirent);
struct tmpfs_extattr {
	LIST_ENTRY(tmpfs_extattr) ea_extattrs;
	int ea_namespace;
	char *ea_name;
	unsigned char ea_namelen;
	char *ea_value;
	ssize_t ea_size;
};
struct tmpfs_node {
	LIST_ENTRY(tmpfs_node) tn_entries;
	__enum_uint8(vtype) tn_type;
	bool tn_attached;
	short tn_vpstate;
	uint32_t tn_status;
	ino_t tn_id;
	dev_t tn_rdev;
	off_t tn_size;
	nlink_t tn_links;
	uid_t tn_uid;
	gid_t tn_gid;
	mode_t tn_mode;
	int tn_accessed;
	u_long tn_flags;
	u_long tn_gen;
	struct timespec tn_atime;
	struct timespec tn_mtime;
	struct timespec tn_ctime;
	struct timespec tn_birthtime;
	struct vnode *tn_vnode;
	struct mtx tn_interlock;
	LIST_HEAD(, tmpfs_extattr) tn_extattrs;
	union {
		struct {
			struct tmpfs_node *tn_parent;
			struct tmpfs_dir tn_dirhead;
			LIST_HEAD(, tmpfs_dirent) tn_dupindex;
			off_t tn_readdir_lastn;
			struct tmpfs_dirent *tn_readdir_lastp;
			struct tmpfs_dir *tn_dirhead_unused;
			off_t tn_dirgen;
		} tn_dir;
		struct {
			char *tn_link_target;
			char tn_link_smr;
		} tn_link;
		struct {
			vm_object_t tn_aobj;
			struct tmpfs_mount *tn_tmp;
			vm_pindex_t tn_pages;
		} tn_reg;
	} tn_spec;
};
LIST_HEAD(tmpfs_node_list, tmpfs_node);
struct tmpfs_mount {
	off_t tm_pages_max;
	u_long tm_pages_used;
	struct tmpfs_node *tm_root;
	ino_t tm_nodes_max;
	ino_t tm_nodes_inuse;
	off_t tm_maxfilesize;
	struct tmpfs_node_list tm_nodes_used;
	struct mtx tm_allnode_lock;
	struct unrhdr64 tm_ino_unr;
	size_t tm_ea_memory_inuse;
	size_t tm_ea_memory_max;
	u_int tm_refcount;
	bool tm_ronly;
	bool tm_nonc;
	bool tm_nomtime;
	bool tm_pgread;
};
static uma_zone_t tmpfs_node_pool __used;
static uma_zone_t tmpfs_dirent_pool __used;

/* --- sys/fs/devfs/devfs_devs.c, devfs_vfsops.c, kern/kern_conf.c (14.0) --- */

struct cdev_priv_list cdevp_list = TAILQ_HEAD_INITIALIZER(cdevp_list);
struct unrhdr *devfs_inos;
struct mtx devmtx;
struct mtx cdevpriv_mtx;
u_int devfs_generation;

/* --- sys/fs/fifofs/fifo_vnops.c, ufs/ffs/ffs_vfsops.c (14.0) --- */

static uma_zone_t uma_inode __used;
static uma_zone_t uma_ufs1 __used;
uma_zone_t uma_ufs2;

#if RELEASE >= 15
/* --- sys/kern/vfs_inotify.c (15.0) --- */

struct inotify_record {
	STAILQ_ENTRY(inotify_record) link;
	struct inotify_event ev;
};
RB_HEAD(inotify_watch_tree, inotify_watch);
struct inotify_watch {
	struct inotify_softc *sc;
	int wd;
	uint32_t mask;
	struct vnode *vp;
	RB_ENTRY(inotify_watch) ilink;
	TAILQ_ENTRY(inotify_watch) vlink;
};
struct inotify_softc {
	struct mtx lock;
	STAILQ_HEAD(, inotify_record) pending;
	struct inotify_record overflow;
	int nextwatch;
	int npending;
	size_t nbpending;
	struct inotify_watch_tree watches;
	struct selinfo sel;
	struct ucred *cred;
};
#endif

/* --- private types that no variable above shows --- */

void
fs_types(void *pointer)
{
	RETAIN(struct namecache);
	RETAIN(struct namecache_ts);
	RETAIN(struct tmpfs_node);
	RETAIN(struct tmpfs_mount);
	RETAIN(struct tmpfs_dirent);
	RETAIN(struct tmpfs_extattr);
#if RELEASE >= 15
	RETAIN(struct inotify_softc);
	RETAIN(struct inotify_record);
	RETAIN(struct inotify_watch);
#endif
}
