"""Settings of a model and a context as plain values, so that other processes can make them without the
library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lilliput.llama.rungs import Rung


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a file is loaded.

    ``gpu_layers`` -1 offloads every layer, 0 leaves accelerators alone; ``tensor_split`` shares them out between
    devices in proportion (empty: by their memory), ``device`` names the only one to use; the experts of the first
    ``cpu_expert_layers`` layers stay on the CPU. The process that loads it is held to ``rung`` from then on.
    ``memory_map`` reads weights through the page cache, without it they are copied into memory of the process;
    ``memory_lock`` asks the system never to swap them.
    """

    path: str
    gpu_layers: int = -1
    rung: Rung = "native"
    memory_map: bool = True
    memory_lock: bool = False
    tensor_split: tuple[float, ...] = ()
    cpu_expert_layers: int = 0
    device: str | None = None


RopeScaling = Literal["none", "linear", "yarn"]


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions are turned into rotations; what is None is as the file has it.

    ``scaling`` says how a context is stretched beyond what the model was trained for, ``freq_scale`` is one divided by
    how much (``none`` has no use for it), ``freq_base`` the base frequency. YaRN starts out from ``original_tokens`` of
    context.
    """

    scaling: RopeScaling | None = None
    freq_base: float | None = None
    freq_scale: float | None = None
    original_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """Size and shape of a context: ``context_tokens`` cells shared by at most ``max_sequences`` sequences.

    ``threads`` compute passes of one token, ``batch_threads`` all others: prompts, and several sequences together; 0
    are the library's for the former, as many as the former for the latter. ``flash_attention`` None lets the library
    decide. On CPUs it keeps the cost of cells that belong to other sequences low. ``kv_type`` is the type of keys and
    values in the cache; a quantized one needs flash attention.
    ``output_rows`` is how many tokens of one batch may ask for logits, at least ``max_sequences``; 0: all of them, for
    which the library then reserves room in its compute buffer (514 MiB for a vocabulary of 262,144). ``pooling`` makes
    a context for embeddings: the kind by name, or ``auto`` for the model's own (see ``pooled_context``). ``rope`` None
    is as the file has it.
    """

    context_tokens: int
    max_sequences: int
    batch_tokens: int = 512
    ubatch_tokens: int = 512
    threads: int = 0
    batch_threads: int = 0
    flash_attention: bool | None = None
    kv_type: str = "f16"
    output_rows: int = 0
    pooling: str | None = None
    rope: Rope | None = None


POOLED_SEQUENCES = 32
"""Inputs that one forward pass may embed."""

POOLED_CHUNK_TOKENS = 256
"""Tokens of a pass where attention is causal. The library makes the logits of each, which a large vocabulary makes
dear: 262,144 tokens take 256 MiB of scratch.
"""


def pooled_context(
    context_tokens: int, *, causal: bool, kv_type: str = "f16", threads: int = 0, pooling: str = "auto"
) -> ContextSettings:
    """The context that embeds inputs of up to ``context_tokens`` tokens.

    Where every token sees all others an input must go through in one piece; where attention is causal, in several.
    """
    batch = min(context_tokens, POOLED_CHUNK_TOKENS) if causal else context_tokens
    return ContextSettings(
        context_tokens=context_tokens,
        max_sequences=POOLED_SEQUENCES,
        batch_tokens=batch,
        ubatch_tokens=batch,
        threads=threads,
        kv_type=kv_type,
        pooling=pooling,
    )
