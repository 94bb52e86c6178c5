"""Sockets and who has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from volatility3_freebsd_kvm.bsd.records import Absent
from volatility3_freebsd_kvm.output import Hex, grid, kernel_of, kernel_requirement

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.sockets import Row

_NONE = Absent.NOT_APPLICABLE


class Sockstat(interfaces.plugins.PluginInterface):
    """Lists the sockets of every vnet as sockstat does, with their owners, and tells those that are hidden."""

    _required_framework_version = (2, 13, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The kernel, and which sockets."""
        return [
            kernel_requirement(),
            requirements.ListRequirement(
                name="pid",
                description="Only sockets that these processes have",
                element_type=int,
                optional=True,
            ),
            requirements.ListRequirement(
                name="protocol",
                description="Only these protocols: tcp, tcp4, udp, icmp, raw, unix, stream, inet6, ...",
                element_type=str,
                optional=True,
            ),
            requirements.StringRequirement(
                name="vnet",
                description="Only the vnet of this jail (id or name), or at this address; 0 is the host's",
                optional=True,
            ),
            requirements.StringRequirement(
                name="jail",
                description="Only sockets of the processes of this jail (id or name); 0 is the host",
                optional=True,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """One row for each descriptor of a socket; one for a socket or connection that nobody has."""
        from volatility3_freebsd_kvm.bsd.sockets import Selection

        columns = [
            ("User", int),
            ("Command", str),
            ("PID", int),
            ("FD", int),
            ("Proto", str),
            ("Local Address", str),
            ("Foreign Address", str),
            ("State", str),
            ("Vnet", Hex),
            ("JID", int),
            ("Jail", str),
            ("Recv-Q", int),
            ("Send-Q", int),
            ("Listen", str),
            ("Options", str),
            ("FIB", int),
            ("Creator", int),
            ("Generation", int),
            ("Socket", Hex),
            ("PCB", Hex),
            ("Notes", str),
        ]
        selection = Selection(
            str(self.config.get("vnet") or ""),
            str(self.config.get("jail") or ""),
            tuple(self.config.get("pid") or ()),
            tuple(self.config.get("protocol") or ()),
        )
        return grid(columns, selection.rows(kernel_of(self)), _row)


def _row(item: Row) -> tuple[object, ...]:
    found, holder = item
    socket = found.socket
    return (
        *((holder.uid, holder.command, holder.pid, holder.fd) if holder else (_NONE,) * 4),
        found.shown_protocol(),
        found.local_text(),
        found.foreign_text(),
        found.state,
        found.vnet or _NONE,
        holder.jid if holder else found.creator.jid,
        holder.jail if holder else found.creator.jail,
        found.received,
        found.unsent,
        found.listening,
        found.options,
        found.fib,
        found.creator.uid,
        socket.generation if socket else _NONE,
        socket.address if socket else _NONE,
        found.pcb or _NONE,
        "; ".join(found.notes),
    )
