"""The bare loop that forecasts of speed are judged by: a prompt, then single tokens, each decoded and drawn. Run as a
child with the options in its argument; for every line ``{"tokens": n}`` it prints one with the times.
"""

from __future__ import annotations

import json
import os
import sys
import time

from lilliput.llama import ContextSettings, ModelSettings, SamplerSettings
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context
from lilliput.llama.library import start_library
from lilliput.llama.model import Model
from lilliput.llama.sampler import Sampler

_CHUNK = 512


def main() -> None:
    """Load once, then answer line by line."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    options = json.loads(sys.argv[1])
    threads, depth = options["threads"], options["depth"]
    start_library()
    settings = ModelSettings(options["path"], gpu_layers=0, rung=options["rung"])
    limits = ContextSettings(depth + 256, 1, threads=threads)
    with (
        Model(settings) as model,
        Context(model, limits) as context,
        Sampler(model, SamplerSettings(temperature=0)) as sampler,
    ):
        batch = Batch(_CHUNK)
        _prompt(context, batch, depth, threads)
        _say({"ready": 1.0})
        for line in sys.stdin:
            order = json.loads(line)
            _say(_prompt(context, batch, depth, threads) if order["prompt"] else {})
            _say(_generate(context, batch, sampler, depth, order["tokens"], threads))
            context.truncate(0, depth)


def _prompt(context: Context, batch: Batch, depth: int, threads: int) -> dict[str, float]:
    context.drop(0)
    began, ran = time.perf_counter(), time.process_time()
    for start in range(0, depth, _CHUNK):
        count = min(_CHUNK, depth - start)
        batch.clear()
        batch.add([(7 * place) % 997 + 1 for place in range(start, start + count)], start, 0, output_last=True)
        context.decode(batch)
    return _times(began, ran, threads)


def _generate(
    context: Context, batch: Batch, sampler: Sampler, depth: int, tokens: int, threads: int
) -> dict[str, float]:
    token = 5
    began, ran = time.perf_counter(), time.process_time()
    for step in range(tokens):
        batch.clear()
        index = batch.add([token], depth + step, 0, output_last=True)
        context.decode(batch)
        token = sampler.sample(context, index)
    return _times(began, ran, threads)


def _times(began: float, ran: float, threads: int) -> dict[str, float]:
    """Seconds since then, and the part of the threads' time in which they ran."""
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "busy": (time.process_time() - ran) / (seconds * threads)}


def _say(message: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
