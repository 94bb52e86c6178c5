"""Does a kernel file belong to a dump? A minidump has no build id, so what both say of the kernel is compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..exceptions import AddressError, FormatError
from ..text import printable
from .isf import types_of
from .nlist import Names
from .partial import PARTIAL
from .structs import Structs
from .table import TableIdentity, identity_of

MAX_BANNER = 1024
BANNER_START = b"FreeBSD "
# Read-only data may have been patched here and there; another kernel agrees by chance only.
_ENOUGH_SAMPLES = 0.75
_OFFSETS = {
    "proc_off_p_pid": ("proc", "p_pid"),
    "proc_off_p_comm": ("proc", "p_comm"),
    "proc_off_p_list": ("proc", "p_list"),
    "proc_off_p_threads": ("proc", "p_threads"),
    "proc_off_p_hash": ("proc", "p_hash"),
    "thread_off_td_tid": ("thread", "td_tid"),
    "thread_off_td_name": ("thread", "td_name"),
    "thread_off_td_oncpu": ("thread", "td_oncpu"),
    "thread_off_td_pcb": ("thread", "td_pcb"),
    "thread_off_td_plist": ("thread", "td_plist"),
}
"""The kernel's own words (kern_proc.c) about its structures."""
_SIZES = {"proc0": "proc", "thread0_st": "thread", "prison0": "prison", "vmspace0": "vmspace"}


class Verdict(Enum):
    """What the checks say together."""

    FITS = "fits"
    UNKNOWN = "unknown"
    DIFFERS = "does not fit"


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        what: what was compared.
        expected: what the kernel file or the types say.
        found: what the dump's memory says; empty if it cannot be read, or says nothing.
        verdict: whether they agree.
        strong: whether agreement shows that it is the same kernel, not only a similar one.
        group: what to call it together with others of its kind, when they agree.
    """

    what: str
    expected: str
    found: str
    verdict: Verdict
    strong: bool = True
    group: str = ""


@dataclass(frozen=True)
class Fit:
    """The comparisons of a kernel and its types with a dump."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """`DIFFERS` if any comparison fails, `FITS` if a strong one agrees."""
        if any(check.verdict is Verdict.DIFFERS for check in self.checks):
            return Verdict.DIFFERS
        agreed = any(check.verdict is Verdict.FITS and check.strong for check in self.checks)
        return Verdict.FITS if agreed else Verdict.UNKNOWN

    def __str__(self) -> str:
        differing = [
            f"{check.what} is {check.found or 'empty'}, not {check.expected}"
            for check in self.checks
            if check.verdict is Verdict.DIFFERS
        ]
        if differing:
            return f"{self.verdict.value}: {'; '.join(differing)}"
        return f"{self.verdict.value}: {', '.join(self._agreed()) or 'nothing could be compared'}"

    def _agreed(self) -> Iterator[str]:
        agreed = [check for check in self.checks if check.verdict is Verdict.FITS]
        yield from (check.what for check in agreed if not check.group)
        groups = Counter(check.group for check in agreed if check.group)
        yield from (f"{count} {group}" for group, count in groups.items())


def check_fit(names: Names, identity: TableIdentity) -> Fit:
    """Compare a kernel's symbols, identity and types with the memory that `names` reads."""
    # Types that were made of the kernel's own offsets agree with them in any case.
    types = () if identity.types_from == PARTIAL else check_types(names)
    return Fit((*check_kernel(names, identity), *types))


def check_kernel(names: Names, identity: TableIdentity) -> Iterator[Check]:
    """Whether the symbols are those of the kernel in memory."""
    banner = banner_at(names)
    if banner is not None:
        expected = printable(identity.banner) or BANNER_START.decode().strip()
        agrees = banner == expected if identity.banner else banner.startswith(expected)
        yield Check("the banner", expected, banner, _verdict(agrees), strong=bool(identity.banner))
    if identity.osreldate is not None:
        yield from _compare_int(names, "osreldate", identity.osreldate)
    if identity.ident:
        yield from _compare_text(names, "kern_ident", printable(identity.ident))
    yield from _compare_samples(names, identity)


def check_types(names: Names) -> Iterator[Check]:
    """Whether the types are those of the kernel in memory: by the offsets that it exports, and by symbols' sizes."""
    structs = names.structs
    for symbol, (type_name, member) in _OFFSETS.items():
        if structs.has(type_name, member):
            yield from _compare_int(names, symbol, structs.offset(type_name, member), "exported offsets")
    for symbol, type_name in _SIZES.items():
        found = names.symbols.get(symbol)
        if found and found.size and type_name in structs.types.user_types:
            size = structs.size(type_name)
            # thread0_st and its like have more behind the structure.
            agrees = found.size >= size
            what, expected = f"the size of {symbol}", f"at least {size}"
            yield Check(what, expected, str(found.size), _verdict(agrees), strong=False, group="sizes of symbols")


def banner_at(names: Names) -> str | None:
    """The first line of ``version[]`` in memory; None where it cannot be read."""
    address = names.value("version")
    if address is None:
        return None
    try:
        text = names.structs.string(address, MAX_BANNER)
    except AddressError:
        return None
    return printable(text.partition(b"\n")[0].decode("utf-8", "replace").strip())


def _compare_int(names: Names, symbol: str, expected: int, group: str = "") -> Iterator[Check]:
    address = names.value(symbol)
    if address is None:
        return
    try:
        found = names.structs.uint(address, 4)
    except AddressError:
        yield Check(symbol, str(expected), "", Verdict.UNKNOWN)
        return
    yield Check(symbol, str(expected), str(found), _verdict(found == expected), group=group)


def _compare_text(names: Names, symbol: str, expected: str) -> Iterator[Check]:
    address = names.value(symbol)
    if address is None:
        return
    try:
        found = printable(names.structs.string(address, MAX_BANNER).decode("utf-8", "replace"))
    except AddressError:
        yield Check(symbol, expected, "", Verdict.UNKNOWN)
        return
    yield Check(symbol, expected, found, _verdict(found == expected))


def _compare_samples(names: Names, identity: TableIdentity) -> Iterator[Check]:
    readable = equal = 0
    for address, data in identity.samples:
        expected = bytes.fromhex(data)
        try:
            found = names.structs.read(address, len(expected))
        except AddressError:
            continue
        readable += 1
        equal += found == expected
    if readable:
        agrees = equal >= _ENOUGH_SAMPLES * readable
        yield Check("read-only data", f"{readable} equal samples", f"{equal} equal", _verdict(agrees))


def _verdict(agrees: bool) -> Verdict:
    return Verdict.FITS if agrees else Verdict.DIFFERS


# Symbol files that may belong to a dump, told from a few words without loading them


def fingerprint(content: Mapping[str, Any]) -> bytes | None:
    """What must be where in the memory of a symbol file's kernel; None if it is no symbol file of a FreeBSD kernel.

    It serves our own files and those that other programs make of ``kernel.debug``.
    """
    try:
        symbols = content.get("symbols", {})
        if not all(name in symbols for name in ("version", "allproc", "dumptid")):
            return None
        identity = identity_of(content)
        structs = Structs(_nothing, types_of(content), identity.word_bits, identity.byteorder)
        numbers = {
            symbols[name]["address"]: structs.offset(*member)
            for name, member in _OFFSETS.items()
            if name in symbols and structs.has(*member)
        }
        if identity.osreldate is not None and "osreldate" in symbols:
            numbers[symbols["osreldate"]["address"]] = identity.osreldate
        words = {"banner": [symbols["version"]["address"], identity.banner], "numbers": sorted(numbers.items())}
        return json.dumps(words, sort_keys=True).encode()
    except (FormatError, KeyError, TypeError, AttributeError):
        # An error would make the framework read the file again in each run.
        return None


def matches(words: bytes, structs: Structs) -> bool:
    """Whether the memory that ``structs`` reads has what a `fingerprint` says; False for what is none."""
    try:
        content = json.loads(words)
        (address, banner), numbers = content["banner"], content["numbers"]
        found = structs.string(int(address), MAX_BANNER)
        expected = str(banner).encode() or BANNER_START
        return found.startswith(expected) and all(structs.uint(int(at), 4) == value for at, value in numbers)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, AddressError):
        return False


def _nothing(address: int, length: int) -> bytes:
    raise AddressError(address)
