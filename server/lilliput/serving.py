"""The listening socket, and the uvicorn that serves on it."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from lilliput.errors import InvalidRequest


class Server(uvicorn.Server):
    """Uvicorn that tells when it is live and when it begins to shut down: it would wait for endless streams."""

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None], on_live: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown
        self._on_live = on_live

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's step before its main loop."""
        await super().startup(sockets)
        self._on_live()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's hold on signals. A SIGTERM that was obeyed is not raised again: it would end the process before
        its rooms are put away, and as a failure.
        """
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals = [number for number in self._captured_signals if number != signal.SIGTERM]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's step after its main loop."""
        self._on_shutdown()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; InvalidRequest where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InvalidRequest(
                f"port {port} of {host} is in use", hint="is a daemon running already? else choose another --port"
            ) from None
        raise InvalidRequest(
            f"cannot listen on {host} port {port}: {error.strerror or error}", hint="check --host"
        ) from None


def address(listener: socket.socket) -> str:
    """The base URL of a listening socket, as a person can type it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - they mean all addresses
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
