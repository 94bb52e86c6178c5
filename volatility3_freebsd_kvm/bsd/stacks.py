"""Network stacks: choosing some of a kernel's vnets, and how records name them.

# Reference: sys/net/vnet.h, sys/kern/kern_jail.c
"""

from __future__ import annotations

from ..exceptions import SymbolError
from .jail import Jail, jails
from .kernel import Kernel, View
from .records import Absent


def chosen_stacks(kernel: Kernel, vnet: str = "", jail: str = "") -> list[View]:
    """The stacks that an analyst wants to see: all of them, unless told.

    Args:
        kernel: the kernel; without VIMAGE it has one stack, which all jails use.
        vnet: only the vnet of this jail (id or name) or at this address.
        jail: only the stack that the jail of this id or name uses.

    Raises:
        SymbolError: there is no such vnet or jail.
    """
    stacks = [kernel.vnet(vnet)] if vnet else kernel.vnets()
    if not jail:
        return stacks
    used = _vnet_of_jail(kernel, jail)
    return [stack for stack in stacks if stack.vnet is None or stack.vnet.address == used]


def _vnet_of_jail(kernel: Kernel, jail: str) -> int:
    """Address of the vnet that a jail uses; 0 on a kernel without VIMAGE."""
    known = [(jid, name, vnet.address) for vnet in kernel.names.vnets for jid, name in vnet.jails]
    if not kernel.names.vnets:
        known = [(one.jid, one.name, 0) for one in jails(kernel) if isinstance(one, Jail)]  # type: ignore[misc]
    for jid, name, address in known:
        if jail in (str(jid), name):
            return address
    names = ", ".join(f"{jid} {name}" for jid, name, _ in known)
    msg = f"there is no jail {jail}; there are: {names or 'none that can be read'}"
    raise SymbolError(msg)


def vnet_key(stack: View) -> int:
    """What to tell stacks apart by: the address of the ``struct vnet``, 0 on a kernel without VIMAGE."""
    return stack.vnet.address if stack.vnet else 0


def vnet_address(stack: View) -> int | Absent:
    """The address of a stack's ``struct vnet``; NOT_APPLICABLE on a kernel without VIMAGE."""
    return stack.vnet.address if stack.vnet else Absent.NOT_APPLICABLE


def jail_names(stack: View) -> tuple[str, ...] | Absent:
    """The names of the jails that use a stack."""
    if stack.vnet is None:
        return Absent.NOT_APPLICABLE
    return stack.vnet.jail_names or Absent.NOT_AVAILABLE


def place(stack: View, what: str) -> str:
    """Where a walk is, for problems: ``ifnet of vnet 0xfffff80002345000 (host)``."""
    return f"{what} of vnet {stack.vnet}" if stack.vnet else what
