"""The bare loop as something to measure: its child process, and its figures in the form of a server's answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.exchange import Answer, Ask, Round
from bench.workloads import BARE
from lilliput.llama import RUNGS

_SWITCH = {"on": True, "off": False}


class BareLoop:
    """A context of the same size over the same file; ``settings`` are those of ``bench.bare``."""

    name = BARE

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare", json.dumps(dict(settings))],
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def play(self, clients: list[list[Ask]]) -> Round:
        """Generate all first requests together; ``decode_s`` is what their tokens after the first took."""
        bodies = [asks[0].body for asks in clients]
        tokens = int(bodies[0]["max_tokens"])
        began = time.perf_counter()
        told = self.generate([body["prompt"] for body in bodies], tokens)
        ended = time.perf_counter() - began
        answers = [
            Answer(client, 0, 0.0, ended, completion_tokens=tokens, decode_s=told["decode_s"], finish_reason="length")
            for client in range(len(bodies))
        ]
        return Round(answers)

    def processes(self) -> list[psutil.Process]:
        """The child."""
        return [psutil.Process(self._process.pid)]

    def stop(self) -> None:
        """End its input, and so the child."""
        self._process.communicate()

    def generate(self, prompts: list[str], tokens: int) -> dict[str, float]:
        """Generate so many tokens after each prompt, all together; the seconds that ``bench.bare`` tells."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the bare loop ended")
        message: dict[str, float] = json.loads(line)
        return message


def settings_like(engine: Mapping[str, Any], path: Path, threads: int) -> dict[str, Any]:
    """The settings of ``bench.bare`` for the file at ``path`` that are those of an engine, as the daemon tells it.

    ``threads`` are the engine's where it tells none: those of its server. What else it does not tell is the default.
    """
    told = engine["settings"]
    threads = int(told.get("threads", threads))
    context = {
        "context_tokens": engine["context_tokens"],
        "max_sequences": engine["slots"],
        "threads": threads,
        "batch_threads": int(told.get("batch_threads", threads)),
        "flash_attention": _SWITCH.get(told.get("flash_attention", "auto")),
        "kv_type": told["kv_type"],
    }
    if "ubatch_tokens" in told:
        context["ubatch_tokens"] = int(told["ubatch_tokens"])
    model = {
        "path": str(path),
        "rung": RUNGS[-1] if told.get("repack") == "off" else told["backend"],
        "memory_map": told.get("memory_map") != "off",
        "memory_lock": told.get("memory_lock") == "on",
    }
    return {"model": model, "context": context}
