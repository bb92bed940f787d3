"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest
from tests.unit.client.driver import Driver


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Driver:
    """Both clients, one after the other."""
    return Driver(asynchronous=request.param == "async")
