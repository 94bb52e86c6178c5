"""FreeBSD 10 with sockets, made by hand: there are no layouts of it."""

from __future__ import annotations

from typing import Any

from tests.bsd.handmade import HandMade
from tests.writers.objects import Object, link_list
from volatility3_freebsd_kvm.bsd.connection import Connection
from volatility3_freebsd_kvm.bsd.records import Problem
from volatility3_freebsd_kvm.bsd.sockets import find_connections

AF_INET = 2
SOCK_STREAM = 1
LINK = {"le_next": "void *", "le_prev": "void *"}
TAIL_LINK = {"tqe_next": "void *", "tqe_prev": "void *"}
TYPES: dict[str, dict[str, str]] = {
    "link": LINK,
    "tail_link": TAIL_LINK,
    "list_head": {"lh_first": "void *"},
    "tailq_head": {"tqh_first": "void *", "tqh_last": "void *"},
    "prison": {"pr_id": "int", "pr_name": "char[256]"},
    "ucred": {"cr_uid": "unsigned int", "cr_prison": "struct prison *"},
    # sys/sys/filedesc.h of 10: the table and the number of its entries are in struct filedesc.
    "filedescent": {"fde_file": "void *", "fde_flags": "unsigned char"},
    "filedesc": {"fd_ofiles": "void *", "fd_nfiles": "int"},
    "file": {"f_data": "void *", "f_ops": "void *", "f_type": "short"},
    "proc": {
        "p_list": "struct link",
        "p_ucred": "struct ucred *",
        "p_fd": "struct filedesc *",
        "p_pid": "int",
        "p_comm": "char[20]",
    },
    "domain": {"dom_family": "int", "dom_name": "char *"},
    "protosw": {"pr_type": "short", "pr_domain": "struct domain *", "pr_protocol": "short"},
    # sys/sys/sockbuf.h of 10: one count of bytes.
    "sockbuf": {
        "sb_cc": "unsigned int",
        "sb_hiwat": "unsigned int",
        "sb_mbcnt": "unsigned int",
        "sb_mbmax": "unsigned int",
        "sb_lowat": "int",
    },
    # sys/sys/socketvar.h of 10: every socket has queues.
    "socket": {
        "so_count": "int",
        "so_type": "short",
        "so_options": "short",
        "so_state": "short",
        "so_pcb": "void *",
        "so_vnet": "void *",
        "so_proto": "struct protosw *",
        "so_head": "void *",
        "so_incomp": "struct tailq_head",
        "so_comp": "struct tailq_head",
        "so_list": "struct tail_link",
        "so_qlen": "unsigned int",
        "so_incqlen": "unsigned int",
        "so_qlimit": "unsigned int",
        "so_error": "unsigned short",
        "so_rcv": "struct sockbuf",
        "so_snd": "struct sockbuf",
        "so_cred": "struct ucred *",
        "so_gencnt": "unsigned long",
        "so_fibnum": "int",
        "so_user_cookie": "unsigned int",
    },
    "in_endpoints": {
        "ie_fport": "unsigned short",
        "ie_lport": "unsigned short",
        "ie_dependfaddr": "unsigned char[16]",
        "ie_dependladdr": "unsigned char[16]",
    },
    "in_conninfo": {
        "inc_flags": "unsigned char",
        "inc_len": "unsigned char",
        "inc_fibnum": "unsigned short",
        "inc_ie": "struct in_endpoints",
    },
    "inpcb": {
        "inp_hash": "struct link",
        "inp_list": "struct link",
        "inp_ppcb": "void *",
        "inp_pcbinfo": "void *",
        "inp_socket": "void *",
        "inp_cred": "struct ucred *",
        "inp_flags": "int",
        "inp_vflag": "unsigned char",
        "inp_ip_p": "unsigned char",
        "inp_inc": "struct in_conninfo",
        "inp_portlist": "struct link",
        "inp_phd": "void *",
        "inp_gencnt": "unsigned long",
    },
    "inpcbport": {"phd_hash": "struct link", "phd_pcblist": "struct list_head", "phd_port": "unsigned short"},
    "inpcbinfo": {
        "ipi_listhead": "void *",
        "ipi_count": "unsigned int",
        "ipi_gencnt": "unsigned long",
        "ipi_hashbase": "void *",
        "ipi_hashmask": "unsigned long",
        "ipi_porthashbase": "void *",
        "ipi_porthashmask": "unsigned long",
    },
    # sys/netinet/tcp_var.h of 10: the state is a plain int.
    "tcpcb": {"t_inpcb": "void *", "t_state": "int", "t_flags": "unsigned int"},
    "unpcb": {"unp_link": "struct link", "unp_socket": "void *", "unp_conn": "void *", "unp_addr": "void *"},
    "tcptw": {"tw_inpcb": "void *", "iss": "unsigned int", "tw_cred": "struct ucred *"},
}


class Old(HandMade):
    """FreeBSD 10: one network stack without VIMAGE, and a process with descriptors."""

    def __init__(self, more: dict[str, dict[str, str]] | None = None) -> None:
        super().__init__({**TYPES, **(more or {})})
        prison = self.new("struct prison", pr_name=b"0")
        self.cred = self.new("struct ucred", cr_uid=53, cr_prison=prison)
        self.tcp = self.protocol(AF_INET, b"internet", SOCK_STREAM, 6)
        self.infos = {name: self._database(name) for name in ("tcb", "udb", "ripcb")}
        self.functions = self.variable("socketops", "long")
        self.allproc = self.variable("allproc", "struct list_head")
        for name in ("unp_shead", "unp_dhead", "unp_sphead"):
            self.variable(name, "struct list_head")

    def _database(self, name: str) -> Object:
        head = self.variable(name, "struct list_head")
        return self.variable(f"{name}info", "struct inpcbinfo", {"ipi_listhead": head})

    def protocol(self, family: int, name: bytes, kind: int, number: int) -> Object:
        domain = self.new("struct domain", dom_family=family, dom_name=self.text(name))
        return self.new("struct protosw", pr_type=kind, pr_domain=domain, pr_protocol=number)

    def socket(self, protosw: Object, **members: Any) -> Object:
        return self.new("struct socket", so_proto=protosw, so_cred=self.cred, so_type=protosw.pr_type, **members)

    def connection(self, socket: Object | int, ports: tuple[int, int], state: int, flags: int = 0) -> Object:
        """A TCP connection of 192.0.2.1, or from it to 192.0.2.2."""
        inpcb = self.new(
            "struct inpcb",
            inp_pcbinfo=self.infos["tcb"],
            inp_socket=socket,
            inp_cred=self.cred,
            inp_flags=flags,
            inp_vflag=1,
            inp_inc__inc_ie__ie_lport=ports[0].to_bytes(2, "big"),
            inp_inc__inc_ie__ie_fport=ports[1].to_bytes(2, "big"),
            inp_inc__inc_ie__ie_dependladdr=bytes(12) + bytes([192, 0, 2, 1]),
            inp_inc__inc_ie__ie_dependfaddr=bytes(12) + (bytes([192, 0, 2, 2]) if ports[1] else bytes(4)),
        )
        inpcb.inp_ppcb = self.new("struct tcpcb", t_inpcb=inpcb, t_state=state)
        if isinstance(socket, Object):
            socket.so_pcb = inpcb
        return inpcb

    def list_of_tcp(self, inpcbs: list[Object]) -> None:
        info = self.infos["tcb"]
        link_list(Object(self, self.types.parse("struct list_head"), info.ipi_listhead), inpcbs, "inp_list")  # type: ignore[arg-type]
        info.ipi_count = len(inpcbs)

    def process(self, sockets: list[Object]) -> None:
        """One that has these sockets as descriptors 0, 2, 4, …"""
        table = self.new(f"struct filedescent[{2 * len(sockets) or 1}]")
        for number, socket in enumerate(sockets):
            table[2 * number].fde_file = self.new("struct file", f_data=socket, f_ops=self.functions, f_type=2)
        descriptors = self.new("struct filedesc", fd_ofiles=table, fd_nfiles=2 * len(sockets))
        proc = self.new("struct proc", p_pid=42, p_comm=b"named", p_ucred=self.cred, p_fd=descriptors)
        link_list(self.allproc, [proc], "p_list")

    def found(self) -> tuple[dict[int, Connection], list[Problem]]:
        connections, problems = find_connections(self.kernel())
        unknown = [one for one in problems if one.where != "syncache"]
        return {int(one.pcb): one for one in connections if isinstance(one.pcb, int)}, unknown
