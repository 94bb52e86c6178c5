"""Numbers of interfaces and their names: flags, types, states of links, counters.

# Reference: sys/net/if.h (IFF_), sys/net/if_types.h (IFT_), sys/net/if_var.h (enum ift_counter), sbin/ifconfig
"""

from __future__ import annotations

IFF_BROADCAST, IFF_POINTOPOINT, IFF_PROMISC, IFF_PPROMISC = 0x2, 0x10, 0x100, 0x20000
FLAGS = (
    (0x1, "UP"),
    (IFF_BROADCAST, "BROADCAST"),
    (0x4, "DEBUG"),
    (0x8, "LOOPBACK"),
    (IFF_POINTOPOINT, "POINTOPOINT"),
    (0x40, "RUNNING"),
    (0x80, "NOARP"),
    (IFF_PROMISC, "PROMISC"),
    (0x200, "ALLMULTI"),
    (0x400, "OACTIVE"),
    (0x800, "SIMPLEX"),
    (0x1000, "LINK0"),
    (0x2000, "LINK1"),
    (0x4000, "LINK2"),
    (0x8000, "MULTICAST"),
    (0x10000, "CANTCONFIG"),
    (IFF_PPROMISC, "PPROMISC"),
    (0x40000, "MONITOR"),
    (0x80000, "STATICARP"),
    (0x100000, "STICKYARP"),
    (0x200000, "DYING"),
    (0x400000, "RENAMING"),
)
"""IFF_ as ifconfig(8) prints them, and those that it does not print but that mean the same in every release."""
DRIVER_FLAGS = 0x440
"""RUNNING and OACTIVE, which are in ``if_drv_flags``."""
TYPES = {
    0x1: "other",
    0x6: "ether",
    0x9: "iso88025",
    0xF: "fddi",
    0x17: "ppp",
    0x18: "loop",
    0x1C: "slip",
    0x20: "frelay",
    0x23: "arcnet",
    0x25: "atm",
    0x35: "propvirtual",
    0x47: "ieee80211",
    0x83: "tunnel",
    0x87: "l2vlan",
    0x88: "l3ipvlan",
    0x90: "ieee1394",
    0x96: "mplstunnel",
    0xA0: "usb",
    0xA1: "lagg",
    0xC7: "infiniband",
    0xC8: "infinibandlag",
    0xD1: "bridge",
    0xD7: "stf",
    0xF0: "gif",
    0xF4: "enc",
    0xF6: "pflog",
    0xF7: "pfsync",
    0xF8: "wireguard",
    0xF9: "mbim",
}
"""IFT_ in small letters; IFT_IEEE8023ADLAG is what only lagg(4) has."""
LINK_STATES = {0: "unknown", 1: "down", 2: "up"}
COUNTERS = (
    "ipackets",
    "ierrors",
    "opackets",
    "oerrors",
    "collisions",
    "ibytes",
    "obytes",
    "imcasts",
    "omcasts",
    "iqdrops",
    "oqdrops",
    "noproto",
)
"""By ``enum ift_counter`` (11.0); members of ``struct if_data`` have the same names."""


def flag_names(flags: int) -> tuple[str, ...]:
    """The names of IFF_ flags."""
    return tuple(name for bit, name in FLAGS if flags & bit)
