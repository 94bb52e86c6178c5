"""One live system, described once: the input of the memory writer and the truth of the tests."""

from __future__ import annotations
