"""A daemon of canned answers on loopback, and the real command run against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "clients"

MODEL = {
    "name": "smollm2:135m",
    "source": "embedded",
    "quantization": "Q4_K_M",
    "architecture": "llama",
    "context_length": 2048,
    "parameter_count": 134_515_008,
    "license": "apache-2.0",
    "size_bytes": 105_454_432,
    "installed_at": 1.7e9,
    "files": [{"path": "/models/smollm2.gguf", "size_bytes": 105_454_432, "sha256": "ab" * 32}],
}


def not_found(name: str) -> tuple[int, Any]:
    return 404, {"error": {"code": "model-not-found", "message": f"no model {name}", "hint": "see: lilliput list"}}


def chat_chunk(text: str | None = None, finish: str | None = None) -> str:
    return json.dumps({"model": "smollm2:135m", "choices": [{"delta": {"content": text}, "finish_reason": finish}]})


CHAT = (
    chat_chunk("Hello "),
    chat_chunk("wörld"),
    chat_chunk(finish="stop"),
    json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}),
    "[DONE]",
)


def job(state: str = "running", **more: Any) -> dict[str, Any]:
    return {"id": "j1", "kind": "pull", "model": "m", "state": state, "updated_at": 1.7e9, **more}


Answer = tuple[int, Any] | Iterator[str] | tuple[str, ...]


class Paused:
    """Events of which the last comes only when ``release`` is called; ``reached`` tells that all before are sent."""

    def __init__(self, *before: str) -> None:
        self._before = before
        self._go = threading.Event()
        self.reached = threading.Event()

    def release(self) -> None:
        self._go.set()

    def __call__(self) -> Iterator[str]:
        yield from self._before
        self.reached.set()
        self._go.wait(60)


@dataclass
class Stub:
    """Answers by ``"METHOD /path"``: a status and a JSON body, or the data of events; requests are kept in ``seen``."""

    url: str
    routes: dict[str, Answer | Callable[[], Answer]] = field(default_factory=dict)
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, key: str) -> Answer:
        found = self.routes.get(key)
        if found is None:
            return 404, {"error": {"code": "not-found", "message": f"no route {key}", "hint": None}}
        return found() if callable(found) else found

    def bodies(self, key: str) -> list[Any]:
        """What was sent to a route."""
        return [body for seen, body in self.seen if seen == key]


@contextmanager
def running_stub() -> Iterator[Stub]:
    """A stub at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            key = f"{self.command} {unquote(urlsplit(self.path).path)}"
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            stub.seen.append((key, json.loads(content) if content else urlsplit(self.path).query))
            answer = stub.answer(key)
            if isinstance(answer, tuple) and isinstance(answer[0], int):
                self.reply(answer[0], json.dumps(answer[1]).encode())
            else:
                self.reply_events(iter(answer))

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the base class's names

        def reply(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def reply_events(self, events: Iterator[Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            try:
                for data in events:
                    self.wfile.write(f"data: {data}\n\n".encode())
                    self.wfile.flush()
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(url: str | None = None, path: Path | None = None, **more: str) -> dict[str, str]:
    """A command's environment: the clients' sources and, before them, ``path``; nothing of this machine's settings."""
    foreign = ("LILLIPUT_", "COV_", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept["PYTHONPATH"] = os.pathsep.join(str(part) for part in (path, CLIENTS) if part)
    if url is not None:
        kept["LILLIPUT_HOST"] = url
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1", **more}


def command(*arguments: str) -> list[str]:
    """The command line of ``lilliput ARGUMENTS``."""
    return [sys.executable, "-m", "lilliput_client.cli", *arguments]


def lilliput(
    *arguments: str, env: Mapping[str, str], stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``lilliput`` to its end; without ``stdin`` it gets an empty one."""
    return subprocess.run(
        command(*arguments),
        env=dict(env),
        input=stdin or "",
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        cwd=cwd,
    )
