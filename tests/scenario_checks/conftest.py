"""Every check runs on every kernel. One at a time: pytest puts the tests of one kernel together."""

from __future__ import annotations

import pytest

from tests.scenario.kernels import KERNELS


@pytest.fixture(scope="session", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)
