/*
 * sys/dev/md/md.c (14.0). A unit of its own without UFS, which has another structure of the tag "indir".
 */
#define WITHOUT_UFS
#include "kernel.h"

#define NINDIR (PAGE_SIZE / sizeof(uintptr_t))
struct indir {
	uintptr_t *array;
	u_int total;
	u_int used;
	u_int shift;
};
struct md_s {
	int unit;
	LIST_ENTRY(md_s) list;
	struct bio_queue_head bio_queue;
	struct mtx queue_mtx;
	struct cdev *dev;
	enum md_types type;
	off_t mediasize;
	unsigned sectorsize;
	unsigned opencount;
	unsigned fwheads;
	unsigned fwsectors;
	char ident[32];
	unsigned flags;
	char name[20];
	struct proc *procp;
	struct g_geom *gp;
	struct g_provider *pp;
	int (*start)(struct md_s *, struct bio *);
	struct devstat *devstat;
	bool candelete;
	struct indir *indir;
	uma_zone_t uma;
	u_char *pl_ptr;
	size_t pl_len;
	struct vnode *vnode;
	char file[PATH_MAX];
	char label[PATH_MAX];
	struct ucred *cred;
	vm_offset_t kva;
	vm_object_t object;
};
static LIST_HEAD(, md_s) md_softc_list __used = LIST_HEAD_INITIALIZER(md_softc_list);

void
md_types(void *pointer)
{
	RETAIN(struct md_s);
	RETAIN(struct indir);
}
