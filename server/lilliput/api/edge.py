"""The outermost layer: every request gets an id, every response carries it, and no failure goes unanswered."""

from __future__ import annotations

import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lilliput.api.errors import body_of, family_of, told
from lilliput.api.streams import SEND, json_response


class Edge:
    """Sets ``x-request-id``, and turns what no route has caught into a 500 in the route family's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(8)}"
        scope["lilliput.request_id"] = request_id
        scope[SEND] = send
        stamp = (b"x-request-id", request_id.encode())
        started = False

        async def stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), stamp]}
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        except Exception as error:  # nobody foresaw it: log it, answer if that is still possible
            fault = told(error, request_id)
            if started:
                raise
            body = body_of(fault, family_of(scope["path"]))
            await json_response(body, fault.status, fault.headers)(scope, receive, stamped)
