"""The HTTP application: all dialects behind one door."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass

from fastapi import FastAPI

from lilliput.api import documents, handlers, native, ollama, openai
from lilliput.api.context import Context
from lilliput.api.edge import Edge
from lilliput.api.guard import Guard
from lilliput.api.services import Services

_DESCRIPTION = """A local model-serving daemon that knows what fits before it downloads, chooses well and says why.

`/v1` speaks OpenAI's dialect, `/api` Ollama's, `/lilliput` its own; errors come in the shape that the clients of each
read. Every response carries an `x-request-id`."""

_ROUTERS = (
    openai.router,
    openai.embedding_router,
    ollama.router,
    native.jobs,
    native.models,
    native.plans,
    native.machine,
    native.doctor,
    native.tunings,
    native.upkeep,
    native.health,
    native.metrics,
)
"""Their routes are taken as they are: an included router would build them again, within the first request."""


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """How the API keeps its door; ``hosts`` and ``origins`` add to loopback, ``*`` among ``hosts`` admits any name."""

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    most_body_bytes: int = 32 * 1024 * 1024
    heartbeat_s: float = 15.0
    request_timeout_s: float | None = None


def create_app(
    services: Services,
    *,
    stop: asyncio.Event | None = None,
    drained: asyncio.Event | None = None,
    options: ApiOptions = ApiOptions(),
) -> FastAPI:
    """The application over ``services``.

    Once ``stop`` is set, streams without an end of their own end, and once ``drained`` is set (``stop`` if not given),
    answers that are still being generated do: a shutdown waits for both.
    """
    stop = stop or asyncio.Event()
    app = FastAPI(
        title="lilliput",
        version=services.version,
        description=_DESCRIPTION,
        redirect_slashes=False,
        routes=[route for router in _ROUTERS for route in router.routes],
    )
    app.state.context = Context(services, stop, drained or stop, options.heartbeat_s, options.request_timeout_s)
    handlers.install(app)
    app.add_middleware(Guard, hosts=options.hosts, origins=options.origins, most_body_bytes=options.most_body_bytes)
    app.add_middleware(Edge)
    documents.install(app)
    return app


def warm_up() -> None:
    """Compile what FastAPI reads the source of an endpoint with when it is first called: 10 ms of the event loop."""
    inspect.getsource(warm_up)
