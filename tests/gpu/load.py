"""Load a model, generate some tokens and say what that took. A child: ``python -m tests.gpu.load``.

Reads settings as JSON from standard input and prints one ``Load``.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from lilliput.llama import Buffers, ContextSettings, ModelSettings, SamplerSettings
from lilliput.llama.buffers import parse_buffers

PROMPT = "Once upon a time there was"
TOKENS = 3


class Asked(msgspec.Struct, frozen=True):
    """The model and the context of one load."""

    model: ModelSettings
    context: ContextSettings


class Load(msgspec.Struct, frozen=True):
    """Buffers as llama.cpp told them, the text, and the free bytes of Vulkan0 before, while and after it was loaded."""

    buffers: Buffers
    text: str
    free_bytes: tuple[int, int, int]


def load(model: ModelSettings, context: ContextSettings) -> Load:
    """Load in a child; its standard error goes to this process's."""
    asked = msgspec.json.encode(Asked(model, context))
    command = [sys.executable, "-m", "tests.gpu.load"]
    return msgspec.json.decode(
        subprocess.run(command, input=asked, stdout=subprocess.PIPE, check=True).stdout, type=Load
    )


def main() -> None:
    """Answer the settings on standard input."""
    from lilliput.llama.batch import Batch
    from lilliput.llama.context import Context
    from lilliput.llama.devices import list_devices
    from lilliput.llama.library import start_library
    from lilliput.llama.model import Model
    from lilliput.llama.sampler import Sampler

    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    lines: list[str] = []
    start_library().on_line = lines.append

    def free() -> int:
        return sum(device["free_bytes"] for device in list_devices())

    before = free()
    with Model(asked.model) as model, Context(model, asked.context) as context:
        made = free()
        text = b""
        batch = Batch(asked.context.batch_tokens)
        prompt = model.tokenize(PROMPT, add_special=True, parse_special=False)
        place = batch.add(prompt, 0, 0, output_last=True)
        with Sampler(model, SamplerSettings(temperature=0)) as sampler:
            for step in range(TOKENS):
                context.decode(batch)
                token = sampler.sample(context, place)
                text += model.piece(token)
                batch.clear()
                place = batch.add([token], len(prompt) + step, 0, output_last=True)
    answer = Load(parse_buffers(lines), text.decode(), (before, made, free()))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
