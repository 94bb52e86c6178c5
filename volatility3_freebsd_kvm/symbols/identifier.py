"""Makes the framework's cache of symbol files know those of FreeBSD kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volatility3.framework.automagic import symbol_cache

from volatility3_freebsd_kvm._discovery import CATEGORY


class FreeBSDIdentifier(symbol_cache.IdentifierProcessor):
    """Tells a FreeBSD kernel's symbol file by what must be where in that kernel's memory."""

    operating_system = CATEGORY  # type: ignore[assignment]

    @classmethod
    def get_identifier(cls, json: Mapping[str, Any]) -> bytes | None:
        """The words that `image.fit.matches` compares with a dump; None for other systems' files."""
        from volatility3_freebsd_kvm.image import fit

        return fit.fingerprint(json)
