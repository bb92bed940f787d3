"""What the daemon and an engine worker say to each other: length-prefixed msgpack frames.

daemon -> worker:  Start, then Submit and Cancel as they come, DropPrefixes where memory is short
worker -> daemon:  Progress*, then Ready or Refused, then one Step for every forward pass with the news of all
sequences

A worker has one role: it generates, or it answers Embed or Rank (instead of Submit) with Pooled (instead of Step).
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from lilliput.engine.counters import Counters
from lilliput.llama import Buffers, ContextSettings, ModelSettings, SamplerSettings

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 * 1024**2


Role = Literal["generate", "embed", "rank"]


class PrefixDisk(msgspec.Struct, frozen=True):
    """Where prefixes outlive the worker: ``limit_bytes`` of files in ``folder``, for this build and these model files
    only.
    """

    folder: str
    limit_bytes: int
    build: str
    model_files: tuple[str, ...]


class Draft(msgspec.Struct, frozen=True):
    """A second model of the same vocabulary, which says ahead what the first one is likely to say."""

    model: ModelSettings
    context: ContextSettings


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Load this model. ``warm_tokens`` tokens go through it before it counts as ready.

    ``gap_s`` is how long a prompt may keep running streams waiting for their next token; ``store_bytes`` bounds what
    is kept of prefixes that leave the KV cache, ``disk`` is where they survive the worker. ``draft`` is loaded beside
    it.
    """

    model: ModelSettings
    context: ContextSettings
    slots: int
    warm_tokens: int
    gap_s: float = 0.1
    store_bytes: int = 0
    role: Role = "generate"
    disk: PrefixDisk | None = None
    draft: Draft | None = None


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Continue ``prompt``: text, or token ids. ``schema``: JSON Schema text the answer must follow, ``""`` for any
    object; ``grammar`` is GBNF in its place. ``text_bias`` are biases of tokens named by their text. Before
    ``min_tokens`` neither the model nor a stop string ends the answer. One that is not ``urgent`` lets others go first
    for a while; after ``deadline_s`` seconds, of which ``waited_s`` have gone by, it fails. ``speculation`` allows
    drafts where they pay. With ``keep_tokens`` (-1: the whole prompt) a full context ends nothing: so many tokens of
    the prompt stay, half of the others are discarded, and it goes on; the same is done to a prompt that is too long.
    Those of one ``caller`` take turns with those of others.
    """

    id: int
    prompt: str | list[int]
    sampler: SamplerSettings
    add_special: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    schema: str | None = None
    urgent: bool = True
    deadline_s: float | None = None
    grammar: str | None = None
    min_tokens: int = 0
    text_bias: tuple[tuple[str, float], ...] = ()
    speculation: bool = True
    waited_s: float = 0.0
    keep_tokens: int | None = None
    caller: str = ""


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """One vector for each input: text, or token ids that are taken as they are. ``dimensions`` 0: the model's own."""

    id: int
    inputs: list[str | list[int]]
    dimensions: int = 0
    caller: str = ""


class Rank(msgspec.Struct, frozen=True, tag="rank"):
    """How relevant each document is to the query."""

    id: int
    query: str
    documents: list[str]
    caller: str = ""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Forget a request; nothing more is said of it."""

    id: int


class DropPrefixes(msgspec.Struct, frozen=True, tag="drop"):
    """Memory is short: forget prefixes that nobody uses now, and give back to the system what is free."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Are you there? Answered at once, whatever is being computed."""


class Pong(msgspec.Struct, frozen=True, tag="pong", array_like=True):
    """The worker is there."""


class Progress(msgspec.Struct, frozen=True, tag="progress", array_like=True):
    """``fraction`` of the file is loaded."""

    fraction: float


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """The model is loaded and has run once; ``buffers`` are what the library says it has taken."""

    context_tokens: int
    trained_context_tokens: int
    vocab_size: int
    adds_bos: bool
    bos_text: str
    eos_text: str
    chat_template: str | None
    system_info: str
    load_s: float
    buffers: Buffers


class Refused(msgspec.Struct, frozen=True, tag="refused", array_like=True):
    """The model cannot be loaded; the worker ends after this."""

    message: str
    hint: str | None
    log_tail: list[str]


class Accepted(msgspec.Struct, frozen=True, tag="a", array_like=True, gc=False):
    """The prompt was read and fits: what goes wrong from here on is no fault of the request.

    It is number ``position`` of those that wait for a slot; 0: one is free.
    """

    id: int
    prompt_tokens: int
    position: int = 0


class TokenReport(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A chosen token and the likeliest ones, with natural-log probabilities of the raw distribution."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


class Text(msgspec.Struct, frozen=True, tag="t", array_like=True, gc=False):
    """More text of a request."""

    id: int
    text: str
    reports: tuple[TokenReport, ...] = ()


class Done(msgspec.Struct, frozen=True, tag="d", array_like=True):
    """A request has ended: ``reason`` is ``stop`` or ``length``. Times in seconds.

    ``drafted`` tokens were computed ahead, of which ``accepted`` became part of the answer. It waited ``queued_s``
    before it was let in. ``discarded`` tokens of prompt and answer were given up because the context was full.
    """

    id: int
    reason: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prefill_s: float
    decode_s: float
    drafted: int = 0
    accepted: int = 0
    queued_s: float = 0.0
    discarded: int = 0


class Failed(msgspec.Struct, frozen=True, tag="f", array_like=True):
    """A request has failed with one of the codes of ``lilliput.errors``; the counts belong to ``context-exceeded``."""

    id: int
    code: str
    message: str
    hint: str | None = None
    prompt_tokens: int = 0
    context_tokens: int = 0
    param: str | None = None


class Embedded(msgspec.Struct, frozen=True, tag="e", array_like=True):
    """Vectors of the next inputs of a request, as little-endian float32 one after the other, and the inputs' tokens.

    ``last``: the request has ended.
    """

    id: int
    vectors: bytes
    token_counts: list[int]
    last: bool


Event = Accepted | Text | Done | Failed


class Step(msgspec.Struct, frozen=True, tag="s", array_like=True):
    """News of all sequences since the last, and how busy the engine is now; drafts as in ``Done``, since the last.

    ``cells`` of the KV cache are in use, idle prefixes included; ``counters`` are totals since the load.
    """

    events: list[Event]
    active: int
    waiting: int
    cached_tokens: int
    drafted: int = 0
    accepted: int = 0
    cells: int = 0
    counters: Counters | None = None


class Pooled(msgspec.Struct, frozen=True, tag="pooled", array_like=True):
    """News of an engine that embeds or ranks; ``active`` and ``waiting`` are inputs."""

    events: list[Embedded | Failed]
    active: int
    waiting: int


ToWorker = Start | Submit | Embed | Rank | Cancel | DropPrefixes | Ping
FromWorker = Progress | Ready | Refused | Step | Pooled | Pong

_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: ToWorker | FromWorker) -> bytes:
    """One message as a frame: a little-endian 32-bit length, then msgpack."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames and decodes them to ``kind``. Raises ValueError on an impossible length."""

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[object]:
        """Messages completed by ``data``, which may be overwritten afterwards."""
        kept = self._buffer
        if kept:
            kept += data
        view = memoryview(kept) if kept else memoryview(data)
        messages: list[object] = []
        decode, unpack = self._decoder.decode, _LENGTH.unpack_from
        start, end = 0, len(view)
        with view:
            while end - start >= 4:
                (size,) = unpack(view, start)
                if size > MAX_FRAME_BYTES:
                    raise ValueError(f"a frame of {size} bytes is impossible")
                if end - start - 4 < size:
                    break
                start += 4 + size
                messages.append(decode(view[start - size : start]))
            rest = b"" if kept else bytes(view[start:])
        if kept:
            del kept[:start]
        else:
            kept += rest
        return messages
