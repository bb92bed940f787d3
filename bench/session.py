"""Starts everything that is measured, each server once, and ends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.support.daemon import DaemonProcess, free_port
from tests.support.model import smollm2_path

from bench.bare_loop import BareLoop, settings_like
from bench.generator import GeneratorProcess
from bench.peers import llama_server, python_server
from bench.targets import ChildServer, HttpTarget, Target, first_model
from bench.tuned import load_tuned
from bench.workloads import OURS, PEER, PYTHON
from lilliput.llama import Rung

MODEL = "smollm2:135m"
CONTEXT_TOKENS, SLOTS = 8192, 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be measured: which of ours and the peers, servers by ``(name, url)``, and the threads of each.

    ``server_arguments`` are more for ``lilliput serve``, ``peer_arguments`` for llama-server.
    """

    names: frozenset[str]
    urls: tuple[tuple[str, str], ...]
    threads: int
    server_arguments: tuple[str, ...] = ()
    peer_arguments: tuple[str, ...] = ()


class Session:
    """Owns the children. Each has a copy of the model's file of its own, so that no shared page hides its memory."""

    def __init__(self, wanted: Wanted, directory: Path, stack: ExitStack, tell: Callable[[str], None]) -> None:
        self._wanted = wanted
        self.directory = directory
        self._stack = stack
        self.tell = tell
        self._generator = stack.enter_context(GeneratorProcess())
        self._our_url = ""
        self._rung: Rung = "native"
        """What our engine found out that this CPU bears, by running the file."""

    def start(self) -> dict[str, Target]:
        """The targets by name, loaded."""
        found: dict[str, Target] = {}
        makers = {OURS: self._ours, PEER: self._llama_server, PYTHON: self._python_server}
        for name, make in makers.items():
            if name in self._wanted.names:
                found[name] = make()
                self.tell(f"{name} is ready")
        for name, url in self._wanted.urls:
            address, _, model = url.partition("#")
            served = model or first_model(address)
            if served is None:
                raise RuntimeError(f"{name} at {address} lists no model")
            found[name] = HttpTarget(name, address, served, self._generator, {"url": address})
        return found

    def engine(self) -> dict[str, Any]:
        """What our daemon tells about the engine: process, settings, context."""
        answer = httpx.get(f"{self._our_url}/lilliput/engines", timeout=30, trust_env=False).raise_for_status()
        found: dict[str, Any] = next(engine for engine in answer.json()["engines"] if engine["model"] == MODEL)
        return found

    def bare_loop(self) -> BareLoop:
        """The bare loop with the settings that our engine runs with now."""
        loop = BareLoop(settings_like(self.engine(), self._model_copy("bare"), self._wanted.threads))
        self._stack.callback(loop.stop)
        return loop

    def _ours(self) -> Target:
        arguments = ["--keep-alive-s", "-1", "--context-tokens", str(CONTEXT_TOKENS), "--slots", str(SLOTS)]
        arguments += ["--threads", str(self._wanted.threads), *self._wanted.server_arguments]
        daemon = self._stack.enter_context(DaemonProcess(self.directory / OURS, arguments=arguments))
        self._rung = load_tuned(daemon.url, MODEL, self.tell)["settings"]["backend"]
        self._our_url = daemon.url
        return HttpTarget(OURS, daemon.url, MODEL, self._generator, {"arguments": arguments}, daemon.pid)

    def _llama_server(self) -> Target:
        program = llama_server.ensure(self.tell, () if self._rung == "native" else llama_server.WITHOUT_AMX)
        port = free_port()
        model = self._model_copy(PEER)
        command = llama_server.command(program, model, port, CONTEXT_TOKENS, SLOTS, self._wanted.threads)
        return self._peer(PEER, [*command, *self._wanted.peer_arguments], port, {})

    def _python_server(self) -> Target:
        packages = python_server.ensure(self.tell)
        port = free_port()
        command = python_server.command(
            self._model_copy(PYTHON), port, CONTEXT_TOKENS, self._wanted.threads, self._rung
        )
        return self._peer(PYTHON, command, port, {"PYTHONPATH": str(packages)})

    def _peer(self, name: str, command: Sequence[str], port: int, environment: dict[str, str]) -> Target:
        url = f"http://127.0.0.1:{port}"
        server = ChildServer(command, url, self.directory / f"{name}.log", environment)
        self._stack.callback(server.stop)
        server.wait()
        model = first_model(url) or name
        return HttpTarget(name, url, model, self._generator, {"arguments": list(command[1:])}, server.pid)

    def _model_copy(self, name: str) -> Path:
        target = self.directory / f"{name}.gguf"
        if not target.exists():
            shutil.copyfile(smollm2_path(), target)
        return target
