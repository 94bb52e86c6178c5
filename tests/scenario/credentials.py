"""Who processes are: `struct ucred`, with what it refers to: `uidinfo` and `loginclass` (kern/kern_prot.c)."""

from __future__ import annotations

from tests.writers.objects import Object, addressof, link_list

from .model import Credentials
from .shapes import fill_hash, hash_table, mtx_init, rw_init
from .world import World

CRED_FLAG_CAPMODE, CRED_FLAG_GROUPSET = 0x1, 0x2
AU_IPV4 = 4
SMALL_GROUPS = 16

TYPES = {
    "uihashhead": {"lh_first": "struct uidinfo *"},
    "loginclasslist": {"lh_first": "struct loginclass *"},
}
VARIABLES = {
    "uihashtbl": "struct uihashhead *",
    "uihash": "unsigned long",
    "uihashtbl_lock": "struct rwlock",
    "loginclasses": "struct loginclasslist",
    "loginclass_lock": "struct rwlock",
}


def create_credentials(world: World) -> None:
    """A `struct ucred` for each of the description's credentials; processes with the same ones share it."""
    _create_loginclasses(world)
    _create_uidinfos(world)
    for key, item in world.system.credentials.items():
        _fill(world, item, world.put("ucred", key, world.new("struct ucred")))
    _count(world)


def _create_loginclasses(world: World) -> None:
    """`loginclass_find`: new ones go to the head of `loginclasses`."""
    made: list[Object] = []
    for name in dict.fromkeys(item.login_class for item in world.system.credentials.values()):
        made.insert(0, world.put("loginclass", name, world.new("struct loginclass", lc_name=name)))
    if world.has_symbol("loginclasses"):
        link_list(world.symbol("loginclasses"), made, "lc_next")
    if world.has_symbol("loginclass_lock"):
        rw_init(world, world.symbol("loginclass_lock"), "loginclass lock")


def _create_uidinfos(world: World) -> None:
    """`uifind`: found by uid through `uihashtbl`, of ``maxproc / 16`` chains."""
    table = hash_table(world, "uihashtbl", "uihash", power_of_two(max_processes(world) // 16))
    for item in world.system.credentials.values():
        for uid in (item.uid, item.ruid):
            if not world.find("uidinfo", uid):
                world.put("uidinfo", uid, world.new("struct uidinfo", ui_uid=uid))
    fill_hash(table, world.all("uidinfo").values(), "ui_hash", lambda info: info.ui_uid)
    if world.has_symbol("uihashtbl_lock"):
        rw_init(world, world.symbol("uihashtbl_lock"), "uidinfo hash")


def max_processes(world: World) -> int:
    """`maxproc`, which the sizes of several tables come from."""
    return next(int(item.value or 0) for item in world.system.sysctls if item.name == "kern.maxproc")


def power_of_two(count: int) -> int:
    """Chains of the table that hashinit(9) makes for `count` elements: the largest power of two that is not more."""
    return 1 << max(count, 1).bit_length() - 1


def _fill(world: World, item: Credentials, ucred: Object) -> None:
    ucred.cr_uid, ucred.cr_ruid, ucred.cr_svuid = item.uid, item.ruid, item.svuid
    ucred.cr_rgid, ucred.cr_svgid = item.rgid, item.svgid
    ucred.cr_uidinfo = world.get("uidinfo", item.uid)
    ucred.cr_ruidinfo = world.get("uidinfo", item.ruid)
    ucred.cr_prison = world.get("prison", item.jid)
    ucred.cr_loginclass = world.get("loginclass", item.login_class)
    ucred.cr_flags = CRED_FLAG_CAPMODE if item.capability_mode else 0
    ucred.cr_audit.ai_auid = item.audit_id
    ucred.cr_audit.ai_asid = item.audit_session
    ucred.cr_audit.ai_termid.at_type = AU_IPV4
    if world.has("ucred", "cr_mtx"):
        mtx_init(world, ucred.cr_mtx, "cred")
    _set_groups(world, item, ucred)


def _set_groups(world: World, item: Credentials, ucred: Object) -> None:
    """15.0 keeps the effective group in `cr_gid`; before, it is the first of `cr_groups`. The others are sorted."""
    groups = sorted(item.groups)
    if world.has("ucred", "cr_gid"):
        ucred.cr_gid = item.gid
        ucred.cr_flags |= CRED_FLAG_GROUPSET
    else:
        groups.insert(0, item.gid)
    ucred.cr_ngroups = len(groups)
    if len(groups) <= SMALL_GROUPS:
        ucred.cr_agroups = SMALL_GROUPS
        ucred.cr_smallgroups = groups
        ucred.cr_groups = addressof(ucred, "cr_smallgroups")
    else:
        # crextend: a power of two of groups below a page
        room = 1 << (len(groups) - 1).bit_length()
        ucred.cr_agroups = room
        ucred.cr_groups = world.memory.array("unsigned int", [*groups, *[0] * (room - len(groups))])


def _count(world: World) -> None:
    """References on credentials by processes and threads (14.0: `cr_users`), and on their parts by credentials."""
    for process in world.system.processes:
        ucred = world.get("ucred", process.credentials)
        users = 1 + len(process.threads)
        if world.has("ucred", "cr_users"):
            ucred.cr_users += users
            ucred.cr_ref = 1
        else:
            ucred.cr_ref += users
        item = world.system.credentials[process.credentials]
        world.get("uidinfo", item.ruid).ui_proccnt += 1
    for item in world.system.credentials.values():
        world.get("loginclass", item.login_class).lc_refcount += 1
        for uid in (item.uid, item.ruid):
            world.get("uidinfo", uid).ui_ref += 1
