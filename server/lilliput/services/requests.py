"""What a dialect asks of generation, and the one event stream that answers all dialects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; ``None`` leaves the choice to the server's defaults.

    The fields mean what those of ``lilliput.llama.SamplerSettings`` do. ``logit_bias`` names tokens by id or by their
    text; windows (``…_last_n``) of -1 are the whole context.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int | str, float] = field(default_factory=dict)
    samplers: tuple[str, ...] | None = None
    min_keep: int | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    adaptive_decay: float | None = None


@dataclass(frozen=True, slots=True)
class JsonConstraint:
    """The answer must be JSON: any object when ``schema`` is None, else a value of that JSON Schema."""

    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GrammarConstraint:
    """The answer must follow this grammar in GBNF, whose start rule is ``root``."""

    gbnf: str


Constraint = JsonConstraint | GrammarConstraint


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends, and what is told about its tokens."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    """None: no logprobs; 0: of the chosen token only; k: and of the k likeliest."""
    min_tokens: int = 0
    """Before so many tokens neither the model nor a stop string ends the answer."""
    urgent: bool = True
    """False lets others go first for a while."""
    deadline_s: float | None = None
    """Seconds after which it fails if it is not done."""
    keep_alive_s: float | None = None
    """How long the engine stays when nobody uses it, from now on; negative: for ever, None: as before."""
    caller: str = ""
    """Who asks: callers take turns where requests wait."""
    keep_tokens: int | None = None
    """When the context is full, so many tokens of the prompt (-1: all) stay, half of the others are discarded and the
    answer goes on; None: it ends, and a prompt that is too long is refused."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat: ``messages`` as plain dicts in OpenAI's form (content already flattened to text by the dialect or left
    as parts).
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    n: int = 1
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    constraint: Constraint | None = None
    speculation: bool | None = None
    """Whether tokens may be drafted where it pays; None leaves it to the server's default."""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Raw completion of each prompt (text, or token ids), ``n`` answers a prompt; choice index = prompt index * n +
    k.
    """

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    n: int = 1
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    constraint: Constraint | None = None
    speculation: bool | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probability of one token under the model's raw distribution; ``raw`` is the token's exact bytes."""

    token: str
    raw: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """More text of choice ``index``; stop strings and incomplete UTF-8 never appear in it."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    """Choice ``index`` has ended: ``stop`` (end of text or a stop string) or ``length``.

    ``discarded_tokens`` of prompt and answer were given up on the way, because the context was full.
    """

    index: int
    reason: Literal["stop", "length"]
    completion_tokens: int
    discarded_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a whole request; a prompt is counted once however many choices it has. Times in seconds.

    ``drafted_tokens`` were computed ahead; ``accepted_tokens`` of them are part of the answers. ``discarded_tokens``
    are those of all choices.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    load_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    discarded_tokens: int = 0


GenerationEvent = TextDelta | ChoiceFinished | Usage


class Generation(Protocol):
    """A running request. Its prompt has been accepted, so errors from here on belong in-band.

    Iterating yields ``TextDelta`` and ``ChoiceFinished`` of all choices interleaved, then exactly one ``Usage``; it
    may raise ``EngineDied`` and other ``LilliputError``. ``aclose()`` frees the sequences at once and may be called
    at any time, twice too.
    """

    @property
    def model(self) -> str:
        """The canonical name of the installed model that answers."""
        ...

    @property
    def quantization(self) -> str | None:
        """The quantization of that model's weights."""
        ...

    @property
    def degraded(self) -> Sequence[str]:
        """What its engine had to give up because memory was short."""
        ...

    @property
    def queue_position(self) -> int:
        """Which number it was among those that waited for a slot when it was accepted; 0: it had one at once."""
        ...

    def __aiter__(self) -> AsyncIterator[GenerationEvent]: ...

    async def aclose(self) -> None:
        """Cancel what still runs."""
        ...
