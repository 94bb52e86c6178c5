"""Capability rights of descriptors (capsicum(4)).

# Reference: sys/sys/capsicum.h, sys/sys/_capsicum.h, sys/sys/filedesc.h (struct filecaps)
"""

from __future__ import annotations

from .objects import Object

ALL, NONE = "all", "none"
INDEX_SHIFT = 57
"""Above it a word of rights says which one it is, and the first one how many there are."""
_BITS = (1 << INDEX_SHIFT) - 1
_FEWEST = (39, 21)
"""Rights in each word when every right was given, in 10, the first release with two words; later ones have more."""

_FIRST = (
    "READ",
    "WRITE",
    "SEEK_TELL",
    "SEEK",
    "MMAP",
    "MMAP_X",
    "CREATE",
    "FEXECVE",
    "FSYNC",
    "FTRUNCATE",
    "LOOKUP",
    "FCHDIR",
    "FCHFLAGS",
    "FCHMOD",
    "FCHOWN",
    "FCNTL",
    "FLOCK",
    "FPATHCONF",
    "FSCK",
    "FSTAT",
    "FSTATFS",
    "FUTIMES",
    "LINKAT_TARGET",
    "MKDIRAT",
    "MKFIFOAT",
    "MKNODAT",
    "RENAMEAT_SOURCE",
    "SYMLINKAT",
    "UNLINKAT",
    "ACCEPT",
    "BIND",
    "CONNECT",
    "GETPEERNAME",
    "GETSOCKNAME",
    "GETSOCKOPT",
    "LISTEN",
    "PEELOFF",
    "SETSOCKOPT",
    "SHUTDOWN",
    "BINDAT",
    "CONNECTAT",
    "LINKAT_SOURCE",
    "RENAMEAT_TARGET",
    "FCHROOT",
)
_SECOND = (
    "MAC_GET",
    "MAC_SET",
    "SEM_GETVALUE",
    "SEM_POST",
    "SEM_WAIT",
    "EVENT",
    "KQUEUE_EVENT",
    "IOCTL",
    "TTYHOOK",
    "PDGETPID",
    "PDWAIT",
    "PDKILL",
    "EXTATTR_DELETE",
    "EXTATTR_GET",
    "EXTATTR_LIST",
    "EXTATTR_SET",
    "ACL_CHECK",
    "ACL_DELETE",
    "ACL_GET",
    "ACL_SET",
    "KQUEUE_CHANGE",
    "INOTIFY_ADD",
    "INOTIFY_RM",
)
NAMES = (_FIRST, _SECOND)
"""CAP_ names by bit of the two words; the last ones came with 15.0."""


def rights_of(caps: Object) -> tuple[str, ...]:
    """The rights in a `struct filecaps`, as names with ``CAP_``; `ALL` if none was taken away.

    A word that does not say that it is that one is shown as a number.

    Raises:
        SymbolError: the types do not know the rights.
        AddressError: they cannot be read.
    """
    return rights_names([int(word) for word in caps.fc_rights.cr_rights])


def rights_names(words: list[int]) -> tuple[str, ...]:
    """The names of rights in the words of a `cap_rights_t`; `ALL` or `NONE` alone for these."""
    bits = [word & _BITS for word in words]
    if len(words) == len(NAMES) and all(map(_is_everything, bits, _FEWEST)):
        return (ALL,)
    found: list[str] = []
    for index, (word, names) in enumerate(zip(words, NAMES, strict=False)):
        if word >> INDEX_SHIFT & (1 << 5) - 1 != 1 << index:
            found.append(f"{word:#x}")
        else:
            found += _names(bits[index], names, index)
    return tuple(found) or (NONE,)


def _is_everything(bits: int, fewest: int) -> bool:
    """Whether all bits from the lowest to the highest are set, and there are so many."""
    return bits & bits + 1 == 0 and bits.bit_length() >= fewest


def _names(bits: int, names: tuple[str, ...], index: int) -> list[str]:
    found = []
    for bit in range(bits.bit_length()):
        if not bits >> bit & 1:
            continue
        name = names[bit] if bit < len(names) else f"{index}:{1 << bit:#x}"
        found.append(f"CAP_{name}")
    # The right to seek includes the one to tell where one is.
    return [name for name in found if name != "CAP_SEEK_TELL" or "CAP_SEEK" not in found]


def limits_of(caps: Object) -> tuple[str, ...]:
    """What a descriptor may do of ioctl(2), if that is limited though the right was given; raises as `rights_of`."""
    count = int(caps.fc_nioctls)
    return (f"limited to {count} ioctl commands",) if count > 0 else ()
