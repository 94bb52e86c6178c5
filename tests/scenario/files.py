"""Jails, mounts and vnodes."""

from __future__ import annotations

from .model import (
    Device,
    Jail,
    Mount,
    Vnode,
)

JAILS = (
    Jail(0, "0", "server", host_uuid="11111111-2222-3333-4444-555555555555", children_max=1000, securelevel=1),
    Jail(
        1,
        "web",
        "web.example",
        "/jails/web",
        "jail-web",
        ip4=("10.0.0.80",),
        ip6=("fd00::80",),
        osrelease="14.3-RELEASE",
        parameters=("allow.raw_sockets",),
        securelevel=2,
    ),
    Jail(
        2,
        "db",
        "db.example",
        "/jails/db",
        "jail-db",
        vnet=True,
        parameters=("allow.mount", "allow.sysvipc"),
        children_max=10,
    ),
    Jail(3, "db.pg", "pg.example", "/jails/db/pg", "jail-pg", parent=2, parameters=("allow.sysvipc",)),
)

MOUNTS = (
    Mount("root", "/dev/ada0p2", "/", "ufs", ("MNT_LOCAL", "MNT_ROOTFS", "MNT_SOFTDEP"), fsid=(0x5F000001, 0x35)),
    Mount("dev", "devfs", "/dev", "devfs", ("MNT_MULTILABEL",), covers="dev-dir", fsid=(0x71, 0x71)),
    Mount(
        "tmp", "tmpfs", "/tmp", "tmpfs", ("MNT_LOCAL", "MNT_NOSUID", "MNT_NOEXEC"), covers="tmp-dir", fsid=(0x87, 0x87)
    ),
    Mount("home", "server:/export/home", "/home", "nfs", ("MNT_NOSUID", "MNT_NOATIME"), 1001, "home-dir", (0x3A, 0x3A)),
    Mount(
        "web-dev", "devfs", "/jails/web/dev", "devfs", ("MNT_MULTILABEL",), covers="jail-web-dev-dir", fsid=(0x72, 0x71)
    ),
    Mount(
        "web-www",
        "/srv/www",
        "/jails/web/usr/local/www",
        "nullfs",
        ("MNT_RDONLY",),
        covers="jail-web-www-dir",
        fsid=(0x29, 0x29),
    ),
)

JAIL_HIDDEN = ("web-dev",)
"""Devfs mounts whose ruleset hides most devices."""

DEVICES = (
    Device("null", "null_cdevsw", 20, 0o666),
    Device("console", "cn_cdevsw", 21, 0o600, hidden=JAIL_HIDDEN),
    Device("pts/0", "ttydev_cdevsw", 22, 0o620, 1001, 4, hidden=JAIL_HIDDEN),
    Device("pts/1", "ttydev_cdevsw", 23, 0o620, 0, 4, hidden=JAIL_HIDDEN),
    Device("bpf", "bpf_cdevsw", 24, 0o600, hidden=JAIL_HIDDEN),
    Device("mem", "mem_cdevsw", 25, 0o640, 0, 2, hidden=JAIL_HIDDEN),
    Device("zero", "zero_cdevsw", 26, 0o666),
    Device("ada0p2", "g_dev_cdevsw", 27, 0o640, 0, 5, hidden=JAIL_HIDDEN),
    Device("ada0p3", "g_dev_cdevsw", 28, 0o640, 0, 5, hidden=JAIL_HIDDEN),
)

NEGATIVE_NAMES = (("usr-bin", "python3"), ("tmp-root", ".x"), ("alice-home", ".ssh"))
"""Somebody looked for these in vain."""

VNODES = (
    Vnode("rootvnode", "root", "/", "VDIR", 2, 512, 0o755),
    Vnode("dev-dir", "root", "/dev", "VDIR", 10, 512, 0o755),
    Vnode("tmp-dir", "root", "/tmp", "VDIR", 11, 512, 0o1777),
    Vnode("home-dir", "root", "/home", "VDIR", 12, 512, 0o755),
    Vnode("dev-root", "dev", "", "VDIR", 2, 0, 0o555),
    Vnode("tmp-root", "tmp", "", "VDIR", 2, 0, 0o1777),
    Vnode("home-root", "home", "", "VDIR", 2, 512, 0o755),
    Vnode("dev-null", "dev", "/dev/null", "VCHR", 20, 0, 0o666, device="null"),
    Vnode("dev-console", "dev", "/dev/console", "VCHR", 21, 0, 0o600, device="console"),
    Vnode("dev-pts0", "dev", "/dev/pts/0", "VCHR", 22, 0, 0o620, 1001, 4, device="pts/0"),
    Vnode("dev-pts1", "dev", "/dev/pts/1", "VCHR", 23, 0, 0o620, device="pts/1"),
    Vnode("dev-bpf", "dev", "/dev/bpf", "VCHR", 24, 0, 0o600, device="bpf"),
    Vnode("dev-ada0p2", "dev", "/dev/ada0p2", "VCHR", 27, 0, 0o640, 0, 5, device="ada0p2"),
    Vnode("dev-ada0p3", "dev", "/dev/ada0p3", "VCHR", 28, 0, 0o640, 0, 5, device="ada0p3"),
    Vnode("sbin", "root", "/sbin", "VDIR", 30, 2560, 0o755),
    Vnode("init", "root", "/sbin/init", inode=31, size=1_204_224, mode=0o500),
    Vnode("bin", "root", "/bin", "VDIR", 40, 1024, 0o755),
    Vnode("sh", "root", "/bin/sh", inode=41, size=168_008, mode=0o555),
    Vnode("csh", "root", "/bin/csh", inode=42, size=430_000, mode=0o555, names=("/bin/tcsh",)),
    Vnode("sleep", "root", "/bin/sleep", inode=43, size=9_000, mode=0o555),
    Vnode("usr", "root", "/usr", "VDIR", 50, 512, 0o755),
    Vnode("usr-sbin", "root", "/usr/sbin", "VDIR", 51, 4096, 0o755),
    Vnode("syslogd", "root", "/usr/sbin/syslogd", inode=52, size=70_000, mode=0o555),
    Vnode("sshd", "root", "/usr/sbin/sshd", inode=53, size=350_000, mode=0o555),
    Vnode("usr-bin", "root", "/usr/bin", "VDIR", 54, 8192, 0o755),
    Vnode("truss", "root", "/usr/bin/truss", inode=55, size=60_000, mode=0o555),
    Vnode("su", "root", "/usr/bin/su", inode=56, size=20_000, mode=0o4555),
    Vnode("libexec", "root", "/libexec", "VDIR", 60, 512, 0o755),
    Vnode("rtld", "root", "/libexec/ld-elf.so.1", inode=61, size=160_000, mode=0o555),
    Vnode("lib", "root", "/lib", "VDIR", 62, 4096, 0o755),
    Vnode("libc", "root", "/lib/libc.so.7", inode=63, size=1_940_168, mode=0o444),
    Vnode("var", "root", "/var", "VDIR", 70, 512, 0o755),
    Vnode("var-log", "root", "/var/log", "VDIR", 71, 1024, 0o755),
    Vnode("messages", "root", "/var/log/messages", inode=72, size=81_920),
    Vnode("var-run", "root", "/var/run", "VDIR", 73, 1024, 0o755),
    Vnode("log-socket", "root", "/var/run/log", "VSOCK", 74, 0, 0o666),
    Vnode("deleted", "tmp", "/tmp/secret", inode=90, size=4096, mode=0o600, uid=1001, gid=1001, deleted=True),
    Vnode("uncached", "tmp", "/tmp/uncached", inode=91, size=100, cached=False),
    Vnode("fifo", "tmp", "/tmp/fifo", "VFIFO", 92, 0, 0o600),
    Vnode("alice-home", "home", "/home/alice", "VDIR", 100, 512, 0o750, 1001, 1001),
    Vnode("alice-notes", "home", "/home/alice/notes.txt", inode=101, size=1234, uid=1001, gid=1001),
    Vnode("var-cache", "root", "/var/cache", "VDIR", 75, 512, 0o755, dotdot=True),
    Vnode("revoked", "", "", "VBAD", 0, doomed=True),
    Vnode("srv", "root", "/srv", "VDIR", 80, 512, 0o755),
    Vnode("srv-www", "root", "/srv/www", "VDIR", 206, 512, 0o755),
    Vnode("srv-index", "root", "/srv/www/index.html", inode=208, size=612),
    Vnode("jails", "root", "/jails", "VDIR", 200, 512, 0o755),
    Vnode("jail-web", "root", "/jails/web", "VDIR", 201, 512, 0o755),
    Vnode("jail-web-dev-dir", "root", "/jails/web/dev", "VDIR", 202, 512, 0o755),
    Vnode("jail-web-dev-root", "web-dev", "", "VDIR", 2, 0, 0o555),
    Vnode("jail-web-null", "web-dev", "/jails/web/dev/null", "VCHR", 20, 0, 0o666, device="null"),
    Vnode("jail-web-usr", "root", "/jails/web/usr", "VDIR", 203, 512, 0o755),
    Vnode("jail-web-local", "root", "/jails/web/usr/local", "VDIR", 204, 512, 0o755),
    Vnode("jail-web-www-dir", "root", "/jails/web/usr/local/www", "VDIR", 205, 512, 0o755),
    Vnode("jail-web-www-root", "web-www", "", "VDIR", 206, 512, 0o755, lower="srv-www"),
    Vnode("jail-web-index", "web-www", "/jails/web/usr/local/www/index.html", inode=208, size=612, lower="srv-index"),
    Vnode("nginx", "root", "/jails/web/usr/local/nginx", inode=207, size=1_500_000, mode=0o555),
    Vnode("jail-db", "root", "/jails/db", "VDIR", 210, 512, 0o755),
    Vnode("jail-pg", "root", "/jails/db/pg", "VDIR", 211, 512, 0o700, 770, 770),
    Vnode("pg-tmp", "root", "/jails/db/pg/tmp", "VDIR", 213, 512, 0o1777),
    Vnode("pg-socket", "root", "/jails/db/pg/tmp/.s.PGSQL.5432", "VSOCK", 214, 0, 0o777, 770, 770),
    Vnode("postgres", "root", "/jails/db/pg/postgres", inode=212, size=9_000_000, mode=0o555),
)
