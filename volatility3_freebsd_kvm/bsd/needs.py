"""What a walk needs of a kernel's types, and what to say when they lack it."""

from __future__ import annotations

from collections.abc import Sequence

from .kernel import Kernel
from .records import Problem

ADVICE = "a kernel file with type information (--freebsd-kernel) would tell them"


def unmet(kernel: Kernel, where: str, members: Sequence[str | tuple[str, ...]]) -> Problem | None:
    """A problem that names every missing member; None if the types have all that a walk cannot do without.

    Args:
        kernel: the kernel.
        where: what is to be walked.
        members: ``proc.p_fd``, or several of which one is enough.
    """
    missing = []
    for member in members:
        choices = (member,) if isinstance(member, str) else member
        if not any(kernel.has_member(*choice.split(".", 1)) for choice in choices):
            missing.append(" or ".join(choices))
    if not missing:
        return None
    return Problem(where, f"the types of this kernel lack {', '.join(missing)}; {ADVICE}")
