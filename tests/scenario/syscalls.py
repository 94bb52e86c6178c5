"""The system calls of FreeBSD 12.1, from sys/kern/syscalls.master.

Kernels that are compiled bring their own table; those known by their types only get this one.
"""

from __future__ import annotations

_TABLE = """
    0:syscall:0 1:exit:1 2:fork:0 3:read:3 4:write:3 5:open:3 6:close:1 7:wait4:4 9:link:2 10:unlink:1 12:chdir:1
    13:fchdir:1 14:freebsd11_mknod:3 15:chmod:2 16:chown:3 17:break:1 20:getpid:0 21:mount:4 22:unmount:2 23:setuid:1
    24:getuid:0 25:geteuid:0 26:ptrace:4 27:recvmsg:3 28:sendmsg:3 29:recvfrom:6 30:accept:3 31:getpeername:3
    32:getsockname:3 33:access:2 34:chflags:2 35:fchflags:2 36:sync:0 37:kill:2 39:getppid:0 41:dup:1
    42:freebsd10_pipe:0 43:getegid:0 44:profil:4 45:ktrace:4 47:getgid:0 49:getlogin:2 50:setlogin:1 51:acct:1
    53:sigaltstack:2 54:ioctl:3 55:reboot:1 56:revoke:1 57:symlink:2 58:readlink:3 59:execve:3 60:umask:1 61:chroot:1
    65:msync:3 66:vfork:0 69:sbrk:1 70:sstk:1 72:freebsd11_vadvise:1 73:munmap:2 74:mprotect:3 75:madvise:3
    78:mincore:3 79:getgroups:2 80:setgroups:2 81:getpgrp:0 82:setpgid:2 83:setitimer:3 85:swapon:1 86:getitimer:2
    89:getdtablesize:0 90:dup2:2 92:fcntl:3 93:select:5 95:fsync:1 96:setpriority:3 97:socket:3 98:connect:3
    100:getpriority:2 104:bind:3 105:setsockopt:5 106:listen:2 116:gettimeofday:2 117:getrusage:2 118:getsockopt:5
    120:readv:3 121:writev:3 122:settimeofday:2 123:fchown:3 124:fchmod:2 126:setreuid:2 127:setregid:2 128:rename:2
    131:flock:2 132:mkfifo:2 133:sendto:6 134:shutdown:2 135:socketpair:4 136:mkdir:2 137:rmdir:1 138:utimes:2
    140:adjtime:2 147:setsid:0 148:quotactl:4 154:nlm_syscall:4 155:nfssvc:2 160:lgetfh:2 161:getfh:2 165:sysarch:2
    166:rtprio:3 169:semsys:5 170:msgsys:6 171:shmsys:4 175:setfib:1 176:ntp_adjtime:1 181:setgid:1 182:setegid:1
    183:seteuid:1 188:freebsd11_stat:2 189:freebsd11_fstat:2 190:freebsd11_lstat:2 191:pathconf:2 192:fpathconf:2
    194:getrlimit:2 195:setrlimit:2 196:freebsd11_getdirentries:4 198:__syscall:0 202:__sysctl:6 203:mlock:2
    204:munlock:2 205:undelete:1 206:futimes:2 207:getpgid:1 209:poll:3 220:freebsd7___semctl:4 221:semget:3
    222:semop:3 224:freebsd7_msgctl:3 225:msgget:2 226:msgsnd:4 227:msgrcv:5 228:shmat:3 229:freebsd7_shmctl:3
    230:shmdt:1 231:shmget:3 232:clock_gettime:2 233:clock_settime:2 234:clock_getres:2 235:ktimer_create:3
    236:ktimer_delete:1 237:ktimer_settime:4 238:ktimer_gettime:2 239:ktimer_getoverrun:1 240:nanosleep:2
    241:ffclock_getcounter:1 242:ffclock_setestimate:1 243:ffclock_getestimate:1 244:clock_nanosleep:4
    247:clock_getcpuclockid2:3+1 248:ntp_gettime:1 250:minherit:3 251:rfork:1 253:issetugid:0 254:lchown:3
    255:aio_read:1 256:aio_write:1 257:lio_listio:4 272:freebsd11_getdents:3 274:lchmod:2 276:lutimes:2
    278:freebsd11_nstat:2 279:freebsd11_nfstat:2 280:freebsd11_nlstat:2 289:preadv:4+1 290:pwritev:4+1 298:fhopen:2
    299:freebsd11_fhstat:2 300:modnext:1 301:modstat:2 302:modfnext:1 303:modfind:1 304:kldload:1 305:kldunload:1
    306:kldfind:1 307:kldnext:1 308:kldstat:2 309:kldfirstmod:1 310:getsid:1 311:setresuid:3 312:setresgid:3
    314:aio_return:1 315:aio_suspend:3 316:aio_cancel:2 317:aio_error:1 321:yield:0 324:mlockall:1 325:munlockall:0
    326:__getcwd:2 327:sched_setparam:2 328:sched_getparam:2 329:sched_setscheduler:3 330:sched_getscheduler:1
    331:sched_yield:0 332:sched_get_priority_max:1 333:sched_get_priority_min:1 334:sched_rr_get_interval:2
    335:utrace:2 337:kldsym:3 338:jail:1 339:nnpfs_syscall:5 340:sigprocmask:3 341:sigsuspend:1 343:sigpending:1
    345:sigtimedwait:3 346:sigwaitinfo:2 347:__acl_get_file:3 348:__acl_set_file:3 349:__acl_get_fd:3
    350:__acl_set_fd:3 351:__acl_delete_file:2 352:__acl_delete_fd:2 353:__acl_aclcheck_file:3 354:__acl_aclcheck_fd:3
    355:extattrctl:5 356:extattr_set_file:5 357:extattr_get_file:5 358:extattr_delete_file:3 359:aio_waitcomplete:2
    360:getresuid:3 361:getresgid:3 362:kqueue:0 363:freebsd11_kevent:6 371:extattr_set_fd:5 372:extattr_get_fd:5
    373:extattr_delete_fd:3 374:__setugid:1 376:eaccess:2 377:afs3_syscall:7 378:nmount:3 384:__mac_get_proc:1
    385:__mac_set_proc:1 386:__mac_get_fd:2 387:__mac_get_file:2 388:__mac_set_fd:2 389:__mac_set_file:2 390:kenv:4
    391:lchflags:2 392:uuidgen:2 393:sendfile:7+1 394:mac_syscall:3 395:freebsd11_getfsstat:3 396:freebsd11_statfs:2
    397:freebsd11_fstatfs:2 398:freebsd11_fhstatfs:2 400:ksem_close:1 401:ksem_post:1 402:ksem_wait:1
    403:ksem_trywait:1 404:ksem_init:2 405:ksem_open:5 406:ksem_unlink:1 407:ksem_getvalue:2 408:ksem_destroy:1
    409:__mac_get_pid:2 410:__mac_get_link:2 411:__mac_set_link:2 412:extattr_set_link:5 413:extattr_get_link:5
    414:extattr_delete_link:3 415:__mac_execve:4 416:sigaction:3 417:sigreturn:1 421:getcontext:1 422:setcontext:1
    423:swapcontext:2 424:freebsd13_swapoff:1 425:__acl_get_link:3 426:__acl_set_link:3 427:__acl_delete_link:2
    428:__acl_aclcheck_link:3 429:sigwait:2 430:thr_create:3 431:thr_exit:1 432:thr_self:1 433:thr_kill:2
    434:freebsd10__umtx_lock:1 435:freebsd10__umtx_unlock:1 436:jail_attach:1 437:extattr_list_fd:4
    438:extattr_list_file:4 439:extattr_list_link:4 441:ksem_timedwait:2 442:thr_suspend:1 443:thr_wake:1
    444:kldunloadf:2 445:audit:2 446:auditon:3 447:getauid:1 448:setauid:1 449:getaudit:1 450:setaudit:1
    451:getaudit_addr:2 452:setaudit_addr:2 453:auditctl:1 454:_umtx_op:5 455:thr_new:2 456:sigqueue:3 457:kmq_open:4
    458:kmq_setattr:3 459:kmq_timedreceive:5 460:kmq_timedsend:5 461:kmq_notify:2 462:kmq_unlink:1 463:abort2:3
    464:thr_set_name:2 465:aio_fsync:2 466:rtprio_thread:3 471:sctp_peeloff:2 472:sctp_generic_sendmsg:7
    473:sctp_generic_sendmsg_iov:7 474:sctp_generic_recvmsg:7 475:pread:4+1 476:pwrite:4+1 477:mmap:6+1 478:lseek:3+1
    479:truncate:2+1 480:ftruncate:2+1 481:thr_kill2:3 482:freebsd12_shm_open:3 483:shm_unlink:1 484:cpuset:1
    485:cpuset_setid:3+1 486:cpuset_getid:4+1 487:cpuset_getaffinity:5+1 488:cpuset_setaffinity:5+1 489:faccessat:4
    490:fchmodat:4 491:fchownat:5 492:fexecve:3 493:freebsd11_fstatat:4 494:futimesat:3 495:linkat:5 496:mkdirat:3
    497:mkfifoat:3 498:freebsd11_mknodat:4 499:openat:4 500:readlinkat:4 501:renameat:4 502:symlinkat:3 503:unlinkat:3
    504:posix_openpt:1 505:gssd_syscall:1 506:jail_get:3 507:jail_set:3 508:jail_remove:1 509:freebsd12_closefrom:1
    510:__semctl:4 511:msgctl:3 512:shmctl:3 513:lpathconf:2 515:__cap_rights_get:3 516:cap_enter:0 517:cap_getmode:1
    518:pdfork:2 519:pdkill:2 520:pdgetpid:2 522:pselect:6 523:getloginclass:2 524:setloginclass:1
    525:rctl_get_racct:4 526:rctl_get_rules:4 527:rctl_get_limits:4 528:rctl_add_rule:4 529:rctl_remove_rule:4
    530:posix_fallocate:3+2 531:posix_fadvise:4+2 532:wait6:6+1 533:cap_rights_limit:2 534:cap_ioctls_limit:3
    535:cap_ioctls_get:3 536:cap_fcntls_limit:2 537:cap_fcntls_get:2 538:bindat:4 539:connectat:4 540:chflagsat:4
    541:accept4:4 542:pipe2:2 543:aio_mlock:1 544:procctl:4+1 545:ppoll:4 546:futimens:2 547:utimensat:4
    550:fdatasync:1 551:fstat:2 552:fstatat:4 553:fhstat:2 554:getdirentries:4 555:statfs:2 556:fstatfs:2
    557:getfsstat:3 558:fhstatfs:2 559:mknodat:4 560:kevent:6 561:cpuset_getdomain:6+1 562:cpuset_setdomain:6+1
    563:getrandom:3 564:getfhat:4 565:fhlink:2 566:fhlinkat:3 567:fhreadlink:3
"""

SYSCALLS = {
    int(number): (name, tuple(int(part) for part in (arguments + "+0").split("+")[:2]))
    for number, name, arguments in (item.split(":") for item in _TABLE.split())
}
"""Name by number, with the number of arguments and how many of these have 64 bits everywhere."""
MAXSYSCALL = 568
"""`SYS_MAXSYSCALL`."""


def handler(name: str) -> str:
    """The name of the kernel function behind a system call."""
    return {"syscall": "nosys", "__syscall": "nosys"}.get(name, name if name.startswith("freebsd") else f"sys_{name}")
