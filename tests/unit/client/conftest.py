"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.unit.client.driver import Driver
from tests.unit.client.stub import Stub, running_stub
from typer.testing import CliRunner, Result

from lilliput_client.cli import app

Call = Callable[..., Result]


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Driver:
    """Both clients, one after the other."""
    return Driver(asynchronous=request.param == "async")


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A daemon of canned answers."""
    with running_stub() as running:
        yield running


@pytest.fixture
def call(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``lilliput`` within this process, against the stub."""
    monkeypatch.setenv("LILLIPUT_HOST", stub.url)
    monkeypatch.delenv("LILLIPUT_PORT", raising=False)
    runner = CliRunner()

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return runner.invoke(app, list(arguments), input=stdin, catch_exceptions=False)

    return invoke
