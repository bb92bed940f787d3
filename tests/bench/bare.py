"""The ceiling: ``llama_decode`` and a sampler in the barest loop, over the same file. Run as a child; speaks JSON
lines.
"""

from __future__ import annotations

import json
import sys
import time

from lilliput.llama import ContextSettings, ModelSettings, SamplerSettings
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context
from lilliput.llama.library import start_library
from lilliput.llama.model import Model
from lilliput.llama.sampler import Sampler


def main() -> None:
    """Load once, then for every line ``{"prompt", "tokens"}`` generate and print ``{"decode_s", "prefill_s"}``."""
    options = json.loads(sys.argv[1])
    start_library()
    settings = ModelSettings(options["path"], extra_buffers=options["extra_buffers"])
    context_settings = ContextSettings(options["context_tokens"], 1, threads=options["threads"])
    with Model(settings) as model, Context(model, context_settings) as context:
        _say({"ready": True})
        for line in sys.stdin:
            _say(_generate(model, context, **json.loads(line)))


def _generate(model: Model, context: Context, prompt: str, tokens: int) -> dict[str, float]:
    context.drop(0)
    batch = Batch(512)
    prompt_tokens = model.tokenize(prompt, add_special=False, parse_special=True)
    with Sampler(model, SamplerSettings(temperature=0)) as sampler:
        began = time.perf_counter()
        index = batch.add(prompt_tokens, 0, 0, output_last=True)
        context.decode(batch)
        token = sampler.sample(context, index)
        first = time.perf_counter()
        for position in range(len(prompt_tokens), len(prompt_tokens) + tokens - 1):
            batch.clear()
            index = batch.add([token], position, 0, output_last=True)
            context.decode(batch)
            token = sampler.sample(context, index)
        return {"decode_s": time.perf_counter() - first, "prefill_s": first - began}


def _say(message: dict[str, float] | dict[str, bool]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
