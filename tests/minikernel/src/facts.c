/*
 * What the C compiler says of offsets, sizes and constants, as data that tests read from the image: a check of every reader
 * of debug information that does not itself depend on debug information.
 */
#include "kernel.h"

struct fact {
	char type[32];
	char member[32];
	uint32_t offset;
	uint32_t size;
};
struct constant {
	char name[48];
	uint64_t value;
};
#define FACTS __attribute__((section("minikernel_facts"), used, aligned(8)))
#define CONSTANTS __attribute__((section("minikernel_constants"), used, aligned(8)))

#define SIZE(tag) { #tag, "", 0, sizeof(struct tag) }
#define MEMBER(tag, name) { #tag, #name, offsetof(struct tag, name), sizeof(((struct tag *)0)->name) }
#define VALUE(name) { #name, (uint64_t)(name) }

static const struct fact facts[] FACTS = {
	SIZE(proc), SIZE(thread), SIZE(ucred), SIZE(prison), SIZE(vnode), SIZE(socket), SIZE(inpcb), SIZE(tcpcb),
	SIZE(ifnet), SIZE(vmspace), SIZE(vm_map), SIZE(vm_map_entry), SIZE(vm_object), SIZE(vm_page), SIZE(linker_file),
	SIZE(mount), SIZE(pmap), SIZE(pcb), SIZE(pcpu), SIZE(sysentvec), SIZE(sysctl_oid), SIZE(file), SIZE(unpcb),
	SIZE(pwddesc), SIZE(pwd), SIZE(filedesc), SIZE(filedescent), SIZE(inpcbinfo), SIZE(sysent), SIZE(vnet), SIZE(msgbuf),
	SIZE(cdev), SIZE(nhop_object), SIZE(rtentry), SIZE(bpf_d), SIZE(uma_zone), SIZE(uma_keg), SIZE(tty), SIZE(mbuf),
	MEMBER(proc, p_list), MEMBER(proc, p_threads), MEMBER(proc, p_ucred), MEMBER(proc, p_fd), MEMBER(proc, p_pd),
	MEMBER(proc, p_flag), MEMBER(proc, p_pid), MEMBER(proc, p_hash), MEMBER(proc, p_pptr), MEMBER(proc, p_vmspace),
	MEMBER(proc, p_textvp), MEMBER(proc, p_magic), MEMBER(proc, p_comm), MEMBER(proc, p_sysent), MEMBER(proc, p_args),
	MEMBER(proc, p_pgrp), MEMBER(proc, p_jaillist), MEMBER(proc, p_stats),
	MEMBER(thread, td_proc), MEMBER(thread, td_plist), MEMBER(thread, td_tid), MEMBER(thread, td_wmesg),
	MEMBER(thread, td_name), MEMBER(thread, td_pcb), MEMBER(thread, td_state), MEMBER(thread, td_frame),
	MEMBER(thread, td_kstack), MEMBER(thread, td_oncpu),
	MEMBER(ucred, cr_ref), MEMBER(ucred, cr_uid), MEMBER(ucred, cr_ruid), MEMBER(ucred, cr_ngroups),
	MEMBER(ucred, cr_prison), MEMBER(ucred, cr_groups),
	MEMBER(prison, pr_id), MEMBER(prison, pr_parent), MEMBER(prison, pr_vnet), MEMBER(prison, pr_addrs),
	MEMBER(prison, pr_name), MEMBER(prison, pr_path), MEMBER(prison, pr_hostname), MEMBER(prison, pr_osrelease),
	MEMBER(vnode, v_type), MEMBER(vnode, v_op), MEMBER(vnode, v_mount), MEMBER(vnode, v_rdev), MEMBER(vnode, v_cache_dst),
	MEMBER(vnode, v_usecount), MEMBER(vnode, v_vflag),
	MEMBER(socket, so_type), MEMBER(socket, so_pcb), MEMBER(socket, so_rcv), MEMBER(socket, so_snd),
	MEMBER(socket, sol_incomp), MEMBER(socket, sol_qlen),
	MEMBER(inpcb, inp_socket), MEMBER(inpcb, inp_vflag), MEMBER(inpcb, inp_inc), MEMBER(inpcb, inp_list),
	MEMBER(tcpcb, t_inpcb), MEMBER(tcpcb, t_fb), MEMBER(tcpcb, t_rcvtime), MEMBER(tcpcb, t_starttime),
	MEMBER(ifnet, if_xname), MEMBER(ifnet, if_addrhead), MEMBER(ifnet, if_vnet), MEMBER(ifnet, if_counters),
	MEMBER(vm_map, nentries), MEMBER(vm_map, flags), MEMBER(vm_map, root),
	MEMBER(vm_map_entry, start), MEMBER(vm_map_entry, object), MEMBER(vm_map_entry, protection),
	MEMBER(vm_object, rtree), MEMBER(vm_object, type), MEMBER(vm_object, backing_object), MEMBER(vm_object, un_pager),
	MEMBER(vm_page, object), MEMBER(vm_page, phys_addr), MEMBER(vm_page, a), MEMBER(vm_page, valid),
	MEMBER(linker_file, filename), MEMBER(linker_file, address), MEMBER(linker_file, modules),
	MEMBER(mount, mnt_list), MEMBER(mount, mnt_stat), MEMBER(mount, mnt_cred),
	MEMBER(sysctl_oid, oid_link), MEMBER(sysctl_oid, oid_name), MEMBER(sysctl_oid, oid_handler),
	MEMBER(file, f_data), MEMBER(file, f_ops), MEMBER(file, f_type), MEMBER(file, f_offset),
	MEMBER(pcpu, pc_curthread), MEMBER(pcpu, pc_cpuid), MEMBER(pcpu, pc_allcpu),
	MEMBER(cdev, si_name), MEMBER(msgbuf, msg_wseq), MEMBER(unpcb, unp_addr), MEMBER(filedescent, fde_caps),
};

static const struct constant constants[] CONSTANTS = {
	VALUE(KERNBASE), VALUE(PAGE_SIZE), VALUE(MAXCPU), VALUE(SYS_MAXSYSCALL),
	VALUE(VNET_MAGIC_N), VALUE(MSG_MAGIC), VALUE(P_MAGIC), VALUE(MAXCOMLEN), VALUE(MNAMELEN), VALUE(SPECNAMELEN),
	VALUE(AF_MAX), VALUE(PID_MAX), VALUE(TDS_RUNNING), VALUE(TCPS_TIME_WAIT), VALUE(VMARKER), VALUE(DTYPE_EVENTFD),
};

/* Where the compiler puts bit fields and members of unnamed unions. */
const struct tcpcb sample_tcpcb = { .t_state = TCPS_TIME_WAIT };
const struct vnode sample_vnode = { .v_type = VCHR, .v_vflag = VV_ROOT };
