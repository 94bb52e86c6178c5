"""Types of the kernel's .c files and small headers that the layouts of 12 and 13 lack, as 12.1 has them."""

from __future__ import annotations

_LINK = {"tqe_next": "void *", "tqe_prev": "void *"}
_CHAIN = {"le_next": "void *", "le_prev": "void *"}
_TAIL_QUEUE = {"tqh_first": "void *", "tqh_last": "void *"}

MOUNT_TYPES = {
    # sys/mount.h
    "vfsopt_link": _LINK,
    "vfsopt": {
        "link": "struct vfsopt_link",
        "name": "char *",
        "value": "void *",
        "len": "int",
        "pos": "int",
        "seen": "int",
    },
    "vfsoptlist": _TAIL_QUEUE,
    # fs/nullfs/null.h: the last release whose mounts hold the upper root and not the lower one
    "null_mount": {"nullm_vfs": "mount *", "nullm_rootvp": "vnode *", "nullm_flags": "uint64_t"},
}

DEVICE_TYPES = {
    # fs/devfs/devfs_int.h
    "cdev_privdata_list": _CHAIN,
    "cdev_privdata": {
        "cdpd_fp": "file *",
        "cdpd_data": "void *",
        "cdpd_dtr": "void *",
        "cdpd_list": "struct cdev_privdata_list",
    },
}

FILE_SYSTEM_TYPES = {
    # sys/dirent.h, 12.0
    "dirent": {
        "d_fileno": "uint64_t",
        "d_off": "int64_t",
        "d_reclen": "uint16_t",
        "d_type": "uint8_t",
        "d_pad0": "uint8_t",
        "d_namlen": "uint16_t",
        "d_pad1": "uint16_t",
        "d_name": "char[256]",
    },
    # ufs/ufs/dinode.h
    "ufs2_dinode": {
        "di_mode": "uint16_t",
        "di_nlink": "short",
        "di_uid": "uint32_t",
        "di_gid": "uint32_t",
        "di_blksize": "uint32_t",
        "di_size": "uint64_t",
        "di_blocks": "uint64_t",
        "di_atime": "int64_t",
        "di_mtime": "int64_t",
        "di_ctime": "int64_t",
        "di_birthtime": "int64_t",
        "di_mtimensec": "int",
        "di_atimensec": "int",
        "di_ctimensec": "int",
        "di_birthnsec": "int",
        "di_gen": "uint32_t",
        "di_kernflags": "uint32_t",
        "di_flags": "uint32_t",
        "di_extsize": "uint32_t",
        "di_extb": "int64_t[2]",
        "di_db": "int64_t[12]",
        "di_ib": "int64_t[3]",
        "di_modrev": "uint64_t",
        "di_freelink": "uint32_t",
        "di_ckhash": "uint32_t",
        "di_spare": "uint32_t[2]",
    },
    # fs/nullfs/null.h
    "null_node_hash": _CHAIN,
    "null_node": {
        "null_hash": "struct null_node_hash",
        "null_lowervp": "vnode *",
        "null_vnode": "vnode *",
        "null_flags": "unsigned int",
    },
    # fs/fifofs/fifo_vnops.c
    "fifoinfo": {
        "fi_pipe": "pipe *",
        "fi_readers": "long",
        "fi_writers": "long",
        "fi_rgen": "int",
        "fi_wgen": "int",
    },
}

TABLE_TYPES = {
    # kern/kern_descrip.c
    "fdescenttbl0": {"fdt_nfiles": "int", "fdt_ofiles": "filedescent[20]"},
    "freetable_next": {"sle_next": "void *"},
    "freetable": {"ft_table": "fdescenttbl *", "ft_next": "struct freetable_next"},
    "freetable_head": {"slh_first": "freetable *"},
    # NDSLOTS(NDFILE) is one word on every architecture.
    "filedesc0": {
        "fd_fd": "filedesc",
        "fd_free": "struct freetable_head",
        "fd_dfiles": "fdescenttbl0",
        "fd_dmap": "unsigned long[1]",
    },
}

SPECIAL_TYPES = {
    # kern/uipc_sem.c
    "ksem_mapping_link": _CHAIN,
    "ksem_mapping": {
        "km_path": "char *",
        "km_fnv": "unsigned int",
        "km_ksem": "ksem *",
        "km_link": "struct ksem_mapping_link",
    },
    # kern/uipc_mqueue.c
    "mqfs_node_list": {"lh_first": "void *"},
    "mqfs_node_sibling": _CHAIN,
    "mqfs_node": {
        "mn_name": "char[256]",
        "mn_info": "void *",
        "mn_parent": "mqfs_node *",
        "mn_children": "struct mqfs_node_list",
        "mn_sibling": "struct mqfs_node_sibling",
        "mn_vnodes": "struct mqfs_node_list",
        "mn_pr_root": "void *",
        "mn_refcount": "int",
        "mn_type": "int",
        "mn_deleted": "int",
        "mn_fileno": "uint32_t",
        "mn_data": "void *",
        "mn_birth": "timespec",
        "mn_ctime": "timespec",
        "mn_atime": "timespec",
        "mn_mtime": "timespec",
        "mn_uid": "unsigned int",
        "mn_gid": "unsigned int",
        "mn_mode": "int",
    },
    "mqfs_info": {"mi_lock": "sx", "mi_root": "mqfs_node *", "mi_unrhdr": "void *"},
    "msgq": _TAIL_QUEUE,
    "mqueue_msg_link": _LINK,
    "mqueue_msg": {"msg_link": "struct mqueue_msg_link", "msg_prio": "unsigned int", "msg_size": "unsigned int"},
    "mqueue": {
        "mq_mutex": "mtx",
        "mq_flags": "int",
        "mq_maxmsg": "long",
        "mq_msgsize": "long",
        "mq_curmsgs": "long",
        "mq_totalbytes": "long",
        "mq_msgq": "struct msgq",
        "mq_receivers": "int",
        "mq_senders": "int",
        "mq_rsel": "selinfo",
        "mq_wsel": "selinfo",
        "mq_notifier": "void *",
    },
}
