"""The safe settings of this machine, found as the daemon finds them."""

from __future__ import annotations

from pathlib import Path

from tests.support.model import smollm2_path

from lilliput.engine import PROVING_TOKENS, Engine, Start, climb_down
from lilliput.errors import EngineDied
from lilliput.hardware import read_cpu
from lilliput.llama import ContextSettings, ModelSettings, Rung, rungs_of


class _NothingKept:
    def get_fact(self, key: str) -> str | None:
        del key
        return None

    def set_fact(self, key: str, value: str) -> None:
        del key, value


def rungs_here() -> tuple[Rung, ...]:
    """The rungs that this machine has."""
    return rungs_of(read_cpu().simd)


async def find_safe_rung(path: Path | None = None) -> Rung:
    """The fastest rung on which an engine with this file (default: the embedded model) does not crash."""
    context = ContextSettings(256, 1, threads=read_cpu().compute_threads)

    async def attempt(rung: Rung, _proven: bool) -> None:
        settings = ModelSettings(str(path or smollm2_path()), gpu_layers=0, rung=rung)
        engine = Engine(Start(settings, context, 1, PROVING_TOKENS))
        await engine.start()
        await engine.aclose()

    def on_crash(_rung: Rung, _error: EngineDied) -> None:
        return None

    _, rung = await climb_down(attempt, "", _NothingKept(), on_crash, rungs_here())
    return rung
