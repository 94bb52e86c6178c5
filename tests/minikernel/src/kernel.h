/*
 * Every unit of the mini-kernel includes this: the kernel headers of one FreeBSD release in an order that compiles, and
 * the options of a GENERIC kernel. RELEASE (14 or 15) comes from the command line.
 */
#ifndef MINIKERNEL_H
#define MINIKERNEL_H

#ifndef _KERNEL
#define _KERNEL
#endif
/* Keeps systm.h and kpilite.h from needing the offset.inc that a kernel build generates. */
#define GENOFFSET
#define _WANT_NETISR_INTERNAL

/* sys/conf options: opt_global.h and those opt_*.h whose options change a type. */
#define VIMAGE 1
#define SMP 1
#define INET 1
#define INET6 1
#define TCP_OFFLOAD 1
#define MAC 1
#define COMPAT_FREEBSD4 1
#define COMPAT_FREEBSD5 1
#define COMPAT_FREEBSD6 1
#define COMPAT_FREEBSD7 1
#define COMPAT_FREEBSD9 1
#define COMPAT_FREEBSD10 1
#define COMPAT_FREEBSD11 1
#define COMPAT_FREEBSD12 1
#define COMPAT_FREEBSD13 1
#define COMPAT_FREEBSD14 1

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/mutex.h>
#include <sys/rwlock.h>
#include <sys/sx.h>
#include <sys/rmlock.h>
#include <sys/proc.h>
#include <sys/malloc.h>
#include <sys/bus.h>
#include <sys/acl.h>
#include <sys/aio.h>
#include <sys/bio.h>
#include <sys/bitstring.h>
#include <sys/blist.h>
#include <sys/buf.h>
#include <sys/callout.h>
#include <sys/capsicum.h>
#include <sys/clock.h>
#include <sys/conf.h>
#include <sys/cons.h>
#include <sys/counter.h>
#include <sys/cpuset.h>
#include <sys/ctf.h>
#include <sys/devicestat.h>
#include <sys/dirent.h>
#include <sys/domainset.h>
#include <sys/elf.h>
#include <sys/epoch.h>
#include <sys/eventfd.h>
#include <sys/eventhandler.h>
#include <sys/exec.h>
#include <sys/fcntl.h>
#include <sys/file.h>
#include <sys/filedesc.h>
#include <sys/firmware.h>
#include <sys/gtaskqueue.h>
#include <sys/hhook.h>
#include <sys/imgact.h>
#include <sys/imgact_elf.h>
#include <sys/interrupt.h>
#include <sys/ipc.h>
#include <sys/jail.h>
#include <sys/kdb.h>
#include <sys/kenv.h>
#include <sys/kerneldump.h>
#include <sys/khelp.h>
#include <sys/kobj.h>
#include <sys/ksem.h>
#include <sys/ktls.h>
#include <sys/ktrace.h>
#include <sys/linker.h>
#include <sys/lockf.h>
#include <sys/loginclass.h>
#include <sys/mbuf.h>
#include <sys/mdioctl.h>
#include <sys/mman.h>
#include <sys/module.h>
#include <sys/mount.h>
#include <sys/mqueue.h>
#include <sys/msg.h>
#include <sys/msgbuf.h>
#include <sys/namei.h>
#include <sys/osd.h>
#include <sys/pcpu.h>

#include <sys/procdesc.h>
#include <sys/protosw.h>
#include <sys/ptrace.h>
#include <sys/racct.h>
#include <sys/rctl.h>
#include <sys/reboot.h>
#include <sys/resourcevar.h>
#include <sys/rman.h>
#include <sys/runq.h>
#include <sys/sched.h>
#include <sys/selinfo.h>
#include <sys/pipe.h>
#include <sys/event.h>
#include <sys/eventvar.h>
#include <sys/sem.h>
#include <sys/seqc.h>
#include <sys/shm.h>
#include <sys/signalvar.h>
#include <sys/sleepqueue.h>
#include <sys/smp.h>
#include <sys/smr.h>
#include <sys/socket.h>
#include <sys/socketvar.h>
#include <sys/domain.h>
#include <sys/un.h>
#include <sys/unpcb.h>
#include <sys/stack.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysent.h>
#include <sys/sysproto.h>
#include <sys/sysctl.h>
#include <sys/taskqueue.h>
#include <sys/timerfd.h>
#include <sys/timetc.h>
#include <sys/tty.h>
#include <sys/ttyhook.h>
#include <sys/turnstile.h>
#include <sys/ucred.h>
#include <sys/umtxvar.h>
#include <sys/unistd.h>
#include <sys/user.h>
#include <sys/vmem.h>
#include <sys/vmmeter.h>
#include <sys/vnode.h>
#include <sys/watchdog.h>
#include <sys/pctrie.h>
#if RELEASE >= 15
#include <sys/inotify.h>
#include <sys/jaildesc.h>
#endif

#include <vm/vm.h>
#include <vm/pmap.h>
#include <vm/vm_param.h>
#include <vm/vm_map.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pageout.h>
#include <vm/vm_pager.h>
#include <vm/vm_extern.h>
#include <vm/vm_kern.h>
#include <vm/vm_phys.h>
#include <vm/vm_radix.h>
#include <vm/vm_reserv.h>
#include <vm/vm_pagequeue.h>
#include <vm/vm_dumpset.h>
#include <vm/swap_pager.h>
#include <vm/vnode_pager.h>
#include <vm/uma.h>
#include <vm/uma_int.h>
#include <vm/uma_dbg.h>

#include <net/if.h>
#include <net/if_dl.h>
#include <net/if_types.h>
#include <net/if_media.h>
#include <net/vnet.h>
#include <net/if_var.h>
#include <net/if_private.h>
#include <net/if_clone.h>
#include <net/if_arp.h>
#include <net/ethernet.h>
#include <net/bpf.h>
#include <net/bpfdesc.h>
#include <net/bpf_jitter.h>
#include <net/radix.h>
#include <net/route.h>
#include <net/route/nhop_utils.h>
#include <net/route/route_ctl.h>
#include <net/route/route_var.h>
#include <net/route/nhop.h>
#include <net/route/nhop_var.h>
#include <net/route/nhgrp_var.h>
#include <net/if_llatbl.h>
#include <net/pfil.h>
#include <net/netisr.h>
#include <net/netisr_internal.h>
#include <net/if_vlan_var.h>
#include <net/if_bridgevar.h>
#include <net/infiniband.h>
#include <net/if_lagg.h>

#include <netinet/in.h>
#include <netinet/in_systm.h>
#include <netinet/in_fib.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet6/in6_var.h>
#include <netinet/in_var.h>
#include <netinet/ip_var.h>
#include <netinet/ip_icmp.h>
#include <netinet/icmp_var.h>
#include <netinet/icmp6.h>
#include <netinet/igmp.h>
#include <netinet/igmp_var.h>
#include <netinet/in_pcb.h>
#include <netinet/in_pcb_var.h>
#include <netinet6/in6_pcb.h>
#include <netinet6/ip6_var.h>
#include <netinet6/nd6.h>
#include <netinet6/mld6.h>
#include <netinet6/mld6_var.h>
#include <netinet6/scope6_var.h>
#include <netinet6/raw_ip6.h>
#include <netinet/ip_carp.h>
#include <netinet/ip_divert.h>
#include <netinet/ip_encap.h>
#include <netinet/ip_mroute.h>
#include <netinet/ip_fw.h>
#include <netinet/ip_dummynet.h>
#include <netinet/tcp.h>
#include <netinet/tcp_seq.h>
#include <netinet/tcp_fsm.h>
#include <netinet/tcp_timer.h>
#include <netinet/tcp_var.h>
#include <netinet/tcp_syncache.h>
#include <netinet/tcp_log_buf.h>
#include <netinet/tcp_hpts.h>
#include <netinet/tcp_fastopen.h>
#include <netinet/tcp_lro.h>
#include <netinet/cc/cc.h>
#include <netinet/tcpip.h>
#include <netinet/udp.h>
#include <netinet/udp_var.h>
#include <netinet/udplite.h>
#include <net/if_gif.h>
#include <net/if_gre.h>
#include <netpfil/pf/pf.h>
#include <net/pfvar.h>
#include <net/if_pflog.h>
#include <net/if_pfsync.h>
#include <netpfil/pf/pf_mtag.h>
#include <netipsec/keydb.h>
#include <netipsec/key.h>
#include <netipsec/ipsec.h>
#include <netipsec/ipsec6.h>
#include <netipsec/xform.h>
#include <netipsec/keysock.h>
#include <netipsec/ipsec_support.h>
#include <netgraph/ng_message.h>
#include <netgraph/netgraph.h>
#include <netgraph/ng_socketvar.h>
#include <netlink/netlink.h>
#include <netlink/netlink_ctl.h>
#include <netlink/netlink_message_parser.h>
#include <netlink/netlink_message_writer.h>
#include <netlink/netlink_route.h>
#include <netlink/netlink_var.h>
#include <netlink/route/route_var.h>

#include <geom/geom.h>
#include <geom/geom_int.h>
#include <geom/geom_disk.h>
#include <geom/geom_slice.h>
#include <geom/label/g_label.h>
#include <geom/eli/g_eli.h>
#include <fs/devfs/devfs.h>
#include <fs/devfs/devfs_int.h>
#include <fs/nullfs/null.h>
#include <fs/fdescfs/fdesc.h>
#ifndef WITHOUT_UFS
#include <ufs/ufs/extattr.h>
#include <ufs/ufs/quota.h>
#include <ufs/ufs/dinode.h>
#include <ufs/ufs/inode.h>
#include <ufs/ufs/dir.h>
#include <ufs/ufs/dirhash.h>
#include <ufs/ufs/ufsmount.h>
#include <ufs/ufs/ufs_extern.h>
#include <ufs/ffs/fs.h>
#include <ufs/ffs/ffs_extern.h>
#include <ufs/ffs/softdep.h>
#endif
#include <bsm/audit.h>
#include <security/audit/audit.h>
#include <security/audit/audit_private.h>
#include <dev/wg/if_wg.h>

#include <machine/pcb.h>
#include <machine/frame.h>
#include <machine/cpu.h>
#include <machine/md_var.h>
#include <machine/elf.h>
#include <machine/minidump.h>
#include <machine/vmparam.h>
#if defined(__amd64__) || defined(__i386__)
#include <machine/segments.h>
#include <machine/intr_machdep.h>
#include <machine/tss.h>
#include <x86/x86_var.h>
#endif

/*
 * A kernel function that tables or tools know by its address. The builder defines every function that is asked for here and
 * that no unit defines, so the real prototype, which a header may also declare, does not matter: C reaches the symbol by
 * another name. The .globl is what asks for it where nothing else does.
 */
#define FUNCTION(name) __asm__(".globl " #name); extern int text_##name(void) __asm__(#name)
#define POINTER(name) ((void *)text_##name)
/* Used in a function: keeps a type in the debug information that no variable has. */
#define RETAIN(type) ((void)(type *)pointer)

#endif
