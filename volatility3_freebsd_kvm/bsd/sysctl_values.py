"""The values of sysctls, without running their handlers.

# Reference: sys/kern/kern_sysctl.c (sysctl_handle_*), kern_mib.c, subr_pcpu.c (sysctl_dpcpu_*), sbin/sysctl/sysctl.c
"""

from __future__ import annotations

from collections.abc import Callable

from ..exceptions import AddressError, SymbolError
from .clock import NANO, clock_of, utc
from .kernel import Kernel
from .machine import load_averages, pages_to_bytes
from .objects import Object
from .records import Absent

MAX_TEXT = 4096
_MAX_OPAQUE, _SHOWN_OPAQUE = 1 << 26, 64
_NODE, _STRING, _OPAQUE = 1, 3, 5
_VNET = 0x0002_0000
# Size in bytes (0: that of a long) and whether it is signed, by CTLTYPE.
_INTEGERS = {
    2: (4, True),
    4: (8, True),
    6: (4, False),
    7: (0, True),
    8: (0, False),
    9: (8, False),
    0xA: (1, False),
    0xB: (2, False),
    0xC: (1, True),
    0xD: (2, True),
    0xE: (4, True),
    0xF: (4, False),
}
# The handlers that copy the variable as it is.
_PLAIN = {
    "",
    *(f"sysctl_handle_{kind}" for kind in ("bool", "8", "16", "32", "int", "long", "64", "string", "opaque")),
    # 10 and before.
    *("sysctl_handle_quad",),
}
_DPCPU = {"sysctl_dpcpu_int": 4, "sysctl_dpcpu_long": 0, "sysctl_dpcpu_quad": 8}


class Values:
    """Reads values for one vnet."""

    def __init__(self, kernel: Kernel, vnet: int | str | None = None) -> None:
        """Choose the vnet, the host's unless told.

        Raises:
            SymbolError: there is no such vnet.
        """
        self.kernel = kernel
        self.structs = kernel.structs
        self.vnet = kernel.vnet(vnet).vnet
        self.computed: dict[str, Callable[[Object], str]] = {
            "sysctl_kern_boottime": self._boot_time,
            "sysctl_vm_loadavg": lambda _oid: load_text(load_averages(kernel)),
            "sysctl_hostname": self._host_text,
            "sysctl_hostid": lambda _oid: str(int(self._host().pr_hostid)),
            "sysctl_kern_securelvl": lambda _oid: str(int(self._host().pr_securelevel)),
            "sysctl_osrelease": lambda _oid: str(self._host().pr_osrelease),
            "sysctl_osreldate": lambda _oid: str(int(self._host().pr_osreldate)),
            "sysctl_hw_physmem": lambda _oid: str(pages_to_bytes(kernel, "physmem")),
            "sysctl_hw_realmem": lambda _oid: str(pages_to_bytes(kernel, "realmem")),
            "sysctl_hw_machine_arch": lambda _oid: kernel.text(kernel.address("machine_arch"), MAX_TEXT),
            "sysctl_msec_to_ticks": self._milliseconds,
        }

    def of(self, oid: Object, handler: str, notes: list[str]) -> str | Absent:
        """The value as sysctl(8) prints it.

        Args:
            oid: a ``struct sysctl_oid``.
            handler: symbol of its handler: ``kernel!sysctl_handle_int``; empty if there is none or it is not known.
            notes: what is odd is appended.
        """
        name = handler.rpartition("!")[2]
        try:
            if oid.oid_kind & 0xF == _NODE:
                return Absent.NOT_APPLICABLE
            if name in self.computed:
                return self.computed[name](oid)
            if name in _DPCPU:
                return self._sum_of_cpus(oid, _DPCPU[name])
            if name in _PLAIN and not (oid.oid_handler and not handler):
                return self._plain(oid, notes)
        except AddressError:
            return Absent.UNREADABLE
        except SymbolError:
            pass
        return Absent.NOT_AVAILABLE

    # Variables

    def _plain(self, oid: Object, notes: list[str]) -> str | Absent:
        kind = oid.oid_kind & 0xF
        place = self._place(oid)
        if kind in _INTEGERS:
            return str(self._integer(oid, place, *_INTEGERS[kind]))
        if not place:
            return Absent.NOT_AVAILABLE
        length = int(oid.oid_arg2)
        if not 0 <= length <= _MAX_OPAQUE:
            notes.append(f"a length of {length} bytes is impossible")
            length = 0 if kind == _STRING else _SHOWN_OPAQUE
        if kind == _STRING:
            return self._text(place, length)
        return self._opaque(place, length, oid.oid_fmt.text_(MAX_TEXT)) if kind == _OPAQUE else Absent.NOT_AVAILABLE

    def _place(self, oid: Object) -> int:
        """``oid_arg1``, in the chosen vnet where it is the address of a VNET template (sysctl_root_handler_locked)."""
        place = int(oid.oid_arg1)
        if place and oid.oid_kind & _VNET and self.vnet:
            return (place + self.vnet.data_base) & (1 << 8 * self.structs.word_size) - 1
        return place

    def _integer(self, oid: Object, place: int, size: int, signed: bool) -> int:
        """The variable, or the constant ``oid_arg2`` where there is none."""
        size = size or self.structs.word_size
        value = self.structs.uint(place, size) if place else int(oid.oid_arg2) & (1 << 8 * size) - 1
        return value - (1 << 8 * size) if signed and value >> 8 * size - 1 else value

    def _text(self, place: int, length: int) -> str:
        limit = min(length or MAX_TEXT, MAX_TEXT)
        text = self.structs.string(place, limit)
        cut = len(text) == MAX_TEXT
        return text.decode("utf-8", "replace").rstrip("\n") + (" …" if cut else "")

    def _opaque(self, place: int, length: int, form: str) -> str:
        """Known structures as sysctl(8) prints them, others in hexadecimal."""
        if form == "S,timeval" and length in (8, 12, 16):
            half = 4 if length == 8 else 8
            fraction = self.structs.uint(place + half, length - half)
            return time_text(self.structs.uint(place, half), fraction)
        if form == "S,clockinfo" and length == 20:
            hz, tick, _, stathz, profhz = (self.structs.uint(place + at, 4) for at in range(0, 20, 4))
            return f"{{ hz = {hz}, tick = {tick}, profhz = {profhz}, stathz = {stathz} }}"
        data = self.structs.read(place, min(length, _SHOWN_OPAQUE))
        return data.hex(" ") + (f" … ({length} bytes)" if length > len(data) else "")

    # What handlers compute

    def _host(self) -> Object:
        return self.kernel.object("prison", self.kernel.address("prison0"))

    def _host_text(self, oid: Object) -> str:
        """``oid_arg1`` is the offset of a string in the prison."""
        offset, length = int(oid.oid_arg1), int(oid.oid_arg2)
        if not 0 < offset < self._host().size_ or not 0 < length <= MAX_TEXT:
            msg = "no offset in struct prison"
            raise SymbolError(msg)
        return self.kernel.text(self._host().address_ + offset, length)

    def _boot_time(self, _oid: Object) -> str:
        boot = clock_of(self.kernel).boot
        if isinstance(boot, Absent):
            msg = "the time of the boot is not known"
            raise SymbolError(msg)
        return time_text(boot // NANO, boot % NANO // 1000)

    def _milliseconds(self, oid: Object) -> str:
        ticks = self._integer(oid, self._place(oid), 4, signed=True)
        hz = self.kernel.integer("hz")
        if hz <= 0:
            msg = "hz is not positive"
            raise SymbolError(msg)
        return str(int(ticks * 1000 / hz))

    def _sum_of_cpus(self, oid: Object, size: int) -> str:
        """``oid_arg1`` is the address of a DPCPU template."""
        size = size or self.structs.word_size
        mask = (1 << 8 * self.structs.word_size) - 1
        places = [(int(oid.oid_arg1) + cpu.data_base) & mask for cpu in self.kernel.names.cpus]
        total = sum(self.structs.uint(place, size) for place in places) & (1 << 8 * size) - 1
        return str(total - (1 << 8 * size) if total >> 8 * size - 1 else total)


def time_text(seconds: int, microseconds: int) -> str:
    """A time as sysctl(8) prints it, in UTC; without the date where no calendar reaches."""
    date = utc(seconds * NANO)
    text = f"{{ sec = {seconds}, usec = {microseconds} }}"
    return text if isinstance(date, Absent) else f"{text} {date:%a %b} {date.day:2} {date:%H:%M:%S %Y}"


def load_text(loads: tuple[float, float, float]) -> str:
    """Load averages as sysctl(8) prints them."""
    return "{ " + " ".join(f"{load:.2f}" for load in loads) + " }"
