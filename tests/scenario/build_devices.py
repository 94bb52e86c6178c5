"""Character devices and terminals: `cdevp_list`, `struct cdev`, `tty_list`, `struct tty` and pts(4)."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_list, link_tailq, sizeof

from .file_types import DEVICE_TYPES
from .model import Device, Terminal
from .shapes import (
    fill_vector,
    link_chain,
    mtx_init,
    now,
    private,
    set_members,
    set_variable,
    text,
    timespec,
    vector,
    words,
)
from .world import World

DRIVERS = {
    "null_cdevsw": ("null", "null"),
    "zero_cdevsw": ("zero", "zero"),
    "mem_cdevsw": ("mem", "mem"),
    "cn_cdevsw": ("console", "cn"),
    "ttydev_cdevsw": ("ttydev", "tty"),
    "bpf_cdevsw": ("bpf", "bpf"),
    "g_dev_cdevsw": ("g_dev", "g_dev"),
}
"""`struct cdevsw` by the variable's name: its `d_name`, and how the names of its functions begin."""

TYPES = DEVICE_TYPES
VARIABLES = {
    "cdevp_list": "vnodelst",
    "devfs_generation": "unsigned int",
    "tty_list": "vnodelst",
    "tty_list_count": "unsigned int",
    "pts_class": "ttydevsw",
    "constty": "tty *",
} | dict.fromkeys(DRIVERS, "cdevsw")
FUNCTIONS = [
    "bpf_dtor",
    *(f"{prefix}_{operation}" for _, prefix in DRIVERS.values() for operation in ("open", "close", "read", "write")),
    *("ptsdrv_outwakeup", "ptsdrv_inwakeup", "ptsdrv_open", "ptsdrv_close", "ptsdrv_pktnotify", "ptsdrv_free"),
]

D_VERSION = {64: 0x17122009, 256: 0x5C48C353}
"""D_VERSION of sys/conf.h by the size of `si_name`."""
SI_ETERNAL, SI_NAMED = 0x1, 0x4
CDP_ACTIVE, CDP_ON_ACTIVE_LIST = 0x1, 0x8
TF_NOPREFIX, TF_OPENED_IN = 0x1, 0x8

BLOCK_OUT = 256
"""Bytes of a `struct ttyoutq_block` with its link (kern/tty_outq.c)."""
BLOCK_IN = 128
"""TTYINQ_DATASIZE (kern/tty_inq.c)."""
# A terminal's line discipline after getty: ICRNL|BRKINT|IXON|IMAXBEL, OPOST|ONLCR, CREAD|CS8|HUPCL, the usual c_lflag.
TERMIOS = {"c_iflag": 0x2B02, "c_oflag": 0x3, "c_cflag": 0x4B00, "c_lflag": 0x5CB, "c_ispeed": 9600, "c_ospeed": 9600}


def create(world: World) -> None:
    """Make drivers, devices and terminals."""
    for name, (device_name, prefix) in DRIVERS.items():
        _driver(world, name, device_name, prefix)
    for device in world.system.devices:
        _device(world, device)
    privates = list(world.all("cdev_priv").values())
    link_tailq(world.symbol("cdevp_list"), privates, "cdp_list")
    set_variable(world, "devfs_generation", len(privates))
    for unit, terminal in enumerate(world.system.terminals):
        _terminal(world, terminal, unit)
    link_tailq(world.symbol("tty_list"), world.all("tty").values(), "t_list")
    set_variable(world, "tty_list_count", len(world.system.terminals))


def _driver(world: World, name: str, device_name: str, prefix: str) -> None:
    """`struct cdevsw`; a kernel that was compiled has filled it."""
    table = world.put("cdevsw", name, vector(world, "cdevsw", name))
    if not table.d_version:
        types = world.memory.types
        table.d_version = D_VERSION[types.size(types.member("cdev", "si_name").type)]
        table.d_name = text(world, device_name)
    operations = ("open", "close", "read", "write")
    fill_vector(world, table, {f"d_{operation}": f"{prefix}_{operation}" for operation in operations})


def _device(world: World, device: Device) -> None:
    """`struct cdev` within its `struct cdev_priv`, as `make_dev` leaves it (kern/kern_conf.c)."""
    priv = world.put("cdev_priv", device.name, world.new("struct cdev_priv"))
    cdev = world.put("cdev", device.name, priv.cdp_c)
    cdev.si_name = device.name.encode()
    cdev.si_flags = SI_NAMED | (0 if device.name.startswith("pts/") else SI_ETERNAL)
    cdev.si_uid, cdev.si_gid, cdev.si_mode = device.uid, device.gid, device.mode
    cdev.si_refcount = 1
    cdev.si_devsw = world.get("cdevsw", device.driver)
    base = now(world, 600)
    cdev.si_atime, cdev.si_mtime, cdev.si_ctime = timespec(base + 2), timespec(base + 1), timespec(base)
    priv.cdp_inode = device.inode
    priv.cdp_flags = CDP_ACTIVE | CDP_ON_ACTIVE_LIST
    if world.has("cdev_priv", "cdp_threadlock"):
        mtx_init(world, priv.cdp_threadlock, "devthrd")


def _terminal(world: World, terminal: Terminal, unit: int) -> None:
    """`struct tty` of the slave side of a pts(4) (kern/tty.c, kern/tty_pts.c)."""
    tty = world.put("tty", terminal.name, world.new("struct tty"))
    mtx_init(world, tty.t_mtxobj, "ttymtx")
    tty.t_mtx = addressof(tty, "t_mtxobj")
    tty.t_flags = TF_NOPREFIX | TF_OPENED_IN
    tty.t_termios = TERMIOS
    tty.t_winsize = {"ws_row": 24, "ws_col": 80}
    for member in ("t_termios_init_in", "t_termios_init_out"):
        tty[member] = TERMIOS
    tty.t_devsw = _pts_class(world)
    tty.t_devswsoftc = _softc(world, terminal, unit)
    _output(world, tty, terminal.output)
    _input(world, tty, terminal.input)


def _pts_class(world: World) -> Object:
    table = vector(world, "ttydevsw", "pts_class")
    table.tsw_flags = TF_NOPREFIX
    operations = ("outwakeup", "inwakeup", "open", "close", "pktnotify", "free")
    fill_vector(world, table, {f"tsw_{operation}": f"ptsdrv_{operation}" for operation in operations})
    return table


def _softc(world: World, terminal: Terminal, unit: int) -> Object:
    """`struct pts_softc` of the master."""
    softc = world.put("pts_softc", terminal.name, private(world, "pts_softc"))
    if world.has_type("pts_softc"):
        softc.pts_unit = unit
    return softc


def _output(world: World, tty: Object, data: bytes) -> None:
    """The output queue: `struct ttyoutq_block`, a link and data."""
    room = BLOCK_OUT - world.memory.types.pointer_size
    pieces = [data[at : at + room] for at in range(0, len(data), room)]
    blocks = [words(world, 0, extra=room) for _ in pieces]
    for number, (block, piece) in enumerate(zip(blocks, pieces, strict=True)):
        block[0] = blocks[number + 1] if number + 1 < len(blocks) else 0
        world.memory.write(addressof(block) + sizeof(block), piece)
    queue = tty.t_outq
    queue.to_nblocks = queue.to_quota = len(blocks)
    if blocks:
        queue.to_firstblock, queue.to_lastblock = blocks[0], blocks[-1]
        queue.to_end = len(data)


def _input(world: World, tty: Object, data: bytes) -> None:
    """The input queue: `struct ttyinq_block`, links to both sides, a bit per character that is quoted, and data."""
    quotes = BLOCK_IN // 8
    pieces = [data[at : at + BLOCK_IN] for at in range(0, len(data), BLOCK_IN)]
    blocks = [words(world, 0, 0, extra=quotes + BLOCK_IN) for _ in pieces]
    for number, (block, piece) in enumerate(zip(blocks, pieces, strict=True)):
        block[0] = blocks[number - 1] if number else 0
        block[1] = blocks[number + 1] if number + 1 < len(blocks) else 0
        world.memory.write(addressof(block) + sizeof(block) + quotes, piece)
    queue = tty.t_inq
    queue.ti_nblocks = queue.ti_quota = len(blocks)
    if blocks:
        queue.ti_firstblock = queue.ti_startblock = queue.ti_reprintblock = blocks[0]
        queue.ti_lastblock = blocks[-1]
        queue.ti_linestart = queue.ti_reprint = queue.ti_end = len(data)


def connect(world: World) -> None:
    """Lead devices to their drivers' lists and credentials, terminals to sessions, and back."""
    for name in DRIVERS:
        cdevs = [world.get("cdev", device.name) for device in world.system.devices if device.driver == name]
        link_chain(world.get("cdevsw", name).d_devs, cdevs, "si_list")
    for number, terminal in enumerate(world.system.terminals):
        _connect_terminal(world, terminal, number)
    for session in world.system.sessions:
        if session.tty:
            _connect_session(world, session.sid, session.tty)
    _connect_bpf(world)


def _connect_terminal(world: World, terminal: Terminal, unit: int) -> None:
    tty = world.get("tty", terminal.name)
    cdev = world.get("cdev", terminal.name)
    tty.t_dev = cdev
    cdev.si_drv0 = unit
    cdev.si_drv1 = tty
    tty.t_session = world.find("session", terminal.sid)
    tty.t_pgrp = world.find("pgrp", terminal.pgid)
    tty.t_sessioncnt = sum(session.tty == terminal.name for session in world.system.sessions)
    creator = world.find("ucred", "root")
    cdev.si_cred = creator
    softc = world.get("pts_softc", terminal.name)
    if world.has_type("pts_softc"):
        set_members(world, softc, pts_cred=creator)


def _connect_session(world: World, sid: int, name: str) -> None:
    """The controlling terminal of a session."""
    session = world.find("session", sid)
    if isinstance(session, Object):
        session.s_ttyp = world.get("tty", name)
        session.s_ttydp = world.get("cdev_priv", name)
        session.s_ttyvp = next(
            (world.find("vnode", vnode.key) for vnode in world.system.vnodes if vnode.device == name), 0
        )


def _connect_bpf(world: World) -> None:
    """What a driver keeps for an open file (devfs_set_cdevpriv(9)): `struct cdev_privdata` leads to a listener."""
    found = []
    devices = {vnode.key: vnode.device for vnode in world.system.vnodes}
    for (_, _, pid), listener in world.all("bpf_d").items():
        process = next(item for item in world.system.processes if item.pid == pid)
        number = next(item.fd for item in process.descriptors if devices.get(item.key) == "bpf")
        file = world.get("file", (pid, number))
        data = world.new("struct cdev_privdata", cdpd_fp=file, cdpd_data=listener)
        data.cdpd_dtr = world.function("bpf_dtor")
        file.f_vnun.fvn_cdevpriv = data
        found.append(data)
    link_list(world.get("cdev_priv", "bpf").cdp_fdpriv, found, "cdpd_list")
