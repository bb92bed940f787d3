"""The real application over stand-ins: in-process for single answers, behind a real server where the wire matters."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from openai import OpenAI
from tests.api.fakes import Fakes

from lilliput.api import ApiOptions, create_app


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
async def http(fakes: Fakes) -> AsyncIterator[httpx.AsyncClient]:
    """A client that talks to the application without a network."""
    transport = httpx.ASGITransport(create_app(fakes.services()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1726") as client:
        yield client


@dataclass
class Live:
    """A server on a loopback port, in a thread of its own."""

    url: str
    stop: Callable[[], None]
    """Sets the application's stop event."""

    def wait_until(self, condition: Callable[[], bool], within_s: float) -> float:
        """Seconds until ``condition`` held; fails when it does not hold ``within_s``."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < within_s, f"did not happen within {within_s} s"
            time.sleep(0.002)
        return time.monotonic() - started


@pytest.fixture
def live(fakes: Fakes) -> Iterator[Live]:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    app = create_app(fakes.services(), stop=stop, options=ApiOptions(heartbeat_s=0.05))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve([listener]),))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def set_stop() -> None:
        loop.call_soon_threadsafe(stop.set)

    try:
        yield Live(url, set_stop)
    finally:
        set_stop()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
        listener.close()


@pytest.fixture
def openai(live: Live) -> Iterator[OpenAI]:
    """The official client, which checks every answer against its types."""
    with OpenAI(base_url=f"{live.url}/v1", api_key="x", max_retries=0, _strict_response_validation=True) as client:
        yield client
