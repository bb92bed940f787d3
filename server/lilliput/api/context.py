"""What every route is given: the services, the limits of this server, and the signal that it is to stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from lilliput.api.audience import Audience
from lilliput.api.services import Services


@dataclass(frozen=True, slots=True)
class Context:
    """One app's own parts; ``heartbeat_s`` is the longest silence of a stream.

    ``stop`` is set when the server begins to stop and streams that have no end of their own are to end, ``drained``
    when answers that are still being generated must end, too. ``request_timeout_s`` is for requests that set themselves
    no deadline.
    """

    services: Services
    stop: asyncio.Event
    drained: asyncio.Event
    heartbeat_s: float = 15.0
    request_timeout_s: float | None = None
    audience: Audience = field(default_factory=Audience)


async def _context(request: Request) -> Context:
    return cast("Context", request.app.state.context)


Given = Annotated[Context, Depends(_context)]


def request_id(request: Request) -> str:
    """The id under which this request is logged and answered."""
    return str(request.scope.get("lilliput.request_id", "unknown"))
