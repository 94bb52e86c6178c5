/*
 * What sys/tools/vnode_if.awk makes of sys/kern/vnode_if.src: struct vop_vector. 14.0: five spares at the end;
 * 15.0 has vop_inotify and vop_inotify_add_watch before them. Our own declaration, in the order of vnode_if.src.
 */
#ifndef MINIKERNEL_VNODE_IF_H
#define MINIKERNEL_VNODE_IF_H

#if RELEASE >= 15
#define VOPS_15(op) op(inotify) op(inotify_add_watch)
#else
#define VOPS_15(op)
#endif

#define VOPS(op) \
	op(islocked) op(lookup) op(cachedlookup) op(create) op(whiteout) op(mknod) op(open) op(close) \
	op(fplookup_vexec) op(fplookup_symlink) op(access) op(accessx) op(stat) op(getattr) op(setattr) op(mmapped) \
	op(read) op(read_pgcache) op(write) op(ioctl) op(poll) op(kqfilter) op(revoke) op(fsync) op(remove) op(link) \
	op(rename) op(mkdir) op(rmdir) op(symlink) op(readdir) op(readlink) op(inactive) op(need_inactive) op(reclaim) \
	op(lock1) op(unlock) op(bmap) op(strategy) op(getwritemount) op(getlowvnode) op(print) op(pathconf) op(advlock) \
	op(advlockasync) op(advlockpurge) op(reallocblks) op(getpages) op(getpages_async) op(putpages) op(getacl) \
	op(setacl) op(aclcheck) op(closeextattr) op(getextattr) op(listextattr) op(openextattr) op(deleteextattr) \
	op(setextattr) op(setlabel) op(vptofh) op(vptocnp) op(allocate) op(advise) op(unp_bind) op(unp_connect) \
	op(unp_detach) op(is_text) op(set_text) op(unset_text) op(add_writecount) op(fdatasync) op(copy_file_range) \
	op(vput_pair) op(deallocate) VOPS_15(op) op(spare1) op(spare2) op(spare3) op(spare4) op(spare5)

struct vop_generic_args;
typedef int vop_bypass_t(struct vop_generic_args *);

#define DECLARE_VOP(name) struct vop_##name##_args; typedef int vop_##name##_t(struct vop_##name##_args *);
VOPS(DECLARE_VOP)
#undef DECLARE_VOP

struct vop_vector {
	struct vop_vector *vop_default;
	vop_bypass_t *vop_bypass;
#define DECLARE_SLOT(name) vop_##name##_t *vop_##name;
	VOPS(DECLARE_SLOT)
#undef DECLARE_SLOT
	bool registered;
};

#endif
