"""Serve both origins on free loopback ports; print one JSON line with the ports once ready."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from tests.support.hub.app import HubApp
from tests.support.hub.config import load


class _Server(uvicorn.Server):
    """A server that leaves signals alone: the process ends at once instead."""

    def install_signal_handlers(self) -> None:
        """Do nothing."""


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


async def _serve(config: Path) -> None:
    app = HubApp(load(config))
    sockets = {"hub": _listen(), "cdn": _listen()}
    ports = {name: listener.getsockname()[1] for name, listener in sockets.items()}
    app.cdn_url = f"http://127.0.0.1:{ports['cdn']}"
    servers = [
        _Server(uvicorn.Config(asgi, log_level="critical", access_log=False, lifespan="off"))
        for asgi in (app.hub(), app.cdn())
    ]
    running = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, sockets.values(), strict=True)
    ]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # bodies may be stalled on purpose: do not wait for them
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await asyncio.gather(*running)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Parse the command line and serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.hub", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="JSON: {repositories: {id: {files, private, gated}}}"
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the parent goes away")
    arguments = parser.parse_args()
    if arguments.until_stdin_closes:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_serve(arguments.config))


if __name__ == "__main__":
    main()
