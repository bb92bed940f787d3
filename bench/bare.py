"""The ceiling: ``llama_decode`` and a sampler in the barest loop, over the same file, for one sequence or several
together. Run as a child; speaks JSON lines.
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
    """Load once, then for every line ``{"prompts", "tokens"}`` generate and print ``{"decode_s", "total_s"}``."""
    options = json.loads(sys.argv[1])
    start_library()
    with (
        Model(ModelSettings(**options["model"])) as model,
        Context(model, ContextSettings(**options["context"])) as context,
    ):
        _say({"ready": True})
        for line in sys.stdin:
            _say(_generate(model, context, **json.loads(line)))


def _generate(model: Model, context: Context, prompts: list[str], tokens: int) -> dict[str, float]:
    batch = Batch(512)
    with Sampler(model, SamplerSettings(temperature=0)) as sampler:
        began = time.perf_counter()
        last, lengths = [], []
        for sequence, prompt in enumerate(prompts):
            context.drop(sequence)
            prompt_tokens = model.tokenize(prompt, add_special=False, parse_special=True)
            batch.clear()
            index = batch.add(prompt_tokens, 0, sequence, output_last=True)
            context.decode(batch)
            last.append(sampler.sample(context, index))
            lengths.append(len(prompt_tokens))
        first = time.perf_counter()
        for step in range(tokens - 1):
            batch.clear()
            indices = [
                batch.add([token], length + step, sequence, output_last=True)
                for sequence, (token, length) in enumerate(zip(last, lengths, strict=True))
            ]
            context.decode(batch)
            last = [sampler.sample(context, index) for index in indices]
        ended = time.perf_counter()
        for sequence in range(len(prompts)):
            context.drop(sequence)
        return {"decode_s": ended - first, "total_s": ended - began}


def _say(message: dict[str, float] | dict[str, bool]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
