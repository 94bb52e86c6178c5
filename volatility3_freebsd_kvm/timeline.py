"""What plugins with times are for the framework's timeliner, under the name that it has at run time.

The file is in ``volatility3/framework/plugins``, and only the search path of ``volatility3.plugins`` leads to it there:
imported by its place it would be another module, whose classes the timeliner does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volatility3.framework.plugins.timeliner import TimeLinerInterface, TimeLinerType
else:
    from volatility3.plugins.timeliner import TimeLinerInterface, TimeLinerType

__all__ = ["TimeLinerInterface", "TimeLinerType"]
