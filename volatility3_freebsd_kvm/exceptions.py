"""Errors of this package.

Each message is one sentence for the analyst: what was found, what was expected and, where there is something to do,
what.
"""

from __future__ import annotations


class KVMError(Exception):
    """Base class of every error that this package raises on purpose."""


class FormatError(KVMError, ValueError):
    """The file is not a dump that can be read: unknown, malformed or contradictory."""


class NotADumpError(FormatError):
    """The file does not claim to be any kind of FreeBSD dump."""


class MissingPieceError(FormatError):
    """The dump is there, but something is missing to read it: a key, a library, or room for its copy."""


class TextDumpError(FormatError):
    """The dump is a text dump, which holds no memory."""


class SymbolError(KVMError, LookupError):
    """A kernel symbol that is needed for the job is missing or has an impossible value."""


class AddressError(KVMError, LookupError):
    """The bytes at an address cannot be had.

    Attributes:
        address: the first address that failed, as the caller gave it (virtual for virtual reads).
        detail: why, if there is more to say than the class does.
    """

    kind = "cannot be read"

    def __init__(self, address: int, detail: str = "") -> None:
        """Remember the address; the sentence is built only when somebody looks."""
        super().__init__(address, detail)
        self.address = address
        self.detail = detail

    def __str__(self) -> str:
        """One sentence, e.g. ``address 0x1000 is not mapped``."""
        text = f"address {self.address:#x} {self.kind}"
        return f"{text} ({self.detail})" if self.detail else text


class NotMappedError(AddressError):
    """There is no translation for this virtual address."""

    kind = "is not mapped"


class NotDumpedError(AddressError):
    """The address is translated, but the dump does not hold that physical page."""

    kind = "is not dumped"


class BeyondEndError(AddressError):
    """The dump promises the page, but the file ends before it (truncated)."""

    kind = "is beyond the end of the file"
