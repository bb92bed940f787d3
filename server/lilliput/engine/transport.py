"""How a worker process is reached: a socketpair where descriptors are inherited, else a loopback connection with a
secret.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from dataclasses import dataclass

SECRET_BYTES = 32
CONNECT_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Endpoint:
    """The daemon's half before the worker exists.

    ``argument`` tells the worker where to connect; ``inherited`` are descriptors it must be given; ``greeting`` are
    bytes for its standard input.
    """

    argument: str
    inherited: tuple[int, ...]
    greeting: bytes
    _local: socket.socket
    _remote: socket.socket | None

    def accept(self) -> socket.socket:
        """The connected socket, once the worker was started; blocks at most CONNECT_TIMEOUT_S.

        Raises TimeoutError when no worker with the right secret comes.
        """
        if self._remote is not None:
            self._remote.close()
            return self._local
        self._local.settimeout(CONNECT_TIMEOUT_S)
        with self._local:
            while True:
                connection, _ = self._local.accept()
                connection.settimeout(CONNECT_TIMEOUT_S)
                if hmac.compare_digest(_receive_exactly(connection, SECRET_BYTES), self.greeting):
                    connection.settimeout(None)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return connection
                connection.close()

    def close(self) -> None:
        """Give up before the worker connected."""
        self._local.close()
        if self._remote is not None:
            self._remote.close()


def open_endpoint(*, inherit: bool = os.name == "posix") -> Endpoint:
    """A fresh endpoint; ``inherit`` False takes the loopback way, which works on every system."""
    if inherit:
        ours, theirs = socket.socketpair()
        return Endpoint(f"fd:{theirs.fileno()}", (theirs.fileno(),), b"", ours, theirs)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    return Endpoint(f"port:{port}", (), secrets.token_bytes(SECRET_BYTES), listener, None)


def connect(argument: str, greeting: bytes) -> socket.socket:
    """The worker's half: connect to what ``Endpoint.argument`` says."""
    kind, _, number = argument.partition(":")
    if kind == "fd":
        return socket.socket(fileno=int(number))
    connection = socket.create_connection(("127.0.0.1", int(number)), CONNECT_TIMEOUT_S)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(greeting)
    return connection


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            break
        data += chunk
    return data
