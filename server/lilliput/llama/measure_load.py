"""Load a file for real, use it, and say what that took. A child: ``python -m lilliput.llama.measure_load``.

Reads one ``LoadRequest`` as JSON from standard input and prints one ``Loaded``. A crash of the library ends it.
"""

from __future__ import annotations

import os
import sys

import msgspec

from lilliput.errors import EngineLoadFailed, InvalidRequest
from lilliput.llama.batch import Batch
from lilliput.llama.buffers import parse_buffers
from lilliput.llama.context import Context
from lilliput.llama.held_memory import held_memory
from lilliput.llama.library import start_library
from lilliput.llama.load_values import Loaded, LoadRequest
from lilliput.llama.model import Model


def main() -> None:
    """Answer the request on standard input."""
    # Without it ggml starts a debugger on itself when it aborts.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadRequest)
    sys.stdout.buffer.write(msgspec.json.encode(measure_load(request)) + b"\n")


def measure_load(request: LoadRequest) -> Loaded:
    """Load, use and free the model in this process."""
    lines: list[str] = []
    log = start_library()
    log.on_line = lines.append
    started = held_memory()
    try:
        with Model(request.model) as model:
            loaded = held_memory()
            with Context(model, request.context) as context:
                made = held_memory()
                _use(context, request)
                return Loaded(parse_buffers(lines), started, loaded, made, held_memory())
    except (EngineLoadFailed, InvalidRequest) as error:
        return Loaded(error=error.message)
    finally:
        log.on_line = None


def _use(context: Context, request: LoadRequest) -> None:
    """Touch what serving touches: a whole micro-batch, then every slot."""
    tokens = min(request.context.ubatch_tokens, context.context_tokens - request.slots * (request.steps + 1))
    batch = Batch(request.context.batch_tokens)
    batch.add([1] * tokens, 0, 0, output_last=True)
    context.decode(batch)
    for step in range(request.steps):
        batch.clear()
        for sequence in range(request.slots):
            batch.add([1], step + (tokens if sequence == 0 else 0), sequence, output_last=True)
        context.decode(batch)


if __name__ == "__main__":
    main()
